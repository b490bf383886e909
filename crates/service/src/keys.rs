//! Key files, and the keys that are built in for the demo.

use std::{os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use anyhow::{Context, bail, ensure};
use suture_permit::{KeyEntry, Keyring, Role, SecretKey};

/// What others need of a key, as it stands in the pipeline file.
#[must_use]
pub fn entry(key: &SecretKey) -> KeyEntry {
    KeyEntry {
        who: Arc::clone(&key.who),
        role: key.role,
        public: key.public(),
        until: None,
    }
}

/// Reads a key file of any role; says in the log where others can read it too.
///
/// # Errors
/// Where it can't be read, or is no key file.
pub fn open(path: &Path) -> anyhow::Result<SecretKey> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the key file {}", path.display()))?;
    let mode = std::fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(file = %path.display(), "others can read this key file: chmod 600");
    }
    SecretKey::from_file(&text).with_context(|| path.display().to_string())
}

/// Reads a key file of a role.
///
/// # Errors
/// Where it can't be read, or the key is of another role or built in.
pub fn read(path: &Path, role: Role) -> anyhow::Result<SecretKey> {
    let key = open(path)?;
    ensure!(
        key.role == role,
        "{}: the key is of role {}, and one of role {role} is needed here",
        path.display(),
        key.role
    );
    refuse_embedded(&Keyring::new(vec![entry(&key)]))?;
    Ok(key)
}

/// A key that nobody lists signs for nothing.
///
/// # Errors
/// Where it is not in the list.
pub fn require_listed(keys: &Keyring, key: &SecretKey, path: &Path) -> anyhow::Result<()> {
    let public = key.public();
    if keys.entries().iter().any(|entry| entry.public == public) {
        return Ok(());
    }
    bail!(
        "{}: key {} is not under `remediate.keys` in the pipeline file: add what `suture keys list {}` prints",
        path.display(),
        key.id(),
        path.display()
    )
}

/// A key of the demo. Everybody who has the program has it, so that it counts in the demo's own memory and nowhere else.
#[must_use]
pub fn embedded(role: Role) -> SecretKey {
    let (seed, who) = match role {
        Role::Decide => (*b"suture demo: anyone has this: 01", "decide"),
        Role::Executor => (*b"suture demo: anyone has this: 02", "shop"),
        Role::Person => (*b"suture demo: anyone has this: 03", "somebody on call"),
    };
    SecretKey::from_seed(&seed, who, role)
}

/// The public halves of the demo's keys.
#[must_use]
pub fn embedded_ring() -> Keyring {
    let roles = [Role::Decide, Role::Executor, Role::Person];
    Keyring::new(roles.map(|role| entry(&embedded(role))).to_vec())
}

/// Refuses keys of the demo, where there is a broker that others reach.
///
/// # Errors
/// Where one is among them.
pub(crate) fn refuse_embedded(keys: &Keyring) -> anyhow::Result<()> {
    for built_in in embedded_ring().entries() {
        if keys.entries().iter().any(|entry| entry.public == built_in.public) {
            bail!(
                "key {} is built into the program for its demo, and everybody has it: make one of your own with `suture keys new`",
                built_in.public.id()
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    // what goes wrong here is a failed test
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_demos_keys_serve_no_real_broker() {
        assert!(refuse_embedded(&embedded_ring()).is_err());
        assert!(refuse_embedded(&Keyring::default()).is_ok());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("demo.key");
        std::fs::write(&path, embedded(Role::Decide).to_file().as_bytes()).unwrap();
        assert!(read(&path, Role::Decide).is_err());
    }
}
