//! What is known to have been wrong, and when.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use suture_event::{Labels, Timestamp};

use crate::feed::when;

/// So many are taken in at most.
const MOST: usize = 100_000;

/// A time during which something was wrong.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Span {
    /// Its beginning.
    pub(crate) from: Timestamp,
    /// Its end.
    pub(crate) to: Timestamp,
    /// In words, where it is known.
    pub(crate) what: String,
    /// Where.
    pub(crate) place: Place,
}

/// The series that a span is about.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Place {
    /// Those with this metric, or with a label of this value.
    Named(String),
    /// Those that have all of these.
    Series {
        /// The metric, where it is known.
        metric: Option<String>,
        /// Labels.
        labels: BTreeMap<String, String>,
    },
}

impl Span {
    /// Whether it is about a series.
    pub(crate) fn is_of(&self, metric: &str, labels: &Labels) -> bool {
        match &self.place {
            Place::Named(name) => metric == name || labels.iter().any(|(_, value)| value == name),
            Place::Series {
                metric: of,
                labels: all,
            } => {
                of.as_deref().is_none_or(|of| of == metric)
                    && all
                        .iter()
                        .all(|(name, value)| labels.get(name).is_some_and(|is| is == value))
            }
        }
    }

    /// Whether a time lies within.
    pub(crate) fn holds(&self, at: Timestamp) -> bool {
        at >= self.from && at <= self.to
    }

    /// The service that it names as a whole, whose faults others feel.
    pub(crate) fn service(&self, entity: &str) -> Option<&str> {
        match &self.place {
            Place::Series { metric: None, labels } if labels.len() == 1 => labels.get(entity).map(String::as_str),
            _ => None,
        }
    }

    /// Where it is, in words.
    pub(crate) fn place(&self) -> String {
        match &self.place {
            Place::Named(name) => name.clone(),
            Place::Series { metric, labels } => {
                let mut parts: Vec<String> = metric.iter().cloned().collect();
                parts.extend(labels.iter().map(|(name, value)| format!("{name}={value}")));
                if parts.is_empty() {
                    "everywhere".to_owned()
                } else {
                    parts.join(", ")
                }
            }
        }
    }
}

/// Reads a file of spans: JSON (`{SERIES: [[FROM, TO], …]}`, or a list of objects) or CSV with the same names.
///
/// # Errors
/// Where it cannot be read, or what it says is no span; each names the place.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<Span>> {
    let spans = if path.extension().is_some_and(|end| end == "csv") {
        of_csv(path)?
    } else {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let json: Value = serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))?;
        of_json(&json).with_context(|| path.display().to_string())?
    };
    ensure!(
        spans.len() <= MOST,
        "{}: {} spans are more than the {MOST} that are looked at",
        path.display(),
        spans.len()
    );
    Ok(spans)
}

fn of_json(json: &Value) -> anyhow::Result<Vec<Span>> {
    let mut spans = Vec::new();
    match json {
        Value::Object(series) => {
            for (name, windows) in series {
                let windows = windows
                    .as_array()
                    .with_context(|| format!("{name}: write a list of [from, to]"))?;
                for window in windows {
                    let [from, to] = window.as_array().map_or(&[][..], Vec::as_slice) else {
                        bail!("{name}: {window} is no span: write [from, to]");
                    };
                    let time = |value: &Value| when(&plain(value)).with_context(|| name.clone());
                    spans.push(span(time(from)?, time(to)?, String::new(), Place::Named(name.clone()))?);
                }
            }
        }
        Value::Array(list) => {
            for (number, one) in list.iter().enumerate() {
                let fields = one.as_object().with_context(|| {
                    format!("entry {}: write {{\"from\": …, \"to\": …, \"service\": …}}", number + 1)
                })?;
                let mut fields: BTreeMap<String, String> = fields
                    .iter()
                    .map(|(name, value)| (name.clone(), plain(value)))
                    .collect();
                spans.push(of_fields(&mut fields).with_context(|| format!("entry {}", number + 1))?);
            }
        }
        _ => bail!("write {{SERIES: [[FROM, TO], …]}}, or a list of {{\"from\": …, \"to\": …, \"service\": …}}"),
    }
    Ok(spans)
}

