//! Signed marks in the ledger, without which a whole chain could be made up.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use suture_event::{LedgerRecord, Timestamp};

use crate::Said;

/// How far a chain of the ledger is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The chain.
    pub scope: Arc<str>,
    /// The last record that it vouches for, and so for all before.
    pub seq: u64,
    /// That record's hash.
    pub hash: String,
    /// That record's time.
    pub at: Timestamp,
}

impl Checkpoint {
    /// The place of a record in its chain.
    #[must_use]
    pub fn of(record: &LedgerRecord) -> Self {
        Self {
            scope: Arc::clone(&record.scope),
            seq: record.seq,
            hash: record.hash.clone(),
            at: record.at,
        }
    }
}

impl Said for Checkpoint {
    fn words(&self, key: &str) -> Vec<u8> {
        serde_json::to_vec(&("suture checkpoint 1", key, (&self.scope, self.seq, &self.hash, self.at)))
            .unwrap_or_default()
    }
}
