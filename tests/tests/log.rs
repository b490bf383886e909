//! The log on Kafka keeps what the log promises: the same cases that the one in memory is held to, on a real broker.

// the helpers of tests: what goes wrong in them is a failed test
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use rdkafka::{consumer::Consumer as _, producer::Producer as _};
use suture_event::{Span, Timestamp};
use suture_kafka::{KafkaLog, Options, Protocol};
use suture_log::{
    Assignment, Cleanup, Committed, Consumer, Created, Error, GroupOptions, HeadersBuf, Isolation, Log, Offset,
    OutRecord, Range, Rebalance, Recovery, TopicPartition, TopicSpec,
};
use suture_tests::{broker, kafka, wait};

const SOON: Duration = Duration::from_secs(30);
const TURN: Duration = Duration::from_millis(50);

fn connect(address: &str, more: &[(&str, &str)], protocol: Protocol) -> KafkaLog {
    let mut client = BTreeMap::from([("bootstrap.servers".to_owned(), address.to_owned())]);
    client.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    KafkaLog::new(Options { client, protocol }).unwrap()
}

struct Watch {
    start: Option<Offset>,
    events: mpsc::Sender<(char, Vec<i32>)>,
}

impl Rebalance for Watch {
    fn assigned(&mut self, partitions: &[TopicPartition]) -> Vec<(TopicPartition, Option<Offset>)> {
        self.events
            .send(('+', partitions.iter().map(|at| at.partition).collect()))
            .ok();
        partitions.iter().map(|at| (at.clone(), self.start)).collect()
    }
    fn revoked(&mut self, partitions: &[TopicPartition], lost: bool) {
        self.events
            .send((
                if lost { '!' } else { '-' },
                partitions.iter().map(|at| at.partition).collect(),
            ))
            .ok();
    }
}

type Events = mpsc::Receiver<(char, Vec<i32>)>;

fn member(log: &KafkaLog, assignment: Assignment, start: Option<Offset>) -> (Arc<dyn Consumer>, Events) {
    let (events, seen) = mpsc::channel();
    let options = GroupOptions {
        group: format!("{}.group", topic_of(&assignment)),
        assignment,
        isolation: Isolation::ReadCommitted,
    };
    (log.consumer(&options, Box::new(Watch { start, events })).unwrap(), seen)
}

fn topic_of(assignment: &Assignment) -> String {
    match assignment {
        Assignment::Dynamic { topics } => topics[0].clone(),
        Assignment::Static { partitions } => partitions[0].topic.to_string(),
    }
}

fn alone(topic: &str) -> Assignment {
    Assignment::Static {
        partitions: vec![TopicPartition::new(topic, 0)],
    }
}

fn together(topic: &str) -> Assignment {
    Assignment::Dynamic {
        topics: vec![topic.to_owned()],
    }
}

/// Polls until so many records have come; gives partition and offset of each.
fn take(consumer: &Arc<dyn Consumer>, count: usize) -> Vec<(i32, Offset)> {
    let mut seen = Vec::new();
    wait::until("records", SOON, || {
        consumer
            .poll(TURN, 100, &mut |_, partition, record| {
                seen.push((partition, record.offset))
            })
            .unwrap();
        (seen.len() >= count).then_some(())
    });
    seen
}

fn to(topic: &str, partition: i32, value: &str) -> OutRecord {
    OutRecord {
        partition: Some(partition),
        ..OutRecord::new(topic, "key", value)
    }
}

fn values(log: &KafkaLog, topic: &str, isolation: Isolation) -> Vec<String> {
    let mut reader = log.reader(&TopicPartition::new(topic, 0), 0, isolation).unwrap();
    let mut values = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    while !reader
        .read(TURN, 100, &mut |record| values.push(text(record.value.unwrap())))
        .unwrap()
    {
        if isolation == Isolation::ReadCommitted && !values.is_empty() {
            break;
        }
    }
    values
}

fn at(offset: Offset, metadata: &str, topic: &str) -> Vec<(TopicPartition, Committed)> {
    vec![(
        TopicPartition::new(topic, 0),
        Committed {
            offset,
            metadata: metadata.to_owned(),
        },
    )]
}

