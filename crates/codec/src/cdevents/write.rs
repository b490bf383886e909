//! Changes, incidents and action requests as CloudEvents in binary mode.

use serde::Serialize;
use suture_event::{ActionRequest, Change, ChangeKind, Incident, IncidentStatus, Timestamp, stable_uuid};

use super::super::{
    EncodeError, Message,
    cloudevents::{Attributes, write_binary},
};

/// The version of the CDEvents specification that is written.
pub const SPEC_VERSION: &str = "0.5.1";
/// The type of an action request, which is an event of our own.
pub const REMEDIATION_TYPE: &str = "dev.suture.remediation.requested.0.1.0";

const JSON: &str = "application/json";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a, T> {
    context: Context<'a>,
    subject: Subject<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom_data: Option<&'a T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom_data_content_type: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Context<'a> {
    specversion: &'static str,
    id: &'a str,
    source: &'a str,
    #[serde(rename = "type")]
    ty: &'a str,
    timestamp: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    chain_id: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    links: Vec<Link<'a>>,
}

/// Ties an event to another by the other's id.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Link<'a> {
    link_type: &'static str,
    link_kind: &'static str,
    target: Target<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Target<'a> {
    context_id: &'a str,
}

#[derive(Serialize)]
struct Subject<'a> {
    id: &'a str,
    content: Content<'a>,
}

#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct Content<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<Named<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<Named<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_id: Option<&'a str>,
    #[serde(rename = "ticketURI", skip_serializing_if = "Option::is_none")]
    ticket_uri: Option<String>,
}

#[derive(Serialize)]
struct Named<'a> {
    id: &'a str,
}

/// The type to write for a kind of change that is not otherwise known.
#[must_use]
pub const fn type_of(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Deploy => "dev.cdevents.service.deployed.0.3.0",
        ChangeKind::Rollback => "dev.cdevents.service.rolledback.0.3.0",
        ChangeKind::Removal => "dev.cdevents.service.removed.0.3.0",
        ChangeKind::Config => "dev.cdeventsx.suture-config.changed.0.1.0",
        ChangeKind::Flag => "dev.cdeventsx.suture-flag.flipped.0.1.0",
        ChangeKind::Other => "dev.cdevents.service.published.0.3.0",
    }
}

/// Writes a change as the CDEvent it came as, keyed by its service. `event_type` is written as it stands and decides what
/// reads back as the kind: take [`type_of`] for a change of one's own. CDEvents wants environment and artifact named for
/// a deploy; where the change names none, what is written has none.
///
/// # Errors
/// Where a field that CDEvents demands is empty.
pub fn write_change(change: &Change) -> Result<Message, EncodeError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Custom<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        service: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        environment: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        artifact_id: Option<&'a str>,
    }
    // the objects of CDEvents are closed: what a type has no place for goes into the custom data
    let (environment, artifact) = (change.environment.as_deref(), change.artifact.as_deref());
    let of_environment = change.event_type.starts_with("dev.cdevents.environment.");
    let service_event = change.event_type.strip_prefix("dev.cdevents.service.");
    let of_service = service_event.is_some();
    let has_artifact = service_event.is_some_and(|predicate| {
        ["deployed", "upgraded", "rolledback"]
            .iter()
            .any(|name| predicate.split('.').next() == Some(name))
    });
    let custom = Custom {
        service: Some(&*change.service).filter(|_| !of_service),
        environment: environment.filter(|_| !of_service),
        artifact_id: artifact.filter(|_| !has_artifact),
    };
    let customised = custom.service.is_some() || custom.artifact_id.is_some();
    let subject_id = if of_environment {
        environment.unwrap_or(&change.service)
    } else {
        &*change.service
    };
    let event = Event {
        context: Context {
            specversion: SPEC_VERSION,
            id: &change.id,
            source: &change.source,
            ty: &change.event_type,
            timestamp: change.at,
            chain_id: None,
            links: Vec::new(),
        },
        subject: Subject {
            id: subject_id,
            content: Content {
                environment: environment.filter(|_| of_service).map(|id| Named { id }),
                artifact_id: artifact.filter(|_| has_artifact),
                ..Content::default()
            },
        },
        custom_data: customised.then_some(&custom),
        custom_data_content_type: customised.then_some(JSON),
    };
    send("change", &event, &change.service)
}

