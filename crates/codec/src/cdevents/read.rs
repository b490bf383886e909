//! From CDEvents to changes, and Suture's own events back to what they hold.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use suture_event::{ActionRequest, Change, ChangeKind, Headers, Incident, Timestamp};

use super::super::{
    ChangeDecoder, ChangeEvent, DecodeError, Format,
    cloudevents::{self, Envelope},
    records,
    sample::excerpt,
};

const FORMAT: Format = Format("CDEvents JSON");

/// Reads CDEvents, plain or in a CloudEvents envelope of either mode.
#[derive(Debug, Clone, Copy, Default)]
pub struct Decoder;

impl ChangeDecoder for Decoder {
    fn decode(&self, headers: Headers<'_>, value: Option<&[u8]>) -> Result<ChangeEvent, DecodeError> {
        let headers = headers.iter();
        decode_record(headers.map(|(name, value)| (name, value.unwrap_or_default())), value)
    }
}

/// Reads a record of a changes topic: a CDEvent, plain or in a CloudEvents envelope of either mode.
///
/// # Errors
/// Where envelope or event are not what they must be, or a change names no service.
pub fn decode_record<'h>(
    headers: impl IntoIterator<Item = (&'h str, &'h [u8])>,
    value: Option<&[u8]>,
) -> Result<ChangeEvent, DecodeError> {
    decode_envelope(&cloudevents::read(headers, value)?)
}

fn decode_envelope(envelope: &Envelope<'_>) -> Result<ChangeEvent, DecodeError> {
    match &envelope.attributes {
        Some(attributes) if !attributes.ty.starts_with("dev.cdevents") => {
            Ok(ChangeEvent::Ignored(attributes.ty.clone()))
        }
        _ => decode_plain(&envelope.data),
    }
}

/// Reads a CDEvent as JSON, or a CloudEvent in structured mode that holds one, as lines of a file do without headers to
/// tell them apart.
///
/// # Errors
/// As [`decode_record`].
pub fn decode(bytes: &[u8]) -> Result<ChangeEvent, DecodeError> {
    #[derive(Deserialize)]
    struct Peek {
        context: Option<serde::de::IgnoredAny>,
        specversion: Option<serde::de::IgnoredAny>,
    }
    match serde_json::from_slice(bytes) {
        Ok(Peek {
            context: None,
            specversion: Some(_),
        }) => decode_envelope(&cloudevents::read_structured(bytes)?),
        _ => decode_plain(bytes),
    }
}

#[derive(Deserialize)]
struct Event {
    context: Option<Context>,
    subject: Option<Subject>,
    #[serde(rename = "customData")]
    custom_data: Option<Value>,
}

#[derive(Deserialize)]
struct Context {
    version: Option<String>,
    specversion: Option<String>,
    id: Option<String>,
    source: Option<String>,
    #[serde(rename = "type")]
    ty: Option<String>,
    timestamp: Option<Value>,
}

#[derive(Deserialize)]
struct Subject {
    id: Option<String>,
    #[serde(default)]
    content: Value,
}

fn decode_plain(bytes: &[u8]) -> Result<ChangeEvent, DecodeError> {
    if bytes.trim_ascii().is_empty() {
        return Err(DecodeError::Empty(FORMAT));
    }
    let event: Event = serde_json::from_slice(bytes).map_err(|error| DecodeError::of_json(FORMAT, bytes, &error))?;
    let context = event.context.ok_or(DecodeError::Missing {
        field: "context",
        help: "is this a CDEvent?",
    })?;
    check_version(&context)?;
    let event_type = required(
        context.ty,
        "context.type",
        "write the event's type, such as dev.cdevents.service.deployed.0.3.0",
    )?;
    let Some(kind) = kind_of(&event_type)? else {
        return Ok(ChangeEvent::Ignored(event_type));
    };

    let id = required(context.id, "context.id", "give every event an id of its own")?;
    let source = required(context.source, "context.source", "say who sent it")?;
    let at = time_of(context.timestamp)?;
    let subject = event.subject.ok_or(DecodeError::Missing {
        field: "subject",
        help: "say what was changed",
    })?;
    let custom = event.custom_data.unwrap_or_default();
    let place = Place {
        event_type: &event_type,
        subject: &subject,
        custom: &custom,
    };
    // one that did not end well was told where it began
    if let Some(outcome) = subject.content["outcome"]
        .as_str()
        .filter(|outcome| *outcome != "success")
        && place.of_deployment()
    {
        return Ok(ChangeEvent::Ignored(format!("{event_type} ({})", excerpt(outcome))));
    }
    Ok(ChangeEvent::Change(Change {
        id: id.into(),
        at,
        kind,
        service: place.service()?,
        environment: place.environment(),
        artifact: named(&subject.content["artifactId"]).or_else(|| named(&custom["artifactId"])),
        source: source.into(),
        event_type: event_type.as_str().into(),
    }))
}

/// What an event says of where the change was made.
struct Place<'e> {
    event_type: &'e str,
    subject: &'e Subject,
    custom: &'e Value,
}

