//! What happened around an incident, in order and in words.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use suture_event::{Change, Direction, Incident, LedgerRecord, SignalState, Span, Timestamp};

use crate::{
    action::text,
    store::{Case, State},
    view::{ActionView, IncidentView, NearMiss},
};

/// Changes to an incident's services this long before its first signs are told.
const CHANGES: Span = Span::from_mins(60);
/// At most so many of them, the nearest to its beginning.
const MOST_CHANGES: usize = 50;

/// What sort of thing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MomentKind {
    /// Something was changed.
    Change,
    /// A signal left its band, or came back.
    Signal,
    /// The incident went on.
    Incident,
    /// Something was decided.
    Decision,
    /// A human said something.
    Human,
    /// An executor said something.
    Action,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Moment {
    /// When.
    pub at: Timestamp,
    /// What sort of thing.
    pub kind: MomentKind,
    /// What, in words.
    pub text: String,
    /// The service that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Arc<str>>,
    /// The anomaly that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anomaly: Option<Arc<str>>,
    /// The number of the ledger record that tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<u64>,
}

impl State {
    /// Changes that an incident's hypotheses name, and those made to its services around its beginning, by time.
    pub(crate) fn changes_of(&self, incident: &Incident, from: Timestamp, to: Timestamp) -> Vec<Change> {
        let named = |change: &Change| {
            let of = |h: &suture_event::Hypothesis| h.change.as_ref() == Some(&change.id);
            incident.hypotheses.iter().any(of)
        };
        let near =
            |change: &Change| change.at >= from && change.at <= to && incident.services.contains(&change.service);
        let mut changes: Vec<Change> = self
            .changes
            .iter()
            .filter(|change| named(change) || near(change))
            .cloned()
            .collect();
        changes.sort_by_key(|change| change.at.since(incident.opened_at).as_millis().abs());
        changes.truncate(MOST_CHANGES);
        changes.sort_by_key(|change| change.at);
        changes
    }

    pub(crate) fn incident_view(&self, id: &str, most_records: usize) -> Option<IncidentView> {
        let case = self.incidents.get(id)?;
        let incident = &case.incident;
        let first = incident.signals.iter().map(|signal| signal.onset).min();
        let from = first.unwrap_or(incident.opened_at).minus(CHANGES);
        let changes = self.changes_of(incident, from, incident.resolved_at.unwrap_or(Timestamp::MAX));
        let of_it = incident.signals.iter();
        let anomalies = of_it.filter_map(|signal| self.anomalies.get(&signal.anomaly));
        let records: Vec<LedgerRecord> = self
            .ledger
            .of_incident(id)
            .take(most_records)
            .map(|entry| LedgerRecord::clone(&entry.record))
            .collect();
        let opened = |verdict: &&suture_engine::Verdict| matches!(&verdict.outcome, suture_engine::VerdictOutcome::Opened { incident } if **incident == *id);
        Some(IncidentView {
            now: self.now,
            brief: self.brief(case),
            anomalies: anomalies.cloned().collect(),
            timeline: self.timeline(case, &changes, &records),
            changes,
            actions: self.actions_of(id).into_iter().map(ActionView::of).collect(),
            records,
            opened_by: self.near_misses.iter().find(opened).map(NearMiss::of),
            incident: incident.clone(),
        })
    }

    fn timeline(&self, case: &Case, changes: &[Change], records: &[LedgerRecord]) -> Vec<Moment> {
        let incident = &case.incident;
        let moment = |at, kind, text| Moment {
            at,
            kind,
            text,
            service: None,
            anomaly: None,
            record: None,
        };
        let mut moments: Vec<Moment> = Vec::new();
        for change in changes {
            let what = change
                .artifact
                .as_ref()
                .map_or(String::new(), |artifact| format!(" ({artifact})"));
            moments.push(Moment {
                service: Some(change.service.clone()),
                ..moment(
                    change.at,
                    MomentKind::Change,
                    format!("{} {} of {}{what}", word(&change.kind), change.id, change.service),
                )
            });
        }
        for signal in &incident.signals {
            let place = signal.service.as_deref().unwrap_or("the scope");
            let side = match signal.direction {
                Direction::Up => "went above its band",
                Direction::Down => "went below its band",
                Direction::Absent => "fell silent",
            };
            let about = |at, text| Moment {
                service: signal.service.clone(),
                anomaly: Some(signal.anomaly.clone()),
                ..moment(at, MomentKind::Signal, text)
            };
            moments.push(about(signal.onset, format!("{} of {place} {side}", signal.metric)));
            let end = match signal.state {
                SignalState::Active => None,
                SignalState::Recovered => Some("came back inside its band"),
                SignalState::Adapted => Some("stayed, and is expected now"),
                SignalState::Silent => Some("sends nothing"),
            };
            if let Some(end) = end {
                moments.push(about(signal.since, format!("{} of {place} {end}", signal.metric)));
            }
        }
        for record in records {
            let (kind, text) = told(record);
            moments.push(Moment {
                record: Some(record.seq),
                ..moment(record.at, kind, text)
            });
        }
        if records.is_empty() {
            moments.push(moment(
                incident.opened_at,
                MomentKind::Incident,
                format!("the incident opened: {}", incident.title),
            ));
            if let Some(at) = incident.resolved_at {
                moments.push(moment(at, MomentKind::Incident, "the incident was resolved".to_owned()));
            }
        }
        // decisions stand in the order of their records, behind what they followed from
        moments.sort_by_key(|moment| (moment.at, moment.record, moment.kind));
        moments
    }
}

