//! `suture explain`: the story of an incident, or what was missing where none opened, from the files of a replay.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail};
use clap::Parser;
use serde::{Deserialize, de::DeserializeOwned};
use suture_engine::{Verdict, VerdictOutcome};
use suture_event::{Direction, EvidenceKind, Hypothesis, Incident, LedgerRecord, Span, Timestamp};

/// Tell the story of an incident: what happened when, who is suspected, what speaks for and against, why it opened when it
/// did, and what would change the verdict.
///
/// Reads the folder that `suture replay --out` wrote. Without an incident it lists them all.
#[derive(Debug, Parser)]
#[command(
    after_help = "Example:\n  suture explain --from out\n  suture explain --from out 3f9c\n  suture explain --from out --near 2026-03-01T10:05:00Z"
)]
pub(crate) struct Args {
    /// The incident's id, or how it begins.
    incident: Option<String>,
    /// The folder of the replay.
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// What was made of the anomalies around a time, where no incident opened: RFC 3339.
    #[arg(long, value_name = "TIME", conflicts_with = "incident")]
    near: Option<String>,
    /// How far around that time to look.
    #[arg(long, value_name = "SPAN", default_value = "15m", requires = "near")]
    within: Span,
}

/// An anomaly as the replay wrote it.
#[derive(Debug, Deserialize)]
struct Seen {
    id: Arc<str>,
    at: Timestamp,
    metric: Arc<str>,
    direction: Direction,
    deviation: f64,
    value: Option<f64>,
    expected: f64,
    detail: String,
}

struct Folder {
    incidents: Vec<Incident>,
    anomalies: BTreeMap<Arc<str>, Seen>,
    verdicts: Vec<Verdict>,
    ledger: Vec<LedgerRecord>,
}

impl Folder {
    fn read(folder: &Path) -> anyhow::Result<Self> {
        let anomalies: Vec<Seen> = lines(folder, "anomalies.ndjson")?;
        Ok(Self {
            incidents: lines(folder, "incidents.ndjson")?,
            anomalies: anomalies.into_iter().map(|seen| (Arc::clone(&seen.id), seen)).collect(),
            verdicts: lines(folder, "verdicts.ndjson")?,
            ledger: lines(folder, "ledger.ndjson")?,
        })
    }
}

fn lines<T: DeserializeOwned>(folder: &Path, name: &str) -> anyhow::Result<Vec<T>> {
    let path = folder.join(name);
    let file = File::open(&path).with_context(|| {
        format!(
            "cannot read {}: --from takes the folder that `suture replay --out` wrote",
            path.display()
        )
    })?;
    let read = BufReader::new(file).lines().zip(1..).map(|(line, number)| {
        let place = || format!("{}, line {number}", path.display());
        serde_json::from_str(&line.with_context(place)?).with_context(place)
    });
    read.collect()
}

/// Prints it.
///
/// # Errors
/// Where the folder is none of a replay, or there is no such incident.
pub(crate) fn explain(args: &Args) -> anyhow::Result<()> {
    let folder = Folder::read(&args.from)?;
    let text = match (&args.incident, &args.near) {
        (Some(id), _) => {
            let mut found = folder
                .incidents
                .iter()
                .filter(|incident| incident.id.starts_with(id.as_str()));
            match (found.next(), found.next()) {
                (Some(incident), None) => story(incident, &folder),
                (None, _) => bail!("no incident's id begins with {id:?}: without an id all are listed"),
                (Some(_), Some(_)) => bail!("more than one incident's id begins with {id:?}: give more of it"),
            }
        }
        (None, Some(near)) => {
            let at: Timestamp = near.parse().with_context(|| format!("--near {near:?}"))?;
            around(at, args.within, &folder)
        }
        (None, None) => list(&folder),
    };
    print!("{text}");
    Ok(())
}

fn list(folder: &Folder) -> String {
    if folder.incidents.is_empty() {
        return "No incident opened. `--near TIME` says what was made of the anomalies around a time.\n".to_owned();
    }
    let mut text = String::new();
    for incident in &folder.incidents {
        let _ = writeln!(text, "{}  {}  {}", incident.id, incident.opened_at, incident.title);
    }
    text
}

fn story(incident: &Incident, folder: &Folder) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{}\n", incident.title);
    let end = match (incident.resolved_at, incident.resolution) {
        (Some(at), Some(how)) => format!("ended {at} ({})", word(&how)),
        (Some(at), None) => format!("ended {at}"),
        (None, _) => "is open".to_owned(),
    };
    let _ = writeln!(
        text,
        "Incident {} in scope {}, {}: opened {}, {end}.",
        incident.id,
        incident.scope,
        word(&incident.severity),
        incident.opened_at
    );
    why_then(incident, folder, &mut text);
    timeline(incident, folder, &mut text);
    suspects(incident, &mut text);
    turn(incident, &mut text);
    text
}

