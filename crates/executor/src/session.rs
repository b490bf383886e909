//! One life of the consumer: from joining the group to the first error or the stop.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use suture_codec::{cdevents, records};
use suture_event::{ActionRequest, Call, ExecutorMode, Outcome, OutcomeStatus};
use suture_log::{
    Assignment, Committed, Consumer, Error, GroupOptions, Isolation, Offset, OutRecord, Producer, Rebalance, Recovery,
    TopicPartition,
};
use suture_permit::Role;
use tokio::task::AbortHandle;

use crate::{Calls, Done, ExecuteError, Executor, Kit, Verdict, decide, kit::Counters};

/// How long what is under way at a stop may still take.
const LAST_WORDS: Duration = Duration::from_secs(8);
/// How long reading the outcomes of a partition may take: more than a transaction can hang.
const CATCH_UP: Duration = Duration::from_secs(60);

pub(crate) struct Session<'a, E> {
    kit: &'a Kit<E>,
    consumer: Arc<dyn Consumer>,
    told: Told,
    shards: BTreeMap<TopicPartition, Shard>,
    done: Done,
    /// Where the reading of each partition of the outcomes topic has got to.
    outcomes_read: BTreeMap<i32, Offset>,
    results: (mpsc::Sender<Finished>, mpsc::Receiver<Finished>),
    /// Counts assignments, so that a result of a former one is told apart.
    epoch: u64,
}

/// A partition of requests that this session owns.
struct Shard {
    at: TopicPartition,
    epoch: u64,
    producer: Box<dyn Producer>,
    queue: VecDeque<(Offset, Vec<u8>)>,
    /// The next record to take in: one that is handed out again is passed over.
    next: Offset,
    working: Option<Working>,
    paused: bool,
}

struct Working {
    offset: Offset,
    request: ActionRequest,
    calls: Calls,
    task: AbortHandle,
}

impl Drop for Working {
    /// Whoever has the partition next decides about the request anew.
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Finished {
    at: TopicPartition,
    epoch: u64,
    result: Result<String, ExecuteError>,
}

enum News {
    Assigned(TopicPartition),
    Revoked(TopicPartition),
}

/// What rebalances told, to be worked off after the poll they came in.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<News>>>);

impl Told {
    fn say(&self, news: impl Iterator<Item = News>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(news);
    }

    fn take(&self) -> Vec<News> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Rebalance for Told {
    fn assigned(&mut self, partitions: &[TopicPartition]) -> Vec<(TopicPartition, Option<Offset>)> {
        self.say(partitions.iter().cloned().map(News::Assigned));
        // paused until the former owner is fenced and its outcomes are read
        partitions.iter().map(|at| (at.clone(), None)).collect()
    }

    fn revoked(&mut self, partitions: &[TopicPartition], _lost: bool) {
        self.say(partitions.iter().cloned().map(News::Revoked));
    }
}

impl<'a, E: Executor> Session<'a, E> {
    pub(crate) fn new(kit: &'a Kit<E>) -> Result<Self, Error> {
        let told = Told::default();
        let options = GroupOptions {
            group: kit.options.group.clone(),
            assignment: Assignment::Dynamic {
                topics: vec![kit.options.requests.clone()],
            },
            isolation: Isolation::ReadCommitted,
        };
        let consumer = kit.log.consumer(&options, Box::new(told.clone()))?;
        Ok(Self {
            kit,
            consumer,
            told,
            shards: BTreeMap::new(),
            done: Done::new(kit.options.remembered),
            outcomes_read: BTreeMap::new(),
            results: mpsc::channel(),
            epoch: 0,
        })
    }

    pub(crate) fn run(mut self, stop: &AtomicBool) -> Result<(), Error> {
        let mut give_up_at: Option<Instant> = None;
        loop {
            if stop.load(Ordering::Relaxed) {
                let give_up_at = give_up_at.get_or_insert_with(|| Instant::now() + LAST_WORDS);
                self.shards.values_mut().for_each(|shard| shard.queue.clear());
                if Instant::now() >= *give_up_at || self.shards.values().all(|shard| shard.working.is_none()) {
                    return Ok(());
                }
            }
            self.poll()?;
            self.rebalanced()?;
            while let Ok(finished) = self.results.1.try_recv() {
                self.finish(finished)?;
            }
            if give_up_at.is_none() {
                self.work()?;
            }
            self.hold_back()?;
        }
    }

