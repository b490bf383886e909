//! Whether a request is to be acted on: a pure function of the request, the time, what is allowed and what was done.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use globset::{Glob, GlobSet, GlobSetBuilder};
use suture_event::{
    ActionRequest, ExecutorMode, Outcome, OutcomeStatus, Reversibility, Rung, Severity, Span, Timestamp, Verb,
    parameter_flaws,
};
use suture_permit::{Flaw, Keyring};
use suture_policy::{Context, Guard, Question};

use crate::{Budget, Error, Options, Unlisted};

/// What an executor may do, compiled from its [`Options`].
#[derive(Debug, Clone)]
pub struct Allowed {
    actions: GlobSet,
    targets: GlobSet,
    unlisted: Unlisted,
    keys: Keyring,
    name: String,
    service_budget: Budget,
    pipeline_budget: Budget,
    guard: Option<Guard>,
}

impl Allowed {
    /// Compiles the lists.
    ///
    /// # Errors
    /// [`Error::Options`] with every problem of the options.
    pub fn new(options: &Options) -> Result<Self, Error> {
        options.check()?;
        let set = |globs: &[String]| {
            let mut builder = GlobSetBuilder::new();
            globs.iter().filter_map(|glob| Glob::new(glob).ok()).for_each(|glob| {
                builder.add(glob);
            });
            builder.build().unwrap_or_else(|_| GlobSet::empty())
        };
        Ok(Self {
            actions: set(&options.actions),
            targets: set(&options.targets),
            unlisted: options.unlisted,
            keys: options.keys.clone(),
            name: options.name.clone(),
            service_budget: options.service_budget,
            pipeline_budget: options.pipeline_budget,
            guard: options.policy.as_ref().map(Guard::of),
        })
    }
}

/// The last outcome of each request, by id. Bounded: the ids that came first are forgotten first.
#[derive(Debug, Clone)]
pub struct Done {
    by_id: BTreeMap<Arc<str>, Outcome>,
    order: VecDeque<Arc<str>>,
    /// When what was started on which service, in the order it became known.
    started: VecDeque<(Timestamp, Arc<str>)>,
    bound: usize,
}

impl Done {
    /// Nothing done yet; `bound` ids will be known.
    #[must_use]
    pub const fn new(bound: usize) -> Self {
        Self {
            by_id: BTreeMap::new(),
            order: VecDeque::new(),
            started: VecDeque::new(),
            bound,
        }
    }

    /// Takes an outcome in. A `started` that is read again does not undo what is known of the end.
    pub fn remember(&mut self, outcome: &Outcome) {
        // it says nothing about the action of that id, only about a record that pretended to be its request
        if outcome.status == OutcomeStatus::Rejected {
            return;
        }
        if let Some(known) = self.by_id.get_mut(&outcome.action) {
            if outcome.status != OutcomeStatus::Started {
                *known = outcome.clone();
            }
            return;
        }
        if outcome.status == OutcomeStatus::Started && outcome.mode == ExecutorMode::Live {
            self.started.push_back((outcome.at, Arc::clone(&outcome.target)));
            if self.started.len() > self.bound {
                self.started.pop_front();
            }
        }
        self.by_id.insert(Arc::clone(&outcome.action), outcome.clone());
        self.order.push_back(Arc::clone(&outcome.action));
        while self.order.len() > self.bound {
            if let Some(oldest) = self.order.pop_front() {
                self.by_id.remove(&oldest);
            }
        }
    }

    /// The last outcome of a request.
    #[must_use]
    pub fn get(&self, action: &str) -> Option<&Outcome> {
        self.by_id.get(action)
    }

    /// How many actions were started within a budget's span, on one service or on any.
    fn used(&self, budget: Budget, now: Timestamp, target: Option<&str>) -> usize {
        let counts = |at: Timestamp, on: &str| at.plus(budget.per) > now && target.is_none_or(|target| target == on);
        self.started.iter().filter(|(at, on)| counts(*at, on)).count()
    }

    /// How many ids are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

/// What to do with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Do it.
    Act,
    /// It was started before, and nobody wrote down how it ended: do it again only if that does no harm.
    Resume,
    /// Say that this is no valid request, and why: no permit, one that does not fit, or one that was used.
    Reject(String),
    /// Say that it is refused, and why.
    Refuse(String),
    /// Pass over it, and why: it is not for this executor, or nobody waits for an answer.
    Leave(String),
}

