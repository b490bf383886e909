//! What a log does.

use std::{sync::Arc, time::Duration};

use crate::{
    Committed, Created, Error, GroupMetadata, GroupOptions, Isolation, Offset, OutRecord, Range, RecordRef, TopicInfo,
    TopicPartition, TopicSpec,
};

/// A partitioned transactional log: what Kafka is to this program. Cheap to share; every method may block for as long as
/// the client's own time limits allow.
pub trait Log: Send + Sync {
    /// Joins a group, or takes partitions by itself. `rebalance` is called from within [`Consumer::poll`] and
    /// [`Consumer::close`], on the thread that calls them.
    ///
    /// # Errors
    /// Where the client cannot be made; an unreachable broker shows in [`Consumer::poll`] only.
    fn consumer(&self, options: &GroupOptions, rebalance: Box<dyn Rebalance>) -> Result<Arc<dyn Consumer>, Error>;

    /// A producer with that transactional id. When it is there, every earlier one with the same id is fenced and its open
    /// transaction is aborted.
    ///
    /// # Errors
    /// Where the client cannot be made or the coordinator not be reached, or the id is not allowed.
    fn producer(&self, transactional_id: &str) -> Result<Box<dyn Producer>, Error>;

    /// A producer outside of any transaction, for who has nothing to commit with what it writes.
    ///
    /// # Errors
    /// Where the client cannot be made.
    fn appender(&self) -> Result<Box<dyn Appender>, Error>;

    /// Reads one partition from an offset on, outside of any group.
    ///
    /// # Errors
    /// Where the client cannot be made or there is no such partition.
    fn reader(&self, partition: &TopicPartition, from: Offset, isolation: Isolation) -> Result<Box<dyn Reader>, Error>;

    /// What the group has committed, one entry for each partition in order; `None` where it has nothing. Waits for
    /// transactions that are about to change it.
    ///
    /// # Errors
    /// [`Error::Busy`] while such a transaction stays open; otherwise where the coordinator cannot be reached.
    fn committed(&self, group: &str, partitions: &[TopicPartition]) -> Result<Vec<Option<Committed>>, Error>;

    /// The same without waiting: of a transaction that is about to change it, nothing is seen yet.
    ///
    /// # Errors
    /// Where the coordinator cannot be reached.
    fn committed_before(&self, group: &str, partitions: &[TopicPartition]) -> Result<Vec<Option<Committed>>, Error> {
        self.committed(group, partitions)
    }

    /// What the partition holds now, asked of its leader.
    ///
    /// # Errors
    /// Where there is no such partition or its leader cannot be reached.
    fn range(&self, partition: &TopicPartition) -> Result<Range, Error>;

    /// The topic as it is; `None` where there is none.
    ///
    /// # Errors
    /// Where no broker can be reached or the topic may not be described.
    fn topic(&self, name: &str) -> Result<Option<TopicInfo>, Error>;

    /// Creates topics; one that exists is left alone.
    ///
    /// # Errors
    /// The first that could not be created.
    fn create_topics(&self, topics: &[TopicSpec]) -> Result<Vec<Created>, Error>;
}

/// Told of a consumer's partitions coming and going.
pub trait Rebalance: Send {
    /// These are now the consumer's. Each starts at the offset given back for it; one with `None` stays paused until
    /// [`Consumer::seek`].
    fn assigned(&mut self, partitions: &[TopicPartition]) -> Vec<(TopicPartition, Option<Offset>)>;

    /// These go to others once this returns; with `lost` they have already gone, and nothing may be committed for them.
    fn revoked(&mut self, partitions: &[TopicPartition], lost: bool);
}

