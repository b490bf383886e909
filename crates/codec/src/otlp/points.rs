//! From data points to samples.

use std::{borrow::Cow, sync::Arc};

use opentelemetry_proto::tonic::{
    common::v1::KeyValue,
    metrics::v1::{
        AggregationTemporality, DataPointFlags, Metric, NumberDataPoint, ResourceMetrics, SummaryDataPoint,
        metric::Data, number_data_point::Value,
    },
};
use suture_event::{SignalKind, Timestamp};

use super::{
    super::{
        DecodeError, Decoded, Limits, PointKind, SampleRef, ServiceVersion, Sink,
        sample::{Pairs, excerpt, seal},
        tally::Tally,
    },
    histogram::{Buckets, Histograms, Since},
    labels,
};

/// The quantiles told of a histogram, and their labels.
const SHARES: [f64; 3] = [0.5, 0.9, 0.99];
const SHARE_NAMES: [&str; 3] = ["0.5", "0.9", "0.99"];

/// Goes through a request.
pub(super) struct Walk<'w> {
    limits: &'w Limits,
    identity: &'w mut Vec<u8>,
    histograms: &'w mut Histograms,
    sink: &'w mut dyn Sink,
    tally: Tally,
    /// The earliest time of the resource at hand.
    earliest: Option<Timestamp>,
}

/// What all samples of one data point share.
#[derive(Clone, Copy)]
struct Point<'p> {
    metric: &'p str,
    ts: Timestamp,
    start: Option<Timestamp>,
}

/// A histogram's data point, whichever its buckets are.
struct Distribution {
    count: u64,
    sum: Option<f64>,
    range: (Option<f64>, Option<f64>),
    buckets: Option<Buckets>,
    kind: PointKind,
    start_nanos: u64,
    time_nanos: u64,
}

impl<'w> Walk<'w> {
    pub(super) fn new(
        limits: &'w Limits,
        identity: &'w mut Vec<u8>,
        histograms: &'w mut Histograms,
        sink: &'w mut dyn Sink,
    ) -> Self {
        Self {
            limits,
            identity,
            histograms,
            sink,
            tally: Tally::new("data points", limits),
            earliest: None,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.tally.is_full()
    }

    pub(super) fn decoded(self) -> Decoded {
        self.tally.decoded
    }

    /// Goes through what one resource sent; gives the labels' memory back.
    pub(super) fn resource<'a>(&mut self, from: &'a ResourceMetrics, mut pairs: Pairs<'a>) -> Pairs<'a> {
        self.earliest = None;
        let attributes = from.resource.as_ref().map_or(&[][..], |r| &r.attributes);
        for metric in from.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
            self.metric(metric, attributes, &mut pairs);
        }
        self.note_version(from);
        pairs
    }

    fn note_version(&mut self, from: &ResourceMetrics) {
        let (Some(resource), Some(at)) = (&from.resource, self.earliest) else {
            return;
        };
        let text = |names: &[&str]| labels::find(resource, names).map(Arc::<str>::from);
        let (Some(service), Some(version)) = (text(&["service.name"]), text(&["service.version"])) else {
            return;
        };
        let environment = text(&["deployment.environment.name", "deployment.environment"]);
        let seen = ServiceVersion {
            service,
            version,
            environment,
            at,
        };
        let same = |v: &&mut ServiceVersion| {
            v.service == seen.service && v.version == seen.version && v.environment == seen.environment
        };
        match self.tally.decoded.versions.iter_mut().find(same) {
            Some(known) => known.at = known.at.min(seen.at),
            None => self.tally.decoded.versions.push(seen),
        }
    }

