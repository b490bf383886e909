//! From distances that are made elsewhere to anomalies: the same probabilities, episodes and budgets as a bank's.

use suture_event::{AnomalyPhase, Direction, EndReason, Timestamp};

use crate::{
    Budget, Episode, Error, LeastEffect, Options, Suppressed,
    episode::{OUTSIDE, Resting, Standing, Turn, Window},
    options::LEAST_RELATIVE,
    seasonal::sided,
    state::{Columns, columns},
    tail::Tails,
    whiten::Whitening,
    words::number,
};

/// Version of the snapshot's columns.
const VERSION: u32 = 1;
/// What is learned from a distance is at most what this probability stands for.
const CLIP_AT: f64 = 1e-4;
/// Windows less likely than this, one after the other, are one event: the tail learns it once, when it is over.
const UNUSUAL: f64 = 1e-3;

/// How likely a distance is, and who knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// Whoever measures gives a distance; what it means is read off the row's own past distances.
    Learned,
    /// Whoever measures gives the probability too, and one window that is unlikely enough is an anomaly. With `adapts`
    /// one that has stayed for `episode.accept_after` is accepted, without it never.
    Told {
        /// Whether what stays is accepted.
        adapts: bool,
    },
}

/// One window of one row, measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// The row; each at most once a window.
    pub row: u32,
    /// What was measured.
    pub value: f64,
    /// What was expected.
    pub expected: f64,
    /// What a distance of 1 is in the unit of `value`.
    pub scale: f64,
    /// Signed distance from what was expected, in standard deviations or nearly so.
    pub distance: f64,
    /// The probability, where whoever measures knows it; read only under [`Nature::Told`].
    pub probability: f64,
}

/// The time of one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Start of the window.
    pub start: Timestamp,
    /// End of the window.
    pub end: Timestamp,
    /// When it was known.
    pub at: Timestamp,
}

columns! {
    /// What was given with each row, and what became of it.
    struct Given {
        /// 1 up, 2 down, 3 both.
        side: u8 = 3,
        /// Readings learned from.
        learned: u32 = 0,
        /// End of the window it was read last in.
        read: i64 = i64::MIN,
        /// Whether an alarm of the last window was suppressed.
        muted: u8 = 0,
        /// The largest distance of a run of unusual windows that is not over.
        peak: f32 = 0.0,
    }
}

/// Rows that are judged by a distance each: a member's from its group, a group's from what it was.
///
/// What a distance means is learned by row, as its tail ([Hill, 1975], as in every detector here); under a budget what the
/// window before foretold of it is taken off first. 70 bytes a row, 60 more under a budget; 40 ns an update.
///
/// [Hill, 1975]: https://doi.org/10.1214/aos/1176343247
#[derive(Debug)]
pub struct Distances {
    options: Options,
    nature: Nature,
    name: &'static str,
    given: Given,
    tails: Tails,
    standing: Standing,
    white: Option<Whitening>,
    budget: Option<Budget>,
    suppressed: Vec<Suppressed>,
    /// Where the last reading was expected.
    bands: [Vec<f64>; 3],
}

impl Distances {
    /// No rows yet. `name` is what the detector is called in anomalies; `shared` is whether alarms will be drawn on a
    /// budget that others draw on too.
    ///
    /// # Errors
    /// [`Error::Options`] with the first problem that [`Options::validate`] finds.
    pub fn new(options: &Options, nature: Nature, name: &'static str, shared: bool) -> Result<Self, Error> {
        if let Some(problem) = options.validate().into_iter().next() {
            return Err(Error::Options(problem));
        }
        let mut options = options.clone();
        if nature == (Nature::Told { adapts: false }) {
            options.episode.accept_after = suture_event::Span::from_millis(i64::MAX);
        }
        let counted = options.alarms.is_some() || shared;
        Ok(Self {
            white: (counted && nature == Nature::Learned).then(Whitening::default),
            budget: options.alarms.as_ref().map(Budget::new),
            options,
            nature,
            name,
            given: Given::default(),
            tails: Tails::default(),
            standing: Standing::default(),
            suppressed: Vec::new(),
            bands: Default::default(),
        })
    }

