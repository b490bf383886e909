//! The stage on a real broker, in processes of its own that are killed.

use std::{collections::BTreeMap, fs, time::Duration};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use suture_codec::records;
use suture_event::{Anomaly, Fact, FactBody, Sample, ShardId, Span, Timestamp};
use suture_kafka::{KafkaLog, Protocol};
use suture_log::{Log, OutRecord};
use suture_service::load;
use suture_simulate::{FaultKind, Options, record};
use suture_tests::{
    broker::{self, Broker},
    kafka,
    program::{self, Process},
    undisturbed::Undisturbed,
    wait,
};

use super::{partition_of, samples};

const LONG: Duration = Duration::from_secs(180);
/// Partitions of the telemetry, over which every series is spread.
const PARTITIONS: usize = 3;
/// Partitions that it is put into.
const REKEYED: u64 = 4;
/// So much of event time is produced at once: less than the lateness, so that nothing is late however far one partition
/// gets ahead of another meanwhile.
const STRIDE: Span = Span::from_mins(50);
const NAME: &str = "rekey-kills";

fn pipeline_text() -> String {
    format!(
        r#"version: 1
name: shop
clock: event
kafka:
  client:
    bootstrap.servers: "${{KAFKA_BROKERS:-localhost:9092}}"
    session.timeout.ms: 2000
    heartbeat.interval.ms: 300
  prefix: {NAME}
  commit_interval: 20ms
  snapshot_interval: 500ms
  topics: {{replication: 1}}
scope: {{label: environment, default: prod}}
telemetry: [{{topic: {NAME}-telemetry}}]
rekey: {{partitions: {REKEYED}}}
window: {{size: 1m, lateness: 1h}}
detect: {{alarm: 0.005, at_once: 0.0005}}
"#
    )
}

/// Hours of a shop in which deploys go wrong, in order of time.
fn telemetry() -> Vec<Sample> {
    let options = Options {
        seed: 2,
        step: Span::from_mins(1),
        services: 4,
        instances: 1,
        warmup: Span::from_hours(4),
        faults: 3,
        kinds: vec![FaultKind::BadDeploy],
        fault_every: Span::from_mins(50),
        fault_lasts: Some(Span::from_mins(12)),
        ..Options::default()
    };
    record(options).expect("options that can be").samples
}

/// One sample for each partition that ends every window before it.
fn closing(last: Timestamp) -> Vec<Sample> {
    let of = |n: u32| -> Sample {
        let ts = last.plus(Span::from_hours(3));
        let json = serde_json::json!({"ts": ts, "metric": format!("closing_time_{n}"), "value": 1.0});
        serde_json::from_value(json).unwrap()
    };
    let mut found: Vec<Option<Sample>> = vec![None; usize::try_from(REKEYED).unwrap()];
    for n in 0.. {
        let sample = of(n);
        found[partition_of(&sample, REKEYED)].get_or_insert(sample);
        if found.iter().all(Option::is_some) {
            break;
        }
    }
    found.into_iter().flatten().collect()
}

fn json(sample: &Sample) -> Vec<u8> {
    serde_json::to_vec(sample).unwrap()
}

fn anomalies(facts: impl Iterator<Item = Fact>) -> Vec<Anomaly> {
    let mut anomalies: Vec<Anomaly> = facts
        .filter_map(|fact| match fact.body {
            FactBody::Anomaly(anomaly) => Some(anomaly),
            _ => None,
        })
        .collect();
    // series of two partitions come in any order
    anomalies.sort_by_key(|anomaly| serde_json::to_string(anomaly).unwrap());
    anomalies
}

/// What is found where producers key by series from the start and nothing is disturbed.
fn well_keyed(text: &str, telemetry: &[Sample]) -> Vec<Anomaly> {
    let folder = program::folder("rekey-well-keyed");
    let path = folder.join("pipeline.yaml");
    let rekey = format!("rekey: {{partitions: {REKEYED}}}\n");
    assert!(text.contains(&rekey));
    fs::write(&path, text.replace(&rekey, "")).unwrap();
    let loaded = load::load(&path, None).unwrap();
    let mut partitions: Vec<Vec<Vec<u8>>> = vec![Vec::new(); usize::try_from(REKEYED).unwrap()];
    for sample in telemetry {
        partitions[partition_of(sample, REKEYED)].push(json(sample));
    }
    let inputs = (0..).zip(&partitions).map(|(partition, records)| {
        let topic = format!("{NAME}-telemetry").into();
        let records = records.iter().map(Vec::as_slice).collect();
        (ShardId { topic, partition }, records)
    });
    anomalies(Undisturbed::of(&loaded, inputs.collect()).facts.into_iter())
}

