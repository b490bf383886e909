//! Whether an alarm budget is kept: `cargo run --release -p suture-benches --bin budget`.
//!
//! One-minute windows of autocorrelated noise with heavy tails, whose spread doubles in the eleventh of twenty-one weeks.
//! Nothing in them is an anomaly: every alarm is a false one, and the budget says how many are borne. Printed for each way
//! of cutting windows: the mean a week before and after that week, their worst stream, the worst week of all, and in how
//! many streams both means lie within a fifth of the budget and no week is above twice it. `--seeds N` sets how many streams,
//! `--level X` what the noise is around, `--weeks` prints the weeks of the first stream.

use suture_detect::{AlarmBudget, Bank, Column, Options, SequenceMode, SeriesHints};
use suture_event::{AnomalyPhase, SignalKind, Span, Timestamp};

const MINUTE: i64 = 60_000;
const WEEK: usize = 7 * 24 * 60;
const WEEKS: usize = 21;
const BUDGET: f64 = 5.0;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str, default: f64| {
        let at = arguments.iter().position(|a| a == name);
        at.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(default)
    };
    let seeds = number("--seeds", 20.0) as u64;
    let level = number("--level", 0.0);
    println!(
        "alarms a week under a budget of {BUDGET}; AR(1) 0.8, Student-t(5), spread doubles in week 11; {seeds} streams"
    );
    println!(
        "{:<34}{:>8}{:>18}{:>8}{:>18}{:>8}{:>8}",
        "", "before", "least..most", "after", "least..most", "worst", "kept"
    );
    for (name, width, mode, share, series) in [
        ("windows of a minute", MINUTE, SequenceMode::Auto, 0.8, 1),
        ("windows, independent noise", MINUTE, SequenceMode::Auto, 0.0, 1),
        ("each sample a window", 0, SequenceMode::Auto, 0.8, 1),
        ("each sample, no sequence model", 0, SequenceMode::Off, 0.8, 1),
        ("ten series under one budget", MINUTE, SequenceMode::Auto, 0.8, 10),
    ] {
        let streams: Vec<Vec<usize>> = (0..seeds)
            .map(|seed| weeks(seed, width, mode, (share, level), series))
            .collect();
        if arguments.iter().any(|a| a == "--weeks") {
            println!("{:?}", streams.first());
        }
        let mean = |weeks: &[usize]| weeks.iter().sum::<usize>() as f64 / weeks.len() as f64;
        let before: Vec<f64> = streams.iter().map(|w| mean(&w[..10])).collect();
        let after: Vec<f64> = streams.iter().map(|w| mean(&w[11..])).collect();
        let worst: Vec<usize> = streams.iter().map(|w| w.iter().copied().max().unwrap_or(0)).collect();
        let near = |m: f64| (m / BUDGET - 1.0).abs() <= 0.2;
        let kept = (0..streams.len())
            .filter(|&i| near(before[i]) && near(after[i]) && worst[i] as f64 <= 2.0 * BUDGET)
            .count();
        let span = |v: &[f64]| {
            let least = v.iter().copied().fold(f64::MAX, f64::min);
            let most = v.iter().copied().fold(0.0, f64::max);
            format!("{least:.1}..{most:.1}")
        };
        let all = |v: &[f64]| v.iter().sum::<f64>() / v.len().max(1) as f64;
        println!(
            "{name:<34}{:>8.2}{:>18}{:>8.2}{:>18}{:>8}{:>5}/{seeds}",
            all(&before),
            span(&before),
            all(&after),
            span(&after),
            worst.iter().max().copied().unwrap_or(0),
            kept,
        );
    }
}

/// Alarms opened in each week of one stream of so many series.
fn weeks(seed: u64, width: i64, mode: SequenceMode, (share, level): (f64, f64), series: u32) -> Vec<usize> {
    let options = Options {
        alarms: Some(AlarmBudget {
            at_most: 5,
            per: Span::from_millis(7 * 86_400_000),
        }),
        sequence: mode,
        ..Options::default()
    };
    let Ok(mut bank) = Bank::new(&options) else {
        return Vec::new();
    };
    for row in 0..series {
        bank.add_series(SeriesHints {
            metric: "m",
            kind: SignalKind::Other,
            counter: false,
            hash: u64::from(row),
        });
    }
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) + 1);
    let rows: Vec<u32> = (0..series).collect();
    let (mut state, mut values) = (vec![0.0; rows.len()], vec![0.0; rows.len()]);
    let (mut episodes, mut counts) = (Vec::new(), vec![0; WEEKS]);
    for i in 0..WEEKS * WEEK {
        let spread = if i >= 10 * WEEK + WEEK / 2 { 2.0 } else { 1.0 };
        for (state, value) in state.iter_mut().zip(&mut values) {
            *state = share * *state + spread * random.student(5);
            *value = level + *state;
        }
        let start = Timestamp::from_millis(1_700_006_400_000 + i64::try_from(i).unwrap_or(0) * MINUTE);
        let end = Timestamp::from_millis(start.as_millis() + width);
        let column = Column {
            start,
            end,
            at: end,
            rows: &rows,
            values: &values,
        };
        episodes.clear();
        bank.update(&column, None, &mut episodes);
        counts[i / WEEK] += episodes.iter().filter(|e| e.phase == AnomalyPhase::Opened).count();
    }
    counts
}

/// `SplitMix64` (G. Steele, D. Lea, C. Flood, 2014).
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        let (u, v) = (1.0 - self.uniform(), self.uniform());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    fn student(&mut self, degrees: u32) -> f64 {
        let squares: f64 = (0..degrees).map(|_| self.normal().powi(2)).sum();
        self.normal() / (squares / f64::from(degrees)).sqrt()
    }
}
