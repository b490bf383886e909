//! How a run stands: what is warm, what is held back and why, what is open, frozen or lost. Shards write it, and whoever asks
//! reads it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use suture_engine::{Decide, Verdict, VerdictOutcome, Warmth};
use suture_event::{ShardId, Span, Timestamp};

/// Kinds of reasons that are told apart in a shard's dead letters; further ones count as one.
const REASONS: usize = 16;
/// What a reason is cut to, in characters.
const REASON: usize = 300;
/// Groups held back that are kept of a shard, the last.
const HELD: usize = 20;
/// Shards that are kept.
const SHARDS: usize = 10_000;

/// Dead letters of a shard, by what was wrong with them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letters {
    /// By the reason without its numbers.
    kinds: BTreeMap<String, Letter>,
}

/// Dead letters for one sort of reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// The reason, as it was for the last of them.
    pub reason: String,
    /// How many records.
    pub records: u64,
    /// The last one's offset.
    pub offset: i64,
    /// Those that were not told of yet.
    #[serde(skip)]
    untold: u64,
}

/// A reason without what differs from record to record: its numbers, and what it quotes.
fn kind_of(reason: &str) -> String {
    let mut kind = String::new();
    let (mut quoted, mut digits) = (false, false);
    for c in reason.chars().take(REASON) {
        if c == '"' || c == '`' && quoted {
            quoted = !quoted && c == '"';
            kind.push('"');
        } else if quoted {
        } else if c.is_ascii_digit() {
            if !digits {
                kind.push('#');
            }
        } else {
            kind.push(c);
        }
        digits = c.is_ascii_digit();
    }
    kind
}

impl Letters {
    /// Counts a record. Whether it is the first for such a reason.
    pub fn add(&mut self, offset: i64, reason: &str) -> bool {
        let mut kind = kind_of(reason);
        if !self.kinds.contains_key(&kind) && self.kinds.len() >= REASONS {
            kind = "other reasons".to_owned();
        }
        let fresh = !self.kinds.contains_key(&kind);
        let letter = self.kinds.entry(kind).or_insert_with(|| Letter {
            reason: String::new(),
            records: 0,
            offset,
            untold: 0,
        });
        letter.reason = reason.chars().take(REASON).collect();
        letter.offset = offset;
        letter.records += 1;
        letter.untold += u64::from(!fresh);
        fresh
    }

    /// What was counted since it was last told, the most frequent first.
    pub(crate) fn tell(&mut self) -> Vec<(u64, String, i64)> {
        let told = self.kinds.values_mut().filter(|letter| letter.untold > 0);
        let mut told: Vec<(u64, String, i64)> = told
            .map(|letter| (std::mem::take(&mut letter.untold), letter.reason.clone(), letter.offset))
            .collect();
        told.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        told
    }

    /// All of them, the most frequent first.
    #[must_use]
    pub fn all(&self) -> Vec<Letter> {
        let mut all: Vec<Letter> = self.kinds.values().cloned().collect();
        all.sort_by(|a, b| b.records.cmp(&a.records).then(a.reason.cmp(&b.reason)));
        all
    }
}

/// How far a shard has learned what is usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warm {
    /// Series that are judged.
    pub series: u64,
    /// Those of which nothing is said yet.
    pub warming: u64,
    /// When these will be known, if they go on sending; absent where that depends on how often they send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Warm {
    /// What was learned of a shard whose event time has come to `watermark`, in windows of this size.
    #[must_use]
    pub fn of(warmth: Warmth, watermark: Option<Timestamp>, window: Option<Span>) -> Self {
        let known_by = |watermark: Timestamp, size: Span| {
            watermark.plus(Span::from_millis(
                size.as_millis().saturating_mul(i64::from(warmth.windows)),
            ))
        };
        Self {
            series: warmth.series,
            warming: warmth.warming,
            until: watermark
                .zip(window)
                .filter(|_| warmth.warming > 0)
                .map(|(at, size)| known_by(at, size)),
        }
    }
}

/// One incident that is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// Its id.
    pub id: Arc<str>,
    /// The scope.
    pub scope: Arc<str>,
    /// When it opened.
    pub opened_at: Timestamp,
    /// One line.
    pub title: String,
}

/// One action that waits, is under way or is being watched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnderWay {
    /// Its id.
    pub id: Arc<str>,
    /// What is done.
    pub action: Arc<str>,
    /// To which service.
    pub target: Arc<str>,
    /// For which incident.
    pub incident: Arc<str>,
    /// How far it is.
    pub stage: String,
}

/// A scope that is frozen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// The scope.
    pub scope: Arc<str>,
    /// By whom.
    pub by: Arc<str>,
}

