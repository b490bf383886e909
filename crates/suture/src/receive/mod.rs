//! `suture receive`: takes the webhooks by which tools announce changes, and puts them on the topic of changes.
//!
//! Each tool has a path of its own, `POST /github` and so on. A request is taken where its signature is right and it is a
//! change; the answer comes when it is written, so that a tool that got none sends it again.

mod signature;

use std::{future::Future, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    routing::post,
};
use suture_codec::{ChangeEvent, ChangeFormat};
use suture_event::HeadersBuf;
use tokio::{net::TcpListener, sync::Semaphore};

use self::signature::{Proof, Secret};
use crate::announce::{Sink, Where};

/// Requests that are dealt with at once; others are told to come again.
const AT_ONCE: usize = 64;
/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a body that is taken, unless it is said otherwise: GitHub's are at most 25 MB, those of deployments some 20 kB.
const MOST_BYTES: usize = 1 << 20;

/// Takes webhooks that announce changes, and puts them on the topic of changes.
///
/// Paths: /github, /gitlab, /launchdarkly, /terraform, /flux, /argocd, /kubernetes, /cdevents and /plain. Secrets come from files
/// or from the environment (`SUTURE_GITHUB_SECRET`, `SUTURE_GITLAB_TOKEN`, `SUTURE_LAUNCHDARKLY_SECRET`,
/// `SUTURE_TERRAFORM_TOKEN`, and `SUTURE_RECEIVE_TOKEN` for the others, as `Authorization: Bearer TOKEN`).
///
/// Example: suture receive --listen 0.0.0.0:8088 --github-secret-file github.secret --pipeline shop.yaml
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to listen; port 0 takes one that is free.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8088")]
    pub(crate) listen: SocketAddr,
    /// A file with the secret of GitHub's webhook.
    #[arg(long, value_name = "FILE")]
    pub(crate) github_secret_file: Option<PathBuf>,
    /// A file with the secret token of GitLab's webhook.
    #[arg(long, value_name = "FILE")]
    pub(crate) gitlab_token_file: Option<PathBuf>,
    /// A file with the signing secret of LaunchDarkly's webhook.
    #[arg(long, value_name = "FILE")]
    pub(crate) launchdarkly_secret_file: Option<PathBuf>,
    /// A file with the token of Terraform's notification.
    #[arg(long, value_name = "FILE")]
    pub(crate) terraform_token_file: Option<PathBuf>,
    /// A file with the token that the other tools send, and by which Flux's `generic-hmac` signs.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Take what tools send for which there is no secret. Whoever reaches the address can then announce changes.
    #[arg(long)]
    pub(crate) unsigned: bool,
    /// Bytes of a body that is taken.
    #[arg(long, value_name = "BYTES", default_value_t = MOST_BYTES)]
    pub(crate) most_bytes: usize,
    /// Where to.
    #[command(flatten)]
    pub(crate) to: Where,
}

/// A tool that announces changes: its path, its format, and how it proves itself.
struct Tool {
    name: &'static str,
    format: ChangeFormat,
    proof: Proof,
    secret: Option<Secret>,
}

struct Receiver {
    tools: Vec<Tool>,
    unsigned: bool,
    most_bytes: usize,
    at_once: Semaphore,
    sink: Arc<Sink>,
}

/// Serves until it is told to stop.
pub(crate) fn receive(args: &Args) -> anyhow::Result<()> {
    let receiver = args.receiver(&|name| std::env::var(name).ok())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(args.listen).await;
        let listener = listener.with_context(|| format!("cannot listen on {}", args.listen))?;
        println!("listening on http://{}", listener.local_addr()?);
        serve(listener, receiver, stopped()?).await
    })
}

/// Comes back when the process is told to stop.
fn stopped() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

async fn serve(
    listener: TcpListener,
    receiver: Receiver,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let router = Router::new()
        .route("/{tool}", post(take))
        .with_state(Arc::new(receiver));
    axum::serve(listener, router).with_graceful_shutdown(stop).await?;
    Ok(())
}

