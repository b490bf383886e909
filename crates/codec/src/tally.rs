//! What became of a record's samples, and the one rule for a record that holds too many.

use crate::{DecodeError, Decoded, Limits, Rejected};

/// Counts a record's samples as they are dealt with. As many as [`Limits::samples`] are taken; the first one beyond is
/// rejected with the bound, and of the others nothing is said.
#[derive(Debug)]
pub(crate) struct Tally {
    /// What became of them so far.
    pub(crate) decoded: Decoded,
    /// How many were dealt with: the number of the one at hand.
    pub(crate) index: usize,
    what: &'static str,
    most: usize,
    full: bool,
}

impl Tally {
    /// `what` a record has too many of, in the format's own word.
    pub(crate) fn new(what: &'static str, limits: &Limits) -> Self {
        Self {
            decoded: Decoded::default(),
            index: 0,
            what,
            most: limits.samples,
            full: false,
        }
    }

    /// How many more are taken.
    pub(crate) fn room(&self) -> usize {
        self.most.saturating_sub(self.index)
    }

    /// Whether the one at hand is one too many, which is reported once.
    pub(crate) fn is_beyond(&mut self) -> bool {
        if !self.full && self.room() == 0 {
            self.full = true;
            let error = DecodeError::TooLarge {
                what: format!("{} in one record", self.what),
                found: self.index + 1,
                limit: self.most,
                option: "samples",
            };
            self.file(None, error);
        }
        self.full
    }

    /// Whether there was one too many.
    pub(crate) const fn is_full(&self) -> bool {
        self.full
    }

    /// The one at hand is left out, for this reason.
    pub(crate) fn reject(&mut self, metric: Option<String>, error: DecodeError) {
        self.file(metric, error);
        self.index += 1;
    }

    fn file(&mut self, metric: Option<String>, error: DecodeError) {
        self.decoded.rejected.push(Rejected {
            index: self.index,
            at: None,
            metric,
            error,
        });
    }
}
