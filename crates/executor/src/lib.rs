//! Consumer kit for remediators: what to do with an action request, and the stock executors.
//!
//! [`decide`] says, without touching anything, whether a request is to be acted on. [`Kit`] reads requests from the log,
//! lets an [`Executor`] act on those that are, and writes [`Outcome`](suture_event::Outcome)s: `started` in a transaction
//! of its own before the executor is called, and what became of it afterwards in one transaction with the request's
//! offset. The stock executors are [`DryRun`] and [`Webhook`].
//!
//! # Once
//! A request's id is its idempotency key. What was done is known from the outcomes topic, which is read before any
//! request of a partition is looked at and after the partition's former owner has been fenced. A request that comes again
//! gets its outcome again. One that was started and whose end nobody wrote down, because a process died in between, is
//! done again only by an executor that says it may be ([`Executor::repeatable`]); otherwise its outcome is `failed`.
//!
//! # By whose word
//! An executor that acts takes a request only with a permit: signed by decide, for this executor, of the freeze epoch that
//! the commands topic shows, and not used before. It looks at the verb's class and at the parameters once more, and holds to the
//! budgets of a service and of the pipeline over all scopes, which no shard of decide sees whole. Before every call it reads the
//! commands topic again ([`Calls::may`]): a freeze stops an action between its calls. What is no valid request gets an outcome
//! `rejected` with the reason, which settles nothing.
//!
//! # Order
//! Requests of one partition, and so of one target, are worked off one after the other; those of different partitions at
//! the same time.

mod calls;
mod decide;
mod error;
mod executor;
mod kit;
mod options;
mod session;
mod watch;
mod webhook;

pub use calls::Calls;
pub use decide::{Allowed, Done, Verdict, decide};
pub use error::Error;
pub use executor::{DryRun, ExecuteError, Executor};
pub use kit::{Counters, Kit};
pub use options::{Budget, Options, Unlisted};
pub use suture_event::Problem;
pub use webhook::{Webhook, WebhookOptions};
