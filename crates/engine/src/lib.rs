//! The folds of Suture and their snapshots.
//!
//! [`Observe`] is the fold over one input partition: it decodes, windows and detects, and says what it found as facts.
//! [`Decide`] is the fold over one facts partition: it diagnoses, remediates, and writes incidents, action requests and
//! the ledger. [`Rekey`] is the fold in front of both where producers did not key by series: from the records of one
//! telemetry partition to records for the partitions that their series belong in. None of them knows a clock, a network or a file: time arrives in the records, and so the same records give the
//! same outputs on every run, however they are cut into batches.

mod ahead;
mod blob;
mod decide;
mod error;
mod expression;
mod model;
mod observe;
mod raw;
mod rekey;
mod reorder;
mod seal;
mod series;
mod source;
mod stopped;
mod twice;
mod versions;
mod written;

pub use decide::{Decide, DecideCounters, DecideOut, Standing};
pub use error::EngineError;
pub use expression::{Expressions, Filter, NoExpressions, Rows, ValueOf};
pub use model::{Model, ModelAbout};
pub use observe::{Band, DeadLetter, Observe, ObserveCounters, ObserveOut, ScoreRow, SuppressedAlarm, Warmth};
pub use rekey::{Rekey, RekeyCounters, RekeyOut, Routed};
pub use seal::Seal;
pub use source::{Source, SourceKind};
/// What was made of a group of anomalies: see [`Decide::explain`].
pub use suture_diagnose::{Verdict, VerdictOutcome};
pub use suture_event::{Headers, HeadersBuf, RecordRef};
pub use twice::SeenTwice;
pub use versions::VERSIONS_HEADER;

/// The version of the folds: another one may say other things of the same records. A state of an earlier one is carried over
/// and opens a new epoch.
pub const ENGINE_VERSION: u32 = 8;

/// The version whose states, and models, and all since can be gone on from.
pub const OLDEST_STATE: u32 = 3;

/// Why a state or model of that version cannot be gone on from, if it cannot.
fn misfit(version: u32) -> Option<String> {
    (!(OLDEST_STATE..=ENGINE_VERSION).contains(&version)).then(|| {
        format!("it is of engine version {version}, this is {ENGINE_VERSION} and goes on from {OLDEST_STATE} and later")
    })
}
