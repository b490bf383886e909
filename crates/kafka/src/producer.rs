//! Transactions, and records outside of any.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    consumer::{Consumer as _, ConsumerGroupMetadata},
    error::{KafkaError, RDKafkaErrorCode as Code},
    message::{DeliveryResult, Header, Message, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext, PurgeConfig},
};
use suture_log::{Appender, Committed, Error, GroupMetadata, OutRecord, Producer, TopicPartition};
use tracing::debug;

use crate::{
    KafkaLog,
    config::{Role, log_line},
    error::translate_transaction,
    offsets,
};

/// How long fencing may take: the broker may first have to end what the predecessor left open.
const FENCE: Duration = Duration::from_secs(30);
/// How long a step of a transaction may take.
const STEP: Duration = Duration::from_secs(30);
/// How long a transaction that is given up may take to send what it has queued.
const PURGE_AFTER: Duration = Duration::from_secs(1);
/// Key of the records of transactions that are only there to be aborted; compacted topics want one.
const HANGING: &str = "ends what was left open";
/// One turn of waiting for acknowledgements; it ends early when one comes.
const TURN: Duration = Duration::from_millis(1);

/// Keeps the first record of the present transaction that could not be written.
#[derive(Default)]
pub(crate) struct Context {
    /// Counts transactions: what was purged from an aborted one may be told of while the next is under way.
    turn: AtomicUsize,
    failed: Mutex<Option<(KafkaError, String)>>,
}

impl Context {
    fn next_turn(&self) {
        self.turn.fetch_add(1, Ordering::SeqCst);
        self.take();
    }

    fn take(&self) -> Option<(KafkaError, String)> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
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

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, turn: usize) {
        if turn != self.turn.load(Ordering::SeqCst) {
            return;
        }
        if let Err((error, message)) = result {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert_with(|| (error.clone(), message.topic().to_owned()));
        }
    }
}

/// Queues a record, waiting for room where the queue is full.
fn enqueue(producer: &BaseProducer<Context>, record: &OutRecord) -> Result<(), KafkaError> {
    let turn = producer.context().turn.load(Ordering::SeqCst);
    let mut message: BaseRecord<'_, [u8], [u8], usize> = BaseRecord::with_opaque_to(&record.topic, turn);
    // without either, everybody's default differs: the contract says partition 0
    if let Some(partition) = record.partition.or_else(|| record.key.is_none().then_some(0)) {
        message = message.partition(partition);
    }
    if let Some(key) = &record.key {
        message = message.key(key.as_slice());
    }
    if let Some(value) = &record.value {
        message = message.payload(value.as_slice());
    }
    if let Some(timestamp) = record.timestamp {
        message = message.timestamp(timestamp.as_millis());
    }
    let headers = record.headers.as_headers();
    if !headers.is_empty() {
        let all = headers.iter().fold(OwnedHeaders::new(), |all, (key, value)| {
            all.insert(Header { key, value })
        });
        message = message.headers(all);
    }
    let deadline = Instant::now() + STEP;
    loop {
        match producer.send(message) {
            Ok(()) => return Ok(()),
            Err((error, back)) => {
                if error.rdkafka_error_code() != Some(Code::QueueFull) || Instant::now() > deadline {
                    return Err(error);
                }
                message = back;
                producer.poll(TURN);
            }
        }
    }
}

/// Waits until every record queued is acknowledged or given up. `false` where that takes too long.
fn drain(producer: &BaseProducer<Context>, within: Duration) -> bool {
    let deadline = Instant::now() + within;
    producer.poll(Duration::ZERO);
    while producer.in_flight_count() > 0 {
        if Instant::now() > deadline {
            return false;
        }
        producer.poll(TURN);
    }
    true
}

pub(crate) struct KafkaProducer {
    log: KafkaLog,
    id: String,
    inner: BaseProducer<Context>,
}

impl KafkaProducer {
    pub(crate) fn new(log: KafkaLog, id: &str) -> Result<Self, Error> {
        let inner: BaseProducer<Context> = log
            .options
            .producer(id)
            .create_with_context(Context::default())
            .map_err(|error| log.error("making a producer", &error))?;
        let producer = Self {
            log,
            id: id.to_owned(),
            inner,
        };
        producer
            .inner
            .init_transactions(FENCE)
            .map_err(|error| producer.error("fencing", &error))?;
        producer.log.outage.over();
        Ok(producer)
    }

    fn error(&self, what: &str, error: &KafkaError) -> Error {
        translate_transaction(&self.id, what, error, self.log.bootstrap(), &self.log.outage)
    }

    /// What a record that was not written means for its transaction.
    fn delivery_error(&self, error: &KafkaError, topic: &str) -> Error {
        if let Some((code, _)) = self.inner.client().fatal_error() {
            return match code {
                Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => {
                    Error::Fenced { id: self.id.clone() }
                }
                code => Error::Indefinite {
                    what: format!("writing as {}", self.id),
                    detail: code.to_string(),
                },
            };
        }
        match self.log.error(topic, error) {
            stop @ (Error::Denied { .. } | Error::Rejected { .. }) => stop,
            Error::UnknownTopic { .. } => Error::UnknownTopic {
                topic: topic.to_owned(),
            },
            other => Error::Aborted {
                id: self.id.clone(),
                detail: format!("a record for {topic} was not written: {other}"),
            },
        }
    }

