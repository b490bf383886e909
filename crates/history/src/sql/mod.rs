//! SQL expressions of pipeline files: which samples to keep, and what to make of their values.
//!
//! An expression is one row's business: it reads the columns
//!
//! | column | type | |
//! | --- | --- | --- |
//! | `metric` | text | the metric's name |
//! | `labels` | map of text to text | `labels['service']`, or `labels.service`; NULL where there is no such label |
//! | `value` | double | the sample's value |
//! | `ts` | timestamp in milliseconds, UTC | the sample's time |
//!
//! and has the type that its place asks for, checked when the pipeline is loaded: boolean for a condition, a number for a
//! value. A condition that comes out as NULL does not keep the sample. A value that comes out as NULL, NaN or infinite
//! drops it. Subqueries, aggregates, window functions, and functions that read a clock or draw at random are refused: a
//! replay must find what the first run found.
//!
//! Compilation takes about a millisecond. Evaluation builds only the columns that the expression reads.

mod compile;
mod error;

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{
            Array, ArrayRef, BooleanArray, Float64Array, MapBuilder, MapFieldNames, RecordBatch, RecordBatchOptions,
            StringArray, StringBuilder, TimestampMillisecondArray,
        },
        datatypes::SchemaRef,
        error::ArrowError,
    },
    common::DataFusionError,
    physical_expr::PhysicalExpr,
    prelude::SessionContext,
};
use suture_engine::{EngineError, Expressions, Filter, Rows, ValueOf};
use suture_event::Labels;

use self::compile::{Column, Kind};
pub use self::error::SqlError;
pub(crate) use self::error::reason_of;

/// Compiles expressions; make one and use it for all.
pub struct SqlExpressions {
    context: SessionContext,
}

impl std::fmt::Debug for SqlExpressions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlExpressions").finish_non_exhaustive()
    }
}

impl Default for SqlExpressions {
    fn default() -> Self {
        Self::new()
    }
}

impl SqlExpressions {
    /// With DataFusion's own functions.
    #[must_use]
    pub fn new() -> Self {
        Self {
            context: compile::context(),
        }
    }

    /// Compiles a condition.
    ///
    /// # Errors
    /// Where the text is no SQL expression over the columns of a sample, or is no boolean; with the place in the text.
    pub fn compile_filter(&self, text: &str) -> Result<SqlFilter, SqlError> {
        compile::compile(&self.context, text, Kind::Condition).map(SqlFilter)
    }

    /// Compiles a number.
    ///
    /// # Errors
    /// Where the text is no SQL expression over the columns of a sample, or is no number; with the place in the text.
    pub fn compile_value(&self, text: &str) -> Result<SqlValue, SqlError> {
        compile::compile(&self.context, text, Kind::Number).map(SqlValue)
    }
}

impl Expressions for SqlExpressions {
    fn filter(&self, text: &str) -> Result<Arc<dyn Filter>, EngineError> {
        Ok(Arc::new(self.compile_filter(text).map_err(EngineError::from)?))
    }

    fn value(&self, text: &str) -> Result<Arc<dyn ValueOf>, EngineError> {
        Ok(Arc::new(self.compile_value(text).map_err(EngineError::from)?))
    }
}

/// An expression with the columns it reads.
#[derive(Debug)]
struct Compiled {
    text: String,
    /// The columns it reads, and no others.
    schema: SchemaRef,
    columns: Vec<Column>,
    expression: Arc<dyn PhysicalExpr>,
}

/// A compiled condition.
#[derive(Debug)]
pub struct SqlFilter(Compiled);

/// A compiled number.
#[derive(Debug)]
pub struct SqlValue(Compiled);

impl SqlFilter {
    /// The condition as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// Whether it reads the value or the time of a sample. If not, it is the same for every sample of a series.
    #[must_use]
    pub fn depends_on_sample(&self) -> bool {
        self.0
            .columns
            .iter()
            .any(|column| matches!(column, Column::Value | Column::Ts))
    }