fn why_then(incident: &Incident, folder: &Folder, text: &mut String) {
    let opened = folder
        .verdicts
        .iter()
        .find(|verdict| matches!(&verdict.outcome, VerdictOutcome::Opened { incident: id } if *id == incident.id));
    let Some(opened) = opened else { return };
    let _ = write!(
        text,
        "It opened then because its signals rose {:.1} nats above chance, and {:.1} were enough",
        opened.height, opened.bar
    );
    match &opened.change {
        Some(change) => {
            let _ = writeln!(text, ", so soon after {change}.");
        }
        None => text.push_str(".\n"),
    }
    let first = incident.signals.iter().map(|signal| signal.onset).min();
    let before = folder.verdicts.iter().filter(|verdict| {
        verdict.at < incident.opened_at
            && first.is_some_and(|first| verdict.at >= first)
            && verdict.service == opened.service
    });
    for verdict in before {
        let _ = writeln!(text, "  {}  {}", verdict.at, outcome(verdict));
    }
}

fn timeline(incident: &Incident, folder: &Folder, text: &mut String) {
    text.push_str("\nWhat happened\n");
    let mut events: Vec<(Timestamp, String)> = Vec::new();
    for signal in &incident.signals {
        let told = match folder.anomalies.get(&signal.anomaly) {
            Some(seen) => numbers(seen),
            None => format!("{} {}", signal.metric, side(signal.direction)),
        };
        let service = signal.service.as_deref().unwrap_or("the scope");
        let mark = if signal.opening { "" } else { ", joined" };
        events.push((signal.onset, format!("{service}: {told}{mark}")));
        if signal.state != suture_event::SignalState::Active {
            let state = word(&signal.state);
            events.push((signal.since, format!("{service}: {} {state}", signal.metric)));
        }
    }
    events.push((incident.opened_at, "the incident opens".to_owned()));
    if let Some(at) = incident.resolved_at {
        events.push((at, "the incident ends".to_owned()));
    }
    let of_it = |record: &&LedgerRecord| record.body.get("incident").and_then(|id| id.as_str()) == Some(&incident.id);
    for record in folder.ledger.iter().filter(of_it) {
        let why = ["reason", "why"]
            .into_iter()
            .find_map(|key| record.body.get(key)?.as_str());
        let why = why.map_or_else(String::new, |why| format!(": {why}"));
        events.push((record.at, format!("ledger {} {}{why}", record.seq, record.kind)));
    }
    events.sort_by_key(|event| event.0);
    for (at, what) in events {
        let _ = writeln!(text, "  {at}  {what}");
    }
    if incident.signals_left_out > 0 {
        let _ = writeln!(
            text,
            "  and {} signals more, beyond the bound",
            incident.signals_left_out
        );
    }
}

fn suspects(incident: &Incident, text: &mut String) {
    text.push_str("\nSuspects\n");
    for hypothesis in &incident.hypotheses {
        let _ = writeln!(text, "  {}. {}", hypothesis.rank, name(hypothesis));
        let (quiet, other): (Vec<_>, Vec<_>) = hypothesis
            .evidence
            .iter()
            .partition(|evidence| evidence.kind == EvidenceKind::Quiet);
        let by_sign = |sign: &str, wanted: fn(f64) -> bool, text: &mut String| {
            for evidence in other.iter().filter(|evidence| wanted(evidence.weight)) {
                let _ = writeln!(text, "     {sign} {:+.1}  {}", evidence.weight, evidence.detail);
            }
        };
        by_sign("for    ", |weight| weight > 0.0, text);
        by_sign("against", |weight| weight < 0.0, text);
        for evidence in quiet {
            let _ = writeln!(
                text,
                "     looked at, found nothing {:+.1}  {}",
                evidence.weight, evidence.detail
            );
        }
    }
    let _ = writeln!(text, "  none of these: {:.1}%", 100.0 * incident.none_of_these);
}

/// What the first place rests on: pieces of evidence without which another would be first.
fn turn(incident: &Incident, text: &mut String) {
    let (Some(first), Some(second)) = (incident.hypotheses.first(), incident.hypotheses.get(1)) else {
        return;
    };
    let margin = (first.probability.max(1e-12) / second.probability.max(1e-12)).ln();
    let _ = writeln!(
        text,
        "\nWhat would change the verdict\n  {} leads {} by {margin:.1} in log-odds.",
        name(first),
        name(second)
    );
    let rests = first.evidence.iter().filter(|evidence| evidence.weight > margin);
    let mut any = false;
    for evidence in rests {
        any = true;
        let _ = writeln!(text, "  Without this it might not be first: {}", evidence.detail);
    }
    if !any {
        text.push_str("  No single piece of evidence decides it.\n");
    }
}

