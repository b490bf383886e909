//! Snapshots in an object store that loses, spoils and refuses things.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use suture_event::Span;

use super::cases::Rig;
use crate::{Objects, ObjectsError, error::Failure, shard::Shard};

/// What is done to what a store has.
type Harm = fn(&mut BTreeMap<String, Vec<u8>>);

/// A store in memory.
#[derive(Debug, Default)]
struct Shelf {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Full: takes nothing.
    full: Mutex<bool>,
    /// Away: answers nothing.
    away: Mutex<bool>,
}

impl Shelf {
    fn answer(&self) -> Result<(), ObjectsError> {
        if *self.away.lock().unwrap() {
            return Err(ObjectsError("it is away".to_owned()));
        }
        Ok(())
    }

    fn names(&self) -> Vec<String> {
        self.objects.lock().unwrap().keys().cloned().collect()
    }

    /// Offsets of the snapshots that are complete.
    fn snapshots(&self) -> Vec<String> {
        let manifests = self.names().into_iter().filter(|name| name.ends_with("/manifest"));
        manifests
            .map(|name| name.split('/').nth(3).unwrap().to_owned())
            .collect()
    }
}

impl Objects for Shelf {
    fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), ObjectsError> {
        self.answer()?;
        if *self.full.lock().unwrap() {
            return Err(ObjectsError("no space left".to_owned()));
        }
        self.objects.lock().unwrap().insert(name.to_owned(), bytes);
        Ok(())
    }
    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, ObjectsError> {
        self.answer()?;
        Ok(self.objects.lock().unwrap().get(name).cloned())
    }
    fn list(&self, prefix: &str) -> Result<Vec<String>, ObjectsError> {
        self.answer()?;
        Ok(self
            .names()
            .into_iter()
            .filter(|name| name.starts_with(prefix))
            .collect())
    }
    fn delete(&self, names: &[String]) -> Result<(), ObjectsError> {
        self.answer()?;
        self.objects.lock().unwrap().retain(|name, _| !names.contains(name));
        Ok(())
    }
}

fn rig() -> (Rig, Arc<Shelf>) {
    let mut rig = Rig::new();
    let shelf = Arc::new(Shelf::default());
    rig.objects = Some(Arc::<Shelf>::clone(&shelf));
    rig.options.object_piece = 40;
    (rig, shelf)
}

/// Feeds, works, and waits for a snapshot.
fn round(rig: &Rig, shard: &mut Shard, count: usize) {
    rig.feed(count);
    rig.work(shard);
    rig.snapshot(shard);
}

