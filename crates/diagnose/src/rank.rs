//! What could have caused an incident, and how likely each is.
//!
//! Every candidate starts from prior log-odds and gains or loses by evidence, each piece a number of nats. What a cause
//! leaves unexplained must have come by chance, which costs it; what nobody explains costs all alike, so that "none of
//! these" gains. A softmax over the candidates and "none of these" gives the probabilities.

use std::{collections::BTreeSet, sync::Arc};

use suture_event::{
    Change, ChangeKind, Direction, Evidence, EvidenceKind, Hypothesis, HypothesisKind, SignalKind, Span, Timestamp,
};

use crate::{
    options::Options,
    signal::{Cell, NOWHERE, Signal, centres, dosed},
    topology::{ServiceId, Topology},
};

/// Services weighed as the seat of a cause: those that explain most.
const SEATS: usize = 12;

/// What ranking looks at.
pub(crate) struct Scene<'a> {
    pub(crate) options: &'a Options,
    pub(crate) topology: &'a Topology,
    pub(crate) signals: &'a [Signal],
    pub(crate) cells: &'a [Cell],
    /// Changes that may come into question, with their service's number.
    pub(crate) changes: &'a [(ServiceId, Change)],
    /// Changes blamed for an earlier incident that is over.
    pub(crate) spent: &'a BTreeSet<Arc<str>>,
}

struct Candidate {
    kind: HypothesisKind,
    service: Option<ServiceId>,
    change: Option<Arc<str>>,
    class: &'static str,
    odds: f64,
    evidence: Vec<Evidence>,
}

/// The hypotheses, most likely first, and the probability of none of them.
pub(crate) fn rank(scene: &Scene<'_>) -> (Vec<Hypothesis>, f64) {
    let cells = dosed(scene.cells, scene.signals);
    let scene = &Scene {
        cells: &cells,
        ..*scene
    };
    let sums = centres(scene.cells);
    let mut seats: Vec<(ServiceId, f64)> = sums.into_iter().collect();
    seats.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let explained_most = seats.first().map_or(0.0, |seat| seat.1);
    seats.truncate(SEATS);
    let mut candidates = Vec::new();
    for (service, explained) in &seats {
        let seat = scene.seat(*service, *explained, explained_most);
        candidates.extend(scene.changes_of(*service).map(|change| scene.change(&seat, change)));
        candidates.push(scene.fault(seat));
    }
    candidates.extend(scene.surge(explained_most));
    weigh(scene, candidates)
}

fn weigh(scene: &Scene<'_>, mut candidates: Vec<Candidate>) -> (Vec<Hypothesis>, f64) {
    candidates.sort_by(|a, b| {
        b.odds
            .total_cmp(&a.odds)
            .then_with(|| (a.kind, a.service, &a.change).cmp(&(b.kind, b.service, &b.change)))
    });
    let none = scene.options.rank.none;
    let top = candidates.first().map_or(none, |c| c.odds.max(none));
    let total: f64 = candidates.iter().map(|c| (c.odds - top).exp()).sum::<f64>() + (none - top).exp();
    candidates.truncate(scene.options.rank.hypotheses);
    let mut left = 1.0;
    let hypotheses = candidates
        .into_iter()
        .zip(1..)
        .map(|(mut candidate, rank)| {
            let probability = (candidate.odds - top).exp() / total;
            left -= probability;
            candidate
                .evidence
                .sort_by(|a, b| b.weight.abs().total_cmp(&a.weight.abs()));
            Hypothesis {
                rank,
                kind: candidate.kind,
                service: candidate.service.and_then(|id| scene.topology.name(id)).cloned(),
                change: candidate.change,
                class: candidate.class.into(),
                probability,
                evidence: candidate.evidence,
            }
        })
        .collect();
    (hypotheses, left.max(0.0))
}

/// A service as the place where the cause sits.
struct Seat {
    service: ServiceId,
    evidence: Vec<Evidence>,
    /// Cells that lie on the service itself or point at it.
    own: Vec<usize>,
    /// When what it explains had begun.
    onset: Timestamp,
    onset_known_by: Timestamp,
    /// Signals that the timing rests on.
    signals: Vec<Arc<str>>,
}

impl Seat {
    fn odds(&self) -> f64 {
        self.evidence.iter().map(|e| e.weight).sum()
    }
}

fn evidence(kind: EvidenceKind, weight: f64, detail: String, signals: Vec<Arc<str>>) -> Evidence {
    Evidence {
        kind,
        detail,
        weight,
        signals,
    }
}

