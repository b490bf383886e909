//! Keys as files and settings hold them.

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use suture_event::Seal;

use crate::{Role, Said};

/// The first line of a key file.
const HEAD: &str = "suture secret key 1";

/// What is wrong with a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is no public key.
    #[error("{0:?} is no public key: write the 44 characters that `suture keys list` prints")]
    Public(String),
    /// The file is no key file.
    #[error("line {line}: {what}; a key file is what `suture keys new` writes")]
    File {
        /// Where.
        line: usize,
        /// What is wrong.
        what: String,
    },
}

/// An Ed25519 public key, in base64 where it is written.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Its id: the first 16 hexadecimal digits of its SHA-256.
    #[must_use]
    pub fn id(&self) -> Arc<str> {
        let digest = Sha256::digest(self.0.as_bytes());
        let mut id = String::with_capacity(16);
        for byte in digest.iter().take(8) {
            id.push_str(&format!("{byte:02x}"));
        }
        id.into()
    }

    /// Whether it made a signature on these words.
    #[must_use]
    pub fn signed(&self, words: &[u8], signature: &str) -> bool {
        STANDARD
            .decode(signature)
            .ok()
            .and_then(|bytes| Signature::from_slice(&bytes).ok())
            .is_some_and(|signature| self.0.verify_strict(words, &signature).is_ok())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for PublicKey {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        let bytes = STANDARD.decode(text.trim()).ok();
        let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes
            .and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok())
            .filter(|key| !key.is_weak())
            .map(Self)
            .ok_or(KeyError::Public(text))
    }
}

/// A secret key, and whose it is. Its memory is overwritten when it goes.
#[derive(Clone)]
pub struct SecretKey {
    key: SigningKey,
    id: Arc<str>,
    /// Whose it is: an executor's name, a person, or decide.
    pub who: Arc<str>,
    /// What it may say.
    pub role: Role,
}

impl fmt::Debug for SecretKey {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({} of {}, {})", self.id, self.who, self.role)
    }
}

impl SecretKey {
    /// A key from 32 bytes, which must come from a good source of entropy.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32], who: impl Into<Arc<str>>, role: Role) -> Self {
        let key = SigningKey::from_bytes(seed);
        let id = PublicKey(key.verifying_key()).id();
        Self {
            key,
            id,
            who: who.into(),
            role,
        }
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// What others check its signatures with.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.key.verifying_key())
    }

    /// Signs what is to be said.
    #[must_use]
    pub fn sign(&self, said: &impl Said) -> Seal {
        let signature = self.key.sign(&said.words(&self.id));
        Seal {
            key: Arc::clone(&self.id),
            signature: STANDARD.encode(signature.to_bytes()),
        }
    }

    /// The text of a key file. It holds the secret: only its owner may read it.
    #[must_use]
    pub fn to_file(&self) -> String {
        format!(
            "{HEAD}\nid: {}\nwho: {}\nrole: {}\npublic: {}\nsecret: {}\n",
            self.id,
            self.who,
            self.role,
            self.public(),
            STANDARD.encode(self.key.to_bytes())
        )
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// Where and what is wrong; never with the secret in it.
    pub fn from_file(text: &str) -> Result<Self, KeyError> {
        let wrong = |line: usize, what: &str| KeyError::File {
            line,
            what: what.to_owned(),
        };
        if text.lines().next().map(str::trim) != Some(HEAD) {
            return Err(wrong(1, "the file does not begin as a key file does"));
        }
        let field = |name: &str| {
            let mut lines = text.lines().enumerate();
            lines.find_map(|(line, text)| {
                let (key, value) = text.split_once(':')?;
                (key.trim() == name).then(|| (line + 1, value.trim()))
            })
        };
        let needed = |name: &str| field(name).ok_or_else(|| wrong(1, &format!("there is no `{name}:`")));
        let (line, who) = needed("who")?;
        if who.is_empty() {
            return Err(wrong(line, "`who` is empty"));
        }
        let (line, role) = needed("role")?;
        let role = Role::of(role).ok_or_else(|| wrong(line, "`role` is none of decide, executor and person"))?;
        let (line, secret) = needed("secret")?;
        let seed = STANDARD.decode(secret).ok().and_then(|s| <[u8; 32]>::try_from(s).ok());
        let seed = seed.ok_or_else(|| wrong(line, "`secret` is not 32 bytes in base64"))?;
        let key = Self::from_seed(&seed, who, role);
        if let Some((line, id)) = field("id")
            && *id != *key.id
        {
            return Err(wrong(line, "`id` is not that of the secret: the file was changed"));
        }
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_read_as_it_was_written_and_one_that_was_changed_is_refused() {
        let key = SecretKey::from_seed(&[7; 32], "ann", Role::Person);
        let text = key.to_file();
        let read = SecretKey::from_file(&text).unwrap();
        assert_eq!((read.id(), &*read.who, read.role), (key.id(), "ann", Role::Person));
        assert_eq!(read.public(), key.public());
        let error = SecretKey::from_file(&text.replace("secret: B", "secret: C")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "line 2: `id` is not that of the secret: the file was changed; a key file is what `suture keys new` writes"
        );
        assert!(SecretKey::from_file("-----BEGIN PRIVATE KEY-----").is_err());
        assert!(!format!("{key:?}").contains("secret"));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["", "abc", &STANDARD.encode([0; 31]), &STANDARD.encode([0; 32])] {
            assert!(PublicKey::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
