//! The series of one shard: what each is, and where its state lives in the rooms.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use suture_event::{SeriesKey, SignalKind, stable_hash};

/// A row that is nobody's, and a series' row in a bank where none judges it.
pub(crate) const NOBODY: u32 = u32::MAX;

/// What a series is to those that are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) enum Role {
    /// It is judged by its own past.
    #[default]
    Plain,
    /// It is an instance's, and rolled up with its siblings.
    Instance,
    /// It is made of its instances' series, and is judged in their place.
    RolledUp,
}

impl Role {
    #[allow(clippy::trivially_copy_pass_by_ref)] // as serde asks
    const fn is_plain(&self) -> bool {
        matches!(self, Self::Plain)
    }
}

/// The identity of a series that is made of instances' series, by the hash of its name and labels: another than that of a
/// series which is sent under the same.
pub(crate) fn rolled_up(hash: u64) -> u64 {
    stable_hash([b"rolled up".as_slice(), &hash.to_le_bytes()])
}

/// The same within a partition: where instances of one service come to several, each makes a series of its own.
pub(crate) fn rolled_up_in(hash: u64, partition: i32) -> u64 {
    stable_hash([rolled_up(hash).to_le_bytes().as_slice(), &partition.to_le_bytes()])
}

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
    /// Its row in that bank; [`NOBODY`] for an instance's, which none judges.
    pub(crate) bank_row: u32,
    #[serde(default, skip_serializing_if = "Role::is_plain")]
    pub(crate) role: Role,
}

impl Series {
    /// By what a model knows it, in whatever shard.
    pub(crate) fn learned_as(&self) -> u64 {
        match self.role {
            Role::Plain | Role::Instance => self.hash,
            Role::RolledUp => rolled_up(self.key.hash64()),
        }
    }
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
    /// As many instances as may be are rolled up already into what it belongs to. Never remembered, as one may go.
    Crowded,
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
