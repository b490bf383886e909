use std::sync::mpsc;

use super::*;
use crate::{Assignment, OutRecord, RecordRef};

const NOW: std::time::Duration = std::time::Duration::ZERO;

/// Starts every partition at 0 and reports what comes and goes.
struct Watch(mpsc::Sender<(char, Vec<i32>)>);

impl Rebalance for Watch {
    fn assigned(&mut self, partitions: &[TopicPartition]) -> Vec<(TopicPartition, Option<Offset>)> {
        self.0
            .send(('+', partitions.iter().map(|at| at.partition).collect()))
            .ok();
        partitions.iter().map(|at| (at.clone(), Some(0))).collect()
    }
    fn revoked(&mut self, partitions: &[TopicPartition], lost: bool) {
        self.0
            .send((
                if lost { '!' } else { '-' },
                partitions.iter().map(|at| at.partition).collect(),
            ))
            .ok();
    }
}

type Events = mpsc::Receiver<(char, Vec<i32>)>;

fn log(topics: &[TopicSpec]) -> MemoryLog {
    let log = MemoryLog::with_clock(MemoryOptions::default(), || Timestamp::from_millis(7));
    log.create_topics(topics).unwrap();
    log
}

fn record(topic: &str, key: &str, value: &str) -> OutRecord {
    OutRecord {
        partition: Some(0),
        ..OutRecord::new(topic, key, value)
    }
}

fn values(log: &MemoryLog, topic: &str, isolation: Isolation) -> Vec<String> {
    let at = TopicPartition::new(topic, 0);
    let mut reader = log.reader(&at, log.range(&at).unwrap().start, isolation).unwrap();
    let mut seen = Vec::new();
    reader
        .read(NOW, 1000, &mut |record: RecordRef<'_>| {
            seen.push(String::from_utf8(record.value.unwrap_or_default().to_vec()).unwrap());
        })
        .unwrap();
    seen
}

fn member(log: &MemoryLog, group: &str) -> (Arc<dyn Consumer>, Events) {
    let (send, receive) = mpsc::channel();
    let options = GroupOptions {
        group: group.to_owned(),
        assignment: Assignment::Dynamic {
            topics: vec!["in".to_owned()],
        },
        isolation: Isolation::ReadCommitted,
    };
    (log.consumer(&options, Box::new(Watch(send))).unwrap(), receive)
}

fn offsets(offset: Offset, metadata: &str) -> Vec<(TopicPartition, Committed)> {
    vec![(
        TopicPartition::new("in", 0),
        Committed {
            offset,
            metadata: metadata.to_owned(),
        },
    )]
}

#[test]
fn open_and_aborted_records_are_hidden_and_markers_take_up_offsets() {
    let log = log(&[TopicSpec::new("out", 1)]);
    let (consumer, _events) = member(&log, "g");
    let group = consumer.group_metadata().unwrap();
    let mut one = log.producer("one").unwrap();
    let mut two = log.producer("two").unwrap();
    one.begin().unwrap();
    one.send(&record("out", "k", "open")).unwrap();
    two.begin().unwrap();
    two.send(&record("out", "k", "committed")).unwrap();
    two.commit(&[], &group).unwrap();
    assert_eq!(
        values(&log, "out", Isolation::ReadCommitted),
        [""; 0],
        "what follows an open transaction waits"
    );
    assert_eq!(values(&log, "out", Isolation::ReadUncommitted), ["open", "committed"]);
    one.abort().unwrap();
    assert_eq!(values(&log, "out", Isolation::ReadCommitted), ["committed"]);
    assert_eq!(
        log.range(&TopicPartition::new("out", 0)).unwrap(),
        Range { start: 0, end: 4 }
    );
}

