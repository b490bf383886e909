//! The robust seasonal detector: how far a value is from what level, trend and season foretell.
//!
//! Forecasters run side by side: a slow and a fast exponentially weighted level, a level with a trend, and for each season
//! the slow and fast level of what is left when the season is taken out. Updates are clipped where a value lies far outside
//! (S. Gelper, R. Fried, C. Croux, "Robust forecasting with exponential and Holt-Winters smoothing", Journal of
//! Forecasting 29, 2010), so that an outlier moves level and scale by a bounded amount. The forecaster whose errors have
//! been least is believed, the simpler one where two are close: a season or a trend has to earn its keep.
//!
//! State is single precision, and of large values it is the difference from an origin in double precision: what it can't tell
//! apart, 1e-7 of that difference, is a fifty-thousandth of the least deviation that is taken seriously. Values beyond 1e30
//! count as 1e30, and those nearer to 0 than 1e-30 as 0. Entries are worked on in blocks, step by step for all of a block's
//! entries, without branches, so that the steps become vector instructions.

// one index into many arrays of the same length, which is what becomes vector instructions
#![allow(clippy::needless_range_loop)]

use crate::{
    Column, Options,
    bank::Judged,
    fast::{TINY, flush, least, most, pick, within},
    season::Season,
    state::{Columns, LANES, Lanes, Place, columns},
    tail::{Level, TailLanes, Tails},
    words::number,
};

/// Points of the daily profile, and of the weekly one.
const DAILY: usize = 48;
const WEEKLY: usize = 168;
const MINUTE: i64 = 60_000;
const DAY: i64 = 1_440 * MINUTE;

pub(crate) const SLOW: f32 = 0.01;
pub(crate) const FAST: f32 = 0.3;
const HOLT_LEVEL: f32 = 0.1;
const HOLT_TREND: f32 = 0.005;
/// Errors beyond this many standard deviations count as this many.
pub(crate) const CLIP: f32 = 3.0;
/// Gain of the scales, and how it starts.
const SCALE: f32 = 0.01;
/// Distances less likely than this, or than the alarm, are learned as if they were just so likely.
const CLIP_AT: f64 = 1e-4;
/// Mean absolute deviation to standard deviation of a normal distribution.
const MEAN_ABS: f32 = 1.2533;
/// Least scale as a share of the level: what nobody would call a change. Where the least effect that matters is stated, as a
/// share of the level too, it is no more than that.
const LEAST_SCALE: f32 = 0.001;
/// What single precision, and double, can tell apart of a number, with some room.
const SINGLE: f32 = 5e-7;
const DOUBLE: f32 = 1e-15;
/// Levels from here on are kept as the difference from an origin: single precision counts whole numbers up to this. They are
/// moved to another one where they have come so far from it, and so many scales.
const FAR: f64 = 16_777_216.0;
const SCALES: f32 = 1e5;
/// Values beyond this count as this.
const LARGEST: f64 = 1e30;
/// By how much a forecaster must beat the simpler ones, in the order of [`FORECASTERS`].
const HANDICAP: [f32; 7] = [1.0, 1.5, 1.45, 1.05, 1.5, 1.1, 1.55];

pub(crate) const FORECASTERS: [&str; 7] = [
    "level",
    "fast level",
    "level and trend",
    "level and time of day",
    "fast level and time of day",
    "level and time of week",
    "fast level and time of week",
];

columns! {
    /// Numbers a series, besides its seasons and tail.
    pub(crate) struct Levels in LevelLanes {
        /// Values learned.
        count: u32 = 0,
        /// End of the last window with a value.
        last: i64 = i64::MIN,
        /// End of the first window, in minutes since the epoch.
        first: i32 = 0,
        /// Windows that must pass before anything is said again, after a gap.
        settle: u8 = 0,
        /// Which forecaster is believed.
        chosen: u8 = 0,
        /// What levels, and the last value, are the difference from; 0 but for large values.
        origin: f64 = 0.0,
        /// Usual milliseconds between values.
        step: f32 = 0.0,
        /// The last value.
        value: f32 = 0.0,
        slow: f32 = 0.0,
        fast: f32 = 0.0,
        holt: f32 = 0.0,
        trend: f32 = 0.0,
        slow_scale: f32 = 0.0,
        fast_scale: f32 = 0.0,
        holt_scale: f32 = 0.0,
        /// Unit of the seasons' profiles.
        unit: f32 = 0.0,
        /// Least difference between two values in a row that was not zero.
        grain: f32 = f32::MAX,
    }
}

