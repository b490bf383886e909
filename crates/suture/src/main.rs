//! The program: commands and wiring.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Telemetry and deploys in, diagnosed incidents and action requests out.
#[derive(Debug, Parser)]
#[command(name = "suture", version, about, propagate_version = true)]
struct Cli {
    /// How logs are written, to standard error. What is logged is set by RUST_LOG (info by default).
    #[arg(long, global = true, value_enum, default_value_t, env = "SUTURE_LOG_FORMAT")]
    log_format: suture::logs::Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Feed files through a pipeline and write what it finds.
    Replay(suture::replay::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    suture::logs::start(cli.log_format);
    let done = match cli.command {
        Command::Replay(args) => suture::replay::replay(&args),
    };
    suture::exit(done)
}
