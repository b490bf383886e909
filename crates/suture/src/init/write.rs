//! From what is in topics to a pipeline file, with what it rests on as comments.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use suture_codec::{Fields, TelemetryFormat};
use suture_event::Span;
use suture_service::story::{many, span};

use super::look::{Label, Topic};

/// Labels that usually name the service, the likeliest first.
const SERVICES: [&str; 17] = [
    "service",
    "service.name",
    "service_name",
    "serviceName",
    "app",
    "app_name",
    "application",
    "app.kubernetes.io/name",
    "app_kubernetes_io_name",
    "label_app",
    "component",
    "deployment",
    "k8s.deployment.name",
    "workload",
    "container",
    "k8s.container.name",
    "job",
];
/// Labels that usually name the environment.
const SCOPES: [&str; 8] = [
    "environment",
    "deployment.environment.name",
    "deployment.environment",
    "deployment_environment_name",
    "deployment_environment",
    "env",
    "stage",
    "cluster",
];
/// Labels that tell instances or parts of a series' values apart, and never services.
const NO_SERVICES: [&str; 20] = [
    "pod",
    "instance",
    "host",
    "hostname",
    "node",
    "le",
    "quantile",
    "stat",
    "id",
    "uid",
    "ip",
    "path",
    "method",
    "code",
    "status",
    "version",
    "image",
    "container_id",
    "cpu",
    "device",
];
/// Labels that name who is called, and who calls.
const CALLED: [&str; 11] = [
    "peer",
    "peer.service",
    "peer_service",
    "server",
    "server_service",
    "callee",
    "upstream",
    "destination",
    "destination_service",
    "destination_service_name",
    "target",
];
const CALLING: [&str; 8] = [
    "client",
    "client_service",
    "caller",
    "source",
    "source_service",
    "source_workload",
    "downstream",
    "origin",
];
/// The widths of windows that are proposed.
const WINDOWS: [i64; 5] = [60_000, 300_000, 900_000, 3_600_000, 86_400_000];
/// Metrics that are named as counters, at most.
const COUNTERS: usize = 50;
/// Names that are told of a list, at most.
const TOLD: usize = 5;

/// What is proposed.
pub(super) struct Proposal {
    /// The pipeline file.
    pub(super) file: String,
    /// What was found, one line each.
    pub(super) found: Vec<String>,
    /// What could not be told, and what to do about it.
    pub(super) unclear: Vec<String>,
}

/// A text as YAML takes it: plain where that is the same text, and otherwise as JSON, which YAML has within it.
fn yaml(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c);
    let first = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic());
    let word = !matches!(
        text.to_ascii_lowercase().as_str(),
        "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n"
    );
    if first && word && text.chars().all(plain) {
        text.to_owned()
    } else {
        serde_json::Value::from(text).to_string().replace('$', "$$")
    }
}

/// A comment has no line breaks, whatever a record's words have.
fn comment(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

fn list(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| name.as_ref().to_owned()).collect();
    let more = names.len().saturating_sub(TOLD);
    let mut text = names.iter().take(TOLD).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 {
        let _ = write!(text, " and {more} more");
    }
    text
}

fn share(part: u64, whole: u64) -> String {
    format!("{:.0}%", 100.0 * part as f64 / whole.max(1) as f64)
}

/// What the labels of all telemetry together are like.
struct Labels<'a> {
    all: BTreeMap<&'a str, Label>,
    samples: u64,
}

