//! How well a fault at a place explains what is seen.
//!
//! For every cell the chance that the fault puts it out of its band is known ([`Fault::effect`]), and the chance that it is
//! out by itself ([`crate::background`]). Together they say by how many nats the cell speaks for the fault; a cell that is
//! as usual where the fault would show speaks against it. The sum is the logarithm of a likelihood ratio: this fault here,
//! against nothing but chance.

use std::collections::{BTreeMap, BTreeSet};

use suture_event::{SignalKind, Span, Timestamp};

use crate::{
    cell::Cell,
    effects::{FAULTS, Fault, Relation, Way},
    topology::{ServiceId, Topology},
};

/// No cell counts for more nats than this.
pub(crate) const MOST: f64 = 24.0;

/// What came this many windows after the rest came at the same time, as far as windows tell.
const TOGETHER: f64 = 2.0;

/// What comes long after a fault is an effect of it this much less likely; what was there before it likewise.
const LATE: f64 = 0.02;

/// That holds the more for a series that was outside already and goes a step further.
const LATE_STEP: f64 = 0.001;
const EARLY: f64 = 0.3;

/// What is as usual tells only after some windows, and is never quite certain.
const SURE: f64 = 0.98;

/// What is as usual with callers, or callees, speaks against a fault by at most this much.
const MOST_AGAINST: f64 = -3.0;

/// That others are further off speaks against a seat by at most this much.
const LEAST_SIZE: f64 = -4.0;

/// That it is off by next to nothing beside them, by this much.
const NEXT_TO_NOTHING: f64 = -6.0;

/// A part of that even before it is sure that nothing of the seat will show.
const UNSEEN: f64 = 0.4;

/// Nats against a fault of a resource that does not show in that resource, and against one of a service that nobody watches.
const GUESS: f64 = -2.0;

/// An effect that is at least this likely is missed where it does not show.
const EXPECTED: f64 = 0.3;

/// Calls that an effect may travel over.
const HOPS: u32 = 10;

const SYMPTOMS: [SignalKind; 3] = [SignalKind::Latency, SignalKind::Errors, SignalKind::Availability];
/// What there is to explain.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) topology: &'a Topology,
    pub(crate) cells: &'a [Cell],
    pub(crate) now: Timestamp,
    /// The width of a window.
    pub(crate) window: Span,
    /// How long effects take to show.
    pub(crate) spread: Span,
}

/// A kind of signal that is as usual although the fault would show there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Quiet {
    pub(crate) service: ServiceId,
    pub(crate) kind: SignalKind,
    pub(crate) weight: f64,
}

/// A fault at a place, held against what is seen.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) seat: ServiceId,
    pub(crate) fault: Fault,
    /// By cell: the chance that the fault shows there, and the nats that it gains.
    pub(crate) gains: Vec<(f64, f64)>,
    /// Nats of the seat's own cells, and of others'.
    pub(crate) own: f64,
    pub(crate) others: f64,
    /// How far the cells rise above chance, by the sort of fault that lifts them most, where those of other services, which
    /// hang together, count less and less: the second half, the third a third, and so on.
    pub(crate) height: f64,
    /// Nats against, for what is as usual.
    pub(crate) quiet: f64,
    pub(crate) quiets: Vec<Quiet>,
    /// Nats against, where others are further off than the seat.
    pub(crate) size: f64,
    pub(crate) onset: Timestamp,
    /// All together, with how common such faults are, over all sorts of fault at this seat.
    pub(crate) total: f64,
}

impl Account {
    /// The chance that the fault shows in a cell.
    pub(crate) fn share(&self, cell: usize) -> f64 {
        self.gains.get(cell).map_or(0.0, |gain| gain.0)
    }
}

