//! State as columns: one row a series, saved to and loaded from Arrow IPC without translation.

use std::{io::Cursor, sync::Arc};

use arrow_array::{
    Array, ArrayRef, ListArray, PrimitiveArray, RecordBatch,
    types::{ArrowPrimitiveType, Float32Type, Float64Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type},
};
use arrow_buffer::{ArrowNativeType, OffsetBuffer};
use arrow_ipc::{reader::StreamReader, writer::StreamWriter};
use arrow_schema::{Field, Schema};

use crate::Error;

const ACCOUNT: &str = "suture.detect.alarms";
/// Bytes that a column takes in the stream beside its values, at most about so many.
const FRAME: usize = 512;

/// Columns on their way to or from a snapshot, by name.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    names: Vec<String>,
    arrays: Vec<ArrayRef>,
    /// Series, where this came from a snapshot.
    rows: usize,
}

impl Columns {
    pub(crate) fn put(&mut self, prefix: &str, name: &str, array: ArrayRef) {
        self.names.push(format!("{prefix}.{name}"));
        self.arrays.push(array);
    }

    pub(crate) fn get(&self, prefix: &str, name: &str) -> Result<&ArrayRef, Error> {
        let full = format!("{prefix}.{name}");
        let at = self.names.iter().position(|n| *n == full);
        at.and_then(|i| self.arrays.get(i))
            .ok_or(Error::Snapshot(format!("it has no column {full}")))
    }

    /// Whether anything was saved under a prefix: a group of columns that a snapshot was written without is left as new.
    pub(crate) fn has(&self, prefix: &str) -> bool {
        let group = |name: &String| name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'));
        self.names.iter().any(group)
    }

    /// One column of a group. Where the group is there and the column is not, the snapshot is older than the column, and all
    /// series stand where a new one stands.
    pub(crate) fn column<T: Cell>(&self, prefix: &str, name: &str, first: T) -> Result<Vec<T>, Error> {
        match self.get(prefix, name) {
            Ok(array) => load(array),
            Err(_) if self.has(prefix) => Ok(vec![first; self.rows]),
            Err(error) => Err(error),
        }
    }

    /// One record batch in Arrow's stream format; `version` is kept in the schema's metadata, and so is the account of
    /// alarms, which is not any series' own.
    pub(crate) fn encode(self, version: u32, account: Option<String>) -> Result<Vec<u8>, Error> {
        let fields: Vec<Field> = self
            .names
            .iter()
            .zip(&self.arrays)
            .map(|(n, a)| Field::new(n, a.data_type().clone(), false))
            .collect();
        let version = [("suture.detect.version".to_owned(), version.to_string())];
        let account = account.map(|text| (ACCOUNT.to_owned(), text));
        let metadata = version.into_iter().chain(account).collect();
        let schema = Arc::new(Schema::new_with_metadata(fields, metadata));
        let batch = RecordBatch::try_new(schema.clone(), self.arrays).map_err(Error::arrow)?;
        // room for all of it at once: growing by doubling would hold it three times
        let bytes = Vec::with_capacity(batch.get_array_memory_size() + FRAME * (1 + batch.num_columns()));
        let mut writer = StreamWriter::try_new(bytes, &schema).map_err(Error::arrow)?;
        writer.write(&batch).map_err(Error::arrow)?;
        writer.into_inner().map_err(Error::arrow)
    }

    /// Some rows of a snapshot, in this order.
    pub(crate) fn select(&self, rows: &[u32]) -> Result<Self, Error> {
        if let Some(row) = rows.iter().find(|row| **row as usize >= self.rows) {
            return Err(Error::Snapshot(format!("it has no row {row}")));
        }
        let rows = PrimitiveArray::<UInt32Type>::from_iter_values(rows.iter().copied());
        let take = |array: &ArrayRef| arrow_select::take::take(array, &rows, None).map_err(Error::arrow);
        Ok(Self {
            names: self.names.clone(),
            arrays: self.arrays.iter().map(take).collect::<Result<_, _>>()?,
            rows: rows.len(),
        })
    }

    /// The rows of several snapshots one after the other, with how many there are; `None` of none. A column that one of
    /// them lacks is left out.
    pub(crate) fn join(parts: Vec<Self>) -> Result<Option<(Self, usize)>, Error> {
        let Some(first) = parts.first() else { return Ok(None) };
        let mut all = Self {
            rows: parts.iter().map(|part| part.rows).sum(),
            ..Self::default()
        };
        for name in &first.names {
            let of = |part: &Self| {
                let at = part.names.iter().position(|known| known == name);
                at.and_then(|at| part.arrays.get(at).cloned())
            };
            let arrays: Option<Vec<ArrayRef>> = parts.iter().map(of).collect();
            let Some(arrays) = arrays else { continue };
            let arrays: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
            all.names.push(name.clone());
            all.arrays
                .push(arrow_select::concat::concat(&arrays).map_err(Error::arrow)?);
        }
        let rows = all.rows;
        Ok(Some((all, rows)))
    }

