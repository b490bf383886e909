//! Bayesian online changepoints: for how long has the series been what it is?
//!
//! R. Adams, D. MacKay, "Bayesian online changepoint detection", 2007: a probability for each length of the run since the
//! last change, of normal values with unknown mean and spread (normal-inverse-gamma), updated with each value. Runs longer
//! than [`LONGEST`] are one, whose mean and spread fade, so that state and work are bounded. How far is how much of the
//! probability is on runs of less than [`RECENT`] values, and what that means is read off the tail of its own past, as the
//! posterior of a wrong model is no frequency. some 4.5 µs an update, 2.4 KiB a series.

use serde::{Deserialize, Serialize};
use statrs::function::gamma::ln_gamma;

use super::boxed::{Found, Model};
use crate::words::number;

/// Longest run that is told apart.
const LONGEST: usize = 96;
/// Runs that are news.
const RECENT: usize = 6;
/// Probability of a change at each value.
const HAZARD: f64 = 1.0 / 250.0;
/// Values that the unit is learned from before anything is said.
const FIRST: u32 = 60;
/// The prior: how many values its mean and its spread are worth.
const PRIOR_MEAN: f64 = 0.02;
const PRIOR_SPREAD: f64 = 1.0;
/// Runs less likely than this are forgotten.
const LEAST: f64 = 1e-12;
/// Values beyond so many units count as so many.
const LARGEST: f64 = 50.0;

/// What is known of one run: its probability, and the mean and the sum of squares of its values.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Run(f64, f64, f64);

/// One series' runs; the n-th has n values.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Changepoint {
    count: u32,
    /// Level and unit that values are measured by, from the first ones.
    level: f64,
    unit: f64,
    runs: Vec<Run>,
    /// Probability of a recent change, after the last value.
    recent: f64,
    /// The mean before, in the metric's unit.
    before: f64,
}

impl Changepoint {
    pub(crate) fn new() -> Self {
        Self {
            count: 0,
            level: 0.0,
            unit: 0.0,
            runs: Vec::new(),
            recent: 0.0,
            before: 0.0,
        }
    }

    #[allow(clippy::cast_precision_loss)] // lengths of runs
    fn learn(&mut self, x: f64) {
        let mut all = 0.0;
        let mut changed = 0.0;
        // each run grows by one into the place after its own
        self.runs.push(Run(0.0, 0.0, PRIOR_SPREAD));
        for place in (0..self.runs.len() - 1).rev() {
            let n = place as f64;
            let Run(weight, mean, squares) = self.runs[place];
            if weight < LEAST {
                self.runs[place + 1] = Run(0.0, mean, squares);
                continue;
            }
            let (kappa, shape) = (PRIOR_MEAN + n, 0.5 * (1.0 + n));
            // Student-t with twice the shape in degrees of freedom
            let spread = 0.5 * squares * (kappa + 1.0) / (shape * kappa);
            let off = x - mean;
            let freedom = 2.0 * shape;
            let density =
                (constant(n) - 0.5 * (freedom + 1.0) * (off * off / (freedom * spread)).ln_1p()).exp() / spread.sqrt();
            let joint = weight * density;
            changed += joint * HAZARD;
            all += joint;
            self.runs[place + 1] = Run(
                joint * (1.0 - HAZARD),
                mean + off / (kappa + 1.0),
                squares + off * off * kappa / (kappa + 1.0),
            );
        }
        if all <= 0.0 || !all.is_finite() {
            // nothing that was known makes sense of the value
            self.runs.truncate(1);
            self.runs[0] = Run(1.0, 0.0, PRIOR_SPREAD);
            self.recent = 1.0;
            return;
        }
        let next = &mut self.runs;
        next[0] = Run(changed, 0.0, PRIOR_SPREAD);
        if next.len() > LONGEST {
            // the two longest are one, which forgets as much as comes in
            let last = next.pop().unwrap_or(Run(0.0, 0.0, PRIOR_SPREAD));
            if let Some(longest) = next.last_mut() {
                let weight = longest.0 + last.0;
                let share = if weight > 0.0 { last.0 / weight } else { 0.0 };
                let fade = LONGEST as f64 / (LONGEST as f64 + 1.0);
                *longest = Run(
                    weight,
                    longest.1 + share * (last.1 - longest.1),
                    (longest.2 + share * (last.2 * fade - longest.2)).max(1e-12),
                );
            }
        }
        for run in next.iter_mut() {
            run.0 /= all;
        }
        self.recent = next.iter().take(RECENT).map(|run| run.0).sum();
    }
}

