//! Puts the facts of several shards into one order of event time, so that the order in which their transactions happened
//! to land does not matter.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use suture_event::{Fact, FactBody, Progress, ShardId, Timestamp};

/// The key of a held fact: causes before effects, then whoever said it, in the order it was said.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Place {
    at: Timestamp,
    rank: u8,
    shard: ShardId,
    seq: u64,
}

/// How far one shard is.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Mark {
    watermark: Timestamp,
    idle: bool,
}

/// Holds facts until every shard that could still say something earlier has passed their time.
///
/// Event time is the time of the telemetry: it passes with the slowest telemetry shard that is not idle, and where all
/// are idle it stands at the furthest. Shards of changes hold it back until they are as far, or idle. Outcomes and
/// commands do neither: they carry the executors' and humans' own time and are handed on at once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Reorder {
    telemetry_topics: Vec<String>,
    change_topics: Vec<String>,
    limit: usize,
    #[serde(with = "pairs")]
    held: BTreeMap<Place, Fact>,
    #[serde(with = "pairs")]
    marks: BTreeMap<ShardId, Option<Mark>>,
    frontier: Timestamp,
    /// Facts handed on before their time because the bound was reached.
    pub(crate) forced: u64,
    /// Facts that came after their time had passed.
    pub(crate) late: u64,
}

/// What the reorder buffer lets go.
pub(crate) enum Release {
    /// A fact, whose time has come.
    Fact(Box<Fact>),
    /// Event time has reached this point, and every fact up to it was released.
    Time(Timestamp),
}

impl Reorder {
    pub(crate) fn new(telemetry_topics: Vec<String>, change_topics: Vec<String>, limit: usize) -> Self {
        Self {
            telemetry_topics,
            change_topics,
            limit: limit.max(1),
            held: BTreeMap::new(),
            marks: BTreeMap::new(),
            frontier: Timestamp::MIN,
            forced: 0,
            late: 0,
        }
    }

    /// Takes over what another one holds and knows, but neither its topics nor its bound.
    pub(crate) fn adopt(&mut self, other: Self) {
        self.held = other.held;
        self.marks = other.marks;
        self.frontier = other.frontier;
        self.forced = other.forced;
        self.late = other.late;
    }

    /// Event time up to which everything was released.
    pub(crate) const fn frontier(&self) -> Timestamp {
        self.frontier
    }

    /// How many facts wait.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// Takes a fact and pushes what may go now.
    pub(crate) fn push(&mut self, fact: Fact, out: &mut Vec<Release>) {
        match &fact.body {
            FactBody::Progress(progress) => self.mark(&fact.shard, progress, out),
            FactBody::Outcome(_) | FactBody::Command(_) | FactBody::Epoch(_) => out.push(Release::Fact(Box::new(fact))),
            FactBody::Edge(_) | FactBody::Watched(_) | FactBody::Change(_) | FactBody::Anomaly(_)
                if fact.at <= self.frontier =>
            {
                self.late += 1;
                out.push(Release::Fact(Box::new(fact)));
            }
            FactBody::Edge(_) | FactBody::Watched(_) | FactBody::Change(_) | FactBody::Anomaly(_) => {
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
                    out.push(Release::Fact(Box::new(fact)));
                }
            }
        }
    }

    /// Takes a mark and pushes what may go now.
    pub(crate) fn mark(&mut self, shard: &ShardId, progress: &Progress, out: &mut Vec<Release>) {
        self.note(shard, progress);
        self.advance(out);
    }

    fn note(&mut self, shard: &ShardId, progress: &Progress) {
        if !progress.roster.is_empty() {
            self.marks.retain(|known, _| progress.roster.contains(known));
            for expected in &progress.roster {
                self.marks.entry(expected.clone()).or_insert(None);
            }
        }
        self.marks.insert(
            shard.clone(),
            Some(Mark {
                watermark: progress.watermark,
                idle: progress.idle,
            }),
        );
    }

    fn advance(&mut self, out: &mut Vec<Release>) {
        let Some(reached) = self.reachable().filter(|t| *t > self.frontier) else {
            return;
        };
        while let Some(entry) = self.held.first_entry() {
            if entry.key().at > reached {
                break;
            }
            out.push(Release::Fact(Box::new(entry.remove())));
        }
        self.frontier = reached;
        out.push(Release::Time(reached));
    }

    /// The event time up to which nothing more can come; `None` while a shard has not said anything at all.
    fn reachable(&self) -> Option<Timestamp> {
        let mut slowest: Option<Timestamp> = None;
        let mut furthest = Timestamp::MIN;
        for (_, mark) in self
            .marks
            .iter()
            .filter(|(shard, _)| among(&self.telemetry_topics, shard))
        {
            let mark = (*mark)?;
            furthest = furthest.max(mark.watermark);
            if !mark.idle {
                slowest = Some(slowest.map_or(mark.watermark, |t| t.min(mark.watermark)));
            }
        }
        let mut reached = slowest.unwrap_or(furthest);
        for (_, mark) in self.marks.iter().filter(|(shard, _)| among(&self.change_topics, shard)) {
            let mark = (*mark)?;
            if !mark.idle {
                reached = reached.min(mark.watermark);
            }
        }
        Some(reached)
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
    use suture_event::{Edge, EdgeSource};

    use super::*;

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
        let mut reorder = Reorder::new(vec!["t".into()], vec!["c".into()], 100);
        let mut out = Vec::new();
        for fact in facts {
            reorder.push(fact, &mut out);
        }
        let facts = out
            .into_iter()
            .filter_map(|r| match r {
                Release::Fact(f) => Some(f.at.as_millis()),
                Release::Time(_) => None,
            })
            .collect();
        (facts, reorder)
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
        let mut reorder = Reorder::new(vec!["t".into()], vec![], 2);
        let mut out = Vec::new();
        for (time, seq) in [(30, 0), (10, 1), (20, 2)] {
            reorder.push(edge("t", time, seq), &mut out);
        }
        assert!(matches!(out.as_slice(), [Release::Fact(f)] if f.at == at(10)));
        assert_eq!((reorder.forced, reorder.held()), (1, 2));
    }
}
