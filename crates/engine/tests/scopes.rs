//! Which scope a fact is in, which scopes there is room for, and what their ledgers say.

// what goes wrong here is a failed test
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use suture_config::Pipeline;
use suture_engine::{Decide, DecideOut, Headers, NoExpressions, Observe, ObserveOut, RecordRef, Source};
use suture_event::{
    Change, ChangeKind, Command, CommandKind, Edge, EdgeSource, EpochNote, Fact, FactBody, LedgerRecord, Progress,
    ShardId, Span, Timestamp, verify_chain,
};

/// 2026-06-01.
const START: i64 = 1_780_272_000_000;

fn pipeline(more: &str) -> Arc<Pipeline> {
    let text = format!("name: test\ntelemetry: [{{topic: telemetry}}]\nchanges: [{{topic: changes}}]\n{more}");
    Arc::new(Pipeline::parse("test.yaml", &text, &|_| None).unwrap_or_else(|problems| panic!("{problems}")))
}

fn named(more: &str) -> Arc<Pipeline> {
    pipeline(&format!("scope: {{label: environment}}\n{more}"))
}

fn at(minute: i64) -> Timestamp {
    Timestamp::from_millis(START + minute * 60_000)
}

fn shard(topic: &str) -> ShardId {
    ShardId {
        topic: topic.into(),
        partition: 0,
    }
}

fn fact(scope: &str, minute: i64, body: FactBody) -> Fact {
    Fact {
        scope: scope.into(),
        at: at(minute),
        shard: shard("telemetry"),
        seq: 0,
        body,
    }
}

fn edge(scope: &str, minute: i64) -> Fact {
    let edge = Edge {
        from: "front".into(),
        to: "cart".into(),
        source: EdgeSource::Telemetry,
    };
    fact(scope, minute, FactBody::Edge(edge))
}

fn change(scope: &str, minute: i64) -> Fact {
    let change = Change {
        id: format!("{scope}-{minute}").into(),
        at: at(minute),
        kind: ChangeKind::Deploy,
        service: "web".into(),
        environment: Some(scope.into()),
        artifact: None,
        source: "/ci".into(),
        event_type: "dev.cdevents.service.deployed.0.2.0".into(),
    };
    fact(scope, minute, FactBody::Change(change))
}

fn command(scope: &str, minute: i64, kind: CommandKind) -> Fact {
    let command = Command {
        id: format!("{scope}-{minute}").into(),
        at: at(minute),
        by: "mina".into(),
        scope: scope.into(),
        reason: String::new(),
        kind,
        seal: None,
    };
    fact(scope, minute, FactBody::Command(command))
}

fn mark(shard: &ShardId, minute: i64) -> Fact {
    Fact {
        scope: "".into(),
        at: at(minute),
        shard: shard.clone(),
        seq: 0,
        body: FactBody::Progress(Progress {
            watermark: at(minute),
            wall: at(minute),
            idle: false,
            silent: None,
            stopped: false,
            roster: Vec::new(),
            series: None,
        }),
    }
}

fn note(shard: &ShardId, number: u32) -> EpochNote {
    EpochNote {
        shard: shard.clone(),
        number,
        offset: 7,
        wall: at(0),
        cause: "the pipeline changed".to_owned(),
        cold: false,
        carried: None,
    }
}

/// A fold that goes through a snapshot before each fact, as nothing may depend on that.
struct Fold {
    pipeline: Arc<Pipeline>,
    decide: Decide,
    out: DecideOut,
}

impl Fold {
    fn new(pipeline: Arc<Pipeline>) -> Self {
        Self {
            decide: Decide::new(pipeline.clone(), Vec::new()),
            pipeline,
            out: DecideOut::default(),
        }
    }

    fn take(&mut self, fact: Fact) {
        let before = self.decide.counters();
        let bytes = self.decide.snapshot().unwrap();
        let mut next = Decide::new(self.pipeline.clone(), Vec::new());
        next.restore(&bytes).unwrap();
        assert_eq!(next.digest(), self.decide.digest());
        // what is counted is the process's
        self.decide.fact(fact.clone(), &mut self.out).unwrap();
        let mut again = DecideOut::default();
        next.fact(fact, &mut again).unwrap();
        assert_eq!(next.snapshot().unwrap(), self.decide.snapshot().unwrap());
        assert!(self.decide.counters().facts >= before.facts);
    }

