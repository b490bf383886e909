//! One shard at work: take records in, commit what they led to, write snapshots.

use std::{
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use suture_event::{ShardId, Span, Timestamp, stable_hash};
use suture_log::{
    Batch, Committed, Consumer, GroupMetadata, Isolation, Log, Offset, OutRecord, Producer, Recovery, TopicPartition,
};
use tracing::{debug, error, info, warn};

use crate::{
    Clock, Epoch, EpochCause, Error, Fingerprint, Fold, FoldError, Folds, Objects, Options, Outputs, Tick,
    clock::duration,
    error::Failure,
    host::Alike,
    mark::{Mark, record_hash},
    metrics::{Phase, ShardMetrics},
    objects::{self, Upload},
    pace::{InStep, Look, Pace},
    state::{SnapshotId, StateStore, Subject},
    writer::{Kept, Writer},
};

/// What all shards of a plane share.
pub(crate) struct Env {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) folds: Arc<dyn Folds>,
    pub(crate) objects: Option<Arc<dyn Objects>>,
    pub(crate) options: Options,
    pub(crate) clock: Arc<dyn Clock>,
    /// The member whose standing goes with each commit; set before the first poll.
    pub(crate) member: OnceLock<Weak<dyn Consumer>>,
    /// All shards of the plane.
    pub(crate) roster: Vec<ShardId>,
    /// What keeps the shards in step, where they are kept so.
    pub(crate) pace: Option<Arc<Pace>>,
    /// What the folds' fingerprint came to: it is asked for at each restore.
    pub(crate) fingerprint: OnceLock<Fingerprint>,
    /// What its shards were told to start anew by.
    pub(crate) alike: Alike,
}

/// What keeps so many shards in step, where the options say that they are to be.
pub(crate) fn pace(options: &Options, roster: &[ShardId]) -> Option<Arc<Pace>> {
    let span = options.in_step.filter(|span| *span > Span::ZERO)?;
    let roster = roster.iter().cloned().map(TopicPartition::from).collect();
    Some(Arc::new(Pace::new(span, options.in_step_patience, roster)))
}

impl Env {
    pub(crate) fn fingerprint(&self) -> &Fingerprint {
        self.fingerprint.get_or_init(|| self.folds.fingerprint())
    }

    fn group_metadata(&self) -> Result<GroupMetadata, suture_log::Error> {
        match self.member.get().and_then(Weak::upgrade) {
            Some(member) => member.group_metadata(),
            None => Err(suture_log::Error::Indefinite {
                what: "asking for the group's metadata".to_owned(),
                detail: "the consumer is gone".to_owned(),
            }),
        }
    }
}

/// Hash of a fingerprint, as it goes into marks.
pub(crate) fn fingerprint_hash(fingerprint: &Fingerprint) -> u64 {
    stable_hash([fingerprint.engine.as_bytes(), fingerprint.pipeline.as_bytes()])
}

/// A shard that is live.
pub(crate) struct Shard {
    pub(crate) env: Arc<Env>,
    pub(crate) at: TopicPartition,
    pub(crate) metrics: Arc<ShardMetrics>,
    pub(crate) fold: Box<dyn Fold>,
    pub(crate) producer: Box<dyn Producer>,
    pub(crate) store: StateStore,
    pub(crate) writer: Writer,
    /// A snapshot on its way to the object store.
    pub(crate) upload: Option<Upload>,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) epoch: u32,
    pub(crate) partitions: i32,
    /// The next record to be taken in.
    pub(crate) position: Offset,
    pub(crate) committed: Offset,
    /// The last record that was taken in, and its hash.
    pub(crate) last: Option<(Offset, u64)>,
    pub(crate) outputs: Outputs,
    /// How many of the outputs lie before the end of the last tick.
    pub(crate) ticked: usize,
    pub(crate) times: Times,
    /// Up to here the partition was looked through and holds nothing that is not taken in.
    pub(crate) empty_to: Offset,
    /// Where time went on without a record, and up to when, since the oldest snapshot that is kept.
    pub(crate) silences: Vec<(Offset, Timestamp)>,
    /// Its part in keeping in step.
    pub(crate) in_step: Option<InStep>,
}

