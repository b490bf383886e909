//! One season: the course of a day or of a week, and the levels of what is left when it is taken out.
//!
//! The course is a profile of points with straight lines between them, in units of the series' own scale. It is kept a
//! point a column: a window touches two of them, whatever the number of points.
//!
//! A point is three bytes: a single-precision number without the last eight bits of its mantissa, so 1 in 65,000 of what it
//! is. Steps may be smaller than that, and add up all the same, as what is cut off is rounded up as often as it is large: by
//! eight bits that follow from the value and its time (G. E. Forsythe, "Reprint of a note on rounding-off errors", SIAM
//! Review 1, 1959).

// one index into many arrays of the same length, which is what becomes vector instructions
#![allow(clippy::needless_range_loop)]

use crate::{
    Error,
    fast::{TINY, least, most, pick, within},
    seasonal::{CLIP, Entries, FAST, SLOW, follow},
    state::{Columns, LANES, Lanes, Place, columns, gather, load, push, save, scatter},
};

columns! {
    /// Numbers a series, besides the profile.
    pub(crate) struct Levels in SeasonLanes {
        /// Level of a period or two, from which the profile is measured.
        base: f32 = 0.0,
        /// Slow and fast level of what is left, and their scales.
        slow: f32 = 0.0,
        fast: f32 = 0.0,
        slow_scale: f32 = 0.0,
        fast_scale: f32 = 0.0,
    }
}

/// One point of the profile for all series: the upper sixteen bits of a single-precision number, and the next eight.
#[derive(Debug, Clone, Default)]
struct Point {
    upper: Vec<u16>,
    lower: Vec<u8>,
}

/// Half of the last bit that is kept.
const HALF: u32 = 0x80;

/// The bits that are kept of a number, once `dither`, below 256, was added to those that are not.
#[inline(always)]
#[allow(clippy::cast_possible_truncation)] // the bits that are meant
fn cut(value: f32, dither: u32) -> (u16, u8) {
    let bits = value.to_bits() + dither;
    ((bits >> 16) as u16, (bits >> 8) as u8)
}

#[inline(always)]
fn whole(upper: u16, lower: u8) -> f32 {
    f32::from_bits(u32::from(upper) << 16 | u32::from(lower) << 8)
}

impl Point {
    const BYTES: usize = size_of::<u16>() + size_of::<u8>();

    fn push(&mut self) {
        push(&mut self.upper, 0);
        push(&mut self.lower, 0);
    }

    fn at(&self, row: usize) -> f32 {
        whole(self.upper[row], self.lower[row])
    }

    fn set(&mut self, row: usize, value: f32) {
        (self.upper[row], self.lower[row]) = cut(value, HALF);
    }

    fn all(&self) -> Vec<f32> {
        let bits = self.upper.iter().zip(&self.lower);
        bits.map(|(upper, lower)| whole(*upper, *lower)).collect()
    }

    fn of(values: &[f32]) -> Self {
        let (upper, lower) = values.iter().map(|value| cut(*value, HALF)).unzip();
        Self { upper, lower }
    }

    #[inline]
    fn read(&self, place: Place<'_>, n: usize, lanes: &mut Lanes<f32>) {
        let (mut upper, mut lower) = ([0; LANES], [0; LANES]);
        gather(&self.upper, place, &mut upper);
        gather(&self.lower, place, &mut lower);
        for i in 0..n.min(LANES) {
            lanes[i] = whole(upper[i], lower[i]);
        }
    }

    #[inline]
    fn write(&mut self, place: Place<'_>, n: usize, lanes: &Lanes<f32>, dither: &Lanes<u32>) {
        let (mut upper, mut lower) = ([0; LANES], [0; LANES]);
        for i in 0..n.min(LANES) {
            (upper[i], lower[i]) = cut(lanes[i], dither[i]);
        }
        scatter(&upper, place, &mut self.upper);
        scatter(&lower, place, &mut self.lower);
    }
}

/// A season's state for all series.
#[derive(Debug)]
pub(crate) struct Season {
    name: &'static str,
    /// Milliseconds.
    period: i64,
    pub(crate) levels: Levels,
    profile: Vec<Point>,
    lanes: SeasonLanes,
    left: Lanes<f32>,
    right: Lanes<f32>,
    /// What is added to the bits of the points in hand that are not kept.
    dither: [Lanes<u32>; 2],
    /// What the profile adds for the entries in hand.
    pub(crate) course: Lanes<f32>,
    at: At,
}

