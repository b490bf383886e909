//! The robust seasonal detector: how far a value is from what level, trend and season foretell.
//!
//! Five forecasters run side by side: a slow and a fast exponentially weighted level, a level with a trend, and the slow
//! and fast level of what is left when the time of day is taken out. Updates are clipped where a value lies far outside
//! (S. Gelper, R. Fried, C. Croux, "Robust forecasting with exponential and Holt-Winters smoothing", Journal of
//! Forecasting 29, 2010), so that an outlier moves level and scale by a bounded amount. The forecaster whose errors have
//! been least is believed, the simpler one where two are close: a season or a trend has to earn its keep.
//!
//! The time of day is a profile of [`BINS`] points with straight lines between them, kept in single precision in units
//! of the series' own scale.

use crate::{
    Column,
    bank::{Judged, Shared, normal_distance},
    state::{Columns, Strided, columns},
    tail::Tails,
    words::number,
};

/// Points of the daily profile.
pub(crate) const BINS: usize = 48;
const DAY: f64 = 86_400_000.0;

const SLOW: f64 = 0.01;
const FAST: f64 = 0.3;
const HOLT_LEVEL: f64 = 0.1;
const HOLT_TREND: f64 = 0.005;
/// Errors beyond this many standard deviations count as this many.
const CLIP: f64 = 3.0;
/// Gain of the scales, and how it starts.
const SCALE: f64 = 0.01;
/// Distances less likely than this, or than the alarm, are learned as if they were just so likely.
const CLIP_AT: f64 = 1e-4;
/// Mean absolute deviation to standard deviation of a normal distribution.
const MEAN_ABS: f64 = 1.2533;
/// Least scale as a share of the level: what nobody would call a change.
const LEAST_SCALE: f64 = 0.005;
/// By how much a forecaster must beat the simpler ones, in the order of [`Forecaster`].
const HANDICAP: [f64; 5] = [1.0, 1.5, 1.45, 1.05, 1.5];

pub(crate) const FORECASTERS: [&str; 5] = [
    "level",
    "fast level",
    "level and trend",
    "level and time of day",
    "fast level and time of day",
];

columns! {
    /// Numbers a series, besides its daily profile and tail.
    pub(crate) struct Levels {
        /// Values learned.
        count: u32 = 0,
        /// Windows that must pass before anything is said again, after a gap.
        settle: u32 = 0,
        /// End of the first window, and of the last one with a value.
        first: i64 = i64::MIN,
        last: i64 = i64::MIN,
        /// Usual milliseconds between values.
        step: f64 = 0.0,
        /// The last value.
        value: f64 = f64::NAN,
        slow: f64 = 0.0,
        fast: f64 = 0.0,
        holt: f64 = 0.0,
        trend: f64 = 0.0,
        /// Level of a day or two, from which the profile is measured.
        base: f64 = 0.0,
        season_slow: f64 = 0.0,
        season_fast: f64 = 0.0,
        slow_scale: f64 = 0.0,
        fast_scale: f64 = 0.0,
        holt_scale: f64 = 0.0,
        season_slow_scale: f64 = 0.0,
        season_fast_scale: f64 = 0.0,
        /// Unit of the profile.
        unit: f64 = 0.0,
        /// Least difference between two values in a row that was not zero.
        grain: f64 = f64::MAX,
        /// Which forecaster is believed.
        chosen: u8 = 0,
    }
}

/// The detector's state.
#[derive(Debug)]
pub(crate) struct Seasonal {
    pub(crate) levels: Levels,
    pub(crate) tails: Tails,
    profile: Strided<f32>,
    daily: bool,
    warm_up: u32,
    alarm: f64,
    at_once: f64,
}

/// One step of a clipped exponentially weighted level and its scale. Returns the error before the step.
#[inline]
fn follow(level: &mut f64, scale: &mut f64, value: f64, gain: f64, n: f64, floor: f64) -> f64 {
    let error = value - *level;
    let spread = scale.max(floor);
    let clipped = if n < 8.0 {
        error
    } else {
        error.clamp(-CLIP * spread, CLIP * spread)
    };
    *level += gain.max(1.0 / (n + 1.0)) * clipped;
    rescale(scale, error, n, floor);
    error
}

#[inline]
fn rescale(scale: &mut f64, error: f64, n: f64, floor: f64) {
    let spread = scale.max(floor);
    let gain = SCALE.max(1.0 / (n + 1.0));
    let size = if n < 8.0 {
        error.abs()
    } else {
        error.abs().min(CLIP * spread)
    };
    *scale += gain * (MEAN_ABS * size - *scale);
}

