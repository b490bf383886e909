//! From an incident's state to a decision about it.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Value, json};
use suture_event::{Incident, IncidentStatus, Rung, SignalState, Timestamp};

use crate::{
    Remediator, kind,
    ladder::{self, Standing, View},
    ledger::Turn,
    select::{self, Chosen, word},
    state::{Brief, Case, Decision, Ending, First, Stage, Stop, Wait},
};

impl Remediator {
    pub(crate) fn incident(&mut self, incident: &Incident, turn: &mut Turn) {
        let id = Arc::clone(&incident.id);
        let brief = Brief::of(incident);
        let resolved = incident.status == IncidentStatus::Resolved;
        match self.state.cases.get_mut(&id) {
            // resolved before it was ever let in: nothing to do, and it was said to be left out
            None if resolved => return,
            None => {
                if !self.let_in(brief, turn) {
                    return;
                }
            }
            Some(case) => {
                let before = std::mem::replace(&mut case.brief, brief);
                let again = case.resolved && !resolved;
                let moved = before.first != case.brief.first;
                if moved || again {
                    case.first_since = turn.at;
                }
                if again {
                    case.resolved = false;
                    self.state.closed.retain(|closed| *closed != id);
                    let body = opened(incident);
                    self.record(kind::INCIDENT_REOPENED, body, turn);
                }
                if moved {
                    self.reranked(&id, before.first, turn);
                }
            }
        }
        if resolved {
            self.resolved(&id, turn);
        } else if self.state.cases.get(&id).is_some_and(|case| case.brief.is_back()) {
            self.withdraw(
                &id,
                "the signals that opened the incident came back by themselves",
                turn,
            );
        }
        self.judge(&id, turn);
        self.evaluate(&id, turn);
        self.close_if_over(&id);
    }

    fn let_in(&mut self, brief: Brief, turn: &mut Turn) -> bool {
        let bound = self.options.bounds.incidents;
        if self.state.cases.len() - self.state.closed.len() >= bound {
            if !self.state.full {
                self.state.full = true;
                let body = json!({"incident": brief.id, "bound": bound});
                self.record(kind::INCIDENT_LEFT_OUT, body, turn);
            }
            return false;
        }
        self.state.full = false;
        let body = json!({
            "incident": brief.id, "severity": brief.severity, "services": brief.services, "title": brief.title,
            "first": hypothesis(&brief),
        });
        let case = Case::new(brief, self.state.forgotten, turn.at);
        self.state.cases.insert(Arc::clone(&case.brief.id), case);
        self.record(kind::INCIDENT_OPENED, body, turn);
        true
    }

    fn reranked(&mut self, id: &Arc<str>, from: Option<First>, turn: &mut Turn) {
        let Some(case) = self.state.cases.get(id) else { return };
        let body = json!({"incident": id, "from": from, "to": hypothesis(&case.brief)});
        self.record(kind::INCIDENT_RERANKED, body, turn);
        self.withdraw(id, "another hypothesis is first now", turn);
    }

    fn resolved(&mut self, id: &Arc<str>, turn: &mut Turn) {
        let Some(case) = self.state.cases.get_mut(id) else {
            return;
        };
        if case.resolved {
            return;
        }
        case.resolved = true;
        let brief = &case.brief;
        if let Some(first) = brief.first.as_ref().filter(|_| case.stopped != Some(Stop::Labelled)) {
            self.state.precedents.count(&first.class, first.service.as_ref());
        }
        let body = json!({
            "incident": id, "opening": brief.opening, "recovered": brief.recovered, "not_back": brief.not_back,
        });
        self.record(kind::INCIDENT_RESOLVED, body, turn);
        self.withdraw(id, "the incident was resolved first", turn);
    }

    /// Takes back what was asked of a human, or was about to be done, for an incident.
    pub(crate) fn withdraw(&mut self, id: &Arc<str>, why: &str, turn: &mut Turn) {
        let Some(case) = self.state.cases.get_mut(id) else {
            return;
        };
        let held = case.decided.as_ref().is_some_and(|decided| decided.wait.is_some());
        if held && case.in_flight.is_none() {
            let playbook = case.decided.take().and_then(|decided| decided.playbook);
            let blocked = (case.brief.opened_at, Arc::clone(id));
            self.state.blocked.remove(&blocked);
            self.evaluate_case_at(id, None);
            self.record(
                kind::WITHDRAWN,
                json!({"incident": id, "playbook": playbook, "why": why}),
                turn,
            );
            return;
        }
        let Some(action) = case.in_flight.clone() else { return };
        if self
            .state
            .actions
            .get(&action)
            .is_some_and(|a| a.stage == Stage::Waiting && a.request.reverses.is_none())
        {
            self.record(
                kind::WITHDRAWN,
                json!({"incident": id, "action": action, "why": why}),
                turn,
            );
            self.end(&action, Ending::Withdrawn, turn);
        }
    }

