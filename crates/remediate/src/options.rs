//! The remediation section of a pipeline file, and every problem in it.

use std::collections::BTreeMap;

use globset::Glob;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use suture_event::{ActionStep, Reversibility, Rung, Span, Verb, parameter_flaws};
use suture_permit::Keyring;
use suture_policy::Policy;

use crate::{
    Playbook, Problem, TrustOptions,
    template::{self, Flaw, PLACEHOLDERS},
};

/// What may be done about incidents, and by itself how far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// The highest rung that any action of this pipeline may use.
    pub mode: Rung,
    /// How long a hypothesis must have been first before it is acted on.
    pub hold: Span,
    /// The first hypothesis must be at least this probable to do more than advise, 0 to 1.
    pub minimum_probability: f64,
    /// How long a supervised action waits for its approval.
    pub approval_within: Span,
    /// How long after a request's expiry a word from an executor may still be on its way.
    pub outcome_grace: Span,
    /// How often anything may be acted on.
    pub budget: Budgets,
    /// How many actions may be under way in the scope at once.
    pub concurrent: u32,
    /// How much services matter: 0 is what matters most. The first that names a service counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<Tier>,
    /// The tier of services that `tiers` does not name.
    #[serde(skip_serializing_if = "is_other_tier")]
    pub other_tier: u8,
    /// What playbooks must have earned on services of a tier before they do more than advise there, by what the ledger says of
    /// them. Absent: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust: Option<TrustOptions>,
    /// What operators allow of all this, as Cedar policies. Absent: whatever the ladder leaves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// Services, as globs, for which two people must approve.
    pub two_people: Vec<String>,
    /// The executor that permits are for, by the name it was started with; a playbook may name another.
    pub executor: String,
    /// How old a human's command may be when it is read: an older one is said to be so and not followed.
    pub commands_within: Span,
    /// The keys whose signatures count: decide's for permits, executors' for outcomes, people's for commands. With none, no
    /// executor that acts takes a request, and commands and outcomes are taken by the names in them.
    pub keys: Keyring,
    /// How much is remembered.
    pub bounds: Bounds,
    /// What to do about which diagnosis; the first that fits is used.
    pub playbooks: Vec<Playbook>,
}

/// The tier of services that are named nowhere, by default.
pub(crate) const OTHER_TIER: u8 = 2;

#[allow(clippy::trivially_copy_pass_by_ref)] // serde passes a reference
fn is_other_tier(tier: &u8) -> bool {
    *tier == OTHER_TIER
}

/// Services that matter alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// Which: 0 is what matters most.
    pub tier: u8,
    /// The services, as globs.
    pub services: Vec<String>,
}

/// A number of actions in a sliding span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// How many.
    pub actions: u32,
    /// In how long.
    pub per: Span,
}

/// How often anything may be acted on, all playbooks together. Reversals are not counted and never refused for budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Budgets {
    /// Actions on any one service.
    pub service: Budget,
    /// Actions in the whole scope.
    pub scope: Budget,
    /// Actions of the whole pipeline, all scopes together. Executors hold to it, and to that of a service over all scopes.
    pub pipeline: Budget,
}

/// How much is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Bounds {
    /// Open incidents. Beyond it a new incident is left to humans, which the ledger says. As many resolved ones are
    /// known beside them, in case they come back; beyond it the oldest are forgotten.
    pub incidents: usize,
    /// Requests published for one incident, advice and reversals included. Beyond it the incident goes to a human.
    pub requests_per_incident: u32,
    /// Ended actions whose ids are known. Beyond it the oldest are forgotten: their late outcomes are then recorded as
    /// unknown.
    pub remembered: usize,
    /// Actions counted against budgets and cooldowns. Beyond it nothing is done by itself until the oldest leave their
    /// budgets' spans.
    pub history: usize,
    /// Changes whose artifacts can fill placeholders. Beyond it the oldest are forgotten.
    pub changes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mode: Rung::Advise,
            hold: Span::ZERO,
            minimum_probability: 0.5,
            approval_within: Span::from_mins(30),
            outcome_grace: Span::from_secs(30),
            budget: Budgets::default(),
            concurrent: 3,
            tiers: Vec::new(),
            other_tier: OTHER_TIER,
            trust: None,
            policy: None,
            two_people: Vec::new(),
            executor: "suture-execute".to_owned(),
            commands_within: Span::from_mins(15),
            keys: Keyring::default(),
            bounds: Bounds::default(),
            playbooks: Vec::new(),
        }
    }
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            service: Budget {
                actions: 3,
                per: Span::from_hours(1),
            },
            scope: Budget {
                actions: 10,
                per: Span::from_hours(1),
            },
            pipeline: Budget {
                actions: 30,
                per: Span::from_hours(1),
            },
        }
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            incidents: 1_000,
            requests_per_incident: 10,
            remembered: 10_000,
            history: 10_000,
            changes: 1_000,
        }
    }
}

