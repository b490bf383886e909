//! Spans of windows in which a series left its expected band.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Labels, SignalKind, Timestamp};

/// On which side of its band a series was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Above it.
    Up,
    /// Below it.
    Down,
    /// Nowhere: the series sends nothing.
    Absent,
}

/// Where in its life an anomaly is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnomalyPhase {
    /// It was raised just now.
    Opened,
    /// It became more severe; `score`, `value`, `expected` and the band are those of the worst window so far.
    Grown,
    /// Its series was inside the band again for a window. Where it goes out again it is told as grown; where it stays the
    /// anomaly ends in time.
    Eased,
    /// It is over.
    Ended,
}

/// Why an anomaly ended. Only [`EndReason::Recovered`] is recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The series came back inside the band it had before.
    Recovered,
    /// The series stayed where it was until that became what is expected.
    Adapted,
    /// The series stopped sending: nothing is known.
    Silent,
}

/// An anomaly of one series, in one phase. A series has at most one open at a time for each detector group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Anomaly {
    /// Stable identity: the same series, detector and onset give the same id.
    pub id: Arc<str>,
    /// Close of the window that is reported here: of the one that raised it while `phase` is `opened`.
    pub at: Timestamp,
    /// Start of the first window that was outside.
    pub onset: Timestamp,
    /// Where in its life it is.
    pub phase: AnomalyPhase,
    /// Why it ended, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<EndReason>,
    /// The metric's name.
    pub metric: Arc<str>,
    /// The series' labels.
    pub labels: Labels,
    /// The service (the pipeline's `entity` label) it belongs to, where it has that label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Arc<str>>,
    /// What the series measures.
    pub signal: SignalKind,
    /// The detector that raised it.
    pub detector: Arc<str>,
    /// 1 less the probability of a window as unusual as this one, in 0..=1.
    pub score: f64,
    /// How many robust standard deviations outside, at least 0: what is left of the order where scores round to 1.
    pub deviation: f64,
    /// What was measured; absent for a silent series.
    pub value: Option<f64>,
    /// What was expected.
    pub expected: f64,
    /// Lower end of the expected band.
    pub lower: f64,
    /// Upper end of the expected band.
    pub upper: f64,
    /// On which side.
    pub direction: Direction,
    /// Why it fired, in words with the numbers.
    pub detail: String,
}