impl View<'_> {
    /// The fault of a service that explains best what is seen; its total counts all sorts of fault.
    pub(crate) fn account(&self, seat: ServiceId) -> Account {
        let frame = self.frame(seat);
        let all = FAULTS.map(|(fault, share)| (self.of_fault(&frame, fault), f64::ln(share)));
        let total = log_sum(all.iter().map(|(account, prior)| account.total + prior));
        let height = all.iter().map(|(account, _)| account.height).fold(f64::MIN, f64::max);
        let best = all
            .into_iter()
            .max_by(|a, b| (a.0.total + a.1).total_cmp(&(b.0.total + b.1)))
            .map(|(account, _)| account);
        best.map_or_else(
            || self.of_fault(&frame, Fault::Odd),
            |best| Account { total, height, ..best },
        )
    }

    /// More or less work at a service, held against what is seen.
    pub(crate) fn tide(&self, seat: ServiceId, fault: Fault) -> Account {
        self.of_fault(&self.frame(seat), fault)
    }

    /// A fault that is known to have begun then, held against what is seen.
    pub(crate) fn told(&self, seat: ServiceId, fault: Fault, onset: Timestamp) -> Account {
        let frame = self.frame(seat);
        self.of_fault(&Frame { onset, ..frame }, fault)
    }

    fn of_fault(&self, frame: &Frame, fault: Fault) -> Account {
        let mut gains = Vec::with_capacity(self.cells.len());
        let (mut own, mut others) = (0.0, Vec::new());
        for (cell, place) in self.cells.iter().zip(&frame.places) {
            let effect = fault
                .effect(cell.kind, cell.way, place.relation)
                .max(place.by_call(cell));
            if effect == 0.0 {
                gains.push((0.0, 0.0));
                continue;
            }
            let chance = (effect * self.timely(frame.onset, cell, fault)).clamp(0.0, 0.99);
            let mine = place.relation == Relation::Own;
            let gain = (chance * cell.strength.min(MOST).exp_m1()).ln_1p();
            if mine {
                own += gain;
            } else {
                others.push(gain);
            }
            gains.push((chance, gain));
        }
        others.sort_by(|a: &f64, b| b.total_cmp(a));
        let fading: f64 = others.iter().zip(1_u32..).map(|(gain, n)| gain / f64::from(n)).sum();
        let others: f64 = others.iter().sum();
        let quiets = self.quiets(frame, fault);
        let mut against = [0.0; 2];
        for quiet in &quiets {
            against[usize::from(quiet.service != frame.seat)] += quiet.weight;
        }
        let quiet = against[0] + against[1].max(MOST_AGAINST);
        let size = self.size(frame, fault) + self.well(frame, fault);
        Account {
            seat: frame.seat,
            fault,
            gains,
            own,
            others,
            height: own + fading + quiet + size,
            quiet,
            quiets,
            size,
            onset: frame.onset,
            total: own + others + quiet + size,
        }
    }

    /// Where each cell is, seen from a seat, and since when there is evidence for it.
    fn frame(&self, seat: ServiceId) -> Frame {
        let relations = Relations::of(seat, self.topology);
        let places: Vec<Place> = self
            .cells
            .iter()
            .map(|cell| Place {
                relation: relations.to(cell.target),
                calls_it: cell.caller == Some(seat),
            })
            .collect();
        let near = |place: &Place| match place.relation {
            Relation::Own => 1.0,
            Relation::Up(hops) => 0.7 / f64::from(hops),
            Relation::Down(_) | Relation::Unknown => 0.2,
            Relation::Sibling | Relation::Far => 0.0,
        };
        let mut begun: Vec<(Timestamp, f64)> = self
            .cells
            .iter()
            .zip(&places)
            .map(|(cell, place)| (cell.onset, cell.strength * near(place)))
            .filter(|(_, weight)| *weight > 0.0)
            .collect();
        begun.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let total: f64 = begun.iter().map(|b| b.1).sum();
        let mut sum = 0.0;
        let mut onset = self.now;
        // by when a quarter of the evidence was there, so that one early coincidence does not set the time
        for (at, weight) in begun {
            sum += weight;
            onset = at;
            if sum >= 0.25 * total {
                break;
            }
        }
        let aside = relations.aside();
        let near = |service: ServiceId| service == seat || aside.iter().any(|(next, _)| *next == service);
        let off = self.cells.iter().filter(|cell| near(cell.target));
        let off = off.map(|cell| (cell.target, cell.kind)).collect();
        Frame {
            seat,
            places,
            onset,
            aside,
            off,
        }
    }

    fn windows(&self, span: Span) -> f64 {
        span.as_secs_f64() / self.window.as_secs_f64().max(1e-3)
    }

    /// How much less likely an effect is that began so long after, or before, its cause.
    fn timely(&self, onset: Timestamp, cell: &Cell, fault: Fault) -> f64 {
        let after = self.windows(cell.onset.since(onset));
        if after < -TOGETHER {
            return EARLY;
        }
        // what fills up or leaks shows elsewhere only when it is full
        let patience = if matches!(fault, Fault::Memory | Fault::Disk) {
            3.0
        } else {
            1.0
        };
        let spread = patience * self.windows(self.spread).max(4.0);
        let least = if cell.step { LATE_STEP } else { LATE };
        (-(after - TOGETHER).max(0.0) / spread).exp().max(least)
    }

    /// What the fault would show in, and is as usual.
    fn quiets(&self, frame: &Frame, fault: Fault) -> Vec<Quiet> {
        let sure = SURE * self.ripe(frame, fault);
        if sure <= 0.0 {
            return Vec::new();
        }
        let mut found = Vec::new();
        let is_off = |service: ServiceId, kind: SignalKind| {
            let off = |kind| frame.off.contains(&(service, kind));
            off(kind) || (is_failure(kind) && (off(SignalKind::Errors) || off(SignalKind::Availability)))
        };
        let mut look = |service: ServiceId, kind: SignalKind, relation: Relation| {
            let ways = match fault {
                Fault::Down => &[Way::Up, Way::Down, Way::Absent][..],
                _ => &[Way::Up, Way::Down],
            };
            let chance = ways
                .iter()
                .map(|way| fault.effect(kind, *way, relation))
                .fold(0.0, f64::max);
            if chance >= EXPECTED && self.topology.watches(service, kind) && !is_off(service, kind) {
                found.push(Quiet {
                    service,
                    kind,
                    weight: (-chance * sure).ln_1p(),
                });
            }
        };
        // what fills up or leaks hurts nobody until it is full
        if matches!(fault, Fault::Memory | Fault::Disk | Fault::Saturation) {
            return Vec::new();
        }
        for kind in SignalKind::ALL {
            look(frame.seat, kind, Relation::Own);
        }
        for &(service, relation) in &frame.aside {
            match relation {
                Relation::Up(_) => SYMPTOMS.iter().for_each(|kind| look(service, *kind, relation)),
                Relation::Down(_) if fault == Fault::Surge || fault == Fault::Down || fault == Fault::Ebb => {
                    look(service, SignalKind::Traffic, relation);
                }
                _ => {}
            }
        }
        found
    }

    /// A cause must be sick itself: one that is watched, with nothing of its own off, is an unlikely seat.
    fn well(&self, frame: &Frame, fault: Fault) -> f64 {
        let own = || {
            frame
                .places
                .iter()
                .zip(self.cells)
                .filter(|(place, _)| place.relation == Relation::Own)
        };
        if own().next().is_none() {
            let ripe = self.ripe(frame, fault).max(UNSEEN);
            return if self.topology.is_watched(frame.seat) {
                LEAST_SIZE * ripe
            } else {
                GUESS
            };
        }
        // a resource that runs short where nobody sees it is a guess
        match fault.about() {
            Some(kind) if own().all(|(_, cell)| cell.kind != kind) => GUESS,
            _ => 0.0,
        }
    }

    /// How sure it is, from 0 to 1, that what is as usual stays so.
    fn ripe(&self, frame: &Frame, fault: Fault) -> f64 {
        let age = self.windows(self.now.since(frame.onset));
        // silence takes some windows to be told
        let from = if fault == Fault::Down { 5.0 } else { 1.0 };
        ((age - from) / 3.0).clamp(0.0, 1.0)
    }

    /// Where somebody else is further off in what the fault is about, it hardly sits here: effects fade on their way. And who
    /// waits for a service waits for no longer than the service takes, whatever ails it.
    fn size(&self, frame: &Frame, fault: Fault) -> f64 {
        let known = self.topology.has_edges();
        let by_symptom = if known {
            (0.5, 1.2)
        } else {
            // with no graph to go by, the one that is furthest off is the likeliest
            (1.0, 1.5)
        };
        let symptom =
            |kind: &dyn Fn(SignalKind) -> bool, must: bool| self.beside(frame, fault, kind, by_symptom, true, must);
        let latency = |kind: SignalKind| kind == SignalKind::Latency;
        match fault {
            Fault::Failing => symptom(&is_failure, true) + symptom(&latency, false),
            Fault::Slow => symptom(&latency, true),
            Fault::Surge | Fault::Ebb => self.beside(
                frame,
                fault,
                &|kind| kind == SignalKind::Traffic,
                (0.5, 0.4),
                false,
                true,
            ),
            _ => {
                let about = fault.about();
                let primary = |kind: SignalKind| Some(kind) == about && fault != Fault::Node;
                self.beside(frame, fault, &primary, (0.5, 0.4), false, true) + symptom(&latency, false)
            }
        }
    }

    /// How much it speaks against a seat that others are further off than it in some kind of signal: `rate` times the
    /// logarithm of its share of theirs, where that is below `enough`. With `must`, also that they are off and it is not.
    fn beside(
        &self,
        frame: &Frame,
        fault: Fault,
        about: &dyn Fn(SignalKind) -> bool,
        (enough, rate): (f64, f64),
        by_unit: bool,
        must: bool,
    ) -> f64 {
        let of = |mine: bool| {
            let pairs = self.cells.iter().zip(&frame.places);
            pairs
                .filter(move |(cell, place)| {
                    about(cell.kind) && (place.relation == Relation::Own) == mine && cell.way != Way::Absent
                })
                .map(|(cell, _)| cell)
        };
        let own: Vec<&Cell> = of(true).collect();
        if own.is_empty() {
            // it would have to make others suffer from what it does not suffer from itself
            let known = SignalKind::ALL
                .iter()
                .any(|kind| about(*kind) && self.topology.watches(frame.seat, *kind));
            let told = must && known && of(false).next().is_some();
            return if told {
                LEAST_SIZE * self.ripe(frame, fault)
            } else {
                0.0
            };
        }
        let mut least: f64 = 1.0;
        for other in of(false) {
            let share = |mine: &&Cell| {
                if by_unit {
                    ratio(mine, other)
                } else {
                    Some(mine.deviation / other.deviation.max(1e-9))
                }
            };
            let most = own.iter().filter_map(share).fold(f64::NAN, f64::max);
            if !most.is_nan() {
                least = least.min(most);
            }
        }
        (rate * (least.max(1e-6) / enough).min(1.0).ln()).max(NEXT_TO_NOTHING)
    }
}

