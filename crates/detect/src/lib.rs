//! Streaming detectors: calibrated scores with the band that was expected.
//!
//! A [`Bank`] watches many series under one set of [`Options`]. It is fed one window of many series at a time, a
//! [`Column`], and answers with a score for each entry and with the [`Episode`]s that begin, grow or end there. It is a
//! fold: no clock, no entropy, no input or output; the same columns give the same answers, however they are cut.
//!
//! # Cost
//!
//! The default detectors take some 100 ns a window and exactly 365 bytes a series ([`Bank::bytes_per_series`]), of which the
//! profile of the day is 144; the weekly season takes 524 more. A series that is not calm takes some 100 bytes more as long
//! as that lasts. Nothing is allocated but for the words of an episode. `cargo run --release -p suture-benches --bin prices`
//! measures all of this.

mod bank;
mod budget;
mod character;
mod discovery;
pub mod drift;
mod episode;
mod fast;
pub mod mix;
mod options;
mod recurring;
mod season;
mod seasonal;
mod sequence;
pub mod several;
mod shift;
pub mod slo;
mod state;
mod step;
mod tail;
mod watch;
mod whiten;
mod words;

pub use bank::{Bank, Column, SeriesHints};
pub use budget::{AlarmBudget, Budget, Suppressed};
pub use discovery::DiscoveryOptions;
pub use episode::Episode;
pub use options::{
    DetectorName, Detectors, EpisodeOptions, LeakOptions, LeastEffect, LimitOptions, Options, SeasonOptions,
    SequenceMode, Side, SilenceOptions, Thresholds, Towards,
};
pub use suture_event::{Checker, Problem};
pub use words::number;

/// What can go wrong in this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The options make no sense.
    #[error("{0}")]
    Options(Problem),
    /// Arrow could not read or write a snapshot.
    #[error("arrow could not read or write the detectors' snapshot: {0}; start cold or use an earlier snapshot")]
    Arrow(String),
    /// The snapshot is not of these detectors.
    #[error("the detectors' snapshot does not fit: {0}; start cold or use the program that wrote it")]
    Snapshot(String),
}

impl Error {
    #[allow(clippy::needless_pass_by_value)] // for map_err
    pub(crate) fn arrow(error: arrow_schema::ArrowError) -> Self {
        Self::Arrow(error.to_string())
    }
}