#[test]
fn a_transaction_is_all_or_nothing_and_a_zombie_is_fenced() {
    let broker = broker::shared();
    let log = connect(&broker.address(), &[], Protocol::Cooperative);
    log.create_topics(&[TopicSpec::new("tx.in", 1), TopicSpec::new("tx.out", 1)])
        .unwrap();
    let (consumer, _events) = member(&log, alone("tx.in"), Some(0));
    consumer.poll(TURN, 1, &mut |_, _, _| {}).unwrap();
    let group = consumer.group_metadata().unwrap();
    let asked = [TopicPartition::new("tx.in", 0)];
    let mut zombie = log.producer("tx.0").unwrap();
    zombie.begin().unwrap();
    zombie.send(&to("tx.out", 0, "zombie's")).unwrap();

    let mut heir = log.producer("tx.0").unwrap();
    assert_eq!(log.committed("tx.in.group", &asked).unwrap(), [None]);
    heir.begin().unwrap();
    heir.send(&to("tx.out", 0, "heir's")).unwrap();
    heir.commit(&at(5, "a mark", "tx.in"), &group).unwrap();
    zombie.send(&to("tx.out", 0, "late")).ok();
    let refused = zombie.commit(&at(9, "zombie's", "tx.in"), &group).unwrap_err();
    assert!(matches!(refused, Error::Fenced { .. }), "{refused}");

    for _ in 0..20 {
        heir.begin().unwrap();
        heir.send(&to("tx.out", 0, "aborted")).unwrap();
        heir.abort().unwrap();
    }
    heir.begin().unwrap();
    heir.send(&to("tx.out", 0, "after")).unwrap();
    heir.commit(&at(6, "another", "tx.in"), &group).unwrap();
    let committed = log.committed("tx.in.group", &asked).unwrap();
    assert_eq!(
        committed,
        [Some(Committed {
            offset: 6,
            metadata: "another".to_owned()
        })]
    );
    let seen = kafka::read_until(&broker.address(), "tx.out", SOON, |records| records.len() == 2);
    assert_eq!(
        seen.iter()
            .map(|r| String::from_utf8_lossy(&r.value))
            .collect::<Vec<_>>(),
        ["heir's", "after"]
    );
}

#[test]
fn offsets_that_a_transaction_holds_back_are_told_from_a_broker_that_is_away_and_can_be_freed() {
    let broker = broker::shared();
    let log = connect(&broker.address(), &[], Protocol::Cooperative);
    log.create_topics(&[
        TopicSpec::new("held.in", 1),
        TopicSpec::new("held.out", 2),
        TopicSpec {
            cleanup: Cleanup::Compact,
            ..TopicSpec::new("held.state", 1)
        },
    ])
    .unwrap();
    let (consumer, _events) = member(&log, alone("held.in"), Some(0));
    consumer.poll(TURN, 1, &mut |_, _, _| {}).unwrap();
    let group = consumer.group_metadata().unwrap();
    let asked = [TopicPartition::new("held.in", 0)];
    let mut producer = log.producer("held.0").unwrap();
    producer.begin().unwrap();
    producer.send(&to("held.out", 0, "first")).unwrap();
    producer.commit(&at(3, "a mark", "held.in"), &group).unwrap();

    let places = [("held.out", 0), ("held.out", 1), ("held.state", 0)].map(|(topic, n)| TopicPartition::new(topic, n));
    producer.end_hanging("held.in.group", &asked, &places).unwrap();
    let committed = log.committed("held.in.group", &asked).unwrap();
    assert_eq!(committed[0].as_ref().map(|found| found.offset), Some(3), "as it was");

    // one that is left open: another client's, which goes on when it likes
    let open: rdkafka::producer::BaseProducer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", broker.address())
        .set("transactional.id", "held.other")
        .create()
        .unwrap();
    let nobody: rdkafka::consumer::BaseConsumer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", broker.address())
        .set("group.id", "held.in.group")
        .create()
        .unwrap();
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition_offset("held.in", 0, rdkafka::Offset::Offset(9))
        .unwrap();
    open.init_transactions(SOON).unwrap();
    open.begin_transaction().unwrap();
    open.send_offsets_to_transaction(&list, &nobody.group_metadata().unwrap(), SOON)
        .unwrap();
    let held = log.committed("held.in.group", &asked).unwrap_err();
    assert!(matches!(held, Error::Unstable { .. }), "{held}");
    assert_eq!(held.recovery(), Recovery::Retry);
    let before = log.committed_before("held.in.group", &asked).unwrap();
    assert_eq!(before, committed, "what it was before is told without waiting");
    open.abort_transaction(SOON).unwrap();
    assert!(log.committed("held.in.group", &asked).is_ok());

    producer.begin().unwrap();
    producer.send(&to("held.out", 0, "second")).unwrap();
    producer.commit(&at(4, "another", "held.in"), &group).unwrap();
    assert_eq!(values(&log, "held.out", Isolation::ReadCommitted), ["first", "second"]);
    assert!(values(&log, "held.state", Isolation::ReadCommitted).is_empty());
}

