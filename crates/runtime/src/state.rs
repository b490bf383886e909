//! Snapshots in a compacted topic: in pieces below the broker's limit, complete once their manifest is there.
//!
//! Pieces and manifests are written in the shard's own transactions, so a fenced shard cannot write them. A snapshot's key
//! holds its epoch and offset, so no snapshot is written over another; the newest two are kept and the others deleted.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use suture_event::{hex16, stable_hash};
use suture_log::{Isolation, Log, Offset, OutRecord, RecordRef, TopicPartition, partition_of};
use tracing::warn;

use crate::{Error, Fingerprint};

/// The layout that this version writes, and the highest it reads.
pub(crate) const VERSION: u32 = 1;
/// How long reading may bring nothing at all.
const PATIENCE: Duration = Duration::from_secs(30);
const LEVEL: i32 = 1;

/// Which snapshot of a shard; in order of age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SnapshotId {
    pub(crate) epoch: u32,
    pub(crate) offset: Offset,
}

impl SnapshotId {
    /// From `EPOCH-OFFSET`.
    fn parse(text: &str) -> Option<Self> {
        let (epoch, offset) = text.split_once('-')?;
        Some(Self {
            epoch: epoch.parse().ok()?,
            offset: offset.parse().ok()?,
        })
    }
}

/// What a snapshot is, written after its pieces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) version: u32,
    pub(crate) shard: String,
    pub(crate) epoch: u32,
    pub(crate) offset: Offset,
    /// The fold's digest, as 16 hexadecimal digits.
    pub(crate) digest: String,
    pub(crate) fingerprint: Fingerprint,
    /// Partitions of the input topic.
    pub(crate) partitions: i32,
    pub(crate) pieces: u32,
    /// Size of the state itself.
    pub(crate) bytes: u64,
    /// Size of the pieces together.
    pub(crate) compressed: u64,
    /// XXH3 of the pieces together, as 16 hexadecimal digits.
    pub(crate) checksum: String,
}

/// Pieces of a snapshot at most: with the default size of a piece, 32 GiB, where a state of a million series has a tenth of one.
const PIECES: u32 = 65_536;

/// How much larger a state may be than what it was compressed to, beside what any may be. Real states come to 20 times; what
/// repeats a byte comes to some 30,000 times, and would take memory for what nobody has ever written.
const RATIO: u64 = 4_096;
const ANY: u64 = 64 << 20;

impl Manifest {
    /// Reads one, whoever wrote it; an error says in words why it is none. What it counts is bounded by what a snapshot of this
    /// program can come to, so that memory may be taken by it.
    pub(crate) fn read(text: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if manifest.pieces > PIECES || u64::from(manifest.pieces) > manifest.compressed {
            return Err(format!(
                "it says that {} bytes are in {} pieces, and no snapshot has more than {PIECES}",
                manifest.compressed, manifest.pieces
            ));
        }
        let most = largest(manifest.compressed);
        if manifest.bytes > most {
            return Err(format!(
                "it says that its {} bytes hold a state of {}, and none is larger than {most}",
                manifest.compressed, manifest.bytes
            ));
        }
        Ok(manifest)
    }

    pub(crate) const fn id(&self) -> SnapshotId {
        SnapshotId {
            epoch: self.epoch,
            offset: self.offset,
        }
    }
}

/// The largest state that so many bytes may hold.
const fn largest(compressed: u64) -> u64 {
    let most = compressed.saturating_mul(RATIO);
    if most > ANY { most } else { ANY }
}

/// What a snapshot is of.
pub(crate) struct Subject<'a> {
    pub(crate) id: SnapshotId,
    pub(crate) digest: u64,
    pub(crate) fingerprint: &'a Fingerprint,
    pub(crate) partitions: i32,
}

/// Where one shard's snapshots are.
#[derive(Debug, Clone)]
pub(crate) struct StateStore {
    place: TopicPartition,
    prefix: String,
}

