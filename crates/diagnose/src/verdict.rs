//! Why a group of anomalies became an incident when it did, or none: for whoever asks.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use suture_event::Timestamp;

/// Groups that reach less than this are not worth telling.
pub(crate) const LEAST: f64 = 2.0;

/// Signals named at most.
pub(crate) const NAMED: usize = 8;

/// What was made of the group of anomalies that stood out most at a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// When it was judged.
    pub at: Timestamp,
    /// The scope.
    pub scope: Arc<str>,
    /// The service that it is about, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Arc<str>>,
    /// The likeliest class of its cause.
    pub class: Arc<str>,
    /// How far it rises above chance, in nats, and how far it must.
    pub height: f64,
    /// See `height`.
    pub bar: f64,
    /// The change whose time made less enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Arc<str>>,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: VerdictOutcome,
    /// Its signals as `metric of service`, the strongest first, at most 8.
    pub signals: Vec<String>,
}

/// What came of a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum VerdictOutcome {
    /// It is an incident now.
    Opened {
        /// Its id.
        incident: Arc<str>,
    },
    /// It belongs to an incident that is open.
    Joined {
        /// Its id.
        incident: Arc<str>,
    },
    /// It does not reach the bar.
    BelowBar,
    /// All of it is inside its band again.
    Passed,
    /// It was seen for one window, and by one kind of signal: the next will tell.
    Waits,
    /// It began with the restart that comes with a change, and is held until it is known whether it stays.
    Held {
        /// Until when.
        until: Timestamp,
    },
    /// As many incidents are open as may be.
    NoRoom,
}
