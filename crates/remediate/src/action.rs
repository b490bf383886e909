//! From a request to its end: outcomes, deadlines, verification, reversal, escalation.

use std::sync::Arc;

use serde_json::json;
use suture_event::{
    ActionRequest, Approval, ExecutorMode, Outcome, OutcomeStatus, Permit, Rung, Timestamp, Verb, stable_uuid,
};
use suture_permit::Role;

use crate::{
    OnFailure, Output, Remediator, kind,
    ledger::Turn,
    select::Chosen,
    state::{Action, Brief, Ending, First, Past, Stage, Stop, Timer},
};

impl Remediator {
    /// Publishes what was chosen for an incident, on the rung it may use.
    pub(crate) fn publish(&mut self, id: &Arc<str>, chosen: Chosen, rung: Rung, turn: &mut Turn) {
        let Some(playbook) = self.options.playbooks.get(chosen.index) else {
            return;
        };
        let weighed = self.guard.as_ref().and_then(|_| {
            let case = self.state.cases.get(id)?;
            Some(self.view().weigh(playbook, &case.brief, &chosen.target))
        });
        let Some(case) = self.state.cases.get_mut(id) else {
            return;
        };
        let Some(first) = case.brief.first.clone() else { return };
        let bound = self.options.bounds.requests_per_incident;
        if case.requests() >= bound {
            let why = format!("{bound} requests were published for it, which is the bound");
            self.escalate(id, None, &why, turn);
            return;
        }
        let name: Arc<str> = playbook.name.as_str().into();
        let published = case.published.entry(Arc::clone(&name)).or_default();
        *published += 1;
        let attempt = *published;
        let limits = &playbook.limits;
        let (expires_after, verify_within) = (limits.expires_after, limits.verify_within);
        let request = ActionRequest {
            id: action_id(&self.scope, id, case.life, &name, attempt, false),
            at: turn.at,
            expires_at: turn.at.plus(expires_after),
            incident: Arc::clone(id),
            scope: Arc::clone(&self.scope),
            target: chosen.target,
            step: chosen.step,
            reversal: chosen.reversal,
            reverses: None,
            rung,
            approved_by: None,
            approvals: Vec::new(),
            outside: chosen.outside,
            weighed,
            permit: None,
            playbook: Arc::clone(&name),
            owner: playbook.owner.as_str().into(),
            class: Arc::clone(&first.class),
            change: first.change.clone(),
            probability: case.brief.probability,
            attempt,
            verify_by: turn.at.plus(verify_within),
            reason: reason(&case.brief, &first, &playbook.description),
        };
        let action = Action {
            request,
            stage: Stage::Sent,
            due: turn.at,
            expires_after,
            verify_within,
            attempts: limits.attempts,
            on_failure: limits.on_failure,
            by: None,
            dry: false,
        };
        if rung == Rung::Advise {
            case.advised.push((first, name));
        }
        self.issue(action, turn);
    }

    /// Says a request, and follows it unless it is advice.
    fn issue(&mut self, mut action: Action, turn: &mut Turn) {
        if action.request.rung == Rung::Supervised {
            action.stage = Stage::Waiting;
            action.request.expires_at = turn.at.plus(self.options.approval_within);
            action.request.verify_by = action.request.expires_at.plus(action.verify_within);
        }
        action.request.permit = self.permit(&action.request);
        let request = &action.request;
        let id = Arc::clone(&request.id);
        self.say(request.clone(), turn);
        match request.rung {
            Rung::Advise => self
                .state
                .ended
                .remember(&id, Ending::Advised, self.options.bounds.remembered),
            Rung::Supervised => self.follow(action, turn.at.plus(self.options.approval_within)),
            Rung::Autonomous => self.sent(action),
        }
    }

    /// The right to act on a request, where anybody may. It is signed where the request is written to its topic: the keys are
    /// no part of what is decided.
    fn permit(&self, request: &ActionRequest) -> Option<Permit> {
        (request.rung == Rung::Autonomous).then(|| {
            let playbook = self
                .options
                .playbooks
                .iter()
                .find(|book| book.name == *request.playbook);
            let executor = playbook.and_then(|book| book.executor.as_deref());
            Permit {
                executor: executor.unwrap_or(&self.options.executor).into(),
                epoch: self.state.freezes.epoch().clone(),
                seal: None,
            }
        })
    }

