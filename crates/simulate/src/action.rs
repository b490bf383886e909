//! What is done to the shop.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use suture_event::{ActionRequest, Outcome, OutcomeStatus, Span, Timestamp, stable_hash};

use crate::{ActionKind, Fault, FaultKind, Healer, Shop, change::cdevent};

/// The most instances a service can be scaled out to.
const MOST_INSTANCES: usize = 32;

/// What [`Shop::act`] answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActOutcome {
    /// How the action stands: started, or refused; for an id seen before, whatever became of it.
    pub outcome: Outcome,
    /// When it will be, or was, done; the [`crate::Tick`] of that time has its last outcome.
    pub done_at: Option<Timestamp>,
    /// Whether the id was seen before, so that nothing was begun.
    pub repeated: bool,
}

/// What was done to the shop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Costs {
    /// Actions that ended, well or not.
    pub actions: u32,
    /// Those that were no reversal and healed nothing.
    pub needless: u32,
    /// Those that failed.
    pub failed: u32,
    /// Requests that were refused.
    pub refused: u32,
}

/// One action under way.
#[derive(Debug, Clone)]
pub(crate) struct Action {
    id: Arc<str>,
    kind: ActionKind,
    service: usize,
    change: Option<Arc<str>>,
    reverses: Option<Arc<str>>,
    pub(crate) done_at: Timestamp,
    scope: Arc<str>,
    fails: bool,
}

#[derive(Debug, Clone)]
struct Known {
    last: ActOutcome,
    healed: Vec<usize>,
}

/// The actions asked for so far, by id.
#[derive(Debug, Clone)]
pub(crate) struct Actions {
    known: BTreeMap<Arc<str>, Known>,
    pending: Vec<Action>,
    most: usize,
    pub(crate) costs: Costs,
}

impl Actions {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            known: BTreeMap::new(),
            pending: Vec::new(),
            most,
            costs: Costs::default(),
        }
    }

    /// Takes out what is due, by time and then by id.
    pub(crate) fn due(&mut self, at: Timestamp) -> Vec<Action> {
        let (mut due, rest): (Vec<_>, Vec<_>) = self.pending.drain(..).partition(|a| a.done_at <= at);
        self.pending = rest;
        due.sort_by(|a, b| (a.done_at, &a.id).cmp(&(b.done_at, &b.id)));
        due
    }

    /// Writes down how an action ended.
    pub(crate) fn close(&mut self, action: &Action, status: OutcomeStatus, detail: String) -> Outcome {
        self.costs.actions += 1;
        if status == OutcomeStatus::Failed {
            self.costs.failed += 1;
        }
        let healed = self.known.get(&action.id).is_some_and(|k| !k.healed.is_empty());
        if !healed && action.reverses.is_none() {
            self.costs.needless += 1;
        }
        let Some(known) = self.known.get_mut(&action.id) else {
            return outcome(&action.id, action.done_at, status, "", &action.scope, detail);
        };
        known.last.outcome.at = action.done_at;
        known.last.outcome.status = status;
        known.last.outcome.detail = detail;
        known.last.outcome.clone()
    }
}

fn outcome(id: &str, at: Timestamp, status: OutcomeStatus, target: &str, scope: &str, detail: String) -> Outcome {
    Outcome {
        action: id.into(),
        at,
        status,
        target: target.into(),
        scope: scope.into(),
        executor: "shop".into(),
        detail,
        mode: Default::default(),
        calls: Vec::new(),
        seal: None,
    }
}

