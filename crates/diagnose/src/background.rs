//! How often things look wrong when nothing is: learned online, so that evidence is measured against it.
//!
//! Two levels. For each series, how many anomalies of at least a given deviation come by in calm times, shrunk towards
//! what its kind of signal does (a gamma prior on a Poisson rate). Above that, how high the scope's strongest group of
//! anomalies reaches in each block of time, whose upper tail is taken to be exponential (the peaks-over-threshold method
//! of extreme value theory, with shape 0); from it follows what a group must show to be due to chance no more often than was
//! asked for. Beside them it is learned for how many windows such anomalies last: what is still there when most of chance would
//! have passed gains by it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use suture_event::{SignalKind, Span, Timestamp};

use crate::options::BackgroundOptions;

/// Deviations are told apart by their octave: below 4, below 8, … 4096 and more.
const OCTAVES: usize = 12;

/// Maxima of blocks are kept in bins this wide, in nats.
const BIN: f64 = 0.5;
const BINS: usize = 240;

/// Anomalies that what is taken beforehand of their sizes counts for.
const DOUBT: f64 = 8.0;

/// By how many nats more the tail reaches, on average: what surprise in nats gives by itself.
const PRIOR_SCALE: f64 = 1.0;

/// The part of the prior's blocks that count against blocks which reach higher.
const SOONER: f64 = 0.2;

/// Blocks of the tail that what is taken beforehand of its scale counts for.
const FEW: f64 = 4.0;

/// The part of the blocks whose maxima make the tail.
const TAIL_SHARE: f64 = 0.1;

/// Anomalies are told apart by whether they last for more windows than each of these, with the part that is taken to
/// beforehand, which counts for so many anomalies.
const LASTS: [(f64, f64); 4] = [(1.0, 0.8), (2.0, 0.7), (4.0, 0.6), (8.0, 0.5)];
const LASTS_DOUBT: f64 = 10.0;

/// Anomalies after which one counts a third as long a time in how long they last.
const REMEMBERED: f64 = 500.0;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Counts {
    by_octave: Vec<f64>,
    as_of: Timestamp,
}

impl Counts {
    fn new(as_of: Timestamp) -> Self {
        Self {
            by_octave: vec![0.0; OCTAVES],
            as_of,
        }
    }

    fn add(&mut self, octave: usize, weight: f64, at: Timestamp, half_life: Span) {
        let keep = decay(self.as_of, at, half_life);
        self.by_octave.iter_mut().for_each(|n| *n *= keep);
        if let Some(n) = self.by_octave.get_mut(octave) {
            *n += weight;
        }
        self.as_of = self.as_of.max(at);
    }

    fn at_least(&self, octave: usize, at: Timestamp, half_life: Span) -> f64 {
        self.by_octave.iter().skip(octave).sum::<f64>() * decay(self.as_of, at, half_life)
    }
}

/// How much is watched: kinds of signal of services, counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Watched {
    /// Of all kinds.
    pub(crate) all: f64,
    /// Of one.
    pub(crate) of_kind: f64,
}

/// How much an anomaly counts, from 0 to 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weights {
    /// For the rate of its own series.
    pub(crate) own: f64,
    /// For what its kind of signal does in calm times.
    pub(crate) pooled: f64,
}

impl Weights {
    /// Of no account: all of it was chance.
    pub(crate) const WHOLE: Self = Self { own: 1.0, pooled: 1.0 };
}

/// What calm times look like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Background {
    options: BackgroundOptions,
    since: Option<Timestamp>,
    series: BTreeMap<u64, Counts>,
    /// By kind of signal, and whether above or not.
    kinds: BTreeMap<(SignalKind, bool), Counts>,
    /// Maxima of past blocks by height, and how many blocks there were.
    heights: Vec<f64>,
    blocks: f64,
    /// The block under way: its number and the highest so far.
    block: i64,
    highest: f64,
    /// An incident was open in it, so that it tells nothing of calm times.
    disturbed: bool,
    /// Anomalies, and of these the ones that lasted for more windows than each of [`LASTS`].
    #[serde(default)]
    lasted: [f64; 1 + LASTS.len()],
}

impl Background {
    pub(crate) fn new(options: BackgroundOptions) -> Self {
        Self {
            options,
            since: None,
            series: BTreeMap::new(),
            kinds: BTreeMap::new(),
            heights: vec![0.0; BINS],
            blocks: 0.0,
            block: 0,
            highest: 0.0,
            disturbed: false,
            lasted: [0.0; 1 + LASTS.len()],
        }
    }

