//! Snapshots of the first fold: the rooms' own Arrow columns in one envelope.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use suture_detect::Budget;
use suture_event::{Timestamp, codec::otlp::Histograms, stable_hash};

use super::{Judge, Observe, evict::Ranking};
use crate::{
    ENGINE_VERSION, EngineError,
    series::{Series, SeriesTable},
};

#[derive(Serialize, Deserialize)]
struct Snapshot {
    engine: u32,
    /// What the columns depend on: the window options, then each signal rule.
    shape: Vec<u64>,
    seq: u64,
    taken_digest: u64,
    said_digest: u64,
    newest: Timestamp,
    series: Vec<Series>,
    #[serde(with = "blob")]
    windows: Vec<u8>,
    banks: Vec<Blob>,
    /// The account of the pipeline's own budget of alarms.
    #[serde(default)]
    budget: Option<String>,
    histograms: Histograms,
    versions: Vec<(Arc<str>, Arc<str>)>,
    edges: Vec<(Arc<str>, Arc<str>)>,
    /// What is made of several series together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    derive: Option<Blob>,
    /// Silent series in the order in which they would be given up.
    #[serde(default)]
    ranking: Ranking,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Blob(#[serde(with = "blob")] pub(crate) Vec<u8>);

impl Observe {
    /// The whole state, to continue from elsewhere. Nothing may wait to be judged: call [`Observe::flush`] before.
    ///
    /// # Errors
    /// [`EngineError::Snapshot`] where samples wait or a room's state can't be written.
    pub fn snapshot(&self) -> Result<Vec<u8>, EngineError> {
        if !self.pending.rows.is_empty() {
            return Err(self.snapshot_error(&"samples wait to be judged: flush first"));
        }
        let mut banks = Vec::new();
        for bank in self.judge.banks() {
            banks.push(Blob(bank.snapshot().map_err(|e| self.snapshot_error(&e))?));
        }
        let snapshot = Snapshot {
            engine: ENGINE_VERSION,
            shape: self.shape(),
            seq: self.seq,
            taken_digest: self.taken_digest,
            said_digest: self.said_digest,
            newest: self.newest,
            series: self.table.iter().cloned().collect(),
            windows: self.windows.snapshot().map_err(|e| self.snapshot_error(&e))?,
            banks,
            budget: self.judge.budget.as_ref().map(Budget::save),
            histograms: self
                .decoders
                .as_ref()
                .map(|d| d.otlp.histograms().clone())
                .unwrap_or_default(),
            versions: self.versions.iter().map(|(s, v)| (s.clone(), v.clone())).collect(),
            edges: self.edges.iter().cloned().collect(),
            derive: self
                .judge
                .derive
                .snapshot()
                .map_err(|e| self.snapshot_error(&e))?
                .map(Blob),
            ranking: self.ranking.clone(),
        };
        rmp_serde::to_vec_named(&snapshot).map_err(|e| self.snapshot_error(&e))
    }

    /// Continues from a snapshot of the same engine version, made under the same window options and signal rules; whatever
    /// else the pipeline says may have changed.
    ///
    /// # Errors
    /// [`EngineError::Snapshot`] where it does not, or where the bytes are no snapshot; the fold must then not be used on.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        let snapshot: Snapshot = rmp_serde::from_slice(bytes).map_err(|e| self.snapshot_error(&e))?;
        if snapshot.engine != ENGINE_VERSION {
            return Err(self.snapshot_error(&format!(
                "it is of engine version {}, this is {ENGINE_VERSION}",
                snapshot.engine
            )));
        }
        if snapshot.shape != self.shape() {
            return Err(
                self.snapshot_error(&"it was made with other windows or signal rules, so its columns do not fit")
            );
        }
        let mut judge = Judge::new(&self.matcher, &self.pipeline)?;
        for (bank, Blob(bytes)) in judge.banks_mut().zip(&snapshot.banks) {
            bank.restore(bytes).map_err(|e| self.snapshot_error(&e))?;
        }
        if let (Some(alarms), Some(account)) = (&self.pipeline.alarms, &snapshot.budget) {
            judge.budget = Some(Budget::load(alarms, account).map_err(|e| self.snapshot_error(&e))?);
        }
        judge.link(snapshot.series.iter());
        if let Some(Blob(bytes)) = &snapshot.derive {
            judge.derive.restore(bytes).map_err(|e| self.snapshot_error(&e))?;
        }
        self.windows
            .restore(&snapshot.windows)
            .map_err(|e| self.snapshot_error(&e))?;
        if let Some(decoders) = &mut self.decoders {
            decoders.otlp.restore(snapshot.histograms);
        }
        self.judge = judge;
        self.table = SeriesTable::of(snapshot.series);
        self.raw.clear();
        self.pending.clear();
        self.seq = snapshot.seq;
        self.taken_digest = snapshot.taken_digest;
        self.said_digest = snapshot.said_digest;
        self.newest = snapshot.newest;
        self.versions = snapshot.versions.into_iter().collect();
        self.edges = snapshot.edges.into_iter().collect();
        self.ranking = snapshot.ranking;
        self.roster.clear();
        Ok(())
    }

    fn shape(&self) -> Vec<u64> {
        let hash = |json: Result<Vec<u8>, serde_json::Error>| stable_hash([json.unwrap_or_default().as_slice()]);
        let rules = self
            .matcher
            .rules()
            .iter()
            .map(|rule| hash(serde_json::to_vec(rule.as_ref())));
        let alarms = self
            .pipeline
            .alarms
            .iter()
            .map(|alarms| hash(serde_json::to_vec(alarms)));
        std::iter::once(hash(serde_json::to_vec(&self.pipeline.window)))
            .chain(rules)
            .chain(alarms)
            .collect()
    }

    fn snapshot_error(&self, reason: &dyn std::fmt::Display) -> EngineError {
        EngineError::Snapshot {
            shard: self.shard.to_string(),
            reason: reason.to_string(),
        }
    }
}

/// Bytes as bytes: serde would write a list of numbers.
pub(super) mod blob {
    use std::fmt;

    use serde::{Deserializer, Serializer, de};

    pub(in super::super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Vec<u8>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: de::Error>(self, v: &[u8]) -> Result<Vec<u8>, E> {
                Ok(v.to_vec())
            }
            fn visit_byte_buf<E: de::Error>(self, v: Vec<u8>) -> Result<Vec<u8>, E> {
                Ok(v)
            }
        }
        deserializer.deserialize_byte_buf(Visitor)
    }
}