impl Scene<'_> {
    fn ids(&self, cells: impl IntoIterator<Item = usize>) -> Vec<Arc<str>> {
        cells
            .into_iter()
            .filter_map(|cell| self.cells.get(cell))
            .flat_map(|cell| cell.members.iter())
            .filter_map(|member| self.signals.get(*member))
            .map(|signal| Arc::clone(&signal.id))
            .take(20)
            .collect()
    }

    fn first<'b>(&'b self, cell: &Cell) -> Option<&'b Signal> {
        cell.members
            .iter()
            .filter_map(|member| self.signals.get(*member))
            .min_by_key(|signal| signal.onset)
    }

    fn name(&self, service: ServiceId) -> &str {
        self.topology.name(service).map_or("the scope", |name| name.as_ref())
    }

    /// What speaks for and against a cause in this service, whatever the cause.
    fn seat(&self, service: ServiceId, explained: f64, explained_most: f64) -> Seat {
        let total: f64 = self.cells.iter().map(|cell| cell.strength).sum();
        let held: Vec<usize> = (0..self.cells.len())
            .filter(|i| self.cells[*i].share(service) >= 0.3)
            .collect();
        let own: Vec<usize> = (0..self.cells.len())
            .filter(|i| self.cells[*i].target == service)
            .collect();
        let mut found = Vec::new();
        // relative to the candidate that explains most, so that the size of a storm favours nobody
        let rate = self.options.rank.unexplained;
        let base = (rate * (2.0 * explained_most - total)).clamp(-1.0, 3.0);
        found.push(evidence(
            EvidenceKind::Coverage,
            base - rate * (explained_most - explained),
            format!(
                "a cause in {} explains {} of {} groups of signals, {:.0}% of the evidence",
                self.name(service),
                held.len(),
                self.cells.len(),
                100.0 * explained / total.max(1e-9)
            ),
            self.ids(held.iter().copied()),
        ));
        found.extend(self.own_signals(service, &own));
        let (onset, onset_known_by, signals) = self.onset(service);
        found.extend(self.order(service, &own));
        Seat {
            service,
            evidence: found,
            own,
            onset,
            onset_known_by,
            signals,
        }
    }

    /// Resource use of the service itself points at it; a service without a signal of its own is an unlikely seat.
    fn own_signals(&self, service: ServiceId, own: &[usize]) -> Option<Evidence> {
        let telling = own.iter().copied().filter(|i| {
            !self.cells[*i].kind.is_symptom() && !matches!(self.cells[*i].kind, SignalKind::Traffic | SignalKind::Node)
        });
        let strongest = telling.max_by(|a, b| self.cells[*a].strength.total_cmp(&self.cells[*b].strength));
        if let Some(cell) = strongest.and_then(|i| self.cells.get(i)) {
            let signal = self.signals.get(*cell.members.first()?)?;
            return Some(evidence(
                EvidenceKind::Signal,
                (0.25 * cell.strength).min(2.5),
                format!(
                    "{} of {} itself is {}, {:.1} deviations off, and effects of others seldom show there",
                    signal.metric,
                    self.name(service),
                    side(signal.direction),
                    signal.deviation
                ),
                vec![Arc::clone(&signal.id)],
            ));
        }
        let carried = own
            .iter()
            .filter_map(|i| self.cells.get(*i))
            .all(|cell| cell.kind == SignalKind::Traffic);
        if carried && !own.is_empty() {
            return Some(evidence(
                EvidenceKind::Signal,
                -2.0,
                format!(
                    "of {} itself only the work that others send it is out of its band",
                    self.name(service)
                ),
                self.ids(own.iter().copied()),
            ));
        }
        if own.is_empty() {
            return Some(evidence(
                EvidenceKind::Signal,
                -2.5,
                format!("no signal of {} itself is out of its band", self.name(service)),
                Vec::new(),
            ));
        }
        None
    }

    /// When the evidence for a seat had begun: the onset by which a quarter of it was there, so that one early
    /// coincidence does not set the time.
    fn onset(&self, service: ServiceId) -> (Timestamp, Timestamp, Vec<Arc<str>>) {
        let mut begun: Vec<(Timestamp, Timestamp, f64, &Signal)> = self
            .cells
            .iter()
            .filter_map(|cell| {
                let signal = self.first(cell)?;
                Some((signal.onset, signal.at, cell.strength * cell.share(service), signal))
            })
            .filter(|(_, _, weight, _)| *weight > 0.0)
            .collect();
        begun.sort_by(|a, b| (a.0, &a.3.id).cmp(&(b.0, &b.3.id)));
        let total: f64 = begun.iter().map(|b| b.2).sum();
        let mut sum = 0.0;
        let mut ids = Vec::new();
        for (onset, at, weight, signal) in begun {
            sum += weight;
            ids.push(Arc::clone(&signal.id));
            if sum >= 0.25 * total {
                return (onset, at, ids);
            }
        }
        (Timestamp::MIN, Timestamp::MIN, ids)
    }

    /// Causes come before effects.
    fn order(&self, service: ServiceId, own: &[usize]) -> Option<Evidence> {
        let strong: Vec<&Cell> = self.cells.iter().filter(|cell| cell.strength >= 3.0).collect();
        let first_of =
            |cells: &mut dyn Iterator<Item = &Cell>| cells.filter_map(|cell| self.first(cell)).map(|s| s.onset).min();
        let mine = first_of(
            &mut own
                .iter()
                .filter_map(|i| self.cells.get(*i))
                .filter(|cell| cell.strength >= 3.0),
        )?;
        let others = first_of(&mut strong.iter().copied().filter(|cell| cell.target != service))?;
        // an onset is known to no better than a window
        let windows = strong.iter().filter_map(|cell| self.first(cell));
        let window = windows.map(|signal| signal.at.since(signal.onset)).min()?.as_secs_f64() / 60.0;
        let apart = others.since(mine).as_secs_f64() / 60.0;
        let ahead = apart.signum() * (apart.abs() - window).max(0.0);
        let weight = (0.25 * ahead).clamp(-1.0, 1.0);
        let detail = if ahead > 0.0 {
            format!("{} was off {ahead:.1} min before any other service", self.name(service))
        } else if ahead < 0.0 {
            format!(
                "another service was off {:.1} min before {}",
                -ahead,
                self.name(service)
            )
        } else {
            return None;
        };
        Some(evidence(
            EvidenceKind::Onset,
            weight,
            detail,
            self.ids(own.iter().copied()),
        ))
    }

    fn changes_of(&self, service: ServiceId) -> impl Iterator<Item = &Change> {
        self.changes
            .iter()
            .filter(move |(id, _)| *id == service)
            .map(|(_, change)| change)
    }

    /// A change made to the seat: how well its time fits, and how often changes are bad.
    fn change(&self, seat: &Seat, change: &Change) -> Candidate {
        let options = &self.options.changes;
        let mut found = seat.evidence.clone();
        let lag = seat.onset.since(change.at).max(Span::ZERO).as_secs_f64();
        let (mean, back) = (options.typical_lag.as_secs_f64(), options.look_back.as_secs_f64());
        let density = (1.0 - options.slow_share) * (-lag / mean).exp() / mean + options.slow_share / back;
        let spontaneous = self.options.rank.spontaneous.at_most / self.options.rank.spontaneous.per.as_secs_f64();
        let late = change.at > seat.onset_known_by;
        let timing = if late { -8.0 } else { (density * back).ln() };
        let told = if late {
            format!(
                "the change came {:.1} min after the first signs",
                change.at.since(seat.onset).as_secs_f64() / 60.0
            )
        } else {
            format!(
                "the first signs came {:.1} min after the change; of bad changes most show within {:.0} min",
                lag / 60.0,
                2.0 * mean / 60.0
            )
        };
        found.push(evidence(EvidenceKind::Timing, timing, told, seat.signals.clone()));
        let bad = options.bad_share / (spontaneous * back);
        found.push(evidence(
            EvidenceKind::Prior,
            bad.ln().clamp(-3.0, 3.0),
            format!(
                "{:.0}% of changes are taken to be bad, and services to fail by themselves {} times in {}",
                100.0 * options.bad_share,
                self.options.rank.spontaneous.at_most,
                self.options.rank.spontaneous.per
            ),
            Vec::new(),
        ));
        if self.spent.contains(&change.id) {
            found.push(evidence(
                EvidenceKind::Alternative,
                -1.5,
                "the change was already blamed for an incident that is over".to_owned(),
                Vec::new(),
            ));
        }
        let others = self.changes.iter().filter(|(_, other)| other.id != change.id).count();
        if others > 0 {
            found.push(evidence(
                EvidenceKind::Alternative,
                0.0,
                format!(
                    "{others} other changes in the {} before are weighed beside it",
                    options.look_back
                ),
                Vec::new(),
            ));
        }
        let class = match change.kind {
            ChangeKind::Config | ChangeKind::Flag => "bad_config",
            _ => "bad_deploy",
        };
        let odds = found.iter().map(|e| e.weight).sum();
        Candidate {
            kind: HypothesisKind::Change,
            service: Some(seat.service),
            change: Some(Arc::clone(&change.id)),
            class,
            odds,
            evidence: found,
        }
    }

    /// A fault of the seat that no change explains; its class by the kind of signal that stands out.
    fn fault(&self, seat: Seat) -> Candidate {
        let strength = |wanted: &[SignalKind]| {
            seat.own
                .iter()
                .filter_map(|i| self.cells.get(*i))
                .filter(|cell| wanted.contains(&cell.kind) && self.rises(cell))
                .map(|cell| cell.strength)
                .fold(0.0, f64::max)
        };
        let absent = seat
            .own
            .iter()
            .filter_map(|i| self.cells.get(*i))
            .any(|cell| self.is_absent(cell));
        let named = [
            (strength(&[SignalKind::Disk]), HypothesisKind::Resource, "disk_full"),
            (
                strength(&[SignalKind::Saturation]),
                HypothesisKind::Resource,
                "saturation",
            ),
            (strength(&[SignalKind::Memory]), HypothesisKind::Resource, "memory_leak"),
            (strength(&[SignalKind::Cpu]), HypothesisKind::Fault, "cpu_saturation"),
        ];
        let (kind, class) = if absent {
            (HypothesisKind::Fault, "crash")
        } else if let Some((_, kind, class)) = named
            .iter()
            .rev()
            .filter(|n| n.0 > 0.0)
            .max_by(|a, b| a.0.total_cmp(&b.0))
        {
            (*kind, *class)
        } else if seat.service != NOWHERE && !self.topology.is_watched(seat.service) {
            (HypothesisKind::Dependency, "slow_dependency")
        } else {
            (HypothesisKind::Fault, "slow_dependency")
        };
        let odds = seat.odds();
        Candidate {
            kind,
            service: (seat.service != NOWHERE).then_some(seat.service),
            change: None,
            class,
            odds,
            evidence: seat.evidence,
        }
    }

    fn rises(&self, cell: &Cell) -> bool {
        cell.members
            .first()
            .and_then(|m| self.signals.get(*m))
            .is_some_and(|s| s.direction == Direction::Up)
    }

    fn is_absent(&self, cell: &Cell) -> bool {
        cell.members
            .iter()
            .filter_map(|m| self.signals.get(*m))
            .any(|s| s.direction == Direction::Absent)
    }

    /// More work than usual came in where work enters, and what follows from it.
    fn surge(&self, explained_most: f64) -> Option<Candidate> {
        let up: Vec<usize> = (0..self.cells.len())
            .filter(|i| self.cells[*i].kind == SignalKind::Traffic && self.rises(&self.cells[*i]))
            .collect();
        let entry = up
            .iter()
            .filter_map(|i| self.cells.get(*i))
            .filter(|cell| cell.target == NOWHERE || self.topology.is_entry(cell.target))
            .max_by(|a, b| a.strength.total_cmp(&b.strength))?;
        let reached: BTreeSet<ServiceId> = self
            .topology
            .below(entry.target, 8)
            .into_iter()
            .map(|(service, _)| service)
            .chain([entry.target])
            .collect();
        let total: f64 = self.cells.iter().map(|cell| cell.strength).sum();
        let explained: f64 = self
            .cells
            .iter()
            .filter(|cell| reached.contains(&cell.target))
            .map(|cell| match cell.kind {
                SignalKind::Traffic | SignalKind::Network | SignalKind::Cpu | SignalKind::Saturation => cell.strength,
                SignalKind::Latency | SignalKind::Errors | SignalKind::Availability => 0.7 * cell.strength,
                _ => 0.4 * cell.strength,
            })
            .sum();
        let rate = self.options.rank.unexplained;
        let base = (rate * (2.0 * explained_most - total)).clamp(-1.0, 3.0);
        let signal = self.first(entry)?;
        let found = vec![
            evidence(
                EvidenceKind::Coverage,
                base - rate * (explained_most - explained),
                format!(
                    "more work coming in at {} explains {:.0}% of the evidence",
                    self.name(entry.target),
                    100.0 * explained / total.max(1e-9)
                ),
                self.ids(up.iter().copied()),
            ),
            evidence(
                EvidenceKind::Signal,
                (0.15 * entry.strength).min(1.5),
                format!(
                    "{} of {} is up at {:.4}, against {:.4} expected",
                    signal.metric,
                    self.name(entry.target),
                    signal.value.unwrap_or(f64::NAN),
                    signal.expected
                ),
                vec![Arc::clone(&signal.id)],
            ),
        ];
        let odds = found.iter().map(|e| e.weight).sum();
        Some(Candidate {
            kind: HypothesisKind::Traffic,
            service: (entry.target != NOWHERE).then_some(entry.target),
            change: None,
            class: "traffic_surge",
            odds,
            evidence: found,
        })
    }
}

/// Where a signal went, in a word.
pub(crate) const fn side(direction: Direction) -> &'static str {
    match direction {
        Direction::Up => "above its band",
        Direction::Down => "below its band",
        Direction::Absent => "silent",
    }
}
