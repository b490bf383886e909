//! What policies allow, what they deny, and what they leave to a human.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests fail by panicking, as tests do

use suture_policy::{Context, Envelope, Question, Source, Verdict, schema};

const POLICIES: &str = r#"
@id("anything that can be taken back")
permit (principal, action in Action::"reversible", resource);

@id("hands off what matters most at night")
@obligation("require_approval")
forbid (principal, action, resource) when { context.tier == 0 && (context.hour < 8 || context.hour >= 20) };

@id("not the ledger's own broker")
forbid (principal, action, resource == Service::"kafka");

forbid (principal, action, resource) when { context.fleet_percent > 20 };
"#;

fn source(text: &str) -> Source {
    Source {
        name: "ops.cedar".to_owned(),
        text: text.to_owned(),
    }
}

fn envelope() -> Envelope {
    Envelope::new(&[source(POLICIES)]).unwrap()
}

fn ask(change: impl FnOnce(&mut Question)) -> (Verdict, Vec<String>) {
    let mut question = Question::default();
    change(&mut question);
    let answer = envelope().ask(&question);
    (
        answer.verdict,
        answer.policies.iter().map(ToString::to_string).collect(),
    )
}

#[test]
fn what_a_policy_permits_goes_and_all_else_does_not() {
    assert_eq!(
        ask(|_| ()),
        (Verdict::Allow, vec!["anything that can be taken back".to_owned()])
    );
    assert_eq!(ask(|q| q.action = "scale_in".into()), (Verdict::Deny, vec![]));
    assert_eq!(
        Envelope::new(&[]).unwrap().ask(&Question::default()).verdict,
        Verdict::Deny
    );
}

#[test]
fn a_forbid_wins_and_only_one_that_says_so_is_lifted() {
    let kafka = ask(|q| {
        q.service = "kafka".into();
        q.approvals = 2;
    });
    assert_eq!(kafka, (Verdict::Deny, vec!["not the ledger's own broker".to_owned()]));
    let night = |approvals, service: &str| {
        ask(|q| {
            q.context.tier = 0;
            q.context.hour = 3;
            q.approvals = approvals;
            q.service = service.into();
        })
    };
    assert_eq!(
        night(0, "cart"),
        (
            Verdict::NeedsApproval,
            vec!["hands off what matters most at night".to_owned()]
        )
    );
    assert_eq!(night(1, "cart").0, Verdict::Allow);
    assert_eq!(night(1, "kafka").0, Verdict::Deny);
    let fleet = ask(|q| q.context.fleet_percent = 21);
    assert_eq!(fleet, (Verdict::Deny, vec!["ops.cedar#4".to_owned()]));
}

#[test]
fn what_no_policy_permits_is_not_put_to_a_human() {
    let (verdict, _) = ask(|q| {
        q.action = "scale_in".into();
        q.context.tier = 0;
        q.context.hour = 3;
    });
    assert_eq!(verdict, Verdict::Deny);
}

#[test]
fn what_cannot_be_asked_or_evaluated_is_denied() {
    assert_eq!(ask(|q| q.action = "noop".into()).0, Verdict::Deny);
    // arithmetic that overflows: the permit beside it would let it through
    let text = "permit (principal, action, resource);\nforbid (principal, action, resource) when \
                { context.tier * 9000000000000000000 > 1 };";
    let envelope = Envelope::new(&[source(text)]).unwrap();
    let asked = |tier| {
        envelope.ask(&Question {
            context: Context {
                tier,
                ..Context::default()
            },
            ..Question::default()
        })
    };
    assert_eq!(asked(0).verdict, Verdict::Allow);
    let answer = asked(9);
    assert_eq!(answer.verdict, Verdict::Deny);
    assert!(answer.why.contains("could not be evaluated"), "{}", answer.why);
}

#[test]
fn what_is_wrong_is_told_with_file_line_and_column() {
    for (text, place, says) in [
        ("permit (principal, action, resource)", "ops.cedar:1:", "unexpected end"),
        (
            "permit (principal, action, resource)\n  when { context.teir == 0 };",
            "ops.cedar:2:",
            "teir",
        ),
        (
            "permit (principal, action == Action::\"restrat\", resource);",
            "ops.cedar:1:",
            "restrat",
        ),
        (
            "permit (principal, action, resource) when { context.hour > \"8\" };",
            "ops.cedar:1:",
            "type",
        ),
        (
            "permit (principal == ?principal, action, resource);",
            "ops.cedar: ",
            "template",
        ),
        (
            "@obligation(\"ask\") forbid (principal, action, resource);",
            "ops.cedar: ",
            "require_approval",
        ),
        (
            "@id(\"a\") permit (principal, action, resource);\n@id(\"a\") permit (principal, action, resource);",
            "ops.cedar: ",
            "already",
        ),
    ] {
        let problems = Envelope::new(&[source(text)]).unwrap_err();
        let told = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert!(told.contains(place) && told.contains(says), "{text}\n{told}");
    }
}

#[test]
fn the_schema_has_every_verb_in_its_class() {
    let schema = schema();
    for verb in suture_event::VERBS {
        assert!(schema.contains(&format!("action {:?} in", verb.name)), "{}", verb.name);
    }
}
