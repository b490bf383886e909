//! A shop's telemetry as a load for the program's own processes, and what a run that nothing disturbs makes of it.

use std::{fs, path::PathBuf, sync::OnceLock, time::Duration};

use suture_codec::records;
use suture_event::{Fact, FactBody, LedgerRecord, ShardId, Span, Timestamp, verify_chain};
use suture_service::load;
use suture_simulate::{FaultKind, Options, Recording, record};
use suture_testkit::ROLL_BACK_BAD_DEPLOY;

use crate::{
    broker::Broker,
    disk::Disk,
    kafka,
    program::{self, Process},
    undisturbed::{Said, Undisturbed, sort},
    wait,
};

/// Partitions of the telemetry.
pub const PARTITIONS: i32 = 6;
/// How long the outputs may take.
const LONG: Duration = Duration::from_secs(180);
/// What the outputs are compared in.
const OUTPUTS: [&str; 4] = ["incidents", "remediations", "ledger", "dead-letters"];

/// Half a working day at a sample a minute, in which deploys go wrong. The same for all tests of a process.
fn recording() -> &'static Recording {
    static RECORDING: OnceLock<Recording> = OnceLock::new();
    RECORDING.get_or_init(|| {
        record(Options {
            seed: 2,
            step: Span::from_mins(1),
            services: 6,
            instances: 1,
            warmup: Span::from_hours(4),
            faults: 4,
            kinds: vec![FaultKind::BadDeploy],
            fault_every: Span::from_mins(50),
            fault_lasts: Some(Span::from_mins(12)),
            ..Options::default()
        })
        .expect("options that can be")
    })
}

/// A shop, whose topics have a name of their own.
pub struct Shop {
    name: String,
    address: String,
    folder: PathBuf,
    pipeline: PathBuf,
    telemetry: Vec<Vec<Vec<u8>>>,
    /// How much of each partition the broker has.
    fed: Vec<usize>,
    changes: Vec<Vec<u8>>,
    /// Records that nobody can read, fed beside the others.
    poison: usize,
    processes: u32,
}

impl Shop {
    /// Makes the input topics on the broker, and writes the pipeline file. `kafka` is further settings of its `kafka`.
    #[must_use]
    pub fn open(broker: &Broker, name: &str, kafka: &str) -> Self {
        let recording = recording();
        let mut telemetry = vec![Vec::new(); usize::try_from(PARTITIONS).expect("few")];
        let mut last = Timestamp::MIN;
        let mut services = Vec::new();
        for sample in &recording.samples {
            let service = sample
                .labels
                .get("service")
                .expect("every sample has its service")
                .to_owned();
            last = last.max(sample.ts);
            let known = services.iter().position(|known| *known == service);
            let place = known.unwrap_or_else(|| {
                services.push(service);
                services.len() - 1
            });
            let partition = place % telemetry.len();
            telemetry[partition].push(serde_json::to_vec(sample).expect("a sample is JSON"));
        }
        // what ends every window, and event time with it, whatever comes when
        let end = last.plus(Span::from_hours(1));
        for partition in &mut telemetry {
            let sample = serde_json::json!({
                "ts": end, "metric": "closing_time", "value": 1.0, "labels": {"service": "shop", "environment": "prod"},
            });
            partition.push(sample.to_string().into_bytes());
        }
        let mut changes: Vec<Vec<u8>> = recording.changes.iter().map(|c| c.to_string().into_bytes()).collect();
        let mut far = recording.changes.last().expect("a deploy").clone();
        far["context"]["id"] = "deploy-of-another-year".into();
        far["context"]["timestamp"] = "2027-01-01T00:00:00Z".into();
        changes.push(far.to_string().into_bytes());

        let folder = program::folder(name);
        let edges: Vec<serde_json::Value> = recording
            .topology
            .iter()
            .map(|edge| serde_json::json!({"from": edge.from, "to": edge.to}))
            .collect();
        let topology = serde_json::json!({ "edges": edges }).to_string();
        fs::write(folder.join("topology.json"), topology).expect("the folder can be written");
        let pipeline = folder.join("pipeline.yaml");
        fs::write(&pipeline, pipeline_text(name, kafka)).expect("the folder can be written");
        let shop = Self {
            name: name.to_owned(),
            address: broker.address(),
            folder,
            pipeline,
            fed: vec![0; telemetry.len()],
            telemetry,
            changes,
            poison: 0,
            processes: 0,
        };
        kafka::create_topic(&shop.address, &shop.topic("-telemetry"), PARTITIONS);
        kafka::create_topic(&shop.address, &shop.topic("-changes"), 1);
        let changes = shop.changes.iter().map(|change| (None, change.as_slice()));
        kafka::produce(&shop.address, &shop.topic("-changes"), 0, changes);
        // the topics of its own are there before any process is, so that none waits for another to make them
        let mut first = shop.process("setup", &["--plane", "decide", "--create-topics"], &shop.address);
        wait::until("the program's topics", LONG, || {
            assert!(first.runs(), "{}", first.log());
            kafka::exists(&shop.address, &shop.topic(".dead-letters")).then_some(())
        });
        first.signal("TERM");
        first.ended(LONG);
        shop
    }

