//! What is known of each member by itself, so that members of any unit can be put side by side.

use serde::{Deserialize, Serialize};

/// Mean absolute deviation to standard deviation of a normal distribution.
const MEAN_ABS: f64 = 1.2533;
/// Values further out than so many spreads count as that far where spread and level are learned.
const CLIP: f64 = 4.0;
/// The least spread, as a share of the level: rounding is no movement.
const LEAST: f64 = 1e-9;

/// A slow level and the spread around it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Level {
    pub(super) count: u32,
    pub(super) mean: f64,
    pub(super) spread: f64,
}

impl Level {
    /// The least difference that counts as one.
    fn floor(&self, value: f64) -> f64 {
        (LEAST * self.mean.abs().max(value.abs())).max(f64::MIN_POSITIVE)
    }

    /// How many spreads a value is from the level, within a million either way.
    pub(super) fn distance(&self, value: f64, least: f64) -> f64 {
        let spread = self.spread.max(least).max(self.floor(value));
        ((value - self.mean) / spread).clamp(-1e6, 1e6)
    }

    /// Takes in a value; the memory is in values.
    pub(super) fn learn(&mut self, value: f64, memory: f64) {
        let n = f64::from(self.count);
        let off = value - self.mean;
        let wide = if self.count < 8 {
            f64::MAX
        } else {
            CLIP * self.spread.max(self.floor(value))
        };
        let off = off.clamp(-wide, wide);
        let gain = 1.0 / (n + 1.0).min(memory);
        self.mean += gain * off;
        let size = if self.count == 0 { 0.0 } else { MEAN_ABS * off.abs() };
        self.spread += (size - self.spread) / n.clamp(1.0, memory);
        self.count = self.count.saturating_add(1);
    }
}

/// What is left of a member's movements once the one before has foretold its share.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Movement {
    pub(super) count: u32,
    /// The value before, and the movement before; NaN after a gap.
    value: f64,
    step: f64,
    cross: f64,
    power: f64,
    spread: f64,
}

impl Default for Movement {
    fn default() -> Self {
        Self {
            count: 0,
            value: f64::NAN,
            step: f64::NAN,
            cross: 0.0,
            power: 0.0,
            spread: 0.0,
        }
    }
}

/// Memory of a member's spread and of what one movement foretells of the next, in windows.
const LONG: f64 = 2_000.0;
/// Movements beyond this many spreads count as this many.
const MOST: f64 = 3.0;

impl Movement {
    /// The movement to a value, in spreads, at most [`MOST`] either way; NaN where there is none. Learns unless `held`.
    pub(super) fn step(&mut self, value: f64, held: bool) -> f64 {
        let before = std::mem::replace(&mut self.value, value);
        let step = value - before;
        let last = std::mem::replace(&mut self.step, step);
        if step.is_nan() || last.is_nan() {
            return f64::NAN;
        }
        let share = if self.power > 0.0 {
            (self.cross / self.power).clamp(-0.95, 0.95)
        } else {
            0.0
        };
        let left = step - share * last;
        let floor = (LEAST * value.abs().max(before.abs())).max(f64::MIN_POSITIVE);
        let spread = self.spread.max(floor);
        if !held {
            let n = f64::from(self.count);
            let gain = 1.0 / (n + 1.0).min(LONG);
            let wide = if n < 8.0 { f64::MAX } else { CLIP * spread };
            let size = left.abs().min(wide);
            self.spread += gain * (MEAN_ABS * size - self.spread);
            let most = if n < 8.0 {
                f64::MAX
            } else {
                2.0 * CLIP * self.power.sqrt().max(floor)
            };
            let (now, then) = (step.clamp(-most, most), last.clamp(-most, most));
            self.cross += gain * (now * then - self.cross);
            self.power += gain * (then * then - self.power);
            self.count = self.count.saturating_add(1);
        }
        (left / spread).clamp(-MOST, MOST)
    }
}
