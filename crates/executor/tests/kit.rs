//! Requests in, outcomes out, each once, through restarts, duplicates and faults of the log.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests fail by panicking, as tests do

mod common;

use common::{AtWork, NOW, Recorder, log, options, outcomes, record, request, robot_key, statuses, wait_for, write};
use suture_codec::records;
use suture_event::{FreezeEpoch, Outcome, OutcomeStatus, Rung, Span};
use suture_executor::{DryRun, Error, ExecuteError, Options, Unlisted};
use suture_log::{
    Log, OutRecord,
    memory::{Faults, MemoryLog},
};

use OutcomeStatus::{DryRun as Dry, Failed, Refused, Rejected, Started, Succeeded};

/// Runs a kit until as many outcomes that are not `started` are there.
fn run(log: &MemoryLog, executor: impl suture_executor::Executor, options: Options, finals: usize) -> Vec<Outcome> {
    let work = AtWork::begin(log.clone(), executor, options);
    let found = wait_for(log, finals, || false);
    work.end().unwrap();
    found
}

#[test]
fn a_request_is_started_and_then_done() {
    let (log, recorder) = (log(1), Recorder::default());
    write(&log, &[request("a", "cart")]);
    let found = run(&log, recorder.clone(), options(), 1);
    assert_eq!(statuses(&found, "a"), [Started, Succeeded]);
    assert_eq!(
        (found[1].detail.as_str(), &*found[1].executor, found[1].at),
        ("done", "robot", NOW)
    );
    assert_eq!(recorder.calls(), ["a"]);
}

#[test]
fn a_dry_run_touches_nothing_and_says_what_it_would_do() {
    let log = log(1);
    write(&log, &[request("a", "cart")]);
    let found = run(&log, DryRun, options(), 1);
    assert_eq!(statuses(&found, "a"), [Dry]);
    assert_eq!(found[0].detail, "would rollback cart with change=deploy-7");
}

#[test]
fn a_request_is_acted_on_when_it_comes_again_approved() {
    let (log, recorder) = (log(1), Recorder::default());
    let asked = request("a", "cart");
    let waiting = suture_event::ActionRequest {
        rung: Rung::Supervised,
        ..asked.clone()
    };
    let advice = suture_event::ActionRequest {
        rung: Rung::Advise,
        ..request("b", "cart")
    };
    let approved = suture_event::ActionRequest {
        approved_by: Some("ann".into()),
        ..asked
    };
    write(&log, &[waiting, advice, approved]);
    let found = run(&log, recorder.clone(), options(), 1);
    assert_eq!(statuses(&found, "a"), [Started, Succeeded]);
    assert_eq!(statuses(&found, "b"), []);
    assert_eq!(recorder.calls(), ["a"]);
}

#[test]
fn what_is_written_again_is_rejected_also_after_a_restart() {
    let (log, recorder) = (log(1), Recorder::default());
    write(&log, &[request("a", "cart"), request("a", "cart")]);
    let found = run(&log, recorder.clone(), options(), 2);
    assert_eq!(statuses(&found, "a"), [Started, Succeeded, Rejected]);
    write(&log, &[request("a", "cart")]);
    let found = run(&log, recorder.clone(), options(), 3);
    assert_eq!(statuses(&found, "a"), [Started, Succeeded, Rejected, Rejected]);
    let why = format!("its permit was used at {NOW}: it is good for once");
    assert_eq!(found[3].detail, why);
    assert_eq!(recorder.calls(), ["a"]);
}

#[test]
fn an_outcome_that_nobody_vouches_for_keeps_nothing_from_being_done() {
    let (log, recorder) = (log(1), Recorder::default());
    write(&log, &[request("a", "cart"), request("b", "cart")]);
    // another process of this name has done b; somebody who can write to the topic says the same of a
    let mut done = Outcome {
        action: "b".into(),
        at: NOW,
        status: Succeeded,
        target: "cart".into(),
        scope: "prod".into(),
        executor: "robot".into(),
        detail: String::new(),
        mode: Default::default(),
        calls: Vec::new(),
        seal: None,
    };
    let mut forged = done.clone();
    forged.action = "a".into();
    done.seal = Some(robot_key().sign(&done));
    let mut borrowed = forged.clone();
    borrowed.seal = done.seal.clone();
    let records = [&forged, &borrowed, &done]
        .map(|outcome| OutRecord::new("suture.outcomes", "cart", serde_json::to_vec(outcome).unwrap()));
    log.appender().unwrap().append(&records).unwrap();
    let found = run(&log, recorder.clone(), options(), 5);
    assert_eq!(recorder.calls(), ["a"]);
    assert_eq!(statuses(&found, "a")[2..], [Started, Succeeded]);
    assert_eq!(statuses(&found, "b"), [Succeeded, Rejected]);
}

