//! Categories that were never there before.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use suture_event::Span;

use crate::{Checker, Problem};

/// Windows over which is counted how often a new category comes.
const MEMORY: f64 = 10_000.0;
/// New categories of one anomaly that are followed.
const OPEN: usize = 64;

/// A new value of a label: a client, a place, a kind of call that never was there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NoveltyOptions {
    /// The label whose values count; of several, their values together.
    pub labels: Vec<String>,
    /// How long values are learned before a new one is told.
    pub learn: Span,
    /// A window with a new value is an anomaly where it is less likely than this: once in so many windows there was one. It
    /// stands in for `detect.alarm`, as the probability of what never happened is no less than one by the windows seen.
    pub alarm: f64,
    /// Values known of one group. Beyond it the one that was not seen for the longest is forgotten, and new again when it
    /// comes back.
    pub values: u32,
    /// A value not seen for so long is forgotten, and new again when it comes back.
    pub forget_after: Span,
}

impl Default for NoveltyOptions {
    fn default() -> Self {
        Self {
            labels: Vec::new(),
            learn: Span::from_hours(24),
            alarm: 1e-3,
            values: 10_000,
            forget_after: Span::from_hours(30 * 24),
        }
    }
}

impl NoveltyOptions {
    /// Everything that is wrong with the values, beyond their types.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        let mut check = Checker::default();
        check.that(
            !self.labels.is_empty(),
            "labels",
            "no label has values",
            "name one, such as client",
        );
        check.that(
            self.learn >= Span::ZERO,
            "learn",
            "time does not run backwards",
            "write a span such as 1d",
        );
        check.that(
            self.alarm > 1e-4 && self.alarm < 1.0,
            "alarm",
            "ten thousand windows are remembered, so nothing is less likely than 1e-4",
            "write a number above 1e-4 and below 1, such as 1e-3",
        );
        check.that(
            (1..=1_000_000).contains(&self.values),
            "values",
            "so many values cannot be known",
            "write 1 to 1000000",
        );
        check.that(
            self.forget_after > self.learn,
            "forget_after",
            "values would be forgotten before they are learned",
            "write a longer span than learn",
        );
        check.found()
    }
}

/// What a window's categories say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Novel {
    /// New categories of this window.
    pub new: usize,
    /// Probability of a window with any, by how often there was one of late; 1 where there is none and where those of
    /// before are gone.
    pub probability: f64,
    /// New categories of the anomaly that is open, this window's included.
    pub open: usize,
    /// New categories a window, of late.
    pub usual: f64,
    /// Windows behind that.
    pub windows: f64,
}

/// The categories of one group, each by a hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Novelty {
    /// Hashes, ascending, each with the end of the window it was seen last in.
    known: Vec<(u64, i64)>,
    first: i64,
    windows: f64,
    /// Windows with a new category, and new categories, both fading.
    with: f64,
    new: f64,
    /// Those that are new in what is open, and the probability told of them.
    open: Vec<u64>,
    probability: f64,
    #[serde(skip)]
    fresh: Vec<u64>,
}

impl Default for Novelty {
    fn default() -> Self {
        Self {
            known: Vec::new(),
            first: i64::MIN,
            windows: 0.0,
            with: 0.0,
            new: 0.0,
            open: Vec::new(),
            probability: 1.0,
            fresh: Vec::new(),
        }
    }
}

impl Novelty {
    /// Takes in the categories seen in a window that ends at `end`, each once, in any order. `held` is whether an anomaly is
    /// open. `None` while categories are still learned.
    pub fn update(&mut self, options: &NoveltyOptions, end: i64, seen: &[u64], held: bool) -> Option<Novel> {
        if self.first == i64::MIN {
            self.first = end;
        }
        let oldest = end.saturating_sub(options.forget_after.as_millis());
        self.fresh.clear();
        for hash in seen {
            match self.known.binary_search_by_key(hash, |(known, _)| *known) {
                Ok(at) => {
                    if let Some((_, last)) = self.known.get_mut(at) {
                        if *last < oldest {
                            self.fresh.push(*hash);
                        }
                        *last = end.max(*last);
                    }
                }
                Err(_) => self.fresh.push(*hash),
            }
        }
        self.fresh.sort_unstable();
        for at in 0..self.fresh.len() {
            if let Some(hash) = self.fresh.get(at).copied() {
                self.remember(options, hash, end);
            }
        }
        let new = self.fresh.len();
        let probability = (self.with + 1.0) / (self.windows + 2.0);
        let usual = self.new / self.windows.max(1.0);
        let fade = 1.0 - 1.0 / MEMORY;
        self.windows = self.windows * fade + 1.0;
        self.with = self.with * fade + if new > 0 { 1.0 } else { 0.0 };
        #[allow(clippy::cast_precision_loss)] // a count of values
        let count = new as f64;
        self.new = self.new * fade + count;
        if end.saturating_sub(self.first) < options.learn.as_millis() {
            // what comes while learning is not rare
            (self.with, self.new) = (0.0, 0.0);
            return None;
        }
        if !held {
            self.open.clear();
            self.probability = probability;
        }
        let again = held && seen.iter().any(|hash| self.open.contains(hash));
        for hash in &self.fresh {
            if self.open.len() < OPEN {
                self.open.push(*hash);
            }
        }
        Some(Novel {
            new,
            probability: if new > 0 && !held {
                probability
            } else if new > 0 || again {
                self.probability
            } else {
                1.0
            },
            open: self.open.len(),
            usual,
            windows: self.windows,
        })
    }

