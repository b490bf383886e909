//! What happens, in words: one line for each thing that a person who reads the log must know.
//!
//! The words are made here and nowhere else, so that the log of a run and whoever shows what stands in topics or in a
//! replay's folder say the same of the same thing.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use serde_json::Value;
use suture_config::Pipeline;
use suture_engine::{Verdict, VerdictOutcome};
use suture_event::{
    ActionRequest, Anomaly, AnomalyPhase, Change, ChangeKind, Direction, EndReason, Incident, IncidentStatus,
    LedgerRecord, Outcome, OutcomeStatus, Resolution, Rung, Severity, Span, Timestamp,
};

/// How much a reader must mind a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Good to know.
    Note,
    /// Somebody should look.
    Warning,
    /// Somebody must.
    Alarm,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// How much it matters.
    pub weight: Weight,
    /// The words, without a line break.
    pub text: String,
}

impl Line {
    fn new(weight: Weight, text: impl Into<String>) -> Self {
        // what came from outside may have line breaks and control characters in it, and one line is one thing
        let text = text.into().replace(|c: char| c.is_control(), " ");
        Self { weight, text }
    }

    fn note(text: impl Into<String>) -> Self {
        Self::new(Weight::Note, text)
    }

    /// Writes it to the log.
    pub fn log(&self) {
        match self.weight {
            Weight::Note => tracing::info!("{}", self.text),
            Weight::Warning => tracing::warn!("{}", self.text),
            Weight::Alarm => tracing::error!("{}", self.text),
        }
    }
}

/// Labels of a series that are told, at most.
const LABELS: usize = 4;
/// Reasons that are told of a cause, at most.
const REASONS: usize = 3;

/// A number as people write it: three digits that count, and all of a whole number.
#[must_use]
pub fn number(value: f64) -> String {
    let size = value.abs();
    if !size.is_finite() || size >= 1e15 || (size > 0.0 && size < 1e-4) {
        return format!("{value:.2e}");
    }
    if value.fract() == 0.0 || size >= 1_000.0 {
        return format!("{value:.0}");
    }
    let places: usize = match size {
        s if s >= 100.0 => 1,
        s if s >= 10.0 => 2,
        s if s >= 0.1 => 3,
        s if s >= 0.01 => 4,
        _ => 6,
    };
    let text = format!("{value:.places$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A span in the units that a reader thinks in, the two largest.
#[must_use]
pub fn span(span: Span) -> String {
    let seconds = (span.as_millis() + 500).div_euclid(1_000).max(0);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds}s"),
        (0, 0, minutes, 0) => format!("{minutes}m"),
        (0, 0, minutes, seconds) => format!("{minutes}m {seconds}s"),
        (0, hours, 0, _) => format!("{hours}h"),
        (0, hours, minutes, _) => format!("{hours}h {minutes}m"),
        (days, 0, ..) => format!("{days}d"),
        (days, hours, ..) => format!("{days}d {hours}h"),
    }
}

/// A time, to the second.
#[must_use]
pub fn time(at: Timestamp) -> String {
    Timestamp::from_millis(at.as_millis().div_euclid(1_000) * 1_000).to_string()
}

/// So many of a thing.
#[must_use]
pub fn many(count: u64, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

/// What a pipeline begins to do.
#[must_use]
pub fn of_start(pipeline: &Pipeline) -> Line {
    let list = |topics: Vec<&str>| match topics.as_slice() {
        [] => "nowhere".to_owned(),
        topics => topics.join(", "),
    };
    let telemetry = list(pipeline.telemetry.iter().map(|source| source.topic.as_str()).collect());
    let changes = list(pipeline.changes.iter().map(|source| source.topic.as_str()).collect());
    let windows = match pipeline.window.size {
        Some(size) => format!("windows of {size}"),
        None => "every sample by itself".to_owned(),
    };
    let playbooks = pipeline.remediate.playbooks.len() as u64;
    let may = match pipeline.remediate.mode {
        _ if playbooks == 0 => "no playbook, so nothing is done about incidents".to_owned(),
        mode => format!("{}, {} at most", many(playbooks, "playbook", "playbooks"), rung(mode)),
    };
    Line::note(format!(
        "pipeline {} starts: telemetry from {telemetry}, changes from {changes}; {windows}, of which a series needs {} before it is \
         judged; {may}",
        pipeline.name, pipeline.detect.warm_up
    ))
}

/// How far something may go, as an adverb.
const fn rung(rung: Rung) -> &'static str {
    match rung {
        Rung::Advise => "advising",
        Rung::Supervised => "acting once somebody approves",
        Rung::Autonomous => "acting autonomously",
    }
}