#[test]
fn what_may_not_be_done_is_refused_with_a_reason() {
    let (log, recorder) = (log(1), Recorder::default());
    let mut other = request("other", "cart");
    other.step.action = "scale_out".into();
    other.step.parameters.clear();
    let mut late = request("late", "cart");
    late.expires_at = NOW.minus(Span::from_millis(1));
    write(&log, &[other, late]);
    let found = run(&log, recorder.clone(), options(), 2);
    let details: Vec<_> = found
        .iter()
        .map(|outcome| (outcome.status, outcome.detail.as_str()))
        .collect();
    assert_eq!(
        details,
        [
            (Refused, "scale_out is not on the list of actions"),
            (Refused, "it expired at 2022-08-22T03:53:59.999Z")
        ]
    );
    assert!(recorder.calls().is_empty());
}

#[test]
fn two_executors_share_a_topic_each_with_its_actions() {
    let log = log(1);
    let mut other = request("b", "cart");
    other.step.action = "page".into();
    other.step.parameters.clear();
    let to = |request, executor: &str| common::permitted(request, executor, FreezeEpoch::default());
    write(&log, &[to(request("a", "cart"), "one"), to(other, "two")]);
    let options = |name: &str, action: &str| Options {
        name: name.to_owned(),
        group: name.to_owned(),
        actions: vec![action.to_owned()],
        unlisted: Unlisted::Leave,
        keys: common::keys(),
        ..Options::default()
    };
    let (first, second) = (Recorder::default(), Recorder::default());
    run(&log, first.clone(), options("one", "rollback"), 1);
    let found = run(&log, second.clone(), options("two", "page"), 2);
    assert_eq!(
        (first.calls(), second.calls()),
        (vec!["a".to_owned()], vec!["b".to_owned()])
    );
    assert_eq!(found.len(), 4);
}

#[test]
fn a_failure_and_a_refusal_by_the_executor_are_told_apart() {
    for (answer, status) in [
        (ExecuteError::Failed("no".into()), Failed),
        (ExecuteError::Refused("no".into()), Refused),
    ] {
        let log = log(1);
        write(&log, &[request("a", "cart")]);
        let recorder = Recorder {
            answer: Some(answer),
            ..Recorder::default()
        };
        assert_eq!(statuses(&run(&log, recorder, options(), 1), "a"), [Started, status]);
    }
}

#[test]
fn an_executor_that_hangs_or_breaks_down_has_failed_and_the_next_request_is_done() {
    let log = log(1);
    write(&log, &[request("a", "cart")]);
    let hangs = Recorder {
        never_ends: true,
        ..Recorder::default()
    };
    let found = run(
        &log,
        hangs,
        Options {
            time_limit: Span::from_millis(20),
            ..options()
        },
        1,
    );
    assert_eq!(
        (found[1].status, found[1].detail.as_str()),
        (Failed, "not done within 20ms")
    );
    write(&log, &[request("b", "cart"), request("c", "cart")]);
    let found = run(
        &log,
        Recorder {
            panics: true,
            ..Recorder::default()
        },
        options(),
        3,
    );
    assert_eq!(
        (statuses(&found, "b"), statuses(&found, "c")),
        (vec![Started, Failed], vec![Started, Failed])
    );
}

/// What a process leaves behind that died while it was acting.
fn begun(log: &MemoryLog) {
    write(log, &[request("a", "cart")]);
    let mut started = Outcome {
        action: "a".into(),
        at: NOW,
        status: Started,
        target: "cart".into(),
        scope: "prod".into(),
        executor: "robot".into(),
        detail: String::new(),
        mode: Default::default(),
        calls: Vec::new(),
        seal: None,
    };
    started.seal = Some(robot_key().sign(&started));
    let value = records::encode(&started).unwrap();
    log.appender()
        .unwrap()
        .append(&[OutRecord::new("suture.outcomes", "cart", value)])
        .unwrap();
}

