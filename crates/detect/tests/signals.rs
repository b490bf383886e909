//! The further detectors, one short story each, and what `auto` makes of series of several kinds. Windows are minutes unless
//! a story says otherwise.

// helpers of tests, over counts of windows far below any limit
#![allow(clippy::unwrap_used, clippy::cast_possible_wrap, clippy::cast_precision_loss)]

use suture_detect::{
    Bank, Column, DetectorName, Detectors, Episode, LimitOptions, Options, SequenceMode, SeriesHints, Towards,
};
use suture_event::{AnomalyPhase, Direction, SignalKind, Span, Timestamp};
use suture_testkit::noise::bell;

const MINUTE: i64 = 60_000;
const START: i64 = 1_700_006_400_000;

fn noise(i: usize) -> f64 {
    bell(i as u64)
}

fn only(name: DetectorName) -> Options {
    Options {
        detectors: Detectors::List(vec![name]),
        sequence: SequenceMode::Off,
        ..Options::default()
    }
}

fn watch(options: &Options, minutes: i64, values: impl IntoIterator<Item = f64>) -> (Bank, Vec<Episode>) {
    let mut bank = Bank::new(options).unwrap();
    bank.add_series(SeriesHints {
        metric: "m",
        kind: SignalKind::Other,
        counter: false,
        hash: 1,
    });
    let mut episodes = vec![];
    for (i, value) in values.into_iter().enumerate() {
        let start = Timestamp::from_millis(START + i as i64 * minutes * MINUTE);
        let end = Timestamp::from_millis(start.as_millis() + minutes * MINUTE);
        let column = Column {
            start,
            end,
            at: end,
            rows: &[0],
            values: &[value],
        };
        bank.update(&column, None, &mut episodes);
    }
    (bank, episodes)
}

fn opened(episodes: &[Episode]) -> Vec<(&'static str, i64)> {
    let opened = episodes.iter().filter(|e| e.phase == AnomalyPhase::Opened);
    opened
        .map(|e| (e.detector, (e.at.as_millis() - START) / MINUTE))
        .collect()
}

fn first(episodes: &[Episode]) -> &Episode {
    episodes.iter().find(|e| e.phase == AnomalyPhase::Opened).unwrap()
}

#[test]
fn noise_raises_nothing_in_three_weeks_whichever_detector_listens() {
    for name in [
        DetectorName::Variance,
        DetectorName::Trend,
        DetectorName::Flatline,
        DetectorName::Spike,
        DetectorName::Leak,
        DetectorName::Changepoint,
        DetectorName::Forest,
    ] {
        let (_, episodes) = watch(&only(name), 1, (0..30_000).map(|i| 100.0 + 10.0 * noise(i)));
        assert_eq!(opened(&episodes), [], "{name:?}");
    }
}

#[test]
fn a_spread_that_triples_is_told_while_the_level_stays() {
    let values = |i: usize| 100.0 + if i >= 2_000 { 18.0 } else { 6.0 } * noise(i);
    let (_, episodes) = watch(&only(DetectorName::Variance), 1, (0..2_200).map(values));
    let opened = opened(&episodes);
    assert_eq!(opened.len(), 1, "{opened:?}");
    assert!(
        opened[0].0 == "variance" && (2_003..2_060).contains(&opened[0].1),
        "{opened:?}"
    );
    let words = &first(&episodes).detail;
    assert!(words.contains("times as far from their mean"), "{words}");
}

#[test]
fn a_spread_that_vanishes_is_told_too() {
    let values = |i: usize| 100.0 + if i >= 2_000 { 0.5 } else { 10.0 } * noise(i);
    let (_, episodes) = watch(&only(DetectorName::Variance), 1, (0..2_300).map(values));
    assert_eq!(first(&episodes).direction, Direction::Down);
}

#[test]
fn a_ramp_is_told_while_it_is_still_within_the_noise() {
    // a tenth of a standard deviation a minute
    let values = |i: usize| 200.0 + 20.0 * noise(i) + 2.0 * i.saturating_sub(3_000) as f64;
    let (_, episodes) = watch(&only(DetectorName::Trend), 1, (0..3_200).map(values));
    let opened = opened(&episodes);
    assert!((3_010..3_060).contains(&opened[0].1), "{opened:?}");
    // a level that has stayed is accepted, and a ramp that goes on is told anew
    assert!(opened.len() <= 2, "{opened:?}");
    let words = &first(&episodes).detail;
    assert!(words.starts_with("rises by ") && words.contains(" a window"), "{words}");
}