/// What is known of the entries in hand before anything is judged.
#[derive(Debug)]
pub(crate) struct Entries {
    pub(crate) value: Lanes<f32>,
    /// 1 where the entry is learned from, 0 where its row is held.
    pub(crate) takes: Lanes<f32>,
    /// 1 where it counts above, and where it counts below, what was expected.
    up: Lanes<f32>,
    down: Lanes<f32>,
    /// Values learned before, and 1 through one more than that.
    pub(crate) count: Lanes<f32>,
    pub(crate) inverse: Lanes<f32>,
    /// Minutes since the first window.
    pub(crate) age: Lanes<f32>,
    /// Usual milliseconds between values.
    pub(crate) step: Lanes<f32>,
    /// The least scale that is taken seriously.
    pub(crate) floor: Lanes<f32>,
    /// 1 while nothing may be said, and 1 where no gap was of late.
    quiet: Lanes<f32>,
    settled: Lanes<f32>,
    /// Distance from the value before.
    jump: Lanes<f32>,
}

impl Default for Entries {
    fn default() -> Self {
        Self {
            value: [0.0; LANES],
            takes: [0.0; LANES],
            up: [0.0; LANES],
            down: [0.0; LANES],
            count: [0.0; LANES],
            inverse: [0.0; LANES],
            age: [0.0; LANES],
            step: [0.0; LANES],
            floor: [0.0; LANES],
            quiet: [0.0; LANES],
            settled: [0.0; LANES],
            jump: [0.0; LANES],
        }
    }
}

/// The detector's state.
#[derive(Debug)]
pub(crate) struct Seasonal {
    pub(crate) levels: Levels,
    pub(crate) tails: Tails,
    daily: Option<Season>,
    weekly: Option<Season>,
    warm_up: u32,
    /// Distances this unlikely are the edge of the band, and what is learned at most.
    alarm: Level,
    clip: Level,
    at_once: f32,
    /// The least scale, as a share of the level.
    least: f32,
    lanes: LevelLanes,
    tail: TailLanes,
    entries: Entries,
    counted: Lanes<f32>,
    most: Lanes<f32>,
    learns: Lanes<f32>,
}

/// One step of clipped exponentially weighted levels and their scales. `seen` are the values that each has seen.
#[inline(never)]
pub(crate) fn follow(
    level: &mut Lanes<f32>,
    scale: &mut Lanes<f32>,
    value: &Lanes<f32>,
    gain: f32,
    seen: &Lanes<f32>,
    e: &Entries,
    n: usize,
) {
    for i in 0..n.min(LANES) {
        let (was, spread, seen, takes) = (level[i], scale[i], seen[i], e.takes[i]);
        let inverse = 1.0 / (seen + 1.0);
        let clipped = clip(value[i] - was, spread, e.floor[i], seen);
        level[i] = flush(was + takes * most(gain, inverse) * clipped);
        scale[i] = rescaled(spread, clipped, inverse, takes);
    }
}

/// An error as far as it counts: without bound among the first.
#[inline(always)]
fn clip(error: f32, scale: f32, floor: f32, seen: f32) -> f32 {
    let clipped = within(error, CLIP * most(scale, floor));
    if seen < 8.0 { error } else { clipped }
}

#[inline(always)]
fn rescaled(scale: f32, clipped: f32, inverse: f32, takes: f32) -> f32 {
    flush(scale + takes * most(SCALE, inverse) * (MEAN_ABS * clipped.abs() - scale))
}

