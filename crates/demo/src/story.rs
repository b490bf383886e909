//! The demo's accounts: what was broken, what was found, blamed and healed, and how long each took.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
};

use serde_json::{Value, json};
use suture_event::{ActionRequest, Edge, Incident, Outcome, OutcomeStatus, Span, Timestamp, canonical};
use suture_simulate::{Fault, Healer};

use crate::DemoEvent;

/// An incident may open this long before its fault shows, by the width of a window.
const EARLY: Span = Span::from_mins(1);
/// And this long after the fault is gone.
const LATE: Span = Span::from_mins(2);

/// What is known of one fault so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The truth.
    pub fault: Fault,
    /// The incident that found it, and when.
    pub found: Option<(Arc<str>, Timestamp)>,
    /// Whether that incident's first hypothesis named the cause, when it was last looked at with the fault still there.
    pub blamed_right: bool,
    /// When it first did.
    pub blamed_at: Option<Timestamp>,
    /// The first hypothesis, in words.
    pub blamed: Option<String>,
    /// The action that healed it, by name.
    pub remedy: Option<String>,
    /// When its incident was resolved.
    pub recovered_at: Option<Timestamp>,
}

/// The accounts of one run.
#[derive(Debug, Clone, Default)]
pub struct Story {
    rows: BTreeMap<usize, Row>,
    /// Services that call each service, directly or not, and itself.
    reach: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// What each incident was opened for.
    incidents: BTreeMap<Arc<str>, Verdict>,
    actions: BTreeMap<Arc<str>, ActionRequest>,
    succeeded: u32,
    needless: BTreeSet<Arc<str>>,
}

/// What an incident turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It found a fault.
    Found,
    /// It is about a fault that another incident had found.
    Repeated,
    /// There was nothing.
    False,
}

/// The closing table.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// One row a fault, by time.
    pub rows: Vec<Row>,
    /// How many incidents were opened.
    pub incidents: usize,
    /// Those about a fault that was found already.
    pub repeated: usize,
    /// Those about nothing.
    pub false_incidents: usize,
    /// Actions that succeeded.
    pub actions: u32,
    /// Those among them that healed nothing.
    pub needless: usize,
}

impl Story {
    /// Nothing has happened yet. The edges tell which services feel a fault.
    #[must_use]
    pub fn new(topology: &[Edge]) -> Self {
        let mut reach: BTreeMap<Arc<str>, BTreeSet<Arc<str>>> = BTreeMap::new();
        for edge in topology {
            for service in [&edge.from, &edge.to] {
                reach.entry(service.clone()).or_default().insert(service.clone());
            }
        }
        // edges have no cycle longer than the services they name
        for _ in 0..reach.len() {
            for edge in topology {
                let callers = reach.get(&edge.from).cloned().unwrap_or_default();
                reach.entry(edge.to.clone()).or_default().extend(callers);
            }
        }
        Self {
            reach,
            ..Self::default()
        }
    }

    /// Takes in what happened.
    pub fn take(&mut self, event: &DemoEvent) {
        match event {
            DemoEvent::FaultInjected(fault) => {
                let row = Row {
                    fault: fault.clone(),
                    found: None,
                    blamed_right: false,
                    blamed_at: None,
                    blamed: None,
                    remedy: None,
                    recovered_at: None,
                };
                self.rows.insert(fault.id, row);
            }
            DemoEvent::FaultHealed(fault) => self.healed(fault),
            DemoEvent::Incident(incident) => self.incident(incident),
            DemoEvent::Remediation(request) => {
                self.actions.insert(request.id.clone(), request.clone());
            }
            DemoEvent::Outcome(outcome) => self.outcome(outcome),
            _ => {}
        }
    }

    fn healed(&mut self, fault: &Fault) {
        let Some(row) = self.rows.get_mut(&fault.id) else {
            return;
        };
        row.fault = fault.clone();
        row.remedy = match &fault.healed_by {
            Some(Healer::Action(id)) => {
                self.needless.remove(id);
                Some(
                    self.actions
                        .get(id)
                        .map_or_else(|| "action".to_owned(), |a| a.step.action.to_string()),
                )
            }
            Some(Healer::OnCall) => Some("by hand".to_owned()),
            None => None,
        };
    }

    fn outcome(&mut self, outcome: &Outcome) {
        if outcome.status != OutcomeStatus::Succeeded {
            return;
        }
        self.succeeded += 1;
        let heals = |row: &Row| matches!(&row.fault.healed_by, Some(Healer::Action(id)) if *id == outcome.action);
        let reversal = self.actions.get(&outcome.action).is_some_and(|a| a.reverses.is_some());
        if !reversal && !self.rows.values().any(heals) {
            self.needless.insert(outcome.action.clone());
        }
    }

