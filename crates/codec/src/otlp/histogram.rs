//! Quantiles of histograms, and what must be remembered to tell those of a cumulative one.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogramDataPoint, HistogramDataPoint, exponential_histogram_data_point::Buckets as ExponentialBuckets,
};
use serde::{Deserialize, Serialize};

use super::super::{DecodeError, Limits};

/// How often each range of values came up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Buckets {
    Explicit {
        bounds: Vec<f64>,
        counts: Vec<u64>,
    },
    Exponential {
        scale: i32,
        zero: u64,
        /// Values no further from 0 than this are in the zero bucket. Absent in states of earlier programs.
        #[serde(default)]
        threshold: f64,
        positive: Run,
        negative: Run,
    },
}

/// Counts of consecutive exponential buckets; that of index `offset + i` holds values in `(base^i, base^(i+1)]`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Run {
    offset: i32,
    counts: Vec<u64>,
}

impl Run {
    /// Counts of consecutive buckets from one on.
    pub(crate) fn new(offset: i32, counts: Vec<u64>) -> Self {
        Self { offset, counts }
    }

    fn of(buckets: Option<&ExponentialBuckets>) -> Self {
        buckets.map_or_else(Self::default, |b| Self {
            offset: b.offset,
            counts: b.bucket_counts.clone(),
        })
    }

    fn indexed(&self) -> impl DoubleEndedIterator<Item = (i64, u64)> {
        let offset = i64::from(self.offset);
        (offset..)
            .zip(self.counts.iter().copied())
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// Merges every `2^by` neighbours, which is what a lower scale means.
    fn coarsened(&self, by: u32) -> BTreeMap<i64, u64> {
        let mut merged = BTreeMap::new();
        for (index, count) in self.indexed().filter(|(_, count)| *count > 0) {
            let sum: &mut u64 = merged.entry(index >> by.min(63)).or_default();
            *sum = sum.saturating_add(count);
        }
        merged
    }

    /// What was added since `earlier`; none where a count fell.
    fn since(&self, earlier: &Self, coarser_by: u32) -> Option<Self> {
        let (now, before) = (self.coarsened(0), earlier.coarsened(coarser_by));
        if before
            .iter()
            .any(|(index, count)| now.get(index).copied().unwrap_or(0) < *count)
        {
            return None;
        }
        let counts = self
            .indexed()
            .map(|(index, count)| count - before.get(&index).copied().unwrap_or(0))
            .collect();
        Some(Self {
            offset: self.offset,
            counts,
        })
    }
}

impl Buckets {
    /// Checks that the buckets are what they must be. `None` where the point has none.
    pub(crate) fn explicit(point: &HistogramDataPoint, limits: &Limits) -> Result<Option<Self>, DecodeError> {
        let (bounds, counts) = (&point.explicit_bounds, &point.bucket_counts);
        check_size(counts.len().max(bounds.len()), limits)?;
        if counts.is_empty() && bounds.is_empty() {
            return Ok(None);
        }
        if counts.len() != bounds.len() + 1 {
            let found = format!("{} counts for {} bounds", counts.len(), bounds.len());
            return Err(DecodeError::unfit(
                "bucketCounts",
                found,
                "send one count more than there are bounds",
            ));
        }
        if bounds.iter().any(|b| b.is_nan()) || !bounds.is_sorted_by(|a, b| a < b) {
            return Err(DecodeError::unfit(
                "explicitBounds",
                "not rising",
                "send each bound once, in rising order",
            ));
        }
        Ok(Some(Self::Explicit {
            bounds: bounds.clone(),
            counts: counts.clone(),
        }))
    }

    /// Buckets with bounds, as other formats have them.
    pub(crate) fn with_bounds(bounds: Vec<f64>, counts: Vec<u64>, limits: &Limits) -> Result<Self, DecodeError> {
        check_size(counts.len(), limits)?;
        Ok(Self::Explicit { bounds, counts })
    }

    pub(crate) fn exponential(point: &ExponentialHistogramDataPoint, limits: &Limits) -> Result<Self, DecodeError> {
        let (positive, negative) = (Run::of(point.positive.as_ref()), Run::of(point.negative.as_ref()));
        check_size(positive.counts.len().max(negative.counts.len()), limits)?;
        if !(-10..=20).contains(&point.scale) {
            return Err(DecodeError::unfit("scale", point.scale, "send a scale from -10 to 20"));
        }
        Ok(Self::Exponential {
            scale: point.scale,
            zero: point.zero_count,
            threshold: Some(point.zero_threshold)
                .filter(|t| t.is_finite() && *t > 0.0)
                .unwrap_or(0.0),
            positive,
            negative,
        })
    }

