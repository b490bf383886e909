//! The samples, and writing them to a topic.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use arrow_array::{
    ArrayRef, Float64Array, RecordBatch, TimestampMillisecondArray, builder::StringDictionaryBuilder, types::Int32Type,
};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::Schema;
use rdkafka::{
    ClientConfig,
    error::KafkaError,
    message::ToBytes,
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
    types::RDKafkaErrorCode,
};

use crate::{Args, Encoding, kafka::create_topic};

const START: i64 = 1_767_225_600_000;
/// Metrics of one operation of one instance.
const METRICS: [&str; 10] = [
    "request_duration_mean_ms",
    "request_rate",
    "error_ratio",
    "cpu_utilization",
    "memory_utilization",
    "queue_length",
    "pool_in_use",
    "cache_hit_ratio",
    "gc_pause_ms",
    "disk_utilization",
];
const OPERATIONS: [&str; 4] = [
    "GET /cart",
    "POST /cart/items",
    "GET /recommendations",
    "POST /checkout",
];
const REGIONS: [&str; 3] = ["eu-west-1", "us-east-1", "ap-south-1"];

/// Labels in the order in which they are written.
pub(crate) const LABELS: [&str; 5] = ["environment", "service", "instance", "region", "operation"];

/// What a series is called.
struct Series {
    metric: &'static str,
    labels: [String; 5],
    /// The labels as JSON.
    json: String,
    /// Around what its values are.
    level: f64,
}

impl Series {
    fn new(at: usize) -> Self {
        let (instance, within) = (at / TOGETHER, at % TOGETHER);
        let service = instance / 25;
        let labels = [
            "prod".to_owned(),
            format!("checkout-backend-{service:03}"),
            format!("checkout-backend-{service:03}-7f9c4d-{instance:05}"),
            REGIONS[service % 3].to_owned(),
            OPERATIONS[within % 4].to_owned(),
        ];
        let pairs: Vec<String> = LABELS
            .iter()
            .zip(&labels)
            .map(|(name, value)| format!(r#""{name}":"{value}""#))
            .collect();
        #[allow(clippy::cast_precision_loss)] // small counts
        let level = 10.0 + (at % 997) as f64;
        Self {
            metric: METRICS[within / 4],
            labels,
            json: format!("{{{}}}", pairs.join(",")),
            level,
        }
    }
}

/// Series of one instance, whose samples come one after the other.
const TOGETHER: usize = 40;

/// The order in which instances send: another one at each tick, so that no memory is walked in order.
struct Order {
    instances: usize,
    strides: Vec<usize>,
}

impl Order {
    fn new(series: usize) -> Self {
        let instances = series / TOGETHER;
        let primes = [1_009, 7_919, 15_485_863, 104_729, 1_299_709, 611_953];
        let strides = primes
            .into_iter()
            .filter(|prime| instances == 0 || !instances.is_multiple_of(*prime));
        Self {
            instances,
            strides: strides.collect(),
        }
    }

    fn series(&self, tick: usize, place: usize) -> usize {
        let (slot, within) = (place / TOGETHER, place % TOGETHER);
        if slot >= self.instances {
            return place;
        }
        let stride = self.strides[tick % self.strides.len()];
        (slot * stride + tick * 31) % self.instances * TOGETHER + within
    }
}

/// Any number of reproducible bits: SplitMix64's finaliser over a count.
fn bits(seed: usize) -> u64 {
    let mut z = (seed as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The value of sample `at`: the series' level, give or take a tenth, to four places.
#[allow(clippy::cast_precision_loss)] // 53 bits
fn value(series: &Series, at: usize) -> f64 {
    let unit = (bits(at) >> 11) as f64 / (1_u64 << 53) as f64;
    (series.level * (0.95 + unit / 10.0) * 1e4).round() / 1e4
}

/// Writes the samples in order of time, each series to one partition, and gives the bytes of all records' values.
pub(crate) fn load(brokers: &str, topic: &str, encoding: Encoding, args: &Args) -> anyhow::Result<usize> {
    create_topic(brokers, topic, args.partitions);
    let series: Vec<Series> = (0..args.series).map(Series::new).collect();
    let partitions = usize::try_from(args.partitions)?;
    let mut loader = Loader::new(brokers, topic)?;
    // what waits for a record to be full, a partition each
    let mut waiting: Vec<Vec<(usize, i64, f64)>> = vec![Vec::new(); partitions];
    let most = match encoding {
        Encoding::Json => 1,
        Encoding::Arrays => args.array,
        Encoding::Arrow => args.batch,
    };
    let mut text = String::new();
    let order = Order::new(args.series);
    for at in 0..args.samples {
        let tick = at / args.series;
        let which = order.series(tick, at % args.series);
        let ts = START + i64::try_from(tick)? * args.interval;
        let partition = which / TOGETHER % partitions;
        let batch = &mut waiting[partition];
        batch.push((which, ts, value(&series[which], at)));
        if batch.len() == most {
            let key = (encoding == Encoding::Json).then_some(which);
            loader.record(partition, key, batch, &series, encoding, &mut text)?;
            batch.clear();
        }
    }
    for (partition, batch) in waiting.iter().enumerate().filter(|(_, batch)| !batch.is_empty()) {
        loader.record(partition, None, batch, &series, encoding, &mut text)?;
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
        batch: &[(usize, i64, f64)],
        series: &[Series],
        encoding: Encoding,
        text: &mut String,
    ) -> anyhow::Result<()> {
        let key = key.map(|key| key.to_string());
        if encoding == Encoding::Arrow {
            let value = arrow(batch, series)?;
            return self.send(partition, key.as_deref(), &value);
        }
        text.clear();
        if encoding == Encoding::Arrays {
            text.push('[');
        }
        for (n, &(which, ts, value)) in batch.iter().enumerate() {
            let one = &series[which];
            let comma = if n > 0 { "," } else { "" };
            write!(
                text,
                r#"{comma}{{"ts":{ts},"metric":"{}","value":{value},"labels":{}}}"#,
                one.metric, one.json
            )?;
        }
        if encoding == Encoding::Arrays {
            text.push(']');
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

/// A stream of one batch: a column each for time, metric, value and every label, texts by dictionary.
fn arrow(batch: &[(usize, i64, f64)], series: &[Series]) -> anyhow::Result<Vec<u8>> {
    let texts = |of: &dyn Fn(&Series) -> &str| -> anyhow::Result<ArrayRef> {
        let mut column = StringDictionaryBuilder::<Int32Type>::new();
        for (which, ..) in batch {
            column.append(of(&series[*which]))?;
        }
        Ok(Arc::new(column.finish()))
    };
    let mut columns: Vec<(String, ArrayRef)> = vec![
        (
            "ts".to_owned(),
            Arc::new(TimestampMillisecondArray::from_iter_values(
                batch.iter().map(|one| one.1),
            )),
        ),
        ("metric".to_owned(), texts(&|one| one.metric)?),
        (
            "value".to_owned(),
            Arc::new(Float64Array::from_iter_values(batch.iter().map(|one| one.2))),
        ),
    ];
    for (at, name) in LABELS.iter().enumerate() {
        columns.push((format!("labels.{name}"), texts(&|one| &one.labels[at])?));
    }
    let batch = RecordBatch::try_from_iter(columns)?;
    let mut bytes = Vec::new();
    let schema: &Schema = &batch.schema();
    let mut writer = StreamWriter::try_new(&mut bytes, schema)?;
    writer.write(&batch)?;
    writer.finish()?;
    drop(writer);
    Ok(bytes)
}
