//! A bound on the share of alarms that are false, over however many series and windows: online control of the false
//! discovery rate.
//!
//! ADDIS (J. Tian, A. Ramdas, "ADDIS: an adaptive discarding algorithm for online FDR control with conservative nulls",
//! NeurIPS 2019). Every window of every series is a test. Those with a probability above [`DISCARD`] are discarded, which
//! costs nothing; of the rest each one that is above [`CANDIDATE`] takes a little from what later tests may use, and each
//! alarm gives `rate` back. So where something is wrong in many places at once the alarms that follow come more easily, and
//! where nothing is they come ever harder. That every window counts only where it is discarded by no rule is what makes it
//! usable here: procedures that spend on each test (LORD++, e-LOND) have nothing left after a day of a thousand series.
//!
//! Alarms are remembered up to [`MOST`]; what an older one would still give is forgone, which only lowers the level.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Checker, Error, Problem};

/// Tests with a probability above this are discarded.
const DISCARD: f64 = 0.01;
/// Tests with a probability of at most this cost nothing until they turn out to be alarms or not.
const CANDIDATE: f64 = 0.0025;
/// Alarms remembered.
const MOST: usize = 1_000;
/// The power by which what a test may use falls off with the tests before it, and the inverse of the sum of all.
const POWER: f64 = 1.6;
const SHARE: f64 = 0.437_446;

/// At most this share of alarms is false, in the mean.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiscoveryOptions {
    /// The share, such as 0.1: of ten alarms one may be false.
    pub rate: f64,
}

impl DiscoveryOptions {
    /// Everything that is wrong with the values, beyond their types.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        let mut check = Checker::default();
        check.that(
            self.rate > 0.0 && self.rate < 1.0,
            "rate",
            format!("{} is no share of alarms that may be false", self.rate),
            "write a number between 0 and 1, such as 0.1",
        );
        check.found()
    }
}

/// An alarm: how many tests had been kept by then, and how many of these were candidates, itself included.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Alarm {
    kept: u64,
    candidates: u64,
}

/// The account of one set of series.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Discoveries {
    rate: f64,
    kept: u64,
    candidates: u64,
    /// Alarms ever raised.
    raised: u64,
    alarms: Vec<Alarm>,
    level: f64,
}

fn share(place: u64) -> f64 {
    #[allow(clippy::cast_precision_loss)] // a count of tests
    let place = place as f64 + 1.0;
    SHARE * place.powf(-POWER)
}

impl Discoveries {
    pub(crate) fn new(options: DiscoveryOptions) -> Self {
        let mut new = Self {
            rate: options.rate,
            kept: 0,
            candidates: 0,
            raised: 0,
            alarms: Vec::new(),
            level: 0.0,
        };
        new.look();
        new
    }

    /// A test is an alarm where its probability is below this.
    pub(crate) fn level(&self) -> f64 {
        self.level
    }

    /// Takes in a test; whether it is an alarm.
    pub(crate) fn test(&mut self, probability: f64) -> bool {
        if probability > DISCARD || probability.is_nan() {
            return false;
        }
        let alarm = probability < self.level;
        self.kept += 1;
        self.candidates += u64::from(probability <= CANDIDATE);
        if alarm {
            self.raised += 1;
            if self.alarms.len() == MOST {
                // the first one is worth less than the others, and is kept apart by its place
                self.alarms.remove(1);
            }
            self.alarms.push(Alarm {
                kept: self.kept,
                candidates: self.candidates,
            });
        }
        self.look();
        alarm
    }

    fn look(&mut self) {
        let first = 0.5 * self.rate;
        let mut sum = first * share(self.kept - self.candidates);
        for (j, alarm) in self.alarms.iter().enumerate() {
            let place = (self.kept - alarm.kept) - (self.candidates - alarm.candidates);
            let worth = if j == 0 { self.rate - first } else { self.rate };
            sum += worth * share(place);
        }
        self.level = ((DISCARD - CANDIDATE) * sum).min(CANDIDATE);
    }

    /// As text, for a snapshot.
    pub(crate) fn save(&self) -> String {
        let mut text = format!("addis {} {} {}", self.kept, self.candidates, self.raised);
        for alarm in &self.alarms {
            text.push_str(&format!(" {} {}", alarm.kept, alarm.candidates));
        }
        text
    }

