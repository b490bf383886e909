//! Prometheus remote write, versions 1 and 2: one request a record, packed by Snappy, as Prometheus itself, Grafana Alloy
//! and Telegraf's `prometheusremotewrite` write it. Which version a request is of is told by its fields.
//! <https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/>
//!
//! | sample | metric | kind |
//! | --- | --- | --- |
//! | of a counter by its metadata | as it is | counter |
//! | without metadata, named `…_total`, `…_sum`, `…_count` or `…_bucket` | as it is | counter |
//! | of a gauge | as it is | level |
//! | native histogram | `METRIC_count` and `METRIC_sum`, and `METRIC` with the label `quantile` at 0.5, 0.9 and 0.99 | counters, and levels |
//!
//! - **Labels** are as they are sent; `__name__` is the metric's name, and a label without a value is none.
//! - **Times** are milliseconds, as the protocol says. A start time, which version 2 has, tells a counter's resets.
//! - **No value**: the mark of a series that ended, and `NaN`, which summaries of nothing have, are counted in
//!   [`Decoded::without_value`]. Infinities are refused. Exemplars are passed over.
//! - **Quantiles** are those of what came in since the point before, as of OTLP's histograms (see [`crate::otlp`]).
//!
//! **Known series.** A series is known by the bytes of its labels, which are then not read. **Cost.** Unpacking, and once
//! through the fields. **Bounds.** A block of Snappy grows to at most 32 times its size, or is refused before it is unpacked:
//! its longest copy makes 64 bytes of 3.

mod native;
mod wire;

use std::{borrow::Cow, collections::BTreeMap};

use suture_event::{SignalKind, Timestamp};
use xxhash_rust::xxh3::xxh3_128;

use self::{
    native::Histogram,
    wire::{Fault, Fields, Value, numbers},
};
use crate::{
    DecodeError, Decoded, Format, Limits, PointKind, RawKey, SampleRef, Sink, TelemetryDecoder,
    fields::Names,
    otlp::{Histograms, histogram::Since},
    sample::{Pairs, Scratch, excerpt, seal},
    tally::Tally,
};

const FORMAT: Format = Format("Prometheus remote write");

/// How many times its size a block may unpack to.
pub const MOST_GROWTH: usize = 32;

/// The quantiles told of a native histogram, and their labels.
const SHARES: [f64; 3] = [0.5, 0.9, 0.99];
const SHARE_NAMES: [&str; 3] = ["0.5", "0.9", "0.99"];

/// The value that marks the end of a series of histograms: a NaN of its own.
const STALE: u64 = 0x7ff0_0000_0000_0002;

/// Decodes records of remote write. Keep one a shard; its [`Histograms`] belong into the shard's snapshot.
#[derive(Debug, Default)]
pub struct Decoder {
    unpacked: Vec<u8>,
    work: Work,
}

#[derive(Debug, Default)]
struct Work {
    limits: Limits,
    scratch: Scratch,
    key: Vec<u8>,
    histograms: Histograms,
}

/// What a metric is, by its metadata: the same numbers in both versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unknown,
    Counter,
    Gauge,
    /// Several series, told apart by their names' ends: histograms and summaries.
    Several,
}

impl Kind {
    fn of(number: u64) -> Self {
        match number {
            1 => Self::Counter,
            2 | 4 | 6 | 7 => Self::Gauge,
            3 | 5 => Self::Several,
            _ => Self::Unknown,
        }
    }

    fn point(self, metric: &str) -> PointKind {
        match self {
            Self::Counter => PointKind::Cumulative { monotonic: true },
            Self::Gauge => PointKind::Gauge,
            // quantiles of summaries are levels; the ends tell the rest
            Self::Several | Self::Unknown => Names::Prometheus.kind(metric),
        }
    }
}

/// A request's parts.
#[derive(Default)]
struct Request<'a> {
    first: Vec<&'a [u8]>,
    second: Vec<&'a [u8]>,
    symbols: Vec<&'a str>,
    metadata: BTreeMap<&'a str, Kind>,
    /// The first message or text that no version has: what was in it would be lost.
    unknown: Option<u64>,
}

