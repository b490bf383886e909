//! Snapshots in an object store, by its address: a folder, S3, Google Cloud Storage or Azure. Everything `object_store` is
//! here.
//!
//! What an address does not say, such as credentials and regions, comes from the environment, by the names that the clouds'
//! own tools use (`AWS_…`, `GOOGLE_…`, `AZURE_…`).

use std::{future::Future, time::Duration};

use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use suture_runtime::{Objects, ObjectsError};
use tokio::runtime::Runtime;
use url::Url;

/// How long one call may take, with what the client tries again by itself.
const WITHIN: Duration = Duration::from_secs(60);

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address is none.
    #[error("{address} is no address of an object store: {detail}")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        detail: String,
    },
    /// Nothing is there, it may not be written, or this build has no client for it.
    #[error("the object store {address} cannot be used: {detail}")]
    Unusable {
        /// The address, without a password in it.
        address: String,
        /// What the client says.
        detail: String,
    },
}

/// A folder or a bucket.
pub struct Store {
    address: String,
    store: Box<dyn ObjectStore>,
    below: Path,
    /// `None` once it is being dropped.
    runtime: Option<Runtime>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Store").field(&self.address).finish()
    }
}

impl Store {
    /// Opens the store at an address: `file:///FOLDER`, `s3://BUCKET/PREFIX`, `gs://…`, `az://…`; `environment` is what
    /// credentials are taken from. A folder is made where it is missing. Nothing is asked of a store elsewhere yet.
    ///
    /// # Errors
    /// Where the address is none, the folder cannot be made, or this build has no client for such a store.
    pub fn open(address: &str, environment: impl IntoIterator<Item = (String, String)>) -> Result<Self, Error> {
        let url = Url::parse(address).map_err(|error| Error::Address {
            address: address.to_owned(),
            detail: error.to_string(),
        })?;
        let mut shown = url.clone();
        if shown.password().is_some() {
            shown.set_password(Some("…")).ok();
        }
        let unusable = |detail: String| Error::Unusable {
            address: shown.to_string(),
            detail,
        };
        let prefixes = ["aws_", "google_", "azure_"];
        let options = environment.into_iter().filter_map(|(name, value)| {
            let name = name.to_ascii_lowercase();
            prefixes
                .iter()
                .any(|prefix| name.starts_with(prefix))
                .then_some((name, value))
        });
        if url.scheme() == "file"
            && let Ok(folder) = url.to_file_path()
        {
            std::fs::create_dir_all(folder).map_err(|error| unusable(error.to_string()))?;
        }
        let (store, below) =
            object_store::parse_url_opts(&url, options).map_err(|error| unusable(error.to_string()))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("objects")
            .enable_all()
            .build()
            .map_err(|error| unusable(error.to_string()))?;
        Ok(Self {
            address: shown.to_string(),
            store,
            below,
            runtime: Some(runtime),
        })
    }

    /// Writes an object and deletes it again.
    ///
    /// # Errors
    /// What keeps the store from taking snapshots at present.
    pub fn probe(&self) -> Result<(), ObjectsError> {
        let name = format!("probe-{}", std::process::id());
        self.put(&name, b"suture".to_vec())?;
        self.delete(&[name])
    }

    fn path(&self, name: &str) -> Path {
        let name = Path::from(name);
        self.below.parts().chain(name.parts()).collect()
    }

    /// Waits for a call, but not for ever.
    fn wait<T>(
        &self,
        what: &str,
        call: impl Future<Output = object_store::Result<T>>,
    ) -> Result<Option<T>, ObjectsError> {
        let Some(runtime) = &self.runtime else {
            return Err(ObjectsError(format!("{what}: the store is closed")));
        };
        match runtime.block_on(async { tokio::time::timeout(WITHIN, call).await }) {
            Ok(Ok(done)) => Ok(Some(done)),
            Ok(Err(object_store::Error::NotFound { .. })) => Ok(None),
            Ok(Err(error)) => Err(ObjectsError(format!("{what}: {error}"))),
            Err(_) => Err(ObjectsError(format!("{what}: no answer within {} s", WITHIN.as_secs()))),
        }
    }
}

impl Objects for Store {
    fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), ObjectsError> {
        let path = self.path(name);
        let done = self.wait(&format!("writing {path}"), self.store.put(&path, bytes.into()))?;
        match done {
            Some(_) => Ok(()),
            None => Err(ObjectsError(format!("writing {path}: there is no such place"))),
        }
    }

    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, ObjectsError> {
        let path = self.path(name);
        let read = async { self.store.get(&path).await?.bytes().await };
        Ok(self.wait(&format!("reading {path}"), read)?.map(|bytes| bytes.to_vec()))
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, ObjectsError> {
        let path = self.path(prefix);
        let all = self.store.list(Some(&path)).map_ok(|meta| meta.location).try_collect();
        let found: Option<Vec<Path>> = self.wait(&format!("listing {path}"), all)?;
        let names = found.unwrap_or_default().into_iter().filter_map(|location| {
            let parts: Vec<String> = location
                .prefix_match(&self.below)?
                .map(|part| part.as_ref().to_owned())
                .collect();
            Some(parts.join("/"))
        });
        Ok(names.collect())
    }

    fn delete(&self, names: &[String]) -> Result<(), ObjectsError> {
        for name in names {
            let path = self.path(name);
            self.wait(&format!("deleting {path}"), self.store.delete(&path))?;
        }
        Ok(())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // it may be dropped by a thread of another tokio runtime, which must not wait for this one to end
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &std::path::Path) -> Store {
        let address = Url::from_directory_path(folder).unwrap();
        Store::open(address.as_str(), std::iter::empty()).unwrap()
    }

    #[test]
    fn a_folder_keeps_lists_and_deletes_what_it_is_given() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder.path().join("made/as needed"));
        store.probe().unwrap();
        assert_eq!(
            store.list("").unwrap(),
            Vec::<String>::new(),
            "nothing of the probe is left"
        );
        for name in ["g/in/0/0-1/0", "g/in/0/0-1/manifest", "g/in/00/0-1/0"] {
            store.put(name, name.as_bytes().to_vec()).unwrap();
        }
        store.put("g/in/0/0-1/0", b"again".to_vec()).unwrap();
        assert_eq!(store.get("g/in/0/0-1/0").unwrap(), Some(b"again".to_vec()));
        assert_eq!(store.get("g/in/0/0-2/0").unwrap(), None);
        let mut listed = store.list("g/in/0/").unwrap();
        listed.sort();
        assert_eq!(listed, ["g/in/0/0-1/0", "g/in/0/0-1/manifest"]);
        store.delete(&[listed[0].clone(), "g/not/there".to_owned()]).unwrap();
        assert_eq!(store.list("g/in/0/").unwrap(), ["g/in/0/0-1/manifest"]);
        drop(store);
        assert_eq!(open(&folder.path().join("made/as needed")).list("g/").unwrap().len(), 2);
    }

    #[test]
    fn what_cannot_be_a_store_is_known_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        for address in [format!("file://{}/below", file.display()), "ftp://host/x".to_owned()] {
            let error = Store::open(&address, std::iter::empty()).unwrap_err().to_string();
            assert!(error.contains("cannot be used"), "{error}");
        }
        let error = Store::open("/var/lib", std::iter::empty()).unwrap_err();
        assert!(matches!(error, Error::Address { .. }), "{error}");
    }

    #[test]
    fn it_may_be_dropped_within_another_runtime() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async move { drop(store) });
    }
}
