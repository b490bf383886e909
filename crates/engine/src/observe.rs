//! The first fold: from the records of one input partition to facts.

mod anomaly;
mod carry;
mod derive;
mod evict;
pub(crate) mod intake;
mod judge;
mod meter;
mod named;
mod rollup;
mod silence;
mod state;
mod terms;

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use suture_codec::{TelemetryDecoder, json::Outlines};
use suture_config::{Pipeline, SignalMatcher, SignalRule};
use suture_detect::Bank;
use suture_event::{
    Change, EpochNote, Fact, FactBody, Labels, Progress, RecordRef, SeriesKey, ShardId, Span, Timestamp, Watched,
    stable_hash,
};
use suture_window::{Counters as WindowCounters, Windows};

use self::{
    carry::Account,
    evict::Ranking,
    intake::{Decoded, Taken, decoder_of},
    judge::Judge,
    silence::Arrivals,
};
use crate::{
    EngineError, Model, Source, SourceKind,
    raw::RawSlots,
    series::{SeriesTable, Slot, rolled_up_in},
};

/// Samples are judged at the latest when this many wait.
const PENDING: usize = 8_192;
/// How seldom a mark tells of nothing but the time, at least; and where nobody waits for the shard.
const QUIET: Span = Span::from_secs(2);
const UNAWAITED: Span = Span::from_secs(10);
/// Everything before a watermark has been said, but samples of the very same millisecond may still come.
const TICK: Span = Span::from_millis(1);

/// A record that could not be taken in, or not wholly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The record.
    pub offset: i64,
    /// What is wrong and what to do, in words; of a record with several bad samples, of the first ones.
    pub reason: String,
    /// How many samples of it were refused; 0 where the record as a whole could not be read.
    pub samples: u64,
}

/// One window of one series with its score, for `--scores`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoreRow {
    /// Time of the window's last sample.
    pub ts: Timestamp,
    /// The metric's name.
    pub metric: Arc<str>,
    /// The series' labels.
    pub labels: Labels,
    /// The window's value.
    pub value: f64,
    /// 1 less the probability of a window as unusual, in 0..=1.
    pub score: f64,
    /// The band within which a value was usual. Absent while the series is not known well enough.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub band: Option<Band>,
}

/// Where a value was expected.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Band {
    /// What was expected.
    pub expected: f64,
    /// Lower end of the band.
    pub lower: f64,
    /// Upper end of the band.
    pub upper: f64,
}

/// An alarm that a budget suppressed: for logs, since nothing follows from it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SuppressedAlarm {
    /// When it would have been told.
    pub at: Timestamp,
    /// The metric's name.
    pub metric: Arc<str>,
    /// The series' labels.
    pub labels: Labels,
    /// The detector that would have raised it.
    pub detector: &'static str,
    /// 1 less the probability of a window as unusual, in 0..=1.
    pub score: f64,
    /// What was measured; absent for a silent series.
    pub value: Option<f64>,
}

/// What a mark said last.
#[derive(Debug, Clone, Copy)]
struct Told {
    wall: Timestamp,
    watermark: Timestamp,
    seq: u64,
    idle: bool,
    silent: Option<(Timestamp, bool)>,
}

impl Told {
    /// Whether others must hear of it now: something was said or has changed; or time alone has gone on, and long enough.
    fn is_news(&self, before: Self, pause: Span) -> bool {
        let still = self.idle && before.idle || self.watermark == before.watermark;
        self.seq != before.seq
            || (self.idle, self.silent) != (before.idle, before.silent)
            || !still
            || self.wall >= before.wall.plus(pause)
            || self.wall < before.wall
            // a replay has no clock, and ticks when it has something to say
            || self.wall == Timestamp::MIN
    }
}

/// What observe said, in order.
#[derive(Debug, Default)]
pub struct ObserveOut {
    /// Facts. Progress marks have an empty scope and belong in every facts partition.
    pub facts: Vec<Fact>,
    /// Records for the dead-letter topic.
    pub dead_letters: Vec<DeadLetter>,
    /// Scores, where asked for.
    pub scores: Vec<ScoreRow>,
    /// Alarms that a budget suppressed.
    pub suppressed: Vec<SuppressedAlarm>,
}

