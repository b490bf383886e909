//! InfluxDB's line protocol, as Telegraf writes it by default: one line or many a record.
//!
//! ```text
//! cpu,host=web-1,service=cart usage_idle=97.2,usage_user=1.4 1661140279000000000
//! http_requests_total,service=cart value=123i 1661140279000000000
//! ```
//!
//! Each field is a sample. Its **metric** is `MEASUREMENT_FIELD`, and the measurement alone where the field is called
//! `value`, `counter` or `gauge`, as Telegraf's own Prometheus output names them. Its labels are the tags.
//!
//! The protocol does not say what a number stands for. By convention a field called `counter`, and a metric whose name ends
//! in `_total`, is a counter, which never falls but for a reset; a field called `gauge` is a level; of any other the pipeline
//! file's rules tell.
//!
//! - Floats and integers (`1.5`, `12i`, `12u`) are taken as they are; booleans as 1 and 0; texts are passed over.
//! - Timestamps are nanoseconds since the epoch, the protocol's default; a producer that was told to write seconds, milli- or
//!   microseconds is understood by their size (see [`Timestamp::from_number`]). A line without one is rejected: the time at
//!   which it arrives is another on every replay.
//! - Empty lines and those that begin with `#` are passed over.
//!
//! A bad line is reported with its number and place, and the others stand. Lines are read by the parser that InfluxData wrote
//! in Rust for their own database. <https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/>
//!
//! **Known series.** A series is recognised by the bytes before the fields and the field's name, and its tags are neither
//! sorted nor checked again where the sink has met it. **Cost.** A line is gone through three times, to find its end, its
//! fields and its series; its texts are borrowed unless they have escapes.

use std::{borrow::Cow, fmt::Write as _};

use influxdb_line_protocol::{Error, EscapedStr, FieldValue, ParsedLine, parse_lines, split_lines};
use suture_event::Timestamp;
use xxhash_rust::xxh3::xxh3_128;

use crate::{
    DecodeError, Decoded, Format, Limits, PointKind, RawKey, SampleRef, Sink, TelemetryDecoder,
    sample::{Pairs, Scratch, excerpt, seal},
    tally::Tally,
};

const FORMAT: Format = Format("Influx line protocol");

/// Decodes records of lines. Keep one a shard: it holds the memory that is used again.
#[derive(Debug, Default)]
pub struct Decoder {
    limits: Limits,
    scratch: Scratch,
    metric: String,
    bytes: Vec<u8>,
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

    /// Hands the samples of one line on.
    fn line(&mut self, parsed: ParsedLine<'_>, series: &str, tally: &mut Tally, sink: &mut dyn Sink) {
        let ts = match time_of(parsed.timestamp) {
            Ok(ts) => ts,
            Err(error) => return tally.reject(Some(excerpt(&parsed.series.measurement)), error),
        };
        let mut pairs: Pairs<'_> = self.scratch.lend();
        let tags = parsed.series.tag_set.into_iter().flatten();
        pairs.extend(tags.map(|(name, value)| (text_of(name), text_of(value))));
        for (field, value) in &parsed.field_set {
            let Some(value) = number_of(value) else { continue };
            if tally.is_beyond() {
                break;
            }
            let key = key_of(series, field, &mut self.bytes);
            if value.is_finite() && sink.known(key, ts, value) {
                tally.decoded.accepted += 1;
                tally.index += 1;
                continue;
            }
            let kind = name(&parsed.series.measurement, field, &mut self.metric);
            let metric = self.metric.as_str();
            let sealed = seal(metric, &mut pairs, &self.limits, &mut self.scratch.identity);
            let hash = match sealed {
                Ok(hash) if value.is_finite() => hash,
                Ok(_) => {
                    let error = DecodeError::unfit(excerpt(field), value, "write a finite number");
                    tally.reject(Some(excerpt(metric)), error);
                    continue;
                }
                Err(error) => {
                    tally.reject(Some(excerpt(metric)), error);
                    continue;
                }
            };
            let sample = SampleRef {
                ts,
                metric,
                value,
                labels: &pairs,
                hash,
                identity: &self.scratch.identity,
                kind,
                start: None,
                signal: None,
            };
            sink.sample(sample, Some(key));
            tally.decoded.accepted += 1;
            tally.index += 1;
        }
        self.scratch.take_back(pairs);
    }
}

