//! Residuals without memory: what is left of a residual once the one before it has foretold its share.
//!
//! A budget counts alarms, so one shock must be one alarm: residuals of telemetry are correlated in time, and the raw ones
//! exceed any level in bunches. The share is learned online from clipped products of neighbours (the lag-one
//! autocorrelation of G. Box, G. Jenkins, "Time series analysis", 1970), scale and tail of what is left as everywhere here.

use crate::{
    state::{Columns, columns},
    tail::Tails,
};

/// Residuals beyond this many standard deviations count as this many.
const CLIP: f64 = 3.0;
/// Memory of the autocorrelation, and of the scale, in windows.
const LONG: f64 = 2_000.0;
const SHORT: f64 = 100.0;
/// Mean absolute deviation to standard deviation of a normal distribution.
const MEAN_ABS: f64 = 1.2533;
/// The least scale, in the units of the residuals that come in.
const LEAST: f64 = 1e-3;
/// What is learned from a distance is at most what this probability stands for.
const CLIP_AT: f64 = 1e-4;

columns! {
    /// Numbers a series.
    pub(crate) struct Memory {
        count: u32 = 0,
        /// The residual before; NaN after a gap.
        before: f64 = f64::NAN,
        cross: f64 = 0.0,
        power: f64 = 0.0,
        scale: f64 = 0.0,
        /// Whether an alarm of the last window was suppressed.
        muted: u8 = 0,
    }
}

/// The state of all series.
#[derive(Debug, Default)]
pub(crate) struct Whitening {
    pub(crate) memory: Memory,
    pub(crate) tails: Tails,
}

/// One window: its distance in standard deviations, signed, and the probability of one so far on a side that counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct White {
    pub(crate) distance: f64,
    pub(crate) probability: f64,
}

impl Whitening {
    pub(crate) fn push(&mut self) {
        self.memory.push();
        self.tails.push();
    }

    /// Takes over what is known of a series elsewhere; the residual before is not the one before the next.
    pub(crate) fn adopt(&mut self, row: usize, from: &Self, from_row: usize) {
        self.memory.adopt(row, &from.memory, from_row);
        self.tails.adopt(row, &from.tails, from_row);
        (self.memory.before[row], self.memory.muted[row]) = (f64::NAN, 0);
    }

    pub(crate) fn reset(&mut self, row: usize) {
        self.memory.reset(row);
        self.tails.reset(row);
    }

    /// Bytes a series.
    pub(crate) const BYTES: usize = Memory::BYTES + Tails::BYTES;

    pub(crate) fn save(&self, out: &mut Columns) {
        self.memory.save("white", out);
        self.tails.save("white.tail", out);
    }

    pub(crate) fn load(&mut self, from: &Columns) -> Result<(), crate::Error> {
        self.memory.load("white", from)?;
        self.tails.load("white.tail", from)
    }

    /// Judges a residual (NaN: there is none to judge) and learns from it unless the series is held.
    pub(crate) fn step(&mut self, row: usize, residual: f64, held: bool, side: u8) -> White {
        let m = &mut self.memory;
        let residual = residual.clamp(-1e9, 1e9);
        let before = std::mem::replace(&mut m.before[row], residual);
        if residual.is_nan() || before.is_nan() {
            return White {
                distance: 0.0,
                probability: 1.0,
            };
        }
        let n = f64::from(m.count[row]);
        let share = if m.power[row] > 0.0 {
            (m.cross[row] / m.power[row]).clamp(-0.95, 0.98)
        } else {
            0.0
        };
        let left = residual - share * before;
        let scale = m.scale[row].max(LEAST);
        let distance = left / scale;
        let counted = crate::seasonal::sided(distance, side);
        let probability = if n < 30.0 { 1.0 } else { self.tails.fitted(row, counted) };
        if !held {
            let wide = if n < 30.0 {
                f64::MAX
            } else {
                2.0 * CLIP * m.power[row].sqrt()
            };
            let (now, then) = (residual.clamp(-wide, wide), before.clamp(-wide, wide));
            let gain = 1.0 / (n + 1.0).min(LONG);
            m.cross[row] += gain * (now * then - m.cross[row]);
            m.power[row] += gain * (then * then - m.power[row]);
            let size = if n < 8.0 {
                left.abs()
            } else {
                left.abs().min(CLIP * scale)
            };
            m.scale[row] += (MEAN_ABS * size - m.scale[row]) / (n + 1.0).min(SHORT);
            if n >= 30.0 {
                let most = self.tails.distance(row, CLIP_AT);
                self.tails.learn(row, counted.min(most));
            }
            m.count[row] = m.count[row].saturating_add(1);
        }
        White { distance, probability }
    }
}
