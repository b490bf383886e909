//! The program: its commands.

mod acl;
mod announce;
mod audit;
mod change;
mod check;
mod console;
mod demo;
#[cfg(feature = "kafka")]
mod escalate;
#[cfg(feature = "kafka")]
mod execute;
mod explain;
mod keys;
mod ledger;
mod logs;
mod people;
mod playbook;
mod plot;
mod policy;
#[cfg(feature = "history")]
mod query;
mod receive;
mod replay;
#[cfg(feature = "kafka")]
mod run;
mod train;
mod trust;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use suture_service::load::BadPipeline;

/// Exit code of a pipeline file that can't be right, as `sysexits.h` has it for configuration errors.
const EXIT_CONFIG: u8 = 78;

/// Telemetry and deploys in, diagnosed incidents and action requests out.
#[derive(Debug, Parser)]
#[command(name = "suture", version, about, propagate_version = true)]
struct Cli {
    /// How logs are written, to standard error. What is logged is set by RUST_LOG (info by default).
    #[arg(long, global = true, value_enum, default_value_t, env = "SUTURE_LOG_FORMAT")]
    log_format: logs::Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[cfg(feature = "kafka")]
    Run(run::Args),
    Replay(replay::Args),
    Explain(explain::Args),
    Console(console::Args),
    Keys(keys::Args),
    Ledger(ledger::Args),
    Audit(audit::Args),
    Playbook(playbook::Args),
    Policy(policy::Args),
    Trust(trust::Args),
    Report(trust::ReportArgs),
    #[command(flatten)]
    People(people::Word),
    Change(change::Args),
    Receive(receive::Args),
    Train(train::Args),
    Plot(plot::Args),
    Demo(demo::Args),
    Check(check::Args),
    Acl(acl::Args),
    /// Print the JSON Schema of pipeline files, for editors to complete from.
    Schema,
    #[cfg(feature = "history")]
    Query(query::Args),
    #[cfg(feature = "kafka")]
    Execute(execute::Args),
    #[cfg(feature = "kafka")]
    Escalate(escalate::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // the demo has the screen to itself
    let usual = if matches!(cli.command, Command::Demo(_)) {
        "error"
    } else {
        "info"
    };
    logs::start(cli.log_format, usual);
    let ok = |()| ExitCode::SUCCESS;
    exit(match cli.command {
        #[cfg(feature = "kafka")]
        Command::Run(args) => run::run(&args).map(ok),
        Command::Replay(args) => replay::replay(&args).map(ok),
        Command::Explain(args) => explain::explain(&args).map(ok),
        Command::Console(args) => console::console(&args).map(ok),
        Command::Keys(args) => keys::keys(&args).map(ok),
        Command::Ledger(args) => ledger::ledger(&args),
        Command::Audit(args) => audit::audit(&args),
        Command::Playbook(args) => playbook::playbook(&args),
        Command::Policy(args) => policy::policy(&args),
        Command::Trust(args) => trust::trust(&args).map(ok),
        Command::Report(args) => trust::report(&args).map(ok),
        Command::People(word) => people::say(&word).map(ok),
        Command::Change(args) => change::change(&args).map(ok),
        Command::Receive(args) => receive::receive(&args).map(ok),
        Command::Train(args) => train::train(&args).map(ok),
        Command::Plot(args) => plot::plot(&args).map(ok),
        Command::Demo(args) => demo::demo(&args),
        Command::Check(args) => check::check(&args),
        Command::Acl(args) => acl::acl(&args).map(ok),
        Command::Schema => check::schema().map(ok),
        #[cfg(feature = "history")]
        Command::Query(args) => query::query(&args).map(ok),
        #[cfg(feature = "kafka")]
        Command::Execute(args) => execute::execute(&args).map(ok),
        #[cfg(feature = "kafka")]
        Command::Escalate(args) => escalate::escalate(&args).map(ok),
    })
}

/// Says what went wrong, if anything, and with which exit code to leave: 78 for a pipeline file that can't be right, 1 for
/// anything else.
fn exit(done: anyhow::Result<ExitCode>) -> ExitCode {
    let error = match done {
        Ok(code) => return code,
        Err(error) => error,
    };
    if let Some(BadPipeline(problems)) = error.downcast_ref() {
        tell(format_args!("{}", check::render(problems)));
        return ExitCode::from(EXIT_CONFIG);
    }
    tell(format_args!("suture: {error:#}\n"));
    ExitCode::FAILURE
}

/// Writes to standard error, if it is open.
fn tell(what: std::fmt::Arguments<'_>) {
    use std::io::Write as _;
    let _ = std::io::stderr().write_fmt(what);
}
