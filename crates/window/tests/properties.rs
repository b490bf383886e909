//! Any split into batches, and any number of snapshots and restores in between, give the same windows; and these are
//! the ones that a plain reading of the rules gives.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests fail by panicking, as tests do

use proptest::prelude::*;
use suture_event::{Span, Timestamp};
use suture_window::{Aggregate, Closed, Gaps, Options, Windows};

const AGGREGATES: [Aggregate; 10] = [
    Aggregate::Count,
    Aggregate::Sum,
    Aggregate::Mean,
    Aggregate::Min,
    Aggregate::Max,
    Aggregate::Last,
    Aggregate::Rate,
    Aggregate::Increase,
    Aggregate::Quantile(0.5),
    Aggregate::Quantile(0.999),
];

type Sample = (u32, i64, f64);

/// A closed window, owned; values as bits, so that NaN equals itself.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    start: i64,
    end: i64,
    at: i64,
    rows: Vec<u32>,
    values: Vec<u64>,
    counts: Vec<u32>,
    last: Vec<i64>,
    forgotten: Vec<u32>,
}

impl Told {
    fn new(closed: &Closed<'_>) -> Self {
        Self {
            start: closed.start.as_millis(),
            end: closed.end.as_millis(),
            at: closed.at.as_millis(),
            rows: closed.rows.to_vec(),
            values: closed.values.iter().map(|v| v.to_bits()).collect(),
            counts: closed.counts.to_vec(),
            last: (0..closed.rows.len()).map(|i| closed.last(i).as_millis()).collect(),
            forgotten: closed.forgotten.to_vec(),
        }
    }
}

fn windows(options: &Options) -> Windows {
    let mut windows = Windows::new(options).unwrap();
    for aggregate in AGGREGATES {
        windows.add_series(aggregate);
    }
    windows
}

fn push(windows: &mut Windows, samples: &[Sample], told: &mut Vec<Told>) {
    let rows: Vec<u32> = samples.iter().map(|s| s.0).collect();
    let ts: Vec<Timestamp> = samples.iter().map(|s| Timestamp::from_millis(s.1)).collect();
    let values: Vec<f64> = samples.iter().map(|s| s.2).collect();
    windows.push(&rows, &ts, &values, &mut |closed| told.push(Told::new(closed)));
}

fn options() -> impl Strategy<Value = Options> {
    let gaps = prop_oneof![Just(Gaps::Skip), Just(Gaps::Carry), Just(Gaps::Zero)];
    (0..3_usize, 1..4_i64, 0..35_i64, gaps, 0..4_u32, 1..6_u32, 60..400_i64).prop_map(
        |(mode, per_window, lateness, gaps, gap_limit, max_empty, forget)| {
            let slide = [0, 10, 7][mode];
            Options {
                size: (slide > 0).then(|| Span::from_millis(slide * per_window)),
                slide: (slide > 0).then(|| Span::from_millis(slide)),
                lateness: Span::from_millis(if slide > 0 { lateness } else { 0 }),
                gaps: if slide > 0 { gaps } else { Gaps::Skip },
                gap_limit,
                max_empty,
                forget_after: Span::from_millis(forget),
                ..Options::default()
            }
        },
    )
}

