//! What can go wrong with a shard or a plane.

use suture_log::{Offset, Recovery, TopicPartition};

use crate::{FoldError, ObjectsError};

/// An error of the runtime.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The log failed.
    #[error(transparent)]
    Log(#[from] suture_log::Error),
    /// A fold could not do its part.
    #[error("shard {shard}: {source}")]
    Fold {
        /// The shard.
        shard: TopicPartition,
        /// What it says.
        source: FoldError,
    },
    /// The replay of the records up to the committed offset came to another state than the one that was committed.
    #[error(
        "shard {shard}: replaying offsets {from} to {to} gave another state than was committed; the engine is not \
         deterministic or a snapshot was tampered with. Keep the state topic and report this; to go on without the \
         shard's state, set the group's offset of this partition anew with the broker's tools"
    )]
    Diverged {
        /// The shard.
        shard: TopicPartition,
        /// Offset of the snapshot.
        from: Offset,
        /// The committed offset.
        to: Offset,
    },
    /// The input topic has another number of partitions than when the shard last committed.
    #[error(
        "topic {topic} has {now} partitions and had {was}: keyed series have moved between shards. Accept that they \
         start anew where they are now, or go back to a topic with {was} partitions"
    )]
    Repartitioned {
        /// The topic.
        topic: String,
        /// How many it had.
        was: i32,
        /// How many it has.
        now: i32,
    },
    /// The group has no offset of a partition that it has worked on.
    #[error(
        "shard {shard}: group {group} has no offset of it, but {trace}: the broker has forgotten how far it was, and from the \
         start all that was said would be said again, actions too. To go on where the partition ends now: \
         kafka-consumer-groups.sh --bootstrap-server … --group {group} --topic {topic} --reset-offsets --to-latest --execute \
         (or --to-datetime, with when it last ran). It then begins without its state, and decide acts on nothing until somebody \
         thaws the scope", topic = .shard.topic
    )]
    OffsetsLost {
        /// The shard.
        shard: TopicPartition,
        /// The group.
        group: String,
        /// What shows that it has worked.
        trace: String,
    },
    /// A topic of the plane does not exist.
    #[error("topic {topic} does not exist; create it, or run with --create-topics if it is one of suture's own")]
    NoTopic {
        /// The topic.
        topic: String,
    },
    /// The state topic would lose snapshots.
    #[error("topic {topic} holds snapshots and must be compacted: set its cleanup.policy to compact")]
    NotCompacted {
        /// The topic.
        topic: String,
    },
    /// The object store that has the shard's snapshots cannot be asked.
    #[error("the object store with the snapshots of {shard} does not answer: {source}")]
    Objects {
        /// The shard.
        shard: TopicPartition,
        /// What it says.
        source: ObjectsError,
    },
    /// Every shard of the plane has stopped.
    #[error("no shard is left running; the last one stopped with: {last}")]
    AllStopped {
        /// Why the last one did.
        last: String,
    },
    /// A thread could not be started or came to a bad end.
    #[error("thread {name}: {detail}")]
    Thread {
        /// Its name.
        name: String,
        /// What happened.
        detail: String,
    },
}

/// What becomes of a shard after an error.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It starts anew, after a wait.
    Restart(Error),
    /// Another process has taken it over.
    Fenced(Error),
    /// It stays where it is until somebody changes something.
    Stop(Error),
}

impl Failure {
    pub(crate) const fn error(&self) -> &Error {
        match self {
            Self::Restart(error) | Self::Fenced(error) | Self::Stop(error) => error,
        }
    }
}

impl From<suture_log::Error> for Failure {
    fn from(error: suture_log::Error) -> Self {
        match (&error, error.recovery()) {
            (suture_log::Error::Fenced { .. }, _) => Self::Fenced(error.into()),
            // a client that has crashed has no more life in it than a process that was killed
            (suture_log::Error::Crashed { .. }, _) | (_, Recovery::Stop) => Self::Stop(error.into()),
            (_, Recovery::Retry | Recovery::Abort | Recovery::Restart) => Self::Restart(error.into()),
        }
    }
}