/// When things were last done, by the clock that never goes back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    commit: Duration,
    tick: Duration,
    snapshot: Duration,
    record: Duration,
    range: Duration,
}

impl Times {
    pub(crate) const fn starting(now: Duration) -> Self {
        Self {
            commit: Duration::ZERO,
            tick: Duration::ZERO,
            snapshot: now,
            record: now,
            range: Duration::ZERO,
        }
    }
}

/// How often a shard asks for its partition's start and end, for the lag and for the alarm on retention.
const RANGE_INTERVAL: Duration = Duration::from_secs(10);

/// Silences between records that are journaled at most, each some thirty bytes of what a commit may carry.
const SILENCES: usize = 48;

/// After how long without a record a shard that others wait for looks whether what its partition holds up to the end is
/// any record at all.
const QUIET: Duration = Duration::from_secs(1);

impl Shard {
    pub(crate) fn fold_error(&self, source: FoldError) -> Failure {
        Failure::Stop(Error::Fold {
            shard: self.at.clone(),
            source,
        })
    }

    /// Takes a batch in, or what may be taken in of it; the rest is held. Gives one back that is done with.
    pub(crate) fn take(&mut self, mut batch: Batch) -> Option<Batch> {
        let Some(in_step) = &mut self.in_step else {
            self.step(&mut batch);
            return Some(batch);
        };
        debug_assert!(!in_step.is_held(), "a shard that waits takes nothing more");
        in_step.rest = batch;
        self.go_on()
    }

    /// Takes in what may be taken in of what is held. Gives the batch back once it is done with.
    pub(crate) fn go_on(&mut self) -> Option<Batch> {
        if !self.is_held() {
            return None;
        }
        // what comes next is known by now
        self.tell();
        let (now, wall) = (self.env.clock.now(), self.env.clock.wall());
        let in_step = self.in_step.as_mut()?;
        let mut rest = std::mem::take(&mut in_step.rest);
        let count = in_step.admit(&rest, wall);
        if count > 0 {
            rest.hide_after(count);
            self.step(&mut rest);
            rest.show_rest();
        }
        let in_step = self.in_step.as_mut()?;
        if rest.is_empty() {
            in_step.goes_on(now, &self.metrics);
            return Some(rest);
        }
        in_step.rest = rest;
        in_step.holds(now, &self.metrics);
        None
    }

    /// Whether there are records that wait for slower shards.
    pub(crate) fn is_held(&self) -> bool {
        self.in_step.as_ref().is_some_and(InStep::is_held)
    }

    /// Waits for slower shards to get on.
    pub(crate) fn wait_for_others(&self, timeout: Duration) {
        if let Some(in_step) = &self.in_step {
            in_step.wait(timeout);
        }
    }

    /// Tells the other shards how far this one has come.
    fn tell(&self) {
        if let Some(in_step) = &self.in_step
            && self.position == self.committed
        {
            in_step.tell(self.committed, self.seen_to(), self.env.clock.wall());
        }
    }

    /// Up to here the partition holds nothing that is not taken in.
    fn seen_to(&self) -> Offset {
        self.position.max(self.empty_to)
    }

    /// Finds out, where others may wait for that, whether the shard has read everything there is.
    fn look_ahead(&mut self, now: Duration, drained: bool) -> Result<(), Failure> {
        let (wall, seen_to) = (self.env.clock.wall(), self.seen_to());
        let Some(in_step) = &mut self.in_step else {
            return Ok(());
        };
        match in_step.looks(now, wall, seen_to) {
            Look::ForEnd => match self.env.log.range(&self.at) {
                Ok(range) => in_step.aim(range.end, wall),
                Err(error) if error.recovery() == Recovery::Retry => {}
                Err(error) => return Err(error.into()),
            },
            Look::Through(end) if drained && now.saturating_sub(self.times.record) >= QUIET => {
                self.look_through(end)?;
            }
            Look::Through(_) | Look::No => return Ok(()),
        }
        self.tell();
        Ok(())
    }

