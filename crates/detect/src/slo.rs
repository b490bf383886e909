//! How fast an error budget burns, over several windows of time.
//!
//! An objective of 99.9% over 30 days allows a thousandth of the events to be bad. The burn rate is how many times faster
//! than that they are bad now: at 1 the budget lasts just the period, at 14.4 a fiftieth of it goes in an hour. An alarm
//! needs a long window of time, for it to matter, and a short one, for it to be still going on (B. Beyer et al., "The Site
//! Reliability Workbook", 2018, chapter 5). To that comes how likely so many bad events are where the budget burns at pace
//! 1, by Poisson's law: one failure among ten requests at night burns at 100 and shows nothing.
//!
//! Each window of time is kept in 60 slots: 8 KB a series, 0.5 µs an update, whatever the spans.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use statrs::function::gamma::gamma_lr;
use suture_event::Span;

use crate::{Checker, Problem, words::number};

/// Slots of one window of time.
const SLOTS: usize = 60;
const AS_MANY: i64 = 60;

/// A long and a short window of time, and the burn rate that is too high over both.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BurnWindow {
    /// Over this long, so that it matters.
    pub long: Span,
    /// And over this long, so that it is still going on.
    pub short: Span,
    /// Times the pace at which the budget lasts the period.
    pub burn: f64,
}

/// How fast an error budget burns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SloOptions {
    /// The share of events that should be good, such as 0.999.
    pub objective: f64,
    /// The time over which that is promised.
    pub period: Span,
    /// Windows of time, any of which raises an alarm.
    pub windows: Vec<BurnWindow>,
}

impl Default for SloOptions {
    fn default() -> Self {
        let window = |long, short, burn| BurnWindow { long, short, burn };
        Self {
            objective: 0.999,
            period: Span::from_hours(30 * 24),
            windows: vec![
                window(Span::from_hours(1), Span::from_mins(5), 14.4),
                window(Span::from_hours(6), Span::from_mins(30), 6.0),
                window(Span::from_hours(3 * 24), Span::from_hours(6), 1.0),
            ],
        }
    }
}

impl SloOptions {
    /// Everything that is wrong with the values, beyond their types.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        let mut check = Checker::default();
        if !(self.objective > 0.0 && self.objective < 1.0) {
            let message = format!("{} is no share of good events that leaves a budget", self.objective);
            check.wrong("objective", message, "write a number between 0 and 1, such as 0.999");
        }
        if self.windows.is_empty() || self.windows.len() > 8 {
            let message = format!("{} windows of time cannot be watched", self.windows.len());
            check.wrong("windows", message, "write 1 to 8");
        }
        for (i, window) in self.windows.iter().enumerate() {
            if window.short <= Span::ZERO || window.short >= window.long {
                let message = format!("{} is not shorter than {}", window.short, window.long);
                let help = "a twelfth of the long one is usual: 5m beside 1h";
                check.wrong(format!("windows[{i}].short"), message, help);
            }
            if window.long > self.period {
                let message = format!("{} is longer than the period, {}", window.long, self.period);
                check.wrong(format!("windows[{i}].long"), message, "write at most the period");
            }
            if !(window.burn > 0.0 && window.burn.is_finite()) {
                let message = format!("nothing burns {} times as fast", window.burn);
                check.wrong(
                    format!("windows[{i}].burn"),
                    message,
                    "write a positive number, such as 14.4",
                );
            } else if self.objective > 0.0 && window.burn * (1.0 - self.objective) >= 1.0 {
                let message = format!(
                    "were every event bad, the budget of {} would burn {} times as fast, which never is beyond {}",
                    number(1.0 - self.objective),
                    number(1.0 / (1.0 - self.objective)),
                    window.burn
                );
                check.wrong(format!("windows[{i}].burn"), message, "write a smaller number");
            }
        }
        check.found()
    }
}

/// Bad events and all events of the slots of one window of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Ring {
    /// Length of a slot in milliseconds.
    slot: i64,
    /// Number of the newest slot.
    newest: i64,
    bad: Vec<f64>,
    all: Vec<f64>,
}

