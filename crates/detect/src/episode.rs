//! From windows outside their band to anomalies with a beginning and an end.

use std::{
    collections::BTreeMap,
    ops::{Deref, DerefMut},
};

use suture_event::{AnomalyPhase, Direction, EndReason, Timestamp};

use crate::{
    EpisodeOptions, Error,
    fast::flush,
    state::{Columns, columns, from_lists, lists},
    step::{Step, Stepped},
};

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
    /// Start of the first window outside; of a shift, of the window since which the level has been another.
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

/// Gaps in a row that must be alike for a series to come at even intervals: those of a week of days.
const GAPS: u8 = 7;
/// Gaps are alike that differ by no more than this share of the usual one, or by a window.
const ALIKE: f32 = 0.25;
/// Gaps that the usual one is the mean of, at most.
const OF_GAPS: u8 = 14;

columns! {
    /// Where each series stands between calm and anomaly, and its gaps.
    pub(crate) struct Resting {
        /// One of [`CALM`], [`OUTSIDE`], [`SILENT`], [`GONE`].
        state: u8 = CALM,
        /// The windows of late, the last in the lowest bit: 1 where outside.
        outs: u32 = 0,
        /// Windows without a value since the last one, and the longest such run of late.
        missing: u32 = 0,
        longest: f32 = 0.0,
        /// The usual length of such runs, and how many in a row were about as long.
        usual: f32 = 0.0,
        gaps: u8 = 0,
        /// Values seen.
        seen: u32 = 0,
    }
}

/// What there is to know of a series that is not calm.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Open {
    /// Start of the first window in which what is open showed, and of the last outside.
    pub(crate) onset: i64,
    pub(crate) latest: i64,
    /// Code of the detector that raised what is open.
    pub(crate) detector: u8,
    /// 1 above, 2 below.
    pub(crate) side: u8,
    /// Deviation told last, and how often it was told again.
    pub(crate) told: f64,
    pub(crate) grown: u32,
    /// Windows in a row inside the band from before.
    pub(crate) inside: u32,
    /// How often it was told to have eased.
    pub(crate) eased: u32,
    /// Short exponentially weighted level of the values while something is open, and of their distance from it.
    pub(crate) level: f64,
    pub(crate) spread: f64,
    /// Largest distance since the first window outside, and how far from what was expected in units of the series.
    pub(crate) peak: f64,
    pub(crate) size: f64,
    /// What is open is expected, and not told, until this time and within this size; 0 where it is told.
    pub(crate) until: i64,
    pub(crate) most: f64,
    /// A further step inside what is open.
    pub(crate) step: Step,
}

/// The standing of all series: a few columns, and more for those alone that are outside or silent.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    pub(crate) resting: Resting,
    open: BTreeMap<u32, Open>,
}

impl Deref for Standing {
    type Target = Resting;

    fn deref(&self) -> &Resting {
        &self.resting
    }
}

impl DerefMut for Standing {
    fn deref_mut(&mut self) -> &mut Resting {
        &mut self.resting
    }
}

/// Numbers of [`Open`] in a snapshot. Earlier programs wrote fewer, and no row's differ from another's.
const NUMBERS: usize = OWN_NUMBERS + Step::NUMBERS + EXPECTED_NUMBERS;

/// Of those the ones that are not its step's, and the last, which are of what is expected.
const OWN_NUMBERS: usize = 11;
const EXPECTED_NUMBERS: usize = 3;

/// An anomaly is told to have eased at most so often: one that flaps is open, and no more need be said of it.
const MOST_EASED: u32 = 16;

impl Open {
    #[allow(clippy::cast_precision_loss)] // times within 200,000 years
    fn numbers(&self) -> [f64; NUMBERS] {
        let mut numbers = [0.0; NUMBERS];
        let own: [f64; OWN_NUMBERS] = [
            self.onset as f64,
            self.latest as f64,
            self.detector.into(),
            self.side.into(),
            self.told,
            self.grown.into(),
            self.inside.into(),
            self.level,
            self.spread,
            self.peak,
            self.eased.into(),
        ];
        let expected = [self.size, self.until as f64, self.most];
        numbers[..OWN_NUMBERS].copy_from_slice(&own);
        numbers[OWN_NUMBERS..][..Step::NUMBERS].copy_from_slice(&self.step.numbers());
        numbers[OWN_NUMBERS + Step::NUMBERS..].copy_from_slice(&expected);
        numbers
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // as they were written
    fn from_numbers(n: &[f64]) -> Option<Self> {
        let &[
            onset,
            latest,
            detector,
            side,
            told,
            grown,
            inside,
            level,
            spread,
            peak,
            ref later @ ..,
        ] = n
        else {
            return None;
        };
        let expected = |n: usize| later.get(1 + Step::NUMBERS + n).copied().unwrap_or_default();
        Some(Self {
            onset: onset as i64,
            latest: latest as i64,
            detector: detector as u8,
            side: side as u8,
            told,
            grown: grown as u32,
            inside: inside as u32,
            level,
            spread,
            peak,
            eased: later.first().map_or(0, |eased| *eased as u32),
            step: Step::from_numbers(later.get(1..=Step::NUMBERS).unwrap_or_default()),
            size: expected(0),
            until: expected(1) as i64,
            most: expected(2),
        })
    }
}

/// Rows are counted in `u32`.
fn key(row: usize) -> u32 {
    u32::try_from(row).unwrap_or(u32::MAX)
}

impl Standing {
    /// Whether nothing is open and no window of late was outside.
    #[inline]
    pub(crate) fn rests(&self, row: usize) -> bool {
        self.resting.state[row] == CALM && self.resting.outs[row] == 0
    }

