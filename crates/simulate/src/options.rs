//! What a shop is made of, and the bounds on it.

use serde::{Deserialize, Serialize};
use suture_event::{Span, Timestamp};

use crate::FaultKind;

/// 2026-06-01, a Monday, at midnight UTC.
const MONDAY: Timestamp = Timestamp::from_millis(1_780_272_000_000);

/// How a shop is made. The same options give the same shop, sample by sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Fixes everything that is drawn: noise, deploys, faults.
    pub seed: u64,
    /// How many services: the first ten are the shop's own, more are made up. 3 to 1,000.
    pub services: usize,
    /// Instances of each service. 1 to 16.
    pub instances: usize,
    /// Value of the label `environment`.
    pub environment: String,
    /// Time of the first sample less one step.
    pub start: Timestamp,
    /// Time between two samples of a series. 1 s to 5 minutes.
    pub step: Span,
    /// How long nothing breaks at first: what detectors learn from. Good deploys happen in it.
    pub warmup: Span,
    /// How many faults are injected after the warm-up. At most 10,000.
    pub faults: usize,
    /// Which kinds; each round of them is shuffled, and the first fault is of the first kind.
    pub kinds: Vec<FaultKind>,
    /// Time from one fault to the next, on average. At least 10 minutes.
    pub fault_every: Span,
    /// After this, somebody on call has repaired a fault by hand. Absent: a fault stays until the right action is taken.
    pub fault_lasts: Option<Span>,
    /// Innocent deploys of other services within ten minutes of each fault. At most 10.
    pub decoys: usize,
    /// Good deploys a day over all services, besides the decoys. 0 to 1,000.
    pub deploys_per_day: f64,
    /// How far a service's processor use and tail latency rise while a new version warms up, as a share.
    pub rollout_spike: f64,
    /// Probability that an action fails without effect. 0 to 1.
    pub action_failures: f64,
    /// New instances get new names, as pods do, so that a deploy ends their series and begins others.
    pub pod_churn: bool,
    /// How many action ids are remembered; an action beyond is refused.
    pub max_actions: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            services: 10,
            instances: 2,
            environment: "prod".to_owned(),
            start: MONDAY,
            step: Span::from_secs(10),
            warmup: Span::from_hours(48),
            faults: 5,
            kinds: FaultKind::ALL.to_vec(),
            fault_every: Span::from_mins(45),
            fault_lasts: None,
            decoys: 1,
            deploys_per_day: 4.0,
            rollout_spike: 0.15,
            action_failures: 0.0,
            pod_churn: false,
            max_actions: 10_000,
        }
    }
}

/// What is wrong with [`Options`].
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("simulated shop: `{option}` is {given}: {help}")]
pub struct Error {
    /// The option's name.
    pub option: &'static str,
    /// What was given.
    pub given: String,
    /// What would be right.
    pub help: &'static str,
}

impl Options {
    /// Checks every bound.
    ///
    /// # Errors
    /// The first option that is out of its bounds.
    pub fn validate(&self) -> Result<(), Error> {
        let step = self.step.as_millis();
        let every = self.fault_every.as_millis();
        let warmup = self.warmup.as_millis();
        let lasts = self.fault_lasts.map_or(every, Span::as_millis);
        let weeks = Span::from_hours(24 * 7).as_millis();
        let checks: [(bool, &'static str, String, &'static str); 12] = [
            (
                (3..=1_000).contains(&self.services),
                "services",
                self.services.to_string(),
                "take 3 to 1000",
            ),
            (
                (1..=16).contains(&self.instances),
                "instances",
                self.instances.to_string(),
                "take 1 to 16",
            ),
            (
                (1_000..=300_000).contains(&step),
                "step",
                self.step.to_string(),
                "take 1s to 5m",
            ),
            (
                (0..=weeks * 52).contains(&warmup),
                "warmup",
                self.warmup.to_string(),
                "take 0s to 52w",
            ),
            (
                self.faults <= 10_000,
                "faults",
                self.faults.to_string(),
                "take at most 10000",
            ),
            (
                self.faults == 0 || !self.kinds.is_empty(),
                "kinds",
                "empty".into(),
                "name at least one kind of fault",
            ),
            (
                (600_000..=weeks).contains(&every),
                "fault_every",
                self.fault_every.to_string(),
                "take 10m to 1w",
            ),
            (
                (60_000..=weeks).contains(&lasts),
                "fault_lasts",
                format!("{lasts}ms"),
                "take 1m to 1w",
            ),
            (self.decoys <= 10, "decoys", self.decoys.to_string(), "take at most 10"),
            (
                (0.0..=1_000.0).contains(&self.deploys_per_day),
                "deploys_per_day",
                self.deploys_per_day.to_string(),
                "take 0 to 1000",
            ),
            (
                (0.0..=5.0).contains(&self.rollout_spike),
                "rollout_spike",
                self.rollout_spike.to_string(),
                "take 0 to 5",
            ),
            (
                (0.0..=1.0).contains(&self.action_failures),
                "action_failures",
                self.action_failures.to_string(),
                "take 0 to 1",
            ),
        ];
        match checks.into_iter().find(|(good, ..)| !good) {
            Some((_, option, given, help)) => Err(Error { option, given, help }),
            None => Ok(()),
        }
    }
}