    /// Calls again what may be called again.
    fn step(&self, what: &str, mut call: impl FnMut() -> Result<(), KafkaError>) -> Result<(), Error> {
        let deadline = Instant::now() + STEP;
        loop {
            match call() {
                Ok(()) => return Ok(()),
                Err(KafkaError::Transaction(error)) if error.is_retriable() && Instant::now() < deadline => {
                    self.inner.poll(Duration::from_millis(20));
                }
                Err(error) => return Err(self.error(what, &error)),
            }
        }
    }
}

impl Producer for KafkaProducer {
    fn begin(&mut self) -> Result<(), Error> {
        self.inner.context().next_turn();
        self.inner
            .begin_transaction()
            .map_err(|error| self.error("beginning a transaction", &error))
    }

    fn send(&mut self, record: &OutRecord) -> Result<(), Error> {
        let sent = enqueue(&self.inner, record);
        self.inner.poll(Duration::ZERO);
        sent.map_err(|error| self.delivery_error(&error, &record.topic))
    }

    fn commit(&mut self, committed: &[(TopicPartition, Committed)], group: &GroupMetadata) -> Result<(), Error> {
        let Some(group) = group.0.downcast_ref::<ConsumerGroupMetadata>() else {
            return Err(Error::Misuse("the group metadata is of another log".to_owned()));
        };
        if !drain(&self.inner, STEP) {
            let detail = format!("records are not acknowledged after {} s", STEP.as_secs());
            return Err(Error::Aborted {
                id: self.id.clone(),
                detail,
            });
        }
        if let Some((error, topic)) = self.inner.context().take() {
            return Err(self.delivery_error(&error, &topic));
        }
        if !committed.is_empty() {
            let offsets = offsets(committed);
            self.step("sending offsets", || {
                self.inner.send_offsets_to_transaction(&offsets, group, STEP)
            })?;
        }
        self.step("committing a transaction", || self.inner.commit_transaction(STEP))
    }

    fn abort(&mut self) -> Result<(), Error> {
        // Aborting with records queued waits for its whole timeout if nobody polls, and purges them, which leaves a gap in
        // their sequence that the next transaction would fail on: so first let them go out, and purge only what cannot.
        if !drain(&self.inner, PURGE_AFTER) {
            self.inner.purge(PurgeConfig::default().queue().inflight());
            drain(&self.inner, PURGE_AFTER);
        }
        self.step("aborting a transaction", || self.inner.abort_transaction(STEP))?;
        self.inner.context().next_turn();
        Ok(())
    }

    fn end_hanging(
        &mut self,
        group: &str,
        offsets: &[TopicPartition],
        outputs: &[TopicPartition],
    ) -> Result<(), Error> {
        // The broker ends what a producer has open in a partition with the first marker of that producer there, of
        // whichever transaction. So one transaction is begun in all places that could be hanging, and aborted: records
        // that nobody ever sees, and offsets that are never committed.
        let Some(nobody) = self.log.asker(&Role::Offsets(group))?.group_metadata() else {
            return Err(Error::Misuse(format!("group {group} has no metadata")));
        };
        self.begin()?;
        for at in outputs {
            self.send(&OutRecord {
                partition: Some(at.partition),
                ..OutRecord::new(Arc::clone(&at.topic), HANGING, "")
            })?;
        }
        let places: Vec<(TopicPartition, Committed)> = offsets
            .iter()
            .map(|at| {
                let never = Committed {
                    offset: 0,
                    metadata: String::new(),
                };
                (at.clone(), never)
            })
            .collect();
        if !drain(&self.inner, STEP) {
            return Err(Error::Indefinite {
                what: format!("ending what {} left open", self.id),
                detail: format!("records are not acknowledged after {} s", STEP.as_secs()),
            });
        }
        if let Some((error, topic)) = self.inner.context().take() {
            return Err(self.delivery_error(&error, &topic));
        }
        let places = crate::offsets(&places);
        self.step("sending offsets", || {
            self.inner.send_offsets_to_transaction(&places, &nobody, STEP)
        })?;
        self.abort()
    }
}

pub(crate) struct KafkaAppender {
    log: KafkaLog,
    inner: BaseProducer<Context>,
}

impl KafkaAppender {
    pub(crate) fn new(log: KafkaLog) -> Result<Self, Error> {
        let inner: BaseProducer<Context> = log
            .options
            .appender()
            .create_with_context(Context::default())
            .map_err(|error| log.error("making a producer", &error))?;
        Ok(Self { log, inner })
    }
}

impl Appender for KafkaAppender {
    fn append(&mut self, records: &[OutRecord]) -> Result<(), Error> {
        self.inner.context().next_turn();
        for record in records {
            enqueue(&self.inner, record).map_err(|error| self.log.error(&record.topic, &error))?;
            self.inner.poll(Duration::ZERO);
        }
        if !drain(&self.inner, STEP) {
            let detail = format!("not acknowledged after {} s", STEP.as_secs());
            return Err(Error::Indefinite {
                what: "writing records".to_owned(),
                detail,
            });
        }
        match self.inner.context().take() {
            Some((error, topic)) => Err(self.log.error(&topic, &error)),
            None => Ok(()),
        }
    }
}