impl Seasonal {
    pub(crate) fn new(options: &crate::Options) -> Self {
        let daily = options.season.daily;
        Self {
            levels: Levels::default(),
            tails: Tails::default(),
            profile: Strided::new(if daily { BINS } else { 1 }),
            daily,
            warm_up: options.warm_up,
            alarm: options.alarm,
            at_once: options.at_once,
        }
    }

    pub(crate) fn push(&mut self) {
        self.levels.push();
        self.tails.push();
        self.profile.push(0.0);
    }

    /// Bytes a series.
    pub(crate) fn bytes(&self) -> usize {
        Levels::BYTES + Tails::BYTES + self.profile.width * std::mem::size_of::<f32>()
    }

    pub(crate) fn save(&self, out: &mut Columns) -> Result<(), crate::Error> {
        self.levels.save("seasonal", out);
        self.tails.save("seasonal.tail", out);
        out.put("seasonal", "profile", self.profile.save()?);
        Ok(())
    }

    pub(crate) fn load(&mut self, from: &Columns) -> Result<(), crate::Error> {
        self.levels.load("seasonal", from)?;
        self.tails.load("seasonal.tail", from)?;
        self.profile.load(from.get("seasonal", "profile")?)
    }

    /// Judges a column, then learns from it where the row is not held.
    pub(crate) fn update(
        &mut self,
        column: &Column<'_>,
        held: &[u8],
        sides: &[u8],
        shared: &mut Shared,
        out: &mut Judged,
    ) {
        let end = column.end.as_millis();
        for (i, (&row, &value)) in column.rows.iter().zip(column.values).enumerate() {
            let row = row as usize;
            if !value.is_finite() || row >= self.levels.count.len() {
                continue;
            }
            let judged = self.step(row, end, value, held[row] != 0, sides[row]);
            shared.residual[i] = judged.residual;
            shared.reach[i] = judged.reach;
            out.set(
                i,
                judged.probability,
                judged.distance,
                judged.expected,
                judged.lower,
                judged.upper,
            );
        }
    }

