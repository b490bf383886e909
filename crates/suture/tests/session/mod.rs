//! What `suture run` logs, from its start on: who sees only this must be able to say what happened and why.
//!
//! The folds are driven one by one, as the runtime does, so that the lines come in one order. `UPDATE_EXPECT=1` renews the golden text.

// what goes wrong here is a failed test
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::BTreeSet,
    io::Write,
    path::Path,
    sync::{Arc, Mutex},
};

use suture_codec::{cdevents, records};
use suture_config::Pipeline;
use suture_engine::{NoExpressions, Source};
use suture_event::{ActionRequest, HeadersBuf, RecordRef, Rung, ShardId, Span, Timestamp};
use suture_log::OutRecord;
use suture_runtime::{Fold, Folds, Outputs, Tick};
use suture_service::{
    planes::{DecideFolds, ObserveFolds, Topics},
    status::Board,
    story,
};
use suture_simulate::{FaultKind, Shop};

const PIPELINE: &str = "
version: 1
name: shop
scope: {label: environment, default: prod}
telemetry: [{topic: telemetry}]
changes: [{topic: changes}]
window: {size: 1m}
topology: {from_labels: [{from: service, to: peer}, {from: client, to: service}]}
remediate:
  mode: autonomous
  playbooks:
    - name: roll back a bad deploy
      owner: release team
      match: {class: [bad_deploy]}
      rung: autonomous
      action: {action: rollback, parameters: {change: '{{change}}'}}
      reversal: {action: redeploy, parameters: {change: '{{change}}'}}
      limits: {verify_within: 15m}
      safety:
        trigger: an incident opens soon after a deploy, and the deploy explains it best
        false_positives: [an innocent deploy at the same place in the same minutes as another fault]
        blast_radius: one service runs its former version
        reversal_time: 90s
        budget: {actions: 10, per: 1h}
        telemetry: [error_ratio]
";

/// Samples of a shard come so much later than they were measured.
const UNDER_WAY: Span = Span::from_secs(2);
/// The shop's steps in a record batch.
const STEP: Span = Span::from_secs(20);

struct Shard {
    id: ShardId,
    fold: Box<dyn Fold>,
    offset: i64,
}

/// The folds of a run, and what the last step of each put out.
struct Session {
    observe: Vec<Shard>,
    decide: Box<dyn Fold>,
    facts: i64,
    topics: Topics,
    requests: Vec<ActionRequest>,
}

impl Session {
    fn start(pipeline: &Arc<Pipeline>, board: &Arc<Board>) -> Self {
        let sources = Source::all(pipeline, &NoExpressions).unwrap();
        let topics = Topics::of(pipeline);
        let folds = ObserveFolds {
            pipeline: pipeline.clone(),
            sources: sources.clone(),
            topics: topics.clone(),
            model: None,
            fact_partitions: 1,
            onlooker: None,
            board: board.clone(),
        };
        let observe = sources.iter().map(|source| {
            let id = ShardId {
                topic: source.topic.as_str().into(),
                partition: 0,
            };
            let mut fold = folds.create(&id).unwrap();
            fold.resume(0);
            Shard { id, fold, offset: 0 }
        });
        let decide = DecideFolds {
            pipeline: pipeline.clone(),
            edges: Vec::new(),
            topics: topics.clone(),
            key: None,
            board: board.clone(),
        };
        let facts = ShardId {
            topic: topics.facts.clone(),
            partition: 0,
        };
        let mut decide = decide.create(&facts).unwrap();
        decide.resume(0);
        story::of_start(pipeline).log();
        Self {
            observe: observe.collect(),
            decide,
            facts: 0,
            topics,
            requests: Vec::new(),
        }
    }

    /// Hands records to one input's shard.
    fn put(&mut self, topic: &str, at: Timestamp, values: &[Vec<u8>]) {
        let shard = self.observe.iter_mut().find(|shard| *shard.id.topic == *topic).unwrap();
        let mut out = Outputs::default();
        let headers = HeadersBuf::default();
        for value in values {
            let record = RecordRef {
                offset: shard.offset,
                timestamp: Some(at),
                key: None,
                value: Some(value),
                headers: headers.as_headers(),
            };
            shard.fold.record(record, &mut out);
            shard.offset += 1;
        }
        self.carry(&out);
    }

