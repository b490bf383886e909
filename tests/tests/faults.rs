//! The program on a real broker through all sorts of faults. After each, everything that it has committed must be, byte for
//! byte, what a run that nothing disturbs comes to: facts, incidents, action requests, and a ledger whose chain is whole.

// the helpers of tests: what goes wrong in them is a failed test
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use suture_tests::{
    broker,
    disk::Disk,
    program::Process,
    proxy::{Line, Proxy},
    shop::Shop,
    wait,
};

const LONG: Duration = Duration::from_secs(120);
/// Longer than the session timeout of the pipelines, which is two seconds.
const PAST_THE_SESSION: Duration = Duration::from_millis(4_500);

fn text(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// Kills now the one plane and now the other, at a moment that the seed gives: while it starts, fences, restores, reads,
/// commits.
fn survives_kills(name: &str, kafka: &str, assigned: bool, kills: u32) {
    let broker = broker::shared();
    let mut shop = Shop::open(&broker, name, kafka);
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let arguments = ["observe", "decide"].map(|plane| {
        if assigned {
            shop.assigned(plane)
        } else {
            vec!["--plane".to_owned(), plane.to_owned()]
        }
    });
    let mut planes = arguments.each_ref().map(|of_plane| Some(shop.run(&text(of_plane))));
    let mut killed = [0, 0];
    for _ in 0..kills {
        shop.feed(usize::try_from(90 / kills).unwrap());
        wait::pause(Duration::from_millis(random.random_range(100..2_400)));
        let at = usize::from(random.random_bool(0.5));
        planes[at].take().unwrap().kill();
        killed[at] += 1;
        planes[at] = Some(shop.run(&text(&arguments[at])));
    }
    let records = shop.verify(planes.into_iter().flatten().collect());
    println!(
        "{name}: {} kills -9 of observe and {} of decide survived, {records} records each there once",
        killed[0], killed[1]
    );
}

#[test]
fn kills_of_processes_with_partitions_of_their_own() {
    survives_kills("faults-kills-assigned", "", true, 16);
}

#[test]
fn kills_of_processes_in_groups() {
    survives_kills("faults-kills-group", "", false, 10);
}

#[test]
fn kills_of_processes_in_groups_of_the_newer_protocol() {
    survives_kills("faults-kills-consumer", "protocol: consumer", false, 8);
}

#[test]
fn a_zombie_of_either_plane_wakes_after_its_shards_have_moved() {
    let broker = broker::shared();
    let mut shop = Shop::open(&broker, "faults-zombie", "");
    let zombies = ["observe", "decide"].map(|plane| shop.run(&["--plane", plane]));
    shop.feed(40);
    shop.wait_for(".facts", 10);
    shop.feed(30);
    zombies.iter().for_each(|sleeper| sleeper.signal("STOP"));
    wait::pause(PAST_THE_SESSION);
    let mut heirs = ["observe", "decide"].map(|plane| shop.run(&["--plane", plane]));
    for heir in &mut heirs {
        wait_for_log(heir, "live");
    }
    zombies.iter().for_each(|sleeper| sleeper.signal("CONT"));
    shop.feed(20);
    wait::pause(Duration::from_secs(1));
    let records = shop.verify(heirs.into_iter().chain(zombies).collect());
    println!("two zombies woke after their shards had moved, {records} records each there once");
}

fn wait_for_log(process: &mut Process, word: &str) {
    wait::until(&format!("{word:?} in a process's log"), LONG, || {
        assert!(process.runs(), "{}", process.log());
        process.log().contains(word).then_some(())
    });
}

#[test]
fn processes_that_come_and_go_while_it_runs() {
    let broker = broker::shared();
    let mut shop = Shop::open(&broker, "faults-scale", "");
    let mut first = shop.run(&[]);
    shop.feed(15);
    wait_for_log(&mut first, "live");
    let mut joined = [shop.run(&["--plane", "observe"]), shop.run(&[])];
    shop.feed(15);
    for process in &mut joined {
        wait_for_log(process, "live");
    }
    shop.feed(15);
    let [one, mut other] = joined;
    other.signal("TERM");
    shop.feed(15);
    assert!(other.ended(LONG).success(), "{}", other.log());
    one.kill();
    shop.feed(15);
    let last = shop.run(&[]);
    shop.feed(15);
    let records = shop.verify(vec![first, last]);
    println!("two processes joined, one left and one was killed, {records} records each there once");
}

#[test]
fn records_that_nobody_can_read() {
    let broker = broker::shared();
    let mut shop = Shop::open(&broker, "faults-poison", "");
    let run = shop.run(&[]);
    shop.feed(40);
    shop.feed_poison(&[
        b"\xff\xfe not telemetry",
        br#"{"ts": "2026-06-01T00:00:00Z", "metric": "latency_p50_seconds", "value": {}}"#,
        b"",
        b"{\"ts\": 17",
    ]);
    shop.feed(40);
    let records = shop.verify(vec![run]);
    println!("four records went to the dead letters, {records} records each there once");
}

#[test]
fn a_line_to_the_broker_that_is_slow_hangs_and_is_cut() {
    let broker = broker::shared();
    let proxy = Proxy::start(&broker);
    let mut shop = Shop::open(&broker, "faults-line", "");
    let run = shop.run_at(proxy.address(), &[]);
    shop.feed(10);
    shop.wait_for(".facts", 1);
    let mut cuts = 0;
    for (line, lasts) in [
        (Line::Slow, Duration::from_secs(3)),
        (Line::Cut, Duration::from_millis(300)),
        (Line::Clear, Duration::from_secs(1)),
        (Line::Cut, PAST_THE_SESSION),
        (Line::Slow, Duration::from_secs(2)),
        (Line::Hanging, PAST_THE_SESSION),
        (Line::Cut, Duration::from_millis(50)),
        (Line::Clear, Duration::from_millis(500)),
    ] {
        shop.feed(9);
        proxy.turn(line);
        cuts += u32::from(line == Line::Cut);
        wait::pause(lasts);
    }
    proxy.turn(Line::Clear);
    let records = shop.verify(vec![run]);
    assert!(proxy.connections() > 10, "hardly anything went through the proxy");
    println!("the line was slow, hung, and was cut {cuts} times, {records} records each there once");
}

#[test]
fn a_full_disk_under_the_snapshot_store() {
    let broker = broker::shared();
    let folder = tempfile::tempdir().unwrap();
    let store = format!("state: {{store: \"file://{}/store\"}}", folder.path().display());
    let disk = Disk::mount(folder.path(), 16).expect("a small file system of one's own can be mounted here");
    let mut shop = Shop::open(&broker, "faults-store", &store);
    let run = shop.run_on(&disk);
    shop.feed(20);
    shop.wait_for(".facts", 1);
    wait::until("a snapshot in the store", LONG, || disk.holds("manifest").then_some(()));
    disk.fill();
    shop.feed(20);
    wait::until("a snapshot that does not fit", LONG, || {
        run.log().contains("did not take a snapshot").then_some(())
    });
    // what comes after it starts from what the store has, full as it is
    run.kill();
    // what the first life had begun to write went with it
    disk.fill();
    let second = shop.run_on(&disk);
    shop.feed(20);
    wait::until("a second life", LONG, || {
        second.log().contains("did not take a snapshot").then_some(())
    });
    assert!(
        second.log().contains("takes no snapshots at present"),
        "{}",
        second.log()
    );
    disk.free();
    let records = shop.verify(vec![second]);
    println!("the disk under the snapshot store was full, {records} records each there once");
}

#[test]
fn a_clock_that_is_set_back_and_forward_an_hour() {
    const HOUR: i64 = 3_600_000;
    let broker = broker::shared();
    let mut shop = Shop::open(&broker, "faults-clock", "");
    let mut run = shop.run_with_clock();
    shop.feed(10);
    shop.wait_for(".facts", 1);
    for off in [-HOUR, 0, HOUR, -HOUR, HOUR, 0] {
        run.tell(&format!("clock {off}"));
        shop.feed(12);
        wait::pause(Duration::from_millis(1_200));
    }
    let records = shop.verify(vec![run]);
    println!("the clock was set six times, {records} records each there once");
}
