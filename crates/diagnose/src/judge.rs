//! The judgement: what is let go, what joins an incident, what opens one, and what is over.

mod bars;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use suture_event::{Change, Hypothesis, Incident, Resolution, SignalState, Span, Timestamp, hex16, stable_hash};

pub(crate) use self::bars::Bars;
use crate::{
    Diagnoser,
    background::Weights,
    case::Case,
    cause::{Account, View},
    cell::{Cell, cells, seats},
    diagnoser::Past,
    rank::{SEATS, Scene, rank},
    signal::{Signal, surprise},
    topology::{Census, ServiceId},
    verdict::{LEAST, NAMED, Verdict, VerdictOutcome},
};

/// The least chance with which an incident's cause shows in a signal, for the signal to belong to it.
const BELONGS: f64 = 0.05;

/// The least chance for a signal, and the least nats, that an incident's recovery is judged on it.
const SUPPORT: f64 = 0.3;
const SUPPORTS: f64 = 2.0;

/// A changed service is held against the lower bar only if nothing explains the group better by more nats than this.
const FOREMOST: f64 = 3.0;

/// How much a signal counts that is inside its band again.
const EASED: f64 = 0.5;

/// Windows after a change's grace until it is known whether what came of it stays.
const SETTLES: i64 = 2;

/// Windows after which an incident is ranked again, as what is as usual by then tells.
const MATURES: i64 = 4;

/// An incident without a known cause counts as calm times reaching at most so many nats beyond the bar: one tells that such
/// things come by, and not how high they may reach.
const REGRET: f64 = 2.0;

/// How much an incident is held against its series at least, however well it is explained.
const HELD_AGAINST: f64 = 0.03;

impl Diagnoser {
    /// Judges the state as of now.
    pub(crate) fn judge(&mut self, out: &mut Vec<Incident>) {
        self.background.advance(self.now);
        let (now, window) = (self.now, self.window());
        for case in &mut self.cases {
            if case.look_again.is_some_and(|at| at <= self.now) {
                let later = case
                    .opened_at
                    .plus(Span::from_millis(2 * MATURES * window.as_millis() + window.as_millis()));
                case.look_again = Some(later).filter(|later| *later > now);
                case.dirty = true;
            }
        }
        self.forget_ended();
        self.relapse();
        self.open_new();
        self.join();
        if !self.cases.is_empty() {
            self.background.disturb();
        }
        self.settle(out);
        self.resolve(out);
    }

    /// Lets go of loose anomalies that are over, learning from them how often such things come by.
    fn forget_ended(&mut self) {
        let linger = self.options.group.linger;
        let (now, window) = (self.now, self.window());
        let mut stay = VecDeque::new();
        for signal in std::mem::take(&mut self.loose) {
            if signal.is_active() || signal.since.plus(linger) >= now && !self.is_excused(&signal) {
                stay.push_back(signal);
            } else if !self.is_excused(&signal) {
                // what was held and passed was the change, and says nothing about calm times
                self.background
                    .learn(signal.series, signal.sort(), signal.deviation, Weights::WHOLE, now);
                self.background.learn_lasting(signal.windows(window, now), 1.0);
            }
        }
        self.loose = stay;
    }

    /// Whether a signal began within the grace period of a change of its service: what restarts does for a while what it
    /// would otherwise not do.
    fn is_excused(&self, signal: &Signal) -> bool {
        self.excuse(signal).is_some()
    }

    /// Whether a signal began during an incident that is over, whose cause would show as it: it was only told late.
    fn is_accounted(&self, signal: &Signal) -> bool {
        let apart = self.apart();
        let mut past = self.past.iter().filter_map(|past| Some((past, past.cause?)));
        past.any(|(past, (fault, onset))| {
            let during = signal.onset <= past.resolved_at && signal.onset.plus(apart) >= onset;
            during && {
                let found = cells(std::iter::once((0, signal, 1.0)), apart);
                self.view(&found).told(past.centre, fault, onset).share(0) >= BELONGS
            }
        })
    }

