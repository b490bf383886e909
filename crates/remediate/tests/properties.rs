//! What holds for any sequence of incidents, outcomes, commands and time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests fail by panicking, as tests do

// the scenarios use more of it
#[allow(dead_code)]
mod world;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::Value;
use suture_event::{Cause, Rung, ShardId, Span, Timestamp, verify_chain};
use suture_remediate::{Input, Options, Output, Remediator, kind};
use world::{START, Step, World};

const OPTIONS: &str = r#"
mode: autonomous
concurrent: 2
hold: 5s
approval_within: 2m
budget: {service: {actions: 2, per: 20m}, scope: {actions: 4, per: 20m}}
bounds: {incidents: 3, requests_per_incident: 4, remembered: 5, history: 50, changes: 2}
playbooks:
- &rollback
  name: rollback
  owner: shop
  match: {class: [bad_deploy]}
  rung: autonomous
  action: {action: rollback, parameters: {change: "{{change}}"}}
  reversal: {action: deploy}
  safety: &safe
    trigger: errors after a deploy
    false_positives: [none known]
    blast_radius: one service
    reversal_time: 1m
    budget: {actions: 3, per: 20m}
    telemetry: [errors]
  limits: {attempts: 2, cooldown: 1m, verify_within: 3m, expires_after: 1m, on_failure: reverse}
- name: clean
  owner: shop
  match: {class: [disk_full]}
  rung: autonomous
  action: {action: clean}
  safety: *safe
  limits: {cooldown: 30s, verify_within: 3m, expires_after: 1m}
- name: restart
  owner: shop
  match: {class: [memory_leak]}
  rung: supervised
  action: {action: restart}
  reversal: {action: start}
  safety: *safe
- {name: page, action: {action: page}}
"#;

/// A line of the scenarios' language without its time.
fn line() -> impl Strategy<Value = String> {
    let incident = prop::sample::select(vec!["i1", "i2", "i3", "i4"]);
    let cause = prop::sample::select(vec![
        "bad_deploy cart d1",
        "bad_deploy cart d2",
        "bad_deploy ads d3",
        "disk_full cart",
        "disk_full ads",
        "memory_leak cart",
        "memory_leak pay",
        "odd -",
    ]);
    let probability = prop::sample::select(vec!["0.3", "0.6", "0.9"]);
    let state = prop::sample::select(vec!["active", "active", "recovered", "silent", "adapted"]);
    let verb = prop::sample::select(vec!["open", "open", "open", "resolve"]);
    let action = prop::sample::select(vec!["a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8"]);
    let status = prop::sample::select(vec![
        "started",
        "succeeded",
        "succeeded",
        "failed",
        "refused",
        "dry_run",
    ]);
    prop_oneof![
        6 => (verb, incident.clone(), probability, cause, state.clone(), state)
            .prop_map(|(verb, id, p, cause, one, two)| format!("{verb} {id} {p} {cause} errors={one} memory={two}")),
        5 => (status, action.clone()).prop_map(|(status, action)| format!("{status} {action}")),
        2 => action.clone().prop_map(|action| format!("approve {action} ann")),
        1 => action.prop_map(|action| format!("deny {action} ann")),
        1 => prop::sample::select(vec!["freeze ann", "thaw ann", "thaw ann"]).prop_map(str::to_owned),
        1 => incident.clone().prop_map(|id| format!("acknowledge {id} ann")),
        1 => incident.prop_map(|id| format!("label {id} maintenance ann")),
        1 => Just("time".to_owned()),
        1 => Just("change d2 cart cart:2".to_owned()),
    ]
}

/// Lines with the seconds between them; a mark of time comes after the others of its time, as the interface says.
fn script() -> impl Strategy<Value = Vec<String>> {
    let gap = prop_oneof![4 => 1i64..30, 2 => 30i64..200, 1 => 200i64..2_000];
    prop::collection::vec((gap, line()), 1..60).prop_map(|lines| {
        let mut at = 0;
        let timed = lines.into_iter().map(|(gap, line)| {
            at += gap;
            format!("{at}s {line}")
        });
        timed.collect()
    })
}

fn options() -> Options {
    serde_saphyr::from_str(OPTIONS).unwrap_or_else(|error| panic!("{error}"))
}

