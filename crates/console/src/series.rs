//! What series measured, for plots: a ring of windows for each, so many series and no more.

use std::collections::{BTreeMap, VecDeque};

use suture_engine::ScoreRow;
use suture_event::{SeriesKey, Timestamp};

/// One window of a series. What is not known is no number; seven digits are enough for a plot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point {
    pub(crate) at: Timestamp,
    pub(crate) value: f32,
    pub(crate) expected: f32,
    pub(crate) lower: f32,
    pub(crate) upper: f32,
}

#[derive(Debug, Default)]
struct History {
    points: VecDeque<Point>,
    /// Whether an anomaly was raised on it: it then stays before others.
    marked: bool,
}

/// The histories of many series.
#[derive(Debug, Default)]
pub(crate) struct Histories {
    series: BTreeMap<SeriesKey, History>,
    /// Series that found no room.
    pub(crate) left_out: u64,
}

impl Histories {
    /// Keeps a window. One that is no newer than the last of its series is known already.
    pub(crate) fn take(&mut self, row: &ScoreRow, most: usize, points: usize) {
        let key = SeriesKey {
            metric: row.metric.clone(),
            labels: row.labels.clone(),
        };
        if !self.series.contains_key(&key) && self.series.len() >= most {
            self.left_out += 1;
            return;
        }
        let history = self.series.entry(key).or_default();
        if history.points.back().is_some_and(|last| row.ts <= last.at) {
            return;
        }
        while history.points.len() >= points.max(1) {
            history.points.pop_front();
        }
        let (expected, lower, upper) = match row.band {
            Some(band) => (narrow(band.expected), narrow(band.lower), narrow(band.upper)),
            None => (f32::NAN, f32::NAN, f32::NAN),
        };
        history.points.push_back(Point {
            at: row.ts,
            value: narrow(row.value),
            expected,
            lower,
            upper,
        });
    }

    /// An anomaly was raised on a series: where there is no room for it, the one without an anomaly that was silent for longest
    /// gives way.
    pub(crate) fn mark(&mut self, key: &SeriesKey, most: usize) {
        if let Some(history) = self.series.get_mut(key) {
            history.marked = true;
            return;
        }
        if self.series.len() >= most {
            let unmarked = self.series.iter().filter(|(_, history)| !history.marked);
            let oldest = unmarked.min_by_key(|(_, history)| history.points.back().map(|point| point.at));
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                return;
            };
            self.series.remove(&oldest);
        }
        let history = History {
            marked: true,
            ..History::default()
        };
        self.series.insert(key.clone(), history);
    }

    /// The windows of a series within a span, oldest first.
    pub(crate) fn within(&self, key: &SeriesKey, from: Timestamp, to: Timestamp) -> Vec<Point> {
        let Some(history) = self.series.get(key) else {
            return Vec::new();
        };
        let begin = history.points.partition_point(|point| point.at < from);
        let points = history.points.iter().skip(begin);
        points.take_while(|point| point.at <= to).copied().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.series.len()
    }
}

#[allow(clippy::cast_possible_truncation)] // a plot shows no more
fn narrow(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    // what goes wrong here is a failed test
    #![allow(clippy::unwrap_used)]

    use suture_event::Labels;

    use super::*;

    fn row(metric: &str, minute: i64) -> ScoreRow {
        ScoreRow {
            ts: Timestamp::from_millis(60_000 * minute),
            metric: metric.into(),
            labels: Labels::default(),
            value: 1.0,
            score: 0.0,
            band: None,
        }
    }

    fn all(histories: &Histories, metric: &str) -> Vec<i64> {
        let key = SeriesKey {
            metric: metric.into(),
            labels: Labels::default(),
        };
        let points = histories.within(&key, Timestamp::MIN, Timestamp::MAX);
        points.iter().map(|point| point.at.as_millis() / 60_000).collect()
    }

    #[test]
    fn a_series_keeps_its_last_windows_each_once() {
        let mut histories = Histories::default();
        for minute in [0, 1, 2, 1, 2, 3, 4] {
            histories.take(&row("m", minute), 1, 3);
        }
        assert_eq!(all(&histories, "m"), [2, 3, 4]);
    }

    #[test]
    fn a_series_with_an_anomaly_takes_the_place_of_the_one_silent_for_longest_without() {
        let mut histories = Histories::default();
        for (metric, minute) in [("old", 1), ("new", 2), ("third", 3)] {
            histories.take(&row(metric, minute), 2, 3);
        }
        assert_eq!((histories.len(), histories.left_out), (2, 1));
        let key = |metric: &str| SeriesKey {
            metric: metric.into(),
            labels: Labels::default(),
        };
        histories.mark(&key("third"), 2);
        histories.take(&row("third", 4), 2, 3);
        assert_eq!((all(&histories, "old"), all(&histories, "third")), (vec![], vec![4]));
        histories.mark(&key("new"), 2);
        histories.mark(&key("fourth"), 2);
        assert_eq!(histories.len(), 2, "all have anomalies, so none gives way");
    }
}
