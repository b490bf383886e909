//! Puts the facts of several shards into one order of event time, so that the order in which their transactions happened
//! to land does not matter.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use suture_event::{Fact, Progress, ShardId, Span, Timestamp};

/// The key of a held fact: causes before effects, then whoever said it, in the order it was said.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Place {
    at: Timestamp,
    rank: u8,
    shard: ShardId,
    seq: u64,
}

/// How far one shard is, by its own word.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Mark {
    watermark: Timestamp,
    idle: bool,
    /// The wall clock when it said so; absent where an earlier program wrote the state.
    #[serde(default)]
    wall: Option<Timestamp>,
    /// Since when its telemetry is missing.
    #[serde(default)]
    silent: Option<Timestamp>,
    #[serde(default)]
    stopped: bool,
}

/// How time passes by the wall clock for shards that say nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ByWall {
    /// After this a shard that has nothing to read is past what others wait for, in scopes that it never spoke of.
    pub(crate) idle_after: Span,
    /// For so long a shard is waited for that says nothing at all any more.
    pub(crate) patience: Span,
}

/// After how long a silent shard is one that has no telemetry any more, as its series were forgotten.
fn is_over(silent: Timestamp, now: Timestamp, forget: Span) -> bool {
    now > silent.plus(forget)
}

/// Holds facts until every shard that could still say something earlier has passed their time.
///
/// How far a shard is, it says itself, in event time, also where it is idle: then it says so in its marks, and decide neither
/// guesses nor looks at when marks arrive. Time passes with the slowest shard of telemetry; shards of changes hold it back
/// until they are as far. Outcomes and commands do neither: they carry the executors' and humans' own time and are handed on at
/// once.
///
/// By the event clock an idle shard is not waited for, and where all are idle time stands at the furthest. By the wall clock an
/// idle shard says up to when it is complete; it holds back the scopes that it has spoken of, and others only for as long as a
/// record may take to arrive.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Reorder {
    telemetry_topics: Vec<String>,
    change_topics: Vec<String>,
    limit: usize,
    #[serde(skip)]
    by_wall: Option<ByWall>,
    #[serde(skip)]
    forget: Span,
    #[serde(with = "pairs")]
    held: BTreeMap<Place, Fact>,
    #[serde(with = "pairs")]
    marks: BTreeMap<ShardId, Option<Mark>>,
    /// How far scopes are that nothing was said of yet.
    frontier: Timestamp,
    /// The wall clock of the first mark and of the latest.
    #[serde(default)]
    walls: Option<(Timestamp, Timestamp)>,
    /// Facts handed on before their time because the bound was reached.
    pub(crate) forced: u64,
    /// Facts that came after their time had passed.
    pub(crate) late: u64,
}

/// What becomes of a fact.
pub(crate) enum Pushed {
    /// It waits, and so do all others.
    Held,
    /// Its time had passed before it came.
    Late(Box<Fact>),
    /// The bound on waiting facts was reached: this one goes before its time.
    Forced(Box<Fact>),
}

impl Reorder {
    /// `by_wall` is absent where time is that of the telemetry alone.
    pub(crate) fn new(
        telemetry_topics: Vec<String>,
        change_topics: Vec<String>,
        limit: usize,
        by_wall: Option<ByWall>,
        forget: Span,
    ) -> Self {
        Self {
            telemetry_topics,
            change_topics,
            limit: limit.max(1),
            by_wall,
            forget,
            held: BTreeMap::new(),
            marks: BTreeMap::new(),
            frontier: Timestamp::MIN,
            walls: None,
            forced: 0,
            late: 0,
        }
    }

    /// Takes over what another one holds and knows, but neither its topics nor its bounds.
    pub(crate) fn adopt(&mut self, other: Self) {
        self.held = other.held;
        self.marks = other.marks;
        self.frontier = other.frontier;
        self.walls = other.walls;
        self.forced = other.forced;
        self.late = other.late;
    }

    /// Event time up to which everything was released of a scope that nothing was said of yet.
    pub(crate) const fn frontier(&self) -> Timestamp {
        self.frontier
    }

    /// How many facts wait.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// Whether it is telemetry that a shard reads.
    pub(crate) fn is_telemetry(&self, shard: &ShardId) -> bool {
        among(&self.telemetry_topics, shard)
    }