    /// One more row, which counts on that side: 1 above, 2 below, 3 both.
    pub fn add(&mut self, side: u8) -> u32 {
        let row = self.len();
        self.given.push();
        self.given.side[row] = side;
        self.tails.push();
        self.standing.push();
        if let Some(white) = &mut self.white {
            white.push();
        }
        u32::try_from(row).unwrap_or(u32::MAX)
    }

    /// Forgets everything of a row, so that it can stand for another.
    pub fn reuse(&mut self, row: u32, side: u8) {
        let row = row as usize;
        if row >= self.len() {
            return;
        }
        self.given.reset(row);
        self.given.side[row] = side;
        self.tails.reset(row);
        self.standing.resting.reset(row);
        self.standing.close(row);
        if let Some(white) = &mut self.white {
            white.memory.reset(row);
            white.tails.reset(row);
        }
    }

    /// Gives a row up: what is open on it ends, as nothing more will be known of it. It must not be read again before it
    /// stands for another, by [`Self::reuse`].
    pub fn retire(&mut self, row: u32, at: Timestamp) -> Option<Episode> {
        let place = row as usize;
        if !self.holds(row) {
            return None;
        }
        let moment = Moment { start: at, end: at, at };
        let mut episode = self.episode(place, moment, AnomalyPhase::Ended);
        episode.end = Some(EndReason::Silent);
        episode.detail = "is no longer watched in its group: what became of it is not known".to_owned();
        self.reuse(row, self.given.side[place]);
        Some(episode)
    }

    /// Rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.given.side.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of state a row.
    #[must_use]
    pub fn bytes_per_row(&self) -> usize {
        let white = if self.white.is_some() { Whitening::BYTES } else { 0 };
        Given::BYTES + Tails::BYTES + Resting::BYTES + white
    }

    /// Whether something is open on a row, so that whoever measures should not learn from it.
    #[must_use]
    pub fn holds(&self, row: u32) -> bool {
        self.standing
            .resting
            .state
            .get(row as usize)
            .is_some_and(|state| *state == OUTSIDE)
    }

    /// The budget of its own, where the options state one.
    #[must_use]
    pub fn budget(&self) -> Option<&Budget> {
        self.budget.as_ref()
    }

    /// The alarms that the last update suppressed.
    #[must_use]
    pub fn suppressed(&self) -> &[Suppressed] {
        &self.suppressed
    }

    /// What was expected of each reading of the last update, and the ends of its band, where scores were wanted.
    #[must_use]
    pub fn bands(&self) -> [&[f64]; 3] {
        [&self.bands[0], &self.bands[1], &self.bands[2]]
    }

    /// Judges the readings of one window, then learns from them. `words` says what a reading means and is asked only for
    /// those that are told. Readings whose numbers are not finite count as none; a row without a reading for
    /// `silence.windows` windows while something is open on it ends as silent.
    pub fn update(
        &mut self,
        moment: Moment,
        readings: &[Reading],
        shared: Option<&mut Budget>,
        words: &mut dyn FnMut(usize) -> String,
        scores: Option<&mut Vec<f64>>,
        episodes: &mut Vec<Episode>,
    ) {
        self.suppressed.clear();
        self.bands.iter_mut().for_each(Vec::clear);
        let mut own = self.budget.take();
        let mut budget = own.as_mut().or(shared);
        if let Some(budget) = budget.as_deref_mut() {
            budget.advance(moment.end.as_millis());
        }
        let mut scores = scores;
        for (i, reading) in readings.iter().enumerate() {
            let row = reading.row as usize;
            let finite = [reading.value, reading.expected, reading.scale, reading.distance];
            let sound = row < self.len() && finite.iter().all(|number| number.is_finite());
            let score = if sound {
                self.given.read[row] = moment.end.as_millis();
                self.judge(i, reading, moment, budget.as_deref_mut(), words, episodes)
            } else {
                0.0
            };
            if let Some(scores) = scores.as_deref_mut() {
                scores.push(score);
                let reach = if sound && self.nature == Nature::Learned && self.knows(row) {
                    self.tails.distance(row, self.options.alarm)
                } else {
                    f64::NAN
                };
                let (lower, upper) = ends(reading, reach, self.given.side.get(row).copied().unwrap_or(3));
                for (column, number) in self.bands.iter_mut().zip([reading.expected, lower, upper]) {
                    column.push(number);
                }
            }
        }
        self.lapse(moment, episodes);
        self.budget = own;
    }

