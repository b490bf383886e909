//! An anomaly under way, where it points, and what a group of them adds up to.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use suture_event::{Anomaly, Direction, SeriesKey, SignalKind, SignalState, Span, Timestamp};

use crate::{
    background::Background,
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
    /// Whether it was there when its incident opened.
    pub(crate) opening: bool,
}

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
        let key = SeriesKey {
            metric: Arc::clone(&anomaly.metric),
            labels: anomaly.labels.clone(),
        };
        Self {
            id: Arc::clone(&anomaly.id),
            series: key.hash64(),
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
            opening: false,
        }
    }

    pub(crate) fn is_active(&self) -> bool {
        self.state == SignalState::Active
    }
}

/// How much of a signal a fault in each service would explain, from 1 down; services not listed explain nothing of it.
///
/// A fault shows on its own service in any kind of signal. It shows as latency and errors on those who call it, less
/// surely with each call between; as changed traffic on those it calls and on those its callers call; and the machine
/// below is shared with neighbours.
pub(crate) fn blame(signal: &Signal, topology: &Topology) -> Vec<(ServiceId, f64)> {
    let mut found = vec![(signal.target, 1.0)];
    if signal.target == NOWHERE {
        return found;
    }
    if let Some(caller) = signal.caller {
        found.push((caller, 0.35));
    }
    let mut add = |reached: Vec<(ServiceId, u32)>, by_hop: &[f64]| {
        for (service, hop) in reached {
            if let Some(share) = by_hop.get(hop as usize - 1)
                && found.iter().all(|(known, _)| *known != service)
            {
                found.push((service, *share));
            }
        }
    };
    if signal.kind.is_symptom() {
        add(topology.below(signal.target, 3), &[0.9, 0.75, 0.6]);
    } else {
        match signal.kind {
            SignalKind::Traffic | SignalKind::Network => {
                add(topology.above(signal.target, 2), &[0.6, 0.4]);
                add(topology.below(signal.target, 1), &[0.3]);
                // a caller that is held up by one service sends less to the others
                add(topology.siblings(signal.target), &[0.3]);
            }
            SignalKind::Node => {
                add(topology.above(signal.target, 2), &[0.3, 0.3]);
                add(topology.below(signal.target, 2), &[0.3, 0.3]);
            }
            SignalKind::Cpu => {
                add(topology.above(signal.target, 2), &[0.3, 0.2]);
                add(topology.below(signal.target, 1), &[0.2]);
            }
            _ => {
                add(topology.above(signal.target, 1), &[0.15]);
                add(topology.below(signal.target, 1), &[0.3]);
            }
        }
    }
    found
}

/// Signals that say one thing: one kind at one place. They are too alike to count each by itself.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cell {
    pub(crate) target: ServiceId,
    pub(crate) kind: SignalKind,
    /// Nats, of the strongest and a part of the next.
    pub(crate) strength: f64,
    /// Indices of its signals, strongest first.
    pub(crate) members: Vec<usize>,
    pub(crate) blame: Vec<(ServiceId, f64)>,
}

impl Cell {
    /// How much of it a fault in `service` would explain.
    pub(crate) fn share(&self, service: ServiceId) -> f64 {
        self.blame
            .iter()
            .find(|(id, _)| *id == service)
            .map_or(0.0, |(_, share)| *share)
    }
}

/// What part of a cell's second signal counts beside the first.
const SECOND: f64 = 0.3;

/// What part the strongest signal of each other place where it was measured counts, and how many places count.
const VIEW: f64 = 0.6;
const VIEWS: usize = 2;

