//! A change in the fewest words: `{"service": "cart", "version": "1.2", "kind": "deploy", "environment": "prod", "time": …}`.
//!
//! `service` and `time` must be there. `kind` is `deploy` where it is left out, or `rollback`, `removal`, `config`, `flag` or
//! `other`. `id` and `source` may be given; without an `id` the same five fields are the same change.

use serde::Deserialize;
use serde_json::Value;
use suture_event::{Change, ChangeKind, stable_uuid};

use super::{ChangeEvent, DecodeError, NO_SERVICE, excerpt, name, number, required, time};

pub(super) fn read(event: &Value) -> Result<ChangeEvent, DecodeError> {
    let service = required(name(event, &["service"]), "service", NO_SERVICE)?;
    let at = time(event.get("time"), "time")?;
    let kind = match event.get("kind").filter(|kind| !kind.is_null()) {
        None => ChangeKind::Deploy,
        Some(kind) => ChangeKind::deserialize(kind).map_err(|_| {
            let help = "write deploy, rollback, removal, config, flag or other";
            DecodeError::unfit("kind", excerpt(&kind.to_string()), help)
        })?,
    };
    let artifact = number(event, &["version"]).map(Into::into);
    let environment = name(event, &["environment"]);
    let told = number(event, &["id"]).map(Into::into);
    let id = told.unwrap_or_else(|| {
        let fields = serde_json::json!(["change", service, artifact, kind, environment, at]);
        stable_uuid(&fields.to_string()).to_string().into()
    });
    Ok(ChangeEvent::Change(Change {
        id,
        at,
        kind,
        service,
        environment,
        artifact,
        source: name(event, &["source"]).unwrap_or_else(|| "announced".into()),
        event_type: "change".into(),
    }))
}
