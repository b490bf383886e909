//! What can be seen in the log in memory.

use std::time::Duration;

use suture_log::{Isolation, Log, TopicPartition, memory::MemoryLog};

use crate::undisturbed;

/// A key and a value.
pub type Said = (Option<Vec<u8>>, Vec<u8>);

/// What is visible in a partition, in order.
#[must_use]
pub fn read(log: &MemoryLog, at: &TopicPartition) -> Vec<Said> {
    let mut reader = log
        .reader(at, 0, Isolation::ReadCommitted)
        .expect("a partition that is there");
    let mut said = Vec::new();
    loop {
        let before = said.len();
        reader
            .read(Duration::ZERO, 1_000, &mut |record| {
                let value = record.value.unwrap_or_default().to_vec();
                said.push((record.key.map(<[u8]>::to_vec), value));
            })
            .expect("what is there can be read");
        if said.len() == before {
            return said;
        }
    }
}

/// What is visible in a topic, as text, in order of the keys.
#[must_use]
pub fn read_topic(log: &MemoryLog, topic: &str) -> Vec<undisturbed::Said> {
    let partitions = log
        .topic(topic)
        .expect("a log that answers")
        .expect("a topic that is there")
        .partitions;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    let all = (0..partitions).flat_map(|partition| read(log, &TopicPartition::new(topic, partition)));
    let mut said: Vec<undisturbed::Said> = all.map(|(key, value)| (key.map(text), text(value))).collect();
    undisturbed::sort(&mut said);
    said
}
