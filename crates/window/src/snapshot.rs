//! The state of windows as one Arrow IPC stream of two record batches: what each series carries, then the cells of open
//! panes that have samples. What belongs to neither stands in the schema's metadata. A checksum of eight bytes follows
//! the stream, as Arrow's reader trusts what it reads and panics on some damage.

use std::{collections::HashMap, fmt::Display, str::FromStr, sync::Arc};

use arrow_array::{
    Array, BinaryArray, Float64Array, Int64Array, RecordBatch, UInt8Array, UInt32Array,
    cast::AsArray,
    types::{Float64Type, Int64Type, UInt8Type, UInt32Type},
};
use arrow_ipc::{reader::StreamReader, writer::StreamWriter};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use suture_event::stable_hash;

use crate::{
    Aggregate, Counters, Error, Windows,
    pane::{CounterCell, Fold},
    windows::{Life, NOWHERE},
};

/// Grows with every change of the columns or of their meaning.
const VERSION: u32 = 1;
/// Bytes that a column takes in the stream beside its values, at most about so many.
const FRAME: usize = 512;

fn fields() -> Vec<Field> {
    let field = |name: &str, kind, optional| Field::new(name, kind, optional);
    vec![
        // null in rows that tell of a series instead of one of its cells
        field("pane", DataType::Int64, true),
        field("row", DataType::UInt32, false),
        // series: the aggregate; cell: its fold
        field("kind", DataType::UInt8, false),
        field("life", DataType::UInt8, false),
        field("count", DataType::UInt32, false),
        // time of the newest sample
        field("at", DataType::Int64, false),
        // series: the value shown last; cell: the accumulator
        field("value", DataType::Float64, false),
        // series: the share of a quantile; cell: a counter's first value
        field("first", DataType::Float64, false),
        // series: time of the carried counter; cell: time of a counter's first value
        field("first_at", DataType::Int64, false),
        // series: the carried counter; cell: a counter's newest value
        field("newest", DataType::Float64, false),
        field("elapsed", DataType::Int64, false),
        field("sketch", DataType::Binary, true),
        // what a counter's newest value lacks; came later than the others, and is 0 where it is not
        field("owed", DataType::Float64, false),
    ]
}

#[derive(Default)]
struct Columns {
    pane: Vec<Option<i64>>,
    row: Vec<u32>,
    kind: Vec<u8>,
    life: Vec<u8>,
    count: Vec<u32>,
    at: Vec<i64>,
    value: Vec<f64>,
    first: Vec<f64>,
    first_at: Vec<i64>,
    newest: Vec<f64>,
    elapsed: Vec<i64>,
    sketch: Vec<Option<Vec<u8>>>,
    owed: Vec<f64>,
}

impl Columns {
    fn into_batch(self, schema: &SchemaRef) -> Result<RecordBatch, Error> {
        let sketch: BinaryArray = self.sketch.iter().map(Option::as_deref).collect();
        Ok(RecordBatch::try_new(
            Arc::clone(schema),
            vec![
                Arc::new(Int64Array::from(self.pane)),
                Arc::new(UInt32Array::from(self.row)),
                Arc::new(UInt8Array::from(self.kind)),
                Arc::new(UInt8Array::from(self.life)),
                Arc::new(UInt32Array::from(self.count)),
                Arc::new(Int64Array::from(self.at)),
                Arc::new(Float64Array::from(self.value)),
                Arc::new(Float64Array::from(self.first)),
                Arc::new(Int64Array::from(self.first_at)),
                Arc::new(Float64Array::from(self.newest)),
                Arc::new(Int64Array::from(self.elapsed)),
                Arc::new(sketch),
                Arc::new(Float64Array::from(self.owed)),
            ],
        )?)
    }
}

