use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use statrs::function::gamma::ln_gamma;

use crate::{Checker, Problem};

/// How what is normal is learned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BaselineOptions {
    /// Samples to learn from before the first is judged. They are taken as in control.
    pub warm_up: u32,
    /// Samples that are remembered once there are as many: what is older fades.
    pub memory: u32,
    /// How many samples back a value may depend on: the order of the autoregression, 0 to 4. 0 takes samples as
    /// independent, and then gives many false alarms where they aren't.
    pub order: u8,
    /// Length of the season in samples, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<f64>,
    /// How many harmonics the season's shape has, 1 to 4.
    pub harmonics: u8,
    /// Whether tails heavier than the normal distribution's are looked for and allowed for.
    pub heavy_tails: bool,
    /// What a sample can say at most, in standard deviations, so that one alone doesn't make a drift.
    pub clip: f64,
}

impl Default for BaselineOptions {
    fn default() -> Self {
        Self {
            warm_up: 200,
            memory: 10_000,
            order: 1,
            period: None,
            harmonics: 2,
            heavy_tails: true,
            clip: 5.0,
        }
    }
}

impl BaselineOptions {
    /// Everything that can't be meant.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        let mut check = Checker::default();
        let mut range = |right: bool, path: &str, found: String, help: &str| {
            check.that(right, path, format!("{found} is out of range"), help);
        };
        range(
            (30..=100_000).contains(&self.warm_up),
            "warm_up",
            self.warm_up.to_string(),
            "write 30 to 100000 samples",
        );
        range(
            self.memory >= self.warm_up,
            "memory",
            self.memory.to_string(),
            "write at least warm_up",
        );
        range(self.order <= 4, "order", self.order.to_string(), "write 0 to 4");
        range(
            (1..=4).contains(&self.harmonics),
            "harmonics",
            self.harmonics.to_string(),
            "write 1 to 4",
        );
        range(
            (3.0..=10.0).contains(&self.clip),
            "clip",
            self.clip.to_string(),
            "write 3 to 10 standard deviations",
        );
        if let Some(period) = self.period {
            let long_enough = period >= 2.0 * f64::from(self.harmonics) + 1.0 && period <= f64::from(self.memory);
            range(
                long_enough,
                "period",
                period.to_string(),
                "write more than twice the harmonics, at most memory",
            );
        }
        check.found()
    }
}

