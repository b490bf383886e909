//! The folds from outside: what bad input does, and that snapshots change nothing.

// what goes wrong here is a failed test
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_possible_wrap)]

use std::sync::Arc;

use suture_codec::TelemetryFormat;
use suture_config::Pipeline;
use suture_engine::{
    Decide, DecideOut, Headers, HeadersBuf, NoExpressions, Observe, ObserveOut, RecordRef, Source, SourceKind,
};
use suture_event::{AnomalyPhase, Edge, EdgeSource, EpochNote, Fact, FactBody, ShardId, SignalKind, Span, Timestamp};
use suture_simulate::{FaultKind, Options, Recording, record};

const PIPELINE: &str = "
version: 1
name: test
clock: event
scope: {label: environment, default: prod}
telemetry: [{topic: telemetry}]
changes: [{topic: changes}]
window: {size: 1m}
limits: {series: 400}
detect: {alarm: 0.005, at_once: 0.0005}
signals:
  - {name: latency, match: {metric: '*latency*'}, direction: up}
";

fn pipeline() -> Arc<Pipeline> {
    Arc::new(Pipeline::parse("test.yaml", PIPELINE, &|_| None).unwrap_or_else(|problems| panic!("{problems}")))
}

fn observe(pipeline: &Arc<Pipeline>, topic: &str) -> Observe {
    let sources = Source::all(pipeline, &NoExpressions).unwrap();
    let source = sources.iter().find(|source| source.topic == topic).unwrap().clone();
    Observe::new(
        pipeline.clone(),
        ShardId {
            topic: topic.into(),
            partition: 0,
        },
        source,
    )
    .unwrap()
}

fn take(observe: &mut Observe, offset: i64, value: &[u8], headers: &[(&str, &[u8])]) -> ObserveOut {
    let headers = headers
        .iter()
        .fold(HeadersBuf::default(), |all, (name, value)| all.with(name, value));
    let mut out = ObserveOut::default();
    let timestamp = Some(Timestamp::from_millis(1_780_272_000_000));
    observe.record(
        RecordRef {
            offset,
            timestamp,
            key: None,
            headers: headers.as_headers(),
            value: Some(value),
        },
        &mut out,
    );
    observe.flush(&mut out);
    out
}

