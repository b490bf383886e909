//! What each crate must not know: the arrows between crates, by `cargo metadata`, and the purity of the folds, by their
//! sources.

// what goes wrong here is a failed test
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Which crates of the workspace each crate stands on: those and no others.
const ARROWS: [(&str, &[&str]); 22] = [
    ("event", &[]),
    ("codec", &["event"]),
    ("window", &["event"]),
    ("detect", &["event"]),
    ("diagnose", &["event"]),
    ("permit", &["event"]),
    ("policy", &["event"]),
    ("remediate", &["event", "permit", "policy"]),
    (
        "config",
        &["event", "codec", "window", "detect", "diagnose", "remediate", "policy"],
    ),
    (
        "engine",
        &["event", "codec", "window", "detect", "diagnose", "remediate", "config"],
    ),
    ("log", &["event"]),
    ("kafka", &["event", "log"]),
    ("runtime", &["event", "log"]),
    ("store", &["runtime"]),
    ("history", &["event", "engine"]),
    ("executor", &["event", "codec", "log", "permit", "policy"]),
    ("escalate", &["event", "codec", "config", "log"]),
    ("simulate", &["event"]),
    (
        "service",
        &[
            "event", "codec", "config", "engine", "log", "permit", "runtime", "console", "kafka", "store", "history",
        ],
    ),
    (
        "demo",
        &[
            "event", "codec", "config", "engine", "log", "permit", "runtime", "executor", "simulate", "console",
            "service",
        ],
    ),
    ("console", &["event", "engine"]),
    ("testkit", &[]),
];

/// The crates that decide: no clock, entropy, input, output or concurrency in them.
const PURE: [&str; 11] = [
    "event",
    "codec",
    "window",
    "detect",
    "diagnose",
    "permit",
    "policy",
    "remediate",
    "config",
    "engine",
    "simulate",
];

/// The crates that must not know how a record is written, so that they can be built and tested without any parser of it.
const NO_CODEC: [&str; 8] = [
    "event",
    "window",
    "detect",
    "diagnose",
    "remediate",
    "log",
    "kafka",
    "runtime",
];

/// What knows how a record is written.
const CODECS: [&str; 4] = ["suture-codec", "prost", "opentelemetry-proto", "sonic-rs"];

/// Crates from outside that no pure crate may reach, over however many others.
const IMPURE: [&str; 7] = ["tokio", "rdkafka", "datafusion", "reqwest", "axum", "async-std", "mio"];

/// Words in the sources of pure crates that mean a clock, entropy, a file, the environment, or a thread.
const WORDS: [&str; 19] = [
    "SystemTime",
    "Instant::now",
    "Timestamp::now",
    "Zoned::now",
    "Utc::now",
    "rand::rng",
    "thread_rng",
    "from_os_rng",
    "from_entropy",
    "OsRng",
    "RandomState",
    "std::fs",
    "std::env",
    "std::net",
    "std::thread",
    "std::process",
    "async fn",
    "static mut",
    "thread_local!",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Direct and indirect dependencies, without those of tests and builds, by package name.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root())
        .output()
        .expect("cargo metadata runs");
    assert!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let names: BTreeMap<&str, &str> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| (p["id"].as_str().unwrap(), p["name"].as_str().unwrap()))
        .collect();
    let mut all = BTreeMap::new();
    for node in metadata["resolve"]["nodes"].as_array().unwrap() {
        let normal = node["deps"].as_array().unwrap().iter().filter(|dep| {
            dep["dep_kinds"]
                .as_array()
                .unwrap()
                .iter()
                .any(|kind| kind["kind"].is_null())
        });
        let deps = normal
            .map(|dep| names[dep["pkg"].as_str().unwrap()].to_owned())
            .collect();
        all.insert(names[node["id"].as_str().unwrap()].to_owned(), deps);
    }
    all
}

/// Everything that a crate of the workspace depends on, over however many others.
fn reached(name: &str, dependencies: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut open = vec![format!("suture-{name}")];
    while let Some(package) = open.pop() {
        for dep in dependencies.get(&package).into_iter().flatten() {
            if reached.insert(dep.clone()) {
                open.push(dep.clone());
            }
        }
    }
    reached
}

#[test]
fn crates_know_of_each_other_what_is_listed_and_no_more() {
    let dependencies = dependencies();
    for (name, allowed) in ARROWS {
        let package = format!("suture-{name}");
        let known: BTreeSet<&str> = dependencies
            .get(&package)
            .unwrap_or_else(|| panic!("{package} is no member of the workspace"))
            .iter()
            .filter_map(|dep| dep.strip_prefix("suture-"))
            .collect();
        let more: Vec<_> = known.iter().filter(|dep| !allowed.contains(*dep)).collect();
        assert!(more.is_empty(), "{package} must not depend on {more:?}");
        let less: Vec<_> = allowed.iter().filter(|dep| !known.contains(*dep)).collect();
        assert!(
            less.is_empty(),
            "{package} does not depend on {less:?}: strike it from the list"
        );
    }
    let listed: BTreeSet<String> = ARROWS.iter().map(|(name, _)| (*name).to_owned()).collect();
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            name == "suture" || listed.contains(&name),
            "crate {name} has no place among the arrows"
        );
    }
}

#[test]
fn what_is_for_tests_is_in_no_program() {
    let dependencies = dependencies();
    let with = |deps: &BTreeSet<String>| deps.contains("suture-testkit");
    let built_in: Vec<_> = dependencies
        .iter()
        .filter(|(_, deps)| with(deps))
        .map(|(name, _)| name)
        .collect();
    assert!(
        built_in
            .iter()
            .all(|name| *name == "suture-tests" || *name == "suture-benches"),
        "the tests' kit is built into {built_in:?}"
    );
}

#[test]
fn no_pure_crate_reaches_a_runtime_a_client_or_a_query_engine() {
    let dependencies = dependencies();
    for name in PURE {
        let reached = reached(name, &dependencies);
        let impure: Vec<_> = IMPURE.iter().filter(|bad| reached.contains(**bad)).collect();
        assert!(impure.is_empty(), "suture-{name} reaches {impure:?}");
    }
}

#[test]
fn whoever_does_not_read_records_is_built_without_what_does() {
    let dependencies = dependencies();
    for name in NO_CODEC {
        let reached = reached(name, &dependencies);
        let codecs: Vec<_> = CODECS.iter().filter(|codec| reached.contains(**codec)).collect();
        assert!(codecs.is_empty(), "suture-{name} reaches {codecs:?}");
    }
}

#[test]
fn pure_sources_have_no_clock_entropy_input_or_output() {
    let mut found = Vec::new();
    for name in PURE {
        for path in sources(&root().join("crates").join(name).join("src")) {
            let text = fs::read_to_string(&path).unwrap();
            // tests may read their own golden files
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            if path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs") {
                continue;
            }
            for (number, line) in code.lines().enumerate() {
                let line = line.split("//").next().unwrap_or_default();
                found.extend(
                    WORDS
                        .iter()
                        .filter(|word| line.contains(**word))
                        .map(|word| format!("{}:{}: {word}", path.display(), number + 1)),
                );
            }
        }
    }
    assert!(found.is_empty(), "pure crates must not know:\n{}", found.join("\n"));
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
