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
    /// This build has no client for such a store.
    #[error(
        "{address}: this program was built without a client for such a store: build it with `--features {feature}`"
    )]
    NotBuilt {
        /// The address, without a password in it.
        address: String,
        /// What it must be built with.
        feature: &'static str,
    },
    /// Nothing is there, or it may not be written.
    #[error("the object store {address} cannot be used: {detail}")]
    Unusable {
        /// The address, without a password in it.
        address: String,
        /// What the client says.
        detail: String,
    },
}

/// What this crate, and the program, must be built with for an address; `None` where nothing is needed, or nobody knows such
/// a store.
fn feature_of(scheme: &str) -> Option<(&'static str, bool)> {
    match scheme {
        "s3" | "s3a" => Some(("s3", cfg!(feature = "s3"))),
        "gs" => Some(("gcs", cfg!(feature = "gcs"))),
        "az" | "abfs" | "abfss" | "adl" | "azure" => Some(("azure", cfg!(feature = "azure"))),
        _ => None,
    }
}

/// Whether this build could open a store at an address; asks nobody.
///
/// # Errors
/// [`Error::Address`] and [`Error::NotBuilt`].
pub fn check(address: &str) -> Result<(), Error> {
    parse(address).map(|_| ())
}

/// The address, and how it may be shown.
fn parse(address: &str) -> Result<(Url, Url), Error> {
    let url = Url::parse(address).map_err(|error| Error::Address {
        address: address.to_owned(),
        detail: error.to_string(),
    })?;
    let mut shown = url.clone();
    if shown.password().is_some() {
        shown.set_password(Some("…")).ok();
    }
    match feature_of(url.scheme()) {
        Some((feature, false)) => Err(Error::NotBuilt {
            address: shown.to_string(),
            feature,
        }),
        _ => Ok((url, shown)),
    }
}

/// What an error of the client does not say: that it fell back to the machine's own role.
fn hint(url: &Url, options: &[(String, String)]) -> &'static str {
    let names = |wanted: &[&str]| options.iter().any(|(name, _)| wanted.contains(&name.as_str()));
    match feature_of(url.scheme()) {
        Some(("s3", _))
            if !names(&[
                "aws_access_key_id",
                "aws_web_identity_token_file",
                "aws_container_credentials_relative_uri",
                "aws_container_credentials_full_uri",
                "aws_skip_signature",
            ]) =>
        {
            "; the environment has no AWS_ACCESS_KEY_ID, so the machine's own role is asked for"
        }
        Some(("gcs", _))
            if !names(&[
                "google_application_credentials",
                "google_service_account",
                "google_service_account_path",
                "google_service_account_key",
                "google_skip_signature",
            ]) =>
        {
            "; the environment has no GOOGLE_APPLICATION_CREDENTIALS, so the machine's own account is asked for"
        }
        _ => "",
    }
}

/// A folder or a bucket.
pub struct Store {
    address: String,
    store: Box<dyn ObjectStore>,
    below: Path,
    /// Ends what is said of errors, where the environment leaves something to be said.
    hint: &'static str,
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
        let (url, shown) = parse(address)?;
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
        let options: Vec<(String, String)> = options.collect();
        // the client says no more of this than that a request cannot be built
        let plain = options
            .iter()
            .find(|(name, value)| name.contains("endpoint") && value.starts_with("http://"));
        let allowed = options
            .iter()
            .any(|(name, value)| name.ends_with("_allow_http") && value.eq_ignore_ascii_case("true"));
        if let (Some((name, value)), Some(cloud), false) = (plain, feature_of(url.scheme()), allowed) {
            let prefix = if cloud.0 == "azure" { "AZURE" } else { "AWS" };
            return Err(unusable(format!(
                "{}={value} is not encrypted: set {prefix}_ALLOW_HTTP=true if that is what you want",
                name.to_ascii_uppercase()
            )));
        }
        let hint = hint(&url, &options);
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
            hint,
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
            Ok(Err(error)) => Err(ObjectsError(format!("{what}: {error}{}", self.hint))),
            Err(_) => {
                let within = WITHIN.as_secs();
                Err(ObjectsError(format!(
                    "{what}: no answer within {within} s{}",
                    self.hint
                )))
            }
        }
    }

    fn no_such_place(&self, what: &str) -> ObjectsError {
        ObjectsError(format!(
            "{what}: there is no such bucket, container or folder as {}",
            self.address
        ))
    }
}

