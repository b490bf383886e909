//! The state machine: inputs in order, timers in between.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use suture_event::{ActionRequest, Cause, Change, Command, Incident, LedgerRecord, Outcome, Span, Timestamp};
use suture_policy::Guard;

use crate::{
    Error, Options, Trust,
    ledger::Turn,
    select::{self, Globs, Tiers},
    state::{Changes, Stage, State, Timer},
};

/// One thing the remediator is told.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// A change was made. Fills the placeholders `artifact` and `previous_artifact`; nothing else needs it.
    Change(&'a Change),
    /// An incident opened, changed or was resolved, in full.
    Incident(&'a Incident),
    /// What an executor did.
    Outcome {
        /// Its words, as they were signed.
        outcome: &'a Outcome,
        /// When to take it: its own time, held to this program's where that is far behind.
        at: Timestamp,
    },
    /// What a human wants.
    Command {
        /// The words, as they were signed.
        command: &'a Command,
        /// When to take it, as for outcomes.
        at: Timestamp,
    },
    /// The program itself holds the scope still until a human thaws it, as after a loss of state.
    Hold {
        /// When.
        at: Timestamp,
        /// Who, as the ledger names it.
        by: &'a Arc<str>,
        /// Why, and what to do.
        reason: &'a str,
    },
    /// Something about the program itself that an audit must know, such as a shard that began anew: goes into the ledger.
    Note {
        /// When.
        at: Timestamp,
        /// The ledger record's kind.
        kind: &'a str,
        /// The ledger record's body.
        body: &'a Value,
    },
    /// Nothing with a time at or before this will come any more.
    Time(Timestamp),
}

impl Input<'_> {
    const fn at(&self) -> Timestamp {
        match self {
            Self::Change(change) => change.at,
            Self::Incident(incident) => incident.updated_at,
            Self::Outcome { at, .. }
            | Self::Command { at, .. }
            | Self::Hold { at, .. }
            | Self::Note { at, .. }
            | Self::Time(at) => *at,
        }
    }
}

/// One thing the remediator says, in order.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant)] // few at a time, and moved on at once
pub enum Output {
    /// For the remediation topic. A request that was approved is said again under the same id.
    Request(ActionRequest),
    /// For the ledger.
    Ledger(LedgerRecord),
}

/// Remediation of one scope's incidents.
///
/// Serialises with its options and its whole state; read back, it goes on as if nothing had happened. Use
/// [`Self::with_options`] to go on under a changed pipeline file. Write it with field names (`rmp_serde::to_vec_named`):
/// absent fields are left out.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Stored")]
pub struct Remediator {
    pub(crate) options: Options,
    pub(crate) scope: Arc<str>,
    pub(crate) state: State,
    #[serde(skip)]
    pub(crate) globs: Vec<Globs>,
    #[serde(skip)]
    pub(crate) two_people: globset::GlobSet,
    #[serde(skip)]
    pub(crate) tiers: Tiers,
    #[serde(skip)]
    pub(crate) guard: Option<Guard>,
}

/// What is kept of a scope that is put away: some hundred bytes, and what its budgets still count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PutAway(State);

impl PutAway {
    /// When its last input came.
    #[must_use]
    pub const fn at(&self) -> Timestamp {
        self.0.clock
    }
}

#[derive(Deserialize)]
struct Stored {
    options: Options,
    scope: Arc<str>,
    state: State,
}

impl TryFrom<Stored> for Remediator {
    type Error = Error;

    fn try_from(stored: Stored) -> Result<Self, Error> {
        let fresh = Self::new(stored.options, stored.scope)?;
        Ok(Self {
            state: stored.state,
            ..fresh
        })
    }
}

impl Remediator {
    /// A remediator that has seen nothing.
    ///
    /// # Errors
    /// [`Error::Options`] with every problem of the options.
    pub fn new(options: Options, scope: Arc<str>) -> Result<Self, Error> {
        let problems = options.validate();
        if !problems.is_empty() {
            return Err(Error::Options(problems));
        }
        let globs = options.playbooks.iter().map(Globs::of).collect();
        let two_people = select::set(&options.two_people);
        let tiers = Tiers::of(&options);
        let guard = options.policy.as_ref().map(Guard::of);
        Ok(Self {
            options,
            scope,
            state: State::default(),
            globs,
            two_people,
            tiers,
            guard,
        })
    }

    /// The same state under other options. What is under way keeps the limits it was published with.
    ///
    /// # Errors
    /// [`Error::Options`] with every problem of the options.
    pub fn with_options(self, options: Options) -> Result<Self, Error> {
        let fresh = Self::new(options, self.scope)?;
        Ok(Self {
            state: self.state,
            ..fresh
        })
    }

