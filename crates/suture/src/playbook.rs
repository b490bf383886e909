//! `suture playbook lint`: what keeps playbooks from doing what they are for.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;

use crate::{EXIT_CONFIG, check::Format};

/// Looks playbooks through.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Debug, clap::Subcommand)]
enum Sub {
    /// Say what each playbook's safety case lacks or only holds a place for, and where it asks for more than its verb gives.
    /// What is told of here can only advise. Exit code 0 where there is nothing to say, 78 where there is.
    Lint {
        /// Pipeline files, or files with their `remediate` section alone, as in pipelines/playbooks.
        #[arg(required = true, value_name = "FILE.yaml")]
        files: Vec<PathBuf>,
        /// How problems are written.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

/// Does what is asked with playbooks.
pub(crate) fn playbook(args: &Args) -> anyhow::Result<ExitCode> {
    let Sub::Lint { files, format } = &args.command;
    let (mut bad, mut all) = (false, Vec::new());
    for path in files {
        let name = path.display().to_string();
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {name}"))?;
        let (count, problems) = match suture_config::decode(&name, &bytes) {
            Ok(text) => {
                let linted = suture_config::lint(&name, text, &|name| std::env::var(name).ok());
                (linted.playbooks.len(), linted.problems)
            }
            Err(problems) => (0, problems),
        };
        bad |= !problems.is_empty();
        match format {
            Format::Json => {
                for problem in problems.iter() {
                    all.push(serde_json::to_value(problem)?);
                }
            }
            Format::Text if problems.is_empty() => println!("{name}: {count} playbooks, nothing is missing"),
            Format::Text => print!("{}", crate::check::render(&problems, &std::io::stdout())),
        }
    }
    if *format == Format::Json {
        println!("{}", serde_json::to_string_pretty(&all)?);
    }
    Ok(if bad {
        ExitCode::from(EXIT_CONFIG)
    } else {
        ExitCode::SUCCESS
    })
}
