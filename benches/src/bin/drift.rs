//! Drift detectors by their average run lengths: how long to a false alarm, how long to a true one, beside the best that
//! can be done.
//!
//! ```text
//! cargo run --release -p suture-benches --bin drift                # everything, three minutes
//! cargo run --release -p suture-benches --bin drift -- --runs 100  # quicker and rougher
//! cargo run --release -p suture-benches --bin drift -- --calibrate # the table of the mixture's thresholds
//! ```
//!
//! Shifts are in standard deviations of the stream. The optimum is the CUSUM of log-likelihood ratios that knows the
//! stream, its parameters and the very shift, with the threshold that gives it the same simulated run length. Delays are
//! means over runs whose change comes at the first sample (`at once`, the worst case for a CUSUM, and where nothing has to
//! be learned) or after 200 in control (`later`).

use std::{env, hint::black_box, time::Instant};

use suture_detect::drift::{
    Adwin, Baseline, BaselineOptions, Cusum, Drift, DriftOptions, Kswin, MixtureCusum, PageHinkley, Population, Sides,
};

const SHIFTS: [f64; 4] = [0.5, 1.0, 2.0, 3.0];
const RUN_LENGTHS: [f64; 3] = [1e3, 1e4, 1e5];
/// In control before a change, where it comes later; and samples to learn from, where there is something to learn.
const BEFORE: usize = 200;
const WARM_UP: u32 = 1_000;
const DAY: f64 = 288.0;

type Answer<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Answer<()> {
    let mut words = env::args().skip(1);
    let (mut runs, mut seed) = (400_u32, 1_u64);
    while let Some(word) = words.next() {
        let mut number = || words.next().ok_or_else(|| format!("{word} needs a number"));
        match word.as_str() {
            "--runs" => runs = number()?.parse()?,
            "--seed" => seed = number()?.parse()?,
            "--calibrate" => return calibrate(),
            _ => return Err(format!("unknown argument {word}: use --runs N, --seed N or --calibrate").into()),
        }
    }
    println!(
        "run lengths over {runs} runs (standard error {:.1}%), delays over twice as many\n",
        100.0 / f64::from(runs).sqrt()
    );
    mixture_table(runs, seed)?;
    stream_table(runs, seed)?;
    others_table(runs, seed)?;
    prices()
}

/// SplitMix64 and Marsaglia's polar method.
struct Random {
    state: u64,
    spare: Option<f64>,
}

impl Random {
    fn new(seed: u64) -> Self {
        let mut random = Self {
            state: seed,
            spare: None,
        };
        // seeds in a row would give streams that are shifts of each other
        random.state = random.bits() ^ random.bits().rotate_left(17);
        random
    }

    fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn unit(&mut self) -> f64 {
        ((self.bits() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        if let Some(value) = self.spare.take() {
            return value;
        }
        loop {
            let (x, y) = (2.0 * self.unit() - 1.0, 2.0 * self.unit() - 1.0);
            let square = x * x + y * y;
            if square < 1.0 && square > 0.0 {
                let scale = (-2.0 * square.ln() / square).sqrt();
                self.spare = Some(y * scale);
                return x * scale;
            }
        }
    }

    /// Student-t with five degrees of freedom, scaled to a standard deviation of 1.
    fn student(&mut self) -> f64 {
        let gamma = -2.0 * (self.unit() * self.unit()).ln() + self.normal().powi(2);
        self.normal() / (gamma / 5.0).sqrt() * (3.0_f64 / 5.0).sqrt()
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Gaussian,
    Autoregressive(f64),
    Student,
    Seasonal,
}

/// A stream of standard deviation 1 (about its season), shifted from some sample on.
struct Stream {
    kind: Kind,
    random: Random,
    at: f64,
    last: f64,
}

impl Stream {
    fn new(kind: Kind, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let last = random.normal();
        Self {
            kind,
            random,
            at: 0.0,
            last,
        }
    }

    fn next(&mut self, shift: f64) -> f64 {
        self.at += 1.0;
        shift
            + match self.kind {
                Kind::Gaussian => self.random.normal(),
                Kind::Autoregressive(memory) => {
                    self.last = memory * self.last + (1.0 - memory * memory).sqrt() * self.random.normal();
                    self.last
                }
                Kind::Student => self.random.student(),
                Kind::Seasonal => self.season() + self.random.normal(),
            }
    }

    fn season(&self) -> f64 {
        2.0 * (std::f64::consts::TAU * self.at / DAY).sin()
    }
}

/// The CUSUM that knows everything.
struct Oracle {
    kind: Kind,
    shift: f64,
    sum: f64,
    last: Option<f64>,
}

impl Oracle {
    fn new(kind: Kind, shift: f64) -> Self {
        Self {
            kind,
            shift,
            sum: 0.0,
            last: None,
        }
    }

    fn add(&mut self, value: f64, season: f64) -> f64 {
        let shift = self.shift;
        let ratio = match self.kind {
            Kind::Gaussian => shift * (value - 0.5 * shift),
            Kind::Seasonal => shift * (value - season - 0.5 * shift),
            Kind::Student => {
                let part = |x: f64| (1.0 + x * x / 3.0).ln();
                3.0 * (part(value) - part(value - shift))
            }
            Kind::Autoregressive(memory) => {
                // the errors' shift, in their standard deviation, once the last value is shifted too
                let deviation = (1.0 - memory * memory).sqrt();
                let error = (value - memory * self.last.unwrap_or(0.0)) / deviation;
                let shift = shift * (1.0 - memory) / deviation;
                self.last = Some(value);
                shift * (error - 0.5 * shift)
            }
        };
        self.sum = (self.sum + ratio).max(0.0);
        self.sum
    }
}

/// Mean number of samples to an alarm that `fires` tells, over runs from `seed` on.
fn mean_run(runs: u32, seed: u64, mut run: impl FnMut(u64) -> Option<u32>) -> f64 {
    let mut lengths = (0..).filter_map(|i| run(seed.wrapping_mul(1_000_003) + i));
    (0..runs).filter_map(|_| lengths.next()).map(f64::from).sum::<f64>() / f64::from(runs)
}

/// Samples from the change to the alarm; none where there was one before.
fn delay(stream: &mut Stream, before: usize, shift: f64, mut fires: impl FnMut(f64, f64) -> bool) -> Option<u32> {
    for _ in 0..before {
        let value = stream.next(0.0);
        if fires(value, stream.season()) {
            return None;
        }
    }
    (1..).find(|_| {
        let value = stream.next(shift);
        fires(value, stream.season())
    })
}

/// The thresholds that give run lengths, by running until the largest that is needed and noting each passage.
fn oracle_thresholds(kind: Kind, shift: f64, lengths: &[f64], runs: u32, seed: u64) -> Vec<f64> {
    let grid: Vec<f64> = (0..160).map(|i| 0.5 + 0.1 * f64::from(i)).collect();
    let longest = lengths.iter().copied().fold(0.0, f64::max);
    let mut totals = vec![0.0; grid.len()];
    let mut reached = grid.len();
    for run in 0..u64::from(runs) {
        let mut stream = Stream::new(kind, seed.wrapping_mul(7_777_777) + run);
        let mut oracle = Oracle::new(kind, shift);
        let (mut passed, mut at) = (0, 0.0);
        while passed < reached {
            at += 1.0;
            let value = stream.next(0.0);
            let sum = oracle.add(value, stream.season());
            while passed < reached && sum >= grid[passed] {
                totals[passed] += at;
                passed += 1;
            }
            // what lies far above the longest run length isn't needed
            if at > 20.0 * longest {
                reached = passed;
            }
        }
        if run == 19 {
            let above = totals[..reached].partition_point(|total| *total < 40.0 * longest);
            reached = reached.min(above + 1);
        }
    }
    let of = |length: f64| {
        let wanted = length * f64::from(runs);
        let above = totals[..reached]
            .partition_point(|total| *total < wanted)
            .clamp(1, reached - 1);
        let (low, high) = (totals[above - 1].ln(), totals[above].ln());
        grid[above - 1] + 0.1 * ((wanted.ln() - low) / (high - low)).clamp(0.0, 1.0)
    };
    lengths.iter().map(|length| of(*length)).collect()
}

/// The mixture on unit Gaussian input with known parameters.
fn mixture_table(runs: u32, seed: u64) -> Answer<()> {
    println!(
        "Mixture of CUSUMs, unit Gaussian, parameters known: run length, and delay over that of the optimal CUSUM"
    );
    println!(
        "{:<6} {:>8} {:>9} | shift: delay, over the optimum, at once (later)",
        "sides", "asked", "measured"
    );
    for (name, sides) in [("one", Sides::Up), ("both", Sides::Both)] {
        for asked in RUN_LENGTHS {
            let mixture = MixtureCusum::new(asked, sides)?;
            let measured = mean_run(4 * runs, seed, |seed| {
                let (mut stream, mut test) = (Stream::new(Kind::Gaussian, seed), mixture.clone());
                delay(&mut stream, 0, 0.0, |value, _| test.update(value).is_some())
            });
            print!("{name:<6} {asked:>8} {measured:>9.0} |");
            for shift in SHIFTS {
                let optimum = Cusum::tuned(shift, asked, sides)?;
                let of = |before: usize, best: bool| {
                    mean_run(20 * runs, seed + 1, |seed| {
                        let mut stream = Stream::new(Kind::Gaussian, seed);
                        let (mut test, mut optimum) = (mixture.clone(), optimum.clone());
                        delay(&mut stream, before, shift, |value, _| {
                            if best {
                                optimum.update(value).is_some()
                            } else {
                                test.update(value).is_some()
                            }
                        })
                    })
                };
                let (once, later) = (of(0, false), of(BEFORE, false));
                print!(
                    "  {shift}: {once:.2} {:.3} ({:.3})",
                    once / of(0, true),
                    later / of(BEFORE, true)
                );
            }
            println!();
        }
    }
    println!();
    Ok(())
}

fn drift(kind: Kind, asked: f64, known: bool) -> Answer<Drift> {
    if known {
        return Ok(Drift::with_baseline(Baseline::known(0.0, 1.0), asked, Sides::Up)?);
    }
    let period = (kind == Kind::Seasonal).then_some(DAY);
    let baseline = BaselineOptions {
        warm_up: WARM_UP,
        period,
        ..BaselineOptions::default()
    };
    Ok(Drift::new(&DriftOptions {
        arl: asked,
        sides: Sides::Up,
        baseline,
        relearn: false,
    })?)
}

/// What the whole detector does on each stream with nothing known in advance.
fn stream_table(runs: u32, seed: u64) -> Answer<()> {
    println!(
        "Drift, upward, level, spread, autocorrelation, season and tails learned from {WARM_UP} samples: run length, and"
    );
    println!("delay over that of the CUSUM that knows the stream and the shift, {BEFORE} samples after the warm-up");
    println!(
        "{:<14} {:>8} {:>9} {:>7} | shift: delay, over the optimum",
        "stream", "asked", "measured", "share"
    );
    for (name, kind) in [
        ("Gaussian", Kind::Gaussian),
        ("AR(1) 0.5", Kind::Autoregressive(0.5)),
        ("AR(1) 0.8", Kind::Autoregressive(0.8)),
        ("Student-t(5)", Kind::Student),
        ("seasonal", Kind::Seasonal),
    ] {
        let thresholds: Vec<Vec<f64>> = SHIFTS
            .iter()
            .map(|shift| oracle_thresholds(kind, *shift, &RUN_LENGTHS, runs, seed))
            .collect();
        for (nth, asked) in RUN_LENGTHS.into_iter().enumerate() {
            let fresh = drift(kind, asked, false)?;
            let warm = WARM_UP as usize;
            let measured = mean_run(runs, seed, |seed| {
                let (mut stream, mut test) = (Stream::new(kind, seed), fresh.clone());
                delay(&mut stream, warm, 0.0, |value, _| test.update(value).is_some())
            });
            print!("{name:<14} {asked:>8} {measured:>9.0} {:>7.2} |", measured / asked);
            for (shift, thresholds) in SHIFTS.into_iter().zip(&thresholds) {
                let found = mean_run(2 * runs, seed + 1, |seed| {
                    let (mut stream, mut test) = (Stream::new(kind, seed), fresh.clone());
                    delay(&mut stream, warm + BEFORE, shift, |value, _| {
                        test.update(value).is_some()
                    })
                });
                let best = mean_run(4 * runs, seed + 1, |seed| {
                    let (mut stream, mut oracle) = (Stream::new(kind, seed), Oracle::new(kind, shift));
                    delay(&mut stream, BEFORE, shift, |value, season| {
                        oracle.add(value, season) >= thresholds[nth]
                    })
                });
                print!("  {shift}: {found:.1} {:.2}", found / best);
            }
            println!();
        }
    }
    println!();
    Ok(())
}

/// The field's other detectors as they are usually set, beside the optimal CUSUM at the run length they turn out to have.
fn others_table(runs: u32, seed: u64) -> Answer<()> {
    println!(
        "Others on unit Gaussian input, at the run length that their settings give, over the two-sided optimal CUSUM at"
    );
    println!("that run length, {BEFORE} samples in control before");
    type Fires = Box<dyn FnMut(f64) -> bool>;
    type Make = Box<dyn Fn() -> Answer<Fires>>;
    let others: [(&str, Make); 4] = [
        (
            "Page-Hinkley(0.25, 12)",
            Box::new(|| {
                let mut test = PageHinkley::new(0.25, 12.0, 30, Sides::Both);
                Ok(Box::new(move |value| test.update(value).is_some()))
            }),
        ),
        (
            "ADWIN(0.2)",
            Box::new(|| {
                let mut test = Adwin::new(0.2)?;
                Ok(Box::new(move |value| test.update(value).is_some()))
            }),
        ),
        (
            "KSWIN(0.005, 100, 30)",
            Box::new(|| {
                let mut test = Kswin::new(0.005, 100, 30)?;
                Ok(Box::new(move |value| test.update(value).is_some()))
            }),
        ),
        (
            "Population(1000, 50, 5)",
            Box::new(|| {
                let mut test = Population::new(1000, 50, 5, 1000.0)?;
                Ok(Box::new(move |value| test.update(value).is_some_and(|c| c.drifted)))
            }),
        ),
    ];
    for (name, make) in others {
        drop(make()?);
        let before = if name.starts_with("Pop") { 1000 } else { 0 };
        let run = |before: usize, shift: f64, runs: u32| {
            mean_run(runs, seed, |seed| {
                let mut fires = make().ok()?;
                let mut stream = Stream::new(Kind::Gaussian, seed);
                let mut count = 0_u32;
                // no alarm in a hundred thousand samples counts as one there
                delay(&mut stream, before, shift, |value, _| {
                    count += 1;
                    fires(value) || count > 100_000
                })
            })
        };
        let runs = (runs / 4).max(20);
        let measured = run(before, 0.0, runs);
        print!("{name:<24} {measured:>7.0} |");
        for shift in SHIFTS {
            let optimum = Cusum::tuned(shift, measured, Sides::Both)?;
            let best = mean_run(8 * runs, seed, |seed| {
                let (mut stream, mut optimum) = (Stream::new(Kind::Gaussian, seed), optimum.clone());
                delay(&mut stream, BEFORE, shift, |value, _| optimum.update(value).is_some())
            });
            let found = run(before + BEFORE, shift, 2 * runs);
            print!("  {shift}: {found:.1} {:.2}", found / best);
        }
        println!();
    }
    println!();
    Ok(())
}

/// What an update costs.
fn prices() -> Answer<()> {
    let mut random = Random::new(3);
    let values: Vec<f64> = (0..1 << 16).map(|_| random.normal()).collect();
    // the quickest of many short stretches: what else the machine does falls between them
    let time = |name: &str, bytes: usize, update: &mut dyn FnMut(f64)| {
        let stretches = values.chunks(1024).map(|stretch| {
            let start = Instant::now();
            stretch.iter().for_each(|value| update(*value));
            start.elapsed().as_secs_f64() * 1e9 / stretch.len() as f64
        });
        // what warms up or fills its window first is not the price
        let nanos = stretches.skip(8).fold(f64::INFINITY, f64::min);
        println!("{name:<28} {nanos:>8.1} ns an update, {bytes:>4} bytes and what it keeps on the heap");
    };
    println!("Prices");
    let mut cusum = Cusum::new(0.5, 1e9, Sides::Both);
    time("Cusum, both sides", size_of::<Cusum>(), &mut |v| {
        _ = black_box(cusum.update(v))
    });
    for (name, sides) in [
        ("MixtureCusum, one side", Sides::Up),
        ("MixtureCusum, both sides", Sides::Both),
    ] {
        let mut mixture = MixtureCusum::new(1e9, sides)?;
        time(name, size_of::<MixtureCusum>(), &mut |v| {
            _ = black_box(mixture.update(v))
        });
    }
    for (name, order, period) in [
        ("Baseline, order 0", 0, None),
        ("Baseline, order 1", 1, None),
        ("Baseline, order 1, season", 1, Some(DAY)),
    ] {
        let options = BaselineOptions {
            order,
            period,
            warm_up: WARM_UP,
            ..BaselineOptions::default()
        };
        let mut baseline = Baseline::learned(&options);
        time(name, size_of::<Baseline>(), &mut |v| _ = black_box(baseline.score(v)));
    }
    let mut test = PageHinkley::new(0.25, 1e9, 30, Sides::Both);
    time("PageHinkley", size_of::<PageHinkley>(), &mut |v| {
        _ = black_box(test.update(v))
    });
    let mut test = Adwin::new(0.002)?;
    time("Adwin", size_of::<Adwin>(), &mut |v| _ = black_box(test.update(v)));
    let mut test = Kswin::new(1e-5, 100, 30)?;
    time("Kswin, 30 of 100", size_of::<Kswin>(), &mut |v| {
        _ = black_box(test.update(v))
    });
    let mut test = Population::new(1000, 200, 10, 1e6)?;
    time("Population, 10 bins", size_of::<Population>(), &mut |v| {
        _ = black_box(test.update(v))
    });
    Ok(())
}

/// Prints the rows of the mixture's table of thresholds.
fn calibrate() -> Answer<()> {
    let heights: Vec<f64> = (1..=11).map(f64::from).collect();
    let mut columns = [vec![0.0; heights.len()], vec![0.0; heights.len()]];
    for (column, sides) in columns.iter_mut().zip([Sides::Up, Sides::Both]) {
        for (from, to, runs) in [(0, 9, 20_000_u32), (9, 11, 4_000)] {
            for run in 0..runs {
                let mut random = Random::new(u64::from(run) + 1_000_000 * to as u64);
                let mut mixture = MixtureCusum::with_threshold(1.0, sides);
                let (mut at, mut passed) = (0_u32, 0);
                while passed < to {
                    at += 1;
                    let Some((mean, _)) = mixture.add(random.normal()) else {
                        continue;
                    };
                    while passed < to && mean.ln() >= heights[passed] {
                        if passed >= from {
                            column[passed] += f64::from(at) / f64::from(runs);
                        }
                        passed += 1;
                    }
                }
            }
        }
    }
    for (row, height) in heights.iter().enumerate() {
        println!(
            "    [{height:.1}, {:.4}, {:.4}],",
            columns[0][row].ln(),
            columns[1][row].ln()
        );
    }
    Ok(())
}