/// Counts since the start of the process, but for the windows', which are the shard's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ObserveCounters {
    /// Records taken.
    pub records: u64,
    /// Samples decoded.
    pub samples: u64,
    /// Samples that the pipeline's conditions left out.
    pub left_out: u64,
    /// Records that went to the dead letters, wholly or in part.
    pub dead_letters: u64,
    /// Alarms that a budget suppressed.
    pub alarms_suppressed: u64,
    /// Samples refused because the bound on series was reached.
    pub series_refused: u64,
    /// Samples refused because as many instances as may be were rolled up with theirs.
    pub instances_refused: u64,
    /// Series of instances given up for a new one's, as they were silent.
    pub instances_replaced: u64,
    /// Series that found no place in a group of a derive rule, as the group or the number of groups was full.
    pub left_out_of_groups: u64,
    /// Series given up because the bound on series was reached.
    pub series_evicted: u64,
    /// Samples refused because they were from too far in the future.
    pub future: u64,
    /// Well-formed events that are none of this program's business.
    pub ignored: u64,
    /// Series known.
    pub series: u64,
    /// What became of samples in the windows.
    pub windows: WindowCounters,
}

/// How far a shard has learned what is usual of its series.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Warmth {
    /// Series that are judged: those of instances are not, but what they are rolled up into.
    pub series: u64,
    /// Those of which too little is known to say anything.
    pub warming: u64,
    /// Windows that nineteen in twenty of these have still to bring at most.
    pub windows: u32,
}

/// The fold over one input partition.
pub struct Observe {
    pipeline: Arc<Pipeline>,
    shard: ShardId,
    source: Source,
    matcher: SignalMatcher,
    /// Absent while a record is being decoded, and where none is of telemetry.
    decoder: Option<Box<dyn TelemetryDecoder>>,
    taken: Taken,
    table: SeriesTable,
    raw: RawSlots,
    outlines: Outlines,
    windows: Windows,
    judge: Judge,
    /// What series begin with, where it is known of them.
    model: Option<Arc<Model>>,
    pending: Pending,
    /// Newest time seen in a change, outcome or command; telemetry's is the windows'.
    newest: Timestamp,
    seq: u64,
    /// What was taken in, and what was said: kept apart, since how they interleave depends on how records come in batches.
    taken_digest: u64,
    said_digest: u64,
    /// Last version seen of each service, to notice deploys that nobody announced.
    versions: BTreeMap<Arc<str>, Arc<str>>,
    /// Call edges already said.
    edges: std::collections::BTreeSet<(Arc<str>, Arc<str>)>,
    /// Who is watched in which kinds of signal, by scope, as far as it was said.
    watched: std::collections::BTreeSet<(Arc<str>, Watched)>,
    roster: Vec<ShardId>,
    /// What the last mark said; no part of the state, as marks are not.
    told: Option<Told>,
    /// When series were last named; no part of the state, like the roster.
    named: Option<Timestamp>,
    ranking: Ranking,
    arrivals: Arrivals,
    /// For how long others wait where nothing comes.
    hold: Span,
    counters: ObserveCounters,
    with_scores: bool,
    /// What became of a state that was taken over, until an epoch puts it on record.
    account: Option<Account>,
}

/// Samples that wait to be judged, as columns.
#[derive(Debug, Default)]
struct Pending {
    rows: Vec<u32>,
    ts: Vec<Timestamp>,
    values: Vec<f64>,
}

impl Pending {
    /// Moves samples here. Where none waits the columns change places.
    fn take(&mut self, rows: &mut Vec<u32>, ts: &mut Vec<Timestamp>, values: &mut Vec<f64>) {
        if self.rows.is_empty() {
            std::mem::swap(&mut self.rows, rows);
            std::mem::swap(&mut self.ts, ts);
            std::mem::swap(&mut self.values, values);
        } else {
            self.rows.append(rows);
            self.ts.append(ts);
            self.values.append(values);
        }
    }

    fn clear(&mut self) {
        self.rows.clear();
        self.ts.clear();
        self.values.clear();
    }
}

