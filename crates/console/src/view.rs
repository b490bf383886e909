//! What the API says, beside the events' own types.

use std::{collections::BTreeMap, sync::Arc};

use schemars::JsonSchema;
use serde::Serialize;
use suture_engine::Verdict;
use suture_event::{
    ActionRequest, Anomaly, AnomalyPhase, Change, Direction, EndReason, HypothesisKind, Incident, IncidentStatus,
    Labels, LedgerRecord, Outcome, Resolution, Severity, SignalKind, Timestamp,
};

use crate::{
    access::Role,
    action::{Action, ActionState, text},
    ledger::Chain,
    store::{Case, State},
    timeline::Moment,
};

/// What is looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The files of a replay: nothing goes on.
    #[default]
    Replay,
    /// A simulated system, whose time is its own.
    Demo,
    /// A system that runs, by the clock on the wall.
    Live,
}

/// What the host says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Setting {
    /// The pipeline's name, or the folder's.
    pub name: String,
    /// What is looked at.
    pub mode: Mode,
    /// The scope of what names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<Arc<str>>,
}

/// One step of the pipeline, from topics to detectors.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Stage {
    /// What it is called.
    pub name: String,
    /// What it does or holds, in words.
    pub detail: String,
    /// What was counted there, by name.
    pub counts: BTreeMap<String, f64>,
}

/// Somebody's word, with when and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Note {
    /// When.
    pub at: Timestamp,
    /// Who; empty where it was nobody.
    pub by: Arc<str>,
    /// What they said.
    pub text: Arc<str>,
}

impl Note {
    pub(crate) fn of(record: &LedgerRecord, at: &str) -> Self {
        Self {
            at: record.at,
            by: text(record, "/by")
                .or_else(|| text(record, "/owner"))
                .unwrap_or_default(),
            text: text(record, at).unwrap_or_default(),
        }
    }
}

/// A scope that is frozen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Frozen {
    /// The scope.
    pub scope: Arc<str>,
    /// Who froze it.
    pub by: Arc<str>,
    /// Why.
    pub reason: Arc<str>,
    /// When.
    pub at: Timestamp,
}

/// An anomaly from its beginning to its end.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct AnomalyView {
    /// Its id.
    pub id: Arc<str>,
    /// The metric.
    pub metric: Arc<str>,
    /// The series' labels.
    #[schemars(with = "BTreeMap<String, String>")]
    pub labels: Labels,
    /// The service.
    pub service: Option<Arc<str>>,
    /// What is measured.
    pub signal: SignalKind,
    /// The detector that raised it.
    pub detector: Arc<str>,
    /// Start of the first window outside.
    pub onset: Timestamp,
    /// When it was raised.
    pub raised_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How.
    pub ended: Option<EndReason>,
    /// On which side of its band.
    pub direction: Direction,
    /// What was measured in the worst window so far.
    pub value: Option<f64>,
    /// What was expected there.
    pub expected: f64,
    /// The band's lower end.
    pub lower: f64,
    /// Its upper end.
    pub upper: f64,
    /// 1 less the probability of a window as unusual.
    pub score: f64,
    /// Robust standard deviations outside.
    pub deviation: f64,
    /// Why it fired.
    pub detail: String,
}

impl AnomalyView {
    pub(crate) fn of(anomaly: &Anomaly) -> Self {
        Self {
            id: anomaly.id.clone(),
            metric: anomaly.metric.clone(),
            labels: anomaly.labels.clone(),
            service: anomaly.service.clone(),
            signal: anomaly.signal,
            detector: anomaly.detector.clone(),
            onset: anomaly.onset,
            raised_at: anomaly.at,
            ended_at: None,
            ended: None,
            direction: anomaly.direction,
            value: anomaly.value,
            expected: anomaly.expected,
            lower: anomaly.lower,
            upper: anomaly.upper,
            score: anomaly.score,
            deviation: anomaly.deviation,
            detail: anomaly.detail.clone(),
        }
    }