/// Where in the period a window lies: between two points, with what each of them weighs.
#[derive(Debug, Clone, Copy, Default)]
struct At {
    left: usize,
    right: usize,
    of_left: f32,
    of_right: f32,
    /// Some bits of the time.
    mark: u32,
}

impl Season {
    pub(crate) fn new(name: &'static str, period: i64, points: usize) -> Self {
        Self {
            name,
            period,
            levels: Levels::default(),
            profile: vec![Point::default(); points],
            lanes: SeasonLanes::default(),
            left: [0.0; _],
            right: [0.0; _],
            dither: [[0; _]; 2],
            course: [0.0; _],
            at: At::default(),
        }
    }

    pub(crate) fn push(&mut self) {
        self.levels.push();
        self.profile.iter_mut().for_each(Point::push);
    }

    /// Takes over what another season of the same length knows of one of its series.
    pub(crate) fn adopt(&mut self, row: usize, from: &Self, from_row: usize) {
        self.levels.adopt(row, &from.levels, from_row);
        for (point, known) in self.profile.iter_mut().zip(&from.profile) {
            point.set(row, known.at(from_row));
        }
    }

    pub(crate) fn reset(&mut self, row: usize) {
        self.levels.reset(row);
        self.profile.iter_mut().for_each(|point| point.set(row, 0.0));
    }

    /// Bytes a series.
    pub(crate) fn bytes(&self) -> usize {
        Levels::BYTES + self.profile.len() * Point::BYTES
    }

    pub(crate) fn save(&self, out: &mut Columns) {
        self.levels.save(self.name, out);
        for (i, point) in self.profile.iter().enumerate() {
            out.put(self.name, &format!("profile.{i}"), save(&point.all()));
        }
    }

