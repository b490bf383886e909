//! Who needs to be called, by what the ledger says.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use serde::Serialize;
use serde_json::Value;
use suture_config::Trigger;
use suture_event::{LedgerRecord, Timestamp};

/// What is said about an incident.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Page {
    /// One for each incident, the same at every call: by it receivers know what they have.
    pub key: String,
    /// What it says.
    pub kind: PageKind,
    /// What called.
    pub trigger: Trigger,
    /// When that was.
    pub at: Timestamp,
    /// When the incident was opened.
    pub opened_at: Timestamp,
    /// The incident's id.
    pub incident: Arc<str>,
    /// Its scope.
    pub scope: Arc<str>,
    /// What it is, in words.
    pub title: String,
    /// `info`, `warning` or `critical`.
    pub severity: String,
    /// The services with signals.
    pub services: Vec<String>,
    /// Why somebody is called, in words.
    pub why: String,
    /// Who answers for it, where a playbook says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

/// What a page says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PageKind {
    /// A human must take over.
    Opened,
    /// One has.
    Acknowledged,
    /// It is over.
    Resolved,
}

/// The fold from ledger records to pages.
#[derive(Debug, Clone)]
pub struct Pager {
    on: BTreeSet<Trigger>,
    incidents: BTreeMap<Arc<str>, Known>,
    /// In the order in which they came.
    order: VecDeque<Arc<str>>,
}

#[derive(Debug, Clone)]
struct Known {
    opened_at: Timestamp,
    title: String,
    severity: String,
    services: Vec<String>,
    /// What was said, if anything.
    told: Option<Page>,
}

impl Pager {
    /// Incidents that are known, the oldest of more forgotten.
    pub const MOST: usize = 10_000;

    /// One that calls for these.
    #[must_use]
    pub fn new(on: &BTreeSet<Trigger>) -> Self {
        Self {
            on: on.clone(),
            incidents: BTreeMap::new(),
            order: VecDeque::new(),
        }
    }

    /// Takes a record; the page that must go out because of it, if one must.
    pub fn take(&mut self, record: &LedgerRecord) -> Option<Page> {
        let incident: Arc<str> = text(&record.body, "/incident")?.into();
        match &*record.kind {
            "incident_opened" | "incident_reopened" => {
                self.open(incident, record);
                None
            }
            "incident_resolved" => {
                let known = self.incidents.remove(&incident)?;
                self.order.retain(|other| *other != incident);
                Some(Page {
                    kind: PageKind::Resolved,
                    at: record.at,
                    why: "every signal that opened it is back, or it is over".to_owned(),
                    ..known.told?
                })
            }
            "acknowledged" => {
                let told = self.incidents.get(&incident)?.told.clone()?;
                let by = text(&record.body, "/by").unwrap_or("somebody");
                let reason = text(&record.body, "/reason").filter(|reason| !reason.is_empty());
                Some(Page {
                    kind: PageKind::Acknowledged,
                    at: record.at,
                    why: reason.map_or_else(|| format!("{by} has it"), |reason| format!("{by} has it: {reason}")),
                    ..told
                })
            }
            _ => {
                let (trigger, why) = called_for(record)?;
                self.call(incident, record, trigger, why)
            }
        }
    }

    fn open(&mut self, incident: Arc<str>, record: &LedgerRecord) {
        let services = record.body.get("services").and_then(Value::as_array);
        let known = Known {
            opened_at: record.at,
            title: text(&record.body, "/title").unwrap_or("an incident").to_owned(),
            severity: text(&record.body, "/severity").unwrap_or("warning").to_owned(),
            services: services
                .into_iter()
                .flatten()
                .filter_map(|service| service.as_str().map(str::to_owned))
                .collect(),
            told: None,
        };
        if self.incidents.insert(Arc::clone(&incident), known).is_none() {
            self.order.push_back(incident);
        }
        if self.order.len() > Self::MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.incidents.remove(&oldest);
        }
    }

    fn call(&mut self, incident: Arc<str>, record: &LedgerRecord, trigger: Trigger, why: String) -> Option<Page> {
        if !self.on.contains(&trigger) {
            return None;
        }
        if !self.incidents.contains_key(&incident) {
            // older than what is known: better said with little than not at all
            self.open(Arc::clone(&incident), record);
        }
        let known = self.incidents.get_mut(&incident)?;
        if known.told.is_some() {
            return None;
        }
        let page = Page {
            key: format!("suture-{incident}"),
            kind: PageKind::Opened,
            trigger,
            at: record.at,
            opened_at: known.opened_at,
            incident,
            scope: Arc::clone(&record.scope),
            title: known.title.clone(),
            severity: known.severity.clone(),
            services: known.services.clone(),
            why,
            owner: text(&record.body, "/owner").map(str::to_owned),
        };
        known.told = Some(page.clone());
        Some(page)
    }
}