    /// Takes a fact whose scope has come as far as `reached`.
    pub(crate) fn push(&mut self, fact: Fact, reached: Timestamp) -> Pushed {
        if fact.at <= reached {
            self.late += 1;
            return Pushed::Late(Box::new(fact));
        }
        let place = Place {
            at: fact.at,
            rank: fact.body.rank(),
            shard: fact.shard.clone(),
            seq: fact.seq,
        };
        self.held.insert(place, fact);
        if self.held.len() > self.limit
            && let Some((_, fact)) = self.held.pop_first()
        {
            self.forced += 1;
            return Pushed::Forced(Box::new(fact));
        }
        Pushed::Held
    }

    /// Takes a mark.
    pub(crate) fn note(&mut self, shard: &ShardId, progress: &Progress) {
        if !progress.roster.is_empty() {
            self.marks.retain(|known, _| progress.roster.contains(known));
            for expected in &progress.roster {
                self.marks.entry(expected.clone()).or_insert(None);
            }
        }
        let (first, latest) = self.walls.unwrap_or((progress.wall, progress.wall));
        self.walls = Some((first, latest.max(progress.wall)));
        self.marks.insert(
            shard.clone(),
            Some(Mark {
                watermark: progress.watermark,
                idle: progress.idle,
                wall: Some(progress.wall),
                silent: progress.silent,
                stopped: progress.stopped,
            }),
        );
        let nobody = BTreeSet::new();
        if let Some(reached) = self.reach(Some(&nobody)) {
            self.frontier = self.frontier.max(reached);
        }
    }

    /// Takes out the facts whose time has come, in order; `reached` tells how far a scope is.
    pub(crate) fn release(&mut self, reached: impl Fn(&str) -> Timestamp, furthest: Timestamp) -> Vec<Fact> {
        let due = self.held.iter().take_while(|(place, _)| place.at <= furthest);
        let due = due.filter(|(place, fact)| place.at <= reached(&fact.scope));
        let places: Vec<Place> = due.map(|(place, _)| place.clone()).collect();
        places.iter().filter_map(|place| self.held.remove(place)).collect()
    }

    /// The event time up to which nothing more can come of a scope that these shards have spoken of; any may have where they
    /// are not known. `None` while a shard has not said anything at all.
    pub(crate) fn reach(&self, members: Option<&BTreeSet<ShardId>>) -> Option<Timestamp> {
        let mut slowest: Option<Timestamp> = None;
        let mut furthest = Timestamp::MIN;
        for (shard, mark) in self.of(&self.telemetry_topics) {
            if self.is_gone(mark) {
                continue;
            }
            let mark = mark?;
            furthest = furthest.max(mark.watermark);
            let member = members.is_none_or(|members| members.contains(shard)) && !self.has_ended(&mark);
            if let Some(reached) = self.waits_until(&mark, member) {
                slowest = Some(slowest.map_or(reached, |t| t.min(reached)));
            }
        }
        let nothing = match (self.by_wall, self.walls) {
            (Some(by_wall), Some((_, wall))) => wall.minus(by_wall.idle_after),
            _ => furthest,
        };
        let mut reached = slowest.unwrap_or(nothing);
        for (_, mark) in self.of(&self.change_topics) {
            if self.is_gone(mark) {
                continue;
            }
            if let Some(until) = self.waits_until(&mark?, true) {
                reached = reached.min(until);
            }
        }
        Some(reached)
    }

    /// Up to when others wait for a shard; `None` where nobody does.
    fn waits_until(&self, mark: &Mark, member: bool) -> Option<Timestamp> {
        if !mark.idle {
            return Some(mark.watermark);
        }
        let by_wall = self.by_wall?;
        if mark.watermark == Timestamp::MIN {
            // at first its first records may be under way
            let young = |(first, latest): (Timestamp, Timestamp)| latest <= first.plus(by_wall.patience);
            return self.walls.is_some_and(young).then_some(mark.watermark);
        }
        let wall = mark.wall.filter(|_| !member);
        Some(wall.map_or(mark.watermark, |wall| {
            mark.watermark.max(wall.minus(by_wall.idle_after))
        }))
    }

