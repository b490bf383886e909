//! Time and CPU of a stretch of work, and the table of them.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// What a stretch of work took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figure {
    pub(crate) samples: usize,
    pub(crate) wall: Duration,
    /// CPU time of all of the process's threads.
    pub(crate) cpu: Duration,
}

impl Figure {
    /// Samples a second of CPU.
    #[allow(clippy::cast_precision_loss)] // counts far below 2^52
    fn rate(&self) -> f64 {
        self.samples as f64 / self.cpu.as_secs_f64()
    }
}

/// A running measurement.
pub(crate) struct Meter {
    began: Instant,
    cpu: Duration,
}

impl Meter {
    pub(crate) fn start() -> Self {
        Self {
            began: Instant::now(),
            cpu: cpu(),
        }
    }

    pub(crate) fn stop(&self, samples: usize) -> Figure {
        Figure {
            samples,
            wall: self.began.elapsed(),
            cpu: cpu().saturating_sub(self.cpu),
        }
    }
}

fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// The one in the middle by rate.
pub(crate) fn median(mut figures: Vec<Figure>) -> Figure {
    figures.sort_by(|a, b| a.rate().total_cmp(&b.rate()));
    figures[figures.len() / 2]
}

pub(crate) const HEADER: &str =
    "                                     samples/s   samples/s of CPU   CPU s a million   to the floor";

#[allow(clippy::cast_precision_loss)] // counts far below 2^52
pub(crate) fn row(name: &str, figure: &Figure, floor: &Figure) -> String {
    format!(
        "{name:<36} {:>9.0}   {:>16.0}   {:>15.3}   {:>12.2}",
        figure.samples as f64 / figure.wall.as_secs_f64(),
        figure.rate(),
        1e6 / figure.rate(),
        figure.rate() / floor.rate()
    )
}
