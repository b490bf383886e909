//! Why nobody can be called.

/// What keeps the desk from running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A sink's secret is not there.
    #[error("escalate: sink {sink}: {why}")]
    Secret {
        /// The sink.
        sink: String,
        /// What is wrong, and what to do.
        why: String,
    },
    /// A sink's address, or the sender or a receiver of its e-mails, can't be used.
    #[error("escalate: sink {sink}: {why}")]
    Sink {
        /// The sink.
        sink: String,
        /// What is wrong, without the address, which may be secret.
        why: String,
    },
    /// The HTTP client could not be made.
    #[error("escalate: no HTTP client: {0}; check the certificates and proxy settings of this machine")]
    Client(String),
    /// A topic that must be there is not.
    #[error("escalate: topic {0} does not exist; start `suture run --create-topics` first, or create it")]
    NoTopic(String),
    /// The log refuses, and trying again will not help.
    #[error("escalate: {0}")]
    Log(#[from] suture_log::Error),
}
