//! One of many that should be alike, away from the rest.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Measured, member::Level, usable};
use crate::{Checker, Problem};

/// Memory of the siblings' spread, and of where a member stands among them, in windows.
const SPREAD: f64 = 20.0;
const PLACE: f64 = 1_000.0;
/// Median absolute deviation to standard deviation of a normal distribution.
const MAD: f64 = 1.4826;
/// The least spread of siblings, as a share of their median: so alike, members count as the same.
const ALIKE: f64 = 1e-3;
/// Windows after which a member's own place is known.
const KNOWN: u32 = 30;
/// The least spread of a member's own place, in spreads of the siblings.
const STEADY: f64 = 0.05;

/// One instance of a service away from its siblings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PeersOptions {
    /// Labels that tell siblings apart: series with the same metric and the same other labels are siblings. A series that
    /// has none of them has no siblings.
    pub among: Vec<String>,
    /// Siblings with a value without which a window is not judged.
    pub least: u32,
    /// Siblings in one group, at most.
    pub members: u32,
}

impl Default for PeersOptions {
    fn default() -> Self {
        let names = [
            "instance",
            "pod",
            "host",
            "node",
            "container",
            "service.instance.id",
            "k8s.pod.name",
            "host.name",
        ];
        Self {
            among: names.map(str::to_owned).to_vec(),
            least: 5,
            members: 256,
        }
    }
}

impl PeersOptions {
    /// Everything that is wrong with the values, beyond their types.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        let mut check = Checker::default();
        if self.among.is_empty() {
            check.wrong("among", "no label tells siblings apart", "name one, such as instance");
        }
        check.within(
            "least",
            self.least,
            3..=10_000,
            "siblings say nothing about one of them",
        );
        check.within("members", self.members, 3..=10_000, "siblings cannot be kept");
        if self.least > self.members {
            check.wrong(
                "least",
                format!(
                    "{} siblings are asked for where at most {} are kept",
                    self.least, self.members
                ),
                "write at most members",
            );
        }
        check.found()
    }
}

/// Siblings, and where each usually stands among them.
///
/// A window's siblings have a median and a median absolute deviation, followed over some twenty windows; a member's place
/// is its distance from the median in such deviations. What counts is how far a member is from the place it usually has, so
/// that the one on the larger machine is no anomaly. Up to half of the siblings can be wrong before the median is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Peers {
    places: Vec<Level>,
    spread: f64,
    windows: u32,
    /// Median and number of the last window judged.
    #[serde(skip)]
    last: (f64, usize),
    #[serde(skip)]
    sorted: Vec<f64>,
}

impl Peers {
    /// A sibling that comes in before the `at`-th.
    pub fn add(&mut self, at: usize) {
        self.places.insert(at.min(self.places.len()), Level::default());
    }

    /// The `at`-th sibling leaves.
    pub fn remove(&mut self, at: usize) {
        if at < self.places.len() {
            self.places.remove(at);
        }
    }

    /// Judges one window: calls `sink` with each sibling that has a value and whose place is known, after 30 of them. Learns from those that `held` does not name.
    pub fn judge(
        &mut self,
        options: &PeersOptions,
        values: &[f64],
        held: &dyn Fn(usize) -> bool,
        sink: &mut dyn FnMut(usize, Measured),
    ) {
        self.sorted.clear();
        self.sorted
            .extend(values.iter().copied().map(usable).filter(|value| !value.is_nan()));
        let n = self.sorted.len();
        if n < options.least as usize {
            return;
        }
        let median = median(&mut self.sorted);
        for value in &mut self.sorted {
            *value = (*value - median).abs();
        }
        let now = MAD * self::median(&mut self.sorted);
        self.spread += (now - self.spread) / (f64::from(self.windows) + 1.0).min(SPREAD);
        self.windows = self.windows.saturating_add(1);
        self.last = (median, n);
        let spread = self.spread.max(ALIKE * median.abs()).max(f64::MIN_POSITIVE);
        for (at, (value, place)) in values.iter().zip(&mut self.places).enumerate() {
            let value = usable(*value);
            if value.is_nan() {
                continue;
            }
            let stands = ((value - median) / spread).clamp(-1e6, 1e6);
            let known = place.count >= KNOWN;
            let measured = Measured {
                value,
                expected: median + place.mean * spread,
                scale: place.spread.max(STEADY) * spread,
                distance: place.distance(stands, STEADY),
            };
            if !held(at) {
                place.learn(stands, PLACE);
            }
            if known {
                sink(at, measured);
            }
        }
    }