#[test]
fn bad_telemetry_goes_to_the_dead_letters_with_the_reason_and_nothing_else_is_lost() {
    let mut labels = String::new();
    for n in 0..10_000 {
        labels.push_str(&format!("\"l{n}\": \"v\","));
    }
    let many = format!(
        r#"{{"ts": 1780271940000, "metric": "m", "value": 1, "labels": {{{}}}}}"#,
        labels.trim_end_matches(',')
    );
    let far = r#"{"ts": 1880272000000, "metric": "m", "value": 1}"#;
    for (bad, says) in [
        ("not json", "JSON"),
        ("", "empty"),
        (r#"{"ts": 1780271940000, "metric": "m", "value": NaN}"#, "NaN"),
        (r#"{"metric": "m", "value": 1}"#, "`ts` is missing"),
        (r#"{"ts": 1780271940000, "value": 1}"#, "`metric` is missing"),
        (r#"{"ts": 1780271940000, "metric": "m", "value": 1"#, "breaks off"),
        (many.as_str(), "at most 64 are taken"),
        (far, "from the future"),
    ] {
        let mut observe = observe(&pipeline(), "telemetry");
        let out = take(&mut observe, 7, bad.as_bytes(), &[]);
        assert_eq!(out.dead_letters.len(), 1, "{bad:.60}");
        let letter = &out.dead_letters[0];
        assert_eq!(letter.offset, 7);
        assert!(
            letter.reason.contains(says),
            "{:?} does not say {says:?}",
            letter.reason
        );
        let good = r#"{"ts": 1780271940000, "metric": "m", "value": 1, "labels": {"service": "cart"}}"#;
        assert!(take(&mut observe, 8, good.as_bytes(), &[]).dead_letters.is_empty());
        assert_eq!((observe.counters().series, observe.counters().windows.accepted), (1, 1));
    }
}

#[test]
fn nothing_is_said_of_a_time_that_a_mark_has_closed_though_a_new_series_comes_late() {
    let text = PIPELINE.replace("window: {size: 1m}", "window: {size: 1m, lateness: 10m}")
        + "topology: {from_labels: [{from: service, to: peer}]}\n";
    let pipeline = Arc::new(Pipeline::parse("test.yaml", &text, &|_| None).unwrap_or_else(|p| panic!("{p}")));
    let mut observe = observe(&pipeline, "telemetry");
    let mut closed = Timestamp::MIN;
    let mut said = 0;
    for minute in 0..30_i64 {
        // each service is new, and every third sample is of four minutes ago
        let at = 1_780_270_000_000 + (minute - if minute % 3 == 2 { 4 } else { 0 }) * 60_000;
        let line = format!(
            r#"{{"ts": {at}, "metric": "requests", "value": 1, "labels": {{"service": "s{minute}", "peer": "db"}}}}"#
        );
        let out = take(&mut observe, minute, line.as_bytes(), &[]);
        assert_eq!(out.dead_letters, []);
        for fact in &out.facts {
            assert!(fact.at > closed, "{} is closed, and {fact:?} comes of it", closed);
            said += usize::from(matches!(fact.body, FactBody::Watched(_) | FactBody::Edge(_)));
        }
        let mut mark = ObserveOut::default();
        observe.tick(Timestamp::from_millis(at), false, &[], &mut mark);
        for fact in mark.facts {
            if let FactBody::Progress(progress) = fact.body {
                closed = closed.max(progress.watermark);
            }
        }
    }
    assert_eq!(said, 60, "each service is watched, and calls another");
}

/// Three series that jump every ten minutes: the first two draw on the pipeline's budget, the third has its own.
#[test]
fn a_budget_holds_over_banks_and_over_a_snapshot_and_tells_what_it_suppressed() {
    let text = PIPELINE.replace("signals:", "alarms: {at_most: 2, per: 1h}\nsignals:")
        + "  - {name: own, match: {metric: third}, alarms: {at_most: 1, per: 1h}}\n";
    let pipeline = Arc::new(Pipeline::parse("test.yaml", &text, &|_| None).unwrap_or_else(|p| panic!("{p}")));
    let (mut straight, mut broken) = (observe(&pipeline, "telemetry"), observe(&pipeline, "telemetry"));
    let (mut a, mut b) = (ObserveOut::default(), ObserveOut::default());
    let mut state = 1_u64;
    for minute in 0..600_i64 {
        for metric in ["a_latency", "second", "third"] {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let noise = (state >> 40) as f64 / (1_u64 << 24) as f64;
            let value = if minute >= 200 && minute % 10 == 0 { 90.0 } else { 10.0 } + noise;
            let ts = 1_780_200_000_000_i64 + minute * 60_000;
            let line =
                format!(r#"{{"ts": {ts}, "metric": "{metric}", "value": {value}, "labels": {{"service": "s"}}}}"#);
            for (observe, out) in [(&mut straight, &mut a), (&mut broken, &mut b)] {
                let mut more = take(observe, minute, line.as_bytes(), &[]);
                out.facts.append(&mut more.facts);
                out.suppressed.append(&mut more.suppressed);
            }
        }
        if minute % 50 == 0 {
            let bytes = broken.snapshot().unwrap();
            broken = observe(&pipeline, "telemetry");
            broken.restore(&bytes).unwrap();
        }
    }
    assert_eq!((&a.facts, &a.suppressed), (&b.facts, &b.suppressed));
    let opened = |own: bool| {
        let anomalies = a.facts.iter().filter_map(|fact| match &fact.body {
            FactBody::Anomaly(anomaly) if anomaly.phase == AnomalyPhase::Opened => Some(anomaly),
            _ => None,
        });
        anomalies.filter(|anomaly| (&*anomaly.metric == "third") == own).count()
    };
    // jumps go on for 400 minutes
    assert!((3..=2 + 14).contains(&opened(false)), "{}", opened(false));
    assert!((1..=1 + 7).contains(&opened(true)), "{}", opened(true));
    assert!(!a.suppressed.is_empty());
    assert_eq!(straight.counters().alarms_suppressed, a.suppressed.len() as u64);
}

#[test]
fn of_an_array_only_the_bad_samples_are_refused() {
    let mut observe = observe(&pipeline(), "telemetry");
    let array = r#"[{"ts": 1780271940000, "metric": "a", "value": 1}, {"ts": "soon", "metric": "b", "value": 2},
                    {"ts": 1780271940000, "metric": "c", "value": 3}]"#;
    let out = take(&mut observe, 1, array.as_bytes(), &[]);
    assert_eq!((out.dead_letters.len(), out.dead_letters[0].samples), (1, 1));
    assert!(
        out.dead_letters[0].reason.contains("sample 1"),
        "{}",
        out.dead_letters[0].reason
    );
    assert_eq!(observe.counters().windows.accepted, 2);
}

#[test]
fn labels_beyond_their_bound_together_are_refused_however_short_each_is() {
    let mut fold = observe(&pipeline(), "telemetry");
    let labels = |count: usize| {
        let all: Vec<String> = (0..count)
            .map(|n| format!(r#""l{n:02}":"{}""#, "x".repeat(1_000)))
            .collect();
        format!(
            r#"{{"ts":1780272000000,"metric":"m","value":1,"labels":{{{}}}}}"#,
            all.join(",")
        )
    };
    let out = take(&mut fold, 0, labels(16).as_bytes(), &[]);
    assert!(out.dead_letters.is_empty(), "{:?}", out.dead_letters);
    let out = take(&mut fold, 1, labels(17).as_bytes(), &[]);
    let reason = &out.dead_letters[0].reason;
    assert!(
        reason.contains("17051") && reason.contains("limits.label_bytes"),
        "{reason}"
    );
    assert_eq!(fold.counters().series, 1);
}

#[test]
fn series_beyond_the_bound_are_refused_and_the_known_ones_go_on() {
    let mut observe = observe(&pipeline(), "telemetry");
    let sample = |n: usize| format!(r#"{{"ts": 1780271940000, "metric": "m{n}", "value": 1}}"#);
    for n in 0..400 {
        assert!(
            take(&mut observe, n as i64, sample(n).as_bytes(), &[])
                .dead_letters
                .is_empty()
        );
    }
    let out = take(&mut observe, 400, sample(400).as_bytes(), &[]);
    assert!(
        out.dead_letters[0].reason.contains("raise limits.series"),
        "{}",
        out.dead_letters[0].reason
    );
    assert!(
        take(&mut observe, 401, sample(3).as_bytes(), &[])
            .dead_letters
            .is_empty()
    );
    assert_eq!((observe.counters().series, observe.counters().series_refused), (400, 1));
}

#[test]
fn bad_changes_go_to_the_dead_letters_with_the_reason() {
    let event = |rest: &str| {
        let head = r#"{"context": {"specversion": "0.5.0", "id": "d1", "source": "/ci",
                       "type": "dev.cdevents.service.deployed.0.3.0", "timestamp": "2026-06-01T00:00:00Z"}"#;
        format!("{head}{rest}")
    };
    let truncated = r#"{"specversion": "1.0", "id": "1", "source": "/ci", "type": "dev.cdev"#;
    let structured: &[(&str, &[u8])] = &[("content-type", b"application/cloudevents+json")];
    for (bad, headers, says) in [
        (
            event(r#", "subject": {"content": {"environment": {"id": "prod"}}}}"#),
            [].as_slice(),
            "subject",
        ),
        (event(r#", "subject": {"id": "", "content": {}}}"#), &[], "service"),
        (truncated.to_owned(), structured, "breaks off"),
        ("[]".to_owned(), &[], "CDEvent"),
    ] {
        let mut observe = observe(&pipeline(), "changes");
        let out = take(&mut observe, 1, bad.as_bytes(), headers);
        assert_eq!((out.dead_letters.len(), out.facts.len()), (1, 0), "{bad}");
        assert!(
            out.dead_letters[0].reason.contains(says),
            "{:?} does not say {says:?}",
            out.dead_letters[0].reason
        );
        let good = event(r#", "subject": {"id": "cart", "content": {"environment": {"id": "prod"}}}}"#);
        assert_eq!(take(&mut observe, 2, good.as_bytes(), &[]).facts.len(), 1);
    }
}

#[test]
fn a_change_from_the_far_future_does_not_move_its_shards_time_there() {
    let event = |at: &str| {
        format!(
            r#"{{"context": {{"specversion": "0.5.0", "id": "d1", "source": "/ci", "timestamp": "{at}",
                "type": "dev.cdevents.service.deployed.0.3.0"}}, "subject": {{"id": "cart", "content": {{}}}}}}"#
        )
    };
    let mut fold = observe(&pipeline(), "changes");
    let written = Timestamp::from_millis(1_780_272_000_000);
    for (at, reached) in [
        ("2026-05-31T23:00:00Z", written.minus(Span::from_hours(1))),
        ("9998-01-01T00:00:00Z", written.plus(Span::from_mins(10))),
        ("2026-06-01T00:01:00Z", written.plus(Span::from_mins(10))),
    ] {
        assert_eq!(take(&mut fold, 1, event(at).as_bytes(), &[]).facts.len(), 1);
        assert_eq!(fold.watermark(), reached.minus(Span::from_millis(1)), "{at}");
    }
}

fn shop() -> Recording {
    record(Options {
        seed: 1,
        services: 10,
        instances: 1,
        step: Span::from_mins(1),
        warmup: Span::from_hours(8),
        faults: 2,
        kinds: vec![FaultKind::BadDeploy],
        fault_every: Span::from_mins(40),
        fault_lasts: Some(Span::from_mins(10)),
        ..Options::default()
    })
    .unwrap()
}

/// Both folds over a recording, with a progress mark every so many records; with `restart` each fold is dropped at every
/// mark and goes on from its snapshot.
fn run(recording: &Recording, tick_every: usize, restart: bool) -> (Vec<String>, u64, u64) {
    let pipeline = pipeline();
    let roster = ["telemetry", "changes"].map(|topic| ShardId {
        topic: topic.into(),
        partition: 0,
    });
    let (mut telemetry, mut changes) = (observe(&pipeline, "telemetry"), observe(&pipeline, "changes"));
    let mut decide = Decide::new(pipeline.clone(), recording.topology.clone());
    let (mut observed, mut decided) = (ObserveOut::default(), DecideOut::default());
    for (offset, change) in recording.changes.iter().enumerate() {
        let value = change.to_string();
        changes.record(record_of(offset, value.as_bytes()), &mut observed);
    }
    changes.tick(Timestamp::MIN, true, &roster, &mut observed);
    for (offset, sample) in recording.samples.iter().enumerate() {
        let value = serde_json::to_vec(sample).unwrap();
        telemetry.record(record_of(offset, &value), &mut observed);
        if offset % tick_every == tick_every - 1 {
            telemetry.tick(Timestamp::MIN, false, &roster, &mut observed);
        }
        if restart && offset % tick_every == tick_every - 1 {
            let (bytes, digest) = (telemetry.snapshot().unwrap(), telemetry.digest());
            telemetry = observe(&pipeline, "telemetry");
            telemetry.restore(&bytes).unwrap();
            assert_eq!(telemetry.digest(), digest);
        }
        for fact in observed.facts.drain(..) {
            decide.fact(through_json(&fact), &mut decided).unwrap();
            if restart && matches!(fact.body, suture_event::FactBody::Progress(_)) {
                let bytes = decide.snapshot().unwrap();
                decide = Decide::new(pipeline.clone(), recording.topology.clone());
                decide.restore(&bytes).unwrap();
            }
        }
    }
    telemetry.tick(Timestamp::MIN, true, &roster, &mut observed);
    for fact in observed.facts.drain(..) {
        decide.fact(fact, &mut decided).unwrap();
    }
    let incidents = decided
        .incidents
        .iter()
        .map(|incident| serde_json::to_string(incident).unwrap());
    let said = incidents
        .chain(
            decided
                .ledger
                .iter()
                .map(|record| serde_json::to_string(record).unwrap()),
        )
        .collect();
    assert!(!decided.incidents.is_empty(), "nothing was found");
    suture_event::verify_chain(&decided.ledger).unwrap();
    (said, telemetry.digest(), decide.digest())
}

fn record_of(offset: usize, value: &[u8]) -> RecordRef<'_> {
    RecordRef {
        offset: offset as i64,
        timestamp: None,
        key: None,
        headers: Headers::default(),
        value: Some(value),
    }
}

/// As it would come out of the facts topic.
fn through_json(fact: &Fact) -> Fact {
    serde_json::from_slice(&serde_json::to_vec(fact).unwrap()).unwrap()
}

#[test]
fn folds_that_go_through_snapshots_say_the_same_as_ones_that_run_straight() {
    let recording = shop();
    let (straight, observed, decided) = run(&recording, usize::MAX, false);
    for (tick_every, restart) in [(1_000, false), (1_000, true), (211, false), (211, true)] {
        let (said, telemetry, decide) = run(&recording, tick_every, restart);
        let how = format!("with a mark every {tick_every} records, restarted at each: {restart}");
        for (one, other) in straight.iter().zip(&said) {
            assert_eq!(one, other, "{how}");
        }
        assert_eq!(
            (said.len(), telemetry, decide),
            (straight.len(), observed, decided),
            "{how}"
        );
    }
}

#[test]
fn after_a_loss_of_state_the_ledger_of_every_scope_begins_by_saying_so() {
    let text = PIPELINE.replace("clock: event", "clock: wall");
    let pipeline = Arc::new(Pipeline::parse("test.yaml", &text, &|_| None).unwrap());
    let shard = |topic: &str| ShardId {
        topic: topic.into(),
        partition: 0,
    };
    let (mut decide, mut out) = (Decide::new(pipeline.clone(), Vec::new()), DecideOut::default());
    let note = EpochNote {
        shard: shard("facts"),
        number: 3,
        offset: 70,
        wall: Timestamp::from_millis(5_000),
        cause: "the newest snapshot is older than the retained log".to_owned(),
        cold: true,
        carried: None,
    };
    decide.epoch(&note, None, &mut out).unwrap();
    let bytes = decide.snapshot().unwrap();
    let mut decide = Decide::new(pipeline, Vec::new());
    decide.restore(&bytes).unwrap();
    let edge = Fact {
        scope: "staging".into(),
        at: Timestamp::from_millis(6_000),
        shard: shard("telemetry"),
        seq: 0,
        body: FactBody::Edge(Edge {
            from: "a".into(),
            to: "b".into(),
            source: EdgeSource::File,
        }),
    };
    decide.fact(edge, &mut out).unwrap();
    assert!(out.ledger.is_empty(), "no shard has said that it is past that");
    let progress = suture_event::Progress {
        watermark: Timestamp::from_millis(6_000),
        wall: Timestamp::from_millis(6_100),
        idle: false,
        silent: None,
        stopped: false,
        roster: Vec::new(),
        series: None,
    };
    let mark = Fact {
        scope: "".into(),
        at: progress.watermark,
        shard: shard("telemetry"),
        seq: 1,
        body: FactBody::Progress(progress),
    };
    decide.fact(mark, &mut out).unwrap();
    let said: Vec<_> = out.ledger.iter().map(|r| (&*r.scope, r.seq, r.begins_anew())).collect();
    // and no other: the default scope may live in another partition, and has one chain
    assert_eq!(said, [("staging", 0, true), ("staging", 1, false)]);
    // until somebody has looked, nothing is acted on
    assert_eq!(&*out.ledger[1].kind, "frozen");
    let reason = out.ledger[1].body["reason"].as_str().unwrap();
    assert!(
        reason.contains("older than the retained log") && reason.contains("thaw"),
        "{reason}"
    );
    // what was there before the loss stays a chain, and so does what comes after it
    let twice = [&out.ledger[..], &out.ledger[..]].concat();
    suture_event::verify_chain(&twice).unwrap();
}

#[test]
fn a_snapshot_made_with_other_windows_is_refused() {
    let mut fold = observe(&pipeline(), "telemetry");
    take(
        &mut fold,
        0,
        br#"{"ts":1780272000000,"metric":"latency","value":1,"labels":{}}"#,
        &[],
    );
    let bytes = fold.snapshot().unwrap();
    let other = Pipeline::parse("test.yaml", &PIPELINE.replace("size: 1m", "size: 30s"), &|_| None).unwrap();
    let refused = observe(&Arc::new(other), "telemetry")
        .restore(&bytes)
        .unwrap_err()
        .to_string();
    assert!(refused.contains("other windows"), "{refused}");
    let damaged = observe(&pipeline(), "telemetry")
        .restore(&bytes[..bytes.len() / 2])
        .unwrap_err()
        .to_string();
    assert!(damaged.contains("snapshot of telemetry/0"), "{damaged}");
}

#[test]
fn a_topic_of_otlp_takes_metrics_with_their_resource() {
    let text = PIPELINE.replace("{topic: telemetry}", "{topic: telemetry, format: otlp_json}");
    let pipeline = Arc::new(Pipeline::parse("test.yaml", &text, &|_| None).unwrap());
    let mut observe = observe(&pipeline, "telemetry");
    let request = r#"{"resourceMetrics": [{"resource": {"attributes": [
        {"key": "service.name", "value": {"stringValue": "cart"}}]},
        "scopeMetrics": [{"metrics": [{"name": "queue.depth", "gauge": {"dataPoints": [
            {"timeUnixNano": "1780271940000000000", "asDouble": 4.5}]}}]}]}]}"#;
    assert!(take(&mut observe, 0, request.as_bytes(), &[]).dead_letters.is_empty());
    assert_eq!((observe.counters().series, observe.counters().windows.accepted), (1, 1));
    assert!(matches!(
        Source::all(&pipeline, &NoExpressions).unwrap()[0].kind,
        SourceKind::Telemetry(TelemetryFormat::OtlpJson)
    ));
}

