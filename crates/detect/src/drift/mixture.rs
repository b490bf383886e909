use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use suture_event::Direction;

use super::{calibration, wrong};
use crate::Error;

/// Which shifts are looked for. Looking at both sides costs a bit of delay at the same average run length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sides {
    /// Upward only.
    Up,
    /// Downward only.
    Down,
    /// Upward and downward.
    #[default]
    Both,
}

/// A shift that was found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Shift {
    /// Where to.
    pub direction: Direction,
    /// The statistic over the threshold it had to pass, at least 1.
    pub strength: f64,
    /// For how many samples, this one included, the evidence has been adding up: an estimate of when it began.
    pub samples: u32,
}

/// The shifts, in standard deviations, that the mixture is made of. Each doubles the one before, so that one `exp` gives
/// all likelihood ratios; what lies between and above is covered by its neighbours.
const SHIFTS: [f64; 3] = [0.6, 1.2, 2.4];

/// A CUSUM for every size of shift: the mean of the likelihood-ratio CUSUMs for several shifts, against one threshold that
/// was calibrated for the mixture.
///
/// `C_i = max(1, C_i) exp(d_i z - d_i^2 / 2)` for each shift `d_i`, and an alarm where the mean of the `C_i` passes the
/// threshold; for both sides, one such statistic a side. After an alarm it starts again. Input must be independent
/// standard normal for the average run length to hold; it need be nothing but finite to be safe.
///
/// Measured against the CUSUM tuned to the very shift at the same run length (1,000 to 100,000): the mean delay is 1.20 to
/// 1.26 times as long at half a standard deviation, 1.04 to 1.08 at one and two, 1.08 to 1.13 at three. Shifts below
/// 0.3 are found late: that is what the smallest part costs. One `exp` a sample and side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MixtureCusum {
    up: Option<Side>,
    down: Option<Side>,
    /// The sum of the parts at which it fires.
    threshold: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Side {
    parts: [f64; 3],
    /// For how many samples each part has been above 1.
    samples: [u32; 3],
}

impl Side {
    /// Takes one sample in and gives the sum of the parts.
    #[inline]
    fn add(&mut self, z: f64) -> f64 {
        let first = (SHIFTS[0] * z).exp();
        let second = first * first;
        let ratios = [first * GAINS[0], second * GAINS[1], second * second * GAINS[2]];
        let mut sum = 0.0;
        for ((part, samples), ratio) in self.parts.iter_mut().zip(&mut self.samples).zip(ratios) {
            *samples = if *part > 1.0 { samples.saturating_add(1) } else { 1 };
            *part = part.max(1.0) * ratio;
            sum += *part;
        }
        sum
    }

    fn found(&mut self, direction: Direction, strength: f64) -> Shift {
        let largest = (0..3)
            .max_by(|&a, &b| self.parts[a].total_cmp(&self.parts[b]))
            .unwrap_or(0);
        let samples = self.samples[largest];
        *self = Self::default();
        Shift {
            direction,
            strength,
            samples,
        }
    }
}

/// `exp(-d^2 / 2)` for each of the shifts.
const GAINS: [f64; 3] = [
    0.835_270_211_411_272,
    0.486_752_255_959_971_6,
    0.056_134_762_834_133_725,
];

/// Beyond, a likelihood ratio says no more than "for sure", and its powers would overflow.
const FARTHEST: f64 = 30.0;

impl MixtureCusum {
    /// With the threshold that gives `arl` samples between false alarms on independent standard normal input.
    ///
    /// # Errors
    /// [`Error::Options`] where `arl` is not within 100 and 1e9.
    pub fn new(arl: f64, sides: Sides) -> Result<Self, Error> {
        if !(100.0..=1e9).contains(&arl) {
            return Err(wrong(
                "arl",
                format!("{arl} is out of range"),
                "write 100 to 1e9 samples between false alarms",
            ));
        }
        Ok(Self::with_threshold(
            calibration::mixture_threshold(arl, sides != Sides::Both),
            sides,
        ))
    }

