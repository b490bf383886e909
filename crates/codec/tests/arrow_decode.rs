//! Streams as producers write them, and as they should not.

// what goes wrong here is a failed test
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{collections::HashMap, sync::Arc};

use arrow_array::{
    ArrayRef, BooleanArray, DictionaryArray, Float32Array, Float64Array, Int32Array, Int64Array, LargeStringArray,
    ListArray, RecordBatch, StringArray, StringViewArray, TimestampMicrosecondArray, TimestampMillisecondArray,
    TimestampNanosecondArray, TimestampSecondArray,
    builder::{MapBuilder, StringBuilder},
    types::{Int8Type, Int32Type, UInt16Type},
};
use arrow_ipc::writer::{FileWriter, StreamWriter};
use proptest::prelude::*;
use suture_codec::{DecodeError, Decoded, Limits, RawKey, SampleRef, Sink, TelemetryDecoder as _, arrow::Decoder};
use suture_event::{Sample, Timestamp};

fn stream(batches: &[RecordBatch]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &batches[0].schema()).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.finish().unwrap();
    drop(writer);
    bytes
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
}

fn texts(texts: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(texts.to_vec()))
}

fn millis(at: &[i64]) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from(at.to_vec()))
}

fn numbers(numbers: &[f64]) -> ArrayRef {
    Arc::new(Float64Array::from(numbers.to_vec()))
}

fn decode_within(limits: Limits, bytes: &[u8]) -> (Result<Decoded, DecodeError>, Vec<Sample>) {
    let mut samples = Vec::new();
    let mut sink = |sample: SampleRef<'_>| {
        assert_eq!(sample.hash, sample.key().unwrap().hash64());
        samples.push(sample.to_sample().unwrap());
    };
    let decoded = Decoder::new(limits).decode(bytes, &mut sink);
    (decoded, samples)
}

fn decode(bytes: &[u8]) -> (Result<Decoded, DecodeError>, Vec<Sample>) {
    decode_within(Limits::default(), bytes)
}

fn reason(bytes: &[u8]) -> String {
    decode(bytes).0.unwrap_err().to_string()
}

fn json(samples: &[Sample]) -> Vec<String> {
    samples
        .iter()
        .map(|sample| serde_json::to_string(sample).unwrap())
        .collect()
}

#[test]
fn labels_come_from_a_map_or_from_columns() {
    let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for labels in [
        &[("service", Some("cart")), ("pod", Some("a"))][..],
        &[("pod", None)],
        &[],
    ] {
        for (name, value) in labels {
            map.keys().append_value(name);
            map.values().append_option(*value);
        }
        map.append(true).unwrap();
    }
    let names = [Some("cpu"), Some("cpu"), Some("mem")];
    let by_map = stream(&[batch(vec![
        ("ts", millis(&[1_000, 2_000, 3_000])),
        ("metric", texts(&["cpu", "cpu", "mem"])),
        ("value", numbers(&[1.0, 2.0, 3.5])),
        ("labels", Arc::new(map.finish())),
    ])]);
    let by_columns = stream(&[batch(vec![
        (
            "labels.pod",
            Arc::new(StringViewArray::from(vec![Some("a"), None, None])),
        ),
        ("value", numbers(&[1.0, 2.0, 3.5])),
        ("weight", Arc::new(BooleanArray::from(vec![true, false, true]))),
        (
            "metric",
            Arc::new(names.into_iter().collect::<DictionaryArray<Int8Type>>()),
        ),
        (
            "service",
            Arc::new(
                [Some("cart"), None, None]
                    .into_iter()
                    .collect::<DictionaryArray<UInt16Type>>(),
            ),
        ),
        ("ts", millis(&[1_000, 2_000, 3_000])),
    ])]);
    let expected = [
        r#"{"ts":"1970-01-01T00:00:01Z","metric":"cpu","value":1.0,"labels":{"pod":"a","service":"cart"}}"#,
        r#"{"ts":"1970-01-01T00:00:02Z","metric":"cpu","value":2.0}"#,
        r#"{"ts":"1970-01-01T00:00:03Z","metric":"mem","value":3.5}"#,
    ];
    for bytes in [by_map, by_columns] {
        let (decoded, samples) = decode(&bytes);
        let wanted: Vec<Sample> = expected
            .iter()
            .map(|text| serde_json::from_str(text).unwrap())
            .collect();
        assert_eq!(json(&samples), json(&wanted));
        let decoded = decoded.unwrap();
        assert_eq!((decoded.accepted, decoded.rejected.len()), (3, 0));
    }
}

