//! One open incident, and how it is written out.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use suture_event::{
    Direction, Hypothesis, HypothesisKind, Incident, IncidentSignal, IncidentStatus, Resolution, Severity, SignalKind,
    SignalState, Timestamp,
};

use crate::{
    effects::Fault,
    signal::Signal,
    topology::{ServiceId, Topology},
};

/// An incident under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Case {
    pub(crate) id: Arc<str>,
    pub(crate) opened_at: Timestamp,
    pub(crate) resolved_at: Option<Timestamp>,
    /// The service that explained most when it opened.
    pub(crate) centre: ServiceId,
    /// The likeliest sort of fault there, and since when it shows.
    #[serde(default)]
    pub(crate) fault: Fault,
    #[serde(default)]
    pub(crate) onset: Timestamp,
    /// When it is to be ranked again although nothing came.
    #[serde(default)]
    pub(crate) look_again: Option<Timestamp>,
    #[serde(default)]
    pub(crate) resolution: Option<Resolution>,
    /// Nats by which it opened, and the most since.
    pub(crate) height: f64,
    pub(crate) grown: f64,
    pub(crate) signals: Vec<Signal>,
    pub(crate) left_out: u64,
    pub(crate) revision: u32,
    /// When something last came or went.
    pub(crate) news: Timestamp,
    /// Since when every opening signal has been back.
    pub(crate) calm_since: Option<Timestamp>,
    pub(crate) hypotheses: Vec<Hypothesis>,
    pub(crate) none_of_these: f64,
    /// Something changed that is not written out yet.
    pub(crate) dirty: bool,
}

impl Case {
    /// Takes a signal in, or counts it where the list is full.
    pub(crate) fn take(&mut self, signal: Signal, limit: usize, now: Timestamp) {
        self.news = now;
        self.dirty = true;
        if self.signals.len() < limit {
            self.signals.push(signal);
        } else {
            self.left_out += 1;
        }
    }

    /// Whether the signals it opened with are all back, which silence is not.
    pub(crate) fn is_recovered(&self) -> bool {
        self.signals
            .iter()
            .filter(|signal| signal.opening)
            .all(|signal| matches!(signal.state, SignalState::Recovered | SignalState::Adapted))
    }

    /// Whether any signal is still outside its band.
    pub(crate) fn is_active(&self) -> bool {
        self.signals.iter().any(Signal::is_active)
    }

    /// The probability that some change did it.
    pub(crate) fn change_probability(&self) -> f64 {
        self.hypotheses
            .iter()
            .filter(|h| h.kind == HypothesisKind::Change)
            .map(|h| h.probability)
            .sum()
    }

    /// The state to publish.
    pub(crate) fn render(&mut self, scope: &Arc<str>, topology: &Topology, now: Timestamp) -> Incident {
        self.revision += 1;
        self.dirty = false;
        let services = self.services();
        let severity = self.severity(topology);
        Incident {
            id: Arc::clone(&self.id),
            opened_at: self.opened_at,
            resolved_at: self.resolved_at,
            resolution: self.resolution,
            severity,
            title: self.title(&services),
            services,
            anomalies: self.signals.iter().map(|signal| Arc::clone(&signal.id)).collect(),
            hypotheses: self.hypotheses.clone(),
            none_of_these: self.none_of_these,
            scope: Arc::clone(scope),
            status: if self.resolved_at.is_some() {
                IncidentStatus::Resolved
            } else {
                IncidentStatus::Open
            },
            updated_at: now,
            revision: self.revision,
            signals: self
                .signals
                .iter()
                .map(|signal| IncidentSignal {
                    anomaly: Arc::clone(&signal.id),
                    metric: Arc::clone(&signal.metric),
                    service: signal.service_name.clone(),
                    kind: signal.kind,
                    direction: signal.direction,
                    onset: signal.onset,
                    opening: signal.opening,
                    state: signal.state,
                    since: signal.since,
                })
                .collect(),
            signals_left_out: self.left_out,
            judged_without: Vec::new(),
        }
    }

    /// Most affected first: by the number of kinds of signal, then by how far they are off.
    fn services(&self) -> Vec<Arc<str>> {
        let mut worst: BTreeMap<&Arc<str>, BTreeMap<SignalKind, f64>> = BTreeMap::new();
        for signal in &self.signals {
            if let Some(service) = &signal.service_name {
                let deviation = worst.entry(service).or_default().entry(signal.kind).or_insert(0.0);
                *deviation = deviation.max(signal.deviation);
            }
        }
        let mut order: Vec<(&Arc<str>, f64)> = worst
            .into_iter()
            .map(|(service, kinds)| (service, kinds.values().map(|d| (1.0 + d).ln()).sum()))
            .collect();
        order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
        order.into_iter().map(|(service, _)| Arc::clone(service)).collect()
    }

    /// Critical where users feel it: errors, silence, or symptoms where work enters; info where nobody does yet.
    fn severity(&self, topology: &Topology) -> Severity {
        let critical = self.signals.iter().any(|signal| {
            matches!(signal.kind, SignalKind::Errors | SignalKind::Availability)
                || signal.direction == Direction::Absent
                || (signal.kind.is_symptom() && topology.is_entry(signal.service))
        });
        if critical {
            Severity::Critical
        } else if self.signals.iter().any(|signal| signal.kind.is_symptom()) || self.signals.len() > 2 {
            Severity::Warning
        } else {
            Severity::Info
        }
    }

    fn title(&self, services: &[Arc<str>]) -> String {
        let mut kinds: Vec<&'static str> = Vec::new();
        for signal in self.signals.iter().filter(|signal| signal.opening) {
            if !kinds.contains(&signal.kind.name()) {
                kinds.push(signal.kind.name());
            }
        }
        kinds.truncate(3);
        let place = match services {
            [] => "the scope".to_owned(),
            [one] => one.to_string(),
            [one, more @ ..] => format!("{one} and {} more", more.len()),
        };
        let cause = match self.hypotheses.first() {
            Some(top) if top.probability >= self.none_of_these => {
                let seat = top.service.as_deref().unwrap_or("the scope");
                match &top.change {
                    Some(change) => format!("{} {change} of {seat} ({:.0}%)", top.class, 100.0 * top.probability),
                    None => format!("{} in {seat} ({:.0}%)", top.class, 100.0 * top.probability),
                }
            }
            _ => "no known cause".to_owned(),
        };
        format!("{} on {place}: {cause}", kinds.join(", "))
    }
}
