//! The parts that a sample goes through, each by itself and then all together, on records in memory: per sample, beside the
//! least that the same bytes cost.
//!
//! ```text
//! cargo bench --package suture-benches --bench parts
//! cargo bench --package suture-benches --bench parts -- observe/arrow
//! ```

// a benchmark that can't be set up has nothing to measure; counts are small
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    missing_docs
)]

use std::{hint::black_box, sync::Arc, time::Duration};

use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use rustix::time::{ClockId, clock_gettime};
use suture_benches::samples::{Sample, Samples};
use suture_codec::{Limits, RawKey, SampleRef, Sink, TelemetryDecoder as _};
use suture_config::Pipeline;
use suture_detect::{Bank, Column, SeriesHints};
use suture_engine::{Headers, NoExpressions, Observe, ObserveOut, RecordRef, Source};
use suture_event::{ShardId, SignalKind, Span, Timestamp};
use suture_window::{Aggregate, Windows};

/// Samples of a series in a window: windows of 10 s, a sample a second.
const TICKS: usize = 10;
const INTERVAL: i64 = 1_000;

const SIZES: [usize; 3] = [1_000, 100_000, 1_000_000];

type Group<'a> = BenchmarkGroup<'a, WallTime>;
/// An encoding, and how many samples go into a record.
type Written = (Encoding, usize);

/// CPU time of the process, which what else the machine does has less part in.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32)
}

const fn format_of(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Arrow => "arrow_ipc",
        Encoding::Json | Encoding::Arrays => "json",
    }
}

/// How samples are written, and how many go into a record.
#[derive(Clone, Copy)]
enum Encoding {
    Json,
    Arrays,
    Arrow,
}

const ENCODINGS: [(&str, Encoding, usize); 3] = [
    ("json", Encoding::Json, 1),
    ("arrays", Encoding::Arrays, 100),
    ("arrow", Encoding::Arrow, 4_096),
];

/// Records of the samples `from..to`.
fn records(samples: &Samples, range: std::ops::Range<usize>, encoding: Encoding, each: usize) -> Vec<Vec<u8>> {
    let all: Vec<Sample> = range.map(|at| samples.get(at)).collect();
    let write = |batch: &[Sample]| {
        let mut text = String::new();
        match encoding {
            Encoding::Json => samples.json(batch[0], &mut text),
            Encoding::Arrays => samples.array(batch, &mut text),
            Encoding::Arrow => return samples.arrow(batch).unwrap(),
        }
        text.into_bytes()
    };
    all.chunks(each).map(write).collect()
}

