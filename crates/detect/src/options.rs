//! What can be set, with defaults that fit a system nobody has looked at yet.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use suture_event::Span;

use crate::{AlarmBudget, Checker, DiscoveryOptions, Problem};

/// The relative least effect where none is given.
pub(crate) const LEAST_RELATIVE: f64 = 0.05;

/// One of the detectors of this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DetectorName {
    /// Distance from what level, trend and season foretell.
    Seasonal,
    /// A small change of level that stays.
    Shift,
    /// Above or below the fixed `thresholds`.
    Threshold,
    /// Samples that stop coming.
    Silence,
    /// A shape that was not there before, whatever its level.
    Sequence,
    /// A spread that has become wider or narrower.
    Variance,
    /// A steady rise or fall over some two dozen windows.
    Trend,
    /// The same value again and again, where values usually change.
    Flatline,
    /// A value far beyond all that was seen, however it got there.
    Record,
    /// One value far from its neighbours in time. It needs no second window.
    Spike,
    /// What will reach its `limit` soon. Runs wherever `limit` is set and detectors are `auto`.
    RunOut,
    /// A floor that rises cycle after cycle, whatever the load does.
    Leak,
    /// Bayesian online changepoints: a level or spread that is new.
    Changepoint,
    /// A robust random cut forest: a course of eight values unlike those before. 160 KiB a series.
    Forest,
    /// Drift of the whitened residuals, by a mixture of CUSUMs: shifts of any size. The one to take.
    #[serde(rename = "drift.mixture")]
    DriftMixture,
    /// Drift by the CUSUM for one standard deviation.
    #[serde(rename = "drift.cusum")]
    DriftCusum,
    /// Drift by the test of Page and Hinkley.
    #[serde(rename = "drift.page_hinkley")]
    DriftPageHinkley,
    /// Drift by ADWIN, a window as long as its mean is the same throughout. 4 KiB a series.
    #[serde(rename = "drift.adwin")]
    DriftAdwin,
    /// Drift by KSWIN, which compares whole distributions. 2 KiB a series.
    #[serde(rename = "drift.kswin")]
    DriftKswin,
}

impl DetectorName {
    /// Whether it may run under `auto`.
    fn is_automatic(self) -> bool {
        use DetectorName::{Flatline, Record, RunOut, Seasonal, Sequence, Shift, Silence, Threshold};
        matches!(
            self,
            Seasonal | Shift | Threshold | Silence | Sequence | Flatline | Record | RunOut
        )
    }
}

/// Which detectors run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Detectors {
    /// Whatever suits the series: the first five, and of the others what its look calls for (see `docs/detectors.md`).
    #[default]
    #[serde(with = "auto_text")]
    #[schemars(with = "AutoText")]
    Auto,
    /// These and no others.
    List(Vec<DetectorName>),
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum AutoText {
    Auto,
}

mod auto_text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::AutoText;

    pub(super) fn serialize<S: Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
        AutoText::Auto.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
        AutoText::deserialize(deserializer).map(|_| ())
    }
}

/// On which side of its band a series is worth an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Up for latency, errors and saturation, down for availability, both for the rest.
    #[default]
    Auto,
    /// Above only.
    Up,
    /// Below only.
    Down,
    /// Above and below.
    Both,
}

/// How far from what is expected a value must be to matter at all, however unusual it is. Both bounds must be passed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LeastEffect {
    /// In the metric's unit.
    pub absolute: f64,
    /// As a share of what is expected: 0.2 means 20%. Absent: 5%, or nothing at all where `alarms` states a budget.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relative: Option<f64>,
}

impl Default for LeastEffect {
    fn default() -> Self {
        Self {
            absolute: 0.0,
            relative: None,
        }
    }
}

/// Fixed bounds: a value beyond one is outside, whatever the series usually does. They need no warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Thresholds {
    /// Values above this are outside.
    pub upper: Option<f64>,
    /// Values below this are outside.
    pub lower: Option<f64>,
}

