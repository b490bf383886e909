//! A member of a group, polled by one thread.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext, Message, Offset as KafkaOffset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, RebalanceProtocol},
    error::{KafkaError, RDKafkaErrorCode as Code},
    message::{BorrowedMessage, Headers as _},
    types::RDKafkaRespErr,
};
use suture_event::Timestamp;
use suture_log::{
    Assignment, Committed, Consumer, Error, GroupMetadata, GroupOptions, HeadersBuf, Offset, POLL_BYTES, Rebalance,
    RecordRef, TopicPartition,
};
use tracing::{debug, error, warn};

use crate::{
    ASK, KafkaLog,
    config::{Role, log_line},
    list, offsets,
};

/// How long leaving the group may take.
const CLOSE: Duration = Duration::from_secs(5);
/// How long a partition that was assigned just now may take until it can be moved.
const SETTLE: Duration = Duration::from_secs(5);

pub(crate) struct KafkaConsumer {
    log: KafkaLog,
    inner: BaseConsumer<Context>,
    assignment: Assignment,
    begun: AtomicBool,
    closed: AtomicBool,
    /// An error that came after records: told at the next poll.
    held: Mutex<Option<Error>>,
    scratch: Mutex<HeadersBuf>,
}

pub(crate) struct Context {
    rebalance: Mutex<Box<dyn Rebalance>>,
}

impl Context {
    fn rebalance(&self) -> MutexGuard<'_, Box<dyn Rebalance>> {
        self.rebalance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks where the partitions start and puts it into the list; gives those that have no start yet.
    fn start(&self, partitions: &mut TopicPartitionList) -> Vec<TopicPartition> {
        let at = partitions_of(partitions);
        let starts = self.rebalance().assigned(&at);
        let mut waiting = Vec::new();
        for at in at {
            let start = starts
                .iter()
                .find(|(start, _)| *start == at)
                .and_then(|(_, offset)| *offset);
            let offset = KafkaOffset::Offset(start.unwrap_or(0));
            if let Err(error) = partitions.set_partition_offset(&at.topic, at.partition, offset) {
                error!(partition = %at, %error, "setting the start failed");
            }
            if start.is_none() {
                waiting.push(at);
            }
        }
        waiting
    }
}

/// Keeps partitions without a start from being fetched. One that is fetched all the same is read from its beginning until it
/// is sought, and what is read of it is dropped.
fn pause(consumer: &BaseConsumer<Context>, waiting: &[TopicPartition]) {
    if waiting.is_empty() {
        return;
    }
    if let Err(error) = consumer.pause(&list(waiting.iter().map(|at| (at, None)))) {
        error!(%error, "pausing partitions whose start is not known failed");
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_line(level, facility, line);
    }
    fn error(&self, error: KafkaError, reason: &str) {
        debug!(target: "librdkafka", %error, "{reason}");
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let cooperative = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let done = if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            // offsets go in with the assignment: nothing is fetched from anywhere else, and nothing need be sought
            let waiting = self.start(partitions);
            let done = if cooperative {
                consumer.incremental_assign(partitions)
            } else {
                consumer.assign(partitions)
            };
            pause(consumer, &waiting);
            done
        } else {
            let lost = consumer.assignment_lost();
            self.rebalance().revoked(&partitions_of(partitions), lost);
            if cooperative {
                consumer.incremental_unassign(partitions)
            } else {
                consumer.unassign()
            }
        };
        if let Err(error) = done {
            error!(%error, "rebalancing failed");
        }
    }
}

fn partitions_of(list: &TopicPartitionList) -> Vec<TopicPartition> {
    list.elements()
        .iter()
        .map(|element| TopicPartition::new(element.topic(), element.partition()))
        .collect()
}

