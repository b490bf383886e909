//! Events as CI systems write them, and those that are written here.

use std::collections::BTreeMap;

use proptest::prelude::*;

use suture_event::{
    ActionRequest, ActionStep, Change, ChangeKind, Direction, Evidence, EvidenceKind, Hypothesis, HypothesisKind,
    Incident, IncidentSignal, IncidentStatus, Rung, Severity, SignalKind, SignalState, Timestamp,
};

use super::*;
use crate::{ChangeEvent, Message, cloudevents};

/// As the benchmarks' deploys are written.
const DEPLOYED: &str = r#"{"context":{"version":"0.4.1","id":"deploy-1","source":"/ci","type":"dev.cdevents.service.deployed.0.3.0",
  "timestamp":"2022-08-22T03:54:00Z"},"subject":{"id":"frontend","source":"/ci","type":"service",
  "content":{"environment":{"id":"prod"},"artifactId":"pkg:oci/frontend@sha256%3A1"}}}"#;

fn change(text: &str) -> Change {
    match decode(text.as_bytes()).unwrap() {
        ChangeEvent::Change(change) => change,
        ChangeEvent::Ignored(ty) => panic!("{ty} was ignored"),
    }
}

fn event(context: &str, ty: &str, rest: &str) -> String {
    format!(
        r#"{{"context":{{{context},"id":"1","source":"/ci","type":"{ty}","timestamp":"2022-08-22T05:54:00+02:00"}},{rest}}}"#
    )
}

#[test]
fn a_deploy_is_read_in_full() {
    let read = change(DEPLOYED);
    let expected = Change {
        id: "deploy-1".into(),
        at: "2022-08-22T03:54:00Z".parse().unwrap(),
        kind: ChangeKind::Deploy,
        service: "frontend".into(),
        environment: Some("prod".into()),
        artifact: Some("pkg:oci/frontend@sha256%3A1".into()),
        source: "/ci".into(),
        event_type: "dev.cdevents.service.deployed.0.3.0".into(),
    };
    assert_eq!(read, expected);
}

#[test]
fn a_deploy_in_an_envelope_is_read_the_same_with_or_without_headers() {
    let plain: serde_json::Value = serde_json::from_str(DEPLOYED).unwrap();
    let text = serde_json::Value::from(DEPLOYED);
    let envelope = |data: &serde_json::Value| {
        format!(
            r#"{{"specversion":"1.0","id":"ce-1","source":"/ci","type":"dev.cdevents.service.deployed.0.3.0","traceparent":"00-1",
                "datacontenttype":"application/json","data":{data}}}"#
        )
    };
    let header = ("content-type", &b"application/cloudevents+json"[..]);
    for record in [DEPLOYED.to_owned(), envelope(&plain), envelope(&text)] {
        for headers in [&[][..], &[("trace", &b"x"[..])][..]] {
            let read = decode_record(headers.iter().copied(), Some(record.as_bytes())).unwrap();
            assert_eq!(read, ChangeEvent::Change(change(DEPLOYED)), "{record}");
        }
        if record != DEPLOYED {
            let read = decode_record([header], Some(record.as_bytes())).unwrap();
            assert_eq!(read, ChangeEvent::Change(change(DEPLOYED)), "{record}");
        }
    }
}

