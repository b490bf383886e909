//! Notifications of runs, as HCP Terraform and Terraform Enterprise post them.
//! <https://developer.hashicorp.com/terraform/cloud-docs/api-docs/notification-configurations#notification-payload>

use serde_json::Value;
use suture_event::{Change, ChangeKind};

use super::{ChangeEvent, DecodeError, NO_ID, NO_SERVICE, ignored, name, required, text, time};

pub(super) fn read(event: &Value) -> Result<ChangeEvent, DecodeError> {
    let notifications = event["notifications"].as_array();
    let first = notifications.and_then(|notifications| notifications.first());
    let help = "Terraform writes what happened to the run";
    let notification = required(first, "notifications", help)?;
    let status = text(notification, &["run_status"]);
    if status != Some("applied") {
        let trigger = text(notification, &["trigger"]).unwrap_or("a notification");
        return ignored(format!("{trigger} ({})", status.unwrap_or("no run")));
    }
    let run = required(name(event, &["run_id"]), "run_id", NO_ID)?;
    Ok(ChangeEvent::Change(Change {
        id: format!("terraform:{run}").into(),
        at: time(notification.get("run_updated_at"), "notifications.run_updated_at")?,
        kind: ChangeKind::Config,
        service: required(name(event, &["workspace_name"]), "workspace_name", NO_SERVICE)?,
        environment: None,
        artifact: Some(run),
        source: name(event, &["run_url"])
            .or_else(|| name(event, &["organization_name"]))
            .unwrap_or_else(|| "terraform".into()),
        event_type: "terraform.applied".into(),
    }))
}
