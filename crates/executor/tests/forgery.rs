//! Ten kinds of forgery, each refused with its reason, and a freeze that stops an action under way. What decide itself refuses
//! (forged outcomes, commands in another's name) is in the tests of `suture-remediate`.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests fail by panicking, as tests do

// the kit's tests use more of it
#[allow(dead_code)]
mod common;

use std::sync::Arc;

use common::{AtWork, NOW, Recorder, ann_key, log, options, outcomes, permitted, request, statuses, wait_for, write};
use suture_codec::records;
use suture_event::{ActionRequest, Command, CommandKind, FreezeEpoch, Outcome, OutcomeStatus, Rung, Span};
use suture_executor::{Calls, DryRun, Error, ExecuteError, Executor, Kit, Options};
use suture_log::{Log, OutRecord, memory::MemoryLog};
use suture_permit::{Role, SecretKey};
use tokio::sync::Notify;

fn epoch() -> FreezeEpoch {
    FreezeEpoch::default()
}

fn good(id: &str) -> ActionRequest {
    permitted(request(id, "cart"), "robot", epoch())
}

/// A freeze or thaw, signed by Ann or by nobody.
fn command(log: &MemoryLog, id: &str, later: i64, kind: CommandKind, signed: bool) {
    let mut command = Command {
        id: id.into(),
        at: NOW.plus(Span::from_secs(later)),
        by: "ann".into(),
        scope: "prod".into(),
        kind,
        reason: "storm".to_owned(),
        seal: None,
    };
    command.seal = signed.then(|| ann_key().sign(&command));
    let value = records::encode(&command).unwrap();
    log.appender()
        .unwrap()
        .append(&[OutRecord::new("suture.commands", "prod", value)])
        .unwrap();
}

/// What becomes of one record, and whether anything was called.
fn told(log: &MemoryLog, request: ActionRequest) -> (Outcome, Vec<String>) {
    let recorder = Recorder::default();
    write(log, &[request]);
    let before = outcomes(log)
        .iter()
        .filter(|outcome| outcome.status != OutcomeStatus::Started)
        .count();
    let work = AtWork::begin(log.clone(), recorder.clone(), options());
    let found = wait_for(log, before + 1, || false);
    work.end().unwrap();
    (found.last().unwrap().clone(), recorder.calls())
}

#[test]
fn each_kind_of_forgery_is_refused_with_its_reason() {
    let altered = |alter: fn(&mut ActionRequest)| {
        let mut request = good("a");
        alter(&mut request);
        request
    };
    let stranger = || {
        let mut request = good("a");
        request.permit.as_mut().unwrap().seal = None;
        let seal = SecretKey::from_seed(&[9; 32], "decide", Role::Decide).sign(&request);
        request.permit.as_mut().unwrap().seal = Some(seal);
        request
    };
    let persons = || {
        let mut request = good("a");
        request.permit.as_mut().unwrap().seal = None;
        let seal = ann_key().sign(&request);
        request.permit.as_mut().unwrap().seal = Some(seal);
        request
    };
    let raised = || {
        let mut request = permitted(
            ActionRequest {
                rung: Rung::Supervised,
                ..request("a", "cart")
            },
            "robot",
            epoch(),
        );
        request.rung = Rung::Autonomous;
        request
    };
    let approved = || {
        let mut request = good("a");
        request.approved_by = Some("ann".into());
        request
    };
    let expired = || {
        let late = ActionRequest {
            expires_at: NOW.minus(Span::from_millis(1)),
            ..request("a", "cart")
        };
        permitted(late, "robot", epoch())
    };
    let unfit = "its signature does not fit: it was changed, or made with another key than";
    let cases: Vec<(&str, ActionRequest, &str)> = vec![
        ("altered target", altered(|r| r.target = "bank".into()), unfit),
        (
            "altered parameters",
            altered(|r| {
                r.step.parameters.insert("change".into(), "deploy-1".into());
            }),
            unfit,
        ),
        (
            "altered action",
            altered(|r| r.step.action = "roll_back_model".into()),
            unfit,
        ),
        ("altered rung", raised(), unfit),
        ("altered approvals", approved(), unfit),
        (
            "altered epoch",
            altered(|r| r.permit.as_mut().unwrap().epoch.number = 7),
            unfit,
        ),
        (
            "put off",
            altered(|r| r.expires_at = r.expires_at.plus(Span::from_hours(9))),
            unfit,
        ),
        ("expired", expired(), "it expired at 2022-08-22T03:53:59.999Z"),
        (
            "no permit",
            ActionRequest {
                permit: None,
                rung: Rung::Autonomous,
                ..good("a")
            },
            "it has no permit",
        ),
        ("wrong key", stranger(), "is not known here"),
        (
            "a person's key",
            persons(),
            "is a key of role person, which may not say this",
        ),
        (
            "other executor",
            permitted(request("a", "cart"), "another", epoch()),
            "its permit is for executor another",
        ),
    ];
    for (kind, forged, why) in cases {
        let log = log(1);
        let (outcome, calls) = if kind == "no permit" {
            // as it is, without the permit that the helper would give it
            log.appender().unwrap().append(&[common::record(&forged)]).unwrap();
            told_of(&log)
        } else {
            told(&log, forged)
        };
        assert!(outcome.detail.contains(why), "{kind}: {}", outcome.detail);
        let status = if kind == "expired" {
            OutcomeStatus::Refused
        } else {
            OutcomeStatus::Rejected
        };
        assert_eq!(outcome.status, status, "{kind}");
        assert!(calls.is_empty(), "{kind} was carried out");
    }
}

