//! The samples of one pane, one cell a row.

use sketches_ddsketch::{Config, DDSketch};

use crate::{
    Aggregate,
    windows::{Series, make_room},
};

/// How a cell folds a sample in: the aggregate without its parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Fold {
    Count,
    Sum,
    Min,
    Max,
    Last,
    Counter,
    Sketch,
}

impl From<Aggregate> for Fold {
    fn from(aggregate: Aggregate) -> Self {
        match aggregate {
            Aggregate::Count => Self::Count,
            Aggregate::Sum | Aggregate::Mean => Self::Sum,
            Aggregate::Min => Self::Min,
            Aggregate::Max => Self::Max,
            Aggregate::Last => Self::Last,
            Aggregate::Rate | Aggregate::Increase => Self::Counter,
            Aggregate::Quantile(_) => Self::Sketch,
        }
    }
}

impl Fold {
    const fn from_bits(bits: u32) -> Self {
        match bits {
            0 => Self::Count,
            1 => Self::Sum,
            2 => Self::Min,
            3 => Self::Max,
            4 => Self::Last,
            5 => Self::Counter,
            _ => Self::Sketch,
        }
    }
}

/// What one row has in one pane. The parts stand together because a sample touches all of them, at a row that no cache
/// could foresee: sixteen bytes of one line of memory are what a sample costs when there are a million rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cell {
    /// The sum, extreme, last value or increase so far; means nothing while the count is 0.
    pub(crate) acc: f64,
    /// Time of the newest sample, from the pane's start.
    pub(crate) last: u32,
    /// How many samples, and above them the fold.
    packed: u32,
}

/// Bits of a count. More samples of one series in one pane than that are taken in, but counted no further.
const COUNT: u32 = (1 << 28) - 1;

impl Cell {
    pub(crate) const fn new(fold: Fold) -> Self {
        Self {
            acc: 0.0,
            last: 0,
            packed: (fold as u32) << 28,
        }
    }

    pub(crate) const fn count(&self) -> u32 {
        self.packed & COUNT
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.count() == 0
    }

    pub(crate) const fn fold(&self) -> Fold {
        Fold::from_bits(self.packed >> 28)
    }

    pub(crate) fn set_count(&mut self, count: u32) {
        self.packed = self.packed & !COUNT | count.min(COUNT);
    }

    pub(crate) const fn clear(&mut self) {
        self.packed &= !COUNT;
    }
}

/// What a counter has in one pane beside its cell, whose `acc` is the increase from the first to the newest sample.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CounterCell {
    pub(crate) first: f64,
    pub(crate) first_at: i64,
    pub(crate) newest: f64,
    /// By how much the newest value lies below one before it: see [`growth`].
    pub(crate) owed: f64,
    /// Milliseconds over which `acc` was gained; set when the pane closes.
    pub(crate) elapsed: i64,
}

/// One piece of time as long as the slide.
#[derive(Default)]
pub(crate) struct Pane {
    /// Its start divided by the slide.
    pub(crate) index: i64,
    /// Its first millisecond.
    pub(crate) start: i64,
    /// Whether it has a sample.
    pub(crate) used: bool,
    pub(crate) cells: Vec<Cell>,
    pub(crate) counters: Vec<CounterCell>,
    pub(crate) sketches: Vec<DDSketch>,
}

/// What became of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    Plainly,
    /// A counter's sample between two others: without a reset in between it changes nothing.
    Between,
    /// A counter fell.
    Reset,
}

/// A value of at least this share of the one before is no restart.
const DIP: f64 = 0.5;

