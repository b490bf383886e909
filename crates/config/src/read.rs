//! From text to pipeline, with every problem on the way.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use crate::{
    Pipeline,
    environment::{Environment, substitute},
    meaning::{self, SqlCheck, Unchecked},
    problem::{Problems, Report},
    schema, secret, shape,
    tree::{Entry, Node, Scalar, Value},
    yaml,
};

/// What came of reading a file.
#[derive(Debug)]
pub struct Checked {
    /// The pipeline, where the file has no error.
    pub pipeline: Option<Pipeline>,
    /// Errors and warnings.
    pub problems: Problems,
}

impl Pipeline {
    /// Reads a pipeline file. Nothing is read but the text: `file_name` only goes into messages, and the environment is
    /// looked up through `env`.
    ///
    /// # Errors
    /// Every problem of the file at once, each with its place and what would be right.
    pub fn parse(file_name: &str, text: &str, env: Environment<'_>) -> Result<Self, Problems> {
        let Checked { pipeline, problems } = Self::check(file_name, text, env, &Unchecked);
        pipeline.ok_or(problems)
    }

    /// Reads a pipeline file as [`Self::parse`] does, has its SQL expressions checked by `sql`, and tells warnings too.
    #[must_use]
    pub fn check(file_name: &str, text: &str, env: Environment<'_>, sql: &dyn SqlCheck) -> Checked {
        let mut report = Report::new(file_name, text);
        let pipeline = read(text, env, sql, &mut report);
        let pipeline = pipeline.filter(|_| !report.has_errors());
        Checked {
            pipeline,
            problems: report.finish(),
        }
    }
}

/// The text of a file from its bytes: UTF-8, with or without a byte order mark.
///
/// # Errors
/// One problem, at the first byte that is not UTF-8.
pub fn decode<'b>(file_name: &str, bytes: &'b [u8]) -> Result<&'b str, Problems> {
    let (valid, at, help) = match std::str::from_utf8(bytes) {
        Ok(text) => return Ok(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(error) => {
            let at = error.valid_up_to();
            let utf16 = matches!(bytes.get(..2), Some([0xff, 0xfe] | [0xfe, 0xff]));
            let help = if utf16 {
                "this looks like UTF-16: save the file as UTF-8"
            } else {
                "save the file as UTF-8; this byte may be a letter in Latin-1"
            };
            (bytes.get(..at).unwrap_or_default(), at, help)
        }
    };
    let mut shown = String::from_utf8_lossy(valid).into_owned();
    shown.push('\u{fffd}');
    let byte = bytes.get(at).copied().unwrap_or_default();
    let mut report = Report::new(file_name, &shown);
    let message = format!("byte {at} (0x{byte:02x}) is not UTF-8");
    report.error("not_text", valid.len()..shown.len(), "", message, help);
    Err(report.finish())
}

fn read(text: &str, env: Environment<'_>, sql: &dyn SqlCheck, report: &mut Report) -> Option<Pipeline> {
    let Some(mut root) = yaml::read(text, report) else {
        report.hide(secret::lines(text));
        return None;
    };
    report.hide(secret::values(&root));
    if !matches!(root.value, Value::Map(_)) {
        let empty = root.what() == "nothing";
        let (message, help) = if empty {
            (
                "the file is empty".to_owned(),
                "a pipeline needs at least `name` and `telemetry`",
            )
        } else {
            (
                format!("the file is {}, not a mapping", root.what()),
                "write `key: value` lines, beginning with `name:`",
            )
        };
        report.error(if empty { "empty" } else { "value" }, root.span, "", message, help);
        return None;
    }
    substitute(&mut root, text, env, report);

    let schema = schema::schema();
    let mut doubtful = match shape::check(&root, &json_of(&root), &schema, text, report) {
        Ok(doubtful) => doubtful,
        Err(reason) => {
            report.error(
                "schema",
                0..0,
                "",
                format!("the schema is broken: {reason}"),
                "this is a fault of the program",
            );
            return None;
        }
    };
    doubtful.extend(
        root.entries()
            .iter()
            .filter(|entry| entry.value.has_unknown())
            .map(|entry| entry.key.clone()),
    );
    let mut sound = sound_part(&root, &schema, &doubtful);
    push_down(&mut sound, report);

    let json = json_of(&sound);
    let pipeline: Pipeline = match serde_path_to_error::deserialize(&json) {
        Ok(pipeline) => pipeline,
        Err(error) => {
            let path = error.path().to_string();
            let place = root.locate(&path);
            let help = "write what the schema of the file asks for there";
            report.error("value", place.span(), path, error.into_inner().to_string(), help);
            return None;
        }
    };
    meaning::check(&pipeline, &root, text, &doubtful, sql, report);
    Some(pipeline)
}

