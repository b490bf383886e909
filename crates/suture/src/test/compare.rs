//! What a test expects, held against what was found.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use suture_event::{
    ActionRequest, HypothesisKind, Incident, IncidentStatus, LedgerRecord, Rung, Severity, Span, Timestamp,
};

use super::Heard;

/// Records that are shown of a ledger in which one was looked for, at most.
const SHOWN: usize = 12;

/// What a test expects. What it does not name may be anything.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expect {
    /// The incidents, in the order in which they open, and no others. Absent: any.
    #[serde(default)]
    incidents: Option<Vec<Wanted>>,
    /// Records of the ledger, in this order, with any others between. `kind`, `scope`, and what stands in the body.
    #[serde(default)]
    decisions: Vec<BTreeMap<String, Value>>,
    /// Kinds of record that must not be in the ledger.
    #[serde(default)]
    never: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// All of these are among its services.
    #[serde(default)]
    services: Vec<String>,
    #[serde(default)]
    scope: Option<String>,
    #[serde(default)]
    severity: Option<Severity>,
    #[serde(default)]
    status: Option<IncidentStatus>,
    #[serde(default)]
    opened: Option<Between>,
    #[serde(default)]
    cause: Option<Cause>,
    /// What was asked of executors for it, in order, and nothing else.
    #[serde(default)]
    requests: Option<Vec<Request>>,
}

/// Times from the start.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Between {
    #[serde(default)]
    after: Option<Span>,
    #[serde(default)]
    before: Option<Span>,
}

/// The likeliest cause.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cause {
    #[serde(default)]
    kind: Option<HypothesisKind>,
    #[serde(default)]
    service: Option<String>,
    #[serde(default)]
    change: Option<String>,
    #[serde(default)]
    class: Option<String>,
    /// Its probability.
    #[serde(default)]
    at_least: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    action: String,
    #[serde(default)]
    target: Option<String>,
    #[serde(default)]
    rung: Option<Rung>,
    #[serde(default)]
    playbook: Option<String>,
}

/// Lines with `-` what was expected and with `+` what was found.
#[derive(Default)]
struct Lines(Vec<String>);

impl Lines {
    fn differ(&mut self, name: &str, expected: impl std::fmt::Display, found: impl std::fmt::Display) {
        self.0.push(format!("        - {name}: {expected}"));
        self.0.push(format!("        + {name}: {found}"));
    }

    fn same(&mut self, name: &str, expected: Option<&str>, found: Option<&str>) {
        if let Some(expected) = expected
            && Some(expected) != found
        {
            self.differ(name, expected, found.unwrap_or("none"));
        }
    }
}

impl Expect {
    /// What is not as expected, a line each.
    pub(super) fn differences(&self, heard: &Heard, start: Timestamp) -> Vec<String> {
        let mut out = Vec::new();
        if let Some(wanted) = &self.incidents {
            let mut found = heard.incidents.values();
            for (number, wanted) in wanted.iter().enumerate() {
                match found.next() {
                    Some(incident) => {
                        let lines = wanted.differences(incident, heard, start);
                        if !lines.is_empty() {
                            out.push(format!("    incident {}, {}:", number + 1, told(incident, start)));
                            out.extend(lines);
                        }
                    }
                    None => {
                        out.push(format!("    - incident {}: {}", number + 1, wanted.told()));
                        out.push("    + there is none".to_owned());
                    }
                }
            }
            let more: Vec<&Incident> = found.collect();
            if !more.is_empty() {
                let none = if wanted.is_empty() {
                    "no incident"
                } else {
                    "no further incident"
                };
                out.push(format!("    - {none}"));
                out.extend(more.iter().map(|incident| format!("    + {}", told(incident, start))));
            }
        }
        let mut rest = heard.ledger.iter();
        for wanted in &self.decisions {
            let from = rest.clone();
            if rest.any(|record| fits(wanted, record)) {
                continue;
            }
            out.push(format!("    - {}", line(wanted)));
            let shown: Vec<String> = from
                .clone()
                .take(SHOWN)
                .map(|record| format!("    + {}", short(record)))
                .collect();
            if shown.is_empty() {
                out.push("    + no further decision".to_owned());
            }
            out.extend(shown);
            let more = from.count().saturating_sub(SHOWN);
            if more > 0 {
                out.push(format!("      and {more} decisions more"));
            }
            break;
        }
        for record in heard
            .ledger
            .iter()
            .filter(|record| self.never.iter().any(|kind| **kind == *record.kind))
        {
            out.push(format!("    - never {}", record.kind));
            out.push(format!("    + {}", short(record)));
        }
        out
    }
}

