//! Deploys and rollbacks as CDEvents 0.5.

use serde_json::{Value, json};
use suture_event::{Timestamp, canonical};

/// A `dev.cdevents.service.*` event; `what` is `deployed` or `rolledback`.
pub(crate) fn cdevent(what: &str, id: &str, at: Timestamp, service: &str, artifact: &str, environment: &str) -> Value {
    canonical(json!({
        "context": {
            "specversion": "0.5.0",
            "id": id,
            "source": "/ci/release",
            "type": format!("dev.cdevents.service.{what}.0.3.0"),
            "timestamp": at,
        },
        "subject": {
            "id": service,
            "source": "/cluster/shop",
            "content": {"environment": {"id": environment}, "artifactId": artifact},
        },
    }))
}
