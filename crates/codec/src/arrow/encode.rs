//! From samples to a stream's bytes, for the way between two of the program's own stages.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, DictionaryArray, Float64Array, Int32Array, MapArray, RecordBatch, StringArray, StructArray,
    TimestampMillisecondArray, UInt8Array, types::Int32Type,
};
use arrow_buffer::{OffsetBuffer, ScalarBuffer};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use rustc_hash::FxHashMap;
use suture_event::{SeriesKey, SignalKind, Timestamp};

use super::point;
use crate::PointKind;

/// Samples to be written, as columns.
#[derive(Debug, Clone, Copy)]
pub struct Samples<'a> {
    /// By sample, its series, as [`Encoder::add`] numbered it.
    pub series: &'a [u32],
    /// When it was measured.
    pub ts: &'a [Timestamp],
    /// What was measured.
    pub values: &'a [f64],
}

/// Writes samples of series that it was told of before. One record is one stream of one batch, with the columns that
/// [`Decoder`](super::Decoder) reads: `ts`, `metric` and `labels`, whose texts are dictionaries, `value`, and `point`, which
/// holds what the text cannot (what a value stands for, and what the series measures) and which only
/// [`Decoder::of_own`](super::Decoder::of_own) reads.
///
/// A series is told once and costs a look at its texts then; a sample costs some ten nanoseconds and about 33 bytes with two
/// labels, a record some tens of microseconds and two kilobytes.
#[derive(Debug)]
pub struct Encoder {
    schema: SchemaRef,
    texts: Vec<Arc<str>>,
    known: FxHashMap<Arc<str>, u32>,
    series: Vec<Series>,
    /// Which record is being written: marks of earlier ones say nothing.
    record: u32,
    metrics: Dictionary,
    names: Dictionary,
    values: Dictionary,
}

/// A series by the numbers of its texts.
#[derive(Debug)]
struct Series {
    metric: u32,
    labels: Box<[(u32, u32)]>,
    point: u8,
}

/// The texts that one record's column has, in the order in which they came.
#[derive(Debug, Default)]
struct Dictionary {
    /// By text: in which record it was last used, and its place there.
    places: Vec<(u32, i32)>,
    picked: Vec<u32>,
}

impl Dictionary {
    fn place(&mut self, text: u32, record: u32) -> i32 {
        let at = text as usize;
        if self.places.len() <= at {
            self.places.resize(at + 1, (0, 0));
        }
        let next = i32::try_from(self.picked.len()).unwrap_or(i32::MAX);
        match self.places.get_mut(at) {
            Some((last, place)) if *last == record => *place,
            Some(mark) => {
                *mark = (record, next);
                self.picked.push(text);
                next
            }
            None => next,
        }
    }

    /// The column of these keys, after which the dictionary is empty again.
    fn column(&mut self, keys: Vec<i32>, texts: &[Arc<str>]) -> Result<ArrayRef, ArrowError> {
        let picked = self.picked.drain(..);
        let values: StringArray = picked.map(|text| texts.get(text as usize).map(AsRef::as_ref)).collect();
        let column: DictionaryArray<Int32Type> = DictionaryArray::try_new(Int32Array::from(keys), Arc::new(values))?;
        Ok(Arc::new(column))
    }
}

/// Bytes of a sample beside its labels, and of each of its labels: numbers, keys and offsets.
const SAMPLE: usize = 25;
const LABEL: usize = 8;
/// Bytes of a text in a dictionary beside its own.
const TEXT: usize = 4;
impl Default for Encoder {
    fn default() -> Self {
        let text = || DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let entry = Fields::from(vec![
            Field::new("key", text(), false),
            Field::new("value", text(), false),
        ]);
        let entries = Field::new("entries", DataType::Struct(entry), false);
        let schema = Schema::new(vec![
            Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), false),
            Field::new("metric", text(), false),
            Field::new("value", DataType::Float64, false),
            Field::new("labels", DataType::Map(Arc::new(entries), false), false),
            Field::new(point::COLUMN, DataType::UInt8, false),
        ]);
        Self {
            schema: Arc::new(schema),
            texts: Vec::new(),
            known: FxHashMap::default(),
            series: Vec::new(),
            record: 0,
            metrics: Dictionary::default(),
            names: Dictionary::default(),
            values: Dictionary::default(),
        }
    }
}

impl Encoder {
    /// Bytes of a record without any sample, at most.
    pub const RECORD: usize = 4_096;

