//! A pipeline that changes under a running shard: what still fits goes on byte for byte, and only the rest begins anew.

// what goes wrong here is a failed test
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_precision_loss)]

use std::sync::Arc;

use suture_config::Pipeline;
use suture_engine::{
    EngineError, Expressions, Filter, Headers, NoExpressions, Observe, ObserveOut, RecordRef, Rows, Source, ValueOf,
};
use suture_event::{Anomaly, AnomalyPhase, Carried, EndReason, EpochNote, Fact, FactBody, ShardId, Timestamp};
use suture_testkit::noise::even;

const START: i64 = 1_780_272_000_000;
const MINUTE: i64 = 60_000;
/// Minutes before the pipeline changes, and in all.
const BEFORE: i64 = 400;
const ALL: i64 = 700;

const HEAD: &str = "name: test\nclock: event\nscope: {label: environment, default: prod}\n\
                    telemetry: [{topic: telemetry}]\nwindow: {size: 1m}\n\
                    detect: {alarm: 0.005, at_once: 0.0005, warm_up: 30}\n";
const LATENCY: &str = "  - {name: latency, match: {metric: 'a_*'}, direction: up}\n";
const QUEUE: &str = "  - {name: queue, match: {metric: 'b_*'}, aggregate: max}\n";
const ERRORS: &str = "  - {name: errors, match: {metric: 'c_*'}, counter: true}\n";

fn pipeline(head: &str, signals: &[&str]) -> Arc<Pipeline> {
    let text = format!("{head}signals:\n{}", signals.concat());
    Arc::new(Pipeline::parse("test.yaml", &text, &|_| None).unwrap_or_else(|problems| panic!("{problems:?}")))
}

/// A condition is the beginning of the names it leaves out; no value is another one's.
struct Beginnings;

struct Without(String);

impl Filter for Without {
    fn reads_sample(&self) -> bool {
        false
    }
    fn keep(&self, rows: Rows<'_>) -> Result<Vec<bool>, String> {
        // of several it fails, as where one of them is divided by zero
        let kept = rows.metric.iter().map(|metric| !metric.starts_with(&self.0));
        if rows.metric.len() > 1 {
            return Err("not of several".to_owned());
        }
        Ok(kept.collect())
    }
}

impl Expressions for Beginnings {
    fn filter(&self, text: &str) -> Result<Arc<dyn Filter>, EngineError> {
        Ok(Arc::new(Without(text.to_owned())))
    }
    fn value(&self, text: &str) -> Result<Arc<dyn ValueOf>, EngineError> {
        NoExpressions.value(text)
    }
}

fn observe(pipeline: &Arc<Pipeline>) -> Observe {
    let source = Source::all(pipeline, &Beginnings).unwrap().remove(0);
    let topic = "telemetry".into();
    let shard = ShardId { topic, partition: 0 };
    Observe::new(pipeline.clone(), shard, source).unwrap().with_scores()
}

/// Samples of a minute: five services each of a latency, a queue and a counter of errors. Cart is far off from shortly
/// before the pipeline changes until after it, all are late in the run.
fn minute(fold: &mut Observe, minute: i64, out: &mut ObserveOut) {
    for (number, service) in (0..).zip(["cart", "shop", "mail", "user", "card"]) {
        let cart = service == "cart" && (BEFORE - 8..BEFORE + 12).contains(&minute);
        let off = cart || (ALL - 60..ALL - 50).contains(&minute);
        let count = 100 * minute;
        for (metric, half) in [("a_latency", 0), ("a_latency", 30_000), ("b_queue", 0), ("c_errors", 0)] {
            let n = even(minute * 31 + number * 7 + i64::from(metric.as_bytes()[0]) + half);
            let value = match metric {
                "c_errors" => count as f64 + 9.0 * n,
                _ => 20.0 + n + if off { 300.0 } else { 0.0 },
            };
            let ts = START + minute * MINUTE + half + number;
            let text = format!(
                r#"{{"ts":{ts},"metric":"{metric}","value":{value},"labels":{{"service":"{service}","zone":"eu","peer":"db"}}}}"#
            );
            let record = RecordRef {
                offset: 0,
                timestamp: None,
                key: None,
                headers: Headers::default(),
                value: Some(text.as_bytes()),
            };
            fold.record(record, out);
        }
    }
    fold.flush(out);
}