impl Ring {
    fn new(span: Span) -> Self {
        Self {
            slot: (span.as_millis() / AS_MANY).max(1),
            newest: i64::MIN,
            bad: vec![0.0; SLOTS],
            all: vec![0.0; SLOTS],
        }
    }

    /// Lets time go on to the slot of `end`, a window's end, which belongs to what came before it.
    fn advance(&mut self, end: i64) {
        let slot = end.saturating_sub(1).div_euclid(self.slot);
        if self.newest == i64::MIN {
            self.newest = slot;
        }
        let by = slot.saturating_sub(self.newest);
        if by >= AS_MANY {
            self.bad.fill(0.0);
            self.all.fill(0.0);
        } else {
            for step in 1..=by {
                let at = Self::place(self.newest.saturating_add(step));
                if let (Some(bad), Some(all)) = (self.bad.get_mut(at), self.all.get_mut(at)) {
                    (*bad, *all) = (0.0, 0.0);
                }
            }
        }
        self.newest = self.newest.max(slot);
    }

    #[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation)] // a remainder below 60
    fn place(slot: i64) -> usize {
        slot.rem_euclid(AS_MANY) as usize
    }

    fn add(&mut self, bad: f64, all: f64) {
        let at = Self::place(self.newest);
        if let (Some(b), Some(a)) = (self.bad.get_mut(at), self.all.get_mut(at)) {
            *b = (*b + bad).min(f64::MAX);
            *a = (*a + all).min(f64::MAX);
        }
    }

    fn sums(&self) -> (f64, f64) {
        let sum = |slots: &[f64]| slots.iter().sum::<f64>().min(f64::MAX);
        (sum(&self.bad), sum(&self.all))
    }
}

/// What a window of events says about the budget.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Burn {
    /// Which of the options' windows it is about: the first that burns too fast, or else the one nearest to its limit.
    pub window: usize,
    /// Burn rate over its long window of time, and over its short one.
    pub rates: (f64, f64),
    /// The burn rate that is too high over both.
    pub limit: f64,
    /// Whether it is too high over both.
    pub burns: bool,
    /// Probability of as many bad events over the long window of time where the budget burns at pace 1; 1 where it does
    /// not burn too fast.
    pub probability: f64,
    /// Bad events and all events over the long window of time.
    pub events: (f64, f64),
    /// Share of the period's budget that is left; below 0 where it is overspent.
    pub left: f64,
    /// How long it lasts at the pace of the long window of time; absent where it lasts longer than the period, or is spent.
    pub lasts: Option<Span>,
}

/// The error budget of one objective.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slo {
    rings: Vec<(Ring, Ring)>,
    period: Ring,
    first: i64,
}

impl Slo {
    /// A whole budget.
    #[must_use]
    pub fn new(options: &SloOptions) -> Self {
        let pair = |window: &BurnWindow| (Ring::new(window.long), Ring::new(window.short));
        Self {
            rings: options.windows.iter().map(pair).collect(),
            period: Ring::new(options.period),
            first: i64::MIN,
        }
    }

