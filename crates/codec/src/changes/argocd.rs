//! Argo CD's applications. What its notifications send is up to their templates; this reads the application itself:
//!
//! ```yaml
//! template.suture: |
//!   webhook:
//!     suture: {method: POST, body: '{{ toJson .app }}'}
//! ```
//!
//! A sync that runs, and one that succeeded, are a change each. <https://argo-cd.readthedocs.io/en/stable/operator-manual/notifications/services/webhook/>

use serde_json::Value;
use suture_event::{Change, ChangeKind};

use super::{
    ChangeEvent, DecodeError, NO_ID, NO_SERVICE, ignored, kubernetes::environment, name, required, text, time,
};

/// The application that an announcement is or holds.
pub(super) fn application(event: &Value) -> Option<&Value> {
    let held = ["app", "application", "object", "data"]
        .iter()
        .map(|name| &event[*name]);
    std::iter::once(event)
        .chain(held)
        .find(|object| object["kind"] == "Application" && object["metadata"].is_object())
}

pub(super) fn read(event: &Value) -> Result<ChangeEvent, DecodeError> {
    let help = "send the application as the template's body: {{ toJson .app }}";
    let app = required(application(event), "kind", help)?;
    let state = &app["status"]["operationState"];
    let phase = text(state, &["phase"]).unwrap_or("no operation");
    let (field, when) = match phase {
        "Succeeded" => ("status.operationState.finishedAt", state.get("finishedAt")),
        "Running" => ("status.operationState.startedAt", state.get("startedAt")),
        other => return ignored(format!("application with {other}")),
    };
    let started = required(text(state, &["startedAt"]), "status.operationState.startedAt", NO_ID)?;
    let service = required(name(app, &["metadata", "name"]), "metadata.name", NO_SERVICE)?;
    let namespace = text(app, &["metadata", "namespace"]).unwrap_or("argocd");
    let revision = name(state, &["syncResult", "revision"]).or_else(|| name(app, &["status", "sync", "revision"]));
    Ok(ChangeEvent::Change(Change {
        id: format!("argocd:{namespace}/{service}/{started}/{phase}").into(),
        at: time(when, field)?,
        kind: ChangeKind::Deploy,
        environment: environment(&app["metadata"]),
        artifact: revision,
        source: name(app, &["spec", "source", "repoURL"]).unwrap_or_else(|| "argocd".into()),
        event_type: "argocd.sync".into(),
        service,
    }))
}
