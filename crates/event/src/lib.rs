//! The vocabulary of Suture: what a record means once it is decoded, and what leaves each room of the line.
//!
//! Nothing here decides anything, and nothing here knows how a record is written: that is the business of `suture-codec`.
//! Every type is a value that serialises to the JSON of Suture's own topics and of replay files.

mod action;
mod anomaly;
mod canonical;
mod change;
mod digest;
mod fact;
mod freeze;
mod impossible;
mod incident;
mod ledger;
mod problem;
mod record;
mod series;
mod signal;
mod time;
mod verb;

pub use action::{
    ActionRequest, ActionStep, Approval, Call, Command, CommandKind, ExecutorMode, FreezeEpoch, Outcome, OutcomeStatus,
    Permit, Rung, Seal, Weighed,
};
pub use anomaly::{Anomaly, AnomalyPhase, Direction, EndReason};
pub use canonical::{canonical, serialize_canonical};
pub use change::{Change, ChangeKind, Edge, EdgeSource, Watched};
pub use digest::{hex16, stable_hash, stable_uuid};
pub use fact::{Carried, EpochNote, Fact, FactBody, Progress, SeriesMark, ShardId};
pub use freeze::Freezes;
pub use impossible::{impossibilities, impossible};
pub use incident::{
    Evidence, EvidenceKind, Hypothesis, HypothesisKind, Incident, IncidentSignal, IncidentStatus, Resolution, Severity,
    SignalState,
};
pub use ledger::{Cause, Damage, LedgerError, LedgerRecord, Tampering, damage, verify_chain};
pub use problem::{Checker, Problem};
pub use record::{Headers, HeadersBuf, RecordRef};
pub use series::{LabelError, Labels, MAX_LABELS, Sample, SeriesKey};
pub use signal::SignalKind;
pub use time::{Span, SpanError, Timestamp, TimestampError};
pub use verb::{COMMON, Parameter, Reversibility, Shape, VERBS, Verb, parameter_flaws};