    pub(crate) fn load(options: DiscoveryOptions, text: &str) -> Result<Self, Error> {
        let wrong = || Error::Snapshot("its account of discoveries cannot be read".into());
        let rest = text.strip_prefix("addis ").ok_or_else(wrong)?;
        let numbers: Result<Vec<u64>, _> = rest.split(' ').map(str::parse).collect();
        let numbers = numbers.map_err(|_| wrong())?;
        let [kept, candidates, raised, alarms @ ..] = numbers.as_slice() else {
            return Err(wrong());
        };
        let mut loaded = Self::new(options);
        (loaded.kept, loaded.candidates, loaded.raised) = (*kept, *candidates, *raised);
        let pairs = alarms
            .chunks_exact(2)
            .filter(|pair| pair[0] <= *kept && pair[1] <= *candidates);
        loaded.alarms = pairs
            .take(MOST)
            .map(|pair| Alarm {
                kept: pair[0],
                candidates: pair[1],
            })
            .collect();
        if candidates > kept {
            return Err(wrong());
        }
        loaded.look();
        Ok(loaded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::Random;

    /// Means over runs of the share of false alarms and of the share of true ones found, of `tests` a run.
    fn run(rate: f64, runs: u64, tests: usize, wrong: f64, conservative: bool) -> (f64, f64) {
        let (mut false_share, mut found) = (0.0, 0.0);
        for seed in 0..runs {
            let mut random = Random::new(seed + 1);
            let mut account = Discoveries::new(DiscoveryOptions { rate });
            let (mut falsely, mut truly, mut all) = (0.0, 0.0, 0.0);
            for _ in 0..tests {
                let is_wrong = random.unit() < wrong;
                let uniform = random.unit();
                let p = match (is_wrong, conservative) {
                    (true, _) => uniform * 1e-9,
                    (false, true) => uniform.sqrt(),
                    (false, false) => uniform,
                };
                let alarm = account.test(p);
                all += f64::from(u8::from(is_wrong));
                truly += f64::from(u8::from(alarm && is_wrong));
                falsely += f64::from(u8::from(alarm && !is_wrong));
            }
            false_share += falsely / f64::max(1.0, falsely + truly);
            found += truly / f64::max(1.0, all);
        }
        (false_share / runs as f64, found / runs as f64)
    }

    #[test]
    fn no_more_alarms_are_false_than_was_asked() {
        for rate in [0.05, 0.2] {
            // nothing wrong, something now and then, and much
            for wrong in [0.0, 1e-4, 1e-2] {
                for conservative in [false, true] {
                    let runs = 300;
                    let (falsely, found) = run(rate, runs, 20_000, wrong, conservative);
                    // three standard errors of a share no more varied than one coin a run
                    let chance = 3.0 * (rate * (1.0 - rate) / runs as f64).sqrt();
                    assert!(falsely <= rate + chance, "{rate} {wrong} {conservative}: {falsely}");
                    assert!(wrong == 0.0 || found > 0.5, "{rate} {wrong} {conservative}: {found}");
                }
            }
        }
    }

    #[test]
    fn levels_rise_with_alarms_and_fall_with_what_turns_out_to_be_none() {
        let mut account = Discoveries::new(DiscoveryOptions { rate: 0.1 });
        let first = account.level();
        assert!(
            !account.test(0.5) && account.level() == first,
            "what is discarded costs nothing"
        );
        assert!(!account.test(0.009) && account.level() < first);
        let low = account.level();
        assert!(account.test(1e-12) && account.level() > low);
        for _ in 0..5_000 {
            account.test(1e-12);
        }
        assert!(account.alarms.len() == MOST && account.level() <= CANDIDATE && account.raised == 5_001);
        let again = Discoveries::load(DiscoveryOptions { rate: 0.1 }, &account.save()).unwrap();
        assert_eq!(again, account);
        assert!(Discoveries::load(DiscoveryOptions { rate: 0.1 }, "nonsense").is_err());
        assert!(!account.test(f64::NAN));
    }
}
