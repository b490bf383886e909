//! What is known about series, and which rule a series falls under.

use std::{collections::BTreeMap, sync::Arc};

use globset::{GlobBuilder, GlobMatcher};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use suture_detect::{AlarmBudget, LeastEffect, Side};
use suture_event::SignalKind;
use suture_window::Aggregate;

use crate::Pipeline;

/// What is known about some series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignalRule {
    /// Name of the rule, unique in the file.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Which series it is about. Without it, all.
    #[serde(rename = "match", default)]
    pub pattern: Match,
    /// What the series measure. Where absent it is read off the metric's name, and traffic whose labels call it failed (a status
    /// of 5xx or 500 to 599, or an `error.type`) is errors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<SignalKind>,
    /// What a window makes of its samples: `count`, `sum`, `mean`, `min`, `max`, `last`, `rate`, `increase` or a
    /// percentile such as `p99.9`. Where absent: `rate` for counters, `mean` for the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregate: Option<Aggregate>,
    /// Whether the values are those of a counter that only grows, but for restarts. Where absent, what the telemetry says;
    /// where that says nothing, whatever the name and the values show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counter: Option<bool>,
    /// On which side the series are worth an alarm: short for `direction` under `detect`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Side>,
    /// What is too small to matter: short for `least_effect` under `detect`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least_effect: Option<LeastEffect>,
    /// A budget of alarms for the rule's series together: short for `alarms` under `detect`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarms: Option<AlarmBudget>,
    /// How the series are watched: what is given here replaces what is given in `detect` at the top, key by key. Lists are
    /// replaced whole.
    #[serde(default)]
    pub detect: suture_detect::Options,
}

impl SignalRule {
    /// The rule for series that no other one matches.
    #[must_use]
    pub fn fallback(detect: suture_detect::Options) -> Self {
        Self {
            name: "(none)".to_owned(),
            pattern: Match::default(),
            kind: None,
            aggregate: None,
            counter: None,
            direction: None,
            least_effect: None,
            alarms: None,
            detect,
        }
    }

    /// What a metric of this rule measures.
    #[must_use]
    pub fn kind_of(&self, metric: &str) -> SignalKind {
        self.kind.unwrap_or_else(|| SignalKind::of_metric(metric))
    }

    /// Whether a series of this rule is a counter; `told` is what the telemetry itself says.
    #[must_use]
    pub fn is_counter(&self, told: bool) -> bool {
        self.counter.unwrap_or(told)
    }

    /// What a window makes of the samples of a series of this rule; `told` is whether the telemetry says that it is a
    /// counter.
    #[must_use]
    pub fn aggregate_of(&self, told: bool) -> Aggregate {
        self.aggregate.unwrap_or(if self.is_counter(told) {
            Aggregate::Rate
        } else {
            Aggregate::Mean
        })
    }
}

/// Globs over a series' metric and labels: `*` any text, `?` any character, `[ab]` either, `{ab,cd}` either; `\` before
/// one of these takes it as it is. All of them must match, the whole text each.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Match {
    /// Glob over the metric's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
    /// Globs over labels' values, by the labels' names. A label that a series does not have does not match.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// A glob that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{glob:?} is no pattern: {reason}")]
pub struct GlobError {
    /// The pattern.
    pub glob: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Compiles one glob: `/` is a character like any other, case counts.
pub(crate) fn glob(text: &str) -> Result<GlobMatcher, GlobError> {
    GlobBuilder::new(text)
        .literal_separator(false)
        .backslash_escape(true)
        .build()
        .map(|glob| glob.compile_matcher())
        .map_err(|error| GlobError {
            glob: text.to_owned(),
            reason: error.kind().to_string(),
        })
}

/// The globs of one pattern.
pub(crate) struct Compiled {
    metric: Option<GlobMatcher>,
    labels: Vec<(String, GlobMatcher)>,
}

/// Finds the rule of a series. The series' rule does not change while it lives, so ask once a series, not once a sample:
/// a look costs about 100 ns a rule.
pub struct SignalMatcher {
    rules: Vec<Arc<SignalRule>>,
    compiled: Vec<Compiled>,
}

impl SignalMatcher {
    /// Compiles the rules of a pipeline and adds the one that matches everything.
    ///
    /// # Errors
    /// [`GlobError`] on a pattern that cannot be read; a pipeline that was parsed has none.
    pub fn new(pipeline: &Pipeline) -> Result<Self, GlobError> {
        let mut rules: Vec<Arc<SignalRule>> = pipeline.signals.iter().cloned().map(Arc::new).collect();
        rules.push(Arc::new(SignalRule::fallback(pipeline.detect.clone())));
        let compiled = rules
            .iter()
            .map(|rule| Compiled::new(&rule.pattern))
            .collect::<Result<_, _>>()?;
        Ok(Self { rules, compiled })
    }

    /// All rules in order; the last is the one that matches everything.
    #[must_use]
    pub fn rules(&self) -> &[Arc<SignalRule>] {
        &self.rules
    }

    /// The index in [`Self::rules`] of the first rule that matches the series. `label` looks a label of it up by name.
    #[must_use]
    pub fn index<'a>(&self, metric: &str, label: impl Fn(&str) -> Option<&'a str>) -> usize {
        self.compiled
            .iter()
            .position(|rule| rule.matches(metric, &label))
            .unwrap_or(self.compiled.len().saturating_sub(1))
    }
}

impl Compiled {
    pub(crate) fn new(pattern: &Match) -> Result<Self, GlobError> {
        Ok(Self {
            metric: pattern.metric.as_deref().map(glob).transpose()?,
            labels: pattern
                .labels
                .iter()
                .map(|(name, text)| Ok((name.clone(), glob(text)?)))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Whether a series fits. `label` looks a label of it up by name.
    pub(crate) fn matches<'a>(&self, metric: &str, label: &dyn Fn(&str) -> Option<&'a str>) -> bool {
        self.metric.as_ref().is_none_or(|glob| glob.is_match(metric))
            && self
                .labels
                .iter()
                .all(|(name, glob)| label(name).is_some_and(|value| glob.is_match(value)))
    }
}