    /// The last change whose grace period a signal began in.
    fn excuse(&self, signal: &Signal) -> Option<&Change> {
        let (grace, window) = (self.options.changes.grace, self.window());
        let mut changes = self.changes.iter().rev();
        let found = changes.find(|(service, change)| {
            *service == signal.target
                && change.at <= self.now
                && signal.onset < change.at.plus(grace)
                && signal.onset.plus(window) > change.at
        });
        found.map(|(_, change)| change)
    }

    /// Until when a signal is held back, as it may be no more than the restart that comes with a change. One that is inside
    /// its band again by then stays held until it is over or goes out once more.
    fn held_until(&self, signal: &Signal) -> Option<Timestamp> {
        let change = self.excuse(signal)?;
        if signal.eased || !signal.is_active() {
            return Some(Timestamp::MAX);
        }
        let settles = Span::from_millis(self.options.changes.grace.as_millis() + SETTLES * self.window().as_millis());
        Some(change.at.plus(settles)).filter(|until| *until > self.now)
    }

    /// The width of a window, as far as signals tell.
    pub(crate) fn window(&self) -> Span {
        self.window.unwrap_or(Span::from_mins(1))
    }

    /// Anomalies this close in time corroborate each other.
    fn within(&self) -> Span {
        let two = Span::from_millis(2 * self.window().as_millis());
        self.options.group.within.max(two)
    }

    /// Signals of one kind at one place that begin further apart than this are two things.
    fn apart(&self) -> Span {
        let four = Span::from_millis(4 * self.window().as_millis());
        self.options.group.spread.max(four)
    }

    fn nats(&self, signal: &Signal, census: &Census, span: Span) -> f64 {
        let spans = (span, self.window());
        let nats = surprise(signal, &self.background, census.about(signal.kind), spans, self.now);
        if signal.eased || !signal.is_active() {
            EASED * nats
        } else {
            nats
        }
    }

    fn view<'a>(&'a self, found: &'a [Cell]) -> View<'a> {
        View {
            topology: &self.topology,
            cells: found,
            now: self.now,
            window: self.window(),
            spread: self.options.group.spread,
        }
    }

    /// Gives an open incident the series that come back to it, unless a new change may be why they do. Where the incident
    /// opened with the series, its recovery waits for it again.
    fn relapse(&mut self) {
        if self.cases.is_empty() {
            return;
        }
        let mut stay = VecDeque::new();
        for mut signal in std::mem::take(&mut self.loose) {
            // a further step of what is outside all the while is no return
            let returns = |known: &Signal| known.series == signal.series && (known.step || !signal.step);
            let is_back = |case: &Case| case.signals.iter().any(returns);
            let explained_by_news = || self.news_of(signal.target).is_some();
            let home = self.cases.iter().rposition(is_back).filter(|_| !explained_by_news());
            match home.and_then(|index| self.cases.get_mut(index)) {
                Some(case) => {
                    signal.opening = case
                        .signals
                        .iter()
                        .any(|known| known.series == signal.series && known.opening);
                    case.take(signal, self.options.limits.signals, self.now);
                }
                None => stay.push_back(signal),
            }
        }
        self.loose = stay;
    }

    /// Gives loose anomalies to the open incidents whose cause would show as them, unless a new change may be why they do.
    fn join(&mut self) {
        if self.cases.is_empty() || self.loose.is_empty() {
            return;
        }
        let mut stay = VecDeque::new();
        for signal in std::mem::take(&mut self.loose) {
            let found = cells(std::iter::once((0, &signal, 1.0)), self.apart());
            let home = self
                .cases
                .iter()
                .rposition(|case| signal.at >= case.opened_at && self.shows(case, &found) >= BELONGS)
                .filter(|_| self.news_of(signal.target).is_none());
            match home.and_then(|index| self.cases.get_mut(index)) {
                Some(case) => case.take(signal, self.options.limits.signals, self.now),
                None => stay.push_back(signal),
            }
        }
        self.loose = stay;
    }

