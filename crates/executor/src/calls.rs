//! The calls of one action: each asked for before it is made, and written down afterwards.

use std::sync::{Arc, Mutex, PoisonError};

use suture_event::{ActionRequest, Call, FreezeEpoch, Outcome, Timestamp};

use crate::{ExecuteError, watch::Watch};

/// What an executor asks before every call it makes, and tells after it.
#[derive(Clone)]
pub struct Calls {
    watch: Option<Arc<Watch>>,
    scope: Arc<str>,
    epoch: FreezeEpoch,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    made: Arc<Mutex<Vec<Call>>>,
}

impl Calls {
    /// For executors that are tried without a log: nothing is frozen.
    #[must_use]
    pub fn unwatched() -> Self {
        Self {
            watch: None,
            scope: "".into(),
            epoch: FreezeEpoch::default(),
            clock: Arc::new(|| Timestamp::from_millis(0)),
            made: Arc::default(),
        }
    }

    pub(crate) fn new(
        watch: Arc<Watch>,
        request: &ActionRequest,
        clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    ) -> Self {
        let epoch = request.permit.as_ref().map(|permit| permit.epoch.clone());
        Self {
            watch: Some(watch),
            scope: Arc::clone(&request.scope),
            epoch: epoch.unwrap_or_default(),
            clock,
            made: Arc::default(),
        }
    }

    /// Asks whether the next call may be made: reads the commands anew, and looks for a freeze.
    ///
    /// # Errors
    /// The action's end where it may not: refused where nothing was called yet, failed otherwise.
    pub async fn may(&self) -> Result<(), ExecuteError> {
        let Some(watch) = self.watch.clone() else { return Ok(()) };
        let (scope, epoch) = (Arc::clone(&self.scope), self.epoch.clone());
        let allowed = tokio::task::spawn_blocking(move || watch.allows_now(&scope, &epoch)).await;
        let Err(why) =
            allowed.unwrap_or_else(|error| Err(format!("whether the scope is frozen was not found out: {error}")))
        else {
            return Ok(());
        };
        Err(match self.count() {
            0 => ExecuteError::Refused(why),
            calls => ExecuteError::Failed(format!("stopped after {calls} calls: {why}")),
        })
    }

    /// Writes down a call that was made, and how it ended. Neither may hold a secret.
    pub fn made(&self, what: impl Into<String>, status: impl Into<String>) {
        let call = Call {
            at: (self.clock)(),
            what: what.into(),
            status: status.into(),
        };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.push(call);
        let most = made.len().saturating_sub(Outcome::CALLS);
        made.drain(..most);
    }

    fn count(&self) -> usize {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(crate) fn take(&self) -> Vec<Call> {
        std::mem::take(&mut self.made.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
