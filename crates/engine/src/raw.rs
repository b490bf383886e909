//! Slots of series by the bytes that name them in a record, so that the names and labels of a known series are not read.

use suture_event::codec::RawKey;

use crate::series::Slot;

/// Entries of a bucket: with their numbers they fill one line of memory, which is all that a lookup touches.
const WAYS: usize = 5;
const FIRST_BUCKETS: usize = 64;

const EMPTY: u32 = u32::MAX;
const LEFT_OUT: u32 = u32::MAX - 1;
const REFUSED: u32 = u32::MAX - 2;

#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Bucket {
    tags: [u64; WAYS],
    slots: [u32; WAYS],
}

const NOTHING: Bucket = Bucket {
    tags: [0; WAYS],
    slots: [EMPTY; WAYS],
};

/// A cache of a bounded size. What it forgets is found again by decoding a sample in full, so it belongs to no snapshot and
/// no result depends on it.
///
/// An entry is kept under all of 64 bits of its key and the bits of the other 64 that choose its bucket.
#[derive(Debug)]
pub(crate) struct RawSlots {
    buckets: Vec<Bucket>,
    most: usize,
}

impl RawSlots {
    /// Room for about `series` of them: 32 to 64 bytes each once all are there.
    pub(crate) fn new(series: usize) -> Self {
        Self {
            buckets: Vec::new(),
            most: (series / 2).next_power_of_two().max(FIRST_BUCKETS),
        }
    }

    pub(crate) fn clear(&mut self) {
        self.buckets.clear();
    }

    #[allow(clippy::cast_possible_truncation)] // one half for the bucket, the other for the tag
    fn place(&self, key: RawKey) -> (usize, u64) {
        let mask = self.buckets.len().wrapping_sub(1);
        ((key.0 >> 64) as usize & mask, key.0 as u64)
    }

    #[inline]
    pub(crate) fn get(&self, key: RawKey) -> Option<Slot> {
        let (place, tag) = self.place(key);
        let bucket = self.buckets.get(place)?;
        let mut entries = bucket.tags.iter().zip(bucket.slots);
        let (_, slot) = entries.find(|(found, slot)| **found == tag && *slot != EMPTY)?;
        Some(match slot {
            LEFT_OUT => Slot::LeftOut,
            REFUSED => Slot::Refused,
            row => Slot::Row(row),
        })
    }

    /// Remembers a slot. Where its bucket is full, everything makes room for twice as many, up to the bound; from there on
    /// one of the bucket gives way.
    pub(crate) fn put(&mut self, key: RawKey, slot: Slot) {
        let number = match slot {
            Slot::LeftOut => LEFT_OUT,
            Slot::Refused => REFUSED,
            Slot::Row(row) if row < REFUSED => row,
            Slot::Row(_) => return,
        };
        if self.buckets.is_empty() {
            self.buckets.resize(FIRST_BUCKETS, NOTHING);
        }
        let (mut place, tag) = self.place(key);
        let mut way = self.free(place);
        if way.is_none() && self.buckets.len() < self.most {
            let buckets = self.buckets.len() * 2;
            self.buckets.clear();
            self.buckets.resize(buckets, NOTHING);
            (place, _) = self.place(key);
            way = Some(0);
        }
        #[allow(clippy::cast_possible_truncation)] // below the number of ways
        let way = way.unwrap_or((tag % WAYS as u64) as usize);
        if let Some(bucket) = self.buckets.get_mut(place)
            && let (Some(t), Some(s)) = (bucket.tags.get_mut(way), bucket.slots.get_mut(way))
        {
            (*t, *s) = (tag, number);
        }
    }

    fn free(&self, place: usize) -> Option<usize> {
        self.buckets.get(place)?.slots.iter().position(|slot| *slot == EMPTY)
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
        for (n, slot) in [(1, Slot::Row(7)), (2, Slot::LeftOut), (3, Slot::Refused)] {
            slots.put(key(n), slot);
            assert_eq!(slots.get(key(n)), Some(slot));
        }
        assert_eq!(slots.get(key(4)), None);
        slots.clear();
        assert_eq!(slots.get(key(1)), None);
    }

    #[test]
    fn it_grows_to_its_bound_and_no_further_and_never_mixes_series_up() {
        let mut slots = RawSlots::new(4_096);
        for round in 0..3 {
            for n in 0..20_000_u32 {
                slots.put(key(u64::from(n)), Slot::Row(n));
                assert_eq!(slots.get(key(u64::from(n))), Some(Slot::Row(n)));
            }
            assert_eq!(slots.buckets.len(), 2_048, "round {round}");
        }
        let kept = (0..20_000_u32).filter(|n| slots.get(key(u64::from(*n))).is_some());
        for n in kept.clone() {
            assert_eq!(slots.get(key(u64::from(n))), Some(Slot::Row(n)));
        }
        assert!(kept.count() > 8_000);
    }

    #[test]
    fn as_many_as_were_asked_for_stay() {
        let mut slots = RawSlots::new(100_000);
        for _ in 0..2 {
            for n in 0..100_000_u32 {
                if slots.get(key(u64::from(n))).is_none() {
                    slots.put(key(u64::from(n)), Slot::Row(n));
                }
            }
        }
        let lost = (0..100_000_u32)
            .filter(|n| slots.get(key(u64::from(*n))).is_none())
            .count();
        assert!(lost < 1_000, "{lost}");
    }
}
