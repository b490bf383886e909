//! All members of a group together, away from the cloud that they usually make.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Measured, Parts, largest,
    member::Level,
    triangle::{self, place},
    usable,
};
use crate::{Checker, Problem};

/// A window whose distance is beyond so many standard deviations is learned from as if it were there.
const CLIP: f64 = 2.5;
/// A member's own distance counts as at most so many spreads.
const FAR: f64 = 1e3;
/// A product of two members' distances counts as at most this where the shape is learned.
const MOST: f64 = 25.0;
/// The least spread of distances.
const LEAST: f64 = 1e-3;

/// Series that together leave the shape they usually make, though each by itself may not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CovarianceOptions {
    /// Windows that are learned from before anything is said; a series that comes later is left out for as
    /// many.
    pub learn: u32,
    /// Windows over which the shape is learned.
    pub memory: u32,
    /// How far the shape learned is drawn towards one without any correlation, at least.
    pub shrink: f64,
    /// Series in one group, at most.
    pub members: u32,
}

impl Default for CovarianceOptions {
    fn default() -> Self {
        Self {
            learn: 240,
            memory: 2_000,
            shrink: 0.01,
            members: 32,
        }
    }
}

impl CovarianceOptions {
    /// Everything that is wrong with the values, beyond their types.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        let mut check = Checker::default();
        if !(self.shrink > 0.0 && self.shrink <= 1.0) {
            check.wrong(
                "shrink",
                format!("a share of {} leaves a shape that cannot be inverted", self.shrink),
                "write more than 0 and at most 1, such as 0.01",
            );
        }
        check.within("learn", self.learn, 50..=1_000_000, "windows cannot be learned from");
        check.within("memory", self.memory, 50..=1_000_000, "windows are no memory");
        check.within("members", self.members, 2..=64, "series are no cloud");
        check.found()
    }
}

/// The cloud of a group: each member's level and spread, and how they go together.
///
/// The distance of a window is Mahalanobis', over the members that have a value, with the covariance drawn towards none by
/// at least `shrink` and more while few windows were seen, and learned from windows clipped in length, so that an outage does
/// not become part of the shape. Its square is nearly normal by Wilson's and Hilferty's cube root, on whose scale
/// the usual distance and its spread are learned.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Covariance {
    levels: Vec<Level>,
    /// Upper triangle with the diagonal, row by row.
    shape: Vec<f64>,
    windows: u32,
    /// The distances themselves, on the scale on which they are nearly normal.
    usual: Level,
    /// Members in the last window, each with its distance and its part in that of all.
    #[serde(skip)]
    present: Vec<usize>,
    #[serde(skip)]
    off: Vec<f64>,
    #[serde(skip)]
    solved: Vec<f64>,
    #[serde(skip)]
    factor: Vec<f64>,
}

// one index into several arrays of the same length, as it stands in the textbook; each within the group's size
#[allow(clippy::needless_range_loop)]
impl Covariance {
    /// A member that comes in before the `at`-th.
    pub fn add(&mut self, at: usize) {
        let n = self.levels.len();
        let at = at.min(n);
        self.levels.insert(at, Level::default());
        self.shape = triangle::with(&self.shape, n, at, |itself| if itself { 1.0 } else { 0.0 });
    }

    /// The `at`-th member leaves.
    pub fn remove(&mut self, at: usize) {
        let n = self.levels.len();
        if at >= n {
            return;
        }
        self.levels.remove(at);
        self.shape = triangle::without(&self.shape, n, at);
    }

    /// Judges one window of all members; learns from it unless `held`. `None` while there is too little to go by.
    pub fn judge(&mut self, options: &CovarianceOptions, values: &[f64], held: bool) -> Option<Measured> {
        let n = self.levels.len();
        self.present.clear();
        self.off.clear();
        for (at, (level, value)) in self.levels.iter().zip(values).enumerate() {
            let value = usable(*value);
            let known = level.count >= options.learn / 2 && !value.is_nan();
            if known && level.count >= options.learn {
                self.present.push(at);
            }
            let off = level.distance(value, 0.0).clamp(-FAR, FAR);
            self.off.push(if known { off } else { f64::NAN });
        }
        let m = self.present.len();
        let square = if m >= 2 { self.square(options, n) } else { None };
        let z = square.map(|square| cube_root(square, m));
        let usual = self.usual;
        if !held {
            self.learn(options, values, z);
        }
        let (square, z) = (square?, z?);
        if usual.count < options.learn / 2 {
            return None;
        }
        let (root, error) = (root_of(usual.mean, m).max(1e-3), (2.0 / (9.0 * m as f64)).sqrt());
        Some(Measured {
            value: (square / m as f64).sqrt(),
            expected: root.powf(1.5),
            scale: 1.5 * root.sqrt() * error * usual.spread.max(LEAST),
            distance: usual.distance(z, LEAST),
        })
    }

