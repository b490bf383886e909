//! The program on a broker whose disk fills up, on a small file system of the broker's own. It runs by itself, since it is a
//! broker of its own that it ill-treats, and what is tested beside it would be slowed down. What must hold is as in
//! `faults.rs`.

// the helpers of tests: what goes wrong in them is a failed test
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::time::Duration;

use suture_tests::{broker::Broker, disk::Disk, shop::Shop, wait};

const LONG: Duration = Duration::from_secs(120);

#[test]
fn a_full_disk_ends_the_broker_and_nothing_else() {
    let broker = Broker::start_on(|folder| Disk::mount(folder, 192));
    let mut shop = Shop::open(&broker, "faults-disk", "");
    let run = shop.run(&[]);
    shop.feed(10);
    shop.wait_for(".facts", 1);
    shop.feed(10);
    let how = match broker.disk() {
        Some(disk) => {
            disk.fill();
            "its disk, a small one of its own, was full"
        }
        None => {
            broker.allow_no_growth();
            "its files were not allowed to grow, since no disk can be mounted here"
        }
    };
    // what the program writes makes it fail: progress marks if nothing else; and then it ends by itself
    wait::until("the end of a broker that cannot write", LONG, || {
        (!broker.is_alive()).then_some(())
    });
    if let Some(disk) = broker.disk() {
        disk.free();
    }
    broker.restart();
    shop.feed(30);
    let records = shop.verify(vec![run]);
    println!("the broker ended since {how}, and came back: {records} records each there once");
}
