//! What the schema cannot say: values that contradict each other, or do not mean what was meant.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use suture_codec::TelemetryFormat;
use suture_event::{Problem, Span};
use suture_window::Aggregate;

use crate::{
    Match, Pipeline, Scope, SignalRule, TelemetrySource,
    kafka::{self, LONGEST_COMMIT},
    problem::Report,
    schema::{nearest, quoted},
    signal::glob,
    tree::Node,
};

/// Which place of the file a SQL expression stands at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SqlUse {
    /// `where` of a telemetry source: a condition.
    Where,
    /// `value` of a telemetry source: a number.
    Value,
}

/// What is wrong with a SQL expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlProblem {
    /// What is wrong.
    pub message: String,
    /// What would be right; may be empty.
    pub help: String,
    /// Which bytes of the expression; all of it where absent.
    pub at: Option<Range<usize>>,
}

/// Checks SQL expressions. This crate knows no SQL: whoever compiles them for the engine checks them too.
pub trait SqlCheck {
    /// Checks one expression over the columns of samples.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check(&self, place: SqlUse, expression: &str) -> Result<(), SqlProblem>;
}

impl<F: Fn(SqlUse, &str) -> Result<(), SqlProblem>> SqlCheck for F {
    fn check(&self, place: SqlUse, expression: &str) -> Result<(), SqlProblem> {
        self(place, expression)
    }
}

/// Takes every SQL expression as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unchecked;

impl SqlCheck for Unchecked {
    fn check(&self, _: SqlUse, _: &str) -> Result<(), SqlProblem> {
        Ok(())
    }
}

/// The classes that diagnosis gives its hypotheses.
const CLASSES: [&str; 9] = [
    "bad_deploy",
    "bad_config",
    "saturation",
    "cpu_saturation",
    "memory_leak",
    "disk_full",
    "crash",
    "slow_dependency",
    "traffic_surge",
];

/// Tells everything that is wrong or odd about what the file means. Sections in doubt are not looked at.
pub(crate) fn check(
    pipeline: &Pipeline,
    root: &Node,
    source: &str,
    doubtful: &BTreeSet<String>,
    sql: &dyn SqlCheck,
    report: &mut Report,
) {
    let mut meaning = Meaning {
        pipeline,
        root,
        source,
        report,
    };
    let sure = |sections: &[&str]| !sections.iter().any(|section| doubtful.contains(*section));
    meaning.rooms(&sure);
    if sure(&["kafka"]) {
        meaning.kafka();
    }
    if sure(&["telemetry"]) {
        meaning.expressions(sql);
        meaning.fields();
    }
    if sure(&["telemetry", "changes", "kafka", "rekey"]) {
        meaning.topics();
    }
    if sure(&["signals"]) {
        meaning.signals();
    }
    if sure(&["rekey", "window", "derive"]) {
        meaning.rekey();
    }
    if sure(&["derive"]) {
        meaning.derive(sure(&["detect", "window"]));
    }
    if sure(&["topology"]) {
        meaning.topology();
    }
    if sure(&["scope", "entity"]) && pipeline.scope.label == pipeline.entity {
        let message = format!(
            "the scope and the service are both read off the label `{}`",
            pipeline.entity
        );
        let help = "incidents never span scopes: name a label that several services share, such as `environment`";
        meaning.warn("scope", "scope.label", message, help);
    }
    if sure(&["scope", "telemetry"]) {
        meaning.scope();
    }
    if sure(&["window", "limits", "signals", "detect", "derive", "rekey"]) {
        meaning.memory();
    }
}

struct Meaning<'a> {
    pipeline: &'a Pipeline,
    root: &'a Node,
    source: &'a str,
    report: &'a mut Report,
}

