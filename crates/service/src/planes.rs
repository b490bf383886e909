//! The folds as the runtime drives them: facts, incidents, action requests and the ledger become records of topics.

mod decide;
mod rekey;
mod tell;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use suture_codec::{Message, records};
use suture_config::Pipeline;
use suture_engine::{
    ENGINE_VERSION, EngineError, Model, Observe, ObserveOut, RecordRef, ScoreRow, Seal, Source, SourceKind,
};
use suture_event::{Carried, Fact, FactBody, ShardId, Timestamp};
use suture_log::{Batch, HeadersBuf, OutRecord};
use suture_runtime::{Epoch, EpochCause, Fingerprint, Fold, FoldError, Folds, Outputs, Tick};

use self::tell::{ObserveTeller, Teller};
pub use self::{decide::DecideFolds, rekey::RekeyFolds};
use crate::status::Board;

/// Who the events say they come from.
const SOURCE: &str = "/suture";
/// A dead letter's reason is cut to this many bytes: brokers bound a record's headers.
const REASON: usize = 4_096;

/// A dead letter is no larger than this: a client takes a million bytes unless it is told otherwise, and a broker 48,576 more,
/// so that a record which just fitted would not fit once it has headers that say what is wrong with it; and a shard whose dead
/// letter is refused cannot go on.
const LETTER: usize = 950_000;

/// Names of what the folds count, as the runtime's metrics carry them.
pub mod count {
    /// Series known to a shard of observe.
    pub const SERIES: &str = "series";
    /// Series of which too little is known to say anything.
    pub const SERIES_WARMING: &str = "series_warming";
    /// Samples decoded.
    pub const SAMPLES: &str = "samples";
    /// Samples that `where` left out.
    pub const LEFT_OUT: &str = "samples_left_out";
    /// Samples of series beyond `limits.series`.
    pub const SERIES_REFUSED: &str = "samples_refused";
    /// Series given up at `limits.series`.
    pub const SERIES_EVICTED: &str = "series_evicted";
    /// Samples of instances beyond `instances.most`.
    pub const INSTANCES_REFUSED: &str = "samples_of_instances_refused";
    /// Series of instances that gave way to those of new ones.
    pub const INSTANCES_REPLACED: &str = "series_of_instances_replaced";
    /// Samples from further ahead than `limits.future`.
    pub const FUTURE: &str = "samples_future";
    /// Samples whose name and labels alone are larger than `rekey.batch_bytes`.
    pub const TOO_LARGE: &str = "samples_too_large";
    /// Samples put into partitions anew.
    pub const REKEYED: &str = "samples_rekeyed";
    /// Series that found no place in a group of a derive rule.
    pub const LEFT_OUT_OF_GROUPS: &str = "series_left_out_of_groups";
    /// Alarms that a budget suppressed.
    pub const ALARMS_SUPPRESSED: &str = "alarms_suppressed";
    /// Samples that came after their window had closed.
    pub const LATE: &str = "samples_late";
    /// Windows closed.
    pub const WINDOWS: &str = "windows_closed";
    /// Facts taken in by decide.
    pub const FACTS: &str = "facts";
    /// Facts that wait for slower shards.
    pub const FACTS_HELD: &str = "facts_held";
    /// Facts whose time had passed.
    pub const FACTS_LATE: &str = "facts_late";
    /// Facts judged early at the bound on held facts.
    pub const FACTS_FORCED: &str = "facts_forced";
    /// Series seen in two partitions of one topic.
    pub const SERIES_TWICE: &str = "series_in_two_partitions";
    /// Facts of scopes beyond `limits.scopes`.
    pub const SCOPES_REFUSED: &str = "scopes_refused";
    /// Scopes without telemetry that made room for others.
    pub const SCOPES_PUT_AWAY: &str = "scopes_put_away";
    /// Scopes with telemetry that made room for others.
    pub const SCOPES_DISPLACED: &str = "scopes_displaced";
    /// Partitions with telemetry of a scope that are silent.
    pub const SHARDS_MISSING: &str = "shards_missing";
    /// States of incidents that were told while telemetry was missing.
    pub const JUDGED_WITHOUT: &str = "judged_without";
    /// Scopes that have changes and no telemetry.
    pub const SCOPES_WITHOUT_TELEMETRY: &str = "scopes_without_telemetry";
    /// Facts and marks from far ahead of all others.
    pub const FACTS_AHEAD: &str = "facts_ahead";
}

