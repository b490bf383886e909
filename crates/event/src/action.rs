//! Action requests, what became of them, and what humans say.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Severity, Timestamp};

/// How far an action may go by itself, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// Say what would be done; executors must not do it.
    #[default]
    Advise,
    /// Do it once a named human has approved.
    Supervised,
    /// Do it.
    Autonomous,
}

/// Something an executor can do: a name and its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActionStep {
    /// What to do: `rollback`, `restart`, `scale_out`, …
    pub action: Arc<str>,
    /// With what; text values, in which the playbook's placeholders are filled in.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
}

/// One request on the remediation topic. Everything an executor needs to act, and to refuse.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ActionRequest {
    /// Stable identity, an RFC 4122 UUID: the idempotency key.
    pub id: Arc<str>,
    /// When it was asked for.
    pub at: Timestamp,
    /// Not to be started after this.
    pub expires_at: Timestamp,
    /// The incident it is for.
    pub incident: Arc<str>,
    /// The scope.
    pub scope: Arc<str>,
    /// The service to act on; the record's key.
    pub target: Arc<str>,
    /// What to do.
    #[serde(flatten)]
    pub step: ActionStep,
    /// What undoes it; absent where nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reversal: Option<ActionStep>,
    /// The action this one undoes, where it is a reversal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverses: Option<Arc<str>>,
    /// How far it may go: executors act on `autonomous` only.
    pub rung: Rung,
    /// Who approved it, where the rung was `supervised`: the last who had to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<Arc<str>>,
    /// Everybody who approved it, each with the key that said so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<Approval>,
    /// Names of parameters (of the reversal too), and `target`, whose values hold something that came from outside, such as a
    /// label or an artifact's id. Their shapes were checked; a receiver that builds a command line or a query of them must
    /// still not take them for its own words.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub outside: BTreeSet<Arc<str>>,
    /// What decide knew of it that executors ask policies with; absent where the pipeline has no policies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weighed: Option<Weighed>,
    /// The right to do it, once: absent where nobody may act on it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permit: Option<Permit>,
    /// The playbook that chose it.
    pub playbook: Arc<str>,
    /// Who answers for it.
    pub owner: Arc<str>,
    /// The diagnosed class it answers.
    pub class: Arc<str>,
    /// The change blamed, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Arc<str>>,
    /// Probability of the hypothesis it answers.
    pub probability: f64,
    /// Which try this is for the incident and playbook, from 1.
    pub attempt: u32,
    /// The opening signals must be back by then.
    pub verify_by: Timestamp,
    /// Why, in words.
    pub reason: String,
}

/// What decide knew of an action when it decided, for policies that are asked again by the executor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Weighed {
    /// The tier of the service.
    pub tier: u8,
    /// How bad the incident was.
    pub severity: Severity,
    /// The hypothesis's probability in percent, rounded down.
    pub confidence: u8,
    /// What the playbook had earned by what it did, in percent, rounded down.
    pub trust: u8,
    /// Earlier incidents of the scope with the same class on the same service.
    pub precedents: u32,
    /// Actions that the tightest of decide's budgets still left, this one not counted.
    pub budget_left: u32,
}

/// One person's word for an action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Approval {
    /// Who.
    pub by: Arc<str>,
    /// The id of the key that the command was signed with; absent where the pipeline names no keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Arc<str>>,
    /// When, by that person's clock.
    pub at: Timestamp,
    /// The command's id.
    pub command: Arc<str>,
}

/// A signature, and the id of the key that made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Seal {
    /// The key's id.
    pub key: Arc<str>,
    /// The Ed25519 signature, in base64.
    pub signature: String,
}

/// The right to do one action, once. It is bound to everything in its request that an executor acts on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Permit {
    /// The one executor it is for.
    pub executor: Arc<str>,
    /// The scope's freezes as they stood: a later freeze ends it.
    #[serde(default)]
    pub epoch: FreezeEpoch,
    /// The signature. Absent until the request is written to its topic, and where decide has no key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<Seal>,
}

/// How often a scope was frozen, and by which command last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FreezeEpoch {
    /// How often.
    pub number: u64,
    /// The id of the last command to freeze it; absent where there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze: Option<Arc<str>>,
}

/// What became of an action request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeStatus {
    /// The executor has begun.
    Started,
    /// Done.
    Succeeded,
    /// Tried and failed.
    Failed,
    /// Not tried: expired, not allowed, unknown.
    Refused,
    /// A dry run: nothing was touched.
    DryRun,
    /// No valid request: no permit, or one that does not fit. It says nothing about the action of that id.
    Rejected,
}

/// How an executor works.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExecutorMode {
    /// It acts.
    #[default]
    Live,
    /// It says what it would do.
    Dry,
}

/// One call that an executor made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Call {
    /// When.
    pub at: Timestamp,
    /// What was called, without anything secret: `POST runner.example`.
    pub what: String,
    /// How it ended: a status, or what went wrong.
    pub status: String,
}

/// What an executor says it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Outcome {
    /// The action request's id.
    pub action: Arc<str>,
    /// When.
    pub at: Timestamp,
    /// What became of it.
    pub status: OutcomeStatus,
    /// The service acted on; the record's key.
    pub target: Arc<str>,
    /// The scope.
    pub scope: Arc<str>,
    /// Who did it.
    pub executor: Arc<str>,
    /// How it works.
    #[serde(default)]
    pub mode: ExecutorMode,
    /// In words.
    #[serde(default)]
    pub detail: String,
    /// The calls that were made, in order; at most [`Outcome::CALLS`] of the last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Call>,
    /// The executor's signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<Seal>,
}

impl Outcome {
    /// How many calls an outcome tells of.
    pub const CALLS: usize = 20;
}

/// What a human asks of the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "command")]
pub enum CommandKind {
    /// Let a supervised action go ahead.
    Approve {
        /// The action request's id.
        action: Arc<str>,
    },
    /// Do not let it.
    Deny {
        /// The action request's id.
        action: Arc<str>,
    },
    /// Undo an action that was done: its reversal goes ahead by this very word, which counts as its approval.
    Undo {
        /// The action request's id.
        action: Arc<str>,
    },
    /// Stop what is under way in the scope, between its calls, and ask for no further action.
    Freeze,
    /// Allow actions again.
    Thaw,
    /// Somebody is on it: no further action for the incident.
    Acknowledge {
        /// The incident's id.
        incident: Arc<str>,
    },
    /// Say what an incident really was.
    Label {
        /// The incident's id.
        incident: Arc<str>,
        /// `true`, `false_alarm` or `maintenance`.
        label: Arc<str>,
    },
}

/// A command and who gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Command {
    /// Unique identity.
    pub id: Arc<str>,
    /// When it was given.
    pub at: Timestamp,
    /// Who gave it.
    pub by: Arc<str>,
    /// The scope; the record's key.
    pub scope: Arc<str>,
    /// What is asked.
    #[serde(flatten)]
    pub kind: CommandKind,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// The signature of who gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<Seal>,
}
