//! A seeded shop: services, traffic, deploys, faults, ground truth, and what an action does to it.
//!
//! A [`Shop`] is ten services that call one another (or up to a thousand), with two instances each. Customers come and go
//! by day and week. Each step of simulated time gives one [`suture_event::Sample`] of every series: requests, latency,
//! errors, processor, memory, disk, network and pool of each instance, and the latency of each call as either side sees
//! it. Load passes down the call graph and makes queues; delay and failure pass back up to the callers.
//!
//! After a warm-up in which all is well, faults are injected at times drawn from the seed ([`FaultKind`]). Good deploys
//! happen all along, and innocent ones beside every fault. [`Shop::truth`] tells what really happened.
//!
//! [`Shop::act`] does to the shop what an executor would do to a real one. Each fault is healed by its remedy
//! ([`Fault::remedies`]) and by nothing else; a needless action has its price and is counted ([`Costs`]).
//!
//! Nothing here reads a clock or draws unseeded numbers: the same [`Options`] and the same actions at the same steps give
//! the same bytes on one platform. (Across platforms the last digit of `exp` or `cos` may differ before rounding.)
//!
//! ```
//! use suture_simulate::{Options, Shop};
//!
//! let mut shop = Shop::new(Options { seed: 7, ..Options::default() })?;
//! let tick = shop.advance();
//! assert!(tick.samples.iter().any(|s| s.metric.as_ref() == "latency_p99_seconds"));
//! # Ok::<(), suture_simulate::Error>(())
//! ```

mod action;
mod change;
mod day;
mod fault;
mod graph;
mod options;
mod plan;
mod service;
mod shop;
mod traffic;

pub use action::{ActOutcome, Costs};
pub use day::{Recording, day, record};
pub use fault::{ActionKind, Fault, FaultKind, Healer};
pub use options::{Error, Options};
pub use shop::{Shop, Tick};