    fn topic(&self, what: &str) -> String {
        format!("{}{what}", self.name)
    }

    /// The pipeline file.
    #[must_use]
    pub fn pipeline(&self) -> String {
        self.pipeline.display().to_string()
    }

    fn process(&self, name: &str, args: &[&str], address: &str) -> Process {
        let pipeline = self.pipeline();
        let args: Vec<&str> = ["run", &pipeline].into_iter().chain(args.iter().copied()).collect();
        Process::start(name, &self.folder, &args, &[("KAFKA_BROKERS", address)])
    }

    /// Starts `suture run` with these arguments.
    pub fn run(&mut self, args: &[&str]) -> Process {
        let address = self.address.clone();
        self.run_at(&address, args)
    }

    /// The same with another way to the broker.
    pub fn run_at(&mut self, address: &str, args: &[&str]) -> Process {
        self.processes += 1;
        self.process(&format!("run-{}", self.processes), args, address)
    }

    /// Starts `suture run` where that disk is seen.
    pub fn run_on(&mut self, disk: &Disk) -> Process {
        self.processes += 1;
        let pipeline = self.pipeline();
        Process::start_on(
            disk,
            &format!("run-{}", self.processes),
            &self.folder,
            &["run", &pipeline],
            &[("KAFKA_BROKERS", &self.address)],
        )
    }

    /// Starts a run whose clock can be set, by lines `clock MILLISECONDS` that it is told.
    pub fn run_with_clock(&mut self) -> Process {
        self.processes += 1;
        let pipeline = self.pipeline();
        Process::start_worker(
            &format!("run-{}", self.processes),
            &self.folder,
            &[&self.address, &pipeline, "pipeline"],
            &[("KAFKA_BROKERS", &self.address)],
        )
    }

    /// Arguments that give a plane all of its partitions without a group.
    #[must_use]
    pub fn assigned(&self, plane: &str) -> Vec<String> {
        let own = match plane {
            "observe" => vec![
                "-telemetry:0,1,2,3,4,5",
                "-changes:0",
                ".outcomes:0,1,2,3,4,5",
                ".commands:0,1,2,3,4,5",
            ],
            _ => vec![".facts:0,1,2,3,4,5"],
        };
        let own = own
            .into_iter()
            .flat_map(|what| ["--assign".to_owned(), self.topic(what)]);
        ["--plane".to_owned(), plane.to_owned()]
            .into_iter()
            .chain(own)
            .collect()
    }

    /// Feeds the next so many hundredths of the telemetry.
    pub fn feed(&mut self, percent: usize) {
        for partition in 0..self.telemetry.len() {
            let all = &self.telemetry[partition];
            // the last record, which ends it all, is for `verify`
            let to = (self.fed[partition] + all.len() * percent / 100 + 1).min(all.len() - 1);
            self.produce(partition, to);
        }
    }

    fn produce(&mut self, partition: usize, to: usize) {
        let records = &self.telemetry[partition][self.fed[partition]..to];
        let records = records.iter().map(|record| (None, record.as_slice()));
        let at = i32::try_from(partition).expect("few");
        kafka::produce(&self.address, &self.topic("-telemetry"), at, records);
        self.fed[partition] = to;
    }

    /// Feeds records that are no telemetry.
    pub fn feed_poison(&mut self, values: &[&[u8]]) {
        self.poison += values.len();
        for (at, value) in values.iter().enumerate() {
            let partition = i32::try_from(at).expect("few") % PARTITIONS;
            kafka::produce(&self.address, &self.topic("-telemetry"), partition, [(None, *value)]);
        }
    }

    /// Waits until that topic of its own has so many records.
    pub fn wait_for(&self, what: &str, count: usize) {
        kafka::read_until(&self.address, &self.topic(what), LONG, |records| records.len() >= count);
    }

