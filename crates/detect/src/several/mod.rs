//! Several series judged together: what no one of them shows by itself.
//!
//! Each detector here watches one group of series and says, window by window, how far it is from what it was: a member
//! from its siblings ([`Peers`]), pairs that moved together from doing so ([`Together`]), all members from the shape of
//! their cloud ([`Covariance`]), or from the few movements that explain them ([`Components`]). [`Distances`] makes
//! probabilities, episodes and words of that, on the same scale as a [`Bank`](crate::Bank) does.
//!
//! | detector | paper | an update, by member | state, by member |
//! | --- | --- | --- | --- |
//! | [`Peers`] | Hampel, JASA 1974; Rousseeuw and Croux, JASA 1993 (median and its absolute deviation) | 40 ns | 24 bytes |
//! | [`Together`] | Fisher, Biometrika 1915 and 1921 (the transform of a correlation) | 0.1 µs of 32 | 48 bytes and 24 a pair |
//! | [`Covariance`] | Mahalanobis 1936; Ledoit and Wolf, JMVA 2004 (shrinkage); Wilson and Hilferty, PNAS 1931 | 0.3 µs of 32 | 24 bytes and 8 a pair |
//! | [`Components`] | Weng, Zhang and Hwang, PAMI 2003 (CCIPCA); Jackson and Mudholkar, Technometrics 1979 | 40 ns for 3 | 24 bytes and 8 a component |
//! | [`Distances`] | Hill, Annals of Statistics 1975 | 40 ns a row | 70 bytes a row |
//!
//! No detector looks ahead, and none cares in which order members are given but for the last bit of a sum: whoever keeps
//! the group keeps its members in an order of their own. A value that is missing is NaN.

mod components;
mod covariance;
mod distances;
mod member;
mod peers;
mod together;
mod triangle;

pub use components::{Components, ComponentsOptions};
pub use covariance::{Covariance, CovarianceOptions};
pub use distances::{Distances, Moment, Nature, Reading};
pub use peers::{Peers, PeersOptions};
pub use together::{Together, TogetherOptions};

/// How far a group is from what it was.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// What was measured.
    pub value: f64,
    /// What was expected.
    pub expected: f64,
    /// What a distance of 1 is in the unit of `value`.
    pub scale: f64,
    /// Signed distance from what was expected, in standard deviations or nearly so.
    pub distance: f64,
}

/// Members that have the largest part in a distance, with their part; fewer where fewer have one.
pub type Parts = Vec<(usize, f64)>;

/// The largest parts, at most three, of those that have any.
fn largest(parts: impl Iterator<Item = (usize, f64)>) -> Parts {
    let mut parts: Parts = parts.filter(|(_, part)| *part > 0.0).collect();
    parts.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    parts.truncate(3);
    parts
}

/// Squares of numbers up to this are finite, and so are sums of as many as there can be.
const LARGEST: f64 = 1e150;

/// A number that can be worked with: NaN for a missing one or an infinity, and no larger than can be squared.
fn usable(value: f64) -> f64 {
    if value.is_finite() {
        value.clamp(-LARGEST, LARGEST)
    } else {
        f64::NAN
    }
}
