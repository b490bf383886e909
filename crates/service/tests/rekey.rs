//! A pipeline with a repartition stage, run as `suture run` runs it, over the log in memory.

// the helpers of tests: what goes wrong in them is a failed test
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use suture_config::Pipeline;
use suture_event::Timestamp;
use suture_log::{Log, OutRecord, TopicSpec, memory::MemoryLog};
use suture_runtime::{Clock, Metrics, Shutdown, SystemClock};
use suture_service::{
    load::{self, Loaded},
    run::{PlaneChoice, Planes, prepare},
};

const PIPELINE: &str = "
version: 1
name: shop
telemetry: [{topic: telemetry}]
rekey: {partitions: 3}
window: {size: 1m, lateness: 3h}
kafka: {commit_interval: 5ms}
";

fn loaded(text: &str) -> Loaded {
    let checked = Pipeline::check("test", text, &|_| None, &suture_config::Unchecked);
    Loaded {
        pipeline: Arc::new(checked.pipeline.expect("a pipeline that can be")),
        edges: Vec::new(),
        model: None,
        key: None,
        expressions: load::expressions(),
    }
}

fn planes(log: &MemoryLog, shutdown: &Shutdown, assign: &[&str]) -> Planes {
    Planes {
        log: Arc::new(log.clone()),
        rekey_log: None,
        clock: Arc::new(SystemClock::default()),
        shutdown: shutdown.clone(),
        rekey: Arc::default(),
        observe: Arc::default(),
        decide: Arc::default(),
        assign: assign.iter().map(|text| text.parse().unwrap()).collect(),
        onlooker: None,
        board: Arc::default(),
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

/// Both partitions have hours that nobody has read, and one read of the log gives all of what one of them has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_outage_of_hours_no_sample_is_late() {
    const MINUTES: i64 = 360;
    const FIRST: i64 = 1_780_000_000_000;
    let loaded = loaded(&PIPELINE.replace("lateness: 3h", "lateness: 10m"));
    let log = MemoryLog::default();
    log.create_topics(&[TopicSpec::new("telemetry", 3)]).unwrap();
    prepare(&log, &loaded.pipeline, true).unwrap();
    let records: Vec<OutRecord> = (0..MINUTES * 5)
        .map(|n| {
            let ts = FIRST + n / 5 * 60_000;
            let sample = serde_json::json!({"ts": ts, "metric": format!("m{}", n % 5), "value": 0.5});
            OutRecord {
                // the third has nothing
                partition: Some(n as i32 % 2),
                timestamp: Some(Timestamp::from_millis(ts)),
                ..OutRecord::new("telemetry", "", sample.to_string())
            }
        })
        .collect();
    log.appender().unwrap().append(&records).unwrap();
    let shutdown = Shutdown::new();
    let _end = Ending(shutdown.clone());
    let planes = Planes {
        clock: Arc::new(After(SystemClock::default(), FIRST + MINUTES * 60_000)),
        ..planes(&log, &shutdown, &[])
    };
    let (rekey, observe) = (planes.rekey.clone(), planes.observe.clone());
    let running = tokio::spawn(async move { planes.run(&loaded, PlaneChoice::Both).await });
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut asked = tokio::time::interval(Duration::from_millis(20));
    while count(&observe, "samples") < records.len() as u64 {
        assert!(Instant::now() < deadline, "{} samples", count(&observe, "samples"));
        asked.tick().await;
    }
    let ahead: u64 = rekey.shards().iter().map(|(_, shard)| shard.went_ahead.get()).sum();
    assert_eq!((ahead, count(&observe, "samples_late")), (0, 0));
    shutdown.request();
    running.await.unwrap().unwrap();
}

/// A clock that begins at some time.
struct After(SystemClock, i64);

impl Clock for After {
    fn now(&self) -> Duration {
        self.0.now()
    }
    fn wall(&self) -> Timestamp {
        let passed = i64::try_from(self.0.now().as_millis()).unwrap();
        Timestamp::from_millis(self.1 + passed)
    }
}

/// A clock on which a minute passes in some milliseconds.
#[derive(Default)]
struct Hasty(SystemClock);

impl Clock for Hasty {
    fn now(&self) -> Duration {
        self.0.now()
    }
    fn wall(&self) -> Timestamp {
        let passed = i64::try_from(self.0.now().as_millis()).unwrap();
        Timestamp::from_millis(1_780_000_000_000 + passed * 3_000)
    }
}

/// What decide counts of series in two partitions, once `until` says so of it or after so many minutes of telemetry, in
/// which each series goes to the two partitions in turn.
async fn in_two_partitions(pipeline: &str, until: impl Fn(u64) -> bool, minutes: i32) -> u64 {
    let loaded = loaded(pipeline);
    let log = MemoryLog::default();
    log.create_topics(&[TopicSpec::new("telemetry", 2)]).unwrap();
    prepare(&log, &loaded.pipeline, true).unwrap();
    let shutdown = Shutdown::new();
    let _end = Ending(shutdown.clone());
    let planes = Planes {
        clock: Arc::new(Hasty::default()),
        ..planes(&log, &shutdown, &[])
    };
    let (observe, decide) = (planes.observe.clone(), planes.decide.clone());
    let running = tokio::spawn(async move { planes.run(&loaded, PlaneChoice::Both).await });
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut asked = tokio::time::interval(Duration::from_millis(20));
    let name = "series_in_two_partitions";
    let told = || {
        let shards = decide.shards();
        shards
            .iter()
            .any(|(_, shard)| shard.counts().iter().any(|(n, _)| *n == name))
    };
    let mut all = 0;
    for minute in 0.. {
        let records: Vec<OutRecord> = (0..5_i32)
            .map(|series| {
                let ts = 1_780_000_000_000_i64 + i64::from(minute) * 60_000;
                let sample = serde_json::json!({"ts": ts, "metric": format!("m{series}"), "value": 0.5});
                OutRecord {
                    partition: Some((minute + series) % 2),
                    ..OutRecord::new("telemetry", "", sample.to_string())
                }
            })
            .collect();
        log.appender().unwrap().append(&records).unwrap();
        all += 5;
        while count(&observe, "samples") < all {
            assert!(Instant::now() < deadline, "{} of {all}", count(&observe, "samples"));
            asked.tick().await;
        }
        if until(count(&decide, name)) || minute >= minutes && told() {
            break;
        }
        assert!(Instant::now() < deadline, "{}", count(&decide, name));
    }
    let found = count(&decide, name);
    shutdown.request();
    running.await.unwrap().unwrap();
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn series_in_two_partitions_are_seen_and_behind_the_stage_there_are_none() {
    let torn = PIPELINE.replace("rekey: {partitions: 3}", "").replace("3h", "0s");
    assert_eq!(in_two_partitions(&torn, |found| found == 5, i32::MAX).await, 5);
    let mended = PIPELINE.replace("3h", "5m");
    assert_eq!(in_two_partitions(&mended, |found| found > 0, 12).await, 0);
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