    /// Goes on under other options. Blocks of another length are numbered anew from the next on.
    pub(crate) fn reconfigure(&mut self, options: BackgroundOptions) {
        if options.block != self.options.block {
            self.heights = vec![0.0; BINS];
            self.blocks = 0.0;
            self.block = i64::MIN;
        }
        self.options = options;
    }

    /// Time is here; the first call starts the watch.
    pub(crate) fn start(&mut self, now: Timestamp) {
        if self.since.is_none() && now > Timestamp::MIN {
            self.since = Some(now);
            self.block = self.block_of(now);
        }
    }

    /// Counts an anomaly.
    pub(crate) fn learn(
        &mut self,
        series: u64,
        kind: (SignalKind, bool),
        deviation: f64,
        weights: Weights,
        at: Timestamp,
    ) {
        let octave = octave(deviation);
        let half_life = self.options.half_life;
        self.kinds
            .entry(kind)
            .or_insert_with(|| Counts::new(at))
            .add(octave, weights.pooled, at, half_life);
        if self.series.contains_key(&series) || self.series.len() < self.options.series {
            self.series
                .entry(series)
                .or_insert_with(|| Counts::new(at))
                .add(octave, weights.own, at, half_life);
        }
    }

    /// Counts an anomaly by how many windows it was outside before it first came back.
    pub(crate) fn learn_lasting(&mut self, windows: f64, weight: f64) {
        // as it counts anomalies rather than time, what is long past weighs less by how many came since
        self.lasted.iter_mut().for_each(|n| *n *= 1.0 - weight / REMEMBERED);
        let longer = LASTS.iter().filter(|(edge, _)| windows > *edge).count();
        for n in self.lasted.iter_mut().take(1 + longer) {
            *n += weight;
        }
    }

    /// Minus the logarithm of the part of chance anomalies that are still outside after so many windows.
    pub(crate) fn lasting(&self, windows: f64) -> f64 {
        let [all, lasted @ ..] = &self.lasted;
        let longest = LASTS.iter().zip(lasted).rev().find(|((edge, _), _)| windows >= *edge);
        longest.map_or(0.0, |((_, share), lasted)| {
            -((lasted + LASTS_DOUBT * share) / (all + LASTS_DOUBT)).ln()
        })
    }

    /// Minus the logarithm of the chance that a series shows an anomaly this large within `span` of calm time: 0 and up.
    ///
    /// A series' own rate is shrunk towards that of its kind of signal in this scope, and that towards the rate of all
    /// signals in it, so that a scope in which nothing ever happens is soon known to be one.
    pub(crate) fn surprise(
        &self,
        series: u64,
        kind: (SignalKind, bool),
        deviation: f64,
        watched: Watched,
        span: Span,
        now: Timestamp,
    ) -> f64 {
        let octave = octave(deviation);
        let half_life = self.options.half_life;
        let seen = |counts: Option<&Counts>, from| counts.map_or(0.0, |counts| counts.at_least(from, now, half_life));
        let (own, of_kind) = (self.series.get(&series), self.kinds.get(&kind));
        // of the kind's anomalies, the share this large; before any were seen, so much with each octave
        let by_prior = heaviness(kind.0).powi(i32::try_from(octave).unwrap_or(0));
        let share = (seen(of_kind, octave) + DOUBT * by_prior) / (seen(of_kind, 0) + DOUBT);
        let time = self.exposure(now);
        let weight = self.options.prior_span.as_secs_f64();
        let all: f64 = self.kinds.values().map(|counts| seen(Some(counts), 0)).sum();
        // the more is watched, the more of it is new to whoever watches it
        let strange = 0.5 * (1.0 + watched.all / 10.0);
        let everywhere = (strange * self.options.prior_count + all) / (strange * weight + time * watched.all.max(1.0));
        let here = (seen(of_kind, 0) + weight * everywhere) / (weight + time * watched.of_kind.max(1.0));
        let rate = (seen(own, octave) + weight * here * share) / (time + weight);
        let chance = -(-rate * span.as_secs_f64()).exp_m1();
        (-chance.max(f64::MIN_POSITIVE).ln()).clamp(0.0, self.options.most)
    }

    /// How long the scope has been watched.
    pub(crate) fn watched(&self, now: Timestamp) -> Span {
        self.since.map_or(Span::ZERO, |since| now.since(since))
    }

    /// Seconds watched, with what is long past weighing less.
    fn exposure(&self, now: Timestamp) -> f64 {
        let Some(since) = self.since else { return 0.0 };
        let mean_life = self.options.half_life.as_secs_f64() / std::f64::consts::LN_2;
        mean_life * -(-now.since(since).as_secs_f64().max(0.0) / mean_life).exp_m1()
    }

