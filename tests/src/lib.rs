//! What tests that cross crates share: a real broker, an independent client, the program as a process, and waiting for
//! things rather than for time.

// helpers of tests: what goes wrong here is a failed test
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::missing_panics_doc)]

pub mod broker;
pub mod disk;
pub mod kafka;
pub mod memory;
pub mod program;
pub mod proxy;
pub mod shop;
pub mod tally;
pub mod undisturbed;
pub mod wait;
