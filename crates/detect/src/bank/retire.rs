//! Series that are given up, and rows that go to another one.

use suture_event::{AnomalyPhase, EndReason, Timestamp};

use super::{Bank, SeriesHints};
use crate::{
    Column, Episode,
    character::Looks,
    episode::{OUTSIDE, SILENT},
    watch,
};

impl Bank {
    /// Gives a series up: what is open of it ends, as nothing more will be known. Its row must not be updated again before
    /// it is given to another series with [`Self::reuse`].
    pub fn retire(&mut self, row: u32, at: Timestamp) -> Vec<Episode> {
        let place = row as usize;
        let reason = match self.standing.state.get(place) {
            Some(&OUTSIDE) => EndReason::Silent,
            Some(&SILENT) => EndReason::Adapted,
            _ => return Vec::new(),
        };
        let column = Column {
            start: at,
            end: at,
            at,
            rows: &[],
            values: &[],
        };
        let mut ended: Vec<Episode> = self.end_step(place, &column, None, reason).into_iter().collect();
        let mut episode = self.episode(place, &column, AnomalyPhase::Ended, None);
        let quiet = self.standing.open(place).until != 0;
        episode.end = Some(reason);
        episode.detail =
            "the series was given up for a new one, as it was silent the longest: what became of it is not \
                          known"
                .to_owned();
        self.forget(place);
        if !quiet {
            ended.push(episode);
        }
        ended
    }

    /// Gives the row of a series that was given up to another one, which starts as if it were new.
    pub fn reuse(&mut self, row: u32, hints: SeriesHints<'_>) {
        let row = row as usize;
        if row < self.len() {
            self.forget(row);
            self.give(row, hints);
        }
    }

    fn forget(&mut self, row: usize) {
        self.given.reset(row);
        self.seasonal.reset(row);
        self.shift.reset(row);
        self.sequence.reset(row);
        self.standing.close(row);
        self.standing.resting.reset(row);
        self.recurring.forget(u32::try_from(row).unwrap_or(u32::MAX));
        // what these know of a series is theirs alone: it is replaced by what one knows of a new series
        for (watched, mut fresh) in self.watched.iter_mut().zip(watch::all(&self.options)) {
            fresh.watcher.push();
            watched.watcher.adopt(row, fresh.watcher.as_ref(), 0);
        }
        if let Some(looks) = &mut self.looks {
            let mut fresh = Looks::default();
            fresh.push();
            looks.adopt(row, &fresh, 0);
        }
        if let Some(white) = &mut self.white {
            white.reset(row);
        }
    }
}
