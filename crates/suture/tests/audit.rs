//! `suture audit`, and `suture replay` with outcomes, commands and facts.

// what goes wrong here is a failed test
#![allow(clippy::unwrap_used)]

use std::{fmt::Write as _, fs, path::Path, process::Command};

use suture_event::{LedgerRecord, Timestamp};

const START: i64 = 1_780_272_000_000;

/// Runs the program as a user does: whether it succeeded, and what it said.
fn program(args: &[&str]) -> (bool, String) {
    let run = Command::new(env!("CARGO_BIN_EXE_suture")).args(args).output().unwrap();
    let said = [run.stdout, run.stderr].concat();
    (run.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn at(minute: i64) -> Timestamp {
    Timestamp::from_millis(START + minute * 60_000)
}

/// Two hours of a service with an outage, and what a person and an executor said meanwhile.
fn files(folder: &Path) {
    let telemetry = (0..120).fold(String::new(), |mut text, minute| {
        let value = if (80..110).contains(&minute) {
            9_000
        } else {
            100 + minute * 7_919 % 97 / 24
        };
        let ts = START + minute * 60_000;
        for metric in ["errors", "latency"] {
            let labels = r#"{"service":"cart"}"#;
            writeln!(
                text,
                r#"{{"ts":{ts},"metric":"{metric}","value":{value},"labels":{labels}}}"#
            )
            .unwrap();
        }
        text
    });
    fs::write(folder.join("telemetry.ndjson"), telemetry).unwrap();
    let command = |id: &str, minute: i64, what: &str| {
        let at = at(minute);
        format!(r#"{{"id":"{id}","at":"{at}","by":"ann","scope":"default","command":"{what}","reason":"a test"}}"#)
    };
    let commands = [command("c1", 31, "freeze"), command("c2", 47, "thaw")].join("\n");
    fs::write(folder.join("commands.ndjson"), commands).unwrap();
    let outcome = format!(
        r#"{{"action":"unknown","at":"{}","status":"succeeded","target":"cart","scope":"default","executor":"robot"}}"#,
        at(39)
    );
    fs::write(folder.join("outcomes.ndjson"), outcome).unwrap();
    let pipeline = "version: 1\nname: audited\nclock: event\ntelemetry: [{topic: t}]\nwindow: {size: 1m}\n";
    fs::write(folder.join("p.yaml"), pipeline).unwrap();
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_string_lossy().into_owned()
}

fn replay(folder: &Path, out: &str, batch: &str) {
    let of = |name| path(folder, name);
    let (pipeline, telemetry, commands) = (of("p.yaml"), of("telemetry.ndjson"), of("commands.ndjson"));
    let (outcomes, out) = (of("outcomes.ndjson"), of(out));
    let inputs = [
        "--telemetry",
        &telemetry,
        "--commands",
        &commands,
        "--outcomes",
        &outcomes,
    ];
    let outputs = ["--pipeline", &pipeline, "--out", &out, "--batch", batch, "--facts"];
    let (good, said) = program(&[&["replay"], &inputs[..], &outputs[..]].concat());
    assert!(good, "{said}");
}

fn audit(folder: &Path, more: &[&str]) -> (bool, String) {
    let (pipeline, out) = (path(folder, "p.yaml"), path(folder, "out"));
    program(&[&["audit", "--pipeline", &pipeline, "--replay", &out], more].concat())
}

fn ledger(folder: &Path, out: &str) -> Vec<LedgerRecord> {
    let text = fs::read_to_string(folder.join(out).join("ledger.ndjson")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_people_and_executors_said_is_replayed_at_its_time_however_the_telemetry_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    files(folder);
    replay(folder, "out", "4096");
    replay(folder, "small", "7");
    let records = ledger(folder, "out");
    assert_eq!(records, ledger(folder, "small"));
    let of = |kind: &str| {
        records
            .iter()
            .find(|record| &*record.kind == kind)
            .map(|record| record.at)
    };
    assert_eq!((of("frozen"), of("thawed")), (Some(at(31)), Some(at(47))));
    assert_eq!(
        of("outcome_ignored"),
        Some(at(39)),
        "of an action that nobody asked for"
    );
    // the facts alone give the same decisions
    let (pipeline, facts, again) = (
        path(folder, "p.yaml"),
        path(folder, "out/facts.ndjson"),
        path(folder, "again"),
    );
    let (good, said) = program(&["replay", "--pipeline", &pipeline, "--facts", &facts, "--out", &again]);
    assert!(good, "{said}");
    assert_eq!(ledger(folder, "again"), records);
}

#[test]
fn an_audit_finds_the_same_decisions_and_names_a_record_that_was_made_up() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    files(folder);
    replay(folder, "out", "4096");
    let (good, said) = audit(folder, &[]);
    let records = ledger(folder, "out");
    assert!(
        good && said.contains(&format!(
            "{} decisions come out the same, 0 things do not",
            records.len()
        )),
        "{said}"
    );
    let (good, said) = audit(folder, &["--since", &at(47).to_string()]);
    assert!(
        good && !said.contains(&format!("{} decisions", records.len())),
        "{said}"
    );
    let (good, said) = audit(folder, &["no-such-incident"]);
    assert!(!good && said.contains("no decision was found"), "{said}");

    // somebody who can compute hashes says that another froze it, and makes the chain whole again
    let mut forged = records.clone();
    let frozen = forged.iter().position(|record| &*record.kind == "frozen").unwrap();
    forged[frozen].body["by"] = "bob".into();
    for at in frozen..forged.len() {
        if at > frozen {
            forged[at].previous = forged[at - 1].hash.clone();
        }
        forged[at].hash = forged[at].digest();
    }
    let lines: Vec<String> = forged
        .iter()
        .map(|record| serde_json::to_string(record).unwrap())
        .collect();
    fs::write(folder.join("out/ledger.ndjson"), lines.join("\n")).unwrap();
    let (good, said) = audit(folder, &[]);
    assert!(!good, "{said}");
    let seq = forged[frozen].seq;
    assert!(said.contains(&format!("default {seq}: frozen of")), "{said}");
    assert!(
        said.contains(r#"`body.by` is "bob" in the ledger, and "ann" comes out"#),
        "{said}"
    );
    assert!(said.contains("1 things do not"), "{said}");

    // and what was only altered is named as well, by its hash and by what comes out
    forged = records;
    forged[frozen].body["reason"] = "another".into();
    let lines: Vec<String> = forged
        .iter()
        .map(|record| serde_json::to_string(record).unwrap())
        .collect();
    fs::write(folder.join("out/ledger.ndjson"), lines.join("\n")).unwrap();
    let (good, said) = audit(folder, &[]);
    assert!(
        !good && said.contains("was changed") && said.contains("`body.reason`"),
        "{said}"
    );
}
