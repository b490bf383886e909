//! Whether a request is to be acted on: a pure function of the request, the time, what is allowed and what was done.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use globset::{Glob, GlobSet, GlobSetBuilder};
use suture_event::{ActionRequest, Outcome, OutcomeStatus, Rung, Timestamp};

use crate::{Error, Options, Unlisted};

/// What an executor may do, compiled from its [`Options`].
#[derive(Debug, Clone)]
pub struct Allowed {
    actions: GlobSet,
    targets: GlobSet,
    unlisted: Unlisted,
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
        })
    }
}

/// The last outcome of each request, by id. Bounded: the ids that came first are forgotten first.
#[derive(Debug, Clone)]
pub struct Done {
    by_id: BTreeMap<Arc<str>, Outcome>,
    order: VecDeque<Arc<str>>,
    bound: usize,
}

impl Done {
    /// Nothing done yet; `bound` ids will be known.
    #[must_use]
    pub const fn new(bound: usize) -> Self {
        Self {
            by_id: BTreeMap::new(),
            order: VecDeque::new(),
            bound,
        }
    }

    /// Takes an outcome in. A `started` that is read again does not undo what is known of the end.
    pub fn remember(&mut self, outcome: &Outcome) {
        if let Some(known) = self.by_id.get_mut(&outcome.action) {
            if outcome.status != OutcomeStatus::Started {
                *known = outcome.clone();
            }
            return;
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
    /// Say this outcome again: it was done already.
    Again(Outcome),
    /// Say that it is refused, and why.
    Refuse(String),
    /// Pass over it, and why: it is not for this executor, or nobody waits for an answer.
    Leave(String),
}

/// Judges a request at wall time `now`.
#[must_use]
pub fn decide(request: &ActionRequest, now: Timestamp, allowed: &Allowed, done: &Done) -> Verdict {
    // not an outcome: the same id comes again as autonomous once it is approved
    if request.rung != Rung::Autonomous {
        return Verdict::Leave("it is not autonomous: nobody may act on it yet".to_owned());
    }
    let action = &request.step.action;
    let listed = allowed.actions.is_match(action.as_ref());
    if !listed && allowed.unlisted == Unlisted::Leave {
        return Verdict::Leave(format!("{action} is for another executor"));
    }
    let before = done.get(&request.id);
    if let Some(before) = before.filter(|before| before.status != OutcomeStatus::Started) {
        return Verdict::Again(before.clone());
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
    Verdict::Act
}

#[cfg(test)]
mod tests {
    use suture_event::{ActionStep, Span};

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

    fn judge(request: &ActionRequest, later: Span, unlisted: Unlisted, before: &[OutcomeStatus]) -> Verdict {
        let lists = |globs: &[&str]| globs.iter().map(|glob| (*glob).to_owned()).collect();
        let (actions, targets) = (lists(&["roll*"]), lists(&["cart", "ads"]));
        let options = Options {
            actions,
            targets,
            unlisted,
            ..Options::default()
        };
        let mut done = Done::new(10);
        before.iter().for_each(|status| done.remember(&outcome("a", *status)));
        decide(request, NOW.plus(later), &Allowed::new(&options).unwrap(), &done)
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
    fn what_was_done_gets_its_outcome_again_however_late() {
        let before = [OutcomeStatus::Started, OutcomeStatus::Succeeded, OutcomeStatus::Started];
        let Verdict::Again(again) = judge(&request(), Span::from_hours(3), Unlisted::Refuse, &before) else {
            panic!("acted on twice");
        };
        assert_eq!(again.status, OutcomeStatus::Succeeded);
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
