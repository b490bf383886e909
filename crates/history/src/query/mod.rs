//! SQL over files: what a replay wrote, and archives of telemetry.
//!
//! Every `.ndjson`, `.jsonl` and `.parquet` file of a folder is a table by the file's name without its ending, and so is
//! every subfolder that holds such files, at any depth. Names become lower case, and what is neither letter nor digit an
//! underscore: `anomalies.ndjson` is `anomalies`, `2022-08-22/` is `_2022_08_22`.
//!
//! The columns of NDJSON are found by reading it through: nested objects are structs (`labels['service']`,
//! `hypotheses[1]['class']`), and a column that holds now one kind of value and now another, as the ledger's `body` may, is
//! JSON text. Times are texts in RFC 3339: `CAST(at AS TIMESTAMP)`. Results are the same on every run, in the order of the
//! files where there is no `ORDER BY`, since one thread reads.
//!
//! Only queries are run: nothing is created, changed or written. Memory is bounded by [`MOST_MEMORY`], beyond which
//! sorts and aggregates go to temporary files, and other operators fail and say so.

mod error;
mod ndjson;
mod tables;

use std::{io::Write, path::Path};

use datafusion::{
    arrow::{
        array::RecordBatch,
        json::{WriterBuilder, writer::LineDelimited},
        util::pretty::pretty_format_batches,
    },
    execution::{SendableRecordBatchStream, context::SQLOptions, runtime_env::RuntimeEnvBuilder},
    prelude::{SessionConfig, SessionContext},
};
use futures::StreamExt;

pub use self::{error::QueryError, tables::Table};

/// Memory that a query may take, in bytes.
pub const MOST_MEMORY: usize = 1 << 30;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A table for reading, of at most so many rows, with a line that tells how many there were where that was more.
    Table {
        /// Most rows shown.
        rows: usize,
    },
    /// One JSON object a line, all of them, written as they come.
    Ndjson,
}

/// A folder, ready for queries.
pub struct Query {
    context: SessionContext,
    tables: Vec<Table>,
}

impl std::fmt::Debug for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Query")
            .field("tables", &self.tables)
            .finish_non_exhaustive()
    }
}

impl Query {
    /// Finds the tables of a folder. Must be called within a Tokio runtime, as must [`Self::run`].
    ///
    /// # Errors
    /// Where the folder or a file cannot be read, two files would be one table, or there is nothing to query.
    pub async fn open(folder: &Path) -> Result<Self, QueryError> {
        let runtime = RuntimeEnvBuilder::new().with_memory_limit(MOST_MEMORY, 1.0).build_arc();
        let runtime = runtime.map_err(|error| QueryError::of_engine(&error))?;
        let mut config = SessionConfig::new()
            .with_target_partitions(1)
            .with_information_schema(true);
        config.options_mut().sql_parser.collect_spans = true;
        let context = SessionContext::new_with_config_rt(config, runtime);
        let tables = tables::register(&context, folder).await?;
        Ok(Self { context, tables })
    }

    /// The tables there are, by name.
    #[must_use]
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// Whether a query reads tables, and all of these come of empty files.
    fn asks_of_nothing(&self, sql: &str) -> bool {
        let state = self.context.state();
        let dialect = state.config_options().sql_parser.dialect;
        let named = state
            .sql_to_statement(sql, &dialect)
            .and_then(|statement| state.resolve_table_references(&statement));
        let is_empty = |name: &str| {
            self.tables
                .iter()
                .any(|table| table.name == name && table.columns.is_empty())
        };
        named.is_ok_and(|named| !named.is_empty() && named.iter().all(|table| is_empty(table.table())))
    }

    /// Runs one query and writes what it finds. Returns how many rows that was.
    ///
    /// # Errors
    /// Where the text is no query over the tables, with the place in it; where a file turns out to be damaged; and where
    /// the result cannot be written.
    pub async fn run(&self, sql: &str, format: Format, to: &mut (dyn Write + Send)) -> Result<usize, QueryError> {
        let only_queries = SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false);
        let planned = self.context.sql_with_options(sql, only_queries).await;
        let planned = match planned {
            Ok(planned) => planned,
            // a file without a line has no columns that a query could name, and there is nothing to be found in it
            Err(_) if self.asks_of_nothing(sql) => return Ok(0),
            Err(error) => return Err(QueryError::of_sql(sql, &error, &self.tables)),
        };
        let stream = planned
            .execute_stream()
            .await
            .map_err(|error| QueryError::of_engine(&error))?;
        match format {
            Format::Table { rows } => write_table(stream, rows, to).await,
            Format::Ndjson => write_ndjson(stream, to).await,
        }
    }
}

async fn write_table(
    mut stream: SendableRecordBatchStream,
    most: usize,
    to: &mut (dyn Write + Send),
) -> Result<usize, QueryError> {
    let (mut shown, mut total, mut kept) = (vec![RecordBatch::new_empty(stream.schema())], 0, 0);
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(|error| QueryError::of_engine(&error))?;
        total += batch.num_rows();
        let take = batch.num_rows().min(most - kept);
        if take > 0 {
            kept += take;
            shown.push(batch.slice(0, take));
        }
    }
    let table = pretty_format_batches(&shown).map_err(|error| QueryError::of_engine(&error.into()))?;
    writeln!(to, "{table}").map_err(QueryError::of_output)?;
    if total > kept {
        writeln!(to, "{kept} of {total} rows").map_err(QueryError::of_output)?;
    }
    Ok(total)
}

async fn write_ndjson(mut stream: SendableRecordBatchStream, to: &mut (dyn Write + Send)) -> Result<usize, QueryError> {
    let mut total = 0;
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(|error| QueryError::of_engine(&error))?;
        total += batch.num_rows();
        // a column without a value is null, so that every line has every column
        let mut lines = WriterBuilder::new()
            .with_explicit_nulls(true)
            .build::<_, LineDelimited>(Vec::new());
        lines
            .write(&batch)
            .and_then(|()| lines.finish())
            .map_err(|error| QueryError::of_engine(&error.into()))?;
        to.write_all(&lines.into_inner()).map_err(QueryError::of_output)?;
    }
    Ok(total)
}

#[cfg(test)]
mod tests;
