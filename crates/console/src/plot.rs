//! What an incident's signals looked like, on one axis of time.

use std::{collections::BTreeMap, sync::Arc};

use schemars::JsonSchema;
use serde::Serialize;
use suture_event::{Incident, Labels, SeriesKey, SignalKind, Span, Timestamp};

use crate::{series::Point, store::State};

/// The baseline before an incident is at least so long.
const BEFORE: Span = Span::from_mins(60);
/// And so much is shown behind its end, at least.
const AFTER: Span = Span::from_mins(15);
/// Nothing is shown for longer than this before the first signs, however long the incident lasts.
const LONGEST: Span = Span::from_hours(24);

/// The plots of an incident.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Plots {
    /// Where the axis begins.
    pub from: Timestamp,
    /// Where it ends.
    pub to: Timestamp,
    /// Things that happened, to be marked on it.
    pub marks: Vec<Mark>,
    /// The signals' series, those that opened the incident first.
    pub series: Vec<SeriesPlot>,
    /// Series beyond the bound on how many are drawn.
    pub left_out: usize,
}

/// What a mark stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MarkKind {
    /// A change.
    Change,
    /// The incident opened.
    Opened,
    /// An action was asked for.
    Action,
    /// The incident was resolved.
    Resolved,
}

/// Something on the axis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Mark {
    /// When.
    pub at: Timestamp,
    /// What sort.
    pub kind: MarkKind,
    /// What, in words.
    pub text: String,
}

/// A series' windows, a column each: all columns are of one length. What is not known is null.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct SeriesPlot {
    /// The metric.
    pub metric: Arc<str>,
    /// Its labels.
    #[schemars(with = "BTreeMap<String, String>")]
    pub labels: Labels,
    /// The service.
    pub service: Option<Arc<str>>,
    /// What is measured.
    pub kind: SignalKind,
    /// When it was outside its band.
    pub spans: Vec<AnomalySpan>,
    /// Milliseconds since the epoch.
    pub at: Vec<i64>,
    /// What was measured.
    pub value: Vec<Option<f32>>,
    /// What was expected.
    pub expected: Vec<Option<f32>>,
    /// The band's lower end.
    pub lower: Vec<Option<f32>>,
    /// The band's upper end.
    pub upper: Vec<Option<f32>>,
}

/// When a series was outside its band.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct AnomalySpan {
    /// The anomaly.
    pub anomaly: Arc<str>,
    /// Start of the first window outside.
    pub from: Timestamp,
    /// When it ended, where it did.
    pub to: Option<Timestamp>,
    /// Why it fired.
    pub detail: String,
}

/// When an incident's plots begin and end.
pub(crate) fn axis(incident: &Incident, now: Option<Timestamp>) -> (Timestamp, Timestamp) {
    let first = incident.signals.iter().map(|signal| signal.onset).min();
    let first = first.unwrap_or(incident.opened_at).min(incident.opened_at);
    let last = incident
        .resolved_at
        .or(now)
        .unwrap_or(incident.updated_at)
        .max(incident.updated_at);
    // a baseline several times as long as what is to be seen against it
    let lasted = last.since(first).as_millis().max(0);
    let before = Span::from_millis(lasted.saturating_mul(3)).max(BEFORE).min(LONGEST);
    let after = Span::from_millis(lasted / 2).max(AFTER).min(BEFORE);
    let to = last.plus(after);
    (first.minus(before), now.map_or(to, |now| to.min(now.max(last))))
}

/// At most so many points: of each run of them the least and the largest.
fn thin(points: Vec<Point>, most: usize) -> Vec<Point> {
    let most = most.max(4);
    if points.len() <= most {
        return points;
    }
    let run = points.len().div_ceil(most / 2);
    let mut kept = Vec::with_capacity(most + 2);
    for run in points.chunks(run) {
        let least = run.iter().enumerate().min_by(|a, b| a.1.value.total_cmp(&b.1.value));
        let largest = run.iter().enumerate().max_by(|a, b| a.1.value.total_cmp(&b.1.value));
        let (Some((a, _)), Some((b, _))) = (least, largest) else {
            continue;
        };
        kept.extend(run.get(a.min(b)));
        if a != b {
            kept.extend(run.get(a.max(b)));
        }
    }
    kept
}

