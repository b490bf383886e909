//! Shards kept in step: what they put out lies, in the topic that they share, never further out of order than the span.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use suture_event::{ShardId, Span, Timestamp, stable_hash};
use suture_log::{
    Assignment, Batch, Committed, GroupOptions, Headers, Isolation, Log, Offset, OutRecord, Rebalance, RecordRef,
    TopicPartition, memory::MemoryLog,
};

use super::sample::{read, sample_log, sample_options};
use crate::{
    Clock, Epoch, Fingerprint, Fold, FoldError, Folds, Metrics, Options, Outputs, Plane, Shutdown, SystemClock, Tick,
    pace::{InStep, Pace},
    simulation::{HandClock, Scenario, SimulatedPlane, Worker, seeds},
};

/// Puts out, to one partition, the partition and time of every record that it takes in.
struct Echo {
    shard: ShardId,
    digest: u64,
}

impl Fold for Echo {
    fn record(&mut self, record: RecordRef<'_>, out: &mut Outputs) {
        self.digest = stable_hash([&self.digest.to_le_bytes()[..], &record.offset.to_le_bytes()]);
        let at = record.timestamp.map_or(-1, Timestamp::as_millis);
        out.push(OutRecord {
            partition: Some(0),
            ..OutRecord::new("out", "", format!("{} {at}", self.shard.partition))
        });
    }
    fn tick(&mut self, _: Tick<'_>, _: &mut Outputs) {}
    fn epoch(&mut self, _: &Epoch, _: &mut Outputs) {}
    fn snapshot(&self) -> Result<Vec<u8>, FoldError> {
        Ok(self.digest.to_le_bytes().to_vec())
    }
    fn restore(&mut self, bytes: &[u8]) -> Result<(), FoldError> {
        self.digest = u64::from_le_bytes(bytes.try_into().map_err(|_| FoldError("not eight bytes".to_owned()))?);
        Ok(())
    }
    fn digest(&self) -> u64 {
        self.digest
    }
}

/// Makes [`Echo`]es; while it is told to, none for partition 1.
#[derive(Default)]
struct Echoes {
    refuses: AtomicBool,
}

impl Folds for Echoes {
    fn create(&self, shard: &ShardId) -> Result<Box<dyn Fold>, FoldError> {
        if shard.partition == 1 && self.refuses.load(Ordering::SeqCst) {
            return Err(FoldError("not now".to_owned()));
        }
        Ok(Box::new(Echo {
            shard: shard.clone(),
            digest: 0,
        }))
    }
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint {
            engine: "echo".to_owned(),
            pipeline: String::new(),
        }
    }
}

const SPAN: Span = Span::from_mins(5);
const PATIENCE: Span = Span::from_secs(30);
const HOUR: i64 = 3_600_000;

fn options(in_step: Option<Span>) -> Options {
    Options {
        ticks: false,
        batch_records: 100_000,
        max_outputs: 100_000,
        snapshot_piece: 10_000,
        in_step,
        in_step_patience: PATIENCE,
        ..sample_options()
    }
}

/// The wall clock when tests begin.
fn start() -> Timestamp {
    HandClock::default().wall()
}

/// Writes records of these times before the start to a partition.
fn feed(log: &MemoryLog, partition: i32, ago: impl Iterator<Item = Option<i64>>) {
    let record = |ago: Option<i64>| OutRecord {
        partition: Some(partition),
        timestamp: ago.map(|ago| start().minus(Span::from_millis(ago))),
        ..OutRecord::new("in", "", "")
    };
    let records: Vec<OutRecord> = ago.map(record).collect();
    log.appender().unwrap().append(&records).unwrap();
}

/// One record every ten seconds of the last hours, the oldest first.
fn backlog(hours: i64) -> impl Iterator<Item = Option<i64>> {
    (0..hours * HOUR)
        .step_by(10_000)
        .map(Some)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
}

/// What came out, in order: partition and time, in milliseconds since the epoch.
fn said(log: &MemoryLog) -> Vec<(i32, i64)> {
    let parse = |text: &String| {
        let (partition, at) = text.split_once(' ').unwrap();
        (partition.parse().unwrap(), at.parse().unwrap())
    };
    read(log, "out")[0].iter().map(parse).collect()
}

