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

/// Settings of the client under which the floor is measured, the better of which counts: its own, with which it idles a
/// second each time that it has read 64 MiB ahead, and the program's.
const SETTINGS: [&[(&str, &str)]; 2] = [
    &[],
    &[
        ("queued.max.messages.kbytes", "16384"),
        ("fetch.queue.backoff.ms", "10"),
    ],
];

/// Reads a topic of single samples to its end, once with each settings. Gives the better by CPU.
pub(crate) fn measure(brokers: &str, topic: &str, args: &Args) -> anyhow::Result<Figure> {
    let figures = SETTINGS.iter().map(|settings| read(brokers, topic, settings, args));
    let figures = figures.collect::<anyhow::Result<Vec<_>>>()?;
    figures.into_iter().min_by_key(|figure| figure.cpu).context("a floor")
}

fn read(brokers: &str, topic: &str, settings: &[(&str, &str)], args: &Args) -> anyhow::Result<Figure> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("group.id", format!("{topic}-floor"))
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    let consumer: BaseConsumer = config.create()?;
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