impl State {
    /// The plots of an incident; `None` where there is no such incident.
    pub(crate) fn plots(&self, id: &str, most_series: usize, most_points: usize) -> Option<Plots> {
        let incident = &self.incidents.get(id)?.incident;
        let (from, to) = axis(incident, self.now);
        let mut by_series: BTreeMap<SeriesKey, SeriesPlot> = BTreeMap::new();
        let mut order: Vec<SeriesKey> = Vec::new();
        let mut signals: Vec<_> = incident.signals.iter().collect();
        signals.sort_by_key(|signal| (!signal.opening, signal.onset));
        for signal in signals {
            let Some(anomaly) = self.anomalies.get(&signal.anomaly) else {
                continue;
            };
            let key = SeriesKey {
                metric: anomaly.metric.clone(),
                labels: anomaly.labels.clone(),
            };
            let plot = by_series.entry(key.clone()).or_insert_with(|| {
                order.push(key);
                SeriesPlot {
                    metric: anomaly.metric.clone(),
                    labels: anomaly.labels.clone(),
                    service: anomaly.service.clone(),
                    kind: anomaly.signal,
                    spans: Vec::new(),
                    at: Vec::new(),
                    value: Vec::new(),
                    expected: Vec::new(),
                    lower: Vec::new(),
                    upper: Vec::new(),
                }
            });
            plot.spans.push(AnomalySpan {
                anomaly: anomaly.id.clone(),
                from: anomaly.onset,
                to: anomaly.ended_at,
                detail: anomaly.detail.clone(),
            });
        }
        let left_out = order.len().saturating_sub(most_series);
        let mut series = Vec::new();
        for key in order.into_iter().take(most_series) {
            let Some(mut plot) = by_series.remove(&key) else {
                continue;
            };
            let known = |value: f32| value.is_finite().then_some(value);
            for point in thin(self.histories.within(&key, from, to), most_points) {
                plot.at.push(point.at.as_millis());
                plot.value.push(known(point.value));
                plot.expected.push(known(point.expected));
                plot.lower.push(known(point.lower));
                plot.upper.push(known(point.upper));
            }
            series.push(plot);
        }
        Some(Plots {
            from,
            to,
            marks: self.marks(incident, from, to),
            series,
            left_out,
        })
    }

    fn marks(&self, incident: &Incident, from: Timestamp, to: Timestamp) -> Vec<Mark> {
        let mut marks = vec![Mark {
            at: incident.opened_at,
            kind: MarkKind::Opened,
            text: "the incident opened".to_owned(),
        }];
        for change in self.changes_of(incident, from, to) {
            marks.push(Mark {
                at: change.at,
                kind: MarkKind::Change,
                text: format!("{} of {}", change.id, change.service),
            });
        }
        for action in self.actions_of(&incident.id) {
            let request = &action.request;
            marks.push(Mark {
                at: request.at,
                kind: MarkKind::Action,
                text: format!("{} {}", request.step.action, request.target),
            });
        }
        if let Some(at) = incident.resolved_at {
            marks.push(Mark {
                at,
                kind: MarkKind::Resolved,
                text: "the incident was resolved".to_owned(),
            });
        }
        marks.retain(|mark| mark.at >= from && mark.at <= to);
        marks.sort_by_key(|mark| mark.at);
        marks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_the_extremes_and_the_order() {
        let point = |n: i64| Point {
            at: Timestamp::from_millis(n),
            value: if n == 517 { 1e6 } else { (n % 7) as f32 },
            expected: f32::NAN,
            lower: f32::NAN,
            upper: f32::NAN,
        };
        let thinned = thin((0..5_000).map(point).collect(), 100);
        assert!(thinned.len() <= 100, "{}", thinned.len());
        assert!(thinned.iter().any(|p| p.value > 1e5));
        assert!(thinned.windows(2).all(|w| w[0].at < w[1].at));
    }
}
