//! Telemetry as JSON of any shape, by a mapping that says where in it metric, values, time and labels are.
//!
//! | format | `each` | `metric` | `value` | `time` | `labels` |
//! | --- | --- | --- | --- | --- | --- |
//! | `json` with `fields` | as the pipeline file says | | | | |
//! | `prometheus_kafka_adapter` | – | `name` | `value` | `timestamp` | `labels` |
//! | `telegraf_json` | `metrics`, where a batch was written | `name` | `fields` | `timestamp` | `tags` |
//!
//! A record is an object, an array of them, or several that line ends join. A bad one is reported with its place, and the
//! others stand; a record whose only one is bad is refused.
//!
//! - **Values** are finite numbers, texts of such (`"12.5"`), and booleans as 1 and 0. Where `value` leads to an object, each
//!   of its numbers and booleans is a sample, and its texts are passed over, as Telegraf has them among its fields.
//! - **The metric** is what `metric` leads to. Where there are several values, or an object of them, each has its name after
//!   it: `METRIC_NAME`. Without `metric` the name is that of the value alone.
//! - **Times** are numbers, or texts of such, whose unit (seconds, milli-, micro- or nanoseconds) is told by their size (see
//!   [`Timestamp::from_number`](suture_event::Timestamp::from_number)), or RFC 3339.
//! - **Labels** are the entries of an object, or a text, number or boolean under its own name. One that is missing or `null`
//!   is as if it were not mapped. `__name__` is Prometheus' name of the metric and no label.
//!
//! **Known series.** A series is known by the parts of the text that its name and labels are in, so these are read only once
//! (see `raw.rs`). **Cost.** The text is gone through once for each level that a path goes down; nothing is allocated
//! for a sample of a known series.

mod options;

use std::{borrow::Cow, ops::Range};

use suture_event::{SignalKind, Timestamp};
use xxhash_rust::xxh3::xxh3_128;

pub use self::options::{Fields, Path, Paths};
use crate::{
    DecodeError, Decoded, Format, Limits, PointKind, RawKey, SampleRef, Sink, TelemetryDecoder,
    json::elements::{Elements, Step},
    raw::{self, Broken, Entries},
    sample::{Pairs, Scratch, excerpt, seal},
    tally::Tally,
};

/// Paths to values, and to labels, that are followed; those beyond are not looked at.
pub const MOST_PATHS: usize = 16;

/// How names tell what numbers stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    /// `_total` is a counter, and so is a field called `counter`.
    Usual,
    /// As Prometheus has them: `_total`, `_sum`, `_count` and `_bucket` are counters.
    Prometheus,
}

impl Names {
    /// What a metric's numbers stand for.
    pub(crate) fn kind(self, metric: &str) -> PointKind {
        let counters: &[&str] = match self {
            Self::Usual => &["_total"],
            Self::Prometheus => &["_total", "_sum", "_count", "_bucket"],
        };
        match counters.iter().any(|end| metric.ends_with(end)) {
            true => PointKind::Cumulative { monotonic: true },
            false => PointKind::Unspecified,
        }
    }

    /// What a metric measures where its name would mislead: the parts of a histogram of durations are no durations.
    pub(crate) fn signal(self, metric: &str) -> Option<SignalKind> {
        let (whole, signal) = match self {
            Self::Usual => return None,
            Self::Prometheus if metric.ends_with("_count") => (metric.strip_suffix("_count"), SignalKind::Traffic),
            Self::Prometheus if metric.ends_with("_sum") => (metric.strip_suffix("_sum"), SignalKind::Other),
            Self::Prometheus => (metric.strip_suffix("_bucket"), SignalKind::Other),
        };
        whole
            .filter(|whole| SignalKind::of_metric(whole) == SignalKind::Latency)
            .map(|_| signal)
    }
}

/// Decodes records by a mapping. Keep one a shard: it holds the memory that is used again.
#[derive(Debug)]
pub struct Decoder {
    plan: Plan,
    work: Work,
}

/// What is used again from sample to sample.
#[derive(Debug)]
struct Work {
    limits: Limits,
    scratch: Scratch,
    metric: String,
    key: Vec<u8>,
    /// The last time as it was written, and what it is: samples of one moment come together.
    moment: (String, Timestamp),
}