/// An artifact's name, of whose digest the beginning is enough.
fn short(artifact: &str) -> String {
    const DIGEST: usize = 32;
    const KEPT: usize = 12;
    let mut text = String::new();
    let mut run = String::new();
    for c in artifact.chars().chain([' ']) {
        if c.is_ascii_hexdigit() {
            run.push(c);
            continue;
        }
        match run.get(..KEPT) {
            Some(kept) if run.len() >= DIGEST => {
                text.push_str(kept);
                text.push('…');
            }
            _ => text.push_str(&run),
        }
        run.clear();
        text.push(c);
    }
    text.truncate(text.len() - 1);
    text
}

/// A series as it is spoken of: its metric, whose it is, and what else tells it from others.
fn series(anomaly: &Anomaly) -> String {
    let mut text = anomaly.metric.to_string();
    if let Some(service) = &anomaly.service {
        let _ = write!(text, " of {service}");
    }
    let service = anomaly.service.as_deref();
    let others = anomaly.labels.iter().filter(|(_, value)| Some(*value) != service);
    let told: Vec<String> = others.map(|(name, value)| format!("{name}={value}")).collect();
    if !told.is_empty() {
        let more = if told.len() > LABELS { ", …" } else { "" };
        let told: Vec<&str> = told.iter().take(LABELS).map(String::as_str).collect();
        let _ = write!(text, " ({}{more})", told.join(", "));
    }
    text
}

/// An anomaly that began or is over; nothing of what it does in between.
#[must_use]
pub fn of_anomaly(anomaly: &Anomaly) -> Option<Line> {
    let what = series(anomaly);
    let band = match (anomaly.lower, anomaly.upper) {
        (lower, upper) if lower <= f64::MIN => format!("at most {}", number(upper)),
        (lower, upper) if upper >= f64::MAX => format!("at least {}", number(lower)),
        (lower, upper) => format!("{} to {}", number(lower), number(upper)),
    };
    let since = time(anomaly.onset);
    let text = match anomaly.phase {
        AnomalyPhase::Opened => match (anomaly.direction, anomaly.value) {
            (Direction::Absent, _) | (_, None) => {
                format!("anomaly: {what} sends nothing, since {since}")
            }
            (side, Some(value)) => {
                let (beyond, shifted) = match side {
                    Direction::Up => ("above", "higher"),
                    _ => ("below", "lower"),
                };
                let within = (anomaly.lower..=anomaly.upper).contains(&value);
                let value = number(value);
                // what tells by several windows together may be within the band of each
                match within {
                    true => format!("anomaly: {what} stays {shifted} than usual, at {value} now, since {since}"),
                    false => format!("anomaly: {what} is at {value}, {beyond} the {band} that is usual, since {since}"),
                }
            }
        },
        AnomalyPhase::Ended => {
            let lasted = span(anomaly.at.since(anomaly.onset));
            match anomaly.end {
                Some(EndReason::Adapted) => {
                    format!("anomaly over: {what} stayed for {lasted}, and counts as usual now")
                }
                Some(EndReason::Silent) => {
                    format!("anomaly over: {what} stopped sending after {lasted}, and nothing is known of it")
                }
                _ => format!("anomaly over: {what} is back to what is usual, after {lasted}"),
            }
        }
        AnomalyPhase::Grown | AnomalyPhase::Eased => return None,
    };
    Some(Line::note(text))
}

/// A change.
#[must_use]
pub fn of_change(change: &Change) -> Line {
    let what = match change.kind {
        ChangeKind::Deploy => "deploy",
        ChangeKind::Rollback => "rollback",
        ChangeKind::Removal => "removal",
        ChangeKind::Config => "change of the configuration",
        ChangeKind::Flag => "flip of a flag",
        ChangeKind::Other => "change",
    };
    let mut text = format!("change: {what} of {}", change.service);
    if let Some(artifact) = &change.artifact {
        let _ = write!(text, ", {}", short(artifact));
    }
    let _ = write!(text, ", at {} ({})", time(change.at), change.id);
    Line::note(text)
}

