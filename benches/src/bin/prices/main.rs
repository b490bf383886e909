//! What a series costs: nanoseconds an update and bytes of state, for each detector and for the windows, at a thousand, a
//! hundred thousand and a million series, beside the least that a pass over as much memory costs in the same run.
//!
//! ```text
//! cargo run --release -p suture-benches --bin prices                  # everything, some three minutes and 6 GB
//! cargo run --release -p suture-benches --bin prices -- --most 100000 # up to so many series
//! cargo run --release -p suture-benches --bin prices -- --only window # what has this in its name
//! ```
//!
//! A time is CPU time, the median over rounds of one update of every series, by series. `bytes` is what the allocator holds for a
//! series, spare capacity included, in the largest run; `state` is what the detector says its columns hold. `allocs` is
//! the number of allocations in a round once the first have passed. More than one in a hundred updates ends the program with
//! an error, but for those which say that they grow: ADWIN keeps more rows the longer nothing changes, and what watches for
//! drift fits its baseline anew now and then.

// a table to look at: counts far below 2^52, and seconds as they are measured
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]

mod path;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    env,
    hint::black_box,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use rustix::time::{ClockId, clock_gettime};
use suture_detect::{
    Bank, Column, DetectorName, Detectors, LimitOptions, Options, SequenceMode, SeriesHints, Thresholds, Towards,
    drift::{
        Adwin, Baseline, BaselineOptions, Cusum, Drift, DriftOptions, Kswin, MixtureCusum, PageHinkley, Population,
        Sides,
    },
    several::{
        Components, ComponentsOptions, Covariance, CovarianceOptions, Measured, Peers, PeersOptions, Together,
        TogetherOptions,
    },
};
use suture_event::{SignalKind, Span, Timestamp};
use suture_window::{Aggregate, Options as WindowOptions, Windows};

static CALLS: AtomicUsize = AtomicUsize::new(0);
static LIVE: AtomicUsize = AtomicUsize::new(0);

/// Rows that may allocate now and then.
const GROWING: [&str; 5] = [
    "drift: Adwin",
    "drift: Drift",
    "seasonal and drift",
    "seasonal and forest",
    "seasonal and changepoint",
];

/// The system's allocator, counted.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: each call goes on to the system's allocator with the layout that came in; counting touches atomics alone
#[allow(unsafe_code)] // the trait of allocators is an unsafe one
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Relaxed);
        LIVE.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same one
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: `at` came from `alloc` above, which took it from the system
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        CALLS.fetch_add(1, Relaxed);
        LIVE.fetch_add(size, Relaxed);
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as for `dealloc`; growth in place or by page tables is the system's to do
        unsafe { System.realloc(at, layout, size) }
    }
}

type Answer<T> = Result<T, Box<dyn std::error::Error>>;

const SIZES: [usize; 3] = [1_000, 100_000, 1_000_000];
const MINUTE: i64 = 60_000;
const START: i64 = 1_767_225_600_000;
/// Rounds before the first that counts: past the warm-up of the detectors, and of their memory.
const BEFORE: usize = 40;
/// Noise is drawn once and read from another place for each round.
const NOISE: usize = 4_099;

fn main() -> Answer<()> {
    let mut words = env::args().skip(1);
    let (mut most, mut only) = (1_000_000, String::new());
    while let Some(word) = words.next() {
        match word.as_str() {
            "--most" => most = words.next().ok_or("--most needs a number")?.parse()?,
            "--only" => only = words.next().ok_or("--only needs a name")?,
            _ => return Err(format!("unknown argument {word}: use --most N or --only NAME").into()),
        }
    }
    let mut table = Table {
        sizes: SIZES.into_iter().filter(|n| *n <= most).collect(),
        only,
        noise: noise(),
        floor: Vec::new(),
        allocating: Vec::new(),
    };
    table.head();
    table.floors();
    table.banks()?;
    table.windows()?;
    table.drift()?;
    table.several()?;
    table.paths()?;
    if !table.allocating.is_empty() {
        return Err(format!("allocates in the steady state: {}", table.allocating.join(", ")).into());
    }
    Ok(())
}

/// Seconds of CPU time of this thread: a neighbour on the machine costs cache and bandwidth, but not this clock.
fn cpu() -> f64 {
    let at = clock_gettime(ClockId::ThreadCPUTime);
    at.tv_sec as f64 + at.tv_nsec as f64 * 1e-9
}

/// What a subject of measurement does in one round: every series once.
trait Subject {
    fn round(&mut self, round: usize, values: &[f64]);
    /// Bytes of state a series as the subject itself tells them.
    fn state(&self) -> Option<usize> {
        None
    }
}

