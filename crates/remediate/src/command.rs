//! What humans say.

use std::sync::Arc;

use serde_json::json;
use suture_event::{Command, CommandKind};

use crate::{
    Remediator, kind, ladder,
    ledger::Turn,
    state::{Action, Ending, Stage, Stop},
};

impl Remediator {
    pub(crate) fn command(&mut self, command: &Command, turn: &mut Turn) {
        let done = if command.by.trim().is_empty() {
            Err("it names nobody, and every decision is somebody's".to_owned())
        } else {
            match &command.kind {
                CommandKind::Approve { action } => self.approve(action, command, turn),
                CommandKind::Deny { action } => self.deny(action, command, turn),
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
        if let Some(by) = &self.state.frozen_by {
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
        let body = json!({
            "action": id, "incident": action.request.incident, "by": command.by, "reason": command.reason,
        });
        self.record(kind::APPROVED, body, turn);
        self.approved(id, &command.by, turn);
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

    fn freeze(&mut self, command: &Command, turn: &mut Turn) -> Result<(), String> {
        if let Some(by) = &self.state.frozen_by {
            return Err(format!("{by} froze the scope already"));
        }
        self.state.frozen_by = Some(Arc::clone(&command.by));
        self.record(kind::FROZEN, json!({"by": command.by, "reason": command.reason}), turn);
        Ok(())
    }

    fn thaw(&mut self, command: &Command, turn: &mut Turn) -> Result<(), String> {
        let Some(frozen_by) = self.state.frozen_by.take() else {
            return Err("the scope is not frozen".to_owned());
        };
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