impl Options {
    /// Every problem, in the order of the file. Empty where a [`Remediator`](crate::Remediator) can be made.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        share(&mut problems, "minimum_probability", self.minimum_probability);
        longer_than_nothing(&mut problems, "approval_within", self.approval_within);
        budget(&mut problems, "budget.service", self.budget.service);
        budget(&mut problems, "budget.scope", self.budget.scope);
        budget(&mut problems, "budget.pipeline", self.budget.pipeline);
        longer_than_nothing(&mut problems, "commands_within", self.commands_within);
        for (index, tier) in self.tiers.iter().enumerate() {
            globs(&mut problems, &format!("tiers[{index}].services"), &tier.services);
        }
        if let Some(trust) = &self.trust {
            trust.validate(&mut problems);
        }
        for problem in self.policy.iter().flat_map(Policy::validate) {
            let help = "mend the policy; `suture policy schema` prints what policies may speak of";
            problems.push(Problem::new("policy", problem.to_string(), help));
        }
        globs(&mut problems, "two_people", &self.two_people);
        if self.executor.trim().is_empty() {
            let help = "write the name that `suture execute --name` has; `suture-execute` is the default of both";
            problems.push(Problem::new(
                "executor",
                "is empty, so that no permit could be for anybody",
                help,
            ));
        }
        if let Some((first, second)) = self.keys.twice() {
            let message = format!("is the same key as keys[{first}]");
            problems.push(Problem::new(
                format!("keys[{second}].public"),
                message,
                "take one of them out",
            ));
        }
        let bounds = &self.bounds;
        for (path, bound) in [
            ("concurrent", self.concurrent as usize),
            ("bounds.incidents", bounds.incidents),
            ("bounds.requests_per_incident", bounds.requests_per_incident as usize),
            ("bounds.remembered", bounds.remembered),
            ("bounds.history", bounds.history),
            ("bounds.changes", bounds.changes),
        ] {
            if bound == 0 {
                problems.push(Problem::new(
                    path,
                    "is 0, with which nothing could ever be done",
                    "write 1 or more",
                ));
            }
        }
        let mut names: BTreeMap<&str, usize> = BTreeMap::new();
        for (index, playbook) in self.playbooks.iter().enumerate() {
            let path = format!("playbooks[{index}]");
            if let Some(first) = names.insert(&playbook.name, index) {
                problems.push(Problem::new(
                    format!("{path}.name"),
                    format!("{:?} is already the name of playbooks[{first}]", playbook.name),
                    "give each playbook a name of its own: budgets and the ledger go by it",
                ));
            }
            self.validate_playbook(&path, playbook, &mut problems);
        }
        problems
    }

    /// What a playbook asks for and will not get: not wrong, but most likely not what was meant.
    #[must_use]
    pub fn warnings(&self) -> Vec<Problem> {
        let mut warnings = Vec::new();
        for (index, playbook) in self.playbooks.iter().enumerate().filter(|(_, p)| p.rung > Rung::Advise) {
            let gaps = playbook.gaps();
            if !gaps.is_empty() {
                let mut lacks: Vec<String> = Vec::new();
                for gap in gaps {
                    let what = if gap.placeholder { "a placeholder in" } else { "no" };
                    lacks.push(format!("{what} {}", gap.field));
                }
                lacks.dedup();
                warnings.push(Problem::new(
                    format!("playbooks[{index}].safety"),
                    format!(
                        "the safety case is incomplete, so the playbook can only advise: {}",
                        lacks.join(", ")
                    ),
                    "fill these in, or write `rung: advise`; `suture playbook lint` says of each what belongs there",
                ));
            }
            let others = playbook.lint().into_iter().filter(|problem| {
                let path = problem.path.as_str();
                ["reversal.action", "action.action", "rung"].contains(&path)
            });
            warnings.extend(others.map(|problem| Problem {
                path: format!("playbooks[{index}].{}", problem.path),
                ..problem
            }));
        }
        warnings
    }

    /// Everything that keeps playbooks from doing what they are for, whatever rung they ask for; paths as in
    /// [`Self::validate`].
    #[must_use]
    pub fn lint(&self) -> Vec<Problem> {
        let all = self.playbooks.iter().enumerate();
        all.flat_map(|(index, playbook)| {
            playbook.lint().into_iter().map(move |problem| Problem {
                path: format!("playbooks[{index}].{}", problem.path),
                ..problem
            })
        })
        .collect()
    }

    fn validate_playbook(&self, path: &str, playbook: &Playbook, problems: &mut Vec<Problem>) {
        if playbook.name.trim().is_empty() {
            problems.push(Problem::new(format!("{path}.name"), "is empty", "name the playbook"));
        }
        let matches = &playbook.matches;
        for (field, globs) in [
            ("class", &matches.class),
            ("metric", &matches.metric),
            ("service", &matches.service),
            ("except_service", &matches.except_service),
        ] {
            self::globs(problems, &format!("{path}.match.{field}"), globs);
        }
        share(problems, &format!("{path}.match.probability"), matches.probability);
        placeholders(problems, &format!("{path}.target"), &playbook.target);
        if playbook.target.trim().is_empty() {
            problems.push(Problem::new(
                format!("{path}.target"),
                "is empty",
                "write \"{{service}}\"",
            ));
        }
        step(problems, &format!("{path}.action"), &playbook.action, playbook);
        if let Some(reversal) = &playbook.reversal {
            step(problems, &format!("{path}.reversal"), reversal, playbook);
        }
        if playbook.executor.as_ref().is_some_and(|name| name.trim().is_empty()) {
            let help = "write the name that the executor was started with, or leave it out";
            problems.push(Problem::new(format!("{path}.executor"), "is empty", help));
        }
        if let Some(limit) = playbook.safety.budget {
            budget(problems, &format!("{path}.safety.budget"), limit);
        }
        self.validate_limits(path, playbook, problems);
    }

    fn validate_limits(&self, path: &str, playbook: &Playbook, problems: &mut Vec<Problem>) {
        let limits = &playbook.limits;
        if let Some(limit) = limits.per_service {
            budget(problems, &format!("{path}.limits.per_service"), limit);
        }
        if let Some(minimum) = limits.minimum_probability {
            share(problems, &format!("{path}.limits.minimum_probability"), minimum);
        }
        longer_than_nothing(problems, &format!("{path}.limits.expires_after"), limits.expires_after);
        if limits.verify_within.as_millis() <= limits.expires_after.as_millis() {
            problems.push(Problem::new(
                format!("{path}.limits.verify_within"),
                format!(
                    "is {}, which is not longer than expires_after, {}: an action started late could never be verified",
                    limits.verify_within, limits.expires_after
                ),
                "count from the request: the time to start, to act, and for the signals to come back",
            ));
        }
        if limits.attempts == 0 {
            problems.push(Problem::new(
                format!("{path}.limits.attempts"),
                "is 0, with which the playbook could never be used",
                "write 1 or more, or `rung: advise`",
            ));
        }
    }
}