#[test]
fn every_version_and_type_is_read_as_its_kind() {
    let service = r#""subject":{"id":"cart","content":{"environment":"prod"}}"#;
    let environment = r#""subject":{"id":"prod","content":{"name":"Production"}}"#;
    let named = r#""subject":{"id":"prod"},"customData":{"service":{"id":"cart"}}"#;
    let flag = r#""subject":{"id":"new-checkout","content":{"service":"cart"}},"customData":{"environment":"prod"}"#;
    for (context, ty, rest, kind, at) in [
        (
            r#""version":"0.3.0""#,
            "dev.cdevents.service.deployed.0.1.1",
            service,
            ChangeKind::Deploy,
            "cart",
        ),
        (
            r#""version":"0.4.0""#,
            "dev.cdevents.service.upgraded.0.2.0",
            service,
            ChangeKind::Deploy,
            "cart",
        ),
        (
            r#""specversion":"0.5.0""#,
            "dev.cdevents.service.rolledback.0.3.0",
            service,
            ChangeKind::Rollback,
            "cart",
        ),
        (
            r#""specversion":"0.5.1""#,
            "dev.cdevents.service.removed",
            service,
            ChangeKind::Removal,
            "cart",
        ),
        (
            r#""specversion":"0.6.0-draft""#,
            "dev.cdevents.service.published.0.3.0",
            service,
            ChangeKind::Other,
            "cart",
        ),
        (
            r#""version":"0.4.1""#,
            "dev.cdevents.environment.modified.0.2.0",
            environment,
            ChangeKind::Config,
            "prod",
        ),
        (
            r#""version":"0.4.1""#,
            "dev.cdevents.environment.created.0.2.0",
            named,
            ChangeKind::Config,
            "cart",
        ),
        (
            r#""version":"0.4.1""#,
            "dev.cdeventsx.openfeature-flag.flipped.0.1.0",
            flag,
            ChangeKind::Flag,
            "cart",
        ),
        (
            r#""version":"0.4.1""#,
            "dev.cdeventsx.vault-config.changed.0.1.0",
            flag,
            ChangeKind::Config,
            "cart",
        ),
    ] {
        let read = change(&event(context, ty, rest));
        assert_eq!(
            (read.kind, &*read.service, read.environment.as_deref()),
            (kind, at, Some("prod")),
            "{ty}"
        );
        assert_eq!(read.at.to_string(), "2022-08-22T03:54:00Z");
        assert_eq!(&*read.event_type, ty);
    }
}