    fn incident(&mut self, incident: &Incident) {
        let known = self.incidents.contains_key(&incident.id);
        if !known {
            self.incidents.insert(incident.id.clone(), Verdict::False);
        }
        let concerned: Vec<usize> = self
            .rows
            .values()
            .filter(|row| self.concerns(incident, row))
            .map(|row| row.fault.id)
            .collect();
        for id in concerned {
            let Some(row) = self.rows.get_mut(&id) else { continue };
            let verdict = match &row.found {
                Some((other, _)) if *other == incident.id => continue,
                Some(_) => Verdict::Repeated,
                None => {
                    row.found = Some((incident.id.clone(), incident.opened_at.max(row.fault.start)));
                    Verdict::Found
                }
            };
            let slot = self.incidents.entry(incident.id.clone()).or_insert(verdict);
            if *slot != Verdict::Found {
                *slot = verdict;
            }
        }
        for row in self.rows.values_mut() {
            if row.found.as_ref().is_none_or(|(id, _)| *id != incident.id) {
                continue;
            }
            let gone = row.fault.healed_at.is_some_and(|healed| healed < incident.updated_at);
            if let (Some(first), false) = (incident.hypotheses.first(), gone) {
                let service = first.service.as_deref().unwrap_or("?");
                let place = first
                    .change
                    .as_ref()
                    .map_or_else(|| service.to_owned(), |c| format!("{service} {c}"));
                row.blamed = Some(format!("{} {place} {:.2}", first.class, first.probability));
                row.blamed_right = match &row.fault.change {
                    Some(change) => first.change.as_ref() == Some(change),
                    None => first.change.is_none() && first.service.as_ref() == Some(&row.fault.service),
                };
                if row.blamed_right && row.blamed_at.is_none() {
                    row.blamed_at = Some(incident.updated_at);
                }
            }
            row.recovered_at = incident.resolved_at;
        }
    }

    /// Whether an incident is about this fault: open while the fault was there, with a new signal where the fault is felt.
    fn concerns(&self, incident: &Incident, row: &Row) -> bool {
        let fault = &row.fault;
        let from = fault.start.minus(EARLY);
        let until = fault.healed_at.map_or(Timestamp::MAX, |healed| healed.plus(LATE));
        if incident.opened_at > until || incident.resolved_at.is_some_and(|resolved| resolved < from) {
            return false;
        }
        let felt = |service: &Arc<str>| match self.reach.get(&fault.service) {
            Some(reach) => reach.contains(service),
            None => *service == fault.service,
        };
        incident
            .signals
            .iter()
            .any(|s| s.onset >= from && s.onset <= until && s.service.as_ref().is_some_and(felt))
            || (incident.opened_at >= from && incident.services.iter().any(felt))
    }

    /// The table as things stand.
    #[must_use]
    pub fn table(&self) -> Table {
        let count = |verdict| self.incidents.values().filter(|v| **v == verdict).count();
        Table {
            rows: self.rows.values().cloned().collect(),
            incidents: self.incidents.len(),
            repeated: count(Verdict::Repeated),
            false_incidents: count(Verdict::False),
            actions: self.succeeded,
            needless: self.needless.len(),
        }
    }
}

impl Row {
    /// Minutes from the fault's start.
    fn minutes(&self, at: Option<Timestamp>) -> Option<f64> {
        at.map(|at| at.since(self.fault.start).as_secs_f64() / 60.0)
    }

    /// When it was found.
    #[must_use]
    pub fn minutes_to_find(&self) -> Option<f64> {
        self.minutes(self.found.as_ref().map(|(_, at)| *at))
    }

    /// When its cause was first named.
    #[must_use]
    pub fn minutes_to_blame(&self) -> Option<f64> {
        self.minutes(self.blamed_at)
    }

    /// When an action removed its cause; none where somebody had to do it by hand.
    #[must_use]
    pub fn minutes_to_heal(&self) -> Option<f64> {
        match self.fault.healed_by {
            Some(Healer::Action(_)) => self.minutes(self.fault.healed_at),
            _ => None,
        }
    }

    /// When its incident was resolved.
    #[must_use]
    pub fn minutes_to_recover(&self) -> Option<f64> {
        self.minutes(self.recovered_at)
    }
}

