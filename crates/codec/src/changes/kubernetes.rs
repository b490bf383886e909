//! Rollouts in Kubernetes: objects that run pods, as they are or as watch events (`{"type", "object"}`) hand them on.
//!
//! A revision is one change, at the time of the first object that shows it; what follows, until its pods run, has the same
//! id. A Deployment and an Argo Rollout tell that time by their condition `Progressing`; StatefulSets and DaemonSets by when
//! their specification was last written.
//! <https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#deployment-status>

use std::sync::Arc;

use serde_json::Value;
use suture_event::{Change, ChangeKind, Timestamp};

use super::{ChangeEvent, DecodeError, NO_ID, NO_SERVICE, ignored, name, number, required, text, time};

/// The object that an announcement is or holds.
pub(super) fn workload(event: &Value) -> Option<&Value> {
    let held = ["object", "rollout", "deployment", "data"]
        .iter()
        .map(|name| &event[*name]);
    std::iter::once(event).chain(held).find(|object| {
        let runs = matches!(
            text(object, &["kind"]),
            Some("Deployment" | "StatefulSet" | "DaemonSet" | "Rollout")
        );
        runs && object["metadata"].is_object()
    })
}

/// The environment, where labels name one. A namespace is none: two scopes would never meet if it was called otherwise.
pub(super) fn environment(metadata: &Value) -> Option<Arc<str>> {
    let label = |label: &str| name(metadata, &["labels", label]);
    label("environment").or_else(|| label("env"))
}

pub(super) fn read(event: &Value) -> Result<ChangeEvent, DecodeError> {
    let Some(object) = workload(event) else {
        let kind = text(event, &["kind"]).or_else(|| text(event, &["object", "kind"]));
        return match kind {
            Some(kind) => ignored(format!("a {kind}")),
            None => Err(DecodeError::Missing {
                field: "kind",
                help: "send an object of Kubernetes, or a watch event of one",
            }),
        };
    };
    let metadata = &object["metadata"];
    let kind = text(object, &["kind"]).unwrap_or_default();
    let deleted = event["type"] == "DELETED" || !metadata["deletionTimestamp"].is_null();
    let generation = metadata["generation"].as_u64();
    if !deleted && object["status"]["observedGeneration"].as_u64() < generation {
        return ignored(format!("a {kind} that its controller has not seen yet"));
    }
    let annotation = |annotation: &str| name(metadata, &["annotations", annotation]);
    let service = annotation("resource.opentelemetry.io/service.name")
        .or_else(|| name(metadata, &["labels", "app.kubernetes.io/name"]))
        .or_else(|| name(metadata, &["name"]));
    let service = required(service, "metadata.name", NO_SERVICE)?;
    let uid = required(text(metadata, &["uid"]), "metadata.uid", NO_ID)?;
    let (id, at, change) = if deleted {
        // one that nothing waits for is gone without a time
        let Some(written) = metadata.get("deletionTimestamp").filter(|written| !written.is_null()) else {
            return ignored(format!("a {kind} that was deleted, without a time"));
        };
        let at = time(Some(written), "metadata.deletionTimestamp")?;
        (format!("kubernetes:{uid}/deleted"), at, ChangeKind::Removal)
    } else {
        let revision = annotation("deployment.kubernetes.io/revision")
            .or_else(|| annotation("rollout.argoproj.io/revision"))
            .or_else(|| name(object, &["status", "updateRevision"]))
            .or_else(|| number(metadata, &["generation"]).map(Into::into));
        let revision = required(revision, "metadata.generation", NO_ID)?;
        let Some(at) = rolled_out(object)? else {
            return ignored(format!("a {kind} whose rollout has no time"));
        };
        (format!("kubernetes:{uid}/{revision}"), at, ChangeKind::Deploy)
    };
    let containers = object["spec"]["template"]["spec"]["containers"].as_array();
    let image = containers.and_then(|containers| name(containers.first()?, &["image"]));
    Ok(ChangeEvent::Change(Change {
        id: id.into(),
        at,
        kind: change,
        service,
        environment: environment(metadata),
        artifact: image,
        source: name(metadata, &["namespace"]).unwrap_or_else(|| "kubernetes".into()),
        event_type: format!("kubernetes.{kind}").into(),
    }))
}

/// When the revision at hand was last on its way.
fn rolled_out(object: &Value) -> Result<Option<Timestamp>, DecodeError> {
    let conditions = object["status"]["conditions"].as_array();
    let progressing = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == "Progressing");
    if let Some(condition) = progressing {
        let written = condition
            .get("lastUpdateTime")
            .or_else(|| condition.get("lastTransitionTime"));
        return time(written, "status.conditions.lastUpdateTime").map(Some);
    }
    let metadata = &object["metadata"];
    let writes = metadata["managedFields"].as_array().into_iter().flatten();
    let of_spec = writes.filter(|write| write.get("subresource").is_none_or(Value::is_null));
    let last = of_spec.filter_map(|write| time(write.get("time"), "time").ok()).max();
    match last {
        None if metadata["generation"] == 1 => {
            time(metadata.get("creationTimestamp"), "metadata.creationTimestamp").map(Some)
        }
        last => Ok(last),
    }
}
