//! What happens to one shard, case by case: leases, restores, epochs, idleness.

use std::{
    sync::{Arc, OnceLock, atomic::Ordering},
    time::Duration,
};

use suture_event::Span;
use suture_log::{
    Assignment, Batch, Committed, Consumer, GroupOptions, Isolation, Log, Offset, OutRecord, Rebalance, TopicPartition,
    TopicSpec, memory::MemoryLog,
};

use super::sample::{SampleFolds, by_shard, read, sample_log, sample_options, undisturbed};
use crate::{
    Clock, Error, Objects, OnLostOffsets, OnRepartition, Options, Start,
    error::Failure,
    lease::lease,
    metrics::ShardMetrics,
    restore::restore,
    shard::{Env, Shard},
    simulation::HandClock,
};

struct Nobody;

impl Rebalance for Nobody {
    fn assigned(&mut self, partitions: &[TopicPartition]) -> Vec<(TopicPartition, Option<Offset>)> {
        partitions.iter().map(|at| (at.clone(), Some(0))).collect()
    }
    fn revoked(&mut self, _: &[TopicPartition], _: bool) {}
}

/// One partition, and whoever runs it.
pub(super) struct Rig {
    pub(super) log: MemoryLog,
    pub(super) clock: Arc<HandClock>,
    pub(super) at: TopicPartition,
    pub(super) options: Options,
    pub(super) objects: Option<Arc<dyn Objects>>,
    folds: Arc<SampleFolds>,
    member: Arc<dyn Consumer>,
    pub(super) metrics: Arc<ShardMetrics>,
}

impl Rig {
    pub(super) fn new() -> Self {
        let clock = Arc::new(HandClock::default());
        let log = sample_log(1, &clock);
        let at = TopicPartition::new("in", 0);
        let options = GroupOptions {
            group: "g".to_owned(),
            assignment: Assignment::Static {
                partitions: vec![at.clone()],
            },
            isolation: Isolation::ReadCommitted,
        };
        let member = log.consumer(&options, Box::new(Nobody)).unwrap();
        let options = Options {
            ticks: false,
            snapshot_interval: Span::from_hours(1),
            ..sample_options()
        };
        let (folds, metrics) = (Arc::new(SampleFolds::default()), Arc::default());
        Self {
            log,
            clock,
            at,
            options,
            objects: None,
            folds,
            member,
            metrics,
        }
    }

    pub(super) fn feed(&self, count: usize) {
        let records: Vec<OutRecord> = (0..count)
            .map(|n| OutRecord {
                partition: Some(0),
                ..OutRecord::new("in", format!("key{}", n % 5), format!("v{n}"))
            })
            .collect();
        self.log.appender().unwrap().append(&records).unwrap();
    }

    fn open(&self) -> Result<Shard, Failure> {
        self.open_on(Arc::new(self.log.clone()))
    }

    /// The same through another way to the log.
    pub(super) fn open_on(&self, log: Arc<dyn Log>) -> Result<Shard, Failure> {
        let clock: Arc<dyn Clock> = Arc::<HandClock>::clone(&self.clock);
        let env = Arc::new(Env {
            objects: self.objects.clone(),
            log,
            folds: Arc::<SampleFolds>::clone(&self.folds),
            options: self.options.clone(),
            clock,
            member: OnceLock::new(),
            roster: vec![self.at.clone().into()],
            pace: None,
            fingerprint: OnceLock::new(),
            alike: Default::default(),
        });
        env.member.set(Arc::downgrade(&self.member)).unwrap();
        let lease = lease(&env, &self.at)?;
        restore(&env, &self.at, &self.metrics, lease, None)
    }

    pub(super) fn live(&self) -> Shard {
        self.open().map_err(|failure| failure.error().to_string()).unwrap()
    }

    fn refused(&self) -> Error {
        match self.open() {
            Err(Failure::Stop(error)) => error,
            Err(other) => panic!("it should stop for good: {other:?}"),
            Ok(_) => panic!("it should not open"),
        }
    }