    fn remember(&mut self, options: &NoveltyOptions, hash: u64, end: i64) {
        let Err(at) = self.known.binary_search_by_key(&hash, |(known, _)| *known) else {
            return;
        };
        self.known.insert(at, (hash, end));
        if self.known.len() > options.values as usize {
            // one of this window is not forgotten for another of it, unless there is nothing else
            let oldest = self
                .known
                .iter()
                .enumerate()
                .min_by_key(|(_, (hash, last))| (*last, *hash));
            if let Some((at, _)) = oldest {
                self.known.remove(at);
            }
        }
    }

    /// Whether a category is among the new ones of the window before.
    #[must_use]
    pub fn is_new(&self, hash: u64) -> bool {
        self.fresh.binary_search(&hash).is_ok()
    }

    /// Categories known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    fn options() -> NoveltyOptions {
        NoveltyOptions {
            labels: vec!["client".into()],
            learn: Span::from_hours(2),
            values: 4,
            ..NoveltyOptions::default()
        }
    }

    #[test]
    fn a_new_one_is_rarer_the_longer_there_was_none() {
        let (options, mut novelty) = (options(), Novelty::default());
        for minute in 0..3_000 {
            let novel = novelty.update(&options, minute * MINUTE, &[1, 2], false);
            assert_eq!(novel.is_none(), minute < 120);
            assert!(novel.is_none_or(|novel| novel.probability == 1.0));
        }
        let novel = novelty.update(&options, 3_000 * MINUTE, &[2, 7, 1], false).unwrap();
        assert!(novel.new == 1 && novelty.is_new(7) && !novelty.is_new(2));
        assert!((1e-4..1e-3).contains(&novel.probability), "{novel:?}");
        // the second within the hour is no longer that rare
        let next = novelty.update(&options, 3_001 * MINUTE, &[8], false).unwrap();
        assert!(next.probability > 1.5 * novel.probability, "{next:?}");
    }

    #[test]
    fn what_is_open_goes_on_while_its_values_are_seen() {
        let (options, mut novelty) = (options(), Novelty::default());
        for minute in 0..500 {
            novelty.update(&options, minute * MINUTE, &[1], false);
        }
        let first = novelty.update(&options, 500 * MINUTE, &[1, 9], false).unwrap();
        let again = novelty.update(&options, 501 * MINUTE, &[9], true).unwrap();
        let more = novelty.update(&options, 502 * MINUTE, &[5], true).unwrap();
        let gone = novelty.update(&options, 503 * MINUTE, &[1], true).unwrap();
        assert_eq!(again.probability, first.probability);
        assert_eq!((again.open, more.open, gone.probability), (1, 2, 1.0));
    }

    #[test]
    fn at_the_bound_the_one_not_seen_for_the_longest_is_forgotten() {
        let (options, mut novelty) = (options(), Novelty::default());
        for (minute, hash) in (0..).zip([1, 2, 3, 4, 1, 5]) {
            novelty.update(&options, minute * MINUTE, &[hash], false);
        }
        assert_eq!(novelty.len(), 4);
        // 2 gave way, 1 was seen again
        novelty.update(&options, 10 * MINUTE, &[1], false);
        assert!(!novelty.is_new(1));
        novelty.update(&options, 11 * MINUTE, &[2], false);
        assert!(novelty.is_new(2) && novelty.len() == 4);
    }
}
