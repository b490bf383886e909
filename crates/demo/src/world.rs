//! Everything that runs in the demo beside the shop: the log in memory, both planes over it, and the executor.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use suture_codec::{cdevents, records};
use suture_config::Pipeline;
use suture_console::{Said, Stage, Store};
use suture_engine::Source;
use suture_event::{Command, Edge, Fact, FactBody, LedgerRecord, Outcome, OutcomeStatus, Sample, Span, Timestamp};
use suture_executor::{Budget, Kit};
use suture_log::{
    Appender, Isolation, Log, OutRecord, Reader, RecordRef, TopicPartition, TopicSpec,
    memory::{MemoryLog, MemoryOptions},
};
use suture_permit::Role;
use suture_runtime::{Folds, Metrics, Options, Plane, Shutdown, SystemClock};
use suture_service::{
    keys, load,
    metrics::stages,
    planes::{DecideFolds, ObserveFolds, Onlooker, Topics},
    topics,
};

use crate::{DemoEvent, operator::Operator};

/// Budgets that hold nothing back.
const UNBOUNDED: Budget = Budget {
    actions: u32::MAX,
    per: Span::from_hours(1),
};
const TELEMETRY: &str = "telemetry";
const CHANGES: &str = "changes";
/// The planes commit and tick this often, so that a simulated minute takes them some ten milliseconds.
const QUICK: Span = Span::from_millis(2);
/// A partition without new records for this long has said all there is: its producer is this program.
const IDLE: Span = Span::from_millis(5);
/// What the planes and the executor may take for any one thing before the demo gives up.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes that a partition keeps: most of a day of telemetry, far more than passes between two snapshots.
const KEPT: usize = 128 << 20;
const SNAPSHOTS: Span = Span::from_secs(1);

/// One topic as it is read to its end, again and again.
struct Tail(Box<dyn Reader>);

impl Tail {
    fn open(log: &dyn Log, topic: &str) -> anyhow::Result<Self> {
        Ok(Self(log.reader(
            &TopicPartition::new(topic, 0),
            0,
            Isolation::ReadCommitted,
        )?))
    }

