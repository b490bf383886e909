//! The sequence model: notices when the shape of a series, and not only its level, is one that was not there before.
//!
//! Seven distances are followed side by side and each is read off the tail of its own past, as in `tail`: how far the
//! means of the last 40 and 80 values lie from a long level; how the roughness of the last 30 values compares with what
//! is usual; how surprising the last ten symbols were to a model of contexts (blended
//! prediction over orders 0 to 4 as in J. Cleary and I. Witten, "Data compression using adaptive coding and partial
//! string matching", 1984; the ten against all before as in A. Lavin and S. Ahmad, "Evaluating real-time anomaly
//! detection algorithms", 2015); how far the last twelve and the last 24 values are from the nearest earlier ones
//! (E. Burnaev and V. Ishimtsev, "Conformalized density- and distance-based anomaly detection in time-series data",
//! 2016); and how far the distribution of the last 50 values is from that of the 600 before (N. Smirnov, 1939). With the
//! seasonal detector's own they are joined by the sum of their logarithms (R. A. Fisher, 1925), in which what looks at
//! much the same counts for less and the order of values, which nothing else looks at, for more (I. J. Good, "On the
//! weighted combination of significance tests", 1955).
//!
//! Strictly causal, memory bounded: [`Sequence::BYTES`] a series, some ten microseconds a value.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, ListArray};
use arrow_buffer::OffsetBuffer;
use arrow_schema::Field;

use crate::{
    Error,
    state::{Cell, Columns, load, save},
};

const FEATURES: usize = 7;
pub(crate) const FEATURE_NAMES: [&str; FEATURES] = [
    "the mean of the last 40 values",
    "the mean of the last 80 values",
    "how rough the last 30 values are",
    "the order of the last 10 values",
    "the course of the last 12 values",
    "the course of the last 24 values",
    "how the last 50 values are distributed",
];
/// What each feature counts for, in votes; the seasonal detector has one.
const VOTES: [f64; FEATURES] = [1.0, 0.5, 1.0, 1.5, 1.0, 0.5, 0.5];
/// All votes together.
const ALL_VOTES: u32 = 7;

/// Values remembered by the short means.
const RING: usize = 80;
const ROUGH: usize = 30;
const SHORT: usize = 10;
/// Values among which a symbol is ranked.
const RANKED: usize = 3_000;
const SYMBOLS: usize = 8;
/// With one symbol each for new heights and depths.
const ALPHABET: usize = SYMBOLS + 2;
const ORDERS: usize = 5;
const CONTEXTS: usize = 8_192;
const SHAPE: usize = 12;
const LONG_SHAPE: usize = 24;
const SHAPES: usize = 400;
const NEIGHBOURS: usize = 3;
/// Values whose distribution is compared, with how many before them, and how often.
const NEW: usize = 50;
const OLD: usize = 600;
const COMPARE: usize = 5;
/// Values before the features that need many have anything to say.
const LONG_SHAPE_FROM: usize = 3 * LONG_SHAPE;
const COMPARE_FROM: usize = 3 * NEW;
/// Distances gathered before a tail is fitted.
const FIRST: usize = 60;
/// Long memory, in values.
const LONG: f64 = 1_500.0;

// where things stand in a series' block of numbers
const N: usize = 0;
const LEVEL: usize = 1;
const SCALE: usize = 2;
const PREVIOUS: usize = 3;
const SURPRISE: usize = 4;
const SURPRISE_SPREAD: usize = 5;
const ROUGH_LEVEL: usize = 6;
const ROUGH_SPREAD: usize = 7;
const SEED: usize = 8;
const SHAPES_SEEN: usize = 9;
const REST: usize = 10;
const LONG_SEED: usize = 11;
const LONG_SHAPES_SEEN: usize = 12;
const COMPARED: usize = 13;
const HISTORY: usize = 14;
const LEVELS: usize = HISTORY + ORDERS;
const WARPED: usize = LEVELS + RING;
const STEPS: usize = WARPED + 2 * LONG_SHAPE;
const SURPRISES: usize = STEPS + ROUGH;
const TAILS: usize = SURPRISES + SHORT;
/// Of a tail: quantile, rate, index, excesses, record, count, and the first distances.
const TAIL: usize = 6 + FIRST;
const SORTED: usize = TAILS + FEATURES * TAIL;
const ARRIVED: usize = SORTED + RANKED;
const LIBRARY: usize = ARRIVED + RANKED;
const LONG_LIBRARY: usize = LIBRARY + SHAPES * SHAPE;
const DISTANCES: usize = LONG_LIBRARY + SHAPES * LONG_SHAPE;
const NUMBERS: usize = DISTANCES + OLD + NEW;
const COUNTS: usize = CONTEXTS * ALPHABET;
const NONE: u32 = u32::MAX;