    pub(crate) fn decode(bytes: &[u8], version: u32) -> Result<(Self, usize, Option<String>), Error> {
        let mut reader = StreamReader::try_new(Cursor::new(bytes), None).map_err(Error::arrow)?;
        let found = reader
            .schema()
            .metadata()
            .get("suture.detect.version")
            .cloned()
            .unwrap_or_default();
        if found != version.to_string() {
            return Err(Error::Snapshot(format!(
                "it is of version {found:?}, this program reads version {version}"
            )));
        }
        let account = reader.schema().metadata().get(ACCOUNT).cloned();
        let batch = reader
            .next()
            .ok_or(Error::Snapshot("it holds no record batch".into()))?
            .map_err(Error::arrow)?;
        let names = batch.schema().fields().iter().map(|f| f.name().clone()).collect();
        Ok((
            Self {
                names,
                arrays: batch.columns().to_vec(),
                rows: batch.num_rows(),
            },
            batch.num_rows(),
            account,
        ))
    }
}

/// A number that a column can hold.
pub(crate) trait Cell: ArrowNativeType {
    type Arrow: ArrowPrimitiveType<Native = Self>;
}

impl Cell for f64 {
    type Arrow = Float64Type;
}
impl Cell for f32 {
    type Arrow = Float32Type;
}
impl Cell for i64 {
    type Arrow = Int64Type;
}
impl Cell for i32 {
    type Arrow = Int32Type;
}
impl Cell for u16 {
    type Arrow = UInt16Type;
}
impl Cell for u32 {
    type Arrow = UInt32Type;
}
impl Cell for u8 {
    type Arrow = UInt8Type;
}

/// A column as an Arrow array.
pub(crate) fn save<T: Cell>(column: &[T]) -> ArrayRef {
    Arc::new(PrimitiveArray::<T::Arrow>::from_iter_values(column.iter().copied()))
}

/// A column from an Arrow array of the same type.
pub(crate) fn load<T: Cell>(array: &ArrayRef) -> Result<Vec<T>, Error> {
    let wrong = || Error::Snapshot(format!("a column is of type {}", array.data_type()));
    let typed = array
        .as_any()
        .downcast_ref::<PrimitiveArray<T::Arrow>>()
        .ok_or_else(wrong)?;
    Ok(typed.values().to_vec())
}

/// One list a series: `lengths` of them, end to end in `flat`.
pub(crate) fn lists<T: Cell>(lengths: impl Iterator<Item = usize>, flat: &[T]) -> Result<ArrayRef, Error> {
    let field = Arc::new(Field::new("item", T::Arrow::DATA_TYPE, false));
    let offsets = OffsetBuffer::from_lengths(lengths);
    let list = ListArray::try_new(field, offsets, save(flat), None).map_err(Error::arrow)?;
    Ok(Arc::new(list))
}

/// The lists' lengths, and their numbers end to end.
pub(crate) fn from_lists<T: Cell>(array: &ArrayRef) -> Result<(Vec<usize>, Vec<T>), Error> {
    let wrong = || Error::Snapshot(format!("a column is of type {}", array.data_type()));
    let list = array.as_any().downcast_ref::<ListArray>().ok_or_else(wrong)?;
    let lengths = list.offsets().lengths().collect();
    Ok((lengths, load(list.values())?))
}

/// Entries of a column that are worked on together: few enough for the nearest cache, enough for vector instructions.
pub(crate) const LANES: usize = 64;

/// One number for each of the entries that are worked on together.
pub(crate) type Lanes<T> = [T; LANES];

/// The rows, at most [`LANES`], that a block of state comes from and goes back to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place<'a> {
    /// As many rows in a row, from the first.
    Run(usize, usize),
    /// These.
    Rows(&'a [u32]),
}

impl<'a> Place<'a> {
    pub(crate) fn of(rows: &'a [u32]) -> Self {
        let rows = &rows[..rows.len().min(LANES)];
        match rows.first() {
            Some(&first) if rows.iter().zip(first..).all(|(row, next)| *row == next) => {
                Self::Run(first as usize, rows.len())
            }
            _ => Self::Rows(rows),
        }
    }
}

/// Reads the entries of a column.
#[inline]
pub(crate) fn gather<T: Copy>(column: &[T], place: Place<'_>, lanes: &mut Lanes<T>) {
    match place {
        Place::Run(first, n) => lanes[..n].copy_from_slice(&column[first..first + n]),
        Place::Rows(rows) => {
            for (lane, row) in lanes.iter_mut().zip(rows) {
                *lane = column[*row as usize];
            }
        }
    }
}

