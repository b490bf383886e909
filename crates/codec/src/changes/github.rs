//! GitHub's webhooks of deployments. <https://docs.github.com/en/webhooks/webhook-events-and-payloads#deployment_status>
//!
//! A deployment that was asked for, its rollout that began (`in_progress`) and that it is there (`success`) are a change each,
//! since minutes may lie between; other states change nothing that runs.

use serde_json::Value;
use suture_event::{Change, ChangeKind};

use super::{ChangeEvent, DecodeError, NO_ID, NO_SERVICE, ignored, name, number, required, text, time};

pub(super) fn read(event: &Value) -> Result<ChangeEvent, DecodeError> {
    let deployment = &event["deployment"];
    if !deployment.is_object() {
        return ignored(match text(event, &["action"]) {
            Some(action) => format!("no deployment, but an action {action}"),
            None => "no deployment".to_owned(),
        });
    }
    let status = Some(&event["deployment_status"]).filter(|status| status.is_object());
    let id = required(number(deployment, &["id"]), "deployment.id", NO_ID)?;
    let place = required(text(event, &["repository", "full_name"]), "repository.full_name", NO_ID)?;
    let (id, at, event_type) = match status {
        Some(status) => {
            let help = "GitHub writes one of its states";
            let state = required(text(status, &["state"]), "deployment_status.state", help)?;
            if !matches!(state, "in_progress" | "success") {
                return ignored(format!("deployment_status {state}"));
            }
            let at = time(status.get("created_at"), "deployment_status.created_at")?;
            (
                format!("github:{place}/deployments/{id}/{state}"),
                at,
                "github.deployment_status",
            )
        }
        None => {
            let at = time(deployment.get("created_at"), "deployment.created_at")?;
            (format!("github:{place}/deployments/{id}"), at, "github.deployment")
        }
    };
    // what it carries may be an object, or the text of one
    let payload = &deployment["payload"];
    let carried: Option<Value> = payload.as_str().and_then(|text| serde_json::from_str(text).ok());
    let told = name(carried.as_ref().unwrap_or(payload), &["service"]);
    let service = told.or_else(|| name(event, &["repository", "name"]));
    let task = text(deployment, &["task"]).unwrap_or_default();
    Ok(ChangeEvent::Change(Change {
        id: id.into(),
        at,
        kind: if task.contains("rollback") {
            ChangeKind::Rollback
        } else {
            ChangeKind::Deploy
        },
        service: required(service, "repository.name", NO_SERVICE)?,
        environment: name(deployment, &["environment"]),
        artifact: name(deployment, &["sha"]),
        source: name(event, &["repository", "html_url"]).unwrap_or_else(|| place.into()),
        event_type: event_type.into(),
    }))
}
