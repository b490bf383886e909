//! The way out: what people say goes to the program that this console stands beside.

use std::sync::Arc;

use suture_event::CommandKind;

/// What somebody says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Who says it: the owner of the token it came with.
    pub by: Arc<str>,
    /// The scope it is about.
    pub scope: Arc<str>,
    /// What is asked.
    pub kind: CommandKind,
    /// Why, in words: it goes into the ledger.
    pub reason: String,
}

/// Why a word was not passed on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody here can sign for who says it.
    #[error("{0}")]
    NoKey(String),
    /// The way out is closed just now.
    #[error("{0}")]
    Unavailable(String),
}

/// Whoever takes people's words: signs each with the key of who says it, and puts it where decide reads it.
pub trait Host: Send + Sync {
    /// Passes a word on, and gives the id of the command that it became. What comes of it is seen in the ledger. May block.
    ///
    /// # Errors
    /// Where it could not be passed on: then nothing was said.
    fn say(&self, word: &Word) -> Result<Arc<str>, Refusal>;
}
