//! What came of incidents and actions, by week, from the ledger alone.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;
use serde_json::Value;
use suture_event::{LedgerRecord, Span, Timestamp};

use crate::kind;

/// One week of a report. Incidents count in the week in which they opened, and actions in that in which they were sent.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Week {
    /// Its first moment: Monday, 00:00 UTC.
    pub from: Timestamp,
    /// Incidents, but for those that a human called a false alarm or maintenance.
    pub incidents: u32,
    /// Those that a human called so.
    pub no_incidents: u32,
    /// Incidents after an action of which every signal that opened them came back, with nobody asked, called or taking over.
    pub healed_alone: u32,
    /// The same with a human's approval.
    pub healed_approved: u32,
    /// Incidents that were handed to a human.
    pub escalated: u32,
    /// The share of incidents that were healed with nobody asked, 0 to 1; absent where there was none.
    pub auto_resolution: Option<f64>,
    /// Actions that executors were let do, but for those that undo others.
    pub actions: u32,
    /// Actions that were taken back.
    pub reversed: u32,
    /// The share of actions that were taken back, 0 to 1; absent where there was none.
    pub rollback_rate: Option<f64>,
    /// Minutes from an incident's opening until every signal was back after an action: the median; absent where none was healed.
    pub minutes_to_repair: Option<f64>,
}

/// A fold over ledger records of any number of scopes. It holds as much as it was given.
#[derive(Debug, Clone, Default)]
pub struct Report {
    incidents: BTreeMap<(Arc<str>, String), Story>,
    /// When each action was sent, for whom, and whether it was taken back.
    actions: BTreeMap<(Arc<str>, String), Sent>,
}

#[derive(Debug, Clone, Default)]
struct Story {
    opened: Option<Timestamp>,
    healed: Option<Timestamp>,
    approved: bool,
    escalated: bool,
    taken: bool,
    none: bool,
}

#[derive(Debug, Clone)]
struct Sent {
    at: Timestamp,
    reversed: bool,
}

impl Report {
    /// Takes one record.
    pub fn record(&mut self, record: &LedgerRecord) {
        let body = &record.body;
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        let request = body.get("request").unwrap_or(&Value::Null);
        let asked = |name: &str| request.get(name).and_then(Value::as_str);
        let Some(incident) = text("incident").or_else(|| asked("incident")) else {
            return;
        };
        let story = self
            .incidents
            .entry((Arc::clone(&record.scope), incident.to_owned()))
            .or_default();
        match &*record.kind {
            kind::INCIDENT_OPENED => story.opened = story.opened.or(Some(record.at)),
            kind::ACTION_REQUESTED => {
                let sent = asked("rung") == Some("autonomous");
                let original = asked("reverses");
                if let Some(id) = original.or_else(|| asked("id")).filter(|_| sent || original.is_some()) {
                    let id = (Arc::clone(&record.scope), id.to_owned());
                    let at = record.at;
                    let action = self.actions.entry(id).or_insert(Sent { at, reversed: false });
                    action.reversed |= original.is_some();
                }
            }
            kind::APPROVED => story.approved = true,
            kind::VERIFIED => story.healed = story.healed.or(Some(record.at)),
            kind::ESCALATED => story.escalated = true,
            kind::ACKNOWLEDGED | kind::UNDONE => story.taken = true,
            kind::LABELLED => story.none = matches!(text("label"), Some("false_alarm" | "maintenance")),
            _ => {}
        }
    }

    /// The weeks in which anything was, in order.
    #[must_use]
    pub fn weeks(&self) -> Vec<Week> {
        let mut weeks: BTreeMap<Timestamp, (Week, Vec<f64>)> = BTreeMap::new();
        for story in self.incidents.values() {
            let Some(opened) = story.opened else { continue };
            let (week, minutes) = weeks.entry(week_of(opened)).or_default();
            if story.none {
                week.no_incidents += 1;
                continue;
            }
            week.incidents += 1;
            week.escalated += u32::from(story.escalated);
            let Some(healed) = story.healed.filter(|_| !story.escalated && !story.taken) else {
                continue;
            };
            minutes.push(healed.since(opened).as_secs_f64() / 60.0);
            if story.approved {
                week.healed_approved += 1;
            } else {
                week.healed_alone += 1;
            }
        }
        for sent in self.actions.values() {
            let (week, _) = weeks.entry(week_of(sent.at)).or_default();
            week.actions += 1;
            week.reversed += u32::from(sent.reversed);
        }
        let share = |part: u32, of: u32| (of > 0).then(|| f64::from(part) / f64::from(of));
        let done = |(from, (week, minutes)): (Timestamp, (Week, Vec<f64>))| Week {
            from,
            auto_resolution: share(week.healed_alone, week.incidents),
            rollback_rate: share(week.reversed, week.actions),
            minutes_to_repair: median(minutes),
            ..week
        };
        weeks.into_iter().map(done).collect()
    }
}

