//! What format a record is of, by what is in it; and a decoder that goes by that, record by record.
//!
//! What a record is taken for depends on its own bytes alone, never on records before it, so that a topic is read the same
//! from wherever it is read, and a replay as it was live.

use crate::{
    DecodeError, Decoded, Format, Limits, Sink, TelemetryDecoder, TelemetryFormat, influx,
    otlp::{self, Histograms},
    raw::{self, Entries},
    remote_write,
    sample::excerpt,
    vector,
};

const FORMAT: Format = Format("telemetry of any format that is known");

/// Names of fields that are told where nothing fits.
const TOLD: usize = 8;

/// What a record is taken for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sniffed {
    /// The format to name in a pipeline file.
    pub format: TelemetryFormat,
    /// By what, in words that follow on "because".
    pub why: String,
}

/// Tells what format a record is of.
///
/// # Errors
/// What it looks like and why it is none of the known formats, in words.
pub fn sniff(record: &[u8]) -> Result<Sniffed, String> {
    let of = |format, why: &str| {
        Ok(Sniffed {
            format,
            why: why.to_owned(),
        })
    };
    let trimmed = record.trim_ascii_start();
    let utf8 = std::str::from_utf8(record).ok();
    match (trimmed.first(), utf8) {
        (None, _) => return Err("the record is empty".to_owned()),
        (Some(b'{' | b'['), Some(_)) => return json(record),
        _ => {}
    }
    if record.starts_with(&[0xff; 4]) {
        return of(
            TelemetryFormat::ArrowIpc,
            "it begins as streams of Arrow IPC do, with four bytes of ff",
        );
    }
    let unpacked = match remote_write::is_request(record) {
        Ok(version) => {
            let why = format!("it is a block of Snappy that holds a write request of version {version}");
            return of(TelemetryFormat::PrometheusRemoteWrite, &why);
        }
        Err(error) => error,
    };
    if otlp::is_request(record) {
        return of(
            TelemetryFormat::OtlpProto,
            "it is a message of Protocol Buffers with the metrics of OTLP's export requests",
        );
    }
    if let Some(text) = utf8 {
        return match influx::first_line(text) {
            Some(Ok(())) => of(
                TelemetryFormat::Influx,
                "its first line is a measurement, fields and a time in InfluxDB's line protocol",
            ),
            Some(Err(reason)) => Err(format!("it is text, but neither JSON nor line protocol ({reason})")),
            None => Err("it is text that holds nothing but comments".to_owned()),
        };
    }
    if let [0, id @ ..] = record
        && let Some(id) = id.first_chunk::<4>()
    {
        return Err(format!(
            "it begins as records framed for a schema registry do (schema {}): such records are not read",
            u32::from_be_bytes(*id)
        ));
    }
    Err(format!(
        "it is neither text, nor Arrow IPC, nor OTLP, nor remote write ({unpacked})"
    ))
}

