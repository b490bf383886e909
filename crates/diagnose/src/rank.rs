//! What could have caused an incident, and how likely each is.
//!
//! Every candidate starts from prior log-odds and gains or loses by evidence, each piece a number of nats: see
//! [`crate::cause`]. A softmax over the candidates and "none of these" gives the probabilities.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use suture_event::{
    Change, ChangeKind, Direction, Evidence, EvidenceKind, Hypothesis, HypothesisKind, SignalKind, Span, Timestamp,
};

use crate::{
    cause::{Account, MOST, View},
    cell::{Cell, seats},
    effects::{Fault, Way},
    options::Options,
    signal::{NOWHERE, Signal},
    topology::ServiceId,
};

/// Services weighed as the seat of a cause: those that most evidence lies on or points at.
pub(crate) const SEATS: usize = 16;

/// Services weighed as the one where more or less work comes in.
const ENTRIES: usize = 4;

/// So many services that are off below one entrance may be off for what comes in there.
const STEP: usize = 3;

/// Calls that work is followed over from where it enters.
const HOPS: u32 = 8;

/// An unknown cause shows in any cell with this chance.
const UNKNOWN: f64 = 0.1;

/// Evidence counts for this much of what it would if its pieces were independent.
const TEMPER: f64 = 0.6;

/// Log-odds, beforehand, of more and of less work coming in, beside those of a fault of a given service.
const SURGE: f64 = -1.0;
const EBB: f64 = -2.0;

/// The part of changes that are stamped when they were done rather than when they began, and how long they take.
const STAMPED_LATE: f64 = 0.15;
const TAKES: Span = Span::from_mins(5);

/// Log-odds of a change that came when it was too late.
const TOO_LATE: f64 = -8.0;

/// A rollback is so much less likely bad than a deploy: it goes back to what is known.
const ROLLBACK: f64 = 0.3;

/// What ranking looks at.
pub(crate) struct Scene<'a> {
    pub(crate) options: &'a Options,
    pub(crate) view: View<'a>,
    pub(crate) signals: &'a [Signal],
    /// Changes that may come into question, with their service's number.
    pub(crate) changes: &'a [(ServiceId, Change)],
    /// Changes blamed for an earlier incident that is over.
    pub(crate) spent: &'a BTreeSet<Arc<str>>,
}

/// A possible cause with its log-odds.
pub(crate) struct Candidate<'a> {
    pub(crate) kind: HypothesisKind,
    pub(crate) account: Account,
    pub(crate) change: Option<&'a Change>,
    class: &'static str,
    /// What the time of the change, and how often such causes come, add.
    pub(crate) prior: f64,
}

impl Candidate<'_> {
    /// Nats against chance alone.
    pub(crate) fn odds(&self) -> f64 {
        self.account.total + self.prior
    }
}

/// The hypotheses, most likely first, and the probability of none of them.
pub(crate) fn rank(scene: &Scene<'_>) -> (Vec<Hypothesis>, f64) {
    let candidates = scene.candidates();
    let none = scene.none();
    let top = candidates.first().map_or(none, |c| c.odds().max(none));
    let share = |odds: f64| (TEMPER * (odds - top)).exp();
    let total: f64 = candidates.iter().map(|c| share(c.odds())).sum::<f64>() + share(none);
    let most = candidates.iter().map(|c| c.account.others).fold(0.0, f64::max);
    let mut left = 1.0;
    let hypotheses = candidates
        .iter()
        .take(scene.options.rank.hypotheses)
        .zip(1..)
        .map(|(candidate, rank)| {
            let probability = share(candidate.odds()) / total;
            left -= probability;
            let seat = candidate.account.seat;
            Hypothesis {
                rank,
                kind: candidate.kind,
                service: scene.view.topology.name(seat).cloned(),
                change: candidate.change.map(|change| Arc::clone(&change.id)),
                class: candidate.class.into(),
                probability,
                evidence: scene.evidence(candidate, most),
            }
        })
        .collect();
    (hypotheses, left.max(0.0))
}

fn evidence(kind: EvidenceKind, weight: f64, detail: String, signals: Vec<Arc<str>>) -> Evidence {
    Evidence {
        kind,
        detail,
        weight,
        signals,
    }
}

fn minutes(span: Span) -> f64 {
    span.as_secs_f64() / 60.0
}