    /// Takes in the events of one window from `start` to `end`, in milliseconds since the epoch. `counted` is whether they
    /// are numbers of events: a mere share of bad ones says nothing about chance. Counts that are not finite or below 0 are
    /// none. `None` until there was an event.
    pub fn update(
        &mut self,
        options: &SloOptions,
        (start, end): (i64, i64),
        (bad, all): (f64, f64),
        counted: bool,
    ) -> Option<Burn> {
        let whole = |count: f64| {
            if count.is_finite() {
                count.clamp(0.0, 1e200)
            } else {
                0.0
            }
        };
        let all = whole(all);
        let bad = whole(bad).min(all);
        if self.first == i64::MIN {
            self.first = start;
        }
        let rings = self.rings.iter_mut().flat_map(|(long, short)| [long, short]);
        for ring in rings.chain([&mut self.period]) {
            ring.advance(end);
            ring.add(bad, all);
        }
        let allowed = 1.0 - options.objective;
        let seen = end.saturating_sub(self.first).max(1) as f64;
        let mut worst: Option<(f64, Burn)> = None;
        for (window, ((long, short), limits)) in self.rings.iter().zip(&options.windows).enumerate() {
            let (events, recent) = (long.sums(), short.sums());
            if events.1 <= 0.0 {
                continue;
            }
            // of what was not seen yet nothing has burnt
            let part = |span: Span| (seen / span.as_millis() as f64).min(1.0);
            let rate = |(bad, all): (f64, f64), span| {
                if all > 0.0 {
                    bad / all / allowed * part(span)
                } else {
                    0.0
                }
            };
            let rates = (rate(events, limits.long), rate(recent, limits.short));
            let burns = rates.0 >= limits.burn && rates.1 >= limits.burn;
            let share = rates.0.min(rates.1) / limits.burn;
            // of those that burn the first one written, of the others the one nearest to it
            let worse = |(most, known): &(f64, Burn)| !known.burns && (burns || share > *most);
            if !worst.as_ref().is_none_or(worse) {
                continue;
            }
            let probability = match (burns, counted) {
                (false, _) => 1.0,
                (true, true) => poisson(events.0, events.1 * allowed),
                (true, false) => 0.0,
            };
            let burn = Burn {
                window,
                rates,
                limit: limits.burn,
                burns,
                probability,
                events,
                left: 1.0,
                lasts: None,
            };
            worst = Some((share, burn));
        }
        let (_, mut burn) = worst?;
        let (bad, all) = self.period.sums();
        let period = options.period.as_millis() as f64;
        // what the whole period would hold at the traffic seen
        let budget = allowed * all * (period / seen.min(period));
        burn.left = if budget > 0.0 { 1.0 - bad / budget } else { 1.0 };
        let lasts = burn.left * period / burn.rates.0;
        #[allow(clippy::cast_possible_truncation)] // less than the period
        if lasts > 0.0 && lasts < period {
            burn.lasts = Some(Span::from_millis(lasts as i64));
        }
        Some(burn)
    }

    /// Bytes of state of one objective with so many pairs of windows.
    #[must_use]
    pub const fn bytes(windows: usize) -> usize {
        (2 * windows + 1) * (SLOTS * 2 * size_of::<f64>() + size_of::<Ring>())
    }
}

impl Burn {
    /// What it means, in words with the numbers.
    #[must_use]
    pub fn words(&self, options: &SloOptions) -> String {
        let Some(window) = options.windows.get(self.window) else {
            return String::new();
        };
        let left = if self.left > 0.0 {
            let end = self.lasts.map_or_else(
                || format!("lasts the {}", options.period),
                |lasts| format!("is gone in {} at this pace", rounded(lasts)),
            );
            format!("{}% of the budget is left and {end}", number(100.0 * self.left))
        } else {
            format!("the budget is overspent by {}%", number(-100.0 * self.left))
        };
        format!(
            "the error budget burns {} times as fast as it may over {} and {} times over {}, at most {} is allowed: {}% bad \
             of {}, {}% over {} are promised good; {left}",
            number(self.rates.0),
            window.long,
            number(self.rates.1),
            window.short,
            number(self.limit),
            number(100.0 * self.events.0 / self.events.1.max(f64::MIN_POSITIVE)),
            number(self.events.1),
            number(100.0 * options.objective),
            options.period,
        )
    }
}

/// Probability of at least so many events where so many are expected.
fn poisson(events: f64, expected: f64) -> f64 {
    // a share of an event is none
    let events = events.floor();
    if events < 1.0 || expected <= 0.0 {
        return if events < 1.0 { 1.0 } else { 0.0 };
    }
    // beyond this the normal law says the same, and the series takes too long
    if events > 1e5 {
        let z = (events - 0.5 - expected) / expected.sqrt();
        return 0.5 * statrs::function::erf::erfc(z / std::f64::consts::SQRT_2);
    }
    gamma_lr(events, expected)
}

