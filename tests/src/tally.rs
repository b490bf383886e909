//! A small fold whose every output can be told in advance, for tests of the runtime: it chains hashes of what it has seen of
//! each key, so that one record lost, doubled or out of order changes everything after it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use suture_event::{ShardId, stable_hash};
use suture_log::{OutRecord, RecordRef};
use suture_runtime::{Epoch, Fingerprint, Fold, FoldError, Folds, Outputs, Tick};

#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    keys: BTreeMap<String, u64>,
    count: u64,
    digest: u64,
}

/// The fold.
pub struct Tally {
    shard: ShardId,
    state: State,
    topic: String,
}

/// Makes tallies that write to `TOPIC`, and say how they began to `TOPIC.epochs`.
pub struct Tallies {
    /// Where their outputs go.
    pub topic: String,
}

impl Folds for Tallies {
    fn create(&self, shard: &ShardId) -> Result<Box<dyn Fold>, FoldError> {
        Ok(Box::new(Tally {
            shard: shard.clone(),
            state: State::default(),
            topic: self.topic.clone(),
        }))
    }
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint {
            engine: "tally".to_owned(),
            pipeline: self.topic.clone(),
        }
    }
}

/// What the tally says to one record: `None` for most of them.
fn take_in(state: &mut State, partition: i32, offset: i64, key: &str, value: &[u8]) -> Option<String> {
    let hash = state.keys.entry(key.to_owned()).or_default();
    *hash = stable_hash([hash.to_le_bytes().as_slice(), &offset.to_le_bytes(), value]);
    state.count += 1;
    state.digest = stable_hash([state.digest.to_le_bytes().as_slice(), &hash.to_le_bytes()]);
    hash.is_multiple_of(4).then(|| {
        format!(
            "{partition} offset={offset} key={key} count={} hash={hash:x}",
            state.count
        )
    })
}

/// What a tally over these records (key and value, offsets from 0) says, in order.
pub fn expected<'a>(partition: i32, records: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<String> {
    let mut state = State::default();
    let records = records.into_iter().zip(0i64..);
    records
        .filter_map(|((key, value), offset)| take_in(&mut state, partition, offset, key, value))
        .collect()
}

impl Fold for Tally {
    fn record(&mut self, record: RecordRef<'_>, out: &mut Outputs) {
        let key = String::from_utf8_lossy(record.key.unwrap_or_default()).into_owned();
        let value = record.value.unwrap_or_default();
        if let Some(said) = take_in(&mut self.state, self.shard.partition, record.offset, &key, value) {
            out.push(OutRecord::new(self.topic.as_str(), key, said));
        }
    }
    fn tick(&mut self, tick: Tick<'_>, out: &mut Outputs) {
        let said = format!("{} idle={}", self.shard.partition, tick.idle);
        out.push(OutRecord {
            partition: Some(0),
            ..OutRecord::new(format!("{}.marks", self.topic), "", said)
        });
    }
    fn epoch(&mut self, epoch: &Epoch, out: &mut Outputs) {
        let said = format!("{} {:?}", self.shard.partition, epoch.cause);
        out.push(OutRecord {
            partition: Some(0),
            ..OutRecord::new(format!("{}.epochs", self.topic), "", said)
        });
    }
    fn snapshot(&self) -> Result<Vec<u8>, FoldError> {
        serde_json::to_vec(&self.state).map_err(|error| FoldError(error.to_string()))
    }
    fn restore(&mut self, bytes: &[u8]) -> Result<(), FoldError> {
        self.state = serde_json::from_slice(bytes).map_err(|error| FoldError(error.to_string()))?;
        Ok(())
    }
    fn digest(&self) -> u64 {
        self.state.digest
    }
}
