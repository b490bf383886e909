//! `suture tap`: what the records of a topic, or of a file, are read as.

use std::{
    fmt::Write as _,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use suture_codec::{
    ChangeEvent, ChangeFormat, DecodeError, Decoded, Fields, Limits, SampleRef, TelemetryDecoder, TelemetryFormat,
    fields, sniff,
};
use suture_config::Pipeline;
use suture_event::Headers;
use suture_service::story::{number, of_change, time};

use crate::replay::lines::Lines;

/// Widths of the table's columns; what is wider is not cut.
const METRIC: usize = 32;
const VALUE: usize = 12;

/// Shows what the records of a topic, or of a file, are read as: each sample in a line, and why a record cannot be read.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  suture tap samples/telegraf.influx\n  suture tap telemetry --pipeline shop.yaml --most 20"
)]
pub(crate) struct Args {
    /// A file with a record in each line, or a topic of the pipeline's broker.
    #[arg(value_name = "FILE|TOPIC")]
    of: String,
    /// The pipeline file: for the broker, and for the format of the topic.
    #[arg(long, value_name = "PIPELINE.yaml", env = "SUTURE_PIPELINE")]
    pipeline: Option<PathBuf>,
    /// What the records are of, as pipeline files name it; by what is in each where neither this nor the pipeline says.
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// One JSON object a sample, rather than a table.
    #[arg(long)]
    ndjson: bool,
    /// Show this many records at most; of a topic the last, after which it is followed where this is left out.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    most: Option<u64>,
}

/// Shows them.
pub(crate) fn tap(args: &Args) -> anyhow::Result<()> {
    let pipeline = args.pipeline.as_deref().map(suture_service::load::parse).transpose()?;
    let mut tap = Tap::new(args, pipeline.as_ref())?;
    let mut out = std::io::stdout().lock();
    let path = Path::new(&args.of);
    if path.is_file() {
        let mut lines = Lines::open(path)?;
        while let Some(line) = lines.next_line()? {
            if !line.text.starts_with(b"#") && !tap.show(line.number, Headers::default(), line.text, &mut out)? {
                break;
            }
        }
        return Ok(out.flush()?);
    }
    let Some(pipeline) = pipeline else {
        bail!(
            "{} is no file: for a topic name a pipeline file with --pipeline, which says where its broker is",
            args.of
        );
    };
    of_topic(args, &pipeline, &mut tap, &mut out)
}

#[cfg(feature = "kafka")]
fn of_topic(args: &Args, pipeline: &Pipeline, tap: &mut Tap, out: &mut impl Write) -> anyhow::Result<()> {
    use suture_service::follow::{Back, follow};
    let log = suture_service::run::connect(pipeline)?;
    let back = Back::Records(args.most.map_or(0, |most| i64::try_from(most).unwrap_or(i64::MAX)));
    let name: std::sync::Arc<str> = args.of.as_str().into();
    follow(log.as_ref(), &[&name], back, args.most.is_some(), &mut |_, record| {
        tap.show(record.offset, record.headers, record.value.unwrap_or_default(), out)?;
        Ok(out.flush()?)
    })
}

#[cfg(not(feature = "kafka"))]
fn of_topic(args: &Args, _: &Pipeline, _: &mut Tap, _: &mut impl Write) -> anyhow::Result<()> {
    bail!(
        "{} is no file, and this build has no Kafka client: use a build with the feature `kafka`",
        args.of
    )
}

/// What records are read by.
enum By {
    Telemetry(Box<dyn TelemetryDecoder>),
    Changes(ChangeFormat),
    /// By what is in each record: telemetry of any format, or a change.
    Sniffed(Box<dyn TelemetryDecoder>),
}

struct Tap {
    by: By,
    ndjson: bool,
    left: u64,
    /// Whether the table has its head.
    begun: bool,
}

fn named<F: serde::de::DeserializeOwned>(name: &str) -> Option<F> {
    serde_json::from_value(name.into()).ok()
}

fn mapped(fields: &Fields) -> Box<dyn TelemetryDecoder> {
    Box::new(fields::Decoder::new(fields, Limits::default()))
}

