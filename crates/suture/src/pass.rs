//! A pipeline over what lies in files: both folds, with time taken from the data.

use std::{path::Path, sync::Arc};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use suture_codec::{ChangeFormat, TelemetryFormat};
use suture_engine::{
    Decide, DecideOut, Headers, Observe, ObserveOut, RecordRef, ScoreRow, Source, SourceKind, SuppressedAlarm,
};
use suture_event::{Fact, ShardId, Timestamp};
use suture_service::load::Loaded;

use crate::{
    feed::Feed,
    replay::{lines::Lines, refold::by_event_time},
};

/// Records fed at a time. What is found does not depend on it.
const BATCH: u64 = 4_096;

/// Who is told what is found, in the order in which it is.
pub(crate) trait Listener {
    /// A record that could not be taken in.
    fn rejected(&mut self, path: &Path, number: i64, reason: &str) -> anyhow::Result<()>;

    /// A window's score, where they were asked for.
    fn score(&mut self, score: &ScoreRow) -> anyhow::Result<()> {
        let _ = score;
        Ok(())
    }

    /// An alarm that a budget suppressed.
    fn suppressed(&mut self, alarm: &SuppressedAlarm) -> anyhow::Result<()> {
        let _ = alarm;
        Ok(())
    }

    /// What decide is about to be told.
    fn fact(&mut self, fact: &Fact) -> anyhow::Result<()>;

    /// What decide said; to be taken out.
    fn decided(&mut self, decided: &mut DecideOut) -> anyhow::Result<()>;
}

/// All that a pipeline reads, and of these the telemetry, in the format that a file is known to be in, and the changes.
///
/// # Errors
/// Where the pipeline names no telemetry, or cannot be.
pub(crate) fn inputs(loaded: &Loaded, format: Option<TelemetryFormat>) -> anyhow::Result<(Vec<Source>, [Source; 2])> {
    let sources = Source::all(&loaded.pipeline, loaded.expressions.as_ref())?;
    let first = |kind: fn(&SourceKind) -> bool| sources.iter().find(|source| kind(&source.kind)).cloned();
    let samples = first(|kind| matches!(kind, SourceKind::Telemetry(_)));
    let mut samples = samples.context("the pipeline names no telemetry")?;
    match format {
        // what no known tool writes is read as the pipeline says
        None if samples.fields.is_some() => {}
        known => {
            samples.kind = SourceKind::Telemetry(known.unwrap_or_default());
            samples.fields = None;
        }
    }
    let deploys = first(|kind| matches!(kind, SourceKind::Changes(_))).unwrap_or(Source {
        topic: "changes".to_owned(),
        kind: SourceKind::Changes(ChangeFormat::default()),
        fields: None,
        filter: None,
        value: None,
    });
    Ok((sources, [samples, deploys]))
}

/// The one shard of a source that lies in a file.
pub(crate) fn shard_of(source: &Source) -> ShardId {
    ShardId {
        topic: source.topic.as_str().into(),
        partition: 0,
    }
}

/// The folds over one run of the data.
pub(crate) struct Pass {
    telemetry: Observe,
    changes: Observe,
    roster: [ShardId; 2],
    decide: Decide,
    observed: ObserveOut,
    decided: DecideOut,
    fed: u64,
    /// Why the first record that was refused was.
    reason: Option<String>,
}

impl Pass {
    /// With nothing fed. Shards are named as they would be in a run, so that facts are the same in both.
    ///
    /// # Errors
    /// Where the pipeline names no telemetry, or cannot be.
    pub(crate) fn new(loaded: &Loaded, format: Option<TelemetryFormat>) -> anyhow::Result<Self> {
        let (_, [samples, deploys]) = inputs(loaded, format)?;
        let roster = [shard_of(&samples), shard_of(&deploys)];
        let mut pipeline = by_event_time(&loaded.pipeline);
        if format == Some(TelemetryFormat::ArrowIpc) {
            // a batch of rows is no record that somebody sent
            Arc::make_mut(&mut pipeline).limits.record_bytes = usize::MAX;
        }
        let mut telemetry = Observe::new(pipeline.clone(), roster[0].clone(), samples)?;
        if let Some(model) = &loaded.model {
            telemetry = telemetry.with_model(model.clone())?;
        }
        Ok(Self {
            telemetry,
            changes: Observe::new(pipeline.clone(), roster[1].clone(), deploys)?,
            roster,
            decide: Decide::new(pipeline, loaded.edges.clone()),
            observed: ObserveOut::default(),
            decided: DecideOut::default(),
            fed: 0,
            reason: None,
        })
    }

    /// Also tells scores.
    pub(crate) fn with_scores(mut self) -> Self {
        self.telemetry = self.telemetry.with_scores();
        self
    }

