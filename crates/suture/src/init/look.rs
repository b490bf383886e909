//! What is in topics, as far as a look at their records tells.
//!
//! Everything is bounded: what is beyond a bound is not looked at, and what is told is then told of a part.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;
use suture_codec::{
    ChangeEvent, ChangeFormat, Fields, Limits, PointKind, SampleRef, TelemetryDecoder, TelemetryFormat, fields, sniff,
    sniff_change,
};
use suture_event::{Headers, SignalKind, Timestamp};

use super::shape;

/// Records of a topic that are looked at.
pub(super) const RECORDS: usize = 20_000;
/// Bytes of a topic that are looked at.
pub(super) const BYTES: usize = 64 << 20;
/// Series, metrics and labels of a topic, and values of a label, that are told apart.
const SERIES: usize = 20_000;
const METRICS: usize = 2_000;
const LABELS: usize = 256;
const VALUES: usize = 2_000;
/// Records of no known format that are looked at for their shape.
const UNKNOWN: usize = 200;
/// Gaps between samples that are kept of a series.
const GAPS: usize = 32;
/// Samples from which on a series' values tell whether it is a counter.
const TELLING: u32 = 10;

/// One topic.
pub(super) struct Topic {
    pub(super) name: String,
    /// Where it was looked at, for people: a file's path; absent for a topic of Kafka.
    pub(super) file: Option<std::path::PathBuf>,
    pub(super) records: usize,
    bytes: usize,
    pub(super) telemetry: BTreeMap<String, (usize, TelemetryFormat, String)>,
    pub(super) changes: BTreeMap<String, (usize, ChangeFormat, &'static str)>,
    /// Services that changes name.
    pub(super) changed: BTreeSet<String>,
    /// Changes that cannot be used, and why the first cannot.
    pub(super) unusable: (usize, Option<String>),
    /// Records of no known format, and why the first is of none.
    pub(super) unknown: (usize, Option<String>),
    /// How JSON of no known tool is read, where that could be told.
    pub(super) fields: Option<Fields>,
    shapes: Vec<Vec<u8>>,
    pub(super) samples: Samples,
    decoders: BTreeMap<String, Box<dyn TelemetryDecoder>>,
}

/// One label.
#[derive(Default)]
pub(super) struct Label {
    /// Samples that have it.
    pub(super) samples: u64,
    pub(super) values: BTreeSet<String>,
}

/// One metric.
#[derive(Default)]
pub(super) struct Metric {
    /// Whether the format or the name says that it is a counter.
    pub(super) known_counter: bool,
    /// Series whose values only ever rise, of those of which enough came.
    pub(super) rising: u32,
    pub(super) telling: u32,
}

struct Series {
    metric: usize,
    last: Timestamp,
    value: f64,
    samples: u32,
    rises: u32,
    falls: u32,
    partition: i32,
    gaps: Vec<i64>,
}

/// What the samples of a topic are like.
#[derive(Default)]
pub(super) struct Samples {
    pub(super) total: u64,
    pub(super) metrics: BTreeMap<String, Metric>,
    pub(super) labels: BTreeMap<String, Label>,
    names: Vec<String>,
    series: HashMap<u64, Series>,
    /// How far behind the newest sample of its partition a sample came at most.
    pub(super) behind: i64,
    newest: HashMap<i32, Timestamp>,
    /// Series that two partitions have.
    pub(super) torn: u64,
    pub(super) rejected: u64,
}

impl Samples {
    fn take(&mut self, sample: &SampleRef<'_>, partition: i32) {
        self.total += 1;
        let newest = self.newest.entry(partition).or_insert(sample.ts);
        self.behind = self.behind.max(newest.since(sample.ts).as_millis());
        *newest = (*newest).max(sample.ts);
        for (name, value) in sample.labels {
            if !self.labels.contains_key(&**name) && self.labels.len() >= LABELS {
                continue;
            }
            let label = self.labels.entry(name.to_string()).or_default();
            label.samples += 1;
            if label.values.len() < VALUES && !label.values.contains(&**value) {
                label.values.insert(value.to_string());
            }
        }
        if let Some(series) = self.series.get_mut(&sample.hash) {
            let gap = sample.ts.since(series.last).as_millis();
            if gap > 0 && series.gaps.len() < GAPS {
                series.gaps.push(gap);
            }
            series.samples += 1;
            series.rises += u32::from(sample.value > series.value);
            series.falls += u32::from(sample.value < series.value);
            if series.partition != partition && series.partition >= 0 {
                self.torn += 1;
                series.partition = -1;
            }
            series.last = series.last.max(sample.ts);
            series.value = sample.value;
            return;
        }
        if self.series.len() >= SERIES || (self.metrics.len() >= METRICS && !self.metrics.contains_key(sample.metric)) {
            return;
        }
        let by_name = ["_total", "_sum", "_count", "_bucket"]
            .iter()
            .any(|end| sample.metric.ends_with(end));
        let by_kind = matches!(sample.kind, PointKind::Cumulative { .. } | PointKind::Delta { .. });
        let metric = self.metrics.entry(sample.metric.to_owned()).or_default();
        metric.known_counter |= by_name || by_kind;
        let at = match self.names.iter().position(|name| name == sample.metric) {
            Some(at) => at,
            None => {
                self.names.push(sample.metric.to_owned());
                self.names.len() - 1
            }
        };
        self.series.insert(
            sample.hash,
            Series {
                metric: at,
                last: sample.ts,
                value: sample.value,
                samples: 1,
                rises: 0,
                falls: 0,
                partition,
                gaps: Vec::new(),
            },
        );
    }

