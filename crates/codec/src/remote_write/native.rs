//! Prometheus' native histograms.

use super::wire::{Fault, Fields, Value, doubles, numbers, zigzag};
use crate::{
    DecodeError, Limits,
    otlp::histogram::{Buckets, Run},
};

/// The schema of histograms whose bounds are written out.
const CUSTOM: i32 = -53;
/// The reset hint of a histogram that is a level and no counter.
const GAUGE: u64 = 3;

/// One histogram, as it is written.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    pub(super) count: f64,
    pub(super) sum: f64,
    /// Milliseconds since the epoch.
    pub(super) timestamp: i64,
    /// Since when it was counted, the same; 0 where that is not said.
    pub(super) start: i64,
    /// Whether it is a level and no counter.
    pub(super) is_gauge: bool,
    schema: i32,
    threshold: f64,
    zero: f64,
    positive: Side,
    negative: Side,
    custom: Vec<f64>,
}

#[derive(Debug, Default)]
struct Side {
    spans: Vec<(i32, u64)>,
    deltas: Vec<i64>,
    counts: Vec<f64>,
}

impl Histogram {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Fault> {
        let mut read = Self::default();
        let mut fields = Fields::of(bytes);
        while let Some((number, value)) = fields.step()? {
            match number {
                #[allow(clippy::cast_precision_loss)] // samples are doubles
                1 => read.count = value.varint()? as f64,
                2 => read.count = value.double()?,
                3 => read.sum = value.double()?,
                4 => read.schema = value.sint32()?,
                5 => read.threshold = value.double()?,
                #[allow(clippy::cast_precision_loss)]
                6 => read.zero = value.varint()? as f64,
                7 => read.zero = value.double()?,
                8 => read.negative.spans.push(span(value)?),
                9 => numbers(value, |delta| read.negative.deltas.push(zigzag(delta)))?,
                10 => doubles(value, |count| read.negative.counts.push(count))?,
                11 => read.positive.spans.push(span(value)?),
                12 => numbers(value, |delta| read.positive.deltas.push(zigzag(delta)))?,
                13 => doubles(value, |count| read.positive.counts.push(count))?,
                14 => read.is_gauge = value.varint()? == GAUGE,
                15 => read.timestamp = value.int64()?,
                16 => doubles(value, |bound| read.custom.push(bound))?,
                17 => read.start = value.int64()?,
                _ => {}
            }
        }
        Ok(read)
    }

    /// The buckets, for quantiles; none where the histogram has a schema that is not known.
    pub(super) fn buckets(&self, limits: &Limits) -> Result<Option<Buckets>, DecodeError> {
        if self.schema == CUSTOM {
            let run = self.positive.run(0, limits)?;
            let mut counts = vec![0; self.custom.len() + 1];
            for (index, count) in run {
                match usize::try_from(index).ok().and_then(|index| counts.get_mut(index)) {
                    Some(slot) => *slot = count,
                    None => return Err(unfit("positive_spans", "a bucket beyond the last bound")),
                }
            }
            if self.custom.iter().any(|bound| bound.is_nan()) || !self.custom.is_sorted_by(|a, b| a < b) {
                return Err(unfit("custom_values", "not rising"));
            }
            return Buckets::with_bounds(self.custom.clone(), counts, limits).map(Some);
        }
        if !(-4..=8).contains(&self.schema) {
            return Ok(None);
        }
        // Prometheus numbers a bucket by its upper end, OpenTelemetry by its lower one
        let run = |side: &Side| -> Result<Run, DecodeError> {
            let filled = side.run(-1, limits)?;
            let Some((first, _)) = filled.first().copied() else {
                return Ok(Run::default());
            };
            let last = filled.last().map_or(first, |(last, _)| *last);
            let width = usize::try_from(last - first + 1).unwrap_or(usize::MAX);
            check_width(width, limits)?;
            let mut counts = vec![0; width];
            for (index, count) in filled {
                if let Some(slot) = usize::try_from(index - first).ok().and_then(|at| counts.get_mut(at)) {
                    *slot = count;
                }
            }
            let offset = i32::try_from(first).map_err(|_| unfit("spans", "beyond 32 bits"))?;
            Ok(Run::new(offset, counts))
        };
        Ok(Some(Buckets::Exponential {
            scale: self.schema,
            zero: whole(self.zero),
            threshold: Some(self.threshold)
                .filter(|t| t.is_finite() && *t > 0.0)
                .unwrap_or(0.0),
            positive: run(&self.positive)?,
            negative: run(&self.negative)?,
        }))
    }
}

impl Side {
    /// Each bucket's index and count, in rising order.
    fn run(&self, shift: i64, limits: &Limits) -> Result<Vec<(i64, u64)>, DecodeError> {
        let mut found = Vec::new();
        let mut index = shift;
        let mut running = 0_i64;
        let (mut deltas, mut counts) = (self.deltas.iter(), self.counts.iter());
        for (offset, length) in &self.spans {
            index += i64::from(*offset);
            for _ in 0..*length {
                check_width(found.len() + 1, limits)?;
                let count = match (deltas.next(), counts.next()) {
                    (Some(delta), _) => {
                        running = running.saturating_add(*delta);
                        u64::try_from(running).map_err(|_| unfit("deltas", "a count below 0"))?
                    }
                    (None, Some(count)) => whole(*count),
                    (None, None) => return Err(unfit("spans", "more buckets than there are counts")),
                };
                found.push((index, count));
                index += 1;
            }
        }
        if deltas.next().is_some() || (self.deltas.is_empty() && counts.next().is_some()) {
            return Err(unfit("spans", "fewer buckets than there are counts"));
        }
        match found.is_sorted_by(|a, b| a.0 < b.0) {
            true => Ok(found),
            false => Err(unfit("spans", "out of order")),
        }
    }
}

fn span(value: Value<'_>) -> Result<(i32, u64), Fault> {
    let (mut offset, mut length) = (0, 0);
    let mut fields = Fields::of(value.bytes()?);
    while let Some((number, value)) = fields.step()? {
        match number {
            1 => offset = value.sint32()?,
            2 => length = value.varint()?,
            _ => {}
        }
    }
    Ok((offset, length))
}

/// A count of a histogram that was scaled, for quantiles, which need but shares.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // held to what fits
fn whole(count: f64) -> u64 {
    count.round().max(0.0) as u64
}

fn check_width(found: usize, limits: &Limits) -> Result<(), DecodeError> {
    if found > limits.buckets {
        return Err(DecodeError::TooLarge {
            what: "buckets of one histogram".into(),
            found,
            limit: limits.buckets,
            option: "buckets",
        });
    }
    Ok(())
}

fn unfit(field: &str, found: &str) -> DecodeError {
    DecodeError::unfit(field, found, "send native histograms as Prometheus does")
}
