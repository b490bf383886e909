//! Counters that nobody calls so: closed windows in, the values that are judged out.
//!
//! Many formats do not say what a number is, and names mislead: `requests_total` is a counter where Prometheus is, and what came
//! since the last report where a script sends it. So a series whose name is a counter's by convention is watched for what it
//! does: a counter rises and never falls, but when it starts again from zero. That holds for a metric, whatever its series: what
//! the busy ones show, the idle ones are. For some windows nothing is certain and nothing is judged. Until it shows after that, and
//! where it proves not to be one, a window's last sample is its value; from then on its rate is, and its detectors begin anew,
//! which as a rule is within their warm-up.
//!
//! Of a counter two more things follow from its name. The increase of `x_sum` over that of `x_count` is the mean of `x`, and is
//! what `x_sum` is judged by; and the buckets of a histogram are no signals each by itself.
//!
//! Everything follows from the windows' values alone, so that nothing depends on how samples came in batches.

use std::{collections::BTreeMap, sync::Arc};

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use suture_event::SeriesKey;
use suture_window::{Closed, Gaps};

/// In place of a metric: the telemetry or the pipeline file says what the series is.
const NONE: u32 = u32::MAX;
/// Windows and rises after which a metric whose falls are at most this share of its rises is a counter.
const WINDOWS: u32 = 5;
const RISES: u32 = 8;
const FEW: u32 = 16;
/// Windows for which one of which nothing is certain yet is not judged: what a counter was before it was known to be one would be
/// the largest value that anybody saw.
const SETTLE: u32 = 10;
/// Falls after which one that falls more often than that is none, and after which one that was taken for a counter is none after
/// all.
const FALLS: u32 = 3;
const AFTER_ALL: u32 = 8;
/// Rises and falls remembered.
const MOST: u32 = 4_096;

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
enum Is {
    #[default]
    Unknown,
    Counter,
    Level,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Metric {
    name: Arc<str>,
    is: Is,
    windows: u32,
    rises: u32,
    falls: u32,
}

impl Metric {
    fn new(name: Arc<str>) -> Self {
        Self {
            name,
            is: Is::Unknown,
            windows: 0,
            rises: 0,
            falls: 0,
        }
    }

    /// What it is after one more window; whether that is news.
    fn decide(&mut self) -> bool {
        let Self {
            windows, rises, falls, ..
        } = *self;
        let seldom = falls <= rises / FEW;
        let is = match self.is {
            Is::Unknown if windows >= WINDOWS && rises >= RISES && seldom => Is::Counter,
            Is::Unknown if falls >= FALLS && !seldom => Is::Level,
            Is::Counter if falls >= AFTER_ALL && falls > rises / (FEW / 2) => Is::Level,
            is => is,
        };
        if rises + falls > MOST {
            (self.rises, self.falls) = (rises / 2, falls / 2);
        }
        let turned = (is == Is::Counter) != (self.is == Is::Counter);
        self.is = is;
        turned
    }
}

/// What is known of all that may be a counter.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Meter {
    metrics: Vec<Metric>,
    /// By row in the windows: its metric, and its last value.
    rows: Vec<(u32, f64)>,
    #[serde(skip)]
    by_name: BTreeMap<Arc<str>, u32>,
    /// Rows of sums and counts by what their names begin with and their labels, and the count of each sum's row.
    #[serde(skip)]
    pairs: FxHashMap<u64, (u32, u32)>,
    #[serde(skip)]
    counts: FxHashMap<u32, u32>,
    #[serde(skip)]
    values: Vec<f64>,
    /// Metrics that moved in the window at hand.
    #[serde(skip)]
    moved: Vec<u32>,
}

/// Whether a metric's name is a counter's by the conventions of Prometheus and OpenMetrics.
pub(super) fn may_count(metric: &str) -> bool {
    ["_total", "_count", "_sum", "_bucket"]
        .iter()
        .any(|end| metric.len() > end.len() && metric.ends_with(end))
}

/// What the rows of a sum and of its count have in common, and whether this is the sum.
fn pair_of(key: &SeriesKey) -> Option<(u64, bool)> {
    let sum = key.metric.strip_suffix("_sum");
    let stem = sum.or_else(|| key.metric.strip_suffix("_count"))?;
    let labels = SeriesKey {
        metric: stem.into(),
        labels: key.labels.clone(),
    };
    Some((labels.hash64(), sum.is_some()))
}

impl Meter {
    pub(super) fn is_empty(&self) -> bool {
        self.metrics.is_empty()
    }

    /// A series has this row that may be a counter's.
    pub(super) fn add(&mut self, row: u32, key: &SeriesKey) {
        let metric = match self.by_name.get(&key.metric) {
            Some(metric) => *metric,
            None => {
                #[allow(clippy::cast_possible_truncation)] // no more than there are series
                let metric = self.metrics.len() as u32;
                self.metrics.push(Metric::new(key.metric.clone()));
                self.by_name.insert(key.metric.clone(), metric);
                metric
            }
        };
        let at = row as usize;
        if self.rows.len() <= at {
            self.rows.resize(at + 1, (NONE, f64::NAN));
        }
        if let Some(place) = self.rows.get_mut(at) {
            *place = (metric, f64::NAN);
        }
        self.pair(row, key);
    }

    fn pair(&mut self, row: u32, key: &SeriesKey) {
        let Some((hash, is_sum)) = pair_of(key) else { return };
        let pair = self.pairs.entry(hash).or_insert((NONE, NONE));
        if is_sum {
            pair.0 = row;
        } else {
            pair.1 = row;
        }
        if pair.0 != NONE && pair.1 != NONE {
            self.counts.insert(pair.0, pair.1);
        }
    }

