//! What observe tells decide: the whole input of the second fold.

use std::{fmt, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Anomaly, Change, Command, Edge, Outcome, Timestamp, Watched};

/// One input partition, which is one shard of observe.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct ShardId {
    /// The topic; a file's name in a replay.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// How far a shard is. Everything with a time at or before `watermark` that this shard will ever say has been said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Event time up to which the shard is complete; `Timestamp::MIN` before its first record. By the wall clock that of a
    /// shard which has nothing to read goes on with the clock, as far behind it as a record may be that is still under way.
    pub watermark: Timestamp,
    /// The wall clock when the mark was made, as data.
    pub wall: Timestamp,
    /// Nothing in flight and the position is the partition's end, for the pipeline's `idle_after` or longer: do not wait.
    pub idle: bool,
    /// The time of the shard's newest sample, where nothing has come of it for longer than is usual, and no more is waited
    /// for; absent otherwise, and for shards that have no telemetry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent: Option<Timestamp>,
    /// Whether that is longer than was usual for it, so that its windows have closed by the clock on the wall.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
    /// Every shard of the pipeline's sources, so that none is forgotten before its first mark. Sent with a shard's first
    /// mark and whenever it changes; empty otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roster: Vec<ShardId>,
    /// Those of the shard's live series whose hashes are the smallest: every shard names the same ones if it has them. Sent
    /// now and then, and to the first facts partition alone; absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<Vec<SeriesMark>>,
}

/// A series of a shard, as a mark names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeriesMark {
    /// [`SeriesKey::hash64`](crate::SeriesKey::hash64), as 16 hexadecimal digits.
    #[serde(with = "hash")]
    pub series: u64,
    /// Time of its newest sample in a window that has closed.
    pub last: Timestamp,
}

/// Hashes as text: JSON's numbers hold 53 bits of them for most who read it.
mod hash {
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(hash: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&crate::hex16(*hash))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map_err(|_| de::Error::custom(format!("{text:?} is no hash")))
    }
}

/// A shard began anew: what it said before cannot be refolded into what it says from here on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochNote {
    /// The shard.
    pub shard: ShardId,
    /// Counts the shard's epochs, from 0.
    pub number: u32,
    /// Its first record is this or a later one.
    pub offset: i64,
    /// The wall clock, as data.
    pub wall: Timestamp,
    /// Why.
    pub cause: String,
    /// Whether its state was lost.
    pub cold: bool,
    /// What of its series went on, where its state was taken over from before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried: Option<Carried>,
}

/// What became of the series of a shard whose state was taken over, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Carried {
    /// Series that go on as if nothing had happened.
    pub kept: u64,
    /// Series that begin anew, as the pipeline makes other values of them, watches them otherwise or calls them otherwise.
    pub anew: u64,
    /// Series that the pipeline's condition leaves out from now on.
    pub left_out: u64,
}

/// One fact: a value in `suture.facts`, keyed by `scope`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    /// The environment or cluster it is about, which decides its partition. Progress and epochs go to every
    /// partition, with an empty scope.
    pub scope: Arc<str>,
    /// Event time.
    pub at: Timestamp,
    /// The shard that says it.
    pub shard: ShardId,
    /// Counts the shard's facts, from 0, without gaps: what makes the order of facts with one time the same everywhere.
    pub seq: u64,
    /// What is said.
    pub body: FactBody,
}

/// What a fact says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "fact", content = "body")]
pub enum FactBody {
    /// An edge of the call graph.
    Edge(Edge),
    /// A service is watched. Said once for each kind of signal, with its first sample.
    Watched(Watched),
    /// A change.
    Change(Change),
    /// An anomaly, in one of its phases.
    Anomaly(Anomaly),
    /// What an executor did.
    Outcome(Outcome),
    /// What a human wants.
    Command(Command),
    /// How far the shard is.
    Progress(Progress),
    /// The shard began anew.
    Epoch(EpochNote),
}

impl FactBody {
    /// The order of facts that have the same time: causes before effects.
    #[must_use]
    pub const fn rank(&self) -> u8 {
        match self {
            Self::Edge(_) | Self::Watched(_) => 0,
            Self::Change(_) => 1,
            Self::Anomaly(_) => 2,
            Self::Outcome(_) => 3,
            Self::Command(_) => 4,
            Self::Progress(_) => 5,
            Self::Epoch(_) => 6,
        }
    }
}
