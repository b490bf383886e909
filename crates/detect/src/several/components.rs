//! What the few movements that explain a group do not explain.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Measured, largest, member::Level, usable};
use crate::{Checker, Problem};

/// A member's own distance counts as at most so many spreads, and where the components are learned as at most so many.
const FAR: f64 = 1e3;
const CLIP: f64 = 4.0;
/// Rounds in which a missing member's place is found.
const ROUNDS: usize = 6;
/// Half of the members must have a value.
const PRESENT: f64 = 0.5;

/// Series that are no longer explained by the few movements they share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ComponentsOptions {
    /// Movements that are learned: load, time of day and the like. Fewer than half of the series that are there are used.
    pub components: u32,
    /// Windows that are learned from before anything is said; a series that comes later is left out for as many.
    pub learn: u32,
    /// Windows over which the movements are learned.
    pub memory: u32,
    /// Series in one group, at most.
    pub members: u32,
}

impl Default for ComponentsOptions {
    fn default() -> Self {
        Self {
            components: 3,
            learn: 240,
            memory: 2_000,
            members: 64,
        }
    }
}

impl ComponentsOptions {
    /// Everything that is wrong with the values, beyond their types.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        let mut check = Checker::default();
        check.within("components", self.components, 1..=16, "movements cannot be learned");
        check.within("learn", self.learn, 50..=1_000_000, "windows cannot be learned from");
        check.within("memory", self.memory, 50..=1_000_000, "windows are no memory");
        check.within(
            "members",
            self.members,
            3..=512,
            "series are too few or too many to explain",
        );
        check.found()
    }
}

/// The movements that a group's members share, and how much is usually left.
///
/// The components are followed one after the other without a covariance matrix (CCIPCA), so that a window costs members times
/// components. What counts is the length of what they leave of a window, on the scale of its cube root, on which it is nearly
/// normal. A member without a value counts as where the others' movements have it. Learned from values clipped in size, while nothing is open.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Components {
    levels: Vec<Level>,
    /// One component after the other, each as long as there are members; its length is its variance.
    axes: Vec<Vec<f64>>,
    left: Level,
    /// What the last window left of each member, and its own distance.
    #[serde(skip)]
    rest: Vec<f64>,
    #[serde(skip)]
    off: Vec<f64>,
    #[serde(skip)]
    clipped: Vec<f64>,
    #[serde(skip)]
    missing: Vec<usize>,
}

impl Components {
    /// A member that comes in before the `at`-th.
    pub fn add(&mut self, at: usize) {
        let at = at.min(self.levels.len());
        self.levels.insert(at, Level::default());
        for axis in &mut self.axes {
            axis.insert(at.min(axis.len()), 0.0);
        }
    }

    /// The `at`-th member leaves.
    pub fn remove(&mut self, at: usize) {
        if at < self.levels.len() {
            self.levels.remove(at);
            for axis in &mut self.axes {
                axis.remove(at);
            }
        }
    }

    /// Judges one window of all members; learns from it unless `held`. `None` while there is too little to go by.
    pub fn judge(&mut self, options: &ComponentsOptions, values: &[f64], held: bool) -> Option<Measured> {
        self.off.clear();
        self.missing.clear();
        let mut present = 0_u32;
        for (at, (level, value)) in self.levels.iter().zip(values).enumerate() {
            let value = usable(*value);
            let known = level.count >= options.learn / 2 && !value.is_nan();
            present += u32::from(known && level.count >= options.learn);
            let off = if known {
                level.distance(value, 0.0).clamp(-FAR, FAR)
            } else {
                0.0
            };
            self.off.push(off);
            if value.is_nan() && level.count >= options.learn / 2 {
                self.missing.push(at);
            }
        }
        let enough = present >= 3 && f64::from(present) >= PRESENT * self.levels.len() as f64;
        let mut measured = None;
        if enough {
            // a missing member is where the others' movements have it, which a few rounds find
            for _ in 0..if self.missing.is_empty() { 1 } else { ROUNDS } {
                self.rest.clear();
                self.rest.extend(&self.off);
                for axis in &self.axes {
                    project(axis, &mut self.rest);
                }
                for at in &self.missing {
                    if let (Some(off), Some(rest)) = (self.off.get_mut(*at), self.rest.get_mut(*at)) {
                        *off -= *rest;
                        *rest = 0.0;
                    }
                }
            }
            for (rest, level) in self.rest.iter_mut().zip(&self.levels) {
                *rest = if level.count >= options.learn { *rest } else { 0.0 };
            }
            let square: f64 = self.rest.iter().map(|rest| rest * rest).sum();
            let root = (square / f64::from(present)).cbrt();
            let level = self.left.mean.max(1e-3);
            if self.left.count >= options.learn / 2 {
                let spread = self.left.spread.max(1e-3);
                measured = Some(Measured {
                    value: root.powf(1.5),
                    expected: level.powf(1.5),
                    scale: 1.5 * level.sqrt() * spread,
                    distance: self.left.distance(root, 1e-3),
                });
            }
            if !held {
                self.left.learn(root, f64::from(options.memory));
            }
        }
        if !held {
            self.follow(options);
            for (level, value) in self.levels.iter_mut().zip(values) {
                let value = usable(*value);
                if !value.is_nan() {
                    level.learn(value, f64::from(options.memory));
                }
            }
        }
        measured
    }