fn json(record: &[u8]) -> Result<Sniffed, String> {
    let text = std::str::from_utf8(record).unwrap_or_default();
    let first = raw::documents(record).next().and_then(|range| text.get(range));
    let mut first = first.unwrap_or_default().trim();
    if first.starts_with('[') {
        match raw::first_element(first) {
            Ok(Some(element)) => first = element,
            Ok(None) => return Err("it is an array of nothing".to_owned()),
            Err(broken) => {
                return Err(format!(
                    "it looks like JSON, but at byte {} {}",
                    broken.at, broken.reason
                ));
            }
        }
    }
    let mut names = Vec::new();
    let mut values = Vec::new();
    let entries = Entries::of(first).and_then(|entries| {
        for entry in entries {
            let (name, value) = entry?;
            names.push(name);
            values.push(value);
        }
        Ok(())
    });
    if let Err(broken) = entries {
        return Err(format!(
            "it looks like JSON, but at byte {} {}",
            broken.at, broken.reason
        ));
    }
    let has = |name: &str| names.contains(&name);
    let starts = |name: &str, with: char| {
        let at = names.iter().position(|known| *known == name);
        at.and_then(|at| values.get(at))
            .is_some_and(|value| value.starts_with(with))
    };
    let known: &[(TelemetryFormat, bool, &str)] = &[
        (
            TelemetryFormat::OtlpJson,
            has("resourceMetrics"),
            "it has `resourceMetrics`",
        ),
        (
            TelemetryFormat::Json,
            has("ts") && has("metric") && has("value"),
            "it has `ts`, `metric` and `value`",
        ),
        (
            TelemetryFormat::PrometheusKafkaAdapter,
            has("timestamp") && has("value") && has("name") && starts("labels", '{'),
            "it has `timestamp`, `value`, `name` and an object of `labels`",
        ),
        (
            TelemetryFormat::TelegrafJson,
            has("timestamp") && has("name") && starts("fields", '{'),
            "it has `timestamp`, `name` and an object of `fields`",
        ),
        (
            TelemetryFormat::TelegrafJson,
            names.len() == 1 && starts("metrics", '['),
            "it has an array of `metrics` and nothing else",
        ),
        (
            TelemetryFormat::Vector,
            has("name") && has("kind") && vector::VALUES.iter().any(|value| starts(value, '{')),
            "it has `name`, `kind` and one of Vector's kinds of values",
        ),
        (
            TelemetryFormat::Vector,
            names.len() == 1 && starts("metric", '{'),
            "it has an object under `metric` and nothing else",
        ),
    ];
    if let Some((format, _, why)) = known.iter().find(|(_, fits, _)| *fits) {
        return Ok(Sniffed {
            format: *format,
            why: (*why).to_owned(),
        });
    }
    for (name, what) in [("resourceSpans", "spans"), ("resourceLogs", "logs")] {
        if has(name) {
            return Err(format!("it is OTLP, but holds {what} and no metrics"));
        }
    }
    let told: Vec<String> = names
        .iter()
        .take(TOLD)
        .map(|name| format!("`{}`", excerpt(name)))
        .collect();
    let more = if names.len() > TOLD { " and more" } else { "" };
    Err(format!(
        "it is JSON with {}{more}, which no known tool writes: say with `format: json` and `fields` where value, time and labels are",
        if told.is_empty() {
            "no fields".to_owned()
        } else {
            told.join(", ")
        }
    ))
}

/// Decodes records of whatever format each is of. Naming the format is cheaper: nothing is looked at twice then.
pub(crate) struct Decoder {
    limits: Limits,
    active: Option<(TelemetryFormat, Box<dyn TelemetryDecoder>)>,
    memory: Histograms,
    found: Option<Sniffed>,
    /// Formats that were told, each once.
    told: Vec<TelemetryFormat>,
}

impl Decoder {
    /// A decoder that holds records to these limits.
    #[must_use]
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            active: None,
            memory: Histograms::default(),
            found: None,
            told: Vec::new(),
        }
    }
}

impl TelemetryDecoder for Decoder {
    /// A record is refused where it is of no known format, with what it looks like, or where that format refuses it.
    fn decode(&mut self, bytes: &[u8], sink: &mut dyn Sink) -> Result<Decoded, DecodeError> {
        if bytes.is_empty() {
            return Err(DecodeError::Empty(FORMAT));
        }
        let sniffed = sniff(bytes).map_err(|reason| DecodeError::Malformed {
            format: FORMAT,
            at: None,
            reason,
        })?;
        let format = sniffed.format;
        if let Some((_, decoder)) = self.active.as_mut().filter(|(active, _)| *active == format) {
            return decoder.decode(bytes, sink);
        }
        let mut decoder = format.decoder(self.limits);
        let memory = match &self.active {
            Some((_, before)) => before.memory(),
            None => std::mem::take(&mut self.memory),
        };
        decoder.restore(memory);
        let decoded = decoder.decode(bytes, sink);
        self.active = Some((format, decoder));
        if !self.told.contains(&format) {
            self.told.push(format);
            self.found = Some(sniffed);
        }
        decoded
    }

    fn memory(&self) -> Histograms {
        match &self.active {
            Some((_, decoder)) => decoder.memory(),
            None => self.memory.clone(),
        }
    }

    fn restore(&mut self, memory: Histograms) {
        match &mut self.active {
            Some((_, decoder)) => decoder.restore(memory),
            None => self.memory = memory,
        }
    }