#[derive(Debug)]
struct Plan {
    format: Format,
    each: Option<Vec<String>>,
    metric: Option<Vec<String>>,
    /// Paths to values, and what each is called in a metric's name.
    values: Vec<(Vec<String>, String)>,
    time: Vec<String>,
    labels: Vec<Vec<String>>,
    names: Names,
    /// Tells keys of this mapping's series from those of other decoders.
    mark: u8,
    /// Whether records are batches of this field only where they have it.
    batched: bool,
}

/// The parts of one sample's text.
#[derive(Default)]
struct Parts<'a> {
    metric: Option<&'a str>,
    time: Option<&'a str>,
    values: [Option<&'a str>; MOST_PATHS],
    labels: [Option<&'a str>; MOST_PATHS],
}

/// What a value is called.
#[derive(Clone, Copy)]
struct Called<'c> {
    /// What comes first in the metric's name.
    metric: Option<&'c str>,
    /// What comes after it.
    field: Option<&'c str>,
    /// Where the value is, or the object that it is in.
    path: &'c [String],
    inside: bool,
}

impl Decoder {
    /// A decoder of JSON of the shape that a pipeline file describes.
    #[must_use]
    pub fn new(fields: &Fields, limits: Limits) -> Self {
        let plan = Plan {
            format: Format("JSON"),
            each: fields.each.as_ref().map(Path::segments),
            metric: fields.metric.as_ref().map(Path::segments),
            values: fields.value.segments().into_iter().map(named).collect(),
            time: fields.time.segments(),
            labels: fields.labels.segments(),
            names: Names::Usual,
            mark: b'm',
            batched: false,
        };
        Self::of(plan, limits)
    }

    /// A decoder of what prometheus-kafka-adapter writes as JSON and as Avro-JSON.
    #[must_use]
    pub fn prometheus_kafka_adapter(limits: Limits) -> Self {
        let path = |name: &str| vec![name.to_owned()];
        let plan = Plan {
            format: Format("JSON of prometheus-kafka-adapter"),
            each: None,
            metric: Some(path("name")),
            values: vec![named(path("value"))],
            time: path("timestamp"),
            labels: vec![path("labels")],
            names: Names::Prometheus,
            mark: b'p',
            batched: false,
        };
        Self::of(plan, limits)
    }

    /// A decoder of what Telegraf writes with `data_format = "json"`, metric by metric or in batches.
    #[must_use]
    pub fn telegraf(limits: Limits) -> Self {
        let path = |name: &str| vec![name.to_owned()];
        let plan = Plan {
            format: Format("Telegraf JSON"),
            each: Some(path("metrics")),
            metric: Some(path("name")),
            values: vec![named(path("fields"))],
            time: path("timestamp"),
            labels: vec![path("tags")],
            names: Names::Usual,
            mark: b't',
            batched: true,
        };
        Self::of(plan, limits)
    }

    fn of(mut plan: Plan, limits: Limits) -> Self {
        plan.values.truncate(MOST_PATHS);
        plan.labels.truncate(MOST_PATHS);
        let work = Work {
            limits,
            scratch: Scratch::default(),
            metric: String::new(),
            key: Vec::new(),
            moment: (String::new(), Timestamp::MIN),
        };
        Self { plan, work }
    }
}

impl Work {
    /// Takes in a document, which is one sample's object, one that holds several, or an array of either.
    fn document(&mut self, plan: &Plan, text: &str, base: usize, tally: &mut Tally, sink: &mut dyn Sink) {
        let trimmed = text.trim_start();
        let start = base + (text.len() - trimmed.len());
        match trimmed.as_bytes().first() {
            Some(b'[') => each_element(trimmed, start, tally, |tally, element, at| {
                self.holder(plan, element, at, tally, sink);
            }),
            Some(_) => self.holder(plan, trimmed, start, tally, sink),
            None => {}
        }
    }

    /// Takes in an object that is one sample, or holds several.
    fn holder(&mut self, plan: &Plan, text: &str, at: usize, tally: &mut Tally, sink: &mut dyn Sink) {
        let Some(each) = &plan.each else {
            return self.object(plan, text, at, tally, sink);
        };
        match descend(text, each) {
            Ok(Some(samples)) if samples.trim_start().starts_with('[') => {
                // the array is a part of this very text
                let start = at + (samples.as_ptr() as usize - text.as_ptr() as usize);
                each_element(samples, start, tally, |tally, element, at| {
                    self.object(plan, element, at, tally, sink);
                });
            }
            Ok(None) if plan.batched => self.object(plan, text, at, tally, sink),
            Ok(found) => {
                let found = found.map_or_else(|| "missing".to_owned(), raw::shown);
                let help = "write an array of samples, or mend `fields.each`";
                reject(tally, at, None, DecodeError::unfit(joined(each), found, help));
            }
            Err(broken) => reject(tally, at, None, malformed(plan.format, at, broken)),
        }
    }

