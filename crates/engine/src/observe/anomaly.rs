//! What detectors find, in the vocabulary's words.

use suture_detect::{Episode, Suppressed};
use suture_event::{Anomaly, hex16, stable_hash};

use super::{Band, SuppressedAlarm};
use crate::series::Series;

pub(super) fn anomaly(series: &Series, episode: Episode) -> Anomaly {
    let (hash, onset) = (series.hash.to_le_bytes(), episode.onset.as_millis().to_le_bytes());
    let identity = [hash.as_slice(), episode.detector.as_bytes(), &onset];
    Anomaly {
        id: format!("a-{}", hex16(stable_hash(identity))).into(),
        at: episode.at,
        onset: episode.onset,
        phase: episode.phase,
        end: episode.end,
        metric: series.key.metric.clone(),
        labels: series.key.labels.clone(),
        service: series.service.clone(),
        signal: series.kind,
        detector: episode.detector.into(),
        score: finite(episode.score),
        deviation: finite(episode.deviation),
        value: episode.value.filter(|value| value.is_finite()),
        expected: finite(episode.expected),
        lower: finite(episode.lower),
        upper: finite(episode.upper),
        direction: episode.direction,
        detail: episode.detail,
    }
}

/// A band whose ends numbers can say.
pub(super) fn band(expected: Option<&f64>, lower: Option<&f64>, upper: Option<&f64>) -> Option<Band> {
    let (expected, lower, upper) = (*expected?, *lower?, *upper?);
    (expected.is_finite() && lower <= upper).then_some(Band {
        expected,
        lower: finite(lower),
        upper: finite(upper),
    })
}

pub(super) fn suppressed(series: &Series, alarm: &Suppressed) -> SuppressedAlarm {
    SuppressedAlarm {
        at: alarm.at,
        metric: series.key.metric.clone(),
        labels: series.key.labels.clone(),
        detector: alarm.detector,
        score: finite(alarm.score),
        value: alarm.value,
    }
}

/// A number that JSON can hold: an open end of a band is the largest there is, and what is not known is 0.
const fn finite(number: f64) -> f64 {
    if number.is_nan() {
        0.0
    } else {
        number.clamp(f64::MIN, f64::MAX)
    }
}