/// The model's state: blocks of numbers for the series that have one, found through `slots`.
#[derive(Debug, Default)]
pub(crate) struct Sequence {
    slots: Vec<u32>,
    numbers: Vec<f64>,
    counts: Vec<u8>,
    scratch: Vec<f64>,
}

impl Sequence {
    /// Bytes of a series that has the model.
    pub(crate) const BYTES: usize = NUMBERS * 8 + COUNTS;

    pub(crate) fn push(&mut self) {
        self.slots.push(NONE);
    }

    /// Takes over the model of a series elsewhere, where it has one.
    pub(crate) fn adopt(&mut self, row: usize, from: &Self, from_row: usize) {
        let slot = from.slots[from_row] as usize;
        if from.slots[from_row] == NONE {
            return;
        }
        if self.slots[row] == NONE {
            self.slots[row] = u32::try_from(self.numbers.len() / NUMBERS).unwrap_or(NONE);
            self.numbers.resize(self.numbers.len() + NUMBERS, 0.0);
            self.counts.resize(self.counts.len() + COUNTS, 0);
        }
        let to = self.slots[row] as usize;
        self.numbers[to * NUMBERS..(to + 1) * NUMBERS]
            .copy_from_slice(&from.numbers[slot * NUMBERS..(slot + 1) * NUMBERS]);
        self.counts[to * COUNTS..(to + 1) * COUNTS].copy_from_slice(&from.counts[slot * COUNTS..(slot + 1) * COUNTS]);
    }

    /// Forgets what is known of a series; its block, where it has one, is kept for the row's next.
    pub(crate) fn reset(&mut self, row: usize) {
        if self.slots[row] != NONE {
            let slot = self.slots[row] as usize;
            self.numbers[slot * NUMBERS..(slot + 1) * NUMBERS].fill(0.0);
            self.counts[slot * COUNTS..(slot + 1) * COUNTS].fill(0);
        }
    }

    /// Takes in a value; gives minus the decimal logarithm of each feature's probability.
    pub(crate) fn step(&mut self, row: usize, value: f64) -> [f64; FEATURES] {
        if self.slots[row] == NONE {
            self.slots[row] = u32::try_from(self.numbers.len() / NUMBERS).unwrap_or(NONE);
            self.numbers.resize(self.numbers.len() + NUMBERS, 0.0);
            self.counts.resize(self.counts.len() + COUNTS, 0);
        }
        let slot = self.slots[row] as usize;
        let numbers = &mut self.numbers[slot * NUMBERS..(slot + 1) * NUMBERS];
        let counts = &mut self.counts[slot * COUNTS..(slot + 1) * COUNTS];
        let value = value.clamp(-1e150, 1e150);
        let distances = distances(numbers, counts, &mut self.scratch, value);
        let mut out = [0.0; FEATURES];
        for (k, distance) in distances.into_iter().enumerate() {
            let Some(distance) = distance else { continue };
            out[k] = tail_step(&mut numbers[TAILS + k * TAIL..TAILS + (k + 1) * TAIL], distance);
        }
        out
    }

    /// Whether an alarm now would only repeat one of late; counts on, and begins anew on an alarm. How long it goes on
    /// grows with what is known of the series, as does the length of what is odd in it: 40 values and a fiftieth of
    /// those seen, at most `rest`.
    pub(crate) fn repeats(&mut self, row: usize, alarm: bool, rest: u32) -> bool {
        let block = self.slots[row] as usize * NUMBERS;
        let left = self.numbers[block + REST];
        if left > 0.0 {
            self.numbers[block + REST] = left - 1.0;
            return true;
        }
        if alarm {
            let known = (40.0 + 0.02 * self.numbers[block + N]).floor();
            self.numbers[block + REST] = known.min(f64::from(rest));
        }
        false
    }