#[test]
fn a_zombie_is_fenced_and_its_transaction_aborted() {
    let log = log(&[TopicSpec::new("out", 1), TopicSpec::new("in", 1)]);
    let (consumer, _events) = member(&log, "g");
    let group = consumer.group_metadata().unwrap();
    let mut zombie = log.producer("id").unwrap();
    zombie.begin().unwrap();
    zombie.send(&record("out", "k", "zombie's")).unwrap();
    let mut heir = log.producer("id").unwrap();
    heir.begin().unwrap();
    heir.send(&record("out", "k", "heir's")).unwrap();
    heir.commit(&offsets(5, "m"), &group).unwrap();
    let fenced = Error::Fenced { id: "id".to_owned() };
    assert_eq!(zombie.send(&record("out", "k", "late")), Err(fenced.clone()));
    assert_eq!(zombie.commit(&offsets(9, "z"), &group), Err(fenced.clone()));
    assert_eq!(zombie.abort(), Err(fenced));
    assert_eq!(values(&log, "out", Isolation::ReadCommitted), ["heir's"]);
    let committed = log.committed("g", &[TopicPartition::new("in", 0)]).unwrap();
    assert_eq!(
        committed,
        [Some(Committed {
            offset: 5,
            metadata: "m".to_owned()
        })]
    );
}

#[test]
fn offsets_come_with_the_transaction_or_not_at_all() {
    let log = log(&[TopicSpec::new("out", 1), TopicSpec::new("in", 1)]);
    let (consumer, _events) = member(&log, "g");
    consumer.poll(NOW, 1, &mut |_, _, _| {}).unwrap();
    let group = consumer.group_metadata().unwrap();
    let at = [TopicPartition::new("in", 0)];
    let dying = log.client("dying", Faults::default());
    let mut producer = dying.producer("id").unwrap();
    producer.begin().unwrap();
    producer.send(&record("out", "k", "v")).unwrap();
    let standing = group.0.downcast_ref::<group::Standing>().unwrap();
    log.shared
        .lock()
        .send_offsets("id", 1, &offsets(3, ""), standing)
        .unwrap();
    assert!(
        matches!(log.committed("g", &at), Err(Error::Busy { .. })),
        "an open transaction is about to set it"
    );
    assert_eq!(log.committed_before("g", &at).unwrap(), [None]);
    drop(producer);
    let mut producer = log.producer("id").unwrap();
    assert_eq!(log.committed("g", &at).unwrap(), [None]);
    producer.begin().unwrap();
    producer.commit(&offsets(4, ""), &group).unwrap();
    assert_eq!(log.committed("g", &at).unwrap()[0].as_ref().unwrap().offset, 4);
}

#[test]
fn a_member_that_was_thrown_out_cannot_commit() {
    let log = log(&[TopicSpec::new("in", 1)]);
    let frozen = log.client("frozen", Faults::default());
    let (consumer, events) = member(&frozen, "g");
    consumer.poll(NOW, 1, &mut |_, _, _| {}).unwrap();
    let group = consumer.group_metadata().unwrap();
    log.expel("frozen");
    let mut producer = frozen.producer("id").unwrap();
    producer.begin().unwrap();
    assert!(matches!(
        producer.commit(&offsets(1, ""), &group),
        Err(Error::Aborted { .. })
    ));
    producer.abort().unwrap();
    consumer.poll(NOW, 1, &mut |_, _, _| {}).unwrap();
    let events: Vec<char> = events.try_iter().map(|(kind, _)| kind).collect();
    assert_eq!(events, ['+', '!', '+'], "it lost what it had and joined anew");
}

#[test]
fn partitions_change_hands_only_once_they_are_let_go_of() {
    let log = log(&[TopicSpec::new("in", 4)]);
    let (one, events_one) = member(&log, "g");
    one.poll(NOW, 1, &mut |_, _, _| {}).unwrap();
    assert_eq!(events_one.try_recv().unwrap(), ('+', vec![0, 1, 2, 3]));
    let (two, events_two) = member(&log, "g");
    two.poll(NOW, 1, &mut |_, _, _| {}).unwrap();
    assert!(events_two.try_recv().is_err(), "the first has not let go yet");
    one.poll(NOW, 1, &mut |_, _, _| {}).unwrap();
    two.poll(NOW, 1, &mut |_, _, _| {}).unwrap();
    assert_eq!(events_one.try_recv().unwrap(), ('-', vec![2, 3]));
    assert_eq!(events_two.try_recv().unwrap(), ('+', vec![2, 3]));
    two.close();
    one.poll(NOW, 1, &mut |_, _, _| {}).unwrap();
    assert_eq!(events_one.try_recv().unwrap(), ('+', vec![2, 3]));
}