/// Logarithm of what a Student-t density is in proportion to, for a run of `n` values.
fn constant(n: f64) -> f64 {
    let freedom = 1.0 + n;
    // the ratio of the two gamma functions by its asymptotic series, which is within 1e-3 from two degrees of freedom on
    if n < 2.0 {
        return ln_gamma(0.5 * (freedom + 1.0)) - ln_gamma(0.5 * freedom) - 0.5 * (freedom * std::f64::consts::PI).ln();
    }
    let half = 0.5 * freedom;
    let ratio = 0.5 * (half - 0.25 + 1.0 / (32.0 * half)).ln();
    ratio - 0.5 * (freedom * std::f64::consts::PI).ln()
}

impl Model for Changepoint {
    const BYTES: usize = size_of::<Self>() + (LONGEST + 1) * size_of::<Run>();

    #[allow(clippy::cast_possible_truncation)] // single precision is what distances are kept in
    fn step(&mut self, value: f64, _: bool) -> Found {
        self.count = self.count.saturating_add(1);
        let value = value.clamp(-1e100, 1e100);
        if self.count <= FIRST {
            let n = f64::from(self.count);
            let off = value - self.level;
            self.level += off / n;
            self.unit += ((value - self.level).abs() - self.unit) / n;
            if self.count == FIRST {
                self.unit = (1.2533 * self.unit).max(0.005 * self.level.abs()).max(1e-100);
                self.runs.reserve_exact(LONGEST + 1);
                self.runs.push(Run(1.0, 0.0, PRIOR_SPREAD));
            }
            return Found::NOTHING;
        }
        let x = ((value - self.level) / self.unit).clamp(-LARGEST, LARGEST);
        let longest = self.runs.iter().skip(RECENT).max_by(|a, b| a.0.total_cmp(&b.0));
        let before = longest.map_or(0.0, |run| run.1);
        if self.recent < 0.5 {
            self.before = self.level + self.unit * before;
        }
        self.learn(x);
        if self.count < 2 * FIRST {
            return Found::NOTHING;
        }
        // the odds of a recent change, in nats
        let odds = (self.recent / (1.0 - self.recent).max(1e-12)).ln().clamp(0.0, 30.0);
        let far = odds as f32;
        Found {
            distance: if value < self.before { -far } else { far },
            probability: None,
            inside: self.recent < 0.5,
        }
    }

    fn words(&self, value: f64) -> String {
        format!(
            "a change within the last {RECENT} values, with posterior probability {:.3}: {} now, {} before",
            self.recent,
            number(value),
            number(self.before)
        )
    }

    fn accept(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::Random;

    #[test]
    fn a_change_of_level_or_of_spread_is_seen_within_a_few_values() {
        for (level, spread) in [(4.0, 1.0), (0.0, 6.0)] {
            let mut random = Random::new(3);
            let mut model = Changepoint::new();
            for _ in 0..500 {
                model.step(10.0 + random.normal(), false);
            }
            assert!(model.recent < 0.2, "{}", model.recent);
            let after = (0..30).find(|_| {
                model.step(10.0 + level + spread * random.normal(), false);
                model.recent > 0.8
            });
            assert!(after.is_some_and(|after| after < 12), "{level} {spread}: {after:?}");
        }
    }

    #[test]
    fn probabilities_stay_probabilities_and_runs_are_bounded() {
        let mut model = Changepoint::new();
        for i in 0..2_000 {
            let value = match i % 7 {
                0 => 1e300,
                1 => -1e300,
                2 => 1e-300,
                _ => 5.0,
            };
            let found = model.step(value, false);
            assert!(!found.distance.is_infinite() && (0.0..=1.0 + 1e-9).contains(&model.recent));
            assert!(model.runs.len() <= LONGEST);
        }
        let all: f64 = model.runs.iter().map(|run| run.0).sum();
        assert!((all - 1.0).abs() < 1e-6, "{all}");
    }
}
