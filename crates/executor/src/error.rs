//! What can go wrong with an executor.

/// Something in the options that cannot be, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, from the options' root: `actions[1]`.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

impl Problem {
    pub(crate) fn new(path: impl Into<String>, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
            help: help.into(),
        }
    }
}

/// Why an executor cannot run, or cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The options have problems: all of them.
    #[error("execute: {}", texts(.0))]
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

fn texts(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems
        .iter()
        .map(|p| format!("{}: {}; {}", p.path, p.message, p.help))
        .collect();
    lines.join("\n")
}
