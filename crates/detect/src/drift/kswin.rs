use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{distance::largest_gap, random::Random, wrong};
use crate::Error;

/// A Kolmogorov-Smirnov test, at every sample, of the newest `recent` samples against as many drawn from those before
/// in a sliding window. After an alarm only the newest are kept.
///
/// `alpha` is the nominal chance of a false alarm at each sample, by the paper's threshold `sqrt(-ln(alpha) / recent)`; as
/// windows overlap and draws vary, measure the run length that it comes to: 0.0005 with 30 of 100 gives some 900 samples,
/// and delays 5 to 20 times the optimum. It sees any change of distribution, small ones of the level late.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kswin {
    window: VecDeque<f64>,
    size: usize,
    recent: usize,
    threshold: f64,
    random: Random,
    drawn: Vec<f64>,
    newest: Vec<f64>,
}

impl Kswin {
    /// A window of `size` samples of which the newest `recent` are tested. The same seed draws the same.
    ///
    /// # Errors
    /// [`Error::Options`] where `alpha` is no probability, or `recent` is not within 5 and half of `size`.
    pub fn new(alpha: f64, size: usize, recent: usize, seed: u64) -> Result<Self, Error> {
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
        Ok(Self {
            window: VecDeque::with_capacity(size + 1),
            size,
            recent,
            threshold: (-alpha.ln() / recent as f64).sqrt(),
            random: Random::new(seed),
            drawn: Vec::with_capacity(recent),
            newest: Vec::with_capacity(recent),
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
        if self.window.len() > self.size {
            self.window.pop_front();
        }
        let older = self.size - self.recent;
        self.drawn.clear();
        for _ in 0..self.recent {
            // the size was bounded above
            let at = self.random.below(u32::try_from(older).unwrap_or(u32::MAX));
            self.drawn.push(self.window[at]);
        }
        self.newest.clear();
        self.newest.extend(self.window.iter().skip(older));
        self.drawn.sort_unstable_by(f64::total_cmp);
        self.newest.sort_unstable_by(f64::total_cmp);
        let gap = largest_gap(&self.drawn, &self.newest);
        if gap <= self.threshold {
            return None;
        }
        self.window.drain(..older);
        Some(gap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_shape_at_the_same_mean_is_seen() {
        let mut random = Random::new(2);
        let mut kswin = Kswin::new(1e-5, 200, 60, 42).unwrap();
        assert!((0..1000).all(|_| kswin.update(random.normal()).is_none()));
        let two_humps = |random: &mut Random| if random.unit() < 0.5 { 4.0 } else { -4.0 };
        let after = (1..).find(|_| kswin.update(two_humps(&mut random)).is_some()).unwrap();
        assert!(after < 80, "{after}");
        assert_eq!(kswin.update(f64::NAN), None);
        assert!(Kswin::new(0.5, 10, 9, 0).is_err() && Kswin::new(2.0, 100, 30, 0).is_err());
    }
}
