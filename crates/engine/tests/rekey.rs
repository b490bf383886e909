//! The repartition stage: which samples a partition gets, and in which order, follows from the input alone, and observe makes
//! of them what it makes of telemetry that was well keyed from the start.

// what goes wrong here is a failed test
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{collections::BTreeMap, sync::Arc};

use suture_codec::{Limits, PointKind, SampleRef, TelemetryDecoder as _, arrow::Decoder};
use suture_config::Pipeline;
use suture_engine::{
    EngineError, Expressions, Filter, Headers, HeadersBuf, NoExpressions, Observe, ObserveOut, RecordRef, Rekey,
    RekeyOut, Routed, Rows, Source, SourceKind, VERSIONS_HEADER, ValueOf,
};
use suture_event::{Fact, FactBody, Sample, ShardId, Span, Timestamp, stable_hash};
use suture_simulate::{FaultKind, Options, record};

const START: i64 = 1_780_272_000_000;
const PARTITIONS: usize = 4;

fn pipeline(format: &str, rekey: &str, more: &str) -> Arc<Pipeline> {
    let text = format!(
        "version: 1\nname: test\nclock: event\nscope: {{label: environment, default: prod}}\n\
         telemetry: [{{topic: telemetry, format: {format}{more}}}]\nrekey: {{{rekey}}}\n\
         window: {{size: 1m}}\ndetect: {{alarm: 0.005, at_once: 0.0005}}\n"
    );
    Arc::new(Pipeline::parse("test.yaml", &text, &|_| None).unwrap_or_else(|problems| panic!("{problems}")))
}

fn stage(pipeline: &Arc<Pipeline>) -> Rekey {
    stage_with(pipeline, &NoExpressions)
}

fn stage_with(pipeline: &Arc<Pipeline>, expressions: &dyn Expressions) -> Rekey {
    let source = Source::of_rekey(pipeline, expressions).unwrap().remove(0);
    Rekey::new(pipeline.clone(), shard("telemetry", 0), source).unwrap()
}

fn shard(topic: &str, partition: i32) -> ShardId {
    ShardId {
        topic: topic.into(),
        partition,
    }
}

fn of(offset: i64, value: &[u8]) -> RecordRef<'_> {
    RecordRef {
        offset,
        timestamp: Some(Timestamp::from_millis(START + 86_400_000)),
        key: None,
        headers: Headers::default(),
        value: Some(value),
    }
}

fn samples() -> Vec<Sample> {
    let options = Options {
        seed: 5,
        step: Span::from_mins(1),
        services: 5,
        warmup: Span::from_hours(4),
        faults: 1,
        kinds: vec![FaultKind::BadDeploy],
        ..Options::default()
    };
    record(options).unwrap().samples
}

/// As many of them as show where samples go.
fn few_samples() -> Vec<Sample> {
    let mut samples = samples();
    samples.truncate(6_000);
    samples
}

fn json(sample: &Sample) -> Vec<u8> {
    serde_json::to_vec(sample).unwrap()
}

/// What the records hold, partition by partition.
fn read(records: &[Routed]) -> Vec<Vec<Sample>> {
    let mut partitions = vec![Vec::new(); PARTITIONS];
    let mut decoder = Decoder::of_own(Limits::default());
    for record in records {
        let partition = &mut partitions[usize::try_from(record.partition).unwrap()];
        let before = partition.len();
        let decoded = decoder
            .decode(&record.value, &mut |sample: SampleRef<'_>| {
                partition.push(sample.to_sample().unwrap());
            })
            .unwrap();
        assert_eq!((decoded.accepted, decoded.rejected), (record.samples, Vec::new()));
        assert_eq!(partition.len() - before, record.samples);
    }
    partitions
}

/// Takes the records in, and puts out what waits after each of those whose number `flush` says so of, and in the end.
fn run(stage: &mut Rekey, records: &[Vec<u8>], flush: impl Fn(usize) -> bool) -> RekeyOut {
    let mut out = RekeyOut::default();
    for (at, value) in records.iter().enumerate() {
        stage.record(of(i64::try_from(at).unwrap(), value), &mut out);
        if flush(at) {
            stage.flush(&mut out);
        }
    }
    stage.flush(&mut out);
    out
}

