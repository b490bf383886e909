//! Pairs that were learned to move together, and stop.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Measured, Parts, largest,
    member::Movement,
    triangle::{self, place},
    usable,
};
use crate::{Checker, Problem};

/// Correlations count as at most this, either way: nearer to 1 their transform has no end.
const SURE: f64 = 0.98;
/// Windows between two choices of the pairs that are watched.
const REVIEW: u32 = 32;
/// Where both of a pair move less than this share of what they did, nothing is known of how they move together.
const STILL: f64 = 0.05;

/// Series that moved together and stop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TogetherOptions {
    /// Pairs whose movements are correlated at least so much, either way, count as moving together.
    pub least: f64,
    /// Pairs watched in one group: those that move together most.
    pub pairs: u32,
    /// Windows with both that are learned from before a pair is watched.
    pub learn: u32,
    /// Windows over which is looked at how a pair moves now.
    pub recent: u32,
    /// Windows over which is learned how it usually moves.
    pub memory: u32,
    /// Series in one group, at most.
    pub members: u32,
}

impl Default for TogetherOptions {
    fn default() -> Self {
        Self {
            least: 0.7,
            pairs: 64,
            learn: 240,
            recent: 20,
            memory: 2_000,
            members: 32,
        }
    }
}

impl TogetherOptions {
    /// Everything that is wrong with the values, beyond their types.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        let mut check = Checker::default();
        if !(self.least >= 0.3 && self.least <= 0.95) {
            check.wrong(
                "least",
                format!("a correlation of {} does not tell what moves together", self.least),
                "write 0.3 to 0.95",
            );
        }
        check.within("pairs", self.pairs, 1..=2_016, "pairs cannot be watched");
        check.within("learn", self.learn, 50..=1_000_000, "windows cannot be learned from");
        check.within(
            "recent",
            self.recent,
            5..=10_000,
            "windows do not show how a pair moves",
        );
        check.within("memory", self.memory, 50..=1_000_000, "windows are no memory");
        check.within("members", self.members, 2..=64, "series cannot be compared in pairs");
        if self.recent.saturating_mul(2) > self.memory {
            check.wrong(
                "recent",
                format!(
                    "{} windows are not recent beside a memory of {}",
                    self.recent, self.memory
                ),
                "write at most half of memory",
            );
        }
        check.found()
    }
}

/// Sums of one pair, or of a member with itself, which fade.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Product {
    long: f64,
    short: f64,
    count: u32,
}

/// How the members of a group move together.
///
/// Movements are differences without memory, each in its own spread and clipped, so that neither a season nor a trend that
/// two series share by chance is taken for a bond, nor one jump. The correlation of late is compared with the one learned, on
/// Fisher's scale, on which its standard error is known; the pair that lost most counts. Learned while nothing is open.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Together {
    members: Vec<Movement>,
    /// Upper triangle with the diagonal, row by row.
    products: Vec<Product>,
    chosen: Vec<(u16, u16)>,
    since: u32,
    /// The pair that lost most in the last window, and all watched ones with what they lost.
    #[serde(skip)]
    worst: Option<(usize, usize)>,
    #[serde(skip)]
    lost: Vec<f64>,
    #[serde(skip)]
    moved: Vec<f64>,
}

impl Together {
    /// A member that comes in before the `at`-th.
    pub fn add(&mut self, at: usize) {
        let n = self.members.len();
        let at = at.min(n);
        self.members.insert(at, Movement::default());
        self.products = triangle::with(&self.products, n, at, |_| Product::default());
        self.choose_anew();
    }

    /// The `at`-th member leaves.
    pub fn remove(&mut self, at: usize) {
        let n = self.members.len();
        if at >= n {
            return;
        }
        self.members.remove(at);
        self.products = triangle::without(&self.products, n, at);
        self.choose_anew();
    }

    /// Pairs are chosen by places, which members that come and go change.
    fn choose_anew(&mut self) {
        self.chosen.clear();
        self.since = REVIEW;
    }

    /// Judges one window of all members; learns from it unless `held`. `None` where no pair is watched.
    pub fn judge(&mut self, options: &TogetherOptions, values: &[f64], held: bool) -> Option<Measured> {
        let n = self.members.len();
        self.moved.clear();
        for (member, value) in self.members.iter_mut().zip(values) {
            self.moved.push(member.step(usable(*value), held));
        }
        if self.moved.len() < n {
            return None;
        }
        let short = 1.0 / f64::from(options.recent);
        let mut at = 0;
        for (i, a) in self.moved.iter().enumerate() {
            for b in self.moved.get(i..).unwrap_or_default() {
                let both = a * b;
                if let Some(product) = self.products.get_mut(at)
                    && !both.is_nan()
                {
                    let n = f64::from(product.count) + 1.0;
                    product.short += (both - product.short) * short.max(1.0 / n);
                    if !held {
                        product.long += (both - product.long) / n.min(f64::from(options.memory));
                        product.count = product.count.saturating_add(1);
                    }
                }
                at += 1;
            }
        }
        self.since = self.since.saturating_add(1);
        if self.since >= REVIEW && !held {
            self.choose(options);
        }
        self.compare(options)
    }

