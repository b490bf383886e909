//! Observe as the program runs it, from the first record of a topic to the last.

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use suture_log::TopicPartition;
use suture_runtime::{Metrics, ShardMetrics, Shutdown, SystemClock};
use suture_service::{load, run, run::PlaneChoice, run::Planes};

use crate::{
    Args, Encoding,
    meter::{Figure, Meter},
};

/// How long a run may take before it is given up.
const PATIENCE: Duration = Duration::from_secs(600);

/// The part of a topic at its beginning in which series are met, one in so many: it is not measured.
const MEETING: i64 = 5;

fn pipeline(brokers: &str, topic: &str, group: &str, encoding: Encoding) -> String {
    let format = match encoding {
        Encoding::Json | Encoding::Arrays => "json",
        Encoding::Arrow => "arrow_ipc",
    };
    format!(
        "version: 1\nname: throughput\nclock: event\n\
         kafka:\n  client: {{bootstrap.servers: \"{brokers}\"}}\n  prefix: throughput-{group}\n  group: throughput-{group}\n\
         \x20 topics: {{partitions: 1, replication: 1}}\n\
         scope: {{label: environment, default: prod}}\nentity: service\n\
         telemetry:\n  - {{topic: {topic}, format: {format}}}\n\
         window: {{size: 10s}}\n\
         limits: {{series: 2000000}}\n"
    )
}

/// Reads a topic to its end.
pub(crate) fn measure(
    brokers: &str,
    topic: &str,
    group: &str,
    encoding: Encoding,
    args: &Args,
) -> anyhow::Result<Figure> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("pipeline.yaml");
    fs::write(&file, pipeline(brokers, topic, group, encoding))?;
    let loaded = load::load(&file, None)?;
    let log = run::connect(&loaded.pipeline)?;
    run::prepare(log.as_ref(), &loaded.pipeline, true)?;
    let ends: Vec<(TopicPartition, i64)> = (0..args.partitions)
        .map(|partition| {
            let at = TopicPartition::new(topic, partition);
            let end = log.range(&at)?.end;
            Ok((at, end))
        })
        .collect::<anyhow::Result<_>>()?;
    let (metrics, shutdown) = (Arc::new(Metrics::default()), Shutdown::new());
    let planes = Planes {
        log,
        rekey_log: None,
        clock: Arc::new(SystemClock::default()),
        shutdown: shutdown.clone(),
        rekey: Arc::default(),
        observe: Arc::clone(&metrics),
        decide: Arc::default(),
        assign: Vec::new(),
        onlooker: None,
        board: Arc::default(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let running = runtime.spawn(async move { planes.run(&loaded, PlaneChoice::Observe).await });
    let deadline = Instant::now() + PATIENCE;
    let position = || -> i64 {
        let shards = metrics.shards();
        let inputs = shards.iter().filter(|(at, _)| *at.topic == *topic);
        inputs.filter_map(|(_, shard)| shard.position.get()).sum()
    };
    let all: i64 = ends.iter().map(|(_, end)| *end).sum();
    let met = || (position() * MEETING >= all).then_some(());
    wait(deadline, Duration::from_micros(200), "the first records", met)?;
    let (meter, from) = (Meter::start(), position());
    let reached = |gauge: fn(&ShardMetrics) -> Option<i64>| {
        let shards = metrics.shards();
        let mut ends = ends.iter();
        ends.all(|(at, end)| {
            let shard = shards.iter().find(|(shard, _)| shard == at);
            shard.is_some_and(|(_, shard)| gauge(shard) >= Some(*end))
        })
        .then_some(())
    };
    let taken_in = || reached(|shard| shard.position.get());
    wait(deadline, Duration::from_millis(1), "the last record", taken_in)?;
    // all records but the last of a partition hold as many samples
    let left = usize::try_from((all - from).max(0))?;
    let figure = meter.stop(args.samples * left / usize::try_from(all.max(1))?);
    // positions that no output goes with are committed once a second, so this belongs to no record
    let committed = || reached(|shard| shard.committed.get());
    wait(deadline, Duration::from_millis(5), "the last commit", committed)?;
    for (at, shard) in metrics.shards() {
        anyhow::ensure!(
            shard.dead_letters.get() == 0,
            "{at} has {} dead letters",
            shard.dead_letters.get()
        );
    }
    shutdown.request();
    runtime.block_on(running).context("the plane")??;
    Ok(figure)
}

fn wait(deadline: Instant, tick: Duration, what: &str, done: impl Fn() -> Option<()>) -> anyhow::Result<()> {
    while done().is_none() {
        anyhow::ensure!(Instant::now() < deadline, "{what} does not come");
        std::thread::sleep(tick);
    }
    Ok(())
}