/// On which way a limit lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Towards {
    /// It fills up: a disk, a quota, a pool, a heap.
    #[default]
    Rises,
    /// It runs down: free space, credits, the time that a certificate is still valid.
    Falls,
}

/// What a series must not reach, and how long before it does an anomaly opens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitOptions {
    /// The limit, in the metric's unit: 100 of a percentage, 1 of a share, 0 of what runs down. Where the limit is
    /// another metric, watch the share of the one in the other.
    pub at: f64,
    /// Whether the series rises to it or falls to it.
    #[serde(default)]
    pub when: Towards,
    /// An anomaly opens where the limit is likely to be reached within this time.
    #[serde(default = "a_day")]
    pub within: Span,
}

fn a_day() -> Span {
    Span::from_hours(24)
}

/// How a leak is told from a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LeakOptions {
    /// The time in which whatever is not leaked is given back at least once: one in which load falls, and garbage is
    /// collected. The least values of 24 such times are compared.
    pub cycle: Span,
}

impl Default for LeakOptions {
    fn default() -> Self {
        Self {
            cycle: Span::from_hours(1),
        }
    }
}

/// When an anomaly begins, is told again, and ends.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EpisodeOptions {
    /// Opens when this many windows …
    pub open: u32,
    /// … of this many (at most 32) were outside.
    pub of: u32,
    /// Ends after this many windows in a row inside the band from before.
    pub close: u32,
    /// A level that has stayed for so long is accepted as the new normal; one of latency only after three times as
    /// long, and one of errors or availability after twelve times: that work has failed for hours makes it no more normal.
    pub accept_after: Span,
    /// Told again when the deviation has become this many times the one told last.
    pub grow_by: f64,
    /// Told again at most so often.
    pub grow_times: u32,
}

impl Default for EpisodeOptions {
    fn default() -> Self {
        Self {
            open: 2,
            of: 3,
            close: 3,
            accept_after: Span::from_hours(2),
            grow_by: 2.0,
            grow_times: 3,
        }
    }
}

/// When a series that sends nothing is silent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SilenceOptions {
    /// Windows without a sample before silence is thought of at all; three times as many for latency, errors and
    /// availability, which have no value while there is no work.
    pub windows: u32,
    /// Times the longest gap it usually has; no more than 1.75 times the usual one where its gaps are all alike, as those of a
    /// job that reports once a day.
    pub factor: f64,
    /// A series silent for so long is gone: the anomaly ends as accepted.
    pub forget_after: Span,
}

impl Default for SilenceOptions {
    fn default() -> Self {
        Self {
            windows: 5,
            factor: 3.0,
            forget_after: Span::from_hours(24),
        }
    }
}

/// Which seasons are learned. A season is used only where it has foretold better than doing without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SeasonOptions {
    /// The time of day.
    pub daily: bool,
    /// The time of the week: 692 bytes more a series. It is believed from two weeks on, where it foretells better than the
    /// time of day.
    pub weekly: bool,
}

impl Default for SeasonOptions {
    fn default() -> Self {
        Self {
            daily: true,
            weekly: false,
        }
    }
}

/// Whether the sequence model runs, which costs microseconds and kilobytes where the others cost a fraction of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SequenceMode {
    /// Only where every sample is a window of its own.
    #[default]
    Auto,
    /// On every series.
    On,
    /// On none.
    Off,
}

