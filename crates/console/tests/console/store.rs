//! The store keeps what it may, and no more.

use crate::common::folder;
use serde_json::{Value, json};
use suture_console::{Limits, Said, Setting, Store, folder::FolderError};
use suture_engine::{Band, ScoreRow};
use suture_event::{
    Anomaly, AnomalyPhase, Change, Edge, EdgeSource, Incident, Labels, LedgerRecord, Outcome, SeriesKey, Timestamp,
};

const FEW: Limits = Limits {
    incidents: 3,
    actions: 3,
    outcomes: 2,
    records: 5,
    anomalies: 4,
    changes: 4,
    services: 6,
    edges: 5,
    scopes: 2,
    series: 3,
    points: 10,
    near_misses: 2,
};

fn incident(n: usize, status: &str) -> Incident {
    let mut value = folder::incident();
    value["id"] = json!(format!("i-{n}"));
    value["status"] = json!(status);
    serde_json::from_value(value).unwrap()
}

fn row(series: usize, minute: i64) -> ScoreRow {
    ScoreRow {
        ts: Timestamp::from_millis(60_000 * minute),
        metric: format!("m-{series}").into(),
        labels: Labels::default(),
        value: 1.0,
        score: 0.0,
        band: Some(Band {
            expected: 1.0,
            lower: 0.0,
            upper: 2.0,
        }),
    }
}

fn anomaly(n: usize, metric: &str) -> Anomaly {
    serde_json::from_value(json!({
        "id": format!("a-{n}"), "at": "2026-03-01T10:05:00Z", "onset": "2026-03-01T10:04:00Z", "phase": "opened",
        "metric": metric, "labels": {}, "service": format!("s-{n}"), "signal": "errors", "detector": "seasonal",
        "score": 1.0, "deviation": 12.0, "value": 0.4, "expected": 0.01, "lower": 0.0, "upper": 0.03,
        "direction": "up", "detail": "far off",
    }))
    .unwrap()
}

fn record(seq: u64, scope: &str, kind: &str, body: Value, previous: &str) -> LedgerRecord {
    LedgerRecord::sealed(seq, Timestamp::from_millis(0), scope.into(), kind, None, body, previous)
}

#[test]
fn every_bound_holds() {
    let store = Store::new(FEW, Setting::default());
    for n in 0..50_usize {
        let mut request = folder::request();
        request["id"] = json!(format!("r-{n}"));
        let outcome = |second: usize| -> Outcome {
            serde_json::from_value(json!({
                "action": format!("r-{n}"), "at": format!("2026-03-01T10:20:{second:02}Z"), "status": "succeeded",
                "target": "cart", "scope": "prod", "executor": "x",
            }))
            .unwrap()
        };
        let change = Change {
            id: format!("c-{n}").into(),
            ..serde_json::from_value(
                json!({"id": "", "at": "2026-03-01T10:02:00Z", "kind": "deploy", "service": "cart",
                "source": "/ci", "event_type": "x"}),
            )
            .unwrap()
        };
        let edge = Edge {
            from: format!("s-{n}").into(),
            to: format!("s-{}", n + 1).into(),
            source: EdgeSource::File,
        };
        let verdict = serde_json::from_value(json!({"at": "2026-03-01T10:06:00Z", "scope": "prod", "class": "x",
            "height": 1.0, "bar": 9.0, "outcome": "below_bar", "signals": []}));
        store.take([
            Said::Incident(incident(n, if n == 0 { "open" } else { "resolved" })),
            Said::Request(serde_json::from_value(request).unwrap()),
            Said::Change(change),
            Said::Edge(edge),
            Said::Anomaly(anomaly(n, "m-0")),
            Said::Verdict(verdict.unwrap()),
            Said::Record(record(
                0,
                &format!("scope-{n}"),
                "frozen",
                json!({"by": "ann"}),
                LedgerRecord::GENESIS,
            )),
        ]);
        store.take((0..10).map(|second| Said::Outcome(outcome(second))));
        store.take((0..5).map(|series| Said::Score(row(series, i64::try_from(n).unwrap()))));
    }
    let sizes = store.sizes();
    for (kind, most) in [
        ("incidents", FEW.incidents),
        ("actions", FEW.actions),
        ("records", FEW.records),
        ("anomalies", FEW.anomalies),
        ("changes", FEW.changes),
        ("services", FEW.services),
        ("scopes", FEW.scopes),
        ("series", FEW.series),
        ("near_misses", FEW.near_misses),
    ] {
        assert_eq!(sizes[kind], most, "{kind} of {sizes:?}");
    }
    assert!(sizes["edges"] <= FEW.edges, "{sizes:?}");
}

#[test]
fn a_folder_that_is_none_and_a_line_that_is_none_are_told_with_their_place() {
    let empty = tempfile::tempdir().unwrap();
    let told = suture_console::folder::read(empty.path(), FEW).unwrap_err();
    assert!(matches!(told, FolderError::Open { .. }));
    assert!(told.to_string().contains("suture replay --out"), "{told}");
    let folder = folder::written();
    std::fs::write(folder.path().join("ledger.ndjson"), "{}\n").unwrap();
    let told = suture_console::folder::read(folder.path(), FEW)
        .unwrap_err()
        .to_string();
    assert!(told.contains("ledger.ndjson, line 1: missing field"), "{told}");
}

#[test]
fn scores_and_the_call_graph_may_be_missing() {
    let folder = folder::written();
    for name in [
        "scores.ndjson",
        "graph.ndjson",
        "changes.ndjson",
        "verdicts.ndjson",
        "remediations.ndjson",
    ] {
        std::fs::remove_file(folder.path().join(name)).unwrap();
    }
    let store = suture_console::folder::read(folder.path(), FEW).unwrap();
    let sizes = store.sizes();
    assert_eq!(
        (sizes["incidents"], sizes["actions"], sizes["changes"]),
        (1, 1, 0),
        "{sizes:?}"
    );
}

#[test]
fn an_anomaly_keeps_its_place_and_ends() {
    let store = Store::new(FEW, Setting::default());
    let opened = anomaly(1, "errors");
    let ended = Anomaly {
        phase: AnomalyPhase::Ended,
        ..opened.clone()
    };
    store.take([Said::Anomaly(opened), Said::Anomaly(ended)]);
    assert_eq!(store.sizes()["anomalies"], 1);
    let key = SeriesKey {
        metric: "errors".into(),
        labels: Labels::default(),
    };
    store.take([Said::Explained(key, "seasonal".to_owned())]);
    assert_eq!(store.sizes()["series"], 1, "it has room for what the series measures");
}
