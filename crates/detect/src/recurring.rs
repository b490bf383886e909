//! What comes back at its hour: a job, a backup, the edge of a working day that no profile draws sharply enough.
//!
//! Of each series that had anomalies the last few are kept: when they began, how long they lasted, how far the series was off
//! and on which side. One that has come twice, a whole number of days apart, is expected the third time: for as long as it
//! lasts and as far as it goes it is no news. It matters in few windows and what it does is not learned, which is why the
//! season's profile never shows it. Whatever comes at another hour, lasts longer or goes further is told as ever.
//!
//! A series without anomalies has nothing here; others have at most [`MOST`] of them, of 40 bytes.

use std::collections::BTreeMap;

use crate::{
    Error, Options,
    state::{Columns, from_lists, lists},
};

const MINUTE: i64 = 60_000;
const DAY: i64 = 1_440 * MINUTE;
/// What is kept of a series.
const MOST: usize = 8;
/// Days after which a daily thing comes back, at most: over a weekend. A weekly one comes every week or every second one.
const DAYS: i64 = 3;
const WEEKS: [i64; 2] = [7, 14];
/// It may be left out so often before it comes back.
const TIMES: i64 = 3;
/// It comes this much sooner or later, or by two windows where those are longer.
const EARLY: i64 = 30 * MINUTE;
/// It lasts up to so many times as long, and goes up to so many times as far, as before.
const LONGER: i64 = 2;
const FURTHER: f64 = 1.5;
/// Things of which one is so many times as far off as the other are not the same.
const ALIKE: f64 = 3.0;

/// One anomaly, as far as it may come back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Occurrence {
    pub(crate) onset: i64,
    /// Milliseconds.
    pub(crate) lasts: i64,
    /// How far off it was, in units of the series.
    pub(crate) size: f64,
    /// 1 above, 2 below.
    pub(crate) side: u8,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Known {
    last: Occurrence,
    /// Days between the last two; 0 where there was one alone.
    gap: i64,
}

/// Until when something is expected to last, and how far it goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bounds {
    pub(crate) until: i64,
    pub(crate) size: f64,
}

#[derive(Debug, Default)]
pub(crate) struct Recurring {
    of: BTreeMap<u32, Vec<Known>>,
    daily: bool,
    weekly: bool,
}

/// Numbers of one thing in a snapshot.
const NUMBERS: usize = 5;

