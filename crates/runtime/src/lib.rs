//! Shards over a log: poll, step, commit, snapshot, restore, hand over.
//!
//! A shard is a deterministic state machine ([`Fold`]) over one partition. What it puts out and the offset that caused it
//! are committed in one transaction; its state is written to a compacted topic now and then. To recover, the newest
//! snapshot is loaded and the records up to the committed offset are replayed with outputs dropped.
//!
//! Shards go as fast as each of them can, unless [`Options::in_step`] keeps them together by the times of their records.

mod backoff;
mod clock;
mod error;
mod fold;
mod host;
mod lease;
mod mailbox;
mod mark;
mod metrics;
mod objects;
mod options;
mod pace;
mod plane;
mod restore;
mod shard;
#[cfg(any(test, feature = "simulation"))]
pub mod simulation;
mod state;
mod writer;

pub use clock::{Clock, SystemClock};
pub use error::Error;
pub use fold::{Epoch, EpochCause, Fingerprint, Fold, FoldError, Folds, Outputs, Tick};
pub use metrics::{Counter, Gauge, Histogram, Metrics, Phase, ShardMetrics};
pub use objects::{Objects, ObjectsError};
pub use options::{OnLostOffsets, OnRepartition, Options, Start};
pub use plane::{Plane, Shutdown};

#[cfg(test)]
mod tests;