    /// Takes a series in and gives its number, counted from 0.
    pub fn add(&mut self, key: &SeriesKey, kind: PointKind, signal: Option<SignalKind>) -> u32 {
        let metric = self.text(&key.metric);
        let labels: Box<[(u32, u32)]> = key
            .labels
            .iter()
            .map(|(name, value)| (self.text(name), self.text(value)))
            .collect();
        let number = self.series();
        self.series.push(Series {
            metric,
            labels,
            point: point::write(kind, signal),
        });
        number
    }

    /// Says anew what a series' values stand for.
    pub fn set_point(&mut self, series: u32, kind: PointKind, signal: Option<SignalKind>) {
        if let Some(series) = self.series.get_mut(series as usize) {
            series.point = point::write(kind, signal);
        }
    }

    fn text(&mut self, text: &str) -> u32 {
        if let Some(number) = self.known.get(text) {
            return *number;
        }
        let number = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        let text: Arc<str> = text.into();
        self.texts.push(text.clone());
        self.known.insert(text, number);
        number
    }

    /// How many series it knows.
    #[must_use]
    pub fn series(&self) -> u32 {
        u32::try_from(self.series.len()).unwrap_or(u32::MAX)
    }

    /// Forgets every series.
    pub fn clear(&mut self) {
        *self = Self {
            schema: Arc::clone(&self.schema),
            ..Self::default()
        };
    }

    /// Bytes that a series' texts add to a record, at most, and those that each of its samples adds.
    #[must_use]
    pub fn bytes_of(key: &SeriesKey) -> (usize, usize) {
        let texts = |(name, value): (&str, &str)| name.len() + value.len() + 2 * TEXT;
        let labels: usize = key.labels.iter().map(texts).sum();
        (
            key.metric.len() + TEXT + labels,
            SAMPLE + LABEL * key.labels.iter().count(),
        )
    }

    /// One record of these samples, in their order; those of series that it does not know are left out.
    ///
    /// # Errors
    /// Where Arrow refuses the columns: never, for as many samples as a record may have.
    pub fn encode(&mut self, samples: Samples<'_>) -> Result<Vec<u8>, ArrowError> {
        self.record = self.record.wrapping_add(1).max(1);
        let rows = samples.series.len();
        let (mut ts, mut values) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        let (mut metrics, mut points) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        let (mut names, mut texts, mut offsets) = (Vec::new(), Vec::new(), Vec::with_capacity(rows + 1));
        offsets.push(0);
        for ((number, at), value) in samples.series.iter().zip(samples.ts).zip(samples.values) {
            let Some(series) = self.series.get(*number as usize) else {
                continue;
            };
            ts.push(at.as_millis());
            values.push(*value);
            metrics.push(self.metrics.place(series.metric, self.record));
            points.push(series.point);
            for (name, text) in &series.labels {
                names.push(self.names.place(*name, self.record));
                texts.push(self.values.place(*text, self.record));
            }
            offsets.push(i32::try_from(names.len()).unwrap_or(i32::MAX));
        }
        let names = self.names.column(names, &self.texts)?;
        let texts = self.values.column(texts, &self.texts)?;
        let labels = self.labels(names, texts, offsets)?;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampMillisecondArray::from(ts)),
            self.metrics.column(metrics, &self.texts)?,
            Arc::new(Float64Array::from(values)),
            labels,
            Arc::new(UInt8Array::from(points)),
        ];
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        let mut bytes = Vec::new();
        let mut writer = StreamWriter::try_new(&mut bytes, &self.schema)?;
        writer.write(&batch)?;
        writer.finish()?;
        drop(writer);
        Ok(bytes)
    }

    fn labels(&self, names: ArrayRef, texts: ArrayRef, offsets: Vec<i32>) -> Result<ArrayRef, ArrowError> {
        let field = self.schema.field_with_name("labels")?;
        let DataType::Map(entries, _) = field.data_type() else {
            return Err(ArrowError::SchemaError("labels are a map".to_owned()));
        };
        let DataType::Struct(fields) = entries.data_type() else {
            return Err(ArrowError::SchemaError("a map's entries are a struct".to_owned()));
        };
        let pairs = StructArray::try_new(fields.clone(), vec![names, texts], None)?;
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        let map = MapArray::try_new(Arc::clone(entries), offsets, pairs, None, false)?;
        Ok(Arc::new(map))
    }
}