    /// Whether a shard has been silent for so long that nothing is missing of it any more.
    fn has_ended(&self, mark: &Mark) -> bool {
        let wall = self.walls.map(|(_, latest)| latest);
        let both = mark.silent.zip(wall);
        both.is_some_and(|(since, wall)| is_over(since, wall, self.forget))
    }

    /// Whether a shard, by the wall clock of others, has said nothing for so long that nobody waits for it any more.
    fn is_gone(&self, mark: Option<Mark>) -> bool {
        let (Some(by_wall), Some((first, latest))) = (self.by_wall, self.walls) else {
            return false;
        };
        let last = mark.map_or(Some(first), |mark| mark.wall).unwrap_or(first);
        latest > last.plus(by_wall.patience)
    }

    /// Those of these shards whose telemetry is missing in what is judged now, of a scope. By the event clock none is: what
    /// an idle partition has not said yet depends on when it is read, and must not show.
    pub(crate) fn missing(&self, members: Option<&BTreeSet<ShardId>>) -> Vec<ShardId> {
        if self.by_wall.is_none() {
            return Vec::new();
        }
        let all = self.of(&self.telemetry_topics);
        let members = all.filter(|(shard, _)| members.is_none_or(|members| members.contains(*shard)));
        let missing = members.filter(|(_, mark)| {
            let silent = |mark: Mark| mark.silent.is_some() && !self.has_ended(&mark);
            self.is_gone(*mark) || mark.is_some_and(silent)
        });
        missing.map(|(shard, _)| shard.clone()).collect()
    }

    /// Since when nothing at all has come of these shards, where every one of them is silent.
    pub(crate) fn silent_since(&self, members: &BTreeSet<ShardId>) -> Option<Timestamp> {
        let mut since = None;
        for member in members {
            let mark = self.marks.get(member).copied().flatten()?;
            let silent = mark.silent.filter(|_| mark.stopped)?;
            since = since.max(Some(silent));
        }
        since
    }

    /// Every shard that has had telemetry.
    pub(crate) fn with_telemetry(&self) -> BTreeSet<ShardId> {
        let all = self.of(&self.telemetry_topics);
        let begun = all.filter(|(_, mark)| mark.is_some_and(|mark| mark.watermark > Timestamp::MIN));
        begun.map(|(shard, _)| shard.clone()).collect()
    }

    /// Every shard of whom something was said to be expected.
    pub(crate) fn knows(&self, shard: &ShardId) -> bool {
        self.marks.contains_key(shard)
    }

    fn of<'a>(&'a self, topics: &'a [String]) -> impl Iterator<Item = (&'a ShardId, Option<Mark>)> {
        let all = self.marks.iter().filter(|(shard, _)| among(topics, shard));
        all.map(|(shard, mark)| (shard, *mark))
    }
}

fn among(topics: &[String], shard: &ShardId) -> bool {
    topics.iter().any(|topic| topic == shard.topic.as_ref())
}