/// The names of the topics that a pipeline owns.
#[derive(Debug, Clone)]
pub struct Topics {
    /// The whole input of decide.
    pub facts: Arc<str>,
    /// Incidents, in every state.
    pub incidents: Arc<str>,
    /// Action requests.
    pub remediations: Arc<str>,
    /// What executors did.
    pub outcomes: Arc<str>,
    /// What humans want.
    pub commands: Arc<str>,
    /// Every decision, chained by hashes.
    pub ledger: Arc<str>,
    /// Snapshots of all planes.
    pub state: Arc<str>,
    /// Records that could not be taken in.
    pub dead_letters: Arc<str>,
    /// Telemetry put into partitions anew, where the pipeline has that done.
    pub rekeyed: Option<Arc<str>>,
}

impl Topics {
    /// Of a pipeline's prefix.
    #[must_use]
    pub fn of(pipeline: &Pipeline) -> Self {
        let name = |what: &str| -> Arc<str> { format!("{}.{what}", pipeline.kafka.prefix).into() };
        Self {
            facts: name("facts"),
            incidents: name("incidents"),
            remediations: name("remediations"),
            outcomes: name("outcomes"),
            commands: name("commands"),
            ledger: name("ledger"),
            state: name("state"),
            dead_letters: name("dead-letters"),
            rekeyed: pipeline.rekeyed_topic().map(Arc::from),
        }
    }
}

/// Makes observe's folds, one for each input partition.
pub struct ObserveFolds {
    /// What the folds are made from.
    pub pipeline: Arc<Pipeline>,
    /// The input topics.
    pub sources: Vec<Source>,
    /// Where to.
    pub topics: Topics,
    /// What series begin with.
    pub model: Option<Arc<Model>>,
    /// Partitions of the facts topic, each of which gets every progress mark.
    pub fact_partitions: i32,
    /// Who looks on at what series measure; nothing rests on it.
    pub onlooker: Option<Onlooker>,
    /// Where shards write how they stand.
    pub board: Arc<Board>,
}

/// Takes what series measured, window by window. It must not wait: a shard's thread calls it.
pub type Onlooker = Arc<dyn Fn(Vec<ScoreRow>) + Send + Sync>;

impl Folds for ObserveFolds {
    fn create(&self, shard: &ShardId) -> Result<Box<dyn Fold>, FoldError> {
        let source = self
            .sources
            .iter()
            .find(|source| source.topic == shard.topic.as_ref())
            .ok_or_else(|| FoldError(format!("topic {} is no input of the pipeline", shard.topic)))?;
        let mut observe = Observe::new(self.pipeline.clone(), shard.clone(), source.clone()).map_err(error)?;
        if let Some(model) = &self.model {
            observe = observe.with_model(model.clone()).map_err(error)?;
        }
        if self.onlooker.is_some() {
            observe = observe.with_scores();
        }
        Ok(Box::new(ObserveFold {
            observe,
            onlooker: self.onlooker.clone(),
            topics: self.topics.clone(),
            one: self
                .pipeline
                .scope
                .is_one()
                .then(|| self.pipeline.scope.default.as_str().into()),
            fact_partitions: self.fact_partitions,
            epoch: 0,
            teller: ObserveTeller::new(
                Teller::new("observe", shard, &self.board),
                matches!(source.kind, SourceKind::Telemetry(_) | SourceKind::Rekeyed),
                self.pipeline.window.size,
            ),
            out: ObserveOut::default(),
        }))
    }

    fn fingerprint(&self) -> Fingerprint {
        let mut fingerprint = fingerprint(&self.pipeline);
        if let Some(model) = &self.model {
            fingerprint.pipeline.push_str(&format!("+{:016x}", model.digest()));
        }
        fingerprint
    }
}

fn fingerprint(pipeline: &Pipeline) -> Fingerprint {
    Fingerprint {
        engine: ENGINE_VERSION.to_string(),
        pipeline: format!("{:016x}", pipeline.fingerprint()),
    }
}

fn error(error: EngineError) -> FoldError {
    FoldError(error.to_string())
}

struct ObserveFold {
    observe: Observe,
    onlooker: Option<Onlooker>,
    topics: Topics,
    /// The one scope, where the pipeline names none: all of its facts belong in one partition.
    one: Option<Arc<str>>,
    fact_partitions: i32,
    /// The epoch that the shard is in, which goes with each of its facts.
    epoch: u32,
    teller: ObserveTeller,
    out: ObserveOut,
}

/// Something that is said in the log once a minute at most, however often it happens.
#[derive(Debug, Default)]
struct Seldom {
    said: Option<Instant>,
    /// How often it happened since.
    since: u64,
}