/// A series' parts.
#[derive(Default)]
struct Series<'a> {
    /// Version 1: messages of a name and a value.
    labels: Vec<&'a [u8]>,
    /// Version 2: places of names and values among the symbols.
    refs: Vec<u64>,
    samples: Vec<&'a [u8]>,
    histograms: Vec<&'a [u8]>,
    kind: Option<Kind>,
    created: i64,
    has_exemplars: bool,
}

/// A sample's parts.
#[derive(Clone, Copy, Default)]
struct Point {
    value: f64,
    /// Milliseconds since the epoch.
    timestamp: i64,
    start: i64,
}

impl Decoder {
    /// A decoder that holds records to these limits.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            unpacked: Vec::new(),
            work: Work {
                limits,
                ..Work::default()
            },
        }
    }
}

impl TelemetryDecoder for Decoder {
    /// A record is refused where it is no such request, or its only series is bad.
    fn decode(&mut self, bytes: &[u8], sink: &mut dyn Sink) -> Result<Decoded, DecodeError> {
        unpack(bytes, &mut self.unpacked)?;
        let size = self.unpacked.len();
        let request = read(&self.unpacked).map_err(|fault| of_fault(fault, size))?;
        let mut tally = Tally::new("samples", &self.work.limits);
        let mut series = Series::default();
        for bytes in &request.first {
            let read = first(bytes, &mut series);
            self.work
                .series(&request, read.map(|()| &series), size, &mut tally, sink);
        }
        for bytes in &request.second {
            let read = second(bytes, &mut series);
            self.work
                .series(&request, read.map(|()| &series), size, &mut tally, sink);
        }
        if let Some(number) = request.unknown {
            let help = "send versions 1 or 2 of the protocol";
            tally.reject(
                None,
                DecodeError::unfit(
                    "request",
                    format_args!("given field {number}, which is none of its own"),
                    help,
                ),
            );
        }
        let mut decoded = tally.decoded;
        if decoded.accepted == 0 && decoded.without_value == 0 && decoded.rejected.len() == 1 {
            let last = decoded.rejected.pop();
            return last.map_or_else(|| Ok(decoded), |only| Err(only.error));
        }
        Ok(decoded)
    }

    /// The last points of native histograms.
    fn memory(&self) -> Histograms {
        self.work.histograms.clone()
    }

    fn restore(&mut self, memory: Histograms) {
        self.work.histograms = memory;
    }
}

/// Whether bytes unpack to what may be a request, for telling formats apart.
pub(crate) fn is_request(bytes: &[u8]) -> Result<&'static str, DecodeError> {
    let mut unpacked = Vec::new();
    unpack(bytes, &mut unpacked)?;
    let request = read(&unpacked).map_err(|fault| of_fault(fault, unpacked.len()))?;
    Ok(if request.second.is_empty() { "1" } else { "2" })
}

fn unpack(bytes: &[u8], into: &mut Vec<u8>) -> Result<(), DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty(FORMAT));
    }
    let malformed = |reason: String| DecodeError::Malformed {
        format: FORMAT,
        at: Some(0),
        reason,
    };
    let hint = if matches!(bytes.trim_ascii_start().first(), Some(b'{' | b'[')) {
        " (this looks like JSON: check `format` of the topic)"
    } else {
        ""
    };
    let no_block = |error: snap::Error| malformed(format!("no block of Snappy{hint}: {error}"));
    let size = snap::raw::decompress_len(bytes).map_err(no_block)?;
    if size > bytes.len().saturating_mul(MOST_GROWTH) {
        return Err(malformed(format!(
            "no block of Snappy{hint}: {} bytes cannot unpack to {size}",
            bytes.len()
        )));
    }
    into.clear();
    into.resize(size, 0);
    let length = snap::raw::Decoder::new().decompress(bytes, into).map_err(no_block)?;
    into.truncate(length);
    Ok(())
}

fn read(bytes: &[u8]) -> Result<Request<'_>, Fault> {
    let mut request = Request::default();
    let mut fields = Fields::of(bytes);
    while let Some((number, value)) = fields.step()? {
        match number {
            1 => request.first.push(value.bytes()?),
            3 => {
                let (name, kind) = metadata(value)?;
                request.metadata.insert(name, kind);
            }
            4 => request.symbols.push(value.text()?),
            5 => request.second.push(value.bytes()?),
            _ if matches!(value, Value::Bytes(_)) => request.unknown = request.unknown.or(Some(number)),
            _ => {}
        }
    }
    if request.first.is_empty() && request.second.is_empty() && request.metadata.is_empty() {
        return Err(Fault::Odd("neither series nor metadata are in it"));
    }
    Ok(request)
}

