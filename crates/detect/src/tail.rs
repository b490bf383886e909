//! What a distance means as a probability: the tail of a detector's own past distances.
//!
//! Distances beyond a high quantile are taken to fall off as a Student-t does, as a power of the distance. The power is
//! learned from the excesses (B. M. Hill, "A simple general approach to inference about the tail of a distribution",
//! Annals of Statistics 3, 1975), starting from a cautious prior, so that a burst in a series that often bursts is worth
//! less than the same burst in a calm one. A distance no larger than one seen before is never less likely than once in
//! what was seen, whatever the fit says.

use crate::state::columns;

/// Share of distances beyond the quantile that is tracked.
const BEYOND: f64 = 0.03;
/// The quantile is never taken to be less than this many standard deviations.
const LEAST_QUANTILE: f64 = 1.5;
/// Prior of the tail's index (the inverse of the power) and what it weighs, in excesses.
const PRIOR_INDEX: f64 = 0.25;
const PRIOR_WEIGHT: f64 = 10.0;
/// Excesses remembered.
const MEMORY: f64 = 150.0;
const INDEX: (f64, f64) = (0.12, 1.2);
/// Windows remembered of the rate and of the largest distance.
const LONG: f64 = 4_000.0;

columns! {
    /// One tail a series.
    pub(crate) struct Tails {
        /// Distances learned.
        count: u32 = 0,
        /// Excesses learned.
        beyond: u32 = 0,
        /// Quantile of the distances that a share of [`BEYOND`] is beyond.
        quantile: f64 = 3.0,
        /// Share of distances found beyond it.
        rate: f64 = BEYOND,
        /// Mean logarithm of the excess ratio.
        index: f64 = PRIOR_INDEX,
        /// Largest distance of late.
        record: f64 = 0.0,
    }
}

impl Tails {
    /// Probability of a distance of `z` or more.
    #[inline]
    pub(crate) fn probability(&self, row: usize, z: f64) -> f64 {
        let fitted = self.fitted(row, z);
        if z > self.quantile[row] && z <= 1.05 * self.record[row] {
            fitted.max(1.0 / (f64::from(self.count[row]).min(LONG) + 2.0))
        } else {
            fitted
        }
    }

    /// The same by the fit alone, which the largest distance seen does not bound.
    #[inline]
    pub(crate) fn fitted(&self, row: usize, z: f64) -> f64 {
        let (u, rate) = (self.quantile[row], self.rate[row]);
        if z.is_nan() || z <= 0.0 {
            return 1.0;
        }
        if z <= u {
            return 1.0 - (1.0 - rate) * z / u;
        }
        rate * (-(z / u).ln() / self.index[row]).exp()
    }

    /// The distance whose probability is `p`.
    #[inline]
    pub(crate) fn distance(&self, row: usize, p: f64) -> f64 {
        let (u, rate) = (self.quantile[row], self.rate[row]);
        let fitted = if p >= rate {
            u * (1.0 - p) / (1.0 - rate)
        } else {
            u * ((rate / p).ln() * self.index[row]).exp()
        };
        if p < 1.0 / (f64::from(self.count[row]).min(LONG) + 2.0) {
            fitted.max(1.05 * self.record[row])
        } else {
            fitted
        }
    }

    /// Takes in one distance.
    #[inline]
    pub(crate) fn learn(&mut self, row: usize, z: f64) {
        if z.is_nan() {
            return;
        }
        let n = f64::from(self.count[row]);
        self.count[row] = self.count[row].saturating_add(1);
        let u = self.quantile[row];
        let gain = 1.0 / (n + 60.0).min(LONG);
        let excess = z > u;
        self.rate[row] += gain * (f64::from(u8::from(excess)) - self.rate[row]);
        let step = (6.0 * gain).min(0.05) * u;
        if excess {
            let k = f64::from(self.beyond[row]);
            self.beyond[row] = self.beyond[row].saturating_add(1);
            let index = self.index[row];
            let ratio = (z / u).ln().min(6.0);
            self.index[row] = (index + (ratio - index) / (k + PRIOR_WEIGHT).min(MEMORY)).clamp(INDEX.0, INDEX.1);
            self.quantile[row] = u + step * (1.0 - BEYOND) / (BEYOND * 8.0);
        } else {
            self.quantile[row] = (u - step / 8.0).max(LEAST_QUANTILE);
        }
        self.record[row] = (self.record[row] * (1.0 - 1.0 / LONG)).max(z);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Standard exponential deviates by inversion of a fixed linear congruence: no crate needed for a smooth stream.
    fn uniforms() -> impl Iterator<Item = f64> {
        let mut state = 0x9E37_79B9_7F4A_7C15u64;
        std::iter::repeat_with(move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
        })
    }

    fn learned(draw: impl Fn(f64) -> f64, n: usize) -> Tails {
        let mut tails = Tails::default();
        tails.push();
        uniforms().take(n).for_each(|u| tails.learn(0, draw(u)));
        tails
    }

    #[test]
    fn a_light_and_a_heavy_tail_are_told_apart() {
        let light = learned(|u| -u.ln(), 20_000);
        let heavy = learned(|u| u.powf(-0.5), 20_000);
        assert!(
            light.index[0] < 0.4 && heavy.index[0] > 0.4,
            "{} {}",
            light.index[0],
            heavy.index[0]
        );
        assert!((light.rate[0] - BEYOND).abs() < 0.01, "{}", light.rate[0]);
        // the true distances at 1e-4 are 9.2 and 100
        assert!(
            (7.0..20.0).contains(&light.distance(0, 1e-4)),
            "{}",
            light.distance(0, 1e-4)
        );
        assert!(
            (60.0..250.0).contains(&heavy.distance(0, 1e-4)),
            "{}",
            heavy.distance(0, 1e-4)
        );
    }

    #[test]
    fn distance_is_the_inverse_of_probability() {
        let tails = learned(|u| -u.ln(), 5_000);
        for p in [0.5, 0.05, 0.01, 1e-5, 1e-9] {
            let z = tails.distance(0, p);
            assert!((tails.probability(0, z * 1.000_001) / p - 1.0).abs() < 0.01 || z <= 1.06 * tails.record[0]);
        }
    }

    #[test]
    fn what_was_seen_before_is_not_called_impossible() {
        let mut tails = learned(|u| -u.ln(), 1_000);
        tails.learn(0, 80.0);
        assert!(tails.probability(0, 80.0) >= 1.0 / 1_100.0);
        assert!(tails.probability(0, 200.0) < 1e-3);
    }
}
