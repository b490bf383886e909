//! The sample fold under seeds. In the end the committed outputs must be those of an undisturbed run, byte for byte.
//!
//! `SUTURE_SEED=17 cargo test -p suture-runtime simulation` runs one seed and prints what happens;
//! `SUTURE_SEEDS=10000` runs so many.

use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use suture_log::{
    Assignment, Committed, GroupOptions, Isolation, Log, Offset, OutRecord, Rebalance, TopicPartition,
    memory::MemoryLog,
};

use super::sample::{SampleFolds, by_shard, read, sample_log, sample_options, undisturbed};
use crate::simulation::{HandClock, Scenario, SimulatedPlane, Worker, seeds, simulate};

const PARTITIONS: i32 = 3;

/// Writes input as all sorts of producers do: alone, in transactions, in transactions that are aborted.
fn feed(log: &MemoryLog, random: &mut ChaCha8Rng, fed: &mut u64) {
    let count = random.random_range(1..20);
    let records: Vec<OutRecord> = (0..count)
        .map(|_| {
            *fed += 1;
            let key = format!("key{}", random.random_range(0..9));
            let value = if random.random_bool(0.03) {
                "poison".to_owned()
            } else {
                format!("value {fed}")
            };
            OutRecord::new("in", key, value)
        })
        .collect();
    match random.random_range(0..4) {
        0 => {
            let mut producer = log.producer("collector").unwrap();
            producer.begin().unwrap();
            records.iter().for_each(|record| producer.send(record).unwrap());
            if random.random_bool(0.3) {
                producer.abort().unwrap();
            } else {
                let options = GroupOptions {
                    group: "collectors".to_owned(),
                    assignment: Assignment::Static { partitions: Vec::new() },
                    isolation: Isolation::ReadCommitted,
                };
                let member = log.consumer(&options, Box::new(Nobody)).unwrap();
                producer.commit(&[], &member.group_metadata().unwrap()).unwrap();
            }
        }
        _ => log.appender().unwrap().append(&records).unwrap(),
    }
}

struct Nobody;

impl Rebalance for Nobody {
    fn assigned(&mut self, partitions: &[TopicPartition]) -> Vec<(TopicPartition, Option<Offset>)> {
        partitions.iter().map(|at| (at.clone(), Some(0))).collect()
    }
    fn revoked(&mut self, _: &[TopicPartition], _: bool) {}
}

/// The sample fold over three partitions.
#[derive(Default)]
struct Samples {
    fed: u64,
}

impl Scenario for Samples {
    fn log(&self, clock: &Arc<HandClock>) -> MemoryLog {
        sample_log(PARTITIONS, clock)
    }
    fn planes(&self) -> Vec<SimulatedPlane> {
        vec![SimulatedPlane {
            folds: Arc::new(SampleFolds::default()),
            options: sample_options(),
        }]
    }
    fn feed(&mut self, log: &MemoryLog, random: &mut ChaCha8Rng) {
        feed(log, random, &mut self.fed);
    }
    fn verify(&self, log: &MemoryLog) -> Result<u64, String> {
        verify(log)
    }
}

fn verify(log: &MemoryLog) -> Result<u64, String> {
    let mut outputs = 0;
    let [out, dead] = undisturbed(log);
    for (topic, expected) in [("out", out), ("dead", dead)] {
        let seen = by_shard(&read(log, topic));
        for (place, expected) in &expected {
            let seen = seen.get(place).map_or(&[] as &[String], Vec::as_slice);
            if let Some(at) = (0..seen.len().max(expected.len())).find(|at| seen.get(*at) != expected.get(*at)) {
                return Err(format!(
                    "{topic} of {place:?} differs at {at}: expected {:?}, found {:?}",
                    expected.get(at),
                    seen.get(at)
                ));
            }
            outputs += seen.len() as u64;
        }
        if seen.len() != expected.len() {
            return Err(format!("{topic} holds what nobody should have said"));
        }
    }
    let epochs: Vec<String> = read(log, "epochs").concat();
    if epochs.len() != usize::try_from(PARTITIONS).unwrap() || !epochs.iter().all(|epoch| epoch.ends_with("First")) {
        return Err(format!("each shard has one epoch, its first, but: {epochs:?}"));
    }
    Ok(outputs)
}

#[test]
fn committed_outputs_equal_those_of_an_undisturbed_run() {
    let again = "cargo test -p suture-runtime simulation";
    let (seeds, all) = seeds(400, again, || Box::new(Samples::default()));
    assert!(
        seeds == 1 || all.crashes > seeds && all.zombies > seeds / 4 && all.outputs > seeds * 20,
        "too quiet: {all:?}"
    );
}

#[test]
fn a_seed_gives_the_same_run_each_time() {
    let run = || simulate(&mut Samples::default(), 5, false);
    assert_eq!(run(), run());
}

/// The check must be able to fail: with offsets committed apart from the outputs, it does.
#[test]
fn outputs_that_come_twice_are_noticed() {
    let clock = Arc::new(HandClock::default());
    let log = sample_log(PARTITIONS, &clock);
    let worker = Worker::new(log.clone(), "w".to_owned(), &clock, &Samples::default().planes(), 0).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut fed = 0;
    for _ in 0..20 {
        feed(&log, &mut random, &mut fed);
    }
    while !worker.is_done(&log) {
        clock.advance(50);
        worker.poll(16);
        worker.work(&mut random, &mut Vec::new());
    }
    verify(&log).unwrap();
    let said = read(&log, "out").concat();
    let again = OutRecord {
        partition: Some(0),
        ..OutRecord::new("out", "", said[0].clone())
    };
    log.appender().unwrap().append(&[again]).unwrap();
    assert!(verify(&log).is_err());
    let at = [TopicPartition::new("in", 0)];
    let committed: Vec<Option<Committed>> = log.committed("g", &at).unwrap();
    assert!(committed[0].as_ref().unwrap().metadata.starts_with("suture1 "));
}
