//! When what is deployed and what breaks, drawn before the first step.

use std::sync::Arc;

use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use suture_event::{Span, Timestamp, hex16};

use crate::{Fault, FaultKind, Options, graph::Graph};

/// One deploy of a new version.
#[derive(Debug, Clone)]
pub(crate) struct Deploy {
    pub(crate) id: Arc<str>,
    pub(crate) at: Timestamp,
    pub(crate) service: usize,
    pub(crate) artifact: String,
}

/// How a fault shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Effect {
    /// Share of requests that fail.
    Errors(f64),
    /// Processor time for a request, as a multiple.
    Cpu(f64),
    /// Own time for a request, as a multiple.
    Latency(f64),
    /// Share of memory that leaks a second.
    Leak(f64),
    /// Share of the pool's connections that are never given back, in the end.
    Pool(f64),
    /// Time to wait for a provider, as a multiple of the own time; share of requests that give up waiting.
    Wait(f64, f64),
    /// Share of the disk that fills a second.
    Disk(f64),
}

#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) faults: Vec<Fault>,
    /// Service and effect of each fault.
    pub(crate) effects: Vec<(usize, Effect)>,
    /// By time.
    pub(crate) deploys: Vec<Deploy>,
    /// When nothing planned is left.
    pub(crate) end: Timestamp,
}

/// How long before and after a fault its service gets no other deploy, which would mend it or share the blame.
const QUIET: Span = Span::from_mins(60);

impl Plan {
    pub(crate) fn new(options: &Options, graph: &Graph) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(options.seed ^ 0x706c_616e);
        let first = options.start.plus(options.warmup);
        let every = options.fault_every.as_millis();
        let mut faults: Vec<Fault> = Vec::with_capacity(options.faults);
        let mut effects = Vec::with_capacity(options.faults);
        let mut deploys = Vec::new();
        let mut round: Vec<FaultKind> = Vec::new();
        for (index, slot) in (0_i64..).take(options.faults).enumerate() {
            if round.is_empty() {
                round.clone_from(&options.kinds);
                let keep = usize::from(index == 0).min(round.len());
                round[keep..].shuffle(&mut rng);
                round.reverse();
            }
            let Some(kind) = round.pop() else { break };
            let taken: Vec<usize> = effects.iter().rev().take(3).map(|(service, _)| *service).collect();
            let service = pick_service(kind, graph, &taken, &mut rng);
            let jitter = rng.random_range(0..every / 4);
            let start = first.plus(Span::from_millis(300_000 + slot * every + jitter));
            let brought = match kind {
                FaultKind::BadDeploy => true,
                FaultKind::MemoryLeak => rng.random_bool(0.5),
                _ => false,
            };
            let change = brought.then(|| {
                let before = Span::from_secs(rng.random_range(20..60));
                push_deploy(&mut deploys, start.minus(before), service, graph, &mut rng)
            });
            effects.push((service, draw_effect(kind, &mut rng)));
            let name = graph.services[service].name.clone();
            faults.push(Fault {
                id: index,
                kind,
                service: name,
                start,
                change,
                healed_at: None,
                healed_by: None,
            });
        }
        let end = faults.last().map_or(first, |last| last.start.plus(options.fault_every));
        let quiet: Vec<(usize, Timestamp)> = faults.iter().zip(&effects).map(|(f, (s, _))| (*s, f.start)).collect();
        let near = |service: usize, at: Timestamp| {
            let mend = options.fault_lasts.unwrap_or(Span::ZERO);
            quiet
                .iter()
                .any(|(s, start)| *s == service && at >= start.minus(QUIET) && at <= start.plus(QUIET).plus(mend))
        };
        for (_, start) in &quiet {
            for _ in 0..options.decoys {
                let service = rng.random_range(0..graph.services.len());
                let at = start.plus(Span::from_secs(rng.random_range(-600..600)));
                if at > options.start && !near(service, at) {
                    push_deploy(&mut deploys, at, service, graph, &mut rng);
                }
            }
        }
        let days = end.since(options.start).as_secs_f64() / 86_400.0;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        // within 0..=1000 a day, by the options' bounds
        let good = (days * options.deploys_per_day).round() as usize;
        for _ in 0..good {
            let service = rng.random_range(0..graph.services.len());
            let at = options.start.plus(Span::from_millis(
                rng.random_range(1..=end.since(options.start).as_millis()),
            ));
            if !near(service, at) {
                push_deploy(&mut deploys, at, service, graph, &mut rng);
            }
        }
        deploys.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
        Self {
            faults,
            effects,
            deploys,
            end,
        }
    }
}

/// A service that such a fault fits, other than those just taken where there is one.
fn pick_service(kind: FaultKind, graph: &Graph, taken: &[usize], rng: &mut ChaCha8Rng) -> usize {
    let fits = |index: usize| {
        let spec = &graph.services[index];
        match kind {
            FaultKind::BadDeploy | FaultKind::MemoryLeak => true,
            FaultKind::SaturatedPool => spec.pool.is_some(),
            FaultKind::SlowDependency => spec.provider && graph.is_leaf(index),
            FaultKind::FullDisk => spec.stateful,
        }
    };
    let all: Vec<usize> = (0..graph.services.len()).filter(|i| fits(*i)).collect();
    let free: Vec<usize> = all.iter().copied().filter(|i| !taken.contains(i)).collect();
    let from = if free.is_empty() { all } else { free };
    // a shop too small to have the right service breaks at its last one
    if from.is_empty() {
        graph.services.len() - 1
    } else {
        from[rng.random_range(0..from.len())]
    }
}

fn draw_effect(kind: FaultKind, rng: &mut ChaCha8Rng) -> Effect {
    match kind {
        FaultKind::BadDeploy => match rng.random_range(0..3) {
            0 => Effect::Errors(rng.random_range(0.12..0.35)),
            1 => Effect::Cpu(rng.random_range(1.8..2.4)),
            _ => Effect::Latency(rng.random_range(2.5..5.0)),
        },
        // from half full to the limit in 12 to 25 minutes
        FaultKind::MemoryLeak => Effect::Leak(0.5 / rng.random_range(720.0..1_500.0)),
        FaultKind::SaturatedPool => Effect::Pool(rng.random_range(1.0..1.4)),
        FaultKind::SlowDependency => Effect::Wait(rng.random_range(6.0..14.0), rng.random_range(0.03..0.08)),
        FaultKind::FullDisk => Effect::Disk(0.6 / rng.random_range(480.0..900.0)),
    }
}

fn push_deploy(
    deploys: &mut Vec<Deploy>,
    at: Timestamp,
    service: usize,
    graph: &Graph,
    rng: &mut ChaCha8Rng,
) -> Arc<str> {
    let id: Arc<str> = format!("deploy-{}", hex16(rng.random())).into();
    let digest: String = (0..4).map(|_| hex16(rng.random())).collect();
    let artifact = format!("pkg:oci/{}@sha256%3A{digest}", graph.services[service].name);
    deploys.push(Deploy {
        id: id.clone(),
        at,
        service,
        artifact,
    });
    id
}