#[test]
fn times_of_every_unit_and_values_of_every_width() {
    let at = 1_661_140_279_000_i64;
    let times: [ArrayRef; 5] = [
        Arc::new(TimestampSecondArray::from(vec![at / 1_000])),
        Arc::new(TimestampMillisecondArray::from(vec![at]).with_timezone("Europe/Berlin")),
        Arc::new(TimestampMicrosecondArray::from(vec![at * 1_000 + 999])),
        Arc::new(TimestampNanosecondArray::from(vec![at * 1_000_000 + 999_999])),
        Arc::new(Int64Array::from(vec![at])),
    ];
    let values: [ArrayRef; 4] = [
        numbers(&[7.0]),
        Arc::new(Float32Array::from(vec![7.0])),
        Arc::new(Int32Array::from(vec![7])),
        Arc::new(Int64Array::from(vec![7])),
    ];
    for time in &times {
        for value in &values {
            let metric: ArrayRef = Arc::new(LargeStringArray::from(vec!["cpu"]));
            let columns = vec![("ts", time.clone()), ("metric", metric), ("value", value.clone())];
            let (_, samples) = decode(&stream(&[batch(columns)]));
            assert_eq!((samples[0].ts, samples[0].value), (Timestamp::from_millis(at), 7.0));
        }
    }
    // before the epoch, too, time is cut off downwards
    let early: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![-1]));
    let columns = vec![("ts", early), ("metric", texts(&["cpu"])), ("value", numbers(&[1.0]))];
    assert_eq!(decode(&stream(&[batch(columns)])).1[0].ts, Timestamp::from_millis(-1));
}

#[test]
fn a_bad_row_is_told_and_the_others_stand() {
    let first = batch(vec![
        (
            "ts",
            Arc::new(Int64Array::from(vec![Some(1), None, Some(3), Some(i64::MAX)])),
        ),
        (
            "metric",
            Arc::new(StringArray::from(vec![Some("a"), Some("b"), None, Some("d")])),
        ),
        ("value", Arc::new(Float64Array::from(vec![Some(1.0); 4]))),
        ("host", texts(&["x"; 4])),
    ]);
    let second = batch(vec![
        ("ts", Arc::new(Int64Array::from(vec![5, 6, 7, 8]))),
        ("metric", texts(&["e", "f", "", "h"])),
        (
            "value",
            Arc::new(Float64Array::from(vec![Some(f64::NAN), None, Some(7.0), Some(8.0)])),
        ),
        ("host", texts(&["x"; 4])),
    ]);
    let (decoded, samples) = decode(&stream(&[first, second]));
    let decoded = decoded.unwrap();
    let told: Vec<String> = decoded.rejected.iter().map(ToString::to_string).collect();
    assert_eq!(samples.iter().map(|s| &*s.metric).collect::<Vec<_>>(), ["a", "h"]);
    assert_eq!((decoded.accepted, decoded.without_value), (2, 1));
    assert_eq!(
        told,
        [
            "sample 1 of \"b\": `ts` is missing: say when it was measured",
            "sample 2: `metric` is missing: name what is measured",
            "sample 3 of \"d\": `ts` is 9223372036854775807 milliseconds: write a time between the years 1 and 9999, and \
             check the column's unit",
            "sample 4 of \"e\": `value` is NaN: write a finite number, or null where there is none",
            "sample 6 of \"\": `metric` is empty: name what is measured",
        ]
    );
}

#[test]
fn a_label_given_twice_and_too_many_samples_are_refused() {
    let twice = batch(vec![
        ("ts", millis(&[1])),
        ("metric", texts(&["a"])),
        ("value", numbers(&[1.0])),
        ("host", texts(&["x"])),
        ("labels.host", texts(&["y"])),
    ]);
    let told = decode(&stream(&[twice])).0.unwrap().rejected[0].to_string();
    assert_eq!(told, "sample 0 of \"a\": label \"host\" is given twice: keep one");

    let three = batch(vec![
        ("ts", millis(&[1, 2, 3])),
        ("metric", texts(&["a"; 3])),
        ("value", numbers(&[1.0; 3])),
    ]);
    let limits = Limits {
        samples: 4,
        ..Limits::default()
    };
    let (decoded, samples) = decode_within(limits, &stream(&[three.clone(), three.clone(), three]));
    let decoded = decoded.unwrap();
    assert_eq!((samples.len(), decoded.rejected.len()), (4, 1));
    assert_eq!(
        decoded.rejected[0].to_string(),
        "sample 4: samples in one record: 5, at most 4 are taken; send less or raise `limits.samples`"
    );
}