    pub(crate) fn save(&self, out: &mut Columns) -> Result<(), Error> {
        out.put("sequence", "numbers", self.lists(&self.numbers, NUMBERS)?);
        out.put("sequence", "counts", self.lists(&self.counts, COUNTS)?);
        Ok(())
    }

    /// One list a series, empty for those that have no model.
    fn lists<T: Cell>(&self, cells: &[T], width: usize) -> Result<ArrayRef, Error> {
        let used = self.slots.iter().filter(|s| **s != NONE);
        let flat: Vec<T> = used
            .flat_map(|s| cells[*s as usize * width..(*s as usize + 1) * width].iter().copied())
            .collect();
        let lengths = self.slots.iter().map(|s| if *s == NONE { 0 } else { width });
        let values = save(&flat);
        let field = Arc::new(Field::new("item", values.data_type().clone(), false));
        let list =
            ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), values, None).map_err(Error::arrow)?;
        Ok(Arc::new(list))
    }

    pub(crate) fn load(&mut self, from: &Columns) -> Result<(), Error> {
        let wrong = |what: &str| Error::Snapshot(format!("its sequence models are of another shape ({what})"));
        let lists = |name: &str| {
            let array = from.get("sequence", name)?;
            array
                .as_any()
                .downcast_ref::<ListArray>()
                .cloned()
                .ok_or_else(|| wrong(name))
        };
        let (numbers, counts) = (lists("numbers")?, lists("counts")?);
        self.slots.clear();
        let mut next = 0;
        for row in 0..numbers.len() {
            let width = usize::try_from(numbers.value_length(row)).unwrap_or(0);
            if width != 0 && width != NUMBERS {
                return Err(wrong("numbers"));
            }
            self.slots.push(if width == 0 { NONE } else { next });
            next += u32::from(width != 0);
        }
        self.numbers = load(numbers.values())?;
        self.counts = load(counts.values())?;
        let blocks = next as usize;
        if self.numbers.len() != blocks * NUMBERS || self.counts.len() != blocks * COUNTS {
            return Err(wrong("lengths"));
        }
        Ok(())
    }
}

/// Puts a value at the end of a run of memory, and drops its first.
fn shift_in(run: &mut [f64], value: f64) {
    run.copy_within(1.., 0);
    if let Some(last) = run.last_mut() {
        *last = value;
    }
}

#[allow(clippy::cast_precision_loss)] // lengths of rings
fn mean(run: &[f64]) -> f64 {
    run.iter().sum::<f64>() / run.len().max(1) as f64
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)] // counts below 2^32
fn distances(numbers: &mut [f64], counts: &mut [u8], scratch: &mut Vec<f64>, value: f64) -> [Option<f64>; FEATURES] {
    let n = numbers[N];
    let seen = n as usize;
    if seen == 0 {
        numbers[LEVEL] = value;
        numbers[PREVIOUS] = value;
        numbers[SEED] = 12_345.0;
        numbers[LONG_SEED] = 54_321.0;
    }
    // a long level and scale
    let error = value - numbers[LEVEL];
    let least = 0.002 * numbers[LEVEL].abs() + 1e-200;
    let spread = numbers[SCALE].max(least);
    let z = (error / spread).clamp(-1e9, 1e9);
    let clipped = if n < 20.0 {
        error
    } else {
        error.clamp(-4.0 * spread, 4.0 * spread)
    };
    let gain = 1.0 / (n + 1.0).min(LONG);
    numbers[LEVEL] += gain * clipped;
    numbers[SCALE] += gain * (1.2533 * clipped.abs() - numbers[SCALE]);

    shift_in(&mut numbers[LEVELS..LEVELS + RING], z.clamp(-6.0, 6.0));
    let kept = (seen + 1).min(RING);
    let of_40 = mean(&numbers[LEVELS + RING - kept.min(40)..LEVELS + RING]).abs();
    let of_80 = mean(&numbers[LEVELS + RING - kept..LEVELS + RING]).abs();

    let rough = roughness(numbers, value, n);
    let order = surprise(numbers, counts, value, seen);
    shift_in(
        &mut numbers[WARPED..WARPED + 2 * LONG_SHAPE],
        z.signum() * (1.0 + z.abs()).ln(),
    );
    let shape = strangeness::<SHAPE>(numbers, scratch, seen, (SHAPES_SEEN, SEED, LIBRARY));
    let long_shape = strangeness::<LONG_SHAPE>(numbers, scratch, seen, (LONG_SHAPES_SEEN, LONG_SEED, LONG_LIBRARY));
    shift_in(&mut numbers[DISTANCES..DISTANCES + OLD + NEW], z);
    if seen >= COMPARE_FROM && seen.is_multiple_of(COMPARE) {
        numbers[COMPARED] = unlikeness(&numbers[DISTANCES..DISTANCES + OLD + NEW], scratch, seen);
    }
    numbers[PREVIOUS] = value;
    numbers[N] = n + 1.0;
    [
        Some(of_40),
        Some(of_80),
        Some(rough),
        Some(order),
        Some(shape),
        (seen >= LONG_SHAPE_FROM).then_some(long_shape),
        (seen >= COMPARE_FROM).then_some(numbers[COMPARED]),
    ]
}