/// How series are watched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// `auto`, or a list of detectors.
    pub detectors: Detectors,
    /// A budget of alarms for all series under these options together, in place of `alarm` and `at_once`: one window that
    /// is unlikely enough is an alarm, and how unlikely that is follows from the budget. Each shard, which is one input
    /// partition, holds to it by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alarms: Option<AlarmBudget>,
    /// A bound on the share of alarms that are false, over all series under these options together, in place of `alarm`
    /// and `at_once`. A budget of `alarms`, where there is one for these series, comes first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discoveries: Option<DiscoveryOptions>,
    /// A window is outside its band where the probability of one so unusual is below this.
    pub alarm: f64,
    /// A window less likely than this opens an anomaly by itself, without waiting for a second one.
    pub at_once: f64,
    /// Windows with a sample that are learned from before anything is said.
    pub warm_up: u32,
    /// On which side a series is worth an alarm.
    pub direction: Side,
    /// What is too small to matter.
    pub least_effect: LeastEffect,
    /// Fixed bounds.
    pub thresholds: Thresholds,
    /// A limit that must not be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<LimitOptions>,
    /// How a leak is told from a load, where `detectors` lists `leak`.
    pub leak: LeakOptions,
    /// When anomalies begin and end.
    pub episode: EpisodeOptions,
    /// When a series is silent.
    pub silence: SilenceOptions,
    /// Which seasons are learned.
    pub season: SeasonOptions,
    /// Whether the sequence model runs. It joins weak signs over many values, so that its alarms come in fewer, longer
    /// bunches: an `alarm` of 2e-3 suits it where 1e-4 suits windows.
    pub sequence: SequenceMode,
    /// Values after an alarm of the sequence model during which it raises no other, at most: 40 and a fiftieth of those
    /// seen, as long as that is less.
    pub refractory: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            detectors: Detectors::Auto,
            alarms: None,
            discoveries: None,
            alarm: 1e-4,
            at_once: 1e-7,
            warm_up: 60,
            direction: Side::Auto,
            least_effect: LeastEffect::default(),
            thresholds: Thresholds::default(),
            limit: None,
            leak: LeakOptions::default(),
            episode: EpisodeOptions::default(),
            silence: SilenceOptions::default(),
            season: SeasonOptions::default(),
            sequence: SequenceMode::Auto,
            refractory: 300,
        }
    }
}

impl Options {
    /// Whether a detector may run under these options.
    #[must_use]
    pub fn wants(&self, name: DetectorName) -> bool {
        match &self.detectors {
            Detectors::Auto => name.is_automatic(),
            Detectors::List(names) => names.contains(&name),
        }
    }