impl Seasonal {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            levels: Levels::default(),
            tails: Tails::default(),
            daily: options
                .season
                .daily
                .then(|| Season::new("seasonal.day", DAY, DAILY)),
            weekly: options
                .season
                .weekly
                .then(|| Season::new("seasonal.week", 7 * DAY, WEEKLY)),
            warm_up: options.warm_up,
            alarm: Level::new(options.alarm),
            clip: Level::new(options.alarm.min(CLIP_AT)),
            #[allow(clippy::cast_possible_truncation)] // single precision is what probabilities are kept in
            at_once: options.at_once as f32,
            #[allow(clippy::cast_possible_truncation)] // a share
            least: options
                .least_effect
                .relative
                .map_or(LEAST_SCALE, |share| LEAST_SCALE.min(share as f32)),
            lanes: LevelLanes::default(),
            tail: TailLanes::default(),
            entries: Entries::default(),
            counted: [0.0; LANES],
            most: [0.0; LANES],
            learns: [0.0; LANES],
        }
    }

    pub(crate) fn push(&mut self) {
        self.levels.push();
        self.tails.push();
        self.seasons_mut().for_each(Season::push);
    }

    /// Takes over what is known of a series elsewhere, with the seasons that are learned in both places.
    pub(crate) fn adopt(&mut self, row: usize, from: &Self, from_row: usize) {
        self.levels.adopt(row, &from.levels, from_row);
        self.tails.adopt(row, &from.tails, from_row);
        let pairs = [(&mut self.daily, &from.daily), (&mut self.weekly, &from.weekly)];
        let mut whole = true;
        for (mine, theirs) in pairs {
            match (mine, theirs) {
                (Some(mine), Some(theirs)) => mine.adopt(row, theirs, from_row),
                (None, None) => {}
                _ => whole = false,
            }
        }
        if !whole {
            // a forecaster that leans on a season which is not there must not be the one that is believed
            self.levels.chosen[row] = 0;
        }
    }

    /// Forgets what is known of a series.
    pub(crate) fn reset(&mut self, row: usize) {
        self.levels.reset(row);
        self.tails.reset(row);
        self.seasons_mut().for_each(|season| season.reset(row));
    }

    fn seasons(&self) -> impl Iterator<Item = &Season> {
        self.daily.iter().chain(&self.weekly)
    }

    fn seasons_mut(&mut self) -> impl Iterator<Item = &mut Season> {
        self.daily.iter_mut().chain(&mut self.weekly)
    }

    /// Bytes a series.
    pub(crate) fn bytes(&self) -> usize {
        Levels::BYTES + Tails::BYTES + self.seasons().map(Season::bytes).sum::<usize>()
    }

    pub(crate) fn save(&self, out: &mut Columns) {
        self.levels.save("seasonal", out);
        self.tails.save("seasonal.tail", out);
        self.seasons().for_each(|season| season.save(out));
    }

    pub(crate) fn load(&mut self, from: &Columns) -> Result<(), crate::Error> {
        self.levels.load("seasonal", from)?;
        self.tails.load("seasonal.tail", from)?;
        self.seasons_mut().try_for_each(|season| season.load(from))
    }

    /// Looks up what a column's end needs. Comes before its blocks.
    pub(crate) fn aim(&mut self, column: &Column<'_>) {
        let end = column.end.as_millis();
        self.seasons_mut().for_each(|season| season.aim(end));
    }

    /// Judges a block of entries with values, one a row, then learns from it where the row is not held.
    pub(crate) fn update(
        &mut self,
        end: i64,
        rows: &[u32],
        values: &[f64],
        held: &[u8],
        sides: &[u8],
        out: &mut Judged,
    ) {
        let n = rows.len().min(LANES);
        let place = Place::of(rows);
        self.levels.read(place, &mut self.lanes);
        self.tails.read(place, &mut self.tail);
        self.meet(end, rows, values, held, sides);
        self.prepare(n);
        let unit = self.lanes.unit;
        for season in self.daily.iter_mut().chain(&mut self.weekly) {
            season.read(place, n, &unit);
            for i in 0..n {
                if self.entries.count[i] == 0.0 {
                    season.start(i, self.entries.value[i]);
                }
            }
        }
        if self.lanes.count[..n].iter().any(|count| count.is_multiple_of(8)) {
            self.centre(n);
            self.choose(n);
        }
        self.foretell(n, out);
        self.judge(n, out);
        self.learn(n);
        for season in self.daily.iter_mut().chain(&mut self.weekly) {
            season.learn(&self.entries, n, &self.lanes.slow_scale, &self.lanes.unit);
            season.write(place, n);
        }
        self.levels.write(place, &self.lanes);
        self.tails.write(place, &self.tail);
    }

    /// What of the entries is whole numbers: counts and times.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap
    )] // counts below 2^31 and spans: what single precision drops of them doesn't matter
    fn meet(&mut self, end: i64, rows: &[u32], values: &[f64], held: &[u8], sides: &[u8]) {
        let (s, e) = (&mut self.lanes, &mut self.entries);
        let (warm_up, half) = (self.warm_up as f32, (self.warm_up / 2).min(30) as u8);
        let minute = end.div_euclid(MINUTE).clamp(-0x3fff_ffff, 0x3fff_ffff) as i32;
        for (i, (&row, &value)) in rows.iter().zip(values).enumerate().take(LANES) {
            let row = row as usize;
            let value = value.clamp(-LARGEST, LARGEST);
            if s.count[i] == 0 && s.last[i] == i64::MIN {
                s.origin[i] = origin_of(value);
            }
            e.value[i] = flush((value - s.origin[i]) as f32);
            e.takes[i] = f32::from(u8::from(held[row] == 0));
            e.up[i] = f32::from(sides[row] & 1);
            e.down[i] = f32::from(sides[row] >> 1);
            let count = s.count[i];
            e.count[i] = count as i32 as f32;
            // time since the last value; a clock that steps back counts as no time at all
            let passed = end.saturating_sub(s.last[i]).max(0) as f32;
            let known = count > 0 && passed > 0.0;
            let usual = s.step[i];
            if known && usual > 0.0 && passed > 60.0 * usual && e.count[i] > warm_up {
                s.settle[i] = half;
            }
            let capped = if usual > 0.0 {
                least(passed, 4.0 * usual)
            } else {
                passed
            };
            let gain = if known { most(0.05, 1.0 / e.count[i]) } else { 0.0 };
            s.step[i] = usual + gain * (capped - usual);
            e.step[i] = s.step[i];
            s.last[i] = s.last[i].max(end);
            if count == 0 {
                s.first[i] = minute;
                s.value[i] = e.value[i];
            }
            e.age[i] = most((minute - s.first[i]) as f32, 0.0);
            e.quiet[i] = f32::from(u8::from(e.count[i] < warm_up || s.settle[i] > 0));
            e.settled[i] = f32::from(u8::from(s.settle[i] == 0));
            s.settle[i] -= u8::from(s.settle[i] > 0 && held[row] == 0);
        }
    }

    /// Where the levels of series that begin start, and what scales are taken seriously.
    #[inline(never)]
    fn prepare(&mut self, n: usize) {
        let (s, e) = (&mut self.lanes, &mut self.entries);
        for i in 0..n.min(LANES) {
            let (value, count, before) = (e.value[i], e.count[i], s.value[i]);
            let (slow, fast, holt, grain) = (s.slow[i], s.fast[i], s.holt[i], s.grain[i]);
            let slow = pick(count, slow, value);
            s.slow[i] = slow;
            s.fast[i] = pick(count, fast, value);
            s.holt[i] = pick(count, holt, value);
            e.jump[i] = (value - before).abs();
            s.value[i] = value;
            e.inverse[i] = 1.0 / (count + 1.0);
            e.floor[i] = floor_of(slow, s.origin[i], self.least, grain);
        }
    }

    /// Every eighth value of a series: whether its levels have come so far from their origin that it has to move.
    #[inline(never)]
    #[allow(clippy::cast_possible_truncation)] // a bound
    fn centre(&mut self, n: usize) {
        for i in 0..n.min(LANES) {
            let (s, e) = (&mut self.lanes, &mut self.entries);
            let by = s.slow[i];
            let far = by.abs() >= FAR as f32 && by.abs() > SCALES * s.slow_scale[i];
            if !far || e.takes[i] == 0.0 || !s.count[i].is_multiple_of(8) {
                continue;
            }
            s.origin[i] += f64::from(by);
            for level in [&mut s.value, &mut s.slow, &mut s.fast, &mut s.holt, &mut e.value] {
                level[i] -= by;
            }
            for season in self.daily.iter_mut().chain(&mut self.weekly) {
                season.centre(i, by);
            }
        }
    }

    /// Every eighth value of a series: which forecaster to believe.
    #[inline(never)]
    fn choose(&mut self, n: usize) {
        let e = &self.entries;
        for i in 0..n.min(LANES) {
            if !self.lanes.count[i].is_multiple_of(8) || e.takes[i] == 0.0 {
                continue;
            }
            let mut scales = [f32::MAX; 7];
            let s = &self.lanes;
            (scales[0], scales[1], scales[2]) = (s.slow_scale[i], s.fast_scale[i], s.holt_scale[i]);
            for (season, minutes, at) in [(&self.daily, 1_440.0, 3), (&self.weekly, 10_080.0, 5)] {
                if let Some(season) = season.as_ref().filter(|_| e.age[i] >= 2.0 * minutes) {
                    let [(_, slow), (_, fast)] = season.forecast(i);
                    (scales[at], scales[at + 1]) = (slow, fast);
                }
            }
            let cost = |k: usize| scales[k].max(e.floor[i]) * HANDICAP[k];
            let mut best = usize::from(s.chosen[i]).min(6);
            let mut lowest = 0.95 * cost(best);
            for k in 0..7 {
                if cost(k) < lowest {
                    (best, lowest) = (k, cost(k));
                }
            }
            #[allow(clippy::cast_possible_truncation)] // one of seven
            {
                self.lanes.chosen[i] = best as u8;
            }
        }
    }

    /// What is expected of each entry by the forecaster that is believed, and by the slowest with the same season, which
    /// is what a lasting shift shows against.
    #[inline(never)]
    fn foretell(&mut self, n: usize, out: &mut Judged) {
        let (s, e) = (&self.lanes, &self.entries);
        let n = n.min(LANES);
        let mut chosen = [0.0_f32; LANES];
        for i in 0..n {
            chosen[i] = f32::from(s.chosen[i]);
        }
        for i in 0..n {
            let (slow, fast, holt) = (s.slow[i], s.fast[i], s.holt[i] + s.trend[i]);
            let (of_slow, of_fast, of_holt) = (s.slow_scale[i], s.fast_scale[i], s.holt_scale[i]);
            let (is_fast, is_holt) = (chosen[i] == 1.0, chosen[i] == 2.0);
            let (expected, scale) = (
                if is_fast { fast } else { slow },
                if is_fast { of_fast } else { of_slow },
            );
            out.expected[i] = if is_holt { holt } else { expected };
            out.scale[i] = if is_holt { of_holt } else { scale };
            out.slow[i] = if is_holt { holt } else { slow };
            out.origin[i] = s.origin[i];
            out.slow_scale[i] = if is_holt { of_holt } else { of_slow };
            out.course[i] = 0.0;
        }
        for (season, at, known) in [(&self.daily, 3.0, 2_880.0), (&self.weekly, 5.0, 20_160.0)] {
            let Some(season) = season else { continue };
            for i in 0..n {
                out.course[i] = if e.age[i] >= known {
                    season.course[i]
                } else {
                    out.course[i]
                };
            }
            for i in 0..n {
                let [(slow, of_slow), (fast, of_fast)] = season.forecast(i);
                let (e, es, l, ls) = (out.expected[i], out.scale[i], out.slow[i], out.slow_scale[i]);
                let is_fast = chosen[i] == at + 1.0;
                let either = (chosen[i] == at) | is_fast;
                let (expected, scale) = (
                    if is_fast { fast } else { slow },
                    if is_fast { of_fast } else { of_slow },
                );
                out.expected[i] = if either { expected } else { e };
                out.scale[i] = if either { scale } else { es };
                out.slow[i] = if either { slow } else { l };
                out.slow_scale[i] = if either { of_slow } else { ls };
            }
        }
        for i in 0..n {
            let known = e.count[i] > 0.0;
            out.repeats[i] = if known & (e.jump[i] == 0.0) { 1.0 } else { 0.0 };
        }
        for i in 0..n {
            let (value, floor, quiet) = (e.value[i], e.floor[i], e.quiet[i]);
            out.distance[i] = within((value - out.expected[i]) / most(out.scale[i], floor), 1e12);
            let slowly = within((value - out.slow[i]) / most(out.slow_scale[i], floor), 1e12);
            out.residual[i] = pick(quiet, f32::NAN, slowly);
        }
    }

    /// How likely the entries are; then the tails learn.
    #[inline(never)]
    fn judge(&mut self, n: usize, out: &mut Judged) {
        let (s, e) = (&mut self.lanes, &self.entries);
        let half = (self.warm_up / 2).min(1 << 20);
        #[allow(clippy::cast_precision_loss)] // bounded above
        let half = half as f32;
        let n = n.min(LANES);
        for i in 0..n {
            let distance = out.distance[i];
            self.counted[i] = most(most(e.up[i] * distance, -(e.down[i] * distance)), 0.0);
        }
        self.tail.probability(&self.counted, n, &mut out.probability);
        self.tail.distance(self.alarm, n, &mut out.reach);
        for i in 0..n {
            let quiet = e.quiet[i] > 0.0;
            let p = if quiet { 1.0 } else { out.probability[i] };
            // where nothing has ever moved, how far is far is a guess: it takes more than one window to say so
            let guess = most(p, 1.01 * self.at_once);
            out.probability[i] = if out.scale[i] > e.floor[i] { p } else { guess };
            let reach = least(out.reach[i], 1e9);
            out.reach[i] = reach;
            out.scale[i] = most(out.scale[i], e.floor[i]);
            // what stands out says nothing about the steps in which the series is measured
            let usual = quiet | (self.counted[i] <= reach);
            let (jump, grain) = (e.jump[i], s.grain[i]);
            let finer = (jump > 0.0) & (jump < grain) & (e.takes[i] > 0.0) & usual;
            s.grain[i] = if finer { jump } else { grain };
            self.learns[i] = if e.count[i] >= half {
                e.takes[i] * e.settled[i]
            } else {
                0.0
            };
        }
        self.tail.distance(self.clip, n, &mut self.most);
        for i in 0..n {
            self.most[i] = least(self.counted[i], self.most[i]);
        }
        self.tail.learn(&self.most, &self.learns, n);
    }

    /// Levels, scales and counts.
    #[inline(never)]
    fn learn(&mut self, n: usize) {
        let (s, e) = (&mut self.lanes, &self.entries);
        follow(&mut s.slow, &mut s.slow_scale, &e.value, SLOW, &e.count, e, n);
        follow(&mut s.fast, &mut s.fast_scale, &e.value, FAST, &e.count, e, n);
        for i in 0..n.min(LANES) {
            let (holt, trend, scale) = (s.holt[i], s.trend[i], s.holt_scale[i]);
            let (takes, count) = (e.takes[i], e.count[i]);
            let clipped = clip(e.value[i] - (holt + trend), scale, e.floor[i], count);
            s.holt[i] = flush(holt + takes * (trend + most(HOLT_LEVEL, e.inverse[i]) * clipped));
            let gain = if count < 8.0 { 0.0 } else { HOLT_TREND };
            s.trend[i] = flush(trend + takes * gain * clipped);
            s.holt_scale[i] = rescaled(scale, clipped, e.inverse[i], takes);
        }
        for i in 0..n.min(LANES) {
            let (unit, scale) = (s.unit[i], most(s.slow_scale[i], e.floor[i]));
            let begins = (unit <= 0.0) & (e.count[i] >= 30.0) & (e.takes[i] > 0.0);
            s.unit[i] = if begins { scale } else { unit };
        }
        for i in 0..n.min(LANES) {
            s.count[i] = s.count[i].saturating_add(u32::from(e.takes[i] > 0.0));
        }
    }

    /// The band at a point in time: expected, lower, upper.
    pub(crate) fn band(&self, row: usize, end: i64) -> (f64, f64, f64) {
        let s = &self.levels;
        let season = |season: &Option<Season>, fast: bool| {
            season.as_ref().map_or((s.slow[row], s.slow_scale[row]), |season| {
                let (l, course) = (&season.levels, season.course_of(row, s.unit[row], end));
                if fast {
                    (l.fast[row] + course, l.fast_scale[row])
                } else {
                    (l.slow[row] + course, l.slow_scale[row])
                }
            })
        };
        let (expected, scale) = match s.chosen[row] {
            0 => (s.slow[row], s.slow_scale[row]),
            1 => (s.fast[row], s.fast_scale[row]),
            2 => (s.holt[row] + s.trend[row], s.holt_scale[row]),
            3 | 4 => season(&self.daily, s.chosen[row] == 4),
            _ => season(&self.weekly, s.chosen[row] == 6),
        };
        let floor = floor_of(s.slow[row], s.origin[row], self.least, s.grain[row]);
        let reach = least(self.tails.at(row).distance(self.alarm), 1e9);
        band(s.origin[row], expected, most(scale, floor), reach)
    }

    /// The season that the believed forecaster has, in words.
    pub(crate) fn season(&self, row: usize) -> Option<&'static str> {
        match self.levels.chosen[row] {
            0..=2 => None,
            3 | 4 => Some("time of day"),
            _ => Some("time of week"),
        }
    }

    /// The distance at which a series' band ends, in standard deviations.
    fn reach(&self, row: usize) -> f32 {
        self.tails.at(row).distance(self.alarm)
    }

    /// What is known of a series, in words.
    pub(crate) fn explain(&self, row: usize) -> String {
        let s = &self.levels;
        let count = s.count[row];
        if count < self.warm_up {
            return format!("warming up: {count} of {} windows learned", self.warm_up);
        }
        let mut scales = vec![s.slow_scale[row], s.fast_scale[row], s.holt_scale[row]];
        let mut names = FORECASTERS[..3].to_vec();
        for (season, at) in [(&self.daily, 3), (&self.weekly, 5)] {
            if let Some(season) = season {
                scales.extend([season.levels.slow_scale[row], season.levels.fast_scale[row]]);
                names.extend(&FORECASTERS[at..at + 2]);
            }
        }
        let errors: Vec<String> = names
            .iter()
            .zip(scales)
            .map(|(name, scale)| format!("{name} {}", number(f64::from(scale))))
            .collect();
        format!(
            "foretold by {} after {count} windows; errors (standard deviations): {}; alarm beyond {} standard deviations, tail index {}",
            FORECASTERS[usize::from(s.chosen[row]).min(6)],
            errors.join(", "),
            number(f64::from(self.reach(row))),
            number(f64::from(self.tails.index[row])),
        )
    }

    /// Moves every level to `level`.
    #[allow(clippy::cast_possible_truncation)] // single precision is what levels are kept in
    pub(crate) fn reseat(&mut self, row: usize, level: f64) {
        let s = &mut self.levels;
        if !level.is_finite() {
            return;
        }
        let level = level.clamp(-LARGEST, LARGEST);
        let (before, origin) = (s.origin[row], origin_of(level));
        let level = (level - origin) as f32;
        let by = level - s.slow[row];
        s.origin[row] = origin;
        s.value[row] += (before - origin) as f32;
        s.slow[row] = level;
        s.fast[row] = level;
        s.holt[row] = level;
        s.trend[row] = 0.0;
        s.settle[row] = 5;
        self.seasons_mut().for_each(|season| season.move_by(row, by));
    }

    /// Lets an anomaly that has passed count among the distances seen, but only a step beyond the alarm level.
    /// `level` is where the series was meanwhile: from then on so large a step is one it is known to take.
    #[allow(clippy::cast_possible_truncation)] // single precision is what levels are kept in
    pub(crate) fn absorb(&mut self, row: usize, distance: f64, level: f64) {
        let level = (level.clamp(-LARGEST, LARGEST) - self.levels.origin[row]) as f32;
        let step = (level - self.levels.slow[row]).abs();
        if step > TINY && self.levels.grain[row] == f32::MAX {
            self.levels.grain[row] = step;
        }
        let reach = f64::from(self.reach(row));
        self.tails.learn(row, distance.abs().min(1.3 * reach));
    }
}