#[test]
fn requests_that_failed_are_errors_by_their_status_unless_a_rule_says_otherwise() {
    let kinds = |rules: &str| {
        let text = format!("{PIPELINE}{rules}");
        let pipeline = Arc::new(Pipeline::parse("test.yaml", &text, &|_| None).unwrap_or_else(|p| panic!("{p}")));
        let mut observe = observe(&pipeline, "telemetry");
        let mut kinds = Vec::new();
        for (offset, status) in (0..).zip(["200", "503"]) {
            let record = format!(
                r#"{{"ts":1780271940000,"metric":"http_requests_total","value":1,"labels":{{"service":"cart","http.response.status_code":"{status}"}}}}"#
            );
            let out = take(&mut observe, offset, record.as_bytes(), &[]);
            kinds.extend(out.facts.into_iter().filter_map(|fact| match fact.body {
                FactBody::Watched(watched) => Some(watched.kind),
                _ => None,
            }));
        }
        kinds
    };
    assert_eq!(kinds(""), [SignalKind::Traffic, SignalKind::Errors]);
    assert!(
        !kinds("  - {name: requests, match: {metric: '*requests*'}, kind: traffic}\n").contains(&SignalKind::Errors)
    );
}

#[test]
fn a_topic_of_json_is_read_by_its_mapping_and_one_of_any_format_by_what_is_in_it() {
    let mapped = "{topic: telemetry, fields: {metric: kind, value: reading, time: at, labels: place}}";
    let pipeline = |source: &str| {
        let text = PIPELINE.replace("{topic: telemetry}", source);
        Arc::new(Pipeline::parse("test.yaml", &text, &|_| None).unwrap())
    };
    let mut mapped = observe(&pipeline(mapped), "telemetry");
    let record = r#"{"at": 1780271940, "kind": "heat", "reading": "21.5", "place": {"service": "cart"}}"#;
    assert!(take(&mut mapped, 0, record.as_bytes(), &[]).dead_letters.is_empty());
    assert_eq!((mapped.counters().series, mapped.counters().windows.accepted), (1, 1));
    assert!(mapped.found().is_none());

    let mut any = observe(&pipeline("{topic: telemetry, format: auto}"), "telemetry");
    assert!(
        take(&mut any, 0, b"heat,service=cart value=21.5 1780271940000000000", &[])
            .dead_letters
            .is_empty()
    );
    let found = any.found().unwrap();
    assert_eq!(found.format, TelemetryFormat::Influx);
    let refused = take(&mut any, 1, record.as_bytes(), &[]).dead_letters;
    assert!(
        refused[0]
            .reason
            .contains("it is JSON with `at`, `kind`, `reading`, `place`"),
        "{}",
        refused[0].reason
    );
}