fn observe(format: &str, size: &str) -> Observe {
    let text = format!(
        "version: 1\nname: parts\nclock: event\nscope: {{label: environment, default: prod}}\nentity: service\n\
         telemetry: [{{topic: telemetry, format: {format}}}]\n{size}limits: {{series: 2000000}}\n"
    );
    let pipeline = Pipeline::parse("parts.yaml", &text, &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
    let source = Source::all(&pipeline, &NoExpressions).unwrap().remove(0);
    let topic = "telemetry".into();
    Observe::new(Arc::new(pipeline), ShardId { topic, partition: 0 }, source).unwrap()
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

/// Bytes to samples, with nobody to take them: beside a plain read of the same bytes.
fn decode(c: &mut Criterion) {
    let samples = Samples::new(100_000, INTERVAL);
    let mut group = c.benchmark_group("decode");
    for (name, encoding, each) in ENCODINGS {
        let count = 40 * 4_096;
        let records = records(&samples, 0..count, encoding, each);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::new("floor: bytes read", name), |b| {
            b.iter(|| {
                let words = records.iter().flat_map(|record| record.chunks_exact(8));
                words.fold(0_u64, |sum, word| {
                    sum.wrapping_add(u64::from_le_bytes(word.try_into().unwrap_or_default()))
                })
            });
        });
        let mut sink = Nowhere(0.0);
        let mut json = suture_codec::json::Decoder::new(Limits::default());
        let mut arrow = suture_codec::arrow::Decoder::new(Limits::default());
        group.bench_function(name, |b| {
            b.iter(|| {
                for record in &records {
                    let decoded = match encoding {
                        Encoding::Arrow => arrow.decode(record, &mut sink),
                        Encoding::Json | Encoding::Arrays => json.decode(record, &mut sink),
                    };
                    assert!(decoded.unwrap().rejected.is_empty());
                }
            });
        });
    }
    group.finish();
}

/// Takes records in, and what they led to out.
fn take(fold: &mut Observe, records: &[Vec<u8>], out: &mut ObserveOut) {
    let records: Vec<RecordRef<'_>> = records
        .iter()
        .map(|value| RecordRef {
            offset: 0,
            timestamp: None,
            key: None,
            headers: Headers::default(),
            value: Some(value),
        })
        .collect();
    // as the program takes them
    for together in records.chunks(256) {
        fold.records(together, out);
    }
    fold.flush(out);
    assert!(out.dead_letters.is_empty());
    out.facts.clear();
}

/// A fold that is measured a stretch of the same endless samples at a time.
struct Running {
    fold: Observe,
    samples: Samples,
    written: Written,
    out: ObserveOut,
    at: usize,
}

impl Running {
    /// Every series is met before anything is measured.
    fn new(samples: Samples, window: &str, written: Written) -> Self {
        let mut running = Self {
            fold: observe(format_of(written.0), window),
            samples,
            written,
            out: ObserveOut::default(),
            at: 0,
        };
        while running.at < running.samples.len() {
            running.go_on(40 * 4_096);
        }
        running
    }

    /// CPU time of the next samples.
    fn go_on(&mut self, stretch: usize) -> Duration {
        let (encoding, each) = self.written;
        let records = records(&self.samples, self.at..self.at + stretch, encoding, each);
        self.at += stretch;
        let begun = cpu();
        take(&mut self.fold, &records, &mut self.out);
        cpu().saturating_sub(begun)
    }
}

/// Measures what `make` gives, which is made only where it is asked for.
fn stretches(group: &mut Group<'_>, id: BenchmarkId, stretch: usize, make: impl Fn() -> Running) {
    let mut running = None;
    group.throughput(Throughput::Elements(stretch as u64));
    group.bench_function(id, |b| {
        let running = running.get_or_insert_with(&make);
        b.iter_custom(|rounds| (0..rounds).map(|_| running.go_on(stretch)).sum());
    });
}

/// From bytes to windows, while none closes: decoding, finding the series, pushing. The fewer series, the more of what that
/// touches is in the caches.
fn taken_in(c: &mut Criterion) {
    let mut group = c.benchmark_group("take");
    group.sample_size(10);
    for (name, encoding, each) in ENCODINGS {
        for series in SIZES {
            for scraped in [true, false] {
                let order = if scraped { "as scraped" } else { "in no order" };
                let id = BenchmarkId::new(format!("{name}, {order}"), series);
                stretches(&mut group, id, 40 * 4_096, || {
                    let samples = if scraped { Samples::new } else { Samples::scattered };
                    Running::new(samples(series, INTERVAL), "window: {size: 24h}\n", (encoding, each))
                });
            }
        }
    }
    group.finish();
}

/// The whole fold, from records to facts, as windows of 10 s close: each round is one window of all series.
fn whole(c: &mut Criterion) {
    let mut group = c.benchmark_group("observe");
    group.sample_size(10);
    for (name, encoding, each) in ENCODINGS {
        for series in [1_000, 100_000] {
            let id = BenchmarkId::new(name, series);
            stretches(&mut group, id, series * TICKS, || {
                let samples = Samples::new(series, INTERVAL);
                Running::new(samples, "window: {size: 10s}\n", (encoding, each))
            });
        }
    }
    group.finish();
}

/// Windows alone: samples pushed into an open one, and one closing, beside a plain pass over the columns.
fn windows(c: &mut Criterion) {
    let mut group = c.benchmark_group("windows");
    for series in SIZES {
        let count = u32::try_from(series).unwrap();
        let mut windows = Windows::new(&suture_window::Options {
            size: Some(Span::from_secs(10)),
            ..suture_window::Options::default()
        })
        .unwrap();
        for _ in 0..count {
            windows.add_series(Aggregate::Mean);
        }
        let values: Vec<f64> = (0..count).map(f64::from).collect();
        let ordered: Vec<u32> = (0..count).collect();
        // a step that shares no factor with the number of series visits each once
        let mixed: Vec<u32> = (0..count)
            .map(|n| (u64::from(n) * 611_953 % u64::from(count)) as u32)
            .collect();
        let mut at = Timestamp::from_millis(1_780_000_000_000);
        group.throughput(Throughput::Elements(series as u64));
        let mut sums = vec![0.0; series];
        group.bench_function(BenchmarkId::new("floor: add to a column", series), |b| {
            b.iter(|| {
                for (sum, value) in sums.iter_mut().zip(black_box(&values)) {
                    *sum += value;
                }
            });
        });
        for (name, rows) in [("push, in row order", &ordered), ("push, in no order", &mixed)] {
            let ts = vec![at; series];
            group.bench_function(BenchmarkId::new(name, series), |b| {
                b.iter(|| windows.push(rows, &ts, &values, &mut |_| {}));
            });
        }
        group.bench_function(BenchmarkId::new("close", series), |b| {
            b.iter_custom(|rounds| {
                let mut taken = Duration::ZERO;
                for _ in 0..rounds {
                    windows.push(&ordered, &vec![at; series], &values, &mut |_| {});
                    at = at.plus(Span::from_secs(10));
                    let begun = cpu();
                    windows.push(&[0], &[at], &[0.0], &mut |closed| {
                        black_box(closed.values);
                    });
                    taken += cpu().saturating_sub(begun);
                }
                taken
            });
        });
    }
    group.finish();
}

/// The default detectors over one closed window, beside a plain pass over the column.
fn detectors(c: &mut Criterion) {
    let mut group = c.benchmark_group("detectors");
    for series in SIZES {
        let count = u32::try_from(series).unwrap();
        let mut bank = Bank::new(&suture_detect::Options::default()).unwrap();
        for _ in 0..count {
            bank.add_series(SeriesHints {
                metric: "cpu",
                kind: SignalKind::Cpu,
                counter: false,
                hash: 0,
            });
        }
        let rows: Vec<u32> = (0..count).collect();
        let values = |window: i64| -> Vec<f64> {
            let unit = |n: u32| f64::from((u64::from(n) * 7_919 + window as u64 * 104_729) as u32 % 1_009) / 1_009.0;
            (0..count).map(|n| 100.0 + unit(n)).collect()
        };
        let (mut window, mut episodes) = (0_i64, Vec::new());
        group.throughput(Throughput::Elements(series as u64));
        let mut sums = vec![0.0; series];
        let column = values(0);
        group.bench_function(BenchmarkId::new("floor: add to a column", series), |b| {
            b.iter(|| {
                for (sum, value) in sums.iter_mut().zip(black_box(&column)) {
                    *sum += value;
                }
            });
        });
        group.bench_function(BenchmarkId::new("default set", series), |b| {
            b.iter_custom(|rounds| {
                let mut taken = Duration::ZERO;
                for _ in 0..rounds {
                    let values = values(window);
                    let start = Timestamp::from_millis(1_780_000_000_000 + window * 10_000);
                    let end = start.plus(Span::from_secs(10));
                    window += 1;
                    let column = Column {
                        start,
                        end,
                        at: end,
                        rows: &rows,
                        values: &values,
                    };
                    let begun = cpu();
                    bank.update(&column, None, &mut episodes);
                    taken += cpu().saturating_sub(begun);
                    episodes.clear();
                }
                taken
            });
        });
    }
    group.finish();
}

criterion_group!(parts, decode, taken_in, windows, detectors, whole);
criterion_main!(parts);
