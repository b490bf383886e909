//! Wire formats: from record bytes to the vocabulary, and back.
//!
//! | module | reads | writes |
//! | --- | --- | --- |
//! | [`json`] | telemetry samples, one object or an array a record | the same |
//! | [`otlp`] | OpenTelemetry metrics, protobuf and JSON | – |
//! | [`influx`] | telemetry as InfluxDB line protocol | – |
//! | [`remote_write`] | telemetry as Prometheus remote write, versions 1 and 2 | – |
//! | [`fields`] | telemetry as JSON of any shape, that of Telegraf and that of prometheus-kafka-adapter | – |
//! | [`vector`] | telemetry as Vector's metrics in JSON | – |
//! | [`arrow`] | telemetry samples as Arrow IPC streams, many a record | the same |
//! | [`cdevents`] | changes, incidents, action requests | the same |
//! | [`changes`] | changes as GitHub, GitLab, Argo CD, Flux, Kubernetes, LaunchDarkly and Terraform announce them, and plain | – |
//! | [`cloudevents`] | the envelope, structured and binary mode | binary mode |
//! | [`records`] | facts, outcomes, commands, ledger records | the same |
//!
//! Which of them a pipeline file can name, and what each must be able to do, is said by [`TelemetryFormat`] with
//! [`TelemetryDecoder`], and [`ChangeFormat`] with [`ChangeDecoder`].
//!
//! Decoders never panic, whatever the bytes; every bound is in [`Limits`]. In a record of many samples a bad one is
//! reported as [`Rejected`] and the others stand.

pub mod arrow;
pub mod cdevents;
pub mod changes;
pub mod cloudevents;
#[cfg(test)]
mod corrupt;
mod error;
pub mod fields;
mod format;
pub mod influx;
pub mod json;
#[cfg(test)]
mod met;
pub mod otlp;
mod raw;
pub mod records;
pub mod remote_write;
mod sample;
mod sniff;
mod tally;
pub mod vector;

pub use changes::{SniffedChange, sniff_change};
pub use error::{DecodeError, EncodeError, Format, Rejected};
pub use fields::Fields;
pub use format::{ChangeDecoder, ChangeEvent, ChangeFormat, TelemetryDecoder, TelemetryFormat};
pub use sample::{Decoded, Limits, Pairs, PointKind, RawKey, SampleRef, ServiceVersion, Sink, seal};
pub use sniff::{Sniffed, sniff};

/// One record to be produced: key, headers and value. Header values are UTF-8 and never null.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The record's key.
    pub key: String,
    /// Names and values in the order to write them.
    pub headers: Vec<(String, String)>,
    /// The record's value.
    pub value: Vec<u8>,
}

impl Message {
    /// The value of the first header of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Headers as names and bytes, as [`cloudevents::read`] and a log take them.
    pub fn header_bytes(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.headers.iter().map(|(n, v)| (n.as_str(), v.as_bytes()))
    }
}