    /// The chance that an incident's cause shows as a cell, by where it is and when it came.
    fn shows(&self, case: &Case, found: &[Cell]) -> f64 {
        let account = self.view(found).told(case.centre, case.fault, case.onset);
        account.share(0)
    }

    fn cells_of_loose(&self) -> Vec<Cell> {
        let (within, census) = (self.within(), self.topology.census());
        let loose = self.loose.iter().enumerate();
        let counted = loose.filter(|(_, signal)| self.held_until(signal).is_none() && !self.is_accounted(signal));
        let found = counted.map(|(index, signal)| {
            // one that has been out for long may well be a coincidence
            let span = self.now.since(signal.at).max(within);
            (index, signal, self.nats(signal, &census, span))
        });
        cells(found, self.apart())
    }

    /// Opens an incident for each group of loose anomalies that is worth one.
    fn open_new(&mut self) {
        let bars = self.bars();
        if let Some(until) = self.loose.iter().filter_map(|signal| self.held_until(signal)).min() {
            self.held_until = Some(until).filter(|until| *until < Timestamp::MAX);
        }
        loop {
            let found = self.cells_of_loose();
            let accounts = self.accounts(&found);
            let highest = accounts.iter().map(|account| account.height).fold(0.0, f64::max);
            let waits = self.waits(&found);
            let may_open =
                |account: &Account| !waits || account.gains.iter().filter(|gain| gain.1 >= SUPPORTS).count() > 1;
            // what may not open yet has not reached anything yet, and what lingers was counted when it came
            let newest = accounts
                .iter()
                .filter(|account| may_open(account))
                .filter(|account| {
                    self.shows_any(account, &found, |cell| {
                        cell.onset.plus(self.options.background.block) >= self.now
                    })
                })
                .map(|account| account.height)
                .fold(0.0, f64::max);
            let best = accounts
                .into_iter()
                .filter(|account| {
                    self.shows_any(account, &found, |cell| {
                        cell.members.iter().any(|i| {
                            self.loose
                                .get(*i)
                                .is_some_and(|signal| signal.is_active() && !signal.eased)
                        })
                    })
                })
                .filter(|account| may_open(account))
                .filter(|account| {
                    let height = account.height;
                    let near_top = height + FOREMOST >= highest;
                    let bar = if near_top {
                        self.bar_of(account, &bars)
                    } else {
                        bars.others
                    };
                    height >= bar + self.aftermath(account)
                })
                .map(|account| (account.total + self.prior_of(&account), account))
                .max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.seat.cmp(&a.1.seat)));
            let Some((_, account)) = best else {
                self.background.reached(newest);
                self.say_why_not(&found, &bars, waits);
                return;
            };
            if self.cases.len() >= self.options.limits.incidents {
                self.say(&account, &found, &bars, VerdictOutcome::NoRoom);
                return;
            }
            let belongs = members(&account, &found, BELONGS);
            if belongs.is_empty() {
                // what shows in each place by the merest chance holds no signal that could be taken out of the loose ones
                return;
            }
            match self.home_of(&account, &found) {
                Some(index) => {
                    let id = self.cases.get(index).map(|case| Arc::clone(&case.id));
                    if let Some(incident) = id {
                        self.say(&account, &found, &bars, VerdictOutcome::Joined { incident });
                    }
                    self.give(index, &belongs);
                }
                None => {
                    let incident = self.id_of(&account, &found);
                    let outcome = VerdictOutcome::Opened {
                        incident: Arc::clone(&incident),
                    };
                    self.say(&account, &found, &bars, outcome);
                    self.open(incident, &account, &found);
                }
            }
        }
    }

    /// Whether what is seen so far was seen for one window only. One signal by itself that is back in the next was a blip.
    fn waits(&mut self, found: &[Cell]) -> bool {
        let window = self.window();
        let members = found.iter().flat_map(|cell| &cell.members);
        let raised = members
            .filter_map(|i| self.loose.get(*i))
            .map(|signal| signal.at.plus(window));
        let Some(due) = raised.min().filter(|due| *due > self.now) else {
            return false;
        };
        self.held_until = Some(self.held_until.map_or(due, |until| until.min(due)));
        true
    }

    /// Every place that may be at fault, with how well it explains the cells.
    fn accounts(&self, found: &[Cell]) -> Vec<Account> {
        let view = self.view(found);
        let spent = BTreeSet::new();
        let scene = self.scene(view, &[], &[], &spent);
        let mut accounts: Vec<Account> = seats(found, &self.topology, SEATS)
            .into_iter()
            .map(|seat| view.account(seat))
            .collect();
        accounts.extend(scene.tides().into_iter().map(|candidate| candidate.account));
        accounts
    }

    fn scene<'a>(
        &'a self,
        view: View<'a>,
        signals: &'a [Signal],
        changes: &'a [(ServiceId, Change)],
        spent: &'a BTreeSet<Arc<str>>,
    ) -> Scene<'a> {
        Scene {
            options: &self.options,
            view,
            signals,
            changes,
            spent,
        }
    }

    /// Whether a cause would show in some cell of a kind.
    fn shows_any(&self, account: &Account, found: &[Cell], kind: impl Fn(&Cell) -> bool) -> bool {
        let shown = found.iter().zip(&account.gains);
        shown
            .filter(|(cell, gain)| gain.0 >= SUPPORT || cell.target == account.seat)
            .any(|(cell, _)| kind(cell))
    }

    /// The open incident that a group belongs to: one whose cause would show as the group, or that the group's cause would
    /// show as, nearly as well as what explains it best, so that a second cause at this very time is less likely.
    fn home_of(&self, account: &Account, found: &[Cell]) -> Option<usize> {
        let spontaneous = &self.options.rank.spontaneous;
        let another = (spontaneous.at_most * self.within().as_secs_f64() / spontaneous.per.as_secs_f64())
            .min(1.0)
            .ln();
        let surprise_of_two = -(another + self.prior_of(account));
        // of cells that the group's cause does not show in there is nothing to lose
        let shown = account.gains.iter().zip(found).filter(|(gain, _)| gain.1 > 0.0);
        let (gains, shown): (Vec<(f64, f64)>, Vec<Cell>) = shown.map(|(gain, cell)| (*gain, cell.clone())).unzip();
        let loss = |case: &Case| {
            let forth = self.view(&shown).told(case.centre, case.fault, case.onset);
            let theirs = self.cells_of(case);
            let view = self.view(&theirs);
            let own = view.told(case.centre, case.fault, case.onset);
            let back = view.told(account.seat, account.fault, account.onset);
            // what begins only now is no cause of what has been for long
            let together = account.onset.since(case.onset) <= self.apart();
            let back = if together {
                lost(&own.gains, &back.gains)
            } else {
                f64::INFINITY
            };
            lost(&gains, &forth.gains).min(back)
        };
        // what has passed and comes again right after a change of its own is that change's
        let changed = self.is_fresh(account).then(|| self.news_of(account.seat)).flatten();
        let has_passed = |case: &Case| {
            let mut symptoms = case.signals.iter().filter(|signal| signal.kind.is_symptom());
            let any = case
                .signals
                .iter()
                .any(|signal| signal.opening && signal.kind.is_symptom());
            let new = |signal: &Signal| signal.onset.plus(self.within()) >= account.onset;
            any && symptoms.all(|signal| new(signal) || !signal.is_active() && signal.since <= account.onset)
        };
        let apart = |case: &Case| changed.is_some_and(|change| change.at >= case.opened_at) && has_passed(case);
        let cases = self.cases.iter().enumerate().filter(|(_, case)| !apart(case));
        let best = cases
            .map(|(index, case)| (index, loss(case)))
            .min_by(|a, b| a.1.total_cmp(&b.1))?;
        (best.1 < surprise_of_two).then_some(best.0)
    }

    fn cells_of(&self, case: &Case) -> Vec<Cell> {
        let (spans, census) = ((self.within(), self.window()), self.topology.census());
        let weighed = case.signals.iter().enumerate().map(|(index, signal)| {
            let nats = surprise(signal, &self.background, census.about(signal.kind), spans, self.now);
            (index, signal, nats)
        });
        cells(weighed, self.apart())
    }

    /// Changes that may have to do with an incident.
    fn changes_about(&self, case: &Case) -> Vec<(ServiceId, Change)> {
        let earliest = case.opened_at.minus(self.options.changes.look_back);
        let latest = case.opened_at.plus(self.late());
        self.changes
            .iter()
            .filter(|(_, change)| change.at >= earliest && change.at <= latest)
            .cloned()
            .collect()
    }

    /// How long after an incident opened a change may be stamped that began before it.
    pub(crate) fn late(&self) -> Span {
        self.options.changes.typical_lag.max(Span::from_mins(10))
    }

    fn give(&mut self, index: usize, belongs: &BTreeSet<usize>) {
        let (limit, now) = (self.options.limits.signals, self.now);
        let mut stay = VecDeque::new();
        for (at, signal) in std::mem::take(&mut self.loose).into_iter().enumerate() {
            match self.cases.get_mut(index).filter(|_| belongs.contains(&at)) {
                Some(case) => case.take(signal, limit, now),
                None => stay.push_back(signal),
            }
        }
        self.loose = stay;
    }

    /// Says what came of a group, where somebody asks.
    fn say(&mut self, account: &Account, found: &[Cell], bars: &Bars, outcome: VerdictOutcome) {
        if self.verdicts.is_none() {
            return;
        }
        let mut shown: Vec<(f64, &Cell)> = account
            .gains
            .iter()
            .zip(found)
            .filter(|(gain, cell)| gain.0 >= BELONGS || cell.target == account.seat)
            .map(|(gain, cell)| (gain.1, cell))
            .collect();
        shown.sort_by(|a, b| b.0.total_cmp(&a.0));
        let signals = shown.iter().flat_map(|(_, cell)| cell.members.first());
        let signals = signals
            .filter_map(|i| self.loose.get(*i))
            .map(Signal::words)
            .take(NAMED)
            .collect();
        let (none, spent) = ([], BTreeSet::new());
        let (_, class) = self.scene(self.view(&none), &[], &[], &spent).class(account);
        let until = account.onset.plus(self.window()).min(self.now);
        let change = self.change_within(account.seat, until, self.options.changes.look_back);
        let verdict = Verdict {
            at: self.now,
            scope: Arc::clone(&self.scope),
            service: self.topology.name(account.seat).cloned(),
            class: class.into(),
            height: account.height,
            bar: self.bar_of(account, bars) + self.aftermath(account),
            change: change.map(|change| Arc::clone(&change.id)),
            outcome,
            signals,
        };
        if let Some(verdicts) = &mut self.verdicts {
            verdicts.push(verdict);
        }
    }

    /// Says why the group that stands out most is no incident, where somebody asks.
    fn say_why_not(&mut self, found: &[Cell], bars: &Bars, waits: bool) {
        if self.verdicts.is_none() {
            return;
        }
        let best = self
            .accounts(found)
            .into_iter()
            .filter(|account| account.height >= LEAST)
            .max_by(|a, b| a.height.total_cmp(&b.height).then(b.seat.cmp(&a.seat)));
        if let Some(account) = best {
            let enough = account.height >= self.bar_of(&account, bars) + self.aftermath(&account);
            let outcome = if !enough {
                VerdictOutcome::BelowBar
            } else if waits {
                VerdictOutcome::Waits
            } else {
                VerdictOutcome::Passed
            };
            self.say(&account, found, bars, outcome);
            return;
        }
        // nothing is loose but what is held back
        let census = self.topology.census();
        let held = self.loose.iter().enumerate().filter_map(|(index, signal)| {
            let until = self.held_until(signal).filter(|until| *until < Timestamp::MAX)?;
            Some((until, (index, signal, self.nats(signal, &census, self.within()))))
        });
        let (until, members): (Vec<_>, Vec<_>) = held.unzip();
        let Some(until) = until.into_iter().max() else { return };
        let found = cells(members.into_iter(), self.apart());
        let best = self
            .accounts(&found)
            .into_iter()
            .max_by(|a, b| a.height.total_cmp(&b.height).then(b.seat.cmp(&a.seat)));
        if let Some(account) = best.filter(|account| account.height >= LEAST) {
            self.say(&account, &found, bars, VerdictOutcome::Held { until });
        }
    }

    /// What an incident of a group is called: by the scope, and the signal that is first in it.
    fn id_of(&self, account: &Account, found: &[Cell]) -> Arc<str> {
        let opening = opening(account, found);
        let belongs = members(account, found, BELONGS);
        let first = opening.iter().chain(&belongs).find_map(|i| self.loose.get(*i));
        let first = first.map_or("", |signal| &signal.id);
        hex16(stable_hash([self.scope.as_bytes(), first.as_bytes()])).into()
    }

    fn open(&mut self, id: Arc<str>, account: &Account, found: &[Cell]) {
        let mut belongs = members(account, found, BELONGS);
        let near = self.topology.around(account.seat, self.options.group.reach);
        let (spread, until) = (self.options.group.spread, self.window());
        for (index, signal) in self.loose.iter().enumerate() {
            // what is next to it and began together with it is most likely of it, even if it is not known how
            let together =
                signal.onset.plus(spread) >= account.onset && signal.onset <= account.onset.plus(spread).plus(until);
            if near.contains(&signal.target) && together && signal.is_active() && self.held_until(signal).is_none() {
                belongs.insert(index);
            }
        }
        let mut opening = opening(account, found);
        if opening.is_empty() {
            opening.clone_from(&belongs);
        }
        let height = account.height;
        let mut case = Case {
            id,
            opened_at: self.now,
            resolved_at: None,
            resolution: None,
            centre: account.seat,
            fault: account.fault,
            onset: account.onset,
            look_again: Some(self.now.plus(Span::from_millis(MATURES * self.window().as_millis()))),
            height,
            grown: height,
            signals: Vec::new(),
            left_out: 0,
            revision: 0,
            news: self.now,
            calm_since: None,
            hypotheses: Vec::new(),
            none_of_these: 1.0,
            dirty: true,
        };
        let mut stay = VecDeque::new();
        for (index, mut signal) in std::mem::take(&mut self.loose).into_iter().enumerate() {
            if belongs.contains(&index) {
                signal.opening = opening.contains(&index);
                case.take(signal, self.options.limits.signals, self.now);
            } else {
                stay.push_back(signal);
            }
        }
        self.loose = stay;
        self.cases.push(case);
    }

    /// Ranks and gives out the incidents that changed.
    fn settle(&mut self, out: &mut Vec<Incident>) {
        let spent: BTreeSet<Arc<str>> = self.past.iter().filter_map(|past| past.blamed.clone()).collect();
        for index in 0..self.cases.len() {
            let Some(case) = self.cases.get(index).filter(|case| case.dirty) else {
                continue;
            };
            let (hypotheses, none_of_these, best) = self.diagnose(case, &spent);
            if let Some(case) = self.cases.get_mut(index) {
                case.hypotheses = hypotheses;
                case.none_of_these = none_of_these;
                if let Some(best) = best {
                    (case.centre, case.fault, case.onset) = (best.seat, best.fault, best.onset);
                    case.grown = case.grown.max(best.height);
                }
                case.calm_since = if case.is_recovered() {
                    case.calm_since.or(Some(self.now))
                } else {
                    None
                };
                out.push(case.render(&self.scope, &self.topology, self.now));
            }
        }
    }

    fn diagnose(&self, case: &Case, spent: &BTreeSet<Arc<str>>) -> (Vec<Hypothesis>, f64, Option<Account>) {
        let found = self.cells_of(case);
        let changes = self.changes_about(case);
        let scene = self.scene(self.view(&found), &case.signals, &changes, spent);
        let (hypotheses, none_of_these) = rank(&scene);
        let best = scene.candidates().into_iter().next().map(|candidate| candidate.account);
        (hypotheses, none_of_these, best)
    }

    /// Closes the incidents whose time has come.
    fn resolve(&mut self, out: &mut Vec<Incident>) {
        let enough = self.bars().others;
        let window = self.window();
        let options = &self.options.resolve;
        let due = |since: Timestamp, span: Span| since.plus(span) <= self.now;
        let mut kept = Vec::new();
        for mut case in std::mem::take(&mut self.cases) {
            let calm = case.calm_since.is_some_and(|since| due(since, options.calm));
            let over = calm || (!case.is_active() && due(case.news, options.quiet)) || due(case.news, options.abandon);
            if !over {
                kept.push(case);
                continue;
            }
            case.resolved_at = Some(self.now);
            case.resolution = Some(if calm {
                let accepted = case
                    .signals
                    .iter()
                    .any(|s| s.opening && s.state == SignalState::Adapted);
                if accepted {
                    Resolution::Accepted
                } else {
                    Resolution::Recovered
                }
            } else if case.is_active() {
                Resolution::Abandoned
            } else {
                Resolution::Silent
            });
            out.push(case.render(&self.scope, &self.topology, self.now));
            // that a series was off is held against it unless a change was why; but one incident that is explained, by a
            // change or by what broke, says nothing of what chance does elsewhere
            let weights = Weights {
                own: case.none_of_these.max(HELD_AGAINST * (1.0 - case.change_probability())),
                pooled: case.none_of_these,
            };
            for signal in &case.signals {
                self.background
                    .learn(signal.series, signal.sort(), signal.deviation, weights, self.now);
                self.background
                    .learn_lasting(signal.windows(window, self.now), weights.pooled);
            }
            let most = enough + REGRET;
            self.background.regret(case.height.min(most), case.none_of_these);
            let blamed = case.hypotheses.first().and_then(|top| top.change.clone());
            self.past.push_back(Past {
                centre: case.centre,
                opened_at: case.opened_at,
                resolved_at: self.now,
                height: case.grown,
                blamed,
                cause: Some((case.fault, case.onset)),
            });
            while self.past.len() > self.options.limits.resolved {
                self.past.pop_front();
            }
        }
        self.cases = kept;
    }
}