    /// Decides what to do about an incident as it stands, and says so where that differs from what was last decided.
    pub(crate) fn evaluate(&mut self, id: &Arc<str>, turn: &mut Turn) {
        let Some(case) = self.state.cases.get(id) else { return };
        self.state.blocked.remove(&(case.brief.opened_at, Arc::clone(id)));
        let idle = case.in_flight.is_none() && case.stopped.is_none();
        if case.resolved || !idle || case.brief.is_back() {
            self.evaluate_case_at(id, None);
            return;
        }
        let (budgets, cooldowns) = self.longest_memory();
        self.state.history.prune(turn.at, budgets, cooldowns);
        let first = case.brief.first.clone();
        let (candidates, chosen) = match &first {
            Some(first) => select::choose(
                &self.options,
                &self.globs,
                &self.tiers,
                case,
                first,
                &self.scope,
                &self.state,
            ),
            None => (Vec::new(), None),
        };
        let Some(chosen) = chosen else {
            let decision = Decision {
                first,
                playbook: None,
                rung: Rung::Advise,
                limits: Vec::new(),
                wait: None,
            };
            self.evaluate_case_at(id, None);
            if self.decide(id, decision) {
                let brief = self.state.cases.get(id).map(|case| hypothesis(&case.brief));
                let body = json!({"incident": id, "hypothesis": brief, "candidates": candidates});
                self.record(kind::NO_PLAYBOOK, body, turn);
            }
            return;
        };
        let Some(playbook) = self.options.playbooks.get(chosen.index) else {
            return;
        };
        let standing = ladder::climb(self.view(), playbook, &case.brief, &chosen.target);
        let name: Arc<str> = playbook.name.as_str().into();
        let wait = self.must_wait(case, &chosen, standing.rung, turn.at);
        let decision = Decision {
            first,
            playbook: Some(Arc::clone(&name)),
            rung: standing.rung,
            limits: standing.limited_by.iter().map(|limited| limited.limit).collect(),
            wait: wait.as_ref().map(|held| held.wait),
        };
        let before = case.decided.as_ref();
        let same_choice = before.is_some_and(|b| {
            Decision {
                wait: None,
                ..b.clone()
            } == Decision {
                wait: None,
                ..decision.clone()
            }
        });
        let brief = hypothesis(&case.brief);
        let fresh = self.decide(id, decision);
        if !same_choice {
            let mut body = json!({
                "incident": id, "hypothesis": brief, "playbook": name, "candidates": candidates, "target": chosen.target,
                "rung": standing.rung, "limited_by": standing.limited_by,
            });
            if let (Some(body), Some(answer)) = (body.as_object_mut(), &standing.answer) {
                body.insert("policies".to_owned(), json!(answer.policies));
            }
            self.record(kind::PLAYBOOK_CHOSEN, body, turn);
        }
        match wait {
            Some(held) => self.hold(id, &name, &chosen, held, fresh, turn),
            None => self.go(id, chosen, standing, turn),
        }
    }

