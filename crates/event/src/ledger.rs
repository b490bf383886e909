//! The hash-chained record of every decision.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Seal, ShardId, Timestamp, canonical, impossible, serialize_canonical};

/// One decision. `hash` is the SHA-256 of this record's JSON with `hash` empty; `previous` is that of the record before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LedgerRecord {
    /// Counts a scope's records, from 0.
    pub seq: u64,
    /// Event or wall time of the decision, by the pipeline's clock.
    pub at: Timestamp,
    /// The scope, which is the chain.
    pub scope: Arc<str>,
    /// What was decided: `incident_opened`, `action_requested`, `outcome`, `verified`, `reversed`, …
    pub kind: Arc<str>,
    /// The fact that caused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// What it was about. Written with sorted keys, whatever order they came in.
    #[serde(serialize_with = "serialize_canonical")]
    pub body: serde_json::Value,
    /// Hash of the record before; 64 zeros for the first.
    pub previous: String,
    /// Hash of this record.
    pub hash: String,
    /// Decide's signature on this place in the chain, without which a whole chain could be made up. Made where the record is
    /// written; it is no part of what is hashed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<Seal>,
}

/// A fact, by the shard that said it and its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cause {
    /// The shard.
    pub shard: ShardId,
    /// The fact's number there.
    pub seq: u64,
}

/// Where a chain breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// A record was changed after it was written.
    #[error("ledger of {scope}, record {seq}: its hash does not fit its contents")]
    Altered {
        /// The chain.
        scope: String,
        /// The record.
        seq: u64,
    },
    /// A record is missing, doubled or out of order.
    #[error("ledger of {scope}, record {seq}: does not follow on the one before")]
    Broken {
        /// The chain.
        scope: String,
        /// The record.
        seq: u64,
    },
}

impl LedgerRecord {
    /// The hash before the first record.
    pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

    /// A record that follows on the one whose hash is `previous`, sealed.
    #[must_use]
    pub fn sealed(
        seq: u64,
        at: Timestamp,
        scope: Arc<str>,
        kind: &str,
        cause: Option<Cause>,
        body: serde_json::Value,
        previous: &str,
    ) -> Self {
        let mut record = Self {
            seq,
            at,
            scope,
            kind: kind.into(),
            cause,
            body: canonical(body),
            previous: previous.to_owned(),
            hash: String::new(),
            seal: None,
        };
        record.hash = record.digest();
        record
    }

    /// Whether this is the first record after the state behind its chain was lost.
    #[must_use]
    pub fn begins_anew(&self) -> bool {
        self.seq == 0
            && &*self.kind == "epoch"
            && self.body.get("cold").and_then(serde_json::Value::as_bool) == Some(true)
    }

    /// What `hash` must be.
    #[must_use]
    pub fn digest(&self) -> String {
        let open = Self {
            hash: String::new(),
            seal: None,
            ..self.clone()
        };
        // the body is written with sorted keys, so the bytes depend on the contents alone
        let bytes = serde_json::to_vec(&open).unwrap_or_else(|_| {
            impossible("a ledger record that is no JSON");
            Vec::new()
        });
        let mut text = String::with_capacity(64);
        for byte in Sha256::digest(&bytes) {
            text.push_str(&format!("{byte:02x}"));
        }
        text
    }
}

/// Checks that records, in order, form unbroken chains, one for each scope, each from its first record on. Where the state
/// behind a chain was lost, it begins anew at 0 with a record of kind `epoch` that says so (`cold` in its body): that is
/// no break, but whoever audits a ledger should ask about each of them.
///
/// # Errors
/// The first place where a chain breaks.
pub fn verify_chain<'a>(records: impl IntoIterator<Item = &'a LedgerRecord>) -> Result<(), LedgerError> {
    let mut heads: std::collections::BTreeMap<&str, (u64, &str)> = std::collections::BTreeMap::new();
    for record in records {
        let (seq, previous) = heads
            .get(record.scope.as_ref())
            .copied()
            .unwrap_or((0, LedgerRecord::GENESIS));
        let (seq, previous) = if record.begins_anew() {
            (0, LedgerRecord::GENESIS)
        } else {
            (seq, previous)
        };
        let scope = || record.scope.to_string();
        if record.seq != seq || record.previous != previous {
            return Err(LedgerError::Broken {
                scope: scope(),
                seq: record.seq,
            });
        }
        if record.digest() != record.hash {
            return Err(LedgerError::Altered {
                scope: scope(),
                seq: record.seq,
            });
        }
        heads.insert(&record.scope, (seq + 1, &record.hash));
    }
    Ok(())
}

/// What was done to a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tampering {
    /// The record's contents are not those that were written.
    Changed,
    /// The record is missing.
    Removed,
    /// The record stands elsewhere than it was written.
    Moved,
    /// The record was never written, or stands there twice.
    Inserted,
    /// The chain ends before its end, or begins after its beginning.
    Truncated,
}

