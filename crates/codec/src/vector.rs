//! Metrics as Vector writes them: its `json` codec, one metric an object, and its `native_json`, where each is under
//! `metric`. Several a record are an array, or joined by line ends.
//!
//! ```json
//! {"name":"requests_total","namespace":"shop","tags":{"service":"cart"},"timestamp":"2022-08-22T03:51:19Z","kind":"absolute","counter":{"value":12.0}}
//! ```
//!
//! | metric | samples |
//! | --- | --- |
//! | `counter` | the metric: a counter where `kind` is `absolute`, and what was added where it is `incremental` |
//! | `gauge` | the metric: a level, or what is added to one |
//! | `set` | the metric: how many values it has |
//! | `distribution`, `aggregated_histogram` | `METRIC_count` and `METRIC_sum`, and `METRIC` with the label `quantile` at 0.5, 0.9 and 0.99 |
//! | `aggregated_summary` | `METRIC_count` and `METRIC_sum`, and `METRIC` with a label `quantile` for each that it holds |
//! | `sketch` | refused, with what to do: convert it in Vector |
//!
//! The metric's name is `NAMESPACE_NAME`, as Vector's Prometheus sinks write it. Labels are the tags; of a tag with several
//! values the last counts, as in Vector itself. A metric without a time is refused: the time at which it arrives is another on
//! every replay. <https://vector.dev/docs/architecture/data-model/metric/>
//!
//! **Known series.** A counter or gauge is known by its name and tags as they are written. **Cost.** As of [`crate::fields`].

use std::borrow::Cow;

use serde::Deserialize;
use suture_event::{SignalKind, Timestamp};
use xxhash_rust::xxh3::xxh3_128;

use crate::{
    DecodeError, Decoded, Format, Limits, PointKind, RawKey, SampleRef, Sink, TelemetryDecoder,
    fields::{decode_documents, each_element, malformed},
    otlp::{
        Histograms,
        histogram::{Buckets, Since},
    },
    raw::{self, Broken, Entries},
    sample::{Pairs, Scratch, excerpt, seal},
    tally::Tally,
};

const FORMAT: Format = Format("Vector metric JSON");
const SHARES: [f64; 3] = [0.5, 0.9, 0.99];
const SHARE_NAMES: [&str; 3] = ["0.5", "0.9", "0.99"];

/// The fields that say what a metric is.
pub(crate) const VALUES: [&str; 7] = [
    "counter",
    "gauge",
    "set",
    "distribution",
    "aggregated_histogram",
    "aggregated_summary",
    "sketch",
];

/// Decodes records of metrics. Keep one a shard; its [`Histograms`] belong into the shard's snapshot.
#[derive(Debug, Default)]
pub struct Decoder {
    limits: Limits,
    scratch: Scratch,
    metric: String,
    key: Vec<u8>,
    histograms: Histograms,
}

/// A metric's parts, as they are written.
#[derive(Default)]
struct Parts<'a> {
    name: Option<&'a str>,
    namespace: Option<&'a str>,
    tags: Option<&'a str>,
    timestamp: Option<&'a str>,
    kind: Option<&'a str>,
    value: Option<(&'static str, &'a str)>,
}

#[derive(Deserialize)]
struct Distribution {
    samples: Vec<Weighed>,
}

#[derive(Deserialize)]
struct Weighed {
    value: f64,
    rate: u64,
}

#[derive(Deserialize)]
struct Histogram {
    buckets: Vec<Bucket>,
    count: u64,
    sum: f64,
}

#[derive(Deserialize)]
struct Bucket {
    upper_limit: Limit,
    count: u64,
}

/// A bucket's bound: infinite ones are written as texts or as nothing.
#[derive(Deserialize)]
#[serde(untagged)]
enum Limit {
    Number(f64),
    Text(String),
    None(()),
}

#[derive(Deserialize)]
struct Summary {
    quantiles: Vec<Quantile>,
    count: u64,
    sum: f64,
}

#[derive(Deserialize)]
struct Quantile {
    quantile: f64,
    value: Option<f64>,
}

#[derive(Deserialize)]
struct Set {
    values: Vec<serde::de::IgnoredAny>,
}

