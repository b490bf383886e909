//! A service judged as one: deploys that replace its instances leave its series standing, whatever the batches and wherever
//! the fold was broken off.

// helpers outside of test functions stop at what cannot be, like the tests themselves
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss
)]

use std::sync::Arc;

use suture_config::Pipeline;
use suture_engine::{Headers, NoExpressions, Observe, ObserveOut, RecordRef, ScoreRow, Source};
use suture_event::{Anomaly, AnomalyPhase, EpochNote, FactBody, ShardId, Timestamp};
use suture_testkit::noise::Noise;

const START: i64 = 1_780_272_000_000;
const MINUTE: i64 = 60_000;

fn pipeline(more: &str) -> Arc<Pipeline> {
    let text = format!(
        "name: test\nclock: event\nscope: {{label: environment, default: prod}}\ntelemetry: [{{topic: telemetry}}]\n\
         window: {{size: 1m}}\n{more}"
    );
    Arc::new(Pipeline::parse("test.yaml", &text, &|_| None).unwrap_or_else(|problems| panic!("{problems}")))
}

fn observe(pipeline: &Arc<Pipeline>) -> Observe {
    let source = Source::all(pipeline, &NoExpressions).unwrap().remove(0);
    let shard = ShardId {
        topic: "telemetry".into(),
        partition: 0,
    };
    Observe::new(pipeline.clone(), shard, source).unwrap().with_scores()
}