fn metadata(value: Value<'_>) -> Result<(&str, Kind), Fault> {
    let (mut name, mut kind) = ("", Kind::Unknown);
    let mut fields = Fields::of(value.bytes()?);
    while let Some((number, value)) = fields.step()? {
        match number {
            1 => kind = Kind::of(value.varint()?),
            2 => name = value.text()?,
            _ => {}
        }
    }
    Ok((name, kind))
}

fn first<'a>(bytes: &'a [u8], series: &mut Series<'a>) -> Result<(), Fault> {
    series.clear();
    let mut fields = Fields::of(bytes);
    while let Some((number, value)) = fields.step()? {
        match number {
            1 => series.labels.push(value.bytes()?),
            2 => series.samples.push(value.bytes()?),
            3 => series.has_exemplars = true,
            4 => series.histograms.push(value.bytes()?),
            _ => {}
        }
    }
    Ok(())
}

fn second<'a>(bytes: &'a [u8], series: &mut Series<'a>) -> Result<(), Fault> {
    series.clear();
    let mut fields = Fields::of(bytes);
    while let Some((number, value)) = fields.step()? {
        match number {
            1 => numbers(value, |symbol| series.refs.push(symbol))?,
            2 => series.samples.push(value.bytes()?),
            3 => series.histograms.push(value.bytes()?),
            4 => series.has_exemplars = true,
            5 => {
                let mut fields = Fields::of(value.bytes()?);
                while let Some((number, value)) = fields.step()? {
                    if number == 1 {
                        series.kind = Some(Kind::of(value.varint()?));
                    }
                }
            }
            6 => series.created = value.int64()?,
            _ => {}
        }
    }
    Ok(())
}

fn point(bytes: &[u8]) -> Result<Point, Fault> {
    let mut point = Point::default();
    let mut fields = Fields::of(bytes);
    while let Some((number, value)) = fields.step()? {
        match number {
            1 => point.value = value.double()?,
            2 => point.timestamp = value.int64()?,
            3 => point.start = value.int64()?,
            _ => {}
        }
    }
    Ok(point)
}

impl<'a> Series<'a> {
    /// Takes all out. Memory is kept.
    fn clear(&mut self) {
        self.labels.clear();
        self.refs.clear();
        self.samples.clear();
        self.histograms.clear();
        (self.kind, self.created, self.has_exemplars) = (None, 0, false);
    }

    /// Names and values of the labels, and the metric's name among them.
    fn read(&self, symbols: &[&'a str], pairs: &mut Pairs<'a>) -> Result<Cow<'a, str>, DecodeError> {
        let mut metric = Cow::Borrowed("");
        let mut take = |name: &'a str, value: &'a str| {
            if name == "__name__" {
                metric = Cow::Borrowed(value);
            } else if !value.is_empty() {
                pairs.push((Cow::Borrowed(name), Cow::Borrowed(value)));
            }
        };
        for label in &self.labels {
            let (mut name, mut text) = ("", "");
            let mut fields = Fields::of(label);
            while let Some((number, value)) = fields.step().map_err(|fault| of_fault(fault, label.len()))? {
                let slot = match number {
                    1 => &mut name,
                    2 => &mut text,
                    _ => continue,
                };
                *slot = value.text().map_err(|fault| of_fault(fault, label.len()))?;
            }
            take(name, text);
        }
        let symbol = |at: u64| {
            let found = usize::try_from(at).ok().and_then(|at| symbols.get(at));
            let help = "send a symbol for each reference";
            found.copied().ok_or_else(|| {
                DecodeError::unfit("labels_refs", format_args!("{at} of {} symbols", symbols.len()), help)
            })
        };
        let (pairs, odd) = self.refs.as_chunks::<2>();
        if !odd.is_empty() {
            return Err(DecodeError::unfit(
                "labels_refs",
                "odd in number",
                "send a name and a value for each label",
            ));
        }
        for [name, value] in pairs {
            take(symbol(*name)?, symbol(*value)?);
        }
        if metric.is_empty() {
            return Err(DecodeError::Missing {
                field: "__name__",
                help: "name what is measured by a label",
            });
        }
        Ok(metric)
    }

