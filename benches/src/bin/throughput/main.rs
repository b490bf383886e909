//! How fast observe takes samples in from a real broker, beside what a bare consumer and decoder reach in the same run.
//!
//! ```text
//! cargo run --release -p suture-benches --features broker --bin throughput
//! cargo run --release -p suture-benches --features broker --bin throughput -- --samples 6000000 --formats json
//! ```
//!
//! Starts a broker (or takes the one that `--brokers` names), loads the same samples once for each encoding, and reads
//! each topic to its end. The floor is a bare `BaseConsumer` that decodes each JSON record with sonic-rs into a struct
//! that borrows; observe is the program's own plane: group, threads, windows, default detectors, transactions. CPU is that
//! of this process, so the broker's is not in it, and the client library's threads are.

mod floor;
mod load;
mod meter;
mod plane;

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

use clap::{Parser, ValueEnum};

use crate::{broker::Broker, meter::Figure};

/// How samples are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Encoding {
    /// One JSON object a record.
    Json,
    /// An array of objects a record.
    Arrays,
    /// An Arrow IPC stream a record.
    Arrow,
}

/// Measures observe against a real broker.
#[derive(Debug, Clone, Parser)]
struct Args {
    /// Samples in each topic.
    #[arg(long, default_value_t = 3_000_000)]
    samples: usize,
    /// Series they belong to.
    #[arg(long, default_value_t = 100_000)]
    series: usize,
    /// Partitions of each topic.
    #[arg(long, default_value_t = 2)]
    partitions: i32,
    /// Milliseconds between two samples of a series.
    #[arg(long, default_value_t = 1_000)]
    interval: i64,
    /// Samples of an array.
    #[arg(long, default_value_t = 100)]
    array: usize,
    /// Samples of an Arrow record batch.
    #[arg(long, default_value_t = 4_096)]
    batch: usize,
    /// What is measured.
    #[arg(long, value_delimiter = ',', default_values = ["json", "arrays", "arrow"])]
    formats: Vec<Encoding>,
    /// Times that everything is measured; the median counts.
    #[arg(long, default_value_t = 1)]
    rounds: usize,
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
        "{} samples over {} series, one each {} ms, windows of 10 s, {} partitions",
        args.samples, args.series, args.interval, args.partitions
    );
    let run = std::process::id();
    let topic = |encoding: Encoding| format!("throughput-{run}-{encoding:?}").to_lowercase();
    // the floor is always that of single samples
    let mut encodings = vec![Encoding::Json];
    encodings.extend(args.formats.iter().copied().filter(|one| *one != Encoding::Json));
    for encoding in &encodings {
        let bytes = load::load(&brokers, &topic(*encoding), *encoding, &args)?;
        #[allow(clippy::cast_precision_loss)] // for display
        let per_sample = bytes as f64 / args.samples as f64;
        println!("loaded {encoding:?}: {per_sample:.0} bytes a sample");
    }
    let mut floors = Vec::new();
    let mut figures: Vec<(Encoding, Vec<Figure>)> = args.formats.iter().map(|one| (*one, Vec::new())).collect();
    for round in 0..args.rounds {
        floors.push(floor::measure(&brokers, &topic(Encoding::Json), &args)?);
        for (encoding, measured) in &mut figures {
            let group = format!("{run}-{round}-{encoding:?}").to_lowercase();
            measured.push(plane::measure(&brokers, &topic(*encoding), &group, *encoding, &args)?);
        }
    }
    let floor = meter::median(floors);
    println!("\n{}", meter::HEADER);
    println!("{}", meter::row("floor: bare consumer, sonic-rs", &floor, &floor));
    for (encoding, measured) in figures {
        let name = match encoding {
            Encoding::Json => "observe, one JSON sample a record".to_owned(),
            Encoding::Arrays => format!("observe, JSON arrays of {}", args.array),
            Encoding::Arrow => format!("observe, Arrow IPC batches of {}", args.batch),
        };
        println!("{}", meter::row(&name, &meter::median(measured), &floor));
    }
    Ok(())
}
