//! The policy envelope: what operators allow of what the program could do, as [Cedar](https://www.cedarpolicy.com) policies.
//!
//! An [`Envelope`] is compiled from texts and asked a [`Question`] for every action: when it is decided, and again by the
//! executor. Nothing is allowed that no policy permits; a `forbid` wins over every `permit`; what cannot be evaluated is denied. A
//! `forbid` with `@obligation("require_approval")` is lifted by a human's approval, which turns the action to the gate. Policies
//! only ever narrow: what the table of verbs, budgets and freezes do not give, no policy does.
//!
//! The schema is the program's own ([`schema`]): policies that speak of what it does not have are told at load, with their place.
//! Nothing here reads a file or a clock.

mod envelope;
mod guard;
mod options;
mod question;
mod schema;

pub use envelope::{Answer, Envelope, Problem, Verdict};
pub use guard::Guard;
pub use options::{Example, Policy, Source};
pub use question::{Context, Hours, Question, fleet_percent};
pub use schema::{ATTRIBUTES, class, schema};
