//! OpenTelemetry metrics, as the Collector's Kafka exporter writes them: one `ExportMetricsServiceRequest` a record, as
//! protobuf or as OTLP/JSON.
//!
//! | OTLP | samples |
//! | --- | --- |
//! | gauge | the metric, [`PointKind::Gauge`] |
//! | sum | the metric, [`PointKind::Delta`] or [`PointKind::Cumulative`], monotonic or not |
//! | histogram, exponential histogram | `METRIC.count` and `METRIC.sum`, delta or cumulative as the histogram is, and the metric itself with the label `quantile` at 0.5, 0.9 and 0.99 |
//! | summary | `METRIC.count` and `METRIC.sum`, cumulative, and the metric itself with a label `quantile` for each that it holds |
//!
//! **Labels** are the data point's attributes and the resource's, by their OpenTelemetry names, but for these: the
//! resource's `service.name` becomes `service`, and the older `deployment.environment` becomes
//! `deployment.environment.name`. Where both have an attribute, the data point's counts. Attributes that describe a build or
//! a library rather than the thing measured (`service.version`, `telemetry.sdk.*`, `process.command*`, …) are left out:
//! with them every deploy would begin all series anew, just when before and after are to be compared. Versions are in
//! [`Decoded::versions`] instead. Instrumentation scopes are passed over. Values that are no texts are printed; arrays and
//! maps as JSON, bytes in hexadecimal.
//!
//! **Quantiles** are those of what came in since the point before. A delta histogram says that by itself; for a cumulative
//! one the decoder remembers the last point of each series ([`Histograms`], part of a shard's state) and takes the
//! difference, so the first point has none. Explicit buckets are interpolated linearly, with 0 as the lower end of a first
//! bucket that ends above it, and its bound as the value of the last; exponential ones geometrically. The error is at most
//! the width of the bucket, for exponential ones the relative error of their scale.
//! <https://opentelemetry.io/docs/specs/otel/metrics/data-model/>
//!
//! Values within the zero bucket of an exponential histogram lie between its threshold and, where there are negative ones,
//! as far below 0.
//!
//! A metric of no kind that is known is among what was rejected, as is a point without a finite number; a record in which
//! there is no metric at all is refused. Points flagged as without a recorded value are counted and left out. Minimum, maximum and exemplars are not used, but
//! that a quantile is kept within minimum and maximum where a delta histogram has them.

pub(crate) mod histogram;
mod json;
mod labels;
mod points;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message as _;

pub use self::histogram::Histograms;
#[cfg(doc)]
use super::PointKind;
use super::{DecodeError, Decoded, Format, Limits, Sink, TelemetryDecoder, sample::Scratch};

/// How a request is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Protobuf: the exporter's `otlp_proto`.
    Proto,
    /// JSON: the exporter's `otlp_json`.
    Json,
}

/// Decodes records of metrics. Keep one a shard; its [`Histograms`] belong into the shard's snapshot.
#[derive(Debug)]
pub struct Decoder {
    encoding: Encoding,
    limits: Limits,
    scratch: Scratch,
    histograms: Histograms,
}

impl Decoder {
    /// A decoder that holds records to these limits.
    #[must_use]
    pub fn new(encoding: Encoding, limits: Limits) -> Self {
        Self {
            encoding,
            limits,
            scratch: Scratch::default(),
            histograms: Histograms::default(),
        }
    }
}

impl TelemetryDecoder for Decoder {
    /// A record is refused where it is no such request, or holds no metrics at all. Points that cannot be used are in
    /// [`Decoded::rejected`], with the number of the data point in the record.
    fn decode(&mut self, bytes: &[u8], sink: &mut dyn Sink) -> Result<Decoded, DecodeError> {
        let request = match self.encoding {
            Encoding::Proto => of_proto(bytes)?,
            Encoding::Json => of_json(bytes)?,
        };
        let mut pairs = self.scratch.lend();
        let mut walk = points::Walk::new(&self.limits, &mut self.scratch.identity, &mut self.histograms, sink);
        for resource in &request.resource_metrics {
            pairs = walk.resource(resource, pairs);
            if walk.is_full() {
                break;
            }
        }
        let decoded = walk.decoded();
        self.scratch.take_back(pairs);
        Ok(decoded)
    }

    /// The last points of cumulative histograms.
    fn memory(&self) -> Histograms {
        self.histograms.clone()
    }

    fn restore(&mut self, memory: Histograms) {
        self.histograms = memory;
    }
}

fn of_proto(bytes: &[u8]) -> Result<ExportMetricsServiceRequest, DecodeError> {
    const FORMAT: Format = Format("OTLP protobuf");
    if bytes.is_empty() {
        return Err(DecodeError::Empty(FORMAT));
    }
    let malformed = |reason: String| DecodeError::Malformed {
        format: FORMAT,
        at: None,
        reason,
    };
    let hint = if bytes.trim_ascii_start().first() == Some(&b'{') {
        "; it looks like JSON: set `format: otlp_json` for this topic"
    } else {
        ""
    };
    let request = ExportMetricsServiceRequest::decode(bytes).map_err(|error| {
        let text = error.to_string();
        if hint.is_empty() && (text.contains("underflow") || text.contains("truncated")) {
            return DecodeError::Truncated {
                format: FORMAT,
                at: bytes.len(),
            };
        }
        let reason = text.rsplit("message: ").next().unwrap_or(&text);
        malformed(format!("{reason}{hint}"))
    })?;
    if request.resource_metrics.is_empty() {
        return Err(malformed(format!("it holds no resource metrics{hint}")));
    }
    if !has_metrics(&request) {
        let reason = "it holds no metrics; are these of OTLP 1.0 or later, and neither traces nor logs?";
        return Err(malformed(reason.to_owned()));
    }
    Ok(request)
}

/// Whether bytes are a request with metrics as protobuf, for telling formats apart.
pub(crate) fn is_request(bytes: &[u8]) -> bool {
    of_proto(bytes).is_ok()
}

fn of_json(bytes: &[u8]) -> Result<ExportMetricsServiceRequest, DecodeError> {
    const FORMAT: Format = Format("OTLP/JSON");
    let malformed = |at, reason: &str| DecodeError::Malformed {
        format: FORMAT,
        at,
        reason: reason.to_owned(),
    };
    match bytes.trim_ascii_start().first() {
        None => return Err(DecodeError::Empty(FORMAT)),
        Some(b'{') => {}
        Some(_) => {
            let reason = "not an object; if it is protobuf, set `format: otlp_proto` for this topic";
            return Err(malformed(Some(0), reason));
        }
    }
    let request = json::read(bytes).map_err(|error| DecodeError::of_json(FORMAT, bytes, &error))?;
    if request.resource_metrics.is_empty() {
        return Err(malformed(
            None,
            "`resourceMetrics` is missing or empty: are these metrics, and not traces or logs?",
        ));
    }
    if !has_metrics(&request) {
        let reason = "`resourceMetrics` holds no `scopeMetrics` with `metrics`, as OTLP 1.0 and later has them";
        return Err(malformed(None, reason));
    }
    Ok(request)
}

/// Whether there is any metric, so that a request of another kind or age does not pass for one of nothing.
fn has_metrics(request: &ExportMetricsServiceRequest) -> bool {
    let scopes = request
        .resource_metrics
        .iter()
        .flat_map(|resource| &resource.scope_metrics);
    scopes.into_iter().any(|scope| !scope.metrics.is_empty())
}

#[cfg(test)]
mod tests;