    /// Takes records in.
    pub(crate) fn step(&mut self, batch: &mut Batch) {
        let skipped = batch.skip_before(self.position);
        if skipped > 0 {
            self.metrics.skipped.add(skipped as u64);
            debug!(shard = %self.at, skipped, "records came a second time");
        }
        let Some(last) = batch.last() else { return };
        self.last = Some((last.offset, record_hash(&last)));
        let next = last.offset + 1;
        self.metrics.records.add(batch.len() as u64);
        self.metrics.bytes.add(batch.bytes() as u64);
        self.metrics.batch_records.record(batch.len() as u64);
        self.fold.batch(batch, &mut self.outputs);
        self.position = next;
        self.metrics.position.set(next);
        self.times.record = self.env.clock.now();
        if let Some(watermark) = self.fold.watermark() {
            self.metrics.watermark.set(watermark.as_millis());
        }
    }

    /// Does what is due: a tick, a commit, a snapshot. `drained` says that no record is waiting for the shard.
    pub(crate) fn advance(&mut self, drained: bool) -> Result<(), Failure> {
        let now = self.env.clock.now();
        self.look_around(now)?;
        self.look_ahead(now, drained)?;
        self.collect(Duration::ZERO);
        let options = &self.env.options;
        if options.ticks && now.saturating_sub(self.times.tick) >= duration(options.tick_interval) {
            self.tick(now, drained)?;
        }
        if self.commit_is_due(now) {
            // what is said of records is told the time at once: who waits for time to pass before he judges it would
            // otherwise wait for the next tick
            if self.env.options.ticks && self.outputs.records().len() > self.ticked {
                self.tick(now, drained)?;
            }
            self.commit()?;
            self.snapshot_if_due()?;
        } else if self.times.snapshot == Duration::ZERO {
            // one that cannot wait for the next commit
            self.snapshot_if_due()?;
        }
        Ok(())
    }

    fn tick(&mut self, now: Duration, drained: bool) -> Result<(), Failure> {
        self.times.tick = now;
        let idle = drained && self.is_idle(now)?;
        let env = Arc::clone(&self.env);
        let tick = Tick {
            wall: env.clock.wall(),
            idle,
            roster: &env.roster,
        };
        if let Some(to) = self.fold.silent_to(tick)
            && self.makes_room()
        {
            self.fold.pass_silence(to, &mut self.outputs);
            self.silences.push((self.position, to));
        }
        self.fold.tick(tick, &mut self.outputs);
        self.ticked = self.outputs.records().len();
        Ok(())
    }

    /// Whether one more silence can be journaled. Those that no kept snapshot needs are dropped, of those between two records
    /// the last is enough; where there are many a snapshot is taken, and where there are too many they wait for it.
    fn makes_room(&mut self) -> bool {
        let needed = self.writer.oldest().map_or(0, |id| id.offset);
        let position = self.position;
        self.silences.retain(|(at, _)| *at >= needed && *at != position);
        if self.silences.len() >= SILENCES / 2 {
            self.times.snapshot = Duration::ZERO;
        }
        self.silences.len() < SILENCES
    }

    /// How long [`Self::advance`] need not be called if no record comes.
    pub(crate) fn patience(&self) -> Duration {
        let options = &self.env.options;
        let now = self.env.clock.now();
        let mut due = self.times.range + RANGE_INTERVAL;
        if options.ticks {
            due = due.min(self.times.tick + duration(options.tick_interval));
        }
        if !self.outputs.records().is_empty() || !self.writer.is_empty() || self.upload.is_some() {
            due = due.min(self.times.commit + duration(options.commit_interval));
        } else if self.position != self.committed {
            let interval = match &self.in_step {
                Some(_) => options.commit_interval,
                None => options.position_interval,
            };
            due = due.min(self.times.commit + duration(interval));
        }
        if let Some(in_step) = &self.in_step {
            due = due.min(in_step.look_at());
        }
        due.saturating_sub(now)
    }

