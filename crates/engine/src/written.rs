//! Parts of the pipeline and notes as JSON, which every one of them can be written as.

use serde::Serialize;
use serde_json::Value;
use suture_event::{impossible, stable_hash};

/// What stands for a part of the pipeline in a snapshot's shape and in a model.
pub(crate) fn fingerprint_of<T: Serialize>(part: &T) -> u64 {
    let bytes = serde_json::to_vec(part).unwrap_or_else(|_| {
        impossible("a part of the pipeline that is no JSON");
        Vec::new()
    });
    stable_hash([bytes.as_slice()])
}

/// The body of a ledger record.
pub(crate) fn body_of<T: Serialize>(note: &T) -> Value {
    serde_json::to_value(note).unwrap_or_else(|error| {
        impossible("a note for the ledger that is no JSON");
        serde_json::json!({"not_written": error.to_string()})
    })
}
