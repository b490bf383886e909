//! The pipeline file: parse, validate, explain, estimate.

mod bytes;
mod environment;
mod fingerprint;
mod kafka;
mod pipeline;
mod problem;
mod signal;
mod tree;
mod yaml;

pub use bytes::{Bytes, BytesError};
pub use kafka::{Kafka, OwnedTopics};
pub use pipeline::{
    ChangeFormat, ChangeSource, Clock, LabelEdge, Limits, Pipeline, Scope, ServiceEdge, TelemetryFormat,
    TelemetrySource, Topology,
};
pub use signal::{GlobError, Match, SignalMatcher, SignalRule};
