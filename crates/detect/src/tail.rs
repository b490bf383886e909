//! What a distance means as a probability: the tail of a detector's own past distances.
//!
//! Distances beyond a high quantile are taken to fall off as a Student-t does, as a power of the distance. The power is
//! learned from the excesses (B. M. Hill, "A simple general approach to inference about the tail of a distribution",
//! Annals of Statistics 3, 1975), starting from a cautious prior, so that a burst in a series that often bursts is worth
//! less than the same burst in a calm one. A distance no larger than one seen before is never less likely than once in
//! what was seen, whatever the fit says.

// one index into many arrays of the same length, which is what becomes vector instructions
#![allow(clippy::needless_range_loop)]

use crate::{
    fast::{exp, flush, least, ln, most, pick},
    state::{LANES, Lanes, columns},
};

/// Share of distances beyond the quantile that is tracked.
const BEYOND: f32 = 0.03;
/// The quantile is never taken to be less than this many standard deviations.
const LEAST_QUANTILE: f32 = 1.5;
/// Prior of the tail's index (the inverse of the power) and what it weighs, in excesses.
const PRIOR_INDEX: f32 = 0.25;
const PRIOR_WEIGHT: f32 = 10.0;
/// Excesses remembered.
const MEMORY: f32 = 150.0;
const INDEX: (f32, f32) = (0.12, 1.2);
/// Windows remembered of the rate and of the largest distance.
const LONG: f32 = 4_000.0;
const MOST: u16 = 4_000;
/// The share is never taken to be less.
const LEAST_RATE: f32 = 1e-12;

columns! {
    /// One tail a series.
    pub(crate) struct Tails in TailLanes {
        /// Distances learned, counted up to [`MOST`].
        count: u16 = 0,
        /// Excesses learned, as far as they count.
        beyond: u8 = 0,
        /// Quantile of the distances that a share of [`BEYOND`] is beyond.
        quantile: f32 = 3.0,
        /// Share of distances found beyond it.
        rate: f32 = BEYOND,
        /// Mean logarithm of the excess ratio.
        index: f32 = PRIOR_INDEX,
        /// Largest distance of late.
        record: f32 = 0.0,
    }
}

/// A probability, with its logarithm worked out once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Level {
    p: f32,
    ln: f32,
}

impl Level {
    pub(crate) fn new(p: f64) -> Self {
        #[allow(clippy::cast_possible_truncation)] // single precision is what tails are kept in
        let p = (p as f32).max(f32::MIN_POSITIVE);
        Self { p, ln: ln(p) }
    }
}

/// The tail of one series, for what is done to few; blocks of series are worked on in [`TailLanes`], with the same
/// arithmetic.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tail {
    count: u16,
    beyond: u8,
    quantile: f32,
    rate: f32,
    index: f32,
    record: f32,
}

impl Tail {
    /// Probability of a distance of `z` or more by the fit alone, which the largest distance seen does not bound.
    #[inline(always)]
    pub(crate) fn fitted(self, z: f32) -> f32 {
        let ratio = z / self.quantile;
        let far = self.rate * exp(-ln(most(ratio, 1.0)) / self.index);
        let near = 1.0 - (1.0 - self.rate) * ratio;
        let p = if z <= self.quantile { near } else { far };
        if z > 0.0 { p } else { 1.0 }
    }

    /// Probability of a distance of `z` or more.
    fn probability(self, z: f32) -> f32 {
        let fitted = self.fitted(z);
        let known = z > self.quantile && z <= 1.05 * self.record;
        if known { most(fitted, self.once()) } else { fitted }
    }

    /// The probability of what happened once in all that was seen.
    #[inline(always)]
    fn once(self) -> f32 {
        1.0 / (f32::from(self.count) + 2.0)
    }

    /// The distance whose probability is that of the level.
    #[inline(always)]
    pub(crate) fn distance(self, level: Level) -> f32 {
        let near = self.quantile * (1.0 - level.p) / (1.0 - self.rate);
        let far = self.quantile * exp((ln(self.rate) - level.ln) * self.index);
        let fitted = if level.p >= self.rate { near } else { far };
        let seldom = level.p < self.once();
        if seldom {
            most(fitted, 1.05 * self.record)
        } else {
            fitted
        }
    }

    /// The tail after one more distance, which is not NaN.
    #[inline(always)]
    pub(crate) fn learned(self, z: f32) -> Self {
        let n = f32::from(self.count);
        let u = self.quantile;
        let gain = 1.0 / least(n + 60.0, LONG);
        let excess = z > u;
        let step = least(6.0 * gain, 0.05) * u;
        let k = f32::from(self.beyond);
        let ratio = least(ln(most(z / u, 1.0)), 6.0);
        let index = self.index + (ratio - self.index) / least(k + PRIOR_WEIGHT, MEMORY);
        let index = most(least(index, INDEX.1), INDEX.0);
        Self {
            count: if self.count < MOST { self.count + 1 } else { MOST },
            beyond: if excess && self.beyond < u8::MAX {
                self.beyond + 1
            } else {
                self.beyond
            },
            quantile: if excess {
                u + step * (1.0 - BEYOND) / (BEYOND * 8.0)
            } else {
                most(u - step / 8.0, LEAST_QUANTILE)
            },
            rate: most(
                self.rate + gain * (if excess { 1.0 } else { 0.0 } - self.rate),
                LEAST_RATE,
            ),
            index: if excess { index } else { self.index },
            record: flush(most(self.record * (1.0 - 1.0 / LONG), z)),
        }
    }
}

