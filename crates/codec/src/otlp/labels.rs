//! From attributes to labels.

use std::borrow::Cow;

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value},
    resource::v1::Resource,
};
use suture_event::canonical;

use super::super::sample::Pairs;

/// Attributes of a resource that say how the thing was built or is run, and not which thing it is.
const DESCRIPTIVE: [&str; 8] = [
    "service.version",
    "telemetry.sdk.",
    "telemetry.distro.",
    "telemetry.auto.",
    "process.command",
    "process.executable.",
    "process.runtime.",
    "process.owner",
];

/// The label for an attribute; none where it is left out.
fn label_of(attribute: &str, of_resource: bool) -> Option<&str> {
    match attribute {
        "service.name" => Some("service"),
        "deployment.environment" => Some("deployment.environment.name"),
        _ if of_resource && DESCRIPTIVE.iter().any(|start| attribute.starts_with(start)) => None,
        _ => Some(attribute),
    }
}

/// Adds the attributes that no label has yet.
pub(super) fn add<'a>(pairs: &mut Pairs<'a>, attributes: &'a [KeyValue], of_resource: bool) {
    let before = pairs.len();
    for attribute in attributes {
        let Some(name) = label_of(&attribute.key, of_resource) else {
            continue;
        };
        // what was there before this list counts more; doubles within the list are for the caller to find
        if pairs[..before].iter().any(|(other, _)| other == name) {
            continue;
        }
        if name != attribute.key && attributes.iter().any(|other| other.key == name) {
            continue;
        }
        if let Some(value) = attribute.value.as_ref().and_then(text_of) {
            pairs.push((Cow::Borrowed(name), value));
        }
    }
}

/// An attribute of a resource, as a text that is not empty.
pub(super) fn find<'a>(resource: &'a Resource, names: &[&str]) -> Option<Cow<'a, str>> {
    let value = |name: &&str| {
        resource
            .attributes
            .iter()
            .find(|a| a.key == **name)?
            .value
            .as_ref()
            .and_then(text_of)
    };
    names.iter().find_map(value).filter(|text| !text.is_empty())
}

fn text_of(value: &AnyValue) -> Option<Cow<'_, str>> {
    Some(match value.value.as_ref()? {
        Value::StringValue(text) => Cow::Borrowed(text),
        Value::BoolValue(true) => Cow::Borrowed("true"),
        Value::BoolValue(false) => Cow::Borrowed("false"),
        Value::IntValue(whole) => Cow::Owned(whole.to_string()),
        Value::DoubleValue(number) => Cow::Owned(number.to_string()),
        Value::BytesValue(bytes) => Cow::Owned(hex(bytes)),
        Value::ArrayValue(_) | Value::KvlistValue(_) => Cow::Owned(canonical(json_of(value)).to_string()),
        // an index into a dictionary that metrics do not have: as if it were absent, as the protocol says
        Value::StringValueStrindex(_) => return None,
    })
}

/// Nesting is bounded by the depth that prost and serde_json decode.
fn json_of(value: &AnyValue) -> serde_json::Value {
    match value.value.as_ref() {
        Some(Value::StringValue(text)) => text.as_str().into(),
        Some(Value::BoolValue(truth)) => (*truth).into(),
        Some(Value::IntValue(whole)) => (*whole).into(),
        Some(Value::DoubleValue(number)) => (*number).into(),
        Some(Value::BytesValue(bytes)) => hex(bytes).into(),
        Some(Value::ArrayValue(array)) => array.values.iter().map(json_of).collect(),
        Some(Value::KvlistValue(list)) => {
            let entry = |kv: &KeyValue| {
                (
                    kv.key.clone(),
                    kv.value.as_ref().map_or(serde_json::Value::Null, json_of),
                )
            };
            serde_json::Value::Object(list.values.iter().map(entry).collect())
        }
        Some(Value::StringValueStrindex(_)) | None => serde_json::Value::Null,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            text.push_str(&format!("{byte:02x}"));
            text
        })
}
