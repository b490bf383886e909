//! What is on the screen: a bounded memory of the latest samples, and the story so far.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use suture_event::{Anomaly, AnomalyPhase, ChangeKind, Incident, IncidentStatus, SeriesKey, Span, Timestamp};

use crate::{
    DemoEvent,
    lines::{Narrator, Told},
    story::Story,
};

/// How much time the charts show.
pub(super) const SHOWN: Span = Span::from_mins(40);
/// The most samples kept of a series; older ones go first.
const POINTS: usize = 600;
/// The most series kept; further ones are not shown.
const SERIES: usize = 4_000;
/// The most lines of the story kept.
const LINES: usize = 200;
/// The most markers and incidents kept; older ones go first.
const MARKS: usize = 64;
/// The most anomalies remembered by id.
const ANOMALIES: usize = 2_000;

/// One point of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    pub(super) at: Timestamp,
    pub(super) value: f64,
}

/// Lower and upper end of what was expected, from a time on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bounds {
    pub(super) from: Timestamp,
    pub(super) lower: f64,
    pub(super) upper: f64,
}

/// One series as it is shown.
#[derive(Debug, Clone, Default)]
pub(super) struct Trace {
    pub(super) points: VecDeque<Point>,
    /// By time, each holding until the next.
    pub(super) bounds: VecDeque<Bounds>,
    /// An anomaly of it is open.
    pub(super) anomalous: bool,
}

/// A deploy or rollback.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mark {
    pub(super) at: Timestamp,
    pub(super) service: Arc<str>,
    pub(super) rollback: bool,
}

/// Everything that is shown. Feed it with [`Screen::take`].
#[derive(Debug, Default)]
pub struct Screen {
    pub(super) now: Timestamp,
    pub(super) speed: f64,
    pub(super) learning: Option<f64>,
    pub(super) traces: BTreeMap<SeriesKey, Trace>,
    pub(super) marks: VecDeque<Mark>,
    /// By the time they opened.
    pub(super) incidents: VecDeque<Incident>,
    pub(super) lines: VecDeque<Told>,
    pub(super) story: Story,
    anomalies: BTreeMap<Arc<str>, SeriesKey>,
    order: VecDeque<Arc<str>>,
    narrator: Narrator,
}

impl Screen {
    /// An empty screen; `story` keeps the accounts.
    #[must_use]
    pub fn new(story: Story) -> Self {
        Self {
            story,
            ..Self::default()
        }
    }

    /// The accounts.
    #[must_use]
    pub fn story(&self) -> &Story {
        &self.story
    }

    /// Takes in what happened and gives the lines that tell it.
    pub fn take(&mut self, event: &DemoEvent) -> Vec<Told> {
        self.story.take(event);
        match event {
            DemoEvent::Clock { at, speed, learning } => {
                self.now = *at;
                self.speed = *speed;
                self.learning = *learning;
            }
            DemoEvent::Samples(samples) => {
                for sample in samples {
                    let key = SeriesKey {
                        metric: sample.metric.clone(),
                        labels: sample.labels.clone(),
                    };
                    if let Some(trace) = self.trace(key) {
                        push_bounded(
                            &mut trace.points,
                            Point {
                                at: sample.ts,
                                value: sample.value,
                            },
                            POINTS,
                        );
                    }
                }
            }
            DemoEvent::Change(change) => {
                let rollback = change.kind == ChangeKind::Rollback;
                push_bounded(
                    &mut self.marks,
                    Mark {
                        at: change.at,
                        service: change.service.clone(),
                        rollback,
                    },
                    MARKS,
                );
            }
            DemoEvent::Anomaly(anomaly) => self.anomaly(anomaly),
            DemoEvent::Incident(incident) => self.incident(incident),
            _ => {}
        }
        let told = self.narrator.tell(event);
        for line in &told {
            push_bounded(&mut self.lines, line.clone(), LINES);
        }
        told
    }

    fn trace(&mut self, key: SeriesKey) -> Option<&mut Trace> {
        if self.traces.len() >= SERIES && !self.traces.contains_key(&key) {
            return None;
        }
        Some(self.traces.entry(key).or_default())
    }

    fn anomaly(&mut self, anomaly: &Anomaly) {
        let key = SeriesKey {
            metric: anomaly.metric.clone(),
            labels: anomaly.labels.clone(),
        };
        if self.anomalies.insert(anomaly.id.clone(), key.clone()).is_none() {
            self.order.push_back(anomaly.id.clone());
            if self.order.len() > ANOMALIES
                && let Some(oldest) = self.order.pop_front()
            {
                self.anomalies.remove(&oldest);
            }
        }
        let Some(trace) = self.trace(key) else { return };
        trace.anomalous = anomaly.phase != AnomalyPhase::Ended;
        // the band that the series left, as it was on the way there
        if anomaly.phase == AnomalyPhase::Opened && trace.bounds.back().is_none_or(|b| b.from < anomaly.onset) {
            let from = anomaly.onset.minus(SHOWN);
            let from = trace.bounds.back().map_or(from, |b| b.from.max(from));
            let bounds = Bounds {
                from,
                lower: anomaly.lower,
                upper: anomaly.upper,
            };
            push_bounded(&mut trace.bounds, bounds, POINTS);
        }
    }

    fn incident(&mut self, incident: &Incident) {
        match self.incidents.iter_mut().find(|i| i.id == incident.id) {
            Some(known) => known.clone_from(incident),
            None => push_bounded(&mut self.incidents, incident.clone(), MARKS),
        }
    }

    /// The incident to look at: the newest that is open, or else the newest.
    pub(super) fn focus(&self) -> Option<&Incident> {
        let open = self.incidents.iter().rev().find(|i| i.status == IncidentStatus::Open);
        open.or_else(|| self.incidents.back())
    }

    /// The series to show, most telling first: one a metric and service, those of the incident in focus before the front
    /// door's.
    pub(super) fn shown(&self, count: usize) -> Vec<(&SeriesKey, &Trace)> {
        let mut keys: Vec<&SeriesKey> = Vec::new();
        let mut add = |key: &'_ SeriesKey| {
            let same = |k: &SeriesKey| k.metric == key.metric && k.labels.get("service") == key.labels.get("service");
            if let Some((key, _)) = self.traces.get_key_value(key)
                && !keys.iter().any(|k| same(k))
            {
                keys.push(key);
            }
        };
        if let Some(incident) = self.focus() {
            let blamed = incident.hypotheses.first().and_then(|h| h.service.clone());
            let mut signals: Vec<_> = incident.signals.iter().collect();
            signals.sort_by_key(|s| (s.service != blamed, !s.opening, s.onset));
            for key in signals.iter().filter_map(|s| self.anomalies.get(&s.anomaly)) {
                add(key);
            }
        }
        for metric in ["latency_p99_seconds", "error_ratio", "requests_per_second", "cpu_ratio"] {
            if let Some((key, _)) = self
                .traces
                .iter()
                .find(|(k, _)| k.metric.as_ref() == metric && k.labels.get("service") == Some("frontend"))
            {
                add(key);
            }
        }
        keys.into_iter()
            .take(count)
            .filter_map(|k| Some((k, self.traces.get(k)?)))
            .collect()
    }
}

fn push_bounded<T>(queue: &mut VecDeque<T>, item: T, most: usize) {
    if queue.len() >= most {
        queue.pop_front();
    }
    queue.push_back(item);
}
