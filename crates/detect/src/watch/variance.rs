//! A change of spread: the values of late stray further from their own mean than they used to, or less far.
//!
//! The logarithm of the ratio of a short and a long exponentially weighted mean of absolute deviations (after S. Crowder,
//! M. Hamilton, "An EWMA for monitoring a process standard deviation", Journal of Quality Technology 24, 1992; deviations
//! in place of squares, and clipped, so that one spike makes no change of spread). Deviations are taken from a short mean of
//! the residuals, so that a shift of level makes none either. What a ratio means is read off the tail of its own past.
//! some 40 ns an update, 33 bytes a series.

// one index into many arrays of the same length, which is what becomes vector instructions
#![allow(clippy::needless_range_loop)]

use super::{Block, Said, Watcher, own::Own, same};
use crate::{
    Error, Options,
    fast::{TINY, flush, least, ln, most, pick, within},
    state::{Columns, LANES, Place, columns},
    words::number,
};

/// Gain of the short mean of deviations, and the least of the long one.
const SHORT: f32 = 0.02;
const LONG: f32 = 0.001;
/// Windows that the short mean is of, and values that are counted.
const OVER: u16 = 50;
const MOST: u16 = 60_000;
/// Gain of the mean that deviations are taken from.
const CENTRE: f32 = 0.3;
/// Deviations count up to so many times the usual one.
const CLIP: f32 = 6.0;
/// Values before anything is said.
const FIRST: u16 = 60;
/// The least usual deviation, as a share of the residuals' scale.
const LEAST: f32 = 0.05;
/// Spread of the logarithm on independent normal noise.
const UNIT: f32 = 0.08;

columns! {
    pub(crate) struct Spreads in SpreadLanes {
        count: u16 = 0,
        centre: f32 = 0.0,
        short: f32 = 0.0,
        long: f32 = 0.0,
    }
}

#[derive(Debug)]
pub(crate) struct Variance {
    spreads: Spreads,
    lanes: SpreadLanes,
    own: Own,
}

impl Variance {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            spreads: Spreads::default(),
            lanes: SpreadLanes::default(),
            own: Own::of_sums(options),
        }
    }
}

impl Watcher for Variance {
    fn push(&mut self) {
        self.spreads.push();
        self.own.push();
    }

    fn bytes(&self) -> usize {
        Spreads::BYTES + Own::BYTES
    }

    fn update(&mut self, block: &Block<'_>, out: &mut Said) {
        let (n, judged) = (block.len(), block.judged);
        let place = Place::of(block.rows);
        let mut takes = block.takes();
        self.spreads.read(place, &mut self.lanes);
        let s = &mut self.lanes;
        let mut seen = [0.0_f32; LANES];
        for i in 0..n {
            seen[i] = f32::from(s.count[i]);
        }
        for i in 0..n {
            let residual = judged.residual[i];
            let some = if residual.is_nan() { 0.0 } else { 1.0 };
            let (centre, short, long, takes) = (s.centre[i], s.short[i], s.long[i], takes[i]);
            let scale = judged.slow_scale[i];
            let off = scale * within(pick(some, residual, 0.0), 100.0) - centre;
            let floor = LEAST * scale;
            let usual = most(long, floor);
            let size = off.abs();
            let clipped = if seen[i] < 8.0 { size } else { least(size, CLIP * usual) };
            let inverse = 1.0 / (seen[i] + 1.0);
            let next_short = flush(short + most(SHORT, inverse) * (clipped - short));
            let next_long = flush(long + takes * most(LONG, inverse) * (clipped - long));
            s.centre[i] = pick(some, flush(centre + CENTRE * off), centre);
            s.short[i] = pick(some, next_short, short);
            s.long[i] = pick(some, next_long, long);
            let ratio = ln(most(next_short, most(floor, TINY)) / most(next_long, most(floor, TINY)));
            let says = if seen[i] < f32::from(FIRST) { 0.0 } else { some };
            out.distance[i] = pick(says, ratio * (1.0 / UNIT), f32::NAN);
            out.effect[i] = 1.25 * (next_short - next_long).abs();
        }
        for i in 0..n {
            let more = u16::from(!judged.residual[i].is_nan() && takes[i] > 0.0);
            s.count[i] = if s.count[i] >= MOST {
                MOST - OVER + 1
            } else {
                s.count[i] + more
            };
        }
        for i in 0..n {
            takes[i] *= f32::from(u8::from(self.lanes.count[i].is_multiple_of(OVER)));
        }
        self.spreads.write(place, &self.lanes);
        self.own.judge(block, &takes, out);
    }

    fn reseat(&mut self, row: usize) {
        self.spreads.long[row] = self.spreads.short[row];
    }

    fn words(&self, row: usize, value: f64) -> String {
        let (short, long) = (f64::from(self.spreads.short[row]), f64::from(self.spreads.long[row]));
        format!(
            "values stray {} times as far from their mean as they did before, at {}",
            number(short / long.max(f64::from(TINY))),
            number(value)
        )
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn adopt(&mut self, row: usize, from: &dyn Watcher, from_row: usize) {
        if let Some(from) = same::<Self>(from) {
            self.spreads.adopt(row, &from.spreads, from_row);
            self.own.adopt(row, &from.own, from_row);
        }
    }

    fn save(&self, out: &mut Columns) -> Result<(), Error> {
        self.spreads.save("variance", out);
        self.own.save("variance.tail", out);
        Ok(())
    }

    fn load(&mut self, from: &Columns, _: usize) -> Result<(), Error> {
        self.spreads.load("variance", from)?;
        self.own.load("variance.tail", from)
    }
}