    /// Takes in what there is, and commits.
    pub(super) fn work(&self, shard: &mut Shard) {
        let mut batch = Batch::new();
        let mut reader = self
            .log
            .reader(&self.at, shard.position, Isolation::ReadCommitted)
            .unwrap();
        while !reader
            .read(Duration::ZERO, 1000, &mut |record| _ = batch.push(record))
            .unwrap()
        {}
        shard.step(&mut batch);
        shard.commit().map_err(|failure| failure.error().to_string()).unwrap();
    }

    pub(super) fn snapshot(&self, shard: &mut Shard) {
        shard
            .release(Duration::MAX)
            .map_err(|failure| failure.error().to_string())
            .unwrap();
    }

    fn epochs(&self) -> Vec<String> {
        read(&self.log, "epochs").concat()
    }

    pub(super) fn assert_undisturbed(&self) {
        let [out, _] = undisturbed(&self.log);
        assert_eq!(by_shard(&read(&self.log, "out")), out);
    }
}

#[test]
fn a_shard_goes_on_from_its_snapshot_and_the_records_after_it() {
    let rig = Rig::new();
    rig.feed(40);
    let mut shard = rig.live();
    rig.work(&mut shard);
    rig.snapshot(&mut shard);
    rig.feed(30);
    rig.work(&mut shard);
    drop(shard);
    rig.feed(20);
    let mut shard = rig.live();
    assert_eq!((shard.position, rig.metrics.replayed.get()), (70, 30));
    rig.work(&mut shard);
    rig.assert_undisturbed();
    assert_eq!(rig.epochs(), ["in/0 epoch=0 at=0 First"]);
}

#[test]
fn a_zombie_is_fenced_by_the_lease_of_its_successor() {
    let rig = Rig::new();
    rig.feed(10);
    let mut zombie = rig.live();
    let mut heir = rig.live();
    let mut batch = Batch::new();
    let mut reader = rig.log.reader(&rig.at, 0, Isolation::ReadCommitted).unwrap();
    reader
        .read(Duration::ZERO, 10, &mut |record| _ = batch.push(record))
        .unwrap();
    zombie.step(&mut batch);
    assert!(matches!(zombie.commit(), Err(Failure::Fenced(_))));
    rig.work(&mut heir);
    rig.assert_undisturbed();
}

#[test]
fn records_that_come_twice_are_left_out() {
    let rig = Rig::new();
    rig.feed(10);
    let mut shard = rig.live();
    for from in [0, 4, 0] {
        let mut batch = Batch::new();
        let mut reader = rig.log.reader(&rig.at, from, Isolation::ReadCommitted).unwrap();
        reader
            .read(Duration::ZERO, 10, &mut |record| _ = batch.push(record))
            .unwrap();
        shard.step(&mut batch);
    }
    shard.commit().unwrap_or_else(|failure| panic!("{failure:?}"));
    rig.assert_undisturbed();
    assert_eq!(rig.metrics.skipped.get(), 6 + 10);
}

#[test]
fn a_replay_that_comes_to_another_state_stops_the_shard() {
    let rig = Rig::new();
    rig.feed(20);
    let mut shard = rig.live();
    rig.work(&mut shard);
    drop(shard);
    rig.folds.salt.store(1, Ordering::SeqCst);
    let error = rig.refused();
    assert_eq!(
        error,
        Error::Diverged {
            shard: rig.at.clone(),
            from: 0,
            to: 20
        }
    );
    assert!(error.to_string().contains("in/0: replaying offsets 0 to 20"), "{error}");
}

#[test]
fn a_snapshot_older_than_the_log_is_a_loud_cold_start() {
    let rig = Rig::new();
    rig.feed(20);
    let mut shard = rig.live();
    rig.work(&mut shard);
    drop(shard);
    rig.feed(5);
    rig.log.trim(&rig.at, 10).unwrap();
    let mut shard = rig.live();
    assert_eq!((shard.position, shard.epoch, rig.metrics.cold_starts.get()), (20, 1, 1));
    rig.work(&mut shard);
    let epochs = rig.epochs();
    assert!(
        epochs[1].contains("epoch=1 at=20 Cold") && epochs[1].contains("older than what the topic retains"),
        "{epochs:?}"
    );
    // and what it has learnt since is not lost again
    drop(shard);
    assert_eq!(rig.live().epoch, 1);
    assert_eq!(rig.metrics.cold_starts.get(), 1);
}