    /// Lets time pass on every shard.
    fn tick(&mut self, wall: Timestamp) {
        let roster: Vec<ShardId> = self.observe.iter().map(|shard| shard.id.clone()).collect();
        for (at, id) in roster.iter().enumerate() {
            let mut out = Outputs::default();
            let idle = &*id.topic != "telemetry";
            let tick = Tick {
                wall,
                idle,
                roster: &roster,
            };
            self.observe[at].fold.tick(tick, &mut out);
            self.carry(&out);
        }
    }

    /// Facts go to decide, and requests to whoever acts.
    fn carry(&mut self, out: &Outputs) {
        let mut decided = Outputs::default();
        for fact in out.records().iter().filter(|record| record.topic == self.topics.facts) {
            let record = RecordRef {
                offset: self.facts,
                timestamp: None,
                key: fact.key.as_deref(),
                value: fact.value.as_deref(),
                headers: fact.headers.as_headers(),
            };
            self.decide.record(record, &mut decided);
            self.facts += 1;
        }
        let is_request = |record: &&OutRecord| record.topic == self.topics.remediations;
        for record in decided.records().iter().filter(is_request) {
            let request = cdevents::read_remediation(record.value.as_deref().unwrap()).unwrap();
            self.requests.push(request);
        }
    }
}

/// What the shop does while the program looks on, and what the program says.
fn watch() {
    let checked = Pipeline::check("shop.yaml", PIPELINE, &|_| None, &suture_config::Unchecked);
    let pipeline = Arc::new(checked.pipeline.expect("a pipeline that can be"));
    let mut shop = Shop::new(suture_simulate::Options {
        seed: 3,
        warmup: Span::from_hours(8),
        step: STEP,
        faults: 1,
        kinds: vec![FaultKind::BadDeploy],
        deploys_per_day: 30.0,
        rollout_spike: 0.6,
        pod_churn: true,
        ..suture_simulate::Options::default()
    })
    .unwrap();
    let board: Arc<Board> = Arc::default();
    let mut session = Session::start(&pipeline, &board);
    let (broken, end) = (shop.now().plus(Span::from_hours(2)), shop.end());
    let mut asked = BTreeSet::new();
    while shop.now() < end {
        let tick = shop.advance();
        let wall = tick.at.plus(UNDER_WAY);
        let changes: Vec<Vec<u8>> = tick.changes.iter().map(|c| serde_json::to_vec(c).unwrap()).collect();
        session.put("changes", wall, &changes);
        let outcomes: Vec<Vec<u8>> = tick.outcomes.iter().map(|o| records::encode(o).unwrap()).collect();
        session.put("suture.outcomes", wall, &outcomes);
        let mut samples: Vec<Vec<u8>> = tick
            .samples
            .iter()
            .map(|sample| {
                let json = serde_json::json!({
                    "ts": sample.ts, "metric": sample.metric, "value": sample.value, "labels": sample.labels,
                });
                serde_json::to_vec(&json).unwrap()
            })
            .collect();
        // somebody sends what nobody can read, for three minutes
        let since = tick.at.since(broken);
        if (0..180_000).contains(&since.as_millis()) {
            samples.push(br#"{"ts": "soon", "metric": "cpu", "value": 1}"#.to_vec());
        }
        session.put("telemetry", wall, &samples);
        session.tick(wall);
        for request in std::mem::take(&mut session.requests) {
            if request.rung == Rung::Autonomous && asked.insert(request.id.clone()) {
                let outcome = shop.act(&request).outcome;
                session.put("suture.outcomes", wall, &[records::encode(&outcome).unwrap()]);
            }
        }
    }
}

/// Where the log goes.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_log_of_a_run_reads_like_a_story() {
    let lines = Lines::default();
    let writer = lines.clone();
    let log = tracing_subscriber::fmt()
        .without_time()
        .with_target(false)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(log, watch);
    let said = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/session/log.txt");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &said).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        said, golden,
        "renewed with UPDATE_EXPECT=1 cargo test -p suture --test looking"
    );
    // whatever is renewed, the story has to be in it, in this order
    let mut rest = said.as_str();
    for part in [
        "pipeline shop starts",
        "warming up until about",
        "warm: what is usual is known",
        "went to the dead letters (offset",
        "more went to the dead letters in the last minute",
        "anomaly: ",
        "held back: ",
        "Likeliest cause: bad deploy",
        "together reach",
        "action: rollback on",
        "is done on",
        "is resolved after",
        "helped: every signal",
    ] {
        let at = rest.find(part);
        assert!(at.is_some(), "{part:?} is not told, or too early:\n{said}");
        rest = &rest[at.unwrap()..];
    }
    assert!(said.lines().count() < 120, "too much to read:\n{said}");
}
