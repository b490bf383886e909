//! Requests as Prometheus makes them, written by messages of prost's, which know nothing of what reads them here.

use prost::Message as _;

use super::*;
use crate::met::Met;

mod v1 {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct WriteRequest {
        #[prost(message, repeated, tag = "1")]
        pub(super) timeseries: Vec<TimeSeries>,
        #[prost(message, repeated, tag = "3")]
        pub(super) metadata: Vec<Metadata>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct TimeSeries {
        #[prost(message, repeated, tag = "1")]
        pub(super) labels: Vec<Label>,
        #[prost(message, repeated, tag = "2")]
        pub(super) samples: Vec<super::Sample>,
        #[prost(message, repeated, tag = "4")]
        pub(super) histograms: Vec<super::Native>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Label {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(string, tag = "2")]
        pub(super) value: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Metadata {
        #[prost(int32, tag = "1")]
        pub(super) kind: i32,
        #[prost(string, tag = "2")]
        pub(super) metric_family_name: String,
        #[prost(string, tag = "4")]
        pub(super) help: String,
    }
}

mod v2 {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Request {
        #[prost(string, repeated, tag = "4")]
        pub(super) symbols: Vec<String>,
        #[prost(message, repeated, tag = "5")]
        pub(super) timeseries: Vec<TimeSeries>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct TimeSeries {
        #[prost(uint32, repeated, tag = "1")]
        pub(super) labels_refs: Vec<u32>,
        #[prost(message, repeated, tag = "2")]
        pub(super) samples: Vec<super::Sample>,
        #[prost(message, repeated, tag = "3")]
        pub(super) histograms: Vec<super::Native>,
        #[prost(message, optional, tag = "5")]
        pub(super) metadata: Option<Metadata>,
        #[prost(int64, tag = "6")]
        pub(super) created_timestamp: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Metadata {
        #[prost(int32, tag = "1")]
        pub(super) kind: i32,
        #[prost(uint32, tag = "3")]
        pub(super) help_ref: u32,
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Span {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Native {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "3")]
    sum: f64,
    #[prost(sint32, tag = "4")]
    schema: i32,
    #[prost(uint64, tag = "6")]
    zero_count: u64,
    #[prost(message, repeated, tag = "11")]
    positive_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "12")]
    positive_deltas: Vec<i64>,
    #[prost(int64, tag = "15")]
    timestamp: i64,
    #[prost(double, repeated, tag = "16")]
    custom_values: Vec<f64>,
}

const AT: i64 = 1_661_140_279_000;
const COUNTER: PointKind = PointKind::Cumulative { monotonic: true };
const PLAIN: PointKind = PointKind::Unspecified;

type Line = (i64, String, f64, PointKind);

fn pack(message: &impl prost::Message) -> Vec<u8> {
    snap::raw::Encoder::new()
        .compress_vec(&message.encode_to_vec())
        .unwrap()
}

fn read_with(decoder: &mut Decoder, bytes: &[u8]) -> (Result<Decoded, DecodeError>, Vec<Line>) {
    let mut lines = Vec::new();
    let result = decoder.decode(bytes, &mut |sample: SampleRef<'_>| {
        let key = sample.key().unwrap();
        assert_eq!(key.hash64(), sample.hash);
        lines.push((sample.ts.as_millis(), key.to_string(), sample.value, sample.kind));
    });
    (result, lines)
}

fn read(bytes: &[u8]) -> (Result<Decoded, DecodeError>, Vec<Line>) {
    read_with(&mut Decoder::default(), bytes)
}

fn series(labels: &[(&str, &str)], values: &[f64]) -> v1::TimeSeries {
    let label = |(name, value): &(&str, &str)| v1::Label {
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    };
    v1::TimeSeries {
        labels: labels.iter().map(label).collect(),
        samples: (0..)
            .zip(values)
            .map(|(i, value)| Sample {
                value: *value,
                timestamp: AT + i * 15_000,
            })
            .collect(),
        histograms: Vec::new(),
    }
}

fn first_request() -> v1::WriteRequest {
    v1::WriteRequest {
        timeseries: vec![
            series(
                &[("__name__", "http_requests_total"), ("code", "500"), ("job", "cart")],
                &[1027.0, 1030.0],
            ),
            series(
                &[
                    ("__name__", "http_request_duration_seconds_bucket"),
                    ("job", "cart"),
                    ("le", "0.1"),
                ],
                &[7.0],
            ),
            series(&[("__name__", "queue"), ("empty", ""), ("job", "cart")], &[-3.5]),
            series(&[("__name__", "jobs_count"), ("job", "cart")], &[4.0]),
        ],
        metadata: vec![v1::Metadata {
            kind: 2,
            metric_family_name: "jobs_count".into(),
            help: "Jobs.".into(),
        }],
    }
}

fn second_request() -> v2::Request {
    let symbols = ["", "__name__", "work_done", "job", "cart", "Work.", "temperature"];
    let of = |labels_refs: &[u32], kind, value| v2::TimeSeries {
        labels_refs: labels_refs.to_vec(),
        samples: vec![Sample { value, timestamp: AT }],
        histograms: Vec::new(),
        metadata: Some(v2::Metadata { kind, help_ref: 5 }),
        created_timestamp: AT - 60_000,
    };
    v2::Request {
        symbols: symbols.map(str::to_owned).to_vec(),
        timeseries: vec![of(&[1, 2, 3, 4], 1, 12.0), of(&[1, 6, 3, 4], 2, 21.5)],
    }
}

fn line(ts: i64, series: &str, value: f64, kind: PointKind) -> Line {
    (ts, series.to_owned(), value, kind)
}

#[test]
fn version_1_is_read_with_its_kinds_by_metadata_and_name() {
    let (decoded, lines) = read(&pack(&first_request()));
    assert_eq!(
        lines,
        [
            line(AT, r#"http_requests_total{code="500", job="cart"}"#, 1027.0, COUNTER),
            line(
                AT + 15_000,
                r#"http_requests_total{code="500", job="cart"}"#,
                1030.0,
                COUNTER
            ),
            line(
                AT,
                r#"http_request_duration_seconds_bucket{job="cart", le="0.1"}"#,
                7.0,
                COUNTER
            ),
            line(AT, r#"queue{job="cart"}"#, -3.5, PLAIN),
            line(AT, r#"jobs_count{job="cart"}"#, 4.0, PointKind::Gauge),
        ]
    );
    assert_eq!(decoded.unwrap().accepted, 5);
}

#[test]
fn version_2_is_read_by_its_symbols_metadata_and_start_times() {
    let bytes = pack(&second_request());
    let (decoded, lines) = read(&bytes);
    assert_eq!(
        lines,
        [
            line(AT, r#"work_done{job="cart"}"#, 12.0, COUNTER),
            line(AT, r#"temperature{job="cart"}"#, 21.5, PointKind::Gauge),
        ]
    );
    assert_eq!(decoded.unwrap().accepted, 2);
    let mut starts = Vec::new();
    Decoder::default()
        .decode(&bytes, &mut |sample: SampleRef<'_>| starts.push(sample.start))
        .unwrap();
    assert_eq!(starts, [Some(Timestamp::from_millis(AT - 60_000)); 2]);
    assert_eq!(
        (is_request(&bytes), is_request(&pack(&first_request()))),
        (Ok("2"), Ok("1"))
    );
}

#[test]
fn native_histograms_are_counted_and_told_by_their_quantiles() {
    // schema 0: bucket i holds what is above 2^(i-1) and up to 2^i
    let at = |timestamp, deltas: &[i64], count| {
        let native = Native {
            count,
            sum: 20.0,
            schema: 0,
            zero_count: 0,
            positive_spans: vec![Span { offset: 2, length: 2 }, Span { offset: 1, length: 1 }],
            positive_deltas: deltas.to_vec(),
            timestamp,
            custom_values: Vec::new(),
        };
        let mut request = first_request();
        request.timeseries = vec![v1::TimeSeries {
            histograms: vec![native],
            ..series(&[("__name__", "latency"), ("job", "cart")], &[])
        }];
        pack(&request)
    };
    let mut decoder = Decoder::default();
    let (_, lines) = read_with(&mut decoder, &at(AT, &[1, 1, -1], 4));
    assert_eq!(
        lines,
        [
            line(AT, r#"latency_count{job="cart"}"#, 4.0, COUNTER),
            line(AT, r#"latency_sum{job="cart"}"#, 20.0, COUNTER)
        ]
    );
    // ten more, all of them above 2 and up to 4
    let (decoded, lines) = read_with(&mut decoder, &at(AT + 1, &[11, -9, -1], 14));
    assert_eq!(decoded.unwrap().accepted, 5);
    assert_eq!(lines[2].1, r#"latency{job="cart", quantile="0.5"}"#);
    assert!((lines[2].2 - 8f64.sqrt()).abs() < 1e-9, "{}", lines[2].2);
    let kept = decoder.memory();
    assert_eq!(kept.len(), 1);

    let mut custom = first_request();
    let native = Native {
        count: 4,
        sum: 20.0,
        schema: -53,
        positive_spans: vec![Span { offset: 0, length: 3 }],
        positive_deltas: vec![1, 1, -2],
        timestamp: AT,
        custom_values: vec![1.0, 5.0],
        ..Native::default()
    };
    let of = |native| v1::TimeSeries {
        histograms: vec![native],
        ..series(&[("__name__", "latency")], &[])
    };
    custom.timeseries = vec![of(native.clone())];
    assert_eq!(read(&pack(&custom)).1.len(), 2);
    let far = Span {
        offset: 0,
        length: u32::MAX,
    };
    custom.timeseries = vec![of(Native {
        positive_spans: vec![far],
        ..native
    })];
    assert_eq!(
        read(&pack(&custom)).0.unwrap_err().to_string(),
        "`spans` is more buckets than there are counts: send native histograms as Prometheus does"
    );
}

#[test]
fn an_end_is_no_value_and_what_is_wrong_is_told() {
    let mut request = first_request();
    request.timeseries[0].samples[0].value = f64::from_bits(STALE);
    request.timeseries[1].labels.remove(0);
    request.timeseries[2].samples[0].value = f64::INFINITY;
    request.timeseries[3].samples[0].timestamp = i64::MAX;
    let (decoded, lines) = read(&pack(&request));
    let decoded = decoded.unwrap();
    assert_eq!((decoded.accepted, decoded.without_value, lines.len()), (1, 1, 1));
    assert_eq!(
        decoded.rejected.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "sample 2: `__name__` is missing: name what is measured by a label",
            "sample 3 of \"queue\": `value` is inf: send a finite number",
            "sample 4 of \"jobs_count\": `timestamp` is 9223372036854775807: send milliseconds since the epoch",
        ]
    );
    let mut request = second_request();
    request.timeseries.truncate(1);
    request.timeseries[0].labels_refs[1] = 99;
    assert_eq!(
        read(&pack(&request)).0.unwrap_err().to_string(),
        "`labels_refs` is 99 of 7 symbols: send a symbol for each reference"
    );
}

#[test]
fn a_record_of_something_else_is_refused() {
    let huge = [0xff, 0xff, 0xff, 0xff, 0x0f, 0x00];
    for (bytes, expected) in [
        (
            b"".as_slice(),
            "the record is empty, where Prometheus remote write was expected",
        ),
        (
            br#"{"ts": 1}"#,
            "no valid Prometheus remote write at byte 0: no block of Snappy (this looks like JSON: check `format` of the topic): 9 bytes cannot unpack to 123",
        ),
        (
            &huge,
            "no valid Prometheus remote write at byte 0: no block of Snappy: 6 bytes cannot unpack to 4294967295",
        ),
    ] {
        let error = read(bytes).0.unwrap_err().to_string();
        assert!(error.starts_with(expected.split("): ").next().unwrap()), "{error}");
    }
    let other = pack(&v1::Label {
        name: String::new(),
        value: "2".into(),
    });
    assert_eq!(
        read(&other).0.unwrap_err().to_string(),
        "no valid Prometheus remote write: neither series nor metadata are in it"
    );
    let mut plain = first_request().encode_to_vec();
    plain.truncate(plain.len() - 3);
    let cut = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
    assert!(matches!(read(&cut).0, Err(DecodeError::Truncated { .. })));
}

#[test]
fn no_corruption_goes_without_a_word() {
    let fresh = Decoder::default;
    crate::corrupt::nothing_is_lost_silently(fresh, &pack(&first_request()), false);
    crate::corrupt::nothing_is_lost_silently(fresh, &pack(&second_request()), false);
}

#[test]
fn a_series_that_was_met_is_known_whatever_its_symbols_places() {
    let mut met = Met::default();
    let mut decoder = Decoder::default();
    decoder.decode(&pack(&first_request()), &mut met).unwrap();
    decoder.decode(&pack(&first_request()), &mut met).unwrap();
    assert_eq!((met.series.len(), met.known), (4, 1 + 5));
    let mut met = Met::default();
    let mut request = second_request();
    decoder.decode(&pack(&request), &mut met).unwrap();
    request.symbols.swap(2, 6);
    decoder.decode(&pack(&request), &mut met).unwrap();
    let names = met.names();
    assert_eq!(
        (names, met.known),
        (vec![r#"work_done{job="cart"}"#, r#"temperature{job="cart"}"#], 2)
    );
}

#[test]
fn a_record_of_too_many_samples_is_taken_up_to_the_bound() {
    let limits = Limits {
        samples: 3,
        ..Limits::default()
    };
    let (decoded, lines) = read_with(&mut Decoder::new(limits), &pack(&first_request()));
    let rejected = decoded.unwrap().rejected;
    assert_eq!((lines.len(), rejected.len()), (3, 1));
    assert_eq!(
        rejected[0].error.to_string(),
        "samples in one record: 4, at most 3 are taken; send less or raise `limits.samples`"
    );
}
