//! The detectors of many series under one set of options.

mod retire;
mod save;
mod silence;
mod tell;
mod vote;

use suture_event::{AnomalyPhase, EndReason, SignalKind, Timestamp};

use crate::{
    Budget, DetectorName, Detectors, Episode, Error, Options, Side, Suppressed, Thresholds,
    character::Looks,
    discovery::Discoveries,
    episode::{OUTSIDE, Open, Resting, Standing, Turn, Window},
    recurring::{Occurrence, Recurring},
    seasonal::{Seasonal, band, sided},
    sequence::Sequence,
    shift::Shift,
    state::{LANES, Lanes, columns},
    watch::{self, Block, Watched},
    whiten::Whitening,
    words::number,
};

/// What is known of a series before its first sample.
#[derive(Debug, Clone, Copy)]
pub struct SeriesHints<'a> {
    /// The metric's name.
    pub metric: &'a str,
    /// What it measures.
    pub kind: SignalKind,
    /// Whether its windows hold the increase or rate of a counter.
    pub counter: bool,
    /// The stable hash of metric and labels.
    pub hash: u64,
}

/// One window of many series.
#[derive(Debug, Clone, Copy)]
pub struct Column<'a> {
    /// Start of the window.
    pub start: Timestamp,
    /// End of the window; equal to `start` where every sample is a window of its own.
    pub end: Timestamp,
    /// When it was known.
    pub at: Timestamp,
    /// Rows of the bank, each at most once.
    pub rows: &'a [u32],
    /// One value for each row; NaN where the window has no sample.
    pub values: &'a [f64],
}

/// What the seasonal detector says of a block of entries.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) probability: Lanes<f32>,
    /// Signed distance from what was expected, in standard deviations.
    pub(crate) distance: Lanes<f32>,
    /// What `expected` and `slow` are the difference from.
    pub(crate) origin: Lanes<f64>,
    pub(crate) expected: Lanes<f32>,
    pub(crate) scale: Lanes<f32>,
    /// Half the width of the band, in standard deviations.
    pub(crate) reach: Lanes<f32>,
    /// Standardised residual of the slowest forecaster with the same season; NaN while there is none.
    pub(crate) residual: Lanes<f32>,
    pub(crate) slow: Lanes<f32>,
    pub(crate) slow_scale: Lanes<f32>,
    /// What the longest season that is known adds, believed or not.
    pub(crate) course: Lanes<f32>,
    /// 1 where the value is, in single precision, the one before.
    pub(crate) repeats: Lanes<f32>,
}

impl Default for Judged {
    fn default() -> Self {
        Self {
            probability: [1.0; LANES],
            distance: [0.0; LANES],
            origin: [0.0; LANES],
            expected: [0.0; LANES],
            scale: [0.0; LANES],
            reach: [0.0; LANES],
            residual: [f32::NAN; LANES],
            slow: [0.0; LANES],
            slow_scale: [0.0; LANES],
            course: [0.0; LANES],
            repeats: [0.0; LANES],
        }
    }
}

/// What the detector of shifts says of a block of entries.
#[derive(Debug)]
pub(crate) struct Shifted {
    pub(crate) probability: Lanes<f32>,
    pub(crate) distance: Lanes<f32>,
}

impl Default for Shifted {
    fn default() -> Self {
        Self {
            probability: [1.0; LANES],
            distance: [0.0; LANES],
        }
    }
}

/// Which detectors run, looked up once.
#[derive(Debug, Clone, Copy)]
struct Runs {
    seasonal: bool,
    shift: bool,
    threshold: bool,
    silence: bool,
    sequence: bool,
}

columns! {
    /// What was given with each series.
    struct Given {
        /// 1 up, 2 down, 3 both.
        side: u8 = 3,
        /// Whether its state is held because something is open.
        held: u8 = 0,
        /// Whether it only has a value while there is work: 1 latency, 2 errors and availability.
        derived: u8 = 0,
        /// Whether it is the increase or rate of a counter.
        counter: u8 = 0,
    }
}

