//! What is shipped to be run as it stands: pipeline files, and the compose file.

// what goes wrong here is a failed test
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("no text at {pointer}"))
}

#[test]
fn each_pipeline_is_clean_and_asks_the_environment_where_the_broker_is() {
    let mut pipelines = 0;
    for entry in fs::read_dir(root().join("pipelines")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "yaml") {
            continue;
        }
        pipelines += 1;
        let file = fs::read_to_string(&path).unwrap();
        let check = Command::new(env!("CARGO_BIN_EXE_suture"))
            .args(["check", "--strict"])
            .arg(&path)
            // what the compose file's service `keys` makes: see below for real ones
            .envs(["DECIDE", "SHOP", "OPERATOR"].map(|who| (format!("{who}_PUBLIC"), public(who))))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&check.stdout).into_owned();
        assert!(check.status.success(), "{}: {said}", path.display());
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        // the demo's has no broker, and NAB is a benchmark of files
        if !["demo.yaml", "nab.yaml"].contains(&name.as_str()) {
            assert!(
                file.contains("bootstrap.servers: ${KAFKA_BROKERS:-localhost:9092}"),
                "{name}"
            );
        }
    }
    assert!(pipelines >= 9, "{pipelines}");
}

/// A public key, of a seed that nobody would take.
fn public(who: &str) -> String {
    let role = suture_permit::Role::Person;
    let key = suture_permit::SecretKey::from_seed(&[u8::try_from(who.len()).unwrap(); 32], who, role);
    serde_json::to_value(key.public()).unwrap().as_str().unwrap().to_owned()
}

/// The compose file, with its anchors put in.
fn compose() -> Value {
    let text = fs::read_to_string(root().join("docker-compose.yml")).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

#[test]
fn the_compose_file_names_what_is_there_and_waits_for_what_it_needs() {
    let compose = compose();
    let services = compose["services"].as_object().unwrap();
    for name in ["kafka", "topics", "collector", "keys", "suture", "shop"] {
        assert!(services.contains_key(name), "{name}");
    }
    for (name, service) in services {
        for needed in service["depends_on"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(needed, _)| needed)
        {
            assert!(services.contains_key(needed), "{name} waits for {needed}");
        }
        for volume in service["volumes"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            let from = volume.split(':').next().unwrap();
            let there = match from.strip_prefix("./") {
                Some(file) => root().join(file).is_file(),
                None => compose["volumes"].get(from).is_some(),
            };
            assert!(there, "{name}: {volume}");
        }
        // one listener for those within, which no container reaches as localhost
        let brokers = service.pointer("/environment/KAFKA_BROKERS").and_then(Value::as_str);
        assert!(brokers.is_none_or(|brokers| brokers == "kafka:19092"), "{name}");
    }
    let collector: Value =
        serde_saphyr::from_str(&fs::read_to_string(root().join("deploy/collector.yaml")).unwrap()).unwrap();
    assert_eq!(text(&collector, "/exporters/kafka/metrics/topic"), "otlp_metrics");
    let used = collector.pointer("/service/pipelines/metrics").unwrap();
    for (part, section) in [
        ("receivers", "receivers"),
        ("processors", "processors"),
        ("exporters", "exporters"),
    ] {
        for name in used[part].as_array().unwrap() {
            assert!(
                collector[section].get(name.as_str().unwrap()).is_some(),
                "{part}: {name}"
            );
        }
    }
}

#[test]
fn the_keys_that_the_compose_file_makes_are_those_that_its_pipeline_needs() {
    let compose = compose();
    let folder = tempfile::tempdir().unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_suture")).parent().unwrap().to_owned();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
    // as compose hands it on, in a folder of our own
    let script = text(&compose, "/services/keys/command/0").replace("$$", "$");
    let script = script.replace("cd /keys", &format!("cd '{}'", folder.path().display()));
    let script: String = script
        .lines()
        .filter(|line| !line.contains("chown"))
        .map(|line| format!("{line}\n"))
        .collect();
    let pipeline = root().join("deploy/compose/pipeline.yaml");
    let check = format!(
        "{script}\n. ./public.env && suture check --strict '{}'",
        pipeline.display()
    );
    for _ in 0..2 {
        let ran = Command::new("/bin/sh")
            .args(["-c", &check])
            .env("PATH", &path)
            .output()
            .unwrap();
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&ran.stdout),
            String::from_utf8_lossy(&ran.stderr)
        );
        assert!(ran.status.success(), "{said}");
        assert!(said.contains("no problems"), "{said}");
    }
    assert!(folder.path().join("shop.key").is_file());
    // what the services run is there, as far as this build has it
    for service in ["suture", "shop"] {
        let command = text(&compose, &format!("/services/{service}/command/0"));
        assert!(command.contains("/etc/suture/compose/pipeline.yaml"), "{command}");
    }
}
