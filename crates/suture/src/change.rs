//! `suture change`: announces a change from a shell, such as the last line of a deploy's script.

use std::sync::Arc;

use anyhow::ensure;
use suture_event::{Change, ChangeKind, Timestamp, stable_uuid};

use crate::announce::{Sink, Where};

/// Announces a change, such as a deploy.
///
/// Example: suture change --service checkout --version 1.2 --environment prod --pipeline shop.yaml
// its --version is the change's
#[derive(Debug, clap::Args)]
#[command(disable_version_flag = true)]
pub(crate) struct Args {
    /// The service that was changed, as its telemetry names it.
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Arc<str>,
    /// The version or artifact that came in.
    #[arg(long, value_name = "VERSION")]
    pub(crate) version: Option<Arc<str>>,
    /// What was changed.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) kind: Kind,
    /// The environment, as telemetry names it.
    #[arg(long, value_name = "NAME")]
    pub(crate) environment: Option<Arc<str>>,
    /// When it was made, as RFC 3339 or a number since the epoch; now where it is left out.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) time: Option<Timestamp>,
    /// An id of the change. One that is announced again under the same id counts once.
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<Arc<str>>,
    /// Who says so.
    #[arg(long, value_name = "SOURCE", default_value = "suture-change")]
    pub(crate) source: Arc<str>,
    /// Where to.
    #[command(flatten)]
    pub(crate) to: Where,
}

/// What was changed.
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
pub(crate) enum Kind {
    /// A version of a service was deployed or upgraded.
    #[default]
    Deploy,
    /// A service was rolled back to an earlier version.
    Rollback,
    /// A service was removed.
    Removal,
    /// An environment or a setting was changed.
    Config,
    /// A feature flag was flipped.
    Flag,
    /// Anything else.
    Other,
}

impl From<Kind> for ChangeKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Deploy => Self::Deploy,
            Kind::Rollback => Self::Rollback,
            Kind::Removal => Self::Removal,
            Kind::Config => Self::Config,
            Kind::Flag => Self::Flag,
            Kind::Other => Self::Other,
        }
    }
}

fn time(text: &str) -> Result<Timestamp, String> {
    let told = match text.parse::<i64>() {
        Ok(number) => Timestamp::from_number(number),
        Err(_) => text.parse(),
    };
    told.map_err(|error| error.to_string())
}

/// Writes the announcement and prints what was announced.
pub(crate) fn change(args: &Args) -> anyhow::Result<()> {
    let clock = suture_runtime::SystemClock::default();
    let change = args.change(suture_runtime::Clock::wall(&clock))?;
    Sink::open(&args.to)?.put(&change)?;
    let version = change
        .artifact
        .as_deref()
        .map_or_else(String::new, |version| format!(" {version}"));
    println!(
        "{} {} {:?} of {}{version}",
        change.id, change.at, change.kind, change.service
    );
    Ok(())
}

impl Args {
    fn change(&self, now: Timestamp) -> anyhow::Result<Change> {
        ensure!(
            !self.service.trim().is_empty(),
            "--service is empty: name the service as its telemetry does"
        );
        let at = self.time.unwrap_or(now);
        let kind = self.kind.into();
        let id = match &self.id {
            Some(id) => id.clone(),
            None => {
                let fields = ("change", &self.service, &self.version, kind, &self.environment, at);
                stable_uuid(&serde_json::to_string(&fields)?).to_string().into()
            }
        };
        Ok(Change {
            id,
            at,
            kind,
            service: self.service.clone(),
            environment: self.environment.clone(),
            artifact: self.version.clone(),
            source: self.source.clone(),
            event_type: suture_codec::cdevents::type_of(kind).into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    #[command(version, propagate_version = true)]
    enum Cli {
        Change(Args),
    }

    fn parse(words: &[&str]) -> Result<Args, clap::Error> {
        let Cli::Change(args) = Cli::try_parse_from([&["suture", "change"], words].concat())?;
        Ok(args)
    }

    #[test]
    fn a_change_is_a_deploy_of_now_unless_it_is_said_otherwise() {
        let now = Timestamp::from_millis(1_661_140_279_000);
        let least = parse(&["--service", "checkout", "--to", "x"])
            .unwrap()
            .change(now)
            .unwrap();
        assert_eq!(
            (least.kind, least.at, &*least.event_type),
            (ChangeKind::Deploy, now, "dev.cdevents.service.deployed.0.3.0")
        );
        let again = parse(&["--service", "checkout", "--to", "x"]).unwrap();
        assert_eq!(again.change(now).unwrap().id, least.id);
        let most = [
            "--service",
            "checkout",
            "--version",
            "1.2",
            "--kind",
            "flag",
            "--environment",
            "prod",
            "--time",
            "1661140279",
            "--id",
            "7",
            "--to",
            "x",
        ];
        let most = parse(&most).unwrap().change(Timestamp::MIN).unwrap();
        assert_eq!(
            (most.kind, most.at, &*most.id, most.artifact.as_deref()),
            (ChangeKind::Flag, now, "7", Some("1.2"))
        );
        assert!(parse(&["--service", "checkout"]).is_err(), "to nowhere");
        assert!(parse(&["--service", "checkout", "--to", "x", "--time", "soon"]).is_err());
        assert!(parse(&["--service", " ", "--to", "x"]).unwrap().change(now).is_err());
    }
}
