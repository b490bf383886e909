//! Series of one service's instances, made into one: closed windows in, the values of what is judged out.
//!
//! The windows keep a row for each instance, so that a counter is read as what it is: an instance's restart or end is no
//! reset of the sum. What is made has a row too, which gets no samples of its own; its values are worked out here when a
//! window closes. An instance is known by its row alone, and nothing depends on how samples came in batches.
//!
//! A sum is of the instances that sent, and for a few windows after one came or went it is not certain who did: one whose
//! sample was lost still serves, one that is being replaced may be there beside its successor in one window, and neither
//! for all of it. What the sum can be then lies between two bounds, and of these values the one next to the last is taken.
//! A successor of one that is missing takes its place, so that a deploy leaves the sum certain.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use suture_event::{SignalKind, Span, Timestamp};
use suture_window::{Aggregate, Closed, Options};

/// Windows for which an instance counts as new, and as missing before it counts as gone.
const UNCERTAIN: i64 = 2;
/// For how long it is uncertain which instances serve, in milliseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Uncertain {
    /// After one came: windows that overlap hold its predecessor for as long as they are.
    young: i64,
    /// After one sent last.
    missing: i64,
}

impl Uncertain {
    pub(super) fn of(window: &Options) -> Self {
        let size = window.size.map_or(0, Span::as_millis);
        let slide = window.slide.map_or(size, Span::as_millis);
        let missing = UNCERTAIN.saturating_mul(slide);
        Self {
            young: missing.saturating_add(size - slide),
            missing,
        }
    }
}

/// The time of what never was.
const NEVER: i64 = i64::MIN;

/// How the values of instances become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum How {
    /// Their sum as it is: of counts of what happened within the window.
    Count,
    /// Their sum as a level, which an instance that misses a window does not lower.
    Sum,
    /// Their mean.
    Mean,
    /// The least.
    Least,
    /// The greatest.
    Greatest,
}

impl How {
    /// By what the metric is and what a window makes of its samples.
    pub(super) fn of(kind: SignalKind, metric: &str, aggregate: Aggregate) -> Self {
        let adds = match kind {
            SignalKind::Traffic => !is_share(metric),
            SignalKind::Errors => aggregate.reads_a_counter() || !is_share(metric),
            SignalKind::Network => true,
            SignalKind::Disk | SignalKind::Other => aggregate.reads_a_counter(),
            SignalKind::Latency
            | SignalKind::Availability
            | SignalKind::Cpu
            | SignalKind::Memory
            | SignalKind::Saturation
            | SignalKind::Node => false,
        };
        let counts = !matches!(kind, SignalKind::Cpu | SignalKind::Latency);
        match aggregate {
            Aggregate::Min => Self::Least,
            Aggregate::Max => Self::Greatest,
            Aggregate::Count | Aggregate::Sum | Aggregate::Increase if counts => Self::Count,
            Aggregate::Rate | Aggregate::Mean | Aggregate::Last if adds => Self::Sum,
            _ => Self::Mean,
        }
    }
}

/// Whether a metric's name says that it is a share of something, or a rate at which it happens, rather than how much.
fn is_share(metric: &str) -> bool {
    // a duration is no ratio
    let name = metric.to_ascii_lowercase().replace("duration", "");
    let words = [
        "ratio",
        "percent",
        "pct",
        "share",
        "fraction",
        "%",
        "error_rate",
        "errorrate",
    ];
    let rate = [
        "failure_rate",
        "failurerate",
        "fail_rate",
        "error.rate",
        "rejection_rate",
    ];
    words.iter().chain(&rate).any(|word| name.contains(word))
}

/// A series that is made of those of instances.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Group {
    /// Its own row in the windows.
    row: u32,
    how: How,
    /// Whether it is traffic, by which others are weighed.
    traffic: bool,
    /// Whether it is a mean that each instance has a part in by its traffic.
    weighed: bool,
    /// The rows of its instances, ascending.
    members: Vec<u32>,
    /// What it was in the last window in which any instance sent.
    last: f64,
    #[serde(skip)]
    now: Now,
}

/// What the instances of a group are in the window at hand.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Now {
    /// Instances that are listed, sent, sent for the first time, did so of late, and sent of late but not now.
    listed: u32,
    sent: u32,
    fresh: u32,
    young: u32,
    missing: u32,
    /// Samples of all that sent, and the most of one.
    samples: u64,
    most: u32,
    sum: f64,
    /// The sum of values times samples.
    covered: f64,
    /// The sums of values times traffic, and of traffic, of those whose traffic is known, and of the values of the others.
    weighed: (f64, f64),
    unweighed: (f64, u32),
    least: f64,
    greatest: f64,
    /// What the policy on gaps shows for those that did not send, and how many there are.
    filled: (f64, u32),
    newest: i64,
}

