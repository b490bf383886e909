//! Who may say what: keys, and the signatures on action requests, commands, outcomes and ledger checkpoints.
//!
//! Signatures are Ed25519 ([RFC 8032](https://www.rfc-editor.org/rfc/rfc8032)), which needs no entropy and gives the same
//! bytes for the same words: what is signed can be made again. Checking is strict, so that no second signature passes for the
//! same words. Nothing here reads a clock, a file or the environment; keys are handed in.
//!
//! What is signed is a JSON array that begins with what sort of thing it is, so that a signature on one sort never passes for
//! another, and holds every field that anybody acts on. It takes some 30 µs to sign and 60 µs to check.

mod checkpoint;
mod key;
mod keyring;
mod said;

pub use checkpoint::Checkpoint;
pub use key::{KeyError, PublicKey, SecretKey};
pub use keyring::{Flaw, KeyEntry, Keyring, Role};
pub use said::Said;
