//! What is refused, what is bounded, and what happens at the bound.

use std::time::Instant;

use suture_event::{Span, Timestamp};
use suture_window::{Aggregate, Error, Gaps, Options, Windows};

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn minutes(size: i64) -> Options {
    Options {
        size: Some(Span::from_mins(size)),
        ..Options::default()
    }
}

#[test]
fn every_contradiction_is_told_at_once() {
    let options = Options {
        slide: Some(Span::from_secs(40)),
        lateness: Span::from_hours(24),
        max_empty: 0,
        quantile_error: 0.5,
        forget_after: Span::from_secs(1),
        ..minutes(1)
    };
    let paths: Vec<String> = options.validate().into_iter().map(|problem| problem.path).collect();
    assert_eq!(
        paths,
        ["slide", "forget_after", "max_empty", "max_panes", "quantile_error"]
    );
    let text = Windows::new(&options).unwrap_err().to_string();
    assert!(
        text.contains("slide: 40s does not divide the size 1m (choose a slide that divides size)"),
        "{text}"
    );

    let sample_mode = Options {
        lateness: Span::from_secs(1),
        gaps: Gaps::Zero,
        ..Options::default()
    };
    let paths: Vec<String> = sample_mode.validate().into_iter().map(|problem| problem.path).collect();
    assert_eq!(paths, ["lateness", "gaps"]);
    for span in [Span::ZERO, Span::from_millis(i64::MAX), Span::from_millis(-5)] {
        let options = Options {
            size: Some(span),
            slide: Some(span),
            lateness: span,
            ..Options::default()
        };
        assert!(!options.validate().is_empty(), "{span}");
    }
    assert_eq!(Options::default().validate(), []);
}