impl Seldom {
    /// Counts it so many times, and gives how often it happened since it was last said where it is to be said now.
    fn due(&mut self, times: u64) -> Option<u64> {
        const PAUSE: Duration = Duration::from_secs(60);
        self.since += times;
        if self.since == 0 || self.said.is_some_and(|said| said.elapsed() < PAUSE) {
            return None;
        }
        self.said = Some(Instant::now());
        Some(std::mem::take(&mut self.since))
    }
}

/// Records that are taken in together.
const TOGETHER: usize = 256;

/// A fact's record, with the header that tells it from what others write.
fn record_of(topic: &Arc<str>, key: &[u8], value: Vec<u8>, seal: Seal) -> OutRecord {
    let mut record = OutRecord::new(topic.clone(), key, value);
    let mut headers = HeadersBuf::default();
    headers.push(Seal::HEADER, Some(seal.encode().as_bytes()));
    record.headers = headers;
    record
}

/// A record for each of these partitions of a topic, for what each of them must know.
fn push_to(topic: &Arc<str>, partitions: std::ops::Range<i32>, (value, seal): (Vec<u8>, Seal), outputs: &mut Outputs) {
    let mut record = record_of(topic, b"", value, seal);
    record.key = None;
    for partition in partitions {
        outputs.push(OutRecord {
            partition: Some(partition),
            ..record.clone()
        });
    }
}

fn encoded(fact: &Fact) -> Option<Vec<u8>> {
    let value = records::encode(fact);
    value
        .inspect_err(|error| tracing::error!(%error, "a fact could not be written"))
        .ok()
}

impl ObserveFold {
    fn take(&mut self, records: &[RecordRef<'_>], outputs: &mut Outputs) {
        self.observe.records(records, &mut self.out);
        if let Some(found) = self.observe.found() {
            let topic = &self.observe.shard().topic;
            tracing::info!(%topic, format = ?found.format, "a record was taken for this format, because {}", found.why);
        }
        for letter in self.out.dead_letters.drain(..) {
            self.teller.dead_letter(letter.offset, &letter.reason);
            let at = records.binary_search_by_key(&letter.offset, |record| record.offset);
            if let Some(record) = at.ok().and_then(|at| records.get(at)) {
                outputs.push_dead_letter(dead_letter(
                    &self.topics,
                    self.observe.shard(),
                    *record,
                    &letter.reason,
                    letter.samples,
                ));
            }
        }
    }

    fn say(&mut self, outputs: &mut Outputs) {
        if let Some(onlooker) = &self.onlooker
            && !self.out.scores.is_empty()
        {
            onlooker(std::mem::take(&mut self.out.scores));
        }
        for alarm in self.out.suppressed.drain(..) {
            tracing::info!(
                at = %alarm.at,
                metric = %alarm.metric,
                labels = ?alarm.labels,
                detector = alarm.detector,
                score = alarm.score,
                "an alarm was suppressed by its budget"
            );
        }
        let (facts, epoch) = (&self.topics.facts, self.epoch);
        for mut fact in self.out.facts.drain(..) {
            self.teller.fact(&fact);
            // what compares series is one, and needs them once
            let named = match &mut fact.body {
                FactBody::Progress(progress) => progress.series.take(),
                _ => None,
            };
            let seal = Seal { epoch, seq: fact.seq };
            let to_all = matches!(fact.body, FactBody::Progress(_) | FactBody::Epoch(_));
            if let Some(one) = self.one.as_ref().filter(|_| !to_all) {
                fact.scope = one.clone();
            }
            let Some(value) = encoded(&fact) else { continue };
            // where there is one scope, its partition alone has to know
            let one = self.one.as_ref().filter(|_| to_all);
            if let Some(key) = one.or_else(|| (!to_all).then_some(&fact.scope)) {
                let value = match (&mut fact.body, named) {
                    (FactBody::Progress(progress), Some(named)) => {
                        progress.series = Some(named);
                        encoded(&fact)
                    }
                    _ => Some(value),
                };
                let Some(value) = value else { continue };
                outputs.push(record_of(facts, key.as_bytes(), value, seal));
                continue;
            }
            let mut first = 0;
            if let (FactBody::Progress(progress), Some(_)) = (&mut fact.body, &named) {
                progress.series = named;
                let Some(value) = encoded(&fact) else { continue };
                push_to(facts, 0..1, (value, seal), outputs);
                first = 1;
            }
            push_to(facts, first..self.fact_partitions, (value, seal), outputs);
        }
    }
}

impl Fold for ObserveFold {
    fn record(&mut self, record: RecordRef<'_>, out: &mut Outputs) {
        self.take(&[record], out);
        self.observe.flush(&mut self.out);
        self.say(out);
    }

