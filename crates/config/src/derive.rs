//! What is made of several series together.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use suture_detect::{
    AlarmBudget, LeastEffect, Side,
    mix::{MixOptions, NoveltyOptions},
    several::{
        Components, ComponentsOptions, Covariance, CovarianceOptions, Peers, PeersOptions, Together, TogetherOptions,
    },
    slo::{BurnWindow, Slo, SloOptions},
};
use suture_event::{Checker, Problem, SeriesKey, SignalKind, Span};

use crate::{
    Match,
    signal::{Compiled, GlobError},
};

/// Bytes of what is kept of each member besides what its product needs.
const MEMBER: usize = 96;

/// What is made of some series together: exactly one of `peers`, `together`, `covariance`, `components`, `mix`,
/// `new_values` and `slo`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeriveRule {
    /// Name of the rule, unique in the file, and of the series it makes.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Which series it is made of. Without it, all. A series may be part of what several rules make.
    #[serde(rename = "match", default)]
    pub pattern: Match,
    /// Labels whose values make a group, and label what is made; series without one of them are left out. Absent: the
    /// label that names the service. Series of two scopes are never in one group. `peers` does not read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Vec<String>>,
    /// Groups in one shard, at most. Series of further groups are left out and counted.
    #[serde(default = "groups")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub groups: u32,
    /// What the series that are made measure. Where absent: for `peers` what the members do, for `slo` errors, and
    /// otherwise it is read off the rule's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<SignalKind>,
    /// On which side the series that are made are worth an alarm: short for `direction` under `detect`. Where it is
    /// `auto`, as `kind` says for `peers`, both for `entropy`, and above for the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Side>,
    /// What is too small to matter: short for `least_effect` under `detect`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least_effect: Option<LeastEffect>,
    /// A budget of alarms for all that the rule makes: short for `alarms` under `detect`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarms: Option<AlarmBudget>,
    /// How what is made is watched: what is given here replaces what is given in `detect` at the top, key by key.
    #[serde(default)]
    pub detect: suture_detect::Options,
    /// A member away from its siblings: an anomaly of the member's own series.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers: Option<PeersOptions>,
    /// Pairs that were learned to move together, and stop: an anomaly of the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub together: Option<TogetherOptions>,
    /// All members together away from the cloud they usually make: an anomaly of the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub covariance: Option<CovarianceOptions>,
    /// Members no longer explained by the few movements they share: an anomaly of the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub components: Option<ComponentsOptions>,
    /// What a mix of categories, or a histogram, is made of: a series of the group, watched as any other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mix: Option<MixOptions>,
    /// A new value of a label: an anomaly of the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_values: Option<NoveltyOptions>,
    /// How fast an error budget burns: an anomaly of the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slo: Option<SloRule>,
}

const fn groups() -> u32 {
    1_000
}

/// The share of what that a series holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ShareOf {
    /// Of good events: 1 where all are.
    Good,
    /// Of bad events: 0 where none is.
    Bad,
}

/// How fast an error budget burns. Which events are bad is said by exactly one of `bad`, `good`, `share`, `above` and
/// `below`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SloRule {
    /// The share of events that should be good, such as 0.999.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub objective: f64,
    /// The time over which that is promised.
    #[serde(default = "period")]
    pub period: Span,
    /// Windows of time, any of which raises an alarm.
    #[serde(default = "burns")]
    pub windows: Vec<BurnWindow>,
    /// The series that count bad events; the rest of the rule's series, and these, count all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad: Option<Match>,
    /// The series that count good events. Of a histogram: the bucket whose bound is the longest that is still good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good: Option<Match>,
    /// The series that count all events, where those are not all of the rule's. Of a histogram: the bucket `+Inf`, or the
    /// count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<Match>,
    /// The series hold a share already, every window of which counts the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<ShareOf>,
    /// A window whose value is above this is bad, and each window is an event: a latency, say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
    /// A window whose value is below this is bad, and each window is an event: a rate of success, say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<f64>,
}

fn period() -> Span {
    SloOptions::default().period
}