    fn step(&mut self, row: usize, end: i64, value: f64, held: bool, side: u8) -> Judgement {
        let s = &mut self.levels;
        let count = s.count[row];
        if count == 0 {
            for level in [&mut s.slow, &mut s.fast, &mut s.holt, &mut s.base] {
                level[row] = value;
            }
            s.first[row] = end;
        }
        let n = f64::from(count);
        // time since the last value; a clock that steps back counts as no time at all
        #[allow(clippy::cast_precision_loss)] // milliseconds of a few thousand years are exact
        let passed = if count == 0 {
            0.0
        } else {
            end.saturating_sub(s.last[row]).max(0) as f64
        };
        if count > 0 && passed > 0.0 {
            let usual = s.step[row];
            if usual > 0.0 && passed > 60.0 * usual && count > self.warm_up {
                s.settle[row] = (self.warm_up / 2).min(30);
            }
            let capped = if usual > 0.0 { passed.min(4.0 * usual) } else { passed };
            s.step[row] += (capped - usual) * 0.05f64.max(1.0 / n);
        }
        s.last[row] = s.last[row].max(end);
        let jump = if count > 0 { (value - s.value[row]).abs() } else { 0.0 };
        s.value[row] = value;
        let floor = floor_of(s, row);

        // where in the day
        let (left, right, share) = if self.daily { place(end) } else { (0, 0, 0.0) };
        let profile = self.profile.row_mut(row);
        let unit = s.unit[row];
        let season = if unit > 0.0 {
            unit * (f64::from(profile[left]) * (1.0 - share) + f64::from(profile[right]) * share)
        } else {
            0.0
        };
        #[allow(clippy::cast_precision_loss)]
        let days = end.saturating_sub(s.first[row]).max(0) as f64 / DAY;

        let forecasts = [
            s.slow[row],
            s.fast[row],
            s.holt[row] + s.trend[row],
            s.season_slow[row] + season,
            s.season_fast[row] + season,
        ];
        let scales = [
            s.slow_scale[row],
            s.fast_scale[row],
            s.holt_scale[row],
            s.season_slow_scale[row],
            s.season_fast_scale[row],
        ];
        let usable = if self.daily && days >= 2.0 { 5 } else { 3 };
        if !held && count.is_multiple_of(8) {
            let mut best = usize::from(s.chosen[row]).min(usable - 1);
            let mut least = 0.95 * scales[best].max(floor) * HANDICAP[best];
            for k in 0..usable {
                let cost = scales[k].max(floor) * HANDICAP[k];
                if cost < least {
                    (best, least) = (k, cost);
                }
            }
            #[allow(clippy::cast_possible_truncation)] // one of five
            {
                s.chosen[row] = best as u8;
            }
        }
        let chosen = usize::from(s.chosen[row]);
        let expected = forecasts[chosen];
        let scale = scales[chosen].max(floor);
        let distance = normal_distance(value - expected, scale);
        let counted = sided(distance, side);
        let quiet = count < self.warm_up || s.settle[row] > 0;
        let tails = &mut self.tails;
        let probability = if quiet { 1.0 } else { tails.probability(row, counted) };
        // where nothing has ever moved, how far is far is a guess: it takes more than one window to say so
        let probability = if scale > floor {
            probability
        } else {
            probability.max(1.01 * self.at_once)
        };
        let reach = tails.distance(row, self.alarm).min(1e9);
        let residual = if quiet {
            f64::NAN
        } else {
            normal_distance(value - forecasts[SLOWEST[chosen]], scales[SLOWEST[chosen]].max(floor))
        };

        // what stands out says nothing about the steps in which the series is measured
        if jump > 0.0 && jump < s.grain[row] && !held && (quiet || counted <= reach) {
            s.grain[row] = jump;
        }
        if !held {
            if count >= self.warm_up / 2 && s.settle[row] == 0 {
                tails.learn(row, counted.min(tails.distance(row, self.alarm.min(CLIP_AT))));
            }
            s.settle[row] = s.settle[row].saturating_sub(1);
            follow(&mut s.slow[row], &mut s.slow_scale[row], value, SLOW, n, floor);
            follow(&mut s.fast[row], &mut s.fast_scale[row], value, FAST, n, floor);
            // level and trend
            let ahead = s.holt[row] + s.trend[row];
            let error = value - ahead;
            let spread = s.holt_scale[row].max(floor);
            let clipped = if n < 8.0 {
                error
            } else {
                error.clamp(-CLIP * spread, CLIP * spread)
            };
            s.holt[row] = ahead + HOLT_LEVEL.max(1.0 / (n + 1.0)) * clipped;
            if n >= 8.0 {
                s.trend[row] += HOLT_TREND * clipped;
            }
            rescale(&mut s.holt_scale[row], error, n, floor);
            if self.daily {
                Self::learn_season(s, profile, row, value, n, floor, (left, right, share, season, days));
            }
            s.count[row] = count.saturating_add(1);
        }
        Judgement {
            probability,
            distance,
            expected,
            lower: expected - reach * scale,
            upper: expected + reach * scale,
            residual,
            reach,
        }
    }

    fn learn_season(
        s: &mut Levels,
        profile: &mut [f32],
        row: usize,
        value: f64,
        n: f64,
        floor: f64,
        (left, right, share, season, days): (usize, usize, f64, f64, f64),
    ) {
        if s.unit[row] <= 0.0 && n >= 30.0 {
            s.unit[row] = s.slow_scale[row].max(floor);
        }
        let unit = s.unit[row];
        let step = s.step[row].max(1.0);
        let two_days = (step / (2.0 * DAY)).min(0.1);
        let wide = s.slow_scale[row].max(floor) * 2.0 * CLIP;
        s.base[row] += two_days.max(1.0 / (n + 1.0)) * (value - s.base[row]).clamp(-wide, wide);
        if unit > 0.0 {
            // a point is passed once a day by as many values as fit between two points
            let visits = (DAY / BINS as f64 / step).max(1.0);
            let pace = (2.0 / (1.0 + days.floor())).max(0.35);
            let gain = (pace / visits).min(0.7);
            let error = ((value - s.base[row] - season) / unit).clamp(-1e6, 1e6);
            let limit = if days < 1.0 {
                f64::MAX
            } else {
                CLIP * 2.0 * s.season_slow_scale[row].max(floor) / unit
            };
            let error = error.clamp(-limit, limit);
            #[allow(clippy::cast_possible_truncation)] // single precision is what the profile is kept in
            {
                profile[left] += (gain * error * (1.0 - share)) as f32;
                profile[right] += (gain * error * share) as f32;
            }
        }
        // the days on which the profile is still being drawn say nothing about its worth
        let seen = if days < 1.0 { 0.0 } else { n };
        follow(
            &mut s.season_slow[row],
            &mut s.season_slow_scale[row],
            value - season,
            SLOW,
            seen,
            floor,
        );
        follow(
            &mut s.season_fast[row],
            &mut s.season_fast_scale[row],
            value - season,
            FAST,
            seen,
            floor,
        );
    }