/// What a record calls a human for, and why in words.
fn called_for(record: &LedgerRecord) -> Option<(Trigger, String)> {
    let body = &record.body;
    let why = || text(body, "/why").map(str::to_owned);
    let playbook = || text(body, "/playbook").unwrap_or("a playbook").to_owned();
    Some(match &*record.kind {
        "escalated" => (
            Trigger::HandedOver,
            why().unwrap_or_else(|| "the program handed it over".to_owned()),
        ),
        "no_playbook" => {
            let class = text(body, "/hypothesis/class").unwrap_or("of no known class");
            (
                Trigger::Unprecedented,
                format!("no playbook answers this: the diagnosis is {class}"),
            )
        }
        "playbook_chosen" => {
            let limits = body.get("limited_by").and_then(Value::as_array)?;
            let of = |name: &str| {
                let limit = limits.iter().find(|limit| text(limit, "/limit") == Some(name))?;
                Some(format!("{}: {}", playbook(), text(limit, "/why").unwrap_or(name)))
            };
            match (of("budget"), of("probability")) {
                (Some(why), _) => (Trigger::Budget, why),
                (None, Some(why)) => (Trigger::LowConfidence, why),
                (None, None) => return None,
            }
        }
        "not_verified" => {
            let why = why().unwrap_or_else(|| "the signals that opened it are not back".to_owned());
            (Trigger::NotVerified, format!("an action did not help: {why}"))
        }
        "reversed" => (Trigger::Reversed, "an action was undone".to_owned()),
        "reversal_failed" => {
            let why = why().unwrap_or_default();
            (Trigger::Reversed, format!("an action could not be undone: {why}"))
        }
        "approval_expired" => (Trigger::Unanswered, "nobody approved the action in time".to_owned()),
        _ => return None,
    })
}

fn text<'v>(value: &'v Value, pointer: &str) -> Option<&'v str> {
    value.pointer(pointer).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(kind: &str, body: Value) -> LedgerRecord {
        let at = Timestamp::from_millis(1_000);
        LedgerRecord::sealed(0, at, "prod".into(), kind, None, body, LedgerRecord::GENESIS)
    }

    fn opened() -> LedgerRecord {
        let body = json!({"incident": "i", "title": "errors in cart", "severity": "critical", "services": ["cart"]});
        record("incident_opened", body)
    }

    fn limited(by: &str) -> LedgerRecord {
        let limits =
            json!([{"limit": "mode", "rung": "advise", "why": "m"}, {"limit": by, "rung": "advise", "why": "w"}]);
        record(
            "playbook_chosen",
            json!({"incident": "i", "playbook": "p", "limited_by": limits}),
        )
    }

    #[test]
    fn each_trigger_calls_and_only_where_it_is_asked_for() {
        let of = |kind: &str| record(kind, json!({"incident": "i", "why": "because", "owner": "shop-team"}));
        for (trigger, record) in [
            (Trigger::HandedOver, of("escalated")),
            (Trigger::LowConfidence, limited("probability")),
            (Trigger::Unprecedented, of("no_playbook")),
            (Trigger::Budget, limited("budget")),
            (Trigger::NotVerified, of("not_verified")),
            (Trigger::Reversed, of("reversed")),
            (Trigger::Reversed, of("reversal_failed")),
            (Trigger::Unanswered, of("approval_expired")),
        ] {
            let mut pager = Pager::new(&Trigger::ALL.into());
            assert_eq!(pager.take(&opened()), None);
            let page = pager.take(&record).unwrap();
            assert_eq!(
                (page.trigger, page.kind, &*page.title),
                (trigger, PageKind::Opened, "errors in cart")
            );
            let others = Trigger::ALL.into_iter().filter(|other| *other != trigger).collect();
            let mut deaf = Pager::new(&others);
            deaf.take(&opened());
            assert_eq!(deaf.take(&record), None);
        }
        let mut pager = Pager::new(&Trigger::ALL.into());
        pager.take(&opened());
        assert_eq!(
            pager.take(&limited("playbook")),
            None,
            "what a playbook asks for needs nobody"
        );
    }

    #[test]
    fn an_incident_calls_once_until_it_is_resolved_and_a_call_is_taken_back_with_it() {
        let mut pager = Pager::new(&Trigger::ALL.into());
        let not_verified = record("not_verified", json!({"incident": "i"}));
        let resolved = record("incident_resolved", json!({"incident": "i"}));
        pager.take(&opened());
        let first = pager.take(&not_verified).unwrap();
        assert_eq!(pager.take(&record("reversed", json!({"incident": "i"}))), None);
        let ack = record("acknowledged", json!({"incident": "i", "by": "ann", "reason": "mine"}));
        assert_eq!(pager.take(&ack).unwrap().why, "ann has it: mine");
        let last = pager.take(&resolved).unwrap();
        assert_eq!((last.kind, &last.key), (PageKind::Resolved, &first.key));
        pager.take(&opened());
        assert_eq!(pager.take(&resolved), None, "nobody was called");
        pager.take(&opened());
        assert!(pager.take(&not_verified).is_some(), "it came back");
    }

    #[test]
    fn no_more_incidents_are_kept_than_there_is_room_for() {
        let mut pager = Pager::new(&Trigger::ALL.into());
        for n in 0..=Pager::MOST {
            pager.take(&record("incident_opened", json!({"incident": format!("i{n}")})));
        }
        assert_eq!((pager.incidents.len(), pager.order.len()), (Pager::MOST, Pager::MOST));
        let page = pager.take(&record("escalated", json!({"incident": "i0", "why": "w"})));
        assert_eq!(
            page.unwrap().title,
            "an incident",
            "one that was forgotten calls all the same"
        );
    }
}
