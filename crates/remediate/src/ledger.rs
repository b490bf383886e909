//! Writing the chain of decisions.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use suture_event::{Cause, LedgerRecord, Timestamp};

use crate::Output;

/// The kinds of ledger record that this crate writes, with what their bodies hold.
pub mod kind {
    /// An incident came in: `incident`, `severity`, `services`, `title`, `first` (hypothesis).
    pub const INCIDENT_OPENED: &str = "incident_opened";
    /// Another hypothesis is first now: `incident`, `from`, `to`.
    pub const INCIDENT_RERANKED: &str = "incident_reranked";
    /// The incident is over: `incident`, `opening` (signals), `recovered`, `not_back`.
    pub const INCIDENT_RESOLVED: &str = "incident_resolved";
    /// A resolved incident came back: as `incident_opened`.
    pub const INCIDENT_REOPENED: &str = "incident_reopened";
    /// More incidents are open than are remembered, so this one is left to humans: `incident`, `bound`.
    pub const INCIDENT_LEFT_OUT: &str = "incident_left_out";
    /// A playbook fits: `incident`, `hypothesis`, `playbook`, `candidates` with a reason each, `rung`, `limited_by`; where
    /// the pipeline has policies, the `policies` that determined what they said.
    pub const PLAYBOOK_CHOSEN: &str = "playbook_chosen";
    /// None fits: `incident`, `hypothesis`, `candidates` with a reason each.
    pub const NO_PLAYBOOK: &str = "no_playbook";
    /// A playbook was chosen and must wait: `incident`, `playbook`, `target`, `why`, `until` where that is known.
    pub const ACTION_HELD: &str = "action_held";
    /// A request was published: `request`, in full, and the `tier` of its target where the pipeline names tiers.
    pub const ACTION_REQUESTED: &str = "action_requested";
    /// A human let a supervised request go ahead: `action`, `by`, `reason`, `key` where it was signed, `still` (people) where more
    /// must, `policies` where the pipeline has any; then `action_requested` once more.
    pub const APPROVED: &str = "approved";
    /// A human refused it: `action`, `incident`, `by`, `reason`.
    pub const DENIED: &str = "denied";
    /// Nobody approved in time: `action`, `incident`.
    pub const APPROVAL_EXPIRED: &str = "approval_expired";
    /// A waiting or held action is no longer wanted: `incident`, `action` where one was published, `why`.
    pub const WITHDRAWN: &str = "withdrawn";
    /// An executor said something that was waited for: `outcome`, `incident`.
    pub const OUTCOME: &str = "outcome";
    /// A human asked for an action to be undone: `action`, `by`, `reason`; then `action_requested` for what undoes it.
    pub const UNDONE: &str = "undone";
    /// A record came to an executor that was no valid request: `outcome`, with why. Somebody may be forging requests.
    pub const REQUEST_REJECTED: &str = "request_rejected";
    /// An executor said something that changes nothing: `outcome`, `why`.
    pub const OUTCOME_IGNORED: &str = "outcome_ignored";
    /// No executor said anything in time: `action`, `incident`, `why`.
    pub const OUTCOME_MISSING: &str = "outcome_missing";
    /// Every signal that opened the incident is back: `action`, `incident`, `opening`.
    pub const VERIFIED: &str = "verified";
    /// They are not: `action`, `incident`, `opening`, `recovered`, `not_back`, `why`.
    pub const NOT_VERIFIED: &str = "not_verified";
    /// An action was undone: `action` (the reversal), `reverses`, `incident`.
    pub const REVERSED: &str = "reversed";
    /// It could not be undone: `action`, `reverses`, `incident`, `why`.
    pub const REVERSAL_FAILED: &str = "reversal_failed";
    /// A human must take over, and nothing more is done by itself for the incident: `incident`, `owner`, `why`, …
    pub const ESCALATED: &str = "escalated";
    /// The scope made room for another and is put away until something comes of it: `for`, `heard` (when something last did).
    pub const PUT_AWAY: &str = "scope_put_away";
    /// A human froze the scope: `by`, `reason`.
    pub const FROZEN: &str = "frozen";
    /// A human thawed it: `by`, `reason`, `frozen_by`.
    pub const THAWED: &str = "thawed";
    /// A human took the incident: `incident`, `by`, `reason`.
    pub const ACKNOWLEDGED: &str = "acknowledged";
    /// A human said what it was: `incident`, `label`, `by`, `reason`.
    pub const LABELLED: &str = "labelled";
    /// A command that could not be followed: `command`, in full, `why`.
    pub const COMMAND_IGNORED: &str = "command_ignored";
}

/// The end of one scope's chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Chain {
    seq: u64,
    head: String,
}

impl Default for Chain {
    fn default() -> Self {
        Self {
            seq: 0,
            head: LedgerRecord::GENESIS.to_owned(),
        }
    }
}

/// One input or timer being worked on: when, because of what, and what came out so far.
pub(crate) struct Turn {
    pub(crate) at: Timestamp,
    /// Absent for timers: which mark of progress passed their due time depends on how often marks are sent.
    pub(crate) cause: Option<Cause>,
    pub(crate) out: Vec<Output>,
    /// Whether an action ended, for which other incidents may have waited.
    pub(crate) released: bool,
}

impl Turn {
    pub(crate) const fn new(at: Timestamp, cause: Option<Cause>, out: Vec<Output>) -> Self {
        Self {
            at,
            cause,
            out,
            released: false,
        }
    }
}

impl Chain {
    /// Whether nothing was ever written.
    pub(crate) const fn is_new(&self) -> bool {
        self.seq == 0
    }

    pub(crate) fn write(&mut self, scope: &Arc<str>, kind: &str, body: Value, turn: &mut Turn) {
        let record = LedgerRecord::sealed(
            self.seq,
            turn.at,
            Arc::clone(scope),
            kind,
            turn.cause.clone(),
            body,
            &self.head,
        );
        self.seq += 1;
        self.head.clone_from(&record.hash);
        turn.out.push(Output::Ledger(record));
    }
}
