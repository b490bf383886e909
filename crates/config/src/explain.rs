//! The pipeline as it was understood, every default written out and secrets masked.

use crate::{
    Pipeline,
    problem::Report,
    secret::{MASK, is_secret, without_userinfo},
    tree::{Node, Value},
    yaml,
};

impl Pipeline {
    /// The file as YAML with every default written out, signal rules with the whole of their `detect`, and secrets masked:
    /// values of keys that speak of a password, secret, token or private key, and passwords within addresses.
    #[must_use]
    pub fn explain(&self) -> String {
        // texts, numbers, lists and mappings with text keys can all be written
        let text = serde_saphyr::to_string(self).unwrap_or_default();
        mask(&text)
    }
}

/// The YAML text with secrets masked, where they stand in it.
fn mask(text: &str) -> String {
    let mut report = Report::new("", text);
    let Some(root) = yaml::read(text, &mut report) else {
        return String::new();
    };
    let mut places = Vec::new();
    find(&root, "", &mut places);
    places.sort_by_key(|(span, _)| span.start);
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for (span, instead) in places {
        out.push_str(text.get(from..span.start).unwrap_or_default());
        out.push_str(&instead);
        from = span.end;
    }
    out.push_str(text.get(from..).unwrap_or_default());
    out
}

fn find(node: &Node, path: &str, places: &mut Vec<(std::ops::Range<usize>, String)>) {
    match &node.value {
        Value::Scalar(scalar) => {
            if is_secret(path) {
                if !scalar.text.is_empty() {
                    places.push((node.span.clone(), format!("\"{MASK}\"")));
                }
            } else if scalar.text.contains("://") {
                let clean = without_userinfo(&scalar.text);
                if clean != scalar.text {
                    // JSON's quotes are YAML's
                    places.push((node.span.clone(), serde_json::Value::from(clean).to_string()));
                }
            }
        }
        Value::List(items) => items.iter().for_each(|item| find(item, path, places)),
        Value::Map(entries) => {
            for entry in entries {
                find(&entry.value, &entry.key, places);
            }
        }
    }
}
