//! Series that send nothing: from when that is told, and when they are taken to be gone.

use suture_event::{AnomalyPhase, EndReason};

use super::{Bank, Column, EVEN_FACTOR, SILENCE};
use crate::{
    Budget, Episode,
    episode::{CALM, GONE, OUTSIDE, SILENT, Window},
    words::number,
};

impl Bank {
    /// A window without a value.
    pub(super) fn missing(
        &mut self,
        row: usize,
        column: &Column<'_>,
        scored: bool,
        budget: Option<&mut Budget>,
        episodes: &mut Vec<Episode>,
    ) -> f64 {
        if let Some(looks) = &mut self.looks {
            looks.absent(row);
        }
        let known = self.gaps_known();
        let s = &mut self.standing;
        if !self.runs.silence || s.seen[row] == 0 {
            return 0.0;
        }
        s.missing[row] = s.missing[row].saturating_add(1);
        let even = s.even_gap(row);
        if s.seen[row] < known && even.is_none() {
            return 0.0;
        }
        let gone = f64::from(s.missing[row]);
        let options = &self.options.silence;
        let patience = if self.given.derived[row] == 0 { 1.0 } else { 3.0 };
        let least = patience * f64::from(options.windows);
        let bound = match even {
            // the second one that does not come is not waited for
            Some(gap) => least.max(options.factor.min(EVEN_FACTOR) * f64::from(gap) + 1.0),
            None => least.max(options.factor * f64::from(s.longest[row]) + 1.0),
        };
        if gone < bound && !scored {
            return 0.0;
        }
        let score = 1.0 - self.options.alarm.powf((gone / bound).min(4.0));
        let state = s.state[row];
        if state == GONE || gone < bound {
            return if gone < bound {
                score.min(1.0 - self.options.alarm)
            } else {
                score
            };
        }
        if state == SILENT {
            if column.end.as_millis().saturating_sub(s.open(row).onset) >= options.forget_after.as_millis() {
                s.state[row] = GONE;
                let mut episode = self.episode(row, column, AnomalyPhase::Ended, None);
                self.standing.close(row);
                episode.end = Some(EndReason::Adapted);
                episode.detail = format!("has sent nothing for {gone} windows and is taken to be gone");
                self.given.held[row] = 0;
                episodes.push(episode);
            }
            return score;
        }
        if state == OUTSIDE {
            episodes.extend(self.end_step(row, column, None, EndReason::Silent));
            let mut episode = self.episode(row, column, AnomalyPhase::Ended, None);
            episode.end = Some(EndReason::Silent);
            episode.detail = format!("sends nothing since {gone} windows: whether it recovered is not known");
            if self.standing.open(row).until == 0 {
                episodes.push(episode);
            }
        }
        let told = Window {
            start: column.start.as_millis(),
            end: column.end.as_millis(),
            onset: column.start.as_millis(),
            value: f64::NAN,
            off: 0.0,
            probability: 1.0 - score,
            distance: gone / bound,
            detector: SILENCE,
            inside: false,
        };
        if budget.is_some() && !self.grant(row, column, budget, &told) {
            // an anomaly that went silent has ended all the same
            if state == OUTSIDE {
                self.standing.state[row] = CALM;
                self.standing.close(row);
                self.given.held[row] = 0;
            }
            return score;
        }
        let width = column.end.since(column.start).as_millis();
        let onset = column
            .start
            .as_millis()
            .saturating_sub(width.saturating_mul(i64::from(self.standing.missing[row]) - 1));
        let s = &mut self.standing;
        (s.state[row], s.outs[row]) = (SILENT, 0);
        let open = s.open_mut(row);
        (open.detector, open.onset, open.told, open.until) = (SILENCE, onset, gone / bound, 0);
        open.step.end(EndReason::Silent);
        self.given.held[row] = 1;
        let mut episode = self.episode(row, column, AnomalyPhase::Opened, None);
        episode.score = score;
        episode.detail = match even {
            Some(gap) => format!(
                "sends nothing since {gone} windows; it comes at even intervals, after {} windows without a value",
                number(f64::from(gap.round()))
            ),
            None => format!(
                "sends nothing since {gone} windows; its longest gap of late was {}",
                number(f64::from(self.standing.longest[row]))
            ),
        };
        episodes.push(episode);
        score
    }
}
