//! Faults that a client meets, by a seed.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::Error;

/// How often a client meets what, as probabilities for each operation. All zero by default.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Faults {
    /// What the faults follow from.
    pub seed: u64,
    /// The client dies, before or after the operation took place.
    pub crash: f64,
    /// The operation does not take place and says so.
    pub busy: f64,
    /// A commit fails for certain and is to be aborted.
    pub abort: f64,
    /// The operation fails, and whether it took place is not told.
    pub indefinite: f64,
    /// A poll hands out nothing, or fewer records than there are.
    pub delay: f64,
    /// A poll hands out records a second time, as after an unclean change of a partition's leader.
    pub redeliver: f64,
}

/// Kinds of operation, by what can happen to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Connect,
    Ask,
    Poll,
    Fence,
    Begin,
    Send,
    SendOffsets,
    Commit,
    Abort,
}

/// What is to happen once the operation took place.
#[must_use]
pub(super) enum After {
    Succeed,
    Crash(u64),
    Doubt,
}

impl After {
    pub(super) fn done(self, what: &str) -> Result<(), Error> {
        match self {
            Self::Succeed => Ok(()),
            Self::Crash(step) => Err(Error::Crashed { step }),
            Self::Doubt => Err(Error::Indefinite {
                what: what.to_owned(),
                detail: "the answer was lost".to_owned(),
            }),
        }
    }
}

/// How a poll is disturbed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Disturbance {
    /// Hand out at most so many records.
    pub(super) at_most: Option<usize>,
    /// Go back by so many records first.
    pub(super) back: i64,
}

pub(super) struct Plan {
    name: String,
    faults: Faults,
    inner: Mutex<Inner>,
}

struct Inner {
    random: ChaCha8Rng,
    steps: u64,
    crashed: Option<u64>,
}

impl Plan {
    pub(super) fn none() -> Self {
        Self::new("client", Faults::default())
    }

    pub(super) fn new(name: &str, faults: Faults) -> Self {
        let random = ChaCha8Rng::seed_from_u64(faults.seed);
        Self {
            name: name.to_owned(),
            faults,
            inner: Mutex::new(Inner {
                random,
                steps: 0,
                crashed: None,
            }),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn crashed(&self) -> bool {
        self.lock().crashed.is_some()
    }

    pub(super) fn steps(&self) -> u64 {
        self.lock().steps
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides what happens to an operation: an error now, so that it does not take place, or what to do after it.
    pub(super) fn before(&self, operation: Operation) -> Result<After, Error> {
        let mut inner = self.lock();
        if let Some(step) = inner.crashed {
            return Err(Error::Crashed { step });
        }
        inner.steps += 1;
        let step = inner.steps;
        let faults = &self.faults;
        if faults.crash > 0.0 && inner.random.random_bool(faults.crash) {
            inner.crashed = Some(step);
            return if inner.random.random_bool(0.5) {
                Err(Error::Crashed { step })
            } else {
                Ok(After::Crash(step))
            };
        }
        let can_doubt = !matches!(operation, Operation::Connect | Operation::Ask | Operation::Poll);
        if can_doubt && faults.indefinite > 0.0 && inner.random.random_bool(faults.indefinite) {
            return if inner.random.random_bool(0.5) {
                After::Doubt.done("a request").map(|()| After::Succeed)
            } else {
                Ok(After::Doubt)
            };
        }
        let can_abort = matches!(operation, Operation::Send | Operation::SendOffsets | Operation::Commit);
        if can_abort && faults.abort > 0.0 && inner.random.random_bool(faults.abort) {
            return Err(Error::Aborted {
                id: self.name.clone(),
                detail: "so the faults would have it".to_owned(),
            });
        }
        let can_wait = matches!(operation, Operation::Connect | Operation::Ask | Operation::Fence);
        if can_wait && faults.busy > 0.0 && inner.random.random_bool(faults.busy) {
            return Err(Error::Busy {
                what: "a request".to_owned(),
                detail: "so the faults would have it".to_owned(),
            });
        }
        Ok(After::Succeed)
    }

    /// The same for an operation that changes nothing.
    pub(super) fn check(&self, operation: Operation) -> Result<(), Error> {
        self.before(operation)?.done("a request")
    }

    pub(super) fn disturb(&self) -> Disturbance {
        let mut inner = self.lock();
        let mut disturbance = Disturbance::default();
        if self.faults.delay > 0.0 && inner.random.random_bool(self.faults.delay) {
            disturbance.at_most = Some(inner.random.random_range(0..4));
        }
        if self.faults.redeliver > 0.0 && inner.random.random_bool(self.faults.redeliver) {
            disturbance.back = inner.random.random_range(1..6);
        }
        disturbance
    }
}
