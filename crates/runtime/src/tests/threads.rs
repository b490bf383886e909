//! Whole planes with their threads, over the log in memory: several processes' worth in one.

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use suture_event::Span;
use suture_log::{
    Log, OutRecord, TopicPartition,
    memory::{Faults, MemoryLog},
};

use super::sample::{SampleFolds, by_shard, read, sample_log, sample_options, undisturbed};
use crate::{Error, Metrics, Options, Plane, Shutdown, SystemClock, simulation::HandClock};

const PARTITIONS: i32 = 3;
const LONG: Duration = Duration::from_secs(60);

struct Process {
    name: String,
    log: MemoryLog,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
    thread: JoinHandle<Result<(), Error>>,
}

fn options() -> Options {
    Options {
        commit_interval: Span::from_millis(5),
        position_interval: Span::from_millis(10),
        snapshot_interval: Span::from_millis(30),
        tick_interval: Span::from_millis(20),
        backoff: Span::from_millis(1),
        backoff_max: Span::from_millis(20),
        fenced_wait: Span::from_millis(100),
        queue: 2,
        ..sample_options()
    }
}

impl Process {
    fn start(log: &MemoryLog, name: &str, faults: Faults, options: Options) -> Self {
        let log = log.client(name, faults);
        let (metrics, shutdown) = (Arc::new(Metrics::default()), Shutdown::new());
        let plane = Plane {
            objects: None,
            log: Arc::new(log.clone()),
            folds: Arc::new(SampleFolds::default()),
            options,
            clock: Arc::new(SystemClock::default()),
            metrics: Arc::clone(&metrics),
            shutdown: shutdown.clone(),
        };
        let thread = thread::spawn(move || plane.run());
        Self {
            name: name.to_owned(),
            log,
            metrics,
            shutdown,
            thread,
        }
    }

    fn end(self) -> Result<(), Error> {
        self.shutdown.request();
        self.thread.join().unwrap()
    }
}

fn until(what: &str, mut found: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !found() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn feed(log: &MemoryLog, first: usize, count: usize) {
    let records: Vec<OutRecord> = (first..first + count)
        .map(|n| OutRecord::new("in", format!("key{}", n % 11), format!("value {n}")))
        .collect();
    log.appender().unwrap().append(&records).unwrap();
}

fn log() -> MemoryLog {
    sample_log(PARTITIONS, &Arc::new(HandClock::default()))
}

fn all_there(log: &MemoryLog) -> bool {
    let count = |said: &[Vec<String>]| said.iter().map(Vec::len).sum::<usize>();
    let [out, _] = undisturbed(log);
    count(&read(log, "out")) >= out.values().map(Vec::len).sum()
}

fn assert_undisturbed(log: &MemoryLog) {
    let [out, _] = undisturbed(log);
    assert_eq!(by_shard(&read(log, "out")), out);
}

#[test]
fn processes_come_and_go_and_every_output_is_there_once() {
    let log = log();
    let one = Process::start(&log, "one", Faults::default(), options());
    feed(&log, 0, 2_000);
    let two = Process::start(&log, "two", Faults::default(), options());
    until("the second to have a shard", || {
        !two.metrics.shards().is_empty() && two.metrics.ready()
    });
    feed(&log, 2_000, 2_000);
    one.end().unwrap();
    until("the second to have them all", || {
        two.metrics.shards().len() == 3 && two.metrics.ready()
    });
    feed(&log, 4_000, 1_000);
    until("all outputs", || all_there(&log));
    two.end().unwrap();
    assert_undisturbed(&log);
    // who ends well leaves a snapshot at its last offset: nothing is replayed
    let three = Process::start(&log, "three", Faults::default(), options());
    until("the third", || {
        three.metrics.shards().len() == 3 && three.metrics.ready()
    });
    for (at, shard) in three.metrics.shards() {
        assert_eq!(
            (shard.restores.get(), shard.replayed.get(), shard.lag()),
            (1, 0, Some(0)),
            "{at}"
        );
    }
    three.end().unwrap();
}

#[test]
fn crashed_processes_are_replaced_and_nothing_is_lost_or_doubled() {
    let log = log();
    let mut crashes = 0;
    for seed in 0..40 {
        feed(&log, seed * 200, 200);
        let faults = Faults {
            seed: seed as u64,
            crash: 0.01,
            indefinite: 0.01,
            abort: 0.02,
            ..Faults::default()
        };
        let process = Process::start(&log, &format!("p{seed}"), faults, options());
        until("a crash or the end of the work", || {
            process.log.crashed() || all_there(&log)
        });
        crashes += usize::from(process.log.crashed());
        process.shutdown.request();
        let ended = process.thread.join().unwrap();
        let expected = matches!(ended, Ok(()) | Err(Error::Log(_) | Error::AllStopped { .. }));
        assert!(expected, "{ended:?}");
        log.expel(&process.name);
    }
    let last = Process::start(&log, "last", Faults::default(), options());
    until("all outputs", || all_there(&log));
    last.end().unwrap();
    assert_undisturbed(&log);
    assert!(crashes > 10, "too quiet: {crashes} crashes");
    assert!(read(&log, "epochs").concat().iter().all(|said| said.ends_with("First")));
}

#[test]
fn a_shard_that_stops_for_good_ends_the_plane_once_it_is_the_last() {
    let log = log();
    let process = Process::start(&log, "one", Faults::default(), options());
    feed(&log, 0, 100);
    until("all outputs", || all_there(&log));
    process.end().unwrap();
    log.add_partitions("in", 5).unwrap();
    let process = Process::start(&log, "two", Faults::default(), options());
    let error = process.thread.join().unwrap().unwrap_err();
    assert!(matches!(error, Error::AllStopped { .. }), "{error}");
    assert!(error.to_string().contains("has 5 partitions and had 3"), "{error}");
}

#[test]
fn partitions_without_a_group_are_leased_and_a_second_lease_ends_the_first() {
    let log = log();
    let assign: Vec<TopicPartition> = (0..PARTITIONS)
        .map(|partition| TopicPartition::new("in", partition))
        .collect();
    let alone = Options {
        assign: Some(assign),
        ..options()
    };
    let first = Process::start(&log, "first", Faults::default(), alone.clone());
    feed(&log, 0, 500);
    until("all outputs", || all_there(&log));
    let second = Process::start(&log, "second", Faults::default(), alone);
    until("the second", || {
        second.metrics.shards().len() == 3 && second.metrics.ready()
    });
    feed(&log, 500, 500);
    let error = first.thread.join().unwrap().unwrap_err();
    assert!(
        error.to_string().contains("was taken over by another process"),
        "{error}"
    );
    until("all outputs", || all_there(&log));
    second.end().unwrap();
    assert_undisturbed(&log);
}

#[test]
fn a_plane_says_which_topic_is_missing_and_which_is_not_as_it_must_be() {
    let log = log();
    let missing = Options {
        topics: vec!["inn".to_owned()],
        ..options()
    };
    let error = Process::start(&log, "one", Faults::default(), missing)
        .thread
        .join()
        .unwrap()
        .unwrap_err();
    assert_eq!(
        error,
        Error::NoTopic {
            topic: "inn".to_owned()
        }
    );
    let wrong = Options {
        state_topic: "marks".to_owned(),
        ..options()
    };
    let error = Process::start(&log, "one", Faults::default(), wrong)
        .thread
        .join()
        .unwrap()
        .unwrap_err();
    assert_eq!(
        error,
        Error::NotCompacted {
            topic: "marks".to_owned()
        }
    );
}
