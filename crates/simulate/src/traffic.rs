//! How many customers come.

use suture_event::Timestamp;

/// Requests a second at the front at the busiest time of an ordinary weekday.
pub(crate) const PEAK: f64 = 220.0;

const DAY: f64 = 86_400_000.0;

/// Share of [`PEAK`] expected at a point in time: low before dawn, high in the evening, less at the weekend.
#[allow(clippy::cast_precision_loss)] // milliseconds within 2^53
pub(crate) fn expected(at: Timestamp) -> f64 {
    let days = at.as_millis() as f64 / DAY;
    let turn = std::f64::consts::TAU * days.rem_euclid(1.0);
    let evening = (turn - std::f64::consts::TAU * 18.0 / 24.0).cos();
    let noon = (2.0 * turn - std::f64::consts::TAU * 2.0 * 13.0 / 24.0).cos();
    // between 0.3 and 1
    let daily = (0.63 + 0.29 * evening + 0.08 * noon).clamp(0.2, 1.0);
    daily * weekly(days)
}

/// 1 on weekdays and 0.85 at the weekend, passing over from one to the other in the six hours around midnight.
fn weekly(days: f64) -> f64 {
    // 1970-01-01 was a Thursday, so Saturday begins at 2 and ends, with Sunday, at 4
    let in_week = days.rem_euclid(7.0);
    let into = ((in_week - 2.0) / 0.25 + 0.5).clamp(0.0, 1.0);
    let out = ((in_week - 4.0) / 0.25 + 0.5).clamp(0.0, 1.0);
    1.0 - 0.15 * (into - out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> f64 {
        expected(text.parse().unwrap())
    }

    #[test]
    fn evenings_are_busy_nights_and_weekends_quiet() {
        assert!(at("2026-06-03T18:00:00Z") > 2.0 * at("2026-06-03T05:00:00Z"));
        assert!(at("2026-06-06T18:00:00Z") < 0.9 * at("2026-06-05T18:00:00Z"));
        let monday = at("2026-06-08T18:00:00Z");
        assert!((monday - at("2026-06-01T18:00:00Z")).abs() < 1e-9);
    }

    #[test]
    fn it_never_jumps() {
        let mut before = at("2026-06-01T00:00:00Z");
        for minute in 1..7 * 1_440 {
            let now = expected(Timestamp::from_millis(1_780_272_000_000 + minute * 60_000));
            assert!((now - before).abs() < 0.01, "minute {minute}");
            before = now;
        }
    }
}
