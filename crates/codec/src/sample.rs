//! Samples on their way from bytes to series: borrowed, with the identity of their series worked out.

use std::{borrow::Cow, sync::Arc};

use serde::{Deserialize, Serialize};
use suture_event::{LabelError, Labels, MAX_LABELS, Sample, SeriesKey, SignalKind, Timestamp};
use xxhash_rust::xxh3::xxh3_64;

use super::{DecodeError, Rejected};

/// Bounds on what a record may hold. What passes one is rejected and reported, never cut to fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Labels of one series.
    pub labels: usize,
    /// Bytes of a metric's or label's name.
    pub name_bytes: usize,
    /// Bytes of a label's value.
    pub value_bytes: usize,
    /// Bytes of all names and values of a series' labels together.
    pub label_bytes: usize,
    /// Samples or data points of one record; those beyond are left out and reported once.
    pub samples: usize,
    /// Buckets of one histogram.
    pub buckets: usize,
    /// Cumulative histograms of which the last point is remembered, so that quantiles of the time between two points can
    /// be told. Those beyond get no quantiles.
    pub histograms: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            labels: MAX_LABELS,
            name_bytes: 512,
            value_bytes: 4_096,
            label_bytes: 64 << 10,
            samples: 100_000,
            buckets: 1_024,
            histograms: 100_000,
        }
    }
}

/// What a number stands for, as far as its format says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PointKind {
    /// The format does not say.
    Unspecified,
    /// A level at a point in time.
    Gauge,
    /// What was added since the point before: to be summed.
    Delta {
        /// Whether it is never negative.
        monotonic: bool,
    },
    /// What was added since `start`: if monotonic, a counter, whose increase matters and which starts again from 0 when
    /// `start` moves or it falls; otherwise a level.
    Cumulative {
        /// Whether it never falls but for a reset.
        monotonic: bool,
    },
}

/// One decoded sample, borrowed from the record and the decoder's scratch space.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SampleRef<'a> {
    /// When it was measured.
    pub ts: Timestamp,
    /// The metric's name.
    pub metric: &'a str,
    /// What was measured; finite.
    pub value: f64,
    /// Names and values of the series' labels, sorted by name, each name once.
    pub labels: &'a [(Cow<'a, str>, Cow<'a, str>)],
    /// The identity of the series in 64 bits: that of [`SeriesKey::hash64`].
    pub hash: u64,
    /// The identity of the series in full, for those who would tell two series of one hash apart.
    pub identity: &'a [u8],
    /// What the value stands for.
    pub kind: PointKind,
    /// Since when a cumulative or delta value was counted, where the format says.
    pub start: Option<Timestamp>,
    /// What the series measures, where the format shows that the metric's name would mislead: the `count` of a histogram
    /// of durations is traffic.
    pub signal: Option<SignalKind>,
}

impl SampleRef<'_> {
    /// The series, owned: for the first time that a series is seen.
    ///
    /// # Errors
    /// Never for a sample that came out of a decoder, which has checked that no label is given twice.
    pub fn key(&self) -> Result<SeriesKey, LabelError> {
        let labels = Labels::new(
            self.labels
                .iter()
                .map(|(n, v)| (Arc::<str>::from(&**n), Arc::<str>::from(&**v))),
        )?;
        Ok(SeriesKey {
            metric: self.metric.into(),
            labels,
        })
    }

    /// The sample, owned.
    ///
    /// # Errors
    /// As [`Self::key`].
    pub fn to_sample(&self) -> Result<Sample, LabelError> {
        let SeriesKey { metric, labels } = self.key()?;
        Ok(Sample {
            ts: self.ts,
            metric,
            value: self.value,
            labels,
        })
    }
}

/// A version of a service that a record's resource names. A new one is a deploy that nobody may have announced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceVersion {
    /// `service.name`.
    pub service: Arc<str>,
    /// `service.version`.
    pub version: Arc<str>,
    /// `deployment.environment.name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Arc<str>>,
    /// The earliest data point of the record that came from it.
    pub at: Timestamp,
}

/// What became of a record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Samples handed to the sink.
    pub accepted: usize,
    /// Data points that say by themselves that they hold no value.
    pub without_value: usize,
    /// Histogram points beyond [`Limits::histograms`], for which no quantiles were told.
    pub without_quantiles: usize,
    /// What was left out.
    pub rejected: Vec<Rejected>,
    /// Versions of services seen, each once.
    pub versions: Vec<ServiceVersion>,
}

/// A series by the very bytes that name it in a record, in 128 bits: whoever met a sample with this key need not read the
/// name and labels of the next one. A series may have many, one for each way of writing it, but no two series share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RawKey(pub u128);

/// Takes the samples of records in, in their order.
///
/// A decoder that can tell a series from its bytes asks [`Sink::known`] first, and decodes the sample in full only where
/// the answer is no: so names and labels are read once a series and not once a sample.
pub trait Sink {
    /// Takes a sample of a series that was met under this key; `false`, and nothing taken, where it was not or is
    /// forgotten.
    fn known(&mut self, key: RawKey, ts: Timestamp, value: f64) -> bool {
        let _ = (key, ts, value);
        false
    }

    /// Takes samples, in their order, up to the first whose series is not known, and tells how many these are: what
    /// [`Self::known`] would do for each.
    fn known_run(&mut self, keys: &[RawKey], ts: &[Timestamp], values: &[f64]) -> usize {
        let mut samples = keys.iter().zip(ts).zip(values);
        let unknown = samples.position(|((key, ts), value)| !self.known(*key, *ts, *value));
        unknown.unwrap_or_else(|| keys.len().min(ts.len()).min(values.len()))
    }

