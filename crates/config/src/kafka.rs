//! The broker, and the topics that the program owns there.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};
use suture_event::Span;

/// The broker, and the topics the program owns there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Kafka {
    /// Settings of librdkafka, each passed on as it is written: `bootstrap.servers`, `security.protocol`, … Those on
    /// which exactly-once rests are set by the program and refused here.
    #[serde(deserialize_with = "settings")]
    #[schemars(with = "BTreeMap<String, Setting>")]
    pub client: BTreeMap<String, String>,
    /// Beginning of the names of the topics that the program owns: `PREFIX.facts`,
    /// `PREFIX.incidents`, … Letters, digits, `.`, `_` and `-`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,200}$"))]
    pub prefix: String,
    /// Beginning of the consumer groups' names; `PREFIX-NAME` where absent. Letters, digits,
    /// `.`, `_` and `-`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,200}$"))]
    pub group: Option<String>,
    /// How consumer groups share out partitions.
    pub protocol: Protocol,
    /// Longest time between two commits of outputs and offsets, in one transaction.
    pub commit_interval: Span,
    /// A partition whose end was reached and which brought nothing for this long counts as idle.
    pub idle_after: Span,
    /// How long judgement waits for a partition that had telemetry and brings none, or for a shard that says nothing at all
    /// any more; at least a window with its lateness. What comes within this time is judged as if it had come at once. Then
    /// judgement goes on without it, says so, and takes in what comes later. By the wall clock a scope that the partition had no
    /// telemetry of waits for `idle_after` alone.
    pub patience: Span,
    /// How often a shard's state is saved, so that a restart need not read more than about this much again.
    pub snapshot_interval: Span,
    /// Where state is saved.
    pub state: State,
    /// How owned topics are made, where the program is told to create them.
    pub topics: OwnedTopics,
}

/// Where state is saved.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct State {
    /// Address of an object store that every process can reach: `file:///FOLDER`, `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`
    /// or `az://CONTAINER/PREFIX`. Credentials come from the environment (`AWS_…`, `GOOGLE_…`, `AZURE_…`). Absent: the
    /// compacted topic `PREFIX.state`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
}

/// Schemes of the addresses that object stores have.
pub(crate) const STORES: [&str; 7] = ["file", "s3", "s3a", "gs", "az", "abfs", "abfss"];

impl Default for Kafka {
    fn default() -> Self {
        Self {
            client: BTreeMap::new(),
            prefix: "suture".to_owned(),
            group: None,
            protocol: Protocol::default(),
            commit_interval: Span::from_millis(100),
            idle_after: Span::from_secs(5),
            patience: Span::from_mins(2),
            snapshot_interval: Span::from_mins(1),
            state: State::default(),
            topics: OwnedTopics::default(),
        }
    }
}

/// How consumer groups share out partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// The members agree (`cooperative-sticky`): partitions that stay where they are go on being worked on. Any broker.
    #[default]
    Classic,
    /// The broker shares out, by the protocol of KIP-848. Kafka 4 or later; the broker sets the session timeout.
    Consumer,
}

/// How owned topics are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OwnedTopics {
    /// Partitions of the topics that are keyed by scope or target. A scope lives in one of them, so more than the
    /// number of scopes are of no use.
    #[schemars(range(min = 1, max = 10_000))]
    pub partitions: u32,
    /// Copies of each partition; -1 takes the broker's default.
    #[schemars(range(min = -1, max = 100))]
    pub replication: i16,
    /// How long facts are kept: the time within which an audit can decide again.
    pub facts_retention: Span,
    /// How long action requests, outcomes, commands and dead letters are kept.
    pub retention: Span,
}

impl Default for OwnedTopics {
    fn default() -> Self {
        Self {
            partitions: 6,
            replication: -1,
            facts_retention: Span::from_hours(24 * 90),
            retention: Span::from_hours(24 * 14),
        }
    }
}

/// The value of a librdkafka setting: a text, a number or a boolean.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
#[allow(dead_code)] // only its shape is used, in the schema
enum Setting {
    Text(String),
    Number(f64),
    Flag(bool),
}

fn settings<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let values = BTreeMap::<String, serde_json::Value>::deserialize(deserializer)?;
    values
        .into_iter()
        .map(|(key, value)| {
            let text = match value {
                serde_json::Value::String(text) => text,
                serde_json::Value::Number(number) => number.to_string(),
                serde_json::Value::Bool(flag) => flag.to_string(),
                _ => {
                    return Err(de::Error::custom(format!(
                        "{key} is neither a text, a number nor a boolean"
                    )));
                }
            };
            Ok((key, text))
        })
        .collect()
}

/// A commit must be well within the ten seconds after which the broker gives a transaction up.
pub(crate) const LONGEST_COMMIT: Span = Span::from_secs(5);

const OFFSETS: &str = "offsets are committed in one transaction with the outputs that they caused";
const PRODUCER: &str = "transactions set it, and exactly-once rests on it";

/// Settings that the program sets itself, with why, and what to write instead.
const RESERVED: &[(&str, &str, &str)] = &[
    (
        "enable.auto.commit",
        OFFSETS,
        "remove it; `kafka.commit_interval` says how often",
    ),
    (
        "auto.commit.enable",
        OFFSETS,
        "remove it; `kafka.commit_interval` says how often",
    ),
    (
        "auto.commit.interval.ms",
        OFFSETS,
        "remove it; `kafka.commit_interval` says how often",
    ),
    ("enable.auto.offset.store", OFFSETS, "remove it"),
    (
        "auto.offset.reset",
        "a lost position must stop the shard, not skip records quietly",
        "remove it",
    ),
    (
        "isolation.level",
        "only committed records may be read: the others may never have happened",
        "remove it",
    ),
    (
        "group.id",
        "each plane has a group of its own",
        "remove it; `kafka.group` sets how their names begin",
    ),
    (
        "transactional.id",
        "each partition has one of its own, which fences what was there before",
        "remove it",
    ),
    (
        "transaction.timeout.ms",
        "a transaction left open must not hold readers up for long",
        "remove it",
    ),
    ("enable.idempotence", PRODUCER, "remove it"),
    ("enable.gapless.guarantee", PRODUCER, "remove it"),
    ("acks", PRODUCER, "remove it"),
    ("request.required.acks", PRODUCER, "remove it"),
    (
        "partitioner",
        "which partition a scope lives in must be the same for every process",
        "remove it",
    ),
    ("enable.partition.eof", "idle partitions are told by it", "remove it"),
];

/// Why a setting is not to be set, and what to do instead, where it is not.
pub(crate) fn reserved(key: &str) -> Option<(&'static str, &'static str)> {
    let key = key.strip_prefix("topic.").unwrap_or(key);
    RESERVED
        .iter()
        .find(|(name, ..)| *name == key)
        .map(|(_, reason, help)| (*reason, *help))
}
