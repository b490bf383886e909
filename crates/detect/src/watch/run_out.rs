//! Running out: when a disk, quota, pool or heap will be full, or a certificate ends, with an interval.
//!
//! Straight lines are fitted by discounted least squares over three memories side by side (R. G. Brown, "Smoothing,
//! forecasting and prediction of discrete time series", 1963), errors clipped (P. Huber, "Robust estimation of a location
//! parameter", 1964). The slope's standard error is widened by the autocorrelation of the line's errors, so that a smooth
//! wander is not mistaken for certain growth. The hour of the end is the way left over the slope, its interval the same
//! over the two ends of the slope's 90% interval (after E. Fieller, "Some problems in interval estimation", 1954).
//!
//! An anomaly opens where the hour is nearer than the setting, even the slowest growth in the interval gets there in three
//! times that, and the level is one from which the series has not come back of late: a disk that is filled and emptied
//! every day is not running out. It needs no warm-up but 30 values. some 150 ns an update, 260 bytes a series.

use super::{Block, Said, Watcher, same};
use crate::{
    Error, LimitOptions, Towards,
    state::{Columns, LANES, columns},
    words::number,
};
use suture_event::Timestamp;

/// Windows that the lines remember.
const MEMORIES: [f64; 3] = [20.0, 120.0, 720.0];
const HOUR: f64 = 3_600_000.0;
/// Errors count up to so many times the usual one.
const CLIP: f64 = 4.0;
/// Values before a line says anything, and of its memory.
const FIRST: u32 = 30;
/// Nine in ten of a normal distribution are within so many standard deviations.
const NINE_IN_TEN: f64 = 1.645;
/// Share of the way to the limit by which a level must fall to count as come back.
const COME_BACK: f64 = 0.05;
/// By how much a level may be above one come back from and be the same for all that.
const MARGIN: f64 = 0.5 * COME_BACK;
/// Hours after which a level come back from is forgotten.
const FORGET: f64 = 14.0 * 24.0;
/// How much longer the slowest growth may take than what is asked.
const SLOWEST: f64 = 3.0;
const LARGEST: f64 = 1e100;

columns! {
    /// One line a series: sums over the windows, faded, about the last value and its time.
    pub(crate) struct Line {
        weight: f64 = 0.0,
        t: f64 = 0.0,
        tt: f64 = 0.0,
        y: f64 = 0.0,
        ty: f64 = 0.0,
        scale: f64 = 0.0,
        /// The error before, and the faded sums of neighbours' products and of squares.
        before: f64 = 0.0,
        cross: f64 = 0.0,
        power: f64 = 0.0,
    }
}

columns! {
    /// What a series' lines have in common.
    pub(crate) struct Course {
        count: u32 = 0,
        last: i64 = i64::MIN,
        value: f64 = 0.0,
        /// Highest since the last turn, the highest that was come back from, and when, in hours.
        top: f64 = f64::NAN,
        peak: f64 = f64::NAN,
        peak_at: f64 = 0.0,
    }
}

/// A line as it stands: level now, slope an hour, and the slope's standard error.
#[derive(Debug, Clone, Copy)]
struct Fit {
    level: f64,
    slope: f64,
    error: f64,
}

/// When the limit is reached, in hours from now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Left {
    pub(crate) likely: f64,
    pub(crate) soonest: f64,
    /// Infinite where the growth may be none.
    pub(crate) latest: f64,
    slope: f64,
    over: f64,
}

impl Left {
    /// It is reached.
    const NONE: Self = Self {
        likely: 0.0,
        soonest: 0.0,
        latest: 0.0,
        slope: 0.0,
        over: 0.0,
    };
}

#[derive(Debug)]
pub(crate) struct RunOut {
    limit: LimitOptions,
    course: Course,
    lines: [Line; 3],
}

impl Line {
    /// Takes in a value `dy` above the last one and `dt` hours after it.
    fn learn(&mut self, row: usize, memory: f64, count: u32, dt: f64, dy: f64) {
        let known = f64::from(count);
        let fit = self.fit(row);
        let error = match fit {
            Some(fit) => dy - (fit.level + fit.slope * dt),
            None => 0.0,
        };
        let usual = self.scale[row];
        let clipped = if count < 8 || usual <= 0.0 {
            error
        } else {
            error.clamp(-CLIP * usual, CLIP * usual)
        };
        let gain = (1.0 / (known + 1.0)).max(2.0 / memory);
        self.scale[row] += gain * (1.2533 * clipped.abs() - usual);
        self.cross[row] += gain * (clipped * self.before[row] - self.cross[row]);
        self.power[row] += gain * (clipped * clipped - self.power[row]);
        self.before[row] = clipped;
        // about the new value and its time; what was clipped is a step that the line's past takes along
        let fade = 1.0 - 1.0 / memory;
        let w = self.weight[row] * fade;
        let (t, tt, y, ty) = (
            self.t[row] * fade,
            self.tt[row] * fade,
            self.y[row] * fade,
            self.ty[row] * fade,
        );
        let off = dy - error + clipped;
        self.tt[row] = tt - 2.0 * dt * t + dt * dt * w;
        self.ty[row] = ty - off * t - dt * (y - off * w);
        self.t[row] = t - dt * w;
        self.y[row] = y - off * w;
        self.weight[row] = w + 1.0;
    }

