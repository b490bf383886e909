//! What a state was made under: the parts of the pipeline file that its columns' meaning depends on.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use suture_config::{DeriveRule, Instances, LabelEdge, Pipeline, Scope, SignalRule};
use suture_detect::AlarmBudget;

use crate::{Source, SourceKind, blob::Blob};

/// What the state depends on, beside the records: the parts of a pipeline that decide what its columns mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Terms {
    pub(super) window: suture_window::Options,
    pub(super) rules: Vec<SignalRule>,
    pub(super) alarms: Option<AlarmBudget>,
    pub(super) derive: Vec<DeriveRule>,
    pub(super) scope: Scope,
    pub(super) entity: String,
    pub(super) from_labels: Vec<LabelEdge>,
    /// How series of instances are rolled up, where they are. Programs that wrote nothing of it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) instances: Option<Instances>,
    /// What the source says of its samples.
    pub(super) condition: Option<String>,
    pub(super) value: Option<String>,
}

impl Terms {
    /// Of a shard. What a rule is called, and what is part of `detect` already, is left out.
    pub(super) fn of(pipeline: &Pipeline, rules: &[Arc<SignalRule>], source: &Source) -> Self {
        let rekeyed = source.kind == SourceKind::Rekeyed;
        // the repartition stage has made the values of all of its topics
        let made = pipeline.telemetry.iter().filter(|_| rekeyed);
        let made = made.filter_map(|telemetry| Some(format!("{}: {}\n", telemetry.topic, telemetry.value.as_ref()?)));
        let made: String = made.collect();
        let source = pipeline
            .telemetry
            .iter()
            .find(|telemetry| telemetry.topic == source.topic);
        let rules = rules.iter().map(|rule| SignalRule {
            name: String::new(),
            direction: None,
            least_effect: None,
            alarms: None,
            ..rule.as_ref().clone()
        });
        Self {
            window: pipeline.window.clone(),
            rules: rules.collect(),
            alarms: pipeline.alarms,
            derive: pipeline.derive.iter().map(bare).collect(),
            scope: pipeline.scope.clone(),
            entity: pipeline.entity.clone(),
            from_labels: pipeline.topology.from_labels.clone(),
            instances: pipeline.rolled_up().cloned(),
            condition: source.and_then(|source| source.r#where.clone()),
            value: source
                .and_then(|source| source.value.clone())
                .or_else(|| (!made.is_empty()).then_some(made)),
        }
    }

    /// As bytes that keep every number as it is.
    pub(super) fn encode(&self) -> Option<Blob> {
        rmp_serde::to_vec_named(self).ok().map(Blob)
    }

    /// Terms that were written by a program that knew other options may say nothing.
    pub(super) fn decode(bytes: &Blob) -> Option<Self> {
        rmp_serde::from_slice(&bytes.0).ok()
    }

    /// Whether windows of both have the same values.
    pub(super) fn same_windows(&self, other: &Self) -> bool {
        let of = |terms: &Self| {
            let w = &terms.window;
            (w.size, w.slide.or(w.size), w.lateness, w.gaps, w.quantile_error)
        };
        of(self) == of(other)
    }

    /// Whether what is made of several series together is the same where its rule is.
    pub(super) fn same_context(&self, other: &Self) -> bool {
        (&self.scope, &self.entity) == (&other.scope, &other.entity)
    }
}

/// A derive rule without what is part of its `detect` already.
pub(super) fn bare(rule: &DeriveRule) -> DeriveRule {
    DeriveRule {
        direction: None,
        least_effect: None,
        alarms: None,
        ..rule.clone()
    }
}
