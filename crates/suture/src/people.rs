//! What people say: approve, deny, undo, freeze, thaw, ack and label, each signed, to the commands topic or a file.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, ensure};
use suture_codec::records;
use suture_config::Pipeline;
use suture_event::{Command, CommandKind, Timestamp, stable_uuid};
use suture_permit::{Role, SecretKey};

/// A word of a human's.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Word {
    /// Let a supervised action go ahead. Two people must where `remediate.two_people` names its service.
    Approve {
        /// The action request's id.
        action: Arc<str>,
        /// By whom, why, and where to.
        #[command(flatten)]
        to: To,
    },
    /// Do not let it.
    Deny {
        /// The action request's id.
        action: Arc<str>,
        /// By whom, why, and where to.
        #[command(flatten)]
        to: To,
    },
    /// Undo an action that was done. This word is the approval of what undoes it.
    Undo {
        /// The action request's id.
        action: Arc<str>,
        /// By whom, why, and where to.
        #[command(flatten)]
        to: To,
    },
    /// Stop what is under way in a scope, between its calls, and let nothing more be done there.
    Freeze {
        /// By whom, why, and where to.
        #[command(flatten)]
        to: To,
    },
    /// Let actions be done again. Permits of before the freeze stay void.
    Thaw {
        /// By whom, why, and where to.
        #[command(flatten)]
        to: To,
    },
    /// Take an incident: nothing more is done for it by itself.
    Ack {
        /// The incident's id.
        incident: Arc<str>,
        /// By whom, why, and where to.
        #[command(flatten)]
        to: To,
    },
    /// Say what an incident really was.
    Label {
        /// The incident's id.
        incident: Arc<str>,
        /// true, false_alarm or maintenance.
        #[arg(value_parser = ["true", "false_alarm", "maintenance"])]
        label: String,
        /// By whom, why, and where to.
        #[command(flatten)]
        to: To,
    },
}

/// Who says it, why, and where to.
#[derive(Debug, clap::Args)]
pub(crate) struct To {
    /// The pipeline file, for the broker and the name of the topic.
    #[arg(long, value_name = "PIPELINE.yaml", env = "SUTURE_PIPELINE")]
    pipeline: PathBuf,
    /// Your key, of role person, as `suture keys new` wrote it.
    #[arg(long, value_name = "FILE.key", env = "SUTURE_KEY")]
    key: PathBuf,
    /// Why: it goes into the ledger.
    #[arg(long)]
    reason: String,
    /// The scope; the pipeline's default one where it is left out.
    #[arg(long)]
    scope: Option<Arc<str>>,
    /// Append to this file, one record a line, in place of the topic.
    #[arg(long, value_name = "FILE.ndjson")]
    file: Option<PathBuf>,
}

impl Word {
    fn parts(&self) -> (CommandKind, &To) {
        match self {
            Self::Approve { action, to } => (CommandKind::Approve { action: action.clone() }, to),
            Self::Deny { action, to } => (CommandKind::Deny { action: action.clone() }, to),
            Self::Undo { action, to } => (CommandKind::Undo { action: action.clone() }, to),
            Self::Freeze { to } => (CommandKind::Freeze, to),
            Self::Thaw { to } => (CommandKind::Thaw, to),
            Self::Ack { incident, to } => (
                CommandKind::Acknowledge {
                    incident: incident.clone(),
                },
                to,
            ),
            Self::Label { incident, label, to } => {
                let (incident, label) = (incident.clone(), label.as_str().into());
                (CommandKind::Label { incident, label }, to)
            }
        }
    }
}

/// Signs a word and writes it.
pub(crate) fn say(word: &Word) -> anyhow::Result<()> {
    let (kind, to) = word.parts();
    let pipeline = suture_service::load::parse(&to.pipeline)?;
    let key = suture_service::keys::read(&to.key, Role::Person)?;
    suture_service::keys::require_listed(&pipeline.remediate.keys, &key, &to.key)?;
    let clock = suture_runtime::SystemClock::default();
    let command = signed(&pipeline, &key, kind, to, suture_runtime::Clock::wall(&clock))?;
    let value = records::encode(&command)?;
    match &to.file {
        Some(path) => append(path, &value)?,
        None => send(&pipeline, &command, value)?,
    }
    println!("{} {} as {} with key {}", command.id, command.at, command.by, key.id());
    Ok(())
}

fn signed(pipeline: &Pipeline, key: &SecretKey, kind: CommandKind, to: &To, at: Timestamp) -> anyhow::Result<Command> {
    ensure!(
        !to.reason.trim().is_empty(),
        "--reason is empty, and the ledger asks why"
    );
    let scope = to.scope.clone().filter(|_| !pipeline.scope.is_one());
    let scope = scope.unwrap_or_else(|| pipeline.scope.default.as_str().into());
    let name = serde_json::to_string(&("command", &scope, at, &kind, key.id()))?;
    let mut command = Command {
        id: stable_uuid(&name).to_string().into(),
        at,
        by: key.who.clone(),
        scope,
        kind,
        reason: to.reason.clone(),
        seal: None,
    };
    command.seal = Some(key.sign(&command));
    Ok(command)
}

fn append(path: &Path, value: &[u8]) -> anyhow::Result<()> {
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    let mut file = file.with_context(|| format!("cannot open {}", path.display()))?;
    let line = [value, b"\n"].concat();
    file.write_all(&line)
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(feature = "kafka")]
fn send(pipeline: &Pipeline, command: &Command, value: Vec<u8>) -> anyhow::Result<()> {
    let log = suture_service::run::connect(pipeline)?;
    let topics = suture_service::planes::Topics::of(pipeline);
    let record = suture_log::OutRecord::new(topics.commands, command.scope.as_bytes(), value);
    log.appender()?.append(&[record])?;
    Ok(())
}

#[cfg(not(feature = "kafka"))]
fn send(_: &Pipeline, _: &Command, _: Vec<u8>) -> anyhow::Result<()> {
    anyhow::bail!("this build knows no broker: write to a file with --file")
}
