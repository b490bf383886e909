//! Marks that speak of a time far ahead of all others', kept from moving time until somebody bears them out.
//!
//! Timers fire up to the time that marks tell of, and time never goes back: one mark dated years ahead would end every
//! deadline at once and silence its partition from then on. So a mark whose wall clock leaps by more than a bound is held. It
//! counts once another shard tells of about the same time, or once its own shard has done so three times running with nobody
//! telling of the present in between: that is what the first marks after a long stop look like. Where somebody does tell of the
//! present, it was wrong, and is counted.
//!
//! The same goes for a shard whose event time was in the present and leaps ahead of its own wall clock, except that only the
//! shard itself can bear that out. Marks without a wall clock, as those of a replay, are taken as they are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use suture_event::{Progress, ShardId, Span, Timestamp};

use crate::reorder::pairs;

/// How often a shard must say it by itself.
const RUNNING: u32 = 3;
/// Shards that are held at once; beyond, all of them are let go as wrong.
const MOST: usize = 1_000;

/// What holds marks back.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Ahead {
    /// The latest wall clock that is believed; absent before the first.
    wall: Option<Timestamp>,
    /// Event time of shards that are in the present.
    #[serde(with = "pairs")]
    present: BTreeMap<ShardId, Timestamp>,
    #[serde(with = "pairs")]
    held: BTreeMap<ShardId, Held>,
    /// Marks that turned out to be wrong.
    pub(crate) refused: u64,
}

/// A shard's last mark that is not believed yet.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Held {
    progress: Progress,
    /// How many there were running.
    marks: u32,
    /// Whether it is its wall clock that leaps, and not its event time.
    wall: bool,
}

impl Ahead {
    /// Takes a mark and gives those that are to be believed now, in order.
    pub(crate) fn pass(&mut self, shard: &ShardId, progress: Progress, bound: Span) -> Vec<(ShardId, Progress)> {
        if !progress.roster.is_empty() {
            self.present.retain(|known, _| progress.roster.contains(known));
        }
        if progress.wall == Timestamp::MIN {
            return vec![(shard.clone(), progress)];
        }
        let leaps = |at: Timestamp, from: Option<Timestamp>| from.is_some_and(|from| at > from.plus(bound));
        let wall = leaps(progress.wall, self.wall);
        let known = self.present.get(shard).copied();
        let event = progress.watermark > progress.wall.plus(bound) && leaps(progress.watermark, known);
        if !wall && !event {
            let refused = &mut self.refused;
            self.held.retain(|who, held| {
                let wrong = held.wall || who == shard;
                *refused += if wrong { u64::from(held.marks) } else { 0 };
                !wrong
            });
            return self.believe(vec![(shard.clone(), progress)], bound);
        }
        let near = |one: Timestamp, other: Timestamp| one <= other.plus(bound) && other <= one.plus(bound);
        let at = progress.wall;
        let before = self.held.remove(shard);
        let running = before.filter(|held| held.wall == wall && near(held.progress.wall, at));
        let marks = running.map_or(0, |held| held.marks) + 1;
        let agrees = |held: &Held| wall && held.wall && near(held.progress.wall, at);
        if marks < RUNNING && !self.held.values().any(agrees) {
            if self.held.len() >= MOST {
                self.refused += self.held.values().map(|held| u64::from(held.marks)).sum::<u64>();
                self.held.clear();
            }
            self.held.insert(shard.clone(), Held { progress, marks, wall });
            return Vec::new();
        }
        let mut believed: Vec<(ShardId, Progress)> = Vec::new();
        self.held.retain(|who, held| {
            let agrees = agrees(held);
            if agrees {
                believed.push((who.clone(), held.progress.clone()));
            }
            !agrees
        });
        believed.push((shard.clone(), progress));
        self.believe(believed, bound)
    }

    fn believe(&mut self, marks: Vec<(ShardId, Progress)>, bound: Span) -> Vec<(ShardId, Progress)> {
        for (shard, progress) in &marks {
            self.wall = self.wall.max(Some(progress.wall));
            if progress.watermark > Timestamp::MIN && progress.watermark <= progress.wall.plus(bound) {
                self.present.insert(shard.clone(), progress.watermark);
            } else {
                self.present.remove(shard);
            }
        }
        marks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Span = Span::from_mins(10);

    fn shard(name: &str) -> ShardId {
        ShardId {
            topic: name.into(),
            partition: 0,
        }
    }

    fn mark(watermark: i64, wall: i64) -> Progress {
        Progress {
            watermark: Timestamp::from_millis(watermark * 60_000),
            wall: Timestamp::from_millis(wall * 60_000),
            idle: false,
            silent: None,
            stopped: false,
            roster: Vec::new(),
            series: None,
        }
    }

    /// How many marks are believed after each, and how many were refused in the end.
    fn told(marks: &[(&str, i64, i64)]) -> (Vec<usize>, u64) {
        let mut ahead = Ahead::default();
        let counts = marks.iter().map(|(name, watermark, wall)| {
            let bytes = rmp_serde::to_vec_named(&ahead).unwrap();
            ahead = rmp_serde::from_slice(&bytes).unwrap();
            ahead.pass(&shard(name), mark(*watermark, *wall), BOUND).len()
        });
        let counts = counts.collect();
        (counts, ahead.refused)
    }

    #[test]
    fn one_mark_from_years_ahead_is_refused() {
        let far = 1_000_000;
        let marks = [("a", 1, 1), ("b", 1, 1), ("a", far, far), ("b", 2, 2), ("a", 2, 2)];
        assert_eq!(told(&marks), (vec![1, 1, 0, 1, 1], 1));
        // as it is where the shard is alone
        let alone = [("a", 1, 1), ("a", far, far), ("a", 2, 2), ("a", far, far), ("a", 3, 3)];
        assert_eq!(told(&alone), (vec![1, 0, 1, 0, 1], 2));
        // or where it is only its event time
        let event = [("a", 1, 1), ("b", 1, 1), ("a", far, 1), ("b", 2, 2), ("a", 2, 2)];
        assert_eq!(told(&event), (vec![1, 1, 0, 1, 1], 1));
    }

    #[test]
    fn after_a_long_stop_time_goes_on() {
        // another shard bears it out, and both count
        assert_eq!(
            told(&[("a", 1, 1), ("b", 1, 1), ("a", 200, 200), ("b", 200, 200)]),
            (vec![1, 1, 0, 2], 0)
        );
        // a shard that is alone says it again
        let alone = [("a", 1, 1), ("a", 2, 200), ("a", 3, 200), ("a", 4, 201), ("a", 5, 202)];
        assert_eq!(told(&alone), (vec![1, 0, 0, 1, 1], 0));
    }

    #[test]
    fn time_that_passes_a_little_at_a_time_and_data_of_another_age_are_taken_as_they_are() {
        assert_eq!(
            told(&[("a", 1, 1), ("a", 9, 9), ("a", 18, 18), ("b", 3, 25)]).0,
            [1, 1, 1, 1]
        );
        // data of the future from the start, as a simulation has it
        assert_eq!(
            told(&[("a", 9_000, 1), ("a", 90_000, 2), ("a", 900_000, 3)]).0,
            [1, 1, 1]
        );
        // a replay has no wall clock
        let mut ahead = Ahead::default();
        for watermark in [0, 1_000, 1_000_000] {
            let mut progress = mark(watermark, 0);
            progress.wall = Timestamp::MIN;
            assert_eq!(ahead.pass(&shard("a"), progress, BOUND).len(), 1);
        }
    }
}