    /// Takes a fact, and then marks of its time, by which it is judged.
    fn tell(&mut self, fact: Fact) {
        let minute = fact.at.since(at(0)).as_millis() / 60_000;
        self.take(fact);
        for shard in ["telemetry", "changes"].map(shard) {
            self.take(mark(&shard, minute));
        }
    }

    fn ledger(&self, scope: &str) -> Vec<&LedgerRecord> {
        verify_chain(&self.out.ledger).unwrap();
        self.out
            .ledger
            .iter()
            .filter(|record| &*record.scope == scope)
            .collect()
    }

    fn kinds(&self, scope: &str) -> Vec<&str> {
        self.ledger(scope).iter().map(|record| &*record.kind).collect()
    }
}

#[test]
fn without_a_scope_in_the_file_everything_is_in_one() {
    let told = |pipeline: Arc<Pipeline>| {
        let mut fold = Fold::new(pipeline);
        fold.take(mark(&shard("telemetry"), 0));
        fold.tell(edge("default", 0));
        fold.tell(change("prod", 1));
        fold.tell(command("staging", 2, CommandKind::Freeze));
        fold.tell(command("", 3, CommandKind::Freeze));
        let scopes: Vec<String> = fold.out.ledger.iter().map(|record| record.scope.to_string()).collect();
        (scopes, fold.decide.counters().scopes_without_telemetry)
    };
    // the second freeze is told that there was one
    assert_eq!(told(pipeline("")), (vec!["default".to_owned(); 2], 0));
    assert_eq!(told(named("")), (vec!["staging".to_owned(), String::new()], 1));
}

#[test]
fn environments_that_have_changes_alone_never_take_the_place_of_one_that_is_watched() {
    let mut fold = Fold::new(named("limits: {scopes: 3}\n"));
    for preview in 0..10 {
        fold.take(mark(&shard("telemetry"), preview));
        fold.tell(change(&format!("pr-{preview}"), preview));
    }
    // production is met after there is no room left, and stays
    fold.tell(edge("prod", 10));
    fold.tell(command("prod", 10, CommandKind::Freeze));
    for preview in 11..40 {
        fold.take(mark(&shard("telemetry"), preview));
        fold.tell(change(&format!("pr-{preview}"), preview));
    }
    fold.tell(command("prod", 40, CommandKind::Thaw));
    assert_eq!(fold.kinds("prod"), ["frozen", "thawed"]);
    let counters = fold.decide.counters();
    assert_eq!(
        (
            counters.scopes_refused,
            counters.scopes_displaced,
            counters.scopes_put_away
        ),
        (0, 0, 37)
    );
    assert_eq!(counters.scopes_without_telemetry, 2);

    // where every scope is watched, one of changes finds no room
    let mut full = Fold::new(named("limits: {scopes: 1}\n"));
    full.tell(edge("prod", 0));
    full.tell(change("pr-1", 1));
    full.tell(command("pr-1", 1, CommandKind::Freeze));
    let counters = full.decide.counters();
    assert_eq!(
        (
            counters.scopes_refused,
            counters.scopes_displaced,
            counters.scopes_put_away
        ),
        (2, 0, 0)
    );
}

#[test]
fn of_watched_scopes_the_one_that_is_still_for_longest_by_its_life_makes_room() {
    let day = 24 * 60;
    let mut fold = Fold::new(named("limits: {scopes: 3}\n"));
    let pass = |fold: &mut Fold, minute| {
        for shard in ["telemetry", "changes"].map(shard) {
            fold.take(mark(&shard, minute));
        }
    };
    fold.take(edge("prod", 0));
    pass(&mut fold, 60 * day);
    fold.take(edge("prod", 60 * day));
    // previews that live for a day, while production is calm for a week
    for preview in 0..7 {
        let from = (60 + preview) * day;
        pass(&mut fold, from);
        let name = format!("pr-{preview}");
        fold.take(edge(&name, from));
        pass(&mut fold, from + day - 1);
        fold.take(edge(&name, from + day - 1));
    }
    pass(&mut fold, 67 * day);
    let counters = fold.decide.counters();
    assert_eq!((counters.scopes_displaced, counters.scopes_refused), (5, 0));
    fold.take(command("prod", 67 * day, CommandKind::Freeze));
    fold.take(command("pr-6", 67 * day, CommandKind::Freeze));
    fold.take(command("pr-5", 67 * day, CommandKind::Freeze));
    // each is there still; what is frozen makes no room for anything
    assert_eq!(fold.decide.counters().scopes_displaced, 5);
    fold.take(edge("pr-7", 67 * day));
    assert_eq!(fold.decide.counters().scopes_refused, 1);
}

