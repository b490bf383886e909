//! Where a console is served and who gets in: the part that a file of tokens and an address decide.

use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::{
    Console, Host, HttpLimits, Limits, Store,
    access::{AccessError, Entry, Role, Tokens},
    router,
    serve::{ServeError, serve},
};

/// Names of the loopback.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// The bounds of a console, as a file sets them: what it leaves out is as it is without.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bounds {
    /// How much is kept.
    pub kept: Limits,
    /// What requests are held to.
    pub http: HttpLimits,
}

impl Bounds {
    /// From a file, or as they are without.
    ///
    /// # Errors
    /// Where the file cannot be read, or has a bound that there is not.
    pub fn read(path: Option<&Path>) -> Result<Self, DoorError> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = text(path)?;
        serde_saphyr::from_str(&text).map_err(|error| DoorError::Bounds {
            path: path.to_owned(),
            error: error.to_string(),
        })
    }
}

/// Why a console has no door.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// A file cannot be read.
    #[error("cannot read {path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The token file can't be right.
    #[error("{path}: {error}")]
    Tokens {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: AccessError,
    },
    /// The file of bounds can't be right.
    #[error("{path}: {error}")]
    Bounds {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        error: String,
    },
    /// Others could come in without a token.
    #[error("{0}: others reach that address, so it needs a token file, which says who may look and what they may do")]
    Open(SocketAddr),
    /// There is no entropy to make a token of.
    #[error("this machine gives no entropy: {0}")]
    Entropy(getrandom::Error),
}

/// Where a console is served, and who gets in.
pub struct Door {
    listen: SocketAddr,
    tokens: Tokens,
    entries: Vec<Entry>,
    made: Option<String>,
    limits: HttpLimits,
}

impl Door {
    /// On an address, for those whom a file names. Without a file, and on the loopback alone, a token is made for this run, for
    /// `who`, with a role. On the loopback its own names are known beside those that the limits have.
    ///
    /// # Errors
    /// Where the file cannot be read or can't be right, or others than this machine could come in without one.
    pub fn new(
        listen: SocketAddr,
        tokens: Option<&Path>,
        mut limits: HttpLimits,
        who: &str,
        role: Role,
    ) -> Result<Self, DoorError> {
        let loopback = listen.ip().is_loopback();
        let (entries, made) = match tokens {
            Some(path) => (read(path)?, None),
            None if loopback => {
                let mut seed = [0; 24];
                getrandom::fill(&mut seed).map_err(DoorError::Entropy)?;
                let token = URL_SAFE_NO_PAD.encode(seed);
                (vec![Entry::of(&token, who, role)], Some(token))
            }
            None => return Err(DoorError::Open(listen)),
        };
        if loopback {
            limits.names.get_or_insert_default().extend(LOOPBACK.map(str::to_owned));
        }
        let error = |error| DoorError::Tokens {
            path: tokens.map_or_else(PathBuf::new, Path::to_owned),
            error,
        };
        Ok(Self {
            listen,
            tokens: Tokens::new(&entries, limits.per_second, limits.burst).map_err(error)?,
            entries,
            made,
            limits,
        })
    }

    /// Those who get in, with the files of the keys that their words are signed with.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Serves a console behind it until `stop` comes back. Gives the address to open in a browser, which holds the token where
    /// one was made, and what comes back when it has stopped.
    ///
    /// # Errors
    /// Where the address cannot be listened on.
    pub async fn serve(
        self,
        store: Arc<Store>,
        host: Result<Arc<dyn Host>, String>,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(String, tokio::task::JoinHandle<()>), ServeError> {
        let console = Console {
            store,
            tokens: self.tokens,
            host,
            limits: self.limits,
        };
        let connections = console.limits.connections;
        let (address, serving) = serve(self.listen, router(console), connections, stop).await?;
        let address = match address.ip() {
            ip if ip.is_unspecified() => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()),
            _ => address,
        };
        // what stands behind # is never sent, so it is in nobody's log
        let token = self.made.map_or_else(String::new, |token| format!("#token={token}"));
        Ok((format!("http://{address}/{token}"), serving))
    }
}

fn text(path: &Path) -> Result<String, DoorError> {
    std::fs::read_to_string(path).map_err(|error| DoorError::Read {
        path: path.to_owned(),
        error,
    })
}

fn read(path: &Path) -> Result<Vec<Entry>, DoorError> {
    Tokens::entries(&text(path)?).map_err(|error| DoorError::Tokens {
        path: path.to_owned(),
        error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(listen: &str, tokens: Option<&Path>) -> Result<Door, DoorError> {
        let limits = HttpLimits::default();
        Door::new(
            listen.parse().unwrap(),
            tokens,
            limits,
            "whoever started it",
            Role::Viewer,
        )
    }

    #[test]
    fn a_token_is_made_on_the_loopback_alone() {
        let made = |door: Door| door.made.unwrap();
        let (one, two) = (door("127.0.0.1:0", None).unwrap(), door("[::1]:0", None).unwrap());
        assert_eq!(&*one.entries()[0].who, "whoever started it");
        assert_ne!(made(one), made(two));
        let told = door("0.0.0.0:0", None).err().unwrap().to_string();
        assert!(told.contains("needs a token file"), "{told}");
    }

    #[test]
    fn a_token_file_opens_it_to_others_and_makes_no_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.yaml");
        std::fs::write(
            &path,
            format!("- {{who: mina, role: viewer, sha256: {}}}\n", "0a".repeat(32)),
        )
        .unwrap();
        assert!(door("0.0.0.0:0", Some(&path)).unwrap().made.is_none());
        std::fs::write(&path, "- {who: mina}\n").unwrap();
        let told = door("0.0.0.0:0", Some(&path)).err().unwrap().to_string();
        assert!(told.contains("tokens.yaml") && told.contains("role"), "{told}");
    }

    #[test]
    fn bounds_are_read_from_a_file_and_a_mistyped_one_is_told() {
        assert_eq!(Bounds::read(None).unwrap(), Bounds::default());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bounds.yaml");
        std::fs::write(
            &path,
            "kept: {incidents: 7}\nhttp: {streams: 2, names: [suture.example]}\n",
        )
        .unwrap();
        let bounds = Bounds::read(Some(&path)).unwrap();
        assert_eq!(
            (bounds.kept.incidents, bounds.kept.records),
            (7, Limits::default().records)
        );
        assert_eq!(bounds.http.names.unwrap(), ["suture.example"]);
        std::fs::write(&path, "kept: {incidence: 7}\n").unwrap();
        let told = Bounds::read(Some(&path)).unwrap_err().to_string();
        assert!(told.contains("bounds.yaml") && told.contains("incidence"), "{told}");
    }

    #[test]
    fn the_page_on_the_console_shows_every_bound_as_it_is() {
        let page = include_str!("../../../docs/console.md");
        let (_, rest) = page.split_once("```yaml\nkept:").unwrap();
        let shown: Bounds = serde_saphyr::from_str(&format!("kept:{}", rest.split_once("```").unwrap().0)).unwrap();
        let names = Some(vec!["suture.example".to_owned()]);
        let http = HttpLimits {
            names,
            ..HttpLimits::default()
        };
        let kept = Limits::default();
        assert_eq!(shown, Bounds { kept, http });
        let text = serde_json::to_value(&shown).unwrap();
        for name in ["kept", "http"]
            .iter()
            .flat_map(|part| text[part].as_object().unwrap().keys())
        {
            assert!(rest.contains(&format!("{name}: ")), "{name} is missing there");
        }
    }
}
