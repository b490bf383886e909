//! `suture tail`: what a run or a replay has to say, line by line.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, IsTerminal as _, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use serde::{Deserialize, de::DeserializeOwned};
use suture_codec::{cdevents, records};
use suture_engine::Verdict;
use suture_event::{
    ActionRequest, Anomaly, AnomalyPhase, Change, EndReason, Fact, FactBody, Incident, IncidentStatus, LedgerRecord,
    Timestamp,
};
use suture_service::{
    planes::Topics,
    story::{self, Line, Weight},
};

/// Shows anomalies, changes, incidents and actions, one line each, in the words of the log: of a replay's folder, or of the topics
/// of a run, which it follows until Ctrl-C.
#[derive(Debug, clap::Args)]
#[cfg_attr(
    feature = "kafka",
    command(after_help = "Example:\n  suture tail found\n  suture tail --pipeline shop.yaml")
)]
#[cfg_attr(not(feature = "kafka"), command(after_help = "Example:\n  suture tail found"))]
pub(crate) struct Args {
    /// The folder that a replay wrote.
    #[arg(value_name = "DIR", required_unless_present_any = TOPICS)]
    folder: Option<PathBuf>,
    /// The pipeline file, for the broker and the names of its topics.
    #[cfg(feature = "kafka")]
    #[arg(long, value_name = "PIPELINE.yaml", conflicts_with = "folder")]
    pipeline: Option<PathBuf>,
    /// Records of each partition that are shown of before.
    #[cfg(feature = "kafka")]
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(i64).range(0..=1_000_000))]
    back: i64,
    /// End where the topics end, instead of following them.
    #[cfg(feature = "kafka")]
    #[arg(long, requires = "pipeline")]
    once: bool,
    /// Also show groups of anomalies that were no incident, and what they lacked. Of a replay only: topics do not hold them.
    #[arg(long)]
    held: bool,
}

#[cfg(feature = "kafka")]
const TOPICS: [&str; 1] = ["pipeline"];
#[cfg(not(feature = "kafka"))]
const TOPICS: [&str; 0] = [];

/// Shows them.
pub(crate) fn tail(args: &Args) -> anyhow::Result<()> {
    let colours = std::io::stdout().is_terminal();
    let mut out = std::io::stdout().lock();
    if let Some(folder) = &args.folder {
        for (at, line) in of_folder(folder, args.held)? {
            write_line(&mut out, at, &line, colours)?;
        }
        return Ok(());
    }
    #[cfg(feature = "kafka")]
    if let Some(path) = &args.pipeline {
        let pipeline = suture_service::load::parse(path)?;
        let log = suture_service::run::connect(&pipeline)?;
        let topics = Topics::of(&pipeline);
        let names = [&topics.facts, &topics.incidents, &topics.remediations, &topics.ledger];
        let back = suture_service::follow::Back::Records(args.back);
        return suture_service::follow::follow(log.as_ref(), &names, back, args.once, &mut |topic, record| {
            for (at, line) in of_record(&topics, topic, record.value.unwrap_or_default()) {
                write_line(&mut out, at, &line, colours)?;
            }
            Ok(out.flush()?)
        });
    }
    bail!("name the folder of a replay, or a pipeline file with --pipeline")
}

/// Writes a line; one that matters in colour, on a terminal.
fn write_line(out: &mut impl Write, at: Timestamp, line: &Line, colours: bool) -> std::io::Result<()> {
    let (begin, end) = match (colours, line.weight) {
        (true, Weight::Warning) => ("\u{1b}[33m", "\u{1b}[0m"),
        (true, Weight::Alarm) => ("\u{1b}[31m", "\u{1b}[0m"),
        _ => ("", ""),
    };
    writeln!(out, "{} {begin}{}{end}", story::time(at), line.text)
}

