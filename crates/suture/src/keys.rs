//! `suture keys`: key files, and the keys that are built in for the demo.

use std::{
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail, ensure};
use suture_permit::{KeyEntry, Keyring, Role, SecretKey};

/// Makes and shows the keys that requests, commands and outcomes are signed with.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Debug, clap::Subcommand)]
enum Sub {
    /// Make a key. Its file is for its owner alone; what others need is printed, to go under `remediate.keys` in the pipeline file.
    New {
        /// Whose it is: a person's name, an executor's, or `decide`.
        who: String,
        /// What it may say.
        #[arg(long, value_name = "ROLE", value_parser = role)]
        role: Role,
        /// The file to make.
        #[arg(long, value_name = "FILE.key")]
        out: PathBuf,
    },
    /// Print what others need of key files, to go under `remediate.keys` in the pipeline file.
    List {
        /// The key files.
        #[arg(required = true, value_name = "FILE.key")]
        files: Vec<PathBuf>,
    },
    /// Make a new key for whoever has this one. Both count until the old one gets `until` in the pipeline file.
    Rotate {
        /// The file of the key of now.
        #[arg(value_name = "FILE.key")]
        file: PathBuf,
        /// The file to make.
        #[arg(long, value_name = "FILE.key")]
        out: PathBuf,
    },
}

fn role(text: &str) -> Result<Role, String> {
    Role::of(text).ok_or_else(|| "write decide, executor or person".to_owned())
}

/// Does what is asked with keys.
pub fn keys(args: &Args) -> anyhow::Result<()> {
    match &args.command {
        Sub::New { who, role, out } => {
            ensure!(!who.trim().is_empty(), "a key must be somebody's");
            let key = fresh(who, *role)?;
            write(&key, out)?;
            print(&[entry(&key)])
        }
        Sub::List { files } => {
            let keys = files
                .iter()
                .map(|file| open(file))
                .collect::<anyhow::Result<Vec<_>>>()?;
            print(&keys.iter().map(entry).collect::<Vec<_>>())
        }
        Sub::Rotate { file, out } => {
            let old = open(file)?;
            let new = fresh(&old.who, old.role)?;
            write(&new, out)?;
            print(&[entry(&new)])?;
            eprintln!(
                "key {} goes on counting beside it; once nobody signs with it any more, write `until:` with the time beside it in \
                 the pipeline file, and leave it there for as long as what it signed is to be checked",
                old.id()
            );
            Ok(())
        }
    }
}

fn fresh(who: &str, role: Role) -> anyhow::Result<SecretKey> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| anyhow::anyhow!("this machine gives no entropy: {error}"))?;
    Ok(SecretKey::from_seed(&seed, who, role))
}

fn write(key: &SecretKey, path: &Path) -> anyhow::Result<()> {
    let made = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let mut file = made.with_context(|| format!("cannot make {}", path.display()))?;
    file.write_all(key.to_file().as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}

fn entry(key: &SecretKey) -> KeyEntry {
    KeyEntry {
        who: Arc::clone(&key.who),
        role: key.role,
        public: key.public(),
        until: None,
    }
}

fn print(entries: &[KeyEntry]) -> anyhow::Result<()> {
    for entry in entries {
        println!("# key {}", entry.public.id());
        println!("- {}", serde_json::to_string(entry)?);
    }
    Ok(())
}

fn open(path: &Path) -> anyhow::Result<SecretKey> {
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
pub fn refuse_embedded(keys: &Keyring) -> anyhow::Result<()> {
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
    fn a_key_is_made_once_for_its_owner_alone_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ann.key");
        let key = fresh("ann", Role::Person).unwrap();
        write(&key, &path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(write(&key, &path).is_err(), "a key is never overwritten");
        assert_eq!(read(&path, Role::Person).unwrap().public(), key.public());
        let error = read(&path, Role::Decide).unwrap_err().to_string();
        assert!(
            error.ends_with("the key is of role person, and one of role decide is needed here"),
            "{error}"
        );
        assert!(require_listed(&Keyring::default(), &key, &path).is_err());
    }

    #[test]
    fn the_demos_keys_serve_no_real_broker() {
        assert!(refuse_embedded(&embedded_ring()).is_err());
        assert!(refuse_embedded(&Keyring::default()).is_ok());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("demo.key");
        write(&embedded(Role::Decide), &path).unwrap();
        assert!(read(&path, Role::Decide).is_err());
    }
}