    /// What is known of a series that is not calm; of others, nothing.
    pub(crate) fn open(&self, row: usize) -> Open {
        self.open.get(&key(row)).copied().unwrap_or_default()
    }

    pub(crate) fn open_mut(&mut self, row: usize) -> &mut Open {
        self.open.entry(key(row)).or_default()
    }

    /// Rows of series that are not calm, ascending.
    pub(crate) fn rows(&self) -> impl Iterator<Item = u32> {
        self.open.keys().copied()
    }

    /// Forgets what was open, and gives it back.
    pub(crate) fn close(&mut self, row: usize) -> Open {
        self.open.remove(&key(row)).unwrap_or_default()
    }

    /// Takes over what is known of a series' gaps elsewhere; nothing is open.
    pub(crate) fn adopt(&mut self, row: usize, from: &Self, from_row: usize) {
        (self.resting.longest[row], self.resting.seen[row]) = (from.longest[from_row], from.seen[from_row]);
        (self.resting.usual[row], self.resting.gaps[row]) = (from.usual[from_row], from.gaps[from_row]);
    }

    /// The usual gap of a series that comes at even intervals, as one does that is sent once a day.
    pub(crate) fn even_gap(&self, row: usize) -> Option<f32> {
        let (usual, gaps) = (self.resting.usual[row], self.resting.gaps[row]);
        (gaps >= GAPS && usual >= 2.0).then_some(usual)
    }

    pub(crate) fn save(&self, out: &mut Columns) -> Result<(), Error> {
        self.resting.save("standing", out);
        let lengths = (0..self.resting.state.len()).map(|row| match self.open.contains_key(&key(row)) {
            true => NUMBERS,
            false => 0,
        });
        let flat: Vec<f64> = self.open.values().flat_map(Open::numbers).collect();
        out.put("standing", "open", lists(lengths, &flat)?);
        Ok(())
    }

