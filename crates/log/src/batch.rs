//! Records on their way: one copy into an arena a batch, none after it.

use suture_event::{Headers, RecordRef, Timestamp};

use crate::Offset;

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
        let headers = self.put(record.headers.packed());
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
            headers: Headers::from_packed(part(entry.headers)),
        }
    }
}

#[cfg(test)]
mod tests {
    use suture_event::HeadersBuf;

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
