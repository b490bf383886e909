//! Who acts.

use std::future::Future;

use suture_event::ActionRequest;

use crate::Calls;

/// Why an executor did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecuteError {
    /// It will not: nothing was touched.
    #[error("refused: {0}")]
    Refused(String),
    /// It tried: something may have been touched.
    #[error("failed: {0}")]
    Failed(String),
}

/// Acts on requests that were decided to be acted on.
pub trait Executor: Send + Sync + 'static {
    /// Does what the request asks, and says in words what it did. It must ask [`Calls::may`] before every call it makes, and
    /// tell [`Calls::made`] after it.
    ///
    /// # Errors
    /// Whether it refused or failed, and why, for the outcome.
    fn execute(
        &self,
        request: &ActionRequest,
        calls: &Calls,
    ) -> impl Future<Output = Result<String, ExecuteError>> + Send;

    /// Whether a request whose process died in the middle may be executed again, because its id keeps the effect from
    /// happening twice.
    fn repeatable(&self) -> bool {
        false
    }

    /// Whether nothing is ever touched, so that outcomes are `dry_run`.
    fn dry(&self) -> bool {
        false
    }
}

/// Says what it would do, and does nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct DryRun;

impl Executor for DryRun {
    async fn execute(&self, request: &ActionRequest, _: &Calls) -> Result<String, ExecuteError> {
        let parameters: Vec<String> = request
            .step
            .parameters
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let with = if parameters.is_empty() {
            String::new()
        } else {
            format!(" with {}", parameters.join(", "))
        };
        Ok(format!("would {} {}{with}", request.step.action, request.target))
    }

    fn repeatable(&self) -> bool {
        true
    }

    fn dry(&self) -> bool {
        true
    }
}
