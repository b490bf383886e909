//! The drift tests of [`crate::drift`] as detectors of a bank: on whitened residuals, each with the run length that the
//! alarm level asks for.
//!
//! A series' residuals, its season taken out, are made into independent standard normal numbers by [`Baseline`], which
//! learns level, spread, autocorrelation and tails. The mean number of windows between false alarms is one over the
//! probability that the alarm level leaves to each detector. After an alarm the test begins anew and the new state is learned
//! as normal, so that a drift is told once.

use serde::{Deserialize, Serialize};
use suture_event::Direction;

use super::boxed::{Found, Model};
use crate::{
    DetectorName, Error,
    drift::{Adwin, Baseline, BaselineOptions, Cusum, Kswin, MixtureCusum, PageHinkley, Sides},
    words::number,
};

/// What is tolerated of a shift by Page and Hinkley's test, in standard deviations.
const TOLERANCE: f64 = 0.5;
/// The shift that the plain CUSUM is tuned to.
const SHIFT: f64 = 1.0;
/// Largest score, which makes the range of ADWIN's input 1.
const RANGE: f64 = 10.0;

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Test {
    Mixture(MixtureCusum),
    Cusum(Cusum),
    PageHinkley(PageHinkley),
    Adwin(Adwin),
    Kswin(Kswin),
}

/// One series' drift test.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Drifts {
    baseline: Baseline,
    test: Test,
    /// The probability that an alarm is worth.
    level: f64,
    /// Whether a drift was found and what follows is learned as normal, and for how long it had been adding up.
    relearns: bool,
    samples: u32,
}

/// The threshold of a two-sided CUSUM with this reference value, by D. Siegmund's approximation of the run length
/// ("Sequential analysis", 1985).
fn threshold(reference: f64, arl: f64) -> f64 {
    let one_sided = 2.0 * arl;
    let (mut low, mut high) = (0.0, 200.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        let b = 2.0 * reference * (middle + 1.166);
        let run = (b.exp() - b - 1.0) / (2.0 * reference * reference);
        if run < one_sided { low = middle } else { high = middle }
    }
    high
}

impl Drifts {
    /// As every series begins. `level` is the share of windows that may be false alarms.
    pub(crate) fn new(name: DetectorName, level: f64, warm_up: u32) -> Result<Self, Error> {
        let arl = (1.0 / level).clamp(100.0, 1e9);
        let level = 1.0 / arl;
        let test = match name {
            DetectorName::DriftCusum => Test::Cusum(Cusum::tuned(SHIFT, arl, Sides::Both)?),
            DetectorName::DriftPageHinkley => {
                let threshold = threshold(TOLERANCE, arl);
                Test::PageHinkley(PageHinkley::new(TOLERANCE, threshold, 30, Sides::Both))
            }
            DetectorName::DriftAdwin => Test::Adwin(Adwin::new(level)?),
            DetectorName::DriftKswin => Test::Kswin(Kswin::new(level, 100, 30)?),
            _ => Test::Mixture(MixtureCusum::new(arl, Sides::Both)?),
        };
        let baseline = Baseline::learned(&BaselineOptions {
            warm_up: warm_up.clamp(30, 100_000).max(200),
            ..BaselineOptions::default()
        });
        Ok(Self {
            baseline,
            test,
            level,
            relearns: false,
            samples: 0,
        })
    }
}

impl Model for Drifts {
    /// The largest, which is ADWIN's.
    const BYTES: usize = size_of::<Self>() + 3_500;

    #[allow(clippy::cast_possible_truncation)] // single precision is what is said
    fn step(&mut self, value: f64, rests: bool) -> Found {
        // an outage is not learned, but the level after a drift is
        if rests && !self.relearns {
            return Found::NOTHING;
        }
        let Some(z) = self.baseline.score(value) else {
            return Found {
                inside: false,
                ..Found::NOTHING
            };
        };
        self.relearns = false;
        let found = match &mut self.test {
            Test::Mixture(test) => test.update(z).map(|s| (s.direction, s.strength, s.samples)),
            Test::Cusum(test) => test.update(z).map(|s| (s.direction, s.strength, s.samples)),
            Test::PageHinkley(test) => test.update(z).map(|s| (s.direction, s.strength, s.samples)),
            Test::Adwin(test) => test.update(z / RANGE).map(|s| (s.direction, s.strength, s.samples)),
            Test::Kswin(test) => test.update(z).map(|_| (Direction::Up, 1.0, 30)),
        };
        let Some((direction, strength, samples)) = found else {
            return Found {
                distance: 0.0,
                ..Found::NOTHING
            };
        };
        (self.relearns, self.samples) = (true, samples);
        self.baseline.restart();
        let strength = strength.clamp(1.0, 1e6);
        let far = (-(self.level / strength).log10()).max(1.0);
        Found {
            distance: if direction == Direction::Down { -far } else { far } as f32,
            // no more likely than the level
            probability: Some((0.999 * self.level / strength) as f32),
            inside: false,
        }
    }

    fn words(&self, value: f64) -> String {
        let test = match self.test {
            Test::Mixture(_) => "a mixture of CUSUMs",
            Test::Cusum(_) => "a CUSUM",
            Test::PageHinkley(_) => "Page and Hinkley's test",
            Test::Adwin(_) => "ADWIN",
            Test::Kswin(_) => "KSWIN",
        };
        format!(
            "the process has drifted: {test} over whitened residuals passed its bound, of which {} windows pass one by \
             chance, after evidence over {} windows; {} now",
            number((1.0 / self.level).round()),
            self.samples,
            number(value)
        )
    }

    fn accept(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::Random;

    #[test]
    fn thresholds_are_those_that_keep_the_run_length() {
        // tabled for a reference of a half: 4.77 at 930 on one side, which is 465 on both
        assert!((threshold(0.5, 465.0) - 4.95).abs() < 0.1, "{}", threshold(0.5, 465.0));
        assert!(threshold(0.25, 1e5) > threshold(0.25, 1e4));
    }

    #[test]
    fn each_test_finds_a_shift_and_keeps_quiet_without_one() {
        for name in [
            DetectorName::DriftMixture,
            DetectorName::DriftCusum,
            DetectorName::DriftPageHinkley,
            DetectorName::DriftAdwin,
            DetectorName::DriftKswin,
        ] {
            let mut random = Random::new(5);
            let mut model = Drifts::new(name, 1e-5, 60).unwrap();
            let calm = (0..3_000).filter(|_| model.step(50.0 + 3.0 * random.normal(), false).probability.is_some());
            assert_eq!(calm.count(), 0, "{name:?}");
            let after = (0..1_000).find(|_| model.step(56.0 + 3.0 * random.normal(), false).probability.is_some());
            assert!(after.is_some_and(|after| after < 80), "{name:?}: {after:?}");
        }
    }
}
