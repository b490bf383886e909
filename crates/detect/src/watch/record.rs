//! A value far beyond all that was seen: what grows so steadily that every window foretells the next, and still ends where
//! the series has never been.
//!
//! The highest and the lowest value of late are kept, each slowly forgotten, and what lies beyond moves them by little at a
//! time, so that a climb leaves them behind. Of `n` values with an exponential tail the largest lies `ln n` means up, so
//! one that is higher still by `e`, where all of them span `r`, has the probability `n^-(1 + e/r)` (the theory of records:
//! B. C. Arnold, N. Balakrishnan, H. N. Nagaraja, "Records", 1998). A series is first watched for a day, since the first
//! morning is a record by itself; before that only what is far further off is told. Some 10 ns an update, 16 bytes a series.

// one index into many arrays of the same length, which is what becomes vector instructions
#![allow(clippy::needless_range_loop)]

use super::{Block, Said, Watcher, same};
use crate::{
    Error,
    fast::{exp, flush, least, ln, most},
    state::{Columns, LANES, Place, columns},
    words::number,
};

/// Values before anything is said.
const FIRST: u32 = 300;
/// Memory, in values.
const LONG: u32 = 20_000;
/// What lies beyond moves the end by at most this part of the range in a minute, and by at most the next in one window.
const STEP: f32 = 0.01;
const MOST_STEP: f32 = 0.02;
/// What is forgotten of the range in one window.
const FORGET: f32 = 2e-5;
/// A record is told that is higher than the one before by at least this share; and in the first day by one of these, and by
/// so many ranges.
const LEAST: f32 = 0.25;
const AT_FIRST: [(f32, f32); 2] = [(0.5, 2.0), (0.25, 6.0)];
/// Back is what is within this part of the range of what was seen.
const BACK: f32 = 0.25;
/// Standard deviations that the range says at most.
const MOST_BY_RANGE: f32 = 60.0;
const DAY: i64 = 1_440;
const MINUTE: i64 = 60_000;
const LARGEST: f64 = 1e30;

columns! {
    pub(crate) struct Ends in EndLanes {
        count: u32 = 0,
        /// End of the first window, in minutes since the epoch.
        first: i32 = 0,
        high: f32 = 0.0,
        low: f32 = 0.0,
    }
}

#[derive(Debug, Default)]
pub(crate) struct Record {
    ends: Ends,
    lanes: EndLanes,
}

impl Watcher for Record {
    fn push(&mut self) {
        self.ends.push();
    }

    fn bytes(&self) -> usize {
        Ends::BYTES
    }

    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // counts and minutes that single precision holds
    fn update(&mut self, block: &Block<'_>, out: &mut Said) {
        let place = Place::of(block.rows);
        let takes = block.takes();
        let minute = block.end.div_euclid(MINUTE).clamp(-0x3fff_ffff, 0x3fff_ffff) as i32;
        self.ends.read(place, &mut self.lanes);
        let s = &mut self.lanes;
        for (i, (&value, &row)) in block.values.iter().zip(block.rows).enumerate().take(LANES) {
            let value = flush(value.clamp(-LARGEST, LARGEST) as f32);
            if s.count[i] == 0 {
                (s.first[i], s.high[i], s.low[i]) = (minute, value, value);
            }
            let seen = s.high[i] - s.low[i];
            // how far it strays from its level of late would widen with the climb that is looked for
            let range = if seen > 0.0 {
                seen
            } else {
                2.0 * block.judged.slow_scale[i]
            };
            let side = block.sides[row as usize];
            let (above, below) = (value - s.high[i], s.low[i] - value);
            let up = side & 1 != 0 && above > 0.0;
            let down = side & 2 != 0 && below > 0.0;
            let (beyond, end) = if up { (above, s.high[i]) } else { (below, s.low[i]) };
            let young = i64::from(minute) - i64::from(s.first[i]) < DAY;
            let further = |(share, ranges): (f32, f32)| beyond >= share * end.abs() && beyond >= ranges * range;
            let far = if young {
                AT_FIRST.into_iter().any(further)
            } else {
                further((LEAST, 0.0))
            };
            let tells = (up || down) && s.count[i] >= FIRST && range > 0.0 && far;
            let known = s.count[i].min(LONG) as f32;
            out.probability[i] = if tells {
                exp(-ln(known) * (1.0 + least(beyond / range, 8.0)))
            } else {
                1.0
            };
            let level = (block.judged.origin[i] + f64::from(block.judged.slow[i])) as f32;
            let off = (value - level).abs() / most(block.judged.slow_scale[i], f32::MIN_POSITIVE);
            // of that many values the range spans so many standard deviations, about: where the climb has widened every other
            // scale that says at least how far it is, and no more than that
            let by_range = beyond / most(range, f32::MIN_POSITIVE) * 2.0 * (2.0 * ln(most(known, 2.0))).sqrt();
            let by_range = least(by_range, MOST_BY_RANGE);
            let far = if tells {
                most(most(off, by_range), block.judged.distance[i].abs())
            } else {
                0.0
            };
            out.distance[i] = if up { far } else { -far };
            out.effect[i] = if tells { beyond } else { 0.0 };
            out.inside[i] = u8::from(above <= BACK * range && below <= BACK * range);
            if takes[i] > 0.0 {
                let begins = s.count[i] < FIRST;
                let minutes = (minute - s.first[i]) as f32 / s.count[i].max(1) as f32;
                let step = if begins {
                    f32::MAX
                } else {
                    least(STEP * minutes, MOST_STEP) * range
                };
                let forget = FORGET * range;
                s.high[i] = flush(
                    s.high[i]
                        + if above > 0.0 {
                            least(above, step)
                        } else {
                            -least(forget, -above)
                        },
                );
                s.low[i] = flush(
                    s.low[i]
                        - if below > 0.0 {
                            least(below, step)
                        } else {
                            -least(forget, -below)
                        },
                );
                s.count[i] = s.count[i].saturating_add(1);
            }
        }
        self.ends.write(place, &self.lanes);
    }

    fn reseat(&mut self, row: usize) {
        // what has stayed is within what was seen from now on, wherever it is; the range is learned anew from there
        (self.ends.count[row], self.ends.first[row]) = (0, 0);
    }

    fn words(&self, row: usize, value: f64) -> String {
        format!(
            "{} is far beyond all that was seen: of late from {} to {}",
            number(value),
            number(f64::from(self.ends.low[row])),
            number(f64::from(self.ends.high[row]))
        )
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn adopt(&mut self, row: usize, from: &dyn Watcher, from_row: usize) {
        if let Some(from) = same::<Self>(from) {
            self.ends.adopt(row, &from.ends, from_row);
        }
    }

    fn save(&self, out: &mut Columns) -> Result<(), Error> {
        self.ends.save("record", out);
        Ok(())
    }

    fn load(&mut self, from: &Columns, rows: usize) -> Result<(), Error> {
        if !from.has("record") {
            // of a program that did not look for records: they are learned from here on
            self.ends = Ends::default();
            (0..rows).for_each(|_| self.ends.push());
            return Ok(());
        }
        self.ends.load("record", from)
    }
}
