//! Golden cases: `tests/bad/*.yaml` are files with problems, each beside the text that a user sees. `UPDATE_EXPECT=1
//! cargo test` rewrites the texts.

// helpers outside of test functions stop at what cannot be, like the tests themselves
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use suture_config::{Look, Pipeline, Problems, SqlProblem, SqlUse, decode};
use suture_testkit::golden::assert_golden;

fn folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn files(path: &str, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder(path))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect();
    files.sort();
    files
}

fn environment(name: &str) -> Option<String> {
    match name {
        "EMPTY" => Some(String::new()),
        "LINES" => Some("one\ntwo".to_owned()),
        "CLOCK" => Some("sundial".to_owned()),
        "SECRET_GROUP" => Some("hunter two".to_owned()),
        "CLOCK_TOKEN" => Some("hunter2".to_owned()),
        _ => None,
    }
}

/// Stands for a SQL engine: finds fault with the words `LIK` and `oops`.
fn sql(_: SqlUse, expression: &str) -> Result<(), SqlProblem> {
    for (word, help) in [
        ("LIK ", "did you mean `LIKE`?"),
        ("oops", "columns: metric, labels, value, ts"),
    ] {
        if let Some(at) = expression.find(word) {
            let word = word.trim_end();
            let message = format!("`{word}` is not understood");
            return Err(SqlProblem {
                message,
                help: help.to_owned(),
                at: Some(at..at + word.len()),
            });
        }
    }
    Ok(())
}

fn problems(path: &Path) -> Problems {
    let bytes = fs::read(path).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    match decode(name, &bytes) {
        Ok(text) => Pipeline::check(name, text, &environment, &sql).problems,
        Err(problems) => problems,
    }
}

#[test]
fn every_bad_file_is_told_as_its_text_says() {
    for path in files("tests/bad", "yaml") {
        let found = problems(&path);
        assert!(!found.is_empty(), "{} has no problem", path.display());
        assert_golden(path.with_extension("txt"), &found.render(Look::Plain));
    }
}

#[test]
fn no_secret_shows_in_any_text() {
    for path in files("tests/bad", "yaml") {
        let found = problems(&path);
        let shown = format!(
            "{}{}",
            found.render(Look::Fancy { width: 100 }),
            serde_json::to_string(&found).unwrap()
        );
        assert!(!shown.contains("hunter"), "{}: {shown}", path.display());
    }
}

#[test]
fn every_pipeline_that_comes_along_has_no_problem() {
    let all = files("../../pipelines", "yaml");
    assert!(all.len() >= 4, "{all:?}");
    for path in all {
        let found = problems(&path);
        assert!(found.is_empty(), "{}", found.render(Look::Plain));
    }
}