    /// Feeds the rest, waits for everything that is to come of it, ends the processes, and holds what they said against
    /// what an undisturbed run says: the same, byte for byte, and the ledger's chain whole. Gives how many records that is.
    pub fn verify(&mut self, processes: Vec<Process>) -> usize {
        for partition in 0..self.telemetry.len() {
            self.produce(partition, self.telemetry[partition].len());
        }
        let undisturbed = self.undisturbed();
        let expected = OUTPUTS.map(|what| undisturbed.outputs(&self.topic(&format!(".{what}"))));
        for (what, said) in OUTPUTS.iter().zip(&expected) {
            let poison = if *what == "dead-letters" { self.poison } else { 0 };
            self.wait_for(&format!(".{what}"), said.len() + poison);
        }
        for mut process in processes {
            process.signal("TERM");
            let status = process.ended(Duration::from_secs(30));
            assert!(status.success(), "{status}: {}", process.log());
        }
        let mut total = 0;
        for (what, expected) in OUTPUTS.iter().zip(&expected) {
            let seen = kafka::read_all(&self.address, &self.topic(&format!(".{what}")));
            total += seen.len();
            if *what == "dead-letters" {
                assert_eq!(seen.len(), expected.len() + self.poison, "dead letters");
                assert!(seen.iter().all(|letter| letter.header("suture_reason").is_some()));
                continue;
            }
            let mut seen: Vec<Said> = seen
                .into_iter()
                .map(|record| (record.key, String::from_utf8(record.value).expect("JSON is text")))
                .collect();
            sort(&mut seen);
            let differs = (0..expected.len().max(seen.len())).find(|at| expected.get(*at) != seen.get(*at));
            if let Some(at) = differs {
                panic!(
                    "{what} of {} has {} records and should have {}; at {at}: {:?} and not {:?}",
                    self.name,
                    seen.len(),
                    expected.len(),
                    seen.get(at),
                    expected.get(at)
                );
            }
            if *what == "ledger" {
                assert!(!seen.is_empty(), "nothing was decided");
                let ledger: Vec<LedgerRecord> = seen
                    .iter()
                    .map(|(_, value)| serde_json::from_str(value).expect("a ledger record"))
                    .collect();
                verify_chain(&ledger).expect("the chain of hashes holds");
            }
        }
        total + self.verify_facts(&undisturbed.facts)
    }

    /// Every fact is there once. Gives their number.
    fn verify_facts(&self, expected: &[Fact]) -> usize {
        let decode = |record: &kafka::Record| -> Option<Fact> {
            let fact: Fact = records::decode(&record.value).ok()?;
            (!matches!(fact.body, FactBody::Progress(_) | FactBody::Epoch(_))).then_some(fact)
        };
        let mut wanted = expected.to_vec();
        let read = kafka::read_until(&self.address, &self.topic(".facts"), LONG, |records| {
            records.iter().filter_map(decode).count() >= expected.len()
        });
        let mut seen: Vec<Fact> = read.iter().filter_map(decode).collect();
        for facts in [&mut wanted, &mut seen] {
            facts.sort_by_key(|fact| (fact.shard.clone(), fact.seq));
        }
        assert!(
            seen == wanted,
            "{} facts, and not the {} that there should be",
            seen.len(),
            wanted.len()
        );
        seen.len()
    }

    /// What comes of everything.
    fn undisturbed<'a>(&'a self) -> Undisturbed {
        let loaded = load::load(&self.pipeline, None).expect("a pipeline that can be");
        let mut inputs: Vec<(ShardId, Vec<&[u8]>)> = Vec::new();
        let mut partitions = |what: &str, all: &[&'a [Vec<u8>]]| {
            for (partition, records) in (0..).zip(all) {
                let topic = self.topic(what).into();
                inputs.push((
                    ShardId { topic, partition },
                    records.iter().map(Vec::as_slice).collect(),
                ));
            }
        };
        let telemetry: Vec<&[Vec<u8>]> = self.telemetry.iter().map(Vec::as_slice).collect();
        partitions("-telemetry", &telemetry);
        partitions("-changes", &[&self.changes]);
        partitions(".outcomes", &[&[]]);
        partitions(".commands", &[&[]]);
        Undisturbed::of(&loaded, inputs)
    }
}

fn pipeline_text(name: &str, kafka: &str) -> String {
    format!(
        r#"version: 1
name: shop
clock: event
kafka:
  client:
    bootstrap.servers: "${{KAFKA_BROKERS:-localhost:9092}}"
    session.timeout.ms: 2000
    heartbeat.interval.ms: 300
  prefix: {name}
  commit_interval: 20ms
  snapshot_interval: 500ms
  topics: {{replication: 1}}
  {kafka}
scope: {{label: environment, default: prod}}
telemetry:
  - topic: {name}-telemetry
changes:
  - topic: {name}-changes
topology: {{file: topology.json}}
window: {{size: 1m}}
detect: {{alarm: 0.005, at_once: 0.0005}}

signals:
  - name: errors
    match: {{metric: error_ratio}}
    direction: up
    least_effect: {{absolute: 0.01}}
{ROLL_BACK_BAD_DEPLOY}"#
    )
}
