//! What can go wrong with an executor.

use suture_event::Problem;

/// Why an executor cannot run, or cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The options have problems: all of them.
    #[error("execute: {}", Problem::lines(.0))]
    Options(Vec<Problem>),
    /// It would act, and knows no key by which to tell whose requests these are.
    #[error(
        "execute: no keys, and an executor that acts takes no request without a permit: list decide's public key under \
         `remediate.keys` in the pipeline file (`suture keys new` makes one), or use --dry-run"
    )]
    NoKeys,
    /// The HTTP client could not be made.
    #[error("execute: no HTTP client: {0}; check the certificates and proxy settings of this machine")]
    Client(String),
    /// The log refuses, and trying again will not help.
    #[error("execute: {0}")]
    Log(#[from] suture_log::Error),
    /// A topic that must be there is not.
    #[error("execute: topic {0} does not exist; start `suture run --create-topics` first, or create it")]
    NoTopic(String),
}
