//! Time, as the runtime gets it.

use std::{
    fmt,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use suture_event::Timestamp;

/// Where the runtime takes its time from. A demo or a simulation brings its own.
pub trait Clock: Send + Sync {
    /// Time since some fixed point; never goes back. What intervals are measured by.
    fn now(&self) -> Duration;

    /// The wall clock, which ticks carry. It may go back.
    fn wall(&self) -> Timestamp;

    /// Waits, where a broker is to be asked again after a while.
    fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// The system's clocks.
#[derive(Debug, Clone)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn wall(&self) -> Timestamp {
        let millis = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis());
        Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
    }
}

impl fmt::Debug for dyn Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// A span as the standard library has it; nothing where it is negative.
pub(crate) fn duration(span: suture_event::Span) -> Duration {
    Duration::from_millis(u64::try_from(span.as_millis()).unwrap_or(0))
}