impl Objects for Store {
    fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), ObjectsError> {
        let path = self.path(name);
        let done = self.wait(&format!("writing {path}"), self.store.put(&path, bytes.into()))?;
        match done {
            Some(_) => Ok(()),
            None => Err(self.no_such_place(&format!("writing {path}"))),
        }
    }

    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, ObjectsError> {
        let path = self.path(name);
        let what = format!("reading {path}");
        let read = async { self.store.get(&path).await?.bytes().await };
        let found = self.wait(&what, read)?.map(|bytes| bytes.to_vec());
        if found.is_none() {
            // an object that is missing and a bucket that is look alike, and the one is a lost snapshot and the other is not
            let any = async { self.store.list(Some(&self.below)).try_next().await };
            self.wait(&what, any)?.ok_or_else(|| self.no_such_place(&what))?;
        }
        Ok(found)
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, ObjectsError> {
        let path = self.path(prefix);
        let all = self.store.list(Some(&path)).map_ok(|meta| meta.location).try_collect();
        let what = format!("listing {path}");
        let found: Option<Vec<Path>> = self.wait(&what, all)?;
        let found = found.ok_or_else(|| self.no_such_place(&what))?;
        let names = found.into_iter().filter_map(|location| {
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

    #[test]
    fn a_store_that_this_build_has_no_client_for_names_what_to_build_with() {
        for (address, feature, built) in [
            ("s3://bucket/suture", "s3", cfg!(feature = "s3")),
            ("gs://bucket/suture", "gcs", cfg!(feature = "gcs")),
            ("az://container/suture", "azure", cfg!(feature = "azure")),
        ] {
            assert_eq!(check(address).is_ok(), built, "{address}");
            if !built {
                let error = Store::open(address, std::iter::empty()).unwrap_err().to_string();
                assert!(error.contains(&format!("`--features {feature}`")), "{error}");
            }
        }
        check("file:///var/lib/suture").unwrap();
        assert!(matches!(check("/var/lib"), Err(Error::Address { .. })));
    }

    /// A peer that answers every request with what it is told, and says what was asked.
    #[cfg(feature = "s3")]
    fn peer(
        answers: impl Fn(&str) -> String + Send + 'static,
    ) -> (
        std::collections::BTreeMap<&'static str, String>,
        std::sync::mpsc::Receiver<String>,
    ) {
        use std::io::{BufRead, BufReader, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (asked, heard) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let request = lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty());
                let request: Vec<String> = request.collect();
                let request = request.join("\n");
                stream.write_all(answers(&request).as_bytes()).ok();
                asked.send(request).ok();
            }
        });
        let environment = [
            ("AWS_ENDPOINT", endpoint),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_ACCESS_KEY_ID", "key".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
        ];
        (environment.into_iter().collect(), heard)
    }

    #[cfg(feature = "s3")]
    fn answer(status: &str, headers: &str, body: &str) -> String {
        let length = body.len();
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}")
    }

    #[cfg(feature = "s3")]
    fn bucket(environment: &std::collections::BTreeMap<&'static str, String>) -> Result<Store, Error> {
        let all = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()));
        Store::open("s3://shop/suture", all)
    }

    #[cfg(feature = "s3")]
    #[test]
    fn a_missing_object_is_none_and_a_missing_bucket_is_an_error() {
        let empty = "<ListBucketResult><Name>shop</Name><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>";
        let (there, _heard) = peer(move |request| match request.contains("list-type=2") {
            true => answer("200 OK", "", empty),
            false => answer("404 Not Found", "", "<Error><Code>NoSuchKey</Code></Error>"),
        });
        assert_eq!(bucket(&there).unwrap().get("g/in/0/0-1/0").unwrap(), None);
        let (nowhere, _heard) = peer(|_| answer("404 Not Found", "", "<Error><Code>NoSuchBucket</Code></Error>"));
        let store = bucket(&nowhere).unwrap();
        for error in [
            store.get("g/in/0/0-1/0").unwrap_err(),
            store.put("g/in/0/0-1/0", vec![1]).unwrap_err(),
            store.list("g/in/0/").unwrap_err(),
        ] {
            let said = error.to_string();
            assert!(
                said.contains("no such bucket") || said.contains("NoSuchBucket"),
                "{said}"
            );
        }
    }

    #[cfg(feature = "s3")]
    #[test]
    fn a_connection_that_is_cut_within_an_object_goes_on_where_it_was() {
        let head = "etag: \"1\"\r\nlast-modified: Mon, 01 Jun 2026 00:00:00 GMT\r\n";
        let (environment, heard) = peer(move |request| match request.contains("range: bytes=4-") {
            true => answer(
                "206 Partial Content",
                &format!("{head}content-range: bytes 4-9/10\r\n"),
                "456789",
            ),
            false => format!("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n{head}\r\n0123"),
        });
        let store = bucket(&environment).unwrap();
        assert_eq!(store.get("g/in/0/0-1/0").unwrap(), Some(b"0123456789".to_vec()));
        assert!(heard.recv().unwrap().starts_with("GET /shop/suture/g/in/0/0-1/0 "));
    }

    #[cfg(feature = "s3")]
    #[test]
    fn what_is_wrong_with_credentials_and_addresses_is_said() {
        let refusal = "<Error><Code>InvalidAccessKeyId</Code><Message>unknown key</Message></Error>";
        let (mut environment, _heard) = peer(move |_| answer("403 Forbidden", "", refusal));
        let error = bucket(&environment).unwrap().probe().unwrap_err().to_string();
        assert!(
            error.contains("InvalidAccessKeyId") && !error.contains("secret"),
            "{error}"
        );
        environment.remove("AWS_ALLOW_HTTP");
        let error = bucket(&environment).unwrap_err().to_string();
        assert!(error.contains("set AWS_ALLOW_HTTP=true"), "{error}");
    }
}
