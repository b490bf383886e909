//! The shop, step by step.

use std::{collections::BTreeMap, sync::Arc};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use suture_event::{Edge, EdgeSource, Labels, Outcome, OutcomeStatus, Sample, Span, Timestamp};

use crate::{
    Costs, Error, Fault, Healer, Options,
    action::{Action, Actions},
    change::cdevent,
    graph::{Call, Graph},
    plan::{Deploy, Effect, Plan},
    service::{Ailment, Load, METRICS, Noise, Service, own},
    traffic,
};

/// What one step brought, in order of time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tick {
    /// The step's end, which is the time of its samples.
    pub at: Timestamp,
    /// One sample of every series.
    pub samples: Vec<Sample>,
    /// CDEvents 0.5 of what was deployed and rolled back during the step.
    pub changes: Vec<Value>,
    /// What became of actions that ended during the step.
    pub outcomes: Vec<Outcome>,
    /// Faults that began to have an effect, as places in [`Shop::truth`].
    pub started: Vec<usize>,
    /// Faults that were healed, as places in [`Shop::truth`].
    pub healed: Vec<usize>,
}

/// How one fault stands.
#[derive(Debug, Clone)]
pub(crate) struct Ill {
    pub(crate) service: usize,
    effect: Effect,
    pub(crate) begun: bool,
    /// Between 0 and 1: how far its effect has come on, or is still there.
    level: f64,
    /// Share of the disk filled.
    filled: f64,
}

/// One edge as it is measured.
#[derive(Debug, Clone)]
struct Wire {
    call: Call,
    caller: Labels,
    callee: Labels,
    noise: [Noise; 2],
}

/// A deploy that took place, and whether it was taken back.
#[derive(Debug, Clone)]
pub(crate) struct Deployed {
    pub(crate) service: usize,
    pub(crate) artifact: String,
    pub(crate) taken_back: bool,
}

/// A simulated shop. See the crate's page for what it is made of.
#[derive(Debug, Clone)]
pub struct Shop {
    pub(crate) options: Options,
    pub(crate) services: Vec<Service>,
    wires: Vec<Wire>,
    rng: ChaCha8Rng,
    crowd: Noise,
    at: Timestamp,
    planned: std::collections::VecDeque<Deploy>,
    end: Timestamp,
    pub(crate) truth: Vec<Fault>,
    pub(crate) ills: Vec<Ill>,
    pub(crate) deployed: BTreeMap<Arc<str>, Deployed>,
    /// Ids of the deploys of each service, oldest first.
    pub(crate) history: Vec<Vec<Arc<str>>>,
    pub(crate) actions: Actions,
    metrics: [Arc<str>; 9],
    called: Arc<str>,
    served: Arc<str>,
}

/// Time between caller and callee that is neither's.
const HOP: f64 = 0.0008;

impl Shop {
    /// Builds the shop and draws everything that will happen to it.
    ///
    /// # Errors
    /// [`Error`] where an option is out of its bounds.
    pub fn new(options: Options) -> Result<Self, Error> {
        options.validate()?;
        let graph = Graph::new(options.services, options.seed);
        let plan = Plan::new(&options, &graph);
        let environment: Arc<str> = options.environment.as_str().into();
        let nominal = graph.nominal(traffic::PEAK);
        let wires = graph
            .calls
            .iter()
            .map(|call| wire(call, &graph, &environment))
            .collect();
        let services = graph
            .services
            .into_iter()
            .zip(nominal)
            .map(|(spec, nominal)| Service::new(spec, nominal, options.instances, options.seed, &environment))
            .collect::<Vec<_>>();
        let ills = plan
            .effects
            .iter()
            .map(|&(service, effect)| Ill {
                service,
                effect,
                begun: false,
                level: 0.0,
                filled: 0.0,
            })
            .collect();
        Ok(Self {
            history: vec![Vec::new(); services.len()],
            services,
            wires,
            rng: ChaCha8Rng::seed_from_u64(options.seed ^ 0x006e_6f69_7365),
            crowd: Noise::default(),
            at: options.start,
            planned: plan.deploys.into(),
            end: plan.end,
            truth: plan.faults,
            ills,
            deployed: BTreeMap::new(),
            actions: Actions::new(options.max_actions),
            metrics: METRICS.map(Arc::from),
            called: "call_latency_seconds".into(),
            served: "served_latency_seconds".into(),
            options,
        })
    }

