//! What the pages say, held against the program: commands, metrics and environment variables, both ways; and what is deployed
//! with it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use clap::error::ErrorKind;
use serde_json::Value;
use suture_service::metrics::Planes;

use crate::{command, feed::files};

/// Without these features some commands and options are not there.
const WHOLE: bool = cfg!(all(feature = "kafka", feature = "history"));

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every page that users read, by its name.
fn pages() -> Vec<(String, String)> {
    let mut all: Vec<PathBuf> = ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "benches/README.md"]
        .map(|page| root().join(page))
        .to_vec();
    all.extend(files(&root().join("docs"), "md").unwrap());
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    all.into_iter()
        .map(|path| (name(&path), fs::read_to_string(&path).unwrap()))
        .collect()
}

/// A command line as a page has it.
struct Said {
    page: String,
    line: String,
    /// In a block of its own, to be copied; otherwise in a sentence, which may leave out what must be given.
    block: bool,
}

fn command_lines() -> Vec<Said> {
    let mut all = Vec::new();
    for (page, text) in pages() {
        for (index, part) in text.split("```").enumerate() {
            if index % 2 == 1 {
                // lines of a block, those that go on joined
                for line in part.replace("\\\n", " ").lines() {
                    let line = line.trim().trim_start_matches("$ ");
                    if line.starts_with("suture ") {
                        all.push((page.clone(), line.to_owned(), true));
                    }
                }
            } else {
                let spans = part.split('`').enumerate().filter(|(index, _)| index % 2 == 1);
                for (_, span) in spans.filter(|(_, span)| span.starts_with("suture ")) {
                    all.push((
                        page.clone(),
                        span.split_whitespace().collect::<Vec<_>>().join(" "),
                        false,
                    ));
                }
            }
        }
    }
    let said = |(page, line, block): (String, String, bool)| {
        // several stand in one line, apart
        let lines: Vec<String> = line.split("      suture ").map(str::to_owned).collect();
        lines.into_iter().enumerate().map(move |(index, line)| Said {
            page: page.clone(),
            line: if index == 0 { line } else { format!("suture {line}") },
            block,
        })
    };
    all.into_iter().flat_map(said).collect()
}

/// `a|b` stands for each.
fn each(words: &[String]) -> Vec<Vec<String>> {
    let mut all = vec![Vec::new()];
    for word in words {
        let choices: Vec<&str> = if word.contains('|') {
            word.split('|').collect()
        } else {
            vec![word]
        };
        all = all
            .iter()
            .flat_map(|line: &Vec<String>| {
                choices.iter().map(|choice| {
                    let mut line = line.clone();
                    line.push((*choice).to_owned());
                    line
                })
            })
            .collect();
    }
    all
}

