//! Changes as tools announce them, and which tool an announcement is of.
//!
//! | module | announces | change | service |
//! | --- | --- | --- | --- |
//! | `github` | webhooks `deployment` and `deployment_status` | deploy, or rollback where the task says so | `deployment.payload.service`, else the repository's name |
//! | `gitlab` | webhook of deployments | deploy | the project's path, its last part |
//! | `argocd` | the application, as a notification's template gives it | deploy | the application's name |
//! | `flux` | events of the notification controller | deploy, rollback, removal | the object's name |
//! | `kubernetes` | Deployments, StatefulSets, DaemonSets and Argo's Rollouts, as they are or as watch events | deploy, removal | annotation `resource.opentelemetry.io/service.name`, label `app.kubernetes.io/name`, or the name |
//! | `launchdarkly` | webhook of the audit log | flag | the flag's tag `service:NAME`, else the project |
//! | `terraform` | notifications of runs | config | the workspace |
//! | `plain` | `{"service", "version", "kind", "environment", "time"}` | as it says | as it says |
//!
//! Any may be in a CloudEvents envelope, structured or binary. What is well-formed and changes nothing that runs is passed
//! over with a reason; what is to be a change and lacks its service or its time is refused. An announcement that is made again
//! has the same id, and diagnosis counts it once.
//!
//! Objects of these tools have many more fields than are read here: fields that are not known are passed over.

mod argocd;
mod flux;
mod github;
mod gitlab;
mod kubernetes;
mod launchdarkly;
mod plain;
mod terraform;

use std::sync::Arc;

use serde_json::Value;
use suture_event::{Headers, Timestamp};

use crate::{ChangeDecoder, ChangeEvent, ChangeFormat, DecodeError, Format, cdevents, cloudevents, sample::excerpt};

/// Reads announcements of one tool.
#[derive(Debug, Clone, Copy)]
pub struct Decoder {
    format: Format,
    read: fn(&Value) -> Result<ChangeEvent, DecodeError>,
}