fn note() -> EpochNote {
    EpochNote {
        shard: ShardId {
            topic: "telemetry".into(),
            partition: 0,
        },
        number: 1,
        offset: 7,
        wall: Timestamp::from_millis(START),
        cause: "engine and pipeline changed".to_owned(),
        cold: false,
        carried: None,
    }
}

/// What came after the pipeline changed.
struct After {
    anomalies: Vec<Anomaly>,
    scores: Vec<String>,
    facts: Vec<Fact>,
    epoch: Option<EpochNote>,
    fold: Observe,
}

impl After {
    /// Scores and anomalies of metrics that begin with one of these letters, as text; sorted, since those of one window
    /// come in the order of the pipeline's rules.
    fn of(&self, metrics: &str) -> Vec<String> {
        let scores = self.scores.iter().filter(|row| metrics.contains(&row[..1])).cloned();
        let anomalies = self.anomalies.iter().filter(|one| metrics.contains(&one.metric[..1]));
        let mut all: Vec<String> = scores.chain(anomalies.map(|one| format!("{one:?}"))).collect();
        all.sort();
        all
    }

    fn carried(&self) -> Carried {
        self.epoch.as_ref().and_then(|note| note.carried).unwrap()
    }

    /// Scores of a metric's series, and of one service where one is named, before the first that is not 0.
    fn quiet(&self, metric: &str, service: &str) -> usize {
        let mut rows = self
            .scores
            .iter()
            .filter(|row| row.starts_with(metric) && row.contains(service));
        rows.position(|row| !row.contains("score: 0.0,")).unwrap()
    }
}

/// One run under `first`, then, where given, under `then`; `damage` is what happens to the snapshot in between.
fn run(first: &Arc<Pipeline>, then: Option<&Arc<Pipeline>>, damage: fn(Vec<u8>) -> Vec<u8>) -> After {
    let mut fold = observe(first);
    for at in 0..BEFORE {
        minute(&mut fold, at, &mut ObserveOut::default());
    }
    let mut out = ObserveOut::default();
    if let Some(then) = then {
        let bytes = damage(fold.snapshot().unwrap());
        fold = observe(then);
        fold.restore(&bytes).unwrap();
        fold.epoch(note(), &mut out);
        // an epoch and its first snapshot are there together
        let bytes = fold.snapshot().unwrap();
        fold = observe(then);
        fold.restore(&bytes).unwrap();
    }
    for at in BEFORE..ALL {
        minute(&mut fold, at, &mut out);
    }
    let epoch = out.facts.iter().find_map(|fact| match &fact.body {
        FactBody::Epoch(note) => Some(note.clone()),
        _ => None,
    });
    let numbered = out.facts.iter().filter(|fact| !matches!(fact.body, FactBody::Epoch(_)));
    let numbers: Vec<u64> = numbered.map(|fact| fact.seq).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    let anomalies = out.facts.iter().filter_map(|fact| match &fact.body {
        FactBody::Anomaly(anomaly) => Some(anomaly.clone()),
        _ => None,
    });
    After {
        anomalies: anomalies.collect(),
        scores: out.scores.iter().map(|row| format!("{} {row:?}", row.metric)).collect(),
        facts: out.facts,
        epoch,
        fold,
    }
}

fn kept(kept: u64, anew: u64) -> Carried {
    Carried {
        kept,
        anew,
        left_out: 0,
    }
}

