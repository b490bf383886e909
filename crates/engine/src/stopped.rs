//! All telemetry of a scope has stopped: an incident of its own class, in place of one for each series that is silent.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use suture_event::{
    Anomaly, AnomalyPhase, Direction, Evidence, EvidenceKind, Hypothesis, HypothesisKind, Incident, IncidentStatus,
    Resolution, Severity, ShardId, Span, Timestamp, hex16, stable_hash,
};

/// What playbooks match on.
const CLASS: &str = "telemetry_stopped";

/// Silent series that are kept back at most: what comes beyond is judged by itself.
const MOST: usize = 10_000;

/// Partitions that the evidence names.
const NAMED: usize = 10;

/// What is known of a scope whose telemetry has stopped, or had.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Stopped {
    /// Open while nothing comes.
    incident: Option<Box<Incident>>,
    /// The silence of series that began meanwhile: what stopped is the telemetry, and which of them are silent by themselves is
    /// known once it is back.
    kept: BTreeMap<Arc<str>, Anomaly>,
    /// When that is.
    until: Option<Timestamp>,
}

impl Stopped {
    /// Looks whether every shard of a scope is silent. Gives the incident that opens or is over by that.
    pub(crate) fn look(
        &mut self,
        scope: &Arc<str>,
        silent_since: Option<Timestamp>,
        shards: impl Iterator<Item = ShardId>,
        (now, settles): (Timestamp, Span),
    ) -> Option<Incident> {
        match (silent_since, &mut self.incident) {
            (Some(since), None) => {
                let incident = open(scope, since, shards, now);
                self.incident = Some(Box::new(incident.clone()));
                self.until = None;
                Some(incident)
            }
            (None, Some(_)) => {
                let incident = *self.incident.take()?;
                self.until = Some(now.plus(settles));
                Some(Incident {
                    status: IncidentStatus::Resolved,
                    resolution: Some(Resolution::Recovered),
                    resolved_at: Some(now),
                    updated_at: now,
                    revision: incident.revision + 1,
                    ..incident
                })
            }
            _ => None,
        }
    }

    /// Whether it is open.
    pub(crate) const fn is_open(&self) -> bool {
        self.incident.is_some()
    }

    /// Keeps the silence of a series back while all are silent. `false` where it is to be judged now.
    pub(crate) fn keeps(&mut self, anomaly: &Anomaly) -> bool {
        let known = self.kept.contains_key(&anomaly.id);
        if !known && (self.incident.is_none() || anomaly.direction != Direction::Absent || self.kept.len() >= MOST) {
            return false;
        }
        if anomaly.phase == AnomalyPhase::Ended {
            self.kept.remove(&anomaly.id);
        } else if known || anomaly.phase == AnomalyPhase::Opened {
            self.kept.insert(anomaly.id.clone(), anomaly.clone());
        } else {
            return false;
        }
        true
    }

    /// The series that are silent still though telemetry is back, once that can be told.
    pub(crate) fn left(&mut self, now: Timestamp) -> Vec<Anomaly> {
        if self.until.is_none_or(|until| until > now) {
            return Vec::new();
        }
        self.until = None;
        let told = |anomaly| Anomaly {
            phase: AnomalyPhase::Opened,
            at: now,
            ..anomaly
        };
        std::mem::take(&mut self.kept).into_values().map(told).collect()
    }
}

fn open(scope: &Arc<str>, since: Timestamp, shards: impl Iterator<Item = ShardId>, now: Timestamp) -> Incident {
    let identity = [scope.as_bytes(), CLASS.as_bytes(), &since.as_millis().to_le_bytes()];
    let shards: Vec<String> = shards.map(|shard| shard.to_string()).collect();
    let more = match shards.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let named: Vec<&str> = shards.iter().take(NAMED).map(String::as_str).collect();
    let evidence = Evidence {
        kind: EvidenceKind::Quiet,
        detail: format!(
            "nothing has come since {since} of {}{more}, the partitions that have its telemetry",
            named.join(", ")
        ),
        weight: 0.0,
        signals: Vec::new(),
    };
    Incident {
        id: format!("i-{}", hex16(stable_hash(identity))).into(),
        opened_at: now,
        resolved_at: None,
        resolution: None,
        severity: Severity::Critical,
        services: Vec::new(),
        anomalies: Vec::new(),
        hypotheses: vec![Hypothesis {
            rank: 1,
            kind: HypothesisKind::Dependency,
            service: None,
            change: None,
            class: CLASS.into(),
            probability: 1.0,
            evidence: vec![evidence],
        }],
        none_of_these: 0.0,
        scope: scope.clone(),
        status: IncidentStatus::Open,
        title: format!("all telemetry of {scope} has stopped: nothing is watched"),
        updated_at: now,
        revision: 1,
        signals: Vec::new(),
        signals_left_out: 0,
        judged_without: Vec::new(),
    }
}
