//! `/metrics`, `/healthz` and `/readyz`: what can be seen of a running process.
//!
//! `prometheus-client` writes the text (OpenMetrics, which Prometheus and what is compatible with it scrape), from the
//! runtime's own counters at the time of the scrape: the shards know nothing of it. `axum` serves it.

use std::{fmt, net::SocketAddr, sync::Arc};

use anyhow::Context;
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use suture_event::{ShardId, Timestamp};
use suture_log::TopicPartition;
use suture_runtime::{Clock, Histogram, Metrics, Phase, ShardMetrics};

use crate::{
    planes::count,
    status::{Board, ShardStatus, Status},
};

/// What is written of a shard or a plane.
enum Value {
    Counter(u64),
    Gauge(f64),
    /// In the unit of the metric's name, of which the histogram holds so many parts.
    Histogram(f64),
}

/// A metric of shards.
struct Metric {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    read: Read,
}

/// Where a metric's value is.
#[derive(Clone, Copy)]
enum Read {
    /// What the shard's fold counts under a name.
    Count(&'static str),
    By(fn(&Scrape<'_>) -> Option<Value>),
}

impl Metric {
    fn value(&self, scrape: &Scrape<'_>) -> Option<Value> {
        match (self.read, self.kind) {
            (Read::By(read), _) => read(scrape),
            (Read::Count(name), MetricType::Counter) => scrape.count(name).map(Value::Counter),
            (Read::Count(name), _) => scrape.count(name).map(|n| Value::Gauge(n as f64)),
        }
    }
}

/// One shard at one time.
struct Scrape<'a> {
    shard: &'a ShardMetrics,
    counts: &'a [(&'static str, u64)],
    now_millis: i64,
}

impl Scrape<'_> {
    fn count(&self, name: &str) -> Option<u64> {
        self.counts.iter().find(|(n, _)| *n == name).map(|(_, value)| *value)
    }

    /// Seconds from that time, in milliseconds since the epoch, to now.
    fn since(&self, millis: Option<i64>) -> Option<Value> {
        let millis = self.now_millis.saturating_sub(millis?);
        Some(Value::Gauge(millis as f64 / 1e3))
    }
}