struct Table {
    sizes: Vec<usize>,
    only: String,
    noise: Vec<f64>,
    /// Nanoseconds a series of the plain pass, by size.
    floor: Vec<f64>,
    allocating: Vec<String>,
}

impl Table {
    fn head(&self) {
        print!("{:<34}", "ns an update, by series");
        for n in &self.sizes {
            print!("{n:>10}");
        }
        println!("{:>8} {:>8} {:>8} {:>7}", "floors", "bytes", "state", "allocs");
    }

    /// Measures a subject at each size up to `most`, and prints its row.
    fn row<S: Subject>(&mut self, name: &str, most: usize, make: impl Fn(usize) -> Answer<S>) -> Answer<Vec<f64>> {
        if !name.contains(&self.only) && !name.starts_with("floor") {
            return Ok(Vec::new());
        }
        let (mut times, mut bytes, mut state, mut calls) = (Vec::new(), 0.0, None, 0);
        for &n in self.sizes.iter().filter(|n| **n <= most) {
            let mut values = vec![0.0; n];
            let before = LIVE.load(Relaxed);
            let mut subject = make(n)?;
            let rounds = (2_000_000 / n).clamp(16, 512);
            let mut taken = Vec::with_capacity(rounds);
            for round in 0..BEFORE + rounds {
                self.fill(round, &mut values);
                let (at, had) = (cpu(), CALLS.load(Relaxed));
                subject.round(round, black_box(&values));
                let seconds = cpu() - at;
                if round >= BEFORE {
                    taken.push(seconds * 1e9 / n as f64);
                    calls = calls.max(CALLS.load(Relaxed) - had);
                }
            }
            taken.sort_by(f64::total_cmp);
            times.push(taken[taken.len() / 2]);
            bytes = (LIVE.load(Relaxed) - before - rounds * size_of::<f64>()) as f64 / n as f64;
            state = subject.state();
        }
        print!("{name:<34}");
        for k in 0..self.sizes.len() {
            match times.get(k) {
                Some(time) => print!("{time:>10.1}"),
                None => print!("{:>10}", "-"),
            }
        }
        let last = times.len().wrapping_sub(1);
        match (times.last(), self.floor.get(last)) {
            (Some(time), Some(floor)) => print!("{:>8.1}", time / floor),
            _ => print!("{:>8}", ""),
        }
        let state = state.map_or_else(String::new, |bytes| bytes.to_string());
        println!(" {bytes:>8.0} {state:>8} {calls:>7}");
        let most = self.sizes[..times.len()].iter().max().map_or(0, |n| n / 100);
        if calls > most && !GROWING.iter().any(|growing| name.starts_with(growing)) {
            self.allocating.push(name.to_owned());
        }
        Ok(times)
    }

    fn fill(&self, round: usize, values: &mut [f64]) {
        let noise = self.noise.iter().cycle().skip(round * 1_471 % NOISE);
        for (i, (value, noise)) in values.iter_mut().zip(noise).enumerate() {
            *value = 100.0 + (i % 64) as f64 + 3.0 * noise;
        }
    }
}

/// Bell-shaped noise: sums of twelve uniform numbers.
fn noise() -> Vec<f64> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut uniform = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    (0..NOISE)
        .map(|_| (0..12).map(|_| uniform()).sum::<f64>() - 6.0)
        .collect()
}

/// The least one would do: an exponentially weighted mean and variance, read, updated and written back.
struct Plain {
    mean: Vec<f64>,
    variance: Vec<f64>,
}

impl Subject for Plain {
    fn round(&mut self, _: usize, values: &[f64]) {
        for ((mean, variance), value) in self.mean.iter_mut().zip(&mut self.variance).zip(values) {
            let error = value - *mean;
            *mean += 0.01 * error;
            *variance += 0.01 * (error * error - *variance);
        }
    }
}

/// As much memory as the default detectors keep, read and written once.
struct Touch(Vec<u64>);

impl Subject for Touch {
    fn round(&mut self, round: usize, _: &[f64]) {
        for word in &mut self.0 {
            *word = word.wrapping_add(round as u64);
        }
    }
}

impl Table {
    fn floors(&mut self) {
        let make = |n| {
            Ok(Plain {
                mean: vec![0.0; n],
                variance: vec![0.0; n],
            })
        };
        self.floor = self
            .row("floor: mean and variance", usize::MAX, make)
            .unwrap_or_default();
        let bytes = Bank::new(&Options::default()).map_or(0, |bank| bank.bytes_per_series());
        let touch = |n| Ok(Touch(vec![0; n * bytes / 8]));
        let _ = self.row("floor: all state touched once", usize::MAX, touch);
    }
}