#[test]
fn records_deleted_before_they_were_read_are_a_loud_cold_start() {
    let rig = Rig::new();
    rig.feed(20);
    let mut shard = rig.live();
    rig.work(&mut shard);
    drop(shard);
    rig.feed(20);
    rig.log.trim(&rig.at, 30).unwrap();
    let shard = rig.live();
    assert_eq!(shard.position, 30);
    assert!(
        rig.epochs()[1].contains("records 20 to 29 were deleted before they were read"),
        "{:?}",
        rig.epochs()
    );
}

#[test]
fn a_topic_created_anew_is_noticed_even_once_it_is_longer_than_the_old_one() {
    for count in [5, 40] {
        let rig = Rig::new();
        rig.feed(20);
        let mut shard = rig.live();
        rig.work(&mut shard);
        drop(shard);
        rig.log.delete_topic("in");
        rig.clock.advance(1_000);
        rig.log.create_topics(&[TopicSpec::new("in", 1)]).unwrap();
        rig.feed(count);
        let shard = rig.live();
        assert_eq!(shard.position, 0, "the new topic is read from its start");
        assert!(rig.epochs()[1].contains("created anew"), "{:?}", rig.epochs());
    }
}

#[test]
fn an_offset_that_something_else_committed_is_a_loud_cold_start() {
    let rig = Rig::new();
    rig.feed(20);
    let mut shard = rig.live();
    rig.work(&mut shard);
    drop(shard);
    let moved = [(
        rig.at.clone(),
        Committed {
            offset: 15,
            metadata: String::new(),
        },
    )];
    rig.member.commit(&moved).unwrap();
    let shard = rig.live();
    assert_eq!(shard.position, 15, "where the operator put it");
    assert!(
        rig.epochs()[1].contains("committed by something else than suture"),
        "{:?}",
        rig.epochs()
    );
}

#[test]
fn a_changed_pipeline_begins_an_epoch_and_takes_the_state_along_where_it_fits() {
    for takes_over in [true, false] {
        let mut rig = Rig::new();
        rig.feed(20);
        let mut shard = rig.live();
        rig.work(&mut shard);
        rig.snapshot(&mut shard);
        let digest = shard.fold.digest();
        drop(shard);
        rig.folds = Arc::new(SampleFolds {
            pipeline: "p2",
            takes_over,
            ..SampleFolds::default()
        });
        let shard = rig.live();
        assert_eq!((shard.epoch, shard.position), (1, 20));
        assert_eq!(shard.fold.digest() == digest, takes_over);
        let said = &rig.epochs()[1];
        assert!(said.contains("\"p1\"") && said.contains("\"p2\""), "{said}");
        assert!(said.contains(&format!("carried: {takes_over}")), "{said}");
        drop(shard);
        // the epoch is on record: starting again begins none
        rig.folds = Arc::new(SampleFolds {
            pipeline: "p2",
            ..SampleFolds::default()
        });
        assert_eq!(rig.live().epoch, 1);
        assert_eq!(rig.epochs().len(), 2);
    }
}

#[test]
fn another_number_of_partitions_is_refused_or_recorded() {
    let mut rig = Rig::new();
    rig.feed(20);
    let mut shard = rig.live();
    rig.work(&mut shard);
    drop(shard);
    rig.log.add_partitions("in", 3).unwrap();
    let refused = Error::Repartitioned {
        topic: "in".to_owned(),
        was: 1,
        now: 3,
    };
    assert_eq!(rig.refused(), refused);
    let zero = std::mem::replace(&mut rig.at, TopicPartition::new("in", 2));
    assert_eq!(rig.refused(), refused, "also by a partition that is new");
    rig.options.on_repartition = OnRepartition::Accept;
    rig.options.start = Start::Latest;
    rig.log
        .appender()
        .unwrap()
        .append(&[OutRecord {
            partition: Some(2),
            ..OutRecord::new("in", "k", "v")
        }])
        .unwrap();
    assert_eq!(
        rig.live().position,
        0,
        "what was moved to a new partition is not passed over"
    );
    rig.at = zero;
    assert_eq!(rig.live().position, 20);
    assert!(
        rig.epochs()
            .iter()
            .any(|said| said.contains("Repartitioned { from: 1, to: 3 }")),
        "{:?}",
        rig.epochs()
    );
}