impl Args {
    fn receiver(&self, environment: &dyn Fn(&str) -> Option<String>) -> anyhow::Result<Receiver> {
        let read = |file: &Option<PathBuf>, variable: &str| Secret::read(file.as_deref(), variable, environment);
        let github = read(&self.github_secret_file, "SUTURE_GITHUB_SECRET")?;
        let gitlab = read(&self.gitlab_token_file, "SUTURE_GITLAB_TOKEN")?;
        let launchdarkly = read(&self.launchdarkly_secret_file, "SUTURE_LAUNCHDARKLY_SECRET")?;
        let terraform = read(&self.terraform_token_file, "SUTURE_TERRAFORM_TOKEN")?;
        let token = read(&self.token_file, "SUTURE_RECEIVE_TOKEN")?;
        let tool = |name, format, proof, secret: &Option<Secret>| Tool {
            name,
            format,
            proof,
            secret: secret.clone(),
        };
        let tools = vec![
            tool("github", ChangeFormat::Github, Proof::Github, &github),
            tool("gitlab", ChangeFormat::Gitlab, Proof::Gitlab, &gitlab),
            tool(
                "launchdarkly",
                ChangeFormat::Launchdarkly,
                Proof::Launchdarkly,
                &launchdarkly,
            ),
            tool("terraform", ChangeFormat::Terraform, Proof::Terraform, &terraform),
            tool("flux", ChangeFormat::Flux, Proof::Flux, &token),
            tool("argocd", ChangeFormat::Argocd, Proof::Bearer, &token),
            tool("kubernetes", ChangeFormat::Kubernetes, Proof::Bearer, &token),
            tool("cdevents", ChangeFormat::Cdevents, Proof::Bearer, &token),
            tool("plain", ChangeFormat::Plain, Proof::Bearer, &token),
        ];
        let open: Vec<&str> = tools
            .iter()
            .filter(|tool| tool.secret.is_none())
            .map(|tool| tool.name)
            .collect();
        if !self.unsigned && open.len() == tools.len() {
            anyhow::bail!(
                "there is no secret for any tool, so that every request would be refused: name one, such as --github-secret-file \
                 FILE, or take all with --unsigned"
            );
        }
        if self.unsigned && !open.is_empty() && !self.listen.ip().is_loopback() {
            tracing::warn!(
                listen = %self.listen,
                tools = open.join(", "),
                "whoever reaches this address can announce changes of these tools: they have no secret"
            );
        }
        Ok(Receiver {
            tools,
            unsigned: self.unsigned,
            most_bytes: self.most_bytes,
            at_once: Semaphore::new(AT_ONCE),
            sink: Arc::new(Sink::open(&self.to)?),
        })
    }
}

type Answer = (StatusCode, String);

async fn take(
    State(receiver): State<Arc<Receiver>>,
    Path(tool): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let answer = match receiver.deal_with(&tool, &headers, body).await {
        Ok(answer) | Err(answer) => answer,
    };
    if answer.0.is_client_error() || answer.0.is_server_error() {
        tracing::warn!(path = %tool, status = answer.0.as_u16(), "{}", answer.1);
    } else {
        tracing::info!(path = %tool, "{}", answer.1);
    }
    (answer.0, format!("{}\n", answer.1))
}

impl Receiver {
    async fn deal_with(&self, path: &str, headers: &HeaderMap, body: Body) -> Result<Answer, Answer> {
        let Some(tool) = self.tools.iter().find(|tool| tool.name == path) else {
            let known: Vec<&str> = self.tools.iter().map(|tool| tool.name).collect();
            return Err((
                StatusCode::NOT_FOUND,
                format!("no such path: there are /{}", known.join(", /")),
            ));
        };
        let Ok(_place) = self.at_once.try_acquire() else {
            return Err((
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{AT_ONCE} requests are under way: come again"),
            ));
        };
        let body = tokio::time::timeout(PATIENCE, to_bytes(body, self.most_bytes)).await;
        let body = body.map_err(|_| {
            (
                StatusCode::REQUEST_TIMEOUT,
                "the body did not arrive in time".to_owned(),
            )
        })?;
        let too_large = || {
            format!(
                "the body is larger than {} bytes, or broke off: see --most-bytes",
                self.most_bytes
            )
        };
        let body = body.map_err(|_| (StatusCode::PAYLOAD_TOO_LARGE, too_large()))?;
        match &tool.secret {
            Some(secret) => {
                let checked = signature::check(tool.proof, secret, headers, &body);
                checked.map_err(|reason| (StatusCode::UNAUTHORIZED, reason))?;
            }
            None if self.unsigned => {}
            None => {
                let reason = format!("there is no secret for {path} here, and what is not signed is refused");
                return Err((StatusCode::UNAUTHORIZED, reason));
            }
        }
        // CloudEvents over HTTP have their attributes in `ce-` headers, and in `ce_` ones on Kafka
        let mut carried = HeadersBuf::default();
        for (name, value) in headers {
            let name = name.as_str();
            match name.strip_prefix("ce-") {
                Some(attribute) => carried.push(&format!("ce_{attribute}"), Some(value.as_bytes())),
                None if name == "content-type" => carried.push(name, Some(value.as_bytes())),
                None => {}
            }
        }
        let event = tool.format.decoder().decode(carried.as_headers(), Some(&body));
        let change = match event.map_err(|error| (StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))? {
            ChangeEvent::Ignored(what) => return Ok((StatusCode::OK, format!("no change, passed over: {what}"))),
            ChangeEvent::Change(change) => change,
        };
        let (sink, written) = (self.sink.clone(), change.clone());
        let done = tokio::task::spawn_blocking(move || sink.put(&written)).await;
        let failed = |error: anyhow::Error| (StatusCode::SERVICE_UNAVAILABLE, format!("not written: {error:#}"));
        done.map_err(|error| failed(error.into()))?.map_err(failed)?;
        Ok((
            StatusCode::ACCEPTED,
            format!(
                "{:?} of {} at {}: {}",
                change.kind, change.service, change.at, change.id
            ),
        ))
    }
}

#[cfg(test)]
mod tests;
