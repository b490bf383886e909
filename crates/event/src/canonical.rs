//! JSON whose bytes depend on its contents alone.
//!
//! Whether an object of `serde_json` keeps its keys sorted or in the order in which they came is a feature that any dependency of
//! the program may turn on for all of it. What is hashed, signed or written and is made of such objects goes through here, so
//! that the same decision has the same hash in every build.

use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::Value;

/// The same value with the keys of every object in order of their bytes, which is the order of a `BTreeMap`.
///
/// Costs nothing where objects are kept sorted already.
#[must_use]
pub fn canonical(mut value: Value) -> Value {
    value.sort_all_objects();
    value
}

/// Writes a value as [`canonical`] would order it, without a copy of it; for `#[serde(serialize_with = …)]`.
///
/// # Errors
/// Those of the serializer.
pub fn serialize_canonical<S: Serializer>(value: &Value, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Value::Object(object) => {
            let mut entries: Vec<_> = object.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            let mut map = serializer.serialize_map(Some(entries.len()))?;
            for (key, value) in entries {
                map.serialize_entry(key, &Sorted(value))?;
            }
            map.end()
        }
        Value::Array(items) => serializer.collect_seq(items.iter().map(Sorted)),
        scalar => scalar.serialize(serializer),
    }
}

struct Sorted<'v>(&'v Value);

impl Serialize for Sorted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_canonical(self.0, serializer)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;

    /// The same contents, put in from either end.
    fn both() -> [Value; 2] {
        let inner = |forth: bool| object(forth, &[("z", json!(1.5)), ("a", json!("é")), ("Z", json!(null))]);
        let outer = |forth: bool| {
            let items = json!([inner(forth), 3, [inner(forth)]]);
            object(forth, &[("items", items), ("b", inner(forth)), ("a.b", json!(true))])
        };
        [outer(true), outer(false)]
    }

    fn object(forth: bool, entries: &[(&str, Value)]) -> Value {
        let entries = entries.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
        let object: Map<String, Value> = if forth {
            entries.collect()
        } else {
            entries.rev().collect()
        };
        Value::Object(object)
    }

    #[test]
    fn the_order_in_which_keys_were_put_in_is_not_seen() {
        const INNER: &str = r#"{"Z":null,"a":"é","z":1.5}"#;
        let expected = format!(r#"{{"a.b":true,"b":{INNER},"items":[{INNER},3,[{INNER}]]}}"#);
        for value in both() {
            assert_eq!(serde_json::to_string(&Sorted(&value)).unwrap(), expected);
            assert_eq!(canonical(value).to_string(), expected);
        }
        // as it was read
        let read: Value = serde_json::from_str(r#"{"b": {"y": 1, "x": 2}, "a": 3}"#).unwrap();
        assert_eq!(canonical(read).to_string(), r#"{"a":3,"b":{"x":2,"y":1}}"#);
    }
}
