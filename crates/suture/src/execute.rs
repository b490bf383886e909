//! `suture execute`: a stock executor for the remediation topic.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use suture_event::{Span, Timestamp};
use suture_executor::{DryRun, Executor, Kit, Options, Unlisted, Webhook, WebhookOptions};
use suture_log::Log;
use suture_permit::{Role, SecretKey};

use suture_service::{load, planes::Topics};

/// Reads action requests of a pipeline, acts on those that may be acted on, once each, and writes what became of them.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("executor").required(true).args(["dry_run", "webhook"])))]
pub(crate) struct Args {
    /// The pipeline file, for the broker and the names of the topics.
    #[arg(value_name = "PIPELINE.yaml")]
    pipeline: PathBuf,
    /// Touch nothing: say what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Post each request to this address as JSON, with the header Idempotency-Key.
    #[arg(long, value_name = "URL")]
    webhook: Option<String>,
    /// A header to send along, such as "X-Team: shop". May be given several times. What is secret does not belong on a command
    /// line, which every process can read: see --header-file and --header-env.
    #[arg(long, value_name = "NAME: VALUE", requires = "webhook")]
    header: Vec<String>,
    /// A file of headers to send along, one a line as NAME: VALUE.
    #[arg(long, value_name = "FILE", requires = "webhook")]
    header_file: Option<PathBuf>,
    /// A header whose value is in a variable of the environment. May be given several times.
    #[arg(long, value_name = "NAME=VARIABLE", requires = "webhook")]
    header_env: Vec<String>,
    /// Post to an address of plain HTTP on another machine all the same.
    #[arg(long, requires = "webhook")]
    plain_http: bool,
    /// The key that outcomes are signed with, of role executor and this executor's name, as `suture keys new` wrote it.
    #[arg(long, value_name = "FILE.key", env = "SUTURE_KEY")]
    key: Option<PathBuf>,
    /// How long one call may take.
    #[arg(long, value_name = "SPAN", default_value = "30s", requires = "webhook")]
    timeout: Span,
    /// How often a call that failed for the moment is made again.
    #[arg(long, value_name = "N", default_value_t = 3, requires = "webhook")]
    retries: u32,
    /// Actions it may do, as globs. May be given several times; all by default.
    #[arg(long = "action", value_name = "GLOB", default_value = "*")]
    actions: Vec<String>,
    /// Services it may touch, as globs. May be given several times; all by default.
    #[arg(long = "target", value_name = "GLOB", default_value = "*")]
    targets: Vec<String>,
    /// Leave requests for other actions to other executors, rather than refuse them.
    #[arg(long)]
    leave_others: bool,
    /// Who it is in outcomes, and its consumer group. Processes of one name share the work.
    #[arg(long, value_name = "NAME", default_value = "suture-execute")]
    name: String,
}

/// How long what is under way may take to end, on top of what the kit itself allows.
const DRAIN: Duration = Duration::from_secs(1);

/// Runs the executor until SIGTERM or Ctrl-C.
pub(crate) fn execute(args: &Args) -> anyhow::Result<()> {
    let pipeline = load::parse(&args.pipeline)?;
    let log = suture_service::run::connect(&pipeline)?;
    let topics = Topics::of(&pipeline);
    let options = Options {
        name: args.name.clone(),
        group: args.name.clone(),
        requests: topics.remediations.to_string(),
        outcomes: topics.outcomes.to_string(),
        commands: topics.commands.to_string(),
        one_scope: pipeline.scope.is_one(),
        service_budget: budget(pipeline.remediate.budget.service),
        pipeline_budget: budget(pipeline.remediate.budget.pipeline),
        keys: pipeline.remediate.keys.clone(),
        policy: pipeline.remediate.policy.clone(),
        actions: args.actions.clone(),
        targets: args.targets.clone(),
        unlisted: if args.leave_others {
            Unlisted::Leave
        } else {
            Unlisted::Refuse
        },
        ..Options::default()
    };
    let key = match &args.key {
        Some(path) => {
            let key = suture_service::keys::read(path, Role::Executor)?;
            suture_service::keys::require_listed(&options.keys, &key, path)?;
            anyhow::ensure!(
                *key.who == *options.name,
                "{}: the key is {}'s, and this executor is called {}: see --name",
                path.display(),
                key.who,
                options.name
            );
            Some(key)
        }
        None if options.keys.has(Role::Executor) => anyhow::bail!(
            "the pipeline lists keys of executors, so that nobody believes an outcome which is not signed: give --key"
        ),
        None => None,
    };
    match &args.webhook {
        Some(url) => {
            let webhook = WebhookOptions {
                url: url.clone(),
                plain_http: args.plain_http,
                headers: args.headers()?,
                timeout: args.timeout,
                retries: args.retries,
                ..WebhookOptions::default()
            };
            work(log, Webhook::new(&webhook)?, options, key)
        }
        None => work(log, DryRun, options, key),
    }
}

fn budget(budget: suture_remediate::Budget) -> suture_executor::Budget {
    suture_executor::Budget {
        actions: budget.actions,
        per: budget.per,
    }
}

impl Args {
    fn headers(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let mut all = headers(&self.header)?;
        if let Some(path) = &self.header_file {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            let lines: Vec<String> = text
                .lines()
                .filter(|l| !l.trim().is_empty())
                .map(str::to_owned)
                .collect();
            // not with what it says, which is secret
            all.extend(
                headers(&lines)
                    .map_err(|_| anyhow::anyhow!("{}: a line is no header: write NAME: VALUE", path.display()))?,
            );
        }
        for text in &self.header_env {
            let (name, variable) = text
                .split_once('=')
                .with_context(|| format!("{text:?} names no variable: write NAME=VARIABLE"))?;
            let value = std::env::var(variable).with_context(|| format!("variable {variable} of --header-env"))?;
            all.insert(name.trim().to_owned(), value);
        }
        Ok(all)
    }
}

fn headers(texts: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let parse = |text: &String| {
        let (name, value) = text
            .split_once(':')
            .with_context(|| format!("{text:?} is no header: write NAME: VALUE"))?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    };
    texts.iter().map(parse).collect()
}

/// Works until told to stop.
fn work<E: Executor>(log: Arc<dyn Log>, executor: E, options: Options, key: Option<SecretKey>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let handle = runtime.handle().clone();
    let done = runtime.block_on(async {
        let shutdown = suture_runtime::Shutdown::new();
        suture_service::run::listen_for_signals(shutdown.clone())?;
        let stop = Arc::new(AtomicBool::new(false));
        let clock = suture_runtime::SystemClock::default();
        let wall = move || -> Timestamp { suture_runtime::Clock::wall(&clock) };
        let mut kit = Kit::new(log, executor, options, handle, wall)?;
        if let Some(key) = key {
            kit = kit.signed_with(key);
        }
        let stopping = stop.clone();
        let mut working = tokio::task::spawn_blocking(move || kit.run(&stopping));
        loop {
            tokio::select! {
                done = &mut working => return Ok::<_, anyhow::Error>(done.context("the executor's thread")??),
                () = tokio::time::sleep(Duration::from_millis(50)) => stop.store(shutdown.is_requested(), Ordering::Relaxed),
            }
        }
    });
    runtime.shutdown_timeout(DRAIN);
    done
}