/// A span in whole minutes, or as it is where that is less than ten of them.
fn rounded(span: Span) -> Span {
    let minutes = span.as_millis() / 60_000;
    match minutes {
        0..10 => span,
        10..600 => Span::from_mins(minutes),
        _ => Span::from_hours(minutes / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    fn run(minutes: impl Iterator<Item = (f64, f64)>) -> Vec<Burn> {
        let options = SloOptions::default();
        let mut slo = Slo::new(&options);
        let each = (0..).zip(minutes).filter_map(|(i, events)| {
            let start: i64 = i * MINUTE;
            slo.update(&options, (start, start + MINUTE), events, true)
        });
        each.collect()
    }

    #[test]
    fn a_steady_burn_is_what_it_is_and_only_both_windows_together_count() {
        // two hours at pace 0.5, then 2% bad: twenty times the pace
        let burns = run((0..240).map(|i| (if i < 120 { 0.5 } else { 20.0 }, 1_000.0)));
        assert!(burns[..120].iter().all(|b| !b.burns && b.probability == 1.0));
        assert!((burns[100].rates.0 - 0.5).abs() < 1e-9, "{:?}", burns[100]);
        // 43 minutes of 20 and 17 of 0.5 are 14.4 and more over the hour
        let first = burns.iter().position(|b| b.burns).unwrap();
        assert!((161..=165).contains(&first), "{first}");
        assert_eq!((burns[first].window, burns[first].limit), (0, 14.4));
        assert!(burns[first].probability < 1e-12);
        assert!((burns[239].rates.0 - 20.0).abs() < 1e-6);
    }

    #[test]
    fn it_ends_soon_after_the_errors_do() {
        let burns = run((0..300).map(|i| (if (100..220).contains(&i) { 50.0 } else { 0.0 }, 1_000.0)));
        let last = burns.iter().rposition(|b| b.burns && b.window == 0).unwrap();
        assert!((219..=226).contains(&last), "{last}");
        assert!(!burns[260].burns || burns[260].window > 0);
    }

    #[test]
    fn chance_at_night_is_no_alarm() {
        // a request a minute, one of them bad: a burn of hundreds, and nothing to go by
        let burns = run((0..120).map(|i| (f64::from(i == 100), 1.0)));
        let worst = burns
            .iter()
            .filter(|b| b.burns)
            .map(|b| b.probability)
            .fold(1.0, f64::min);
        assert!(worst > 0.001 && burns.iter().any(|b| b.burns), "{worst}");
    }

    #[test]
    fn what_is_left_adds_up() {
        // 10% of a budget of 30 days in three hours: a burn of 24
        let burns = run((0..30 * 24 * 60).map(|i| (if (40_000..40_180).contains(&i) { 24.0 } else { 0.0 }, 1_000.0)));
        let at = burns[40_179];
        assert!((at.left - 0.9).abs() < 0.02, "{at:?}");
        let words = at.words(&SloOptions::default());
        for part in ["24 times as fast", "1h", "14.4", "2.4% bad of 60000", "99.9% over 30d"] {
            assert!(words.contains(part), "{words} lacks {part}");
        }
        assert!(
            words.contains("is gone in 27h") || words.contains("is gone in 1d"),
            "{words}"
        );
    }

    #[test]
    fn numbers_that_cannot_be_change_nothing() {
        let options = SloOptions::default();
        let mut slo = Slo::new(&options);
        let odd = [
            (f64::NAN, 5.0),
            (3.0, f64::INFINITY),
            (-1.0, -7.0),
            (1e300, 1e300),
            (1e-300, 1e-300),
        ];
        for (i, pair) in (0..).zip(odd) {
            let start: i64 = i * MINUTE;
            if let Some(burn) = slo.update(&options, (start, start + MINUTE), pair, true) {
                assert!(burn.rates.0.is_finite() && burn.left.is_finite() && (0.0..=1.0).contains(&burn.probability));
            }
        }
        // a year's gap empties everything; a clock that steps back does no harm
        let year = 366 * 86_400_000;
        let burn = slo.update(&options, (year, year + MINUTE), (0.0, 10.0), true).unwrap();
        assert_eq!((burn.events, burn.burns), ((0.0, 10.0), false));
        slo.update(&options, (5, 6), (1.0, 1.0), true);
    }

    #[test]
    fn objectives_that_cannot_be_are_told() {
        let options = SloOptions {
            objective: 0.9,
            ..SloOptions::default()
        };
        assert_eq!(options.validate()[0].path, "windows[0].burn");
        assert!(SloOptions::default().validate().is_empty());
    }
}
