//! One service as it runs: its instances, what ails it, and the numbers of one step.

use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use suture_event::{Labels, Timestamp, stable_hash};

use crate::graph::Spec;

/// Metrics of an instance, in the order of their samples.
pub(crate) const METRICS: [&str; 9] = [
    "requests_per_second",
    "latency_p50_seconds",
    "latency_p99_seconds",
    "error_ratio",
    "cpu_ratio",
    "memory_ratio",
    "disk_used_ratio",
    "network_bytes_per_second",
    "pool_in_use",
];

/// Spread of each metric's noise: a share of the value for all but errors, whose noise is that of counting.
const SPREAD: [f64; 9] = [0.04, 0.05, 0.10, 1.0, 0.06, 0.008, 0.002, 0.05, 0.08];
/// Decimal places kept, which is what an exporter would write.
const PLACES: [f64; 9] = [1e3, 1e6, 1e6, 1e6, 1e5, 1e5, 1e5, 1.0, 1e2];
/// Time in which noise forgets itself, seconds.
const MEMORY: f64 = 45.0;

/// Noise that remembers a little: a first-order autoregression with unit variance.
#[derive(Debug, Clone, Default)]
pub(crate) struct Noise(f64);

impl Noise {
    pub(crate) fn next(&mut self, rng: &mut ChaCha8Rng, step: f64, memory: f64) -> f64 {
        let keep = (-step / memory).exp();
        let fresh: f64 = rng.sample(StandardNormal);
        self.0 = keep * self.0 + (1.0 - keep * keep).sqrt() * fresh;
        self.0
    }
}

/// One running instance.
#[derive(Debug, Clone)]
pub(crate) struct Instance {
    pub(crate) labels: Labels,
    rng: ChaCha8Rng,
    noise: [Noise; 9],
    /// How fast this one leaks beside the others.
    pub(crate) leakiness: f64,
    /// Share of memory lost to a leak.
    pub(crate) leaked: f64,
    /// Killed for want of memory, and starting again until then.
    pub(crate) down_until: Option<Timestamp>,
}

impl Instance {
    pub(crate) fn new(seed: u64, service: &str, pod: &str, environment: &str) -> Self {
        let own = stable_hash([&seed.to_le_bytes()[..], service.as_bytes(), pod.as_bytes()]);
        let mut rng = ChaCha8Rng::seed_from_u64(own);
        // three fixed names can't repeat each other
        let labels =
            Labels::new([("service", service), ("pod", pod), ("environment", environment)]).unwrap_or_default();
        let leakiness = rng.random_range(0.85..1.15);
        let mut noise: [Noise; 9] = Default::default();
        for one in &mut noise {
            one.0 = rng.sample(StandardNormal);
        }
        Self {
            labels,
            rng,
            noise,
            leakiness,
            leaked: 0.0,
            down_until: None,
        }
    }

    pub(crate) fn is_up(&self, at: Timestamp) -> bool {
        self.down_until.is_none_or(|until| at >= until)
    }

    /// Values of all metrics in the order of [`METRICS`], with noise. The same number of draws whatever happens, so that a
    /// fault or an action changes nothing but what it touches.
    pub(crate) fn measure(&mut self, load: &Load, up: usize, step: f64) -> [f64; 9] {
        let share = load.rate / up.max(1) as f64;
        let exact = [
            share,
            load.p50,
            load.p99,
            load.errors,
            load.cpu,
            load.memory + self.leaked,
            load.disk,
            share * load.bytes,
            load.pool,
        ];
        let mut out = [0.0; 9];
        let noises = SPREAD.iter().zip(&PLACES).zip(&mut self.noise);
        for (index, ((value, out), ((spread, places), noise))) in exact.iter().zip(&mut out).zip(noises).enumerate() {
            let z = noise.next(&mut self.rng, step, MEMORY);
            let noisy = if index == 3 {
                let counted = (share * step).max(1.0);
                (value + z * (value * (1.0 - value) / counted).max(0.0).sqrt()).clamp(0.0, 1.0)
            } else {
                value * (z * spread).exp()
            };
            let bounded = if matches!(index, 4..=6) { noisy.min(1.0) } else { noisy };
            *out = (bounded * places).round() / places;
        }
        out
    }
}

/// What ails a service in one step, gathered from its faults, deploys and actions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ailment {
    pub(crate) errors: f64,
    pub(crate) cpu: f64,
    pub(crate) latency: f64,
    /// Share of the pool's connections that are never given back.
    pub(crate) pool: f64,
    pub(crate) wait: f64,
    pub(crate) gave_up: f64,
    /// Share of the disk taken beyond the ordinary.
    pub(crate) disk: f64,
    pub(crate) tail: f64,
}

impl Default for Ailment {
    fn default() -> Self {
        Self {
            errors: 0.0,
            cpu: 1.0,
            latency: 1.0,
            pool: 0.0,
            wait: 0.0,
            gave_up: 0.0,
            disk: 0.0,
            tail: 1.0,
        }
    }
}

