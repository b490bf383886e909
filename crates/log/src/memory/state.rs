//! What the broker knows: topics, transactional ids, groups.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use suture_event::Timestamp;

use super::{
    MemoryOptions,
    group::{Group, Member, Standing},
    partition::{Partition, Transaction},
};
use crate::{
    Cleanup, Committed, Created, Error, Listed, OutRecord, TopicInfo, TopicPartition, TopicSpec, partition_of,
};

struct Topic {
    spec: TopicSpec,
    partitions: Vec<Partition>,
}

#[derive(Default)]
struct Identity {
    epoch: u64,
    open: Option<Open>,
}

struct Open {
    transaction: Transaction,
    touched: BTreeSet<(Arc<str>, usize)>,
    offsets: Vec<(String, TopicPartition, Committed)>,
}

pub(super) struct State {
    options: MemoryOptions,
    topics: BTreeMap<Arc<str>, Topic>,
    identities: BTreeMap<String, Identity>,
    groups: BTreeMap<String, Group>,
    transactions: Transaction,
    members: u64,
}

impl State {
    pub(super) const fn new(options: MemoryOptions) -> Self {
        Self {
            options,
            topics: BTreeMap::new(),
            identities: BTreeMap::new(),
            groups: BTreeMap::new(),
            transactions: 0,
            members: 0,
        }
    }

    // topics

    pub(super) fn create_topic(&mut self, spec: &TopicSpec) -> Created {
        if self.topics.contains_key(spec.name.as_str()) {
            return Created::Existed;
        }
        let partitions = (0..spec.partitions.max(1)).map(|_| Partition::default()).collect();
        self.topics.insert(
            spec.name.as_str().into(),
            Topic {
                spec: spec.clone(),
                partitions,
            },
        );
        self.rebalance();
        Created::New
    }

    pub(super) fn delete_topic(&mut self, name: &str) {
        self.topics.remove(name);
        self.rebalance();
    }

    pub(super) fn add_partitions(&mut self, name: &str, partitions: i32) -> Result<(), Error> {
        let topic = self
            .topics
            .get_mut(name)
            .ok_or_else(|| Error::UnknownTopic { topic: name.to_owned() })?;
        let wanted = usize::try_from(partitions).unwrap_or(0).max(topic.partitions.len());
        topic.partitions.resize_with(wanted, Partition::default);
        self.rebalance();
        Ok(())
    }

    pub(super) fn topic_info(&self, name: &str) -> Option<TopicInfo> {
        self.topics.get(name).map(|topic| TopicInfo {
            name: name.to_owned(),
            partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
            cleanup: Some(topic.spec.cleanup),
            retention: topic.spec.retention,
        })
    }

    pub(super) fn partition(&self, at: &TopicPartition) -> Result<&Partition, Error> {
        usize::try_from(at.partition)
            .ok()
            .and_then(|index| self.topics.get(&at.topic)?.partitions.get(index))
            .ok_or_else(|| Error::UnknownPartition(at.clone()))
    }

    pub(super) fn partition_mut(&mut self, at: &TopicPartition) -> Result<&mut Partition, Error> {
        usize::try_from(at.partition)
            .ok()
            .and_then(|index| self.topics.get_mut(&at.topic)?.partitions.get_mut(index))
            .ok_or_else(|| Error::UnknownPartition(at.clone()))
    }

    pub(super) fn compact(&mut self, name: &str) -> Result<(), Error> {
        let topic = self
            .topics
            .get_mut(name)
            .ok_or_else(|| Error::UnknownTopic { topic: name.to_owned() })?;
        topic.partitions.iter_mut().for_each(Partition::compact);
        Ok(())
    }

    pub(super) fn append(
        &mut self,
        record: &OutRecord,
        now: Timestamp,
        transaction: Option<Transaction>,
    ) -> Result<(Arc<str>, usize), Error> {
        let (limit, keep, least) = (
            self.options.record_bytes,
            self.options.partition_bytes,
            self.options.compact_bytes,
        );
        let rejected = |detail: String| Error::Rejected {
            topic: record.topic.to_string(),
            detail,
        };
        if record.size() > limit {
            return Err(rejected(format!(
                "{} bytes are more than the log's {limit}",
                record.size()
            )));
        }
        let unknown = || Error::UnknownTopic {
            topic: record.topic.to_string(),
        };
        let topic = self.topics.get_mut(&record.topic).ok_or_else(unknown)?;
        if topic.spec.cleanup == Cleanup::Compact && record.key.is_none() {
            return Err(rejected("a compacted topic takes no record without a key".to_owned()));
        }
        let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        let index = match (record.partition, &record.key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_of(key, count),
            (None, None) => 0,
        };
        let missing = || Error::UnknownPartition(TopicPartition::new(Arc::clone(&record.topic), index));
        let index = usize::try_from(index).map_err(|_| missing())?;
        let partition = topic.partitions.get_mut(index).ok_or_else(missing)?;
        partition.append(record, now, transaction);
        match topic.spec.cleanup {
            Cleanup::Delete if partition.bytes() > keep => partition.shrink(keep),
            Cleanup::Compact if partition.wants_compaction(least) => partition.compact(),
            Cleanup::Delete | Cleanup::Compact => {}
        }
        Ok((Arc::clone(&record.topic), index))
    }

    // transactions

    pub(super) fn fence(&mut self, id: &str) -> u64 {
        let identity = self.identities.entry(id.to_owned()).or_default();
        identity.epoch += 1;
        let epoch = identity.epoch;
        if let Some(open) = identity.open.take() {
            self.finish(&open, false, Timestamp::MIN);
        }
        epoch
    }

