//! What is made of several series together: closed windows in, anomalies out.
//!
//! A series takes its seats in the groups of the pipeline's derive rules with the first window that closes with it, so that
//! who is in a group depends on the order of samples alone, not on how they came in batches. Within a group members stand in
//! the order of their hashes, so that what is worked out does not depend on who came first. At the bound on a group's
//! members, or on groups, one that was silent for `window.forget_after` gives way; where there is none, a series is left out
//! until it is met anew, and counted.

mod group;
mod made;
mod state;

use std::{collections::BTreeMap, sync::Arc};

use suture_config::{DeriveMatcher, DeriveRule, Pipeline};
use suture_detect::{
    Bank, Budget, Column, DetectorName, Detectors, Episode, SeriesHints, Side, Thresholds,
    mix::Measure,
    several::{Distances, Moment, Nature, Reading},
};
use suture_event::{Anomaly, AnomalyPhase, EndReason, Labels, SeriesKey, SignalKind, Timestamp};
use suture_window::{Aggregate, Closed};

use self::{
    group::{Group, Member},
    state::{Place, Seat},
};
use super::{
    ScoreRow, SuppressedAlarm,
    anomaly::{anomaly, band, suppressed},
    rollup::RollUp,
};
use crate::{
    EngineError,
    series::{NOBODY, Role, Series, SeriesTable},
};

/// What the first fold makes of series together.
#[derive(Default)]
pub(super) struct Derive {
    rules: Vec<Rule>,
    /// How many of these are the pipeline file's; the one that may follow is of instances alone.
    written: usize,
    /// By row in the windows.
    seats: Vec<Seat>,
    context: Context,
    /// Whether alarms are drawn on a budget of the whole pipeline.
    shared: bool,
    left_out: u64,
    /// Rules that are newer than some seats: who is due for one takes it with the next window.
    newer: Vec<u32>,
    readings: Vec<Reading>,
    /// Group and member of each reading.
    about: Vec<(u32, u32)>,
    episodes: Vec<Episode>,
    scores: Vec<f64>,
    /// What ended because whom it was about lost its seat, with the scopes.
    ended: Vec<(Anomaly, Arc<str>)>,
}

/// When seats are given and taken, and who is who.
#[derive(Clone, Copy)]
struct Then<'a> {
    table: &'a SeriesTable,
    at: Timestamp,
    /// End of the window at hand, in milliseconds.
    end: i64,
}

/// What of the pipeline concerns every rule.
#[derive(Debug, Clone, Default)]
struct Context {
    scope: String,
    entity: String,
    /// Milliseconds after which a silent member may lose its seat.
    forget: i64,
    /// Seconds between two windows, and that as a share of a window.
    slide: f64,
    share: f64,
}

/// One rule with all of its groups.
struct Rule {
    spec: Arc<DeriveRule>,
    matcher: DeriveMatcher,
    judge: By,
    groups: Vec<Group>,
    /// Groups by what makes one.
    found: BTreeMap<u64, u32>,
    /// Whose each row of the judge is: group, and row in the windows where it is a member's own.
    owners: Vec<(u32, u32)>,
    /// Rows of the judge that are nobody's.
    free: Vec<u32>,
}

/// Who makes anomalies of what a rule measures.
enum By {
    Distances(Box<Distances>),
    Bank(Box<Bank>),
}