/// By how much a cell is off, as a share of how much another is; in one metric, for its unit's sake.
fn ratio(mine: &Cell, other: &Cell) -> Option<f64> {
    let pairs = mine
        .added
        .iter()
        .filter_map(|(metric, by)| Some(by / other.added.get(metric)?.max(1e-300)));
    Some(pairs.fold(f64::NAN, f64::max)).filter(|ratio| !ratio.is_nan())
}

fn is_failure(kind: SignalKind) -> bool {
    matches!(kind, SignalKind::Errors | SignalKind::Availability)
}

/// The logarithm of a sum of exponentials.
pub(crate) fn log_sum(terms: impl Iterator<Item = f64> + Clone) -> f64 {
    let most = terms.clone().fold(f64::MIN, f64::max);
    most + terms.map(|term| (term - most).exp()).sum::<f64>().ln()
}

#[derive(Clone, Copy)]
struct Place {
    relation: Relation,
    calls_it: bool,
}

impl Place {
    /// A series about the calls between two services shows a fault of the caller as well, less surely.
    fn by_call(self, cell: &Cell) -> f64 {
        if self.calls_it && cell.kind.is_symptom() {
            0.3
        } else {
            0.0
        }
    }
}

/// A seat and what lies around it.
struct Frame {
    seat: ServiceId,
    /// By cell.
    places: Vec<Place>,
    onset: Timestamp,
    /// Those next to it.
    aside: Vec<(ServiceId, Relation)>,
    /// What is off of the seat and of those.
    off: BTreeSet<(ServiceId, SignalKind)>,
}

