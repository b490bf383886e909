//! What crosses crates: benches