#[test]
fn a_stuck_value_is_told_with_how_often_it_came() {
    let values = |i: usize| if i >= 1_000 { 97.25 } else { 100.0 + 10.0 * noise(i) };
    let (_, episodes) = watch(&only(DetectorName::Flatline), 1, (0..1_100).map(values));
    assert_eq!(opened(&episodes), [("flatline", 1_012)]);
    let words = &first(&episodes).detail;
    assert!(
        words.starts_with("stuck at 97.25: the same value 12 times in a row"),
        "{words}"
    );
    // what rests now and then may rest, and zeros are no work
    let rests = |i: usize| if i % 200 >= 150 { 60.0 } else { 100.0 + 10.0 * noise(i) };
    let (_, episodes) = watch(&only(DetectorName::Flatline), 1, (0..6_000).map(rests));
    assert!(opened(&episodes).len() <= 1, "{:?}", opened(&episodes));
    let idle = |i: usize| if i >= 1_000 { 0.0 } else { 100.0 + 10.0 * noise(i) };
    let (_, episodes) = watch(&only(DetectorName::Flatline), 1, (0..1_100).map(idle));
    assert_eq!(opened(&episodes), []);
}

#[test]
fn one_spike_is_one_alarm_at_once() {
    let slow = |i: usize| 100.0 + 50.0 * (i as f64 / 400.0).sin() + noise(i);
    let values = |i: usize| slow(i) + if i == 3_000 { 40.0 } else { 0.0 };
    let (_, episodes) = watch(&only(DetectorName::Spike), 1, (0..3_200).map(values));
    assert_eq!(opened(&episodes), [("spike", 3_001)]);
    let words = &first(&episodes).detail;
    assert!(words.starts_with("a spike: "), "{words}");
}

fn limit(at: f64, when: Towards, within: Span) -> Options {
    Options {
        limit: Some(LimitOptions { at, when, within }),
        ..only(DetectorName::RunOut)
    }
}

#[test]
fn a_disk_that_fills_is_told_a_day_before_with_the_hour_and_an_interval() {
    // a hundredth of a percent a minute from 40 up: full after 6,000 minutes; a day before is minute 4,560
    let values = |i: usize| (40.0 + 0.01 * i as f64 + 0.05 * noise(i)).min(100.0);
    let options = limit(100.0, Towards::Rises, Span::from_hours(24));
    let (_, episodes) = watch(&options, 1, (0..6_200).map(values));
    let opened = opened(&episodes);
    assert_eq!(opened.len(), 1, "{episodes:?}");
    assert!((4_400..4_650).contains(&opened[0].1), "{opened:?}");
    let e = first(&episodes);
    assert_eq!((e.detector, e.direction), ("run_out", Direction::Up));
    // 6,000 minutes after the start, at 04:00 four days on
    assert!(
        e.detail.starts_with("reaches its limit 100 in ") && e.detail.contains("2023-11-19 0"),
        "{}",
        e.detail
    );
    assert!(e.detail.contains("9 in 10: between"), "{}", e.detail);
    assert!(!episodes.iter().any(|e| e.phase == AnomalyPhase::Ended), "{episodes:?}");
}

#[test]
fn a_certificate_is_told_while_there_is_time() {
    let values = |i: usize| 30.0 * 86_400.0 - 600.0 * i as f64;
    let options = limit(0.0, Towards::Falls, Span::from_hours(14 * 24));
    let (_, episodes) = watch(&options, 10, (0..3_000).map(values));
    let opened = opened(&episodes);
    // half of the month is 2,304 windows of ten minutes
    assert_eq!(opened.len(), 1);
    assert!((23_000..23_060).contains(&opened[0].1), "{opened:?}");
    assert!(
        first(&episodes).detail.contains("in 14 days"),
        "{}",
        first(&episodes).detail
    );
}

#[test]
fn a_disk_emptied_every_night_is_not_running_out() {
    let values = |i: usize| 20.0 + 60.0 * (i % 1_440) as f64 / 1_440.0 + 0.05 * noise(i);
    let options = limit(100.0, Towards::Rises, Span::from_hours(12));
    let (_, episodes) = watch(&options, 1, (0..8 * 1_440).map(values));
    // the first day nobody can know
    let late = opened(&episodes).into_iter().filter(|(_, at)| *at > 1_440).count();
    assert_eq!(late, 0, "{:?}", opened(&episodes));
    // and once it goes on, it is
    let goes_on = |i: usize| values(i.min(7 * 1_440 - 1)) + 60.0 / 1_440.0 * i.saturating_sub(7 * 1_440) as f64;
    let (_, episodes) = watch(&options, 1, (0..8 * 1_440).map(goes_on));
    assert!(
        opened(&episodes).iter().any(|(_, at)| *at > 7 * 1_440),
        "{:?}",
        opened(&episodes)
    );
}

