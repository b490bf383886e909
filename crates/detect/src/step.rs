//! A further step of a series that is outside its band already.
//!
//! While an anomaly is open the band from before says no more than that it goes on: where load has doubled for good, a fault
//! under it would go unseen for as long as the new level takes to be accepted. So each series that has been outside for some
//! windows is held against the level that it has had since: what leaves that level by far, further away from what was
//! expected, is an anomaly of its own, inside the first.

use suture_event::EndReason;

use crate::{EpisodeOptions, episode::Window};

/// Windows after which the level outside is known.
const SETTLED: u32 = 15;

/// The part of a new value in the level, once it is settled.
const GAIN: f64 = 0.1;

/// A step is this many standard deviations from the level, and is over within this many.
const LEAST: f64 = 8.0;
const BACK: f64 = 4.0;

/// It is this part, at least, of the way that the level is off what was expected.
const SHARE: f64 = 0.3;

/// A level moves by this part of itself at least, as far as its spread is known.
const FLOOR: f64 = 1e-3;

/// Steps that one anomaly tells of.
const MOST: u32 = 8;

/// No step is open.
const NONE: i64 = i64::MIN;

/// The level since a series is outside, and the step that leads away from it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Step {
    /// Values taken in.
    settled: u32,
    pub(crate) level: f64,
    /// Mean distance from the level.
    spread: f64,
    /// Windows in a row away from the level.
    away: u32,
    /// Start of the first of them, and of the step that is open.
    first: i64,
    pub(crate) onset: i64,
    pub(crate) told: f64,
    grown: u32,
    back: u32,
    count: u32,
}

impl Default for Step {
    fn default() -> Self {
        Self {
            settled: 0,
            level: 0.0,
            spread: 0.0,
            away: 0,
            first: NONE,
            onset: NONE,
            told: 0.0,
            grown: 0,
            back: 0,
            count: 0,
        }
    }
}

/// What a window changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Stepped {
    Nothing,
    Opened,
    Grown,
    /// It is near the level again, not yet for long enough to be over.
    Eased,
    /// It is over: to be [closed](Step::end) once that is told.
    Ended(EndReason),
}

impl Step {
    /// Numbers in a snapshot.
    pub(crate) const NUMBERS: usize = 10;

    /// Whether one is open.
    pub(crate) const fn is_open(&self) -> bool {
        self.onset != NONE
    }

    /// How far a value may be from the level and still belong to it, in the metric's unit.
    pub(crate) fn reach(&self, expected: f64) -> f64 {
        (LEAST * self.sigma()).max(SHARE * (self.level - expected).abs())
    }

    fn sigma(&self) -> f64 {
        // of a normal distribution the mean distance is four fifths of the standard deviation
        (1.25 * self.spread)
            .max(FLOOR * self.level.abs())
            .max(f64::MIN_POSITIVE)
    }

    /// Takes in a window in which the series is outside. `side` is 1 above, 2 below; `counts` says whether a distance is one
    /// that matters.
    pub(crate) fn take(
        &mut self,
        window: &Window,
        expected: f64,
        side: u8,
        options: &EpisodeOptions,
        counts: impl Fn(f64, f64) -> bool,
    ) -> Stepped {
        let off = if side == 2 {
            self.level - window.value
        } else {
            window.value - self.level
        };
        if self.is_open() {
            return self.go_on(window, off, expected, options);
        }
        let far = self.settled >= SETTLED && off > self.reach(expected) && counts(window.value, self.level);
        if !far {
            self.away = 0;
            self.follow(window.value);
            return Stepped::Nothing;
        }
        if self.away == 0 {
            self.first = window.start;
        }
        self.away += 1;
        if self.away < options.open || self.count >= MOST {
            return Stepped::Nothing;
        }
        self.count += 1;
        (self.onset, self.told, self.grown, self.back) = (self.first, off / self.sigma(), 0, 0);
        Stepped::Opened
    }

    fn go_on(&mut self, window: &Window, off: f64, expected: f64, options: &EpisodeOptions) -> Stepped {
        if off <= (BACK * self.sigma()).max(0.5 * SHARE * (self.level - expected).abs()) {
            self.back += 1;
            return match self.back {
                back if back >= options.close => Stepped::Ended(EndReason::Recovered),
                1 => Stepped::Eased,
                _ => Stepped::Nothing,
            };
        }
        let was_back = std::mem::take(&mut self.back) > 0;
        if window.end.saturating_sub(self.onset) >= options.accept_after.as_millis() {
            return Stepped::Ended(EndReason::Adapted);
        }
        let deviation = off / self.sigma();
        if self.grown < options.grow_times && deviation >= options.grow_by * self.told {
            self.grown += 1;
            self.told = deviation;
            return Stepped::Grown;
        }
        if was_back { Stepped::Grown } else { Stepped::Nothing }
    }

    /// Forgets the step that is open; where it has become usual, it is the level from here on.
    pub(crate) fn end(&mut self, reason: EndReason) {
        (self.onset, self.away, self.back) = (NONE, 0, 0);
        if reason == EndReason::Adapted {
            (self.settled, self.spread) = (0, 0.0);
        }
    }