    /// What was added since `earlier`; none where the buckets are others or a count fell, so that nothing can be told.
    fn since(&self, earlier: &Self) -> Option<Self> {
        match (self, earlier) {
            (
                Self::Explicit { bounds, counts },
                Self::Explicit {
                    bounds: bounds_before,
                    counts: before,
                },
            ) => {
                if bounds != bounds_before || counts.len() != before.len() {
                    return None;
                }
                let counts = counts.iter().zip(before).map(|(now, before)| now.checked_sub(*before));
                Some(Self::Explicit {
                    bounds: bounds.clone(),
                    counts: counts.collect::<Option<_>>()?,
                })
            }
            (
                Self::Exponential {
                    scale,
                    zero,
                    threshold,
                    positive,
                    negative,
                },
                Self::Exponential {
                    scale: scale_before,
                    zero: zero_before,
                    positive: p,
                    negative: n,
                    ..
                },
            ) => {
                // a scale only ever falls while a histogram grows; where it rose, it was started anew
                let coarser_by = u32::try_from(scale_before - scale).ok()?;
                Some(Self::Exponential {
                    scale: *scale,
                    zero: zero.checked_sub(*zero_before)?,
                    threshold: *threshold,
                    positive: positive.since(p, coarser_by)?,
                    negative: negative.since(n, coarser_by)?,
                })
            }
            _ => None,
        }
    }

    /// The buckets that hold anything: their ends, and how many values they hold, from the lowest up.
    fn filled(&self) -> Vec<(f64, f64, u64)> {
        let mut filled = Vec::new();
        match self {
            Self::Explicit { bounds, counts } => {
                for (i, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                    let upper = bounds.get(i).copied();
                    let lower = match i.checked_sub(1).and_then(|i| bounds.get(i)) {
                        Some(lower) => *lower,
                        None => upper.map_or(0.0, |upper| upper.min(0.0)),
                    };
                    filled.push((lower, upper.unwrap_or(lower), *count));
                }
            }
            Self::Exponential {
                scale,
                zero,
                threshold,
                positive,
                negative,
            } => {
                #[allow(clippy::cast_precision_loss)] // indices are within 33 bits
                let bound = |index: i64| (index as f64 * f64::from(-scale).exp2()).exp2();
                let held = |(_, count): &(i64, u64)| *count > 0;
                let below = negative.indexed().rev().filter(held);
                filled.extend(below.map(|(index, count)| (-bound(index + 1), -bound(index), count)));
                let lower = if negative.indexed().any(|bucket| held(&bucket)) {
                    -threshold
                } else {
                    0.0
                };
                filled.extend((*zero > 0).then_some((lower, *threshold, *zero)));
                filled.extend(
                    positive
                        .indexed()
                        .filter(held)
                        .map(|(index, count)| (bound(index), bound(index + 1), count)),
                );
            }
        }
        filled
    }

    /// Estimates of the quantiles `shares`, which rise; none where nothing was counted.
    #[allow(clippy::cast_precision_loss)] // shares of counts need no more than 53 bits
    pub(crate) fn quantiles<const N: usize>(&self, shares: [f64; N]) -> Option<[f64; N]> {
        let filled = self.filled();
        let total: f64 = filled.iter().map(|(_, _, count)| *count as f64).sum();
        if total <= 0.0 {
            return None;
        }
        let geometric = matches!(self, Self::Exponential { .. });
        Some(shares.map(|share| {
            let rank = share * total;
            let mut before = 0.0;
            for (lower, upper, count) in &filled {
                let count = *count as f64;
                if before + count >= rank {
                    return within(*lower, *upper, (rank - before) / count, geometric);
                }
                before += count;
            }
            filled.last().map_or(f64::NAN, |(_, upper, _)| *upper)
        }))
    }
}

/// The point that lies this share of the way through a bucket.
fn within(lower: f64, upper: f64, share: f64, geometric: bool) -> f64 {
    if lower == upper || !upper.is_finite() || !lower.is_finite() {
        return if upper.is_finite() { upper } else { lower };
    }
    if geometric && lower * upper > 0.0 {
        return lower * (upper / lower).powf(share);
    }
    lower + (upper - lower) * share
}

fn check_size(found: usize, limits: &Limits) -> Result<(), DecodeError> {
    if found > limits.buckets {
        let what = "buckets of one histogram".into();
        return Err(DecodeError::TooLarge {
            what,
            found,
            limit: limits.buckets,
            option: "buckets",
        });
    }
    Ok(())
}

/// The last point of each cumulative histogram, by the hash of its series: what a shard must keep between records. Bounded
/// by [`Limits::histograms`]; a series is never forgotten.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Histograms(BTreeMap<u64, Last>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Last {
    start: u64,
    time: u64,
    buckets: Buckets,
}

/// What can be said about the time since the point before.
pub(crate) enum Since {
    Known(Buckets),
    Unknown,
    Full,
}

