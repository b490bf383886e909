//! The runtime on a real broker, its process killed again and again: each output is there once, in order.

// the helpers of tests: what goes wrong in them is a failed test
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use suture_tests::{
    broker::{self, Broker},
    kafka, tally, wait,
};

const PARTITIONS: i32 = 3;
const LONG: Duration = Duration::from_secs(120);

struct Worker {
    child: Child,
}

impl Worker {
    fn start(broker: &Broker, topic: &str, mode: &str) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_suture-test-worker"))
            .args([&broker.address(), topic, mode])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { child }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status();
        assert!(status.unwrap().success());
    }

    /// kill -9.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end, as SIGTERM does `suture run`, and waits.
    fn end(mut self) {
        drop(self.child.stdin.take());
        let status = wait::until("the worker's end", Duration::from_secs(20), || {
            self.child.try_wait().unwrap()
        });
        assert!(status.success(), "{status}");
    }
}

/// Input, a slice of it at a time, and what it must lead to.
struct Load {
    topic: String,
    keys: Vec<Vec<(String, String)>>,
    random: ChaCha8Rng,
}

impl Load {
    fn new(broker: &Broker, topic: &str) -> Self {
        for (name, partitions) in [("", PARTITIONS), (".out", 2), (".out.marks", 1), (".out.epochs", 1)] {
            kafka::create_topic(&broker.address(), &format!("{topic}{name}"), partitions);
        }
        kafka::create_compacted_topic(&broker.address(), &format!("{topic}.state"), 2);
        let keys = vec![Vec::new(); usize::try_from(PARTITIONS).unwrap()];
        Self {
            topic: topic.to_owned(),
            keys,
            random: ChaCha8Rng::seed_from_u64(1),
        }
    }

    fn produce(&mut self, broker: &Broker, count: usize) {
        for partition in 0..PARTITIONS {
            let all = &mut self.keys[usize::try_from(partition).unwrap()];
            let first = all.len();
            for n in 0..count {
                all.push((
                    format!("key{}", self.random.random_range(0..20)),
                    format!("{partition} {}", first + n),
                ));
            }
            let new = all[first..]
                .iter()
                .map(|(key, value)| (Some(key.as_str()), value.as_bytes()));
            kafka::produce(&broker.address(), &self.topic, partition, new);
        }
    }

    /// Waits until every output is there, and no other.
    fn verify(&self, broker: &Broker) -> usize {
        let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (partition, records) in (0..PARTITIONS).zip(&self.keys) {
            let records = records.iter().map(|(key, value)| (key.as_str(), value.as_bytes()));
            expected.insert(partition.to_string(), tally::expected(partition, records));
        }
        let total: usize = expected.values().map(Vec::len).sum();
        let out = format!("{}.out", self.topic);
        kafka::read_until(&broker.address(), &out, LONG, |records| {
            // without the markers that reading to the end leaves behind
            records.iter().filter(|record| !record.value.is_empty()).count() >= total
        });
        // by key, since two keys of one partition may go to two partitions of the output
        let by_key = |said: &str| {
            let mut words = said.split(' ');
            (words.next().unwrap().to_owned(), words.nth(1).unwrap().to_owned())
        };
        let mut seen: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        for record in kafka::read_all(&broker.address(), &out) {
            let said = String::from_utf8(record.value).unwrap();
            seen.entry(by_key(&said)).or_default().push(said);
        }
        let mut wanted: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        for said in expected.into_values().flatten() {
            wanted.entry(by_key(&said)).or_default().push(said);
        }
        for (place, wanted) in &wanted {
            let seen = seen.get(place).map_or(&[] as &[String], Vec::as_slice);
            let differs = (0..wanted.len().max(seen.len())).find(|at| wanted.get(*at) != seen.get(*at));
            if let Some(at) = differs {
                panic!(
                    "{place:?} has {} outputs and should have {}; at {at}: {:?} and not {:?}",
                    seen.len(),
                    wanted.len(),
                    seen.get(at),
                    wanted.get(at)
                );
            }
        }
        assert_eq!(seen.len(), wanted.len(), "outputs that nothing led to");
        let epochs = kafka::read_all(&broker.address(), &format!("{out}.epochs"));
        let epochs: Vec<String> = epochs
            .iter()
            .map(|r| String::from_utf8_lossy(&r.value).into_owned())
            .collect();
        assert!(
            epochs.iter().all(|said| said.ends_with("First")),
            "no shard ever lost its state: {epochs:?}"
        );
        assert_eq!(epochs.len(), usize::try_from(PARTITIONS).unwrap(), "{epochs:?}");
        total
    }
}

fn survives_kills(topic: &str, mode: &str, kills: u32) {
    let broker = broker::shared();
    let mut load = Load::new(&broker, topic);
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut workers: Vec<Worker> = Vec::new();
    let most = if mode.contains(',') { 1 } else { 2 };
    for _ in 0..kills {
        while workers.len() < most {
            workers.push(Worker::start(&broker, topic, mode));
        }
        load.produce(&broker, 400);
        wait::pause(Duration::from_millis(random.random_range(100..1_200)));
        workers.remove(random.random_range(0..workers.len())).kill();
    }
    workers.push(Worker::start(&broker, topic, mode));
    let total = load.verify(&broker);
    workers.into_iter().for_each(Worker::end);
    println!("{mode}: {kills} kills survived, {total} outputs each there once");
}

#[test]
fn outputs_are_there_once_through_kills_in_a_group() {
    survives_kills("kills.cooperative", "cooperative", 12);
}

#[test]
fn outputs_are_there_once_through_kills_under_the_newer_protocol() {
    survives_kills("kills.consumer", "consumer", 6);
}

#[test]
fn outputs_are_there_once_through_kills_with_partitions_of_ones_own() {
    survives_kills("kills.assigned", "0,1,2", 12);
}

#[test]
fn a_zombie_that_wakes_after_its_shards_moved_writes_nothing() {
    let broker = broker::shared();
    let mut load = Load::new(&broker, "zombie");
    let sleeper = Worker::start(&broker, "zombie", "cooperative");
    load.produce(&broker, 500);
    kafka::read_until(&broker.address(), "zombie.out", LONG, |records| !records.is_empty());
    sleeper.signal("STOP");
    load.produce(&broker, 500);
    let heir = Worker::start(&broker, "zombie", "cooperative");
    load.verify(&broker);
    sleeper.signal("CONT");
    load.produce(&broker, 500);
    load.verify(&broker);
    sleeper.end();
    load.produce(&broker, 200);
    load.verify(&broker);
    heir.end();
}

#[test]
fn a_broker_that_is_killed_and_comes_back_loses_nothing() {
    // its own broker: the others' tests must not see it die
    let broker = Broker::start();
    let mut load = Load::new(&broker, "outage");
    let worker = Worker::start(&broker, "outage", "cooperative");
    load.produce(&broker, 1_000);
    kafka::read_until(&broker.address(), "outage.out", LONG, |records| !records.is_empty());
    broker.restart();
    load.produce(&broker, 1_000);
    load.verify(&broker);
    broker.signal("STOP");
    wait::pause(Duration::from_secs(4));
    broker.signal("CONT");
    load.produce(&broker, 500);
    load.verify(&broker);
    worker.end();
}
