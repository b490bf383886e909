//! Model files: series begin with what was learned of them, and a file that does not fit is refused.

// what goes wrong here is a failed test
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;

use suture_config::Pipeline;
use suture_engine::{Headers, Model, NoExpressions, Observe, ObserveOut, RecordRef, Source};
use suture_event::{AnomalyPhase, FactBody, ShardId, Timestamp};

const START: i64 = 1_780_272_000_000;
const MINUTE: i64 = 60_000;

fn pipeline(text: &str) -> Arc<Pipeline> {
    let text = format!("version: 1\nname: test\nclock: event\ntelemetry: [{{topic: telemetry}}]\n{text}");
    Arc::new(Pipeline::parse("test.yaml", &text, &|_| None).unwrap_or_else(|problems| panic!("{problems}")))
}

fn observe(pipeline: &Arc<Pipeline>) -> Observe {
    let source = Source::all(pipeline, &NoExpressions).unwrap().remove(0);
    let shard = ShardId {
        topic: "telemetry".into(),
        partition: 0,
    };
    Observe::new(pipeline.clone(), shard, source).unwrap()
}

/// Feeds minutes of two pods' samples, which are others after a deploy at minute 2,500, and gives the minutes at which anomalies opened.
fn feed(observe: &mut Observe, minutes: std::ops::Range<i64>, outage: std::ops::Range<i64>) -> Vec<i64> {
    let mut out = ObserveOut::default();
    for minute in minutes {
        for pod in if minute < 2_500 { ["a", "b"] } else { ["c", "d"] } {
            let wobble = f64::from(u32::try_from(minute * 7919 % 97).unwrap()) / 97.0;
            let value = if pod == "d" && outage.contains(&minute) {
                90.0
            } else {
                20.0 + wobble
            };
            let ts = START + minute * MINUTE;
            let line =
                format!(r#"{{"ts":{ts},"metric":"cpu","value":{value},"labels":{{"pod":"{pod}","service":"cart"}}}}"#);
            let record = RecordRef {
                offset: minute,
                timestamp: None,
                key: None,
                headers: Headers::default(),
                value: Some(line.as_bytes()),
            };
            observe.record(record, &mut out);
        }
    }
    observe.flush(&mut out);
    assert_eq!(out.dead_letters, []);
    let opened = out.facts.iter().filter_map(|fact| match &fact.body {
        FactBody::Anomaly(anomaly) if anomaly.phase == AnomalyPhase::Opened => Some(anomaly.onset),
        _ => None,
    });
    opened
        .map(|onset: Timestamp| (onset.as_millis() - START) / MINUTE)
        .collect()
}

fn trained(pipeline: &Arc<Pipeline>) -> Vec<u8> {
    let mut observe = observe(pipeline);
    assert_eq!(feed(&mut observe, 0..2_000, 0..0), [0_i64; 0]);
    Model::encode(&observe).unwrap()
}

#[test]
fn series_begin_with_what_was_learned_of_them() {
    let pipeline = pipeline("window: {size: 1m}");
    let model = Arc::new(Model::decode(&trained(&pipeline)).unwrap());
    // of both pods together: what was learned of the service holds for those that come after them
    assert_eq!((model.about().series, model.about().samples), (1, 4_000));

    // an outage three quarters of an hour after a start: a new series is still warming up then
    let (from, outage) = (3_000, 3_045..3_057);
    let mut live = observe(&pipeline).with_model(model.clone()).unwrap();
    assert_eq!(feed(&mut live, from..3_100, outage.clone()), [3_045]);
    assert_eq!(feed(&mut observe(&pipeline), from..3_100, outage.clone()), [0_i64; 0]);

    // and a snapshot taken in between changes nothing
    let mut first = observe(&pipeline).with_model(model.clone()).unwrap();
    feed(&mut first, from..3_005, 0..0);
    let mut second = observe(&pipeline).with_model(model).unwrap();
    second.restore(&first.snapshot().unwrap()).unwrap();
    assert_eq!(feed(&mut second, 3_005..3_100, outage), [3_045]);
    assert_eq!(second.digest(), live.digest());
}

#[test]
fn a_model_that_does_not_fit_is_refused_or_left_out() {
    let minutes = pipeline("window: {size: 1m}");
    let bytes = trained(&minutes);
    let model = Arc::new(Model::decode(&bytes).unwrap());

    let other = observe(&pipeline("window: {size: 5m}")).with_model(model.clone());
    assert!(other.err().unwrap().to_string().contains("other windows"));

    // sums are no means: of such a series nothing was learned
    let sums = pipeline("window: {size: 1m}\nsignals: [{name: cpu, match: {metric: cpu}, aggregate: sum}]");
    let mut live = observe(&sums).with_model(model).unwrap();
    assert_eq!(feed(&mut live, 3_000..3_100, 3_045..3_057), [0_i64; 0]);

    for (at, what) in [(0, "does not begin"), (40, "checksum"), (bytes.len() - 1, "checksum")] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        let error = Model::decode(&damaged).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
    assert!(Model::decode(&bytes[..bytes.len() / 2]).is_err() && Model::decode(&[]).is_err());
}
