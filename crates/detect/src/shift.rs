//! The level-shift detector: a two-sided cumulative sum of standardised residuals.
//!
//! E. S. Page, "Continuous inspection schemes", Biometrika 41, 1954, with residuals clipped so that no single window can
//! carry the sum across. Residuals of telemetry are correlated in time, which makes such sums wander; what a sum means is
//! therefore read off the tail of the series' own past sums and not off a table for white noise.

// one index into many arrays of the same length, which is what becomes vector instructions
#![allow(clippy::needless_range_loop)]

use crate::{
    bank::{Judged, Shifted},
    fast::{flush, least, most, pick, within},
    state::{Columns, LANES, Place, columns},
    tail::{Level, TailLanes, Tails},
};

/// Drift taken off at each step, in standard deviations: half the shift that is looked for.
const DRIFT: f32 = 0.5;
const CLIP: f32 = 4.0;
const MOST: f32 = 500.0;
/// Distances less likely than this are learned as if they were just so likely.
const CLIP_AT: f64 = 1e-6;

columns! {
    /// Sums a series.
    pub(crate) struct Sums in SumLanes {
        up: f32 = 0.0,
        down: f32 = 0.0,
        /// Short exponentially weighted mean of the residuals: where the series is now.
        mean: f32 = 0.0,
    }
}

/// The detector's state.
#[derive(Debug)]
pub(crate) struct Shift {
    pub(crate) sums: Sums,
    pub(crate) tails: Tails,
    clip: Level,
    lanes: SumLanes,
    tail: TailLanes,
}

impl Shift {
    pub(crate) fn new() -> Self {
        Self {
            sums: Sums::default(),
            tails: Tails::default(),
            clip: Level::new(CLIP_AT),
            lanes: SumLanes::default(),
            tail: TailLanes::default(),
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

    /// Judges the residuals that the seasonal detector left for a block of entries; where there is none, nothing happens.
    pub(crate) fn update(&mut self, rows: &[u32], held: &[u8], sides: &[u8], judged: &Judged, out: &mut Shifted) {
        let n = rows.len().min(LANES);
        let place = Place::of(rows);
        self.sums.read(place, &mut self.lanes);
        self.tails.read(place, &mut self.tail);
        let (mut up, mut down, mut takes) = ([0.0_f32; LANES], [0.0_f32; LANES], [0.0_f32; LANES]);
        for (i, &row) in rows.iter().enumerate().take(LANES) {
            let (side, held) = (sides[row as usize], held[row as usize]);
            up[i] = f32::from(side & 1);
            down[i] = f32::from(side >> 1);
            takes[i] = f32::from(u8::from(held == 0));
        }
        self.add(n, judged, out);
        let (mut counted, mut reach) = ([0.0_f32; LANES], [0.0_f32; LANES]);
        for i in 0..n {
            let distance = out.distance[i];
            counted[i] = most(most(up[i] * distance, -(down[i] * distance)), 0.0);
        }
        self.tail.probability(&counted, n, &mut out.probability);
        self.tail.distance(self.clip, n, &mut reach);
        for i in 0..n {
            let some = if judged.residual[i].is_nan() { 0.0 } else { 1.0 };
            let p = out.probability[i];
            out.probability[i] = pick(some, p, 1.0);
            takes[i] *= some;
            counted[i] = least(counted[i], reach[i]);
        }
        self.tail.learn(&counted, &takes, n);
        self.sums.write(place, &self.lanes);
        self.tails.write(place, &self.tail);
    }

    #[inline(never)]
    fn add(&mut self, n: usize, judged: &Judged, out: &mut Shifted) {
        let s = &mut self.lanes;
        for i in 0..n.min(LANES) {
            let (residual, up, down, mean) = (judged.residual[i], s.up[i], s.down[i], s.mean[i]);
            let some = if residual.is_nan() { 0.0 } else { 1.0 };
            let clipped = pick(some, within(residual, CLIP), 0.0);
            let higher = most(least(up + clipped - DRIFT, MOST), 0.0);
            let lower = most(least(down - clipped - DRIFT, MOST), 0.0);
            let signed = if higher >= lower { higher } else { -lower };
            s.up[i] = pick(some, higher, up);
            s.down[i] = pick(some, lower, down);
            s.mean[i] = pick(some, flush(mean + 0.2 * (clipped - mean)), mean);
            // in units in which a calm series stays within about three
            out.distance[i] = 0.25 * some * signed;
        }
    }

    /// Starts the sums anew.
    pub(crate) fn reseat(&mut self, row: usize) {
        self.sums.reset(row);
    }
}