#[test]
fn a_partition_gets_the_same_samples_in_the_same_order_however_records_come_in_batches() {
    let samples = few_samples();
    let pipeline = pipeline("json", "partitions: 4, batch_samples: 50", "");
    let records: Vec<Vec<u8>> = samples.iter().map(json).collect();
    let mut whole = stage(&pipeline);
    let out = run(&mut whole, &records, |_| false);
    assert!(out.dead_letters.is_empty());
    assert!(out.records.iter().all(|record| record.samples <= 50));
    let expected = read(&out.records);
    let all: usize = expected.iter().map(Vec::len).sum();
    assert_eq!((all, all as u64), (samples.len(), whole.counters().routed));
    for one in &expected {
        assert!(
            one.len() > samples.len() / 20,
            "a partition is next to empty: {}",
            one.len()
        );
    }
    // every series wholly in one partition, with those of its siblings, its samples in the order in which they came
    for (at, partition) in expected.iter().enumerate() {
        let mine = |sample: &&Sample| {
            let key = suture_event::SeriesKey {
                metric: sample.metric.clone(),
                labels: sample.labels.clone(),
            };
            // instances of a service go where what they are rolled up into belongs
            let key = pipeline.rolled_up_from(&key).unwrap_or(key);
            key.hash64() % PARTITIONS as u64 == at as u64
        };
        let wanted: Vec<&Sample> = samples.iter().filter(mine).collect();
        assert_eq!(partition.iter().collect::<Vec<_>>(), wanted);
    }
    // single samples, arrays of them, and any number of batches
    let arrays: Vec<Vec<u8>> = samples.chunks(70).map(|c| serde_json::to_vec(c).unwrap()).collect();
    for every in [1, 7, 1_000] {
        let mut stage = stage(&pipeline);
        let out = run(&mut stage, &records, |at| at % every == 0);
        assert_eq!(read(&out.records), expected, "a batch every {every} records");
        assert_eq!(stage.digest(), whole.digest());
    }
    let out = run(&mut stage(&pipeline), &arrays, |at| at % 3 == 0);
    assert_eq!(read(&out.records), expected);
}

#[test]
fn what_is_known_of_series_is_bounded_and_changes_nothing() {
    let samples = few_samples();
    let records: Vec<Vec<u8>> = samples.iter().map(json).collect();
    let roomy = pipeline("json", "partitions: 4", "");
    let mut narrow = Pipeline::clone(&roomy);
    narrow.limits.series = 10;
    let expected = read(&run(&mut stage(&roomy), &records, |at| at % 400 == 0).records);
    let found = read(&run(&mut stage(&Arc::new(narrow)), &records, |at| at % 400 == 0).records);
    assert_eq!(found, expected);
}

