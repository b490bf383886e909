//! A sample's way from a record's bytes into an open window: decoding, finding the series, pushing; and beside it decoding
//! alone, and the floor of what memory costs: one line of it a series, touched in the order of the samples with nothing to
//! do in between. In no order a sample needs two such lines, of the table and of the window.

use std::{hint::black_box, sync::Arc};

use suture_benches::samples::{Sample, Samples};
use suture_codec::{Limits, RawKey, SampleRef, Sink, TelemetryDecoder as _};
use suture_config::Pipeline;
use suture_engine::{Headers, NoExpressions, Observe, ObserveOut, RecordRef, Source};
use suture_event::{ShardId, Timestamp};

use crate::{Answer, Table, cpu};

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

/// Makes so many series, so many milliseconds apart.
type Make = fn(usize, i64) -> Samples;

/// As scrapers send them, or with no two of an instance one after the other.
const ORDERS: [(&str, Make); 2] = [("as scraped", Samples::new), ("in no order", Samples::scattered)];

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
                    let sizes: String = self.sizes.iter().map(|n| format!("{n:>24}")).collect();
                    println!("\n{:<34}{sizes}", "ns a sample, by series");
                    println!(
                        "{:<34}{}",
                        "",
                        format!("{:>8}{:>8}{:>8}", "all", "decode", "line").repeat(self.sizes.len())
                    );
                    told = true;
                }
                let mut ways = Vec::new();
                for &n in &self.sizes {
                    ways.push(Way::new(samples(n, INTERVAL), format, each)?);
                }
                // the sizes take turns, so that what else the machine does meets all alike
                for _ in 0..STRETCHES {
                    ways.iter_mut().try_for_each(Way::go_on)?;
                }
                print!("{name:<34}");
                for way in &ways {
                    let [all, decode, line] = way.least;
                    print!("{all:>8.0}{decode:>8.0}{line:>8.1}");
                }
                let of = |way: Option<&Way>| way.map_or(f64::NAN, |way| way.least[0]);
                println!("  x{:.2}", of(ways.last()) / of(ways.first()));
            }
        }
        Ok(())
    }
}

/// One number of series, met and running.
struct Way {
    samples: Samples,
    format: &'static str,
    each: usize,
    fold: Observe,
    out: ObserveOut,
    json: suture_codec::json::Decoder,
    arrow: suture_codec::arrow::Decoder,
    lines: Vec<Line>,
    at: usize,
    /// Nanoseconds a sample of the whole way, of decoding alone, and of one line of memory: of the quickest stretch, as what
    /// else the machine does costs caches and bandwidth, which CPU time does not leave out.
    least: [f64; 3],
}

impl Way {
    /// Every series is met, and what grows has grown, before anything is measured.
    fn new(samples: Samples, format: &'static str, each: usize) -> Answer<Self> {
        let mut way = Self {
            lines: vec![Line([0.0; 8]); samples.len()],
            samples,
            format,
            each,
            fold: observe(format)?,
            out: ObserveOut::default(),
            json: suture_codec::json::Decoder::new(Limits::default()),
            arrow: suture_codec::arrow::Decoder::new(Limits::default()),
            at: 0,
            least: [f64::MAX; 3],
        };
        while way.at < 2 * way.samples.len() {
            let written = records(&way.samples, way.at, format, each)?;
            take(&mut way.fold, &written, &mut way.out);
            way.at += STRETCH;
        }
        Ok(way)
    }

    fn go_on(&mut self) -> Answer<()> {
        let written = records(&self.samples, self.at, self.format, self.each)?;
        let stretch = (self.at..self.at + STRETCH).map(|at| self.samples.get(at));
        let order: Vec<(usize, f64)> = stretch.map(|(which, _, value)| (which, value)).collect();
        let mut begun = cpu();
        let mut lap = |place: usize| {
            let now = cpu();
            self.least[place] = self.least[place].min((now - begun) * 1e9 / STRETCH as f64);
            begun = now;
        };
        take(&mut self.fold, &written, &mut self.out);
        lap(0);
        let mut sink = Nowhere(0.0);
        for value in values(&written) {
            let decoded = match self.format {
                "json" => self.json.decode(value, &mut sink),
                _ => self.arrow.decode(value, &mut sink),
            };
            black_box(decoded?.accepted);
        }
        black_box(sink.0);
        lap(1);
        for (which, value) in &order {
            let line = &mut self.lines[*which].0;
            line[0] += value;
            line[1] += 1.0;
        }
        black_box(&self.lines);
        lap(2);
        self.at += STRETCH;
        match self.out.dead_letters.first() {
            Some(letter) => Err(letter.reason.clone().into()),
            None => Ok(()),
        }
    }
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
            headers: Headers::default(),
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