/// Hands a message to a sink without copying it.
pub(crate) fn hand_out(
    message: &BorrowedMessage<'_>,
    scratch: &mut HeadersBuf,
    sink: &mut dyn FnMut(RecordRef<'_>),
) -> usize {
    scratch.clear();
    if let Some(headers) = message.headers() {
        for header in headers.iter() {
            scratch.push(header.key, header.value);
        }
    }
    let record = RecordRef {
        offset: message.offset(),
        timestamp: message.timestamp().to_millis().map(Timestamp::from_millis),
        key: message.key(),
        value: message.payload(),
        headers: scratch.as_headers(),
    };
    let size = record.size();
    sink(record);
    size
}

impl KafkaConsumer {
    pub(crate) fn new(log: KafkaLog, options: &GroupOptions, rebalance: Box<dyn Rebalance>) -> Result<Self, Error> {
        let config = log.options.consumer(&Role::Member(&options.group, options.isolation));
        let context = Context {
            rebalance: Mutex::new(rebalance),
        };
        let inner: BaseConsumer<Context> = config
            .create_with_context(context)
            .map_err(|error| log.error("making a consumer", &error))?;
        if let Assignment::Dynamic { topics } = &options.assignment {
            let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
            inner
                .subscribe(&topics)
                .map_err(|error| log.error("subscribing", &error))?;
        }
        Ok(Self {
            log,
            inner,
            assignment: options.assignment.clone(),
            begun: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            held: Mutex::new(None),
            scratch: Mutex::default(),
        })
    }

    /// Takes the partitions of a static assignment.
    fn begin(&self) -> Result<(), Error> {
        let Assignment::Static { partitions } = &self.assignment else {
            return Ok(());
        };
        let mut assigned = list(partitions.iter().map(|at| (at, None)));
        let waiting = self.inner.context().start(&mut assigned);
        self.inner
            .assign(&assigned)
            .map_err(|error| self.log.error("assigning", &error))?;
        pause(&self.inner, &waiting);
        Ok(())
    }

    /// What an error that polling gave means; `None` where polling just goes on.
    fn poll_error(&self, error: &KafkaError) -> Option<Error> {
        match error {
            KafkaError::PartitionEOF(_) => None,
            KafkaError::MessageConsumption(Code::PollExceeded) => {
                warn!("polling paused for longer than max.poll.interval.ms: the group gave the partitions to others");
                None
            }
            // the client connects again by itself, and only polling lets it join its group again: these are no reason to
            // pause, and there is one for each attempt
            KafkaError::MessageConsumption(Code::BrokerTransportFailure | Code::AllBrokersDown | Code::Resolve) => {
                self.log.outage.note(self.log.bootstrap());
                None
            }
            // the client goes on trying, and so may we
            KafkaError::MessageConsumption(Code::UnknownTopicOrPartition | Code::UnknownTopic) => Some(Error::Busy {
                what: "reading".to_owned(),
                detail: error.to_string(),
            }),
            KafkaError::MessageConsumptionFatal(_) => Some(Error::Indefinite {
                what: "reading".to_owned(),
                detail: error.to_string(),
            }),
            error => match self.log.error("reading", error) {
                // whatever is not known to be the end of this consumer is not
                Error::Indefinite { what, detail } => Some(Error::Busy { what, detail }),
                other => Some(other),
            },
        }
    }
}

impl Consumer for KafkaConsumer {
    fn poll(
        &self,
        timeout: Duration,
        max: usize,
        sink: &mut dyn FnMut(&str, i32, RecordRef<'_>),
    ) -> Result<usize, Error> {
        if !self.begun.swap(true, Ordering::SeqCst) {
            self.begin()?;
        }
        if let Some(error) = self.held.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(error);
        }
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let deadline = Instant::now() + timeout;
        let (mut count, mut bytes) = (0, 0);
        while count < max && bytes < POLL_BYTES {
            let wait = if count == 0 {
                deadline.saturating_duration_since(Instant::now())
            } else {
                Duration::ZERO
            };
            match self.inner.poll(wait) {
                Some(Ok(message)) => {
                    count += 1;
                    bytes += hand_out(&message, &mut scratch, &mut |record| {
                        sink(message.topic(), message.partition(), record);
                    });
                }
                Some(Err(error)) => {
                    let Some(error) = self.poll_error(&error) else {
                        if count == 0 && Instant::now() < deadline {
                            continue;
                        }
                        break;
                    };
                    if count == 0 {
                        return Err(error);
                    }
                    *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    break;
                }
                None => break,
            }
        }
        if count > 0 {
            self.log.outage.over();
        }
        Ok(count)
    }

    fn group_metadata(&self) -> Result<GroupMetadata, Error> {
        let metadata = self
            .inner
            .group_metadata()
            .filter(|_| !self.closed.load(Ordering::SeqCst));
        metadata
            .map(|metadata| GroupMetadata(Arc::new(metadata)))
            .ok_or_else(|| Error::Indefinite {
                what: "asking for the group's metadata".to_owned(),
                detail: "the consumer is closed".to_owned(),
            })
    }

    fn seek(&self, partition: &TopicPartition, offset: Offset) -> Result<(), Error> {
        let deadline = Instant::now() + SETTLE;
        let what = format!("going to offset {offset} of {partition}");
        loop {
            let sought = self
                .inner
                .seek_partitions(list(std::iter::once((partition, Some(offset)))), ASK);
            let outcome = sought.and_then(
                |found| match found.find_partition(&partition.topic, partition.partition) {
                    Some(element) => element.error(),
                    None => Ok(()),
                },
            );
            match outcome {
                Ok(()) => break,
                // a partition that is just being assigned cannot be moved yet
                Err(error) if error.rdkafka_error_code() == Some(Code::State) && Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(20));
                }
                Err(error) => return Err(self.log.error(&what, &error)),
            }
        }
        self.resume(std::slice::from_ref(partition))
    }

    fn pause(&self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.inner
            .pause(&list(partitions.iter().map(|at| (at, None))))
            .map_err(|error| self.log.error("pausing", &error))
    }

    fn resume(&self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.inner
            .resume(&list(partitions.iter().map(|at| (at, None))))
            .map_err(|error| self.log.error("resuming", &error))
    }

    fn commit(&self, committed: &[(TopicPartition, Committed)]) -> Result<(), Error> {
        self.inner
            .commit(&offsets(committed), CommitMode::Sync)
            .map_err(|error| self.log.error("committing offsets", &error))
    }

    fn close(&self) {
        if self.closed.swap(true, Ordering::SeqCst) {
            return;
        }
        if matches!(self.assignment, Assignment::Static { .. }) {
            self.inner.unassign().ok();
            return;
        }
        // the revocation that unsubscribing brings is served by polling
        self.inner.unsubscribe();
        let deadline = Instant::now() + CLOSE;
        while Instant::now() < deadline {
            self.inner.poll(Duration::from_millis(20));
            if self.inner.assignment().is_ok_and(|left| left.count() == 0) {
                break;
            }
        }
    }
}
