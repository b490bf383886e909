//! What a pipeline file may say about diagnosis.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use suture_event::Span;

/// How anomalies become incidents, and incidents get their causes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
pub struct Options {
    /// When a group of anomalies is worth an incident.
    pub open: OpenOptions,
    /// Which anomalies belong together.
    pub group: GroupOptions,
    /// How changes are tied to incidents.
    pub changes: ChangeOptions,
    /// When an incident is over.
    pub resolve: ResolveOptions,
    /// Bounds on what is kept.
    pub limits: LimitOptions,
}

/// How many false incidents may be expected in how long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FalseIncidents {
    /// So many.
    pub at_most: f64,
    /// In so long.
    pub per: Span,
}

impl Default for FalseIncidents {
    fn default() -> Self {
        Self {
            at_most: 1.0,
            per: Span::from_hours(24 * 7),
        }
    }
}

/// When a group of anomalies is worth an incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
pub struct OpenOptions {
    /// How many incidents without a cause the scope will stand; what a group must show follows from this and from how
    /// often groups as strong came up in calm times.
    pub false_incidents: FalseIncidents,
}

/// Which anomalies belong together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GroupOptions {
    /// Anomalies whose onsets lie further apart than this are not of one cause.
    pub within: Span,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            within: Span::from_mins(5),
        }
    }
}

/// How changes are tied to incidents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChangeOptions {
    /// Changes older than this at an incident's onset are no suspects.
    pub look_back: Span,
    /// For this long after a change, what it would explain is held: no incident opens unless it outlasts the span.
    pub grace: Span,
}

impl Default for ChangeOptions {
    fn default() -> Self {
        Self {
            look_back: Span::from_mins(60),
            grace: Span::ZERO,
        }
    }
}

/// When an incident is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResolveOptions {
    /// Once every signal is back, this long without a relapse.
    pub calm: Span,
    /// With signals silent and nothing new for this long, the incident is closed, not recovered.
    pub quiet: Span,
}

impl Default for ResolveOptions {
    fn default() -> Self {
        Self {
            calm: Span::from_mins(1),
            quiet: Span::from_hours(2),
        }
    }
}

/// Bounds on what is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitOptions {
    /// Services known; further ones are not placed in the call graph.
    pub services: usize,
    /// Edges known; further ones are ignored.
    pub edges: usize,
    /// Changes remembered; the oldest goes first.
    pub changes: usize,
    /// Anomalies under way at once; further ones are counted only.
    pub anomalies: usize,
    /// Incidents open at once; further anomalies join the nearest.
    pub incidents: usize,
    /// Anomalies listed in one incident; further ones are counted only.
    pub signals: usize,
}

impl Default for LimitOptions {
    fn default() -> Self {
        Self {
            services: 10_000,
            edges: 50_000,
            changes: 1_000,
            anomalies: 20_000,
            incidents: 64,
            signals: 500,
        }
    }
}

/// Something in the options that cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, as `open.false_incidents.at_most`.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: String,
}

impl Options {
    /// Every problem that the types do not rule out.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        Vec::new()
    }
}