/// Judges a request at wall time `now`; `dry` where nothing will be touched, for which no permit is needed.
#[must_use]
pub fn decide(request: &ActionRequest, now: Timestamp, allowed: &Allowed, done: &Done, dry: bool) -> Verdict {
    // not an outcome: the same id comes again as autonomous once it is approved
    if request.rung != Rung::Autonomous {
        return Verdict::Leave("it is not autonomous: nobody may act on it yet".to_owned());
    }
    let action = &request.step.action;
    let listed = allowed.actions.is_match(action.as_ref());
    if !listed && allowed.unlisted == Unlisted::Leave {
        return Verdict::Leave(format!("{action} is for another executor"));
    }
    if !dry || !allowed.keys.is_empty() {
        let executor = (!dry).then_some(allowed.name.as_str());
        match allowed.keys.check_request(request, executor) {
            Ok(_) => {}
            Err(Flaw::OtherExecutor(other)) if allowed.unlisted == Unlisted::Leave => {
                return Verdict::Leave(format!("its permit is for executor {other}"));
            }
            Err(flaw) => return Verdict::Reject(flaw.to_string()),
        }
    }
    let before = done.get(&request.id);
    if let Some(before) = before.filter(|before| before.status != OutcomeStatus::Started) {
        return Verdict::Reject(format!("its permit was used at {}: it is good for once", before.at));
    }
    if let Err(why) = class(request) {
        return Verdict::Refuse(why);
    }
    if now > request.verify_by && before.is_none() {
        return Verdict::Leave(format!(
            "it was to be over by {}: nobody waits for it",
            request.verify_by
        ));
    }
    if !listed {
        return Verdict::Refuse(format!("{action} is not on the list of actions"));
    }
    if !allowed.targets.is_match(request.target.as_ref()) {
        return Verdict::Refuse(format!("{} is not on the list of services", request.target));
    }
    if before.is_some() {
        return Verdict::Resume;
    }
    if now > request.expires_at {
        return Verdict::Refuse(format!("it expired at {}", request.expires_at));
    }
    if request.reverses.is_none() && !dry {
        let (service, pipeline) = (allowed.service_budget, allowed.pipeline_budget);
        for (budget, target, of) in [
            (
                service,
                Some(request.target.as_ref()),
                "on the service, over all scopes",
            ),
            (pipeline, None, "by this executor"),
        ] {
            let used = done.used(budget, now, target);
            if used >= budget.actions as usize {
                return Verdict::Refuse(format!(
                    "{used} of {} actions in {} are used {of}",
                    budget.actions, budget.per
                ));
            }
        }
    }
    if request.reverses.is_none()
        && let Some(guard) = &allowed.guard
    {
        let answer = guard.ask(question(request, now, allowed, done), now);
        if answer.verdict != suture_policy::Verdict::Allow {
            return Verdict::Refuse(format!("policy: {}", answer.why));
        }
    }
    Verdict::Act
}