    /// What the series is known by: in version 2 its texts, since what stands for them is another in each request.
    fn key(&self, symbols: &[&'a str], key: &mut Vec<u8>) -> RawKey {
        key.clear();
        let mut take = |version: u8, part: &[u8]| {
            key.push(version);
            key.extend_from_slice(&(part.len() as u64).to_le_bytes());
            key.extend_from_slice(part);
        };
        self.labels.iter().for_each(|label| take(1, label));
        for at in &self.refs {
            let found = usize::try_from(*at).ok().and_then(|at| symbols.get(at));
            match found {
                Some(text) => take(2, text.as_bytes()),
                // such a series is never remembered
                None => take(3, &at.to_le_bytes()),
            }
        }
        RawKey(xxh3_128(key))
    }
}

impl Work {
    fn series(
        &mut self,
        request: &Request<'_>,
        series: Result<&Series<'_>, Fault>,
        size: usize,
        tally: &mut Tally,
        sink: &mut dyn Sink,
    ) {
        if tally.is_beyond() {
            return;
        }
        let series = match series {
            Ok(series) => series,
            Err(fault) => return tally.reject(None, of_fault(fault, size)),
        };
        if series.samples.is_empty() && series.histograms.is_empty() && !series.has_exemplars {
            let error = DecodeError::Missing {
                field: "samples",
                help: "send samples or histograms with each series",
            };
            return tally.reject(None, error);
        }
        let key = series.key(&request.symbols, &mut self.key);
        for bytes in &series.samples {
            if tally.is_beyond() {
                return;
            }
            let point = match point(bytes) {
                Ok(point) => point,
                Err(fault) => {
                    tally.reject(None, of_fault(fault, size));
                    continue;
                }
            };
            if point.value.is_nan() {
                tally.decoded.without_value += 1;
                tally.index += 1;
                continue;
            }
            let ts = time_of(point.timestamp);
            if let Ok(ts) = ts
                && point.value.is_finite()
                && sink.known(key, ts, point.value)
            {
                tally.decoded.accepted += 1;
                tally.index += 1;
                continue;
            }
            let mut pairs: Pairs<'_> = self.scratch.lend();
            let read = series.read(&request.symbols, &mut pairs);
            let metric = read.as_deref().map(excerpt).ok();
            let start = [point.start, series.created].into_iter().find(|at| *at != 0);
            let done = read.and_then(|metric| {
                let ts = ts?;
                let value = finite(point.value)?;
                let hash = seal(&metric, &mut pairs, &self.limits, &mut self.scratch.identity)?;
                let kind = series
                    .kind
                    .or_else(|| request.kind_of(&metric))
                    .unwrap_or(Kind::Unknown);
                let sample = SampleRef {
                    ts,
                    metric: &metric,
                    value,
                    labels: &pairs,
                    hash,
                    identity: &self.scratch.identity,
                    kind: kind.point(&metric),
                    start: start.and_then(|at| Timestamp::try_from(at).ok()),
                    signal: Names::Prometheus.signal(&metric),
                };
                sink.sample(sample, Some(key));
                Ok(())
            });
            self.scratch.take_back(pairs);
            file(tally, metric, done);
        }
        for bytes in &series.histograms {
            if tally.is_beyond() {
                return;
            }
            let mut pairs: Pairs<'_> = self.scratch.lend();
            let read = series.read(&request.symbols, &mut pairs);
            let metric = read.as_deref().map(excerpt).ok();
            let done = read.and_then(|metric| {
                let histogram = Histogram::read(bytes).map_err(|fault| of_fault(fault, size))?;
                if histogram.sum.to_bits() == STALE {
                    tally.decoded.without_value += 1;
                    return Ok(());
                }
                let start = [histogram.start, series.created].into_iter().find(|at| *at != 0);
                self.histogram(&metric, &histogram, start.unwrap_or_default(), &mut pairs, tally, sink)
            });
            self.scratch.take_back(pairs);
            match done {
                Ok(()) => tally.index += 1,
                Err(error) => tally.reject(metric, error),
            }
        }
    }