/// Errors and availability, and latency, are accepted at another level only after this many times as long as what tells of
/// work and of what it takes.
const HARM: i64 = 12;
const DELAY: i64 = 3;

/// Times its usual gap after which a series that comes at even intervals is missed, at most: before the second one is due.
const EVEN_FACTOR: f64 = 1.75;

const SEASONAL: u8 = 0;
const SHIFT: u8 = 1;
const THRESHOLD: u8 = 2;
const SILENCE: u8 = 3;
const SEQUENCE: u8 = 4;
const RESIDUAL: u8 = 5;
/// What a further step of a series that is outside already is told under.
const STEP: &str = "step";

const NAMES: [&str; 6] = ["seasonal", "shift", "threshold", "silence", "sequence", "residual"];

/// What a detector is called.
fn name_of(code: u8) -> &'static str {
    NAMES
        .get(usize::from(code))
        .copied()
        .or_else(|| watch::name_of(code))
        .unwrap_or("unknown")
}

/// The detectors of all series that share one set of options.
///
/// State is kept in columns, one row a series. An update costs no allocation once the scratch space has grown to the
/// widest column, save for the words of an episode.
#[derive(Debug)]
pub struct Bank {
    options: Options,
    given: Given,
    seasonal: Seasonal,
    shift: Shift,
    sequence: Sequence,
    standing: Standing,
    /// What comes back at its hour, of the series that had anomalies.
    recurring: Recurring,
    /// The further detectors; under `auto` each votes on the series whose look calls for it.
    watched: Vec<Watched>,
    looks: Option<Looks>,
    by_seasonal: Judged,
    by_shift: Shifted,
    runs: Runs,
    /// Expected values and the ends of their bands, where scores are wanted.
    bands: [Vec<f64>; 3],
    /// Whether the last column was judged by shapes: for words only.
    shapes: bool,
    /// The feature of shape that stood out most in the last value judged: for words only.
    oddest: usize,
    /// Present where alarms are under a budget, of this bank or of more than one.
    white: Option<Whitening>,
    budget: Option<Budget>,
    discoveries: Option<Discoveries>,
    suppressed: Vec<Suppressed>,
}

impl Bank {
    /// An empty bank.
    ///
    /// # Errors
    /// [`Error::Options`] with the first problem that [`Options::validate`] finds.
    pub fn new(options: &Options) -> Result<Self, Error> {
        if let Some(problem) = options.validate().into_iter().next() {
            return Err(Error::Options(problem));
        }
        Ok(Self {
            options: options.clone(),
            given: Given::default(),
            seasonal: Seasonal::new(options),
            shift: Shift::new(),
            sequence: Sequence::default(),
            standing: Standing::default(),
            recurring: Recurring::new(options),
            watched: watch::all(options),
            looks: (options.detectors == Detectors::Auto).then(Looks::default),
            by_seasonal: Judged::default(),
            by_shift: Shifted::default(),
            bands: [Vec::new(), Vec::new(), Vec::new()],
            runs: Runs {
                seasonal: options.wants(DetectorName::Seasonal),
                shift: options.wants(DetectorName::Shift),
                threshold: options.wants(DetectorName::Threshold) && options.thresholds != Thresholds::default(),
                silence: options.wants(DetectorName::Silence),
                sequence: options.wants(DetectorName::Sequence),
            },
            shapes: false,
            oddest: 0,
            white: (options.alarms.is_some() || options.discoveries.is_some()).then(Whitening::default),
            discoveries: options.discoveries.map(Discoveries::new),
            budget: options.alarms.as_ref().map(Budget::new),
            suppressed: Vec::new(),
        })
    }