impl Table {
    /// How many faults were found.
    #[must_use]
    pub fn found(&self) -> usize {
        self.rows.iter().filter(|r| r.found.is_some()).count()
    }

    /// How many were blamed on their cause.
    #[must_use]
    pub fn blamed_right(&self) -> usize {
        self.rows.iter().filter(|r| r.blamed_right).count()
    }

    /// How many were healed by an action.
    #[must_use]
    pub fn healed(&self) -> usize {
        self.rows.iter().filter(|r| r.minutes_to_heal().is_some()).count()
    }

    /// The median over faults of a number of minutes; none where no fault has it.
    #[must_use]
    pub fn median(&self, minutes: impl Fn(&Row) -> Option<f64>) -> Option<f64> {
        let mut all: Vec<f64> = self.rows.iter().filter_map(minutes).collect();
        all.sort_by(f64::total_cmp);
        let middle = all.len() / 2;
        match all.len() {
            0 => None,
            n if n % 2 == 1 => all.get(middle).copied(),
            _ => Some(f64::midpoint(*all.get(middle - 1)?, *all.get(middle)?)),
        }
    }

    /// As text for a terminal of 100 columns.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        let minutes = |m: Option<f64>| m.map_or_else(|| "-".to_owned(), |m| format!("{m:.1}"));
        // writing to a text can't fail
        let _ = writeln!(
            out,
            "{:>2}  {:15} {:15} {:8}  {:>5} {:>6} {:>6} {:>9}  {:11} right",
            "#", "fault", "service", "injected", "found", "blamed", "healed", "recovered", "remedy"
        );
        for row in &self.rows {
            let fault = &row.fault;
            let _ = writeln!(
                out,
                "{:>2}  {:15} {:15} {:8}  {:>5} {:>6} {:>6} {:>9}  {:11} {}",
                fault.id + 1,
                fault.kind.name().replace('_', " "),
                fault.service,
                clock(fault.start),
                minutes(row.minutes_to_find()),
                minutes(row.minutes_to_blame()),
                minutes(row.minutes_to_heal()),
                minutes(row.minutes_to_recover()),
                row.remedy.as_deref().unwrap_or("-"),
                match (&row.blamed, row.blamed_right) {
                    (_, true) => "yes".to_owned(),
                    (Some(what), false) => format!("no: {what}"),
                    (None, false) => "no".to_owned(),
                },
            );
        }
        let _ = writeln!(
            out,
            "\nfaults injected {}, found {}, blamed right {}, healed {}",
            self.rows.len(),
            self.found(),
            self.blamed_right(),
            self.healed()
        );
        let _ = writeln!(
            out,
            "median minutes to find {}, to blame {}, to heal {}, to recover {}",
            minutes(self.median(Row::minutes_to_find)),
            minutes(self.median(Row::minutes_to_blame)),
            minutes(self.median(Row::minutes_to_heal)),
            minutes(self.median(Row::minutes_to_recover)),
        );
        let _ = writeln!(
            out,
            "incidents {}, of them false {}, repeated {}; actions {}, of them needless {}",
            self.incidents, self.false_incidents, self.repeated, self.actions, self.needless
        );
        out
    }

    /// As JSON, minutes as numbers or null.
    #[must_use]
    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            json!({
                "fault": row.fault,
                "incident": row.found.as_ref().map(|(id, _)| id),
                "blamed": row.blamed,
                "blamed_right": row.blamed_right,
                "remedy": row.remedy,
                "minutes": {
                    "found": row.minutes_to_find(),
                    "blamed": row.minutes_to_blame(),
                    "healed": row.minutes_to_heal(),
                    "recovered": row.minutes_to_recover(),
                },
            })
        });
        canonical(json!({
            "faults": rows.collect::<Vec<_>>(),
            "injected": self.rows.len(),
            "found": self.found(),
            "blamed_right": self.blamed_right(),
            "healed": self.healed(),
            "median_minutes": {
                "found": self.median(Row::minutes_to_find),
                "blamed": self.median(Row::minutes_to_blame),
                "healed": self.median(Row::minutes_to_heal),
                "recovered": self.median(Row::minutes_to_recover),
            },
            "incidents": self.incidents,
            "false_incidents": self.false_incidents,
            "repeated_incidents": self.repeated,
            "actions": self.actions,
            "needless_actions": self.needless,
        }))
    }
}

/// The time of day, in UTC.
pub(super) fn clock(at: Timestamp) -> String {
    let seconds = at.as_millis().div_euclid(1_000).rem_euclid(86_400);
    format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}