/// What the state topic holds of a shard.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    pub(crate) manifests: BTreeMap<SnapshotId, Manifest>,
    /// Snapshots in the object store that a mark lists.
    pub(crate) away: BTreeMap<SnapshotId, Manifest>,
    /// Offsets of the pieces, by snapshot and number.
    pieces: BTreeMap<SnapshotId, BTreeMap<u32, Offset>>,
    /// The pieces of the snapshot that is looked for, so that they need not be read a second time.
    held: BTreeMap<u32, Vec<u8>>,
    of: Option<SnapshotId>,
}

impl Inventory {
    /// Snapshots that are not among `listed`, with the number of their pieces: their writer did not live to finish them,
    /// or to delete them.
    pub(crate) fn others(&self, listed: &[SnapshotId]) -> Vec<(SnapshotId, u32)> {
        let ids: BTreeSet<SnapshotId> = self.manifests.keys().chain(self.pieces.keys()).copied().collect();
        let pieces = |id| {
            self.pieces
                .get(&id)
                .and_then(|pieces| pieces.keys().max())
                .map_or(0, |last| last + 1)
        };
        ids.into_iter()
            .filter(|id| !listed.contains(id))
            .map(|id| (id, pieces(id)))
            .collect()
    }

    pub(crate) fn last_epoch(&self) -> Option<u32> {
        self.manifests.keys().chain(self.pieces.keys()).map(|id| id.epoch).max()
    }

    /// The same without that snapshot.
    pub(crate) fn last_epoch_beside(&self, beside: SnapshotId) -> Option<u32> {
        let ids = self.manifests.keys().chain(self.pieces.keys());
        ids.filter(|id| **id != beside).map(|id| id.epoch).max()
    }
}

fn warn_of_manifest(record: RecordRef<'_>, why: &str) {
    let key = String::from_utf8_lossy(record.key.unwrap_or_default());
    warn!(offset = record.offset, %key, why, "a manifest in the state topic is none of this program's, and is passed over");
}

/// What a key of the state topic says.
enum Part {
    Piece(u32),
    Manifest,
}

impl StateStore {
    /// The store of one shard.
    ///
    /// # Errors
    /// Where the topic cannot be described or does not exist.
    pub(crate) fn new(log: &dyn Log, topic: &str, group: &str, shard: &TopicPartition) -> Result<Self, Error> {
        let info = log.topic(topic)?.ok_or_else(|| Error::NoTopic {
            topic: topic.to_owned(),
        })?;
        let prefix = format!("{group}/{shard}@");
        let partition = partition_of(prefix.as_bytes(), info.partitions);
        Ok(Self {
            place: TopicPartition::new(topic, partition),
            prefix,
        })
    }

    /// Where the partition of the state topic ends now.
    pub(crate) fn end(&self, log: &dyn Log) -> Result<Offset, Error> {
        Ok(log.range(&self.place)?.end)
    }

    pub(crate) fn key(&self, id: SnapshotId, part: &str) -> Vec<u8> {
        format!("{}{}-{}#{part}", self.prefix, id.epoch, id.offset).into_bytes()
    }

    fn parse(&self, key: &[u8]) -> Option<(SnapshotId, Part)> {
        let rest = std::str::from_utf8(key.strip_prefix(self.prefix.as_bytes())?).ok()?;
        let (id, part) = rest.split_once('#')?;
        let id = SnapshotId::parse(id)?;
        let part = if part == "manifest" {
            Part::Manifest
        } else {
            Part::Piece(part.parse().ok()?)
        };
        Some((id, part))
    }

    pub(crate) fn record(&self, key: Vec<u8>, value: Option<Vec<u8>>) -> OutRecord {
        OutRecord {
            topic: self.place.topic.clone(),
            partition: Some(self.place.partition),
            key: Some(key),
            value,
            ..OutRecord::default()
        }
    }

    /// Compresses a state and cuts it up: the pieces in order, then the manifest.
    pub(crate) fn encode(
        &self,
        subject: &Subject<'_>,
        state: &[u8],
        piece: usize,
    ) -> std::io::Result<(Manifest, Vec<OutRecord>)> {
        let (manifest, compressed) = self.pack(subject, state, piece)?;
        let mut records: Vec<OutRecord> = compressed
            .chunks(piece.max(1))
            .enumerate()
            .map(|(n, bytes)| self.record(self.key(subject.id, &n.to_string()), Some(bytes.to_vec())))
            .collect();
        let text = serde_json::to_vec(&manifest).map_err(std::io::Error::other)?;
        records.push(self.record(self.key(subject.id, "manifest"), Some(text)));
        Ok((manifest, records))
    }

