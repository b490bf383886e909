//! A playbook: which diagnosis it answers, with what, how that is undone, and why that is safe.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use suture_event::{ActionStep, HypothesisKind, Rung, Severity, Shape, SignalKind, Span, Verb};

use crate::Budget;

/// Maps a diagnosed class to an action with its safety case. The first playbook of the file that fits is used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Playbook {
    /// Unique name, used in requests, budgets and the ledger.
    pub name: String,
    /// The team or person who answers for it.
    #[serde(default)]
    pub owner: String,
    /// What it is for, in words; shown beside a request.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Which diagnoses it answers.
    #[serde(default, rename = "match")]
    pub matches: Match,
    /// The service to act on; placeholders are filled in. The hypothesis's service by default.
    #[serde(default = "default_target")]
    pub target: String,
    /// What to do. Placeholders such as `{{service}}` in parameter values are filled in.
    pub action: ActionStep,
    /// What parameters must be like that the verb does not know, or more closely than it says. A value that is not so is not
    /// filled in, and the playbook does not fit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, Shape>,
    /// The executor that it is for, by name; the pipeline's by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor: Option<String>,
    /// What undoes it: a verb that does; any other counts as none. Without one the playbook is supervised at most, unless its
    /// verb leaves nothing to undo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reversal: Option<ActionStep>,
    /// The highest rung it asks for.
    #[serde(default)]
    pub rung: Rung,
    /// Why it is safe. Incomplete, the playbook can only advise.
    #[serde(default)]
    pub safety: Safety,
    /// How long things may take, how often and how sure.
    #[serde(default)]
    pub limits: Limits,
}

fn default_target() -> String {
    "{{service}}".to_owned()
}

/// Which diagnoses a playbook answers: each field that is set must fit the incident's first hypothesis.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Match {
    /// Classes, as globs: one must fit. None given: any class.
    pub class: Vec<String>,
    /// Sorts of cause: one must fit. None given: any.
    pub kind: Vec<HypothesisKind>,
    /// Services, as globs: one must fit. None given: any, and also a cause that names no service.
    pub service: Vec<String>,
    /// Services it is never for, as globs.
    pub except_service: Vec<String>,
    /// The incident is at least this severe.
    pub severity: Option<Severity>,
    /// The hypothesis is at least this probable, 0 to 1. Below it the playbook does not even advise.
    pub probability: f64,
    /// Kinds of signal: at least one of those that opened the incident must be of one. None given: any.
    pub signals: Vec<SignalKind>,
    /// Metrics, as globs: that of at least one signal that opened the incident must fit. None given: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metric: Vec<String>,
    /// Tiers of the hypothesis's service, as `remediate.tiers` has them: it must be of one. None given: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tier: Vec<u8>,
    /// So many earlier incidents of the scope must have ended with the same class on the same service. 0: it may be the first
    /// of its sort. Those that a human called no incident are not counted.
    #[serde(skip_serializing_if = "is_zero")]
    pub precedents: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde passes a reference
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// The safety case. Each field must be filled in, with more than a placeholder, for the playbook to do more than advise.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Safety {
    /// What sets it off, in words.
    pub trigger: String,
    /// Known cases in which it is set off wrongly, in words; `none known` where none is.
    pub false_positives: Vec<String>,
    /// The worst that it can do, in words.
    pub blast_radius: String,
    /// How long the reversal took when it was last measured. Needed where there is a reversal.
    pub reversal_time: Option<Span>,
    /// How often it may act in the scope, all services together.
    pub budget: Option<Budget>,
    /// Metrics that would show it misbehaving.
    pub telemetry: Vec<String>,
}

/// What to do when an executor reports that it tried and failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Try again while attempts are left, then hand over to a human.
    #[default]
    Escalate,
    /// Ask for the reversal, since it may be half done, and hand over to a human.
    Reverse,
}

/// How long things may take, how often they may be tried and how sure one must be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// From the request to the recovery of every signal that opened the incident.
    pub verify_within: Span,
    /// From the request to the last moment at which an executor may start.
    pub expires_after: Span,
    /// Rest between the end of one action on a service and the next.
    pub cooldown: Span,
    /// How often it may be sent to executors for one incident.
    pub attempts: u32,
    /// How often one service may be acted on by this playbook, beside the pipeline's own budget.
    pub per_service: Option<Budget>,
    /// The hypothesis must be at least this probable to do more than advise, 0 to 1; the pipeline's by default.
    pub minimum_probability: Option<f64>,
    /// How long the same hypothesis must have been first; the pipeline's by default.
    pub hold: Option<Span>,
    /// What to do when an executor tried and failed.
    pub on_failure: OnFailure,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            verify_within: Span::from_mins(10),
            expires_after: Span::from_mins(2),
            cooldown: Span::from_mins(15),
            attempts: 1,
            per_service: None,
            minimum_probability: None,
            hold: None,
            on_failure: OnFailure::Escalate,
        }
    }
}

impl Playbook {
    /// A playbook with defaults for everything but its name and its action.
    #[must_use]
    pub fn new(name: &str, action: &str) -> Self {
        Self {
            name: name.to_owned(),
            owner: String::new(),
            description: String::new(),
            matches: Match::default(),
            target: default_target(),
            action: ActionStep {
                action: action.into(),
                parameters: BTreeMap::new(),
            },
            parameters: BTreeMap::new(),
            executor: None,
            reversal: None,
            rung: Rung::Advise,
            safety: Safety::default(),
            limits: Limits::default(),
        }
    }

    /// What undoes the action; `None` where nothing is given, or what is given does not.
    #[must_use]
    pub fn undo(&self) -> Option<&ActionStep> {
        let verb = Verb::of(&self.action.action)?;
        let undoes = |step: &&ActionStep| Verb::of(&step.action).is_some_and(|undo| undo.undoes(verb));
        self.reversal.as_ref().filter(undoes)
    }
}
