//! Telemetry whose producers spread every series over all partitions, put together again by the repartition stage: nothing is
//! lost, doubled or out of order on the way through crashes, and what is found is what well-keyed telemetry leads to.

// the helpers of tests: what goes wrong in them is a failed test
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod broker;
mod simulated;

use suture_codec::{Limits, SampleRef, TelemetryDecoder as _, arrow::Decoder};
use suture_event::Sample;

/// The samples of a record of the topic in between.
fn samples(record: &[u8]) -> Vec<Sample> {
    let mut samples = Vec::new();
    let decoded = Decoder::of_own(Limits::default())
        .decode(record, &mut |sample: SampleRef<'_>| {
            samples.push(sample.to_sample().unwrap());
        })
        .unwrap();
    assert_eq!(decoded.rejected, []);
    samples
}

/// The partition, of so many, that a sample's series belongs in.
fn partition_of(sample: &Sample, partitions: u64) -> usize {
    // instances of a service are in one partition, where they are rolled up
    let service = sample
        .labels
        .iter()
        .filter(|(name, _)| !matches!(*name, "pod" | "instance"));
    let labels = service.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let key = suture_event::SeriesKey {
        metric: sample.metric.clone(),
        labels: suture_event::Labels::new(labels).unwrap(),
    };
    usize::try_from(key.hash64() % partitions).unwrap()
}
