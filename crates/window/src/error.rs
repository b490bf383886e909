use crate::Problem;

/// What can go wrong with windows. Samples never fail: what can't be taken in is counted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The options contradict themselves.
    #[error("window options: {}", problems.iter().map(|p| format!("{}: {} ({})", p.path, p.message, p.help)).collect::<Vec<_>>().join("; "))]
    Options {
        /// Everything that is wrong with them.
        problems: Vec<Problem>,
    },
    /// A row that was never given by `add_series`, or is still in use.
    #[error("row {row} can't be reused: it is {state}; only rows that were reported as forgotten can")]
    Row {
        /// The row.
        row: u32,
        /// What it is instead.
        state: &'static str,
    },
    /// The snapshot is of windows of another shape.
    #[error(
        "the snapshot's {what} is {found}, these windows' is {expected}: start cold, or go back to the former options"
    )]
    Shape {
        /// Which option or version differs.
        what: &'static str,
        /// What the snapshot has.
        found: String,
        /// What was asked for.
        expected: String,
    },
    /// The snapshot's bytes are damaged.
    #[error("the snapshot of the windows can't be read: {0}: start cold or from an earlier snapshot")]
    Damaged(String),
    /// Arrow could not write or read the snapshot.
    #[error("the snapshot of the windows: {0}")]
    Arrow(#[from] arrow_schema::ArrowError),
}
