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

/// A cache of a bounded size. What it forgets is found again by decoding a sample in full, so it belongs to no snapshot and
/// no result depends on it.
///
/// Keys are numbered in the order in which they were met. Producers send the series of one origin in the same order again
/// and again, so the next key is mostly the one after the last, and is found beside it without a search: of a million
/// series, the buckets fit into no cache, and a search is a miss.
#[derive(Debug)]
pub(crate) struct RawSlots {
    keys: Vec<RawKey>,
    slots: Vec<Slot>,
    buckets: Vec<Bucket>,
    /// The number to be tried first.
    next: usize,
    most: usize,
}

impl RawSlots {
    /// Room for that many keys: about 50 bytes each once they are there.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            keys: Vec::new(),
            slots: Vec::new(),
            buckets: Vec::new(),
            next: 0,
            most: most.clamp(1, EMPTY as usize - 1),
        }
    }

    pub(crate) fn clear(&mut self) {
        self.keys.clear();
        self.slots.clear();
        self.buckets.clear();
        self.next = 0;
    }

    #[inline]
    pub(crate) fn get(&mut self, key: RawKey) -> Option<Slot> {
        let at = if self.keys.get(self.next) == Some(&key) {
            self.next
        } else {
            self.search(key)?
        };
        self.next = at + 1;
        self.slots.get(at).copied()
    }

    /// The number of a key.
    fn search(&self, key: RawKey) -> Option<usize> {
        let (place, tag) = self.place(key);
        let bucket = self.buckets.get(place)?;
        let mut entries = bucket.tags.iter().zip(bucket.places);
        entries.find_map(|(found, at)| {
            let at = at as usize;
            (*found == tag && self.keys.get(at) == Some(&key)).then_some(at)
        })
    }

    #[allow(clippy::cast_possible_truncation)] // some bits for the bucket, others for the tag
    fn place(&self, key: RawKey) -> (usize, u32) {
        let mask = self.buckets.len().wrapping_sub(1);
        ((key.0 >> 64) as usize & mask, key.0 as u32)
    }

    /// Remembers a slot. At the bound everything is forgotten, to be met anew.
    pub(crate) fn put(&mut self, key: RawKey, slot: Slot) {
        if let Some(at) = self.search(key) {
            if let Some(known) = self.slots.get_mut(at) {
                *known = slot;
            }
            return;
        }
        if self.keys.len() >= self.most {
            self.clear();
        }
        self.next = self.keys.len() + 1;
        self.keys.push(key);
        self.slots.push(slot);
        if self.keys.len() > self.buckets.len() * FULL {
            self.rebuild();
        } else {
            self.enter(self.keys.len() - 1);
        }
    }

    /// Puts a key's number into its bucket. Where that is full, one gives way: its key is found only in its turn, until it
    /// is put in again.
    fn enter(&mut self, at: usize) {
        let Some(key) = self.keys.get(at) else { return };
        let (place, tag) = self.place(*key);
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
        for at in 0..self.keys.len() {
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
                assert!(slots.keys.len() <= 4_096 && slots.buckets.len() <= 2_048);
            }
        }
        for n in 0..20_000_u32 {
            assert!(slots.get(key(u64::from(n))).is_none_or(|slot| slot == Slot::Row(n)));
        }
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
