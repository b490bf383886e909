//! Requests of the shapes that the Collector sends, and what becomes of them.

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue, KeyValue, any_value},
    metrics::v1::{
        AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
        HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint,
        exponential_histogram_data_point::Buckets, metric::Data, number_data_point,
        summary_data_point::ValueAtQuantile,
    },
    resource::v1::Resource,
};
use proptest::prelude::*;
use suture_event::{SignalKind, Timestamp};

use super::*;
use crate::SampleRef;

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_661_140_200 * SECOND;
const TIME: u64 = 1_661_140_279 * SECOND + 999_999;

fn value(value: any_value::Value) -> Option<AnyValue> {
    Some(AnyValue { value: Some(value) })
}

fn attribute(key: &str, text: &str) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: value(any_value::Value::StringValue(text.into())),
        ..KeyValue::default()
    }
}

fn request(metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    let attributes = vec![
        attribute("service.name", "cart"),
        attribute("service.version", "1.4.2"),
        attribute("deployment.environment.name", "prod"),
        attribute("telemetry.sdk.language", "rust"),
    ];
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource {
                attributes,
                ..Resource::default()
            }),
            scope_metrics: vec![ScopeMetrics {
                metrics,
                ..ScopeMetrics::default()
            }],
            schema_url: "https://opentelemetry.io/schemas/1.27.0".into(),
        }],
    }
}

fn metric(name: &str, data: Data) -> Metric {
    Metric {
        name: name.into(),
        unit: "s".into(),
        data: Some(data),
        ..Metric::default()
    }
}

fn number(value: number_data_point::Value) -> NumberDataPoint {
    NumberDataPoint {
        start_time_unix_nano: START,
        time_unix_nano: TIME,
        value: Some(value),
        attributes: vec![attribute("http.route", "/cart")],
        ..NumberDataPoint::default()
    }
}

fn double(v: f64) -> NumberDataPoint {
    number(number_data_point::Value::AsDouble(v))
}

fn gauge(name: &str, points: Vec<NumberDataPoint>) -> Metric {
    metric(name, Data::Gauge(Gauge { data_points: points }))
}

fn sum(temporality: i32, is_monotonic: bool, points: Vec<NumberDataPoint>) -> Metric {
    metric(
        "requests",
        Data::Sum(Sum {
            data_points: points,
            aggregation_temporality: temporality,
            is_monotonic,
        }),
    )
}

fn histogram(temporality: AggregationTemporality, point: HistogramDataPoint) -> Metric {
    let aggregation_temporality = temporality as i32;
    metric(
        "latency",
        Data::Histogram(Histogram {
            data_points: vec![point],
            aggregation_temporality,
        }),
    )
}

fn buckets(time: u64, counts: &[u64]) -> HistogramDataPoint {
    HistogramDataPoint {
        start_time_unix_nano: START,
        time_unix_nano: time,
        count: counts.iter().sum(),
        sum: Some(12.5),
        bucket_counts: counts.to_vec(),
        explicit_bounds: vec![0.1, 0.2, 0.4],
        ..HistogramDataPoint::default()
    }
}

fn proto() -> Decoder {
    Decoder::new(Encoding::Proto, Limits::default())
}

fn json() -> Decoder {
    Decoder::new(Encoding::Json, Limits::default())
}

/// `METRIC{labels} VALUE KIND`, a line a sample.
fn lines_of(decoder: &mut Decoder, request: &ExportMetricsServiceRequest) -> (Decoded, Vec<String>) {
    let mut lines = Vec::new();
    let mut note = |s: SampleRef<'_>| {
        assert_eq!(s.hash, s.key().unwrap().hash64());
        assert_eq!(
            s.ts,
            Timestamp::from_millis(i64::try_from(TIME / 1_000_000).unwrap()).max(s.ts)
        );
        lines.push(format!("{} {} {:?}", s.key().unwrap(), s.value, s.kind));
    };
    let decoded = decoder.decode(&request.encode_to_vec(), &mut note).unwrap();
    (decoded, lines)
}

fn lines(request: &ExportMetricsServiceRequest) -> (Decoded, Vec<String>) {
    lines_of(&mut proto(), request)
}

const LABELS: &str = r#"{deployment.environment.name="prod", http.route="/cart", service="cart"}"#;