impl Shop {
    /// Begins an action on the shop. It takes 30 to 90 s of the shop's time, and its end comes in a [`crate::Tick`]. An id
    /// seen before begins nothing. An unknown service or action is refused, and so is everything beyond
    /// [`crate::Options::max_actions`] ids. Neither rung nor expiry is looked at: that is for executors.
    pub fn act(&mut self, request: &ActionRequest) -> ActOutcome {
        if let Some(known) = self.actions.known.get(&request.id) {
            return ActOutcome {
                repeated: true,
                ..known.last.clone()
            };
        }
        let kind = ActionKind::parse(&request.step.action);
        let service = self.services().position(|name| name == request.target.as_ref());
        let (status, detail, begun) = match (kind, service) {
            _ if self.actions.known.len() >= self.actions.most => {
                let detail = format!("more than {} actions: raise max_actions", self.actions.most);
                (OutcomeStatus::Refused, detail, None)
            }
            (None, _) => (
                OutcomeStatus::Refused,
                format!("the shop knows no action {:?}", request.step.action),
                None,
            ),
            (_, None) => (
                OutcomeStatus::Refused,
                format!("the shop has no service {:?}", request.target),
                None,
            ),
            (Some(kind), Some(service)) => (
                OutcomeStatus::Started,
                format!("{} of {}", kind.name(), request.target),
                Some((kind, service)),
            ),
        };
        let first = outcome(&request.id, self.now(), status, &request.target, &request.scope, detail);
        let action = begun.map(|(kind, service)| self.begin(kind, service, request));
        let answer = ActOutcome {
            outcome: first,
            done_at: action.as_ref().map(|a| a.done_at),
            repeated: false,
        };
        match action {
            Some(action) => self.actions.pending.push(action),
            None => self.actions.costs.refused += 1,
        }
        if self.actions.known.len() < self.actions.most {
            self.actions.known.insert(
                request.id.clone(),
                Known {
                    last: answer.clone(),
                    healed: Vec::new(),
                },
            );
        }
        answer
    }

    fn begin(&mut self, kind: ActionKind, service: usize, request: &ActionRequest) -> Action {
        // drawn from the id, so that an action disturbs no other draw
        let drawn = stable_hash([&self.options.seed.to_le_bytes()[..], request.id.as_bytes()]);
        let (least, most) = kind.seconds();
        let spread = u64::try_from(most - least).unwrap_or(0) + 1;
        let takes = Span::from_secs(least + i64::try_from(drawn % spread).unwrap_or(0));
        let done_at = self.now().plus(takes);
        if kind.restarts() {
            self.services[service].rolling_until = Some(done_at);
        }
        let chance = (drawn >> 11) as f64 / (1_u64 << 53) as f64;
        let change = request
            .step
            .parameters
            .get("change")
            .map(|id| id.as_str().into())
            .or_else(|| request.change.clone());
        Action {
            id: request.id.clone(),
            kind,
            service,
            change,
            reverses: request.reverses.clone(),
            done_at,
            scope: request.scope.clone(),
            fails: chance < self.options.action_failures,
        }
    }

    /// Does what the action does; the text says what happened, the event is the change it makes known.
    pub(crate) fn carry_out(
        &mut self,
        action: &Action,
        healed: &mut Vec<usize>,
    ) -> Result<(String, Option<Value>), String> {
        if action.fails {
            return Err(format!(
                "{} did not go through: the shop's tools timed out",
                action.kind.name()
            ));
        }
        let mut change = None;
        let mut detail = format!("{} done", action.kind.name());
        let mut mended_change = None;
        match action.kind {
            ActionKind::Rollback => {
                let id = self.take_back(action)?;
                detail = format!("{id} rolled back");
                change = self.announce("rolledback", &format!("rollback-{}", action.id), action, &id);
                mended_change = Some(id);
                self.bring_up(action.service, action.done_at);
            }
            ActionKind::Redeploy => {
                let id = self.put_back(action)?;
                detail = format!("{id} deployed again");
                change = self.announce("deployed", &format!("redeploy-{}", action.id), action, &id);
                self.bring_up(action.service, action.done_at);
            }
            ActionKind::Restart => self.bring_up(action.service, action.done_at),
            ActionKind::ScaleOut => {
                let service = &mut self.services[action.service];
                if service.instances.len() >= MOST_INSTANCES {
                    return Err(format!("{MOST_INSTANCES} instances are the most there can be"));
                }
                service.grow(self.options.seed, self.options.pod_churn);
            }
            ActionKind::ScaleIn => {
                let service = &mut self.services[action.service];
                if service.instances.len() > self.options.instances {
                    service.instances.pop();
                }
            }
            _ => {}
        }
        if action.kind.undoes().is_some() {
            self.bring_back(action);
        } else {
            self.heal(action, mended_change.as_deref(), healed);
        }
        Ok((detail, change))
    }

