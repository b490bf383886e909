//! Diagnosed incidents.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Direction, ShardId, SignalKind, Timestamp};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Worth a look today.
    Warning,
    /// Worth waking somebody.
    Critical,
}

/// Where in its life an incident is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IncidentStatus {
    /// Signals are outside their bands.
    Open,
    /// Every signal came back, or was accepted as the new normal; or nothing new came for the time the pipeline sets.
    Resolved,
}

/// How an incident ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// The signals that opened it came back inside the bands they had before.
    Recovered,
    /// A signal that opened it stayed where it was until that became what is expected: accepted, not recovered.
    Accepted,
    /// Nothing is outside its band, but some signals fell silent: closed, and whether it recovered is not known.
    Silent,
    /// Nothing new came for so long that it was closed with signals still outside their bands.
    Abandoned,
}

/// What one of an incident's signals does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SignalState {
    /// Outside its band.
    Active,
    /// Back inside the band it had before.
    Recovered,
    /// Stayed outside until that became what is expected.
    Adapted,
    /// Sends nothing. Silence is not recovery.
    Silent,
}

/// One anomaly as its incident sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct IncidentSignal {
    /// The anomaly's id.
    pub anomaly: Arc<str>,
    /// The metric's name.
    pub metric: Arc<str>,
    /// The service it belongs to.
    pub service: Option<Arc<str>>,
    /// What it measures.
    pub kind: SignalKind,
    /// On which side of its band it went.
    pub direction: Direction,
    /// Start of the first window outside.
    pub onset: Timestamp,
    /// Whether it was there when the incident opened: recovery is judged on these.
    pub opening: bool,
    /// What it does now.
    pub state: SignalState,
    /// When the state was last set.
    pub since: Timestamp,
}

/// What sort of cause a hypothesis names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HypothesisKind {
    /// A change somebody made.
    Change,
    /// A fault in a service that no known change explains.
    Fault,
    /// More work than usual came in.
    Traffic,
    /// A resource is running out.
    Resource,
    /// Something outside of what is watched.
    Dependency,
}

/// What a piece of evidence is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EvidenceKind {
    /// When things happened relative to each other.
    Timing,
    /// Who calls whom.
    Topology,
    /// How much of what is seen this would explain.
    Coverage,
    /// What kind of signals moved.
    Signal,
    /// How far they moved.
    Magnitude,
    /// Which came first.
    Onset,
    /// What else changed or could explain it.
    Alternative,
    /// How often it has been the cause before.
    Prior,
    /// What was looked at and is as usual.
    Quiet,
}

/// One reason for or against a hypothesis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// What it is about.
    pub kind: EvidenceKind,
    /// In words, with the numbers.
    pub detail: String,
    /// Natural logarithm of the odds it adds (for) or takes (against, negative).
    pub weight: f64,
    /// Ids of the anomalies it rests on.
    pub signals: Vec<Arc<str>>,
}

/// A possible cause.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Hypothesis {
    /// From 1, by falling probability.
    pub rank: u32,
    /// What sort of cause.
    pub kind: HypothesisKind,
    /// The service at fault.
    pub service: Option<Arc<str>>,
    /// The change's id, for a change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Arc<str>>,
    /// What playbooks match on: `bad_deploy`, `bad_config`, `saturation`, `memory_leak`, `disk_full`, …
    pub class: Arc<str>,
    /// Of all hypotheses of the incident and "none of these" together, which sum to 1.
    pub probability: f64,
    /// Reasons, strongest first.
    pub evidence: Vec<Evidence>,
}

/// Anomalies of one scope that touch in time and topology, and what most likely caused them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Incident {
    /// Stable identity: the anomaly that opened it and its scope.
    pub id: Arc<str>,
    /// When the program could first have told, in event time.
    pub opened_at: Timestamp,
    /// When it was resolved.
    pub resolved_at: Option<Timestamp>,
    /// How it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<Resolution>,
    /// How bad it is.
    pub severity: Severity,
    /// The services with anomalies, most affected first.
    pub services: Vec<Arc<str>>,
    /// Ids of its anomalies, in the order they came.
    pub anomalies: Vec<Arc<str>>,
    /// Possible causes, most likely first.
    pub hypotheses: Vec<Hypothesis>,
    /// Probability that none of these is the cause.
    pub none_of_these: f64,
    /// The scope it is in.
    pub scope: Arc<str>,
    /// Where in its life it is.
    pub status: IncidentStatus,
    /// One line for a human.
    pub title: String,
    /// Event time of this state.
    pub updated_at: Timestamp,
    /// Counts the states that were published, from 1.
    pub revision: u32,
    /// Its anomalies as they stand.
    pub signals: Vec<IncidentSignal>,
    /// Anomalies beyond the bound on an incident's size, which are counted only.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub signals_left_out: u64,
    /// Partitions that have telemetry of the scope and were silent when this was judged, for longer than anybody waits: what
    /// they would have shown is not in it. What comes of them later amends it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub judged_without: Vec<ShardId>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde passes a reference
fn is_zero(n: &u64) -> bool {
    *n == 0
}
