//! A broker that has lost the end of a transaction.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use suture_log::{
    Appender, Committed, Consumer, Created, Error, GroupMetadata, GroupOptions, Isolation, Log, Offset, OutRecord,
    Producer, Range, Reader, Rebalance, TopicInfo, TopicPartition, TopicSpec, memory::MemoryLog,
};

use super::cases::Rig;
use crate::error::Failure;

/// What became of it.
#[derive(Default)]
struct Hanging {
    /// Whether a transaction still holds offsets back.
    hangs: AtomicBool,
    /// It does so again, however often it is ended.
    incurable: AtomicBool,
    asked: AtomicU64,
    ended: Mutex<Vec<TopicPartition>>,
}

/// The log in memory, with offsets that a transaction holds back.
struct Forgetful {
    log: MemoryLog,
    state: Arc<Hanging>,
}

struct Fenced {
    inner: Box<dyn Producer>,
    state: Arc<Hanging>,
}

impl Producer for Fenced {
    fn begin(&mut self) -> Result<(), Error> {
        self.inner.begin()
    }
    fn send(&mut self, record: &OutRecord) -> Result<(), Error> {
        self.inner.send(record)
    }
    fn commit(&mut self, offsets: &[(TopicPartition, Committed)], group: &GroupMetadata) -> Result<(), Error> {
        self.inner.commit(offsets, group)
    }
    fn abort(&mut self) -> Result<(), Error> {
        self.inner.abort()
    }
    fn end_hanging(&mut self, _: &str, offsets: &[TopicPartition], outputs: &[TopicPartition]) -> Result<(), Error> {
        let mut ended = self.state.ended.lock().unwrap();
        *ended = offsets.iter().chain(outputs).cloned().collect();
        if !self.state.incurable.load(Ordering::SeqCst) {
            self.state.hangs.store(false, Ordering::SeqCst);
        }
        Ok(())
    }
}

impl Log for Forgetful {
    fn consumer(&self, options: &GroupOptions, rebalance: Box<dyn Rebalance>) -> Result<Arc<dyn Consumer>, Error> {
        self.log.consumer(options, rebalance)
    }
    fn producer(&self, id: &str) -> Result<Box<dyn Producer>, Error> {
        Ok(Box::new(Fenced {
            inner: self.log.producer(id)?,
            state: Arc::clone(&self.state),
        }))
    }
    fn appender(&self) -> Result<Box<dyn Appender>, Error> {
        self.log.appender()
    }
    fn reader(&self, at: &TopicPartition, from: Offset, isolation: Isolation) -> Result<Box<dyn Reader>, Error> {
        self.log.reader(at, from, isolation)
    }
    fn committed(&self, group: &str, partitions: &[TopicPartition]) -> Result<Vec<Option<Committed>>, Error> {
        self.state.asked.fetch_add(1, Ordering::SeqCst);
        if self.state.hangs.load(Ordering::SeqCst) {
            return Err(Error::Unstable {
                group: group.to_owned(),
            });
        }
        self.log.committed(group, partitions)
    }
    fn range(&self, partition: &TopicPartition) -> Result<Range, Error> {
        self.log.range(partition)
    }
    fn topic(&self, name: &str) -> Result<Option<TopicInfo>, Error> {
        self.log.topic(name)
    }
    fn create_topics(&self, topics: &[TopicSpec]) -> Result<Vec<Created>, Error> {
        self.log.create_topics(topics)
    }
}

#[test]
fn a_transaction_whose_end_the_broker_has_lost_is_ended_wherever_it_may_have_written() {
    let mut rig = Rig::new();
    rig.options.output_topics = vec!["out".to_owned(), "missing".to_owned()];
    rig.feed(40);
    let mut shard = rig.live();
    rig.work(&mut shard);
    drop(shard);
    rig.feed(20);
    let state = Arc::new(Hanging::default());
    state.hangs.store(true, Ordering::SeqCst);
    let log = Arc::new(Forgetful {
        log: rig.log.clone(),
        state: Arc::clone(&state),
    });
    let mut shard = rig.open_on(log).unwrap_or_else(|failure| panic!("{failure:?}"));
    rig.work(&mut shard);
    rig.assert_undisturbed();
    let ended: Vec<String> = state.ended.lock().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(ended.first().map(String::as_str), Some("in/0"));
    for topic in ["out", "state"] {
        let partitions = rig.log.topic(topic).unwrap().unwrap().partitions;
        let all = (0..partitions).all(|n| ended.contains(&format!("{topic}/{n}")));
        assert!(all, "{ended:?}");
    }
}

#[test]
fn one_that_does_not_end_for_all_that_starts_the_shard_anew_in_the_end() {
    let rig = Rig::new();
    rig.feed(5);
    let state = Arc::new(Hanging::default());
    state.hangs.store(true, Ordering::SeqCst);
    state.incurable.store(true, Ordering::SeqCst);
    let log = Arc::new(Forgetful {
        log: rig.log.clone(),
        state: Arc::clone(&state),
    });
    let failure = rig.open_on(log).err();
    assert!(matches!(failure, Some(Failure::Restart(_))), "{failure:?}");
    assert!(state.asked.load(Ordering::SeqCst) > 1);
}