    /// The time that has been reached.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.at
    }

    /// When everything planned has happened, with the last fault's full time after it. The shop goes on beyond.
    #[must_use]
    pub fn end(&self) -> Timestamp {
        self.end
    }

    /// The first moment after the warm-up.
    #[must_use]
    pub fn warm_at(&self) -> Timestamp {
        self.options.start.plus(self.options.warmup)
    }

    /// Every fault, also those to come, by time of their start.
    #[must_use]
    pub fn truth(&self) -> &[Fault] {
        &self.truth
    }

    /// What was done to the shop, and how much of it for nothing.
    #[must_use]
    pub fn costs(&self) -> Costs {
        self.actions.costs
    }

    /// The names of the services.
    pub fn services(&self) -> impl ExactSizeIterator<Item = &str> {
        self.services.iter().map(|s| s.spec.name.as_ref())
    }

    /// Who calls whom, sorted.
    #[must_use]
    pub fn topology(&self) -> Vec<Edge> {
        let name = |index: usize| self.services[index].spec.name.clone();
        let edge = |w: &Wire| Edge {
            from: name(w.call.from),
            to: name(w.call.to),
            source: EdgeSource::File,
        };
        let mut edges: Vec<Edge> = self.wires.iter().map(edge).collect();
        edges.sort_by(|a, b| (&a.from, &a.to).cmp(&(&b.from, &b.to)));
        edges
    }

    /// One step. Costs some 0.1 µs a sample, without counting what the samples' allocation costs; see [`Shop::advance_into`].
    pub fn advance(&mut self) -> Tick {
        let mut tick = Tick::default();
        self.advance_into(&mut tick);
        tick
    }

    /// One step, into a tick whose memory is used again.
    pub fn advance_into(&mut self, tick: &mut Tick) {
        tick.samples.clear();
        tick.changes.clear();
        tick.outcomes.clear();
        tick.started.clear();
        tick.healed.clear();
        let before = self.at;
        self.at = before.plus(self.options.step);
        tick.at = self.at;
        self.finish_actions(tick);
        self.deploy_planned(tick);
        self.move_faults(tick);
        tick.changes.sort_by_key(stamp);
        let loads = self.loads();
        self.measure(&loads, tick);
    }

    fn deploy_planned(&mut self, tick: &mut Tick) {
        while self.planned.front().is_some_and(|d| d.at <= self.at) {
            let Some(deploy) = self.planned.pop_front() else { break };
            let name = self.services[deploy.service].spec.name.clone();
            tick.changes.push(cdevent(
                "deployed",
                &deploy.id,
                deploy.at,
                &name,
                &deploy.artifact,
                &self.options.environment,
            ));
            self.history[deploy.service].push(deploy.id.clone());
            let taken = Deployed {
                service: deploy.service,
                artifact: deploy.artifact,
                taken_back: false,
            };
            self.deployed.insert(deploy.id, taken);
            self.bring_up(deploy.service, deploy.at);
        }
    }

    /// New instances take the place of the old ones, and warm up for a minute.
    pub(crate) fn bring_up(&mut self, service: usize, at: Timestamp) {
        self.services[service].replace(self.options.seed, self.options.pod_churn);
        self.services[service].warming_until = Some(at.plus(Span::from_mins(1)));
    }

    fn finish_actions(&mut self, tick: &mut Tick) {
        for done in self.actions.due(self.at) {
            let (outcome, change) = self.finish(&done, &mut tick.healed);
            tick.changes.extend(change);
            tick.outcomes.push(outcome);
        }
    }

    /// Ends one action at its due time.
    fn finish(&mut self, action: &Action, healed: &mut Vec<usize>) -> (Outcome, Option<Value>) {
        let result = self.carry_out(action, healed);
        let (status, detail, change) = match result {
            Ok((detail, change)) => (OutcomeStatus::Succeeded, detail, change),
            Err(detail) => (OutcomeStatus::Failed, detail, None),
        };
        (self.actions.close(action, status, detail), change)
    }

    fn move_faults(&mut self, tick: &mut Tick) {
        let step = self.options.step.as_secs_f64();
        for (fault, ill) in self.truth.iter_mut().zip(&mut self.ills) {
            if !ill.begun && fault.start <= self.at {
                ill.begun = true;
                if fault.healed_at.is_none() {
                    tick.started.push(fault.id);
                }
            }
            if !ill.begun {
                continue;
            }
            if let (None, Some(lasts)) = (fault.healed_at, self.options.fault_lasts)
                && fault.start.plus(lasts) <= self.at
            {
                fault.healed_at = Some(fault.start.plus(lasts));
                fault.healed_by = Some(Healer::OnCall);
                tick.healed.push(fault.id);
                if fault.change.is_some() || matches!(ill.effect, Effect::Leak(_)) {
                    self.services[ill.service].replace(self.options.seed, self.options.pod_churn);
                }
                if let Some((id, taken)) = fault
                    .change
                    .as_ref()
                    .and_then(|id| Some((id, self.deployed.get_mut(id)?)))
                {
                    taken.taken_back = true;
                    let (id, at) = (format!("rollback-of-{id}"), fault.start.plus(lasts));
                    let environment = &self.options.environment;
                    tick.changes.push(cdevent(
                        "rolledback",
                        &id,
                        at,
                        &fault.service,
                        &taken.artifact,
                        environment,
                    ));
                }
            }
            let active = fault.healed_at.is_none();
            let ramp = match ill.effect {
                Effect::Pool(_) if active => 300.0,
                Effect::Wait(..) if active => 60.0,
                _ => 30.0,
            };
            let toward = if active { step / ramp } else { -step / ramp };
            ill.level = (ill.level + toward).clamp(0.0, 1.0);
            ill.filled = match ill.effect {
                Effect::Disk(rate) if active => (ill.filled + rate * step).min(1.0),
                _ => 0.0,
            };
            if let (Effect::Leak(rate), true) = (ill.effect, active) {
                for instance in &mut self.services[ill.service].instances {
                    instance.leaked += rate * step * instance.leakiness;
                }
            }
        }
        self.kill_the_full();
    }

    /// Instances without memory left are killed and take half a minute to start.
    fn kill_the_full(&mut self) {
        let at = self.at;
        for service in &mut self.services {
            let limit = 0.985 - service.spec.memory;
            for instance in &mut service.instances {
                if instance.leaked > limit {
                    instance.leaked = 0.0;
                    instance.down_until = Some(at.plus(Span::from_secs(30)));
                }
            }
        }
    }

    /// The exact numbers of every service: load passes down the call graph, delay and failure back up.
    fn loads(&mut self) -> Vec<Load> {
        let step = self.options.step.as_secs_f64();
        let crowd = self.crowd.next(&mut self.rng, step, 900.0);
        let ails = self.ailments();
        let mut rates = vec![0.0; self.services.len()];
        if let Some(front) = rates.first_mut() {
            *front = traffic::PEAK * traffic::expected(self.at) * (crowd * 0.03).exp();
        }
        // a request that failed early makes no further calls
        for wire in &self.wires {
            let goes_on = 1.0 - 0.7 * ails[wire.call.from].errors.min(1.0);
            rates[wire.call.to] += rates[wire.call.from] * wire.call.calls * goes_on;
        }
        let mut loads: Vec<Load> = Vec::with_capacity(self.services.len());
        for ((service, ail), rate) in self.services.iter().zip(&ails).zip(&rates) {
            let rolling = if service.is_rolling(self.at) { 0.75 } else { 1.0 };
            let up = service.up(self.at) as f64 * rolling;
            let capacity = up / self.options.instances as f64;
            let fullest = service.instances.iter().map(|i| i.leaked).fold(0.0, f64::max) + service.spec.memory;
            loads.push(own(&service.spec, ail, *rate, service.nominal, capacity, fullest));
        }
        for wire in self.wires.iter().rev() {
            let callee = loads[wire.call.to];
            let caller = &mut loads[wire.call.from];
            // slow moments of several services seldom meet, so what p99 is above p50 adds up as independent spreads do
            let spread = (caller.p99 - caller.p50).hypot(wire.call.calls.min(1.0) * (callee.p99 - callee.p50));
            caller.p50 += wire.call.calls * (callee.p50 + HOP);
            caller.p99 = caller.p50 + spread;
            let passed_on = (wire.call.critical * wire.call.calls.min(1.0) * callee.errors).min(0.98);
            caller.errors = 1.0 - (1.0 - caller.errors) * (1.0 - passed_on);
        }
        loads
    }

    fn ailments(&self) -> Vec<Ailment> {
        let mut ails = vec![Ailment::default(); self.services.len()];
        for (ail, service) in ails.iter_mut().zip(&self.services) {
            if service.is_warming(self.at) {
                ail.cpu *= 1.0 + self.options.rollout_spike;
                ail.tail *= 1.0 + self.options.rollout_spike;
            }
            if service.is_rolling(self.at) {
                ail.errors += 0.004;
            }
            let down = service.instances.len() - service.up(self.at);
            if down > 0 {
                ail.errors += 0.25 * down as f64 / service.instances.len() as f64;
            }
        }
        for ill in self.ills.iter().filter(|i| i.begun) {
            let ail = &mut ails[ill.service];
            match ill.effect {
                Effect::Errors(share) => ail.errors += share * ill.level,
                Effect::Cpu(times) => ail.cpu *= 1.0 + (times - 1.0) * ill.level,
                Effect::Latency(times) => ail.latency *= 1.0 + (times - 1.0) * ill.level,
                Effect::Pool(share) => ail.pool += share * ill.level,
                Effect::Wait(times, gave_up) => {
                    ail.wait += times * ill.level;
                    ail.gave_up += gave_up * ill.level;
                }
                Effect::Disk(_) => ail.disk += ill.filled,
                Effect::Leak(_) => {}
            }
        }
        ails
    }

    fn measure(&mut self, loads: &[Load], tick: &mut Tick) {
        let step = self.options.step.as_secs_f64();
        for (service, load) in self.services.iter_mut().zip(loads) {
            let up = service.up(self.at);
            let pooled = service.spec.pool.is_some();
            for instance in &mut service.instances {
                let running = instance.is_up(self.at);
                let values = instance.measure(load, up, step);
                if !running {
                    continue;
                }
                let kept = if pooled { METRICS.len() } else { METRICS.len() - 1 };
                for (metric, value) in self.metrics.iter().zip(values).take(kept) {
                    let labels = instance.labels.clone();
                    tick.samples.push(Sample {
                        ts: self.at,
                        metric: metric.clone(),
                        value,
                        labels,
                    });
                }
            }
        }
        for wire in &mut self.wires {
            let exact = loads[wire.call.to].p50;
            let mut noisy = |noise: &mut Noise, seconds: f64| {
                let z = noise.next(&mut self.rng, step, 45.0);
                (seconds * (z * 0.05).exp() * 1e6).round() / 1e6
            };
            let [called, served] = &mut wire.noise;
            let (called, served) = (noisy(called, exact + HOP), noisy(served, exact));
            let ts = self.at;
            tick.samples.push(Sample {
                ts,
                metric: self.called.clone(),
                value: called,
                labels: wire.caller.clone(),
            });
            tick.samples.push(Sample {
                ts,
                metric: self.served.clone(),
                value: served,
                labels: wire.callee.clone(),
            });
        }
    }
}

fn wire(call: &Call, graph: &Graph, environment: &Arc<str>) -> Wire {
    let caller = graph.services[call.from].name.as_ref();
    let callee = graph.services[call.to].name.as_ref();
    let environment = environment.as_ref();
    // three fixed names can't repeat each other
    let labels = |pairs: [(&str, &str); 3]| Labels::new(pairs).unwrap_or_default();
    Wire {
        call: *call,
        caller: labels([("service", caller), ("peer", callee), ("environment", environment)]),
        callee: labels([("service", callee), ("client", caller), ("environment", environment)]),
        noise: Default::default(),
    }
}

/// The time in an event.
fn stamp(event: &Value) -> Option<Timestamp> {
    event.pointer("/context/timestamp")?.as_str()?.parse().ok()
}