#[test]
fn a_scope_that_was_put_away_goes_on_with_its_chain_when_it_comes_back() {
    let mut fold = Fold::new(named("limits: {scopes: 1}\n"));
    fold.tell(command("pr-1", 0, CommandKind::Freeze));
    fold.tell(change("pr-2", 1));
    assert_eq!(fold.decide.counters().scopes_refused, 1, "one that is frozen stays");
    fold.tell(command("pr-1", 2, CommandKind::Thaw));
    fold.tell(change("pr-2", 3));
    fold.tell(command("pr-1", 4, CommandKind::Freeze));
    assert_eq!(fold.kinds("pr-1"), ["frozen", "thawed", "scope_put_away", "frozen"]);
    assert_eq!(fold.ledger("pr-1").last().unwrap().seq, 3);
}

#[test]
fn a_scope_has_one_chain_however_many_partitions_hear_that_a_shard_began_anew() {
    let shards: Vec<ShardId> = ["telemetry", "changes", "outcomes"].map(shard).into();
    let mut ledger = Vec::new();
    for partition in 0..6 {
        let mut fold = Fold::new(pipeline(""));
        let own = ShardId {
            topic: "facts".into(),
            partition,
        };
        for edit in 1..4 {
            fold.decide.epoch(&note(&own, edit), None, &mut fold.out).unwrap();
            for shard in &shards {
                fold.take(fact("", 0, FactBody::Epoch(note(shard, edit))));
            }
            if partition == 4 && edit == 2 {
                fold.tell(edge("default", 1));
            }
        }
        ledger.append(&mut fold.out.ledger);
    }
    verify_chain(&ledger).unwrap();
    // of each shard the last that was not said, and then all
    let epochs: Vec<u64> = ledger
        .iter()
        .map(|record| record.body["number"].as_u64().unwrap())
        .collect();
    assert_eq!(epochs, [2, 2, 2, 2, 3, 3, 3, 3]);
    assert!(
        ledger
            .iter()
            .all(|record| &*record.scope == "default" && &*record.kind == "epoch")
    );
}

#[test]
fn changes_that_meet_no_telemetry_are_told_after_a_while() {
    let mut fold = Fold::new(named(""));
    fold.take(edge("default", 0));
    for minute in 0..3 {
        fold.take(mark(&shard("telemetry"), minute));
        fold.take(change("prod", minute));
    }
    assert_eq!(fold.decide.apart(), None, "telemetry may be on its way");
    fold.take(mark(&shard("telemetry"), 11));
    assert_eq!(
        fold.decide.apart().map(|(scope, changes)| (scope.to_string(), changes)),
        Some(("prod".into(), 3))
    );
    fold.take(edge("prod", 11));
    assert_eq!(
        (fold.decide.apart(), fold.decide.counters().scopes_without_telemetry),
        (None, 0)
    );
}

#[test]
fn neither_a_mark_nor_a_fact_from_years_ahead_moves_time() {
    let century = 60 * 24 * 36_500;
    for clock in ["wall", "event"] {
        let mut fold = Fold::new(named(&format!("clock: {clock}\n")));
        let shards: Vec<ShardId> = ["telemetry", "changes"].map(shard).into();
        for minute in 0..3 {
            for shard in &shards {
                fold.take(mark(shard, minute));
            }
        }
        let before = fold.decide.now();
        fold.take(mark(&shards[0], century));
        fold.take(mark(&shards[1], 3));
        fold.take(mark(&shards[0], 3));
        assert_eq!(fold.decide.now(), before.plus(Span::from_mins(1)), "{clock}");
        assert_eq!(fold.decide.counters().ahead, 1, "{clock}");
        if clock == "wall" {
            fold.take(change("prod", century));
            assert_eq!(fold.decide.counters().held, 1);
            // a window's end may be a little ahead
            fold.take(edge("prod", 4));
            for minute in 4..16 {
                fold.take(mark(&shards[0], minute));
            }
            let counters = fold.decide.counters();
            assert_eq!((counters.ahead, counters.held), (2, 0), "it goes on without it");
        }
    }
}

