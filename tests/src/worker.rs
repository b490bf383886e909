//! A process that the fault tests do things to, until its standard input ends.
//!
//! `suture-test-worker BROKER TOPIC cooperative|consumer|PARTITION,PARTITION,…` runs tallies over a topic.
//! `suture-test-worker BROKER PIPELINE.yaml pipeline` runs a pipeline, as `suture run` does, by a wall clock that can be
//! set: a line `clock MILLISECONDS` on its standard input sets it so far ahead of the system's, or back.

// a helper of tests: what goes wrong here is a failed test
#![allow(clippy::expect_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    io::BufRead,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    thread,
    time::Duration,
};

use suture_event::{Span, Timestamp};
use suture_kafka::{KafkaLog, Protocol};
use suture_log::TopicPartition;
use suture_runtime::{Clock, Metrics, Options, Plane, Shutdown, SystemClock};
use suture_tests::tally::Tallies;

/// A clock whose wall is off by so many milliseconds. What intervals are measured by is not: that never jumps.
#[derive(Default)]
struct OffClock {
    system: SystemClock,
    off: AtomicI64,
}

impl Clock for OffClock {
    fn now(&self) -> Duration {
        self.system.now()
    }
    fn wall(&self) -> Timestamp {
        self.system
            .wall()
            .plus(Span::from_millis(self.off.load(Ordering::SeqCst)))
    }
}

fn main() {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::INFO)
        .init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [broker, subject, mode] = arguments.as_slice() else {
        panic!("three arguments: {arguments:?}")
    };
    let (shutdown, clock) = (Shutdown::new(), Arc::new(OffClock::default()));
    let (ended, set) = (shutdown.clone(), Arc::clone(&clock));
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let off = line.strip_prefix("clock ").expect("a line that is known");
            set.off.store(off.parse().expect("milliseconds"), Ordering::SeqCst);
            tracing::info!(off, "the clock is set");
        }
        ended.request();
    });
    if mode == "pipeline" {
        pipeline(Path::new(subject), clock, shutdown);
    } else {
        tallies(broker, subject, mode, clock, shutdown);
    }
}

fn pipeline(path: &Path, clock: Arc<OffClock>, shutdown: Shutdown) {
    let loaded = suture_service::load::load(path, None).expect("a pipeline that can be");
    let planes = suture_service::run::Planes {
        log: suture_service::run::connect(&loaded.pipeline).expect("settings that are right"),
        rekey_log: None,
        clock,
        shutdown: shutdown.clone(),
        rekey: Arc::default(),
        observe: Arc::default(),
        decide: Arc::default(),
        assign: Vec::new(),
        onlooker: None,
        board: Arc::default(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        suture_service::run::listen_for_signals(shutdown).expect("signals can be listened for");
        planes
            .run(&loaded, suture_service::run::PlaneChoice::Both)
            .await
            .expect("the planes run until they are told to end");
    });
}

fn tallies(broker: &str, topic: &str, mode: &str, clock: Arc<OffClock>, shutdown: Shutdown) {
    let mut options = suture_kafka::Options::new(BTreeMap::from([
        ("bootstrap.servers".to_owned(), broker.to_owned()),
        ("session.timeout.ms".to_owned(), "3000".to_owned()),
        ("heartbeat.interval.ms".to_owned(), "500".to_owned()),
    ]));
    let mut assign = None;
    match mode {
        "cooperative" => {}
        "consumer" => options.protocol = Protocol::Consumer,
        partitions => {
            let at = partitions
                .split(',')
                .map(|n| TopicPartition::new(topic, n.parse().expect("a partition")));
            assign = Some(at.collect());
        }
    }
    let plane = Plane {
        objects: None,
        log: Arc::new(KafkaLog::new(options).expect("settings that are right")),
        folds: Arc::new(Tallies {
            topic: format!("{topic}.out"),
        }),
        options: Options {
            group: format!("{topic}.group"),
            topics: vec![topic.to_owned()],
            assign,
            state_topic: format!("{topic}.state"),
            output_topics: vec![format!("{topic}.out")],
            ticks: true,
            idle_after: Span::from_secs(1),
            commit_interval: Span::from_millis(20),
            position_interval: Span::from_millis(100),
            snapshot_interval: Span::from_millis(400),
            snapshot_piece: 300,
            snapshot_stride: 2_000,
            ..Options::default()
        },
        clock,
        metrics: Arc::new(Metrics::default()),
        shutdown,
    };
    plane.run().expect("the plane runs until it is told to end");
}