    pub(super) fn series(&self) -> usize {
        self.series.len()
    }

    /// What the values tell of each metric.
    fn tell_counters(&mut self) {
        for series in self.series.values().filter(|series| series.samples >= TELLING) {
            let Some(metric) = self
                .names
                .get(series.metric)
                .and_then(|name| self.metrics.get_mut(name))
            else {
                continue;
            };
            metric.telling += 1;
            // one that starts again falls once
            let rising = series.rises > 0 && series.falls * 20 <= series.rises;
            metric.rising += u32::from(rising);
        }
    }

    /// Metrics that only ever rise and are not known to be counters.
    pub(super) fn counters(&self) -> Vec<&str> {
        let found = self.metrics.iter().filter(|(name, metric)| {
            // what fills up rises too
            let level = matches!(SignalKind::of_metric(name), SignalKind::Memory | SignalKind::Disk);
            !metric.known_counter && !level && metric.telling >= 2 && metric.rising * 10 >= metric.telling * 9
        });
        found.map(|(name, _)| name.as_str()).collect()
    }

    /// The usual time between two samples of a series, in milliseconds.
    pub(super) fn step(&self) -> Option<i64> {
        let mut gaps: Vec<i64> = self
            .series
            .values()
            .flat_map(|series| series.gaps.iter().copied())
            .collect();
        gaps.sort_unstable();
        gaps.get(gaps.len() / 2).copied()
    }
}

fn name_of(format: &impl serde::Serialize) -> String {
    serde_json::to_value(format)
        .ok()
        .and_then(|name| name.as_str().map(str::to_owned))
        .unwrap_or_default()
}

impl Topic {
    pub(super) fn new(name: String, file: Option<std::path::PathBuf>) -> Self {
        Self {
            name,
            file,
            records: 0,
            bytes: 0,
            telemetry: BTreeMap::new(),
            changes: BTreeMap::new(),
            changed: BTreeSet::new(),
            unusable: (0, None),
            unknown: (0, None),
            fields: None,
            shapes: Vec::new(),
            samples: Samples::default(),
            decoders: BTreeMap::new(),
        }
    }

    /// Whether no more is looked at.
    pub(super) const fn is_full(&self) -> bool {
        self.records >= RECORDS || self.bytes >= BYTES
    }

