//! The ledger as far as it is kept here, and whether its chains hold.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use schemars::JsonSchema;
use serde::Serialize;
use suture_event::{LedgerRecord, Timestamp};

use crate::action::text;

/// A record with what it is about, so that it is found without reading its body.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) record: Arc<LedgerRecord>,
    pub(crate) incident: Option<Arc<str>>,
    pub(crate) action: Option<Arc<str>>,
}

impl Entry {
    pub(crate) fn of(record: LedgerRecord) -> Self {
        let first = |places: &[&str]| places.iter().find_map(|at| text(&record, at));
        Self {
            incident: first(&[
                "/incident",
                "/request/incident",
                "/outcome/incident",
                "/command/incident",
            ]),
            action: first(&["/action", "/request/id", "/outcome/action", "/command/action"]),
            record: Arc::new(record),
        }
    }
}

/// How one scope's chain stands, as far as it was seen from here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Chain {
    /// The scope.
    pub scope: Arc<str>,
    /// Records seen.
    pub records: u64,
    /// The number of the first record seen: what came before it is not vouched for.
    pub from: u64,
    /// The last record's number.
    pub head: u64,
    /// The last record's hash.
    pub hash: String,
    /// When the last record was written.
    pub at: Timestamp,
    /// Where the chain does not hold; absent while it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
    /// How often it began anew because state was lost.
    pub begun_anew: u64,
}

/// The last records of all scopes, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) entries: VecDeque<Entry>,
    chains: BTreeMap<Arc<str>, Chain>,
}

impl Ledger {
    /// Keeps a record; `None` where it is the last one once more.
    pub(crate) fn take(&mut self, record: LedgerRecord, most: usize, scopes: usize) -> Option<Entry> {
        let known = self.chains.get(&record.scope);
        if known.is_some_and(|chain| chain.head == record.seq && chain.hash == record.hash) {
            return None;
        }
        let anew = record.begins_anew();
        self.follow(&record, anew, scopes);
        while self.entries.len() >= most.max(1) {
            self.entries.pop_front();
        }
        let entry = Entry::of(record);
        self.entries.push_back(entry.clone());
        Some(entry)
    }

    fn follow(&mut self, record: &LedgerRecord, anew: bool, scopes: usize) {
        let flaw = |chain: Option<&Chain>| {
            if record.digest() != record.hash {
                return Some(format!("record {}: its hash does not fit its contents", record.seq));
            }
            let follows = match chain {
                _ if anew => record.previous == LedgerRecord::GENESIS,
                Some(chain) => record.seq == chain.head + 1 && record.previous == chain.hash,
                None => record.seq > 0 || record.previous == LedgerRecord::GENESIS,
            };
            (!follows).then(|| format!("record {}: does not follow on the one before", record.seq))
        };
        if let Some(chain) = self.chains.get_mut(&record.scope) {
            let flaw = flaw(Some(chain));
            chain.broken = chain.broken.take().or(flaw);
            chain.records += 1;
            chain.begun_anew += u64::from(anew);
            (chain.head, chain.at) = (record.seq, record.at);
            chain.hash.clone_from(&record.hash);
        } else if self.chains.len() < scopes {
            let chain = Chain {
                scope: record.scope.clone(),
                records: 1,
                from: record.seq,
                head: record.seq,
                hash: record.hash.clone(),
                at: record.at,
                broken: flaw(None),
                begun_anew: u64::from(anew),
            };
            self.chains.insert(record.scope.clone(), chain);
        }
    }

    pub(crate) fn chains(&self) -> Vec<Chain> {
        self.chains.values().cloned().collect()
    }

    pub(crate) fn of_incident<'a>(&'a self, incident: &'a str) -> impl Iterator<Item = &'a Entry> {
        self.entries
            .iter()
            .filter(move |entry| entry.incident.as_deref() == Some(incident))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seq: u64, kind: &str, cold: bool, previous: &str) -> LedgerRecord {
        let (at, body) = (Timestamp::from_millis(0), serde_json::json!({"cold": cold}));
        LedgerRecord::sealed(seq, at, "prod".into(), kind, None, body, previous)
    }

    #[test]
    fn a_chain_is_followed_from_where_it_was_first_seen_and_a_break_is_kept() {
        let mut ledger = Ledger::default();
        let first = record(7, "test", false, "what came before");
        let second = record(8, "test", false, &first.hash);
        let other = record(8, "other", false, &first.hash);
        for each in [&first, &second, &second] {
            ledger.take(each.clone(), 10, 10);
        }
        let chain = ledger.chains().remove(0);
        assert_eq!(
            (chain.from, chain.head, chain.records),
            (7, 8, 2),
            "the last once more is none"
        );
        assert_eq!(chain.broken, None);
        ledger.take(other, 10, 10);
        let anew = record(0, "epoch", true, LedgerRecord::GENESIS);
        ledger.take(anew.clone(), 10, 10);
        ledger.take(record(1, "test", false, &anew.hash), 10, 10);
        let chain = ledger.chains().remove(0);
        assert_eq!((chain.head, chain.begun_anew), (1, 1));
        assert_eq!(
            chain.broken.as_deref(),
            Some("record 8: does not follow on the one before")
        );
        let mut forged = record(2, "test", false, &chain.hash);
        forged.kind = "else".into();
        let mut fresh = Ledger::default();
        fresh.take(forged, 10, 10);
        assert!(
            fresh.chains()[0]
                .broken
                .as_ref()
                .is_some_and(|why| why.contains("hash"))
        );
    }
}
