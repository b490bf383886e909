//! Planes under a seed, on the log in memory and without a thread: crashes at any step, lost answers, aborted transactions,
//! rebalances, zombies, records handed out twice. For tests, behind the feature `simulation`: whoever has folds brings a
//! [`Scenario`], and in the end says whether what was committed is what an undisturbed run says.

// a helper of tests: what goes wrong here is a failed test
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::missing_panics_doc)]

use std::{
    collections::{BTreeMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::{RngExt, SeedableRng};
pub use rand_chacha::ChaCha8Rng;
use suture_event::{ShardId, Timestamp};
use suture_log::{
    Assignment, Batch, Consumer, GroupOptions, Isolation, Log, Offset, Rebalance, TopicPartition,
    memory::{Faults, MemoryLog},
};

use crate::{
    Clock, Error, Folds, Options,
    error::Failure,
    lease::{Lease, lease},
    metrics::ShardMetrics,
    pace::Place,
    restore::restore,
    shard::{self, Env, Shard},
};

/// A clock that tests move.
#[derive(Default)]
pub struct HandClock(AtomicI64);

impl HandClock {
    /// Lets that many milliseconds pass.
    pub fn advance(&self, millis: i64) {
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.load(Ordering::SeqCst)).unwrap())
    }
    fn wall(&self) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + self.0.load(Ordering::SeqCst))
    }
    fn pause(&self, time: Duration) {
        self.advance(i64::try_from(time.as_millis()).unwrap());
    }
}

/// One plane of a scenario.
#[derive(Clone)]
pub struct SimulatedPlane {
    /// What makes its folds.
    pub folds: Arc<dyn Folds>,
    /// How it is run.
    pub options: Options,
}

/// What is simulated.
pub trait Scenario {
    /// A log with every topic there is, whose time is this clock's.
    fn log(&self, clock: &Arc<HandClock>) -> MemoryLog;

    /// The planes, each before those that read what it writes.
    fn planes(&self) -> Vec<SimulatedPlane>;

    /// Writes some more input.
    fn feed(&mut self, log: &MemoryLog, random: &mut ChaCha8Rng);

    /// Writes what is left of the input.
    fn finish(&mut self, log: &MemoryLog) {
        let _ = log;
    }

    /// For how many steps after all of its input a plane goes on in the end, so that its ticks come out.
    fn settle(&self) -> usize {
        0
    }

    /// Holds what was committed against what an undisturbed run says, and gives how many records that is.
    ///
    /// # Errors
    /// Where they differ, in words.
    fn verify(&self, log: &MemoryLog) -> Result<u64, String>;
}

/// Where a shard of a worker stands.
enum Stage {
    Failed,
    Leased(Lease),
    Live(Box<Shard>),
}

struct Slot {
    stage: Stage,
    queue: VecDeque<Batch>,
    place: Option<Arc<Place>>,
}

type Slots = Arc<Mutex<BTreeMap<TopicPartition, Slot>>>;

struct Inline {
    env: Arc<Env>,
    slots: Slots,
}

impl Rebalance for Inline {
    fn assigned(&mut self, partitions: &[TopicPartition]) -> Vec<(TopicPartition, Option<Offset>)> {
        let open = |at: &TopicPartition| {
            let (stage, start) = match lease(&self.env, at) {
                Ok(lease) => {
                    let start = lease.start;
                    (Stage::Leased(lease), Some(start))
                }
                Err(_) => (Stage::Failed, None),
            };
            self.slots.lock().unwrap().insert(
                at.clone(),
                Slot {
                    stage,
                    queue: VecDeque::new(),
                    place: self.env.pace.as_ref().map(|pace| pace.join(at)),
                },
            );
            (at.clone(), start)
        };
        partitions.iter().map(open).collect()
    }

    fn revoked(&mut self, partitions: &[TopicPartition], lost: bool) {
        for at in partitions {
            let slot = self.slots.lock().unwrap().remove(at);
            if let (
                Some(Slot {
                    stage: Stage::Live(mut shard),
                    ..
                }),
                false,
            ) = (slot, lost)
            {
                let deadline = self.env.clock.now() + Duration::from_secs(1);
                shard.release(deadline).ok();
            }
        }
    }
}