/// Expected value, lower and upper end of a band, as numbers that are finite.
pub(crate) fn band(origin: f64, expected: f32, scale: f32, reach: f32) -> (f64, f64, f64) {
    let (expected, half) = (origin + f64::from(expected), f64::from(reach) * f64::from(scale));
    (expected, expected - half, expected + half)
}

/// What the levels of a series at `value` are the difference from.
fn origin_of(value: f64) -> f64 {
    if value.abs() >= FAR { value } else { 0.0 }
}

/// The least standard deviation that is taken seriously: a share of the level, and what can be told apart of it.
#[inline(always)]
#[allow(clippy::cast_possible_truncation)] // a bound
fn floor_of(slow: f32, origin: f64, share: f32, grain: f32) -> f32 {
    let grain = if grain < f32::MAX { 0.5 * grain } else { 0.0 };
    let whole = (origin + f64::from(slow)) as f32;
    let apart = most(SINGLE * slow.abs(), DOUBLE * whole.abs());
    most(most(share * whole.abs(), apart), most(grain, TINY))
}

/// A signed distance as far as it is on a side that counts (1 up, 2 down, 3 both).
#[inline]
pub(crate) fn sided(distance: f64, side: u8) -> f64 {
    match side {
        1 => distance.max(0.0),
        2 => (-distance).max(0.0),
        _ => distance.abs(),
    }
}