    /// Turns the components towards the window.
    fn follow(&mut self, options: &ComponentsOptions) {
        let known = |level: &Level| level.count >= options.learn / 2;
        let members = self.levels.iter().filter(|level| known(level)).count();
        if members < 3 {
            return;
        }
        let most = (options.components as usize).min((members - 1) / 2).max(1);
        self.clipped.clear();
        self.clipped.extend(self.off.iter().map(|off| off.clamp(-CLIP, CLIP)));
        let memory = f64::from(options.memory);
        let gain = |level: &Level| 1.0 / (f64::from(level.count.saturating_sub(options.learn / 2)) + 2.0).min(memory);
        for k in 0..most {
            if k == self.axes.len() {
                let length: f64 = self.clipped.iter().map(|x| x * x).sum();
                if length > 1e-6 {
                    self.axes.push(self.clipped.clone());
                }
                break;
            }
            let Some(axis) = self.axes.get_mut(k) else { break };
            let length = axis.iter().map(|x| x * x).sum::<f64>().sqrt();
            if length <= 1e-12 {
                axis.copy_from_slice(&self.clipped);
                break;
            }
            let along = axis.iter().zip(&self.clipped).map(|(a, x)| a * x).sum::<f64>() / length;
            for ((a, x), level) in axis.iter_mut().zip(&self.clipped).zip(&self.levels) {
                *a += gain(level) * (along * x - *a);
            }
            project(axis, &mut self.clipped);
        }
    }

    /// The group is learned anew from here on.
    pub fn accept(&mut self) {
        let n = self.levels.len();
        *self = Self::default();
        (0..n).for_each(|at| self.add(at));
    }

    /// The members with the largest part in what the last window left: each part is a share of its square, with the member's
    /// own distance in spreads.
    #[must_use]
    pub fn parts(&self) -> Vec<(usize, f64, f64)> {
        let whole: f64 = self.rest.iter().map(|rest| rest * rest).sum();
        let parts = largest(
            self.rest
                .iter()
                .enumerate()
                .map(|(at, rest)| (at, rest * rest / whole.max(f64::MIN_POSITIVE))),
        );
        let told = parts.into_iter();
        told.map(|(at, part)| (at, part, self.off.get(at).copied().unwrap_or(0.0)))
            .collect()
    }

    /// Bytes of state of a group of `n` with `k` components.
    #[must_use]
    pub const fn bytes(n: usize, k: usize) -> usize {
        n * size_of::<Level>() + n * k * size_of::<f64>()
    }
}

/// Takes away what lies along an axis.
fn project(axis: &[f64], rest: &mut [f64]) {
    let square: f64 = axis.iter().map(|a| a * a).sum();
    if square <= 1e-24 {
        return;
    }
    let along = axis.iter().zip(rest.iter()).map(|(a, x)| a * x).sum::<f64>() / square;
    for (x, a) in rest.iter_mut().zip(axis) {
        *x -= along * a;
    }
}
