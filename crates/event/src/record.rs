//! A record of a log's partition, as everything that reads one is given it.

use crate::Timestamp;

/// A record as it lies in its partition, borrowed.
#[derive(Debug, Clone, Copy)]
pub struct RecordRef<'a> {
    /// Its offset in its partition; a line's number in a replay.
    pub offset: i64,
    /// Its time, by its producer or by the broker; absent in a replay.
    pub timestamp: Option<Timestamp>,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: Headers<'a>,
}

impl RecordRef<'_> {
    /// Bytes of key, value and headers.
    #[must_use]
    pub fn size(&self) -> usize {
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + self.headers.packed.len()
    }
}

/// A record's headers, in order. Each is a name and perhaps a value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Headers<'a> {
    packed: &'a [u8],
}

impl<'a> Headers<'a> {
    /// Headers as [`HeadersBuf`] packs them.
    #[must_use]
    pub const fn from_packed(packed: &'a [u8]) -> Self {
        Self { packed }
    }

    /// As they are packed, to be kept or measured.
    #[must_use]
    pub const fn packed(&self) -> &'a [u8] {
        self.packed
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.packed.is_empty()
    }

    /// The value of the first header of that name; `None` where there is none or it has no value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.iter().find(|(n, _)| *n == name).and_then(|(_, value)| value)
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> + use<'a> {
        let mut rest = self.packed;
        std::iter::from_fn(move || {
            let (name, after) = take(rest)?;
            let (value, after) = take(after)?;
            rest = after;
            Some((std::str::from_utf8(name.unwrap_or_default()).unwrap_or_default(), value))
        })
    }
}

const NONE: u32 = u32::MAX;

/// One length-prefixed part off the front; the inner option is none for an absent value.
fn take(packed: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let (length, rest) = packed.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length);
    if length == NONE {
        return Some((None, rest));
    }
    let (part, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    Some((Some(part), rest))
}

/// Headers of one's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeadersBuf {
    packed: Vec<u8>,
}

impl HeadersBuf {
    /// Adds a header. A name or value of 4 GiB or more, which no log takes, is left out.
    pub fn push(&mut self, name: &str, value: Option<&[u8]>) {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).ok().filter(|n| *n != NONE);
        let Some(name_length) = length(name.as_bytes()) else {
            return;
        };
        let value_length = match value {
            None => NONE,
            Some(value) => match length(value) {
                Some(length) => length,
                None => return,
            },
        };
        self.packed.extend_from_slice(&name_length.to_le_bytes());
        self.packed.extend_from_slice(name.as_bytes());
        self.packed.extend_from_slice(&value_length.to_le_bytes());
        self.packed.extend_from_slice(value.unwrap_or_default());
    }

    /// The same with one header more.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.push(name, Some(value.as_ref()));
        self
    }

    /// Takes all headers out.
    pub fn clear(&mut self) {
        self.packed.clear();
    }

    /// As they are read.
    #[must_use]
    pub fn as_headers(&self) -> Headers<'_> {
        Headers { packed: &self.packed }
    }
}
