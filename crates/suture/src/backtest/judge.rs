//! What alarms were worth, by what is known to have been wrong.

use std::collections::BTreeMap;

use suture_event::Timestamp;

use super::{labels::Span, seen::Alarm};

/// What an alarm was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Worth {
    /// Within a span of its own series or service.
    Right,
    /// While another service had a fault, which this one may have felt: neither right nor wrong.
    Beside,
    /// Where nothing is known to have been wrong.
    False,
}

/// A sum over alarms.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Sum {
    pub(crate) alarms: u64,
    pub(crate) right: u64,
    pub(crate) beside: u64,
    pub(crate) wrong: u64,
    /// Of the spans that were found, the one in the middle: from its beginning to the first alarm, in milliseconds.
    pub(crate) delay: Option<i64>,
}

/// What became of all alarms and spans.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Judgement {
    /// What each alarm was; nothing where no spans are known.
    pub(crate) worths: Vec<Worth>,
    /// For each span the time of the first alarm in it.
    pub(crate) found: Vec<Option<Timestamp>>,
    /// All together.
    pub(crate) all: Sum,
    /// By detector.
    pub(crate) by_detector: BTreeMap<String, Sum>,
}

impl Judgement {
    /// Judges alarms by spans, if there are any known. `entity` is the label that names a service.
    pub(crate) fn of(alarms: &[Alarm], spans: Option<&[Span]>, entity: &str) -> Self {
        let known = spans.is_some();
        let spans = spans.unwrap_or_default();
        let mut new = Self {
            found: vec![None; spans.len()],
            ..Self::default()
        };
        // for each detector the first alarm in each span
        let mut firsts: BTreeMap<&str, BTreeMap<usize, Timestamp>> = BTreeMap::new();
        for alarm in alarms {
            let (at, detector) = (alarm.raised.at, &*alarm.raised.detector);
            let mut worth = Worth::False;
            for (index, span) in spans.iter().enumerate().filter(|(_, span)| span.holds(at)) {
                if span.is_of(&alarm.raised.metric, &alarm.raised.labels) {
                    worth = Worth::Right;
                    let first = firsts.entry(detector).or_default().entry(index).or_insert(at);
                    *first = at.min(*first);
                    let found = &mut new.found[index];
                    *found = Some(found.map_or(at, |found| at.min(found)));
                } else if worth == Worth::False && span.service(entity).is_some() {
                    worth = Worth::Beside;
                }
            }
            let of = new.by_detector.entry(detector.to_owned()).or_default();
            for sum in [&mut new.all, of] {
                sum.alarms += 1;
                if known {
                    match worth {
                        Worth::Right => sum.right += 1,
                        Worth::Beside => sum.beside += 1,
                        Worth::False => sum.wrong += 1,
                    }
                }
            }
            if known {
                new.worths.push(worth);
            }
        }
        let delay = |index: usize, at: Timestamp| at.since(spans[index].from).as_millis();
        for (detector, firsts) in firsts {
            let delays = firsts.into_iter().map(|(index, at)| delay(index, at)).collect();
            if let Some(sum) = new.by_detector.get_mut(detector) {
                sum.delay = middle(delays);
            }
        }
        let found = new.found.iter().enumerate();
        new.all.delay = middle(found.filter_map(|(index, at)| Some(delay(index, (*at)?))).collect());
        new
    }

    /// Spans in which there was an alarm.
    pub(crate) fn hits(&self) -> usize {
        self.found.iter().flatten().count()
    }

    /// The share of spans that were found.
    pub(crate) fn recall(&self) -> Option<f64> {
        (!self.found.is_empty()).then(|| self.hits() as f64 / self.found.len() as f64)
    }
}

impl Sum {
    /// The share of alarms that were right, of those that are either.
    pub(crate) fn precision(&self) -> Option<f64> {
        let judged = self.right + self.wrong;
        (judged > 0).then(|| self.right as f64 / judged as f64)
    }
}

