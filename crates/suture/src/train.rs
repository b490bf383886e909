//! `suture train`: what detectors learn from history, as a model file.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use suture_codec::TelemetryFormat;
use suture_engine::{Headers, Model, Observe, ObserveOut, RecordRef, Source, SourceKind};
use suture_event::ShardId;

use suture_service::load::{self, Loaded};

use crate::feed::Feed;

/// Reasons that are printed of what was refused.
const REASONS: usize = 5;
/// Records between two looks at what was said, which is let go.
const BATCH: u64 = 4_096;

/// Learns from history, so that series need not warm up.
///
/// Writes a model file, which `run` and `replay` take with --model, or the pipeline file names under `model`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The pipeline file: its windows and signals are what is learned.
    #[arg(long, value_name = "FILE.yaml")]
    pipeline: PathBuf,
    /// Samples: NDJSON, one JSON object a line in the order of time; CSV, a file or a folder; or Parquet, a file or a folder,
    /// with the columns of `format: arrow_ipc`. More than one is learned from in the order given, which must be that of time.
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    telemetry: Vec<PathBuf>,
    /// The model file to write.
    #[arg(long, value_name = "FILE.model")]
    out: PathBuf,
}

/// Learns and writes.
pub(crate) fn train(args: &Args) -> anyhow::Result<()> {
    let loaded = load::load(&args.pipeline, None)?;
    let mut pupil = None;
    for path in &args.telemetry {
        let feed = Feed::open(std::slice::from_ref(path))?;
        let format = feed.format()?.unwrap_or_default();
        let pupil = match &mut pupil {
            None => pupil.insert((Pupil::new(&loaded, format)?, format)),
            Some(pupil) => pupil,
        };
        ensure!(
            pupil.1 == format,
            "--telemetry names files of several formats: train from one at a time"
        );
        let pupil = &mut pupil.0;
        let taken = pupil.observe.counters().samples;
        feed.each(|piece| {
            pupil.take(piece.number, piece.bytes);
            Ok(())
        })?;
        pupil.look();
        ensure!(
            pupil.observe.counters().samples > taken,
            "nothing could be learned from {}: {}",
            path.display(),
            pupil.reasons.first().map_or("it holds no samples", String::as_str)
        );
    }
    let (pupil, _) = pupil.context("--telemetry names no file")?;
    let bytes = Model::encode(&pupil.observe)?;
    let model = Model::decode(&bytes)?;
    write(&args.out, &bytes)?;
    let (about, counters) = (model.about(), pupil.observe.counters());
    println!(
        "{}: {} series learned from {} samples up to {}, {} bytes",
        args.out.display(),
        about.series,
        about.samples,
        about.until,
        bytes.len()
    );
    let late = counters.windows.late_dropped + counters.windows.repeated;
    if late > 0 {
        println!(
            "{late} samples came too late for their windows and were left out: are the files in the order of time?"
        );
    }
    if pupil.refused > 0 {
        println!(
            "{} records were refused, such as: {}",
            pupil.refused,
            pupil.reasons.join("; ")
        );
    }
    Ok(())
}

/// Written beside it first, so that no run meets half a model.
fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let beside = path.with_extension("model.part");
    fs::write(&beside, bytes)
        .and_then(|()| fs::rename(&beside, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

struct Pupil {
    observe: Observe,
    out: ObserveOut,
    refused: u64,
    reasons: Vec<String>,
    records: u64,
}

impl Pupil {
    fn new(loaded: &Loaded, format: TelemetryFormat) -> anyhow::Result<Self> {
        let mut source = Source::all(&loaded.pipeline, loaded.expressions.as_ref())?
            .into_iter()
            .find(|source| matches!(source.kind, SourceKind::Telemetry(_)))
            .context("the pipeline names no telemetry")?;
        source.kind = SourceKind::Telemetry(format);
        source.fields = None;
        let mut pipeline = suture_config::Pipeline::clone(&loaded.pipeline);
        // a batch of Parquet rows is no record that somebody sent
        pipeline.limits.record_bytes = usize::MAX;
        let shard = ShardId {
            topic: source.topic.as_str().into(),
            partition: 0,
        };
        Ok(Self {
            observe: Observe::new(pipeline.into(), shard, source)?,
            out: ObserveOut::default(),
            refused: 0,
            reasons: Vec::new(),
            records: 0,
        })
    }

    fn take(&mut self, number: i64, bytes: &[u8]) {
        let record = RecordRef {
            offset: number,
            timestamp: None,
            key: None,
            headers: Headers::default(),
            value: Some(bytes),
        };
        self.observe.record(record, &mut self.out);
        self.records += 1;
        if self.records.is_multiple_of(BATCH) {
            self.look();
        }
    }

    /// Of what was said only the reasons of what was refused matter here.
    fn look(&mut self) {
        self.observe.flush(&mut self.out);
        for letter in self.out.dead_letters.drain(..) {
            self.refused += 1;
            if self.reasons.len() < REASONS {
                self.reasons.push(format!("{} ({})", letter.reason, letter.offset));
            }
        }
        self.out = ObserveOut::default();
    }
}
