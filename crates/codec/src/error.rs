//! What can be wrong with a record, in words for whoever has to mend its producer.

use std::fmt;

/// A wire format, as error texts name it. Each says its own name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Format(pub(crate) &'static str);

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Why a record, or one sample of it, cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// No bytes at all.
    #[error("the record is empty, where {0} was expected")]
    Empty(Format),
    /// Not what the format allows.
    #[error("no valid {format}{}: {reason}", at_byte(*at))]
    Malformed {
        /// What was expected.
        format: Format,
        /// Offset of the byte where reading stopped, where it is known.
        at: Option<usize>,
        /// What was found, and what to do where that is known.
        reason: String,
    },
    /// The bytes stop too early.
    #[error("the {format} breaks off after {at} bytes: its producer, or a size limit on the way, cut it short")]
    Truncated {
        /// What was expected.
        format: Format,
        /// How many bytes there are.
        at: usize,
    },
    /// A field that must be there is not.
    #[error("`{field}` is missing: {help}")]
    Missing {
        /// The field's path.
        field: &'static str,
        /// What to write.
        help: &'static str,
    },
    /// A field holds what it must not.
    #[error("`{field}` is {found}: {help}")]
    Unfit {
        /// The field's path.
        field: String,
        /// What it holds.
        found: String,
        /// What to write instead.
        help: &'static str,
    },
    /// A label is given twice.
    #[error("label {0:?} is given twice: keep one")]
    Repeated(String),
    /// A bound of [`Limits`](super::Limits) is passed.
    #[error("{what}: {found}, at most {limit} are taken; send less or raise `limits.{option}`")]
    TooLarge {
        /// What is too large.
        what: String,
        /// How large it is; where counting stopped at the bound, one more than the bound.
        found: usize,
        /// The bound.
        limit: usize,
        /// Which of the limits it is.
        option: &'static str,
    },
}

impl DecodeError {
    /// A short name of the reason, for the label of a metric or the header of a dead letter.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Empty(_) => "empty",
            Self::Malformed { .. } => "malformed",
            Self::Truncated { .. } => "truncated",
            Self::Missing { .. } => "missing_field",
            Self::Unfit { .. } => "unfit_field",
            Self::Repeated(_) => "repeated_label",
            Self::TooLarge { .. } => "too_large",
        }
    }

    /// A field, what it holds, and what to write instead.
    #[must_use]
    pub fn unfit(field: impl Into<String>, found: impl fmt::Display, help: &'static str) -> Self {
        Self::Unfit {
            field: field.into(),
            found: found.to_string(),
            help,
        }
    }

    /// From an error of `serde_json`, which counts lines and columns, for a text of one or several lines.
    pub(super) fn of_json(format: Format, bytes: &[u8], error: &serde_json::Error) -> Self {
        if error.is_eof() {
            return Self::Truncated {
                format,
                at: bytes.len(),
            };
        }
        let before: usize = bytes
            .split_inclusive(|b| *b == b'\n')
            .take(error.line().saturating_sub(1))
            .map(<[u8]>::len)
            .sum();
        let text = error.to_string();
        let reason = text.split(" at line ").next().unwrap_or(&text).to_owned();
        Self::Malformed {
            format,
            at: Some(before + error.column().saturating_sub(1)),
            reason,
        }
    }
}

fn at_byte(at: Option<usize>) -> String {
    at.map(|at| format!(" at byte {at}")).unwrap_or_default()
}

/// One sample or data point of a record that was left out, while the others were taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Which one of the record, from 0.
    pub index: usize,
    /// Where it starts in the record's value, in bytes, where that is known.
    pub at: Option<usize>,
    /// Its metric, where that is known.
    pub metric: Option<String>,
    /// Why.
    pub error: DecodeError,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sample {}{}", self.index, at_byte(self.at))?;
        if let Some(metric) = &self.metric {
            write!(f, " of {metric:?}")?;
        }
        write!(f, ": {}", self.error)
    }
}

/// Why a value cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// JSON has no way to write the number, and whoever reads the record would have to refuse it.
    #[error("`{field}` of {what} is {found}, which JSON cannot hold: it must be a finite number")]
    NotFinite {
        /// What was to be written.
        what: String,
        /// The field's path.
        field: String,
        /// The number.
        found: String,
    },
    /// A field that the format demands is empty.
    #[error("`{field}` of {what} is empty: it must be set")]
    Empty {
        /// What was to be written.
        what: String,
        /// The field's path.
        field: &'static str,
    },
    /// The serialiser refused.
    #[error("cannot write {what} as JSON: {reason}")]
    Json {
        /// What was to be written.
        what: String,
        /// Why.
        reason: String,
    },
}
