//! What is told of anomalies and series, in words with the numbers.

use suture_event::{AnomalyPhase, Direction, EndReason, Timestamp};

use super::{Bank, Column, RESIDUAL, SEQUENCE, SHIFT, SILENCE, STEP, THRESHOLD, name_of};
use crate::{
    Episode, EpisodeOptions, episode::Window, seasonal::FORECASTERS, sequence::FEATURE_NAMES, step::Stepped,
    words::number,
};

impl Bank {
    /// An episode of what is open, with the band of the believed forecaster.
    pub(super) fn episode(&self, row: usize, column: &Column<'_>, phase: AnomalyPhase, value: Option<f64>) -> Episode {
        let s = self.standing.open(row);
        let detector = s.detector;
        let (expected, lower, upper) = self.seasonal.band(row, column.end.as_millis());
        let direction = match (detector, s.side) {
            (SILENCE, _) => Direction::Absent,
            (_, 2) => Direction::Down,
            _ => Direction::Up,
        };
        Episode {
            row: u32::try_from(row).unwrap_or(u32::MAX),
            phase,
            end: None,
            at: column.at,
            onset: Timestamp::from_millis(s.onset),
            detector: name_of(detector),
            score: 0.0,
            deviation: s.told,
            value,
            expected,
            lower,
            upper,
            direction,
            detail: String::new(),
        }
    }

    /// Tells of a further step of a series that is outside already.
    pub(super) fn step_on(
        &mut self,
        row: usize,
        window: &Window,
        expected: f64,
        options: &EpisodeOptions,
        column: &Column<'_>,
        episodes: &mut Vec<Episode>,
    ) {
        let least = self.least(self.standing.open(row).step.level);
        let stepped = self.standing.step_on(row, window, expected, options, |value, level| {
            (value - level).abs() >= least
        });
        let (phase, end) = match stepped {
            Stepped::Nothing => return,
            Stepped::Opened => (AnomalyPhase::Opened, None),
            Stepped::Grown => (AnomalyPhase::Grown, None),
            Stepped::Eased => (AnomalyPhase::Eased, None),
            Stepped::Ended(reason) => (AnomalyPhase::Ended, Some(reason)),
        };
        let mut episode = self.step_episode(row, column, phase, Some(window.value));
        episode.end = end;
        episode.score = 1.0 - window.probability;
        if let Some(reason) = end {
            self.standing.open_mut(row).step.end(reason);
        }
        episodes.push(episode);
    }

    /// Ends the step that is open, if one is, together with what it is inside of.
    pub(super) fn end_step(
        &mut self,
        row: usize,
        column: &Column<'_>,
        value: Option<f64>,
        reason: EndReason,
    ) -> Option<Episode> {
        let is_open = self.standing.open(row).step.is_open();
        is_open.then(|| {
            let mut episode = self.step_episode(row, column, AnomalyPhase::Ended, value);
            episode.end = Some(reason);
            self.standing.open_mut(row).step.end(reason);
            episode
        })
    }

    /// An episode of a step, whose band is about the level that it left.
    fn step_episode(&self, row: usize, column: &Column<'_>, phase: AnomalyPhase, value: Option<f64>) -> Episode {
        let outer = self.episode(row, column, phase, value);
        let step = self.standing.open(row).step;
        let reach = step.reach(outer.expected);
        let (lower, upper) = (step.level - reach, step.level + reach);
        let told = value.map_or_else(|| "nothing".to_owned(), number);
        Episode {
            onset: Timestamp::from_millis(step.onset),
            detector: STEP,
            deviation: step.told,
            expected: step.level,
            lower,
            upper,
            detail: format!(
                "{told}, where {} within {} to {} was usual since it is outside its band of {} to {}",
                number(step.level),
                number(lower),
                number(upper),
                number(outer.lower),
                number(outer.upper)
            ),
            ..outer
        }
    }

    pub(super) fn words(&self, row: usize, e: &Episode, probability: f64) -> String {
        let value = e.value.map_or_else(|| "nothing".to_owned(), number);
        let band = format!(
            "expected {} within {} to {}",
            number(e.expected),
            number(e.lower),
            number(e.upper)
        );
        let model = FORECASTERS[usize::from(self.seasonal.levels.chosen[row])];
        let count = self.seasonal.levels.count[row];
        let code = self.standing.open(row).detector;
        if !matches!(e.phase, AnomalyPhase::Ended | AnomalyPhase::Eased)
            && let Some(by) = self.watched.iter().find(|by| by.code == code)
        {
            let words = by.watcher.words(row, e.value.unwrap_or(f64::NAN));
            return format!("{words}; {band}; probability {probability:.1e} ({count} windows learned)");
        }
        match (e.phase, code) {
            (AnomalyPhase::Ended | AnomalyPhase::Eased, _) => format!("{value} now; {band}"),
            (_, THRESHOLD) => format!(
                "{value} is beyond the fixed threshold; within {} to {}",
                number(e.lower),
                number(e.upper)
            ),
            (_, SHIFT) => format!(
                "the level has shifted: {value} now, {band}; the sum of residuals stands at {}, probability {probability:.1e} (model: {model}, {count} windows learned)",
                number(4.0 * e.deviation)
            ),
            (_, RESIDUAL) => format!(
                "{value} is {} standard deviations from what the window before foretold: {band}; probability {probability:.1e} (model: {model}, {count} windows learned)",
                number(e.deviation)
            ),
            (_, SEQUENCE) => format!(
                "{} is unlike what came before, at {value}: {band}; joint probability {probability:.1e} ({count} values learned)",
                FEATURE_NAMES[self.oddest]
            ),
            _ => format!(
                "{value} is {} standard deviations off: {band}; probability {probability:.1e} (model: {model}, {count} windows learned)",
                number(e.deviation)
            ),
        }
    }

    /// What is known of a series and which models were picked for it, in words.
    #[must_use]
    pub fn explain(&self, row: u32) -> String {
        let row = row as usize;
        if row >= self.len() {
            return "no such series".into();
        }
        let mut seasonal = self.seasonal.explain(row);
        if let Some(words) = self.recurring.words(u32::try_from(row).unwrap_or(u32::MAX)) {
            seasonal = format!("{seasonal}; {words}");
        }
        let Some(looks) = &self.looks else { return seasonal };
        let index = self.seasonal.tails.index[row];
        let given = (self.given.counter[row] != 0, self.given.derived[row] != 0);
        let mut voters = vec!["seasonal", if self.shapes { "sequence" } else { "shift" }];
        voters.extend(self.runs.threshold.then_some("threshold"));
        voters.extend(self.options.limit.map(|_| "run_out"));
        let look = looks.explain(row, given, self.seasonal.season(row), index, &voters);
        format!("{look}; {seasonal}")
    }
}
