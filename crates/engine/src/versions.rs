//! Versions of services, on their way from the repartition stage to the first fold.

use suture_codec::ServiceVersion;
use suture_event::Headers;

/// The header of a record that holds versions of services seen, as JSON.
pub const VERSIONS_HEADER: &str = "suture_versions";

/// The versions of services that a record of the topic in between carries; what cannot be read is not there.
pub(crate) fn versions_of(headers: Headers<'_>) -> Vec<ServiceVersion> {
    let header = headers.get(VERSIONS_HEADER);
    header
        .and_then(|value| serde_json::from_slice(value).ok())
        .unwrap_or_default()
}
