//! `pipelines/inference.yaml` over twenty hours of OTLP from six replicas of an inference service: it finds what was
//! broken, and nothing else.

// helpers outside of test functions stop at what cannot be, like the tests themselves
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_wrap)]

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};
use suture_config::Pipeline;
use suture_engine::{Headers, NoExpressions, Observe, ObserveOut, RecordRef, Source};
use suture_event::{Anomaly, AnomalyPhase, FactBody, ShardId};
use suture_testkit::noise::Noise;

const PIPELINE: &str = include_str!("../../../pipelines/inference.yaml");
const START: i64 = 1_780_272_000_000;
const REPLICAS: usize = 6;
const MINUTES: usize = 1_250;
/// Requests a minute and replica.
const REQUESTS: usize = 50;

/// What is broken, from when until when, which metrics must show it, and which others may.
type Fault = (
    &'static str,
    usize,
    usize,
    &'static [&'static str],
    &'static [&'static str],
);

const FAULTS: [Fault; 6] = [
    (
        "queueing",
        700,
        730,
        &["gen_ai.server.time_to_first_token"],
        &["gen_ai.server.request.duration"],
    ),
    (
        "slow replica",
        800,
        830,
        &["gen_ai.server.time_per_output_token"],
        &["gen_ai.server.request.duration"],
    ),
    ("retrieval", 900, 930, &["retrieval-burn"], &[]),
    ("swapped model", 1_000, 1_020, &["models", "model-mix"], &[]),
    (
        "input drift",
        1_080,
        1_120,
        &["input-lengths", "rag.input.embedding_distance"],
        &["gen_ai.client.token.usage.sum"],
    ),
    ("variability", 1_180, 1_210, &["rag.answer.variability"], &[]),
];

fn broken(fault: &str, minute: usize) -> bool {
    FAULTS
        .iter()
        .any(|(name, from, to, ..)| *name == fault && (*from..*to).contains(&minute))
}

/// A cumulative histogram of a client library, with bounds that grow by three tenths.
#[derive(Default, Clone)]
struct Histogram {
    counts: Vec<u64>,
    sum: f64,
}

const BUCKETS: usize = 40;

impl Histogram {
    fn bounds(least: f64) -> Vec<f64> {
        (0..BUCKETS - 1).map(|k| least * 1.3_f64.powi(k as i32)).collect()
    }

    fn add(&mut self, least: f64, value: f64) {
        self.counts.resize(BUCKETS, 0);
        let place = ((value / least).ln() / 1.3_f64.ln()).ceil().max(0.0) as usize;
        self.counts[place.min(BUCKETS - 1)] += 1;
        self.sum += value;
    }

    fn point(&self, least: f64, at: i64, attributes: &[(&str, &str)]) -> Value {
        json!({
            "startTimeUnixNano": nanos(START), "timeUnixNano": nanos(at), "attributes": listed(attributes),
            "count": self.counts.iter().sum::<u64>().to_string(), "sum": self.sum, "explicitBounds": Self::bounds(least),
            "bucketCounts": self.counts.iter().map(u64::to_string).collect::<Vec<_>>(),
        })
    }
}

fn nanos(millis: i64) -> String {
    format!("{millis}000000")
}

fn listed(attributes: &[(&str, &str)]) -> Value {
    attributes
        .iter()
        .map(|(key, value)| json!({"key": key, "value": {"stringValue": value}}))
        .collect()
}

fn distribution(name: &str, points: Vec<Value>) -> Value {
    json!({"name": name, "histogram": {"aggregationTemporality": 2, "dataPoints": points}})
}

fn gauge(name: &str, at: i64, value: f64) -> Value {
    json!({"name": name, "gauge": {"dataPoints": [{"timeUnixNano": nanos(at), "asDouble": value}]}})
}

/// One replica, as its metrics know it.
#[derive(Default)]
struct Replica {
    histograms: BTreeMap<&'static str, Histogram>,
    hits: f64,
    misses: f64,
}

