//! A snapshot on its way out, a stride with each commit, so that the shard need not stop for it.

use std::collections::VecDeque;

use suture_log::{Offset, OutRecord};

use crate::state::SnapshotId;

/// How many complete snapshots are kept.
const KEPT: usize = 2;

/// A complete snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) id: SnapshotId,
    pub(crate) pieces: u32,
    /// Its records lie at or after this offset of the state topic.
    pub(crate) from: Offset,
    /// It is in the object store, and not in the state topic.
    pub(crate) away: bool,
}

/// What is still to be written to the state topic.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    queue: VecDeque<OutRecord>,
    /// The snapshot that is complete once the queue is empty.
    writing: Option<Kept>,
    /// That one is on its way to the object store.
    under_way: bool,
    kept: VecDeque<Kept>,
}

impl Writer {
    /// Nothing to write, and these complete, oldest first.
    pub(crate) fn new(kept: impl IntoIterator<Item = Kept>) -> Self {
        Self {
            queue: VecDeque::new(),
            writing: None,
            under_way: false,
            kept: kept.into_iter().collect(),
        }
    }

    /// Puts the pieces and the manifest of a snapshot in the queue. Only where [`Self::is_busy`] is false.
    pub(crate) fn start(&mut self, snapshot: Kept, records: Vec<OutRecord>) {
        debug_assert!(self.writing.is_none(), "one snapshot at a time");
        self.queue.extend(records);
        self.writing = Some(snapshot);
    }

    /// A snapshot goes to the object store. Only where [`Self::is_busy`] is false.
    pub(crate) fn start_away(&mut self, snapshot: Kept) {
        debug_assert!(self.writing.is_none(), "one snapshot at a time");
        self.writing = Some(snapshot);
        self.under_way = true;
    }

    /// It has arrived there in so many pieces: the next commit lists it.
    pub(crate) fn arrived(&mut self, pieces: u32) {
        self.under_way = false;
        if let Some(writing) = &mut self.writing {
            writing.pieces = pieces;
        }
    }

    /// It will not.
    pub(crate) fn failed(&mut self) {
        self.under_way = false;
        self.writing = None;
    }

    /// Records to be written with no snapshot to be complete after them.
    pub(crate) fn push(&mut self, records: Vec<OutRecord>) {
        self.queue.extend(records);
    }

    pub(crate) const fn is_busy(&self) -> bool {
        self.writing.is_some()
    }

    /// Whether a commit would write nothing, and list nothing new.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && (self.writing.is_none() || self.under_way)
    }

    /// The records of the next stride: at least one, if there is any, and no more than `bytes` otherwise.
    pub(crate) fn stride(&self, bytes: usize) -> &[OutRecord] {
        let (front, _) = self.queue.as_slices();
        let mut sum = 0;
        let fitting = front.iter().take_while(|record| {
            sum += record.size();
            sum <= bytes
        });
        let count = fitting.count().max(usize::from(!front.is_empty()));
        front.get(..count).unwrap_or_default()
    }

    /// Whether that stride is the last.
    pub(crate) fn is_last(&self, stride: usize) -> bool {
        stride == self.queue.len() && !self.under_way
    }

    /// The first `count` records are committed. Gives the snapshot that is complete with them, and the one that is no
    /// longer kept.
    pub(crate) fn done(&mut self, count: usize) -> (Option<Kept>, Option<Kept>) {
        self.queue.drain(..count.min(self.queue.len()));
        if !self.queue.is_empty() || self.under_way {
            return (None, None);
        }
        let Some(complete) = self.writing.take() else {
            return (None, None);
        };
        self.kept.push_back(complete.clone());
        let dropped = if self.kept.len() > KEPT {
            self.kept.pop_front()
        } else {
            None
        };
        (Some(complete), dropped)
    }

    /// The snapshots that count once the first `count` records are committed, oldest first.
    pub(crate) fn listed(&self, count: usize) -> Vec<SnapshotId> {
        let complete = self.writing.as_ref().filter(|_| self.is_last(count));
        let all: Vec<SnapshotId> = self.kept.iter().chain(complete).map(|kept| kept.id).collect();
        all.get(all.len().saturating_sub(KEPT)..).unwrap_or_default().to_vec()
    }

    /// No snapshot that counts, now or once the one being written is complete, lies before this.
    pub(crate) fn from(&self) -> Option<Offset> {
        self.kept.iter().chain(&self.writing).map(|kept| kept.from).min()
    }

    /// The oldest that is kept.
    pub(crate) fn oldest(&self) -> Option<SnapshotId> {
        self.kept.front().map(|kept| kept.id)
    }

    /// The newest complete one.
    pub(crate) fn newest(&self) -> Option<SnapshotId> {
        self.kept.back().map(|kept| kept.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(offset: Offset) -> Kept {
        Kept {
            id: SnapshotId { epoch: 0, offset },
            pieces: 2,
            from: offset * 10,
            away: false,
        }
    }

    #[test]
    fn a_snapshot_goes_out_in_strides_and_the_third_oldest_goes() {
        let mut writer = Writer::new([kept(1), kept(2)]);
        let record = OutRecord::new("state", "key", vec![0; 97]);
        writer.start(kept(3), vec![record; 5]);
        assert_eq!(writer.from(), Some(10));
        let mut strides = Vec::new();
        let mut ends = Vec::new();
        while !writer.is_empty() {
            let count = writer.stride(250).len();
            strides.push(count);
            let listed: Vec<Offset> = writer.listed(count).iter().map(|id| id.offset).collect();
            assert_eq!(listed, if writer.is_last(count) { [2, 3] } else { [1, 2] });
            ends.push((writer.is_last(count), writer.done(count)));
        }
        assert_eq!(strides, [2, 2, 1]);
        assert_eq!(ends[1], (false, (None, None)));
        assert_eq!(ends[2], (true, (Some(kept(3)), Some(kept(1)))));
        assert_eq!(
            (writer.from(), writer.newest().map(|id| id.offset)),
            (Some(20), Some(3))
        );
    }

    #[test]
    fn a_snapshot_elsewhere_is_listed_once_it_has_arrived() {
        let mut writer = Writer::new([kept(1), kept(2)]);
        let ids = |ids: Vec<SnapshotId>| ids.iter().map(|id| id.offset).collect::<Vec<_>>();
        writer.start_away(Kept { away: true, ..kept(3) });
        writer.push(vec![OutRecord::new("state", "key", "")]);
        assert_eq!((writer.stride(100).len(), ids(writer.listed(1))), (1, vec![1, 2]));
        assert_eq!(writer.done(1), (None, None));
        assert!(
            writer.is_busy() && writer.is_empty(),
            "nothing to commit until it is there"
        );
        writer.arrived(7);
        assert!(!writer.is_empty());
        assert_eq!(ids(writer.listed(0)), [2, 3]);
        let (complete, dropped) = writer.done(0);
        assert_eq!((complete.map(|kept| kept.pieces), dropped), (Some(7), Some(kept(1))));
        assert!(writer.is_empty() && !writer.is_busy());
        writer.start_away(kept(4));
        writer.failed();
        assert_eq!((writer.is_busy(), ids(writer.listed(0))), (false, vec![2, 3]));
    }

    #[test]
    fn a_record_larger_than_the_stride_goes_alone() {
        let mut writer = Writer::default();
        writer.push(vec![OutRecord::new("state", "key", vec![0; 1000]); 2]);
        assert_eq!(writer.stride(10).len(), 1);
    }
}
