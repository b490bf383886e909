//! A calm stretch of the simulated shop as NDJSON, to train from.
//!
//! ```text
//! cargo run --package suture-simulate --example telemetry -- HOURS SEED > telemetry.ndjson
//! ```

use std::{
    env,
    io::{self, BufWriter, Write},
};

use suture_event::Span;
use suture_simulate::{Options, record};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = env::args().skip(1);
    let mut number = |name: &str| -> Result<u64, Box<dyn std::error::Error>> {
        let word = words
            .next()
            .ok_or_else(|| format!("{name} is missing: give HOURS and SEED"))?;
        Ok(word.parse().map_err(|error| format!("{name} {word:?}: {error}"))?)
    };
    let (hours, seed) = (number("HOURS")?, number("SEED")?);
    let options = Options {
        seed,
        step: Span::from_mins(1),
        warmup: Span::from_hours(i64::try_from(hours)?),
        faults: 0,
        ..Options::default()
    };
    let mut out = BufWriter::new(io::stdout().lock());
    for sample in record(options)?.samples {
        serde_json::to_writer(&mut out, &sample)?;
        writeln!(out)?;
    }
    Ok(out.flush()?)
}
