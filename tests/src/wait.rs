//! Waiting until something is so, with a bound on how long.

use std::{
    sync::{Condvar, Mutex},
    time::{Duration, Instant},
};

/// One short pause between two looks.
pub fn tick() {
    pause(Duration::from_millis(20));
}

/// Waits for that long: a condition that nobody signals.
pub fn pause(time: Duration) {
    let never = Mutex::new(());
    let guard = never.lock().expect("nobody else has it");
    let _ = Condvar::new().wait_timeout_while(guard, time, |()| true);
}

/// Looks until `found` gives something.
///
/// # Panics
/// Where nothing is found in time, with what was waited for.
pub fn until<T>(what: &str, within: Duration, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {within:?} in vain for {what}");
        tick();
    }
}
