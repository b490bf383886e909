//! What is asked of policies.

use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Serialize};
use suture_event::Timestamp;

/// An action and all that policies may know of it. The defaults are those of an example: a calm weekday in production.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Question {
    /// The playbook's name: the principal.
    pub playbook: String,
    /// The verb: the action.
    pub action: String,
    /// The service: the resource.
    pub service: String,
    /// People who approved it.
    pub approvals: i64,
    /// The rest of the context.
    #[serde(flatten)]
    pub context: Context,
}

/// What policies may know of an action beside who, what and where. See [`ATTRIBUTES`](crate::ATTRIBUTES).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)] // each is told of in `ATTRIBUTES`
pub struct Context {
    pub environment: String,
    pub tier: i64,
    pub class: String,
    pub severity: String,
    /// Filled in from the table of verbs where it is empty.
    pub reversibility: String,
    pub undoable: bool,
    pub targets: i64,
    pub touched: i64,
    pub fleet_percent: i64,
    pub hour: i64,
    pub weekday: i64,
    pub frozen: bool,
    pub budget_left: i64,
    pub trust: i64,
    pub confidence: i64,
    pub precedents: i64,
}

impl Default for Question {
    fn default() -> Self {
        Self {
            playbook: "a playbook".to_owned(),
            action: "restart".to_owned(),
            service: "a service".to_owned(),
            approvals: 0,
            context: Context::default(),
        }
    }
}

impl Default for Context {
    fn default() -> Self {
        Self {
            environment: "prod".to_owned(),
            tier: 2,
            class: "bad_deploy".to_owned(),
            severity: "warning".to_owned(),
            reversibility: String::new(),
            undoable: true,
            targets: 1,
            touched: 1,
            fleet_percent: 1,
            hour: 11,
            weekday: 2,
            frozen: false,
            budget_left: 2,
            trust: 90,
            confidence: 90,
            precedents: 3,
        }
    }
}

/// The hours of a time zone, by the database that is built in: the same on every machine.
#[derive(Debug, Clone)]
pub struct Hours(TimeZone);

impl Hours {
    /// Those of a zone such as `Europe/Berlin`, or of `UTC`. `None` where no such zone is known.
    #[must_use]
    pub fn of(zone: &str) -> Option<Self> {
        TimeZoneDatabase::bundled().get(zone).ok().map(Self)
    }

    /// The hour of the day, 0 to 23, and the day of the week, 1 for Monday to 7.
    #[must_use]
    pub fn at(&self, at: Timestamp) -> (i64, i64) {
        let zoned = jiff::Timestamp::from_millisecond(at.as_millis())
            .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
            .to_zoned(self.0.clone());
        (
            i64::from(zoned.hour()),
            i64::from(zoned.weekday().to_monday_one_offset()),
        )
    }
}

/// The share of a fleet that some services are, in percent, rounded up; 100 where the fleet's size is not known.
#[must_use]
pub fn fleet_percent(touched: i64, fleet: Option<u32>) -> i64 {
    match fleet.map(i64::from) {
        Some(fleet) if fleet > 0 => (touched.saturating_mul(100).saturating_add(fleet - 1) / fleet).min(100),
        _ => 100,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_those_of_the_zone_in_summer_and_in_winter() {
        let berlin = Hours::of("Europe/Berlin").unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(berlin.at(at("2026-07-01T07:30:00Z")), (9, 3));
        assert_eq!(berlin.at(at("2026-11-28T23:30:00Z")), (0, 7));
        assert_eq!(Hours::of("UTC").unwrap().at(at("2026-11-28T23:30:00Z")), (23, 6));
        assert!(Hours::of("Europe/Atlantis").is_none());
    }

    #[test]
    fn a_fleet_of_unknown_size_is_touched_as_a_whole() {
        assert_eq!(fleet_percent(1, None), 100);
        assert_eq!(fleet_percent(1, Some(0)), 100);
        assert_eq!(fleet_percent(1, Some(100)), 1);
        assert_eq!(fleet_percent(1, Some(150)), 1);
        assert_eq!(fleet_percent(3, Some(8)), 38);
        assert_eq!(fleet_percent(9, Some(8)), 100);
    }
}