fn of_csv(path: &Path) -> anyhow::Result<Vec<Span>> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_path(path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    let mut spans = Vec::new();
    for row in reader.deserialize::<BTreeMap<String, String>>() {
        let mut row = row.with_context(|| format!("cannot read {}", path.display()))?;
        let line = spans.len() + 2;
        spans.push(of_fields(&mut row).with_context(|| format!("{}, row {line}", path.display()))?);
    }
    Ok(spans)
}

/// What is not known by name is a label.
fn of_fields(fields: &mut BTreeMap<String, String>) -> anyhow::Result<Span> {
    let time = |text: Option<String>, name: &str| {
        let text = text.with_context(|| format!("`{name}` is missing: write a time"))?;
        when(&text)
    };
    let (from, to) = (time(fields.remove("from"), "from")?, time(fields.remove("to"), "to")?);
    let what = fields.remove("what").unwrap_or_default();
    if let Some(series) = fields.remove("series").filter(|series| !series.is_empty()) {
        return span(from, to, what, Place::Named(series));
    }
    let metric = fields.remove("metric").filter(|metric| !metric.is_empty());
    let labels = fields.iter().filter(|(_, value)| !value.is_empty());
    let labels = labels.map(|(name, value)| (name.clone(), value.clone())).collect();
    span(from, to, what, Place::Series { metric, labels })
}

fn span(from: Timestamp, to: Timestamp, what: String, place: Place) -> anyhow::Result<Span> {
    ensure!(from <= to, "it ends at {to}, before it begins at {from}");
    Ok(Span { from, to, what, place })
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// A series' name for eyes.
pub(crate) fn named(metric: &str, labels: &Labels) -> String {
    let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if labels.is_empty() {
        metric.to_owned()
    } else {
        format!("{metric} {{{}}}", labels.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::new(pairs.iter().copied()).unwrap()
    }

    #[test]
    fn spans_are_read_by_series_and_by_service_from_json_and_csv() {
        let nab = serde_json::json!({"a/x.csv": [["2014-04-10 16:15:00.000000", "2014-04-12 01:45:00.000000"]], "a/y.csv": []});
        let spans = of_json(&nab).unwrap();
        assert_eq!(spans.len(), 1);
        assert!(spans[0].is_of("value", &labels(&[("file", "a/x.csv")])));
        assert!(!spans[0].is_of("value", &labels(&[("file", "a/y.csv")])));
        assert!(spans[0].holds("2014-04-11T00:00:00Z".parse().unwrap()));

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("faults.csv");
        std::fs::write(
            &path,
            "from,to,service,what\n2026-03-01T10:00:00Z,2026-03-01T11:00:00Z,cart,pool\n",
        )
        .unwrap();
        let spans = read(&path).unwrap();
        assert_eq!(spans[0].service("service"), Some("cart"));
        assert_eq!(
            (spans[0].what.as_str(), spans[0].place().as_str()),
            ("pool", "service=cart")
        );
        assert!(spans[0].is_of("cpu", &labels(&[("service", "cart"), ("pod", "p")])));

        let list = serde_json::json!([{"from": 1_772_359_200_000_i64, "to": "2026-03-01T11:00:00Z", "metric": "cpu", "service": "cart"}]);
        let spans = of_json(&list).unwrap();
        assert!(spans[0].service("service").is_none(), "one metric is no whole service");
        assert!(!spans[0].is_of("memory", &labels(&[("service", "cart")])));
    }

    #[test]
    fn what_is_no_span_is_told() {
        let told = |json: Value| format!("{:#}", of_json(&json).unwrap_err());
        assert!(told(serde_json::json!([{"from": "2026-03-01"}])).contains("entry 1: `to` is missing"));
        assert!(told(serde_json::json!([{"from": "2026-03-02", "to": "2026-03-01"}])).contains("before it begins"));
        assert!(told(serde_json::json!({"x": [["2026-03-01"]]})).contains("write [from, to]"));
        assert!(told(serde_json::json!(3)).contains("a list of"));
    }
}
