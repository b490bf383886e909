//! What a test gives: telemetry in a few words or from files, changes, and who calls whom.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::ensure;
use serde::{Deserialize, Deserializer, de};
use suture_event::{Edge, EdgeSource, Span, Timestamp};

use crate::feed::Feed;

/// Samples that a test may give at most.
const MOST: i64 = 5_000_000;

/// What a test gives.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Given {
    /// The first sample's time, from which all others count.
    #[serde(default = "new_year")]
    pub(super) start: Timestamp,
    /// The time between samples of a series.
    #[serde(default = "a_minute")]
    every: Span,
    /// For how long samples come.
    #[serde(rename = "for", default = "a_day")]
    length: Span,
    /// Series in a few words.
    #[serde(default)]
    telemetry: Vec<Series>,
    /// In place of these, files of any kind that `suture backtest` reads, relative to the test's.
    #[serde(default)]
    files: Vec<PathBuf>,
    /// Changes.
    #[serde(default)]
    pub(super) changes: Vec<Change>,
    /// Who calls whom.
    #[serde(default)]
    calls: Vec<Call>,
}

/// One series, or one for each combination of the labels' values.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Series {
    metric: String,
    #[serde(default)]
    labels: BTreeMap<String, OneOrMore>,
    /// Its mean.
    level: f64,
    /// The spread of bell-shaped noise around it, the same in every run.
    #[serde(default)]
    noise: f64,
    /// How far it swings with the time of day.
    #[serde(default)]
    daily: f64,
    /// It adds up: each sample is the sum of all that came, as a counter is.
    #[serde(default)]
    counter: bool,
    /// No value is below this.
    #[serde(default)]
    min: Option<f64>,
    /// How it goes on.
    #[serde(default)]
    then: Vec<Then>,
}

/// A label's value, or several. What looks like a number is the text that it is written as.
#[derive(Debug)]
struct OneOrMore(Vec<String>);

impl<'de> Deserialize<'de> for OneOrMore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = OneOrMore;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a label's value, or a list of them")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<OneOrMore, E> {
                Ok(OneOrMore(vec![v.to_owned()]))
            }
            fn visit_bool<E: de::Error>(self, v: bool) -> Result<OneOrMore, E> {
                self.visit_str(&v.to_string())
            }
            fn visit_i64<E: de::Error>(self, v: i64) -> Result<OneOrMore, E> {
                self.visit_str(&v.to_string())
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<OneOrMore, E> {
                self.visit_str(&v.to_string())
            }
            fn visit_f64<E: de::Error>(self, v: f64) -> Result<OneOrMore, E> {
                self.visit_str(&v.to_string())
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<OneOrMore, A::Error> {
                let mut all = Vec::new();
                while let Some(value) = seq.next_element::<String>()? {
                    all.push(value);
                }
                Ok(OneOrMore(all))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// From a time on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Then {
    /// From the start.
    at: Span,
    #[serde(default)]
    level: Option<f64>,
    #[serde(default)]
    noise: Option<f64>,
    /// By so much an hour, from here on.
    #[serde(default)]
    rises: f64,
    /// No sample comes.
    #[serde(default)]
    silent: bool,
}

/// A change.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    /// From the start.
    at: Span,
    service: String,
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    environment: Option<String>,
    #[serde(default)]
    id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    from: Arc<str>,
    to: Arc<str>,
}

fn new_year() -> Timestamp {
    // 2026-01-05T00:00:00Z, a Monday
    Timestamp::from_millis(1_767_571_200_000)
}

const fn a_minute() -> Span {
    Span::from_mins(1)
}

const fn a_day() -> Span {
    Span::from_hours(24)
}

/// One series as it is made.
struct Made<'a> {
    series: &'a Series,
    seed: u64,
    /// The end of its samples' JSON.
    rest: String,
    sum: f64,
}

impl Given {
    pub(super) fn edges(&self) -> impl Iterator<Item = Edge> {
        self.calls.iter().map(|call| Edge {
            from: call.from.clone(),
            to: call.to.clone(),
            source: EdgeSource::File,
        })
    }

    /// The files that are given, if any.
    pub(super) fn feed(&self, folder: &Path) -> anyhow::Result<Option<Feed>> {
        ensure!(
            self.files.is_empty() != self.telemetry.is_empty(),
            "give either `telemetry` or `files`"
        );
        if self.files.is_empty() {
            return Ok(None);
        }
        let paths: Vec<PathBuf> = self.files.iter().map(|file| folder.join(file)).collect();
        Feed::open(&paths).map(Some)
    }

    /// The changes as records of `format: plain`.
    pub(super) fn changes(&self) -> anyhow::Result<Vec<String>> {
        let record = |change: &Change| {
            let fields = serde_json::json!({
                "time": self.start.plus(change.at), "service": change.service, "version": change.version, "kind": change.kind,
                "environment": change.environment, "id": change.id,
            });
            fields.to_string()
        };
        Ok(self.changes.iter().map(record).collect())
    }

