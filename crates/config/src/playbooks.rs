//! Playbooks in a file of their own, or in a pipeline file, and what keeps them from doing what they are for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use suture_remediate::{Options, Playbook};

use crate::{
    environment::{Environment, substitute},
    problem::{Problems, Report},
    schema, secret, shape,
    tree::{Node, Value},
    yaml,
};

/// What a file of playbooks looks like: the `remediate` section of a pipeline file, with or without the rest.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Section {
    /// What may be done about incidents.
    remediate: Options,
}

/// What came of looking a file's playbooks through.
#[derive(Debug)]
pub struct Linted {
    /// The playbooks, where they can be read.
    pub playbooks: Vec<Playbook>,
    /// Errors where they can't be, and a warning for each thing that keeps one from doing what it is for.
    pub problems: Problems,
}

/// Looks the playbooks of a file through: their safety cases, whatever rung they ask for, and whether their verbs and reversals
/// give what they ask. `text` is a pipeline file, or its `remediate` section alone.
#[must_use]
pub fn lint(file_name: &str, text: &str, env: Environment<'_>) -> Linted {
    let mut report = Report::new(file_name, text);
    let playbooks = read(text, env, &mut report).unwrap_or_default();
    Linted {
        playbooks,
        problems: report.finish(),
    }
}

fn read(text: &str, env: Environment<'_>, report: &mut Report) -> Option<Vec<Playbook>> {
    let Some(mut root) = yaml::read(text, report) else {
        report.hide(secret::lines(text));
        return None;
    };
    report.hide(secret::values(&root));
    substitute(&mut root, text, env, report);
    let ours: Vec<_> = root
        .entries()
        .iter()
        .filter(|e| e.key == "remediate")
        .cloned()
        .collect();
    if ours.is_empty() {
        let help = "write `remediate:`, and under it `playbooks:`, as in a pipeline file";
        report.error("missing_key", root.span, "", "the file has no `remediate`", help);
        return None;
    }
    let root = Node {
        span: root.span.clone(),
        value: Value::Map(ours),
    };
    let json = root.to_json(&|_| false);
    let schema = schema::of::<Section>();
    let doubtful = shape::check(&root, &json, &schema, text, report);
    if !doubtful.is_ok_and(|doubtful| doubtful.is_empty()) {
        return None;
    }
    let section: Section = match serde_path_to_error::deserialize(&json) {
        Ok(section) => section,
        Err(error) => {
            let path = error.path().to_string();
            let span = root.locate(&path).span();
            let help = "write what the schema of the file asks for there";
            report.error("value", span, path, error.into_inner().to_string(), help);
            return None;
        }
    };
    for problem in section.remediate.validate() {
        let path = format!("remediate.{}", problem.path);
        let message = format!("`{path}`: {}", problem.message);
        report.error("remediate", root.locate(&path).span(), path, message, problem.help);
    }
    let playbooks = &section.remediate.playbooks;
    for problem in section.remediate.lint() {
        let path = format!("remediate.{}", problem.path);
        let named = playbooks.iter().enumerate().find_map(|(index, playbook)| {
            let rest = problem.path.strip_prefix(&format!("playbooks[{index}]."))?;
            Some(format!("{:?}: `{rest}` {}", playbook.name, problem.message))
        });
        let message = named.unwrap_or(problem.message);
        report.warning("playbook", root.locate(&path).span(), path, message, problem.help);
    }
    Some(section.remediate.playbooks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<(usize, String)> {
        let linted = lint("p.yaml", text, &|_| None);
        linted.problems.iter().map(|p| (p.line, p.message.clone())).collect()
    }

    const GOOD: &str = "\
remediate:
  playbooks:
    - name: p
      owner: shop
      action: {action: flush_cache}
      safety:
        trigger: stale answers
        false_positives: [none known]
        blast_radius: one service
        budget: {actions: 1, per: 1h}
        telemetry: [cache_hit_ratio]
";

    #[test]
    fn a_complete_playbook_is_read_from_its_section_alone_and_from_a_pipeline() {
        assert_eq!(told(GOOD), []);
        assert_eq!(lint("p.yaml", GOOD, &|_| None).playbooks.len(), 1);
        assert_eq!(told(&format!("name: shop\ntelemetry: [{{topic: t}}]\n{GOOD}")), []);
    }

    #[test]
    fn what_is_missing_or_holds_a_place_is_told_where_it_stands() {
        let text = GOOD.replace("stale answers", "TODO").replace("      owner: shop\n", "");
        assert_eq!(
            told(&text),
            [
                (3, "\"p\": `owner` is missing: it can only advise".to_owned()),
                (
                    6,
                    "\"p\": `safety.trigger` is a placeholder: it can only advise".to_owned()
                ),
            ]
        );
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        for (text, says) in [
            ("name: shop\n", "the file has no `remediate`"),
            ("remediate: {playbooks: [{name: p}]}\n", "has no `action`"),
            ("remediate: {playbooks: [{nme: p, action: {action: restart}}]}\n", "nme"),
        ] {
            let linted = lint("p.yaml", text, &|_| None);
            assert!(linted.problems.has_errors(), "{text}");
            assert!(
                linted.problems.iter().any(|p| p.message.contains(says)),
                "{text}: {:?}",
                linted.problems
            );
        }
    }

    /// The stock playbooks, by file.
    fn stock() -> Vec<(String, Linted)> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../pipelines/playbooks");
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        let linted = |path: &std::path::PathBuf| {
            let text = std::fs::read_to_string(path).unwrap();
            let name = path.display().to_string();
            let linted = lint(&name, &text, &|_| None);
            (name, linted)
        };
        files.iter().map(linted).collect()
    }

    #[test]
    fn every_stock_playbook_has_a_complete_case_and_a_reversal_that_undoes_it() {
        use suture_event::{Reversibility, Rung, Verb};
        let mut names = std::collections::BTreeSet::new();
        let mut classes = std::collections::BTreeSet::new();
        for (file, linted) in stock() {
            assert!(linted.problems.is_empty(), "{file}: {:#?}", linted.problems);
            assert!(!linted.playbooks.is_empty(), "{file}");
            for playbook in linted.playbooks {
                let verb = Verb::of(&playbook.action.action).unwrap();
                let name = playbook.name.clone();
                assert!(names.insert(name.clone()), "{name} twice");
                let undone = playbook.undo().is_some() || verb.leaves_nothing;
                assert!(
                    undone || verb.class != Reversibility::Reversible,
                    "{name}: nothing undoes it"
                );
                assert_eq!(playbook.reversal.is_some(), playbook.undo().is_some(), "{name}");
                assert_eq!(playbook.rung, verb.class.highest(), "{name}");
                assert!(!playbook.matches.class.is_empty(), "{name} is for anything");
                if verb.class == Reversibility::Irreversible {
                    assert_eq!(playbook.rung, Rung::Supervised, "{name}");
                }
                classes.extend(playbook.matches.class);
            }
        }
        for class in [
            "bad_deploy",
            "bad_config",
            "bad_flag",
            "memory_leak",
            "hung_process",
            "zombie_process",
            "stale_cache",
            "mis_scaled_pool",
            "saturation",
            "overload",
            "unhealthy_instance",
            "node_loss",
            "disk_full",
            "certificate_expiry",
            "bad_traffic_split",
            "slow_dependency",
            "inference_overload",
            "retrieval_failure",
            "model_drift",
            "leaked_credential",
            "expired_credential",
            "suspicious_access",
            "crash",
            "cpu_saturation",
            "traffic_surge",
            "unhealthy_node",
        ] {
            assert!(classes.contains(class), "no stock playbook is for {class}");
        }
    }
}