/// A bank that is fed a column a round.
struct Banked {
    bank: Bank,
    rows: Vec<u32>,
    scores: Option<Vec<f64>>,
    episodes: usize,
}

impl Subject for Banked {
    fn round(&mut self, round: usize, values: &[f64]) {
        let start = Timestamp::from_millis(START + round as i64 * MINUTE);
        let end = Timestamp::from_millis(START + (round as i64 + 1) * MINUTE);
        let mut episodes = Vec::new();
        let column = Column {
            start,
            end,
            at: end,
            rows: &self.rows,
            values,
        };
        if let Some(scores) = &mut self.scores {
            scores.clear();
        }
        self.bank.update(&column, self.scores.as_mut(), &mut episodes);
        self.episodes += episodes.len();
    }

    fn state(&self) -> Option<usize> {
        Some(self.bank.bytes_per_series())
    }
}

fn hints() -> SeriesHints<'static> {
    SeriesHints {
        metric: "m",
        kind: SignalKind::Cpu,
        counter: false,
        hash: 0,
    }
}

fn banked(options: &Options, n: usize, scores: bool, order: impl Fn(u32) -> u32) -> Answer<Banked> {
    let mut bank = Bank::new(options)?;
    let rows = (0..u32::try_from(n)?).map(order).collect();
    for _ in 0..n {
        bank.add_series(hints());
    }
    Ok(Banked {
        bank,
        rows,
        scores: scores.then(|| Vec::with_capacity(n)),
        episodes: 0,
    })
}

impl Table {
    fn banks(&mut self) -> Answer<()> {
        // quick to warm up, so that what is measured is the steady state; and of a level at which noise raises nothing,
        // as the words of an episode are what may allocate
        let calm = Options {
            warm_up: 10,
            alarm: 1e-12,
            at_once: 1e-13,
            sequence: SequenceMode::Off,
            thresholds: Thresholds {
                upper: Some(1e9),
                lower: None,
            },
            ..Options::default()
        };
        let listed = |names: &[DetectorName]| Options {
            detectors: Detectors::List(names.to_vec()),
            ..calm.clone()
        };
        use DetectorName::{Seasonal, Shift, Silence, Threshold};
        for (name, options) in [
            ("default set", calm.clone()),
            ("seasonal", listed(&[Seasonal])),
            ("seasonal and shift", listed(&[Seasonal, Shift])),
            ("seasonal and threshold", listed(&[Seasonal, Threshold])),
            ("seasonal and silence", listed(&[Seasonal, Silence])),
        ] {
            self.row(name, usize::MAX, |n| banked(&options, n, false, |row| row))?;
        }
        // one more detector beside the first, so that the difference is its price
        let further = |name| Options {
            limit: (name == DetectorName::RunOut).then_some(LimitOptions {
                at: 1e9,
                when: Towards::Rises,
                within: Span::from_hours(24),
            }),
            ..listed(&[Seasonal, name])
        };
        for (what, name, most) in [
            ("variance", DetectorName::Variance, usize::MAX),
            ("trend", DetectorName::Trend, usize::MAX),
            ("flatline", DetectorName::Flatline, usize::MAX),
            ("spike", DetectorName::Spike, usize::MAX),
            ("run_out", DetectorName::RunOut, usize::MAX),
            ("leak", DetectorName::Leak, usize::MAX),
            ("changepoint", DetectorName::Changepoint, 10_000),
            ("forest", DetectorName::Forest, 1_000),
            ("drift.mixture", DetectorName::DriftMixture, 100_000),
            ("drift.cusum", DetectorName::DriftCusum, 100_000),
            ("drift.page_hinkley", DetectorName::DriftPageHinkley, 100_000),
            ("drift.adwin", DetectorName::DriftAdwin, 10_000),
            ("drift.kswin", DetectorName::DriftKswin, 10_000),
        ] {
            let options = further(name);
            self.row(&format!("seasonal and {what}"), most, |n| {
                banked(&options, n, false, |row| row)
            })?;
        }
        self.row("default set, with scores", usize::MAX, |n| {
            banked(&calm, n, true, |row| row)
        })?;
        self.row("default set, every other row", usize::MAX, |n| {
            banked(&calm, n * 2, false, |row| row).map(|mut bank| {
                bank.rows = (0..n as u32).map(|row| row * 2).collect();
                bank
            })
        })?;
        // learning without end, as the words of its alarms would count as allocations
        let shapes = Options {
            warm_up: 1_000_000,
            sequence: SequenceMode::On,
            ..calm.clone()
        };
        self.row("default set and sequence", 1_000, |n| {
            banked(&shapes, n, false, |row| row)
        })?;
        Ok(())
    }
}