impl By {
    fn new(spec: &DeriveRule, shared: bool) -> Result<Self, suture_detect::Error> {
        let mut options = spec.detect.clone();
        let learned = |name| Distances::new(&spec.detect, Nature::Learned, name, shared);
        let boxed = |distances: Distances| Self::Distances(Box::new(distances));
        if let Some(mix) = &spec.mix {
            if options.direction == Side::Auto {
                options.direction = match mix.measure {
                    Measure::Entropy => Side::Both,
                    _ => Side::Up,
                };
            }
            if options.detectors == Detectors::Auto {
                // that its members are silent, they say themselves
                let mut names = vec![DetectorName::Seasonal, DetectorName::Shift];
                if options.thresholds != Thresholds::default() {
                    names.push(DetectorName::Threshold);
                }
                options.detectors = Detectors::List(names);
            }
            let bank = if shared {
                Bank::under_budget(&options)
            } else {
                Bank::new(&options)
            };
            return bank.map(|bank| Self::Bank(Box::new(bank)));
        }
        if let Some(new) = &spec.new_values {
            (options.alarm, options.at_once) = (new.alarm, options.at_once.min(new.alarm));
            let told = Nature::Told { adapts: true };
            return Distances::new(&options, told, "new_value", shared).map(boxed);
        }
        if spec.slo.is_some() {
            let told = Nature::Told { adapts: false };
            return Distances::new(&options, told, "burn", shared).map(boxed);
        }
        let name = match spec.products().first() {
            Some(&"peers") => "peers",
            Some(&"together") => "together",
            Some(&"covariance") => "covariance",
            _ => "components",
        };
        learned(name).map(boxed)
    }
}

impl Derive {
    pub(super) fn new(pipeline: &Pipeline) -> Result<Self, EngineError> {
        let siblings = pipeline.siblings();
        let mut rules = Vec::with_capacity(pipeline.derive.len() + 1);
        for spec in pipeline.derive.iter().chain(&siblings) {
            let rule = Rule::new(spec, pipeline.alarms.is_some()).map_err(|reason| EngineError::Detect {
                signal: spec.name.clone(),
                reason,
            })?;
            rules.push(rule);
        }
        let size = pipeline.window.size.map_or(1.0, |size| size.as_secs_f64());
        let slide = pipeline.window.slide.map_or(size, |slide| slide.as_secs_f64());
        Ok(Self {
            rules,
            written: pipeline.derive.len(),
            shared: pipeline.alarms.is_some(),
            context: Context {
                scope: pipeline.scope.label.clone(),
                entity: pipeline.entity.clone(),
                forget: pipeline.window.forget_after.as_millis(),
                slide,
                share: slide / size.max(f64::MIN_POSITIVE),
            },
            ..Self::default()
        })
    }

    /// Series that found no seat because a group, or the number of groups, was full.
    pub(super) const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Notes what a window makes of the samples of a row: what a count of events in it is worth follows from that.
    pub(super) fn note(&mut self, row: u32, aggregate: Aggregate) {
        if self.written == 0 {
            return;
        }
        let weight = match aggregate {
            Aggregate::Rate => self.context.slide,
            _ => self.context.share,
        };
        self.seat(row).weight = weight;
    }

    fn seat(&mut self, row: u32) -> &mut Seat {
        let at = row as usize;
        if self.seats.len() <= at {
            self.seats.resize_with(at + 1, Seat::default);
        }
        &mut self.seats[at]
    }

    /// Judges one window.
    #[allow(clippy::too_many_arguments)] // the parts of one fold, borrowed apart
    pub(super) fn close(
        &mut self,
        closed: &Closed<'_>,
        rollup: &RollUp,
        table: &SeriesTable,
        mut budget: Option<&mut Budget>,
        said: &mut Vec<(Anomaly, Arc<str>)>,
        silenced: &mut Vec<SuppressedAlarm>,
        mut scores: Option<&mut Vec<ScoreRow>>,
    ) {
        if self.rules.is_empty() || (self.written == 0 && rollup.is_empty()) {
            return;
        }
        self.take_in(closed, rollup, table);
        said.append(&mut self.ended);
        let moment = Moment {
            start: closed.start,
            end: closed.end,
            at: closed.at,
        };
        for at in 0..self.rules.len() {
            self.measure(at, moment);
            self.judge(
                at,
                moment,
                table,
                budget.as_deref_mut(),
                said,
                silenced,
                scores.as_deref_mut(),
            );
        }
    }

