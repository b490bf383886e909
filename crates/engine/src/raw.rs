//! Slots of series by the bytes that name them in a record, so that the names and labels of a known series are not read.

use suture_event::codec::RawKey;

use crate::series::Slot;

/// Entries of a bucket: they fill one line of memory.
const WAYS: usize = 8;
const FIRST_BUCKETS: usize = 64;
/// Entries a bucket at which the buckets are doubled, so that few overflow.
const FULL: usize = 4;

const EMPTY: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Bucket {
    tags: [u32; WAYS],
    places: [u32; WAYS],
}

const NOTHING: Bucket = Bucket {
    tags: [0; WAYS],
    places: [EMPTY; WAYS],
};

/// A key and what becomes of its samples, so near that a look at one brings the other.
#[derive(Debug, Clone, Copy)]
struct Entry {
    key: [u64; 2],
    /// A row, or one of the three below.
    slot: u32,
    /// Another entry of the same row, such as the series written in another way; [`EMPTY`] where there is none.
    same: u32,
}

/// What became of a series that was given up: nothing is known any more.
const GONE: u32 = u32::MAX - 2;

const LEFT_OUT: u32 = u32::MAX - 1;
const REFUSED: u32 = u32::MAX;

impl Entry {
    fn new(key: RawKey, slot: Slot) -> Self {
        let slot = match slot {
            // rows are fewer than the bound on series, which is far below
            Slot::Row(row) => row.min(GONE - 1),
            Slot::LeftOut => LEFT_OUT,
            Slot::Refused => REFUSED,
        };
        Self {
            key: halves(key),
            slot,
            same: EMPTY,
        }
    }

    const fn slot(self) -> Option<Slot> {
        match self.slot {
            GONE => None,
            LEFT_OUT => Some(Slot::LeftOut),
            REFUSED => Some(Slot::Refused),
            row => Some(Slot::Row(row)),
        }
    }
}

#[allow(clippy::cast_possible_truncation)] // the halves
const fn halves(key: RawKey) -> [u64; 2] {
    [(key.0 >> 64) as u64, key.0 as u64]
}

/// Keys that are looked up ahead of their turn, where runs of keys in order are shorter than this.
const AHEAD: usize = 32;
/// Entries that are near in any case.
const NEAR: usize = 16_384;

/// A cache of a bounded size. What it forgets is found again by decoding a sample in full, so it belongs to no snapshot and
/// no result depends on it.
///
/// Keys are numbered in the order in which they were met. Producers send the series of one origin in the same order again
/// and again, so the next key is mostly the one after the last, and is found beside it without a search: of a million
/// series, the buckets fit into no cache, and a search is a miss.
#[derive(Debug)]
pub(crate) struct RawSlots {
    entries: Vec<Entry>,
    buckets: Vec<Bucket>,
    /// By row, the entry that was put in last.
    last: Vec<u32>,
    /// The number to be tried first.
    next: usize,
    most: usize,
}

