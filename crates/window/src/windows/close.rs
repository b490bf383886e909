//! Closing windows: what a window makes of its panes.

use std::ops::Range;

use sketches_ddsketch::DDSketch;
use suture_event::{Span, Timestamp};

use super::{BLOCK, Block, Closed, Levels, Life, Newest, Windows, finite, make_room, narrow};
use crate::{
    Aggregate, Gaps,
    options::Shape,
    pane::{Fold, growth},
};

impl Windows {
    /// Reports the window whose last pane is `self.next`.
    pub(super) fn close(&mut self, shape: Shape, sink: &mut dyn FnMut(&Closed<'_>)) {
        self.settle_counters(shape);
        let end = (self.next + 1) * shape.slide;
        let start = end - shape.per_window * shape.slide;
        self.fill_columns(shape, start, end);
        let out = &self.buffers;
        if out.rows.is_empty() && out.forgotten.is_empty() {
            return;
        }
        self.counters.closed += 1;
        self.counters.forgotten += out.forgotten.len() as u64;
        let end = Timestamp::from_millis(end);
        sink(&Closed {
            start: Timestamp::from_millis(start),
            end,
            at: end.plus(self.options.lateness),
            rows: &out.rows,
            values: &out.values,
            counts: &out.counts,
            newest: Newest::Rows(&self.series.newest),
            levels: Levels {
                side: &self.series.side,
                carried: &self.series.carried,
            },
            forgotten: &out.forgotten,
        });
    }

    /// Adds to the closing pane's counters what they grew since the last sample of an earlier pane, and carries on.
    fn settle_counters(&mut self, shape: Shape) {
        let slot = self.slot(shape, self.next);
        let pane = &mut self.panes[slot];
        if !pane.used || pane.index != self.next || pane.counters.is_empty() {
            return;
        }
        let start = self.next * shape.slide;
        let oldest = start - (i64::from(self.options.gap_limit) + shape.per_window) * shape.slide;
        for (cell, &side) in pane.cells.iter_mut().zip(&self.series.side) {
            if cell.fold() != Fold::Counter || cell.is_empty() {
                continue;
            }
            let side = side as usize;
            let counter = &mut pane.counters[side];
            let (carried, carried_at) = (self.series.carried[side], self.series.carried_at[side]);
            let mut since = counter.first_at;
            if !carried.is_nan() && carried_at >= oldest {
                let mut owed = self.series.owed[side];
                let (gain, reset) = growth(carried, counter.first, &mut owed);
                // out of date all through: what is lacking may be made good later on
                if counter.owed == 0.0 && counter.newest - counter.first < owed {
                    counter.owed = owed;
                }
                cell.acc += gain;
                since = carried_at;
                self.counters.counter_resets += u64::from(reset);
            }
            let last = start + i64::from(cell.last);
            counter.elapsed = last - since;
            self.series.carried[side] = counter.newest;
            self.series.owed[side] = counter.owed;
            self.series.carried_at[side] = last;
        }
    }

    /// Folds the panes of some rows of the window together, oldest first.
    fn combine(&self, shape: Shape, rows: Range<usize>, block: &mut Block) {
        let Block { acc, counts, last } = block;
        counts.fill(0);
        last.fill(i64::MIN);
        for index in self.next - shape.per_window + 1..=self.next {
            let Some(pane) = self.pane(shape, index) else { continue };
            let cells = pane.cells.get(rows.start..rows.end.min(pane.cells.len()));
            let places = acc.iter_mut().zip(counts.iter_mut()).zip(last.iter_mut());
            for (cell, ((acc, count), last)) in cells.unwrap_or_default().iter().zip(places) {
                if cell.is_empty() {
                    continue;
                }
                let first = *count == 0;
                match cell.fold() {
                    Fold::Sum => *acc = if first { cell.acc } else { *acc + cell.acc },
                    Fold::Min => *acc = if first { cell.acc } else { acc.min(cell.acc) },
                    Fold::Max => *acc = if first { cell.acc } else { acc.max(cell.acc) },
                    Fold::Last => *acc = cell.acc,
                    Fold::Count | Fold::Counter | Fold::Sketch => {}
                }
                *count = count.saturating_add(cell.count());
                *last = pane.start + i64::from(cell.last);
            }
        }
    }

    fn fill_columns(&mut self, shape: Shape, start: i64, end: i64) {
        let mut out = std::mem::take(&mut self.buffers);
        out.rows.clear();
        out.values.clear();
        out.counts.clear();
        out.forgotten.clear();
        let filled_from = start - i64::from(self.options.gap_limit) * shape.slide;
        let forgotten_from = end - self.options.forget_after.as_millis();
        let rows = self.series.len();
        // as many entries as the last time, or nearly so
        let entries = rows.min(self.live + BLOCK);
        make_room(&mut out.rows, entries);
        make_room(&mut out.values, entries);
        make_room(&mut out.counts, entries);
        for row in 0..rows {
            let place = row % BLOCK;
            if place == 0 {
                self.combine(shape, row..rows.min(row + BLOCK), &mut out.block);
            }
            let count = out.block.counts[place];
            let value = if count > 0 {
                if self.series.life[row] != Life::Live {
                    self.series.life[row] = Life::Live;
                    self.live += 1;
                }
                self.series.newest[row] = out.block.last[place];
                let value = self.value(shape, row, out.block.acc[place], count);
                if !value.is_nan() {
                    self.series.show(row, value);
                }
                value
            } else if self.series.life[row] != Life::Live {
                continue;
            } else if self.series.newest[row] < forgotten_from && !self.is_back(row) {
                self.series.life[row] = Life::Forgotten;
                self.live -= 1;
                out.forgotten.push(narrow(row));
                continue;
            } else if self.series.newest[row] < filled_from {
                f64::NAN
            } else {
                match self.options.gaps {
                    Gaps::Skip => f64::NAN,
                    Gaps::Carry => self.series.shown(row),
                    Gaps::Zero => 0.0,
                }
            };
            out.rows.push(narrow(row));
            out.values.push(value);
            out.counts.push(count);
        }
        self.buffers = out;
    }

    /// Whether a pane that is still open has a sample of the row.
    pub(super) fn is_back(&self, row: usize) -> bool {
        self.panes
            .iter()
            .any(|pane| pane.used && pane.cells.get(row).is_some_and(|cell| !cell.is_empty()))
    }

    fn value(&self, shape: Shape, row: usize, acc: f64, count: u32) -> f64 {
        let value = match self.series.aggregate(row) {
            Aggregate::Count => f64::from(count),
            Aggregate::Mean => acc / f64::from(count),
            Aggregate::Sum | Aggregate::Min | Aggregate::Max | Aggregate::Last => acc,
            Aggregate::Rate => match self.gain(shape, row) {
                (gain, elapsed) if elapsed > 0 => gain / Span::from_millis(elapsed).as_secs_f64(),
                _ => f64::NAN,
            },
            Aggregate::Increase => match self.gain(shape, row) {
                (gain, elapsed) if elapsed > 0 => gain,
                _ => f64::NAN,
            },
            Aggregate::Quantile(share) => self.quantile(shape, row, share),
        };
        finite(value)
    }

    /// How much a counter grew over the window, and over how many milliseconds; none where it has but one sample.
    fn gain(&self, shape: Shape, row: usize) -> (f64, i64) {
        let mut sum = (0.0, 0);
        for index in self.next - shape.per_window + 1..=self.next {
            let Some(pane) = self.pane(shape, index) else { continue };
            let (Some(cell), Some(counter)) = (pane.cells.get(row), pane.counters.get(self.series.side(row))) else {
                continue;
            };
            if !cell.is_empty() && counter.elapsed > 0 {
                sum = (sum.0 + cell.acc, sum.1 + counter.elapsed);
            }
        }
        sum
    }

    fn quantile(&self, shape: Shape, row: usize, share: f64) -> f64 {
        let side = self.series.side(row);
        let mut merged: Option<DDSketch> = None;
        let mut only: Option<&DDSketch> = None;
        for index in self.next - shape.per_window + 1..=self.next {
            let Some(sketch) = self.pane(shape, index).and_then(|pane| pane.sketches.get(side)) else {
                continue;
            };
            if sketch.count() == 0 {
                continue;
            }
            match (&mut merged, only) {
                (Some(merged), _) => {
                    // they share one configuration, the only thing that could refuse
                    let _ = merged.merge(sketch);
                }
                (None, Some(first)) => {
                    let mut both = first.clone();
                    let _ = both.merge(sketch);
                    merged = Some(both);
                }
                (None, None) => only = Some(sketch),
            }
        }
        let Some(sketch) = merged.as_ref().or(only) else {
            return f64::NAN;
        };
        let (Ok(Some(value)), Some(min), Some(max)) = (sketch.quantile(share), sketch.min(), sketch.max()) else {
            return f64::NAN;
        };
        value.clamp(min, max)
    }
}