    /// The square of Mahalanobis' distance. A member that came later is known from fewer windows than the others, so that
    /// the shape need not be that of any cloud: then it is drawn further towards no correlation until it is.
    fn square(&mut self, options: &CovarianceOptions, n: usize) -> Option<f64> {
        let m = self.present.len();
        let few = m as f64 / (m as f64 + f64::from(self.windows));
        let mut shrink = options.shrink.max(few).min(1.0);
        while !self.decompose(shrink, n) {
            if shrink >= 1.0 {
                return None;
            }
            shrink = (2.0 * shrink).min(1.0);
        }
        let square: f64 = self.solved.iter().map(|y| y * y).sum();
        square.is_finite().then_some(square)
    }

    /// Cholesky's factor of the part of the shape that is present, and the members' distances solved by it. Gives up where
    /// a pivot is smaller than it can be in the shape of a cloud.
    fn decompose(&mut self, shrink: f64, n: usize) -> bool {
        let m = self.present.len();
        self.factor.clear();
        self.factor.resize(m * m, 0.0);
        self.solved.clear();
        self.solved.extend(self.present.iter().map(|at| self.off[*at]));
        let (l, y) = (&mut self.factor, &mut self.solved);
        for i in 0..m {
            for j in 0..=i {
                let own = self.shape[place(n, self.present[j], self.present[i])];
                let own = (1.0 - shrink) * own + if i == j { shrink } else { 0.0 };
                let (mut rest, a, b) = (own, &l[i * m..i * m + j], &l[j * m..j * m + j]);
                for (a, b) in a.iter().zip(b) {
                    rest -= a * b;
                }
                if i != j {
                    l[i * m + j] = rest / l[j * m + j];
                } else if rest >= 0.5 * shrink {
                    l[i * m + i] = rest.sqrt();
                } else {
                    return false;
                }
            }
            for k in 0..i {
                y[i] -= l[i * m + k] * y[k];
            }
            y[i] /= l[i * m + i];
        }
        true
    }

    fn learn(&mut self, options: &CovarianceOptions, values: &[f64], z: Option<f64>) {
        let memory = f64::from(options.memory);
        let n = self.levels.len();
        let m = self.present.len();
        let length = self.solved.iter().map(|y| y * y).sum::<f64>();
        let clip = self.usual.mean + CLIP * self.usual.spread.max(LEAST);
        let keep = match z {
            // as if the window lay at the clip
            Some(z) if z > clip && length > 0.0 && self.usual.count >= options.learn / 2 => {
                (m as f64 * root_of(clip, m).max(0.0).powi(3) / length).sqrt().min(1.0)
            }
            _ => 1.0,
        };
        let mut any = 0;
        for i in 0..n.min(self.off.len()) {
            if self.off[i].is_nan() {
                continue;
            }
            any += 1;
            for j in i..n.min(self.off.len()) {
                if self.off[j].is_nan() {
                    continue;
                }
                let known = self.levels[i].count.min(self.levels[j].count) - options.learn / 2;
                let gain = 1.0 / (f64::from(known) + 2.0).min(memory);
                let both = keep * self.off[i] * keep * self.off[j];
                let shape = &mut self.shape[place(n, i, j)];
                *shape += gain * (both.clamp(-MOST, MOST) - *shape);
            }
        }
        if any >= 2 {
            if let Some(z) = z {
                self.usual.learn(z, memory);
            }
            self.windows = self.windows.saturating_add(1);
        }
        for (level, value) in self.levels.iter_mut().zip(values) {
            let value = usable(*value);
            if !value.is_nan() {
                level.learn(value, memory);
            }
        }
    }

    /// The shape is learned anew from here on.
    pub fn accept(&mut self) {
        let n = self.levels.len();
        *self = Self::default();
        (0..n).for_each(|at| self.add(at));
    }

    /// The members with the largest part in the last window's distance: each part is a share of its square, with the
    /// member's own distance in spreads.
    #[must_use]
    pub fn parts(&self) -> Vec<(usize, f64, f64)> {
        let m = self.present.len();
        if self.solved.len() != m || m == 0 {
            return Vec::new();
        }
        // x = shape^-1 off, by the transposed factor
        let mut x = self.solved.clone();
        for i in (0..m).rev() {
            for k in i + 1..m {
                x[i] -= self.factor[k * m + i] * x[k];
            }
            x[i] /= self.factor[i * m + i];
        }
        let off = |at: usize| self.off[self.present[at]];
        let whole: f64 = x.iter().enumerate().map(|(at, x)| x * off(at)).sum();
        let parts: Parts = largest(
            x.iter()
                .enumerate()
                .map(|(at, x)| (at, x * off(at) / whole.max(f64::MIN_POSITIVE))),
        );
        let told = parts.into_iter();
        told.map(|(at, part)| (self.present[at], part, off(at))).collect()
    }

    /// Bytes of state of a group of `n`.
    #[must_use]
    pub const fn bytes(n: usize) -> usize {
        n * size_of::<Level>() + n * (n + 1) / 2 * size_of::<f64>()
    }
}

/// A sum of `m` squares as a standard normal number.
fn cube_root(square: f64, m: usize) -> f64 {
    let s = 2.0 / (9.0 * m as f64);
    ((square / m as f64).cbrt() - (1.0 - s)) / s.sqrt()
}

/// The cube root of the mean of `m` squares that is so many standard deviations.
fn root_of(z: f64, m: usize) -> f64 {
    let s = 2.0 / (9.0 * m as f64);
    1.0 - s + z * s.sqrt()
}
