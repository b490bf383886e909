//! The hash-chained record of every decision.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{ShardId, Timestamp};

/// One decision. `hash` is the SHA-256 of this record's JSON with `hash` empty; `previous` is that of the record before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// What it was about.
    pub body: serde_json::Value,
    /// Hash of the record before; 64 zeros for the first.
    pub previous: String,
    /// Hash of this record.
    pub hash: String,
}

/// A fact, by the shard that said it and its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
            body,
            previous: previous.to_owned(),
            hash: String::new(),
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
            ..self.clone()
        };
        // maps of serde_json are sorted, so the bytes depend on the contents alone
        let bytes = serde_json::to_vec(&open).unwrap_or_default();
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
