//! Telemetry kept as Parquet, as the records that a collector would have sent.

use std::path::Path;

use datafusion::{
    arrow::ipc::writer::StreamWriter,
    execution::runtime_env::RuntimeEnvBuilder,
    prelude::{ParquetReadOptions, SessionConfig, SessionContext, col},
};
use futures::StreamExt;

use crate::query::{MOST_MEMORY, QueryError};

/// Reads a Parquet file, or a folder of them, in the order of its column `ts`, and hands it on as Arrow IPC streams of some
/// thousand rows each: telemetry of the format `arrow_ipc`, whose columns it must have. What does not fit in a gigabyte
/// while it is sorted is kept in temporary files. Must be called within a Tokio runtime. Returns how many rows there were.
///
/// # Errors
/// Where a file cannot be read or has no column `ts`, and whatever `sink` fails with.
pub async fn telemetry<E: From<QueryError>>(
    path: &Path,
    mut sink: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<u64, E> {
    let runtime = RuntimeEnvBuilder::new().with_memory_limit(MOST_MEMORY, 1.0).build_arc();
    let runtime = runtime.map_err(|error| QueryError::of_engine(&error))?;
    let config = SessionConfig::new().with_target_partitions(1);
    let context = SessionContext::new_with_config_rt(config, runtime);
    let failed = |error: datafusion::error::DataFusionError| QueryError::read(path, error.strip_backtrace());
    let text = path.to_string_lossy().into_owned();
    let frame = context
        .read_parquet(text, ParquetReadOptions::default())
        .await
        .map_err(failed)?;
    let frame = frame.sort(vec![col("ts").sort(true, false)]).map_err(failed)?;
    let mut stream = frame.execute_stream().await.map_err(failed)?;
    let mut rows = 0;
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(failed)?;
        rows += batch.num_rows() as u64;
        let written = StreamWriter::try_new(Vec::new(), &batch.schema()).and_then(|mut writer| {
            writer.write(&batch)?;
            writer.into_inner()
        });
        sink(&written.map_err(|error| failed(error.into()))?)?;
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Cursor, sync::Arc};

    use datafusion::{
        arrow::{
            array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray},
            datatypes::Int64Type,
            ipc::reader::StreamReader,
        },
        parquet::arrow::ArrowWriter,
    };

    use super::*;

    fn batch(ts: Vec<i64>) -> RecordBatch {
        let n = ts.len();
        let columns: [(&str, ArrayRef); 3] = [
            ("ts", Arc::new(Int64Array::from(ts))),
            ("metric", Arc::new(StringArray::from(vec!["cpu"; n]))),
            ("value", Arc::new(Float64Array::from(vec![1.5; n]))),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    #[tokio::test]
    async fn rows_come_in_the_order_of_time_over_files() {
        let folder = tempfile::tempdir().unwrap();
        for (name, ts) in [("a", vec![50, 10, 30]), ("b", vec![20, 60, 40])] {
            let file = File::create(folder.path().join(format!("{name}.parquet"))).unwrap();
            let batch = batch(ts);
            let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
            writer.write(&batch).unwrap();
            writer.close().unwrap();
        }
        let mut seen = Vec::new();
        let rows = telemetry::<QueryError>(folder.path(), |bytes| {
            for batch in StreamReader::try_new(Cursor::new(bytes), None).unwrap() {
                let batch = batch.unwrap();
                let ts = batch.column_by_name("ts").unwrap();
                let ts = datafusion::arrow::array::AsArray::as_primitive::<Int64Type>(ts);
                seen.extend(ts.values().iter().copied());
            }
            Ok(())
        });
        assert_eq!(rows.await.unwrap(), 6);
        assert_eq!(seen, [10, 20, 30, 40, 50, 60]);
        let none = telemetry::<QueryError>(&folder.path().join("none.parquet"), |_| Ok(())).await;
        assert!(none.unwrap_err().to_string().contains("none.parquet"));
    }
}
