//! The executor of the demo: what a remediation does, it does to the simulated shop.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use suture_event::{ActionRequest, Outcome, OutcomeStatus};
use suture_executor::{Calls, ExecuteError, Executor};
use suture_simulate::{Shop, Tick};
use tokio::sync::oneshot;

/// The shop, and the actions under way in it.
struct Stage {
    shop: Shop,
    waiting: BTreeMap<Arc<str>, oneshot::Sender<Outcome>>,
    asked: BTreeSet<Arc<str>>,
}

/// The shop as it is shared between the one who lets its time pass and the one who acts on it.
#[derive(Clone)]
pub(super) struct Operator(Arc<Mutex<Stage>>);

impl Operator {
    pub(super) fn new(shop: Shop) -> Self {
        Self(Arc::new(Mutex::new(Stage {
            shop,
            waiting: BTreeMap::new(),
            asked: BTreeSet::new(),
        })))
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        // the shop is whole between any two of its steps
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads from the shop.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Shop) -> T) -> T {
        look(&self.stage().shop)
    }

    /// Lets one step pass, and ends the actions that are due in it.
    pub(super) fn advance(&self, tick: &mut Tick) {
        let mut stage = self.stage();
        stage.shop.advance_into(tick);
        for outcome in &tick.outcomes {
            if let Some(waiting) = stage.waiting.remove(&outcome.action) {
                // nobody listens any more where the executor was stopped
                let _ = waiting.send(outcome.clone());
            }
        }
    }

    /// Whether a request has come.
    pub(super) fn was_asked(&self, id: &str) -> bool {
        self.stage().asked.contains(id)
    }

    /// Whether an action is under way.
    pub(super) fn is_busy(&self) -> bool {
        !self.stage().waiting.is_empty()
    }

    fn begin(&self, request: &ActionRequest) -> Result<oneshot::Receiver<Outcome>, Result<String, ExecuteError>> {
        let mut stage = self.stage();
        stage.asked.insert(request.id.clone());
        let outcome = stage.shop.act(request).outcome;
        if outcome.status != OutcomeStatus::Started {
            return Err(ended(outcome));
        }
        let (sender, receiver) = oneshot::channel();
        stage.waiting.insert(request.id.clone(), sender);
        Ok(receiver)
    }
}

fn ended(outcome: Outcome) -> Result<String, ExecuteError> {
    match outcome.status {
        OutcomeStatus::Refused => Err(ExecuteError::Refused(outcome.detail)),
        OutcomeStatus::Failed => Err(ExecuteError::Failed(outcome.detail)),
        _ => Ok(outcome.detail),
    }
}

impl Executor for Operator {
    async fn execute(&self, request: &ActionRequest, calls: &Calls) -> Result<String, ExecuteError> {
        calls.may().await?;
        match self.begin(request) {
            Ok(receiver) => match receiver.await {
                Ok(outcome) => ended(outcome),
                Err(_) => Err(ExecuteError::Failed("the shop has closed".to_owned())),
            },
            Err(ended) => ended,
        }
    }

    fn repeatable(&self) -> bool {
        // the shop does nothing twice for one id
        true
    }
}
