//! From windows outside their band to anomalies with a beginning and an end.

use suture_event::{AnomalyPhase, Direction, EndReason, Timestamp};

use crate::{EpisodeOptions, state::columns};

/// One phase of an anomaly of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct Episode {
    /// Row of the series in its bank.
    pub row: u32,
    /// Opened, grown or ended.
    pub phase: AnomalyPhase,
    /// Why it ended, where it did.
    pub end: Option<EndReason>,
    /// When this was known.
    pub at: Timestamp,
    /// Start of the first window outside.
    pub onset: Timestamp,
    /// The detector that raised it.
    pub detector: &'static str,
    /// 1 less the probability of a window as unusual as this one, in 0..=1.
    pub score: f64,
    /// How many robust standard deviations outside, at least 0.
    pub deviation: f64,
    /// What was measured; absent for a silent series.
    pub value: Option<f64>,
    /// What was expected.
    pub expected: f64,
    /// Lower end of the expected band.
    pub lower: f64,
    /// Upper end of the expected band.
    pub upper: f64,
    /// On which side.
    pub direction: Direction,
    /// Why, in words with the numbers.
    pub detail: String,
}

/// Nothing is open; a value is outside; no value comes; no value has come for so long that none is expected.
pub(crate) const CALM: u8 = 0;
pub(crate) const OUTSIDE: u8 = 1;
pub(crate) const SILENT: u8 = 2;
pub(crate) const GONE: u8 = 3;

columns! {
    /// Where each series stands between calm and anomaly.
    pub(crate) struct Standing {
        /// One of [`CALM`], [`OUTSIDE`], [`SILENT`], [`GONE`].
        state: u8 = CALM,
        /// The windows of late, the last in the lowest bit: 1 where outside.
        outs: u32 = 0,
        /// Start of the first window outside, and of the last.
        onset: i64 = 0,
        latest: i64 = 0,
        /// Code of the detector that raised what is open.
        detector: u8 = 0,
        /// 1 above, 2 below.
        side: u8 = 0,
        /// Deviation told last, and how often it was told again.
        told: f64 = 0.0,
        grown: u32 = 0,
        /// Windows in a row inside the band from before.
        inside: u32 = 0,
        /// Short exponentially weighted level of the values while something is open, and of their distance from it.
        level: f64 = 0.0,
        spread: f64 = 0.0,
        /// Largest distance since the first window outside.
        peak: f64 = 0.0,
        /// Windows without a value since the last one, and the longest such run of late.
        missing: u32 = 0,
        longest: f64 = 0.0,
        /// Values seen.
        seen: u32 = 0,
    }
}

/// One window of one series as the detectors see it together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) value: f64,
    pub(crate) probability: f64,
    /// Signed robust standard deviations of the detector that is the most surprised.
    pub(crate) distance: f64,
    pub(crate) detector: u8,
    /// Whether the value is inside the band again, as far as the detector that opened the anomaly is concerned.
    pub(crate) inside: bool,
}

/// What a window changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Turn {
    Nothing,
    Opened,
    Grown,
    Ended(EndReason),
    /// Windows were outside, too few to open anything, and are over.
    Passed,
}

impl Standing {
    /// Takes in a window that has a value.
    pub(crate) fn step(&mut self, row: usize, window: Window, options: &EpisodeOptions, limits: (f64, f64)) -> Turn {
        let (alarm, at_once) = limits;
        let outside = window.probability < alarm;
        let deviation = window.distance.abs();
        if self.state[row] == OUTSIDE {
            self.follow(row, window.value, 0.2);
            return self.go_on(row, window, options, deviation);
        }
        let mask = if options.of >= 32 {
            u32::MAX
        } else {
            (1 << options.of) - 1
        };
        let before = self.outs[row];
        let after = ((before << 1) | u32::from(outside)) & mask;
        self.outs[row] = after;
        if !outside {
            if before != 0 && after == 0 {
                return Turn::Passed;
            }
            return Turn::Nothing;
        }
        // windows outside on the other side do not add up with these
        let side = if window.distance >= 0.0 { 1 } else { 2 };
        if before == 0 || self.side[row] != side {
            self.outs[row] = 1;
            self.onset[row] = window.start;
            self.peak[row] = 0.0;
            self.level[row] = window.value;
            self.spread[row] = 0.0;
            self.side[row] = side;
        } else {
            if (before << 1) & !mask != 0 && after.count_ones() == 1 {
                self.onset[row] = self.latest[row];
            }
            self.follow(row, window.value, 0.5);
        }
        self.latest[row] = window.start;
        self.peak[row] = self.peak[row].max(deviation);
        if self.outs[row].count_ones() < options.open && window.probability >= at_once {
            return Turn::Nothing;
        }
        self.state[row] = OUTSIDE;
        self.detector[row] = window.detector;
        self.told[row] = deviation;
        self.grown[row] = 0;
        self.inside[row] = 0;
        self.outs[row] = 0;
        Turn::Opened
    }