/// Writes the entries of a column.
#[inline]
pub(crate) fn scatter<T: Copy>(lanes: &Lanes<T>, place: Place<'_>, column: &mut [T]) {
    match place {
        Place::Run(first, n) => column[first..first + n].copy_from_slice(&lanes[..n]),
        Place::Rows(rows) => {
            for (lane, row) in lanes.iter().zip(rows) {
                column[*row as usize] = *lane;
            }
        }
    }
}

/// Puts a number at the end of a column. A column that is full grows by an eighth and not to twice its length: with a
/// million series the difference is hundreds of megabytes.
pub(crate) fn push<T>(column: &mut Vec<T>, value: T) {
    if column.len() == column.capacity() {
        column.reserve_exact((column.len() / 8).max(LANES));
    }
    column.push(value);
}

/// A struct of equally long columns with what every such struct can do: grow by a row, save itself, load itself.
///
/// With `in Name` there is also a block of that name, which holds some entries of every column.
macro_rules! columns {
    ($(#[$meta:meta])* $vis:vis struct $name:ident in $block:ident { $($(#[$doc:meta])* $field:ident: $type:ty = $first:expr,)* }) => {
        $crate::state::columns! { $(#[$meta])* $vis struct $name { $($(#[$doc])* $field: $type = $first,)* } }

        /// Some entries of every column.
        #[derive(Debug)]
        pub(crate) struct $block { $($(#[$doc])* pub(crate) $field: $crate::state::Lanes<$type>,)* }

        impl Default for $block {
            fn default() -> Self {
                Self { $($field: [$first; $crate::state::LANES],)* }
            }
        }

        impl $name {
            #[inline]
            pub(crate) fn read(&self, place: $crate::state::Place<'_>, block: &mut $block) {
                $($crate::state::gather(&self.$field, place, &mut block.$field);)*
            }

            #[inline]
            pub(crate) fn write(&mut self, place: $crate::state::Place<'_>, block: &$block) {
                $($crate::state::scatter(&block.$field, place, &mut self.$field);)*
            }
        }
    };
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[$doc:meta])* $field:ident: $type:ty = $first:expr,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default)]
        $vis struct $name { $($(#[$doc])* pub(crate) $field: Vec<$type>,)* }

        impl $name {
            /// One more series.
            pub(crate) fn push(&mut self) { $($crate::state::push(&mut self.$field, $first);)* }

            /// Forgets what is known of a series.
            #[allow(dead_code)] // not every group of columns needs it
            pub(crate) fn reset(&mut self, row: usize) { $(self.$field[row] = $first;)* }

            /// Takes over what another set of the same columns knows of one of its series.
            #[allow(dead_code)] // not every group of columns needs it
            pub(crate) fn adopt(&mut self, row: usize, from: &Self, from_row: usize) {
                $(self.$field[row] = from.$field[from_row];)*
            }

            pub(crate) fn save(&self, prefix: &str, out: &mut $crate::state::Columns) {
                $(out.put(prefix, stringify!($field), $crate::state::save(&self.$field));)*
            }

            pub(crate) fn load(&mut self, prefix: &str, from: &$crate::state::Columns) -> Result<(), $crate::Error> {
                $(self.$field = from.column(prefix, stringify!($field), $first)?;)*
                Ok(())
            }

            /// Bytes a series.
            #[allow(dead_code)] // not every group of columns is priced by itself
            pub(crate) const BYTES: usize = 0 $(+ std::mem::size_of::<$type>())*;
        }
    };
}
pub(crate) use columns;

#[cfg(test)]
mod tests {
    use super::*;

    columns! {
        struct Old {
            mean: f32 = 0.0,
        }
    }
    columns! {
        struct New {
            mean: f32 = 0.0,
            since: u16 = 7,
        }
    }

    #[test]
    fn a_column_that_a_snapshot_is_too_old_for_starts_as_new_and_a_whole_group_does_not() {
        let (mut old, mut new) = (Old::default(), New::default());
        for mean in [0.0, 2.5] {
            old.push();
            new.push();
            *old.mean.last_mut().unwrap() = mean;
        }
        let mut out = Columns::default();
        old.save("sums", &mut out);
        new.save("later", &mut out);
        let (from, rows, _) = Columns::decode(&out.encode(1, None).unwrap(), 1).unwrap();
        new.since = vec![1, 2];
        new.load("sums", &from).unwrap();
        assert_eq!((rows, &new.mean[..], &new.since[..]), (2, &[0.0, 2.5][..], &[7, 7][..]));
        old.load("later", &from).unwrap();
        assert_eq!(old.mean, [0.0, 0.0]);
        assert!(!from.has("sum") && new.load("others", &from).is_err());
    }
}