/// The exact numbers of one service in one step, before noise.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Load {
    /// Requests a second over all instances.
    pub(crate) rate: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) errors: f64,
    pub(crate) cpu: f64,
    pub(crate) memory: f64,
    pub(crate) disk: f64,
    pub(crate) bytes: f64,
    pub(crate) pool: f64,
}

/// Own part of a service in one step: what it would do if everything it calls were instant and sound.
///
/// `rate` is the requests a second, `nominal` that at the busiest time of an ordinary day, `capacity` the running instances
/// as a share of those it began with, `pressure` the share of memory in use by the fullest instance.
pub(crate) fn own(spec: &Spec, ails: &Ailment, rate: f64, nominal: f64, capacity: f64, pressure: f64) -> Load {
    let busy = rate / nominal.max(1e-9);
    let garbage = (pressure - 0.88).max(0.0);
    let wanted = spec.peak_cpu * busy * ails.cpu / capacity.max(0.05) + 0.03 + garbage * 1.5;
    let used = wanted.clamp(0.0, 1.0);
    // waiting for a processor grows as in a queue with one server, held where requests would be dropped instead
    let queue = 1.0 / (1.0 - wanted.min(0.95));
    let disk = (spec.disk + ails.disk).min(1.0);
    let full = ((disk - 0.965) / 0.035).clamp(0.0, 1.0);
    let slow = ails.latency * (1.0 + garbage * 6.0) * (1.0 + full * 1.5);
    let mut p50 = spec.base_latency * (0.62 + 0.38 * queue) * slow + spec.base_latency * ails.wait;
    let mut p99 = p50 * 3.2 * (0.75 + 0.25 * queue) * ails.tail;
    let mut errors =
        spec.base_errors + ails.errors + ails.gave_up + full * 0.3 + ((wanted - 1.0).max(0.0) * 0.8).min(0.5);
    let mut pool = 0.0;
    if let Some(size) = spec.pool {
        // 0.4 of the pool at the busiest time; connections are held while processors are waited for, too
        let demand = 0.4 * busy * (0.8 + 0.2 * queue) / capacity.max(0.05) + ails.pool;
        pool = size * demand.min(1.0);
        let wait = (demand - 0.9).clamp(0.0, 1.5);
        p50 += spec.base_latency * wait * 8.0;
        p99 += spec.base_latency * wait * 40.0;
        errors += (1.0 - 1.0 / demand.max(1.0)) * 0.35;
    }
    Load {
        rate,
        p50,
        p99,
        errors: errors.clamp(0.0, 0.98),
        cpu: used,
        memory: spec.memory * (0.94 + 0.06 * busy),
        disk,
        bytes: spec.bytes,
        pool,
    }
}

/// A service as it runs.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) spec: Spec,
    pub(crate) nominal: f64,
    pub(crate) instances: Vec<Instance>,
    /// Counts the times its instances were replaced.
    pub(crate) generation: u64,
    /// A new version warms up until then.
    pub(crate) warming_until: Option<Timestamp>,
    /// Instances start anew, one after the other, until then.
    pub(crate) rolling_until: Option<Timestamp>,
    pub(crate) environment: Arc<str>,
}

impl Service {
    pub(crate) fn new(spec: Spec, nominal: f64, instances: usize, seed: u64, environment: &Arc<str>) -> Self {
        let mut service = Self {
            spec,
            nominal,
            instances: Vec::new(),
            generation: 0,
            warming_until: None,
            rolling_until: None,
            environment: environment.clone(),
        };
        for _ in 0..instances {
            service.grow(seed, false);
        }
        service
    }

    /// One instance more.
    pub(crate) fn grow(&mut self, seed: u64, churn: bool) {
        let pod = self.pod_name(self.instances.len(), churn);
        self.instances
            .push(Instance::new(seed, &self.spec.name, &pod, &self.environment));
    }

    /// Every instance starts anew: leaks are gone, and where names churn so are the names.
    pub(crate) fn replace(&mut self, seed: u64, churn: bool) {
        self.generation += 1;
        for index in 0..self.instances.len() {
            let pod = self.pod_name(index, churn);
            if churn {
                self.instances[index] = Instance::new(seed, &self.spec.name, &pod, &self.environment);
            } else {
                self.instances[index].leaked = 0.0;
                self.instances[index].down_until = None;
            }
        }
    }

    fn pod_name(&self, index: usize, churn: bool) -> String {
        if churn {
            let hash = stable_hash([self.spec.name.as_bytes(), &self.generation.to_le_bytes()[..]]) & 0xff_ffff;
            format!("{}-{hash:06x}-{index}", self.spec.name)
        } else {
            format!("{}-{index}", self.spec.name)
        }
    }

    pub(crate) fn up(&self, at: Timestamp) -> usize {
        self.instances.iter().filter(|i| i.is_up(at)).count()
    }

    pub(crate) fn is_rolling(&self, at: Timestamp) -> bool {
        self.rolling_until.is_some_and(|until| at < until)
    }

    pub(crate) fn is_warming(&self, at: Timestamp) -> bool {
        self.warming_until.is_some_and(|until| at < until)
    }
}