    /// Changes go first, all of them: facts wait for their time.
    ///
    /// # Errors
    /// Where the file cannot be read or nothing of what is in it could be used, and whatever the listener fails with.
    pub(crate) fn changes(&mut self, path: &Path, listener: &mut impl Listener) -> anyhow::Result<()> {
        let mut lines = Lines::open(path)?;
        let mut count = Count::default();
        while let Some(line) = lines.next_line()? {
            count.fed += 1;
            self.changes.record(record(line.number, line.text), &mut self.observed);
            count.refused += self.hand_on(path, listener)?;
        }
        // an hour without a change is one, and its file is empty
        if count.fed == 0 {
            return Ok(());
        }
        count.require_some_good(path, self.reason.as_deref())
    }

    /// One change.
    ///
    /// # Errors
    /// Where it could not be read, and whatever the listener fails with.
    pub(crate) fn change(&mut self, path: &Path, bytes: &[u8], listener: &mut impl Listener) -> anyhow::Result<()> {
        self.changes.record(record(0, bytes), &mut self.observed);
        self.hand_on(path, listener).map(|_| ())
    }

    /// Feeds all telemetry, and ends.
    ///
    /// # Errors
    /// Where a file cannot be read or nothing in it could be used, and whatever the listener fails with.
    pub(crate) fn telemetry(&mut self, feed: &Feed, listener: &mut impl Listener) -> anyhow::Result<()> {
        self.begin();
        let progress = bar(feed.size());
        let mut count = Count::default();
        let mut path = std::path::PathBuf::new();
        feed.each(|piece| {
            if path != piece.path {
                count.refused += self.hand_on(&path, listener)?;
                piece.path.clone_into(&mut path);
            }
            count.fed += 1;
            if self.fed.is_multiple_of(BATCH) {
                progress.set_position(piece.done);
            }
            count.refused += self.sample(&path, piece.number, piece.bytes, listener)?;
            Ok(())
        })?;
        count.refused += self.end(&path, listener)?;
        progress.finish_and_clear();
        count.require_some_good(
            feed.paths().first().map_or(&path, |first| first),
            self.reason.as_deref(),
        )
    }

    /// No change comes any more.
    pub(crate) fn begin(&mut self) {
        self.changes
            .tick(Timestamp::MIN, true, &self.roster, &mut self.observed);
    }

    /// One record of telemetry; how many were refused since the last were handed on.
    ///
    /// # Errors
    /// Whatever the listener fails with.
    pub(crate) fn sample(
        &mut self,
        path: &Path,
        number: i64,
        bytes: &[u8],
        listener: &mut impl Listener,
    ) -> anyhow::Result<u64> {
        self.telemetry.record(record(number, bytes), &mut self.observed);
        self.fed += 1;
        if !self.fed.is_multiple_of(BATCH) {
            return Ok(0);
        }
        self.telemetry
            .tick(Timestamp::MIN, false, &self.roster, &mut self.observed);
        self.hand_on(path, listener)
    }

    /// No sample comes any more: what is open is judged.
    ///
    /// # Errors
    /// Whatever the listener fails with.
    pub(crate) fn end(&mut self, path: &Path, listener: &mut impl Listener) -> anyhow::Result<u64> {
        self.telemetry
            .tick(Timestamp::MIN, true, &self.roster, &mut self.observed);
        self.telemetry.end(&mut self.observed);
        let refused = self.hand_on(path, listener)?;
        self.decide.end(&mut self.decided);
        listener.decided(&mut self.decided)?;
        Ok(refused)
    }

    /// Facts to decide, and what both planes said to the listener; how many records were refused.
    fn hand_on(&mut self, path: &Path, listener: &mut impl Listener) -> anyhow::Result<u64> {
        let refused = self.observed.dead_letters.len() as u64;
        for letter in self.observed.dead_letters.drain(..) {
            listener.rejected(path, letter.offset, &letter.reason)?;
            let reason = || format!("{} (number {})", letter.reason, letter.offset);
            self.reason.get_or_insert_with(reason);
        }
        for score in self.observed.scores.drain(..) {
            listener.score(&score)?;
        }
        for alarm in self.observed.suppressed.drain(..) {
            listener.suppressed(&alarm)?;
        }
        for fact in self.observed.facts.drain(..) {
            listener.fact(&fact)?;
            self.decide.fact(fact, &mut self.decided)?;
        }
        listener.decided(&mut self.decided)?;
        Ok(refused)
    }
}

fn record(number: i64, bytes: &[u8]) -> RecordRef<'_> {
    RecordRef {
        offset: number,
        timestamp: None,
        key: None,
        headers: Headers::default(),
        value: Some(bytes),
    }
}

fn bar(size: u64) -> ProgressBar {
    if size == 0 {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(size);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent:>3}% {eta}") {
        bar.set_style(style);
    }
    bar
}

/// A file of which nothing could be used is an error of the call, not of some lines.
#[derive(Default)]
struct Count {
    fed: u64,
    refused: u64,
}

impl Count {
    fn require_some_good(&self, path: &Path, reason: Option<&str>) -> anyhow::Result<()> {
        if self.fed == 0 {
            bail!("{} has no lines: one JSON object a line was expected", path.display());
        }
        if self.refused >= self.fed {
            bail!(
                "all {} records of {} were refused, the first since {}",
                self.fed,
                path.display(),
                reason.unwrap_or("it is no sample")
            );
        }
        Ok(())
    }
}
