use serde::{Deserialize, Serialize};
use suture_event::Direction;

use super::{Shift, Sides};

/// The Page-Hinkley test: a CUSUM against the running mean of all samples since the last alarm, in the series' own unit.
/// After an alarm it starts again.
///
/// Its false alarms depend on the spread and on the autocorrelation of the series, which it knows nothing of; and the
/// running mean takes in the shift that it is to be found against. [`super::Drift`] has neither fault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PageHinkley {
    sides: Sides,
    tolerance: f64,
    threshold: f64,
    least: u32,
    count: u32,
    mean: f64,
    up: f64,
    down: f64,
    samples: [u32; 2],
}

impl PageHinkley {
    /// `tolerance` is how far from the mean is no matter, `threshold` how much beyond it may add up, both in the series'
    /// unit; `least` is the number of samples before the first alarm.
    #[must_use]
    pub fn new(tolerance: f64, threshold: f64, least: u32, sides: Sides) -> Self {
        Self {
            sides,
            tolerance,
            threshold,
            least,
            count: 0,
            mean: 0.0,
            up: 0.0,
            down: 0.0,
            samples: [0; 2],
        }
    }

    /// Takes one sample in; NaN and infinities are passed over.
    pub fn update(&mut self, value: f64) -> Option<Shift> {
        if !value.is_finite() {
            return None;
        }
        self.count = self.count.saturating_add(1);
        self.mean += (value - self.mean) / f64::from(self.count);
        let far = value - self.mean;
        let step = |sum: &mut f64, samples: &mut u32, far: f64| {
            *samples = if *sum > 0.0 { samples.saturating_add(1) } else { 1 };
            *sum = (*sum + far - self.tolerance).max(0.0);
        };
        if self.sides != Sides::Down {
            step(&mut self.up, &mut self.samples[0], far);
        }
        if self.sides != Sides::Up {
            step(&mut self.down, &mut self.samples[1], -far);
        }
        let (sum, direction, samples) = if self.up >= self.down {
            (self.up, Direction::Up, self.samples[0])
        } else {
            (self.down, Direction::Down, self.samples[1])
        };
        if sum <= self.threshold || self.count < self.least {
            return None;
        }
        *self = Self::new(self.tolerance, self.threshold, self.least, self.sides);
        Some(Shift {
            direction,
            strength: sum / self.threshold,
            samples,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_found_and_then_the_new_level_is_the_mean() {
        let mut test = PageHinkley::new(0.1, 5.0, 10, Sides::Both);
        let found: Vec<(i32, Shift)> = (0..300)
            .filter_map(|n| Some((n, test.update(if n < 100 { 2.0 } else { -1.0 })?)))
            .collect();
        let [(at, shift)] = found.as_slice() else {
            panic!("{found:?}")
        };
        assert_eq!((*at, shift.direction, shift.samples), (101, Direction::Down, 2));
        assert_eq!(test.update(f64::NAN), None);
    }

    #[test]
    fn one_side_is_blind_to_the_other() {
        let mut test = PageHinkley::new(0.1, 5.0, 10, Sides::Up);
        assert!((0..300).all(|n| test.update(if n < 100 { 2.0 } else { -1.0 }).is_none()));
    }
}
