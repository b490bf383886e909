//! Slots of series by the bytes that name them in a record, so that the names and labels of a known series are not read.

use suture_codec::RawKey;

use crate::series::Slot;

/// Keys of a bucket: they fill one line of memory.
const WAYS: usize = 4;
const FIRST_BUCKETS: usize = 64;
/// Keys a bucket at which the buckets are doubled, so that few overflow.
const FULL: usize = 2;

const EMPTY: u32 = u32::MAX;

/// What a search needs to know of a key, so that it need look nowhere else: half of the key, what becomes of its samples,
/// and its number. The other half tells the bucket, so of a million keys the odds that any two are taken for one are 1 to 10^13.
#[derive(Debug, Clone, Copy)]
struct Way {
    tag: u64,
    slot: u32,
    at: u32,
}

#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Bucket([Way; WAYS]);

const NOTHING: Bucket = Bucket(
    [Way {
        tag: 0,
        slot: GONE,
        at: EMPTY,
    }; WAYS],
);

/// What became of a series that was given up: nothing is known any more.
const GONE: u32 = u32::MAX - 2;

const LEFT_OUT: u32 = u32::MAX - 1;
const REFUSED: u32 = u32::MAX;

fn written(slot: Slot) -> u32 {
    match slot {
        // rows are fewer than the bound on series, which is far below
        Slot::Row(row) => row.min(GONE - 1),
        Slot::LeftOut => LEFT_OUT,
        Slot::Refused => REFUSED,
        Slot::Crowded => GONE,
    }
}

/// Puts an entry at the end of a column, which grows by an eighth and not to twice its length where it is full.
fn push<T>(column: &mut Vec<T>, entry: T) {
    if column.len() == column.capacity() {
        column.reserve_exact((column.len() / 8).max(FIRST_BUCKETS));
    }
    column.push(entry);
}

const fn slot_of(slot: u32) -> Option<Slot> {
    match slot {
        GONE => None,
        LEFT_OUT => Some(Slot::LeftOut),
        REFUSED => Some(Slot::Refused),
        row => Some(Slot::Row(row)),
    }
}

#[allow(clippy::cast_possible_truncation)] // the halves
const fn halves(key: RawKey) -> [u64; 2] {
    [(key.0 >> 64) as u64, key.0 as u64]
}

/// Keys that are looked up ahead of their turn, where keys come in no order.
const AHEAD: usize = 64;
/// Keys that are near in any case.
const NEAR: usize = 16_384;
/// What a key out of its turn adds to the disorder, from which one in its turn takes 1; the disorder from which keys are looked
/// up ahead, and no longer looked for in their turn; and the most that there is.
const STRAYS: u8 = 4;
const SCATTERED: u8 = 8;
const MOST_SCATTERED: u8 = 32;

/// A cache of a bounded size. What it forgets is found again by decoding a sample in full, so it belongs to no snapshot and
/// no result depends on it.
///
/// Keys are numbered in the order in which they were met. Producers send the series of one origin in the same order again
/// and again, so the next key is mostly the one after the last, and is found beside it without a search: of a million
/// series, the buckets fit into no cache, and a search is a miss. Where keys come in no order it is the only one, and several
/// keys' wait for memory together.
#[derive(Debug)]
pub(crate) struct RawSlots {
    /// By number: half of a key, and a row or one of the three above. Where keys come in turn, these are all that is read.
    tags: Vec<u64>,
    slots: Vec<u32>,
    /// By number: the other half, and another number of the same row, such as the series written in another way; [`EMPTY`]
    /// where there is none.
    highs: Vec<u64>,
    same: Vec<u32>,
    buckets: Vec<Bucket>,
    /// By row, the number that was given last.
    last: Vec<u32>,
    /// The number to be tried first.
    next: usize,
    /// How much out of order keys came of late.
    disorder: u8,
    most: usize,
}