    fn fit(&self, row: usize) -> Option<Fit> {
        let w = self.weight[row];
        let spread = self.tt[row] - self.t[row] * self.t[row] / w.max(1.0);
        if w < 2.0 || spread <= 0.0 {
            return None;
        }
        let slope = (self.ty[row] - self.t[row] * self.y[row] / w) / spread;
        let level = (self.y[row] - slope * self.t[row]) / w;
        let memory = if self.power[row] > 0.0 {
            (self.cross[row] / self.power[row]).clamp(0.0, 0.95)
        } else {
            0.0
        };
        let widened = (1.0 + memory) / (1.0 - memory);
        let error = (self.power[row] * widened / spread).sqrt();
        (slope.is_finite() && error.is_finite()).then_some(Fit { level, slope, error })
    }
}

impl RunOut {
    pub(crate) fn new(limit: LimitOptions) -> Self {
        Self {
            limit,
            course: Course::default(),
            lines: Default::default(),
        }
    }

    /// When a series reaches the limit, by the line that is the surest of it; nothing where it moves away.
    pub(crate) fn left(&self, row: usize) -> Option<Left> {
        let way = self.way(self.course.value[row]);
        let count = self.course.count[row];
        let mut best: Option<Left> = None;
        if count > 0 && way <= 0.0 {
            return Some(Left::NONE);
        }
        for (line, memory) in self.lines.iter().zip(MEMORIES) {
            let over = memory.min(f64::from(count));
            // a line that knows no more than a shorter one has nothing to add
            if count < FIRST || (memory > MEMORIES[0] && f64::from(count) < 0.5 * memory) {
                break;
            }
            let Some(fit) = line.fit(row) else { continue };
            // along the way to the limit, whichever way that is
            let slope = fit.slope * self.sign();
            let (slow, quick) = (slope - NINE_IN_TEN * fit.error, slope + NINE_IN_TEN * fit.error);
            if slope <= 0.0 {
                continue;
            }
            let hours = |slope: f64| if slope > 0.0 { way / slope } else { f64::INFINITY };
            let left = Left {
                likely: hours(slope),
                soonest: hours(quick),
                latest: hours(slow),
                slope: fit.slope,
                over,
            };
            if best.is_none_or(|best| left.latest < best.latest) {
                best = Some(left);
            }
        }
        best
    }

    /// 1 where it fills up, -1 where it runs down.
    fn sign(&self) -> f64 {
        match self.limit.when {
            Towards::Rises => 1.0,
            Towards::Falls => -1.0,
        }
    }

    /// How far it is to the limit.
    fn way(&self, value: f64) -> f64 {
        (self.limit.at - value) * self.sign()
    }

    /// Where a value is on the way: 1 is the limit, and lower is further off.
    fn place(&self, value: f64) -> f64 {
        let unit = self.limit.at.abs().max(value.abs()).max(f64::MIN_POSITIVE);
        1.0 - self.way(value) / unit
    }

    fn within(&self) -> f64 {
        #[allow(clippy::cast_precision_loss)] // a span
        let millis = self.limit.within.as_millis() as f64;
        millis / HOUR
    }

    /// Follows the highest level, on the way to the limit, and those that the series came back from.
    fn turn(&mut self, row: usize, value: f64, hours: f64) {
        let place = self.place(value);
        let c = &mut self.course;
        if hours - c.peak_at[row] > FORGET {
            c.peak[row] = f64::NAN;
        }
        if c.top[row].is_nan() || place >= c.top[row] {
            c.top[row] = place;
        } else if place < c.top[row] - COME_BACK {
            if c.peak[row].is_nan() || c.top[row] >= c.peak[row] {
                (c.peak[row], c.peak_at[row]) = (c.top[row], hours);
            }
            c.top[row] = place;
        }
    }