    fn follow(&mut self, value: f64) {
        self.settled = self.settled.saturating_add(1);
        let gain = GAIN.max(1.0 / f64::from(self.settled));
        if self.settled == 1 {
            self.level = value;
        }
        let off = value - self.level;
        self.level += gain * off;
        self.spread += gain * (off.abs() - self.spread);
    }

    #[allow(clippy::cast_precision_loss)] // times within 200,000 years
    pub(crate) fn numbers(&self) -> [f64; Self::NUMBERS] {
        let at = |time: i64| if time == NONE { f64::NAN } else { time as f64 };
        [
            self.settled.into(),
            self.level,
            self.spread,
            self.away.into(),
            at(self.first),
            at(self.onset),
            self.told,
            self.grown.into(),
            self.back.into(),
            self.count.into(),
        ]
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // as they were written
    pub(crate) fn from_numbers(n: &[f64]) -> Self {
        let &[settled, level, spread, away, first, onset, told, grown, back, count] = n else {
            return Self::default();
        };
        let at = |time: f64| if time.is_nan() { NONE } else { time as i64 };
        Self {
            settled: settled as u32,
            level,
            spread,
            away: away as u32,
            first: at(first),
            onset: at(onset),
            told,
            grown: grown as u32,
            back: back as u32,
            count: count as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(values: &[f64], expected: f64, side: u8) -> Vec<(usize, Stepped)> {
        let mut step = Step::default();
        let told = values.iter().enumerate().map(|(minute, value)| {
            let start = 60_000 * i64::try_from(minute).unwrap_or(i64::MAX);
            let window = Window {
                start,
                end: start + 60_000,
                onset: start,
                value: *value,
                off: 0.0,
                probability: 1e-9,
                distance: 20.0,
                detector: 0,
                inside: false,
            };
            let stepped = step.take(&window, expected, side, &EpisodeOptions::default(), |_, _| true);
            if let Stepped::Ended(reason) = stepped {
                assert_ne!(step.onset, NONE, "its beginning is told with its end");
                step.end(reason);
            }
            step = Step::from_numbers(&step.numbers());
            (minute, stepped)
        });
        told.filter(|(_, stepped)| *stepped != Stepped::Nothing).collect()
    }

    /// A level with a little noise, for so many windows.
    fn level(at: f64, windows: usize) -> Vec<f64> {
        (0..windows)
            .map(|i| at * (1.0 + 0.02 * ((i * 7 % 11) as f64 - 5.0) / 5.0))
            .collect()
    }

    #[test]
    fn a_step_that_leads_further_away_is_told_with_its_end() {
        let values = [level(200.0, 40), level(900.0, 10), level(200.0, 10)].concat();
        let told = run(&values, 100.0, 1);
        assert_eq!(
            told,
            [
                (41, Stepped::Opened),
                (50, Stepped::Eased),
                (52, Stepped::Ended(EndReason::Recovered))
            ]
        );
        let values = [level(50.0, 40), level(5.0, 10), level(50.0, 10)].concat();
        assert_eq!(run(&values, 100.0, 2).len(), 3);
    }

    #[test]
    fn one_that_is_near_the_level_for_a_window_has_eased_and_not_ended() {
        let values = [level(200.0, 40), level(900.0, 5), level(200.0, 1), level(900.0, 5)].concat();
        let told = run(&values, 100.0, 1);
        assert_eq!(
            told,
            [(41, Stepped::Opened), (45, Stepped::Eased), (46, Stepped::Grown)]
        );
    }

    #[test]
    fn what_comes_at_once_is_the_first_anomaly_and_what_leads_back_is_none() {
        assert_eq!(run(&[level(200.0, 8), level(900.0, 30)].concat(), 100.0, 1), []);
        assert_eq!(run(&[level(900.0, 40), level(300.0, 30)].concat(), 100.0, 1), []);
    }

    #[test]
    fn a_spike_of_one_window_and_a_small_step_are_none() {
        let mut values = level(200.0, 60);
        values[45] = 2_000.0;
        assert_eq!(run(&values, 100.0, 1), []);
        assert_eq!(run(&[level(200.0, 40), level(220.0, 30)].concat(), 100.0, 1), []);
    }

    #[test]
    fn one_that_stays_becomes_the_level() {
        let values = [level(200.0, 40), level(900.0, 200)].concat();
        let told = run(&values, 100.0, 1);
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!(told[1].1, Stepped::Ended(EndReason::Adapted));
    }

    #[test]
    fn one_that_goes_up_and_down_is_told_so_often_and_no_more() {
        let mut values = level(200.0, 40);
        for _ in 0..30 {
            values.extend([level(900.0, 6), level(200.0, 20)].concat());
        }
        let opened = run(&values, 100.0, 1)
            .iter()
            .filter(|(_, s)| *s == Stepped::Opened)
            .count();
        assert_eq!(opened, usize::try_from(MOST).unwrap_or(0));
    }
}
