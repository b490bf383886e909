//! What the detectors of a series say together.

use super::{Bank, RESIDUAL, SEASONAL, SEQUENCE, SHIFT, THRESHOLD, beyond};
use crate::{
    Budget, Column, SequenceMode, Suppressed, bank::NAMES, episode::Window, fast::least, options::LEAST_RELATIVE,
    sequence::joined, whiten::White,
};

impl Bank {
    /// Whether an entry is one of a series that is calm and stays so; what else it says is then taken in.
    #[inline]
    pub(super) fn is_calm(&mut self, i: usize, row: usize, value: f64) -> bool {
        if self.runs.threshold && beyond(&self.options.thresholds, value) {
            return false;
        }
        let (seasonal, shift) = (self.by_seasonal.probability[i], self.by_shift.probability[i]);
        let seasonal = if self.runs.seasonal { seasonal } else { 1.0 };
        let shift = if self.runs.shift { shift } else { 1.0 };
        // twice that is above the alarm's where once is, as the voters' number only raises it
        let unusual = f64::from(least(seasonal, shift)) < self.options.alarm;
        !unusual && self.standing.rests(row) && self.standing.heard(row).is_none()
    }

    pub(super) fn runs_sequence(&self, column: &Column<'_>) -> bool {
        let mode = match self.options.sequence {
            SequenceMode::On => true,
            SequenceMode::Off => false,
            SequenceMode::Auto => column.end <= column.start,
        };
        mode && self.runs.sequence
    }

    /// What the seasonal detector and the features of shape say together. An alarm is said once: while it lasts, and for
    /// `refractory` values, scores are halved.
    pub(super) fn vote_on_shape(&mut self, i: usize, row: usize, value: f64) -> (f64, f64, u8) {
        let features = self.sequence.step(row, value);
        let own = -f64::from(self.by_seasonal.probability[i]).max(1e-15).log10();
        let mut probability = joined(own, &features);
        let distance = f64::from(self.by_seasonal.distance[i]);
        if self.seasonal.levels.count[row] < self.options.warm_up {
            probability = 1.0;
        }
        if self.runs.threshold && beyond(&self.options.thresholds, value) {
            return self.vote(i, row, value);
        }
        if self
            .sequence
            .repeats(row, probability < self.options.alarm, self.options.refractory)
        {
            probability = 0.5 + 0.5 * probability;
        }
        self.oddest = (0..features.len()).fold(0, |best, k| if features[k] > features[best] { k } else { best });
        (probability, distance, SEQUENCE)
    }

    /// The smallest probability among the detectors, paid for by their number, and who gave it.
    pub(super) fn vote(&self, i: usize, row: usize, value: f64) -> (f64, f64, u8) {
        let thresholds = &self.options.thresholds;
        if self.runs.threshold && beyond(thresholds, value) {
            let above = thresholds.upper.is_some_and(|t| value > t);
            let distance = f64::from(self.by_seasonal.distance[i]).abs().max(1.0);
            return (0.0, if above { distance } else { -distance }, THRESHOLD);
        }
        let mut vote = (1.0, f64::from(self.by_seasonal.distance[i]), SEASONAL);
        let mut voters = 0.0;
        if self.runs.seasonal {
            voters += 1.0;
            vote.0 = f64::from(self.by_seasonal.probability[i]);
        }
        if self.runs.shift {
            voters += 1.0;
            if f64::from(self.by_shift.probability[i]) < vote.0 {
                vote = (
                    f64::from(self.by_shift.probability[i]),
                    f64::from(self.by_shift.distance[i]),
                    SHIFT,
                );
            }
        }
        vote.0 = (vote.0 * voters).min(1.0);
        if self.too_small(value, f64::from(self.by_seasonal.expected[i])) {
            vote.0 = vote.0.max(self.options.alarm.max(0.5));
        }
        debug_assert!(row < self.len());
        vote
    }

    pub(super) fn too_small(&self, value: f64, expected: f64) -> bool {
        let effect = (value - expected).abs();
        let relative =
            self.options
                .least_effect
                .relative
                .unwrap_or(if self.white.is_some() { 0.0 } else { LEAST_RELATIVE });
        effect < self.options.least_effect.absolute || effect < relative * expected.abs()
    }

    /// Asks the budget for an alarm; notes what it suppresses, once for windows in a row.
    pub(super) fn grant(
        &mut self,
        row: usize,
        column: &Column<'_>,
        budget: Option<&mut Budget>,
        window: &Window,
    ) -> bool {
        let muted = self.white.as_ref().is_some_and(|white| white.memory.muted[row] != 0);
        let granted = budget.is_none_or(|budget| budget.take(muted));
        if !granted && !muted {
            self.suppressed.push(Suppressed {
                row: u32::try_from(row).unwrap_or(u32::MAX),
                at: column.at,
                detector: NAMES[usize::from(window.detector)],
                score: 1.0 - window.probability,
                value: Some(window.value).filter(|value| value.is_finite()),
            });
        }
        if let Some(white) = &mut self.white {
            white.memory.muted[row] = u8::from(!granted);
        }
        granted
    }

    /// What the detectors say together where alarms are counted: the residual without memory stands in for the one with.
    pub(super) fn vote_under_budget(
        &mut self,
        i: usize,
        row: usize,
        value: f64,
        sequence: bool,
        level: f64,
    ) -> (f64, f64, u8) {
        let thresholds = self.options.thresholds;
        let held = self.given.held[row] != 0;
        let white = self.white.as_mut().map_or(
            White {
                distance: 0.0,
                probability: 1.0,
            },
            |white| white.step(row, f64::from(self.by_seasonal.residual[i]), held, self.given.side[row]),
        );
        if self.runs.threshold && beyond(&thresholds, value) {
            return self.vote(i, row, value);
        }
        let mut vote = (1.0, f64::from(self.by_seasonal.distance[i]), SEASONAL);
        let mut voters = 0.0;
        if self.runs.seasonal {
            voters += 1.0;
            vote = (white.probability, white.distance, RESIDUAL);
        }
        if self.runs.shift {
            voters += 1.0;
            if f64::from(self.by_shift.probability[i]) < vote.0 {
                vote = (
                    f64::from(self.by_shift.probability[i]),
                    f64::from(self.by_shift.distance[i]),
                    SHIFT,
                );
            }
        }
        if sequence {
            voters += 1.0;
            let features = self.sequence.step(row, value);
            let own = -white.probability.max(1e-15).log10();
            let mut joint = joined(own, &features);
            if self.seasonal.levels.count[row] < self.options.warm_up
                || self.sequence.repeats(row, 3.0 * joint < level, self.options.refractory)
            {
                joint = 1.0;
            }
            self.oddest = (0..features.len()).fold(0, |best, k| if features[k] > features[best] { k } else { best });
            if joint < vote.0 {
                vote = (joint, f64::from(self.by_seasonal.distance[i]), SEQUENCE);
            }
        }
        vote.0 = (vote.0 * voters).min(1.0);
        if self.too_small(value, f64::from(self.by_seasonal.expected[i])) {
            vote.0 = vote.0.max(0.5);
        }
        if vote.0 >= level
            && let Some(white) = &mut self.white
        {
            white.memory.muted[row] = 0;
        }
        vote
    }
}
