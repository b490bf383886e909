//! A fold for the tests, what it must have put out in the end, and the log it runs on.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use suture_event::{ShardId, Span, Timestamp, stable_hash};
use suture_log::{
    Isolation, Log, OutRecord, RecordRef, TopicPartition, TopicSpec,
    memory::{MemoryLog, MemoryOptions},
};

use crate::{Clock, Epoch, Fingerprint, Fold, FoldError, Folds, Options, Outputs, Tick, simulation::HandClock};

#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    keys: BTreeMap<String, (u64, u64)>,
    seq: u64,
    digest: u64,
    epochs: u32,
    /// Up to when time went on since the last record.
    silent: Option<Timestamp>,
}

/// Counts and hashes what it sees of each key, and now and then says so. Deterministic, but for `salt`.
pub(crate) struct SampleFold {
    shard: ShardId,
    state: State,
    salt: u64,
    takes_over: bool,
    minds_silence: bool,
}

/// Makes [`SampleFold`]s.
pub(crate) struct SampleFolds {
    /// Their pipeline's hash.
    pub(crate) pipeline: &'static str,
    /// What makes two of them differ: a fold that is not deterministic.
    pub(crate) salt: AtomicU64,
    /// Whether they take over a state.
    pub(crate) takes_over: bool,
    /// Whether what they say depends on how long nothing came.
    pub(crate) minds_silence: bool,
}

impl Default for SampleFolds {
    fn default() -> Self {
        Self {
            pipeline: "p1",
            salt: AtomicU64::new(0),
            takes_over: true,
            minds_silence: false,
        }
    }
}

impl Folds for SampleFolds {
    fn create(&self, shard: &ShardId) -> Result<Box<dyn Fold>, FoldError> {
        let salt = self.salt.load(Ordering::SeqCst);
        Ok(Box::new(SampleFold {
            shard: shard.clone(),
            state: State::default(),
            salt,
            takes_over: self.takes_over,
            minds_silence: self.minds_silence,
        }))
    }
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint {
            engine: "sample".to_owned(),
            pipeline: self.pipeline.to_owned(),
        }
    }
}

impl Fold for SampleFold {
    fn record(&mut self, record: RecordRef<'_>, out: &mut Outputs) {
        let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
        let value = record.value.unwrap();
        if value == b"poison" {
            out.push_dead_letter(OutRecord::new("dead", key, format!("{} {}", self.shard, record.offset)));
            return;
        }
        let State {
            keys,
            seq,
            digest,
            silent,
            ..
        } = &mut self.state;
        if let Some(silent) = silent.take() {
            *digest = stable_hash([digest.to_le_bytes().as_slice(), &silent.as_millis().to_le_bytes()]);
        }
        let (count, hash) = keys.entry(key.clone()).or_default();
        *count += 1;
        let parts = [
            &hash.to_le_bytes(),
            &record.offset.to_le_bytes(),
            &self.salt.to_le_bytes(),
            value,
        ];
        *hash = stable_hash(parts);
        *digest = stable_hash([digest.to_le_bytes().as_slice(), &hash.to_le_bytes()]);
        if *hash % 3 == 0 {
            let said = format!(
                "{} offset={} {key} count={count} hash={hash:x} seq={seq}",
                self.shard, record.offset
            );
            out.push(OutRecord::new("out", key, said));
            *seq += 1;
        }
    }
    fn silent_to(&self, tick: Tick<'_>) -> Option<Timestamp> {
        (self.minds_silence && tick.idle).then_some(tick.wall)
    }
    fn pass_silence(&mut self, to: Timestamp, _: &mut Outputs) {
        self.state.silent = self.state.silent.max(Some(to));
    }
    fn tick(&mut self, tick: Tick<'_>, out: &mut Outputs) {
        let said = format!(
            "{} idle={} wall={} roster={}",
            self.shard,
            tick.idle,
            tick.wall,
            tick.roster.len()
        );
        out.push(OutRecord {
            partition: Some(0),
            ..OutRecord::new("marks", "", said)
        });
    }
    fn epoch(&mut self, epoch: &Epoch, out: &mut Outputs) {
        self.state.epochs += 1;
        let said = format!(
            "{} epoch={} at={} {:?}",
            epoch.shard, epoch.number, epoch.offset, epoch.cause
        );
        out.push(OutRecord {
            partition: Some(0),
            ..OutRecord::new("epochs", "", said)
        });
    }
    fn snapshot(&self) -> Result<Vec<u8>, FoldError> {
        serde_json::to_vec(&self.state).map_err(|error| FoldError(error.to_string()))
    }
    fn restore(&mut self, bytes: &[u8]) -> Result<(), FoldError> {
        if !self.takes_over {
            return Err(FoldError("another shape".to_owned()));
        }
        self.state = serde_json::from_slice(bytes).map_err(|error| FoldError(error.to_string()))?;
        Ok(())
    }
    fn digest(&self) -> u64 {
        match self.state.silent {
            Some(silent) => stable_hash([
                self.state.digest.to_le_bytes().as_slice(),
                &silent.as_millis().to_le_bytes(),
            ]),
            None => self.state.digest,
        }
    }
}

