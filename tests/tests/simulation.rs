//! The program's own folds, observe and decide, driven by the runtime's own logic over the log in memory, under seeds: crashes
//! at any step, lost answers, aborted transactions, rebalances, zombies, records handed out twice. In the end everything that
//! was committed must be, byte for byte, what an undisturbed run says, and the ledger's chain whole.
//!
//! `SUTURE_SEED=17 cargo test -p suture-tests --test simulation` runs one seed and prints what happens;
//! `SUTURE_SEEDS=1000` runs so many.

// the helpers of tests: what goes wrong in them is a failed test
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::sync::{Arc, OnceLock};

use rand::RngExt;
use suture_codec::records;
use suture_config::Pipeline;
use suture_event::{Fact, FactBody, LedgerRecord, ShardId, Span, stable_hash, verify_chain};
use suture_log::{
    Log, OutRecord, TopicSpec,
    memory::{MemoryLog, MemoryOptions},
};
use suture_runtime::{
    Clock, Options,
    simulation::{ChaCha8Rng, HandClock, Scenario, SimulatedPlane, seeds},
};
use suture_service::{
    load::{self, Loaded},
    planes::Topics,
    topics,
};
use suture_testkit::ROLL_BACK;
use suture_tests::{
    memory,
    undisturbed::{Undisturbed, folds},
};

const PIPELINE: &str = "
version: 1
name: shop
clock: event
kafka: {prefix: s}
telemetry: [{topic: telemetry}]
changes: [{topic: changes}]
topology: {edges: [{from: shop, to: cart}]}
window: {size: 1m}
detect: {alarm: 0.005, at_once: 0.0005}
diagnose: {open: {false_incidents: {at_most: 1000, per: 1d}}}
";
const PARTITIONS: usize = 6;
/// Of what the program owns.
const OWNED: i32 = 6;
const MINUTES: i64 = 330;
/// Of these, the cart's deploy goes wrong.
const BAD: std::ops::Range<i64> = 170..270;
/// Metrics with their usual and their bad level.
const METRICS: [(&str, f64, f64); 4] = [
    ("error_ratio", 0.01, 0.4),
    ("latency_p50_seconds", 0.2, 2.0),
    ("latency_p99_seconds", 0.5, 6.0),
    ("cpu_ratio", 0.3, 0.9),
];
const START: i64 = 1_600_000_000_000;
/// What is compared.
const OUTPUTS: [&str; 4] = ["incidents", "remediations", "ledger", "dead-letters"];

/// The pipeline and its input, the same for all seeds.
struct World {
    loaded: Loaded,
    telemetry: Vec<Vec<String>>,
    changes: Vec<String>,
    undisturbed: Undisturbed,
}

fn sample(minute: i64, metric: &str, service: &str, value: f64) -> String {
    serde_json::json!({
        "ts": START + minute * 60_000, "metric": metric, "value": value, "labels": {"service": service},
    })
    .to_string()
}

fn deploy(id: &str, time: &str) -> String {
    serde_json::json!({
        "context": {"id": id, "source": "/ci", "specversion": "0.5.0", "timestamp": time,
            "type": "dev.cdevents.service.deployed.0.3.0"},
        "subject": {"id": "cart", "source": "/cluster", "content": {
            "environment": {"id": "default"}, "artifactId": format!("pkg:oci/cart@sha256%3A{id}")}},
    })
    .to_string()
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let checked = Pipeline::check(
            "simulation",
            &format!("{PIPELINE}{ROLL_BACK}"),
            &|_| None,
            &suture_config::Unchecked,
        );
        let loaded = Loaded {
            pipeline: Arc::new(checked.pipeline.expect("a pipeline that can be")),
            edges: Vec::new(),
            model: None,
            key: None,
            expressions: load::expressions(),
        };
        let mut telemetry = vec![Vec::new(); PARTITIONS];
        for minute in 0..MINUTES {
            for service in ["shop", "cart"] {
                for (metric, usual, bad) in METRICS {
                    // two of the partitions get nothing but the end
                    let series = stable_hash([metric.as_bytes(), service.as_bytes()]);
                    let partition = usize::try_from(series % (PARTITIONS as u64 - 2)).unwrap();
                    let noise = stable_hash([metric.as_bytes(), service.as_bytes(), &minute.to_le_bytes()]) % 1_000;
                    let level = if BAD.contains(&minute) { bad } else { usual };
                    let value = level * (0.9 + 0.2 * noise as f64 / 1_000.0);
                    telemetry[partition].push(sample(minute, metric, service, value));
                }
            }
            if minute % 50 == 7 {
                telemetry[0].push("not telemetry".to_owned());
            }
        }
        // what ends every window, and event time with it
        for partition in &mut telemetry {
            partition.push(sample(MINUTES + 60, "closing_time", "shop", 1.0));
        }
        // START is 2020-09-13T12:26:40Z
        let changes = vec![
            deploy("bad", "2020-09-13T15:16:00Z"),
            deploy("of-another-year", "2021-09-13T15:16:00Z"),
        ];
        let telemetry_of = (0..)
            .zip(&telemetry)
            .map(|(n, records)| ("telemetry", n, records.as_slice()));
        let inputs = telemetry_of.chain([("changes", 0, changes.as_slice())]);
        let inputs = inputs.map(|(topic, partition, records)| {
            let topic = topic.into();
            (
                ShardId { topic, partition },
                records.iter().map(String::as_bytes).collect(),
            )
        });
        let undisturbed = Undisturbed::of(&loaded, inputs.collect());
        for what in OUTPUTS {
            let said = undisturbed.outputs(&format!("s.{what}"));
            assert!(!said.is_empty(), "an undisturbed run says nothing to {what}");
        }
        World {
            loaded,
            telemetry,
            changes,
            undisturbed,
        }
    })
}