    /// With a threshold on the mean of the likelihood-ratio CUSUMs.
    #[must_use]
    pub fn with_threshold(threshold: f64, sides: Sides) -> Self {
        Self {
            up: (sides != Sides::Down).then(Side::default),
            down: (sides != Sides::Up).then(Side::default),
            threshold: threshold * SHIFTS.len() as f64,
        }
    }

    /// Takes one sample in; NaN is passed over.
    #[inline]
    pub fn update(&mut self, z: f64) -> Option<Shift> {
        let (strength, direction) = self.add(z)?;
        if strength < 1.0 {
            return None;
        }
        let side = if direction == Direction::Up {
            &mut self.up
        } else {
            &mut self.down
        };
        let found = side.as_mut().map(|side| side.found(direction, strength));
        self.restart();
        found
    }

    /// Takes one sample in without ever firing or starting again: the larger side's statistic over the threshold, and
    /// which side that is.
    #[inline]
    pub fn add(&mut self, z: f64) -> Option<(f64, Direction)> {
        if z.is_nan() {
            return None;
        }
        let z = z.clamp(-FARTHEST, FARTHEST);
        let up = self.up.as_mut().map_or(0.0, |side| side.add(z));
        let down = self.down.as_mut().map_or(0.0, |side| side.add(-z));
        let (sum, direction) = if up >= down {
            (up, Direction::Up)
        } else {
            (down, Direction::Down)
        };
        Some((sum / self.threshold, direction))
    }

    /// Forgets the evidence so far.
    pub fn restart(&mut self) {
        for side in [&mut self.up, &mut self.down].into_iter().flatten() {
            *side = Side::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::random::Random;

    #[test]
    fn the_gains_are_those_of_the_shifts() {
        for (gain, shift) in GAINS.into_iter().zip(SHIFTS) {
            assert!((gain - (-0.5 * shift * shift).exp()).abs() < 1e-15, "{gain} {shift}");
        }
    }

    #[test]
    fn a_shift_is_found_with_its_side_and_about_when_it_began() {
        let mut random = Random::new(7);
        for (shift, direction) in [(1.0, Direction::Up), (-1.0, Direction::Down)] {
            let mut cusum = MixtureCusum::new(1e5, Sides::Both).unwrap();
            for _ in 0..500 {
                assert_eq!(cusum.update(random.normal()), None);
            }
            let (after, found) = (1_u32..)
                .find_map(|n| Some((n, cusum.update(random.normal() + shift)?)))
                .unwrap();
            assert_eq!(found.direction, direction);
            assert!(after < 60 && found.samples.abs_diff(after) < 15, "{after} {found:?}");
        }
    }

    #[test]
    fn the_run_length_is_what_was_asked() {
        let mut random = Random::new(11);
        for sides in [Sides::Up, Sides::Down, Sides::Both] {
            let mut cusum = MixtureCusum::new(500.0, sides).unwrap();
            let samples = 1_500_000;
            let alarms = (0..samples).filter(|_| cusum.update(random.normal()).is_some()).count();
            // 3,000 alarms expected: three standard errors are 5.5%
            let arl = f64::from(samples) / alarms as f64;
            assert!((470.0..530.0).contains(&arl), "{sides:?}: {arl}");
        }
    }

    #[test]
    fn anything_may_come_in() {
        let mut cusum = MixtureCusum::new(1000.0, Sides::Both).unwrap();
        for z in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300, 1e-300, 0.0] {
            assert_eq!(cusum.update(z).is_some(), z.abs() > 1.0, "{z}");
        }
        for _ in 0..1000 {
            let (strength, _) = cusum.add(1e300).unwrap();
            assert!(!strength.is_nan());
        }
        assert!(MixtureCusum::new(10.0, Sides::Up).is_err() && MixtureCusum::new(f64::NAN, Sides::Up).is_err());
    }
}
