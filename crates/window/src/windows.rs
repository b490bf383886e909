//! One shard's windows: taking samples in, closing windows in order of time.

mod close;

use std::fmt;

use sketches_ddsketch::{Config, DDSketch};
use suture_event::{Span, Timestamp, impossible};

use crate::{
    Aggregate, Error, Gaps, Options,
    options::Shape,
    pane::{Cell, Fold, Pane, Taken, growth},
};

/// A window that has closed, as columns: entry `i` of each belongs to the series `rows[i]`.
#[derive(Debug, Clone, Copy)]
pub struct Closed<'a> {
    /// First instant inside it.
    pub start: Timestamp,
    /// First instant after it.
    pub end: Timestamp,
    /// Event time at which it was known: `end` plus the lateness; a sample's own time where each is its own window.
    pub at: Timestamp,
    /// The rows that sent a sample at some time and aren't forgotten, ascending.
    pub rows: &'a [u32],
    /// The aggregate; NaN where there was no sample and the gap policy gives none, and for a counter's first sample.
    pub values: &'a [f64],
    /// How many samples of this window went in.
    pub counts: &'a [u32],
    /// Time of the newest sample up to the window's end: see [`Self::last`].
    newest: Newest<'a>,
    levels: Levels<'a>,
    /// Rows that passed `forget_after` just now, ascending. They are absent from `rows` until they send again, and may
    /// be given to another series with [`Windows::reuse`].
    pub forgotten: &'a [u32],
}

/// Where the times of newest samples are: of all rows, or of the only one there is.
#[derive(Debug, Clone, Copy)]
enum Newest<'a> {
    Rows(&'a [i64]),
    One(Timestamp),
}

/// The newest values of counters, and where each row's is.
#[derive(Debug, Clone, Copy)]
struct Levels<'a> {
    side: &'a [u32],
    carried: &'a [f64],
}

impl<'a> Closed<'a> {
    /// The same window with other values.
    #[must_use]
    pub fn with_values(self, values: &'a [f64]) -> Self {
        Self { values, ..self }
    }

    /// The value of a counter's newest sample up to the window's end, where entry `i` is one that sent; otherwise of no meaning.
    #[must_use]
    pub fn level(&self, i: usize) -> f64 {
        let row = self.rows.get(i).map_or(usize::MAX, |row| *row as usize);
        let side = self.levels.side.get(row).map_or(usize::MAX, |side| *side as usize);
        self.levels.carried.get(side).copied().unwrap_or(f64::NAN)
    }
}

impl Closed<'_> {
    /// Time of the newest sample of entry `i` up to the window's end; of an entry that is not there, the earliest time.
    #[must_use]
    pub fn last(&self, i: usize) -> Timestamp {
        match self.newest {
            Newest::One(at) => at,
            Newest::Rows(newest) => {
                let row = self.rows.get(i).map_or(usize::MAX, |row| *row as usize);
                Timestamp::from_millis(newest.get(row).copied().unwrap_or(i64::MIN))
            }
        }
    }
}

/// What happened to samples and windows since the start; kept in snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Samples taken in.
    pub accepted: u64,
    /// Of these, older than the newest sample seen before.
    pub late_taken: u64,
    /// Dropped because their window had closed, or their series had gone further.
    pub late_dropped: u64,
    /// Dropped because their series already had a sample at that very time, where each sample is its own window.
    pub repeated: u64,
    /// Dropped because they were NaN or infinite.
    pub not_finite: u64,
    /// Dropped because their row was never added.
    pub unknown_row: u64,
    /// Counters' samples that came between two others and change nothing unless there was a reset between these.
    pub counter_between: u64,
    /// Falls of counters.
    pub counter_resets: u64,
    /// Windows reported.
    pub closed: u64,
    /// Windows without a sample that were jumped over, beyond `max_empty` in a row.
    pub jumped: u64,
    /// Rows reported as forgotten.
    pub forgotten: u64,
}

/// Samples whose cells are looked up ahead of them, and rows whose cells are near in any case.
const AHEAD: usize = 64;
const FITS: usize = 16_384;

/// Where a row is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Life {
    /// No window with a sample of it has closed yet.
    Unseen,
    /// Listed in every window.
    Live,
    /// Idle beyond `forget_after`.
    Forgotten,
}

