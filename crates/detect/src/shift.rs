//! The level-shift detector: a two-sided cumulative sum of standardised residuals.
//!
//! E. S. Page, "Continuous inspection schemes", Biometrika 41, 1954, with residuals clipped so that no single window can
//! carry the sum across. Residuals of telemetry are correlated in time, which makes such sums wander; what a sum means is
//! therefore read off the tail of the series' own past sums and not off a table for white noise.

use crate::{
    Column,
    bank::{Judged, Shared},
    seasonal::sided,
    state::{Columns, columns},
    tail::Tails,
};

/// Drift taken off at each step, in standard deviations: half the shift that is looked for.
const DRIFT: f64 = 0.5;
const CLIP: f64 = 4.0;
const MOST: f64 = 500.0;

columns! {
    /// Sums a series.
    pub(crate) struct Sums {
        up: f64 = 0.0,
        down: f64 = 0.0,
        /// Short exponentially weighted mean of the residuals: where the series is now.
        mean: f64 = 0.0,
    }
}

/// The detector's state.
#[derive(Debug)]
pub(crate) struct Shift {
    pub(crate) sums: Sums,
    pub(crate) tails: Tails,
}

impl Shift {
    pub(crate) fn new() -> Self {
        Self {
            sums: Sums::default(),
            tails: Tails::default(),
        }
    }

    pub(crate) fn push(&mut self) {
        self.sums.push();
        self.tails.push();
    }

    /// Bytes a series.
    pub(crate) fn bytes(&self) -> usize {
        Sums::BYTES + Tails::BYTES
    }

    pub(crate) fn save(&self, out: &mut Columns) {
        self.sums.save("shift", out);
        self.tails.save("shift.tail", out);
    }

    pub(crate) fn load(&mut self, from: &Columns) -> Result<(), crate::Error> {
        self.sums.load("shift", from)?;
        self.tails.load("shift.tail", from)
    }

    /// Judges the residuals that the seasonal detector left for this column.
    pub(crate) fn update(&mut self, column: &Column<'_>, held: &[u8], sides: &[u8], shared: &Shared, out: &mut Judged) {
        for (i, &row) in column.rows.iter().enumerate() {
            let residual = shared.residual[i];
            let row = row as usize;
            if residual.is_nan() || row >= held.len() {
                continue;
            }
            let clipped = residual.clamp(-CLIP, CLIP);
            let s = &mut self.sums;
            s.up[row] = (s.up[row] + clipped - DRIFT).clamp(0.0, MOST);
            s.down[row] = (s.down[row] - clipped - DRIFT).clamp(0.0, MOST);
            s.mean[row] += 0.2 * (clipped - s.mean[row]);
            let signed = if s.up[row] >= s.down[row] {
                s.up[row]
            } else {
                -s.down[row]
            };
            // in units in which a calm series stays within about three
            let distance = signed / 4.0;
            let counted = sided(distance, sides[row]);
            out.set(
                i,
                self.tails.probability(row, counted),
                distance,
                f64::NAN,
                f64::NAN,
                f64::NAN,
            );
            if held[row] == 0 {
                let reach = self.tails.distance(row, 1e-6);
                self.tails.learn(row, counted.min(reach));
            }
        }
    }

    /// Starts the sums anew.
    pub(crate) fn reseat(&mut self, row: usize) {
        self.sums.reset(row);
    }
}
