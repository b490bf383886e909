//! The program's parts: the commands, and how the crates are wired together for each.

pub mod acl;
pub mod assign;
pub mod check;
pub mod demo;
#[cfg(feature = "kafka")]
pub mod execute;
pub mod explain;
pub mod keys;
pub mod ledger;
pub mod load;
pub mod logs;
pub mod metrics;
pub mod people;
pub mod planes;
pub mod plot;
#[cfg(feature = "history")]
pub mod query;
pub mod replay;
pub mod run;
pub mod topics;
pub mod train;

use std::process::ExitCode;

// here and not beside `main`, so that benchmarks of the program's parts have the program's allocator
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Says what went wrong, if anything, and with which exit code to leave: 78 for a pipeline file that can't be right, 1 for
/// anything else.
#[must_use]
pub fn exit(done: anyhow::Result<ExitCode>) -> ExitCode {
    let error = match done {
        Ok(code) => return code,
        Err(error) => error,
    };
    if let Some(bad) = error.downcast_ref::<load::BadPipeline>() {
        tell(format_args!("{bad}"));
        return ExitCode::from(load::EXIT_CONFIG);
    }
    tell(format_args!("suture: {error:#}\n"));
    ExitCode::FAILURE
}

/// Writes to standard error, if it is open.
pub(crate) fn tell(what: std::fmt::Arguments<'_>) {
    use std::io::Write as _;
    let _ = std::io::stderr().write_fmt(what);
}
