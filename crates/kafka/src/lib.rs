//! The log on Apache Kafka: everything rdkafka is here.
//!
//! One OS thread polls a `BaseConsumer`: partition queues, the stream consumer and statistics events each have known
//! faults that this stays clear of. Commits poll until nothing is in flight instead of flushing, which costs 2 ms where a
//! flush costs 100.

mod admin;
mod config;
mod consumer;
mod error;
mod producer;
mod reader;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use rdkafka::{
    Offset as KafkaOffset, TopicPartitionList,
    admin::AdminClient,
    consumer::{BaseConsumer, Consumer as _},
    error::RDKafkaErrorCode,
};
use suture_log::{
    Appender, Committed, Consumer, Created, Error, GroupOptions, Isolation, Log, Offset, Producer, Range, Reader,
    Rebalance, TopicInfo, TopicPartition, TopicSpec,
};

pub use config::{Options, Protocol};
use config::{Quiet, Role};

/// How long a question to the broker may take.
const ASK: Duration = Duration::from_secs(10);

/// A Kafka cluster. Clones share their clients for questions.
#[derive(Clone)]
pub struct KafkaLog {
    options: Arc<Options>,
    /// Clients that ask for metadata (under the empty name) and for groups' offsets, by who asks for what.
    askers: Arc<Mutex<BTreeMap<String, Arc<BaseConsumer<Quiet>>>>>,
    /// The client for topics' settings, once there is one: a start asks for a dozen of topics, and to make a client and
    /// its connections for each takes most of a second.
    admin: Arc<OnceLock<AdminClient<Quiet>>>,
    outage: Arc<error::Outage>,
}

impl KafkaLog {
    /// The cluster that the settings name. Nothing is connected yet.
    ///
    /// # Errors
    /// [`Error::Setting`] for a setting that librdkafka does not take.
    pub fn new(options: Options) -> Result<Self, Error> {
        let log = Self {
            options: Arc::new(options),
            askers: Arc::default(),
            admin: Arc::default(),
            outage: Arc::default(),
        };
        log.asker(&Role::Asker)?;
        log.options
            .producer("check")
            .create::<rdkafka::producer::BaseProducer>()
            .map_err(|e| log.error("checking settings", &e))?;
        Ok(log)
    }

    /// The brokers, as they were given.
    #[must_use]
    pub fn bootstrap(&self) -> &str {
        self.options.bootstrap()
    }

    /// What keeps this client from working as `group` over these topics: one text for each thing that is wrong, each
    /// saying what to do. Takes the transactional id `GROUP.check` for a moment.
    #[must_use]
    pub fn check(&self, group: &str, topics: &[String]) -> Vec<String> {
        let mut problems = Vec::new();
        for name in topics {
            match self.topic(name) {
                Ok(Some(_)) => {}
                Ok(None) => problems.push(Error::UnknownTopic { topic: name.clone() }.to_string()),
                Err(error @ Error::Unreachable { .. }) => return vec![error.to_string()],
                Err(error) => problems.push(error.to_string()),
            }
        }
        let first: Vec<TopicPartition> = topics
            .iter()
            .take(1)
            .map(|name| TopicPartition::new(name.as_str(), 0))
            .collect();
        if let Err(error) = self.committed(group, &first) {
            problems.push(error.to_string());
        }
        if let Err(error) = self.producer(&format!("{group}.check")) {
            problems.push(error.to_string());
        }
        problems
    }

    fn askers(&self) -> MutexGuard<'_, BTreeMap<String, Arc<BaseConsumer<Quiet>>>> {
        self.askers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asker(&self, role: &Role<'_>) -> Result<Arc<BaseConsumer<Quiet>>, Error> {
        let name = match role {
            Role::Offsets(group) => format!("{group} offsets"),
            Role::LastOffsets(group) => format!("{group} last offsets"),
            Role::Asker | Role::Member(..) | Role::Reader(_) => String::new(),
        };
        let mut askers = self.askers();
        if let Some(asker) = askers.get(&name) {
            return Ok(Arc::clone(asker));
        }
        let asker: BaseConsumer<Quiet> = self
            .options
            .consumer(role)
            .create_with_context(Quiet)
            .map_err(|error| self.error("making a client", &error))?;
        let asker = Arc::new(asker);
        askers.insert(name, Arc::clone(&asker));
        Ok(asker)
    }

    /// Whether the group's offsets are to be had once nobody waits for transactions.
    fn answers_without_waiting(&self, group: &str, partitions: &[TopicPartition]) -> bool {
        self.committed_before(group, partitions).is_ok()
    }

