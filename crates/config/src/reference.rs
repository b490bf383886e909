//! Every key of the pipeline file with its default, as Markdown, out of the schema.

use serde_json::Value as Json;

use crate::schema::{Guide, quoted, schema};

/// Top-level sections in the order in which a file is best read; any other follows by name.
const ORDER: [&str; 13] = [
    "scope",
    "kafka",
    "telemetry",
    "rekey",
    "changes",
    "topology",
    "window",
    "instances",
    "limits",
    "alarms",
    "detect",
    "signals",
    "derive",
];

/// Tables of every key of the pipeline file: what it takes, its default and what it means. One section for each mapping,
/// named by the path to it; `[]` stands for each item of a list.
#[must_use]
pub fn reference() -> String {
    let schema = schema();
    let mut page = Page {
        guide: Guide { root: &schema },
        seen: Vec::new(),
        out: String::new(),
    };
    page.section("", &schema, "The top of the file.");
    page.out.trim_end().to_owned() + "\n"
}

struct Page<'s> {
    guide: Guide<'s>,
    /// Mappings that have a section, with their places: a type that comes again is referred to.
    seen: Vec<(&'s Json, String)>,
    out: String,
}

impl<'s> Page<'s> {
    fn section(&mut self, path: &str, schema: &'s Json, about: &str) {
        let title = if path.is_empty() {
            "Top level".to_owned()
        } else {
            format!("`{path}`")
        };
        self.out.push_str(&format!("### {title}\n\n{about}\n\n"));
        self.out
            .push_str("| key | takes | default | meaning |\n| --- | --- | --- | --- |\n");
        let required: Vec<&str> = schema
            .get("required")
            .and_then(Json::as_array)
            .into_iter()
            .flatten()
            .filter_map(Json::as_str)
            .collect();
        let mut keys = self.guide.keys(schema);
        if path.is_empty() {
            keys.sort_by_key(|(key, schema)| {
                let simple = self.mapping(schema).is_none();
                let place = ORDER.iter().position(|known| known == key).unwrap_or(ORDER.len());
                (!simple, place, *key)
            });
        }
        let mut below = Vec::new();
        for (key, schema) in keys {
            let inner = join(path, key);
            let mapping = self.mapping(schema);
            let takes = match &mapping {
                Some((_, true)) => "a list of mappings".to_owned(),
                Some((_, false)) => "a mapping".to_owned(),
                None => self.takes(schema),
            };
            let default = if required.contains(&key) {
                "**required**".to_owned()
            } else {
                default(schema, mapping.is_some())
            };
            let mut meaning = text(schema, self.guide.resolve(schema));
            if let Some((inner_schema, list)) = mapping {
                let inner = if list { format!("{inner}[]") } else { inner };
                match self.seen.iter().find(|(known, _)| *known == inner_schema) {
                    Some((_, place)) => meaning.push_str(&format!(" Keys as in `{place}`.")),
                    None => {
                        self.seen.push((inner_schema, inner.clone()));
                        below.push((inner, inner_schema, meaning.clone()));
                    }
                }
            }
            meaning.push_str(&self.choices(schema));
            self.out.push_str(&format!(
                "| `{key}` | {} | {default} | {} |\n",
                cell(&takes),
                cell(&meaning)
            ));
        }
        self.out.push('\n');
        for (path, schema, about) in below {
            self.section(&path, schema, &about);
        }
    }

    /// The mapping with keys of its own that a schema is, or is a list of, and whether it is a list.
    fn mapping(&self, schema: &'s Json) -> Option<(&'s Json, bool)> {
        let schema = match self.guide.branches(schema).as_slice() {
            [only] => self.guide.resolve(only),
            _ => self.guide.resolve(schema),
        };
        if schema.get("properties").is_some() {
            return Some((schema, false));
        }
        let items = self.guide.resolve(schema.get("items")?);
        items.get("properties").is_some().then_some((items, true))
    }

    fn takes(&self, schema: &'s Json) -> String {
        if self.guide.choices(schema).is_some_and(|choices| choices.len() > 1) {
            return "a choice".to_owned();
        }
        let expected = self.guide.expected(schema);
        // a type that tells its form at length is named by its first words
        let short = expected.split(':').next().unwrap_or(&expected);
        match (short, self.guide.resolve(schema).get("additionalProperties")) {
            ("a mapping", Some(values)) if values.is_object() => {
                format!("a mapping, each value {}", self.guide.expected(values))
            }
            _ => short.to_owned(),
        }
    }

    /// What each choice means, where a schema has several.
    fn choices(&self, schema: &'s Json) -> String {
        let resolved = self.guide.resolve(schema);
        let mut branches = self.guide.branches(resolved);
        if let [only] = branches.as_slice() {
            branches = self.guide.branches(self.guide.resolve(only));
        }
        let choice = |branch: &&Json| {
            let name = branch.get("const").and_then(Json::as_str)?;
            let about = branch.get("description").and_then(Json::as_str).unwrap_or_default();
            Some(format!(" `{name}`: {}", about.trim_end_matches('.')))
        };
        let told: Vec<String> = branches.iter().filter_map(choice).collect();
        match self.guide.choices(schema) {
            _ if told.len() > 1 => format!("{}.", told.join(";")),
            Some(choices) if choices.len() > 1 => format!(" One of {}.", quoted(&choices)),
            _ => String::new(),
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

fn text(schema: &Json, resolved: &Json) -> String {
    let own = schema.get("description").or_else(|| resolved.get("description"));
    own.and_then(Json::as_str).unwrap_or_default().to_owned()
}

fn default(schema: &Json, mapping: bool) -> String {
    match schema.get("default") {
        Some(Json::Null) | None => "–".to_owned(),
        Some(Json::Object(_)) if mapping => "below".to_owned(),
        Some(Json::Array(items)) if items.is_empty() => "none".to_owned(),
        Some(Json::Object(entries)) if entries.is_empty() => "none".to_owned(),
        Some(Json::String(text)) if text.is_empty() => "–".to_owned(),
        Some(Json::String(text)) => format!("`{text}`"),
        Some(other) => format!("`{other}`"),
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