#[test]
fn every_command_line_on_the_pages_can_be_given() {
    let lines = command_lines();
    assert!(lines.len() > 40, "{} lines were found", lines.len());
    let mut wrong = Vec::new();
    for said in &lines {
        let words =
            shlex::split(&said.line.replace('…', " … ")).unwrap_or_else(|| panic!("{}: {}", said.page, said.line));
        // what a shell takes for itself
        let shell =
            |word: &String| ["|", ">", ">>", "&&", "&", ";", "||"].contains(&word.as_str()) || word.starts_with('#');
        let words: Vec<String> = words.into_iter().take_while(|word| !shell(word)).collect();
        let left_out = words.iter().any(|word| word == "…");
        let words: Vec<String> = words.into_iter().filter(|word| word != "…").collect();
        for words in each(&words) {
            let Err(error) = command().try_get_matches_from(&words) else {
                continue;
            };
            let may = match error.kind() {
                ErrorKind::MissingRequiredArgument
                | ErrorKind::MissingSubcommand
                | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => !said.block || left_out,
                ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand => !WHOLE,
                // a name in capitals stands for a value
                ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
                    let value = error
                        .get(clap::error::ContextKind::InvalidValue)
                        .map(ToString::to_string);
                    value.is_some_and(|value| value.chars().all(|c| c.is_ascii_uppercase() || "/._-".contains(c)))
                }
                _ => false,
            };
            if !may {
                wrong.push(format!(
                    "{}: {}\n  {}",
                    said.page,
                    words.join(" "),
                    error.to_string().trim()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_command_is_on_a_page() {
    let text: String = command_lines().iter().map(|said| format!("{}\n", said.line)).collect();
    for known in command().get_subcommands().filter(|known| !known.is_hide_set()) {
        let name = known.get_name();
        let words: BTreeSet<&str> = text
            .lines()
            .filter_map(|line| line.split_whitespace().nth(1))
            .flat_map(|word| word.split('|'))
            .collect();
        assert!(words.contains(name), "no page has `suture {name}`");
    }
}

/// Names that begin with `suture_` and are no metrics.
const OTHER_NAMES: [&str; 10] = [
    // headers of records
    "suture_seal",
    "suture_offset",
    "suture_partition",
    "suture_reason",
    "suture_topic",
    // crates in paths
    "suture_detect",
    "suture_codec",
    "suture_log",
    "suture_runtime",
    "suture_engine",
];

/// Names of metrics in a text, as they are there.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut rest = text;
    while let Some(at) = rest.find("suture_") {
        let name: String = rest[at..]
            .chars()
            .take_while(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_')
            .collect();
        rest = &rest[at + name.len()..];
        // a package's file has a version there
        let of_package = !name["suture_".len()..].starts_with(|c: char| c.is_ascii_lowercase());
        if !of_package && !OTHER_NAMES.contains(&name.as_str()) {
            names.insert(name);
        }
    }
    names
}

#[test]
fn metrics_on_the_pages_exist_and_those_that_exist_are_there() {
    let names: BTreeSet<String> = Planes::names().into_iter().collect();
    let table: BTreeSet<String> = read("docs/operating.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `suture_"))
        .filter_map(|rest| rest.split('`').next())
        .map(|name| format!("suture_{name}"))
        .collect();
    assert_eq!(table, names);
    for (page, text) in pages() {
        for name in metrics_in(&text) {
            let plain = ["_total", "_bucket", "_count", "_sum"]
                .iter()
                .find_map(|end| name.strip_suffix(end));
            let is = names.contains(&name) || plain.is_some_and(|plain| names.contains(plain));
            assert!(is, "{page} speaks of {name}, which is no metric");
        }
    }
}

/// Every name that samples have in the text that is scraped.
fn sample_names() -> BTreeSet<String> {
    let text = Planes {
        planes: vec![("observe", std::sync::Arc::default())],
        clock: std::sync::Arc::new(suture_runtime::SystemClock::default()),
        board: std::sync::Arc::default(),
        pipeline: String::new(),
    }
    .text()
    .unwrap();
    let mut names = BTreeSet::new();
    for line in text.lines() {
        let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) else {
            continue;
        };
        let ends: &[&str] = match kind {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_count", "_sum"],
            _ => &[""],
        };
        names.extend(ends.iter().map(|end| format!("{name}{end}")));
    }
    names
}

#[test]
fn the_dashboard_and_the_alert_rules_speak_of_metrics_that_exist() {
    let names = sample_names();
    assert!(names.len() > 40 && names.contains("suture_lag_records"), "{names:?}");
    for path in ["deploy/grafana/suture.json", "deploy/prometheus/suture.rules.yaml"] {
        let used = metrics_in(&read(path));
        assert!(used.len() > 15, "{path}: {used:?}");
        let unknown: Vec<_> = used.difference(&names).collect();
        assert!(unknown.is_empty(), "{path} speaks of {unknown:?}");
    }
}

#[test]
fn the_dashboard_and_the_alert_rules_are_whole() {
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/suture.json")).unwrap();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "an id comes twice");
        assert!(!panel["title"].as_str().unwrap().is_empty());
        if panel["type"] != "row" {
            assert!(
                panel["targets"].as_array().is_some_and(|targets| !targets.is_empty()),
                "{panel}"
            );
        }
    }
    let rules: Value = serde_saphyr::from_str(&read("deploy/prometheus/suture.rules.yaml")).unwrap();
    let mut alerts = BTreeSet::new();
    for rule in rules["groups"][0]["rules"].as_array().unwrap() {
        let name = rule["alert"].as_str().unwrap();
        assert!(alerts.insert(name), "{name} comes twice");
        assert!(
            ["warning", "critical"].contains(&rule["labels"]["severity"].as_str().unwrap()),
            "{name}"
        );
        for text in ["summary", "description"] {
            assert!(
                rule["annotations"][text].as_str().is_some_and(|text| text.len() > 10),
                "{name}"
            );
        }
        let expr = rule["expr"].as_str().unwrap();
        assert_eq!(expr.matches('(').count(), expr.matches(')').count(), "{name}");
    }
}

/// Every `.Values.x.y` of the chart's templates.
fn values_used() -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    let folder = root().join("deploy/helm/suture/templates");
    for entry in fs::read_dir(folder).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        assert_eq!(text.matches("{{").count(), text.matches("}}").count());
        let opened = ["{{- if ", "{{- with ", "{{- range ", "{{- define "].map(|word| text.matches(word).count());
        assert_eq!(opened.iter().sum::<usize>(), text.matches("{{- end }}").count());
        for rest in text.split(".Values.").skip(1) {
            used.insert(
                rest.chars()
                    .take_while(|c| c.is_ascii_alphanumeric() || *c == '.')
                    .collect(),
            );
        }
    }
    used
}

