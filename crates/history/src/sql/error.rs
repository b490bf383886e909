//! What is wrong with an expression, and where in it.

use datafusion::{common::DataFusionError, sql::sqlparser::parser::ParserError};
use suture_engine::EngineError;

/// An expression that cannot be compiled or evaluated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SqlError {
    /// It is not valid.
    #[error("line {line}, column {column}: {reason}{}", .help.as_ref().map(|help| format!("; {help}")).unwrap_or_default())]
    Compile {
        /// The expression.
        text: String,
        /// The line of it where the problem is, from 1.
        line: usize,
        /// The column in that line, in characters, from 1.
        column: usize,
        /// What is wrong.
        reason: String,
        /// What to write instead, where that can be told.
        help: Option<String>,
    },
    /// It is valid, and yet fails on some rows.
    #[error("{text:?} cannot be evaluated: {reason}")]
    Evaluate {
        /// The expression.
        text: String,
        /// What is wrong.
        reason: String,
    },
}

impl From<SqlError> for EngineError {
    fn from(error: SqlError) -> Self {
        let reason = error.to_string();
        let (SqlError::Compile { text, .. } | SqlError::Evaluate { text, .. }) = error;
        Self::Expression { text, reason }
    }
}

impl SqlError {
    /// Wrong at a byte of the text.
    pub(super) fn at(text: &str, byte: usize, reason: impl Into<String>, help: Option<&str>) -> Self {
        let before = text.get(..byte).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Self::Compile {
            text: text.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            reason: reason.into(),
            help: help.map(str::to_owned),
        }
    }

    /// Wrong where this name stands in the text, or at its start.
    pub(super) fn at_name(text: &str, name: &str, reason: impl Into<String>, help: Option<&str>) -> Self {
        Self::at(text, find_name(text, name).unwrap_or(0), reason, help)
    }

    pub(super) fn evaluation(text: &str, error: &DataFusionError) -> Self {
        Self::Evaluate {
            text: text.to_owned(),
            reason: reason_of(error),
        }
    }

    /// From what DataFusion says of the text.
    pub(crate) fn of(text: &str, error: &DataFusionError) -> Self {
        let reason = reason_of(error);
        if let DataFusionError::SQL(parser, _) = error.find_root() {
            let (reason, place) = match parser.as_ref() {
                ParserError::ParserError(said) | ParserError::TokenizerError(said) => split_place(said),
                ParserError::RecursionLimitExceeded => ("nested too deeply".to_owned(), None),
            };
            return match place {
                Some((line, column)) if line > 0 && column > 0 => Self::Compile {
                    text: text.to_owned(),
                    line,
                    column,
                    reason: lower(&reason),
                    help: None,
                },
                // what has no place ended before it was complete
                _ => Self::at(text, text.trim_end().len(), lower(&reason), None),
            };
        }
        let diagnostic = error.diagnostic();
        let help = diagnostic
            .and_then(|d| d.helps.first().or(None))
            .map(|help| lower(&help.message));
        if let Some(start) = diagnostic.and_then(|d| d.span).map(|span| span.start)
            && start.line > 0
            && start.column > 0
        {
            let (line, column) = (saturating(start.line), saturating(start.column));
            return Self::Compile {
                text: text.to_owned(),
                line,
                column,
                reason,
                help,
            };
        }
        // no place was given, but often the name of what is wrong
        let named = reason.split('\'').nth(1).and_then(|name| find_name(text, name));
        Self::at(text, named.unwrap_or(0), reason, help.as_deref())
    }
}

fn saturating(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// What DataFusion says, without the kind of error before it and the stack behind it, on one line.
pub(crate) fn reason_of(error: &DataFusionError) -> String {
    let root = error.find_root();
    let text = root.strip_backtrace();
    let text = [
        "Error during planning: ",
        "Schema error: ",
        "Arrow error: ",
        "Execution error: ",
        "SQL error: ",
        "Internal error: ",
    ]
    .iter()
    .fold(text.as_str(), |text, prefix| text.strip_prefix(prefix).unwrap_or(text));
    let text = text.split("\nThis issue was likely caused").next().unwrap_or(text);
    lower(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// With a small first letter, unless it belongs to a name written in capitals.
fn lower(text: &str) -> String {
    let text = text.trim().trim_end_matches('.');
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() => first.to_lowercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
}

/// Takes the place off the end of a parser's message.
fn split_place(said: &str) -> (String, Option<(usize, usize)>) {
    let Some((reason, place)) = said.rsplit_once(" at Line: ") else {
        return (said.to_owned(), None);
    };
    let Some((line, column)) = place.split_once(", Column: ") else {
        return (said.to_owned(), None);
    };
    let number = |text: &str| text.trim().parse::<usize>().ok();
    (reason.to_owned(), number(line).zip(number(column)))
}

/// Where a name stands by itself in the text, whatever its case.
fn find_name(text: &str, name: &str) -> Option<usize> {
    let name = name
        .rsplit('.')
        .next()
        .filter(|name| !name.is_empty())?
        .to_ascii_lowercase();
    let lower = text.to_ascii_lowercase();
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    lower.match_indices(&name).map(|(at, _)| at).find(|at| {
        let before = lower[..*at].chars().next_back();
        let after = lower[at + name.len()..].chars().next();
        !before.is_some_and(part_of_name) && !after.is_some_and(part_of_name)
    })
}
