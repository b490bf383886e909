//! `suture query`: SQL over what a replay wrote.

use std::path::PathBuf;

use suture_history::query::{Format, Query};

/// Answers a question in SQL about the files of a replay: anomalies, incidents, remediations, ledger, scores.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The question, such as "SELECT metric, count(*) FROM anomalies GROUP BY metric". SHOW TABLES lists the tables.
    #[arg(value_name = "SQL")]
    sql: String,
    /// The folder that a replay wrote, or one of Parquet or NDJSON files.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// One JSON object a row, rather than a table.
    #[arg(long)]
    ndjson: bool,
    /// Rows shown of a table.
    #[arg(long, value_name = "N", default_value_t = 100, conflicts_with = "ndjson")]
    rows: usize,
}

/// Runs the query and prints its rows.
pub(crate) fn query(args: &Args) -> anyhow::Result<()> {
    let format = if args.ndjson {
        Format::Ndjson
    } else {
        Format::Table { rows: args.rows }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let query = Query::open(&args.dir).await?;
        query.run(&args.sql, format, &mut std::io::stdout()).await?;
        Ok(())
    })
}
