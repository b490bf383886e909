//! Action requests, what became of them, and what humans say.

use std::{collections::BTreeMap, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Timestamp;

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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// Who approved it, where the rung was `supervised`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<Arc<str>>,
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
    /// In words.
    #[serde(default)]
    pub detail: String,
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
    /// Ask for no further action in the scope.
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
}
