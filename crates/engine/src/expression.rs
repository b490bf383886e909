//! Expressions of the pipeline file, as far as the folds need to know of them: what compiles and evaluates them is handed
//! in, so that this crate does not depend on a SQL engine.

use std::sync::Arc;

use suture_event::{Labels, Timestamp};

use crate::EngineError;

/// Columns of samples that expressions are evaluated over; all of one length.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// Metric names.
    pub metric: &'a [&'a str],
    /// Label sets.
    pub labels: &'a [&'a Labels],
    /// Values.
    pub value: &'a [f64],
    /// Times.
    pub ts: &'a [Timestamp],
}

/// A compiled condition.
pub trait Filter: Send + Sync {
    /// Whether it reads the value or the time of a sample; if not it is evaluated once for each series.
    fn reads_sample(&self) -> bool;
    /// One answer a row.
    ///
    /// # Errors
    /// Where evaluation fails, such as by a division by zero.
    fn keep(&self, rows: Rows<'_>) -> Result<Vec<bool>, String>;
}

/// A compiled number.
pub trait ValueOf: Send + Sync {
    /// One number a row; `None` drops the sample.
    ///
    /// # Errors
    /// Where evaluation fails.
    fn value(&self, rows: Rows<'_>) -> Result<Vec<Option<f64>>, String>;
}

/// Compiles the texts of a pipeline file.
pub trait Expressions: Send + Sync {
    /// Compiles a condition over `metric`, `labels`, `value` and `ts`.
    ///
    /// # Errors
    /// [`EngineError::Expression`] with the reason.
    fn filter(&self, text: &str) -> Result<Arc<dyn Filter>, EngineError>;
    /// Compiles a number over the same columns.
    ///
    /// # Errors
    /// [`EngineError::Expression`] with the reason.
    fn value(&self, text: &str) -> Result<Arc<dyn ValueOf>, EngineError>;
}

/// A build without a SQL engine: refuses every expression, so that a pipeline which has none still runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoExpressions;

impl NoExpressions {
    fn refuse(text: &str) -> EngineError {
        EngineError::Expression {
            text: text.to_owned(),
            reason: "this build has no SQL: build the program with the feature `history`".to_owned(),
        }
    }
}

impl Expressions for NoExpressions {
    fn filter(&self, text: &str) -> Result<Arc<dyn Filter>, EngineError> {
        Err(Self::refuse(text))
    }
    fn value(&self, text: &str) -> Result<Arc<dyn ValueOf>, EngineError> {
        Err(Self::refuse(text))
    }
}