struct Run {
    broker: std::sync::Arc<Broker>,
    folder: std::path::PathBuf,
    processes: u32,
    /// Samples produced.
    produced: usize,
    /// The partition that the next one goes to.
    turn: usize,
}

impl Run {
    fn topic(&self, what: &str) -> String {
        format!("{NAME}{what}")
    }

    fn start(&mut self, args: &[&str]) -> Process {
        self.processes += 1;
        let pipeline = self.folder.join("pipeline.yaml").display().to_string();
        let args: Vec<&str> = ["run", &pipeline].into_iter().chain(args.iter().copied()).collect();
        let address = self.broker.address();
        let name = format!("run-{}", self.processes);
        Process::start(&name, &self.folder, &args, &[("KAFKA_BROKERS", &address)])
    }

    /// Produces samples to all partitions in turn, each series' among them.
    fn produce(&mut self, telemetry: &[Sample]) {
        let mut partitions = vec![Vec::new(); PARTITIONS];
        for sample in telemetry {
            partitions[self.turn % PARTITIONS].push(json(sample));
            self.turn += 1;
        }
        // the number of series must not be a multiple of the partitions, or each would stay in its own
        self.turn += 1;
        self.produced += telemetry.len();
        for (partition, records) in (0..).zip(&partitions) {
            let records = records.iter().map(|record| (None, record.as_slice()));
            kafka::produce(&self.broker.address(), &self.topic("-telemetry"), partition, records);
        }
    }

    /// Waits until everything that was produced is in the topic in between, and gives how often that was said too much.
    fn rekeyed(&self) -> Vec<Sample> {
        let topic = self.topic(".rekeyed");
        let mut seen = (0, 0);
        let records = kafka::read_until(&self.broker.address(), &topic, LONG, |records| {
            seen.1 += records[seen.0..].iter().map(|r| samples(&r.value).len()).sum::<usize>();
            seen.0 = records.len();
            seen.1 >= self.produced
        });
        let all: Vec<Sample> = records.iter().flat_map(|record| samples(&record.value)).collect();
        for record in &records {
            let own = usize::try_from(record.partition).unwrap();
            let others = samples(&record.value).iter().any(|s| partition_of(s, REKEYED) != own);
            assert!(!others, "a sample is in a partition that is not its own");
        }
        assert_eq!(all.len(), self.produced, "samples were doubled");
        all
    }
}

fn wait_for_log(process: &mut Process, word: &str) {
    wait::until(&format!("{word:?} in a process's log"), LONG, || {
        assert!(process.runs(), "{}", process.log());
        process.log().contains(word).then_some(())
    });
}

#[test]
fn series_spread_over_all_partitions_lead_to_what_well_keyed_ones_do_through_kills() {
    let telemetry = telemetry();
    let last = telemetry.last().unwrap().ts;
    let closing = closing(last);
    let text = pipeline_text();
    let all: Vec<Sample> = telemetry.iter().chain(&closing).cloned().collect();
    let expected = well_keyed(&text, &all);
    assert!(expected.len() > 4, "the faults are seen: {}", expected.len());

    let folder = program::folder(NAME);
    fs::write(folder.join("pipeline.yaml"), &text).unwrap();
    let mut run = Run {
        broker: broker::shared(),
        folder,
        processes: 0,
        produced: 0,
        turn: 0,
    };
    let address = run.broker.address();
    let input = run.topic("-telemetry");
    kafka::create_topic(&address, &input, i32::try_from(PARTITIONS).unwrap());
    let mut observe = run.start(&["--plane", "observe", "--create-topics"]);
    wait_for_log(&mut observe, "live");
    let mut rekey = run.start(&["--plane", "rekey"]);
    wait_for_log(&mut rekey, "live");

    let mut random = ChaCha8Rng::seed_from_u64(3);
    let (mut from, mut kills, mut poison) = (0, 0, 0);
    while from < telemetry.len() {
        let end = telemetry[from].ts.plus(STRIDE);
        let to = from + telemetry[from..].iter().take_while(|sample| sample.ts < end).count();
        run.produce(&telemetry[from..to]);
        kafka::produce(&address, &input, poison % 3, [(None, b"poison".as_slice())]);
        poison += 1;
        if kills < 4 {
            wait::pause(Duration::from_millis(random.random_range(20..1_500)));
            rekey.kill();
            kills += 1;
            rekey = run.start(&["--plane", "rekey"]);
        }
        run.rekeyed();
        from = to;
    }
    run.produce(&closing);
    run.rekeyed();
    let decode = |record: &kafka::Record| -> Option<Fact> { records::decode(&record.value).ok() };
    let facts = run.topic(".facts");
    kafka::read_until(&address, &facts, LONG, |records| {
        anomalies(records.iter().filter_map(decode)).len() >= expected.len()
    });
    for mut process in [rekey, observe] {
        process.signal("TERM");
        let status = process.ended(Duration::from_secs(30));
        assert!(status.success(), "{}", process.log());
    }
    let seen = anomalies(kafka::read_all(&address, &facts).iter().filter_map(decode));
    let differs = (0..seen.len().max(expected.len())).find(|at| seen.get(*at) != expected.get(*at));
    if let Some(at) = differs {
        panic!(
            "{} anomalies and not {}; at {at}: {:?} and not {:?}",
            seen.len(),
            expected.len(),
            seen.get(at),
            expected.get(at)
        );
    }
    let letters = kafka::read_all(&address, &run.topic(".dead-letters"));
    assert_eq!(
        letters.len(),
        usize::try_from(poison).unwrap(),
        "each record that nobody can read is refused once"
    );
    assert!(
        letters
            .iter()
            .all(|letter| letter.header("suture_topic") == Some(&input))
    );
    let samples = run.produced;
    println!(
        "{kills} kills -9 of the stage: {samples} samples each there once, {} anomalies as expected",
        seen.len()
    );
}

