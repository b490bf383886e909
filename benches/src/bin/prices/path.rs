//! A sample's way from a record's bytes into an open window: decoding, finding the series, pushing; and beside it what can't
//! be had for less: decoding alone, and one line of memory a series touched in the order of the samples.

use std::{hint::black_box, sync::Arc};

use suture_benches::samples::{Sample, Samples};
use suture_config::Pipeline;
use suture_engine::{NoExpressions, Observe, ObserveOut, RecordRef, Source};
use suture_event::{
    ShardId, Timestamp,
    codec::{self, Limits, RawKey, SampleRef, Sink},
};

use crate::{Answer, SIZES, Table, cpu};

/// Samples that are timed together, and how often.
const STRETCH: usize = 40 * 4_096;
const STRETCHES: usize = 25;
/// Milliseconds between two samples of a series.
const INTERVAL: i64 = 1_000;

/// How samples are written, and how many go into a record.
const ENCODINGS: [(&str, &str, usize); 3] = [
    ("json", "json", 1),
    ("arrays", "json", 100),
    ("arrow", "arrow_ipc", 4_096),
];

/// As scrapers send them, or with no two of an instance one after the other.
const ORDERS: [(&str, fn(usize, i64) -> Samples); 2] =
    [("as scraped", Samples::new), ("in no order", Samples::scattered)];

impl Table {
    pub(crate) fn paths(&self) -> Answer<()> {
        let mut told = false;
        for (name, format, each) in ENCODINGS {
            for (order, samples) in ORDERS {
                let name = format!("path: {name}, {order}");
                if !name.contains(&self.only) {
                    continue;
                }
                if !told {
                    println!(
                        "\n{:<34}{:>24}{:>24}{:>24}",
                        "ns a sample", "1,000", "100,000", "1,000,000"
                    );
                    println!(
                        "{:<34}{}",
                        "",
                        format!("{:>8}{:>8}{:>8}", "all", "decode", "line").repeat(3)
                    );
                    told = true;
                }
                print!("{name:<34}");
                let mut all = Vec::new();
                for &n in SIZES.iter().filter(|n| self.sizes.contains(n)) {
                    let [way, decode, line] = measure(&samples(n, INTERVAL), format, each)?;
                    print!("{way:>8.0}{decode:>8.0}{line:>8.1}");
                    all.push(way);
                }
                let (first, last) = (all.first().copied(), all.last().copied());
                println!("  x{:.2}", last.unwrap_or(f64::NAN) / first.unwrap_or(f64::NAN));
            }
        }
        Ok(())
    }
}

/// Nanoseconds a sample of the whole way, of decoding alone, and of one line of memory: the least of stretches that take turns,
/// as what else the machine does costs caches and bandwidth, which CPU time does not leave out.
fn measure(samples: &Samples, format: &str, each: usize) -> Answer<[f64; 3]> {
    let mut fold = observe(format)?;
    let mut out = ObserveOut::default();
    let mut at = 0;
    // every series is met, and each window and buffer has grown, before anything is measured
    while at < 2 * samples.len() {
        let records = records(samples, at, format, each)?;
        take(&mut fold, &records, &mut out);
        at += STRETCH;
    }
    let mut decoders = (
        codec::json::Decoder::new(Limits::default()),
        suture_columnar::Decoder::new(Limits::default()),
    );
    let mut lines = vec![Line([0.0; 8]); samples.len()];
    let mut taken = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..STRETCHES {
        let written = records(samples, at, format, each)?;
        let mut time = |place: usize, of: &mut dyn FnMut()| {
            let begun = cpu();
            of();
            taken[place].push((cpu() - begun) * 1e9 / STRETCH as f64);
        };
        time(0, &mut || take(&mut fold, &written, &mut out));
        time(1, &mut || decode(&mut decoders, &written, each));
        let order: Vec<(usize, f64)> = (at..at + STRETCH)
            .map(|at| samples.get(at))
            .map(|one| (one.0, one.2))
            .collect();
        time(2, &mut || {
            for (which, value) in &order {
                let line = &mut lines[*which].0;
                line[0] += value;
                line[1] += 1.0;
            }
        });
        black_box(&lines);
        at += STRETCH;
    }
    if !out.dead_letters.is_empty() {
        return Err("not every sample was taken".into());
    }
    Ok(taken.map(|times: Vec<f64>| times.into_iter().fold(f64::MAX, f64::min)))
}

#[derive(Clone)]
#[repr(align(64))]
struct Line([f64; 8]);

fn observe(format: &str) -> Answer<Observe> {
    let text = format!(
        "version: 1\nname: path\nclock: event\nscope: {{label: environment, default: prod}}\nentity: service\n\
         telemetry: [{{topic: telemetry, format: {format}}}]\nwindow: {{size: 24h}}\nlimits: {{series: 2000000}}\n"
    );
    let pipeline = Pipeline::parse("path.yaml", &text, &|_| None).map_err(|problems| problems.to_string())?;
    let source = Source::all(&pipeline, &NoExpressions)?.swap_remove(0);
    let topic = "telemetry".into();
    Ok(Observe::new(
        Arc::new(pipeline),
        ShardId { topic, partition: 0 },
        source,
    )?)
}

/// The records of a stretch, one after the other in memory, as a batch from a topic is.
fn records(samples: &Samples, from: usize, format: &str, each: usize) -> Answer<(Vec<u8>, Vec<usize>)> {
    let all: Vec<Sample> = (from..from + STRETCH).map(|at| samples.get(at)).collect();
    let (mut bytes, mut ends, mut text) = (Vec::new(), Vec::new(), String::new());
    for batch in all.chunks(each) {
        text.clear();
        match (format, each) {
            ("json", 1) => samples.json(batch[0], &mut text),
            ("json", _) => samples.array(batch, &mut text),
            _ => bytes.extend(samples.arrow(batch)?),
        }
        bytes.extend_from_slice(text.as_bytes());
        ends.push(bytes.len());
    }
    Ok((bytes, ends))
}

fn values((bytes, ends): &(Vec<u8>, Vec<usize>)) -> impl Iterator<Item = &[u8]> {
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts.zip(ends).map(|(from, to)| &bytes[from..*to])
}

/// Takes records in as the program does: so many at once.
fn take(fold: &mut Observe, written: &(Vec<u8>, Vec<usize>), out: &mut ObserveOut) {
    let records: Vec<RecordRef<'_>> = values(written)
        .zip(0..)
        .map(|(value, offset)| RecordRef {
            offset,
            timestamp: Some(Timestamp::MAX),
            key: None,
            headers: &[],
            value: Some(value),
        })
        .collect();
    for together in records.chunks(256) {
        fold.records(together, out);
    }
    fold.flush(out);
    out.facts.clear();
}

/// Knows every series and keeps nothing.
struct Nowhere(f64);

impl Sink for Nowhere {
    fn known(&mut self, key: RawKey, ts: Timestamp, value: f64) -> bool {
        black_box((key, ts));
        self.0 += value;
        true
    }

    fn sample(&mut self, sample: SampleRef<'_>, _: Option<RawKey>) {
        black_box(sample.hash);
    }
}

fn decode(
    (json, arrow): &mut (codec::json::Decoder, suture_columnar::Decoder),
    written: &(Vec<u8>, Vec<usize>),
    each: usize,
) {
    let mut sink = Nowhere(0.0);
    for value in values(written) {
        let decoded = if each > 1_000 {
            arrow.decode(value, &mut sink)
        } else {
            json.decode_into(value, &mut sink)
        };
        let _ = black_box(decoded.map(|decoded| decoded.accepted));
    }
    black_box(sink.0);
}
