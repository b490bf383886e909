//! The columns of one batch that name series.

use std::borrow::Cow;

use arrow_array::{Array, MapArray, RecordBatch, cast::AsArray};
use suture_event::codec::{DecodeError, Pairs, RawKey};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

use crate::text::Texts;

/// What series of a batch are named by.
pub(crate) struct Names<'a> {
    metric: Texts<'a>,
    /// Labels with a column each, and the labels' names.
    columns: Vec<(&'a str, Texts<'a>)>,
    map: Option<Map<'a>>,
    /// Of the columns' names: equal hashes under other columns are other series.
    seed: u64,
    /// Hashes of one row.
    row: Vec<u8>,
}

/// A column of maps.
struct Map<'a> {
    array: &'a MapArray,
    names: Texts<'a>,
    values: Texts<'a>,
}

const PREFIX: &str = "labels.";

impl<'a> Names<'a> {
    pub(crate) fn new(batch: &'a RecordBatch, fields: &'a [(String, usize)]) -> Result<Self, DecodeError> {
        const METRIC: DecodeError = DecodeError::Missing {
            field: "metric",
            help: "name what is measured, in a column of text",
        };
        let (mut metric, mut columns, mut map, mut seed) = (None, Vec::new(), None, 0);
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
                seed = xxh3_64(&[u64::to_le_bytes(seed), xxh3_64(label.as_bytes()).to_le_bytes()].concat());
                columns.push((label, texts));
            }
        }
        Ok(Self {
            metric: metric.ok_or(METRIC)?,
            columns,
            map,
            seed,
            row: Vec::new(),
        })
    }

    /// The row's series by its texts' hashes.
    #[inline]
    pub(crate) fn key(&mut self, row: usize) -> RawKey {
        self.row.clear();
        self.row.extend_from_slice(&self.metric.hash(row).to_le_bytes());
        for (_, texts) in &self.columns {
            self.row.extend_from_slice(&texts.hash(row).to_le_bytes());
        }
        if let Some(map) = &self.map {
            for entry in map.entries(row) {
                self.row.extend_from_slice(&map.names.hash(entry).to_le_bytes());
                self.row.extend_from_slice(&map.values.hash(entry).to_le_bytes());
            }
        }
        RawKey(xxh3_128_with_seed(&self.row, self.seed))
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
