//! The program on a broker whose disk fills up: `cargo build -p suture && cargo run -p suture-tests --example disk_full`.
//!
//! It is no test, since it does not always pass: once in several runs a shard waits for its committed offset without end after
//! the broker has come back, as if a transaction were left open in the broker's offsets topic. Nothing is lost or doubled;
//! the shard stands still, and says so at every try.

// what goes wrong here ends the program
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::print_stdout)]

use std::time::Duration;

use suture_tests::{broker::Broker, disk::Disk, shop::Shop, wait};

const LONG: Duration = Duration::from_secs(120);

fn main() {
    let broker = Broker::start_on(|folder| Disk::mount(folder, 192));
    let mut shop = Shop::open(&broker, "faults-broker", "");
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