    fn follow(&mut self, row: usize, value: f64, gain: f64) {
        let off = value - self.level[row];
        self.level[row] += gain * off;
        self.spread[row] += gain * (off.abs() - self.spread[row]);
    }

    fn go_on(&mut self, row: usize, window: Window, options: &EpisodeOptions, deviation: f64) -> Turn {
        self.inside[row] = if window.inside { self.inside[row] + 1 } else { 0 };
        if self.inside[row] >= options.close {
            self.state[row] = CALM;
            return Turn::Ended(EndReason::Recovered);
        }
        if !window.inside {
            self.peak[row] = self.peak[row].max(deviation);
            if window.end.saturating_sub(self.onset[row]) >= options.accept_after.as_millis() {
                self.state[row] = CALM;
                return Turn::Ended(EndReason::Adapted);
            }
            if self.grown[row] < options.grow_times && deviation >= options.grow_by * self.told[row] {
                self.grown[row] += 1;
                self.told[row] = deviation;
                return Turn::Grown;
            }
        }
        Turn::Nothing
    }

    /// What a value says about silence: `Some` where it breaks one.
    pub(crate) fn heard(&mut self, row: usize) -> Option<EndReason> {
        let run = f64::from(self.missing[row]);
        let broke = self.state[row] == SILENT;
        if broke || self.state[row] == GONE {
            self.state[row] = CALM;
        }
        // a gap that ended by itself is known from now on; a long outage counts as no more than twice the longest
        let most = if broke {
            (2.0 * self.longest[row]).max(30.0)
        } else {
            f64::MAX
        };
        self.longest[row] = (self.longest[row] * 0.9995).max(run.min(most));
        self.missing[row] = 0;
        self.seen[row] = self.seen[row].saturating_add(1);
        broke.then_some(EndReason::Recovered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(minute: i64, probability: f64, distance: f64) -> Window {
        let start = minute * 60_000;
        let inside = distance.abs() < 5.0;
        Window {
            start,
            end: start + 60_000,
            value: distance,
            probability,
            distance,
            detector: 0,
            inside,
        }
    }

    fn run(windows: &[Window]) -> (Standing, Vec<Turn>) {
        let mut standing = Standing::default();
        standing.push();
        let options = EpisodeOptions::default();
        let turns = windows
            .iter()
            .map(|w| standing.step(0, *w, &options, (1e-4, 1e-7)))
            .collect();
        (standing, turns)
    }

    #[test]
    fn two_of_three_windows_open_and_three_inside_close() {
        let (standing, turns) = run(&[
            window(0, 1e-5, 8.0),
            window(1, 0.5, 0.0),
            window(2, 1e-5, 9.0),
            window(3, 1e-9, 30.0),
            window(4, 0.5, 0.0),
            window(5, 0.5, 1.0),
            window(6, 0.5, 1.0),
        ]);
        use Turn::{Ended, Grown, Nothing, Opened};
        assert_eq!(
            turns,
            [
                Nothing,
                Nothing,
                Opened,
                Grown,
                Nothing,
                Nothing,
                Ended(EndReason::Recovered)
            ]
        );
        assert_eq!(standing.onset[0], 0);
    }

    #[test]
    fn a_window_too_unlikely_to_wait_opens_alone_and_a_mere_spike_passes() {
        let (_, turns) = run(&[window(0, 1e-8, 20.0)]);
        assert_eq!(turns, [Turn::Opened]);
        let calm = |m| window(m, 0.5, 0.0);
        let (_, turns) = run(&[window(0, 1e-5, 8.0), calm(1), calm(2), calm(3)]);
        assert_eq!(turns, [Turn::Nothing, Turn::Nothing, Turn::Nothing, Turn::Passed]);
    }

    #[test]
    fn sides_do_not_add_up() {
        let (_, turns) = run(&[window(0, 1e-5, 8.0), window(1, 1e-5, -8.0), window(2, 1e-5, 8.0)]);
        assert_eq!(turns, [Turn::Nothing; 3]);
    }

    #[test]
    fn a_level_that_stays_is_accepted_once() {
        let windows: Vec<_> = (0..200).map(|m| window(m, 1e-5, 8.0)).collect();
        let (_, turns) = run(&windows[..121]);
        assert_eq!(turns.iter().filter(|t| **t == Turn::Opened).count(), 1);
        assert_eq!(turns[119], Turn::Ended(EndReason::Adapted));
    }
}