    /// What the broker said of the partitions, in their order.
    fn offsets_of(
        &self,
        found: &TopicPartitionList,
        partitions: &[TopicPartition],
        what: &str,
    ) -> Result<Vec<Option<Committed>>, Error> {
        partitions
            .iter()
            .map(|at| {
                let Some(element) = found.find_partition(&at.topic, at.partition) else {
                    return Ok(None);
                };
                element.error().map_err(|error| self.error(what, &error))?;
                Ok(match element.offset() {
                    KafkaOffset::Offset(offset) => Some(Committed {
                        offset,
                        metadata: element.metadata().to_owned(),
                    }),
                    _ => None,
                })
            })
            .collect()
    }

    fn error(&self, what: &str, error: &rdkafka::error::KafkaError) -> Error {
        error::translate(what, error, self.bootstrap(), &self.outage)
    }
}

impl Log for KafkaLog {
    fn consumer(&self, options: &GroupOptions, rebalance: Box<dyn Rebalance>) -> Result<Arc<dyn Consumer>, Error> {
        Ok(Arc::new(consumer::KafkaConsumer::new(
            self.clone(),
            options,
            rebalance,
        )?))
    }

    fn producer(&self, transactional_id: &str) -> Result<Box<dyn Producer>, Error> {
        Ok(Box::new(producer::KafkaProducer::new(self.clone(), transactional_id)?))
    }

    fn appender(&self) -> Result<Box<dyn Appender>, Error> {
        Ok(Box::new(producer::KafkaAppender::new(self.clone())?))
    }

    fn reader(&self, partition: &TopicPartition, from: Offset, isolation: Isolation) -> Result<Box<dyn Reader>, Error> {
        Ok(Box::new(reader::KafkaReader::new(
            self.clone(),
            partition.clone(),
            from,
            isolation,
        )?))
    }

    fn committed(&self, group: &str, partitions: &[TopicPartition]) -> Result<Vec<Option<Committed>>, Error> {
        let asked = list(partitions.iter().map(|at| (at, None)));
        let what = format!("reading offsets of group {group}");
        let found = self
            .asker(&Role::Offsets(group))?
            .committed_offsets(asked, ASK)
            .map_err(|error| match error.rdkafka_error_code() {
                // the client tries again by itself for as long as a transaction is open that is about to change them
                Some(RDKafkaErrorCode::OperationTimedOut) if self.answers_without_waiting(group, partitions) => {
                    Error::Unstable {
                        group: group.to_owned(),
                    }
                }
                _ => self.error(&what, &error),
            })?;
        self.offsets_of(&found, partitions, &what)
    }

    fn committed_before(&self, group: &str, partitions: &[TopicPartition]) -> Result<Vec<Option<Committed>>, Error> {
        let asked = list(partitions.iter().map(|at| (at, None)));
        let what = format!("reading offsets of group {group}");
        let found = self
            .asker(&Role::LastOffsets(group))?
            .committed_offsets(asked, ASK)
            .map_err(|error| self.error(&what, &error))?;
        self.offsets_of(&found, partitions, &what)
    }

    fn range(&self, partition: &TopicPartition) -> Result<Range, Error> {
        let asked = self
            .asker(&Role::Asker)?
            .fetch_watermarks(&partition.topic, partition.partition, ASK);
        let (start, end) =
            asked.map_err(
                |error| match self.error(&format!("asking for the end of {partition}"), &error) {
                    Error::UnknownTopic { .. } => Error::UnknownPartition(partition.clone()),
                    other => other,
                },
            )?;
        self.outage.over();
        Ok(Range { start, end })
    }

    fn topic(&self, name: &str) -> Result<Option<TopicInfo>, Error> {
        self.describe(name)
    }

    fn create_topics(&self, topics: &[TopicSpec]) -> Result<Vec<Created>, Error> {
        self.create(topics)
    }
}

/// Partitions with their offsets, as rdkafka has them.
fn list<'a>(partitions: impl Iterator<Item = (&'a TopicPartition, Option<Offset>)>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (at, offset) in partitions {
        let mut element = list.add_partition(&at.topic, at.partition);
        if let Some(offset) = offset {
            // the call fails for offsets that are no offsets, and these are
            element.set_offset(KafkaOffset::Offset(offset)).ok();
        }
    }
    list
}

/// Offsets to be committed, with their metadata.
fn offsets(offsets: &[(TopicPartition, Committed)]) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (at, committed) in offsets {
        let mut element = list.add_partition(&at.topic, at.partition);
        element.set_offset(KafkaOffset::Offset(committed.offset)).ok();
        element.set_metadata(committed.metadata.as_str());
    }
    list
}
