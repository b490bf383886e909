//! A stretch of the shop's life as one value, with nobody acting on it.

use serde_json::Value;
use suture_event::{Edge, Sample, Span};

use crate::{Error, Fault, FaultKind, Options, Shop, Tick};

/// Everything a shop said over a stretch of time, and the truth about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// Every sample, by time.
    pub samples: Vec<Sample>,
    /// CDEvents of every deploy and rollback, by time.
    pub changes: Vec<Value>,
    /// The faults.
    pub truth: Vec<Fault>,
    /// Who calls whom.
    pub topology: Vec<Edge>,
}

/// Runs a shop to its [`Shop::end`] without acting on it. Holds every sample: some 70 bytes each.
///
/// # Errors
/// [`Error`] where an option is out of its bounds.
pub fn record(options: Options) -> Result<Recording, Error> {
    let mut shop = Shop::new(options)?;
    let mut recording = Recording {
        samples: Vec::new(),
        changes: Vec::new(),
        truth: Vec::new(),
        topology: shop.topology(),
    };
    let mut tick = Tick::default();
    while shop.now() < shop.end() {
        shop.advance_into(&mut tick);
        recording.samples.append(&mut tick.samples);
        recording.changes.append(&mut tick.changes);
    }
    recording.truth = shop.truth().to_vec();
    Ok(recording)
}

/// A whole shop day at one sample a minute: sixteen quiet hours, then eight faults an hour apart, bad deploys and others in
/// turn, each repaired by hand after ten minutes. Some 300,000 samples.
///
/// # Errors
/// None for any seed; the type is that of [`record`].
pub fn day(seed: u64) -> Result<Recording, Error> {
    record(Options {
        seed,
        step: Span::from_mins(1),
        warmup: Span::from_hours(16),
        faults: 8,
        kinds: vec![
            FaultKind::BadDeploy,
            FaultKind::SlowDependency,
            FaultKind::BadDeploy,
            FaultKind::SaturatedPool,
            FaultKind::BadDeploy,
            FaultKind::MemoryLeak,
            FaultKind::BadDeploy,
            FaultKind::FullDisk,
        ],
        fault_every: Span::from_mins(60),
        fault_lasts: Some(Span::from_mins(10)),
        deploys_per_day: 12.0,
        ..Options::default()
    })
}
