//! Events of Flux's notification controller, as its generic provider posts them.
//! <https://fluxcd.io/flux/components/notification/events/>

use serde_json::Value;
use suture_event::{Change, ChangeKind};

use super::{ChangeEvent, DecodeError, NO_SERVICE, ignored, name, required, text, time};

pub(super) fn read(event: &Value) -> Result<ChangeEvent, DecodeError> {
    let reason = required(text(event, &["reason"]), "reason", "Flux writes one with each event")?;
    let kind = match reason {
        "ReconciliationSucceeded" | "InstallSucceeded" | "UpgradeSucceeded" => ChangeKind::Deploy,
        "RollbackSucceeded" => ChangeKind::Rollback,
        "UninstallSucceeded" => ChangeKind::Removal,
        other => return ignored(other),
    };
    let object = &event["involvedObject"];
    let of = text(object, &["kind"]).unwrap_or_default();
    if !matches!(of, "Kustomization" | "HelmRelease") {
        return ignored(format!("{reason} of a {of}"));
    }
    let service = required(name(object, &["name"]), "involvedObject.name", NO_SERVICE)?;
    let namespace = text(object, &["namespace"]).unwrap_or("default");
    let metadata = &event["metadata"];
    let revision = metadata.as_object().into_iter().flatten();
    let revision = revision.filter(|(name, _)| *name == "revision" || name.ends_with("/revision"));
    let revision = revision
        .filter_map(|(_, value)| value.as_str())
        .find(|text| !text.trim().is_empty());
    let at = time(event.get("timestamp"), "timestamp")?;
    // a revision that is found in place again is no further change
    let which = revision.map_or_else(|| at.to_string(), str::to_owned);
    Ok(ChangeEvent::Change(Change {
        id: format!("flux:{of}/{namespace}/{service}/{which}/{reason}").into(),
        at,
        kind,
        environment: name(metadata, &["environment"]).or_else(|| name(metadata, &["env"])),
        artifact: revision.map(Into::into),
        source: name(event, &["reportingController"]).unwrap_or_else(|| "flux".into()),
        event_type: format!("flux.{reason}").into(),
        service,
    }))
}
