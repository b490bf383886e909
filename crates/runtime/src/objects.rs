//! Snapshots in an object store: sent off by a thread of their own, and listed in a commit once they are there.
//!
//! As in the state topic, a snapshot counts only where a committed mark lists it. Its name holds its epoch and offset, and
//! its bytes follow from these alone, so what a fenced shard may still be writing does no harm.

use std::{
    fmt,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use tracing::warn;

use crate::{
    Fingerprint,
    state::{Manifest, SnapshotId, StateStore, Subject},
};

/// What an object store could not do, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ObjectsError(pub String);

/// An object store: a folder, or a bucket. Calls block, and are bounded in time by the implementation.
pub trait Objects: Send + Sync + fmt::Debug {
    /// Writes an object, wholly or not at all, over what may be there.
    ///
    /// # Errors
    /// Where it is not known to be there.
    fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), ObjectsError>;

    /// Reads an object; `None` where there is none.
    ///
    /// # Errors
    /// Where the store cannot be asked.
    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, ObjectsError>;

    /// Names of all objects below a prefix that ends with `/`, in any order.
    ///
    /// # Errors
    /// Where the store cannot be asked.
    fn list(&self, prefix: &str) -> Result<Vec<String>, ObjectsError>;

    /// Deletes objects; one that is not there is no error.
    ///
    /// # Errors
    /// Where one may still be there.
    fn delete(&self, names: &[String]) -> Result<(), ObjectsError>;
}

/// A snapshot on its way.
pub(crate) struct Upload(mpsc::Receiver<Result<Manifest, String>>);

impl Upload {
    /// Compresses and sends a state, on a thread of its own.
    pub(crate) fn start(
        objects: Arc<dyn Objects>,
        store: StateStore,
        (id, digest, fingerprint, partitions): (SnapshotId, u64, Fingerprint, i32),
        state: Vec<u8>,
        piece: usize,
    ) -> Self {
        let (ended, upload) = mpsc::channel();
        let failed = ended.clone();
        let send = move || {
            let subject = Subject {
                id,
                digest,
                fingerprint: &fingerprint,
                partitions,
            };
            let done = put(objects.as_ref(), &store, &subject, &state, piece);
            // nobody waits for it any more where the shard has ended
            ended.send(done).ok();
        };
        if let Err(error) = thread::Builder::new().name("snapshot".to_owned()).spawn(send) {
            failed.send(Err(format!("no thread for it: {error}"))).ok();
        }
        Self(upload)
    }

    /// How it ended, if it has, after waiting no longer than that.
    pub(crate) fn ended(&self, wait: Duration) -> Option<Result<Manifest, String>> {
        match self.0.recv_timeout(wait) {
            Ok(done) => Some(done),
            Err(mpsc::RecvTimeoutError::Timeout) => None,
            Err(mpsc::RecvTimeoutError::Disconnected) => Some(Err("its thread came to a bad end".to_owned())),
        }
    }
}

/// The pieces first, then the manifest: what has one is complete.
fn put(
    objects: &dyn Objects,
    store: &StateStore,
    subject: &Subject<'_>,
    state: &[u8],
    piece: usize,
) -> Result<Manifest, String> {
    let (manifest, compressed) = store.pack(subject, state, piece).map_err(|error| error.to_string())?;
    for (n, bytes) in compressed.chunks(piece.max(1)).enumerate() {
        let name = store.object(subject.id, &n.to_string());
        objects.put(&name, bytes.to_vec()).map_err(|error| error.to_string())?;
    }
    let text = serde_json::to_vec(&manifest).map_err(|error| error.to_string())?;
    let name = store.object(subject.id, MANIFEST);
    objects.put(&name, text).map_err(|error| error.to_string())?;
    Ok(manifest)
}

const MANIFEST: &str = "manifest";

/// What the store says of a snapshot; `None` where it has none, or none that can be read.
pub(crate) fn manifest(
    objects: &dyn Objects,
    store: &StateStore,
    id: SnapshotId,
) -> Result<Option<Manifest>, ObjectsError> {
    let text = objects.get(&store.object(id, MANIFEST))?;
    Ok(text
        .and_then(|text| Manifest::read(&text).ok())
        .filter(|manifest| manifest.id() == id))
}

/// Loads a snapshot; an inner error says in words why it cannot be used.
pub(crate) fn load(
    objects: &dyn Objects,
    store: &StateStore,
    manifest: &Manifest,
) -> Result<Result<Vec<u8>, String>, ObjectsError> {
    let mut compressed = Vec::new();
    for n in 0..manifest.pieces {
        let name = store.object(manifest.id(), &n.to_string());
        match objects.get(&name)? {
            Some(piece) => compressed.extend_from_slice(&piece),
            None => return Ok(Err(format!("its piece {name} is missing"))),
        }
    }
    Ok(StateStore::unpack(manifest, &compressed))
}

/// Deletes snapshots that are no longer kept, on a thread of its own. What is left over goes at the shard's next start.
pub(crate) fn discard(objects: Arc<dyn Objects>, store: StateStore, ids: Vec<(SnapshotId, u32)>) {
    in_background(move || {
        let names: Vec<String> = ids
            .iter()
            .flat_map(|(id, pieces)| {
                let parts = std::iter::once(MANIFEST.to_owned()).chain((0..*pieces).map(|n| n.to_string()));
                parts.map(|part| store.object(*id, &part))
            })
            .collect();
        objects.delete(&names)
    });
}

/// Deletes what the store has of a shard that is older than the newest of these and not one of them: snapshots that nobody
/// lived to finish or to delete. What is newer may be what this shard, or whoever has taken it over while this process stood
/// still, has just written: that goes once there is a newer one still.
pub(crate) fn tidy(objects: Arc<dyn Objects>, store: StateStore, listed: Vec<SnapshotId>) {
    let Some(newest) = listed.iter().max().copied() else {
        return;
    };
    in_background(move || {
        let mut names = objects.list(&store.folder())?;
        names.retain(|name| {
            let id = store.id_of(name);
            id.is_some_and(|id| id < newest && !listed.contains(&id))
        });
        objects.delete(&names)
    });
}

fn in_background(work: impl FnOnce() -> Result<(), ObjectsError> + Send + 'static) {
    let run = move || {
        if let Err(error) = work() {
            warn!(%error, "old snapshots are not deleted; that is tried again when the shard starts");
        }
    };
    if let Err(error) = thread::Builder::new().name("tidy".to_owned()).spawn(run) {
        warn!(%error, "old snapshots are not deleted: no thread for it");
    }
}
