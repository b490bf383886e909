//! What decide itself refuses: outcomes and commands that nobody with a key of their own has said.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests fail by panicking, as tests do

use std::{collections::BTreeMap, sync::Arc};

use suture_event::{
    ActionRequest, ActionStep, Command, CommandKind, Direction, Hypothesis, HypothesisKind, Incident, IncidentSignal,
    IncidentStatus, Outcome, OutcomeStatus, Rung, Severity, SignalKind, SignalState, Span, Timestamp,
};
use suture_permit::{KeyEntry, Keyring, Role, SecretKey};
use suture_remediate::{Budget, Input, Options, Output, Playbook, Remediator, Safety};

const START: Timestamp = Timestamp::from_millis(1_661_140_440_000);

fn after(seconds: i64) -> Timestamp {
    START.plus(Span::from_secs(seconds))
}

fn key(seed: u8, who: &str, role: Role) -> SecretKey {
    SecretKey::from_seed(&[seed; 32], who, role)
}

fn ann() -> SecretKey {
    key(3, "ann", Role::Person)
}

fn robot() -> SecretKey {
    key(2, "suture-execute", Role::Executor)
}

fn remediator(mode: Rung, until: Option<Timestamp>) -> Remediator {
    let entry = |key: &SecretKey| KeyEntry {
        who: Arc::clone(&key.who),
        role: key.role,
        public: key.public(),
        until: until.filter(|_| key.role == Role::Person),
    };
    let all = [
        key(1, "decide", Role::Decide),
        robot(),
        key(5, "other", Role::Executor),
        ann(),
        key(4, "bob", Role::Person),
    ];
    let mut playbook = Playbook::new("rollback", "rollback");
    playbook.owner = "shop".to_owned();
    playbook.rung = Rung::Autonomous;
    playbook.reversal = Some(ActionStep {
        action: "redeploy".into(),
        parameters: BTreeMap::new(),
    });
    playbook.safety = Safety {
        trigger: "a deploy blamed for errors".to_owned(),
        false_positives: vec!["none known".to_owned()],
        blast_radius: "one service".to_owned(),
        reversal_time: Some(Span::from_secs(90)),
        budget: Some(Budget {
            actions: 3,
            per: Span::from_hours(1),
        }),
        telemetry: vec!["errors".to_owned()],
    };
    let options = Options {
        mode,
        keys: Keyring::new(all.iter().map(entry).collect()),
        playbooks: vec![playbook],
        ..Options::default()
    };
    Remediator::new(options, "prod".into()).unwrap()
}

fn incident() -> Incident {
    Incident {
        id: "inc".into(),
        opened_at: START,
        resolved_at: None,
        resolution: None,
        severity: Severity::Critical,
        services: vec!["cart".into()],
        anomalies: Vec::new(),
        hypotheses: vec![Hypothesis {
            rank: 1,
            kind: HypothesisKind::Change,
            service: Some("cart".into()),
            change: Some("deploy-1".into()),
            class: "bad_deploy".into(),
            probability: 0.9,
            evidence: Vec::new(),
        }],
        none_of_these: 0.1,
        scope: "prod".into(),
        status: IncidentStatus::Open,
        title: "cart is down".to_owned(),
        updated_at: START,
        revision: 1,
        signals: vec![IncidentSignal {
            anomaly: "a".into(),
            metric: "errors".into(),
            service: Some("cart".into()),
            kind: SignalKind::of_metric("errors"),
            direction: Direction::Up,
            onset: START,
            opening: true,
            state: SignalState::Active,
            since: START,
        }],
        signals_left_out: 0,
        judged_without: Vec::new(),
    }
}

/// Opens the incident and gives the action that was asked for.
fn open(remediator: &mut Remediator) -> ActionRequest {
    let outputs = remediator.step(Input::Incident(&incident()), None);
    let request = outputs.into_iter().find_map(|output| match output {
        Output::Request(request) => Some(request),
        Output::Ledger(_) => None,
    });
    request.unwrap()
}

/// The kinds of the ledger records that came out, each with its `why`, and whether anything was asked for.
fn said(outputs: &[Output]) -> (Vec<String>, bool) {
    let mut kinds = Vec::new();
    for output in outputs {
        if let Output::Ledger(record) = output {
            let why = record.body["why"].as_str().unwrap_or_default();
            kinds.push(format!("{} {why}", record.kind).trim().to_owned());
        }
    }
    (kinds, outputs.iter().any(|output| matches!(output, Output::Request(_))))
}

fn approval(action: &Arc<str>, at: Timestamp, signs: Option<&SecretKey>) -> Command {
    let mut command = Command {
        id: format!("c{at}").into(),
        at,
        by: "ann".into(),
        scope: "prod".into(),
        kind: CommandKind::Approve {
            action: Arc::clone(action),
        },
        reason: "plain".to_owned(),
        seal: None,
    };
    command.seal = signs.map(|key| key.sign(&command));
    command
}