fn burns() -> Vec<BurnWindow> {
    SloOptions::default().windows
}

impl SloRule {
    /// The objective by itself.
    #[must_use]
    pub fn options(&self) -> SloOptions {
        SloOptions {
            objective: self.objective,
            period: self.period,
            windows: self.windows.clone(),
        }
    }

    /// The keys that say which events are bad, of those given.
    fn sayings(&self) -> Vec<&'static str> {
        let given = [
            ("bad", self.bad.is_some()),
            ("good", self.good.is_some()),
            ("share", self.share.is_some()),
            ("above", self.above.is_some()),
            ("below", self.below.is_some()),
        ];
        given
            .into_iter()
            .filter(|(_, given)| *given)
            .map(|(key, _)| key)
            .collect()
    }
}

impl DeriveRule {
    /// The products that are given, by their keys.
    #[must_use]
    pub fn products(&self) -> Vec<&'static str> {
        let given = [
            ("peers", self.peers.is_some()),
            ("together", self.together.is_some()),
            ("covariance", self.covariance.is_some()),
            ("components", self.components.is_some()),
            ("mix", self.mix.is_some()),
            ("new_values", self.new_values.is_some()),
            ("slo", self.slo.is_some()),
        ];
        given
            .into_iter()
            .filter(|(_, given)| *given)
            .map(|(key, _)| key)
            .collect()
    }

    /// What the series that are made measure, where the members do not say.
    #[must_use]
    pub fn kind_made(&self) -> SignalKind {
        self.kind.unwrap_or_else(|| {
            if self.slo.is_some() {
                SignalKind::Errors
            } else {
                SignalKind::of_metric(&self.name)
            }
        })
    }

    /// Everything that is wrong with the rule by itself but its `detect`, and the patterns, which are told by their places.
    pub(crate) fn validate(&self) -> Vec<Problem> {
        let mut check = Checker::default();
        let products = self.products();
        match products.as_slice() {
            [_] => {}
            [] => check.wrong(
                "name",
                "the rule makes nothing",
                "add one of peers, together, covariance, components, mix, new_values and slo",
            ),
            [first, second, ..] => check.wrong(
                *second,
                format!("the rule makes `{first}` already"),
                "write a rule of its own for each",
            ),
        }
        let by = self.by.as_deref().unwrap_or_default();
        for (i, label) in by.iter().enumerate() {
            if label.is_empty() || by.iter().take(i).any(|other| other == label) {
                let message = format!("{label:?} is no label, or given twice");
                check.wrong(format!("by[{i}]"), message, "name each label once");
            }
        }
        if self.peers.is_some() && self.by.is_some() {
            let help = "siblings are what has the same metric and labels but those under `peers.among`: drop `by`";
            check.wrong("by", "`peers` does not read it", help);
        }
        let apart = self.mix.iter().map(|mix| ("mix.label", &mix.label));
        let named = self
            .new_values
            .iter()
            .flat_map(|new| new.labels.iter().map(|l| ("new_values.labels", l)));
        for (path, label) in apart.chain(named) {
            if by.contains(label) {
                let message = format!("each group has one value of `{label}` alone, as it is in `by`");
                check.wrong(path, message, "drop it from `by`");
            }
        }
        if let Some(slo) = &self.slo {
            match slo.sayings().as_slice() {
                [_] => {}
                [] => check.wrong(
                    "slo",
                    "nothing says which events are bad",
                    "add one of bad, good, share, above and below",
                ),
                [first, second, ..] => {
                    let message = format!("`{first}` says already which events are bad");
                    check.wrong(format!("slo.{second}"), message, "keep one of the two");
                }
            }
            if slo.total.is_some() && slo.bad.is_none() && slo.good.is_none() {
                let help = "drop it, or count events with `bad` or `good`";
                check.wrong("slo.total", "nothing is counted here", help);
            }
            for (key, bound) in [("slo.above", slo.above), ("slo.below", slo.below)] {
                if bound.is_some_and(|bound| !bound.is_finite()) {
                    check.wrong(key, "no value is beyond that", "write a finite number");
                }
            }
        }
        check.below("peers", self.peers.iter().flat_map(|p| p.validate()));
        check.below("together", self.together.iter().flat_map(|p| p.validate()));
        check.below("covariance", self.covariance.iter().flat_map(|p| p.validate()));
        check.below("components", self.components.iter().flat_map(|p| p.validate()));
        check.below("mix", self.mix.iter().flat_map(|p| p.validate()));
        check.below("new_values", self.new_values.iter().flat_map(|p| p.validate()));
        check.below("slo", self.slo.iter().flat_map(|p| p.options().validate()));
        check.found()
    }

    /// Every pattern of the rule with its path.
    pub(crate) fn patterns(&self) -> Vec<(&'static str, &Match)> {
        let slo = self.slo.as_ref();
        let mut patterns = vec![("match", &self.pattern)];
        patterns.extend(slo.and_then(|slo| slo.bad.as_ref()).map(|p| ("slo.bad", p)));
        patterns.extend(slo.and_then(|slo| slo.good.as_ref()).map(|p| ("slo.good", p)));
        patterns.extend(slo.and_then(|slo| slo.total.as_ref()).map(|p| ("slo.total", p)));
        patterns
    }

    /// Members of one group, at most: those that come when there are as many are left out and counted.
    #[must_use]
    pub fn members(&self) -> u32 {
        let of = [
            self.peers.as_ref().map(|p| p.members),
            self.together.as_ref().map(|p| p.members),
            self.covariance.as_ref().map(|p| p.members),
            self.components.as_ref().map(|p| p.members),
        ];
        // what only adds its members up is bounded by the limit on series
        of.into_iter().flatten().next().unwrap_or(u32::MAX)
    }

    /// Bytes of a group by itself, and of each member of a full one.
    pub(crate) fn bytes(&self, identity: usize) -> (usize, usize) {
        let n = self.members().max(1) as usize;
        let group = identity + 256;
        if self.peers.is_some() {
            return (group, MEMBER + Peers::BYTES + 130);
        }
        if self.together.is_some() {
            return (group, MEMBER + Together::bytes(n) / n);
        }
        if self.covariance.is_some() {
            return (group, MEMBER + Covariance::bytes(n) / n);
        }
        if let Some(components) = &self.components {
            return (group, MEMBER + Components::bytes(n, components.components as usize) / n);
        }
        match &self.slo {
            Some(slo) => (group + Slo::bytes(slo.windows.len()), MEMBER),
            // a category with its name, or a value known
            None => (group + 1_024, MEMBER + 100),
        }
    }
}

