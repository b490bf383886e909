//! `suture test`: tests of pipeline files, which lie beside them.

mod compare;
mod given;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use serde::Deserialize;
use suture_engine::DecideOut;
use suture_event::{ActionRequest, Fact, Incident, LedgerRecord, Timestamp};
use suture_service::load;

use self::{compare::Expect, given::Given};
use crate::{
    feed::files,
    pass::{Listener, Pass},
};

/// The end of a test file's name.
const END: &str = "test.yml";

/// Runs tests of pipeline files: given telemetry and changes, they expect incidents, causes and decisions.
///
/// The tests of `shop.yaml` are in `shop.test.yml` beside it. Exit code 0 where all pass, 1 where one fails or cannot be run, 78
/// where a pipeline file can't be right.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  suture test pipelines\n  suture test pipelines/shop.yaml --junit junit.xml")]
pub(crate) struct Args {
    /// Test files, pipeline files with tests beside them, or folders with any number of test files below.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Also write what came of it as JUnit's XML, which CI systems show.
    #[arg(long, value_name = "FILE.xml")]
    junit: Option<PathBuf>,
    /// Run only tests with this in their name.
    #[arg(long, value_name = "TEXT", default_value = "")]
    name: String,
}

#[cfg(test)]
impl Args {
    /// All tests below a folder.
    pub(crate) fn of(folder: PathBuf) -> Self {
        Self {
            paths: vec![folder],
            junit: None,
            name: String::new(),
        }
    }
}

/// A file of tests.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// The pipeline file, by a path relative to this one; `NAME.yaml` of `NAME.test.yml` by default.
    #[serde(default)]
    pipeline: Option<PathBuf>,
    tests: Vec<Test>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Test {
    name: String,
    given: Given,
    expect: Expect,
}

/// What a pipeline said of what was given.
#[derive(Debug, Default)]
struct Heard {
    incidents: BTreeMap<(Timestamp, Arc<str>), Incident>,
    requests: Vec<ActionRequest>,
    ledger: Vec<LedgerRecord>,
    refused: Vec<String>,
}

impl Listener for Heard {
    fn rejected(&mut self, path: &Path, number: i64, reason: &str) -> anyhow::Result<()> {
        self.refused.push(format!("{}, {number}: {reason}", path.display()));
        ensure!(self.refused.len() < 100, "much of what is given is refused: {reason}");
        Ok(())
    }

    fn fact(&mut self, _: &Fact) -> anyhow::Result<()> {
        Ok(())
    }

    fn decided(&mut self, decided: &mut DecideOut) -> anyhow::Result<()> {
        for incident in decided.incidents.drain(..) {
            self.incidents
                .insert((incident.opened_at, incident.id.clone()), incident);
        }
        self.requests.append(&mut decided.remediations);
        self.ledger.append(&mut decided.ledger);
        *decided = DecideOut::default();
        Ok(())
    }
}

/// A test that was run.
struct Ran {
    name: String,
    /// What was expected and is not so, a line each; nothing where it passed.
    differences: Vec<String>,
    took: Duration,
}

/// Runs the tests and prints what came of them.
pub(crate) fn test(args: &Args) -> anyhow::Result<ExitCode> {
    let mut report = Report::new("suture test");
    let (mut passed, mut failed) = (0, 0);
    for path in found(&args.paths)? {
        let name = path.display().to_string();
        let mut suite = TestSuite::new(name.clone());
        for ran in run_file(&path, &args.name)? {
            let mut case = TestCase::new(ran.name.clone(), TestCaseStatus::success());
            if ran.differences.is_empty() {
                passed += 1;
                println!("ok    {name}: {}", ran.name);
            } else {
                failed += 1;
                println!("FAIL  {name}: {}\n{}", ran.name, ran.differences.join("\n"));
                let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                status
                    .set_message("what was found is not what was expected")
                    .set_description(ran.differences.join("\n"));
                case.status = status;
            }
            case.set_classname(name.clone()).set_time(ran.took);
            suite.add_test_case(case);
        }
        report.add_test_suite(suite);
    }
    ensure!(passed + failed > 0, "no test has {:?} in its name", args.name);
    println!("{passed} passed, {failed} failed");
    if let Some(junit) = &args.junit {
        std::fs::write(junit, report.to_string()?).with_context(|| format!("cannot write {}", junit.display()))?;
    }
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The test files that paths stand for.
fn found(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for path in paths {
        if path.is_dir() {
            let below = files(path, END)?;
            ensure!(!below.is_empty(), "{} has no *.{END} in it", path.display());
            all.extend(below);
        } else if path.to_string_lossy().ends_with(END) {
            all.push(path.clone());
        } else {
            let beside = path.with_extension(END);
            ensure!(
                beside.exists(),
                "{} has no tests: write them to {}",
                path.display(),
                beside.display()
            );
            all.push(beside);
        }
    }
    all.sort();
    all.dedup();
    Ok(all)
}

fn run_file(path: &Path, only: &str) -> anyhow::Result<Vec<Ran>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file: File = yaml(&text).with_context(|| path.display().to_string())?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let pipeline = match &file.pipeline {
        Some(named) => folder.join(named),
        None => {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let stem = name.strip_suffix(END).unwrap_or(name).trim_end_matches('.');
            folder.join(format!("{stem}.yaml"))
        }
    };
    let mut all = Vec::new();
    for test in file.tests.iter().filter(|test| test.name.contains(only)) {
        let started = Instant::now();
        let differences =
            run(&pipeline, folder, path, test).with_context(|| format!("{}: {}", path.display(), test.name))?;
        all.push(Ran {
            name: test.name.clone(),
            differences,
            took: started.elapsed(),
        });
    }
    Ok(all)
}

