//! The judgement: what is let go, what joins an incident, what opens one, and what is over.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use suture_event::{Change, Hypothesis, Incident, Span, Timestamp, hex16, stable_hash};

use crate::{
    Diagnoser,
    background::Weights,
    case::Case,
    diagnoser::Past,
    rank::{Scene, rank},
    signal::{Cell, blame, cells, centres, surprise},
    topology::ServiceId,
};

/// By how many halvings a signal weighs less in the ranking if it came `group.within` after its incident opened.
const LATE: f64 = 2.0;

/// The least share of a cell that a centre must explain to rest on it.
const SUPPORT: f64 = 0.3;

/// A new change explains a group only if its service explains nearly as much as the one that explains most.
const FOREMOST: f64 = 0.8;

/// The least nats of a cell that corroborates another.
const SUPPORTS: f64 = 2.0;
impl Diagnoser {
    /// Judges the state as of now.
    pub(crate) fn judge(&mut self, out: &mut Vec<Incident>) {
        self.background.advance(self.now);
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
        let (now, background) = (self.now, &mut self.background);
        let (changes, grace) = (&self.changes, self.options.changes.grace);
        self.loose.retain(|signal| {
            if signal.is_active() {
                return true;
            }
            let excused = changes.iter().any(|(service, change)| {
                *service == signal.target && change.at <= signal.at && signal.since < change.at.plus(grace)
            });
            if excused {
                // held, and it passed: it was the change, and says nothing about calm times
                return false;
            }
            let over = signal.since.plus(linger) < now;
            if over {
                background.learn(signal.series, signal.kind, signal.deviation, Weights::WHOLE, now);
            }
            !over
        });
    }