/// A member of a group. One thread polls it; only [`Consumer::group_metadata`] may be called from others.
pub trait Consumer: Send + Sync {
    /// Hands up to `max` records to `sink` (topic, partition, record), those of one partition in order of offset, and
    /// gives their number. Waits for the first up to `timeout`, then takes what is there, but no more once the records
    /// handed out come to [`POLL_BYTES`](crate::POLL_BYTES).
    ///
    /// # Errors
    /// [`Error::OutOfRange`] where a position is no longer retained. After [`Recovery::Retry`](crate::Recovery::Retry)
    /// polling may go on; otherwise the consumer is to be dropped.
    fn poll(
        &self,
        timeout: Duration,
        max: usize,
        sink: &mut dyn FnMut(&str, i32, RecordRef<'_>),
    ) -> Result<usize, Error>;

    /// The member's present standing, for [`Producer::commit`]. Ask anew for each commit.
    ///
    /// # Errors
    /// Where the consumer is closed.
    fn group_metadata(&self) -> Result<GroupMetadata, Error>;

    /// Goes on from another offset, and resumes the partition if it was paused: nothing fetched before is handed out
    /// after this.
    ///
    /// # Errors
    /// Where the partition is not assigned.
    fn seek(&self, partition: &TopicPartition, offset: Offset) -> Result<(), Error>;

    /// Stops handing out records of these.
    ///
    /// # Errors
    /// Where one is not assigned.
    fn pause(&self, partitions: &[TopicPartition]) -> Result<(), Error>;

    /// Goes on handing them out.
    ///
    /// # Errors
    /// Where one is not assigned.
    fn resume(&self, partitions: &[TopicPartition]) -> Result<(), Error>;

    /// Commits offsets outside of any transaction, for who writes nothing that must go with them.
    ///
    /// # Errors
    /// Where the member is no longer in the group, or the coordinator cannot be reached.
    fn commit(&self, offsets: &[(TopicPartition, Committed)]) -> Result<(), Error>;

    /// Gives up all partitions (by [`Rebalance::revoked`]) and leaves the group.
    fn close(&self);
}

/// Writes transactions under a transactional id. After an error whose recovery is not
/// [`Recovery::Abort`](crate::Recovery::Abort) it is to be dropped.
pub trait Producer: Send {
    /// Opens a transaction.
    ///
    /// # Errors
    /// [`Error::Fenced`] once another has the id.
    fn begin(&mut self) -> Result<(), Error>;

    /// Puts a record into the transaction. That it got there is known after [`Self::commit`] only.
    ///
    /// # Errors
    /// Where it cannot be queued or the producer is fenced.
    fn send(&mut self, record: &OutRecord) -> Result<(), Error>;

    /// Commits the records sent, together with the group's offsets, or neither. Offsets are those of the next records to
    /// read.
    ///
    /// # Errors
    /// [`Error::Aborted`] where nothing was committed; [`Error::Fenced`]; [`Error::Indefinite`] where it is not known.
    fn commit(&mut self, offsets: &[(TopicPartition, Committed)], group: &GroupMetadata) -> Result<(), Error>;

    /// Gives up the open transaction.
    ///
    /// # Errors
    /// [`Error::Fenced`]; [`Error::Indefinite`] where it may still be open.
    fn abort(&mut self) -> Result<(), Error>;

    /// Ends what a predecessor of the same id has left open in the group's offsets of `offsets` and in `outputs`, as
    /// aborted: for a log that says the predecessor's transaction is over ([`Log::producer`] has returned) and has lost
    /// what ends it ([`Error::Unstable`]). Nothing else comes of it. A log that cannot lose that does nothing.
    ///
    /// # Errors
    /// As those of [`Self::commit`].
    fn end_hanging(
        &mut self,
        group: &str,
        offsets: &[TopicPartition],
        outputs: &[TopicPartition],
    ) -> Result<(), Error> {
        let _ = (group, offsets, outputs);
        Ok(())
    }
}

/// Writes records outside of any transaction.
pub trait Appender: Send {
    /// Writes the records and waits until all of them are there, in order for each partition.
    ///
    /// # Errors
    /// Any of them may or may not be there.
    fn append(&mut self, records: &[OutRecord]) -> Result<(), Error>;
}

/// Reads one partition.
pub trait Reader: Send {
    /// Hands up to `max` records to `sink`, waiting for the first up to `timeout`. `true` once everything that the
    /// partition held when it was asked has been handed out.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] where the position is not retained.
    fn read(&mut self, timeout: Duration, max: usize, sink: &mut dyn FnMut(RecordRef<'_>)) -> Result<bool, Error>;
}
