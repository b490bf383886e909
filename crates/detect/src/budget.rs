//! Alarms under a budget: at most so many in so long a time, whatever the series do.
//!
//! Two layers, both fed by event time alone:
//!
//! - a **tracker** keeps an account of alarms. Time pays `at_most / per` into it, an alarm takes one out, and what is left
//!   says how unlikely a window must be to be an alarm: as unlikely as the budget asks where [`PAR`] are left, less so
//!   where more are, and no window is an alarm where none is. This is online quantile tracking by integration of the error
//!   with a saturating function of it (A. Angelopoulos, E. Candès, R. Tibshirani, "Conformal PID control for time series
//!   prediction", 2023; I. Gibbs, E. Candès, "Adaptive conformal inference under distribution shift", 2021): whether the
//!   probabilities it is given are right matters for the worth of the alarms, not for their number;
//! - a **bucket** of `at_most` alarms, refilled at the same pace, behind it: what the tracker lets pass when the bucket is
//!   empty is suppressed, counted and told.
//!
//! With `r = at_most / per`, on any sequence of windows whatever: no more than `r T + PAR + 1` alarms in the first `T`, no
//! more than `r T + MOST + 1` in any span of `T` by the tracker, no more than `r T + at_most` in any span of `T` by the
//! bucket. `docs/calibration.md` has the proof.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use suture_event::{Span, Timestamp};

use crate::{Checker, Error, Problem};

/// What is in the account where a window must be as unlikely as the budget asks, and at the start.
pub(crate) const PAR: f64 = 10.0;
/// The account never holds more.
pub(crate) const MOST: f64 = 40.0;
/// A window that is no rarer than this is never an alarm.
const COMMON: f64 = 0.01;
/// Memory of the number of windows judged in a given time, in milliseconds.
const MEMORY: f64 = 86_400_000.0;
/// A step of time longer than this many usual ones is a gap, which says nothing about how often windows come.
const GAP: f64 = 60.0;

/// At most so many alarms in so long a time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlarmBudget {
    /// Alarms: the program raises about so many where there is nothing but noise, and in any span of `per` never more than
    /// twice as many, whatever there is.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub at_most: u32,
    /// The time they are counted over, such as `1w`.
    pub per: Span,
}

impl AlarmBudget {
    /// Everything that is wrong with the values, beyond their types.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        let mut check = Checker::default();
        if !(1..=1_000_000).contains(&self.at_most) {
            check.wrong(
                "at_most",
                format!("{} alarms are no budget", self.at_most),
                "write 1 to 1000000",
            );
        }
        if self.per.as_millis() <= 0 {
            check.wrong(
                "per",
                "alarms are counted over no time at all",
                "write a span such as 1w",
            );
        }
        check.found()
    }
}

/// An alarm that the budget did not let through.
#[derive(Debug, Clone, PartialEq)]
pub struct Suppressed {
    /// Row of the series in its bank.
    pub row: u32,
    /// When it would have been told.
    pub at: Timestamp,
    /// The detector that would have raised it.
    pub detector: &'static str,
    /// 1 less the probability of a window as unusual, in 0..=1.
    pub score: f64,
    /// What was measured; absent for a silent series.
    pub value: Option<f64>,
}

/// The account of one budget: that of a bank, or of a whole pipeline whose banks draw on it in turn.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    /// Alarms a millisecond.
    pace: f64,
    room: f64,
    account: f64,
    bucket: f64,
    now: i64,
    /// Windows judged and milliseconds passed, both fading, and the usual step of time.
    windows: f64,
    passed: f64,
    step: f64,
    raised: u64,
    suppressed: u64,
}

impl Budget {
    /// A full account.
    #[must_use]
    pub fn new(budget: &AlarmBudget) -> Self {
        let room = f64::from(budget.at_most);
        #[allow(clippy::cast_precision_loss)] // milliseconds of a few thousand years are exact
        let per = budget.per.as_millis().max(1) as f64;
        Self {
            pace: room / per,
            room,
            account: PAR,
            bucket: room,
            now: i64::MIN,
            windows: 0.0,
            passed: 0.0,
            step: 0.0,
            raised: 0,
            suppressed: 0,
        }
    }

    /// Alarms raised so far.
    #[must_use]
    pub fn raised(&self) -> u64 {
        self.raised
    }

    /// Alarms suppressed so far; windows in a row of one series count once.
    #[must_use]
    pub fn suppressed(&self) -> u64 {
        self.suppressed
    }

    /// Lets time go on to `end`, in milliseconds since the epoch; a clock that steps back stands still here.
    pub(crate) fn advance(&mut self, end: i64) {
        if self.now == i64::MIN {
            self.now = end;
            return;
        }
        #[allow(clippy::cast_precision_loss)]
        let by = end.saturating_sub(self.now) as f64;
        if by <= 0.0 {
            return;
        }
        self.now = end;
        let paid = self.pace * by;
        self.account = (self.account + paid).min(MOST);
        self.bucket = (self.bucket + paid).min(self.room);
        let gap = self.step > 0.0 && by > GAP * self.step;
        let seen = if self.step > 0.0 { by.min(4.0 * self.step) } else { by };
        self.step += 0.02 * (seen - self.step) + if self.step == 0.0 { 0.98 * seen } else { 0.0 };
        if !gap {
            let left = (-by / MEMORY).exp();
            self.windows *= left;
            self.passed = self.passed * left + MEMORY * (1.0 - left);
        }
    }

    /// One more window of a series is judged. Gives the probability below which it is an alarm.
    pub(crate) fn level(&mut self) -> f64 {
        self.windows += 1.0;
        if self.account <= 0.0 {
            return 0.0;
        }
        let share = self.account / PAR;
        (self.pace * self.passed / self.windows * share * share * share).min(COMMON)
    }

