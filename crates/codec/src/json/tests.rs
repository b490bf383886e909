//! What a user sees for good samples and bad ones.

use proptest::prelude::*;

use suture_event::{Labels, Timestamp};

use super::*;
use crate::{RawKey, SampleRef};

fn decode_with(limits: Limits, bytes: &[u8]) -> (Result<Decoded, DecodeError>, Vec<Sample>) {
    let mut samples = Vec::new();
    let result = Decoder::new(limits).decode(bytes, &mut |sample: SampleRef<'_>| {
        assert_eq!(sample.hash, sample.key().unwrap().hash64());
        samples.push(sample.to_sample().unwrap());
    });
    // a sink that knows the series already must find the same
    let (mut sink, mut decoder) = (Remembering::default(), Decoder::new(limits));
    for _ in 0..2 {
        sink.samples.clear();
        assert_eq!(decoder.decode(bytes, &mut sink), result);
        assert_eq!(sink.samples, samples);
    }
    (result, samples)
}

/// Remembers series by their keys.
#[derive(Default)]
struct Remembering {
    series: std::collections::HashMap<u128, Sample>,
    samples: Vec<Sample>,
    known: usize,
}

impl Sink for Remembering {
    fn known(&mut self, key: RawKey, ts: Timestamp, value: f64) -> bool {
        let Some(series) = self.series.get(&key.0) else {
            return false;
        };
        self.known += 1;
        self.samples.push(Sample {
            ts,
            value,
            ..series.clone()
        });
        true
    }

    fn sample(&mut self, sample: SampleRef<'_>, key: Option<RawKey>) {
        let sample = sample.to_sample().unwrap();
        if let Some(key) = key {
            self.series.insert(key.0, sample.clone());
        }
        self.samples.push(sample);
    }
}

