//! The program on a broker that freezes. It runs by itself, since it is a broker of its own that it ill-treats, and what is
//! tested beside it would be slowed down. What must hold is as in `faults.rs`.

// the helpers of tests: what goes wrong in them is a failed test
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::time::Duration;

use suture_tests::{broker::Broker, shop::Shop, wait};

/// Longer than the session timeout of the pipelines, which is two seconds.
const PAST_THE_SESSION: Duration = Duration::from_millis(4_500);

#[test]
fn a_broker_that_freezes_is_waited_for() {
    let broker = Broker::start();
    let mut shop = Shop::open(&broker, "faults-frozen", "");
    let run = shop.run(&[]);
    shop.feed(10);
    shop.wait_for(".facts", 1);
    shop.feed(10);
    broker.signal("STOP");
    wait::pause(PAST_THE_SESSION);
    broker.signal("CONT");
    shop.feed(10);
    wait::pause(Duration::from_secs(1));
    let records = shop.verify(vec![run]);
    println!("the broker froze and woke up: {records} records each there once");
}