    pub(crate) fn load(&mut self, from: &Columns) -> Result<(), Error> {
        self.resting.load("standing", from)?;
        let (lengths, flat) = from_lists::<f64>(from.get("standing", "open")?)?;
        let numbers = lengths.iter().copied().max().unwrap_or(0).max(1);
        let rows = lengths.iter().enumerate().filter(|(_, length)| **length > 0);
        self.open = rows
            .zip(flat.chunks(numbers))
            .filter_map(|((row, _), numbers)| Some((key(row), Open::from_numbers(numbers)?)))
            .collect();
        Ok(())
    }
}

/// One window of one series as the detectors see it together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) start: i64,
    pub(crate) end: i64,
    /// Start of the window in which what is seen here began, by the detector that is the most surprised.
    pub(crate) onset: i64,
    pub(crate) value: f64,
    /// How far that is from what was expected.
    pub(crate) off: f64,
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
    /// Inside its band again, for the first window.
    Eased,
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
            return self.go_on(row, window, options, deviation);
        }
        let mask = if options.of >= 32 {
            u32::MAX
        } else {
            (1 << options.of) - 1
        };
        let before = self.outs[row];
        let mut after = ((before << 1) | u32::from(outside)) & mask;
        self.outs[row] = after;
        if !outside {
            if before != 0 && after == 0 {
                return Turn::Passed;
            }
            return Turn::Nothing;
        }
        // windows outside on the other side do not add up with these
        let side = if window.distance >= 0.0 { 1 } else { 2 };
        let open = self.open_mut(row);
        if before == 0 || open.side != side {
            after = 1;
            *open = Open {
                onset: window.onset,
                level: window.value,
                side,
                ..*open
            };
            (open.peak, open.spread, open.size) = (0.0, 0.0, 0.0);
        } else {
            if (before << 1) & !mask != 0 && after.count_ones() == 1 {
                open.onset = open.latest;
            }
            open.onset = open.onset.min(window.onset);
            open.follow(window.value, 0.5);
        }
        open.latest = window.start;
        open.peak = open.peak.max(deviation);
        open.size = open.size.max(window.off);
        if after.count_ones() < options.open && window.probability >= at_once {
            self.outs[row] = after;
            return Turn::Nothing;
        }
        open.detector = window.detector;
        open.told = deviation;
        open.grown = 0;
        (open.inside, open.eased, open.step, open.until) = (0, 0, Step::default(), 0);
        self.state[row] = OUTSIDE;
        self.outs[row] = 0;
        Turn::Opened
    }

    fn go_on(&mut self, row: usize, window: Window, options: &EpisodeOptions, deviation: f64) -> Turn {
        let open = self.open_mut(row);
        open.follow(window.value, 0.2);
        let was_inside = open.inside;
        open.inside = if window.inside { was_inside + 1 } else { 0 };
        if open.inside >= options.close {
            self.state[row] = CALM;
            return Turn::Ended(EndReason::Recovered);
        }
        if !window.inside {
            open.latest = window.start;
            open.peak = open.peak.max(deviation);
            open.size = open.size.max(window.off);
            if window.end.saturating_sub(open.onset) >= options.accept_after.as_millis() {
                self.state[row] = CALM;
                return Turn::Ended(EndReason::Adapted);
            }
            if open.grown < options.grow_times && deviation >= options.grow_by * open.told {
                open.grown += 1;
                open.told = deviation;
                return Turn::Grown;
            }
            if was_inside > 0 && open.eased <= MOST_EASED {
                return Turn::Grown;
            }
        } else if was_inside == 0 {
            // the last time is not told, so that what is known of one that flaps is that it is outside
            open.eased = open.eased.saturating_add(1);
            if open.eased < MOST_EASED {
                return Turn::Eased;
            }
        }
        Turn::Nothing
    }

    /// Whether a series that is outside has gone a further step.
    pub(crate) fn step_on(
        &mut self,
        row: usize,
        window: &Window,
        expected: f64,
        options: &EpisodeOptions,
        counts: impl Fn(f64, f64) -> bool,
    ) -> Stepped {
        if self.state[row] != OUTSIDE {
            return Stepped::Nothing;
        }
        let open = self.open_mut(row);
        open.step.take(window, expected, open.side, options, counts)
    }

    /// What a value says about silence: `Some` where it breaks one. Which gaps are usual is learned from the first on, and
    /// the longest of late once `known` values were seen.
    #[inline]
    #[allow(clippy::cast_precision_loss)] // a count of windows
    pub(crate) fn heard(&mut self, row: usize, known: u32) -> Option<EndReason> {
        let s = &mut self.resting;
        let run = s.missing[row] as f32;
        let broke = s.state[row] == SILENT;
        if broke || s.state[row] == GONE {
            s.state[row] = CALM;
        }
        // a gap that ended by itself is known from now on; a long outage counts as no more than twice the longest
        let most = if broke {
            (2.0 * s.longest[row]).max(30.0)
        } else {
            f32::MAX
        };
        let counts = if s.seen[row] >= known { run } else { 0.0 };
        s.longest[row] = flush((s.longest[row] * 0.9995).max(counts.min(most)));
        if run > 0.0 && !broke {
            let usual = s.usual[row];
            let alike = (run - usual).abs() <= (ALIKE * usual).max(1.0);
            s.gaps[row] = if alike { (s.gaps[row] + 1).min(OF_GAPS) } else { 1 };
            s.usual[row] += (run - usual) / f32::from(s.gaps[row]);
        } else if run == 0.0 && s.gaps[row] > 0 {
            // values one after the other are no even intervals
            s.gaps[row] = 0;
        }
        s.missing[row] = 0;
        s.seen[row] = s.seen[row].saturating_add(1);
        broke.then_some(EndReason::Recovered)
    }
}

impl Open {
    fn follow(&mut self, value: f64, gain: f64) {
        let off = value - self.level;
        self.level += gain * off;
        self.spread += gain * (off.abs() - self.spread);
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
            onset: start,
            value: distance,
            off: distance.abs(),
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
        use Turn::{Eased, Ended, Grown, Nothing, Opened};
        assert_eq!(
            turns,
            [
                Nothing,
                Nothing,
                Opened,
                Grown,
                Eased,
                Nothing,
                Ended(EndReason::Recovered)
            ]
        );
        assert_eq!(standing.open(0).onset, 0);
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
