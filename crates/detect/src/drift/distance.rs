//! How far apart two distributions are: as samples, or as histograms with the same bins, the way telemetry carries them.
//!
//! Histograms are counts a bin; bins of exponential histograms and of sketches do as well as any. Counts that are not
//! finite or below 0 count as 0. Where one side is empty there is no distance: `None`.

use serde::{Deserialize, Serialize};
use statrs::function::gamma::gamma_ur;

/// A test of whether two distributions are the same.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Test {
    /// The statistic.
    pub statistic: f64,
    /// Probability of one at least as large where the distributions are the same, by its limit for many samples.
    pub p: f64,
}

fn count(value: f64) -> f64 {
    if value.is_finite() && value > 0.0 { value } else { 0.0 }
}

/// Both histograms' counts, bin by bin up to the shorter one's end, and their sums.
fn counts<'a>(a: &'a [f64], b: &'a [f64]) -> Option<(impl Iterator<Item = (f64, f64)> + Clone + 'a, f64, f64)> {
    let pairs = a.iter().zip(b).map(|(&a, &b)| (count(a), count(b)));
    let (sum_a, sum_b) = pairs
        .clone()
        .fold((0.0, 0.0), |sums, pair| (sums.0 + pair.0, sums.1 + pair.1));
    (sum_a > 0.0 && sum_b > 0.0).then_some((pairs, sum_a, sum_b))
}

/// Population stability index of two histograms: `sum (q - p) ln(q / p)`. Half a sample is added to each bin, so that an
/// empty one gives no infinity. Below 0.1 is taken as stable and above 0.25 as changed where samples are many; with few,
/// chance alone gives `(bins - 1) (1 / n + 1 / m)` on average (Yurdakul, 2018).
#[must_use]
pub fn population_stability(reference: &[f64], current: &[f64]) -> Option<f64> {
    let (pairs, n, m) = counts(reference, current)?;
    let half = 0.5 * pairs.clone().count() as f64;
    let terms = pairs.map(|(a, b)| {
        let (p, q) = ((a + 0.5) / (n + half), (b + 0.5) / (m + half));
        (q - p) * (q / p).ln()
    });
    Some(terms.sum())
}

/// Jensen-Shannon divergence of two histograms in bits: 0 where they are the same, 1 where they share no bin (Lin, IEEE
/// Transactions on Information Theory 1991). Its root is a metric.
#[must_use]
pub fn jensen_shannon(reference: &[f64], current: &[f64]) -> Option<f64> {
    let (pairs, n, m) = counts(reference, current)?;
    let part = |p: f64, middle: f64| if p > 0.0 { p * (p / middle).log2() } else { 0.0 };
    let terms = pairs.map(|(a, b)| {
        let (p, q) = (a / n, b / m);
        let middle = 0.5 * (p + q);
        0.5 * (part(p, middle) + part(q, middle))
    });
    Some(terms.sum::<f64>().clamp(0.0, 1.0))
}

/// Pearson's chi-square test that two histograms, or two counts of categories, come from one distribution. Bins that are
/// empty on both sides don't count. Expected counts below 5 or so make `p` unreliable: merge such bins.
#[must_use]
pub fn chi_square(reference: &[f64], current: &[f64]) -> Option<Test> {
    let (pairs, n, m) = counts(reference, current)?;
    let (up, down) = ((m / n).sqrt(), (n / m).sqrt());
    let used = pairs.filter(|(a, b)| a + b > 0.0);
    let statistic: f64 = used.clone().map(|(a, b)| (up * a - down * b).powi(2) / (a + b)).sum();
    let freedom = used.count() - 1;
    let p = if freedom == 0 || statistic <= 0.0 {
        1.0
    } else {
        gamma_ur(0.5 * freedom as f64, 0.5 * statistic)
    };
    Some(Test { statistic, p })
}

/// Two-sample Kolmogorov-Smirnov test of samples sorted in ascending order, without NaN: the largest gap between their
/// distribution functions.
#[must_use]
pub fn kolmogorov_smirnov(reference: &[f64], current: &[f64]) -> Option<Test> {
    if reference.is_empty() || current.is_empty() {
        return None;
    }
    let gap = largest_gap(reference, current);
    Some(Test {
        statistic: gap,
        p: kolmogorov_p(gap, reference.len() as f64, current.len() as f64),
    })
}

/// The Kolmogorov-Smirnov test of two histograms with bins in ascending order. What a gap hides inside a bin is not seen,
/// so `p` is at least what the samples would give.
#[must_use]
pub fn kolmogorov_smirnov_of_histograms(reference: &[f64], current: &[f64]) -> Option<Test> {
    let (pairs, n, m) = counts(reference, current)?;
    let (mut apart, mut gap) = (0.0_f64, 0.0_f64);
    for (a, b) in pairs {
        apart += a / n - b / m;
        gap = gap.max(apart.abs());
    }
    Some(Test {
        statistic: gap,
        p: kolmogorov_p(gap, n, m),
    })
}

/// The largest gap between the distribution functions of two sorted samples.
fn largest_gap(a: &[f64], b: &[f64]) -> f64 {
    let (mut i, mut j, mut gap) = (0, 0, 0.0_f64);
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        let at = x.min(*y);
        i += a[i..].iter().take_while(|v| **v <= at).count();
        j += b[j..].iter().take_while(|v| **v <= at).count();
        gap = gap.max((i as f64 / a.len() as f64 - j as f64 / b.len() as f64).abs());
    }
    gap
}

