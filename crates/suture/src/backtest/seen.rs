//! What a pass found, as far as it is judged and drawn.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
};

use suture_engine::{DecideOut, ScoreRow, SuppressedAlarm};
use suture_event::{Anomaly, AnomalyPhase, Fact, FactBody, Incident, Labels, Timestamp};

use crate::pass::Listener;

/// Series whose course is kept for plots; of others only when they began and ended.
const COURSES: usize = 2_000;
/// Points of a course at most; beyond, the least and the largest of each four stay.
const POINTS: usize = 4_096;
/// Reasons that are kept of what was refused.
const REASONS: usize = 5;

/// An anomaly from its beginning to its end.
#[derive(Debug, Clone)]
pub(crate) struct Alarm {
    /// As it was raised.
    pub(crate) raised: Anomaly,
    /// When it ended, where it did.
    pub(crate) ended_at: Option<Timestamp>,
}

/// One window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    pub(crate) ts: Timestamp,
    pub(crate) value: f64,
    /// Lower end of the band, what was expected, and the upper end.
    pub(crate) band: Option<[f64; 3]>,
}

/// A series over time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Course {
    pub(crate) metric: Arc<str>,
    pub(crate) labels: Labels,
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
    pub(crate) windows: u64,
    /// Empty beyond the bound on courses, and where no scores were asked for.
    pub(crate) points: Vec<Point>,
    /// Windows that a point stands for, half of them: its least and largest value stand for all.
    stride: usize,
    run: Vec<Point>,
}

/// What a pass found.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) alarms: Vec<Alarm>,
    by_id: HashMap<Arc<str>, usize>,
    pub(crate) suppressed: Vec<Timestamp>,
    pub(crate) incidents: BTreeMap<(Timestamp, Arc<str>), Incident>,
    pub(crate) requests: u64,
    pub(crate) courses: BTreeMap<(Arc<str>, Labels), Course>,
    pub(crate) refused: u64,
    pub(crate) reasons: Vec<String>,
}

impl Seen {
    /// Spans in which any series was watched, in order and apart from each other.
    pub(crate) fn covered(&self) -> Vec<(Timestamp, Timestamp)> {
        let mut spans: Vec<_> = self
            .courses
            .values()
            .map(|course| (course.first, course.last))
            .collect();
        spans.sort_unstable();
        let mut out: Vec<(Timestamp, Timestamp)> = Vec::new();
        for (from, to) in spans {
            match out.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => out.push((from, to)),
            }
        }
        out
    }
}

impl Course {
    fn push(&mut self, point: Point) {
        self.run.push(point);
        if self.run.len() < self.stride {
            return;
        }
        let run = std::mem::take(&mut self.run);
        extremes(&run, &mut self.points);
        if self.points.len() >= POINTS {
            let all = std::mem::take(&mut self.points);
            for four in all.chunks(4) {
                extremes(four, &mut self.points);
            }
            self.stride = if self.stride == 1 { 4 } else { 2 * self.stride };
        }
    }
}

/// The least and the largest of a run, in order of time; of one point that point.
fn extremes(run: &[Point], out: &mut Vec<Point>) {
    let by = |a: &&Point, b: &&Point| a.value.total_cmp(&b.value);
    let (Some(least), Some(most)) = (run.iter().min_by(by), run.iter().max_by(by)) else {
        return;
    };
    let (first, second) = if least.ts <= most.ts {
        (least, most)
    } else {
        (most, least)
    };
    out.push(*first);
    if first.ts != second.ts {
        out.push(*second);
    }
}

impl Listener for Seen {
    fn rejected(&mut self, path: &Path, number: i64, reason: &str) -> anyhow::Result<()> {
        self.refused += 1;
        let told = self.reasons.iter().any(|told| told.ends_with(reason));
        if self.reasons.len() < REASONS && !told {
            self.reasons.push(format!("{}, {number}: {reason}", path.display()));
        }
        Ok(())
    }

    fn score(&mut self, score: &ScoreRow) -> anyhow::Result<()> {
        let point = Point {
            ts: score.ts,
            value: score.value,
            band: score.band.map(|band| [band.lower, band.expected, band.upper]),
        };
        let room = self.courses.len() < COURSES;
        let course = self
            .courses
            .entry((score.metric.clone(), score.labels.clone()))
            .or_insert_with(|| Course {
                metric: score.metric.clone(),
                labels: score.labels.clone(),
                first: score.ts,
                last: score.ts,
                windows: 0,
                points: Vec::new(),
                stride: usize::from(room),
                run: Vec::new(),
            });
        course.first = course.first.min(score.ts);
        course.last = course.last.max(score.ts);
        course.windows += 1;
        if course.stride > 0 {
            course.push(point);
        }
        Ok(())
    }

    fn suppressed(&mut self, alarm: &SuppressedAlarm) -> anyhow::Result<()> {
        self.suppressed.push(alarm.at);
        Ok(())
    }

    fn fact(&mut self, fact: &Fact) -> anyhow::Result<()> {
        let FactBody::Anomaly(anomaly) = &fact.body else {
            return Ok(());
        };
        if anomaly.phase == AnomalyPhase::Opened {
            self.by_id.insert(anomaly.id.clone(), self.alarms.len());
            self.alarms.push(Alarm {
                raised: anomaly.clone(),
                ended_at: None,
            });
        } else if anomaly.phase == AnomalyPhase::Ended {
            let place = self.by_id.get(&anomaly.id).and_then(|at| self.alarms.get_mut(*at));
            if let Some(alarm) = place {
                alarm.ended_at = Some(anomaly.at);
            }
        }
        Ok(())
    }

    fn decided(&mut self, decided: &mut DecideOut) -> anyhow::Result<()> {
        for incident in decided.incidents.drain(..) {
            self.incidents
                .insert((incident.opened_at, incident.id.clone()), incident);
        }
        self.requests += decided.remediations.len() as u64;
        *decided = DecideOut::default();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(i: i64, value: f64) -> ScoreRow {
        ScoreRow {
            ts: Timestamp::from_millis(1_700_006_400_000 + i * 60_000),
            metric: "cpu".into(),
            labels: Labels::default(),
            value,
            score: 0.5,
            band: None,
        }
    }

    #[test]
    fn a_course_is_bounded_and_keeps_its_extremes() {
        let mut seen = Seen::default();
        for i in 0..100_000 {
            let value = if i == 70_001 { 50.0 } else { (i % 7) as f64 };
            seen.score(&row(i, value)).unwrap();
        }
        let course = seen.courses.values().next().unwrap();
        assert_eq!(course.windows, 100_000);
        assert!(course.points.len() <= POINTS && course.points.len() >= POINTS / 4);
        assert!(course.points.is_sorted_by_key(|point| point.ts));
        assert_eq!(course.points.iter().filter(|point| point.value == 50.0).count(), 1);
    }

    #[test]
    fn time_that_is_covered_has_no_gaps_counted_in() {
        let mut seen = Seen::default();
        for (name, from) in [("a", 0), ("b", 5), ("c", 100)] {
            for i in from..from + 10 {
                let mut row = row(i, 1.0);
                row.metric = name.into();
                seen.score(&row).unwrap();
            }
        }
        let minutes: Vec<i64> = seen
            .covered()
            .iter()
            .map(|(a, b)| b.since(*a).as_millis() / 60_000)
            .collect();
        assert_eq!(minutes, [14, 9]);
    }
}
