//! Small series that anyone can look at: what is found in each, and the picture that `suture plot` makes of it.
//!
//! `tests/golden/NAME.txt` has the anomalies, `tests/golden/NAME.svg` the series, its band and the alarms. `UPDATE_EXPECT=1
//! cargo test` writes both anew.

// what goes wrong here is a failed test
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_possible_wrap)]

use std::{fmt::Write as _, fs, path::Path, process::Command};

use suture_testkit::{golden::assert_golden, noise::bell};

const START: i64 = 1_700_006_400_000;

fn noise(i: i64) -> f64 {
    bell(i.unsigned_abs())
}

/// Runs the program as a user does.
fn program(args: &[&str]) {
    let run = Command::new(env!("CARGO_BIN_EXE_suture")).args(args).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

/// Replays one series and compares what was found, and its picture, with what stands in `tests/golden`.
fn case(name: &str, minutes: i64, windows: i64, value: impl Fn(i64) -> Option<f64>) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).unwrap();
    let mut telemetry = String::new();
    for i in 0..windows {
        let ts = START + i * minutes * 60_000;
        // a second series keeps time going where the first is silent
        writeln!(telemetry, r#"{{"ts": {ts}, "metric": "clock", "value": 1}}"#).unwrap();
        if let Some(value) = value(i) {
            writeln!(telemetry, r#"{{"ts": {ts}, "metric": "cpu", "value": {value:.3}}}"#).unwrap();
        }
    }
    let pipeline =
        format!("version: 1\nname: golden\nclock: event\ntelemetry: [{{topic: t}}]\nwindow: {{size: {minutes}m}}\n");
    let (pipeline_file, telemetry_file) = (folder.join("pipeline.yaml"), folder.join("telemetry.ndjson"));
    fs::write(&pipeline_file, pipeline).unwrap();
    fs::write(&telemetry_file, telemetry).unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (pipeline, telemetry, out) = (text(&pipeline_file), text(&telemetry_file), text(&folder));
    program(&[
        "replay",
        "--pipeline",
        &pipeline,
        "--telemetry",
        &telemetry,
        "--out",
        &out,
        "--scores",
        "--explain",
    ]);
    let picture = folder.join("picture.svg");
    program(&["plot", "--replay", &out, "--metric", "cpu", "--out", &text(&picture)]);
    let mut found = String::new();
    for line in fs::read_to_string(folder.join("anomalies.ndjson")).unwrap().lines() {
        let anomaly: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| anomaly[key].as_str().unwrap_or("-").to_owned();
        writeln!(
            found,
            "from {} told {} to {} ({}): {} {}",
            text("onset"),
            text("at"),
            text("ended_at"),
            text("ended"),
            text("detector"),
            text("direction"),
        )
        .unwrap();
    }
    if found.is_empty() {
        found = "nothing\n".to_owned();
    }
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for (kind, is) in [("txt", found), ("svg", fs::read_to_string(picture).unwrap())] {
        assert_golden(golden.join(format!("{name}.{kind}")), &is);
    }
}

#[test]
fn an_outage() {
    case("outage", 1, 500, |i| {
        Some(if (300..320).contains(&i) { 300.0 } else { 100.0 } + 5.0 * noise(i))
    });
}

#[test]
fn a_change_of_level_that_stays_and_is_accepted_in_time() {
    case("shift", 1, 700, |i| {
        Some(if i >= 500 { 150.0 } else { 100.0 } + 4.0 * noise(i))
    });
}

#[test]
fn a_job_once_a_day_is_odd_once() {
    case("job", 15, 10 * 96, |i| {
        Some(if (8..12).contains(&(i % 96)) { 80.0 } else { 20.0 } + 2.0 * noise(i))
    });
}

#[test]
fn a_series_that_falls_silent() {
    case("silence", 1, 500, |i| {
        (!(350..400).contains(&i)).then(|| 100.0 + 5.0 * noise(i))
    });
}

#[test]
fn noise_alone() {
    case("noise", 1, 700, |i| Some(100.0 + 10.0 * noise(i)));
}
