use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What a window makes of its samples. Written as text: `count`, `sum`, `mean`, `min`, `max`, `last`, `rate`,
/// `increase`, or a quantile in percent, such as `p50`, `p99` or `p99.9`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Aggregate {
    /// How many samples there were.
    Count,
    /// Their sum.
    Sum,
    /// Their mean.
    Mean,
    /// The least.
    Min,
    /// The greatest.
    Max,
    /// The newest by event time; of two at the same time, the one that arrived later.
    Last,
    /// Increase of a cumulative counter per second of the time between the samples it was read off.
    Rate,
    /// Increase of a cumulative counter since the last sample before the window. A fall to less than half is a reset: the
    /// counter is taken to have restarted from zero. A smaller one is an answer that is out of date, and adds nothing.
    Increase,
    /// A quantile, as a share between 0 and 1, from a sketch of bounded relative error.
    Quantile(f64),
}

/// A text that names no aggregate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no aggregate: write count, sum, mean, min, max, last, rate, increase or a percentile such as p50 or p99.9"
)]
pub struct AggregateError(String);

impl Aggregate {
    /// Whether it reads the series as a cumulative counter.
    #[must_use]
    pub const fn reads_a_counter(self) -> bool {
        matches!(self, Self::Rate | Self::Increase)
    }
}

impl fmt::Display for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Mean => "mean",
            Self::Min => "min",
            Self::Max => "max",
            Self::Last => "last",
            Self::Rate => "rate",
            Self::Increase => "increase",
            // nine decimals of a percent hide that 0.999 * 100 isn't 99.9 in binary
            Self::Quantile(share) => return write!(f, "p{}", (share * 1e11).round() / 1e9),
        })
    }
}

impl FromStr for Aggregate {
    type Err = AggregateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.trim() {
            "count" => Self::Count,
            "sum" => Self::Sum,
            "mean" => Self::Mean,
            "min" => Self::Min,
            "max" => Self::Max,
            "last" => Self::Last,
            "rate" => Self::Rate,
            "increase" => Self::Increase,
            other => other
                .strip_prefix('p')
                .filter(|digits| digits.starts_with(|c: char| c.is_ascii_digit()))
                .and_then(|digits| digits.parse::<f64>().ok())
                .filter(|percent| (0.0..=100.0).contains(percent))
                .map(|percent| Self::Quantile(percent / 100.0))
                .ok_or_else(|| AggregateError(text.to_owned()))?,
        })
    }
}

impl Serialize for Aggregate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Aggregate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <Cow<'de, str>>::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl JsonSchema for Aggregate {
    fn schema_name() -> Cow<'static, str> {
        "Aggregate".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^(count|sum|mean|min|max|last|rate|increase|p[0-9]+([.][0-9]+)?)$",
            "description": "What a window makes of its samples: count, sum, mean, min, max, last, rate, increase or a percentile such as p99.9"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aggregates_read_and_write_their_names() {
        for text in [
            "count", "sum", "mean", "min", "max", "last", "rate", "increase", "p50", "p99", "p99.9", "p0", "p100",
        ] {
            assert_eq!(text.parse::<Aggregate>().unwrap().to_string(), text);
        }
        for text in ["", "p", "p101", "p-1", "pinf", "pNaN", "average", "Mean"] {
            assert!(text.parse::<Aggregate>().is_err(), "{text}");
        }
    }
}