    fn knows(&self, row: usize) -> bool {
        self.given.learned[row] >= self.options.warm_up
    }

    fn judge(
        &mut self,
        i: usize,
        reading: &Reading,
        moment: Moment,
        mut budget: Option<&mut Budget>,
        words: &mut dyn FnMut(usize) -> String,
        episodes: &mut Vec<Episode>,
    ) -> f64 {
        let row = reading.row as usize;
        self.standing.heard(row, 0);
        let distance = reading.distance.clamp(-1e9, 1e9);
        let held = self.standing.resting.state[row] == OUTSIDE;
        let level = budget.as_deref_mut().map(Budget::level);
        let mut probability = self.probability(row, reading, distance, held, level.is_some());
        let learned = self.nature == Nature::Learned;
        let small = learned && self.is_too_small(reading);
        if small {
            probability = probability.max(0.5);
        }
        if level.is_none() && probability >= self.options.alarm && self.standing.rests(row) {
            return 1.0 - probability;
        }
        let reach = if learned {
            self.tails.distance(row, self.options.alarm)
        } else {
            1.0
        };
        let inside = if learned {
            small || sided(distance, self.given.side[row]) <= 0.75 * reach
        } else {
            probability >= self.options.alarm
        };
        let window = Window {
            start: moment.start.as_millis(),
            onset: moment.start.as_millis(),
            end: moment.end.as_millis(),
            value: reading.value,
            off: 0.0,
            probability,
            distance,
            detector: 0,
            inside,
        };
        let limits = match level {
            Some(level) => {
                let asks = probability < level && !held;
                let granted = asks && self.grant(&window, row, moment, budget);
                self.given.muted[row] = u8::from(asks && !granted);
                let level = if asks && !granted { 0.0 } else { level };
                (level, level)
            }
            None if learned => (self.options.alarm, self.options.at_once),
            None => (self.options.alarm, self.options.alarm),
        };
        let turn = self.standing.step(row, window, &self.options.episode, limits);
        let phase = match turn {
            Turn::Nothing => return 1.0 - probability,
            Turn::Passed => {
                self.standing.close(row);
                return 1.0 - probability;
            }
            Turn::Opened => AnomalyPhase::Opened,
            Turn::Grown => AnomalyPhase::Grown,
            Turn::Eased => AnomalyPhase::Eased,
            Turn::Ended(_) => AnomalyPhase::Ended,
        };
        let mut episode = self.episode(row, moment, phase);
        (episode.score, episode.deviation) = (1.0 - probability, distance.abs());
        (episode.value, episode.expected) = (Some(reading.value), reading.expected);
        (episode.lower, episode.upper) = ends(reading, reach, self.given.side[row]);
        episode.detail = if let Turn::Ended(reason) = turn {
            episode.end = Some(reason);
            self.standing.close(row);
            let band = match self.given.side[row] {
                1 => format!("at most {}", number(episode.upper)),
                2 => format!("at least {}", number(episode.lower)),
                _ => format!("within {} to {}", number(episode.lower), number(episode.upper)),
            };
            format!(
                "{} now; expected {} {band}",
                number(reading.value),
                number(reading.expected)
            )
        } else {
            let count = self.given.learned[row];
            match self.nature {
                Nature::Learned => format!(
                    "{}; {} standard deviations, probability {probability:.1e} ({count} windows learned)",
                    words(i),
                    number(distance.abs())
                ),
                Nature::Told { .. } => words(i),
            }
        };
        episodes.push(episode);
        1.0 - probability
    }