/// Sorts signals into cells; `weigh` gives each one's nats.
pub(crate) fn cells<'a>(signals: impl Iterator<Item = (usize, &'a Signal, f64)>, topology: &Topology) -> Vec<Cell> {
    let mut sorted: BTreeMap<_, Vec<(f64, usize, &Signal)>> = BTreeMap::new();
    for (index, signal, nats) in signals {
        sorted
            .entry((signal.target, signal.kind))
            .or_default()
            .push((nats, index, signal));
    }
    sorted
        .into_iter()
        .filter_map(|((target, kind), mut members)| {
            members.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            let (first, _, signal) = *members.first()?;
            // the next from the same place is much the same; another place's view of it corroborates
            let beside = members
                .iter()
                .skip(1)
                .find(|m| m.2.service == signal.service)
                .map_or(0.0, |m| m.0);
            let mut views: Vec<ServiceId> = vec![signal.service];
            let mut viewed = 0.0;
            for (nats, _, other) in &members {
                if views.len() <= VIEWS && !views.contains(&other.service) {
                    views.push(other.service);
                    viewed += nats;
                }
            }
            Some(Cell {
                target,
                kind,
                strength: first + SECOND * beside + VIEW * viewed,
                blame: blame(signal, topology),
                members: members.iter().map(|m| m.1).collect(),
            })
        })
        .collect()
}

/// What part of its surprise a signal keeps that went to the better side: faster, fewer errors.
const RELIEF: f64 = 0.25;

/// How surprising a signal is, in nats, if it came up within `span`.
pub(crate) fn surprise(signal: &Signal, background: &Background, span: Span, now: Timestamp) -> f64 {
    let nats = background.surprise(signal.series, signal.kind, signal.deviation, span, now);
    let relief = matches!(
        (signal.kind, signal.direction),
        (SignalKind::Latency | SignalKind::Errors, Direction::Down) | (SignalKind::Availability, Direction::Up)
    );
    if relief { RELIEF * nats } else { nats }
}

/// What part of its callers' added delay a callee must add itself to explain all of it: callers call more than once, and
/// percentiles do not add up.
const ENOUGH: f64 = 0.1;

/// The same cells, with latency explained only as far as it goes: a callee makes its callers wait for as long as it waits
/// itself, so one that adds far less than they do is not what holds them up. Delays are compared within one metric, for
/// its unit's sake; a service of which no delay is known is given the benefit of the doubt.
pub(crate) fn dosed(cells: &[Cell], signals: &[Signal]) -> Vec<Cell> {
    let delays = |cell: &Cell| -> BTreeMap<Arc<str>, f64> {
        let mut most = BTreeMap::new();
        let latencies = cell.members.iter().filter_map(|member| signals.get(*member));
        for signal in latencies.filter(|signal| signal.kind == SignalKind::Latency && signal.service == cell.target) {
            let added = signal.value.map_or(0.0, |value| value - signal.expected);
            let known: &mut f64 = most.entry(Arc::clone(&signal.metric)).or_default();
            *known = known.max(added);
        }
        most
    };
    let known: Vec<(ServiceId, BTreeMap<Arc<str>, f64>)> =
        cells.iter().map(|cell| (cell.target, delays(cell))).collect();
    let dose = |service: ServiceId, theirs: &BTreeMap<Arc<str>, f64>| {
        let own = known.iter().filter(|(target, _)| *target == service);
        let pairs = own.flat_map(|(_, mine)| {
            let of = |(metric, added): (&Arc<str>, &f64)| Some(theirs.get(metric)?.max(1e-300)).map(|t| added / t);
            mine.iter().filter_map(of).collect::<Vec<_>>()
        });
        let most = pairs.fold(f64::NAN, f64::max);
        if most.is_nan() { 1.0 } else { (most / ENOUGH).min(1.0) }
    };
    let mut dosed = cells.to_vec();
    for (cell, (target, theirs)) in dosed.iter_mut().zip(&known) {
        for (service, share) in &mut cell.blame {
            if service != target && !theirs.is_empty() {
                *share *= dose(*service, theirs);
            }
        }
    }
    dosed
}

/// What all cells together say for a fault in each service.
pub(crate) fn centres(cells: &[Cell]) -> BTreeMap<ServiceId, f64> {
    let mut sums = BTreeMap::new();
    for cell in cells {
        for (service, share) in &cell.blame {
            *sums.entry(*service).or_insert(0.0) += share * cell.strength;
        }
    }
    sums
}
