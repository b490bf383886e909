//! How long it takes from the record that closes a window to the action request that follows from it, both planes against
//! a real broker, beside what two bare transactions take in the same run.
//!
//! ```text
//! cargo run --release -p suture-benches --features broker --bin latency
//! cargo run --release -p suture-benches --features broker --bin latency -- --requests 1000 --background 20000
//! ```
//!
//! Each request has a scope and four series of its own. Their samples of one window are far above a fixed bound; then, at a
//! moment that a seed gives, comes the sample that closes that window, and the clock runs until a consumer in
//! read_committed has the request. All the while other series send, so that the planes have something to do.
//!
//! The floor is what two hops over topics cost with nothing in between: a record is written in a transaction, read in
//! read_committed, written to another topic in a second transaction, and read there.

mod floor;
mod line;

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

use std::time::Duration;

use clap::Parser;
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};

use crate::broker::Broker;

/// Measures the whole line against a real broker.
#[derive(Debug, Clone, Parser)]
struct Args {
    /// Requests to wait for, and round trips of the floor.
    #[arg(long, default_value_t = 300)]
    requests: usize,
    /// Milliseconds of `kafka.commit_interval`.
    #[arg(long, default_value_t = 100)]
    commit_interval: u64,
    /// Samples a second of other series.
    #[arg(long, default_value_t = 2_000)]
    background: u64,
    /// Partitions of the telemetry.
    #[arg(long, default_value_t = 2)]
    partitions: i32,
    /// What the pauses between requests follow from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The brokers to use instead of one started for the purpose.
    #[arg(long)]
    brokers: Option<String>,
}

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::WARN)
        .init();
    let args = Args::parse();
    let own = args.brokers.is_none().then(Broker::start);
    let brokers = match (&args.brokers, &own) {
        (Some(brokers), _) => brokers.clone(),
        (None, Some(own)) => own.address(),
        (None, None) => anyhow::bail!("no broker"),
    };
    println!(
        "{} requests, commits every {} ms, {} other samples a second",
        args.requests, args.commit_interval, args.background
    );
    // half of the floor before and half after: a machine that other work slows down slows both
    let mut floor = floor::measure(&brokers, "before", args.requests.div_ceil(2))?;
    let line = line::measure(&brokers, &args)?;
    floor.extend(floor::measure(&brokers, "after", args.requests / 2)?);
    let interval = Duration::from_millis(args.commit_interval.max(1));
    println!("\n                                          p50 ms   p99 ms   max ms   p50 and p99 in commit intervals");
    println!("{}", row("floor: two bare transactions", floor, interval));
    println!("{}", row("from closing record to fact", line.fact, interval));
    println!(
        "{}",
        row("from closing record to action request", line.request, interval)
    );
    Ok(())
}

fn row(name: &str, mut times: Vec<Duration>, interval: Duration) -> String {
    times.sort();
    let at = |share: f64| -> Duration {
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss
        )] // small counts
        let place = (times.len() as f64 * share).ceil() as usize;
        times
            .get(place.clamp(1, times.len().max(1)) - 1)
            .copied()
            .unwrap_or_default()
    };
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let intervals = |time: Duration| time.as_secs_f64() / interval.as_secs_f64();
    let (p50, p99) = (at(0.5), at(0.99));
    format!(
        "{name:<40} {:>7.1}  {:>7.1}  {:>7.1}   {:.2} {:.2}",
        millis(p50),
        millis(p99),
        millis(at(1.0)),
        intervals(p50),
        intervals(p99)
    )
}

/// A consumer as an executor would have it, on all of a topic's partitions from their ends on.
fn reader(brokers: &str, topic: &str) -> anyhow::Result<BaseConsumer> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", format!("{topic}-latency"))
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10))?;
    let mut partitions = TopicPartitionList::new();
    for topic in metadata.topics() {
        for partition in topic.partitions() {
            partitions.add_partition_offset(topic.name(), partition.id(), Offset::End)?;
        }
    }
    consumer.assign(&partitions)?;
    Ok(consumer)
}
