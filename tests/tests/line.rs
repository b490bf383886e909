//! The whole line against a real broker: the program's own processes, read with a client that shares no code with them.

// what goes wrong here is a failed test
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use serde_json::{Value, value::RawValue};
use suture_event::{LedgerRecord, Span, verify_chain};
use suture_simulate::{FaultKind, Options, Recording, record};
use suture_testkit::ROLL_BACK_BAD_DEPLOY;
use suture_tests::{broker, kafka, program};

/// Of the three bad deploys, two stand out well enough to be acted on by themselves.
const SURE: usize = 2;
const LONG: Duration = Duration::from_secs(400);

/// Half a day at a sample a minute, in which three deploys go wrong.
fn shop(seed: u64, kinds: &[FaultKind]) -> Recording {
    record(Options {
        seed,
        step: Span::from_mins(1),
        warmup: Span::from_hours(8),
        faults: 3,
        kinds: kinds.to_vec(),
        fault_every: Span::from_mins(60),
        fault_lasts: Some(Span::from_mins(12)),
        ..Options::default()
    })
    .unwrap()
}

struct Files {
    folder: PathBuf,
    pipeline: PathBuf,
    telemetry: PathBuf,
    changes: PathBuf,
}

/// The recording as files, and a pipeline for it whose topics begin with `name`.
fn files(name: &str, recording: &Recording) -> Files {
    let folder = program::folder(name);
    let mut telemetry = String::new();
    for sample in &recording.samples {
        writeln!(telemetry, "{}", serde_json::to_string(sample).unwrap()).unwrap();
    }
    let mut changes = String::new();
    for change in &recording.changes {
        writeln!(changes, "{change}").unwrap();
    }
    let edges: Vec<Value> = recording
        .topology
        .iter()
        .map(|edge| serde_json::json!({"from": edge.from, "to": edge.to}))
        .collect();
    let files = Files {
        pipeline: folder.join("pipeline.yaml"),
        telemetry: folder.join("telemetry.ndjson"),
        changes: folder.join("changes.ndjson"),
        folder,
    };
    fs::write(&files.telemetry, telemetry).unwrap();
    fs::write(&files.changes, changes).unwrap();
    fs::write(
        files.folder.join("topology.json"),
        serde_json::json!({ "edges": edges }).to_string(),
    )
    .unwrap();
    fs::write(&files.pipeline, pipeline(name)).unwrap();
    files
}

fn pipeline(name: &str) -> String {
    format!(
        r#"version: 1
name: {name}
clock: event
kafka:
  client: {{bootstrap.servers: "${{KAFKA_BROKERS:-localhost:9092}}"}}
  prefix: {name}
  topics: {{replication: 1}}
scope: {{label: environment, default: prod}}
telemetry:
  - topic: {name}-telemetry
changes:
  - topic: {name}-changes
topology: {{file: topology.json}}
window: {{size: 1m}}
signals:
  - name: errors
    match: {{metric: error_ratio}}
    direction: up
    least_effect: {{absolute: 0.01}}
{ROLL_BACK_BAD_DEPLOY}"#
    )
}

/// Makes a key, lists it in the pipeline file, and gives its file.
fn key(files: &Files, who: &str, role: &str) -> String {
    let path = files.folder.join(format!("{who}.key"));
    let out = path.display().to_string();
    // a folder is used again by the next run of the test
    let _ = fs::remove_file(&path);
    let made = program::output(&["keys", "new", who, "--role", role, "--out", &out]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let printed = String::from_utf8(made.stdout).unwrap();
    let entry = printed.lines().find_map(|line| line.strip_prefix("- ")).unwrap();
    let text = fs::read_to_string(&files.pipeline).unwrap();
    let listed = if text.contains("\n  keys:\n") {
        text.replacen("\n  keys:\n", &format!("\n  keys:\n    - {entry}\n"), 1)
    } else {
        text.replacen("\nremediate:\n", &format!("\nremediate:\n  keys:\n    - {entry}\n"), 1)
    };
    fs::write(&files.pipeline, listed).unwrap();
    out
}

/// The file's lines as records of a topic with one partition.
fn produce_lines(address: &str, topic: &str, path: &Path) {
    let text = fs::read_to_string(path).unwrap();
    kafka::produce(address, topic, 0, text.lines().map(|line| (None, line.as_bytes())));
}

#[derive(serde::Deserialize)]
struct Event<'a> {
    #[serde(rename = "customData", borrow)]
    custom_data: &'a RawValue,
}