impl Replica {
    fn see(&mut self, name: &'static str, least: f64, value: f64) {
        self.histograms.entry(name).or_default().add(least, value);
    }

    /// Lives through a minute and exports it.
    fn minute(&mut self, number: usize, minute: usize, noise: &mut Noise) -> String {
        let at = START + minute as i64 * 60_000 + 30_000;
        // fewer at night, and some more on one side of the load balancer
        let day = 1.0 + 0.3 * (std::f64::consts::TAU * minute as f64 / 1_440.0).sin();
        let requests = (REQUESTS as f64 * day * (1.0 + 0.02 * noise.normal())) as usize + number;
        for _ in 0..requests {
            let mut like = |median: f64, spread: f64| median * (spread * noise.normal()).exp();
            let slow = if number == 2 && broken("slow replica", minute) {
                2.5
            } else {
                1.0
            };
            let queue = if broken("queueing", minute) { 4.0 } else { 1.0 };
            let longer = if broken("input drift", minute) { 2.2 } else { 1.0 };
            let (first, each) = (queue * like(0.3, 0.3), slow * like(0.02, 0.2));
            let (input, output) = (longer * like(600.0, 0.6), like(250.0, 0.5));
            let (chance, found) = (noise.uniform(), noise.uniform());
            self.see("first", 0.001, first);
            self.see("each", 0.0001, each);
            let name = if chance < 0.001 { "failed" } else { "answered" };
            self.see(name, 0.001, first + 250.0 * each);
            let swapped = broken("swapped model", minute) && chance > 0.8;
            self.see(if swapped { "input of another" } else { "input" }, 1.0, input);
            self.see(if swapped { "output of another" } else { "output" }, 1.0, output);
            if found < if broken("retrieval", minute) { 0.9 } else { 0.02 } {
                self.misses += 1.0;
            } else {
                self.hits += 1.0;
            }
        }
        let model = [
            ("gen_ai.operation.name", "chat"),
            ("gen_ai.request.model", "answers-large"),
        ];
        let with = |more: &[(&'static str, &'static str)]| [model.as_slice(), more].concat();
        let point = |name: &str, least: f64, more: &[(&'static str, &'static str)]| {
            self.histograms
                .get(name)
                .map(|histogram| histogram.point(least, at, &with(more)))
        };
        let points = |all: Vec<Option<Value>>| all.into_iter().flatten().collect::<Vec<_>>();
        let usage = |name, kind, answered_by| {
            point(
                name,
                1.0,
                &[("gen_ai.token.type", kind), ("gen_ai.response.model", answered_by)],
            )
        };
        let (usual, other) = ("answers-large-2026-04", "answers-small-2026-05");
        let counted = |outcome: &str, value: f64| {
            json!({"startTimeUnixNano": nanos(START), "timeUnixNano": nanos(at), "asDouble": value,
                   "attributes": listed(&[("outcome", outcome)])})
        };
        let varies = if broken("variability", minute) { 0.35 } else { 0.12 };
        let apart = if broken("input drift", minute) { 0.34 } else { 0.2 };
        let metrics = json!([
            distribution("gen_ai.server.time_to_first_token", points(vec![point("first", 0.001, &[])])),
            distribution("gen_ai.server.time_per_output_token", points(vec![point("each", 0.0001, &[])])),
            distribution(
                "gen_ai.server.request.duration",
                points(vec![point("answered", 0.001, &[]), point("failed", 0.001, &[("error.type", "500")])]),
            ),
            distribution(
                "gen_ai.client.token.usage",
                points(vec![
                    usage("input", "input", usual),
                    usage("output", "output", usual),
                    usage("input of another", "input", other),
                    usage("output of another", "output", other),
                ]),
            ),
            {"name": "rag.retrievals", "sum": {"aggregationTemporality": 2, "isMonotonic": true,
                "dataPoints": [counted("hit", self.hits), counted("miss", self.misses)]}},
            gauge("rag.answer.variability", at, varies + 0.01 * noise.normal()),
            gauge("rag.input.embedding_distance", at, apart + 0.005 * noise.normal()),
        ]);
        let resource = listed(&[
            ("service.name", "assistant"),
            ("service.instance.id", &format!("assistant-{number}")),
            ("deployment.environment.name", "prod"),
        ]);
        json!({"resourceMetrics": [{"resource": {"attributes": resource}, "scopeMetrics": [{"metrics": metrics}]}]})
            .to_string()
    }
}

