use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::wrong;
use crate::Error;

/// A Kolmogorov-Smirnov test, at every sample, of the newest `recent` samples against all of those before in a sliding
/// window. After an alarm only the newest are kept.
///
/// The paper tests against as many of the older samples, drawn at random, as there are newest. Against all of them there is
/// no chance in the answer, and less noise. `alpha` is the nominal chance of a false alarm at each sample, by the threshold
/// `sqrt(-ln(alpha) (n + m) / (2 n m))` for n newest and m older samples, the paper's where they are as many; as windows
/// overlap, measure the run length that it comes to: 0.005 with 30 of 100 gives some 870 samples, and delays 4 to 11 times
/// the optimum. It sees any change of distribution, small ones of the level late.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kswin {
    window: VecDeque<f64>,
    size: usize,
    recent: usize,
    threshold: f64,
    /// The newest samples and those before, each in ascending order; empty until the window is full.
    newest: Vec<f64>,
    older: Vec<f64>,
    /// For each of the newest, in their order: how many of the older ones are below it, and how many are not above it.
    below: Vec<u32>,
    upto: Vec<u32>,
}

impl Kswin {
    /// A window of `size` samples of which the newest `recent` are tested.
    ///
    /// # Errors
    /// [`Error::Options`] where `alpha` is no probability, or `recent` is not within 5 and half of `size`.
    pub fn new(alpha: f64, size: usize, recent: usize) -> Result<Self, Error> {
        if !(alpha > 0.0 && alpha < 1.0) {
            return Err(wrong(
                "alpha",
                format!("{alpha} is no probability"),
                "write one such as 0.0001",
            ));
        }
        if recent < 5 || recent > size / 2 || size > 1 << 20 {
            let help = "write at least 5 recent samples and a window of twice as many to a million";
            return Err(wrong("recent", format!("{recent} of {size} samples"), help));
        }
        let older = size - recent;
        Ok(Self {
            window: VecDeque::with_capacity(size + 1),
            size,
            recent,
            threshold: (-alpha.ln() * size as f64 / (2 * recent * older) as f64).sqrt(),
            newest: Vec::with_capacity(recent + 1),
            older: Vec::with_capacity(older + 1),
            below: Vec::with_capacity(recent + 1),
            upto: Vec::with_capacity(recent + 1),
        })
    }

    /// Takes one sample in, and tells by how much the distributions differ where that is more than chance. NaN is
    /// passed over.
    pub fn update(&mut self, value: f64) -> Option<f64> {
        if value.is_nan() {
            return None;
        }
        self.window.push_back(value);
        if self.window.len() < self.size {
            return None;
        }
        if self.newest.is_empty() {
            let older = self.size - self.recent;
            self.older.extend(self.window.range(..older));
            self.older.sort_unstable_by(f64::total_cmp);
            for i in older..self.size {
                self.enter(self.window[i]);
            }
        } else {
            self.slide(value);
        }
        let gap = self.gap();
        if gap <= self.threshold {
            return None;
        }
        self.window.drain(..self.size - self.recent);
        self.newest.clear();
        self.older.clear();
        self.below.clear();
        self.upto.clear();
        Some(gap)
    }

    /// Lets the window slide by one: a sample leaves it, one of the newest is now an older one, and `value` is new.
    fn slide(&mut self, value: f64) {
        let Some(left) = self.window.pop_front() else { return };
        let aged = self.window[self.size - self.recent - 1];
        // ranks change by one between the sample that left and the one that came
        let (low, high) = if aged < left { (aged, left) } else { (left, aged) };
        let step = if aged < left { 1 } else { 1_u32.wrapping_neg() };
        let ((from, after_low), (to, after_high)) = (place(&self.newest, low), place(&self.newest, high));
        self.below[after_low..after_high]
            .iter_mut()
            .for_each(|n| *n = n.wrapping_add(step));
        self.upto[from..to].iter_mut().for_each(|n| *n = n.wrapping_add(step));
        let (out, _) = place(&self.older, left);
        self.older.remove(out);
        let (into, _) = place(&self.older, aged);
        self.older.insert(into, aged);
        let at = if aged < left { from } else { to };
        self.newest.remove(at);
        self.below.remove(at);
        self.upto.remove(at);
        self.enter(value);
    }

    /// Puts one of the newest samples in its place, ranked among the older ones.
    fn enter(&mut self, value: f64) {
        // the size was bounded where it was set
        let rank = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let (at, _) = place(&self.newest, value);
        let (below, upto) = place(&self.older, value);
        self.newest.insert(at, value);
        self.below.insert(at, rank(below));
        self.upto.insert(at, rank(upto));
    }

    /// The largest gap between the two distribution functions: just before one of the newest samples, or at it.
    fn gap(&self) -> f64 {
        let (of_newest, of_older) = (1.0 / self.recent as f64, 1.0 / (self.size - self.recent) as f64);
        let gaps = self
            .below
            .iter()
            .zip(&self.upto)
            .zip(0_u32..)
            .map(|((below, upto), at)| {
                let before = f64::from(*below) * of_older - f64::from(at) * of_newest;
                let after = f64::from(at + 1) * of_newest - f64::from(*upto) * of_older;
                before.max(after)
            });
        gaps.fold(0.0, f64::max)
    }
}

/// How many of some sorted samples are below a value, and how many are not above it.
fn place(sorted: &[f64], value: f64) -> (usize, usize) {
    let below = sorted.partition_point(|v| *v < value);
    // those that are the same follow
    let same = sorted[below..].iter().take_while(|v| **v <= value).count();
    (below, below + same)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::random::Random;

    #[test]
    fn another_shape_at_the_same_mean_is_seen() {
        let mut random = Random::new(2);
        let mut kswin = Kswin::new(1e-5, 200, 60).unwrap();
        assert!((0..1000).all(|_| kswin.update(random.normal()).is_none()));
        let two_humps = |random: &mut Random| if random.unit() < 0.5 { 4.0 } else { -4.0 };
        let after = (1..).find(|_| kswin.update(two_humps(&mut random)).is_some()).unwrap();
        assert!(after < 80, "{after}");
        assert_eq!(kswin.update(f64::NAN), None);
        assert!(Kswin::new(0.5, 10, 9).is_err() && Kswin::new(2.0, 100, 30).is_err());
    }

    #[test]
    fn ranks_that_are_kept_up_to_date_are_those_that_sorting_gives() {
        let mut random = Random::new(3);
        for (size, recent) in [(40, 12), (400, 10)] {
            let mut kswin = Kswin::new(1e-12, size, recent).unwrap();
            for i in 0..1_000 {
                // with many values that are the same
                let value = (4.0 * random.unit()).floor();
                assert_eq!(kswin.update(value), None, "at {i}");
                if kswin.newest.is_empty() {
                    continue;
                }
                let older: Vec<f64> = kswin.window.range(..size - recent).copied().collect();
                let mut newest: Vec<f64> = kswin.window.range(size - recent..).copied().collect();
                newest.sort_by(f64::total_cmp);
                assert_eq!(kswin.newest, newest, "at {i}");
                for (at, value) in newest.iter().enumerate() {
                    let below = older.iter().filter(|o| *o < value).count();
                    let upto = older.iter().filter(|o| *o <= value).count();
                    assert_eq!((kswin.below[at] as usize, kswin.upto[at] as usize), (below, upto));
                }
            }
        }
    }
}
