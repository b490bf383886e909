//! The log in memory: the demo's broker, and the ground for simulations.
//!
//! Transactions, fencing, isolation, control markers, groups with cooperative rebalances, compaction and bounded
//! retention behave as Kafka's. There are no clocks: a member that is gone is thrown out by [`MemoryLog::expel`], a
//! transaction that hangs ends when its id is taken over.

mod client;
mod faults;
mod group;
mod partition;
mod state;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use suture_event::Timestamp;

use crate::{
    Appender, Committed, Consumer, Created, Error, GroupOptions, Isolation, Log, Offset, Producer, Range, Reader,
    Rebalance, TopicInfo, TopicPartition, TopicSpec,
};
pub use faults::Faults;
use faults::{Operation, Plan};
use state::State;

/// Bounds of a log in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryOptions {
    /// Bytes that a partition keeps; beyond them its oldest records go, where its topic is not compacted and they belong
    /// to no open transaction. Default 256 MiB.
    pub partition_bytes: usize,
    /// A partition of a compacted topic is compacted when it holds more bytes than this, and twice what the last
    /// compaction left. Default 1 MiB.
    pub compact_bytes: usize,
    /// Largest record. Default 1 MiB, as Kafka's `message.max.bytes`.
    pub record_bytes: usize,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        Self {
            partition_bytes: 256 << 20,
            compact_bytes: 1 << 20,
            record_bytes: 1 << 20,
        }
    }
}

type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    clock: Clock,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // every change below is complete before anything in it can panic
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self) {
        self.changed.notify_all();
    }
}

/// A log in memory, as seen by one client of it. Clones see the same log as the same client.
#[derive(Clone)]
pub struct MemoryLog {
    shared: Arc<Shared>,
    plan: Arc<Plan>,
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self::new(MemoryOptions::default())
    }
}

impl MemoryLog {
    /// An empty log with the system's clock.
    #[must_use]
    pub fn new(options: MemoryOptions) -> Self {
        Self::with_clock(options, || {
            let millis = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_millis());
            Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
        })
    }

    /// An empty log whose records without a time of their own get the clock's.
    #[must_use]
    pub fn with_clock(options: MemoryOptions, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State::new(options)),
                changed: Condvar::new(),
                clock: Arc::new(clock),
            }),
            plan: Arc::new(Plan::none()),
        }
    }

    /// The same log as another client sees it: one that meets these faults, and whose members are called `name`.
    #[must_use]
    pub fn client(&self, name: &str, faults: Faults) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            plan: Arc::new(Plan::new(name, faults)),
        }
    }

    /// Whether the client met its crash: every call of it fails from then on.
    #[must_use]
    pub fn crashed(&self) -> bool {
        self.plan.crashed()
    }

    /// How many operations the client has begun.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.plan.steps()
    }

    /// Throws the members of that client out of their groups, as a session timeout does. They notice at their next poll.
    pub fn expel(&self, client: &str) {
        self.shared.lock().expel(client);
        self.shared.notify();
    }

    /// Forgets the offsets of a group, as a broker does once the group was away for `offsets.retention.minutes`.
    pub fn forget_offsets(&self, group: &str) {
        self.shared.lock().forget_offsets(group);
    }

    /// Drops the records before an offset, as retention does.
    ///
    /// # Errors
    /// Where there is no such partition.
    pub fn trim(&self, partition: &TopicPartition, before: Offset) -> Result<(), Error> {
        self.shared.lock().partition_mut(partition)?.trim(before);
        Ok(())
    }

    /// Compacts every partition of the topic now.
    ///
    /// # Errors
    /// Where there is no such topic.
    pub fn compact(&self, topic: &str) -> Result<(), Error> {
        self.shared.lock().compact(topic)
    }

    /// Deletes a topic with all that it holds; offsets that groups committed for it stay, as a broker's may.
    pub fn delete_topic(&self, topic: &str) {
        self.shared.lock().delete_topic(topic);
    }

    /// Gives a topic more partitions.
    ///
    /// # Errors
    /// Where there is no such topic.
    pub fn add_partitions(&self, topic: &str, partitions: i32) -> Result<(), Error> {
        self.shared.lock().add_partitions(topic, partitions)?;
        self.shared.notify();
        Ok(())
    }

    fn now(&self) -> Timestamp {
        (self.shared.clock)()
    }
}

impl Log for MemoryLog {
    fn consumer(&self, options: &GroupOptions, rebalance: Box<dyn Rebalance>) -> Result<Arc<dyn Consumer>, Error> {
        self.plan.check(Operation::Connect)?;
        Ok(Arc::new(client::MemoryConsumer::new(
            self.clone(),
            options.clone(),
            rebalance,
        )))
    }

    fn producer(&self, transactional_id: &str) -> Result<Box<dyn Producer>, Error> {
        let after = self.plan.before(Operation::Fence)?;
        let epoch = self.shared.lock().fence(transactional_id);
        self.shared.notify();
        after.done("fencing")?;
        Ok(Box::new(client::MemoryProducer::new(
            self.clone(),
            transactional_id.to_owned(),
            epoch,
        )))
    }

    fn appender(&self) -> Result<Box<dyn Appender>, Error> {
        self.plan.check(Operation::Connect)?;
        Ok(Box::new(client::MemoryAppender::new(self.clone())))
    }

    fn reader(&self, partition: &TopicPartition, from: Offset, isolation: Isolation) -> Result<Box<dyn Reader>, Error> {
        self.plan.check(Operation::Connect)?;
        self.shared.lock().partition(partition)?;
        Ok(Box::new(client::MemoryReader::new(
            self.clone(),
            partition.clone(),
            from,
            isolation,
        )))
    }

    fn committed(&self, group: &str, partitions: &[TopicPartition]) -> Result<Vec<Option<Committed>>, Error> {
        self.plan.check(Operation::Ask)?;
        self.shared.lock().committed(group, partitions)
    }

    fn committed_before(&self, group: &str, partitions: &[TopicPartition]) -> Result<Vec<Option<Committed>>, Error> {
        self.plan.check(Operation::Ask)?;
        Ok(self.shared.lock().committed_before(group, partitions))
    }

    fn range(&self, partition: &TopicPartition) -> Result<Range, Error> {
        self.plan.check(Operation::Ask)?;
        Ok(self.shared.lock().partition(partition)?.range())
    }

    fn topic(&self, name: &str) -> Result<Option<TopicInfo>, Error> {
        self.plan.check(Operation::Ask)?;
        Ok(self.shared.lock().topic_info(name))
    }

    fn create_topics(&self, topics: &[TopicSpec]) -> Result<Vec<Created>, Error> {
        let mut state = self.shared.lock();
        let created = topics.iter().map(|spec| state.create_topic(spec)).collect();
        drop(state);
        self.shared.notify();
        Ok(created)
    }
}