    /// The probability of a distance so far on a side that counts; learns from it unless the row is held.
    fn probability(&mut self, row: usize, reading: &Reading, distance: f64, held: bool, counted: bool) -> f64 {
        if self.nature != Nature::Learned {
            return reading.probability.clamp(0.0, 1.0);
        }
        let side = self.given.side[row];
        let knows = self.knows(row);
        let off = sided(distance, side);
        let mut probability = self.tails.probability(row, off);
        if let Some(white) = &mut self.white {
            let white = white.step(row, distance, held, side);
            if counted {
                probability = white.probability;
            }
        }
        let unusual = knows && self.tails.fitted(row, off) < UNUSUAL;
        #[allow(clippy::cast_possible_truncation)] // single precision is what tails are kept in
        if held || unusual {
            self.given.peak[row] = self.given.peak[row].max(off as f32);
            return if knows { probability } else { 1.0 };
        }
        let peak = f64::from(std::mem::take(&mut self.given.peak[row]));
        if peak > 0.0 {
            let most = 1.3 * self.tails.distance(row, self.options.alarm);
            self.tails.learn(row, peak.min(most));
        }
        self.given.learned[row] = self.given.learned[row].saturating_add(1);
        let most = if knows {
            self.tails.distance(row, CLIP_AT)
        } else {
            f64::MAX
        };
        self.tails.learn(row, off.min(most));
        if knows { probability } else { 1.0 }
    }

    fn is_too_small(&self, reading: &Reading) -> bool {
        let LeastEffect { absolute, relative } = self.options.least_effect;
        let relative = relative.unwrap_or(if self.white.is_some() { 0.0 } else { LEAST_RELATIVE });
        let effect = (reading.value - reading.expected).abs();
        effect < absolute || effect < relative * reading.expected.abs()
    }

    /// Asks the budget for an alarm; notes what it suppresses, once for windows in a row.
    fn grant(&mut self, window: &Window, row: usize, moment: Moment, budget: Option<&mut Budget>) -> bool {
        let Some(budget) = budget else { return true };
        let muted = self.given.muted[row] != 0;
        let granted = budget.take(muted);
        if !granted && !muted {
            self.suppressed.push(Suppressed {
                row: u32::try_from(row).unwrap_or(u32::MAX),
                at: moment.at,
                detector: self.name,
                score: 1.0 - window.probability,
                value: Some(window.value),
            });
        }
        granted
    }

    /// Ends what is open on rows that are no longer read.
    fn lapse(&mut self, moment: Moment, episodes: &mut Vec<Episode>) {
        let end = moment.end.as_millis();
        let unread = |given: &Given, row: &u32| given.read[*row as usize] != end;
        let late: Vec<u32> = self
            .standing
            .rows()
            .filter(|row| self.holds(*row) && unread(&self.given, row))
            .collect();
        for row in late {
            let at = row as usize;
            self.standing.resting.missing[at] = self.standing.resting.missing[at].saturating_add(1);
            let gone = self.standing.resting.missing[at];
            if gone < self.options.silence.windows {
                continue;
            }
            let mut episode = self.episode(at, moment, AnomalyPhase::Ended);
            episode.end = Some(EndReason::Silent);
            episode.detail = format!("sends nothing since {gone} windows: whether it recovered is not known");
            episodes.push(episode);
            self.standing.resting.state[at] = crate::episode::CALM;
            self.standing.close(at);
        }
    }

    fn episode(&self, row: usize, moment: Moment, phase: AnomalyPhase) -> Episode {
        let open = self.standing.open(row);
        Episode {
            row: u32::try_from(row).unwrap_or(u32::MAX),
            phase,
            end: None,
            at: moment.at,
            onset: Timestamp::from_millis(open.onset),
            detector: self.name,
            score: 0.0,
            deviation: open.told,
            value: None,
            expected: 0.0,
            lower: 0.0,
            upper: 0.0,
            direction: if open.side == 2 { Direction::Down } else { Direction::Up },
            detail: String::new(),
        }
    }