fn share(problems: &mut Vec<Problem>, path: &str, value: f64) {
    if !(0.0..=1.0).contains(&value) {
        problems.push(Problem::new(
            path,
            format!("{value} is no probability"),
            "write a number from 0 to 1",
        ));
    }
}

fn longer_than_nothing(problems: &mut Vec<Problem>, path: &str, span: Span) {
    if span.as_millis() <= 0 {
        problems.push(Problem::new(path, "is no time at all", "write a span such as 2m"));
    }
}

fn budget(problems: &mut Vec<Problem>, path: &str, budget: Budget) {
    longer_than_nothing(problems, &format!("{path}.per"), budget.per);
}

fn globs(problems: &mut Vec<Problem>, path: &str, globs: &[String]) {
    for (at, glob) in globs.iter().enumerate() {
        if let Err(error) = Glob::new(glob) {
            problems.push(Problem::new(
                format!("{path}[{at}]"),
                format!("{glob:?} is no glob: {}", error.kind()),
                "write a name, or one with * and ? in it",
            ));
        }
    }
}

/// What a playbook asks for that its verb's class does not give.
pub(crate) fn asks_too_much(playbook: &Playbook, verb: Option<&Verb>) -> Option<Problem> {
    let name = &playbook.action.action;
    let Some(verb) = verb else {
        let help = nearest_verb(name).map_or_else(
            || "see docs/safety.md for the verbs there are; `run_job` is for what is your own".to_owned(),
            |known| format!("did you mean {known}?"),
        );
        let message = format!("{name:?} is no verb that is known, so the playbook can only advise");
        return Some(Problem::new("action.action", message, help));
    };
    (playbook.rung > verb.class.highest()).then(|| {
        let message = format!("asks for autonomous, but {name} {}", verb.class.words());
        Problem::new("rung", message, "write `rung: supervised`")
    })
}

