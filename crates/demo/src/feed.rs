//! The shop as a producer: its telemetry and changes go to topics as time on the wall passes, and what is asked of executors there is
//! done to it. Who watches it runs elsewhere.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Context as _;
use suture_config::Pipeline;
use suture_event::{Sample, Span, Timestamp};
use suture_executor::{Budget, Kit};
use suture_log::{Log, OutRecord, TopicSpec};
use suture_permit::SecretKey;
use suture_runtime::Clock;
use suture_service::planes::Topics;
use suture_simulate::{Shop, Tick};

use crate::operator::Operator;

/// What to play.
#[derive(Debug, Clone)]
pub struct FeedOptions {
    /// Fixes everything that happens in the shop.
    pub seed: u64,
    /// How much of its past is sent at once, so that what is usual is soon known.
    pub history: Span,
    /// Things that break, one after the other; at most ten thousand.
    pub faults: usize,
    /// Partitions of the topics that are made where they are missing.
    pub partitions: i32,
}

impl Default for FeedOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            history: Span::from_hours(6),
            faults: 2_000,
            partitions: 6,
        }
    }
}

const STEP: Span = Span::from_secs(10);
/// How late it is seen that the feed is to end.
const GLANCE: Duration = Duration::from_millis(200);
/// The shop heals by what it is asked for, as often as decide thinks right.
const UNBOUNDED: Budget = Budget {
    actions: u32::MAX,
    per: Span::from_hours(1),
};

/// Plays the shop on the first topic of telemetry and the first of changes of a pipeline, until `stop`; with a key, of role executor, it
/// also does what the pipeline's action requests ask for.
///
/// # Errors
/// Where the log cannot be written to, or the pipeline reads no changes.
pub fn feed(
    log: &Arc<dyn Log>,
    pipeline: &Pipeline,
    options: &FeedOptions,
    key: Option<SecretKey>,
    clock: &Arc<dyn Clock>,
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let telemetry = pipeline.telemetry.first().context("the pipeline reads no telemetry")?;
    let changes = pipeline.changes.first().context("the pipeline reads no changes")?;
    let (telemetry, changes) = (telemetry.topic.as_str(), changes.topic.as_str());
    for (topic, partitions) in [(telemetry, options.partitions), (changes, 1)] {
        if log.topic(topic)?.is_none() {
            log.create_topics(&[TopicSpec::new(topic, partitions)])?;
        }
    }
    let step = STEP.as_millis();
    let begin = clock.wall().minus(options.history).as_millis().div_euclid(step) * step;
    let shop = Shop::new(suture_simulate::Options {
        seed: options.seed,
        start: Timestamp::from_millis(begin),
        step: STEP,
        // nothing breaks in what is sent as its past
        warmup: options.history,
        faults: options.faults,
        ..suture_simulate::Options::default()
    })?;
    let operator = Operator::new(shop);
    let working = match key {
        Some(key) => Some(work(log, pipeline, &operator, key, clock, stop)?),
        None => None,
    };
    let played = play(log, (telemetry, changes), &operator, clock, stop);
    stop.store(true, Ordering::SeqCst);
    if let Some((working, runtime)) = working {
        let done = working.join();
        runtime.shutdown_background();
        match done {
            Ok(done) => done.context("the shop's executor")?,
            Err(_) => anyhow::bail!("the shop's executor panicked"),
        }
    }
    played
}

fn play(
    log: &Arc<dyn Log>,
    (telemetry, changes): (&str, &str),
    operator: &Operator,
    clock: &Arc<dyn Clock>,
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let mut appender = log.appender()?;
    let mut tick = Tick::default();
    let mut live = false;
    loop {
        operator.advance(&mut tick);
        while clock.wall() < tick.at {
            if !live {
                live = true;
                tracing::info!(
                    "the shop's past is sent; from here on it goes as time does, and something breaks every now and then"
                );
            }
            if stop.load(Ordering::SeqCst) {
                return Ok(());
            }
            clock.pause(GLANCE);
        }
        if stop.load(Ordering::SeqCst) {
            return Ok(());
        }
        let mut records = Vec::new();
        for change in &tick.changes {
            let service = change
                .pointer("/subject/id")
                .and_then(serde_json::Value::as_str)
                .unwrap_or_default();
            records.push(record(changes, service, tick.at, serde_json::to_vec(change)?));
        }
        let mut by_service: BTreeMap<&str, Vec<&Sample>> = BTreeMap::new();
        for sample in &tick.samples {
            by_service
                .entry(sample.labels.get("service").unwrap_or_default())
                .or_default()
                .push(sample);
        }
        for (service, samples) in by_service {
            records.push(record(telemetry, service, tick.at, serde_json::to_vec(&samples)?));
        }
        appender.append(&records)?;
    }
}