fn around(at: Timestamp, within: Span, folder: &Folder) -> String {
    let (from, to) = (at.minus(within), at.plus(within));
    let mut text = String::new();
    let near: Vec<&Verdict> = folder
        .verdicts
        .iter()
        .filter(|verdict| verdict.at >= from && verdict.at <= to)
        .collect();
    let seen: Vec<&Seen> = folder
        .anomalies
        .values()
        .filter(|seen| seen.at >= from && seen.at <= to)
        .collect();
    let _ = writeln!(text, "From {from} to {to}: {} anomalies were raised.", seen.len());
    if near.is_empty() {
        let why = if seen.is_empty() {
            "Nothing left its band, so there was nothing to judge. `suture replay --explain` says how each series is watched."
        } else {
            "None of them stood out from what such series do by chance."
        };
        let _ = writeln!(text, "{why}");
    }
    let mut last = None;
    for verdict in near {
        let key = (&verdict.service, &verdict.outcome, &verdict.signals);
        if last == Some(key) {
            continue;
        }
        last = Some(key);
        let _ = writeln!(text, "  {}  {}", verdict.at, outcome(verdict));
        let _ = writeln!(text, "      {}", verdict.signals.join(", "));
    }
    for incident in &folder.incidents {
        let over = incident.resolved_at.unwrap_or(Timestamp::MAX);
        if incident.opened_at <= to && over >= from {
            let _ = writeln!(
                text,
                "Open then: {} since {}: {}",
                incident.id, incident.opened_at, incident.title
            );
        }
    }
    text
}

/// What came of a group, in words.
fn outcome(verdict: &Verdict) -> String {
    let place = verdict.service.as_deref().unwrap_or("the scope");
    let what = format!("{} in {place}", verdict.class);
    let reach = format!("{:.1} of the {:.1} nats asked", verdict.height, verdict.bar);
    match &verdict.outcome {
        VerdictOutcome::Opened { incident } => format!("{what}: opened {incident}, {reach}"),
        VerdictOutcome::Joined { incident } => format!("{what}: taken for part of {incident}"),
        VerdictOutcome::BelowBar => {
            let missing = verdict.bar - verdict.height;
            format!(
                "{what}: {reach}, so {missing:.1} were missing; stronger or more signals, or a change just before, would do"
            )
        }
        VerdictOutcome::Passed => format!("{what}: {reach}, and inside its band again before it opened"),
        VerdictOutcome::Waits => format!("{what}: {reach}, seen for one window, by one kind of signal: the next tells"),
        VerdictOutcome::Held { until } => {
            format!("{what}: held until {until}, as a restart with the change may do as much")
        }
        VerdictOutcome::NoRoom => {
            format!("{what}: {reach}, but as many incidents are open as may be: see diagnose.limits.incidents")
        }
    }
}

fn name(hypothesis: &Hypothesis) -> String {
    let place = hypothesis.service.as_deref().unwrap_or("the scope");
    let share = 100.0 * hypothesis.probability;
    match &hypothesis.change {
        Some(change) => format!("{} {change} of {place} ({share:.1}%)", hypothesis.class),
        None => format!("{} in {place} ({share:.1}%)", hypothesis.class),
    }
}

fn numbers(seen: &Seen) -> String {
    match seen.value {
        Some(value) => format!(
            "{} {} at {value:.4}, where {:.4} is usual ({:.1} deviations)",
            seen.metric,
            side(seen.direction),
            seen.expected,
            seen.deviation
        ),
        None => format!("{}: {}", seen.metric, seen.detail),
    }
}

const fn side(direction: Direction) -> &'static str {
    match direction {
        Direction::Up => "above its band",
        Direction::Down => "below its band",
        Direction::Absent => "silent",
    }
}