    /// Ends every fault that this action is the remedy for.
    fn heal(&mut self, action: &Action, change: Option<&str>, healed: &mut Vec<usize>) {
        let remedied = |fault: &Fault| match action.kind {
            // the deploy may be taken back before its fault shows
            ActionKind::Rollback => fault.change.is_some() && fault.change.as_deref() == change,
            kind => fault.start <= action.done_at && fault.remedies().contains(&kind),
        };
        for (fault, ill) in self.truth.iter_mut().zip(&self.ills) {
            if ill.service == action.service && fault.healed_at.is_none() && remedied(fault) {
                fault.healed_at = Some(action.done_at);
                fault.healed_by = Some(Healer::Action(action.id.clone()));
                healed.push(fault.id);
                if let Some(known) = self.actions.known.get_mut(&action.id) {
                    known.healed.push(fault.id);
                }
            }
        }
    }

    /// A reversal brings back what the action that it reverses had healed.
    fn bring_back(&mut self, action: &Action) {
        let Some(known) = action.reverses.as_ref().and_then(|id| self.actions.known.get(id)) else {
            return;
        };
        for id in &known.healed {
            let fault = &mut self.truth[*id];
            let by_it = matches!(&fault.healed_by, Some(Healer::Action(a)) if Some(a) == action.reverses.as_ref());
            if by_it && fault.kind != FaultKind::FullDisk {
                fault.healed_at = None;
                fault.healed_by = None;
            }
        }
    }

    fn take_back(&mut self, action: &Action) -> Result<Arc<str>, String> {
        let standing = |id: &Arc<str>| self.deployed.get(id).is_some_and(|d| !d.taken_back);
        let id = match &action.change {
            Some(id) => Some(id.clone()),
            None => self.history[action.service]
                .iter()
                .rev()
                .find(|id| standing(id))
                .cloned(),
        };
        let id = id.ok_or("there is no deploy to take back")?;
        match self.deployed.get_mut(&id) {
            Some(deploy) if deploy.service != action.service => Err(format!("{id} is a deploy of another service")),
            Some(deploy) if deploy.taken_back => Err(format!("{id} has been taken back already")),
            Some(deploy) => {
                deploy.taken_back = true;
                Ok(id)
            }
            None => Err(format!("there was no deploy {id}")),
        }
    }

    fn put_back(&mut self, action: &Action) -> Result<Arc<str>, String> {
        let gone = |id: &Arc<str>| {
            self.deployed
                .get(id)
                .is_some_and(|d| d.taken_back && d.service == action.service)
        };
        let id = match &action.change {
            Some(id) => Some(id.clone()).filter(gone),
            None => self.history[action.service].iter().rev().find(|id| gone(id)).cloned(),
        };
        let id = id.ok_or("no deploy of the service was taken back")?;
        if let Some(deploy) = self.deployed.get_mut(&id) {
            deploy.taken_back = false;
        }
        Ok(id)
    }

    fn announce(&self, what: &str, id: &str, action: &Action, deploy: &Arc<str>) -> Option<Value> {
        let artifact = &self.deployed.get(deploy)?.artifact;
        let service = &self.services[action.service].spec.name;
        Some(cdevent(
            what,
            id,
            action.done_at,
            service,
            artifact,
            &self.options.environment,
        ))
    }
}