#[test]
fn commits_take_milliseconds() {
    let broker = broker::shared();
    let log = connect(&broker.address(), &[], Protocol::Cooperative);
    log.create_topics(&[TopicSpec::new("speed.in", 1), TopicSpec::new("speed.out", 1)])
        .unwrap();
    let (consumer, _events) = member(&log, alone("speed.in"), Some(0));
    consumer.poll(TURN, 1, &mut |_, _, _| {}).unwrap();
    let mut producer = log.producer("speed.0").unwrap();
    let mut times: Vec<Duration> = (1..100)
        .map(|n| {
            // right after a commit the broker is still writing its markers and lets the next transaction wait
            wait::pause(Duration::from_millis(20));
            let began = Instant::now();
            producer.begin().unwrap();
            producer.send(&to("speed.out", 0, "value")).unwrap();
            producer
                .commit(&at(n, "", "speed.in"), &consumer.group_metadata().unwrap())
                .unwrap();
            began.elapsed()
        })
        .collect();
    times.sort();
    println!(
        "commit: median {:?}, 99th percentile {:?}",
        times[times.len() / 2],
        times[times.len() - 1]
    );
    let committed = log
        .committed("speed.in.group", &[TopicPartition::new("speed.in", 0)])
        .unwrap();
    assert_eq!(committed[0].as_ref().unwrap().offset, 99);
}

#[test]
fn the_end_is_told_behind_markers_but_not_behind_an_open_transaction() {
    let broker = broker::shared();
    let log = connect(&broker.address(), &[], Protocol::Cooperative);
    log.create_topics(&[TopicSpec::new("end", 1)]).unwrap();
    let place = TopicPartition::new("end", 0);
    let (consumer, _events) = member(&log, alone("end"), Some(0));
    consumer.poll(TURN, 1, &mut |_, _, _| {}).unwrap();
    let mut producer = log.producer("end.0").unwrap();
    producer.begin().unwrap();
    producer.send(&to("end", 0, "one")).unwrap();
    producer.commit(&[], &consumer.group_metadata().unwrap()).unwrap();
    assert_eq!(log.range(&place).unwrap(), Range { start: 0, end: 2 });
    let ended = |from| {
        let mut reader = log.reader(&place, from, Isolation::ReadCommitted).unwrap();
        let mut count = 0;
        let end = wait::until("an answer", SOON, || {
            let end = reader.read(Duration::from_secs(5), 100, &mut |_| count += 1).unwrap();
            (end || count == 0).then_some(end)
        });
        (end, count)
    };
    assert_eq!(ended(0), (true, 1));
    assert_eq!(ended(1), (true, 0), "only a marker is left");
    assert_eq!(ended(2), (true, 0));
    producer.begin().unwrap();
    producer.send(&to("end", 0, "open")).unwrap();
    wait::until("the open record", SOON, || {
        (log.range(&place).unwrap().end == 3).then_some(())
    });
    assert_eq!(ended(2), (false, 0), "a record may still come");
    assert_eq!(values(&log, "end", Isolation::ReadUncommitted), ["one", "open"]);
    producer.abort().unwrap();
    assert_eq!(ended(2), (true, 0));
    let beyond = log.reader(&place, 99, Isolation::ReadCommitted).err();
    assert!(matches!(beyond, Some(Error::OutOfRange { .. })), "{beyond:?}");
}

