//! The mapping as a pipeline file writes it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where in a JSON record a sample's parts are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fields {
    /// Path to an array of samples in each record. Without it the record is a sample, an array of samples, or several joined by
    /// line ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub each: Option<Path>,
    /// Path to the metric's name. Without it a metric is called as the field that its value is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<Path>,
    /// Path to the value, or a list of paths, up to 16. An object there is a sample for each number in it.
    pub value: Paths,
    /// Path to the time: a number since the epoch, whose unit its size tells, or RFC 3339.
    pub time: Path,
    /// Path to the labels, or a list of paths, up to 16: to objects of them, or to single ones, which have the names of their
    /// fields.
    #[serde(default)]
    pub labels: Paths,
}

/// A path into an object: names joined by dots, or, where a name has a dot in it, a JSON pointer such as `/http.status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Path(#[schemars(regex(pattern = r"^(/[^/]+)+$|^[^./][^.]*(\.[^.]+)*$"))] String);

impl Path {
    /// A path as it is written in a pipeline file.
    #[must_use]
    pub fn new(path: impl Into<String>) -> Self {
        Self(path.into())
    }

    /// The names on the way.
    pub(super) fn segments(&self) -> Vec<String> {
        match self.0.strip_prefix('/') {
            // RFC 6901
            Some(pointer) => pointer
                .split('/')
                .map(|name| name.replace("~1", "/").replace("~0", "~"))
                .collect(),
            None => self.0.split('.').map(str::to_owned).collect(),
        }
    }
}

/// A path, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Paths {
    /// One.
    One(Path),
    /// Several.
    Several(#[schemars(length(max = 16))] Vec<Path>),
}

impl Default for Paths {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

impl Paths {
    pub(super) fn segments(&self) -> Vec<Vec<String>> {
        match self {
            Self::One(path) => vec![path.segments()],
            Self::Several(paths) => paths.iter().map(Path::segments).collect(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Several(paths) if paths.is_empty())
    }
}