    /// Compresses a state, which is then cut into pieces of that size, and says what it is.
    pub(crate) fn pack(
        &self,
        subject: &Subject<'_>,
        state: &[u8],
        piece: usize,
    ) -> std::io::Result<(Manifest, Vec<u8>)> {
        let compressed = zstd::bulk::compress(state, LEVEL)?;
        if state.len() as u64 > largest(compressed.len() as u64) {
            // it would not be read back
            let what = format!(
                "{} bytes of state compress to {}: nothing but repetition",
                state.len(),
                compressed.len()
            );
            return Err(std::io::Error::other(what));
        }
        let pieces = compressed.len().div_ceil(piece.max(1));
        let pieces = u32::try_from(pieces).ok().filter(|pieces| *pieces <= PIECES);
        let pieces = pieces.ok_or_else(|| std::io::Error::other(format!("it has more than {PIECES} pieces")))?;
        let manifest = Manifest {
            version: VERSION,
            shard: self.prefix.trim_end_matches('@').to_owned(),
            epoch: subject.id.epoch,
            offset: subject.id.offset,
            digest: hex16(subject.digest),
            fingerprint: subject.fingerprint.clone(),
            partitions: subject.partitions,
            pieces,
            bytes: state.len() as u64,
            compressed: compressed.len() as u64,
            checksum: hex16(stable_hash([compressed.as_slice()])),
        };
        Ok((manifest, compressed))
    }

    /// The state of what its pieces, put together, hold; an inner error says in words why there is none.
    pub(crate) fn unpack(manifest: &Manifest, compressed: &[u8]) -> Result<Vec<u8>, String> {
        if manifest.version > VERSION {
            return Err(format!(
                "it has layout {}, and this program reads up to {VERSION}",
                manifest.version
            ));
        }
        if hex16(stable_hash([compressed])) != manifest.checksum {
            return Err("its checksum does not fit its contents".to_owned());
        }
        if compressed.len() as u64 != manifest.compressed {
            return Err(format!(
                "it is of {} bytes and not of {}",
                compressed.len(),
                manifest.compressed
            ));
        }
        let size = usize::try_from(manifest.bytes).map_err(|_| "it is larger than any memory".to_owned())?;
        zstd::bulk::decompress(compressed, size).map_err(|error| format!("it does not decompress: {error}"))
    }

    /// Where an object store keeps the shard's snapshots.
    pub(crate) fn folder(&self) -> String {
        format!("{}/", self.prefix.trim_end_matches('@'))
    }

    /// Name of a part of a snapshot in an object store.
    pub(crate) fn object(&self, id: SnapshotId, part: &str) -> String {
        format!("{}{}-{}/{part}", self.folder(), id.epoch, id.offset)
    }

    /// Which snapshot an object of that name is a part of; `None` where it is none of this shard's.
    pub(crate) fn id_of(&self, name: &str) -> Option<SnapshotId> {
        let (id, _) = name.strip_prefix(&self.folder())?.split_once('/')?;
        SnapshotId::parse(id)
    }

    /// What deletes a snapshot, its manifest first.
    pub(crate) fn tombstones(&self, id: SnapshotId, pieces: u32) -> Vec<OutRecord> {
        let parts = std::iter::once("manifest".to_owned()).chain((0..pieces).map(|n| n.to_string()));
        parts.map(|part| self.record(self.key(id, &part), None)).collect()
    }