    /// The `at`-th sibling's usual place is where it is from now on.
    pub fn accept(&mut self, at: usize) {
        if let Some(place) = self.places.get_mut(at) {
            *place = Level::default();
        }
    }

    /// The median of the last window judged, and how many siblings had a value.
    #[must_use]
    pub fn median(&self) -> (f64, usize) {
        self.last
    }

    /// Bytes of state a sibling.
    pub const BYTES: usize = size_of::<Level>();
}

/// The median of some numbers, which are then in another order.
fn median(values: &mut [f64]) -> f64 {
    let n = values.len();
    let (below, middle, _) = values.select_nth_unstable_by(n / 2, f64::total_cmp);
    let middle = *middle;
    if n % 2 == 1 {
        return middle;
    }
    let lower = below.iter().copied().fold(f64::MIN, f64::max);
    0.5 * lower + 0.5 * middle
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(peers: &mut Peers, values: &[f64]) -> Vec<f64> {
        let mut distances = vec![f64::NAN; values.len()];
        let options = PeersOptions::default();
        peers.judge(&options, values, &|_| false, &mut |at, measured| {
            distances[at] = measured.distance
        });
        distances
    }

    fn siblings(n: usize) -> Peers {
        let mut peers = Peers::default();
        (0..n).for_each(|at| peers.add(at));
        peers
    }

    #[test]
    fn the_one_that_leaves_its_place_is_far_and_the_one_that_was_always_off_is_not() {
        let mut peers = siblings(7);
        // the last is on a larger machine
        let usual = |minute: usize, at: usize| {
            let load = 100.0 + 30.0 * (minute as f64 / 50.0).sin();
            let own = ((minute * 7 + at * 13) % 11) as f64;
            load + own + if at == 6 { 80.0 } else { 0.0 }
        };
        for minute in 0..500 {
            let values: Vec<f64> = (0..7).map(|at| usual(minute, at)).collect();
            judged(&mut peers, &values);
        }
        let mut values: Vec<f64> = (0..7).map(|at| usual(500, at)).collect();
        assert!(judged(&mut peers, &values).iter().all(|d| d.abs() < 4.0));
        values[2] += 60.0;
        let distances = judged(&mut peers, &values);
        assert!(distances[2] > 8.0, "{distances:?}");
        assert!(
            distances.iter().enumerate().all(|(at, d)| at == 2 || d.abs() < 4.0),
            "{distances:?}"
        );
    }

    #[test]
    fn too_few_siblings_are_not_judged_and_the_same_is_not_apart() {
        let mut peers = siblings(6);
        assert!(
            judged(&mut peers, &[1.0, 2.0, 3.0, 4.0, f64::NAN, f64::INFINITY])
                .iter()
                .all(|d| d.is_nan())
        );
        (0..30).for_each(|_| drop(judged(&mut peers, &[5.0; 6])));
        for _ in 0..50 {
            let distances = judged(&mut peers, &[5.0; 6]);
            assert!(distances.iter().all(|d| *d == 0.0), "{distances:?}");
        }
        let distances = judged(&mut peers, &[5.0, 5.0, 5.0, 5.0, 5.0, 6.0]);
        assert!(distances[5] > 100.0, "{distances:?}");
    }

    #[test]
    fn the_order_of_siblings_does_not_show() {
        let (mut a, mut b) = (siblings(6), siblings(6));
        for minute in 0..200_usize {
            let values: Vec<f64> = (0..6).map(|at| ((minute * 31 + at * 17) % 23) as f64).collect();
            let turned: Vec<f64> = values.iter().rev().copied().collect();
            let mut other = judged(&mut b, &turned);
            other.reverse();
            let bits = |distances: Vec<f64>| distances.into_iter().map(f64::to_bits).collect::<Vec<_>>();
            assert_eq!(bits(judged(&mut a, &values)), bits(other));
        }
    }
}