    /// Takes a sample decoded in full; its series may be remembered under the key, where there is one.
    fn sample(&mut self, sample: SampleRef<'_>, key: Option<RawKey>);
}

impl<F: FnMut(SampleRef<'_>)> Sink for F {
    fn sample(&mut self, sample: SampleRef<'_>, _: Option<RawKey>) {
        self(sample);
    }
}

/// Names and values of labels being collected.
pub type Pairs<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// Memory that is used again from sample to sample and from record to record.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pairs: Pairs<'static>,
    pub(super) identity: Vec<u8>,
}

impl Scratch {
    pub(super) fn lend<'a>(&mut self) -> Pairs<'a> {
        std::mem::take(&mut self.pairs)
    }

    /// Takes the labels' memory back. The borrowed texts are gone by then; an empty vector collected into one of the same
    /// layout keeps its allocation, which is how it outlives the record without unsafe code.
    pub(super) fn take_back(&mut self, mut pairs: Pairs<'_>) {
        pairs.clear();
        self.pairs = pairs
            .into_iter()
            .map(|_| (Cow::Borrowed(""), Cow::Borrowed("")))
            .collect();
    }
}

/// Sorts the labels, checks them against the limits, and writes the series' identity. Returns its hash.
///
/// # Errors
/// Where the metric or a label has no name, a limit is passed, or a label is given twice.
pub fn seal(metric: &str, pairs: &mut Pairs<'_>, limits: &Limits, identity: &mut Vec<u8>) -> Result<u64, DecodeError> {
    if metric.is_empty() {
        return Err(DecodeError::unfit("metric", "empty", "name what is measured"));
    }
    check_name("the metric's name", metric, limits)?;
    if pairs.len() > limits.labels {
        return Err(too_many_labels(pairs.len(), limits));
    }
    if !pairs.is_sorted_by(|a, b| a.0 < b.0) {
        pairs.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        if let Some(twice) = pairs.windows(2).find(|w| w[0].0 == w[1].0) {
            return Err(DecodeError::Repeated(excerpt(&twice[0].0)));
        }
    }
    identity.clear();
    write_part(identity, metric);
    let together: usize = pairs.iter().map(|(name, value)| name.len() + value.len()).sum();
    if together > limits.label_bytes {
        return Err(DecodeError::TooLarge {
            what: "bytes in all labels together".to_owned(),
            found: together,
            limit: limits.label_bytes,
            option: "label_bytes",
        });
    }
    for (name, value) in pairs.iter() {
        if name.is_empty() {
            return Err(DecodeError::unfit("labels", "given an empty name", "name every label"));
        }
        check_name("a label's name", name, limits)?;
        if value.len() > limits.value_bytes {
            return Err(DecodeError::TooLarge {
                what: format!("bytes in the value of label {:?}", excerpt(name)),
                found: value.len(),
                limit: limits.value_bytes,
                option: "value_bytes",
            });
        }
        write_part(identity, name);
        write_part(identity, value);
    }
    Ok(xxh3_64(identity))
}

/// The same bytes that [`suture_event::stable_hash`] feeds to its hasher.
fn write_part(identity: &mut Vec<u8>, part: &str) {
    identity.extend_from_slice(&(part.len() as u64).to_le_bytes());
    identity.extend_from_slice(part.as_bytes());
}

fn check_name(what: &str, name: &str, limits: &Limits) -> Result<(), DecodeError> {
    if name.len() > limits.name_bytes {
        return Err(DecodeError::TooLarge {
            what: format!("bytes in {what} {:?}", excerpt(name)),
            found: name.len(),
            limit: limits.name_bytes,
            option: "name_bytes",
        });
    }
    Ok(())
}

pub(super) fn too_many_labels(found: usize, limits: &Limits) -> DecodeError {
    DecodeError::TooLarge {
        what: "labels of one series".into(),
        found,
        limit: limits.labels,
        option: "labels",
    }
}

/// The start of a text that may be of any length.
pub(super) fn excerpt(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_memory_is_used_again_and_not_allocated_anew() {
        let mut scratch = Scratch::default();
        let text = String::from("name");
        let mut pairs = scratch.lend();
        pairs.push((Cow::Borrowed(text.as_str()), Cow::Borrowed("value")));
        let (address, room) = (pairs.as_ptr() as usize, pairs.capacity());
        scratch.take_back(pairs);
        drop(text);
        let again: Pairs<'_> = scratch.lend();
        assert_eq!(
            (again.as_ptr() as usize, again.capacity(), again.len()),
            (address, room, 0)
        );
    }

    #[test]
    fn the_hash_is_that_of_the_owned_key() {
        let (mut identity, limits) = (Vec::new(), Limits::default());
        for labels in [
            vec![],
            vec![("b", "2"), ("a", "1")],
            vec![("service", "cart"), ("pod", "cart-1"), ("é", "ü")],
        ] {
            let mut pairs: Pairs<'_> = labels
                .iter()
                .map(|(n, v)| (Cow::Borrowed(*n), Cow::Borrowed(*v)))
                .collect();
            let hash = seal("cpu", &mut pairs, &limits, &mut identity).unwrap();
            assert_eq!(
                hash,
                SeriesKey {
                    metric: "cpu".into(),
                    labels: Labels::new(labels).unwrap()
                }
                .hash64()
            );
        }
    }
}