impl Decoder {
    /// A decoder that holds records to these limits.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    fn document(&mut self, text: &str, base: usize, tally: &mut Tally, sink: &mut dyn Sink) {
        let trimmed = text.trim_start();
        let start = base + (text.len() - trimmed.len());
        match trimmed.as_bytes().first() {
            Some(b'[') => each_element(trimmed, start, tally, |tally, element, at| {
                self.object(element, at, tally, sink)
            }),
            Some(_) => self.object(trimmed, start, tally, sink),
            None => {}
        }
    }

    fn object(&mut self, text: &str, at: usize, tally: &mut Tally, sink: &mut dyn Sink) {
        if tally.is_beyond() {
            return;
        }
        let before = tally.decoded.rejected.len();
        match Parts::of(text) {
            Ok(parts) => {
                self.metric.clear();
                match self.take(&parts, tally, sink) {
                    Ok(()) => tally.index += 1,
                    Err(error) => {
                        let metric = parts.name.and_then(raw::text).map(|name| excerpt(&name));
                        tally.reject(metric, error);
                    }
                }
            }
            Err(broken) => tally.reject(None, malformed(FORMAT, at, broken)),
        }
        for rejected in tally.decoded.rejected.iter_mut().skip(before) {
            rejected.at = Some(at);
        }
    }

    fn take(&mut self, parts: &Parts<'_>, tally: &mut Tally, sink: &mut dyn Sink) -> Result<(), DecodeError> {
        let missing = |field, help| DecodeError::Missing { field, help };
        let written = parts.timestamp.ok_or(missing(
            "timestamp",
            "let Vector set one: the time at which a record arrives is another on every replay",
        ))?;
        let ts =
            raw::time(written).ok_or_else(|| DecodeError::unfit("timestamp", raw::shown(written), "write RFC 3339"))?;
        let is_absolute = match parts.kind.and_then(raw::text).as_deref() {
            Some("absolute") => true,
            Some("incremental") => false,
            Some(other) => {
                let help = "write absolute or incremental";
                return Err(DecodeError::unfit("kind", format_args!("{:?}", excerpt(other)), help));
            }
            None => return Err(missing("kind", "write absolute or incremental")),
        };
        let (ty, raw) = parts.value.ok_or(missing(
            "counter",
            "write counter, gauge, set, distribution, aggregated_histogram or aggregated_summary",
        ))?;
        let counted = match is_absolute {
            true => PointKind::Cumulative { monotonic: true },
            false => PointKind::Delta { monotonic: true },
        };
        match ty {
            "counter" => self.scalar(parts, ts, raw, counted, sink)?,
            "gauge" if is_absolute => self.scalar(parts, ts, raw, PointKind::Gauge, sink)?,
            "gauge" => self.scalar(parts, ts, raw, PointKind::Delta { monotonic: false }, sink)?,
            "sketch" => {
                let help = "convert it in Vector, to a distribution or a histogram";
                return Err(DecodeError::unfit("sketch", "of a form of Vector's own", help));
            }
            _ => return self.compound(parts, ts, (ty, raw), counted, tally, sink),
        }
        tally.decoded.accepted += 1;
        Ok(())
    }

    /// Hands on a metric of one number.
    fn scalar(
        &mut self,
        parts: &Parts<'_>,
        ts: Timestamp,
        raw: &str,
        kind: PointKind,
        sink: &mut dyn Sink,
    ) -> Result<(), DecodeError> {
        const PATH: &str = "value";
        let written =
            raw::field(raw, PATH).map_err(|broken| DecodeError::unfit(PATH, broken.reason, "write a number"))?;
        let written = written.ok_or(DecodeError::Missing {
            field: PATH,
            help: "write what was measured, a number",
        })?;
        let value = raw::number(written)
            .ok_or_else(|| DecodeError::unfit(PATH, raw::shown(written), "write a finite number"))?;
        self.key.clear();
        self.key.push(b'v');
        for part in [parts.name, parts.namespace, parts.tags, parts.kind] {
            let part = part.unwrap_or_default();
            self.key.extend_from_slice(&(part.len() as u64).to_le_bytes());
            self.key.extend_from_slice(part.as_bytes());
        }
        let key = RawKey(xxh3_128(&self.key));
        if sink.known(key, ts, value) {
            return Ok(());
        }
        let mut pairs: Pairs<'_> = self.scratch.lend();
        let done = self
            .series(parts, &mut pairs)
            .and_then(|()| self.emit("", (ts, value, kind, None), &mut pairs, Some(key), sink));
        self.scratch.take_back(pairs);
        done.map(|_| ())
    }

    /// Hands on what a metric of several numbers is made into.
    fn compound(
        &mut self,
        parts: &Parts<'_>,
        ts: Timestamp,
        (ty, raw): (&'static str, &str),
        kind: PointKind,
        tally: &mut Tally,
        sink: &mut dyn Sink,
    ) -> Result<(), DecodeError> {
        let mut pairs: Pairs<'_> = self.scratch.lend();
        let done = self.series(parts, &mut pairs).and_then(|()| {
            let bad = |error: serde_json::Error| {
                let text = error.to_string();
                let reason = text.split(" at line ").next().unwrap_or(&text).to_owned();
                DecodeError::unfit(ty, reason, "write it as Vector's data model has it")
            };
            if ty == "set" {
                let set: Set = serde_json::from_str(raw).map_err(bad)?;
                #[allow(clippy::cast_precision_loss)] // samples are doubles
                let size = set.values.len() as f64;
                self.emit("", (ts, size, PointKind::Gauge, None), &mut pairs, None, sink)?;
                tally.decoded.accepted += 1;
                return Ok(());
            }
            let whole = match ty {
                "aggregated_summary" => self.summary(serde_json::from_str(raw).map_err(bad)?)?,
                "distribution" => self.distribution(serde_json::from_str(raw).map_err(bad)?)?,
                _ => self.buckets(serde_json::from_str(raw).map_err(bad)?)?,
            };
            let (count, sum) = (Some(SignalKind::Traffic), Some(SignalKind::Other));
            #[allow(clippy::cast_precision_loss)] // samples are doubles
            let counted = whole.count as f64;
            let series = self.emit("_count", (ts, counted, kind, count), &mut pairs, None, sink)?;
            self.emit("_sum", (ts, whole.sum, kind, sum), &mut pairs, None, sink)?;
            tally.decoded.accepted += 2;
            let told = match whole.told {
                Told::Quantiles(told) => told,
                Told::Buckets(buckets) if matches!(kind, PointKind::Delta { .. }) => shares(&buckets),
                Told::Buckets(buckets) => {
                    let nanos = u64::try_from(ts.as_millis())
                        .unwrap_or_default()
                        .saturating_mul(1_000_000);
                    match self
                        .histograms
                        .advance(series, 0, nanos, &buckets, self.limits.histograms)
                    {
                        Since::Known(added) => shares(&added),
                        Since::Unknown => Vec::new(),
                        Since::Full => {
                            tally.decoded.without_quantiles += 1;
                            Vec::new()
                        }
                    }
                }
            };
            for (name, value) in told {
                pairs.retain(|(label, _)| label != "quantile");
                pairs.push((Cow::Borrowed("quantile"), name));
                self.emit("", (ts, value, PointKind::Gauge, None), &mut pairs, None, sink)?;
                tally.decoded.accepted += 1;
            }
            Ok(())
        });
        self.scratch.take_back(pairs);
        done
    }

    fn summary(&self, summary: Summary) -> Result<Whole, DecodeError> {
        check_size(summary.quantiles.len(), &self.limits)?;
        let finite = summary.quantiles.into_iter().filter_map(|quantile| {
            let name = Cow::Owned(quantile.quantile.to_string());
            quantile
                .value
                .filter(|value| value.is_finite())
                .map(|value| (name, value))
        });
        Ok(Whole {
            count: summary.count,
            sum: summary.sum,
            told: Told::Quantiles(finite.collect()),
        })
    }

    fn distribution(&self, distribution: Distribution) -> Result<Whole, DecodeError> {
        let mut samples = distribution.samples;
        if samples.len() > self.limits.samples {
            return Err(DecodeError::TooLarge {
                what: "samples of one distribution".into(),
                found: samples.len(),
                limit: self.limits.samples,
                option: "samples",
            });
        }
        samples.sort_unstable_by(|a, b| a.value.total_cmp(&b.value));
        let count = samples
            .iter()
            .fold(0_u64, |sum, sample| sum.saturating_add(sample.rate));
        #[allow(clippy::cast_precision_loss)] // samples are doubles
        let weight = |sample: &Weighed| sample.rate as f64;
        let sum = samples.iter().map(|sample| sample.value * weight(sample)).sum();
        let total: f64 = samples.iter().map(weight).sum();
        let quantile = |share: f64| {
            let mut before = 0.0;
            let reached = |sample: &&Weighed| {
                before += weight(sample);
                before >= share * total && weight(sample) > 0.0
            };
            samples.iter().find(reached).map(|sample| sample.value)
        };
        let told = SHARES.into_iter().zip(SHARE_NAMES);
        let told = told.filter_map(|(share, name)| Some((Cow::Borrowed(name), quantile(share)?)));
        Ok(Whole {
            count,
            sum,
            told: Told::Quantiles(told.collect()),
        })
    }

    fn buckets(&self, histogram: Histogram) -> Result<Whole, DecodeError> {
        let (mut bounds, mut counts) = (Vec::new(), Vec::new());
        for bucket in histogram.buckets {
            counts.push(bucket.count);
            match bucket.upper_limit {
                Limit::Number(bound) if bound.is_finite() => bounds.push(bound),
                Limit::Text(text) if !text.to_ascii_lowercase().contains("inf") => {
                    let found = format!("{:?}", excerpt(&text));
                    return Err(DecodeError::unfit("upper_limit", found, "write a number"));
                }
                Limit::Number(_) | Limit::Text(_) | Limit::None(()) => {}
            }
        }
        if counts.len() == bounds.len() {
            counts.push(0);
        }
        if counts.len() != bounds.len() + 1 || !bounds.is_sorted_by(|a, b| a < b) {
            let found = "not rising, or infinite more than once";
            return Err(DecodeError::unfit(
                "upper_limit",
                found,
                "write each bound once, in rising order",
            ));
        }
        Ok(Whole {
            count: histogram.count,
            sum: histogram.sum,
            told: Told::Buckets(Buckets::with_bounds(bounds, counts, &self.limits)?),
        })
    }

    /// Reads the metric's name and labels.
    fn series<'a>(&mut self, parts: &Parts<'a>, pairs: &mut Pairs<'a>) -> Result<(), DecodeError> {
        let raw = parts.name.ok_or(DecodeError::Missing {
            field: "name",
            help: "name what is measured",
        })?;
        let name = raw::text(raw).ok_or_else(|| DecodeError::unfit("name", raw::shown(raw), "write a text"))?;
        self.metric.clear();
        if let Some(raw) = parts.namespace.filter(|raw| *raw != "null") {
            let namespace = raw::text(raw);
            let help = "write a text";
            self.metric
                .push_str(&namespace.ok_or_else(|| DecodeError::unfit("namespace", raw::shown(raw), help))?);
            self.metric.push('_');
        }
        self.metric.push_str(&name);
        let Some(tags) = parts.tags.filter(|raw| *raw != "null") else {
            return Ok(());
        };
        let help = "write an object of texts";
        let broken = |broken: Broken| DecodeError::unfit("tags", broken.reason, help);
        for entry in Entries::of(tags).map_err(broken)? {
            let (name, raw) = entry.map_err(broken)?;
            let several = match raw.starts_with('[') {
                true => raw::elements(raw).map_err(broken)?,
                false => vec![raw],
            };
            let name =
                raw::text_of(name).ok_or_else(|| DecodeError::unfit("tags", "given a name that is no text", help))?;
            if let Some(last) = several.into_iter().rfind(|value| *value != "null") {
                raw::label(name, last, "tags", pairs, &self.limits)?;
            }
        }
        Ok(())
    }

    fn emit(
        &mut self,
        suffix: &str,
        (ts, value, kind, signal): (Timestamp, f64, PointKind, Option<SignalKind>),
        pairs: &mut Pairs<'_>,
        key: Option<RawKey>,
        sink: &mut dyn Sink,
    ) -> Result<u64, DecodeError> {
        if !value.is_finite() {
            return Err(DecodeError::unfit("value", value, "write a finite number"));
        }
        let length = self.metric.len();
        self.metric.push_str(suffix);
        let sealed = seal(&self.metric, pairs, &self.limits, &mut self.scratch.identity);
        if let Ok(hash) = sealed {
            let sample = SampleRef {
                ts,
                metric: &self.metric,
                value,
                labels: pairs,
                hash,
                identity: &self.scratch.identity,
                kind,
                start: None,
                signal,
            };
            sink.sample(sample, key);
        }
        self.metric.truncate(length);
        sealed
    }
}

