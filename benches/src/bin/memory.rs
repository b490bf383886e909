//! What a shard's memory comes to, beside what `suture check --estimate` tells in advance.
//!
//! ```text
//! cargo run --release --package suture-benches --bin memory
//! cargo run --release --package suture-benches --bin memory -- --series 1000000
//! ```
//!
//! Each case is a process of its own that takes ticks of Arrow batches of every series in until windows have closed, and
//! writes a snapshot. It ends with an error where any came to need more than the estimate.

// counts are far below what a float holds exactly
#![allow(clippy::cast_precision_loss)]

use std::{fs, process::Command, sync::Arc};

use suture_benches::samples::{Sample, Samples};
use suture_config::Pipeline;
use suture_engine::{Headers, NoExpressions, Observe, ObserveOut, RecordRef, Source};
use suture_event::ShardId;

type Answer<T> = Result<T, Box<dyn std::error::Error>>;

/// What is measured: a name, the part of the pipeline file, and the share of the series.
const CASES: [(&str, &str, usize); 5] = [
    ("gauges", "window: {size: 10s}", 1),
    (
        "gauges, carried on, sliding",
        "window: {size: 1m, slide: 10s, gaps: carry}",
        1,
    ),
    (
        "counters",
        "window: {size: 10s}\nsignals: [{name: all, aggregate: rate}]",
        1,
    ),
    (
        "quantiles",
        "window: {size: 10s}\nsignals: [{name: all, aggregate: p99}]",
        10,
    ),
    ("samples by themselves, with the sequence model", "", 100),
];
/// Ticks of a second, so that windows of ten have closed.
const TICKS: usize = 75;
/// Samples of a record.
const BATCH: usize = 4_096;

fn main() -> Answer<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let after = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1)?.parse::<usize>().ok()
    };
    let series = after("--series").unwrap_or(200_000);
    if let Some((name, text, share)) = after("--case").and_then(|case| CASES.get(case)) {
        return measure(name, text, series / share);
    }
    println!(
        "{:<48}{:>10}{:>12}{:>12}{:>12}{:>8}",
        "bytes a series", "series", "live", "snapshot", "estimate", "share"
    );
    let mut within = true;
    for case in 0..CASES.len() {
        let numbers = [("--case", case), ("--series", series)].map(|(name, n)| [name.to_owned(), n.to_string()]);
        let status = Command::new(std::env::current_exe()?).args(numbers.concat()).status()?;
        within &= status.success();
    }
    if within {
        Ok(())
    } else {
        Err("the estimate is too low".into())
    }
}

/// Takes the samples of a case in and prints what that took.
fn measure(name: &str, text: &str, series: usize) -> Answer<()> {
    let text = format!(
        "version: 1\nname: memory\nclock: event\nscope: {{label: environment, default: prod}}\nentity: service\n\
         telemetry: [{{topic: telemetry, format: arrow_ipc}}]\nlimits: {{series: {series}}}\n{text}\n"
    );
    let pipeline = Pipeline::parse("memory.yaml", &text, &|_| None).map_err(|problems| problems.to_string())?;
    let estimate = pipeline.estimate();
    let source = Source::all(&pipeline, &NoExpressions)?.swap_remove(0);
    let topic = "telemetry".into();
    let mut fold = Observe::new(Arc::new(pipeline), ShardId { topic, partition: 0 }, source)?;
    let samples = Samples::new(series, 1_000);
    let mut out = ObserveOut::default();
    let before = status("VmRSS")?;
    let mut batch: Vec<Sample> = Vec::with_capacity(BATCH);
    for at in 0..series * TICKS {
        batch.push(samples.get(at));
        if batch.len() == BATCH || at + 1 == series * TICKS {
            let value = samples.arrow(&batch)?;
            let record = RecordRef {
                offset: 0,
                timestamp: None,
                key: None,
                headers: Headers::default(),
                value: Some(&value),
            };
            fold.record(record, &mut out);
            batch.clear();
        }
    }
    fold.flush(&mut out);
    if fold.counters().series != series as u64 || !out.dead_letters.is_empty() {
        return Err("not every sample was taken".into());
    }
    drop(out);
    let live = status("VmRSS")? - before;
    // forgets the highest so far
    fs::write("/proc/self/clear_refs", "5")?;
    let bytes = fold.snapshot()?.len();
    let peak = status("VmHWM")? - before;
    let each = |bytes: u64| bytes as f64 / series as f64;
    println!(
        "{name:<48}{series:>10}{:>12.0}{:>12.0}{:>12.0}{:>7.0}%",
        each(live),
        each(peak),
        each(estimate.shard.0),
        100.0 * peak as f64 / estimate.shard.0 as f64
    );
    if peak > estimate.shard.0 {
        return Err(format!("{name}: {peak} bytes, with a snapshot of {bytes}").into());
    }
    Ok(())
}

/// A figure of the kernel's on this process, in bytes.
fn status(name: &str) -> Answer<u64> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text
        .lines()
        .find(|line| line.starts_with(name))
        .ok_or("no such figure")?;
    let kilobytes: u64 = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
    Ok(kilobytes << 10)
}