fn as_it_was(bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

/// As a program wrote it that kept no more of the pipeline than hashes: unknown keys are passed over.
fn older(mut bytes: Vec<u8>) -> Vec<u8> {
    for key in [b"\xa5terms", b"\xa5specs"] {
        let at = bytes.windows(key.len()).position(|part| part == key);
        if let Some(at) = at {
            bytes[at + 1] = b'x';
        }
    }
    bytes
}

#[test]
fn of_three_signals_one_changes_and_the_others_go_on_byte_for_byte() {
    let first = pipeline(HEAD, &[LATENCY, QUEUE, ERRORS]);
    let changed = pipeline(
        HEAD,
        &[
            LATENCY,
            "  - {name: queue, match: {metric: 'b_*'}, aggregate: max, detect: {warm_up: 50}}\n",
            ERRORS,
        ],
    );
    let straight = run(&first, None, as_it_was);
    let carried = run(&first, Some(&changed), as_it_was);
    assert_eq!(carried.carried(), kept(10, 5));
    assert_eq!(carried.of("ac"), straight.of("ac"));
    assert!(straight.of("ac").len() > 2_500, "{}", straight.of("ac").len());
    // the queue warms up, for fifty windows of each of five, and then finds what is late in the run
    assert!(straight.quiet("b_queue", "") < 3, "{}", straight.quiet("b_queue", ""));
    assert!(
        (250..350).contains(&carried.quiet("b_queue", "")),
        "{}",
        carried.quiet("b_queue", "")
    );
    let queue = |after: &After| -> Vec<Anomaly> {
        let late = after.anomalies.iter().filter(|one| one.metric.starts_with("b_"));
        late.cloned().collect()
    };
    assert!(queue(&carried).iter().any(|one| one.phase == AnomalyPhase::Opened));
    // its anomaly was open: whoever waits for its end hears of it, with the epoch and before anything else
    let [epoch, end, ..] = carried.facts.as_slice() else {
        panic!("{:?}", carried.facts)
    };
    assert!(matches!(epoch.body, FactBody::Epoch(_)) && epoch.seq == end.seq);
    let FactBody::Anomaly(end) = &end.body else {
        panic!("{end:?}")
    };
    assert_eq!(
        (&*end.metric, end.phase, end.end),
        ("b_queue", AnomalyPhase::Ended, Some(EndReason::Silent))
    );
    let was = run(&first, None, as_it_was)
        .anomalies
        .into_iter()
        .find(|one| one.metric.starts_with("b_"));
    assert_eq!(Some(&end.id), was.as_ref().map(|one| &one.id));
    // nothing of it is open twice
    let ids: Vec<_> = queue(&carried).iter().map(|one| one.id.clone()).collect();
    assert_eq!(ids.iter().filter(|id| **id == end.id).count(), 1);
}

#[test]
fn another_value_of_a_signal_drops_its_windows_too() {
    let first = pipeline(HEAD, &[LATENCY, QUEUE, ERRORS]);
    let changed = pipeline(
        HEAD,
        &[
            LATENCY,
            "  - {name: queue, match: {metric: 'b_*'}, aggregate: min}\n",
            ERRORS,
        ],
    );
    let carried = run(&first, Some(&changed), as_it_was);
    assert_eq!(carried.carried(), kept(10, 5));
    assert_eq!(carried.of("ac"), run(&first, None, as_it_was).of("ac"));
    assert_eq!(carried.fold.counters().series, 15);
    assert!(
        (150..250).contains(&carried.quiet("b_queue", "")),
        "{}",
        carried.quiet("b_queue", "")
    );
}

#[test]
fn a_removed_signal_an_added_one_and_another_order_leave_the_rest_alone() {
    let first = pipeline(HEAD, &[LATENCY, QUEUE, ERRORS]);
    let straight = run(&first, None, as_it_was);
    // what no rule names is watched as any other, but its values are not those of the queue's rule
    let removed = run(&first, Some(&pipeline(HEAD, &[LATENCY, ERRORS])), as_it_was);
    assert_eq!(removed.carried(), kept(10, 5));
    assert_eq!(removed.of("ac"), straight.of("ac"));
    // an added rule takes one of the latencies for itself
    let added = "  - {name: cart, match: {metric: 'a_*', labels: {service: cart}}, detect: {warm_up: 50}}\n";
    let added = run(
        &first,
        Some(&pipeline(HEAD, &[added, LATENCY, QUEUE, ERRORS])),
        as_it_was,
    );
    assert_eq!(added.carried(), kept(14, 1));
    assert_eq!(added.of("bc"), straight.of("bc"));
    let others = |after: &After| -> Vec<String> {
        let of = after.of("a");
        of.into_iter().filter(|text| !text.contains("cart")).collect()
    };
    assert_eq!(others(&added), others(&straight));
    let quiet = [&straight, &added].map(|after| after.quiet("a_latency", "cart"));
    assert!(quiet[0] < 1 && quiet[1] >= 50, "{quiet:?}");
    // nor does a rule's name or place mean anything, or which of two equal ones it is
    let named = "  - {name: slow, match: {metric: 'a_*', labels: {service: '*'}}, direction: up}\n";
    let moved = run(&first, Some(&pipeline(HEAD, &[ERRORS, QUEUE, named])), as_it_was);
    assert_eq!(moved.carried(), kept(15, 0));
    assert_eq!(moved.of("abc"), straight.of("abc"));
    // and a pipeline as it was has all of its series
    let same = run(&first, Some(&first), as_it_was);
    assert_eq!(same.carried(), kept(15, 0));
    assert_eq!(
        (same.of("abc"), same.fold.digest()),
        (straight.of("abc"), straight.fold.digest())
    );
}

#[test]
fn a_changed_name_alone_changes_nothing_at_all() {
    let first = pipeline(HEAD, &[LATENCY, QUEUE, ERRORS]);
    let renamed = pipeline(HEAD, &[&LATENCY.replace("latency", "slow"), QUEUE, ERRORS]);
    assert_eq!(first.fingerprint(), renamed.fingerprint());
    // the runtime compares digests then, and begins no epoch
    let (straight, carried) = (run(&first, None, as_it_was), run(&first, Some(&renamed), as_it_was));
    assert_eq!(straight.fold.digest(), carried.fold.digest());
}

#[test]
fn a_snapshot_of_an_earlier_program_is_carried_over_by_its_hashes() {
    let first = pipeline(HEAD, &[LATENCY, QUEUE, ERRORS]);
    let straight = run(&first, None, as_it_was);
    let same = run(&first, Some(&first), older);
    assert_eq!(
        (same.of("abc"), same.fold.digest()),
        (straight.of("abc"), straight.fold.digest())
    );
    let changed = pipeline(
        HEAD,
        &[
            ERRORS,
            LATENCY,
            "  - {name: queue, match: {metric: 'b_*'}, aggregate: min}\n",
        ],
    );
    let carried = run(&first, Some(&changed), older);
    assert_eq!(carried.carried(), kept(10, 5));
    assert_eq!(carried.of("ac"), straight.of("ac"));
}

#[test]
fn a_part_that_was_carried_over_never_passes_for_the_whole() {
    let first = pipeline(HEAD, &[LATENCY, QUEUE, ERRORS]);
    let mut fold = observe(&first);
    for at in 0..BEFORE {
        minute(&mut fold, at, &mut ObserveOut::default());
    }
    let bytes = fold.snapshot().unwrap();
    let mut other = observe(&pipeline(HEAD, &[LATENCY, ERRORS]));
    other.restore(&bytes).unwrap();
    assert_ne!(other.digest(), fold.digest());
    // what comes of other windows is another value altogether
    for head in [
        HEAD.replace("size: 1m", "size: 2m"),
        HEAD.replace("size: 1m", "size: 1m, lateness: 1m"),
    ] {
        let refused = observe(&pipeline(&head, &[LATENCY]))
            .restore(&bytes)
            .unwrap_err()
            .to_string();
        assert!(refused.contains("other windows"), "{refused}");
    }
}

#[test]
fn a_series_that_is_called_otherwise_begins_anew_and_new_edges_are_said() {
    let first = pipeline(HEAD, &[LATENCY, QUEUE, ERRORS]);
    let head = HEAD.replace("label: environment", "label: zone");
    let carried = run(&first, Some(&pipeline(&head, &[LATENCY, QUEUE, ERRORS])), as_it_was);
    assert_eq!(carried.carried(), kept(0, 15));
    let ends: Vec<_> = carried
        .facts
        .iter()
        .filter(|fact| &*fact.scope == "prod")
        .map(|fact| match &fact.body {
            FactBody::Anomaly(one) => one.end,
            _ => None,
        })
        .collect();
    // whoever heard of them under the former scope hears of their end there, and of nothing else
    assert_eq!(ends, [Some(EndReason::Silent); 2]);
    assert!(carried.anomalies.len() > 3);

    let head = format!("{HEAD}topology: {{from_labels: [{{from: service, to: peer}}]}}\n");
    let carried = run(&first, Some(&pipeline(&head, &[LATENCY, QUEUE, ERRORS])), as_it_was);
    assert_eq!(carried.carried(), kept(15, 0));
    let edges = carried
        .facts
        .iter()
        .filter(|fact| matches!(fact.body, FactBody::Edge(_)));
    assert_eq!(edges.count(), 5);
    assert_eq!(carried.of("abc"), run(&first, None, as_it_was).of("abc"));
}

#[test]
fn a_new_condition_leaves_out_series_that_are_long_known() {
    let first = pipeline(HEAD, &[LATENCY, QUEUE, ERRORS]);
    let head = HEAD.replace("{topic: telemetry}", "{topic: telemetry, where: b_}");
    let carried = run(&first, Some(&pipeline(&head, &[LATENCY, QUEUE, ERRORS])), as_it_was);
    let counts = Carried {
        kept: 10,
        anew: 0,
        left_out: 5,
    };
    assert_eq!((carried.carried(), carried.fold.counters().series), (counts, 10));
    assert_eq!(carried.of("ac"), run(&first, None, as_it_was).of("ac"));
    // what was open of them ends, and nothing else is said of them
    let left: Vec<_> = carried
        .anomalies
        .iter()
        .filter(|one| &*one.metric == "b_queue")
        .collect();
    assert_eq!(
        left.iter().map(|one| one.end).collect::<Vec<_>>(),
        [Some(EndReason::Silent)]
    );
}

#[test]
fn a_budget_goes_on_with_the_rule_whose_it_is() {
    let own = "  - {name: latency, match: {metric: 'a_*'}, alarms: {at_most: 2, per: 1d}}\n";
    let twin = "  - {name: queue, match: {metric: 'b_*'}, alarms: {at_most: 2, per: 1d}}\n";
    let first = pipeline(HEAD, &[own, twin, ERRORS]);
    let straight = run(&first, None, as_it_was);
    let carried = run(&first, Some(&pipeline(HEAD, &[twin, own])), as_it_was);
    assert_eq!(carried.carried(), kept(10, 5));
    assert_eq!(carried.of("ab"), straight.of("ab"));
    // a budget of the whole pipeline that is new to it finds detectors that have learned without one
    let head = format!("{HEAD}alarms: {{at_most: 5, per: 1d}}\n");
    let under = run(
        &pipeline(HEAD, &[LATENCY]),
        Some(&pipeline(&head, &[LATENCY])),
        as_it_was,
    );
    assert_eq!(under.carried(), kept(15, 0));
}

const PEERS: &str = "  - {name: peers, match: {metric: 'a_*'}, peers: {among: [service], }}\n";
const BURN: &str = "  - name: budget
    match: {metric: '{b,c}_*'}
    by: [zone]
    slo:
      objective: 0.7
      bad: {metric: 'b_*'}
      total: {metric: 'c_*'}
      windows: [{long: 10m, short: 5m, burn: 1.5}]
";

#[test]
fn a_group_goes_on_where_its_rule_does_and_a_new_one_finds_the_series_there_are() {
    let with = |derive: &[&str]| {
        let head = format!("{HEAD}derive:\n{}", derive.concat());
        pipeline(&head, &[LATENCY, QUEUE, ERRORS])
    };
    let of = |after: &After, detector: &str| -> Vec<Anomaly> {
        let of = after.anomalies.iter().filter(|one| &*one.detector == detector);
        of.cloned().collect()
    };
    let both = with(&[PEERS, BURN]);
    let straight = run(&both, None, as_it_was);
    assert!(
        !of(&straight, "peers").is_empty() && !of(&straight, "burn").is_empty(),
        "{:?}",
        straight.anomalies
    );
    for damage in [as_it_was, older] {
        let moved = run(&both, Some(&with(&[BURN, PEERS])), damage);
        assert_eq!(
            (of(&moved, "peers"), of(&moved, "burn")),
            (of(&straight, "peers"), of(&straight, "burn"))
        );
    }
    // a rule that is gone ends what was open of it
    let less = run(&both, Some(&with(&[BURN])), as_it_was);
    assert_eq!(of(&less, "burn"), of(&straight, "burn"));
    let ends: Vec<_> = of(&less, "peers").iter().map(|one| one.end).collect();
    assert_eq!(ends, [Some(EndReason::Silent)]);
    // one that is added seats series that are long known, and knows what a window of them counts
    for before in [with(&[PEERS]), pipeline(HEAD, &[LATENCY, QUEUE, ERRORS])] {
        let more = run(&before, Some(&both), as_it_was);
        assert!(!of(&more, "burn").is_empty());
        let last = |after: &After| {
            of(after, "burn")
                .last()
                .map(|one| (one.at, one.phase, one.value.is_some()))
        };
        assert_eq!(last(&more), last(&straight));
    }
}