/// By how much a record lies at most behind one that is younger.
fn out_of_order(said: &[(i32, i64)]) -> Span {
    let mut newest = i64::MIN;
    let behind = said.iter().map(|(_, at)| {
        newest = newest.max(*at);
        newest - at
    });
    Span::from_millis(behind.max().unwrap_or(0))
}

/// One process without threads.
struct Bench {
    clock: Arc<HandClock>,
    log: MemoryLog,
    folds: Arc<Echoes>,
    worker: Worker,
    random: ChaCha8Rng,
    /// Records that one poll gives at most.
    poll: usize,
}

impl Bench {
    fn new(seed: u64, log: impl FnOnce(&MemoryLog), in_step: Option<Span>) -> Self {
        let clock = Arc::new(HandClock::default());
        let bench = sample_log(2, &clock);
        log(&bench);
        let folds = Arc::new(Echoes::default());
        let planes = [SimulatedPlane {
            folds: Arc::<Echoes>::clone(&folds),
            options: options(in_step),
        }];
        Self {
            worker: Worker::new(bench.clone(), "w".to_owned(), &clock, &planes, 0).unwrap(),
            clock,
            log: bench,
            folds,
            random: ChaCha8Rng::seed_from_u64(seed),
            poll: 100_000,
        }
    }

    fn turn(&mut self) {
        self.clock.advance(20);
        self.worker.poll(self.poll);
        self.worker.work(&mut self.random, &mut Vec::new());
    }

    fn passed(&self) -> Span {
        self.clock.wall().since(start())
    }

    /// Works until everything is done, which takes less time than the patience.
    fn run(&mut self) -> Vec<(i32, i64)> {
        while !self.worker.is_done(&self.log) {
            self.turn();
            assert!(
                self.passed() < PATIENCE,
                "somebody waits in vain: {:?}",
                said(&self.log).len()
            );
        }
        said(&self.log)
    }
}

#[test]
fn the_backlogs_of_two_partitions_come_out_side_by_side() {
    for seed in 0..20 {
        let fill = |log: &MemoryLog| (0..2).for_each(|partition| feed(log, partition, backlog(1)));
        let unbound = Bench::new(seed, fill, None).run();
        assert!(
            out_of_order(&unbound) > Span::from_mins(30),
            "one batch is the whole hour"
        );
        let bound = Bench::new(seed, fill, Some(SPAN)).run();
        assert_eq!(bound.len(), 720);
        assert!(out_of_order(&bound) <= SPAN, "seed {seed}: {}", out_of_order(&bound));
    }
}

#[test]
fn partitions_without_records_or_at_their_end_hold_nobody_back() {
    for seed in 0..20 {
        let bound = Bench::new(seed, |log| feed(log, 0, backlog(1)), Some(SPAN)).run();
        assert_eq!(bound.len(), 360);
        // the second ends long before the first begins
        let fill = |log: &MemoryLog| {
            feed(log, 0, backlog(1));
            feed(log, 1, backlog(8).take(360));
        };
        let bound = Bench::new(seed, fill, Some(SPAN)).run();
        assert_eq!(bound.len(), 720);
        assert!(bound[..360].iter().all(|(partition, _)| *partition == 1));
    }
}

#[test]
fn records_far_apart_in_time_do_not_wait_for_each_other_for_good() {
    for seed in 0..20 {
        let fill = |log: &MemoryLog| {
            feed(log, 0, [9, 7, 5, 3].map(|hours| Some(hours * HOUR)).into_iter());
            feed(log, 1, [9, 6, 5, 4, 1].map(|hours| Some(hours * HOUR)).into_iter());
        };
        let bound = Bench::new(seed, fill, Some(SPAN)).run();
        assert_eq!((bound.len(), out_of_order(&bound)), (9, Span::ZERO));
    }
}

#[test]
fn a_clock_that_is_wrong_and_records_without_a_time_hold_nobody_back() {
    for seed in 0..20 {
        let odd = |n: usize| match n % 4 {
            0 => None,
            1 => Some(-1_000 * HOUR),
            2 => Some(400_000 * HOUR),
            _ => Some(2 * HOUR),
        };
        // partition 1 has nothing but no times, times far in the future or past, and one that is right
        let fill = |log: &MemoryLog| {
            feed(log, 0, backlog(1));
            feed(log, 1, (0..400).map(odd));
        };
        assert_eq!(Bench::new(seed, fill, Some(SPAN)).run().len(), 760);
        // and here nothing else than no times
        let fill = |log: &MemoryLog| {
            feed(log, 0, backlog(1));
            feed(log, 1, (0..400).map(|_| None));
        };
        assert_eq!(Bench::new(seed, fill, Some(SPAN)).run().len(), 760);
    }
}

