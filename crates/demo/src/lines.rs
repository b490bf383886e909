//! The story in words, one line an event: for the log on the screen and for where there is no terminal.

use std::{collections::BTreeMap, sync::Arc};

use suture_event::{ChangeKind, CommandKind, Hypothesis, Incident, IncidentStatus, OutcomeStatus, Rung, Timestamp};

use crate::DemoEvent;

/// What a line is about, which gives its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// The world went on.
    Plain,
    /// A deploy.
    Change,
    /// Something broke.
    Bad,
    /// Something was noticed.
    Alert,
    /// Something is being done.
    Act,
    /// Something is well again.
    Good,
}

/// One line of the story.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// Simulated time.
    pub at: Timestamp,
    /// One word.
    pub tag: &'static str,
    /// What happened.
    pub text: String,
    /// How it is meant.
    pub tone: Tone,
}

/// Turns events into lines, and leaves out what changes nothing for the reader.
#[derive(Debug, Default)]
pub struct Narrator {
    now: Timestamp,
    learning: Option<u32>,
    /// What was last said of each incident.
    said: BTreeMap<Arc<str>, (IncidentStatus, Option<String>)>,
}

impl Narrator {
    /// The lines for one event, none or few.
    pub fn tell(&mut self, event: &DemoEvent) -> Vec<Told> {
        match event {
            DemoEvent::Clock { at, learning, .. } => {
                self.now = *at;
                self.tell_learning(*learning)
            }
            DemoEvent::Samples(_) | DemoEvent::Anomaly(_) => Vec::new(),
            DemoEvent::Change(change) => {
                let (tag, what) = match change.kind {
                    ChangeKind::Rollback => ("rollback", "rolled back"),
                    _ => ("deploy", "deployed"),
                };
                line(
                    change.at,
                    tag,
                    Tone::Change,
                    format!("{} {what} ({})", change.service, change.id),
                )
            }
            DemoEvent::Incident(incident) => self.tell_incident(incident),
            DemoEvent::Remediation(request) => {
                let rung = match (request.rung, &request.approved_by) {
                    (Rung::Advise, _) => "advised".to_owned(),
                    (Rung::Supervised, _) => "awaits approval".to_owned(),
                    (Rung::Autonomous, Some(who)) => format!("asked for, approved by {who}"),
                    (Rung::Autonomous, None) => "asked for".to_owned(),
                };
                let undo = if request.reverses.is_some() { "reversal: " } else { "" };
                let book = format!("playbook \"{}\" of the {}", request.playbook, request.owner);
                let what = format!("{undo}{} of {} {rung}, {book}", request.step.action, request.target);
                line(request.at, "action", Tone::Act, what)
            }
            DemoEvent::Command(command) => {
                let what = match &command.kind {
                    CommandKind::Approve { .. } => "approved by",
                    CommandKind::Deny { .. } => "denied by",
                    _ => "a command by",
                };
                line(
                    command.at,
                    "human",
                    Tone::Act,
                    format!("{what} {}: {}", command.by, command.reason),
                )
            }
            DemoEvent::Outcome(outcome) => {
                let (tone, how) = match outcome.status {
                    OutcomeStatus::Started => return Vec::new(),
                    OutcomeStatus::Succeeded => (Tone::Act, "done"),
                    OutcomeStatus::Failed => (Tone::Bad, "failed"),
                    OutcomeStatus::Refused => (Tone::Bad, "refused"),
                    OutcomeStatus::DryRun => (Tone::Plain, "dry run"),
                    OutcomeStatus::Rejected => (Tone::Bad, "no valid request"),
                };
                line(
                    outcome.at,
                    "outcome",
                    tone,
                    format!("{}: {} ({how})", outcome.target, outcome.detail),
                )
            }
            DemoEvent::FaultInjected(fault) => {
                let by = fault
                    .change
                    .as_ref()
                    .map_or_else(String::new, |c| format!(", brought by {c}"));
                let what = fault.kind.name().replace('_', " ");
                line(
                    fault.start,
                    "injected",
                    Tone::Bad,
                    format!("{what} at {}{by}", fault.service),
                )
            }
            DemoEvent::FaultHealed(fault) => {
                let after = fault
                    .healed_at
                    .map_or(0.0, |healed| healed.since(fault.start).as_secs_f64() / 60.0);
                let what = fault.kind.name().replace('_', " ");
                let text = format!("{what} at {} is gone, {after:.1} min after it began", fault.service);
                line(fault.healed_at.unwrap_or(self.now), "healed", Tone::Good, text)
            }
        }
    }

    fn tell_learning(&mut self, learning: Option<f64>) -> Vec<Told> {
        // a tenth at a time
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to 10
        let tenth = learning.map(|share| (share.clamp(0.0, 1.0) * 10.0) as u32);
        if tenth == self.learning {
            return Vec::new();
        }
        let was = std::mem::replace(&mut self.learning, tenth);
        match (was, tenth) {
            (_, Some(tenth)) if tenth % 5 == 0 || was.is_none() => line(
                self.now,
                "learning",
                Tone::Plain,
                format!("what is usual: {}%", tenth * 10),
            ),
            (Some(_), None) => line(
                self.now,
                "learning",
                Tone::Plain,
                "done; from here on things break".to_owned(),
            ),
            _ => Vec::new(),
        }
    }

    fn tell_incident(&mut self, incident: &Incident) -> Vec<Told> {
        let top = incident.hypotheses.first();
        let blamed = top.map(named);
        let before = self.said.insert(incident.id.clone(), (incident.status, blamed.clone()));
        let because = top
            .and_then(|top| top.evidence.first())
            .map_or_else(String::new, |e| format!(" ({})", e.detail));
        match (before, incident.status) {
            (None, IncidentStatus::Open) => line(
                incident.opened_at,
                "incident",
                Tone::Alert,
                format!("{}{because}", incident.title),
            ),
            (Some((IncidentStatus::Open, was)), IncidentStatus::Open) if was != blamed => line(
                incident.updated_at,
                "incident",
                Tone::Alert,
                format!("now {}{because}", incident.title),
            ),
            (Some((IncidentStatus::Open, _)), IncidentStatus::Resolved) => {
                let minutes = incident.updated_at.since(incident.opened_at).as_secs_f64() / 60.0;
                let text = format!("{} resolved after {minutes:.1} min", incident.title);
                line(incident.updated_at, "resolved", Tone::Good, text)
            }
            _ => Vec::new(),
        }
    }
}

/// A hypothesis by class, service and change.
pub(super) fn named(hypothesis: &Hypothesis) -> String {
    let class = hypothesis.class.replace('_', " ");
    match (&hypothesis.service, &hypothesis.change) {
        (Some(service), Some(change)) => format!("{class} of {service}, {change}"),
        (Some(service), None) => format!("{class} at {service}"),
        (None, Some(change)) => format!("{class}, {change}"),
        (None, None) => class,
    }
}

fn line(at: Timestamp, tag: &'static str, tone: Tone, text: String) -> Vec<Told> {
    vec![Told { at, tag, text, tone }]
}
