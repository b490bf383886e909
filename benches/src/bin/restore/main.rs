//! How long a million series take from the start of a process until its shard is live again from a snapshot on a real
//! broker, beside a bare read of the snapshot's bytes in the same run.
//!
//! ```text
//! cargo run --release -p suture-benches --features broker --bin restore
//! cargo run --release -p suture-benches --features broker --bin restore -- --series 100000 --partitions 2
//! ```
//!
//! A first process of this program runs observe over a topic in which every series sends, until a snapshot of all of them is
//! committed, and ends. Then samples come that make for an anomaly, and a second process starts. What is measured is the time
//! from its start to the moment when a consumer in read_committed has the anomaly: the first output past the committed
//! offset.

#[allow(dead_code)] // what only the other bench uses of it
#[path = "../throughput/load.rs"]
mod load;

// the tests' harness by its files: their package stands on DataFusion, which would be most of what is built here
#[allow(dead_code, unreachable_pub, clippy::expect_used, clippy::panic)] // its helpers are those of tests
#[path = "../../../../tests/src/broker.rs"]
mod broker;
#[allow(dead_code, unreachable_pub, clippy::expect_used, clippy::panic)] // its helpers are those of tests
#[path = "../../../../tests/src/disk.rs"]
mod disk;
#[allow(dead_code, unreachable_pub, clippy::expect_used, clippy::panic)] // its helpers are those of tests
#[path = "../../../../tests/src/kafka.rs"]
mod kafka;
#[allow(dead_code, unreachable_pub, clippy::expect_used, clippy::panic)] // its helpers are those of tests
#[path = "../../../../tests/src/wait.rs"]
mod wait;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    message::BorrowedMessage,
};
use suture_log::{Log, TopicPartition};
use suture_runtime::{Clock as _, Shutdown, SystemClock};
use suture_service::{run, run::PlaneChoice, run::Planes};

use crate::broker::Broker;

/// How long anything may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(600);
/// The time of the first sample that is loaded.
const START: i64 = 1_767_225_600_000;
/// Length of a window, and time between two samples of a series, in milliseconds.
const WINDOW: i64 = 10_000;

/// How samples are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    #[allow(dead_code)] // the other bench's
    Json,
    Arrays,
    #[allow(dead_code)] // the other bench's
    Arrow,
}

/// Measures a restore from a real broker.
#[derive(Debug, Clone, Parser)]
struct Args {
    /// Series.
    #[arg(long, default_value_t = 1_000_000)]
    series: usize,
    /// Partitions they are in.
    #[arg(long, default_value_t = 1)]
    partitions: i32,
    /// Samples of each series.
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// The brokers to use instead of one started for the purpose.
    #[arg(long)]
    brokers: Option<String>,
    /// Only runs observe by this pipeline file.
    #[arg(long, hide = true)]
    child: Option<PathBuf>,
    /// Samples in all.
    #[arg(skip)]
    samples: usize,
    /// Milliseconds between two samples of a series.
    #[arg(skip = WINDOW)]
    interval: i64,
    /// Samples of an array.
    #[arg(skip = 200_usize)]
    array: usize,
    /// Samples of an Arrow record batch.
    #[arg(skip = 4_096_usize)]
    batch: usize,
}

