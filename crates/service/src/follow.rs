//! Reads topics from some records back, and on as they grow: in no group, so that it holds up nobody.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context;
use suture_event::RecordRef;
use suture_log::{Assignment, Consumer, GroupOptions, Isolation, Log, Offset, Rebalance, TopicPartition};

/// Records of one poll.
const TOGETHER: usize = 500;
const POLL: Duration = Duration::from_millis(500);
/// Polls without news after which what there was counts as read.
const IDLE: u32 = 6;

/// How far back reading begins.
#[derive(Debug, Clone, Copy)]
pub enum Back {
    /// So many records of each partition.
    Records(i64),
}

/// Where each partition is read from.
struct Places(BTreeMap<TopicPartition, Offset>);

impl Rebalance for Places {
    fn assigned(&mut self, partitions: &[TopicPartition]) -> Vec<(TopicPartition, Option<Offset>)> {
        let from = |at: &TopicPartition| (at.clone(), self.0.get(at).copied());
        partitions.iter().map(from).collect()
    }

    fn revoked(&mut self, _: &[TopicPartition], _: bool) {}
}

/// Hands each record of some topics to `each`; with `once` up to where they end now, otherwise until `each` gives an error.
///
/// # Errors
/// Where a topic is not there, the log cannot be read, or `each` gives one.
pub fn follow(
    log: &dyn Log,
    topics: &[&Arc<str>],
    back: Back,
    once: bool,
    each: &mut dyn FnMut(&str, RecordRef<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let Back::Records(back) = back;
    let (mut from, mut ends) = (BTreeMap::new(), BTreeMap::new());
    for name in topics {
        let topic = log.topic(name)?.with_context(|| format!("topic {name} is not there"))?;
        for partition in 0..topic.partitions {
            let at = TopicPartition::new(name.to_string(), partition);
            let range = log.range(&at)?;
            let begin = range
                .end
                .saturating_sub(back)
                .clamp(range.start, range.end.max(range.start));
            if begin < range.end {
                ends.insert(at.clone(), range.end);
            }
            from.insert(at, begin);
        }
    }
    let options = GroupOptions {
        // nothing is ever committed for it
        group: "suture-follow".to_owned(),
        assignment: Assignment::Static {
            partitions: from.keys().cloned().collect(),
        },
        isolation: Isolation::ReadCommitted,
    };
    let consumer: Arc<dyn Consumer> = log.consumer(&options, Box::new(Places(from)))?;
    let mut idle = 0;
    let done = loop {
        // what ends a transaction takes up a place that no record has, so that an end may never be reached
        if once && (ends.is_empty() || idle >= IDLE) {
            break Ok(());
        }
        idle += 1;
        let mut failed = Ok(());
        let polled = consumer.poll(POLL, TOGETHER, &mut |topic, partition, record| {
            if once {
                let at = TopicPartition::new(topic, partition);
                let Some(end) = ends.get(&at).copied().filter(|end| record.offset < *end) else {
                    return;
                };
                if record.offset + 1 >= end {
                    ends.remove(&at);
                }
            }
            idle = 0;
            if failed.is_ok() {
                failed = each(topic, record);
            }
        });
        if let Err(error) = failed {
            break Err(error);
        }
        if let Err(error) = polled {
            break Err(error.into());
        }
    };
    consumer.close();
    done
}

#[cfg(test)]
mod tests {
    // what goes wrong here is a failed test
    #![allow(clippy::unwrap_used)]

    use suture_log::{OutRecord, TopicSpec, memory::MemoryLog};

    use super::*;

    #[test]
    fn the_last_records_of_each_partition_are_read_once_and_no_group_is_left_behind() {
        let log = MemoryLog::default();
        log.create_topics(&[TopicSpec::new("a", 2), TopicSpec::new("b", 1)])
            .unwrap();
        let mut appender = log.appender().unwrap();
        let record = |topic: &str, partition: i32, value: &str| OutRecord {
            partition: Some(partition),
            ..OutRecord::new(topic, "", value)
        };
        let records: Vec<OutRecord> = (0..5)
            .flat_map(|n| {
                [
                    record("a", 0, &format!("a0-{n}")),
                    record("a", 1, &format!("a1-{n}")),
                    record("b", 0, "b"),
                ]
            })
            .collect();
        appender.append(&records).unwrap();
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut seen = Vec::new();
        let mut each = |_: &str, record: RecordRef<'_>| {
            seen.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
            Ok(())
        };
        follow(&log, &[&a, &b], Back::Records(2), true, &mut each).unwrap();
        seen.sort();
        assert_eq!(seen, ["a0-3", "a0-4", "a1-3", "a1-4", "b", "b"]);
        let missing: Arc<str> = "c".into();
        let error = follow(&log, &[&missing], Back::Records(2), true, &mut |_, _| Ok(())).unwrap_err();
        assert_eq!(error.to_string(), "topic c is not there");
        // whoever has seen enough says so
        let mut left = 1;
        let enough = follow(&log, &[&a], Back::Records(5), false, &mut |_, _| {
            left -= 1;
            if left < 0 { anyhow::bail!("enough") } else { Ok(()) }
        });
        assert_eq!(enough.unwrap_err().to_string(), "enough");
    }
}