/// What a row of the windows has to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Part {
    group: u32,
    /// Ends of the windows in which the instance sent first and last.
    first: i64,
    last: i64,
    /// What all of its labels are.
    labels: u64,
    /// Its value in the last of these windows.
    #[serde(skip)]
    value: f64,
}

const NOT: Part = Part {
    group: u32::MAX,
    first: NEVER,
    last: NEVER,
    labels: 0,
    value: f64::NAN,
};

/// A value that was made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Made {
    pub(super) row: u32,
    pub(super) value: f64,
    /// Time of the newest sample that went in; the earliest time where none did.
    pub(super) last: Timestamp,
}

/// All that is rolled up in a shard.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct RollUp {
    groups: Vec<Group>,
    /// By row in the windows.
    parts: Vec<Part>,
    /// Groups by their own rows, and those that are nobody's.
    #[serde(skip)]
    owners: FxHashMap<u32, u32>,
    #[serde(skip)]
    free: Vec<u32>,
    /// Rows of instances' traffic by what their labels are, ascending.
    #[serde(skip)]
    traffic: BTreeMap<u64, Vec<u32>>,
    /// The row of a group that is about to get its first instance.
    #[serde(skip)]
    kept: Option<u32>,
    #[serde(skip)]
    made: Vec<Made>,
    /// The entries of the closed window that are instances'.
    #[serde(skip)]
    entries: Vec<usize>,
}

impl RollUp {
    pub(super) fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// Whether a row is that of a series which is made, and has instances or is about to.
    pub(super) fn holds(&self, row: u32) -> bool {
        let group = self.owners.get(&row).and_then(|group| self.groups.get(*group as usize));
        group.is_some_and(|group| !group.members.is_empty() || self.kept == Some(row))
    }

    /// How many rows are of series that are made.
    pub(super) fn len(&self) -> usize {
        self.owners.len()
    }

    /// The instances of the series that is made at a row, by their rows.
    pub(super) fn members(&self, row: u32) -> &[u32] {
        let group = self.owners.get(&row).and_then(|group| self.groups.get(*group as usize));
        group.map_or(&[], |group| &group.members)
    }

    /// The number by which [`Self::take`] knows what an instance's row goes into.
    pub(super) fn group(&self, row: u32) -> Option<u32> {
        let part = self.parts.get(row as usize)?;
        (part.group != NOT.group).then_some(part.group)
    }

    /// A series that is made has this row, and no instances yet. It keeps the row until [`Self::settle`] at least.
    pub(super) fn add(&mut self, row: u32, kind: SignalKind, how: How) {
        let group = Group {
            row,
            how,
            traffic: kind == SignalKind::Traffic && matches!(how, How::Sum | How::Count),
            weighed: kind.is_symptom() && how == How::Mean,
            members: Vec::new(),
            last: f64::NAN,
            now: Now::default(),
        };
        #[allow(clippy::cast_possible_truncation)] // no more than there are rows
        let at = self.free.pop().unwrap_or(self.groups.len() as u32);
        match self.groups.get_mut(at as usize) {
            Some(place) => *place = group,
            None => self.groups.push(group),
        }
        self.owners.insert(row, at);
        self.kept = Some(row);
    }

    /// An instance of the series that is made at a row. `labels` stands for all of the instance's labels.
    pub(super) fn join(&mut self, into: u32, row: u32, labels: u64) {
        let Some(&number) = self.owners.get(&into) else { return };
        let Some(group) = self.groups.get_mut(number as usize) else {
            return;
        };
        let at = group.members.partition_point(|other| *other < row);
        group.members.insert(at, row);
        let place = row as usize;
        if self.parts.len() <= place {
            self.parts.resize(place + 1, NOT);
        }
        if let Some(part) = self.parts.get_mut(place) {
            *part = Part {
                group: number,
                labels,
                ..NOT
            };
        }
        if group.traffic {
            let rows = self.traffic.entry(labels).or_default();
            let at = rows.partition_point(|other| *other < row);
            rows.insert(at, row);
        }
    }