/// Ten samples a series and window, each series once a round. The rounds in the middle of a window are what the median
/// tells; the one that begins a window closes the one before.
struct Windowed {
    windows: Windows,
    rows: Vec<u32>,
    ts: Vec<Timestamp>,
    closed: usize,
}

/// Samples of a series in a window.
const TICKS: i64 = 10;

impl Subject for Windowed {
    fn round(&mut self, round: usize, values: &[f64]) {
        let at = START + round as i64 * MINUTE / TICKS;
        let mut closed = 0;
        let parts = self.rows.chunks(8_192).zip(self.ts.chunks_mut(8_192));
        for ((rows, ts), values) in parts.zip(values.chunks(8_192)) {
            ts.fill(Timestamp::from_millis(at));
            self.windows.push(rows, ts, values, &mut |window| {
                closed += black_box(window.rows).len();
            });
        }
        self.closed += closed;
    }
}

/// Samples of every series in an order without a pattern, as they come from a topic.
fn windowed(n: usize, mix: bool) -> Answer<Windowed> {
    let mut windows = Windows::new(&WindowOptions {
        size: Some(Span::from_mins(1)),
        ..WindowOptions::default()
    })?;
    for _ in 0..n {
        windows.add_series(Aggregate::Mean);
    }
    // a step that shares no factor with the number of series visits each once
    let step = if mix { 611_953 } else { 1 };
    Ok(Windowed {
        windows,
        rows: (0..n).map(|i| (i * step % n) as u32).collect(),
        ts: vec![Timestamp::MIN; n],
        closed: 0,
    })
}

/// The same windows with every sample but the first of a round taken in between rounds: what is timed is the close alone.
struct Closing(Windowed, Vec<f64>);

impl Table {
    fn windows(&mut self) -> Answer<()> {
        let both = self.row("window: sample, in row order", usize::MAX, |n| windowed(n, false))?;
        let mixed = self.row("window: sample, in no order", usize::MAX, |n| windowed(n, true))?;
        let _ = (both, mixed);
        if "window: close".contains(&self.only) {
            self.closes()?;
        }
        Ok(())
    }

    /// The close alone: the samples before it are taken in outside of the time.
    fn closes(&mut self) -> Answer<()> {
        print!("{:<34}", "window: close");
        let mut last = 0.0;
        for &n in &self.sizes.clone() {
            let mut subject = Closing(windowed(n, false)?, vec![0.0; n]);
            let rounds = (2_000_000 / n).clamp(16, 512);
            let mut taken = Vec::with_capacity(rounds);
            for round in 0..BEFORE + rounds {
                self.fill(round, &mut subject.1);
                let at = START + round as i64 * MINUTE;
                let ts = [Timestamp::from_millis(at)];
                let windows = &mut subject.0;
                let begun = cpu();
                windows.windows.push(&[0], &ts, &subject.1[..1], &mut |window| {
                    black_box(window.rows);
                });
                if round >= BEFORE {
                    taken.push((cpu() - begun) * 1e9 / n as f64);
                }
                windows.ts.fill(ts[0]);
                windows
                    .windows
                    .push(&windows.rows[1..], &windows.ts[1..], &subject.1[1..], &mut |_| ());
            }
            taken.sort_by(f64::total_cmp);
            last = taken[taken.len() / 2];
            print!("{last:>10.1}");
        }
        println!("{:>8.1}", last / self.floor.last().copied().unwrap_or(f64::NAN));
        Ok(())
    }
}

/// One detector object a series.
struct Each<D, F> {
    detectors: Vec<D>,
    update: F,
    found: usize,
}

impl<D, F: Fn(&mut D, f64) -> bool> Subject for Each<D, F> {
    fn round(&mut self, _: usize, values: &[f64]) {
        for (detector, value) in self.detectors.iter_mut().zip(values) {
            // near enough to standard normal
            self.found += usize::from((self.update)(detector, (value - 131.5) / 19.0));
        }
    }
}

