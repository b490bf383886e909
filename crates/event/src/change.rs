//! Deploys and other changes, and who calls whom.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{SignalKind, Timestamp};

/// What was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// A version of a service was deployed or upgraded.
    Deploy,
    /// A service was rolled back to an earlier version.
    Rollback,
    /// A service was removed.
    Removal,
    /// An environment or a setting was changed.
    Config,
    /// A feature flag was flipped.
    Flag,
    /// Anything else.
    Other,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// The event's own id.
    pub id: Arc<str>,
    /// When it happened.
    pub at: Timestamp,
    /// What was changed.
    pub kind: ChangeKind,
    /// The service it was made to.
    pub service: Arc<str>,
    /// The environment, where the event names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Arc<str>>,
    /// The artifact or version that came in, where the event names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Arc<str>>,
    /// Who says so: the event's source.
    pub source: Arc<str>,
    /// The event's type as it was written.
    pub event_type: Arc<str>,
}

/// Where a call edge is known from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EdgeSource {
    /// A topology file.
    File,
    /// Telemetry whose labels name both sides.
    Telemetry,
    /// Spans.
    Spans,
}

/// A service has telemetry of its own, of this kind: its silence about it is then good news.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Watched {
    /// The service; absent for series that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Arc<str>>,
    /// What is measured of it.
    pub kind: SignalKind,
}

/// `from` calls `to`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Edge {
    /// The caller.
    pub from: Arc<str>,
    /// The callee.
    pub to: Arc<str>,
    /// Where this is known from.
    pub source: EdgeSource,
}
