//! GitLab's webhook of deployments. <https://docs.gitlab.com/user/project/integrations/webhook_events/#deployment-events>
//!
//! That one runs and that it is there (`success`) are a change each; other states change nothing that runs.

use serde_json::Value;
use suture_event::{Change, ChangeKind};

use super::{ChangeEvent, DecodeError, NO_ID, NO_SERVICE, ignored, name, number, required, text, time};

pub(super) fn read(event: &Value) -> Result<ChangeEvent, DecodeError> {
    let help = "GitLab writes which of its events this is";
    let kind = required(text(event, &["object_kind"]), "object_kind", help)?;
    if kind != "deployment" {
        return ignored(kind);
    }
    let status = required(text(event, &["status"]), "status", "GitLab writes one of its states")?;
    if !matches!(status, "running" | "success") {
        return ignored(format!("deployment {status}"));
    }
    let project = required(
        text(event, &["project", "path_with_namespace"]),
        "project.path_with_namespace",
        NO_SERVICE,
    )?;
    let id = required(number(event, &["deployment_id"]), "deployment_id", NO_ID)?;
    let service = project.rsplit('/').next().filter(|service| !service.is_empty());
    Ok(ChangeEvent::Change(Change {
        id: format!("gitlab:{project}/deployments/{id}/{status}").into(),
        at: time(event.get("status_changed_at"), "status_changed_at")?,
        kind: ChangeKind::Deploy,
        service: required(service, "project.path_with_namespace", NO_SERVICE)?.into(),
        environment: name(event, &["environment"]),
        artifact: name(event, &["short_sha"]),
        source: name(event, &["project", "web_url"]).unwrap_or_else(|| project.into()),
        event_type: "gitlab.deployment".into(),
    }))
}
