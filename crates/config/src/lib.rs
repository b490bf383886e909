//! The pipeline file: parse, validate, explain, estimate.
//!
//! [`Pipeline::parse`] reads a text and tells every problem at once, each with its place. A file goes through these steps,
//! and each tells what it finds: YAML into a tree whose values know their places ([`granit_parser`] reads it, within bounds),
//! environment variables put in, the tree checked against the [`schema()`], overrides merged, and what is left read into
//! [`Pipeline`] and checked for its meaning. A section in which one step finds an error is left out of the next ones, so
//! that the others are still checked and nothing is told twice.
//!
//! The crate is pure: files are read by whoever calls it, and the environment and the check of SQL expressions are handed in.

mod bytes;
mod derive;
mod environment;
mod escalate;
mod estimate;
mod explain;
mod fingerprint;
mod instances;
mod kafka;
mod meaning;
mod pipeline;
mod playbooks;
mod policies;
mod problem;
mod read;
mod reference;
mod rekey;
mod schema;
mod secret;
mod shape;
mod signal;
mod tree;
mod yaml;

pub use bytes::{Bytes, BytesError};
pub use derive::{DeriveMatcher, DeriveRule, Part, ShareOf, SloRule};
pub use environment::Environment;
pub use escalate::{Escalate, Sink, SinkKind, Trigger};
pub use estimate::Estimate;
pub use instances::Instances;
pub use kafka::{Kafka, OwnedTopics, Protocol, State};
pub use meaning::{SqlCheck, SqlProblem, SqlUse, Unchecked};
pub use pipeline::{
    AtSeries, ChangeSource, Clock, LabelEdge, Limits, Pipeline, Scope, ServiceEdge, TelemetrySource, Topology,
};
pub use playbooks::{Linted, lint};
pub use policies::{MOST_POLICY_BYTES, take_policies};
pub use problem::{Level, Look, Problem, Problems};
pub use read::{Checked, decode};
pub use reference::reference;
pub use rekey::Rekey;
pub use schema::schema;
pub use signal::{GlobError, Match, SignalMatcher, SignalRule};
