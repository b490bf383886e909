//! Logs, to standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// How logs are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For eyes.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging. What is logged is set by `RUST_LOG`; `usual` where that is absent or can't be read.
pub(crate) fn start(format: Format, usual: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usual));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // a file, a pipe or a collector of logs would take colours for text; NO_COLOR is what people set who want none
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty()))
        // what cannot be written is let go: there is nowhere left to say so, and trying to would end the thread that logs
        .log_internal_errors(false);
    // a second start, as in tests, changes nothing
    let _ = match format {
        Format::Text => logs.with_target(false).try_init(),
        Format::Json => logs.json().try_init(),
    };
}