/// Maps whose keys are no texts, as lists of pairs.
pub(crate) mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map.iter())
    }

    pub(crate) fn deserialize<'de, K, V, D>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Ok(Vec::<(K, V)>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use suture_event::{Edge, EdgeSource, FactBody};

    use super::*;

    const DAY: Span = Span::from_hours(24);

    fn shard(topic: &str) -> ShardId {
        ShardId {
            topic: topic.into(),
            partition: 0,
        }
    }

    fn at(n: i64) -> Timestamp {
        Timestamp::from_millis(n)
    }

    fn edge(topic: &str, time: i64, seq: u64) -> Fact {
        let edge = Edge {
            from: topic.into(),
            to: "b".into(),
            source: EdgeSource::File,
        };
        Fact {
            scope: "s".into(),
            at: at(time),
            shard: shard(topic),
            seq,
            body: FactBody::Edge(edge),
        }
    }

    fn mark(topic: &str, watermark: i64, idle: bool, roster: &[&str]) -> Fact {
        let roster = roster.iter().map(|t| shard(t)).collect();
        let body = FactBody::Progress(Progress {
            watermark: at(watermark),
            wall: at(0),
            idle,
            silent: None,
            stopped: false,
            roster,
            series: None,
        });
        Fact {
            scope: "".into(),
            at: at(watermark),
            shard: shard(topic),
            seq: 0,
            body,
        }
    }

    fn run(facts: Vec<Fact>) -> (Vec<i64>, Reorder) {
        let mut reorder = Reorder::new(vec!["t".into()], vec!["c".into()], 100, None, DAY);
        let mut released = Vec::new();
        for fact in facts {
            let FactBody::Progress(progress) = &fact.body else {
                reorder.push(fact, reorder.frontier());
                continue;
            };
            reorder.note(&fact.shard, progress);
            let reached = reorder.frontier();
            let due = reorder.release(|_| reached, reached);
            released.extend(due.iter().map(|fact| fact.at.as_millis()));
        }
        (released, reorder)
    }

    #[test]
    fn facts_wait_for_every_shard_of_the_roster() {
        let roster = ["t", "c"];
        let (released, reorder) = run(vec![
            mark("t", 100, false, &roster),
            edge("t", 50, 0),
            edge("t", 40, 1),
            mark("t", 110, false, &[]),
        ]);
        assert!(released.is_empty(), "the shard of changes has said nothing yet");
        assert_eq!(reorder.held(), 2);
        let (released, _) = run(vec![
            mark("t", 100, false, &roster),
            edge("t", 50, 0),
            edge("c", 45, 0),
            mark("c", 60, false, &[]),
        ]);
        assert_eq!(released, [45, 50]);
    }

    #[test]
    fn an_idle_shard_holds_nobody_back_and_does_not_move_time_past_the_telemetry() {
        let roster = ["t", "c"];
        let (released, reorder) = run(vec![
            mark("t", 10, false, &roster),
            edge("c", 5, 0),
            edge("c", 500, 1),
            mark("c", 500, true, &[]),
        ]);
        assert_eq!(released, [5]);
        assert_eq!(reorder.frontier(), at(10));
    }

    #[test]
    fn the_bound_lets_the_oldest_go_first() {
        let mut reorder = Reorder::new(vec!["t".into()], vec![], 2, None, DAY);
        let mut forced = Vec::new();
        for (time, seq) in [(30, 0), (10, 1), (20, 2)] {
            if let Pushed::Forced(fact) = reorder.push(edge("t", time, seq), Timestamp::MIN) {
                forced.push(fact.at);
            }
        }
        assert_eq!((forced, reorder.forced, reorder.held()), (vec![at(10)], 1, 2));
    }

    /// A mark by the wall clock.
    fn by_wall(topic: &str, watermark: i64, wall: i64, idle: bool) -> (ShardId, Progress) {
        let progress = Progress {
            watermark: at(watermark),
            wall: at(wall),
            idle,
            silent: None,
            stopped: false,
            roster: Vec::new(),
            series: None,
        };
        (shard(topic), progress)
    }

    #[test]
    fn by_the_wall_clock_a_silent_shard_holds_back_the_scopes_that_it_spoke_of() {
        let walls = ByWall {
            idle_after: Span::from_millis(5),
            patience: Span::from_millis(50),
        };
        let mut reorder = Reorder::new(vec!["t".into(), "u".into()], vec!["c".into()], 100, Some(walls), DAY);
        let own: BTreeSet<ShardId> = [shard("u")].into();
        let nobody = BTreeSet::new();
        for (topic, watermark, wall, idle) in [("t", 100, 102, false), ("u", 60, 102, true), ("c", 97, 102, true)] {
            let (shard, progress) = by_wall(topic, watermark, wall, idle);
            reorder.note(&shard, &progress);
        }
        assert_eq!(reorder.reach(Some(&own)), Some(at(60)));
        assert_eq!(reorder.reach(Some(&nobody)), Some(at(97)));
        // one that says nothing more, while others do, is given up in time
        for (topic, watermark, wall, idle) in [("t", 150, 153, false), ("c", 148, 153, true)] {
            let (shard, progress) = by_wall(topic, watermark, wall, idle);
            reorder.note(&shard, &progress);
        }
        assert_eq!(reorder.reach(Some(&own)), Some(at(148)));
        assert_eq!(reorder.missing(Some(&own)), [shard("u")]);
        assert_eq!(reorder.missing(Some(&nobody)), []);
    }
}
