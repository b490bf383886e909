//! `suture console`: the page over the folder of a replay.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::Context;
use suture_console::{Bounds, Door, access::Role, folder};

/// Shows what a replay found, as a page: incidents with their causes and plots, the ledger, the call graph.
///
/// It prints an address with a token of its own, made anew at each start, and serves until it is told to end. Nothing can be
/// changed there.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  suture replay --pipeline p.yaml --telemetry t.ndjson --out out --scores --explain\n  suture console --from out"
)]
pub(crate) struct Args {
    /// The folder that `suture replay --out` wrote; with `--scores` there are plots.
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// Serve it here; a port of 0 is any that is free.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Who may look: a list of `{who: NAME, role: viewer, sha256: HEX}`. Without it, and on the loopback alone, a token is made
    /// and printed.
    #[arg(long, value_name = "TOKENS.yaml", env = "SUTURE_TOKENS")]
    tokens: Option<PathBuf>,
    /// Other bounds than the usual: how much is kept, and what requests are held to.
    #[arg(long, value_name = "BOUNDS.yaml")]
    bounds: Option<PathBuf>,
}

/// Windows of a series that are kept of a replay, where nothing else is asked for: it is at rest, so that more is no burden.
const POINTS: usize = 10_000;

/// Serves it until it is told to end.
///
/// # Errors
/// Where the folder is none of a replay, or the address cannot be listened on.
pub(crate) fn console(args: &Args) -> anyhow::Result<()> {
    let who = "whoever started it";
    let mut bounds = Bounds::read(args.bounds.as_deref())?;
    if args.bounds.is_none() {
        bounds.kept.points = POINTS;
    }
    let door = Door::new(args.listen, args.tokens.as_deref(), bounds.http, who, Role::Viewer)?;
    let store = Arc::new(folder::read(&args.from, bounds.kept)?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let why = "this is a replay: nothing in it can be changed".to_owned();
        let (url, serving) = door.serve(store, Err(why), told_to_end()).await?;
        println!("{url}");
        serving.await.context("serving")
    })
}

/// Comes back at SIGTERM or Ctrl-C.
async fn told_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
}