/// What policies are asked of a request: what is known here, and what decide has signed of what it knew. Where it has signed
/// nothing the worst is taken.
fn question(request: &ActionRequest, now: Timestamp, allowed: &Allowed, done: &Done) -> Question {
    let action = &request.step.action;
    let weighed = request.weighed.as_ref();
    let left = |budget: Budget, target| {
        let used = u32::try_from(done.used(budget, now, target)).unwrap_or(u32::MAX);
        budget.actions.saturating_sub(used).saturating_sub(1)
    };
    let here = left(allowed.service_budget, Some(request.target.as_ref())).min(left(allowed.pipeline_budget, None));
    let minute = now.minus(Span::from_mins(1));
    let others = done
        .started
        .iter()
        .filter(|(at, on)| *at > minute && *on != request.target);
    let others: BTreeSet<&Arc<str>> = others.map(|(_, on)| on).collect();
    let severity = weighed.map_or(Severity::Critical, |weighed| weighed.severity);
    let context = Context {
        environment: request.scope.to_string(),
        tier: weighed.map_or(0, |weighed| weighed.tier.into()),
        class: request.class.to_string(),
        severity: match severity {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
        .to_owned(),
        undoable: request.reversal.is_some() || Verb::of(action).is_some_and(|verb| verb.leaves_nothing),
        targets: 1,
        touched: i64::try_from(others.len()).unwrap_or(i64::MAX).saturating_add(1),
        // a freeze is looked for in the commands topic, before every call
        frozen: false,
        budget_left: i64::from(here.min(weighed.map_or(0, |weighed| weighed.budget_left))),
        trust: weighed.map_or(0, |weighed| weighed.trust.into()),
        confidence: weighed.map_or(0, |weighed| weighed.confidence.into()),
        precedents: weighed.map_or(0, |weighed| weighed.precedents.into()),
        ..Context::default()
    };
    let people: BTreeSet<&Arc<str>> = request.approvals.iter().map(|approval| &approval.by).collect();
    Question {
        playbook: request.playbook.to_string(),
        action: action.to_string(),
        service: request.target.to_string(),
        approvals: i64::try_from(people.len()).unwrap_or(i64::MAX),
        context,
    }
}

/// What engineering's table says of a request, whoever signed it: its verb, who must have approved it, and its parameters.
fn class(request: &ActionRequest) -> Result<(), String> {
    let action = &request.step.action;
    let Some(verb) = Verb::of(action) else {
        return Err(format!("{action} is no verb that is known: it can only be advised"));
    };
    let highest = if request.reverses.is_some() {
        verb.highest_as_reversal()
    } else {
        verb.class.highest()
    };
    if highest < Rung::Autonomous && request.approvals.is_empty() {
        return Err(format!("{action} {}, and nobody approved it", verb.class.words()));
    }
    if verb.class == Reversibility::Irreversible && !request.approvals.iter().any(|approval| approval.key.is_some()) {
        return Err(format!(
            "{action} {}, and the approval is not signed",
            verb.class.words()
        ));
    }
    // what a playbook declared was checked when it was filled in, and is signed; nothing may pass here that is no line of words
    let flaws = parameter_flaws(&request.step, |name| {
        verb.parameter(name).is_none().then_some(suture_event::Shape::Text)
    });
    match flaws.into_iter().next() {
        Some((name, flaw)) => Err(format!("its parameter {name} does not fit: {flaw}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use suture_event::{ActionStep, Approval, FreezeEpoch, Permit, Weighed};
    use suture_permit::{KeyEntry, Role, SecretKey};

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_661_140_440_000);

    fn request() -> ActionRequest {
        ActionRequest {
            id: "a".into(),
            at: NOW,
            expires_at: NOW.plus(Span::from_mins(2)),
            incident: "i".into(),
            scope: "prod".into(),
            target: "cart".into(),
            step: ActionStep {
                action: "rollback".into(),
                parameters: BTreeMap::new(),
            },
            reversal: None,
            reverses: None,
            rung: Rung::Autonomous,
            approved_by: None,
            approvals: Vec::new(),
            outside: Default::default(),
            weighed: None,
            permit: None,
            playbook: "p".into(),
            owner: "shop".into(),
            class: "bad_deploy".into(),
            change: None,
            probability: 0.9,
            attempt: 1,
            verify_by: NOW.plus(Span::from_mins(10)),
            reason: String::new(),
        }
    }

    fn outcome(action: &str, status: OutcomeStatus) -> Outcome {
        Outcome {
            action: action.into(),
            at: NOW,
            status,
            target: "cart".into(),
            scope: "prod".into(),
            executor: "me".into(),
            detail: String::new(),
            mode: Default::default(),
            calls: Vec::new(),
            seal: None,
        }
    }

    fn key() -> SecretKey {
        SecretKey::from_seed(&[1; 32], "decide", Role::Decide)
    }

    fn signed(request: &ActionRequest) -> ActionRequest {
        let mut request = request.clone();
        request.permit = Some(Permit {
            executor: "suture-execute".into(),
            epoch: FreezeEpoch::default(),
            seal: None,
        });
        let seal = key().sign(&request);
        request.permit.as_mut().unwrap().seal = Some(seal);
        request
    }

    #[test]
    fn engineering_has_the_last_word_whoever_signed() {
        let with = |action: &str, approvals: Vec<Approval>| {
            let step = ActionStep {
                action: action.into(),
                parameters: BTreeMap::new(),
            };
            let request = ActionRequest {
                step,
                approvals,
                ..request()
            };
            let options = Options {
                actions: vec!["*".to_owned()],
                keys: keys(),
                ..Options::default()
            };
            decide(
                &signed(&request),
                NOW,
                &Allowed::new(&options).unwrap(),
                &Done::new(10),
                false,
            )
        };
        let approval = |key: Option<&str>| Approval {
            by: "ann".into(),
            key: key.map(Into::into),
            at: NOW,
            command: "c".into(),
        };
        assert_eq!(with("rollback", vec![]), Verdict::Act);
        for (action, approvals, why) in [
            (
                "roll_it_all_back",
                vec![],
                "roll_it_all_back is no verb that is known: it can only be advised",
            ),
            (
                "scale_in",
                vec![],
                "scale_in is supervised at most, and nobody approved it",
            ),
            (
                "drop_database",
                vec![],
                "drop_database needs a named human, always, and nobody approved it",
            ),
            (
                "drop_database",
                vec![approval(None)],
                "drop_database needs a named human, always, and the approval is not signed",
            ),
        ] {
            assert_eq!(with(action, approvals), Verdict::Refuse(why.to_owned()));
        }
        assert_eq!(with("scale_in", vec![approval(None)]), Verdict::Act);
        assert_eq!(with("drop_database", vec![approval(Some("k"))]), Verdict::Act);
    }

    #[test]
    fn policies_are_asked_again_whoever_signed() {
        use suture_policy::{Policy, Source};
        let text = "permit (principal, action, resource) when { context.tier >= 1 && context.confidence >= 80 };
            @obligation(\"require_approval\") forbid (principal, action, resource) when { context.touched > 1 };";
        let policy = Policy {
            texts: vec![Source {
                name: "p".to_owned(),
                text: text.to_owned(),
            }],
            ..Policy::default()
        };
        let options = Options {
            actions: vec!["*".to_owned()],
            keys: keys(),
            policy: Some(policy),
            ..Options::default()
        };
        let allowed = Allowed::new(&options).unwrap();
        let weighed = |tier, confidence| Weighed {
            tier,
            severity: Severity::Warning,
            confidence,
            trust: 90,
            precedents: 1,
            budget_left: 2,
        };
        let mut done = Done::new(10);
        let verdict = |request: &ActionRequest, done: &Done| decide(&signed(request), NOW, &allowed, done, false);
        let with = |weighed| ActionRequest { weighed, ..request() };
        assert_eq!(verdict(&with(Some(weighed(1, 90))), &done), Verdict::Act);
        let refused = Verdict::Refuse("policy: no policy permits it".to_owned());
        assert_eq!(verdict(&with(Some(weighed(0, 90))), &done), refused);
        assert_eq!(verdict(&with(Some(weighed(1, 79))), &done), refused);
        assert_eq!(
            verdict(&with(None), &done),
            refused,
            "what nobody vouches for is taken as the worst"
        );
        // altered after it was signed
        let mut altered = signed(&with(Some(weighed(0, 90))));
        altered.weighed = Some(weighed(2, 100));
        assert!(matches!(
            decide(&altered, NOW, &allowed, &done, false),
            Verdict::Reject(_)
        ));
        let undo = ActionRequest {
            reverses: Some("b".into()),
            ..with(None)
        };
        assert_eq!(
            verdict(&undo, &done),
            Verdict::Act,
            "what let the action go let its reversal go"
        );
        let mut elsewhere = outcome("b", OutcomeStatus::Started);
        elsewhere.target = "ads".into();
        done.remember(&elsewhere);
        let mut second = with(Some(weighed(1, 90)));
        assert_eq!(
            verdict(&second, &done),
            Verdict::Refuse("policy: p#2 asks for an approval".to_owned())
        );
        second.approvals.push(Approval {
            by: "ann".into(),
            key: Some("k".into()),
            at: NOW,
            command: "c".into(),
        });
        assert_eq!(verdict(&second, &done), Verdict::Act);
    }

    #[test]
    fn a_service_has_one_budget_over_all_scopes_and_the_executor_one_over_all_services() {
        let options = Options {
            actions: vec!["*".to_owned()],
            keys: keys(),
            pipeline_budget: Budget {
                actions: 4,
                per: Span::from_hours(1),
            },
            ..Options::default()
        };
        let allowed = Allowed::new(&options).unwrap();
        let mut done = Done::new(100);
        let start = |done: &mut Done, id: &str, target: &str, scope: &str| {
            let mut outcome = outcome(id, OutcomeStatus::Started);
            outcome.target = target.into();
            outcome.scope = scope.into();
            done.remember(&outcome);
        };
        for scope in 0..3 {
            start(&mut done, &format!("a{scope}"), "cart", &format!("preview-{scope}"));
        }
        let mut next = request();
        next.id = "next".into();
        let verdict = |request: &ActionRequest, done: &Done, later| {
            decide(&signed(request), NOW.plus(later), &allowed, done, false)
        };
        let why = "3 of 3 actions in 1h are used on the service, over all scopes";
        assert_eq!(verdict(&next, &done, Span::ZERO), Verdict::Refuse(why.to_owned()));
        let reversal = ActionRequest {
            reverses: Some("a0".into()),
            ..next.clone()
        };
        assert_eq!(
            verdict(&reversal, &done, Span::ZERO),
            Verdict::Act,
            "what undoes is never held back"
        );
        let elsewhere = ActionRequest {
            target: "ads".into(),
            ..next.clone()
        };
        assert_eq!(verdict(&elsewhere, &done, Span::ZERO), Verdict::Act);
        start(&mut done, "b", "bank", "prod");
        let why = "4 of 4 actions in 1h are used by this executor";
        assert_eq!(verdict(&elsewhere, &done, Span::ZERO), Verdict::Refuse(why.to_owned()));
        let mut later = elsewhere;
        later.expires_at = NOW.plus(Span::from_hours(2));
        later.verify_by = NOW.plus(Span::from_hours(2));
        assert_eq!(verdict(&later, &done, Span::from_hours(1)), Verdict::Act);
    }

    fn keys() -> Keyring {
        Keyring::new(vec![KeyEntry {
            who: "decide".into(),
            role: Role::Decide,
            public: key().public(),
            until: None,
        }])
    }

    fn judge(request: &ActionRequest, later: Span, unlisted: Unlisted, before: &[OutcomeStatus]) -> Verdict {
        let lists = |globs: &[&str]| globs.iter().map(|glob| (*glob).to_owned()).collect();
        let (actions, targets) = (lists(&["roll*"]), lists(&["cart", "ads"]));
        let options = Options {
            actions,
            targets,
            unlisted,
            keys: keys(),
            ..Options::default()
        };
        let mut done = Done::new(10);
        before.iter().for_each(|status| done.remember(&outcome("a", *status)));
        decide(
            &signed(request),
            NOW.plus(later),
            &Allowed::new(&options).unwrap(),
            &done,
            false,
        )
    }

    #[test]
    fn an_autonomous_request_in_time_and_on_the_lists_is_acted_on() {
        assert_eq!(judge(&request(), Span::ZERO, Unlisted::Refuse, &[]), Verdict::Act);
        assert_eq!(
            judge(&request(), Span::from_mins(2), Unlisted::Refuse, &[]),
            Verdict::Act,
            "to the last moment"
        );
    }

    #[test]
    fn advice_and_requests_that_wait_for_approval_are_passed_over_without_an_outcome() {
        for rung in [Rung::Advise, Rung::Supervised] {
            let request = ActionRequest { rung, ..request() };
            assert!(matches!(
                judge(&request, Span::ZERO, Unlisted::Refuse, &[]),
                Verdict::Leave(_)
            ));
        }
    }

    #[test]
    fn what_expired_is_refused_for_as_long_as_somebody_waits() {
        assert!(matches!(
            judge(&request(), Span::from_mins(3), Unlisted::Refuse, &[]),
            Verdict::Refuse(_)
        ));
        assert!(matches!(
            judge(&request(), Span::from_mins(11), Unlisted::Refuse, &[]),
            Verdict::Leave(_)
        ));
    }

    #[test]
    fn what_is_not_listed_is_refused_or_left_to_others() {
        let step = ActionStep {
            action: "drop_table".into(),
            parameters: BTreeMap::new(),
        };
        let other = ActionRequest { step, ..request() };
        assert!(matches!(
            judge(&other, Span::ZERO, Unlisted::Refuse, &[]),
            Verdict::Refuse(_)
        ));
        assert!(matches!(
            judge(&other, Span::ZERO, Unlisted::Leave, &[]),
            Verdict::Leave(_)
        ));
        let elsewhere = ActionRequest {
            target: "bank".into(),
            ..request()
        };
        assert!(matches!(
            judge(&elsewhere, Span::ZERO, Unlisted::Leave, &[]),
            Verdict::Refuse(_)
        ));
    }

    #[test]
    fn what_was_done_is_not_done_again_however_late() {
        let before = [OutcomeStatus::Started, OutcomeStatus::Succeeded, OutcomeStatus::Started];
        let verdict = judge(&request(), Span::from_hours(3), Unlisted::Refuse, &before);
        let why = format!("its permit was used at {NOW}: it is good for once");
        assert_eq!(verdict, Verdict::Reject(why));
    }

    #[test]
    fn what_was_started_and_never_ended_is_told_apart() {
        let before = [OutcomeStatus::Started];
        assert_eq!(
            judge(&request(), Span::from_mins(3), Unlisted::Refuse, &before),
            Verdict::Resume
        );
    }

    #[test]
    fn the_oldest_ids_are_forgotten_at_the_bound() {
        let mut done = Done::new(2);
        for id in ["a", "b", "c", "b"] {
            done.remember(&outcome(id, OutcomeStatus::Succeeded));
        }
        assert_eq!(done.len(), 2);
        assert!(done.get("a").is_none() && done.get("b").is_some() && done.get("c").is_some());
    }
}
