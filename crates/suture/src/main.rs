//! The program: its commands.

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
    #[cfg(feature = "kafka")]
    Run(suture::run::Args),
    Replay(suture::replay::Args),
    Explain(suture::explain::Args),
    Keys(suture::keys::Args),
    Ledger(suture::ledger::Args),
    #[command(flatten)]
    People(suture::people::Word),
    Train(suture::train::Args),
    Plot(suture::plot::Args),
    Demo(suture::demo::Args),
    Check(suture::check::Args),
    Acl(suture::acl::Args),
    /// Print the JSON Schema of pipeline files, for editors to complete from.
    Schema,
    #[cfg(feature = "history")]
    Query(suture::query::Args),
    #[cfg(feature = "kafka")]
    Execute(suture::execute::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // the demo has the screen to itself
    let usual = if matches!(cli.command, Command::Demo(_)) {
        "error"
    } else {
        "info"
    };
    suture::logs::start(cli.log_format, usual);
    let ok = |()| ExitCode::SUCCESS;
    suture::exit(match cli.command {
        #[cfg(feature = "kafka")]
        Command::Run(args) => suture::run::run(&args).map(ok),
        Command::Replay(args) => suture::replay::replay(&args).map(ok),
        Command::Explain(args) => suture::explain::explain(&args).map(ok),
        Command::Keys(args) => suture::keys::keys(&args).map(ok),
        Command::Ledger(args) => suture::ledger::ledger(&args),
        Command::People(word) => suture::people::say(&word).map(ok),
        Command::Train(args) => suture::train::train(&args).map(ok),
        Command::Plot(args) => suture::plot::plot(&args).map(ok),
        Command::Demo(args) => suture::demo::demo(&args),
        Command::Check(args) => suture::check::check(&args),
        Command::Acl(args) => suture::acl::acl(&args).map(ok),
        Command::Schema => suture::check::schema().map(ok),
        #[cfg(feature = "history")]
        Command::Query(args) => suture::query::query(&args).map(ok),
        #[cfg(feature = "kafka")]
        Command::Execute(args) => suture::execute::execute(&args).map(ok),
    })
}