/// Writes a state of an incident, keyed by its id: `incident.detected` for the first, `incident.resolved` once it is
/// resolved, `incident.reported` for those between. The incident is in `customData`, byte for byte as `serde_json` writes
/// it. `context.links` ties it to the change blamed, `context.chainId` the states of one incident to each other.
/// `source` is a URI reference that names who writes, such as `/suture/shop`.
///
/// # Errors
/// Where a probability or weight is not finite, or `source` or the incident's id is empty.
pub fn write_incident(source: &str, incident: &Incident) -> Result<Message, EncodeError> {
    if let Some((field, found)) = unfinite(incident) {
        let what = format!("incident {:?}", incident.id);
        return Err(EncodeError::NotFinite {
            what,
            field,
            found: found.to_string(),
        });
    }
    let ty = match incident.status {
        IncidentStatus::Resolved => "dev.cdevents.incident.resolved.0.3.0",
        IncidentStatus::Open if incident.revision <= 1 => "dev.cdevents.incident.detected.0.3.0",
        IncidentStatus::Open => "dev.cdevents.incident.reported.0.3.0",
    };
    let reported = ty.contains(".reported.");
    let chain = stable_uuid(&format!("incident:{}:{}", incident.scope, incident.id)).to_string();
    let id = stable_uuid(&format!(
        "incident-state:{}:{}:{}",
        incident.scope, incident.id, incident.revision
    ))
    .to_string();
    let blamed = incident.hypotheses.first();
    let service = blamed
        .and_then(|h| h.service.as_deref())
        .or_else(|| incident.services.first().map(|s| &**s));
    let links = blamed.and_then(|h| h.change.as_deref()).into_iter().map(|change| Link {
        link_type: "RELATION",
        link_kind: "CAUSE",
        target: Target { context_id: change },
    });
    let event = Event {
        context: Context {
            specversion: SPEC_VERSION,
            id: &id,
            source,
            ty,
            timestamp: incident.updated_at,
            links: links.collect(),
            chain_id: Some(chain.clone()),
        },
        subject: Subject {
            id: &incident.id,
            content: Content {
                description: Some(&incident.title),
                // CDEvents demands one that is not empty
                environment: Some(Named {
                    id: if incident.scope.is_empty() {
                        "default"
                    } else {
                        &incident.scope
                    },
                }),
                service: service.filter(|id| !id.is_empty()).map(|id| Named { id }),
                artifact_id: None,
                // a report must name its ticket, and the incident itself is the only one known here
                ticket_uri: reported.then(|| format!("urn:uuid:{chain}")),
            },
        },
        custom_data: Some(incident),
        custom_data_content_type: Some(JSON),
    };
    send("incident", &event, &incident.id)
}

/// Writes an action request, keyed by its target. The value is the request itself: flat but for `parameters` and
/// `reversal`, so that rules of a consumer match on its fields. `source` as for [`write_incident`].
///
/// # Errors
/// Where the probability is not finite, or `source` or the request's id is empty.
pub fn write_remediation(source: &str, request: &ActionRequest) -> Result<Message, EncodeError> {
    let what = || format!("action request {:?}", request.id);
    if !request.probability.is_finite() {
        let found = request.probability.to_string();
        return Err(EncodeError::NotFinite {
            what: what(),
            field: "probability".into(),
            found,
        });
    }
    let attributes = Attributes {
        id: request.id.to_string(),
        source: source.to_owned(),
        ty: REMEDIATION_TYPE.to_owned(),
        subject: Some(request.target.to_string()).filter(|target| !target.is_empty()),
        time: Some(request.at),
        datacontenttype: Some(JSON.to_owned()),
        ..Attributes::default()
    };
    let value = serde_json::to_vec(request).map_err(|error| EncodeError::Json {
        what: what(),
        reason: error.to_string(),
    })?;
    Ok(with_uuid(
        write_binary(&attributes, &request.target, value)?,
        &request.id,
    ))
}

fn unfinite(incident: &Incident) -> Option<(String, f64)> {
    if !incident.none_of_these.is_finite() {
        return Some(("none_of_these".into(), incident.none_of_these));
    }
    incident.hypotheses.iter().enumerate().find_map(|(i, hypothesis)| {
        if !hypothesis.probability.is_finite() {
            return Some((format!("hypotheses[{i}].probability"), hypothesis.probability));
        }
        let weight = hypothesis
            .evidence
            .iter()
            .enumerate()
            .find(|(_, e)| !e.weight.is_finite());
        weight.map(|(j, e)| (format!("hypotheses[{i}].evidence[{j}].weight"), e.weight))
    })
}

fn send<T: Serialize>(what: &str, event: &Event<'_, T>, key: &str) -> Result<Message, EncodeError> {
    let Event { context, subject, .. } = event;
    if subject.id.is_empty() {
        return Err(EncodeError::Empty {
            what: format!("{what} {:?}", context.id),
            field: "subject.id",
        });
    }
    let attributes = Attributes {
        id: context.id.to_owned(),
        source: context.source.to_owned(),
        ty: context.ty.to_owned(),
        subject: Some(subject.id.to_owned()),
        time: Some(context.timestamp),
        datacontenttype: Some(JSON.to_owned()),
        ..Attributes::default()
    };
    let value = serde_json::to_vec(event).map_err(|error| EncodeError::Json {
        what: format!("{what} {:?}", context.id),
        reason: error.to_string(),
    })?;
    Ok(with_uuid(write_binary(&attributes, key, value)?, context.id))
}

/// Adds the header that Event-Driven Ansible takes as the event's id. It must be a UUID: an id that is none gets one made
/// of it.
fn with_uuid(mut message: Message, id: &str) -> Message {
    let uuid = uuid::Uuid::parse_str(id).unwrap_or_else(|_| stable_uuid(id));
    message.headers.push(("message_uuid".to_owned(), uuid.to_string()));
    message
}
