//! Who may do what: bearer tokens, each somebody's with a role, and what a browser is held to.

use std::{collections::BTreeMap, num::NonZeroU32, path::PathBuf, sync::Arc, time::Duration};

use governor::{DefaultDirectRateLimiter, Quota};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What the owner of a token may do, each with everything that those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Look.
    Viewer,
    /// Take and label incidents, and freeze a scope.
    Operator,
    /// Approve, deny and undo actions, and thaw a scope.
    Approver,
    /// Everything.
    Admin,
}

impl Role {
    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Approver => "approver",
            Self::Admin => "admin",
        }
    }
}

/// A token as its file has it: never the token itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Whose it is: the name that stands in the ledger.
    pub who: Arc<str>,
    /// What they may do.
    pub role: Role,
    /// The SHA-256 of the token, 64 hexadecimal digits.
    pub sha256: String,
    /// The file of the key, of role person, that this person's words are signed with. Without it nothing that they say is
    /// passed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

impl Entry {
    /// Of a token.
    #[must_use]
    pub fn of(token: &str, who: &str, role: Role) -> Self {
        Self {
            who: who.into(),
            role,
            sha256: hex(&digest(token)),
            key: None,
        }
    }
}

/// What is wrong with tokens.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// The file is no list of tokens.
    #[error("{0}: a token file is a list of `{{who: NAME, role: viewer|operator|approver|admin, sha256: HEX}}`")]
    File(String),
    /// An entry has no owner.
    #[error("token {0}: it must be somebody's, by name")]
    Nobody(usize),
    /// A digest is none.
    #[error("token {0}, of {1}: sha256 is 64 hexadecimal digits, as `printf %s TOKEN | sha256sum` prints them")]
    Digest(usize, Arc<str>),
    /// A token is there twice.
    #[error("token {0}, of {1}, is there twice: each is one person's")]
    Twice(usize, Arc<str>),
    /// There are too many.
    #[error("{0} tokens, where {MOST} are the most")]
    TooMany(usize),
}

/// A token file has no more than these.
pub const MOST: usize = 1_000;
/// No token is longer than this.
const LONGEST: usize = 512;

/// The owner of a token, and how fast they may ask.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) who: Arc<str>,
    pub(crate) role: Role,
    pub(crate) pace: DefaultDirectRateLimiter,
}

/// All tokens, by their digests. Without any, nobody gets in.
#[derive(Debug)]
pub struct Tokens {
    owners: BTreeMap<[u8; 32], Arc<Owner>>,
}

impl Tokens {
    /// From entries; each owner may ask `per_second` times a second, and `burst` times at once.
    ///
    /// # Errors
    /// Where one of them can't be right.
    pub fn new(entries: &[Entry], per_second: u32, burst: u32) -> Result<Self, AccessError> {
        if entries.len() > MOST {
            return Err(AccessError::TooMany(entries.len()));
        }
        let mut owners = BTreeMap::new();
        for (number, entry) in (1..).zip(entries) {
            if entry.who.trim().is_empty() {
                return Err(AccessError::Nobody(number));
            }
            let digest = unhex(&entry.sha256).ok_or_else(|| AccessError::Digest(number, entry.who.clone()))?;
            let owner = Owner {
                who: entry.who.clone(),
                role: entry.role,
                pace: pace(per_second, burst),
            };
            if owners.insert(digest, Arc::new(owner)).is_some() {
                return Err(AccessError::Twice(number, entry.who.clone()));
            }
        }
        Ok(Self { owners })
    }

    /// The entries of a token file.
    ///
    /// # Errors
    /// Where it is no list of them.
    pub fn entries(text: &str) -> Result<Vec<Entry>, AccessError> {
        serde_saphyr::from_str(text).map_err(|error| AccessError::File(error.to_string()))
    }

    /// The owner of a token. It is looked up by its digest, so that the time it takes says nothing about other tokens.
    pub(crate) fn owner(&self, token: &str) -> Option<&Arc<Owner>> {
        if token.len() > LONGEST {
            return None;
        }
        self.owners.get(&digest(token))
    }
}

/// So many a second, and so many at once.
pub(crate) fn pace(per_second: u32, burst: u32) -> DefaultDirectRateLimiter {
    let at_least_one = |n: u32| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
    let every = Duration::from_secs(1) / at_least_one(per_second).get();
    let quota = Quota::with_period(every).unwrap_or(Quota::per_second(NonZeroU32::MIN));
    DefaultDirectRateLimiter::direct(quota.allow_burst(at_least_one(burst)))
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// Why a page may not ask: it is of another origin, or the name it calls this server by is none of its names.
///
/// # Errors
/// Why not.
pub(crate) fn same_origin(
    host: Option<&str>,
    origin: Option<&str>,
    site: Option<&str>,
    names: Option<&[String]>,
) -> Result<(), &'static str> {
    let host = host.unwrap_or_default();
    if let Some(names) = names
        && !host.is_empty()
        && !names.iter().any(|name| name.eq_ignore_ascii_case(without_port(host)))
    {
        // a name of somebody else's that was made to point here
        return Err("this server is not called that: see the names it may be called by");
    }
    if let Some(origin) = origin {
        let authority = origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"));
        if authority.is_none_or(|authority| !authority.eq_ignore_ascii_case(host)) {
            return Err("a page of another origin may not ask");
        }
    }
    if site.is_some_and(|site| site != "same-origin" && site != "none") {
        return Err("a page of another site may not ask");
    }
    Ok(())
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_file_is_read_and_what_is_wrong_with_it_is_told() {
        let good = format!(
            "- {{who: mina, role: approver, sha256: \"{}\", key: mina.key}}\n",
            "ab".repeat(32)
        );
        let entries = Tokens::entries(&good).unwrap();
        assert_eq!(entries[0].role, Role::Approver);
        Tokens::new(&entries, 10, 10).unwrap();
        let twice = [entries.clone(), entries].concat();
        assert_eq!(
            Tokens::new(&twice, 10, 10).unwrap_err(),
            AccessError::Twice(2, "mina".into())
        );
        let short = "- {who: mina, role: viewer, sha256: abc}";
        let error = Tokens::new(&Tokens::entries(short).unwrap(), 10, 10).unwrap_err();
        assert!(error.to_string().contains("64 hexadecimal digits"), "{error}");
        let error = Tokens::entries("- {who: mina, role: king, sha256: abc}").unwrap_err();
        assert!(error.to_string().contains("king"), "{error}");
    }

    #[test]
    fn a_token_is_known_by_its_digest_alone() {
        let tokens = Tokens::new(&[Entry::of("a secret", "mina", Role::Viewer)], 10, 10).unwrap();
        assert_eq!(&*tokens.owner("a secret").unwrap().who, "mina");
        assert!(tokens.owner("another").is_none());
        assert!(tokens.owner(&"a secret".repeat(100)).is_none());
    }

    #[test]
    fn other_origins_and_names_are_refused() {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned(), "[::1]".to_owned()];
        let check = |host, origin, site| same_origin(Some(host), origin, site, Some(&names));
        assert!(check("localhost:80", None, None).is_ok());
        assert!(check("[::1]:80", None, Some("none")).is_ok());
        assert!(check("localhost:80", Some("http://localhost:80"), Some("same-origin")).is_ok());
        assert!(check("localhost:80", Some("http://localhost:81"), None).is_err());
        assert!(check("localhost:80", Some("null"), None).is_err());
        assert!(check("localhost:80", None, Some("cross-site")).is_err());
        assert!(check("evil.example:80", Some("http://evil.example:80"), None).is_err());
    }
}
