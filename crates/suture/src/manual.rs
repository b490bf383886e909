//! `suture completions` and `suture man`: what packages ship beside the program, made from the commands themselves.

use std::path::PathBuf;

use anyhow::Context;
use clap_complete::Shell;

use crate::command;

/// Prints completions for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  suture completions bash > /etc/bash_completion.d/suture")]
pub(crate) struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

/// Writes the manual pages, one a command.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  suture man /usr/local/share/man/man1")]
pub(crate) struct ManArgs {
    /// The folder for them; made where it is missing.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Prints what a shell completes from.
pub(crate) fn completions(args: &CompletionsArgs) {
    clap_complete::generate(args.shell, &mut command(), "suture", &mut std::io::stdout());
}

/// Writes `suture.1` and a page for each command.
pub(crate) fn man(args: &ManArgs) -> anyhow::Result<()> {
    std::fs::create_dir_all(&args.folder)
        .with_context(|| format!("cannot make the folder {}", args.folder.display()))?;
    clap_mangen::generate_to(command(), &args.folder)
        .with_context(|| format!("cannot write to {}", args.folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_and_is_completed() {
        let folder = tempfile::tempdir().unwrap();
        man(&ManArgs {
            folder: folder.path().to_owned(),
        })
        .unwrap();
        let mut script = Vec::new();
        clap_complete::generate(Shell::Bash, &mut command(), "suture", &mut script);
        let script = String::from_utf8(script).unwrap();
        for command in command().get_subcommands() {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "suture {name} does not say what it does");
            let page = std::fs::read_to_string(folder.path().join(format!("suture-{name}.1"))).unwrap();
            assert!(page.contains(".SH NAME"), "{name}");
            assert!(script.contains(name), "{name}");
        }
    }

    #[test]
    fn commands_hold_together() {
        command().debug_assert();
    }
}
