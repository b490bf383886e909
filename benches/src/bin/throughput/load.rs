//! The samples, and writing them to a topic.

use std::time::Duration;

use rdkafka::{
    ClientConfig,
    error::KafkaError,
    message::ToBytes,
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
    types::RDKafkaErrorCode,
};

use suture_benches::samples::{Sample, Samples, TOGETHER};

use crate::{Args, Encoding, kafka::create_topic};

/// Writes the samples in order of time, each series to one partition, and gives the bytes of all records' values.
pub(crate) fn load(brokers: &str, topic: &str, encoding: Encoding, args: &Args) -> anyhow::Result<usize> {
    create_topic(brokers, topic, args.partitions);
    let samples = Samples::new(args.series, args.interval);
    let partitions = usize::try_from(args.partitions)?;
    let mut loader = Loader::new(brokers, topic)?;
    // what waits for a record to be full, a partition each
    let mut waiting: Vec<Vec<Sample>> = vec![Vec::new(); partitions];
    let most = match encoding {
        Encoding::Json => 1,
        Encoding::Arrays => args.array,
        Encoding::Arrow => args.batch,
    };
    let mut text = String::new();
    for at in 0..args.samples {
        let sample = samples.get(at);
        let which = sample.0;
        let partition = which / TOGETHER % partitions;
        let batch = &mut waiting[partition];
        batch.push(sample);
        if batch.len() == most {
            let key = (encoding == Encoding::Json).then_some(which);
            loader.record(partition, key, batch, &samples, encoding, &mut text)?;
            batch.clear();
        }
    }
    for (partition, batch) in waiting.iter().enumerate().filter(|(_, batch)| !batch.is_empty()) {
        loader.record(partition, None, batch, &samples, encoding, &mut text)?;
    }
    loader.end()
}

struct Loader<'a> {
    producer: ThreadedProducer<DefaultProducerContext>,
    topic: &'a str,
    bytes: usize,
}

impl<'a> Loader<'a> {
    fn new(brokers: &str, topic: &'a str) -> anyhow::Result<Self> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("enable.idempotence", "true")
            .set("linger.ms", "20")
            .set("queue.buffering.max.messages", "500000")
            .create()?;
        Ok(Self {
            producer,
            topic,
            bytes: 0,
        })
    }

    fn record(
        &mut self,
        partition: usize,
        key: Option<usize>,
        batch: &[Sample],
        samples: &Samples,
        encoding: Encoding,
        text: &mut String,
    ) -> anyhow::Result<()> {
        let key = key.map(|key| key.to_string());
        text.clear();
        match encoding {
            Encoding::Arrow => {
                let value = samples.arrow(batch)?;
                return self.send(partition, key.as_deref(), &value);
            }
            Encoding::Arrays => samples.array(batch, text),
            Encoding::Json => batch.iter().for_each(|sample| samples.json(*sample, text)),
        }
        self.send(partition, key.as_deref(), text.as_bytes())
    }

    fn send(&mut self, partition: usize, key: Option<&str>, value: &[u8]) -> anyhow::Result<()> {
        self.bytes += value.len();
        let mut record = BaseRecord::<str, [u8]>::to(self.topic)
            .partition(i32::try_from(partition)?)
            .payload(value.to_bytes());
        record.key = key;
        let mut unsent = Some(record);
        while let Some(record) = unsent.take() {
            match self.producer.send(record) {
                Ok(()) => {}
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    unsent = Some(back);
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn end(self) -> anyhow::Result<usize> {
        self.producer.flush(Duration::from_secs(120))?;
        Ok(self.bytes)
    }
}
