//! What must hold for any input: how columns are cut, where a snapshot is taken and in which order series are registered
//! must not show in what comes out, and no number may make a detector stumble.

// helpers of tests, over counts of windows far below any limit
#![allow(clippy::unwrap_used, clippy::cast_possible_wrap)]

use proptest::prelude::*;
use suture_detect::{
    AlarmBudget, Bank, Column, DetectorName, Detectors, DiscoveryOptions, Episode, LimitOptions, Options, SequenceMode,
    SeriesHints, Towards,
};
use suture_event::{AnomalyPhase, SignalKind, Timestamp};

const MINUTE: i64 = 60_000;

fn hints(kind: SignalKind) -> SeriesHints<'static> {
    SeriesHints {
        metric: "m",
        kind,
        counter: false,
        hash: 0,
    }
}

fn bank(options: &Options, series: usize) -> Bank {
    let mut bank = Bank::new(options).unwrap();
    for _ in 0..series {
        bank.add_series(hints(SignalKind::Other));
    }
    bank
}

fn feed(bank: &mut Bank, start: i64, rows: &[u32], values: &[f64], out: &mut (Vec<f64>, Vec<Episode>)) {
    let start = Timestamp::from_millis(start);
    let end = Timestamp::from_millis(start.as_millis() + MINUTE);
    let column = Column {
        start,
        end,
        at: end,
        rows,
        values,
    };
    bank.update(&column, Some(&mut out.0), &mut out.1);
}

/// Options under which everything that can happen happens within a few dozen windows.
fn hasty() -> Options {
    let mut options = Options {
        warm_up: 10,
        alarm: 1e-2,
        at_once: 1e-3,
        ..Options::default()
    };
    options.episode.accept_after = suture_event::Span::from_mins(8);
    options.silence.windows = 2;
    options
}

/// The same under a budget so small that it is soon used up.
fn frugal() -> Options {
    Options {
        alarms: Some(AlarmBudget {
            at_most: 2,
            per: suture_event::Span::from_mins(60),
        }),
        ..hasty()
    }
}

/// Every detector there is, but for the CUSUM, whose threshold takes long to solve for and which is the mixture's kin.
fn everything() -> Detectors {
    use DetectorName::{
        Changepoint, DriftAdwin, DriftKswin, DriftMixture, DriftPageHinkley, Flatline, Forest, Leak, RunOut, Seasonal,
        Sequence, Shift, Silence, Spike, Trend, Variance,
    };
    Detectors::List(vec![
        Seasonal,
        Shift,
        Silence,
        Sequence,
        Variance,
        Trend,
        Flatline,
        Spike,
        RunOut,
        Leak,
        Changepoint,
        Forest,
        DriftMixture,
        DriftPageHinkley,
        DriftAdwin,
        DriftKswin,
    ])
}

/// The same without the ones that cost kilobytes, or need a limit.
fn list_without_limit() -> Detectors {
    match everything() {
        Detectors::List(names) => Detectors::List(
            names
                .into_iter()
                .filter(|name| {
                    !matches!(
                        name,
                        DetectorName::RunOut | DetectorName::Sequence | DetectorName::Forest
                    )
                })
                .collect(),
        ),
        Detectors::Auto => Detectors::Auto,
    }
}

fn either() -> impl Strategy<Value = Options> {
    (0..3, any::<bool>(), prop::bool::weighted(0.3)).prop_map(|(control, sequence, all)| Options {
        sequence: if sequence { SequenceMode::On } else { SequenceMode::Off },
        detectors: if all { everything() } else { Detectors::Auto },
        limit: Some(LimitOptions {
            at: 60.0,
            when: Towards::Rises,
            within: suture_event::Span::from_mins(30),
        }),
        leak: suture_detect::LeakOptions {
            cycle: suture_event::Span::from_mins(2),
        },
        ..match control {
            0 => frugal(),
            1 => Options {
                discoveries: Some(DiscoveryOptions { rate: 0.2 }),
                ..hasty()
            },
            _ => hasty(),
        }
    })
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        12 => (0..100i32).prop_map(|v| 50.0 + f64::from(v) / 50.0),
        2 => Just(f64::NAN),
        1 => Just(500.0),
        1 => Just(-1e300),
        1 => Just(1e-300),
    ]
}