fn week_of(at: Timestamp) -> Timestamp {
    const DAY: i64 = 24 * 60 * 60 * 1_000;
    // the epoch was a Thursday
    let since_monday = (at.as_millis().div_euclid(DAY) + 3).rem_euclid(7);
    let midnight = at.minus(Span::from_millis(at.as_millis().rem_euclid(DAY)));
    midnight.minus(Span::from_hours(since_monday * 24))
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    let lower = if values.len().is_multiple_of(2) {
        values.get(middle.checked_sub(1)?)?
    } else {
        &upper
    };
    Some((lower + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn told(records: &[(&str, &str, Value)]) -> Vec<Week> {
        let mut report = Report::default();
        for (when, kind, body) in records {
            let record = LedgerRecord::sealed(
                0,
                at(when),
                "prod".into(),
                kind,
                None,
                body.clone(),
                LedgerRecord::GENESIS,
            );
            report.record(&record);
        }
        report.weeks()
    }

    fn sent(incident: &str, id: &str, reverses: Option<&str>) -> Value {
        json!({"request": {"id": id, "incident": incident, "rung": "autonomous", "reverses": reverses}})
    }

    #[test]
    fn weeks_begin_on_monday() {
        assert_eq!(week_of(at("2026-11-28T12:00:00Z")), at("2026-11-23T00:00:00Z"));
        assert_eq!(week_of(at("2026-11-23T00:00:00Z")), at("2026-11-23T00:00:00Z"));
        assert_eq!(week_of(at("2026-11-22T23:59:59Z")), at("2026-11-16T00:00:00Z"));
        assert_eq!(week_of(at("1969-12-31T00:00:00Z")), at("1969-12-29T00:00:00Z"));
    }

    #[test]
    fn incidents_and_actions_are_counted_by_week() {
        let of = |incident: &str| json!({"incident": incident});
        let weeks = told(&[
            // healed alone in four minutes
            ("2026-11-23T10:00:00Z", kind::INCIDENT_OPENED, of("i1")),
            ("2026-11-23T10:01:00Z", kind::ACTION_REQUESTED, sent("i1", "a1", None)),
            ("2026-11-23T10:04:00Z", kind::VERIFIED, of("i1")),
            // healed with an approval in eight
            ("2026-11-24T10:00:00Z", kind::INCIDENT_OPENED, of("i2")),
            ("2026-11-24T10:05:00Z", kind::APPROVED, of("i2")),
            ("2026-11-24T10:05:00Z", kind::ACTION_REQUESTED, sent("i2", "a2", None)),
            ("2026-11-24T10:08:00Z", kind::VERIFIED, of("i2")),
            // taken back and handed over
            ("2026-11-25T10:00:00Z", kind::INCIDENT_OPENED, of("i3")),
            ("2026-11-25T10:01:00Z", kind::ACTION_REQUESTED, sent("i3", "a3", None)),
            (
                "2026-11-25T10:20:00Z",
                kind::ACTION_REQUESTED,
                sent("i3", "a4", Some("a3")),
            ),
            ("2026-11-25T10:20:00Z", kind::ESCALATED, of("i3")),
            // none at all
            ("2026-11-26T10:00:00Z", kind::INCIDENT_OPENED, of("i4")),
            (
                "2026-11-26T10:00:00Z",
                kind::LABELLED,
                json!({"incident": "i4", "label": "false_alarm"}),
            ),
            // the next week
            ("2026-11-30T10:00:00Z", kind::INCIDENT_OPENED, of("i5")),
        ]);
        assert_eq!(weeks.len(), 2);
        let first = &weeks[0];
        assert_eq!((first.incidents, first.no_incidents, first.escalated), (3, 1, 1));
        assert_eq!((first.healed_alone, first.healed_approved), (1, 1));
        assert_eq!((first.actions, first.reversed), (3, 1));
        assert!((first.auto_resolution.unwrap() - 1.0 / 3.0).abs() < 1e-12);
        assert!((first.rollback_rate.unwrap() - 1.0 / 3.0).abs() < 1e-12);
        assert!((first.minutes_to_repair.unwrap() - 6.0).abs() < 1e-12);
        let second = &weeks[1];
        assert_eq!((second.incidents, second.auto_resolution), (1, Some(0.0)));
        assert_eq!((second.rollback_rate, second.minutes_to_repair), (None, None));
    }
}
