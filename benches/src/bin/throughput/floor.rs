//! The floor: a bare consumer that decodes and does nothing else.

use std::{hint::black_box, time::Duration};

use anyhow::Context;
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
};
use serde::Deserialize;

use crate::{
    Args,
    meter::{Figure, Meter},
};

/// The least that can be decoded of a sample: it knows the labels' names and allocates nothing.
#[derive(Deserialize)]
struct Sample<'a> {
    ts: i64,
    metric: &'a str,
    value: f64,
    #[serde(borrow)]
    labels: Labels<'a>,
}

#[derive(Deserialize)]
struct Labels<'a> {
    environment: &'a str,
    service: &'a str,
    instance: &'a str,
    region: &'a str,
    operation: &'a str,
}

/// Reads a topic of single samples to its end.
pub(crate) fn measure(brokers: &str, topic: &str, args: &Args) -> anyhow::Result<Figure> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", format!("{topic}-floor"))
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()?;
    let mut partitions = TopicPartitionList::new();
    for partition in 0..args.partitions {
        partitions.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&partitions)?;
    let mut meter = Meter::start();
    let (mut samples, mut ended) = (0, 0);
    while ended < args.partitions {
        match consumer.poll(Duration::from_secs(60)) {
            Some(Ok(message)) => {
                if samples == 0 {
                    meter = Meter::start();
                }
                let sample: Sample<'_> =
                    sonic_rs::from_slice(message.payload().unwrap_or_default()).context("what was loaded")?;
                black_box((sample.ts, sample.metric, sample.value));
                let labels = sample.labels;
                black_box((labels.environment, labels.service, labels.instance));
                black_box((labels.region, labels.operation));
                samples += 1;
            }
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(error)) => return Err(error.into()),
            None => anyhow::bail!("the broker gave nothing for a minute"),
        }
    }
    anyhow::ensure!(samples == args.samples, "{samples} samples were read");
    Ok(meter.stop(samples))
}