/// Hours of telemetry are there before anybody reads, and each process has some of its partitions for good: they have nothing
/// to keep in step by but what they commit.
#[test]
fn after_an_outage_two_processes_keep_their_partitions_in_step() {
    const NAME: &str = "rekey-outage";
    const MINUTES: i64 = 360;
    let broker = broker::shared();
    let address = broker.address();
    let folder = program::folder(NAME);
    let text = pipeline_text()
        .replace("rekey-kills", NAME)
        .replace("lateness: 1h", "lateness: 20m")
        .replace("partitions: 4}", "partitions: 4, patience: 1h}");
    fs::write(folder.join("pipeline.yaml"), text).unwrap();
    let input = format!("{NAME}-telemetry");
    kafka::create_topic(&address, &input, 3);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let first = i64::try_from(now.as_millis()).unwrap() - MINUTES * 60_000;
    let records: Vec<OutRecord> = (0..MINUTES * 10)
        .map(|n| {
            let ts = first + n * 6_000;
            let sample = serde_json::json!({"ts": ts, "metric": format!("m{}", n % 7), "value": 0.5});
            OutRecord {
                partition: Some(i32::try_from(n % 3).unwrap()),
                timestamp: Some(Timestamp::from_millis(ts)),
                ..OutRecord::new(input.as_str(), "", sample.to_string())
            }
        })
        .collect();
    let client = BTreeMap::from([("bootstrap.servers".to_owned(), address.clone())]);
    let protocol = Protocol::Cooperative;
    let log = KafkaLog::new(suture_kafka::Options { client, protocol }).unwrap();
    log.appender().unwrap().append(&records).unwrap();

    let path = folder.join("pipeline.yaml").display().to_string();
    let start = |name: &str, partitions: &str| {
        let assign = format!("{input}:{partitions}");
        let args = ["run", &path, "--plane", "rekey", "--create-topics", "--assign", &assign];
        Process::start(name, &folder, &args, &[("KAFKA_BROKERS", &address)])
    };
    let mut one = start("one", "0");
    wait_for_log(&mut one, "live");
    let mut two = start("two", "1,2");
    let mut seen = (0, 0);
    let said = kafka::read_until(&address, &format!("{NAME}.rekeyed"), LONG, |said| {
        seen.1 += said[seen.0..].iter().map(|r| samples(&r.value).len()).sum::<usize>();
        seen.0 = said.len();
        seen.1 >= records.len()
    });
    for process in [&mut one, &mut two] {
        process.signal("TERM");
        let status = process.ended(Duration::from_secs(30));
        assert!(status.success(), "{}", process.log());
        assert!(!process.log().contains("makes no progress"), "{}", process.log());
    }
    let mut newest = BTreeMap::new();
    let mut behind = Span::ZERO;
    for record in &said {
        for sample in samples(&record.value) {
            let newest = newest.entry(record.partition).or_insert(sample.ts);
            *newest = sample.ts.max(*newest);
            behind = behind.max(newest.since(sample.ts));
        }
    }
    assert!(behind <= Span::from_mins(10), "{behind}");
    println!(
        "{} samples of {MINUTES} minutes, none more than {behind} behind another",
        records.len()
    );
}
