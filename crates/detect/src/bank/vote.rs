//! What the detectors of a series say together.

use super::{Bank, RESIDUAL, SEASONAL, SEQUENCE, SHIFT, THRESHOLD, beyond};
use crate::{
    Budget, Column, DetectorName, SequenceMode, Suppressed, bank::NAMES, episode::Window, options::LEAST_RELATIVE,
    sequence::joined, whiten::White,
};

impl Bank {
    pub(super) fn runs_sequence(&self, column: &Column<'_>) -> bool {
        let mode = match self.options.sequence {
            SequenceMode::On => true,
            SequenceMode::Off => false,
            SequenceMode::Auto => column.end <= column.start,
        };
        mode && self.options.wants(DetectorName::Sequence)
    }

    /// What the seasonal detector and the features of shape say together. An alarm is said once: while it lasts, and for
    /// `refractory` values, scores are halved.
    pub(super) fn vote_on_shape(&mut self, i: usize, row: usize, value: f64) -> (f64, f64, u8) {
        let features = self.sequence.step(row, value);
        let own = -self.by_seasonal.probability[i].max(1e-15).log10();
        let mut probability = joined(own, &features);
        let distance = self.by_seasonal.distance[i];
        if self.seasonal.levels.count[row] < self.options.warm_up {
            probability = 1.0;
        }
        if self.options.wants(DetectorName::Threshold) && beyond(&self.options.thresholds, value) {
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
        if self.options.wants(DetectorName::Threshold) && beyond(thresholds, value) {
            let above = thresholds.upper.is_some_and(|t| value > t);
            let distance = self.by_seasonal.distance[i].abs().max(1.0);
            return (0.0, if above { distance } else { -distance }, THRESHOLD);
        }
        let mut vote = (1.0, self.by_seasonal.distance[i], SEASONAL);
        let mut voters = 0.0;
        if self.options.wants(DetectorName::Seasonal) {
            voters += 1.0;
            vote.0 = self.by_seasonal.probability[i];
        }
        if self.options.wants(DetectorName::Shift) {
            voters += 1.0;
            if self.by_shift.probability[i] < vote.0 {
                vote = (self.by_shift.probability[i], self.by_shift.distance[i], SHIFT);
            }
        }
        vote.0 = (vote.0 * voters).min(1.0);
        if self.too_small(value, self.by_seasonal.expected[i]) {
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
            |white| white.step(row, self.shared.residual[i], held, self.given.side[row]),
        );
        if self.options.wants(DetectorName::Threshold) && beyond(&thresholds, value) {
            return self.vote(i, row, value);
        }
        let mut vote = (1.0, self.by_seasonal.distance[i], SEASONAL);
        let mut voters = 0.0;
        if self.options.wants(DetectorName::Seasonal) {
            voters += 1.0;
            vote = (white.probability, white.distance, RESIDUAL);
        }
        if self.options.wants(DetectorName::Shift) {
            voters += 1.0;
            if self.by_shift.probability[i] < vote.0 {
                vote = (self.by_shift.probability[i], self.by_shift.distance[i], SHIFT);
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
                vote = (joint, self.by_seasonal.distance[i], SEQUENCE);
            }
        }
        vote.0 = (vote.0 * voters).min(1.0);
        if self.too_small(value, self.by_seasonal.expected[i]) {
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
