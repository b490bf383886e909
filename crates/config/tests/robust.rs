//! Whatever a file holds, reading it ends with a pipeline or with problems at places that are in the file.

use proptest::prelude::*;
use suture_config::{Look, Pipeline, Problems};

const WORKS: &str = "name: shop
kafka: {client: {bootstrap.servers: \"${BROKERS:-localhost:9092}\", linger.ms: 5}, prefix: größer}
telemetry:
  - &first {topic: telemetry, where: \"metric NOT LIKE 'debug.%'\"}
  - {<<: *first, topic: other, value: value * 2}
window: {size: 1m, slide: 30s, lateness: 10s}
signals:
  - name: latency
    match: {metric: \"*Latency*\", labels: {stat: \"p9*\"}}
    direction: up
    detect: {episode: {open: 2, of: 3}}
remediate: {playbooks: [{name: back, action: {action: rollback, parameters: {to: \"{{service}}\"}}}]}
";

fn places_are_in(text: &str, problems: &Problems) -> Result<(), TestCaseError> {
    for problem in problems {
        prop_assert!(problem.span.end <= text.len(), "{problem:?}");
        prop_assert!(
            text.is_char_boundary(problem.span.start) && text.is_char_boundary(problem.span.end),
            "{problem:?}"
        );
        prop_assert!(
            problem.line >= 1 && problem.line <= text.lines().count().max(1) + 1,
            "{problem:?}"
        );
        prop_assert!(!problem.message.is_empty(), "{problem:?}");
    }
    prop_assert!(!problems.render(Look::Plain).is_empty());
    Ok(())
}

fn read(text: &str) -> Result<(), TestCaseError> {
    match Pipeline::parse("any.yaml", text, &|_| None) {
        Ok(pipeline) => prop_assert!(!pipeline.telemetry.is_empty()),
        Err(problems) => {
            prop_assert!(problems.has_errors());
            places_are_in(text, &problems)?;
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_text_is_read_or_refused(text in "[a-z:{}\\[\\]\"'&*$!|>#ü \n\t-]{0,80}") {
        read(&text)?;
    }

    #[test]
    fn a_file_with_one_slip_is_read_or_refused(at in 0..600_usize, cut in 0..6_usize, put in "[a-z:{}\"$*&\n\t -]{0,3}") {
        let chars: Vec<char> = WORKS.chars().collect();
        let at = at.min(chars.len());
        let end = (at + cut).min(chars.len());
        let text: String = chars[..at].iter().copied().chain(put.chars()).chain(chars[end..].iter().copied()).collect();
        read(&text)?;
    }
}

#[test]
fn the_file_without_a_slip_has_one_problem_only() {
    let problems = Pipeline::parse("any.yaml", WORKS, &|_| None).unwrap_err();
    let paths: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["kafka.prefix"]);
}
