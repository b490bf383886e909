//! Policies, compiled and asked.

use std::{
    collections::BTreeMap,
    ops::Range,
    str::FromStr as _,
    sync::{Arc, LazyLock},
};

use cedar_policy::{
    Authorizer, Context, Decision, Effect, Entities, EntityId, EntityTypeName, EntityUid, PolicyId, PolicySet, Request,
    Response, Schema, ValidationMode, Validator,
};
use miette::Diagnostic;
use serde::Serialize;
use suture_event::Verb;

use crate::{Question, Source, schema};

/// Something that is wrong with policies, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// From 1; 0 where it is about the whole file.
    pub line: usize,
    /// In characters, from 1; 0 where it is about the whole file.
    pub column: usize,
    /// The offending bytes of the file; none where it is about the whole file.
    #[serde(skip)]
    pub span: Range<usize>,
    /// What is wrong, and what would be right where that is known.
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.message),
            line => write!(f, "{}:{line}:{}: {}", self.file, self.column, self.message),
        }
    }
}

/// What policies say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// A policy permits it, and none that counts forbids it.
    Allow,
    /// It is forbidden only by policies that a human's approval lifts.
    NeedsApproval,
    /// No policy permits it, one forbids it, or one could not be evaluated.
    Deny,
}

/// A verdict, and what it rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// What the policies say.
    pub verdict: Verdict,
    /// The policies that determined it, by id, in order of their names: those that permit, or those that forbid. Empty where none
    /// permits.
    pub policies: Vec<Arc<str>>,
    /// Why, where it is not allowed.
    pub why: String,
}

/// Policies that were parsed and hold to the schema. Evaluating them reads nothing, and says the same each time.
#[derive(Debug, Clone)]
pub struct Envelope {
    all: PolicySet,
    /// Without those that approval lifts.
    firm: PolicySet,
}

/// The schema, compiled, and its actions, so that `action in` knows of the classes. It depends on the table of verbs alone.
static SCHEMA: LazyLock<Result<(Schema, Entities), String>> = LazyLock::new(|| {
    let (schema, _) = Schema::from_cedarschema_str(&schema::schema()).map_err(|error| error.to_string())?;
    let actions = schema.action_entities().map_err(|error| error.to_string())?;
    Ok((schema, actions))
});

/// The annotation of a forbid that approval lifts, and its value.
const OBLIGATION: (&str, &str) = ("obligation", "require_approval");

impl Envelope {
    /// Compiles policies. A policy is known by its annotation `@id("…")`, otherwise by its file and place: `night.cedar#2`.
    ///
    /// # Errors
    /// Everything that is wrong, in the order of the files.
    pub fn new(sources: &[Source]) -> Result<Self, Vec<Problem>> {
        let (schema, _) = SCHEMA.as_ref().map_err(|error| {
            vec![Problem {
                file: "the schema".to_owned(),
                line: 0,
                column: 0,
                span: 0..0,
                message: format!("is broken, which is a fault of the program: {error}"),
            }]
        })?;
        let validator = Validator::new(schema.clone());
        let (mut all, mut firm) = (PolicySet::new(), PolicySet::new());
        let mut problems = Vec::new();
        let mut ids: BTreeMap<String, String> = BTreeMap::new();
        for source in sources {
            match PolicySet::from_str(&source.text) {
                Err(errors) => {
                    let found = errors.iter().map(|error| source.problem(error, error.to_string()));
                    problems.extend(found);
                }
                Ok(set) => {
                    let checked = validator.validate(&set, ValidationMode::Strict);
                    let found = checked.validation_errors();
                    let mut found: Vec<Problem> = found.map(|error| source.problem(error, error.to_string())).collect();
                    // one slip is told once for every action that the policy is about, in no order
                    let place = |problem: &Problem| (problem.span.start, problem.span.end);
                    found.sort_by(|one, other| place(one).cmp(&place(other)).then(one.message.cmp(&other.message)));
                    found.dedup_by(|later, first| later.span == first.span && !first.span.is_empty());
                    problems.extend(found);
                    take(source, &set, (&mut all, &mut firm), &mut ids, &mut problems);
                }
            }
        }
        if problems.is_empty() {
            Ok(Self { all, firm })
        } else {
            Err(problems)
        }
    }

