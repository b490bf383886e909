//! The program: its commands.

mod acl;
mod announce;
mod audit;
mod backtest;
mod change;
mod check;
mod console;
mod demo;
#[cfg(test)]
mod docs;
#[cfg(feature = "kafka")]
mod escalate;
#[cfg(feature = "kafka")]
mod execute;
mod explain;
mod feed;
mod init;
mod keys;
mod ledger;
mod logs;
mod manual;
mod pass;
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
mod status;
mod tail;
mod tap;
mod test;
mod train;
mod trust;
mod tune;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
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
    Backtest(backtest::Args),
    Tune(tune::Args),
    Test(test::Args),
    Init(init::Args),
    Status(status::Args),
    Tail(tail::Args),
    Tap(tap::Args),
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
    Completions(manual::CompletionsArgs),
    Man(manual::ManArgs),
    #[cfg(feature = "history")]
    Query(query::Args),
    #[cfg(feature = "kafka")]
    Execute(execute::Args),
    #[cfg(feature = "kafka")]
    Escalate(escalate::Args),
}

/// An example of each command whose own file gives none: what a user types first.
const EXAMPLES: &[(&str, &str)] = &[
    (
        "run",
        "suture run pipeline.yaml --create-topics --metrics 127.0.0.1:9464",
    ),
    (
        "replay",
        "suture replay --pipeline pipeline.yaml --telemetry telemetry.ndjson --changes changes.ndjson --out found",
    ),
    ("policy", "suture policy test pipeline.yaml"),
    ("escalate", "suture escalate pipeline.yaml"),
    (
        "audit",
        "suture audit --pipeline pipeline.yaml --since 2026-11-01T00:00:00Z",
    ),
    ("keys", "suture keys new ann --role person --out ann.key"),
    ("ledger", "suture ledger verify --pipeline pipeline.yaml"),
    ("playbook", "suture playbook lint pipelines/playbooks/releases.yaml"),
    ("trust", "suture trust --pipeline pipeline.yaml"),
    ("report", "suture report --pipeline pipeline.yaml"),
    (
        "approve",
        "suture approve ACTION --pipeline pipeline.yaml --key ann.key --reason 'the evidence is plain'",
    ),
    (
        "deny",
        "suture deny ACTION --pipeline pipeline.yaml --key ann.key --reason 'not now'",
    ),
    (
        "undo",
        "suture undo ACTION --pipeline pipeline.yaml --key ann.key --reason 'it made things worse'",
    ),
    (
        "freeze",
        "suture freeze --pipeline pipeline.yaml --key ann.key --reason 'a storm'",
    ),
    (
        "thaw",
        "suture thaw --pipeline pipeline.yaml --key ann.key --reason 'it is over'",
    ),
    (
        "ack",
        "suture ack INCIDENT --pipeline pipeline.yaml --key ann.key --reason 'I am on it'",
    ),
    (
        "label",
        "suture label INCIDENT false_alarm --pipeline pipeline.yaml --key ann.key --reason 'a drill'",
    ),
    (
        "change",
        "suture change --service checkout --version 1.2 --pipeline pipeline.yaml",
    ),
    (
        "receive",
        "suture receive --listen 0.0.0.0:8088 --github-secret-file github.secret --pipeline pipeline.yaml",
    ),
    (
        "train",
        "suture train --pipeline pipeline.yaml --telemetry telemetry.ndjson --out shop.model",
    ),
    ("plot", "suture plot --replay found --metric cpu --out cpu.svg"),
    ("demo", "suture demo --seed 3"),
    ("check", "suture check pipeline.yaml --estimate"),
    ("acl", "suture acl pipeline.yaml --produce User:collector"),
    ("schema", "suture schema > pipeline.schema.json"),
    (
        "query",
        "suture query 'SELECT metric, count(*) FROM anomalies GROUP BY metric' --dir found",
    ),
    ("execute", "suture execute pipeline.yaml --dry-run"),
];

/// The command line, with an example for each command.
fn command() -> clap::Command {
    let mut cli = Cli::command();
    for (name, example) in EXAMPLES {
        if cli
            .find_subcommand(name)
            .is_some_and(|known| known.get_after_help().is_none())
        {
            cli = cli.mut_subcommand(name, |known| known.after_help(format!("Example:\n  {example}")));
        }
    }
    cli
}

fn main() -> ExitCode {
    let cli = command().get_matches();
    let cli = Cli::from_arg_matches(&cli).unwrap_or_else(|error| error.exit());
    // the demo has the screen to itself
    let usual = if matches!(&cli.command, Command::Demo(args) if !args.is_feed()) {
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
        Command::Backtest(args) => backtest::backtest(&args).map(ok),
        Command::Tune(args) => tune::tune(&args),
        Command::Test(args) => test::test(&args),
        Command::Init(args) => init::init(&args).map(ok),
        Command::Status(args) => status::status(&args).map(ok),
        Command::Tail(args) => tail::tail(&args).map(ok),
        Command::Tap(args) => tap::tap(&args).map(ok),
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
        Command::Completions(args) => {
            manual::completions(&args);
            Ok(ExitCode::SUCCESS)
        }
        Command::Man(args) => manual::man(&args).map(ok),
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
        tell(format_args!("{}", check::render(problems, &std::io::stderr())));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_shows_an_example_of_its_own_that_can_be_typed() {
        let cli = command();
        cli.clone().debug_assert();
        for known in cli.get_subcommands() {
            let help = known.get_after_help().map(ToString::to_string).unwrap_or_default();
            let name = known.get_name();
            let lines = help.lines().skip_while(|line| !line.starts_with("Example")).skip(1);
            let lines: Vec<&str> = lines
                .map(str::trim)
                .filter(|line| line.starts_with("suture "))
                .collect();
            assert!(!lines.is_empty(), "{name} has no example: {help:?}");
            for line in lines {
                // as a shell takes it apart, as far as these examples go
                let line = line.split(['>', '#', '&']).next().unwrap_or_default();
                let mut words: Vec<String> = Vec::new();
                for (part, quoted) in line.split('\'').zip([false, true].into_iter().cycle()) {
                    match quoted {
                        true => words.push(part.to_owned()),
                        false => words.extend(part.split_whitespace().map(str::to_owned)),
                    }
                }
                let refused = cli.clone().try_get_matches_from(&words).err();
                assert!(
                    refused.is_none(),
                    "{line}: {}",
                    refused.map_or_else(String::new, |error| error.to_string())
                );
            }
        }
    }
}
