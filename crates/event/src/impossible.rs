//! What the program's own logic rules out: where it comes about all the same, that is a bug, and a process that is trusted at
//! night must not stop over it, nor go on without a word.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Decides nothing: it is counted for whoever watches the process.
static SEEN: AtomicU64 = AtomicU64::new(0);

/// Notes that something has come about which cannot: with debug assertions it panics, without it is counted, and the caller goes
/// on as harmlessly as it can.
///
/// # Panics
/// Under debug assertions, as in tests.
#[cold]
#[track_caller]
pub fn impossible(what: &str) {
    debug_assert!(false, "impossible: {what}");
    SEEN.fetch_add(1, Relaxed);
}

/// How much that cannot be has come about in this process.
#[must_use]
pub fn impossibilities() -> u64 {
    SEEN.load(Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(debug_assertions, should_panic(expected = "impossible: a square circle"))]
    fn it_stops_a_test_and_is_counted_in_a_program() {
        let before = impossibilities();
        impossible("a square circle");
        assert_eq!(impossibilities(), before + 1);
    }
}