    /// Whether the level is one from which the series came back of late.
    fn is_usual(&self, row: usize) -> bool {
        let place = self.place(self.course.value[row]);
        place < 1.0 && self.course.peak[row] + MARGIN >= place
    }
}

impl Watcher for RunOut {
    fn push(&mut self) {
        self.course.push();
        self.lines.iter_mut().for_each(Line::push);
    }

    fn bytes(&self) -> usize {
        Course::BYTES + self.lines.len() * Line::BYTES
    }

    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // times, and distances for words
    fn update(&mut self, block: &Block<'_>, out: &mut Said) {
        let hours = block.end as f64 / HOUR;
        for (i, (&row, &value)) in block.rows.iter().zip(block.values).enumerate().take(LANES) {
            let row = row as usize;
            let value = value.clamp(-LARGEST, LARGEST);
            let count = self.course.count[row];
            let dt = if count == 0 {
                0.0
            } else {
                block.end.saturating_sub(self.course.last[row]) as f64 / HOUR
            };
            // a clock that steps back says nothing about a slope
            if count == 0 || dt > 0.0 {
                let dy = if count == 0 {
                    0.0
                } else {
                    value - self.course.value[row]
                };
                for (line, memory) in self.lines.iter_mut().zip(MEMORIES) {
                    line.learn(row, memory, count, dt, dy);
                }
                self.course.value[row] = value;
                self.course.last[row] = block.end;
                self.course.count[row] = count.saturating_add(1);
                self.turn(row, value, hours);
            }
            let left = self.left(row);
            let within = self.within();
            let due = left.is_some_and(|left| left.likely <= within && left.latest <= SLOWEST * within);
            let nearly = left.is_some_and(|left| left.likely <= 1.5 * within);
            let runs_out = due && !self.is_usual(row);
            out.probability[i] = if runs_out { 0.0 } else { 1.0 };
            let near = left.map_or(0.0, |left| (within / left.likely.max(1e-3 * within)).min(1e3));
            out.distance[i] = (self.sign() * near) as f32;
            out.inside[i] = u8::from(!nearly);
        }
    }

    fn reseat(&mut self, _: usize) {}

    fn words(&self, row: usize, value: f64) -> String {
        let Some(left) = self.left(row) else {
            return format!("{} now, away from its limit {}", number(value), number(self.limit.at));
        };
        if left == Left::NONE {
            return format!("has reached its limit {}: {} now", number(self.limit.at), number(value));
        }
        let now = self.course.last[row];
        #[allow(clippy::cast_possible_truncation)] // held within the years that can be written
        let at = |hours: f64| {
            let minutes = (hours.min(1e8) * 60.0).round() as i64;
            let at = Timestamp::from_millis(now.saturating_add(minutes * 60_000));
            at.to_string().replace(":00Z", "Z").replace('T', " ")
        };
        let latest = if left.latest.is_finite() {
            format!("and {}", at(left.latest))
        } else {
            "and never".to_owned()
        };
        format!(
            "reaches its limit {} in {} at {} (9 in 10: between {} {latest}): {} now, {} by {} an hour over the last {} values",
            number(self.limit.at),
            span(left.likely),
            at(left.likely),
            at(left.soonest),
            number(value),
            if left.slope >= 0.0 { "rising" } else { "falling" },
            number(left.slope.abs()),
            number(left.over),
        )
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn adopt(&mut self, row: usize, from: &dyn Watcher, from_row: usize) {
        if let Some(from) = same::<Self>(from) {
            self.course.adopt(row, &from.course, from_row);
            for (mine, theirs) in self.lines.iter_mut().zip(&from.lines) {
                mine.adopt(row, theirs, from_row);
            }
        }
    }

    fn save(&self, out: &mut Columns) -> Result<(), Error> {
        self.course.save("run_out", out);
        for (k, line) in self.lines.iter().enumerate() {
            line.save(&format!("run_out.line.{k}"), out);
        }
        Ok(())
    }

    fn load(&mut self, from: &Columns, _: usize) -> Result<(), Error> {
        self.course.load("run_out", from)?;
        for (k, line) in self.lines.iter_mut().enumerate() {
            line.load(&format!("run_out.line.{k}"), from)?;
        }
        Ok(())
    }
}

/// Hours as people say them.
fn span(hours: f64) -> String {
    if hours < 2.0 {
        format!("{} min", (hours * 60.0).round())
    } else if hours < 48.0 {
        format!("{} h", number((hours * 10.0).round() / 10.0))
    } else {
        format!("{} days", number((hours / 2.4).round() / 10.0))
    }
}