#[test]
fn what_cannot_be_taken_says_what_to_write_instead() {
    let metric = ("metric", texts(&["a"]));
    let value = ("value", numbers(&[1.0]));
    let ts = ("ts", millis(&[1]));
    let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1)])]));
    let reason_of = |columns: Vec<(&str, ArrayRef)>| reason(&stream(&[batch(columns)]));
    assert_eq!(
        reason_of(vec![metric.clone(), value.clone()]),
        "`ts` is missing: say when it was measured, in a column of timestamps or of milliseconds as int64"
    );
    assert_eq!(
        reason_of(vec![ts.clone(), value.clone()]),
        "`metric` is missing: name what is measured, in a column of text"
    );
    assert_eq!(
        reason_of(vec![ts.clone(), metric.clone()]),
        "`value` is missing: write what was measured, in a column of numbers"
    );
    assert_eq!(
        reason_of(vec![ts.clone(), metric.clone(), ("value", texts(&["1"]))]),
        "`value` is a column of Utf8: write float64, float32 or integers"
    );
    assert_eq!(
        reason_of(vec![ts.clone(), ("metric", numbers(&[1.0])), value.clone()]),
        "`metric` is a column of Float64: write utf8, or a dictionary of it"
    );
    assert_eq!(
        reason_of(vec![ts, metric.clone(), value, ("extra", list)]),
        "`extra` is a column of List(Int32): drop the column, or write text"
    );
    assert_eq!(reason(b""), "the record is empty, where Arrow IPC stream was expected");
    assert_eq!(
        reason(b"{\"ts\":1}"),
        "no valid Arrow IPC stream: this looks like JSON: check `format` of the topic"
    );
    let one = batch(vec![metric]);
    let mut file = Vec::new();
    let mut writer = FileWriter::try_new(&mut file, &one.schema()).unwrap();
    writer.write(&one).unwrap();
    writer.finish().unwrap();
    drop(writer);
    assert_eq!(
        reason(&file),
        "no valid Arrow IPC stream: this is Arrow's file format: write the stream format"
    );
}

fn sample_stream(rows: usize) -> Vec<u8> {
    let metric: DictionaryArray<Int32Type> = (0..rows).map(|n| Some(["cpu", "mem", "io"][n % 3])).collect();
    let host: DictionaryArray<Int32Type> = (0..rows)
        .map(|n| (n % 4 > 0).then_some(["x", "y", "z"][n % 3]))
        .collect();
    stream(&[batch(vec![
        (
            "ts",
            millis(&(0..rows).map(|n| 1_000 * i64::try_from(n).unwrap()).collect::<Vec<_>>()),
        ),
        ("metric", Arc::new(metric)),
        ("value", numbers(&vec![1.5; rows])),
        ("host", Arc::new(host)),
    ])])
}

#[test]
fn a_stream_that_breaks_off_is_refused_wherever_it_does() {
    let whole = sample_stream(10);
    let mut cut_short = 0;
    // the last eight bytes only say that the stream ends, which some writers leave to the end of the bytes
    for end in 1..whole.len() - 8 {
        let (decoded, _) = decode(&whole[..end]);
        match decoded {
            Ok(decoded) => assert_eq!(decoded.accepted, 0, "between two messages, after {end} bytes"),
            Err(DecodeError::Truncated { at, .. }) => {
                assert_eq!(at, end);
                cut_short += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(cut_short > whole.len() / 2);
}

/// Remembers series by their keys.
#[derive(Default)]
struct Remembering {
    series: HashMap<u128, Sample>,
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
        self.series.insert(key.unwrap().0, sample.clone());
        self.samples.push(sample);
    }
}

#[test]
fn a_series_is_read_once_and_then_known() {
    let (mut sink, mut decoder) = (Remembering::default(), Decoder::default());
    let bytes = sample_stream(120);
    decoder.decode(&bytes, &mut sink).unwrap();
    assert_eq!(sink.known, 120 - sink.series.len());
    assert_eq!(sink.series.len(), 6, "three hosts, or none, with a metric each");
    decoder.decode(&bytes, &mut sink).unwrap();
    assert_eq!(json(&sink.samples[120..]), json(&decode(&bytes).1));
    assert_eq!(json(&sink.samples[..120]), json(&decode(&bytes).1));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn damage_never_panics(places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = sample_stream(20);
        for (place, byte) in places {
            let at = place.index(bytes.len());
            bytes[at] = byte;
        }
        let (decoded, samples) = decode(&bytes);
        if let Ok(decoded) = decoded {
            prop_assert_eq!(decoded.accepted, samples.len());
        }
    }

    #[test]
    fn noise_is_no_stream(bytes in prop::collection::vec(any::<u8>(), 1..200)) {
        prop_assert!(decode(&bytes).0.is_err() || decode(&bytes).1.is_empty());
    }
}
