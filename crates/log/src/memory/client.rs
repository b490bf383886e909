//! Clients of the log in memory.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    MemoryLog,
    faults::Operation,
    group::{Member, MemberName, Standing},
    partition::Next,
    state::out_of_range,
};
use crate::{
    Appender, Assignment, Committed, Consumer, Error, GroupMetadata, GroupOptions, Isolation, Offset, OutRecord,
    POLL_BYTES, Producer, Reader, Rebalance, RecordRef, TopicPartition,
};

pub(super) struct MemoryConsumer {
    log: MemoryLog,
    options: GroupOptions,
    rebalance: Mutex<Box<dyn Rebalance>>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    member: Option<Member>,
    begun: bool,
    closed: bool,
    positions: BTreeMap<TopicPartition, Position>,
    /// Partitions take turns: who was served last.
    served: Option<TopicPartition>,
}

struct Position {
    next: Offset,
    paused: bool,
}

impl MemoryConsumer {
    pub(super) fn new(log: MemoryLog, options: GroupOptions, rebalance: Box<dyn Rebalance>) -> Self {
        Self {
            log,
            options,
            rebalance: Mutex::new(rebalance),
            inner: Mutex::new(Inner::default()),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn assigned(&self, partitions: &[TopicPartition]) {
        if partitions.is_empty() {
            return;
        }
        let starts = self
            .rebalance
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .assigned(partitions);
        let mut inner = self.inner();
        for at in partitions {
            let next = starts
                .iter()
                .find(|(start, _)| start == at)
                .and_then(|(_, offset)| *offset);
            inner.positions.insert(
                at.clone(),
                Position {
                    next: next.unwrap_or(0),
                    paused: next.is_none(),
                },
            );
        }
    }

    fn revoked(&self, partitions: &[TopicPartition], lost: bool) {
        if partitions.is_empty() {
            return;
        }
        self.rebalance
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .revoked(partitions, lost);
        let mut inner = self.inner();
        for at in partitions {
            inner.positions.remove(at);
        }
    }

    /// Lets go of what others are to have, then takes what is free.
    fn settle(&self) {
        let (member, begun) = {
            let mut inner = self.inner();
            (inner.member, std::mem::replace(&mut inner.begun, true))
        };
        let topics = match &self.options.assignment {
            Assignment::Static { partitions } => {
                if !begun {
                    self.assigned(partitions);
                }
                return;
            }
            Assignment::Dynamic { topics } => topics,
        };
        let group = &self.options.group;
        let member = match member {
            Some(member) if self.log.shared.lock().group(group).is_member(member) => member,
            was => {
                if was.is_some() {
                    let lost: Vec<TopicPartition> = self.inner().positions.keys().cloned().collect();
                    self.revoked(&lost, true);
                }
                let member = self.log.shared.lock().join(group, self.log.plan.name(), topics);
                self.inner().member = Some(member);
                member
            }
        };
        let release = self.log.shared.lock().group(group).to_release(member);
        if !release.is_empty() {
            self.revoked(&release, false);
            self.log.shared.lock().group(group).release(member, &release);
            self.log.shared.notify();
        }
        let taken = self.log.shared.lock().group(group).take(member);
        self.assigned(&taken);
    }

    /// Hands out what there is, one partition after the other.
    fn fetch(&self, max: usize, sink: &mut dyn FnMut(&str, i32, RecordRef<'_>)) -> Result<usize, Error> {
        let disturbance = self.log.plan.disturb();
        let max = disturbance.at_most.map_or(max, |most| most.min(max));
        let mut inner = self.inner();
        let state = self.log.shared.lock();
        let Inner { positions, served, .. } = &mut *inner;
        let mut order: Vec<TopicPartition> = positions.keys().cloned().collect();
        let turn = served.as_ref().map_or(0, |last| order.partition_point(|at| at <= last));
        order.rotate_left(turn);
        let (mut count, mut bytes) = (0, 0);
        for at in order {
            let Some(position) = positions.get_mut(&at).filter(|position| !position.paused) else {
                continue;
            };
            let Ok(partition) = state.partition(&at) else { continue };
            let mut next = position.next;
            if disturbance.back > 0 {
                next = (next - disturbance.back).max(partition.range().start.min(next));
            }
            while count < max && bytes < POLL_BYTES {
                match partition.next(next, self.options.isolation) {
                    Next::Record(record) => {
                        sink(&at.topic, at.partition, record);
                        next = record.offset + 1;
                        count += 1;
                        bytes += record.size();
                    }
                    // the position stays behind markers, as a Kafka client's does
                    Next::End(_) => break,
                    Next::OutOfRange => return Err(out_of_range(at)),
                }
            }
            position.next = position.next.max(next);
            if count == max || bytes >= POLL_BYTES {
                *served = Some(at);
                break;
            }
        }
        Ok(count)
    }
}

impl Consumer for MemoryConsumer {
    fn poll(
        &self,
        timeout: Duration,
        max: usize,
        sink: &mut dyn FnMut(&str, i32, RecordRef<'_>),
    ) -> Result<usize, Error> {
        self.log.plan.check(Operation::Poll)?;
        if self.inner().closed {
            return Err(Error::Misuse("the consumer is closed".to_owned()));
        }
        let deadline = Instant::now() + timeout;
        loop {
            self.settle();
            let count = self.fetch(max, sink)?;
            let left = deadline.saturating_duration_since(Instant::now());
            if count > 0 || left.is_zero() {
                return Ok(count);
            }
            let state = self.log.shared.lock();
            // a notice that comes between the fetch and here is seen one slice later
            let slice = left.min(Duration::from_millis(10));
            drop(
                self.log
                    .shared
                    .changed
                    .wait_timeout(state, slice)
                    .unwrap_or_else(PoisonError::into_inner),
            );
        }
    }

    fn group_metadata(&self) -> Result<GroupMetadata, Error> {
        let inner = self.inner();
        if inner.closed {
            return Err(Error::Misuse("the consumer is closed".to_owned()));
        }
        let standing = Standing {
            group: self.options.group.clone(),
            member: MemberName(inner.member),
        };
        Ok(GroupMetadata(Arc::new(standing)))
    }

    fn seek(&self, partition: &TopicPartition, offset: Offset) -> Result<(), Error> {
        match self.inner().positions.get_mut(partition) {
            Some(position) => {
                *position = Position {
                    next: offset,
                    paused: false,
                };
                Ok(())
            }
            None => Err(Error::UnknownPartition(partition.clone())),
        }
    }

    fn pause(&self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.set_paused(partitions, true)
    }

    fn resume(&self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.set_paused(partitions, false)
    }

    fn commit(&self, offsets: &[(TopicPartition, Committed)]) -> Result<(), Error> {
        let after = self.log.plan.before(Operation::Commit)?;
        let member = self.inner().member;
        let standing = Standing {
            group: self.options.group.clone(),
            member: MemberName(member),
        };
        self.log.shared.lock().commit_outside(&standing, offsets)?;
        after.done("committing offsets")
    }

    fn close(&self) {
        let (member, held) = {
            let mut inner = self.inner();
            if std::mem::replace(&mut inner.closed, true) || self.log.plan.crashed() {
                return;
            }
            (inner.member, inner.positions.keys().cloned().collect::<Vec<_>>())
        };
        self.revoked(&held, false);
        if let Some(member) = member {
            self.log.shared.lock().leave(&self.options.group, member);
            self.log.shared.notify();
        }
    }
}

impl MemoryConsumer {
    fn set_paused(&self, partitions: &[TopicPartition], paused: bool) -> Result<(), Error> {
        let mut inner = self.inner();
        for at in partitions {
            let position = inner
                .positions
                .get_mut(at)
                .ok_or_else(|| Error::UnknownPartition(at.clone()))?;
            position.paused = paused;
        }
        Ok(())
    }
}

pub(super) struct MemoryProducer {
    log: MemoryLog,
    id: String,
    epoch: u64,
}

impl MemoryProducer {
    pub(super) const fn new(log: MemoryLog, id: String, epoch: u64) -> Self {
        Self { log, id, epoch }
    }
}

impl Producer for MemoryProducer {
    fn begin(&mut self) -> Result<(), Error> {
        let after = self.log.plan.before(Operation::Begin)?;
        self.log.shared.lock().begin(&self.id, self.epoch)?;
        after.done("beginning a transaction")
    }

    fn send(&mut self, record: &OutRecord) -> Result<(), Error> {
        let after = self.log.plan.before(Operation::Send)?;
        let now = self.log.now();
        self.log.shared.lock().send(&self.id, self.epoch, record, now)?;
        after.done("sending a record")
    }

    fn commit(&mut self, offsets: &[(TopicPartition, Committed)], group: &GroupMetadata) -> Result<(), Error> {
        let Some(standing) = group.0.downcast_ref::<Standing>() else {
            return Err(Error::Misuse("the group metadata is of another log".to_owned()));
        };
        let after = self.log.plan.before(Operation::SendOffsets)?;
        self.log
            .shared
            .lock()
            .send_offsets(&self.id, self.epoch, offsets, standing)?;
        after.done("sending offsets")?;
        let after = self.log.plan.before(Operation::Commit)?;
        let now = self.log.now();
        self.log.shared.lock().end(&self.id, self.epoch, true, now)?;
        self.log.shared.notify();
        after.done("committing a transaction")
    }

    fn abort(&mut self) -> Result<(), Error> {
        let after = self.log.plan.before(Operation::Abort)?;
        let now = self.log.now();
        self.log.shared.lock().end(&self.id, self.epoch, false, now)?;
        self.log.shared.notify();
        after.done("aborting a transaction")
    }
}

pub(super) struct MemoryAppender {
    log: MemoryLog,
}

impl MemoryAppender {
    pub(super) const fn new(log: MemoryLog) -> Self {
        Self { log }
    }
}

impl Appender for MemoryAppender {
    fn append(&mut self, records: &[OutRecord]) -> Result<(), Error> {
        let after = self.log.plan.before(Operation::Send)?;
        let now = self.log.now();
        let mut state = self.log.shared.lock();
        for record in records {
            state.append(record, now, None)?;
        }
        drop(state);
        self.log.shared.notify();
        after.done("appending records")
    }
}

pub(super) struct MemoryReader {
    log: MemoryLog,
    partition: TopicPartition,
    next: Offset,
    isolation: Isolation,
    /// Where the partition ended when it was first asked.
    end: Option<Offset>,
}

impl MemoryReader {
    pub(super) const fn new(log: MemoryLog, partition: TopicPartition, next: Offset, isolation: Isolation) -> Self {
        Self {
            log,
            partition,
            next,
            isolation,
            end: None,
        }
    }
}

impl Reader for MemoryReader {
    fn read(&mut self, timeout: Duration, max: usize, sink: &mut dyn FnMut(RecordRef<'_>)) -> Result<bool, Error> {
        self.log.plan.check(Operation::Poll)?;
        let deadline = Instant::now() + timeout;
        loop {
            let state = self.log.shared.lock();
            let partition = state.partition(&self.partition)?;
            let end = *self.end.get_or_insert(partition.range().end);
            let mut count = 0;
            while count < max {
                match partition.next(self.next, self.isolation) {
                    Next::Record(record) => {
                        self.next = record.offset + 1;
                        count += 1;
                        sink(record);
                    }
                    Next::End(at) => {
                        self.next = at;
                        break;
                    }
                    Next::OutOfRange => return Err(out_of_range(self.partition.clone())),
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if self.next >= end || count > 0 || left.is_zero() {
                return Ok(self.next >= end);
            }
            drop(
                self.log
                    .shared
                    .changed
                    .wait_timeout(state, left)
                    .unwrap_or_else(PoisonError::into_inner),
            );
        }
    }
}
