//! Scores every sample of a file as a window of its own:
//! `cargo run --release -p suture-detect --example scores -- telemetry.ndjson scores.ndjson [alarm]`.
//!
//! Lines are `{"ts": ms, "metric": …, "value": …, "labels": {…}}`; the score is added to each.

use std::{
    collections::HashMap,
    error::Error,
    fs::File,
    io::{BufRead, BufReader, BufWriter, Write},
};

use suture_detect::{Bank, Column, Options, SeriesHints};
use suture_event::{SignalKind, Timestamp};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, from, to, rest @ ..] = arguments.as_slice() else {
        return Err("usage: scores TELEMETRY SCORES [ALARM]".into());
    };
    let mut options = Options::default();
    if let Some(alarm) = rest.first() {
        options.alarm = alarm.parse()?;
    }
    let mut bank = Bank::new(&options)?;
    let mut rows = HashMap::new();
    let mut out = BufWriter::new(File::create(to)?);
    let (mut scores, mut episodes) = (Vec::new(), Vec::new());
    for line in BufReader::new(File::open(from)?).lines() {
        let mut sample: serde_json::Value = serde_json::from_str(&line?)?;
        let at = Timestamp::from_millis(sample["ts"].as_i64().ok_or("ts is no number")?);
        let value = sample["value"].as_f64().unwrap_or(f64::NAN);
        let metric = sample["metric"].as_str().unwrap_or_default().to_owned();
        let key = format!("{metric}{}", sample["labels"]);
        let row = *rows.entry(key).or_insert_with(|| {
            let kind = SignalKind::of_metric(&metric);
            bank.add_series(SeriesHints {
                metric: &metric,
                kind,
                counter: false,
                hash: 0,
            })
        });
        scores.clear();
        let column = Column {
            start: at,
            end: at,
            at,
            rows: &[row],
            values: &[value],
        };
        bank.update(&column, Some(&mut scores), &mut episodes);
        sample["score"] = scores.first().copied().unwrap_or(0.0).into();
        writeln!(out, "{sample}")?;
    }
    eprintln!("{} series, {} phases of anomalies", bank.len(), episodes.len());
    Ok(())
}
