//! What crosses crates: tests
