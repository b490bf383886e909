//! Each pipeline that is shipped for a tool, over hours of records in the shape that the tool writes: a service that fails after a
//! deploy is an incident that is blamed on the deploy, and before it there is none.

// what goes wrong here is a failed test
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_wrap)]

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message as _;
use suture_config::{Clock, Pipeline};
use suture_engine::{Decide, DecideOut, Headers, NoExpressions, Observe, ObserveOut, RecordRef, Source, SourceKind};
use suture_event::{Incident, ShardId, Timestamp};

/// 2026-06-01, in seconds.
const START: i64 = 1_780_272_000;
const MINUTES: i64 = 300;
const BROKEN: i64 = 270;
const SERVICES: [&str; 6] = ["web", "cart", "checkout", "payment", "stock", "mail"];
const ILL: usize = 2;
/// Seconds between two samples of a series.
const STEP: i64 = 20;

/// How a record's text becomes its bytes.
type Packed = fn(&str) -> Vec<u8>;

fn plain(text: &str) -> Vec<u8> {
    text.trim_end().as_bytes().to_vec()
}

fn protobuf(text: &str) -> Vec<u8> {
    serde_json::from_str::<ExportMetricsServiceRequest>(text)
        .unwrap()
        .encode_to_vec()
}

/// Noise that is the same in every run, from -0.5 to 0.5.
fn noise(of: [i64; 3]) -> f64 {
    let mut state = of.iter().fold(0x9e37_79b9_7f4a_7c15_u64, |state, part| {
        (state ^ part.unsigned_abs())
            .wrapping_mul(0xbf58_476d_1ce4_e5b9)
            .rotate_left(31)
    });
    state ^= state >> 29;
    (state.wrapping_mul(0x94d0_49bb_1331_11eb) >> 11) as f64 / (1_u64 << 53) as f64 - 0.5
}

/// What services have counted so far.
#[derive(Default, Clone, Copy)]
struct Counted {
    good: i64,
    bad: i64,
    slow: i64,
    seconds: f64,
    restarts: i64,
}

fn filled(template: &str, service: &str, second: i64, values: &[(&str, String)]) -> String {
    let at = Timestamp::from_millis(second * 1_000).to_string();
    let mut text = template
        .replace("@SERVICE@", service)
        .replace("@SECONDS@", &second.to_string())
        .replace("@RFC3339@", &at);
    for (name, value) in values {
        text = text.replace(name, value);
    }
    assert!(!text.contains('@'), "something is not filled in: {text}");
    text
}

/// Everything that is sent from the start on, in order of time.
fn telemetry(template: &str, mut each: impl FnMut(&str)) {
    let mut counted = [Counted::default(); SERVICES.len()];
    for step in 0..MINUTES * 60 / STEP {
        for (service, name) in SERVICES.iter().enumerate() {
            let minute = step * STEP / 60;
            let ill = service == ILL && minute >= BROKEN;
            let noisy = |which: i64| noise([which, step, service as i64]);
            let (share, latency) = if ill {
                (0.3 + 0.05 * noisy(1), 0.7 + 0.1 * noisy(2))
            } else {
                (0.01 + 0.004 * noisy(1), 0.08 + 0.008 * noisy(2))
            };
            let cpu = if ill {
                0.9 + 0.02 * noisy(3)
            } else {
                0.4 + 0.04 * noisy(3)
            };
            let requests = 2_000.0 + 100.0 * noisy(4);
            let bad = (requests * share).round() as i64;
            let good = requests.round() as i64 - bad;
            let slow = good * if ill { 6 } else { 1 } / 10;
            let sum = &mut counted[service];
            *sum = Counted {
                good: sum.good + good,
                bad: sum.bad + bad,
                slow: sum.slow + slow,
                seconds: sum.seconds + latency * good as f64,
                restarts: sum.restarts + i64::from(ill && step % 3 == 0),
            };
            let values = [
                ("@GOOD@", sum.good.to_string()),
                ("@BAD@", sum.bad.to_string()),
                ("@FAST@", (sum.good - sum.slow).to_string()),
                ("@SLOW@", sum.slow.to_string()),
                ("@TIME@", sum.seconds.to_string()),
                ("@RATIO@", share.to_string()),
                ("@LATENCY@", latency.to_string()),
                ("@CPU@", cpu.to_string()),
                ("@MEMORY@", ((5e8 + 1e7 * noisy(5)) as i64).to_string()),
                ("@RESTARTS@", sum.restarts.to_string()),
            ];
            each(&filled(template, name, START + step * STEP, &values));
        }
    }
}

fn record(offset: i64, value: &[u8]) -> RecordRef<'_> {
    RecordRef {
        offset,
        timestamp: None,
        key: None,
        headers: Headers::default(),
        value: Some(value),
    }
}

