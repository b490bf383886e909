//! What can be seen of a plane while it runs. Everything is written by the shards and read by anybody.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use suture_log::TopicPartition;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The count so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }
}

/// A number that goes up and down.
#[derive(Debug)]
pub struct Gauge(AtomicI64);

/// What a gauge holds before it is set.
const UNSET: i64 = i64::MIN;

impl Default for Gauge {
    fn default() -> Self {
        Self(AtomicI64::new(UNSET))
    }
}

impl Gauge {
    /// The value, if it was ever set.
    #[must_use]
    pub fn get(&self) -> Option<i64> {
        Some(self.0.load(Relaxed)).filter(|value| *value != UNSET)
    }

    pub(crate) fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }
}

/// Counts of values up to fixed bounds.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    counts: Vec<AtomicU64>,
    sum: AtomicU64,
}

impl Histogram {
    fn new(bounds: &'static [u64]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    /// Upper bounds and how many values lie at or below each and above the one before; the last has no bound.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> + '_ {
        let bounds = self.bounds.iter().copied().map(Some).chain(std::iter::once(None));
        bounds.zip(self.counts.iter().map(|count| count.load(Relaxed)))
    }

    /// Sum of all values.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum.load(Relaxed)
    }

    /// How many values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Relaxed)).sum()
    }

    pub(crate) fn record(&self, value: u64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get(at) {
            count.fetch_add(1, Relaxed);
        }
        self.sum.fetch_add(value, Relaxed);
    }
}

/// Where in its life a shard is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Fencing its predecessor and asking for its position.
    Opening,
    /// Loading a snapshot and replaying.
    Restoring,
    /// At work.
    Live,
    /// Waiting to start anew after an error.
    Waiting,
    /// Stopped by an error that will not go away by itself.
    Stopped,
}

const PHASES: [Phase; 5] = [
    Phase::Opening,
    Phase::Restoring,
    Phase::Live,
    Phase::Waiting,
    Phase::Stopped,
];

/// What can be seen of one shard.
#[derive(Debug)]
pub struct ShardMetrics {
    phase: AtomicU64,
    /// Records taken in, without those that were replayed.
    pub records: Counter,
    /// Bytes of their keys, values and headers.
    pub bytes: Counter,
    /// Records left out since they had been taken in before.
    pub skipped: Counter,
    /// Records put out and committed.
    pub outputs: Counter,
    /// How many of them were dead letters.
    pub dead_letters: Counter,
    /// Records in each batch.
    pub batch_records: Histogram,
    /// Microseconds that each commit took.
    pub commit_micros: Histogram,
    /// Transactions aborted.
    pub aborts: Counter,
    /// Times the shard started anew after an error.
    pub restarts: Counter,
    /// Times the state was restored from a snapshot.
    pub restores: Counter,
    /// Records replayed with their outputs dropped.
    pub replayed: Counter,
    /// Times the shard began without its state, which it should have had.
    pub cold_starts: Counter,
    /// The shard's epoch.
    pub epoch: Gauge,
    /// The next offset to be read.
    pub position: Gauge,
    /// The committed offset.
    pub committed: Gauge,
    /// The partition's end, when it was last asked for.
    pub end: Gauge,
    /// Event time up to which the state is complete, in milliseconds since the epoch.
    pub watermark: Gauge,
    /// Offset of the newest complete snapshot.
    pub snapshot_offset: Gauge,
    /// When it was taken, in milliseconds since the epoch.
    pub snapshot_at: Gauge,
    /// Its compressed size in bytes.
    pub snapshot_bytes: Gauge,
    /// Snapshots that the object store did not take.
    pub snapshot_failures: Counter,
    /// Microseconds that records waited for slower shards, where shards are kept in step.
    pub held_micros: Counter,
    /// Times the shard went on without another that made no progress.
    pub went_ahead: Counter,
    counts: Mutex<Vec<(&'static str, u64)>>,
}

impl Default for ShardMetrics {
    fn default() -> Self {
        Self {
            phase: AtomicU64::new(0),
            records: Counter::default(),
            bytes: Counter::default(),
            skipped: Counter::default(),
            outputs: Counter::default(),
            dead_letters: Counter::default(),
            batch_records: Histogram::new(&[1, 10, 100, 1_000, 10_000]),
            commit_micros: Histogram::new(&[1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 500_000, 2_000_000]),
            aborts: Counter::default(),
            restarts: Counter::default(),
            restores: Counter::default(),
            replayed: Counter::default(),
            cold_starts: Counter::default(),
            epoch: Gauge::default(),
            position: Gauge::default(),
            committed: Gauge::default(),
            end: Gauge::default(),
            watermark: Gauge::default(),
            snapshot_offset: Gauge::default(),
            snapshot_at: Gauge::default(),
            snapshot_bytes: Gauge::default(),
            snapshot_failures: Counter::default(),
            held_micros: Counter::default(),
            went_ahead: Counter::default(),
            counts: Mutex::default(),
        }
    }
}

impl ShardMetrics {
    /// Where in its life the shard is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        usize::try_from(self.phase.load(Relaxed))
            .ok()
            .and_then(|at| PHASES.get(at).copied())
            .unwrap_or(Phase::Stopped)
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        let at = PHASES.iter().position(|p| *p == phase).unwrap_or(0);
        self.phase.store(at as u64, Relaxed);
    }

    /// What the fold counted, as of the last commit, each by its name.
    #[must_use]
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn take_counts(&self, fold: &dyn crate::Fold) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.clear();
        fold.counts(&mut |name, count| counts.push((name, count)));
    }

    /// Records between the position and the partition's end, when it was last asked for.
    #[must_use]
    pub fn lag(&self) -> Option<i64> {
        Some((self.end.get()? - self.position.get()?).max(0))
    }

    pub(crate) fn commit_took(&self, time: Duration) {
        self.commit_micros
            .record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }
}

/// What can be seen of a plane.
#[derive(Debug, Default)]
pub struct Metrics {
    shards: Mutex<BTreeMap<TopicPartition, Arc<ShardMetrics>>>,
    /// Assignments and revocations.
    pub rebalances: Counter,
    /// Errors that polling met and went on after.
    pub poll_errors: Counter,
}

impl Metrics {
    /// The shards that this process has now.
    #[must_use]
    pub fn shards(&self) -> Vec<(TopicPartition, Arc<ShardMetrics>)> {
        let shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        shards
            .iter()
            .map(|(at, metrics)| (at.clone(), Arc::clone(metrics)))
            .collect()
    }

    /// Whether there is at least one shard, and all are live.
    #[must_use]
    pub fn ready(&self) -> bool {
        let shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        !shards.is_empty() && shards.values().all(|shard| shard.phase() == Phase::Live)
    }

    pub(crate) fn enter(&self, at: &TopicPartition) -> Arc<ShardMetrics> {
        let metrics = Arc::new(ShardMetrics::default());
        self.shards
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(at.clone(), Arc::clone(&metrics));
        metrics
    }

    pub(crate) fn leave(&self, at: &TopicPartition, metrics: &Arc<ShardMetrics>) {
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        if shards.get(at).is_some_and(|held| Arc::ptr_eq(held, metrics)) {
            shards.remove(at);
        }
    }
}
