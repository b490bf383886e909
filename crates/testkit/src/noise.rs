//! Numbers that look random and are the same in every run, on every machine: goldens and thresholds of tests stand on them.

/// Standard normal numbers, or uniform ones, of a fixed stream: a linear congruence from this seed, and Box and Muller.
#[derive(Debug, Clone)]
pub struct Noise(pub u64);

impl Noise {
    /// Between 0 and 1, neither of which it is.
    #[allow(clippy::cast_precision_loss)] // 53 bits fit
    pub fn uniform(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// Standard normal.
    pub fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// All standard normal numbers that follow.
    pub fn normals(mut self) -> impl Iterator<Item = f64> {
        std::iter::repeat_with(move || self.normal())
    }
}

/// The noise at a place: bell-shaped (of six uniform numbers) with a mean of 0, unit spread, and nothing beyond 4.3.
#[must_use]
#[allow(clippy::cast_precision_loss)] // 53 bits fit
pub fn bell(place: u64) -> f64 {
    let unit = |salt: u64| {
        let mut x = (place + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ salt.wrapping_mul(0xD6E8_FEB8_6659_FD93);
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((x ^ (x >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    };
    ((0..6).map(unit).sum::<f64>() - 3.0) * std::f64::consts::SQRT_2
}

/// The noise at a place: evenly between 0 and 1.
#[must_use]
#[allow(clippy::cast_precision_loss)] // 24 bits fit
pub fn even(place: i64) -> f64 {
    let mut z = place.unsigned_abs().wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    ((z ^ (z >> 27)) >> 40) as f64 / f64::from(1 << 24)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_noise_has_the_mean_and_spread_that_it_says() {
        let moments = |values: Vec<f64>| {
            let n = values.len() as f64;
            let mean = values.iter().sum::<f64>() / n;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
            (mean, variance.sqrt())
        };
        let even_spread = (1.0_f64 / 12.0).sqrt();
        let mut uniform = Noise(7);
        for (values, mean, spread) in [
            (Noise(3).normals().take(20_000).collect(), 0.0, 1.0),
            ((0..20_000).map(bell).collect(), 0.0, 1.0),
            ((0..20_000).map(even).collect(), 0.5, even_spread),
            ((0..20_000).map(|_| uniform.uniform()).collect(), 0.5, even_spread),
        ] {
            let is = moments(values);
            assert!(
                (is.0 - mean).abs() < 0.03 && (is.1 / spread - 1.0).abs() < 0.03,
                "{is:?}"
            );
        }
    }
}