#[test]
fn a_snapshot_that_was_tampered_with_gives_way_to_the_one_before() {
    let rig = Rig::new();
    let mut shard = rig.live();
    for _ in 0..3 {
        rig.feed(20);
        rig.work(&mut shard);
        rig.snapshot(&mut shard);
    }
    drop(shard);
    // the newest snapshot's first piece, written over
    let log = &rig.log;
    let mut spoilt = None;
    for partition in 0..2 {
        let at = TopicPartition::new("state", partition);
        let mut reader = log.reader(&at, 0, Isolation::ReadCommitted).unwrap();
        reader
            .read(Duration::ZERO, 10_000, &mut |record| {
                if record.key == Some(b"g/in/0@0-60#0".as_slice()) {
                    let key = record.key.map(<[u8]>::to_vec);
                    spoilt = Some(OutRecord {
                        partition: Some(partition),
                        key,
                        value: Some(b"?".to_vec()),
                        topic: "state".into(),
                        ..OutRecord::default()
                    });
                }
            })
            .unwrap();
    }
    log.appender().unwrap().append(&[spoilt.unwrap()]).unwrap();
    let shard = rig.live();
    assert_eq!((shard.position, rig.metrics.replayed.get(), shard.epoch), (60, 20, 0));
}

#[test]
fn a_manifest_that_counts_what_nobody_has_written_takes_no_memory_and_gives_way() {
    for (what, value) in [
        ("bytes", 1_u64 << 62),
        ("bytes", u64::MAX),
        ("bytes", 1 << 40),
        ("compressed", u64::MAX),
        ("pieces", u64::from(u32::MAX)),
        ("pieces", 60_000),
        ("offset", 7),
    ] {
        let rig = Rig::new();
        let mut shard = rig.live();
        for _ in 0..2 {
            rig.feed(20);
            rig.work(&mut shard);
            rig.snapshot(&mut shard);
        }
        let store = shard.store.clone();
        drop(shard);
        let inventory = store.inventory(&rig.log, 0, None).unwrap();
        let (id, manifest) = inventory.manifests.last_key_value().unwrap();
        let mut text = serde_json::to_value(manifest).unwrap();
        text[what] = value.into();
        let record = store.record(store.key(*id, "manifest"), Some(text.to_string().into_bytes()));
        rig.log.appender().unwrap().append(&[record]).unwrap();

        let shard = rig.live();
        assert_eq!((shard.position, shard.epoch), (40, 0), "{what} {value}");
        assert_eq!(rig.metrics.cold_starts.get(), 0, "{what} {value}");
        drop(shard);
        rig.assert_undisturbed();
    }
}

#[test]
fn two_snapshots_are_kept_and_the_others_deleted() {
    let rig = Rig::new();
    let mut shard = rig.live();
    for _ in 0..6 {
        rig.feed(20);
        rig.work(&mut shard);
        rig.snapshot(&mut shard);
    }
    rig.log.compact("state").unwrap();
    let mut manifests = Vec::new();
    for partition in 0..2 {
        let mut reader = rig
            .log
            .reader(&TopicPartition::new("state", partition), 0, Isolation::ReadCommitted)
            .unwrap();
        let keep = |key: &[u8]| String::from_utf8(key.to_vec()).unwrap();
        while !reader
            .read(Duration::ZERO, 1000, &mut |record| {
                manifests.extend(record.key.map(keep))
            })
            .unwrap()
        {}
    }
    manifests.retain(|key| key.ends_with("manifest"));
    assert_eq!(manifests, ["g/in/0@0-100#manifest", "g/in/0@0-120#manifest"]);
}

