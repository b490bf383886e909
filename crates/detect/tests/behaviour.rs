//! What people who watch systems ask of a detector, one short story each. Windows are minutes.

// helpers of tests, over counts of windows far below any limit
#![allow(clippy::unwrap_used, clippy::cast_possible_wrap)]

use suture_detect::{Bank, Column, Episode, Options, SeriesHints, Thresholds};
use suture_event::{AnomalyPhase, Direction, EndReason, SignalKind, Timestamp};
use suture_testkit::noise::bell;

const MINUTE: i64 = 60_000;
const START: i64 = 1_700_006_400_000;

fn noise(i: usize) -> f64 {
    bell(i as u64)
}

fn watch_as(kind: SignalKind, options: &Options, values: impl IntoIterator<Item = f64>) -> (Bank, Vec<Episode>) {
    let mut bank = Bank::new(options).unwrap();
    bank.add_series(SeriesHints {
        metric: "m",
        kind,
        counter: false,
        hash: 1,
    });
    let mut episodes = vec![];
    for (i, value) in values.into_iter().enumerate() {
        let start = Timestamp::from_millis(START + i as i64 * MINUTE);
        let end = Timestamp::from_millis(START + (i as i64 + 1) * MINUTE);
        bank.update(
            &Column {
                start,
                end,
                at: end,
                rows: &[0],
                values: &[value],
            },
            None,
            &mut episodes,
        );
    }
    (bank, episodes)
}

fn watch(values: impl IntoIterator<Item = f64>) -> Vec<Episode> {
    watch_as(SignalKind::Cpu, &Options::default(), values).1
}

fn phases(episodes: &[Episode]) -> Vec<(AnomalyPhase, Option<EndReason>)> {
    episodes
        .iter()
        .map(|e| (e.phase, e.end))
        .filter(|p| !matches!(p.0, AnomalyPhase::Grown | AnomalyPhase::Eased))
        .collect()
}

const OPENED: (AnomalyPhase, Option<EndReason>) = (AnomalyPhase::Opened, None);
const RECOVERED: (AnomalyPhase, Option<EndReason>) = (AnomalyPhase::Ended, Some(EndReason::Recovered));
const ADAPTED: (AnomalyPhase, Option<EndReason>) = (AnomalyPhase::Ended, Some(EndReason::Adapted));

#[test]
fn noise_raises_nothing_for_three_weeks() {
    assert_eq!(watch((0..30_000).map(|i| 100.0 + 10.0 * noise(i))), []);
}

#[test]
fn an_outage_opens_within_two_windows_and_closes_on_recovery() {
    let level = |i| if (600..620).contains(&i) { 300.0 } else { 100.0 };
    let episodes = watch((0..700).map(|i| level(i) + 5.0 * noise(i)));
    assert_eq!(phases(&episodes), [OPENED, RECOVERED]);
    let opened = &episodes[0];
    assert!(opened.at.as_millis() <= START + 602 * MINUTE, "{opened:?}");
    assert_eq!(opened.onset.as_millis(), START + 600 * MINUTE);
    assert_eq!(opened.direction, Direction::Up);
    assert!((90.0..110.0).contains(&opened.expected) && opened.upper < 300.0 && opened.lower < 100.0);
    assert!(
        opened.detail.contains("standard deviations off: expected"),
        "{}",
        opened.detail
    );
    assert_eq!(episodes.last().unwrap().at.as_millis(), START + 623 * MINUTE);
}

#[test]
fn an_hour_of_outage_is_not_learned_and_shows_again_the_next_time() {
    let level = |i| {
        if (600..660).contains(&i) || (900..930).contains(&i) {
            200.0
        } else {
            100.0
        }
    };
    let episodes = watch((0..1_000).map(|i| level(i) + 3.0 * noise(i)));
    assert_eq!(phases(&episodes), [OPENED, RECOVERED, OPENED, RECOVERED]);
}

#[test]
fn a_level_that_stays_is_accepted_after_the_time_set_and_is_then_normal() {
    let episodes = watch((0..3_000).map(|i| if i < 600 { 100.0 } else { 200.0 } + 3.0 * noise(i)));
    assert_eq!(phases(&episodes), [OPENED, ADAPTED]);
    assert_eq!(episodes.last().unwrap().at.as_millis(), START + 720 * MINUTE);
}

#[test]
fn nothing_is_said_while_warming_up() {
    assert_eq!(watch((0..60).map(|i| if i % 9 == 1 { 1e6 } else { 1.0 })), []);
}

#[test]
fn constants_raise_nothing_and_a_jump_from_one_does() {
    assert_eq!(watch(vec![0.0; 2_000]), []);
    assert_eq!(watch(vec![42.0; 2_000]), []);
    // a tremor of a thousandth is no event, a jump by half is
    assert_eq!(watch((0..2_000).map(|i| if i > 1_500 { 42.04 } else { 42.0 })), []);
    let episodes = watch((0..1_520).map(|i| if i >= 1_500 { 63.0 } else { 42.0 }));
    assert_eq!(phases(&episodes), [OPENED]);
}

