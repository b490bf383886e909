//! Series that live in two partitions of one topic, noticed by a sample of them.
//!
//! A shard's marks name, now and then, those of its live series whose hashes are the smallest, with the times of their newest
//! samples. Since every shard picks by the same hashes, a series that two of them have is in both samples or near to it,
//! however many series there are.
//!
//! **A series is in two partitions where its samples interleave**: the one has a sample after one of the other's, and the
//! other has one after that. A series that moved, as when a topic got more partitions, has all of its samples there after
//! all of its samples here; one that fell silent gets none. Neither is counted. Times are those of the data, so that a shard
//! that lags behind another changes nothing.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use suture_event::{Progress, ShardId, Span, Timestamp};

use crate::reorder::pairs;

/// A series without a sample for so long, in the time of its topic, is no longer live.
pub(crate) const LIVE: Span = Span::from_mins(30);
/// Series of one mark that are looked at, whatever it has.
const MOST: usize = 10_000;

/// Where series were seen in two partitions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SeenTwice {
    /// How many series, of those that marks named.
    pub series: u64,
    /// One of them: its hash, its topic and two of its partitions.
    pub example: Option<(u64, Arc<str>, [i32; 2])>,
}

/// A series in one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    series: u64,
    /// The newest sample when the shard first named it, and now.
    first: Timestamp,
    last: Timestamp,
}

/// What the shards named last.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Twice {
    #[serde(with = "pairs")]
    shards: BTreeMap<ShardId, Vec<Seen>>,
    /// Marks with series since the last count.
    since: usize,
    /// Absent as long as no mark named any series.
    found: Option<SeenTwice>,
}

impl Twice {
    /// What was found; `None` where no mark ever named series, as to all facts partitions but the first.
    pub(crate) const fn found(&self) -> Option<&SeenTwice> {
        self.found.as_ref()
    }

    /// Takes a mark in.
    pub(crate) fn note(&mut self, shard: &ShardId, progress: &Progress) {
        if !progress.roster.is_empty() {
            self.shards.retain(|known, _| progress.roster.contains(known));
        }
        let Some(marks) = &progress.series else { return };
        let known = self.shards.remove(shard).unwrap_or_default();
        let mut seen: Vec<Seen> = marks
            .iter()
            .take(MOST)
            .map(|mark| {
                let before = known.binary_search_by_key(&mark.series, |seen| seen.series);
                let before = before.ok().and_then(|at| known.get(at));
                Seen {
                    series: mark.series,
                    first: before.map_or(mark.last, |before| before.first),
                    last: mark.last,
                }
            })
            .collect();
        seen.sort_unstable_by_key(|seen| seen.series);
        self.shards.insert(shard.clone(), seen);
        self.since += 1;
        // once in a round of all shards, so that each mark costs as much as it names
        if self.since >= self.shards.len() || self.found.is_none() {
            self.since = 0;
            self.found = Some(self.count());
        }
    }

    fn count(&self) -> SeenTwice {
        let mut found = SeenTwice::default();
        let mut shards = self.shards.iter().peekable();
        while let Some((first, _)) = shards.peek() {
            let topic = first.topic.clone();
            let mut all: Vec<(Seen, i32)> = Vec::new();
            while let Some((shard, seen)) = shards.next_if(|(shard, _)| shard.topic == topic) {
                all.extend(seen.iter().map(|seen| (*seen, shard.partition)));
            }
            let newest = all.iter().map(|(seen, _)| seen.last).max().unwrap_or(Timestamp::MIN);
            all.retain(|(seen, _)| seen.last >= newest.minus(LIVE));
            all.sort_unstable_by_key(|(seen, partition)| (seen.series, seen.first, *partition));
            for one in all.chunk_by(|(a, _), (b, _)| a.series == b.series) {
                if let Some(partitions) = interleaved(one) {
                    found.series += 1;
                    let series = one.first().map_or(0, |(seen, _)| seen.series);
                    found.example.get_or_insert((series, topic.clone(), partitions));
                }
            }
        }
        found
    }
}