    fn block_of(&self, at: Timestamp) -> i64 {
        at.as_millis().div_euclid(self.options.block.as_millis().max(1))
    }

    /// Closes the blocks that are over at `now`.
    pub(crate) fn advance(&mut self, now: Timestamp) {
        let block = self.block_of(now);
        if self.block == i64::MIN {
            self.block = block;
        }
        if self.since.is_none() || block <= self.block {
            return;
        }
        #[allow(clippy::cast_precision_loss)] // far fewer than 2^53 blocks
        let over = (block - self.block) as f64;
        let keep = (-std::f64::consts::LN_2 * over * self.options.block.as_secs_f64()
            / self.options.half_life.as_secs_f64())
        .exp();
        self.heights.iter_mut().for_each(|n| *n *= keep);
        self.blocks = self.blocks * keep + over;
        if self.disturbed {
            self.blocks -= 1.0;
        } else if let Some(n) = self
            .heights
            .get_mut(bin_of(self.highest))
            .filter(|_| self.highest > 0.0)
        {
            *n += 1.0;
        }
        self.block = block;
        self.highest = 0.0;
        self.disturbed = false;
    }

    /// A group of loose anomalies reaches this high.
    pub(crate) fn reached(&mut self, height: f64) {
        self.highest = self.highest.max(height);
    }

    /// An incident is open.
    pub(crate) fn disturb(&mut self) {
        self.disturbed = true;
    }

    /// An incident turned out to have no known cause: a block's maximum that counts for so much.
    pub(crate) fn regret(&mut self, height: f64, weight: f64) {
        if let Some(n) = self.heights.get_mut(bin_of(height)) {
            *n += weight;
        }
    }

    /// The height that chance alone reaches `at_most` times in `per`, where only the part `exposed` of time and places
    /// counts.
    ///
    /// The tail is the highest tenth of blocks, or the higher half of those that reached any height at all, where those
    /// are fewer. Its scale is read off its median, not its mean, so that a few real faults among the blocks move it
    /// little, and leans on what is taken beforehand until the tail holds many blocks. Until many blocks were seen the
    /// height as well leans on what would be if every one of the `cells` watched were off by chance as often as its nats
    /// say, independently: a block then reaches a height h with probability `cells * block / within * exp(-h)`.
    pub(crate) fn threshold(&self, at_most: f64, per: Span, exposed: f64, cells: f64, within: Span) -> f64 {
        let block = self.options.block.as_secs_f64();
        // in so many blocks it may be reached once
        let once_in = (exposed * per.as_secs_f64() / (block * at_most)).max(1.0);
        let by_prior = PRIOR_SCALE
            * (cells.max(1.0) * block / within.as_secs_f64().max(1.0) * once_in)
                .max(1.0)
                .ln();
        let high: f64 = self.heights.iter().sum();
        let tail = (TAIL_SHARE * self.blocks).min(0.5 * high);
        let edge = self.height_of_top(tail);
        // by its median, and by its highest eighth, which shows where it is heavier than an exponential one
        let scale_by = |part: f64| (self.height_of_top(tail / part) - edge) / part.ln();
        let seen = match tail {
            none if none <= 0.0 => 0.0,
            few if few < 8.0 => scale_by(2.0),
            _ => scale_by(2.0).max(scale_by(8.0)),
        };
        let scale = ((tail * seen + FEW * PRIOR_SCALE) / (tail + FEW)).max(PRIOR_SCALE);
        let share = tail.max(0.5) / self.blocks.max(1.0);
        let by_tail = edge + scale * (share * once_in).max(1.0).ln();
        // a scope that is noisier than that shows it soon, and one that is calmer only in time
        let blocks = self.options.prior_blocks * if by_tail > by_prior { SOONER } else { 1.0 };
        let prior = blocks / (self.blocks + blocks);
        (1.0 - prior) * by_tail + prior * by_prior
    }

    /// The height that the highest `count` blocks reach, going by linear interpolation within a bin.
    fn height_of_top(&self, count: f64) -> f64 {
        let mut above = 0.0;
        for (bin, n) in self.heights.iter().enumerate().rev() {
            if above + n >= count && *n > 0.0 {
                #[allow(clippy::cast_precision_loss)] // a small index
                let top = (bin + 1) as f64;
                return BIN * (top - (count - above) / n);
            }
            above += n;
        }
        0.0
    }
}