    /// What the values of a row are is another thing from now on.
    pub(super) fn begin_anew(&mut self, row: u32) {
        let group = self.owners.get(&row).copied();
        if let Some(group) = group.and_then(|group| self.groups.get_mut(group as usize)) {
            group.last = f64::NAN;
        }
    }

    /// Whoever is to come has come, or found no room.
    pub(super) fn settle(&mut self) {
        self.kept = None;
    }

    /// A row is given up: an instance's, or that of a series that was made.
    pub(super) fn leave(&mut self, row: u32) {
        if let Some(part) = self.parts.get_mut(row as usize) {
            let part = std::mem::replace(part, NOT);
            if let Some(group) = self.groups.get_mut(part.group as usize) {
                group.members.retain(|member| *member != row);
            }
            if let Some(rows) = self.traffic.get_mut(&part.labels) {
                rows.retain(|other| *other != row);
                if rows.is_empty() {
                    self.traffic.remove(&part.labels);
                }
            }
        }
        if let Some(number) = self.owners.remove(&row)
            && let Some(group) = self.groups.get_mut(number as usize)
        {
            for member in std::mem::take(&mut group.members) {
                if let Some(part) = self.parts.get_mut(member as usize) {
                    *part = NOT;
                }
            }
            group.row = NOT.group;
            // the same order as after a restore
            let at = self.free.partition_point(|other| *other < number);
            self.free.insert(at, number);
        }
    }

    /// Nothing of the window at hand is known yet.
    pub(super) fn begin(&mut self) {
        self.made.clear();
        self.entries.clear();
    }

    /// Takes in entry `i` of a closed window, which is an instance's of that group.
    pub(super) fn take(&mut self, number: u32, closed: &Closed<'_>, i: usize, uncertain: Uncertain) {
        let (Some(&row), Some(&value), Some(&count)) = (closed.rows.get(i), closed.values.get(i), closed.counts.get(i))
        else {
            return;
        };
        let (Some(group), Some(part)) = (self.groups.get_mut(number as usize), self.parts.get_mut(row as usize)) else {
            return;
        };
        self.entries.push(i);
        let (end, now) = (closed.end.as_millis(), &mut group.now);
        if now.listed == 0 {
            (now.least, now.greatest, now.newest) = (f64::INFINITY, f64::NEG_INFINITY, NEVER);
        }
        now.listed += 1;
        if count == 0 || !value.is_finite() {
            if count == 0 && value.is_finite() {
                now.filled = (now.filled.0 + value, now.filled.1 + 1);
            }
            now.missing += u32::from(part.last != NEVER && end - part.last <= uncertain.missing);
            return;
        }
        if part.first == NEVER {
            part.first = end;
            now.fresh += 1;
        }
        now.young += u32::from(end - part.first <= uncertain.young);
        (part.last, part.value) = (end, value);
        now.sent += 1;
        now.samples += u64::from(count);
        now.most = now.most.max(count);
        now.sum += value;
        now.covered += value * f64::from(count);
        now.least = now.least.min(value);
        now.greatest = now.greatest.max(value);
        now.newest = now.newest.max(closed.last(i).as_millis());
    }

    /// The window is over: works out what is made of its instances.
    pub(super) fn finish(&mut self, closed: &Closed<'_>) {
        if !self.traffic.is_empty() {
            self.weigh(closed);
        }
        for group in &mut self.groups {
            let now = std::mem::take(&mut group.now);
            if now.listed == 0 {
                continue;
            }
            let value = if now.sent > 0 {
                now.value(group.how, group.last)
            } else {
                now.gap(group.how)
            };
            if now.sent > 0 {
                group.last = value;
            }
            self.made.push(Made {
                row: group.row,
                value,
                last: Timestamp::from_millis(now.newest),
            });
        }
    }

    /// Gives each instance's value the weight of its traffic: that of the series with the same labels.
    fn weigh(&mut self, closed: &Closed<'_>) {
        let end = closed.end.as_millis();
        for row in self.entries.iter().filter_map(|i| closed.rows.get(*i)) {
            let Some(part) = self.parts.get(*row as usize).filter(|part| part.last == end) else {
                continue;
            };
            let Some(group) = self.groups.get_mut(part.group as usize).filter(|group| group.weighed) else {
                continue;
            };
            let traffic = self.traffic.get(&part.labels).and_then(|rows| rows.first());
            let traffic = traffic.and_then(|row| self.parts.get(*row as usize));
            let traffic = traffic.filter(|traffic| traffic.last == end && traffic.value >= 0.0);
            let now = &mut group.now;
            match traffic {
                Some(traffic) => {
                    now.weighed.0 += part.value * traffic.value;
                    now.weighed.1 += traffic.value;
                }
                None => now.unweighed = (now.unweighed.0 + part.value, now.unweighed.1 + 1),
            }
        }
    }

