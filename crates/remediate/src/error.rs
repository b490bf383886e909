//! What can be wrong with a remediation section.

/// Something in the options that cannot be, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, from the options' root: `playbooks[2].action.parameters.change`.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

impl Problem {
    pub(crate) fn new(path: impl Into<String>, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
            help: help.into(),
        }
    }
}

/// Why a [`Remediator`](crate::Remediator) could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The options have problems: all of them, in the order of the file.
    #[error("remediate: {}", texts(.0))]
    Options(Vec<Problem>),
}

fn texts(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems
        .iter()
        .map(|p| format!("{}: {}; {}", p.path, p.message, p.help))
        .collect();
    lines.join("\n")
}
