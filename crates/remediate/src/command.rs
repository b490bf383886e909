//! What humans say.

use std::sync::Arc;

use serde_json::json;
use suture_event::{Approval, Command, CommandKind, Timestamp};
use suture_policy::Verdict;

use crate::{
    Remediator, kind, ladder,
    ledger::Turn,
    state::{Action, Ending, Stage, Stop},
};

impl Remediator {
    pub(crate) fn command(&mut self, command: &Command, turn: &mut Turn) {
        let done = if command.by.trim().is_empty() {
            Err("it names nobody, and every decision is somebody's".to_owned())
        } else if let Err(why) = self.is_valid(command, turn.at) {
            Err(why)
        } else {
            match &command.kind {
                CommandKind::Approve { action } => self.approve(action, command, turn),
                CommandKind::Deny { action } => self.deny(action, command, turn),
                CommandKind::Undo { action } => self.undo(action, command, turn),
                CommandKind::Freeze => self.freeze(command, turn),
                CommandKind::Thaw => self.thaw(command, turn),
                CommandKind::Acknowledge { incident } => self.acknowledge(incident, command, turn),
                CommandKind::Label { incident, label } => self.label(incident, label, command, turn),
            }
        };
        if let Err(why) = done {
            self.record(kind::COMMAND_IGNORED, json!({"command": command, "why": why}), turn);
        }
    }

    /// Whether a command was given by whom it names, and lately. Where the pipeline names no keys, names are believed: no executor
    /// that acts takes what comes of it.
    fn is_valid(&self, command: &Command, now: Timestamp) -> Result<(), String> {
        let keys = &self.options.keys;
        if keys.is_empty() {
            return Ok(());
        }
        keys.check_command(command)
            .map_err(|flaw| format!("nobody vouches for it: {flaw}"))?;
        let within = self.options.commands_within;
        if command.at.plus(within) < now {
            return Err(format!(
                "it was given at {}, more than {within} before it was read",
                command.at
            ));
        }
        Ok(())
    }

    fn waiting(&self, id: &str) -> Result<Action, String> {
        match self.state.actions.get(id) {
            Some(action) if action.stage == Stage::Waiting => Ok(action.clone()),
            Some(_) => Err("it has been sent to executors already".to_owned()),
            None => Err(self
                .state
                .ended
                .get(id)
                .map_or("no such action is known", Ending::words)
                .to_owned()),
        }
    }

    fn approve(&mut self, id: &Arc<str>, command: &Command, turn: &mut Turn) -> Result<(), String> {
        let action = self.waiting(id)?;
        if let Some(by) = self.state.frozen_by() {
            return Err(format!(
                "{by} froze the scope: thaw it first; the action goes on waiting"
            ));
        }
        if action.request.reverses.is_none() {
            let playbook = self
                .options
                .playbooks
                .iter()
                .find(|book| book.name == *action.request.playbook);
            let Some(playbook) = playbook else {
                return Err("its playbook is no longer in the pipeline file".to_owned());
            };
            let spent = ladder::budgets(&self.options, playbook, &action.request.target, &self.state);
            if let Some(why) = spent.whys.first() {
                return Err(format!("{why}; the action goes on waiting"));
            }
            if self.under_way() >= self.options.concurrent as usize {
                return Err("as many actions as may be are under way; the action goes on waiting".to_owned());
            }
        }
        let approvals = &action.request.approvals;
        if approvals.iter().any(|approval| approval.by == command.by) {
            return Err(format!("{} approved it already, and another person must", command.by));
        }
        let needed: usize = if self.two_people.is_match(action.request.target.as_ref()) {
            2
        } else {
            1
        };
        let still = needed.saturating_sub(approvals.len() + 1);
        let policies = if still == 0 { self.policies_on(&action)? } else { None };
        let mut body = json!({
            "action": id, "incident": action.request.incident, "by": command.by, "reason": command.reason,
        });
        if let Some(body) = body.as_object_mut() {
            if let Some(seal) = &command.seal {
                body.insert("key".to_owned(), (*seal.key).into());
            }
            if still > 0 {
                body.insert("still".to_owned(), still.into());
            }
        }
        if let (Some(body), Some(policies)) = (body.as_object_mut(), policies) {
            body.insert("policies".to_owned(), json!(policies));
        }
        self.record(kind::APPROVED, body, turn);
        if let Some(action) = self.state.actions.get_mut(id) {
            action.request.approvals.push(approval(command));
        }
        if still == 0 {
            self.approved(id, &command.by, turn);
        }
        Ok(())
    }

    /// The policies that let an action go that one person more approves, where the pipeline has any.
    fn policies_on(&self, action: &Action) -> Result<Option<Vec<Arc<str>>>, String> {
        let request = &action.request;
        // what let the action go let what undoes it go as well
        if request.reverses.is_some() || self.guard.is_none() {
            return Ok(None);
        }
        let playbook = self
            .options
            .playbooks
            .iter()
            .find(|book| book.name == *request.playbook);
        let case = self.state.cases.get(&request.incident);
        let (Some(playbook), Some(case)) = (playbook, case) else {
            return Err("the policies could not be asked: its playbook or its incident is no longer known".to_owned());
        };
        let approvals = request.approvals.len() + 1;
        match self.view().ask(playbook, &case.brief, &request.target, approvals) {
            Some(answer) if answer.verdict != Verdict::Allow => {
                Err(format!("{}; the action goes on waiting", answer.why))
            }
            answer => Ok(answer.map(|answer| answer.policies)),
        }
    }