#[test]
fn a_partition_is_idle_only_once_it_is_read_to_its_end() {
    let mut rig = Rig::new();
    rig.options.ticks = true;
    rig.options.idle_after = Span::from_secs(5);
    let mut shard = rig.live();
    rig.feed(10);
    rig.work(&mut shard);
    // a transaction leaves a marker at the end, behind which no record lies
    let mut producer = rig.log.producer("collector").unwrap();
    producer.begin().unwrap();
    let record = OutRecord {
        partition: Some(0),
        ..OutRecord::new("in", "key1", "v")
    };
    producer.send(&record).unwrap();
    producer.commit(&[], &rig.member.group_metadata().unwrap()).unwrap();
    let marks = |shard: &mut Shard, drained| {
        rig.clock.advance(6_000);
        shard.advance(drained).unwrap_or_else(|failure| panic!("{failure:?}"));
        read(&rig.log, "marks")
            .concat()
            .last()
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        marks(&mut shard, true),
        "idle=false",
        "a record is there that has not been read"
    );
    rig.work(&mut shard);
    assert_eq!(marks(&mut shard, false), "idle=false", "records wait for the shard");
    assert_eq!(marks(&mut shard, true), "idle=true", "only the marker is left");
    producer.begin().unwrap();
    producer.send(&record).unwrap();
    assert_eq!(
        marks(&mut shard, true),
        "idle=false",
        "a transaction is open: a record may come"
    );
    producer.abort().unwrap();
    assert_eq!(marks(&mut shard, true), "idle=true");
}

#[test]
fn ticks_leave_no_trace_in_the_state() {
    let mut rig = Rig::new();
    rig.options.ticks = true;
    let mut shard = rig.live();
    for _ in 0..5 {
        rig.feed(7);
        rig.work(&mut shard);
        rig.clock.advance(1_500);
        shard.advance(true).unwrap_or_else(|failure| panic!("{failure:?}"));
    }
    assert!(read(&rig.log, "marks").concat().len() >= 5);
    drop(shard);
    // the replay has no ticks and must still come to the digest that was committed
    let mut shard = rig.live();
    rig.feed(7);
    rig.work(&mut shard);
    rig.assert_undisturbed();
}

#[test]
fn offsets_that_the_broker_has_forgotten_are_noticed_and_nothing_is_said_again() {
    let mut rig = Rig::new();
    rig.options.on_lost_offsets = OnLostOffsets::Refuse;
    let mut shard = rig.live();
    rig.feed(30);
    rig.work(&mut shard);
    rig.snapshot(&mut shard);
    drop(shard);
    let said = read(&rig.log, "out").concat().len();
    rig.log.forget_offsets("g");
    let text = rig.refused().to_string();
    assert!(
        text.contains("a snapshot of offset 30") && text.contains("--group g --topic in"),
        "{text}"
    );
    rig.options.on_lost_offsets = OnLostOffsets::Accept;
    drop(rig.live());
    // one that has neither offsets nor snapshots is new, unless what it alone writes to tells otherwise
    rig.options.on_lost_offsets = OnLostOffsets::Refuse;
    rig.options.group = "other".to_owned();
    rig.options.witness_topic = Some("out".to_owned());
    let text = rig.refused().to_string();
    assert!(
        text.contains("topic out holds") && text.contains("--group other --topic in"),
        "{text}"
    );
    rig.options.witness_topic = Some("dead".to_owned());
    drop(rig.live());
    assert_eq!(read(&rig.log, "out").concat().len(), said, "nothing was said meanwhile");
}

