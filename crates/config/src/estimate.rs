//! How much memory a pipeline may come to need, told before it starts.

use serde::Serialize;
use suture_detect::{Bank, DetectorName, SequenceMode};
use suture_window::Aggregate;

use crate::{Bytes, Pipeline, SignalRule};

/// Bytes of a series' name and labels with the tables that find it, taken as 8 labels of 24 bytes.
const IDENTITY: usize = 700;
/// Bytes of what finds a series by the bytes that name it in a record: its key, its share of the buckets, at most half full,
/// and its row's link.
const RAW: usize = 96;
/// Bytes of a series in the columns of a window that is dealt out to the detectors.
const DEALT: usize = 28;
/// Bytes of a series in a snapshot, besides its detectors' and its cells: name, labels, places, what it carries from window
/// to window, and what a day's profile is wider there.
const WRITTEN: usize = 500;
/// Bytes of one cell in a snapshot.
const WRITTEN_CELL: usize = 80;
/// Bytes of one fact that waits for its turn.
const FACT: usize = 600;
/// Bytes that a shard takes without any series: buffers of the client, of one batch and of one transaction.
const SHARD: usize = 16 << 20;
/// Bytes that the process takes without any shard.
const PROCESS: usize = 64 << 20;
/// Bins in use by one quantile sketch, in bytes, for values within a factor of ten thousand.
const SKETCH_BINS: usize = 4 << 10;

/// What a process of the pipeline may come to need with as many series as `limits` allow, the dearest rule taken for all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Estimate {
    /// Shards in one process: `limits.shards`.
    pub shards: usize,
    /// Series in one shard: `limits.series`.
    pub series: usize,
    /// Bytes of a series' windows.
    pub window_bytes: usize,
    /// Bytes of a series' detectors.
    pub detect_bytes: usize,
    /// Bytes of a series in the sequence model, where it watches.
    pub sequence_bytes: usize,
    /// Bytes of a series while a snapshot is put together.
    pub snapshot_bytes: usize,
    /// Bytes of a series in all, its name and labels and what finds it included.
    pub bytes_per_series: usize,
    /// Bytes of what is made of several series in one shard: see `derive`.
    pub derive_bytes: usize,
    /// The signal rule that costs most and is taken for every series.
    pub dearest_rule: String,
    /// One shard.
    pub shard: Bytes,
    /// One shard of the repartition stage, of which a process is taken to have as many as of the others; absent where there
    /// is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rekey: Option<Bytes>,
    /// Facts held back to be ordered, where the clock is `event`.
    pub decide: Bytes,
    /// The process.
    pub total: Bytes,
}

impl Pipeline {
    /// Estimates the memory of one process.
    #[must_use]
    pub fn estimate(&self) -> Estimate {
        let fallback = SignalRule::fallback(self.detect.clone());
        let cost = |rule: &SignalRule| {
            let budget = self.alarms.is_some();
            (
                self.window_bytes(rule),
                detect_bytes(rule, budget),
                self.sequence_bytes(rule),
            )
        };
        let ((window_bytes, detect_bytes, sequence_bytes), dearest) = self
            .signals
            .iter()
            .chain(std::iter::once(&fallback))
            .map(|rule| (cost(rule), rule.name.as_str()))
            .max_by_key(|((window, detect, sequence), _)| window + detect + sequence)
            .unwrap_or_default();
        // the columns, and all of it once more in one piece
        let cells = if self.sketches() { SKETCH_BINS } else { WRITTEN_CELL } * self.panes().max(1);
        let snapshot_bytes = 2 * (WRITTEN + cells + detect_bytes + sequence_bytes);
        let bytes_per_series = window_bytes + detect_bytes + sequence_bytes + snapshot_bytes + IDENTITY + RAW + DEALT;
        let (series, shards) = (self.limits.series, self.limits.shards);
        let derived = self.derive.iter().map(|rule| {
            let (group, member) = rule.bytes(IDENTITY);
            let groups = series.min(rule.groups as usize);
            let members = series.min(groups.saturating_mul(rule.members() as usize));
            groups
                .saturating_mul(group)
                .saturating_add(members.saturating_mul(member))
        });
        let derive_bytes = derived.fold(0, usize::saturating_add);
        let shard = (bytes_per_series as u64)
            .saturating_mul(series as u64)
            .saturating_add(derive_bytes as u64)
            .saturating_add(SHARD as u64);
        let decide = (self.limits.pending_facts as u64).saturating_mul(FACT as u64);
        let rekey = self.rekey.as_ref().map(|_| (self.rekey_bytes() + SHARD) as u64);
        let total = shard
            .saturating_add(rekey.unwrap_or_default())
            .saturating_mul(shards as u64)
            .saturating_add(decide)
            .saturating_add(PROCESS as u64);
        Estimate {
            shards,
            series,
            window_bytes,
            detect_bytes,
            derive_bytes,
            sequence_bytes,
            snapshot_bytes,
            bytes_per_series,
            dearest_rule: dearest.to_owned(),
            shard: Bytes(shard),
            rekey: rekey.map(Bytes),
            decide: Bytes(decide),
            total: Bytes(total),
        }
    }

    fn window_bytes(&self, rule: &SignalRule) -> usize {
        // a rule that leaves it to the telemetry may meet counters, whose windows take more
        let aggregate = rule.aggregate.unwrap_or(Aggregate::Rate);
        let bins = if matches!(aggregate, Aggregate::Quantile(_)) {
            SKETCH_BINS * self.panes()
        } else {
            0
        };
        self.window.bytes_per_series(aggregate) + bins
    }

    /// Whether any rule asks for a quantile.
    fn sketches(&self) -> bool {
        let mut aggregates = self.signals.iter().filter_map(|rule| rule.aggregate);
        aggregates.any(|aggregate| matches!(aggregate, Aggregate::Quantile(_)))
    }

    /// Bytes of a series in a rule's sequence model; none where it does not watch.
    fn sequence_bytes(&self, rule: &SignalRule) -> usize {
        let watches = match rule.detect.sequence {
            SequenceMode::On => true,
            SequenceMode::Off => false,
            SequenceMode::Auto => self.window.size.is_none(),
        };
        let watches = watches && rule.detect.wants(DetectorName::Sequence);
        if watches { Bank::bytes_per_sequence() } else { 0 }
    }

    /// Pieces of time that a window and its lateness are cut into.
    fn panes(&self) -> usize {
        let Some(size) = self.window.size else { return 0 };
        let slide = self.window.slide.unwrap_or(size).as_millis().max(1);
        let panes = (size.as_millis() + self.window.lateness.as_millis()) / slide + 1;
        usize::try_from(panes).unwrap_or(0)
    }
}

/// Bytes of a series under a rule's detectors; nothing where they cannot be made, which is an error of its own.
fn detect_bytes(rule: &SignalRule, budget: bool) -> usize {
    let bank = if budget {
        Bank::under_budget(&rule.detect)
    } else {
        Bank::new(&rule.detect)
    };
    bank.map_or(0, |bank| bank.bytes_per_series())
}
