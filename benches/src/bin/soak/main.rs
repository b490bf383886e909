//! Whether memory stays flat: both planes on the log in memory over simulated days, the resident memory after the first
//! simulated hour beside that at the end of each later one.
//!
//! ```text
//! cargo run --release -p suture-benches --features broker --bin soak
//! cargo run --release -p suture-benches --features broker --bin soak -- --hours 4
//! ```
//!
//! Samples are made on the fly, as Arrow record batches of every series each tick, and fed no faster than observe takes them
//! in. Each series follows the time of day with noise; now and then a service goes bad for a while, so that anomalies,
//! incidents and requests come and go; deploys are announced; some samples come late, and some series pause. Snapshots and
//! commits are made as in operation, and the allocator is the program's.
//!
//! Memory rises while a snapshot is made and falls after it, so an hour's figure is the median of readings over it, ten a
//! second; the highest reading is beside it.

use std::{
    fs,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use arrow_array::{
    ArrayRef, Float64Array, RecordBatch, TimestampMillisecondArray, builder::StringDictionaryBuilder, types::Int32Type,
};
use arrow_ipc::writer::StreamWriter;
use clap::Parser;
use suture_log::{
    Appender, Log, OutRecord, TopicPartition, TopicSpec,
    memory::{MemoryLog, MemoryOptions},
};
use suture_runtime::{Metrics, Shutdown, SystemClock};
use suture_service::{load, run, run::PlaneChoice, run::Planes};

const START: i64 = 1_767_225_600_000;
const HOUR: i64 = 3_600_000;
/// Series of one service.
const TOGETHER: usize = 40;
/// Samples of a record.
const BATCH: usize = 4_000;
/// Records that observe may be behind.
const BEHIND: i64 = 16;
/// Ticks after which the log is trimmed.
const TRIMMED: u64 = 10;
/// How often memory is read.
const READING: Duration = Duration::from_millis(100);
/// What resident memory may grow by after the first hour, in hundredths.
const GROWTH: f64 = 5.0;

/// Looks whether memory stays flat.
#[derive(Debug, Clone, Parser)]
struct Args {
    /// Simulated hours.
    #[arg(long, default_value_t = 24)]
    hours: i64,
    /// Samples an hour.
    #[arg(long, default_value_t = 10_000_000)]
    samples: usize,
    /// Series.
    #[arg(long, default_value_t = 100_000)]
    series: usize,
    /// Bytes that the log in memory keeps of each partition.
    #[arg(long, default_value_t = 16 << 20)]
    log_bytes: usize,
    /// Seconds of real time between two snapshots.
    #[arg(long, default_value_t = 5)]
    snapshots: u64,
}

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::WARN)
        .with_ansi(false)
        .init();
    let args = Args::parse();
    // small, so that telemetry fills it within the first hour; what comes out is trimmed: the log is not the program's
    let log = MemoryLog::new(MemoryOptions {
        partition_bytes: args.log_bytes,
        ..MemoryOptions::default()
    });
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("pipeline.yaml");
    fs::write(&file, pipeline(&args, folder.path()))?;
    let loaded = load::load(&file, None)?;
    log.create_topics(&[TopicSpec::new("telemetry", 1), TopicSpec::new("changes", 1)])?;
    run::prepare(&log, &loaded.pipeline, true)?;
    let (observe, decide, shutdown) = (
        Arc::new(Metrics::default()),
        Arc::new(Metrics::default()),
        Shutdown::new(),
    );
    let planes = Planes {
        log: Arc::new(log.clone()),
        rekey_log: None,
        clock: Arc::new(SystemClock::default()),
        shutdown: shutdown.clone(),
        rekey: Arc::default(),
        observe: Arc::clone(&observe),
        decide: Arc::clone(&decide),
        assign: Vec::new(),
        onlooker: None,
        board: Arc::default(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let running = runtime.spawn(async move { planes.run(&loaded, PlaneChoice::Both).await });
    let ended = feed(&log, &observe, &decide, &args, &|| !running.is_finished());
    shutdown.request();
    runtime.block_on(running).context("the planes")??;
    ended
}

fn pipeline(args: &Args, folder: &Path) -> String {
    format!(
        r#"version: 1
name: soak
clock: event
kafka:
  snapshot_interval: {}s
  state: {{store: "file://{}"}}
  topics: {{partitions: 1, replication: 1}}
scope: {{label: environment, default: prod}}
telemetry:
  - {{topic: telemetry, format: arrow_ipc}}
changes:
  - topic: changes
window: {{size: 1m, lateness: 30s}}
limits: {{series: {}, future: 6000d}}
remediate:
  mode: autonomous
  minimum_probability: 0
  playbooks:
    - name: restart
      owner: the owner
      rung: autonomous
      action: {{action: restart}}
      reversal: {{action: start}}
      safety:
        trigger: far off
        false_positives: [none known]
        blast_radius: one service restarts
        reversal_time: 1s
        budget: {{actions: 1000, per: 1h}}
        telemetry: [request_latency]
"#,
        args.snapshots,
        folder.join("state").display(),
        args.series
    )
}

/// What does not change of the records: the columns of names and labels.
struct Slot {
    first: usize,
    count: usize,
    columns: Vec<(String, ArrayRef)>,
}

fn slots(series: usize) -> anyhow::Result<Vec<Slot>> {
    let mut slots = Vec::new();
    for first in (0..series).step_by(BATCH) {
        let count = BATCH.min(series - first);
        let texts = |of: &dyn Fn(usize) -> String| -> anyhow::Result<ArrayRef> {
            let mut column = StringDictionaryBuilder::<Int32Type>::new();
            for which in first..first + count {
                column.append(of(which))?;
            }
            Ok(Arc::new(column.finish()))
        };
        let columns = vec![
            (
                "metric".to_owned(),
                texts(&|which| {
                    ["request_latency", "error_ratio", "cpu_utilization", "request_rate"][which % 4].to_owned()
                })?,
            ),
            ("labels.environment".to_owned(), texts(&|_| "prod".to_owned())?),
            (
                "labels.service".to_owned(),
                texts(&|which| format!("service-{:04}", which / TOGETHER))?,
            ),
            (
                "labels.instance".to_owned(),
                texts(&|which| format!("instance-{:06}", which % TOGETHER / 4))?,
            ),
        ];
        slots.push(Slot { first, count, columns });
    }
    Ok(slots)
}

/// Any number of reproducible bits: SplitMix64's finaliser over a count.
fn bits(at: u64) -> u64 {
    let mut z = at.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Whether a service is bad in that half hour: about one in five hundred is.
fn is_bad(service: usize, ts: i64) -> bool {
    let half = ts.div_euclid(HOUR / 2).unsigned_abs();
    bits(half * 1_000_003 + service as u64).is_multiple_of(500)
}

#[allow(clippy::cast_precision_loss)] // counts far below 2^52
fn value(which: usize, ts: i64, tick: u64) -> f64 {
    let day = (ts as f64 / 86_400_000.0 * std::f64::consts::TAU).sin();
    let noise = (bits(tick << 20 | which as u64) >> 11) as f64 / (1_u64 << 53) as f64;
    let level = 10.0 + (which % 97) as f64;
    let bad = if is_bad(which / TOGETHER, ts) { 5.0 } else { 1.0 };
    level * (1.0 + day / 5.0) * (0.95 + noise / 10.0) * bad
}

/// One tick of a slot as a record's value: some samples late, some missing.
fn record(slot: &Slot, ts: i64, tick: u64) -> anyhow::Result<Vec<u8>> {
    let all = slot.first..slot.first + slot.count;
    let times = all.clone().map(|which| match bits(tick * 31 + which as u64) % 1_000 {
        0 => ts - 20_000,
        1 => ts - 300_000,
        _ => ts,
    });
    let values = all.map(|which| value(which, ts, tick));
    let mut columns: Vec<(String, ArrayRef)> = vec![
        (
            "ts".to_owned(),
            Arc::new(TimestampMillisecondArray::from_iter_values(times)),
        ),
        ("value".to_owned(), Arc::new(Float64Array::from_iter_values(values))),
    ];
    columns.extend(slot.columns.iter().cloned());
    let batch = RecordBatch::try_from_iter(columns)?;
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema())?;
    writer.write(&batch)?;
    writer.finish()?;
    drop(writer);
    Ok(bytes)
}

fn deploy(service: usize, ts: i64) -> anyhow::Result<Vec<u8>> {
    let at = suture_event::Timestamp::from_millis(ts);
    Ok(serde_json::to_vec(&serde_json::json!({
        "context": {
            "version": "0.4.1", "id": format!("deploy-{service}-{ts}"), "source": "/soak", "timestamp": at,
            "type": "dev.cdevents.service.upgraded.0.2.0",
        },
        "subject": {
            "id": format!("service-{service:04}"), "source": "/soak", "type": "service",
            "content": {"environment": {"id": "prod"}, "artifactId": format!("pkg:oci/service-{service}@{ts}")},
        },
    }))?)
}

/// Readings of resident memory, until they are told to end.
struct Readings {
    taken: Arc<Mutex<Vec<u64>>>,
    end: Arc<AtomicBool>,
}

impl Readings {
    fn begin() -> Self {
        let readings = Self {
            taken: Arc::default(),
            end: Arc::default(),
        };
        let (taken, end) = (Arc::clone(&readings.taken), Arc::clone(&readings.end));
        thread::spawn(move || {
            while !end.load(Relaxed) {
                if let Ok(resident) = resident() {
                    taken.lock().unwrap_or_else(PoisonError::into_inner).push(resident);
                }
                thread::sleep(READING);
            }
        });
        readings
    }

    /// Of the readings since the last call, the median and the highest.
    fn hour(&self) -> anyhow::Result<(u64, u64)> {
        let mut taken = std::mem::take(&mut *self.taken.lock().unwrap_or_else(PoisonError::into_inner));
        taken.sort_unstable();
        let median = taken.get(taken.len() / 2).copied();
        median.zip(taken.last().copied()).context("memory could not be read")
    }
}

impl Drop for Readings {
    fn drop(&mut self) {
        self.end.store(true, Relaxed);
    }
}

fn resident() -> anyhow::Result<u64> {
    let text = fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = text.split(' ').nth(1).unwrap_or("0").parse()?;
    Ok(pages * 4_096)
}

#[allow(clippy::cast_precision_loss)] // for display
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Feeds hour after hour, and says what memory there is at the end of each.
fn feed(
    log: &MemoryLog,
    observe: &Metrics,
    decide: &Metrics,
    args: &Args,
    alive: &dyn Fn() -> bool,
) -> anyhow::Result<()> {
    let slots = slots(args.series)?;
    let ticks = (args.samples / args.series.max(1)).max(1);
    let step = HOUR / i64::try_from(ticks)?;
    let telemetry = TopicPartition::new("telemetry", 0);
    let mut appender = log.appender()?;
    let began = Instant::now();
    let readings = Readings::begin();
    let (mut hours, mut tick) = (Vec::new(), 0_u64);
    println!(
        "{} series, a sample each {:.1} s, {} hours",
        args.series,
        step as f64 / 1e3,
        args.hours
    );
    println!("hour   samples     RSS MiB   highest   incidents and such   seconds");
    for hour in 0..args.hours {
        for _ in 0..ticks {
            let ts = START + i64::try_from(tick)? * step;
            if tick.is_multiple_of(7) {
                let service = usize::try_from(bits(tick) % (args.series / TOGETHER).max(1) as u64)?;
                put(appender.as_mut(), "changes", deploy(service, ts)?)?;
            }
            for slot in &slots {
                put(appender.as_mut(), "telemetry", record(slot, ts, tick)?)?;
            }
            tick += 1;
            if tick.is_multiple_of(TRIMMED) {
                trim(log, decide)?;
            }
            wait_until_taken_in(log, observe, &telemetry, BEHIND, alive)?;
            if !alive() {
                return Ok(());
            }
        }
        wait_until_taken_in(log, observe, &telemetry, 0, alive)?;
        // what comes of it is through, and a snapshot has been
        thread::sleep(Duration::from_secs(args.snapshots + 1));
        let (median, highest) = readings.hour()?;
        hours.push(median);
        let outputs: u64 = decide.shards().iter().map(|(_, shard)| shard.outputs.get()).sum();
        println!(
            "{:>4} {:>10} {:>10.1} {:>9.1} {:>12} {:>18.0}",
            hour + 1,
            tick * args.series as u64,
            mebibytes(median),
            mebibytes(highest),
            outputs,
            began.elapsed().as_secs_f64()
        );
    }
    let (first, later) = hours.split_first().context("an hour")?;
    let most = later.iter().max().unwrap_or(first);
    #[allow(clippy::cast_precision_loss)] // for display
    let growth = (*most as f64 / (*first).max(1) as f64 - 1.0) * 100.0;
    println!("growth after the first hour, to the highest of the later: {growth:.1}% (at most {GROWTH}%)");
    let (from, to) = line(later);
    println!(
        "a straight line through the later hours goes from {:.1} to {:.1} MiB: {:+.1}%",
        from,
        to,
        (to / from - 1.0) * 100.0
    );
    anyhow::ensure!(growth < GROWTH, "memory grows");
    Ok(())
}

/// The beginning and the end of the straight line with the least squares through these bytes, in MiB: what the allocator keeps
/// back differs from hour to hour by some MiB, and a line tells that from growth.
#[allow(clippy::cast_precision_loss)] // for display
fn line(hours: &[u64]) -> (f64, f64) {
    let last = hours.len().saturating_sub(1) as f64;
    let mean = hours.iter().map(|bytes| mebibytes(*bytes)).sum::<f64>() / (last + 1.0);
    let middle = last / 2.0;
    let (mut along, mut square) = (0.0, 0.0);
    for (hour, bytes) in hours.iter().enumerate() {
        let off = hour as f64 - middle;
        along += off * (mebibytes(*bytes) - mean);
        square += off * off;
    }
    let slope = if square > 0.0 { along / square } else { 0.0 };
    (mean - slope * middle, mean + slope * middle)
}

/// Lets the log forget what nobody has to read again, as a broker's memory is not the program's either.
fn trim(log: &MemoryLog, decide: &Metrics) -> anyhow::Result<()> {
    for (at, shard) in decide.shards() {
        if let Some(snapshot) = shard.snapshot_offset.get() {
            log.trim(&at, snapshot)?;
        }
    }
    for topic in ["incidents", "remediations", "ledger", "dead-letters"] {
        let at = TopicPartition::new(format!("suture.{topic}"), 0);
        log.trim(&at, log.range(&at)?.end)?;
    }
    Ok(())
}

fn put(appender: &mut dyn Appender, topic: &str, value: Vec<u8>) -> anyhow::Result<()> {
    let record = OutRecord {
        partition: Some(0),
        value: Some(value),
        topic: topic.into(),
        ..OutRecord::default()
    };
    Ok(appender.append(&[record])?)
}

fn wait_until_taken_in(
    log: &MemoryLog,
    observe: &Metrics,
    at: &TopicPartition,
    behind: i64,
    alive: &dyn Fn() -> bool,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let end = log.range(at)?.end;
    loop {
        let shards = observe.shards();
        let position = shards
            .iter()
            .find(|(shard, _)| shard == at)
            .and_then(|(_, shard)| shard.position.get());
        if position.is_some_and(|position| end - position <= behind) {
            return Ok(());
        }
        if !alive() {
            // the planes say themselves what ended them
            return Ok(());
        }
        anyhow::ensure!(
            began.elapsed() < Duration::from_secs(300),
            "observe does not take in what it is fed"
        );
        thread::sleep(Duration::from_millis(1));
    }
}