/// The incidents that a pipeline finds, in their last states.
fn found(pipeline: &str, template: &str, packed: Packed, deploy: &str) -> Vec<Incident> {
    let checked = Pipeline::check("pipeline", pipeline, &|_| None, &suture_config::Unchecked);
    assert!(
        checked.problems.is_empty(),
        "{}",
        checked.problems.render(suture_config::Look::Plain)
    );
    let shipped = checked.pipeline.unwrap();
    assert_eq!(
        shipped.clock,
        Clock::Wall,
        "a pipeline that people run goes by the clock on the wall"
    );
    let pipeline = Arc::new(Pipeline {
        // as a replay does: what it finds does not depend on when it runs, and its telemetry is in one partition
        clock: Clock::Event,
        rekey: None,
        ..shipped
    });
    let sources = Source::all(&pipeline, &NoExpressions).unwrap();
    let mut shards = sources
        .iter()
        .filter(|source| matches!(source.kind, SourceKind::Telemetry(_) | SourceKind::Changes(_)))
        .map(|source| {
            let id = ShardId {
                topic: source.topic.as_str().into(),
                partition: 0,
            };
            (Observe::new(pipeline.clone(), id.clone(), source.clone()).unwrap(), id)
        });
    let (mut samples, mut changes) = (shards.next().unwrap(), shards.next().unwrap());
    let roster = [samples.1.clone(), changes.1.clone()];
    let mut decide = Decide::new(pipeline.clone(), Vec::new());
    let (mut observed, mut decided) = (ObserveOut::default(), DecideOut::default());
    let mut hand_on = |observed: &mut ObserveOut| {
        assert_eq!(observed.dead_letters, [], "everything is read");
        for fact in observed.facts.drain(..) {
            decide.fact(fact, &mut decided).unwrap();
        }
    };
    let deploy = filled(deploy, SERVICES[ILL], START + (BROKEN - 1) * 60 + 30, &[]);
    changes.0.record(record(0, &plain(&deploy)), &mut observed);
    changes.0.tick(Timestamp::MIN, true, &roster, &mut observed);
    hand_on(&mut observed);
    let mut offset = 0;
    telemetry(template, |text| {
        samples.0.record(record(offset, &packed(text)), &mut observed);
        offset += 1;
        if offset % 60 == 0 {
            samples.0.tick(Timestamp::MIN, false, &roster, &mut observed);
            hand_on(&mut observed);
        }
    });
    samples.0.tick(Timestamp::MIN, true, &roster, &mut observed);
    samples.0.end(&mut observed);
    hand_on(&mut observed);
    decide.end(&mut decided);
    let mut last: std::collections::BTreeMap<Arc<str>, Incident> = std::collections::BTreeMap::new();
    for incident in decided.incidents {
        last.insert(incident.id.clone(), incident);
    }
    last.into_values().collect()
}

fn assert_blamed(found: &[Incident]) {
    let titles: Vec<&str> = found.iter().map(|incident| incident.title.as_str()).collect();
    assert_eq!(found.len(), 1, "{titles:?}");
    let incident = &found[0];
    let opened = incident.opened_at.as_millis() / 60_000 - START / 60;
    assert!((BROKEN..BROKEN + 15).contains(&opened), "{titles:?} in minute {opened}");
    let first = &incident.hypotheses[0];
    assert_eq!(first.service.as_deref(), Some(SERVICES[ILL]), "{titles:?}");
    assert!(first.change.is_some(), "{titles:?}");
}

const GITHUB: &str = include_str!("../../../pipelines/records/deploy.github.json");

#[test]
fn of_an_opentelemetry_collector() {
    assert_blamed(&found(
        include_str!("../../../pipelines/collector.yaml"),
        include_str!("../../../pipelines/records/collector.json"),
        protobuf,
        GITHUB,
    ));
}

#[test]
fn of_telegraf() {
    assert_blamed(&found(
        include_str!("../../../pipelines/telegraf.yaml"),
        include_str!("../../../pipelines/records/telegraf.influx"),
        plain,
        GITHUB,
    ));
}

#[test]
fn of_prometheus() {
    assert_blamed(&found(
        include_str!("../../../pipelines/prometheus.yaml"),
        include_str!("../../../pipelines/records/prometheus.ndjson"),
        plain,
        GITHUB,
    ));
}

#[test]
fn of_kubernetes() {
    assert_blamed(&found(
        include_str!("../../../pipelines/kubernetes.yaml"),
        include_str!("../../../pipelines/records/kubernetes.json"),
        protobuf,
        include_str!("../../../pipelines/records/deploy.kubernetes.json"),
    ));
}