/// A reversal that is no verb which undoes the action; where the action is no verb, nothing can.
pub(crate) fn undoes_nothing(playbook: &Playbook, verb: Option<&Verb>) -> Option<Problem> {
    let (verb, reversal) = (verb?, playbook.reversal.as_ref()?);
    if playbook.undo().is_some() {
        return None;
    }
    let message = format!(
        "{:?} does not undo {}, so it counts as no reversal",
        reversal.action, verb.name
    );
    let help = match verb.undo {
        [] if verb.class == Reversibility::Reversible => {
            format!("leave `reversal` out: {} leaves nothing to undo", verb.name)
        }
        [] => format!("leave `reversal` out: nothing undoes {}", verb.name),
        undo => format!("write {}", undo.join(" or ")),
    };
    Some(Problem::new("reversal.action", message, help))
}

fn nearest_verb(name: &str) -> Option<&'static str> {
    Verb::names()
        .map(|known| (known, strsim::jaro_winkler(known, name)))
        .filter(|(_, likeness)| *likeness > 0.85)
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(known, _)| known)
}

fn step(problems: &mut Vec<Problem>, path: &str, step: &ActionStep, playbook: &Playbook) {
    if step.action.trim().is_empty() {
        problems.push(Problem::new(
            format!("{path}.action"),
            "is empty",
            "name what executors are to do",
        ));
    }
    for (name, value) in &step.parameters {
        placeholders(problems, &format!("{path}.parameters.{name}"), value);
    }
    // what placeholders will bring is checked when they are filled in
    let literal = |name: &str| step.parameters.get(name).is_some_and(|value| !value.contains("{{"));
    for (name, flaw) in parameter_flaws(step, |name| playbook.parameters.get(name).copied()) {
        let unknown = flaw.ends_with(step.action.as_ref());
        if unknown || literal(&name) {
            let help = if unknown {
                format!("declare what it must be like: `parameters: {{{name}: name}}` in the playbook")
            } else {
                "mend the value, or the playbook's `parameters`".to_owned()
            };
            problems.push(Problem::new(format!("{path}.parameters.{name}"), flaw, help));
        }
    }
}