fn members_share_and_hand_over(topic: &str, protocol: Protocol) {
    let broker = broker::shared();
    let more: &[(&str, &str)] = if protocol == Protocol::Cooperative {
        &[("heartbeat.interval.ms", "300")]
    } else {
        &[]
    };
    let log = connect(&broker.address(), more, protocol);
    let out = format!("{topic}.out");
    log.create_topics(&[TopicSpec::new(topic, 4), TopicSpec::new(out.as_str(), 1)])
        .unwrap();
    let all: Vec<OutRecord> = (0..4)
        .flat_map(|p| (0..5).map(move |n| to(topic, p, &n.to_string())))
        .collect();
    log.appender().unwrap().append(&all).unwrap();

    let (one, events_one) = member(&log, together(topic), Some(2));
    let mut seen = take(&one, 12);
    seen.sort_unstable();
    let from_two: Vec<(i32, Offset)> = (0..4).flat_map(|p| (2..5).map(move |n| (p, n))).collect();
    assert_eq!(seen, from_two, "each partition from where the start was put");

    let (two, events_two) = member(&log, together(topic), Some(4));
    let mut held: BTreeMap<usize, Vec<i32>> = BTreeMap::from([(1, Vec::new()), (2, Vec::new())]);
    wait::until("two partitions each", SOON, || {
        for (member, consumer, events) in [(1, &one, &events_one), (2, &two, &events_two)] {
            consumer.poll(TURN, 100, &mut |_, _, _| {}).unwrap();
            let held = held.get_mut(&member).unwrap();
            for (kind, partitions) in events.try_iter() {
                match kind {
                    '+' => held.extend(partitions),
                    _ => held.retain(|partition| !partitions.contains(partition)),
                }
            }
        }
        (held[&1].len() == 2 && held[&2].len() == 2).then_some(())
    });

    let mut producer = log.producer(&format!("{topic}.0")).unwrap();
    producer.begin().unwrap();
    producer.send(&to(&out, 0, "by a member")).unwrap();
    producer
        .commit(&at(3, "m", topic), &one.group_metadata().unwrap())
        .unwrap();
    two.close();
    drop(two);
    wait::until("the rest", SOON, || {
        one.poll(TURN, 100, &mut |_, _, _| {}).unwrap();
        events_one.try_iter().for_each(|(kind, partitions)| {
            if kind == '+' {
                held.get_mut(&1).unwrap().extend(partitions);
            }
        });
        (held[&1].len() == 4).then_some(())
    });
    one.close();
    producer.begin().unwrap();
    assert!(one.group_metadata().is_err(), "a member that left has no standing");
    producer.abort().unwrap();
}

#[test]
fn members_share_and_hand_over_by_the_classic_protocol() {
    members_share_and_hand_over("share.classic", Protocol::Cooperative);
}

#[test]
fn members_share_and_hand_over_by_the_newer_protocol() {
    members_share_and_hand_over("share.newer", Protocol::Consumer);
}

#[test]
fn a_consumer_can_go_back_pause_and_resume() {
    let broker = broker::shared();
    let log = connect(&broker.address(), &[], Protocol::Cooperative);
    log.create_topics(&[TopicSpec::new("seek", 2)]).unwrap();
    let all: Vec<OutRecord> = (0..2)
        .flat_map(|p| (0..50).map(move |n| to("seek", p, &n.to_string())))
        .collect();
    log.appender().unwrap().append(&all).unwrap();
    let places: Vec<TopicPartition> = (0..2).map(|p| TopicPartition::new("seek", p)).collect();
    let (consumer, _events) = member(
        &log,
        Assignment::Static {
            partitions: places.clone(),
        },
        None,
    );
    let mut early = 0;
    for _ in 0..10 {
        consumer.poll(TURN, 100, &mut |_, _, _| early += 1).unwrap();
    }
    assert_eq!(early, 0, "without a start a partition waits");
    consumer.seek(&places[0], 40).unwrap();
    assert_eq!(take(&consumer, 10), (40..50).map(|n| (0, n)).collect::<Vec<_>>());
    consumer.seek(&places[1], 45).unwrap();
    consumer.pause(&places[..1]).unwrap();
    log.appender()
        .unwrap()
        .append(&[to("seek", 0, "held back"), to("seek", 1, "not")])
        .unwrap();
    assert_eq!(take(&consumer, 6), (45..51).map(|n| (1, n)).collect::<Vec<_>>());
    consumer.resume(&places[..1]).unwrap();
    assert_eq!(take(&consumer, 1), [(0, 50)]);
    // in the midst of a stream, nothing of what was fetched before the seek is handed out after it
    for _ in 0..20 {
        consumer.seek(&places[0], 0).unwrap();
        let mut first = None;
        wait::until("a record", SOON, || {
            consumer
                .poll(TURN, 5, &mut |_, _, record| first = first.or(Some(record.offset)))
                .unwrap();
            first
        });
        assert_eq!(first, Some(0));
    }
}

