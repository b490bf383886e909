//! OTLP/JSON as it is found in the wild, read without losing anything in silence.
//!
//! The protocol says: names in lower camel case, 64-bit numbers as texts, enumerations as numbers, `NaN` and the infinities
//! as texts, unknown fields to be passed over, and null as if the field were absent. Many senders write numbers without
//! quotation marks and enumerations by name, as the JSON mapping of Protocol Buffers has it, so these are read as well.
//! What can be read in none of these ways is an error with its place in the text: a field that is there is never taken as
//! absent.

use std::{fmt, marker::PhantomData};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1 as common,
    metrics::v1::{self as metrics, AggregationTemporality, metric::Data, number_data_point},
    resource::v1 as resource,
};
use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};

/// Reads a request.
pub(super) fn read(bytes: &[u8]) -> Result<ExportMetricsServiceRequest, serde_json::Error> {
    let request: Request = serde_json::from_slice(bytes)?;
    Ok(ExportMetricsServiceRequest {
        resource_metrics: all(request.resource_metrics),
    })
}

/// A list that may be null, as what it is made into.
fn all<T, U: From<T>>(list: Option<Vec<T>>) -> Vec<U> {
    list.unwrap_or_default().into_iter().map(U::from).collect()
}

/// What JSON numbers of a type may be written as.
trait Number: Sized {
    const WHAT: &'static str;
    fn of_whole(number: i128) -> Option<Self>;
    fn of_double(number: f64) -> Option<Self>;
    fn of_text(text: &str) -> Option<Self>;
}

/// A number, with or without quotation marks.
struct Num<N>(N);

impl<'de, N: Number> Deserialize<'de> for Num<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<N>(PhantomData<N>);
        impl<N: Number> Either<N> {
            fn made<E: de::Error>(number: Option<N>, written: impl fmt::Display) -> Result<Num<N>, E> {
                let error = || E::custom(format_args!("{written} is no {}", N::WHAT));
                number.map(Num).ok_or_else(error)
            }
        }
        impl<N: Number> Visitor<'_> for Either<N> {
            type Value = Num<N>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(N::WHAT)
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Num<N>, E> {
                Self::made(N::of_whole(v.into()), v)
            }
            fn visit_i64<E: de::Error>(self, v: i64) -> Result<Num<N>, E> {
                Self::made(N::of_whole(v.into()), v)
            }
            fn visit_f64<E: de::Error>(self, v: f64) -> Result<Num<N>, E> {
                Self::made(N::of_double(v), v)
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Num<N>, E> {
                let short: String = v.chars().take(40).collect();
                Self::made(N::of_text(v.trim()), format_args!("{short:?}"))
            }
        }
        deserializer.deserialize_any(Either(PhantomData))
    }
}

macro_rules! whole {
    ($type:ty, $what:literal) => {
        impl Number for $type {
            const WHAT: &'static str = $what;
            fn of_whole(number: i128) -> Option<Self> {
                Self::try_from(number).ok()
            }
            #[allow(clippy::cast_possible_truncation)] // only whole ones that a double holds exactly are taken
            fn of_double(number: f64) -> Option<Self> {
                (number.fract() == 0.0 && number.abs() < 9e15)
                    .then_some(number as i64)
                    .and_then(|number| Self::try_from(number).ok())
            }
            fn of_text(text: &str) -> Option<Self> {
                let number = text.parse().ok();
                number.or_else(|| text.parse().ok().and_then(Self::of_double))
            }
        }
    };
}

whole!(u64, "whole number from 0 up to 64 bits");
whole!(i64, "whole number of 64 bits");
whole!(u32, "whole number from 0 up to 32 bits");
whole!(i32, "whole number of 32 bits");