    fn poll(&mut self) -> Result<(), Error> {
        let busy = self.shards.values().any(|shard| shard.working.is_some());
        let timeout = Duration::from_millis(if busy { 10 } else { 100 });
        let shards = &mut self.shards;
        let mut taken = |topic: &str, partition: i32, record: suture_log::RecordRef<'_>| {
            if let Some(shard) = shards.get_mut(&TopicPartition::new(topic, partition))
                && record.offset >= shard.next
            {
                shard.next = record.offset + 1;
                shard
                    .queue
                    .push_back((record.offset, record.value.unwrap_or_default().to_vec()));
            }
        };
        match self.consumer.poll(timeout, self.kit.options.queue, &mut taken) {
            Ok(_) => Ok(()),
            Err(error) if error.recovery() == Recovery::Retry => {
                tracing::warn!(%error, "reading requests");
                std::thread::sleep(Duration::from_millis(100));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Lets go of what was revoked and takes over what was assigned: first the former owners of all of it are fenced,
    /// which ends what they left open, then all that they wrote is read, then work begins.
    fn rebalanced(&mut self) -> Result<(), Error> {
        let mut assigned = BTreeSet::new();
        for news in self.told.take() {
            match news {
                News::Assigned(at) => {
                    assigned.insert(at);
                }
                News::Revoked(at) => {
                    assigned.remove(&at);
                    self.shards.remove(&at);
                }
            }
        }
        if assigned.is_empty() {
            return Ok(());
        }
        let mut fenced = Vec::with_capacity(assigned.len());
        for at in assigned {
            let id = format!("{}-{}-{}", self.kit.options.group, at.topic, at.partition);
            fenced.push((at, self.kit.log.producer(&id)?));
        }
        self.catch_up()?;
        for (at, producer) in fenced {
            self.take_over(at, producer)?;
        }
        Ok(())
    }

    fn take_over(&mut self, at: TopicPartition, producer: Box<dyn Producer>) -> Result<(), Error> {
        let range = self.kit.log.range(&at)?;
        let committed = self
            .kit
            .log
            .committed(&self.kit.options.group, std::slice::from_ref(&at))?;
        let next = committed
            .into_iter()
            .next()
            .flatten()
            .map_or(range.start, |committed| committed.offset);
        if next < range.start {
            tracing::warn!(partition = %at, next, start = range.start, "requests were lost before they were read");
        }
        let next = next.max(range.start);
        self.consumer.seek(&at, next)?;
        self.epoch += 1;
        let epoch = self.epoch;
        let (queue, at_too) = (VecDeque::new(), at.clone());
        self.shards.insert(
            at_too,
            Shard {
                at,
                epoch,
                producer,
                queue,
                next,
                working: None,
                paused: false,
            },
        );
        Ok(())
    }

    /// Reads the outcomes that were written since the last time, by whichever process.
    fn catch_up(&mut self) -> Result<(), Error> {
        catch_up(self.kit, &mut self.done, &mut self.outcomes_read)
    }

    /// Goes on with every partition that has nothing under way.
    fn work(&mut self) -> Result<(), Error> {
        for shard in self.shards.values_mut() {
            while shard.working.is_none() {
                let Some((offset, value)) = shard.queue.pop_front() else {
                    break;
                };
                match cdevents::read_remediation(&value) {
                    Ok(request) => {
                        begin(
                            self.kit,
                            (&mut self.done, &mut self.outcomes_read),
                            &self.consumer,
                            shard,
                            offset,
                            request,
                            &self.results.0,
                        )?;
                    }
                    Err(error) => {
                        tracing::error!(partition = %shard.at, offset, %error, "a record that is no action request");
                        Counters::add(&self.kit.counters.malformed);
                        shard.commit(self.kit, &self.consumer, None, Some(offset + 1))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self, finished: Finished) -> Result<(), Error> {
        let Some(shard) = self
            .shards
            .get_mut(&finished.at)
            .filter(|shard| shard.epoch == finished.epoch)
        else {
            return Ok(());
        };
        let Some(working) = shard.working.take() else {
            return Ok(());
        };
        let (status, detail) = match finished.result {
            Ok(detail) if self.kit.executor.dry() => (OutcomeStatus::DryRun, detail),
            Ok(detail) => (OutcomeStatus::Succeeded, detail),
            Err(ExecuteError::Refused(detail)) => (OutcomeStatus::Refused, detail),
            Err(ExecuteError::Failed(detail)) => (OutcomeStatus::Failed, detail),
        };
        let outcome = self.kit.outcome(&working.request, status, detail, working.calls.take());
        shard.commit(self.kit, &self.consumer, Some(&outcome), Some(working.offset + 1))?;
        self.done.remember(&outcome);
        Ok(())
    }

    /// Pauses partitions whose queues are full, and resumes those whose are not.
    fn hold_back(&mut self) -> Result<(), Error> {
        for shard in self.shards.values_mut() {
            let full = shard.queue.len() >= self.kit.options.queue;
            if full != shard.paused {
                let at = std::slice::from_ref(&shard.at);
                if full {
                    self.consumer.pause(at)?
                } else {
                    self.consumer.resume(at)?
                }
                shard.paused = full;
            }
        }
        Ok(())
    }
}

impl<E> Drop for Session<'_, E> {
    /// Leaves the group at once, so that the partitions need not wait for a time-out to find another owner.
    fn drop(&mut self) {
        self.shards.clear();
        self.consumer.close();
    }
}

impl Shard {
    /// Writes an outcome and moves on, both or neither.
    fn commit<E: Executor>(
        &mut self,
        kit: &Kit<E>,
        consumer: &Arc<dyn Consumer>,
        outcome: Option<&Outcome>,
        next: Option<Offset>,
    ) -> Result<(), Error> {
        self.producer.begin()?;
        if let Some(outcome) = outcome {
            let value = records::encode(outcome).map_err(|error| Error::Misuse(error.to_string()))?;
            let mut record = OutRecord::new(kit.options.outcomes.as_str(), outcome.target.as_bytes(), value);
            record.headers.push("content-type", Some(b"application/json"));
            self.producer.send(&record)?;
        }
        let offsets: Vec<(TopicPartition, Committed)> = next
            .map(|offset| {
                (
                    self.at.clone(),
                    Committed {
                        offset,
                        metadata: String::new(),
                    },
                )
            })
            .into_iter()
            .collect();
        self.producer.commit(&offsets, &consumer.group_metadata()?)
    }
}

impl<E: Executor> Kit<E> {
    fn outcome(&self, request: &ActionRequest, status: OutcomeStatus, detail: String, calls: Vec<Call>) -> Outcome {
        let mode = if self.executor.dry() {
            ExecutorMode::Dry
        } else {
            ExecutorMode::Live
        };
        let mut outcome = Outcome {
            action: Arc::clone(&request.id),
            at: (self.clock)(),
            status,
            target: Arc::clone(&request.target),
            scope: Arc::clone(&request.scope),
            executor: self.options.name.as_str().into(),
            detail,
            mode,
            calls,
            seal: None,
        };
        outcome.seal = self.key.as_ref().map(|key| key.sign(&outcome));
        outcome
    }
}

/// Reads the outcomes that were written since the last time, by whichever process.
fn catch_up<E: Executor>(
    kit: &Kit<E>,
    done: &mut Done,
    outcomes_read: &mut BTreeMap<i32, Offset>,
) -> Result<(), Error> {
    let options = &kit.options;
    let partitions = kit.log.topic(&options.outcomes)?.map_or(0, |topic| topic.partitions);
    for partition in 0..partitions {
        let at = TopicPartition::new(options.outcomes.as_str(), partition);
        let range = kit.log.range(&at)?;
        let next = outcomes_read.entry(partition).or_insert(range.start);
        *next = range.start.max(*next);
        if *next >= range.end {
            continue;
        }
        let mut reader = kit.log.reader(&at, *next, Isolation::ReadCommitted)?;
        let mut take = |record: suture_log::RecordRef<'_>| {
            *next = record.offset + 1;
            // other executors' words, and what is no outcome, are no concern here
            let outcome = records::decode::<Outcome>(record.value.unwrap_or_default()).ok();
            let Some(outcome) = outcome.filter(|outcome| *outcome.executor == *options.name) else {
                return;
            };
            if options.keys.has(Role::Executor)
                && let Err(flaw) = options.keys.check_outcome(&outcome)
            {
                let (action, offset) = (&outcome.action, record.offset);
                tracing::warn!(%at, offset, %action, %flaw, "an outcome in this executor's name that nobody vouches for is not believed");
                return;
            }
            done.remember(&outcome);
        };
        let patience = Instant::now() + CATCH_UP;
        while !reader.read(Duration::from_secs(1), 1_000, &mut take)? {
            if Instant::now() >= patience {
                let what = format!("reading {at} to its end");
                let detail = "a transaction on it stays open".to_owned();
                return Err(Error::Busy { what, detail });
            }
        }
        // the ends of transactions have offsets, too
        *next = range.end.max(*next);
    }
    Ok(())
}

/// Takes one request up.
fn begin<E: Executor>(
    kit: &Kit<E>,
    (done, outcomes_read): (&mut Done, &mut BTreeMap<i32, Offset>),
    consumer: &Arc<dyn Consumer>,
    shard: &mut Shard,
    offset: Offset,
    request: ActionRequest,
    results: &mpsc::Sender<Finished>,
) -> Result<(), Error> {
    let now = (kit.clock)();
    let mut verdict = decide(&request, now, &kit.allowed, done, kit.executor.dry());
    if verdict == Verdict::Act && !kit.executor.dry() {
        // what other processes of this name have started since counts against the budgets
        catch_up(kit, done, outcomes_read)?;
        verdict = decide(&request, now, &kit.allowed, done, false);
    }
    if let (Verdict::Act | Verdict::Resume, Some(permit)) = (&verdict, &request.permit)
        && !kit.executor.dry()
    {
        // where this fails all is begun anew, and this request with it
        kit.watch.read()?;
        if let Err(why) = kit.watch.allows(&request.scope, &permit.epoch) {
            verdict = Verdict::Refuse(why);
        }
    }
    tracing::debug!(action = %request.id, target = %request.target, ?verdict, "request");
    let answer = match verdict {
        Verdict::Leave(_) => {
            Counters::add(&kit.counters.left);
            None
        }
        Verdict::Reject(why) => {
            Counters::add(&kit.counters.rejected);
            tracing::error!(action = %request.id, target = %request.target, why, "a record that is no valid request");
            Some(kit.outcome(&request, OutcomeStatus::Rejected, why, Vec::new()))
        }
        Verdict::Refuse(why) => {
            Counters::add(&kit.counters.refused);
            Some(kit.outcome(&request, OutcomeStatus::Refused, why, Vec::new()))
        }
        Verdict::Resume if !kit.executor.repeatable() || now > request.verify_by => {
            let why = "its process stopped in the middle: what was done is not known".to_owned();
            Some(kit.outcome(&request, OutcomeStatus::Failed, why, Vec::new()))
        }
        Verdict::Resume => {
            start(kit, shard, offset, request, results);
            return Ok(());
        }
        Verdict::Act => {
            if !kit.executor.dry() {
                let started = kit.outcome(&request, OutcomeStatus::Started, String::new(), Vec::new());
                shard.commit(kit, consumer, Some(&started), None)?;
                done.remember(&started);
            }
            start(kit, shard, offset, request, results);
            return Ok(());
        }
    };
    shard.commit(kit, consumer, answer.as_ref(), Some(offset + 1))?;
    if let Some(outcome) = answer {
        done.remember(&outcome);
    }
    Ok(())
}

/// Lets the executor act, off this thread.
fn start<E: Executor>(
    kit: &Kit<E>,
    shard: &mut Shard,
    offset: Offset,
    request: ActionRequest,
    results: &mpsc::Sender<Finished>,
) {
    Counters::add(&kit.counters.acted);
    let (executor, asked) = (Arc::clone(&kit.executor), request.clone());
    let calls = Calls::new(Arc::clone(&kit.watch), &request, Arc::clone(&kit.clock));
    let asks = calls.clone();
    let limit = kit.options.time_limit;
    let task = kit.runtime.spawn(async move {
        let within = Duration::from_millis(u64::try_from(limit.as_millis()).unwrap_or(0));
        tokio::time::timeout(within, executor.execute(&asked, &asks)).await
    });
    shard.working = Some(Working {
        offset,
        request,
        calls,
        task: task.abort_handle(),
    });
    let (at, epoch, results) = (shard.at.clone(), shard.epoch, results.clone());
    kit.runtime.spawn(async move {
        let result = match task.await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(ExecuteError::Failed(format!("not done within {limit}"))),
            Err(error) => Err(ExecuteError::Failed(format!("the executor broke down: {error}"))),
        };
        // nobody listens once the session is over, and then nobody needs to
        let _ = results.send(Finished { at, epoch, result });
    });
}