fn middle(mut values: Vec<i64>) -> Option<i64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

/// The most times that lie within any span of time of this length, in milliseconds.
pub(crate) fn most_within(times: &[Timestamp], length: i64) -> u64 {
    let mut times: Vec<i64> = times.iter().map(|at| at.as_millis()).collect();
    times.sort_unstable();
    let (mut most, mut from) = (0, 0);
    for (to, at) in times.iter().enumerate() {
        while times[from] <= at - length {
            from += 1;
        }
        most = most.max(to - from + 1);
    }
    most as u64
}

#[cfg(test)]
pub(super) mod tests {
    use suture_event::{Anomaly, AnomalyPhase, Direction, Labels, SignalKind};

    use super::*;
    use crate::backtest::labels::Place;

    /// An alarm of a service's metric, so many minutes after noon.
    pub(in crate::backtest) fn alarm(minute: i64, service: &str, detector: &str) -> Alarm {
        let at = noon(minute);
        Alarm {
            raised: Anomaly {
                id: format!("{service}-{minute}").into(),
                at,
                onset: at,
                phase: AnomalyPhase::Opened,
                end: None,
                metric: "cpu".into(),
                labels: Labels::new([("service", service)]).unwrap(),
                service: Some(service.into()),
                signal: SignalKind::Cpu,
                detector: detector.into(),
                score: 0.999,
                deviation: 9.0,
                value: Some(1.0),
                expected: 0.1,
                lower: 0.0,
                upper: 0.2,
                direction: Direction::Up,
                detail: "far <off>".into(),
            },
            ended_at: Some(noon(minute + 5)),
        }
    }

    pub(in crate::backtest) fn noon(minute: i64) -> Timestamp {
        Timestamp::from_millis(1_772_366_400_000 + minute * 60_000)
    }

    pub(in crate::backtest) fn fault(from: i64, to: i64, service: &str) -> Span {
        Span {
            from: noon(from),
            to: noon(to),
            what: String::new(),
            place: Place::Series {
                metric: None,
                labels: [("service".to_owned(), service.to_owned())].into(),
            },
        }
    }

    #[test]
    fn alarms_are_right_beside_or_false_and_spans_found_or_missed() {
        let alarms = [
            alarm(0, "cart", "seasonal"),
            alarm(12, "cart", "shift"),
            alarm(15, "cart", "seasonal"),
            alarm(16, "pay", "seasonal"),
        ];
        let spans = [fault(10, 20, "cart"), fault(40, 50, "pay")];
        let judged = Judgement::of(&alarms, Some(&spans), "service");
        assert_eq!(judged.worths, [Worth::False, Worth::Right, Worth::Right, Worth::Beside]);
        assert_eq!((judged.hits(), judged.recall()), (1, Some(0.5)));
        assert_eq!(judged.all.delay, Some(120_000));
        assert_eq!(judged.all.precision(), Some(2.0 / 3.0));
        let seasonal = judged.by_detector["seasonal"];
        assert_eq!(
            (seasonal.alarms, seasonal.right, seasonal.beside, seasonal.wrong),
            (3, 1, 1, 1)
        );
        assert_eq!(seasonal.delay, Some(300_000));
    }

    #[test]
    fn without_spans_nothing_is_right_or_wrong() {
        let judged = Judgement::of(&[alarm(0, "cart", "seasonal")], None, "service");
        assert_eq!((judged.all.alarms, judged.all.wrong), (1, 0));
        assert_eq!((judged.recall(), judged.all.precision()), (None, None));
        assert!(judged.worths.is_empty());
    }

    #[test]
    fn the_worst_span_is_found_wherever_it_begins() {
        let times: Vec<Timestamp> = [0, 50, 59, 61, 200].map(noon).to_vec();
        assert_eq!(most_within(&times, 60 * 60_000), 3);
        assert_eq!(most_within(&times, 10 * 60_000), 2);
        assert_eq!(most_within(&[], 1), 0);
    }
}
