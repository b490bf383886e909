//! The console beside a run: it follows the program's own topics, and puts people's words onto the commands topic.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context;
use suture_codec::{cdevents, records};
use suture_config::Pipeline;
use suture_console::{Door, Host, Mode, Refusal, Said, Setting, Store, Word};
use suture_event::{Command, Edge, Fact, FactBody, LedgerRecord, Outcome, RecordRef, stable_uuid};
use suture_log::{
    Appender, Assignment, Consumer, GroupOptions, Isolation, Log, Offset, OutRecord, Rebalance, TopicPartition,
};
use suture_permit::{Role, SecretKey};
use suture_runtime::{Clock, Shutdown};

use crate::{keys, planes::Topics};

/// Records of each partition that are read at the start, so that a console knows what was before it.
const BACK: Offset = 50_000;
/// Records of one poll.
const TOGETHER: usize = 1_000;
const POLL: Duration = Duration::from_millis(500);
/// After an error the log is asked again this much later.
const PAUSE: Duration = Duration::from_secs(5);

/// What a console that stands beside a pipeline says of itself.
#[must_use]
pub fn setting(pipeline: &Pipeline) -> Setting {
    Setting {
        name: pipeline.name.to_string(),
        mode: Mode::Live,
        scope: pipeline.scope.is_one().then(|| pipeline.scope.default.as_str().into()),
    }
}

/// Where each partition is read from.
struct From(BTreeMap<TopicPartition, Offset>);

impl Rebalance for From {
    fn assigned(&mut self, partitions: &[TopicPartition]) -> Vec<(TopicPartition, Option<Offset>)> {
        let from = |at: &TopicPartition| (at.clone(), self.0.get(at).copied());
        partitions.iter().map(from).collect()
    }

    fn revoked(&mut self, _: &[TopicPartition], _: bool) {}
}

/// Reads what the planes and executors write, into a store.
pub struct Follower {
    consumer: Arc<dyn Consumer>,
    topics: Topics,
    store: Arc<Store>,
    /// The next offset of each partition.
    next: BTreeMap<TopicPartition, Offset>,
    /// Whether a record that could not be read has been told in the log.
    told: bool,
}

impl Follower {
    /// From so far back as is kept, or as a store can hold; or from where one that was there before had come to. In no group: it
    /// holds up nobody, and nobody it.
    ///
    /// # Errors
    /// Where the log cannot be asked, or a topic is not there.
    pub fn open(
        log: &dyn Log,
        pipeline: &Pipeline,
        edges: &[Edge],
        store: Arc<Store>,
        before: &BTreeMap<TopicPartition, Offset>,
    ) -> anyhow::Result<Self> {
        let topics = Topics::of(pipeline);
        store.take(edges.iter().cloned().map(Said::Edge));
        let mut from = BTreeMap::new();
        for name in [
            &topics.facts,
            &topics.incidents,
            &topics.remediations,
            &topics.outcomes,
            &topics.ledger,
        ] {
            let topic = log.topic(name)?.with_context(|| format!("topic {name} is not there"))?;
            for partition in 0..topic.partitions {
                let at = TopicPartition::new(name.to_string(), partition);
                let range = log.range(&at)?;
                let begin = before.get(&at).copied().unwrap_or(range.end - BACK);
                from.insert(at, begin.clamp(range.start, range.end.max(range.start)));
            }
        }
        let options = GroupOptions {
            // nothing is ever committed for it
            group: format!("{}-console", pipeline.kafka.prefix),
            assignment: Assignment::Static {
                partitions: from.keys().cloned().collect(),
            },
            isolation: Isolation::ReadCommitted,
        };
        Ok(Self {
            consumer: log.consumer(&options, Box::new(From(from.clone())))?,
            topics,
            store,
            next: from,
            told: false,
        })
    }

    /// Takes in what is there, waiting for the first record up to the timeout. Gives how many records came.
    ///
    /// # Errors
    /// Where the log cannot be read: the follower is then to be opened anew.
    pub fn step(&mut self, timeout: Duration) -> anyhow::Result<usize> {
        let mut said = Vec::new();
        let (topics, next, told) = (&self.topics, &mut self.next, &mut self.told);
        let came = self.consumer.poll(timeout, TOGETHER, &mut |topic, partition, record| {
            next.insert(TopicPartition::new(topic, partition), record.offset + 1);
            match meaning(topics, topic, record) {
                Ok(some) => said.extend(some),
                Err(error) if !*told => {
                    *told = true;
                    tracing::warn!(topic, partition, offset = record.offset, %error, "the console passes over a record");
                }
                Err(_) => {}
            }
        });
        // what came before an error has been handed out
        self.store.take(said);
        Ok(came?)
    }
}

