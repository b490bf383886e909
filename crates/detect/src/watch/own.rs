//! Distances read off the tail of their own past.

// one index into many arrays of the same length, which is what becomes vector instructions
#![allow(clippy::needless_range_loop)]

use super::{Block, Said};
use crate::{
    Error, Options,
    fast::{exp, least, most, pick},
    state::{Columns, LANES, Lanes, Place},
    tail::{Level, TailLanes, Tails},
};

/// Distances less likely than this, or than the alarm, are learned as if they were just so likely.
const CLIP_AT: f64 = 1e-4;

/// The tail of one detector's distances, for all series.
#[derive(Debug)]
pub(crate) struct Own {
    tails: Tails,
    lanes: TailLanes,
    alarm: Level,
    clip: Level,
    /// Whether distances are of sums of many, and so fall off as those of a normal distribution do, or nearly so.
    sums: bool,
}

/// What turns normal distances into ones that fall off as the fourth power, from which tails start: `exp(z^2 / 8)`.
const OCTAVE: f32 = 0.125;

impl Own {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            tails: Tails::default(),
            lanes: TailLanes::default(),
            alarm: Level::new(options.alarm),
            clip: Level::new(options.alarm.min(CLIP_AT)),
            sums: false,
        }
    }

    /// For distances that are sums of many.
    pub(crate) fn of_sums(options: &Options) -> Self {
        Self {
            sums: true,
            ..Self::new(options)
        }
    }

    pub(crate) const BYTES: usize = Tails::BYTES;

    pub(crate) fn push(&mut self) {
        self.tails.push();
    }

    pub(crate) fn adopt(&mut self, row: usize, from: &Self, from_row: usize) {
        self.tails.adopt(row, &from.tails, from_row);
    }

    pub(crate) fn save(&self, prefix: &str, out: &mut Columns) {
        self.tails.save(prefix, out);
    }

    pub(crate) fn load(&mut self, prefix: &str, from: &Columns) -> Result<(), Error> {
        self.tails.load(prefix, from)
    }

    /// Says how likely the distances of `out` are, NaN where there is none, and learns them where `takes` is 1.
    ///
    /// What adds up over many windows should be learned once in as many: its distances climb slowly, and those on the way
    /// up would be taken for usual before they say anything.
    pub(crate) fn judge(&mut self, block: &Block<'_>, takes: &Lanes<f32>, out: &mut Said) {
        let n = block.len();
        let place = Place::of(block.rows);
        self.tails.read(place, &mut self.lanes);
        let (mut counted, mut learns, mut reach) = ([0.0_f32; LANES], [0.0_f32; LANES], [0.0_f32; LANES]);
        let (mut up, mut down) = ([0.0_f32; LANES], [0.0_f32; LANES]);
        for (i, &row) in block.rows.iter().enumerate().take(n) {
            up[i] = f32::from(block.sides[row as usize] & 1);
            down[i] = f32::from(block.sides[row as usize] >> 1);
        }
        for i in 0..n {
            let distance = out.distance[i];
            let some = if distance.is_nan() { 0.0 } else { 1.0 };
            let distance = pick(some, distance, 0.0);
            out.distance[i] = distance;
            learns[i] = some * takes[i];
            counted[i] = most(most(up[i] * distance, -(down[i] * distance)), 0.0);
        }
        if self.sums {
            for i in 0..n {
                counted[i] = pick(counted[i], exp(least(OCTAVE * counted[i] * counted[i], 20.0)), 0.0);
            }
        }
        self.lanes.probability(&counted, n, &mut out.probability);
        self.lanes.distance(self.alarm, n, &mut reach);
        for i in 0..n {
            // a normal distance half as far is the fourth root
            let half = if self.sums {
                reach[i].sqrt().sqrt()
            } else {
                0.5 * reach[i]
            };
            out.inside[i] = u8::from(counted[i] <= half);
        }
        self.lanes.distance(self.clip, n, &mut reach);
        for i in 0..n {
            counted[i] = least(counted[i], reach[i]);
        }
        self.lanes.learn(&counted, &learns, n);
        self.tails.write(place, &self.lanes);
    }
}