#[test]
fn a_rare_count_is_usual_and_a_run_of_them_is_not() {
    let rare = |i: usize| if i.is_multiple_of(97) { 3.0 } else { 0.0 };
    let options = Options::default();
    let (_, calm) = watch_as(SignalKind::Errors, &options, (0..5_000).map(rare));
    assert_eq!(calm, []);
    let (_, storm) = watch_as(
        SignalKind::Errors,
        &options,
        (0..5_000).map(|i| if i >= 4_900 { 60.0 } else { rare(i) }),
    );
    assert_eq!(storm.first().map(|e| e.phase), Some(AnomalyPhase::Opened));
}

#[test]
fn a_daily_wave_is_foretold_by_the_time_of_day() {
    let wave = |i: usize| 100.0 + 60.0 * (i as f64 / 1_440.0 * std::f64::consts::TAU).sin();
    let day = 1_440;
    let options = Options::default();
    let values = (0..8 * day).map(|i| if (7 * day..7 * day + 10).contains(&i) { 160.0 } else { wave(i) } + 2.0 * noise(i));
    let (bank, episodes) = watch_as(SignalKind::Traffic, &options, values);
    assert!(bank.explain(0).contains("time of day after"), "{}", bank.explain(0));
    // 160 is within the day's range, but not at that hour
    let late: Vec<_> = episodes
        .iter()
        .filter(|e| e.at.as_millis() > START + 3 * day as i64 * MINUTE)
        .collect();
    assert_eq!(
        late.first().map(|e| e.onset.as_millis()),
        Some(START + 7 * day as i64 * MINUTE)
    );
    assert_eq!(
        late.len(),
        2 + late
            .iter()
            .filter(|e| matches!(e.phase, AnomalyPhase::Grown | AnomalyPhase::Eased))
            .count()
    );
}

#[test]
fn a_quiet_weekend_is_foretold_by_the_time_of_week_where_that_is_learned() {
    let day = 144;
    let busy = |i: usize| {
        let wave = 1.0 + 0.4 * (i as f64 / day as f64 * std::f64::consts::TAU).sin();
        if i / day % 7 < 5 { 100.0 * wave } else { 30.0 * wave }
    };
    let late = |weekly: bool| {
        let mut options = Options::default();
        options.season.weekly = weekly;
        let mut bank = Bank::new(&options).unwrap();
        bank.add_series(SeriesHints {
            metric: "m",
            kind: SignalKind::Traffic,
            counter: false,
            hash: 1,
        });
        let mut episodes = vec![];
        for i in 0..8 * 7 * day {
            let start = Timestamp::from_millis(START + 10 * i as i64 * MINUTE);
            let end = Timestamp::from_millis(start.as_millis() + 10 * MINUTE);
            let column = Column {
                start,
                end,
                at: end,
                rows: &[0],
                values: &[busy(i) + 2.0 * noise(i)],
            };
            bank.update(&column, None, &mut episodes);
        }
        let from = START + 5 * 7 * 1_440 * MINUTE;
        let late = episodes.iter().filter(|e| e.at.as_millis() > from);
        (bank.explain(0), late.count(), bank.bytes_per_series())
    };
    let ((words, with, bytes), (_, without, least)) = (late(true), late(false));
    assert!(words.contains("time of week after"), "{words}");
    assert!(with * 4 <= without, "{with} {without}");
    assert_eq!((least, bytes), (365, 365 + 524));
}

#[test]
fn a_shift_of_a_few_deviations_is_told_with_the_window_in_which_it_began() {
    for (shift, within) in [(2.5, 40), (5.0, 12), (12.0, 2)] {
        let values = (0..1_100).map(|i| 100.0 + noise(i) + if i >= 1_000 { shift } else { 0.0 });
        let mut options = Options::default();
        options.least_effect.relative = Some(0.0);
        let (_, episodes) = watch_as(SignalKind::Other, &options, values);
        let opened = &episodes[0];
        let minute = |time: Timestamp| (time.as_millis() - START) / MINUTE;
        assert!(
            (1_000..=1_000 + within).contains(&minute(opened.at)) && (minute(opened.onset) - 1_000).abs() <= 1,
            "{shift}: {opened:?}"
        );
    }
}

#[test]
fn only_the_side_that_matters_counts() {
    let fall = |i: usize| if i >= 600 { 0.01 } else { 0.2 + 0.01 * noise(i) };
    let options = Options::default();
    assert_eq!(watch_as(SignalKind::Latency, &options, (0..700).map(fall)).1, []);
    assert_eq!(
        phases(&watch_as(SignalKind::Traffic, &options, (0..700).map(fall)).1),
        [OPENED]
    );
}