/// Loose signals that a cause's incident opens with: its recovery is judged on them.
fn opening(account: &Account, found: &[Cell]) -> BTreeSet<usize> {
    found
        .iter()
        .enumerate()
        .filter(|(i, cell)| account.share(*i) >= SUPPORT && cell.strength >= SUPPORTS || cell.target == account.seat)
        .flat_map(|(_, cell)| cell.members.iter().copied())
        .collect()
}

/// Loose signals of the cells that a cause shows in with at least this chance.
fn members(account: &Account, found: &[Cell], least: f64) -> BTreeSet<usize> {
    found
        .iter()
        .enumerate()
        .filter(|(i, cell)| account.share(*i) >= least || cell.target == account.seat)
        .flat_map(|(_, cell)| cell.members.iter().copied())
        .collect()
}

/// By how many nats one cause explains cells worse than another. Where a cause shows in many places alike, that it does is
/// one thing and not many, so the second counts half, the third a third, and so on.
fn lost(best: &[(f64, f64)], other: &[(f64, f64)]) -> f64 {
    let mut lost: Vec<f64> = best
        .iter()
        .zip(other)
        .map(|(best, other)| (best.1 - other.1).max(0.0))
        .collect();
    lost.sort_by(|a, b| b.total_cmp(a));
    lost.iter().zip(1_u32..).map(|(nats, n)| nats / f64::from(n)).sum()
}
