//! A process that runs tallies over a topic until its standard input ends: what the crash tests kill.
//!
//! `suture-test-worker BROKER TOPIC cooperative|consumer|PARTITION,PARTITION,…`

// a helper of tests: what goes wrong here is a failed test
#![allow(clippy::expect_used, clippy::panic)]

use std::{collections::BTreeMap, io::Read, sync::Arc, thread};

use suture_event::Span;
use suture_kafka::{KafkaLog, Protocol};
use suture_log::TopicPartition;
use suture_runtime::{Metrics, Options, Plane, Shutdown, SystemClock};
use suture_tests::tally::Tallies;

fn main() {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::INFO)
        .init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [broker, topic, mode] = arguments.as_slice() else {
        panic!("three arguments: {arguments:?}")
    };
    let mut options = suture_kafka::Options::new(BTreeMap::from([
        ("bootstrap.servers".to_owned(), broker.clone()),
        ("session.timeout.ms".to_owned(), "3000".to_owned()),
        ("heartbeat.interval.ms".to_owned(), "500".to_owned()),
    ]));
    let mut assign = None;
    match mode.as_str() {
        "cooperative" => {}
        "consumer" => options.protocol = Protocol::Consumer,
        partitions => {
            let at = partitions
                .split(',')
                .map(|n| TopicPartition::new(topic.as_str(), n.parse().expect("a partition")));
            assign = Some(at.collect());
        }
    }
    let shutdown = Shutdown::new();
    let (ended, out) = (shutdown.clone(), format!("{topic}.out"));
    thread::spawn(move || {
        std::io::stdin().read_to_end(&mut Vec::new()).ok();
        ended.request();
    });
    let plane = Plane {
        log: Arc::new(KafkaLog::new(options).expect("settings that are right")),
        folds: Arc::new(Tallies { topic: out }),
        options: Options {
            group: format!("{topic}.group"),
            topics: vec![topic.clone()],
            assign,
            state_topic: format!("{topic}.state"),
            ticks: true,
            idle_after: Span::from_secs(1),
            commit_interval: Span::from_millis(20),
            position_interval: Span::from_millis(100),
            snapshot_interval: Span::from_millis(400),
            snapshot_piece: 300,
            snapshot_stride: 2_000,
            ..Options::default()
        },
        clock: Arc::new(SystemClock::default()),
        metrics: Arc::new(Metrics::default()),
        shutdown,
    };
    plane.run().expect("the plane runs until it is told to end");
}
