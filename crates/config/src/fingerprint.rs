//! One number that stands for what a pipeline decides.

use serde_json::Value;
use suture_event::stable_hash;

use crate::{Limits, Pipeline, Rekey};

impl Pipeline {
    /// A hash of everything in the file that decides what comes out: two files with the same fingerprint give the same
    /// results from the same input, and a snapshot made under one can be read under the other. Left out: the broker's
    /// settings and topics' names of its own, the pipeline's and the rules' names, and bounds that only estimate.
    ///
    /// The texts of files that the pipeline names, such as its topology, are not in it.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut deciding = self.clone();
        deciding.name = String::new();
        deciding.kafka = crate::Kafka {
            // for whom decide waits, and how long
            idle_after: self.kafka.idle_after,
            patience: self.kafka.patience,
            ..crate::Kafka::default()
        };
        // who is called decides nothing
        deciding.escalate = None;
        // what it holds counts, and not what it is called
        deciding.model = None;
        deciding.limits.shards = Limits::default().shards;
        deciding.limits.memory = None;
        if let Some(rekey) = &mut deciding.rekey {
            *rekey = Rekey {
                partitions: rekey.partitions,
                by: std::mem::take(&mut rekey.by),
                ..Rekey::default()
            };
        }
        for rule in &mut deciding.signals {
            rule.name = String::new();
            // already part of `detect`
            rule.direction = None;
            rule.least_effect = None;
            rule.alarms = None;
        }
        for rule in &mut deciding.derive {
            // already part of `detect`; the name is that of the series it makes
            rule.direction = None;
            rule.least_effect = None;
            rule.alarms = None;
        }
        let mut text = String::new();
        // every field is a text, number, list or mapping with text keys: none fails to become JSON
        let mut json = serde_json::to_value(&deciding).unwrap_or_default();
        if let Some(limits) = json.get_mut("limits").and_then(Value::as_object_mut) {
            // decides nothing, and is younger than what was made under a fingerprint
            limits.remove("compared_series");
        }
        if let Some(rekey) = json.get_mut("rekey").and_then(Value::as_object_mut) {
            // the same
            rekey.remove("patience");
        }
        canonical(&json, &mut text);
        stable_hash([b"pipeline".as_slice(), text.as_bytes()])
    }
}

/// JSON with sorted keys, whatever order the map keeps.
fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(object) => {
            let mut entries: Vec<_> = object.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            out.push('{');
            for (key, value) in entries {
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                canonical(value, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}
