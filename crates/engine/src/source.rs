//! What an input partition carries.

use std::sync::Arc;

use suture_codec::{ChangeFormat, Fields, TelemetryFormat};
use suture_config::Pipeline;

use crate::{EngineError, Expressions, Filter, ValueOf};

/// What the records of an input topic are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// Samples in a telemetry format.
    Telemetry(TelemetryFormat),
    /// Samples that the repartition stage took from telemetry topics and put into partitions anew.
    Rekeyed,
    /// Changes.
    Changes(ChangeFormat),
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
    /// Where in JSON of another shape a sample's parts are.
    pub fields: Option<Arc<Fields>>,
    /// Which samples to keep; all where absent.
    pub filter: Option<Arc<dyn Filter>>,
    /// What to make of their values; as they are where absent.
    pub value: Option<Arc<dyn ValueOf>>,
}

impl Source {
    /// What observe's plane reads: [`Self::all`], but with one topic in place of all telemetry where the pipeline has it put
    /// into partitions anew.
    ///
    /// # Errors
    /// Where an expression does not compile.
    pub fn of_observe(pipeline: &Pipeline, expressions: &dyn Expressions) -> Result<Vec<Self>, EngineError> {
        let mut sources = Self::all(pipeline, expressions)?;
        if let Some(topic) = pipeline.rekeyed_topic() {
            sources.retain(|source| !matches!(source.kind, SourceKind::Telemetry(_)));
            sources.insert(0, Self::plain(topic, SourceKind::Rekeyed));
        }
        Ok(sources)
    }

    /// What the repartition stage reads: the telemetry topics where the pipeline has such a stage, and nothing otherwise.
    ///
    /// # Errors
    /// Where an expression does not compile.
    pub fn of_rekey(pipeline: &Pipeline, expressions: &dyn Expressions) -> Result<Vec<Self>, EngineError> {
        let mut sources = Self::all(pipeline, expressions)?;
        sources.retain(|source| pipeline.rekey.is_some() && matches!(source.kind, SourceKind::Telemetry(_)));
        Ok(sources)
    }

    fn plain(topic: String, kind: SourceKind) -> Self {
        Self {
            topic,
            kind,
            fields: None,
            filter: None,
            value: None,
        }
    }

    /// Every topic that observe reads: the pipeline's telemetry and changes, and Suture's own outcomes and commands. The
    /// telemetry is that of its producers, whether or not it is put into partitions anew on the way.
    ///
    /// # Errors
    /// Where an expression does not compile.
    pub fn all(pipeline: &Pipeline, expressions: &dyn Expressions) -> Result<Vec<Self>, EngineError> {
        let mut sources = Vec::new();
        for telemetry in &pipeline.telemetry {
            sources.push(Self {
                topic: telemetry.topic.clone(),
                kind: SourceKind::Telemetry(telemetry.format),
                fields: telemetry.fields.clone().map(Arc::new),
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
        for changes in &pipeline.changes {
            sources.push(Self::plain(changes.topic.clone(), SourceKind::Changes(changes.format)));
        }
        let prefix = &pipeline.kafka.prefix;
        sources.push(Self::plain(format!("{prefix}.outcomes"), SourceKind::Outcomes));
        sources.push(Self::plain(format!("{prefix}.commands"), SourceKind::Commands));
        Ok(sources)
    }
}