#[test]
fn gauges_and_sums_say_what_they_are() {
    let (delta, cumulative) = (
        AggregationTemporality::Delta as i32,
        AggregationTemporality::Cumulative as i32,
    );
    let whole = || number(number_data_point::Value::AsInt(7));
    let (decoded, lines) = lines(&request(vec![
        gauge("queue", vec![double(1.5)]),
        sum(delta, true, vec![whole()]),
        sum(delta, false, vec![whole()]),
        sum(cumulative, true, vec![whole()]),
        sum(cumulative, false, vec![whole()]),
    ]));
    assert_eq!(
        lines,
        [
            format!("queue{LABELS} 1.5 Gauge"),
            format!("requests{LABELS} 7 Delta {{ monotonic: true }}"),
            format!("requests{LABELS} 7 Delta {{ monotonic: false }}"),
            format!("requests{LABELS} 7 Cumulative {{ monotonic: true }}"),
            format!("requests{LABELS} 7 Cumulative {{ monotonic: false }}"),
        ]
    );
    assert_eq!(decoded.accepted, 5);
}

#[test]
fn times_are_those_of_the_point_in_milliseconds() {
    let mut seen = Vec::new();
    let bytes = request(vec![gauge("queue", vec![double(1.0)])]).encode_to_vec();
    proto()
        .decode(&bytes, &mut |s: SampleRef<'_>| seen.push((s.ts, s.start)))
        .unwrap();
    let at = |millis| Timestamp::from_millis(millis);
    assert_eq!(seen, [(at(1_661_140_279_000), Some(at(1_661_140_200_000)))]);
}

#[test]
fn the_version_of_a_service_is_told_apart_from_its_series() {
    let (decoded, _) = lines(&request(vec![gauge("queue", vec![double(1.0), double(2.0)])]));
    let seen = &decoded.versions[..];
    assert_eq!(seen.len(), 1);
    assert_eq!(
        (&*seen[0].service, &*seen[0].version, seen[0].environment.as_deref()),
        ("cart", "1.4.2", Some("prod"))
    );
    assert_eq!(seen[0].at, Timestamp::from_millis(1_661_140_279_000));
}

#[test]
fn a_histogram_becomes_count_sum_and_quantiles() {
    let point = buckets(TIME, &[10, 10, 20, 0]);
    let (_, lines) = lines(&request(vec![histogram(AggregationTemporality::Delta, point)]));
    let labels = r#"deployment.environment.name="prod", "#;
    assert_eq!(
        lines,
        [
            format!(r#"latency.count{{{labels}service="cart"}} 40 Delta {{ monotonic: true }}"#),
            format!(r#"latency.sum{{{labels}service="cart"}} 12.5 Delta {{ monotonic: true }}"#),
            format!(r#"latency{{{labels}quantile="0.5", service="cart"}} 0.2 Gauge"#),
            format!(r#"latency{{{labels}quantile="0.9", service="cart"}} 0.36000000000000004 Gauge"#),
            format!(r#"latency{{{labels}quantile="0.99", service="cart"}} 0.396 Gauge"#),
        ]
    );
}

#[test]
fn a_histogram_says_that_its_count_is_traffic() {
    let bytes = request(vec![histogram(
        AggregationTemporality::Delta,
        buckets(TIME, &[1, 0, 0, 0]),
    )])
    .encode_to_vec();
    let mut signals = Vec::new();
    proto()
        .decode(&bytes, &mut |s: SampleRef<'_>| signals.push(s.signal))
        .unwrap();
    assert_eq!(
        signals,
        [Some(SignalKind::Traffic), Some(SignalKind::Other), None, None, None]
    );
}

#[test]
fn quantiles_stay_within_the_range_that_a_delta_histogram_gives() {
    let point = HistogramDataPoint {
        min: Some(0.15),
        max: Some(0.3),
        ..buckets(TIME, &[10, 10, 20, 0])
    };
    let (_, lines) = lines(&request(vec![histogram(AggregationTemporality::Delta, point)]));
    assert!(
        lines[3].ends_with(" 0.3 Gauge") && lines[4].ends_with(" 0.3 Gauge"),
        "{lines:?}"
    );
}

#[test]
fn a_cumulative_histogram_has_quantiles_from_its_second_point_on_also_after_a_restore() {
    let cumulative = |time, counts: &[u64]| {
        request(vec![histogram(
            AggregationTemporality::Cumulative,
            buckets(time, counts),
        )])
    };
    let mut decoder = proto();
    assert_eq!(lines_of(&mut decoder, &cumulative(TIME, &[100, 0, 0, 0])).1.len(), 2);
    let state = serde_json::to_string(&decoder.memory()).unwrap();
    let mut restored = proto();
    restored.restore(serde_json::from_str(&state).unwrap());
    for decoder in [&mut decoder, &mut restored] {
        let (_, lines) = lines_of(decoder, &cumulative(TIME + SECOND, &[100, 10, 0, 0]));
        assert_eq!(lines.len(), 5);
        let expected = r#"latency{deployment.environment.name="prod", quantile="0.5", service="cart"} "#;
        assert!(lines[2].starts_with(&format!("{expected}0.15")), "{}", lines[2]);
    }
}

#[test]
fn histograms_beyond_the_bound_have_no_quantiles_and_are_counted() {
    let mut decoder = Decoder::new(
        Encoding::Proto,
        Limits {
            histograms: 0,
            ..Limits::default()
        },
    );
    let cumulative = request(vec![histogram(
        AggregationTemporality::Cumulative,
        buckets(TIME, &[1, 0, 0, 0]),
    )]);
    let (decoded, lines) = lines_of(&mut decoder, &cumulative);
    assert_eq!((decoded.without_quantiles, lines.len()), (1, 2));
}

#[test]
fn exponential_histograms_and_summaries() {
    let exponential = ExponentialHistogramDataPoint {
        time_unix_nano: TIME,
        count: 4,
        scale: 0,
        positive: Some(Buckets {
            offset: 3,
            bucket_counts: vec![4],
        }),
        ..ExponentialHistogramDataPoint::default()
    };
    let quantile = |quantile, value| ValueAtQuantile { quantile, value };
    let summary = SummaryDataPoint {
        time_unix_nano: TIME,
        count: 3,
        sum: 6.0,
        quantile_values: vec![quantile(0.5, 2.0), quantile(0.99, f64::NAN)],
        ..SummaryDataPoint::default()
    };
    let aggregation_temporality = AggregationTemporality::Delta as i32;
    let (decoded, lines) = lines(&request(vec![
        metric(
            "size",
            Data::ExponentialHistogram(ExponentialHistogram {
                data_points: vec![exponential],
                aggregation_temporality,
            }),
        ),
        metric(
            "gc",
            Data::Summary(Summary {
                data_points: vec![summary],
            }),
        ),
    ]));
    let short: Vec<String> = lines
        .iter()
        .map(|l| l.replace(r#"deployment.environment.name="prod", "#, ""))
        .collect();
    assert_eq!(short[0], r#"size.count{service="cart"} 4 Delta { monotonic: true }"#);
    assert!(
        short[1].starts_with(r#"size{quantile="0.5", service="cart"} 11.31370849898"#),
        "{}",
        short[1]
    );
    assert_eq!(short[4], r#"gc.count{service="cart"} 3 Cumulative { monotonic: true }"#);
    assert_eq!(short[5], r#"gc.sum{service="cart"} 6 Cumulative { monotonic: true }"#);
    assert_eq!(short[6], r#"gc{quantile="0.5", service="cart"} 2 Gauge"#);
    assert_eq!((short.len(), decoded.accepted), (7, 7));
}

#[test]
fn attributes_of_every_type_become_texts_and_the_points_own_win() {
    let mut point = double(1.0);
    let array = ArrayValue {
        values: vec![AnyValue {
            value: Some(any_value::Value::IntValue(1)),
        }],
    };
    point.attributes = vec![
        attribute("service.name", "peer"),
        KeyValue {
            key: "i".into(),
            value: value(any_value::Value::IntValue(-3)),
            ..KeyValue::default()
        },
        KeyValue {
            key: "d".into(),
            value: value(any_value::Value::DoubleValue(0.5)),
            ..KeyValue::default()
        },
        KeyValue {
            key: "b".into(),
            value: value(any_value::Value::BoolValue(true)),
            ..KeyValue::default()
        },
        KeyValue {
            key: "a".into(),
            value: value(any_value::Value::ArrayValue(array)),
            ..KeyValue::default()
        },
        KeyValue {
            key: "x".into(),
            value: value(any_value::Value::BytesValue(vec![1, 255])),
            ..KeyValue::default()
        },
        KeyValue {
            key: "none".into(),
            value: None,
            ..KeyValue::default()
        },
    ];
    let (_, lines) = lines(&request(vec![gauge("m", vec![point])]));
    let expected = r#"m{a="[1]", b="true", d="0.5", deployment.environment.name="prod", i="-3", service="peer", x="01ff"} 1 Gauge"#;
    assert_eq!(lines, [expected]);
}

#[test]
fn the_older_name_of_the_environment_becomes_the_newer_one() {
    let mut old = request(vec![gauge("m", vec![double(1.0)])]);
    let attributes = vec![
        attribute("service.name", "cart"),
        attribute("deployment.environment", "test"),
    ];
    old.resource_metrics[0].resource = Some(Resource {
        attributes,
        ..Resource::default()
    });
    let (_, lines) = lines(&old);
    assert_eq!(
        lines,
        [r#"m{deployment.environment.name="test", http.route="/cart", service="cart"} 1 Gauge"#]
    );
}

#[test]
fn one_bad_point_does_not_cost_the_others() {
    let nothing = NumberDataPoint {
        flags: 1,
        value: None,
        ..double(0.0)
    };
    let timeless = NumberDataPoint {
        time_unix_nano: 0,
        ..double(1.0)
    };
    let valueless = NumberDataPoint {
        value: None,
        ..double(1.0)
    };
    let mut doubled = double(1.0);
    doubled.attributes = vec![attribute("a", "1"), attribute("a", "2")];
    let mut crowded = double(1.0);
    crowded.attributes = (0..10_000).map(|i| attribute(&format!("l{i}"), "x")).collect();
    let uneven = HistogramDataPoint {
        bucket_counts: vec![1, 2],
        ..buckets(TIME, &[])
    };
    let (decoded, lines) = lines(&request(vec![
        gauge(
            "queue",
            vec![
                double(f64::NAN),
                nothing,
                timeless,
                valueless,
                doubled,
                crowded,
                double(8.0),
            ],
        ),
        sum(0, true, vec![double(1.0)]),
        histogram(AggregationTemporality::Delta, uneven),
        gauge("", vec![double(1.0)]),
        gauge("last", vec![double(9.0)]),
    ]));
    assert_eq!(
        lines,
        [format!("queue{LABELS} 8 Gauge"), format!("last{LABELS} 9 Gauge")]
    );
    assert_eq!(decoded.without_value, 1);
    let texts: Vec<String> = decoded.rejected.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            r#"sample 0 of "queue": `value` is NaN: send a finite number, or the flag for no value"#,
            r#"sample 2 of "queue": `timeUnixNano` is missing: say when it was measured"#,
            r#"sample 3 of "queue": `value` is missing: set asDouble or asInt, or the flag for no value"#,
            r#"sample 4 of "queue": label "a" is given twice: keep one"#,
            r#"sample 5 of "queue": labels of one series: 10002, at most 64 are taken; send less or raise `limits.labels`"#,
            r#"sample 7 of "requests": `aggregationTemporality` is 0: send 1 for delta or 2 for cumulative"#,
            r#"sample 8 of "latency": `bucketCounts` is 2 counts for 3 bounds: send one count more than there are bounds"#,
            r#"sample 9 of "": `metric` is empty: name what is measured"#,
        ]
    );
}

#[test]
fn points_beyond_the_bound_are_reported_once() {
    let mut decoder = Decoder::new(
        Encoding::Proto,
        Limits {
            samples: 2,
            ..Limits::default()
        },
    );
    let points = || vec![double(1.0), double(2.0), double(3.0)];
    let (decoded, lines) = lines_of(&mut decoder, &request(vec![gauge("a", points()), gauge("b", points())]));
    assert_eq!((lines.len(), decoded.rejected.len()), (2, 1));
    assert_eq!(decoded.rejected[0].error.code(), "too_large");
}

#[test]
fn what_is_no_request_is_refused_with_what_to_do() {
    let proto = |bytes: &[u8]| {
        proto()
            .decode(bytes, &mut |_: SampleRef<'_>| {})
            .unwrap_err()
            .to_string()
    };
    let json = |text: &str| {
        json()
            .decode(text.as_bytes(), &mut |_: SampleRef<'_>| {})
            .unwrap_err()
            .to_string()
    };
    assert_eq!(proto(b""), "the record is empty, where OTLP protobuf was expected");
    assert!(proto(b"{\"resourceMetrics\":[]}").ends_with("it looks like JSON: set `format: otlp_json` for this topic"));
    let mut cut = request(vec![gauge("queue", vec![double(1.0)])]).encode_to_vec();
    cut.truncate(cut.len() / 2);
    assert_eq!(
        proto(&cut),
        format!(
            "the OTLP protobuf breaks off after {} bytes: its producer, or a size limit on the way, cut it short",
            cut.len()
        )
    );
    assert_eq!(
        json("{\"resourceMetrics\":[{"),
        "the OTLP/JSON breaks off after 21 bytes: its producer, or a size limit on the way, cut it short"
    );
    assert_eq!(
        json("\x0a\x05"),
        "no valid OTLP/JSON at byte 0: not an object; if it is protobuf, set `format: otlp_proto` for this topic"
    );
    assert!(json("{\"resourceSpans\":[]}").contains("are these metrics, and not traces or logs?"));
}

#[test]
fn json_as_the_collector_writes_it() {
    let text = r#"{"resourceMetrics":[{"resource":{"attributes":[
        {"key":"service.name","value":{"stringValue":"cart"}},{"key":"replica","value":{"intValue":"3"}}]},
      "scopeMetrics":[{"scope":{"name":"io.opentelemetry.runtime","version":"2.1"},"metrics":[
        {"name":"jvm.threads","unit":"1","gauge":{"dataPoints":[{"timeUnixNano":"1661140279000000000","asInt":"42"}]}},
        {"name":"rpc","sum":{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[
          {"startTimeUnixNano":"1661140200000000000","timeUnixNano":"1661140279000000000","asDouble":1.5,
           "attributes":[{"key":"ok","value":{"boolValue":true}}]}]}},
        {"name":"wait","histogram":{"aggregationTemporality":1,"dataPoints":[
          {"timeUnixNano":"1661140279000000000","count":"2","sum":3,"bucketCounts":["2","0"],"explicitBounds":[2]}]}}]}]}]}"#;
    let mut lines = Vec::new();
    let mut note = |s: SampleRef<'_>| lines.push(format!("{} {} {:?}", s.key().unwrap(), s.value, s.kind));
    let decoded = json().decode(text.as_bytes(), &mut note).unwrap();
    assert_eq!(
        lines,
        [
            r#"jvm.threads{replica="3", service="cart"} 42 Gauge"#,
            r#"rpc{ok="true", replica="3", service="cart"} 1.5 Cumulative { monotonic: true }"#,
            r#"wait.count{replica="3", service="cart"} 2 Delta { monotonic: true }"#,
            r#"wait.sum{replica="3", service="cart"} 3 Delta { monotonic: true }"#,
            r#"wait{quantile="0.5", replica="3", service="cart"} 1 Gauge"#,
            r#"wait{quantile="0.9", replica="3", service="cart"} 1.8 Gauge"#,
            r#"wait{quantile="0.99", replica="3", service="cart"} 1.98 Gauge"#,
        ]
    );
    assert_eq!(decoded.accepted, 7);
}

fn any_number() -> impl Strategy<Value = NumberDataPoint> {
    (any::<f64>(), any::<u64>(), "\\PC{0,4}", "\\PC{0,4}", any::<u32>()).prop_map(
        |(v, time_unix_nano, name, text, flags)| NumberDataPoint {
            time_unix_nano,
            flags,
            attributes: vec![attribute(&name, &text)],
            ..double(v)
        },
    )
}

fn any_histogram() -> impl Strategy<Value = Metric> {
    let explicit = (
        proptest::collection::vec(any::<u64>(), 0..5),
        proptest::collection::vec(any::<f64>(), 0..5),
    );
    (explicit, any::<i32>(), any::<i32>(), 0..4_i32).prop_map(|((counts, bounds), scale, offset, temporality)| {
        let run = || {
            Some(Buckets {
                offset,
                bucket_counts: counts.clone(),
            })
        };
        if scale % 2 == 0 {
            let point = HistogramDataPoint {
                explicit_bounds: bounds,
                count: 1,
                ..HistogramDataPoint::default()
            };
            let point = HistogramDataPoint {
                bucket_counts: counts,
                time_unix_nano: TIME,
                ..point
            };
            metric(
                "h",
                Data::Histogram(Histogram {
                    data_points: vec![point],
                    aggregation_temporality: temporality,
                }),
            )
        } else {
            let point = ExponentialHistogramDataPoint {
                scale: scale % 30,
                positive: run(),
                negative: run(),
                ..Default::default()
            };
            let point = ExponentialHistogramDataPoint {
                time_unix_nano: TIME,
                ..point
            };
            let data_points = vec![point];
            metric(
                "h",
                Data::ExponentialHistogram(ExponentialHistogram {
                    data_points,
                    aggregation_temporality: temporality,
                }),
            )
        }
    })
}

proptest! {
    #[test]
    fn every_point_is_accounted_for(points in proptest::collection::vec(any_number(), 0..6)) {
        let count = points.len();
        let bytes = request(vec![gauge("m", points)]).encode_to_vec();
        let mut seen = 0;
        let decoded = proto().decode(&bytes, &mut |s: SampleRef<'_>| {
            assert!(s.value.is_finite());
            seen += 1;
        }).unwrap();
        prop_assert_eq!(seen, decoded.accepted);
        prop_assert_eq!(decoded.accepted + decoded.rejected.len() + decoded.without_value, count);
    }

    #[test]
    fn no_histogram_makes_it_panic(histograms in proptest::collection::vec(any_histogram(), 0..6)) {
        let mut decoder = proto();
        for (step, one) in histograms.into_iter().enumerate() {
            let mut asked = request(vec![one]);
            if let Some(Data::Histogram(h)) = &mut asked.resource_metrics[0].scope_metrics[0].metrics[0].data {
                h.data_points[0].time_unix_nano += step as u64;
            }
            decoder.decode(&asked.encode_to_vec(), &mut |s: SampleRef<'_>| assert!(s.value.is_finite())).unwrap();
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = proto().decode(&bytes, &mut |_: SampleRef<'_>| {});
        let _ = json().decode(&bytes, &mut |_: SampleRef<'_>| {});
    }
}

/// Every sample of a record in JSON, as `METRIC{labels} VALUE`.
fn json_lines(decoder: &mut Decoder, text: &str) -> Result<(Decoded, Vec<String>), String> {
    let mut lines = Vec::new();
    let decoded = decoder
        .decode(text.as_bytes(), &mut |s: SampleRef<'_>| {
            lines.push(format!("{} {}", s.key().unwrap(), s.value));
        })
        .map_err(|error| error.to_string())?;
    Ok((decoded, lines))
}

fn json_request(metric: &str) -> String {
    format!(
        r#"{{"resourceMetrics":[{{"resource":{{"attributes":[]}},"scopeMetrics":[{{"scope":{{"name":"x"}},"metrics":[{metric}]}}]}}]}}"#
    )
}

#[test]
fn json_is_read_in_every_spelling_that_senders_use() {
    const AT: &str = r#""timeUnixNano":"1661140279000000000""#;
    let attributes = r#""attributes":[{"key":"port","value":{"intValue":"8080"}},{"key":"on","value":{"boolValue":true}},
        {"key":"deep","value":{"arrayValue":{"values":[{"doubleValue":0.5},{"later":1}]}}},{"key":"none","value":{"laterValue":[1]}}]"#;
    for (metric, expected) in [
        (
            format!(r#"{{"name":"q","gauge":{{"dataPoints":[{{{AT},"asInt":"42"}}]}}}}"#),
            "q{} 42",
        ),
        (
            r#"{"name":"p","gauge":{"dataPoints":[{"timeUnixNano":1661140279000000000,"asInt":43}]}}"#.into(),
            "p{} 43",
        ),
        (
            format!(r#"{{"name":"d","gauge":{{"dataPoints":[{{{AT},"asDouble":"1.5"}}]}}}}"#),
            "d{} 1.5",
        ),
        (
            format!(r#"{{"name":"w","gauge":{{"dataPoints":[{{{AT},"asDouble":7}}]}}}}"#),
            "w{} 7",
        ),
        (
            format!(r#"{{"name":"e","gauge":{{"dataPoints":[{{{AT},"asInt":1e3}}]}}}}"#),
            "e{} 1000",
        ),
        (
            format!(
                r#"{{"name":"n","sum":null,"gauge":{{"dataPoints":[{{{AT},"asInt":null,"asDouble":2,"attributes":null}}]}}}}"#
            ),
            "n{} 2",
        ),
        (
            format!(
                r#"{{"future":{{"x":[1]}},"name":"u","gauge":{{"dataPoints":[{{{AT},"asDouble":8.0,"future":[1]}}]}}}}"#
            ),
            "u{} 8",
        ),
        (
            format!(
                r#"{{"name":"s","sum":{{"aggregationTemporality":"AGGREGATION_TEMPORALITY_CUMULATIVE","isMonotonic":true,
                    "dataPoints":[{{{AT},"asInt":"100"}}]}}}}"#
            ),
            "s{} 100",
        ),
        (
            format!(r#"{{"name":"a","gauge":{{"dataPoints":[{{{AT},"asDouble":7.0,{attributes}}}]}}}}"#),
            r#"a{deep="[0.5,null]", on="true", port="8080"} 7"#,
        ),
    ] {
        let (decoded, lines) = json_lines(&mut json(), &json_request(&metric)).unwrap();
        assert_eq!(
            (lines.as_slice(), decoded.rejected.as_slice()),
            (&[expected.to_owned()][..], &[][..]),
            "{metric}"
        );
    }
}

#[test]
fn json_histograms_have_quantiles_however_their_numbers_are_written() {
    const DELTA: &str = r#""timeUnixNano":"1661140279000000000","startTimeUnixNano":"1661140219000000000""#;
    let quantiles = |kind: &str, point: &str| {
        let metric = format!(
            r#"{{"name":"m","unit":"s","{kind}":{{"aggregationTemporality":1,"dataPoints":[{{{DELTA},{point}}}]}}}}"#
        );
        let (decoded, lines) = json_lines(&mut json(), &json_request(&metric)).unwrap();
        assert_eq!(decoded.rejected, [], "{point}");
        let of = |share: &str| -> f64 {
            let start = format!(r#"m{{quantile="{share}"}} "#);
            let line = lines.iter().find_map(|line| line.strip_prefix(&start)).unwrap();
            line.parse().unwrap()
        };
        (of("0.5"), of("0.99"))
    };
    let zeros = r#""count":"10","sum":1.5,"scale":0,"zeroCount":"9","positive":{"offset":0,"bucketCounts":["1"]}"#;
    assert_eq!(quantiles("exponentialHistogram", zeros).0, 0.0);
    // one below 0, one at it, two up to 2^0.25 and three up to 2^0.5
    let mixed = r#""count":"7","sum":21,"scale":2,"zeroCount":"1","positive":{"offset":0,"bucketCounts":["2",3]},
        "negative":{"bucketCounts":["1"]}"#;
    let (middle, high) = quantiles("exponentialHistogram", mixed);
    assert!(
        (1.0..1.19).contains(&middle) && (1.19..1.4143).contains(&high),
        "{middle} {high}"
    );
    let wide = r#""count":"10","sum":0.05,"scale":0,"zeroCount":"10","zeroThreshold":0.02"#;
    let (_, high) = quantiles("exponentialHistogram", wide);
    assert!((0.019..=0.02).contains(&high), "{high}");
    let explicit = r#""count":"10","sum":4.2,"bucketCounts":["5","3",2],"explicitBounds":[0.1,1]"#;
    assert_eq!(quantiles("histogram", explicit).0, 0.1);
}

#[test]
fn a_restart_that_only_the_start_time_shows_is_one() {
    let point = |start: u64, time: u64, counts: &str| {
        json_request(&format!(
            r#"{{"name":"m","histogram":{{"aggregationTemporality":2,"dataPoints":[{{"startTimeUnixNano":"{start}",
                "timeUnixNano":"{time}","count":"9","bucketCounts":{counts},"explicitBounds":[1]}}]}}}}"#
        ))
    };
    let mut decoder = json();
    json_lines(&mut decoder, &point(START, TIME, r#"["90","2"]"#)).unwrap();
    // each count is higher than it was, and yet all of it is new
    let later = point(TIME + SECOND, TIME + 30 * SECOND, r#"["95","30"]"#);
    let (_, lines) = json_lines(&mut decoder, &later).unwrap();
    let median = lines
        .iter()
        .find_map(|line| line.strip_prefix(r#"m{quantile="0.5"} "#))
        .unwrap();
    assert!(median.parse::<f64>().unwrap() <= 1.0, "{median}");
}

#[test]
fn json_points_without_a_finite_number_are_told_and_their_neighbours_stand() {
    const AT: &str = r#""timeUnixNano":"1661140279000000000""#;
    let good = format!(r#"{{{AT},"asDouble":6.0,"attributes":[{{"key":"k","value":{{"stringValue":"good"}}}}]}}"#);
    for (bad, rejected, without) in [
        (format!(r#"{{{AT},"asDouble":"NaN"}}"#), 1, 0),
        (format!(r#"{{{AT},"asDouble":"-Infinity"}}"#), 1, 0),
        (format!(r#"{{{AT}}}"#), 1, 0),
        (format!(r#"{{{AT},"flags":1}}"#), 0, 1),
        (r#"{"asDouble":1.0}"#.to_owned(), 1, 0),
    ] {
        let metric = format!(r#"{{"name":"m","gauge":{{"dataPoints":[{bad},{good}]}}}}"#);
        let (decoded, lines) = json_lines(&mut json(), &json_request(&metric)).unwrap();
        assert_eq!(lines, [r#"m{k="good"} 6"#], "{bad}");
        assert_eq!(
            (decoded.rejected.len(), decoded.without_value),
            (rejected, without),
            "{bad}"
        );
    }
    let unknown = json_request(r#"{"name":"m","guage":{"dataPoints":[]}}"#);
    let (decoded, _) = json_lines(&mut json(), &unknown).unwrap();
    assert_eq!(
        decoded.rejected[0].to_string(),
        "sample 0 of \"m\": `data` is missing: send a gauge, sum, histogram, exponentialHistogram or summary"
    );
}

#[test]
fn json_that_cannot_be_read_is_refused_with_its_place_and_never_taken_as_absent() {
    const AT: &str = r#""timeUnixNano":"1661140279000000000""#;
    for (metric, reason) in [
        (
            format!(r#"{{"name":"m","gauge":{{"dataPoints":[{{{AT},"asInt":"x"}}]}}}}"#),
            "\"x\" is no whole number of 64 bits",
        ),
        (
            format!(r#"{{"name":"m","gauge":{{"dataPoints":[{{{AT},"asInt":1.5}}]}}}}"#),
            "1.5 is no whole number",
        ),
        (
            format!(r#"{{"name":"m","gauge":{{"dataPoints":[{{{AT},"asDouble":{{}}}}]}}}}"#),
            "expected number",
        ),
        (
            r#"{"name":"m","gauge":{"dataPoints":{}}}"#.into(),
            "expected a sequence",
        ),
        (
            format!(r#"{{"name":"m","sum":{{"aggregationTemporality":"DELTA","dataPoints":[{{{AT},"asInt":1}}]}}}}"#),
            "\"DELTA\" is no aggregation temporality: write 1 or AGGREGATION_TEMPORALITY_DELTA",
        ),
        (
            format!(r#"{{"name":"m","exponentialHistogram":{{"dataPoints":[{{{AT},"zeroCount":"-9"}}]}}}}"#),
            "\"-9\" is no whole number from 0 up to 64 bits",
        ),
        (
            r#"{"name":"m","gauge":{"dataPoints":[]},"sum":{"dataPoints":[]}}"#.into(),
            "of two kinds at once",
        ),
        (
            format!(
                r#"{{"name":"m","gauge":{{"dataPoints":[{{{AT},"asInt":1,"attributes":[{{"key":"k","value":"v"}}]}}]}}}}"#
            ),
            "invalid type: string \"v\"",
        ),
    ] {
        let error = json_lines(&mut json(), &json_request(&metric)).unwrap_err();
        assert!(
            error.starts_with("no valid OTLP/JSON at byte ") && error.contains(reason),
            "{metric}: {error}"
        );
    }
    let older = r#"{"resourceMetrics":[{"instrumentationLibraryMetrics":[{"metrics":[]}]}]}"#;
    let error = json_lines(&mut json(), older).unwrap_err();
    assert!(error.contains("holds no `scopeMetrics` with `metrics`"), "{error}");
}