fn record(topic: &str, service: &str, at: Timestamp, value: Vec<u8>) -> OutRecord {
    OutRecord {
        timestamp: Some(at),
        ..OutRecord::new(topic, service, value)
    }
}

type Working = (
    thread::JoinHandle<Result<(), suture_executor::Error>>,
    tokio::runtime::Runtime,
);

/// Does to the shop what it is asked for.
fn work(
    log: &Arc<dyn Log>,
    pipeline: &Pipeline,
    operator: &Operator,
    key: SecretKey,
    clock: &Arc<dyn Clock>,
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<Working> {
    let names = Topics::of(pipeline);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()?;
    let name = pipeline.remediate.executor.to_string();
    let options = suture_executor::Options {
        group: format!("{}-shop", pipeline.kafka.prefix),
        name,
        requests: names.remediations.to_string(),
        outcomes: names.outcomes.to_string(),
        commands: names.commands.to_string(),
        one_scope: pipeline.scope.is_one(),
        keys: pipeline.remediate.keys.clone(),
        service_budget: UNBOUNDED,
        pipeline_budget: UNBOUNDED,
        actions: vec!["*".to_owned()],
        ..suture_executor::Options::default()
    };
    let wall = clock.clone();
    let kit = Kit::new(
        log.clone(),
        operator.clone(),
        options,
        runtime.handle().clone(),
        move || wall.wall(),
    )?;
    let kit = kit.signed_with(key);
    let stop = stop.clone();
    let working = thread::Builder::new()
        .name("executor".to_owned())
        .spawn(move || kit.run(&stop))?;
    Ok((working, runtime))
}

#[cfg(test)]
mod tests {
    // what goes wrong here is a failed test
    #![allow(clippy::unwrap_used)]

    use std::sync::atomic::AtomicI64;

    use suture_log::{Isolation, TopicPartition, memory::MemoryLog};

    use super::*;

    const BEGIN: i64 = 1_780_300_000_000;

    /// A clock that goes on where somebody waits for it, and ends the feed after a while.
    struct Waited {
        millis: AtomicI64,
        stop: Arc<AtomicBool>,
    }

    impl Clock for Waited {
        fn now(&self) -> Duration {
            Duration::from_millis(self.millis.load(Ordering::SeqCst).unsigned_abs())
        }

        fn wall(&self) -> Timestamp {
            Timestamp::from_millis(self.millis.load(Ordering::SeqCst))
        }

        fn pause(&self, time: Duration) {
            let millis = i64::try_from(time.as_millis()).unwrap();
            if self.millis.fetch_add(millis, Ordering::SeqCst) > BEGIN + 60_000 {
                self.stop.store(true, Ordering::SeqCst);
            }
        }
    }

    #[test]
    fn the_past_is_sent_at_once_and_then_it_goes_as_time_does() {
        let (pipeline, _) = suture_service::load::examine_bytes("demo", crate::run::PIPELINE.as_bytes());
        let pipeline = pipeline.unwrap();
        let log: Arc<dyn Log> = Arc::new(MemoryLog::default());
        let stop = Arc::new(AtomicBool::new(false));
        let clock: Arc<dyn Clock> = Arc::new(Waited {
            millis: AtomicI64::new(BEGIN),
            stop: stop.clone(),
        });
        let options = FeedOptions {
            history: Span::from_mins(30),
            ..FeedOptions::default()
        };
        feed(&log, &pipeline, &options, None, &clock, &stop).unwrap();
        let (mut records, mut partitions, mut last) = (0, 0, 0);
        for partition in 0..6 {
            let at = TopicPartition::new("telemetry", partition);
            let mut reader = log.reader(&at, 0, Isolation::ReadCommitted).unwrap();
            let mut seen = 0;
            let mut before = 0;
            while !reader
                .read(Duration::ZERO, 1_000, &mut |record| {
                    let millis = record.timestamp.unwrap().as_millis();
                    assert!(millis >= before && record.key.is_some_and(|key| !key.is_empty()));
                    before = millis;
                    seen += 1;
                })
                .unwrap()
            {}
            records += seen;
            partitions += u32::from(seen > 0);
            last = last.max(before);
        }
        // ten services, half an hour of steps, and a minute more
        assert!((1_850..=1_900).contains(&records), "{records}");
        assert!(partitions > 1, "{partitions}");
        assert!((BEGIN + 40_000..=BEGIN + 70_000).contains(&last), "{last}");
        assert_eq!(log.topic("changes").unwrap().map(|topic| topic.partitions), Some(1));
    }
}