    /// Looks through the state topic from an offset on, or from its start where it no longer reaches back so far.
    /// Holds the pieces of `wanted`.
    pub(crate) fn inventory(
        &self,
        log: &dyn Log,
        from: Offset,
        wanted: Option<SnapshotId>,
    ) -> Result<Inventory, Error> {
        let mut inventory = Inventory {
            of: wanted,
            ..Inventory::default()
        };
        self.scan(log, from, &mut |record| {
            let Some((id, part)) = record.key.and_then(|key| self.parse(key)) else {
                return true;
            };
            match (part, record.value) {
                (Part::Manifest, Some(value)) => {
                    match Manifest::read(value).map(|manifest| (manifest.id() == id, manifest)) {
                        Ok((true, manifest)) => {
                            inventory.manifests.insert(id, manifest);
                        }
                        Ok((false, _)) => warn_of_manifest(record, "it is another snapshot's"),
                        Err(why) => warn_of_manifest(record, &why),
                    }
                }
                (Part::Manifest, None) => {
                    inventory.manifests.remove(&id);
                }
                (Part::Piece(n), Some(value)) => {
                    if Some(id) == inventory.of {
                        inventory.held.insert(n, value.to_vec());
                    }
                    inventory.pieces.entry(id).or_default().insert(n, record.offset);
                }
                (Part::Piece(n), None) => {
                    if Some(id) == inventory.of {
                        inventory.held.remove(&n);
                    }
                    if let Some(pieces) = inventory.pieces.get_mut(&id) {
                        pieces.remove(&n);
                        if pieces.is_empty() {
                            inventory.pieces.remove(&id);
                        }
                    }
                }
            }
            true
        })?;
        Ok(inventory)
    }

    /// Loads a snapshot; an inner error says in words why it cannot be used.
    pub(crate) fn load(
        &self,
        log: &dyn Log,
        inventory: &Inventory,
        manifest: &Manifest,
    ) -> Result<Result<Vec<u8>, String>, Error> {
        // of a piece that was written twice, by a writer that began anew, the newest counts
        let wanted: BTreeMap<Offset, u32> = inventory
            .pieces
            .get(&manifest.id())
            .into_iter()
            .flatten()
            .filter(|(n, _)| **n < manifest.pieces)
            .map(|(n, offset)| (*offset, *n))
            .collect();
        let mut found: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        let held = inventory.of == Some(manifest.id());
        if let Some(first) = wanted.keys().next().filter(|_| !held) {
            self.scan(log, *first, &mut |record| {
                if let (Some(n), Some(value)) = (wanted.get(&record.offset), record.value) {
                    found.insert(*n, value.to_vec());
                }
                found.len() < wanted.len()
            })?;
        }
        let found = if held { &inventory.held } else { &found };
        let pieces: Vec<&[u8]> = found
            .range(..manifest.pieces)
            .map(|(_, piece)| piece.as_slice())
            .collect();
        if pieces.len() != manifest.pieces as usize {
            return Ok(Err(format!(
                "{} of its {} pieces are missing",
                manifest.pieces as usize - pieces.len(),
                manifest.pieces
            )));
        }
        let compressed = pieces.concat();
        Ok(Self::unpack(manifest, &compressed))
    }

    /// Reads to the end, or until `sink` has enough.
    fn scan(&self, log: &dyn Log, from: Offset, sink: &mut dyn FnMut(RecordRef<'_>) -> bool) -> Result<(), Error> {
        let range = log.range(&self.place)?;
        let from = if (range.start..=range.end).contains(&from) {
            from
        } else {
            range.start
        };
        if from == range.end {
            return Ok(());
        }
        // In read_committed, a transaction that another shard left open in this partition would hold this one up until it
        // times out. What was aborted does no harm here: only a snapshot that a committed mark lists is ever used, and its
        // bytes follow from its epoch and offset alone, whoever wrote them.
        let mut reader = log.reader(&self.place, from, Isolation::ReadUncommitted)?;
        let mut enough = false;
        loop {
            let mut count = 0;
            let end = reader.read(PATIENCE, 1024, &mut |record| {
                count += 1;
                enough = enough || !sink(record);
            })?;
            if end || enough {
                return Ok(());
            }
            if count == 0 {
                return Err(suture_log::Error::Indefinite {
                    what: format!("reading {}", self.place),
                    detail: format!("nothing came for {} s", PATIENCE.as_secs()),
                }
                .into());
            }
        }
    }
}
