//! From a stream's bytes to samples.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::{
    Array, ArrayRef, RecordBatch,
    cast::AsArray,
    types::{
        ArrowPrimitiveType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
        TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type,
        UInt16Type, UInt32Type, UInt64Type,
    },
};
use arrow_buffer::{Buffer, NullBuffer};
use arrow_ipc::reader::StreamDecoder;
use arrow_schema::{ArrowError, DataType, Schema, TimeUnit};
use suture_event::Timestamp;

use super::{labels::Names, point, text::is_text};
use crate::{DecodeError, Decoded, Format, Limits, RawKey, SampleRef, Sink, TelemetryDecoder, seal, tally::Tally};

const FORMAT: Format = Format("Arrow IPC stream");

/// Decodes records of samples.
#[derive(Debug, Default)]
pub struct Decoder {
    limits: Limits,
    identity: Vec<u8>,
    millis: Vec<i64>,
    ts: Vec<Timestamp>,
    values: Vec<f64>,
    keys: Vec<RawKey>,
    /// Whether the column that says what values stand for is read: what another program writes under its name is not.
    own: bool,
    points: Vec<u8>,
}

/// Samples of one record so far.
struct Record<'a> {
    sink: &'a mut dyn Sink,
    tally: Tally,
}

/// Which times and values are not there, where any is not.
struct Nulls<'a> {
    times: Option<&'a NullBuffer>,
    values: Option<&'a NullBuffer>,
}

impl Decoder {
    /// A decoder that holds records to these limits.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// The same for records that [`Encoder`](super::Encoder) wrote, with what their values stand for.
    #[must_use]
    pub fn of_own(limits: Limits) -> Self {
        Self {
            own: true,
            ..Self::new(limits)
        }
    }
}

impl TelemetryDecoder for Decoder {
    /// A record is refused where its bytes are no Arrow IPC stream, are cut short, or lack a column: the reason tells. Of the
    /// batches before, the samples have been handed on.
    fn decode(&mut self, bytes: &[u8], sink: &mut dyn Sink) -> Result<Decoded, DecodeError> {
        if bytes.is_empty() {
            return Err(DecodeError::Empty(FORMAT));
        }
        if bytes.starts_with(b"ARROW1") {
            return Err(malformed("this is Arrow's file format: write the stream format"));
        }
        if matches!(bytes.first(), Some(b'{' | b'[')) {
            return Err(malformed("this looks like JSON: check `format` of the topic"));
        }
        let mut record = Record {
            sink,
            tally: Tally::new("samples", &self.limits),
        };
        let (mut reader, mut rest) = (StreamDecoder::new(), Buffer::from(bytes));
        let mut fields = None;
        loop {
            let batch = next(&mut reader, &mut rest, bytes.len())?;
            if fields.is_none()
                && let Some(schema) = reader.schema()
            {
                fields = Some(check(&schema)?);
            }
            let Some(batch) = batch else { break };
            let fields = fields.as_deref().unwrap_or_default();
            if !self.batch(&batch, fields, &mut record)? {
                break;
            }
        }
        if fields.is_none() {
            return Err(malformed("it has no schema"));
        }
        Ok(record.tally.decoded)
    }
}

impl Decoder {
    /// Takes the rows of a batch; `false` where that was as many as a record may have.
    fn batch(
        &mut self,
        batch: &RecordBatch,
        fields: &[(String, usize)],
        record: &mut Record<'_>,
    ) -> Result<bool, DecodeError> {
        let column = |wanted: &str| {
            let at = fields.iter().find(|(name, _)| name == wanted).map(|(_, at)| *at);
            at.map(|at| batch.column(at))
        };
        let times = column("ts").ok_or(DecodeError::Missing {
            field: "ts",
            help: "say when it was measured, in a column of timestamps or of milliseconds as int64",
        })?;
        let values = column("value").ok_or(DecodeError::Missing {
            field: "value",
            help: "write what was measured, in a column of numbers",
        })?;
        read_times(times, &mut self.millis)?;
        read_values(values, &mut self.values)?;
        self.points.clear();
        if let Some(points) = column(point::COLUMN).filter(|_| self.own)
            && let Some(points) = points.as_primitive_opt::<UInt8Type>()
        {
            self.points.extend_from_slice(points.values());
        }
        let nulls = Nulls {
            times: times.nulls().filter(|nulls| nulls.null_count() > 0),
            values: values.nulls().filter(|nulls| nulls.null_count() > 0),
        };
        let names = Names::new(batch, fields)?;
        let rows = batch.num_rows();
        let room = record.tally.room();
        self.keys.clear();
        self.keys.resize(rows.min(room), RawKey(0));
        names.keys(0, &mut self.keys);
        if self.is_plain(&nulls) {
            self.columns(&names, record);
        } else {
            for row in 0..rows.min(room) {
                self.row(row, &nulls, &names, record);
            }
        }
        Ok(rows <= room || !record.tally.is_beyond())
    }