impl Number for f64 {
    const WHAT: &'static str = "number";
    #[allow(clippy::cast_precision_loss)] // a JSON number is a double
    fn of_whole(number: i128) -> Option<Self> {
        Some(number as Self)
    }
    fn of_double(number: f64) -> Option<Self> {
        Some(number)
    }
    fn of_text(text: &str) -> Option<Self> {
        match text {
            "NaN" => Some(Self::NAN),
            "Infinity" => Some(Self::INFINITY),
            "-Infinity" => Some(Self::NEG_INFINITY),
            _ => text.parse().ok().filter(|number: &Self| number.is_finite()),
        }
    }
}

/// How values add up, by number or by name.
struct Temporality(i32);

impl Number for Temporality {
    const WHAT: &'static str =
        "aggregation temporality: write 1 or AGGREGATION_TEMPORALITY_DELTA, 2 or AGGREGATION_TEMPORALITY_CUMULATIVE";
    fn of_whole(number: i128) -> Option<Self> {
        i32::try_from(number).ok().map(Self)
    }
    fn of_double(number: f64) -> Option<Self> {
        i32::of_double(number).map(Self)
    }
    fn of_text(text: &str) -> Option<Self> {
        let named = AggregationTemporality::from_str_name(text).map(|known| known as i32);
        named.or_else(|| text.parse().ok()).map(Self)
    }
}

/// The number, or what stands for one that is absent.
fn number<N: Default>(written: Option<Num<N>>) -> N {
    written.map(|Num(number)| number).unwrap_or_default()
}

fn numbers<N>(written: Option<Vec<Num<N>>>) -> Vec<N> {
    written
        .unwrap_or_default()
        .into_iter()
        .map(|Num(number)| number)
        .collect()
}