    fn object(&mut self, plan: &Plan, text: &str, at: usize, tally: &mut Tally, sink: &mut dyn Sink) {
        let before = tally.decoded.rejected.len();
        match plan.parts(text) {
            Ok(parts) => self.sample(plan, &parts, tally, sink),
            Err(broken) => tally.reject(None, malformed(plan.format, at, broken)),
        }
        for rejected in tally.decoded.rejected.iter_mut().skip(before) {
            rejected.at = Some(at);
        }
    }

    /// Hands on the samples of one object.
    fn sample(&mut self, plan: &Plan, parts: &Parts<'_>, tally: &mut Tally, sink: &mut dyn Sink) {
        let name = match (plan.metric.is_some(), parts.metric) {
            (false, _) => None,
            (true, Some(raw)) => match raw::text(raw) {
                Some(name) => Some(name),
                None => {
                    let path = plan.metric.as_deref().map(joined).unwrap_or_default();
                    let help = "write the metric's name as a text";
                    return tally.reject(None, DecodeError::unfit(path, raw::shown(raw), help));
                }
            },
            (true, None) => {
                let path = plan.metric.as_deref().map(joined).unwrap_or_default();
                return tally.reject(None, missing(path, "name what is measured"));
            }
        };
        let metric = || name.as_deref().map(excerpt);
        let Some(written) = parts.time else {
            let help = "say when it was measured, as a number since the epoch or as RFC 3339";
            return tally.reject(metric(), missing(joined(&plan.time), help));
        };
        let known = (self.moment.0 == written).then_some(self.moment.1);
        let Some(ts) = known.or_else(|| raw::time(written)) else {
            let help = "write seconds, milli-, micro- or nanoseconds since the epoch, or RFC 3339";
            let error = DecodeError::unfit(joined(&plan.time), raw::shown(written), help);
            return tally.reject(metric(), error);
        };
        if known.is_none() {
            self.moment.0.clear();
            self.moment.0.push_str(written);
            self.moment.1 = ts;
        }
        self.key.clear();
        self.key.push(plan.mark);
        for part in std::iter::once(&parts.metric).chain(&parts.labels) {
            let part = part.unwrap_or_default();
            // a length cannot be taken for text that comes after it
            self.key.extend_from_slice(&(part.len() as u64).to_le_bytes());
            self.key.extend_from_slice(part.as_bytes());
        }
        let several = plan.values.len() > 1;
        let mut found = false;
        for ((path, own), raw) in plan.values.iter().zip(parts.values) {
            let Some(raw) = raw else { continue };
            let own = own.as_str();
            if raw.starts_with('{') {
                let entries = match Entries::of(raw).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
                    Ok(entries) => entries,
                    Err(broken) => {
                        let error = DecodeError::unfit(joined(path), broken.reason, "write an object of numbers");
                        return tally.reject(metric(), error);
                    }
                };
                found = true;
                for (field, raw) in entries {
                    if raw.starts_with('"') || raw == "null" {
                        continue;
                    }
                    let called = Called {
                        metric: name.as_deref().or(several.then_some(own)),
                        field: Some(field),
                        path,
                        inside: true,
                    };
                    self.value(plan, called, ts, raw, parts, tally, sink);
                }
            } else {
                found = true;
                let called = Called {
                    metric: name.as_deref(),
                    field: (several || name.is_none()).then_some(own),
                    path,
                    inside: false,
                };
                self.value(plan, called, ts, raw, parts, tally, sink);
            }
        }
        if !found {
            let path = plan.values.first().map(|(path, _)| joined(path)).unwrap_or_default();
            tally.reject(metric(), missing(path, "write what was measured, a number"));
        }
    }

    /// Hands on one sample.
    #[allow(clippy::too_many_arguments)]
    fn value(
        &mut self,
        plan: &Plan,
        called: Called<'_>,
        ts: Timestamp,
        raw: &str,
        parts: &Parts<'_>,
        tally: &mut Tally,
        sink: &mut dyn Sink,
    ) {
        if tally.is_beyond() {
            return;
        }
        let value = read_value(raw);
        let field = called.field.unwrap_or_default();
        let length = self.key.len();
        self.key.extend_from_slice(field.as_bytes());
        let key = RawKey(xxh3_128(&self.key));
        self.key.truncate(length);
        if let Some(value) = value
            && sink.known(key, ts, value)
        {
            tally.decoded.accepted += 1;
            tally.index += 1;
            return;
        }
        let kind = self.name(plan, called.metric, called.field);
        let Some(value) = value else {
            let mut path = joined(called.path);
            if called.inside {
                path = format!("{path}.{}", excerpt(field));
            }
            let error = DecodeError::unfit(path, raw::shown(raw), "write a finite number");
            return tally.reject(Some(excerpt(&self.metric)), error);
        };
        let mut pairs: Pairs<'_> = self.scratch.lend();
        let sealed = self.collect(plan, parts, &mut pairs).and_then(|()| {
            let metric = self.metric.as_str();
            seal(metric, &mut pairs, &self.limits, &mut self.scratch.identity)
        });
        match sealed {
            Ok(hash) => {
                let sample = SampleRef {
                    ts,
                    metric: &self.metric,
                    value,
                    labels: &pairs,
                    hash,
                    identity: &self.scratch.identity,
                    kind,
                    start: None,
                    signal: plan.names.signal(&self.metric),
                };
                sink.sample(sample, Some(key));
                tally.decoded.accepted += 1;
                tally.index += 1;
            }
            Err(error) => tally.reject(Some(excerpt(&self.metric)), error),
        }
        self.scratch.take_back(pairs);
    }

    /// Writes the metric's name, and tells what its numbers stand for.
    fn name(&mut self, plan: &Plan, metric: Option<&str>, field: Option<&str>) -> PointKind {
        self.metric.clear();
        self.metric.push_str(metric.unwrap_or_default());
        let read = field.map(|field| match field.contains('\\') {
            true => {
                raw::text(&format!("\"{field}\"")).map_or(Cow::Borrowed(field), |text| Cow::Owned(text.into_owned()))
            }
            false => Cow::Borrowed(field),
        });
        let told = match read.as_deref() {
            Some("counter") => Some(PointKind::Cumulative { monotonic: true }),
            Some("gauge") => Some(PointKind::Gauge),
            _ => None,
        };
        match read.as_deref() {
            // as Telegraf's own outputs name them
            Some("value" | "counter" | "gauge") if !self.metric.is_empty() => {}
            Some(field) if self.metric.is_empty() => self.metric.push_str(field),
            Some(field) => {
                self.metric.push('_');
                self.metric.push_str(field);
            }
            None => {}
        }
        told.unwrap_or_else(|| plan.names.kind(&self.metric))
    }

    fn collect<'a>(&self, plan: &Plan, parts: &Parts<'a>, pairs: &mut Pairs<'a>) -> Result<(), DecodeError> {
        for (path, raw) in plan.labels.iter().zip(parts.labels) {
            let Some(raw) = raw else { continue };
            if raw.starts_with('{') {
                raw::labels(raw, &joined(path), pairs, &self.limits)?;
            } else {
                let name = path.last().cloned().unwrap_or_default();
                raw::label(Cow::Owned(name), raw, &joined(path), pairs, &self.limits)?;
            }
        }
        pairs.retain(|(name, _)| name != "__name__");
        Ok(())
    }
}

