//! Snapshots as earlier versions wrote them still load.
//!
//! Each file below `snapshots/` is what one layout of the state topic looked like: `layout-1.json` is of layout 1. A change
//! of the layout raises `VERSION` in `state.rs`; then `UPDATE_EXPECT=1 cargo test -p suture-runtime snapshots` writes the file of
//! the new one. A file that is there is never written again: what it holds lies in somebody's state topic.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Once},
    time::Duration,
};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use suture_event::Timestamp;
use suture_log::{
    Assignment, Committed, GroupOptions, Isolation, Log, Offset, OutRecord, Rebalance, RecordRef, TopicPartition,
    memory::MemoryLog,
};

use super::sample::{SampleFolds, by_shard, read, sample_log, sample_options, undisturbed};
use crate::{
    simulation::{HandClock, SimulatedPlane, Worker},
    state::VERSION,
};

/// Records of the only input partition before the snapshot, and after it.
const BEFORE: usize = 60;
const AFTER: usize = 40;

/// What lies in the log of a shard that has ended.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Fixture {
    /// The committed offset and what was committed with it.
    offset: Offset,
    metadata: String,
    /// Partition, offset and key of each record of the state topic, and its value as hexadecimal digits.
    state: Vec<(i32, Offset, String, String)>,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/tests/snapshots")
}

fn plane() -> [SimulatedPlane; 1] {
    [SimulatedPlane {
        folds: Arc::new(SampleFolds::default()),
        options: sample_options(),
    }]
}

/// The input, the same for ever.
fn input(log: &MemoryLog, numbers: std::ops::Range<usize>) {
    let records: Vec<OutRecord> = numbers
        .map(|n| OutRecord {
            timestamp: Some(Timestamp::from_millis(1_700_000_000_000)),
            ..OutRecord::new("in", format!("key{}", n % 7), format!("value {n}"))
        })
        .collect();
    log.appender().unwrap().append(&records).unwrap();
}

/// Runs the shard over this input, ten records every ten seconds.
fn run(log: &MemoryLog, clock: &Arc<HandClock>, numbers: std::ops::Range<usize>) {
    let worker = Worker::new(log.clone(), "w".to_owned(), clock, &plane(), 0).unwrap();
    let (mut random, mut stops) = (ChaCha8Rng::seed_from_u64(1), Vec::new());
    for first in numbers.step_by(10) {
        input(log, first..first + 10);
        for _ in 0..200 {
            clock.advance(50);
            worker.poll(16);
            worker.work(&mut random, &mut stops);
        }
        assert!(worker.is_done(log) && stops.is_empty(), "{stops:?}");
    }
}

fn write() -> Fixture {
    let clock = Arc::new(HandClock::default());
    let log = sample_log(1, &clock);
    run(&log, &clock, 0..BEFORE);
    let at = [TopicPartition::new("in", 0)];
    let committed = log.committed("g", &at).unwrap().remove(0).unwrap();
    let mut state = Vec::new();
    for partition in 0..log.topic("state").unwrap().unwrap().partitions {
        let at = TopicPartition::new("state", partition);
        let mut reader = log.reader(&at, 0, Isolation::ReadCommitted).unwrap();
        let mut take = |record: RecordRef<'_>| {
            let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
            let digits = record
                .value
                .unwrap_or_default()
                .iter()
                .map(|byte| format!("{byte:02x}"));
            let digits = digits.collect::<String>();
            // as compaction leaves it: the newest of each key, and none where that deletes it
            state.retain(|(_, _, known, _)| *known != key);
            if !digits.is_empty() {
                state.push((partition, record.offset, key, digits));
            }
        };
        while !reader.read(Duration::ZERO, 1_000, &mut take).unwrap() {}
    }
    Fixture {
        offset: committed.offset,
        metadata: committed.metadata,
        state,
    }
}

struct Nobody;

impl Rebalance for Nobody {
    fn assigned(&mut self, _: &[TopicPartition]) -> Vec<(TopicPartition, Option<Offset>)> {
        Vec::new()
    }
    fn revoked(&mut self, _: &[TopicPartition], _: bool) {}
}