    /// Brings the window's values to the members of groups; seats those that have no seat yet.
    fn take_in(&mut self, closed: &Closed<'_>, rollup: &RollUp, table: &SeriesTable) {
        let end = closed.end.as_millis();
        let then = Then {
            table,
            at: closed.at,
            end,
        };
        // where the file has no rules, there are but instances to look at
        let all = self.written > 0;
        let mut entry = |i: usize| {
            let entry = (closed.rows.get(i), closed.values.get(i), closed.counts.get(i));
            if let (Some(&row), Some(&value), Some(&count)) = entry {
                self.take(row, value, count > 0, closed.last(i), then);
            }
        };
        if all {
            (0..closed.rows.len()).for_each(&mut entry);
        } else {
            rollup.entries().iter().copied().for_each(&mut entry);
        }
    }

    /// Brings a value to the groups of its row.
    fn take(&mut self, row: u32, value: f64, sent: bool, last: Timestamp, then: Then<'_>) {
        let Some(series) = then.table.get(row) else { return };
        let seat = self.seat(row);
        if !seat.taken || seat.hash != series.hash {
            self.leave(row, then);
            self.sit(row, series, then, false);
        } else if seat.due {
            self.sit(row, series, then, true);
        }
        let Some(seat) = self.seats.get(row as usize) else {
            return;
        };
        for place in &seat.places {
            let group = self
                .rules
                .get_mut(place.rule as usize)
                .and_then(|rule| rule.groups.get_mut(place.group as usize));
            if let Some(group) = group {
                group.take(place.member, value, sent, then.end, last);
            }
        }
    }

    /// Takes a row's seats away.
    fn leave(&mut self, row: u32, then: Then<'_>) {
        let places = std::mem::take(&mut self.seat(row).places);
        for place in places {
            self.vacate(place.rule, place.group, place.member, then);
        }
    }

    /// Takes the seats of a row away whose series is given up, and says what ends with that.
    pub(super) fn forget(&mut self, row: u32, table: &SeriesTable, at: Timestamp) -> Vec<(Anomaly, Arc<str>)> {
        if !self.rules.is_empty() {
            let end = at.as_millis();
            self.leave(row, Then { table, at, end });
            self.seat(row).taken = false;
        }
        std::mem::take(&mut self.ended)
    }

    /// Removes a member from its group; those behind it move up. What is open on it ends.
    fn vacate(&mut self, rule: u32, group: u32, member: u32, then: Then<'_>) {
        let Some(of) = self.rules.get_mut(rule as usize) else {
            return;
        };
        let sits = of
            .groups
            .get(group as usize)
            .and_then(|at| at.members.get(member as usize));
        if let Some(judged) = sits.map(|member| member.judged) {
            self.ended.extend(of.end(judged, then.table, then.at));
        }
        let Some(place) = of.groups.get_mut(group as usize) else {
            return;
        };
        if let Some(gone) = place.remove(member) {
            if gone.judged != NOBODY {
                of.free.push(gone.judged);
                if let Some(owner) = of.owners.get_mut(gone.judged as usize) {
                    *owner = (NOBODY, NOBODY);
                }
            }
            if let Some(seat) = self.seats.get_mut(gone.row as usize) {
                seat.places.retain(|place| (place.rule, place.group) != (rule, group));
            }
        }
        self.renumber(rule, group);
    }

    /// Tells the members of a group their places in it.
    fn renumber(&mut self, rule: u32, group: u32) {
        let Some(of) = self
            .rules
            .get(rule as usize)
            .and_then(|rule| rule.groups.get(group as usize))
        else {
            return;
        };
        for (member, place) in (0..).zip(&of.members) {
            if let Some(seat) = self.seats.get_mut(place.row as usize) {
                seat.sits(rule, group, member);
            }
        }
    }