impl TelemetryDecoder for Decoder {
    /// A record is refused where it is empty, no UTF-8, or its only object is bad.
    fn decode(&mut self, bytes: &[u8], sink: &mut dyn Sink) -> Result<Decoded, DecodeError> {
        let (plan, work) = (&self.plan, &mut self.work);
        let limits = work.limits;
        decode_documents(plan.format, bytes, &limits, |text, base, tally| {
            work.document(plan, text, base, tally, sink);
        })
    }
}

/// Goes through the documents of a record, and refuses the record where its only sample was bad.
pub(crate) fn decode_documents(
    format: Format,
    bytes: &[u8],
    limits: &Limits,
    mut take: impl FnMut(&str, usize, &mut Tally),
) -> Result<Decoded, DecodeError> {
    if bytes.trim_ascii().is_empty() {
        return Err(DecodeError::Empty(format));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| DecodeError::Malformed {
        format,
        at: Some(error.valid_up_to()),
        reason: "not UTF-8: check `format` of the topic".to_owned(),
    })?;
    let mut tally = Tally::new("samples", limits);
    for range in raw::documents(bytes) {
        let Range { start, end } = range;
        take(text.get(start..end).unwrap_or_default(), start, &mut tally);
        if tally.is_full() {
            break;
        }
    }
    let mut decoded = tally.decoded;
    // of a record that holds a single sample nothing is left
    if decoded.accepted == 0 && decoded.without_value == 0 && decoded.rejected.len() == 1 {
        let first = decoded.rejected.pop();
        return first.map_or_else(|| Ok(decoded), |only| Err(only.error));
    }
    Ok(decoded)
}