/// As JSON; librdkafka's settings stay as they are written, so that `007` is no seven.
fn json_of(root: &Node) -> Json {
    root.to_json(&|path| path.starts_with(&["kafka", "client"]))
}

/// What is left without sections in doubt and keys unknown, so that the rest can be checked for its meaning even so. What
/// is required takes a stand-in, which nobody gets to see: there is an error already.
fn sound_part(root: &Node, schema: &Json, doubtful: &BTreeSet<String>) -> Node {
    let known = |key: &str| schema.pointer("/properties").and_then(|keys| keys.get(key)).is_some();
    let mut entries: Vec<Entry> = root
        .entries()
        .iter()
        .filter(|entry| known(&entry.key) && !doubtful.contains(&entry.key))
        .cloned()
        .collect();
    let mut stand_in = |key: &str, value: Value| {
        if doubtful.contains(key) {
            let value = Node { span: 0..0, value };
            entries.push(Entry {
                key: key.to_owned(),
                key_span: 0..0,
                value,
            });
        }
    };
    let name = Scalar {
        text: "unnamed".to_owned(),
        plain: false,
        substituted: false,
        unknown: false,
    };
    stand_in("name", Value::Scalar(name));
    stand_in("telemetry", Value::List(Vec::new()));
    Node {
        span: root.span.clone(),
        value: Value::Map(entries),
    }
}

/// Gives each rule under `signals` and `derive` the whole of its `detect`: the one at the top, overridden by the rule's own, in which the rule's
/// `direction`, `least_effect` and `alarms` take part.
fn push_down(root: &mut Node, report: &mut Report) {
    let base = root.get("detect").cloned().unwrap_or(Node {
        span: 0..0,
        value: Value::Map(Vec::new()),
    });
    let Value::Map(sections) = &mut root.value else { return };
    for section in sections
        .iter_mut()
        .filter(|entry| ["signals", "derive"].contains(&&*entry.key))
    {
        let key = section.key.clone();
        if let Value::List(rules) = &mut section.value.value {
            push_down_rules(&base, &key, rules, report);
        }
    }
}

fn push_down_rules(base: &Node, section: &str, rules: &mut [Node], report: &mut Report) {
    for (index, rule) in rules.iter_mut().enumerate() {
        let Value::Map(entries) = &mut rule.value else { continue };
        let own = entries.iter().find(|entry| entry.key == "detect").cloned();
        let mut over = own.as_ref().map_or_else(Vec::new, |own| own.value.entries().to_vec());
        for key in ["direction", "least_effect", "alarms"] {
            let Some(short) = entries
                .iter()
                .find(|entry| entry.key == key && entry.value.what() != "nothing")
            else {
                continue;
            };
            if over.iter().any(|entry| entry.key == key) {
                let message = format!("`{key}` is given here and under `detect` of the same rule");
                let path = format!("{section}[{index}].{key}");
                report.error(
                    "duplicate_key",
                    short.key_span.clone(),
                    path,
                    message,
                    "keep one of the two",
                );
            } else {
                over.push(short.clone());
            }
        }
        let (key_span, span) = own.map_or_else(
            || (rule.span.clone(), rule.span.clone()),
            |own| (own.key_span, own.value.span),
        );
        let merged = base.overridden_by(&Node {
            span,
            value: Value::Map(over),
        });
        entries.retain(|entry| entry.key != "detect");
        entries.push(Entry {
            key: "detect".to_owned(),
            key_span,
            value: merged,
        });
    }
}