/// Metric, instance, seconds into the minute, value.
#[derive(Clone)]
struct One(&'static str, String, i64, f64);

fn line(minute: usize, One(metric, pod, second, value): &One) -> String {
    let ts = START + minute as i64 * MINUTE + second * 1_000;
    format!(
        r#"{{"ts": {ts}, "metric": "{metric}", "value": {value}, "labels": {{"service": "cart", "pod": "{pod}", "node": "n-{pod}"}}}}"#
    )
}

/// What a run said.
struct Said {
    anomalies: Vec<Anomaly>,
    scores: Vec<ScoreRow>,
    fold: Observe,
    letters: u64,
}

impl Said {
    fn opened(&self) -> Vec<&Anomaly> {
        let all = self.anomalies.iter();
        all.filter(|anomaly| anomaly.phase == AnomalyPhase::Opened).collect()
    }

    /// Values of the windows of a metric, by minute.
    fn values(&self, metric: &str) -> Vec<(usize, f64)> {
        let rows = self.scores.iter().filter(|row| &*row.metric == metric);
        rows.map(|row| {
            let minute = (row.ts.as_millis() - START) / MINUTE;
            (usize::try_from(minute).unwrap(), row.value)
        })
        .collect()
    }

    fn as_text(&self) -> String {
        format!("{:?}\n{:?}\n{:x}", self.anomalies, self.scores, self.fold.digest())
    }
}

/// `batch` samples come in a record; the fold goes through a snapshot every `restart` minutes.
fn run(pipeline: &Arc<Pipeline>, minutes: &[Vec<One>], batch: usize, restart: usize) -> Said {
    let (mut fold, mut out) = (observe(pipeline), ObserveOut::default());
    for (minute, samples) in minutes.iter().enumerate() {
        for part in samples.chunks(batch) {
            let texts: Vec<String> = part.iter().map(|one| line(minute, one)).collect();
            let text = format!("[{}]", texts.join(","));
            let record = RecordRef {
                offset: 0,
                timestamp: None,
                key: None,
                headers: Headers::default(),
                value: Some(text.as_bytes()),
            };
            fold.record(record, &mut out);
        }
        if restart > 0 && minute.is_multiple_of(restart) {
            fold.flush(&mut out);
            let bytes = fold.snapshot().unwrap();
            fold = observe(pipeline);
            fold.restore(&bytes).unwrap();
        }
    }
    fold.flush(&mut out);
    let anomalies = out.facts.into_iter().filter_map(|fact| match fact.body {
        FactBody::Anomaly(anomaly) => Some(anomaly),
        _ => None,
    });
    Said {
        anomalies: anomalies.collect(),
        scores: out.scores,
        fold,
        letters: out.dead_letters.iter().map(|letter| letter.samples).sum(),
    }
}

/// Three instances that are replaced by others every `life` minutes, one after the other in as many minutes, each sending
/// traffic, a latency and a counter of bytes once a minute.
fn deployed(minutes: usize, life: usize, change: impl Fn(usize, usize, &mut [f64; 2])) -> Vec<Vec<One>> {
    let mut noise = Noise(7);
    let each = (0..minutes).map(|minute| {
        let mut all = Vec::new();
        for at in 0..3 {
            let generation = (minute + life - at) / life;
            let (pod, age) = (format!("cart-{generation}-{at}"), (minute + life - at) % life);
            let mut values = [50.0 + 2.0 * noise.normal(), 0.2 + 0.01 * noise.normal()];
            change(minute, at, &mut values);
            let sent = 1_000_000.0 + 600.0 * age as f64 + noise.normal();
            let names = ["requests_per_second", "request_latency", "net_bytes_total"];
            for (name, value) in names.into_iter().zip([values[0], values[1], sent]) {
                all.push(One(name, pod.clone(), 5 + at as i64, value));
            }
        }
        all
    });
    each.collect()
}

const COUNTER: &str = "signals: [{name: bytes, match: {metric: '*_total'}, counter: true}]\n";

#[test]
fn deploys_that_replace_every_instance_leave_the_series_standing() {
    let minutes = deployed(900, 90, |minute, _, values| {
        if (805..815).contains(&minute) {
            values[1] = 0.9;
        }
    });
    let pipeline = pipeline(COUNTER);
    let said = run(&pipeline, &minutes, 9, 0);
    // the one fault comes minutes after a deploy, and is told of the service
    let opened = said.opened();
    let first = opened.first().unwrap();
    assert_eq!(
        (&*first.metric, &*first.detector == "silence"),
        ("request_latency", false)
    );
    assert_eq!(first.labels.get("service"), Some("cart"));
    assert_eq!((first.labels.get("pod"), first.labels.get("node")), (None, None));
    let onset = (first.onset.as_millis() - START) / MINUTE;
    let told = (first.at.as_millis() - START) / MINUTE;
    assert!((805..807).contains(&onset) && told <= 808, "{onset} {told}");
    assert!(
        opened.iter().all(|anomaly| &*anomaly.metric == "request_latency"),
        "{opened:?}"
    );
    // traffic adds up, a latency is that of each, and a counter's restart with a new instance is none of the sum
    let close = |metric: &str, least: f64, most: f64| {
        let values = said.values(metric);
        assert!(values.len() > 880, "{metric} has {} windows", values.len());
        for (minute, value) in values {
            let usual = !(800..820).contains(&minute) && minute > 3;
            assert!(
                !usual || (least..most).contains(&value),
                "{metric} at {minute}: {value}"
            );
        }
    };
    close("requests_per_second", 135.0, 165.0);
    close("request_latency", 0.16, 0.24);
    close("net_bytes_total", 19.0, 31.0);
    // instances that ended have given their rows to those that came: one lasts 90 minutes, and is remembered for ten
    assert!(said.fold.counters().series <= 3 + 3 * 6, "{:?}", said.fold.counters());
    assert!(said.fold.counters().instances_replaced > 20);
    // the same however it is cut
    let whole = said.as_text();
    for (batch, restart) in [(1, 0), (4, 7), (9, 31)] {
        assert_eq!(
            run(&pipeline, &minutes, batch, restart).as_text(),
            whole,
            "{batch} {restart}"
        );
    }
}

#[test]
fn a_lost_sample_is_no_dip_and_the_end_of_all_is_silence() {
    let mut minutes = deployed(400, 1_000, |_, _, _| {});
    // a scrape of one instance fails now and then; late in the day the service ends
    for (minute, samples) in minutes.iter_mut().enumerate() {
        if minute % 40 == 20 {
            samples.truncate(6);
        }
        if minute >= 360 {
            for one in samples.iter_mut() {
                *one = One("other_latency", "else".to_owned(), 1, 3.0);
            }
        }
    }
    let said = run(&pipeline("instances: {siblings: false}\n"), &minutes, 9, 0);
    for (minute, value) in said.values("requests_per_second") {
        assert!(minute < 2 || (135.0..165.0).contains(&value), "at {minute}: {value}");
    }
    let opened = said.opened();
    assert!(!opened.is_empty());
    for anomaly in opened {
        assert_eq!(&*anomaly.detector, "silence", "{anomaly:?}");
        assert!(anomaly.at.as_millis() > START + 360 * MINUTE, "{anomaly:?}");
    }
}

#[test]
fn a_latency_is_that_of_the_requests_and_not_of_instances_that_serve_none() {
    // four in five requests go to one instance, and one that has just come serves none and says that it takes no time
    let served = [("a", 80.0, 0.2), ("b", 20.0, 0.4), ("c", 0.0, 0.0)];
    let each = (0..30).map(|minute| {
        let there = served.iter().filter(|(pod, ..)| *pod != "c" || minute >= 10);
        let sent = there.flat_map(|(pod, requests, latency)| {
            let of = |metric, value| One(metric, (*pod).to_owned(), 5, value);
            [of("request_latency", *latency), of("requests_per_second", *requests)]
        });
        sent.collect::<Vec<_>>()
    });
    let minutes: Vec<_> = each.collect();
    let said = run(&pipeline(""), &minutes, 4, 0);
    let values = said.values("request_latency");
    assert_eq!(values.len(), 29);
    assert!(
        values.iter().all(|(_, value)| (value - 0.24).abs() < 1e-9),
        "{values:?}"
    );
    assert_eq!(run(&pipeline(""), &minutes, 1, 3).as_text(), said.as_text());
    // what is weighed by nothing counts by the instance
    let alone: Vec<Vec<One>> = minutes
        .iter()
        .map(|all| all.iter().filter(|one| one.0 == "request_latency").cloned().collect())
        .collect();
    let values = run(&pipeline(""), &alone, 4, 0).values("request_latency");
    assert!(
        values.iter().take(9).all(|(_, value)| (value - 0.3).abs() < 1e-9),
        "{values:?}"
    );
}

#[test]
fn the_one_that_stands_out_from_its_siblings_is_an_anomaly_of_its_own() {
    let mut noise = Noise(3);
    let each = (0..600).map(|minute| {
        let load = 30.0 * (minute as f64 / 80.0).sin();
        let one = |at: usize| {
            let extra = if at == 4 && minute >= 500 { 40.0 } else { 0.0 };
            let value = 100.0 + load + extra + 3.0 * noise.normal();
            One("request_latency", format!("cart-{at}"), 5, value)
        };
        (0..5).map(one).collect::<Vec<_>>()
    });
    let minutes: Vec<_> = each.collect();
    let said = run(&pipeline(""), &minutes, 5, 50);
    let opened = said.opened();
    let peers: Vec<_> = opened.iter().filter(|anomaly| &*anomaly.detector == "peers").collect();
    assert_eq!(peers.len(), 1, "{opened:?}");
    assert_eq!(peers[0].labels.get("pod"), Some("cart-4"));
    assert_eq!(peers[0].service.as_deref(), Some("cart"));
}

#[test]
fn instances_beyond_the_bound_are_refused_and_counted() {
    let minutes: Vec<Vec<One>> = (0..30)
        .map(|_| {
            let one = |at: i64| One("request_latency", format!("cart-{at}"), at, 1.0);
            (0..6).map(one).collect()
        })
        .collect();
    let said = run(&pipeline("instances: {most: 4}\n"), &minutes, 6, 0);
    let counters = said.fold.counters();
    assert_eq!((counters.series, counters.instances_refused, said.letters), (5, 60, 60));
}

#[test]
fn at_the_bound_on_series_what_is_made_of_others_stays_for_as_long_as_there_are_any() {
    // metrics of instances that come and go, more than there is room for, beside one that is always there
    let mut noise = Noise(23);
    let names = ["a_latency", "b_requests", "c_queue", "d_cpu", "e_latency"];
    let each = (0..900).map(|minute: usize| {
        let mut all = Vec::new();
        for (number, name) in names.into_iter().enumerate() {
            let phase = (minute + number * 130) % 400;
            for at in 0..3 {
                if number == 0 || phase < 90 + 20 * at {
                    let value = 20.0 + noise.normal() + if phase == 80 { 300.0 } else { 0.0 };
                    all.push(One(name, format!("{}-{at}", minute / 37), 1 + at as i64, value));
                }
            }
        }
        all
    });
    let minutes: Vec<_> = each.collect();
    let pipeline = pipeline("limits: {series: 16, at_series: evict}\n");
    let said = run(&pipeline, &minutes, 15, 0);
    let counters = said.fold.counters();
    assert!(counters.series_evicted > 20 && counters.series <= 16, "{counters:?}");
    // the one that is always there has lost nothing
    let latency = said.values("a_latency");
    assert!(latency.len() > 890, "{}", latency.len());
    let whole = said.as_text();
    for (batch, restart) in [(1, 0), (4, 11), (15, 1)] {
        assert_eq!(
            run(&pipeline, &minutes, batch, restart).as_text(),
            whole,
            "{batch} {restart}"
        );
    }
}

#[test]
fn a_setting_turns_it_off_and_what_was_then_known_begins_anew() {
    let minutes = deployed(60, 1_000, |_, _, _| {});
    let (on, off) = (pipeline(""), pipeline("instances: {roll_up: false}\n"));
    let alone = run(&off, &minutes, 9, 0);
    // those that were there before the deploy at the beginning are not forgotten yet
    assert_eq!(alone.fold.counters().series, 15);
    assert!(alone.scores.iter().all(|row| row.labels.get("pod").is_some()));
    let rolled = run(&on, &minutes, 9, 0);
    assert_eq!(rolled.fold.counters().series, 18);
    assert!(rolled.scores.iter().all(|row| row.labels.get("pod").is_none()));
    for (from, to, kept, anew) in [(&alone, &on, 0, 15), (&rolled, &off, 0, 18), (&rolled, &on, 18, 0)] {
        let mut fold = observe(to);
        fold.restore(&from.fold.snapshot().unwrap()).unwrap();
        let mut out = ObserveOut::default();
        let note = EpochNote {
            shard: fold.shard().clone(),
            number: 1,
            offset: 7,
            wall: Timestamp::from_millis(START),
            cause: "pipeline changed".to_owned(),
            cold: false,
            carried: None,
        };
        fold.epoch(note, &mut out);
        let carried = out.facts.iter().find_map(|fact| match &fact.body {
            FactBody::Epoch(note) => note.carried,
            _ => None,
        });
        let carried = carried.unwrap();
        assert_eq!((carried.kept, carried.anew), (kept, anew));
        assert_eq!(fold.counters().series, kept);
    }
}

#[test]
fn detectors_that_change_leave_the_instances_rolled_up_as_they_were() {
    let minutes = deployed(120, 50, |_, _, _| {});
    let before = run(&pipeline(COUNTER), &minutes, 9, 0);
    let other = pipeline(&format!("{COUNTER}detect: {{warm_up: 90}}\n"));
    let mut fold = observe(&other);
    fold.restore(&before.fold.snapshot().unwrap()).unwrap();
    assert_eq!(fold.counters().series, before.fold.counters().series);
    let mut out = ObserveOut::default();
    for (minute, samples) in deployed(140, 50, |_, _, _| {}).iter().enumerate().skip(120) {
        for one in samples {
            let text = line(minute, one);
            let record = RecordRef {
                offset: 0,
                timestamp: None,
                key: None,
                headers: Headers::default(),
                value: Some(text.as_bytes()),
            };
            fold.record(record, &mut out);
        }
    }
    fold.flush(&mut out);
    let traffic: Vec<f64> = out
        .scores
        .iter()
        .filter(|row| &*row.metric == "requests_per_second")
        .map(|row| row.value)
        .collect();
    assert!(traffic.len() > 17, "{traffic:?}");
    assert!(
        traffic.iter().all(|value| (135.0..165.0).contains(value)),
        "{traffic:?}"
    );
}