    /// An empty bank whose alarms are under a budget that it shares with others: see [`Self::update_within`]. Where the
    /// options state a budget of the bank's own, that one counts.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn under_budget(options: &Options) -> Result<Self, Error> {
        let mut bank = Self::new(options)?;
        bank.white.get_or_insert_with(Whitening::default);
        Ok(bank)
    }

    /// The options that its series share.
    #[must_use]
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// The budget of the bank's own, where its options state one.
    #[must_use]
    pub fn budget(&self) -> Option<&Budget> {
        self.budget.as_ref()
    }

    /// What was expected of each entry of the last column, and the lower and upper end of its band; NaN where nothing was.
    /// Nothing at all where that column was judged without scores.
    #[must_use]
    pub fn bands(&self) -> [&[f64]; 3] {
        [&self.bands[0], &self.bands[1], &self.bands[2]]
    }

    /// The alarms that the last update suppressed.
    #[must_use]
    pub fn suppressed(&self) -> &[Suppressed] {
        &self.suppressed
    }

    fn give(&mut self, row: usize, hints: SeriesHints<'_>) {
        let given = &mut self.given;
        given.side[row] = side_of(self.options.direction, hints.kind);
        given.derived[row] = derived_of(hints.kind);
        given.counter[row] = u8::from(hints.counter);
    }

    /// Registers a series and gives its row: 0, 1, 2, … in the order of the calls.
    pub fn add_series(&mut self, hints: SeriesHints<'_>) -> u32 {
        let row = self.len();
        self.given.push();
        self.give(row, hints);
        self.seasonal.push();
        self.shift.push();
        self.sequence.push();
        self.standing.push();
        for watched in &mut self.watched {
            watched.watcher.push();
        }
        if let Some(looks) = &mut self.looks {
            looks.push();
        }
        if let Some(white) = &mut self.white {
            white.push();
        }
        u32::try_from(row).unwrap_or(u32::MAX)
    }

    /// Takes over what another bank learned of a series, so that it need not warm up here: models, seasons, tails and gaps.
    /// What is open there stays there. Seasons that only one of the two learns begin anew. Says whether there was anything
    /// to take over; a row that is not registered changes nothing. Costs as much as a window of the series.
    pub fn adopt(&mut self, row: u32, from: &Self, from_row: u32) -> bool {
        let (key, from_key) = (row, from_row);
        let (row, from_row) = (row as usize, from_row as usize);
        if row >= self.len() || from_row >= from.len() || from.seasonal.levels.count[from_row] == 0 {
            return false;
        }
        self.seasonal.adopt(row, &from.seasonal, from_row);
        self.shift.adopt(row, &from.shift, from_row);
        self.sequence.adopt(row, &from.sequence, from_row);
        self.standing.adopt(row, &from.standing, from_row);
        self.recurring.adopt(key, &from.recurring, from_key);
        if let (Some(mine), Some(theirs)) = (&mut self.white, &from.white) {
            mine.adopt(row, theirs, from_row);
        }
        if let (Some(mine), Some(theirs)) = (&mut self.looks, &from.looks) {
            mine.adopt(row, theirs, from_row);
        }
        for mine in &mut self.watched {
            if let Some(theirs) = from.watched.iter().find(|theirs| theirs.code == mine.code) {
                mine.watcher.adopt(row, theirs.watcher.as_ref(), from_row);
            }
        }
        true
    }

    /// Whether a series was registered as the increase or rate of a counter.
    #[must_use]
    pub fn is_counter(&self, row: u32) -> bool {
        self.given
            .counter
            .get(row as usize)
            .is_some_and(|counter| *counter != 0)
    }

    /// How many windows with a sample a series has still to bring before anything is said of it; 0 once it has.
    #[must_use]
    pub fn warms_in(&self, row: u32) -> u32 {
        let learned = self.seasonal.levels.count.get(row as usize).copied().unwrap_or(0);
        self.options.warm_up.saturating_sub(learned)
    }

    /// Series registered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.given.side.len()
    }

    /// Whether no series is registered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of state a series.
    #[must_use]
    pub fn bytes_per_series(&self) -> usize {
        let white = if self.white.is_some() { Whitening::BYTES } else { 0 };
        let looks = if self.looks.is_some() { Looks::BYTES } else { 0 };
        let watched: usize = self.watched.iter().map(|watched| watched.watcher.bytes()).sum();
        Given::BYTES + self.seasonal.bytes() + self.shift.bytes() + Resting::BYTES + white + looks + watched
    }

    /// Bytes more for a series that the sequence model watches.
    #[must_use]
    pub const fn bytes_per_sequence() -> usize {
        Sequence::BYTES
    }

    /// Judges one window of many series, then learns from it.
    ///
    /// `scores`, where wanted, is extended by one score for each entry of the column: 1 less the probability of a window
    /// as unusual; 0 while warming up. Episodes are pushed in the order of the column's rows. A row that was never
    /// registered is left out, with score 0. What comes out for a series depends on its own windows alone, in their
    /// order, and not on how series are grouped into columns.
    pub fn update(&mut self, column: &Column<'_>, scores: Option<&mut Vec<f64>>, episodes: &mut Vec<Episode>) {
        self.update_within(column, None, scores, episodes);
    }

    /// As [`Self::update`], with alarms drawn on a budget that other banks draw on too. The budget of the bank's own comes
    /// first, where there is one.
    pub fn update_within(
        &mut self,
        column: &Column<'_>,
        shared: Option<&mut Budget>,
        scores: Option<&mut Vec<f64>>,
        episodes: &mut Vec<Episode>,
    ) {
        let mut own = self.budget.take();
        self.update_on(column, own.as_mut().or(shared), scores, episodes);
        self.budget = own;
    }

    fn update_on(
        &mut self,
        column: &Column<'_>,
        mut budget: Option<&mut Budget>,
        scores: Option<&mut Vec<f64>>,
        episodes: &mut Vec<Episode>,
    ) {
        self.suppressed.clear();
        if let Some(budget) = budget.as_deref_mut() {
            budget.advance(column.end.as_millis());
        }
        let n = column.rows.len().min(column.values.len());
        self.seasonal.aim(column);
        let mut scores = scores;
        // where nobody asks how unusual, not being unusual is enough
        self.shapes = self.runs_sequence(column);
        let plain = scores.is_none() && budget.is_none() && self.discoveries.is_none() && !self.shapes;
        self.bands.iter_mut().for_each(Vec::clear);
        let (mut rows, mut values) = ([0_u32; LANES], [0.0; LANES]);
        for from in (0..n).step_by(LANES) {
            let block = from..n.min(from + LANES);
            // those with a value are worked on together
            let mut with = 0;
            for i in block.clone() {
                if column.values[i].is_finite() && (column.rows[i] as usize) < self.len() {
                    (rows[with], values[with]) = (column.rows[i], column.values[i]);
                    with += 1;
                }
            }
            if with > 0 {
                self.judge(column, &rows[..with], &values[..with]);
            }
            let mut lane = 0;
            for i in block {
                let (row, value) = (column.rows[i] as usize, column.values[i]);
                let score = if row >= self.len() {
                    0.0
                } else if value.is_finite() {
                    lane += 1;
                    if plain && self.is_calm(lane - 1, row, value) {
                        continue;
                    }
                    self.decide(lane - 1, row, value, column, budget.as_deref_mut(), episodes)
                } else {
                    self.missing(row, column, scores.is_some(), budget.as_deref_mut(), episodes)
                };
                if let Some(scores) = scores.as_deref_mut() {
                    scores.push(score);
                    let judged = (row < self.len() && value.is_finite()).then_some(&self.by_seasonal);
                    let (expected, lower, upper) = judged.map_or((f64::NAN, f64::NAN, f64::NAN), |judged| {
                        band(
                            judged.origin[lane - 1],
                            judged.expected[lane - 1],
                            judged.scale[lane - 1],
                            judged.reach[lane - 1],
                        )
                    });
                    for (column, number) in self.bands.iter_mut().zip([expected, lower, upper]) {
                        column.push(number);
                    }
                }
            }
        }
    }

    /// Lets the detectors judge and learn a block of entries.
    fn judge(&mut self, column: &Column<'_>, rows: &[u32], values: &[f64]) {
        let (held, sides) = (&self.given.held, &self.given.side);
        let end = column.end.as_millis();
        self.seasonal
            .update(end, rows, values, held, sides, &mut self.by_seasonal);
        if self.runs.shift {
            self.shift
                .update(rows, held, sides, &self.by_seasonal, &mut self.by_shift);
        }
        let block = Block {
            end,
            rows,
            values,
            held,
            sides,
            judged: &self.by_seasonal,
        };
        for watched in &mut self.watched {
            watched.watcher.update(&block, &mut watched.said);
        }
        if let Some(looks) = &mut self.looks {
            let repeats = &self.by_seasonal.repeats;
            looks.update(rows, values, repeats, &self.seasonal.tails.index, &self.given.derived);
        }
    }

    /// What the detectors say of one entry together, and what follows for its anomaly. Returns the score.
    fn decide(
        &mut self,
        i: usize,
        row: usize,
        value: f64,
        column: &Column<'_>,
        mut budget: Option<&mut Budget>,
        episodes: &mut Vec<Episode>,
    ) -> f64 {
        if let Some(reason) = self.standing.heard(row, self.gaps_known()) {
            let mut episode = self.episode(row, column, AnomalyPhase::Ended, Some(value));
            self.standing.close(row);
            episode.end = Some(reason);
            episode.detail = format!("sends again: {}", number(value));
            episodes.push(episode);
            self.given.held[row] = 0;
        }
        let sequence = self.runs_sequence(column);
        let controlled = self
            .discoveries
            .as_ref()
            .filter(|_| budget.is_none())
            .map(Discoveries::level);
        let level = budget.as_deref_mut().map(Budget::level).or(controlled);
        let (probability, distance, detector) = if let Some(level) = level {
            self.vote_under_budget(i, row, value, sequence, level)
        } else if sequence {
            self.vote_on_shape(i, row, value)
        } else {
            self.vote(i, row, value)
        };
        if level.is_none() && probability >= self.options.alarm && self.standing.rests(row) {
            return 1.0 - probability;
        }
        let judged = &self.by_seasonal;
        let (expected, lower, upper) = band(judged.origin[i], judged.expected[i], judged.scale[i], judged.reach[i]);
        let opener = self.standing.open(row).detector;
        let watched = self.watched.iter().find(|watched| watched.code == opener);
        let watched_by = watched.map(|watched| watched.code);
        let inside = match opener {
            SHIFT => self.shift.sums.mean[row].abs() < 1.0,
            THRESHOLD => !beyond(&self.options.thresholds, value),
            _ if watched.is_some() => watched.is_some_and(|watched| watched.said.inside[i] != 0),
            _ => sided(f64::from(judged.distance[i]), self.given.side[row]) <= 0.75 * f64::from(judged.reach[i]),
        };
        let start = column.start.as_millis();
        let window = Window {
            start,
            end: column.end.as_millis(),
            onset: if detector == SHIFT {
                let width = column.end.since(column.start).as_millis();
                start.saturating_sub(width.saturating_mul(i64::from(self.shift.since(row)) - 1))
            } else {
                start
            },
            value,
            off: (value - expected).abs(),
            probability,
            distance,
            detector,
            inside: inside || self.too_small(value, expected) && opener != THRESHOLD && watched.is_none(),
        };
        let alone = sequence || self.watched.iter().any(|by| by.alone && by.code == detector);
        let lasting = |code: u8| self.watched.iter().any(|by| by.lasting && by.code == code);
        let (lasts_on, lasts) = (lasting(opener), lasting(detector));
        let limits = match level {
            // what is certain is no test, and a bound on false alarms leaves it alone
            Some(_) if controlled.is_some() && (detector == THRESHOLD || lasts) => (1.0, 1.0),
            Some(level) if controlled.is_some() => {
                if self.standing.state[row] != OUTSIDE
                    && let Some(discoveries) = &mut self.discoveries
                {
                    discoveries.test(probability);
                }
                (level, level)
            }
            // the budget says how unlikely is unlikely enough, and whether there is room
            Some(level) => {
                let asks = probability < level && self.standing.state[row] != OUTSIDE;
                let granted = asks && self.grant(row, column, budget, &window);
                let level = if asks && !granted { 0.0 } else { level };
                (level, level)
            }
            // a shape is made of many values: one alarm is enough
            None if alone => (self.options.alarm, self.options.alarm),
            None => (self.options.alarm, self.options.at_once),
        };
        let mut options = self.options.episode;
        if self.standing.state[row] == OUTSIDE && lasts_on {
            options.accept_after = suture_event::Span::from_millis(i64::MAX);
        } else if self.given.derived[row] != 0 {
            // that work has failed or been slow for hours makes it no more normal than it was
            let times = if self.given.derived[row] == 1 { DELAY } else { HARM };
            let long = options.accept_after.as_millis().saturating_mul(times);
            options.accept_after = suture_event::Span::from_millis(long);
        }
        let turn = self.standing.step(row, window, &options, limits);
        let width = column.end.since(column.start).as_millis().max(1);
        let (turn, quiet) = self.expected(row, turn, &window, width, lasts || lasts_on);
        // what is open for other reasons than its level, or under a budget, has no steps, nor has what is expected
        if !quiet && level.is_none() && !sequence && !lasts_on && opener != THRESHOLD && watched_by.is_none() {
            self.step_on(row, &window, expected, &options, column, episodes);
        }
        let phase = match turn {
            Turn::Nothing => return 1.0 - probability,
            Turn::Passed => {
                let passed = self.standing.close(row);
                self.seasonal.absorb(row, passed.peak, passed.level);
                return 1.0 - probability;
            }
            Turn::Opened => AnomalyPhase::Opened,
            Turn::Grown => AnomalyPhase::Grown,
            Turn::Eased => AnomalyPhase::Eased,
            Turn::Ended(_) => AnomalyPhase::Ended,
        };
        if let Turn::Ended(reason) = turn {
            episodes.extend(self.end_step(row, column, Some(value), reason));
        }
        let mut episode = self.episode(row, column, phase, Some(value));
        (episode.score, episode.deviation, episode.expected) = (1.0 - probability, distance.abs(), expected);
        (episode.lower, episode.upper) = (lower, upper);
        if self.standing.open(row).detector == THRESHOLD {
            episode.lower = self.options.thresholds.lower.unwrap_or(f64::MIN);
            episode.upper = self.options.thresholds.upper.unwrap_or(f64::MAX);
        }
        episode.detail = self.words(row, &episode, probability);
        match turn {
            Turn::Ended(reason) => {
                episode.end = Some(reason);
                let ended = self.standing.close(row);
                self.remember(row, &ended, width);
                // what passes within a few windows is drawn from the series' own tail; what lasts is not, and teaches nothing
                let lasted = ended.latest.saturating_sub(ended.onset) / width;
                if reason == EndReason::Recovered && lasted < i64::from(self.options.episode.of) && !quiet {
                    self.seasonal.absorb(row, ended.peak, ended.level);
                }
                if reason == EndReason::Adapted {
                    // what left the level that is accepted is not accepted with it
                    let level = if ended.step.is_open() {
                        ended.step.level
                    } else {
                        ended.level
                    };
                    self.seasonal.reseat(row, level);
                }
                if ended.detector == SHIFT && reason == EndReason::Recovered && !quiet {
                    self.shift.absorb(row, ended.peak);
                }
                self.shift.reseat(row);
                if reason == EndReason::Adapted {
                    self.watched.iter_mut().for_each(|by| by.watcher.reseat(row));
                }
                self.given.held[row] = 0;
            }
            // the models of shape learn on: what is new once is not new for ever
            Turn::Opened => self.given.held[row] = u8::from(!lasts && (!sequence || level.is_some())),
            _ => {}
        }
        if !quiet {
            episodes.push(episode);
        }
        1.0 - probability
    }

    /// What a turn comes to where something may be expected to come back at its hour: whether nothing of it is told, and that
    /// it opens, where what was expected goes further, to the other side or on for longer than it should.
    fn expected(&mut self, row: usize, turn: Turn, window: &Window, width: i64, lasting: bool) -> (Turn, bool) {
        let open = self.standing.open(row);
        let key = u32::try_from(row).unwrap_or(u32::MAX);
        if turn == Turn::Opened {
            // a fixed threshold is told whenever it is passed, errors whenever there are some, and what lasts is no event
            if open.detector == THRESHOLD || lasting || self.given.derived[row] == 2 {
                return (turn, false);
            }
            let it = Occurrence {
                onset: open.onset,
                lasts: 0,
                size: open.size,
                side: open.side,
            };
            let Some(bounds) = self.recurring.expects(key, it, width) else {
                return (turn, false);
            };
            let open = self.standing.open_mut(row);
            (open.until, open.most) = (bounds.until, bounds.size);
            return (turn, true);
        }
        if open.until == 0 || self.standing.state[row] != OUTSIDE && !matches!(turn, Turn::Ended(_)) {
            return (turn, false);
        }
        let ended = matches!(turn, Turn::Ended(_));
        let side = if window.distance >= 0.0 { 1 } else { 2 };
        let turned = side != open.side && window.probability < self.options.alarm;
        if !ended && !window.inside && (turned || window.end > open.until || window.off > open.most) {
            let open = self.standing.open_mut(row);
            (open.until, open.told, open.grown) = (0, window.distance.abs(), 0);
            if turned {
                (open.side, open.onset) = (side, window.start);
            }
            return (Turn::Opened, false);
        }
        (turn, true)
    }

    /// Keeps in mind what has ended, as it may come back.
    fn remember(&mut self, row: usize, ended: &Open, width: i64) {
        if ended.detector == THRESHOLD || self.given.derived[row] == 2 {
            return;
        }
        let it = Occurrence {
            onset: ended.onset,
            lasts: ended.latest.saturating_sub(ended.onset).saturating_add(width),
            size: ended.size,
            side: ended.side,
        };
        self.recurring.note(u32::try_from(row).unwrap_or(u32::MAX), it, width);
    }

    /// Values after which a series' longest gap is known.
    const fn gaps_known(&self) -> u32 {
        self.options.warm_up.saturating_mul(4)
    }
}

/// What [`Given::derived`] says of a kind.
fn derived_of(kind: SignalKind) -> u8 {
    match kind {
        SignalKind::Latency => 1,
        kind => 2 * u8::from(kind.is_symptom()),
    }
}

fn side_of(side: Side, kind: SignalKind) -> u8 {
    match (side, kind) {
        (Side::Up, _) | (Side::Auto, SignalKind::Latency | SignalKind::Errors | SignalKind::Saturation) => 1,
        (Side::Down, _) | (Side::Auto, SignalKind::Availability) => 2,
        (Side::Both | Side::Auto, _) => 3,
    }
}

fn beyond(thresholds: &Thresholds, value: f64) -> bool {
    thresholds.upper.is_some_and(|t| value > t) || thresholds.lower.is_some_and(|t| value < t)
}
