//! Columns of text, whatever their encoding, with a hash of each text.

use arrow_array::{Array, ArrayRef, GenericStringArray, OffsetSizeTrait, StringViewArray, cast::AsArray};
use arrow_buffer::NullBuffer;
use arrow_schema::DataType;
use xxhash_rust::xxh3::xxh3_64;

/// What a null hashes to, in place of a text.
const NULL: u64 = 0x6E75_6C6C_6E75_6C6C;

/// Whether a column of this type holds texts.
pub(crate) fn is_text(kind: &DataType) -> bool {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => matches!(
            values.as_ref(),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
        ),
        _ => false,
    }
}

/// A column of texts. A dictionary's texts are hashed once each, others row by row.
pub(crate) struct Texts<'a> {
    nulls: Option<&'a NullBuffer>,
    values: Values<'a>,
    /// By row, for dictionaries: the place of its text.
    keys: Option<Vec<usize>>,
    /// By text.
    hashes: Vec<u64>,
}

enum Values<'a> {
    Small(&'a GenericStringArray<i32>),
    Large(&'a GenericStringArray<i64>),
    View(&'a StringViewArray),
    /// A dictionary without any text, whose rows are all null.
    Nothing,
}

impl<'a> Texts<'a> {
    /// `None` where the column is not of text.
    pub(crate) fn new(array: &'a ArrayRef) -> Option<Self> {
        let (values, keys) = match array.as_any_dictionary_opt() {
            None => (Values::new(array)?, None),
            Some(dictionary) if dictionary.values().is_empty() => (Values::Nothing, Some(vec![0; array.len()])),
            Some(dictionary) => (Values::new(dictionary.values())?, Some(dictionary.normalized_keys())),
        };
        let hashes = values.hashes();
        Some(Self {
            nulls: array.nulls(),
            values,
            keys,
            hashes,
        })
    }

    /// A hash of the row's text.
    #[inline]
    pub(crate) fn hash(&self, row: usize) -> u64 {
        let at = match &self.keys {
            Some(_) if self.is_null(row) => return NULL,
            Some(keys) => keys.get(row).copied(),
            None => Some(row),
        };
        at.and_then(|at| self.hashes.get(at)).copied().unwrap_or(NULL)
    }

    fn is_null(&self, row: usize) -> bool {
        self.nulls.is_some_and(|nulls| row < nulls.len() && nulls.is_null(row))
    }

    /// The row's text, unless it is null.
    pub(crate) fn get(&self, row: usize) -> Option<&'a str> {
        if self.is_null(row) {
            return None;
        }
        self.values
            .get(self.keys.as_ref().map_or(Some(row), |keys| keys.get(row).copied())?)
    }
}

impl<'a> Values<'a> {
    fn new(array: &'a ArrayRef) -> Option<Self> {
        if let Some(texts) = array.as_string_opt::<i32>() {
            return Some(Self::Small(texts));
        }
        if let Some(texts) = array.as_string_opt::<i64>() {
            return Some(Self::Large(texts));
        }
        array.as_string_view_opt().map(Self::View)
    }

    fn get(&self, at: usize) -> Option<&'a str> {
        fn plain<O: OffsetSizeTrait>(texts: &GenericStringArray<O>, at: usize) -> Option<&str> {
            (at < texts.len() && texts.is_valid(at)).then(|| texts.value(at))
        }
        match self {
            Self::Small(texts) => plain(texts, at),
            Self::Large(texts) => plain(texts, at),
            Self::View(texts) => (at < texts.len() && texts.is_valid(at)).then(|| texts.value(at)),
            Self::Nothing => None,
        }
    }

    fn hashes(&self) -> Vec<u64> {
        let length = match self {
            Self::Small(texts) => texts.len(),
            Self::Large(texts) => texts.len(),
            Self::View(texts) => texts.len(),
            Self::Nothing => 0,
        };
        let hash = |at| self.get(at).map_or(NULL, |text| xxh3_64(text.as_bytes()));
        (0..length).map(hash).collect()
    }
}
