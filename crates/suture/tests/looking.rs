//! `docs/looking.md` shows the commands with what they print: what it shows is what they print. `UPDATE_EXPECT=1` renews it.

// what goes wrong here is a failed test
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;
mod session;

use std::{fs, path::Path};

use common::{BROKEN, deploy, influx, program};

/// Runs a line of the page and gives what comes of it, on either output.
fn ran(folder: &Path, line: &str) -> String {
    if let Some(file) = line.strip_prefix("cat ") {
        return fs::read_to_string(folder.join(file)).unwrap();
    }
    let words: Vec<&str> = line
        .strip_prefix("suture ")
        .unwrap_or_else(|| panic!("{line:?} is not run"))
        .split(' ')
        .collect();
    let output = program(folder, &words);
    assert!(output.status.success(), "{line}: {}", common::said(&output));
    // lines end without the spaces that a table may have
    let said = common::said(&output);
    said.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[test]
fn what_the_page_shows_is_what_the_commands_print() {
    let folder = tempfile::tempdir().unwrap();
    let samples = folder.path().join("samples");
    fs::create_dir(&samples).unwrap();
    fs::write(samples.join("telegraf.influx"), influx()).unwrap();
    fs::write(samples.join("deploys.ndjson"), deploy("checkout", BROKEN - 1)).unwrap();

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/looking.md");
    let page = fs::read_to_string(&path).unwrap();
    let (mut renewed, mut shown) = (String::new(), false);
    let mut commands = 0;
    for line in page.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            shown = true;
            commands += 1;
            renewed.push_str(&format!("{line}\n{}", ran(folder.path(), command)));
        } else if line == "```" || !shown {
            shown = false;
            renewed.push_str(&format!("{line}\n"));
        }
    }
    assert!(commands >= 8, "the page shows {commands} commands");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, &renewed).unwrap();
        return;
    }
    assert_eq!(
        page, renewed,
        "renewed with UPDATE_EXPECT=1 cargo test -p suture --test looking"
    );
}
