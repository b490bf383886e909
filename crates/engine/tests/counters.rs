//! Counters that nobody calls so are found out by what they do, whatever the batches and wherever the fold was broken off.

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
use suture_event::{Anomaly, AnomalyPhase, FactBody, ShardId, SignalKind};

const START: i64 = 1_780_272_000_000;
const MINUTE: i64 = 60_000;
/// Seconds between two samples.
const EVERY: i64 = 15;

fn pipeline(more: &str) -> Arc<Pipeline> {
    let text = format!(
        "name: test\nclock: event\nentity: service\ntelemetry: [{{topic: telemetry}}]\nwindow: {{size: 1m}}\n{more}"
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

/// What a service is at a scrape: requests a second, seconds each takes, and the share that fails.
type Scrape = (f64, f64, f64);

/// The lines of a service with two pods, one of which is replaced at `replaced`.
fn scraped(scrapes: i64, replaced: i64, of: impl Fn(i64) -> Scrape) -> Vec<Vec<String>> {
    let mut sums = [[0.0; 4]; 2];
    let each = (0..scrapes).map(|scrape| {
        let (rate, takes, fails) = of(scrape);
        // no two scrapes alike
        let rate = rate * (1.0 + 0.05 * (scrape as f64 * 1.7).sin());
        let mut lines = Vec::new();
        for (at, sums) in sums.iter_mut().enumerate() {
            let pod = if at == 0 && scrape >= replaced { "b" } else { ["a", "c"][at] };
            if at == 0 && scrape == replaced {
                *sums = [0.0; 4];
            }
            let requests = 0.5 * rate * EVERY as f64;
            let grown = [requests * (1.0 - fails), requests * fails, requests * takes, requests];
            sums.iter_mut().zip(grown).for_each(|(sum, grown)| *sum += grown);
            let ts = START + scrape * EVERY * 1_000;
            let mut line = |metric: &str, label: &str, value: f64| {
                lines.push(format!(
                    r#"{{"ts": {ts}, "metric": "{metric}", "value": {value}, "labels": {{"service": "web", "pod": "{pod}"{label}}}}}"#
                ));
            };
            line("http_requests_total", r#", "code": "200""#, sums[0]);
            line("http_requests_total", r#", "code": "500""#, sums[1]);
            line("http_request_duration_seconds_sum", "", sums[2]);
            line("http_request_duration_seconds_count", "", sums[3]);
            line("http_request_duration_seconds_bucket", r#", "le": "0.1""#, 0.9 * sums[3]);
            // what a script sends since its last report, under a counter's name
            line("jobs_done_total", "", 40.0 + 10.0 * (scrape as f64 * 2.3).sin());
        }
        lines
    });
    each.collect()
}

struct Said {
    opened: Vec<Anomaly>,
    scores: Vec<ScoreRow>,
    text: String,
}

impl Said {
    /// Values of a metric's windows from a minute on.
    fn values(&self, metric: &str, code: Option<&str>, from: i64) -> Vec<f64> {
        let rows = self
            .scores
            .iter()
            .filter(|row| &*row.metric == metric && row.labels.get("code") == code);
        let late = rows.filter(|row| row.ts.as_millis() >= START + from * MINUTE);
        late.map(|row| row.value).collect()
    }
}

/// `batch` samples come in a record; the fold goes through a snapshot every `restart` scrapes.
fn run(pipeline: &Arc<Pipeline>, scrapes: &[Vec<String>], batch: usize, restart: usize) -> Said {
    let (mut fold, mut out) = (observe(pipeline), ObserveOut::default());
    for (number, lines) in scrapes.iter().enumerate() {
        for part in lines.chunks(batch) {
            let text = format!("[{}]", part.join(","));
            let record = RecordRef {
                offset: 0,
                timestamp: None,
                key: None,
                headers: Headers::default(),
                value: Some(text.as_bytes()),
            };
            fold.record(record, &mut out);
        }
        if restart > 0 && number % restart == restart - 1 {
            fold.flush(&mut out);
            let bytes = fold.snapshot().unwrap();
            fold = observe(pipeline);
            fold.restore(&bytes).unwrap();
        }
    }
    fold.flush(&mut out);
    let anomalies: Vec<Anomaly> = out
        .facts
        .into_iter()
        .filter_map(|fact| match fact.body {
            FactBody::Anomaly(anomaly) => Some(anomaly),
            _ => None,
        })
        .collect();
    let text = format!("{anomalies:?}\n{:?}\n{:x}", out.scores, fold.digest());
    let opened = anomalies
        .into_iter()
        .filter(|anomaly| anomaly.phase == AnomalyPhase::Opened);
    Said {
        opened: opened.collect(),
        scores: out.scores,
        text,
    }
}

const CALM: Scrape = (40.0, 0.05, 0.01);

fn near(values: &[f64], wanted: f64, within: f64) {
    assert!(!values.is_empty());
    for value in values {
        assert!((value / wanted - 1.0).abs() < within, "{value} is not {wanted}");
    }
}

#[test]
fn counters_are_read_by_their_rate_once_they_have_shown_that_they_count_up() {
    let said = run(&pipeline(""), &scraped(400, 200, |_| CALM), 12, 0);
    // two pods' requests add up, and a pod that begins at zero is no fall
    near(&said.values("http_requests_total", Some("200"), 10), 39.6, 0.2);
    near(&said.values("http_requests_total", Some("500"), 10), 0.4, 0.2);
    near(&said.values("http_request_duration_seconds_count", None, 10), 40.0, 0.2);
    // the sum over the count is how long a request takes
    near(&said.values("http_request_duration_seconds_sum", None, 10), 0.05, 0.01);
    assert_eq!(said.values("http_request_duration_seconds_bucket", None, 10), [0.0; 0]);
    // what falls as often as it rises is no counter, whatever it is called
    near(&said.values("jobs_done_total", None, 10), 80.0, 0.3);
    assert!(said.opened.is_empty(), "{:?}", said.opened);
}

#[test]
fn a_slow_and_failing_service_shows_in_its_counters() {
    let slow = |scrape| match scrape {
        400.. => (40.0, 0.2, 0.01),
        _ => CALM,
    };
    let said = run(&pipeline(""), &scraped(440, i64::MAX, slow), 12, 0);
    let told: Vec<_> = said.opened.iter().map(|told| (&*told.metric, told.signal)).collect();
    assert_eq!(told, [("http_request_duration_seconds_sum", SignalKind::Latency)]);
    let onset = said.opened[0].onset.as_millis() - START;
    assert_eq!(onset / MINUTE, 100);

    let failing = |scrape| match scrape {
        400.. => (40.0, 0.05, 0.3),
        _ => CALM,
    };
    let said = run(&pipeline(""), &scraped(440, i64::MAX, failing), 12, 0);
    let errors = said
        .opened
        .iter()
        .find(|told| told.signal == SignalKind::Errors)
        .unwrap();
    assert_eq!(errors.labels.get("code"), Some("500"));
    assert_eq!((errors.onset.as_millis() - START) / MINUTE, 100);
}

#[test]
fn neither_batches_nor_restarts_change_what_is_said() {
    let slow = |scrape| match scrape {
        300..330 => (40.0, 0.3, 0.2),
        _ => CALM,
    };
    let scrapes = scraped(400, 150, slow);
    let whole = run(&pipeline(""), &scrapes, 12, 0);
    assert!(!whole.opened.is_empty());
    for batch in [1, 5, 12] {
        for restart in [0, 1, 7, 100] {
            let other = run(&pipeline(""), &scrapes, batch, restart);
            assert!(other.text == whole.text, "batch {batch}, restart {restart}");
        }
    }
    // one record for many scrapes
    let many: Vec<Vec<String>> = scrapes.chunks(25).map(<[_]>::concat).collect();
    assert!(run(&pipeline(""), &many, usize::MAX, 0).text == whole.text);
}

#[test]
fn the_pipeline_file_has_the_last_word() {
    let levels = pipeline("signals: [{name: all, match: {metric: '*'}, counter: false}]\n");
    let said = run(&levels, &scraped(100, i64::MAX, |_| CALM), 12, 0);
    let values = said.values("http_request_duration_seconds_count", None, 10);
    assert!(values.is_sorted() && values.len() > 10, "{values:?}");
}
