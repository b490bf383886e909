//! A client that shares no code with the program: what a user's own consumer would see.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    message::Headers,
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
};

/// A record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its partition.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Its key, as text.
    pub key: Option<String>,
    /// Its value.
    pub value: Vec<u8>,
    /// Its headers, in order, as text.
    pub headers: Vec<(String, String)>,
}

impl Record {
    /// The value as JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.value)
            .unwrap_or_else(|error| panic!("{error} in {}", String::from_utf8_lossy(&self.value)))
    }

    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

fn config(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address).set("log_level", "0");
    config
}

/// Whether a broker answers there.
#[must_use]
pub fn answers(address: &str) -> bool {
    if !crate::broker::listens(address) {
        return false;
    }
    let consumer: Result<BaseConsumer, _> = config(address).set("group.id", "probe").create();
    consumer.is_ok_and(|consumer| consumer.fetch_metadata(None, Duration::from_secs(2)).is_ok())
}

/// Creates a topic.
pub fn create_topic(address: &str, name: &str, partitions: i32) {
    create(address, NewTopic::new(name, partitions, TopicReplication::Fixed(1)));
}

/// Creates a topic of which the newest record of each key is kept.
pub fn create_compacted_topic(address: &str, name: &str, partitions: i32) {
    create(
        address,
        NewTopic::new(name, partitions, TopicReplication::Fixed(1)).set("cleanup.policy", "compact"),
    );
}

fn create(address: &str, topic: NewTopic<'_>) {
    let admin: AdminClient<DefaultClientContext> = config(address).create().expect("an admin client");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let made = runtime
        .block_on(admin.create_topics([&topic], &AdminOptions::new()))
        .expect("the broker answers");
    for one in made {
        one.unwrap_or_else(|(name, code)| panic!("topic {name}: {code}"));
    }
}

/// Produces records, in order, to one partition, and waits until the broker has them all.
pub fn produce<'a>(
    address: &str,
    topic: &str,
    partition: i32,
    records: impl IntoIterator<Item = (Option<&'a str>, &'a [u8])>,
) {
    let producer: ThreadedProducer<DefaultProducerContext> = config(address)
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .set("queue.buffering.max.messages", "1000000")
        .create()
        .expect("a producer");
    for (key, value) in records {
        let mut record = BaseRecord::<str, [u8]>::to(topic).partition(partition).payload(value);
        record.key = key;
        let mut unsent = Some(record);
        crate::wait::until(
            "room in the producer's queue",
            Duration::from_secs(60),
            || match producer.send(unsent.take()?) {
                Ok(()) => Some(()),
                Err((_, back)) => {
                    unsent = Some(back);
                    None
                }
            },
        );
    }
    producer
        .flush(Duration::from_secs(60))
        .expect("the broker takes the records");
}

/// Reads a topic in read_committed from its start until `done` says so of what was read.
///
/// # Panics
/// Where that does not come in time, with how many records there were.
pub fn read_until(
    address: &str,
    topic: &str,
    within: Duration,
    mut done: impl FnMut(&[Record]) -> bool,
) -> Vec<Record> {
    let mut records = Vec::new();
    let deadline = Instant::now() + within;
    let consumer = reader(address, topic);
    while !done(&records) {
        assert!(
            Instant::now() < deadline,
            "{} records of {topic}, and not what was waited for",
            records.len()
        );
        let Some(message) = consumer.poll(Duration::from_millis(100)) else {
            continue;
        };
        let message = message.unwrap_or_else(|error| panic!("reading {topic}: {error}"));
        let headers = message.headers().map_or_else(Vec::new, |headers| {
            let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
            headers
                .iter()
                .map(|header| (header.key.to_owned(), text(header.value)))
                .collect()
        });
        records.push(Record {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(|key| String::from_utf8_lossy(key).into_owned()),
            value: message.payload().unwrap_or_default().to_vec(),
            headers,
        });
    }
    records
}

/// How the key of a record begins that marks an end.
const MARKER: &str = "end-of-reading-";

/// Reads what is in a topic, up to its end as it is now.
#[must_use]
pub fn read_all(address: &str, topic: &str) -> Vec<Record> {
    // a record beyond everything that is there, behind which nothing needs to be waited for
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let marker = format!("{MARKER}{}-{call}", std::process::id());
    let partitions = partitions(address, topic);
    for partition in 0..partitions {
        produce(address, topic, partition, [(Some(marker.as_str()), b"".as_slice())]);
    }
    let ends = |records: &[Record]| {
        let mut seen: Vec<i32> = records
            .iter()
            .filter(|r| r.key.as_deref() == Some(&marker))
            .map(|r| r.partition)
            .collect();
        seen.sort_unstable();
        seen.dedup();
        seen.len() == usize::try_from(partitions).unwrap_or_default()
    };
    let mut records = read_until(address, topic, Duration::from_secs(60), ends);
    records.retain(|record| !record.key.as_deref().is_some_and(|key| key.starts_with(MARKER)));
    records
}

/// Whether there is such a topic.
#[must_use]
pub fn exists(address: &str, topic: &str) -> bool {
    partitions(address, topic) > 0
}

fn partitions(address: &str, topic: &str) -> i32 {
    let consumer: BaseConsumer = config(address).set("group.id", "reader").create().expect("a consumer");
    let metadata = consumer
        .fetch_metadata(Some(topic), Duration::from_secs(10))
        .expect("the broker answers");
    i32::try_from(metadata.topics().first().map_or(0, |topic| topic.partitions().len())).expect("few")
}

fn reader(address: &str, topic: &str) -> BaseConsumer {
    let consumer: BaseConsumer = config(address)
        .set("group.id", "reader")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions(address, topic) {
        list.add_partition_offset(topic, partition, Offset::Beginning)
            .expect("a valid offset");
    }
    consumer.assign(&list).expect("the partitions are there");
    consumer
}
