use serde::{Deserialize, Serialize};
use suture_event::Direction;

use super::{Shift, wrong};
use crate::Error;

/// Buckets of one size before two are merged into the next: the paper's M.
const BUCKETS: usize = 5;
/// Rows of buckets: 2^24 samples are remembered, the oldest dropped beyond.
const ROWS: usize = 22;
/// How often a cut is looked for, in samples, and how many each side of it must have.
const EVERY: u32 = 32;
const LEAST: f64 = 5.0;

/// Adaptive windowing: a window as long as its mean is the same throughout, kept in an exponential histogram.
///
/// A cut is made where two parts' means differ by more than chance allows with probability `delta` in a window, by the
/// paper's bound with variances, which takes samples as independent and their range as 1 (a larger range only makes
/// the bound's last term too small; scale input to about that). After an alarm the older part is forgotten.
///
/// Its delays are 1.6 times the optimum at half a standard deviation and 5 to 10 times at two and three, as it looks for
/// a cut at every 32nd sample only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Adwin {
    delta: f64,
    /// Row `i` has buckets of `2^i` samples, the newest last.
    rows: Vec<Vec<Bucket>>,
    total: Bucket,
    until: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Bucket {
    count: f64,
    sum: f64,
    /// Sum of squares about the bucket's mean.
    squares: f64,
}

impl Bucket {
    fn mean(self) -> f64 {
        self.sum / self.count
    }

    fn joined(self, other: Self) -> Self {
        if self.count == 0.0 {
            return other;
        }
        let count = self.count + other.count;
        let apart = self.mean() - other.mean();
        Self {
            count,
            sum: self.sum + other.sum,
            squares: self.squares + other.squares + apart * apart * self.count * other.count / count,
        }
    }

    fn without(self, part: Self) -> Self {
        let count = self.count - part.count;
        if count <= 0.0 {
            return Self::default();
        }
        let rest = Self {
            count,
            sum: self.sum - part.sum,
            squares: 0.0,
        };
        let apart = rest.mean() - part.mean();
        let squares = self.squares - part.squares - apart * apart * count * part.count / self.count;
        Self {
            squares: squares.max(0.0),
            ..rest
        }
    }
}

impl Adwin {
    /// With the confidence that a cut is chance.
    ///
    /// # Errors
    /// [`Error::Options`] where `delta` is not between 0 and 1.
    pub fn new(delta: f64) -> Result<Self, Error> {
        if !(delta > 0.0 && delta < 1.0) {
            return Err(wrong(
                "delta",
                format!("{delta} is no probability"),
                "write one such as 0.002",
            ));
        }
        let rows = (0..ROWS).map(|_| Vec::with_capacity(BUCKETS + 1)).collect();
        Ok(Self {
            delta,
            rows,
            total: Bucket::default(),
            until: EVERY,
        })
    }

    /// Samples in the window.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // at most 2^25
    pub fn len(&self) -> u32 {
        self.total.count as u32
    }

    /// Whether the window has no sample.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.total.count == 0.0
    }

    /// Mean of the window.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (!self.is_empty()).then(|| self.total.mean())
    }

    /// Takes one sample in; NaN, infinities and what is beyond 1e150 are passed over.
    pub fn update(&mut self, value: f64) -> Option<Shift> {
        if value.is_nan() || value.abs() > 1e150 {
            return None;
        }
        let mut carried = Bucket {
            count: 1.0,
            sum: value,
            squares: 0.0,
        };
        self.total = self.total.joined(carried);
        for row in &mut self.rows {
            row.push(carried);
            if row.len() <= BUCKETS {
                carried = Bucket::default();
                break;
            }
            carried = row.remove(0).joined(row.remove(0));
        }
        if carried.count > 0.0 {
            self.total = self.total.without(carried);
        }
        self.until -= 1;
        if self.until > 0 {
            return None;
        }
        self.until = EVERY;
        self.cut()
    }

    /// Drops the oldest buckets as long as some cut tells the older part from the newer one.
    fn cut(&mut self) -> Option<Shift> {
        let before = self.total.mean();
        let mut found = None;
        while let Some((strength, newer)) = self.worst_cut() {
            let direction = if newer.mean() >= before {
                Direction::Up
            } else {
                Direction::Down
            };
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // at most 2^25
            let samples = newer.count as u32;
            found = Some(Shift {
                direction,
                strength,
                samples,
            });
            let Some(row) = self.rows.iter_mut().rev().find(|row| !row.is_empty()) else {
                break;
            };
            let oldest = row.remove(0);
            self.total = self.total.without(oldest);
        }
        found
    }

    fn worst_cut(&self) -> Option<(f64, Bucket)> {
        let total = self.total;
        if total.count < 2.0 * LEAST {
            return None;
        }
        let variance = total.squares / total.count;
        let log = (2.0 * total.count.ln() / self.delta).ln();
        let mut older = Bucket::default();
        let mut worst: Option<(f64, Bucket)> = None;
        for &bucket in self.rows.iter().rev().flatten() {
            older = older.joined(bucket);
            let newer = total.without(older);
            if newer.count < LEAST {
                break;
            }
            if older.count < LEAST {
                continue;
            }
            let m = 1.0 / (1.0 / older.count + 1.0 / newer.count);
            let bound = (2.0 / m * variance * log).sqrt() + 2.0 / (3.0 * m) * log;
            let strength = (older.mean() - newer.mean()).abs() / bound;
            if strength > 1.0 && worst.is_none_or(|(least, _)| strength > least) {
                worst = Some((strength, newer));
            }
        }
        worst
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::random::Random;

    #[test]
    fn the_window_shrinks_to_what_came_after_a_change() {
        let mut random = Random::new(1);
        let mut adwin = Adwin::new(0.002).unwrap();
        assert!((0..2000).all(|_| adwin.update(0.2 + 0.1 * random.normal()).is_none()));
        assert_eq!(adwin.len(), 2000);
        let shifts: Vec<Shift> = (0..500)
            .filter_map(|_| adwin.update(0.6 + 0.1 * random.normal()))
            .collect();
        assert!(!shifts.is_empty() && shifts[0].direction == Direction::Up, "{shifts:?}");
        assert!(
            adwin.len() <= 564 && (adwin.mean().unwrap() - 0.6).abs() < 0.05,
            "{adwin:?}"
        );
    }

    #[test]
    fn memory_grows_with_the_logarithm_of_the_window_only() {
        let mut adwin = Adwin::new(0.002).unwrap();
        for n in 0..200_000 {
            assert_eq!(adwin.update(f64::from(n % 7)), None);
        }
        assert!(adwin.rows.iter().map(Vec::len).sum::<usize>() < 90);
        assert_eq!(adwin.len(), 200_000);
        assert!((adwin.mean().unwrap() - 3.0).abs() < 1e-3);
        for value in [f64::NAN, f64::INFINITY, 1e300, 1e149, -1e149] {
            adwin.update(value);
            assert!(adwin.mean().unwrap().is_finite());
        }
        assert!(Adwin::new(0.0).is_err());
    }
}
