//! The same samples in every encoding, and through the memory of series: the fold must not tell them apart.

// what goes wrong here is a failed test
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use arrow_array::{ArrayRef, DictionaryArray, Float64Array, RecordBatch, TimestampMillisecondArray, types::Int32Type};
use arrow_ipc::writer::StreamWriter;
use suture_config::Pipeline;
use suture_engine::{Headers, NoExpressions, Observe, ObserveOut, RecordRef, Source};
use suture_event::{Fact, Sample, ShardId, Span, Timestamp};
use suture_simulate::{FaultKind, Options, record};

const START: i64 = 1_780_272_000_000;

fn observe(format: &str, series: usize) -> Observe {
    let text = format!(
        "version: 1\nname: test\nclock: event\nscope: {{label: environment, default: prod}}\n\
         telemetry: [{{topic: telemetry, format: {format}}}]\nwindow: {{size: 1m}}\nlimits: {{series: {series}}}\n\
         detect: {{alarm: 0.005, at_once: 0.0005}}\n"
    );
    let pipeline = Pipeline::parse("test.yaml", &text, &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
    let pipeline = Arc::new(pipeline);
    let source = Source::all(&pipeline, &NoExpressions).unwrap().remove(0);
    let topic = "telemetry".into();
    Observe::new(pipeline, ShardId { topic, partition: 0 }, source).unwrap()
}

fn samples() -> Vec<Sample> {
    let options = Options {
        seed: 5,
        step: Span::from_mins(1),
        warmup: Span::from_hours(4),
        faults: 1,
        kinds: vec![FaultKind::BadDeploy],
        ..Options::default()
    };
    record(options).unwrap().samples
}

fn json(sample: &Sample) -> String {
    serde_json::to_string(sample).unwrap()
}

/// As Arrow, with a column for each label that any of the samples has.
fn arrow(samples: &[Sample]) -> Vec<u8> {
    let mut names: Vec<&str> = samples
        .iter()
        .flat_map(|s| s.labels.iter().map(|(name, _)| name))
        .collect();
    names.sort_unstable();
    names.dedup();
    let times = samples.iter().map(|sample| sample.ts.as_millis());
    let metrics: DictionaryArray<Int32Type> = samples.iter().map(|sample| Some(sample.metric.as_ref())).collect();
    let mut columns: Vec<(String, ArrayRef)> = vec![
        (
            "ts".into(),
            Arc::new(TimestampMillisecondArray::from_iter_values(times)),
        ),
        ("metric".into(), Arc::new(metrics)),
        (
            "value".into(),
            Arc::new(Float64Array::from_iter_values(
                samples.iter().map(|sample| sample.value),
            )),
        ),
    ];
    for name in names {
        let column: DictionaryArray<Int32Type> = samples.iter().map(|sample| sample.labels.get(name)).collect();
        columns.push((format!("labels.{name}"), Arc::new(column)));
    }
    let columns = columns.into_iter().map(|(name, column)| (name, column, true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    drop(writer);
    bytes
}

/// What a fold says to these records, and its digest at the end.
fn run(mut observe: Observe, records: &[Vec<u8>]) -> (Vec<Fact>, u64, Observe) {
    let mut out = ObserveOut::default();
    for (offset, value) in (0..).zip(records) {
        let record = RecordRef {
            offset,
            timestamp: Some(Timestamp::MAX),
            key: None,
            headers: Headers::default(),
            value: Some(value),
        };
        observe.record(record, &mut out);
    }
    observe.flush(&mut out);
    assert_eq!(out.dead_letters, []);
    let digest = observe.digest();
    (out.facts, digest, observe)
}

#[test]
fn every_encoding_leads_to_the_same_facts() {
    let samples = samples();
    // an exponent has no outline: each of these is parsed in full
    let parsed: Vec<Vec<u8>> = samples
        .iter()
        .map(|sample| {
            let rest = json(&Sample {
                value: 0.0,
                ..sample.clone()
            });
            let value = format!(r#""value":{:e}"#, sample.value);
            rest.replacen(r#""value":0.0"#, &value, 1).into_bytes()
        })
        .collect();
    let single: Vec<Vec<u8>> = samples.iter().map(|sample| json(sample).into_bytes()).collect();
    let arrays: Vec<Vec<u8>> = samples
        .chunks(100)
        .map(|chunk| format!("[{}]", chunk.iter().map(json).collect::<Vec<_>>().join(", ")).into_bytes())
        .collect();
    let batches: Vec<Vec<u8>> = samples.chunks(1_000).map(arrow).collect();
    let (facts, digest, expected) = run(observe("json", 10_000), &parsed);
    assert!(facts.len() > 2, "the fault is seen: {}", facts.len());
    for (format, records) in [("json", single), ("json", arrays), ("arrow_ipc", batches)] {
        let (found, found_digest, observe) = run(observe(format, 10_000), &records);
        assert_eq!(found_digest, digest, "{format}");
        assert_eq!(found, facts, "{format}");
        let (found, expected) = (observe.counters(), expected.counters());
        assert_eq!((found.samples, found.series), (expected.samples, expected.series));
        assert_eq!(found.windows, expected.windows);
    }
}

/// A record of one of many kinds, known and unknown, good and bad.
fn odd_record(n: i64, turn: i64) -> (Option<Timestamp>, String) {
    let ts = START + 100 * n;
    let of = |series: i64| format!(r#"{{"ts":{ts},"metric":"m","value":{n}.5,"labels":{{"n":"{series}"}}}}"#);
    let text = match turn {
        // series that come in turn, in no order, and for the first time
        0..=60 => of(n % 40),
        61..=80 => of(n * 7_919 % 97),
        81..=85 => of(1_000 + n),
        // written otherwise, several at once, too large, and no sample at all
        86..=88 => format!(
            r#"{{"ts":{ts},"metric":"m","value":{n}e0,"labels":{{"n":"{}"}}}}"#,
            n % 40
        ),
        89..=92 => format!("[{}, {}]", of(n % 40), of(n % 7)),
        93 => format!("[{}, {{}}, {}]", of(n % 40), of(n % 7)),
        94 => " ".repeat(3_000),
        95 => format!("{} x", of(1)),
        _ => of(n % 13).replace(".5", ".5, "),
    };
    // now and then the sample is from the future
    let stamp = (n % 31 != 0).then(|| Timestamp::from_millis(ts - 3_000_000 * i64::from(n % 29 == 0)));
    (stamp, text)
}

#[test]
fn records_taken_together_lead_to_what_each_by_itself_leads_to() {
    let pipeline = |policy: &str| {
        let text = format!(
            "version: 1\nname: test\nclock: event\nscope: {{label: environment, default: prod}}\n\
             telemetry: [{{topic: telemetry, format: json}}]\nwindow: {{size: 1s}}\n\
             limits: {{series: 120, at_series: {policy}, record_bytes: 2000}}\ndetect: {{warm_up: 10, alarm: 0.01}}\n"
        );
        Arc::new(Pipeline::parse("test.yaml", &text, &|_| None).unwrap_or_else(|problems| panic!("{problems}")))
    };
    let mut state = 1_u64;
    let mut draw = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        i64::try_from(state >> 33).unwrap()
    };
    let written: Vec<_> = (0..6_000).map(|n| odd_record(n, draw() % 100)).collect();
    let records: Vec<RecordRef<'_>> = (0..)
        .zip(&written)
        .map(|(offset, (timestamp, text))| RecordRef {
            offset,
            timestamp: *timestamp,
            key: None,
            headers: Headers::default(),
            value: Some(text.as_bytes()),
        })
        .collect();
    for policy in ["refuse", "evict"] {
        let fold = || {
            let pipeline = pipeline(policy);
            let source = Source::all(&pipeline, &NoExpressions).unwrap().remove(0);
            let topic = "telemetry".into();
            Observe::new(pipeline, ShardId { topic, partition: 0 }, source).unwrap()
        };
        let (mut single, mut expected) = (fold(), ObserveOut::default());
        for record in &records {
            single.record(*record, &mut expected);
        }
        single.flush(&mut expected);
        let counters = single.counters();
        assert!(counters.future > 0 && !expected.dead_letters.is_empty());
        assert!(counters.series_evicted > 0 || counters.series_refused > 0);
        for together in [1, 7, 300, 6_000] {
            let (mut fold, mut out) = (fold(), ObserveOut::default());
            for records in records.chunks(together) {
                fold.records(records, &mut out);
            }
            fold.flush(&mut out);
            assert_eq!(
                (out.facts, out.dead_letters),
                (expected.facts.clone(), expected.dead_letters.clone())
            );
            assert_eq!((fold.digest(), fold.counters()), (single.digest(), counters));
            assert_eq!(fold.snapshot().unwrap(), single.snapshot().unwrap());
        }
    }
}

#[test]
fn series_beyond_the_bound_stay_refused_when_they_are_known_by_their_bytes() {
    let sample = |series: usize, at: i64| {
        let ts = START + at;
        format!(r#"{{"ts":{ts},"metric":"m","value":{at},"labels":{{"n":"{series}"}}}}"#).into_bytes()
    };
    let mut observe = observe("json", 10);
    let mut letters = 0;
    for at in 0..5 {
        for series in 0..30 {
            let mut out = ObserveOut::default();
            let value = sample(series, at);
            let record = RecordRef {
                offset: at,
                timestamp: None,
                key: None,
                headers: Headers::default(),
                value: Some(&value),
            };
            observe.record(record, &mut out);
            letters += out.dead_letters.len();
        }
    }
    let counters = observe.counters();
    assert_eq!((counters.series, counters.series_refused, letters), (10, 100, 100));
}

#[test]
fn a_restored_fold_forgets_the_bytes_of_series_that_are_not_in_its_snapshot() {
    let record =
        |series: &str, at: i64| format!(r#"{{"ts":{},"metric":"{series}","value":1}}"#, START + at).into_bytes();
    let (_, _, first) = run(observe("json", 10), &[record("a", 1), record("b", 2)]);
    let bytes = first.snapshot().unwrap();
    // the same fold goes on with other series, which take the rows that "b" and others had
    let (_, _, mut other) = run(observe("json", 10), &[record("x", 1), record("y", 1), record("b", 1)]);
    other.restore(&bytes).unwrap();
    let (_, _, other) = run(other, &[record("x", 3), record("y", 3), record("b", 3)]);
    let (_, _, straight) = run(first, &[record("x", 3), record("y", 3), record("b", 3)]);
    assert_eq!(other.snapshot().unwrap(), straight.snapshot().unwrap());
}
