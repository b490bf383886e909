//! Telemetry that stops: windows close by the clock on the wall, a restart does the same, and that all of a scope has stopped is
//! an incident of its own.

// what goes wrong here is a failed test
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use suture_config::Pipeline;
use suture_engine::{Decide, DecideOut, Headers, NoExpressions, Observe, ObserveOut, RecordRef, Source};
use suture_event::{Direction, FactBody, Incident, IncidentStatus, ShardId, Span, Timestamp, verify_chain};

const PIPELINE: &str = "
version: 1
name: test
telemetry: [{topic: telemetry}]
window: {size: 1m}
";
/// 2026-06-01.
const START: i64 = 1_780_272_000_000;
const PARTITIONS: i32 = 2;

fn pipeline(more: &str) -> Arc<Pipeline> {
    let text = format!("{PIPELINE}{more}");
    Arc::new(Pipeline::parse("test.yaml", &text, &|_| None).unwrap_or_else(|problems| panic!("{problems}")))
}

fn roster() -> Vec<ShardId> {
    let shard = |partition| ShardId {
        topic: "telemetry".into(),
        partition,
    };
    (0..PARTITIONS).map(shard).collect()
}

fn observe(pipeline: &Arc<Pipeline>, partition: usize) -> Observe {
    let source = Source::all(pipeline, &NoExpressions).unwrap().remove(0);
    Observe::new(pipeline.clone(), roster()[partition].clone(), source).unwrap()
}

fn minute(minute: i64) -> Timestamp {
    Timestamp::from_millis(START + minute * 60_000)
}

/// What came of a minute of telemetry: ten series a partition.
fn take(observe: &mut Observe, at: Timestamp, out: &mut ObserveOut) {
    let partition = observe.shard().partition;
    for series in 0..10 {
        let noise = (at.as_millis() / 60_000 * 7_919 + series * 104_729) % 100;
        let text = format!(
            r#"{{"ts": {}, "metric": "request_latency", "value": {}, "labels": {{"service": "s{partition}-{series}"}}}}"#,
            at.as_millis(),
            1_000 + noise
        );
        observe.record(
            RecordRef {
                offset: at.as_millis() / 1_000 + series,
                timestamp: Some(at.plus(Span::from_secs(2))),
                key: None,
                headers: Headers::default(),
                value: Some(text.as_bytes()),
            },
            out,
        );
    }
    observe.flush(out);
}

#[test]
fn windows_close_while_nothing_comes_and_however_often_that_was_told_the_state_is_the_same() {
    let pipeline = pipeline("");
    let mut fold = observe(&pipeline, 0);
    let mut out = ObserveOut::default();
    for at in 0..300 {
        take(&mut fold, minute(at), &mut out);
    }
    let (closed, snapshot) = (fold.counters().windows.closed, fold.snapshot().unwrap());
    let last = minute(299).plus(Span::from_secs(2));
    // neither while records may come, nor before others wait no longer
    assert_eq!(fold.silent_to(last.plus(Span::from_mins(9)), false), None);
    assert_eq!(fold.silent_to(last.plus(Span::from_secs(119)), true), None);
    let mut told = Vec::new();
    for second in (120..1_800).step_by(5) {
        let wall = last.plus(Span::from_secs(second));
        if let Some(to) = fold.silent_to(wall, true) {
            fold.pass_silence(to, &mut out);
            told.push(to);
        }
        fold.tick(wall, true, &roster(), &mut out);
    }
    assert!(told.len() > 20, "{} times", told.len());
    assert!(fold.counters().windows.closed >= closed + 25);
    let silent = out
        .facts
        .iter()
        .filter(|fact| matches!(&fact.body, FactBody::Anomaly(anomaly) if anomaly.direction == Direction::Absent));
    let silent = silent.count();
    assert!(silent >= 10, "{silent} of ten series are silent");

    // what is replayed after a restart: the last of them
    let mut again = observe(&pipeline, 0);
    again.restore(&snapshot).unwrap();
    let mut dropped = ObserveOut::default();
    again.pass_silence(*told.last().unwrap(), &mut dropped);
    assert_eq!(again.digest(), fold.digest());
    assert!(again.snapshot().unwrap() == fold.snapshot().unwrap(), "another state");
    // and once more does nothing
    again.pass_silence(*told.last().unwrap(), &mut dropped);
    assert!(again.snapshot().unwrap() == fold.snapshot().unwrap(), "another state");
    // by the event clock telemetry of another day comes as fast as it is read
    let event = self::pipeline("clock: event\n");
    let mut fold = observe(&event, 0);
    take(&mut fold, minute(0), &mut out);
    assert_eq!(fold.silent_to(minute(900), true), None);
}

