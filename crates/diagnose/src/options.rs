//! What a pipeline file may say about diagnosis.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use suture_event::{Checker, Problem, Span};

/// How anomalies become incidents, and incidents get their causes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// When a group of anomalies is worth an incident.
    pub open: OpenOptions,
    /// Which anomalies belong together.
    pub group: GroupOptions,
    /// How changes are tied to incidents.
    pub changes: ChangeOptions,
    /// How causes are weighed against each other.
    pub rank: RankOptions,
    /// How the background of chance anomalies is learned.
    pub background: BackgroundOptions,
    /// When an incident is over.
    pub resolve: ResolveOptions,
    /// Bounds on what is kept.
    pub limits: LimitOptions,
}

/// How many false incidents may be expected in how long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FalseIncidents {
    /// So many.
    pub at_most: f64,
    /// In so long.
    pub per: Span,
}

impl Default for FalseIncidents {
    fn default() -> Self {
        Self {
            at_most: 2.0,
            per: Span::from_hours(24 * 7),
        }
    }
}

/// When a group of anomalies is worth an incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OpenOptions {
    /// How many incidents without a cause the scope will stand; what a group must show follows from this and from how
    /// high groups reached in calm times.
    pub false_incidents: FalseIncidents,
    /// Whatever calm times were like, a group must show this many nats. What it must show besides follows from
    /// `false_incidents`, and 0 leaves it at that.
    pub least: f64,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            false_incidents: FalseIncidents::default(),
            least: 0.0,
        }
    }
}

/// Which anomalies belong together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GroupOptions {
    /// Anomalies this close in time corroborate each other.
    pub within: Span,
    /// What is over still counts for so long.
    pub linger: Span,
    /// An incident takes in what comes up within reach for this long after it opened; later, only what points at its
    /// centre.
    pub spread: Span,
    /// For this long after an incident, what comes up within reach is taken for its aftermath unless it is strong.
    pub aftershock: Span,
    /// Within reach is what lies at most so many calls away, either way.
    pub reach: u32,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            within: Span::from_mins(5),
            linger: Span::from_mins(2),
            spread: Span::from_mins(10),
            aftershock: Span::from_mins(10),
            reach: 2,
        }
    }
}

/// How changes are tied to incidents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChangeOptions {
    /// Changes older than this at an incident's onset are no suspects.
    pub look_back: Span,
    /// For this long after a change, what it would explain is held: if it passes it was the change, if it stays the
    /// incident opens when the span is over.
    pub grace: Span,
    /// A bad change shows after about this long (the mean of an exponential distribution).
    pub typical_lag: Span,
    /// The part of bad changes that show at any time within `look_back` instead.
    pub slow_share: f64,
    /// The part of changes that are bad.
    pub bad_share: f64,
}

impl Default for ChangeOptions {
    fn default() -> Self {
        Self {
            look_back: Span::from_mins(60),
            grace: Span::from_mins(2),
            typical_lag: Span::from_mins(4),
            slow_share: 0.1,
            bad_share: 0.05,
        }
    }
}

/// How causes are weighed against each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RankOptions {
    /// How often a service fails without a change: the rate that a change's timing is weighed against.
    pub spontaneous: FalseIncidents,
    /// Log-odds, before any evidence, of a cause not on the list.
    pub none: f64,
    /// Causes listed at most; the probability of the rest goes to none of these.
    pub hypotheses: usize,
}

impl Default for RankOptions {
    fn default() -> Self {
        Self {
            spontaneous: FalseIncidents {
                at_most: 1.0,
                per: Span::from_hours(24 * 7),
            },
            none: -3.0,
            hypotheses: 8,
        }
    }
}

/// How the background of chance anomalies is learned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BackgroundOptions {
    /// What was seen this long ago counts half.
    pub half_life: Span,
    /// A series is taken to show an anomaly `prior_count` times in `prior_span` until it has shown how often it does.
    pub prior_count: f64,
    /// See `prior_count`.
    pub prior_span: Span,
    /// No single signal counts for more nats than this.
    pub most: f64,
    /// Length of the blocks of time whose strongest group is kept.
    pub block: Span,
    /// Blocks that count for as much as what is taken beforehand.
    pub prior_blocks: f64,
    /// Series whose own rate is kept; further ones go by their kind's.
    pub series: usize,
}

