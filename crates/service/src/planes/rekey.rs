//! The repartition stage as the runtime drives it: telemetry becomes records of the topic in between.

use std::sync::Arc;

use suture_config::Pipeline;
use suture_engine::{RecordRef, Rekey, RekeyOut, Seal, Source, VERSIONS_HEADER};
use suture_event::{Fact, FactBody, ShardId, Timestamp};
use suture_log::{Batch, HeadersBuf, OutRecord};
use suture_runtime::{Clock as _, Epoch, EpochCause, Fingerprint, Fold, FoldError, Folds, Outputs, SystemClock, Tick};

use crate::status::Board;

use super::{Teller, Topics, count, dead_letter, encoded, epoch_note, error, fingerprint, push_to};

/// Makes the folds of the repartition stage, one for each telemetry partition.
pub struct RekeyFolds {
    /// What the folds are made from.
    pub pipeline: Arc<Pipeline>,
    /// The telemetry topics.
    pub sources: Vec<Source>,
    /// Where to.
    pub topics: Topics,
    /// Partitions of the facts topic, each of which is told where a shard lost records.
    pub fact_partitions: i32,
    /// Where shards write how they stand.
    pub board: Arc<Board>,
}

impl Folds for RekeyFolds {
    fn create(&self, shard: &ShardId) -> Result<Box<dyn Fold>, FoldError> {
        let source = self.sources.iter().find(|source| source.topic == *shard.topic);
        let source =
            source.ok_or_else(|| FoldError(format!("topic {} is no telemetry of the pipeline", shard.topic)))?;
        let rekey = Rekey::new(self.pipeline.clone(), shard.clone(), source.clone()).map_err(error)?;
        let to = self.topics.rekeyed.clone();
        Ok(Box::new(RekeyFold {
            rekey,
            to: to.ok_or_else(|| FoldError("the pipeline has no `rekey`".to_owned()))?,
            topics: self.topics.clone(),
            fact_partitions: self.fact_partitions,
            teller: Teller::new("rekey", shard, &self.board),
            clock: SystemClock::default(),
            out: RekeyOut::default(),
        }))
    }

    fn fingerprint(&self) -> Fingerprint {
        fingerprint(&self.pipeline)
    }
}

struct RekeyFold {
    rekey: Rekey,
    to: Arc<str>,
    topics: Topics,
    fact_partitions: i32,
    teller: Teller,
    clock: SystemClock,
    out: RekeyOut,
}

impl RekeyFold {
    fn take(&mut self, record: RecordRef<'_>, outputs: &mut Outputs) {
        self.rekey.record(record, &mut self.out);
        for letter in self.out.dead_letters.drain(..) {
            let shard = self.rekey.shard();
            self.teller.dead_letter(letter.offset, &letter.reason);
            let letter = dead_letter(&self.topics, shard, record, &letter.reason, letter.samples);
            outputs.push_dead_letter(letter);
        }
    }

    /// Everything that was taken in is put out, so that the position can be committed with it.
    fn put_out(&mut self, outputs: &mut Outputs) {
        self.teller.pass(self.clock.wall());
        self.rekey.flush(&mut self.out);
        for routed in self.out.records.drain(..) {
            let mut headers = HeadersBuf::default();
            if let Some(versions) = &routed.versions {
                headers.push(VERSIONS_HEADER, Some(versions));
            }
            outputs.push(OutRecord {
                topic: self.to.clone(),
                partition: Some(routed.partition),
                key: None,
                value: Some(routed.value),
                headers,
                // its own, so that old telemetry is not deleted before it is read
                timestamp: None,
            });
        }
    }
}

impl Fold for RekeyFold {
    fn record(&mut self, record: RecordRef<'_>, out: &mut Outputs) {
        self.take(record, out);
        self.put_out(out);
    }

    fn batch(&mut self, batch: &Batch, out: &mut Outputs) {
        for record in batch.iter() {
            self.take(record, out);
        }
        self.put_out(out);
    }

    fn resume(&mut self, _: u32) {
        self.teller.go_live();
    }

    fn tick(&mut self, _: Tick<'_>, _: &mut Outputs) {}

    /// A shard that began cold may have passed records over, which the ledger must tell.
    fn epoch(&mut self, epoch: &Epoch, out: &mut Outputs) {
        if !matches!(epoch.cause, EpochCause::Cold { .. }) {
            return;
        }
        let fact = Fact {
            scope: "".into(),
            at: self.rekey.newest(),
            shard: epoch.shard.clone(),
            seq: 0,
            body: FactBody::Epoch(epoch_note(epoch)),
        };
        if let Some(value) = encoded(&fact) {
            let seal = Seal {
                epoch: epoch.number,
                seq: 0,
            };
            push_to(&self.topics.facts, 0..self.fact_partitions, (value, seal), out);
        }
    }

    fn snapshot(&self) -> Result<Vec<u8>, FoldError> {
        self.rekey.snapshot().map_err(error)
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), FoldError> {
        self.rekey.restore(bytes).map_err(error)
    }

    fn digest(&self) -> u64 {
        self.rekey.digest()
    }

    fn watermark(&self) -> Option<Timestamp> {
        Some(self.rekey.newest()).filter(|at| *at != Timestamp::MIN)
    }

    fn counts(&self, tell: &mut dyn FnMut(&'static str, u64)) {
        let counters = self.rekey.counters();
        tell(count::SAMPLES, counters.samples);
        tell(count::LEFT_OUT, counters.left_out);
        tell(count::FUTURE, counters.future);
        tell(count::TOO_LARGE, counters.too_large);
        tell(count::REKEYED, counters.routed);
    }
}