    fn say(&mut self, request: ActionRequest, turn: &mut Turn) {
        let mut body = json!({"request": request});
        if let Some(body) = body.as_object_mut().filter(|_| !self.options.tiers.is_empty()) {
            body.insert("tier".to_owned(), self.tiers.tier(Some(&request.target)).into());
        }
        self.record(kind::ACTION_REQUESTED, body, turn);
        turn.out.push(Output::Request(request));
    }

    /// From now on executors may act on it.
    fn sent(&mut self, action: Action) {
        let request = &action.request;
        if request.reverses.is_none() {
            self.state.history.push(Past {
                action: Arc::clone(&request.id),
                target: Arc::clone(&request.target),
                playbook: Arc::clone(&request.playbook),
                incident: Arc::clone(&request.incident),
                change: request.change.clone(),
                sent_at: request.at,
                ended_at: None,
            });
            if let Some(case) = self.state.cases.get_mut(&request.incident) {
                *case.sent.entry(Arc::clone(&request.playbook)).or_default() += 1;
            }
        }
        let due = request.expires_at.plus(self.options.outcome_grace);
        self.follow(
            Action {
                stage: Stage::Sent,
                ..action
            },
            due,
        );
    }

    fn follow(&mut self, mut action: Action, due: Timestamp) {
        let id = Arc::clone(&action.request.id);
        if let Some(case) = self.state.cases.get_mut(&action.request.incident) {
            case.in_flight = Some(Arc::clone(&id));
        }
        self.state.timers.remove(&(action.due, Timer::Action(Arc::clone(&id))));
        self.state.timers.insert((due, Timer::Action(Arc::clone(&id))));
        action.due = due;
        self.state.actions.insert(id, action);
    }

    /// Approves a waiting action: the request is said again under its id, and executors may act on it.
    pub(crate) fn approved(&mut self, id: &str, by: &Arc<str>, turn: &mut Turn) {
        let Some(mut action) = self.state.actions.get(id).cloned() else {
            return;
        };
        let request = &mut action.request;
        request.rung = Rung::Autonomous;
        request.approved_by = Some(Arc::clone(by));
        request.at = turn.at;
        request.expires_at = turn.at.plus(action.expires_after);
        request.verify_by = turn.at.plus(action.verify_within);
        action.request.permit = self.permit(&action.request);
        self.say(action.request.clone(), turn);
        self.sent(action);
    }

    /// An action is over: it is remembered, and what waited for it is looked at once this input has been worked off.
    pub(crate) fn end(&mut self, id: &Arc<str>, ending: Ending, turn: &mut Turn) {
        let Some(action) = self.state.actions.remove(id) else {
            return;
        };
        self.state.timers.remove(&(action.due, Timer::Action(Arc::clone(id))));
        self.state.ended.remember(id, ending, self.options.bounds.remembered);
        self.state
            .history
            .end(action.request.reverses.as_deref().unwrap_or(id), turn.at);
        if let Some(case) = self.state.cases.get_mut(&action.request.incident) {
            case.in_flight = None;
        }
        turn.released = true;
    }

    pub(crate) fn outcome(&mut self, outcome: &Outcome, turn: &mut Turn) {
        if self.options.keys.has(Role::Executor)
            && let Err(flaw) = self.options.keys.check_outcome(outcome)
        {
            self.ignore(outcome, &format!("nobody vouches for it: {flaw}"), turn);
            return;
        }
        if outcome.status == OutcomeStatus::Rejected {
            self.record(kind::REQUEST_REJECTED, json!({"outcome": outcome}), turn);
            return;
        }
        let Some(action) = self.state.actions.get(&outcome.action).cloned() else {
            let ending = self.state.ended.get(&outcome.action);
            let why = ending.map_or("no such action is known", Ending::words);
            self.ignore(outcome, why, turn);
            return;
        };
        if let Some(why) = self.is_anothers(&action, outcome) {
            self.ignore(outcome, &why, turn);
            return;
        }
        let dry = outcome.mode == ExecutorMode::Dry || outcome.status == OutcomeStatus::DryRun;
        match (action.stage, outcome.status) {
            (Stage::Sent, _) if dry => {
                let body = json!({"incident": action.request.incident, "outcome": outcome});
                self.record(kind::OUTCOME, body, turn);
                if let Some(action) = self.state.actions.get_mut(&outcome.action) {
                    action.dry = true;
                }
            }
            (_, _) if dry => self.ignore(outcome, "a dry run settles nothing", turn),
            (Stage::Waiting, OutcomeStatus::Refused) => {
                self.ignore(outcome, "it still waits for approval", turn);
            }
            (Stage::Waiting, _) => {
                self.ignore(outcome, "it was done without the approval it waits for", turn);
                let (id, incident) = (&action.request.id, &action.request.incident);
                self.end(id, Ending::Failed, turn);
                let why = format!(
                    "{} acted without the approval that the action waited for",
                    outcome.executor
                );
                self.escalate(incident, Some(&action.request), &why, turn);
            }
            (Stage::Started, OutcomeStatus::Started) => self.ignore(outcome, "it had started already", turn),
            (Stage::Verifying, _) => self.ignore(outcome, "it had succeeded already", turn),
            (Stage::Sent | Stage::Started, status) => {
                let body = json!({"incident": action.request.incident, "outcome": outcome});
                self.record(kind::OUTCOME, body, turn);
                self.heard(action, status, outcome, turn);
            }
        }
    }