/// A record in words.
fn told(record: &LedgerRecord) -> (MomentKind, String) {
    let body = &record.body;
    let get = |at: &str| text(record, at).unwrap_or_default();
    let because = |at: &str| match text(record, at) {
        Some(why) if !why.is_empty() => format!(": {why}"),
        _ => String::new(),
    };
    let by = get("/by");
    let human = MomentKind::Human;
    let decision = MomentKind::Decision;
    match record.kind.as_ref() {
        "incident_opened" => (
            MomentKind::Incident,
            format!("the incident opened{}", because("/title")),
        ),
        "incident_reopened" => (
            MomentKind::Incident,
            format!("the incident opened again{}", because("/title")),
        ),
        "incident_reranked" => (
            MomentKind::Incident,
            format!("another cause is first now: {}", cause(&body["to"])),
        ),
        "incident_resolved" => (
            MomentKind::Incident,
            format!(
                "the incident was resolved: {} of {} opening signals recovered",
                body["recovered"], body["opening"]
            ),
        ),
        "incident_left_out" => (
            decision,
            "as many incidents are open as may be: this one is left to people".to_owned(),
        ),
        "playbook_chosen" => {
            let mut told = format!(
                "playbook “{}” chosen for {}, {}",
                get("/playbook"),
                get("/target"),
                get("/rung")
            );
            for (n, limit) in body["limited_by"].as_array().into_iter().flatten().enumerate() {
                told.push_str(if n == 0 { ", since " } else { "; " });
                told.push_str(limit["why"].as_str().unwrap_or_default());
            }
            (decision, told)
        }
        "no_playbook" => (decision, format!("no playbook fits {}", cause(&body["hypothesis"]))),
        "action_held" => (decision, format!("“{}” must wait{}", get("/playbook"), because("/why"))),
        "action_requested" => {
            let undoes = if body["request"]["reverses"].is_string() {
                ", which undoes what was done"
            } else {
                ""
            };
            let rung = match get("/request/rung").as_ref() {
                "autonomous" => "executors may act",
                "supervised" => "waits for approval",
                _ => "advice only",
            };
            (
                MomentKind::Action,
                format!(
                    "asked: {} {}{undoes}; {rung}",
                    get("/request/action"),
                    get("/request/target")
                ),
            )
        }
        "approved" => (human, format!("{by} approved it{}", because("/reason"))),
        "denied" => (human, format!("{by} refused it{}", because("/reason"))),
        "undone" => (human, format!("{by} had it undone{}", because("/reason"))),
        "acknowledged" => (human, format!("{by} took the incident{}", because("/reason"))),
        "labelled" => (
            human,
            format!(
                "{by} said it was {}{}",
                get("/label").replace('_', " "),
                because("/reason")
            ),
        ),
        "approval_expired" => (decision, "nobody approved it in time".to_owned()),
        "withdrawn" => (decision, format!("not wanted any more{}", because("/why"))),
        "outcome" => (
            MomentKind::Action,
            format!(
                "{}: {}{}",
                get("/outcome/executor"),
                get("/outcome/status").replace('_', " "),
                because("/outcome/detail")
            ),
        ),
        "outcome_missing" => (MomentKind::Action, format!("no outcome{}", because("/why"))),
        "verified" => (
            decision,
            "verified: every signal that opened the incident is back".to_owned(),
        ),
        "not_verified" => (decision, format!("not verified{}", because("/why"))),
        "reversed" => (MomentKind::Action, "the action was undone".to_owned()),
        "reversal_failed" => (MomentKind::Action, format!("it could not be undone{}", because("/why"))),
        "escalated" => (decision, format!("a human must take over{}", because("/why"))),
        other => (decision, format!("{}{}", other.replace('_', " "), because("/why"))),
    }
}

fn cause(hypothesis: &Value) -> String {
    let get = |key: &str| hypothesis[key].as_str().unwrap_or_default().to_owned();
    let (class, service, change) = (get("class"), get("service"), get("change"));
    match (class.is_empty(), change.is_empty()) {
        (true, _) => "what is known".to_owned(),
        (false, true) => format!("{class} in {service}"),
        (false, false) => format!("{class} {change} of {service}"),
    }
}

/// A value of an enumeration in words.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word.replace('_', " "),
        _ => String::new(),
    }
}