    /// Which rows to keep; NULL is no.
    ///
    /// # Errors
    /// Where it cannot be evaluated, such as by a cast of a text that is no number.
    pub fn evaluate(&self, rows: Rows<'_>) -> Result<Vec<bool>, SqlError> {
        let array = self.0.evaluate(rows)?;
        let kept = array
            .as_any()
            .downcast_ref::<BooleanArray>()
            .ok_or_else(|| self.0.unexpected(&array))?;
        Ok(kept.iter().map(|keep| keep == Some(true)).collect())
    }
}

impl SqlValue {
    /// The expression as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// The value of each row; none where it is NULL, NaN or infinite.
    ///
    /// # Errors
    /// Where it cannot be evaluated, such as by a division of whole numbers by zero.
    pub fn evaluate(&self, rows: Rows<'_>) -> Result<Vec<Option<f64>>, SqlError> {
        let array = self.0.evaluate(rows)?;
        let values = array
            .as_any()
            .downcast_ref::<Float64Array>()
            .ok_or_else(|| self.0.unexpected(&array))?;
        Ok(values.iter().map(|value| value.filter(|v| v.is_finite())).collect())
    }
}

impl Filter for SqlFilter {
    fn reads_sample(&self) -> bool {
        self.depends_on_sample()
    }

    fn keep(&self, rows: Rows<'_>) -> Result<Vec<bool>, String> {
        self.evaluate(rows).map_err(|error| error.to_string())
    }
}

impl ValueOf for SqlValue {
    fn value(&self, rows: Rows<'_>) -> Result<Vec<Option<f64>>, String> {
        self.evaluate(rows).map_err(|error| error.to_string())
    }
}

impl Compiled {
    fn evaluate(&self, rows: Rows<'_>) -> Result<ArrayRef, SqlError> {
        let count = rows.value.len();
        let failed = |error: DataFusionError| SqlError::evaluation(&self.text, &error);
        let columns = self
            .columns
            .iter()
            .map(|column| column_of(*column, rows))
            .collect::<Result<Vec<_>, _>>();
        let columns = columns.map_err(|error| failed(error.into()))?;
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
            .map_err(|error| failed(error.into()))?;
        self.expression
            .evaluate(&batch)
            .and_then(|found| found.into_array(count))
            .map_err(failed)
    }

    fn unexpected(&self, array: &ArrayRef) -> SqlError {
        let error = DataFusionError::Internal(format!("it came out as {}", array.data_type()));
        SqlError::evaluation(&self.text, &error)
    }
}

fn column_of(column: Column, rows: Rows<'_>) -> Result<ArrayRef, ArrowError> {
    Ok(match column {
        Column::Metric => Arc::new(StringArray::from_iter_values(rows.metric)),
        Column::Labels => Arc::new(labels_of(rows.labels)?),
        Column::Value => Arc::new(Float64Array::from_iter_values(rows.value.iter().copied())),
        Column::Ts => {
            let millis = rows.ts.iter().map(|ts| ts.as_millis());
            Arc::new(TimestampMillisecondArray::from_iter_values(millis).with_timezone(compile::UTC))
        }
    })
}

fn labels_of(rows: &[&Labels]) -> Result<datafusion::arrow::array::MapArray, ArrowError> {
    let names = MapFieldNames {
        entry: compile::MAP_ENTRIES.into(),
        key: compile::MAP_KEY.into(),
        value: compile::MAP_VALUE.into(),
    };
    let mut maps = MapBuilder::with_capacity(Some(names), StringBuilder::new(), StringBuilder::new(), rows.len());
    for labels in rows {
        for (name, value) in labels.iter() {
            maps.keys().append_value(name);
            maps.values().append_value(value);
        }
        maps.append(true)?;
    }
    Ok(maps.finish())
}

#[cfg(test)]
mod tests;