/// Which part a series has in what a rule makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Whether it counts bad events, or good ones where the rule says `good`.
    pub told: bool,
    /// Whether it counts all events.
    pub total: bool,
}

/// The patterns of one derive rule.
pub struct DeriveMatcher {
    pattern: Compiled,
    told: Option<Compiled>,
    total: Option<Compiled>,
}

impl DeriveMatcher {
    /// Compiles the patterns of a rule.
    ///
    /// # Errors
    /// [`GlobError`] on a pattern that cannot be read; a pipeline that was parsed has none.
    pub fn new(rule: &DeriveRule) -> Result<Self, GlobError> {
        let slo = rule.slo.as_ref();
        let told = slo.and_then(|slo| slo.bad.as_ref().or(slo.good.as_ref()));
        let total = slo.and_then(|slo| slo.total.as_ref());
        Ok(Self {
            pattern: Compiled::new(&rule.pattern)?,
            told: told.map(Compiled::new).transpose()?,
            total: total.map(Compiled::new).transpose()?,
        })
    }

    /// The part that a series has, where it has one.
    #[must_use]
    pub fn part(&self, key: &SeriesKey) -> Option<Part> {
        let fits = |pattern: &Compiled| pattern.matches(&key.metric, &|name| key.labels.get(name));
        if !fits(&self.pattern) {
            return None;
        }
        let told = self.told.as_ref().is_some_and(fits);
        let total = self.total.as_ref().is_none_or(fits);
        (told || total).then_some(Part { told, total })
    }
}
