//! `suture keys`: key files are made, shown and replaced.

use std::{
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use suture_permit::{KeyEntry, Role, SecretKey};
use suture_service::keys::{entry, open};

/// Makes and shows the keys that requests, commands and outcomes are signed with.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
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
pub(crate) fn keys(args: &Args) -> anyhow::Result<()> {
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

fn print(entries: &[KeyEntry]) -> anyhow::Result<()> {
    for entry in entries {
        println!("# key {}", entry.public.id());
        println!("- {}", serde_json::to_string(entry)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    // what goes wrong here is a failed test
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt as _;

    use suture_permit::Keyring;
    use suture_service::keys::{read, require_listed};

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
}
