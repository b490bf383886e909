//! The stage, observe and decide under seeds, over the log in memory.
//!
//! `SUTURE_SEED=17 cargo test -p suture-tests --test rekey simulated` runs one seed and prints what happens.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use rand::RngExt;
use suture_codec::records;
use suture_config::Pipeline;
use suture_engine::Source;
use suture_event::{Fact, FactBody, Sample, ShardId, Span, stable_hash};
use suture_log::{
    Headers, Log, OutRecord, RecordRef, TopicPartition, TopicSpec,
    memory::{MemoryLog, MemoryOptions},
};
use suture_runtime::{
    Clock, Folds, Options, Outputs,
    simulation::{ChaCha8Rng, HandClock, Scenario, SimulatedPlane, seeds, simulate},
};
use suture_service::{
    load::{self, Loaded},
    planes::{RekeyFolds, Topics, count},
    topics,
};
use suture_tests::{
    memory,
    undisturbed::{Undisturbed, folds},
};

use super::{partition_of, samples};

const PIPELINE: &str = "
version: 1
name: shop
clock: event
kafka: {prefix: s}
telemetry: [{topic: telemetry}]
rekey: {partitions: 3}
window: {size: 1m, lateness: 40m}
detect: {alarm: 0.005, at_once: 0.0005}
diagnose: {open: {false_incidents: {at_most: 1000, per: 1d}}}
";
/// Partitions of the telemetry.
const PARTITIONS: usize = 2;
/// Partitions that it is put into.
const REKEYED: i32 = 3;
/// Of the other topics that the program owns.
const OWNED: i32 = 6;
const MINUTES: i64 = 330;
/// Of these, everything goes wrong.
const BAD: std::ops::Range<i64> = 170..270;
const METRICS: [(&str, f64, f64); 3] = [
    ("error_ratio", 0.01, 0.4),
    ("latency_p99_seconds", 0.5, 6.0),
    ("cpu_ratio", 0.3, 0.9),
];
const SERVICES: [&str; 3] = ["shop", "cart", "pay"];
const START: i64 = 1_600_000_000_000;
const OUTPUTS: [&str; 3] = ["incidents", "remediations", "ledger"];
/// This many records of the telemetry's partitions are no telemetry.
const POISON: usize = 14;

struct World {
    loaded: Loaded,
    /// By partition, its records: each series goes to all partitions in turn.
    telemetry: Vec<Vec<String>>,
}

fn loaded(text: &str) -> Loaded {
    let checked = Pipeline::check("simulation", text, &|_| None, &suture_config::Unchecked);
    Loaded {
        pipeline: Arc::new(checked.pipeline.expect("a pipeline that can be")),
        edges: Vec::new(),
        model: None,
        key: None,
        expressions: load::expressions(),
    }
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let loaded = loaded(PIPELINE);
        let mut telemetry = vec![Vec::new(); PARTITIONS];
        let mut turn = 0;
        for minute in 0..MINUTES {
            for service in SERVICES {
                for (metric, usual, bad) in METRICS {
                    let noise = stable_hash([metric.as_bytes(), service.as_bytes(), &minute.to_le_bytes()]) % 1_000;
                    let level = if BAD.contains(&minute) { bad } else { usual };
                    let sample = serde_json::json!({
                        "ts": START + minute * 60_000, "metric": metric, "labels": {"service": service},
                        "value": level * (0.9 + 0.2 * noise as f64 / 1_000.0),
                    });
                    telemetry[turn % PARTITIONS].push(sample.to_string());
                    turn += 1;
                }
            }
            if minute % 50 == 7 {
                telemetry
                    .iter_mut()
                    .for_each(|all| all.push("not telemetry".to_owned()));
            }
        }
        World { loaded, telemetry }
    })
}

fn empty_log(clock: &Arc<HandClock>) -> MemoryLog {
    let clock = Arc::clone(clock);
    let log = MemoryLog::with_clock(MemoryOptions::default(), move || clock.wall());
    let partitions = i32::try_from(PARTITIONS).unwrap();
    log.create_topics(&[TopicSpec::new("telemetry", partitions)]).unwrap();
    topics::create(&log, &world().loaded.pipeline).unwrap();
    log
}