fn told_of(log: &MemoryLog) -> (Outcome, Vec<String>) {
    let recorder = Recorder::default();
    let work = AtWork::begin(log.clone(), recorder.clone(), options());
    let found = wait_for(log, 1, || false);
    work.end().unwrap();
    (found.last().unwrap().clone(), recorder.calls())
}

#[test]
fn a_permit_is_good_for_once() {
    let log = log(1);
    let (done, calls) = told(&log, good("a"));
    assert_eq!((done.status, calls.len()), (OutcomeStatus::Succeeded, 1));
    let (again, calls) = told(&log, good("a"));
    assert_eq!((again.status, calls.len()), (OutcomeStatus::Rejected, 0));
    assert_eq!(
        again.detail,
        format!("its permit was used at {NOW}: it is good for once")
    );
}

#[test]
fn a_forgery_does_not_use_up_the_permit_of_the_id_that_it_took() {
    let log = log(1);
    let mut forged = good("a");
    forged.target = "bank".into();
    assert_eq!(told(&log, forged).0.status, OutcomeStatus::Rejected);
    assert_eq!(told(&log, good("a")).0.status, OutcomeStatus::Succeeded);
}

#[test]
fn a_freeze_ends_the_permits_of_before_and_nobody_can_freeze_or_thaw_without_a_key() {
    let log = log(1);
    command(&log, "forged", 1, CommandKind::Freeze, false);
    assert_eq!(
        told(&log, good("a")).0.status,
        OutcomeStatus::Succeeded,
        "an unsigned freeze is none"
    );
    command(&log, "f1", 2, CommandKind::Freeze, true);
    let (outcome, calls) = told(&log, good("b"));
    assert_eq!((outcome.detail.as_str(), calls.len()), ("ann froze the scope", 0));
    command(&log, "forged thaw", 3, CommandKind::Thaw, false);
    assert_eq!(told(&log, good("c")).0.detail, "ann froze the scope");
    command(&log, "t1", 4, CommandKind::Thaw, true);
    let (outcome, calls) = told(&log, good("d"));
    let why = "the permit is of freeze epoch 0, and the scope was frozen since";
    assert_eq!((outcome.detail.as_str(), calls.len()), (why, 0));
    let now = FreezeEpoch {
        number: 1,
        freeze: Some("f1".into()),
    };
    let (outcome, _) = told(&log, permitted(request("e", "cart"), "robot", now));
    assert_eq!(outcome.status, OutcomeStatus::Succeeded);
}

/// Makes three calls, and waits before the second until it is told to go on.
#[derive(Clone, Default)]
struct ThreeCalls(Arc<(Notify, Notify)>);

impl Executor for ThreeCalls {
    async fn execute(&self, _: &ActionRequest, calls: &Calls) -> Result<String, ExecuteError> {
        for call in 0..3 {
            if call == 1 {
                self.0.0.notify_one();
                self.0.1.notified().await;
            }
            calls.may().await?;
            calls.made(format!("call {call}"), "200 OK");
        }
        Ok("done".to_owned())
    }
}

#[test]
fn a_freeze_stops_an_action_under_way_between_its_calls() {
    let log = log(1);
    write(&log, &[good("a")]);
    let executor = ThreeCalls::default();
    let (reached, go_on) = (executor.0.clone(), executor.0.clone());
    let work = AtWork::begin(log.clone(), executor, options());
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(reached.0.notified());
    command(&log, "f1", 1, CommandKind::Freeze, true);
    go_on.1.notify_one();
    let found = wait_for(&log, 1, || false);
    work.end().unwrap();
    assert_eq!(statuses(&found, "a"), [OutcomeStatus::Started, OutcomeStatus::Failed]);
    assert_eq!(found[1].detail, "stopped after 1 calls: ann froze the scope");
    let made: Vec<&str> = found[1].calls.iter().map(|call| call.what.as_str()).collect();
    assert_eq!(made, ["call 0"]);
    assert_eq!(common::keys().check_outcome(&found[1]), Ok(()));
}

#[test]
fn an_executor_that_acts_does_not_begin_without_keys() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let without = Options {
        keys: suture_permit::Keyring::default(),
        ..options()
    };
    let kit = |dry: bool| {
        let (log, handle) = (Arc::new(log(1)), runtime.handle().clone());
        if dry {
            Kit::new(log, DryRun, without.clone(), handle, || NOW).err()
        } else {
            Kit::new(log, Recorder::default(), without.clone(), handle, || NOW).err()
        }
    };
    assert!(matches!(kit(false), Some(Error::NoKeys)));
    assert!(kit(true).is_none());
}