    pub(crate) fn load(&mut self, from: &Columns) -> Result<(), Error> {
        self.levels.load(self.name, from)?;
        for (i, point) in self.profile.iter_mut().enumerate() {
            *point = Point::of(&load(from.get(self.name, &format!("profile.{i}"))?)?);
        }
        Ok(())
    }

    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )] // within a period
    fn place(&self, end: i64) -> At {
        let points = self.profile.len();
        let at = end.rem_euclid(self.period) as f64 / self.period as f64 * points as f64;
        let left = (at as usize).min(points - 1);
        let share = (at - left as f64) as f32;
        At {
            left,
            right: (left + 1) % points,
            of_left: 1.0 - share,
            of_right: share,
            mark: (end as u32).wrapping_mul(0x85EB_CA6B),
        }
    }

    /// Looks up what a window's end needs.
    pub(crate) fn aim(&mut self, end: i64) {
        self.at = self.place(end);
    }

    /// What the profile adds at a point in time for one series.
    pub(crate) fn course_of(&self, row: usize, unit: f32, end: i64) -> f32 {
        let at = self.place(end);
        unit * (self.profile[at.left].at(row) * at.of_left + self.profile[at.right].at(row) * at.of_right)
    }

    /// Reads the state of some entries.
    #[inline(never)]
    pub(crate) fn read(&mut self, place: Place<'_>, n: usize, unit: &Lanes<f32>) {
        self.levels.read(place, &mut self.lanes);
        self.profile[self.at.left].read(place, n, &mut self.left);
        self.profile[self.at.right].read(place, n, &mut self.right);
        for i in 0..n.min(unit.len()) {
            self.course[i] = unit[i] * (self.left[i] * self.at.of_left + self.right[i] * self.at.of_right);
        }
    }

    /// Puts the state of some entries back.
    #[inline(never)]
    pub(crate) fn write(&mut self, place: Place<'_>, n: usize) {
        self.levels.write(place, &self.lanes);
        let [left, right] = &self.dither;
        self.profile[self.at.left].write(place, n, &self.left, left);
        self.profile[self.at.right].write(place, n, &self.right, right);
    }

    /// What the slow and the fast level foretell, and their scales.
    #[inline(always)]
    pub(crate) fn forecast(&self, i: usize) -> [(f32, f32); 2] {
        [
            (self.lanes.slow[i] + self.course[i], self.lanes.slow_scale[i]),
            (self.lanes.fast[i] + self.course[i], self.lanes.fast_scale[i]),
        ]
    }

    /// Learns the entries in hand. `scale` is that of the slow level without a season.
    #[allow(clippy::cast_precision_loss)] // a period in milliseconds
    #[inline(never)]
    pub(crate) fn learn(&mut self, entries: &Entries, n: usize, scale: &Lanes<f32>, unit: &Lanes<f32>) {
        let period = self.period as f32;
        let visits = self.profile.len() as f32 / period;
        let of_periods = 0.5 / period;
        let per_minute = 60_000.0 / period;
        let (l, e) = (&mut self.lanes, entries);
        let (mut rest, mut seen, mut moved) = ([0.0_f32; LANES], [0.0_f32; LANES], [0.0_f32; LANES]);
        for i in 0..n.min(LANES) {
            let (value, takes, floor) = (e.value[i], e.takes[i], e.floor[i]);
            let (base, course, unit, spread) = (l.base[i], self.course[i], unit[i], l.slow_scale[i]);
            let step = most(e.step[i], 1.0);
            let wide = most(scale[i], floor) * (2.0 * CLIP);
            let gain = most(least(step * of_periods, 0.1), e.inverse[i]);
            let base = base + takes * gain * within(value - base, wide);
            l.base[i] = base;
            // a point is passed once a period by as many values as fit between two points
            let age = e.age[i] * per_minute;
            let pace = if age < 5.0 { 0.4 } else { 0.35 };
            let pace = if age < 4.0 { 0.5 } else { pace };
            let pace = if age < 3.0 { 2.0 / 3.0 } else { pace };
            let pace = if age < 2.0 { 1.0 } else { pace };
            let pace = if age < 1.0 { 2.0 } else { pace };
            let gain = least(pace * least(step * visits, 1.0), 0.7);
            let inverse = pick(unit, 1.0 / most(unit, TINY), 0.0);
            let error = within((value - base - course) * inverse, 1e6);
            let limited = within(error, CLIP * 2.0 * most(spread, floor) * inverse);
            let error = if age < 1.0 { error } else { limited };
            moved[i] = takes * gain * error;
            rest[i] = value - course;
            // the periods in which the profile is still being drawn say nothing about its worth
            let count = e.count[i];
            seen[i] = if age < 1.0 { 0.0 } else { count };
        }
        for i in 0..n.min(LANES) {
            self.left[i] += moved[i] * self.at.of_left;
            self.right[i] += moved[i] * self.at.of_right;
        }
        for i in 0..n.min(LANES) {
            let mixed = (e.value[i].to_bits() ^ self.at.mark).wrapping_mul(0x9E37_79B9);
            self.dither[0][i] = mixed >> 24;
            self.dither[1][i] = mixed >> 16 & 0xff;
        }
        follow(&mut l.slow, &mut l.slow_scale, &rest, SLOW, &seen, e, n);
        follow(&mut l.fast, &mut l.fast_scale, &rest, FAST, &seen, e, n);
    }

    /// Moves the levels by as much as the slow level without a season was moved.
    pub(crate) fn move_by(&mut self, row: usize, by: f32) {
        let l = &mut self.levels;
        l.base[row] += by;
        l.slow[row] += by;
        l.fast[row] = l.slow[row];
    }

    /// Levels are the difference from an origin that moved by so much.
    #[inline(always)]
    pub(crate) fn centre(&mut self, i: usize, by: f32) {
        for level in [&mut self.lanes.base, &mut self.lanes.slow, &mut self.lanes.fast] {
            level[i] -= by;
        }
    }

    /// Levels start where the series does.
    #[inline(always)]
    pub(crate) fn start(&mut self, i: usize, value: f32) {
        self.lanes.base[i] = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_too_small_for_a_point_add_up_all_the_same() {
        let (mut point, mut exact) = (Point::default(), 8.0_f32);
        point.push();
        point.set(0, 8.0);
        assert_eq!((point.at(0), Point::BYTES), (8.0, 3));
        let last_bit = whole(cut(8.0, 0).0, 1) - 8.0;
        assert!(last_bit > 0.0);
        // a twentieth of what a point can tell apart at a time
        for n in 0..20_000_u32 {
            let dither = n.wrapping_mul(0x9E37_79B9) >> 24;
            let mut lanes = [0.0; LANES];
            point.read(Place::Run(0, 1), 1, &mut lanes);
            lanes[0] += 0.05 * last_bit;
            exact += 0.05 * last_bit;
            point.write(Place::Run(0, 1), 1, &lanes, &[dither; LANES]);
        }
        let (moved, expected) = (point.at(0) - 8.0, exact - 8.0);
        assert!((moved / expected - 1.0).abs() < 0.1, "{moved} {expected}");
        // what does not move stays what it is
        for dither in 0..256 {
            assert_eq!(cut(whole(0x4123, 0x45), dither), (0x4123, 0x45));
        }
    }
}