    pub(crate) fn go_on(&mut self, anomaly: &Anomaly) {
        match anomaly.phase {
            AnomalyPhase::Opened | AnomalyPhase::Grown => {
                *self = Self {
                    raised_at: self.raised_at,
                    ..Self::of(anomaly)
                };
            }
            AnomalyPhase::Eased => {}
            AnomalyPhase::Ended => {
                self.deviation = self.deviation.max(anomaly.deviation);
                self.ended_at = Some(anomaly.at);
                self.ended = anomaly.end;
            }
        }
    }
}

/// The cause in first place.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct First {
    /// What sort of cause.
    pub kind: HypothesisKind,
    /// What playbooks match on.
    pub class: Arc<str>,
    /// The service at fault.
    pub service: Option<Arc<str>>,
    /// The change's id.
    pub change: Option<Arc<str>>,
    /// Its probability.
    pub probability: f64,
}

/// An incident as a list shows it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct IncidentBrief {
    /// Its id.
    pub id: Arc<str>,
    /// One line.
    pub title: String,
    /// How bad it is.
    pub severity: Severity,
    /// Where in its life it is.
    pub status: IncidentStatus,
    /// The scope.
    pub scope: Arc<str>,
    /// When it opened.
    pub opened_at: Timestamp,
    /// When it was resolved.
    pub resolved_at: Option<Timestamp>,
    /// How.
    pub resolution: Option<Resolution>,
    /// Services with anomalies, most affected first.
    pub services: Vec<Arc<str>>,
    /// How many signals it has.
    pub signals: usize,
    /// The likeliest cause.
    pub first: Option<First>,
    /// Who took it.
    pub acknowledged: Option<Note>,
    /// What somebody said it was.
    pub label: Option<Note>,
    /// Why a human was called.
    pub escalated: Option<Note>,
    /// The state of its last action.
    pub action: Option<ActionState>,
}

/// An action, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct ActionView {
    /// The request as it was last said.
    pub request: ActionRequest,
    /// Where in its life it is.
    pub state: ActionState,
    /// Since when.
    pub since: Timestamp,
    /// What executors said.
    pub outcomes: Vec<Outcome>,
    /// What a human may say to it now.
    pub offers: Vec<Offer>,
}

/// Something that a human may say to an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Offer {
    /// Let it go ahead.
    Approve,
    /// Do not let it.
    Deny,
    /// Undo it.
    Undo,
}

impl ActionView {
    pub(crate) fn of(action: &Action) -> Self {
        let undoes = action.request.reversal.is_some() && action.request.reverses.is_none();
        let offers = match action.state {
            ActionState::Waiting => vec![Offer::Approve, Offer::Deny],
            ActionState::Verifying | ActionState::Verified if undoes => vec![Offer::Undo],
            _ => Vec::new(),
        };
        Self {
            request: action.request.clone(),
            state: action.state,
            since: action.since,
            outcomes: action.outcomes.clone(),
            offers,
        }
    }
}

/// How a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Health {
    /// It has no telemetry, so nothing is known.
    Unknown,
    /// Nothing is off.
    Fine,
    /// Something is off that no open incident is about.
    Odd,
    /// An open incident is felt in it.
    Affected,
    /// An open incident's likeliest cause is in it.
    Suspected,
}

/// A service of the call graph.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct ServiceView {
    /// Its name.
    pub name: Arc<str>,
    /// How it is.
    pub health: Health,
    /// Why, in words.
    pub why: String,
    /// The open incidents it is part of.
    pub incidents: Vec<Arc<str>>,
    /// What is measured of it.
    pub watched: Vec<SignalKind>,
}

/// A call between services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Call {
    /// The caller.
    pub from: Arc<str>,
    /// The callee.
    pub to: Arc<str>,
}

/// Who is asking, and what they may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Me {
    /// The owner of the token.
    pub who: Arc<str>,
    /// What they may do.
    pub role: Role,
    /// Why nothing can be changed here, whoever asks; absent where it can.
    pub read_only: Option<String>,
    /// What is looked at.
    pub setting: Setting,
}

/// How things are.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Overview {
    /// What is looked at.
    pub setting: Setting,
    /// The time by the pipeline's clock.
    pub now: Option<Timestamp>,
    /// What is to be known above everything else.
    pub note: Option<String>,
    /// Services and how they are.
    pub services: Vec<ServiceView>,
    /// Who calls whom.
    pub calls: Vec<Call>,
    /// Open incidents, worst first, and then the last that were resolved.
    pub incidents: Vec<IncidentBrief>,
    /// How many incidents are open.
    pub open: usize,
    /// How many are known.
    pub known: usize,
    /// What is being done, waits, or was done last.
    pub actions: Vec<ActionView>,
    /// Scopes in which nothing may be done.
    pub frozen: Vec<Frozen>,
}