/// Two partitions in which samples of a series interleave; `one` has what is known of it, by `first`.
fn interleaved(one: &[(Seen, i32)]) -> Option<[i32; 2]> {
    let mut furthest: Option<&(Seen, i32)> = None;
    for next in one {
        if let Some(before) = furthest
            && before.0.last > next.0.first
            && next.0.last > before.0.first
        {
            return Some([before.1.min(next.1), before.1.max(next.1)]);
        }
        if furthest.is_none_or(|before| next.0.last > before.0.last) {
            furthest = Some(next);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use suture_event::SeriesMark;

    use super::*;

    fn shard(topic: &str, partition: i32) -> ShardId {
        ShardId {
            topic: topic.into(),
            partition,
        }
    }

    /// A mark that names series by their hashes, with the minutes of their newest samples.
    fn mark(series: &[(u64, i64)]) -> Progress {
        let at = |minute: i64| Timestamp::from_millis(minute * 60_000);
        Progress {
            watermark: at(0),
            wall: at(0),
            idle: false,
            silent: None,
            stopped: false,
            roster: Vec::new(),
            series: Some(
                series
                    .iter()
                    .map(|(series, last)| SeriesMark {
                        series: *series,
                        last: at(*last),
                    })
                    .collect(),
            ),
        }
    }

    fn series(twice: &Twice) -> u64 {
        twice.found().unwrap().series
    }

    #[test]
    fn samples_that_interleave_are_seen_within_two_rounds_of_the_first() {
        let mut twice = Twice::default();
        assert_eq!(twice.found(), None);
        let (a, b) = (shard("t", 0), shard("t", 1));
        twice.note(&a, &mark(&[(1, 10), (2, 10), (3, 10)]));
        twice.note(&b, &mark(&[(1, 11), (2, 9), (4, 11)]));
        assert_eq!(series(&twice), 0);
        twice.note(&a, &mark(&[(1, 12), (2, 12), (3, 12)]));
        twice.note(&b, &mark(&[(1, 13), (2, 13), (4, 13)]));
        // what is counted is what there was a round ago, at the oldest
        twice.note(&a, &mark(&[(1, 14), (2, 14), (3, 14)]));
        let found = twice.found().unwrap();
        assert_eq!(
            (found.series, found.example.clone()),
            (2, Some((1, "t".into(), [0, 1])))
        );
        // the very same samples in both are no better
        let mut copies = Twice::default();
        for minute in [10, 11, 12] {
            copies.note(&a, &mark(&[(7, minute)]));
            copies.note(&b, &mark(&[(7, minute)]));
        }
        assert_eq!(series(&copies), 1);
    }

    #[test]
    fn a_series_that_moved_or_fell_silent_is_not_counted() {
        let mut twice = Twice::default();
        let (a, b, other) = (shard("t", 0), shard("t", 1), shard("other", 0));
        for minute in 10..20 {
            twice.note(&a, &mark(&[(1, minute), (2, minute)]));
            // another topic's series are its own
            twice.note(&other, &mark(&[(1, minute), (2, minute)]));
        }
        for minute in 20..60 {
            // the first is sent to another partition now, and its old shard, which lags, still says where it was
            twice.note(&a, &mark(&[(1, 19), (2, minute)]));
            twice.note(&b, &mark(&[(1, minute)]));
            twice.note(&other, &mark(&[(1, 19)]));
            assert_eq!(series(&twice), 0, "minute {minute}");
        }
    }

    #[test]
    fn what_was_mended_is_forgotten() {
        let mut twice = Twice::default();
        let (a, b) = (shard("t", 0), shard("t", 1));
        for minute in 10..20 {
            twice.note(&a, &mark(&[(1, minute)]));
            twice.note(&b, &mark(&[(1, minute)]));
        }
        assert_eq!(series(&twice), 1);
        // keyed from here on: the other shard is idle, and names what it had
        for minute in 20..60 {
            twice.note(&a, &mark(&[(1, 19)]));
            twice.note(&b, &mark(&[(1, minute)]));
        }
        assert_eq!(series(&twice), 0);
        // a shard that is no longer there says nothing
        let mut gone = Twice::default();
        for minute in 10..13 {
            gone.note(&a, &mark(&[(1, minute)]));
            gone.note(&b, &mark(&[(1, minute)]));
        }
        assert_eq!(series(&gone), 1);
        let roster = Progress {
            roster: vec![b.clone()],
            ..mark(&[(1, 13)])
        };
        gone.note(&b, &roster);
        assert_eq!(series(&gone), 0);
    }

    #[test]
    fn it_is_the_same_after_a_snapshot_and_however_often_marks_name_nothing() {
        let (mut straight, mut broken) = (Twice::default(), Twice::default());
        let (a, b) = (shard("t", 0), shard("t", 1));
        for minute in 10..14 {
            for shard in [&a, &b] {
                straight.note(shard, &mark(&[(1, minute), (9, minute)]));
                let bytes = rmp_serde::to_vec_named(&broken).unwrap();
                broken = rmp_serde::from_slice(&bytes).unwrap();
                let nothing = Progress {
                    series: None,
                    ..mark(&[])
                };
                broken.note(shard, &nothing);
                broken.note(shard, &mark(&[(9, minute), (1, minute)]));
                assert_eq!(broken, straight);
            }
        }
        assert_eq!(series(&straight), 2);
    }
}