/// The last state of each incident, as the bytes in its event.
fn last_states(records: &[kafka::Record]) -> BTreeMap<String, String> {
    let state = |record: &kafka::Record| {
        let event: Event<'_> = serde_json::from_slice(&record.value).unwrap();
        (record.key.clone().unwrap(), event.custom_data.get().to_owned())
    };
    records.iter().map(state).collect()
}

fn replayed(files: &Files, batch: &str) -> PathBuf {
    let out = files.folder.join(format!("replay-{batch}"));
    let text = |path: &Path| path.display().to_string();
    let (pipeline, telemetry, changes) = (text(&files.pipeline), text(&files.telemetry), text(&files.changes));
    let output = program::output(&[
        "replay",
        "--pipeline",
        &pipeline,
        "--telemetry",
        &telemetry,
        "--changes",
        &changes,
        "--out",
        &text(&out),
        "--batch",
        batch,
        "--scores",
    ]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    out
}

#[test]
fn a_replay_finds_the_same_however_it_is_cut_into_batches() {
    let files = files("batches", &shop(3, &[FaultKind::BadDeploy]));
    let whole = replayed(&files, "100000000");
    for batch in ["1", "7", "1000"] {
        let cut = replayed(&files, batch);
        for name in ["anomalies", "incidents", "remediations", "ledger", "scores", "rejected"] {
            let read = |folder: &Path| fs::read(folder.join(format!("{name}.ndjson"))).unwrap();
            assert!(
                read(&cut) == read(&whole),
                "{name}.ndjson differs with batches of {batch}"
            );
        }
    }
    assert!(
        fs::read_to_string(whole.join("incidents.ndjson"))
            .unwrap()
            .lines()
            .count()
            > 0,
        "nothing was found"
    );
}

#[test]
fn a_run_over_history_finds_what_the_replay_found_byte_for_byte() {
    let broker = broker::shared();
    let address = broker.address();
    let files = files("history", &shop(1, &[FaultKind::BadDeploy, FaultKind::SaturatedPool]));
    let expected: BTreeMap<String, String> = fs::read_to_string(replayed(&files, "4096").join("incidents.ndjson"))
        .unwrap()
        .lines()
        .map(|line| {
            (
                serde_json::from_str::<Value>(line).unwrap()["id"]
                    .as_str()
                    .unwrap()
                    .to_owned(),
                line.to_owned(),
            )
        })
        .collect();
    assert!(!expected.is_empty(), "the replay found nothing");
    kafka::create_topic(&address, "history-telemetry", 1);
    kafka::create_topic(&address, "history-changes", 1);
    produce_lines(&address, "history-changes", &files.changes);
    produce_lines(&address, "history-telemetry", &files.telemetry);
    let pipeline = files.pipeline.display().to_string();
    let mut run = program::Process::start(
        "run",
        &files.folder,
        &["run", &pipeline, "--create-topics"],
        &[("KAFKA_BROKERS", &address)],
    );
    suture_tests::wait::until("the topic of incidents", LONG, || {
        assert!(run.runs(), "{}", run.log());
        kafka::exists(&address, "history.incidents").then_some(())
    });
    kafka::read_until(&address, "history.incidents", LONG, |records| {
        last_states(records) == expected
    });
    run.signal("TERM");
    assert!(run.ended(Duration::from_secs(10)).success(), "{}", run.log());
}

/// Answers every request with 200 and keeps the bodies.
fn webhook() -> (String, Arc<Mutex<Vec<Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/act", listener.local_addr().unwrap());
    let bodies: Arc<Mutex<Vec<Value>>> = Arc::default();
    let kept = bodies.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if let Some((name, value)) = line.split_once(':')
                    && name.eq_ignore_ascii_case("content-length")
                {
                    length = value.trim().parse().unwrap();
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            kept.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                .unwrap();
        }
    });
    (url, bodies)
}