/// What was made of a group of anomalies that is no incident yet, and what it lacks; nothing where it is one.
#[must_use]
pub fn of_verdict(verdict: &Verdict) -> Option<Line> {
    let seat = verdict.service.as_deref().unwrap_or("the scope");
    let (height, bar) = (number(round(verdict.height)), number(round(verdict.bar)));
    let signals = verdict.signals.join(", ");
    let class = words(&verdict.class);
    let what = format!("{seat}, perhaps {class}");
    let text = match &verdict.outcome {
        VerdictOutcome::Opened { .. } => return None,
        VerdictOutcome::Joined { incident } => format!("{signals} now counts as part of incident {incident}"),
        VerdictOutcome::BelowBar => {
            let lacks = number(round(verdict.bar - verdict.height));
            format!("no incident yet: {what}: {signals} reach {height} of the {bar} it takes; {lacks} are lacking")
        }
        VerdictOutcome::Passed => format!("no incident: {what}: {signals} came back before it was one"),
        VerdictOutcome::Waits => {
            format!("no incident yet: {what}: {signals} was seen for one window only; the next will tell")
        }
        VerdictOutcome::Held { until } => {
            let change = verdict
                .change
                .as_deref()
                .map_or_else(String::new, |id| format!(" {id}"));
            format!(
                "held back: {what}: {signals} began with the restart that comes with a change{change}; if it is still so at \
                 {}, it was more than that",
                time(*until)
            )
        }
        VerdictOutcome::NoRoom => {
            return Some(Line::new(
                Weight::Alarm,
                format!(
                    "{what}: {signals} would be an incident, and there is no room: see diagnose.limits.incidents in the pipeline file"
                ),
            ));
        }
    };
    Some(Line::note(text))
}

fn round(nats: f64) -> f64 {
    (nats * 10.0).round() / 10.0
}

/// A name of ours as words.
fn words(name: &str) -> String {
    name.replace('_', " ")
}

const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

/// What most likely caused an incident, how sure that is, and by what.
fn cause(incident: &Incident) -> String {
    let Some(first) = incident.hypotheses.first() else {
        return "no cause is known".to_owned();
    };
    let seat = first.service.as_deref().unwrap_or("the scope");
    let mut text = match &first.change {
        Some(change) => format!("{} {change} of {seat}", words(&first.class)),
        None => format!("{} in {seat}", words(&first.class)),
    };
    if incident.none_of_these > first.probability {
        text = format!("no known cause ({:.0}%), or {text}", 100.0 * incident.none_of_these);
    }
    let _ = write!(text, " ({:.0}%)", 100.0 * first.probability);
    let reasons = first.evidence.iter().filter(|evidence| evidence.weight > 0.0);
    let reasons: Vec<&str> = reasons.take(REASONS).map(|evidence| evidence.detail.as_str()).collect();
    if !reasons.is_empty() {
        let _ = write!(text, ": {}", reasons.join("; "));
    }
    text
}