impl Observe {
    /// A fold with nothing in it.
    ///
    /// # Errors
    /// Where the pipeline's window or detector options can't be.
    pub fn new(pipeline: Arc<Pipeline>, shard: ShardId, source: Source) -> Result<Self, EngineError> {
        let matcher = SignalMatcher::new(&pipeline).map_err(|e| EngineError::Detect {
            signal: String::new(),
            reason: e.to_string(),
        })?;
        let windows = Windows::new(&pipeline.window).map_err(|e| EngineError::Window(e.to_string()))?;
        let judge = Judge::new(&matcher, &pipeline)?;
        let decoder = decoder_of(&pipeline, &source);
        Ok(Self {
            hold: silence::hold(&pipeline),
            arrivals: Arrivals::default(),
            raw: RawSlots::new(pipeline.limits.series),
            outlines: Outlines::default(),
            pipeline,
            shard,
            source,
            matcher,
            decoder,
            taken: Taken::default(),
            table: SeriesTable::default(),
            windows,
            judge,
            model: None,
            pending: Pending::default(),
            newest: Timestamp::MIN,
            seq: 0,
            taken_digest: 0,
            said_digest: 0,
            versions: BTreeMap::new(),
            edges: std::collections::BTreeSet::new(),
            watched: std::collections::BTreeSet::new(),
            roster: Vec::new(),
            told: None,
            named: None,
            ranking: Ranking::default(),
            counters: ObserveCounters::default(),
            with_scores: false,
            account: None,
        })
    }

    /// Also writes the score of every window of every series.
    #[must_use]
    pub fn with_scores(mut self) -> Self {
        self.with_scores = true;
        self
    }

    /// What the decoder of a topic whose format it tells by itself has found since this was asked last.
    pub fn found(&mut self) -> Option<suture_codec::Sniffed> {
        self.decoder.as_mut()?.found()
    }

    pub(crate) fn set_model(&mut self, model: Arc<Model>) {
        self.model = Some(model);
    }

    pub(crate) fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    pub(crate) const fn table(&self) -> &SeriesTable {
        &self.table
    }

    /// The detectors with their rules; nothing while samples wait to be judged.
    pub(crate) fn learned(&self) -> Option<(&Pipeline, &[Arc<SignalRule>], impl Iterator<Item = &Bank>)> {
        let banks = self.pending.rows.is_empty().then(|| self.judge.banks())?;
        Some((&self.pipeline, self.matcher.rules(), banks))
    }

    /// The shard this is.
    #[must_use]
    pub const fn shard(&self) -> &ShardId {
        &self.shard
    }

    /// Takes one record. What follows from its samples may be appended only by the next [`Self::flush`], which must come
    /// before a commit, a snapshot or a progress mark.
    pub fn record(&mut self, record: RecordRef<'_>, out: &mut ObserveOut) {
        self.counters.records += 1;
        self.note_arrival(record.timestamp);
        match self.source.kind {
            SourceKind::Telemetry(_) | SourceKind::Rekeyed => {
                self.telemetry(record, out);
                if self.pending.rows.len() >= PENDING {
                    self.flush(out);
                }
            }
            SourceKind::Changes(_) | SourceKind::Outcomes | SourceKind::Commands => {
                match intake::decode(self.source.kind, record, self.pipeline.limits.record_bytes) {
                    Ok(Decoded::Change(change)) => {
                        let latest = record.timestamp.map(|at| at.plus(self.pipeline.limits.future));
                        self.change(change, latest, out);
                    }
                    Ok(Decoded::Outcome(outcome)) => {
                        let (scope, at) = (outcome.scope.clone(), outcome.at);
                        self.say(scope, at, FactBody::Outcome(outcome), out);
                    }
                    Ok(Decoded::Command(command)) => {
                        let (scope, at) = (command.scope.clone(), command.at);
                        self.say(scope, at, FactBody::Command(command), out);
                    }
                    Ok(Decoded::Ignored) => self.counters.ignored += 1,
                    Err(reason) => self.refuse(record.offset, reason, 0, out),
                }
            }
        }
    }

    /// Passes a change on. One that is said to lie after `latest` does not move this shard's time: no other would ever be
    /// waited for after that.
    fn change(&mut self, change: Change, latest: Option<Timestamp>, out: &mut ObserveOut) {
        let scope = change
            .environment
            .clone()
            .unwrap_or_else(|| self.pipeline.scope.default.as_str().into());
        self.newest = self
            .newest
            .max(latest.map_or(change.at, |latest| change.at.min(latest)));
        let at = change.at;
        self.say(scope, at, FactBody::Change(change), out);
    }