    fn batch(&mut self, batch: &Batch, out: &mut Outputs) {
        let mut records = Vec::with_capacity(batch.len().min(TOGETHER));
        for record in batch.iter() {
            records.push(record);
            if records.len() == TOGETHER {
                self.take(&records, out);
                records.clear();
            }
        }
        self.take(&records, out);
        self.observe.flush(&mut self.out);
        self.say(out);
    }

    fn resume(&mut self, epoch: u32) {
        self.epoch = epoch;
        self.teller.go_live();
    }

    fn silent_to(&self, tick: Tick<'_>) -> Option<Timestamp> {
        self.observe.silent_to(tick.wall, tick.idle)
    }

    fn pass_silence(&mut self, to: Timestamp, out: &mut Outputs) {
        self.observe.pass_silence(to, &mut self.out);
        self.say(out);
    }

    fn tick(&mut self, tick: Tick<'_>, out: &mut Outputs) {
        self.observe.tick(tick.wall, tick.idle, tick.roster, &mut self.out);
        self.say(out);
        let (watermark, observe) = (self.watermark(), &self.observe);
        self.teller.pass(tick.wall, watermark, || observe.warmth());
    }

    fn epoch(&mut self, epoch: &Epoch, out: &mut Outputs) {
        self.observe.epoch(epoch_note(epoch), &mut self.out);
        let carried = self.out.facts.iter().find_map(|fact| match &fact.body {
            FactBody::Epoch(note) => note.carried,
            _ => None,
        });
        if let Some(Carried { kept, anew, left_out }) = carried {
            tracing::info!(shard = %epoch.shard, kept, anew, left_out, "series carried over");
        }
        self.say(out);
    }

    fn snapshot(&self) -> Result<Vec<u8>, FoldError> {
        self.observe.snapshot().map_err(error)
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), FoldError> {
        self.observe.restore(bytes).map_err(error)
    }

    fn digest(&self) -> u64 {
        self.observe.digest()
    }

    fn watermark(&self) -> Option<Timestamp> {
        Some(self.observe.watermark()).filter(|at| *at != Timestamp::MIN)
    }