/// An incident that opened, with its cause; or that is over. Its states in between are told by the ledger.
#[must_use]
pub fn of_incident(incident: &Incident) -> Option<Line> {
    if incident.status == IncidentStatus::Resolved {
        let lasted = incident
            .resolved_at
            .unwrap_or(incident.updated_at)
            .since(incident.opened_at);
        let how = match incident.resolution {
            Some(Resolution::Recovered) => "every signal that opened it is back",
            Some(Resolution::Accepted) => "what stayed counts as usual now",
            Some(Resolution::Silent) => {
                "nothing is outside its band, and whether it recovered is not known, as some send nothing"
            }
            Some(Resolution::Abandoned) => "given up: nothing new came, and signals are still outside their bands",
            None => "it is over",
        };
        let text = format!("incident {} is resolved after {}: {how}", incident.id, span(lasted));
        return Some(Line::note(text));
    }
    if incident.revision > 1 {
        return None;
    }
    let opening: Vec<&suture_event::IncidentSignal> = incident.signals.iter().filter(|s| s.opening).collect();
    let mut names: Vec<String> = Vec::new();
    for signal in &opening {
        let name = match &signal.service {
            Some(service) => format!("{} of {service}", signal.metric),
            None => signal.metric.to_string(),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let more = names.len().saturating_sub(LABELS);
    names.truncate(LABELS);
    let mut signals = names.join(", ");
    if more > 0 {
        let _ = write!(signals, " and {more} more");
    }
    let without = if incident.judged_without.is_empty() {
        String::new()
    } else {
        let partitions: Vec<String> = incident
            .judged_without
            .iter()
            .take(5)
            .map(ToString::to_string)
            .collect();
        format!("; judged without {}, which send nothing", partitions.join(", "))
    };
    let text = format!(
        "incident {} opened in {} ({}): {signals}. Likeliest cause: {}{without}",
        incident.id,
        incident.scope,
        severity(incident.severity),
        cause(incident),
    );
    Some(Line::new(Weight::Warning, text))
}

/// Why an incident opened when it did.
#[must_use]
pub fn why_opened(verdict: &Verdict) -> Option<Line> {
    let VerdictOutcome::Opened { incident } = &verdict.outcome else {
        return None;
    };
    let change = match &verdict.change {
        Some(change) => format!(" (less than usual, so soon after {change})"),
        None => String::new(),
    };
    Some(Line::note(format!(
        "incident {incident} opened since {} together reach {}, where {} is enough{change}",
        verdict.signals.join(", "),
        number(round(verdict.height)),
        number(round(verdict.bar)),
    )))
}

/// An action request as it stands on its topic.
#[must_use]
pub fn of_request(request: &ActionRequest) -> Line {
    let step = format!("{} on {}", request.step.action, request.target);
    let what = match (&request.reverses, request.rung) {
        (Some(_), Rung::Advise) => format!("advice: undo it by {step}"),
        (Some(_), _) => format!("action: {step} is asked for, to undo what did not help"),
        (None, Rung::Advise) => format!("advice: {step}"),
        (None, Rung::Supervised) => format!(
            "action: {step} waits for somebody to approve it, until {}: suture approve {}",
            time(request.expires_at),
            request.id
        ),
        (None, Rung::Autonomous) => match &request.approved_by {
            Some(by) => format!("action: {step} is asked for, as {by} approved it"),
            None => format!("action: {step} is asked for"),
        },
    };
    let text = format!(
        "{what}, by playbook {:?} for incident {} ({})",
        request.playbook, request.incident, request.id
    );
    Line::new(Weight::Warning, text)
}

/// What an executor says it did.
#[must_use]
pub fn of_outcome(outcome: &Outcome) -> Line {
    let of = format!("on {} ({})", outcome.target, outcome.action);
    let by = &outcome.executor;
    let detail = if outcome.detail.is_empty() {
        String::new()
    } else {
        format!(": {}", outcome.detail)
    };
    match outcome.status {
        OutcomeStatus::Started => Line::note(format!("action: {by} begins {of}{detail}")),
        OutcomeStatus::Succeeded => Line::note(format!("action: {by} is done {of}{detail}")),
        OutcomeStatus::Failed => Line::new(Weight::Warning, format!("action: {by} failed {of}{detail}")),
        OutcomeStatus::Refused => Line::new(Weight::Warning, format!("action: {by} refuses to act {of}{detail}")),
        OutcomeStatus::DryRun => Line::note(format!("action: {by} would act {of}, and does not{detail}")),
        OutcomeStatus::Rejected => Line::new(
            Weight::Alarm,
            format!("action: {by} was sent a request {of} that nobody may send{detail}"),
        ),
    }
}

/// A decision of the ledger, where incidents and requests don't tell it already.
#[must_use]
pub fn of_ledger(record: &LedgerRecord) -> Option<Line> {
    let body = &record.body;
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
    let (incident, action, why) = (text("incident"), text("action"), text("why"));
    let line = match &*record.kind {
        "incident_reranked" => {
            let to = body.get("to");
            let part = |name: &str| to.and_then(|to| to.get(name)).and_then(Value::as_str);
            let seat = part("service").unwrap_or("the scope");
            match part("class") {
                None => Line::note(format!("incident {incident}: no known cause is likely any more")),
                Some(class) => {
                    let change = part("change").map_or_else(String::new, |id| format!(" {id}"));
                    let sure = to.and_then(|to| to.get("probability")).and_then(Value::as_f64);
                    let sure = sure.map_or_else(String::new, |sure| format!(" ({:.0}%)", 100.0 * sure));
                    Line::note(format!(
                        "incident {incident}: the likeliest cause is {}{change} in {seat} now{sure}",
                        words(class)
                    ))
                }
            }
        }
        "incident_reopened" => Line::new(
            Weight::Warning,
            format!("incident {incident} is back: {}", text("title")),
        ),
        "incident_left_out" => Line::new(
            Weight::Alarm,
            format!("incident {incident} is left to people: as many are open as remediate.bounds.incidents allows"),
        ),
        "no_playbook" => Line::note(format!("incident {incident}: no playbook fits{}", candidates(body))),
        "playbook_chosen" => {
            let limited = body.get("limited_by").and_then(Value::as_array);
            let reasons = limited.into_iter().flatten().filter_map(|by| by.get("why")?.as_str());
            let reasons: Vec<&str> = reasons.take(REASONS).collect();
            let limited = match reasons.as_slice() {
                [] => String::new(),
                reasons => format!(", no further since {}", reasons.join("; ")),
            };
            Line::note(format!(
                "incident {incident}: playbook {:?} fits {}, {} at most{limited}",
                text("playbook"),
                text("target"),
                serde_json::from_value(body.get("rung").cloned().unwrap_or_default()).map_or("advising", rung),
            ))
        }
        "action_held" => {
            let until = body.get("until").and_then(Value::as_str).and_then(|at| at.parse().ok());
            let until = until.map_or_else(String::new, |at| format!(", until {}", time(at)));
            Line::note(format!(
                "incident {incident}: playbook {:?} waits{until}: {why}",
                text("playbook")
            ))
        }
        "denied" => Line::note(format!(
            "action {action} was denied by {}: {}",
            text("by"),
            text("reason")
        )),
        "approval_expired" => Line::new(Weight::Warning, format!("action {action}: nobody approved it in time")),
        "withdrawn" if action.is_empty() => Line::note(format!("incident {incident}: nothing is done any more: {why}")),
        "withdrawn" => Line::note(format!("action {action} is withdrawn: {why}")),
        "outcome" | "request_rejected" => {
            let outcome = body.get("outcome").cloned()?;
            return Some(of_outcome(&serde_json::from_value(outcome).ok()?));
        }
        "outcome_missing" => Line::new(Weight::Warning, format!("action {action} came to nothing: {why}")),
        "undone" => Line::note(format!(
            "action {action} is to be undone, {} says: {}",
            text("by"),
            text("reason")
        )),
        "verified" => Line::note(format!(
            "action {action} helped: every signal that opened incident {incident} is back"
        )),
        "not_verified" => Line::new(Weight::Warning, format!("action {action} did not help: {why}")),
        "reversed" => Line::note(format!("action {} was undone", text("reverses"))),
        "reversal_failed" => Line::new(
            Weight::Alarm,
            format!("action {} could not be undone: {why}", text("reverses")),
        ),
        "escalated" => {
            let owner = match text("owner") {
                "" => "a person".to_owned(),
                owner => owner.to_owned(),
            };
            Line::new(
                Weight::Alarm,
                format!("incident {incident} needs {owner}, and nothing more is done about it by itself: {why}"),
            )
        }
        "frozen" => Line::new(
            Weight::Warning,
            format!("scope {} is frozen by {}: {}", record.scope, text("by"), text("reason")),
        ),
        "thawed" => Line::note(format!(
            "scope {} is no longer frozen, by {}: {}",
            record.scope,
            text("by"),
            text("reason")
        )),
        "acknowledged" => Line::note(format!(
            "incident {incident} is taken by {}: {}",
            text("by"),
            text("reason")
        )),
        "labelled" => Line::note(format!(
            "incident {incident} was {:?}, {} says",
            text("label"),
            text("by")
        )),
        "command_ignored" => {
            let command = body.get("command");
            let by = command
                .and_then(|c| c.get("by"))
                .and_then(Value::as_str)
                .unwrap_or_default();
            let what = command.and_then(|c| c.get("command")).and_then(Value::as_str);
            Line::new(
                Weight::Warning,
                format!("{by}'s {} is not followed: {why}", what.unwrap_or("command")),
            )
        }
        _ => return None,
    };
    Some(line)
}

/// Why the playbooks that there are do not fit, the first few.
fn candidates(body: &Value) -> String {
    let all = body.get("candidates").and_then(Value::as_array);
    let told = all.into_iter().flatten().filter_map(|candidate| {
        let name = candidate.get("playbook")?.as_str()?;
        let why = candidate.get("reason")?.as_str()?;
        Some(format!("{name:?} since {why}"))
    });
    let told: Vec<String> = told.take(REASONS).collect();
    match told.as_slice() {
        [] => String::new(),
        told => format!(": {}", told.join("; ")),
    }
}

/// Holds lines of a sort to so many a minute, by a clock that is handed in, and counts what is left out by whose it is.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    minute: i64,
    said: u32,
    left: BTreeMap<Arc<str>, u64>,
    others: u64,
}

/// Whose lines are counted apart, at most.
const APART: usize = 64;

impl Pace {
    /// Whether one more line may be said in this minute; counted as left out otherwise.
    pub(crate) fn may(&mut self, most: u32, whose: Option<&Arc<str>>) -> bool {
        if self.said < most {
            self.said += 1;
            return true;
        }
        match whose {
            Some(whose) if self.left.contains_key(whose) || self.left.len() < APART => {
                *self.left.entry(whose.clone()).or_default() += 1;
            }
            _ => self.others += 1,
        }
        false
    }

    /// Begins a new minute where the clock is in one, and gives how many lines the last one left out, with those they were
    /// mostly of; nothing where none was.
    pub(crate) fn pass(&mut self, now: Timestamp) -> Option<(u64, String)> {
        let minute = now.as_millis().div_euclid(60_000);
        if minute == self.minute {
            return None;
        }
        self.minute = minute;
        self.said = 0;
        let left = std::mem::take(&mut self.left);
        let others = std::mem::take(&mut self.others);
        let total = others + left.values().sum::<u64>();
        if total == 0 {
            return None;
        }
        let mut most: Vec<(Arc<str>, u64)> = left.into_iter().collect();
        most.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        let told: Vec<String> = most
            .iter()
            .take(3)
            .map(|(whose, count)| format!("{count} of {whose}"))
            .collect();
        Some((total, told.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_spans_are_as_people_write_them() {
        for (value, text) in [
            (0.0, "0"),
            (12.0, "12"),
            (0.312_345, "0.312"),
            (0.001_234_6, "0.001235"),
            (0.1, "0.1"),
            (12.345_6, "12.35"),
            (123.456, "123.5"),
            (12_345.678, "12346"),
            (1e-7, "1.00e-7"),
            (-0.5, "-0.5"),
        ] {
            assert_eq!(number(value), text);
        }
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (150, "2m 30s"),
            (3_600, "1h"),
            (5_400, "1h 30m"),
            (86_400, "1d"),
            (100_000, "1d 3h"),
        ] {
            assert_eq!(span(Span::from_secs(seconds)), text);
        }
    }

    #[test]
    fn lines_beyond_the_pace_are_counted_and_told_with_the_next_minute() {
        let (cart, shop): (Arc<str>, Arc<str>) = ("cart".into(), "shop".into());
        let mut pace = Pace::default();
        let minute = |minute: i64| Timestamp::from_millis(minute * 60_000);
        assert_eq!(pace.pass(minute(7)), None);
        let said: Vec<bool> = (0..5).map(|_| pace.may(2, Some(&cart))).collect();
        assert_eq!(said, [true, true, false, false, false]);
        assert!(!pace.may(2, Some(&shop)) && !pace.may(2, None));
        assert_eq!(pace.pass(minute(7)), None);
        assert_eq!(pace.pass(minute(8)), Some((5, "3 of cart, 1 of shop".to_owned())));
        assert!(pace.may(2, Some(&cart)));
        assert_eq!(pace.pass(minute(9)), None);
        for number in 0..200 {
            pace.may(2, Some(&format!("s{number}").into()));
        }
        assert_eq!(pace.left.len(), APART);
        assert_eq!(pace.pass(minute(10)).map(|(total, _)| total), Some(198));
    }

    #[test]
    fn of_a_digest_the_beginning_is_enough() {
        let digest = "5da3d2f730b9dba3350856b2579852ef3859418ff968eba186f2b089f9286b1c";
        assert_eq!(
            short(&format!("pkg:oci/web@sha256%3A{digest}")),
            "pkg:oci/web@sha256%3A5da3d2f730…"
        );
        assert_eq!(short("registry.shop.test/cart:1.2"), "registry.shop.test/cart:1.2");
        assert_eq!(short("a10867b14bb761a232cd80139fbd4c0d33264240"), "a10867b14bb7…");
        assert_eq!(short(""), "");
    }

    #[test]
    fn what_came_from_outside_cannot_break_a_line() {
        let change = Change {
            id: "d1\n2026 ERROR all is lost".into(),
            at: Timestamp::from_millis(0),
            kind: ChangeKind::Deploy,
            service: "cart\u{1b}[2J".into(),
            environment: None,
            artifact: Some("cart:2".into()),
            source: "/ci".into(),
            event_type: "".into(),
        };
        let line = of_change(&change);
        assert_eq!(
            line.text,
            "change: deploy of cart [2J, cart:2, at 1970-01-01T00:00:00Z (d1 2026 ERROR all is lost)"
        );
    }
}
