//! Two hops over topics, a transaction each, with nothing in between.

use std::time::{Duration, Instant};

use anyhow::Context;
use rdkafka::{
    ClientConfig, Message as _,
    consumer::BaseConsumer,
    producer::{BaseProducer, BaseRecord, Producer as _},
};

use crate::{kafka::create_topic, reader};

/// How long a record may take before it is given up.
const PATIENCE: Duration = Duration::from_secs(30);

struct Hop {
    producer: BaseProducer,
    consumer: BaseConsumer,
    topic: String,
}

impl Hop {
    fn new(brokers: &str, topic: String) -> anyhow::Result<Self> {
        create_topic(brokers, &topic, 1);
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("transactional.id", &topic)
            .set("linger.ms", "0")
            .create()?;
        producer.init_transactions(PATIENCE)?;
        let consumer = reader(brokers, &topic)?;
        // the first record finds the consumer's position and both connections
        let mut hop = Self {
            producer,
            consumer,
            topic,
        };
        let began = Instant::now();
        while !hop.go(u64::MAX, Duration::from_secs(1))? {
            anyhow::ensure!(began.elapsed() < PATIENCE, "no record comes through {}", hop.topic);
        }
        while hop.consumer.poll(Duration::from_millis(200)).is_some() {}
        Ok(hop)
    }

    /// Writes a record and reads it; `false` where it does not come.
    fn go(&mut self, number: u64, within: Duration) -> anyhow::Result<bool> {
        let number = number.to_le_bytes();
        self.producer.begin_transaction()?;
        let record = BaseRecord::<[u8], [u8]>::to(&self.topic)
            .partition(0)
            .payload(number.as_slice());
        self.producer.send(record).map_err(|(error, _)| error)?;
        // as the program commits: flushing would wait in steps of 100 ms
        while self.producer.in_flight_count() > 0 {
            self.producer.poll(Duration::from_millis(1));
        }
        self.producer.commit_transaction(PATIENCE)?;
        let deadline = Instant::now() + within;
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            if let Some(message) = self.consumer.poll(left)
                && message?.payload() == Some(number.as_slice())
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Times of that many round trips.
pub(crate) fn measure(brokers: &str, name: &str, trips: usize) -> anyhow::Result<Vec<Duration>> {
    let run = std::process::id();
    let mut hops = [1, 2].map(|n| Hop::new(brokers, format!("floor-{run}-{name}-{n}")));
    let mut times = Vec::with_capacity(trips);
    for trip in 0..trips {
        let began = Instant::now();
        for hop in &mut hops {
            let hop = hop.as_mut().map_err(|error| anyhow::anyhow!("{error:#}"))?;
            let came = hop.go(trip as u64, PATIENCE).context("the floor")?;
            anyhow::ensure!(came, "a record did not come within {} s", PATIENCE.as_secs());
        }
        times.push(began.elapsed());
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(times)
}