/// What a shard knows of itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShardStatus {
    /// `rekey`, `observe` or `decide`.
    pub plane: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Where in its life it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub phase: String,
    /// Records up to the partition's end, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<i64>,
    /// Event time up to which everything was taken in, or decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watermark: Option<Timestamp>,
    /// How far it has learned what is usual, for telemetry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warm: Option<Warm>,
    /// Dead letters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dead_letters: Vec<Letter>,
    /// Groups of anomalies that are no incident, the newest last.
    #[serde(skip_serializing_if = "VecDeque::is_empty")]
    pub held: VecDeque<Verdict>,
    /// Incidents that are open.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub incidents: Vec<Open>,
    /// Actions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<UnderWay>,
    /// Scopes that are frozen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub frozen: Vec<Frozen>,
    /// Partitions that are judged without.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<ShardId>,
}

impl ShardStatus {
    /// What is open, under way and frozen by what decide knows.
    pub fn stand(&mut self, decide: &Decide) {
        (self.incidents, self.actions, self.frozen) = Default::default();
        for standing in decide.standing() {
            self.incidents
                .extend(standing.incidents.into_iter().map(|incident| Open {
                    id: incident.id,
                    scope: incident.scope,
                    opened_at: incident.opened_at,
                    title: incident.title,
                }));
            self.actions
                .extend(standing.actions.into_iter().map(|(request, stage)| UnderWay {
                    id: request.id,
                    action: request.step.action,
                    target: request.target,
                    incident: request.incident,
                    stage: stage.to_owned(),
                }));
            self.frozen.extend(standing.frozen_by.map(|by| Frozen {
                scope: standing.scope.clone(),
                by,
            }));
        }
        self.missing = decide
            .missing()
            .flat_map(|(_, shards)| shards.iter().cloned())
            .collect();
    }

    /// Keeps a group that is no incident, in place of what was known of the same.
    pub fn hold(&mut self, verdict: &Verdict) {
        let same = |known: &Verdict| known.scope == verdict.scope && known.service == verdict.service;
        self.held.retain(|known| !same(known));
        let over = matches!(
            verdict.outcome,
            VerdictOutcome::Opened { .. } | VerdictOutcome::Joined { .. } | VerdictOutcome::Passed
        );
        if over {
            return;
        }
        if self.held.len() >= HELD {
            self.held.pop_front();
        }
        self.held.push_back(verdict.clone());
    }
}

/// How a run, or a replay, stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The pipeline's name.
    pub pipeline: String,
    /// The clock on the wall when this was asked for; absent for a replay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// What keeps the program from being ready, if anything does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_ready: Option<String>,
    /// Every shard.
    pub shards: Vec<ShardStatus>,
}

/// Where the shards of a process write how they stand.
#[derive(Debug, Default)]
pub struct Board(Mutex<BTreeMap<(&'static str, ShardId), ShardStatus>>);

impl Board {
    fn all(&self) -> MutexGuard<'_, BTreeMap<(&'static str, ShardId), ShardStatus>> {
        // each entry is whole between any two writes
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known of a shard.
    pub(crate) fn write(&self, plane: &'static str, shard: &ShardId, change: impl FnOnce(&mut ShardStatus)) {
        let mut all = self.all();
        let key = (plane, shard.clone());
        if all.len() >= SHARDS && !all.contains_key(&key) {
            return;
        }
        let status = all.entry(key).or_insert_with(|| ShardStatus {
            plane: plane.to_owned(),
            topic: shard.topic.to_string(),
            partition: shard.partition,
            ..ShardStatus::default()
        });
        change(status);
    }

    /// What is known of a shard.
    #[must_use]
    pub fn read(&self, plane: &'static str, shard: &ShardId) -> Option<ShardStatus> {
        self.all().get(&(plane, shard.clone())).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_letters_are_told_apart_by_their_reasons_and_not_by_the_numbers_in_them() {
        let mut letters = Letters::default();
        assert!(letters.add(1, "no valid JSON at byte 17: \"abc\" is no number"));
        assert!(!letters.add(2, "no valid JSON at byte 3: \"x\" is no number"));
        assert!(letters.add(3, "the record is empty"));
        assert_eq!(
            letters.tell(),
            [(1, "no valid JSON at byte 3: \"x\" is no number".to_owned(), 2)]
        );
        assert_eq!(letters.tell(), []);
        for number in 0..100_u8 {
            let letter = char::from(b'a' + number % 26);
            letters.add(i64::from(number), &format!("{letter}{letter} is wrong"));
        }
        assert!(letters.all().len() <= REASONS + 1);
        let total: u64 = letters.all().iter().map(|letter| letter.records).sum();
        assert_eq!(total, 103);
    }
}
