//! The files in `tests/cases`: options, series and samples, and under a line of dashes the windows that close.
//!
//! Each is run with all samples at once, one by one, and with a snapshot and restore between every two. After a change
//! of behaviour that is meant, `REWRITE=1 cargo test -p suture-window --test cases` writes what comes out.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests fail by panicking, as tests do

use std::{fmt::Write as _, fs, path::PathBuf};

use suture_event::{Span, Timestamp};
use suture_window::{Closed, Options, Windows};

struct Case {
    options: Options,
    names: Vec<String>,
    aggregates: Vec<String>,
    samples: Vec<(u32, Timestamp, f64)>,
}

fn parse(text: &str) -> Case {
    let mut case = Case {
        options: Options::default(),
        names: Vec::new(),
        aggregates: Vec::new(),
        samples: Vec::new(),
    };
    for line in text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
    {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["options", ..] => {
                case.options = serde_json::from_str(line.trim_start_matches("options")).unwrap();
            }
            ["series", name, aggregate] => {
                case.names.push((*name).to_owned());
                case.aggregates.push((*aggregate).to_owned());
            }
            [at, name, value] => {
                let row = case.names.iter().position(|known| known == name).unwrap();
                let at = Timestamp::from_millis(at.parse::<Span>().unwrap().as_millis());
                case.samples.push((row.try_into().unwrap(), at, value.parse().unwrap()));
            }
            _ => panic!("can't read {line:?}"),
        }
    }
    case
}

/// Pushes the samples `batch` at a time, with a snapshot and restore after each batch if asked for.
fn run(case: &Case, batch: usize, restart: bool) -> String {
    let mut windows = Windows::new(&case.options).unwrap();
    for aggregate in &case.aggregates {
        windows.add_series(aggregate.parse().unwrap());
    }
    let mut out = String::new();
    let span = |at: Timestamp| at.since(Timestamp::from_millis(0));
    for samples in case.samples.chunks(batch) {
        let rows: Vec<u32> = samples.iter().map(|s| s.0).collect();
        let ts: Vec<Timestamp> = samples.iter().map(|s| s.1).collect();
        let values: Vec<f64> = samples.iter().map(|s| s.2).collect();
        windows.push(&rows, &ts, &values, &mut |closed: &Closed<'_>| {
            write!(
                out,
                "{}..{} at {}:",
                span(closed.start),
                span(closed.end),
                span(closed.at)
            )
            .unwrap();
            for (i, &row) in closed.rows.iter().enumerate() {
                let name = &case.names[row as usize];
                write!(
                    out,
                    " {name}={} ({}, {})",
                    closed.values[i],
                    closed.counts[i],
                    span(closed.last(i))
                )
                .unwrap();
            }
            for &row in closed.forgotten {
                write!(out, " forgets {}", case.names[row as usize]).unwrap();
            }
            out.push('\n');
        });
        if restart {
            let bytes = windows.snapshot().unwrap();
            windows = Windows::new(&case.options).unwrap();
            windows.restore(&bytes).unwrap();
        }
    }
    let counters = format!("{:?}", windows.counters());
    let told = counters
        .trim_start_matches("Counters { ")
        .trim_end_matches(" }")
        .split(", ");
    let told: Vec<&str> = told.filter(|counter| !counter.ends_with(": 0")).collect();
    writeln!(out, "{}", told.join(", ")).unwrap();
    out
}

#[test]
fn every_case_closes_the_windows_it_shows() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(paths.len() >= 6, "the cases are gone");
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        let (input, expected) = text.split_once("----\n").unwrap_or((&text, ""));
        let case = parse(input);
        let out = run(&case, case.samples.len(), false);
        if std::env::var_os("REWRITE").is_some() {
            fs::write(&path, format!("{input}----\n{out}")).unwrap();
        } else {
            assert_eq!(out, expected, "{}", path.display());
        }
        assert_eq!(run(&case, 1, false), out, "{}, one by one", path.display());
        assert_eq!(run(&case, 1, true), out, "{}, restored after each", path.display());
        assert_eq!(
            run(&case, 3, true),
            out,
            "{}, restored after each third",
            path.display()
        );
    }
}
