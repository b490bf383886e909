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
/// Growth of a distance in one window that is too fast to be learned from: of a residual of one and a half deviations.
const FAST: f32 = 0.25;
/// What an excursion that raised an alarm and came back weighs, in windows: those in which it grew were not learned.
const EXCURSION: u32 = 4;
/// A sum below the first number has not begun to rise; one below the second that falls begins anew.
/// A residual of so many standard deviations, and so many times the mean of the rise so far, begins a rise of its own.
const LEAP: (f32, f32) = (2.0, 2.0);
const BEGINS: (f32, f32) = (1.0, 4.0);
/// Distances less likely than this are learned as if they were just so likely.
const CLIP_AT: f64 = 1e-6;

columns! {
    /// Sums a series.
    pub(crate) struct Sums in SumLanes {
        up: f32 = 0.0,
        down: f32 = 0.0,
        /// Short exponentially weighted mean of the residuals: where the series is now.
        mean: f32 = 0.0,
        /// Windows since each sum began the rise that it is in.
        up_since: u8 = 0,
        down_since: u8 = 0,
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

    /// Takes over what sums usually come to; a sum itself begins anew.
    pub(crate) fn adopt(&mut self, row: usize, from: &Self, from_row: usize) {
        self.tails.adopt(row, &from.tails, from_row);
    }

    pub(crate) fn reset(&mut self, row: usize) {
        self.sums.reset(row);
        self.tails.reset(row);
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
        let mut peak = [0.0_f32; LANES];
        self.add(n, judged, out, &mut peak);
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
            // a sum that grows fast, as after a shift, must not make itself usual on its way up: it is learned once it falls.
            // One that grows by little at a time, as on a wave which is not foretold well, is learned as it is
            let before = most(most(up[i] * peak[i], -(down[i] * peak[i])), 0.0);
            let grows = if counted[i] > before + FAST { 1.0 } else { 0.0 };
            takes[i] *= some * (1.0 - grows);
            counted[i] = least(counted[i], reach[i]);
        }
        self.tail.learn(&counted, &takes, n);
        self.sums.write(place, &self.lanes);
        self.tails.write(place, &self.tail);
    }

    #[inline(never)]
    fn add(&mut self, n: usize, judged: &Judged, out: &mut Shifted, before: &mut [f32; LANES]) {
        let s = &mut self.lanes;
        for i in 0..n.min(LANES) {
            let (residual, up, down, mean) = (judged.residual[i], s.up[i], s.down[i], s.mean[i]);
            let some = if residual.is_nan() { 0.0 } else { 1.0 };
            let clipped = pick(some, within(residual, CLIP), 0.0);
            let higher = most(least(up + clipped - DRIFT, MOST), 0.0);
            let lower = most(least(down - clipped - DRIFT, MOST), 0.0);
            let signed = if higher >= lower { higher } else { -lower };
            before[i] = 0.25 * if up >= down { up } else { -down };
            s.up[i] = pick(some, higher, up);
            s.down[i] = pick(some, lower, down);
            s.mean[i] = pick(some, flush(mean + 0.2 * (clipped - mean)), mean);
            s.up_since[i] = since(s.up_since[i], some, up, s.up[i], clipped);
            s.down_since[i] = since(s.down_since[i], some, down, s.down[i], -clipped);
            // in units in which a calm series stays within about three
            out.distance[i] = 0.25 * some * signed;
        }
    }

    /// Windows, the present one among them, since the level of a series is what it is now, on the side of the greater sum:
    /// at least 1.
    pub(crate) fn since(&self, row: usize) -> u8 {
        let sums = &self.sums;
        let up = sums.up[row] >= sums.down[row];
        let since = if up { sums.up_since[row] } else { sums.down_since[row] };
        since.max(1)
    }

    /// Learns from an excursion that is over and came back by itself: `distance` was its largest.
    pub(crate) fn absorb(&mut self, row: usize, distance: f64) {
        let reach = f64::from(self.tails.at(row).distance(self.clip));
        for _ in 0..EXCURSION {
            self.tails.learn(row, distance.abs().min(1.3 * reach));
        }
    }

    /// Starts the sums anew.
    pub(crate) fn reseat(&mut self, row: usize) {
        self.sums.reset(row);
    }
}

/// How long a sum has risen after one more step. Its last zero is the likeliest beginning of the smallest shift that is looked
/// for (Page); of greater ones it is where the sum began to grow at every step.
#[inline(always)]
fn since(windows: u8, some: f32, before: f32, after: f32, residual: f32) -> u8 {
    let anew = (after < BEGINS.0) | ((after < before) & (after < BEGINS.1));
    let so_far = before / most(f32::from(windows), 1.0) + DRIFT;
    let leaps = (residual >= LEAP.0) & (residual >= LEAP.1 * so_far);
    let next = if anew { 0 } else { windows.saturating_add(1) };
    let next = if leaps { 1 } else { next };
    if some > 0.0 { next } else { windows }
}
