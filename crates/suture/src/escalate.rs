//! `suture escalate`: calls humans when an incident needs one.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use suture_escalate::{Caller, Desk, Pager, Topics};
use suture_service::{load, planes, run};

/// Reads the ledger of a pipeline and calls whom its `escalate` names, once for each incident, until the incident is resolved.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The pipeline file.
    #[arg(value_name = "PIPELINE.yaml")]
    pipeline: PathBuf,
    /// Its consumer group; processes of one share the work.
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
}

/// Works until SIGTERM or Ctrl-C.
pub(crate) fn escalate(args: &Args) -> anyhow::Result<()> {
    let pipeline = load::parse(&args.pipeline)?;
    let options = pipeline.escalate.as_ref().with_context(|| {
        format!(
            "{}: has no `escalate`: write whom to call under it, as docs/safety.md shows",
            args.pipeline.display()
        )
    })?;
    let folder = args.pipeline.parent().unwrap_or(Path::new("."));
    let caller = Caller::new(options, folder, &|name| std::env::var(name).ok())?;
    let names = planes::Topics::of(&pipeline);
    let topics = Topics {
        ledger: names.ledger,
        dead_letters: names.dead_letters,
    };
    let group = args.group.clone().unwrap_or_else(|| pipeline.escalate_group());
    let log = run::connect(&pipeline)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let desk = Desk::new(
        log,
        caller,
        Pager::new(&options.on),
        topics,
        group,
        runtime.handle().clone(),
    );
    let done = runtime.block_on(async {
        let shutdown = suture_runtime::Shutdown::new();
        run::listen_for_signals(shutdown.clone())?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let mut working = tokio::task::spawn_blocking(move || desk.run(&stopping));
        loop {
            tokio::select! {
                done = &mut working => return Ok::<_, anyhow::Error>(done.context("the desk's thread")??),
                () = tokio::time::sleep(Duration::from_millis(50)) => stop.store(shutdown.is_requested(), Ordering::Relaxed),
            }
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}
