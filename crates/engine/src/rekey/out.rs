//! From routed samples to records.

use suture_codec::{
    ServiceVersion,
    arrow::{Encoder, Samples},
};
use suture_event::{Timestamp, impossible};

use super::Rekey;
use crate::{DeadLetter, observe::intake::Taken};

/// A record for one partition of the topic in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    /// The partition.
    pub partition: i32,
    /// An Arrow IPC stream of samples.
    pub value: Vec<u8>,
    /// How many.
    pub samples: usize,
    /// Versions of services, as [`VERSIONS_HEADER`](crate::VERSIONS_HEADER) holds them; mostly absent.
    pub versions: Option<Vec<u8>>,
}

/// What the repartition stage put out, in order.
#[derive(Debug, Default)]
pub struct RekeyOut {
    /// Records for partitions; those of one partition are in order.
    pub records: Vec<Routed>,
    /// Records for the dead-letter topic.
    pub dead_letters: Vec<DeadLetter>,
}

/// What waits to be written to one partition.
#[derive(Debug)]
pub(super) struct Part {
    rows: Vec<u32>,
    ts: Vec<Timestamp>,
    values: Vec<f64>,
    pub(super) versions: Vec<ServiceVersion>,
    /// Bytes of it as a record, at most.
    bytes: usize,
    /// Counts the partition's records, from 1.
    record: u64,
}

impl Default for Part {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            ts: Vec::new(),
            values: Vec::new(),
            versions: Vec::new(),
            bytes: Encoder::RECORD,
            record: 1,
        }
    }
}

impl Rekey {
    /// Hands samples on to what waits for their partitions. What has as many samples or bytes as a record may have is put
    /// out.
    pub(super) fn route(&mut self, taken: &Taken, out: &mut RekeyOut) {
        for ((row, ts), value) in taken.rows.iter().zip(&taken.ts).zip(&taken.values) {
            let Some(route) = self.routes.known.get_mut(*row as usize) else {
                continue;
            };
            let (at, (texts, each)) = (route.partition, route.bytes);
            let Some(part) = self.parts.get_mut(at) else { continue };
            let more = each + if route.record == part.record { 0 } else { texts };
            let full = part.rows.len() >= self.settings.batch_samples
                || part.bytes + more > self.settings.batch_bytes && !part.rows.is_empty();
            if full {
                self.put_out(at, out);
            }
            let (Some(route), Some(part)) = (self.routes.known.get_mut(*row as usize), self.parts.get_mut(at)) else {
                continue;
            };
            if route.record != part.record {
                route.record = part.record;
                part.bytes += texts;
            }
            part.bytes += each;
            part.rows.push(*row);
            part.ts.push(*ts);
            part.values.push(*value);
        }
    }

    /// Puts out everything that waits.
    pub fn flush(&mut self, out: &mut RekeyOut) {
        for at in 0..self.parts.len() {
            self.put_out(at, out);
        }
    }

    fn put_out(&mut self, at: usize, out: &mut RekeyOut) {
        let Some(part) = self.parts.get_mut(at) else { return };
        if part.rows.is_empty() && part.versions.is_empty() {
            return;
        }
        let samples = Samples {
            series: &part.rows,
            ts: &part.ts,
            values: &part.values,
        };
        // Arrow refuses columns of different lengths, and more bytes than its offsets can count: the bounds lie far below
        debug_assert!(part.rows.len() == part.ts.len() && part.rows.len() == part.values.len());
        let value = self.routes.encoder.encode(samples);
        let versions = (!part.versions.is_empty())
            .then(|| serde_json::to_vec(&part.versions))
            .transpose();
        match (value, versions, i32::try_from(at)) {
            (Ok(value), Ok(versions), Ok(partition)) => {
                self.counters.routed += part.rows.len() as u64;
                out.records.push(Routed {
                    partition,
                    value,
                    samples: part.rows.len(),
                    versions,
                });
            }
            _ => {
                // an empty record in their place would lose them without a word
                impossible("samples that cannot be put into a record");
                self.counters.left_out += part.rows.len() as u64;
            }
        }
        part.rows.clear();
        part.ts.clear();
        part.values.clear();
        part.versions.clear();
        part.bytes = Encoder::RECORD;
        part.record += 1;
    }
}