/// The tails of a block of entries, worked on one step at a time.
impl TailLanes {
    /// Probabilities of distances.
    #[inline(never)]
    pub(crate) fn probability(&self, z: &Lanes<f32>, n: usize, out: &mut Lanes<f32>) {
        for i in 0..n.min(LANES) {
            let u = self.quantile[i];
            let ratio = z[i] / u;
            let far = self.rate[i] * exp(-ln(most(ratio, 1.0)) / self.index[i]);
            let near = 1.0 - (1.0 - self.rate[i]) * ratio;
            let p = if z[i] <= u { near } else { far };
            out[i] = if z[i] > 0.0 { p } else { 1.0 };
        }
        for i in 0..n.min(LANES) {
            let once = 1.0 / (f32::from(self.count[i]) + 2.0);
            let known = (z[i] > self.quantile[i]) & (z[i] <= 1.05 * self.record[i]);
            out[i] = if known { most(out[i], once) } else { out[i] };
        }
    }

    /// The distances whose probability is that of the level.
    #[inline(never)]
    pub(crate) fn distance(&self, level: Level, n: usize, out: &mut Lanes<f32>) {
        for i in 0..n.min(LANES) {
            let (u, rate) = (self.quantile[i], self.rate[i]);
            let near = u * (1.0 - level.p) / (1.0 - rate);
            let far = u * exp((ln(rate) - level.ln) * self.index[i]);
            out[i] = if level.p >= rate { near } else { far };
        }
        for i in 0..n.min(LANES) {
            let once = 1.0 / (f32::from(self.count[i]) + 2.0);
            let least = if level.p < once { 1.05 * self.record[i] } else { 0.0 };
            out[i] = most(out[i], least);
        }
    }

    /// Takes in distances, where `learns` is 1 and not 0.
    #[inline(never)]
    pub(crate) fn learn(&mut self, z: &Lanes<f32>, learns: &Lanes<f32>, n: usize) {
        let n = n.min(LANES);
        let (mut seen, mut beyond) = ([0.0_f32; LANES], [0.0_f32; LANES]);
        for i in 0..n {
            seen[i] = f32::from(self.count[i]);
        }
        for i in 0..n {
            beyond[i] = f32::from(self.beyond[i]);
        }
        for i in 0..n {
            let (z, learns, k) = (z[i], learns[i], beyond[i]);
            let (u, old, rate, record) = (self.quantile[i], self.index[i], self.rate[i], self.record[i]);
            let gain = 1.0 / least(seen[i] + 60.0, LONG);
            let excess = if z > u { 1.0 } else { 0.0 };
            let step = least(6.0 * gain, 0.05) * u;
            let ratio = least(ln(most(z / u, 1.0)), 6.0);
            let index = old + (ratio - old) / least(k + PRIOR_WEIGHT, MEMORY);
            let index = most(least(index, INDEX.1), INDEX.0);
            let index = if z > u { index } else { old };
            let higher = u + step * ((1.0 - BEYOND) / (BEYOND * 8.0));
            let lower = most(u - 0.125 * step, LEAST_QUANTILE);
            let quantile = if z > u { higher } else { lower };
            let next_rate = most(rate + gain * (excess - rate), LEAST_RATE);
            let next_record = flush(most(record * (1.0 - 1.0 / LONG), z));
            beyond[i] = learns * excess;
            self.index[i] = pick(learns, index, old);
            self.quantile[i] = pick(learns, quantile, u);
            self.rate[i] = pick(learns, next_rate, rate);
            self.record[i] = pick(learns, next_record, record);
        }
        for i in 0..n {
            let one = u16::from(learns[i] > 0.0);
            self.count[i] += if self.count[i] < MOST { one } else { 0 };
            self.beyond[i] = self.beyond[i].saturating_add(u8::from(beyond[i] > 0.0));
        }
    }
}

#[allow(clippy::cast_possible_truncation)] // single precision is what tails are kept in
impl Tails {
    pub(crate) fn at(&self, row: usize) -> Tail {
        Tail {
            count: self.count[row],
            beyond: self.beyond[row],
            quantile: self.quantile[row],
            rate: self.rate[row],
            index: self.index[row],
            record: self.record[row],
        }
    }

    /// Probability of a distance of `z` or more.
    pub(crate) fn probability(&self, row: usize, z: f64) -> f64 {
        f64::from(self.at(row).probability(z.clamp(-1e12, 1e12) as f32))
    }

    /// The same by the fit alone, which the largest distance seen does not bound.
    pub(crate) fn fitted(&self, row: usize, z: f64) -> f64 {
        f64::from(self.at(row).fitted(z.clamp(-1e12, 1e12) as f32))
    }

    /// The distance whose probability is `p`.
    pub(crate) fn distance(&self, row: usize, p: f64) -> f64 {
        f64::from(self.at(row).distance(Level::new(p)))
    }

    /// Takes in one distance.
    pub(crate) fn learn(&mut self, row: usize, z: f64) {
        if z.is_nan() {
            return;
        }
        let tail = self.at(row).learned(z.clamp(0.0, 1e12) as f32);
        self.count[row] = tail.count;
        self.beyond[row] = tail.beyond;
        self.quantile[row] = tail.quantile;
        self.rate[row] = tail.rate;
        self.index[row] = tail.index;
        self.record[row] = tail.record;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uniforms() -> impl Iterator<Item = f64> {
        let mut noise = suture_testkit::noise::Noise(0x9E37_79B9_7F4A_7C15);
        std::iter::repeat_with(move || noise.uniform())
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
            assert!(
                (tails.probability(0, z * 1.000_001) / p - 1.0).abs() < 0.01 || z <= 1.06 * f64::from(tails.record[0])
            );
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
