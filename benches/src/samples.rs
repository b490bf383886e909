//! The samples that benchmarks run on: reproducible, and sent as scrapers send them.

use std::{fmt::Write as _, sync::Arc};

use arrow_array::{
    ArrayRef, Float64Array, RecordBatch, TimestampMillisecondArray, builder::StringDictionaryBuilder, types::Int32Type,
};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::ArrowError;

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
const LABELS: [&str; 5] = ["environment", "service", "instance", "region", "operation"];

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
pub const TOGETHER: usize = 40;

/// The order in which instances send: another one at each tick, so that no memory is walked in order.
struct Order {
    together: usize,
    instances: usize,
    strides: Vec<usize>,
}

impl Order {
    fn new(series: usize, together: usize) -> Self {
        let instances = series / together;
        let primes = [1_009, 7_919, 15_485_863, 104_729, 1_299_709, 611_953];
        let strides = primes
            .into_iter()
            .filter(|prime| instances == 0 || !instances.is_multiple_of(*prime));
        Self {
            together,
            instances,
            strides: strides.collect(),
        }
    }

    fn series(&self, tick: usize, place: usize) -> usize {
        let (slot, within) = (place / self.together, place % self.together);
        if slot >= self.instances {
            return place;
        }
        let stride = self.strides[tick % self.strides.len()];
        (slot * stride + tick * 31) % self.instances * self.together + within
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

/// Samples of a number of series, one a series and tick, without end.
pub struct Samples {
    series: Vec<Series>,
    order: Order,
    interval: i64,
}

/// One sample: its series' number, its time in milliseconds, its value.
pub type Sample = (usize, i64, f64);

impl Samples {
    /// Of `series` series, `interval` milliseconds apart.
    #[must_use]
    pub fn new(series: usize, interval: i64) -> Self {
        Self {
            series: (0..series).map(Series::new).collect(),
            order: Order::new(series, TOGETHER),
            interval,
        }
    }

    /// The same in no order at all: no two samples of an instance follow each other, which nobody sends, and which is the
    /// worst for memory.
    #[must_use]
    pub fn scattered(series: usize, interval: i64) -> Self {
        Self {
            order: Order::new(series, 1),
            ..Self::new(series, interval)
        }
    }

    /// How many series there are: as many samples make a tick.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // samples never end
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Sample number `at`, in order of time.
    #[must_use]
    pub fn get(&self, at: usize) -> Sample {
        let tick = at / self.series.len();
        let which = self.order.series(tick, at % self.series.len());
        let ts = START + i64::try_from(tick).unwrap_or(0) * self.interval;
        (which, ts, value(&self.series[which], at))
    }

    /// Appends a sample as a JSON object of some 200 bytes.
    pub fn json(&self, (which, ts, value): Sample, text: &mut String) {
        let one = &self.series[which];
        // writing to a text does not fail
        let _ = write!(
            text,
            r#"{{"ts":{ts},"metric":"{}","value":{value},"labels":{}}}"#,
            one.metric, one.json
        );
    }

    /// Samples as a JSON array.
    pub fn array(&self, batch: &[Sample], text: &mut String) {
        text.push('[');
        for (n, sample) in batch.iter().enumerate() {
            if n > 0 {
                text.push(',');
            }
            self.json(*sample, text);
        }
        text.push(']');
    }

    /// An Arrow IPC stream of one batch: a column each for time, metric, value and every label, texts by dictionary.
    ///
    /// # Errors
    /// Where memory for it can't be had.
    pub fn arrow(&self, batch: &[Sample]) -> Result<Vec<u8>, ArrowError> {
        let series = &self.series;
        let texts = |of: &dyn Fn(&Series) -> &str| -> Result<ArrayRef, ArrowError> {
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
        let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema())?;
        writer.write(&batch)?;
        writer.finish()?;
        drop(writer);
        Ok(bytes)
    }
}
