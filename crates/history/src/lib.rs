//! Everything DataFusion: SQL expressions of pipeline files, queries over what a replay or the archive holds.
//!
//! - [`sql`]: conditions and values over single samples, as a pipeline's `where` and `value` write them, compiled once and
//!   evaluated a batch at a time without async.
//! - [`query`]: SQL over the files that a replay writes, and over Parquet and NDJSON archives.

pub mod query;
pub mod sql;
mod telemetry;

pub use query::{Query, QueryError};
pub use sql::{SqlError, SqlExpressions, SqlFilter, SqlValue};
pub use telemetry::telemetry;
