//! `suture train`, and `suture replay` with what it wrote.

// what goes wrong here is a failed test
#![allow(clippy::unwrap_used)]

use std::{fmt::Write as _, fs, path::Path, process::Command};

const START: i64 = 1_780_272_000_000;

/// Runs the program as a user does. Gives what it says on standard error where it fails.
fn program(args: &[&str]) -> Result<(), String> {
    let run = Command::new(env!("CARGO_BIN_EXE_suture")).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    if run.status.success() { Ok(()) } else { Err(said) }
}

/// Minutes of one pod's samples, ninety times too high in some of them.
fn samples(minutes: std::ops::Range<i64>, outage: std::ops::Range<i64>) -> String {
    minutes.fold(String::new(), |mut text, minute| {
        let value = if outage.contains(&minute) {
            90 * 100
        } else {
            100 + minute * 7919 % 97 / 24
        };
        let ts = START + minute * 60_000;
        writeln!(
            text,
            r#"{{"ts":{ts},"metric":"cpu","value":{value},"labels":{{"service":"cart"}}}}"#
        )
        .unwrap();
        text
    })
}

fn train(folder: &Path, telemetry: &str) -> Result<(), String> {
    let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let (pipeline, telemetry, model) = (path("p.yaml"), path(telemetry), path("models/p.model"));
    program(&[
        "train",
        "--pipeline",
        &pipeline,
        "--telemetry",
        &telemetry,
        "--out",
        &model,
    ])
}

fn anomalies(folder: &Path, pipeline: &str, model: bool) -> Result<usize, String> {
    let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let (pipeline, live, out, file) = (path(pipeline), path("live.ndjson"), path("out"), path("models/p.model"));
    let mut args = vec!["replay", "--pipeline", &pipeline, "--telemetry", &live, "--out", &out];
    if model {
        args.extend(["--model", &file]);
    }
    program(&args)?;
    Ok(fs::read_to_string(folder.join("out/anomalies.ndjson"))
        .unwrap()
        .lines()
        .count())
}

#[test]
fn what_was_learned_from_files_is_known_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let text = "version: 1\nname: p\nclock: event\ntelemetry: [{topic: telemetry}]\nwindow: {size: 1m}\n";
    put("p.yaml", text);
    put("named.yaml", &format!("{text}model: models/p.model\n"));
    put("other.yaml", &text.replace("1m", "5m"));
    put("live.ndjson", &samples(5_000..5_100, 5_045..5_060));
    put("garbage.ndjson", "{\"ts\": 1}\nnonsense\n");
    put("past.ndjson", &format!("{}nonsense\n", samples(0..2_000, 0..0)));

    let error = train(folder.path(), "garbage.ndjson").unwrap_err();
    assert!(error.contains("nothing could be learned"), "{error}");
    assert!(!folder.path().join("models/p.model").exists());
    train(folder.path(), "past.ndjson").unwrap();

    assert_eq!(anomalies(folder.path(), "p.yaml", false).unwrap(), 0, "it warms up");
    assert_eq!(anomalies(folder.path(), "p.yaml", true).unwrap(), 1);
    assert_eq!(anomalies(folder.path(), "named.yaml", false).unwrap(), 1);
    let error = anomalies(folder.path(), "other.yaml", true).unwrap_err();
    assert!(error.contains("p.model") && error.contains("other windows"), "{error}");
}

#[test]
fn the_models_that_come_with_the_program_serve_their_pipelines() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut models = 0;
    for entry in fs::read_dir(root.join("models")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "model") {
            let pipeline = root
                .join("pipelines")
                .join(path.with_extension("yaml").file_name().unwrap());
            let loaded = suture_service::load::load(&pipeline, None).unwrap();
            let model = suture_service::load::read_model(&path, &loaded.pipeline).unwrap();
            assert!(model.about().series > 0 && model.about().pipeline == loaded.pipeline.name);
            models += 1;
        }
    }
    assert!(models > 0);
}