/// How the mean step of late compares with the usual one, in standard deviations of its logarithm.
#[allow(clippy::cast_precision_loss)] // length of a ring
fn roughness(numbers: &mut [f64], value: f64, n: f64) -> f64 {
    const K: f64 = ROUGH as f64;
    let step = (value - numbers[PREVIOUS]).abs();
    shift_in(&mut numbers[STEPS..STEPS + ROUGH], step);
    if n < K {
        return 0.0;
    }
    let now = (mean(&numbers[STEPS..STEPS + ROUGH]) + 1e-10 * numbers[LEVEL].abs() + 1e-200).ln();
    if n < K + 1.0 {
        (numbers[ROUGH_LEVEL], numbers[ROUGH_SPREAD]) = (now, 1.0);
        return 0.0;
    }
    let wide = numbers[ROUGH_SPREAD].sqrt().max(0.1);
    let off = now - numbers[ROUGH_LEVEL];
    let clipped = if n < 50.0 + K {
        off
    } else {
        off.clamp(-4.0 * wide, 4.0 * wide)
    };
    let gain = 1.0 / (n + 1.0).min(LONG);
    numbers[ROUGH_LEVEL] += gain * clipped;
    numbers[ROUGH_SPREAD] += gain * (clipped * clipped - numbers[ROUGH_SPREAD]);
    if n < 2.0 * K { 0.0 } else { (off / wide).abs() }
}

/// How surprising the last symbols were, against how surprising symbols usually are.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)] // symbols and ranks
fn surprise(numbers: &mut [f64], counts: &mut [u8], value: f64, seen: usize) -> f64 {
    let symbol = symbol(numbers, value, seen);
    let mut slots = [0usize; ORDERS];
    let mut key = 0u64;
    let orders = ORDERS.min(seen + 1);
    for (order, slot) in slots.iter_mut().enumerate().take(orders) {
        if order > 0 {
            key = key * 31 + numbers[HISTORY + ORDERS - order] as u64 + 1;
        }
        // the short contexts have places of their own; the long ones share by hash
        let mixed = (key ^ (order as u64) << 40).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        *slot = match order {
            0 => 0,
            1 => 1 + (key as usize - 1).min(ALPHABET - 1),
            _ => 1 + ALPHABET + mixed as usize % (CONTEXTS - 1 - ALPHABET),
        } * ALPHABET;
    }
    let mut p = 1.0 / ALPHABET as f64;
    for slot in &slots[..orders] {
        let context = &mut counts[*slot..*slot + ALPHABET];
        let total: u32 = context.iter().map(|c| u32::from(*c)).sum();
        if total > 0 {
            let different = context.iter().filter(|c| **c > 0).count() as f64;
            let total = f64::from(total);
            let escape = different / (total + different);
            p = (1.0 - escape) * f64::from(context[symbol]) / total + escape * p;
        }
        if context[symbol] == u8::MAX {
            context.iter_mut().for_each(|c| *c = c.div_ceil(2));
        }
        context[symbol] += 1;
    }
    shift_in(&mut numbers[HISTORY..HISTORY + ORDERS], symbol as f64);
    shift_in(&mut numbers[SURPRISES..SURPRISES + SHORT], -p.ln());
    let short = mean(&numbers[SURPRISES + SHORT - (seen + 1).min(SHORT)..SURPRISES + SHORT]);
    let n = seen as f64;
    let usual = numbers[SURPRISE];
    let off = short - usual;
    let z = if n > 20.0 {
        off / numbers[SURPRISE_SPREAD].sqrt().max(1e-3 + 0.02 * usual.abs())
    } else {
        0.0
    };
    let gain = 1.0 / (n + 1.0).min(2_000.0);
    numbers[SURPRISE] += gain * off;
    numbers[SURPRISE_SPREAD] += gain * (off * off - numbers[SURPRISE_SPREAD]);
    z.max(0.0)
}

