//! What can be wrong with a remediation section.

use suture_event::Problem;

/// Why a [`Remediator`](crate::Remediator) could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The options have problems: all of them, in the order of the file.
    #[error("remediate: {}", Problem::lines(.0))]
    Options(Vec<Problem>),
}
