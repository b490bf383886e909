//! One partition: records in order, which of them are visible, and which may go.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use suture_event::Timestamp;

use crate::{HeadersBuf, Isolation, Offset, OutRecord, Range, RecordRef};

/// Number of a transaction, in order of their beginning.
pub(super) type Transaction = u64;

struct Stored {
    offset: Offset,
    timestamp: Timestamp,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: HeadersBuf,
    transaction: Option<Transaction>,
    control: bool,
}

impl Stored {
    fn size(&self) -> usize {
        // what a record costs beside its contents, about
        64 + self.key.as_ref().map_or(0, Vec::len)
            + self.value.as_ref().map_or(0, Vec::len)
            + self.headers.as_headers().packed().len()
    }
}

#[derive(Default)]
pub(super) struct Partition {
    start: Offset,
    end: Offset,
    records: VecDeque<Stored>,
    bytes: usize,
    /// First offset of each open transaction.
    open: BTreeMap<Transaction, Offset>,
    aborted: BTreeSet<Transaction>,
    compacted_bytes: usize,
}

/// What [`Partition::next`] found.
pub(super) enum Next<'a> {
    Record(RecordRef<'a>),
    /// Nothing more for now; everything before this offset has been looked at.
    End(Offset),
    OutOfRange,
}

impl Partition {
    pub(super) const fn range(&self) -> Range {
        Range {
            start: self.start,
            end: self.end,
        }
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn wants_compaction(&self, least: usize) -> bool {
        self.bytes > least.max(2 * self.compacted_bytes)
    }

    pub(super) fn append(&mut self, record: &OutRecord, now: Timestamp, transaction: Option<Transaction>) {
        let offset = self.end;
        if let Some(transaction) = transaction {
            self.open.entry(transaction).or_insert(offset);
        }
        self.put(Stored {
            offset,
            timestamp: record.timestamp.unwrap_or(now),
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.clone(),
            transaction,
            control: false,
        });
    }

    /// Writes the marker that ends a transaction here.
    pub(super) fn end_transaction(&mut self, transaction: Transaction, commit: bool, now: Timestamp) {
        if self.open.remove(&transaction).is_none() {
            return;
        }
        if !commit {
            self.aborted.insert(transaction);
        }
        self.put(Stored {
            offset: self.end,
            timestamp: now,
            key: None,
            value: None,
            headers: HeadersBuf::default(),
            transaction: Some(transaction),
            control: true,
        });
    }

    fn put(&mut self, stored: Stored) {
        self.end = stored.offset + 1;
        self.bytes += stored.size();
        self.records.push_back(stored);
    }

    /// Offset before which nothing is open.
    pub(super) fn stable(&self) -> Offset {
        self.open.values().min().copied().unwrap_or(self.end)
    }

    /// The first visible record at or after `from`.
    pub(super) fn next(&self, from: Offset, isolation: Isolation) -> Next<'_> {
        if from < self.start || from > self.end {
            return Next::OutOfRange;
        }
        let limit = match isolation {
            Isolation::ReadCommitted => self.stable(),
            Isolation::ReadUncommitted => self.end,
        };
        let first = self.records.partition_point(|stored| stored.offset < from);
        for stored in self.records.range(first..) {
            if stored.offset >= limit {
                break;
            }
            let hidden = isolation == Isolation::ReadCommitted
                && stored
                    .transaction
                    .is_some_and(|transaction| self.aborted.contains(&transaction));
            if !stored.control && !hidden {
                return Next::Record(RecordRef {
                    offset: stored.offset,
                    timestamp: Some(stored.timestamp),
                    key: stored.key.as_deref(),
                    value: stored.value.as_deref(),
                    headers: stored.headers.as_headers(),
                });
            }
        }
        Next::End(limit.max(from))
    }

    /// Drops the records before `before`, but none of an open transaction.
    pub(super) fn trim(&mut self, before: Offset) {
        let before = before.min(self.stable());
        while self.records.front().is_some_and(|stored| stored.offset < before) {
            if let Some(stored) = self.records.pop_front() {
                self.bytes = self.bytes.saturating_sub(stored.size());
            }
        }
        self.start = self.start.max(before);
        self.forget_aborted();
    }

    /// Drops the oldest records until no more than `bytes` are left.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let mut left = self.bytes;
        let mut before = self.start;
        for stored in &self.records {
            if left <= bytes {
                break;
            }
            left = left.saturating_sub(stored.size());
            before = stored.offset + 1;
        }
        self.trim(before);
    }

    /// Keeps the newest committed record of each key, and everything that is not yet stable. Tombstones go, and so do
    /// records without a key, which a broker would not have taken.
    pub(super) fn compact(&mut self) {
        let stable = self.stable();
        let mut newest: HashMap<Vec<u8>, Offset> = HashMap::new();
        for stored in self
            .records
            .iter()
            .filter(|stored| stored.offset < stable && !stored.control)
        {
            let aborted = stored
                .transaction
                .is_some_and(|transaction| self.aborted.contains(&transaction));
            if let (Some(key), false) = (&stored.key, aborted) {
                newest.insert(key.clone(), stored.offset);
            }
        }
        self.records.retain(|stored| {
            stored.offset >= stable
                || (!stored.control
                    && stored.value.is_some()
                    && stored
                        .key
                        .as_ref()
                        .is_some_and(|key| newest.get(key) == Some(&stored.offset)))
        });
        self.bytes = self.records.iter().map(Stored::size).sum();
        self.compacted_bytes = self.bytes;
        self.forget_aborted();
    }

    /// Transactions of which no record is left need not be remembered.
    fn forget_aborted(&mut self) {
        if !self.aborted.is_empty() {
            let left: BTreeSet<Transaction> = self.records.iter().filter_map(|stored| stored.transaction).collect();
            self.aborted.retain(|transaction| left.contains(transaction));
        }
    }
}