    /// What the ladder looks at.
    pub(crate) fn view(&self) -> View<'_> {
        View {
            options: &self.options,
            tiers: &self.tiers,
            guard: self.guard.as_ref(),
            scope: &self.scope,
            state: &self.state,
        }
    }

    /// Remembers a decision; whether it differs from the one before.
    fn decide(&mut self, id: &Arc<str>, decision: Decision) -> bool {
        let Some(case) = self.state.cases.get_mut(id) else {
            return false;
        };
        let fresh = case.decided.as_ref() != Some(&decision);
        case.decided = Some(decision);
        fresh
    }

    fn must_wait(&self, case: &Case, chosen: &Chosen, rung: Rung, now: Timestamp) -> Option<Held> {
        let playbook = self.options.playbooks.get(chosen.index)?;
        let stable = case.first_since.plus(playbook.limits.hold.unwrap_or(self.options.hold));
        if stable > now {
            return Some(Held {
                wait: Wait::Hold,
                why: "the hypothesis must stay first".to_owned(),
                until: Some(stable),
            });
        }
        if rung == Rung::Advise {
            return None;
        }
        let busy = self
            .state
            .actions
            .values()
            .find(|action| action.request.target == chosen.target);
        if let Some(busy) = busy {
            let why = format!("action {} is under way on {}", busy.request.id, chosen.target);
            return Some(Held {
                wait: Wait::Target,
                why,
                until: None,
            });
        }
        let rested = self
            .state
            .history
            .last_end(&chosen.target)
            .map(|end| end.plus(playbook.limits.cooldown));
        if let Some(rested) = rested.filter(|rested| *rested > now) {
            let why = format!(
                "{} was acted on less than {} ago",
                chosen.target, playbook.limits.cooldown
            );
            return Some(Held {
                wait: Wait::Cooldown,
                why,
                until: Some(rested),
            });
        }
        if rung == Rung::Autonomous && self.under_way() >= self.options.concurrent as usize {
            let why = format!("{} actions are under way in the scope", self.options.concurrent);
            return Some(Held {
                wait: Wait::Concurrency,
                why,
                until: None,
            });
        }
        None
    }

    /// Actions that executors may be working on, or whose effect is being watched.
    pub(crate) fn under_way(&self) -> usize {
        self.state
            .actions
            .values()
            .filter(|action| action.stage != Stage::Waiting)
            .count()
    }

    fn hold(&mut self, id: &Arc<str>, playbook: &Arc<str>, chosen: &Chosen, held: Held, fresh: bool, turn: &mut Turn) {
        if fresh {
            let body = json!({
                "incident": id, "playbook": playbook, "target": chosen.target, "why": held.why, "until": held.until,
            });
            self.record(kind::ACTION_HELD, body, turn);
        }
        self.evaluate_case_at(id, held.until);
        if held.until.is_none()
            && let Some(case) = self.state.cases.get(id)
        {
            self.state.blocked.insert((case.brief.opened_at, Arc::clone(id)));
        }
    }

    fn go(&mut self, id: &Arc<str>, chosen: Chosen, standing: Standing, turn: &mut Turn) {
        // advice is given once, and looked at again when a spent budget has room
        let again_at = standing.again_at.filter(|_| standing.rung == Rung::Advise);
        self.evaluate_case_at(id, again_at);
        let Some(case) = self.state.cases.get(id) else { return };
        let advised = |(first, index): &(First, Arc<str>)| {
            Some(first) == case.brief.first.as_ref() && **index == *self.options.playbooks[chosen.index].name
        };
        if standing.rung == Rung::Advise && case.advised.iter().any(advised) {
            return;
        }
        self.publish(id, chosen, standing.rung, turn);
    }

    /// Evaluates again the cases that waited for an action that has ended, the oldest incident first.
    pub(crate) fn wake(&mut self, turn: &mut Turn) {
        if !std::mem::take(&mut turn.released) {
            return;
        }
        for (_, id) in self.state.blocked.clone() {
            self.evaluate(&id, turn);
        }
    }

    /// Forgets a resolved case in its turn, once nothing is under way for it.
    pub(crate) fn close_if_over(&mut self, id: &Arc<str>) {
        let Some(case) = self.state.cases.get(id) else { return };
        if !case.resolved || case.in_flight.is_some() || self.state.closed.contains(id) {
            return;
        }
        self.state.closed.push_back(Arc::clone(id));
        while self.state.closed.len() > self.options.bounds.incidents {
            if let Some(oldest) = self.state.closed.pop_front() {
                self.state.cases.remove(&oldest);
                self.state.forgotten += 1;
            }
        }
    }
}

struct Held {
    wait: Wait,
    why: String,
    until: Option<Timestamp>,
}

impl Brief {
    fn of(incident: &Incident) -> Self {
        let opening: Vec<_> = incident.signals.iter().filter(|signal| signal.opening).collect();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let out = || opening.iter().filter(|signal| signal.state != SignalState::Recovered);
        let first = incident.hypotheses.first();
        Self {
            id: Arc::clone(&incident.id),
            opened_at: incident.opened_at,
            severity: incident.severity,
            title: incident.title.clone(),
            services: incident.services.iter().take(Self::SERVICES).cloned().collect(),
            first: first.map(|first| First {
                kind: first.kind,
                class: Arc::clone(&first.class),
                service: first.service.clone(),
                change: first.change.clone(),
            }),
            probability: first.map_or(0.0, |first| first.probability),
            because: first
                .and_then(|first| first.evidence.first())
                .map_or_else(String::new, |e| e.detail.clone()),
            opening: count(opening.len()),
            recovered: count(opening.len() - out().count()),
            not_back: out()
                .take(Self::NOT_BACK)
                .map(|signal| {
                    let of = signal
                        .service
                        .as_ref()
                        .map_or_else(String::new, |service| format!(" of {service}"));
                    format!("{}{of} is {}", signal.metric, word(&signal.state))
                })
                .collect(),
            kinds: opening.iter().map(|signal| signal.kind).collect::<BTreeSet<_>>(),
            metrics: opening
                .iter()
                .take(Self::METRICS)
                .map(|signal| Arc::clone(&signal.metric))
                .collect(),
        }
    }
}

fn opened(incident: &Incident) -> Value {
    let brief = Brief::of(incident);
    json!({
        "incident": brief.id, "severity": brief.severity, "services": brief.services, "title": brief.title,
        "first": hypothesis(&brief),
    })
}

/// The first hypothesis as it stands in the ledger.
fn hypothesis(brief: &Brief) -> Value {
    match &brief.first {
        None => Value::Null,
        Some(first) => json!({
            "kind": first.kind, "class": first.class, "service": first.service, "change": first.change,
            "probability": brief.probability, "because": brief.because,
        }),
    }
}