fn main() -> anyhow::Result<()> {
    let mut args = Args::parse();
    if let Some(pipeline) = &args.child {
        return child(pipeline);
    }
    args.samples = args.series * args.rounds;
    let own = args.brokers.is_none().then(Broker::start);
    let brokers = match (&args.brokers, &own) {
        (Some(brokers), _) => brokers.clone(),
        (None, Some(own)) => own.address(),
        (None, None) => anyhow::bail!("no broker"),
    };
    let name = format!("restore-{}", std::process::id());
    let telemetry = format!("{name}-telemetry");
    load::load(&brokers, &telemetry, Encoding::Arrays, &args)?;
    println!(
        "{} series in {} partitions, {} samples",
        args.series, args.partitions, args.samples
    );

    let folder = tempfile::tempdir()?;
    let pipeline = folder.path().join("pipeline.yaml");
    fs::write(&pipeline, pipeline_text(&brokers, &name))?;
    let log = run::connect(&suture_service::load::load(&pipeline, None)?.pipeline)?;
    let group = format!("{name}-restore-observe");
    let first = Running::start(&pipeline, folder.path(), "first")?;
    wait_for_snapshots(log.as_ref(), &group, &telemetry, &args)?;
    let bytes = snapshot_bytes(&brokers, &format!("{name}.state"), &telemetry)?;
    first.end()?;

    probe(&brokers, &telemetry, &args)?;
    let facts = reader(&brokers, &format!("{name}.facts"), Offset::Beginning)?;
    println!("the second process starts at {}", now());
    let began = Instant::now();
    let second = Running::start(&pipeline, folder.path(), "second")?;
    wait_for_anomalies(&facts, args.partitions)?;
    let took = began.elapsed();
    println!("the first output is there at {}", now());
    let cpu = second.cpu()?;
    second.end()?;
    let said = fs::read_to_string(folder.path().join("second.log"))?;
    for line in said
        .lines()
        .filter(|line| line.contains("INFO") || line.contains("WARN"))
    {
        println!("  {line}");
    }
    let floor = floor(&brokers, &format!("{name}.state"))?;
    #[allow(clippy::cast_precision_loss)] // for display
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "snapshots of {:.0} MiB compressed, {:.0} bytes a series",
        mebibytes(bytes),
        {
            #[allow(clippy::cast_precision_loss)] // for display
            let each = bytes as f64 / args.series as f64;
            each
        }
    );
    println!(
        "floor: a bare consumer reads the state topic, {:.0} MiB, in {:.2} s",
        mebibytes(floor.0),
        floor.1.as_secs_f64()
    );
    println!(
        "from the start of the process to the first output: {:.2} s, {:.1} times the floor, with {:.2} s of CPU",
        took.as_secs_f64(),
        took.as_secs_f64() / floor.1.as_secs_f64(),
        cpu.as_secs_f64()
    );
    Ok(())
}

/// The clock on the wall.
fn now() -> suture_event::Timestamp {
    SystemClock::default().wall()
}

fn pipeline_text(brokers: &str, name: &str) -> String {
    format!(
        "version: 1\nname: restore\nclock: event\n\
         kafka:\n  client: {{bootstrap.servers: \"{brokers}\"}}\n  prefix: {name}\n  snapshot_interval: 5s\n\
         \x20 topics: {{partitions: 1, replication: 1}}\n\
         scope: {{label: environment, default: prod}}\n\
         telemetry:\n  - {{topic: {name}-telemetry}}\n\
         window: {{size: 10s}}\n\
         limits: {{series: 2000000, future: 6000d}}\n\
         signals:\n  - name: probe\n    match: {{metric: probe}}\n\
         \x20   detect: {{detectors: [threshold], thresholds: {{upper: 10}}, episode: {{open: 1, of: 1}}}}\n"
    )
}

/// Observe as the program runs it, until SIGTERM.
fn child(pipeline: &Path) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_max_level(tracing::Level::INFO)
        .init();
    let loaded = suture_service::load::load(pipeline, None)?;
    let log = run::connect(&loaded.pipeline)?;
    let shutdown = Shutdown::new();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        run::listen_for_signals(shutdown.clone())?;
        run::prepare(log.as_ref(), &loaded.pipeline, true)?;
        let planes = Planes {
            log,
            rekey_log: None,
            clock: Arc::new(SystemClock::default()),
            shutdown,
            rekey: Arc::default(),
            observe: Arc::default(),
            decide: Arc::default(),
            assign: Vec::new(),
            onlooker: None,
            board: Arc::default(),
        };
        planes.run(&loaded, PlaneChoice::Observe).await
    })
}

/// A process of observe.
struct Running(Child);

impl Running {
    fn start(pipeline: &Path, folder: &Path, name: &str) -> anyhow::Result<Self> {
        let log = fs::File::create(folder.join(format!("{name}.log")))?;
        let child = Command::new(std::env::current_exe()?)
            .arg("--child")
            .arg(pipeline)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        Ok(Self(child))
    }

