//! An anomaly under way, where it points, and how surprising it is.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use suture_event::{Anomaly, AnomalyPhase, Direction, EndReason, SeriesKey, SignalKind, SignalState, Span, Timestamp};

use crate::{
    background::{Background, Watched},
    topology::{ServiceId, Topology},
};

/// Stands for "no service" where a series has no such label.
pub(crate) const NOWHERE: ServiceId = ServiceId::MAX;

/// One anomaly as diagnosis keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Signal {
    pub(crate) id: Arc<str>,
    pub(crate) series: u64,
    pub(crate) metric: Arc<str>,
    pub(crate) service_name: Option<Arc<str>>,
    /// Where it was measured.
    pub(crate) service: ServiceId,
    /// Where it points: the callee, for a series about the calls between two services; otherwise where it was measured.
    pub(crate) target: ServiceId,
    /// The caller, for a series about calls.
    pub(crate) caller: Option<ServiceId>,
    pub(crate) kind: SignalKind,
    pub(crate) direction: Direction,
    pub(crate) onset: Timestamp,
    /// Close of the window that raised it.
    pub(crate) at: Timestamp,
    pub(crate) deviation: f64,
    pub(crate) value: Option<f64>,
    pub(crate) expected: f64,
    pub(crate) state: SignalState,
    pub(crate) since: Timestamp,
    /// Inside its band again, if not yet for long enough to be over.
    #[serde(default)]
    pub(crate) eased: bool,
    /// For how long it was outside before it first came back.
    #[serde(default)]
    pub(crate) lasted: Option<Span>,
    /// Whether it was there when its incident opened.
    pub(crate) opening: bool,
    /// Whether its series was outside before, and went a step further.
    #[serde(default)]
    pub(crate) step: bool,
}

/// The series that an anomaly is of.
pub(crate) fn series_of(anomaly: &Anomaly) -> u64 {
    let key = SeriesKey {
        metric: Arc::clone(&anomaly.metric),
        labels: anomaly.labels.clone(),
    };
    key.hash64()
}

/// The detector that tells of steps of series that are outside already.
const STEP: &str = "step";

impl Signal {
    /// Reads an anomaly. A label other than the service's own whose value is a neighbour in the call graph makes the
    /// series one about the calls between the two.
    pub(crate) fn new(anomaly: &Anomaly, service: ServiceId, topology: &Topology) -> Self {
        let mut target = service;
        let mut caller = None;
        if service != NOWHERE {
            for (_, value) in anomaly.labels.iter() {
                let Some(peer) = topology.find(value).filter(|peer| *peer != service) else {
                    continue;
                };
                if topology.calls(service, peer) {
                    (target, caller) = (peer, Some(service));
                    break;
                }
                if topology.calls(peer, service) {
                    caller = Some(peer);
                    break;
                }
            }
        }
        Self {
            id: Arc::clone(&anomaly.id),
            series: series_of(anomaly),
            metric: Arc::clone(&anomaly.metric),
            service_name: anomaly.service.clone(),
            service,
            target,
            caller,
            kind: anomaly.signal,
            direction: anomaly.direction,
            onset: anomaly.onset,
            at: anomaly.at,
            deviation: anomaly.deviation,
            value: anomaly.value,
            expected: anomaly.expected,
            state: SignalState::Active,
            since: anomaly.at,
            eased: false,
            lasted: None,
            opening: false,
            step: &*anomaly.detector == STEP,
        }
    }

    /// By how much of what was expected it is off, either way: 1 for twice as much and for half.
    fn share(&self) -> Option<f64> {
        let (value, expected) = (self.value?.abs(), self.expected.abs());
        let ratio = value.max(expected) / value.min(expected).max(1e-9 * expected.max(1e-300));
        Some(ratio - 1.0).filter(|share| share.is_finite())
    }

    /// Takes in how its anomaly goes on.
    pub(crate) fn tell(&mut self, anomaly: &Anomaly) {
        if matches!(anomaly.phase, AnomalyPhase::Eased | AnomalyPhase::Ended) {
            self.lasted.get_or_insert(anomaly.at.since(self.at));
        }
        match anomaly.phase {
            AnomalyPhase::Eased => self.eased = true,
            AnomalyPhase::Opened | AnomalyPhase::Grown => {
                self.eased = false;
                self.deviation = self.deviation.max(anomaly.deviation);
                self.value = anomaly.value;
                self.expected = anomaly.expected;
                if !self.is_active() {
                    self.state = SignalState::Active;
                    self.since = anomaly.at;
                }
            }
            AnomalyPhase::Ended => {
                self.state = match anomaly.end {
                    Some(EndReason::Adapted) => SignalState::Adapted,
                    Some(EndReason::Silent) => SignalState::Silent,
                    Some(EndReason::Recovered) | None => SignalState::Recovered,
                };
                self.since = anomaly.at;
            }
        }
    }

    /// For how many windows of this width it was outside, from the one that raised it until it first came back.
    pub(crate) fn windows(&self, window: Span, now: Timestamp) -> f64 {
        let lasted = self.lasted.unwrap_or_else(|| now.since(self.at));
        (lasted.as_secs_f64() / window.as_secs_f64().max(1e-3)).max(0.0)
    }

    /// The metric and its service.
    pub(crate) fn words(&self) -> String {
        match &self.service_name {
            Some(service) => format!("{} of {service}", self.metric),
            None => self.metric.to_string(),
        }
    }

    /// Kind and side, by which anomalies are counted.
    pub(crate) fn sort(&self) -> (SignalKind, bool) {
        (self.kind, self.direction == Direction::Up)
    }

    pub(crate) fn is_active(&self) -> bool {
        self.state == SignalState::Active
    }
}

/// What part of its surprise a signal keeps that went to the better side: faster, fewer errors.
const RELIEF: f64 = 0.25;

/// The same for a resource of which less is used.
const SPARED: f64 = 0.6;

/// Work comes and goes: a change of traffic counts in full from this share on, and less the smaller it is.
const TIDE: f64 = 2.0;

/// How surprising a signal is, in nats, if it came up within `span` of calm time and is still there.
pub(crate) fn surprise(
    signal: &Signal,
    background: &Background,
    watched: Watched,
    (span, window): (Span, Span),
    now: Timestamp,
) -> f64 {
    let nats = background.surprise(signal.series, signal.sort(), signal.deviation, watched, span, now)
        + background.lasting(signal.windows(window, now));
    let relief = matches!(
        (signal.kind, signal.direction),
        (SignalKind::Latency | SignalKind::Errors, Direction::Down) | (SignalKind::Availability, Direction::Up)
    );
    let spared = matches!(
        (signal.kind, signal.direction),
        (
            SignalKind::Cpu | SignalKind::Memory | SignalKind::Disk | SignalKind::Saturation | SignalKind::Network,
            Direction::Down
        )
    );
    let by = match signal.kind {
        SignalKind::Traffic => signal.share().map_or(1.0, |share| (share / TIDE).clamp(0.2, 1.0)),
        _ => 1.0,
    };
    if relief {
        RELIEF * nats
    } else if spared {
        SPARED * nats
    } else {
        by * nats
    }
}
