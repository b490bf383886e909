//! For how long nothing has come of a shard, and how long that is usual.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use suture_config::{Clock, Pipeline};
use suture_event::{Span, Timestamp};

use super::{Observe, ObserveOut, TICK};
use crate::SourceKind;

/// Gaps that are remembered, and for how long.
const GAPS: usize = 8;
const MEMORY: Span = Span::from_hours(24);
/// So many gaps in that time are how the telemetry comes; fewer are outages.
const USUAL: usize = 3;

/// When records came, by the times that they were written.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Arrivals {
    last: Option<Timestamp>,
    /// The latest gaps that were long, and when they ended.
    gaps: VecDeque<(Timestamp, Span)>,
}

impl Arrivals {
    /// A record was written then. `long` is from when on a gap counts.
    pub(super) fn note(&mut self, at: Timestamp, long: Span) {
        match self.last {
            Some(last) if at <= last => return,
            Some(last) if at.since(last) >= long => {
                self.gaps.push_back((at, at.since(last)));
                while self.gaps.len() > GAPS || self.gaps.front().is_some_and(|(ended, _)| ended.plus(MEMORY) < at) {
                    self.gaps.pop_front();
                }
            }
            _ => {}
        }
        self.last = Some(at);
    }

    /// The longest gap that is usual; none where there are too few to tell.
    fn usual(&self) -> Span {
        let mut gaps: Vec<Span> = self.gaps.iter().map(|(_, gap)| *gap).collect();
        gaps.sort_unstable_by(|a, b| b.cmp(a));
        gaps.get(USUAL - 1).copied().unwrap_or(Span::ZERO)
    }
}

/// For how long others wait for a shard whose telemetry has ceased: until any window that was open must have closed.
pub(super) fn hold(pipeline: &Pipeline) -> Span {
    let window = pipeline.window.size.map_or(0, Span::as_millis) + pipeline.window.lateness.as_millis();
    pipeline.kafka.patience.max(Span::from_millis(window))
}

/// What a shard that has nothing to read knows of its silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Silence {
    /// Time of the newest sample.
    pub(super) since: Timestamp,
    /// Event time by now, if it went on as the clock on the wall did.
    pub(super) now: Timestamp,
    /// Whether it has lasted for longer than ever was usual, rather than longer than anybody waits.
    pub(super) stopped: bool,
}

impl Observe {
    /// Notes when a record was written.
    pub(super) fn note_arrival(&mut self, at: Option<Timestamp>) {
        if let Some(at) = at {
            self.arrivals.note(at, self.hold);
        }
    }

    /// The silence of a shard that has nothing to read, once nobody waits for it any more. By the event clock there is none:
    /// telemetry of another day comes as fast as it is read.
    pub(super) fn silence(&self, wall: Timestamp, idle: bool) -> Option<Silence> {
        let since = self.windows.newest();
        let telemetry = matches!(self.source.kind, SourceKind::Telemetry(_) | SourceKind::Rekeyed);
        let by_wall = self.pipeline.clock == Clock::Wall && wall != Timestamp::MIN;
        if !(idle && telemetry && by_wall) || since == Timestamp::MIN {
            return None;
        }
        let lasts = wall.since(self.arrivals.last.unwrap_or(since));
        if lasts < self.hold {
            return None;
        }
        let usual = self.arrivals.usual().as_millis();
        let under_way = Span::from_millis(lasts.as_millis() - self.pipeline.kafka.idle_after.as_millis());
        Some(Silence {
            since,
            now: since.plus(under_way.max(Span::ZERO)),
            stopped: lasts.as_millis() >= 2 * usual,
        })
    }

    /// The time up to which windows are to be closed though nothing has come, if any: where the shard has had nothing to read
    /// for longer than a window and its lateness, and longer than is usual for it. Telemetry that is put into partitions anew
    /// may be waiting in front of that stage, so its windows are left to it.
    ///
    /// Nothing changes by this: [`Observe::pass_silence`] does it, which is to be journaled with the shard's offset.
    #[must_use]
    pub fn silent_to(&self, wall: Timestamp, idle: bool) -> Option<Timestamp> {
        let silence = self.silence(wall, idle).filter(|silence| silence.stopped)?;
        let own = matches!(self.source.kind, SourceKind::Telemetry(_));
        let closes = self.windows.closes_at()?;
        (own && silence.now >= closes).then_some(silence.now)
    }

    /// Closes the windows that end before a time, as a sample of that time would, and judges them. Once it was done to a time,
    /// it does nothing for an earlier one.
    pub fn pass_silence(&mut self, to: Timestamp, out: &mut ObserveOut) {
        self.flush(out);
        let mut judge = std::mem::take(&mut self.judge);
        let scores = self.with_scores.then_some(&mut out.scores);
        let mut digest = self.taken_digest;
        judge.pass(&mut self.windows, to, &self.table, scores, &mut digest);
        self.taken_digest = digest;
        self.say_judged(judge, out);
    }

    /// Event time up to which everything was said, as the shard tells it to others.
    pub(super) fn complete_to(&self, wall: Timestamp, idle: bool) -> Timestamp {
        let own = self.watermark();
        match self.source.kind {
            SourceKind::Telemetry(_) | SourceKind::Rekeyed => {
                let silence = self.silence(wall, idle);
                silence.map_or(own, |silence| own.max(silence.now.minus(TICK)))
            }
            SourceKind::Changes(_) | SourceKind::Outcomes | SourceKind::Commands => {
                let by_wall = idle && self.pipeline.clock == Clock::Wall && wall != Timestamp::MIN;
                let under_way = self.pipeline.kafka.idle_after;
                if by_wall { own.max(wall.minus(under_way)) } else { own }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_usual_once_there_were_three_of_them_in_a_day() {
        let long = Span::from_mins(2);
        let mut arrivals = Arrivals::default();
        let mut minute = 0;
        let mut after = |arrivals: &mut Arrivals, gap: i64| {
            minute += gap;
            arrivals.note(Timestamp::from_millis(minute * 60_000), long);
            arrivals.usual()
        };
        assert_eq!(after(&mut arrivals, 100), Span::ZERO);
        assert_eq!(after(&mut arrivals, 1), Span::ZERO);
        assert_eq!(after(&mut arrivals, 60), Span::ZERO);
        assert_eq!(after(&mut arrivals, 5), Span::ZERO);
        assert_eq!(after(&mut arrivals, 5), Span::from_mins(5));
        // an outage is none of it
        assert_eq!(after(&mut arrivals, 300), Span::from_mins(5));
        assert_eq!(after(&mut arrivals, -10), Span::from_mins(5));
        // and is forgotten in time
        assert_eq!(after(&mut arrivals, 25 * 60), Span::ZERO);
    }
}
