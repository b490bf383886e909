//! What a partitioned transactional log is, as traits that fit Apache Kafka, and one in memory with the same semantics.
//!
//! Everything is synchronous: one dedicated OS thread polls a [`Consumer`], and a [`Producer`] lives with the shard that
//! owns its transactional id. The traits are object safe, since they are called once a batch, not once a record, except
//! for [`Producer::send`], whose cost is that of a queue insertion anyway.
//!
//! [`memory::MemoryLog`] keeps the promises that exactly-once rests on: open and aborted records are invisible to
//! read_committed, control markers take up offsets, zombies are fenced by the epoch of their transactional id, and group
//! offsets are part of the transaction. It is the demo's embedded broker, and with seeded faults the ground that the
//! runtime is simulated on.

mod batch;
mod error;
pub mod memory;
mod partitioner;
mod traits;
mod types;

pub use batch::Batch;
pub use error::{Error, Listed, Recovery};
pub use partitioner::partition_of;
pub use suture_event::{Headers, HeadersBuf, RecordRef};
pub use traits::{Appender, Consumer, Log, Producer, Reader, Rebalance};
pub use types::{
    Assignment, Cleanup, Committed, Created, GroupMetadata, GroupOptions, Isolation, Offset, OutRecord, POLL_BYTES,
    Range, TopicInfo, TopicPartition, TopicSpec,
};
