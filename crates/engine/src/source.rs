//! What an input partition carries.

use std::sync::Arc;

use suture_config::{Pipeline, TelemetryFormat};

use crate::{EngineError, Expressions, Filter, ValueOf};

/// What the records of an input topic are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// Samples in a telemetry format.
    Telemetry(TelemetryFormat),
    /// CDEvents, in a CloudEvents envelope or plain.
    Changes,
    /// What executors did.
    Outcomes,
    /// What humans want.
    Commands,
}

/// An input topic of the pipeline with its expressions compiled.
#[derive(Clone)]
pub struct Source {
    /// The topic.
    pub topic: String,
    /// What its records are.
    pub kind: SourceKind,
    /// Which samples to keep; all where absent.
    pub filter: Option<Arc<dyn Filter>>,
    /// What to make of their values; as they are where absent.
    pub value: Option<Arc<dyn ValueOf>>,
}

impl Source {
    /// Every topic that observe reads: the pipeline's telemetry and changes, and Suture's own outcomes and commands.
    ///
    /// # Errors
    /// Where an expression does not compile.
    pub fn all(pipeline: &Pipeline, expressions: &dyn Expressions) -> Result<Vec<Self>, EngineError> {
        let mut sources = Vec::new();
        for telemetry in &pipeline.telemetry {
            sources.push(Self {
                topic: telemetry.topic.clone(),
                kind: SourceKind::Telemetry(telemetry.format),
                filter: telemetry
                    .r#where
                    .as_deref()
                    .map(|text| expressions.filter(text))
                    .transpose()?,
                value: telemetry
                    .value
                    .as_deref()
                    .map(|text| expressions.value(text))
                    .transpose()?,
            });
        }
        let plain = |topic: String, kind| Self {
            topic,
            kind,
            filter: None,
            value: None,
        };
        for changes in &pipeline.changes {
            sources.push(plain(changes.topic.clone(), SourceKind::Changes));
        }
        let prefix = &pipeline.kafka.prefix;
        sources.push(plain(format!("{prefix}.outcomes"), SourceKind::Outcomes));
        sources.push(plain(format!("{prefix}.commands"), SourceKind::Commands));
        Ok(sources)
    }
}