impl Place<'_> {
    fn of_service(&self) -> bool {
        self.event_type.starts_with("dev.cdevents.service.")
    }

    fn of_environment(&self) -> bool {
        self.event_type.starts_with("dev.cdevents.environment.")
    }

    fn of_deployment(&self) -> bool {
        self.event_type.starts_with("dev.cdevents.deployment.")
    }

    /// The name within a package URL, such as `cart` of `pkg:oci/cart@sha256:…`.
    fn package(&self) -> Option<Arc<str>> {
        let url = self.subject.content["artifactId"].as_str()?.strip_prefix("pkg:")?;
        let path = url.split(['@', '?', '#']).next()?;
        path.rsplit('/').next().filter(|name| !name.is_empty()).map(Arc::from)
    }

    fn subject_id(&self) -> Option<Arc<str>> {
        self.subject
            .id
            .as_deref()
            .map(str::trim)
            .filter(|id| !id.is_empty())
            .map(Arc::from)
    }

    fn service(&self) -> Result<Arc<str>, DecodeError> {
        if self.of_service() {
            return self.subject_id().ok_or(DecodeError::Missing {
                field: "subject.id",
                help: "a change must name the service it was made to, as its telemetry names it",
            });
        }
        let told = named(&self.subject.content["service"]).or_else(|| named(&self.custom["service"]));
        let told = told.or_else(|| match (self.of_environment(), self.of_deployment()) {
            (true, _) => self.subject_id(),
            (_, true) => self.package(),
            _ => None,
        });
        told.ok_or(DecodeError::Missing {
            field: "customData.service",
            help: "a change must name the service it was made to, as its telemetry names it",
        })
    }

    fn environment(&self) -> Option<Arc<str>> {
        let told = named(&self.subject.content["environment"]).or_else(|| named(&self.custom["environment"]));
        told.or_else(|| if self.of_environment() { self.subject_id() } else { None })
    }
}

/// A name given as a text, or as the id of an object.
fn named(value: &Value) -> Option<Arc<str>> {
    let text = value.as_str().or_else(|| value["id"].as_str())?.trim();
    (!text.is_empty()).then(|| text.into())
}

fn check_version(context: &Context) -> Result<(), DecodeError> {
    let Some(version) = context.specversion.as_deref().or(context.version.as_deref()) else {
        let help = "say which version of CDEvents this is: version up to 0.4, specversion from 0.5 on";
        return Err(DecodeError::Missing {
            field: "context.specversion",
            help,
        });
    };
    if version.starts_with("0.") {
        return Ok(());
    }
    let help = "send CDEvents 0.3 to 0.6";
    Err(DecodeError::unfit(
        "context.specversion",
        format!("{:?}", excerpt(version)),
        help,
    ))
}

/// The kind of change that a type is; none where it is none.
fn kind_of(event_type: &str) -> Result<Option<ChangeKind>, DecodeError> {
    let mut parts = event_type.split('.');
    let mut next = || parts.next().filter(|part| !part.is_empty());
    let (Some(first), Some(domain), Some(subject), Some(predicate)) = (next(), next(), next(), next()) else {
        let help = "write the event's type in full, such as dev.cdevents.service.deployed.0.3.0";
        return Err(DecodeError::unfit(
            "context.type",
            format!("{:?}", excerpt(event_type)),
            help,
        ));
    };
    if first != "dev" {
        return Ok(None);
    }
    Ok(match (domain, subject, predicate) {
        ("cdevents", "service", "deployed" | "upgraded") => Some(ChangeKind::Deploy),
        ("cdevents", "service", "rolledback") => Some(ChangeKind::Rollback),
        ("cdevents", "service", "removed") => Some(ChangeKind::Removal),
        ("cdevents", "service", "published") => Some(ChangeKind::Other),
        ("cdevents", "environment", "created" | "modified" | "deleted") => Some(ChangeKind::Config),
        // where it began and where it ended: what was rolled out may show its effect in between
        ("cdevents", "deployment", "started" | "finished") => Some(ChangeKind::Deploy),
        ("cdeventsx", subject, _) if subject.ends_with("-flag") => Some(ChangeKind::Flag),
        ("cdeventsx", subject, _) if subject.ends_with("-config") => Some(ChangeKind::Config),
        _ => None,
    })
}

fn required(text: Option<String>, field: &'static str, help: &'static str) -> Result<String, DecodeError> {
    text.filter(|text| !text.trim().is_empty())
        .ok_or(DecodeError::Missing { field, help })
}

fn time_of(written: Option<Value>) -> Result<Timestamp, DecodeError> {
    const FIELD: &str = "context.timestamp";
    const HELP: &str = "write RFC 3339 with an offset, such as 2022-08-22T03:54:00Z";
    let written = written.ok_or(DecodeError::Missing {
        field: FIELD,
        help: HELP,
    })?;
    Timestamp::deserialize(&written).map_err(|_| DecodeError::unfit(FIELD, excerpt(&written.to_string()), HELP))
}

/// Reads the incident out of the value of one of Suture's incident records.
///
/// # Errors
/// Where it is no such event.
pub fn read_incident(value: &[u8]) -> Result<Incident, DecodeError> {
    #[derive(Deserialize)]
    struct Carrier {
        #[serde(rename = "customData")]
        custom_data: Option<Incident>,
    }
    if value.trim_ascii().is_empty() {
        return Err(DecodeError::Empty(FORMAT));
    }
    let carrier: Carrier =
        serde_json::from_slice(value).map_err(|error| DecodeError::of_json(FORMAT, value, &error))?;
    carrier.custom_data.ok_or(DecodeError::Missing {
        field: "customData",
        help: "this is no incident of Suture's",
    })
}

/// Reads an action request from the value of a remediation record.
///
/// # Errors
/// Where it is none.
pub fn read_remediation(value: &[u8]) -> Result<ActionRequest, DecodeError> {
    if value.trim_ascii().is_empty() {
        return Err(DecodeError::Empty(records::FORMAT));
    }
    serde_json::from_slice(value).map_err(|error| DecodeError::of_json(records::FORMAT, value, &error))
}