    /// Seats a series in a group of every rule that it is part of, or of those alone that are newer than its seats.
    fn sit(&mut self, row: u32, series: &Series, then: Then<'_>, newer: bool) {
        let seat = self.seat(row);
        (seat.taken, seat.hash, seat.due) = (true, series.hash, false);
        let weight = seat.weight;
        for rule in 0..self.rules.len() {
            let sits = |place: &Place| place.rule as usize == rule;
            // a rule of the file is of the series that are sent, the one for siblings of instances' alone
            if rule >= self.written && !(series.role == Role::Instance && is_alike(series.kind)) {
                continue;
            }
            let known = !self.newer.iter().any(|newer| *newer as usize == rule);
            if newer && (known || self.seat(row).places.iter().any(sits)) {
                continue;
            }
            let Some(part) = self.rules[rule].matcher.part(&series.key) else {
                continue;
            };
            let Some((identity, named)) = self.rules[rule].identity(&series.key, &self.context) else {
                continue;
            };
            #[allow(clippy::cast_possible_truncation)] // as many as the pipeline file has rules
            let number = rule as u32;
            let Some(group) = self.group(number, identity, series, then) else {
                self.left_out += 1;
                continue;
            };
            if !self.room(number, group, then) {
                self.left_out += 1;
                continue;
            }
            let member = Member {
                row,
                hash: series.hash,
                last: then.end,
                told: part.told,
                total: part.total,
                weight,
                judged: self.rules[rule].owned(group, row, series),
                named,
            };
            if let Some(group) = self.rules[rule].groups.get_mut(group as usize) {
                group.insert(member);
            }
            self.renumber(number, group);
        }
    }

    /// The group of that identity, made where there is none and there is room.
    fn group(&mut self, rule: u32, key: SeriesKey, series: &Series, then: Then<'_>) -> Option<u32> {
        let hash = key.hash64();
        let of = self.rules.get(rule as usize)?;
        if let Some(group) = of.found.get(&hash) {
            return Some(*group);
        }
        let place = if of.groups.len() < of.spec.groups as usize {
            #[allow(clippy::cast_possible_truncation)] // bounded by the rule's option
            let next = of.groups.len() as u32;
            next
        } else {
            self.give_way(rule, then)?
        };
        let of = self.rules.get_mut(rule as usize)?;
        let made = Series {
            service: match of.spec.peers {
                Some(_) => series.service.clone(),
                None => key.labels.get(&self.context.entity).map(Arc::from),
            },
            hash,
            scope: series.scope.clone(),
            kind: of.spec.kind_made(),
            rule,
            bank_row: 0,
            role: Role::Plain,
            key,
        };
        let judged = match of.spec.peers {
            Some(_) => NOBODY,
            None => of.row_for((place, NOBODY), &made),
        };
        let group = Group::new(&of.spec, made, judged);
        match of.groups.get_mut(place as usize) {
            Some(old) => *old = group,
            None => of.groups.push(group),
        }
        of.found.insert(hash, place);
        Some(place)
    }

    /// The place of a group whose members are all silent for long, which is then nobody's.
    fn give_way(&mut self, rule: u32, then: Then<'_>) -> Option<u32> {
        let of = self.rules.get(rule as usize)?;
        if matches!(of.judge, By::Bank(_)) {
            // a bank's rows stay whose they are
            return None;
        }
        let oldest = then.end.saturating_sub(self.context.forget);
        let silent = |group: &Group| group.members.iter().all(|member| member.last < oldest);
        let (place, group) = (0..).zip(&of.groups).find(|(_, group)| silent(group))?;
        let (hash, judged) = (group.series.hash, group.judged);
        for _ in 0..group.members.len() {
            self.vacate(rule, place, 0, then);
        }
        let of = self.rules.get_mut(rule as usize)?;
        self.ended.extend(of.end(judged, then.table, then.at));
        of.found.remove(&hash);
        if judged != NOBODY {
            of.free.push(judged);
        }
        Some(place)
    }

