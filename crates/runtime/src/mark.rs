//! What goes into an offset commit's metadata, so that it is there if and only if the transaction is.

use suture_event::{Timestamp, hex16};
use suture_log::{Offset, RecordRef};

use crate::{pace::Reached, state::SnapshotId};

/// What a shard knew when it committed: a line of `name=value` pairs, far below the broker's 4 KiB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The shard's epoch.
    pub(crate) epoch: u32,
    /// The fold's digest at the committed offset.
    pub(crate) digest: u64,
    /// Hash of the fingerprint that the epoch runs under.
    pub(crate) fingerprint: u64,
    /// How many partitions the input topic had.
    pub(crate) partitions: i32,
    /// The last record before the offset, by which a topic that was created anew is told from the old one.
    pub(crate) last: Option<(Offset, u64)>,
    /// The snapshots that count, oldest first: whatever else the state topic holds was never finished or is to go.
    pub(crate) snapshots: Vec<SnapshotId>,
    /// None of them lies before this offset of its partition of the state topic.
    pub(crate) state_from: Offset,
    /// Where time went on without a record, up to when, in order: whoever replays the shard needs it.
    pub(crate) silences: Vec<(Offset, Timestamp)>,
    /// How far the shard has come, where the plane's shards are kept in step.
    pub(crate) reached: Option<Reached>,
}

const VERSION: &str = "suture1";

impl Mark {
    pub(crate) fn encode(&self) -> String {
        let Self {
            epoch,
            digest,
            fingerprint,
            partitions,
            last,
            snapshots,
            state_from,
            silences,
            reached,
        } = self;
        let mut text = format!(
            "{VERSION} epoch={epoch} digest={} fingerprint={} partitions={partitions} state={state_from}",
            hex16(*digest),
            hex16(*fingerprint),
        );
        for SnapshotId { epoch, offset } in snapshots {
            text.push_str(&format!(" snapshot={epoch}-{offset}"));
        }
        if let Some((offset, hash)) = last {
            text.push_str(&format!(" last={offset}:{}", hex16(*hash)));
        }
        for (offset, to) in silences {
            text.push_str(&format!(" silence={offset}:{}", to.as_millis()));
        }
        if let Some(reached) = reached {
            text.push_str(&format!(" time={}", reached.encode()));
        }
        text
    }

    /// `None` where the text is no mark of this version: something else committed the offset.
    pub(crate) fn decode(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        if words.next() != Some(VERSION) {
            return None;
        }
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        let (mut epoch, mut digest, mut fingerprint, mut partitions, mut last, mut state_from) =
            (None, None, None, None, None, None);
        let mut reached = None;
        let (mut snapshots, mut silences) = (Vec::new(), Vec::new());
        for word in words {
            match word.split_once('=')? {
                ("epoch", value) => epoch = value.parse().ok(),
                ("digest", value) => digest = hex(value),
                ("fingerprint", value) => fingerprint = hex(value),
                ("partitions", value) => partitions = value.parse().ok(),
                ("state", value) => state_from = value.parse().ok(),
                ("time", value) => reached = Reached::decode(value),
                ("snapshot", value) => {
                    let (epoch, offset) = value.split_once('-')?;
                    snapshots.push(SnapshotId {
                        epoch: epoch.parse().ok()?,
                        offset: offset.parse().ok()?,
                    });
                }
                ("silence", value) => {
                    let (offset, to) = value.split_once(':')?;
                    silences.push((offset.parse().ok()?, Timestamp::from_millis(to.parse().ok()?)));
                }
                ("last", value) => {
                    let (offset, hash) = value.split_once(':')?;
                    last = Some((offset.parse().ok()?, hex(hash)?));
                }
                _ => {}
            }
        }
        Some(Self {
            epoch: epoch?,
            digest: digest?,
            fingerprint: fingerprint?,
            partitions: partitions?,
            last,
            snapshots,
            state_from: state_from?,
            silences,
            reached,
        })
    }
}

/// What tells a record from another at the same offset of a topic that was created anew.
pub(crate) fn record_hash(record: &RecordRef<'_>) -> u64 {
    let time = record
        .timestamp
        .map_or(i64::MIN, suture_event::Timestamp::as_millis)
        .to_le_bytes();
    suture_event::stable_hash([
        time.as_slice(),
        record.key.unwrap_or_default(),
        record.value.unwrap_or_default(),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_back_and_anything_else_is_refused() {
        let mark = Mark {
            epoch: 3,
            digest: 0xdead_beef,
            fingerprint: u64::MAX,
            partitions: 12,
            last: Some((41, 7)),
            snapshots: vec![SnapshotId { epoch: 2, offset: 30 }, SnapshotId { epoch: 3, offset: 31 }],
            state_from: 900,
            silences: vec![(31, Timestamp::from_millis(1_700_000_000_000))],
            reached: Some(Reached::At(Timestamp::from_millis(1_700_000_000_000))),
        };
        assert_eq!(Mark::decode(&mark.encode()), Some(mark.clone()));
        for reached in [None, Some(Reached::Unknown), Some(Reached::Anytime)] {
            let mark = Mark {
                reached,
                ..mark.clone()
            };
            assert_eq!(Mark::decode(&mark.encode()), Some(mark));
        }
        let fresh = Mark {
            last: None,
            silences: Vec::new(),
            snapshots: Vec::new(),
            reached: None,
            ..mark
        };
        let later = format!("{} time=as-yet-unheard-of and=more", fresh.encode());
        assert_eq!(Mark::decode(&later), Some(fresh.clone()));
        assert_eq!(Mark::decode(&fresh.encode()), Some(fresh.clone()));
        assert!(fresh.encode().len() < 200);
        for text in [
            "",
            "consumed by a console",
            "suture2 epoch=1",
            "suture1 epoch=1",
            "suture1 nonsense",
        ] {
            assert_eq!(Mark::decode(text), None, "{text}");
        }
    }
}
