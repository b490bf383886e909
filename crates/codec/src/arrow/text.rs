//! Columns of text, whatever their encoding, with a hash of each text.

use std::ops::Range;

use arrow_array::{
    Array, ArrayRef, GenericStringArray, OffsetSizeTrait, StringViewArray,
    cast::AsArray,
    types::{
        ArrowPrimitiveType, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
    },
};
use arrow_buffer::{ArrowNativeType, NullBuffer};
use arrow_schema::DataType;
use xxhash_rust::xxh3::xxh3_128;

/// What a null hashes to, in place of a text.
const NULL: u128 = 0x6E75_6C6C_6E75_6C6C_2E74_6578_7400_0001;

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
    keys: Option<Keys<'a>>,
    /// By text.
    hashes: Vec<u128>,
    /// What a null hashes to.
    null: u128,
}

enum Values<'a> {
    Small(&'a GenericStringArray<i32>),
    Large(&'a GenericStringArray<i64>),
    View(&'a StringViewArray),
    /// A dictionary without any text, whose rows are all null.
    Nothing,
}

/// A dictionary's keys, as they lie in the record.
#[derive(Clone, Copy)]
enum Keys<'a> {
    I8(&'a [i8]),
    I16(&'a [i16]),
    I32(&'a [i32]),
    I64(&'a [i64]),
    U8(&'a [u8]),
    U16(&'a [u16]),
    U32(&'a [u32]),
    U64(&'a [u64]),
}

impl<'a> Texts<'a> {
    /// `None` where the column is not of text.
    pub(crate) fn new(array: &'a ArrayRef) -> Option<Self> {
        let (values, keys) = match array.as_any_dictionary_opt() {
            None => (Values::new(array)?, None),
            Some(dictionary) if dictionary.values().is_empty() => {
                (Values::Nothing, Some(Keys::new(dictionary.keys())?))
            }
            Some(dictionary) => (Values::new(dictionary.values())?, Some(Keys::new(dictionary.keys())?)),
        };
        let hashes = values.hashes();
        Some(Self {
            nulls: array.nulls().filter(|nulls| nulls.null_count() > 0),
            values,
            keys,
            hashes,
            null: NULL,
        })
    }

    /// Multiplies the hashes as if so many parts had been folded onto them since, so that a row's hash is their plain sum.
    pub(crate) fn raise(&mut self, parts: usize) {
        let [high, low] = FACTORS.map(|factor| u32::try_from(parts).map_or(0, |parts| factor.wrapping_pow(parts)));
        let raised = |hash: u128| joined(halves(hash)[0].wrapping_mul(high), halves(hash)[1].wrapping_mul(low));
        self.hashes.iter_mut().for_each(|hash| *hash = raised(*hash));
        self.null = raised(self.null);
    }

    /// The hash that all rows share, where that is plain.
    pub(crate) fn shared(&self) -> Option<u128> {
        let [one] = self.hashes.as_slice() else { return None };
        (self.nulls.is_none() && self.keys.is_some()).then_some(*one)
    }

    /// Adds the hashes of some rows' texts to the rows' sums so far.
    #[inline]
    pub(crate) fn add(&self, rows: Range<usize>, sums: &mut [u128]) {
        match self.keys.filter(|_| self.nulls.is_none()) {
            Some(Keys::I8(keys)) => self.add_keys(keys, rows, sums),
            Some(Keys::I16(keys)) => self.add_keys(keys, rows, sums),
            Some(Keys::I32(keys)) => self.add_keys(keys, rows, sums),
            Some(Keys::I64(keys)) => self.add_keys(keys, rows, sums),
            Some(Keys::U8(keys)) => self.add_keys(keys, rows, sums),
            Some(Keys::U16(keys)) => self.add_keys(keys, rows, sums),
            Some(Keys::U32(keys)) => self.add_keys(keys, rows, sums),
            Some(Keys::U64(keys)) => self.add_keys(keys, rows, sums),
            None => rows.zip(sums).for_each(|(row, sum)| *sum = add(*sum, self.hash(row))),
        }
    }

    fn add_keys<K: ArrowNativeType>(&self, keys: &[K], rows: Range<usize>, sums: &mut [u128]) {
        for (key, sum) in keys.get(rows).unwrap_or_default().iter().zip(sums) {
            *sum = add(*sum, self.hashes.get(key.as_usize()).copied().unwrap_or(self.null));
        }
    }

    /// A hash of the row's text.
    #[inline]
    pub(crate) fn hash(&self, row: usize) -> u128 {
        if self.is_null(row) {
            return self.null;
        }
        let at = self.place(row);
        at.and_then(|at| self.hashes.get(at)).copied().unwrap_or(self.null)
    }

    fn is_null(&self, row: usize) -> bool {
        self.nulls.is_some_and(|nulls| row < nulls.len() && nulls.is_null(row))
    }

    fn place(&self, row: usize) -> Option<usize> {
        self.keys.map_or(Some(row), |keys| keys.get(row))
    }

    /// The row's text, unless it is null.
    pub(crate) fn get(&self, row: usize) -> Option<&'a str> {
        if self.is_null(row) {
            return None;
        }
        self.values.get(self.place(row)?)
    }
}

/// Odd numbers, so that a product keeps what its other factor said.
const FACTORS: [u64; 2] = [0x9E37_79B9_7F4A_7C15, 0xC2B2_AE3D_27D4_EB4F];

#[inline]
#[allow(clippy::cast_possible_truncation)] // the halves
const fn halves(hash: u128) -> [u64; 2] {
    [(hash >> 64) as u64, hash as u64]
}

#[inline]
const fn joined(high: u64, low: u64) -> u128 {
    (high as u128) << 64 | low as u128
}

/// Adds a half to a half.
#[inline]
pub(crate) const fn add(sum: u128, part: u128) -> u128 {
    let ([sum_high, sum_low], [high, low]) = (halves(sum), halves(part));
    joined(sum_high.wrapping_add(high), sum_low.wrapping_add(low))
}

/// A hash over one more part. What is added up are hashes already, so that a sum of products by odd numbers, a half each,
/// keeps what they differ by, and the order of the parts.
#[inline]
pub(crate) const fn fold(sum: u128, part: u128) -> u128 {
    let [high, low] = halves(sum);
    add(
        joined(high.wrapping_mul(FACTORS[0]), low.wrapping_mul(FACTORS[1])),
        part,
    )
}

impl<'a> Keys<'a> {
    fn new(keys: &'a dyn Array) -> Option<Self> {
        fn values<T: ArrowPrimitiveType>(keys: &dyn Array) -> Option<&[T::Native]> {
            Some(keys.as_primitive_opt::<T>()?.values())
        }
        Some(match keys.data_type() {
            DataType::Int8 => Self::I8(values::<Int8Type>(keys)?),
            DataType::Int16 => Self::I16(values::<Int16Type>(keys)?),
            DataType::Int32 => Self::I32(values::<Int32Type>(keys)?),
            DataType::Int64 => Self::I64(values::<Int64Type>(keys)?),
            DataType::UInt8 => Self::U8(values::<UInt8Type>(keys)?),
            DataType::UInt16 => Self::U16(values::<UInt16Type>(keys)?),
            DataType::UInt32 => Self::U32(values::<UInt32Type>(keys)?),
            DataType::UInt64 => Self::U64(values::<UInt64Type>(keys)?),
            _ => return None,
        })
    }

    fn get(self, row: usize) -> Option<usize> {
        match self {
            Self::I8(keys) => keys.get(row).map(|key| key.as_usize()),
            Self::I16(keys) => keys.get(row).map(|key| key.as_usize()),
            Self::I32(keys) => keys.get(row).map(|key| key.as_usize()),
            Self::I64(keys) => keys.get(row).map(|key| key.as_usize()),
            Self::U8(keys) => keys.get(row).map(|key| key.as_usize()),
            Self::U16(keys) => keys.get(row).map(|key| key.as_usize()),
            Self::U32(keys) => keys.get(row).map(|key| key.as_usize()),
            Self::U64(keys) => keys.get(row).map(|key| key.as_usize()),
        }
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

    fn hashes(&self) -> Vec<u128> {
        let length = match self {
            Self::Small(texts) => texts.len(),
            Self::Large(texts) => texts.len(),
            Self::View(texts) => texts.len(),
            Self::Nothing => 0,
        };
        let hash = |at| self.get(at).map_or(NULL, |text| xxh3_128(text.as_bytes()));
        (0..length).map(hash).collect()
    }
}
