//! From a lease to a live shard: newest snapshot, replay with outputs dropped, comparison.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use suture_event::Timestamp;
use suture_log::{Batch, Isolation, Offset, TopicPartition};
use tracing::{error, info, warn};

use crate::{
    EpochCause, Error, Fold, FoldError, ObjectsError, OnLostOffsets, Outputs,
    error::Failure,
    lease::{Lease, Origin},
    mark::Mark,
    metrics::{Phase, ShardMetrics},
    objects,
    pace::{InStep, Place},
    shard::{Env, Shard, Times, fingerprint_hash},
    state::{Inventory, Manifest, SnapshotId, StateStore},
    writer::{Kept, Writer},
};

/// How long the replay may wait for a record that must be there.
const PATIENCE: Duration = Duration::from_secs(30);

/// A state to go on from.
struct Base {
    fold: Box<dyn Fold>,
    /// Why a new epoch begins, if one does, and its number.
    epoch: (u32, Option<EpochCause>),
}

/// Brings a shard to the state it had at the leased position, and live.
pub(crate) fn restore(
    env: &Arc<Env>,
    at: &TopicPartition,
    metrics: &Arc<ShardMetrics>,
    lease: Lease,
    place: Option<&Arc<Place>>,
) -> Result<Shard, Failure> {
    metrics.set_phase(Phase::Restoring);
    // before a long restore, so that the others know for what they wait
    let in_step = place.map(|place| {
        let resumed = match &lease.origin {
            Origin::Resumed(mark) | Origin::Repartitioned(mark) => Some((mark.reached, lease.start)),
            Origin::New | Origin::Cold { .. } => None,
        };
        InStep::new(Arc::clone(place), resumed)
    });
    let log = env.log.as_ref();
    let store = StateStore::new(log, &env.options.state_topic, &env.options.group, at).map_err(config)?;
    let from = match &lease.origin {
        Origin::Resumed(mark) | Origin::Repartitioned(mark) => mark.state_from,
        Origin::New | Origin::Cold { .. } => 0,
    };
    // the newest that may be used is the one that will be, but for damage
    let newest = match &lease.origin {
        Origin::Resumed(mark) | Origin::Repartitioned(mark) => mark
            .snapshots
            .iter()
            .filter(|id| id.offset <= lease.start)
            .max()
            .copied(),
        Origin::New | Origin::Cold { .. } => None,
    };
    let mut inventory = store.inventory(log, from, newest).map_err(config)?;
    if let (Some(objects), Origin::Resumed(mark) | Origin::Repartitioned(mark)) = (&env.objects, &lease.origin) {
        for id in &mark.snapshots {
            if inventory.manifests.contains_key(id) {
                continue;
            }
            let found = objects::manifest(objects.as_ref(), &store, *id).map_err(|error| unanswered(at, error))?;
            if let Some(manifest) = found {
                inventory.away.insert(*id, manifest);
            }
        }
    }
    let base = base(env, at, metrics, &lease, &store, &inventory)?;

    let (mark_epoch, last, listed, silences) = match &lease.origin {
        Origin::Resumed(mark) | Origin::Repartitioned(mark) => (
            Some(mark.epoch),
            mark.last,
            mark.snapshots.clone(),
            mark.silences.clone(),
        ),
        Origin::New | Origin::Cold { .. } => (None, None, Vec::new(), Vec::new()),
    };
    let kept = listed.iter().filter_map(|id| {
        let (manifest, away) = match inventory.manifests.get(id) {
            Some(manifest) => (manifest, false),
            None => (inventory.away.get(id)?, true),
        };
        Some(Kept {
            id: manifest.id(),
            pieces: manifest.pieces,
            from,
            away,
        })
    });
    let mut writer = Writer::new(kept);
    if let Some(objects) = &env.objects {
        objects::tidy(Arc::clone(objects), store.clone(), listed.clone());
    }
    for (id, pieces) in inventory.others(&listed) {
        writer.push(store.tombstones(id, pieces));
    }
    let (epoch, cause) = base.epoch;
    debug_assert!(
        cause.is_some() || mark_epoch == Some(epoch),
        "an epoch goes on only where it was committed"
    );
    let mut shard = Shard {
        env: Arc::clone(env),
        at: at.clone(),
        metrics: Arc::clone(metrics),
        fold: base.fold,
        producer: lease.producer,
        store,
        writer,
        upload: None,
        fingerprint: env.fingerprint().clone(),
        epoch,
        partitions: lease.partitions,
        position: lease.start,
        committed: lease.start,
        last,
        outputs: Outputs::default(),
        ticked: 0,
        times: Times::starting(env.clock.now()),
        empty_to: lease.start,
        silences,
        in_step,
    };
    shard.fold.resume(shard.epoch);
    if let Some(cause) = cause {
        shard.begin_epoch(cause)?;
    }
    metrics.end.set(lease.range.end);
    shard.go_live();
    Ok(shard)
}