/// The rank of a value among the last ones, in eighths; or one of two symbols for what is higher or lower than any.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)] // ranks
fn symbol(numbers: &mut [f64], value: f64, seen: usize) -> usize {
    let kept = seen.min(RANKED);
    let sorted = &mut numbers[SORTED..SORTED + RANKED];
    let below = sorted[..kept].partition_point(|v| *v < value);
    let upto = sorted[..kept].partition_point(|v| *v <= value);
    let rank = if kept == 0 {
        0.5
    } else {
        (below + upto) as f64 / 2.0 / kept as f64
    };
    let mut symbol = ((rank * SYMBOLS as f64) as usize).min(SYMBOLS - 1);
    if kept > 50 {
        let (low, high) = (sorted[0], sorted[kept - 1]);
        let margin = 0.1 * (high - low);
        if value > high + margin {
            symbol = SYMBOLS;
        } else if value < low - margin {
            symbol = SYMBOLS + 1;
        }
    }
    let place = seen % RANKED;
    let oldest = numbers[ARRIVED + place];
    let sorted = &mut numbers[SORTED..SORTED + RANKED];
    let mut kept = kept;
    if kept == RANKED {
        let at = sorted.partition_point(|v| *v < oldest).min(RANKED - 1);
        sorted.copy_within(at + 1.., at);
        kept -= 1;
    }
    let at = sorted[..kept].partition_point(|v| *v < value);
    sorted.copy_within(at..kept, at + 1);
    sorted[at] = value;
    numbers[ARRIVED + place] = value;
    symbol
}

/// Distance of the last values from the nearest runs of the library, which is a uniform sample of the past.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)] // counts below 2^32
fn strangeness<const SHAPE: usize>(
    numbers: &mut [f64],
    scratch: &mut Vec<f64>,
    seen: usize,
    (shapes_seen, seed_at, library): (usize, usize, usize),
) -> f64 {
    if seen < SHAPE {
        return 0.0;
    }
    let mut old = [0.0; SHAPE];
    let mut now = [0.0; SHAPE];
    let end = WARPED + 2 * LONG_SHAPE;
    old.copy_from_slice(&numbers[end - 2 * SHAPE..end - SHAPE]);
    now.copy_from_slice(&numbers[end - SHAPE..end]);
    let offered = numbers[shapes_seen] as usize;
    let kept = offered.min(SHAPES);
    let mut distance = 0.0;
    if kept > 20 {
        scratch.clear();
        for run in numbers[library..library + kept * SHAPE].chunks_exact(SHAPE) {
            scratch.push(run.iter().zip(&now).map(|(a, b)| (a - b) * (a - b)).sum());
        }
        scratch.select_nth_unstable_by(NEIGHBOURS, f64::total_cmp);
        let mut nearest = [0.0; NEIGHBOURS];
        nearest.copy_from_slice(&scratch[..NEIGHBOURS]);
        nearest.sort_by(f64::total_cmp);
        distance = (nearest.iter().sum::<f64>() / (NEIGHBOURS * SHAPE) as f64).sqrt();
    }
    if seen >= 2 * SHAPE {
        let mut place = offered;
        if offered >= SHAPES {
            // a linear congruence that stays exact in a float
            let mut seed = numbers[seed_at] as u64;
            seed = (seed * 1_664_525 + 1_013_904_223) % (1 << 32);
            numbers[seed_at] = seed as f64;
            place = ((seed * (offered as u64 + 1)) >> 32) as usize;
        }
        if place < SHAPES {
            numbers[library + place * SHAPE..library + (place + 1) * SHAPE].copy_from_slice(&old);
        }
        numbers[shapes_seen] = (offered + 1) as f64;
    }
    distance
}

