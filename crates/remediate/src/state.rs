//! What is remembered between inputs.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use suture_event::{ActionRequest, Change, Freezes, HypothesisKind, Rung, Severity, SignalKind, Span, Timestamp};

use crate::{Budget, Limit, OnFailure, Trust, ledger::Chain, precedents::Precedents};

/// Everything between two inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) clock: Timestamp,
    pub(crate) chain: Chain,
    #[serde(default)]
    pub(crate) freezes: Freezes,
    /// Who, other than a human, holds the scope still until a human thaws it. It is no freeze that executors hear of, so it is
    /// of no epoch.
    #[serde(default)]
    pub(crate) held_by: Option<Arc<str>>,
    pub(crate) cases: BTreeMap<Arc<str>, Case>,
    /// Resolved cases with nothing under way, oldest first: kept so that one that comes back gets new action ids.
    pub(crate) closed: VecDeque<Arc<str>>,
    /// How many cases were forgotten.
    #[serde(default)]
    pub(crate) forgotten: u64,
    pub(crate) actions: BTreeMap<Arc<str>, Action>,
    pub(crate) ended: Ended,
    /// Actions that were verified and can still be undone by a human, by when they were; bounded as what is remembered.
    #[serde(default)]
    pub(crate) undoable: Undoable,
    pub(crate) history: History,
    pub(crate) timers: BTreeSet<(Timestamp, Timer)>,
    /// Cases that wait for another action to end, by when their incidents opened.
    pub(crate) blocked: BTreeSet<(Timestamp, Arc<str>)>,
    /// Whether the bound on incidents was met since one was last let in.
    pub(crate) full: bool,
    pub(crate) changes: Changes,
    #[serde(default, skip_serializing_if = "Precedents::is_empty")]
    pub(crate) precedents: Precedents,
    /// What playbooks have earned here.
    #[serde(default, skip_serializing_if = "Trust::is_empty")]
    pub(crate) trust: Trust,
}

impl Default for State {
    fn default() -> Self {
        Self {
            clock: Timestamp::MIN,
            chain: Chain::default(),
            freezes: Freezes::default(),
            held_by: None,
            cases: BTreeMap::new(),
            closed: VecDeque::new(),
            forgotten: 0,
            actions: BTreeMap::new(),
            ended: Ended::default(),
            undoable: Undoable::default(),
            history: History::default(),
            timers: BTreeSet::new(),
            blocked: BTreeSet::new(),
            full: false,
            changes: Changes::default(),
            precedents: Precedents::default(),
            trust: Trust::default(),
        }
    }
}

impl State {
    /// Who froze or holds the scope, while it is.
    pub(crate) fn frozen_by(&self) -> Option<&Arc<str>> {
        self.freezes.frozen_by().or(self.held_by.as_ref())
    }
}

/// What a timer is for. Actions come before cases that are due at the same time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Timer {
    Action(Arc<str>),
    Case(Arc<str>),
}

/// One incident and what was decided about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Case {
    pub(crate) brief: Brief,
    /// How many cases had been forgotten when it began: more each time that an incident which was forgotten is met again.
    #[serde(default)]
    pub(crate) life: u64,
    /// Since when the first hypothesis has been first.
    pub(crate) first_since: Timestamp,
    pub(crate) resolved: bool,
    pub(crate) in_flight: Option<Arc<str>>,
    pub(crate) stopped: Option<Stop>,
    pub(crate) decided: Option<Decision>,
    pub(crate) evaluate_at: Option<Timestamp>,
    /// Requests published, advice and reversals included, by playbook.
    pub(crate) published: BTreeMap<Arc<str>, u32>,
    /// Actions that executors were let do, by playbook.
    pub(crate) sent: BTreeMap<Arc<str>, u32>,
    pub(crate) denied: BTreeSet<Arc<str>>,
    pub(crate) advised: Vec<(First, Arc<str>)>,
}

