//! A plane: one thread polls the consumer and hands batches to its shards' threads.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use suture_event::ShardId;
use suture_log::{
    Assignment, Batch, Cleanup, Consumer, GroupOptions, Isolation, Log, Offset, Rebalance, Recovery, TopicPartition,
};
use tracing::{error, info, warn};

use crate::{
    Clock, Error, Folds, Metrics, Objects, Options,
    backoff::Backoff,
    clock::duration,
    host::{self, Board},
    mailbox::{Ending, Mailbox},
    metrics::ShardMetrics,
    shard::{self, Env},
};

/// Asks a plane to end: it finishes the batch, commits, and leaves the group. Clones are one and the same.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(Arc<AtomicBool>);

impl Shutdown {
    /// One that has not been asked for.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for it.
    pub fn request(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether it was asked for.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Everything a plane is made of.
pub struct Plane {
    /// The log it reads from and writes to.
    pub log: Arc<dyn Log>,
    /// What makes its folds.
    pub folds: Arc<dyn Folds>,
    /// Where snapshots go instead of the state topic, which keeps those that begin an epoch.
    pub objects: Option<Arc<dyn Objects>>,
    /// How it is run.
    pub options: Options,
    /// Its time.
    pub clock: Arc<dyn Clock>,
    /// Where it can be seen.
    pub metrics: Arc<Metrics>,
    /// What ends it.
    pub shutdown: Shutdown,
}

/// How long a poll waits, which bounds how late a wish of a shard or a shutdown is seen.
const POLL: Duration = Duration::from_millis(50);
/// The longest pause after a poll that failed: rebalances are only heard of by polling.
const POLL_BACKOFF: Duration = Duration::from_millis(500);
/// How long the whole of a shutdown may take beside the shards' last commits.
const CLOSE_WITHIN: Duration = Duration::from_secs(3);

impl Plane {
    /// Runs the plane until it is asked to end, on this thread and one more for each shard.
    ///
    /// # Errors
    /// Where a topic is missing or the client cannot be made at the start; [`Error::AllStopped`] where every shard has met
    /// an error that will not go away. A broker that is away is waited for.
    pub fn run(self) -> Result<(), Error> {
        let longest = duration(self.options.backoff_max);
        let mut backoff = Backoff::new(self.options.backoff, longest);
        loop {
            let began = Instant::now();
            match self.run_once() {
                Err(Error::Log(error))
                    if error.recovery() == Recovery::Restart
                        && !matches!(error, suture_log::Error::Crashed { .. })
                        && !self.shutdown.is_requested() =>
                {
                    warn!(%error, "the consumer is of no more use; making a new one");
                    self.metrics.poll_errors.add(1);
                    if began.elapsed() > longest {
                        backoff.reset();
                    }
                    thread::sleep(backoff.wait());
                }
                ended => return ended,
            }
        }
    }

    /// The same with one consumer, until it fails.
    fn run_once(&self) -> Result<(), Error> {
        let env = self.env()?;
        let shards = Arc::new(Shards {
            env: Arc::clone(&env),
            metrics: Arc::clone(&self.metrics),
            board: Arc::new(Board::default()),
            shutdown: self.shutdown.clone(),
            handles: Mutex::default(),
            version: AtomicU64::new(0),
        });
        let options = GroupOptions {
            group: self.options.group.clone(),
            assignment: match &self.options.assign {
                Some(partitions) => Assignment::Static {
                    partitions: partitions.clone(),
                },
                None => Assignment::Dynamic {
                    topics: self.options.topics.clone(),
                },
            },
            isolation: Isolation::ReadCommitted,
        };
        let consumer = self.log.consumer(&options, Box::new(Rebalancer(Arc::clone(&shards))))?;
        // the consumer owns the rebalancer, which owns the shards: they must not own the consumer in turn
        env.member.set(Arc::downgrade(&consumer)).ok();
        info!(group = self.options.group, topics = ?self.options.topics, "the plane runs");
        let hearing = Hearing::start(&env)?;
        let ended = Poller::new(self, Arc::clone(&shards), Arc::clone(&consumer)).run();
        shards.end_all();
        drop(hearing);
        let name = "close".to_owned();
        let closing = thread::Builder::new()
            .name(name.clone())
            .spawn(move || consumer.close());
        match closing {
            Ok(closing) => {
                let deadline = Instant::now() + CLOSE_WITHIN;
                while !closing.is_finished() && Instant::now() < deadline {
                    thread::sleep(Duration::from_millis(5));
                }
                if !closing.is_finished() {
                    warn!("the consumer does not close in time; the broker will notice by itself");
                }
            }
            Err(error) => {
                return Err(Error::Thread {
                    name,
                    detail: error.to_string(),
                });
            }
        }
        info!(group = self.options.group, "the plane has ended");
        ended
    }

    /// The same from within tokio: the polling thread is one of its blocking threads.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_async(self) -> Result<(), Error> {
        let joined = tokio::task::spawn_blocking(move || self.run()).await;
        joined.unwrap_or_else(|error| {
            Err(Error::Thread {
                name: "plane".to_owned(),
                detail: error.to_string(),
            })
        })
    }

    fn env(&self) -> Result<Arc<Env>, Error> {
        let state = self.topic(&self.options.state_topic)?;
        if state.cleanup == Some(Cleanup::Delete) {
            return Err(Error::NotCompacted {
                topic: self.options.state_topic.clone(),
            });
        }
        let mut roster: Vec<ShardId> = Vec::new();
        for name in &self.options.topics {
            let topic: Arc<str> = name.as_str().into();
            let partitions = self.topic(name)?.partitions;
            roster.extend((0..partitions).map(|partition| ShardId {
                topic: Arc::clone(&topic),
                partition,
            }));
        }
        roster.sort();
        Ok(Arc::new(Env {
            log: Arc::clone(&self.log),
            folds: Arc::clone(&self.folds),
            objects: self.objects.clone(),
            options: self.options.clone(),
            clock: Arc::clone(&self.clock),
            member: OnceLock::new(),
            pace: shard::pace(&self.options, &roster),
            roster,
            fingerprint: OnceLock::new(),
            alike: Default::default(),
        }))
    }

    /// Describes a topic that must be there; waits for a broker that is not.
    fn topic(&self, name: &str) -> Result<suture_log::TopicInfo, Error> {
        let mut backoff = Backoff::new(self.options.backoff, duration(self.options.backoff_max));
        loop {
            match self.log.topic(name) {
                Ok(Some(topic)) => return Ok(topic),
                Ok(None) => return Err(Error::NoTopic { topic: name.to_owned() }),
                Err(error) if error.recovery() == Recovery::Retry && !self.shutdown.is_requested() => {
                    warn!(topic = name, %error, "waiting for the broker");
                    thread::sleep(backoff.wait());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A thread that hears of the shards of other processes, where shards are kept in step.
struct Hearing {
    over: Shutdown,
    thread: Option<thread::Thread>,
}

impl Hearing {
    fn start(env: &Arc<Env>) -> Result<Self, Error> {
        let over = Shutdown::new();
        let thread = match &env.pace {
            None => None,
            Some(pace) => {
                let (env, pace, over) = (Arc::clone(env), Arc::clone(pace), over.clone());
                let name = "pace".to_owned();
                let spawned = thread::Builder::new().name(name.clone()).spawn(move || {
                    while !over.is_requested() {
                        if let Err(error) = pace.hear(env.log.as_ref(), &env.options.group) {
                            // the shards wait for a while, and no longer
                            warn!(%error, "not hearing of the shards of other processes");
                        }
                        let quarter = pace.hear_every() / 4;
                        for _ in 0..4 {
                            thread::park_timeout(quarter);
                            if over.is_requested() || pace.is_all_ears() {
                                break;
                            }
                        }
                    }
                });
                let spawned = spawned.map_err(|error| Error::Thread {
                    name,
                    detail: error.to_string(),
                })?;
                Some(spawned.thread().clone())
            }
        };
        Ok(Self { over, thread })
    }
}

impl Drop for Hearing {
    // without waiting for it: it may be in the middle of a question
    fn drop(&mut self) {
        self.over.request();
        if let Some(thread) = &self.thread {
            thread.unpark();
        }
    }
}

/// One shard, as the polling thread has it.
struct Handle {
    mailbox: Arc<Mailbox>,
    metrics: Arc<ShardMetrics>,
}

/// The shards of this process.
struct Shards {
    env: Arc<Env>,
    metrics: Arc<Metrics>,
    board: Arc<Board>,
    shutdown: Shutdown,
    handles: Mutex<BTreeMap<TopicPartition, Handle>>,
    /// Counts the changes of `handles`.
    version: AtomicU64,
}

impl Shards {
    fn handles(&self) -> MutexGuard<'_, BTreeMap<TopicPartition, Handle>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mailbox(&self, at: &TopicPartition) -> Option<Arc<Mailbox>> {
        self.handles().get(at).map(|handle| Arc::clone(&handle.mailbox))
    }

    fn start(&self, at: &TopicPartition) {
        let handle = Handle {
            mailbox: Arc::new(Mailbox::new(self.env.options.queue)),
            metrics: self.metrics.enter(at),
        };
        let (env, board, at_thread) = (Arc::clone(&self.env), Arc::clone(&self.board), at.clone());
        let place = self.env.pace.as_ref().map(|pace| pace.join(at));
        let (mailbox, metrics, all) = (
            Arc::clone(&handle.mailbox),
            Arc::clone(&handle.metrics),
            Arc::clone(&self.metrics),
        );
        let spawned = thread::Builder::new().name(format!("shard {at}")).spawn(move || {
            // a panic in a fold must not leave the others waiting for this shard
            let finish = Finish {
                mailbox: &mailbox,
                all: &all,
                at: &at_thread,
                metrics: &metrics,
            };
            host::run(&env, &at_thread, &metrics, place.as_ref(), &mailbox, &board);
            drop(place);
            drop(finish);
        });
        if let Err(error) = spawned {
            error!(shard = %at, %error, "no thread for the shard");
            handle.mailbox.finish();
        }
        let old = self.handles().insert(at.clone(), handle);
        self.version.fetch_add(1, Ordering::SeqCst);
        if let Some(old) = old {
            old.mailbox.end(Ending::Lost);
        }
    }

    /// Ends these shards and waits until they have, but no longer than the options allow.
    fn end(&self, partitions: &[TopicPartition], ending: Ending) {
        let ended: Vec<(TopicPartition, Handle)> = {
            let mut handles = self.handles();
            partitions
                .iter()
                .filter_map(|at| Some((at.clone(), handles.remove(at)?)))
                .collect()
        };
        self.version.fetch_add(1, Ordering::SeqCst);
        for (_, handle) in &ended {
            handle.mailbox.end(ending);
        }
        let deadline = Instant::now() + duration(self.env.options.release_within);
        for (at, handle) in &ended {
            if !handle
                .mailbox
                .wait_for_finish(deadline.saturating_duration_since(Instant::now()))
            {
                warn!(shard = %at, "not released in time; its next owner fences it");
            }
            self.metrics.leave(at, &handle.metrics);
        }
    }

    fn end_all(&self) {
        let all: Vec<TopicPartition> = self.handles().keys().cloned().collect();
        self.end(&all, Ending::Release);
    }
}

struct Finish<'a> {
    mailbox: &'a Mailbox,
    all: &'a Metrics,
    at: &'a TopicPartition,
    metrics: &'a Arc<ShardMetrics>,
}

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            error!(shard = %self.at, "the shard's thread panicked");
            self.metrics.set_phase(crate::Phase::Stopped);
        } else {
            self.all.leave(self.at, self.metrics);
        }
        self.mailbox.finish();
    }
}

/// Hears of partitions coming and going, on the polling thread.
struct Rebalancer(Arc<Shards>);

impl Rebalance for Rebalancer {
    fn assigned(&mut self, partitions: &[TopicPartition]) -> Vec<(TopicPartition, Option<Offset>)> {
        let shards = &self.0;
        if partitions.is_empty() {
            return Vec::new();
        }
        info!(partitions = %list(partitions), "assigned");
        shards.metrics.rebalances.add(1);
        partitions.iter().for_each(|at| shards.start(at));
        let wanted = shards
            .board
            .wait_for(partitions, duration(shards.env.options.open_within), || {
                shards.shutdown.is_requested()
            });
        partitions
            .iter()
            .map(|at| {
                let start = wanted.iter().rfind(|wanted| wanted.at == *at);
                if let (Some(start), Some(mailbox)) = (start, shards.mailbox(at)) {
                    mailbox.listen(start.generation);
                }
                (at.clone(), start.map(|start| start.offset))
            })
            .collect()
    }

