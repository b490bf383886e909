//! Waits between attempts.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

use suture_event::Span;

use crate::clock::duration;

/// Waits that double from the first up to the longest. Each is by chance cut by up to half, so that shards and processes that
/// failed together do not all come back together.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
    chance: RandomState,
    waits: u64,
}

impl Backoff {
    pub(crate) fn new(first: Span, longest: Duration) -> Self {
        let first = duration(first);
        Self {
            first,
            longest,
            next: first,
            chance: RandomState::new(),
            waits: 0,
        }
    }

    /// The wait before the next attempt.
    pub(crate) fn wait(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(self.longest);
        self.waits += 1;
        let mut hasher = self.chance.build_hasher();
        hasher.write_u64(self.waits);
        // sixteen bits of chance are as many as a thundering herd needs
        let cut = (hasher.finish() & 0xFFFF) as u32;
        whole - whole / 2 * cut / 0xFFFF
    }

    /// It has worked: the next error is a new one.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_are_cut_by_up_to_half() {
        let mut backoff = Backoff::new(Span::from_millis(100), Duration::from_secs(1));
        for whole in [100, 200, 400, 800, 1_000, 1_000] {
            let wait = backoff.wait();
            let bounds = Duration::from_millis(whole / 2)..=Duration::from_millis(whole);
            assert!(bounds.contains(&wait), "{wait:?} is not in {bounds:?}");
        }
        backoff.reset();
        assert!(backoff.wait() <= Duration::from_millis(100));
        // of two hundred that begin together, not all go on together
        let first = |_| Backoff::new(Span::from_secs(10), Duration::from_secs(10)).wait();
        let waits: std::collections::BTreeSet<Duration> = (0..200).map(first).collect();
        assert!(waits.len() > 100, "{}", waits.len());
    }
}