/// Makes independent standard normal values of a series, as long as it stays what it was: the whitening that drift
/// detectors need to keep their run length.
///
/// A linear regression on the last values, and on sine and cosine of the season, is fitted by recursive least squares.
/// Its one-step errors over their standard error are Student-t with as many degrees of freedom as there are samples to
/// learn from, and their normal scores exactly standard normal where nothing but level and spread are unknown (the
/// self-starting CUSUM), nearly so with the other terms: what isn't known yet makes a detector slower, not noisier.
/// Where the errors' mean absolute value says that tails are heavy (Geary, Biometrika 1935, beyond three standard
/// errors), they are taken as Student-t with the degrees of freedom that fit it, and the fit downweights outliers.
///
/// Learning goes on: a shift that isn't found is learned as normal at a rate of one over the samples so far, and one
/// within the first few dozen samples after the warm-up mostly is. That bites where a shift is small for the errors:
/// half a standard deviation of an AR(1) 0.5 moves its errors by 0.29, and with 1,200 samples learned from it is found
/// late at a run length of 1,000 and mostly never at 100,000. A level that wanders without end has no baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline(Kind);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Kind {
    Known { mean: f64, deviation: f64 },
    Learned(Box<Learned>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Learned {
    options: BaselineOptions,
    /// The first samples; empty once learned from. Without NaN, but with their places.
    first: Vec<(u64, f64)>,
    /// Samples seen, missing ones included: where in the season we are.
    seen: u64,
    /// In what unit the regression works, so that numbers stay near 1.
    centre: f64,
    unit: f64,
    /// 1, the last values, the season's terms.
    inputs: Vec<f64>,
    weights: Vec<f64>,
    /// Inverse of the inputs' moments, row by row; and its product with the inputs.
    inverse: Vec<f64>,
    product: Vec<f64>,
    /// Sums over the errors: their number, squares and absolute values.
    count: f64,
    squares: f64,
    absolutes: f64,
    until_tails: u32,
    /// Degrees of freedom of the errors; none for normal ones.
    freedom: Option<f64>,
    /// Mean absolute value of Student-t with as many.
    mean_absolute: f64,
}

/// Mean absolute value over standard deviation of the normal distribution, and the standard deviation of its estimate
/// times the square root of the number of samples.
const GEARY: (f64, f64) = (0.797_884_560_802_865_4, 0.2123);

/// How often the tails are looked at again.
const TAILS_EVERY: u32 = 32;

/// No error counts for more than this many standard deviations in what is learned.
const FARTHEST: f64 = 10.0;

impl Baseline {
    /// For a process whose mean and standard deviation are known and whose values are independent and normal.
    #[must_use]
    pub fn known(mean: f64, deviation: f64) -> Self {
        Self(Kind::Known { mean, deviation })
    }

    /// For one to be learned. Options out of their range are brought into it; [`BaselineOptions::validate`] tells which.
    #[must_use]
    pub fn learned(options: &BaselineOptions) -> Self {
        Self(Kind::Learned(Box::new(Learned::new(options))))
    }

    /// The normal score of one sample, judged by those before it, from which this one is then learned. None while
    /// warming up and for NaN, which stands for a missing sample.
    ///
    /// Cost: some 45 ns at order 1, 110 with a season of two harmonics; it grows with the square of the number of terms
    /// (1, the order, twice the harmonics). The end of the warm-up sorts its samples once.
    pub fn score(&mut self, value: f64) -> Option<f64> {
        match &mut self.0 {
            Kind::Known { mean, deviation } => {
                let z = (value - *mean) / *deviation;
                (!z.is_nan()).then_some(z)
            }
            Kind::Learned(learned) => learned.score(value),
        }
    }

    /// How many more samples it takes until the first is judged.
    #[must_use]
    pub fn warming_up_for(&self) -> u32 {
        match &self.0 {
            Kind::Known { .. } => 0,
            Kind::Learned(learned) if learned.count > 0.0 => 0,
            Kind::Learned(learned) => learned
                .options
                .warm_up
                .saturating_sub(u32::try_from(learned.first.len()).unwrap_or(0)),
        }
    }

    /// Forgets what was learned and starts again with the warm-up.
    pub fn restart(&mut self) {
        if let Kind::Learned(learned) = &mut self.0 {
            let seen = learned.seen;
            **learned = Learned::new(&learned.options);
            learned.seen = seen;
        }
    }
}

impl Learned {
    fn new(options: &BaselineOptions) -> Self {
        let mut options = options.clone();
        options.warm_up = options.warm_up.clamp(30, 100_000);
        options.memory = options.memory.max(options.warm_up);
        options.order = options.order.min(4);
        options.harmonics = options.harmonics.clamp(1, 4);
        options.clip = if options.clip.is_nan() {
            5.0
        } else {
            options.clip.clamp(3.0, 10.0)
        };
        options.period = options.period.filter(|period| *period >= 2.0);
        let season = options.period.map_or(0, |_| 2 * usize::from(options.harmonics));
        let terms = 1 + usize::from(options.order) + season;
        Self {
            options,
            first: Vec::new(),
            seen: 0,
            centre: 0.0,
            unit: 1.0,
            inputs: vec![0.0; terms],
            weights: vec![0.0; terms],
            inverse: vec![0.0; terms * terms],
            product: vec![0.0; terms],
            count: 0.0,
            squares: 0.0,
            absolutes: 0.0,
            until_tails: TAILS_EVERY,
            freedom: None,
            mean_absolute: GEARY.0,
        }
    }

    fn score(&mut self, value: f64) -> Option<f64> {
        let at = self.seen;
        self.seen = self.seen.wrapping_add(1);
        if value.is_nan() {
            if self.count > 0.0 {
                // the best guess stands in for the value that the next ones depend on
                self.set_season(at);
                let guess = self.expected();
                self.remember(guess);
            }
            return None;
        }
        if self.count == 0.0 {
            self.first.push((at, value.clamp(-1e300, 1e300)));
            if self.first.len() >= self.options.warm_up as usize {
                self.begin();
            }
            return None;
        }
        let z = self.step(at, (value - self.centre) / self.unit);
        Some(z.clamp(-self.options.clip, self.options.clip))
    }

    /// Learns from the first samples: once as if errors were normal, and again if they turn out heavy-tailed.
    fn begin(&mut self) {
        let first = std::mem::take(&mut self.first);
        let mut sorted: Vec<f64> = first.iter().map(|(_, value)| *value).collect();
        self.centre = median(&mut sorted);
        let mut distances: Vec<f64> = first.iter().map(|(_, value)| (value - self.centre).abs()).collect();
        let mean = distances.iter().map(|d| d / distances.len() as f64).sum::<f64>();
        let middle = 1.4826 * median(&mut distances);
        // a series that hardly ever moves has no median distance; one that never did gets a unit of next to nothing
        let least = f64::MIN_POSITIVE.max(1e-12 * self.centre.abs());
        self.unit = if middle > 0.0 { middle } else { mean }.max(least);
        for _ in 0..2 {
            self.forget_fit();
            for &(at, value) in &first {
                self.step(at, ((value - self.centre) / self.unit).clamp(-FARTHEST, FARTHEST));
            }
            self.look_at_tails();
            if self.freedom.is_none() {
                break;
            }
        }
    }

    fn forget_fit(&mut self) {
        let terms = self.weights.len();
        self.weights.fill(0.0);
        self.inputs.fill(0.0);
        self.inverse.fill(0.0);
        for term in 0..terms {
            // next to no knowledge, in the unit of the values
            self.inverse[term * terms + term] = 1_000.0;
        }
        // the first errors belong to the fit
        self.count = -(terms as f64);
        self.squares = 0.0;
        self.absolutes = 0.0;
    }

    fn set_season(&mut self, at: u64) {
        self.inputs[0] = 1.0;
        let Some(period) = self.options.period else { return };
        #[allow(clippy::cast_precision_loss)] // a sample count is far below 2^53
        let angle = std::f64::consts::TAU * ((at as f64 / period).fract());
        let (sine, cosine) = angle.sin_cos();
        let (mut s, mut c) = (sine, cosine);
        for pair in self.inputs[1 + usize::from(self.options.order)..].chunks_exact_mut(2) {
            pair.copy_from_slice(&[s, c]);
            (s, c) = (s * cosine + c * sine, c * cosine - s * sine);
        }
    }

    fn expected(&self) -> f64 {
        self.inputs.iter().zip(&self.weights).map(|(x, w)| x * w).sum()
    }

    fn remember(&mut self, value: f64) {
        let order = usize::from(self.options.order);
        if order > 0 {
            self.inputs.copy_within(1..order, 2);
            self.inputs[1] = value;
        }
    }

    /// Judges one value by what is known, then learns from it.
    fn step(&mut self, at: u64, value: f64) -> f64 {
        let value = value.clamp(-1e6, 1e6);
        self.set_season(at);
        let terms = self.weights.len();
        let mut leverage = 0.0;
        for (i, product) in self.product.iter_mut().enumerate() {
            let row = &self.inverse[i * terms..(i + 1) * terms];
            *product = row.iter().zip(&self.inputs).map(|(p, x)| p * x).sum();
            leverage += *product * self.inputs[i];
        }
        let leverage = leverage.max(0.0);
        let error = value - self.expected();
        let standard = error / (1.0 + leverage).sqrt();
        let mut weight = 1.0;
        let mut z = 0.0;
        self.count += 1.0;
        if self.count > 1.0 {
            let known = self.count - 1.0;
            if let Some(freedom) = self.freedom {
                let t = standard / (self.absolutes / known / self.mean_absolute).max(1e-9);
                z = normal_score(t, freedom);
                weight = (freedom + 1.0) / (freedom + t * t);
            } else {
                let t = standard / (self.squares / known).sqrt().max(1e-9);
                z = normal_score(t, known);
                weight = (FARTHEST / t.abs()).min(1.0);
            }
        }
        self.learn(error, standard, leverage, weight);
        self.remember(value);
        z
    }

    fn learn(&mut self, error: f64, standard: f64, leverage: f64, weight: f64) {
        let terms = self.weights.len();
        let full = self.count >= f64::from(self.options.memory);
        let fade = if full {
            1.0 - 1.0 / f64::from(self.options.memory)
        } else {
            1.0
        };
        // directions in which nothing comes in would grow without end
        let bounded = self.inverse.iter().step_by(terms + 1).all(|p| *p < 1e3);
        let grow = if bounded { 1.0 / fade } else { 1.0 };
        let gain = 1.0 / (1.0 / weight + leverage);
        for i in 0..terms {
            self.weights[i] += gain * self.product[i] * error;
            for j in 0..=i {
                let entry = (self.inverse[i * terms + j] - gain * self.product[i] * self.product[j]) * grow;
                self.inverse[i * terms + j] = entry;
                self.inverse[j * terms + i] = entry;
            }
        }
        if self.count <= 0.0 {
            return;
        }
        let bound = if self.count > 30.0 {
            FARTHEST * (self.squares / self.count).sqrt().max(1e-9)
        } else {
            f64::MAX
        };
        let size = standard.abs().min(bound);
        self.squares = fade * self.squares + size * size;
        self.absolutes = fade * self.absolutes + size;
        if full {
            self.count = f64::from(self.options.memory) - 1.0 / f64::from(self.options.memory);
        }
        self.until_tails -= 1;
        if self.until_tails == 0 {
            self.look_at_tails();
        }
    }

    fn look_at_tails(&mut self) {
        self.until_tails = TAILS_EVERY;
        if !self.options.heavy_tails || self.count < 30.0 || self.squares <= 0.0 {
            return;
        }
        let ratio = self.absolutes / self.count / (self.squares / self.count).sqrt();
        let excess = (GEARY.0 - ratio) * self.count.sqrt() / GEARY.1;
        // once heavy, a little less evidence keeps it so
        let enough = if self.freedom.is_some() { 2.0 } else { 3.0 };
        self.freedom = (excess > enough).then(|| freedom_of(ratio));
        self.mean_absolute = self.freedom.map_or(GEARY.0, mean_absolute);
    }
}

/// The middle value; of an even number, the upper of the two.
fn median(values: &mut [f64]) -> f64 {
    let middle = values.len() / 2;
    if values.is_empty() {
        0.0
    } else {
        *values.select_nth_unstable_by(middle, f64::total_cmp).1
    }
}

/// The standard normal quantile at the probability of a Student-t value, to within 0.04 from three degrees of freedom up
/// (Wallace, Annals of Mathematical Statistics 1959).
fn normal_score(t: f64, freedom: f64) -> f64 {
    let size = (8.0 * freedom + 1.0) / (8.0 * freedom + 3.0) * (freedom * (t * t / freedom).ln_1p()).sqrt();
    size.copysign(t)
}

/// Mean absolute value of Student-t.
fn mean_absolute(freedom: f64) -> f64 {
    let gammas = ln_gamma(0.5 * (freedom + 1.0)) - ln_gamma(0.5 * freedom);
    2.0 * (freedom / std::f64::consts::PI).sqrt() * gammas.exp() / (freedom - 1.0)
}

/// The degrees of freedom whose Student-t has this ratio of mean absolute value to standard deviation, within 2.5 and 200.
fn freedom_of(ratio: f64) -> f64 {
    // the ratio rises with the degrees of freedom; their inverse is what it's smooth in
    let (mut low, mut high) = (1.0 / 200.0, 1.0 / 2.5);
    for _ in 0..20 {
        let middle: f64 = 0.5 * (low + high);
        let freedom = 1.0 / middle;
        let deviation = (freedom / (freedom - 2.0)).sqrt();
        if mean_absolute(freedom) / deviation > ratio {
            low = middle
        } else {
            high = middle
        }
    }
    2.0 / (low + high)
}

#[cfg(test)]
mod tests {
    use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

    use super::*;
    use crate::drift::random::Random;

    /// Mean, variance and lag-one correlation of the scores of a series.
    fn moments(options: &BaselineOptions, samples: usize, mut next: impl FnMut() -> f64) -> [f64; 3] {
        let mut baseline = Baseline::learned(options);
        let scores: Vec<f64> = (0..samples).filter_map(|_| baseline.score(next())).collect();
        let n = scores.len() as f64;
        let mean = scores.iter().sum::<f64>() / n;
        let variance = scores.iter().map(|z| (z - mean).powi(2)).sum::<f64>() / n;
        let lag = scores.windows(2).map(|w| (w[0] - mean) * (w[1] - mean)).sum::<f64>() / n / variance;
        [mean, variance, lag]
    }

    fn assert_white([mean, variance, lag]: [f64; 3]) {
        assert!(
            mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05 && lag.abs() < 0.03,
            "{mean} {variance} {lag}"
        );
    }

    #[test]
    fn scores_of_any_level_spread_memory_and_tail_are_standard_normal() {
        let mut random = Random::new(3);
        let options = BaselineOptions::default();
        assert_white(moments(&options, 20_000, || 1e6 + 1e-3 * random.normal()));
        for memory in [0.5, 0.8, -0.4] {
            let mut value = 0.0;
            let series = || {
                value = memory * value + random.normal();
                40.0 + 3.0 * value
            };
            assert_white(moments(&options, 20_000, series));
        }
        let student = |random: &mut Random| {
            let normal = random.normal();
            let chi: f64 = (0..5).map(|_| random.normal().powi(2)).sum();
            normal / (chi / 5.0).sqrt()
        };
        assert_white(moments(&options, 20_000, || student(&mut random)));
        let season = BaselineOptions {
            period: Some(288.0),
            warm_up: 600,
            ..options
        };
        let mut at = 0.0;
        let series = || {
            at += 1.0;
            5.0 * f64::sin(std::f64::consts::TAU * at / 288.0) + random.normal()
        };
        assert_white(moments(&season, 20_000, series));
    }

    #[test]
    fn normal_scores_are_close_to_the_exact_ones() {
        let normal = Normal::new(0.0, 1.0).unwrap();
        for freedom in [3.0, 5.0, 10.0, 50.0, 1000.0] {
            let student = StudentsT::new(0.0, 1.0, freedom).unwrap();
            for t in [-4.0, -2.0, -0.5, 0.1, 1.0, 3.0, 6.0] {
                let exact = normal.inverse_cdf(student.cdf(t));
                assert!(
                    exact.abs() > 4.5 || (normal_score(t, freedom) - exact).abs() < 0.04,
                    "{freedom} {t} {exact}"
                );
            }
            assert!(
                (freedom_of(mean_absolute(freedom) / (freedom / (freedom - 2.0)).sqrt()) / freedom)
                    .ln()
                    .abs()
                    < 1.7
            );
        }
        assert!((freedom_of(mean_absolute(5.0) / (5.0_f64 / 3.0).sqrt()) - 5.0).abs() < 0.01);
    }

    #[test]
    fn no_input_breaks_it() {
        let options = BaselineOptions {
            warm_up: 30,
            order: 4,
            period: Some(24.0),
            harmonics: 4,
            ..Default::default()
        };
        for series in [
            vec![5.0; 500],
            vec![0.0; 500],
            [vec![1e300; 200], vec![-1e300; 200], vec![1e-300; 200]].concat(),
            (0..500)
                .map(|i| if i % 3 == 0 { f64::NAN } else { f64::from(i) })
                .collect(),
            (0..500)
                .map(|i| if i % 50 == 49 { f64::INFINITY } else { 1.0 })
                .collect(),
        ] {
            let mut baseline = Baseline::learned(&options);
            for value in series {
                assert!(baseline.score(value).is_none_or(|z| z.abs() <= options.clip), "{value}");
            }
        }
        let mut constant = Baseline::learned(&BaselineOptions::default());
        assert!((0..1000).filter_map(|_| constant.score(7.0)).all(|z| z.abs() < 1e-6));
        assert_eq!(constant.score(7.1), Some(5.0));
    }

    #[test]
    fn options_out_of_range_are_told() {
        let options = BaselineOptions {
            warm_up: 1,
            order: 9,
            period: Some(1.0),
            clip: f64::NAN,
            ..Default::default()
        };
        let paths: Vec<String> = options.validate().into_iter().map(|problem| problem.path).collect();
        assert_eq!(paths, ["warm_up", "order", "clip", "period"]);
        assert_eq!(BaselineOptions::default().validate(), []);
    }
}