    /// Whether nothing is under way: no incident is open, no action waits or is watched, and nobody froze the scope.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        let state = &self.state;
        state.frozen_by().is_none()
            && state.actions.is_empty()
            && state.timers.is_empty()
            && state.blocked.is_empty()
            && state
                .cases
                .values()
                .all(|case| case.resolved && case.in_flight.is_none())
    }

    /// Who froze or holds the scope, while it is.
    #[must_use]
    pub fn frozen_by(&self) -> Option<&Arc<str>> {
        self.state.frozen_by()
    }

    /// The actions that wait for approval, are under way or are being watched, each with a word for which of these it is.
    pub fn actions(&self) -> impl Iterator<Item = (&ActionRequest, &'static str)> {
        self.state.actions.values().map(|action| {
            let stage = match action.stage {
                Stage::Waiting => "waits for approval",
                Stage::Sent => "asked of executors",
                Stage::Started => "being done",
                Stage::Verifying => "done, and its effect is watched",
            };
            (&action.request, stage)
        })
    }

    /// What must not be forgotten where a scope that is at rest is put away: the end of its ledger's chain, so that it stays
    /// one, and what budgets, cooldowns and ids are counted on. `None` where there is nothing.
    #[must_use]
    pub fn put_away(self) -> Option<PutAway> {
        let mut state = self.state;
        // as if the bound on incidents had been met, so that one that comes back gets new ids
        state.forgotten += state.cases.len() as u64;
        state.cases.clear();
        state.closed.clear();
        state.changes = Changes::default();
        (!state.chain.is_new() || state.history.len() > 0).then_some(PutAway(state))
    }

    /// Goes on from what was put away.
    ///
    /// # Errors
    /// [`Error::Options`] with every problem of the options.
    pub fn taken_back(options: Options, scope: Arc<str>, away: PutAway) -> Result<Self, Error> {
        let fresh = Self::new(options, scope)?;
        Ok(Self { state: away.0, ..fresh })
    }

    /// The scope this is for.
    #[must_use]
    pub fn scope(&self) -> &Arc<str> {
        &self.scope
    }

    /// What playbooks have earned here: the same as a fold over the ledger gives.
    #[must_use]
    pub fn trust(&self) -> &Trust {
        &self.state.trust
    }

    /// When the next timer is due, if any. Time inputs before that change nothing.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.state.timers.first().map(|(due, _)| *due)
    }

    /// Requests that are neither advice nor over, by id: waiting for approval, under way, or being verified.
    pub fn open_actions(&self) -> impl Iterator<Item = &ActionRequest> {
        self.state.actions.values().map(|action| &action.request)
    }

    /// Takes one input and says what follows from it.
    ///
    /// `cause` is the fact the input came from; it goes into the ledger records of this input. Records of timers have
    /// none, since the time they are due is theirs and not the mark's that passed it. An input that is older than one
    /// before it is taken as of the later time. Whoever feeds this keeps times within reason: an outcome or command
    /// dated far ahead would fire every timer up to then.
    pub fn step(&mut self, input: Input<'_>, cause: Option<&Cause>) -> Vec<Output> {
        let at = input.at();
        let out = self.fire(at, matches!(input, Input::Time(_)));
        self.state.clock = self.state.clock.max(at);
        let mut turn = Turn::new(self.state.clock, cause.cloned(), out);
        match input {
            Input::Change(change) => self.state.changes.remember(change, self.options.bounds.changes),
            Input::Incident(incident) => self.incident(incident, &mut turn),
            Input::Outcome { outcome, .. } => self.outcome(outcome, &mut turn),
            Input::Command { command, .. } => self.command(command, &mut turn),
            Input::Hold { by, reason, .. } => self.hold_still(by, reason, &mut turn),
            Input::Note { kind, body, .. } => self.record(kind, body.clone(), &mut turn),
            Input::Time(_) => {}
        }
        self.wake(&mut turn);
        turn.out
    }

    /// Fires what is due before `until`, or by then too.
    fn fire(&mut self, until: Timestamp, inclusive: bool) -> Vec<Output> {
        let mut out = Vec::new();
        while let Some((due, _)) = self.state.timers.first() {
            if *due > until || (*due == until && !inclusive) {
                break;
            }
            let Some((due, timer)) = self.state.timers.pop_first() else {
                break;
            };
            self.state.clock = self.state.clock.max(due);
            let mut turn = Turn::new(self.state.clock, None, out);
            match timer {
                Timer::Action(id) => self.action_due(&id, &mut turn),
                Timer::Case(id) => {
                    if let Some(case) = self.state.cases.get_mut(&id) {
                        case.evaluate_at = None;
                    }
                    self.evaluate(&id, &mut turn);
                }
            }
            self.wake(&mut turn);
            out = turn.out;
        }
        out
    }

    pub(crate) fn record(&mut self, kind: &str, body: Value, turn: &mut Turn) {
        self.state.trust.take(kind, &body);
        self.state.chain.write(&self.scope, kind, body, turn);
    }

    /// Sets, moves or drops a case's timer.
    pub(crate) fn evaluate_case_at(&mut self, id: &Arc<str>, at: Option<Timestamp>) {
        let Some(case) = self.state.cases.get_mut(id) else {
            return;
        };
        if let Some(before) = case.evaluate_at.take() {
            self.state.timers.remove(&(before, Timer::Case(Arc::clone(id))));
        }
        if let Some(at) = at {
            case.evaluate_at = Some(at);
            self.state.timers.insert((at, Timer::Case(Arc::clone(id))));
        }
    }

    /// The longest spans that budgets and cooldowns look back.
    pub(crate) fn longest_memory(&self) -> (Span, Span) {
        let budget = &self.options.budget;
        let books = &self.options.playbooks;
        let budgets = books
            .iter()
            .flat_map(|book| [book.safety.budget, book.limits.per_service])
            .flatten();
        let longest = budgets
            .map(|b| b.per)
            .chain([budget.service.per, budget.scope.per])
            .max();
        let cooldown = books.iter().map(|book| book.limits.cooldown).max();
        (longest.unwrap_or(Span::ZERO), cooldown.unwrap_or(Span::ZERO))
    }
}