impl Default for BackgroundOptions {
    fn default() -> Self {
        Self {
            half_life: Span::from_hours(24 * 7),
            prior_count: 0.5,
            prior_span: Span::from_hours(24),
            most: 18.0,
            block: Span::from_mins(10),
            prior_blocks: 288.0,
            series: 100_000,
        }
    }
}

/// When an incident is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResolveOptions {
    /// Once every signal is back, this long without a relapse.
    pub calm: Span,
    /// With every signal back or silent and nothing new for this long, the incident is closed, not recovered.
    pub quiet: Span,
    /// With nothing new for this long an incident is closed whatever its signals do.
    pub abandon: Span,
}

impl Default for ResolveOptions {
    fn default() -> Self {
        Self {
            calm: Span::ZERO,
            quiet: Span::from_hours(2),
            abandon: Span::from_hours(24),
        }
    }
}

/// Bounds on what is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitOptions {
    /// Services known; the signals of further ones count as of no service.
    pub services: usize,
    /// Edges known; further ones are ignored.
    pub edges: usize,
    /// Changes remembered; the oldest goes first.
    pub changes: usize,
    /// Anomalies under way outside of incidents; the oldest goes first.
    pub anomalies: usize,
    /// Incidents open at once; what would open a further one waits until one is resolved.
    pub incidents: usize,
    /// Anomalies listed in one incident; further ones are counted only.
    pub signals: usize,
    /// Resolved incidents remembered; the oldest goes first.
    pub resolved: usize,
}

impl Default for LimitOptions {
    fn default() -> Self {
        Self {
            services: 10_000,
            edges: 50_000,
            changes: 1_000,
            anomalies: 20_000,
            incidents: 64,
            signals: 500,
            resolved: 256,
        }
    }
}

impl Options {
    /// Every problem that the types do not rule out.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        let mut check = Checker::default();
        for (path, span) in [
            ("open.false_incidents.per", self.open.false_incidents.per),
            ("group.within", self.group.within),
            ("changes.look_back", self.changes.look_back),
            ("changes.typical_lag", self.changes.typical_lag),
            ("rank.spontaneous.per", self.rank.spontaneous.per),
            ("background.half_life", self.background.half_life),
            ("background.prior_span", self.background.prior_span),
            ("background.block", self.background.block),
        ] {
            check.that(
                span > Span::ZERO,
                path,
                format!("{span} is no length of time to divide by"),
                "write a span longer than 0s",
            );
        }
        for (path, number) in [
            ("open.false_incidents.at_most", self.open.false_incidents.at_most),
            ("rank.spontaneous.at_most", self.rank.spontaneous.at_most),
            ("background.prior_count", self.background.prior_count),
            ("background.most", self.background.most),
            ("background.prior_blocks", self.background.prior_blocks),
        ] {
            check.that(
                number.is_finite() && number > 0.0,
                path,
                format!("{number} is not above 0"),
                "write a number above 0",
            );
        }
        let least = self.open.least;
        check.that(
            least.is_finite() && least >= 0.0,
            "open.least",
            format!("{least} is below 0"),
            "write 0 or more",
        );
        for (path, share) in [
            ("changes.bad_share", self.changes.bad_share),
            ("changes.slow_share", self.changes.slow_share),
        ] {
            check.that(
                (0.0..=1.0).contains(&share) && share > 0.0,
                path,
                format!("{share} is no share"),
                "write a number above 0, up to 1",
            );
        }
        check.that(
            self.rank.none.is_finite(),
            "rank.none",
            format!("{} is no log-odds", self.rank.none),
            "write a finite number, such as -1",
        );
        for (path, count) in [
            ("rank.hypotheses", self.rank.hypotheses),
            ("limits.services", self.limits.services),
            ("limits.anomalies", self.limits.anomalies),
            ("limits.incidents", self.limits.incidents),
            ("limits.signals", self.limits.signals),
        ] {
            check.that(count > 0, path, "0 leaves no room for any", "write 1 or more");
        }
        check.found()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_fine_and_each_problem_names_its_place() {
        assert_eq!(Options::default().validate(), []);
        let mut options = Options::default();
        options.open.false_incidents.at_most = 0.0;
        options.background.block = Span::ZERO;
        options.changes.bad_share = 1.5;
        options.limits.signals = 0;
        let paths: Vec<String> = options.validate().into_iter().map(|problem| problem.path).collect();
        assert_eq!(
            paths,
            [
                "background.block",
                "open.false_incidents.at_most",
                "changes.bad_share",
                "limits.signals"
            ]
        );
    }
}