/// A list of incidents.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Incidents {
    /// The newest first.
    pub incidents: Vec<IncidentBrief>,
    /// How many fit, of which these are some.
    pub matching: usize,
}

/// An incident with everything that is known about it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct IncidentView {
    /// The time by the pipeline's clock.
    pub now: Option<Timestamp>,
    /// As a list shows it.
    pub brief: IncidentBrief,
    /// As it was last said: its signals, and its hypotheses with their evidence.
    pub incident: Incident,
    /// Its anomalies, as far as they are kept.
    pub anomalies: Vec<AnomalyView>,
    /// Changes that are suspected, or were made to its services around its beginning.
    pub changes: Vec<Change>,
    /// What was asked for.
    pub actions: Vec<ActionView>,
    /// What happened, in order.
    pub timeline: Vec<Moment>,
    /// Its ledger records.
    pub records: Vec<LedgerRecord>,
    /// Why it opened when it did, where that is known.
    pub opened_by: Option<NearMiss>,
}

/// Records of the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct LedgerPage {
    /// The newest first.
    pub records: Vec<LedgerRecord>,
    /// How many fit, of which these are some.
    pub matching: usize,
    /// How many are kept.
    pub kept: usize,
    /// Every kind that is there.
    pub kinds: Vec<Arc<str>>,
    /// How each scope's chain stands.
    pub chains: Vec<Chain>,
}

/// A group of anomalies, and what was made of it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct NearMiss {
    /// When it was judged.
    pub at: Timestamp,
    /// The scope.
    pub scope: Arc<str>,
    /// The service, where it is about one.
    pub service: Option<Arc<str>>,
    /// The likeliest class of its cause.
    pub class: Arc<str>,
    /// How far it rose above chance, in nats.
    pub height: f64,
    /// How far it had to.
    pub bar: f64,
    /// The change whose time made less enough.
    pub change: Option<Arc<str>>,
    /// What came of it.
    pub outcome: String,
    /// Its signals, strongest first.
    pub signals: Vec<String>,
}

impl NearMiss {
    pub(crate) fn of(verdict: &Verdict) -> Self {
        let outcome = serde_json::to_value(&verdict.outcome).unwrap_or_default();
        let outcome = outcome.get("outcome").and_then(serde_json::Value::as_str);
        Self {
            at: verdict.at,
            scope: verdict.scope.clone(),
            service: verdict.service.clone(),
            class: verdict.class.clone(),
            height: verdict.height,
            bar: verdict.bar,
            change: verdict.change.clone(),
            outcome: outcome.unwrap_or_default().to_owned(),
            signals: verdict.signals.clone(),
        }
    }
}

/// A series, and why it is watched as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct SeriesView {
    /// The metric.
    pub metric: Arc<str>,
    /// Its labels.
    #[schemars(with = "BTreeMap<String, String>")]
    pub labels: Labels,
    /// What it looks like and which detectors watch it.
    pub explained: String,
}

/// The way from topics to decisions.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Pipeline {
    /// What is looked at.
    pub setting: Setting,
    /// Its steps, in order.
    pub stages: Vec<Stage>,
    /// Series, by name.
    pub series: Vec<SeriesView>,
    /// How many series fit, of which these are some.
    pub matching: usize,
    /// Groups of anomalies that did not become an incident, the newest first.
    pub near_misses: Vec<NearMiss>,
    /// How much is kept here, of each kind.
    pub kept: BTreeMap<&'static str, usize>,
    /// Windows of series that found no room here.
    pub windows_left_out: u64,
}

