//! What the runtime asks of the state machine that it drives.

use suture_event::{ShardId, Timestamp};
use suture_log::{Batch, Offset, OutRecord, RecordRef};

/// What a fold could not do. The shard stops: a fold does not fail on input, only on snapshots that are not its own and on
/// its own invariants.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FoldError(pub String);

/// A deterministic state machine over one partition.
///
/// After the same records, `snapshot`, `digest` and the outputs of what follows are the same, byte for byte, on every
/// machine, however the records were cut into batches, however often the state went through a snapshot, however often
/// [`Fold::tick`] was called, as long as [`Fold::pass_silence`] is called between the same records. A fold whose outputs are packed, many to a record, may cut them into records as its input comes
/// in batches, as long as what is packed, and its order, is the same: everything that a batch led to must be put out with it.
///
/// **Ticks are no part of the state.** When a shard is restored, records are replayed and ticks are not, so a tick may only
/// say what it knows: nothing that it changes may show in `snapshot`, in `digest` or in the output of a record. What time
/// does to decisions goes by way of the facts that ticks write, which are committed with the shard's offset and are then
/// data. For the numbering of facts this means that a progress mark does not use up a number: it carries that of the next
/// fact.
pub trait Fold: Send {
    /// One record.
    fn record(&mut self, record: RecordRef<'_>, out: &mut Outputs);

    /// Records in order; to be overridden where several at once are cheaper than one by one.
    fn batch(&mut self, batch: &Batch, out: &mut Outputs) {
        for record in batch.iter() {
            self.record(record, out);
        }
    }

    /// Wall time has gone on: about every [`crate::Options::tick_interval`] while the shard is live, and before each commit
    /// of what records led to, where the plane asks for ticks.
    fn tick(&mut self, tick: Tick<'_>, out: &mut Outputs);

    /// Up to which time the fold wants to go on though no record has come, if it does: asked before each tick. Nothing may
    /// change by it.
    fn silent_to(&self, tick: Tick<'_>) -> Option<Timestamp> {
        let _ = tick;
        None
    }

    /// Goes on to that time. Unlike a tick it is part of the state: the runtime journals it with the shard's offset, in the
    /// transaction of its outputs, and a restored shard is told it again between the same two records. The last of several
    /// between the same two must lead to the state that all of them do, and one that was done already must do nothing.
    fn pass_silence(&mut self, to: Timestamp, out: &mut Outputs) {
        let _ = (to, out);
    }

    /// The shard goes on, or begins, in this epoch: told before it is live. No part of the state.
    fn resume(&mut self, epoch: u32) {
        let _ = epoch;
    }

    /// A new epoch begins here: what was done before cannot be refolded into what is done from here on. Called before the
    /// first record of the epoch; its outputs are committed together with a snapshot, so it may change the state.
    fn epoch(&mut self, epoch: &Epoch, out: &mut Outputs);

    /// The whole state. May be large; the runtime compresses it, checks it and cuts it into pieces.
    ///
    /// # Errors
    /// Where the state cannot be written: the shard stops.
    fn snapshot(&self) -> Result<Vec<u8>, FoldError>;

    /// Takes over a state that [`Fold::snapshot`] wrote, perhaps of an earlier version or under another pipeline: what fits
    /// is taken over, and an error says that nothing does. After an error the fold is dropped.
    ///
    /// # Errors
    /// Where the bytes hold no state that this fold can go on from.
    fn restore(&mut self, bytes: &[u8]) -> Result<(), FoldError>;

    /// A fingerprint of the state, equal after the same records. It is taken at every commit, so it must cost next to
    /// nothing: carry it along (of what was put out, of counters, of clocks) rather than hash the whole state.
    fn digest(&self) -> u64;

    /// Event time up to which the state is complete, for the metrics.
    fn watermark(&self) -> Option<Timestamp> {
        None
    }

    /// What the fold counts, each by its name, for the metrics. Called at every commit, so it must cost next to nothing.
    fn counts(&self, tell: &mut dyn FnMut(&'static str, u64)) {
        let _ = tell;
    }
}

/// Makes the folds of a plane.
pub trait Folds: Send + Sync {
    /// The fold of a shard with nothing seen yet.
    ///
    /// # Errors
    /// Where the pipeline has no place for this shard: the shard stops.
    fn create(&self, shard: &ShardId) -> Result<Box<dyn Fold>, FoldError>;

    /// What the folds' results depend on beside their input.
    fn fingerprint(&self) -> Fingerprint;
}

/// What a fold's results depend on beside its input. A change of either begins a new epoch.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Fingerprint {
    /// Version of the engine's behaviour: to be changed by whoever changes a result.
    pub engine: String,
    /// Hash of what the pipeline file says.
    pub pipeline: String,
}

/// What a tick knows.
#[derive(Debug, Clone, Copy)]
pub struct Tick<'a> {
    /// The wall clock.
    pub wall: Timestamp,
    /// The partition has been read to its end, nothing is in flight, and so for [`crate::Options::idle_after`] or longer.
    pub idle: bool,
    /// Every shard of the plane, in order.
    pub roster: &'a [ShardId],
}

/// What begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    /// Counts a shard's epochs, from 0.
    pub number: u32,
    /// The shard.
    pub shard: ShardId,
    /// Its first record is this or a later one.
    pub offset: Offset,
    /// The wall clock.
    pub wall: Timestamp,
    /// Why.
    pub cause: EpochCause,
}

/// Why an epoch begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EpochCause {
    /// The shard is new.
    First,
    /// The engine or the pipeline changed. `carried` says whether the fold could take over its state.
    Changed {
        /// What was.
        from: Fingerprint,
        /// What is.
        to: Fingerprint,
        /// Whether state was taken over.
        carried: bool,
    },
    /// The topic has another number of partitions, and the operator accepted that series may have moved.
    Repartitioned {
        /// How many there were.
        from: i32,
        /// How many there are.
        to: i32,
    },
    /// The state is lost: the shard starts cold.
    Cold {
        /// Why, in words.
        reason: String,
    },
}

/// What a fold puts out, in order.
#[derive(Debug, Default)]
pub struct Outputs {
    records: Vec<OutRecord>,
    bytes: usize,
    dead_letters: u64,
}

impl Outputs {
    /// Puts out a record.
    pub fn push(&mut self, record: OutRecord) {
        self.bytes += record.size();
        self.records.push(record);
    }

    /// Puts out a record that is a dead letter, which is counted.
    pub fn push_dead_letter(&mut self, record: OutRecord) {
        self.dead_letters += 1;
        self.push(record);
    }

    /// What was put out.
    #[must_use]
    pub fn records(&self) -> &[OutRecord] {
        &self.records
    }

    /// Bytes of it.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many of them are dead letters.
    #[must_use]
    pub const fn dead_letters(&self) -> u64 {
        self.dead_letters
    }

    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.records.clear();
        self.bytes = 0;
        self.dead_letters = 0;
    }
}