    /// CPU time it has taken so far, all threads together.
    fn cpu(&self) -> anyhow::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        // behind the name in parentheses, the 12th and 13th words are hundredths of a second for the program and the kernel
        let words = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let hundredths: u64 = words.skip(11).take(2).filter_map(|word| word.parse::<u64>().ok()).sum();
        Ok(Duration::from_millis(hundredths * 10))
    }

    fn end(mut self) -> anyhow::Result<()> {
        Command::new("kill")
            .args(["-TERM", &self.0.id().to_string()])
            .status()?;
        let status = self.0.wait()?;
        anyhow::ensure!(status.success(), "observe ended with {status}");
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Waits until each partition's newest snapshot is of its end, as the committed metadata tells.
fn wait_for_snapshots(log: &dyn Log, group: &str, telemetry: &str, args: &Args) -> anyhow::Result<()> {
    let began = Instant::now();
    let partitions: Vec<TopicPartition> = (0..args.partitions)
        .map(|n| TopicPartition::new(telemetry, n))
        .collect();
    loop {
        anyhow::ensure!(began.elapsed() < PATIENCE, "no snapshot of everything comes");
        thread::sleep(Duration::from_millis(200));
        let mut done = true;
        for (at, found) in partitions.iter().zip(log.committed(group, &partitions)?) {
            let newest = format!("-{}", log.range(at)?.end);
            done &= found.is_some_and(|found| {
                let mut words = found.metadata.split(' ').filter(|word| word.starts_with("snapshot="));
                words.any(|word| word.ends_with(&newest))
            });
        }
        if done {
            break;
        }
    }
    Ok(())
}

/// What the newest manifests say of the compressed size of their snapshots, all partitions together.
fn snapshot_bytes(brokers: &str, state: &str, telemetry: &str) -> anyhow::Result<u64> {
    let mut sizes = BTreeMap::new();
    read_all(brokers, state, &mut |message| {
        let key = String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned();
        if !key.ends_with("#manifest") || !key.contains(telemetry) {
            return;
        }
        let manifest: serde_json::Value =
            serde_json::from_slice(message.payload().unwrap_or_default()).unwrap_or_default();
        if let (Some((shard, _)), Some(size)) = (key.split_once('@'), manifest["compressed"].as_u64()) {
            sizes.insert(shard.to_owned(), size);
        }
    })?;
    Ok(sizes.values().sum())
}

/// Samples of which the first is an anomaly, and the second ends its window, in every partition.
fn probe(brokers: &str, telemetry: &str, args: &Args) -> anyhow::Result<()> {
    let later = START + i64::try_from(args.rounds)? * WINDOW;
    for partition in 0..args.partitions {
        let samples = [(later, 1_000.0), (later + WINDOW, 1.0)].map(|(ts, value)| {
            let labels = format!(r#"{{"environment":"prod","service":"probe-{partition}"}}"#);
            format!(r#"{{"ts":{ts},"metric":"probe","value":{value},"labels":{labels}}}"#)
        });
        let records = samples.iter().map(|sample| (None, sample.as_bytes()));
        kafka::produce(brokers, telemetry, partition, records);
    }
    Ok(())
}

fn reader(brokers: &str, topic: &str, from: Offset) -> anyhow::Result<BaseConsumer> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", format!("{topic}-bench"))
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .create()?;
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_offset(topic, 0, from)?;
    consumer.assign(&partitions)?;
    Ok(consumer)
}

/// Waits for an anomaly of every partition.
fn wait_for_anomalies(facts: &BaseConsumer, partitions: i32) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut seen = BTreeSet::new();
    while began.elapsed() < PATIENCE {
        let Some(Ok(message)) = facts.poll(Duration::from_millis(50)) else {
            continue;
        };
        let text = String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned();
        for partition in (0..partitions).filter(|n| text.contains(&format!("\"probe-{n}\""))) {
            seen.insert(partition);
        }
        if seen.len() == usize::try_from(partitions)? {
            return Ok(());
        }
    }
    anyhow::bail!("no anomaly comes")
}

/// Reads a topic's one partition to its end.
fn read_all(brokers: &str, topic: &str, sink: &mut dyn FnMut(&BorrowedMessage<'_>)) -> anyhow::Result<()> {
    let consumer = reader(brokers, topic, Offset::Beginning)?;
    loop {
        match consumer.poll(Duration::from_secs(60)) {
            Some(Ok(message)) => sink(&message),
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(()),
            Some(Err(error)) => return Err(error.into()),
            None => anyhow::bail!("{topic} gives nothing for a minute"),
        }
    }
}

/// The bytes of the state topic, and how long a bare consumer takes to read them.
fn floor(brokers: &str, state: &str) -> anyhow::Result<(u64, Duration)> {
    let began = Instant::now();
    let mut bytes = 0;
    read_all(brokers, state, &mut |message| bytes += message.payload_len() as u64)?;
    Ok((bytes, began.elapsed()))
}