#[test]
fn telemetry_that_comes_in_bursts_is_not_cut_off_between_them() {
    let pipeline = pipeline("");
    let mut fold = observe(&pipeline, 0);
    let mut out = ObserveOut::default();
    let mut late = Vec::new();
    for burst in 0..8 {
        // the last ten minutes, once every ten
        let wall = minute(10 * burst + 10);
        for at in 0..10 {
            let text = format!(
                r#"{{"ts": {}, "metric": "m", "value": 1, "labels": {{"service": "s"}}}}"#,
                minute(10 * burst + at).as_millis()
            );
            let record = RecordRef {
                offset: 10 * burst + at,
                timestamp: Some(wall),
                key: None,
                headers: Headers::default(),
                value: Some(text.as_bytes()),
            };
            fold.record(record, &mut out);
        }
        fold.flush(&mut out);
        for second in (5..600).step_by(5) {
            if let Some(to) = fold.silent_to(wall.plus(Span::from_secs(second)), true) {
                fold.pass_silence(to, &mut out);
            }
        }
        late.push(fold.counters().windows.late_dropped);
    }
    // it takes three gaps to know
    assert_eq!(late[4], late[7], "{late:?}");
    assert!(late[7] < 40, "{late:?}");
}

fn incidents<'a>(out: &'a DecideOut, class: &str) -> Vec<&'a Incident> {
    let of_class = |incident: &&Incident| incident.hypotheses.first().is_some_and(|first| &*first.class == class);
    out.incidents.iter().filter(of_class).collect()
}

#[test]
fn that_all_telemetry_has_stopped_is_one_incident_and_what_stays_silent_is_told_afterwards() {
    let pipeline = pipeline("");
    let mut folds = [observe(&pipeline, 0), observe(&pipeline, 1)];
    let (mut decide, mut out) = (Decide::new(pipeline.clone(), Vec::new()), DecideOut::default());
    let mut step = |decide: &mut Decide, out: &mut DecideOut, wall: Timestamp, comes: [bool; 2]| {
        for (fold, comes) in folds.iter_mut().zip(comes) {
            let mut said = ObserveOut::default();
            if comes && wall.as_millis() % 60_000 == 0 {
                take(fold, wall, &mut said);
            }
            if let Some(to) = fold.silent_to(wall, !comes) {
                fold.pass_silence(to, &mut said);
            }
            fold.tick(wall, !comes, &roster(), &mut said);
            for fact in said.facts {
                decide.fact(fact, out).unwrap();
            }
        }
        let bytes = decide.snapshot().unwrap();
        decide.restore(&bytes).unwrap();
    };
    let ten = Span::from_secs(10);
    let mut wall = minute(0);
    let mut until = |decide: &mut Decide, out: &mut DecideOut, end: Timestamp, comes: [bool; 2]| {
        while wall < end {
            step(decide, out, wall, comes);
            wall = wall.plus(ten);
        }
    };
    until(&mut decide, &mut out, minute(240), [true, true]);
    assert!(out.incidents.is_empty(), "{:?}", out.incidents);
    // one of two is silent: what is judged is judged without it
    until(&mut decide, &mut out, minute(243), [true, false]);
    assert_eq!(
        decide.missing().map(|(_, missing)| missing.len()).collect::<Vec<_>>(),
        [1]
    );
    assert!(incidents(&out, "telemetry_stopped").is_empty());
    until(&mut decide, &mut out, minute(260), [false, false]);
    let stopped = incidents(&out, "telemetry_stopped");
    assert_eq!(stopped.len(), 1, "{:?}", out.incidents);
    assert_eq!(
        (stopped[0].status, stopped[0].judged_without.len()),
        (IncidentStatus::Open, 2)
    );
    assert!(stopped[0].hypotheses[0].evidence[0].detail.contains("telemetry/1"));
    let opened = |out: &DecideOut| {
        let mut ids: Vec<Arc<str>> = out.incidents.iter().map(|incident| incident.id.clone()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids.len()
    };
    let before = opened(&out);
    // one comes back, and what the other had is silent by itself
    until(&mut decide, &mut out, minute(290), [true, false]);
    let stopped = incidents(&out, "telemetry_stopped");
    assert_eq!(stopped.len(), 2);
    assert_eq!(stopped[1].status, IncidentStatus::Resolved);
    assert!(
        opened(&out) > before,
        "nothing tells of the series that are silent still"
    );
    verify_chain(&out.ledger).unwrap();
}
