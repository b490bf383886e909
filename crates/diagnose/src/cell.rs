//! Signals that say one thing, put together.

use std::{collections::BTreeMap, sync::Arc};

use suture_event::{Direction, SignalKind, Span, Timestamp};

use crate::{
    effects::Way,
    signal::Signal,
    topology::{ServiceId, Topology},
};

/// Signals of one kind at one place that went the same way. They are too alike to count each by itself.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cell {
    /// Where it points.
    pub(crate) target: ServiceId,
    /// The caller, where it is about the calls between two services.
    pub(crate) caller: Option<ServiceId>,
    pub(crate) kind: SignalKind,
    pub(crate) way: Way,
    /// How surprising it is in calm times, in nats: of the strongest and a part of the next.
    pub(crate) strength: f64,
    /// The largest deviation among its signals.
    pub(crate) deviation: f64,
    pub(crate) onset: Timestamp,
    /// By how much each of its metrics is off, in the metric's own unit.
    pub(crate) added: BTreeMap<Arc<str>, f64>,
    /// Whether what is strongest in it is a further step of a series that was outside already.
    pub(crate) step: bool,
    /// Indices of its signals, strongest first.
    pub(crate) members: Vec<usize>,
}

/// What part of a cell's second signal counts beside the first.
const SECOND: f64 = 0.3;

/// What part each further metric of no known kind counts of what the one before it does, and how many count.
const EACH: f64 = 0.6;
const UNLIKE: usize = 4;

/// What part the strongest signal of each other place where it was measured counts, and how many places count.
const VIEW: f64 = 0.5;
const VIEWS: usize = 2;

/// Sorts signals into cells; with each comes how surprising it is, in nats. What begins longer than `apart` after the one
/// before it is another cell.
pub(crate) fn cells<'a>(signals: impl Iterator<Item = (usize, &'a Signal, f64)>, apart: Span) -> Vec<Cell> {
    let mut sorted: BTreeMap<_, Vec<(f64, usize, &Signal)>> = BTreeMap::new();
    for (index, signal, nats) in signals {
        sorted
            .entry((signal.target, signal.kind, way(signal)))
            .or_default()
            .push((nats, index, signal));
    }
    sorted
        .into_iter()
        .flat_map(|(key, members)| bursts(members, apart).into_iter().map(move |burst| (key, burst)))
        .filter_map(|((target, kind, way), mut members)| {
            members.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            let (first, _, signal) = *members.first()?;
            // the next from the same place is much the same; another place's view of it corroborates
            let beside = if kind == SignalKind::Other {
                unlike(&members)
            } else {
                let mut rest = members.iter().skip(1);
                let next = rest.find(|m| m.2.service == signal.service);
                SECOND * next.map_or(0.0, |m| m.0)
            };
            let mut views: Vec<ServiceId> = vec![signal.service];
            let mut viewed = 0.0;
            for (nats, _, other) in &members {
                if views.len() <= VIEWS && !views.contains(&other.service) {
                    views.push(other.service);
                    viewed += nats;
                }
            }
            let mut added: BTreeMap<Arc<str>, f64> = BTreeMap::new();
            for (_, _, signal) in members.iter().filter(|m| m.2.service == target) {
                let by = signal.value.map_or(0.0, |value| (value - signal.expected).abs());
                let known = added.entry(Arc::clone(&signal.metric)).or_default();
                *known = known.max(by);
            }
            // the strong ones say since when; a weak one that was there before may be a coincidence
            let onset = members
                .iter()
                .filter(|m| m.0 >= 0.5 * first)
                .map(|m| m.2.onset)
                .min()
                .unwrap_or(signal.onset);
            Some(Cell {
                target,
                caller: signal.caller,
                kind,
                way,
                strength: first + beside + VIEW * viewed,
                deviation: members.iter().map(|m| m.2.deviation).fold(0.0, f64::max),
                onset,
                added,
                step: signal.step,
                members: members.iter().map(|m| m.1).collect(),
            })
        })
        .collect()
}

/// What further metrics of the strongest one's place count, where nobody knows what any of them is about: each is its own
/// thing, and yet one load or one clock moves many, so each counts a part of what the one before it does.
fn unlike(members: &[(f64, usize, &Signal)]) -> f64 {
    let Some((_, _, first)) = members.first() else {
        return 0.0;
    };
    let (mut seen, mut part, mut sum) = (vec![&first.metric], 1.0, 0.0);
    for (nats, _, signal) in members.iter().filter(|m| m.2.service == first.service) {
        if seen.len() <= UNLIKE && !seen.contains(&&signal.metric) {
            seen.push(&signal.metric);
            part *= EACH;
            sum += part * nats;
        }
    }
    sum
}

/// Those that began close to each other, in order of time.
fn bursts(mut members: Vec<(f64, usize, &Signal)>, apart: Span) -> Vec<Vec<(f64, usize, &Signal)>> {
    members.sort_by(|a, b| a.2.onset.cmp(&b.2.onset).then(a.1.cmp(&b.1)));
    let mut found: Vec<Vec<(f64, usize, &Signal)>> = Vec::new();
    for member in members {
        match found.last_mut().filter(|burst| {
            burst
                .last()
                .is_some_and(|last| member.2.onset.since(last.2.onset) <= apart)
        }) {
            Some(burst) => burst.push(member),
            None => found.push(vec![member]),
        }
    }
    found
}

/// On which side a signal is; for symptoms, whether that is the bad one.
pub(crate) fn way(signal: &Signal) -> Way {
    match (signal.direction, signal.kind == SignalKind::Availability) {
        (Direction::Absent, _) => Way::Absent,
        (Direction::Up, true) | (Direction::Down, false) => Way::Down,
        (Direction::Up, false) | (Direction::Down, true) => Way::Up,
    }
}

/// The services that cells lie on or point at, with those around them: where a cause may sit.
pub(crate) fn seats(cells: &[Cell], topology: &Topology, most: usize) -> Vec<ServiceId> {
    let mut sums: BTreeMap<ServiceId, f64> = BTreeMap::new();
    for cell in cells {
        *sums.entry(cell.target).or_default() += cell.strength;
        if let Some(caller) = cell.caller {
            *sums.entry(caller).or_default() += 0.3 * cell.strength;
        }
        if cell.kind.is_symptom() && cell.way == Way::Up {
            for (service, hop) in topology.below(cell.target, 2) {
                *sums.entry(service).or_default() += 0.8_f64.powi(i32::try_from(hop).unwrap_or(1)) * cell.strength;
            }
        } else if cell.kind == SignalKind::Traffic {
            for (service, _) in topology.above(cell.target, 2) {
                *sums.entry(service).or_default() += 0.4 * cell.strength;
            }
        }
    }
    let mut order: Vec<(ServiceId, f64)> = sums.into_iter().collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    order.truncate(most);
    order.into_iter().map(|(service, _)| service).collect()
}
