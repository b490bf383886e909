//! Freezes as the commands topic has them, read anew before every call.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use suture_codec::records;
use suture_event::{Command, CommandKind, FreezeEpoch, Freezes};
use suture_log::{Error, Isolation, Log, Offset, Recovery, TopicPartition};
use suture_permit::Keyring;

/// How long reading new commands may take. A freeze that cannot be looked for counts as one.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is tried in the middle of an action, and the pause in between.
const TRIES: u32 = 10;
const BETWEEN: Duration = Duration::from_millis(100);

/// What commands have frozen. An executor reads them itself, so that a freeze stops it whether or not decide is running.
pub(crate) struct Watch {
    log: Arc<dyn Log>,
    topic: String,
    keys: Keyring,
    /// Whether freezes of any scope count: there is one.
    one_scope: bool,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    next: BTreeMap<i32, Offset>,
    scopes: BTreeMap<Arc<str>, Freezes>,
}

impl Watch {
    pub(crate) fn new(log: Arc<dyn Log>, topic: String, keys: Keyring, one_scope: bool) -> Self {
        Self {
            log,
            topic,
            keys,
            one_scope,
            seen: Mutex::default(),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what was written to the commands topic since the last time.
    ///
    /// # Errors
    /// Where it cannot be read to its end.
    pub(crate) fn read(&self) -> Result<(), Error> {
        let mut seen = self.seen();
        let Seen { next, scopes } = &mut *seen;
        let partitions = self.log.topic(&self.topic)?.map_or(0, |topic| topic.partitions);
        for partition in 0..partitions {
            let at = TopicPartition::new(self.topic.as_str(), partition);
            let range = self.log.range(&at)?;
            let next = next.entry(partition).or_insert(range.start);
            *next = range.start.max(*next);
            if *next >= range.end {
                continue;
            }
            let mut reader = self.log.reader(&at, *next, Isolation::ReadCommitted)?;
            let mut take = |record: suture_log::RecordRef<'_>| {
                *next = record.offset + 1;
                match records::decode::<Command>(record.value.unwrap_or_default()) {
                    Ok(command) => follow(&self.keys, self.one_scope, scopes, &command),
                    // observe writes a dead letter of it; here it is a freeze that nobody obeys
                    Err(error) => {
                        let offset = record.offset;
                        tracing::warn!(partition = %at, offset, %error, "a command cannot be read, and is not obeyed");
                    }
                }
            };
            let patience = Instant::now() + PATIENCE;
            while !reader.read(Duration::from_millis(500), 1_000, &mut take)? {
                if Instant::now() >= patience {
                    let what = format!("reading {at} to its end");
                    let detail = "a transaction on it stays open".to_owned();
                    return Err(Error::Busy { what, detail });
                }
            }
            *next = range.end.max(*next);
        }
        Ok(())
    }

    /// Whether a permit of an epoch holds, by all that commands say now: reads them anew, a few times where that fails for the
    /// moment.
    ///
    /// # Errors
    /// Why it does not; also where that cannot be found out.
    pub(crate) fn allows_now(&self, scope: &str, epoch: &FreezeEpoch) -> Result<(), String> {
        let mut tries = 1;
        while let Err(error) = self.read() {
            if tries == TRIES || error.recovery() == Recovery::Stop {
                return Err(format!("whether the scope is frozen cannot be found out: {error}"));
            }
            tries += 1;
            std::thread::sleep(BETWEEN);
        }
        self.allows(scope, epoch)
    }

    /// Whether a permit of an epoch holds, by what was read.
    ///
    /// # Errors
    /// Why it does not.
    pub(crate) fn allows(&self, scope: &str, epoch: &FreezeEpoch) -> Result<(), String> {
        let scope = if self.one_scope { "" } else { scope };
        self.seen()
            .scopes
            .get(scope)
            .map_or(Ok(()), |freezes| freezes.allows(epoch))
    }
}

/// Follows a freeze or thaw that counts.
fn follow(keys: &Keyring, one_scope: bool, scopes: &mut BTreeMap<Arc<str>, Freezes>, command: &Command) {
    if !matches!(command.kind, CommandKind::Freeze | CommandKind::Thaw) {
        return;
    }
    if !keys.is_empty()
        && let Err(flaw) = keys.check_command(command)
    {
        tracing::warn!(command = %command.id, by = %command.by, %flaw, "a freeze or thaw that nobody vouches for is not followed");
        return;
    }
    let scope: Arc<str> = if one_scope {
        "".into()
    } else {
        Arc::clone(&command.scope)
    };
    if let Err(why) = scopes.entry(scope).or_default().follow(command) {
        tracing::warn!(command = %command.id, by = %command.by, why, "a freeze or thaw is not followed");
    }
}