    /// Whether a group has room for one more, by one that was silent for long giving way if need be.
    fn room(&mut self, rule: u32, group: u32, then: Then<'_>) -> bool {
        let oldest = then.end.saturating_sub(self.context.forget);
        let Some(of) = self.rules.get(rule as usize) else {
            return false;
        };
        let Some(place) = of.groups.get(group as usize) else {
            return false;
        };
        if place.members.len() < of.spec.members() as usize {
            return true;
        }
        let silent = (0..).zip(&place.members).filter(|(_, member)| member.last < oldest);
        let Some((member, _)) = silent.min_by_key(|(_, member)| (member.last, member.hash)) else {
            return false;
        };
        self.vacate(rule, group, member, then);
        true
    }

    /// Measures every group of a rule.
    fn measure(&mut self, at: usize, moment: Moment) {
        self.readings.clear();
        self.about.clear();
        let Some(rule) = self.rules.get_mut(at) else { return };
        let held: &dyn Fn(u32) -> bool = match &rule.judge {
            By::Distances(distances) => &|row| distances.holds(row),
            By::Bank(_) => &|_| false,
        };
        for (number, group) in (0..).zip(&mut rule.groups) {
            group.measure(&rule.spec, moment, held, &mut |member, reading| {
                self.readings.push(reading);
                self.about.push((number, member));
            });
        }
    }

    /// Makes anomalies of what was measured.
    #[allow(clippy::too_many_arguments)] // the parts of one fold, borrowed apart
    fn judge(
        &mut self,
        at: usize,
        moment: Moment,
        table: &SeriesTable,
        budget: Option<&mut Budget>,
        said: &mut Vec<(Anomaly, Arc<str>)>,
        silenced: &mut Vec<SuppressedAlarm>,
        scores: Option<&mut Vec<ScoreRow>>,
    ) {
        let Some(rule) = self.rules.get_mut(at) else { return };
        self.episodes.clear();
        self.scores.clear();
        let wanted = scores.is_some();
        let (groups, about, spec) = (&rule.groups, &self.about, &rule.spec);
        match &mut rule.judge {
            By::Distances(distances) => {
                let readings = &self.readings;
                let mut words = |i: usize| {
                    let value = readings.get(i).map_or(f64::NAN, |reading| reading.value);
                    let (group, member) = about.get(i).copied().unwrap_or((NOBODY, NOBODY));
                    groups
                        .get(group as usize)
                        .map_or_else(String::new, |group| group.words(spec, member, value))
                };
                let scores = wanted.then_some(&mut self.scores);
                distances.update(moment, readings, budget, &mut words, scores, &mut self.episodes);
            }
            By::Bank(bank) => {
                let rows: Vec<u32> = self.readings.iter().map(|reading| reading.row).collect();
                let values: Vec<f64> = self.readings.iter().map(|reading| reading.value).collect();
                let column = Column {
                    start: moment.start,
                    end: moment.end,
                    at: moment.at,
                    rows: &rows,
                    values: &values,
                };
                bank.update_within(&column, budget, wanted.then_some(&mut self.scores), &mut self.episodes);
                for episode in &mut self.episodes {
                    let owner = rule.owners.get(episode.row as usize);
                    let group = owner.and_then(|(group, _)| groups.get(*group as usize));
                    if let Some(group) = group.filter(|_| episode.phase != AnomalyPhase::Ended) {
                        episode.detail = format!("{}: {}", group.words(spec, 0, f64::NAN), episode.detail);
                    }
                }
            }
        }
        let (episodes, list) = match &rule.judge {
            By::Distances(distances) => (std::mem::take(&mut self.episodes), distances.suppressed().to_vec()),
            By::Bank(bank) => (std::mem::take(&mut self.episodes), bank.suppressed().to_vec()),
        };
        for alarm in &list {
            if let Some(series) = rule.owner(alarm.row, table) {
                silenced.push(suppressed(&series, alarm));
            }
        }
        for episode in episodes {
            if episode.end == Some(EndReason::Adapted) {
                rule.accept(episode.row);
            }
            if let Some(series) = rule.owner(episode.row, table) {
                said.push((anomaly(&series, episode), series.scope.clone()));
            }
        }
        if let Some(scores) = scores {
            rule.write_scores(&self.readings, &self.about, &self.scores, scores);
        }
    }
}