    /// Everything that is there; waits for the first record up to the timeout.
    fn read(&mut self, timeout: Duration, sink: &mut dyn FnMut(RecordRef<'_>)) -> anyhow::Result<()> {
        let mut patience = timeout;
        while !self.0.read(patience, 4_096, sink)? {
            patience = Duration::ZERO;
        }
        Ok(())
    }
}

/// The running parts.
pub(super) struct World {
    log: Arc<MemoryLog>,
    topics: Topics,
    appender: Box<dyn Appender>,
    facts: Tail,
    incidents: Tail,
    requests: Tail,
    outcomes: Tail,
    ledger: Tail,
    /// Who looks on from a browser.
    store: Option<Arc<Store>>,
    observe: Arc<Metrics>,
    inbox: Vec<DemoEvent>,
    /// Facts that somebody waits for, by what tells them apart.
    seen: BTreeSet<String>,
    /// The next fact to read.
    facts_read: i64,
    now: Arc<AtomicI64>,
    decide: Arc<Metrics>,
    shutdown: Shutdown,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<anyhow::Result<()>>>,
    _runtime: tokio::runtime::Runtime,
}

impl World {
    /// Starts everything, with nothing in the log yet.
    pub(super) fn start(
        pipeline: &Arc<Pipeline>,
        edges: Vec<Edge>,
        operator: Operator,
        store: Option<Arc<Store>>,
    ) -> anyhow::Result<Self> {
        let now = Arc::new(AtomicI64::new(operator.look(|shop| shop.now().as_millis())));
        let clock = now.clone();
        let wall = move || Timestamp::from_millis(clock.load(Ordering::SeqCst));
        let options = MemoryOptions {
            partition_bytes: KEPT,
            ..MemoryOptions::default()
        };
        let log = Arc::new(MemoryLog::with_clock(options, wall.clone()));
        log.create_topics(&[TopicSpec::new(TELEMETRY, 1), TopicSpec::new(CHANGES, 1)])?;
        topics::create(log.as_ref(), pipeline)?;
        let names = Topics::of(pipeline);
        let (shutdown, stop) = (Shutdown::new(), Arc::new(AtomicBool::new(false)));
        let decide = Arc::new(Metrics::default());
        let mut threads = Vec::new();

        let sources = Source::all(pipeline, load::expressions().as_ref())?;
        let inputs = sources.iter().map(|source| source.topic.clone()).collect();
        let onlooker = store
            .clone()
            .map(|store| -> Onlooker { Arc::new(move |rows| store.take(rows.into_iter().map(Said::Score))) });
        let folds = ObserveFolds {
            pipeline: pipeline.clone(),
            sources,
            topics: names.clone(),
            model: None,
            fact_partitions: 1,
            onlooker,
            board: Arc::default(),
        };
        let group = (pipeline.observe_group(), inputs, true);
        let observe = Arc::new(Metrics::default());
        threads.push(plane(
            "observe",
            &log,
            Arc::new(folds),
            group,
            &observe,
            &shutdown,
            &names,
        )?);
        let folds = DecideFolds {
            pipeline: pipeline.clone(),
            edges,
            topics: names.clone(),
            key: Some(keys::embedded(Role::Decide)),
            board: Arc::default(),
        };
        let group = (pipeline.decide_group(), vec![names.facts.to_string()], false);
        threads.push(plane(
            "decide",
            &log,
            Arc::new(folds),
            group,
            &decide,
            &shutdown,
            &names,
        )?);

        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_time()
            .build()?;
        let options = suture_executor::Options {
            name: "shop".to_owned(),
            group: "shop".to_owned(),
            requests: names.remediations.to_string(),
            outcomes: names.outcomes.to_string(),
            commands: names.commands.to_string(),
            keys: pipeline.remediate.keys.clone(),
            // decide has its own budgets, by the shop's time
            service_budget: UNBOUNDED,
            pipeline_budget: UNBOUNDED,
            actions: vec!["*".to_owned()],
            ..suture_executor::Options::default()
        };
        let kit = Kit::new(log.clone(), operator, options, runtime.handle().clone(), wall)?
            .signed_with(keys::embedded(Role::Executor));
        let stopped = stop.clone();
        let run = move || kit.run(&stopped).context("the executor");
        threads.push(thread::Builder::new().name("executor".to_owned()).spawn(run)?);

        Ok(Self {
            appender: log.appender()?,
            facts: Tail::open(log.as_ref(), &names.facts)?,
            incidents: Tail::open(log.as_ref(), &names.incidents)?,
            requests: Tail::open(log.as_ref(), &names.remediations)?,
            outcomes: Tail::open(log.as_ref(), &names.outcomes)?,
            ledger: Tail::open(log.as_ref(), &names.ledger)?,
            store,
            observe,
            log,
            topics: names,
            inbox: Vec::new(),
            seen: BTreeSet::new(),
            facts_read: 0,
            now,
            decide,
            shutdown,
            stop,
            threads,
            _runtime: runtime,
        })
    }

    /// Sets the clock by which requests expire.
    pub(super) fn set_clock(&self, at: Timestamp) {
        self.now.store(at.as_millis(), Ordering::SeqCst);
    }

    /// Writes one step's samples, as one record.
    pub(super) fn telemetry(&mut self, at: Timestamp, samples: &[Sample]) -> anyhow::Result<()> {
        let value = serde_json::to_vec(samples)?;
        self.append(TELEMETRY, at, value)
    }

    /// Writes a change, and waits until it is a fact: telemetry that follows must not overtake it.
    pub(super) fn change(&mut self, at: Timestamp, event: &serde_json::Value) -> anyhow::Result<()> {
        let id = event
            .pointer("/context/id")
            .and_then(serde_json::Value::as_str)
            .unwrap_or_default();
        let fact = format!("change {id}");
        self.append(CHANGES, at, serde_json::to_vec(event)?)?;
        self.wait("a change to become a fact", |world| world.seen.remove(&fact))
    }

    /// Writes a command, and waits until it is a fact.
    pub(super) fn command(&mut self, command: &Command) -> anyhow::Result<()> {
        let fact = format!("command {}", command.id);
        let topic = self.topics.commands.clone();
        self.append(&topic, command.at, records::encode(command)?)?;
        self.inbox.push(DemoEvent::Command(command.clone()));
        self.wait("a command to become a fact", |world| world.seen.remove(&fact))
    }