    fn product(&self, i: usize, j: usize) -> Product {
        self.products
            .get(place(self.members.len(), i, j))
            .copied()
            .unwrap_or_default()
    }

    /// The correlation learned; 0 where one never moved.
    fn learned(&self, i: usize, j: usize) -> f64 {
        let power = self.product(i, i).long * self.product(j, j).long;
        if power > 0.0 {
            self.product(i, j).long / power.sqrt()
        } else {
            0.0
        }
    }

    /// Takes the pairs that move together most.
    fn choose(&mut self, options: &TogetherOptions) {
        self.since = 0;
        let n = self.members.len();
        let mut pairs: Vec<(f64, u16, u16)> = Vec::new();
        for i in 0..n {
            for j in i + 1..n {
                let bond = self.learned(i, j).abs();
                if self.product(i, j).count >= options.learn && bond >= options.least {
                    #[allow(clippy::cast_possible_truncation)] // members are at most 64
                    pairs.push((bond, i as u16, j as u16));
                }
            }
        }
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        pairs.truncate(options.pairs as usize);
        self.chosen.clear();
        self.chosen.extend(pairs.iter().map(|(_, i, j)| (*i, *j)));
    }

    fn compare(&mut self, options: &TogetherOptions) -> Option<Measured> {
        // an exponential memory of n windows weighs as much as 2 n - 1 of them
        let error = 1.0 / (2.0 * f64::from(options.recent) - 4.0).max(1.0).sqrt();
        let mut worst: Option<(usize, usize, Measured)> = None;
        let mut lost = std::mem::take(&mut self.lost);
        lost.clear();
        for (i, j) in &self.chosen {
            let (i, j) = (usize::from(*i), usize::from(*j));
            let (a, b, both) = (self.product(i, i), self.product(j, j), self.product(i, j));
            let still = a.short <= STILL * a.long && b.short <= STILL * b.long;
            if still {
                lost.push(0.0);
                continue;
            }
            let bond = self.learned(i, j);
            let sign = bond.signum();
            let power = a.short.max(STILL * a.long) * b.short.max(STILL * b.long);
            let now = if power > 0.0 {
                sign * both.short / power.sqrt()
            } else {
                0.0
            };
            let (bond, now) = ((sign * bond).min(SURE), now.clamp(-SURE, SURE));
            let distance = (now.atanh() - bond.atanh()) / error;
            lost.push(-distance);
            if worst.as_ref().is_none_or(|(.., worst)| distance < worst.distance) {
                let scale = error * (1.0 - bond * bond);
                let measured = Measured {
                    value: now,
                    expected: bond,
                    scale,
                    distance,
                };
                worst = Some((i, j, measured));
            }
        }
        self.lost = lost;
        self.worst = worst.as_ref().map(|(i, j, _)| (*i, *j));
        worst.map(|(.., measured)| measured)
    }

    /// What is seen of late is what is usual from now on.
    pub fn accept(&mut self) {
        for product in &mut self.products {
            product.long = product.short;
            product.count = product.count.min(50);
        }
        self.chosen.clear();
        self.since = REVIEW;
    }

    /// The pair that lost most in the last window, and which member has a part in how many of the watched pairs that lost at
    /// least half as much.
    #[must_use]
    pub fn worst(&self) -> Option<(usize, usize, Parts)> {
        let (i, j) = self.worst?;
        let most = self.lost.iter().copied().fold(0.0, f64::max);
        let mut parts = vec![0.0; self.members.len()];
        for ((a, b), lost) in self.chosen.iter().zip(&self.lost) {
            if *lost >= 0.5 * most {
                for member in [*a, *b] {
                    if let Some(part) = parts.get_mut(usize::from(member)) {
                        *part += 1.0;
                    }
                }
            }
        }
        Some((i, j, largest(parts.into_iter().enumerate())))
    }

    /// Pairs that are watched.
    #[must_use]
    pub fn pairs(&self) -> usize {
        self.chosen.len()
    }

    /// Bytes of state of a group of `n`.
    #[must_use]
    pub const fn bytes(n: usize) -> usize {
        n * size_of::<Movement>() + n * (n + 1) / 2 * size_of::<Product>()
    }
}