    /// Hands on all samples in the order of time, as records of `format: json`.
    pub(super) fn each(&self, mut each: impl FnMut(i64, &[u8]) -> anyhow::Result<()>) -> anyhow::Result<()> {
        use std::io::Write as _;
        ensure!(self.every.as_millis() > 0, "`every` is no time at all");
        let mut all = Vec::new();
        for series in &self.telemetry {
            ensure!(
                series.then.is_sorted_by_key(|then| then.at),
                "{}: `then` is not in the order of time",
                series.metric
            );
            for labels in combinations(&series.labels) {
                let labels = serde_json::Value::from(labels);
                let rest = format!(
                    "\"metric\": {}, \"labels\": {labels}}}",
                    serde_json::Value::from(series.metric.as_str())
                );
                all.push(Made {
                    series,
                    seed: seed(&rest),
                    rest,
                    sum: 0.0,
                });
            }
        }
        let steps = self.length.as_millis() / self.every.as_millis();
        let samples = steps.saturating_mul(i64::try_from(all.len()).unwrap_or(i64::MAX));
        ensure!(
            samples <= MOST,
            "{samples} samples are more than the {MOST} that a test may give"
        );
        let (mut text, mut number) = (Vec::new(), 0);
        for step in 0..steps {
            let at = Span::from_millis(step * self.every.as_millis());
            let ts = self.start.plus(at).as_millis();
            for made in &mut all {
                let Some(value) = made.value(step, at, ts) else {
                    continue;
                };
                number += 1;
                text.clear();
                write!(text, "{{\"ts\": {ts}, \"value\": {value:.6}, {}", made.rest)?;
                each(number, &text)?;
            }
        }
        Ok(())
    }
}

impl Made<'_> {
    fn value(&mut self, step: i64, at: Span, ts: i64) -> Option<f64> {
        let series = self.series;
        let (mut level, mut noise, mut rise, mut silent) = (series.level, series.noise, 0.0, false);
        for then in series.then.iter().take_while(|then| then.at <= at) {
            level = then.level.unwrap_or(level);
            noise = then.noise.unwrap_or(noise);
            let hours = Span::from_millis(at.as_millis() - then.at.as_millis()).as_secs_f64() / 3_600.0;
            rise = then.rises * hours;
            silent = then.silent;
        }
        if silent {
            return None;
        }
        let day = std::f64::consts::TAU * (ts.rem_euclid(86_400_000) as f64 / 86_400_000.0);
        let value = level + rise - series.daily * day.cos() + noise * bell(self.seed, step.unsigned_abs());
        let value = series.min.map_or(value, |min| value.max(min));
        if series.counter {
            self.sum += value;
            return Some(self.sum);
        }
        Some(value)
    }
}

fn combinations(labels: &BTreeMap<String, OneOrMore>) -> Vec<serde_json::Map<String, serde_json::Value>> {
    let mut all = vec![serde_json::Map::new()];
    for (name, values) in labels {
        let OneOrMore(values) = values;
        let with = |map: &serde_json::Map<_, _>, value: &String| {
            let mut map = map.clone();
            map.insert(name.clone(), value.as_str().into());
            map
        };
        all = all
            .iter()
            .flat_map(|map| values.iter().map(move |value| with(map, value)))
            .collect();
    }
    all
}

/// FNV-1a: a series' noise is its own, and does not change when another is given beside it.
fn seed(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Bell-shaped with unit spread: a sum of six uniform ones, each by the mixing of `SplitMix64`.
fn bell(seed: u64, step: u64) -> f64 {
    let unit = |salt: u64| {
        let mut x = seed ^ (step * 6 + salt + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((x ^ (x >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    };
    ((0..6).map(unit).sum::<f64>() - 3.0) * std::f64::consts::SQRT_2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<serde_json::Value> {
        let given: Given = super::super::yaml(text).unwrap();
        let mut lines = Vec::new();
        given
            .each(|_, bytes| {
                lines.push(serde_json::from_slice(bytes)?);
                Ok(())
            })
            .unwrap();
        lines
    }

    #[test]
    fn series_are_made_by_labels_and_go_on_as_it_is_said() {
        let all = lines(
            "{start: 2026-03-02T00:00:00Z, every: 1m, for: 5m, telemetry: [{metric: m, labels: {a: [x, y], b: 7}, level: 10, then: [{at: 2m, level: 20, rises: 60}, {at: 4m, silent: true}]}]}",
        );
        assert_eq!(all.len(), 8);
        let x: Vec<f64> = all
            .iter()
            .filter(|line| line["labels"]["a"] == "x")
            .map(|line| line["value"].as_f64().unwrap())
            .collect();
        assert_eq!(x, [10.0, 10.0, 20.0, 21.0]);
        assert_eq!(
            (&all[0]["labels"]["b"], &all[1]["labels"]["a"]),
            (&"7".into(), &"y".into())
        );
    }

    #[test]
    fn noise_is_bell_shaped_and_a_counter_only_rises() {
        let all = lines("{for: 20000m, telemetry: [{metric: m, level: 5, noise: 2}]}");
        let values: Vec<f64> = all.iter().map(|line| line["value"].as_f64().unwrap()).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let spread = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt();
        assert!(
            (mean - 5.0).abs() < 0.1 && (spread - 2.0).abs() < 0.1,
            "{mean} {spread}"
        );
        let all = lines("{for: 60m, telemetry: [{metric: m, level: 5, noise: 9, min: 0, counter: true}]}");
        assert!(all.is_sorted_by(|a, b| a["value"].as_f64() <= b["value"].as_f64()));
    }

    #[test]
    fn what_cannot_be_is_told() {
        let given: Given =
            serde_saphyr::from_str("{every: 1ms, for: 52w, telemetry: [{metric: m, level: 1}]}").unwrap();
        assert!(given.each(|_, _| Ok(())).unwrap_err().to_string().contains("more than"));
        let none: Given = serde_saphyr::from_str("{}").unwrap();
        assert!(none.feed(Path::new(".")).is_err());
    }
}