#[test]
fn one_wrong_record_does_not_put_its_partition_out_of_step() {
    for seed in 0..20 {
        let wrong = |(n, ago)| match n % 50 {
            7 => Some(-1_000 * HOUR),
            23 => Some(400_000 * HOUR),
            41 => None,
            _ => ago,
        };
        let fill = |log: &MemoryLog| {
            feed(log, 0, backlog(1));
            feed(log, 1, (0..).zip(backlog(1)).map(wrong));
        };
        let bound = Bench::new(seed, fill, Some(SPAN)).run();
        assert_eq!(bound.len(), 720);
        let right: Vec<(i32, i64)> = bound
            .into_iter()
            .filter(|(_, at)| (1..=2 * HOUR).contains(&(start().as_millis() - at)))
            .collect();
        assert!(out_of_order(&right) <= SPAN, "seed {seed}: {}", out_of_order(&right));
    }
}

#[test]
fn a_shard_that_makes_no_progress_is_waited_for_only_so_long_and_again_once_it_does() {
    let fill = |log: &MemoryLog| (0..2).for_each(|partition| feed(log, partition, backlog(1)));
    let mut bench = Bench::new(3, fill, Some(SPAN));
    bench.folds.refuses.store(true, Ordering::SeqCst);
    while said(&bench.log).is_empty() {
        bench.turn();
        assert!(bench.passed() < Span::from_secs(40), "nobody went on");
    }
    assert!(bench.passed() >= PATIENCE, "not waited for: {}", bench.passed());
    for _ in 0..100 {
        bench.turn();
    }
    assert_eq!(said(&bench.log).len(), 360, "the other one goes on to its end");
    // it comes back, and is the slowest
    bench.folds.refuses.store(false, Ordering::SeqCst);
    bench.poll = 20;
    while said(&bench.log).len() == 360 {
        bench.turn();
    }
    feed(&bench.log, 0, (1..60).map(|n| Some(-n)));
    let back = bench.passed();
    while !bench.worker.is_done(&bench.log) {
        bench.turn();
        assert!(
            bench.passed().as_millis() - back.as_millis() < PATIENCE.as_millis(),
            "{}",
            said(&bench.log).len()
        );
    }
    let all = said(&bench.log);
    let (first, last) = (all.iter(), all.iter());
    let new = first.take_while(|(_, at)| *at <= start().as_millis()).count();
    let old = last.take_while(|(partition, at)| *partition == 0 || *at < start().minus(SPAN).as_millis());
    assert!(
        all.len() == 360 + 360 + 59 && old.count() <= new,
        "the one that came back is not waited for"
    );
}

/// A batch of records of these seconds.
fn batch(seconds: &[Option<i64>]) -> Batch {
    let mut batch = Batch::new();
    for (offset, seconds) in (0..).zip(seconds) {
        batch.push(RecordRef {
            offset,
            timestamp: seconds.map(|seconds| Timestamp::from_millis(seconds * 1_000)),
            key: None,
            value: None,
            headers: Headers::default(),
        });
    }
    batch
}

/// How many of these records a shard takes in while another has reached second 1,000, the span is 100 s and it is second
/// 5,000.
fn admitted(before: &[Option<i64>], seconds: &[Option<i64>]) -> usize {
    let at = |partition| TopicPartition::new("in", partition);
    let pace = Arc::new(Pace::new(Span::from_secs(100), PATIENCE, vec![at(0), at(1)]));
    let other = InStep::new(pace.join(&at(1)), None);
    let second = |second: i64| Timestamp::from_millis(second * 1_000);
    let mut own = InStep::new(pace.join(&at(0)), None);
    assert_eq!(
        own.admit(&batch(&[Some(1)]), second(5_000)),
        0,
        "of the other nothing is known"
    );
    let mut other = other;
    other.rest = batch(&[Some(1_000)]);
    other.tell(0, 0, second(5_000));
    assert_eq!(own.admit(&batch(before), second(5_000)), before.len());
    own.admit(&batch(seconds), second(5_000))
}

