//! The values that pass between a log and who uses it.

use std::{any::Any, collections::BTreeMap, fmt, sync::Arc};

use suture_event::{ShardId, Span, Timestamp};

use crate::HeadersBuf;

/// A position in a partition: that of the next record to read where it says where somebody is.
pub type Offset = i64;

/// One call of [`Consumer::poll`](crate::Consumer::poll) hands out no further record after so many bytes.
pub const POLL_BYTES: usize = 4 << 20;

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// The partition of that topic.
    #[must_use]
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self {
            topic: topic.into(),
            partition,
        }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

impl From<TopicPartition> for ShardId {
    fn from(from: TopicPartition) -> Self {
        Self {
            topic: from.topic,
            partition: from.partition,
        }
    }
}

impl From<ShardId> for TopicPartition {
    fn from(from: ShardId) -> Self {
        Self {
            topic: from.topic,
            partition: from.partition,
        }
    }
}

/// A record to be written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutRecord {
    /// Where to.
    pub topic: Arc<str>,
    /// The partition; by [`crate::partition_of`] the key where there is none.
    pub partition: Option<i32>,
    /// The key; without one and without a partition the record goes to partition 0.
    pub key: Option<Vec<u8>>,
    /// The value; none is a tombstone for a compacted topic.
    pub value: Option<Vec<u8>>,
    /// Headers, in order.
    pub headers: HeadersBuf,
    /// The record's own time; the log's clock where there is none.
    pub timestamp: Option<Timestamp>,
}

impl OutRecord {
    /// A record with a key and a value.
    #[must_use]
    pub fn new(topic: impl Into<Arc<str>>, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self {
            topic: topic.into(),
            key: Some(key.into()),
            value: Some(value.into()),
            ..Self::default()
        }
    }

    /// Bytes of key, value and headers.
    #[must_use]
    pub fn size(&self) -> usize {
        self.key.as_ref().map_or(0, Vec::len)
            + self.value.as_ref().map_or(0, Vec::len)
            + self.headers.as_headers().packed().len()
    }
}

/// What a group has committed for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The next record to read.
    pub offset: Offset,
    /// Text of the committer's own; empty where there is none.
    pub metadata: String,
}

/// What a partition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Offset of the first record still retained.
    pub start: Offset,
    /// Offset that the next record will get. Records of open transactions lie before it.
    pub end: Offset,
}

/// Which records a reader sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Committed ones only, up to the first that belongs to an open transaction.
    ReadCommitted,
    /// All.
    ReadUncommitted,
}

/// How a consumer comes by its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assignment {
    /// The group's coordinator spreads all partitions of the topics over its members.
    Dynamic {
        /// The topics.
        topics: Vec<String>,
    },
    /// Exactly these, for as long as the consumer lives; a transactional id a partition is then the lease on it.
    Static {
        /// The partitions.
        partitions: Vec<TopicPartition>,
    },
}

/// What a consumer reads, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOptions {
    /// The group that offsets are committed for.
    pub group: String,
    /// How it comes by its partitions.
    pub assignment: Assignment,
    /// Which records it sees.
    pub isolation: Isolation,
}

/// A member's standing in its group when it was asked for: commits that carry an old one are refused. Only the log that
/// made it can read it.
#[derive(Clone)]
pub struct GroupMetadata(pub Arc<dyn Any + Send + Sync>);

impl fmt::Debug for GroupMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GroupMetadata")
    }
}

/// What happens to old records of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleanup {
    /// They go after a time.
    Delete,
    /// The newest of each key stays, the others go.
    Compact,
}

/// A topic to be created or checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// How many partitions; at least one.
    pub partitions: i32,
    /// Copies of each; `None` leaves it to the broker.
    pub replication: Option<i32>,
    /// What happens to old records.
    pub cleanup: Cleanup,
    /// For how long records are kept where `cleanup` is `Delete`; `None` is for good.
    pub retention: Option<Span>,
    /// Further topic settings, as the broker names them.
    pub configs: BTreeMap<String, String>,
}

impl TopicSpec {
    /// A topic whose records are kept for good.
    #[must_use]
    pub fn new(name: impl Into<String>, partitions: i32) -> Self {
        Self {
            name: name.into(),
            partitions,
            replication: None,
            cleanup: Cleanup::Delete,
            retention: None,
            configs: BTreeMap::new(),
        }
    }

    /// The same, compacted.
    #[must_use]
    pub fn compacted(mut self) -> Self {
        self.cleanup = Cleanup::Compact;
        self
    }

    /// The same, with records kept for that long.
    #[must_use]
    pub fn retained(mut self, retention: Span) -> Self {
        self.retention = Some(retention);
        self
    }
}

/// What became of a topic that was to be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// It is new.
    New,
    /// There was one of that name; it was left as it is.
    Existed,
}

/// A topic as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub name: String,
    /// How many partitions.
    pub partitions: i32,
    /// What happens to old records; `None` where the log does not say.
    pub cleanup: Option<Cleanup>,
    /// For how long records are kept; `None` is for good, or not told.
    pub retention: Option<Span>,
}