impl Table {
    fn each<D: Clone>(
        &mut self,
        name: &str,
        most: usize,
        detector: &D,
        update: impl Fn(&mut D, f64) -> bool + Copy,
    ) -> Answer<()> {
        let noise = self.noise.clone();
        self.row(name, most, |n| {
            let mut detectors: Vec<D> = Vec::with_capacity(n);
            detectors.extend(std::iter::repeat_n(detector, n).cloned());
            // the windows that some keep must be full before their price is taken
            for detector in &mut detectors {
                for i in 0..220 {
                    update(detector, 0.5 * noise[i * 7 % NOISE]);
                }
            }
            Ok(Each {
                detectors,
                update,
                found: 0,
            })
        })?;
        Ok(())
    }

    fn drift(&mut self) -> Answer<()> {
        let baseline = BaselineOptions {
            warm_up: 100,
            ..BaselineOptions::default()
        };
        let whole = DriftOptions {
            baseline: baseline.clone(),
            ..DriftOptions::default()
        };
        let (all, some) = (1_000_000, 100_000);
        self.each("drift: Cusum", all, &Cusum::tuned(1.0, 1e6, Sides::Both)?, |d, z| {
            d.update(z).is_some()
        })?;
        self.each(
            "drift: MixtureCusum",
            all,
            &MixtureCusum::new(1e6, Sides::Both)?,
            |d, z| d.update(z).is_some(),
        )?;
        self.each("drift: Baseline", all, &Baseline::learned(&baseline), |d, z| {
            d.score(z).is_some()
        })?;
        self.each("drift: Drift", all, &Drift::new(&whole)?, |d, z| d.update(z).is_some())?;
        self.each(
            "drift: PageHinkley",
            all,
            &PageHinkley::new(0.1, 50.0, 30, Sides::Both),
            |d, z| d.update(z).is_some(),
        )?;
        self.each("drift: Adwin", some, &Adwin::new(1e-9)?, |d, z| d.update(z).is_some())?;
        self.each("drift: Kswin, 30 of 100", some, &Kswin::new(1e-9, 100, 30)?, |d, z| {
            d.update(z).is_some()
        })?;
        self.each(
            "drift: Population, 200 and 100",
            some,
            &Population::new(200, 100, 10, 1e6)?,
            |d, z| d.update(z).is_some(),
        )?;
        Ok(())
    }
}

/// Groups of so many members each, of one kind; a series' price is a member's.
const MEMBERS: usize = 32;

struct Groups<G, F> {
    groups: Vec<G>,
    judge: F,
    found: f64,
}

impl<G, F: Fn(&mut G, &[f64]) -> f64> Subject for Groups<G, F> {
    fn round(&mut self, _: usize, values: &[f64]) {
        for (group, values) in self.groups.iter_mut().zip(values.chunks(MEMBERS)) {
            self.found += (self.judge)(group, values);
        }
    }
}

impl Table {
    /// Groups of [`MEMBERS`] that have learned for long enough to be judged.
    fn grouped<G>(
        &mut self,
        name: &str,
        empty: impl Fn() -> G,
        judge: impl Fn(&mut G, &[f64]) -> f64 + Copy,
    ) -> Answer<()> {
        let noise = self.noise.clone();
        self.row(name, 100_000, |n| {
            let mut groups: Vec<G> = (0..n / MEMBERS).map(|_| empty()).collect();
            for group in &mut groups {
                for window in 0..600 {
                    let from = window * 61 % (NOISE - MEMBERS);
                    judge(group, &noise[from..from + MEMBERS]);
                }
            }
            Ok(Groups {
                groups,
                judge,
                found: 0.0,
            })
        })?;
        Ok(())
    }

    fn several(&mut self) -> Answer<()> {
        let (peers, together) = (PeersOptions::default(), TogetherOptions::default());
        let (covariance, components) = (CovarianceOptions::default(), ComponentsOptions::default());
        let far = |measured: Option<Measured>| measured.map_or(0.0, |measured| measured.distance);
        self.grouped(
            "several: Peers, of 32",
            || full(Peers::add),
            |group, values| {
                let mut sum = 0.0;
                group.judge(&peers, values, &|_| false, &mut |_, measured| sum += measured.distance);
                sum
            },
        )?;
        self.grouped(
            "several: Together, of 32",
            || full(Together::add),
            |group, values| far(group.judge(&together, values, false)),
        )?;
        self.grouped(
            "several: Covariance, of 32",
            || full(Covariance::add),
            |group, values| far(group.judge(&covariance, values, false)),
        )?;
        self.grouped(
            "several: Components, 3 of 32",
            || full(Components::add),
            |group, values| far(group.judge(&components, values, false)),
        )?;
        Ok(())
    }
}

fn full<G: Default>(add: fn(&mut G, usize)) -> G {
    let mut group = G::default();
    (0..MEMBERS).for_each(|at| add(&mut group, at));
    group
}