fn played(script: &[String]) -> World {
    let mut world = World::new(options());
    for line in script {
        world.take(line);
    }
    world
}

fn cause(seq: usize) -> Cause {
    Cause {
        shard: ShardId {
            topic: "telemetry".into(),
            partition: 0,
        },
        seq: seq as u64,
    }
}

/// Runs the steps with causes, and `before` each of them.
fn run(steps: &[Step], mut before: impl FnMut(&mut Remediator, &Step, &mut Vec<Output>)) -> Vec<Output> {
    let mut remediator = World::new(options()).remediator;
    let mut outputs = Vec::new();
    for (seq, step) in steps.iter().enumerate() {
        before(&mut remediator, step, &mut outputs);
        outputs.extend(remediator.step(step.input(), Some(&cause(seq))));
    }
    outputs
}

/// Who is on which service, read off the ledger alone.
#[derive(Default)]
struct Watch {
    /// Target and incident of each action that is neither advice nor over.
    open: BTreeMap<String, (String, String)>,
    sent: Vec<(Timestamp, String, String)>,
}

impl Watch {
    fn see(&mut self, output: &Output) {
        match output {
            Output::Request(request) => {
                if request.rung == Rung::Advise {
                    return;
                }
                let (id, target, incident) = (
                    request.id.to_string(),
                    request.target.to_string(),
                    request.incident.to_string(),
                );
                let other = self
                    .open
                    .iter()
                    .find(|(open, at)| **open != id && (at.0 == target || at.1 == incident));
                assert_eq!(other, None, "two actions at once on {target} or for {incident}");
                self.open.insert(id, (target.clone(), incident));
                if request.rung == Rung::Autonomous && request.reverses.is_none() {
                    assert!(
                        request.reversal.is_some() || request.approved_by.is_some(),
                        "nothing undoes {request:?}"
                    );
                    self.sent.push((request.at, target, request.playbook.to_string()));
                }
                if request.rung == Rung::Autonomous {
                    assert!(request.at < request.expires_at && request.expires_at < request.verify_by);
                }
            }
            Output::Ledger(record) => {
                let ends = [
                    kind::VERIFIED,
                    kind::NOT_VERIFIED,
                    kind::REVERSED,
                    kind::REVERSAL_FAILED,
                    kind::DENIED,
                    kind::WITHDRAWN,
                    kind::ESCALATED,
                ];
                let over = ends.contains(&record.kind.as_ref());
                let of = |name: &str| record.body[name].as_str().map(str::to_owned);
                if let Some(id) = of("action").filter(|_| over) {
                    self.open.remove(&id);
                }
                let failed = ["failed", "refused", "dry_run"]
                    .map(Value::from)
                    .contains(&record.body["outcome"]["status"]);
                if *record.kind == *kind::OUTCOME && failed {
                    self.open.remove(record.body["outcome"]["action"].as_str().unwrap());
                }
            }
        }
    }