/// A store that does not answer may have the snapshot: it is asked again, as a broker is.
fn unanswered(at: &TopicPartition, source: ObjectsError) -> Failure {
    Failure::Restart(Error::Objects {
        shard: at.clone(),
        source,
    })
}

/// A log that fails is tried again; a topic that is missing is not.
fn config(error: Error) -> Failure {
    match error {
        Error::Log(error) => error.into(),
        other => Failure::Stop(other),
    }
}

fn create(env: &Env, at: &TopicPartition) -> Result<Box<dyn Fold>, Failure> {
    let shard = at.clone().into();
    env.folds.create(&shard).map_err(|source| {
        Failure::Stop(Error::Fold {
            shard: at.clone(),
            source,
        })
    })
}

fn base(
    env: &Env,
    at: &TopicPartition,
    metrics: &ShardMetrics,
    lease: &Lease,
    store: &StateStore,
    inventory: &Inventory,
) -> Result<Base, Failure> {
    let (mark, repartitioned) = match &lease.origin {
        Origin::New => {
            // A group whose offsets were deleted may have left snapshots behind; but what is of this very beginning comes
            // of an attempt at it that was cut short, of which nobody has ever heard.
            let beginning = SnapshotId {
                epoch: 0,
                offset: lease.start,
            };
            let before = inventory.last_epoch_beside(beginning);
            if before.is_some() && env.options.on_lost_offsets == OnLostOffsets::Refuse {
                let offset = inventory.manifests.keys().map(|id| id.offset).max();
                let trace = match offset {
                    Some(offset) => format!("there is a snapshot of offset {offset}"),
                    None => "there are pieces of its snapshots".to_owned(),
                };
                return Err(lost(env, at, trace));
            }
            if let Some(trace) = witness(env, at)? {
                return Err(lost(env, at, trace));
            }
            let number = before.map_or(0, |epoch| epoch + 1);
            return Ok(Base {
                fold: create(env, at)?,
                epoch: (number, Some(EpochCause::First)),
            });
        }
        Origin::Cold { epoch, reason } => {
            let number = epoch.max(&inventory.last_epoch()).map_or(0, |epoch| epoch + 1);
            let cause = EpochCause::Cold { reason: reason.clone() };
            return Ok(Base {
                fold: create(env, at)?,
                epoch: (number, Some(cause)),
            });
        }
        Origin::Resumed(mark) => (mark, false),
        Origin::Repartitioned(mark) => (mark, true),
    };
    let next = mark.epoch.max(inventory.last_epoch().unwrap_or(0)) + 1;
    let to = env.fingerprint().clone();
    let changed = fingerprint_hash(&to) != mark.fingerprint;
    let all: BTreeMap<SnapshotId, &Manifest> = inventory
        .away
        .iter()
        .chain(&inventory.manifests)
        .map(|(id, manifest)| (*id, manifest))
        .collect();
    let candidates = all
        .into_values()
        .rev()
        .filter(|m| m.epoch == mark.epoch && m.offset <= lease.start);
    let mut reason = match env.objects {
        Some(_) => "there is no snapshot of it in the object store or the state topic".to_owned(),
        None => "there is no snapshot of it in the state topic".to_owned(),
    };
    for manifest in candidates {
        debug_assert!(
            manifest.offset <= lease.start,
            "a snapshot is never ahead of the commit that lists it"
        );
        let mut fold = create(env, at)?;
        match usable(env, at, manifest, lease, (store, inventory), fold.as_mut(), changed)? {
            Ok(()) => {}
            Err(Unusable::Shape(why)) if changed => {
                warn!(shard = %at, why, "the state does not fit the changed pipeline or engine");
                let cause = EpochCause::Changed {
                    from: manifest.fingerprint.clone(),
                    to,
                    carried: false,
                };
                return Ok(Base {
                    fold: create(env, at)?,
                    epoch: (next, Some(cause)),
                });
            }
            Err(Unusable::Shape(why) | Unusable::Bytes(why)) => {
                error!(shard = %at, offset = manifest.offset, why, "a snapshot cannot be used");
                reason = format!("no snapshot of it can be used; of the last one looked at: {why}");
                continue;
            }
        }
        let span = (manifest.offset, lease.start);
        let replayed = replay(env, at, fold.as_mut(), span, &mark.silences)?;
        metrics.restores.add(1);
        metrics.replayed.add(replayed);
        info!(shard = %at, snapshot = manifest.offset, replayed, "state restored");
        let cause = if changed {
            Some(EpochCause::Changed {
                from: manifest.fingerprint.clone(),
                to,
                carried: true,
            })
        } else {
            compare(at, fold.as_ref(), mark, manifest, lease.start)?;
            repartitioned.then_some(EpochCause::Repartitioned {
                from: mark.partitions,
                to: lease.partitions,
            })
        };
        let number = if cause.is_some() { next } else { mark.epoch };
        return Ok(Base {
            fold,
            epoch: (number, cause),
        });
    }
    Ok(Base {
        fold: create(env, at)?,
        epoch: (next, Some(EpochCause::Cold { reason })),
    })
}