    /// Looks at a record.
    pub(super) fn take(&mut self, value: &[u8], headers: Headers<'_>, partition: i32) {
        if value.trim_ascii().is_empty() {
            return;
        }
        self.records += 1;
        self.bytes += value.len();
        let why = match sniff(value) {
            Ok(sniffed) => {
                let name = name_of(&sniffed.format);
                let decoder = self
                    .decoders
                    .entry(name.clone())
                    .or_insert_with(|| sniffed.format.decoder(Limits::default()));
                let samples = &mut self.samples;
                let decoded = decoder.decode(value, &mut |sample: SampleRef<'_>| samples.take(&sample, partition));
                match decoded {
                    Ok(decoded) => samples.rejected += decoded.rejected.len() as u64,
                    Err(_) => samples.rejected += 1,
                }
                self.telemetry.entry(name).or_insert((0, sniffed.format, sniffed.why)).0 += 1;
                return;
            }
            Err(why) => why,
        };
        if self.is_change(value, headers) {
            return;
        }
        self.unknown.0 += 1;
        self.unknown.1.get_or_insert(why);
        if self.shapes.len() < UNKNOWN {
            self.shapes.push(value.to_vec());
        }
    }

    fn is_change(&mut self, value: &[u8], headers: Headers<'_>) -> bool {
        // one in an envelope is told by what is in it
        let Ok(event) = serde_json::from_slice::<Value>(value) else {
            return false;
        };
        let inner = match event.get("data") {
            Some(data) if event.get("specversion").is_some() && data.is_object() => data,
            _ => &event,
        };
        let Ok(sniffed) = sniff_change(inner) else { return false };
        if sniffed.format == ChangeFormat::Plain && !is_plain(inner) {
            return false;
        }
        match ChangeFormat::Auto.decoder().decode(headers, Some(value)) {
            Ok(ChangeEvent::Change(change)) => {
                if self.changed.len() < VALUES {
                    self.changed.insert(change.service.to_string());
                }
            }
            Ok(ChangeEvent::Ignored(_)) => {}
            Err(error) => {
                self.unusable.0 += 1;
                self.unusable.1.get_or_insert_with(|| error.to_string());
            }
        }
        self.changes
            .entry(name_of(&sniffed.format))
            .or_insert((0, sniffed.format, sniffed.why))
            .0 += 1;
        true
    }

    /// Ends the look: what is JSON of no known tool is read by what its fields look like, where that can be told.
    pub(super) fn end(&mut self) {
        let known: usize = self.telemetry.values().map(|(records, ..)| records).sum();
        if self.unknown.0 > known + self.changes_seen()
            && let Some(fields) = shape::guess(&self.shapes)
        {
            let mut decoder = fields::Decoder::new(&fields, Limits::default());
            let samples = &mut self.samples;
            let mut good = 0;
            for record in &self.shapes {
                let decoded = decoder.decode(record, &mut |sample: SampleRef<'_>| samples.take(&sample, 0));
                good += usize::from(decoded.is_ok_and(|decoded| decoded.accepted > 0));
            }
            if good * 2 > self.shapes.len() {
                self.fields = Some(fields);
            }
        }
        self.shapes = Vec::new();
        self.decoders = BTreeMap::new();
        self.samples.tell_counters();
    }

    fn changes_seen(&self) -> usize {
        self.changes.values().map(|(records, ..)| records).sum()
    }

    /// Whether it carries telemetry; changes are looked for in the others.
    pub(super) fn is_telemetry(&self) -> bool {
        let known: usize = self.telemetry.values().map(|(records, ..)| records).sum();
        self.samples.total > 0 && (self.fields.is_some() || known > self.changes_seen())
    }

    /// Whether it carries changes.
    pub(super) fn is_changes(&self) -> bool {
        !self.is_telemetry() && self.changes_seen() > 0 && self.changes_seen() >= self.unknown.0
    }
}

/// Whether an object has the fields of a plain change and no others: any object may name a service.
fn is_plain(event: &Value) -> bool {
    const FIELDS: [&str; 7] = ["service", "version", "kind", "environment", "time", "id", "source"];
    let known = |object: &serde_json::Map<String, Value>| object.keys().all(|key| FIELDS.contains(&key.as_str()));
    event.as_object().is_some_and(known)
}