/// What is deleted goes on a thread of its own.
fn until(what: &str, done: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_shard_goes_on_from_the_object_store_and_two_snapshots_are_kept() {
    let (rig, shelf) = rig();
    let mut shard = rig.live();
    for _ in 0..4 {
        round(&rig, &mut shard, 20);
    }
    until("old snapshots to go", || shelf.snapshots() == ["0-60", "0-80"]);
    assert!(shelf.names().len() > 4, "in pieces: {:?}", shelf.names());
    rig.feed(15);
    rig.work(&mut shard);
    drop(shard);
    let mut shard = rig.live();
    assert_eq!((shard.position, shard.epoch, rig.metrics.replayed.get()), (95, 0, 15));
    round(&rig, &mut shard, 10);
    rig.assert_undisturbed();
    assert_eq!(rig.metrics.cold_starts.get(), 0);
}

#[test]
fn a_damaged_object_gives_way_to_the_snapshot_before() {
    let (rig, shelf) = rig();
    let mut shard = rig.live();
    for _ in 0..3 {
        round(&rig, &mut shard, 20);
    }
    drop(shard);
    let spoil: [Harm; 3] = [
        |objects| objects.get_mut("g/in/0/0-60/0").unwrap()[5] ^= 1,
        |objects| _ = objects.remove("g/in/0/0-60/1"),
        |objects| _ = objects.insert("g/in/0/0-60/manifest".to_owned(), b"{".to_vec()),
    ];
    for (at, spoil) in (1..).zip(spoil) {
        spoil(&mut shelf.objects.lock().unwrap());
        let shard = rig.live();
        assert_eq!(
            (shard.position, shard.epoch, rig.metrics.replayed.get()),
            (60, 0, 20 * at)
        );
    }
    assert_eq!(rig.metrics.cold_starts.get(), 0);
}

#[test]
fn a_store_that_takes_nothing_costs_snapshots_and_nothing_else() {
    let (mut rig, shelf) = rig();
    rig.options.snapshot_interval = Span::from_secs(1);
    let mut shard = rig.live();
    *shelf.full.lock().unwrap() = true;
    for _ in 0..3 {
        rig.feed(20);
        rig.work(&mut shard);
        rig.clock.advance(5_000);
        // the snapshot is due with the next commit
        rig.feed(1);
        rig.work(&mut shard);
        rig.snapshot(&mut shard);
    }
    assert_eq!(rig.metrics.snapshot_failures.get(), 3);
    drop(shard);
    // from the one that began the epoch, which is in the state topic
    let mut shard = rig.live();
    assert_eq!((shard.epoch, rig.metrics.replayed.get()), (0, 63));
    *shelf.full.lock().unwrap() = false;
    round(&rig, &mut shard, 20);
    assert_eq!(shelf.snapshots(), ["0-83"]);
    rig.assert_undisturbed();
}

#[test]
fn a_store_that_is_away_is_waited_for_and_not_taken_for_an_empty_one() {
    let (rig, shelf) = rig();
    let mut shard = rig.live();
    round(&rig, &mut shard, 20);
    drop(shard);
    *shelf.away.lock().unwrap() = true;
    let failure = rig.open_on(Arc::new(rig.log.clone())).err();
    assert!(matches!(failure, Some(Failure::Restart(_))), "{failure:?}");
    *shelf.away.lock().unwrap() = false;
    let shard = rig.live();
    assert_eq!((shard.position, shard.epoch, rig.metrics.cold_starts.get()), (20, 0, 0));
}

#[test]
fn what_nobody_lived_to_finish_is_deleted_at_the_next_start() {
    let (rig, shelf) = rig();
    let mut shard = rig.live();
    round(&rig, &mut shard, 20);
    drop(shard);
    let others = ["g/in/0/0-15/0", "g/in/0/0-999/0", "g/in/0/1-3/0", "g/in/00/0-15/0"];
    for name in others {
        shelf.put(name, vec![1]).unwrap();
    }
    let mut shard = rig.live();
    until("the orphan to go", || !shelf.names().contains(&others[0].to_owned()));
    // another shard's, and what may have been written by whoever took this one over: a process that stood still in between
    // must not delete that
    for name in &others[1..] {
        assert!(shelf.names().contains(&(*name).to_owned()), "{name}");
    }
    assert_eq!(shelf.snapshots(), ["0-20"]);
    // it goes once there is a newer one
    rig.feed(1_000);
    rig.work(&mut shard);
    rig.snapshot(&mut shard);
    drop(shard);
    let _shard = rig.live();
    until("the newer orphan to go", || {
        !shelf.names().contains(&others[1].to_owned())
    });
    assert!(shelf.names().contains(&others[2].to_owned()));
}

#[test]
fn snapshots_move_to_a_store_and_those_in_the_topic_go() {
    let (mut rig, shelf) = rig();
    let objects = rig.objects.take();
    let mut shard = rig.live();
    round(&rig, &mut shard, 20);
    drop(shard);
    rig.objects = objects;
    let mut shard = rig.live();
    assert_eq!((shard.position, rig.metrics.replayed.get()), (20, 0));
    round(&rig, &mut shard, 20);
    round(&rig, &mut shard, 20);
    drop(shard);
    assert_eq!(shelf.snapshots(), ["0-40", "0-60"]);
    assert_eq!((rig.live().position, rig.metrics.cold_starts.get()), (60, 0));
    rig.assert_undisturbed();
}