#[test]
fn a_command_that_nobody_vouches_for_is_not_followed() {
    let mut remediator = remediator(Rung::Supervised, None);
    let action = open(&mut remediator).id;
    let mut altered = approval(&action, after(1), Some(&ann()));
    altered.reason = "another".to_owned();
    let bob = key(4, "bob", Role::Person);
    for (command, why) in [
        (approval(&action, after(1), None), "it is not signed"),
        (
            approval(&action, after(1), Some(&key(9, "ann", Role::Person))),
            "is not known here",
        ),
        (
            approval(&action, after(1), Some(&bob)),
            "is bob's, and it was said in the name of ann",
        ),
        (
            approval(&action, after(1), Some(&robot())),
            "is a key of role executor, which may not say this",
        ),
        (altered, "its signature does not fit"),
        (
            approval(&action, START.minus(Span::from_hours(1)), Some(&ann())),
            "more than 15m before it was read",
        ),
    ] {
        let at = after(1);
        let (kinds, asked) = said(&remediator.step(Input::Command { command: &command, at }, None));
        assert_eq!((kinds.len(), asked), (1, false), "{kinds:?}");
        assert!(
            kinds[0].starts_with("command_ignored") && kinds[0].contains(why),
            "{} for {why}",
            kinds[0]
        );
    }
    let command = approval(&action, after(2), Some(&ann()));
    let outputs = remediator.step(
        Input::Command {
            command: &command,
            at: after(2),
        },
        None,
    );
    let Some(Output::Request(request)) = outputs.last() else {
        panic!("{outputs:?}")
    };
    assert_eq!(
        (request.rung, request.approved_by.as_deref()),
        (Rung::Autonomous, Some("ann"))
    );
    assert_eq!(
        request.approvals[0].key.as_ref(),
        Some(ann().id()),
        "who approved is a key"
    );
}

#[test]
fn a_key_that_was_rotated_out_says_nothing_any_more() {
    let mut remediator = remediator(Rung::Supervised, Some(after(10)));
    let action = open(&mut remediator).id;
    let late = approval(&action, after(10), Some(&ann()));
    let (kinds, _) = said(&remediator.step(
        Input::Command {
            command: &late,
            at: after(10),
        },
        None,
    ));
    assert!(kinds[0].contains("ended at"), "{kinds:?}");
    let early = approval(&action, after(9), Some(&ann()));
    let (kinds, asked) = said(&remediator.step(
        Input::Command {
            command: &early,
            at: after(11),
        },
        None,
    ));
    assert_eq!((kinds[0].as_str(), asked), ("approved", true));
}

#[test]
fn an_outcome_that_the_executor_of_the_permit_has_not_told_settles_nothing() {
    let mut remediator = remediator(Rung::Autonomous, None);
    let request = open(&mut remediator);
    assert_eq!(
        request.permit.as_ref().map(|permit| &*permit.executor),
        Some("suture-execute")
    );
    let outcome = |executor: &str, signs: Option<&SecretKey>| {
        let mut outcome = Outcome {
            action: Arc::clone(&request.id),
            at: after(1),
            status: OutcomeStatus::Succeeded,
            target: "cart".into(),
            scope: "prod".into(),
            executor: executor.into(),
            mode: suture_event::ExecutorMode::Live,
            detail: String::new(),
            calls: Vec::new(),
            seal: None,
        };
        outcome.seal = signs.map(|key| key.sign(&outcome));
        outcome
    };
    let other = key(5, "other", Role::Executor);
    let mut altered = outcome("suture-execute", Some(&robot()));
    altered.status = OutcomeStatus::Failed;
    for (outcome, why) in [
        (outcome("suture-execute", None), "it is not signed"),
        (
            outcome("suture-execute", Some(&other)),
            "is other's, and it was said in the name of suture-execute",
        ),
        (outcome("other", Some(&other)), "the permit is for suture-execute"),
        (outcome("suture-execute", Some(&ann())), "is a key of role person"),
        (altered, "its signature does not fit"),
    ] {
        let at = after(1);
        let (kinds, _) = said(&remediator.step(Input::Outcome { outcome: &outcome, at }, None));
        assert!(
            kinds[0].starts_with("outcome_ignored") && kinds[0].contains(why),
            "{} for {why}",
            kinds[0]
        );
    }
    let told = outcome("suture-execute", Some(&robot()));
    let (kinds, _) = said(&remediator.step(
        Input::Outcome {
            outcome: &told,
            at: after(2),
        },
        None,
    ));
    assert_eq!(kinds, ["outcome"]);
}
