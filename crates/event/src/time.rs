//! Points in time and spans of it, both in whole milliseconds.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Milliseconds since 1970-01-01T00:00:00Z. Written as RFC 3339 in UTC; read from that or from a number, whose unit is told
/// by its size ([`Timestamp::from_number`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

/// A text or number that is no point in time between the years 1 and 9999.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no timestamp: write milliseconds since the epoch or RFC 3339, such as 2022-08-22T03:54:00Z")]
pub struct TimestampError(String);

impl Timestamp {
    /// The earliest that can be written: 0001-01-01T00:00:00Z. Stands for "nothing seen yet" in watermarks.
    pub const MIN: Self = Self(-62_135_596_800_000);
    /// The latest that can be written and read again: 9999-12-30T22:00:00Z. Later ones do not exist in every time zone.
    pub const MAX: Self = Self(253_402_207_200_000);

    /// From milliseconds since the epoch, held within [`Self::MIN`] and [`Self::MAX`].
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        if millis < Self::MIN.0 {
            Self::MIN
        } else if millis > Self::MAX.0 {
            Self::MAX
        } else {
            Self(millis)
        }
    }

    /// From a number that somebody wrote down, in whichever unit since the epoch its size speaks of:
    ///
    /// | size | unit | from | to |
    /// | --- | --- | --- | --- |
    /// | below 10^8 | milliseconds | | a day around the epoch |
    /// | below 10^11 | seconds | 1973 | 5138 |
    /// | below 10^14 | milliseconds | 1973 | 5138 |
    /// | below 10^17 | microseconds | 1973 | 5138 |
    /// | below 9 * 10^18 | nanoseconds | 1973 | 2255 |
    ///
    /// # Errors
    /// Where it is larger than any of these, as what stands for "none" often is, or earlier than [`Self::MIN`].
    pub fn from_number(number: i64) -> Result<Self, TimestampError> {
        let millis = match number.unsigned_abs() {
            0..100_000_000 | 100_000_000_000..100_000_000_000_000 => number,
            100_000_000..100_000_000_000 => number.saturating_mul(1_000),
            100_000_000_000_000..100_000_000_000_000_000 => number.div_euclid(1_000),
            100_000_000_000_000_000..9_000_000_000_000_000_000 => number.div_euclid(1_000_000),
            _ => return Err(TimestampError(number.to_string())),
        };
        Self::try_from(millis).map_err(|_| TimestampError(number.to_string()))
    }

    /// The same of a number with a fraction: of milliseconds it is rounded, of seconds it counts.
    ///
    /// # Errors
    /// Where it is no number, or out of range.
    #[allow(clippy::cast_possible_truncation)] // rounded, and in range
    pub fn from_fraction(number: f64) -> Result<Self, TimestampError> {
        let error = || TimestampError(number.to_string());
        if !number.is_finite() || number.abs() >= 9e18 {
            return Err(error());
        }
        if (1e8..1e11).contains(&number.abs()) {
            return Self::try_from((number * 1_000.0).round() as i64).map_err(|_| error());
        }
        Self::from_number(number.round() as i64).map_err(|_| error())
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// This point moved on by a span, held at [`Self::MAX`].
    #[must_use]
    pub const fn plus(self, span: Span) -> Self {
        Self::from_millis(self.0.saturating_add(span.as_millis()))
    }

    /// This point moved back by a span, held at [`Self::MIN`].
    #[must_use]
    pub const fn minus(self, span: Span) -> Self {
        Self::from_millis(self.0.saturating_sub(span.as_millis()))
    }

    /// The span from `earlier` to this point; negative where `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(at) => write!(f, "{at}"),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let at: jiff::Timestamp = text.trim().parse().map_err(|_| TimestampError(text.to_owned()))?;
        Self::try_from(at.as_millisecond()).map_err(|_| TimestampError(text.to_owned()))
    }
}

impl TryFrom<i64> for Timestamp {
    type Error = TimestampError;

