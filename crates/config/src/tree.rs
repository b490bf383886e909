//! A YAML document as a tree that knows where in the text each piece stands.

use std::ops::Range;

use serde_json::Value as Json;
use suture_event::canonical;

/// One value and its place.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) span: Range<usize>,
    pub(crate) value: Value,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A text as it stands, unescaped.
#[derive(Debug, Clone)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    /// Without quotes, so that it may be a number, a boolean or nothing.
    pub(crate) plain: bool,
    /// Has what an environment variable held in it.
    pub(crate) substituted: bool,
    /// What it should hold is not known: a variable was not there. There is an error for that already.
    pub(crate) unknown: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Range<usize>,
    pub(crate) value: Node,
}

/// Where in the text a path leads, as far as it leads anywhere.
pub(crate) struct Place<'a> {
    /// The key, where the last step was one.
    pub(crate) key_span: Option<Range<usize>>,
    pub(crate) node: &'a Node,
    /// Whether the whole path was found, or `node` is only the last part of it that there is.
    pub(crate) whole: bool,
}

impl Place<'_> {
    /// What to underline for a problem with the value: a scalar itself, or the key or beginning of anything larger.
    pub(crate) fn span(&self) -> Range<usize> {
        match (&self.node.value, &self.key_span) {
            (Value::Scalar(_), Some(key)) if self.node.span.is_empty() || !self.whole => key.clone(),
            (Value::Scalar(_), _) => self.node.span.clone(),
            (_, Some(key)) => key.clone(),
            (Value::Map(entries), None) => entries
                .first()
                .map_or_else(|| self.node.span.clone(), |first| first.key_span.clone()),
            (Value::List(_), None) => self.node.span.clone(),
        }
    }
}

impl Node {
    /// A mapping's value for a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entries()
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| &entry.value)
    }

    /// A mapping's entries; none for anything else.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// A list's items; none for anything else.
    pub(crate) fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// A scalar, where it is one.
    pub(crate) fn scalar(&self) -> Option<&Scalar> {
        match &self.value {
            Value::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// Follows a path such as `a.b[2].c`. Keys may have dots in them: the longest key that fits is taken.
    pub(crate) fn locate(&self, path: &str) -> Place<'_> {
        let mut place = Place {
            key_span: None,
            node: self,
            whole: true,
        };
        let mut rest = path;
        while !rest.is_empty() {
            let Some((key_span, node, left)) = step(place.node, rest) else {
                place.whole = false;
                return place;
            };
            place = Place {
                key_span,
                node,
                whole: true,
            };
            rest = left.strip_prefix('.').unwrap_or(left);
        }
        place
    }

    /// Follows a JSON pointer (RFC 6901).
    pub(crate) fn locate_pointer(&self, pointer: &str) -> Place<'_> {
        let mut place = Place {
            key_span: None,
            node: self,
            whole: true,
        };
        for part in pointer.split('/').skip(1) {
            let part = part.replace("~1", "/").replace("~0", "~");
            let next = match &place.node.value {
                Value::Map(entries) => entries
                    .iter()
                    .find(|e| e.key == part)
                    .map(|e| (Some(e.key_span.clone()), &e.value)),
                Value::List(items) => part
                    .parse::<usize>()
                    .ok()
                    .and_then(|i| items.get(i))
                    .map(|node| (None, node)),
                Value::Scalar(_) => None,
            };
            let Some((key_span, node)) = next else {
                place.whole = false;
                return place;
            };
            place = Place {
                key_span,
                node,
                whole: true,
            };
        }
        place
    }

    /// As JSON: plain scalars get their YAML 1.2 core types. Where `raw` says so of a path of keys, scalars stay the texts
    /// they are.
    pub(crate) fn to_json(&self, raw: &dyn Fn(&[&str]) -> bool) -> Json {
        let mut path = Vec::new();
        canonical(self.json_at(&mut path, raw))
    }

    fn json_at<'a>(&'a self, path: &mut Vec<&'a str>, raw: &dyn Fn(&[&str]) -> bool) -> Json {
        match &self.value {
            Value::Scalar(scalar) if scalar.plain => {
                let typed = core_type(&scalar.text);
                if !typed.is_null() && raw(path) {
                    Json::String(scalar.text.clone())
                } else {
                    typed
                }
            }
            Value::Scalar(scalar) => Json::String(scalar.text.clone()),
            Value::List(items) => Json::Array(items.iter().map(|item| item.json_at(path, raw)).collect()),
            Value::Map(entries) => {
                let mut object = serde_json::Map::new();
                for entry in entries {
                    path.push(&entry.key);
                    object.insert(entry.key.clone(), entry.value.json_at(path, raw));
                    path.pop();
                }
                Json::Object(object)
            }
        }
    }

    /// This mapping with the entries of `over` in place of, or beside, its own; mappings within mappings likewise, anything
    /// else as a whole.
    pub(crate) fn overridden_by(&self, over: &Node) -> Node {
        let (Value::Map(base), Value::Map(entries)) = (&self.value, &over.value) else {
            return over.clone();
        };
        let mut merged = base.clone();
        for entry in entries {
            match merged.iter_mut().find(|known| known.key == entry.key) {
                Some(known) => {
                    known.value = known.value.overridden_by(&entry.value);
                    known.key_span = entry.key_span.clone();
                }
                None => merged.push(entry.clone()),
            }
        }
        Node {
            span: over.span.clone(),
            value: Value::Map(merged),
        }
    }

    /// Whether a value somewhere in it is not known.
    pub(crate) fn has_unknown(&self) -> bool {
        match &self.value {
            Value::Scalar(scalar) => scalar.unknown,
            Value::List(items) => items.iter().any(Node::has_unknown),
            Value::Map(entries) => entries.iter().any(|entry| entry.value.has_unknown()),
        }
    }

    /// How many values there are in it, itself included.
    pub(crate) fn count(&self) -> usize {
        1 + match &self.value {
            Value::Scalar(_) => 0,
            Value::List(items) => items.iter().map(Node::count).sum(),
            Value::Map(entries) => entries.iter().map(|entry| entry.value.count()).sum(),
        }
    }

    /// What it is, for people.
    pub(crate) fn what(&self) -> &'static str {
        match &self.value {
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
            Value::Scalar(scalar) if !scalar.plain => "a text",
            Value::Scalar(scalar) => match core_type(&scalar.text) {
                Json::Null => "nothing",
                Json::Bool(_) => "a boolean",
                Json::Number(_) => "a number",
                _ => "a text",
            },
        }
    }
}

