//! What must hold whatever happens.

use crate::story::{Fact, Story, minute};
use proptest::prelude::*;
use suture_diagnose::{Diagnoser, Input, Options};
use suture_event::{EndReason, Incident};

const SERVICES: [&str; 7] = ["web", "cart", "search", "ads", "db", "pay", "bank"];
const METRICS: [&str; 6] = [
    "cpu_usage",
    "latency_p99",
    "error_rate",
    "memory_bytes",
    "requests",
    "node_cpu",
];

#[derive(Debug, Clone)]
enum Step {
    Off(usize, usize, f64),
    Back(usize, EndReason),
    Deploy(usize),
    Wait(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..7_usize, 1..=6_usize, 5.0..2_000.0_f64).prop_map(|(s, n, d)| Step::Off(s, n, d)),
        2 => (0..7_usize, prop_oneof![Just(EndReason::Recovered), Just(EndReason::Silent), Just(EndReason::Adapted)])
            .prop_map(|(s, r)| Step::Back(s, r)),
        2 => (0..7_usize).prop_map(Step::Deploy),
        4 => (1..40_i64).prop_map(Step::Wait),
    ]
}

fn facts(steps: &[Step]) -> Vec<Fact> {
    let mut story = Story::calm_shop();
    let mut now = 1;
    for step in steps {
        story = match step {
            Step::Off(service, count, deviation) => story.off(SERVICES[*service], &METRICS[..*count], *deviation),
            Step::Back(service, reason) => story.ends(SERVICES[*service], *reason),
            Step::Deploy(service) => story.deploy(SERVICES[*service]),
            Step::Wait(minutes) => {
                now += minutes;
                story.at(now)
            }
        };
    }
    story.at(now + 600).told
}

fn run(facts: &[Fact]) -> Vec<Incident> {
    let mut diagnoser = Diagnoser::new(Options::default(), "prod".into());
    facts.iter().flat_map(|fact| diagnoser.step(fact.input())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn how_often_time_is_told_changes_nothing(steps in prop::collection::vec(step(), 1..60), every in 1..90_i64) {
        let facts = facts(&steps);
        let first = facts.iter().position(|fact| matches!(fact, Fact::Time(_))).unwrap();
        let sparse: Vec<Fact> = facts.iter().enumerate()
            .filter(|(index, fact)| !matches!(fact, Fact::Time(_)) || *index + 1 == facts.len() || *index == first)
            .map(|(_, fact)| fact.clone()).collect();
        let mut diagnoser = Diagnoser::new(Options::default(), "prod".into());
        let mut dense = Vec::new();
        let mut told = minute(-2 * 24 * 60);
        for fact in &facts {
            let at = match fact {
                Fact::Edge(_) | Fact::Watched(_) => None,
                Fact::Change(change) => Some(change.at),
                Fact::Anomaly(anomaly) => Some(anomaly.at),
                Fact::Time(at) => Some(*at),
            };
            if let Some(at) = at.filter(|at| at.since(told) < suture_event::Span::from_hours(24)) {
                while told < at {
                    dense.extend(diagnoser.step(Input::Time(told)));
                    told = told.plus(suture_event::Span::from_secs(7 * every));
                }
            }
            told = told.max(at.unwrap_or(told));
            dense.extend(diagnoser.step(fact.input()));
            if let Some(at) = at {
                dense.extend(diagnoser.step(Input::Time(at)));
            }
        }
        prop_assert_eq!(&dense, &run(&facts));
        prop_assert_eq!(&dense, &run(&sparse));
    }

    #[test]
    fn a_snapshot_between_any_two_inputs_changes_nothing(steps in prop::collection::vec(step(), 1..40)) {
        let facts = facts(&steps);
        let mut diagnoser = Diagnoser::new(Options::default(), "prod".into());
        let mut out = Vec::new();
        for fact in &facts {
            let bytes = rmp_serde::to_vec_named(&diagnoser).unwrap();
            let restored: Diagnoser = rmp_serde::from_slice(&bytes).unwrap();
            prop_assert_eq!(&restored, &diagnoser);
            diagnoser = restored;
            out.extend(diagnoser.step(fact.input()));
        }
        prop_assert_eq!(out, run(&facts));
    }

    #[test]
    fn incidents_are_sound(steps in prop::collection::vec(step(), 1..60)) {
        let mut revisions = std::collections::BTreeMap::new();
        let mut resolved = std::collections::BTreeSet::new();
        for incident in run(&facts(&steps)) {
            let sum: f64 = incident.hypotheses.iter().map(|h| h.probability).sum::<f64>() + incident.none_of_these;
            prop_assert!((sum - 1.0).abs() < 1e-9, "{}", sum);
            prop_assert!(incident.hypotheses.windows(2).all(|w| w[0].probability >= w[1].probability));
            prop_assert!(incident.hypotheses.iter().zip(1..).all(|(h, rank)| h.rank == rank));
            prop_assert!(incident.hypotheses.iter().flat_map(|h| &h.evidence).all(|e| e.weight.is_finite()));
            prop_assert!(incident.signals.iter().any(|s| s.opening));
            let revision = revisions.entry(incident.id.clone()).or_insert(0);
            *revision += 1;
            prop_assert_eq!(incident.revision, *revision);
            prop_assert!(!resolved.contains(&incident.id), "nothing is said of an incident that is over");
            if incident.resolved_at.is_some() {
                resolved.insert(incident.id);
            }
        }
    }
}
