//! Some of a shard's series, named in its marks.

use std::collections::BinaryHeap;

use suture_event::{SeriesMark, Span, Timestamp};

use super::Observe;
use crate::{SourceKind, twice::LIVE};

/// How often series are named, by the wall clock.
const EVERY: Span = Span::from_mins(1);

impl Observe {
    /// The live series with the smallest hashes, by hash, where it is time to name them. Costs a pass over the series' hashes.
    pub(super) fn series_marks(&mut self, wall: Timestamp) -> Option<Vec<SeriesMark>> {
        let most = self.pipeline.limits.compared_series;
        let telemetry = matches!(self.source.kind, SourceKind::Telemetry(_) | SourceKind::Rekeyed);
        // a replay has no wall clock, and one partition
        let due = wall != Timestamp::MIN && self.named.is_none_or(|named| wall >= named.plus(EVERY) || wall < named);
        if most == 0 || !telemetry || !due {
            return None;
        }
        self.named = Some(wall);
        let since = self.windows.watermark().minus(LIVE);
        let mut least: BinaryHeap<(u64, Timestamp)> = BinaryHeap::with_capacity(most + 1);
        for (row, series) in (0..).zip(self.table.iter()) {
            if least.len() >= most && least.peek().is_some_and(|(largest, _)| series.hash >= *largest) {
                continue;
            }
            let Some(last) = self.windows.last(row).filter(|last| *last >= since) else {
                continue;
            };
            least.push((series.hash, last));
            if least.len() > most {
                least.pop();
            }
        }
        let least = least.into_sorted_vec().into_iter();
        Some(least.map(|(series, last)| SeriesMark { series, last }).collect())
    }
}
