//! What is told of anomalies and series, in words with the numbers.

use suture_event::{AnomalyPhase, Direction, Timestamp};

use super::{Bank, Column, RESIDUAL, SEQUENCE, SHIFT, SILENCE, THRESHOLD, name_of};
use crate::{Episode, seasonal::FORECASTERS, sequence::FEATURE_NAMES, words::number};

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
        let seasonal = self.seasonal.explain(row);
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