impl RawSlots {
    /// Room for that many keys: about 60 to 95 bytes each once they are there.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            tags: Vec::new(),
            slots: Vec::new(),
            highs: Vec::new(),
            same: Vec::new(),
            buckets: Vec::new(),
            last: Vec::new(),
            next: 0,
            disorder: 0,
            most: most.clamp(1, EMPTY as usize - 1),
        }
    }

    pub(crate) fn clear(&mut self) {
        self.tags.clear();
        self.slots.clear();
        self.highs.clear();
        self.same.clear();
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
        while let Some(key) = self.key(at as usize) {
            if let Some(slot) = self.slots.get_mut(at as usize) {
                *slot = GONE;
            }
            self.say(key, GONE);
            let same = self.same.get_mut(at as usize);
            at = same.map_or(EMPTY, |same| std::mem::replace(same, EMPTY));
        }
    }

    fn key(&self, at: usize) -> Option<[u64; 2]> {
        Some([*self.highs.get(at)?, *self.tags.get(at)?])
    }

    /// Notes that a number is its row's.
    #[allow(clippy::cast_possible_truncation)] // below the bound, which is below 2^32
    fn link(&mut self, at: usize) {
        let Some(row) = self.slots.get(at).filter(|slot| **slot < GONE).map(|row| *row as usize) else {
            return;
        };
        while self.last.len() <= row {
            push(&mut self.last, EMPTY);
        }
        if let (Some(last), Some(same)) = (self.last.get_mut(row), self.same.get_mut(at)) {
            *same = std::mem::replace(last, at as u32);
        }
    }

    #[inline]
    pub(crate) fn get(&mut self, key: RawKey) -> Option<Slot> {
        let key = halves(key);
        if self.disorder < SCATTERED
            && self.tags.get(self.next) == Some(&key[1])
            && let Some(slot) = self.slots.get(self.next)
        {
            self.next += 1;
            self.disorder = self.disorder.saturating_sub(1);
            return slot_of(*slot);
        }
        let way = self.search(key)?;
        self.found(way);
        slot_of(way.slot)
    }

    /// Goes on from a key that was searched for.
    #[inline]
    fn found(&mut self, way: Way) {
        let at = way.at as usize;
        self.disorder = if at == self.next {
            self.disorder.saturating_sub(1)
        } else {
            (self.disorder + STRAYS).min(MOST_SCATTERED)
        };
        self.next = at + 1;
    }

    /// Appends the rows of keys up to the first that is not known or has no row, and tells how many these are.
    pub(crate) fn rows(&mut self, keys: &[RawKey], rows: &mut Vec<u32>) -> usize {
        let (mut done, mut looked_to) = (0, 0);
        loop {
            if self.disorder < SCATTERED {
                done += self.in_turn(keys.get(done..).unwrap_or_default(), rows);
            } else if done >= looked_to && self.tags.len() > NEAR {
                looked_to = keys.len().min(done + AHEAD);
                self.look_ahead(keys.get(done..looked_to).unwrap_or_default());
            }
            let Some(key) = keys.get(done) else { return done };
            let Some(way) = self.search(halves(*key)).filter(|way| way.slot < GONE) else {
                return done;
            };
            rows.push(way.slot);
            self.found(way);
            done += 1;
        }
    }

    /// The same for keys as long as each is the one after the last.
    #[inline]
    fn in_turn(&mut self, keys: &[RawKey], rows: &mut Vec<u32>) -> usize {
        let mut done = 0;
        let tags = self.tags.get(self.next..).unwrap_or_default();
        let slots = self.slots.get(self.next..).unwrap_or_default();
        for ((tag, slot), key) in tags.iter().zip(slots).zip(keys) {
            if *tag != halves(*key)[1] || *slot >= GONE {
                break;
            }
            rows.push(*slot);
            done += 1;
        }
        self.next += done;
        self.disorder = self.disorder.saturating_sub(u8::try_from(done).unwrap_or(u8::MAX));
        done
    }

    /// Touches the buckets of keys, none of which waits for another.
    fn look_ahead(&self, keys: &[RawKey]) {
        let touched = |sum: u32, key: &RawKey| {
            let bucket = self.buckets.get(self.home(halves(*key)));
            sum ^ bucket.map_or(0, |Bucket([first, ..])| first.at)
        };
        std::hint::black_box(keys.iter().fold(0, touched));
    }

    /// What is known of a key.
    #[inline]
    fn search(&self, key: [u64; 2]) -> Option<Way> {
        let (place, way) = self.find(key);
        let way = *self.buckets.get(place)?.0.get(way)?;
        (way.at != EMPTY).then_some(way)
    }

    /// Where a key is, or where it would be put. Buckets are never all full, and what is in one stays there.
    #[inline]
    fn find(&self, key: [u64; 2]) -> (usize, usize) {
        let mask = self.buckets.len().wrapping_sub(1);
        let mut place = self.home(key);
        while let Some(bucket) = self.buckets.get(place) {
            let is_it = |way: &Way| way.tag == key[1] && way.at != EMPTY;
            let way = bucket.0.iter().position(|way| way.at == EMPTY || is_it(way));
            if let Some(way) = way {
                return (place, way);
            }
            place = (place + 1) & mask;
        }
        (usize::MAX, 0)
    }

    /// The bucket that a key is looked for first.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // some bits of the half that is no tag
    fn home(&self, [high, _]: [u64; 2]) -> usize {
        high as usize & self.buckets.len().wrapping_sub(1)
    }

    /// Notes in a key's bucket what becomes of its samples.
    fn say(&mut self, key: [u64; 2], slot: u32) {
        let (place, way) = self.find(key);
        if let Some(bucket) = self.buckets.get_mut(place)
            && let Some(way) = bucket.0.get_mut(way).filter(|way| way.at != EMPTY)
        {
            way.slot = slot;
        }
    }

    /// Remembers a slot. At the bound everything is forgotten, to be met anew.
    pub(crate) fn put(&mut self, key: RawKey, slot: Slot) {
        let (key, slot) = (halves(key), written(slot));
        if let Some(way) = self.search(key) {
            let at = way.at as usize;
            if way.slot != slot
                && let Some(known) = self.slots.get_mut(at)
            {
                *known = slot;
                self.say(key, slot);
                self.link(at);
            }
            return;
        }
        if self.tags.len() >= self.most {
            self.clear();
        }
        let at = self.tags.len();
        self.next = at + 1;
        push(&mut self.highs, key[0]);
        push(&mut self.tags, key[1]);
        push(&mut self.slots, slot);
        push(&mut self.same, EMPTY);
        self.link(at);
        if self.tags.len() > self.buckets.len() * FULL {
            self.rebuild();
        } else {
            self.enter(at);
        }
    }

    /// Puts a key's number into its bucket, or the next that is not full.
    fn enter(&mut self, at: usize) {
        let (Some(key), Some(slot)) = (self.key(at), self.slots.get(at).copied()) else {
            return;
        };
        let (place, way) = self.find(key);
        if let Some(bucket) = self.buckets.get_mut(place)
            && let Some(way) = bucket.0.get_mut(way)
        {
            #[allow(clippy::cast_possible_truncation)] // below the bound, which is below 2^32
            let number = at as u32;
            *way = Way {
                tag: key[1],
                slot,
                at: number,
            };
        }
    }

    /// Doubles the buckets.
    #[cold]
    fn rebuild(&mut self) {
        let buckets = (self.buckets.len() * 2).max(FIRST_BUCKETS);
        self.buckets.clear();
        self.buckets.resize(buckets, NOTHING);
        for at in 0..self.tags.len() {
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
    fn keys_that_share_a_bucket_or_a_tag_are_told_apart() {
        let mut slots = RawSlots::new(1_000);
        // far more than fit into the bucket, and others in buckets behind those
        let of_one_bucket = |n: u32| (RawKey(7 << 64 | u128::from(100 + n)), Slot::Row(n));
        let of_one_tag = |n: u32| (RawKey(u128::from(20 + n) << 64 | 5), Slot::Row(50 + n));
        let all = || (0..40).map(of_one_bucket).chain((0..40).map(of_one_tag));
        all().for_each(|(key, slot)| slots.put(key, slot));
        for (key, slot) in all().collect::<Vec<_>>().into_iter().rev() {
            assert_eq!(slots.get(key), Some(slot));
        }
        for (key, _) in [of_one_bucket(41), of_one_tag(41)] {
            assert_eq!(slots.get(key), None);
        }
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
                assert!(slots.tags.len() <= 4_096 && slots.buckets.len() <= 4_096);
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
    fn all_that_fit_are_found_in_any_order() {
        let mut slots = RawSlots::new(100_000);
        for n in 0..100_000_u32 {
            slots.put(key(u64::from(n)), Slot::Row(n));
        }
        let backwards = (0..100_000_u32).rev();
        let found = backwards.filter(|n| slots.get(key(u64::from(*n))) == Some(Slot::Row(*n)));
        assert_eq!(found.count(), 100_000);
    }
}
