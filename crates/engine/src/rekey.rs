//! The fold in front of observe, for producers that do not key by series: it puts the samples of one telemetry partition
//! into records for the partitions that their series belong in.

mod out;
mod state;

use std::{collections::BTreeMap, sync::Arc};

use rustc_hash::FxHashMap;
use suture_codec::{PointKind, RawKey, Rejected, SampleRef, ServiceVersion, Sink, TelemetryDecoder, arrow::Encoder};
use suture_config::{Pipeline, Rekey as Settings};
use suture_event::{RecordRef, SeriesKey, ShardId, SignalKind, Timestamp, impossible, stable_hash};

use self::out::Part;
pub use self::out::{RekeyOut, Routed};
use crate::{
    DeadLetter, EngineError, Source,
    observe::intake::{Taken, decoder_of, identity_kept, too_large},
    raw::RawSlots,
    series::Slot,
};

/// Counts since the start of the process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RekeyCounters {
    /// Records taken.
    pub records: u64,
    /// Samples decoded.
    pub samples: u64,
    /// Samples that the pipeline's conditions left out.
    pub left_out: u64,
    /// Samples refused because they were from too far in the future.
    pub future: u64,
    /// Samples refused because a name and labels alone were too large for a record.
    pub too_large: u64,
    /// Samples put into records for their partitions.
    pub routed: u64,
    /// Records that went to the dead letters, wholly or in part.
    pub dead_letters: u64,
}

/// The fold over one telemetry partition.
///
/// Each sample goes to a partition by a stable hash of its series, or of the labels that the pipeline names, and the samples
/// of one partition keep their order, so that those of one series do. Into how many records they are put depends on how the
/// input comes in batches, since everything that was taken in must be put out before its offset is committed; which samples
/// a partition gets, and in which order, does not.
///
/// Expressions of the telemetry topic are applied here, and what cannot be read is refused here, once.
pub struct Rekey {
    pipeline: Arc<Pipeline>,
    settings: Settings,
    shard: ShardId,
    source: Source,
    /// Absent only while a record is being decoded.
    decoder: Option<Box<dyn TelemetryDecoder>>,
    taken: Taken,
    routes: Routes,
    parts: Vec<Part>,
    newest: Timestamp,
    /// Last version seen of each service.
    versions: BTreeMap<Arc<str>, Arc<str>>,
    digest: u64,
    counters: RekeyCounters,
}

/// Where a series goes.
struct Route {
    key: SeriesKey,
    hash: u64,
    point: (PointKind, Option<SignalKind>),
    partition: usize,
    /// Bytes that its texts add to a record, and each of its samples.
    bytes: (usize, usize),
    /// The record of its partition in which it was last put.
    record: u64,
}

/// The series met so far. All of it is found again by decoding a sample in full, so it is in no snapshot, and is forgotten
/// where it grows beyond its bound. A row is a series' number at the encoder too.
struct Routes {
    raw: RawSlots,
    slots: FxHashMap<u64, Slot>,
    known: Vec<Route>,
    encoder: Encoder,
}

impl Routes {
    fn new(most: usize) -> Self {
        Self {
            raw: RawSlots::new(most),
            slots: FxHashMap::default(),
            known: Vec::new(),
            encoder: Encoder::default(),
        }
    }

    fn clear(&mut self) {
        self.raw.clear();
        self.slots.clear();
        self.known.clear();
        self.encoder.clear();
    }
}

/// The partition, of so many, of what has this hash.
fn partition_of(hash: u64, partitions: usize) -> usize {
    debug_assert!(partitions > 0, "nowhere to put a series");
    // below the number of partitions, which is a usize
    usize::try_from(hash % partitions.max(1) as u64).unwrap_or(0)
}

/// By what a series is put into a partition: its own hash, or that of the labels by which series are put together. `hash` is
/// that of what it is judged as: an instance's goes where those of its siblings go.
fn route_hash(key: &SeriesKey, hash: u64, by: &[String]) -> u64 {
    if by.iter().all(|label| key.labels.get(label).is_none()) {
        return hash;
    }
    stable_hash(
        by.iter()
            .map(|label| key.labels.get(label).unwrap_or_default().as_bytes()),
    )
}

/// Where the decoder's samples go: to the rows of their series.
struct Routing<'a> {
    routes: &'a mut Routes,
    pipeline: &'a Pipeline,
    source: &'a Source,
    settings: &'a Settings,
    taken: &'a mut Taken,
    left_out: u64,
    /// The time beyond which a sample is from the future.
    latest: Option<Timestamp>,
}