fn lost(env: &Env, at: &TopicPartition, trace: String) -> Failure {
    Failure::Stop(Error::OffsetsLost {
        shard: at.clone(),
        group: env.options.group.clone(),
        trace,
    })
}

/// What shows that the plane has worked, where the group has no offset of the whole topic: a shard that is new beside others
/// that have worked is one that was added.
fn witness(env: &Env, at: &TopicPartition) -> Result<Option<String>, Failure> {
    let (log, options) = (env.log.as_ref(), &env.options);
    let Some(topic) = options
        .witness_topic
        .as_ref()
        .filter(|_| options.on_lost_offsets == OnLostOffsets::Refuse)
    else {
        return Ok(None);
    };
    let of = |topic: &str| -> Result<Vec<TopicPartition>, Failure> {
        let partitions = log.topic(topic)?.map_or(0, |info| info.partitions);
        Ok((0..partitions)
            .map(|partition| TopicPartition::new(topic, partition))
            .collect())
    };
    // first what is written: whoever has written since has committed, too
    let mut written = false;
    for partition in of(topic)? {
        written |= log.range(&partition)?.end > 0;
    }
    if !written {
        return Ok(None);
    }
    let committed = log.committed_before(&options.group, &of(&at.topic)?)?;
    let none = committed.iter().all(Option::is_none);
    Ok(none.then(|| format!("topic {topic} holds what it decided")))
}

/// Why a snapshot is of no use.
enum Unusable {
    /// It cannot be had, or is not what was written.
    Bytes(String),
    /// The fold does not take it.
    Shape(String),
}