/// One process.
pub(crate) struct Worker {
    name: String,
    plane: usize,
    log: MemoryLog,
    env: Arc<Env>,
    consumer: Arc<dyn Consumer>,
    slots: Slots,
    /// Stopped like a process under SIGSTOP: it does nothing, and will go on as if nothing had been.
    frozen: bool,
}

impl Worker {
    pub(crate) fn new(
        log: MemoryLog,
        name: String,
        clock: &Arc<HandClock>,
        planes: &[SimulatedPlane],
        plane: usize,
    ) -> Option<Self> {
        let clock: Arc<dyn Clock> = Arc::<HandClock>::clone(clock);
        let SimulatedPlane { folds, options } = planes[plane].clone();
        let mut roster: Vec<ShardId> = Vec::new();
        for topic in &options.topics {
            let partitions = log.topic(topic).ok()?.unwrap().partitions;
            roster.extend((0..partitions).map(|partition| TopicPartition::new(topic.as_str(), partition).into()));
        }
        roster.sort();
        let group = GroupOptions {
            group: options.group.clone(),
            assignment: Assignment::Dynamic {
                topics: options.topics.clone(),
            },
            isolation: Isolation::ReadCommitted,
        };
        let env = Arc::new(Env {
            objects: None,
            log: Arc::new(log.clone()),
            folds,
            pace: shard::pace(&options, &roster),
            options,
            clock,
            member: OnceLock::new(),
            roster,
            fingerprint: OnceLock::new(),
            alike: Default::default(),
        });
        let slots = Slots::default();
        let inline = Inline {
            env: Arc::clone(&env),
            slots: Arc::clone(&slots),
        };
        let consumer = log.consumer(&group, Box::new(inline)).ok()?;
        env.member.set(Arc::downgrade(&consumer)).ok();
        Some(Self {
            name,
            plane,
            log,
            env,
            consumer,
            slots,
            frozen: false,
        })
    }

    pub(crate) fn poll(&self, max: usize) {
        if let Some(pace) = &self.env.pace {
            pace.hear(&self.log, &self.env.options.group).ok();
        }
        let mut batches: Vec<(TopicPartition, Batch)> = Vec::new();
        let polled = self
            .consumer
            .poll(Duration::ZERO, max, &mut |topic, partition, record| {
                let at = TopicPartition::new(topic, partition);
                if batches.last().is_none_or(|(last, _)| *last != at) {
                    batches.push((at, Batch::new()));
                }
                batches.last_mut().unwrap().1.push(record);
            });
        if polled.is_ok() {
            let mut slots = self.slots.lock().unwrap();
            for (at, batch) in batches {
                if let Some(slot) = slots.get_mut(&at) {
                    slot.queue.push_back(batch);
                }
            }
        }
    }

    /// One move of one shard.
    pub(crate) fn work(&self, random: &mut ChaCha8Rng, stops: &mut Vec<String>) {
        let mut slots = self.slots.lock().unwrap();
        if slots.is_empty() {
            return;
        }
        let index = random.random_range(0..slots.len());
        let Some((at, slot)) = slots.iter_mut().nth(index) else {
            return;
        };
        let moved = match std::mem::replace(&mut slot.stage, Stage::Failed) {
            Stage::Failed => lease(&self.env, at).map(|lease| {
                slot.queue.clear();
                // where the partition is another's by now, the next poll takes the slot away
                self.consumer.seek(at, lease.start).ok();
                Stage::Leased(lease)
            }),
            Stage::Leased(lease) => {
                let metrics = Arc::new(ShardMetrics::default());
                restore(&self.env, at, &metrics, lease, slot.place.as_ref()).map(|shard| Stage::Live(Box::new(shard)))
            }
            Stage::Live(mut shard) => {
                if shard.is_held() {
                    shard.go_on();
                } else if let Some(batch) = slot.queue.pop_front() {
                    shard.take(batch);
                }
                shard
                    .advance(slot.queue.is_empty() && !shard.is_held())
                    .map(|()| Stage::Live(shard))
            }
        };
        match moved {
            Ok(stage) => slot.stage = stage,
            // a process that crashed is none that stopped
            Err(Failure::Stop(Error::Log(suture_log::Error::Crashed { .. }))) => {}
            Err(Failure::Stop(error)) => stops.push(format!("{}: {error}", self.name)),
            Err(Failure::Restart(_) | Failure::Fenced(_)) => {}
        }
    }