    /// Asks for an alarm. Where the answer is no it is suppressed, and `again` says whether that was already counted.
    pub(crate) fn take(&mut self, again: bool) -> bool {
        if self.bucket < 1.0 {
            self.suppressed += u64::from(!again);
            return false;
        }
        self.bucket -= 1.0;
        self.account -= 1.0;
        self.raised += 1;
        true
    }

    /// The account as text, for a snapshot.
    #[must_use]
    pub fn save(&self) -> String {
        let Self {
            account,
            bucket,
            now,
            windows,
            passed,
            step,
            raised,
            suppressed,
            ..
        } = self;
        format!("{account:?} {bucket:?} {now} {windows:?} {passed:?} {step:?} {raised} {suppressed}")
    }

    /// The account of `budget` as [`Self::save`] wrote it.
    ///
    /// # Errors
    /// [`Error::Snapshot`] where the text is no account.
    pub fn load(budget: &AlarmBudget, text: &str) -> Result<Self, Error> {
        let wrong = || Error::Snapshot(format!("{text:?} is no account of alarms"));
        let mut words = text.split(' ');
        let mut word = || words.next().ok_or_else(wrong);
        let real = |text: &str| text.parse::<f64>().map_err(|_| wrong());
        let count = |text: &str| text.parse::<u64>().map_err(|_| wrong());
        let mut next = Self::new(budget);
        next.account = real(word()?)?;
        next.bucket = real(word()?)?.min(next.room);
        next.now = word()?.parse().map_err(|_| wrong())?;
        next.windows = real(word()?)?;
        next.passed = real(word()?)?;
        next.step = real(word()?)?;
        next.raised = count(word()?)?;
        next.suppressed = count(word()?)?;
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WEEK: i64 = 7 * 86_400_000;

    fn five_a_week() -> AlarmBudget {
        AlarmBudget {
            at_most: 5,
            per: Span::from_millis(WEEK),
        }
    }

    /// Feeds probabilities at times; gives the times of the alarms.
    fn run(budget: &mut Budget, windows: &[(i64, f64)]) -> Vec<i64> {
        let mut alarms = vec![];
        for &(at, p) in windows {
            budget.advance(at);
            if p < budget.level() && budget.take(false) {
                alarms.push(at);
            }
        }
        alarms
    }

    /// No span holds more alarms than it may, by the bucket; nor do the first `T` by the tracker.
    fn hold(alarms: &[i64], begin: i64) {
        let pace = 5.0 / WEEK as f64;
        for (i, from) in alarms.iter().enumerate() {
            for (k, to) in alarms.iter().enumerate().skip(i) {
                let (n, span) = ((k - i + 1) as f64, (to - from) as f64);
                assert!(n <= pace * span + 5.0 + 1e-6, "{n} alarms within {span} ms");
            }
            let (n, since) = ((i + 1) as f64, (from - begin) as f64);
            assert!(
                n <= pace * since + PAR + 1.0 + 1e-6,
                "{n} alarms in the first {since} ms"
            );
        }
    }

    #[test]
    fn a_storm_gets_what_the_bucket_holds() {
        let mut budget = Budget::new(&five_a_week());
        let windows: Vec<_> = (0..3 * 10_080).map(|i| (i * 60_000, 0.0)).collect();
        let alarms = run(&mut budget, &windows);
        hold(&alarms, 0);
        assert_eq!(alarms.len(), 5 + 14, "five at once, then one as each is paid for");
        assert!(budget.suppressed() > 1_000);
    }

    #[test]
    fn uniform_probabilities_give_what_was_asked() {
        let mut state = 1u64;
        let mut uniform = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
        };
        // right, ten times too small, ten times too large
        for power in [1.0, 1.3, 0.77] {
            let mut budget = Budget::new(&five_a_week());
            let windows: Vec<_> = (0..40 * 10_080).map(|i| (i * 60_000, uniform().powf(power))).collect();
            let alarms = run(&mut budget, &windows);
            hold(&alarms, 0);
            let later = alarms.iter().filter(|at| **at >= 10 * WEEK).count();
            assert!((135..=165).contains(&later), "{later} in thirty weeks");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// An adversary that picks every time and every probability gets no more than that.
        #[test]
        fn the_bounds_hold_on_any_sequence(
            steps in prop::collection::vec((prop_oneof![
                4 => 0..120_000i64,
                2 => -3_600_000..3_600_000i64,
                1 => 0..2 * WEEK,
                1 => Just(52 * WEEK),
            ], prop_oneof![3 => Just(0.0), 1 => 0.0..1.0f64, 1 => 0.0..1e-3f64, 1 => Just(f64::NAN)]), 1..400),
        ) {
            let mut budget = Budget::new(&five_a_week());
            // what counts is the time that the budget saw: the latest
            let (mut at, mut latest) = (0i64, 0i64);
            let mut windows = vec![(0, 1.0)];
            for (by, p) in steps {
                at += by;
                latest = latest.max(at);
                windows.push((latest, p));
            }
            let alarms = run(&mut budget, &windows);
            hold(&alarms, 0);
            let mut budget = Budget::new(&five_a_week());
            // and a save between any two windows changes nothing
            let mut again = vec![];
            for window in &windows {
                again.extend(run(&mut budget, &[*window]));
                budget = Budget::load(&five_a_week(), &budget.save()).unwrap();
            }
            prop_assert_eq!(alarms, again);
        }
    }

    #[test]
    fn a_text_that_is_no_account_is_refused() {
        for text in ["", "1 2 3", "a b c d e f g h"] {
            assert!(Budget::load(&five_a_week(), text).is_err());
        }
    }
}