/// Steps mostly forward, now and then back, or over a gap, or over a very long one.
fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let step = prop_oneof![
        12 => 0..6_i64,
        4 => -30..0_i64,
        2 => 10..90_i64,
        1 => 300..2_000_i64,
        1 => Just(31_536_000_000_i64),
        1 => Just(-31_536_000_000_i64),
    ];
    let value = prop_oneof![
        8 => (-50..1_000_i32).prop_map(f64::from),
        4 => -1.0..1.0_f64,
        1 => prop_oneof![Just(1e300), Just(-1e300), Just(1e-300), Just(0.0), Just(f64::NAN), Just(f64::INFINITY)],
    ];
    let rows = u32::try_from(AGGREGATES.len()).unwrap();
    prop::collection::vec((0..=rows, step, value), 1..250).prop_map(|steps| {
        let mut at = -100_i64;
        steps
            .into_iter()
            .map(|(row, step, value)| {
                at += step;
                (row, at, value)
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn splits_and_restores_change_nothing(
        options in options(),
        samples in samples(),
        cuts in prop::collection::vec((1..20_usize, any::<bool>()), 1..40),
    ) {
        let mut at_once = Vec::new();
        let mut whole = windows(&options);
        push(&mut whole, &samples, &mut at_once);

        let mut in_parts = Vec::new();
        let mut part = windows(&options);
        let mut rest = samples.as_slice();
        for (length, restart) in cuts.into_iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (batch, later) = rest.split_at(length.min(rest.len()));
            push(&mut part, batch, &mut in_parts);
            rest = later;
            if restart {
                let bytes = part.snapshot().unwrap();
                prop_assert_eq!(&bytes, &part.snapshot().unwrap());
                part = Windows::new(&options).unwrap();
                part.restore(&bytes).unwrap();
            }
        }
        prop_assert_eq!(&at_once, &in_parts);
        prop_assert_eq!(whole.counters(), part.counters());
        prop_assert_eq!(whole.watermark(), part.watermark());
        let counters = whole.counters();
        let dropped = counters.late_dropped + counters.repeated + counters.not_finite + counters.unknown_row;
        prop_assert_eq!(counters.accepted + dropped, samples.len() as u64);
        prop_assert_eq!(counters.closed, at_once.len() as u64);
    }

    #[test]
    fn windows_are_those_of_a_plain_reading(options in options(), samples in samples()) {
        prop_assume!(options.size.is_some());
        // whole numbers, so that the order of addition can't show
        let samples: Vec<Sample> =
            samples.into_iter().map(|(row, at, v)| (row, at, if v.abs() < 1e6 { v.round() } else { v.signum() })).collect();
        let mut told = Vec::new();
        push(&mut windows(&options), &samples, &mut told);
        for pair in told.windows(2) {
            prop_assert!(pair[0].end < pair[1].end, "windows close in order of time, each once");
        }
        let plain = Plain::read(&options, &samples);
        for window in &told {
            let expected = plain.window(window.start, window.end);
            for (i, &row) in window.rows.iter().enumerate() {
                let (value, count) = expected[row as usize];
                prop_assert_eq!(window.counts[i], count, "row {} of {:?}", row, window);
                if count > 0 {
                    let found = f64::from_bits(window.values[i]);
                    let close = (found - value).abs() <= 1e-9 * value.abs().max(1.0) || found.is_nan() && value.is_nan();
                    prop_assert!(close, "row {}: {} instead of {} in {:?}", row, found, value, window);
                }
            }
            let listed = |row: usize| window.rows.contains(&u32::try_from(row).unwrap());
            prop_assert!(expected.iter().enumerate().all(|(row, (_, count))| *count == 0 || listed(row)));
        }
        // a window that has a sample is told as soon as the watermark is over its end
        for start in plain.starts_with_samples() {
            let known = told.iter().any(|window| window.start == start);
            prop_assert_eq!(known, start + plain.size + plain.lateness <= plain.newest, "the window at {}", start);
        }
    }
}

/// The rules read plainly: all samples kept, every window computed from them.
struct Plain {
    size: i64,
    slide: i64,
    lateness: i64,
    newest: i64,
    taken: Vec<Sample>,
    /// The oldest carried sample that a counter may be read off, before the start of a pane.
    memory: i64,
}

/// A counter's growth: what is lower by less than half is out of date, and made good by a step as large.
fn grown(from: f64, to: f64, owed: &mut f64) -> f64 {
    let step = to - from;
    match step {
        _ if step >= 0.0 && *owed > 0.0 && step >= *owed => step - std::mem::take(owed),
        _ if step >= 0.0 => step,
        _ if to >= from / 2.0 => {
            *owed -= step;
            0.0
        }
        _ => {
            *owed = 0.0;
            to
        }
    }
}

impl Plain {
    fn read(options: &Options, samples: &[Sample]) -> Self {
        let size = options.size.unwrap().as_millis();
        let slide = options.slide.unwrap().as_millis();
        let lateness = options.lateness.as_millis();
        let memory = i64::from(options.gap_limit) * slide + size;
        let mut plain = Self {
            size,
            slide,
            lateness,
            newest: i64::MIN,
            taken: Vec::new(),
            memory,
        };
        for &(row, at, value) in samples {
            if !value.is_finite() || row as usize >= AGGREGATES.len() {
                continue;
            }
            let pane_end = (at.div_euclid(slide) + 1) * slide;
            if plain.newest == i64::MIN || pane_end + lateness > plain.newest {
                plain.newest = plain.newest.max(at);
                plain.taken.push((row, at, value));
            }
        }
        plain
    }

    fn starts_with_samples(&self) -> Vec<i64> {
        let panes = self.taken.iter().map(|s| s.1.div_euclid(self.slide) * self.slide);
        panes
            .flat_map(|pane| (0..self.size / self.slide).map(move |back| pane - back * self.slide))
            .collect()
    }

    /// For each row, its value and how many samples it has.
    fn window(&self, start: i64, end: i64) -> Vec<(f64, u32)> {
        (0_u32..)
            .zip(AGGREGATES)
            .map(|(row, aggregate)| {
                let of_row = || self.taken.iter().filter(move |s| s.0 == row);
                let values: Vec<f64> = of_row().filter(|s| (start..end).contains(&s.1)).map(|s| s.2).collect();
                let count = u32::try_from(values.len()).unwrap();
                let sum: f64 = values.iter().sum();
                let value = match aggregate {
                    _ if count == 0 => f64::NAN,
                    Aggregate::Count => f64::from(count),
                    Aggregate::Sum => sum,
                    Aggregate::Mean => sum / f64::from(count),
                    Aggregate::Min => values.iter().copied().fold(f64::INFINITY, f64::min),
                    Aggregate::Max => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                    Aggregate::Last => {
                        of_row()
                            .filter(|s| (start..end).contains(&s.1))
                            .max_by_key(|s| s.1)
                            .unwrap()
                            .2
                    }
                    Aggregate::Increase => self.gain(row, start, end).0,
                    Aggregate::Rate => {
                        let (gain, elapsed) = self.gain(row, start, end);
                        gain / elapsed * 1_000.0
                    }
                    Aggregate::Quantile(share) => return (self.quantile(values, share), count),
                };
                (value, count)
            })
            .collect()
    }

    /// Pane by pane, as out-of-order samples of a counter are judged within their pane; from the first pane on, as what an
    /// answer that is out of date lacks is carried from pane to pane.
    #[allow(clippy::cast_precision_loss)] // small numbers
    fn gain(&self, row: u32, start: i64, end: i64) -> (f64, f64) {
        let mut panes: Vec<i64> = self
            .taken
            .iter()
            .filter(|s| s.0 == row)
            .map(|s| self.pane_of(s.1))
            .collect();
        panes.sort_unstable();
        panes.dedup();
        let (mut total, mut known, mut carried_owed) = ((0.0, 0), false, 0.0);
        for pane in panes.into_iter().filter(|pane| *pane < end) {
            let inside = self.taken.iter().filter(|s| s.0 == row && self.pane_of(s.1) == pane);
            let inside: Vec<&Sample> = inside.collect();
            let &&(_, at, value) = inside.first().unwrap();
            let (mut first, mut newest, mut gain, mut owed) = ((at, value), (at, value), 0.0, 0.0);
            for &&(_, at, value) in &inside[1..] {
                if at > newest.0 {
                    gain += grown(newest.1, value, &mut owed);
                    newest = (at, value);
                } else if at < first.0 && value > first.1 && first.1 >= value / 2.0 {
                    first.0 = at;
                } else if at < first.0 {
                    gain += grown(value, first.1, &mut 0.0);
                    first = (at, value);
                }
            }
            let mut since = first.0;
            if let Some(before) = self.newest_before(row, pane)
                && before.0 >= pane - self.memory
            {
                gain += grown(before.1, first.1, &mut carried_owed);
                since = before.0;
                if owed == 0.0 && newest.1 - first.1 < carried_owed {
                    owed = carried_owed;
                }
            }
            carried_owed = owed;
            if newest.0 > since && pane >= start {
                total = (total.0 + gain, total.1 + newest.0 - since);
                known = true;
            }
        }
        if known {
            (total.0, total.1 as f64)
        } else {
            (f64::NAN, f64::NAN)
        }
    }

    fn pane_of(&self, at: i64) -> i64 {
        at.div_euclid(self.slide) * self.slide
    }

    /// The newest sample of the panes before; of several at one time, the first to arrive.
    fn newest_before(&self, row: u32, pane: i64) -> Option<(i64, f64)> {
        let mut newest: Option<(i64, f64)> = None;
        for &(_, at, value) in self.taken.iter().filter(|s| s.0 == row && s.1 < pane) {
            if newest.is_none_or(|(before, _)| at > before) {
                newest = Some((at, value));
            }
        }
        newest
    }

    /// The true quantile where the sketch's answer is within its relative error of it, else the answer it should be near.
    fn quantile(&self, mut values: Vec<f64>, share: f64) -> f64 {
        values.sort_by(f64::total_cmp);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss
        )] // small numbers
        let rank = (share * (values.len() as f64 - 1.0)) as usize;
        let exact = values[rank];
        // the same mapping as the sketch's, so that both can be compared closely
        let gamma: f64 = 1.01 / 0.99;
        if exact == 0.0 {
            return 0.0;
        }
        let key = (exact.abs().ln() / gamma.ln()).floor();
        let near = (key * gamma.ln()).exp() * (2.0 * gamma / (1.0 + gamma)) * exact.signum();
        assert!(
            (near - exact).abs() <= 0.010_001 * exact.abs(),
            "{near} is not within 1% of {exact}"
        );
        near.clamp(values[0], values[values.len() - 1])
    }
}