    /// Whether everything that there is has been taken in and committed.
    pub(crate) fn is_done(&self, log: &MemoryLog) -> bool {
        let slots = self.slots.lock().unwrap();
        slots.len() == self.env.roster.len()
            && slots.iter().all(|(at, slot)| match &slot.stage {
                Stage::Live(shard) => {
                    let mut left = false;
                    let mut reader = log.reader(at, shard.committed, Isolation::ReadCommitted).unwrap();
                    reader.read(Duration::ZERO, 1, &mut |_| left = true).unwrap();
                    !left && slot.queue.is_empty() && shard.outputs.records().is_empty()
                }
                Stage::Failed | Stage::Leased(_) => false,
            })
    }
}

/// What a run met.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Processes that were killed or crashed in the middle of an operation.
    pub crashes: u64,
    /// Processes stopped as by SIGSTOP.
    pub freezes: u64,
    /// Such that went on, with their shards at other processes as a rule.
    pub zombies: u64,
    /// Records compared in the end.
    pub outputs: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, more: Self) {
        self.crashes += more.crashes;
        self.freezes += more.freezes;
        self.zombies += more.zombies;
        self.outputs += more.outputs;
    }
}

/// Runs many seeds, on every core at once: those that `SUTURE_SEEDS` names by their number, else `usual`; or the one in
/// `SUTURE_SEED`, saying what happens. Says how many ran, and with the first that fails how to see it again. What a seed does
/// hangs on the seed alone.
///
/// # Panics
/// Where a seed fails.
pub fn seeds(usual: u64, again: &str, scenario: impl Fn() -> Box<dyn Scenario> + Sync) -> (u64, Counts) {
    let from_env = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse::<u64>().expect("a number"))
    };
    if let Some(seed) = from_env("SUTURE_SEED") {
        let counts = simulate(scenario().as_mut(), seed, true).unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
        return (1, counts);
    }
    let seeds = from_env("SUTURE_SEEDS").unwrap_or(usual);
    let (next, all) = (AtomicU64::new(0), Mutex::new((Counts::default(), BTreeMap::new())));
    let began = std::time::Instant::now();
    let one_after_the_other = || {
        loop {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed >= seeds {
                return;
            }
            // what panics has said why already, but not under which seed
            let run = AssertUnwindSafe(|| simulate(scenario().as_mut(), seed, false));
            let ended = catch_unwind(run).unwrap_or_else(|_| Err("it panicked".to_owned()));
            let (all, failed) = &mut *all.lock().unwrap();
            match ended {
                Ok(counts) => *all += counts,
                Err(wrong) => {
                    failed.insert(seed, wrong);
                    next.store(seeds, Ordering::SeqCst);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get) {
            scope.spawn(one_after_the_other);
        }
    });
    let (all, failed) = all.into_inner().unwrap();
    if let Some((seed, wrong)) = failed.first_key_value() {
        panic!("seed {seed}: {wrong}\nto see it: SUTURE_SEED={seed} {again}");
    }
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    println!("{seeds} seeds, {:.0} a minute: {all:?}", seeds as f64 / minutes);
    (seeds, all)
}