    /// A human asks for an action to be undone: that is the approval of what undoes it.
    fn undo(&mut self, id: &Arc<str>, command: &Command, turn: &mut Turn) -> Result<(), String> {
        let action = self.state.actions.get(id).cloned();
        let action = action.or_else(|| self.state.undoable.get(id).cloned());
        let action = action.ok_or_else(|| {
            let ending = self.state.ended.get(id);
            format!(
                "{}: it cannot be undone any more",
                ending.map_or("no such action is known", Ending::words)
            )
        })?;
        if action.request.reverses.is_some() {
            return Err("it is itself what undoes an action".to_owned());
        }
        if action.request.reversal.is_none() {
            return Err("nothing undoes it".to_owned());
        }
        if let Some(by) = self.state.frozen_by() {
            return Err(format!("{by} froze the scope: thaw it first"));
        }
        match action.stage {
            Stage::Waiting => return Err("it waits for approval: deny it".to_owned()),
            Stage::Sent | Stage::Started => return Err("it is under way: freeze the scope to stop it".to_owned()),
            Stage::Verifying => {}
        }
        let body = json!({
            "action": id, "incident": action.request.incident, "by": command.by, "reason": command.reason,
        });
        self.record(kind::UNDONE, body, turn);
        if self.state.actions.contains_key(id) {
            self.end(id, Ending::NotVerified, turn);
        }
        self.state.undoable.remove(id);
        self.stop(&action.request.incident, Stop::Acknowledged).ok();
        self.undo_now(&action, approval(command), turn);
        Ok(())
    }

    fn deny(&mut self, id: &Arc<str>, command: &Command, turn: &mut Turn) -> Result<(), String> {
        let request = self.waiting(id)?.request;
        let incident = &request.incident;
        let body = json!({"action": id, "incident": incident, "by": command.by, "reason": command.reason});
        self.record(kind::DENIED, body, turn);
        self.end(id, Ending::Denied, turn);
        if let Some(case) = self.state.cases.get_mut(incident) {
            case.denied.insert(Arc::clone(&request.playbook));
        }
        self.evaluate(incident, turn);
        self.close_if_over(incident);
        Ok(())
    }

    /// The program itself holds the scope still, until a human thaws it.
    pub(crate) fn hold_still(&mut self, by: &Arc<str>, reason: &str, turn: &mut Turn) {
        self.state.held_by = Some(Arc::clone(by));
        let body = json!({"by": by, "reason": reason, "epoch": self.state.freezes.epoch().number});
        self.record(kind::FROZEN, body, turn);
    }

    fn freeze(&mut self, command: &Command, turn: &mut Turn) -> Result<(), String> {
        self.state.freezes.follow(command)?;
        let epoch = self.state.freezes.epoch().number;
        let body = json!({"by": command.by, "reason": command.reason, "epoch": epoch});
        self.record(kind::FROZEN, body, turn);
        Ok(())
    }

    fn thaw(&mut self, command: &Command, turn: &mut Turn) -> Result<(), String> {
        let frozen_by = self.state.frozen_by().cloned();
        let held = self.state.held_by.is_some();
        if !held || self.state.freezes.frozen_by().is_some() {
            self.state.freezes.follow(command)?;
        }
        self.state.held_by = None;
        let body = json!({"by": command.by, "reason": command.reason, "frozen_by": frozen_by});
        self.record(kind::THAWED, body, turn);
        let mut open: Vec<_> = self.state.cases.values().filter(|case| !case.resolved).collect();
        open.sort_by_key(|case| case.brief.opened_at);
        let ids: Vec<Arc<str>> = open.into_iter().map(|case| Arc::clone(&case.brief.id)).collect();
        for id in &ids {
            self.evaluate(id, turn);
        }
        Ok(())
    }

    fn acknowledge(&mut self, incident: &Arc<str>, command: &Command, turn: &mut Turn) -> Result<(), String> {
        self.stop(incident, Stop::Acknowledged)?;
        let body = json!({"incident": incident, "by": command.by, "reason": command.reason});
        self.record(kind::ACKNOWLEDGED, body, turn);
        self.withdraw(incident, "a human is on the incident", turn);
        Ok(())
    }

    fn label(&mut self, incident: &Arc<str>, label: &str, command: &Command, turn: &mut Turn) -> Result<(), String> {
        let body = json!({"incident": incident, "label": label, "by": command.by, "reason": command.reason});
        match label {
            // labels may come long after the incident, when it is no longer known here
            "true" => self.record(kind::LABELLED, body, turn),
            "false_alarm" | "maintenance" => {
                self.record(kind::LABELLED, body, turn);
                if self.stop(incident, Stop::Labelled).is_ok() {
                    let why = format!("a human said that the incident is {}", label.replace('_', " "));
                    self.withdraw(incident, &why, turn);
                }
            }
            _ => return Err(format!("{label:?} is no label: use true, false_alarm or maintenance")),
        }
        Ok(())
    }

    fn stop(&mut self, incident: &Arc<str>, stop: Stop) -> Result<(), String> {
        let case = self.state.cases.get_mut(incident).ok_or("no such incident is known")?;
        case.stopped = Some(stop);
        Ok(())
    }
}

fn approval(command: &Command) -> Approval {
    Approval {
        by: Arc::clone(&command.by),
        key: command.seal.as_ref().map(|seal| Arc::clone(&seal.key)),
        at: command.at,
        command: Arc::clone(&command.id),
    }
}