    /// Why an outcome is not that of the executor whose word counts, if it is not: the one that the permit is for where keys tell
    /// executors apart, otherwise the one that took it up.
    fn is_anothers(&self, action: &Action, outcome: &Outcome) -> Option<String> {
        let named = action.request.permit.as_ref().map(|permit| &permit.executor);
        let named = named.filter(|_| self.options.keys.has(Role::Executor));
        if let Some(named) = named.filter(|named| **named != outcome.executor) {
            return Some(format!("the permit is for {named}"));
        }
        let by = action.by.as_ref().filter(|by| **by != outcome.executor)?;
        Some(format!("{by} has taken it up"))
    }

    fn ignore(&mut self, outcome: &Outcome, why: &str, turn: &mut Turn) {
        self.record(kind::OUTCOME_IGNORED, json!({"outcome": outcome, "why": why}), turn);
    }

    fn heard(&mut self, action: Action, status: OutcomeStatus, outcome: &Outcome, turn: &mut Turn) {
        let action = Action {
            by: Some(Arc::clone(&outcome.executor)),
            ..action
        };
        let request = action.request.clone();
        let is_reversal = request.reverses.is_some();
        match status {
            OutcomeStatus::Started => self.follow(
                Action {
                    stage: Stage::Started,
                    ..action
                },
                request.verify_by,
            ),
            OutcomeStatus::Succeeded if is_reversal => {
                let body = json!({"incident": request.incident, "action": request.id, "reverses": request.reverses});
                self.record(kind::REVERSED, body, turn);
                self.end(&request.id, Ending::Reversed, turn);
            }
            OutcomeStatus::Succeeded => {
                self.follow(
                    Action {
                        stage: Stage::Verifying,
                        ..action
                    },
                    request.verify_by,
                );
                self.judge(&request.incident, turn);
            }
            OutcomeStatus::Failed | OutcomeStatus::Refused if is_reversal => {
                let why = format!("{} says: {}", outcome.executor, outcome.detail);
                self.reversal_failed(&request, &why, turn);
            }
            // neither comes here: dry runs settle nothing, and what was rejected was no request
            OutcomeStatus::DryRun | OutcomeStatus::Rejected => {}
            OutcomeStatus::Failed => self.failed(&action, Ending::Failed, outcome, turn),
            OutcomeStatus::Refused => self.failed(&action, Ending::Refused, outcome, turn),
        }
        self.close_if_over(&request.incident);
    }

    fn failed(&mut self, action: &Action, ending: Ending, outcome: &Outcome, turn: &mut Turn) {
        let request = &action.request;
        self.end(&request.id, ending, turn);
        let Some(case) = self.state.cases.get(&request.incident) else {
            return;
        };
        let what = if ending == Ending::Refused {
            "was refused"
        } else {
            "failed"
        };
        let why = format!("the action {what}: {}", outcome.detail);
        if ending == Ending::Failed && action.on_failure == OnFailure::Reverse && request.reversal.is_some() {
            self.reverse(action, turn);
            self.escalate(&request.incident, Some(request), &why, turn);
            return;
        }
        if case.stopped.is_some() {
            return;
        }
        let sent = case.sent.get(&request.playbook).copied().unwrap_or(0);
        if sent < action.attempts && !case.resolved {
            self.evaluate(&request.incident, turn);
        } else {
            self.escalate(&request.incident, Some(request), &why, turn);
        }
    }

    /// Concludes an action that succeeded, where the signals or the incident's end allow a conclusion.
    pub(crate) fn judge(&mut self, incident: &Arc<str>, turn: &mut Turn) {
        let Some(case) = self.state.cases.get(incident) else {
            return;
        };
        let Some(action) = case
            .in_flight
            .as_ref()
            .and_then(|id| self.state.actions.get(id))
            .cloned()
        else {
            return;
        };
        if action.stage != Stage::Verifying {
            return;
        }
        if case.brief.is_back() {
            self.verified(&action, turn);
        } else if case.resolved {
            self.not_verified(
                &action,
                "the incident was resolved without recovery of the signals that opened it",
                turn,
            );
        }
    }