    /// Waits until the executor's last word on an action is a fact.
    pub(super) fn outcome(&mut self, action: &str) -> anyhow::Result<()> {
        let fact = format!("outcome {action}");
        self.wait("an action's outcome to become a fact", |world| world.seen.remove(&fact))
    }

    /// Waits until it is a fact that the executor has taken up a request, or that it will not.
    pub(super) fn executor(&mut self, action: &str, taken_up: impl Fn() -> bool) -> anyhow::Result<()> {
        let (started, ended) = (format!("started {action}"), format!("outcome {action}"));
        self.wait("the executor to take up a request", |world| {
            world.seen.contains(&ended) || (taken_up() && world.seen.remove(&started))
        })
    }

    fn append(&mut self, topic: &str, at: Timestamp, value: Vec<u8>) -> anyhow::Result<()> {
        let record = OutRecord {
            timestamp: Some(at),
            ..OutRecord::new(topic, "shop", value)
        };
        Ok(self.appender.append(&[record])?)
    }

    /// Waits until everything up to a time has been decided on and what was decided has been read.
    pub(super) fn settle(&mut self, at: Timestamp) -> anyhow::Result<()> {
        // samples of the very same millisecond may still come, so that is not told as passed
        let due = at.minus(Span::from_millis(1));
        self.wait("the planes to catch up", |world| {
            world.decided().is_some_and(|reached| reached >= due)
        })?;
        // decide may have read on since the facts were last looked at here
        self.pump(Duration::ZERO)?;
        let upto = self.facts_read;
        self.wait("decisions to be committed", |world| {
            world.committed().is_some_and(|offset| offset >= upto)
        })?;
        self.pump(Duration::ZERO)
    }

    /// The same for a time somewhat before, without waiting for what was decided.
    pub(super) fn keep_up(&mut self, at: Timestamp) -> anyhow::Result<()> {
        self.wait("the planes to keep up", |world| {
            world.decided().is_some_and(|reached| reached >= at)
        })
    }

    /// Event time up to which everything was decided.
    fn decided(&self) -> Option<Timestamp> {
        let (_, shard) = self.decide.shards().into_iter().next()?;
        shard.watermark.get().map(Timestamp::from_millis)
    }

    fn committed(&self) -> Option<i64> {
        let (_, shard) = self.decide.shards().into_iter().next()?;
        shard.committed.get()
    }

    fn wait(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            self.pump(Duration::from_millis(1))?;
            if done(self) {
                return Ok(());
            }
            if self.threads.iter().any(JoinHandle::is_finished) {
                self.join()?;
                bail!("a part of the demo ended by itself while it waited for {what}");
            }
            if began.elapsed() > PATIENCE {
                bail!("the demo waited {}s in vain for {what}", PATIENCE.as_secs());
            }
        }
    }