    fn metric<'a>(&mut self, metric: &'a Metric, resource: &'a [KeyValue], pairs: &mut Pairs<'a>) {
        match &metric.data {
            None if self.skip(0) => {}
            None => {
                let error = DecodeError::Missing {
                    field: "data",
                    help: "send a gauge, sum, histogram, exponentialHistogram or summary",
                };
                self.point(metric, Err(error));
            }
            Some(Data::Gauge(gauge)) => {
                for point in &gauge.data_points {
                    self.number(metric, point, PointKind::Gauge, resource, pairs);
                }
            }
            Some(Data::Sum(sum)) => {
                for point in &sum.data_points {
                    match kind_of(sum.aggregation_temporality, sum.is_monotonic) {
                        Ok(kind) => self.number(metric, point, kind, resource, pairs),
                        Err(_) if self.skip(point.flags) => {}
                        Err(error) => self.point(metric, Err(error)),
                    }
                }
            }
            Some(Data::Histogram(histogram)) => {
                for point in &histogram.data_points {
                    if self.skip(point.flags) {
                        continue;
                    }
                    let read = kind_of(histogram.aggregation_temporality, true).and_then(|kind| {
                        Ok(Distribution {
                            count: point.count,
                            sum: point.sum,
                            range: (point.min, point.max),
                            buckets: Buckets::explicit(point, self.limits)?,
                            kind,
                            start_nanos: point.start_time_unix_nano,
                            time_nanos: point.time_unix_nano,
                        })
                    });
                    let done =
                        read.and_then(|read| self.distribution(metric, &read, &point.attributes, resource, pairs));
                    self.point(metric, done);
                }
            }
            Some(Data::ExponentialHistogram(histogram)) => {
                for point in &histogram.data_points {
                    if self.skip(point.flags) {
                        continue;
                    }
                    let read = kind_of(histogram.aggregation_temporality, true).and_then(|kind| {
                        Ok(Distribution {
                            count: point.count,
                            sum: point.sum,
                            range: (point.min, point.max),
                            buckets: Some(Buckets::exponential(point, self.limits)?),
                            kind,
                            start_nanos: point.start_time_unix_nano,
                            time_nanos: point.time_unix_nano,
                        })
                    });
                    let done =
                        read.and_then(|read| self.distribution(metric, &read, &point.attributes, resource, pairs));
                    self.point(metric, done);
                }
            }
            Some(Data::Summary(summary)) => {
                for point in &summary.data_points {
                    if self.skip(point.flags) {
                        continue;
                    }
                    let done = self.summary(metric, point, resource, pairs);
                    self.point(metric, done);
                }
            }
        }
    }

    /// Whether a data point is not to be looked at: it has no value, or the record has as many as are taken.
    fn skip(&mut self, flags: u32) -> bool {
        if self.tally.is_beyond() {
            return true;
        }
        if flags & DataPointFlags::NoRecordedValueMask as u32 != 0 {
            self.tally.decoded.without_value += 1;
            self.tally.index += 1;
            return true;
        }
        false
    }

    /// Files what became of a data point.
    fn point(&mut self, metric: &Metric, result: Result<(), DecodeError>) {
        match result {
            Ok(()) => self.tally.index += 1,
            Err(error) => self.tally.reject(Some(excerpt(&metric.name)), error),
        }
    }

    fn number<'a>(
        &mut self,
        metric: &'a Metric,
        point: &'a NumberDataPoint,
        kind: PointKind,
        resource: &'a [KeyValue],
        pairs: &mut Pairs<'a>,
    ) {
        if self.skip(point.flags) {
            return;
        }
        #[allow(clippy::cast_precision_loss)] // samples are doubles
        let value = match point.value {
            Some(Value::AsDouble(value)) => Ok(value),
            Some(Value::AsInt(value)) => Ok(value as f64),
            None => Err(DecodeError::Missing {
                field: "value",
                help: "set asDouble or asInt, or the flag for no value",
            }),
        };
        let done = value.and_then(|value| {
            let at = self.time(&metric.name, point.start_time_unix_nano, point.time_unix_nano)?;
            collect(pairs, &point.attributes, resource);
            self.emit(at, value, kind, None, pairs).map(|_| ())
        });
        self.point(metric, done);
    }

    fn distribution<'a>(
        &mut self,
        metric: &'a Metric,
        read: &Distribution,
        attributes: &'a [KeyValue],
        resource: &'a [KeyValue],
        pairs: &mut Pairs<'a>,
    ) -> Result<(), DecodeError> {
        let at = self.time(&metric.name, read.start_nanos, read.time_nanos)?;
        collect(pairs, attributes, resource);
        let series = self.count_and_sum(at, read.count, read.sum, read.kind, pairs)?;
        let Some(buckets) = &read.buckets else { return Ok(()) };
        let delta = matches!(read.kind, PointKind::Delta { .. });
        let told = if delta {
            buckets.quantiles(SHARES)
        } else {
            let limit = self.limits.histograms;
            match self
                .histograms
                .advance(series, read.start_nanos, read.time_nanos, buckets, limit)
            {
                Since::Known(added) => added.quantiles(SHARES),
                Since::Unknown => None,
                Since::Full => {
                    self.tally.decoded.without_quantiles += 1;
                    None
                }
            }
        };
        let Some(told) = told else { return Ok(()) };
        for (name, mut value) in SHARE_NAMES.into_iter().zip(told) {
            if delta {
                // those of a cumulative one are of all its time
                value = value
                    .max(read.range.0.unwrap_or(value))
                    .min(read.range.1.unwrap_or(f64::INFINITY));
            }
            self.quantile(at, Cow::Borrowed(name), value, pairs)?;
        }
        Ok(())
    }

    fn summary<'a>(
        &mut self,
        metric: &'a Metric,
        point: &'a SummaryDataPoint,
        resource: &'a [KeyValue],
        pairs: &mut Pairs<'a>,
    ) -> Result<(), DecodeError> {
        let at = self.time(&metric.name, point.start_time_unix_nano, point.time_unix_nano)?;
        collect(pairs, &point.attributes, resource);
        self.count_and_sum(
            at,
            point.count,
            Some(point.sum),
            PointKind::Cumulative { monotonic: true },
            pairs,
        )?;
        if point.quantile_values.len() > self.limits.buckets {
            return Err(DecodeError::TooLarge {
                what: "quantiles of one summary".into(),
                found: point.quantile_values.len(),
                limit: self.limits.buckets,
                option: "buckets",
            });
        }
        for quantile in &point.quantile_values {
            // a summary of nothing has NaN in their place
            if quantile.value.is_finite() {
                self.quantile(at, Cow::Owned(quantile.quantile.to_string()), quantile.value, pairs)?;
            }
        }
        Ok(())
    }

    /// Emits `METRIC.count` and, where it is known, `METRIC.sum`. Returns the hash of the former's series.
    fn count_and_sum(
        &mut self,
        at: Point<'_>,
        count: u64,
        sum: Option<f64>,
        kind: PointKind,
        pairs: &mut Pairs<'_>,
    ) -> Result<u64, DecodeError> {
        if let Some(sum) = sum.filter(|sum| !sum.is_finite()) {
            return Err(DecodeError::unfit("sum", sum, "send a finite number, or leave it out"));
        }
        let part = |suffix: &str| format!("{}.{suffix}", at.metric);
        let name = part("count");
        #[allow(clippy::cast_precision_loss)] // samples are doubles
        let series = self.emit(
            Point { metric: &name, ..at },
            count as f64,
            kind,
            Some(SignalKind::Traffic),
            pairs,
        )?;
        if let Some(sum) = sum {
            let name = part("sum");
            self.emit(Point { metric: &name, ..at }, sum, kind, Some(SignalKind::Other), pairs)?;
        }
        Ok(series)
    }

    /// Emits one quantile; the labels are left as they were.
    fn quantile<'a>(
        &mut self,
        at: Point<'_>,
        name: Cow<'a, str>,
        value: f64,
        pairs: &mut Pairs<'a>,
    ) -> Result<(), DecodeError> {
        pairs.retain(|(label, _)| label != "quantile");
        pairs.push((Cow::Borrowed("quantile"), name));
        let done = self.emit(at, value, PointKind::Gauge, None, pairs);
        pairs.retain(|(label, _)| label != "quantile");
        done.map(|_| ())
    }

    /// Hands a sample on; returns the hash of its series.
    fn emit(
        &mut self,
        at: Point<'_>,
        value: f64,
        kind: PointKind,
        signal: Option<SignalKind>,
        pairs: &mut Pairs<'_>,
    ) -> Result<u64, DecodeError> {
        if !value.is_finite() {
            return Err(DecodeError::unfit(
                "value",
                value,
                "send a finite number, or the flag for no value",
            ));
        }
        let hash = seal(at.metric, pairs, self.limits, self.identity)?;
        self.earliest = Some(self.earliest.map_or(at.ts, |earliest| earliest.min(at.ts)));
        let sample = SampleRef {
            ts: at.ts,
            metric: at.metric,
            value,
            labels: pairs,
            hash,
            identity: self.identity,
            kind,
            start: at.start,
            signal,
        };
        self.sink.sample(sample, None);
        self.tally.decoded.accepted += 1;
        Ok(hash)
    }

    fn time<'p>(&self, metric: &'p str, start: u64, time: u64) -> Result<Point<'p>, DecodeError> {
        if time == 0 {
            return Err(DecodeError::Missing {
                field: "timeUnixNano",
                help: "say when it was measured",
            });
        }
        let start = (start != 0).then(|| of_nanos(start));
        Ok(Point {
            metric,
            ts: of_nanos(time),
            start,
        })
    }
}

fn of_nanos(nanos: u64) -> Timestamp {
    Timestamp::from_millis(i64::try_from(nanos / 1_000_000).unwrap_or(i64::MAX))
}

fn kind_of(temporality: i32, monotonic: bool) -> Result<PointKind, DecodeError> {
    match AggregationTemporality::try_from(temporality) {
        Ok(AggregationTemporality::Delta) => Ok(PointKind::Delta { monotonic }),
        Ok(AggregationTemporality::Cumulative) => Ok(PointKind::Cumulative { monotonic }),
        _ => Err(DecodeError::unfit(
            "aggregationTemporality",
            temporality,
            "send 1 for delta or 2 for cumulative",
        )),
    }
}

/// The labels of a data point.
fn collect<'a>(pairs: &mut Pairs<'a>, attributes: &'a [KeyValue], resource: &'a [KeyValue]) {
    pairs.clear();
    labels::add(pairs, attributes, false);
    labels::add(pairs, resource, true);
}
