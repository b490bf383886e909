//! The columns of one batch that name series.

use std::borrow::Cow;

use arrow_array::{Array, MapArray, RecordBatch, cast::AsArray};
use xxhash_rust::xxh3::xxh3_128;

use super::text::{Texts, add, fold};
use crate::{DecodeError, Pairs, RawKey};

/// What series of a batch are named by.
pub(crate) struct Names<'a> {
    metric: Texts<'a>,
    /// Labels with a column each, and the labels' names.
    columns: Vec<(&'a str, Texts<'a>)>,
    map: Option<Map<'a>>,
    /// What the hashes of all rows share: that of the columns' names, since equal texts under other columns are other
    /// series, and of the columns that say the same in every row.
    shared: u128,
}

/// A column of maps.
struct Map<'a> {
    array: &'a MapArray,
    names: Texts<'a>,
    values: Texts<'a>,
}

const PREFIX: &str = "labels.";
/// Rows whose hashes are added up together.
const TOGETHER: usize = 256;

impl<'a> Names<'a> {
    pub(crate) fn new(batch: &'a RecordBatch, fields: &'a [(String, usize)]) -> Result<Self, DecodeError> {
        const METRIC: DecodeError = DecodeError::Missing {
            field: "metric",
            help: "name what is measured, in a column of text",
        };
        let (mut metric, mut columns, mut map, mut seed) = (None, Vec::new(), None, 0_u128);
        for (name, at) in fields {
            let column = batch.column(*at);
            if name == "labels" {
                if let Some(array) = column.as_map_opt() {
                    map = Map::new(array);
                }
                continue;
            }
            let Some(texts) = Texts::new(column) else { continue };
            if name == "metric" {
                metric = Some(texts);
            } else {
                let label = name.strip_prefix(PREFIX).unwrap_or(name);
                seed = fold(seed, xxh3_128(label.as_bytes()));
                columns.push((label, texts));
            }
        }
        // as if they were folded one after the other, of which only sums are left to be made by row
        let mut metric = metric.ok_or(METRIC)?;
        let texts = std::iter::once(&mut metric).chain(columns.iter_mut().map(|(_, texts)| texts));
        let mut shared = seed;
        for (after, texts) in texts.collect::<Vec<_>>().into_iter().rev().enumerate() {
            texts.raise(after);
            shared = add(shared, texts.shared().unwrap_or(0));
        }
        Ok(Self {
            metric,
            columns,
            map,
            shared,
        })
    }

    /// The series of rows `from` and on by their texts' hashes. They are added up a column at a time, of as many rows as
    /// stay near.
    #[inline]
    pub(crate) fn keys(&self, from: usize, keys: &mut [RawKey]) {
        let mut sums = [self.shared; TOGETHER];
        let columns = self.columns.iter().map(|(_, texts)| texts);
        let differing = std::iter::once(&self.metric)
            .chain(columns)
            .filter(|texts| texts.shared().is_none());
        for (part, keys) in keys.chunks_mut(TOGETHER).enumerate() {
            let start = from + part * TOGETHER;
            let rows = start..start + keys.len();
            let sums = sums.get_mut(..keys.len()).unwrap_or_default();
            sums.fill(self.shared);
            differing.clone().for_each(|texts| texts.add(rows.clone(), sums));
            if let Some(map) = &self.map {
                for (row, sum) in rows.zip(&mut *sums) {
                    for entry in map.entries(row) {
                        *sum = fold(fold(*sum, map.names.hash(entry)), map.values.hash(entry));
                    }
                }
            }
            for (key, sum) in keys.iter_mut().zip(sums) {
                *key = RawKey(*sum);
            }
        }
    }

    pub(crate) fn metric(&self, row: usize) -> Option<&'a str> {
        self.metric.get(row)
    }

    pub(crate) fn labels(&self, row: usize, pairs: &mut Pairs<'a>) {
        for (name, texts) in &self.columns {
            if let Some(text) = texts.get(row) {
                pairs.push((Cow::Borrowed(name), Cow::Borrowed(text)));
            }
        }
        if let Some(map) = &self.map {
            for entry in map.entries(row) {
                // a label that is null is as if it were not there
                if let (Some(name), Some(text)) = (map.names.get(entry), map.values.get(entry)) {
                    pairs.push((Cow::Borrowed(name), Cow::Borrowed(text)));
                }
            }
        }
    }
}

impl<'a> Map<'a> {
    fn new(array: &'a MapArray) -> Option<Self> {
        Some(Self {
            array,
            names: Texts::new(array.keys())?,
            values: Texts::new(array.values())?,
        })
    }

    /// Which entries are the row's.
    fn entries(&self, row: usize) -> std::ops::Range<usize> {
        let offset = |at: usize| {
            let offset = self.array.value_offsets().get(at).copied();
            offset.and_then(|offset| usize::try_from(offset).ok()).unwrap_or(0)
        };
        if row >= self.array.len() || self.array.is_null(row) {
            0..0
        } else {
            offset(row)..offset(row + 1)
        }
    }
}