/// Count, sum, and what quantiles are told of.
struct Whole {
    count: u64,
    sum: f64,
    told: Told,
}

enum Told {
    Quantiles(Vec<(Cow<'static, str>, f64)>),
    Buckets(Buckets),
}

fn shares(buckets: &Buckets) -> Vec<(Cow<'static, str>, f64)> {
    let told = buckets.quantiles(SHARES).into_iter().flatten();
    let named = SHARE_NAMES.into_iter().map(Cow::Borrowed).zip(told);
    named.filter(|(_, value)| value.is_finite()).collect()
}

fn check_size(found: usize, limits: &Limits) -> Result<(), DecodeError> {
    if found > limits.buckets {
        return Err(DecodeError::TooLarge {
            what: "quantiles of one summary".into(),
            found,
            limit: limits.buckets,
            option: "buckets",
        });
    }
    Ok(())
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Result<Self, Broken> {
        let mut parts = Self::default();
        let mut wrapped = None;
        for entry in Entries::of(text)? {
            let (name, raw) = entry?;
            match name {
                "name" => parts.name = Some(raw),
                "namespace" => parts.namespace = Some(raw),
                "tags" => parts.tags = Some(raw),
                "timestamp" => parts.timestamp = (raw != "null").then_some(raw),
                "kind" => parts.kind = Some(raw),
                "metric" => wrapped = Some(raw),
                _ => {
                    if let Some(ty) = VALUES.iter().find(|ty| **ty == name) {
                        parts.value = Some((ty, raw));
                    }
                }
            }
        }
        match wrapped {
            Some(metric) if parts.name.is_none() && metric.starts_with('{') => Self::within(metric),
            _ => Ok(parts),
        }
    }

    /// Of an object that is itself within one, and so holds no other.
    fn within(text: &'a str) -> Result<Self, Broken> {
        match raw::field(text, "metric")? {
            Some(_) => Ok(Self::default()),
            None => Self::of(text),
        }
    }
}

impl TelemetryDecoder for Decoder {
    /// A record is refused where it is empty, no UTF-8, or its only metric is bad.
    fn decode(&mut self, bytes: &[u8], sink: &mut dyn Sink) -> Result<Decoded, DecodeError> {
        let limits = self.limits;
        decode_documents(FORMAT, bytes, &limits, |text, base, tally| {
            self.document(text, base, tally, sink)
        })
    }

    /// The last points of cumulative histograms.
    fn memory(&self) -> Histograms {
        self.histograms.clone()
    }

    fn restore(&mut self, memory: Histograms) {
        self.histograms = memory;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Line = (String, f64, PointKind);

    const COUNTER: PointKind = PointKind::Cumulative { monotonic: true };
    const ADDED: PointKind = PointKind::Delta { monotonic: true };

    fn read_with(decoder: &mut Decoder, text: &str) -> (Result<Decoded, DecodeError>, Vec<Line>) {
        let mut lines = Vec::new();
        let result = decoder.decode(text.as_bytes(), &mut |sample: SampleRef<'_>| {
            let key = sample.key().unwrap();
            assert_eq!(key.hash64(), sample.hash);
            assert!((1_661_140_279_000..1_661_140_300_000).contains(&sample.ts.as_millis()));
            lines.push((key.to_string(), sample.value, sample.kind));
        });
        (result, lines)
    }

    fn read(text: &str) -> (Result<Decoded, DecodeError>, Vec<Line>) {
        read_with(&mut Decoder::default(), text)
    }

    fn metric(kind: &str, value: &str) -> String {
        format!(
            r#"{{"name":"m","namespace":"shop","tags":{{"service":"cart","zone":["a","b"]}},"timestamp":"2022-08-22T03:51:19.123456789Z","kind":"{kind}",{value}}}"#
        )
    }

    fn line(series: &str, value: f64, kind: PointKind) -> Line {
        (series.to_owned(), value, kind)
    }

    #[test]
    fn counters_and_gauges_are_what_their_kind_says() {
        let text = [
            metric("absolute", r#""counter":{"value":12.0}"#),
            metric("incremental", r#""counter":{"value":2}"#),
            metric("absolute", r#""gauge":{"value":-1.5}"#),
            metric("incremental", r#""gauge":{"value":1.0}"#),
            metric("incremental", r#""set":{"values":["a","b","c"]}"#),
            format!(r#"{{"metric":{}}}"#, metric("absolute", r#""counter":{"value":13.0}"#)),
        ];
        let (decoded, lines) = read(&text.join("\n"));
        let series = r#"shop_m{service="cart", zone="b"}"#;
        assert_eq!(
            lines,
            [
                line(series, 12.0, COUNTER),
                line(series, 2.0, ADDED),
                line(series, -1.5, PointKind::Gauge),
                line(series, 1.0, PointKind::Delta { monotonic: false }),
                line(series, 3.0, PointKind::Gauge),
                line(series, 13.0, COUNTER),
            ]
        );
        assert_eq!(decoded.unwrap().accepted, 6);
        assert_eq!(read(&format!("[{}]", text[..2].join(","))).1.len(), 2);
    }

    #[test]
    fn distributions_histograms_and_summaries_are_counted_and_told_by_quantiles() {
        let samples = r#""distribution":{"samples":[{"value":3.0,"rate":1},{"value":1.0,"rate":98},{"value":2.0,"rate":1}],"statistic":"histogram"}"#;
        let values: Vec<(String, f64)> = read(&metric("incremental", samples))
            .1
            .into_iter()
            .map(|(s, v, _)| (s, v))
            .collect();
        let of = |name: &str| format!(r#"shop_m{name}{{service="cart", zone="b"}}"#);
        let quantile = |share: &str| format!(r#"shop_m{{quantile="{share}", service="cart", zone="b"}}"#);
        let expected = [
            (of("_count"), 100.0),
            (of("_sum"), 103.0),
            (quantile("0.5"), 1.0),
            (quantile("0.9"), 1.0),
            (quantile("0.99"), 2.0),
        ];
        assert_eq!(values, expected);

        let histogram = |first: u64, second: u64| {
            let total = first + second;
            format!(
                r#""aggregated_histogram":{{"buckets":[{{"upper_limit":10.0,"count":{first}}},{{"upper_limit":20.0,"count":{second}}},{{"upper_limit":"inf","count":0}}],"count":{total},"sum":50.0}}"#
            )
        };
        let mut decoder = Decoder::default();
        assert_eq!(
            read_with(&mut decoder, &metric("absolute", &histogram(4, 0))).1.len(),
            2
        );
        let later = metric("absolute", &histogram(4, 10)).replace("03:51:19", "03:51:29");
        let (_, lines) = read_with(&mut decoder, &later);
        assert_eq!(lines[0], line(&of("_count"), 14.0, COUNTER));
        assert_eq!((lines[2].0.as_str(), lines[2].1), (quantile("0.5").as_str(), 15.0));
        assert_eq!(read(&metric("incremental", &histogram(4, 0))).1.len(), 5);

        let summary = r#""aggregated_summary":{"quantiles":[{"quantile":0.5,"value":2.5},{"quantile":0.99,"value":null}],"count":7,"sum":21.0}"#;
        let (_, lines) = read(&metric("absolute", summary));
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[2], line(&quantile("0.5"), 2.5, PointKind::Gauge));
    }

    #[test]
    fn no_corruption_loses_a_metric_silently() {
        let text = [
            metric("absolute", r#""counter":{"value":12.0}"#),
            metric(
                "incremental",
                r#""distribution":{"samples":[{"value":3.0,"rate":1}],"statistic":"histogram"}"#,
            ),
            metric(
                "absolute",
                r#""aggregated_histogram":{"buckets":[{"upper_limit":10.0,"count":2}],"count":2,"sum":5.0}"#,
            ),
        ];
        let fresh = Decoder::default;
        crate::corrupt::nothing_is_lost_silently(fresh, text[0].as_bytes(), true);
        crate::corrupt::nothing_is_lost_silently(fresh, text.join("\n").as_bytes(), false);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let good = metric("absolute", r#""counter":{"value":12.0}"#);
        for (text, expected) in [
            (
                good.replace("absolute", "new"),
                "`kind` is \"new\": write absolute or incremental",
            ),
            (
                good.replace("counter", "meter"),
                "`counter` is missing: write counter, gauge, set, distribution, aggregated_histogram or aggregated_summary",
            ),
            (good.replace("12.0", "null"), "`value` is null: write a finite number"),
            (
                good.replace("\"timestamp\":\"2022-08-22T03:51:19.123456789Z\"", "\"timestamp\":null"),
                "`timestamp` is missing: let Vector set one: the time at which a record arrives is another on every replay",
            ),
            (
                good.replace("\"cart\"", "{}"),
                "`tags.service` is an object: write a text",
            ),
            (
                metric("absolute", r#""sketch":{"AgentDDSketch":{}}"#),
                "`sketch` is of a form of Vector's own: convert it in Vector, to a distribution or a histogram",
            ),
            (
                metric("absolute", r#""aggregated_histogram":{"count":1}"#),
                "`aggregated_histogram` is missing field `buckets`: write it as Vector's data model has it",
            ),
            (
                good.replace("12.0}", "12.0"),
                "the Vector metric JSON breaks off after 161 bytes: its producer, or a size limit on the way, cut it short",
            ),
        ] {
            assert_eq!(read(&text).0.unwrap_err().to_string(), expected);
        }
    }
}