impl Known {
    #[allow(clippy::cast_precision_loss)] // times within 200,000 years
    fn numbers(&self) -> [f64; NUMBERS] {
        let last = self.last;
        [
            last.onset as f64,
            last.lasts as f64,
            last.size,
            last.side.into(),
            self.gap as f64,
        ]
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // as they were written
    fn from_numbers(n: &[f64]) -> Option<Self> {
        let &[onset, lasts, size, side, gap] = n else {
            return None;
        };
        Some(Self {
            last: Occurrence {
                onset: onset as i64,
                lasts: lasts as i64,
                size,
                side: side as u8,
            },
            gap: gap as i64,
        })
    }

    /// Days from the last time to `onset`, where that is a whole number of them.
    fn days_to(&self, onset: i64, width: i64) -> Option<i64> {
        let passed = onset.saturating_sub(self.last.onset);
        let days = (passed + DAY / 2).div_euclid(DAY);
        let early = EARLY.max(width.saturating_mul(2));
        (days > 0 && (passed - days * DAY).abs() <= early).then_some(days)
    }
}

impl Recurring {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            of: BTreeMap::new(),
            daily: options.season.daily,
            weekly: options.season.weekly,
        }
    }

    fn comes_after(&self, days: i64) -> bool {
        self.daily && days <= DAYS || self.weekly && WEEKS.contains(&days)
    }

    /// Keeps an anomaly that is over. `width` is that of a window, in milliseconds.
    pub(crate) fn note(&mut self, row: u32, it: Occurrence, width: i64) {
        if !(self.daily || self.weekly) || !it.size.is_finite() || it.size <= 0.0 {
            return;
        }
        let alike = |known: &Known| {
            let (last, more) = (known.last, LONGER * it.lasts.max(width) + EARLY);
            let far = (it.size / last.size).max(last.size / it.size);
            last.side == it.side && far <= ALIKE && last.lasts <= more && it.lasts <= LONGER * last.lasts + EARLY
        };
        let again = self.of.get(&row).into_iter().flatten().position(|known| {
            let days = known.days_to(it.onset, width);
            alike(known) && days.is_some_and(|days| self.comes_after(days) || self.is_due(known, days))
        });
        let kept = self.of.entry(row).or_default();
        match again.and_then(|at| kept.get_mut(at)) {
            Some(known) => {
                let days = known.days_to(it.onset, width).unwrap_or(0);
                // left out once or twice it comes as often as before
                if known.gap == 0 || days % known.gap != 0 {
                    known.gap = days;
                }
                let (last, mean) = (known.last, |a: i64, b: i64| a / 2 + b / 2);
                known.last = Occurrence {
                    lasts: mean(last.lasts, it.lasts).max(it.lasts.min(last.lasts)),
                    size: f64::midpoint(last.size, it.size),
                    ..it
                };
            }
            None => {
                if kept.len() >= MOST
                    && let Some(oldest) = (0..kept.len()).min_by_key(|at| kept[*at].last.onset)
                {
                    kept.remove(oldest);
                }
                kept.push(Known { last: it, gap: 0 });
            }
        }
    }

    fn is_due(&self, known: &Known, days: i64) -> bool {
        known.gap > 0 && days % known.gap == 0 && days / known.gap <= TIMES
    }

    /// Whether what begins now is expected, and if so within which bounds.
    pub(crate) fn expects(&self, row: u32, it: Occurrence, width: i64) -> Option<Bounds> {
        let early = EARLY.max(width.saturating_mul(2));
        self.of.get(&row)?.iter().find_map(|known| {
            let days = known.days_to(it.onset, width)?;
            let size = FURTHER * known.last.size;
            let due = self.is_due(known, days) && known.last.side == it.side && it.size <= size;
            due.then(|| Bounds {
                until: it
                    .onset
                    .saturating_add(LONGER * known.last.lasts.max(width))
                    .saturating_add(early),
                size,
            })
        })
    }

    pub(crate) fn forget(&mut self, row: u32) {
        self.of.remove(&row);
    }

    pub(crate) fn adopt(&mut self, row: u32, from: &Self, from_row: u32) {
        match from.of.get(&from_row) {
            Some(known) => self.of.insert(row, known.clone()),
            None => self.of.remove(&row),
        };
    }

    /// What is expected of a series, in words.
    pub(crate) fn words(&self, row: u32) -> Option<String> {
        let due = self.of.get(&row)?.iter().filter(|known| known.gap > 0);
        let texts: Vec<String> = due
            .map(|known| {
                let minutes = known.last.onset.rem_euclid(DAY) / MINUTE;
                let often = match known.gap {
                    1 => "every day".to_owned(),
                    7 => "every week".to_owned(),
                    gap => format!("every {gap} days"),
                };
                let way = if known.last.side == 2 { "down" } else { "up" };
                format!(
                    "{way} {often} at about {:02}:{:02} UTC for {} minutes",
                    minutes / 60,
                    minutes % 60,
                    known.last.lasts / MINUTE
                )
            })
            .collect();
        (!texts.is_empty()).then(|| format!("expected to go {}", texts.join(", ")))
    }

    pub(crate) fn save(&self, rows: usize, out: &mut Columns) -> Result<(), Error> {
        let rows = 0..u32::try_from(rows).unwrap_or(u32::MAX);
        let lengths = rows.map(|row| NUMBERS * self.of.get(&row).map_or(0, Vec::len));
        let flat: Vec<f64> = self.of.values().flatten().flat_map(Known::numbers).collect();
        out.put("recurring", "known", lists(lengths, &flat)?);
        Ok(())
    }

    /// A snapshot that was written without has nothing that is expected.
    pub(crate) fn load(&mut self, from: &Columns) -> Result<(), Error> {
        self.of.clear();
        if !from.has("recurring") {
            return Ok(());
        }
        let (lengths, flat) = from_lists::<f64>(from.get("recurring", "known")?)?;
        let mut rest = flat.as_slice();
        for (row, length) in (0..).zip(lengths) {
            let (numbers, after) = rest.split_at(length.min(rest.len()));
            rest = after;
            if !numbers.is_empty() {
                let known = numbers.chunks(NUMBERS).filter_map(Known::from_numbers);
                self.of.insert(row, known.take(MOST).collect());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 60 * MINUTE;

    fn at(hours: i64, size: f64) -> Occurrence {
        Occurrence {
            onset: hours * HOUR,
            lasts: 30 * MINUTE,
            size,
            side: 1,
        }
    }

    fn of(weekly: bool) -> Recurring {
        let mut options = Options::default();
        options.season.weekly = weekly;
        Recurring::new(&options)
    }

    #[test]
    fn what_came_twice_at_its_hour_is_expected_the_third_time() {
        let mut known = of(false);
        known.note(0, at(2, 80.0), MINUTE);
        assert_eq!(known.expects(0, at(26, 80.0), MINUTE), None);
        known.note(0, at(26, 90.0), MINUTE);
        let bounds = known.expects(0, at(50, 70.0), MINUTE).unwrap();
        assert_eq!((bounds.until, bounds.size), (50 * HOUR + 90 * MINUTE, 1.5 * 85.0));
        // over a weekend as well
        assert!(known.expects(0, at(26 + 72, 70.0), MINUTE).is_some());
        // at another hour, further, on the other side, of another series: news
        assert_eq!(known.expects(0, at(51, 70.0), MINUTE), None);
        assert_eq!(known.expects(0, at(50, 200.0), MINUTE), None);
        let below = Occurrence {
            side: 2,
            ..at(50, 70.0)
        };
        assert_eq!(known.expects(0, below, MINUTE), None);
        assert_eq!(known.expects(1, at(50, 70.0), MINUTE), None);
        assert!(known.words(0).unwrap().contains("up every day at about 02:00 UTC"));
    }

    #[test]
    fn what_comes_once_a_week_is_not_expected_on_other_days() {
        let (day, week) = (24, 7 * 24);
        let mut known = of(true);
        known.note(0, at(2, 80.0), MINUTE);
        known.note(0, at(2 + week, 80.0), MINUTE);
        assert!(known.expects(0, at(2 + 2 * week, 80.0), MINUTE).is_some());
        assert_eq!(known.expects(0, at(2 + week + 3 * day, 80.0), MINUTE), None);
        // nor at all where no season of a week is learned
        let mut known = of(false);
        known.note(0, at(2, 80.0), MINUTE);
        known.note(0, at(2 + week, 80.0), MINUTE);
        assert_eq!(known.expects(0, at(2 + 2 * week, 80.0), MINUTE), None);
    }

    #[test]
    fn a_few_are_kept_and_come_back_from_a_snapshot() {
        let mut known = of(false);
        (0..30).for_each(|n| known.note(3, at(5 * n, 80.0), MINUTE));
        assert!(known.of[&3].len() <= MOST);
        known.note(1, at(7, 8.0), MINUTE);
        let mut out = Columns::default();
        known.save(5, &mut out).unwrap();
        let (from, rows, _) = Columns::decode(&out.encode(1, None).unwrap(), 1).unwrap();
        let mut again = of(false);
        again.load(&from).unwrap();
        assert_eq!((rows, &again.of), (5, &known.of));
        again.load(&Columns::default()).unwrap();
        assert!(again.of.is_empty());
    }
}