#[test]
fn the_pipeline_for_inference_finds_what_was_broken_and_nothing_else() {
    // a working day is learned from, where the file asks for a whole one
    let text = PIPELINE
        .replace("otlp_proto", "otlp_json")
        .replace("learn: 1d", "learn: 8h, alarm: 0.002");
    let pipeline = Arc::new(Pipeline::parse("inference.yaml", &text, &|_| None).unwrap_or_else(|p| panic!("{p}")));
    let source = Source::all(&pipeline, &NoExpressions).unwrap().remove(0);
    let shard = ShardId {
        topic: "otlp_metrics".into(),
        partition: 0,
    };
    let mut observe = Observe::new(pipeline, shard, source).unwrap();
    let (mut out, mut noise) = (ObserveOut::default(), Noise(2_026));
    let mut replicas: Vec<Replica> = (0..REPLICAS).map(|_| Replica::default()).collect();
    for minute in 0..MINUTES {
        for (number, replica) in replicas.iter_mut().enumerate() {
            let record = replica.minute(number, minute, &mut noise);
            let record = RecordRef {
                offset: (minute * REPLICAS + number) as i64,
                timestamp: None,
                key: None,
                headers: Headers::default(),
                value: Some(record.as_bytes()),
            };
            observe.record(record, &mut out);
        }
    }
    observe.flush(&mut out);
    assert!(out.dead_letters.is_empty(), "{:?}", out.dead_letters.first());
    assert_eq!(observe.counters().left_out_of_groups, 0);
    let opened = out.facts.iter().filter_map(|fact| match &fact.body {
        FactBody::Anomaly(anomaly) if anomaly.phase == AnomalyPhase::Opened => Some(anomaly),
        _ => None,
    });
    let opened: Vec<&Anomaly> = opened.collect();
    let of_none = opened.iter().filter(|anomaly| {
        let minute = (anomaly.onset.as_millis() - START) / 60_000;
        let of = |(_, from, to, must, may): &Fault| {
            let known = must.contains(&&*anomaly.metric) || may.contains(&&*anomaly.metric);
            (*from as i64 - 1..*to as i64 + 15).contains(&minute) && known
        };
        !FAULTS.iter().any(of)
    });
    let of_none: Vec<String> = of_none
        .map(|a| {
            format!(
                "{} {}{} {}: {}",
                (a.onset.as_millis() - START) / 60_000,
                a.metric,
                a.labels,
                a.detector,
                a.detail
            )
        })
        .collect();
    assert!(of_none.is_empty(), "{of_none:#?}");
    for (name, from, to, must, _) in FAULTS {
        for metric in must {
            let found = opened.iter().any(|anomaly| {
                let minute = (anomaly.at.as_millis() - START) / 60_000;
                &&*anomaly.metric == metric && (from as i64..to as i64 + 2).contains(&minute)
            });
            assert!(found, "{name} does not show in {metric}");
        }
    }
    // the slow replica stands out among its siblings, by name
    let peers: Vec<_> = opened.iter().filter(|anomaly| &*anomaly.detector == "peers").collect();
    assert!(
        peers
            .iter()
            .all(|anomaly| anomaly.labels.get("service.instance.id") == Some("assistant-2"))
    );
    assert!(
        !peers.is_empty()
            && opened
                .iter()
                .any(|a| &*a.detector == "burn" && a.detail.contains("promised good"))
    );
}