    fn verified(&mut self, action: &Action, turn: &mut Turn) {
        let request = &action.request;
        let Some(case) = self.state.cases.get(&request.incident) else {
            return;
        };
        let body = json!({"incident": request.incident, "action": request.id, "opening": case.brief.opening});
        self.record(kind::VERIFIED, body, turn);
        self.end(&request.id, Ending::Verified, turn);
        if request.reversal.is_some() {
            let stage = Stage::Verifying;
            self.state.undoable.remember(Action {
                stage,
                ..action.clone()
            });
        }
        self.close_if_over(&request.incident);
    }

    /// The signals did not come back: ask for the reversal where there is one, and for a human in any case.
    fn not_verified(&mut self, action: &Action, why: &str, turn: &mut Turn) {
        let request = &action.request;
        let Some(case) = self.state.cases.get(&request.incident) else {
            return;
        };
        let brief = &case.brief;
        let body = json!({
            "incident": request.incident, "action": request.id, "opening": brief.opening, "recovered": brief.recovered,
            "not_back": brief.not_back, "why": why,
        });
        self.record(kind::NOT_VERIFIED, body, turn);
        self.end(&request.id, Ending::NotVerified, turn);
        if request.reversal.is_some() {
            self.reverse(action, turn);
        }
        self.escalate(&request.incident, Some(request), why, turn);
        self.close_if_over(&request.incident);
    }

    /// Asks for what undoes an action: on the rung that the action had; as advice where a human has taken over or frozen
    /// the scope. Reversals are not counted in budgets, nor held back by them, by cooldowns or by the bound on requests.
    fn reverse(&mut self, action: &Action, turn: &mut Turn) {
        let original = &action.request;
        let Some(step) = &original.reversal else { return };
        let Some(case) = self.state.cases.get(&original.incident) else {
            return;
        };
        let human = matches!(case.stopped, Some(Stop::Acknowledged | Stop::Labelled));
        let class = Verb::of(&step.action).map_or(Rung::Advise, Verb::highest_as_reversal);
        let rung = if human || self.state.frozen_by().is_some() {
            Rung::Advise
        } else if original.approved_by.is_some() {
            Rung::Supervised.min(self.options.mode)
        } else {
            self.options.mode
        };
        let mut action = action.clone();
        // what a human approved was the action: what undoes it waits for a word of its own
        action.request.approvals.clear();
        self.ask_to_undo(&action, rung.min(class), turn);
    }

    /// Asks for what undoes an action because a human said so, which is its approval.
    pub(crate) fn undo_now(&mut self, action: &Action, approval: Approval, turn: &mut Turn) {
        let mut action = action.clone();
        // the words of who lets it be undone stand in the request that undoes it
        action.request.approvals = vec![approval];
        self.ask_to_undo(&action, Rung::Autonomous, turn);
    }

    fn ask_to_undo(&mut self, action: &Action, rung: Rung, turn: &mut Turn) {
        let original = &action.request;
        let Some(step) = original.reversal.clone() else { return };
        let life = self.state.cases.get_mut(&original.incident).map_or(0, |case| {
            *case.published.entry(Arc::clone(&original.playbook)).or_default() += 1;
            case.life
        });
        let approvals = original.approvals.clone();
        let request = ActionRequest {
            id: action_id(
                &self.scope,
                &original.incident,
                life,
                &original.playbook,
                original.attempt,
                true,
            ),
            at: turn.at,
            expires_at: turn.at.plus(action.expires_after),
            step,
            reversal: None,
            reverses: Some(Arc::clone(&original.id)),
            rung,
            approved_by: approvals.last().map(|approval| Arc::clone(&approval.by)),
            approvals,
            permit: None,
            verify_by: turn.at.plus(action.verify_within),
            reason: format!(
                "undoes {} of {}, which did not help",
                original.step.action, original.target
            ),
            ..original.clone()
        };
        self.issue(
            Action {
                request,
                by: None,
                dry: false,
                ..action.clone()
            },
            turn,
        );
    }

    fn reversal_failed(&mut self, request: &ActionRequest, why: &str, turn: &mut Turn) {
        let body = json!({
            "incident": request.incident, "action": request.id, "reverses": request.reverses, "why": why,
        });
        self.record(kind::REVERSAL_FAILED, body, turn);
        self.end(&request.id, Ending::ReversalFailed, turn);
        let why = format!("the reversal did not come about: {why}");
        self.escalate(&request.incident, Some(request), &why, turn);
        self.close_if_over(&request.incident);
    }

