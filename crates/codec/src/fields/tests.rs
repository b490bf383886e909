//! Records in the shapes that tools write.

use super::*;
use crate::{corrupt::nothing_is_lost_silently, met::Met};

type Line = (i64, String, f64, PointKind);

fn read(decoder: &mut Decoder, text: &str) -> (Result<Decoded, DecodeError>, Vec<Line>) {
    let mut lines = Vec::new();
    let result = decoder.decode(text.as_bytes(), &mut |sample: SampleRef<'_>| {
        let key = sample.key().unwrap();
        assert_eq!(key.hash64(), sample.hash);
        lines.push((sample.ts.as_millis(), key.to_string(), sample.value, sample.kind));
    });
    (result, lines)
}

fn fields(yaml: serde_json::Value) -> Decoder {
    Decoder::new(&serde_json::from_value(yaml).unwrap(), Limits::default())
}

const AT: i64 = 1_661_140_279_000;
const COUNTER: PointKind = PointKind::Cumulative { monotonic: true };
const PLAIN: PointKind = PointKind::Unspecified;

fn line(series: &str, value: f64, kind: PointKind) -> Line {
    (AT, series.to_owned(), value, kind)
}

#[test]
fn what_prometheus_kafka_adapter_writes_has_its_value_as_a_text() {
    let mut decoder = Decoder::prometheus_kafka_adapter(Limits::default());
    let text = r#"{"timestamp":"2022-08-22T03:51:19Z","value":"1027","name":"http_requests_total","labels":{"__name__":"http_requests_total","job":"cart","code":"500"}}
{"timestamp":"2022-08-22T03:51:19Z","value":"3.5e-05","name":"http_request_duration_seconds_sum","labels":{"__name__":"http_request_duration_seconds_sum","job":"cart"}}"#;
    let (decoded, lines) = read(&mut decoder, text);
    assert_eq!(
        lines,
        [
            line(r#"http_requests_total{code="500", job="cart"}"#, 1027.0, COUNTER),
            line(r#"http_request_duration_seconds_sum{job="cart"}"#, 3.5e-5, COUNTER),
        ]
    );
    assert_eq!(decoded.unwrap().accepted, 2);
    let nan = text.lines().next().unwrap().replace("1027", "NaN");
    assert_eq!(
        read(&mut decoder, &nan).0.unwrap_err().to_string(),
        "`value` is the text \"NaN\": write a finite number"
    );
}

#[test]
fn telegraf_writes_metrics_one_by_one_or_in_batches() {
    let mut decoder = Decoder::telegraf(Limits::default());
    let one = r#"{"fields":{"usage_idle":97.5,"usage_user":2,"up":true,"state":"ok"},"name":"cpu","tags":{"host":"web-1","service":"cart"},"timestamp":1661140279}"#;
    let expected = [
        line(r#"cpu_usage_idle{host="web-1", service="cart"}"#, 97.5, PLAIN),
        line(r#"cpu_usage_user{host="web-1", service="cart"}"#, 2.0, PLAIN),
        line(r#"cpu_up{host="web-1", service="cart"}"#, 1.0, PLAIN),
    ];
    assert_eq!(read(&mut decoder, one).1, expected);
    let counter = r#"{"fields":{"counter":7},"name":"requests","tags":{"service":"cart"},"timestamp":1661140279}"#;
    let batch = format!(r#"{{"metrics":[{one},{counter}]}}"#);
    let (decoded, lines) = read(&mut decoder, &batch);
    assert_eq!(lines[..3], expected);
    assert_eq!(lines[3], line(r#"requests{service="cart"}"#, 7.0, COUNTER));
    assert_eq!(decoded.unwrap().accepted, 4);
    // `json_timestamp_units` may be anything
    for unit in ["000", "000000", "000000000"] {
        let finer = one.replace("1661140279", &format!("1661140279{unit}"));
        assert_eq!(read(&mut decoder, &finer).1, expected);
    }
}

#[test]
fn any_shape_is_read_by_a_mapping() {
    let mut nested = fields(serde_json::json!({
        "metric": "sensor.kind", "value": "reading.value", "time": "at", "labels": ["site", "sensor.id", "tags"]
    }));
    let text = r#"{"at": 1661140279.0, "site": "north", "sensor": {"kind": "heat", "id": 7}, "reading": {"value": "21.5", "unit": "C"}, "tags": {"floor": 2, "old": null}}"#;
    assert_eq!(
        read(&mut nested, text).1,
        [line(r#"heat{floor="2", id="7", site="north"}"#, 21.5, PLAIN)]
    );

    let mut wide = fields(serde_json::json!({"value": ["cpu", "/mem.used"], "time": "ts", "labels": "host"}));
    let text = r#"[{"ts":1661140279000,"host":"a","cpu":1,"mem.used":2},{"ts":1661140279000,"host":"b","cpu":3}]"#;
    assert_eq!(
        read(&mut wide, text).1,
        [
            line(r#"cpu{host="a"}"#, 1.0, PLAIN),
            line(r#"mem.used{host="a"}"#, 2.0, PLAIN),
            line(r#"cpu{host="b"}"#, 3.0, PLAIN),
        ]
    );

    let mut within = fields(serde_json::json!({"each": "data.points", "metric": "n", "value": "v", "time": "t"}));
    let text =
        r#"{"data":{"points":[{"n":"a_total","v":1,"t":"2022-08-22T03:51:19Z"},{"n":"b","v":2,"t":1661140279}]}}"#;
    assert_eq!(
        read(&mut within, text).1,
        [line("a_total{}", 1.0, COUNTER), line("b{}", 2.0, PLAIN)]
    );
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_the_others_stand() {
    let mut decoder = fields(serde_json::json!({"metric": "m", "value": "v", "time": "t", "labels": "l"}));
    let text = "{\"m\":\"a\",\"v\":1,\"t\":1661140279}\n{\"m\":\"b\",\"v\":\"much\",\"t\":1661140279}\n{\"m\":3,\"v\":1,\"t\":1}\n{\"m\":\"c\",\"v\":1}\n{\"m\":\"d\",\"v\":1,\"t\":\"soon\"}\n{\"m\":\"e\",\"t\":1661140279}\n{\"m\":\"f\",\"v\":1,\"t\":1661140279,\"l\":{\"x\":[1]}}\n{\"m\":\"g\" \"v\":1}\n{\"m\":\"h\",\"v\":1,\"t\":1661140279}";
    let (decoded, lines) = read(&mut decoder, text);
    let rejected: Vec<String> = decoded.unwrap().rejected.iter().map(ToString::to_string).collect();
    assert_eq!(
        rejected,
        [
            "sample 1 at byte 31 of \"b\": `v` is the text \"much\": write a finite number",
            "sample 2 at byte 67: `m` is the number 3: write the metric's name as a text",
            "sample 3 at byte 87 of \"c\": `t` is missing: say when it was measured, as a number since the epoch or as RFC 3339",
            "sample 4 at byte 103 of \"d\": `t` is the text \"soon\": write seconds, milli-, micro- or nanoseconds since the epoch, or RFC 3339",
            "sample 5 at byte 130 of \"e\": `v` is missing: write what was measured, a number",
            "sample 6 at byte 155 of \"f\": `l.x` is an array: write a text",
            "sample 7 at byte 200: no valid JSON at byte 209: neither a comma nor the end of the object",
        ]
    );
    assert_eq!(lines, [line("a{}", 1.0, PLAIN), line("h{}", 1.0, PLAIN)]);
    for (text, expected) in [
        ("", "the record is empty, where JSON was expected"),
        (
            "cpu value=1",
            "no valid JSON at byte 0: no object where one was expected",
        ),
        (
            r#"{"m":"a","v":1"#,
            "the JSON breaks off after 14 bytes: its producer, or a size limit on the way, cut it short",
        ),
    ] {
        assert_eq!(read(&mut decoder, text).0.unwrap_err().to_string(), expected);
    }
    let mut within = fields(serde_json::json!({"each": "points", "value": "v", "time": "t"}));
    assert_eq!(
        read(&mut within, "{}").0.unwrap_err().to_string(),
        "`points` is missing: write an array of samples, or mend `fields.each`"
    );
}

#[test]
fn no_corruption_loses_a_sample_silently() {
    let adapter = r#"{"timestamp":"2022-08-22T03:51:19Z","value":"1027","name":"http_requests_total","labels":{"__name__":"http_requests_total","job":"cart","code":"500"}}"#;
    let telegraf = r#"{"metrics":[{"fields":{"usage_idle":97.5,"usage_user":2},"name":"cpu","tags":{"host":"web-1"},"timestamp":1661140279},{"fields":{"used":5},"name":"mem","tags":{},"timestamp":1661140279}]}"#;
    let own = "{\"m\":{\"n\":\"a\"},\"v\":1.5,\"t\":1661140279,\"site\":\"x\"}\n{\"m\":{\"n\":\"b\"},\"v\":\"2\",\"t\":1661140280}";
    let mapping: Fields =
        serde_json::from_value(serde_json::json!({"metric": "m.n", "value": "v", "time": "t", "labels": "site"}))
            .unwrap();
    let limits = Limits::default();
    nothing_is_lost_silently(|| Decoder::prometheus_kafka_adapter(limits), adapter.as_bytes(), true);
    nothing_is_lost_silently(|| Decoder::telegraf(limits), telegraf.as_bytes(), true);
    nothing_is_lost_silently(|| Decoder::new(&mapping, limits), own.as_bytes(), true);
}

#[test]
fn a_series_that_was_met_is_known_by_its_text_and_taken_for_no_other() {
    let (mut met, mut decoder) = (Met::default(), Decoder::telegraf(Limits::default()));
    for (name, fields, tags) in [
        ("a", r#"{"x":1,"y":2}"#, r#"{"t":"1"}"#),
        ("a", r#"{"y":5}"#, r#"{"t":"1"}"#),
        ("a", r#"{"x":1}"#, r#"{"t":"2"}"#),
        ("a_x", r#"{"value":1}"#, r#"{"t":"1"}"#),
    ] {
        let text = format!(r#"{{"name":"{name}","fields":{fields},"tags":{tags},"timestamp":1661140279}}"#);
        decoder.decode(text.as_bytes(), &mut met).unwrap();
    }
    let names = met.names();
    assert_eq!(
        names,
        [r#"a_x{t="1"}"#, r#"a_y{t="1"}"#, r#"a_x{t="2"}"#, r#"a_x{t="1"}"#]
    );
    assert_eq!(met.known, 1);
}

#[test]
fn a_record_of_too_many_samples_is_taken_up_to_the_bound() {
    let limits = Limits {
        samples: 2,
        ..Limits::default()
    };
    let text = r#"{"name":"a","fields":{"x":1,"y":2,"z":3},"tags":{},"timestamp":1661140279}"#;
    let (decoded, lines) = read(&mut Decoder::telegraf(limits), text);
    assert_eq!(lines.len(), 2);
    assert_eq!(decoded.unwrap().rejected.len(), 1);
}