/// A value of an enumeration as its files write it.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word.replace('_', " "),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder as a replay writes it: one incident, and one group that was too weak.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, lines: &[serde_json::Value]| {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            std::fs::write(folder.path().join(name), text).unwrap();
        };
        let evidence = |kind: &str, weight: f64, detail: &str| serde_json::json!({"kind": kind, "weight": weight, "detail": detail, "signals": []});
        write(
            "incidents.ndjson",
            &[serde_json::json!({
                "id": "3f9c0001", "opened_at": "2026-03-01T10:06:00Z", "resolved_at": null, "severity": "critical",
                "services": ["cart"], "anomalies": ["a-1"], "none_of_these": 0.01, "scope": "prod", "status": "open",
                "title": "errors on cart: bad_deploy d-7 of cart (90%)", "updated_at": "2026-03-01T10:06:00Z", "revision": 1,
                "signals": [{"anomaly": "a-1", "metric": "errors", "service": "cart", "kind": "errors", "direction": "up",
                    "onset": "2026-03-01T10:04:00Z", "opening": true, "state": "active", "since": "2026-03-01T10:05:00Z"}],
                "hypotheses": [
                    {"rank": 1, "kind": "change", "service": "cart", "change": "d-7", "class": "bad_deploy", "probability": 0.9,
                     "evidence": [evidence("timing", 4.5, "the first signs came 2.0 min after the change")]},
                    {"rank": 2, "kind": "fault", "service": "cart", "class": "failing_requests", "probability": 0.09,
                     "evidence": [evidence("quiet", -0.7, "as usual, though this would show in it: latency of cart")]},
                ],
            })],
        );
        write(
            "anomalies.ndjson",
            &[
                serde_json::json!({"id": "a-1", "at": "2026-03-01T10:05:00Z", "metric": "errors", "direction": "up",
                "deviation": 40.0, "value": 0.4, "expected": 0.01, "detail": "far off"}),
            ],
        );
        let verdict = |at: &str, outcome: serde_json::Value| {
            let mut verdict = serde_json::json!({"at": at, "scope": "prod", "service": "cart", "class": "failing_requests",
                "height": 7.5, "bar": 9.0, "signals": ["errors of cart"]});
            verdict
                .as_object_mut()
                .unwrap()
                .extend(outcome.as_object().unwrap().clone());
            verdict
        };
        write(
            "verdicts.ndjson",
            &[
                verdict("2026-03-01T08:00:00Z", serde_json::json!({"outcome": "below_bar"})),
                verdict(
                    "2026-03-01T10:05:00Z",
                    serde_json::json!({"outcome": "waits", "height": 12.0}),
                ),
                verdict(
                    "2026-03-01T10:06:00Z",
                    serde_json::json!({"outcome": "opened", "incident": "3f9c0001", "height": 13.0, "change": "d-7"}),
                ),
            ],
        );
        write(
            "ledger.ndjson",
            &[
                serde_json::json!({"seq": 3, "at": "2026-03-01T10:06:00Z", "scope": "prod", "kind": "proposed", "cause": null,
                "body": {"incident": "3f9c0001", "reason": "the playbook roll-back matches"}, "previous": "", "hash": ""}),
            ],
        );
        folder
    }

    #[test]
    fn a_story_says_what_happened_who_is_suspected_why_it_opened_and_what_would_change_it() {
        let folder = folder();
        let read = Folder::read(folder.path()).unwrap();
        let text = story(&read.incidents[0], &read);
        for part in [
            "13.0 nats above chance, and 9.0 were enough, so soon after d-7.",
            "2026-03-01T10:05:00Z  failing_requests in cart: 12.0 of the 9.0 nats asked, seen for one window",
            "2026-03-01T10:04:00Z  cart: errors above its band at 0.4000, where 0.0100 is usual (40.0 deviations)",
            "ledger 3 proposed: the playbook roll-back matches",
            "1. bad_deploy d-7 of cart (90.0%)",
            "for     +4.5  the first signs came 2.0 min after the change",
            "looked at, found nothing -0.7  as usual",
            "Without this it might not be first: the first signs came 2.0 min after the change",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }

    #[test]
    fn near_a_time_it_says_what_was_missing() {
        let folder = folder();
        let read = Folder::read(folder.path()).unwrap();
        let near = |at: &str| around(at.parse().unwrap(), Span::from_mins(15), &read);
        assert!(near("2026-03-01T08:05:00Z").contains("7.5 of the 9.0 nats asked, so 1.5 were missing"));
        assert!(near("2026-03-01T03:00:00Z").contains("Nothing left its band"));
        assert!(near("2026-03-01T10:10:00Z").contains("opened 3f9c0001"));
    }

    #[test]
    fn a_folder_of_something_else_and_an_unknown_incident_are_told() {
        let args = |from: &Path, incident: Option<&str>| Args {
            incident: incident.map(str::to_owned),
            from: from.to_owned(),
            near: None,
            within: Span::from_mins(15),
        };
        let empty = tempfile::tempdir().unwrap();
        let told = explain(&args(empty.path(), None)).unwrap_err().to_string();
        assert!(told.contains("suture replay --out"), "{told}");
        let folder = folder();
        let told = explain(&args(folder.path(), Some("ffff"))).unwrap_err().to_string();
        assert!(told.contains("no incident's id begins with"), "{told}");
    }
}