#[test]
fn noise_about_a_level_never_runs_out() {
    for wander in [0.0, 0.9] {
        let mut level = 0.0;
        let values = (0..20_000).map(move |i| {
            level = wander * level + noise(i);
            80.0 + level
        });
        let options = limit(100.0, Towards::Rises, Span::from_hours(6));
        let (_, episodes) = watch(&options, 1, values);
        assert!(opened(&episodes).is_empty(), "{wander}: {episodes:?}");
    }
}

/// Memory of a program: what it needs for its load, by the hour of the day, garbage on top, and what it leaks.
fn memory(leak: f64) -> impl Fn(usize) -> f64 {
    move |i| {
        let load = 300.0 + 100.0 * (i as f64 / 1_440.0 * std::f64::consts::TAU).sin();
        let garbage = (i % 17) as f64 * 10.0;
        load + garbage + 4.0 * noise(i).abs() + leak * i.saturating_sub(4 * 1_440) as f64 / 60.0
    }
}

#[test]
fn a_leak_is_told_and_a_load_is_not() {
    let options = only(DetectorName::Leak);
    let (_, calm) = watch(&options, 1, (0..10 * 1_440).map(memory(0.0)));
    assert_eq!(opened(&calm), []);
    let (_, leaking) = watch(&options, 1, (0..10 * 1_440).map(memory(6.0)));
    let opened = opened(&leaking);
    assert_eq!(opened.len(), 1, "{opened:?}");
    assert!((4 * 1_440..6 * 1_440).contains(&opened[0].1), "{opened:?}");
    let words = &first(&leaking).detail;
    assert!(
        words.starts_with("a leak: the least that is taken in 1h rose in"),
        "{words}"
    );
}

#[test]
fn a_level_that_wanders_is_no_leak() {
    let mut found = 0;
    for seed in 0..20 {
        let mut level = 0.0;
        let values = (0..10 * 1_440).map(move |i| {
            level += noise(i + seed * 100_000);
            1_000.0 + level
        });
        let (_, episodes) = watch(&only(DetectorName::Leak), 1, values);
        found += opened(&episodes).len();
    }
    assert!(found <= 1, "{found}");
}