#[test]
fn records_arrive_with_everything_they_had() {
    let broker = broker::shared();
    let log = connect(&broker.address(), &[], Protocol::Cooperative);
    log.create_topics(&[TopicSpec::new("whole", 3)]).unwrap();
    let mut headers = HeadersBuf::default().with("content-type", "application/json");
    headers.push("null", None);
    let full = OutRecord {
        headers: headers.clone(),
        timestamp: Some(Timestamp::from_millis(1_700_000_000_123)),
        ..OutRecord::new("whole", "21", "value")
    };
    let tombstone = OutRecord {
        value: None,
        headers: HeadersBuf::default(),
        ..full.clone()
    };
    let bare = OutRecord {
        key: None,
        ..tombstone.clone()
    };
    log.appender().unwrap().append(&[full, tombstone, bare]).unwrap();
    // as a client in Java places it
    let place = TopicPartition::new("whole", suture_log::partition_of(b"21", 3));
    let mut seen = Vec::new();
    for place in [place, TopicPartition::new("whole", 0)] {
        let mut reader = log.reader(&place, 0, Isolation::ReadCommitted).unwrap();
        wait::until("the end", SOON, || {
            let end = reader.read(TURN, 10, &mut |record| {
                let own = |bytes: &[u8]| bytes.to_vec();
                seen.push((
                    record.key.map(own),
                    record.value.map(own),
                    record.headers == headers.as_headers(),
                    record.timestamp,
                ));
            });
            end.unwrap().then_some(())
        });
    }
    let time = Some(Timestamp::from_millis(1_700_000_000_123));
    seen.dedup();
    assert!(
        seen.contains(&(Some(b"21".to_vec()), Some(b"value".to_vec()), true, time)),
        "{seen:?}"
    );
    assert!(seen.contains(&(Some(b"21".to_vec()), None, false, time)), "{seen:?}");
    assert!(
        seen.contains(&(None, None, false, time)),
        "a record with neither key nor partition goes to partition 0"
    );
}

#[test]
fn topics_are_created_with_their_settings_and_described() {
    let broker = broker::shared();
    let log = connect(&broker.address(), &[], Protocol::Cooperative);
    let week = Span::from_hours(168);
    let specs = [
        TopicSpec::new("made.state", 2).compacted(),
        TopicSpec::new("made.week", 3).retained(week),
        TopicSpec::new("made.forever", 1),
    ];
    assert_eq!(log.create_topics(&specs).unwrap(), [Created::New; 3]);
    assert_eq!(log.create_topics(&specs[..1]).unwrap(), [Created::Existed]);
    let describe = |name: &str| {
        let info = wait::until("the topic", SOON, || log.topic(name).unwrap());
        (info.partitions, info.cleanup, info.retention)
    };
    assert_eq!(describe("made.state").0, 2);
    assert_eq!(describe("made.state").1, Some(Cleanup::Compact));
    assert_eq!(describe("made.week"), (3, Some(Cleanup::Delete), Some(week)));
    assert_eq!(describe("made.forever"), (1, Some(Cleanup::Delete), None));
    assert_eq!(log.topic("made.up").unwrap(), None);
    let problems = log.check("made.group", &["made.week".to_owned(), "made.up".to_owned()]);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains("topic made.up does not exist"), "{problems:?}");
}

#[test]
fn errors_say_what_to_do() {
    let broker = broker::shared();
    let log = connect(
        &broker.address(),
        &[("message.max.bytes", "5000000")],
        Protocol::Cooperative,
    );
    log.create_topics(&[TopicSpec::new("errors", 1)]).unwrap();
    let (consumer, _events) = member(&log, alone("errors"), Some(0));
    let mut producer = log.producer("errors.0").unwrap();
    producer.begin().unwrap();
    // noise, which compression does not make smaller
    let noise: Vec<u8> = (0..1u64 << 18)
        .flat_map(|n| suture_event::stable_hash([n.to_le_bytes().as_slice()]).to_le_bytes())
        .collect();
    producer.send(&OutRecord::new("errors", "key", noise)).unwrap();
    let large = producer.commit(&[], &consumer.group_metadata().unwrap()).unwrap_err();
    assert_eq!(large.recovery(), Recovery::Stop, "{large}");
    assert!(large.to_string().contains("errors"), "{large}");

    let nobody = connect(
        "127.0.0.1:1",
        &[("socket.connection.setup.timeout.ms", "1000")],
        Protocol::Cooperative,
    );
    let away = nobody.topic("any").unwrap_err();
    assert!(matches!(away, Error::Unreachable { .. }), "{away}");
    assert!(
        away.to_string().contains("127.0.0.1:1") && away.to_string().contains("bootstrap.servers"),
        "{away}"
    );

    let client = BTreeMap::from([("no.such.setting".to_owned(), "1".to_owned())]);
    let setting = KafkaLog::new(Options::new(client)).err().unwrap();
    assert!(setting.to_string().contains("no.such.setting"), "{setting}");
}