    fn commit_is_due(&self, now: Duration) -> bool {
        let options = &self.env.options;
        let since = now.saturating_sub(self.times.commit);
        let outputs = self.outputs.records().len();
        if outputs >= options.max_outputs || self.outputs.bytes() >= options.max_output_bytes {
            return true;
        }
        if self.position != self.committed
            && let Some(in_step) = &self.in_step
        {
            return since >= duration(options.commit_interval) || in_step.is_awaited();
        }
        if outputs > 0 || !self.writer.is_empty() {
            return since >= duration(options.commit_interval);
        }
        if self.position != self.committed {
            return since >= duration(options.position_interval);
        }
        self.in_step.as_ref().is_some_and(InStep::has_news) && since >= duration(options.commit_interval)
    }

    /// Asks now and then what the partition holds.
    fn look_around(&mut self, now: Duration) -> Result<(), Failure> {
        if now.saturating_sub(self.times.range) < RANGE_INTERVAL && self.times.range != Duration::ZERO {
            return Ok(());
        }
        self.times.range = now;
        match self.env.log.range(&self.at) {
            Ok(range) => {
                self.metrics.end.set(range.end);
                let newest = self.writer.newest().map_or(0, |id| id.offset);
                if range.start > newest && self.position > newest && !self.writer.is_busy() {
                    error!(
                        shard = %self.at, retained_from = range.start, snapshot = newest,
                        "the log no longer reaches back to the newest snapshot: taking one now; lengthen the topic's \
                         retention or shorten the snapshot interval"
                    );
                    self.times.snapshot = Duration::ZERO;
                }
                Ok(())
            }
            Err(error) if error.recovery() == Recovery::Retry => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether everything the partition holds has been taken in, and nothing came for the time that the options name.
    fn is_idle(&mut self, now: Duration) -> Result<bool, Failure> {
        if now.saturating_sub(self.times.record) < duration(self.env.options.idle_after) {
            return Ok(false);
        }
        let end = match self.env.log.range(&self.at) {
            Ok(range) => range.end,
            Err(error) if error.recovery() == Recovery::Retry => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        if end <= self.position || end == self.empty_to {
            return Ok(true);
        }
        self.look_through(end)
    }

    /// Whether nothing is left to be read before that offset, which is beyond the position.
    fn look_through(&mut self, end: Offset) -> Result<bool, Failure> {
        // markers of transactions take up offsets, and so do aborted records: only a look tells that no record is there
        let mut reader = self.env.log.reader(&self.at, self.position, Isolation::ReadCommitted)?;
        let mut found = false;
        let looked = reader.read(Duration::from_millis(500), 1, &mut |_| found = true);
        if matches!(looked, Ok(true)) && !found {
            self.empty_to = end;
            return Ok(true);
        }
        Ok(false)
    }

    /// Commits the outputs, a stride of snapshot pieces and the position in one transaction.
    pub(crate) fn commit(&mut self) -> Result<(), Failure> {
        let began = self.env.clock.now();
        let stride = self.writer.stride(self.env.options.snapshot_stride).len();
        let mark = self.mark(stride);
        let offsets = [(
            self.at.clone(),
            Committed {
                offset: self.position,
                metadata: mark.encode(),
            },
        )];
        self.transact(true, stride, &offsets)?;
        if let (Some(in_step), Some(reached)) = (&mut self.in_step, mark.reached) {
            in_step.said(reached);
        }
        self.metrics.outputs.add(self.outputs.records().len() as u64);
        self.metrics.dead_letters.add(self.outputs.dead_letters());
        self.metrics.committed.set(self.position);
        self.outputs.clear();
        self.ticked = 0;
        self.committed = self.position;
        self.tell();
        self.written(stride);
        let now = self.env.clock.now();
        self.times.commit = now;
        self.metrics.commit_took(now.saturating_sub(began));
        self.metrics.take_counts(self.fold.as_ref());
        Ok(())
    }

    /// What is true once a stride of that many records is committed.
    fn mark(&self, stride: usize) -> Mark {
        let in_step = self.in_step.as_ref();
        Mark {
            epoch: self.epoch,
            digest: self.fold.digest(),
            fingerprint: fingerprint_hash(&self.fingerprint),
            partitions: self.partitions,
            last: self.last,
            snapshots: self.writer.listed(stride),
            state_from: self.writer.from().unwrap_or(0),
            silences: self.silences.clone(),
            reached: in_step.map(|in_step| in_step.reached_at(self.seen_to(), self.env.clock.wall())),
        }
    }

    /// One transaction, sent again where it failed for certain.
    fn transact(
        &mut self,
        outputs: bool,
        stride: usize,
        offsets: &[(TopicPartition, Committed)],
    ) -> Result<(), Failure> {
        let mut tries = 0;
        loop {
            let outputs = if outputs { self.outputs.records() } else { &[] };
            let pieces = self
                .writer
                .stride(self.env.options.snapshot_stride)
                .get(..stride)
                .unwrap_or_default();
            let sent = transaction(self.producer.as_mut(), &self.env, outputs.iter().chain(pieces), offsets);
            let Err(error) = sent else { return Ok(()) };
            tries += 1;
            if error.recovery() != Recovery::Abort || tries >= self.env.options.commit_tries {
                return Err(error.into());
            }
            warn!(shard = %self.at, %error, "aborting the transaction and sending it again");
            self.metrics.aborts.add(1);
            self.producer.abort()?;
        }
    }

    fn written(&mut self, stride: usize) {
        let (complete, dropped) = self.writer.done(stride);
        if let Some(complete) = complete {
            self.metrics.snapshot_offset.set(complete.id.offset);
            self.metrics.snapshot_at.set(self.env.clock.wall().as_millis());
            debug!(shard = %self.at, offset = complete.id.offset, "snapshot complete");
        }
        match (dropped, &self.env.objects) {
            (Some(dropped), Some(objects)) if dropped.away => {
                objects::discard(
                    Arc::clone(objects),
                    self.store.clone(),
                    vec![(dropped.id, dropped.pieces)],
                );
            }
            (Some(dropped), _) if !dropped.away => {
                self.writer.push(self.store.tombstones(dropped.id, dropped.pieces));
            }
            _ => {}
        }
    }

    /// Looks how the snapshot on its way to the object store fares, waiting no longer than that.
    fn collect(&mut self, wait: Duration) {
        let Some(ended) = self.upload.as_ref().and_then(|upload| upload.ended(wait)) else {
            return;
        };
        self.upload = None;
        match ended {
            Ok(manifest) => {
                self.metrics
                    .snapshot_bytes
                    .set(i64::try_from(manifest.compressed).unwrap_or(i64::MAX));
                self.writer.arrived(manifest.pieces);
            }
            Err(why) => {
                warn!(shard = %self.at, why, "the object store did not take a snapshot; the next one is tried when it is due");
                self.metrics.snapshot_failures.add(1);
                self.writer.failed();
            }
        }
    }

    fn snapshot_if_due(&mut self) -> Result<(), Failure> {
        let now = self.env.clock.now();
        let due = self.times.snapshot == Duration::ZERO
            || now.saturating_sub(self.times.snapshot) >= duration(self.env.options.snapshot_interval);
        let news = self.writer.newest() != Some(self.snapshot_id());
        if due && news && !self.writer.is_busy() && self.position == self.committed && self.outputs.records().is_empty()
        {
            self.times.snapshot = now;
            self.start_snapshot()?;
        }
        Ok(())
    }

    const fn snapshot_id(&self) -> SnapshotId {
        SnapshotId {
            epoch: self.epoch,
            offset: self.position,
        }
    }

    /// Takes a snapshot of the state as it is, and sends it off to the object store, or queues it for the next commits.
    fn start_snapshot(&mut self) -> Result<(), Failure> {
        let Some(objects) = self.env.objects.clone() else {
            return self.start_snapshot_in_topic();
        };
        let from = self.store.end(self.env.log.as_ref()).map_err(Failure::Restart)?;
        let state = self.fold.snapshot().map_err(|error| self.fold_error(error))?;
        let id = self.snapshot_id();
        self.writer.start_away(Kept {
            id,
            pieces: 0,
            from,
            away: true,
        });
        let subject = (id, self.fold.digest(), self.fingerprint.clone(), self.partitions);
        let piece = self.env.options.object_piece;
        self.upload = Some(Upload::start(objects, self.store.clone(), subject, state, piece));
        Ok(())
    }

    fn start_snapshot_in_topic(&mut self) -> Result<(), Failure> {
        let from = self.store.end(self.env.log.as_ref()).map_err(Failure::Restart)?;
        let state = self.fold.snapshot().map_err(|error| self.fold_error(error))?;
        let subject = Subject {
            id: self.snapshot_id(),
            digest: self.fold.digest(),
            fingerprint: &self.fingerprint,
            partitions: self.partitions,
        };
        let encoded = self.store.encode(&subject, &state, self.env.options.snapshot_piece);
        let (manifest, records) =
            encoded.map_err(|error| self.fold_error(FoldError(format!("its snapshot does not compress: {error}"))))?;
        self.metrics
            .snapshot_bytes
            .set(i64::try_from(manifest.compressed).unwrap_or(i64::MAX));
        self.writer.start(
            Kept {
                id: manifest.id(),
                pieces: manifest.pieces,
                from,
                away: false,
            },
            records,
        );
        Ok(())
    }

    /// Begins an epoch at the position: what the fold says to it, a snapshot and the position become visible together. A
    /// crash on the way leaves the epoch before.
    pub(crate) fn begin_epoch(&mut self, cause: EpochCause) -> Result<(), Failure> {
        let epoch = Epoch {
            number: self.epoch,
            shard: self.at.clone().into(),
            offset: self.position,
            wall: self.env.clock.wall(),
            cause,
        };
        match &epoch.cause {
            EpochCause::First => info!(shard = %self.at, offset = self.position, "a new shard begins"),
            EpochCause::Cold { reason } => {
                self.metrics.cold_starts.add(1);
                error!(shard = %self.at, offset = self.position, epoch = self.epoch, reason, "cold start: the state is lost");
            }
            cause => warn!(shard = %self.at, offset = self.position, epoch = self.epoch, ?cause, "a new epoch begins"),
        }
        // the epoch's own snapshot has them in it
        self.silences.clear();
        self.fold.epoch(&epoch, &mut self.outputs);
        // always to the topic: an epoch and its first snapshot are there together, whatever an object store does
        self.start_snapshot_in_topic()?;
        loop {
            let stride = self.writer.stride(self.env.options.snapshot_stride).len();
            if self.writer.is_last(stride) {
                break;
            }
            self.transact(false, stride, &[])?;
            self.written(stride);
        }
        self.commit()
    }

    /// Commits what is done and, where there is time until `deadline` for it, takes a snapshot, so that the next owner
    /// need not replay.
    pub(crate) fn release(&mut self, deadline: Duration) -> Result<(), Failure> {
        if self.position != self.committed || !self.outputs.records().is_empty() {
            self.commit()?;
        }
        let news = self.writer.newest() != Some(self.snapshot_id());
        if news && !self.writer.is_busy() && self.env.clock.now() < deadline {
            self.start_snapshot()?;
        }
        while self.upload.is_some() && self.env.clock.now() < deadline {
            self.collect(Duration::from_millis(20));
        }
        while !self.writer.is_empty() && self.env.clock.now() < deadline {
            self.commit()?;
        }
        Ok(())
    }

    pub(crate) fn go_live(&self) {
        self.metrics.set_phase(Phase::Live);
        self.metrics.epoch.set(i64::from(self.epoch));
        self.metrics.position.set(self.position);
        self.metrics.committed.set(self.committed);
        self.metrics.take_counts(self.fold.as_ref());
        info!(shard = %self.at, offset = self.position, epoch = self.epoch, "live");
    }
}

fn transaction<'a>(
    producer: &mut dyn Producer,
    env: &Env,
    records: impl Iterator<Item = &'a OutRecord>,
    offsets: &[(TopicPartition, Committed)],
) -> Result<(), suture_log::Error> {
    producer.begin()?;
    for record in records {
        producer.send(record)?;
    }
    // a standing that was asked for earlier may be of a generation that is over
    let group = env.group_metadata()?;
    producer.commit(offsets, &group)
}