#[test]
fn series_with_the_same_labels_come_together_and_others_go_by_themselves() {
    let pipeline = pipeline("json", "partitions: 4, by: [service, zone]", "");
    let records: Vec<Vec<u8>> = (0..200)
        .map(|n| {
            let (service, pod) = (n % 10, n % 50);
            let labels = match n % 4 {
                0 => format!(r#"{{"pod": "p{pod}"}}"#),
                1 => format!(r#"{{"pod": "p{pod}", "service": "s{service}"}}"#),
                _ => format!(r#"{{"pod": "p{pod}", "service": "s{service}", "zone": "a"}}"#),
            };
            format!(
                r#"{{"ts": {START}, "metric": "m{}", "value": {n}, "labels": {labels}}}"#,
                n % 3
            )
            .into_bytes()
        })
        .collect();
    let partitions = read(&run(&mut stage(&pipeline), &records, |_| false).records);
    let mut places: BTreeMap<(Option<String>, Option<String>), Vec<usize>> = BTreeMap::new();
    for (at, sample) in partitions
        .iter()
        .enumerate()
        .flat_map(|(at, all)| all.iter().map(move |one| (at, one)))
    {
        let label = |name: &str| sample.labels.get(name).map(str::to_owned);
        let places = places.entry((label("service"), label("zone"))).or_default();
        if !places.contains(&at) {
            places.push(at);
        }
    }
    let alone = places.remove(&(None, None)).unwrap();
    assert_eq!(
        alone.len(),
        PARTITIONS,
        "series without the labels are spread: {alone:?}"
    );
    assert!(places.values().all(|places| places.len() == 1), "{places:?}");
    let used: Vec<usize> = places.into_values().flatten().collect();
    assert!((0..PARTITIONS).filter(|at| used.contains(at)).count() > 2, "{used:?}");
    // which partition it is must be the same for ever: samples of a series lie in the topic already
    let at = stable_hash([b"s1".as_slice(), b""]) % 4;
    let s1 = &partitions[usize::try_from(at).unwrap()];
    assert!(s1.iter().any(|sample| sample.labels.get("service") == Some("s1")));
}

#[test]
fn what_cannot_be_read_is_refused_once_and_the_rest_goes_on() {
    let pipeline = pipeline("json", "partitions: 4, batch_bytes: 16384", "");
    let mut stage = stage(&pipeline);
    let good = format!(r#"{{"ts": {START}, "metric": "m", "value": 1}}"#);
    let far = format!(r#"{{"ts": {}, "metric": "m", "value": 1}}"#, START + 3 * 86_400_000);
    let long = format!(
        r#"{{"ts": {START}, "metric": "m", "value": 1, "labels": {{"l": "{}"}}}}"#,
        "x".repeat(15_000)
    );
    let large = format!("{good}{}", " ".repeat(1 << 20));
    for (bad, says, letters, samples) in [
        ("poison".to_owned(), "JSON", 1, 0),
        (format!("[{good}, {{}}, {good}]"), "`metric` is missing", 1, 1),
        (format!("[{good}, {far}]"), "from the future", 1, 1),
        (format!("[{good}, {long}]"), "rekey.batch_bytes", 1, 1),
        (large, "limits.record_bytes", 1, 0),
        (good.clone(), "", 0, 0),
    ] {
        let before = stage.counters().routed;
        let out = run(&mut stage, &[bad.clone().into_bytes()], |_| false);
        assert_eq!(out.dead_letters.len(), letters, "{bad:.80}");
        if let Some(letter) = out.dead_letters.first() {
            assert!(
                letter.reason.contains(says),
                "{:?} does not say {says:?}",
                letter.reason
            );
            assert_eq!((letter.offset, letter.samples), (0, samples));
        }
        let good = bad.matches(&good).count() as u64 * u64::from(!says.contains("record_bytes"));
        assert_eq!(stage.counters().routed - before, good, "{bad:.80}");
    }
    let counters = stage.counters();
    assert_eq!((counters.dead_letters, counters.future, counters.too_large), (5, 1, 1));
}

#[test]
fn a_record_never_has_more_bytes_than_it_may() {
    let most = 20_000;
    let pipeline = pipeline("json", &format!("partitions: 4, batch_bytes: {most}"), "");
    let records: Vec<Vec<u8>> = (0..3_000)
        .map(|n| {
            let text = "é".repeat(n % 90);
            format!(
                r#"{{"ts": {START}, "metric": "m{}", "value": {n}, "labels": {{"a": "{text}", "b{}": "{n}"}}}}"#,
                n % 11,
                n % 17
            )
            .into_bytes()
        })
        .collect();
    let out = run(&mut stage(&pipeline), &records, |_| false);
    assert!(out.records.len() > 12, "{}", out.records.len());
    let largest = out.records.iter().map(|record| record.value.len()).max().unwrap();
    assert!(largest <= most && largest > most / 3, "{largest}");
    assert_eq!(read(&out.records).iter().map(Vec::len).sum::<usize>(), 3_000);
}

/// Feeds records to observe as its shard of the topic in between.
fn observe(pipeline: &Arc<Pipeline>, partition: i32, records: &[Routed]) -> (Vec<Fact>, Observe) {
    let source = Source::of_observe(pipeline, &NoExpressions).unwrap().remove(0);
    assert_eq!(
        (source.topic.as_str(), source.kind),
        ("suture.rekeyed", SourceKind::Rekeyed)
    );
    let mut observe = Observe::new(pipeline.clone(), shard("suture.rekeyed", partition), source).unwrap();
    let mut out = ObserveOut::default();
    let mine = records.iter().filter(|record| record.partition == partition);
    for (offset, record) in (0..).zip(mine) {
        let mut versions = HeadersBuf::default();
        if let Some(bytes) = &record.versions {
            versions.push(VERSIONS_HEADER, Some(bytes));
        }
        let record = RecordRef {
            headers: versions.as_headers(),
            // long before its samples: what the stage let through is not held against the clock again
            timestamp: Some(Timestamp::from_millis(0)),
            ..of(offset, &record.value)
        };
        observe.record(record, &mut out);
    }
    observe.flush(&mut out);
    assert_eq!(out.dead_letters, []);
    (out.facts, observe)
}

fn direct(pipeline: &Arc<Pipeline>, partition: i32, records: &[Vec<u8>]) -> (Vec<Fact>, Observe) {
    let source = Source::all(pipeline, &NoExpressions).unwrap().remove(0);
    let mut observe = Observe::new(pipeline.clone(), shard("suture.rekeyed", partition), source).unwrap();
    let mut out = ObserveOut::default();
    for (offset, record) in (0..).zip(records) {
        observe.record(of(offset, record), &mut out);
    }
    observe.flush(&mut out);
    (out.facts, observe)
}

#[test]
fn observe_makes_of_it_what_it_makes_of_well_keyed_telemetry() {
    let samples = samples();
    let pipeline = pipeline("json", "partitions: 4", "");
    let records: Vec<Vec<u8>> = samples.iter().map(json).collect();
    let out = run(&mut stage(&pipeline), &records, |at| at % 997 == 0);
    let keyed = read(&out.records);
    let mut anomalies = 0;
    for (partition, samples) in (0..).zip(keyed) {
        let records: Vec<Vec<u8>> = samples.iter().map(json).collect();
        let (expected, straight) = direct(&pipeline, partition, &records);
        let (found, through) = observe(&pipeline, partition, &out.records);
        assert_eq!(found, expected, "partition {partition}");
        assert_eq!(through.digest(), straight.digest());
        assert_eq!(through.counters().series, straight.counters().series);
        anomalies += found.len();
    }
    assert!(anomalies > 0, "the fault is seen: {anomalies}");
}

/// A request with a counter, a histogram of durations, and the service's version.
fn otlp(minute: i64, version: &str) -> Vec<u8> {
    let nanos = (START + minute * 60_000) * 1_000_000;
    let (few, many) = (minute * 30, minute * 50 + minute % 7);
    format!(
        r#"{{"resourceMetrics": [{{"resource": {{"attributes": [
            {{"key": "service.name", "value": {{"stringValue": "cart"}}}},
            {{"key": "service.version", "value": {{"stringValue": "{version}"}}}}]}},
          "scopeMetrics": [{{"metrics": [
            {{"name": "requests", "sum": {{"isMonotonic": true, "aggregationTemporality": 2, "dataPoints": [
              {{"startTimeUnixNano": "{start}", "timeUnixNano": "{nanos}", "asInt": "{many}"}}]}}}},
            {{"name": "request.duration", "unit": "s", "histogram": {{"aggregationTemporality": 2, "dataPoints": [
              {{"startTimeUnixNano": "{start}", "timeUnixNano": "{nanos}", "count": "{count}", "sum": {count},
                "bucketCounts": ["{few}", "{many}", "0"], "explicitBounds": [0.1, 1.0]}}]}}}}]}}]}}]}}"#,
        start = START * 1_000_000,
        count = few + many,
    )
    .into_bytes()
}

