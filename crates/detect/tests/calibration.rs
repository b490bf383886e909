//! Whether a score means the same probability whichever detector it is from: on noise that has nothing in it, windows less
//! likely than `p` must come about as often as `p` says. Tails are taken to fall off as a power, which those of a normal
//! distribution outdo: far out, probabilities are on the safe side, by as much for one detector as for the other.

// helpers of tests, over counts of windows far below any limit
#![allow(clippy::unwrap_used, clippy::cast_possible_wrap)]

use suture_detect::{Bank, Column, DetectorName, Detectors, Options, SequenceMode, SeriesHints};
use suture_event::{SignalKind, Timestamp};
use suture_testkit::noise::Noise;

const MINUTE: i64 = 60_000;
const WINDOWS: usize = 300_000;
/// Windows that are learned from before scores are counted.
const LEARNED: usize = 20_000;

/// How often windows were less likely than each of `levels`, as a multiple of the level.
fn shares(options: &Options, levels: &[f64], count: usize) -> Vec<f64> {
    let mut bank = Bank::new(options).unwrap();
    bank.add_series(SeriesHints {
        metric: "m",
        kind: SignalKind::Other,
        counter: false,
        hash: 1,
    });
    let (mut scores, mut episodes) = (vec![], vec![]);
    for (i, value) in Noise(0x1234_5678_9ABC_DEF1).normals().take(count).enumerate() {
        let start = Timestamp::from_millis(1_700_006_400_000 + i as i64 * MINUTE);
        let end = Timestamp::from_millis(start.as_millis() + MINUTE);
        let column = Column {
            start,
            end,
            at: end,
            rows: &[0],
            values: &[10.0 + value],
        };
        bank.update(&column, Some(&mut scores), &mut episodes);
    }
    let counted = &scores[LEARNED..];
    let share = |p: f64| counted.iter().filter(|s| 1.0 - **s < p).count() as f64 / counted.len() as f64 / p;
    levels.iter().map(|p| share(*p)).collect()
}

fn only(name: DetectorName) -> Options {
    let mut options = Options {
        detectors: Detectors::List(vec![name]),
        refractory: 0,
        ..Options::default()
    };
    options.least_effect.relative = Some(0.0);
    options
}

#[test]
fn a_probability_means_the_same_from_each_detector() {
    // where alarms are: the body of a distribution is only drawn roughly
    let levels = [2e-3, 1e-3];
    for name in [DetectorName::Seasonal, DetectorName::Shift] {
        let found = shares(&only(name), &levels, WINDOWS);
        println!("{name:?}: {found:?}");
        for (share, p) in found.iter().zip(levels) {
            assert!(
                (0.2..=2.0).contains(share),
                "{name:?}: windows below {p} are {share} times as many"
            );
        }
    }
    // both together: the smaller of the two, paid for
    let mut both = only(DetectorName::Seasonal);
    both.detectors = Detectors::List(vec![DetectorName::Seasonal, DetectorName::Shift]);
    let found = shares(&both, &levels, WINDOWS);
    println!("both: {found:?}");
    assert!(found.iter().all(|share| (0.2..=2.0).contains(share)), "{found:?}");
}

#[test]
fn the_sequence_model_joins_what_is_correlated_and_says_so_by_alarms_in_bunches() {
    let options = Options {
        sequence: SequenceMode::On,
        ..only(DetectorName::Sequence)
    };
    let found = shares(&options, &[0.02, 2e-3], 60_000);
    println!("sequence: {found:?}");
    assert!(found.iter().all(|share| (0.05..=3.0).contains(share)), "{found:?}");
}
