//! The JSON Schema of the pipeline file, and questions asked of it.

use serde_json::Value as Json;
use suture_event::canonical;

use crate::Pipeline;

/// The JSON Schema (draft 2020-12) of the pipeline file: what editors complete from. Descriptions are those of the types.
#[must_use]
pub fn schema() -> Json {
    of::<Pipeline>()
}

/// The same of any part of one.
pub(crate) fn of<T: schemars::JsonSchema>() -> Json {
    let mut schema = schemars::schema_for!(T).to_value();
    unwrap_lines(&mut schema);
    canonical(schema)
}

/// Doc comments are wrapped for their source; in an editor or a table they flow.
fn unwrap_lines(value: &mut Json) {
    match value {
        Json::Object(object) => {
            for (key, value) in object.iter_mut() {
                match value {
                    Json::String(text) if key == "description" => {
                        *text = text
                            .split("\n\n")
                            .map(|part| part.replace('\n', " "))
                            .collect::<Vec<_>>()
                            .join("\n\n");
                    }
                    value => unwrap_lines(value),
                }
            }
        }
        Json::Array(items) => items.iter_mut().for_each(unwrap_lines),
        _ => {}
    }
}

/// A schema and the way to look around in it.
pub(crate) struct Guide<'s> {
    pub(crate) root: &'s Json,
}

impl<'s> Guide<'s> {
    /// The part of the schema that a JSON pointer leads to.
    pub(crate) fn at(&self, pointer: &str) -> &'s Json {
        self.root.pointer(pointer).unwrap_or(&Json::Null)
    }

    /// Follows references to what they stand for.
    pub(crate) fn resolve(&self, mut schema: &'s Json) -> &'s Json {
        for _ in 0..8 {
            match schema
                .get("$ref")
                .and_then(Json::as_str)
                .and_then(|r| r.strip_prefix('#'))
            {
                Some(pointer) => schema = self.at(pointer),
                None => break,
            }
        }
        schema
    }

    /// The branches of an `anyOf` or `oneOf`, but for `null`.
    pub(crate) fn branches(&self, schema: &'s Json) -> Vec<&'s Json> {
        let all = ["anyOf", "oneOf"].iter().find_map(|key| schema.get(key)?.as_array());
        let is_null = |branch: &&Json| branch.get("type").and_then(Json::as_str) == Some("null");
        all.into_iter().flatten().filter(|branch| !is_null(branch)).collect()
    }

    /// The texts that a schema allows, where it allows nothing else.
    pub(crate) fn choices(&self, schema: &'s Json) -> Option<Vec<&'s str>> {
        let schema = self.resolve(schema);
        if let Some(value) = schema.get("const") {
            return value.as_str().map(|text| vec![text]);
        }
        if let Some(values) = schema.get("enum").and_then(Json::as_array) {
            return Some(values.iter().filter_map(Json::as_str).collect());
        }
        let branches = self.branches(schema);
        if branches.is_empty() {
            return None;
        }
        let mut all = Vec::new();
        for branch in branches {
            all.extend(self.choices(branch)?);
        }
        Some(all)
    }

    /// The keys that a mapping may have, with their schemas.
    pub(crate) fn keys(&self, schema: &'s Json) -> Vec<(&'s str, &'s Json)> {
        let schema = self.resolve(schema);
        let own = schema.get("properties").and_then(Json::as_object);
        let mut keys: Vec<_> = own
            .into_iter()
            .flatten()
            .map(|(key, schema)| (key.as_str(), schema))
            .collect();
        for branch in self.branches(schema) {
            keys.extend(self.keys(branch));
        }
        keys
    }

    /// What may stand there, in words: `a text`, `one of …`, `a list of …`.
    pub(crate) fn expected(&self, schema: &'s Json) -> String {
        if let Some(choices) = self.choices(schema) {
            return match choices.as_slice() {
                [one] => format!("`{one}`"),
                many => format!("one of {}", quoted(many)),
            };
        }
        let schema = self.resolve(schema);
        let branches = self.branches(schema);
        if !branches.is_empty() {
            return branches
                .iter()
                .map(|branch| self.expected(branch))
                .collect::<Vec<_>>()
                .join(" or ");
        }
        // a text of a type of its own is told by what it says of itself: "A span of time: …"
        let noun = |text: &&str| text.starts_with("A ") || text.starts_with("An ");
        let format = schema
            .get("pattern")
            .and_then(|_| schema.get("description"))
            .and_then(Json::as_str)
            .filter(noun);
        if let Some(format) = format {
            return lower_first(format.split("\n\n").next().unwrap_or(format));
        }
        let kinds = match schema.get("type") {
            Some(Json::Array(kinds)) => kinds.iter().filter_map(Json::as_str).collect(),
            Some(Json::String(kind)) => vec![kind.as_str()],
            _ => Vec::new(),
        };
        match kinds.into_iter().find(|kind| *kind != "null") {
            Some("string") => "a text".to_owned(),
            Some("integer") => "a whole number".to_owned(),
            Some("number") => "a number".to_owned(),
            Some("boolean") => "true or false".to_owned(),
            Some("array") => match schema.get("items").map(|items| self.resolve(items)) {
                Some(items) if items.get("properties").is_some() => "a list of mappings".to_owned(),
                Some(items) => format!("a list, each item {}", self.expected(items)),
                None => "a list".to_owned(),
            },
            _ => "a mapping".to_owned(),
        }
    }

    /// Every place where a key of that name may stand, as the path of the mapping it belongs to.
    pub(crate) fn homes(&self, key: &str) -> Vec<String> {
        let mut homes = Vec::new();
        self.look_for(key, self.root, "", 0, &mut homes);
        homes
    }

    fn look_for(&self, wanted: &str, schema: &'s Json, path: &str, depth: usize, homes: &mut Vec<String>) {
        if depth > 6 {
            return;
        }
        for (key, inner) in self.keys(schema) {
            if key == wanted && !homes.iter().any(|home| home == path) {
                homes.push(path.to_owned());
            }
            let dot = if path.is_empty() { "" } else { "." };
            let inner = self.resolve(inner);
            match inner.get("items") {
                Some(items) => self.look_for(wanted, items, &format!("{path}{dot}{key}[]"), depth + 1, homes),
                None => self.look_for(wanted, inner, &format!("{path}{dot}{key}"), depth + 1, homes),
            }
        }
    }
}

/// The known name nearest to one that is not known, if any is near.
pub(crate) fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace(['-', ' '], "_");
    let unknown = plain(unknown);
    let closeness = |name: &str| {
        let name = plain(name);
        strsim::jaro_winkler(&unknown, &name).max(strsim::normalized_damerau_levenshtein(&unknown, &name))
    };
    known
        .iter()
        .map(|name| (closeness(name), *name))
        .filter(|(closeness, _)| *closeness >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// The names in back quotes, with commas between.
pub(crate) fn quoted(names: &[&str]) -> String {
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}