impl RawSlots {
    /// Room for that many keys: about 50 bytes each once they are there.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            entries: Vec::new(),
            buckets: Vec::new(),
            last: Vec::new(),
            next: 0,
            most: most.clamp(1, EMPTY as usize - 1),
        }
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.buckets.clear();
        self.last.clear();
        self.next = 0;
    }

    /// Forgets a row: its keys are those of an unknown series.
    pub(crate) fn forget(&mut self, row: u32) {
        let mut at = self
            .last
            .get_mut(row as usize)
            .map_or(EMPTY, |last| std::mem::replace(last, EMPTY));
        while let Some(entry) = self.entries.get_mut(at as usize) {
            entry.slot = GONE;
            at = std::mem::replace(&mut entry.same, EMPTY);
        }
    }

    /// Notes that an entry is its row's.
    #[allow(clippy::cast_possible_truncation)] // below the bound, which is below 2^32
    fn link(&mut self, at: usize) {
        let Some(entry) = self.entries.get_mut(at).filter(|entry| entry.slot < GONE) else {
            return;
        };
        let row = entry.slot as usize;
        if self.last.len() <= row {
            self.last.resize(row + 1, EMPTY);
        }
        if let Some(last) = self.last.get_mut(row) {
            entry.same = std::mem::replace(last, at as u32);
        }
    }

    #[inline]
    pub(crate) fn get(&mut self, key: RawKey) -> Option<Slot> {
        let key = halves(key);
        let at = match self.entries.get(self.next) {
            Some(entry) if entry.key == key => self.next,
            _ => self.search(key)?,
        };
        self.next = at + 1;
        self.entries.get(at)?.slot()
    }

    /// Appends the rows of keys up to the first that is not known or has no row, and tells how many these are.
    pub(crate) fn rows(&mut self, keys: &[RawKey], rows: &mut Vec<u32>) -> usize {
        let (mut done, mut looked_to) = (0, 0);
        loop {
            let before = done;
            let expected = self.entries.get(self.next..).unwrap_or_default();
            let ahead = keys.get(done..).unwrap_or_default();
            for (entry, key) in expected.iter().zip(ahead) {
                if entry.key != halves(*key) || entry.slot >= GONE {
                    break;
                }
                rows.push(entry.slot);
                done += 1;
            }
            self.next += done - before;
            let Some(key) = keys.get(done) else { return done };
            if done - before < AHEAD && done >= looked_to && self.entries.len() > NEAR {
                looked_to = keys.len().min(done + AHEAD);
                self.look_ahead(keys.get(done..looked_to).unwrap_or_default());
            }
            let Some(at) = self.search(halves(*key)) else {
                return done;
            };
            match self.entries.get(at) {
                Some(entry) if entry.slot < GONE => rows.push(entry.slot),
                _ => return done,
            }
            self.next = at + 1;
            done += 1;
        }
    }

    /// Touches the buckets of keys and then their entries, none of which waits for another.
    fn look_ahead(&self, keys: &[RawKey]) {
        let buckets = |sum: u32, key: &RawKey| {
            let (place, _) = self.place(halves(*key));
            sum ^ self.buckets.get(place).map_or(0, |bucket| bucket.tags[0])
        };
        std::hint::black_box(keys.iter().fold(0, buckets));
        let entries = |sum: u32, key: &RawKey| {
            let entry = self.candidates(halves(*key)).next().and_then(|at| self.entries.get(at));
            sum ^ entry.map_or(0, |entry| entry.slot)
        };
        std::hint::black_box(keys.iter().fold(0, entries));
    }

    /// The number of a key.
    fn search(&self, key: [u64; 2]) -> Option<usize> {
        self.candidates(key)
            .find(|at| self.entries.get(*at).is_some_and(|entry| entry.key == key))
    }

    /// Numbers that may be the key's.
    #[inline]
    fn candidates(&self, key: [u64; 2]) -> impl Iterator<Item = usize> {
        let (place, tag) = self.place(key);
        let bucket = self.buckets.get(place).unwrap_or(&NOTHING);
        let entries = bucket.tags.iter().zip(bucket.places);
        entries
            .filter(move |(found, at)| **found == tag && *at != EMPTY)
            .map(|(_, at)| at as usize)
    }

    #[allow(clippy::cast_possible_truncation)] // some bits for the bucket, others for the tag
    fn place(&self, [high, low]: [u64; 2]) -> (usize, u32) {
        let mask = self.buckets.len().wrapping_sub(1);
        (high as usize & mask, low as u32)
    }

    /// Remembers a slot. At the bound everything is forgotten, to be met anew.
    pub(crate) fn put(&mut self, key: RawKey, slot: Slot) {
        let entry = Entry::new(key, slot);
        if let Some(at) = self.search(entry.key) {
            if let Some(known) = self.entries.get_mut(at).filter(|known| known.slot != entry.slot) {
                *known = entry;
                self.link(at);
            }
            return;
        }
        if self.entries.len() >= self.most {
            self.clear();
        }
        self.next = self.entries.len() + 1;
        self.entries.push(entry);
        self.link(self.entries.len() - 1);
        if self.entries.len() > self.buckets.len() * FULL {
            self.rebuild();
        } else {
            self.enter(self.entries.len() - 1);
        }
    }

    /// Puts a key's number into its bucket. Where that is full, one gives way: its key is found only in its turn, until it
    /// is put in again.
    fn enter(&mut self, at: usize) {
        let Some(entry) = self.entries.get(at) else { return };
        let (place, tag) = self.place(entry.key);
        let Some(bucket) = self.buckets.get_mut(place) else {
            return;
        };
        let free = bucket.places.iter().position(|place| *place == EMPTY);
        let way = free.unwrap_or(tag as usize / 7 % WAYS);
        if let (Some(t), Some(p)) = (bucket.tags.get_mut(way), bucket.places.get_mut(way)) {
            #[allow(clippy::cast_possible_truncation)] // below the bound, which is below 2^32
            let number = at as u32;
            (*t, *p) = (tag, number);
        }
    }

    /// Doubles the buckets.
    #[cold]
    fn rebuild(&mut self) {
        let buckets = (self.buckets.len() * 2).max(FIRST_BUCKETS);
        self.buckets.clear();
        self.buckets.resize(buckets, NOTHING);
        for at in 0..self.entries.len() {
            self.enter(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> RawKey {
        let mixed = n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        RawKey(u128::from(mixed ^ (mixed >> 29)) << 64 | u128::from(mixed))
    }

    #[test]
    fn a_bucket_is_a_line_of_memory() {
        assert_eq!(size_of::<Bucket>(), 64);
    }

    #[test]
    fn what_was_put_in_last_is_found_and_nothing_else() {
        let mut slots = RawSlots::new(1_000);
        assert_eq!(slots.get(key(1)), None);
        for (n, slot) in [
            (1, Slot::Row(7)),
            (2, Slot::LeftOut),
            (3, Slot::Refused),
            (2, Slot::Row(9)),
        ] {
            slots.put(key(n), slot);
            assert_eq!(slots.get(key(n)), Some(slot));
        }
        assert_eq!(slots.get(key(4)), None);
        slots.clear();
        assert_eq!(slots.get(key(1)), None);
    }

    #[test]
    fn keys_that_share_a_bucket_and_a_tag_are_told_apart() {
        let mut slots = RawSlots::new(1_000);
        let alike = |n: u128| RawKey(n << 40 | 5);
        for n in 1..5 {
            slots.put(alike(n), Slot::Row(u32::try_from(n).unwrap()));
        }
        for n in [3, 1, 4, 2] {
            assert_eq!(slots.get(alike(n)), Some(Slot::Row(u32::try_from(n).unwrap())));
        }
        assert_eq!(slots.get(alike(9)), None);
    }

    #[test]
    fn it_keeps_to_its_bound_and_never_mixes_series_up() {
        let mut slots = RawSlots::new(4_096);
        for _ in 0..3 {
            for n in 0..20_000_u32 {
                if slots.get(key(u64::from(n))).is_none() {
                    slots.put(key(u64::from(n)), Slot::Row(n));
                }
                assert_eq!(slots.get(key(u64::from(n))), Some(Slot::Row(n)));
                assert!(slots.entries.len() <= 4_096 && slots.buckets.len() <= 2_048);
            }
        }
        for n in 0..20_000_u32 {
            assert!(slots.get(key(u64::from(n))).is_none_or(|slot| slot == Slot::Row(n)));
        }
    }

    #[test]
    fn runs_of_keys_are_what_each_by_itself_would_be() {
        let mut slots = RawSlots::new(100_000);
        let slot = |n: u32| match n % 1_000 {
            7 => Slot::LeftOut,
            8 => Slot::Refused,
            _ => Slot::Row(n),
        };
        for n in 0..50_000_u32 {
            slots.put(key(u64::from(n)), slot(n));
        }
        let mut keys = Vec::new();
        for part in 0..200_u64 {
            let from = part * 7_919 % 50_000;
            keys.extend((from..from + 1 + part % 90).map(key));
        }
        let mut rows = Vec::new();
        let mut done = 0;
        while done < keys.len() {
            rows.clear();
            let known = slots.rows(&keys[done..], &mut rows);
            assert_eq!(known, rows.len());
            for (key, row) in keys[done..].iter().zip(&rows) {
                assert_eq!(slots.get(*key), Some(Slot::Row(*row)));
            }
            done += known;
            if let Some(key) = keys.get(done) {
                assert!(!matches!(slots.get(*key), Some(Slot::Row(_))));
                done += 1;
            }
        }
    }

    #[test]
    fn a_row_is_forgotten_by_all_of_its_keys() {
        let mut slots = RawSlots::new(1_000);
        for n in 0..300 {
            slots.put(key(n), Slot::Row(u32::try_from(n % 100).unwrap()));
        }
        slots.forget(7);
        slots.forget(200);
        for n in 0..300 {
            assert_eq!(slots.get(key(n)).is_some(), n % 100 != 7, "{n}");
        }
        slots.put(key(107), Slot::Row(7));
        slots.put(key(7), Slot::LeftOut);
        assert_eq!(
            (slots.get(key(107)), slots.get(key(7))),
            (Some(Slot::Row(7)), Some(Slot::LeftOut))
        );
        slots.forget(7);
        assert_eq!((slots.get(key(107)), slots.get(key(7))), (None, Some(Slot::LeftOut)));
        assert_eq!(slots.get(key(8)), Some(Slot::Row(8)));
    }

    #[test]
    fn nearly_all_that_fit_are_found_in_any_order() {
        let mut slots = RawSlots::new(100_000);
        for n in 0..100_000_u32 {
            slots.put(key(u64::from(n)), Slot::Row(n));
        }
        let backwards = (0..100_000_u32).rev();
        let found = backwards.filter(|n| slots.get(key(u64::from(*n))) == Some(Slot::Row(*n)));
        assert!(found.count() > 97_000);
    }
}