    fn revoked(&mut self, partitions: &[TopicPartition], lost: bool) {
        info!(partitions = %list(partitions), lost, "revoked");
        self.0.metrics.rebalances.add(1);
        self.0
            .end(partitions, if lost { Ending::Lost } else { Ending::Release });
    }
}

fn list(partitions: &[TopicPartition]) -> String {
    partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// What the polling thread holds for one partition.
#[derive(Default)]
struct Flow {
    batch: Batch,
    /// The start of the shard that the batch was fetched for.
    generation: u64,
    paused: bool,
}

impl Flow {
    /// Ready for records fetched now: those of an assignment or a position that is over are thrown away.
    fn turn_to(mut self, mailbox: Option<&Mailbox>) -> Self {
        let generation = mailbox.map_or(0, Mailbox::generation);
        if self.generation != generation {
            self.batch.clear();
            self.generation = generation;
        }
        self
    }
}

struct Poller<'a> {
    plane: &'a Plane,
    shards: Arc<Shards>,
    consumer: Arc<dyn Consumer>,
    flows: BTreeMap<TopicPartition, Flow>,
    stopped: BTreeMap<TopicPartition, Error>,
}

impl<'a> Poller<'a> {
    const fn new(plane: &'a Plane, shards: Arc<Shards>, consumer: Arc<dyn Consumer>) -> Self {
        Self {
            plane,
            shards,
            consumer,
            flows: BTreeMap::new(),
            stopped: BTreeMap::new(),
        }
    }

