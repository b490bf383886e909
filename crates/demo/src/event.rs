//! What the demo tells its story from.

use suture_event::{ActionRequest, Anomaly, Change, Command, Incident, Outcome, Sample, Timestamp};
use suture_simulate::Fault;

/// One thing that happened, in order of simulated time.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant)] // few at a time, and moved on at once
pub enum DemoEvent {
    /// Simulated time went on.
    Clock {
        /// Where it is.
        at: Timestamp,
        /// Simulated seconds a real second.
        speed: f64,
        /// How much of the warm-up is done, 0 to 1; absent once it is over.
        learning: Option<f64>,
    },
    /// What was measured in one step.
    Samples(Vec<Sample>),
    /// A deploy or rollback.
    Change(Change),
    /// An anomaly, in one of its phases.
    Anomaly(Anomaly),
    /// An incident, in a new state.
    Incident(Incident),
    /// An action asked for.
    Remediation(ActionRequest),
    /// What a human said.
    Command(Command),
    /// What became of it.
    Outcome(Outcome),
    /// Something was broken.
    FaultInjected(Fault),
    /// Its cause is gone.
    FaultHealed(Fault),
}

impl DemoEvent {
    /// Its place in the story: when it happened, and causes before effects; `None` for what has no place in it.
    #[must_use]
    pub fn place(&self) -> Option<(Timestamp, u8)> {
        match self {
            Self::Clock { .. } | Self::Samples(_) => None,
            Self::Change(change) => Some((change.at, 0)),
            Self::FaultInjected(fault) => Some((fault.start, 1)),
            Self::FaultHealed(fault) => fault.healed_at.map(|at| (at, 2)),
            Self::Anomaly(anomaly) => Some((anomaly.at, 3)),
            Self::Incident(incident) => Some((incident.updated_at, 4)),
            Self::Command(command) => Some((command.at, 5)),
            Self::Remediation(request) => Some((request.at, 6)),
            Self::Outcome(outcome) => Some((outcome.at, 7)),
        }
    }
}