/// One seed from beginning to end. An error says what is wrong.
///
/// # Errors
/// What is wrong.
pub fn simulate(scenario: &mut dyn Scenario, seed: u64, talk: bool) -> Result<Counts, String> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let clock = Arc::new(HandClock::default());
    let log = scenario.log(&clock);
    let planes = scenario.planes();
    let faults = Faults {
        seed: 0,
        crash: [0.0, 0.002, 0.01][random.random_range(0..3)],
        busy: [0.0, 0.02][random.random_range(0..2)],
        abort: [0.0, 0.02][random.random_range(0..2)],
        indefinite: [0.0, 0.01, 0.05][random.random_range(0..3)],
        delay: [0.0, 0.3][random.random_range(0..2)],
        redeliver: [0.0, 0.1][random.random_range(0..2)],
    };
    let mut counts = Counts::default();
    let mut workers: Vec<Worker> = Vec::new();
    let mut born = 0;
    let mut stops = Vec::new();
    let say = |text: String| {
        if talk {
            eprintln!("{text}");
        }
    };
    say(format!("seed {seed}: {faults:?}"));
    for step in 0..1_500 {
        clock.advance(random.random_range(0..60));
        let living = workers.len();
        let missing = (0..planes.len()).find(|plane| workers.iter().all(|worker| worker.plane != *plane));
        match random.random_range(0..1_000) {
            _ if missing.is_some() => {
                born += 1;
                let client = log.client(
                    &format!("w{born}"),
                    Faults {
                        seed: random.random(),
                        ..faults
                    },
                );
                let plane = missing.unwrap_or_default();
                workers.extend(Worker::new(client, format!("w{born}"), &clock, &planes, plane));
            }
            0..30 => scenario.feed(&log, &mut random),
            30..40 if living < 4 * planes.len() => {
                born += 1;
                say(format!("{step}: w{born} joins"));
                let client = log.client(
                    &format!("w{born}"),
                    Faults {
                        seed: random.random(),
                        ..faults
                    },
                );
                let plane = random.random_range(0..planes.len());
                workers.extend(Worker::new(client, format!("w{born}"), &clock, &planes, plane));
            }
            40..43 => {
                // kill -9: no goodbye; the group notices later
                let dead = workers.remove(random.random_range(0..living));
                say(format!("{step}: {} is killed", dead.name));
                counts.crashes += 1;
                log.expel(&dead.name);
            }
            43..48 => {
                let frozen = &mut workers[random.random_range(0..living)];
                frozen.frozen = true;
                counts.freezes += 1;
                say(format!("{step}: {} freezes", frozen.name));
                if random.random_bool(0.7) {
                    log.expel(&frozen.name);
                }
            }
            48..56 => {
                for worker in workers.iter_mut().filter(|worker| worker.frozen) {
                    worker.frozen = false;
                    counts.zombies += 1;
                    say(format!("{step}: {} thaws", worker.name));
                }
            }
            56..59 => {
                let leaving = workers.remove(random.random_range(0..living));
                say(format!("{step}: {} leaves", leaving.name));
                leaving.consumer.close();
                log.expel(&leaving.name);
            }
            59..63 => log.compact(&planes[0].options.state_topic).unwrap(),
            63..500 => {
                let worker = &workers[random.random_range(0..living)];
                if !worker.frozen {
                    worker.poll(random.random_range(1..20));
                }
            }
            _ => {
                let worker = &workers[random.random_range(0..living)];
                if !worker.frozen {
                    worker.work(&mut random, &mut stops);
                }
            }
        }
        workers.retain(|worker| {
            let crashed = worker.log.crashed();
            if crashed {
                say(format!(
                    "{step}: {} crashed at its operation {}",
                    worker.name,
                    worker.log.steps()
                ));
                counts.crashes += 1;
                log.expel(&worker.name);
            }
            !crashed
        });
    }
    for worker in workers.drain(..) {
        log.expel(&worker.name);
    }
    scenario.finish(&log);
    for plane in 0..planes.len() {
        let name = format!("last{plane}");
        let last =
            Worker::new(log.client(&name, Faults::default()), name, &clock, &planes, plane).ok_or("no last worker")?;
        let mut quiet = 0;
        for _ in 0..10_000 {
            clock.advance(50);
            last.poll(16);
            last.work(&mut random, &mut stops);
            quiet = if last.is_done(&log) { quiet + 1 } else { 0 };
            if quiet > scenario.settle() {
                break;
            }
        }
        if let Some(stop) = stops.first() {
            return Err(format!("a shard stopped: {stop}"));
        }
        if !last.is_done(&log) {
            return Err(format!("the last worker of plane {plane} did not come to an end"));
        }
        last.consumer.close();
    }
    counts.outputs = scenario.verify(&log)?;
    Ok(counts)
}
