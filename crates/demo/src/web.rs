//! The demo in a browser: the console over what the demo's planes say, and the words of whoever watches.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use anyhow::Context as _;
use suture_config::Pipeline;
use suture_console::{Door, Host, HttpLimits, Limits, Mode, Refusal, Said, Setting, Store, Word, access::Role};
use suture_event::{Command, Edge, Timestamp, stable_uuid};
use suture_permit::{KeyEntry, Keyring, Role as KeyRole, SecretKey};

/// Words that wait for the next step; the shop takes them ten simulated seconds later at most.
const WORDS: usize = 100;

/// Takes the words of whoever watches, and signs each with a key of theirs that was made for this run.
struct Desk {
    keys: BTreeMap<Arc<str>, SecretKey>,
    words: Mutex<Vec<Command>>,
    now: AtomicI64,
    count: AtomicU64,
}

impl Host for Desk {
    fn say(&self, word: &Word) -> Result<Arc<str>, Refusal> {
        let key = self.keys.get(&word.by);
        let key = key.ok_or_else(|| Refusal::NoKey(format!("there is no key to sign for {} with", word.by)))?;
        let count = self.count.fetch_add(1, Ordering::SeqCst);
        let mut command = Command {
            id: stable_uuid(&format!("word {count} of {}", word.by)).to_string().into(),
            at: Timestamp::from_millis(self.now.load(Ordering::SeqCst)),
            by: word.by.clone(),
            scope: word.scope.clone(),
            kind: word.kind.clone(),
            reason: word.reason.clone(),
            seal: None,
        };
        command.seal = Some(key.sign(&command));
        let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        if words.len() >= WORDS {
            return Err(Refusal::Unavailable(format!("{WORDS} words wait already: try again")));
        }
        let id = command.id.clone();
        words.push(command);
        Ok(id)
    }
}

/// The console of a demo.
pub(crate) struct Web {
    pub(crate) store: Arc<Store>,
    desk: Arc<Desk>,
    door: Option<Door>,
    /// Serves it, until the demo ends.
    runtime: tokio::runtime::Runtime,
}

impl Web {
    /// With its door still closed.
    pub(crate) fn new(listen: SocketAddr, tokens: Option<&Path>) -> anyhow::Result<Self> {
        let who = std::env::var("USER").ok().filter(|user| !user.trim().is_empty());
        let who = who.unwrap_or_else(|| "whoever watches".to_owned());
        let door = Door::new(listen, tokens, HttpLimits::default(), &who, Role::Approver)?;
        let mut keys = BTreeMap::new();
        for entry in door.entries() {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).map_err(|error| anyhow::anyhow!("this machine gives no entropy: {error}"))?;
            keys.insert(
                entry.who.clone(),
                SecretKey::from_seed(&seed, entry.who.clone(), KeyRole::Person),
            );
        }
        let setting = Setting {
            name: "the demo's shop".to_owned(),
            mode: Mode::Demo,
            scope: None,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("console")
            .enable_all()
            .build()?;
        Ok(Self {
            store: Arc::new(Store::new(Limits::default(), setting)),
            desk: Arc::new(Desk {
                keys,
                words: Mutex::default(),
                now: AtomicI64::new(0),
                count: AtomicU64::new(0),
            }),
            door: Some(door),
            runtime,
        })
    }

    /// Lists the keys of those who watch, so that what they say counts.
    pub(crate) fn admit(&self, pipeline: &mut Pipeline) {
        let watchers = self.desk.keys.values().map(|key| KeyEntry {
            who: Arc::clone(&key.who),
            role: key.role,
            public: key.public(),
            until: None,
        });
        let known = pipeline.remediate.keys.entries().iter().cloned();
        pipeline.remediate.keys = Keyring::new(known.chain(watchers).collect());
    }

    /// Opens the door, and gives the address to look at.
    pub(crate) fn open(&mut self, edges: &[Edge]) -> anyhow::Result<String> {
        self.store.take(edges.iter().cloned().map(Said::Edge));
        let door = self.door.take().context("the console is served already")?;
        let served = door.serve(self.store.clone(), Ok(self.desk.clone()), std::future::pending());
        let (url, _) = self.runtime.block_on(served)?;
        Ok(url)
    }

    pub(crate) fn set_now(&self, now: Timestamp) {
        self.desk.now.store(now.as_millis(), Ordering::SeqCst);
        self.store.set_now(now);
    }

    /// What was said since the last time, in order.
    pub(crate) fn words(&self) -> Vec<Command> {
        std::mem::take(&mut self.desk.words.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    // what goes wrong here is a failed test
    #![allow(clippy::unwrap_used)]

    use suture_event::CommandKind;

    use super::*;

    #[test]
    fn a_word_from_the_browser_is_a_command_that_the_pipeline_takes() {
        let web = Web::new("127.0.0.1:0".parse().unwrap(), None).unwrap();
        let mut pipeline = suture_service::load::examine_bytes("the demo's", crate::run::PIPELINE.as_bytes())
            .0
            .unwrap();
        pipeline.remediate.keys = suture_service::keys::embedded_ring();
        let by = web.desk.keys.keys().next().unwrap().clone();
        let word = |by: &Arc<str>| Word {
            by: by.clone(),
            scope: "prod".into(),
            kind: CommandKind::Freeze,
            reason: "to see".to_owned(),
        };
        web.desk.say(&word(&by)).unwrap();
        web.desk.say(&word(&by)).unwrap();
        let said = web.words();
        assert_ne!(said[0].id, said[1].id);
        assert!(
            pipeline.remediate.keys.check_command(&said[0]).is_err(),
            "nobody was admitted"
        );
        web.admit(&mut pipeline);
        pipeline.remediate.keys.check_command(&said[0]).unwrap();
        assert!(matches!(web.desk.say(&word(&"mallory".into())), Err(Refusal::NoKey(_))));
        assert!(web.words().is_empty());
    }
}