impl TelemetryDecoder for Decoder {
    /// A record is refused where it is empty or no UTF-8, or its only line is bad.
    fn decode(&mut self, bytes: &[u8], sink: &mut dyn Sink) -> Result<Decoded, DecodeError> {
        if bytes.trim_ascii().is_empty() {
            return Err(DecodeError::Empty(FORMAT));
        }
        let text = std::str::from_utf8(bytes)
            .map_err(|error| malformed(error.valid_up_to(), "not UTF-8: check `format` of the topic"))?;
        let mut tally = Tally::new("samples", &self.limits);
        let (mut at, mut lines) = (0, 0);
        for (number, line) in split_lines(text).enumerate() {
            let (from, rejected) = (at, tally.decoded.rejected.len());
            at += line.len() + 1;
            // Windows' line ends are none of the protocol's, and yet sent
            let line = line.trim_end_matches('\r');
            let Some(parsed) = parse_lines(line).next() else {
                continue;
            };
            lines += 1;
            match parsed {
                Ok(parsed) => self.line(parsed, series_of(line.trim_start()), &mut tally, sink),
                Err(error) => tally.reject(None, malformed(from, &reason(number + 1, line, &error))),
            }
            for rejected in tally.decoded.rejected.iter_mut().skip(rejected) {
                rejected.at = Some(from);
            }
            if tally.is_full() {
                break;
            }
        }
        let mut decoded = tally.decoded;
        match (lines, decoded.accepted, decoded.rejected.pop()) {
            (1, 0, Some(only)) if decoded.rejected.is_empty() => Err(only.error),
            (_, _, last) => {
                decoded.rejected.extend(last);
                Ok(decoded)
            }
        }
    }
}

/// Whether the first line that is no comment is one of this protocol with a time, and why not; nothing where there is none.
pub(crate) fn first_line(text: &str) -> Option<Result<(), String>> {
    split_lines(text).enumerate().find_map(|(number, line)| {
        let line = line.trim_end_matches('\r');
        Some(match parse_lines(line).next()? {
            Ok(parsed) => time_of(parsed.timestamp).map(|_| ()).map_err(|error| error.to_string()),
            Err(error) => Err(reason(number + 1, line, &error)),
        })
    })
}