    /// Whether every row of the batch has a time and a value that can be taken as they are.
    fn is_plain(&mut self, nulls: &Nulls<'_>) -> bool {
        let (least, most) = (Timestamp::MIN.as_millis(), Timestamp::MAX.as_millis());
        self.ts.clear();
        self.ts
            .extend(self.millis.iter().map(|millis| Timestamp::from_millis(*millis)));
        nulls.times.is_none()
            && nulls.values.is_none()
            && self.millis.iter().all(|millis| (least..=most).contains(millis))
            && self.values.iter().all(|value| value.is_finite())
    }

    /// Hands on a batch all of whose times and values are good: whole runs of rows whose series are known, and the rows
    /// in between by themselves.
    fn columns(&mut self, names: &Names<'_>, record: &mut Record<'_>) {
        let rows = self.keys.len();
        let mut row = 0;
        while row < rows {
            let (Some(keys), Some(ts), Some(values)) =
                (self.keys.get(row..), self.ts.get(row..rows), self.values.get(row..rows))
            else {
                return;
            };
            let known = record.sink.known_run(keys, ts, values).min(rows - row);
            record.accept(known);
            row += known;
            if let (Some(&ts), Some(&value)) = (self.ts.get(row), self.values.get(row))
                && row < rows
            {
                let met = self.meet(row, ts, value, names, record);
                record.note(row, names, met);
                row += 1;
            }
        }
    }

    /// Takes one row of a batch that has rows which are not as they should be.
    fn row(&mut self, row: usize, nulls: &Nulls<'_>, names: &Names<'_>, record: &mut Record<'_>) {
        if nulls.values.is_some_and(|nulls| nulls.is_null(row)) {
            record.tally.decoded.without_value += 1;
            record.tally.index += 1;
            return;
        }
        let (ts, value) = match self.measured(row, nulls) {
            Ok(measured) => measured,
            Err(error) => return record.note(row, names, Err(error)),
        };
        if self.keys.get(row).is_some_and(|key| record.sink.known(*key, ts, value)) {
            record.accept(1);
        } else {
            let met = self.meet(row, ts, value, names, record);
            record.note(row, names, met);
        }
    }

    /// When and what a row measured.
    fn measured(&self, row: usize, nulls: &Nulls<'_>) -> Result<(Timestamp, f64), DecodeError> {
        let value = self.values.get(row).copied().unwrap_or(f64::NAN);
        if !value.is_finite() {
            return Err(DecodeError::unfit(
                "value",
                value,
                "write a finite number, or null where there is none",
            ));
        }
        let no_time = nulls.times.is_some_and(|nulls| nulls.is_null(row));
        let Some(millis) = self.millis.get(row).copied().filter(|_| !no_time) else {
            return Err(DecodeError::Missing {
                field: "ts",
                help: "say when it was measured",
            });
        };
        let ts = Timestamp::try_from(millis).map_err(|_| {
            const HELP: &str = "write a time between the years 1 and 9999, and check the column's unit";
            DecodeError::unfit("ts", format_args!("{millis} milliseconds"), HELP)
        })?;
        Ok((ts, value))
    }

    /// Hands on a row whose series the sink does not know, with its names and labels.
    fn meet(
        &mut self,
        row: usize,
        ts: Timestamp,
        value: f64,
        names: &Names<'_>,
        record: &mut Record<'_>,
    ) -> Result<(), DecodeError> {
        let Some(metric) = names.metric(row) else {
            return Err(DecodeError::Missing {
                field: "metric",
                help: "name what is measured",
            });
        };
        let mut labels = Vec::new();
        names.labels(row, &mut labels);
        let hash = seal(metric, &mut labels, &self.limits, &mut self.identity)?;
        let (kind, signal) = point::read(self.points.get(row).copied().unwrap_or(0));
        let sample = SampleRef {
            ts,
            metric,
            value,
            labels: &labels,
            hash,
            identity: &self.identity,
            kind,
            start: None,
            signal,
        };
        record.sink.sample(sample, self.keys.get(row).copied());
        Ok(())
    }
}

impl Record<'_> {
    fn accept(&mut self, rows: usize) {
        self.tally.decoded.accepted += rows;
        self.tally.index += rows;
    }

    /// Files what became of a row.
    fn note(&mut self, row: usize, names: &Names<'_>, taken: Result<(), DecodeError>) {
        match taken {
            Ok(()) => self.accept(1),
            Err(error) => self.tally.reject(names.metric(row).map(excerpt), error),
        }
    }
}

/// The next batch. Arrow's reader checks most of what it reads, but not all: some damage makes it panic.
fn next(reader: &mut StreamDecoder, rest: &mut Buffer, length: usize) -> Result<Option<RecordBatch>, DecodeError> {
    let read = catch_unwind(AssertUnwindSafe(|| {
        let batch = reader.decode(rest)?;
        if batch.is_none() {
            reader.finish()?;
        }
        Ok(batch)
    }));
    match read {
        Ok(Ok(batch)) => Ok(batch),
        Ok(Err(ArrowError::IpcError(reason))) if reason == "Unexpected End of Stream" => Err(DecodeError::Truncated {
            format: FORMAT,
            at: length,
        }),
        Ok(Err(error)) => Err(malformed(&error.to_string())),
        Err(_) => Err(malformed("its buffers contradict each other: the bytes are damaged")),
    }
}

