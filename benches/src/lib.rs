//! What crosses crates: benches, and the samples they run on.

pub mod samples;
