//! Shards over a log: poll, step, commit, snapshot, restore, hand over.
//!
//! A shard is a deterministic state machine ([`Fold`]) over one partition. What it puts out and the offset that caused it
//! are committed in one transaction; its state is written to a compacted topic now and then. To recover, the newest
//! snapshot is loaded and the records up to the committed offset are replayed with outputs dropped.

mod fold;
mod options;

pub use fold::{Epoch, EpochCause, Fingerprint, Fold, FoldError, Folds, Outputs, Tick};
pub use options::{OnRepartition, Options, Start};
