//! A value that is stuck: the same number again and again, in a series whose numbers change.
//!
//! A run of `k` repeats has the probability `q^k` where `q` is the share of values that repeat the one before (a run test
//! after A. Mood, "The distribution theory of runs", Annals of Mathematical Statistics 11, 1940; `q` is taken a little
//! higher than it was found). A run no longer than one seen before is never less likely than once in what was seen, so a
//! series that rests now and then may rest. Nothing is said of runs shorter than ten, and nothing of zeros: they are no
//! work, and not a sensor that hangs. Some 10 ns an update, 18 bytes a series.

use super::{Block, Said, Watcher, same};
use crate::{
    Error,
    fast::{exp, flush, least, ln, most},
    state::{Columns, LANES, Place, columns, load},
    words::number,
};

/// Repeats below which nothing is said.
const SHORTEST: f32 = 10.0;
/// Values before anything is said.
const FIRST: u16 = 100;
/// Memory, in values.
const LONG: u16 = 4_000;
/// Runs less likely than this are not learned: they are what is looked for.
const CLIP_AT: f32 = 1e-4;
/// Standard deviations that a series is expected to move by now and then: what has to matter for its being stuck to matter.
const MOVES: f32 = 3.0;
/// How long a run that was told may at least count for once it has ended.
const LONG_AT_FIRST: f32 = 30.0;

columns! {
    pub(crate) struct Runs in RunLanes {
        count: u16 = 0,
        /// Repeats of the last value.
        run: u32 = 0,
        /// The lower half of the last value's bits: what the seasonal detector's single precision does not tell of it.
        low: u32 = 0,
        /// Share of values that repeat the one before.
        share: f32 = 0.0,
        /// Longest run of late.
        longest: f32 = 0.0,
    }
}

#[allow(clippy::cast_possible_truncation)] // the half that is meant
const fn lower(value: f64) -> u32 {
    value.to_bits() as u32
}

#[derive(Debug, Default)]
pub(crate) struct Flatline {
    runs: Runs,
    lanes: RunLanes,
}

impl Watcher for Flatline {
    fn push(&mut self) {
        self.runs.push();
    }

    fn bytes(&self) -> usize {
        Runs::BYTES
    }

    #[allow(clippy::cast_precision_loss)] // runs are short
    fn update(&mut self, block: &Block<'_>, out: &mut Said) {
        let place = Place::of(block.rows);
        let takes = block.takes();
        self.runs.read(place, &mut self.lanes);
        let s = &mut self.lanes;
        for (i, &value) in block.values.iter().enumerate().take(LANES) {
            // a stuck value is the very same number
            let low = lower(value);
            let same = block.judged.repeats[i] > 0.0 && s.low[i] == low;
            let ended = s.run[i] as f32;
            s.run[i] = if same { s.run[i].saturating_add(1) } else { 0 };
            s.low[i] = low;
            let (run, seen) = (s.run[i] as f32, f32::from(s.count[i]));
            let says = s.count[i] >= FIRST && run >= SHORTEST && value != 0.0;
            // few runs are that long: the others cost no logarithm
            let p = if says {
                let share = (s.share[i] * seen + 2.0) / (seen + 10.0);
                let p = exp(run * ln(least(share, 1.0)));
                let known = run <= 1.5 * s.longest[i] + SHORTEST;
                if known { most(p, 1.0 / (seen + 2.0)) } else { p }
            } else {
                1.0
            };
            out.probability[i] = p;
            let far = if says {
                least(-ln(most(p, 1e-30)) / 3.0, 20.0)
            } else {
                0.0
            };
            out.distance[i] = if block.judged.distance[i] < 0.0 { -far } else { far };
            out.inside[i] = u8::from(!same);
            // what is missed is that it moves
            out.effect[i] = MOVES * block.judged.slow_scale[i];
            if !same {
                // a run that ended by itself is known from now on; a long one that was told counts for no more than twice
                let most_of = if takes[i] > 0.0 {
                    f32::MAX
                } else {
                    most(2.0 * s.longest[i], LONG_AT_FIRST)
                };
                s.longest[i] = flush(most(s.longest[i] * 0.999_5, least(ended, most_of)));
            }
            if takes[i] > 0.0 {
                // what is looked for is not learned
                if p >= CLIP_AT {
                    let gain = 1.0 / (seen + 1.0);
                    s.share[i] = flush(s.share[i] + gain * (f32::from(u8::from(same)) - s.share[i]));
                    s.count[i] = (s.count[i] + 1).min(LONG);
                }
            }
        }
        self.runs.write(place, &self.lanes);
    }

    fn reseat(&mut self, row: usize) {
        #[allow(clippy::cast_precision_loss)] // a count of windows
        let run = self.runs.run[row] as f32;
        self.runs.longest[row] = most(self.runs.longest[row], run);
    }

    fn words(&self, row: usize, value: f64) -> String {
        format!(
            "stuck at {}: the same value {} times in a row, where {}% of values repeat the one before and the longest run \
             of late was {}",
            number(value),
            self.runs.run[row].saturating_add(1),
            number(100.0 * f64::from(self.runs.share[row])),
            number(f64::from(self.runs.longest[row]) + 1.0)
        )
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn adopt(&mut self, row: usize, from: &dyn Watcher, from_row: usize) {
        if let Some(from) = same::<Self>(from) {
            self.runs.adopt(row, &from.runs, from_row);
        }
    }

    fn save(&self, out: &mut Columns) -> Result<(), Error> {
        self.runs.save("flatline", out);
        Ok(())
    }

    fn load(&mut self, from: &Columns, _: usize) -> Result<(), Error> {
        self.runs.load("flatline", from)?;
        if let Ok(last) = from.get("flatline", "last") {
            // as it was kept before: whole
            self.runs.low = load::<f64>(last)?.into_iter().map(lower).collect();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::save;

    #[test]
    fn last_values_that_were_kept_whole_are_taken_over_by_half() {
        let mut old = Columns::default();
        let last = [0.1, -3.0, f64::NAN];
        old.put("flatline", "count", save(&[7_u16, 8, 0]));
        old.put("flatline", "run", save(&[2_u32, 0, 0]));
        old.put("flatline", "last", save(&last));
        old.put("flatline", "share", save(&[0.5_f32, 0.0, 0.0]));
        old.put("flatline", "longest", save(&[3.0_f32, 0.0, 0.0]));
        let (from, _, _) = Columns::decode(&old.encode(3, None).unwrap(), 3).unwrap();
        let mut flatline = Flatline::default();
        flatline.load(&from, 3).unwrap();
        assert_eq!(
            (&flatline.runs.low[..], &flatline.runs.run[..]),
            (&last.map(lower)[..], &[2, 0, 0][..])
        );
        assert_ne!(lower(0.1), lower(0.1 + f64::EPSILON));
    }
}