impl Sink for Routing<'_> {
    fn known(&mut self, key: RawKey, ts: Timestamp, value: f64) -> bool {
        let Some(slot) = self.routes.raw.get(key) else {
            return false;
        };
        if self.taken.is_timely(ts, self.latest) {
            self.take(slot, ts, value);
        }
        true
    }

    fn sample(&mut self, sample: SampleRef<'_>, key: Option<RawKey>) {
        if !self.taken.is_timely(sample.ts, self.latest) {
            return;
        }
        let slot = match self.routes.slots.get(&sample.hash) {
            Some(slot) => *slot,
            None => self.register(&sample),
        };
        if let Some(key) = key {
            self.routes.raw.put(key, slot);
        }
        if let Slot::Row(row) = slot
            && let Some(route) = self.routes.known.get_mut(row as usize)
            && route.point != (sample.kind, sample.signal)
        {
            route.point = (sample.kind, sample.signal);
            self.routes.encoder.set_point(row, sample.kind, sample.signal);
        }
        self.take(slot, sample.ts, sample.value);
    }
}

impl Routing<'_> {
    fn take(&mut self, slot: Slot, ts: Timestamp, value: f64) {
        match slot {
            Slot::Row(row) => self.taken.push(row, ts, value),
            Slot::LeftOut => self.left_out += 1,
            Slot::Refused | Slot::Crowded => self.taken.refused += 1,
        }
    }

    /// Meets a series for the first time.
    fn register(&mut self, sample: &SampleRef<'_>) -> Slot {
        let Ok(key) = sample.key() else { return Slot::Refused };
        let slot = if identity_kept(self.source, &key, sample) {
            self.add(key, sample)
        } else {
            Slot::LeftOut
        };
        self.routes.slots.insert(sample.hash, slot);
        slot
    }

    fn add(&mut self, key: SeriesKey, sample: &SampleRef<'_>) -> Slot {
        let Routes { encoder, known, .. } = &mut *self.routes;
        let bytes = Encoder::bytes_of(&key);
        if Encoder::RECORD + bytes.0 + bytes.1 > self.settings.batch_bytes {
            return Slot::Refused;
        }
        let row = encoder.add(&key, sample.kind, sample.signal);
        // instances of a service come together, so that they are rolled up whole
        let hash = self
            .pipeline
            .rolled_up_from(&key)
            .map_or(sample.hash, |key| key.hash64());
        let hash = route_hash(&key, hash, &self.settings.by);
        known.push(Route {
            partition: partition_of(hash, self.settings.partitions as usize),
            key,
            hash: sample.hash,
            point: (sample.kind, sample.signal),
            bytes,
            record: 0,
        });
        Slot::Row(row)
    }
}

impl Rekey {
    /// A fold with nothing in it.
    ///
    /// # Errors
    /// Where the pipeline has no `rekey`.
    pub fn new(pipeline: Arc<Pipeline>, shard: ShardId, source: Source) -> Result<Self, EngineError> {
        let settings = pipeline.rekey.clone().ok_or(EngineError::NoRekey)?;
        let parts = (0..settings.partitions).map(|_| Part::default()).collect();
        Ok(Self {
            decoder: decoder_of(&pipeline, &source),
            taken: Taken::default(),
            routes: Routes::new(pipeline.limits.series),
            parts,
            pipeline,
            settings,
            shard,
            source,
            newest: Timestamp::MIN,
            versions: BTreeMap::new(),
            digest: 0,
            counters: RekeyCounters::default(),
        })
    }

    /// The shard this is.
    #[must_use]
    pub const fn shard(&self) -> &ShardId {
        &self.shard
    }