/// What a record of one of the program's topics says.
#[cfg_attr(not(feature = "kafka"), allow(dead_code))]
fn of_record(topics: &Topics, topic: &str, value: &[u8]) -> Vec<(Timestamp, Line)> {
    let line = if *topics.facts == *topic {
        records::decode::<Fact>(value).ok().and_then(|fact| match &fact.body {
            FactBody::Anomaly(anomaly) => story::of_anomaly(anomaly).map(|line| (anomaly.at, line)),
            FactBody::Change(change) => Some((change.at, story::of_change(change))),
            _ => None,
        })
    } else if *topics.incidents == *topic {
        let incident = cdevents::read_incident(value).ok();
        incident.and_then(|incident| Some((incident.updated_at, story::of_incident(&incident)?)))
    } else if *topics.remediations == *topic {
        let request = cdevents::read_remediation(value).ok();
        request.map(|request| (request.at, story::of_request(&request)))
    } else {
        let record = records::decode::<LedgerRecord>(value).ok();
        record.and_then(|record| Some((record.at, story::of_ledger(&record)?)))
    };
    line.into_iter().collect()
}

/// An anomaly as a replay writes it.
#[derive(Deserialize)]
struct AnomalyLine {
    #[serde(flatten)]
    raised: Anomaly,
    ended_at: Option<Timestamp>,
    ended: Option<EndReason>,
}

/// The lines of a file in a replay's folder; nothing where it is not there.
fn lines<T: DeserializeOwned>(folder: &Path, name: &str, mut each: impl FnMut(T)) -> anyhow::Result<bool> {
    let path = folder.join(name);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).with_context(|| format!("cannot open {}", path.display())),
    };
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let place = || format!("{}, line {}", path.display(), number + 1);
        let line = line.with_context(place)?;
        each(serde_json::from_str(&line).with_context(place)?);
    }
    Ok(true)
}

/// Everything that a replay's folder has to say, by time.
fn of_folder(folder: &Path, held: bool) -> anyhow::Result<Vec<(Timestamp, Line)>> {
    let mut all: Vec<(Timestamp, Line)> = Vec::new();
    let mut known = lines(folder, "changes.ndjson", |change: Change| {
        all.push((change.at, story::of_change(&change)))
    })?;
    known |= lines(folder, "anomalies.ndjson", |line: AnomalyLine| {
        let AnomalyLine {
            raised,
            ended_at,
            ended,
        } = line;
        all.extend(story::of_anomaly(&raised).map(|line| (raised.at, line)));
        if let Some(at) = ended_at {
            let over = Anomaly {
                at,
                phase: AnomalyPhase::Ended,
                end: ended,
                ..raised
            };
            all.extend(story::of_anomaly(&over).map(|line| (at, line)));
        }
    })?;
    let mut whys = Vec::new();
    if held {
        lines(folder, "verdicts.ndjson", |verdict: Verdict| {
            all.extend(story::of_verdict(&verdict).map(|line| (verdict.at, line)));
            whys.extend(story::why_opened(&verdict).map(|line| (verdict.at, line)));
        })?;
    }
    known |= lines(folder, "incidents.ndjson", |incident: Incident| {
        // only its last state is kept; what it was when it opened is told as far as it can be
        let opened = Incident {
            status: IncidentStatus::Open,
            revision: 1,
            ..incident.clone()
        };
        all.extend(story::of_incident(&opened).map(|line| (incident.opened_at, line)));
        if let Some(at) = incident.resolved_at {
            all.extend(story::of_incident(&incident).map(|line| (at, line)));
        }
    })?;
    // an incident is told before why it opened
    all.append(&mut whys);
    lines(folder, "remediations.ndjson", |request: ActionRequest| {
        all.push((request.at, story::of_request(&request)));
    })?;
    lines(folder, "ledger.ndjson", |record: LedgerRecord| {
        all.extend(story::of_ledger(&record).map(|line| (record.at, line)));
    })?;
    if !known {
        bail!("{}: is it a folder that `suture replay` wrote?", folder.display());
    }
    // those of one time stay as they were put in: causes before effects
    all.sort_by_key(|(at, _)| *at);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_colours_on_a_terminal_alone() {
        let line = Line {
            weight: Weight::Warning,
            text: "incident i-1 opened".to_owned(),
        };
        let written = |colours| {
            let mut out = Vec::new();
            write_line(&mut out, Timestamp::from_millis(0), &line, colours).map(|()| out)
        };
        assert_eq!(
            written(false).ok(),
            Some(b"1970-01-01T00:00:00Z incident i-1 opened\n".to_vec())
        );
        assert!(written(true).is_ok_and(|out| out.contains(&0x1b)));
    }
}