impl State {
    pub(crate) fn brief(&self, case: &Case) -> IncidentBrief {
        let incident = &case.incident;
        let first = incident.hypotheses.first().map(|first| First {
            kind: first.kind,
            class: first.class.clone(),
            service: first.service.clone(),
            change: first.change.clone(),
            probability: first.probability,
        });
        IncidentBrief {
            id: incident.id.clone(),
            title: incident.title.clone(),
            severity: incident.severity,
            status: incident.status,
            scope: incident.scope.clone(),
            opened_at: incident.opened_at,
            resolved_at: incident.resolved_at,
            resolution: incident.resolution,
            services: incident.services.clone(),
            signals: incident.signals.len(),
            first,
            acknowledged: case.acknowledged.clone(),
            label: case.label.clone(),
            escalated: case.escalated.clone(),
            action: self.actions_of(&incident.id).last().map(|action| action.state),
        }
    }

    /// The actions of an incident, by time.
    pub(crate) fn actions_of(&self, incident: &str) -> Vec<&Action> {
        let of_it = |action: &&Action| &*action.request.incident == incident;
        let mut actions: Vec<&Action> = self.actions.values().filter(of_it).collect();
        actions.sort_by_key(|action| (action.request.at, &action.request.id));
        actions
    }

    pub(crate) fn overview(&self, resolved: usize, actions: usize) -> Overview {
        let is_open = |case: &&Case| case.incident.status == IncidentStatus::Open;
        let (mut open, mut over): (Vec<&Case>, Vec<&Case>) = self.incidents.values().partition(is_open);
        open.sort_by_key(|case| (std::cmp::Reverse(case.incident.severity), case.incident.opened_at));
        over.sort_by_key(|case| std::cmp::Reverse(case.incident.resolved_at));
        let shown = open.iter().chain(over.iter().take(resolved));
        let mut doing: Vec<&Action> = self.actions.values().collect();
        doing.sort_by_key(|action| {
            (
                std::cmp::Reverse(action.state.is_open()),
                std::cmp::Reverse(action.since),
            )
        });
        Overview {
            setting: self.setting.clone(),
            now: self.now,
            note: self.note.clone(),
            services: self.service_views(&open),
            calls: self
                .edges
                .iter()
                .map(|(from, to)| Call {
                    from: from.clone(),
                    to: to.clone(),
                })
                .collect(),
            incidents: shown.map(|case| self.brief(case)).collect(),
            open: open.len(),
            known: self.incidents.len(),
            actions: doing.into_iter().take(actions).map(ActionView::of).collect(),
            frozen: self.frozen.values().cloned().collect(),
        }
    }

    fn service_views(&self, open: &[&Case]) -> Vec<ServiceView> {
        let mut odd: BTreeMap<&Arc<str>, Vec<&AnomalyView>> = BTreeMap::new();
        for anomaly in self.anomalies.values().filter(|anomaly| anomaly.ended_at.is_none()) {
            if let Some(service) = &anomaly.service {
                odd.entry(service).or_default().push(anomaly);
            }
        }
        let view = |(name, watched): (&Arc<str>, &std::collections::BTreeSet<SignalKind>)| {
            let suspected = open.iter().find(|case| {
                let first = case.incident.hypotheses.first();
                first.is_some_and(|first| first.service.as_ref() == Some(name))
            });
            let affected: Vec<&&Case> = open
                .iter()
                .filter(|case| case.incident.services.contains(name))
                .collect();
            let (health, why) = if let Some(case) = suspected {
                (Health::Suspected, case.incident.title.clone())
            } else if let Some(case) = affected.first() {
                (Health::Affected, case.incident.title.clone())
            } else if let Some(anomalies) = odd.get(name) {
                let metrics: Vec<&str> = anomalies.iter().take(3).map(|anomaly| &*anomaly.metric).collect();
                (Health::Odd, format!("outside its band: {}", metrics.join(", ")))
            } else if watched.is_empty() {
                (Health::Unknown, "no telemetry of its own".to_owned())
            } else {
                (Health::Fine, "as usual".to_owned())
            };
            let mut incidents: Vec<Arc<str>> = affected.iter().map(|case| case.incident.id.clone()).collect();
            if let Some(case) = suspected
                && !incidents.contains(&case.incident.id)
            {
                incidents.push(case.incident.id.clone());
            }
            ServiceView {
                name: name.clone(),
                health,
                why,
                incidents,
                watched: watched.iter().copied().collect(),
            }
        };
        self.services.iter().map(view).collect()
    }
}
