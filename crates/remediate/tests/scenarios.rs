//! The scenarios beside this file, run straight, again with a snapshot and restore between every two steps, and again
//! with many marks of time in between. `SUTURE_BLESS=1` writes what comes out into them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests fail by panicking, as tests do

mod world;

use suture_event::{Span, verify_chain};
use suture_remediate::{Input, Output, Remediator, Trust};
use world::{Step, World, parse, scenarios};

fn play(text: &str) -> (World, String) {
    let (options, _) = parse(text);
    let (head, steps) = text.split_once("\n---\n").unwrap();
    let mut world = World::new(options);
    let mut played = format!("{head}\n---\n");
    for line in steps.lines().filter(|line| !line.starts_with('>')) {
        played.push_str(line);
        played.push('\n');
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        for out in world.take(line) {
            played.push_str(&format!("> {out}\n"));
        }
    }
    (world, played)
}

#[test]
fn each_scenario_comes_out_as_written() {
    let all = scenarios();
    assert!(all.len() > 10, "the scenarios are gone");
    for (name, path) in all {
        let text = std::fs::read_to_string(&path).unwrap();
        let (world, played) = play(&text);
        if std::env::var_os("SUTURE_BLESS").is_some() {
            std::fs::write(&path, &played).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap();
        for (number, (is, should)) in played.lines().zip(written.lines()).enumerate() {
            assert_eq!(is, should, "{name}, line {}", number + 1);
        }
        assert_eq!(played.lines().count(), written.lines().count(), "{name}");
        assert_eq!(verify_chain(world.ledger()), Ok(()), "{name}");
    }
}

#[test]
fn what_was_earned_is_what_the_ledger_says() {
    for (name, path) in scenarios() {
        let (world, _) = play(&std::fs::read_to_string(path).unwrap());
        let mut folded = Trust::default();
        world.ledger().into_iter().for_each(|record| folded.record(record));
        assert_eq!(&folded, world.remediator.trust(), "{name}");
    }
}

#[test]
fn a_restart_between_any_two_steps_changes_nothing() {
    for (name, path) in scenarios() {
        let (world, _) = play(&std::fs::read_to_string(path).unwrap());
        let mut remediator = World::new(parse_options(&name)).remediator;
        let mut outputs: Vec<Output> = Vec::new();
        for step in &world.steps {
            let bytes = rmp_serde::to_vec_named(&remediator).unwrap();
            remediator = rmp_serde::from_slice::<Remediator>(&bytes).unwrap();
            outputs.extend(remediator.step(step.input(), None));
        }
        assert_eq!(outputs, world.outputs, "{name}");
    }
}

#[test]
fn marks_of_time_in_between_change_nothing() {
    for (name, path) in scenarios() {
        let (world, _) = play(&std::fs::read_to_string(path).unwrap());
        let mut remediator = World::new(parse_options(&name)).remediator;
        let mut outputs: Vec<Output> = Vec::new();
        let mut before = world::START;
        for step in &world.steps {
            let last = step.at().minus(Span::from_millis(1));
            while before.plus(Span::from_secs(7)) < last && !matches!(step, Step::Time(_)) {
                before = before.plus(Span::from_secs(7));
                outputs.extend(remediator.step(Input::Time(before), None));
            }
            outputs.extend(remediator.step(step.input(), None));
            before = before.max(step.at());
        }
        assert_eq!(outputs, world.outputs, "{name}");
    }
}

fn parse_options(name: &str) -> suture_remediate::Options {
    let (_, path) = scenarios().into_iter().find(|(known, _)| known == name).unwrap();
    parse(&std::fs::read_to_string(path).unwrap()).0
}