#[test]
fn what_comes_before_the_first_marks_after_a_long_stop_waits_for_them() {
    let mut fold = Fold::new(named("limits: {scopes: 1}\n"));
    let shards: Vec<ShardId> = ["telemetry", "changes"].map(shard).into();
    fold.take(mark(&shards[0], 0));
    fold.take(edge("prod", 120));
    assert_eq!(fold.decide.counters().held, 1);
    fold.take(mark(&shards[0], 121));
    fold.take(mark(&shards[1], 121));
    let counters = fold.decide.counters();
    assert_eq!((counters.ahead, counters.held), (0, 0));
    fold.take(change("pr-1", 121));
    assert_eq!(fold.decide.counters().scopes_refused, 1, "the edge was taken");
}

#[test]
fn options_of_an_edited_file_take_hold_of_what_a_restart_goes_on_with() {
    let before = named("diagnose: {background: {half_life: 1d}}\n");
    let after = named("diagnose: {background: {half_life: 9d}}\n");
    let mut out = DecideOut::default();
    let mut decide = Decide::new(before, Vec::new());
    for fact in [edge("prod", 0), mark(&shard("telemetry"), 0)] {
        decide.fact(fact, &mut out).unwrap();
    }
    let mut edited = Decide::new(after, Vec::new());
    edited.restore(&decide.snapshot().unwrap()).unwrap();
    let state: serde_json::Value = rmp_serde::from_slice(&edited.snapshot().unwrap()).unwrap();
    let text = state["scopes"][0][1]["diagnoser"].to_string();
    assert!(
        !text.contains(r#""half_life":"1d""#) && text.contains(r#""half_life":"9d""#),
        "{text}"
    );
}

#[test]
fn a_version_is_news_once_however_long_two_run_side_by_side() {
    let pipeline = pipeline("").telemetry.clone();
    assert_eq!(pipeline.len(), 1);
    let text = "name: test\ntelemetry: [{topic: telemetry, format: otlp_json}]\n";
    let pipeline = Arc::new(Pipeline::parse("test.yaml", text, &|_| None).unwrap());
    let fresh = || {
        let source = Source::all(&pipeline, &NoExpressions).unwrap().remove(0);
        Observe::new(pipeline.clone(), shard("telemetry"), source).unwrap()
    };
    let mut fold = fresh();
    let mut told = Vec::new();
    let seen = ["1", "2", "1", "2", "1", "3", "2", "1"]
        .into_iter()
        .map(|version| (version, "prod"));
    let elsewhere = ["4", "1", "4"].into_iter().map(|version| (version, "test"));
    for (offset, (version, environment)) in (0..).zip(seen.chain(elsewhere).chain([("4", "prod")])) {
        let record = format!(
            r#"{{"resourceMetrics":[{{"resource":{{"attributes":[
                {{"key":"service.name","value":{{"stringValue":"cart"}}}},{{"key":"service.version","value":{{"stringValue":"{version}"}}}},
                {{"key":"deployment.environment.name","value":{{"stringValue":"{environment}"}}}}]}},
                "scopeMetrics":[{{"metrics":[{{"name":"m","gauge":{{"dataPoints":[
                {{"timeUnixNano":"{}000000","asDouble":1}}]}}}}]}}]}}]}}"#,
            START + offset * 1_000
        );
        let mut out = ObserveOut::default();
        let record = RecordRef {
            offset,
            timestamp: None,
            key: None,
            headers: Headers::default(),
            value: Some(record.as_bytes()),
        };
        fold.record(record, &mut out);
        fold.flush(&mut out);
        assert_eq!(out.dead_letters, []);
        told.extend(out.facts.into_iter().filter_map(|fact| match fact.body {
            FactBody::Change(change) => Some((offset, change.id.to_string())),
            _ => None,
        }));
        let bytes = fold.snapshot().unwrap();
        fold = fresh();
        fold.restore(&bytes).unwrap();
    }
    // the first version of a service in an environment is no news
    let expected = [
        (1, "version-cart-2"),
        (5, "version-cart-3"),
        (9, "version-cart-1"),
        (11, "version-cart-4"),
    ];
    assert_eq!(told, expected.map(|(offset, id)| (offset, id.to_owned())));
}