    /// Judges the samples that wait.
    pub fn flush(&mut self, out: &mut ObserveOut) {
        if self.pending.rows.is_empty() {
            return;
        }
        let mut pending = std::mem::take(&mut self.pending);
        let mut judge = std::mem::take(&mut self.judge);
        {
            let table = &self.table;
            let scores = self.with_scores.then_some(&mut out.scores);
            let mut digest = self.taken_digest;
            judge.take_in(
                &mut self.windows,
                &pending.rows,
                &pending.ts,
                &pending.values,
                table,
                scores,
                &mut digest,
            );
            self.taken_digest = digest;
        }
        self.say_judged(judge, out);
        pending.clear();
        self.pending = pending;
    }

    /// Says what the detectors found, and puts them back.
    fn say_judged(&mut self, mut judge: Judge, out: &mut ObserveOut) {
        for (anomaly, scope) in std::mem::take(&mut judge.said) {
            self.say(scope, anomaly.at, FactBody::Anomaly(anomaly), out);
        }
        self.counters.alarms_suppressed += judge.suppressed.len() as u64;
        out.suppressed.append(&mut judge.suppressed);
        self.judge = judge;
    }

    /// Says how far the shard is, where that is news. `idle` says that there has been nothing to read for as long as the options name. `roster` names every shard of the pipeline's sources; it is passed on when it has changed.
    pub fn tick(&mut self, wall: Timestamp, idle: bool, roster: &[ShardId], out: &mut ObserveOut) {
        self.flush(out);
        let (watermark, silence) = (self.complete_to(wall, idle), self.silence(wall, idle));
        let changed = self.roster != roster;
        let told = Told {
            wall,
            watermark,
            seq: self.seq,
            idle,
            silent: silence.map(|silence| (silence.since, silence.stopped)),
        };
        if !changed && self.told.is_some_and(|before| !told.is_news(before, self.pause())) {
            return;
        }
        self.told = Some(told);
        if changed {
            self.roster = roster.to_vec();
        }
        let roster = if changed { roster.to_vec() } else { Vec::new() };
        let body = FactBody::Progress(Progress {
            watermark,
            wall,
            idle,
            silent: silence.map(|silence| silence.since),
            stopped: silence.is_some_and(|silence| silence.stopped),
            roster,
            series: self.series_marks(wall),
        });
        // a mark is not replayed, so it must not count among the facts that are
        out.facts.push(Fact {
            scope: "".into(),
            at: watermark,
            shard: self.shard.clone(),
            seq: self.seq,
            body,
        });
    }

    /// Says that nothing more comes, so that what the newest samples show is judged as well: for what has an end, as a file.
    pub fn end(&mut self, out: &mut ObserveOut) {
        self.flush(out);
        let watermark = match self.source.kind {
            SourceKind::Telemetry(_) | SourceKind::Rekeyed => self.windows.newest(),
            _ => self.newest,
        };
        if watermark == Timestamp::MIN {
            return;
        }
        let watermark = watermark.plus(TICK);
        out.facts.push(Fact {
            scope: "".into(),
            at: watermark,
            shard: self.shard.clone(),
            seq: self.seq,
            body: FactBody::Progress(Progress {
                watermark,
                wall: Timestamp::MIN,
                idle: true,
                silent: None,
                stopped: false,
                roster: Vec::new(),
                series: None,
            }),
        });
    }

    /// How long the clock on the wall alone goes on until a mark tells of it: nobody waits for what executors and humans say.
    fn pause(&self) -> Span {
        let half = Span::from_millis(self.pipeline.kafka.patience.as_millis() / 2);
        match self.source.kind {
            SourceKind::Telemetry(_) | SourceKind::Rekeyed | SourceKind::Changes(_) => QUIET.min(half),
            SourceKind::Outcomes | SourceKind::Commands => UNAWAITED.min(half),
        }
    }

    /// Says that the shard began anew, and what of its state went on; what ended with the rest follows. Like a mark the note
    /// uses up no number: it is written once, with a snapshot behind it.
    pub fn epoch(&mut self, mut note: EpochNote, out: &mut ObserveOut) {
        self.flush(out);
        let place = out.facts.len();
        note.carried = self.settle_account(out);
        let (at, shard) = (self.watermark(), self.shard.clone());
        let fact = Fact {
            scope: "".into(),
            at,
            shard,
            seq: out.facts.get(place).map_or(self.seq, |first| first.seq),
            body: FactBody::Epoch(note),
        };
        out.facts.insert(place, fact);
    }