/// One thing that was done to a chain, and to which record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The chain.
    pub scope: Arc<str>,
    /// The record's number; the last one that should be there, for a chain that was cut off.
    pub seq: u64,
    /// Where it was found: the place among the records that were handed in, from 0; absent for what is not there.
    pub place: Option<usize>,
    /// What was done.
    pub what: Tampering,
}

/// Names what was done to the chains of some records, in the order in which they are kept. `ends` are the last number and hash
/// that each chain is known to have had; without it nothing can be said of a chain cut off at its end. A chain that begins anew
/// because state was lost is none of this.
///
/// Whoever can compute hashes can make up a chain: see the signatures.
#[must_use]
pub fn damage(records: &[LedgerRecord], ends: &std::collections::BTreeMap<Arc<str>, (u64, String)>) -> Vec<Damage> {
    use std::collections::BTreeMap;
    let mut chains: BTreeMap<&Arc<str>, Vec<Life<'_>>> = BTreeMap::new();
    for (place, record) in records.iter().enumerate() {
        let lives = chains.entry(&record.scope).or_default();
        if lives.is_empty() || record.begins_anew() {
            lives.push(Vec::new());
        }
        if let Some(life) = lives.last_mut() {
            life.push((place, record));
        }
    }
    let mut found = Vec::new();
    for (scope, lives) in &chains {
        for life in lives {
            found.extend(damage_of(scope, life));
        }
        let last = lives.last().and_then(|life| life.iter().map(|(_, r)| r.seq).max());
        if let Some((seq, hash)) = ends.get(*scope) {
            let kept = lives
                .iter()
                .flatten()
                .find(|(_, record)| record.seq == *seq && record.hash == *hash);
            if kept.is_none() && last < Some(*seq) {
                found.push(Damage {
                    scope: Arc::clone(scope),
                    seq: *seq,
                    place: None,
                    what: Tampering::Truncated,
                });
            }
        }
    }
    for (scope, (seq, _)) in ends.iter().filter(|(scope, _)| !chains.contains_key(scope)) {
        found.push(Damage {
            scope: Arc::clone(scope),
            seq: *seq,
            place: None,
            what: Tampering::Truncated,
        });
    }
    found
}

/// One chain from a beginning to where it ends or begins anew: records with their places.
type Life<'a> = Vec<(usize, &'a LedgerRecord)>;