impl Histograms {
    /// How many histograms are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes in a cumulative point; `start` and `time` in nanoseconds.
    pub(crate) fn advance(&mut self, series: u64, start: u64, time: u64, buckets: &Buckets, limit: usize) -> Since {
        if self.0.len() >= limit && !self.0.contains_key(&series) {
            return Since::Full;
        }
        let now = Last {
            start,
            time,
            buckets: buckets.clone(),
        };
        let Some(last) = self.0.get_mut(&series) else {
            self.0.insert(series, now);
            return Since::Unknown;
        };
        if time <= last.time {
            // delivered again, or late: what is remembered is newer
            return Since::Unknown;
        }
        let added = if start > last.start && start >= last.time {
            // counted from 0 again since the point before
            Some(buckets.clone())
        } else {
            buckets.since(&last.buckets)
        };
        *last = now;
        added.map_or(Since::Unknown, Since::Known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explicit(bounds: &[f64], counts: &[u64]) -> Buckets {
        Buckets::Explicit {
            bounds: bounds.to_vec(),
            counts: counts.to_vec(),
        }
    }

    fn exponential(scale: i32, zero: u64, positive: (i32, &[u64])) -> Buckets {
        let positive = Run {
            offset: positive.0,
            counts: positive.1.to_vec(),
        };
        Buckets::Exponential {
            scale,
            zero,
            threshold: 0.0,
            positive,
            negative: Run::default(),
        }
    }

    #[test]
    fn explicit_buckets_are_interpolated() {
        let buckets = explicit(&[10.0, 20.0, 40.0], &[10, 10, 20, 0]);
        assert_eq!(buckets.quantiles([0.25, 0.5, 0.75]), Some([10.0, 20.0, 30.0]));
        assert_eq!(
            explicit(&[10.0], &[0, 4]).quantiles([0.5]),
            Some([10.0]),
            "nothing is known beyond the last bound"
        );
        assert_eq!(explicit(&[-5.0], &[4, 0]).quantiles([0.5]), Some([-5.0]));
        assert_eq!(explicit(&[10.0], &[0, 0]).quantiles([0.5]), None);
        assert_eq!(
            explicit(&[], &[7]).quantiles([0.5]),
            Some([0.0]),
            "one bucket without bounds says nothing"
        );
    }

    #[test]
    fn exponential_buckets_are_interpolated_geometrically() {
        // scale 0: bases are powers of 2
        let buckets = exponential(0, 0, (3, &[4]));
        let [middle] = buckets.quantiles([0.5]).unwrap();
        assert!((middle - 8.0 * 2f64.sqrt()).abs() < 1e-12, "{middle}");
        assert_eq!(exponential(0, 10, (3, &[4])).quantiles([0.5]), Some([0.0]));
        let negative = Run {
            offset: 0,
            counts: vec![1, 1],
        };
        let below = Buckets::Exponential {
            scale: 0,
            zero: 0,
            threshold: 0.0,
            positive: Run::default(),
            negative,
        };
        assert_eq!(below.quantiles([0.5, 1.0]), Some([-2.0, -1.0]));
    }

    #[test]
    fn the_zero_bucket_is_as_wide_as_its_threshold_says() {
        let wide = |negative: &[u64]| Buckets::Exponential {
            scale: 0,
            zero: 10,
            threshold: 0.5,
            positive: Run::default(),
            negative: Run {
                offset: 0,
                counts: negative.to_vec(),
            },
        };
        assert_eq!(wide(&[]).quantiles([0.5, 1.0]), Some([0.25, 0.5]));
        assert_eq!(wide(&[0]).quantiles([0.5]), Some([0.25]));
        let [all] = wide(&[10]).quantiles([1.0]).unwrap();
        let [middle] = wide(&[10]).quantiles([0.75]).unwrap();
        assert_eq!((middle, all), (0.0, 0.5), "as far below 0 as above");
        // a state of an earlier program has none
        let old = r#"{"Exponential":{"scale":0,"zero":1,"positive":{"offset":0,"counts":[]},"negative":{"offset":0,"counts":[]}}}"#;
        assert_eq!(
            serde_json::from_str::<Buckets>(old).unwrap().quantiles([0.9]),
            Some([0.0])
        );
    }

    #[test]
    fn a_lower_scale_still_follows_on_the_higher_one() {
        let before = exponential(1, 1, (4, &[1, 2, 3, 4]));
        let now = exponential(0, 2, (2, &[3, 9]));
        assert_eq!(now.since(&before), Some(exponential(0, 1, (2, &[0, 2]))));
        assert_eq!(before.since(&now), None, "a scale that rose was started anew");
    }

    #[test]
    fn only_what_came_since_the_point_before_is_told() {
        let mut histograms = Histograms::default();
        let mut advance =
            |start, time, counts: &[u64]| match histograms.advance(7, start, time, &explicit(&[1.0, 2.0], counts), 1) {
                Since::Known(Buckets::Explicit { counts, .. }) => Some(counts),
                _ => None,
            };
        assert_eq!(advance(1, 10, &[5, 5, 0]), None, "the first has none before it");
        assert_eq!(advance(1, 20, &[6, 9, 0]), Some(vec![1, 4, 0]));
        assert_eq!(advance(1, 20, &[6, 9, 0]), None, "delivered again");
        assert_eq!(
            advance(25, 30, &[2, 0, 0]),
            Some(vec![2, 0, 0]),
            "started anew, and says so"
        );
        assert_eq!(advance(25, 40, &[1, 0, 0]), None, "fell without saying so");
        assert_eq!(advance(25, 50, &[1, 3, 0]), Some(vec![0, 3, 0]));
        assert!(matches!(
            histograms.advance(8, 1, 10, &explicit(&[], &[1]), 1),
            Since::Full
        ));
    }
}