    /// Takes one record. Its samples are put out by the next [`Self::flush`] at the latest, which must come before a commit.
    pub fn record(&mut self, record: RecordRef<'_>, out: &mut RekeyOut) {
        self.counters.records += 1;
        let bytes = record.value.unwrap_or_default();
        if let Some(reason) = too_large(bytes, self.pipeline.limits.record_bytes) {
            return self.refuse(record.offset, reason, 0, out);
        }
        if self.routes.slots.len() >= self.pipeline.limits.series {
            // what waits is in rows that are about to be forgotten
            self.flush(out);
            self.routes.clear();
        }
        let Some(mut decoder) = self.decoder.take() else {
            impossible("telemetry without a decoder");
            return;
        };
        let mut taken = std::mem::take(&mut self.taken);
        let mut routing = Routing {
            routes: &mut self.routes,
            pipeline: &self.pipeline,
            source: &self.source,
            settings: &self.settings,
            taken: &mut taken,
            left_out: 0,
            latest: record.timestamp.map(|at| at.plus(self.pipeline.limits.future)),
        };
        let decoded = decoder.decode(bytes, &mut routing);
        let left_out = routing.left_out;
        self.decoder = Some(decoder);
        self.counters.left_out += left_out;
        match decoded {
            // as in observe: of a record that is no record, nothing is taken
            Err(error) => self.refuse(record.offset, error.to_string(), 0, out),
            Ok(decoded) => {
                self.counters.samples += decoded.accepted as u64;
                self.express(&mut taken, record.offset, out);
                self.complain(record.offset, &decoded.rejected, &taken, out);
                self.note(record.offset, &taken);
                self.route(&taken, out);
                for version in decoded.versions {
                    self.version(version);
                }
            }
        }
        taken.clear();
        self.taken = taken;
    }

    fn express(&mut self, taken: &mut Taken, offset: i64, out: &mut RekeyOut) {
        let known = &self.routes.known;
        match taken.express(&self.source, |row| known.get(row as usize).map(|route| &route.key)) {
            Ok(left_out) => self.counters.left_out += left_out,
            Err(reason) => {
                let samples = taken.rows.len() as u64;
                taken.clear();
                self.refuse(offset, reason, samples, out);
            }
        }
    }

    /// One dead letter for all that was wrong with a record.
    fn complain(&mut self, offset: i64, rejected: &[Rejected], taken: &Taken, out: &mut RekeyOut) {
        let refused = || {
            format!(
                "{} samples whose name and labels alone take more than a record may: send shorter ones, or raise \
                 rekey.batch_bytes ({})",
                taken.refused, self.settings.batch_bytes
            )
        };
        let complaints = taken.complaints(rejected, self.pipeline.limits.future, refused);
        self.counters.too_large += taken.refused;
        self.counters.future += taken.future;
        if let Some((reason, samples)) = complaints {
            self.refuse(offset, reason, samples, out);
        }
    }

    /// Folds what was taken in into the digest.
    fn note(&mut self, offset: i64, taken: &Taken) {
        let mut sum = 0_u64;
        for ((row, ts), value) in taken.rows.iter().zip(&taken.ts).zip(&taken.values) {
            let hash = self.routes.known.get(*row as usize).map_or(0, |route| route.hash);
            let sample = hash ^ (ts.as_millis() as u64).rotate_left(20) ^ value.to_bits().rotate_left(40);
            sum = sum.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(sample);
            self.newest = self.newest.max(*ts);
        }
        self.digest = stable_hash([
            self.digest.to_le_bytes().as_slice(),
            &offset.to_le_bytes(),
            &taken.rows.len().to_le_bytes(),
            &sum.to_le_bytes(),
        ]);
    }

    /// A version of a service goes where the others of the service went, for observe to tell what is new.
    fn version(&mut self, seen: ServiceVersion) {
        let known = self.versions.get(&seen.service);
        if known == Some(&seen.version) {
            return;
        }
        if known.is_none() && self.versions.len() >= self.pipeline.limits.series {
            return;
        }
        self.versions.insert(seen.service.clone(), seen.version.clone());
        let at = partition_of(stable_hash([seen.service.as_bytes()]), self.parts.len());
        if let Some(part) = self.parts.get_mut(at) {
            part.versions.push(seen);
        }
    }

    fn refuse(&mut self, offset: i64, reason: String, samples: u64, out: &mut RekeyOut) {
        self.counters.dead_letters += 1;
        out.dead_letters.push(DeadLetter {
            offset,
            reason,
            samples,
        });
    }

    /// Event time of the newest sample taken in; `Timestamp::MIN` before the first.
    #[must_use]
    pub const fn newest(&self) -> Timestamp {
        self.newest
    }

    /// A number that differs, but for chance, where two runs took in other samples.
    #[must_use]
    pub const fn digest(&self) -> u64 {
        self.digest
    }

    /// What was counted.
    #[must_use]
    pub const fn counters(&self) -> RekeyCounters {
        self.counters
    }
}