/// How others are related to one service.
struct Relations {
    seat: ServiceId,
    by_service: BTreeMap<ServiceId, Relation>,
    siblings: BTreeSet<ServiceId>,
    known: bool,
}

impl Relations {
    fn of(seat: ServiceId, topology: &Topology) -> Self {
        let mut by_service = BTreeMap::new();
        for (service, hops) in topology.above(seat, HOPS) {
            by_service.insert(service, Relation::Up(hops));
        }
        for (service, hops) in topology.below(seat, HOPS) {
            by_service.entry(service).or_insert(Relation::Down(hops));
        }
        Self {
            seat,
            by_service,
            siblings: topology
                .siblings(seat)
                .into_iter()
                .map(|(service, _)| service)
                .collect(),
            known: topology.has_edges(),
        }
    }

    fn to(&self, service: ServiceId) -> Relation {
        if service == self.seat {
            return Relation::Own;
        }
        if let Some(relation) = self.by_service.get(&service) {
            return *relation;
        }
        if self.siblings.contains(&service) {
            Relation::Sibling
        } else if self.known {
            Relation::Far
        } else {
            Relation::Unknown
        }
    }

    fn aside(&self) -> Vec<(ServiceId, Relation)> {
        let near = |relation: &Relation| matches!(relation, Relation::Up(1) | Relation::Down(1));
        self.by_service
            .iter()
            .filter(|(_, relation)| near(relation))
            .map(|(service, relation)| (*service, *relation))
            .take(32)
            .collect()
    }
}
