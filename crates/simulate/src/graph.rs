//! The services and who calls whom.

use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a service is by nature, before anything happens to it.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) name: Arc<str>,
    /// Own time for a request at low load, seconds.
    pub(crate) base_latency: f64,
    /// Share of a processor in use at the busiest time of an ordinary day.
    pub(crate) peak_cpu: f64,
    /// Share of the memory in use after a start.
    pub(crate) memory: f64,
    /// Share of the disk in use.
    pub(crate) disk: f64,
    /// Keeps data on its own disk.
    pub(crate) stateful: bool,
    /// Has a pool of connections to a database, of this size.
    pub(crate) pool: Option<f64>,
    /// Waits for a provider outside, or for a store of its own.
    pub(crate) provider: bool,
    /// Bytes on the network for a request.
    pub(crate) bytes: f64,
    /// Share of requests that fail on an ordinary day.
    pub(crate) base_errors: f64,
}

/// One edge: the caller's index is always the smaller one, so the services stand in topological order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// Calls made for one request of the caller.
    pub(crate) calls: f64,
    /// Share of the callee's failures that fail the caller's request.
    pub(crate) critical: f64,
}

#[derive(Debug, Clone)]
pub(crate) struct Graph {
    pub(crate) services: Vec<Spec>,
    pub(crate) calls: Vec<Call>,
}

/// Name, base latency in ms, peak cpu, memory, disk, stateful, pool, provider.
type Row = (&'static str, f64, f64, f64, f64, bool, Option<f64>, bool);

const SHOP: [Row; 10] = [
    ("frontend", 12.0, 0.50, 0.46, 0.30, false, None, false),
    ("checkout", 15.0, 0.38, 0.42, 0.28, false, Some(40.0), false),
    ("recommendation", 18.0, 0.48, 0.55, 0.34, false, None, false),
    ("cart", 6.0, 0.42, 0.50, 0.45, true, Some(60.0), false),
    ("catalog", 8.0, 0.52, 0.52, 0.50, true, Some(80.0), false),
    ("payment", 45.0, 0.30, 0.38, 0.35, false, Some(30.0), true),
    ("shipping", 22.0, 0.28, 0.36, 0.26, false, None, true),
    ("currency", 3.0, 0.45, 0.30, 0.24, false, None, false),
    ("ads", 9.0, 0.35, 0.44, 0.30, false, None, false),
    ("users-db", 5.0, 0.40, 0.60, 0.55, true, Some(100.0), true),
];

/// Caller, callee, calls a request, share of failures that count.
const SHOP_CALLS: [(usize, usize, f64, f64); 15] = [
    (0, 1, 0.12, 0.9),
    (0, 2, 0.55, 0.15),
    (0, 3, 0.60, 0.8),
    (0, 4, 0.90, 0.9),
    (0, 6, 0.20, 0.5),
    (0, 7, 0.80, 0.4),
    (0, 8, 0.60, 0.05),
    (0, 9, 0.30, 0.6),
    (1, 3, 1.00, 0.9),
    (1, 4, 0.80, 0.8),
    (1, 5, 1.00, 1.0),
    (1, 6, 1.00, 0.8),
    (1, 7, 1.20, 0.7),
    (2, 4, 0.70, 0.7),
    (3, 9, 0.40, 0.7),
];

impl Graph {
    /// The shop with as many services as asked for.
    pub(crate) fn new(services: usize, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x6772_6170_6800);
        let mut specs: Vec<Spec> = SHOP.iter().take(services).map(spec).collect();
        let mut calls: Vec<Call> = SHOP_CALLS
            .iter()
            .filter(|(from, to, ..)| *from < services && *to < services)
            .map(|&(from, to, calls, critical)| Call {
                from,
                to,
                calls,
                critical,
            })
            .collect();
        // further services hang below a few earlier ones, in trees of little depth
        for index in SHOP.len()..services {
            let stateful = rng.random_bool(0.25);
            specs.push(Spec {
                name: format!("service-{index:03}").into(),
                base_latency: rng.random_range(0.003..0.03),
                peak_cpu: rng.random_range(0.25..0.55),
                memory: rng.random_range(0.3..0.6),
                disk: rng.random_range(0.2..0.55),
                stateful,
                pool: rng.random_bool(0.4).then(|| f64::from(rng.random_range(20..100_u32))),
                provider: rng.random_bool(0.25),
                bytes: rng.random_range(2_000.0..30_000.0),
                base_errors: rng.random_range(0.0005..0.003),
            });
            let parents = rng.random_range(1..=2_usize);
            let mut chosen = Vec::new();
            for _ in 0..parents {
                let parent = rng.random_range(0..SHOP.len().max(index / 5));
                if !chosen.contains(&parent) {
                    chosen.push(parent);
                    let calls_each = rng.random_range(0.2..0.6);
                    calls.push(Call {
                        from: parent,
                        to: index,
                        calls: calls_each,
                        critical: rng.random_range(0.1..0.8),
                    });
                }
            }
        }
        calls.sort_by_key(|c| (c.from, c.to));
        Self { services: specs, calls }
    }

    /// Requests a second at each service while `front` arrive at the first, and nothing is broken.
    pub(crate) fn nominal(&self, front: f64) -> Vec<f64> {
        let mut rates = vec![0.0; self.services.len()];
        if let Some(first) = rates.first_mut() {
            *first = front;
        }
        for call in &self.calls {
            rates[call.to] += rates[call.from] * call.calls;
        }
        rates
    }

    /// Whether a service calls no other.
    pub(crate) fn is_leaf(&self, service: usize) -> bool {
        self.calls.iter().all(|c| c.from != service)
    }
}

fn spec(row: &Row) -> Spec {
    let &(name, millis, peak_cpu, memory, disk, stateful, pool, provider) = row;
    Spec {
        name: name.into(),
        base_latency: millis / 1_000.0,
        peak_cpu,
        memory,
        disk,
        stateful,
        pool,
        provider,
        bytes: 4_000.0 + millis * 600.0,
        base_errors: 0.0015,
    }
}
