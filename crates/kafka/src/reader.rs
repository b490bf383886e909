//! One partition from an offset on, outside of any group.

use std::time::{Duration, Instant};

use rdkafka::Message as _;
use rdkafka::{
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode as Code},
};
use suture_log::{
    Error, HeadersBuf, Isolation, Listed, Log as _, Offset, POLL_BYTES, Reader, RecordRef, TopicPartition,
};

use crate::{
    ASK, KafkaLog,
    config::{Quiet, Role},
    consumer::hand_out,
    list,
};

pub(crate) struct KafkaReader {
    log: KafkaLog,
    inner: BaseConsumer<Quiet>,
    partition: TopicPartition,
    next: Offset,
    /// Where the partition ended when it was first asked.
    end: Offset,
    /// The client has said that there is no more for now.
    drained: bool,
    scratch: HeadersBuf,
}

impl KafkaReader {
    pub(crate) fn new(
        log: KafkaLog,
        partition: TopicPartition,
        next: Offset,
        isolation: Isolation,
    ) -> Result<Self, Error> {
        let range = log.range(&partition)?;
        if next < range.start || next > range.end {
            return Err(Error::OutOfRange {
                partition: Listed(Some(partition)),
            });
        }
        let inner: BaseConsumer<Quiet> = log
            .options
            .consumer(&Role::Reader(isolation))
            .create_with_context(Quiet)
            .map_err(|error| log.error("making a reader", &error))?;
        let assigned = inner.assign(&list(std::iter::once((&partition, Some(next)))));
        assigned.map_err(|error| log.error("assigning", &error))?;
        Ok(Self {
            log,
            inner,
            partition,
            next,
            end: range.end,
            drained: false,
            scratch: HeadersBuf::default(),
        })
    }

    /// Whether everything up to `end` has been handed out or will never be.
    fn is_at_end(&self) -> Result<bool, Error> {
        if self.next >= self.end {
            return Ok(true);
        }
        if !self.drained {
            return Ok(false);
        }
        // what is left is markers and aborted records, unless a transaction is still open: in read_committed the end
        // that the broker tells lies before it
        let asked = self
            .inner
            .fetch_watermarks(&self.partition.topic, self.partition.partition, ASK);
        let (_, visible) = asked.map_err(|error| self.log.error("asking for the end", &error))?;
        Ok(visible >= self.end)
    }
}

impl Reader for KafkaReader {
    fn read(&mut self, timeout: Duration, max: usize, sink: &mut dyn FnMut(RecordRef<'_>)) -> Result<bool, Error> {
        let deadline = Instant::now() + timeout;
        let (mut count, mut bytes) = (0, 0);
        loop {
            let wait = if count == 0 {
                deadline.saturating_duration_since(Instant::now())
            } else {
                Duration::ZERO
            };
            match self.inner.poll(wait.min(Duration::from_millis(100))) {
                Some(Ok(message)) => {
                    self.drained = false;
                    self.next = message.offset() + 1;
                    count += 1;
                    bytes += hand_out(&message, &mut self.scratch, sink);
                    if count >= max || bytes >= POLL_BYTES {
                        return Ok(self.next >= self.end);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    self.drained = true;
                    if count > 0 || self.is_at_end()? {
                        return self.is_at_end();
                    }
                }
                Some(Err(KafkaError::MessageConsumption(Code::AutoOffsetReset | Code::OffsetOutOfRange))) => {
                    return Err(Error::OutOfRange {
                        partition: Listed(Some(self.partition.clone())),
                    });
                }
                Some(Err(KafkaError::MessageConsumption(
                    Code::BrokerTransportFailure | Code::AllBrokersDown | Code::Resolve,
                ))) => {
                    // the client connects again by itself
                }
                Some(Err(error)) => return Err(self.log.error(&format!("reading {}", self.partition), &error)),
                None if count > 0 => return Ok(self.next >= self.end),
                None => {}
            }
            if self.next >= self.end {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return self.is_at_end();
            }
        }
    }
}