#[test]
fn auto_says_what_it_sees_and_which_detectors_vote() {
    let options = Options {
        sequence: SequenceMode::Off,
        ..Options::default()
    };
    let day = |i: usize| (i as f64 / 1_440.0 * std::f64::consts::TAU).sin();
    type Story = (&'static str, Box<dyn Fn(usize) -> f64>, &'static [&'static str]);
    let stories: [Story; 5] = [
        (
            "gauge",
            Box::new(|i| 100.0 + 10.0 * noise(i)),
            &["auto: a gauge, not seasonal; votes: seasonal, shift, flatline; "],
        ),
        (
            "share",
            Box::new(move |i| 0.5 + 0.3 * day(i) + 0.05 * noise(i)),
            &[
                "a gauge bounded by 0 and 1, seasonal (time of day)",
                "shift, flatline; ",
            ],
        ),
        (
            "count",
            Box::new(|i| (20.0 + 4.0 * noise(i)).round()),
            &["auto: a count, not seasonal", "flatline"],
        ),
        (
            "sparse",
            Box::new(|i| if i.is_multiple_of(29) { 2.0 } else { 0.0 }),
            &[
                "sparse (96.",
                "votes: seasonal, shift (not flatline, as its values often repeat)",
            ],
        ),
        (
            "constant",
            Box::new(|_| 42.0),
            &["nearly constant (100% repeats)", "not flatline"],
        ),
    ];
    for (name, value, says) in stories {
        let (bank, _) = watch(&options, 1, (0..4 * 1_440).map(value));
        let words = bank.explain(0);
        for part in says {
            assert!(words.contains(part), "{name}: {words}");
        }
    }
    // heavy tails have no spread to speak of
    let heavy = |i: usize| 100.0 + (1.0 / (1e-3 + noise(i).abs())).min(1e3) * noise(i + 7).signum();
    let (bank, _) = watch(&options, 1, (0..6_000).map(heavy));
    assert!(bank.explain(0).contains("heavy-tailed"), "{}", bank.explain(0));
    let (bank, _) = watch(&options, 1, (0..50).map(|i| i as f64));
    assert!(
        bank.explain(0).starts_with("auto: not looked at yet, 50 of 192 values"),
        "{}",
        bank.explain(0)
    );
}

#[test]
fn auto_tells_a_stuck_gauge() {
    let values = |i: usize| if i >= 2_000 { 97.25 } else { 100.0 + 10.0 * noise(i) };
    let options = Options {
        sequence: SequenceMode::Off,
        ..Options::default()
    };
    let (_, episodes) = watch(&options, 1, (0..2_100).map(values));
    assert_eq!(opened(&episodes).first().map(|o| o.0), Some("flatline"), "{episodes:?}");
}

#[test]
fn a_drift_is_told_and_the_new_level_is_learned() {
    for (name, within) in [
        (DetectorName::DriftMixture, 40),
        (DetectorName::DriftCusum, 40),
        (DetectorName::DriftPageHinkley, 60),
        (DetectorName::DriftAdwin, 300),
    ] {
        // a standard deviation and a half, of values that depend on each other
        let mut value = 0.0;
        let values = (0..4_000).map(|i| {
            value = 0.3 * value + noise(i);
            100.0 + 10.0 * value + if i >= 2_000 { 15.0 } else { 0.0 }
        });
        let options = Options {
            alarm: 1e-5,
            at_once: 1e-6,
            ..only(name)
        };
        let (_, episodes) = watch(&options, 1, values);
        let opened = opened(&episodes);
        // one more may follow, as the new level was learned from few windows
        assert!((1..=2).contains(&opened.len()), "{name:?}: {opened:?}");
        assert!(
            opened[0].0.starts_with("drift.") && (2_000..2_000 + within).contains(&opened[0].1),
            "{opened:?}"
        );
        let words = &first(&episodes).detail;
        assert!(
            words.starts_with("the process has drifted: ") && words.contains("100000 windows"),
            "{words}"
        );
    }
}

#[test]
fn a_changepoint_and_an_odd_course_are_told() {
    let values = |i: usize| 100.0 + 10.0 * noise(i) + if i >= 2_000 { 60.0 } else { 0.0 };
    let (_, episodes) = watch(&only(DetectorName::Changepoint), 1, (0..2_100).map(values));
    let changes = opened(&episodes);
    assert!(
        changes.len() == 1 && (2_001..2_010).contains(&changes[0].1),
        "{changes:?}"
    );
    assert!(
        first(&episodes).detail.contains("posterior probability"),
        "{}",
        first(&episodes).detail
    );
    // the same heights in an order that never was
    let wave = |i: usize| 100.0 + 30.0 * (i as f64 * 0.4).sin() + noise(i);
    let values = |i: usize| {
        if (3_000..3_010).contains(&i) {
            100.0 + if i.is_multiple_of(2) { 28.0 } else { -28.0 }
        } else {
            wave(i)
        }
    };
    let (_, episodes) = watch(&only(DetectorName::Forest), 1, (0..3_100).map(values));
    let odd = opened(&episodes);
    assert!(odd.iter().any(|(_, at)| (3_001..3_016).contains(at)), "{odd:?}");
    assert!(odd.len() <= 2, "{odd:?}");
}

#[test]
fn a_bound_on_false_discoveries_lets_what_is_wrong_through_and_little_else() {
    let mut options = Options {
        sequence: SequenceMode::Off,
        discoveries: Some(suture_detect::DiscoveryOptions { rate: 0.1 }),
        ..Options::default()
    };
    options.least_effect.relative = Some(0.0);
    let mut bank = Bank::new(&options).unwrap();
    let (series, windows) = (20, 6_000);
    for hash in 0..series {
        bank.add_series(SeriesHints {
            metric: "m",
            kind: SignalKind::Other,
            counter: false,
            hash,
        });
    }
    let rows: Vec<u32> = (0..20).collect();
    let mut episodes = vec![];
    // every 500 windows one series, each in its turn, is far off for ten
    let wrong = |row: usize, i: usize| i >= 1_000 && i % 500 < 10 && (i / 500) % 20 == row;
    for i in 0..windows {
        let start = Timestamp::from_millis(START + i as i64 * MINUTE);
        let end = Timestamp::from_millis(start.as_millis() + MINUTE);
        let values: Vec<f64> = (0..20)
            .map(|row| 100.0 + 5.0 * noise(i * 20 + row) + if wrong(row, i) { 120.0 } else { 0.0 })
            .collect();
        let column = Column {
            start,
            end,
            at: end,
            rows: &rows,
            values: &values,
        };
        bank.update(&column, None, &mut episodes);
    }
    let opened: Vec<_> = episodes.iter().filter(|e| e.phase == AnomalyPhase::Opened).collect();
    let (mut right, mut false_ones) = (0, 0);
    for e in &opened {
        let i = usize::try_from((e.at.as_millis() - START) / MINUTE).unwrap() - 1;
        if wrong(e.row as usize, i) {
            right += 1
        } else {
            false_ones += 1
        }
    }
    assert!(
        right >= 9 && false_ones <= 2,
        "{right} right, {false_ones} false: {opened:?}"
    );
}
