//! The shares of categories, and what they say.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use suture_event::Span;

use crate::{Checker, Problem, drift::distance};

/// What is measured of a mix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// How mixed it is, in bits: 0 where everything is of one category.
    #[default]
    Entropy,
    /// The share of events of categories that are rare.
    Rare,
    /// Root of the population stability index between the shares of late and those learned: 0.32 is an index of 0.1, which
    /// is taken as stable, 0.5 one of 0.25, which is taken as changed.
    Psi,
    /// Jensen-Shannon distance between them: the root of the divergence in bits, 0 to 1.
    JensenShannon,
    /// Root of the chi-square statistic between them, by its degrees of freedom.
    ChiSquare,
    /// Kolmogorov-Smirnov's largest gap between them, for categories in an order: bins of a histogram.
    KolmogorovSmirnov,
    /// First Wasserstein distance between them, for bins of a histogram, in the unit of their bounds.
    Wasserstein,
}

impl Measure {
    /// Whether it needs categories in an order.
    #[must_use]
    pub const fn is_ordered(self) -> bool {
        matches!(self, Self::KolmogorovSmirnov | Self::Wasserstein)
    }

    /// The name used in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Entropy => "entropy",
            Self::Rare => "rare",
            Self::Psi => "psi",
            Self::JensenShannon => "jensen_shannon",
            Self::ChiSquare => "chi_square",
            Self::KolmogorovSmirnov => "kolmogorov_smirnov",
            Self::Wasserstein => "wasserstein",
        }
    }
}

/// What a mix of categories, or a histogram, is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MixOptions {
    /// The label whose values are the categories; for a histogram, the one with the bins' upper bounds.
    pub label: String,
    /// What is measured.
    pub measure: Measure,
    /// Whether each value counts the ones before it too, as those of Prometheus' `le` do. Absent: where the label is `le`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cumulative: Option<bool>,
    /// The time over which the shares of late are taken.
    pub current: Span,
    /// The time over which the usual ones are learned.
    pub reference: Span,
    /// A category with a smaller share than this is rare.
    pub rare: f64,
    /// Events over `current` without which nothing is measured.
    pub least: f64,
    /// Categories of one group. Further ones count together as one more.
    pub categories: u32,
}

impl Default for MixOptions {
    fn default() -> Self {
        Self {
            label: String::new(),
            measure: Measure::Entropy,
            cumulative: None,
            current: Span::from_mins(15),
            reference: Span::from_hours(24),
            rare: 0.01,
            least: 20.0,
            categories: 256,
        }
    }
}

impl MixOptions {
    /// Everything that is wrong with the values, beyond their types.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        let mut check = Checker::default();
        check.that(
            !self.label.is_empty(),
            "label",
            "no label has the categories",
            "name one, such as client",
        );
        check.that(
            self.current > Span::ZERO,
            "current",
            "no time at all has no shares",
            "write a span such as 15m",
        );
        check.that(
            self.reference.as_millis() >= self.current.as_millis().saturating_mul(2),
            "reference",
            format!("{} is not long beside {}", self.reference, self.current),
            "write at least twice current",
        );
        check.that(
            self.rare > 0.0 && self.rare < 1.0,
            "rare",
            format!("a share of {} tells nothing apart", self.rare),
            "write a number between 0 and 1, such as 0.01",
        );
        check.that(
            self.least >= 0.0 && self.least.is_finite(),
            "least",
            format!("{} events cannot be counted", self.least),
            "write 0 or a positive number",
        );
        check.that(
            (2..=10_000).contains(&self.categories),
            "categories",
            format!("{} categories are no mix that can be kept", self.categories),
            "write 2 to 10000",
        );
        check.found()
    }

    /// Whether each value counts the ones before it too.
    #[must_use]
    pub fn is_cumulative(&self) -> bool {
        self.cumulative.unwrap_or(self.label == "le")
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Category {
    name: Arc<str>,
    /// The number that the name is, for bins; infinite for those above all.
    bound: Option<f64>,
    /// Sums of events, which fade.
    current: f64,
    reference: f64,
    #[serde(skip)]
    now: f64,
}

/// The categories of one group with their shares of late and the ones learned.
///
/// Both are sums that fade exponentially with time, so that there is no edge at which an hour drops out. A change shows in
/// full after some `current` and fades from the learned shares over `reference`: by then it is what is usual.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mix {
    /// By bound, then by name: an order that does not depend on which came first.
    categories: Vec<Category>,
    /// What further categories count as.
    rest: Category,
    first: i64,
    last: i64,
    #[serde(skip)]
    buffers: [Vec<f64>; 3],
}

impl Default for Mix {
    fn default() -> Self {
        Self {
            categories: Vec::new(),
            rest: category("(others)"),
            first: i64::MIN,
            last: i64::MIN,
            buffers: Default::default(),
        }
    }
}

fn category(name: &str) -> Category {
    let bound = match name {
        "+Inf" | "Inf" | "inf" => Some(f64::INFINITY),
        _ => name.parse::<f64>().ok().filter(|bound| !bound.is_nan()),
    };
    Category {
        name: name.into(),
        bound,
        current: 0.0,
        reference: 0.0,
        now: 0.0,
    }
}

