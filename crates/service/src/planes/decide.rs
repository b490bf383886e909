//! Decide as the runtime drives it: facts become incidents, action requests and the ledger.

use std::{collections::BTreeSet, sync::Arc};

use suture_codec::{cdevents, records};
use suture_config::Pipeline;
use suture_engine::{Decide, DecideCounters, DecideOut, RecordRef, Seal};
use suture_event::{Edge, Fact, FactBody, ShardId, Timestamp};
use suture_log::OutRecord;
use suture_permit::{Checkpoint, SecretKey};
use suture_runtime::{Epoch, Fingerprint, Fold, FoldError, Folds, Outputs, Tick};

use crate::status::Board;

use super::{
    SOURCE, Seldom, Teller, Topics, count, dead_letter, epoch_note, error, fingerprint, push_message,
    tell::DecideTeller,
};

/// Makes decide's folds, one for each facts partition.
pub struct DecideFolds {
    /// What the folds are made from.
    pub pipeline: Arc<Pipeline>,
    /// The call graph known beforehand.
    pub edges: Vec<Edge>,
    /// Where to.
    pub topics: Topics,
    /// What permits and the ledger are signed with. Without one no executor that acts takes a request.
    pub key: Option<SecretKey>,
    /// Where shards write how they stand.
    pub board: Arc<Board>,
}

impl Folds for DecideFolds {
    fn create(&self, shard: &ShardId) -> Result<Box<dyn Fold>, FoldError> {
        Ok(Box::new(DecideFold {
            shard: shard.clone(),
            decide: Decide::new(self.pipeline.clone(), self.edges.clone()),
            topics: self.topics.clone(),
            key: self.key.clone(),
            warned: false,
            warned_apart: false,
            full: Seldom::default(),
            seen: DecideCounters::default(),
            missing: BTreeSet::new(),
            teller: DecideTeller::new(Teller::new("decide", shard, &self.board)),
            out: DecideOut::default(),
        }))
    }

    fn fingerprint(&self) -> Fingerprint {
        fingerprint(&self.pipeline)
    }
}

struct DecideFold {
    /// The partition of the facts that it reads.
    shard: ShardId,
    decide: Decide,
    topics: Topics,
    /// Signs what leaves: the same words get the same signature, so that what is said again after a restart is the same to the
    /// byte, and the fold itself knows no secret.
    key: Option<SecretKey>,
    /// Whether it was said that series are in two partitions, since they were in one.
    warned: bool,
    /// Whether it was said that changes meet no telemetry.
    warned_apart: bool,
    full: Seldom,
    /// What was counted when it was last looked at.
    seen: DecideCounters,
    /// The partitions that were judged without, when they were last looked at.
    missing: BTreeSet<ShardId>,
    teller: DecideTeller,
    out: DecideOut,
}

impl DecideFold {
    /// Says once, in the log, that series are torn apart.
    fn warn_of_twice(&mut self) {
        let found = self.decide.seen_twice().filter(|found| found.series > 0);
        if let Some(found) = found.filter(|_| !self.warned)
            && let Some((series, topic, [one, other])) = &found.example
        {
            tracing::warn!(
                %topic,
                partitions = format!("{one}, {other}"),
                series = suture_event::hex16(*series),
                how_many = found.series,
                "series are in two partitions of a topic at once, of which each is judged as if it were the whole: key the \
                 telemetry by series, or have it put together with `rekey:` in the pipeline file"
            );
        }
        self.warned = found.is_some();
    }

    /// Says which partitions are judged without, when one more is, and when none is any more.
    fn warn_of_missing(&mut self) {
        let all = self.decide.missing();
        let missing: BTreeSet<ShardId> = all.flat_map(|(_, shards)| shards.iter().cloned()).collect();
        let more = missing.difference(&self.missing).next().is_some();
        if more {
            let scopes: Vec<&str> = self.decide.missing().map(|(scope, _)| &**scope).take(5).collect();
            let partitions: Vec<String> = missing.iter().map(ToString::to_string).take(20).collect();
            tracing::warn!(
                partitions = partitions.join(", "),
                how_many = missing.len(),
                scopes = scopes.join(", "),
                "judgement goes on without partitions that bring no telemetry any more: what comes of them later amends it"
            );
        } else if missing.is_empty() && !self.missing.is_empty() {
            tracing::info!("every partition with telemetry is judged again");
        }
        self.missing = missing;
    }

    /// Says what a user must know of scopes: that there was no room for one, and that changes meet no telemetry.
    fn warn_of_scopes(&mut self) {
        let now = self.decide.counters();
        let displaced = now.scopes_displaced.saturating_sub(self.seen.scopes_displaced);
        let refused = now.scopes_refused.saturating_sub(self.seen.scopes_refused);
        self.seen = now;
        if self.full.due(displaced + refused).is_some() {
            tracing::error!(
                scopes_displaced = now.scopes_displaced,
                facts_refused = now.scopes_refused,
                "there are more scopes than limits.scopes: of those displaced what is usual must be learned anew, and nothing is \
                 seen of those refused; raise limits.scopes, or send less of what nobody watches"
            );
        }
        if !self.warned_apart
            && let Some((scope, changes)) = self.decide.apart()
        {
            self.warned_apart = true;
            tracing::warn!(
                %scope,
                changes,
                "a scope has changes and no telemetry, so that none of them can be found at fault: where its telemetry is in \
                 another scope, see `scope` in the pipeline file; without it all is in one"
            );
        }
    }