#[test]
fn records_go_by_their_own_time_or_by_that_of_the_one_before() {
    let times = |seconds: &[i64]| seconds.iter().copied().map(Some).collect::<Vec<_>>();
    assert_eq!(admitted(&[], &times(&[900, 1_100, 1_101, 1_102])), 2, "up to the span");
    assert_eq!(admitted(&[], &times(&[1_000, 1_000, 1_000])), 3, "the same time");
    assert_eq!(admitted(&[], &times(&[1_050, 10, 1_060, 1_200])), 3, "an old one");
    let none = [None, Some(1_050), None, Some(1_200), None];
    assert_eq!(admitted(&[], &none), 3, "without a time");
    assert_eq!(admitted(&[], &[None; 5]), 5, "nothing but such");
    assert_eq!(admitted(&times(&[1_050]), &[None; 5]), 5, "after one that has");
    assert_eq!(admitted(&[], &[None, Some(1_200)]), 0, "before one that has");
    assert_eq!(admitted(&[], &times(&[1_050, 5_101, 1_060, 1_200])), 3, "the future");
    assert_eq!(
        admitted(&[], &times(&[9_000, 9_001, 9_002])),
        3,
        "nothing but the future"
    );
    assert_eq!(
        admitted(&[], &times(&[1_050, 1_300, 1_060, 1_061, 1_062])),
        5,
        "one ahead of the others"
    );
    assert_eq!(admitted(&[], &times(&[1_300, 1_060, 1_061, 1_062])), 4, "the first");
    assert_eq!(
        admitted(&[], &times(&[1_050, 1_300, 1_301, 1_061, 1_302])),
        1,
        "with most behind it"
    );
    assert_eq!(admitted(&[], &times(&[1_300])), 0, "with none behind it");
}

#[test]
fn who_commits_without_saying_how_far_it_has_come_is_not_waited_for() {
    let log = sample_log(2, &Arc::new(HandClock::default()));
    let at = |partition| TopicPartition::new("in", partition);
    let pace = Arc::new(Pace::new(SPAN, PATIENCE, vec![at(0), at(1)]));
    let mut own = InStep::new(pace.join(&at(0)), None);
    let mut admit = || own.admit(&batch(&[Some(1)]), start());
    pace.hear(&log, "g").unwrap();
    assert_eq!(admit(), 0, "it has not committed anything");
    let options = GroupOptions {
        group: "g".to_owned(),
        assignment: Assignment::Static {
            partitions: vec![at(1)],
        },
        isolation: Isolation::ReadCommitted,
    };
    let member = log.consumer(&options, Box::new(Nobody)).unwrap();
    let former = "suture1 epoch=0 digest=0 fingerprint=0 partitions=2 state=0";
    let committed = |metadata: &str| {
        let committed = Committed {
            offset: 7,
            metadata: metadata.to_owned(),
        };
        member.commit(&[(at(1), committed)]).unwrap();
        pace.hear(&log, "g").unwrap();
    };
    committed(former);
    assert_eq!(admit(), 1);
    committed(&format!("{former} time=-400000"));
    assert_eq!(admit(), 0, "it is waited for once it does");
    committed(&format!("{former} time=-290000"));
    assert_eq!(admit(), 1);
}

struct Nobody;

impl Rebalance for Nobody {
    fn assigned(&mut self, partitions: &[TopicPartition]) -> Vec<(TopicPartition, Option<Offset>)> {
        partitions.iter().map(|at| (at.clone(), Some(0))).collect()
    }
    fn revoked(&mut self, _: &[TopicPartition], _: bool) {}
}

/// A process that has these partitions for good.
fn process(log: &MemoryLog, partitions: &[i32], metrics: &Arc<Metrics>, shutdown: &Shutdown) -> thread::JoinHandle<()> {
    let plane = Plane {
        objects: None,
        log: Arc::new(log.clone()),
        folds: Arc::new(Echoes::default()),
        options: Options {
            assign: Some(partitions.iter().map(|n| TopicPartition::new("in", *n)).collect()),
            commit_interval: Span::from_millis(20),
            in_step_patience: Span::from_mins(10),
            ..options(Some(SPAN))
        },
        clock: Arc::new(SystemClock::default()),
        metrics: Arc::clone(metrics),
        shutdown: shutdown.clone(),
    };
    thread::spawn(move || plane.run().unwrap())
}