#[test]
fn what_the_encoding_says_beside_values_reaches_observe() {
    let pipeline = pipeline("otlp_json", "partitions: 1", "");
    let version = |minute| if minute < 40 { "1.0" } else { "1.1" };
    let records: Vec<Vec<u8>> = (1..60).map(|minute| otlp(minute, version(minute))).collect();
    let (expected, straight) = direct(&pipeline, 0, &records);
    let deploys = |facts: &[Fact]| facts.iter().filter(|f| matches!(f.body, FactBody::Change(_))).count();
    assert_eq!(deploys(&expected), 1, "{expected:?}");
    // through snapshots too: a histogram's points say something by what came before them
    let mut fold = stage(&pipeline);
    let mut out = RekeyOut::default();
    for (offset, record) in (0..).zip(&records) {
        let bytes = fold.snapshot().unwrap();
        let digest = fold.digest();
        fold = stage(&pipeline);
        fold.restore(&bytes).unwrap();
        assert_eq!(fold.digest(), digest);
        fold.record(of(offset, record), &mut out);
        fold.flush(&mut out);
    }
    assert_eq!(fold.newest(), Timestamp::from_millis(START + 59 * 60_000));
    assert_eq!(out.records.iter().filter(|record| record.versions.is_some()).count(), 2);
    let (found, through) = observe(&pipeline, 0, &out.records);
    assert_eq!(found, expected);
    assert_eq!(through.digest(), straight.digest());
    // the counter was taken as one, and the histogram's count as traffic
    let kinds = |observe: &Observe| -> Vec<String> { observe.explain_all().map(|(_, why)| why).collect() };
    assert_eq!(kinds(&through), kinds(&straight));
    let mut told = Vec::new();
    let mut sink = |sample: SampleRef<'_>| told.push((sample.metric.to_owned(), sample.kind));
    Decoder::of_own(Limits::default())
        .decode(&out.records[0].value, &mut sink)
        .unwrap();
    assert!(
        told.contains(&("requests".to_owned(), PointKind::Cumulative { monotonic: true })),
        "{told:?}"
    );
    assert!(fold.restore(b"something else").is_err());
}