fn planes(loaded: &Loaded, in_step: Option<Span>) -> Vec<SimulatedPlane> {
    let pipeline = &loaded.pipeline;
    let (observe, decide) = folds(loaded, OWNED);
    let rekey = RekeyFolds {
        pipeline: pipeline.clone(),
        sources: Source::of_rekey(pipeline, loaded.expressions.as_ref()).unwrap(),
        topics: observe.topics.clone(),
        fact_partitions: OWNED,
        board: Arc::default(),
    };
    let names = Topics::of(pipeline);
    let options = Options {
        state_topic: names.state.to_string(),
        idle_after: pipeline.kafka.patience,
        snapshot_interval: Span::from_secs(3),
        snapshot_piece: 1_000,
        snapshot_stride: 4_000,
        batch_records: 16,
        max_outputs: 20,
        ..Options::default()
    };
    let topics = |sources: &[Source]| sources.iter().map(|source| source.topic.clone()).collect();
    let of_rekey = Options {
        group: pipeline.rekey_group(),
        topics: topics(&rekey.sources),
        in_step,
        // a frozen process keeps the others waiting until it is known to be gone
        in_step_patience: Span::from_hours(10),
        ..options.clone()
    };
    let of_observe = Options {
        group: pipeline.observe_group(),
        topics: topics(&observe.sources),
        ticks: true,
        ..options.clone()
    };
    let of_decide = Options {
        group: pipeline.decide_group(),
        topics: vec![names.facts.to_string()],
        ..options
    };
    let plane = |folds, options| SimulatedPlane { folds, options };
    vec![
        plane(Arc::new(rekey), of_rekey),
        plane(Arc::new(observe), of_observe),
        plane(Arc::new(decide), of_decide),
    ]
}

#[derive(Default)]
struct Spread {
    fed: [usize; PARTITIONS],
}

impl Spread {
    fn feed_to(&mut self, log: &MemoryLog, partition: usize, to: usize) {
        let all = &world().telemetry[partition];
        let to = to.min(all.len());
        let records: Vec<OutRecord> = all[self.fed[partition]..to]
            .iter()
            .map(|text| OutRecord {
                partition: i32::try_from(partition).ok(),
                key: None,
                ..OutRecord::new("telemetry", "", text.as_str())
            })
            .collect();
        log.appender().unwrap().append(&records).unwrap();
        self.fed[partition] = to;
    }
}

impl Scenario for Spread {
    fn log(&self, clock: &Arc<HandClock>) -> MemoryLog {
        empty_log(clock)
    }

    fn planes(&self) -> Vec<SimulatedPlane> {
        let loaded = &world().loaded;
        planes(loaded, loaded.pipeline.rekey_in_step())
    }

    fn feed(&mut self, log: &MemoryLog, random: &mut ChaCha8Rng) {
        // about as far each: what comes too late for its window says nothing
        let partition = random.random_range(0..PARTITIONS);
        let least = self.fed.iter().min().copied().unwrap_or_default();
        let to = self.fed[partition] + random.random_range(1..80);
        self.feed_to(log, partition, to.min(least + 120));
    }

    fn finish(&mut self, log: &MemoryLog) {
        for partition in 0..PARTITIONS {
            self.feed_to(log, partition, usize::MAX);
        }
    }

    fn settle(&self) -> usize {
        // each of observe's fifteen shards gets its turn and ticks, one turn in fifteen and a second apart
        1_200
    }

    fn verify(&self, log: &MemoryLog) -> Result<u64, String> {
        let rekeyed = rekeyed(log);
        Ok(verify(log, &rekeyed)? + as_undisturbed(&world().loaded, log, &rekeyed)?)
    }
}

/// The records in between, as they came to lie.
fn rekeyed(log: &MemoryLog) -> Vec<Vec<Vec<u8>>> {
    let of = |partition| {
        let said = memory::read(log, &TopicPartition::new("s.rekeyed", partition));
        said.into_iter().map(|(_, value)| value).collect()
    };
    (0..REKEYED).map(of).collect()
}

