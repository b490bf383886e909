//! Suture's own records: plain JSON, one a record, as [`serde_json`] writes the types of this crate.

use serde::{Serialize, de::DeserializeOwned};

use super::{DecodeError, EncodeError, Format};
use crate::{Command, Fact, FactBody, LedgerRecord, Outcome};

/// What can be a record of Suture's own topics.
pub trait Record: Serialize + DeserializeOwned {
    /// What it is called in errors.
    const NAME: &'static str;

    /// The first number that JSON cannot hold, by its field. It would be written as `null`, and whoever reads the record
    /// would have to refuse it.
    fn unfinite(&self) -> Option<(&'static str, f64)> {
        None
    }
}

impl Record for Fact {
    const NAME: &'static str = "fact";

    fn unfinite(&self) -> Option<(&'static str, f64)> {
        let FactBody::Anomaly(anomaly) = &self.body else {
            return None;
        };
        let numbers = [
            ("score", anomaly.score),
            ("deviation", anomaly.deviation),
            ("value", anomaly.value.unwrap_or(0.0)),
            ("expected", anomaly.expected),
            ("lower", anomaly.lower),
            ("upper", anomaly.upper),
        ];
        numbers.into_iter().find(|(_, number)| !number.is_finite())
    }
}

impl Record for Outcome {
    const NAME: &'static str = "outcome";
}

impl Record for Command {
    const NAME: &'static str = "command";
}

impl Record for LedgerRecord {
    const NAME: &'static str = "ledger record";
}

/// Writes a record.
///
/// # Errors
/// Where a number in it is not finite.
pub fn encode<R: Record>(record: &R) -> Result<Vec<u8>, EncodeError> {
    if let Some((field, number)) = record.unfinite() {
        let (what, field) = (R::NAME.to_owned(), field.to_owned());
        return Err(EncodeError::NotFinite {
            what,
            field,
            found: number.to_string(),
        });
    }
    serde_json::to_vec(record).map_err(|error| EncodeError::Json {
        what: R::NAME.into(),
        reason: error.to_string(),
    })
}

/// Reads a record. Fields that are not known are passed over, so that an older reader gets by with a newer writer.
///
/// # Errors
/// Where the bytes are no such record.
pub fn decode<R: Record>(bytes: &[u8]) -> Result<R, DecodeError> {
    if bytes.trim_ascii().is_empty() {
        return Err(DecodeError::Empty(Format::Record));
    }
    serde_json::from_slice(bytes).map_err(|error| match DecodeError::of_json(Format::Record, bytes, &error) {
        DecodeError::Malformed { format, at, reason } => DecodeError::Malformed {
            format,
            at,
            reason: format!("as {} {}: {reason}", article(R::NAME), R::NAME),
        },
        other => other,
    })
}

fn article(name: &str) -> &'static str {
    if name.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    }
}
