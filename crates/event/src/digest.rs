//! Identities that come out the same on every machine and in every run.

use uuid::Uuid;
use xxhash_rust::xxh3::Xxh3;

/// A 64-bit hash of the parts in order (XXH3, seed 0), with a separator so that `["ab", "c"]` differs from `["a", "bc"]`.
#[must_use]
pub fn stable_hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut hasher = Xxh3::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.digest()
}

/// A 64-bit number as 16 lower-case hexadecimal digits.
#[must_use]
pub fn hex16(hash: u64) -> String {
    format!("{hash:016x}")
}

/// The RFC 4122 version 5 UUID of a name within Suture.
#[must_use]
pub fn stable_uuid(name: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("urn:suture:{name}").as_bytes())
}