impl Case {
    pub(crate) fn new(brief: Brief, life: u64, now: Timestamp) -> Self {
        Self {
            brief,
            life,
            first_since: now,
            resolved: false,
            in_flight: None,
            stopped: None,
            decided: None,
            evaluate_at: None,
            published: BTreeMap::new(),
            sent: BTreeMap::new(),
            denied: BTreeSet::new(),
            advised: Vec::new(),
        }
    }

    pub(crate) fn requests(&self) -> u32 {
        self.published.values().sum()
    }
}

/// Why nothing more is done by itself for an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stop {
    Escalated,
    Acknowledged,
    Labelled,
    DryRun,
}

/// An incident, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Brief {
    pub(crate) id: Arc<str>,
    pub(crate) opened_at: Timestamp,
    pub(crate) severity: Severity,
    pub(crate) title: String,
    /// The most affected first, at most [`Brief::SERVICES`].
    pub(crate) services: Vec<Arc<str>>,
    pub(crate) first: Option<First>,
    pub(crate) probability: f64,
    pub(crate) because: String,
    pub(crate) opening: u32,
    pub(crate) recovered: u32,
    /// Opening signals that are not back, in words, at most [`Brief::NOT_BACK`].
    pub(crate) not_back: Vec<String>,
    pub(crate) kinds: BTreeSet<SignalKind>,
    /// Metrics of the opening signals, at most [`Brief::METRICS`].
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) metrics: BTreeSet<Arc<str>>,
}

impl Brief {
    pub(crate) const SERVICES: usize = 16;
    pub(crate) const NOT_BACK: usize = 8;
    pub(crate) const METRICS: usize = 32;

    /// Whether every signal that opened the incident came back. One without such signals cannot be verified.
    pub(crate) const fn is_back(&self) -> bool {
        self.opening > 0 && self.recovered == self.opening
    }
}

/// What makes the first hypothesis the same one as before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct First {
    pub(crate) kind: HypothesisKind,
    pub(crate) class: Arc<str>,
    pub(crate) service: Option<Arc<str>>,
    pub(crate) change: Option<Arc<str>>,
}

/// What was last decided about an incident, so that the ledger tells changes only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Decision {
    pub(crate) first: Option<First>,
    pub(crate) playbook: Option<Arc<str>>,
    pub(crate) rung: Rung,
    pub(crate) limits: Vec<Limit>,
    pub(crate) wait: Option<Wait>,
}

/// What a chosen action waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Wait {
    Hold,
    Cooldown,
    Target,
    Concurrency,
}

/// A published request that is neither advice nor over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Action {
    pub(crate) request: ActionRequest,
    pub(crate) stage: Stage,
    pub(crate) due: Timestamp,
    pub(crate) expires_after: Span,
    pub(crate) verify_within: Span,
    pub(crate) attempts: u32,
    pub(crate) on_failure: OnFailure,
    /// Who has taken it up: nobody else's word counts from then on.
    #[serde(default)]
    pub(crate) by: Option<Arc<str>>,
    /// Whether an executor that touches nothing has said what it would do.
    #[serde(default)]
    pub(crate) dry: bool,
}

/// How far an action is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// For a human's word.
    Waiting,
    /// Executors may start it.
    Sent,
    /// One has.
    Started,
    /// It is done, and the signals are watched.
    Verifying,
}

/// How an action ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ending {
    Advised,
    Withdrawn,
    Denied,
    ApprovalExpired,
    Refused,
    Failed,
    Missing,
    DryRun,
    Verified,
    NotVerified,
    Reversed,
    ReversalFailed,
}

impl Ending {
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Advised => "it was advice, which executors leave alone",
            Self::Withdrawn => "it was withdrawn",
            Self::Denied => "it was denied",
            Self::ApprovalExpired => "nobody approved it in time",
            Self::Refused => "an executor had refused it",
            Self::Failed => "it had failed",
            Self::Missing => "no executor had said anything in time",
            Self::DryRun => "it had been a dry run",
            Self::Verified => "it had been verified",
            Self::NotVerified => "it had been judged not to help",
            Self::Reversed => "it had undone its action",
            Self::ReversalFailed => "it had failed to undo its action",
        }
    }
}

