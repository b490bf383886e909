//! What a pipeline file says, once read: every default filled in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use suture_codec::{ChangeFormat, Fields, TelemetryFormat};
use suture_event::Span;

use crate::{Bytes, derive::DeriveRule, instances::Instances, kafka::Kafka, rekey::Rekey, signal::SignalRule};

/// A pipeline: where telemetry and changes come from, how they are watched, and what may be done about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// Version of this file's format: 1.
    #[serde(default = "version")]
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// Name of the pipeline, part of the consumer groups and transactional ids: letters, digits, `.`, `_` and `-`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"))]
    pub name: String,
    /// What keeps environments apart: incidents never span two scopes. Absent: there is one scope, `default`, and all is in
    /// it, whichever environments series, changes and commands name.
    #[serde(default = "Scope::one", skip_serializing_if = "Scope::is_one")]
    pub scope: Scope,
    /// Label that names the service a series belongs to.
    #[serde(default = "entity")]
    #[schemars(length(min = 1))]
    pub entity: String,
    /// The time on which incidents' and actions' timers run.
    #[serde(default)]
    pub clock: Clock,
    /// The broker, and the topics the program owns there.
    #[serde(default)]
    pub kafka: Kafka,
    /// Topics that carry telemetry. At least one.
    #[schemars(length(min = 1))]
    pub telemetry: Vec<TelemetrySource>,
    /// Puts telemetry into partitions anew, by series, in a topic between it and observe: for producers that do not key by
    /// series. Absent: telemetry is taken from the partitions that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rekey: Option<Rekey>,
    /// Topics that carry changes, such as deploys.
    #[serde(default)]
    pub changes: Vec<ChangeSource>,
    /// Who calls whom, as far as it is known beforehand.
    #[serde(default)]
    pub topology: Topology,
    /// A model file, as `suture train` writes it, by a path relative to the pipeline file: what series begin with that it
    /// knows, so that they need not warm up. It must have been learned with the same windows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub model: Option<String>,
    /// How samples become windows. Without it every sample is a window of its own.
    #[serde(default)]
    pub window: suture_window::Options,
    /// Which series are those of one service's instances, and are judged as one.
    #[serde(default)]
    pub instances: Instances,
    /// Bounds on what one process takes in and keeps.
    #[serde(default)]
    pub limits: Limits,
    /// What is known about series, by metric and labels. The first rule that matches a series counts; series that none
    /// matches are treated by the defaults of a rule.
    #[serde(default)]
    pub signals: Vec<SignalRule>,
    /// What is made of several series together: instances compared with their siblings, groups that stop moving together,
    /// mixes, new values of labels, error budgets. Needs `window.size`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub derive: Vec<DeriveRule>,
    /// How series are watched, where a rule under `signals` does not say otherwise.
    #[serde(default)]
    pub detect: suture_detect::Options,
    /// A budget of alarms for all series together but those of rules that state one of their own. How unlikely a window
    /// must be to be an alarm then follows from the budget, in place of `detect.alarm` and `detect.at_once`. Each shard,
    /// which is one input partition, holds to it by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarms: Option<suture_detect::AlarmBudget>,
    /// How anomalies become incidents with ranked causes.
    #[serde(default)]
    pub diagnose: suture_diagnose::Options,
    /// What may be done about incidents.
    #[serde(default)]
    pub remediate: suture_remediate::Options,
    /// Whom `suture escalate` calls when a human must take over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalate: Option<crate::Escalate>,
}

const fn version() -> u32 {
    1
}

fn entity() -> String {
    "service".to_owned()
}

/// What keeps environments apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Scope {
    /// Label that names the environment or cluster of a series.
    #[schemars(length(min = 1))]
    pub label: String,
    /// Scope of series and changes that do not name one.
    #[schemars(length(min = 1))]
    pub default: String,
}

impl Default for Scope {
    fn default() -> Self {
        Self {
            label: "environment".to_owned(),
            default: "default".to_owned(),
        }
    }
}

impl Scope {
    /// The one scope of a pipeline that names none: no label tells environments apart.
    #[must_use]
    pub fn one() -> Self {
        Self {
            label: String::new(),
            ..Self::default()
        }
    }

    /// Whether there is one scope for all.
    #[must_use]
    pub const fn is_one(&self) -> bool {
        self.label.is_empty()
    }
}

/// The time on which incidents' and actions' timers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Clock {
    /// The clock on the wall, as journaled in progress marks: for live operation.
    #[default]
    Wall,
    /// The time in the data: for backfills and replays, whose result then does not depend on when they run.
    Event,
}

/// A topic that carries telemetry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TelemetrySource {
    /// Name of the topic: letters, digits, `.`, `_` and `-`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,249}$"))]
    pub topic: String,
    /// How its records are written.
    #[serde(default)]
    pub format: TelemetryFormat,
    /// Where in JSON of another shape a sample's parts are, with `format: json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<Fields>,
    /// SQL condition over `ts`, `metric`, `value` and `labels`: samples for which it is not true are dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub r#where: Option<String>,
    /// SQL expression over `ts`, `metric`, `value` and `labels` that takes the place of the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub value: Option<String>,
}

/// A topic that carries changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeSource {
    /// Name of the topic: letters, digits, `.`, `_` and `-`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,249}$"))]
    pub topic: String,
    /// How its records are written.
    #[serde(default)]
    pub format: ChangeFormat,
}