#[test]
fn a_deployment_is_of_the_service_that_it_names_or_whose_artifact_it_brings() {
    let of = |predicate: &str, rest: &str| {
        let content =
            format!(r#""artifactId":"pkg:oci/shop/cart@sha256%3A0b31?tag=1.2","environment":{{"id":"prod"}}{rest}"#);
        format!(
            r#"{{"context":{{"specversion":"0.6.0","id":"1","source":"/cd","type":"dev.cdevents.deployment.{predicate}.0.1.0","timestamp":"2022-08-22T05:54:00+02:00"}},"subject":{{"id":"dep-8","content":{{{content}}}}}}}"#
        )
    };
    let done = change(&of("finished", r#","outcome":"success""#));
    assert_eq!(
        (done.kind, &*done.service, done.environment.as_deref()),
        (ChangeKind::Deploy, "cart", Some("prod"))
    );
    assert_eq!(
        &*change(&of("started", r#","service":{"id":"basket"}"#)).service,
        "basket"
    );
    for (predicate, rest, expected) in [
        (
            "finished",
            r#","outcome":"failure""#,
            "dev.cdevents.deployment.finished.0.1.0 (failure)",
        ),
        ("queued", "", "dev.cdevents.deployment.queued.0.1.0"),
    ] {
        let found = decode(of(predicate, rest).as_bytes()).unwrap();
        assert_eq!(found, ChangeEvent::Ignored(expected.to_owned()));
    }
}

#[test]
fn events_that_are_no_changes_are_ignored_by_name() {
    for ty in [
        "dev.cdevents.incident.detected.0.3.0",
        "dev.cdevents.artifact.published.0.3.0",
        "dev.cdevents.pipelinerun.finished.0.3.0",
        "dev.cdevents.service.paused.0.1.0",
        "dev.cdeventsx.tool-thing.happened.0.1.0",
        "com.example.thing.happened",
    ] {
        let text = event(r#""version":"0.4.1""#, ty, r#""subject":{"id":"x","content":{}}"#);
        assert_eq!(decode(text.as_bytes()).unwrap(), ChangeEvent::Ignored(ty.into()));
    }
}

#[test]
fn what_cannot_be_used_is_refused_with_what_to_do() {
    let v = r#""version":"0.4.1""#;
    let deployed = "dev.cdevents.service.deployed.0.3.0";
    let service = r#""subject":{"id":"cart","content":{}}"#;
    let names = "a change must name the service it was made to, as its telemetry names it";
    for (text, expected) in [
        (String::new(), "the record is empty, where CDEvents JSON was expected".to_owned()),
        (event(v, deployed, r#""subject":{"id":" ","content":{}}"#), format!("`subject.id` is missing: {names}")),
        (event(v, deployed, r#""subject":{"content":{}}"#), format!("`subject.id` is missing: {names}")),
        (event(v, deployed, r#""customData":{"service":"cart"}"#), "`subject` is missing: say what was changed".into()),
        (
            event(v, "dev.cdeventsx.x-flag.flipped.0.1.0", r#""subject":{"id":"new-checkout"}"#),
            format!("`customData.service` is missing: {names}"),
        ),
        (
            event(r#""version":"1.0""#, deployed, service),
            "`context.specversion` is \"1.0\": send CDEvents 0.3 to 0.6".into(),
        ),
        (
            event(r#""versions":"0.4""#, deployed, service),
            "`context.specversion` is missing: say which version of CDEvents this is: version up to 0.4, specversion from 0.5 on".into(),
        ),
        (
            event(v, "deployed", service),
            "`context.type` is \"deployed\": write the event's type in full, such as dev.cdevents.service.deployed.0.3.0".into(),
        ),
        (
            event(v, deployed, service).replace("2022-08-22T05:54:00+02:00", "yesterday"),
            "`context.timestamp` is \"yesterday\": write RFC 3339 with an offset, such as 2022-08-22T03:54:00Z".into(),
        ),
        (event(v, deployed, service).replace(r#""id":"1","#, ""), "`context.id` is missing: give every event an id of its own".into()),
        ("{}".into(), "`context` is missing: is this a CDEvent?".into()),
        (
            DEPLOYED[..120].to_owned(),
            "the CDEvents JSON breaks off after 120 bytes: its producer, or a size limit on the way, cut it short".into(),
        ),
        (
            "{\"context\": {},\n \"subject\": 7}".into(),
            "no valid CDEvents JSON at byte 28: invalid type: integer `7`, expected struct Subject".into(),
        ),
    ] {
        assert_eq!(decode(text.as_bytes()).unwrap_err().to_string(), expected, "{text}");
    }
}

#[test]
fn both_modes_of_cloudevents_are_taken_off() {
    let expected = ChangeEvent::Change(change(DEPLOYED));
    let ce = |ty| {
        [
            ("ce_specversion", &b"1.0"[..]),
            ("ce_id", b"1"),
            ("ce_source", b"/ci"),
            ("ce_type", ty),
        ]
    };
    let binary = decode_record(ce(b"dev.cdevents.service.deployed.0.3.0"), Some(DEPLOYED.as_bytes()));
    assert_eq!(binary.unwrap(), expected);
    let other = decode_record(ce(b"com.github.push"), Some(b"{\"ref\":1}"));
    assert_eq!(other.unwrap(), ChangeEvent::Ignored("com.github.push".into()));
    let structured = format!(
        r#"{{"specversion":"1.0","id":"1","source":"/ci","type":"dev.cdevents.service.deployed.0.3.0","data":{DEPLOYED}}}"#
    );
    let headers = [("content-type", &b"application/cloudevents+json"[..])];
    assert_eq!(decode_record(headers, Some(structured.as_bytes())).unwrap(), expected);
    assert_eq!(
        decode(structured.as_bytes()).unwrap(),
        expected,
        "in a file, without headers"
    );
}

fn incident(revision: u32, status: IncidentStatus) -> Incident {
    let at = Timestamp::from_millis(1_661_140_440_000);
    Incident {
        id: "inc-1".into(),
        opened_at: at,
        resolved_at: (status == IncidentStatus::Resolved).then_some(at),
        resolution: None,
        severity: Severity::Critical,
        services: vec!["frontend".into(), "cart".into()],
        anomalies: vec!["a1".into()],
        hypotheses: vec![Hypothesis {
            rank: 1,
            kind: HypothesisKind::Change,
            service: Some("cart".into()),
            change: Some("deploy-1".into()),
            class: "bad_deploy".into(),
            probability: 0.1 + 0.2,
            evidence: vec![Evidence {
                kind: EvidenceKind::Timing,
                detail: "12 s after \"it\"".into(),
                weight: 1.7,
                signals: vec!["a1".into()],
            }],
        }],
        none_of_these: 0.7,
        scope: "prod".into(),
        status,
        title: "latency of frontend, after a deploy of cart".into(),
        updated_at: at,
        revision,
        signals: vec![IncidentSignal {
            anomaly: "a1".into(),
            metric: "latency".into(),
            service: Some("frontend".into()),
            kind: SignalKind::Latency,
            direction: Direction::Up,
            onset: at,
            opening: true,
            state: SignalState::Active,
            since: at,
        }],
        signals_left_out: 0,
        judged_without: Vec::new(),
    }
}

fn request() -> ActionRequest {
    let at = Timestamp::from_millis(1_661_140_440_000);
    let step = |action: &str| ActionStep {
        action: action.into(),
        parameters: BTreeMap::from([("to".to_owned(), "previous".to_owned())]),
    };
    ActionRequest {
        id: suture_event::stable_uuid("x").to_string().into(),
        at,
        expires_at: at,
        incident: "inc-1".into(),
        scope: "prod".into(),
        target: "cart".into(),
        step: step("rollback"),
        reversal: Some(step("deploy")),
        reverses: None,
        rung: Rung::Autonomous,
        approved_by: None,
        approvals: Vec::new(),
        outside: Default::default(),
        weighed: None,
        permit: None,
        playbook: "roll-back".into(),
        owner: "shop-team".into(),
        class: "bad_deploy".into(),
        change: Some("deploy-1".into()),
        probability: 0.83,
        attempt: 1,
        verify_by: at,
        reason: "because".into(),
    }
}

#[test]
fn the_sdk_takes_every_event_that_is_written_and_finds_the_same_in_it() {
    let mut messages: Vec<Message> = [
        incident(1, IncidentStatus::Open),
        incident(2, IncidentStatus::Open),
        incident(3, IncidentStatus::Resolved),
    ]
    .iter()
    .map(|incident| write_incident("/suture/shop", incident).unwrap())
    .collect();
    for kind in [
        ChangeKind::Deploy,
        ChangeKind::Rollback,
        ChangeKind::Removal,
        ChangeKind::Other,
    ] {
        messages.push(
            write_change(&Change {
                kind,
                event_type: type_of(kind).into(),
                ..change(DEPLOYED)
            })
            .unwrap(),
        );
    }
    for message in &messages {
        let read: cdevents_sdk::CDEvent = serde_json::from_slice(&message.value).unwrap();
        assert_eq!(Some(read.ty()), message.header("ce_type"));
        assert_eq!(read.version(), SPEC_VERSION);
        assert_eq!(Some(read.id().as_str()), message.header("ce_id"));
    }
}

#[test]
fn an_incident_is_found_in_its_event_byte_for_byte() {
    for (revision, status, ty) in [
        (1, IncidentStatus::Open, "dev.cdevents.incident.detected.0.3.0"),
        (2, IncidentStatus::Open, "dev.cdevents.incident.reported.0.3.0"),
        (3, IncidentStatus::Resolved, "dev.cdevents.incident.resolved.0.3.0"),
    ] {
        let incident = incident(revision, status);
        let message = write_incident("/suture/shop", &incident).unwrap();
        let text = String::from_utf8(message.value.clone()).unwrap();
        assert!(
            text.contains(&format!(
                r#""customData":{}"#,
                serde_json::to_string(&incident).unwrap()
            )),
            "{text}"
        );
        assert_eq!(read_incident(&message.value).unwrap(), incident);
        assert_eq!((message.key.as_str(), message.header("ce_type")), ("inc-1", Some(ty)));
        assert_eq!(message.header("content-type"), Some("application/json"));
        assert_eq!(message.header("message_uuid"), message.header("ce_id"));
        let event: serde_json::Value = serde_json::from_str(&text).unwrap();
        let link =
            serde_json::json!([{"linkType": "RELATION", "linkKind": "CAUSE", "target": {"contextId": "deploy-1"}}]);
        assert_eq!(event["context"]["links"], link);
        assert_eq!(event["subject"]["content"]["service"]["id"], "cart");
        // and it is a CDEvent that is no change
        assert_eq!(
            decode_record(message.header_bytes(), Some(&message.value)).unwrap(),
            ChangeEvent::Ignored(ty.into())
        );
    }
}

#[test]
fn the_states_of_an_incident_have_ids_of_their_own_that_depend_on_nothing_else() {
    let id = |revision| {
        let message = write_incident("/suture/shop", &incident(revision, IncidentStatus::Open)).unwrap();
        message.header("ce_id").unwrap().to_owned()
    };
    assert_eq!(id(1), id(1));
    assert_ne!(id(1), id(2));
}

#[test]
fn an_action_request_is_shallow_and_carries_its_id_for_ansible() {
    let request = request();
    let message = write_remediation("/suture/shop", &request).unwrap();
    assert_eq!(message.key, "cart");
    for (name, expected) in [
        ("ce_specversion", "1.0"),
        ("ce_id", &*request.id),
        ("ce_type", REMEDIATION_TYPE),
        ("ce_subject", "cart"),
        ("ce_time", "2022-08-22T03:54:00Z"),
        ("content-type", "application/json"),
        ("message_uuid", &*request.id),
    ] {
        assert_eq!(message.header(name), Some(expected), "{name}");
    }
    let value: serde_json::Value = serde_json::from_slice(&message.value).unwrap();
    assert_eq!(
        (&value["action"], &value["target"], &value["rung"]),
        (&"rollback".into(), &"cart".into(), &"autonomous".into())
    );
    assert!(value.as_object().unwrap().keys().all(|key| !key.contains('.')));
    assert_eq!(read_remediation(&message.value).unwrap(), request);
    let envelope = cloudevents::read(message.header_bytes(), Some(&message.value)).unwrap();
    assert_eq!(envelope.attributes.unwrap().ty, REMEDIATION_TYPE);
}

#[test]
fn numbers_that_json_cannot_hold_are_refused_by_name() {
    let mut bad = incident(1, IncidentStatus::Open);
    bad.hypotheses[0].evidence[0].weight = f64::INFINITY;
    assert_eq!(
        write_incident("/s", &bad).unwrap_err().to_string(),
        "`hypotheses[0].evidence[0].weight` of incident \"inc-1\" is inf, which JSON cannot hold: it must be a finite number"
    );
    let bad = ActionRequest {
        probability: f64::NAN,
        ..request()
    };
    assert!(
        write_remediation("/s", &bad)
            .unwrap_err()
            .to_string()
            .starts_with("`probability` of action request")
    );
    let error = write_incident("", &incident(1, IncidentStatus::Open))
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("`source` of CloudEvent"), "{error}");
}

#[test]
fn records_that_hold_no_incident_are_refused() {
    assert_eq!(
        read_incident(DEPLOYED.as_bytes()).unwrap_err().to_string(),
        "`customData` is missing: this is no incident of Suture's"
    );
    assert!(read_incident(b"").is_err());
    assert!(
        read_remediation(b"{}")
            .unwrap_err()
            .to_string()
            .contains("missing field")
    );
}

fn any_change() -> impl Strategy<Value = Change> {
    let kind = prop_oneof![
        Just(ChangeKind::Deploy),
        Just(ChangeKind::Rollback),
        Just(ChangeKind::Removal),
        Just(ChangeKind::Config),
        Just(ChangeKind::Flag),
        Just(ChangeKind::Other),
    ];
    let text = || "[a-zA-Z0-9/:@é._-]{1,12}";
    (
        kind,
        0_i64..4_000_000_000_000,
        text(),
        text(),
        proptest::option::of(text()),
        proptest::option::of(text()),
        text(),
    )
        .prop_map(|(kind, millis, id, service, environment, artifact, source)| Change {
            id: id.into(),
            at: Timestamp::from_millis(millis),
            kind,
            service: service.into(),
            environment: environment.map(Into::into),
            artifact: artifact.map(Into::into),
            source: source.into(),
            event_type: type_of(kind).into(),
        })
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(change in any_change()) {
        let message = write_change(&change).unwrap();
        let expected = ChangeEvent::Change(change);
        prop_assert_eq!(decode_record(message.header_bytes(), Some(&message.value)).unwrap(), expected.clone());
        prop_assert_eq!(decode(&message.value).unwrap(), expected);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
        let _ = read_incident(&bytes);
        let _ = read_remediation(&bytes);
    }

    #[test]
    fn no_mutilated_event_makes_it_panic(at in 0..DEPLOYED.len(), byte in any::<u8>(), length in 0..DEPLOYED.len()) {
        let mut bytes = DEPLOYED.as_bytes().to_vec();
        bytes[at] = byte;
        bytes.truncate(length + 1);
        let _ = decode(&bytes);
    }
}