#[test]
fn what_is_too_small_to_matter_is_let_pass() {
    let values = || (0..700).map(|i| if i >= 600 { 102.0 } else { 100.0 } + 0.01 * noise(i));
    let mut options = Options::default();
    options.least_effect.absolute = 5.0;
    assert_eq!(watch_as(SignalKind::Cpu, &options, values()).1, []);
    options.least_effect.absolute = 0.0;
    options.least_effect.relative = Some(0.0);
    let (_, episodes) = watch_as(SignalKind::Other, &options, values());
    assert_eq!(
        (episodes[0].detector, episodes[0].onset.as_millis()),
        ("seasonal", START + 600 * MINUTE),
        "where every size matters, two percent are two hundred standard deviations"
    );
    options.thresholds = Thresholds {
        upper: Some(101.0),
        lower: None,
    };
    let (_, episodes) = watch_as(SignalKind::Cpu, &options, values());
    assert_eq!((episodes[0].detector, episodes[0].upper), ("threshold", 101.0));
}

#[test]
fn silence_ends_an_anomaly_without_calling_it_recovered_and_is_one_itself() {
    let value = |i: usize| match i {
        600..605 => 500.0,
        605..640 => f64::NAN,
        _ => 100.0 + 3.0 * noise(i),
    };
    let episodes = watch((0..660).map(value));
    let silent = (AnomalyPhase::Ended, Some(EndReason::Silent));
    assert_eq!(phases(&episodes), [OPENED, silent, OPENED, RECOVERED]);
    let absent = episodes.iter().find(|e| e.detector == "silence").unwrap();
    assert_eq!((absent.direction, absent.value), (Direction::Absent, None));
    assert_eq!(absent.onset.as_millis(), START + 605 * MINUTE);
}

#[test]
fn a_series_that_often_pauses_is_not_called_silent() {
    let value = |i: usize| if i % 40 >= 25 { f64::NAN } else { 100.0 + 3.0 * noise(i) };
    let late: Vec<_> = watch((0..4_000).map(value))
        .into_iter()
        .filter(|e| e.at.as_millis() > START + 600 * MINUTE)
        .collect();
    assert_eq!(late, []);
}

#[test]
fn a_year_without_samples_starts_gently() {
    let mut bank = Bank::new(&Options::default()).unwrap();
    bank.add_series(SeriesHints {
        metric: "m",
        kind: SignalKind::Cpu,
        counter: false,
        hash: 1,
    });
    let mut episodes = vec![];
    for i in 0..1_300i64 {
        let gap = if i >= 600 { 365 * 1_440 } else { 0 };
        let start = Timestamp::from_millis(START + (i + gap) * MINUTE);
        let end = Timestamp::from_millis(start.as_millis() + MINUTE);
        let value = if i >= 600 { 104.0 } else { 100.0 } + 3.0 * noise(i as usize);
        bank.update(
            &Column {
                start,
                end,
                at: end,
                rows: &[0],
                values: &[value],
            },
            None,
            &mut episodes,
        );
    }
    assert_eq!(episodes, []);
}

#[test]
fn what_was_learned_elsewhere_need_not_be_learned_again() {
    let wave = |i: usize| 100.0 + 30.0 * (i as f64 / 1_440.0 * std::f64::consts::TAU).sin() + noise(i);
    let (trained, _) = watch_as(SignalKind::Cpu, &Options::default(), (0..10 * 1_440).map(wave));
    // two days later, with an outage in the first minutes
    let from = 12 * 1_440;
    let live = |model: Option<&Bank>| {
        let mut bank = Bank::new(&Options::default()).unwrap();
        bank.add_series(SeriesHints {
            metric: "m",
            kind: SignalKind::Cpu,
            counter: false,
            hash: 1,
        });
        let took = model.is_some_and(|model| bank.adopt(0, model, 0));
        let mut episodes = vec![];
        for i in from..from + 600 {
            let start = Timestamp::from_millis(START + i as i64 * MINUTE);
            let end = Timestamp::from_millis(START + (i as i64 + 1) * MINUTE);
            let value = if (from + 40..from + 60).contains(&i) {
                300.0
            } else {
                wave(i)
            };
            let column = Column {
                start,
                end,
                at: end,
                rows: &[0],
                values: &[value],
            };
            bank.update(&column, None, &mut episodes);
        }
        (took, phases(&episodes), bank.explain(0))
    };
    let (took, told, words) = live(Some(&trained));
    assert_eq!(
        told,
        [OPENED, (AnomalyPhase::Ended, Some(EndReason::Recovered))],
        "{words}"
    );
    assert!(took && words.contains("time of day"), "{words}");
    let (took, told, _) = live(None);
    assert!(!took && told.is_empty(), "a new series is still warming up: {told:?}");
}