/// What rows carry from window to window: a column a field, one entry a row.
#[derive(Debug, Default)]
pub(crate) struct Series {
    kind: Vec<u16>,
    /// The aggregates that there are, by kind: rows of a shard have few.
    kinds: Vec<Aggregate>,
    /// Place among the counters or sketches; 0 for other folds. As long as there are neither, nothing.
    pub(crate) side: Vec<u32>,
    pub(crate) life: Vec<Life>,
    /// Time of the newest sample up to the last closed pane.
    pub(crate) newest: Vec<i64>,
    /// Value of the last window with samples; kept only where gaps carry it on.
    pub(crate) shown: Vec<f64>,
    /// By counter: its newest value up to the last closed pane; NaN where there is none.
    pub(crate) carried: Vec<f64>,
    pub(crate) carried_at: Vec<i64>,
    /// What the newest value lacks, where it is out of date.
    pub(crate) owed: Vec<f64>,
    pub(crate) sketches: usize,
    free_counters: Vec<u32>,
    free_sketches: Vec<u32>,
}

impl Series {
    pub(crate) fn push(&mut self, aggregate: Aggregate, gaps: Gaps) {
        let kind = self.kind_of(aggregate);
        push(&mut self.kind, kind);
        self.sit(self.kind.len() - 1, Fold::from(aggregate));
        push(&mut self.life, Life::Unseen);
        push(&mut self.newest, i64::MIN);
        if gaps == Gaps::Carry {
            push(&mut self.shown, f64::NAN);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.kind.len()
    }

    pub(crate) fn aggregate(&self, row: usize) -> Aggregate {
        self.kinds[self.kind[row] as usize]
    }

    pub(crate) fn fold(&self, row: usize) -> Fold {
        Fold::from(self.aggregate(row))
    }

    /// A row's place among the counters or sketches.
    pub(crate) fn side(&self, row: usize) -> usize {
        self.side.get(row).copied().unwrap_or(0) as usize
    }

    /// Gives a row its place among the counters or sketches, where it needs one. From then on all rows have one.
    fn sit(&mut self, row: usize, fold: Fold) {
        if matches!(fold, Fold::Counter | Fold::Sketch) || !self.side.is_empty() {
            let side = self.side_for(fold);
            if self.side.len() <= row {
                self.side.resize(self.kind.len(), 0);
            }
            self.side[row] = side;
        }
    }

    fn kind_of(&mut self, aggregate: Aggregate) -> u16 {
        let known = self.kinds.iter().position(|known| *known == aggregate);
        let at = known.unwrap_or_else(|| {
            self.kinds.push(aggregate);
            self.kinds.len() - 1
        });
        u16::try_from(at).unwrap_or_else(|_| {
            impossible("a pipeline file with more than 65,536 aggregates");
            0
        })
    }

    /// The value shown last.
    pub(crate) fn shown(&self, row: usize) -> f64 {
        self.shown.get(row).copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn show(&mut self, row: usize, value: f64) {
        if let Some(shown) = self.shown.get_mut(row) {
            *shown = value;
        }
    }

    /// A place among the counters or sketches. Rows are `u32`, so these are too.
    fn side_for(&mut self, fold: Fold) -> u32 {
        match fold {
            Fold::Counter => self.free_counters.pop().unwrap_or_else(|| {
                self.carried.push(f64::NAN);
                self.carried_at.push(i64::MIN);
                self.owed.push(0.0);
                narrow(self.carried.len() - 1)
            }),
            Fold::Sketch => self.free_sketches.pop().unwrap_or_else(|| {
                self.sketches += 1;
                narrow(self.sketches - 1)
            }),
            _ => 0,
        }
    }

    fn replace(&mut self, row: usize, aggregate: Aggregate) {
        let side = self.side(row);
        match self.fold(row) {
            Fold::Counter => {
                self.carried[side] = f64::NAN;
                self.owed[side] = 0.0;
                self.free_counters.push(narrow(side));
            }
            Fold::Sketch => self.free_sketches.push(narrow(side)),
            _ => {}
        }
        self.sit(row, Fold::from(aggregate));
        self.kind[row] = self.kind_of(aggregate);
        self.life[row] = Life::Unseen;
        self.newest[row] = i64::MIN;
        self.show(row, f64::NAN);
    }
}

/// Puts an entry at the end of a column.
fn push<T>(column: &mut Vec<T>, entry: T) {
    make_room(column, column.len() + 1);
    column.push(entry);
}

/// Room for so many entries. A column that is too small grows by an eighth and not to twice its length: with a million rows
/// the difference is megabytes.
pub(crate) fn make_room<T>(column: &mut Vec<T>, entries: usize) {
    let missing = entries.saturating_sub(column.len());
    if column.capacity() < entries {
        column.reserve_exact(missing.max(column.len() / 8).max(64));
    }
}

/// Rows are counted in `u32`; what counts them can't be more.
pub(crate) fn narrow(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// The columns of the window that closes, reused from one to the next.
#[derive(Debug, Default)]
struct Buffers {
    block: Block,
    rows: Vec<u32>,
    values: Vec<f64>,
    counts: Vec<u32>,
    forgotten: Vec<u32>,
}

/// Rows whose panes are folded together before their columns are filled: they stay near in between.
const BLOCK: usize = 512;

/// A window's panes folded together, of some rows.
#[derive(Debug)]
struct Block {
    acc: Box<[f64; BLOCK]>,
    counts: Box<[u32; BLOCK]>,
    last: Box<[i64; BLOCK]>,
}

impl Default for Block {
    fn default() -> Self {
        Self {
            acc: Box::new([0.0; BLOCK]),
            counts: Box::new([0; BLOCK]),
            last: Box::new([i64::MIN; BLOCK]),
        }
    }
}

/// The windows of one shard: a fold over its samples in the order they arrived. See the crate's page for the rules.
pub struct Windows {
    pub(crate) options: Options,
    pub(crate) shape: Option<Shape>,
    pub(crate) series: Series,
    pub(crate) panes: Vec<Pane>,
    pub(crate) counters: Counters,
    /// Newest event time seen; `i64::MIN` before the first sample.
    pub(crate) newest: i64,
    /// The pane that closes next.
    pub(crate) next: i64,
    /// The event time at which it does: the one comparison that most samples cost.
    pub(crate) next_close: i64,
    /// Reported windows without a sample, in a row.
    pub(crate) empty_run: u32,
    pub(crate) live: usize,
    /// The pane that the last sample went to: most go to the same.
    pub(crate) current: Current,
    pub(crate) config: Config,
    buffers: Buffers,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Current {
    start: i64,
    end: i64,
    slot: usize,
}

pub(crate) const NOWHERE: Current = Current {
    start: i64::MAX,
    end: i64::MIN,
    slot: 0,
};

impl fmt::Debug for Windows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Windows");
        text.field("series", &self.len())
            .field("watermark", &self.watermark())
            .field("counters", &self.counters);
        text.finish_non_exhaustive()
    }
}

impl Windows {
    /// No series and no samples yet.
    ///
    /// # Errors
    /// [`Error::Options`] with everything that is wrong with them.
    pub fn new(options: &Options) -> Result<Self, Error> {
        let problems = options.validate();
        if !problems.is_empty() {
            return Err(Error::Options { problems });
        }
        let shape = options.shape();
        let panes = shape.map_or(0, |shape| usize::try_from(shape.ring).unwrap_or(0));
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // the error is within 0.0001..=0.2
        let bins = (20.48 / options.quantile_error) as u32;
        Ok(Self {
            options: options.clone(),
            shape,
            series: Series::default(),
            panes: (0..panes).map(|_| Pane::default()).collect(),
            counters: Counters::default(),
            newest: i64::MIN,
            next: 0,
            next_close: i64::MIN,
            empty_run: 0,
            live: 0,
            current: NOWHERE,
            config: Config::new(options.quantile_error, bins, 1e-9),
            buffers: Buffers::default(),
        })
    }

    /// Adds a series and gives its row: 0, 1, 2 and so on.
    pub fn add_series(&mut self, aggregate: Aggregate) -> u32 {
        self.series.push(aggregate, self.options.gaps);
        narrow(self.series.len() - 1)
    }

    /// What a row's windows are made to; `None` for a row that was never added.
    #[must_use]
    pub fn aggregate(&self, row: u32) -> Option<Aggregate> {
        let at = row as usize;
        (at < self.len()).then(|| self.series.aggregate(at))
    }

    /// Time of a row's newest sample in a window that has closed; `None` before the first, and for a row that was never
    /// added.
    #[must_use]
    pub fn last(&self, row: u32) -> Option<Timestamp> {
        let newest = self.series.newest.get(row as usize).copied();
        newest.filter(|newest| *newest != i64::MIN).map(Timestamp::from_millis)
    }

    /// Gives a forgotten row to another series, so that series that come and go need no more rows than live at a time.
    ///
    /// # Errors
    /// [`Error::Row`] where the row is unknown or not forgotten.
    pub fn reuse(&mut self, row: u32, aggregate: Aggregate) -> Result<(), Error> {
        let at = row as usize;
        match self.series.life.get(at) {
            Some(Life::Forgotten) => {}
            Some(_) => return Err(Error::Row { row, state: "in use" }),
            None => return Err(Error::Row { row, state: "unknown" }),
        }
        let was_sketch = self.series.fold(at) == Fold::Sketch;
        let side = self.series.side(at);
        self.series.replace(at, aggregate);
        for pane in &mut self.panes {
            if was_sketch && let Some(sketch) = pane.sketches.get_mut(side) {
                *sketch = DDSketch::new(self.config);
            }
            if let Some(cell) = pane.cells.get_mut(at) {
                *cell = Cell::new(self.series.fold(at));
            }
            pane.grow(&self.series, self.config);
        }
        Ok(())
    }

    /// At most so many rows, with the time of their newest sample, of which no open pane has a sample, the longest silent first and of equals the lower row. Where
    /// each sample is its own window: whose newest sample is not the newest of all.
    ///
    /// Costs a pass over all rows.
    #[must_use]
    pub fn idle(&self, most: usize) -> Vec<(Timestamp, u32)> {
        let rows = 0..self.series.len();
        let mut idle: Vec<(i64, u32)> = rows
            .filter(|row| self.is_idle(*row))
            .map(|row| (self.series.newest[row], narrow(row)))
            .collect();
        if idle.len() > most && most > 0 {
            idle.select_nth_unstable(most - 1);
        }
        idle.truncate(most);
        idle.sort_unstable();
        let newest = |(newest, row)| (Timestamp::from_millis(newest), row);
        idle.into_iter().map(newest).collect()
    }

    fn is_idle(&self, row: usize) -> bool {
        !self.is_back(row) && (self.shape.is_some() || self.series.newest[row] < self.newest)
    }

    /// Forgets a row before its time, so that it may be given to another series; `false`, and nothing done, where it is not
    /// among the [`Self::idle`] ones, or has had another sample since.
    pub fn forget(&mut self, row: u32, newest: Timestamp) -> bool {
        let at = row as usize;
        let known = self.series.newest.get(at).map(|newest| Timestamp::from_millis(*newest));
        if known != Some(newest) || !self.is_idle(at) {
            return false;
        }
        if self.series.life[at] == Life::Live {
            self.live -= 1;
        }
        if self.series.life[at] != Life::Forgotten {
            self.counters.forgotten += 1;
        }
        self.series.life[at] = Life::Forgotten;
        true
    }

    /// How many rows were added.
    #[must_use]
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether no row was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.series.len() == 0
    }

    /// The newest event time seen; [`Timestamp::MIN`] before the first sample.
    #[must_use]
    pub fn newest(&self) -> Timestamp {
        Timestamp::from_millis(self.newest)
    }

    /// The newest event time seen less the lateness; [`Timestamp::MIN`] before the first sample.
    #[must_use]
    pub fn watermark(&self) -> Timestamp {
        Timestamp::from_millis(self.newest).minus(self.options.lateness)
    }

    /// What happened to samples and windows since the start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Takes samples in arrival order: entry `i` of each slice is one sample; what is longer than the shortest is not
    /// read. Calls `sink` for each window that closes, in order of time, at the very sample that moved the watermark
    /// over its end plus lateness, so that any split into batches gives the same calls.
    ///
    /// Allocates nothing once every pane and sketch has seen its rows.
    pub fn push(&mut self, rows: &[u32], ts: &[Timestamp], values: &[f64], sink: &mut dyn FnMut(&Closed<'_>)) {
        debug_assert!(rows.len() == ts.len() && ts.len() == values.len());
        let parts = rows.chunks(AHEAD).zip(ts.chunks(AHEAD)).zip(values.chunks(AHEAD));
        for ((rows, ts), values) in parts {
            self.look_ahead(rows);
            self.push_part(rows, ts, values, sink);
        }
    }

    /// Closes every window that a sample of that time would close, though none has come: a sample that comes later and belongs
    /// in one of them is late. Nothing happens before the first sample, where each sample is a window of its own, or for a time
    /// that has been reached.
    pub fn pass_to(&mut self, to: Timestamp, sink: &mut dyn FnMut(&Closed<'_>)) {
        if let Some(shape) = self.shape.filter(|_| self.closes_at().is_some_and(|at| at <= to)) {
            self.advance(shape, to.as_millis(), sink);
        }
    }

    /// The time of a sample from which on a window closes; `None` before the first sample, and where each sample is a window
    /// of its own.
    #[must_use]
    pub fn closes_at(&self) -> Option<Timestamp> {
        let begun = self.shape.is_some() && self.newest != i64::MIN;
        begun.then(|| Timestamp::from_millis(self.next_close))
    }

    /// Touches the cells that the next samples go to. With many rows these are anywhere in memory; none of these reads
    /// waits for another, where a sample's update would wait for its own.
    #[inline]
    fn look_ahead(&self, rows: &[u32]) {
        let Some(pane) = self.panes.get(self.current.slot) else {
            return;
        };
        if pane.cells.len() > FITS {
            let touched = |sum: u32, row: &u32| sum ^ pane.cells.get(*row as usize).map_or(0, |cell| cell.last);
            std::hint::black_box(rows.iter().fold(0, touched));
        }
    }

    fn push_part(&mut self, rows: &[u32], ts: &[Timestamp], values: &[f64], sink: &mut dyn FnMut(&Closed<'_>)) {
        let shape = self.shape;
        let count = rows.len().min(ts.len()).min(values.len());
        let mut at = 0;
        while at < count {
            at += self.take_run(&rows[at..count], &ts[at..count], &values[at..count]);
            if at == count {
                break;
            }
            let (row, ts, value) = (rows[at] as usize, ts[at].as_millis(), values[at]);
            at += 1;
            if !value.is_finite() {
                self.counters.not_finite += 1;
            } else if row >= self.series.len() {
                self.counters.unknown_row += 1;
            } else if let Some(shape) = shape {
                self.take(shape, row, ts, value, sink);
            } else {
                self.pass(row, ts, value, sink);
            }
        }
    }

    /// Takes samples in up to the first that is not one of the current pane's, or not as it should be, and tells how many
    /// these are.
    #[inline]
    fn take_run(&mut self, rows: &[u32], ts: &[Timestamp], values: &[f64]) -> usize {
        let Some(pane) = self.panes.get_mut(self.current.slot) else {
            return 0;
        };
        let (start, end) = (self.current.start, self.current.end.min(self.next_close));
        let (mut newest, mut late, mut between, mut resets, mut taken) = (self.newest, 0, 0, 0, 0);
        for ((&row, &ts), &value) in rows.iter().zip(ts).zip(values) {
            let (row, ts) = (row as usize, ts.as_millis());
            if ts < start || ts >= end || row >= pane.cells.len() || !value.is_finite() {
                break;
            }
            late += u64::from(ts < newest);
            newest = newest.max(ts);
            match pane.take(row, &self.series.side, ts, value) {
                Some(Taken::Between) => between += 1,
                Some(Taken::Reset) => resets += 1,
                _ => {}
            }
            taken += 1;
        }
        self.newest = newest;
        self.counters.accepted += taken as u64;
        self.counters.late_taken += late;
        self.counters.counter_between += between;
        self.counters.counter_resets += resets;
        taken
    }

    #[inline]
    fn take(&mut self, shape: Shape, row: usize, ts: i64, value: f64, sink: &mut dyn FnMut(&Closed<'_>)) {
        if ts >= self.next_close {
            self.advance(shape, ts, sink);
        }
        if ts < self.current.start || ts >= self.current.end {
            let index = ts.div_euclid(shape.slide);
            if index < self.next {
                self.counters.late_dropped += 1;
                return;
            }
            let slot = self.slot(shape, index);
            let start = index * shape.slide;
            self.current = Current {
                start,
                end: start + shape.slide,
                slot,
            };
            let pane = &mut self.panes[slot];
            debug_assert!(!pane.used || pane.index == index);
            (pane.index, pane.start, pane.used) = (index, start, true);
        }
        if ts >= self.newest {
            self.newest = ts;
        } else {
            self.counters.late_taken += 1;
        }
        let pane = &mut self.panes[self.current.slot];
        if row >= pane.cells.len() {
            pane.grow(&self.series, self.config);
        }
        match pane.take(row, &self.series.side, ts, value) {
            Some(Taken::Between) => self.counters.counter_between += 1,
            Some(Taken::Reset) => self.counters.counter_resets += 1,
            _ => {}
        }
        self.counters.accepted += 1;
    }

    pub(crate) fn slot(&self, shape: Shape, index: i64) -> usize {
        debug_assert!(self.panes.len() == usize::try_from(shape.ring).unwrap_or(0));
        usize::try_from(index.rem_euclid(shape.ring)).unwrap_or(0)
    }

    /// Closes every window that a sample at `ts` lets close.
    #[cold]
    fn advance(&mut self, shape: Shape, ts: i64, sink: &mut dyn FnMut(&Closed<'_>)) {
        self.current = NOWHERE;
        let lateness = self.options.lateness.as_millis();
        // the first pane that stays open
        let target = (ts - lateness).div_euclid(shape.slide);
        if self.newest == i64::MIN {
            self.next = target;
        }
        while self.next < target {
            let empty = (self.next - shape.per_window + 1..=self.next).all(|index| self.pane(shape, index).is_none());
            if empty && (self.live == 0 || self.empty_run >= self.options.max_empty) {
                let used = self
                    .panes
                    .iter()
                    .filter(|pane| pane.used && pane.index >= self.next)
                    .map(|pane| pane.index);
                let to = used.min().unwrap_or(target).min(target);
                if self.live > 0 {
                    self.counters.jumped += to.abs_diff(self.next);
                }
                self.next = to;
                continue;
            }
            self.empty_run = if empty { self.empty_run + 1 } else { 0 };
            self.close(shape, sink);
            let leaving = self.slot(shape, self.next - shape.per_window + 1);
            self.panes[leaving].clear(self.config);
            self.next += 1;
        }
        self.next_close = (self.next + 1) * shape.slide + lateness;
    }

    pub(crate) fn pane(&self, shape: Shape, index: i64) -> Option<&Pane> {
        self.panes
            .get(self.slot(shape, index))
            .filter(|pane| pane.used && pane.index == index)
    }

    /// A sample that is a window of its own.
    fn pass(&mut self, row: usize, ts: i64, value: f64, sink: &mut dyn FnMut(&Closed<'_>)) {
        let before = self.series.newest[row];
        if ts <= before {
            let counter = if ts == before {
                &mut self.counters.repeated
            } else {
                &mut self.counters.late_dropped
            };
            *counter += 1;
            return;
        }
        let value = match self.series.aggregate(row) {
            Aggregate::Count => 1.0,
            aggregate if aggregate.reads_a_counter() => self.pass_counter(row, ts, value, before),
            _ => value,
        };
        self.series.newest[row] = ts;
        if ts >= self.newest {
            self.newest = ts;
        } else {
            self.counters.late_taken += 1;
        }
        self.counters.accepted += 1;
        self.counters.closed += 1;
        let at = Timestamp::from_millis(ts);
        sink(&Closed {
            start: at,
            end: at,
            at,
            rows: &[narrow(row)],
            values: &[value],
            counts: &[1],
            newest: Newest::One(at),
            levels: Levels {
                side: &self.series.side,
                carried: &self.series.carried,
            },
            forgotten: &[],
        });
    }

    fn pass_counter(&mut self, row: usize, ts: i64, value: f64, before: i64) -> f64 {
        let side = self.series.side(row);
        let carried = std::mem::replace(&mut self.series.carried[side], value);
        if carried.is_nan() || ts - before > self.options.forget_after.as_millis() {
            return f64::NAN;
        }
        let (gain, reset) = growth(carried, value, &mut self.series.owed[side]);
        self.counters.counter_resets += u64::from(reset);
        finite(match self.series.aggregate(row) {
            Aggregate::Rate => gain / Span::from_millis(ts - before).as_secs_f64(),
            _ => gain,
        })
    }
}

/// A sum of finite samples may overflow; what leaves here doesn't.
fn finite(value: f64) -> f64 {
    if value.is_infinite() {
        f64::MAX.copysign(value)
    } else {
        value
    }
}
