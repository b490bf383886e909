//! Snapshots of the first fold: the rooms' own Arrow columns in one envelope.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use suture_codec::otlp::Histograms;
use suture_detect::Budget;
use suture_event::{Timestamp, Watched};

use super::{Judge, Observe, evict::Ranking, meter::Meter, rollup::RollUp, silence::Arrivals, terms::Terms};
use crate::{
    ENGINE_VERSION, EngineError,
    blob::Blob,
    misfit,
    series::{Series, SeriesTable},
    written::fingerprint_of,
};

/// Bytes that a series' name, labels and places take in a snapshot, as a rule at most.
const SERIES_BYTES: usize = 384;

#[derive(Serialize, Deserialize)]
pub(super) struct Snapshot {
    engine: u32,
    /// What the columns depend on: the window options, then each signal rule, then the budget.
    pub(super) shape: Vec<u64>,
    /// The same in full, so that what fits can be told from what does not. Absent in snapshots of earlier programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    terms: Option<Blob>,
    seq: u64,
    pub(super) taken_digest: u64,
    said_digest: u64,
    newest: Timestamp,
    pub(super) series: Vec<Series>,
    #[serde(with = "crate::blob")]
    pub(super) windows: Vec<u8>,
    pub(super) banks: Vec<Blob>,
    /// The account of the pipeline's own budget of alarms.
    #[serde(default)]
    pub(super) budget: Option<String>,
    histograms: Histograms,
    versions: Vec<(Arc<str>, Arc<str>)>,
    edges: Vec<(Arc<str>, Arc<str>)>,
    /// Who is known to be watched, and in what kinds of signal. Absent in snapshots of earlier programs.
    #[serde(default)]
    watched: Vec<(Arc<str>, Watched)>,
    /// What is made of several series together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) derive: Option<Blob>,
    /// What is made of instances' series.
    #[serde(default, skip_serializing_if = "RollUp::is_empty")]
    pub(super) rollup: RollUp,
    /// What may be counters though nobody says so.
    #[serde(default, skip_serializing_if = "Meter::is_empty")]
    pub(super) meter: Meter,
    /// Silent series in the order in which they would be given up.
    #[serde(default)]
    ranking: Ranking,
    /// When records came.
    #[serde(default)]
    arrivals: Arrivals,
}

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
            terms: self.terms().encode(),
            seq: self.seq,
            taken_digest: self.taken_digest,
            said_digest: self.said_digest,
            newest: self.newest,
            series: self.table.iter().cloned().collect(),
            windows: self.windows.snapshot().map_err(|e| self.snapshot_error(&e))?,
            banks,
            budget: self.judge.budget.as_ref().map(Budget::save),
            histograms: self
                .decoder
                .as_ref()
                .map(|decoder| decoder.memory())
                .unwrap_or_default(),
            versions: self.versions.iter().map(|(s, v)| (s.clone(), v.clone())).collect(),
            edges: self.edges.iter().cloned().collect(),
            watched: self.watched.iter().cloned().collect(),
            derive: self
                .judge
                .derive
                .snapshot()
                .map_err(|e| self.snapshot_error(&e))?
                .map(Blob),
            rollup: self.judge.rollup.clone(),
            meter: self.judge.meter.clone(),
            ranking: self.ranking.clone(),
            arrivals: self.arrivals.clone(),
        };
        // room for all of it at once: growing by doubling would hold it three times
        let rooms = snapshot.banks.iter().map(|Blob(bytes)| bytes.len()).sum::<usize>() + snapshot.windows.len();
        let mut bytes = Vec::with_capacity(rooms + SERIES_BYTES * snapshot.series.len());
        rmp_serde::encode::write_named(&mut bytes, &snapshot).map_err(|e| self.snapshot_error(&e))?;
        Ok(bytes)
    }

    /// Continues from a snapshot of this engine version, or of one since [`crate::OLDEST_STATE`]. Where the pipeline has changed
    /// since, what fits goes on: each series whose rule makes the same values of its samples and watches them in the same
    /// way, whatever the rule is called and wherever it stands. The others begin anew; [`Observe::epoch`] tells how many, and
    /// the digest is then another than the snapshot's.
    ///
    /// # Errors
    /// [`EngineError::Snapshot`] where nothing fits, as windows are others or of other values, or where the bytes are no
    /// snapshot; the fold must then not be used on.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        let snapshot: Snapshot = rmp_serde::from_slice(bytes).map_err(|e| self.snapshot_error(&e))?;
        if let Some(reason) = misfit(snapshot.engine) {
            return Err(self.snapshot_error(&reason));
        }
        let former = snapshot.terms.as_ref().and_then(Terms::decode);
        let same = match &former {
            Some(former) => *former == self.terms(),
            None => snapshot.shape == self.shape(),
        };
        if let Some(decoder) = &mut self.decoder {
            decoder.restore(snapshot.histograms.clone());
        }
        self.raw.clear();
        self.pending.clear();
        self.roster.clear();
        self.seq = snapshot.seq;
        self.taken_digest = snapshot.taken_digest;
        self.said_digest = snapshot.said_digest;
        self.newest = snapshot.newest;
        self.arrivals = snapshot.arrivals.clone();
        self.versions = snapshot.versions.iter().cloned().collect();
        self.edges = snapshot.edges.iter().cloned().collect();
        self.watched = snapshot.watched.iter().cloned().collect();
        if same {
            self.go_on(snapshot)
        } else {
            // rows are others then, so they are ranked anew
            self.ranking = Ranking::default();
            self.carry_over(snapshot, former.as_ref())
        }
    }

    /// Takes over the whole of a snapshot.
    fn go_on(&mut self, snapshot: Snapshot) -> Result<(), EngineError> {
        let mut judge = Judge::new(&self.matcher, &self.pipeline)?;
        for (bank, Blob(bytes)) in judge.banks_mut().zip(&snapshot.banks) {
            bank.restore(bytes).map_err(|e| self.snapshot_error(&e))?;
        }
        if let (Some(alarms), Some(account)) = (&self.pipeline.alarms, &snapshot.budget) {
            judge.budget = Some(Budget::load(alarms, account).map_err(|e| self.snapshot_error(&e))?);
        }
        judge.rollup = snapshot.rollup;
        judge.rollup.find();
        judge.meter = snapshot.meter;
        judge.meter.link(snapshot.series.iter().map(|series| &series.key));
        judge.link(snapshot.series.iter());
        let at = self.restore_windows(&snapshot.windows, None)?;
        self.table = SeriesTable::of(snapshot.series);
        let mut ended = Vec::new();
        if let Some(Blob(bytes)) = &snapshot.derive {
            let places: Vec<u32> = (0..).take(self.table.len()).collect();
            let said = judge.derive.restore(bytes, true, &places, &self.table, at);
            ended = said.map_err(|e| self.snapshot_error(&e))?;
        }
        self.judge = judge;
        self.ranking = snapshot.ranking;
        self.note_aggregates();
        self.account_for_all(ended);
        Ok(())
    }

    /// Takes over the windows, or these rows of them, and tells how far they are.
    pub(super) fn restore_windows(&mut self, bytes: &[u8], rows: Option<&[u32]>) -> Result<Timestamp, EngineError> {
        let done = match rows {
            Some(rows) => self.windows.restore_rows(bytes, rows),
            None => self.windows.restore(bytes),
        };
        done.map_err(|e| self.snapshot_error(&e))?;
        Ok(self.windows.newest())
    }

    /// Tells derive rules what windows make of each series: a snapshot from before there were any does not.
    pub(super) fn note_aggregates(&mut self) {
        for row in (0..).take(self.table.len()) {
            if let Some(aggregate) = self.windows.aggregate(row) {
                self.judge.derive.note(row, aggregate);
            }
        }
    }

    fn shape(&self) -> Vec<u64> {
        let rules = self.matcher.rules().iter().map(|rule| fingerprint_of(rule.as_ref()));
        let alarms = self.pipeline.alarms.iter().map(fingerprint_of);
        std::iter::once(fingerprint_of(&self.pipeline.window))
            .chain(rules)
            .chain(alarms)
            .collect()
    }

    pub(super) fn snapshot_error(&self, reason: &dyn std::fmt::Display) -> EngineError {
        EngineError::Snapshot {
            shard: self.shard.to_string(),
            reason: reason.to_string(),
        }
    }
}
