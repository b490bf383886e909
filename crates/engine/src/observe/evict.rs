//! Series that are given up: at the bound on series the one that was silent the longest, and an instance that ended for one
//! that took its place.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use suture_event::{FactBody, Span, Timestamp};

use super::{Observe, ObserveOut, intake::Taken};

/// Silent rows are ranked this share of the bound at a time, and no fewer than that many: what a pass over all rows costs
/// is then spread over as many new series.
const SHARE: usize = 8;
const LEAST: usize = 64;

/// Rows that may be given up, the longest silent first. What was ranked stays in order as time goes on: a row that sends
/// again no longer has the time it was ranked by.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Ranking {
    rows: VecDeque<(Timestamp, u32)>,
    /// Windows that had closed when all silent rows were ranked; until the next one closes there are no others.
    exhausted: Option<u64>,
}

impl Observe {
    /// Gives up the series that was silent the longest, and its row; `None` where every series has a sample in a window
    /// that is still open. Everything before the sample at hand is judged first, so that what is silent does not depend on
    /// how records come in batches.
    pub(super) fn make_room(&mut self, taken: &mut Taken, offset: i64, out: &mut ObserveOut) -> Option<u32> {
        self.express(taken, offset, out);
        taken.move_to(&mut self.pending);
        self.flush(out);
        loop {
            while let Some((newest, row)) = self.ranking.rows.pop_front() {
                // one that is made of others stays for as long as there are any
                if !self.judge.rollup.holds(row) && self.windows.forget(row, newest) {
                    self.counters.series_evicted += 1;
                    self.give_up(row, out);
                    return Some(row);
                }
            }
            let closed = self.windows.counters().closed;
            if self.ranking.exhausted == Some(closed) {
                return None;
            }
            let most = (self.pipeline.limits.series / SHARE).max(LEAST);
            // those that are made have no samples of their own, and so come first
            let mut idle = self.windows.idle(most.saturating_add(self.judge.rollup.len()));
            idle.retain(|(_, row)| !self.judge.rollup.holds(*row));
            idle.truncate(most);
            self.ranking.exhausted = (idle.len() < most).then_some(closed);
            self.ranking.rows = idle.into();
        }
    }

    /// The row of an instance that has been silent for longer than windows remember one, of those that are rolled up into
    /// this row: free for another, as whoever comes now takes its place. What came before is judged first, as above.
    pub(super) fn replaced(&mut self, into: u32, taken: &mut Taken, offset: i64, out: &mut ObserveOut) -> Option<u32> {
        if self.judge.rollup.members(into).is_empty() {
            return None;
        }
        self.express(taken, offset, out);
        taken.move_to(&mut self.pending);
        self.flush(out);
        let slide = self.pipeline.window.slide.or(self.pipeline.window.size)?;
        let windows = i64::from(self.pipeline.window.gap_limit).saturating_add(1);
        let patience = Span::from_millis(slide.as_millis().saturating_mul(windows));
        let members = self.judge.rollup.members(into).iter();
        let lasts = members.filter_map(|row| Some((self.windows.last(*row)?, *row)));
        let (last, row) = lasts.min()?;
        if last.plus(patience) >= self.windows.watermark() || !self.windows.forget(row, last) {
            return None;
        }
        self.counters.instances_replaced += 1;
        self.give_up(row, out);
        Some(row)
    }

    fn give_up(&mut self, row: u32, out: &mut ObserveOut) {
        self.raw.forget(row);
        self.judge.rollup.leave(row);
        let at = self.windows.newest();
        for (anomaly, scope) in self.judge.derive.forget(row, &self.table, at) {
            let at = anomaly.at;
            self.say(scope, at, FactBody::Anomaly(anomaly), out);
        }
        if let Some(series) = self.table.get(row) {
            self.judge.meter.forget(row, &series.key);
        }
        let Some(series) = self.table.give_up(row) else { return };
        let scope = series.scope.clone();
        for anomaly in self.judge.retire(series, at) {
            let (scope, at) = (scope.clone(), anomaly.at);
            self.say(scope, at, FactBody::Anomaly(anomaly), out);
        }
    }
}
