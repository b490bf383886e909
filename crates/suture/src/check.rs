//! `suture check` and `suture schema`: what is wrong with a pipeline file, and what may stand in one.

use std::{
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use suture_config::{Look, Problems};
use suture_service::{
    load::{self, examine},
    run,
};

use crate::EXIT_CONFIG;

/// Tells every problem of pipeline files, each with its place.
///
/// Exit code 0 where there is none, 78 where a file can't be right, 1 where a file or (with --connect) the broker can't be
/// read.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The pipeline files.
    #[arg(required = true, value_name = "PIPELINE.yaml")]
    pipelines: Vec<PathBuf>,
    /// How problems are written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Count warnings as errors.
    #[arg(long)]
    strict: bool,
    /// Print each file as it was understood: defaults and variables filled in, secrets masked.
    #[arg(long)]
    explain: bool,
    /// Print how much memory each pipeline may need.
    #[arg(long)]
    estimate: bool,
    /// Also ask the broker: that it is there, that the topics are as they must be, and that they may be used.
    #[cfg(feature = "kafka")]
    #[arg(long)]
    connect: bool,
}

/// How problems are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For eyes, with the place underlined.
    #[default]
    Text,
    /// A JSON list, for editors and CI.
    Json,
}

/// Checks the files and prints what was found.
pub(crate) fn check(args: &Args) -> anyhow::Result<ExitCode> {
    let mut bad = false;
    let mut all = Vec::new();
    for path in &args.pipelines {
        let (pipeline, problems) = examine(path)?;
        bad |= problems.has_errors() || (args.strict && !problems.is_empty());
        match args.format {
            Format::Json => all.extend(
                problems
                    .iter()
                    .map(serde_json::to_value)
                    .collect::<Result<Vec<_>, _>>()?,
            ),
            Format::Text if problems.is_empty() => println!("{}: no problems", path.display()),
            Format::Text => print!("{}", render(&problems, &std::io::stdout())),
        }
        let Some(pipeline) = pipeline else { continue };
        if let Some(file) = &pipeline.model {
            let file = path.parent().unwrap_or(Path::new(".")).join(file);
            if let Err(error) = load::read_model(&file, &pipeline) {
                bad = true;
                crate::tell(format_args!("{}: model: {error:#}\n", path.display()));
            }
        }
        if let Err(error) = run::can_store(&pipeline) {
            // the file may well be right, and be meant for another build
            bad |= args.strict;
            crate::tell(format_args!("{}: {error:#}\n", path.display()));
        }
        if args.explain {
            print!("{}", pipeline.explain());
        }
        if args.estimate {
            println!("{}", serde_json::to_string_pretty(&pipeline.estimate())?);
        }
        #[cfg(feature = "kafka")]
        if args.connect {
            let brokers = pipeline.kafka.client.get("bootstrap.servers");
            let brokers = brokers.map_or("the default broker", String::as_str);
            crate::tell(format_args!("{}: asking {brokers}\n", path.display()));
            for problem in suture_service::topics::connect(&pipeline)? {
                bad = true;
                println!("{}: {problem}", path.display());
            }
        }
    }
    if args.format == Format::Json {
        serde_json::to_writer_pretty(std::io::stdout(), &all)?;
        println!();
    }
    std::io::stdout().flush()?;
    Ok(if bad {
        ExitCode::from(EXIT_CONFIG)
    } else {
        ExitCode::SUCCESS
    })
}

/// Prints the JSON Schema of pipeline files, from which editors complete.
pub(crate) fn schema() -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(&suture_config::schema())?);
    Ok(())
}

/// Problems as they are shown where they go: with colours on a terminal alone.
#[must_use]
pub(crate) fn render(problems: &Problems, to: &impl IsTerminal) -> String {
    let look = if to.is_terminal() {
        let width = ratatui::crossterm::terminal::size().map_or(100, |(columns, _)| usize::from(columns));
        Look::Fancy { width }
    } else {
        Look::Plain
    };
    problems.render(look)
}