impl Meaning<'_> {
    fn error(&mut self, code: &'static str, path: &str, message: impl Into<String>, help: impl Into<String>) {
        self.report
            .error(code, self.root.locate(path).span(), path, message, help);
    }

    fn warn(&mut self, code: &'static str, path: &str, message: impl Into<String>, help: impl Into<String>) {
        self.report
            .warning(code, self.root.locate(path).span(), path, message, help);
    }

    /// What says where the parts of JSON are is for JSON alone, and must lead to values.
    fn fields(&mut self) {
        for (index, source) in self.pipeline.telemetry.iter().enumerate() {
            let Some(fields) = &source.fields else { continue };
            let path = format!("telemetry[{index}].fields");
            if source.format != TelemetryFormat::Json {
                let message = format!("`{path}` is for `format: json`: other formats say themselves where what is");
                self.error("fields", &path, message, "remove `fields`, or set `format: json`");
            }
            if fields.value.is_empty() {
                let path = format!("{path}.value");
                self.error(
                    "fields",
                    &path,
                    format!("`{path}` names no value"),
                    "write the path to at least one",
                );
            }
        }
    }

    /// What each room says of its own options.
    fn rooms(&mut self, sure: &dyn Fn(&[&str]) -> bool) {
        let pipeline = self.pipeline;
        if sure(&["window"]) {
            self.tell("window", pipeline.window.validate());
            self.window();
        }
        let detect = pipeline.detect.validate();
        if sure(&["detect", "signals"]) {
            for (index, rule) in pipeline.signals.iter().enumerate() {
                // what is wrong at the top is told there
                let own = rule
                    .detect
                    .validate()
                    .into_iter()
                    .filter(|problem| !detect.contains(problem));
                self.tell_rule(&format!("signals[{index}]"), own.collect());
            }
        }
        if sure(&["detect"]) {
            self.tell("detect", detect);
        }
        if sure(&["instances"]) {
            self.tell("instances", pipeline.instances.validate());
        }
        if sure(&["alarms"])
            && let Some(alarms) = &pipeline.alarms
        {
            self.tell("alarms", alarms.validate());
        }
        if sure(&["diagnose"]) {
            self.tell("diagnose", pipeline.diagnose.validate());
        }
        if sure(&["escalate"])
            && let Some(escalate) = &pipeline.escalate
        {
            self.tell("escalate", escalate.validate());
        }
        if sure(&["remediate"]) {
            self.classes();
            self.tell("remediate", pipeline.remediate.validate());
            for Problem { path, message, help } in pipeline.remediate.warnings() {
                let path = format!("remediate.{path}");
                self.warn("remediate", &path, format!("`{path}`: {message}"), help);
            }
        }
    }

    /// A playbook for a class that diagnosis never gives is never used.
    fn classes(&mut self) {
        for (index, playbook) in self.pipeline.remediate.playbooks.iter().enumerate() {
            for (at, text) in playbook.matches.class.iter().enumerate() {
                // one that cannot be read is told by the room
                let Ok(glob) = glob(text) else { continue };
                if CLASSES.iter().any(|class| glob.is_match(class)) {
                    continue;
                }
                let help = match nearest(text, &CLASSES) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("classes: {}", quoted(&CLASSES)),
                };
                let path = format!("remediate.playbooks[{index}].match.class[{at}]");
                self.warn("class", &path, format!("no diagnosis has the class `{text}`"), help);
            }
        }
    }

    fn tell(&mut self, room: &'static str, problems: Vec<Problem>) {
        for Problem { path, message, help } in problems {
            let full = format!("{room}.{path}");
            let message = format!("`{full}`: {message}");
            self.error(room, &full, message, help);
        }
    }

    /// Problems of a rule's detectors, at the key that the rule itself has for it, or at the rule's `detect`.
    fn tell_rule(&mut self, at: &str, problems: Vec<Problem>) {
        for Problem { path, message, help } in problems {
            let short = format!("{at}.{path}");
            let long = format!("{at}.detect.{path}");
            let place = if self.root.locate(&short).whole { short } else { long };
            let message = format!("`{place}`: {message}");
            self.error("detect", &place, message, help);
        }
    }

    fn window(&mut self) {
        let window = &self.pipeline.window;
        if let Some(size) = window.size
            && window.lateness.as_millis() > size.as_millis().saturating_mul(10)
        {
            let message = format!("every window is judged only {} after its end", window.lateness);
            let help = format!("faults are found later by as much: a lateness of a few windows of {size} is usual");
            self.warn("window", "window.lateness", message, help);
        }
    }

    fn kafka(&mut self) {
        let kafka = &self.pipeline.kafka;
        for key in kafka.client.keys() {
            if let Some((reason, help)) = kafka::reserved(key) {
                let path = format!("kafka.client.{key}");
                let span = self.key_span("kafka.client", key);
                self.report.error(
                    "reserved_setting",
                    span,
                    path,
                    format!("`{key}` is set by the program: {reason}"),
                    help,
                );
            }
        }
        let commit = kafka.commit_interval;
        if commit <= Span::ZERO || commit > LONGEST_COMMIT {
            let message = format!("`kafka.commit_interval` cannot be {commit}");
            let help = format!("write 1ms to {LONGEST_COMMIT}: the broker gives a transaction up after 10s");
            self.error("kafka", "kafka.commit_interval", message, help);
        }
        if kafka.idle_after <= Span::ZERO {
            let help = "write a span such as 5s: how long a partition is quiet before nobody waits for it";
            self.error(
                "kafka",
                "kafka.idle_after",
                "`kafka.idle_after` cannot be no time at all",
                help,
            );
        }
        if kafka.patience < kafka.idle_after {
            let message = format!(
                "`kafka.patience` is shorter than `kafka.idle_after`, {}",
                kafka.idle_after
            );
            let help = "write a longer span, such as 2m: how long judgement waits for a partition that brings nothing";
            self.error("kafka", "kafka.patience", message, help);
        }
        if kafka.snapshot_interval < commit {
            let message = format!("`kafka.snapshot_interval` is shorter than `kafka.commit_interval`, {commit}");
            self.error(
                "kafka",
                "kafka.snapshot_interval",
                message,
                "state is saved at commits: write a longer span, such as 1m",
            );
        }
        if let Some(store) = &kafka.state.store {
            let scheme = store.split_once("://").map_or("", |(scheme, _)| scheme);
            if !kafka::STORES.contains(&scheme) {
                let help = "write file:///FOLDER, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX";
                let message = "`kafka.state.store` is no address of an object store";
                self.error("kafka", "kafka.state.store", message, help);
            }
        }
        for (key, retention) in [
            ("facts_retention", kafka.topics.facts_retention),
            ("retention", kafka.topics.retention),
        ] {
            if retention < Span::from_hours(1) {
                let path = format!("kafka.topics.{key}");
                let message = format!("`{path}` cannot be {retention}");
                self.error("kafka", &path, message, "write at least 1h: a restart reads them again");
            }
        }
    }

    /// A label that no series of OpenTelemetry has puts all of them into the default scope, where changes of a named
    /// environment never meet them.
    fn scope(&mut self) {
        let pipeline = self.pipeline;
        let otlp =
            |source: &TelemetrySource| matches!(source.format, TelemetryFormat::OtlpProto | TelemetryFormat::OtlpJson);
        let label = pipeline.scope.label.as_str();
        let written = self.root.locate("scope.label").whole;
        let absent = label == "deployment.environment" || (label == Scope::default().label && !written);
        if absent && pipeline.telemetry.iter().any(otlp) {
            let message = format!("`scope.label` is `{label}`, which OTLP telemetry does not have");
            let help = format!(
                "all of it is in scope `{}` then, and a deploy to another environment never meets it: write `scope: {{label: \
                 deployment.environment.name}}`, or remove `scope` for one scope over all",
                pipeline.scope.default
            );
            let place = if written { "scope.label" } else { "scope" };
            self.warn("scope", place, message, help);
        }
    }

    /// A key of a mapping, by its own name: librdkafka's have dots in them.
    fn key_span(&self, mapping: &str, key: &str) -> Range<usize> {
        let mapping = self.root.locate(mapping);
        let entry = mapping.node.entries().iter().find(|entry| entry.key == key);
        entry.map_or_else(|| mapping.span(), |entry| entry.key_span.clone())
    }

    /// What follows from samples of several partitions coming together in one.
    fn rekey(&mut self) {
        let pipeline = self.pipeline;
        let Some(rekey) = &pipeline.rekey else { return };
        if rekey.retention < Span::from_hours(1) {
            let message = format!("`rekey.retention` cannot be {}", rekey.retention);
            let help = "write at least 1h: a restart of observe reads its records again";
            self.error("rekey", "rekey.retention", message, help);
        }
        if rekey.patience < Span::from_secs(1) {
            let message = format!("`rekey.patience` cannot be {}", rekey.patience);
            let help =
                "a partition's shard is away for some seconds at each restart: give it `1s` or more, `30s` is usual";
            self.error("rekey", "rekey.patience", message, help);
        }
        for (index, label) in rekey.by.iter().enumerate() {
            let place = format!("rekey.by[{index}]");
            if label.is_empty() {
                self.error("rekey", &place, format!("`{place}` is empty"), "name a label");
            } else if rekey.by.iter().take(index).any(|earlier| earlier == label) {
                let message = format!("`{place}`: the label `{label}` is named twice");
                self.error("rekey", &place, message, "name each label once");
            }
        }
        if pipeline.window.size.is_none() {
            let message =
                "samples of several partitions come together in one, out of order, and there is no `window.size`";
            let help = "a sample that comes after a later one of its series is dropped: add `window: {size: 1m, lateness: 30s}`";
            self.warn("rekey", "rekey", message, help);
        } else if pipeline.window.lateness <= Span::ZERO {
            let message = "samples of several partitions come together in one, and `window.lateness` is 0";
            let help = "what a slower partition holds comes after its window has closed and is dropped, and after an outage \
                        that may be all of it: set `window.lateness` to twice as much as a record's samples may be older \
                        than the record, such as 30s; partitions are then kept together within half of it";
            let place = if self.root.locate("window.lateness").whole {
                "window.lateness"
            } else {
                "rekey"
            };
            self.warn("rekey", place, message, help);
        }
        if rekey.by.is_empty() && !pipeline.derive.is_empty() {
            let message =
                "series are put into partitions one by one, and a group under `derive` sees only those of its own";
            let help = "set `rekey.by` to what the groups are made by, such as `by: [service]`";
            self.warn("rekey", "rekey", message, help);
        }
    }

    /// Whether the name of the topic in between can be.
    fn rekeyed_topic(&mut self) {
        let Some(topic) = self.pipeline.rekey.as_ref().and_then(|rekey| rekey.topic.as_deref()) else {
            return;
        };
        let of_program = self.pipeline.owned_topics();
        if topic == "." || topic == ".." {
            let message = format!("no topic can be called `{topic}`");
            self.error("topic", "rekey.topic", message, "name the topic, or remove the key");
        } else if of_program.iter().filter(|name| *name == topic).count() > 1 {
            let message = format!("the topic `{topic}` is one that the program writes something else to");
            let help = "name another topic, or remove the key for one of its own";
            self.error("topic_owned", "rekey.topic", message, help);
        }
    }

    fn topics(&mut self) {
        let pipeline = self.pipeline;
        let owned = pipeline.owned_topics();
        self.rekeyed_topic();
        let telemetry = pipeline.telemetry.iter().map(|source| source.topic.as_str());
        let changes = pipeline.changes.iter().map(|source| source.topic.as_str());
        let at = |section: &'static str| move |(i, topic)| (format!("{section}[{i}].topic"), topic);
        let all = telemetry
            .enumerate()
            .map(at("telemetry"))
            .chain(changes.enumerate().map(at("changes")));
        let mut seen: BTreeMap<&str, String> = BTreeMap::new();
        for (path, topic) in all {
            if let Some(first) = seen.get(topic) {
                let message = format!("the topic `{topic}` is already read by `{first}`");
                self.error(
                    "topic_twice",
                    &path,
                    message,
                    "each record is read once: keep one of the two",
                );
                continue;
            }
            if topic == "." || topic == ".." {
                self.error(
                    "topic",
                    &path,
                    format!("no topic can be called `{topic}`"),
                    "name the topic",
                );
            }
            if owned.iter().any(|name| name == topic) {
                let message = format!("the topic `{topic}` is one that the program itself writes");
                let help = "read another topic, or give the program's own another beginning with `kafka.prefix`";
                self.error("topic_owned", &path, message, help);
            }
            seen.insert(topic, path);
        }
    }

    fn expressions(&mut self, sql: &dyn SqlCheck) {
        for (index, source) in self.pipeline.telemetry.iter().enumerate() {
            let texts = [
                (SqlUse::Where, "where", &source.r#where),
                (SqlUse::Value, "value", &source.value),
            ];
            for (place, key, text) in texts {
                let Some(text) = text else { continue };
                if let Err(problem) = sql.check(place, text) {
                    let path = format!("telemetry[{index}].{key}");
                    let whole = self.root.locate(&path).node.span.clone();
                    let span = problem.at.and_then(|at| self.within(&whole, text, at)).unwrap_or(whole);
                    let message = format!("`{path}`: {}", problem.message);
                    self.report.error("sql", span, path, message, problem.help);
                }
            }
        }
    }

    /// Where bytes of a text stand in the source, unless quotes' escapes or folding hide it.
    fn within(&self, span: &Range<usize>, text: &str, at: Range<usize>) -> Option<Range<usize>> {
        let offset = self.source.get(span.clone())?.find(text)?;
        let start = span.start + offset;
        (at.start <= at.end && at.end <= text.len()).then(|| start + at.start..start + at.end)
    }

    fn signals(&mut self) {
        let pipeline = self.pipeline;
        let mut names: BTreeMap<&str, usize> = BTreeMap::new();
        let mut catches_all: Option<&str> = None;
        for (index, rule) in pipeline.signals.iter().enumerate() {
            let at = format!("signals[{index}]");
            if let Some(first) = names.insert(&rule.name, index) {
                let message = format!("`{}` is already the name of signals[{first}]", rule.name);
                self.error(
                    "duplicate_name",
                    &format!("{at}.name"),
                    message,
                    "give each rule a name of its own",
                );
            }
            self.globs(&format!("{at}.match"), &rule.pattern);
            self.aggregate(&at, rule);
            if let Some(earlier) = catches_all {
                let message = format!("no series comes to this rule: `{earlier}` above matches all of them");
                self.warn("unreachable", &format!("{at}.name"), message, "move this rule above it");
            } else if let Some(twin) = pipeline
                .signals
                .iter()
                .take(index)
                .find(|other| other.pattern == rule.pattern)
            {
                let message = format!("no series comes to this rule: `{}` above matches the same", twin.name);
                self.warn(
                    "unreachable",
                    &format!("{at}.name"),
                    message,
                    "the first match counts: join the two rules",
                );
            }
            let all = rule.pattern.labels.is_empty()
                && rule
                    .pattern
                    .metric
                    .as_deref()
                    .is_none_or(|glob| !glob.is_empty() && glob.chars().all(|c| c == '*'));
            if all {
                catches_all.get_or_insert(&rule.name);
            }
        }
    }

    fn globs(&mut self, at: &str, pattern: &Match) {
        let metric = pattern.metric.iter().map(|text| (format!("{at}.metric"), text));
        let labels = pattern
            .labels
            .iter()
            .map(|(name, text)| (format!("{at}.labels.{name}"), text));
        for (path, text) in metric.chain(labels) {
            if let Err(error) = glob(text) {
                let help =
                    r"`*` is any text, `?` any character, `[ab]` and `{ab,cd}` either; `\` takes the next as it is";
                self.error("glob", &path, error.to_string(), help);
            }
        }
    }

    /// Rules under `derive`; `whole` is whether what they depend on is sound.
    fn derive(&mut self, whole: bool) {
        let pipeline = self.pipeline;
        let top = pipeline.detect.validate();
        let mut names: BTreeMap<&str, usize> = BTreeMap::new();
        for (index, rule) in pipeline.derive.iter().enumerate() {
            let at = format!("derive[{index}]");
            if let Some(first) = names.insert(&rule.name, index) {
                let message = format!("`{}` is already the name of derive[{first}]", rule.name);
                let help = "what a rule makes is named after it: give each a name of its own";
                self.error("duplicate_name", &format!("{at}.name"), message, help);
            }
            for (path, pattern) in rule.patterns() {
                self.globs(&format!("{at}.{path}"), pattern);
            }
            for Problem { path, message, help } in rule.validate() {
                let place = format!("{at}.{path}");
                let message = format!("`{place}`: {message}");
                self.error("derive", &place, message, help);
            }
            if whole {
                let own = rule
                    .detect
                    .validate()
                    .into_iter()
                    .filter(|problem| !top.contains(problem));
                self.tell_rule(&at, own.collect());
            }
        }
        if whole && !pipeline.derive.is_empty() && pipeline.window.size.is_none() {
            let message = "series can be put side by side only in windows, and there is no `window.size`";
            self.error("derive", "derive[0].name", message, "add `window: {size: 1m}`");
        }
    }

    fn aggregate(&mut self, at: &str, rule: &SignalRule) {
        let path = format!("{at}.aggregate");
        match (rule.aggregate, rule.counter) {
            (Some(aggregate), Some(false)) if aggregate.reads_a_counter() => {
                let message = format!("`{aggregate}` reads a counter, and `counter` is false here");
                self.error(
                    "aggregate",
                    &path,
                    message,
                    "set `counter: true`, or use `mean`, `sum` or `last`",
                );
            }
            (Some(aggregate), Some(true)) if !aggregate.reads_a_counter() && aggregate != Aggregate::Count => {
                let message = format!("`{aggregate}` is taken of the counter's own value, which only grows");
                self.warn("aggregate", &path, message, "use `rate` or `increase`");
            }
            _ => {}
        }
    }

    fn topology(&mut self) {
        let topology = &self.pipeline.topology;
        for (index, edge) in topology.edges.iter().enumerate() {
            if edge.from == edge.to {
                let message = format!("`{}` calls itself", edge.from);
                self.warn(
                    "topology",
                    &format!("topology.edges[{index}].to"),
                    message,
                    "an edge within one service says nothing",
                );
            }
        }
        for (index, pair) in topology.from_labels.iter().enumerate() {
            if pair.from == pair.to {
                let message = format!("the label `{}` names both ends of the call", pair.from);
                let help = "name the caller's label and the callee's, such as `service` and `peer`";
                self.error("topology", &format!("topology.from_labels[{index}].to"), message, help);
            }
        }
        if topology.file.as_deref().is_some_and(|file| file.trim().is_empty()) {
            self.error(
                "topology",
                "topology.file",
                "`topology.file` is empty",
                "name a file, or remove the key",
            );
        }
    }

    fn memory(&mut self) {
        let estimate = self.pipeline.estimate();
        if let Some(limit) = self.pipeline.limits.memory
            && estimate.total > limit
        {
            let message = format!(
                "the pipeline may need {}, and `limits.memory` is {limit}",
                estimate.total.rounded()
            );
            let help = format!(
                "{} shards of {} series at {} bytes each: lower `limits.series`, or allow more",
                estimate.shards, estimate.series, estimate.bytes_per_series
            );
            self.error("memory", "limits.memory", message, help);
        }
    }
}