/// A log with the topics that the sample fold reads and writes.
pub(crate) fn sample_log(partitions: i32, clock: &Arc<HandClock>) -> MemoryLog {
    let clock = Arc::clone(clock);
    let options = MemoryOptions {
        compact_bytes: 4 << 10,
        ..MemoryOptions::default()
    };
    let log = MemoryLog::with_clock(options, move || clock.wall());
    let mut topics = vec![
        TopicSpec::new("in", partitions),
        TopicSpec::new("out", 2),
        TopicSpec::new("state", 2).compacted(),
    ];
    topics.extend(["marks", "epochs", "dead"].map(|name| TopicSpec::new(name, 1)));
    log.create_topics(&topics).unwrap();
    log
}

/// Options that make everything happen often.
pub(crate) fn sample_options() -> Options {
    Options {
        group: "g".to_owned(),
        topics: vec!["in".to_owned()],
        state_topic: "state".to_owned(),
        ticks: true,
        snapshot_interval: Span::from_secs(3),
        snapshot_piece: 100,
        snapshot_stride: 250,
        batch_records: 16,
        max_outputs: 20,
        ..Options::default()
    }
}

/// The values of a topic that are visible in read_committed now, one list for each partition.
pub(crate) fn read(log: &MemoryLog, topic: &str) -> Vec<Vec<String>> {
    let partitions = log.topic(topic).unwrap().unwrap().partitions;
    let values = |partition| {
        let at = TopicPartition::new(topic, partition);
        let mut values = Vec::new();
        let mut reader = log
            .reader(&at, log.range(&at).unwrap().start, Isolation::ReadCommitted)
            .unwrap();
        loop {
            let before = values.len();
            let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
            reader
                .read(Duration::ZERO, 1000, &mut |record| {
                    values.extend(record.value.map(text))
                })
                .unwrap();
            // what a crash left open is behind this, until it is fenced
            if values.len() == before {
                return values;
            }
        }
    };
    (0..partitions).map(values).collect()
}

/// What a topic holds, by its partition and by the shard that said it: the order between shards is nobody's promise.
pub(crate) fn by_shard(partitions: &[Vec<String>]) -> BTreeMap<(usize, String), Vec<String>> {
    let mut sorted: BTreeMap<(usize, String), Vec<String>> = BTreeMap::new();
    for (partition, values) in partitions.iter().enumerate() {
        for value in values {
            let shard = value.split(' ').next().unwrap().to_owned();
            sorted.entry((partition, shard)).or_default().push(value.clone());
        }
    }
    sorted
}

/// What an undisturbed fold over the same partitions puts out, without any of the runtime: `out` and `dead`.
pub(crate) fn undisturbed(log: &MemoryLog) -> [BTreeMap<(usize, String), Vec<String>>; 2] {
    let folds = SampleFolds::default();
    let mut said = [vec![Vec::new(), Vec::new()], vec![Vec::new()]];
    for partition in 0..log.topic("in").unwrap().unwrap().partitions {
        let at = TopicPartition::new("in", partition);
        let mut fold = folds.create(&at.clone().into()).unwrap();
        let mut out = Outputs::default();
        let mut reader = log.reader(&at, 0, Isolation::ReadCommitted).unwrap();
        while !reader
            .read(Duration::ZERO, 7, &mut |record| fold.record(record, &mut out))
            .unwrap()
        {}
        for record in out.records() {
            let topic = usize::from(&*record.topic == "dead");
            let count = i32::try_from(said[topic].len()).unwrap();
            let to = suture_log::partition_of(record.key.as_ref().unwrap(), count);
            let value = String::from_utf8(record.value.clone().unwrap()).unwrap();
            said[topic][usize::try_from(to).unwrap()].push(value);
        }
    }
    said.map(|partitions| by_shard(&partitions))
}