    /// The whole state, as one Arrow IPC stream of one record batch with one row a row.
    ///
    /// # Errors
    /// [`Error::Arrow`] where Arrow refuses to write.
    pub fn snapshot(&self) -> Result<Vec<u8>, Error> {
        let mut out = Columns::default();
        self.given.save("given", &mut out);
        self.tails.save("tail", &mut out);
        self.standing.save(&mut out)?;
        if let Some(white) = &self.white {
            white.save(&mut out);
        }
        out.encode(VERSION, self.budget.as_ref().map(Budget::save))
    }

    /// Takes the state over from a snapshot, with all of its rows.
    ///
    /// # Errors
    /// [`Error::Arrow`] or [`Error::Snapshot`] where the bytes are no snapshot of this shape; nothing has changed then.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let (from, rows, account) = Columns::decode(bytes, VERSION)?;
        let mut next = Self::new(&self.options, self.nature, self.name, self.white.is_some())?;
        if let Some(white) = &mut next.white {
            // what a snapshot was written without begins as new
            match from.has("white") {
                true => white.load(&from)?,
                false => (0..rows).for_each(|_| white.push()),
            }
        }
        if let Some(alarms) = &self.options.alarms {
            let account = account.ok_or_else(|| Error::Snapshot("it has no account of alarms".into()))?;
            next.budget = Some(Budget::load(alarms, &account)?);
        }
        next.given.load("given", &from)?;
        next.tails.load("tail", &from)?;
        next.standing.load(&from)?;
        debug_assert_eq!(next.len(), rows);
        *self = next;
        Ok(())
    }
}