#[test]
fn a_series_written_plainly_is_read_once_and_then_known() {
    let (mut sink, mut decoder) = (Remembering::default(), Decoder::default());
    let one =
        |ts: i64, host: &str| format!(r#"{{"ts":{ts},"metric":"cpu","value":{ts}.5,"labels":{{"host":"{host}"}}}}"#);
    for ts in 0..4 {
        for host in ["a", "b"] {
            decoder.decode(one(ts, host).as_bytes(), &mut sink).unwrap();
        }
    }
    assert_eq!((sink.known, sink.series.len()), (6, 2));
    let array = format!("[ {} , {},{}]\n", one(7, "b"), one(8, "c"), one(9, "a"));
    decoder.decode(array.as_bytes(), &mut sink).unwrap();
    assert_eq!((sink.known, sink.series.len()), (8, 3));
    // otherwise written, it is another key for the same series
    let spaced = r#"{"labels": {"host": "a"}, "ts": 9, "metric": "cpu", "value": 9.5}"#;
    decoder.decode(spaced.as_bytes(), &mut sink).unwrap();
    assert_eq!((sink.known, sink.series.len()), (8, 4));
    assert_eq!(sink.samples.last(), Some(&sample(9, "cpu", 9.5, &[("host", "a")])));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_remembered_never_changes_what_is_read(
        records in prop::collection::vec(
            (
                prop::sample::select(vec!["a", "b}", r#"a\""#, r"\u0061", "", "},", "}}", "\u{7f}", "\t"]),
                prop::sample::select(vec![
                    r#"{"a":"b"}"#, r#"{"a":"}"}"#, r#"{"a":"b}"#, r#"{"a":"},"}"#, r#"{"},":"b"}"#, r#"{"a":"b","a":"c"}"#,
                    r#"{"a":"b\""}"#, r#"{"a":"}\""}"#, r#"{"a":1}"#, r#"{"a":{}}"#, "{}", "null", r#"{"a" :"b"}"#, r#"{"a":"b",}"#,
                    r#"{"a":"},\"value\":5,\"x\":{"}"#,
                ]),
                prop::sample::select(vec!["1", "1.5", "-0", "-0.0", "1e3", "01", "0.1", "12345678901234567890", "x", "-"]),
                prop::sample::select(vec!["", " ", "}", "]", ",", "{"]),
                any::<bool>(),
                any::<bool>(),
            ),
            1..12,
        ),
    ) {
        let (mut sink, mut remembering) = (Remembering::default(), Decoder::default());
        for (metric, labels, value, after, first, array) in records {
            let labels = format!(r#""labels":{labels}"#);
            let rest = format!(r#""ts":1,"metric":"{metric}","value":{value}"#);
            let (one, two) = if first { (&labels, &rest) } else { (&rest, &labels) };
            let mut text = format!("{{{one},{two}}}{after}");
            if array {
                text = format!("[{text},{text}]");
            }
            sink.samples.clear();
            let found = remembering.decode(text.as_bytes(), &mut sink);
            let mut samples = Vec::new();
            let expected = Decoder::default().decode(text.as_bytes(), &mut |s: SampleRef<'_>| samples.push(s.to_sample().unwrap()));
            prop_assert_eq!(found, expected, "{}", text);
            prop_assert_eq!(&sink.samples, &samples, "{}", text);
        }
    }
}

fn decode(text: &str) -> (Result<Decoded, DecodeError>, Vec<Sample>) {
    decode_with(Limits::default(), text.as_bytes())
}

fn sample(ts: i64, metric: &str, value: f64, labels: &[(&str, &str)]) -> Sample {
    let labels = Labels::new(labels.iter().copied()).unwrap();
    Sample {
        ts: Timestamp::from_millis(ts),
        metric: metric.into(),
        value,
        labels,
    }
}

#[test]
fn samples_are_read_as_the_contract_writes_them() {
    for (text, expected) in [
        (
            r#"{"ts": 1661140279000, "metric": "CpuUsage(m)", "value": 1.76, "labels": {"service": "ad", "pod": "ad-5"}}"#,
            sample(
                1_661_140_279_000,
                "CpuUsage(m)",
                1.76,
                &[("pod", "ad-5"), ("service", "ad")],
            ),
        ),
        (
            r#"{"value":3,"metric":"m","ts":"1970-01-01T00:00:01Z"}"#,
            sample(1_000, "m", 3.0, &[]),
        ),
        (
            r#"{"ts":1000.4,"metric":"m","value":-1e3,"labels":null,"more":[{}]}"#,
            sample(1_000, "m", -1_000.0, &[]),
        ),
        (
            r#"{"ts":1,"metric":"m","value":1,"labels":{"shard":3,"canary":true,"share":0.5,"none":null}}"#,
            sample(1, "m", 1.0, &[("canary", "true"), ("shard", "3"), ("share", "0.5")]),
        ),
        (
            r#"{"ts":1,"metric":"a\"\u00e9","value":1,"labels":{"\n":"\\"}}"#,
            sample(1, "a\"é", 1.0, &[("\n", "\\")]),
        ),
        (
            r#"{"ts":1,"metric":"m","value":18446744073709551615}"#,
            sample(1, "m", 18_446_744_073_709_551_615.0, &[]),
        ),
    ] {
        let (result, samples) = decode(text);
        assert_eq!(result.unwrap().accepted, 1, "{text}");
        assert_eq!(samples, [expected], "{text}");
    }
}

#[test]
fn a_bad_sample_is_refused_with_what_to_do() {
    for (text, expected) in [
        ("", "the record is empty, where JSON was expected"),
        (" \n", "the record is empty, where JSON was expected"),
        (
            "hello",
            "no valid JSON at byte 0: neither an object nor an array: write one sample or an array of samples",
        ),
        (
            r#"{"ts": 1, "metric": "m", "value": NaN}"#,
            "`value` is NaN: write a finite number, or leave the sample out",
        ),
        (
            r#"{"ts": 1, "metric": "m", "value": -Infinity}"#,
            "`value` is -Infinity: write a finite number, or leave the sample out",
        ),
        (
            r#"{"ts": 1, "metric": "m", "value": null}"#,
            "`value` is null: write a finite number, without quotes",
        ),
        (
            r#"{"ts": 1, "metric": "m", "value": "NaN"}"#,
            "`value` is the text \"NaN\": write a finite number, without quotes",
        ),
        (
            r#"{"ts": 1, "metric": "m"}"#,
            "`value` is missing: write what was measured, a number",
        ),
        (
            r#"{"metric": "m", "value": 1}"#,
            "`ts` is missing: say when it was measured, in milliseconds since the epoch or as RFC 3339",
        ),
        (
            r#"{"ts": "yesterday", "metric": "m", "value": 1}"#,
            "`ts` is the text \"yesterday\": write milliseconds since the epoch or RFC 3339, such as 2022-08-22T03:54:00Z",
        ),
        (
            r#"{"ts": 1e300, "metric": "m", "value": 1}"#,
            "`ts` is the number 1e300: write milliseconds since the epoch or RFC 3339, such as 2022-08-22T03:54:00Z",
        ),
        (r#"{"ts": 1, "value": 1}"#, "`metric` is missing: name what is measured"),
        (
            r#"{"ts": 1, "metric": "", "value": 1}"#,
            "`metric` is empty: name what is measured",
        ),
        (
            r#"{"ts": 1, "metric": 7, "value": 1}"#,
            "`metric` is the number 7: write the metric's name as a text",
        ),
        (
            r#"{"ts": 1, "metric": "m", "value": 1, "labels": {"a": {"b": 1}}}"#,
            "`labels.a` is an object: write a text",
        ),
        (
            r#"{"ts": 1, "metric": "m", "value": 1, "labels": ["a"]}"#,
            "`labels` is an array: write an object of label names and texts",
        ),
        (
            r#"{"ts": 1, "metric": "m", "value": 1, "labels": {"": "x"}}"#,
            "`labels` is given an empty name: name every label",
        ),
        (
            r#"{"ts": 1, "metric": "m", "value": 1, "labels": {"a": "1", "a": "2"}}"#,
            "label \"a\" is given twice: keep one",
        ),
        (
            r#"{"ts": 1, "metric": "m", "val"#,
            "the JSON breaks off after 29 bytes: its producer, or a size limit on the way, cut it short",
        ),
        (
            r#"{"resourceMetrics": []}"#,
            "`resourceMetrics` is a field of OTLP/JSON: set `format: otlp_json` for this topic",
        ),
    ] {
        let (result, samples) = decode(text);
        assert_eq!(result.unwrap_err().to_string(), expected, "{text}");
        assert!(samples.is_empty());
    }
    let (trailing, samples) = decode("{\"ts\": 1, \"metric\": \"m\", \"value\": 1} {\"ts\": 2}");
    assert!(
        trailing.unwrap_err().to_string().starts_with("no valid JSON at byte "),
        "two objects in a record"
    );
    assert!(samples.is_empty());
}

#[test]
fn several_samples_may_be_joined_by_line_ends() {
    let text = "{\"ts\": 1, \"metric\": \"a\", \"value\": 1}\n{\"ts\": 2}\r\n\n{\"ts\": 3, \"metric\": \"b\",\n \"value\": 3}\n{\"ts\": 4, \"metric\": \"c\" 4}\n";
    let (decoded, samples) = decode(text);
    let decoded = decoded.unwrap();
    assert_eq!(samples, [sample(1, "a", 1.0, &[]), sample(3, "b", 3.0, &[])]);
    let rejected: Vec<String> = decoded.rejected.iter().map(ToString::to_string).collect();
    assert_eq!(
        rejected[0],
        "sample 1 at byte 37: `metric` is missing: name what is measured"
    );
    assert!(
        rejected[1].starts_with("sample 3 at byte 87 of \"c\": no valid JSON at byte "),
        "{}",
        rejected[1]
    );
    assert_eq!((decoded.accepted, rejected.len()), (2, 2));
}

#[test]
fn ten_thousand_labels_are_refused_and_named() {
    let labels: Vec<String> = (0..10_000).map(|i| format!("\"l{i}\": \"x\"")).collect();
    let text = format!(
        r#"{{"ts": 1, "metric": "m", "value": 1, "labels": {{{}}}}}"#,
        labels.join(",")
    );
    let expected = "labels of one series: 10000, at most 64 are taken; send less or raise `limits.labels`";
    assert_eq!(decode(&text).0.unwrap_err().to_string(), expected);
    let (result, samples) = decode_with(
        Limits {
            labels: 10_000,
            ..Limits::default()
        },
        text.as_bytes(),
    );
    assert_eq!(result.unwrap().accepted, 1);
    assert_eq!(samples[0].labels.len(), 10_000);
}

#[test]
fn names_and_values_are_bounded() {
    let limits = Limits {
        name_bytes: 4,
        value_bytes: 3,
        ..Limits::default()
    };
    for (text, expected) in [
        (
            r#"{"ts":1,"metric":"m2345","value":1}"#,
            "bytes in the metric's name \"m2345\": 5, at most 4 are taken; send less or raise `limits.name_bytes`",
        ),
        (
            r#"{"ts":1,"metric":"m","value":1,"labels":{"l2345":"x"}}"#,
            "bytes in a label's name \"l2345\": 5, at most 4 are taken; send less or raise `limits.name_bytes`",
        ),
        (
            r#"{"ts":1,"metric":"m","value":1,"labels":{"l":"wxyz"}}"#,
            "bytes in the value of label \"l\": 4, at most 3 are taken; send less or raise `limits.value_bytes`",
        ),
    ] {
        assert_eq!(
            decode_with(limits, text.as_bytes()).0.unwrap_err().to_string(),
            expected
        );
    }
    assert_eq!(
        decode_with(limits, br#"{"ts":1,"metric":"m234","value":1,"labels":{"l":"xyz"}}"#)
            .0
            .unwrap()
            .accepted,
        1
    );
}

#[test]
fn one_bad_element_does_not_cost_the_others() {
    let good = |n: usize| format!(r#"{{"ts":{n},"metric":"m","value":{n}}}"#);
    for (bad, expected) in [
        (
            "{\"ts\":1,\"metric\":\"cpu\",\"value\":NaN}",
            "sample 1 at byte 36 of \"cpu\": `value` is NaN: write a finite number, or leave the sample out",
        ),
        (
            "{\"ts\":1,\"metric\":\"cpu\",\"value\":null}",
            "sample 1 at byte 36 of \"cpu\": `value` is null: write a finite number, without quotes",
        ),
        (
            "7",
            "sample 1 at byte 36: `sample` is the number 7: write an object with ts, metric, value and labels",
        ),
        (
            "[[]]",
            "sample 1 at byte 36: `sample` is an array: write an object with ts, metric, value and labels",
        ),
        (
            "",
            "sample 1 at byte 36: no valid JSON at byte 36: nothing between two commas: write a sample or drop the comma",
        ),
        (
            "{\"metric\":\"cpu\",\"value\":1}",
            "sample 1 at byte 36 of \"cpu\": `ts` is missing: say when it was measured, in milliseconds since the epoch or as RFC 3339",
        ),
    ] {
        let text = format!("[ {} , {bad}, {} ]", good(5), good(6));
        let (result, samples) = decode(&text);
        let decoded = result.unwrap();
        assert_eq!(samples, [sample(5, "m", 5.0, &[]), sample(6, "m", 6.0, &[])], "{text}");
        assert_eq!(decoded.rejected.len(), 1, "{text}");
        assert_eq!(decoded.rejected[0].to_string(), expected, "{text}");
    }
}

#[test]
fn a_cut_array_keeps_what_came_before_the_cut() {
    let (result, samples) = decode(r#"[{"ts":1,"metric":"m","value":1},{"ts":2,"metric":"m","va"#);
    assert_eq!(samples, [sample(1, "m", 1.0, &[])]);
    let rejected = result.unwrap().rejected;
    assert_eq!(
        (rejected[0].index, rejected[0].at, rejected[0].error.code()),
        (1, Some(33), "truncated")
    );
}

#[test]
fn an_element_that_is_not_utf_8_does_not_cost_the_others() {
    let bytes = b"[{\"ts\":1,\"metric\":\"m\",\"value\":1},{\"ts\":1,\"metric\":\"\xff\",\"value\":1},{\"ts\":3,\"metric\":\"m\",\"value\":1}]";
    let (result, samples) = decode_with(Limits::default(), bytes);
    assert_eq!(samples.len(), 2);
    let rejected = result.unwrap().rejected;
    assert_eq!(
        rejected[0].error.to_string(),
        "no valid JSON at byte 51: not UTF-8: write JSON as UTF-8"
    );
}

#[test]
fn samples_beyond_the_bound_are_reported_once() {
    let one = r#"{"ts":1,"metric":"m","value":1}"#;
    let limits = Limits {
        samples: 2,
        ..Limits::default()
    };
    for (count, accepted, rejected) in [(2, 2, 0), (3, 2, 1), (50, 2, 1)] {
        let text = format!("[{}]", vec![one; count].join(","));
        let decoded = decode_with(limits, text.as_bytes()).0.unwrap();
        assert_eq!(
            (decoded.accepted, decoded.rejected.len()),
            (accepted, rejected),
            "{count}"
        );
    }
    let text = format!("[{one},NaN,{one},{one}]");
    let decoded = decode_with(limits, text.as_bytes()).0.unwrap();
    let codes: Vec<&str> = decoded.rejected.iter().map(|r| r.error.code()).collect();
    assert_eq!((decoded.accepted, codes), (1, vec!["unfit_field", "too_large"]));
}

#[test]
fn odd_arrays() {
    assert_eq!(decode("[]").0.unwrap(), Decoded::default());
    assert_eq!(decode(" [ ] ").0.unwrap(), Decoded::default());
    let rejected = decode("[] []").0.unwrap().rejected;
    assert_eq!(
        rejected[0].error.to_string(),
        "no valid JSON at byte 3: more follows after the array: write one array a record"
    );
}

#[test]
fn depth_is_bounded() {
    for deep in [
        "[".repeat(100_000),
        "[".repeat(100_000) + &"]".repeat(100_000),
        "[{\"a\":".repeat(100_000),
    ] {
        assert_eq!(decode(&deep).0.unwrap().rejected.len(), 1);
        for field in ["labels", "metric", "more"] {
            let text = format!(r#"{{"ts":1,"metric":"m","value":1,"{field}":{deep}}}"#);
            assert!(matches!(
                decode(&text).0,
                Err(DecodeError::Malformed { .. } | DecodeError::Truncated { .. })
            ));
        }
    }
}

fn any_sample() -> impl Strategy<Value = Sample> {
    let labels = proptest::collection::btree_map("\\PC{1,8}", "\\PC{0,8}", 0..6);
    let value = prop_oneof![
        any::<f64>().prop_filter("finite", |v| v.is_finite()),
        Just(0.1),
        Just(-0.0)
    ];
    (
        -62_135_596_800_000_i64..253_402_207_200_000,
        "\\PC{1,12}",
        value,
        labels,
    )
        .prop_map(|(ts, metric, value, labels)| Sample {
            ts: Timestamp::from_millis(ts),
            metric: metric.into(),
            value,
            labels: Labels::new(labels).unwrap(),
        })
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(samples in proptest::collection::vec(any_sample(), 1..4)) {
        let texts: Vec<Vec<u8>> = samples.iter().map(|s| encode(s).unwrap()).collect();
        for (text, sample) in texts.iter().zip(&samples) {
            let (result, read) = decode_with(Limits::default(), text);
            prop_assert_eq!(result.unwrap().accepted, 1);
            prop_assert_eq!(&read[..], std::slice::from_ref(sample));
        }
        let array = [b"[".as_slice(), &texts.join(&b','), b"]"].concat();
        prop_assert_eq!(&decode_with(Limits::default(), &array).1, &samples);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_with(Limits::default(), &bytes);
        let _ = decode_with(Limits::default(), &[b"[{\"ts\":1,", bytes.as_slice()].concat());
    }

    #[test]
    fn no_mutilated_array_makes_it_panic(
        samples in proptest::collection::vec(any_sample(), 1..4), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>(),
    ) {
        let texts: Vec<Vec<u8>> = samples.iter().map(|s| encode(s).unwrap()).collect();
        let mut array = [b"[".as_slice(), &texts.join(&b','), b"]"].concat();
        let at = at.index(array.len());
        array[at] = byte;
        array.truncate(cut.index(array.len()) + 1);
        let _ = decode_with(Limits { samples: 2, ..Limits::default() }, &array);
    }
}

#[test]
fn a_number_that_is_not_finite_is_not_written() {
    let error = encode(&sample(1, "m", f64::NAN, &[])).unwrap_err().to_string();
    assert_eq!(
        error,
        "`value` of sample of \"m\" is NaN, which JSON cannot hold: it must be a finite number"
    );
}