impl Windows {
    /// The whole state as an Arrow IPC stream: some 88 bytes a series, 78 a series and pane that has samples of it, and
    /// the sketches.
    ///
    /// # Errors
    /// [`Error::Arrow`] where memory for it can't be had.
    pub fn snapshot(&self) -> Result<Vec<u8>, Error> {
        let schema = Arc::new(Schema::new_with_metadata(fields(), self.metadata()));
        let series = self.series_columns().into_batch(&schema)?;
        let cells = self.cell_columns()?.into_batch(&schema)?;
        // room for all of it at once: growing by doubling would hold it three times
        let room = series.get_array_memory_size() + cells.get_array_memory_size();
        let mut bytes = Vec::with_capacity(room + FRAME * (1 + 2 * schema.fields().len()));
        let mut writer = StreamWriter::try_new(&mut bytes, &schema)?;
        writer.write(&series)?;
        drop(series);
        writer.write(&cells)?;
        drop(cells);
        writer.finish()?;
        drop(writer);
        let checksum = stable_hash([bytes.as_slice()]);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        Ok(bytes)
    }

    /// Takes over the state of a snapshot, its series included: rows that were added before are gone, those of the
    /// snapshot are there. On an error nothing has changed.
    ///
    /// # Errors
    /// [`Error::Shape`] where size, slide, lateness or the quantiles' error differ, [`Error::Damaged`] and
    /// [`Error::Arrow`] where it can't be read.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.restore_some(bytes, None)
    }

    /// As [`Self::restore`], of these rows of the snapshot alone, in this order: the first is row 0. What was taken in of
    /// the others is dropped; counts and time stay as they were.
    ///
    /// # Errors
    /// As [`Self::restore`], and [`Error::Damaged`] where a row is not there.
    pub fn restore_rows(&mut self, bytes: &[u8], rows: &[u32]) -> Result<(), Error> {
        self.restore_some(bytes, Some(rows))
    }

    fn restore_some(&mut self, bytes: &[u8], rows: Option<&[u32]>) -> Result<(), Error> {
        let whole = bytes
            .split_last_chunk()
            .filter(|(stream, sum)| stable_hash([*stream]) == u64::from_le_bytes(**sum));
        let (stream, _) = whole.ok_or_else(|| Error::Damaged("its checksum is wrong".to_owned()))?;
        let reader = StreamReader::try_new(stream, None)?;
        let schema = reader.schema();
        let known = Metadata(schema.metadata());
        self.check_shape(&known)?;
        let known_fields = fields();
        let found = schema.fields().iter().map(AsRef::as_ref);
        let earlier = found.clone().eq(known_fields.iter().take(known_fields.len() - 1));
        if !earlier && found.ne(known_fields.iter()) {
            return Err(Error::Damaged("its columns are not those of its version".to_owned()));
        }
        let batches = reader.collect::<Result<Vec<_>, _>>()?;
        let [series, cells] = batches.as_slice() else {
            return Err(Error::Damaged(format!(
                "it has {} record batches, not 2",
                batches.len()
            )));
        };
        let mut fresh = Self::new(&self.options)?;
        fresh.newest = known.get("newest")?;
        fresh.next = known.get("next")?;
        fresh.next_close = known.get("next_close")?;
        fresh.empty_run = known.get("empty_run")?;
        fresh.counters = known.counters()?;
        let all: Vec<u32> = match rows {
            Some(rows) => rows.to_vec(),
            None => (0..).take(series.num_rows()).collect(),
        };
        fresh.read_series(series, &all)?;
        let used: String = known.get("panes")?;
        for index in used.split_terminator(',') {
            let index = index
                .parse()
                .map_err(|_| Error::Damaged(format!("pane {index:?} is no number")))?;
            fresh.open_pane(index)?;
        }
        let mut places = vec![None; series.num_rows()];
        for (place, row) in all.iter().enumerate() {
            if let Some(slot) = places.get_mut(*row as usize) {
                *slot = Some(place);
            }
        }
        fresh.read_cells(cells, &places)?;
        fresh.current = NOWHERE;
        *self = fresh;
        Ok(())
    }

    fn metadata(&self) -> HashMap<String, String> {
        let mut used: Vec<i64> = self
            .panes
            .iter()
            .filter(|pane| pane.used)
            .map(|pane| pane.index)
            .collect();
        used.sort_unstable();
        let panes: String = used.iter().map(|index| format!("{index},")).collect();
        let mut texts: HashMap<String, String> = [
            ("suture.window", VERSION.to_string()),
            ("newest", self.newest.to_string()),
            ("next", self.next.to_string()),
            ("next_close", self.next_close.to_string()),
            ("empty_run", self.empty_run.to_string()),
            ("panes", panes),
        ]
        .into_iter()
        .chain(self.shape_texts())
        .map(|(key, text)| (key.to_owned(), text))
        .collect();
        texts
            .extend(counters_by_name(&mut { self.counters }).map(|(name, count)| (name.to_owned(), count.to_string())));
        texts
    }

    /// What a snapshot and these windows must have in common.
    fn shape_texts(&self) -> [(&'static str, String); 4] {
        let [slide, per_window] = self.shape.map_or([0, 0], |shape| [shape.slide, shape.per_window]);
        [
            ("slide", slide.to_string()),
            ("panes_per_window", per_window.to_string()),
            ("lateness", self.options.lateness.as_millis().to_string()),
            ("quantile_error", self.options.quantile_error.to_string()),
        ]
    }

    fn check_shape(&self, known: &Metadata<'_>) -> Result<(), Error> {
        let version = [("suture.window", VERSION.to_string())];
        for (what, expected) in version.into_iter().chain(self.shape_texts()) {
            let found: String = known.get(what)?;
            if found != expected {
                return Err(Error::Shape { what, found, expected });
            }
        }
        Ok(())
    }

    fn series_columns(&self) -> Columns {
        let series = &self.series;
        let rows = series.len();
        let counter = |row: usize| (series.fold(row) == Fold::Counter).then(|| series.side(row));
        let (kind, first) = (0..rows).map(|row| encode(series.aggregate(row))).unzip();
        Columns {
            pane: vec![None; rows],
            row: (0..).take(rows).collect(),
            kind,
            life: series.life.iter().map(|&life| life as u8).collect(),
            count: vec![0; rows],
            at: series.newest.clone(),
            value: (0..rows).map(|row| series.shown(row)).collect(),
            first,
            first_at: (0..rows)
                .map(|row| counter(row).map_or(0, |side| series.carried_at[side]))
                .collect(),
            newest: (0..rows)
                .map(|row| counter(row).map_or(0.0, |side| series.carried[side]))
                .collect(),
            elapsed: vec![0; rows],
            sketch: vec![None; rows],
            owed: (0..rows)
                .map(|row| counter(row).map_or(0.0, |side| series.owed[side]))
                .collect(),
        }
    }

    fn cell_columns(&self) -> Result<Columns, Error> {
        let mut columns = Columns::default();
        let mut panes: Vec<_> = self.panes.iter().filter(|pane| pane.used).collect();
        panes.sort_unstable_by_key(|pane| pane.index);
        for pane in panes {
            for (row, cell) in (0_u32..).zip(&pane.cells) {
                if cell.is_empty() {
                    continue;
                }
                let side = self.series.side(row as usize);
                let counter = match cell.fold() {
                    Fold::Counter => pane.counters.get(side).copied().unwrap_or_default(),
                    _ => CounterCell::default(),
                };
                let sketch = match (cell.fold(), pane.sketches.get(side)) {
                    (Fold::Sketch, Some(sketch)) => {
                        Some(rmp_serde::to_vec(sketch).map_err(|e| Error::Damaged(e.to_string()))?)
                    }
                    _ => None,
                };
                columns.pane.push(Some(pane.index));
                columns.row.push(row);
                columns.kind.push(cell.fold() as u8);
                columns.life.push(0);
                columns.count.push(cell.count());
                columns.at.push(pane.start + i64::from(cell.last));
                columns.value.push(cell.acc);
                columns.first.push(counter.first);
                columns.first_at.push(counter.first_at);
                columns.newest.push(counter.newest);
                columns.elapsed.push(counter.elapsed);
                columns.sketch.push(sketch);
                columns.owed.push(counter.owed);
            }
        }
        Ok(columns)
    }

    fn read_series(&mut self, batch: &RecordBatch, rows: &[u32]) -> Result<(), Error> {
        let kind = batch.column(2).as_primitive::<UInt8Type>();
        let life = batch.column(3).as_primitive::<UInt8Type>();
        let at = batch.column(5).as_primitive::<Int64Type>();
        let value = batch.column(6).as_primitive::<Float64Type>();
        let first = batch.column(7).as_primitive::<Float64Type>();
        let first_at = batch.column(8).as_primitive::<Int64Type>();
        let newest = batch.column(9).as_primitive::<Float64Type>();
        let owed = batch
            .column_by_name("owed")
            .map(|owed| owed.as_primitive::<Float64Type>());
        for (row, from) in rows.iter().map(|from| *from as usize).enumerate() {
            if from >= batch.num_rows() {
                return Err(Error::Damaged(format!("it has no row {from}")));
            }
            let aggregate = decode(kind.value(from), first.value(from))
                .ok_or_else(|| Error::Damaged(format!("row {from} has an unknown aggregate")))?;
            self.series.push(aggregate, self.options.gaps);
            self.series.life[row] = match life.value(from) {
                0 => Life::Unseen,
                1 => Life::Live,
                2 => Life::Forgotten,
                other => return Err(Error::Damaged(format!("row {from} is in the unknown state {other}"))),
            };
            self.live += usize::from(self.series.life[row] == Life::Live);
            self.series.newest[row] = at.value(from);
            self.series.show(row, value.value(from));
            if aggregate.reads_a_counter() {
                let side = self.series.side(row);
                self.series.carried[side] = newest.value(from);
                self.series.carried_at[side] = first_at.value(from);
                self.series.owed[side] = owed.map_or(0.0, |owed| owed.value(from));
            }
        }
        Ok(())
    }

    fn open_pane(&mut self, index: i64) -> Result<(), Error> {
        let shape = self.shape.filter(|shape| {
            (self.next - shape.per_window + 1..self.next - shape.per_window + 1 + shape.ring).contains(&index)
        });
        let shape = shape.ok_or_else(|| Error::Damaged(format!("pane {index} is out of range")))?;
        let slot = self.slot(shape, index);
        let pane = &mut self.panes[slot];
        (pane.index, pane.start, pane.used) = (index, index * shape.slide, true);
        pane.grow(&self.series, self.config);
        Ok(())
    }

    /// `places` says which row each of the snapshot's became, if any.
    fn read_cells(&mut self, batch: &RecordBatch, places: &[Option<usize>]) -> Result<(), Error> {
        let pane_of = batch.column(0).as_primitive::<Int64Type>();
        let row_of = batch.column(1).as_primitive::<UInt32Type>();
        let kind = batch.column(2).as_primitive::<UInt8Type>();
        let count = batch.column(4).as_primitive::<UInt32Type>();
        let at = batch.column(5).as_primitive::<Int64Type>();
        let value = batch.column(6).as_primitive::<Float64Type>();
        let first = batch.column(7).as_primitive::<Float64Type>();
        let first_at = batch.column(8).as_primitive::<Int64Type>();
        let newest = batch.column(9).as_primitive::<Float64Type>();
        let owed = batch
            .column_by_name("owed")
            .map(|owed| owed.as_primitive::<Float64Type>());
        let elapsed = batch.column(10).as_primitive::<Int64Type>();
        let sketch = batch.column(11).as_binary::<i32>();
        for i in 0..batch.num_rows() {
            let (index, from) = (pane_of.value(i), row_of.value(i) as usize);
            let damaged = || Error::Damaged(format!("a cell of pane {index} and row {from} fits no series"));
            let Some(row) = *places.get(from).ok_or_else(damaged)? else {
                continue;
            };
            let slot = self.shape.map(|shape| self.slot(shape, index)).ok_or_else(damaged)?;
            let pane = &mut self.panes[slot];
            let known = pane.used && pane.index == index && !pane_of.is_null(i);
            let cell = pane
                .cells
                .get_mut(row)
                .filter(|cell| known && cell.fold() as u8 == kind.value(i));
            let cell = cell.ok_or_else(damaged)?;
            cell.acc = value.value(i);
            cell.last = u32::try_from(at.value(i) - pane.start).map_err(|_| damaged())?;
            cell.set_count(count.value(i));
            let side = self.series.side(row);
            match cell.fold() {
                Fold::Counter => {
                    pane.counters[side] = CounterCell {
                        first: first.value(i),
                        first_at: first_at.value(i),
                        newest: newest.value(i),
                        owed: owed.map_or(0.0, |owed| owed.value(i)),
                        elapsed: elapsed.value(i),
                    };
                }
                Fold::Sketch => {
                    pane.sketches[side] = rmp_serde::from_slice(sketch.value(i)).map_err(|_| damaged())?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

struct Metadata<'a>(&'a HashMap<String, String>);

impl Metadata<'_> {
    fn get<T: FromStr>(&self, key: &str) -> Result<T, Error>
    where
        T::Err: Display,
    {
        let text = self
            .0
            .get(key)
            .ok_or_else(|| Error::Damaged(format!("it does not tell {key:?}")))?;
        text.parse()
            .map_err(|e| Error::Damaged(format!("{key:?} is {text:?}: {e}")))
    }

    fn counters(&self) -> Result<Counters, Error> {
        let mut counters = Counters::default();
        for (name, count) in counters_by_name(&mut counters) {
            *count = self.get(name)?;
        }
        Ok(counters)
    }
}

fn counters_by_name(counters: &mut Counters) -> impl Iterator<Item = (&'static str, &mut u64)> {
    let Counters {
        accepted,
        late_taken,
        late_dropped,
        repeated,
        not_finite,
        unknown_row,
        counter_between,
        counter_resets,
        closed,
        jumped,
        forgotten,
    } = counters;
    [
        ("accepted", accepted),
        ("late_taken", late_taken),
        ("late_dropped", late_dropped),
        ("repeated", repeated),
        ("not_finite", not_finite),
        ("unknown_row", unknown_row),
        ("counter_between", counter_between),
        ("counter_resets", counter_resets),
        ("closed", closed),
        ("jumped", jumped),
        ("forgotten", forgotten),
    ]
    .into_iter()
}

fn encode(aggregate: Aggregate) -> (u8, f64) {
    match aggregate {
        Aggregate::Count => (0, 0.0),
        Aggregate::Sum => (1, 0.0),
        Aggregate::Mean => (2, 0.0),
        Aggregate::Min => (3, 0.0),
        Aggregate::Max => (4, 0.0),
        Aggregate::Last => (5, 0.0),
        Aggregate::Rate => (6, 0.0),
        Aggregate::Increase => (7, 0.0),
        Aggregate::Quantile(share) => (8, share),
    }
}

fn decode(kind: u8, share: f64) -> Option<Aggregate> {
    Some(match kind {
        0 => Aggregate::Count,
        1 => Aggregate::Sum,
        2 => Aggregate::Mean,
        3 => Aggregate::Min,
        4 => Aggregate::Max,
        5 => Aggregate::Last,
        6 => Aggregate::Rate,
        7 => Aggregate::Increase,
        8 => Aggregate::Quantile(share),
        _ => return None,
    })
}