/// Reads YAML 1.2, in which `y` and `no` are texts.
fn yaml<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, serde_saphyr::Error> {
    serde_saphyr::from_str_with_options(text, serde_saphyr::options! { strict_booleans: true })
}

fn run(pipeline: &Path, folder: &Path, path: &Path, test: &Test) -> anyhow::Result<Vec<String>> {
    let mut loaded = load::load(pipeline, None)?;
    let given = &test.given;
    loaded.edges.extend(given.edges());
    if !given.changes.is_empty() {
        let mut own = suture_config::Pipeline::clone(&loaded.pipeline);
        let Some(first) = own.changes.first_mut() else {
            bail!(
                "changes are given, and the pipeline reads none: name a topic under `changes` in {}",
                pipeline.display()
            );
        };
        first.format = suture_codec::ChangeFormat::Plain;
        loaded.pipeline = Arc::new(own);
    }
    let mut heard = Heard::default();
    let feed = given.feed(folder)?;
    let format = match &feed {
        Some(feed) => feed.format()?,
        None => Some(suture_codec::TelemetryFormat::Json),
    };
    let mut pass = Pass::new(&loaded, format)?;
    for change in given.changes()? {
        pass.change(path, change.as_bytes(), &mut heard)?;
    }
    match &feed {
        Some(feed) => pass.telemetry(feed, &mut heard)?,
        None => {
            pass.begin();
            given.each(|number, bytes| pass.sample(path, number, bytes, &mut heard).map(|_| ()))?;
            pass.end(path, &mut heard)?;
        }
    }
    if !heard.refused.is_empty() {
        bail!("some of what is given was refused: {}", heard.refused.join("; "));
    }
    Ok(test.expect.differences(&heard, given.start))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIPELINE: &str = "version: 1\nname: shop\nclock: event\ntelemetry: [{topic: t}]\nchanges: [{topic: c}]\nwindow: {size: 1m}\nsignals: [{name: errors, match: {metric: error_ratio}, direction: up, least_effect: {absolute: 0.01}}]\n";
    const GIVEN: &str = "    given:
      start: 2026-03-02T00:00:00Z
      every: 1m
      for: 8h
      telemetry:
        - {metric: error_ratio, labels: {service: [cart, pay]}, level: 0.01, noise: 0.001}
        - {metric: requests, labels: {service: [cart, pay]}, level: 100, noise: 3}
        - {metric: error_ratio, labels: {service: search}, level: 0.01, noise: 0.001, then: [{at: 360m, level: 0.4}]}
      changes: [{at: 358m, service: search, version: '1.2', id: d-7}]
";

    fn folder(expect: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("shop.yaml"), PIPELINE).unwrap();
        let text = format!("tests:\n  - name: a bad deploy\n{GIVEN}    expect:\n{expect}");
        std::fs::write(folder.path().join("shop.test.yml"), text).unwrap();
        folder
    }

    fn ran(expect: &str) -> Vec<String> {
        let folder = folder(expect);
        let ran = run_file(&folder.path().join("shop.test.yml"), "").unwrap();
        ran.into_iter().next().unwrap().differences
    }

    #[test]
    fn what_is_as_expected_passes() {
        let expect = "      incidents:
        - services: [search]
          status: open
          opened: {after: 360m, before: 370m}
          cause: {kind: change, service: search, class: bad_deploy, change: d-7, at_least: 0.5}
      decisions:
        - {kind: incident_opened}
        - {kind: no_playbook}
";
        assert_eq!(ran(expect), Vec::<String>::new());
    }

    #[test]
    fn what_is_not_is_told_beside_what_was_found() {
        let expect = "      incidents:
        - services: [cart]
          cause: {service: cart, class: bad_deploy}
          requests: [{action: rollback, target: cart}]
      decisions: [{kind: frozen}]
";
        let told = ran(expect).join("\n");
        for part in [
            "- services: cart",
            "+ services: search",
            "- cause.service: cart",
            "+ cause.service: search",
            "- requests: rollback of cart",
            "+ requests: none",
            "- kind: frozen",
            "+ incident_opened",
        ] {
            assert!(told.contains(part), "{part:?} is not in\n{told}");
        }
        assert!(!told.contains("cause.class"), "{told}");
        let calm = ran("      incidents: []\n").join("\n");
        assert!(
            calm.contains("- no incident") && calm.contains("after the start: "),
            "{calm}"
        );
    }

    #[test]
    fn files_are_found_by_folder_and_pipeline_and_a_report_is_written() {
        let folder = folder("      incidents: []\n");
        let path = |name: &str| folder.path().join(name);
        assert_eq!(found(&[folder.path().to_owned()]).unwrap(), [path("shop.test.yml")]);
        assert_eq!(found(&[path("shop.yaml")]).unwrap(), [path("shop.test.yml")]);
        assert!(found(&[path("other.yaml")]).is_err());
        let args = |name: &str| Args {
            paths: vec![path("shop.yaml")],
            junit: Some(path("junit.xml")),
            name: name.to_owned(),
        };
        assert_eq!(test(&args("")).unwrap(), ExitCode::FAILURE);
        let xml = std::fs::read_to_string(path("junit.xml")).unwrap();
        assert!(xml.contains("failures=\"1\"") && xml.contains("a bad deploy"), "{xml}");
        assert!(test(&args("none such")).is_err(), "a run without a test must not pass");
    }

    #[test]
    fn a_file_that_cannot_be_right_is_told_with_its_place() {
        let folder = folder("      incidnts: []\n");
        let told = format!(
            "{:#}",
            run_file(&folder.path().join("shop.test.yml"), "").err().unwrap()
        );
        assert!(told.contains("shop.test.yml") && told.contains("incidnts"), "{told}");
    }
}
