//! A pipeline with a repartition stage, run as `suture run` runs it, over the log in memory.

// the helpers of tests: what goes wrong in them is a failed test
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use suture::{
    load::{self, Loaded},
    run::{PlaneChoice, Planes, prepare},
};
use suture_config::Pipeline;
use suture_log::{Log, OutRecord, TopicSpec, memory::MemoryLog};
use suture_runtime::{Metrics, Shutdown, SystemClock};

const PIPELINE: &str = "
version: 1
name: shop
telemetry: [{topic: telemetry}]
rekey: {partitions: 3}
window: {size: 1m, lateness: 3h}
kafka: {commit_interval: 5ms, topics: {partitions: 1}}
";

fn loaded(text: &str) -> Loaded {
    let checked = Pipeline::check("test", text, &|_| None, &suture_config::Unchecked);
    Loaded {
        pipeline: Arc::new(checked.pipeline.expect("a pipeline that can be")),
        edges: Vec::new(),
        model: None,
        expressions: load::expressions(),
    }
}

fn planes(log: &MemoryLog, shutdown: &Shutdown, assign: &[&str]) -> Planes {
    Planes {
        log: Arc::new(log.clone()),
        clock: Arc::new(SystemClock::default()),
        shutdown: shutdown.clone(),
        rekey: Arc::default(),
        observe: Arc::default(),
        decide: Arc::default(),
        assign: assign.iter().map(|text| text.parse().unwrap()).collect(),
    }
}

/// Ends the planes also where a test fails, which would wait for them otherwise.
struct Ending(Shutdown);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.request();
    }
}

/// The sum over a plane's shards.
fn count(metrics: &Metrics, name: &str) -> u64 {
    let shards = metrics.shards();
    let counts = shards.iter().flat_map(|(_, shard)| shard.counts());
    counts.filter(|(n, _)| *n == name).map(|(_, count)| count).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_series_in_every_partition_of_the_telemetry_is_one_series_behind_the_stage() {
    for assign in [
        &[][..],
        &[
            "telemetry:0,1",
            "suture.rekeyed:0,1,2",
            "suture.outcomes:0",
            "suture.commands:0",
            "suture.facts:0",
        ],
    ] {
        let loaded = loaded(PIPELINE);
        let log = MemoryLog::default();
        log.create_topics(&[TopicSpec::new("telemetry", 2)]).unwrap();
        prepare(&log, &loaded.pipeline, true).unwrap();
        let records: Vec<OutRecord> = (0..600)
            .map(|n| {
                let sample = serde_json::json!({
                    "ts": 1_780_000_000_000_i64 + n / 5 * 60_000, "metric": format!("m{}", n % 5), "value": 0.5,
                });
                OutRecord {
                    partition: Some(n as i32 % 2),
                    ..OutRecord::new("telemetry", "", sample.to_string())
                }
            })
            .collect();
        log.appender().unwrap().append(&records).unwrap();
        let shutdown = Shutdown::new();
        let _end = Ending(shutdown.clone());
        let planes = planes(&log, &shutdown, assign);
        let seen = planes.seen(&loaded.pipeline, PlaneChoice::Both);
        let names: Vec<&str> = seen.planes.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["rekey", "observe", "decide"]);
        let (rekey, observe) = (planes.rekey.clone(), planes.observe.clone());
        let running = tokio::spawn(async move { planes.run(&loaded, PlaneChoice::Both).await });
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut asked = tokio::time::interval(Duration::from_millis(20));
        // each counts as of its own last commit
        while count(&observe, "samples") < 600 || count(&rekey, "samples_rekeyed") < 600 {
            assert!(Instant::now() < deadline, "{:?}", seen.text());
            asked.tick().await;
        }
        assert_eq!(count(&rekey, "samples_rekeyed"), 600);
        assert_eq!(count(&observe, "samples"), 600);
        assert_eq!(count(&observe, "series"), 5);
        assert_eq!(count(&observe, "samples_late"), 0);
        let text = seen.text().unwrap();
        assert!(
            text.contains(r#"suture_samples_rekeyed_total{plane="rekey",topic="telemetry",partition="0"}"#),
            "{text}"
        );
        shutdown.request();
        running.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn what_cannot_be_run_is_refused() {
    let without = loaded(&PIPELINE.replace("rekey: {partitions: 3}", ""));
    let log = MemoryLog::default();
    log.create_topics(&[TopicSpec::new("telemetry", 2)]).unwrap();
    prepare(&log, &without.pipeline, true).unwrap();
    let planes = planes(&log, &Shutdown::new(), &[]);
    assert!(planes.seen(&without.pipeline, PlaneChoice::Rekey).planes.is_empty());
    let refused = planes.run(&without, PlaneChoice::Rekey).await.unwrap_err().to_string();
    assert!(refused.contains("has no `rekey`"), "{refused}");

    // the topic in between with another number of partitions than the stage counts on
    let three = loaded(PIPELINE);
    let missing = prepare(&log, &three.pipeline, false).unwrap_err().to_string();
    assert!(missing.contains("suture.rekeyed: is not there"), "{missing}");
    prepare(&log, &three.pipeline, true).unwrap();
    let seven = loaded(&PIPELINE.replace("partitions: 3", "partitions: 7"));
    let moved = prepare(&log, &seven.pipeline, true).unwrap_err().to_string();
    assert!(
        moved.contains("has 3 partitions, and `rekey.partitions` is 7") && moved.contains("Set it to 3"),
        "{moved}"
    );
}