const fn counter(name: &'static str, help: &'static str, read: fn(&Scrape<'_>) -> Option<Value>) -> Metric {
    Metric {
        name,
        help,
        kind: MetricType::Counter,
        read: Read::By(read),
    }
}

const fn gauge(name: &'static str, help: &'static str, read: fn(&Scrape<'_>) -> Option<Value>) -> Metric {
    Metric {
        name,
        help,
        kind: MetricType::Gauge,
        read: Read::By(read),
    }
}

/// A counter that the fold keeps.
const fn counted(name: &'static str, help: &'static str, count: &'static str) -> Metric {
    Metric {
        name,
        help,
        kind: MetricType::Counter,
        read: Read::Count(count),
    }
}

/// A number that the fold has now.
const fn held(name: &'static str, help: &'static str, count: &'static str) -> Metric {
    Metric {
        name,
        help,
        kind: MetricType::Gauge,
        read: Read::Count(count),
    }
}

const fn histogram(name: &'static str, help: &'static str, read: fn(&Scrape<'_>) -> Option<Value>) -> Metric {
    Metric {
        name,
        help,
        kind: MetricType::Histogram,
        read: Read::By(read),
    }
}

fn whole(value: Option<i64>) -> Option<Value> {
    value.map(|value| Value::Gauge(value as f64))
}

/// Names of the metrics of a plane as a whole.
const REBALANCES: (&str, &str) = ("rebalances", "Assignments and revocations of partitions");
const POLL_ERRORS: (&str, &str) = ("poll_errors", "Errors of polling that were gone on after");
const SHARDS: (&str, &str) = ("shards", "Shards that this process has");

/// The metric of the process as a whole.
const IMPOSSIBILITIES: (&str, &str) = (
    "impossibilities",
    "What the program's own logic rules out and came about all the same",
);

/// Every metric of a shard. A counter's name gets `_total` behind it, as the format has it.
const METRICS: &[Metric] = &[
    gauge(
        "shard_phase",
        "0 opening, 1 restoring, 2 live, 3 waiting to start anew, 4 stopped",
        |s| {
            let phase = match s.shard.phase() {
                Phase::Opening => 0.0,
                Phase::Restoring => 1.0,
                Phase::Live => 2.0,
                Phase::Waiting => 3.0,
                Phase::Stopped => 4.0,
            };
            Some(Value::Gauge(phase))
        },
    ),
    counter("records", "Records taken in", |s| {
        Some(Value::Counter(s.shard.records.get()))
    }),
    counter("bytes", "Bytes of the records taken in", |s| {
        Some(Value::Counter(s.shard.bytes.get()))
    }),
    counter(
        "records_skipped",
        "Records left out since they had been taken in before",
        |s| Some(Value::Counter(s.shard.skipped.get())),
    ),
    counter("outputs", "Records put out and committed", |s| {
        Some(Value::Counter(s.shard.outputs.get()))
    }),
    counter(
        "dead_letters",
        "Records put out and committed that are dead letters",
        |s| Some(Value::Counter(s.shard.dead_letters.get())),
    ),
    histogram("batch_records", "Records in each batch", |_| {
        Some(Value::Histogram(1.0))
    }),
    histogram("commit_seconds", "Time that each commit took", |_| {
        Some(Value::Histogram(1e6))
    }),
    counter("transaction_aborts", "Transactions aborted and sent again", |s| {
        Some(Value::Counter(s.shard.aborts.get()))
    }),
    counter("shard_restarts", "Times the shard started anew after an error", |s| {
        Some(Value::Counter(s.shard.restarts.get()))
    }),
    counter("restores", "Times the state was restored from a snapshot", |s| {
        Some(Value::Counter(s.shard.restores.get()))
    }),
    counter(
        "records_replayed",
        "Records read again with their outputs dropped",
        |s| Some(Value::Counter(s.shard.replayed.get())),
    ),
    counter(
        "cold_starts",
        "Times the shard began without the state it should have had",
        |s| Some(Value::Counter(s.shard.cold_starts.get())),
    ),
    gauge("epoch", "The shard's epoch, from 0", |s| whole(s.shard.epoch.get())),
    gauge(
        "lag_records",
        "Records up to the partition's end, which is asked for every ten seconds",
        |s| whole(s.shard.lag()),
    ),
    gauge(
        "watermark_delay_seconds",
        "Time since the event time up to which everything is taken in",
        |s| s.since(s.shard.watermark.get()),
    ),
    gauge(
        "snapshot_age_seconds",
        "Time since this process completed the shard's newest snapshot",
        |s| s.since(s.shard.snapshot_at.get()),
    ),
    gauge("snapshot_bytes", "Compressed size of the newest snapshot", |s| {
        whole(s.shard.snapshot_bytes.get())
    }),
    counter(
        "snapshot_failures",
        "Snapshots that the object store did not take",
        |s| Some(Value::Counter(s.shard.snapshot_failures.get())),
    ),
    counter("held_seconds", "Time that records waited for slower shards", |s| {
        Some(Value::Counter(s.shard.held_micros.get() / 1_000_000))
    }),
    counter(
        "went_ahead",
        "Times the shard went on without another that made no progress",
        |s| Some(Value::Counter(s.shard.went_ahead.get())),
    ),
    held("series", "Series known", count::SERIES),
    counted("samples", "Samples decoded", count::SAMPLES),
    counted("samples_left_out", "Samples that `where` left out", count::LEFT_OUT),
    counted(
        "samples_refused",
        "Samples of series beyond `limits.series`",
        count::SERIES_REFUSED,
    ),
    counted(
        "series_evicted",
        "Series given up for new ones at `limits.series`",
        count::SERIES_EVICTED,
    ),
    held(
        "series_warming",
        "Series of which too little is known to say anything",
        count::SERIES_WARMING,
    ),
    counted(
        "samples_of_instances_refused",
        "Samples of instances beyond `instances.most`",
        count::INSTANCES_REFUSED,
    ),
    counted(
        "series_of_instances_replaced",
        "Series of instances that gave way to those of new ones",
        count::INSTANCES_REPLACED,
    ),
    counted(
        "samples_future",
        "Samples from further ahead than `limits.future`",
        count::FUTURE,
    ),
    counted(
        "series_left_out_of_groups",
        "Series that found no place in a group of a derive rule",
        count::LEFT_OUT_OF_GROUPS,
    ),
    counted(
        "samples_too_large",
        "Samples whose name and labels alone are larger than `rekey.batch_bytes`",
        count::TOO_LARGE,
    ),
    counted("samples_rekeyed", "Samples put into partitions anew", count::REKEYED),
    counted(
        "alarms_suppressed",
        "Alarms that a budget suppressed",
        count::ALARMS_SUPPRESSED,
    ),
    counted(
        "samples_late",
        "Samples dropped since their window had closed",
        count::LATE,
    ),
    counted("windows_closed", "Windows judged", count::WINDOWS),
    counted("facts", "Facts taken in by decide", count::FACTS),
    held("facts_held", "Facts that wait for slower shards", count::FACTS_HELD),
    counted("facts_late", "Facts whose time had passed", count::FACTS_LATE),
    counted(
        "facts_forced",
        "Facts judged early at `limits.pending_facts`",
        count::FACTS_FORCED,
    ),
    held(
        "series_in_two_partitions",
        "Series that two partitions of one topic have, of those that shards name",
        count::SERIES_TWICE,
    ),
    counted(
        "scopes_refused",
        "Facts of scopes beyond `limits.scopes`",
        count::SCOPES_REFUSED,
    ),
    counted(
        "scopes_put_away",
        "Scopes without telemetry that made room for others",
        count::SCOPES_PUT_AWAY,
    ),
    counted(
        "scopes_displaced",
        "Scopes with telemetry that made room for others",
        count::SCOPES_DISPLACED,
    ),
    gauge(
        "scopes_without_telemetry",
        "Scopes that have changes and no telemetry",
        |s| {
            let scopes = s.count(count::SCOPES_WITHOUT_TELEMETRY);
            scopes.map(|n| Value::Gauge(n as f64))
        },
    ),
    held(
        "shards_missing",
        "Partitions with telemetry of a scope that bring none any more, over all scopes",
        count::SHARDS_MISSING,
    ),
    counted(
        "judged_without",
        "States of incidents that were told while telemetry of their scope was missing",
        count::JUDGED_WITHOUT,
    ),
    counted(
        "facts_ahead",
        "Facts and marks refused since they speak of a time far ahead of all others'",
        count::FACTS_AHEAD,
    ),
];

/// The planes of this process by name, and the clock that ages are told by.
#[derive(Clone)]
pub struct Planes {
    /// `rekey`, `observe` and `decide`, or some of them.
    pub planes: Vec<(&'static str, Arc<Metrics>)>,
    /// What tells how long ago something was.
    pub clock: Arc<dyn Clock>,
    /// Where shards write how they stand.
    pub board: Arc<Board>,
    /// The pipeline's name.
    pub pipeline: String,
}

impl fmt::Debug for Planes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.planes.iter().map(|(name, _)| *name).collect();
        f.debug_struct("Planes").field("planes", &names).finish_non_exhaustive()
    }
}

type Labels<'a> = [(&'static str, &'a str); 3];

impl Collector for Planes {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let now_millis = self.clock.wall().as_millis();
        type Shards = Vec<(TopicPartition, Arc<ShardMetrics>)>;
        let shards: Vec<(&str, Shards)> = self
            .planes
            .iter()
            .map(|(name, metrics)| (*name, metrics.shards()))
            .collect();
        let plane = |encoder: &mut DescriptorEncoder<'_>,
                     (name, help): (&str, &str),
                     kind,
                     read: &dyn Fn(&Metrics) -> Value| {
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for (plane, metrics) in &self.planes {
                let labels = [("plane", *plane)];
                write(family.encode_family(&labels)?, &read(metrics), None)?;
            }
            Ok(())
        };
        plane(&mut encoder, REBALANCES, MetricType::Counter, &|m| {
            Value::Counter(m.rebalances.get())
        })?;
        plane(&mut encoder, POLL_ERRORS, MetricType::Counter, &|m| {
            Value::Counter(m.poll_errors.get())
        })?;
        plane(&mut encoder, SHARDS, MetricType::Gauge, &|m| {
            Value::Gauge(m.shards().len() as f64)
        })?;
        let (name, help) = IMPOSSIBILITIES;
        write(
            encoder.encode_descriptor(name, help, None, MetricType::Counter)?,
            &Value::Counter(suture_event::impossibilities()),
            None,
        )?;
        for metric in METRICS {
            let mut family = encoder.encode_descriptor(metric.name, metric.help, None, metric.kind)?;
            for (plane, shards) in &shards {
                for (at, shard) in shards {
                    let counts = shard.counts();
                    let scrape = Scrape {
                        shard,
                        counts: &counts,
                        now_millis,
                    };
                    let Some(value) = metric.value(&scrape) else { continue };
                    let partition = at.partition.to_string();
                    let labels: Labels<'_> = [("plane", *plane), ("topic", &*at.topic), ("partition", &partition)];
                    let histogram = match metric.name {
                        "batch_records" => Some(&shard.batch_records),
                        "commit_seconds" => Some(&shard.commit_micros),
                        _ => None,
                    };
                    write(family.encode_family(&labels)?, &value, histogram)?;
                }
            }
        }
        Ok(())
    }
}

fn write(mut encoder: MetricEncoder<'_>, value: &Value, histogram: Option<&Histogram>) -> Result<(), fmt::Error> {
    match (value, histogram) {
        (Value::Counter(value), _) => ConstCounter::new(*value).encode(encoder),
        (Value::Gauge(value), _) => ConstGauge::new(*value).encode(encoder),
        (Value::Histogram(parts), Some(histogram)) => {
            let buckets: Vec<(f64, u64)> = histogram
                .buckets()
                .map(|(bound, count)| (bound.map_or(f64::MAX, |bound| bound as f64 / parts), count))
                .collect();
            let sum = histogram.sum() as f64 / parts;
            // counted from the buckets, so that both are of the same moment
            let count = buckets.iter().map(|(_, count)| count).sum();
            encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
        }
        (Value::Histogram(_), None) => Ok(()),
    }
}

impl Planes {
    /// Everything as text.
    ///
    /// # Errors
    /// None that are known: it is written to memory.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix("suture");
        registry.register_collector(Box::new(self.clone()));
        let mut text = String::new();
        text::encode(&mut text, &registry)?;
        Ok(text)
    }

    /// Names of all metrics, as they are in the text, without what a histogram's and a counter's samples have behind it.
    #[must_use]
    pub fn names() -> Vec<String> {
        let plane = [REBALANCES, POLL_ERRORS, SHARDS, IMPOSSIBILITIES];
        let names = plane
            .iter()
            .map(|(name, _)| *name)
            .chain(METRICS.iter().map(|metric| metric.name));
        names.map(|name| format!("suture_{name}")).collect()
    }

    /// How every shard stands.
    #[must_use]
    pub fn status(&self) -> Status {
        let mut shards = Vec::new();
        for (plane, metrics) in &self.planes {
            for (at, shard) in metrics.shards() {
                let id = ShardId {
                    topic: at.topic.as_ref().into(),
                    partition: at.partition,
                };
                shards.push(ShardStatus {
                    plane: (*plane).to_owned(),
                    topic: id.topic.to_string(),
                    partition: id.partition,
                    phase: format!("{:?}", shard.phase()).to_lowercase(),
                    lag: shard.lag(),
                    watermark: shard.watermark.get().map(Timestamp::from_millis),
                    ..self.board.read(plane, &id).unwrap_or_default()
                });
            }
        }
        Status {
            pipeline: self.pipeline.clone(),
            at: Some(self.clock.wall()),
            not_ready: self.readiness().err(),
            shards,
        }
    }

    /// Whether every plane has a shard and all of them are live; what is missing, in words, otherwise.
    fn readiness(&self) -> Result<(), String> {
        let mut missing = Vec::new();
        for (plane, metrics) in self.planes.iter().filter(|(_, metrics)| !metrics.ready()) {
            let shards = metrics.shards();
            if shards.is_empty() {
                missing.push(format!("{plane}: no shard yet"));
            }
            for (at, shard) in shards.iter().filter(|(_, shard)| shard.phase() != Phase::Live) {
                missing.push(format!("{plane}: {at} is {:?}", shard.phase()).to_lowercase());
            }
        }
        // what finds no room is not seen at all
        for (plane, metrics) in &self.planes {
            for (at, shard) in metrics.shards() {
                let counts = shard.counts();
                let refused = counts.iter().find(|(name, _)| *name == count::SCOPES_REFUSED);
                if let Some((_, facts)) = refused.filter(|(_, facts)| *facts > 0) {
                    missing.push(format!(
                        "{plane}: {at} refused {facts} facts of scopes beyond limits.scopes"
                    ));
                }
            }
        }
        if missing.is_empty() {
            Ok(())
        } else {
            Err(missing.join("\n"))
        }
    }
}