impl Category {
    fn is_before(&self, name: &str, bound: Option<f64>) -> std::cmp::Ordering {
        let key = |bound: Option<f64>| bound.unwrap_or(f64::INFINITY);
        key(self.bound)
            .total_cmp(&key(bound))
            .then(self.bound.is_none().cmp(&bound.is_none()))
            .then(self.name.as_ref().cmp(name))
    }
}

impl Mix {
    /// Events of one category in the window at hand.
    pub fn add(&mut self, options: &MixOptions, name: &str, events: f64) {
        if !(events.is_finite() && events > 0.0) {
            return;
        }
        let events = events.min(1e200);
        let bound = category_bound(name);
        let at = match self.categories.binary_search_by(|known| known.is_before(name, bound)) {
            Ok(at) => at,
            Err(_) if self.categories.len() >= options.categories as usize => {
                self.rest.now += events;
                return;
            }
            Err(at) => {
                self.categories.insert(at, category(name));
                at
            }
        };
        if let Some(known) = self.categories.get_mut(at) {
            known.now += events;
        }
    }

    /// Ends the window at hand, which ends at `end`, and measures the mix. `None` while there is too little to go by.
    pub fn close(&mut self, options: &MixOptions, end: i64) -> Option<f64> {
        if options.is_cumulative() {
            let mut below = 0.0;
            for category in &mut self.categories {
                let upto = category.now;
                category.now = (upto - below).max(0.0);
                below = upto.max(below);
            }
        }
        if self.first == i64::MIN {
            (self.first, self.last) = (end, end);
        }
        #[allow(clippy::cast_precision_loss)] // milliseconds of a few thousand years are exact
        let passed = end.saturating_sub(self.last).max(0) as f64;
        self.last = self.last.max(end);
        #[allow(clippy::cast_precision_loss)]
        let left = |span: Span| (-passed / (span.as_millis().max(1) as f64)).exp();
        let (recent, long) = (left(options.current), left(options.reference));
        let value = self.measure_rare(options);
        for category in self.categories.iter_mut().chain([&mut self.rest]) {
            category.current = (category.current * recent + category.now).min(1e250);
            category.reference = (category.reference * long + category.now).min(1e250);
            category.now = 0.0;
        }
        let known = end.saturating_sub(self.first) >= options.current.as_millis().saturating_mul(2);
        let events: f64 = self.all().map(|category| category.current).sum();
        if !known || events < options.least || events <= 0.0 {
            return None;
        }
        let measured = match options.measure {
            Measure::Rare => value,
            Measure::Entropy => {
                let shares = self
                    .all()
                    .map(|category| category.current / events)
                    .filter(|share| *share > 0.0);
                Some(-shares.map(|share| share * share.log2()).sum::<f64>())
            }
            _ => self.distance(options),
        };
        measured.filter(|value| value.is_finite())
    }

    fn all(&self) -> impl Iterator<Item = &Category> {
        self.categories.iter().chain([&self.rest])
    }

    /// The share of this window's events that are of rare categories.
    fn measure_rare(&self, options: &MixOptions) -> Option<f64> {
        let events: f64 = self.all().map(|category| category.now).sum();
        let whole: f64 = self.all().map(|category| category.reference).sum();
        if events <= 0.0 || whole <= 0.0 {
            return None;
        }
        let rare = self.all().filter(|category| category.reference < options.rare * whole);
        Some(rare.map(|category| category.now).sum::<f64>() / events)
    }

    fn distance(&mut self, options: &MixOptions) -> Option<f64> {
        let [reference, current, edges] = &mut self.buffers;
        reference.clear();
        current.clear();
        edges.clear();
        for category in self.categories.iter().chain([&self.rest]) {
            if options.measure.is_ordered() && category.bound.is_none() {
                continue;
            }
            reference.push(category.reference);
            current.push(category.current);
            edges.push(category.bound.unwrap_or(f64::INFINITY));
        }
        match options.measure {
            // the roots go with the size of a change, as residuals should
            Measure::Psi => distance::population_stability(reference, current).map(f64::sqrt),
            Measure::JensenShannon => distance::jensen_shannon(reference, current).map(f64::sqrt),
            Measure::ChiSquare => {
                let used = reference
                    .iter()
                    .zip(current.iter())
                    .filter(|(a, b)| **a + **b > 0.0)
                    .count();
                let test = distance::chi_square(reference, current)?;
                Some((test.statistic / (used.max(2) - 1) as f64).sqrt())
            }
            Measure::KolmogorovSmirnov => {
                distance::kolmogorov_smirnov_of_histograms(reference, current).map(|test| test.statistic)
            }
            Measure::Wasserstein => {
                // the first bin begins at 0 or as far below its bound as the next is above; the last ends where it begins
                let first = *edges.first()?;
                let below = edges
                    .get(1)
                    .filter(|next| next.is_finite())
                    .map_or(0.0, |next| first - (next - first));
                edges.insert(0, if first > 0.0 { 0.0 } else { below.min(first) });
                let top = edges
                    .iter()
                    .copied()
                    .filter(|edge| edge.is_finite())
                    .fold(f64::MIN, f64::max);
                edges.iter_mut().for_each(|edge| *edge = edge.min(top));
                distance::wasserstein_of_histograms(edges, reference, current)
            }
            Measure::Entropy | Measure::Rare => None,
        }
    }