    /// The series of a row is given up.
    pub(super) fn forget(&mut self, row: u32, key: &SeriesKey) {
        let Some(place) = self.rows.get_mut(row as usize).filter(|place| place.0 != NONE) else {
            return;
        };
        *place = (NONE, f64::NAN);
        let Some((hash, is_sum)) = pair_of(key) else { return };
        let Some(pair) = self.pairs.get_mut(&hash) else { return };
        self.counts.remove(&pair.0);
        if is_sum {
            pair.0 = NONE;
        } else {
            pair.1 = NONE;
        }
        if *pair == (NONE, NONE) {
            self.pairs.remove(&hash);
        }
    }

    /// The values of a window as they are to be judged. Metrics that prove to be counters now, or to be none, are read as such
    /// from the next window on; [`Self::turned`] names them.
    pub(super) fn read(&mut self, closed: &Closed<'_>, gaps: Gaps) -> &[f64] {
        self.values.clear();
        self.values.extend_from_slice(closed.values);
        self.moved.clear();
        for (i, (&row, &count)) in closed.rows.iter().zip(closed.counts).enumerate() {
            let Some((metric, before)) = self.rows.get_mut(row as usize) else {
                break;
            };
            let (Some(of), Some(value)) = (self.metrics.get_mut(*metric as usize), self.values.get_mut(i)) else {
                continue;
            };
            let level = if count > 0 { closed.level(i) } else { f64::NAN };
            if of.is != Is::Level && level.is_finite() && before.is_finite() {
                match level.total_cmp(before) {
                    std::cmp::Ordering::Greater => of.rises += 1,
                    std::cmp::Ordering::Less => of.falls += 1,
                    std::cmp::Ordering::Equal => {}
                }
                if self.moved.last() != Some(metric) {
                    self.moved.push(*metric);
                }
            }
            if of.is != Is::Counter {
                let settling = of.is == Is::Unknown && of.windows < SETTLE;
                *value = match gaps {
                    _ if settling => f64::NAN,
                    _ if count > 0 => level,
                    _ if value.is_nan() => f64::NAN,
                    Gaps::Skip => f64::NAN,
                    Gaps::Carry => *before,
                    Gaps::Zero => 0.0,
                };
            } else if let Some(rate_of_count) = self.counts.get(&row).and_then(|row| rate_of(closed, *row)) {
                *value = if rate_of_count > 0.0 {
                    *value / rate_of_count
                } else {
                    f64::NAN
                };
            } else if of.name.ends_with("_bucket") {
                *value = f64::NAN;
            }
            if level.is_finite() {
                *before = level;
            }
        }
        self.moved.sort_unstable();
        self.moved.dedup();
        let metrics = &mut self.metrics;
        self.moved.retain(|metric| {
            metrics.get_mut(*metric as usize).is_some_and(|metric| {
                metric.windows = metric.windows.saturating_add(1);
                metric.decide()
            })
        });
        &self.values
    }

    /// Rows whose metric has just proved to be a counter, or to be none, and whether it is one.
    pub(super) fn turned(&self) -> Vec<(u32, bool)> {
        if self.moved.is_empty() {
            return Vec::new();
        }
        let rows = (0..)
            .zip(&self.rows)
            .filter(|(_, (metric, _))| self.moved.contains(metric));
        rows.map(|(row, _)| (row, self.counts_up(row))).collect()
    }

    /// Whether a row is read as a counter's though nobody says so.
    pub(super) fn counts_up(&self, row: u32) -> bool {
        let metric = self.rows.get(row as usize).map_or(NONE, |(metric, _)| *metric);
        self.metrics
            .get(metric as usize)
            .is_some_and(|metric| metric.is == Is::Counter)
    }

    /// The same of a metric.
    pub(super) fn is_counter(&self, metric: &str) -> bool {
        let metric = self.by_name.get(metric).and_then(|at| self.metrics.get(*at as usize));
        metric.is_some_and(|metric| metric.is == Is::Counter)
    }

    /// Goes on from what was saved, with new rows: `places` gives that of each former one, `nobody` where it does not go on.
    pub(super) fn moved(mut self, places: &[u32], nobody: u32) -> Self {
        let mut rows = Vec::new();
        for (entry, place) in self.rows.iter().zip(places).filter(|(_, place)| **place != nobody) {
            let at = *place as usize;
            if rows.len() <= at {
                rows.resize(at + 1, (NONE, f64::NAN));
            }
            if let Some(slot) = rows.get_mut(at) {
                *slot = *entry;
            }
        }
        self.rows = rows;
        self
    }

    /// Finds metrics by their names and sums by their counts again, after a restore.
    pub(super) fn link<'a>(&mut self, keys: impl Iterator<Item = &'a SeriesKey>) {
        self.by_name = (0..)
            .zip(&self.metrics)
            .map(|(at, metric)| (metric.name.clone(), at))
            .collect();
        (self.pairs, self.counts) = Default::default();
        for (row, key) in (0..).zip(keys) {
            if self.rows.get(row as usize).is_some_and(|(metric, _)| *metric != NONE) {
                self.pair(row, key);
            }
        }
    }
}

/// What a row's counter grew by a second in a window, where it sent.
fn rate_of(closed: &Closed<'_>, row: u32) -> Option<f64> {
    let i = closed.rows.binary_search(&row).ok()?;
    closed.values.get(i).copied().filter(|rate| rate.is_finite())
}
