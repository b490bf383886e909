//! Whose signatures count, and for what.

use std::{collections::BTreeMap, fmt, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use suture_event::{ActionRequest, Command, FreezeEpoch, Outcome, Seal, Timestamp};

use crate::{PublicKey, Said};

/// What a key may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Permits and checkpoints of the ledger.
    Decide,
    /// Outcomes, in its own name.
    Executor,
    /// Commands, in its own name.
    Person,
}

impl Role {
    /// The role of a name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        [Self::Decide, Self::Executor, Self::Person]
            .into_iter()
            .find(|role| role.to_string() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Decide => "decide",
            Self::Executor => "executor",
            Self::Person => "person",
        })
    }
}

/// A key whose signatures count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyEntry {
    /// Whose it is: a person, or an executor's name. One who has several keys is the same one with each of them.
    pub who: Arc<str>,
    /// What it may say.
    pub role: Role,
    /// The public key, in base64, as `suture keys list` prints it.
    pub public: PublicKey,
    /// What is signed at or after this does not count: for a key that was rotated out. Leave it in the list for as long as what
    /// it signed must be checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// Why a signature does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// There is none.
    #[error("it is not signed")]
    Unsigned,
    /// There is no permit at all.
    #[error("it has no permit")]
    NoPermit,
    /// The key is not in the list.
    #[error("key {0} is not known here")]
    UnknownKey(Arc<str>),
    /// The key may not say this.
    #[error("key {key} is a key of role {role}, which may not say this")]
    Role {
        /// The key's id.
        key: Arc<str>,
        /// Its role.
        role: Role,
    },
    /// The key is another's.
    #[error("key {key} is {owner}'s, and it was said in the name of {claimed}")]
    Owner {
        /// The key's id.
        key: Arc<str>,
        /// Whose it is.
        owner: Arc<str>,
        /// Who was named.
        claimed: Arc<str>,
    },
    /// The key had been rotated out.
    #[error("key {key} ended at {until}")]
    Ended {
        /// The key's id.
        key: Arc<str>,
        /// When it ended.
        until: Timestamp,
    },
    /// The words are not those that were signed.
    #[error("its signature does not fit: it was changed, or made with another key than {0}")]
    Altered(Arc<str>),
    /// The permit is for somebody else.
    #[error("its permit is for executor {0}")]
    OtherExecutor(Arc<str>),
}

/// The keys whose signatures count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Keyring(Vec<KeyEntry>);

impl Keyring {
    /// The keys of a list.
    #[must_use]
    pub const fn new(entries: Vec<KeyEntry>) -> Self {
        Self(entries)
    }

    /// The keys, in the order of the list.
    #[must_use]
    pub fn entries(&self) -> &[KeyEntry] {
        &self.0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether some key of a role is there.
    #[must_use]
    pub fn has(&self, role: Role) -> bool {
        self.0.iter().any(|entry| entry.role == role)
    }

    /// Adds keys.
    pub fn extend(&mut self, entries: impl IntoIterator<Item = KeyEntry>) {
        self.0.extend(entries);
    }

    /// Two keys that are one: their places.
    #[must_use]
    pub fn twice(&self) -> Option<(usize, usize)> {
        let mut seen: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        let ids = self.0.iter().map(|entry| entry.public.id()).enumerate();
        ids.into_iter()
            .find_map(|(index, id)| seen.insert(id, index).map(|first| (first, index)))
    }

    /// Whether what was said counts; gives whose key it was.
    fn check(&self, said: &impl Said, seal: Option<&Seal>, role: Role, at: Timestamp) -> Result<&KeyEntry, Flaw> {
        let seal = seal.ok_or(Flaw::Unsigned)?;
        let key = || Arc::clone(&seal.key);
        let entry = self.0.iter().find(|entry| entry.public.id() == seal.key);
        let entry = entry.ok_or_else(|| Flaw::UnknownKey(key()))?;
        if entry.role != role {
            return Err(Flaw::Role {
                key: key(),
                role: entry.role,
            });
        }
        if !entry.public.signed(&said.words(&seal.key), &seal.signature) {
            return Err(Flaw::Altered(key()));
        }
        match entry.until {
            Some(until) if at >= until => Err(Flaw::Ended { key: key(), until }),
            _ => Ok(entry),
        }
    }

    /// Whether a request carries a permit of decide's for an executor; gives the freeze epoch that it was issued in.
    ///
    /// # Errors
    /// Why it does not.
    pub fn check_request<'a>(
        &self,
        request: &'a ActionRequest,
        executor: Option<&str>,
    ) -> Result<&'a FreezeEpoch, Flaw> {
        let permit = request.permit.as_ref().ok_or(Flaw::NoPermit)?;
        self.check(request, permit.seal.as_ref(), Role::Decide, request.at)?;
        match executor {
            Some(executor) if *permit.executor != *executor => Err(Flaw::OtherExecutor(Arc::clone(&permit.executor))),
            _ => Ok(&permit.epoch),
        }
    }

    /// Whether a command was given by whom it names.
    ///
    /// # Errors
    /// Why it was not.
    pub fn check_command(&self, command: &Command) -> Result<(), Flaw> {
        let entry = self.check(command, command.seal.as_ref(), Role::Person, command.at)?;
        own(entry, command.seal.as_ref(), &command.by)
    }

    /// Whether an outcome was told by the executor that it names.
    ///
    /// # Errors
    /// Why it was not.
    pub fn check_outcome(&self, outcome: &Outcome) -> Result<(), Flaw> {
        let entry = self.check(outcome, outcome.seal.as_ref(), Role::Executor, outcome.at)?;
        own(entry, outcome.seal.as_ref(), &outcome.executor)
    }

    /// Whether a checkpoint of the ledger was made by decide.
    ///
    /// # Errors
    /// Why it was not.
    pub fn check_checkpoint(&self, checkpoint: &crate::Checkpoint, seal: Option<&Seal>) -> Result<(), Flaw> {
        self.check(checkpoint, seal, Role::Decide, checkpoint.at).map(|_| ())
    }
}

fn own(entry: &KeyEntry, seal: Option<&Seal>, claimed: &Arc<str>) -> Result<(), Flaw> {
    if entry.who == *claimed {
        return Ok(());
    }
    Err(Flaw::Owner {
        key: seal.map_or_else(|| "".into(), |seal| Arc::clone(&seal.key)),
        owner: Arc::clone(&entry.who),
        claimed: Arc::clone(claimed),
    })
}