fn verify(log: &MemoryLog, rekeyed: &[Vec<Vec<u8>>]) -> Result<u64, String> {
    let count = nothing_is_lost_or_doubled(rekeyed)?;
    let letters = memory::read_topic(log, "s.dead-letters");
    if letters.len() != POISON || letters.iter().any(|(_, value)| value != "not telemetry") {
        return Err(format!("{} dead letters, and not {POISON}", letters.len()));
    }
    Ok(count)
}

/// Every sample that was fed is in the partition that its series belongs in, once, and those of one partition of the
/// telemetry are in their order there.
fn nothing_is_lost_or_doubled(rekeyed: &[Vec<Vec<u8>>]) -> Result<u64, String> {
    let text = |sample: &Sample| serde_json::to_string(sample).unwrap();
    let mut wanted: BTreeMap<(usize, usize), Vec<String>> = BTreeMap::new();
    let mut origin: BTreeMap<String, usize> = BTreeMap::new();
    for (from, records) in world().telemetry.iter().enumerate() {
        for sample in records
            .iter()
            .filter_map(|record| serde_json::from_str::<Sample>(record).ok())
        {
            let to = partition_of(&sample, 3);
            origin.insert(text(&sample), from);
            wanted.entry((from, to)).or_default().push(text(&sample));
        }
    }
    let mut seen: BTreeMap<(usize, usize), Vec<String>> = BTreeMap::new();
    let mut count = 0;
    for (to, records) in rekeyed.iter().enumerate() {
        for sample in records.iter().flat_map(|record| samples(record)) {
            let sample = text(&sample);
            let from = origin.get(&sample).ok_or_else(|| format!("nobody said {sample}"))?;
            seen.entry((*from, to)).or_default().push(sample);
            count += 1;
        }
    }
    for (place, wanted) in &wanted {
        let seen = seen.get(place).map_or(&[] as &[String], Vec::as_slice);
        if let Some(at) = (0..wanted.len().max(seen.len())).find(|at| wanted.get(*at) != seen.get(*at)) {
            return Err(format!(
                "from partition {} to {}, {} samples came and not {}; at {at}: {:?} and not {:?}",
                place.0,
                place.1,
                seen.len(),
                wanted.len(),
                seen.get(at),
                wanted.get(at)
            ));
        }
    }
    if seen.len() > wanted.len() {
        return Err("samples are in a partition that is not theirs".to_owned());
    }
    Ok(count)
}

/// What observe and decide say is what they say undisturbed to the records in between as they came to lie.
fn as_undisturbed(loaded: &Loaded, log: &MemoryLog, rekeyed: &[Vec<Vec<u8>>]) -> Result<u64, String> {
    let mut inputs: Vec<(ShardId, Vec<&[u8]>)> = Vec::new();
    for (partition, records) in (0..).zip(rekeyed) {
        let topic = "s.rekeyed".into();
        inputs.push((
            ShardId { topic, partition },
            records.iter().map(Vec::as_slice).collect(),
        ));
    }
    let undisturbed = Undisturbed::of(loaded, inputs);
    let mut count = 0;
    for what in OUTPUTS {
        let topic = format!("s.{what}");
        let seen = memory::read_topic(log, &topic);
        let wanted = undisturbed.outputs(&topic);
        if seen != wanted {
            return Err(format!(
                "{topic}: {} records, and not the {} wanted",
                seen.len(),
                wanted.len()
            ));
        }
        count += seen.len() as u64;
    }
    let facts = memory::read_topic(log, "s.facts").into_iter();
    let mut seen: Vec<Fact> = facts
        .map(|(_, value)| records::decode(value.as_bytes()).unwrap())
        .filter(|fact: &Fact| !matches!(fact.body, FactBody::Progress(_) | FactBody::Epoch(_)))
        .collect();
    let mut wanted = undisturbed.facts;
    for facts in [&mut seen, &mut wanted] {
        facts.sort_by_key(|fact| (fact.shard.clone(), fact.seq));
    }
    if seen != wanted {
        return Err(format!("{} facts, and not the {} wanted", seen.len(), wanted.len()));
    }
    Ok(count + seen.len() as u64)
}

