//! The folds of Suture and their snapshots.
//!
//! [`Observe`] is the fold over one input partition: it decodes, windows and detects, and says what it found as facts.
//! [`Decide`] is the fold over one facts partition: it diagnoses, remediates, and writes incidents, action requests and
//! the ledger. [`Rekey`] is the fold in front of both where producers did not key by series: from the records of one
//! telemetry partition to records for the partitions that their series belong in. None of them knows a clock, a network or a file: time arrives in the records, and so the same records give the
//! same outputs on every run, however they are cut into batches.

mod decide;
mod error;
mod expression;
mod model;
mod observe;
mod raw;
mod rekey;
mod reorder;
mod series;
mod source;
mod twice;

pub use decide::{Decide, DecideCounters, DecideOut};
pub use error::EngineError;
pub use expression::{Expressions, Filter, NoExpressions, Rows, ValueOf};
pub use model::{Model, ModelAbout};
pub use observe::{Band, DeadLetter, Observe, ObserveCounters, ObserveOut, RecordRef, ScoreRow, SuppressedAlarm};
pub use rekey::{Rekey, RekeyCounters, RekeyOut, Routed, VERSIONS_HEADER};
pub use source::{Source, SourceKind};
pub use twice::SeenTwice;

/// The version of the folds. A snapshot of another one is carried over where its shape fits, and opens a new epoch.
pub const ENGINE_VERSION: u32 = 3;
