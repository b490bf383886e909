//! `suture demo`: what to play is asked for here, and what came of it is written.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use suture_demo::{INTERRUPTED, Mode, Options, perform};

/// Shows the whole line at work on a simulated shop that keeps breaking: no broker, no set-up.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Fixes everything that happens in the shop.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How many things break.
    #[arg(long, value_name = "N", default_value_t = 5)]
    faults: usize,
    /// Go on breaking things until told to stop.
    #[arg(long)]
    keep: bool,
    /// Write plain lines, also on a terminal.
    #[arg(long)]
    plain: bool,
    /// Write nothing but the closing table, as JSON.
    #[arg(long)]
    json: bool,
    /// Simulated seconds a second. 450 by default on a live screen; otherwise as fast as it goes.
    #[arg(long, value_name = "X")]
    speed: Option<f64>,
    /// How many days the shop is watched before anything breaks.
    #[arg(long, value_name = "DAYS", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=28))]
    learn: u8,
    /// Also write the screen as a picture, as it is two minutes after the first thing was healed.
    #[arg(long, value_name = "FILE.svg")]
    svg: Option<PathBuf>,
    /// Show it in a browser: prints an address, slows the shop down to be watched, waits a while for you where an action needs
    /// approval, and goes on showing what there was until told to end.
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = "127.0.0.1:0")]
    web: Option<SocketAddr>,
    /// Who may look on there, and what they may do. On the loopback a token is made and printed without it.
    #[arg(long, value_name = "TOKENS.yaml", requires = "web")]
    tokens: Option<PathBuf>,
    /// Be no more than the shop: send its telemetry and deploys to the pipeline's topics on these brokers as time passes, for a `suture
    /// run` to watch.
    #[cfg(feature = "kafka")]
    #[arg(long, value_name = "HOST:PORT,…", requires = "pipeline", conflicts_with_all = ["web", "json", "svg", "speed"])]
    kafka: Option<String>,
    /// The pipeline file for that, which names the topics.
    #[cfg(feature = "kafka")]
    #[arg(long, value_name = "PIPELINE.yaml", requires = "kafka")]
    pipeline: Option<PathBuf>,
    /// The key of role executor with which the shop does what action requests ask for; without one it does nothing.
    #[cfg(feature = "kafka")]
    #[arg(long, value_name = "FILE.key", requires = "kafka")]
    key: Option<PathBuf>,
}

/// Sends the shop's telemetry until told to end.
#[cfg(feature = "kafka")]
fn feed(args: &Args, brokers: &str, pipeline: &std::path::Path) -> anyhow::Result<ExitCode> {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use suture_log::Log;
    use suture_runtime::{Clock, Shutdown, SystemClock};
    let pipeline = suture_service::load::parse(pipeline)?;
    let mut client = pipeline.kafka.client.clone();
    client.insert("bootstrap.servers".to_owned(), brokers.to_owned());
    let log: Arc<dyn Log> = Arc::new(suture_service::run::cluster(client)?);
    let key = match &args.key {
        Some(path) => {
            let key = suture_service::keys::read(path, suture_permit::Role::Executor)?;
            suture_service::keys::require_listed(&pipeline.remediate.keys, &key, path)?;
            Some(key)
        }
        None => None,
    };
    let options = suture_demo::FeedOptions {
        seed: args.seed,
        ..suture_demo::FeedOptions::default()
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let (stop, shutdown) = (Arc::new(AtomicBool::new(false)), Shutdown::new());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async { suture_service::run::listen_for_signals(shutdown.clone()) })?;
    let told = stop.clone();
    runtime.spawn(async move {
        while !shutdown.is_requested() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        told.store(true, Ordering::SeqCst);
    });
    let done = suture_demo::feed(&log, &pipeline, &options, key, &clock, &stop);
    runtime.shutdown_background();
    done.map(|()| ExitCode::SUCCESS)
}

/// Runs the demo and ends with its table.
///
/// # Errors
/// Where a part of it fails, or the picture cannot be written.
pub(crate) fn demo(args: &Args) -> anyhow::Result<ExitCode> {
    #[cfg(feature = "kafka")]
    if let (Some(brokers), Some(pipeline)) = (&args.kafka, &args.pipeline) {
        return feed(args, brokers, pipeline);
    }
    let performance = perform(&args.options())?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&performance.table.json())?);
    } else {
        println!("\n{}", performance.table.text());
    }
    if let (Some(path), Some(picture)) = (&args.svg, performance.picture) {
        std::fs::write(path, picture).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(if performance.over {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(INTERRUPTED)
    })
}

impl Args {
    /// Whether it is the shop alone, which has no screen.
    pub(crate) fn is_feed(&self) -> bool {
        #[cfg(feature = "kafka")]
        {
            self.kafka.is_some()
        }
        #[cfg(not(feature = "kafka"))]
        {
            false
        }
    }

    fn options(&self) -> Options {
        Options {
            seed: self.seed,
            faults: self.faults,
            keep: self.keep,
            mode: match (self.json, self.plain) {
                (true, _) => Mode::Quiet,
                (_, true) => Mode::Plain,
                // the browser has the picture, and the terminal the address
                _ if self.web.is_some() => Mode::Plain,
                _ => Mode::Auto,
            },
            speed: self.speed,
            learn: self.learn,
            picture: self.svg.is_some(),
            web: self.web,
            tokens: self.tokens.clone(),
        }
    }
}