    fn run(&mut self) -> Result<(), Error> {
        let mut backoff = Backoff::new(self.plane.options.backoff, POLL_BACKOFF);
        while !self.plane.shutdown.is_requested() {
            self.reposition();
            self.hand_on();
            if let Some(last) = self.all_stopped() {
                return Err(Error::AllStopped { last });
            }
            match self.poll() {
                Ok(()) => backoff.reset(),
                Err(suture_log::Error::OutOfRange { .. }) => self.find_out_of_range(),
                Err(error) if error.recovery() == Recovery::Retry => {
                    warn!(%error, "polling failed; trying again");
                    self.plane.metrics.poll_errors.add(1);
                    thread::sleep(backoff.wait());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Takes in what there is.
    fn poll(&mut self) -> Result<(), suture_log::Error> {
        let options = &self.plane.options;
        let flows = &mut self.flows;
        // while a batch waits that its shard had no room for, look after it soon
        let timeout = if flows.values().any(|flow| !flow.batch.is_empty()) {
            Duration::from_millis(1)
        } else {
            POLL
        };
        let shards = &self.shards;
        let mut current: Option<(TopicPartition, Flow)> = None;
        let mut version = shards.version.load(Ordering::SeqCst);
        let polled = self
            .consumer
            .poll(timeout, options.batch_records, &mut |topic, partition, record| {
                // a rebalance within this very call ends what was fetched before it
                let now = shards.version.load(Ordering::Relaxed);
                let same = current
                    .as_ref()
                    .is_some_and(|(at, _)| at.partition == partition && *at.topic == *topic);
                if !same || now != version {
                    version = now;
                    if let Some((at, flow)) = current.take() {
                        flows.insert(at, flow);
                    }
                    let at = TopicPartition::new(topic, partition);
                    let flow = flows
                        .remove(&at)
                        .unwrap_or_default()
                        .turn_to(shards.mailbox(&at).as_deref());
                    current = Some((at, flow));
                }
                if let Some((_, flow)) = &mut current {
                    flow.batch.push(record);
                }
            });
        if let Some((at, flow)) = current.take() {
            flows.insert(at, flow);
        }
        polled.map(|_| ())
    }

    /// Puts batches into mailboxes, and holds back partitions whose mailbox is full.
    fn hand_on(&mut self) {
        let shards = &self.shards;
        let mut pause = Vec::new();
        let mut resume = Vec::new();
        self.flows.retain(|at, flow| {
            let Some(mailbox) = shards.mailbox(at) else {
                return false;
            };
            if flow.paused && !mailbox.has_room() {
                return true;
            }
            if !flow.batch.is_empty() {
                let batch = std::mem::replace(&mut flow.batch, mailbox.blank());
                if let Err(batch) = mailbox.put(batch, flow.generation) {
                    mailbox.recycle(std::mem::replace(&mut flow.batch, batch));
                    if !flow.paused {
                        flow.paused = true;
                        pause.push(at.clone());
                    }
                    return true;
                }
            }
            if flow.paused {
                flow.paused = false;
                resume.push(at.clone());
            }
            true
        });
        for (partitions, pausing) in [(pause, true), (resume, false)] {
            if partitions.is_empty() {
                continue;
            }
            let done = if pausing {
                self.consumer.pause(&partitions)
            } else {
                self.consumer.resume(&partitions)
            };
            if let Err(error) = done {
                warn!(partitions = %list(&partitions), pausing, %error, "pausing or resuming failed");
            }
        }
    }

    /// Goes where shards that started anew want to go on.
    fn reposition(&mut self) {
        for wanted in self.shards.board.wanted() {
            let Some(mailbox) = self.shards.mailbox(&wanted.at) else {
                continue;
            };
            self.flows.remove(&wanted.at);
            match self.consumer.seek(&wanted.at, wanted.offset) {
                Ok(()) => {
                    self.stopped.remove(&wanted.at);
                    mailbox.listen(wanted.generation);
                }
                Err(error) => {
                    error!(shard = %wanted.at, offset = wanted.offset, %error, "going back failed");
                    self.restart(&wanted.at);
                }
            }
        }
        for (at, error) in self.shards.board.stopped() {
            self.flows.remove(&at);
            if let Err(error) = self.consumer.pause(std::slice::from_ref(&at)) {
                error!(shard = %at, %error, "pausing a partition whose shard has stopped failed: it is fetched for nothing");
            }
            self.stopped.insert(at, error);
        }
    }

    /// Replaces a shard by a new one, which leases anew.
    fn restart(&mut self, at: &TopicPartition) {
        self.flows.remove(at);
        self.shards.end(std::slice::from_ref(at), Ending::Lost);
        self.shards.start(at);
    }

    /// A position is no longer retained, and the client does not say whose: looks, and starts those shards anew, which
    /// then find that records are missing and say so.
    fn find_out_of_range(&mut self) {
        // what was fetched before the records went is still good: its shard finishes it first
        let held: Vec<(TopicPartition, Option<i64>)> = {
            let handles = self.shards.handles();
            let drained = handles.iter().filter(|(at, handle)| {
                handle.mailbox.is_done() && self.flows.get(at).is_none_or(|flow| flow.batch.is_empty())
            });
            drained
                .map(|(at, handle)| (at.clone(), handle.metrics.position.get()))
                .collect()
        };
        for (at, position) in held {
            let Ok(range) = self.plane.log.range(&at) else { continue };
            if position.is_some_and(|position| position < range.start || position > range.end) {
                error!(shard = %at, position, start = range.start, end = range.end, "the position is no longer retained");
                self.restart(&at);
            }
        }
    }

    fn all_stopped(&mut self) -> Option<String> {
        let handles = self.shards.handles();
        self.stopped.retain(|at, _| handles.contains_key(at));
        let all = !handles.is_empty() && self.stopped.len() == handles.len();
        self.stopped.values().last().filter(|_| all).map(ToString::to_string)
    }
}