    /// What was made of the window that is over.
    pub(super) fn made(&self) -> &[Made] {
        &self.made
    }

    /// The entries of the window that is over which this was made of.
    pub(super) fn entries(&self) -> &[usize] {
        &self.entries
    }

    /// Goes on from what was saved, with new rows: `places` gives that of each former one, `nobody` where it does not go on.
    pub(super) fn moved(mut self, places: &[u32], nobody: u32) -> Self {
        let place = |row: u32| places.get(row as usize).copied().filter(|place| *place != nobody);
        let mut parts = Vec::new();
        for (part, row) in self.parts.iter().zip(0..) {
            let Some(place) = place(row) else { continue };
            let place = place as usize;
            if parts.len() <= place {
                parts.resize(place + 1, NOT);
            }
            if let Some(slot) = parts.get_mut(place) {
                *slot = *part;
            }
        }
        for group in &mut self.groups {
            group.members = group.members.iter().filter_map(|row| place(*row)).collect();
            group.members.sort_unstable();
            let row = place(group.row);
            if row.is_none() {
                for member in std::mem::take(&mut group.members) {
                    if let Some(part) = parts.get_mut(member as usize) {
                        *part = NOT;
                    }
                }
            }
            group.row = row.unwrap_or(NOT.group);
        }
        self.parts = parts;
        self.find();
        self
    }

    /// Finds groups by their rows again, after a restore.
    pub(super) fn find(&mut self) {
        let used = |group: &Group| group.row != NOT.group;
        let rows = (0..).zip(&self.groups);
        let owners = rows.clone().filter(|(_, group)| used(group));
        self.owners = owners.map(|(number, group)| (group.row, number)).collect();
        let free = rows.filter(|(_, group)| !used(group)).map(|(number, _)| number);
        self.free = free.collect();
        self.traffic.clear();
        for (row, part) in (0..).zip(&self.parts) {
            if self.groups.get(part.group as usize).is_some_and(|group| group.traffic) {
                self.traffic.entry(part.labels).or_default().push(row);
            }
        }
    }
}

impl Now {
    /// What those that sent come to; `last` is what it was before.
    fn value(&self, how: How, last: f64) -> f64 {
        let value = match how {
            How::Count => self.sum,
            How::Sum => self.level(last),
            How::Mean => self.mean(),
            How::Least => self.least,
            How::Greatest => self.greatest,
        };
        value.clamp(f64::MIN, f64::MAX)
    }

    /// The mean, by traffic where there is any: an instance whose traffic is not known has as much as the others.
    fn mean(&self) -> f64 {
        let sent = f64::from(self.sent);
        let (values, traffic) = self.weighed;
        let (others, count) = (self.unweighed.0, f64::from(self.unweighed.1));
        let weighed = sent - count;
        if traffic > 0.0 && traffic.is_finite() && values.is_finite() && weighed > 0.0 {
            (values / traffic * weighed + others) / sent
        } else {
            self.sum / sent
        }
    }

    /// The sum of a level, as near to what it was as may be.
    fn level(&self, last: f64) -> f64 {
        let sent = f64::from(self.sent);
        // a new one takes the place of a missing one
        let missing = f64::from(self.missing.saturating_sub(self.young));
        let fresh = f64::from(self.fresh.saturating_sub(self.missing));
        let mut bounds = [self.sum * (sent + missing) / sent, self.sum * (sent - fresh) / sent];
        if self.young > 0 && self.most > 0 {
            // who came or went within the window was there for a part of it
            let covered = self.covered / f64::from(self.most);
            bounds = [
                bounds[0].max(bounds[1]).max(covered),
                bounds[0].min(bounds[1]).min(covered),
            ];
        }
        let (low, high) = (bounds[0].min(bounds[1]), bounds[0].max(bounds[1]));
        if last.is_finite() && low <= high {
            last.clamp(low, high)
        } else {
            self.sum
        }
    }

    /// What windows show of it while none sends.
    fn gap(&self, how: How) -> f64 {
        let (sum, count) = self.filled;
        match how {
            _ if count == 0 => f64::NAN,
            How::Count | How::Sum => sum,
            How::Mean | How::Least | How::Greatest => sum / f64::from(count),
        }
    }
}