/// Whether siblings are alike in it however old they are: what fills up or grows while an instance runs is not, and of what
/// nothing is known it cannot be said.
const fn is_alike(kind: SignalKind) -> bool {
    match kind {
        SignalKind::Latency
        | SignalKind::Errors
        | SignalKind::Availability
        | SignalKind::Traffic
        | SignalKind::Cpu
        | SignalKind::Network
        | SignalKind::Saturation => true,
        SignalKind::Memory | SignalKind::Disk | SignalKind::Node | SignalKind::Other => false,
    }
}

impl Rule {
    /// One with no group yet.
    fn new(spec: &DeriveRule, shared: bool) -> Result<Self, String> {
        Ok(Self {
            matcher: DeriveMatcher::new(spec).map_err(|e| e.to_string())?,
            judge: By::new(spec, shared).map_err(|e| e.to_string())?,
            spec: Arc::new(spec.clone()),
            groups: Vec::new(),
            found: BTreeMap::new(),
            owners: Vec::new(),
            free: Vec::new(),
        })
    }

    /// What makes the group of a series, and what the series is called within it; `None` where it has none.
    fn identity(&self, key: &SeriesKey, context: &Context) -> Option<(SeriesKey, Arc<str>)> {
        let kept = |keep: &dyn Fn(&str) -> bool| {
            let labels = key.labels.iter().filter(|(name, _)| keep(name));
            Labels::new(labels.map(|(name, value)| (name.to_owned(), value.to_owned()))).unwrap_or_default()
        };
        let joined = |names: &[String]| -> Option<Arc<str>> {
            let values: Option<Vec<&str>> = names.iter().map(|name| key.labels.get(name)).collect();
            values.map(|values| values.join(" ").into())
        };
        if let Some(peers) = &self.spec.peers {
            let among: Vec<String> = peers
                .among
                .iter()
                .filter(|name| key.labels.get(name).is_some())
                .cloned()
                .collect();
            if among.is_empty() {
                return None;
            }
            let labels = kept(&|name| !peers.among.iter().any(|other| other == name));
            let metric = key.metric.clone();
            let named = among
                .iter()
                .filter_map(|name| key.labels.get(name).map(|value| format!("{name}={value:?}")));
            let named = named.collect::<Vec<_>>().join(", ");
            return Some((SeriesKey { metric, labels }, named.into()));
        }
        let entity = std::slice::from_ref(&context.entity);
        let by = self.spec.by.as_deref().unwrap_or(entity);
        joined(by)?;
        let labels = kept(&|name| name == context.scope || by.iter().any(|other| other == name));
        let named = if let Some(mix) = &self.spec.mix {
            joined(std::slice::from_ref(&mix.label))?
        } else if let Some(new) = &self.spec.new_values {
            joined(&new.labels)?
        } else {
            let rest = kept(&|name| name != context.scope && !by.iter().any(|other| other == name));
            let metric = key.metric.clone();
            let rest = SeriesKey { metric, labels: rest };
            let bare = rest.labels.is_empty();
            if bare { rest.metric } else { rest.to_string().into() }
        };
        let metric = self.spec.name.as_str().into();
        Some((SeriesKey { metric, labels }, named))
    }

    /// A row of the judge for a member of its own, where the rule judges members.
    fn owned(&mut self, group: u32, row: u32, series: &Series) -> u32 {
        if self.spec.peers.is_none() {
            return NOBODY;
        }
        self.row_for((group, row), series)
    }