    fn try_from(millis: i64) -> Result<Self, Self::Error> {
        if (Self::MIN.0..=Self::MAX.0).contains(&millis) {
            Ok(Self(millis))
        } else {
            Err(TimestampError(millis.to_string()))
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Timestamp;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number since the epoch or an RFC 3339 text")
            }
            fn visit_i64<E: de::Error>(self, v: i64) -> Result<Timestamp, E> {
                Timestamp::from_number(v).map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Timestamp, E> {
                i64::try_from(v).map_err(E::custom).and_then(|v| self.visit_i64(v))
            }
            fn visit_f64<E: de::Error>(self, v: f64) -> Result<Timestamp, E> {
                Timestamp::from_fraction(v).map_err(E::custom)
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Timestamp, E> {
                v.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["string", "integer"], "format": "date-time"})
    }
}

/// A span of time in milliseconds. Written in pipeline files as a number and a unit: `250ms`, `10s`, `1m`, `2h`, `1d`, `1w`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(i64);

/// A text that is no span.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no span of time: write a number and a unit, such as 250ms, 10s, 1m, 2h, 1d or 1w")]
pub struct SpanError(String);

const UNITS: [(&str, i64); 6] = [
    ("w", 604_800_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// From milliseconds.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// From seconds.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1_000))
    }

    /// From minutes.
    #[must_use]
    pub const fn from_mins(mins: i64) -> Self {
        Self(mins.saturating_mul(60_000))
    }

    /// From hours.
    #[must_use]
    pub const fn from_hours(hours: i64) -> Self {
        Self(hours.saturating_mul(3_600_000))
    }

    /// In milliseconds.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// In seconds, with the fraction.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // spans of interest are far below 2^53 ms
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1_000.0
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        for (unit, millis) in UNITS {
            if self.0 % millis == 0 {
                return write!(f, "{}{unit}", self.0 / millis);
            }
        }
        write!(f, "{}ms", self.0)
    }
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || SpanError(text.to_owned());
        let trimmed = text.trim();
        let digits = trimmed.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let count: i64 = trimmed[..digits].parse().map_err(|_| bad())?;
        let unit = trimmed[digits..].trim_start();
        let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?;
        count.checked_mul(*millis).map(Self).ok_or_else(bad)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[0-9]+ ?(ms|s|m|h|d|w)$",
            "description": "A span of time: a number and a unit, such as 250ms, 10s, 1m, 2h, 1d or 1w"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_read_numbers_and_rfc_3339_and_write_the_latter() {
        let at: Timestamp = serde_json::from_str("1661140440000").unwrap();
        assert_eq!(serde_json::to_string(&at).unwrap(), r#""2022-08-22T03:54:00Z""#);
        assert_eq!(
            serde_json::from_str::<Timestamp>(r#""2022-08-22T05:54:00+02:00""#).unwrap(),
            at
        );
        let half: Timestamp = "2022-08-22T03:54:00.5Z".parse().unwrap();
        assert_eq!(half.to_string(), "2022-08-22T03:54:00.5Z");
        assert!(serde_json::from_str::<Timestamp>("1e300").is_err());
        assert!(serde_json::from_str::<Timestamp>(r#""yesterday""#).is_err());
    }

    #[test]
    fn the_latest_and_the_earliest_are_read_again_as_they_were_written() {
        for at in [Timestamp::MIN, Timestamp::MAX, Timestamp::from_millis(i64::MAX)] {
            let text = serde_json::to_string(&at).unwrap();
            assert_eq!(serde_json::from_str::<Timestamp>(&text).unwrap(), at, "{text}");
        }
    }

    #[test]
    fn the_unit_of_a_number_is_told_by_its_size() {
        let at = "2022-08-22T03:54:00Z".parse::<Timestamp>().unwrap();
        for number in [
            "1661140440",
            "1661140440000",
            "1661140440000000",
            "1661140440000000000",
            "1661140440.0",
            "1.66114044e12",
        ] {
            assert_eq!(serde_json::from_str::<Timestamp>(number).unwrap(), at, "{number}");
        }
        let half: Timestamp = serde_json::from_str("1661140440.5").unwrap();
        assert_eq!(half.since(at), Span::from_millis(500));
        // around the epoch itself a number is of milliseconds
        assert_eq!(Timestamp::from_number(60_000).unwrap(), Timestamp::from_millis(60_000));
        assert_eq!(
            Timestamp::from_number(-1_500_000_000).unwrap().to_string(),
            "1922-06-20T21:20:00Z"
        );
    }

    #[test]
    fn spans_read_and_write_a_number_with_its_unit() {
        for text in ["250ms", "10s", "1m", "36h", "1d", "1w", "0s"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        assert_eq!("90s".parse::<Span>().unwrap(), Span::from_millis(90_000));
        for text in ["", "10", "s", "-1s", "1.5h", "10 parsecs", "99999999999999999w"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