/// Who calls whom, as far as it is known beforehand.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Topology {
    /// A file `{"edges": [{"from": CALLER, "to": CALLEE}]}`, by a path relative to the pipeline file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Pairs of labels which, where a series has both, name the caller and the callee.
    pub from_labels: Vec<LabelEdge>,
    /// Edges written out here.
    pub edges: Vec<ServiceEdge>,
}

/// Two labels that name the two ends of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelEdge {
    /// Label that names the caller.
    #[schemars(length(min = 1))]
    pub from: String,
    /// Label that names the callee.
    #[schemars(length(min = 1))]
    pub to: String,
}

/// `from` calls `to`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceEdge {
    /// The service that calls.
    #[schemars(length(min = 1))]
    pub from: String,
    /// The service that is called.
    #[schemars(length(min = 1))]
    pub to: String,
}

/// What happens to a new series where a shard has as many as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AtSeries {
    /// Its samples go to the dead letters.
    #[default]
    Refuse,
    /// It takes the place of the series that was silent the longest, whose open anomalies end and which is new when it
    /// comes back. Where every series has sent within a window that is still open, its samples go to the dead letters.
    Evict,
}

/// Bounds on what one process takes in and keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Series in one shard, which is one input partition.
    #[schemars(range(min = 1, max = 100_000_000))]
    pub series: usize,
    /// What happens at that bound.
    pub at_series: AtSeries,
    /// Labels of one series. Samples with more go to the dead letters.
    #[schemars(range(min = 1, max = 10_000))]
    pub labels: usize,
    /// Bytes of all label names and values of one series together. Samples with more go to the dead letters.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub label_bytes: usize,
    /// Bytes of one record's value. Larger records go to the dead letters.
    #[schemars(range(min = 1, max = 1_073_741_824))]
    pub record_bytes: usize,
    /// How far ahead of its record's own time a sample may be. Samples from further in the future go to the dead letters,
    /// since they would close every window before them.
    pub future: Span,
    /// Facts that decide holds back at once to bring them into order of time, where the clock is `event`. At the bound
    /// the oldest is let through early.
    #[schemars(range(min = 1, max = 100_000_000))]
    pub pending_facts: usize,
    /// Scopes that one facts partition keeps state for. At the bound a new one takes the place of one that has changes and no
    /// telemetry; if there is none, one with telemetry takes the place of the one that has been silent for longest by the time
    /// it lived, and others are counted and dropped.
    #[schemars(range(min = 1, max = 100_000))]
    pub scopes: usize,
    /// Shards that one process is expected to serve, for the estimate of memory.
    #[schemars(range(min = 1, max = 10_000))]
    pub shards: usize,
    /// Series that each shard names once a minute, to notice those that two partitions of a topic have: see the metric
    /// `suture_series_in_two_partitions`. A share of one in twenty is hardly missed with 64; 0 names none.
    #[schemars(range(min = 0, max = 10_000))]
    pub compared_series: usize,
    /// Memory that the estimate for one process must not exceed, such as `2GiB`. Absent: not checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            series: 100_000,
            at_series: AtSeries::Refuse,
            labels: suture_event::MAX_LABELS,
            label_bytes: 16 << 10,
            record_bytes: 1 << 20,
            future: Span::from_mins(10),
            pending_facts: 100_000,
            scopes: 100,
            shards: 1,
            compared_series: 64,
            memory: None,
        }
    }
}

impl Pipeline {
    /// The consumer group of observe: `kafka.group`, or `PREFIX-NAME`, with `-observe`.
    #[must_use]
    pub fn observe_group(&self) -> String {
        format!("{}-observe", self.group())
    }

    /// The consumer group of decide.
    #[must_use]
    pub fn decide_group(&self) -> String {
        format!("{}-decide", self.group())
    }

    /// `kafka.group`, or `PREFIX-NAME` where it is absent.
    #[must_use]
    pub fn group(&self) -> String {
        self.kafka
            .group
            .clone()
            .unwrap_or_else(|| format!("{}-{}", self.kafka.prefix, self.name))
    }

    /// Every topic of others that is read as an input, in the order of the file, without repeats.
    #[must_use]
    pub fn input_topics(&self) -> Vec<&str> {
        let mut topics: Vec<&str> = Vec::new();
        let all = self
            .telemetry
            .iter()
            .map(|s| s.topic.as_str())
            .chain(self.changes.iter().map(|s| s.topic.as_str()));
        for topic in all {
            if !topics.contains(&topic) {
                topics.push(topic);
            }
        }
        topics
    }

    /// The topics that the program owns, by their full names: those it writes and those on which it is told things.
    #[must_use]
    pub fn owned_topics(&self) -> Vec<String> {
        let always = [
            "facts",
            "incidents",
            "remediations",
            "outcomes",
            "commands",
            "ledger",
            "state",
            "dead-letters",
        ];
        let always = always.map(|topic| format!("{}.{topic}", self.kafka.prefix));
        always.into_iter().chain(self.rekeyed_topic()).collect()
    }

    /// The edges written in the file itself, as pairs of caller and callee.
    pub fn edges(&self) -> impl Iterator<Item = (&str, &str)> {
        self.topology.edges.iter().map(|e| (e.from.as_str(), e.to.as_str()))
    }
}