fn table(series: usize) -> impl Strategy<Value = Vec<Vec<f64>>> {
    prop::collection::vec(prop::collection::vec(value(), series), 40..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn columns_may_be_cut_in_any_way(windows in table(4), cut in 1usize..4, options in either()) {
        let (mut whole, mut parts) = (bank(&options, 4), bank(&options, 4));
        let (mut a, mut b) = ((vec![], vec![]), (vec![], vec![]));
        let rows = [0, 1, 2, 3];
        for (i, values) in windows.iter().enumerate() {
            let start = i as i64 * MINUTE;
            feed(&mut whole, start, &rows, values, &mut a);
            feed(&mut parts, start, &rows[..cut], &values[..cut], &mut b);
            feed(&mut parts, start, &rows[cut..], &values[cut..], &mut b);
        }
        prop_assert_eq!(a, b);
        prop_assert_eq!(whole.snapshot().unwrap(), parts.snapshot().unwrap());
    }

    #[test]
    fn a_snapshot_anywhere_changes_nothing(windows in table(3), at in 0usize..40, options in either()) {
        let (mut straight, mut first) = (bank(&options, 3), bank(&options, 3));
        let (mut a, mut b) = ((vec![], vec![]), (vec![], vec![]));
        let rows = [0, 1, 2];
        for (i, values) in windows.iter().enumerate() {
            let start = i as i64 * MINUTE;
            feed(&mut straight, start, &rows, values, &mut a);
            if i == at {
                let bytes = first.snapshot().unwrap();
                first = Bank::new(&options).unwrap();
                first.restore(&bytes).unwrap();
                prop_assert_eq!(first.len(), 3);
            }
            feed(&mut first, start, &rows, values, &mut b);
        }
        prop_assert_eq!(a, b);
    }

    #[test]
    fn a_snapshot_at_every_row_changes_nothing(windows in table(2), budget in any::<bool>(), all in prop::bool::weighted(0.3)) {
        let options = if budget { frugal() } else { hasty() };
        let options = if all { Options { detectors: list_without_limit(), ..options } } else { options };
        let (mut straight, mut broken) = (bank(&options, 2), bank(&options, 2));
        let (mut a, mut b) = ((vec![], vec![]), (vec![], vec![]));
        for (i, values) in windows.iter().enumerate() {
            let start = i as i64 * MINUTE;
            feed(&mut straight, start, &[0, 1], values, &mut a);
            for row in 0..2 {
                feed(&mut broken, start, &[row as u32], &values[row..=row], &mut b);
                let bytes = broken.snapshot().unwrap();
                broken = Bank::new(&options).unwrap();
                broken.restore(&bytes).unwrap();
            }
        }
        prop_assert_eq!(a, b);
        prop_assert_eq!(straight.snapshot().unwrap(), broken.snapshot().unwrap());
    }

    #[test]
    fn a_budget_holds_whatever_the_series_do(windows in table(3), steps in prop::collection::vec(-2i64..90, 120)) {
        let mut bank = bank(&frugal(), 3);
        let (mut out, mut at, mut latest) = ((vec![], vec![]), 0, 0);
        let mut alarms = vec![];
        for (values, by) in windows.iter().zip(steps) {
            at += by;
            latest = latest.max(at);
            out.1.clear();
            feed(&mut bank, at * MINUTE, &[0, 1, 2], values, &mut out);
            let opened = out.1.iter().filter(|e| e.phase == AnomalyPhase::Opened);
            alarms.extend(opened.map(|_| latest));
        }
        for (i, from) in alarms.iter().enumerate() {
            for (k, to) in alarms.iter().enumerate().skip(i) {
                let most = 2.0 + 2.0 * (to - from) as f64 / 60.0;
                prop_assert!((k - i + 1) as f64 <= most + 1e-9, "{} alarms in {} minutes", k - i + 1, to - from);
            }
        }
        prop_assert_eq!(bank.budget().map(|b| b.raised()), Some(alarms.len() as u64));
    }

    #[test]
    fn the_order_of_registration_does_not_show(windows in table(3)) {
        let (mut forth, mut back) = (bank(&hasty(), 3), bank(&hasty(), 3));
        let (mut a, mut b) = ((vec![], vec![]), (vec![], vec![]));
        for (i, values) in windows.iter().enumerate() {
            let start = i as i64 * MINUTE;
            feed(&mut forth, start, &[0, 1, 2], values, &mut a);
            let reversed: Vec<f64> = values.iter().rev().copied().collect();
            feed(&mut back, start, &[0, 1, 2], &reversed, &mut b);
        }
        for window in b.0.chunks_exact_mut(3) {
            window.reverse();
        }
        prop_assert_eq!(a.0, b.0);
        let mut episodes: Vec<Episode> = b.1.into_iter().map(|e| Episode { row: 2 - e.row, ..e }).collect();
        episodes.sort_by_key(|e| (e.at, e.row));
        a.1.sort_by_key(|e| (e.at, e.row));
        prop_assert_eq!(a.1, episodes);
    }

    #[test]
    fn no_number_and_no_time_makes_a_score_of_nonsense(
        samples in prop::collection::vec((any::<f64>(), -3i64..600_000), 1..200),
        options in either(),
    ) {
        let mut bank = bank(&options, 1);
        let mut out = (vec![], vec![]);
        let mut at = 1_700_000_000_000;
        for (value, minutes) in samples {
            at += minutes * MINUTE;
            feed(&mut bank, at, &[0], &[value], &mut out);
        }
        prop_assert!(out.0.iter().all(|s| (0.0..=1.0).contains(s)), "{:?}", out.0);
        for e in out.1 {
            prop_assert!(e.expected.is_finite() && e.lower.is_finite() && e.upper.is_finite(), "{:?}", e);
            prop_assert!(e.lower <= e.upper && e.deviation >= 0.0, "{:?}", e);
        }
    }
}

#[test]
fn rows_that_were_never_registered_are_left_out() {
    let mut bank = bank(&Options::default(), 1);
    let mut out = (vec![], vec![]);
    feed(&mut bank, 0, &[0, 7], &[1.0, 2.0], &mut out);
    assert_eq!(out.0, [0.0, 0.0]);
    assert_eq!(bank.explain(7), "no such series");
}

#[test]
fn a_snapshot_that_is_none_leaves_the_bank_as_it_was() {
    let mut bank = bank(&Options::default(), 2);
    let mut bytes = bank.snapshot().unwrap();
    assert!(
        bank.restore(b"not a snapshot")
            .unwrap_err()
            .to_string()
            .contains("start cold")
    );
    bytes.truncate(bytes.len() / 2);
    assert!(bank.restore(&bytes).is_err());
    assert_eq!(bank.len(), 2);
}
