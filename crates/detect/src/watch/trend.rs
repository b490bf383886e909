//! A ramp: a series that rises or falls steadily, by little at a time.
//!
//! The slope of R. G. Brown's double exponential smoothing ("Statistical forecasting for inventory control", 1959), over
//! some two dozen windows, in units of the series' own spread, once the season is taken out. What a slope means is read off
//! the tail of its own past: in a series that often climbs for an hour, climbing for an hour is nothing. A sudden shift
//! shows as a ramp for a while, as a ramp shows as a shift in the end. some 45 ns an update, 29 bytes a series.

// one index into many arrays of the same length, which is what becomes vector instructions
#![allow(clippy::needless_range_loop)]

use super::{Block, Said, Watcher, own::Own, same};
use crate::{
    Error, Options,
    fast::{flush, most, pick, within},
    state::{Columns, LANES, Place, columns},
    words::number,
};

/// Windows that a slope is taken over.
const OVER: f32 = 24.0;
const GAIN: f32 = 1.0 / OVER;
/// One in so many slopes is learned, and values that are counted.
const EVERY: u16 = 24;
const MOST: u16 = 60_000;
/// Values before anything is said.
const FIRST: u16 = 60;
/// Spread, on independent normal noise, of the rise over [`OVER`] windows.
const UNIT: f32 = 0.1;
const LARGEST: f64 = 1e30;

columns! {
    pub(crate) struct Slopes in SlopeLanes {
        count: u16 = 0,
        once: f32 = 0.0,
        twice: f32 = 0.0,
    }
}

#[derive(Debug)]
pub(crate) struct Trend {
    slopes: Slopes,
    lanes: SlopeLanes,
    own: Own,
}

impl Trend {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            slopes: Slopes::default(),
            lanes: SlopeLanes::default(),
            own: Own::of_sums(options),
        }
    }

    fn rise(&self, row: usize) -> f64 {
        f64::from(GAIN / (1.0 - GAIN) * (self.slopes.once[row] - self.slopes.twice[row]))
    }
}

impl Watcher for Trend {
    fn push(&mut self) {
        self.slopes.push();
        self.own.push();
    }

    fn bytes(&self) -> usize {
        Slopes::BYTES + Own::BYTES
    }

    fn update(&mut self, block: &Block<'_>, out: &mut Said) {
        let (n, judged) = (block.len(), block.judged);
        let place = Place::of(block.rows);
        let mut takes = block.takes();
        self.slopes.read(place, &mut self.lanes);
        let s = &mut self.lanes;
        let (mut seen, mut value) = ([0.0_f32; LANES], [0.0_f32; LANES]);
        for i in 0..n {
            seen[i] = f32::from(s.count[i]);
            #[allow(clippy::cast_possible_truncation)] // single precision is what levels are kept in
            let v = block.values[i].clamp(-LARGEST, LARGEST) as f32;
            value[i] = v - judged.course[i];
        }
        for i in 0..n {
            let some = if judged.residual[i].is_nan() { 0.0 } else { 1.0 };
            let scale = judged.slow_scale[i];
            let (once, twice) = (pick(seen[i], s.once[i], value[i]), pick(seen[i], s.twice[i], value[i]));
            let gain = most(GAIN, 1.0 / (seen[i] + 1.0));
            // one value moves the slope by a bounded amount
            let once = once + gain * within(value[i] - once, most(6.0 * scale, 1e-3 * once.abs()));
            let twice = twice + gain * (once - twice);
            s.once[i] = flush(once);
            s.twice[i] = flush(twice);
            let rise = OVER * GAIN / (1.0 - GAIN) * (once - twice);
            let says = if seen[i] < f32::from(FIRST) { 0.0 } else { some };
            let distance = within(rise / (UNIT * most(scale, 1e-30)), 1e6);
            out.distance[i] = pick(says, distance, f32::NAN);
            out.effect[i] = rise.abs();
            takes[i] *= f32::from(u8::from(s.count[i].is_multiple_of(EVERY)));
            s.count[i] = if s.count[i] >= MOST {
                MOST - EVERY + 1
            } else {
                s.count[i] + 1
            };
        }
        self.slopes.write(place, &self.lanes);
        self.own.judge(block, &takes, out);
    }

    fn reseat(&mut self, row: usize) {
        self.slopes.twice[row] = self.slopes.once[row];
    }

    fn words(&self, row: usize, value: f64) -> String {
        let rise = self.rise(row);
        let way = if rise >= 0.0 { "rises" } else { "falls" };
        format!(
            "{way} by {} a window, for {} windows or more: {} now",
            number(rise.abs()),
            number(f64::from(OVER)),
            number(value)
        )
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn adopt(&mut self, row: usize, from: &dyn Watcher, from_row: usize) {
        if let Some(from) = same::<Self>(from) {
            self.slopes.adopt(row, &from.slopes, from_row);
            self.own.adopt(row, &from.own, from_row);
        }
    }

    fn save(&self, out: &mut Columns) -> Result<(), Error> {
        self.slopes.save("trend", out);
        self.own.save("trend.tail", out);
        Ok(())
    }

    fn load(&mut self, from: &Columns, _: usize) -> Result<(), Error> {
        self.slopes.load("trend", from)?;
        self.own.load("trend.tail", from)
    }
}