#[test]
fn edges_versions_and_anomalies_come_in_the_same_order_however_records_are_batched() {
    let text = PIPELINE.replace(
        "limits:",
        "topology: {from_labels: [{from: service, to: peer}]}\nlimits:",
    );
    let pipeline = Arc::new(Pipeline::parse("test.yaml", &text, &|_| None).unwrap_or_else(|p| panic!("{p}")));
    let lines: Vec<String> = (0..400_i64)
        .flat_map(|minute| {
            let ts = 1_780_272_000_000 + minute * 60_000;
            let noise = (minute * 7_919 % 101) as f64 / 101.0;
            let value = if (300..305).contains(&minute) {
                900.0
            } else {
                10.0 + noise
            };
            let sample = |metric: &str, value: f64, labels: &str| {
                format!(r#"{{"ts":{ts},"metric":"{metric}","value":{value},"labels":{{{labels}}}}}"#)
            };
            // a service that is met, with whom it calls, right after the sample that closes a window
            let met = format!(r#""service":"s{minute}","peer":"cart""#);
            [
                sample("latency", value, r#""service":"cart""#),
                sample("calls", 1.0, &met),
            ]
        })
        .collect();
    let records: Vec<RecordRef<'_>> = (0..)
        .zip(&lines)
        .map(|(offset, line)| record_of(offset, line.as_bytes()))
        .collect();
    let run = |each: usize, together: bool| {
        let (mut fold, mut out) = (observe(&pipeline, "telemetry"), ObserveOut::default());
        for batch in records.chunks(each) {
            match together {
                true => fold.records(batch, &mut out),
                false => batch.iter().for_each(|record| fold.record(*record, &mut out)),
            }
            fold.flush(&mut out);
        }
        let said: Vec<_> = out
            .facts
            .iter()
            .map(|fact| serde_json::to_string(fact).unwrap())
            .collect();
        (said, fold.digest())
    };
    let (one_by_one, digest) = run(1, false);
    assert!(
        one_by_one.iter().any(|fact| fact.contains("\"opened\"")),
        "{one_by_one:?}"
    );
    for (each, together) in [(2, false), (7, true), (100_000, false), (100_000, true)] {
        let expected = (one_by_one.clone(), digest);
        assert_eq!(run(each, together), expected, "{each} records a batch");
    }
}

#[test]
fn a_fact_from_long_ago_costs_no_more_than_the_month_before_today() {
    let shard = |topic: &str| ShardId {
        topic: topic.into(),
        partition: 0,
    };
    let mark = |topic: &str, at: i64| Fact {
        scope: "".into(),
        at: Timestamp::from_millis(at),
        shard: shard(topic),
        seq: 0,
        body: FactBody::Progress(suture_event::Progress {
            watermark: Timestamp::from_millis(at),
            wall: Timestamp::from_millis(at),
            idle: false,
            silent: None,
            stopped: false,
            roster: vec![shard("telemetry"), shard("changes")],
            series: None,
        }),
    };
    let edge = |at: i64| Fact {
        scope: "prod".into(),
        at: Timestamp::from_millis(at),
        shard: shard("telemetry"),
        seq: 0,
        body: FactBody::Edge(Edge {
            from: "a".into(),
            to: "b".into(),
            source: EdgeSource::Telemetry,
        }),
    };
    // told beat by beat, the time since the year 1 would be 6 billion steps: this test would not end
    for long_ago in [0, -62_135_596_800_000] {
        let (mut decide, mut out) = (Decide::new(pipeline(), Vec::new()), DecideOut::default());
        let today = 1_780_272_000_000;
        decide.fact(edge(long_ago), &mut out).unwrap();
        for at in [long_ago, today] {
            decide.fact(mark("telemetry", at), &mut out).unwrap();
            decide.fact(mark("changes", at), &mut out).unwrap();
        }
        decide.fact(edge(today + 1), &mut out).unwrap();
        assert_eq!(decide.now(), Timestamp::from_millis(today));
    }
}

#[test]
fn what_the_last_samples_show_is_judged_where_nothing_more_comes() {
    let pipeline = pipeline();
    let shard = |topic: &str| ShardId {
        topic: topic.into(),
        partition: 0,
    };
    let roster = [shard("telemetry"), shard("changes")];
    let (mut telemetry, mut changes) = (observe(&pipeline, "telemetry"), observe(&pipeline, "changes"));
    let mut decide = Decide::new(pipeline.clone(), Vec::new());
    let (mut observed, mut decided) = (ObserveOut::default(), DecideOut::default());
    changes.tick(Timestamp::MIN, true, &roster, &mut observed);
    // six hours of calm, and errors and latency that begin in the last windows there are
    for minute in 0..360_i64 {
        let (wave, bad) = ((minute * 7 % 11) as f64 - 5.0, minute >= 358);
        for (metric, usual, broken) in [("http_error_ratio", 0.01, 0.6), ("request_latency", 0.2, 4.0)] {
            let value = if bad { broken } else { usual } * (1.0 + 0.01 * wave);
            let ts = 1_780_272_000_000 + minute * 60_000;
            let line =
                format!(r#"{{"ts": {ts}, "metric": "{metric}", "value": {value}, "labels": {{"service": "cart"}}}}"#);
            let record = RecordRef {
                offset: minute,
                timestamp: None,
                key: None,
                headers: Headers::default(),
                value: Some(line.as_bytes()),
            };
            telemetry.record(record, &mut observed);
        }
        telemetry.tick(Timestamp::MIN, false, &roster, &mut observed);
    }
    telemetry.tick(Timestamp::MIN, true, &roster, &mut observed);
    telemetry.end(&mut observed);
    for fact in observed.facts.drain(..) {
        decide.fact(fact, &mut decided).unwrap();
    }
    let before = decided.incidents.len();
    decide.end(&mut decided);
    assert_eq!(
        (before, decided.incidents.len()),
        (0, 1),
        "{:?} {:?}",
        decided.incidents,
        decided.verdicts
    );
}