#[test]
fn a_silence_is_passed_between_the_same_two_records_after_a_restart() {
    let mut rig = Rig::new();
    rig.options.ticks = true;
    rig.options.idle_after = Span::from_secs(5);
    rig.folds = Arc::new(SampleFolds {
        minds_silence: true,
        ..SampleFolds::default()
    });
    let mut shard = rig.live();
    for round in 0..100 {
        rig.feed(3);
        rig.work(&mut shard);
        // longer and longer, so that several come between two records
        for _ in 0..round % 4 {
            rig.clock.advance(6_000);
            shard.advance(true).unwrap_or_else(|failure| panic!("{failure:?}"));
        }
        assert!(shard.silences.len() <= 48, "{}", shard.silences.len());
        if round % 7 == 5 {
            // a replay that left any out would come to another digest, and stop
            drop(shard);
            shard = rig.live();
        }
        if round == 33 {
            rig.snapshot(&mut shard);
        }
    }
    let newest = rig.metrics.snapshot_offset.get().unwrap_or_default();
    assert!(newest > 102, "many silences call for a snapshot: {newest}");
}

#[test]
fn a_snapshot_is_taken_at_once_when_the_log_no_longer_reaches_back_to_the_last() {
    let rig = Rig::new();
    let mut shard = rig.live();
    rig.feed(20);
    rig.work(&mut shard);
    rig.snapshot(&mut shard);
    rig.feed(20);
    rig.work(&mut shard);
    rig.log.trim(&rig.at, 30).unwrap();
    // a quiet shard notices when it looks around, and writes the snapshot with the commits after that
    for _ in 0..3 {
        rig.clock.advance(11_000);
        shard.advance(true).unwrap_or_else(|failure| panic!("{failure:?}"));
    }
    drop(shard);
    let shard = rig.live();
    assert_eq!((shard.position, shard.epoch, rig.metrics.cold_starts.get()), (40, 0, 0));
}

#[test]
fn what_records_led_to_is_told_the_time_in_the_same_commit() {
    let mut rig = Rig::new();
    rig.options.ticks = true;
    rig.options.tick_interval = Span::from_hours(1);
    let mut shard = rig.live();
    rig.clock.advance(1_000);
    shard.advance(true).unwrap_or_else(|failure| panic!("{failure:?}"));
    let marks = || read(&rig.log, "marks").concat().len();
    let before = marks();
    rig.feed(40);
    let mut batch = Batch::new();
    let mut reader = rig.log.reader(&rig.at, 0, Isolation::ReadCommitted).unwrap();
    while !reader
        .read(Duration::ZERO, 1000, &mut |record| _ = batch.push(record))
        .unwrap()
    {}
    shard.step(&mut batch);
    assert!(!shard.outputs.records().is_empty());
    rig.clock.advance(200);
    shard.advance(true).unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!((marks(), shard.committed), (before + 1, 40));
    // a position alone is committed without
    rig.clock.advance(5_000);
    shard.advance(true).unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!(marks(), before + 1);
}

#[test]
fn outputs_are_committed_at_once_and_positions_alone_more_rarely() {
    let rig = Rig::new();
    let mut shard = rig.live();
    let poison: Vec<OutRecord> = (0..3)
        .map(|_| OutRecord {
            partition: Some(0),
            ..OutRecord::new("in", "key", "poison")
        })
        .collect();
    let committed = |shard: &Shard| shard.committed;
    let step = |shard: &mut Shard| {
        let mut batch = Batch::new();
        let mut reader = rig
            .log
            .reader(&rig.at, shard.position, Isolation::ReadCommitted)
            .unwrap();
        while !reader
            .read(Duration::ZERO, 1000, &mut |record| _ = batch.push(record))
            .unwrap()
        {}
        shard.step(&mut batch);
        shard.advance(true).unwrap_or_else(|failure| panic!("{failure:?}"));
    };
    rig.clock.advance(200);
    rig.log.appender().unwrap().append(&poison).unwrap();
    step(&mut shard);
    assert_eq!(committed(&shard), 3, "a dead letter is an output");
    assert_eq!(read(&rig.log, "dead").concat().len(), 3);
    assert_eq!(rig.metrics.dead_letters.get(), 3);
    rig.clock.advance(50);
    rig.log.appender().unwrap().append(&poison[..1]).unwrap();
    step(&mut shard);
    assert_eq!(committed(&shard), 3, "not more often than the interval");
    assert!(shard.patience() <= Duration::from_millis(50));
    rig.clock.advance(50);
    step(&mut shard);
    assert_eq!(committed(&shard), 4);
}