/// The measurement and the tags of a line, as they are written: what comes before the first space that is not escaped.
fn series_of(line: &str) -> &str {
    let mut escaped = false;
    let end = line.bytes().position(|byte| {
        let ends = byte == b' ' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    line.get(..end.unwrap_or(line.len())).unwrap_or(line)
}

/// A field of a series by its bytes: no two of them have the same, as a series has no space in it that is not escaped.
fn key_of(series: &str, field: &str, bytes: &mut Vec<u8>) -> RawKey {
    bytes.clear();
    bytes.extend_from_slice(series.as_bytes());
    bytes.push(b' ');
    bytes.extend_from_slice(field.as_bytes());
    RawKey(xxh3_128(bytes))
}

/// Writes the name of a field's metric, and tells what its numbers stand for.
fn name(measurement: &str, field: &str, metric: &mut String) -> PointKind {
    metric.clear();
    metric.push_str(measurement);
    if !matches!(field, "value" | "counter" | "gauge") {
        // writing to a text does not fail
        let _ = write!(metric, "_{field}");
    }
    match field {
        "counter" => PointKind::Cumulative { monotonic: true },
        "gauge" => PointKind::Gauge,
        _ if metric.ends_with("_total") => PointKind::Cumulative { monotonic: true },
        _ => PointKind::Unspecified,
    }
}

fn text_of(text: EscapedStr<'_>) -> Cow<'_, str> {
    match text {
        EscapedStr::SingleSlice(text) => Cow::Borrowed(text),
        EscapedStr::CopiedValue(text) => Cow::Owned(text),
    }
}

#[allow(clippy::cast_precision_loss)] // samples are doubles
fn number_of(value: &FieldValue<'_>) -> Option<f64> {
    match value {
        FieldValue::F64(value) => Some(*value),
        FieldValue::I64(value) => Some(*value as f64),
        FieldValue::U64(value) => Some(*value as f64),
        FieldValue::Boolean(value) => Some(f64::from(u8::from(*value))),
        FieldValue::String(_) => None,
    }
}

fn time_of(timestamp: Option<i64>) -> Result<Timestamp, DecodeError> {
    let Some(number) = timestamp else {
        return Err(DecodeError::Missing {
            field: "timestamp",
            help: "end the line with the time it was measured at, in nanoseconds since the epoch",
        });
    };
    Timestamp::from_number(number).map_err(|_| {
        let help = "write nanoseconds since the epoch";
        DecodeError::unfit("timestamp", number, help)
    })
}

/// What is wrong with a line, in words: the parser's own where they say something.
fn reason(number: usize, line: &str, error: &Error) -> String {
    let what = match error {
        Error::FieldSetMissing | Error::GenericParsingError { .. } => {
            "no fields that can be read: write MEASUREMENT,TAG=VALUE FIELD=NUMBER TIMESTAMP".to_owned()
        }
        Error::MeasurementValueInvalid => "it does not begin with a measurement's name".to_owned(),
        Error::TagSetMalformed => {
            "its tags cannot be read: write each as NAME=VALUE, and neither of them empty".to_owned()
        }
        Error::CannotParseEntireLine { trailing_content } => {
            format!(
                "what follows cannot be read: {:?}",
                excerpt(trailing_content.trim_start())
            )
        }
        other => excerpt(&other.to_string()),
    };
    let hint = if line.trim_start().starts_with(['{', '[']) {
        " (this looks like JSON: check `format` of the topic)"
    } else {
        ""
    };
    format!("line {number}: {what}{hint}")
}

fn malformed(at: usize, reason: &str) -> DecodeError {
    DecodeError::Malformed {
        format: FORMAT,
        at: Some(at),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::met::Met;

    type Line = (i64, String, f64, PointKind);

    fn read(text: &str) -> (Result<Decoded, DecodeError>, Vec<Line>) {
        read_within(Limits::default(), text.as_bytes())
    }

    fn read_within(limits: Limits, bytes: &[u8]) -> (Result<Decoded, DecodeError>, Vec<Line>) {
        let mut lines = Vec::new();
        let result = Decoder::new(limits).decode(bytes, &mut |sample: SampleRef<'_>| {
            let key = sample.key().unwrap();
            assert_eq!(key.hash64(), sample.hash);
            lines.push((sample.ts.as_millis(), key.to_string(), sample.value, sample.kind));
        });
        (result, lines)
    }

    fn line(ts: i64, series: &str, value: f64, kind: PointKind) -> Line {
        (ts, series.to_owned(), value, kind)
    }

    #[test]
    fn each_field_is_a_sample_named_and_counted_by_convention() {
        const COUNTER: PointKind = PointKind::Cumulative { monotonic: true };
        const PLAIN: PointKind = PointKind::Unspecified;
        let text = "\
# what the agent of one host sends
cpu,host=web-1,service=cart usage_idle=97.5,usage_user=1.25 1661140279000000000

http_requests_total,service=cart value=12i 1661140279000000000
prometheus,service=cart jobs_total=5 1661140279000000000\r
requests,service=cart counter=7u 1661140279000000000
queue,service=cart gauge=-3,full=false,open=t,state=\"a b\" 1661140279000000000
m,a\\ b=x\\,y value=1e3 1661140279000
";
        let (decoded, lines) = read(text);
        let ts = 1_661_140_279_000;
        assert_eq!(
            lines,
            [
                line(ts, "cpu_usage_idle{host=\"web-1\", service=\"cart\"}", 97.5, PLAIN),
                line(ts, "cpu_usage_user{host=\"web-1\", service=\"cart\"}", 1.25, PLAIN),
                line(ts, "http_requests_total{service=\"cart\"}", 12.0, COUNTER),
                line(ts, "prometheus_jobs_total{service=\"cart\"}", 5.0, COUNTER),
                line(ts, "requests{service=\"cart\"}", 7.0, COUNTER),
                line(ts, "queue{service=\"cart\"}", -3.0, PointKind::Gauge),
                line(ts, "queue_full{service=\"cart\"}", 0.0, PLAIN),
                line(ts, "queue_open{service=\"cart\"}", 1.0, PLAIN),
                line(ts, "m{a b=\"x,y\"}", 1000.0, PLAIN),
            ]
        );
        assert_eq!(decoded.unwrap().accepted, 9);
    }

    #[test]
    fn a_bad_line_says_where_it_is_and_the_others_stand() {
        let text = "a value=1 1661140279000000000\nb 12\nc value=1\n d,x=1,x=2 value=1 1661140279000000000\ne value=2 1661140279000000000 more\nf value=3 1661140279000000000";
        let (decoded, lines) = read(text);
        let rejected: Vec<String> = decoded.unwrap().rejected.iter().map(ToString::to_string).collect();
        assert_eq!(
            rejected,
            [
                "sample 1 at byte 30: no valid Influx line protocol at byte 30: line 2: no fields that can be read: write MEASUREMENT,TAG=VALUE FIELD=NUMBER TIMESTAMP",
                "sample 2 at byte 35 of \"c\": `timestamp` is missing: end the line with the time it was measured at, in nanoseconds since the epoch",
                "sample 3 at byte 45 of \"d\": label \"x\" is given twice: keep one",
                "sample 4 at byte 84: no valid Influx line protocol at byte 84: line 5: what follows cannot be read: \"more\"",
            ]
        );
        assert_eq!(
            lines.iter().map(|line| line.1.as_str()).collect::<Vec<_>>(),
            ["a{}", "f{}"]
        );
    }

    #[test]
    fn a_record_of_nothing_that_can_be_used_is_refused() {
        for (text, expected) in [
            ("", "the record is empty, where Influx line protocol was expected"),
            ("\n\n", "the record is empty, where Influx line protocol was expected"),
            (
                r#"{"ts": 1, "metric": "m", "value": 1}"#,
                "no valid Influx line protocol at byte 0: line 1: no fields that can be read: write MEASUREMENT,TAG=VALUE FIELD=NUMBER TIMESTAMP (this looks like JSON: check `format` of the topic)",
            ),
            (
                "cpu value=99999999999999999999i 1661140279000000000",
                "no valid Influx line protocol at byte 0: line 1: Unable to parse integer value '99999999999999999999'",
            ),
        ] {
            assert_eq!(read(text).0.unwrap_err().to_string(), expected);
        }
        let binary = read_within(Limits::default(), b"cpu value=\xff").0.unwrap_err();
        assert_eq!(
            binary.to_string(),
            "no valid Influx line protocol at byte 10: not UTF-8: check `format` of the topic"
        );
        assert_eq!(read("# nothing but a comment\n").0.unwrap(), Decoded::default());
    }

    #[test]
    fn a_record_of_too_many_samples_is_taken_up_to_the_bound() {
        let limits = Limits {
            samples: 3,
            ..Limits::default()
        };
        let text = "a x=1,y=2 1661140279000000000\nb x=1,y=2 1661140279000000000\nc x=1 1661140279000000000";
        let (decoded, lines) = read_within(limits, text.as_bytes());
        let rejected = decoded.unwrap().rejected;
        assert_eq!(lines.len(), 3);
        assert_eq!(
            rejected.iter().map(|r| (r.index, r.at)).collect::<Vec<_>>(),
            [(3, Some(30))]
        );
        assert_eq!(
            rejected[0].error.to_string(),
            "samples in one record: 4, at most 3 are taken; send less or raise `limits.samples`"
        );
    }

    #[test]
    fn a_series_that_was_met_is_known_by_its_bytes_and_taken_for_no_other() {
        let (mut met, mut decoder) = (Met::default(), Decoder::default());
        let ts = "1661140279000000000";
        for text in [
            "a,x=1 f=1,g=1",
            "a,x=1 g=5,f=1",
            "a,x=1\\ f g=1",
            "a,x=1,y=1 f=2",
            "  a,x=1 f=2",
        ] {
            decoder.decode(format!("{text} {ts}").as_bytes(), &mut met).unwrap();
        }
        let names = met.names();
        assert_eq!(
            names,
            [
                "a_f{x=\"1\"}",
                "a_g{x=\"1\"}",
                "a_g{x=\"1 f\"}",
                "a_f{x=\"1\", y=\"1\"}"
            ]
        );
        assert_eq!(met.known, 3);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-c,= \\\\\"\n\r#0-9.ieut-]{0,60}", bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = read(&text);
            let _ = read_within(Limits::default(), &bytes);
        }
    }
}