/// Ended actions, the oldest forgotten beyond a bound.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ended {
    by_id: BTreeMap<Arc<str>, Ending>,
    order: VecDeque<Arc<str>>,
}

impl Ended {
    pub(crate) fn remember(&mut self, id: &Arc<str>, ending: Ending, bound: usize) {
        if self.by_id.insert(Arc::clone(id), ending).is_none() {
            self.order.push_back(Arc::clone(id));
        }
        while self.order.len() > bound {
            if let Some(oldest) = self.order.pop_front() {
                self.by_id.remove(&oldest);
            }
        }
    }

    pub(crate) fn get(&self, id: &str) -> Option<Ending> {
        self.by_id.get(id).copied()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }
}

/// Verified actions whose reversal is known, the oldest forgotten beyond a bound.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Undoable(VecDeque<Action>);

impl Undoable {
    /// How many are known.
    const BOUND: usize = 100;

    pub(crate) fn remember(&mut self, action: Action) {
        self.0.push_back(action);
        while self.0.len() > Self::BOUND {
            self.0.pop_front();
        }
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Action> {
        self.0.iter().find(|action| *action.request.id == *id)
    }

    pub(crate) fn remove(&mut self, id: &str) {
        self.0.retain(|action| *action.request.id != *id);
    }
}

/// One action that executors were let do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Past {
    pub(crate) action: Arc<str>,
    pub(crate) target: Arc<str>,
    pub(crate) playbook: Arc<str>,
    pub(crate) incident: Arc<str>,
    pub(crate) change: Option<Arc<str>>,
    pub(crate) sent_at: Timestamp,
    pub(crate) ended_at: Option<Timestamp>,
}

/// Past actions, in the order they were sent: what budgets and cooldowns are counted on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct History(VecDeque<Past>);

/// A budget that is spent: how many of them, and when there is room again, if ever.
pub(crate) struct Spent {
    pub(crate) used: usize,
    pub(crate) until: Option<Timestamp>,
}

impl History {
    pub(crate) fn push(&mut self, past: Past) {
        self.0.push_back(past);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn end(&mut self, action: &str, now: Timestamp) {
        if let Some(past) = self.0.iter_mut().rev().find(|past| past.action.as_ref() == action) {
            past.ended_at = Some(now);
        }
    }

    /// Forgets what no budget or cooldown counts any more.
    pub(crate) fn prune(&mut self, now: Timestamp, longest_budget: Span, longest_cooldown: Span) {
        self.0.retain(|past| {
            past.sent_at.plus(longest_budget) > now
                || past.ended_at.is_none_or(|ended| ended.plus(longest_cooldown) > now)
        });
    }

    /// Whether a budget over the actions that `counts` picks leaves no room at `now`.
    pub(crate) fn spent(&self, budget: Budget, now: Timestamp, counts: impl Fn(&Past) -> bool) -> Option<Spent> {
        let leaving: Vec<Timestamp> = self
            .0
            .iter()
            .filter(|p| counts(p))
            .map(|p| p.sent_at.plus(budget.per))
            .filter(|end| *end > now)
            .collect();
        let room_after = leaving.len().checked_sub(budget.actions as usize)?;
        // sent times rise, so the ends of their spans do
        Some(Spent {
            used: leaving.len(),
            until: leaving.get(room_after).copied(),
        })
    }

    /// How many of the actions that `counts` picks were sent within a span before now.
    pub(crate) fn within(&self, span: Span, now: Timestamp, counts: impl Fn(&Past) -> bool) -> usize {
        let counted = self.0.iter().filter(|p| counts(p) && p.sent_at.plus(span) > now);
        counted.count()
    }

    /// How many services but this one were acted on within a span before now.
    pub(crate) fn touched(&self, span: Span, now: Timestamp, but: &str) -> usize {
        let others = self
            .0
            .iter()
            .filter(|p| p.sent_at.plus(span) > now && *p.target != *but);
        others.map(|p| &p.target).collect::<BTreeSet<_>>().len()
    }

    /// The last action of a playbook on a change for another incident.
    pub(crate) fn on_change(&self, playbook: &str, change: &str, incident: &str) -> Option<&Past> {
        let same = |past: &&Past| {
            past.playbook.as_ref() == playbook && past.change.as_deref() == Some(change) && *past.incident != *incident
        };
        self.0.iter().rev().find(same)
    }

    /// When the last action on a service ended.
    pub(crate) fn last_end(&self, target: &str) -> Option<Timestamp> {
        self.0
            .iter()
            .filter(|past| past.target.as_ref() == target)
            .filter_map(|past| past.ended_at)
            .max()
    }
}

/// What changes brought in, for placeholders; the oldest forgotten beyond a bound.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Changes {
    by_id: BTreeMap<Arc<str>, Artifacts>,
    order: VecDeque<Arc<str>>,
    running: BTreeMap<Arc<str>, Arc<str>>,
}