impl<'a> Labels<'a> {
    fn of(topics: &[&'a Topic]) -> Self {
        let mut all: BTreeMap<&str, Label> = BTreeMap::new();
        for topic in topics {
            for (name, label) in &topic.samples.labels {
                let sum = all.entry(name).or_default();
                sum.samples += label.samples;
                sum.values.extend(label.values.iter().cloned());
            }
        }
        Self {
            all,
            samples: topics.iter().map(|topic| topic.samples.total).sum(),
        }
    }

    fn often(&self, label: &Label, of_ten: u64) -> bool {
        label.samples * 10 >= self.samples * of_ten
    }

    /// The label that names the service, and whether that is certain by its name.
    fn service(&self) -> Option<(&'a str, &Label, bool)> {
        // what has several values tells more than what has one
        let named = |several: bool| {
            SERVICES.iter().find_map(|name| {
                let (name, label) = self.all.get_key_value(*name)?;
                let fits = self.often(label, 5) && (!several || label.values.len() > 1);
                fits.then_some((*name, label, true))
            })
        };
        named(true).or_else(|| named(false)).or_else(|| {
            let guessed = self.all.iter().filter(|(name, label)| {
                let other = NO_SERVICES.contains(*name) || SCOPES.contains(*name) || name.contains("pod");
                !other && self.often(label, 8) && (2..=500).contains(&label.values.len())
            });
            let best = guessed.max_by_key(|(name, label)| {
                (
                    name.contains("service") || name.contains("app"),
                    label.samples,
                    label.values.len(),
                )
            });
            best.map(|(name, label)| (*name, label, false))
        })
    }

    fn scope(&self) -> Option<(&'a str, &Label)> {
        SCOPES.iter().find_map(|name| {
            let (name, label) = self.all.get_key_value(*name)?;
            (self.often(label, 8) && label.values.len() <= 50).then_some((*name, label))
        })
    }

    /// Pairs of labels that name caller and callee, where both name services.
    fn calls(&self, entity: &str) -> Vec<(String, String)> {
        let empty = BTreeSet::new();
        let services = self.all.get(entity).map_or(&empty, |label| &label.values);
        let mut pairs = Vec::new();
        for (name, label) in self.all.iter().filter(|(name, _)| **name != entity) {
            let known = label.values.iter().filter(|value| services.contains(*value)).count();
            if known * 2 < label.values.len() || known == 0 {
                continue;
            }
            if CALLED.contains(name) {
                pairs.push((entity.to_owned(), (*name).to_owned()));
            } else if CALLING.contains(name) {
                pairs.push(((*name).to_owned(), entity.to_owned()));
            }
        }
        pairs
    }
}

fn format_of(topic: &Topic, file: &mut String) {
    let mut formats: Vec<(&String, &(usize, TelemetryFormat, String))> = topic.telemetry.iter().collect();
    formats.sort_by_key(|(_, (records, ..))| std::cmp::Reverse(*records));
    let words = |(name, (records, _, why)): &(&String, &(usize, TelemetryFormat, String))| {
        format!("{} of {}: {name}, because {}", records, topic.records, comment(why))
    };
    if let Some(fields) = &topic.fields {
        let _ = writeln!(
            file,
            "    # JSON that no known tool writes: this is where its parts seem to be"
        );
        let _ = writeln!(file, "    format: json");
        mapping(fields, file);
        return;
    }
    match formats.as_slice() {
        [one] => {
            let _ = writeln!(file, "    # {}", words(one));
            let _ = writeln!(file, "    format: {}", one.0);
        }
        several => {
            for one in several {
                let _ = writeln!(file, "    # {}", words(one));
            }
            let _ = writeln!(file, "    format: auto");
        }
    }
}

fn mapping(fields: &Fields, file: &mut String) {
    let value = serde_json::to_value(fields).unwrap_or_default();
    let _ = writeln!(file, "    fields:");
    for name in ["metric", "value", "time", "labels"] {
        let Some(part) = value.get(name).filter(|part| !part.is_null()) else {
            continue;
        };
        if part.as_array().is_some_and(Vec::is_empty) {
            continue;
        }
        let _ = writeln!(file, "      {name}: {}", part.to_string().replace('$', "$$"));
    }
}

/// Proposes a pipeline for what was found.
pub(super) fn propose(name: &str, topics: &[Topic]) -> Proposal {
    let telemetry: Vec<&Topic> = topics.iter().filter(|topic| topic.is_telemetry()).collect();
    let changes: Vec<&Topic> = topics.iter().filter(|topic| topic.is_changes()).collect();
    let labels = Labels::of(&telemetry);
    let (mut found, mut unclear) = (Vec::new(), Vec::new());
    let mut file = String::new();
    let _ = writeln!(
        file,
        "# Written by `suture init` from what is in these topics; comments say what each setting rests on. `suture check` tells\n\
         # what is wrong with it after a change, and docs/pipeline.md has every key.\nversion: 1\nname: {}",
        yaml(name)
    );

    match labels.scope() {
        Some((label, values)) => {
            let default = values.values.first().map_or("default", String::as_str);
            let _ = writeln!(
                file,
                "\n# incidents stay within one value of this label; here: {}\nscope: {{label: {}, default: {}}}",
                comment(&list(&values.values)),
                yaml(label),
                yaml(default)
            );
            found.push(format!("scope: label {label} ({})", list(&values.values)));
        }
        None => {
            let _ = writeln!(
                file,
                "\n# no label names an environment, so all is in one scope\n# scope: {{label: environment, default: prod}}"
            );
        }
    }

    let entity = labels.service();
    match entity {
        Some((label, values, sure)) => {
            let seen = share(values.samples, labels.samples);
            let how = if sure {
                "names the service"
            } else {
                "seems to name the service"
            };
            let _ = writeln!(
                file,
                "\n# this label {how}: {seen} of the samples have it, with {}\nentity: {}",
                many(values.values.len() as u64, "value", "values"),
                yaml(label)
            );
            found.push(format!(
                "service: label {label}, {}: {}",
                many(values.values.len() as u64, "value", "values"),
                list(&values.values)
            ));
            if !sure {
                unclear.push(format!(
                    "whether {label} is the label that names the service: if not, set `entity` to the one that is"
                ));
            }
        }
        None => {
            let _ = writeln!(
                file,
                "\n# no label seems to name the service: put the one that does here\nentity: service"
            );
            unclear.push(format!(
                "which label names the service: set `entity`; there are {}",
                if labels.all.is_empty() {
                    "no labels".to_owned()
                } else {
                    list(labels.all.keys())
                }
            ));
        }
    }

    let _ = writeln!(
        file,
        "\nkafka:\n  client:\n    bootstrap.servers: ${{KAFKA_BROKERS:-localhost:9092}}"
    );

    let _ = writeln!(file, "\ntelemetry:");
    for topic in &telemetry {
        let _ = writeln!(file, "  - topic: {}", yaml(&topic.name));
        format_of(topic, &mut file);
        let format = match &topic.fields {
            Some(_) => "JSON by a mapping".to_owned(),
            None => topic.telemetry.keys().cloned().collect::<Vec<_>>().join(" and "),
        };
        found.push(format!(
            "{}: {format}, {} of {} in {}",
            topic.name,
            many(topic.samples.total, "sample", "samples"),
            many(topic.samples.series() as u64, "series", "series"),
            many(topic.records as u64, "record", "records"),
        ));
        if topic.samples.rejected > 0 {
            unclear.push(format!(
                "{} of {} cannot be used: `suture tap` shows why",
                many(topic.samples.rejected, "sample", "samples"),
                topic.name
            ));
        }
    }
    if telemetry.is_empty() {
        let _ = writeln!(
            file,
            "  # nothing here is telemetry: name the topic that has it\n  - topic: telemetry\n    format: auto"
        );
        unclear.push("where the telemetry is: no topic has any that is known".to_owned());
    }

    write_changes(
        &changes,
        &labels,
        entity.map(|(label, ..)| label),
        &mut file,
        &mut found,
        &mut unclear,
    );
    write_window(&telemetry, &mut file, &mut found, &mut unclear);

    if let Some((label, ..)) = entity {
        let pairs = labels.calls(label);
        if pairs.is_empty() {
            let _ = writeln!(
                file,
                "\n# no label names a second service, so who calls whom is not known from the telemetry\n\
                 # topology: {{from_labels: [{{from: {}, to: peer}}]}}",
                yaml(label)
            );
        } else {
            let _ = writeln!(file, "\n# these labels name who calls whom\ntopology:\n  from_labels:");
            for (from, to) in &pairs {
                let _ = writeln!(file, "    - {{from: {}, to: {}}}", yaml(from), yaml(to));
                found.push(format!("calls: {from} calls {to}"));
            }
        }
    }

    let counters: Vec<&str> = telemetry.iter().flat_map(|topic| topic.samples.counters()).collect();
    if !counters.is_empty() {
        let _ = writeln!(
            file,
            "\n# these only ever rise, and neither their names nor their format say that they are counters\nsignals:"
        );
        for metric in counters.iter().take(COUNTERS) {
            let glob: String = metric
                .chars()
                .flat_map(|c| "*?[]{}\\!".contains(c).then_some('\\').into_iter().chain([c]))
                .collect();
            let _ = writeln!(
                file,
                "  - name: {}\n    match: {{metric: {}}}\n    counter: true",
                yaml(metric),
                yaml(&glob)
            );
        }
        found.push(format!("counters by their values: {}", list(&counters)));
    }

    let torn: u64 = telemetry.iter().map(|topic| topic.samples.torn).sum();
    if torn > 0 {
        let _ = writeln!(
            file,
            "\n# {} in more than one partition: they are brought together first\nrekey: {{partitions: 6}}",
            many(torn, "series is", "series are")
        );
        found.push(format!(
            "keys: {} in more than one partition, so they are rekeyed",
            many(torn, "series is", "series are")
        ));
    }

    for topic in topics
        .iter()
        .filter(|topic| !topic.is_telemetry() && !topic.is_changes())
    {
        let why = match (&topic.unknown.1, topic.records) {
            (_, 0) => "it is empty".to_owned(),
            (Some(why), _) => comment(why),
            (None, _) => "none of its records could be used".to_owned(),
        };
        let _ = writeln!(file, "\n# left out: {}: {why}", comment(&topic.name));
        unclear.push(format!("what {} is: {why}", topic.name));
    }
    Proposal { file, found, unclear }
}

fn write_changes(
    changes: &[&Topic],
    labels: &Labels<'_>,
    entity: Option<&str>,
    file: &mut String,
    found: &mut Vec<String>,
    unclear: &mut Vec<String>,
) {
    if changes.is_empty() {
        let _ = writeln!(
            file,
            "\n# no topic announces deploys: `suture receive` takes webhooks of them, and `suture change` announces one\n\
             changes:\n  - topic: changes"
        );
        unclear.push(
            "where deploys are announced: have `suture receive` write them to topic `changes`, or incidents have no change to blame"
                .to_owned(),
        );
        return;
    }
    let _ = writeln!(file, "\nchanges:");
    for topic in changes {
        let _ = writeln!(file, "  - topic: {}", yaml(&topic.name));
        for (name, (records, _, why)) in &topic.changes {
            let _ = writeln!(
                file,
                "    # {records} of {}: {name}, because {}",
                topic.records,
                comment(why)
            );
        }
        let format = match topic.changes.keys().collect::<Vec<_>>().as_slice() {
            [one] => (*one).clone(),
            _ => "auto".to_owned(),
        };
        let _ = writeln!(file, "    format: {format}");
        found.push(format!(
            "{}: changes of {}, by {}",
            topic.name,
            list(&topic.changed),
            list(topic.changes.keys())
        ));
        if let (count @ 1.., why) = &topic.unusable {
            unclear.push(format!(
                "{} of {} cannot be used: {}",
                many(*count as u64, "change", "changes"),
                topic.name,
                why.as_deref().unwrap_or_default()
            ));
        }
        let services = entity
            .and_then(|label| labels.all.get(label))
            .map(|label| &label.values);
        let strangers = topic
            .changed
            .iter()
            .filter(|name| !services.is_some_and(|known| known.contains(*name)));
        let strangers: Vec<&String> = strangers.collect();
        if !strangers.is_empty() {
            unclear.push(format!(
                "which services these changes are of, as no telemetry names them so: {}",
                list(strangers)
            ));
        }
    }
}

fn write_window(telemetry: &[&Topic], file: &mut String, found: &mut Vec<String>, unclear: &mut Vec<String>) {
    let steps: Vec<i64> = telemetry.iter().filter_map(|topic| topic.samples.step()).collect();
    let Some(step) = steps.iter().copied().max() else {
        let _ = writeln!(
            file,
            "\n# no series has two samples, so how often they come is not known\nwindow: {{size: 1m}}"
        );
        unclear.push("how often samples come: no series has two of them; windows of 1m are taken".to_owned());
        return;
    };
    let size = WINDOWS.iter().copied().find(|size| *size >= step).unwrap_or(86_400_000);
    let behind = telemetry.iter().map(|topic| topic.samples.behind).max().unwrap_or(0);
    // what comes late by more than a window is old telemetry, and no disorder
    let lateness = match behind {
        0..1_000 => 0,
        behind => (behind + behind / 2).div_euclid(1_000).min(size / 1_000) * 1_000,
    };
    let (size, late) = (Span::from_millis(size), Span::from_millis(lateness));
    let words = span(Span::from_millis(step));
    let _ = writeln!(file, "\n# a series has a sample every {words}");
    if lateness > 0 {
        let _ = writeln!(
            file,
            "# samples come up to {} out of order\nwindow: {{size: {size}, lateness: {late}}}",
            span(Span::from_millis(behind))
        );
    } else {
        let _ = writeln!(file, "window: {{size: {size}}}");
    }
    found.push(format!("step: a sample every {words}, so windows of {size}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_what_it_is_in_yaml() {
        for (text, written) in [
            ("service", "service"),
            ("service.name", "service.name"),
            ("no", "\"no\""),
            ("12", "\"12\""),
            ("a: b", "\"a: b\""),
            ("${HOME}", "\"$${HOME}\""),
            ("", "\"\""),
        ] {
            assert_eq!(yaml(text), written);
        }
    }
}