/// Goes through the elements of an array that is a whole text.
pub(crate) fn each_element(array: &str, base: usize, tally: &mut Tally, mut take: impl FnMut(&mut Tally, &str, usize)) {
    const FORMAT: Format = Format("JSON");
    let mut elements = Elements::new(array.as_bytes(), 0);
    loop {
        if tally.is_full() {
            return;
        }
        match elements.step() {
            Step::Element(range) => {
                let element = array.get(range.clone()).unwrap_or_default();
                take(tally, element, base + range.start);
            }
            Step::End(at) => {
                if array.get(at..).is_some_and(|rest| !rest.trim().is_empty()) {
                    let reason = "more follows after the array";
                    reject(tally, base + at, None, malformed(FORMAT, base, Broken { at, reason }));
                }
                return;
            }
            Step::Cut(range) => {
                let at = base + range.start;
                return reject(
                    tally,
                    at,
                    None,
                    DecodeError::Truncated {
                        format: FORMAT,
                        at: base + array.len(),
                    },
                );
            }
        }
    }
}

/// What a path leads to; nothing where it is not there or is `null`.
fn descend<'a>(object: &'a str, path: &[String]) -> Result<Option<&'a str>, Broken> {
    let mut at = object;
    for name in path {
        if !at.trim_start().starts_with('{') {
            return Ok(None);
        }
        match raw::field(at, name)? {
            Some(found) => at = found,
            None => return Ok(None),
        }
    }
    Ok((at != "null").then_some(at))
}

impl Plan {
    /// The parts of an object that the mapping leads to.
    fn parts<'a>(&self, object: &'a str) -> Result<Parts<'a>, Broken> {
        let mut parts = Parts::default();
        for entry in Entries::of(object)? {
            let (name, raw) = entry?;
            let escaped = name.contains('\\');
            let lead = |path: &[String]| match path.split_first() {
                Some((first, rest)) if name == first || (escaped && raw::is_named(name, first)) => Some(rest.len()),
                _ => None,
            };
            let follow = |path: &[String], rest: usize| match rest {
                0 => Ok((raw != "null").then_some(raw)),
                _ => descend(raw, path.get(1..).unwrap_or_default()),
            };
            if let Some(path) = &self.metric
                && let Some(rest) = lead(path)
            {
                parts.metric = follow(path, rest)?;
            }
            if let Some(rest) = lead(&self.time) {
                parts.time = follow(&self.time, rest)?;
            }
            let values = self.values.iter().map(|(path, _)| path).zip(&mut parts.values);
            for (path, slot) in values.chain(self.labels.iter().zip(&mut parts.labels)) {
                if let Some(rest) = lead(path) {
                    *slot = follow(path, rest)?;
                }
            }
        }
        Ok(parts)
    }
}

fn read_value(raw: &str) -> Option<f64> {
    match raw {
        "true" => Some(1.0),
        "false" => Some(0.0),
        _ => raw::number(raw).or_else(|| raw::number(raw::text(raw)?.trim())),
    }
}

/// A path to a value, and what it is called in a metric's name.
fn named(path: Vec<String>) -> (Vec<String>, String) {
    let name = path.join("_");
    (path, name)
}

fn joined(path: &[String]) -> String {
    path.join(".")
}

fn missing(path: String, help: &'static str) -> DecodeError {
    DecodeError::unfit(path, "missing", help)
}

pub(crate) fn reject(tally: &mut Tally, at: usize, metric: Option<String>, error: DecodeError) {
    tally.reject(metric, error);
    if let Some(last) = tally.decoded.rejected.last_mut() {
        last.at = Some(at);
    }
}

pub(crate) fn malformed(format: Format, base: usize, broken: Broken) -> DecodeError {
    if broken.reason == raw::CUT {
        return DecodeError::Truncated {
            format,
            at: base + broken.at,
        };
    }
    DecodeError::Malformed {
        format,
        at: Some(base + broken.at),
        reason: broken.reason.to_owned(),
    }
}

#[cfg(test)]
mod tests;