#[test]
fn options_read_as_they_stand_in_a_pipeline_file() {
    let options: Options =
        serde_json::from_str(r#"{"size": "1m", "slide": "10s", "lateness": "5s", "gaps": "carry"}"#).unwrap();
    assert_eq!((options.size, options.gaps), (Some(Span::from_mins(1)), Gaps::Carry));
    assert!(serde_json::from_str::<Options>(r#"{"width": "1m"}"#).is_err());
}

#[test]
fn a_row_is_reused_only_once_forgotten_and_starts_afresh() {
    let options = Options {
        forget_after: Span::from_mins(2),
        ..minutes(1)
    };
    let mut windows = Windows::new(&options).unwrap();
    let gone = windows.add_series(Aggregate::Quantile(0.5));
    let clock = windows.add_series(Aggregate::Count);
    assert!(matches!(
        windows.reuse(gone, Aggregate::Sum),
        Err(Error::Row { state: "in use", .. })
    ));
    assert!(matches!(
        windows.reuse(9, Aggregate::Sum),
        Err(Error::Row { state: "unknown", .. })
    ));

    let mut forgotten: Vec<u32> = Vec::new();
    windows.push(&[gone], &[at(0)], &[5.0], &mut |_| {});
    for minute in 0..6 {
        windows.push(&[clock], &[at(minute * 60_000)], &[1.0], &mut |closed| {
            forgotten.extend(closed.forgotten)
        });
    }
    assert_eq!(forgotten, [gone]);
    windows.reuse(gone, Aggregate::Increase).unwrap();
    let mut shown = Vec::new();
    windows.push(
        &[gone, gone, clock],
        &[at(361_000), at(362_000), at(420_000)],
        &[10.0, 12.0, 1.0],
        &mut |closed| {
            shown.extend(
                closed
                    .rows
                    .iter()
                    .zip(closed.values)
                    .filter(|(row, _)| **row == gone)
                    .map(|(_, v)| *v),
            );
        },
    );
    assert_eq!(shown, [2.0]);
    assert_eq!(windows.len(), 2);
}

#[test]
fn a_series_that_is_back_in_an_open_window_is_not_forgotten() {
    let options = Options {
        forget_after: Span::from_mins(1),
        lateness: Span::from_mins(2),
        ..minutes(1)
    };
    let mut windows = Windows::new(&options).unwrap();
    let row = windows.add_series(Aggregate::Sum);
    let mut forgotten = 0;
    let ts = [at(0), at(200_000), at(330_000), at(1_000_000)];
    windows.push(&[row; 4], &ts, &[1.0; 4], &mut |closed| {
        forgotten += closed.forgotten.len()
    });
    assert_eq!(forgotten, 1, "only in the gap before the last");
}

#[test]
fn the_edges_of_time_are_windows_like_others() {
    let options = Options {
        lateness: Span::from_mins(3),
        slide: Some(Span::from_secs(20)),
        ..minutes(1)
    };
    let mut windows = Windows::new(&options).unwrap();
    let row = windows.add_series(Aggregate::Quantile(0.9));
    let ts = [Timestamp::MIN, at(0), Timestamp::MAX, Timestamp::MAX];
    let mut ends = Vec::new();
    windows.push(&[row; 4], &ts, &[1e300, -1e300, 1e-300, 0.0], &mut |closed| {
        assert!(closed.values.iter().all(|value| !value.is_infinite()));
        ends.push(closed.end);
    });
    assert!(ends.len() < 3_000 && ends.is_sorted());
    assert_eq!(windows.watermark(), Timestamp::MAX.minus(Span::from_mins(3)));
    assert_eq!(windows.counters().accepted, 4);
}

#[test]
fn sums_that_overflow_stay_finite() {
    let mut windows = Windows::new(&minutes(1)).unwrap();
    let row = windows.add_series(Aggregate::Sum);
    let mut shown = Vec::new();
    windows.push(
        &[row; 3],
        &[at(0), at(1), at(60_000)],
        &[f64::MAX, f64::MAX, 0.0],
        &mut |closed| {
            shown.extend_from_slice(closed.values);
        },
    );
    assert_eq!(shown, [f64::MAX]);
}

#[test]
fn a_snapshot_that_does_not_fit_changes_nothing_and_says_why() {
    let mut windows = Windows::new(&minutes(1)).unwrap();
    let row = windows.add_series(Aggregate::Quantile(0.99));
    windows.push(&[row, row], &[at(0), at(70_000)], &[1.0, 2.0], &mut |_| {});
    let bytes = windows.snapshot().unwrap();

    let mut other = Windows::new(&minutes(5)).unwrap();
    other.add_series(Aggregate::Sum);
    let error = other.restore(&bytes).unwrap_err();
    assert!(matches!(&error, Error::Shape { what: "slide", .. }), "{error}");
    assert_eq!(other.len(), 1);

    let mut same = Windows::new(&minutes(1)).unwrap();
    assert!(same.restore(b"").is_err());
    for at in 0..bytes.len() {
        assert!(
            matches!(same.restore(&bytes[..at]), Err(Error::Damaged(_))),
            "cut short at {at}"
        );
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x55;
        assert!(
            matches!(same.restore(&flipped), Err(Error::Damaged(_))),
            "damaged at {at}"
        );
    }
    same.restore(&bytes).unwrap();
    assert_eq!(same.snapshot().unwrap(), bytes);
}

#[test]
fn the_cost_of_a_sample_hardly_grows_with_the_number_of_series() {
    let time = |series: u32| {
        let mut windows = Windows::new(&minutes(1)).unwrap();
        for _ in 0..series {
            windows.add_series(Aggregate::Mean);
        }
        let samples = 1_000_000_u32;
        let rows: Vec<u32> = (0..samples).map(|i| i.wrapping_mul(2_654_435_761) % series).collect();
        let ts: Vec<Timestamp> = (0..samples)
            .map(|i| at(i64::from(i) * 59_000 / i64::from(samples)))
            .collect();
        let values = vec![1.0; rows.len()];
        windows.push(&rows, &ts, &values, &mut |_| {});
        let start = Instant::now();
        windows.push(&rows, &ts, &values, &mut |_| {});
        let push = start.elapsed().as_secs_f64() * 1e9 / f64::from(samples);
        let start = Instant::now();
        windows.push(&[0], &[at(60_000)], &[1.0], &mut |_| {});
        (push, start.elapsed().as_secs_f64() * 1e9 / f64::from(series))
    };
    let (few, many) = (time(1_000), time(1_000_000));
    println!(
        "ns a sample: {:.1} of 1,000 series, {:.1} of 1,000,000; ns a series and close: {:.1}",
        few.0, many.0, many.1
    );
    // far above what is measured, so that a busy machine doesn't fail it; a scan over the series would
    assert!(many.0 < few.0 + 2_000.0);
}

#[test]
fn a_silent_row_is_forgotten_on_demand_the_longest_silent_first() {
    let mut windows = Windows::new(&minutes(1)).unwrap();
    let rows: Vec<u32> = (0..5).map(|_| windows.add_series(Aggregate::Increase)).collect();
    let mut push = |row: usize, minute: i64, value: f64| {
        let mut listed = Vec::new();
        windows.push(&rows[row..=row], &[at(minute * 60_000)], &[value], &mut |closed| {
            listed = closed.rows.to_vec();
        });
        (listed, windows.idle(10), windows.idle(2))
    };
    for (row, minute) in [(0, 3), (1, 2), (2, 1), (3, 0)] {
        push(row, minute, 1.0);
    }
    // row 4 never sent; 1 and 0 came first by time, and 0 holds the newest, in the window that is open
    let (listed, idle, two) = push(0, 5, 7.0);
    assert_eq!(listed, [0]);
    assert_eq!(two, idle[..2]);
    let order: Vec<u32> = idle.iter().map(|(_, row)| *row).collect();
    assert_eq!(order, [1, 2, 3, 4], "the late ones never counted: {idle:?}");

    let (newest, row) = idle[0];
    assert!(!windows.forget(row, at(1)), "it was not ranked by that time");
    assert!(!windows.forget(9, newest));
    assert!(!windows.forget(0, at(3 * 60_000)), "an open window has a sample of it");
    assert!(windows.forget(row, newest));
    windows.reuse(row, Aggregate::Sum).unwrap();
    let mut seen = Vec::new();
    windows.push(&[row, 0], &[at(330_000), at(360_000)], &[2.5, 9.0], &mut |closed| {
        seen = closed.rows.iter().copied().zip(closed.values.iter().copied()).collect();
    });
    assert_eq!(seen, [(0, 6.0), (row, 2.5)]);
}