/// What a change brought in and what it replaced.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Artifacts {
    pub(crate) artifact: Option<Arc<str>>,
    pub(crate) previous: Option<Arc<str>>,
}

impl Changes {
    pub(crate) fn remember(&mut self, change: &Change, bound: usize) {
        if self.by_id.contains_key(&change.id) {
            return;
        }
        let previous = self.running.get(&change.service).cloned();
        if let Some(artifact) = &change.artifact
            && (self.running.len() < bound || previous.is_some())
        {
            self.running.insert(Arc::clone(&change.service), Arc::clone(artifact));
        }
        self.by_id.insert(
            Arc::clone(&change.id),
            Artifacts {
                artifact: change.artifact.clone(),
                previous,
            },
        );
        self.order.push_back(Arc::clone(&change.id));
        while self.order.len() > bound {
            if let Some(oldest) = self.order.pop_front() {
                self.by_id.remove(&oldest);
            }
        }
    }

    pub(crate) fn get(&self, change: &str) -> Option<&Artifacts> {
        self.by_id.get(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn past(at: i64) -> Past {
        Past {
            action: at.to_string().into(),
            target: "cart".into(),
            playbook: "restart".into(),
            incident: "incident".into(),
            change: None,
            sent_at: Timestamp::from_millis(at),
            ended_at: None,
        }
    }

    #[test]
    fn a_budget_has_room_again_when_enough_of_its_actions_left_its_span() {
        let mut history = History::default();
        [10, 20, 30].into_iter().for_each(|at| history.push(past(at)));
        let two = Budget {
            actions: 2,
            per: Span::from_millis(100),
        };
        let spent = history.spent(two, Timestamp::from_millis(50), |_| true).unwrap();
        assert_eq!((spent.used, spent.until), (3, Some(Timestamp::from_millis(120))));
        assert!(history.spent(two, Timestamp::from_millis(119), |_| true).is_some());
        assert!(history.spent(two, Timestamp::from_millis(120), |_| true).is_none());
        let none = Budget {
            actions: 0,
            per: Span::from_millis(100),
        };
        assert_eq!(
            history
                .spent(none, Timestamp::from_millis(200), |_| true)
                .unwrap()
                .until,
            None
        );
    }

    #[test]
    fn the_oldest_ended_actions_are_forgotten_at_the_bound() {
        let mut ended = Ended::default();
        for n in 0..5 {
            ended.remember(&n.to_string().into(), Ending::Verified, 3);
        }
        assert_eq!(ended.len(), 3);
        assert_eq!((ended.get("1"), ended.get("2")), (None, Some(Ending::Verified)));
    }

    #[test]
    fn a_change_knows_what_it_replaced() {
        let mut changes = Changes::default();
        for (id, artifact) in [("a", "cart:1"), ("b", "cart:2")] {
            let change = Change {
                id: id.into(),
                at: Timestamp::from_millis(0),
                kind: suture_event::ChangeKind::Deploy,
                service: "cart".into(),
                environment: None,
                artifact: Some(artifact.into()),
                source: "ci".into(),
                event_type: "dev.cdevents.service.deployed.0.1.1".into(),
            };
            changes.remember(&change, 1);
        }
        assert_eq!(changes.get("a"), None, "the bound is 1");
        assert_eq!(changes.get("b").unwrap().previous.as_deref(), Some("cart:1"));
    }
}
