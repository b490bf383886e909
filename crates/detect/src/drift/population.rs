use serde::{Deserialize, Serialize};

use super::{distance, wrong};
use crate::Error;

/// A reference of the first samples against each full window of later ones, both binned by the reference's quantiles: a
/// change of distribution of any kind, such as an input that a model was not trained on.
///
/// One chi-square test a window, at the level that gives the run length asked for; windows don't overlap. Samples have to
/// be independent: feed what [`super::Baseline`] gives where they are not. State: the reference's samples until they are
/// binned, then three numbers a bin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Population {
    first: Vec<f64>,
    reference_size: usize,
    window: u32,
    bins: usize,
    alpha: f64,
    /// Upper edges of all bins but the last.
    edges: Vec<f64>,
    reference: Vec<f64>,
    current: Vec<f64>,
    in_window: u32,
}

/// One window against the reference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Population stability index.
    pub stability: f64,
    /// Jensen-Shannon divergence in bits.
    pub divergence: f64,
    /// The chi-square test.
    pub test: distance::Test,
    /// Whether the test says that it has changed.
    pub drifted: bool,
}

impl Population {
    /// `reference` samples to learn from, windows of `window`, at most `bins` bins, `arl` samples between false alarms.
    ///
    /// # Errors
    /// [`Error::Options`] where a window or the reference has fewer than 5 samples a bin, or `arl` is below 10 windows.
    pub fn new(reference: u32, window: u32, bins: u8, arl: f64) -> Result<Self, Error> {
        let least = 5 * u32::from(bins);
        if bins < 2 || reference < least || window < least {
            let help = "write at least 2 bins, and 5 samples a bin for the reference and the window";
            return Err(wrong(
                "bins",
                format!("{bins} for {reference} and {window} samples"),
                help,
            ));
        }
        let alpha = f64::from(window) / arl;
        if !(alpha > 0.0 && alpha <= 0.1) {
            return Err(wrong(
                "arl",
                format!("{arl} is out of range"),
                "write at least ten times the window",
            ));
        }
        Ok(Self {
            first: Vec::with_capacity(reference as usize),
            reference_size: reference as usize,
            window,
            bins: usize::from(bins),
            alpha,
            edges: Vec::new(),
            reference: Vec::new(),
            current: Vec::new(),
            in_window: 0,
        })
    }

    /// Takes one sample in and compares at the end of each window. NaN is passed over.
    pub fn update(&mut self, value: f64) -> Option<Comparison> {
        if value.is_nan() {
            return None;
        }
        if self.reference.is_empty() {
            self.first.push(value);
            if self.first.len() == self.reference_size {
                self.begin();
            }
            return None;
        }
        let bin = self.edges.partition_point(|edge| *edge < value);
        self.current[bin] += 1.0;
        self.in_window += 1;
        if self.in_window < self.window {
            return None;
        }
        let (reference, current) = (&self.reference, &self.current);
        let test = distance::chi_square(reference, current)?;
        let comparison = Comparison {
            stability: distance::population_stability(reference, current)?,
            divergence: distance::jensen_shannon(reference, current)?,
            test,
            drifted: test.p < self.alpha,
        };
        self.current.fill(0.0);
        self.in_window = 0;
        Some(comparison)
    }

    /// Bins the reference by its quantiles; equal ones share a bin.
    fn begin(&mut self) {
        let mut sorted = std::mem::take(&mut self.first);
        sorted.sort_unstable_by(f64::total_cmp);
        self.edges = (1..self.bins)
            .map(|bin| sorted[bin * sorted.len() / self.bins - 1])
            .collect();
        self.edges.dedup();
        self.reference = vec![0.0; self.edges.len() + 1];
        self.current = vec![0.0; self.edges.len() + 1];
        for value in sorted {
            self.reference[self.edges.partition_point(|edge| *edge < value)] += 1.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::random::Random;

    #[test]
    fn a_changed_shape_is_seen_and_chance_is_not_more_often_than_asked() {
        let mut random = Random::new(9);
        let (mut windows, mut alarms) = (0, 0);
        for _ in 0..40 {
            let mut population = Population::new(2000, 200, 10, 4000.0).unwrap();
            for _ in 0..20_000 {
                let Some(comparison) = population.update(random.normal()) else {
                    continue;
                };
                windows += 1;
                alarms += i32::from(comparison.drifted);
            }
            // same mean, other shape
            let found = (0..200)
                .filter_map(|_| population.update(if random.unit() < 0.5 { 1.0 } else { -1.0 }))
                .last();
            assert!(
                found.is_some_and(|c| c.drifted && c.stability > 0.25 && c.divergence > 0.1),
                "{found:?}"
            );
        }
        // one in twenty asked
        let share = f64::from(alarms) / f64::from(windows);
        assert!((0.035..0.065).contains(&share), "{share}");
    }

    #[test]
    fn a_constant_reference_has_one_bin_and_takes_notice_of_other_values() {
        let mut population = Population::new(50, 50, 5, 1e4).unwrap();
        let mut feed = |value: f64| (0..50).filter_map(|_| population.update(value)).last();
        assert_eq!(feed(3.0), None);
        assert!(feed(3.0).is_some_and(|c| !c.drifted));
        assert!(feed(4.0).is_some_and(|c| c.drifted));
        assert!(Population::new(10, 10, 5, 1e4).is_err() && Population::new(100, 100, 5, 10.0).is_err());
    }
}