#[test]
fn the_chart_uses_every_value_that_it_has_and_no_other() {
    let values: Value = serde_saphyr::from_str(&read("deploy/helm/suture/values.yaml")).unwrap();
    let used = values_used();
    for path in &used {
        let value = values.pointer(&format!("/{}", path.replace('.', "/")));
        assert!(
            value.is_some(),
            "a template uses .Values.{path}, which values.yaml does not have"
        );
    }
    for (section, value) in values.as_object().unwrap() {
        let keys: Vec<String> = match value.as_object().filter(|keys| !keys.is_empty()) {
            Some(keys) => keys.keys().map(|key| format!("{section}.{key}")).collect(),
            None => vec![section.clone()],
        };
        for key in keys {
            let is = used
                .iter()
                .any(|path| *path == section.as_str() || path.starts_with(&key));
            assert!(is, "no template uses {key}");
        }
    }
    let chart: Value = serde_saphyr::from_str(&read("deploy/helm/suture/Chart.yaml")).unwrap();
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    // its pipeline is one that works
    let name = |name: &str| (name == "KAFKA_BROKERS").then(|| "kafka:9092".to_owned());
    let pipeline = values["pipeline"].as_str().unwrap();
    let checked = suture_config::Pipeline::check("values.yaml", pipeline, &name, &suture_config::Unchecked);
    assert!(
        checked.problems.is_empty(),
        "{}",
        checked.problems.render(suture_config::Look::Plain)
    );
}

#[test]
fn what_is_deployed_runs_as_nobody_much_and_is_asked_how_it_is() {
    let deployment = read("deploy/helm/suture/templates/deployment.yaml");
    for part in [
        "runAsNonRoot: true",
        "readOnlyRootFilesystem: true",
        "allowPrivilegeEscalation: false",
        "drop: [ALL]",
        "automountServiceAccountToken: false",
        "path: /healthz",
        "path: /readyz",
    ] {
        assert!(deployment.contains(part), "{part}");
    }
    let image = read("Dockerfile");
    let user = image.lines().find_map(|line| line.strip_prefix("USER ")).unwrap();
    assert!(deployment.contains(&format!("runAsUser: {}", user.split(':').next().unwrap())));
    let unit = read("deploy/systemd/suture@.service");
    for part in [
        "User=suture",
        "ProtectSystem=strict",
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=\n",
        "SystemCallFilter=@system-service",
    ] {
        assert!(unit.contains(part), "{part}");
    }
    assert!(unit.contains(&format!("RestartPreventExitStatus={}", crate::EXIT_CONFIG)));
}

