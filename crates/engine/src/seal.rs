//! What each fact's record carries beside it, so that what observe did not write in its turn is refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use suture_event::{Fact, FactBody, ShardId};

use crate::reorder::pairs;

/// Shards that are known at most.
const MOST: usize = 100_000;

/// The shard's epoch and the fact's number, as the record's headers say them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// The epoch in which the shard said it.
    pub epoch: u32,
    /// The fact's number; of a mark and of a note on an epoch, that of the next fact.
    pub seq: u64,
}

impl Seal {
    /// The name of the header.
    pub const HEADER: &'static str = "suture_seal";

    /// As the header holds it: `EPOCH-NUMBER`.
    #[must_use]
    pub fn encode(self) -> String {
        format!("{}-{}", self.epoch, self.seq)
    }

    /// Reads a header; `None` where it is none.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (epoch, seq) = std::str::from_utf8(bytes).ok()?.split_once('-')?;
        Some(Self {
            epoch: epoch.parse().ok()?,
            seq: seq.parse().ok()?,
        })
    }
}

/// What each shard may say next.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Seals {
    #[serde(with = "pairs")]
    next: BTreeMap<ShardId, Seal>,
    /// Whether an earlier program's facts, which have none, may still be on their way from shards that never had one.
    #[serde(default)]
    old: bool,
}

impl Seals {
    /// Those of a state that an earlier program wrote.
    pub(crate) fn of_old() -> Self {
        Self {
            next: BTreeMap::new(),
            old: true,
        }
    }

    /// Takes note of a fact, or says why it is not its shard's.
    pub(crate) fn admit(&mut self, fact: &Fact, seal: Option<Seal>) -> Result<(), String> {
        let shard = &fact.shard;
        let known = self.next.get(shard).copied();
        let Some(seal) = seal else {
            if self.old && known.is_none() {
                return Ok(());
            }
            return Err(format!(
                "a fact of {shard} without the header {}: something else than suture writes to the topic; see `suture acl`",
                Seal::HEADER
            ));
        };
        if seal.seq != fact.seq {
            return Err(format!(
                "the fact of {shard} has number {} and its header says {}",
                fact.seq, seal.seq
            ));
        }
        let counts = !matches!(fact.body, FactBody::Progress(_) | FactBody::Epoch(_));
        match known {
            Some(next) if seal.epoch < next.epoch || (seal.epoch == next.epoch && seal.seq < next.seq) => {
                return Err(format!(
                    "a fact of {shard} with number {} of epoch {}, of which number {} of epoch {} was next",
                    seal.seq, seal.epoch, next.seq, next.epoch
                ));
            }
            None if self.next.len() >= MOST => return Err(format!("{shard} is one shard too many")),
            _ => {}
        }
        let next = Seal {
            seq: seal.seq + u64::from(counts),
            ..seal
        };
        self.next.insert(shard.clone(), next);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use suture_event::{Edge, EdgeSource, Timestamp};

    use super::*;

    fn fact(partition: i32, seq: u64) -> Fact {
        Fact {
            scope: "s".into(),
            at: Timestamp::MIN,
            shard: ShardId {
                topic: "t".into(),
                partition,
            },
            seq,
            body: FactBody::Edge(Edge {
                from: "a".into(),
                to: "b".into(),
                source: EdgeSource::File,
            }),
        }
    }

    #[test]
    fn what_a_shard_did_not_say_in_its_turn_is_refused() {
        let mut seals = Seals::default();
        let mut admits = |partition, epoch, seq| {
            let seal = Some(Seal { epoch, seq });
            seals.admit(&fact(partition, seq), seal).is_ok()
        };
        // numbers are those of all scopes together
        assert!(admits(0, 0, 0) && admits(0, 0, 4) && admits(1, 7, 9));
        assert!(!admits(0, 0, 4), "once more");
        assert!(admits(0, 1, 0), "a new epoch, whose state was lost");
        assert!(!admits(0, 0, 5), "an epoch that is over");
        let known = fact(0, 3);
        assert!(seals.admit(&known, None).is_err());
        assert!(seals.admit(&known, Some(Seal { epoch: 1, seq: 4 })).is_err());
        assert!(seals.admit(&fact(5, 0), None).is_err());
        let mut old = Seals::of_old();
        assert!(old.admit(&known, None).is_ok());
        assert!(old.admit(&known, Some(Seal { epoch: 1, seq: 3 })).is_ok());
        assert!(old.admit(&fact(0, 4), None).is_err(), "it has had one");
    }

    #[test]
    fn a_seal_reads_back() {
        let seal = Seal {
            epoch: 3,
            seq: u64::MAX,
        };
        assert_eq!(Seal::decode(seal.encode().as_bytes()), Some(seal));
        for text in ["", "3", "-", "3-x", "-1-2"] {
            assert_eq!(Seal::decode(text.as_bytes()), None, "{text}");
        }
    }
}
