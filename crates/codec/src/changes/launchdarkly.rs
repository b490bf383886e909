//! LaunchDarkly's webhook, which posts entries of its audit log. They arrive out of order: `date` is what counts.
//! <https://launchdarkly.com/docs/home/infrastructure/webhooks>

use serde_json::Value;
use suture_event::{Change, ChangeKind};

use super::{ChangeEvent, DecodeError, NO_ID, ignored, required, text, time};

/// What is done to a flag that changes nothing of what it does.
const COSMETIC: [&str; 8] = [
    "updateName",
    "updateDescription",
    "updateTags",
    "updateMaintainer",
    "updateTemporary",
    "updateDeprecated",
    "updateFlagDefaultVariations",
    "updateFlagCustomProperties",
];

pub(super) fn read(event: &Value) -> Result<ChangeEvent, DecodeError> {
    let help = "LaunchDarkly writes what an entry is about";
    let kind = required(text(event, &["kind"]), "kind", help)?;
    if kind != "flag" {
        return ignored(kind);
    }
    let accesses = event["accesses"].as_array().map(Vec::as_slice).unwrap_or_default();
    let told = |access: &Value| text(access, &["action"]).is_none_or(|action| !COSMETIC.contains(&action));
    let Some(access) = accesses.iter().find(|access| told(access)) else {
        let action = accesses.iter().find_map(|access| text(access, &["action"]));
        return ignored(format!("flag {}", action.unwrap_or("without an action")));
    };
    let id = required(text(event, &["_id"]), "_id", NO_ID)?;
    let first = event["target"]["resources"]
        .as_array()
        .and_then(|resources| resources.first()?.as_str());
    let resource = text(access, &["resource"]).or(first);
    let resource = required(resource, "accesses.resource", "LaunchDarkly writes which flag it is")?;
    // proj/NAME:env/NAME:flag/NAME, each perhaps with ;tags
    let part = |kind: &str| {
        let found = resource
            .split(':')
            .find_map(|part| part.strip_prefix(kind)?.strip_prefix('/'));
        found
            .and_then(|part| part.split(';').next())
            .filter(|name| !name.is_empty() && *name != "*")
    };
    let tags = event["currentVersion"]["tags"].as_array().into_iter().flatten();
    let tagged = tags
        .filter_map(|tag| tag.as_str()?.strip_prefix("service:"))
        .find(|name| !name.trim().is_empty());
    let service = tagged
        .map(str::trim)
        .or_else(|| part("proj").filter(|project| *project != "default"));
    let help = "give the flag a tag such as service:checkout, by the name that the service's telemetry has";
    Ok(ChangeEvent::Change(Change {
        id: format!("launchdarkly:{id}").into(),
        at: time(event.get("date"), "date")?,
        kind: ChangeKind::Flag,
        service: required(service, "currentVersion.tags", help)?.into(),
        environment: part("env").map(Into::into),
        artifact: part("flag").map(Into::into),
        source: text(event, &["accountId"])
            .map_or_else(|| "launchdarkly".into(), |id| format!("launchdarkly:{id}").into()),
        event_type: format!("launchdarkly.{}", text(access, &["action"]).unwrap_or("flag")).into(),
    }))
}
