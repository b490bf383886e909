//! The program's parts: the commands, and how the crates are wired together for each.

pub mod check;
pub mod load;
pub mod logs;
pub mod planes;
pub mod replay;

use std::process::ExitCode;

/// Says what went wrong, if anything, and with which exit code to leave: 78 for a pipeline file that can't be right, 1 for
/// anything else.
pub fn exit(done: anyhow::Result<()>) -> ExitCode {
    let Err(error) = done else { return ExitCode::SUCCESS };
    if let Some(bad) = error.downcast_ref::<load::BadPipeline>() {
        eprintln!("{bad}");
        return ExitCode::from(load::EXIT_CONFIG);
    }
    eprintln!("suture: {error:#}");
    ExitCode::FAILURE
}