fn damage_of(scope: &Arc<str>, life: &[(usize, &LedgerRecord)]) -> Vec<Damage> {
    use std::collections::BTreeSet;
    let mut found = Vec::new();
    let mut tell = |seq, place, what| {
        found.push(Damage {
            scope: Arc::clone(scope),
            seq,
            place,
            what,
        });
    };
    let held: BTreeSet<u64> = life.iter().map(|(_, record)| record.seq).collect();
    let mut seen: BTreeSet<u64> = BTreeSet::new();
    let (mut expected, mut previous) = (0, LedgerRecord::GENESIS);
    let first = held.first().copied().unwrap_or(0);
    if first > 0 {
        tell(first - 1, None, Tampering::Truncated);
        expected = first;
        previous = life
            .iter()
            .find(|(_, r)| r.seq == first)
            .map_or("", |(_, r)| &r.previous);
    }
    for (place, record) in life {
        let altered = record.digest() != record.hash;
        if !seen.insert(record.seq) {
            tell(record.seq, Some(*place), Tampering::Inserted);
            continue;
        }
        if record.seq < expected {
            tell(record.seq, Some(*place), Tampering::Moved);
            continue;
        }
        for missing in expected..record.seq {
            // what is only elsewhere is told where it stands
            if !held.contains(&missing) {
                tell(missing, None, Tampering::Removed);
            }
        }
        if altered {
            tell(record.seq, Some(*place), Tampering::Changed);
        } else if record.seq == expected && record.previous != previous {
            // this one is whole: what it follows on is not what it followed on
            tell(record.seq.saturating_sub(1), None, Tampering::Changed);
        }
        expected = record.seq + 1;
        // one that was changed still has the hash that the next follows on, unless that was made anew too
        previous = &record.hash;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> Vec<LedgerRecord> {
        let mut records: Vec<LedgerRecord> = Vec::new();
        for seq in 0..3 {
            let previous = records.last().map_or(LedgerRecord::GENESIS, |r| &r.hash).to_owned();
            let body = serde_json::json!({"n": seq, "share": 0.1});
            records.push(LedgerRecord::sealed(
                seq,
                Timestamp::from_millis(0),
                "prod".into(),
                "test",
                None,
                body,
                &previous,
            ));
        }
        records
    }

    #[test]
    fn a_chain_holds_also_after_a_round_trip_through_json() {
        let text = serde_json::to_string(&chain()).unwrap();
        let read: Vec<LedgerRecord> = serde_json::from_str(&text).unwrap();
        assert_eq!(verify_chain(&read), Ok(()));
    }

    #[test]
    fn the_hash_and_the_bytes_are_the_same_in_whatever_order_the_body_was_made() {
        const WRITTEN: &str = concat!(
            r#"{"seq":0,"at":"1970-01-01T00:00:00Z","scope":"prod","kind":"test","#,
            r#""body":{"a":{"x":1,"y":2},"b":[{"p":3,"q":4}]},"previous":""#,
        );
        const HASH: &str = "be8c5a5f989746c00fed2b8c9d0e491aab17f7f1cdd0d857b19488b96fb2fd58";
        let bodies = [
            r#"{"a": {"x": 1, "y": 2}, "b": [{"p": 3, "q": 4}]}"#,
            r#"{"b": [{"q": 4, "p": 3}], "a": {"y": 2, "x": 1}}"#,
        ];
        let records = bodies.map(|body| {
            let (at, body) = (Timestamp::from_millis(0), serde_json::from_str(body).unwrap());
            LedgerRecord::sealed(0, at, "prod".into(), "test", None, body, LedgerRecord::GENESIS)
        });
        for record in &records {
            assert!(serde_json::to_string(record).unwrap().starts_with(WRITTEN));
            assert_eq!(record.hash, HASH);
        }
        // a record whose keys somebody else wrote in another order is the same record
        let mut reread = records[0].clone();
        reread.body = serde_json::from_str(bodies[1]).unwrap();
        assert_eq!(reread.digest(), HASH);
    }

    #[test]
    fn a_chain_begins_anew_only_where_it_says_that_state_was_lost() {
        let first = |cold: bool| {
            let body = serde_json::json!({"cold": cold});
            let at = Timestamp::from_millis(1);
            LedgerRecord::sealed(0, at, "prod".into(), "epoch", None, body, LedgerRecord::GENESIS)
        };
        let records = |cold| [chain(), vec![first(cold)]].concat();
        assert_eq!(verify_chain(&records(true)), Ok(()));
        assert!(matches!(
            verify_chain(&records(false)),
            Err(LedgerError::Broken { seq: 0, .. })
        ));
    }

    #[test]
    fn what_was_done_to_a_chain_is_named() {
        let long = || {
            let mut records: Vec<LedgerRecord> = Vec::new();
            for seq in 0..8 {
                let previous = records.last().map_or(LedgerRecord::GENESIS, |r| &r.hash).to_owned();
                let body = serde_json::json!({"n": seq});
                let at = Timestamp::from_millis(0);
                records.push(LedgerRecord::sealed(
                    seq,
                    at,
                    "prod".into(),
                    "test",
                    None,
                    body,
                    &previous,
                ));
            }
            records
        };
        let end = std::collections::BTreeMap::from([(Arc::from("prod"), (7, long()[7].hash.clone()))]);
        let named = |records: &[LedgerRecord]| -> Vec<(u64, Tampering)> {
            damage(records, &end)
                .into_iter()
                .map(|damage| (damage.seq, damage.what))
                .collect()
        };
        assert_eq!(named(&long()), []);
        let mut changed = long();
        changed[3].body = serde_json::json!({"n": 33});
        assert_eq!(named(&changed), [(3, Tampering::Changed)]);
        // and its hash made anew
        changed[3].hash = changed[3].digest();
        assert_eq!(named(&changed), [(3, Tampering::Changed)]);
        let mut removed = long();
        removed.remove(4);
        assert_eq!(named(&removed), [(4, Tampering::Removed)]);
        let mut moved = long();
        let record = moved.remove(2);
        moved.insert(5, record);
        assert_eq!(named(&moved), [(2, Tampering::Moved)]);
        let mut inserted = long();
        let mut forged = inserted[4].clone();
        forged.body = serde_json::json!({"n": 44});
        forged.hash = forged.digest();
        inserted.insert(5, forged);
        assert_eq!(named(&inserted), [(4, Tampering::Inserted)]);
        assert_eq!(named(&long()[..5]), [(7, Tampering::Truncated)]);
        assert_eq!(named(&long()[2..]), [(1, Tampering::Truncated)]);
        assert_eq!(named(&[]), [(7, Tampering::Truncated)]);
    }

    #[test]
    fn an_altered_or_missing_record_breaks_it() {
        let mut altered = chain();
        altered[1].body = serde_json::json!({"n": 7});
        assert!(matches!(
            verify_chain(&altered),
            Err(LedgerError::Altered { seq: 1, .. })
        ));
        let mut short = chain();
        short.remove(1);
        assert!(matches!(verify_chain(&short), Err(LedgerError::Broken { seq: 2, .. })));
    }
}
