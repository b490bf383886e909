//! `suture run`: the planes against Kafka.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use suture_console::{Bounds, Door, Said, Store, access::Role};
use suture_runtime::{Metrics, Shutdown, SystemClock};
use suture_service::{
    assign::Assign,
    beside, load, metrics,
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
    /// Serve the console and its API here, such as `127.0.0.1:8080`. Absent: nowhere.
    #[arg(long, value_name = "ADDRESS", env = "SUTURE_HTTP")]
    http: Option<SocketAddr>,
    /// Who may use it and what they may do: a list of `{who: NAME, role: viewer|operator|approver|admin, sha256: HEX, key: FILE.key}`.
    /// Without it, and on the loopback alone, a token that may look is made and logged.
    #[arg(long, value_name = "TOKENS.yaml", env = "SUTURE_TOKENS", requires = "http")]
    tokens: Option<PathBuf>,
    /// Other bounds of the console than the usual: how much is kept, what requests are held to, what it may be called.
    #[arg(long, value_name = "BOUNDS.yaml", requires = "http")]
    bounds: Option<PathBuf>,
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
        let mut planes = Planes {
            log,
            rekey_log: connect_rekey(&loaded.pipeline)?,
            clock: Arc::new(SystemClock::default()),
            shutdown: shutdown.clone(),
            rekey: Arc::new(Metrics::default()),
            observe: Arc::new(Metrics::default()),
            decide: Arc::new(Metrics::default()),
            assign: args.assign.clone(),
            onlooker: None,
            board: Arc::default(),
        };
        if let Some(address) = args.metrics {
            metrics::serve(address, planes.seen(&loaded.pipeline, plane)).await?;
        }
        if args.http.is_some() {
            console(args, &loaded, &mut planes, plane).await?;
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

/// Serves the console beside the planes, from now on.
async fn console(args: &Args, loaded: &load::Loaded, planes: &mut Planes, which: PlaneChoice) -> anyhow::Result<()> {
    let Some(listen) = args.http else { return Ok(()) };
    let tokens = args.tokens.as_deref();
    let bounds = Bounds::read(args.bounds.as_deref())?;
    let door = Door::new(listen, tokens, bounds.http, "whoever started it", Role::Viewer)?;
    let pipeline = &loaded.pipeline;
    let store = Arc::new(Store::new(bounds.kept, beside::setting(pipeline)));
    let desk = beside::Desk::open(planes.log.as_ref(), pipeline, &door, tokens, planes.clock.clone())?;
    let onto = store.clone();
    planes.onlooker = Some(Arc::new(move |rows| onto.take(rows.into_iter().map(Said::Score))));
    let seen = planes.seen(pipeline, which).planes;
    let _follows = beside::follow(
        planes.log.clone(),
        pipeline.clone(),
        loaded.edges.clone(),
        store.clone(),
        (planes.clock.clone(), planes.shutdown.clone()),
        move |store| {
            let planes: Vec<_> = seen.iter().map(|(name, metrics)| (*name, metrics)).collect();
            store.set_stages(metrics::stages(&planes));
        },
    )?;
    let (url, _) = door.serve(store, Ok(Arc::new(desk)), std::future::pending()).await?;
    tracing::info!(url, "serving the console");
    Ok(())
}