#[test]
fn what_was_under_way_when_a_process_died_is_done_again_only_where_that_does_no_harm() {
    let (log, recorder) = (log(1), Recorder::default());
    begun(&log);
    assert_eq!(
        statuses(&run(&log, recorder.clone(), options(), 1), "a"),
        [Started, Succeeded]
    );
    assert_eq!(recorder.calls(), ["a"]);

    let (log, recorder) = (
        self::log(1),
        Recorder {
            not_repeatable: true,
            ..Recorder::default()
        },
    );
    begun(&log);
    assert_eq!(
        statuses(&run(&log, recorder.clone(), options(), 1), "a"),
        [Started, Failed]
    );
    assert!(recorder.calls().is_empty());
}

#[test]
fn a_record_that_is_no_request_is_passed_over() {
    let log = log(1);
    let poison = [
        OutRecord::new("suture.remediations", "cart", "{\"id\": 7"),
        OutRecord {
            topic: "suture.remediations".into(),
            ..OutRecord::default()
        },
        record(&common::permitted(
            request("a", "cart"),
            "robot",
            FreezeEpoch::default(),
        )),
    ];
    log.appender().unwrap().append(&poison).unwrap();
    assert_eq!(
        statuses(&run(&log, Recorder::default(), options(), 1), "a"),
        [Started, Succeeded]
    );
}

#[test]
fn a_request_that_was_never_committed_is_not_acted_on() {
    let (log, recorder) = (log(1), Recorder::default());
    let mut producer = log.producer("decide-0").unwrap();
    producer.begin().unwrap();
    producer
        .send(&record(&common::permitted(
            request("ghost", "cart"),
            "robot",
            FreezeEpoch::default(),
        )))
        .unwrap();
    producer.abort().unwrap();
    write(&log, &[request("a", "cart")]);
    run(&log, recorder.clone(), options(), 1);
    assert_eq!(recorder.calls(), ["a"]);
}

#[test]
fn more_requests_than_a_queue_holds_are_all_done_in_order() {
    let (log, recorder) = (log(1), Recorder::default());
    let ids: Vec<String> = (0..50).map(|n| format!("a{n}")).collect();
    write(&log, &ids.iter().map(|id| request(id, "cart")).collect::<Vec<_>>());
    run(&log, recorder.clone(), Options { queue: 3, ..options() }, 50);
    assert_eq!(recorder.calls(), ids);
}

#[test]
fn a_missing_topic_is_told() {
    let work = AtWork::begin(MemoryLog::default(), DryRun, options());
    while !work.is_over() {
        std::thread::yield_now();
    }
    let error = work.end().unwrap_err();
    assert!(
        matches!(&error, Error::NoTopic(topic) if topic == "suture.remediations"),
        "{error}"
    );
}

#[test]
fn through_crashes_and_faults_each_request_is_started_once_and_ends_once() {
    let mut crashes = 0;
    for seed in 0..6 {
        let log = log(1);
        let ids: Vec<String> = (0..6).map(|n| format!("a{n}")).collect();
        write(&log, &ids.iter().map(|id| request(id, "cart")).collect::<Vec<_>>());
        for life in 0..8 {
            let name = format!("life {life}");
            let rough = Faults {
                seed: seed * 100 + life,
                crash: 0.01,
                busy: 0.02,
                abort: 0.02,
                indefinite: 0.02,
                delay: 0.1,
                redeliver: 0.1,
            };
            let faults = if life < 7 { rough } else { Faults::default() };
            let client = log.client(&name, faults);
            let work = AtWork::begin(client, Recorder::default(), options());
            wait_for(&log, ids.len(), || work.is_over());
            crashes += usize::from(matches!(work.end(), Err(Error::Log(suture_log::Error::Crashed { .. }))));
            log.expel(&name);
        }
        let found = outcomes(&log);
        for id in &ids {
            assert_eq!(statuses(&found, id), [Started, Succeeded], "{id}, seed {seed}");
        }
    }
    assert!(crashes > 3, "the faults were too few to tell: {crashes}");
}