    /// A row of the judge.
    fn row_for(&mut self, owner: (u32, u32), series: &Series) -> u32 {
        let side = self.side(series.kind);
        let row = match &mut self.judge {
            By::Distances(distances) => match self.free.pop() {
                Some(row) => {
                    distances.reuse(row, side);
                    row
                }
                None => distances.add(side),
            },
            By::Bank(bank) => bank.add_series(SeriesHints {
                metric: &series.key.metric,
                kind: series.kind,
                counter: false,
                hash: series.hash,
            }),
        };
        let at = row as usize;
        if self.owners.len() <= at {
            self.owners.resize(at + 1, (NOBODY, NOBODY));
        }
        if let Some(slot) = self.owners.get_mut(at) {
            *slot = owner;
        }
        row
    }

    /// The side that counts of a distance: 1 above, 2 below, 3 both. `kind` is what the series measures.
    fn side(&self, kind: SignalKind) -> u8 {
        if self.spec.peers.is_none() {
            // correlation is lost downwards; distances from what is usual, new values and burn rates are too large
            return if self.spec.together.is_some() { 2 } else { 1 };
        }
        match (self.spec.detect.direction, self.spec.kind.unwrap_or(kind)) {
            (Side::Up, _) | (Side::Auto, SignalKind::Latency | SignalKind::Errors | SignalKind::Saturation) => 1,
            (Side::Down, _) | (Side::Auto, SignalKind::Availability) => 2,
            _ => 3,
        }
    }

    /// Ends what is open on a row of the judge, which is about to stand for nobody.
    fn end(&mut self, judged: u32, table: &SeriesTable, at: Timestamp) -> Vec<(Anomaly, Arc<str>)> {
        if judged == NOBODY {
            return Vec::new();
        }
        let episodes = match &mut self.judge {
            By::Distances(distances) => distances.retire(judged, at).into_iter().collect(),
            By::Bank(bank) => bank.retire(judged, at),
        };
        let Some(series) = self.owner(judged, table) else {
            return Vec::new();
        };
        let ended = episodes.into_iter();
        ended
            .map(|episode| (anomaly(&series, episode), series.scope.clone()))
            .collect()
    }

    /// The series that a row of the judge stands for.
    fn owner<'a>(&'a self, row: u32, table: &'a SeriesTable) -> Option<std::borrow::Cow<'a, Series>> {
        let (group, row) = *self.owners.get(row as usize)?;
        if row == NOBODY {
            return Some(std::borrow::Cow::Borrowed(&self.groups.get(group as usize)?.series));
        }
        let series = table.get(row)?;
        // a row may have been given to another series since
        let members = &self.groups.get(group as usize)?.members;
        members
            .iter()
            .find(|member| (member.row, member.hash) == (row, series.hash))?;
        Some(match self.spec.kind {
            Some(kind) if kind != series.kind => std::borrow::Cow::Owned(Series { kind, ..series.clone() }),
            _ => std::borrow::Cow::Borrowed(series),
        })
    }

    /// What a row of the judge stands for is as it should be from now on.
    fn accept(&mut self, row: u32) {
        let Some((group, member)) = self.owners.get(row as usize).copied() else {
            return;
        };
        if let Some(group) = self.groups.get_mut(group as usize) {
            group.accept(member);
        }
    }

    /// The scores of series that are made: what members are judged by has their own name already.
    fn write_scores(&self, readings: &[Reading], about: &[(u32, u32)], scores: &[f64], out: &mut Vec<ScoreRow>) {
        if self.spec.peers.is_some() {
            return;
        }
        let [expected, lower, upper] = match &self.judge {
            By::Distances(distances) => distances.bands(),
            By::Bank(bank) => bank.bands(),
        };
        for (i, ((reading, (group, _)), score)) in readings.iter().zip(about).zip(scores).enumerate() {
            let Some(group) = self.groups.get(*group as usize) else {
                continue;
            };
            if reading.value.is_nan() {
                continue;
            }
            let SeriesKey { metric, labels } = group.series.key.clone();
            out.push(ScoreRow {
                ts: group.newest,
                metric,
                labels,
                value: reading.value,
                score: *score,
                band: band(expected.get(i), lower.get(i), upper.get(i)),
            });
        }
    }
}
