//! What to do about a diagnosed incident, how far that may go by itself, and what became of it.
//!
//! [`Remediator`] is a state machine over one scope's incidents, outcomes, commands and time. It picks a
//! [`Playbook`] for the incident's first hypothesis, finds the rung of the ladder it may use, publishes
//! [`ActionRequest`](suture_event::ActionRequest)s, waits for outcomes, verifies recovery on the signals that opened
//! the incident, asks for the reversal where it does not come, and writes each step as a hash-chained
//! [`LedgerRecord`](suture_event::LedgerRecord).
//!
//! # The ladder
//! The rung of an action is the least of: the pipeline's [`Options::mode`]; what the playbook asks; `supervised` where
//! nothing undoes the action; `advise` where the playbook's safety case is incomplete, the hypothesis is not probable
//! enough, a budget is spent or the scope is frozen; and what the playbook has earned, where [`Options::trust`] asks for that.
//!
//! - `advise`: a request is published that executors leave alone.
//! - `supervised`: a request is published and waits. When a named human approves it, it is published again under the
//!   same id with rung `autonomous` and `approved_by`; executors act on that.
//! - `autonomous`: a request is published and executors act on it.
//!
//! # Time
//! No clock is read. An input moves time to its own timestamp, firing first whatever was due *before* it, each as of
//! its due time; [`Input::Time`] fires whatever is due *at or before* it, since it says that nothing earlier will come.
//! Extra `Time` inputs in between therefore never change an output.
//!
//! # Bounds
//! Every memory is bounded by [`Bounds`]; each field says what happens there.

mod action;
mod command;
mod error;
mod incident;
mod ladder;
mod ledger;
mod options;
mod playbook;
mod precedents;
mod remediator;
mod report;
mod safety;
mod select;
mod state;
mod template;
mod trust;

pub use error::Error;
pub use ladder::{Limit, LimitedBy};
pub use ledger::kind;
pub use options::{Bounds, Budget, Budgets, Options, Tier};
pub use playbook::{Limits, Match, OnFailure, Playbook, Safety};
pub use remediator::{Input, Output, PutAway, Remediator};
pub use report::{Report, Week};
pub use safety::Gap;
pub use select::Tiers;
pub use suture_event::Problem;
pub use template::PLACEHOLDERS;
pub use trust::{Earned, Evidence, Trust, TrustOptions, Trustee};