    /// Everything that is wrong with the values, beyond their types.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        let mut check = Checker::default();
        check.below("alarms", self.alarms.iter().flat_map(AlarmBudget::validate));
        check.below(
            "discoveries",
            self.discoveries.iter().flat_map(DiscoveryOptions::validate),
        );
        check.that(
            self.alarms.is_none() || self.discoveries.is_none(),
            "discoveries",
            "there is a budget of alarms as well",
            "state alarms or discoveries, not both",
        );
        let probability = |p: f64| p > 0.0 && p < 1.0;
        check.that(
            probability(self.alarm),
            "alarm",
            format!("{} is no probability of a false alarm", self.alarm),
            "write a number between 0 and 1, such as 1e-4",
        );
        check.that(
            self.at_once > 0.0 && self.at_once <= self.alarm,
            "at_once",
            format!("{} is not between 0 and alarm ({})", self.at_once, self.alarm),
            "one window alone needs stronger evidence than several: write a smaller number than alarm",
        );
        check.that(
            self.warm_up >= 10,
            "warm_up",
            format!("{} windows are too few to know what is usual", self.warm_up),
            "write at least 10",
        );
        check.that(
            self.least_effect.absolute >= 0.0 && self.least_effect.absolute.is_finite(),
            "least_effect.absolute",
            format!("{} is no least effect", self.least_effect.absolute),
            "write 0 or a positive number, in the metric's unit",
        );
        check.that(
            self.least_effect
                .relative
                .is_none_or(|share| share >= 0.0 && share.is_finite()),
            "least_effect.relative",
            format!("{} is no least effect", self.least_effect.relative.unwrap_or_default()),
            "write 0 or a positive share, such as 0.2 for 20%",
        );
        if let (Some(lower), Some(upper)) = (self.thresholds.lower, self.thresholds.upper) {
            check.that(
                lower < upper,
                "thresholds.lower",
                format!("the lower threshold {lower} is not below the upper one {upper}"),
                "values between lower and upper are fine; exchange the two",
            );
        }
        if let Some(limit) = &self.limit {
            check.that(
                limit.at.is_finite(),
                "limit.at",
                format!("{} is no limit", limit.at),
                "write a number, in the metric's unit",
            );
            check.that(
                limit.within.as_millis() > 0,
                "limit.within",
                "the limit would be told when it is reached",
                "write a span such as 24h",
            );
        }
        check.that(
            self.leak.cycle.as_millis() >= 60_000,
            "leak.cycle",
            format!("{} is too short for anything to be given back", self.leak.cycle),
            "write at least 1m, such as 1h",
        );
        let episode = &self.episode;
        check.that(
            (1..=32).contains(&episode.of),
            "episode.of",
            format!("{} windows cannot be looked back on", episode.of),
            "write 1 to 32",
        );
        check.that(
            episode.open >= 1 && episode.open <= episode.of,
            "episode.open",
            format!("{} of {} windows can never be outside", episode.open, episode.of),
            "write at least 1 and at most episode.of",
        );
        check.that(
            episode.close >= 1,
            "episode.close",
            "0 windows show nothing",
            "write at least 1",
        );
        check.that(
            episode.accept_after.as_millis() > 0,
            "episode.accept_after",
            "a level would be accepted before it was seen",
            "write a span such as 2h",
        );
        check.that(
            episode.grow_by > 1.0,
            "episode.grow_by",
            format!("{} times the deviation is no growth", episode.grow_by),
            "write a number above 1, such as 2",
        );
        check.that(
            self.silence.windows >= 1,
            "silence.windows",
            "0 windows are no silence",
            "write at least 1",
        );
        check.that(
            self.silence.factor >= 1.0,
            "silence.factor",
            format!("{} times the usual gap is no silence", self.silence.factor),
            "write at least 1",
        );
        if let Detectors::List(names) = &self.detectors {
            check.that(
                !names.is_empty(),
                "detectors",
                "no detector is listed",
                "write auto, or at least one name",
            );
            check.that(
                !names.contains(&DetectorName::Threshold)
                    || self.thresholds.upper.is_some()
                    || self.thresholds.lower.is_some(),
                "detectors",
                "the threshold detector is listed, but thresholds has neither upper nor lower",
                "set thresholds.upper or thresholds.lower",
            );
            check.that(
                !names.contains(&DetectorName::RunOut) || self.limit.is_some(),
                "detectors",
                "run_out is listed, but there is no limit",
                "set limit.at",
            );
        }
        check.found()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_survive_text() {
        let options = Options::default();
        assert_eq!(options.validate(), vec![]);
        let text = serde_json::to_string(&options).unwrap();
        assert!(text.contains(r#""detectors":"auto""#), "{text}");
        assert_eq!(serde_json::from_str::<Options>(&text).unwrap(), options);
        assert_eq!(serde_json::from_str::<Options>("{}").unwrap(), options);
    }

    #[test]
    fn detectors_are_auto_or_a_list() {
        let listed: Options = serde_json::from_str(r#"{"detectors": ["seasonal", "silence"]}"#).unwrap();
        assert!(listed.wants(DetectorName::Silence) && !listed.wants(DetectorName::Shift));
        assert!(serde_json::from_str::<Options>(r#"{"detectors": ["sesonal"]}"#).is_err());
        assert!(serde_json::from_str::<Options>(r#"{"detectors": "manual"}"#).is_err());
    }

    #[test]
    fn every_wrong_value_is_told_with_its_path() {
        let mut options = Options {
            alarm: 2.0,
            at_once: 3.0,
            warm_up: 1,
            ..Options::default()
        };
        options.thresholds = Thresholds {
            lower: Some(2.0),
            upper: Some(1.0),
        };
        options.episode = EpisodeOptions {
            open: 4,
            of: 3,
            grow_by: 1.0,
            ..options.episode
        };
        options.detectors = Detectors::List(vec![]);
        let paths: Vec<_> = options.validate().into_iter().map(|p| p.path).collect();
        assert_eq!(
            paths,
            [
                "alarm",
                "at_once",
                "warm_up",
                "thresholds.lower",
                "episode.open",
                "episode.grow_by",
                "detectors"
            ]
        );
    }
}