/// Puts the fixture into a new log, goes on from it, and gives what was said after it.
fn go_on_from(fixture: &Fixture) -> MemoryLog {
    let clock = Arc::new(HandClock::default());
    let log = sample_log(1, &clock);
    input(&log, 0..BEFORE);
    let mut appender = log.appender().unwrap();
    for (partition, offset, key, digits) in &fixture.state {
        let record = |key: &str, value: Vec<u8>| OutRecord {
            partition: Some(*partition),
            ..OutRecord::new("state", key, value)
        };
        // the mark names the offsets at which the records lay
        while log.range(&TopicPartition::new("state", *partition)).unwrap().end < *offset {
            appender.append(&[record("something else", Vec::new())]).unwrap();
        }
        let value = digits
            .as_bytes()
            .chunks(2)
            .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap());
        appender.append(&[record(key, value.collect())]).unwrap();
    }
    let group = GroupOptions {
        group: "g".to_owned(),
        assignment: Assignment::Static { partitions: Vec::new() },
        isolation: Isolation::ReadCommitted,
    };
    let committed = Committed {
        offset: fixture.offset,
        metadata: fixture.metadata.clone(),
    };
    let member = log.consumer(&group, Box::new(Nobody)).unwrap();
    member.commit(&[(TopicPartition::new("in", 0), committed)]).unwrap();
    run(&log, &clock, BEFORE..BEFORE + AFTER);
    log
}

/// What a layout looked like; the newest is written where it is not there yet and is asked for.
fn fixture(version: u32) -> Fixture {
    static NEWEST: Once = Once::new();
    let path = |version: u32| folder().join(format!("layout-{version}.json"));
    NEWEST.call_once(|| {
        if suture_testkit::golden::renewing() && !path(VERSION).exists() {
            fs::create_dir_all(folder()).unwrap();
            fs::write(path(VERSION), serde_json::to_string_pretty(&write()).unwrap() + "\n").unwrap();
        }
    });
    let text = fs::read_to_string(path(version)).unwrap_or_else(|error| panic!("layout {version}: {error}"));
    serde_json::from_str(&text).unwrap()
}

#[test]
fn every_layout_ever_written_still_loads() {
    for version in 1..=VERSION {
        let fixture = fixture(version);
        assert_eq!(fixture.offset, i64::try_from(BEFORE).unwrap());
        let log = go_on_from(&fixture);
        // neither cold, nor another pipeline's, nor new
        assert_eq!(read(&log, "epochs").concat(), Vec::<String>::new(), "layout {version}");
        let [whole, _] = undisturbed(&log);
        let seen = by_shard(&read(&log, "out"));
        assert!(!seen.is_empty());
        for (place, whole) in whole {
            let said = seen.get(&place).map_or(&[] as &[String], Vec::as_slice);
            assert!(
                whole.ends_with(said) && said.len() < whole.len(),
                "layout {version}: {said:?} is not how {whole:?} ends"
            );
        }
    }
}

#[test]
fn what_is_written_now_is_what_the_newest_file_holds() {
    let mut fixture = fixture(VERSION);
    let mut written = write();
    // how well zstd compresses is its own affair, and with it sizes, checksums and the pieces themselves
    let shape = |fixture: &mut Fixture| {
        fixture.state.retain(|(_, _, key, _)| key.ends_with("#manifest"));
        let names = |digits: &str| -> Vec<String> {
            let bytes: Vec<u8> = (0..digits.len() / 2)
                .map(|at| u8::from_str_radix(&digits[at * 2..at * 2 + 2], 16).unwrap())
                .collect();
            let manifest: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&bytes).unwrap();
            manifest.keys().cloned().collect()
        };
        let manifests: Vec<(String, Vec<String>)> = fixture
            .state
            .iter()
            .map(|(_, _, key, digits)| (key.clone(), names(digits)))
            .collect();
        manifests
    };
    assert_eq!(
        shape(&mut written),
        shape(&mut fixture),
        "the layout changed: raise VERSION and see above"
    );
    let words = |metadata: &str| -> Vec<String> {
        let names = metadata
            .split(' ')
            .map(|word| word.split('=').next().unwrap_or_default().to_owned());
        names.collect()
    };
    assert_eq!(words(&written.metadata), words(&fixture.metadata));
}
