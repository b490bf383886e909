//! States of every engine version that was ever given out, from `ENGINE_VERSION` 3 on, can still be gone on from.
//!
//! `UPDATE_EXPECT=1 cargo test -p suture-engine --test versions` writes those of the version that this is; a fixture of an earlier
//! one is never written again.

// what goes wrong here is a failed test
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{collections::BTreeSet, fs, path::PathBuf, sync::Arc};

use suture_config::Pipeline;
use suture_engine::{
    Decide, DecideOut, ENGINE_VERSION, Headers, NoExpressions, Observe, ObserveOut, RecordRef, Source,
};
use suture_event::{FactBody, ShardId, Timestamp};

const PIPELINE: &str = "
version: 1
name: versions
clock: event
scope: {label: environment, default: prod}
telemetry: [{topic: telemetry}]
window: {size: 1m}
detect: {alarm: 0.005, at_once: 0.0005}
";
const SERIES: i64 = 3;
const MINUTES: i64 = 120;
/// The first of the minutes in which each series is far off.
const OFF: i64 = 115;

fn pipeline() -> Arc<Pipeline> {
    Arc::new(Pipeline::parse("test.yaml", PIPELINE, &|_| None).unwrap_or_else(|problems| panic!("{problems}")))
}

fn telemetry() -> ShardId {
    ShardId {
        topic: "telemetry".into(),
        partition: 0,
    }
}

fn observe() -> Observe {
    let sources = Source::all(&pipeline(), &NoExpressions).unwrap();
    let source = sources.into_iter().find(|source| source.topic == "telemetry").unwrap();
    Observe::new(pipeline(), telemetry(), source).unwrap()
}

fn take(observe: &mut Observe, minutes: std::ops::Range<i64>) -> ObserveOut {
    let mut out = ObserveOut::default();
    for minute in minutes {
        for series in 0..SERIES {
            let at = Timestamp::from_millis(1_780_272_000_000 + minute * 60_000);
            let noise = (minute * 7_919 + series * 104_729) % 100;
            let value = noise + if minute >= OFF { 5_000 } else { 1_000 };
            let text = format!(
                r#"{{"ts": {}, "metric": "request_latency", "value": {value}, "labels": {{"service": "s{series}"}}}}"#,
                at.as_millis()
            );
            observe.record(
                RecordRef {
                    offset: minute * SERIES + series,
                    timestamp: Some(at),
                    key: None,
                    headers: Headers::default(),
                    value: Some(text.as_bytes()),
                },
                &mut out,
            );
        }
    }
    observe.flush(&mut out);
    out
}

fn decide(facts: &ObserveOut) -> Decide {
    let mut decide = Decide::new(pipeline(), Vec::new());
    for fact in &facts.facts {
        decide.fact(fact.clone(), &mut DecideOut::default()).unwrap();
    }
    decide
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/versions")
}

#[test]
fn states_of_all_versions_are_gone_on_from() {
    let mut fold = observe();
    let mut said = take(&mut fold, 0..OFF + 2);
    fold.tick(Timestamp::MIN, false, &[telemetry()], &mut said);
    let anomalies = said
        .facts
        .iter()
        .filter(|fact| matches!(fact.body, FactBody::Anomaly(_)))
        .count();
    assert_eq!(anomalies, 3, "each series is off");
    if suture_testkit::golden::renewing() {
        fs::create_dir_all(folder()).unwrap();
        fs::write(
            folder().join(format!("observe-{ENGINE_VERSION}")),
            fold.snapshot().unwrap(),
        )
        .unwrap();
        let decide = decide(&said).snapshot().unwrap();
        fs::write(folder().join(format!("decide-{ENGINE_VERSION}")), decide).unwrap();
    }
    let after = take(&mut fold, OFF + 2..MINUTES);
    let mut versions = BTreeSet::new();
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let (plane, version) = name.split_once('-').unwrap();
        let bytes = fs::read(&path).unwrap();
        versions.insert((plane.to_owned(), version.parse::<u32>().unwrap()));
        if plane == "observe" {
            let mut fold = observe();
            fold.restore(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(fold.counters().series, 3, "{name}");
            let facts = take(&mut fold, OFF + 2..MINUTES).facts;
            let told = |facts: &[suture_event::Fact]| -> Vec<_> {
                facts.iter().map(|fact| (fact.at, fact.body.rank())).collect()
            };
            assert_eq!(told(&facts), told(&after.facts), "{name}");
        } else {
            let mut fold = Decide::new(pipeline(), Vec::new());
            fold.restore(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
    let all: BTreeSet<(String, u32)> = (3..=ENGINE_VERSION)
        .flat_map(|version| ["observe", "decide"].map(|plane| (plane.to_owned(), version)))
        .collect();
    assert_eq!(versions, all, "every version has its states");
}
