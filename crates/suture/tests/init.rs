//! `suture init`: from folders of files as people have them to pipeline files that work.

// what goes wrong here is a failed test
#![allow(clippy::unwrap_used, clippy::cast_possible_wrap)]

mod common;

use std::{fmt::Write as _, fs, path::Path};

use common::{BROKEN, SERVICES, START, at, deploy, influx, load, program, said};

/// Writes a pipeline for what is in `samples`, makes sure that it is right, and gives it with what was said.
fn proposed(folder: &Path) -> (String, String) {
    let made = program(
        folder,
        &["init", "--from", "samples", "--name", "shop", "--out", "shop.yaml"],
    );
    assert!(made.status.success(), "{}", said(&made));
    let checked = program(folder, &["check", "--strict", "shop.yaml"]);
    assert!(checked.status.success(), "{}", said(&checked));
    (fs::read_to_string(folder.join("shop.yaml")).unwrap(), said(&made))
}

#[test]
fn a_replay_with_the_proposed_file_blames_the_deploy_for_what_fails_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let samples = folder.path().join("samples");
    fs::create_dir(&samples).unwrap();
    fs::write(samples.join("telegraf.influx"), influx()).unwrap();
    let changes = deploy("checkout", BROKEN - 1);
    fs::write(samples.join("deploys.ndjson"), changes).unwrap();
    let (file, told) = proposed(folder.path());
    for part in [
        "entity: app\n",
        "  - topic: telegraf\n",
        "    format: influx\n",
        "  - topic: deploys\n",
        "    format: github\n",
        "window: {size: 1m}\n",
    ] {
        assert!(file.contains(part), "{part:?} is not in\n{file}");
    }
    assert!(told.contains("service: label app, 5 values: cart, checkout"), "{told}");
    assert!(told.contains("deploys: changes of checkout, by github"), "{told}");

    let replayed = program(
        folder.path(),
        &[
            "replay",
            "--pipeline",
            "shop.yaml",
            "--telemetry",
            "samples/telegraf.influx",
            "--changes",
            "samples/deploys.ndjson",
            "--out",
            "found",
        ],
    );
    assert!(replayed.status.success(), "{}", said(&replayed));
    let incidents = fs::read_to_string(folder.path().join("found/incidents.ndjson")).unwrap();
    let incidents: Vec<serde_json::Value> = incidents
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(incidents.len(), 1, "{}", said(&replayed));
    let first = &incidents[0]["hypotheses"][0];
    assert_eq!(
        (&first["service"], &first["kind"]),
        (&"checkout".into(), &"change".into()),
        "{first}"
    );
}

#[test]
fn each_format_is_told_with_the_label_that_names_the_service_and_what_is_not_known() {
    let folder = tempfile::tempdir().unwrap();
    let samples = folder.path().join("samples");
    fs::create_dir(&samples).unwrap();
    let (mut own, mut adapter, mut other) = (String::new(), String::new(), String::new());
    for step in 0..30 {
        let seconds = START + step * 10;
        for (service, name) in SERVICES.iter().enumerate() {
            let [_, errors, ..] = load(service, step, false);
            let callee = SERVICES[(service + 1) % SERVICES.len()];
            writeln!(
                own,
                r#"{{"ts":{seconds}000,"metric":"call_latency","value":{errors},"labels":{{"service":"{name}","peer":"{callee}","environment":"prod"}}}}"#
            )
            .unwrap();
            writeln!(
                adapter,
                r#"{{"timestamp":"{}","value":"{}","name":"requests","labels":{{"__name__":"requests","service":"{name}","environment":"prod","instance":"{name}-1"}}}}"#,
                at(seconds),
                step * 100 + service as i64
            )
            .unwrap();
            writeln!(
                other,
                r#"{{"at":{seconds},"service":"{name}","environment":"prod","temperature":{errors}}}"#
            )
            .unwrap();
        }
    }
    fs::write(samples.join("own.ndjson"), own).unwrap();
    fs::write(samples.join("prometheus.ndjson"), adapter).unwrap();
    fs::write(samples.join("plant.ndjson"), other).unwrap();
    fs::write(samples.join("notes.txt"), "hello world\nthis is no telemetry\n").unwrap();
    fs::write(samples.join("spans.ndjson"), "{\"resourceSpans\":[]}\n").unwrap();
    let (file, told) = proposed(folder.path());
    for part in [
        "scope: {label: environment, default: prod}\n",
        "entity: service\n",
        "  - topic: own\n    # 150 of 150: json, because it has `ts`, `metric` and `value`\n    format: json\n",
        "  - topic: prometheus\n",
        "    format: prometheus_kafka_adapter\n",
        "    fields:\n      value: \"temperature\"\n      time: \"at\"\n      labels: [\"environment\",\"service\"]\n",
        "    - {from: service, to: peer}\n",
        "  - name: requests\n    match: {metric: requests}\n    counter: true\n",
        "# left out: spans: it is OTLP, but holds spans and no metrics\n",
        "# left out: notes: it is text, but neither JSON nor line protocol",
        "# no topic announces deploys",
    ] {
        assert!(file.contains(part), "{part:?} is not in\n{file}");
    }
    for part in [
        "step: a sample every 10s, so windows of 1m",
        "where deploys are announced",
        "what spans is: it is OTLP",
    ] {
        assert!(told.contains(part), "{part:?} is not in\n{told}");
    }
    // a file that is there is not written over
    let again = program(folder.path(), &["init", "--from", "samples", "--out", "shop.yaml"]);
    assert!(!again.status.success());
    assert!(said(&again).contains("is it there already"), "{}", said(&again));
}

#[test]
fn what_names_no_service_is_said_and_the_file_is_right_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let samples = folder.path().join("samples");
    fs::create_dir(&samples).unwrap();
    fs::write(
        samples.join("telemetry.ndjson"),
        "{\"ts\":1780272000000,\"metric\":\"m\",\"value\":1}\n",
    )
    .unwrap();
    let (file, told) = proposed(folder.path());
    assert!(file.contains("# no label seems to name the service"), "{file}");
    assert!(told.contains("which label names the service"), "{told}");
    assert!(told.contains("how often samples come"), "{told}");
    let empty = tempfile::tempdir().unwrap();
    fs::create_dir(empty.path().join("samples")).unwrap();
    let nothing = program(empty.path(), &["init", "--from", "samples"]);
    assert!(
        !nothing.status.success() && said(&nothing).contains("nothing to look at"),
        "{}",
        said(&nothing)
    );
}