#[test]
fn the_threads_of_one_process_keep_in_step() {
    let log = sample_log(2, &Arc::new(HandClock::default()));
    (0..2).for_each(|partition| feed(&log, partition, backlog(1)));
    let (shutdown, metrics) = (Shutdown::new(), Arc::default());
    let running = process(&log, &[0, 1], &metrics, &shutdown);
    let deadline = Instant::now() + Duration::from_secs(60);
    while said(&log).len() < 720 {
        assert!(Instant::now() < deadline, "{} records", said(&log).len());
        thread::sleep(Duration::from_millis(5));
    }
    shutdown.request();
    running.join().unwrap();
    let said = said(&log);
    assert_eq!(said.len(), 720);
    assert!(out_of_order(&said) <= SPAN, "{}", out_of_order(&said));
}

#[test]
fn the_shards_of_two_processes_keep_in_step_by_what_they_commit() {
    let log = sample_log(2, &Arc::new(HandClock::default()));
    for partition in 0..2 {
        feed(
            &log,
            partition,
            backlog(1).filter(|ago| ago.is_some_and(|ago| ago % 60_000 == 0)),
        );
    }
    let shutdown = Shutdown::new();
    let metrics = [Arc::<Metrics>::default(), Arc::default()];
    let first = process(&log, &[0], &metrics[0], &shutdown);
    let deadline = Instant::now() + Duration::from_secs(60);
    let wait = || {
        assert!(Instant::now() < deadline, "{} records", said(&log).len());
        thread::sleep(Duration::from_millis(5));
    };
    while !metrics[0].shards().iter().any(|(_, shard)| shard.held_micros.get() > 0) {
        wait();
    }
    assert_eq!(said(&log), [], "of the other shard nothing is known yet");
    let second = process(&log, &[1], &metrics[1], &shutdown);
    while said(&log).len() < 120 {
        wait();
    }
    shutdown.request();
    first.join().unwrap();
    second.join().unwrap();
    let said = said(&log);
    assert_eq!(said.len(), 120);
    assert!(out_of_order(&said) <= SPAN, "{}", out_of_order(&said));
}

/// Backlogs of three partitions, all there from the beginning.
struct Backlogs;

impl Scenario for Backlogs {
    fn log(&self, clock: &Arc<HandClock>) -> MemoryLog {
        let log = sample_log(3, clock);
        for (partition, every) in (0..).zip([1, 2, 3]) {
            let some = backlog(3).filter(|ago| ago.is_some_and(|ago| ago % (every * 60_000) == 0));
            feed(&log, partition, some);
        }
        log
    }
    fn planes(&self) -> Vec<SimulatedPlane> {
        vec![SimulatedPlane {
            folds: Arc::new(Echoes::default()),
            options: Options {
                // whatever a frozen process keeps the others waiting for
                in_step_patience: Span::from_hours(10),
                batch_records: 16,
                snapshot_piece: 100,
                ..options(Some(SPAN))
            },
        }]
    }
    fn feed(&mut self, _: &MemoryLog, _: &mut ChaCha8Rng) {}
    fn verify(&self, log: &MemoryLog) -> Result<u64, String> {
        let said = said(log);
        for partition in 0..3 {
            let own = said.iter().filter(|(from, _)| *from == partition);
            let own: Vec<i64> = own.map(|(_, at)| *at).collect();
            let fed = usize::try_from(log.range(&TopicPartition::new("in", partition)).unwrap().end).unwrap();
            if own.len() != fed || !own.is_sorted() {
                let count = own.len();
                return Err(format!(
                    "{count} records came of partition {partition}, in which {fed} are"
                ));
            }
        }
        let apart = out_of_order(&said);
        if apart > SPAN {
            return Err(format!("out of order by {apart}"));
        }
        Ok(said.len() as u64)
    }
}

#[test]
fn backlogs_stay_in_step_whatever_happens_to_processes() {
    let again = "cargo test -p suture-runtime backlogs_stay_in_step";
    let (seeds, all) = seeds(200, again, || Box::new(Backlogs));
    assert!(
        seeds == 1 || all.crashes > seeds && all.zombies > seeds / 4 && all.outputs > seeds * 180,
        "too quiet: {all:?}"
    );
}
