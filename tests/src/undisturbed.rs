//! What the program's folds say to given input without brokers, processes, ticks, commits and restarts: what every run
//! must come to.

use suture_codec::records;
use suture_engine::Source;
use suture_event::{Fact, ShardId, Timestamp};
use suture_log::{Headers, OutRecord, RecordRef};
use suture_runtime::{Folds, Outputs, Tick};
use suture_service::{
    load::Loaded,
    planes::{DecideFolds, ObserveFolds, Topics},
};

/// What was said.
#[derive(Debug)]
pub struct Undisturbed {
    /// Every fact, without progress marks, shard by shard.
    pub facts: Vec<Fact>,
    said: Outputs,
    decided: Outputs,
}

/// The folds that a pipeline is made of, for so many facts partitions.
#[must_use]
pub fn folds(loaded: &Loaded, fact_partitions: i32) -> (ObserveFolds, DecideFolds) {
    let topics = Topics::of(&loaded.pipeline);
    let sources = Source::of_observe(&loaded.pipeline, loaded.expressions.as_ref()).expect("sources that can be");
    let observe = ObserveFolds {
        pipeline: loaded.pipeline.clone(),
        sources,
        topics: topics.clone(),
        model: loaded.model.clone(),
        fact_partitions,
        onlooker: None,
        board: std::sync::Arc::default(),
    };
    let decide = DecideFolds {
        pipeline: loaded.pipeline.clone(),
        edges: loaded.edges.clone(),
        topics,
        key: loaded.key.clone(),
        board: std::sync::Arc::default(),
    };
    (observe, decide)
}

/// A key and a value.
pub type Said = (Option<String>, String);

/// Puts what partitions hold into the order of the keys, and leaves the order of each key's records.
pub fn sort(said: &mut [Said]) {
    said.sort_by(|a, b| a.0.cmp(&b.0));
}

impl Undisturbed {
    /// What comes of these records. `inputs` names every partition that observe reads, also those that are empty.
    #[must_use]
    pub fn of(loaded: &Loaded, mut inputs: Vec<(ShardId, Vec<&[u8]>)>) -> Self {
        // everything is in one scope, which is in one partition
        let (observe, decide) = folds(loaded, 1);
        let facts_topic = observe.topics.facts.clone();
        inputs.sort_by(|a, b| a.0.cmp(&b.0));
        let roster: Vec<ShardId> = inputs.iter().map(|(shard, _)| shard.clone()).collect();
        let (mut said, mut marks) = (Outputs::default(), Outputs::default());
        for (shard, records) in &inputs {
            let mut fold = observe.create(shard).expect("a shard of the pipeline");
            for (offset, value) in (0..).zip(records) {
                fold.record(plain(offset, value), &mut said);
            }
            let tick = Tick {
                wall: Timestamp::from_millis(0),
                idle: false,
                roster: &roster,
            };
            fold.tick(tick, &mut marks);
        }
        let shard = ShardId {
            topic: facts_topic.clone(),
            partition: 0,
        };
        let mut decide = decide.create(&shard).expect("the shard of decide");
        let mut decided = Outputs::default();
        let is_fact = |record: &&OutRecord| record.topic == facts_topic;
        let facts = said.records().iter().filter(is_fact);
        for (offset, fact) in (0..).zip(facts.clone().chain(marks.records())) {
            let record = RecordRef {
                headers: fact.headers.as_headers(),
                ..plain(offset, value(fact))
            };
            decide.record(record, &mut decided);
        }
        let facts = facts.map(value);
        Self {
            facts: facts.map(|value| records::decode(value).expect("a fact")).collect(),
            said,
            decided,
        }
    }

    /// What goes to a topic: keys and values, as text, in order of the keys and of each key's records in their order, as it is
    /// in its partition.
    #[must_use]
    pub fn outputs(&self, topic: &str) -> Vec<Said> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let all = self.said.records().iter().chain(self.decided.records());
        let of_topic = all.filter(|record| *record.topic == *topic);
        let mut said: Vec<Said> = of_topic
            .map(|record| (record.key.as_deref().map(text), text(value(record))))
            .collect();
        sort(&mut said);
        said
    }
}

fn value(record: &OutRecord) -> &[u8] {
    record.value.as_deref().unwrap_or_default()
}

fn plain(offset: i64, value: &[u8]) -> RecordRef<'_> {
    RecordRef {
        offset,
        timestamp: None,
        key: None,
        value: Some(value),
        headers: Headers::default(),
    }
}