fn malformed(reason: &str) -> DecodeError {
    DecodeError::Malformed {
        format: FORMAT,
        at: None,
        reason: reason.to_owned(),
    }
}

/// Names and places of a schema's columns, where none is of a type that is not taken.
fn check(schema: &Schema) -> Result<Vec<(String, usize)>, DecodeError> {
    let mut fields: Vec<(String, usize)> = Vec::with_capacity(schema.fields().len());
    for (at, field) in schema.fields().iter().enumerate() {
        let (name, kind) = (field.name(), field.data_type());
        if fields.iter().any(|(known, _)| known == name) {
            return Err(DecodeError::unfit(
                name.as_str(),
                "there twice",
                "name each column once",
            ));
        }
        let help = match name.as_str() {
            "ts" => (!matches!(kind, DataType::Timestamp(..) | DataType::Int64))
                .then_some("write timestamps, or milliseconds since the epoch as int64"),
            "value" => (!kind.is_integer() && !matches!(kind, DataType::Float32 | DataType::Float64))
                .then_some("write float64, float32 or integers"),
            "metric" => (!is_text(kind)).then_some("write utf8, or a dictionary of it"),
            "labels" => {
                (!is_map_of_texts(kind)).then_some("write a map of utf8 to utf8, or a column of text for each label")
            }
            _ => (kind.is_nested() && !is_text(kind)).then_some("drop the column, or write text"),
        };
        if let Some(help) = help {
            return Err(DecodeError::unfit(
                name.as_str(),
                format_args!("a column of {kind}"),
                help,
            ));
        }
        fields.push((name.clone(), at));
    }
    Ok(fields)
}

fn is_map_of_texts(kind: &DataType) -> bool {
    let DataType::Map(entries, _) = kind else { return false };
    let DataType::Struct(fields) = entries.data_type() else {
        return false;
    };
    fields.len() == 2 && fields.iter().all(|field| is_text(field.data_type()))
}

fn read_times(column: &ArrayRef, out: &mut Vec<i64>) -> Result<(), DecodeError> {
    fn read<T: ArrowPrimitiveType<Native = i64>>(column: &ArrayRef, out: &mut Vec<i64>, to: impl Fn(i64) -> i64) {
        if let Some(column) = column.as_primitive_opt::<T>() {
            out.extend(column.values().iter().map(|at| to(*at)));
        }
    }
    out.clear();
    match column.data_type() {
        // no unit is told, so its size tells; what is out of range stays so
        DataType::Int64 => read::<Int64Type>(column, out, |at| {
            Timestamp::from_number(at).map_or(at, Timestamp::as_millis)
        }),
        DataType::Timestamp(TimeUnit::Second, _) => {
            read::<TimestampSecondType>(column, out, |at| at.saturating_mul(1_000));
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => read::<TimestampMillisecondType>(column, out, |at| at),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            read::<TimestampMicrosecondType>(column, out, |at| at.div_euclid(1_000));
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            read::<TimestampNanosecondType>(column, out, |at| at.div_euclid(1_000_000));
        }
        other => return Err(DecodeError::unfit("ts", other, "write timestamps")),
    }
    Ok(())
}

#[allow(clippy::cast_precision_loss)] // whole numbers beyond 2^53 are the nearest double, as in JSON
fn read_values(column: &ArrayRef, out: &mut Vec<f64>) -> Result<(), DecodeError> {
    fn read<T: ArrowPrimitiveType>(column: &ArrayRef, out: &mut Vec<f64>, to: impl Fn(T::Native) -> f64) {
        if let Some(column) = column.as_primitive_opt::<T>() {
            out.extend(column.values().iter().map(|value| to(*value)));
        }
    }
    out.clear();
    match column.data_type() {
        DataType::Float64 => read::<Float64Type>(column, out, |value| value),
        DataType::Float32 => read::<Float32Type>(column, out, f64::from),
        DataType::Int64 => read::<Int64Type>(column, out, |value| value as f64),
        DataType::Int32 => read::<Int32Type>(column, out, f64::from),
        DataType::Int16 => read::<Int16Type>(column, out, f64::from),
        DataType::Int8 => read::<Int8Type>(column, out, f64::from),
        DataType::UInt64 => read::<UInt64Type>(column, out, |value| value as f64),
        DataType::UInt32 => read::<UInt32Type>(column, out, f64::from),
        DataType::UInt16 => read::<UInt16Type>(column, out, f64::from),
        DataType::UInt8 => read::<UInt8Type>(column, out, f64::from),
        other => return Err(DecodeError::unfit("value", other, "write numbers")),
    }
    Ok(())
}

/// The start of a name that may be of any length.
fn excerpt(text: &str) -> String {
    text.chars().take(60).collect()
}
