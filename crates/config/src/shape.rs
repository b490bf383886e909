//! Checks the tree against the schema: every key known, every value of its type, each violation with its place.

use std::{collections::BTreeSet, ops::Range};

use jsonschema::{ValidationError, error::ValidationErrorKind as Kind};
use serde_json::Value as Json;

use crate::{
    problem::Report,
    schema::{Guide, nearest, quoted},
    secret,
    tree::{Node, Place},
};

/// Tells everything in which the tree differs from the schema. Returns the top-level keys whose values cannot be trusted.
pub(crate) fn check(
    root: &Node,
    json: &Json,
    schema: &Json,
    source: &str,
    report: &mut Report,
) -> Result<BTreeSet<String>, String> {
    let validator = jsonschema::validator_for(schema).map_err(|error| error.to_string())?;
    let mut shape = Shape {
        root,
        source,
        guide: Guide { root: schema },
        report,
        doubtful: BTreeSet::new(),
    };
    for error in validator.iter_errors(json) {
        shape.tell(&error);
    }
    Ok(shape.doubtful)
}

struct Shape<'a> {
    root: &'a Node,
    source: &'a str,
    guide: Guide<'a>,
    report: &'a mut Report,
    doubtful: BTreeSet<String>,
}

impl Shape<'_> {
    fn tell(&mut self, error: &ValidationError<'_>) {
        let pointer = error.instance_path().as_str();
        if let Some(section) = pointer.split('/').nth(1) {
            self.doubtful.insert(section.to_owned());
        }
        let place = self.root.locate_pointer(pointer);
        if place.node.scalar().is_some_and(|scalar| scalar.unknown) {
            return; // told already
        }
        let path = path_of(self.root, pointer);
        let schema_path = error.schema_path().as_str();
        let schema = self
            .guide
            .at(schema_path.rsplit_once('/').map_or("", |(parent, _)| parent));
        match error.kind() {
            Kind::AnyOf { context } | Kind::OneOfNotValid { context } => match self.fitting_branch(context, pointer) {
                Some(errors) => errors.iter().for_each(|error| self.tell(error)),
                None => self.unfit(&place, path, schema),
            },
            Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
                for key in unexpected {
                    self.unknown_key(&place, &path, key, schema);
                }
            }
            Kind::Required { property } => {
                let key = property.as_str().unwrap_or_default();
                if pointer.is_empty() {
                    self.doubtful.insert(key.to_owned());
                }
                let known: Vec<&str> = self.guide.keys(schema).into_iter().map(|(name, _)| name).collect();
                let near_miss = |name: &str| !known.contains(&name) && nearest(name, &known) == Some(key);
                if place.node.entries().iter().any(|entry| near_miss(&entry.key)) {
                    return; // a slip in writing it is told as that
                }
                let about = self.guide.keys(schema).into_iter().find(|(name, _)| *name == key);
                let help = about.map_or_else(String::new, |(_, schema)| described(schema));
                let of = if path.is_empty() {
                    "the pipeline".to_owned()
                } else {
                    format!("`{path}`")
                };
                self.report
                    .error("missing_key", place.span(), path, format!("{of} has no `{key}`"), help);
            }
            Kind::Pattern { .. } => {
                let message = format!("{} cannot be {}", named(&path), self.shown(&place, &path));
                let help = match self.guide.expected(schema).as_str() {
                    "a text" => described(schema),
                    expected => format!("write {expected}"),
                };
                self.report.error("value", place.span(), path, message, help);
            }
            Kind::Minimum { limit } => self.beyond(&place, path, &format!("is less than {limit}"), schema),
            Kind::Maximum { limit } => self.beyond(&place, path, &format!("is more than {limit}"), schema),
            Kind::ExclusiveMinimum { limit } => self.beyond(&place, path, &format!("is not above {limit}"), schema),
            Kind::ExclusiveMaximum { limit } => self.beyond(&place, path, &format!("is not below {limit}"), schema),
            Kind::MinLength { .. } | Kind::MinItems { .. } | Kind::MinProperties { .. } => {
                let message = format!("{} is empty", named(&path));
                self.report
                    .error("value", place.span(), path, message, described(schema));
            }
            Kind::Type { .. } | Kind::Constant { .. } | Kind::Enum { .. } => self.unfit(&place, path, schema),
            _ => {
                let message = format!("{}: {error}", named(&path));
                self.report
                    .error("value", place.span(), path, message, described(schema));
            }
        }
    }

    fn unknown_key(&mut self, place: &Place<'_>, path: &str, key: &str, schema: &Json) {
        let span = key_span(place.node, key).unwrap_or_else(|| place.span());
        let known: Vec<&str> = self.guide.keys(schema).into_iter().map(|(name, _)| name).collect();
        let help = if path == "kafka" && key.contains('.') {
            "librdkafka's settings stand under `client`".to_owned()
        } else if let Some(near) = nearest(key, &known) {
            format!("did you mean `{near}`?")
        } else {
            let homes = self.guide.homes(key);
            let elsewhere: Vec<&str> = homes.iter().map(String::as_str).take(3).collect();
            match elsewhere.as_slice() {
                [] => format!("known here: {}", quoted(&known)),
                [""] => format!("`{key}` stands at the top of the file, not in here"),
                some => {
                    let some: Vec<&str> = some
                        .iter()
                        .map(|home| if home.is_empty() { "the top" } else { home })
                        .collect();
                    format!("`{key}` belongs in {}; known here: {}", quoted(&some), quoted(&known))
                }
            }
        };
        let full = if path.is_empty() {
            key.to_owned()
        } else {
            format!("{path}.{key}")
        };
        self.report
            .error("unknown_key", span, full, format!("unknown key `{key}`"), help);
    }

    /// A value of the wrong type, or none of the choices.
    fn unfit(&mut self, place: &Place<'_>, path: String, schema: &Json) {
        let (key, what) = (named(&path), place.node.what());
        let expected = self.guide.expected(schema);
        if what == "nothing" {
            let help = format!("write {expected}, or remove the key");
            self.report
                .error("value", place.span(), path, format!("{key} has no value"), help);
            return;
        }
        let choices = self.guide.choices(schema);
        if let (Some(choices), Some(scalar)) = (&choices, place.node.scalar()) {
            let help = match nearest(&scalar.text, choices) {
                Some(near) if choices.len() > 1 => format!("did you mean `{near}`? it is {expected}"),
                _ => format!("write {expected}"),
            };
            let message = format!("{key} cannot be {}", self.shown(place, &path));
            self.report.error("value", place.span(), path, message, help);
            return;
        }
        let help = if expected == "a text" && place.node.scalar().is_some() {
            "put it in quotes".to_owned()
        } else {
            format!("write {expected}")
        };
        self.report
            .error("value", place.span(), path, format!("{key} cannot be {what}"), help);
    }

    fn beyond(&mut self, place: &Place<'_>, path: String, how: &str, schema: &Json) {
        let message = format!("{}: {} {how}", named(&path), self.shown(place, &path));
        self.report
            .error("value", place.span(), path, message, described(schema));
    }

    /// The value in back quotes, or not at all where it may be a secret.
    fn shown(&self, place: &Place<'_>, path: &str) -> String {
        let Some(scalar) = place.node.scalar() else {
            return place.node.what().to_owned();
        };
        let written = self.source.get(place.node.span.clone()).unwrap_or_default();
        if secret::is_secret(path) || (scalar.substituted && secret::is_secret(written)) {
            return "its value, which is not shown".to_owned();
        }
        let mut text: String = scalar.text.chars().take(60).collect();
        if text.len() < scalar.text.len() {
            text.push('…');
        }
        format!("`{text}`")
    }

    /// The errors of the branch that was meant: the one that the value's own type fits, where there is one.
    fn fitting_branch<'e>(
        &self,
        context: &'e [Vec<ValidationError<'static>>],
        pointer: &str,
    ) -> Option<&'e [ValidationError<'static>]> {
        let here = |error: &ValidationError<'_>| error.instance_path().as_str() == pointer;
        // an optional value: one of the branches is null
        let wants_null = |error: &ValidationError<'_>| self.guide.at(error.schema_path().as_str()) == "null";
        let is_null = |errors: &&[ValidationError<'_>]| matches!(errors, [error] if here(error) && wants_null(error));
        let branches: Vec<_> = context
            .iter()
            .map(Vec::as_slice)
            .filter(|errors| !is_null(errors))
            .collect();
        if let [only] = branches.as_slice() {
            return Some(only);
        }
        let unlike = |error: &ValidationError<'_>| match error.kind() {
            Kind::Constant { .. } => true,
            Kind::Type { .. } | Kind::Enum { .. } | Kind::AnyOf { .. } | Kind::OneOfNotValid { .. } => here(error),
            _ => false,
        };
        branches
            .into_iter()
            .filter(|errors| !errors.iter().any(unlike))
            .min_by_key(|errors| errors.len())
    }
}

fn key_span(node: &Node, key: &str) -> Option<Range<usize>> {
    node.entries()
        .iter()
        .find(|entry| entry.key == key)
        .map(|entry| entry.key_span.clone())
}

fn described(schema: &Json) -> String {
    schema
        .get("description")
        .and_then(Json::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn named(path: &str) -> String {
    if path.is_empty() {
        "the file".to_owned()
    } else {
        format!("`{path}`")
    }
}

/// A JSON pointer as people write paths: `signals[2].match.metric`.
fn path_of(root: &Node, pointer: &str) -> String {
    let mut path = String::new();
    let mut so_far = String::new();
    for part in pointer.split('/').skip(1) {
        let in_list = !root.locate_pointer(&so_far).node.items().is_empty();
        so_far.push('/');
        so_far.push_str(part);
        let part = part.replace("~1", "/").replace("~0", "~");
        if in_list {
            path.push_str(&format!("[{part}]"));
        } else {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(&part);
        }
    }
    path
}