#[test]
fn bad_deploys_are_found_blamed_acted_on_once_and_recorded() {
    let broker = broker::shared();
    let address = broker.address();
    let recording = shop(2, &[FaultKind::BadDeploy]);
    let culprits: Vec<String> = recording
        .truth
        .iter()
        .filter_map(|f| f.change.as_ref().map(ToString::to_string))
        .collect();
    let files = files("line", &recording);
    kafka::create_topic(&address, "line-telemetry", 1);
    kafka::create_topic(&address, "line-changes", 1);
    produce_lines(&address, "line-changes", &files.changes);
    kafka::produce(
        &address,
        "line-changes",
        0,
        [(None, b"{\"context\": {\"id\": ".as_slice())],
    );
    // two records that nobody can read must not keep the others from being judged
    kafka::produce(
        &address,
        "line-telemetry",
        0,
        [
            (None, b"not telemetry".as_slice()),
            (
                None,
                br#"{"ts": 1780272000000, "metric": "cpu_ratio", "value": NaN}"#.as_slice(),
            ),
        ],
    );
    produce_lines(&address, "line-telemetry", &files.telemetry);
    let pipeline = files.pipeline.display().to_string();
    let env = [("KAFKA_BROKERS", address.as_str())];
    let [decide, robot] =
        [("decide", "decide"), ("suture-execute", "executor")].map(|(who, role)| key(&files, who, role));
    let mut run = program::Process::start(
        "run",
        &files.folder,
        &["run", &pipeline, "--create-topics", "--key", &decide],
        &env,
    );
    suture_tests::wait::until("the program's topics", LONG, || {
        assert!(run.runs(), "{}", run.log());
        kafka::exists(&address, "line.remediations").then_some(())
    });
    let (url, posted) = webhook();
    let mut execute = program::Process::start(
        "execute",
        &files.folder,
        &["execute", &pipeline, "--webhook", &url, "--key", &robot],
        &env,
    );

    kafka::read_until(&address, "line.remediations", LONG, |records| records.len() >= SURE);
    let outcomes = kafka::read_until(&address, "line.outcomes", LONG, |records| {
        records.iter().filter(|r| r.json()["status"] == "succeeded").count() >= SURE
    });
    let requests = kafka::read_all(&address, "line.remediations");
    assert!(!requests.is_empty());
    for request in &requests {
        let uuid = request.header("message_uuid").expect("a header message_uuid");
        assert_eq!(uuid.len(), 36, "{uuid} is no RFC 4122 text");
        assert!(request.header("ce_id").is_some() && request.key.is_some());
    }
    // what was acted on names an injected fault's deploy
    let mut named: Vec<String> = posted
        .lock()
        .unwrap()
        .iter()
        .map(|b| b["change"].as_str().unwrap().to_owned())
        .collect();
    named.sort();
    assert!(
        named.iter().all(|change| culprits.contains(change)),
        "{named:?} are not all of {culprits:?}"
    );
    let acted_on = named.len();
    named.dedup();
    assert_eq!((named.len(), acted_on), (SURE, SURE), "each is rolled back once");
    let acted: Vec<&str> = outcomes
        .iter()
        .filter(|o| o.header("none").is_none())
        .map(|o| o.key.as_deref().unwrap())
        .collect();
    assert!(acted.len() >= SURE * 2, "started and succeeded for each");

    let incidents = last_states(&kafka::read_all(&address, "line.incidents"));
    assert!(incidents.len() >= SURE);
    let ledger: Vec<LedgerRecord> = kafka::read_until(&address, "line.ledger", LONG, |records| {
        records.iter().filter(|r| r.json()["kind"] == "outcome").count() >= SURE
    })
    .iter()
    .map(|record| serde_json::from_slice(&record.value).unwrap())
    .collect();
    verify_chain(&ledger).expect("the chain of hashes holds");
    assert!(
        ledger.iter().all(|record| record.seal.is_some()),
        "each record is signed"
    );
    let letters = kafka::read_all(&address, "line.dead-letters");
    let reasons: Vec<&str> = letters
        .iter()
        .filter_map(|letter| letter.header("suture_reason"))
        .collect();
    assert_eq!(letters.len(), 3, "{reasons:?}");
    assert!(
        letters.iter().any(|letter| letter.value == b"not telemetry"),
        "the record is kept as it came"
    );
    assert!(reasons.iter().all(|reason| !reason.is_empty()));

    for (name, process) in [("run", &mut run), ("execute", &mut execute)] {
        process.signal("TERM");
        let status = process.ended(Duration::from_secs(10));
        assert!(status.success(), "{name}: {status}\n{}", process.log());
    }
}

#[test]
fn a_broker_that_is_not_there_is_named() {
    let files = files("nobody", &shop(5, &[FaultKind::BadDeploy]));
    let pipeline = files.pipeline.display().to_string();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let mut run = program::Process::start(
        "run",
        &files.folder,
        &["run", &pipeline],
        &[("KAFKA_BROKERS", &address)],
    );
    suture_tests::wait::until("a word about the broker", Duration::from_secs(60), || {
        run.log().contains(&address).then_some(())
    });
    run.signal("TERM");
    run.ended(Duration::from_secs(30));
}