    /// Hands an incident to a human: nothing more is done about it by itself.
    pub(crate) fn escalate(&mut self, id: &Arc<str>, request: Option<&ActionRequest>, why: &str, turn: &mut Turn) {
        self.evaluate_case_at(id, None);
        let Some(case) = self.state.cases.get_mut(id) else {
            return;
        };
        case.stopped.get_or_insert(Stop::Escalated);
        case.decided = None;
        let brief = &case.brief;
        let body = json!({
            "incident": id, "title": brief.title, "severity": brief.severity, "services": brief.services,
            "not_back": brief.not_back, "action": request.map(|r| &r.id), "playbook": request.map(|r| &r.playbook),
            "owner": request.map(|r| &r.owner), "why": why,
        });
        self.record(kind::ESCALATED, body, turn);
    }

    /// An action's deadline has come.
    pub(crate) fn action_due(&mut self, id: &Arc<str>, turn: &mut Turn) {
        let Some(action) = self.state.actions.get(id).cloned() else {
            return;
        };
        let request = &action.request;
        let incident = &request.incident;
        let is_reversal = request.reverses.is_some();
        match action.stage {
            Stage::Waiting => {
                self.record(
                    kind::APPROVAL_EXPIRED,
                    json!({"incident": incident, "action": id}),
                    turn,
                );
                if is_reversal {
                    self.reversal_failed(request, "nobody approved it in time", turn);
                } else {
                    self.end(id, Ending::ApprovalExpired, turn);
                    self.escalate(incident, Some(request), "nobody approved the action in time", turn);
                }
            }
            Stage::Sent if action.dry && !is_reversal => {
                let why = "a dry run came of it, and no executor that acts";
                let body = json!({"incident": incident, "action": id, "why": why});
                self.record(kind::OUTCOME_MISSING, body, turn);
                self.end(id, Ending::DryRun, turn);
                if let Some(case) = self.state.cases.get_mut(incident) {
                    case.stopped.get_or_insert(Stop::DryRun);
                }
            }
            Stage::Sent => {
                let why = "no executor started it before it expired";
                self.record(
                    kind::OUTCOME_MISSING,
                    json!({"incident": incident, "action": id, "why": why}),
                    turn,
                );
                if is_reversal {
                    self.reversal_failed(request, why, turn);
                } else {
                    self.end(id, Ending::Missing, turn);
                    self.escalate(incident, Some(request), why, turn);
                }
            }
            Stage::Started => {
                let why = "an executor started it and never said how it ended";
                self.record(
                    kind::OUTCOME_MISSING,
                    json!({"incident": incident, "action": id, "why": why}),
                    turn,
                );
                let back = self.state.cases.get(incident).is_some_and(|case| case.brief.is_back());
                if is_reversal {
                    self.reversal_failed(request, why, turn);
                } else if back {
                    self.verified(&action, turn);
                } else {
                    self.not_verified(&action, why, turn);
                }
            }
            Stage::Verifying => {
                self.not_verified(
                    &action,
                    "the signals that opened the incident did not come back in time",
                    turn,
                );
            }
        }
        self.close_if_over(incident);
    }
}

/// The same scope, incident, playbook and attempt give the same id, unless the incident was forgotten in between: its attempts
/// are counted anew then, and executors would take the first of them for one that they have done.
fn action_id(scope: &str, incident: &str, life: u64, playbook: &str, attempt: u32, reversal: bool) -> Arc<str> {
    // as a JSON array, so that no part can run into the next
    let mut name = json!(["action", scope, incident, playbook, attempt, reversal]);
    if let Some(parts) = name.as_array_mut().filter(|_| life > 0) {
        parts.push(life.into());
    }
    stable_uuid(&name.to_string()).to_string().into()
}

fn reason(brief: &Brief, first: &First, description: &str) -> String {
    let at = first
        .service
        .as_ref()
        .map_or_else(String::new, |service| format!(" in {service}"));
    let change = first
        .change
        .as_ref()
        .map_or_else(String::new, |change| format!(" by change {change}"));
    let mut reason = format!("{:.0}% {}{at}{change}", brief.probability * 100.0, first.class);
    for more in [brief.because.as_str(), description] {
        if !more.is_empty() {
            reason.push_str("; ");
            reason.push_str(more);
        }
    }
    reason
}