    /// The band at a point in time: expected, lower, upper.
    pub(crate) fn band(&self, row: usize, end: i64) -> (f64, f64, f64) {
        let s = &self.levels;
        let floor = floor_of(s, row);
        let (expected, scale) = match s.chosen[row] {
            0 => (s.slow[row], s.slow_scale[row]),
            1 => (s.fast[row], s.fast_scale[row]),
            2 => (s.holt[row] + s.trend[row], s.holt_scale[row]),
            3 => (s.season_slow[row] + self.season(row, end), s.season_slow_scale[row]),
            _ => (s.season_fast[row] + self.season(row, end), s.season_fast_scale[row]),
        };
        let half = self.tails.distance(row, self.alarm).min(1e9) * scale.max(floor);
        (
            expected,
            (expected - half).max(f64::MIN),
            (expected + half).min(f64::MAX),
        )
    }

    fn season(&self, row: usize, end: i64) -> f64 {
        let unit = self.levels.unit[row];
        if !self.daily || unit <= 0.0 {
            return 0.0;
        }
        let (left, right, share) = place(end);
        let profile = &self.profile.cells[row * BINS..(row + 1) * BINS];
        unit * (f64::from(profile[left]) * (1.0 - share) + f64::from(profile[right]) * share)
    }

    /// What is known of a series, in words.
    pub(crate) fn explain(&self, row: usize) -> String {
        let s = &self.levels;
        let count = s.count[row];
        if count < self.warm_up {
            return format!("warming up: {count} of {} windows learned", self.warm_up);
        }
        let scales = [
            s.slow_scale[row],
            s.fast_scale[row],
            s.holt_scale[row],
            s.season_slow_scale[row],
            s.season_fast_scale[row],
        ];
        let errors: Vec<String> = FORECASTERS
            .iter()
            .zip(scales)
            .map(|(name, scale)| format!("{name} {}", number(scale)))
            .collect();
        format!(
            "foretold by {} after {count} windows; errors (standard deviations): {}; alarm beyond {} standard deviations, tail index {}",
            FORECASTERS[usize::from(s.chosen[row])],
            errors.join(", "),
            number(self.tails.distance(row, self.alarm)),
            number(self.tails.index[row]),
        )
    }

    /// Moves every level to `level`.
    pub(crate) fn reseat(&mut self, row: usize, level: f64) {
        let s = &mut self.levels;
        let by = level - s.slow[row];
        if !by.is_finite() {
            return;
        }
        s.base[row] += by;
        s.season_slow[row] += by;
        s.season_fast[row] = s.season_slow[row];
        s.slow[row] = level;
        s.fast[row] = level;
        s.holt[row] = level;
        s.trend[row] = 0.0;
        s.settle[row] = 5;
    }

    /// Lets an anomaly that has passed count among the distances seen, but only a step beyond the alarm level.
    /// `level` is where the series was meanwhile: from then on so large a step is one it is known to take.
    pub(crate) fn absorb(&mut self, row: usize, distance: f64, level: f64) {
        let step = (level - self.levels.slow[row]).abs();
        if step > 0.0 && self.levels.grain[row] == f64::MAX {
            self.levels.grain[row] = step;
        }
        let reach = self.tails.distance(row, self.alarm);
        self.tails.learn(row, distance.abs().min(1.3 * reach));
    }
}

/// For each forecaster the one that follows slowest with the same season: what a lasting shift shows against.
const SLOWEST: [usize; 5] = [0, 0, 2, 3, 3];

/// The points of the profile on both sides of a time of day, and how far along from the left one to the right.
#[inline]
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)] // within a day
fn place(end: i64) -> (usize, usize, f64) {
    let at = end.rem_euclid(86_400_000) as f64 / DAY * BINS as f64;
    let left = (at as usize).min(BINS - 1);
    (left, (left + 1) % BINS, at - left as f64)
}

/// The least standard deviation that is taken seriously.
#[inline]
fn floor_of(s: &Levels, row: usize) -> f64 {
    let grain = if s.grain[row] < f64::MAX {
        0.5 * s.grain[row]
    } else {
        0.0
    };
    (LEAST_SCALE * s.slow[row].abs()).max(grain).max(f64::MIN_POSITIVE)
}

struct Judgement {
    probability: f64,
    distance: f64,
    expected: f64,
    lower: f64,
    upper: f64,
    residual: f64,
    reach: f64,
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