    fn check_budgets(&self) {
        let span = Span::from_mins(20);
        for (at, target, playbook) in &self.sent {
            let within = |picked: &dyn Fn(&(Timestamp, String, String)) -> bool| {
                self.sent
                    .iter()
                    .filter(|one| one.0 <= *at && one.0.plus(span) > *at && picked(one))
                    .count()
            };
            assert!(within(&|_| true) <= 4, "the scope's budget");
            assert!(within(&|one| one.1 == *target) <= 2, "the budget of {target}");
            assert!(within(&|one| one.2 == *playbook) <= 3, "the budget of {playbook}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn never_two_at_once_nor_more_than_budgeted_nor_what_nothing_undoes(script in script()) {
        let world = played(&script);
        let mut watch = Watch::default();
        world.outputs.iter().for_each(|output| watch.see(output));
        watch.check_budgets();
        prop_assert_eq!(verify_chain(world.ledger()), Ok(()));
        prop_assert!(world.remediator.open_actions().count() <= 3 + 5);
    }

    /// One incident after the other, each healed at once: what is left to hold actions back is the budgets.
    #[test]
    fn budgets_hold_however_often_services_flap(
        flaps in prop::collection::vec((61i64..200, 0usize..6), 20..40),
    ) {
        let causes = [
            "bad_deploy cart", "bad_deploy ads", "bad_deploy pay", "disk_full cart", "memory_leak cart", "memory_leak ads",
        ];
        let mut world = World::new(options());
        let mut at = 0;
        for (n, (gap, cause)) in flaps.iter().enumerate() {
            at += gap;
            let cause = causes[*cause];
            let change = if cause.starts_with("bad") { format!(" d{n}") } else { String::new() };
            world.take(&format!("{at}s open i{n} 0.9 {cause}{change} errors=active"));
            // the hold of five seconds
            at += 6;
            world.take(&format!("{at}s time"));
            let waiting: Vec<String> = world.remediator.open_actions().map(|request| request.id.to_string()).collect();
            for id in waiting {
                world.take(&format!("{at}s approve {id} ann"));
                world.take(&format!("{at}s succeeded {id}"));
            }
            world.take(&format!("{at}s resolve i{n} 0.9 {cause}{change} errors=recovered"));
        }
        let mut watch = Watch::default();
        world.outputs.iter().for_each(|output| watch.see(output));
        watch.check_budgets();
        let spent = |record: &&suture_event::LedgerRecord| record.body["limited_by"].to_string().contains("budget");
        prop_assert!(world.ledger().iter().any(spent), "no budget was ever spent");
    }

    #[test]
    fn a_restart_anywhere_changes_nothing(script in script(), every in 1usize..5) {
        let steps = played(&script).steps;
        let straight = run(&steps, |_, _, _| {});
        let mut count = 0;
        let restarted = run(&steps, |remediator, _, _| {
            count += 1;
            if count % every == 0 {
                let bytes = rmp_serde::to_vec_named(remediator).unwrap();
                *remediator = rmp_serde::from_slice(&bytes).unwrap();
            }
        });
        prop_assert_eq!(restarted, straight);
    }

    #[test]
    fn marks_of_time_in_between_change_nothing(script in script(), gap in 1i64..90) {
        let steps = played(&script).steps;
        let straight = run(&steps, |_, _, _| {});
        let mut at = START;
        let ticked = run(&steps, |remediator, step, outputs| {
            while at.plus(Span::from_secs(gap)) < step.at() {
                at = at.plus(Span::from_secs(gap));
                outputs.extend(remediator.step(Input::Time(at), Some(&cause(usize::MAX))));
            }
            at = at.max(step.at());
        });
        prop_assert_eq!(ticked, straight);
    }

    #[test]
    fn action_ids_are_never_used_twice(script in script()) {
        let mut seen = BTreeSet::new();
        for output in &played(&script).outputs {
            if let Output::Request(request) = output {
                // an approved request is said again under its id
                prop_assert!(seen.insert((request.id.clone(), request.approved_by.is_some())));
            }
        }
    }

    /// One incident comes, is resolved, and comes again when so many others have that it was forgotten.
    #[test]
    fn what_is_asked_for_an_incident_that_was_forgotten_has_new_ids(others in 0usize..8) {
        let mut world = World::new(options());
        let mut at = 0;
        let mut flap = |world: &mut World, id: &str| {
            for state in ["open", "resolve"] {
                at += 300;
                let is = if state == "open" { "active" } else { "recovered" };
                world.take(&format!("{at}s {state} {id} 0.9 odd cart errors={is}"));
                at += 10;
                world.take(&format!("{at}s time"));
            }
        };
        flap(&mut world, "again");
        (0..others).for_each(|n| flap(&mut world, &format!("other{n}")));
        flap(&mut world, "again");
        let mut ids: Vec<_> = world
            .outputs
            .iter()
            .filter_map(|output| match output {
                Output::Request(request) if *request.incident == *"again" => Some(request.id.clone()),
                _ => None,
            })
            .collect();
        prop_assert!(!ids.is_empty());
        let asked = ids.len();
        ids.sort();
        ids.dedup();
        prop_assert_eq!(ids.len(), asked, "of {} others, {} are remembered", others, 3);
    }

    #[test]
    fn everything_ends_once_time_goes_on_and_nobody_says_anything(script in script()) {
        let mut world = played(&script);
        world.remediator.step(Input::Time(START.plus(Span::from_hours(24 * 365))), None);
        prop_assert_eq!(world.remediator.open_actions().count(), 0);
        prop_assert_eq!(world.remediator.next_due(), None);
    }
}