/// The share of anomalies that are twice as large as a given one: delays and work have heavier tails than the rest.
const fn heaviness(kind: SignalKind) -> f64 {
    match kind {
        SignalKind::Latency | SignalKind::Traffic | SignalKind::Network | SignalKind::Other => 0.6,
        _ => 0.5,
    }
}

fn octave(deviation: f64) -> usize {
    let mut edge = 4.0;
    for octave in 0..OCTAVES - 1 {
        if deviation < edge {
            return octave;
        }
        edge *= 2.0;
    }
    OCTAVES - 1
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped to the bins
fn bin_of(height: f64) -> usize {
    (height / BIN).clamp(0.0, (BINS - 1) as f64) as usize
}

fn decay(from: Timestamp, to: Timestamp, half_life: Span) -> f64 {
    let age = to.since(from).as_secs_f64().max(0.0);
    (-std::f64::consts::LN_2 * age / half_life.as_secs_f64().max(1e-3)).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEW: Watched = Watched {
        all: 10.0,
        of_kind: 2.0,
    };

    fn threshold(background: &Background, at_most: f64, exposed: f64) -> f64 {
        let week = Span::from_hours(168);
        background.threshold(at_most, week, exposed, 50.0, Span::from_mins(5))
    }

    fn minute(minute: i64) -> Timestamp {
        Timestamp::from_millis(minute * 60_000)
    }

    fn watched_for(hours: i64) -> Background {
        let mut background = Background::new(BackgroundOptions::default());
        background.start(minute(0));
        background.advance(minute(hours * 60));
        background
    }

    #[test]
    fn a_series_that_was_often_off_surprises_less_and_a_larger_deviation_more() {
        let mut background = watched_for(48);
        for hour in 0..20 {
            background.learn(1, (SignalKind::Cpu, true), 6.0, Weights::WHOLE, minute(hour * 60));
        }
        let nats = |series, deviation| {
            background.surprise(
                series,
                (SignalKind::Cpu, true),
                deviation,
                FEW,
                Span::from_mins(5),
                minute(48 * 60),
            )
        };
        assert!(nats(1, 6.0) + 1.5 < nats(2, 6.0), "{} {}", nats(1, 6.0), nats(2, 6.0));
        assert!(nats(1, 6.0) + 2.0 < nats(1, 500.0));
    }

    #[test]
    fn the_threshold_is_passed_by_chance_as_often_as_was_asked_for() {
        let mut background = watched_for(0);
        // the highest group of each block follows an exponential distribution with mean 4, by its quantiles
        let blocks = 2_000;
        for block in 0..blocks {
            let rank = (block * 7_919) % blocks;
            let quantile = (f64::from(rank) + 0.5) / f64::from(blocks);
            background.reached(-4.0 * (1.0 - quantile).ln());
            background.advance(minute(10 * (i64::from(block) + 1)));
        }
        let weekly = threshold(&background, 1.0, 1.0);
        let truth = 4.0 * 1_008.0_f64.ln();
        assert!((weekly - truth).abs() < 4.0, "{weekly} against {truth}");
        assert!(threshold(&background, 10.0, 1.0) < weekly - 6.0);
        assert!(threshold(&background, 1.0, 0.05) < weekly - 8.0);
    }

    #[test]
    fn a_block_with_an_open_incident_tells_nothing_of_calm_times() {
        let (mut disturbed, mut calm) = (watched_for(24), watched_for(24));
        for hour in 24..60 {
            disturbed.disturb();
            disturbed.reached(90.0);
            disturbed.advance(minute(hour * 60 + 60));
            calm.advance(minute(hour * 60 + 60));
        }
        let of = |background: &Background| threshold(background, 1.0, 1.0);
        assert!(
            (of(&disturbed) - of(&calm)).abs() < 3.0,
            "{} {}",
            of(&disturbed),
            of(&calm)
        );
    }

    #[test]
    fn series_beyond_the_bound_go_by_their_kind() {
        let mut background = Background::new(BackgroundOptions {
            series: 1,
            ..BackgroundOptions::default()
        });
        background.start(minute(0));
        background.learn(1, (SignalKind::Cpu, true), 6.0, Weights::WHOLE, minute(1));
        background.learn(2, (SignalKind::Cpu, true), 6.0, Weights::WHOLE, minute(1));
        let nats = |series| {
            background.surprise(
                series,
                (SignalKind::Cpu, true),
                6.0,
                FEW,
                Span::from_mins(5),
                minute(60),
            )
        };
        assert!(nats(1) < nats(2), "the second has no rate of its own");
    }
}
