//! Records on their way: one copy into an arena a batch, none after it.

use suture_event::Timestamp;

use crate::Offset;

/// A record, borrowed from where it lies.
#[derive(Debug, Clone, Copy)]
pub struct RecordRef<'a> {
    /// Its offset in its partition.
    pub offset: Offset,
    /// Its time, by its producer or by the broker.
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

    /// As they are packed, to be measured.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.packed
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    offset: Offset,
    timestamp: Option<Timestamp>,
    key: Option<(usize, usize)>,
    value: Option<(usize, usize)>,
    headers: (usize, usize),
}

/// Records of one partition in order of offset, their bytes in one piece.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    first: usize,
    /// How many at the end are not to be seen for now.
    hidden: usize,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Copies a record in. One whose offset does not lie beyond the last is left out, and `false` returned.
    pub fn push(&mut self, record: RecordRef<'_>) -> bool {
        if self.entries.last().is_some_and(|last| record.offset <= last.offset) {
            return false;
        }
        let key = record.key.map(|part| self.put(part));
        let value = record.value.map(|part| self.put(part));
        let headers = self.put(record.headers.packed);
        self.entries.push(Entry {
            offset: record.offset,
            timestamp: record.timestamp,
            key,
            value,
            headers,
        });
        true
    }

    fn put(&mut self, part: &[u8]) -> (usize, usize) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(part);
        (start, self.bytes.len())
    }

    /// How many records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of keys, values and headers.
    #[must_use]
    pub fn bytes(&self) -> usize {
        // a record's parts lie behind those of the one before, the headers last
        let end = |count: usize| {
            let last = count.checked_sub(1).and_then(|last| self.entries.get(last));
            last.map_or(0, |entry| entry.headers.1)
        };
        end(self.entries.len().saturating_sub(self.hidden)).saturating_sub(end(self.first))
    }

    /// The offset after the last record.
    #[must_use]
    pub fn next(&self) -> Option<Offset> {
        self.live().last().map(|entry| entry.offset + 1)
    }

    /// The last record.
    #[must_use]
    pub fn last(&self) -> Option<RecordRef<'_>> {
        self.live().last().map(|entry| self.view(entry))
    }

    /// The records in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = RecordRef<'_>> {
        self.live().iter().map(|entry| self.view(entry))
    }

    /// The time of the record at that place among those that [`Self::iter`] gives.
    #[must_use]
    pub fn timestamp(&self, index: usize) -> Option<Timestamp> {
        self.live().get(index).and_then(|entry| entry.timestamp)
    }

    /// Leaves out all records before `offset`, and gives their number.
    pub fn skip_before(&mut self, offset: Offset) -> usize {
        let skipped = self.live().partition_point(|entry| entry.offset < offset);
        self.first += skipped;
        skipped
    }

    /// Hides all records but the first `count`, until [`Self::show_rest`].
    pub fn hide_after(&mut self, count: usize) {
        self.hidden += self.len().saturating_sub(count);
    }

    /// Leaves out the records that are seen, and shows those that were hidden.
    pub fn show_rest(&mut self) {
        self.first = self.entries.len().saturating_sub(self.hidden);
        self.hidden = 0;
    }

    /// Empties the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
        self.first = 0;
        self.hidden = 0;
    }

    fn live(&self) -> &[Entry] {
        let end = self.entries.len().saturating_sub(self.hidden);
        self.entries.get(self.first..end).unwrap_or_default()
    }

    fn view(&self, entry: &Entry) -> RecordRef<'_> {
        let part = |(start, end): (usize, usize)| self.bytes.get(start..end).unwrap_or_default();
        RecordRef {
            offset: entry.offset,
            timestamp: entry.timestamp,
            key: entry.key.map(part),
            value: entry.value.map(part),
            headers: Headers {
                packed: part(entry.headers),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_gives_back_what_was_put_in() {
        let headers = HeadersBuf::default()
            .with("content-type", "application/json")
            .with("empty", "");
        let mut nulls = HeadersBuf::default();
        nulls.push("null", None);
        let mut batch = Batch::new();
        let record = |offset, headers| RecordRef {
            offset,
            timestamp: Some(Timestamp::from_millis(offset * 10)),
            key: (offset != 5).then_some(b"key".as_slice()),
            value: (offset != 7).then_some(b"value".as_slice()),
            headers,
        };
        assert!(batch.push(record(3, headers.as_headers())));
        assert!(batch.push(record(5, nulls.as_headers())));
        assert!(batch.push(record(7, Headers::default())));
        assert!(
            !batch.push(record(7, Headers::default())),
            "an offset that was there already"
        );
        assert_eq!((batch.len(), batch.next()), (3, Some(8)));

        let seen: Vec<_> = batch.iter().collect();
        assert_eq!(
            seen[0].headers.get("content-type"),
            Some(b"application/json".as_slice())
        );
        assert_eq!(seen[0].headers.iter().count(), 2);
        assert_eq!(seen[1].headers.iter().collect::<Vec<_>>(), [("null", None)]);
        assert_eq!((seen[1].key, seen[1].value), (None, Some(b"value".as_slice())));
        assert_eq!((seen[2].key, seen[2].value), (Some(b"key".as_slice()), None));

        assert_eq!(batch.skip_before(5), 1);
        let times = [0, 1, 2].map(|index| batch.timestamp(index).map(Timestamp::as_millis));
        assert_eq!(times, [Some(50), Some(70), None]);
        assert_eq!(batch.iter().map(|r| r.offset).collect::<Vec<_>>(), [5, 7]);
        assert_eq!(batch.skip_before(100), 2);
        assert!(batch.is_empty() && batch.next().is_none());
    }

    #[test]
    fn a_batch_is_taken_in_parts() {
        let mut batch = Batch::new();
        for offset in 0..10 {
            let value = vec![b'v'; usize::try_from(offset).unwrap()];
            batch.push(RecordRef {
                offset,
                timestamp: None,
                key: None,
                value: Some(&value),
                headers: Headers::default(),
            });
        }
        assert_eq!(batch.bytes(), 45);
        batch.skip_before(2);
        batch.hide_after(3);
        assert_eq!(batch.iter().map(|r| r.offset).collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!((batch.len(), batch.bytes(), batch.next()), (3, 9, Some(5)));
        batch.hide_after(1);
        assert_eq!((batch.len(), batch.skip_before(100), batch.len()), (1, 1, 0));
        batch.show_rest();
        assert_eq!((batch.len(), batch.bytes(), batch.next()), (7, 42, Some(10)));
        batch.hide_after(20);
        batch.show_rest();
        assert!(batch.is_empty() && batch.bytes() == 0);
        batch.clear();
        let record = RecordRef {
            offset: 3,
            timestamp: None,
            key: None,
            value: Some(b"three"),
            headers: Headers::default(),
        };
        assert!(batch.push(record));
        assert_eq!((batch.len(), batch.bytes()), (1, 5));
    }
}