    /// How many policies there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.num_of_policies()
    }

    /// Whether there is none, so that nothing is allowed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Asks whether an action may go ahead. What cannot be asked or evaluated is denied.
    #[must_use]
    pub fn ask(&self, question: &Question) -> Answer {
        let asked = SCHEMA.as_ref().map_err(Clone::clone).and_then(|(schema, actions)| {
            let request = Self::request(schema, question)?;
            Ok(self.answer(&request, actions, question.approvals))
        });
        match asked {
            Ok(answer) => answer,
            Err(why) => Answer {
                verdict: Verdict::Deny,
                policies: Vec::new(),
                why: format!("the policies could not be asked: {why}"),
            },
        }
    }

    fn answer(&self, request: &Request, actions: &Entities, approvals: i64) -> Answer {
        let authorizer = Authorizer::new();
        let asked = |set: &PolicySet| authorizer.is_authorized(request, set, actions);
        let first = asked(&self.all);
        let policies = names(&first);
        let deny = |policies: Vec<Arc<str>>, why: String| Answer {
            verdict: Verdict::Deny,
            policies,
            why,
        };
        // a forbid that cannot be evaluated would be skipped, and the rest might allow what it forbids
        if let Some(error) = first.diagnostics().errors().next() {
            return deny(policies, format!("a policy could not be evaluated: {error}"));
        }
        if first.decision() == Decision::Allow {
            return Answer {
                verdict: Verdict::Allow,
                policies,
                why: String::new(),
            };
        }
        if policies.is_empty() {
            return deny(policies, "no policy permits it".to_owned());
        }
        let lifted = |id: &PolicyId| self.all.annotation(id, OBLIGATION.0) == Some(OBLIGATION.1);
        let list = policies.join(", ");
        if !first.diagnostics().reason().all(lifted) {
            return deny(policies, format!("forbidden by {list}"));
        }
        let then = asked(&self.firm);
        if then.decision() != Decision::Allow || then.diagnostics().errors().next().is_some() {
            return deny(
                policies,
                format!("forbidden by {list}, and without those no policy permits it"),
            );
        }
        if approvals < 1 {
            return Answer {
                verdict: Verdict::NeedsApproval,
                policies,
                why: format!("{list} asks for an approval"),
            };
        }
        let mut policies = [policies, names(&then)].concat();
        policies.sort();
        Answer {
            verdict: Verdict::Allow,
            policies,
            why: String::new(),
        }
    }

    fn request(schema: &Schema, question: &Question) -> Result<Request, String> {
        let verb =
            Verb::of(&question.action).ok_or_else(|| format!("{:?} is no verb that is known", question.action))?;
        let uid = |kind: &str, id: &str| {
            let name = EntityTypeName::from_str(kind).map_err(|error| error.to_string())?;
            Ok::<_, String>(EntityUid::from_type_name_and_id(name, EntityId::new(id)))
        };
        let action = uid("Action", &question.action)?;
        let mut context = serde_json::to_value(&question.context).map_err(|error| error.to_string())?;
        if let Some(context) = context.as_object_mut() {
            context.insert("approvals".to_owned(), question.approvals.into());
            context.insert("reversibility".to_owned(), schema::class(verb.class).into());
        }
        let context = Context::from_json_value(context, Some((schema, &action))).map_err(|e| e.to_string())?;
        let (principal, resource) = (uid("Playbook", &question.playbook)?, uid("Service", &question.service)?);
        Request::new(principal, action, resource, context, Some(schema)).map_err(|error| error.to_string())
    }
}

/// Takes the policies of one file in, under names of their own.
fn take(
    source: &Source,
    set: &PolicySet,
    (all, firm): (&mut PolicySet, &mut PolicySet),
    ids: &mut BTreeMap<String, String>,
    problems: &mut Vec<Problem>,
) {
    let mut whole = |message: String| problems.push(source.at(None, message));
    if set.templates().next().is_some() {
        whole(
            "has a template (`?principal` or `?resource`), and nothing would fill it in: write the policy out"
                .to_owned(),
        );
    }
    // Cedar numbers them as they stand in the text
    let number = |id: &PolicyId| {
        id.to_string()
            .strip_prefix("policy")
            .and_then(|n| n.parse::<usize>().ok())
    };
    let mut policies: Vec<_> = set.policies().collect();
    policies.sort_by_key(|policy| number(policy.id()));
    for (at, policy) in policies.into_iter().enumerate() {
        let place = format!("{}#{}", source.name, at + 1);
        let name = policy.annotation("id").map_or_else(|| place.clone(), str::to_owned);
        if let Some(first) = ids.insert(name.clone(), place.clone()) {
            whole(format!(
                "{place} has the id {name:?}, which {first} has already: give it another"
            ));
            continue;
        }
        let obligation = policy.annotation(OBLIGATION.0);
        if let Some(other) = obligation.filter(|value| *value != OBLIGATION.1) {
            whole(format!(
                "{place} has the obligation {other:?}: the only one known is {:?}",
                OBLIGATION.1
            ));
        } else if obligation.is_some() && policy.effect() == Effect::Permit {
            whole(format!(
                "{place} permits, and has an obligation: approval lifts what a `forbid` forbids"
            ));
        }
        let named = policy.new_id(PolicyId::new(&name));
        if obligation.is_none()
            && let Err(error) = firm.add(named.clone())
        {
            whole(format!("{place}: {error}"));
        }
        if let Err(error) = all.add(named) {
            whole(format!("{place}: {error}"));
        }
    }
}

fn names(response: &Response) -> Vec<Arc<str>> {
    let mut names: Vec<Arc<str>> = response
        .diagnostics()
        .reason()
        .map(|id| Arc::from(AsRef::<str>::as_ref(id)))
        .collect();
    names.sort();
    names
}

impl Source {
    fn problem(&self, error: &dyn Diagnostic, message: String) -> Problem {
        let label = error.labels().and_then(|mut labels| labels.next());
        let span = label.map(|label| label.offset()..label.offset().saturating_add(label.len()));
        let help = error.help().map(|help| format!("; {help}")).unwrap_or_default();
        self.at(span, format!("{message}{help}"))
    }

    fn at(&self, span: Option<Range<usize>>, message: String) -> Problem {
        let place = span.as_ref().map(|span| {
            let before = self.text.get(..span.start).unwrap_or(&self.text);
            let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            (line, column)
        });
        let (line, column) = place.unwrap_or_default();
        Problem {
            file: self.name.clone(),
            line,
            column,
            span: span.unwrap_or(0..0),
            message,
        }
    }
}