impl<'a> Scene<'a> {
    /// Every possible cause, the likeliest first.
    pub(crate) fn candidates(&self) -> Vec<Candidate<'a>> {
        let mut found = Vec::new();
        for seat in seats(self.view.cells, self.view.topology, SEATS) {
            let account = self.view.account(seat);
            let changes = self
                .changes
                .iter()
                .filter(|(id, _)| *id == seat)
                .map(|(_, change)| change);
            for change in changes {
                found.push(Candidate {
                    kind: HypothesisKind::Change,
                    class: match change.kind {
                        ChangeKind::Config | ChangeKind::Flag => "bad_config",
                        _ => "bad_deploy",
                    },
                    prior: self.prior_of(change, account.onset),
                    change: Some(change),
                    account: account.clone(),
                });
            }
            let (kind, class) = self.class(&account);
            found.push(Candidate {
                kind,
                class,
                prior: 0.0,
                change: None,
                account,
            });
        }
        found.extend(self.tides());
        found.sort_by(|a, b| {
            let by_name = (a.kind, a.account.seat, a.change.map(|c| &c.id));
            b.odds()
                .total_cmp(&a.odds())
                .then_with(|| by_name.cmp(&(b.kind, b.account.seat, b.change.map(|c| &c.id))))
        });
        found
    }

    /// Something that is not on the list, which may show anywhere.
    pub(crate) fn none(&self) -> f64 {
        let gains = self
            .view
            .cells
            .iter()
            .map(|cell| (UNKNOWN * cell.strength.min(MOST).exp_m1()).ln_1p());
        self.options.rank.none + gains.sum::<f64>()
    }

    /// More or less work than usual, where work enters.
    pub(crate) fn tides(&self) -> Vec<Candidate<'a>> {
        let mut found = Vec::new();
        for (way, fault, prior, class) in [
            (Way::Up, Fault::Surge, SURGE, "traffic_surge"),
            (Way::Down, Fault::Ebb, EBB, "traffic_drop"),
        ] {
            let moved = |service: ServiceId| {
                let mut cells = self.view.cells.iter();
                cells.any(|cell| cell.target == service && cell.kind == SignalKind::Traffic && cell.way == way)
            };
            // where those who send it work do not send more themselves
            let mut entries: Vec<&Cell> = self
                .view
                .cells
                .iter()
                .filter(|cell| cell.kind == SignalKind::Traffic && cell.way == way)
                .filter(|cell| self.callers(cell).all(|caller| !moved(caller)))
                .collect();
            // work that comes from a caller which is watched, and has no more of it than usual, is that caller's doing
            let from_outside = |cell: &&Cell| {
                self.callers(cell)
                    .all(|caller| !self.view.topology.watches(caller, SignalKind::Traffic))
            };
            if entries.iter().any(from_outside) {
                entries.retain(from_outside);
            }
            let reach = |cell: &Cell| self.view.topology.below(cell.target, HOPS).len();
            entries.sort_by_cached_key(|cell| {
                std::cmp::Reverse((reach(cell), ordered(cell.strength), std::cmp::Reverse(cell.target)))
            });
            entries.dedup_by_key(|cell| cell.target);
            let mut at: Vec<ServiceId> = entries.into_iter().map(|cell| cell.target).take(ENTRIES).collect();
            if fault == Fault::Surge {
                at.extend(self.entrances().into_iter().filter(|entry| !moved(*entry)));
            }
            for seat in at {
                found.push(Candidate {
                    kind: HypothesisKind::Traffic,
                    account: self.view.tide(seat, fault),
                    change: None,
                    class,
                    prior,
                });
            }
        }
        found
    }

    /// Where work enters above what is off in several services at once. That there is more of it is told late where it
    /// comes and goes by itself, and shows in what it costs before.
    fn entrances(&self) -> Vec<ServiceId> {
        let topology = self.view.topology;
        let mut below: BTreeMap<ServiceId, BTreeSet<ServiceId>> = BTreeMap::new();
        let costs = |cell: &&Cell| {
            let of_work = matches!(
                cell.kind,
                SignalKind::Cpu | SignalKind::Network | SignalKind::Saturation | SignalKind::Traffic
            );
            cell.way == Way::Up && of_work
        };
        for cell in self.view.cells.iter().filter(costs) {
            let above = topology
                .above(cell.target, HOPS)
                .into_iter()
                .map(|(service, _)| service);
            for entry in above.chain([cell.target]).filter(|service| topology.is_entry(*service)) {
                below.entry(entry).or_default().insert(cell.target);
            }
        }
        let mut found: Vec<(usize, ServiceId)> = below
            .into_iter()
            .filter(|(_, off)| off.len() >= STEP)
            .map(|(entry, off)| (off.len(), entry))
            .collect();
        found.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        found.into_iter().map(|(_, entry)| entry).take(ENTRIES).collect()
    }

    fn callers(&self, cell: &Cell) -> impl Iterator<Item = ServiceId> {
        let callers = self.view.topology.above(cell.target, 1);
        callers.into_iter().map(|(caller, _)| caller)
    }

    /// How much likelier a change makes a fault of its service at this time than it is by itself.
    pub(crate) fn prior_of(&self, change: &Change, onset: Timestamp) -> f64 {
        let options = &self.options.changes;
        let spontaneous = self.options.rank.spontaneous.at_most / self.options.rank.spontaneous.per.as_secs_f64();
        let bad = match change.kind {
            ChangeKind::Rollback | ChangeKind::Removal => ROLLBACK * options.bad_share,
            _ => options.bad_share,
        };
        let spent = if self.spent.contains(&change.id) { -1.5 } else { 0.0 };
        self.density(change, onset)
            .map_or(TOO_LATE, |density| (bad * density / spontaneous).max(1e-6).ln() + spent)
    }

    /// How likely a bad change shows at a time, per second; nothing where it came too late.
    fn density(&self, change: &Change, onset: Timestamp) -> Option<f64> {
        let options = &self.options.changes;
        let lag = onset.since(change.at).as_secs_f64();
        let (mean, back) = (options.typical_lag.as_secs_f64(), options.look_back.as_secs_f64());
        // an onset is known to no better than a window
        let window = self.view.window.as_secs_f64();
        if lag >= -window {
            let lag = lag.max(0.0);
            return Some((1.0 - options.slow_share) * (-lag / mean).exp() / mean + options.slow_share / back);
        }
        let late = -lag - window;
        let takes = TAKES.as_secs_f64();
        let began_before = !matches!(change.kind, ChangeKind::Rollback | ChangeKind::Removal) && late <= 3.0 * takes;
        began_before.then(|| STAMPED_LATE * (-late / takes).exp() / takes)
    }

    /// What a fault is called.
    pub(crate) fn class(&self, account: &Account) -> (HypothesisKind, &'static str) {
        let seat = account.seat;
        if seat != NOWHERE && !self.view.topology.is_watched(seat) {
            return (HypothesisKind::Dependency, "slow_dependency");
        }
        match account.fault {
            Fault::Disk => (HypothesisKind::Resource, "disk_full"),
            Fault::Saturation => (HypothesisKind::Resource, "saturation"),
            Fault::Memory => (HypothesisKind::Resource, "memory_leak"),
            Fault::Cpu => (HypothesisKind::Fault, "cpu_saturation"),
            Fault::Down => (HypothesisKind::Fault, "crash"),
            Fault::Slow => (HypothesisKind::Fault, "slow_dependency"),
            Fault::Failing => (HypothesisKind::Fault, "failing_requests"),
            Fault::Network => (HypothesisKind::Fault, "network"),
            Fault::Node => (HypothesisKind::Fault, "unhealthy_node"),
            Fault::Odd | Fault::Surge | Fault::Ebb => (HypothesisKind::Fault, "unknown"),
        }
    }

    fn name(&self, service: ServiceId) -> &str {
        self.view
            .topology
            .name(service)
            .map_or("the scope", |name| name.as_ref())
    }

    fn ids(&self, cells: impl IntoIterator<Item = usize>) -> Vec<Arc<str>> {
        cells
            .into_iter()
            .filter_map(|cell| self.view.cells.get(cell))
            .flat_map(|cell| cell.members.iter())
            .filter_map(|member| self.signals.get(*member))
            .map(|signal| Arc::clone(&signal.id))
            .take(20)
            .collect()
    }

    /// What speaks for and against a candidate. Weights are nats against chance, those of other services' signals relative
    /// to the candidate that explains most of them, so that the size of a storm favours nobody.
    fn evidence(&self, candidate: &Candidate<'_>, most: f64) -> Vec<Evidence> {
        let account = &candidate.account;
        let seat = self.name(account.seat);
        let mut found = Vec::new();
        let own = self.cells_of(account, true);
        if own.is_empty() {
            let told = format!("no signal of {seat} itself is out of its band");
            found.push(evidence(EvidenceKind::Signal, 0.0, told, Vec::new()));
        } else {
            let told: Vec<String> = own.iter().take(3).filter_map(|cell| self.words(*cell)).collect();
            let told = format!("of {seat} itself {}", told.join(", "));
            found.push(evidence(
                EvidenceKind::Signal,
                account.own,
                told,
                self.ids(own.iter().copied()),
            ));
        }
        let others = self.cells_of(account, false);
        let told = format!(
            "{} of {} groups of signals of other services are what this would show as",
            others.len(),
            self.view.cells.len() - own.len()
        );
        if self.view.cells.len() > own.len() {
            let weight = account.others - most;
            found.push(evidence(
                EvidenceKind::Coverage,
                weight,
                told,
                self.ids(others.iter().copied()),
            ));
        }
        if account.quiet < -0.05 {
            found.push(evidence(
                EvidenceKind::Quiet,
                account.quiet,
                self.told_quiet(account),
                Vec::new(),
            ));
        }
        if account.size < -0.05 {
            let told = format!("others are further off than {seat}, and effects fade on their way");
            found.push(evidence(
                EvidenceKind::Magnitude,
                account.size,
                told,
                self.ids(own.iter().copied()),
            ));
        }
        if let Some(change) = candidate.change {
            found.extend(self.timing(candidate, change));
        } else if candidate.prior.abs() > 0.05 {
            let told = format!(
                "{} is taken to come so much less often than a fault of one service",
                candidate.class
            );
            found.push(evidence(EvidenceKind::Prior, candidate.prior, told, Vec::new()));
        }
        found.sort_by(|a, b| b.weight.abs().total_cmp(&a.weight.abs()));
        found
    }

    /// Cells of the seat itself, or of others, that the account explains.
    fn cells_of(&self, account: &Account, own: bool) -> Vec<usize> {
        let cells = self.view.cells.iter().enumerate();
        let mut found: Vec<(usize, f64)> = cells
            .filter(|(_, cell)| (cell.target == account.seat) == own)
            .filter_map(|(i, _)| account.gains.get(i).map(|gain| (i, gain.0, gain.1)))
            .filter(|(_, chance, _)| own || *chance >= 0.05)
            .map(|(i, _, gain)| (i, gain))
            .collect();
        found.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        found.into_iter().map(|(i, _)| i).collect()
    }

    fn words(&self, cell: usize) -> Option<String> {
        let signal = self.signals.get(*self.view.cells.get(cell)?.members.first()?)?;
        let side = side(signal.direction);
        Some(match signal.value {
            Some(value) => format!(
                "{} is {side} at {value:.4}, where {:.4} is usual ({:.1} deviations)",
                signal.metric, signal.expected, signal.deviation
            ),
            None => format!("{} is {side}", signal.metric),
        })
    }

    fn told_quiet(&self, account: &Account) -> String {
        let mut worst: Vec<_> = account.quiets.iter().collect();
        worst.sort_by(|a, b| a.weight.total_cmp(&b.weight));
        let told: Vec<String> = worst
            .iter()
            .take(4)
            .map(|quiet| format!("{} of {}", quiet.kind.name(), self.name(quiet.service)))
            .collect();
        format!("as usual, though this would show in it: {}", told.join(", "))
    }

    fn timing(&self, candidate: &Candidate<'_>, change: &Change) -> Vec<Evidence> {
        let options = &self.options.changes;
        let lag = candidate.account.onset.since(change.at);
        let told = if self.density(change, candidate.account.onset).is_none() {
            format!("the change came {:.1} min after the first signs", -minutes(lag))
        } else if minutes(lag) < 0.0 {
            format!(
                "the change is stamped {:.1} min after the first signs, and changes may begin before they are told",
                -minutes(lag)
            )
        } else {
            format!(
                "the first signs came {:.1} min after the change; of bad changes most show within {:.0} min, \
                 {:.0}% of changes are taken to be bad, and services to fail by themselves {} times in {}",
                minutes(lag),
                2.0 * minutes(options.typical_lag),
                100.0 * options.bad_share,
                self.options.rank.spontaneous.at_most,
                self.options.rank.spontaneous.per
            )
        };
        let own: Vec<usize> = self.cells_of(&candidate.account, true);
        let mut found = vec![evidence(EvidenceKind::Timing, candidate.prior, told, self.ids(own))];
        if self.spent.contains(&change.id) {
            let told = "the change was already blamed for an incident that is over, which its timing counts".to_owned();
            found.push(evidence(EvidenceKind::Alternative, 0.0, told, Vec::new()));
        }
        let others = self.changes.iter().filter(|(_, other)| other.id != change.id).count();
        if others > 0 {
            let told = format!(
                "{others} other changes in the {} before are weighed beside it",
                options.look_back
            );
            found.push(evidence(EvidenceKind::Alternative, 0.0, told, Vec::new()));
        }
        found
    }
}

/// Nats, as a number that sorts.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // nats are few, and never below 0
fn ordered(nats: f64) -> u64 {
    (nats * 1_000.0) as u64
}

/// Where a signal went, in a word.
const fn side(direction: Direction) -> &'static str {
    match direction {
        Direction::Up => "above its band",
        Direction::Down => "below its band",
        Direction::Absent => "silent",
    }
}