#[test]
fn the_commands_of_units_and_containers_can_be_given() {
    let mut lines: Vec<Vec<String>> = read("deploy/systemd/suture@.service")
        .lines()
        .filter_map(|line| {
            line.strip_prefix("ExecStart")
                .and_then(|rest| rest.split_once("=/usr/bin/"))
        })
        .map(|(_, line)| line.split_whitespace().map(str::to_owned).collect())
        .collect();
    assert_eq!(lines.len(), 2);
    let compose: Value = serde_saphyr::from_str(&read("docker-compose.yml")).unwrap();
    for (_, service) in compose["services"].as_object().unwrap() {
        if service["build"] == "." {
            // a shell's words, of which the last is the program's line
            let words = service["command"].as_array().unwrap().iter();
            let script: Vec<&str> = words.map(|word| word.as_str().unwrap()).collect();
            if let Some((_, line)) = script.join(" ").split_once("exec suture ") {
                let line = std::iter::once("suture").chain(line.split_whitespace());
                lines.push(line.map(str::to_owned).collect());
            }
        }
    }
    // of the deployment its list of arguments, whatever is chosen
    let deployment = read("deploy/helm/suture/templates/deployment.yaml");
    let (_, args) = deployment.split_once("          args:\n").unwrap();
    let (args, _) = args.split_once("          env:").unwrap();
    let words = args.lines().filter_map(|line| line.trim().strip_prefix("- "));
    let words = words.map(|word| {
        let word = word.trim_matches('"');
        word.replace("{{ .Values.metrics.port }}", "9464")
            .replace("{{ .Values.console.port }}", "8080")
    });
    lines.push(std::iter::once("suture".to_owned()).chain(words).collect());
    for line in lines {
        let given = command().try_get_matches_from(&line);
        let known = given
            .as_ref()
            .err()
            .is_none_or(|error| WHOLE || error.kind() != ErrorKind::InvalidSubcommand);
        assert!(!known || given.is_ok(), "{line:?}: {}", given.unwrap_err());
    }
}

#[test]
fn environment_variables_on_the_pages_are_read() {
    let mut known = BTreeSet::new();
    let cli = command();
    let mut open = vec![&cli];
    while let Some(command) = open.pop() {
        open.extend(command.get_subcommands());
        known.extend(
            command
                .get_arguments()
                .filter_map(|arg| arg.get_env())
                .map(|name| name.to_string_lossy().into_owned()),
        );
    }
    // read by hand, since a secret must not be an option, and by the tests
    for name in [
        "GITHUB_SECRET",
        "GITLAB_TOKEN",
        "LAUNCHDARKLY_SECRET",
        "TERRAFORM_TOKEN",
        "RECEIVE_TOKEN",
        "SEED",
        "SEEDS",
    ] {
        known.insert(format!("SUTURE_{name}"));
    }
    if !WHOLE {
        known.extend(
            [
                "SUTURE_HTTP",
                "SUTURE_KEY",
                "SUTURE_METRICS",
                "SUTURE_TOKENS",
                "SUTURE_PIPELINE",
            ]
            .map(str::to_owned),
        );
    }
    let mut texts = pages();
    texts.push(("suture@.service".to_owned(), read("deploy/systemd/suture@.service")));
    texts.push((
        "deployment.yaml".to_owned(),
        read("deploy/helm/suture/templates/deployment.yaml"),
    ));
    for (page, text) in texts {
        for rest in text.split("SUTURE_").skip(1) {
            let name: String = rest
                .chars()
                .take_while(|c| c.is_ascii_uppercase() || *c == '_')
                .collect();
            let name = format!("SUTURE_{}", name.trim_end_matches('_'));
            assert!(known.contains(&name), "{page} speaks of {name}, which is not read");
        }
    }
}

#[test]
fn pipelines_keep_to_their_tests() {
    let folder = root().join("pipelines");
    let code = crate::test::test(&crate::test::Args::of(folder)).unwrap();
    assert_eq!(format!("{code:?}"), format!("{:?}", std::process::ExitCode::SUCCESS));
}
