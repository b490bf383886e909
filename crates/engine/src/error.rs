//! What can go wrong in the folds, other than a bad record, which is a dead letter and no error.

/// An error of the engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The pipeline's window options can't be.
    #[error("windows: {0}")]
    Window(String),
    /// The pipeline's detector options can't be.
    #[error("signal {signal}: detectors: {reason}")]
    Detect {
        /// The signal rule's name.
        signal: String,
        /// What is wrong.
        reason: String,
    },
    /// The pipeline's remediation options can't be.
    #[error("remediation of scope {scope}: {reason}")]
    Remediate {
        /// The scope.
        scope: String,
        /// What is wrong.
        reason: String,
    },
    /// An expression of the pipeline could not be compiled or evaluated.
    #[error("expression {text:?}: {reason}")]
    Expression {
        /// The expression as the pipeline file has it.
        text: String,
        /// What is wrong.
        reason: String,
    },
    /// A model file could not be written or read, or does not fit the pipeline.
    #[error("model: {0}")]
    Model(String),
    /// A repartition stage was asked for, and the pipeline has none.
    #[error("the pipeline has no `rekey`")]
    NoRekey,
    /// A snapshot could not be written or read.
    #[error("snapshot of {shard}: {reason}; start the shard cold if this persists")]
    Snapshot {
        /// The shard, or the facts partition.
        shard: String,
        /// What is wrong.
        reason: String,
    },
}
