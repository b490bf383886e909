//! The bound on series, where the one that was silent the longest gives way.

// what goes wrong here is a failed test, counts are small
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap
)]

use std::{fmt::Write as _, sync::Arc};

use suture_config::Pipeline;
use suture_engine::{Headers, NoExpressions, Observe, ObserveOut, RecordRef, Source};
use suture_event::{AnomalyPhase, EndReason, FactBody, ShardId};
use suture_testkit::noise::even;

const START: i64 = 1_780_272_000_000;
const MINUTE: i64 = 60_000;

fn observe(limits: &str) -> Observe {
    let text = format!(
        "version: 1\nname: test\nclock: event\nscope: {{label: environment, default: prod}}\n\
         telemetry: [{{topic: telemetry, format: json}}]\nwindow: {{size: 1m}}\nlimits: {{{limits}}}\ndetect: {{warm_up: 20}}\n\
         signals: [{{name: tail, match: {{metric: \"b*\"}}, aggregate: p99}}, {{name: total, match: {{metric: \"c*\"}}, counter: true}}]\n"
    );
    let pipeline = Pipeline::parse("test.yaml", &text, &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
    let source = Source::all(&pipeline, &NoExpressions).unwrap().remove(0);
    let topic = "telemetry".into();
    Observe::new(Arc::new(pipeline), ShardId { topic, partition: 0 }, source).unwrap()
}

fn take(fold: &mut Observe, json: &str, out: &mut ObserveOut) {
    let record = RecordRef {
        offset: 0,
        timestamp: None,
        key: None,
        headers: Headers::default(),
        value: Some(json.as_bytes()),
    };
    fold.record(record, out);
}

fn sample(series: &str, ts: i64, value: f64) -> String {
    format!(r#"{{"ts":{ts},"metric":"{series}","value":{value},"labels":{{"service":"cart"}}}}"#)
}

/// A stream in which series come and go: each of ninety is there for some hours and then not, a third of them as quantiles
/// and a third as counters.
fn stream() -> Vec<String> {
    let mut lines = Vec::new();
    for minute in 0..1_500_i64 {
        for series in 0..90_i64 {
            let phase = (minute + series * 37) % 700;
            if phase < 60 + series % 50 {
                let name = format!("{}{series}", ["a", "b", "c"][series as usize % 3]);
                let spike = if (52..60).contains(&phase) { 490.0 } else { 0.0 };
                let value = 10.0 + even(minute * 90 + series) + spike;
                lines.push(sample(&name, START + minute * MINUTE + series * 7, value));
            }
        }
    }
    lines
}

/// What a fold said, as text: its anomalies, how many samples it could not take, and its digest.
fn run(each: usize, restore_every: usize, cap: usize) -> (String, u64, u64) {
    let limits = format!("series: {cap}, at_series: evict");
    let mut fold = observe(&limits);
    let (mut said, mut refused, mut evicted) = (String::new(), 0, 0);
    for (n, batch) in stream().chunks(each).enumerate() {
        let mut out = ObserveOut::default();
        take(&mut fold, &format!("[{}]", batch.join(",")), &mut out);
        if restore_every > 0 && n % restore_every == 0 {
            fold.flush(&mut out);
            let bytes = fold.snapshot().unwrap();
            evicted += fold.counters().series_evicted;
            fold = observe(&limits);
            fold.restore(&bytes).unwrap();
        }
        assert!(fold.counters().series <= cap as u64);
        refused += out.dead_letters.iter().map(|letter| letter.samples).sum::<u64>();
        for fact in out.facts {
            if let FactBody::Anomaly(anomaly) = fact.body {
                writeln!(
                    said,
                    "{} {:?} {:?} {}",
                    anomaly.id, anomaly.phase, anomaly.end, anomaly.at
                )
                .unwrap();
            }
        }
    }
    let mut out = ObserveOut::default();
    fold.flush(&mut out);
    evicted += fold.counters().series_evicted;
    write!(said, "{:x}", fold.digest()).unwrap();
    (said, refused, evicted)
}

#[test]
fn no_more_series_than_the_bound_however_the_stream_is_cut_and_interrupted() {
    let (whole, refused, evicted) = run(1_000, 0, 25);
    assert!(evicted > 100, "{evicted} series were given up");
    assert!(whole.contains("Opened"), "{whole}");
    assert!(whole.contains("Some(Silent)"), "{whole}");
    for (each, restore_every) in [(1, 0), (7, 0), (333, 1), (50, 3), (4_000, 0)] {
        assert_eq!(
            run(each, restore_every, 25),
            (whole.clone(), refused, evicted),
            "in batches of {each}"
        );
    }
}

#[test]
fn where_there_is_room_nothing_is_given_up() {
    let (_, refused, evicted) = run(500, 0, 90);
    assert_eq!((refused, evicted), (0, 0));
}

#[test]
fn a_series_is_given_up_with_its_anomaly_and_comes_back_as_a_new_one() {
    let mut fold = observe("series: 2, at_series: evict");
    let mut out = ObserveOut::default();
    let mut minute = 0;
    let mut send = |fold: &mut Observe, out: &mut ObserveOut, series: &[&str], value: &dyn Fn(i64) -> f64| {
        for name in series {
            take(fold, &sample(name, START + minute * MINUTE, value(minute)), out);
        }
        minute += 1;
    };
    for _ in 0..300 {
        send(&mut fold, &mut out, &["old", "clock"], &|m| 10.0 + even(m));
    }
    for _ in 0..3 {
        send(&mut fold, &mut out, &["old", "clock"], &|_| 500.0);
    }
    fold.flush(&mut out);
    let open = |out: &ObserveOut, name: &str| {
        let mut phases = out.facts.iter().filter_map(|fact| match &fact.body {
            FactBody::Anomaly(anomaly) if *anomaly.metric == *name => Some((anomaly.phase, anomaly.end)),
            _ => None,
        });
        phases.next_back()
    };
    assert!(matches!(
        open(&out, "old"),
        Some((AnomalyPhase::Opened | AnomalyPhase::Grown, None))
    ));
    // both have sent within the window that is open: neither gives way
    send(&mut fold, &mut out, &["old", "clock", "new"], &|_| 500.0);
    assert_eq!(fold.counters().series_evicted, 0);
    assert!(
        out.dead_letters[0].reason.contains("none of them is silent"),
        "{}",
        out.dead_letters[0].reason
    );
    for _ in 0..2 {
        send(&mut fold, &mut out, &["clock"], &|m| 10.0 + even(m));
    }
    send(&mut fold, &mut out, &["clock", "new"], &|m| 10.0 + even(m));
    assert_eq!(fold.counters().series_evicted, 1);
    assert_eq!(open(&out, "old"), Some((AnomalyPhase::Ended, Some(EndReason::Silent))));
    // the level of its anomaly is that of a new series now
    out = ObserveOut::default();
    for _ in 0..3 {
        send(&mut fold, &mut out, &["clock"], &|m| 10.0 + even(m));
    }
    for _ in 0..200 {
        send(&mut fold, &mut out, &["clock", "old"], &|m| 500.0 + even(m));
    }
    fold.flush(&mut out);
    assert_eq!(fold.counters().series_evicted, 2);
    assert_eq!(open(&out, "old"), None);
}