fn temporality(written: Option<Num<Temporality>>) -> i32 {
    written.map_or(0, |Num(Temporality(number))| number)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    resource_metrics: Option<Vec<ResourceMetrics>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceMetrics {
    resource: Option<Resource>,
    scope_metrics: Option<Vec<ScopeMetrics>>,
}

impl From<ResourceMetrics> for metrics::ResourceMetrics {
    fn from(read: ResourceMetrics) -> Self {
        Self {
            resource: read.resource.map(|read| resource::Resource {
                attributes: all(read.attributes),
                ..resource::Resource::default()
            }),
            scope_metrics: all(read.scope_metrics),
            ..Self::default()
        }
    }
}

#[derive(Deserialize)]
struct Resource {
    attributes: Option<Vec<KeyValue>>,
}

#[derive(Deserialize)]
struct ScopeMetrics {
    metrics: Option<Vec<Metric>>,
}

impl From<ScopeMetrics> for metrics::ScopeMetrics {
    fn from(read: ScopeMetrics) -> Self {
        Self {
            metrics: read
                .metrics
                .unwrap_or_default()
                .into_iter()
                .map(|Metric(metric)| metric)
                .collect(),
            ..Self::default()
        }
    }
}

#[derive(Deserialize)]
#[serde(try_from = "AnyMetric")]
struct Metric(metrics::Metric);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnyMetric {
    name: Option<String>,
    gauge: Option<Numbers>,
    sum: Option<Numbers>,
    histogram: Option<Histogram>,
    exponential_histogram: Option<ExponentialHistogram>,
    summary: Option<Summary>,
}

impl TryFrom<AnyMetric> for Metric {
    type Error = &'static str;

    fn try_from(read: AnyMetric) -> Result<Self, Self::Error> {
        let gauge = read.gauge.map(|gauge| {
            Data::Gauge(metrics::Gauge {
                data_points: all(gauge.data_points),
            })
        });
        let sum = read.sum.map(|sum| {
            Data::Sum(metrics::Sum {
                aggregation_temporality: temporality(sum.aggregation_temporality),
                is_monotonic: sum.is_monotonic.unwrap_or_default(),
                data_points: all(sum.data_points),
            })
        });
        let histogram = read.histogram.map(|histogram| {
            Data::Histogram(metrics::Histogram {
                aggregation_temporality: temporality(histogram.aggregation_temporality),
                data_points: all(histogram.data_points),
            })
        });
        let exponential = read.exponential_histogram.map(|histogram| {
            Data::ExponentialHistogram(metrics::ExponentialHistogram {
                aggregation_temporality: temporality(histogram.aggregation_temporality),
                data_points: all(histogram.data_points),
            })
        });
        let summary = read.summary.map(|summary| {
            Data::Summary(metrics::Summary {
                data_points: all(summary.data_points),
            })
        });
        let mut found = [gauge, sum, histogram, exponential, summary].into_iter().flatten();
        let data = found.next();
        if found.next().is_some() {
            return Err("a metric is of two kinds at once: send each as a metric of its own");
        }
        Ok(Self(metrics::Metric {
            name: read.name.unwrap_or_default(),
            data,
            ..metrics::Metric::default()
        }))
    }
}

/// A gauge or a sum.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Numbers {
    data_points: Option<Vec<NumberPoint>>,
    aggregation_temporality: Option<Num<Temporality>>,
    is_monotonic: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NumberPoint {
    attributes: Option<Vec<KeyValue>>,
    start_time_unix_nano: Option<Num<u64>>,
    time_unix_nano: Option<Num<u64>>,
    as_double: Option<Num<f64>>,
    as_int: Option<Num<i64>>,
    flags: Option<Num<u32>>,
}

impl From<NumberPoint> for metrics::NumberDataPoint {
    fn from(read: NumberPoint) -> Self {
        let double = read
            .as_double
            .map(|Num(value)| number_data_point::Value::AsDouble(value));
        let whole = read.as_int.map(|Num(value)| number_data_point::Value::AsInt(value));
        Self {
            attributes: all(read.attributes),
            start_time_unix_nano: number(read.start_time_unix_nano),
            time_unix_nano: number(read.time_unix_nano),
            flags: number(read.flags),
            value: double.or(whole),
            ..Self::default()
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Histogram {
    data_points: Option<Vec<HistogramPoint>>,
    aggregation_temporality: Option<Num<Temporality>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HistogramPoint {
    attributes: Option<Vec<KeyValue>>,
    start_time_unix_nano: Option<Num<u64>>,
    time_unix_nano: Option<Num<u64>>,
    count: Option<Num<u64>>,
    sum: Option<Num<f64>>,
    bucket_counts: Option<Vec<Num<u64>>>,
    explicit_bounds: Option<Vec<Num<f64>>>,
    flags: Option<Num<u32>>,
    min: Option<Num<f64>>,
    max: Option<Num<f64>>,
}

impl From<HistogramPoint> for metrics::HistogramDataPoint {
    fn from(read: HistogramPoint) -> Self {
        Self {
            attributes: all(read.attributes),
            start_time_unix_nano: number(read.start_time_unix_nano),
            time_unix_nano: number(read.time_unix_nano),
            count: number(read.count),
            sum: read.sum.map(|Num(sum)| sum),
            bucket_counts: numbers(read.bucket_counts),
            explicit_bounds: numbers(read.explicit_bounds),
            flags: number(read.flags),
            min: read.min.map(|Num(min)| min),
            max: read.max.map(|Num(max)| max),
            ..Self::default()
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExponentialHistogram {
    data_points: Option<Vec<ExponentialPoint>>,
    aggregation_temporality: Option<Num<Temporality>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExponentialPoint {
    attributes: Option<Vec<KeyValue>>,
    start_time_unix_nano: Option<Num<u64>>,
    time_unix_nano: Option<Num<u64>>,
    count: Option<Num<u64>>,
    sum: Option<Num<f64>>,
    scale: Option<Num<i32>>,
    zero_count: Option<Num<u64>>,
    zero_threshold: Option<Num<f64>>,
    positive: Option<Buckets>,
    negative: Option<Buckets>,
    flags: Option<Num<u32>>,
    min: Option<Num<f64>>,
    max: Option<Num<f64>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Buckets {
    offset: Option<Num<i32>>,
    bucket_counts: Option<Vec<Num<u64>>>,
}

impl From<ExponentialPoint> for metrics::ExponentialHistogramDataPoint {
    fn from(read: ExponentialPoint) -> Self {
        let buckets = |read: Buckets| metrics::exponential_histogram_data_point::Buckets {
            offset: number(read.offset),
            bucket_counts: numbers(read.bucket_counts),
        };
        Self {
            attributes: all(read.attributes),
            start_time_unix_nano: number(read.start_time_unix_nano),
            time_unix_nano: number(read.time_unix_nano),
            count: number(read.count),
            sum: read.sum.map(|Num(sum)| sum),
            scale: number(read.scale),
            zero_count: number(read.zero_count),
            zero_threshold: number(read.zero_threshold),
            positive: read.positive.map(buckets),
            negative: read.negative.map(buckets),
            flags: number(read.flags),
            min: read.min.map(|Num(min)| min),
            max: read.max.map(|Num(max)| max),
            ..Self::default()
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    data_points: Option<Vec<SummaryPoint>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SummaryPoint {
    attributes: Option<Vec<KeyValue>>,
    start_time_unix_nano: Option<Num<u64>>,
    time_unix_nano: Option<Num<u64>>,
    count: Option<Num<u64>>,
    sum: Option<Num<f64>>,
    quantile_values: Option<Vec<Quantile>>,
    flags: Option<Num<u32>>,
}

#[derive(Deserialize)]
struct Quantile {
    quantile: Option<Num<f64>>,
    value: Option<Num<f64>>,
}

impl From<Quantile> for metrics::summary_data_point::ValueAtQuantile {
    fn from(read: Quantile) -> Self {
        Self {
            quantile: number(read.quantile),
            value: number(read.value),
        }
    }
}

impl From<SummaryPoint> for metrics::SummaryDataPoint {
    fn from(read: SummaryPoint) -> Self {
        Self {
            attributes: all(read.attributes),
            start_time_unix_nano: number(read.start_time_unix_nano),
            time_unix_nano: number(read.time_unix_nano),
            count: number(read.count),
            sum: number(read.sum),
            quantile_values: all(read.quantile_values),
            flags: number(read.flags),
        }
    }
}

#[derive(Deserialize)]
struct KeyValue {
    key: Option<String>,
    value: Option<AnyValue>,
}

impl From<KeyValue> for common::KeyValue {
    fn from(read: KeyValue) -> Self {
        Self {
            key: read.key.unwrap_or_default(),
            value: read.value.map(common::AnyValue::from),
            ..Self::default()
        }
    }
}

/// A value of an attribute. How deep they nest is bounded by `serde_json`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnyValue {
    string_value: Option<String>,
    bool_value: Option<bool>,
    int_value: Option<Num<i64>>,
    double_value: Option<Num<f64>>,
    array_value: Option<Values<AnyValue>>,
    kvlist_value: Option<Values<KeyValue>>,
    bytes_value: Option<Bytes>,
}

#[derive(Deserialize)]
struct Values<T> {
    values: Option<Vec<T>>,
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Bytes(Vec<u8>);

impl TryFrom<String> for Bytes {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let error = |error| format!("`bytesValue` is no base64: {error}");
        STANDARD.decode(text.trim()).map(Self).map_err(error)
    }
}

impl From<AnyValue> for common::AnyValue {
    fn from(read: AnyValue) -> Self {
        use common::any_value::Value;
        let value = (read.string_value.map(Value::StringValue))
            .or(read.bool_value.map(Value::BoolValue))
            .or(read.int_value.map(|Num(whole)| Value::IntValue(whole)))
            .or(read.double_value.map(|Num(number)| Value::DoubleValue(number)))
            .or(read.array_value.map(|read| {
                Value::ArrayValue(common::ArrayValue {
                    values: all(read.values),
                })
            }))
            .or(read.kvlist_value.map(|read| {
                Value::KvlistValue(common::KeyValueList {
                    values: all(read.values),
                })
            }))
            .or(read.bytes_value.map(|Bytes(bytes)| Value::BytesValue(bytes)));
        Self { value }
    }
}