    fn identity(&mut self, id: &str, epoch: u64) -> Result<&mut Identity, Error> {
        match self.identities.get_mut(id) {
            Some(identity) if identity.epoch == epoch => Ok(identity),
            _ => Err(Error::Fenced { id: id.to_owned() }),
        }
    }

    pub(super) fn begin(&mut self, id: &str, epoch: u64) -> Result<(), Error> {
        let transaction = self.transactions + 1;
        let identity = self.identity(id, epoch)?;
        if identity.open.is_some() {
            return Err(Error::Misuse(format!("{id} has a transaction open already")));
        }
        identity.open = Some(Open {
            transaction,
            touched: BTreeSet::new(),
            offsets: Vec::new(),
        });
        self.transactions = transaction;
        Ok(())
    }

    pub(super) fn send(&mut self, id: &str, epoch: u64, record: &OutRecord, now: Timestamp) -> Result<(), Error> {
        let none = || Error::Misuse(format!("{id} has no transaction open"));
        let transaction = self.identity(id, epoch)?.open.as_ref().ok_or_else(none)?.transaction;
        let place = self.append(record, now, Some(transaction))?;
        if let Some(open) = &mut self.identity(id, epoch)?.open {
            open.touched.insert(place);
        }
        Ok(())
    }

    /// Makes offsets part of the open transaction.
    pub(super) fn send_offsets(
        &mut self,
        id: &str,
        epoch: u64,
        offsets: &[(TopicPartition, Committed)],
        standing: &Standing,
    ) -> Result<(), Error> {
        self.identity(id, epoch)?;
        if !self.groups.entry(standing.group.clone()).or_default().accepts(standing) {
            return Err(Error::Aborted {
                id: id.to_owned(),
                detail: format!(
                    "member {} is not, or no longer, in group {}",
                    standing.member, standing.group
                ),
            });
        }
        let group = standing.group.clone();
        let none = || Error::Misuse(format!("{id} has no transaction open"));
        let open = self.identity(id, epoch)?.open.as_mut().ok_or_else(none)?;
        open.offsets.extend(
            offsets
                .iter()
                .map(|(at, committed)| (group.clone(), at.clone(), committed.clone())),
        );
        Ok(())
    }

    pub(super) fn end(&mut self, id: &str, epoch: u64, commit: bool, now: Timestamp) -> Result<(), Error> {
        let identity = self.identity(id, epoch)?;
        match identity.open.take() {
            Some(open) => {
                self.finish(&open, commit, now);
                Ok(())
            }
            None if commit => Err(Error::Misuse(format!("{id} has no transaction open"))),
            None => Ok(()),
        }
    }

    fn finish(&mut self, open: &Open, commit: bool, now: Timestamp) {
        for (topic, index) in &open.touched {
            if let Some(partition) = self
                .topics
                .get_mut(topic)
                .and_then(|topic| topic.partitions.get_mut(*index))
            {
                partition.end_transaction(open.transaction, commit, now);
            }
        }
        if commit {
            for (group, at, committed) in &open.offsets {
                self.groups
                    .entry(group.clone())
                    .or_default()
                    .offsets
                    .insert(at.clone(), committed.clone());
            }
        }
    }

    // groups

    pub(super) fn committed(&self, group: &str, at: &[TopicPartition]) -> Result<Vec<Option<Committed>>, Error> {
        let pending = self.identities.values().filter_map(|identity| identity.open.as_ref());
        let mut pending = pending.flat_map(|open| &open.offsets).filter(|(g, ..)| g == group);
        if let Some((_, partition, _)) = pending.find(|(_, partition, _)| at.contains(partition)) {
            return Err(Error::Busy {
                what: format!("reading the offset of {partition} in group {group}"),
                detail: "a transaction that sets it is open".to_owned(),
            });
        }
        Ok(self.committed_before(group, at))
    }

    pub(super) fn committed_before(&self, group: &str, at: &[TopicPartition]) -> Vec<Option<Committed>> {
        let group = self.groups.get(group);
        at.iter()
            .map(|at| group.and_then(|group| group.offsets.get(at)).cloned())
            .collect()
    }

    pub(super) fn commit_outside(
        &mut self,
        standing: &Standing,
        offsets: &[(TopicPartition, Committed)],
    ) -> Result<(), Error> {
        let group = self.groups.entry(standing.group.clone()).or_default();
        if !group.accepts(standing) {
            return Err(Error::Indefinite {
                what: format!("committing offsets of group {}", standing.group),
                detail: "this member is no longer in it".to_owned(),
            });
        }
        group.offsets.extend(offsets.iter().cloned());
        Ok(())
    }

    pub(super) fn join(&mut self, group: &str, client: &str, topics: &[String]) -> Member {
        self.members += 1;
        let member = self.members;
        self.groups
            .entry(group.to_owned())
            .or_default()
            .join(member, client, topics);
        self.rebalance();
        member
    }

    pub(super) fn group(&mut self, group: &str) -> &mut Group {
        self.groups.entry(group.to_owned()).or_default()
    }

    pub(super) fn leave(&mut self, group: &str, member: Member) {
        self.group(group).leave(member);
        self.rebalance();
    }

    pub(super) fn forget_offsets(&mut self, group: &str) {
        self.group(group).offsets.clear();
    }

    pub(super) fn expel(&mut self, client: &str) {
        self.groups.values_mut().for_each(|group| group.expel(client));
        self.rebalance();
    }

    fn rebalance(&mut self) {
        let partitions: BTreeMap<Arc<str>, usize> = self
            .topics
            .iter()
            .map(|(name, topic)| (Arc::clone(name), topic.partitions.len()))
            .collect();
        self.groups.values_mut().for_each(|group| group.rebalance(&partitions));
    }
}

pub(super) const fn out_of_range(partition: TopicPartition) -> Error {
    Error::OutOfRange {
        partition: Listed(Some(partition)),
    }
}