#[test]
fn several_groups_read_the_same_records_and_pausing_holds_one_partition() {
    let log = log(&[TopicSpec::new("in", 2)]);
    let mut appender = log.appender().unwrap();
    let to = |partition, value: &str| OutRecord {
        partition: Some(partition),
        ..OutRecord::new("in", "k", value)
    };
    appender.append(&[to(0, "a"), to(1, "b"), to(0, "c")]).unwrap();
    let read = |consumer: &Arc<dyn Consumer>| {
        let mut seen = Vec::new();
        consumer
            .poll(NOW, 10, &mut |_, partition, record| {
                seen.push((partition, record.offset))
            })
            .unwrap();
        seen
    };
    let (one, _e) = member(&log, "one");
    let (two, _e) = member(&log, "two");
    assert_eq!(read(&one), [(0, 0), (0, 1), (1, 0)]);
    assert_eq!(read(&two), [(0, 0), (0, 1), (1, 0)]);
    let at = TopicPartition::new("in", 0);
    one.pause(std::slice::from_ref(&at)).unwrap();
    appender.append(&[to(0, "d"), to(1, "e")]).unwrap();
    assert_eq!(read(&one), [(1, 1)]);
    one.seek(&at, 1).unwrap();
    assert_eq!(read(&one), [(0, 1), (0, 2)]);
}

#[test]
fn compaction_keeps_the_newest_of_each_key_at_its_offset() {
    let log = log(&[TopicSpec::new("state", 1).compacted()]);
    let mut appender = log.appender().unwrap();
    appender
        .append(&[
            record("state", "a", "1"),
            record("state", "b", "2"),
            record("state", "a", "3"),
        ])
        .unwrap();
    appender
        .append(&[OutRecord {
            value: None,
            ..record("state", "b", "")
        }])
        .unwrap();
    log.compact("state").unwrap();
    assert_eq!(values(&log, "state", Isolation::ReadCommitted), ["3"]);
    assert_eq!(
        log.range(&TopicPartition::new("state", 0)).unwrap(),
        Range { start: 0, end: 4 }
    );
    let keyless = OutRecord {
        key: None,
        ..record("state", "", "x")
    };
    assert!(matches!(appender.append(&[keyless]), Err(Error::Rejected { .. })));
}

#[test]
fn what_is_beyond_the_bound_goes_and_who_stands_there_is_told() {
    let options = MemoryOptions {
        partition_bytes: 1000,
        record_bytes: 500,
        ..MemoryOptions::default()
    };
    let log = MemoryLog::new(options);
    log.create_topics(&[TopicSpec::new("in", 1)]).unwrap();
    let mut appender = log.appender().unwrap();
    let (consumer, _events) = member(&log, "g");
    consumer.poll(NOW, 1, &mut |_, _, _| {}).unwrap();
    for n in 0..100 {
        appender.append(&[record("in", "k", &n.to_string())]).unwrap();
    }
    let range = log.range(&TopicPartition::new("in", 0)).unwrap();
    assert!(range.end == 100 && (80..99).contains(&range.start), "{range:?}");
    assert!(matches!(
        consumer.poll(NOW, 1, &mut |_, _, _| {}),
        Err(Error::OutOfRange { .. })
    ));
    let large = record("in", "k", &"x".repeat(600));
    assert!(matches!(appender.append(&[large]), Err(Error::Rejected { .. })));
}

#[test]
fn faults_follow_from_their_seed_and_a_crash_is_for_good() {
    let trace = |seed| {
        let log = log(&[TopicSpec::new("out", 1)]);
        let client = log.client(
            "c",
            Faults {
                seed,
                crash: 0.01,
                busy: 0.2,
                ..Faults::default()
            },
        );
        let mut trace = String::new();
        while trace.len() < 400 {
            trace.push(match client.range(&TopicPartition::new("out", 0)) {
                Ok(_) => '.',
                Err(Error::Busy { .. }) => 'b',
                Err(_) => 'x',
            });
        }
        (trace, client.crashed())
    };
    let (first, crashed) = trace(1);
    assert!(
        crashed && first.ends_with("xxx") && first.contains('b') && first.contains('.'),
        "{first}"
    );
    assert_eq!(trace(1).0, first);
    assert_ne!(trace(2).0, first);
}