    /// The categories whose share changed most against what is usual, at most three: name, share of late and usual share.
    #[must_use]
    pub fn changed(&self) -> Vec<(Arc<str>, f64, f64)> {
        let sum = |of: fn(&Category) -> f64| self.all().map(of).sum::<f64>().max(f64::MIN_POSITIVE);
        let (recent, whole) = (sum(|c| c.current), sum(|c| c.reference));
        let mut shares: Vec<_> = self
            .all()
            .map(|c| (c.name.clone(), c.current / recent, c.reference / whole))
            .filter(|(_, now, usual)| now != usual)
            .collect();
        shares.sort_by(|a, b| (b.1 - b.2).abs().total_cmp(&(a.1 - a.2).abs()).then(a.0.cmp(&b.0)));
        shares.truncate(3);
        shares
    }

    /// Categories known, without those that count together.
    #[must_use]
    pub fn len(&self) -> usize {
        self.categories.len()
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.categories.is_empty()
    }
}

fn category_bound(name: &str) -> Option<f64> {
    match name {
        "+Inf" | "Inf" | "inf" => Some(f64::INFINITY),
        _ => name.parse::<f64>().ok().filter(|bound| !bound.is_nan()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    fn options(measure: Measure) -> MixOptions {
        MixOptions {
            label: "client".into(),
            measure,
            ..MixOptions::default()
        }
    }

    fn run(options: &MixOptions, minutes: i64, events: impl Fn(i64) -> Vec<(&'static str, f64)>) -> Vec<Option<f64>> {
        let mut mix = Mix::default();
        let each = (0..minutes).map(|minute| {
            for (name, count) in events(minute) {
                mix.add(options, name, count);
            }
            mix.close(options, minute * MINUTE)
        });
        each.collect()
    }

    #[test]
    fn entropy_is_that_of_the_shares_of_late() {
        let options = options(Measure::Entropy);
        let found = run(&options, 200, |minute| {
            if minute < 100 {
                vec![("a", 10.0), ("b", 10.0)]
            } else {
                vec![("a", 20.0)]
            }
        });
        assert_eq!(found[29], None);
        assert!((found[90].unwrap() - 1.0).abs() < 1e-9);
        assert!(found[199].unwrap() < 0.05, "{:?}", found[199]);
    }

    #[test]
    fn rare_events_are_those_of_categories_that_were_rare() {
        let options = options(Measure::Rare);
        let found = run(&options, 300, |minute| {
            vec![("a", 99.0), ("b", if minute < 250 { 0.2 } else { 33.0 })]
        });
        assert!(found[240].unwrap() < 0.01);
        assert!((found[250].unwrap() - 0.25).abs() < 0.01, "{:?}", found[250]);
    }

    #[test]
    fn a_mix_that_changes_is_far_from_what_it_was_by_every_measure() {
        for measure in [
            Measure::Psi,
            Measure::JensenShannon,
            Measure::ChiSquare,
            Measure::KolmogorovSmirnov,
            Measure::Wasserstein,
        ] {
            let options = MixOptions {
                label: "le".into(),
                ..options(measure)
            };
            let bins = |counts: [f64; 4]| {
                let mut sum = 0.0;
                let upto = counts.map(|count| {
                    sum += count;
                    sum
                });
                ["+Inf", "0.1", "10", "1"]
                    .into_iter()
                    .zip([upto[3], upto[0], upto[2], upto[1]])
                    .collect()
            };
            let found = run(&options, 3_000, |minute| {
                let odd = if minute % 2 == 0 { 1.0 } else { 0.0 };
                if minute < 2_900 {
                    bins([50.0 + odd, 30.0, 15.0, 5.0])
                } else {
                    bins([10.0, 20.0, 40.0, 30.0])
                }
            });
            let (before, after) = (found[2_899].unwrap(), found[2_940].unwrap());
            assert!(
                after > 5.0 * before && after.is_finite(),
                "{measure:?}: {before} then {after}"
            );
        }
    }

    #[test]
    fn names_are_in_an_order_of_their_own_and_bounded() {
        let options = MixOptions {
            categories: 3,
            ..options(Measure::Entropy)
        };
        let (mut a, mut b) = (Mix::default(), Mix::default());
        for name in ["x", "10", "9"] {
            a.add(&options, name, 1.0);
        }
        for name in ["9", "x", "10", "late", "later"] {
            b.add(&options, name, 1.0);
        }
        let names = |mix: &Mix| mix.categories.iter().map(|c| c.name.to_string()).collect::<Vec<_>>();
        assert_eq!(
            (names(&a), names(&b)),
            (vec!["9".into(), "10".into(), "x".into()], names(&a))
        );
        assert_eq!(b.rest.now, 2.0);
    }
}
