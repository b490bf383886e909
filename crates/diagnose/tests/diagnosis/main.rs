//! Diagnosis judged from outside: by small stories, and by what must hold in all of them.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests, outside of test functions: failing is their job

mod crowd;
mod properties;
mod scenarios;
mod story;