#[test]
fn nothing_is_lost_or_doubled_from_telemetry_to_decisions() {
    let again = "cargo test -p suture-tests --test rekey simulated";
    let (seeds, all) = seeds(25, again, || Box::new(Spread::default()));
    let fed: usize = world().telemetry.iter().map(Vec::len).sum();
    let each = (fed - POISON) as u64;
    assert!(
        seeds == 1 || all.crashes > seeds && all.zombies > 0 && all.outputs > seeds * (each + 5),
        "too quiet: {all:?}"
    );
}

/// All of the telemetry is there before anybody reads it, as after an outage, and the lateness is far shorter than that.
struct Outage {
    loaded: Loaded,
    in_step: bool,
}

impl Outage {
    fn new(in_step: bool) -> Self {
        Self {
            loaded: loaded(&PIPELINE.replace("lateness: 40m", "lateness: 10m")),
            in_step,
        }
    }
}

impl Scenario for Outage {
    fn log(&self, clock: &Arc<HandClock>) -> MemoryLog {
        let log = empty_log(clock);
        for (partition, all) in (0..).zip(&world().telemetry) {
            let mut now = None;
            let records: Vec<OutRecord> = all
                .iter()
                .map(|text| {
                    now = serde_json::from_str::<Sample>(text).map_or(now, |sample| Some(sample.ts));
                    OutRecord {
                        partition: Some(partition),
                        key: None,
                        timestamp: now,
                        ..OutRecord::new("telemetry", "", text.as_str())
                    }
                })
                .collect();
            log.appender().unwrap().append(&records).unwrap();
        }
        log
    }

    fn planes(&self) -> Vec<SimulatedPlane> {
        let in_step = self.loaded.pipeline.rekey_in_step();
        assert_eq!(in_step, Some(Span::from_mins(5)));
        planes(&self.loaded, in_step.filter(|_| self.in_step))
    }

    fn feed(&mut self, _: &MemoryLog, _: &mut ChaCha8Rng) {}

    fn settle(&self) -> usize {
        1_200
    }

    fn verify(&self, log: &MemoryLog) -> Result<u64, String> {
        let rekeyed = rekeyed(log);
        let count = verify(log, &rekeyed)? + as_undisturbed(&self.loaded, log, &rekeyed)?;
        match late(&self.loaded, &rekeyed) {
            0 => Ok(count),
            late => Err(format!("{late} samples came too late for their windows")),
        }
    }
}

/// Samples that observe drops as late of these records.
fn late(loaded: &Loaded, rekeyed: &[Vec<Vec<u8>>]) -> u64 {
    let (observe, _) = folds(loaded, OWNED);
    let (mut late, mut said) = (0, Outputs::default());
    for (partition, records) in (0..).zip(rekeyed) {
        let topic = "s.rekeyed".into();
        let mut fold = observe.create(&ShardId { topic, partition }).unwrap();
        for (offset, value) in (0..).zip(records) {
            let record = RecordRef {
                offset,
                timestamp: None,
                key: None,
                value: Some(value),
                headers: Headers::default(),
            };
            fold.record(record, &mut said);
        }
        fold.counts(&mut |name, count| late += if name == count::LATE { count } else { 0 });
    }
    late
}

#[test]
fn after_an_outage_nothing_is_late_whatever_happens_to_processes() {
    let again = "cargo test -p suture-tests --test rekey after_an_outage";
    let (seeds, all) = seeds(25, again, || Box::new(Outage::new(true)));
    assert!(
        seeds == 1 || all.crashes > seeds && all.zombies > 0,
        "too quiet: {all:?}"
    );
    // and what it is that this takes
    let error = simulate(&mut Outage::new(false), 0, false).unwrap_err();
    assert!(error.ends_with("samples came too late for their windows"), "{error}");
}
