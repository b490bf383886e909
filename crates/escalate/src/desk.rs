//! Reading the ledger and calling whom it calls for.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use suture_codec::records;
use suture_event::LedgerRecord;
use suture_log::{
    Appender, Assignment, Committed, Consumer, GroupOptions, HeadersBuf, Isolation, Log, Offset, OutRecord, Rebalance,
    Recovery, TopicPartition,
};

use crate::{Caller, Error, Page, Pager};

/// Where the desk reads, and where to what nobody took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    /// The ledger.
    pub ledger: Arc<str>,
    /// The dead letters.
    pub dead_letters: Arc<str>,
}

/// How long the desk waits for a partition that is read to its end, and is slow about it.
const PATIENCE: u32 = 60;

/// A consumer of the ledger that calls whom it calls for. Processes of one group share the ledger's partitions.
pub struct Desk {
    log: Arc<dyn Log>,
    caller: Caller,
    /// One that has taken nothing yet.
    fresh: Pager,
    topics: Topics,
    group: String,
    runtime: tokio::runtime::Handle,
}

enum News {
    Assigned(TopicPartition),
    Revoked(TopicPartition),
}

/// What rebalances told, to be worked off after the poll they came in.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<News>>>);

impl Rebalance for Told {
    fn assigned(&mut self, partitions: &[TopicPartition]) -> Vec<(TopicPartition, Option<Offset>)> {
        self.say(partitions.iter().cloned().map(News::Assigned));
        // paused until what came before is read again
        partitions.iter().map(|at| (at.clone(), None)).collect()
    }

    fn revoked(&mut self, partitions: &[TopicPartition], _lost: bool) {
        self.say(partitions.iter().cloned().map(News::Revoked));
    }
}

impl Told {
    fn say(&self, news: impl Iterator<Item = News>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(news);
    }
}

/// A partition of the ledger that is this desk's.
struct Shard {
    pager: Pager,
    next: Offset,
}

impl Desk {
    /// A desk; `fresh` is a pager that has taken nothing.
    #[must_use]
    pub fn new(
        log: Arc<dyn Log>,
        caller: Caller,
        fresh: Pager,
        topics: Topics,
        group: String,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        Self {
            log,
            caller,
            fresh,
            topics,
            group,
            runtime,
        }
    }

    /// Works until told to stop, on this thread, which must be none of the runtime's own.
    ///
    /// # Errors
    /// Where a topic is not there, or the log refuses and trying again will not help.
    pub fn run(&self, stop: &AtomicBool) -> Result<(), Error> {
        for topic in [&self.topics.ledger, &self.topics.dead_letters] {
            if self.log.topic(topic)?.is_none() {
                return Err(Error::NoTopic(topic.to_string()));
            }
        }
        let told = Told::default();
        let options = GroupOptions {
            group: self.group.clone(),
            assignment: Assignment::Dynamic {
                topics: vec![self.topics.ledger.to_string()],
            },
            isolation: Isolation::ReadCommitted,
        };
        let consumer = self.log.consumer(&options, Box::new(told.clone()))?;
        let done = self.work(consumer.as_ref(), &told, stop);
        consumer.close();
        done
    }

    fn work(&self, consumer: &dyn Consumer, told: &Told, stop: &AtomicBool) -> Result<(), Error> {
        let mut letters = self.log.appender()?;
        let mut shards: BTreeMap<TopicPartition, Shard> = BTreeMap::new();
        while !stop.load(Ordering::Relaxed) {
            let mut taken: Option<(TopicPartition, Offset, Vec<u8>)> = None;
            // one at a time: what nobody takes may keep the desk for minutes, and the group must hear from it in between
            let polled = consumer.poll(Duration::from_millis(100), 1, &mut |topic, partition, record| {
                let at = TopicPartition::new(topic, partition);
                taken = Some((at, record.offset, record.value.unwrap_or_default().to_vec()));
            });
            match polled {
                Err(error) if error.recovery() == Recovery::Retry => {
                    tracing::warn!(%error, "reading the ledger");
                    std::thread::sleep(Duration::from_millis(100));
                }
                Err(error) => return Err(error.into()),
                Ok(_) => {}
            }
            for news in std::mem::take(&mut *told.0.lock().unwrap_or_else(PoisonError::into_inner)) {
                match news {
                    News::Revoked(at) => {
                        shards.remove(&at);
                    }
                    News::Assigned(at) => {
                        let shard = self.take_over(&at)?;
                        consumer.seek(&at, shard.next)?;
                        shards.insert(at, shard);
                    }
                }
            }
            let Some((at, offset, value)) = taken else { continue };
            let Some(shard) = shards.get_mut(&at).filter(|shard| offset >= shard.next) else {
                continue;
            };
            match records::decode::<LedgerRecord>(&value) {
                Ok(record) => {
                    if let Some(page) = shard.pager.take(&record) {
                        self.say(&page, letters.as_mut())?;
                    }
                }
                Err(error) => tracing::error!(partition = %at, offset, %error, "a record that is none of the ledger's"),
            }
            shard.next = offset + 1;
            let committed = Committed {
                offset: shard.next,
                metadata: String::new(),
            };
            match consumer.commit(&[(at, committed)]) {
                // whoever has the partition now says it once more, under the same key
                Err(error) if error.recovery() == Recovery::Retry => {
                    tracing::warn!(%error, "noting how far the ledger was read")
                }
                Err(error) => return Err(error.into()),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Reads what came before without calling anybody, so that it is known who was called. A group that is new calls for nothing
    /// that was there before it.
    fn take_over(&self, at: &TopicPartition) -> Result<Shard, Error> {
        let range = self.log.range(at)?;
        let committed = self.log.committed(&self.group, std::slice::from_ref(at))?;
        let committed = committed.into_iter().next().flatten();
        let next = committed
            .map_or(range.end, |committed| committed.offset)
            .max(range.start);
        let mut shard = Shard {
            pager: self.fresh.clone(),
            next,
        };
        let mut reader = self.log.reader(at, range.start, Isolation::ReadCommitted)?;
        let mut position = range.start;
        let mut idle = 0;
        while position < next {
            let before = position;
            let ended = reader.read(Duration::from_secs(1), 10_000, &mut |record| {
                position = record.offset + 1;
                if record.offset < next
                    && let Ok(record) = records::decode::<LedgerRecord>(record.value.unwrap_or_default())
                {
                    // said by whoever committed that far
                    let _ = shard.pager.take(&record);
                }
            })?;
            idle = if position == before { idle + 1 } else { 0 };
            if ended || idle > PATIENCE {
                break;
            }
        }
        Ok(shard)
    }

    fn say(&self, page: &Page, letters: &mut dyn Appender) -> Result<(), Error> {
        let refused = self.runtime.block_on(self.caller.say(page));
        if refused.is_empty() {
            tracing::info!(key = page.key, kind = ?page.kind, trigger = ?page.trigger, "called");
            return Ok(());
        }
        let mut all = Vec::with_capacity(refused.len());
        for refused in refused {
            tracing::error!(
                sink = refused.sink,
                key = page.key,
                why = refused.why,
                "nobody was reached"
            );
            let mut headers = HeadersBuf::default();
            headers.push("suture_reason", Some(refused.why.as_bytes()));
            headers.push("suture_sink", Some(refused.sink.as_bytes()));
            let value = serde_json::to_vec(page).unwrap_or_default();
            all.push(OutRecord {
                headers,
                ..OutRecord::new(Arc::clone(&self.topics.dead_letters), page.key.as_bytes(), value)
            });
        }
        Ok(letters.append(&all)?)
    }
}
