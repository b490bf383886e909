use serde::{Deserialize, Serialize};
use statrs::function::erf::erfc;
use suture_event::Direction;

use super::{Shift, Sides, wrong};
use crate::Error;

/// Page's CUSUM for the mean of independent standard normal input: `S = max(0, S + z - k)`, an alarm where `S` reaches
/// `h`. With `k` half the shift, none is faster for that very shift at the same run length (Lorden, Annals of
/// Mathematical Statistics 1971; Moustakides, Annals of Statistics 1986); for others it may be far slower. After an alarm
/// it starts again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cusum {
    sides: Sides,
    reference: f64,
    threshold: f64,
    up: f64,
    down: f64,
    up_samples: u32,
    down_samples: u32,
}

impl Cusum {
    /// The CUSUM that is best for a shift of `shift` standard deviations, with `arl` samples between false alarms. The
    /// threshold is solved for here, which takes some 50 ms: clone the result rather than make many.
    ///
    /// # Errors
    /// [`Error::Options`] where `shift` is not within 0.1 and 6 or `arl` not within 10 and 1e9.
    pub fn tuned(shift: f64, arl: f64, sides: Sides) -> Result<Self, Error> {
        if !(0.1..=6.0).contains(&shift) {
            return Err(wrong(
                "shift",
                format!("{shift} is out of range"),
                "write 0.1 to 6 standard deviations",
            ));
        }
        if !(10.0..=1e9).contains(&arl) {
            return Err(wrong(
                "arl",
                format!("{arl} is out of range"),
                "write 10 to 1e9 samples between false alarms",
            ));
        }
        // two one-sided alarms, hardly ever near each other, each half as often
        let each = if sides == Sides::Both { 2.0 * arl } else { arl };
        let (mut low, mut high) = (1e-3, (each.ln() + 3.0) / shift + 1.0);
        for _ in 0..50 {
            let middle = 0.5 * (low + high);
            if run_length(shift / 2.0, middle, 0.0) < each {
                low = middle
            } else {
                high = middle
            }
        }
        Ok(Self::new(shift / 2.0, 0.5 * (low + high), sides))
    }

    /// With a reference value `k` and a threshold `h`, both in standard deviations.
    #[must_use]
    pub fn new(reference: f64, threshold: f64, sides: Sides) -> Self {
        Self {
            sides,
            reference,
            threshold,
            up: 0.0,
            down: 0.0,
            up_samples: 0,
            down_samples: 0,
        }
    }

    /// The threshold `h`.
    #[must_use]
    pub fn threshold(&self) -> f64 {
        self.threshold
    }

    /// Takes one sample in; NaN is passed over.
    #[inline]
    pub fn update(&mut self, z: f64) -> Option<Shift> {
        if z.is_nan() {
            return None;
        }
        if self.sides != Sides::Down {
            self.up_samples = if self.up > 0.0 {
                self.up_samples.saturating_add(1)
            } else {
                1
            };
            self.up = (self.up + z - self.reference).max(0.0);
        }
        if self.sides != Sides::Up {
            self.down_samples = if self.down > 0.0 {
                self.down_samples.saturating_add(1)
            } else {
                1
            };
            self.down = (self.down - z - self.reference).max(0.0);
        }
        let (sum, direction, samples) = if self.up >= self.down {
            (self.up, Direction::Up, self.up_samples)
        } else {
            (self.down, Direction::Down, self.down_samples)
        };
        if sum < self.threshold {
            return None;
        }
        (self.up, self.down) = (0.0, 0.0);
        Some(Shift {
            direction,
            strength: sum / self.threshold,
            samples,
        })
    }
}

fn normal_cdf(x: f64) -> f64 {
    0.5 * erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
}

/// Mean run length of a one-sided CUSUM from 0 when the input's mean is `mean`: Brook and Evans' Markov chain
/// (Biometrika 1972) on as many states as make it exact to some 0.1% up to a threshold of 15.
fn run_length(reference: f64, threshold: f64, mean: f64) -> f64 {
    const STATES: usize = 100;
    let width = 2.0 * threshold / (2.0 * STATES as f64 - 1.0);
    let cdf = |x: f64| normal_cdf(x + reference - mean);
    // (I - P) L = 1
    let mut rows: Vec<Vec<f64>> = (0..STATES)
        .map(|from| {
            let at = from as f64 * width;
            let mut row: Vec<f64> = (0..STATES)
                .map(|to| {
                    let upper = cdf((to as f64 + 0.5) * width - at);
                    let lower = if to == 0 {
                        0.0
                    } else {
                        cdf((to as f64 - 0.5) * width - at)
                    };
                    f64::from(u8::from(from == to)) - (upper - lower)
                })
                .collect();
            row.push(1.0);
            row
        })
        .collect();
    // strictly diagonally dominant, so no pivoting is needed
    for pivot in 0..STATES {
        let (done, rest) = rows.split_at_mut(pivot + 1);
        let base = &done[pivot];
        for row in rest {
            let factor = row[pivot] / base[pivot];
            for (entry, from) in row[pivot..].iter_mut().zip(&base[pivot..]) {
                *entry -= factor * from;
            }
        }
    }
    let mut lengths = vec![0.0; STATES];
    for pivot in (0..STATES).rev() {
        let known: f64 = rows[pivot][pivot + 1..STATES]
            .iter()
            .zip(&lengths[pivot + 1..])
            .map(|(p, l)| p * l)
            .sum();
        lengths[pivot] = (rows[pivot][STATES] - known) / rows[pivot][pivot];
    }
    lengths[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_lengths_are_those_of_the_tables() {
        // one-sided values for k = 0.5: Lucas and Crosier, Technometrics 1982, after doubling their two-sided ones
        for (threshold, mean, expected) in [(4.0, 0.0, 336.0), (5.0, 0.0, 930.0), (4.0, 1.0, 8.38), (5.0, 1.0, 10.4)] {
            let found = run_length(0.5, threshold, mean);
            assert!((found / expected - 1.0).abs() < 0.01, "{threshold} {mean}: {found}");
        }
    }

    #[test]
    fn tuning_finds_the_threshold_of_the_run_length() {
        let cusum = Cusum::tuned(1.0, 465.0, Sides::Both).unwrap();
        assert!((cusum.threshold() - 5.0).abs() < 0.01, "{}", cusum.threshold());
        for shift in [0.5, 1.0, 2.0, 3.0] {
            let cusum = Cusum::tuned(shift, 1e5, Sides::Up).unwrap();
            let found = run_length(shift / 2.0, cusum.threshold(), 0.0);
            assert!((found / 1e5 - 1.0).abs() < 1e-3, "{shift}: {found}");
        }
        assert!(Cusum::tuned(0.0, 1e3, Sides::Up).is_err() && Cusum::tuned(1.0, 1.0, Sides::Up).is_err());
    }
}