    /// Hands on what a native histogram is made into.
    fn histogram(
        &mut self,
        metric: &str,
        histogram: &Histogram,
        start: i64,
        pairs: &mut Pairs<'_>,
        tally: &mut Tally,
        sink: &mut dyn Sink,
    ) -> Result<(), DecodeError> {
        let ts = time_of(histogram.timestamp)?;
        let (count, sum) = (finite(histogram.count)?, finite(histogram.sum)?);
        let buckets = histogram.buckets(&self.limits)?;
        let kind = match histogram.is_gauge {
            true => PointKind::Gauge,
            false => PointKind::Cumulative { monotonic: true },
        };
        let since = (start != 0).then(|| Timestamp::try_from(start).ok()).flatten();
        let mut emit = |metric: &str, value: f64, kind, signal, pairs: &mut Pairs<'_>| {
            let hash = seal(metric, pairs, &self.limits, &mut self.scratch.identity)?;
            let sample = SampleRef {
                ts,
                metric,
                value,
                labels: pairs,
                hash,
                identity: &self.scratch.identity,
                kind,
                start: since,
                signal,
            };
            sink.sample(sample, None);
            tally.decoded.accepted += 1;
            Ok::<u64, DecodeError>(hash)
        };
        let series = emit(
            &format!("{metric}_count"),
            count,
            kind,
            Some(SignalKind::Traffic),
            pairs,
        )?;
        emit(&format!("{metric}_sum"), sum, kind, Some(SignalKind::Other), pairs)?;
        let Some(buckets) = buckets else { return Ok(()) };
        let told = if histogram.is_gauge {
            buckets.quantiles(SHARES)
        } else {
            let nanos = |millis: i64| u64::try_from(millis).unwrap_or_default().saturating_mul(1_000_000);
            let (start, time) = (nanos(start), nanos(histogram.timestamp));
            match self
                .histograms
                .advance(series, start, time, &buckets, self.limits.histograms)
            {
                Since::Known(added) => added.quantiles(SHARES),
                Since::Unknown => None,
                Since::Full => {
                    tally.decoded.without_quantiles += 1;
                    return Ok(());
                }
            }
        };
        for (name, value) in SHARE_NAMES.into_iter().zip(told.into_iter().flatten()) {
            if !value.is_finite() {
                continue;
            }
            pairs.retain(|(label, _)| label != "quantile");
            pairs.push((Cow::Borrowed("quantile"), Cow::Borrowed(name)));
            emit(metric, value, PointKind::Gauge, None, pairs)?;
        }
        Ok(())
    }
}

impl Request<'_> {
    /// What a series' metric is, where version 1's metadata came along: by its own name or that of its family.
    fn kind_of(&self, metric: &str) -> Option<Kind> {
        let family = || {
            let ends = ["_bucket", "_count", "_sum", "_total"];
            ends.into_iter()
                .find_map(|end| self.metadata.get(metric.strip_suffix(end)?))
        };
        self.metadata.get(metric).or_else(family).copied()
    }
}

fn file(tally: &mut Tally, metric: Option<String>, done: Result<(), DecodeError>) {
    match done {
        Ok(()) => {
            tally.decoded.accepted += 1;
            tally.index += 1;
        }
        Err(error) => tally.reject(metric, error),
    }
}

fn finite(value: f64) -> Result<f64, DecodeError> {
    match value.is_finite() {
        true => Ok(value),
        false => Err(DecodeError::unfit("value", value, "send a finite number")),
    }
}

fn time_of(millis: i64) -> Result<Timestamp, DecodeError> {
    let help = "send milliseconds since the epoch";
    Timestamp::try_from(millis).map_err(|_| DecodeError::unfit("timestamp", millis, help))
}

fn of_fault(fault: Fault, size: usize) -> DecodeError {
    match fault {
        Fault::Cut => DecodeError::Truncated {
            format: FORMAT,
            at: size,
        },
        Fault::Odd(reason) => DecodeError::Malformed {
            format: FORMAT,
            at: None,
            reason: reason.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests;