/// What planes have counted, over all of their shards, as a console shows it.
#[must_use]
pub fn stages(planes: &[(&'static str, &Arc<Metrics>)]) -> Vec<suture_console::Stage> {
    let stage = |(name, metrics): &(&'static str, &Arc<Metrics>)| {
        let shards = metrics.shards();
        let live = shards.iter().filter(|(_, shard)| shard.phase() == Phase::Live).count();
        let mut counts: std::collections::BTreeMap<String, f64> = std::collections::BTreeMap::new();
        let mut add = |name: &str, value: u64| *counts.entry(name.to_owned()).or_default() += value as f64;
        for (_, shard) in &shards {
            add("records", shard.records.get());
            add("bytes", shard.bytes.get());
            add("outputs", shard.outputs.get());
            add("dead_letters", shard.dead_letters.get());
            for (name, value) in shard.counts().iter().filter(|(_, value)| *value > 0) {
                add(name, *value);
            }
        }
        suture_console::Stage {
            name: (*name).to_owned(),
            detail: format!("{live} of {} shards live", shards.len()),
            counts,
        }
    };
    planes.iter().map(stage).collect()
}

const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

async fn metrics(State(planes): State<Planes>) -> impl IntoResponse {
    match planes.text() {
        Ok(text) => (StatusCode::OK, [(CONTENT_TYPE, TEXT)], text),
        Err(_) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [(CONTENT_TYPE, "text/plain")],
            String::new(),
        ),
    }
}

async fn status(State(planes): State<Planes>) -> impl IntoResponse {
    axum::Json(planes.status())
}

async fn ready(State(planes): State<Planes>) -> impl IntoResponse {
    match planes.readiness() {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(missing) => (StatusCode::SERVICE_UNAVAILABLE, format!("{missing}\n")),
    }
}

/// Serves it from now on, for as long as tokio's runtime lives. Gives the address, for a port of 0.
///
/// # Errors
/// Where the address cannot be listened on.
pub async fn serve(address: SocketAddr, planes: Planes) -> anyhow::Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("--metrics {address}"))?;
    let address = listener.local_addr()?;
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/status", get(status))
        .with_state(planes);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "metrics are no longer served");
        }
    });
    tracing::info!(%address, "serving /metrics, /healthz, /readyz and /status");
    Ok(address)
}