/// `keep` drops metrics that begin with `debug`; `negative` drops values below zero; `double` doubles.
struct Words;

impl Expressions for Words {
    fn filter(&self, text: &str) -> Result<Arc<dyn Filter>, EngineError> {
        Ok(Arc::new(Word(text == "negative")))
    }
    fn value(&self, _: &str) -> Result<Arc<dyn ValueOf>, EngineError> {
        Ok(Arc::new(Word(true)))
    }
}

struct Word(bool);

impl Filter for Word {
    fn reads_sample(&self) -> bool {
        self.0
    }
    fn keep(&self, rows: Rows<'_>) -> Result<Vec<bool>, String> {
        let named = rows.metric.iter().map(|metric| !metric.starts_with("debug"));
        let kept = named
            .zip(rows.value)
            .map(|(named, value)| if self.0 { *value >= 0.0 } else { named });
        Ok(kept.collect())
    }
}

impl ValueOf for Word {
    fn value(&self, rows: Rows<'_>) -> Result<Vec<Option<f64>>, String> {
        if rows.value.contains(&13.0) {
            return Err("it is thirteen".to_owned());
        }
        Ok(rows.value.iter().map(|value| Some(value * 2.0)).collect())
    }
}

#[test]
fn a_topics_expressions_are_applied_on_the_way_and_not_again() {
    let line =
        |metric: &str, value: f64| format!(r#"{{"ts": {START}, "metric": "{metric}", "value": {value}}}"#).into_bytes();
    let all = [
        line("debug.x", 1.0),
        line("a", 3.0),
        line("a", -1.0),
        line("debug.x", 2.0),
        line("a", 13.0),
    ];
    for (expression, kept, left_out) in [("keep", vec![6.0, -2.0], 2), ("negative", vec![2.0, 6.0, 4.0], 1)] {
        let pipeline = pipeline(
            "json",
            "partitions: 4",
            &format!(", where: {expression}, value: double"),
        );
        let mut stage = stage_with(&pipeline, &Words);
        let out = run(&mut stage, &all, |_| false);
        let mut values: Vec<f64> = read(&out.records).into_iter().flatten().map(|s| s.value).collect();
        let mut wanted = kept;
        values.sort_by(f64::total_cmp);
        wanted.sort_by(f64::total_cmp);
        assert_eq!(values, wanted, "{expression}");
        assert_eq!(stage.counters().left_out, left_out);
        assert_eq!(out.dead_letters.len(), 1);
        assert!(out.dead_letters[0].reason.contains("it is thirteen"));
        let source = Source::of_observe(&pipeline, &Words).unwrap().remove(0);
        assert!(source.filter.is_none() && source.value.is_none());
    }
}

#[test]
fn there_is_no_stage_where_the_pipeline_has_none() {
    let mut pipeline = Pipeline::clone(&pipeline("json", "", ""));
    pipeline.rekey = None;
    let pipeline = Arc::new(pipeline);
    assert!(Source::of_rekey(&pipeline, &NoExpressions).unwrap().is_empty());
    let sources = Source::of_observe(&pipeline, &NoExpressions).unwrap();
    assert_eq!(sources[0].topic, "telemetry");
    assert!(Rekey::new(pipeline, shard("telemetry", 0), sources[0].clone()).is_err());
}

/// The series that a mark of this wall time names.
fn named(observe: &mut Observe, wall: Timestamp) -> Option<Vec<(u64, Timestamp)>> {
    let mut out = ObserveOut::default();
    observe.tick(wall, false, &[], &mut out);
    // where time alone has gone on, and not for long, there is none
    let fact = out.facts.pop()?;
    let FactBody::Progress(progress) = fact.body else {
        panic!("a tick makes a mark and nothing else")
    };
    let series = progress.series?;
    Some(series.into_iter().map(|mark| (mark.series, mark.last)).collect())
}

#[test]
fn marks_name_the_live_series_with_the_smallest_hashes_once_a_minute() {
    let mut pipeline = Pipeline::clone(&pipeline("json", "", ""));
    pipeline.rekey = None;
    pipeline.limits.compared_series = 10;
    let pipeline = Arc::new(pipeline);
    let at = |seconds: i64| Timestamp::from_millis(START + seconds * 1_000);
    let line = |metric: usize, minute: i64| {
        format!(r#"{{"ts": "{}", "metric": "m{metric}", "value": 1}}"#, at(minute * 60)).into_bytes()
    };
    // fifty series, of which every other one falls silent
    let mut records = Vec::new();
    for minute in 0..60 {
        records.extend((0..50).filter(|n| minute < 10 || n % 2 == 0).map(|n| line(n, minute)));
    }
    let (_, mut observe) = direct(&pipeline, 0, &records);
    let mut hashes: Vec<u64> = (0..50)
        .step_by(2)
        .map(|n| {
            let labels = suture_event::Labels::new(Vec::<(&str, &str)>::new()).unwrap();
            let metric = format!("m{n}").into();
            suture_event::SeriesKey { metric, labels }.hash64()
        })
        .collect();
    hashes.sort_unstable();
    let (state, digest) = (observe.snapshot().unwrap(), observe.digest());
    let first = named(&mut observe, at(0)).unwrap();
    assert_eq!(first.iter().map(|(hash, _)| *hash).collect::<Vec<_>>(), hashes[..10]);
    // in the windows that have closed
    assert!(first.iter().all(|(_, last)| *last == at(58 * 60)), "{first:?}");
    assert_eq!(named(&mut observe, at(55)), None);
    assert_eq!(named(&mut observe, at(60)), Some(first));
    assert_eq!(named(&mut observe, Timestamp::MIN), None, "a replay has no wall clock");
    assert_eq!(
        (observe.snapshot().unwrap(), observe.digest()),
        (state, digest),
        "no part of the state"
    );
    let mut none = Pipeline::clone(&pipeline);
    none.limits.compared_series = 0;
    let (_, mut observe) = direct(&Arc::new(none), 0, &records);
    assert_eq!(named(&mut observe, at(0)), None);
}
