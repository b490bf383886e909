//! What the detectors of a series say together.

use super::{Bank, RESIDUAL, SEASONAL, SEQUENCE, SHIFT, THRESHOLD, beyond};
use crate::{
    Budget, Column, DetectorName, SequenceMode, Suppressed, bank::name_of, episode::Window, fast::least,
    options::LEAST_RELATIVE, sequence::joined, watch::Watched, whiten::White,
};

/// Share of the false alarms that one further detector may cause under `auto`, and how many of them there are.
const FURTHER: f64 = 0.02;
const MOST_FURTHER: f64 = 2.0;

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
        let mut smallest = least(seasonal, shift);
        for watched in &self.watched {
            smallest = least(smallest, watched.said.probability[i]);
        }
        let unusual = f64::from(smallest) < self.options.alarm;
        !unusual && self.standing.rests(row) && self.standing.heard(row, self.gaps_known()).is_none()
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
        // the sequence model looks at how rough and spread out a series is, and how far off, by itself
        let mut joint = (probability, distance, SEQUENCE);
        self.hear(
            i,
            row,
            None,
            1.0,
            &[DetectorName::Variance, DetectorName::Record],
            &mut joint,
        );
        if joint.2 != SEQUENCE {
            return joint;
        }
        probability = joint.0;
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
        self.hear(i, row, Some(value), voters, &[], &mut vote);
        vote
    }

    /// Lets the further detectors vote as well. `vote` is the smallest probability of `voters` others so far, and is paid
    /// for here: where detectors are listed, by the number of all; under `auto`, by each one's share of what a false alarm
    /// may cost, of which the first ones keep nearly all.
    ///
    /// What is too small to matter is no alarm, by how far `value` is from what was expected or by what each says itself.
    fn hear(
        &self,
        i: usize,
        row: usize,
        value: Option<f64>,
        voters: f64,
        but: &[DetectorName],
        vote: &mut (f64, f64, u8),
    ) {
        let picks = self.looks.as_ref();
        let votes = |by: &&Watched| !but.contains(&by.name) && picks.is_none_or(|looks| looks.picked(row, by.name));
        let (mut of_first, mut of_further) = (voters, 1.0 / FURTHER);
        if picks.is_none() {
            #[allow(clippy::cast_precision_loss)] // a handful
            let all = voters + self.watched.iter().filter(votes).count() as f64;
            (of_first, of_further) = (all, all);
        } else if picks.is_some_and(|looks| looks.any(row)) {
            of_first = voters / (1.0 - MOST_FURTHER * FURTHER);
        }
        vote.0 = (vote.0 * of_first).min(1.0);
        let expected = self.by_seasonal.origin[i] + f64::from(self.by_seasonal.expected[i]);
        if value.is_some_and(|value| self.too_small(value, expected)) {
            vote.0 = vote.0.max(self.options.alarm.max(0.5));
        }
        for by in self.watched.iter().filter(votes) {
            // a record is only news where nobody else is as sure of it
            if by.name == DetectorName::Record && vote.0 < self.options.at_once {
                continue;
            }
            let probability = f64::from(by.said.probability[i]) * of_further;
            if probability < vote.0 && !self.is_little(f64::from(by.said.effect[i]), expected) {
                *vote = (probability, f64::from(by.said.distance[i]), by.code);
            }
        }
    }

    pub(super) fn too_small(&self, value: f64, expected: f64) -> bool {
        self.is_little((value - expected).abs(), expected)
    }

    fn is_little(&self, effect: f64, expected: f64) -> bool {
        effect < self.least(expected)
    }

    /// The least effect that matters where so much is expected.
    pub(super) fn least(&self, expected: f64) -> f64 {
        let relative =
            self.options
                .least_effect
                .relative
                .unwrap_or(if self.white.is_some() { 0.0 } else { LEAST_RELATIVE });
        self.options.least_effect.absolute.max(relative * expected.abs())
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
                detector: name_of(window.detector),
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
        self.hear(i, row, Some(value), voters, &[], &mut vote);
        if vote.0 >= level
            && let Some(white) = &mut self.white
        {
            white.memory.muted[row] = 0;
        }
        vote
    }
}
