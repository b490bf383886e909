//! Where an action is in its life, as requests, outcomes and the ledger tell it.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use suture_event::{ActionRequest, LedgerRecord, Outcome, OutcomeStatus, Rung, Timestamp};

/// Where in its life an action is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ActionState {
    /// It was only advised.
    Advised,
    /// It waits for a human.
    Waiting,
    /// Executors may take it up.
    Requested,
    /// An executor works on it.
    Started,
    /// It was done; whether it helped is being watched.
    Verifying,
    /// It was a dry run.
    DryRun,
    /// It was done, and the signals came back.
    Verified,
    /// It was done, and they did not.
    NotVerified,
    /// It was undone.
    Reversed,
    /// It should have been undone and was not.
    ReversalFailed,
    /// The executor tried and failed.
    Failed,
    /// The executor would not.
    Refused,
    /// A human would not have it.
    Denied,
    /// Nobody approved it in time.
    Expired,
    /// It was not wanted any more.
    Withdrawn,
    /// No executor said what became of it.
    Missing,
}

impl ActionState {
    /// States follow one another by this order only: topics are read beside one another, so that what is older may come later.
    const fn rank(self) -> u8 {
        match self {
            Self::Advised => 0,
            Self::Waiting => 1,
            Self::Requested => 2,
            Self::Started => 3,
            Self::Verifying | Self::DryRun => 4,
            Self::Failed | Self::Refused => 5,
            Self::Verified | Self::Denied | Self::Expired | Self::Withdrawn | Self::Missing => 6,
            Self::NotVerified => 7,
            Self::Reversed | Self::ReversalFailed => 8,
        }
    }

    /// Whether something may still come of it.
    pub(crate) const fn is_open(self) -> bool {
        matches!(self, Self::Waiting | Self::Requested | Self::Started | Self::Verifying)
    }
}

/// An action, with what was said about it.
#[derive(Debug, Clone)]
pub(crate) struct Action {
    pub(crate) request: ActionRequest,
    pub(crate) state: ActionState,
    pub(crate) since: Timestamp,
    pub(crate) outcomes: Vec<Outcome>,
}

impl Action {
    pub(crate) fn new(request: ActionRequest) -> Self {
        let state = of_rung(request.rung);
        Self {
            since: request.at,
            state,
            request,
            outcomes: Vec::new(),
        }
    }

    fn become_at(&mut self, state: ActionState, at: Timestamp) {
        if state.rank() > self.state.rank() {
            self.state = state;
            self.since = at;
        }
    }

    /// The request was said again, as it is when it was approved.
    pub(crate) fn again(&mut self, request: ActionRequest) {
        self.become_at(of_rung(request.rung), request.at);
        if request.rung >= self.request.rung {
            self.request = request;
        }
    }

    pub(crate) fn outcome(&mut self, outcome: &Outcome, most: usize) {
        if self.outcomes.contains(outcome) {
            return;
        }
        let state = match outcome.status {
            OutcomeStatus::Started => ActionState::Started,
            OutcomeStatus::Succeeded => ActionState::Verifying,
            OutcomeStatus::Failed => ActionState::Failed,
            OutcomeStatus::Refused => ActionState::Refused,
            OutcomeStatus::DryRun => ActionState::DryRun,
            OutcomeStatus::Rejected => return,
        };
        self.become_at(state, outcome.at);
        if self.outcomes.len() >= most {
            self.outcomes.remove(0);
        }
        self.outcomes.push(outcome.clone());
    }

    /// What the ledger says of it.
    pub(crate) fn decided(&mut self, record: &LedgerRecord) {
        let state = match record.kind.as_ref() {
            "denied" => ActionState::Denied,
            "approval_expired" => ActionState::Expired,
            "withdrawn" => ActionState::Withdrawn,
            "outcome_missing" => ActionState::Missing,
            "verified" => ActionState::Verified,
            "not_verified" => ActionState::NotVerified,
            // what undoes another is over with that: there is nothing to verify
            "reversed" => ActionState::Verified,
            "reversal_failed" => ActionState::Failed,
            _ => return,
        };
        self.become_at(state, record.at);
    }

    /// What undoes this one has ended.
    pub(crate) fn undone(&mut self, record: &LedgerRecord) {
        let state = if &*record.kind == "reversed" {
            ActionState::Reversed
        } else {
            ActionState::ReversalFailed
        };
        self.become_at(state, record.at);
    }
}

const fn of_rung(rung: Rung) -> ActionState {
    match rung {
        Rung::Advise => ActionState::Advised,
        Rung::Supervised => ActionState::Waiting,
        Rung::Autonomous => ActionState::Requested,
    }
}

/// A text in a record's body.
pub(crate) fn text(record: &LedgerRecord, at: &str) -> Option<Arc<str>> {
    record.body.pointer(at)?.as_str().map(Arc::from)
}