/// What a record of one of the program's topics says, where it is something to be shown.
fn meaning(topics: &Topics, topic: &str, record: RecordRef<'_>) -> anyhow::Result<Option<Said>> {
    // what a compacted topic forgets
    let Some(value) = record.value else { return Ok(None) };
    let is = |name: &Arc<str>| **name == *topic;
    Ok(Some(if is(&topics.facts) {
        match records::decode::<Fact>(value)?.body {
            FactBody::Edge(edge) => Said::Edge(edge),
            FactBody::Watched(watched) => Said::Watched(watched),
            FactBody::Change(change) => Said::Change(change),
            FactBody::Anomaly(anomaly) => Said::Anomaly(anomaly),
            _ => return Ok(None),
        }
    } else if is(&topics.incidents) {
        Said::Incident(cdevents::read_incident(value)?)
    } else if is(&topics.remediations) {
        Said::Request(cdevents::read_remediation(value)?)
    } else if is(&topics.outcomes) {
        Said::Outcome(records::decode::<Outcome>(value)?)
    } else {
        Said::Record(records::decode::<LedgerRecord>(value)?)
    }))
}

/// Follows the topics on a thread of its own until the shutdown; what it cannot read it tries again, and says so meanwhile.
///
/// # Errors
/// Where the thread cannot be started.
pub fn follow(
    log: Arc<dyn Log>,
    pipeline: Arc<Pipeline>,
    edges: Vec<Edge>,
    store: Arc<Store>,
    (clock, shutdown): (Arc<dyn Clock>, Shutdown),
    mut each: impl FnMut(&Store) + Send + 'static,
) -> anyhow::Result<JoinHandle<()>> {
    let run = move || {
        let mut follower = None;
        let mut reached = BTreeMap::new();
        while !shutdown.is_requested() {
            let open = match follower.take() {
                Some(follower) => Ok(follower),
                None => Follower::open(log.as_ref(), &pipeline, &edges, store.clone(), &reached),
            };
            let stepped = open.and_then(|mut open| {
                let came = open.step(POLL);
                reached.clone_from(&open.next);
                came.map(|_| open)
            });
            store.pass_time(clock.wall());
            each(&store);
            match stepped {
                Ok(open) => {
                    store.set_note(None);
                    follower = Some(open);
                }
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "the console cannot follow the topics");
                    store.set_note(Some(
                        "The topics cannot be read just now: what is shown here is as it was.".to_owned(),
                    ));
                    let began = Instant::now();
                    while began.elapsed() < PAUSE && !shutdown.is_requested() {
                        thread::sleep(POLL);
                    }
                }
            }
        }
    };
    Ok(thread::Builder::new().name("console".to_owned()).spawn(run)?)
}

/// Puts people's words onto the commands topic, each signed with the key of who says it.
pub struct Desk {
    keys: BTreeMap<Arc<str>, SecretKey>,
    topic: Arc<str>,
    appender: Mutex<Box<dyn Appender>>,
    clock: Arc<dyn Clock>,
}

impl Desk {
    /// With the keys that the token file names, from beside that file.
    ///
    /// # Errors
    /// Where a key cannot be read, is nobody's that the pipeline lists, or is another's than the token.
    pub fn open(
        log: &dyn Log,
        pipeline: &Pipeline,
        door: &Door,
        tokens: Option<&Path>,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let folder = tokens.and_then(Path::parent).unwrap_or(Path::new(""));
        let mut known = BTreeMap::new();
        for entry in door.entries() {
            let Some(path) = &entry.key else { continue };
            let path = folder.join(path);
            let key = keys::read(&path, Role::Person)?;
            keys::require_listed(&pipeline.remediate.keys, &key, &path)?;
            anyhow::ensure!(
                key.who == entry.who,
                "{}: the key is {}'s, and the token that names it {}'s",
                path.display(),
                key.who,
                entry.who
            );
            known.insert(entry.who.clone(), key);
        }
        Ok(Self {
            keys: known,
            topic: Topics::of(pipeline).commands,
            appender: Mutex::new(log.appender()?),
            clock,
        })
    }
}

impl Host for Desk {
    fn say(&self, word: &Word) -> Result<Arc<str>, Refusal> {
        let key = self.keys.get(&word.by).ok_or_else(|| {
            Refusal::NoKey(format!(
                "the token file names no `key` of {}'s, so nothing can be said for them",
                word.by
            ))
        })?;
        let unavailable =
            |error: &dyn std::fmt::Display| Refusal::Unavailable(format!("it could not be passed on: {error}"));
        let at = self.clock.wall();
        let name = serde_json::to_string(&("command", &word.scope, at, &word.kind, key.id()))
            .map_err(|error| unavailable(&error))?;
        let mut command = Command {
            id: stable_uuid(&name).to_string().into(),
            at,
            by: word.by.clone(),
            scope: word.scope.clone(),
            kind: word.kind.clone(),
            reason: word.reason.clone(),
            seal: None,
        };
        command.seal = Some(key.sign(&command));
        let value = records::encode(&command).map_err(|error| unavailable(&error))?;
        let record = OutRecord::new(self.topic.clone(), command.scope.as_bytes(), value);
        let mut appender = self.appender.lock().unwrap_or_else(PoisonError::into_inner);
        appender.append(&[record]).map_err(|error| unavailable(&error))?;
        Ok(command.id)
    }
}
