//! Topology, grouping, change correlation: ranked hypotheses with their evidence
//!
//! [`Diagnoser`] is a fold over the anomalies, changes and call edges of one scope. It says which anomalies are one
//! incident, when a group of them is worth one, and what most likely caused it.

mod background;
mod case;
mod diagnoser;
mod options;
mod rank;
mod signal;
mod topology;

pub use diagnoser::{Diagnoser, Input};
pub use options::{
    BackgroundOptions, ChangeOptions, FalseIncidents, GroupOptions, LimitOptions, OpenOptions, Options, Problem,
    RankOptions, ResolveOptions,
};
