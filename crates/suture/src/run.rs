//! `suture run`: the planes against Kafka.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use suture_runtime::{Metrics, Shutdown, SystemClock};
use suture_service::{
    assign::Assign,
    load, metrics,
    run::{PlaneChoice, Planes, connect, connect_rekey, listen_for_signals, prepare},
};

/// Runs a pipeline against Kafka until it is told to end (SIGTERM or Ctrl-C): then it finishes the batch, commits, leaves
/// the group, and exits with 0.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The pipeline file.
    #[arg(value_name = "PIPELINE.yaml")]
    pipeline: PathBuf,
    /// Create the topics that the program owns, where they are missing.
    #[arg(long)]
    create_topics: bool,
    /// Which planes this process runs.
    #[arg(long, value_enum, default_value_t)]
    plane: PlaneArg,
    /// Take these partitions without a group, such as `telemetry:0,1`; once for each topic. Exactly one process may have
    /// a partition: a second one that is given it takes it over for good.
    #[arg(long, value_name = "TOPIC:PARTITIONS")]
    assign: Vec<Assign>,
    /// What series begin with, as `suture train` wrote it, in place of the model that the pipeline names.
    #[arg(long, value_name = "FILE.model")]
    model: Option<PathBuf>,
    /// The key that permits and the ledger are signed with, of role decide, as `suture keys new` wrote it. Without one no executor
    /// that acts takes a request.
    #[arg(long, value_name = "FILE.key", env = "SUTURE_KEY")]
    key: Option<PathBuf>,
    /// Serve /metrics, /healthz and /readyz here, such as `127.0.0.1:9464`. Absent: nowhere.
    #[arg(long, value_name = "ADDRESS", env = "SUTURE_METRICS")]
    metrics: Option<SocketAddr>,
}

/// Which planes a process runs.
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum PlaneArg {
    /// From telemetry to the partitions that its series belong in, and no further: more hands for a pipeline with `rekey`.
    Rekey,
    /// From telemetry to facts, by way of the partitions that its series belong in where the pipeline has `rekey`.
    Observe,
    /// From facts to incidents and action requests.
    Decide,
    /// Everything.
    #[default]
    Both,
}

impl From<PlaneArg> for PlaneChoice {
    fn from(arg: PlaneArg) -> Self {
        match arg {
            PlaneArg::Rekey => Self::Rekey,
            PlaneArg::Observe => Self::Observe,
            PlaneArg::Decide => Self::Decide,
            PlaneArg::Both => Self::Both,
        }
    }
}

/// Runs the pipeline.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let loaded = load::load(&args.pipeline, None)?.with_model(args.model.as_deref())?;
    let loaded = loaded.with_key(args.key.as_deref())?;
    let plane = PlaneChoice::from(args.plane);
    let log = connect(&loaded.pipeline)?;
    let shutdown = Shutdown::new();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let done = runtime.block_on(async {
        listen_for_signals(shutdown.clone())?;
        let pipeline = loaded.pipeline.clone();
        let (prepared, create) = (log.clone(), args.create_topics);
        let ready = tokio::task::spawn_blocking(move || prepare(prepared.as_ref(), &pipeline, create));
        tokio::select! {
            ready = ready => ready.context("preparing the topics")??,
            // nothing has been begun that there is to finish, and a broker that is not there answers late
            () = asked(&shutdown) => return Ok(()),
        }
        let planes = Planes {
            log,
            rekey_log: connect_rekey(&loaded.pipeline)?,
            clock: Arc::new(SystemClock::default()),
            shutdown: shutdown.clone(),
            rekey: Arc::new(Metrics::default()),
            observe: Arc::new(Metrics::default()),
            decide: Arc::new(Metrics::default()),
            assign: args.assign.clone(),
        };
        if let Some(address) = args.metrics {
            metrics::serve(address, planes.seen(&loaded.pipeline, plane)).await?;
        }
        planes.run(&loaded, plane).await
    });
    // what still asks a broker for an answer is not waited for
    runtime.shutdown_background();
    done
}

/// Comes back once the shutdown is asked for.
async fn asked(shutdown: &Shutdown) {
    while !shutdown.is_requested() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