#[derive(Default)]
struct Shop {
    fed: [usize; PARTITIONS],
}

impl Shop {
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

impl Scenario for Shop {
    fn log(&self, clock: &Arc<HandClock>) -> MemoryLog {
        let clock = Arc::clone(clock);
        let log = MemoryLog::with_clock(MemoryOptions::default(), move || clock.wall());
        let partitions = i32::try_from(PARTITIONS).unwrap();
        log.create_topics(&[TopicSpec::new("telemetry", partitions), TopicSpec::new("changes", 1)])
            .unwrap();
        topics::create(&log, &world().loaded.pipeline).unwrap();
        let changes = world()
            .changes
            .iter()
            .map(|text| OutRecord::new("changes", "", text.as_str()));
        log.appender().unwrap().append(&changes.collect::<Vec<_>>()).unwrap();
        log
    }

    fn planes(&self) -> Vec<SimulatedPlane> {
        let loaded = &world().loaded;
        let (observe, decide) = folds(loaded, OWNED);
        let names = Topics::of(&loaded.pipeline);
        let options = Options {
            state_topic: names.state.to_string(),
            idle_after: loaded.pipeline.kafka.patience,
            snapshot_interval: Span::from_secs(3),
            snapshot_piece: 1_000,
            snapshot_stride: 4_000,
            batch_records: 16,
            max_outputs: 20,
            ..Options::default()
        };
        let topics = observe.sources.iter().map(|source| source.topic.clone()).collect();
        vec![
            SimulatedPlane {
                folds: Arc::new(observe),
                options: Options {
                    group: loaded.pipeline.observe_group(),
                    topics,
                    ticks: true,
                    ..options.clone()
                },
            },
            SimulatedPlane {
                folds: Arc::new(decide),
                options: Options {
                    group: loaded.pipeline.decide_group(),
                    topics: vec![names.facts.to_string()],
                    ..options
                },
            },
        ]
    }

    fn feed(&mut self, log: &MemoryLog, random: &mut ChaCha8Rng) {
        let partition = random.random_range(0..PARTITIONS);
        let to = self.fed[partition] + random.random_range(1..60);
        // the last record is for the end
        self.feed_to(log, partition, to.min(world().telemetry[partition].len() - 1));
    }

    fn finish(&mut self, log: &MemoryLog) {
        for partition in 0..PARTITIONS {
            self.feed_to(log, partition, usize::MAX);
        }
    }

    fn settle(&self) -> usize {
        // each of nineteen shards gets its turn and ticks, one turn in nineteen and a second apart
        1_500
    }

    fn verify(&self, log: &MemoryLog) -> Result<u64, String> {
        let undisturbed = &world().undisturbed;
        let mut count = 0;
        for what in OUTPUTS {
            let topic = format!("s.{what}");
            let (seen, wanted) = (memory::read_topic(log, &topic), undisturbed.outputs(&topic));
            if let Some(at) = (0..seen.len().max(wanted.len())).find(|at| seen.get(*at) != wanted.get(*at)) {
                return Err(format!(
                    "{topic} differs at {at}: {:?} and not {:?}",
                    seen.get(at),
                    wanted.get(at)
                ));
            }
            count += seen.len() as u64;
            if what == "ledger" {
                let ledger: Vec<LedgerRecord> = seen.iter().map(|(_, v)| serde_json::from_str(v).unwrap()).collect();
                verify_chain(&ledger).map_err(|error| error.to_string())?;
            }
        }
        let facts = memory::read_topic(log, "s.facts").into_iter();
        let mut seen: Vec<Fact> = facts
            .map(|(_, value)| records::decode(value.as_bytes()).unwrap())
            .filter(|fact: &Fact| !matches!(fact.body, FactBody::Progress(_) | FactBody::Epoch(_)))
            .collect();
        seen.sort_by_key(|fact| (fact.shard.clone(), fact.seq));
        let mut wanted = undisturbed.facts.clone();
        wanted.sort_by_key(|fact| (fact.shard.clone(), fact.seq));
        if seen != wanted {
            return Err(format!(
                "{} facts, and not the {} that there should be",
                seen.len(),
                wanted.len()
            ));
        }
        Ok(count + seen.len() as u64)
    }
}

#[test]
fn what_the_planes_commit_equals_an_undisturbed_run() {
    let again = "cargo test -p suture-tests --test simulation";
    let (seeds, all) = seeds(40, again, || Box::new(Shop::default()));
    assert!(
        seeds == 1 || all.crashes > seeds && all.zombies > 0 && all.outputs > seeds * 20,
        "too quiet: {all:?}"
    );
}