impl Wanted {
    fn differences(&self, incident: &Incident, heard: &Heard, start: Timestamp) -> Vec<String> {
        let mut lines = Lines::default();
        let found: Vec<&str> = incident.services.iter().map(|service| &**service).collect();
        if self.services.iter().any(|service| !found.contains(&service.as_str())) {
            lines.differ("services", self.services.join(", "), found.join(", "));
        }
        lines.same("scope", self.scope.as_deref(), Some(&incident.scope));
        lines.same(
            "severity",
            self.severity.map(|it| word(&it)).as_deref(),
            Some(&word(&incident.severity)),
        );
        lines.same(
            "status",
            self.status.map(|it| word(&it)).as_deref(),
            Some(&word(&incident.status)),
        );
        if let Some(between) = &self.opened {
            let at = incident.opened_at.since(start);
            if between.after.is_some_and(|after| at < after) || between.before.is_some_and(|before| at > before) {
                lines.differ("opened", between.told(), at);
            }
        }
        if let Some(cause) = &self.cause {
            cause.compare(incident, &mut lines);
        }
        if let Some(wanted) = &self.requests {
            let found: Vec<&ActionRequest> = heard.requests.iter().filter(|it| it.incident == incident.id).collect();
            let same = wanted.len() == found.len() && wanted.iter().zip(&found).all(|(wanted, found)| wanted.is(found));
            if !same {
                let expected = wanted.iter().map(Request::told).collect();
                let found = found.iter().map(|it| asked(it)).collect();
                lines.differ("requests", list(expected), list(found));
            }
        }
        lines.0
    }

    fn told(&self) -> String {
        let mut parts = Vec::new();
        if !self.services.is_empty() {
            parts.push(format!("of {}", self.services.join(", ")));
        }
        if let Some(cause) = &self.cause {
            let class = cause.class.as_deref().unwrap_or("any cause");
            let service = cause
                .service
                .as_deref()
                .map_or(String::new(), |service| format!(" in {service}"));
            parts.push(format!("by {class}{service}"));
        }
        if let Some(between) = &self.opened {
            parts.push(format!("opened {}", between.told()));
        }
        if parts.is_empty() {
            "any".to_owned()
        } else {
            parts.join(", ")
        }
    }
}

impl Between {
    fn told(&self) -> String {
        let side = |word: &str, at: Option<Span>| at.map(|at| format!("{word} {at}"));
        let sides: Vec<String> = [side("after", self.after), side("before", self.before)]
            .into_iter()
            .flatten()
            .collect();
        sides.join(" and ")
    }
}

impl Cause {
    fn compare(&self, incident: &Incident, lines: &mut Lines) {
        let Some(first) = incident.hypotheses.first() else {
            lines.differ("cause", "one", "none");
            return;
        };
        lines.same(
            "cause.kind",
            self.kind.map(|it| word(&it)).as_deref(),
            Some(&word(&first.kind)),
        );
        lines.same("cause.service", self.service.as_deref(), first.service.as_deref());
        lines.same("cause.change", self.change.as_deref(), first.change.as_deref());
        lines.same("cause.class", self.class.as_deref(), Some(&first.class));
        if let Some(least) = self.at_least
            && first.probability < least
        {
            lines.differ(
                "cause.probability",
                format!("at least {least}"),
                format!("{:.3}", first.probability),
            );
        }
    }
}

impl Request {
    fn is(&self, found: &ActionRequest) -> bool {
        *self.action == *found.step.action
            && self.target.as_deref().is_none_or(|target| *target == *found.target)
            && self.rung.is_none_or(|rung| rung == found.rung)
            && self
                .playbook
                .as_deref()
                .is_none_or(|playbook| *playbook == *found.playbook)
    }

    fn told(&self) -> String {
        let mut text = self.action.clone();
        if let Some(target) = &self.target {
            text.push_str(&format!(" of {target}"));
        }
        if let Some(rung) = &self.rung {
            text.push_str(&format!(", {}", word(rung)));
        }
        if let Some(playbook) = &self.playbook {
            text.push_str(&format!(", by {playbook}"));
        }
        text
    }
}

fn asked(found: &ActionRequest) -> String {
    format!(
        "{} of {}, {}, by {}",
        found.step.action,
        found.target,
        word(&found.rung),
        found.playbook
    )
}

fn list(items: Vec<String>) -> String {
    if items.is_empty() {
        "none".to_owned()
    } else {
        items.join("; ")
    }
}

fn told(incident: &Incident, start: Timestamp) -> String {
    let at = incident.opened_at.since(start);
    format!("{at} after the start: {}", incident.title)
}

/// A value of an enumeration as files write it.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        _ => String::new(),
    }
}

/// Whether a record has all that is named.
fn fits(wanted: &BTreeMap<String, Value>, record: &LedgerRecord) -> bool {
    wanted.iter().all(|(key, value)| match key.as_str() {
        "kind" => value.as_str() == Some(&record.kind),
        "scope" => value.as_str() == Some(&record.scope),
        key => record.body.get(key).is_some_and(|found| within(value, found)),
    })
}

/// Whether a value has all that is named of it.
fn within(wanted: &Value, found: &Value) -> bool {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => wanted
            .iter()
            .all(|(key, value)| found.get(key).is_some_and(|found| within(value, found))),
        _ => wanted == found,
    }
}

fn line(wanted: &BTreeMap<String, Value>) -> String {
    let parts: Vec<String> = wanted
        .iter()
        .map(|(key, value)| format!("{key}: {}", plain(value)))
        .collect();
    parts.join(", ")
}

fn short(record: &LedgerRecord) -> String {
    let texts = record
        .body
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, value)| value.is_string());
    let texts: Vec<String> = texts.map(|(key, value)| format!("{key}: {}", plain(value))).collect();
    format!("{} ({})", record.kind, texts.join(", "))
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