    /// Gives an open incident the series that come back to it, unless a new change may be why they do. Where the incident
    /// opened with the series, its recovery waits for it again.
    fn relapse(&mut self) {
        if self.cases.is_empty() {
            return;
        }
        let mut stay = VecDeque::new();
        for mut signal in std::mem::take(&mut self.loose) {
            let is_back = |case: &Case| case.signals.iter().any(|known| known.series == signal.series);
            let explained_by_news = || {
                let mut seats = blame(&signal, &self.topology)
                    .into_iter()
                    .filter(|(_, share)| *share >= SUPPORT);
                seats.any(|(seat, _)| self.news_of(seat).is_some())
            };
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

    /// Gives loose anomalies to the open incidents that they belong to.
    fn join(&mut self) {
        if self.cases.is_empty() || self.loose.is_empty() {
            return;
        }
        let group = &self.options.group;
        let reach: Vec<BTreeSet<ServiceId>> = self
            .cases
            .iter()
            .map(|case| self.topology.around(case.centre, group.reach))
            .collect();
        let mut stay = VecDeque::new();
        for signal in std::mem::take(&mut self.loose) {
            let explained = blame(&signal, &self.topology);
            let home = (0..self.cases.len()).rev().find(|index| {
                let (Some(case), Some(near)) = (self.cases.get(*index), reach.get(*index)) else {
                    return false;
                };
                if signal.at < case.opened_at {
                    return false;
                }
                let spreading = signal.at <= case.opened_at.plus(group.spread);
                let share = explained
                    .iter()
                    .find(|(id, _)| *id == case.centre)
                    .map_or(0.0, |(_, share)| *share);
                (spreading && (near.contains(&signal.target) || share > 0.0)) || (signal.target == case.centre)
            });
            match home.and_then(|index| self.cases.get_mut(index)) {
                Some(case) => case.take(signal, self.options.limits.signals, self.now),
                None => stay.push_back(signal),
            }
        }
        self.loose = stay;
    }

    fn cells_of_loose(&self) -> Vec<Cell> {
        let within = self.options.group.within;
        cells(
            self.loose.iter().enumerate().map(|(index, signal)| {
                // one that has been out for long may well be a coincidence
                let span = self.now.since(signal.at).max(within);
                (index, signal, surprise(signal, &self.background, span, self.now))
            }),
            &self.topology,
        )
    }

    /// What a group must show to be worth an incident: around a service that was changed just now, and around others.
    ///
    /// Each may take half of the false incidents that are allowed; as services are seldom just changed, chance has
    /// little room there, so less is enough.
    #[must_use]
    pub fn thresholds(&self) -> (f64, f64) {
        let wanted = &self.options.open.false_incidents;
        let half = wanted.at_most / 2.0;
        let changed = self.background.threshold(half, wanted.per, self.share_changed());
        let others = self.background.threshold(half, wanted.per, 1.0);
        let least = self.options.open.least;
        (changed.max(least), others.max(least))
    }

    /// How long a change is news: until most of what is wrong with it would have shown.
    fn news_span(&self) -> Span {
        let changes = &self.options.changes;
        Span::from_millis(changes.grace.as_millis() + 2 * changes.typical_lag.as_millis())
    }

    /// The part of time and services that has a change just before.
    #[allow(clippy::cast_precision_loss)] // small counts
    fn share_changed(&self) -> f64 {
        let day = Span::from_hours(24);
        let since = self.now.minus(day);
        let count = self
            .changes
            .iter()
            .filter(|(_, change)| change.at >= since && change.at <= self.now)
            .count();
        let watched = self
            .background
            .watched(self.now)
            .min(day)
            .as_secs_f64()
            .max(self.news_span().as_secs_f64());
        let services = self.topology.count_watched().max(1);
        (count as f64 * self.news_span().as_secs_f64() / (watched * services as f64)).clamp(0.005, 1.0)
    }

    /// The latest change of a service that is news: not one that an incident nearby has had to account for already.
    fn news_of(&self, service: ServiceId) -> Option<&Change> {
        let since = self.now.minus(self.news_span());
        let mut of_service = self
            .changes
            .iter()
            .rev()
            .filter(|(id, _)| *id == service)
            .map(|(_, change)| change);
        let change = of_service.find(|change| change.at <= self.now && change.at >= since)?;
        let near = self.topology.around(service, self.options.group.reach);
        let open = self.cases.iter().map(|case| (case.centre, case.opened_at));
        let over = self.past.iter().map(|past| (past.centre, past.opened_at));
        let accounted = open
            .chain(over)
            .any(|(centre, opened_at)| opened_at >= change.at && near.contains(&centre));
        (!accounted).then_some(change)
    }

    /// What came up around a service since a change of it.
    fn height_since(&self, centre: ServiceId, change: &Change, found: &[Cell]) -> f64 {
        let fresh = |cell: &Cell| {
            cell.members
                .first()
                .and_then(|i| self.loose.get(*i))
                .is_some_and(|signal| signal.at > change.at)
        };
        found
            .iter()
            .filter(|cell| fresh(cell))
            .map(|cell| cell.share(centre) * cell.strength)
            .sum()
    }

    /// Opens an incident for each group of loose anomalies that is worth one.
    fn open_new(&mut self) {
        let mut held: Vec<ServiceId> = Vec::new();
        let (enough_if_changed, enough) = self.thresholds();
        loop {
            let mut found = self.cells_of_loose();
            found.retain(|cell| held.iter().all(|centre| cell.share(*centre) < SUPPORT));
            let sums = centres(&found);
            let highest = sums.values().copied().fold(0.0, f64::max);
            let best = sums
                .into_iter()
                .filter_map(|(centre, height)| {
                    let margin = self.margin(centre, &found);
                    let plain = height - self.needed(centre, height, &found, enough) - margin;
                    let since = self
                        .news_of(centre)
                        .map(|change| self.height_since(centre, change, &found))
                        .filter(|height| *height >= FOREMOST * highest);
                    let surplus = since.map_or(plain, |height| plain.max(height - enough_if_changed - margin));
                    (surplus >= 0.0).then_some((centre, height, surplus))
                })
                .max_by(|a, b| a.2.total_cmp(&b.2).then(b.0.cmp(&a.0)));
            let Some((centre, height, _)) = best else {
                self.background.reached(highest);
                return;
            };
            if self.cases.len() >= self.options.limits.incidents {
                return;
            }
            if let Some(until) = self.grace_of(centre) {
                self.held_until = Some(self.held_until.map_or(until, |at| at.min(until)));
                held.push(centre);
                continue;
            }
            self.open(centre, height, &found);
        }
    }

    /// What a group around a centre must show beyond the rest.
    fn margin(&self, centre: ServiceId, found: &[Cell]) -> f64 {
        let supports = found
            .iter()
            .filter(|cell| cell.share(centre) >= SUPPORT && cell.strength >= SUPPORTS)
            .count();
        if supports < 2 { self.options.open.alone } else { 0.0 }
    }

    /// What a group must show that no new change explains. Trouble draws trouble: where most of the group lies next to
    /// an incident under way or just over it is most likely part of that, unless it is stronger.
    fn needed(&self, centre: ServiceId, height: f64, found: &[Cell], enough: f64) -> f64 {
        let aftershock = self.options.group.aftershock;
        let spread = self.options.group.spread;
        if self
            .cases
            .iter()
            .any(|case| case.centre == centre && self.now <= case.opened_at.plus(spread))
        {
            // it is what that incident is about, and joins it however strong it is
            return f64::INFINITY;
        }
        let under_way = self.cases.iter().map(|case| (case.centre, case.grown));
        let just_over = self
            .past
            .iter()
            .filter(|past| self.now.since(past.resolved_at) <= aftershock);
        under_way
            .chain(just_over.map(|past| (past.centre, past.height)))
            .filter(|(other, _)| {
                let near = self.topology.around(*other, self.options.group.reach);
                let beside = found.iter().filter(|cell| near.contains(&cell.target));
                let part: f64 = beside.map(|cell| cell.share(centre) * cell.strength).sum();
                near.contains(&centre) || part > 0.5 * height
            })
            .map(|(_, height)| height.max(enough * self.options.open.beside))
            .fold(enough, f64::max)
    }

    /// When the grace period of the centre's last change ends, if it is under way.
    fn grace_of(&self, centre: ServiceId) -> Option<Timestamp> {
        let grace = self.options.changes.grace;
        self.changes
            .iter()
            .filter(|(service, change)| *service == centre && change.at <= self.now)
            .map(|(_, change)| change.at.plus(grace))
            .max()
            .filter(|until| *until > self.now)
    }

    fn open(&mut self, centre: ServiceId, height: f64, found: &[Cell]) {
        let near = self.topology.around(centre, self.options.group.reach);
        let belongs: BTreeSet<usize> = found
            .iter()
            .filter(|cell| cell.share(centre) > 0.0 || near.contains(&cell.target))
            .flat_map(|cell| cell.members.iter().copied())
            .collect();
        let opening: BTreeSet<usize> = found
            .iter()
            .filter(|cell| cell.share(centre) >= SUPPORT && cell.strength >= SUPPORTS)
            .flat_map(|cell| cell.members.iter().copied())
            .collect();
        let first = opening
            .iter()
            .chain(&belongs)
            .filter_map(|i| self.loose.get(*i))
            .map(|s| Arc::clone(&s.id))
            .next();
        let id = stable_hash([self.scope.as_bytes(), first.as_deref().unwrap_or_default().as_bytes()]);
        let mut case = Case {
            id: hex16(id).into(),
            opened_at: self.now,
            resolved_at: None,
            centre,
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
            let (hypotheses, none_of_these, height) = self.diagnose(case, &spent);
            if let Some(case) = self.cases.get_mut(index) {
                case.hypotheses = hypotheses;
                case.grown = case.grown.max(height);
                case.none_of_these = none_of_these;
                case.calm_since = if case.is_recovered() {
                    case.calm_since.or(Some(self.now))
                } else {
                    None
                };
                out.push(case.render(&self.scope, &self.topology, self.now));
            }
        }
    }

    fn diagnose(&self, case: &Case, spent: &BTreeSet<Arc<str>>) -> (Vec<Hypothesis>, f64, f64) {
        let within = self.options.group.within;
        let found = cells(
            case.signals.iter().enumerate().map(|(index, signal)| {
                let nats = surprise(signal, &self.background, within, self.now);
                // what came later is more and more a consequence, or a coincidence
                let late = signal.at.since(case.opened_at).max(Span::ZERO).as_secs_f64() / within.as_secs_f64();
                (index, signal, nats * (-std::f64::consts::LN_2 * LATE * late).exp())
            }),
            &self.topology,
        );
        let earliest = case.opened_at.minus(self.options.changes.look_back);
        let changes: Vec<(ServiceId, Change)> = self
            .changes
            .iter()
            .filter(|(_, change)| change.at >= earliest && change.at <= case.opened_at)
            .cloned()
            .collect();
        let height = centres(&found).get(&case.centre).copied().unwrap_or(0.0);
        let (hypotheses, none_of_these) = rank(&Scene {
            options: &self.options,
            topology: &self.topology,
            signals: &case.signals,
            cells: &found,
            changes: &changes,
            spent,
        });
        (hypotheses, none_of_these, height)
    }

    /// Closes the incidents whose time has come.
    fn resolve(&mut self, out: &mut Vec<Incident>) {
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
            out.push(case.render(&self.scope, &self.topology, self.now));
            // that a series was off is held against it unless a change was why; but one incident that is explained, by a
            // change or by what broke, says nothing of what chance does elsewhere
            let weights = Weights {
                own: 1.0 - case.change_probability(),
                pooled: case.none_of_these,
            };
            for signal in &case.signals {
                self.background
                    .learn(signal.series, signal.kind, signal.deviation, weights, self.now);
            }
            self.background.regret(case.height, case.none_of_these);
            let blamed = case.hypotheses.first().and_then(|top| top.change.clone());
            self.past.push_back(Past {
                centre: case.centre,
                opened_at: case.opened_at,
                resolved_at: self.now,
                height: case.grown,
                blamed,
            });
            while self.past.len() > self.options.limits.resolved {
                self.past.pop_front();
            }
        }
        self.cases = kept;
    }
}
