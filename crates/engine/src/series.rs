//! The series of one shard: what each is, and where its state lives in the rooms.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use suture_event::{SeriesKey, SignalKind};

/// A series as the shard knows it. Its number is its row in the windows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Series {
    pub(crate) key: SeriesKey,
    pub(crate) hash: u64,
    pub(crate) scope: Arc<str>,
    pub(crate) service: Option<Arc<str>>,
    pub(crate) kind: SignalKind,
    /// Which signal rule it falls under, which is which bank judges it.
    pub(crate) rule: u32,
    /// Its row in that bank.
    pub(crate) bank_row: u32,
}

/// What the shard does with a series' samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Slot {
    /// They go to this row.
    Row(u32),
    /// The pipeline's condition leaves the series out.
    LeftOut,
    /// The bound on series was reached before it came.
    Refused,
}

/// All series of a shard, found by the hash of their identity. Two series whose 64-bit hashes agree count as one: with a
/// million series the odds of any such pair are 1 to 37 million.
#[derive(Debug, Default)]
pub(crate) struct SeriesTable {
    slots: FxHashMap<u64, Slot>,
    series: Vec<Series>,
    /// Series that are known only to be left out or refused, which are bounded like the others.
    others: usize,
}

impl SeriesTable {
    pub(crate) fn slot(&self, hash: u64) -> Option<Slot> {
        self.slots.get(&hash).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.series.len()
    }

    pub(crate) fn add(&mut self, series: Series) {
        #[allow(clippy::cast_possible_truncation)] // bounded by the pipeline's limit, far below 2^32
        let row = self.series.len() as u32;
        self.slots.insert(series.hash, Slot::Row(row));
        self.series.push(series);
    }

    /// Remembers that a series has no row, unless as many as `limit` are remembered so already.
    pub(crate) fn exclude(&mut self, hash: u64, slot: Slot, limit: usize) {
        if self.others < limit {
            self.others += 1;
            self.slots.insert(hash, slot);
        }
    }

    /// Forgets the series of a row, which is then another's.
    pub(crate) fn give_up(&mut self, row: u32) -> Option<&Series> {
        let series = self.series.get(row as usize)?;
        self.slots.remove(&series.hash);
        Some(series)
    }

    /// Gives a row that was given up to another series.
    pub(crate) fn replace(&mut self, row: u32, series: Series) {
        if let Some(place) = self.series.get_mut(row as usize) {
            self.slots.insert(series.hash, Slot::Row(row));
            *place = series;
        }
    }

    pub(crate) fn get(&self, row: u32) -> Option<&Series> {
        self.series.get(row as usize)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Series> {
        self.series.iter()
    }

    /// The table that holds these series, in this order.
    pub(crate) fn of(series: Vec<Series>) -> Self {
        let mut table = Self::default();
        for one in series {
            table.add(one);
        }
        table
    }
}
