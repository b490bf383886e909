//! Large numbers, gaps, hours of the day and jobs: what a detector makes of them.

// helpers of tests, over counts of windows far below any limit
#![allow(clippy::unwrap_used, clippy::cast_possible_wrap, clippy::cast_precision_loss)]

use suture_detect::{Bank, Column, Episode, Options, SeriesHints};
use suture_event::{AnomalyPhase, EndReason, SignalKind, Span, Timestamp};
use suture_testkit::noise::bell;

const MINUTE: i64 = 60_000;
const HOUR: usize = 60;
const DAY: usize = 24 * HOUR;
/// A Sunday midnight.
const START: i64 = 1_700_352_000_000;

fn noise(i: usize) -> f64 {
    bell(i as u64)
}

/// Watches windows of so many minutes; the value is asked for by the minute in which a window begins.
fn watch(
    kind: SignalKind,
    options: &Options,
    (minutes, every): (usize, usize),
    value: impl Fn(usize) -> f64,
) -> (Bank, Vec<Episode>) {
    let mut bank = Bank::new(options).unwrap();
    bank.add_series(SeriesHints {
        metric: "m",
        kind,
        counter: false,
        hash: 1,
    });
    let mut episodes = vec![];
    for minute in (0..minutes).step_by(every) {
        let start = Timestamp::from_millis(START + minute as i64 * MINUTE);
        let end = Timestamp::from_millis(START + (minute + every) as i64 * MINUTE);
        let column = Column {
            start,
            end,
            at: end,
            rows: &[0],
            values: &[value(minute)],
        };
        bank.update(&column, None, &mut episodes);
    }
    (bank, episodes)
}

/// When something opened, or ended and how, in minutes from the start.
fn turns(episodes: &[Episode]) -> Vec<(usize, Option<EndReason>)> {
    let told = episodes
        .iter()
        .filter(|e| !matches!(e.phase, AnomalyPhase::Grown | AnomalyPhase::Eased));
    told.map(|e| (usize::try_from((e.at.as_millis() - START) / MINUTE).unwrap(), e.end))
        .collect()
}

fn opened(episodes: &[Episode]) -> Vec<usize> {
    let all = turns(episodes);
    all.iter().filter(|t| t.1.is_none()).map(|t| t.0).collect()
}

#[test]
fn a_small_step_on_a_large_number_shows_where_every_size_matters() {
    let mut options = Options::default();
    options.least_effect.relative = Some(0.0);
    let from = 20 * HOUR;
    let value = |m| 1.78e12 + 2.0 * noise(m) + if (from..from + 30).contains(&m) { 40.0 } else { 0.0 };
    let (_, episodes) = watch(SignalKind::Other, &options, (2 * DAY, 1), value);
    let told = turns(&episodes);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!((from..from + 4).contains(&told[0].0), "{told:?}");
    let (expected, upper) = (episodes[0].expected - 1.78e12, episodes[0].upper - 1.78e12);
    assert!(expected.abs() < 2.0 && upper < 40.0, "{expected} {upper}");
    // whole numbers at the end of what a double counts
    let (_, calm) = watch(SignalKind::Other, &options, (2 * DAY, 1), |m| {
        9_007_199_254_740_000.0 + 2.0 * (noise(m) * 2.0).round()
    });
    assert_eq!(calm, []);
    assert_eq!(
        watch(SignalKind::Other, &options, (DAY, 1), |_| 1_780_000_000_123.0).1,
        []
    );
}

#[test]
fn what_reports_once_a_day_is_missed_before_the_second_time() {
    let day = 31;
    let value = |m: usize| {
        let due = m % DAY == 2 * HOUR && m / DAY != day;
        if due { 900.0 + 45.0 * noise(m) } else { f64::NAN }
    };
    let options = Options::default();
    for kind in [SignalKind::Latency, SignalKind::Other] {
        let (_, episodes) = watch(kind, &options, (34 * DAY, 60), value);
        let told = turns(&episodes);
        let due = day * DAY + 2 * HOUR;
        assert_eq!(told.len(), 2, "{told:?}");
        assert!((due..due + DAY).contains(&told[0].0), "{told:?}");
        // silent for longer than a series is waited for
        assert_eq!(told[1].1, Some(EndReason::Adapted), "{told:?}");
    }
    // one that has missed a day or two of late is no news when it does so again
    let mut gaps = options;
    gaps.silence.forget_after = Span::from_hours(96);
    let value = |m: usize| if m / DAY % 7 < 5 { value(m) } else { f64::NAN };
    let (_, episodes) = watch(SignalKind::Other, &gaps, (60 * DAY, 60), value);
    assert_eq!(turns(&episodes), []);
}

#[test]
fn a_job_of_every_night_is_told_twice_and_one_that_runs_on_is_told_again() {
    let value = |m: usize| {
        let busy = (120..150).contains(&(m % DAY)) || (10 * DAY + 120..10 * DAY + 230).contains(&m);
        (if busy { 90.0 } else { 10.0 }) * (1.0 + 0.05 * noise(m))
    };
    for kind in [SignalKind::Disk, SignalKind::Latency] {
        let (bank, episodes) = watch(kind, &Options::default(), (14 * DAY, 1), value);
        let told: Vec<usize> = opened(&episodes).iter().map(|m| m / DAY).collect();
        let words = bank.explain(0);
        assert_eq!(told, [0, 1, 10], "{words}");
        assert!(
            words.contains("expected to go up every day at about 02:00 UTC"),
            "{words}"
        );
        // what is not told to have begun is not told to have ended either
        assert_eq!(turns(&episodes).len(), 6);
    }
    // where everything stops while it runs, that is told
    let stops = |m: usize| {
        if (12 * DAY + 130..12 * DAY + 145).contains(&m) {
            0.0
        } else {
            value(m)
        }
    };
    let (_, episodes) = watch(SignalKind::Disk, &Options::default(), (14 * DAY, 1), stops);
    assert!(
        opened(&episodes)
            .iter()
            .any(|m| (12 * DAY + 130..12 * DAY + 140).contains(m)),
        "{:?}",
        opened(&episodes)
    );
    // work that fails is no job, however often it does
    let (_, episodes) = watch(SignalKind::Errors, &Options::default(), (14 * DAY, 1), value);
    assert!(opened(&episodes).len() > 10);
}

#[test]
fn a_job_of_once_a_week_is_a_season_and_the_same_load_on_another_day_is_not() {
    let week = 7 * DAY;
    let odd = 6 * week + 3 * DAY + 10 * HOUR;
    let value = |m: usize| {
        let busy = (120..240).contains(&(m % week)) || (odd..odd + 120).contains(&m);
        let level = if busy { 9e7 } else { 1e7 };
        level * (1.0 + 0.06 * noise(m))
    };
    let mut options = Options::default();
    options.season.weekly = true;
    let (bank, episodes) = watch(SignalKind::Disk, &options, (7 * week, 15), value);
    let told = opened(&episodes);
    let words = bank.explain(0);
    assert!(told.iter().any(|m| (odd..odd + 120).contains(m)), "{told:?} {words}");
    let late: Vec<&usize> = told
        .iter()
        .filter(|m| **m > 4 * week && !(odd..odd + 6 * HOUR).contains(*m))
        .collect();
    assert!(late.is_empty(), "{late:?} {words}");
}