fn usable(
    env: &Env,
    at: &TopicPartition,
    manifest: &Manifest,
    lease: &Lease,
    (store, inventory): (&StateStore, &Inventory),
    fold: &mut dyn Fold,
    changed: bool,
) -> Result<Result<(), Unusable>, Failure> {
    if manifest.offset < lease.range.start && manifest.offset < lease.start {
        let why = format!(
            "it is of offset {}, and the log begins at {}: the snapshot is older than what the topic retains",
            manifest.offset, lease.range.start
        );
        return Ok(Err(Unusable::Bytes(why)));
    }
    let loaded = match &env.objects {
        Some(objects) if !inventory.manifests.contains_key(&manifest.id()) => {
            objects::load(objects.as_ref(), store, manifest).map_err(|error| unanswered(at, error))?
        }
        _ => store.load(env.log.as_ref(), inventory, manifest).map_err(config)?,
    };
    let state = match loaded {
        Ok(state) => state,
        Err(why) => return Ok(Err(Unusable::Bytes(why))),
    };
    if let Err(FoldError(why)) = fold.restore(&state) {
        return Ok(Err(Unusable::Shape(why)));
    }
    if !changed && suture_event::hex16(fold.digest()) != manifest.digest {
        return Ok(Err(Unusable::Bytes(
            "the state read from it is not the one that was written".to_owned(),
        )));
    }
    Ok(Ok(()))
}

/// The state at the committed offset must be the one that was committed.
fn compare(at: &TopicPartition, fold: &dyn Fold, mark: &Mark, from: &Manifest, to: Offset) -> Result<(), Failure> {
    if fold.digest() == mark.digest {
        return Ok(());
    }
    Err(Failure::Stop(Error::Diverged {
        shard: at.clone(),
        from: from.offset,
        to,
    }))
}

/// Takes in the records of the span, up to before its end, and the silences between them, and drops what they lead to. Gives
/// the number of records.
fn replay(
    env: &Env,
    at: &TopicPartition,
    fold: &mut dyn Fold,
    (from, to): (Offset, Offset),
    silences: &[(Offset, Timestamp)],
) -> Result<u64, Failure> {
    let mut dropped = Outputs::default();
    let mut silences = silences.iter().filter(|(at, _)| (from..=to).contains(at)).peekable();
    let (mut done, mut count) = (from, 0);
    loop {
        while let Some((_, until)) = silences.next_if(|(at, _)| *at <= done) {
            fold.pass_silence(*until, &mut dropped);
            dropped.clear();
        }
        if done >= to {
            return Ok(count);
        }
        let next = silences.peek().map_or(to, |(at, _)| *at);
        count += replay_records(env, at, fold, (done, next), &mut dropped)?;
        done = next;
    }
}

fn replay_records(
    env: &Env,
    at: &TopicPartition,
    fold: &mut dyn Fold,
    (from, to): (Offset, Offset),
    dropped: &mut Outputs,
) -> Result<u64, Failure> {
    let mut reader = env.log.reader(at, from, Isolation::ReadCommitted)?;
    let mut batch = Batch::new();
    let mut count = 0;
    let mut beyond = false;
    loop {
        let mut seen = 0;
        let end = reader.read(PATIENCE, env.options.batch_records, &mut |record| {
            seen += 1;
            if record.offset < to {
                batch.push(record);
            } else {
                beyond = true;
            }
        })?;
        count += batch.len() as u64;
        beyond = beyond || batch.next() == Some(to);
        fold.batch(&batch, dropped);
        batch.clear();
        dropped.clear();
        if end || beyond {
            return Ok(count);
        }
        if seen == 0 {
            return Err(Failure::Restart(Error::Log(suture_log::Error::Indefinite {
                what: format!("replaying {at} from {from} to {to}"),
                detail: format!("nothing came for {} s", PATIENCE.as_secs()),
            })));
        }
    }
}
