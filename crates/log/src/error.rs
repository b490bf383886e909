//! What can go wrong with a log, and what is left to do about it.

use crate::TopicPartition;

/// What a caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// Nothing happened: call again, after a while.
    Retry,
    /// The transaction cannot be committed: abort it, then send the same again in a new one.
    Abort,
    /// What happened is not known, or the client is of no more use: drop it and start the shard anew.
    Restart,
    /// Trying again will not help until somebody changes something.
    Stop,
}

/// An error of a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No broker answers.
    #[error("no broker answers at {at}: {detail}; check bootstrap.servers and that the broker is up")]
    Unreachable {
        /// The addresses that were tried.
        at: String,
        /// What the client says.
        detail: String,
    },
    /// The broker refuses for want of rights.
    #[error("the broker does not allow {what}: {detail}; grant the right to this client's user")]
    Denied {
        /// What was asked for: an operation and the topic, group or transactional id.
        what: String,
        /// What the client says.
        detail: String,
    },
    /// There is no such topic.
    #[error("topic {topic} does not exist; create it, or run with --create-topics if it is one of suture's own")]
    UnknownTopic {
        /// The topic.
        topic: String,
    },
    /// There is no such partition.
    #[error("partition {0} does not exist")]
    UnknownPartition(TopicPartition),
    /// Another producer has taken over the transactional id: this one is a zombie.
    #[error("transactional id {id} was taken over by another process: this one must let go of its shard")]
    Fenced {
        /// The transactional id.
        id: String,
    },
    /// The transaction failed as a whole and left nothing behind, once aborted.
    #[error("the transaction of {id} cannot be committed: {detail}")]
    Aborted {
        /// The transactional id.
        id: String,
        /// Why.
        detail: String,
    },
    /// It is not known whether the operation took place.
    #[error("{what} ended without a definite answer: {detail}")]
    Indefinite {
        /// What was done.
        what: String,
        /// What the client says.
        detail: String,
    },
    /// The operation did not take place, and may if called again.
    #[error("{what} is not possible just now: {detail}")]
    Busy {
        /// What was tried.
        what: String,
        /// What the client says.
        detail: String,
    },
    /// The offsets are held back by a transaction that is about to change them, and has not ended for long.
    #[error("offsets of group {group} are held back by a transaction that does not end")]
    Unstable {
        /// The group.
        group: String,
    },
    /// The position lies outside what the log retains.
    #[error("the position of {partition} lies outside what the log retains")]
    OutOfRange {
        /// The partition; `None` where the client does not say which.
        partition: Listed,
    },
    /// A record that the log will never take, too large for one.
    #[error("a record for topic {topic} was rejected: {detail}")]
    Rejected {
        /// The topic.
        topic: String,
        /// Why.
        detail: String,
    },
    /// A setting the client does not take.
    #[error("client setting {key}: {detail}")]
    Setting {
        /// Its key.
        key: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A call out of order, such as sending without a transaction.
    #[error("{0}")]
    Misuse(String),
    /// The process is to be taken for dead from here on; only simulations see it.
    #[error("simulated crash at step {step}")]
    Crashed {
        /// Number of the log operation at which it happened.
        step: u64,
    },
}

/// A partition, or the admission that it is not known which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed(pub Option<TopicPartition>);

impl std::fmt::Display for Listed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(partition) => partition.fmt(f),
            None => f.write_str("a partition"),
        }
    }
}

impl Error {
    /// What is left to do.
    #[must_use]
    pub const fn recovery(&self) -> Recovery {
        match self {
            Self::Busy { .. } | Self::Unreachable { .. } | Self::Unstable { .. } => Recovery::Retry,
            Self::Aborted { .. } => Recovery::Abort,
            Self::Fenced { .. } | Self::Indefinite { .. } | Self::OutOfRange { .. } | Self::Crashed { .. } => {
                Recovery::Restart
            }
            Self::Denied { .. }
            | Self::UnknownTopic { .. }
            | Self::UnknownPartition(_)
            | Self::Rejected { .. }
            | Self::Setting { .. }
            | Self::Misuse(_) => Recovery::Stop,
        }
    }
}