/// How much a counter grew from one sample to the next, and whether it was reset in between.
///
/// A restart begins at zero. A value that is only somewhat lower than the one before is an answer that is out of date, of a
/// replica that lags or a cache: it adds nothing, and what it lacks is `owed`, so that the next answer that is up to date
/// again does not count for growth what was counted before. A counter that was truly set back a little goes on from there:
/// no step as large as what is owed comes, and within a window or two it is forgotten.
pub(crate) fn growth(earlier: f64, later: f64, owed: &mut f64) -> (f64, bool) {
    let step = later - earlier;
    if step >= 0.0 {
        let made_good = *owed > 0.0 && step >= *owed;
        let gain = if made_good { step - std::mem::take(owed) } else { step };
        (gain, false)
    } else if later >= DIP * earlier {
        *owed -= step;
        (0.0, false)
    } else {
        *owed = 0.0;
        (later, true)
    }
}

impl Pane {
    /// Makes room for rows that were added since the pane was last used.
    #[cold]
    pub(crate) fn grow(&mut self, series: &Series, config: Config) {
        let new = self.cells.len()..series.len();
        make_room(&mut self.cells, series.len());
        self.cells.extend(new.map(|row| Cell::new(series.fold(row))));
        if self.counters.len() < series.carried.len() {
            self.counters.resize(series.carried.len(), CounterCell::default());
        }
        if self.sketches.len() < series.sketches {
            self.sketches.resize_with(series.sketches, || DDSketch::new(config));
        }
    }

    /// Folds a sample of the pane into a row's cell. `side` is the row's place among counters or sketches.
    #[inline]
    pub(crate) fn take(&mut self, row: usize, side: &[u32], ts: i64, value: f64) -> Option<Taken> {
        let cell = self.cells.get_mut(row)?;
        // a pane is shorter than 2^32 milliseconds
        let at = u32::try_from(ts - self.start).unwrap_or(u32::MAX);
        let first = cell.is_empty();
        let mut taken = Taken::Plainly;
        match cell.fold() {
            Fold::Count => {}
            Fold::Sum => cell.acc = if first { value } else { cell.acc + value },
            Fold::Min => cell.acc = if first { value } else { cell.acc.min(value) },
            Fold::Max => cell.acc = if first { value } else { cell.acc.max(value) },
            Fold::Last => {
                if first || at >= cell.last {
                    cell.acc = value;
                }
            }
            Fold::Counter => {
                let newest = (!first).then(|| self.start + i64::from(cell.last));
                let counter = self.counters.get_mut(*side.get(row)? as usize)?;
                taken = counter.take(&mut cell.acc, newest, ts, value);
            }
            Fold::Sketch => self.sketches.get_mut(*side.get(row)? as usize)?.add(value),
        }
        cell.last = if first { at } else { cell.last.max(at) };
        cell.set_count(cell.count() + 1);
        Some(taken)
    }

    /// Empties the pane for the piece of time that will use its place next. Memory is kept.
    pub(crate) fn clear(&mut self, config: Config) {
        if !self.used {
            return;
        }
        self.used = false;
        self.cells.iter_mut().for_each(Cell::clear);
        for sketch in &mut self.sketches {
            *sketch = DDSketch::new(config);
        }
    }
}

impl CounterCell {
    /// Takes a sample in; `newest` is the time of the newest one before it in the pane.
    fn take(&mut self, increase: &mut f64, newest: Option<i64>, ts: i64, value: f64) -> Taken {
        let Some(newest) = newest else {
            *self = Self {
                first: value,
                first_at: ts,
                newest: value,
                owed: 0.0,
                elapsed: 0,
            };
            *increase = 0.0;
            return Taken::Plainly;
        };
        let (gain, reset) = if ts > newest {
            let step = growth(self.newest, value, &mut self.owed);
            self.newest = value;
            step
        } else if ts < self.first_at {
            if value > self.first && self.first >= DIP * value {
                // of two that contradict each other by little, the one that is lower is out of date
                self.first_at = ts;
                return Taken::Between;
            }
            let step = growth(value, self.first, &mut 0.0);
            (self.first, self.first_at) = (value, ts);
            step
        } else {
            return Taken::Between;
        };
        *increase += gain;
        if reset { Taken::Reset } else { Taken::Plainly }
    }
}