    /// Event time before which everything was said.
    #[must_use]
    pub fn watermark(&self) -> Timestamp {
        match self.source.kind {
            SourceKind::Telemetry(_) | SourceKind::Rekeyed if self.windows.watermark() == Timestamp::MIN => {
                Timestamp::MIN
            }
            SourceKind::Telemetry(_) | SourceKind::Rekeyed => {
                let lateness = if self.pipeline.window.size.is_some() {
                    self.pipeline.window.lateness
                } else {
                    Span::ZERO
                };
                self.windows.watermark().plus(lateness).minus(TICK)
            }
            _ if self.newest == Timestamp::MIN => Timestamp::MIN,
            _ => self.newest.minus(TICK),
        }
    }

    /// A number that differs, but for chance, where two runs took in other samples or said other things.
    #[must_use]
    pub fn digest(&self) -> u64 {
        stable_hash([
            self.taken_digest.to_le_bytes().as_slice(),
            &self.said_digest.to_le_bytes(),
        ])
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> ObserveCounters {
        ObserveCounters {
            series: self.table.len() as u64,
            left_out_of_groups: self.judge.derive.left_out(),
            windows: self.windows.counters(),
            ..self.counters
        }
    }

    /// How far it has learned what is usual. Costs some nanoseconds a series.
    #[must_use]
    pub fn warmth(&self) -> Warmth {
        let mut warmth = Warmth::default();
        let mut cold = Vec::new();
        for windows in self.judge.warms_in() {
            warmth.series += 1;
            if windows > 0 {
                cold.push(windows);
            }
        }
        warmth.warming = cold.len() as u64;
        if !cold.is_empty() {
            let at = (cold.len() * 19).div_ceil(20).saturating_sub(1);
            warmth.windows = *cold.select_nth_unstable(at).1;
        }
        warmth
    }

    /// Why the detectors of a series judge it as they do, in words; `None` for a series that is not known.
    #[must_use]
    pub fn explain(&self, hash: u64) -> Option<String> {
        // one that is made goes by its own name as well, unless one of that name is sent
        let made = || self.table.slot(rolled_up_in(hash, self.shard.partition));
        match self.table.slot(hash).or_else(made)? {
            Slot::Row(row) => self.judge.explain(self.table.get(row)?),
            Slot::LeftOut => Some("left out by the pipeline's condition".to_owned()),
            Slot::Refused | Slot::Crowded => Some("refused: the bound on series was reached".to_owned()),
        }
    }

    /// Every series in the order of its first sample, with why its detectors judge it as they do.
    pub fn explain_all(&self) -> impl Iterator<Item = (&SeriesKey, String)> {
        let rows = self.table.iter();
        rows.map(|series| (&series.key, self.judge.explain(series).unwrap_or_default()))
    }

    /// Says a fact. Marks have promised that nothing more comes of the time up to the watermark: what a sample shows that came
    /// later than others, but not too late, is said of the time after it.
    fn say(&mut self, scope: Arc<str>, at: Timestamp, body: FactBody, out: &mut ObserveOut) {
        let of_telemetry = matches!(self.source.kind, SourceKind::Telemetry(_) | SourceKind::Rekeyed);
        let at = match body {
            FactBody::Change(_) | FactBody::Edge(_) | FactBody::Watched(_) if of_telemetry => {
                at.max(self.watermark().plus(TICK))
            }
            _ => at,
        };
        self.said_digest = stable_hash([
            self.said_digest.to_le_bytes().as_slice(),
            &self.seq.to_le_bytes(),
            &at.as_millis().to_le_bytes(),
            &[body.rank()],
        ]);
        out.facts.push(Fact {
            scope,
            at,
            shard: self.shard.clone(),
            seq: self.seq,
            body,
        });
        self.seq += 1;
    }

    fn refuse(&mut self, offset: i64, reason: String, samples: u64, out: &mut ObserveOut) {
        self.counters.dead_letters += 1;
        out.dead_letters.push(DeadLetter {
            offset,
            reason,
            samples,
        });
    }
}