    fn found(&mut self) -> Option<Sniffed> {
        self.found.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SampleRef;

    fn told(record: &[u8]) -> String {
        match sniff(record) {
            Ok(Sniffed { format, why }) => format!("{format:?}: {why}"),
            Err(reason) => format!("none: {reason}"),
        }
    }

    #[test]
    fn a_record_is_told_by_what_is_in_it_and_why() {
        for (record, expected) in [
            (
                r#"{"ts":1,"metric":"m","value":1}"#,
                "Json: it has `ts`, `metric` and `value`",
            ),
            (
                r#" [ {"ts":1,"metric":"m","value":1}, {} ]"#,
                "Json: it has `ts`, `metric` and `value`",
            ),
            (
                "{\"ts\":1,\"metric\":\"m\",\"value\":1}\n{\"ts\":2}",
                "Json: it has `ts`, `metric` and `value`",
            ),
            (r#"{"resourceMetrics":[]}"#, "OtlpJson: it has `resourceMetrics`"),
            (
                r#"{"resourceSpans":[]}"#,
                "none: it is OTLP, but holds spans and no metrics",
            ),
            (
                r#"{"timestamp":"2022-08-22T03:51:19Z","value":"1","name":"up","labels":{"__name__":"up"}}"#,
                "PrometheusKafkaAdapter: it has `timestamp`, `value`, `name` and an object of `labels`",
            ),
            (
                r#"{"fields":{"a":1},"name":"cpu","tags":{},"timestamp":1661140279}"#,
                "TelegrafJson: it has `timestamp`, `name` and an object of `fields`",
            ),
            (
                r#"{"metrics":[]}"#,
                "TelegrafJson: it has an array of `metrics` and nothing else",
            ),
            (
                r#"{"name":"a","kind":"absolute","gauge":{"value":1.0}}"#,
                "Vector: it has `name`, `kind` and one of Vector's kinds of values",
            ),
            (
                r#"{"metric":{"name":"a"}}"#,
                "Vector: it has an object under `metric` and nothing else",
            ),
            (
                r#"{"at":1,"temperature":2}"#,
                "none: it is JSON with `at`, `temperature`, which no known tool writes: say with `format: json` and `fields` where value, time and labels are",
            ),
            (
                "{}",
                "none: it is JSON with no fields, which no known tool writes: say with `format: json` and `fields` where value, time and labels are",
            ),
            (
                r#"{"ts":1,"#,
                "none: it looks like JSON, but at byte 8 the text ends too early",
            ),
            ("[]", "none: it is an array of nothing"),
            (
                "cpu,host=a usage=1 1661140279000000000\n",
                "Influx: its first line is a measurement, fields and a time in InfluxDB's line protocol",
            ),
            ("# nothing\n", "none: it is text that holds nothing but comments"),
            ("", "none: the record is empty"),
        ] {
            assert_eq!(told(record.as_bytes()), expected, "{record}");
        }
        assert_eq!(
            told(&[0xff, 0xff, 0xff, 0xff, 0x10]),
            "ArrowIpc: it begins as streams of Arrow IPC do, with four bytes of ff"
        );
        let framed = told(&[0, 0, 0, 0, 7, 2, 0xff]);
        assert!(
            framed.starts_with("none: it begins as records framed for a schema registry do (schema 7)"),
            "{framed}"
        );
        let nothing = told(&[0xfe, 0x01, 0x80, 0x99]);
        assert!(
            nothing.starts_with("none: it is neither text, nor Arrow IPC"),
            "{nothing}"
        );
        let words = told(b"hello world");
        assert!(
            words.starts_with("none: it is text, but neither JSON nor line protocol"),
            "{words}"
        );
    }

    #[test]
    fn each_record_is_decoded_by_its_own_format_whatever_came_before() {
        let mut decoder = Decoder::new(Limits::default());
        let mut names = Vec::new();
        for record in [
            "cpu,host=a usage=1 1661140279000000000",
            r#"{"ts":1661140279000,"metric":"m","value":1}"#,
            "mem,host=a used=1 1661140279000000000",
            "mem,host=a used=1 1661140279000000000",
        ] {
            let decoded = decoder.decode(record.as_bytes(), &mut |sample: SampleRef<'_>| {
                names.push(sample.metric.to_owned())
            });
            assert_eq!(decoded.unwrap().accepted, 1);
            names.push(
                decoder
                    .found()
                    .map_or_else(String::new, |found| format!("{:?}", found.format)),
            );
        }
        assert_eq!(
            names,
            ["cpu_usage", "Influx", "m", "Json", "mem_used", "", "mem_used", ""]
        );
        let refused = decoder
            .decode(b"hello world", &mut |_: SampleRef<'_>| {})
            .unwrap_err()
            .to_string();
        assert!(
            refused.starts_with("no valid telemetry of any format that is known: it is text"),
            "{refused}"
        );
    }
}