/// Kolmogorov's limit with Stephens' correction for few samples (JRSS B 1970).
fn kolmogorov_p(gap: f64, n: f64, m: f64) -> f64 {
    let root = (n * m / (n + m)).sqrt();
    let x = (root + 0.12 + 0.11 / root) * gap;
    if x < 0.2 {
        return 1.0;
    }
    let terms = (1..=100).map(|k| {
        let k = f64::from(k);
        let sign = if k % 2.0 == 1.0 { 2.0 } else { -2.0 };
        sign * (-2.0 * k * k * x * x).exp()
    });
    terms.sum::<f64>().clamp(0.0, 1.0)
}

/// First Wasserstein (earth mover's) distance of samples sorted in ascending order, without NaN, in their unit.
#[must_use]
pub fn wasserstein(reference: &[f64], current: &[f64]) -> Option<f64> {
    let (mut left, mut right) = (*reference.first()?, *current.first()?);
    let mut at = left.min(right);
    let (mut i, mut j, mut sum) = (0, 0, 0.0);
    loop {
        let next = left.min(right);
        let apart = (i as f64 / reference.len() as f64 - j as f64 / current.len() as f64).abs();
        // an infinite step over no gap is no distance
        if apart > 0.0 {
            sum += apart * (next - at);
        }
        at = next;
        i += usize::from(left <= next);
        j += usize::from(right <= next);
        left = reference.get(i).copied().unwrap_or(f64::INFINITY);
        right = current.get(j).copied().unwrap_or(f64::INFINITY);
        if i >= reference.len() && j >= current.len() {
            return Some(sum);
        }
    }
}

/// First Wasserstein distance of two histograms over `edges`, ascending, one more than bins; within a bin, samples are
/// taken as spread evenly.
#[must_use]
pub fn wasserstein_of_histograms(edges: &[f64], reference: &[f64], current: &[f64]) -> Option<f64> {
    let (pairs, n, m) = counts(reference, current)?;
    let (mut apart, mut sum) = (0.0_f64, 0.0);
    for ((a, b), edge) in pairs.zip(edges.windows(2)) {
        let after = apart + a / n - b / m;
        let width = edge[1] - edge[0];
        // the gap runs straight from one edge's to the other's; where it changes sign, two triangles
        sum += if apart * after >= 0.0 {
            0.5 * (apart + after).abs() * width
        } else {
            0.5 * (apart * apart + after * after) / (apart - after).abs() * width
        };
        apart = after;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: Option<f64>, expected: f64) {
        assert!(
            found.is_some_and(|found| (found - expected).abs() < 1e-4),
            "{found:?} instead of {expected}"
        );
    }

    #[test]
    fn distances_are_those_worked_out_by_hand() {
        // with the half added: shares 3.5/7 and 3.5/7 against 1.5/7 and 5.5/7
        close(
            population_stability(&[3.0, 3.0], &[1.0, 5.0]),
            (1.5 / 7.0 - 0.5) * f64::ln(3.0 / 7.0) + (5.5 / 7.0 - 0.5) * f64::ln(11.0 / 7.0),
        );
        close(jensen_shannon(&[1.0, 0.0], &[0.0, 9.0]), 1.0);
        close(jensen_shannon(&[2.0, 2.0], &[5.0, 5.0]), 0.0);
        // the textbook's two by two table
        let test = chi_square(&[20.0, 30.0], &[30.0, 20.0]).unwrap();
        close(Some(test.statistic), 4.0);
        close(Some(test.p), 0.0455);
        close(wasserstein(&[0.0, 1.0, 3.0], &[5.0, 6.0, 8.0]), 5.0);
        close(wasserstein(&[0.0], &[1.0, 3.0]), 2.0);
        close(
            wasserstein_of_histograms(&[0.0, 1.0, 2.0, 3.0], &[1.0, 0.0, 0.0], &[0.0, 0.0, 4.0]),
            2.0,
        );
        close(
            wasserstein_of_histograms(&[0.0, 2.0, 4.0], &[1.0, 1.0], &[1.0, 3.0]),
            0.5,
        );
        let test = kolmogorov_smirnov(&[1.0, 2.0, 3.0, 4.0], &[3.0, 4.0, 5.0, 6.0]).unwrap();
        close(Some(test.statistic), 0.5);
        close(
            kolmogorov_smirnov_of_histograms(&[1.0, 1.0, 0.0], &[0.0, 1.0, 1.0]).map(|t| t.statistic),
            0.5,
        );
        // the 5% point of Kolmogorov's distribution is 1.358
        close(Some(kolmogorov_p(1.358e-4, 2e8, 2e8)), 0.0500);
    }

    #[test]
    fn nothing_to_compare_is_no_distance() {
        assert_eq!(population_stability(&[], &[1.0]), None);
        assert_eq!(jensen_shannon(&[0.0, f64::NAN], &[1.0, 1.0]), None);
        assert_eq!(chi_square(&[-1.0], &[1.0]), None);
        assert_eq!(kolmogorov_smirnov(&[], &[1.0]), None);
        assert_eq!(wasserstein(&[1.0], &[]), None);
        assert_eq!(chi_square(&[5.0], &[7.0]), Some(Test { statistic: 0.0, p: 1.0 }));
    }
}
