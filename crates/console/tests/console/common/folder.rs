//! A folder as a replay writes it: a bad deploy of the cart, for which a human is asked.

use serde_json::{Value, json};
use suture_event::LedgerRecord;

pub(crate) fn incident() -> Value {
    let evidence = |kind: &str, weight: f64, detail: &str, signals: &[&str]| json!({"kind": kind, "weight": weight, "detail": detail, "signals": signals});
    json!({
        "id": "3f9c0001", "opened_at": "2026-03-01T10:06:00Z", "resolved_at": null, "severity": "critical",
        "services": ["cart"], "anomalies": ["a-1"], "none_of_these": 0.01, "scope": "prod", "status": "open",
        "title": "errors on cart: bad_deploy d-7 of cart (90%)", "updated_at": "2026-03-01T10:06:00Z", "revision": 1,
        "signals": [{"anomaly": "a-1", "metric": "errors", "service": "cart", "kind": "errors", "direction": "up",
            "onset": "2026-03-01T10:04:00Z", "opening": true, "state": "active", "since": "2026-03-01T10:05:00Z"}],
        "hypotheses": [
            {"rank": 1, "kind": "change", "service": "cart", "change": "d-7", "class": "bad_deploy", "probability": 0.9,
             "evidence": [
                evidence("timing", 4.5, "the first signs came 2.0 min after the change", &["a-1"]),
                evidence("quiet", -0.7, "as usual, though this would show in it: latency of cart", &[]),
             ]},
            {"rank": 2, "kind": "fault", "service": "cart", "class": "failing_requests", "probability": 0.09, "evidence": []},
        ],
    })
}

pub(crate) fn request() -> Value {
    json!({
        "id": "a-1", "at": "2026-03-01T10:06:00Z", "expires_at": "2026-03-01T10:11:00Z", "incident": "3f9c0001",
        "scope": "prod", "target": "cart", "action": "rollback", "parameters": {"change": "d-7"},
        "reversal": {"action": "redeploy", "parameters": {"change": "d-7"}}, "rung": "supervised",
        "playbook": "roll back a bad deploy", "owner": "release team", "class": "bad_deploy", "change": "d-7",
        "probability": 0.9, "attempt": 1, "verify_by": "2026-03-01T10:21:00Z", "reason": "90% bad_deploy in cart",
    })
}

fn ledger() -> Vec<Value> {
    let bodies = [
        (
            "incident_opened",
            json!({"incident": "3f9c0001", "title": "errors on cart", "severity": "critical"}),
        ),
        (
            "playbook_chosen",
            json!({"incident": "3f9c0001", "playbook": "roll back a bad deploy", "target": "cart", "rung": "supervised",
                "limited_by": [{"limit": "playbook", "rung": "supervised", "why": "the playbook asks for no more"}]}),
        ),
        ("action_requested", json!({"request": request()})),
    ];
    let mut records: Vec<LedgerRecord> = Vec::new();
    for (seq, (kind, body)) in (0..).zip(bodies) {
        let previous = records
            .last()
            .map_or(LedgerRecord::GENESIS, |last| &last.hash)
            .to_owned();
        let at = "2026-03-01T10:06:00Z".parse().unwrap();
        records.push(LedgerRecord::sealed(
            seq,
            at,
            "prod".into(),
            kind,
            None,
            body,
            &previous,
        ));
    }
    records
        .iter()
        .map(|record| serde_json::to_value(record).unwrap())
        .collect()
}

fn scores() -> Vec<Value> {
    let row = |minute: i64| {
        let value = if (4..9).contains(&minute) { 0.4 } else { 0.01 };
        let band = json!({"expected": 0.01, "lower": 0.0, "upper": 0.03});
        let mut row = json!({"ts": format!("2026-03-01T10:{minute:02}:00Z"), "metric": "errors", "value": value,
            "labels": {"service": "cart"}, "score": 0.0});
        // the series is new for its first windows
        if minute >= 2 {
            row.as_object_mut().unwrap().extend(band.as_object().unwrap().clone());
        }
        row
    };
    (0..10).map(row).collect()
}

pub(crate) fn written() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, lines: &[Value]| {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(folder.path().join(name), text).unwrap();
    };
    write("incidents.ndjson", &[incident()]);
    write(
        "anomalies.ndjson",
        &[
            json!({"id": "a-1", "at": "2026-03-01T10:05:00Z", "onset": "2026-03-01T10:04:00Z", "phase": "opened",
            "metric": "errors", "labels": {"service": "cart"}, "service": "cart", "signal": "errors", "detector": "seasonal",
            "score": 0.9999, "deviation": 12.0, "value": 0.4, "expected": 0.01, "lower": 0.0, "upper": 0.03,
            "direction": "up", "detail": "far off", "worst": 40.0, "ended_at": null, "ended": null}),
        ],
    );
    write("ledger.ndjson", &ledger());
    write("remediations.ndjson", &[request()]);
    write(
        "changes.ndjson",
        &[
            json!({"id": "d-7", "at": "2026-03-01T10:02:00Z", "kind": "deploy", "service": "cart", "source": "/ci",
            "event_type": "dev.cdevents.service.deployed.0.2.0"}),
        ],
    );
    write(
        "graph.ndjson",
        &[
            json!({"fact": "edge", "body": {"from": "web", "to": "cart", "source": "file"}}),
            json!({"fact": "watched", "body": {"service": "cart", "kind": "errors"}}),
        ],
    );
    write(
        "verdicts.ndjson",
        &[
            json!({"at": "2026-03-01T10:06:00Z", "scope": "prod", "service": "cart", "class": "bad_deploy", "height": 13.0,
            "bar": 9.0, "change": "d-7", "outcome": "opened", "incident": "3f9c0001", "signals": ["errors of cart"]}),
        ],
    );
    write("scores.ndjson", &scores());
    folder
}