/// The band around what was expected: a distance of `reach` on each side that counts.
fn ends(reading: &Reading, reach: f64, side: u8) -> (f64, f64) {
    let wide = reach * reading.scale;
    let (mut lower, mut upper) = (reading.expected - wide, reading.expected + wide);
    if side == 1 {
        lower = f64::MIN;
    }
    if side == 2 {
        upper = f64::MAX;
    }
    (lower, upper)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AlarmBudget;
    use suture_event::Span;

    fn moment(minute: i64) -> Moment {
        let start = Timestamp::from_millis(minute * 60_000);
        let end = Timestamp::from_millis((minute + 1) * 60_000);
        Moment { start, end, at: end }
    }

    fn reading(distance: f64) -> Reading {
        Reading {
            row: 0,
            value: 100.0 + 20.0 * distance,
            expected: 100.0,
            scale: 20.0,
            distance,
            probability: 1.0,
        }
    }

    fn noise(n: usize) -> impl Iterator<Item = f64> {
        suture_testkit::noise::Noise(7).normals().take(n)
    }

    fn run(rows: &mut Distances, distances: impl Iterator<Item = f64>, from: i64) -> Vec<Episode> {
        let mut episodes = Vec::new();
        for (minute, distance) in (from..).zip(distances) {
            let readings: &[Reading] = &[reading(distance)];
            let readings = if distance.is_nan() { &[] } else { readings };
            let mut words = |_| "far off".to_owned();
            rows.update(moment(minute), readings, None, &mut words, None, &mut episodes);
        }
        episodes
    }

    #[test]
    fn a_distance_opens_ends_and_says_why() {
        let mut rows = Distances::new(&Options::default(), Nature::Learned, "peers", false).unwrap();
        rows.add(1);
        assert_eq!(run(&mut rows, noise(3_000), 0), []);
        let told = run(&mut rows, [15.0, 16.0, 0.0, 0.0, 0.0].into_iter(), 3_000);
        let phases: Vec<_> = told.iter().map(|e| (e.phase, e.end)).collect();
        assert_eq!(
            phases,
            [
                (AnomalyPhase::Opened, None),
                (AnomalyPhase::Eased, None),
                (AnomalyPhase::Ended, Some(EndReason::Recovered))
            ]
        );
        assert_eq!(told[0].onset, Timestamp::from_millis(3_000 * 60_000));
        assert!(told[0].detail.starts_with("far off; 1"), "{}", told[0].detail);
        assert!(
            told[0].lower == f64::MIN && (150.0..300.0).contains(&told[0].upper),
            "{:?}",
            told[0]
        );
        // below does not count
        assert_eq!(run(&mut rows, [-15.0, -16.0, -17.0].into_iter(), 3_005), []);
    }

    #[test]
    fn a_row_that_is_no_longer_read_ends_as_silent_and_one_that_stays_is_accepted() {
        let mut rows = Distances::new(&Options::default(), Nature::Learned, "peers", false).unwrap();
        rows.add(3);
        run(&mut rows, noise(300), 0);
        let told = run(&mut rows, [50.0, 50.0].into_iter().chain([f64::NAN; 9]), 300);
        assert_eq!(
            told.last().map(|e| (e.end, e.at)),
            Some((Some(EndReason::Silent), moment(306).end))
        );
        let told = run(&mut rows, std::iter::repeat_n(-90.0, 130), 400);
        assert_eq!(
            told.iter().filter_map(|e| e.end).collect::<Vec<_>>(),
            [EndReason::Adapted]
        );
    }

    #[test]
    fn probabilities_mean_what_they_say_on_noise() {
        let mut rows = Distances::new(&Options::default(), Nature::Learned, "peers", false).unwrap();
        rows.add(3);
        let (mut scores, mut episodes) = (Vec::new(), Vec::new());
        for (minute, distance) in (0..).zip(noise(60_000)) {
            let mut words = |_| String::new();
            rows.update(
                moment(minute),
                &[reading(distance)],
                None,
                &mut words,
                Some(&mut scores),
                &mut episodes,
            );
        }
        for p in [1e-2, 1e-3] {
            let below = scores[5_000..].iter().filter(|score| 1.0 - **score < p).count() as f64;
            let share = below / 55_000.0 / p;
            assert!((0.3..1.6).contains(&share), "below {p}: {share} times as many");
        }
    }

    #[test]
    fn a_budget_holds_and_survives_a_snapshot() {
        let options = Options {
            alarms: Some(AlarmBudget {
                at_most: 2,
                per: Span::from_hours(6),
            }),
            ..Options::default()
        };
        let make = || {
            let mut rows = Distances::new(&options, Nature::Learned, "peers", false).unwrap();
            rows.add(3);
            rows
        };
        let jumps = || {
            noise(1_200)
                .enumerate()
                .map(|(i, z)| if i > 600 && i % 20 == 0 { 40.0 } else { z })
        };
        let mut straight = make();
        let told = run(&mut straight, jumps(), 0);
        let opened = told.iter().filter(|e| e.phase == AnomalyPhase::Opened).count();
        assert!((1..=2 + 4).contains(&opened), "{opened}");
        let (mut broken, mut again) = (make(), Vec::new());
        for (minute, distance) in (0..).zip(jumps()) {
            again.extend(run(&mut broken, std::iter::once(distance), minute));
            let bytes = broken.snapshot().unwrap();
            broken = make();
            broken.restore(&bytes).unwrap();
        }
        assert_eq!(told, again);
    }

    #[test]
    fn what_is_told_opens_at_once_and_without_adapting_stays() {
        let mut rows = Distances::new(&Options::default(), Nature::Told { adapts: false }, "burn", false).unwrap();
        rows.add(1);
        let mut episodes = Vec::new();
        let mut words = |_| "burns".to_owned();
        for minute in 0..10_000 {
            let probability = if minute < 9_000 { 1e-6 } else { 1.0 };
            let reading = Reading {
                probability,
                ..reading(3.0)
            };
            rows.update(moment(minute), &[reading], None, &mut words, None, &mut episodes);
        }
        let told: Vec<_> = episodes.iter().map(|e| (e.phase, e.end, e.at)).collect();
        assert_eq!(
            told,
            [
                (AnomalyPhase::Opened, None, moment(0).end),
                (AnomalyPhase::Eased, None, moment(9_000).end),
                (AnomalyPhase::Ended, Some(EndReason::Recovered), moment(9_002).end)
            ]
        );
    }
}