    fn counts(&self, tell: &mut dyn FnMut(&'static str, u64)) {
        let counters = self.observe.counters();
        tell(count::SERIES, counters.series);
        if let Some(warming) = self.teller.warming() {
            tell(count::SERIES_WARMING, warming);
        }
        tell(count::SAMPLES, counters.samples);
        tell(count::LEFT_OUT, counters.left_out);
        tell(count::SERIES_REFUSED, counters.series_refused);
        tell(count::SERIES_EVICTED, counters.series_evicted);
        tell(count::INSTANCES_REFUSED, counters.instances_refused);
        tell(count::INSTANCES_REPLACED, counters.instances_replaced);
        tell(count::FUTURE, counters.future);
        tell(count::LEFT_OUT_OF_GROUPS, counters.left_out_of_groups);
        tell(count::ALARMS_SUPPRESSED, counters.alarms_suppressed);
        tell(count::LATE, counters.windows.late_dropped);
        tell(count::WINDOWS, counters.windows.closed);
    }
}

fn push_message(topic: &Arc<str>, message: Result<Message, suture_codec::EncodeError>, outputs: &mut Outputs) {
    match message {
        Ok(message) => {
            let mut record = OutRecord::new(topic.clone(), message.key.as_bytes(), message.value);
            let mut headers = HeadersBuf::default();
            for (name, value) in &message.headers {
                headers.push(name, Some(value.as_bytes()));
            }
            record.headers = headers;
            outputs.push(record);
        }
        // what the folds say holds finite numbers and no empty names; should that ever fail, say so rather than stop
        Err(error) => tracing::error!(%topic, %error, "a record could not be written"),
    }
}

/// The record as it came, with the reason and its place in headers; cut to [`LETTER`] bytes, and says so.
fn dead_letter(topics: &Topics, shard: &ShardId, record: RecordRef<'_>, reason: &str, samples: u64) -> OutRecord {
    let end = reason
        .char_indices()
        .map(|(at, c)| at + c.len_utf8())
        .take_while(|end| *end <= REASON)
        .last()
        .unwrap_or(0);
    let whole = record.value.map_or(0, <[u8]>::len);
    let own = |cut: bool| {
        let texts = [
            ("suture_reason", reason.get(..end).unwrap_or_default().to_owned()),
            ("suture_topic", shard.topic.to_string()),
            ("suture_partition", shard.partition.to_string()),
            ("suture_offset", record.offset.to_string()),
            ("suture_samples", samples.to_string()),
        ];
        let full = cut.then(|| ("suture_bytes", whole.to_string()));
        texts.into_iter().chain(full)
    };
    let letter = |foreign: bool, key: bool, value: usize, cut: bool| {
        let mut headers = HeadersBuf::default();
        if foreign {
            for (name, value) in record.headers.iter() {
                headers.push(name, value);
            }
        }
        for (name, text) in own(cut) {
            headers.push(name, Some(text.as_bytes()));
        }
        OutRecord {
            topic: topics.dead_letters.clone(),
            partition: None,
            key: record.key.filter(|_| key).map(<[u8]>::to_vec),
            value: record.value.map(|bytes| bytes.get(..value).unwrap_or(bytes).to_vec()),
            headers,
            timestamp: record.timestamp,
        }
    };
    // what comes with the value is kept unless it is most of what there is room for
    let bare = |foreign, key| letter(foreign, key, 0, true).size();
    let (foreign, key) = [(true, true), (false, true), (false, false)]
        .into_iter()
        .find(|(foreign, key)| bare(*foreign, *key) <= LETTER / 2)
        .unwrap_or_default();
    let room = LETTER.saturating_sub(bare(foreign, key));
    letter(foreign, key, room, whole > room || !(foreign && key))
}

fn epoch_note(epoch: &Epoch) -> suture_event::EpochNote {
    let (cause, cold) = match &epoch.cause {
        EpochCause::First => ("the shard is new".to_owned(), false),
        EpochCause::Changed { from, to, carried } => {
            let fate = if *carried {
                "its state was carried over"
            } else {
                "its state did not fit and was dropped"
            };
            let (from, to) = (
                format!("{}/{}", from.engine, from.pipeline),
                format!("{}/{}", to.engine, to.pipeline),
            );
            (
                format!("engine and pipeline changed from {from} to {to}: {fate}"),
                !carried,
            )
        }
        EpochCause::Repartitioned { from, to } => (
            format!("the topic has {to} partitions, it had {from}: series may have moved"),
            false,
        ),
        EpochCause::Cold { reason } => (reason.clone(), true),
    };
    suture_event::EpochNote {
        shard: epoch.shard.clone(),
        number: epoch.number,
        offset: epoch.offset,
        wall: epoch.wall,
        cause,
        cold,
        carried: None,
    }
}

#[cfg(test)]
mod tests {
    // what goes wrong here is a failed test
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn letter(key: usize, value: usize, header: usize) -> OutRecord {
        let pipeline = Pipeline::parse("test.yaml", "name: test\ntelemetry: [{topic: in}]\n", &|_| None).unwrap();
        let shard = ShardId {
            topic: "in".into(),
            partition: 3,
        };
        let (key, value) = (vec![b'k'; key], vec![b'v'; value]);
        let mut headers = HeadersBuf::default();
        headers.push("trace", Some(&vec![b'h'; header]));
        let record = RecordRef {
            offset: 7,
            timestamp: None,
            key: Some(&key),
            value: Some(&value),
            headers: headers.as_headers(),
        };
        dead_letter(&Topics::of(&pipeline), &shard, record, "no JSON", 0)
    }

    fn header<'a>(letter: &'a OutRecord, name: &str) -> Option<&'a str> {
        let found = letter.headers.as_headers().iter().find(|(known, _)| *known == name);
        found.and_then(|(_, value)| std::str::from_utf8(value?).ok())
    }

    #[test]
    fn a_dead_letter_always_fits_and_says_where_it_was_cut() {
        let whole = letter(10, 900_000, 20);
        assert_eq!(
            (whole.value.as_ref().map(Vec::len), header(&whole, "suture_bytes")),
            (Some(900_000), None)
        );
        assert!(header(&whole, "trace").is_some() && whole.key.is_some());
        for (key, value, trace) in [
            (10, 1_040_000, 20),
            (10, 50_000_000, 20),
            (10, 10, 2_000_000),
            (2_000_000, 10, 10),
            (600_000, 600_000, 600_000),
        ] {
            let cut = letter(key, value, trace);
            assert!(
                cut.size() <= 950_000,
                "{} bytes of {key}, {value} and {trace}",
                cut.size()
            );
            assert_eq!(header(&cut, "suture_bytes"), Some(value.to_string().as_str()));
            assert_eq!(
                (header(&cut, "suture_reason"), header(&cut, "suture_offset")),
                (Some("no JSON"), Some("7"))
            );
            assert_eq!(cut.key.is_some(), key < 400_000);
            assert_eq!(header(&cut, "trace").is_some(), trace < 400_000 && key < 400_000);
            assert!(
                cut.value
                    .is_some_and(|kept| kept.len() == value.min(kept.len().max(400_000)))
            );
        }
    }
}