impl Tap {
    fn new(args: &Args, pipeline: Option<&Pipeline>) -> anyhow::Result<Self> {
        let telemetry = pipeline.and_then(|p| p.telemetry.iter().find(|source| source.topic == args.of));
        let changes = pipeline.and_then(|p| p.changes.iter().find(|source| source.topic == args.of));
        let by = if let Some(name) = &args.format {
            match (named::<TelemetryFormat>(name), named::<ChangeFormat>(name)) {
                (Some(format), _) => By::Telemetry(format.decoder(Limits::default())),
                (None, Some(format)) => By::Changes(format),
                (None, None) => {
                    bail!("--format {name}: no such format; docs/pipeline.md lists those of `telemetry` and `changes`")
                }
            }
        } else if let Some(source) = telemetry {
            By::Telemetry(match &source.fields {
                Some(fields) => mapped(fields),
                None => source.format.decoder(Limits::default()),
            })
        } else if let Some(source) = changes {
            By::Changes(source.format)
        } else {
            By::Sniffed(TelemetryFormat::Auto.decoder(Limits::default()))
        };
        Ok(Self {
            by,
            ndjson: args.ndjson,
            left: args.most.unwrap_or(u64::MAX),
            begun: false,
        })
    }

    /// Shows a record; whether another may follow.
    fn show(&mut self, offset: i64, headers: Headers<'_>, value: &[u8], out: &mut impl Write) -> anyhow::Result<bool> {
        if self.left == 0 {
            return Ok(false);
        }
        self.left -= 1;
        let mut text = String::new();
        let ndjson = self.ndjson;
        let mut sample = |sample: SampleRef<'_>| {
            let _ = if ndjson {
                let labels: serde_json::Map<String, serde_json::Value> = sample
                    .labels
                    .iter()
                    .map(|(name, value)| (name.to_string(), value.as_ref().into()))
                    .collect();
                let line = serde_json::json!({
                    "offset": offset, "ts": sample.ts, "metric": sample.metric, "value": sample.value, "labels": labels,
                });
                writeln!(text, "{line}")
            } else {
                let labels: Vec<String> = sample
                    .labels
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                writeln!(
                    text,
                    "{offset:<8} {:<20} {:<METRIC$} {:>VALUE$}  {}",
                    time(sample.ts),
                    sample.metric,
                    number(sample.value),
                    labels.join(" ")
                )
            };
        };
        let read: Result<Option<Decoded>, DecodeError> = match &mut self.by {
            By::Telemetry(decoder) => decoder.decode(value, &mut sample).map(Some),
            By::Changes(format) => {
                let format = *format;
                return self.change(format, offset, headers, value, out);
            }
            By::Sniffed(decoder) => match sniff(value) {
                Ok(_) => decoder.decode(value, &mut sample).map(Some),
                Err(_) if serde_json::from_slice::<serde_json::Value>(value).is_ok_and(|value| value.is_object()) => {
                    return self.change(ChangeFormat::Auto, offset, headers, value, out);
                }
                Err(_) => decoder.decode(value, &mut sample).map(Some),
            },
        };
        if !self.begun && !self.ndjson {
            self.begun = true;
            writeln!(
                out,
                "{:<8} {:<20} {:<METRIC$} {:>VALUE$}  LABELS",
                "OFFSET", "TIME", "METRIC", "VALUE"
            )?;
        }
        out.write_all(shown(&text).as_bytes())?;
        match read {
            Ok(decoded) => {
                for rejected in decoded.iter().flat_map(|decoded| &decoded.rejected) {
                    self.refused(offset, &rejected.to_string(), out)?;
                }
            }
            Err(error) => self.refused(offset, &error.to_string(), out)?,
        }
        Ok(self.left > 0)
    }

    fn change(
        &self,
        format: ChangeFormat,
        offset: i64,
        headers: Headers<'_>,
        value: &[u8],
        out: &mut impl Write,
    ) -> anyhow::Result<bool> {
        match format.decoder().decode(headers, Some(value)) {
            Ok(ChangeEvent::Change(change)) if self.ndjson => {
                let change = serde_json::to_value(&change).context("a change")?;
                writeln!(out, "{}", serde_json::json!({"offset": offset, "change": change}))?;
            }
            Ok(ChangeEvent::Change(change)) => writeln!(out, "{offset:<8} {}", of_change(&change).text)?,
            Ok(ChangeEvent::Ignored(what)) if self.ndjson => {
                writeln!(out, "{}", serde_json::json!({"offset": offset, "passed_over": what}))?;
            }
            Ok(ChangeEvent::Ignored(what)) => writeln!(out, "{offset:<8} passed over: {}", shown(&what))?,
            Err(error) => self.refused(offset, &error.to_string(), out)?,
        }
        Ok(self.left > 0)
    }

    fn refused(&self, offset: i64, why: &str, out: &mut impl Write) -> std::io::Result<()> {
        if self.ndjson {
            writeln!(out, "{}", serde_json::json!({"offset": offset, "refused": why}))
        } else {
            writeln!(out, "{offset:<8} refused: {}", shown(why))
        }
    }
}

/// Without what a terminal would take for commands.
fn shown(text: &str) -> String {
    text.replace(|c: char| c.is_control() && c != '\n', " ")
}