    fn say(&mut self, outputs: &mut Outputs) {
        self.teller.decided(&self.decide, &mut self.out);
        for incident in self.out.incidents.drain(..) {
            let message = cdevents::write_incident(SOURCE, &incident);
            push_message(&self.topics.incidents, message, outputs);
        }
        for mut request in self.out.remediations.drain(..) {
            if let Some(key) = self.key.as_ref().filter(|_| request.permit.is_some()) {
                let seal = key.sign(&request);
                if let Some(permit) = &mut request.permit {
                    permit.seal = Some(seal);
                }
            }
            push_message(
                &self.topics.remediations,
                cdevents::write_remediation(SOURCE, &request),
                outputs,
            );
        }
        for mut record in self.out.ledger.drain(..) {
            record.seal = self.key.as_ref().map(|key| key.sign(&Checkpoint::of(&record)));
            match records::encode(&record) {
                Ok(value) => outputs.push(OutRecord::new(
                    self.topics.ledger.clone(),
                    record.scope.as_bytes(),
                    value,
                )),
                Err(error) => tracing::error!(%error, "a ledger record could not be written"),
            }
        }
    }
}

impl Fold for DecideFold {
    fn record(&mut self, record: RecordRef<'_>, out: &mut Outputs) {
        let fact: Fact = match records::decode(record.value.unwrap_or_default()) {
            Ok(fact) => fact,
            Err(reason) => {
                let reason = reason.to_string();
                self.teller.dead_letter(record.offset, &reason);
                out.push_dead_letter(dead_letter(&self.topics, &self.shard, record, &reason, 0));
                return;
            }
        };
        let header = record.headers.iter().find(|(name, _)| *name == Seal::HEADER);
        let seal = header.and_then(|(_, value)| Seal::decode(value?));
        if let Err(reason) = self.decide.admit(&fact, seal) {
            self.teller.dead_letter(record.offset, &reason);
            out.push_dead_letter(dead_letter(&self.topics, &self.shard, record, &reason, 0));
            return;
        }
        let wall = match &fact.body {
            FactBody::Progress(progress) => Some(progress.wall),
            _ => None,
        };
        if let Err(reason) = self.decide.fact(fact, &mut self.out) {
            let reason = reason.to_string();
            self.teller.dead_letter(record.offset, &reason);
            out.push_dead_letter(dead_letter(&self.topics, &self.shard, record, &reason, 0));
        }
        // with every mark is often enough
        if wall.is_some() {
            self.warn_of_scopes();
            self.warn_of_missing();
        }
        self.warn_of_twice();
        self.say(out);
        if let Some(wall) = wall {
            self.teller.pass(wall, &self.decide);
        }
    }

    /// What is done again after a restart is told to nobody, so the words for it are not made either.
    fn resume(&mut self, _: u32) {
        self.decide.explain();
        self.teller.go_live();
    }

    fn tick(&mut self, _: Tick<'_>, _: &mut Outputs) {}

    fn epoch(&mut self, epoch: &Epoch, out: &mut Outputs) {
        if let Err(error) = self.decide.epoch(&epoch_note(epoch), None, &mut self.out) {
            tracing::error!(%error, "the new epoch could not be recorded in the ledger");
        }
        self.say(out);
    }

    fn snapshot(&self) -> Result<Vec<u8>, FoldError> {
        self.decide.snapshot().map_err(error)
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), FoldError> {
        self.decide.restore(bytes).map_err(error)
    }

    fn digest(&self) -> u64 {
        self.decide.digest()
    }

    fn watermark(&self) -> Option<Timestamp> {
        Some(self.decide.now()).filter(|at| *at != Timestamp::MIN)
    }

    fn counts(&self, tell: &mut dyn FnMut(&'static str, u64)) {
        let counters = self.decide.counters();
        tell(count::FACTS, counters.facts);
        tell(count::FACTS_HELD, counters.held);
        tell(count::FACTS_LATE, counters.late);
        tell(count::FACTS_FORCED, counters.forced);
        tell(count::SCOPES_REFUSED, counters.scopes_refused);
        tell(count::SCOPES_PUT_AWAY, counters.scopes_put_away);
        tell(count::SCOPES_DISPLACED, counters.scopes_displaced);
        tell(count::SCOPES_WITHOUT_TELEMETRY, counters.scopes_without_telemetry);
        tell(count::FACTS_AHEAD, counters.ahead);
        tell(count::SHARDS_MISSING, counters.shards_missing);
        tell(count::JUDGED_WITHOUT, counters.judged_without);
        if let Some(series) = counters.series_twice {
            tell(count::SERIES_TWICE, series);
        }
    }
}

#[cfg(test)]
mod tests {
    // what goes wrong here is a failed test
    #![allow(clippy::unwrap_used)]

    use suture_log::Headers;

    use super::*;

    #[test]
    fn a_dead_letter_names_the_partition_that_it_is_of() {
        let pipeline = Pipeline::parse("test.yaml", "name: test\ntelemetry: [{topic: in}]\n", &|_| None).unwrap();
        let folds = DecideFolds {
            topics: Topics::of(&pipeline),
            pipeline: Arc::new(pipeline),
            edges: Vec::new(),
            key: None,
            board: Arc::default(),
        };
        let shard = ShardId {
            topic: folds.topics.facts.clone(),
            partition: 3,
        };
        let (mut fold, mut out) = (folds.create(&shard).unwrap(), Outputs::default());
        let record = RecordRef {
            offset: 7,
            timestamp: None,
            key: None,
            value: Some(b"no fact".as_slice()),
            headers: Headers::default(),
        };
        fold.record(record, &mut out);
        let [letter] = out.records() else {
            panic!("{:?}", out.records())
        };
        let header = |name| letter.headers.as_headers().get(name);
        assert_eq!(header("suture_partition"), Some(b"3".as_slice()));
        assert_eq!(header("suture_offset"), Some(b"7".as_slice()));
    }
}