type Step<'a, 'p> = (Option<Range<usize>>, &'a Node, &'p str);

fn step<'a, 'p>(node: &'a Node, path: &'p str) -> Option<Step<'a, 'p>> {
    if let Some(indexed) = path.strip_prefix('[') {
        let (index, left) = indexed.split_once(']')?;
        return Some((None, node.items().get(index.parse::<usize>().ok()?)?, left));
    }
    let fits = |entry: &&Entry| {
        path.strip_prefix(entry.key.as_str())
            .is_some_and(|left| left.is_empty() || left.starts_with('.') || left.starts_with('['))
    };
    let entry = node.entries().iter().filter(fits).max_by_key(|entry| entry.key.len())?;
    Some((Some(entry.key_span.clone()), &entry.value, path.get(entry.key.len()..)?))
}

/// The type that YAML 1.2's core schema gives a scalar without quotes. Infinities and NaN, which no setting can mean, stay texts.
fn core_type(text: &str) -> Json {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Json::Null,
        "true" | "True" | "TRUE" => return Json::Bool(true),
        "false" | "False" | "FALSE" => return Json::Bool(false),
        _ => {}
    }
    let based = |prefix: &str, radix: u32| {
        text.strip_prefix(prefix)
            .filter(|digits| digits.starts_with(|c: char| c.is_ascii_hexdigit()))
            .and_then(|digits| u64::from_str_radix(digits, radix).ok())
    };
    if let Some(number) = based("0x", 16).or_else(|| based("0o", 8)) {
        return number.into();
    }
    let number_like = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'))
        && text.contains(|c: char| c.is_ascii_digit())
        && text
            .chars()
            .all(|c| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E'));
    if !number_like {
        return Json::String(text.to_owned());
    }
    if let Ok(number) = text.parse::<i64>() {
        return number.into();
    }
    if let Ok(number) = text.parse::<u64>() {
        return number.into();
    }
    text.parse::<f64>()
        .ok()
        .and_then(serde_json::Number::from_f64)
        .map_or_else(|| Json::String(text.to_owned()), Json::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_without_quotes_get_their_core_types() {
        for (text, json) in [
            ("1", "1"),
            ("+1", "1"),
            ("-2.5", "-2.5"),
            ("1e-4", "0.0001"),
            (".5", "0.5"),
            ("0x1F", "31"),
            ("true", "true"),
            ("~", "null"),
            ("yes", "\"yes\""),
            ("1m", "\"1m\""),
            ("1.2.3", "\"1.2.3\""),
            (".inf", "\".inf\""),
            ("-", "\"-\""),
            ("18446744073709551615", "18446744073709551615"),
        ] {
            assert_eq!(core_type(text), serde_json::from_str::<Json>(json).unwrap(), "{text}");
        }
    }
}