macro_rules! decoders {
    ($($(#[$doc:meta])* $name:ident, $text:literal, $module:ident;)*) => {
        $($(#[$doc])* pub const $name: Decoder = Decoder { format: Format($text), read: $module::read };)*
    };
}

decoders! {
    /// Of GitHub.
    GITHUB, "GitHub webhook", github;
    /// Of GitLab.
    GITLAB, "GitLab webhook", gitlab;
    /// Of Argo CD.
    ARGOCD, "Argo CD application", argocd;
    /// Of Flux.
    FLUX, "Flux event", flux;
    /// Of Kubernetes.
    KUBERNETES, "Kubernetes object", kubernetes;
    /// Of LaunchDarkly.
    LAUNCHDARKLY, "LaunchDarkly webhook", launchdarkly;
    /// Of Terraform.
    TERRAFORM, "Terraform notification", terraform;
    /// Of nobody's in particular.
    PLAIN, "change in JSON", plain;
}

impl ChangeDecoder for Decoder {
    fn decode(&self, headers: Headers<'_>, value: Option<&[u8]>) -> Result<ChangeEvent, DecodeError> {
        let named = headers.iter().map(|(name, value)| (name, value.unwrap_or_default()));
        let envelope = cloudevents::read(named, value)?;
        (self.read)(&parsed(self.format, &envelope.data)?)
    }
}

/// Reads announcements of any tool, each by what is in it.
#[derive(Debug, Clone, Copy)]
pub struct Any;

impl ChangeDecoder for Any {
    fn decode(&self, headers: Headers<'_>, value: Option<&[u8]>) -> Result<ChangeEvent, DecodeError> {
        const FORMAT: Format = Format("change of any format that is known");
        let named = || headers.iter().map(|(name, value)| (name, value.unwrap_or_default()));
        let envelope = cloudevents::read(named(), value)?;
        let event = parsed(FORMAT, &envelope.data)?;
        let sniffed = sniff_change(&event).map_err(|reason| DecodeError::Malformed {
            format: FORMAT,
            at: None,
            reason,
        })?;
        match sniffed.format {
            ChangeFormat::Cdevents => cdevents::decode_record(named(), value),
            other => other.decoder().decode(headers, value),
        }
    }
}

/// What an announcement is taken for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SniffedChange {
    /// The format to name in a pipeline file.
    pub format: ChangeFormat,
    /// By what, in words that follow on "because".
    pub why: &'static str,
}

/// Tells which tool an announcement, out of its envelope, is of.
///
/// # Errors
/// What it looks like and why it is none that is known, in words.
pub fn sniff_change(event: &Value) -> Result<SniffedChange, String> {
    let object = |name: &str| event[name].is_object();
    let text = |name: &str| event[name].is_string();
    let known: &[(ChangeFormat, bool, &str)] = &[
        (
            ChangeFormat::Cdevents,
            object("context") && object("subject"),
            "it has a `context` and a `subject`",
        ),
        (
            ChangeFormat::Github,
            object("deployment") && object("repository"),
            "it has a `deployment` and a `repository`",
        ),
        (ChangeFormat::Gitlab, text("object_kind"), "it has an `object_kind`"),
        (
            ChangeFormat::Argocd,
            argocd::application(event).is_some(),
            "it is or holds an object of kind Application",
        ),
        (
            ChangeFormat::Flux,
            object("involvedObject"),
            "it has an `involvedObject`",
        ),
        (
            ChangeFormat::Kubernetes,
            kubernetes::workload(event).is_some(),
            "it is or holds an object that runs pods",
        ),
        (
            ChangeFormat::Launchdarkly,
            text("accountId") && event["accesses"].is_array(),
            "it has `accountId` and `accesses`",
        ),
        (
            ChangeFormat::Terraform,
            event["notifications"].is_array() && event["payload_version"].is_number(),
            "it has a `payload_version` and `notifications`",
        ),
        (ChangeFormat::Plain, text("service"), "it names a `service`"),
    ];
    if let Some((format, _, why)) = known.iter().find(|(_, fits, _)| *fits) {
        return Ok(SniffedChange { format: *format, why });
    }
    let Some(fields) = event.as_object() else {
        return Err("it is JSON, but no object".to_owned());
    };
    let names: Vec<String> = fields
        .keys()
        .take(8)
        .map(|name| format!("`{}`", excerpt(name)))
        .collect();
    Err(format!(
        "it is JSON with {}, which no tool that is known announces changes by: send service, version, kind, environment and time",
        if names.is_empty() {
            "no fields".to_owned()
        } else {
            names.join(", ")
        }
    ))
}

fn parsed(format: Format, bytes: &[u8]) -> Result<Value, DecodeError> {
    if bytes.trim_ascii().is_empty() {
        return Err(DecodeError::Empty(format));
    }
    let value: Value = serde_json::from_slice(bytes).map_err(|error| DecodeError::of_json(format, bytes, &error))?;
    match value.is_object() {
        true => Ok(value),
        false => Err(DecodeError::Malformed {
            format,
            at: Some(0),
            reason: "not an object".to_owned(),
        }),
    }
}

/// A text that is not empty, at a path of names.
fn text<'v>(value: &'v Value, path: &[&str]) -> Option<&'v str> {
    let found = path
        .iter()
        .try_fold(value, |value, name| value.get(*name))?
        .as_str()?
        .trim();
    (!found.is_empty()).then_some(found)
}

/// The same, owned.
fn name(value: &Value, path: &[&str]) -> Option<Arc<str>> {
    text(value, path).map(Arc::from)
}

/// A text or a whole number, as a text: what tools number their things by.
fn number(value: &Value, path: &[&str]) -> Option<String> {
    let found = path.iter().try_fold(value, |value, name| value.get(*name))?;
    match found {
        Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn required<T>(found: Option<T>, field: &'static str, help: &'static str) -> Result<T, DecodeError> {
    found.ok_or(DecodeError::Missing { field, help })
}

const NO_SERVICE: &str = "a change must name the service it was made to, as its telemetry names it";
const NO_TIME: &str = "say when it was made, as RFC 3339 or a number since the epoch";
const NO_ID: &str = "without it, an announcement that is made again would count twice";

/// A point in time, as RFC 3339 or a number, or as GitLab writes it.
fn time(value: Option<&Value>, field: &'static str) -> Result<Timestamp, DecodeError> {
    let value = required(value.filter(|value| !value.is_null()), field, NO_TIME)?;
    let at = match value {
        Value::String(text) => text.parse().ok().or_else(|| spaced(text)),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Timestamp::from_number(whole).ok(),
            None => number.as_f64().and_then(|number| Timestamp::from_fraction(number).ok()),
        },
        _ => None,
    };
    at.ok_or_else(|| DecodeError::unfit(field, excerpt(&value.to_string()), NO_TIME))
}

/// `2021-04-28 21:50:00 +0200`, or with `UTC` for the offset.
fn spaced(text: &str) -> Option<Timestamp> {
    let mut parts = text.split_whitespace();
    let (date, clock, offset) = (parts.next()?, parts.next()?, parts.next()?);
    let offset = match offset {
        "UTC" => "Z".to_owned(),
        offset => match (offset.get(..3), offset.get(3..)) {
            (Some(hours), Some(minutes)) if minutes.len() == 2 => format!("{hours}:{minutes}"),
            _ => offset.to_owned(),
        },
    };
    parts
        .next()
        .is_none()
        .then(|| format!("{date}T{clock}{offset}").parse().ok())?
}

/// What is passed over, and why.
fn ignored(what: impl Into<String>) -> Result<ChangeEvent, DecodeError> {
    Ok(ChangeEvent::Ignored(excerpt(&what.into())))
}

#[cfg(test)]
mod tests;