    /// Reads what is there; waits for a fact up to the timeout.
    fn pump(&mut self, timeout: Duration) -> anyhow::Result<()> {
        let (inbox, seen, next) = (&mut self.inbox, &mut self.seen, &mut self.facts_read);
        let mut said = Vec::new();
        let looked_at = self.store.is_some();
        let mut tell = |what: &dyn Fn() -> Said| {
            if looked_at {
                said.push(what());
            }
        };
        let mut failed = None;
        self.facts.read(timeout, &mut |record| {
            *next = record.offset + 1;
            match records::decode::<Fact>(record.value.unwrap_or_default()) {
                Ok(fact) => {
                    match &fact.body {
                        FactBody::Edge(edge) => tell(&|| Said::Edge(edge.clone())),
                        FactBody::Watched(watched) => tell(&|| Said::Watched(watched.clone())),
                        FactBody::Change(change) => tell(&|| Said::Change(change.clone())),
                        FactBody::Anomaly(anomaly) => tell(&|| Said::Anomaly(anomaly.clone())),
                        _ => {}
                    }
                    take_fact(fact.body, inbox, seen);
                }
                Err(error) => failed = Some(error),
            }
        })?;
        self.incidents
            .read(
                Duration::ZERO,
                &mut |record| match cdevents::read_incident(record.value.unwrap_or_default()) {
                    Ok(incident) => {
                        tell(&|| Said::Incident(incident.clone()));
                        inbox.push(DemoEvent::Incident(incident));
                    }
                    Err(error) => failed = Some(error),
                },
            )?;
        self.requests
            .read(
                Duration::ZERO,
                &mut |record| match cdevents::read_remediation(record.value.unwrap_or_default()) {
                    Ok(request) => {
                        tell(&|| Said::Request(request.clone()));
                        inbox.push(DemoEvent::Remediation(request));
                    }
                    Err(error) => failed = Some(error),
                },
            )?;
        self.outcomes
            .read(
                Duration::ZERO,
                &mut |record| match records::decode::<Outcome>(record.value.unwrap_or_default()) {
                    Ok(outcome) => {
                        tell(&|| Said::Outcome(outcome.clone()));
                        inbox.push(DemoEvent::Outcome(outcome));
                    }
                    Err(error) => failed = Some(error),
                },
            )?;
        if looked_at {
            self.ledger
                .read(Duration::ZERO, &mut |record| match records::decode::<LedgerRecord>(
                    record.value.unwrap_or_default(),
                ) {
                    Ok(record) => tell(&|| Said::Record(record.clone())),
                    Err(error) => failed = Some(error),
                })?;
        }
        if let Some(store) = &self.store {
            store.take(said);
        }
        failed.map_or(Ok(()), |error| Err(error).context("reading what the planes wrote"))
    }

    /// What both planes have counted, as a console shows it.
    pub(super) fn stages(&self) -> Vec<Stage> {
        stages(&[("observe", &self.observe), ("decide", &self.decide)])
    }

    /// What came out of the topics since the last time; in order for each kind.
    pub(super) fn take(&mut self) -> Vec<DemoEvent> {
        std::mem::take(&mut self.inbox)
    }

    /// Ends every part: the planes finish their batch, commit and leave their groups.
    pub(super) fn end(mut self) -> anyhow::Result<()> {
        self.shutdown.request();
        self.stop.store(true, Ordering::SeqCst);
        let ended = self.join();
        tracing::debug!(log = ?Arc::strong_count(&self.log), "the demo's parts have ended");
        ended
    }

    fn join(&mut self) -> anyhow::Result<()> {
        self.shutdown.request();
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            match thread.join() {
                Ok(ended) => ended?,
                Err(_) => bail!("a part of the demo panicked"),
            }
        }
        Ok(())
    }
}

fn take_fact(body: FactBody, inbox: &mut Vec<DemoEvent>, seen: &mut BTreeSet<String>) {
    match body {
        FactBody::Anomaly(anomaly) => inbox.push(DemoEvent::Anomaly(anomaly)),
        FactBody::Change(change) => {
            seen.insert(format!("change {}", change.id));
            inbox.push(DemoEvent::Change(change));
        }
        FactBody::Outcome(outcome) => {
            let what = if outcome.status == OutcomeStatus::Started {
                "started"
            } else {
                "outcome"
            };
            seen.insert(format!("{what} {}", outcome.action));
        }
        FactBody::Command(command) => {
            seen.insert(format!("command {}", command.id));
        }
        _ => {}
    }
}

fn plane(
    name: &str,
    log: &Arc<MemoryLog>,
    folds: Arc<dyn Folds>,
    (group, topics, ticks): (String, Vec<String>, bool),
    metrics: &Arc<Metrics>,
    shutdown: &Shutdown,
    names: &Topics,
) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    let plane = Plane {
        objects: None,
        log: log.clone(),
        folds,
        options: Options {
            group,
            topics,
            ticks,
            state_topic: names.state.to_string(),
            commit_interval: QUICK,
            position_interval: QUICK,
            tick_interval: IDLE,
            idle_after: IDLE,
            snapshot_interval: SNAPSHOTS,
            ..Options::default()
        },
        clock: Arc::new(SystemClock::default()),
        metrics: metrics.clone(),
        shutdown: shutdown.clone(),
    };
    let run = move || plane.run().map_err(anyhow::Error::from);
    Ok(thread::Builder::new().name(name.to_owned()).spawn(run)?)
}