fn placeholders(problems: &mut Vec<Problem>, path: &str, text: &str) {
    for flaw in template::flaws(text) {
        match flaw {
            Flaw::Open => problems.push(Problem::new(path, "has {{ without }}", "close the placeholder")),
            Flaw::Unknown(name) => {
                let help = template::nearest(name).map_or_else(
                    || format!("use one of {}", PLACEHOLDERS.join(", ")),
                    |known| format!("did you mean {{{{{known}}}}}?"),
                );
                problems.push(Problem::new(path, format!("{{{{{name}}}}} is no placeholder"), help));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(problems: &[Problem]) -> Vec<&str> {
        problems.iter().map(|p| p.path.as_str()).collect()
    }

    #[test]
    fn the_defaults_have_no_problem_and_do_nothing_but_advise() {
        assert_eq!(Options::default().validate(), []);
        assert_eq!(Options::default().mode, Rung::Advise);
        assert_eq!(serde_json::from_str::<Options>("{}").unwrap(), Options::default());
    }

    #[test]
    fn every_problem_is_told_at_once_with_where_and_what_would_be_right() {
        let mut playbook = Playbook::new("rollback", "rollback");
        playbook
            .action
            .parameters
            .insert("to".into(), "{{artefact}} of {{".into());
        playbook.matches.class = vec!["bad[".into()];
        playbook.matches.probability = 1.5;
        playbook.limits.verify_within = Span::from_secs(10);
        playbook.limits.attempts = 0;
        let twin = Playbook::new("rollback", " ");
        let options = Options {
            playbooks: vec![playbook, twin],
            concurrent: 0,
            ..Options::default()
        };
        let problems = options.validate();
        assert_eq!(
            paths(&problems),
            [
                "concurrent",
                "playbooks[0].match.class[0]",
                "playbooks[0].match.probability",
                "playbooks[0].action.parameters.to",
                "playbooks[0].action.parameters.to",
                "playbooks[0].limits.verify_within",
                "playbooks[0].limits.attempts",
                "playbooks[1].name",
                "playbooks[1].action.action",
            ]
        );
        assert_eq!(problems[3].help, "did you mean {{artifact}}?");
    }

    #[test]
    fn what_a_playbook_asks_and_will_not_get_is_a_warning() {
        let mut playbook = Playbook::new("clean", "clean_disk");
        playbook.rung = Rung::Autonomous;
        let options = Options {
            playbooks: vec![playbook],
            ..Options::default()
        };
        assert_eq!(options.validate(), []);
        assert_eq!(paths(&options.warnings()), ["playbooks[0].safety", "playbooks[0].rung"]);
    }

    fn playbook(action: &str, reversal: Option<&str>) -> Options {
        let step = |name: &str| ActionStep {
            action: name.into(),
            parameters: BTreeMap::new(),
        };
        let mut playbook = Playbook::new("p", action);
        playbook.rung = Rung::Autonomous;
        playbook.reversal = reversal.map(step);
        Options {
            playbooks: vec![playbook],
            ..Options::default()
        }
    }

    #[test]
    fn a_reversal_that_does_not_undo_the_action_counts_as_none() {
        for (action, reversal, good) in [
            ("rollback", Some("redeploy"), true),
            ("rollback", Some("rollback"), false),
            ("rollback", Some("noop"), false),
            ("drop_database", Some("noop"), false),
            ("drop_database", None, true),
            ("flush_cache", Some("restart"), false),
            ("raise_pool", Some("lower_pool"), true),
        ] {
            let options = playbook(action, reversal);
            assert_eq!(options.validate(), [], "{action} by {reversal:?}");
            let told = options.warnings();
            let told = told
                .iter()
                .any(|problem| problem.path == "playbooks[0].reversal.action");
            assert_eq!(told, !good, "{action} by {reversal:?}");
            let undone = options.playbooks[0].undo().is_some();
            assert_eq!(undone, good && reversal.is_some(), "{action} by {reversal:?}");
        }
    }

    #[test]
    fn no_playbook_gets_more_than_its_verb_may() {
        for (action, path) in [
            ("rollbak", "playbooks[0].action.action"),
            ("drop_database", "playbooks[0].rung"),
            ("scale_in", "playbooks[0].rung"),
            ("isolate_host", "playbooks[0].rung"),
        ] {
            let warnings = playbook(action, None).warnings();
            assert_eq!(paths(&warnings), ["playbooks[0].safety", path], "{action}");
        }
        assert_eq!(paths(&playbook("restart", None).warnings()), ["playbooks[0].safety"]);
    }
}
