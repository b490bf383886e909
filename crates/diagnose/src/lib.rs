//! Topology, grouping, change correlation: ranked hypotheses with their evidence
//!
//! [`Diagnoser`] is a fold over the anomalies, changes and call edges of one scope. It says which anomalies are one
//! incident, when a group of them is worth one, and what most likely caused it.

mod options;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use suture_event::{Anomaly, Change, Edge, Incident, Timestamp};

pub use options::{
    ChangeOptions, FalseIncidents, GroupOptions, LimitOptions, OpenOptions, Options, Problem, ResolveOptions,
};

/// One input of the fold.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// An edge of the call graph.
    Edge(&'a Edge),
    /// A change.
    Change(&'a Change),
    /// An anomaly in one of its phases.
    Anomaly(&'a Anomaly),
    /// Time has come to here.
    Time(Timestamp),
}

/// The state of diagnosis in one scope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Diagnoser {
    options: Options,
    scope: Arc<str>,
    now: Timestamp,
}

impl Diagnoser {
    /// Diagnosis of one scope, knowing nothing yet.
    #[must_use]
    pub fn new(options: Options, scope: Arc<str>) -> Self {
        Self {
            options,
            scope,
            now: Timestamp::MIN,
        }
    }

    /// Takes one input and gives the incidents that changed by it, each in full, in order.
    pub fn step(&mut self, input: Input<'_>) -> Vec<Incident> {
        let at = match input {
            Input::Time(at) => at,
            Input::Anomaly(anomaly) => anomaly.at,
            Input::Change(change) => change.at,
            Input::Edge(_) => self.now,
        };
        self.now = self.now.max(at);
        Vec::new()
    }

    /// The scope it is for.
    #[must_use]
    pub fn scope(&self) -> &Arc<str> {
        &self.scope
    }
}