/// The largest difference between the distributions of the last [`NEW`] values and the up to [`OLD`] before them.
#[allow(clippy::cast_precision_loss)] // lengths of rings
fn unlikeness(run: &[f64], scratch: &mut Vec<f64>, seen: usize) -> f64 {
    let (old, new) = run.split_at(OLD);
    let kept = (seen + 1 - NEW).min(OLD);
    scratch.clear();
    scratch.extend_from_slice(&old[OLD - kept..]);
    scratch.sort_unstable_by(f64::total_cmp);
    let mut sorted = [0.0; NEW];
    sorted.copy_from_slice(new);
    sorted.sort_unstable_by(f64::total_cmp);
    let share = |run: &[f64], below: &dyn Fn(f64) -> bool| run.partition_point(|v| below(*v)) as f64 / run.len() as f64;
    sorted.iter().fold(0.0, |most: f64, x| {
        let upto = share(scratch, &|v| v <= *x) - share(&sorted, &|v| v <= *x);
        let below = share(scratch, &|v| v < *x) - share(&sorted, &|v| v < *x);
        most.max(upto.abs()).max(below.abs())
    })
}

/// Minus the decimal logarithm of the probability of a distance, 0 within the usual 97%; then learns it.
fn tail_step(t: &mut [f64], z: f64) -> f64 {
    let count = t[5];
    if count < FIRST as f64 {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // below FIRST
        {
            t[6 + count as usize] = z;
        }
        t[5] += 1.0;
        if t[5] >= FIRST as f64 {
            t[6..6 + FIRST].sort_by(f64::total_cmp);
            let high = t[6 + FIRST - 3];
            (t[0], t[1], t[2]) = (high.max(1e-9), 0.03, 0.25);
        }
        return 0.0;
    }
    let n = count - FIRST as f64;
    let (u, rate, index, excesses, record) = (t[0], t[1], t[2], t[3], t[4]);
    let mut out = 0.0;
    if z > u {
        out = (z / u).ln() / index / std::f64::consts::LN_10 - rate.log10();
        if z <= record {
            out = out.min(count.min(4_000.0).log10());
        }
    }
    t[5] += 1.0;
    let gain = 1.0 / (n + 61.0).min(4_000.0);
    let step = (6.0 * gain).min(0.05) * u / 8.0;
    t[1] = rate + gain * (if z > u { 1.0 } else { 0.0 } - rate);
    if z > u {
        t[2] = (index + ((z / u).ln().min(6.0) - index) / (excesses + 10.0).min(150.0)).clamp(0.08, 1.2);
        t[3] = excesses + 1.0;
        t[0] = u + step * 0.97 / 0.03;
    } else {
        t[0] = u - step;
    }
    t[4] = (record * (1.0 - 1.0 / 4_000.0)).max(z);
    out
}

/// The probability that as many independent probabilities as there are votes have so small a product. `own` and
/// `features` are minus the decimal logarithms of the seasonal detector's and the features' probabilities.
pub(crate) fn joined(own: f64, features: &[f64; FEATURES]) -> f64 {
    let sum = own
        + features
            .iter()
            .zip(VOTES)
            .map(|(feature, votes)| votes * feature)
            .sum::<f64>();
    let x = sum * std::f64::consts::LN_10;
    let (mut term, mut total) = (1.0, 1.0);
    for k in 1..ALL_VOTES {
        term *= x / f64::from(k);
        total += term;
    }
    (-x + total.ln()).exp().min(1.0)
}
