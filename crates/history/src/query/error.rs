//! What keeps a query from being answered.

use std::{io, path::PathBuf};

use datafusion::common::DataFusionError;

use super::Table;
use crate::sql::{SqlError, reason_of};

/// A query that cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// A file or folder cannot be read.
    #[error("{}: {reason}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// There is nothing to query.
    #[error("{}: no .ndjson, .jsonl or .parquet file in it; is it a folder that a replay wrote?", path.display())]
    Nothing {
        /// The folder.
        path: PathBuf,
    },
    /// Two files would be one table.
    #[error("{} and {} would both be table {name}: rename or move one", first.display(), second.display())]
    SameName {
        /// The table's name.
        name: String,
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// A folder mixes formats.
    #[error("{}: both NDJSON and Parquet in it; keep one kind in a folder", path.display())]
    Mixed {
        /// The folder.
        path: PathBuf,
    },
    /// A line of an NDJSON file is no JSON object.
    #[error("{}, line {line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A file whose columns hold values of several kinds, which has to be held in memory, is too large for that.
    #[error("{}: {bytes} bytes with columns of mixed kinds, at most {limit} are taken; query a part of it", path.display())]
    TooLarge {
        /// The file or folder.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The bound.
        limit: u64,
    },
    /// The text is no query over the tables.
    #[error("{error}; there are the tables {tables}")]
    Sql {
        /// What is wrong, and where.
        error: SqlError,
        /// The tables there are.
        tables: String,
    },
    /// The query fails on what the files hold, or takes more memory than it may.
    #[error("the query failed: {0}")]
    Engine(String),
    /// The result cannot be written.
    #[error("cannot write the result: {0}")]
    Output(#[source] io::Error),
}

impl QueryError {
    pub(super) fn of_sql(sql: &str, error: &DataFusionError, tables: &[Table]) -> Self {
        let tables = tables
            .iter()
            .map(|table| table.name.as_str())
            .collect::<Vec<_>>()
            .join(", ");
        Self::Sql {
            error: SqlError::of(sql, error),
            tables,
        }
    }

    pub(crate) fn of_engine(error: &DataFusionError) -> Self {
        Self::Engine(reason_of(error))
    }

    pub(super) fn of_output(error: io::Error) -> Self {
        Self::Output(error)
    }

    pub(crate) fn read(path: impl Into<PathBuf>, error: impl ToString) -> Self {
        Self::Read {
            path: path.into(),
            reason: error.to_string(),
        }
    }
}
