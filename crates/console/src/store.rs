//! A bounded picture of what Suture said, folded from its records.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use serde::{Deserialize, Serialize};
use suture_engine::{ScoreRow, Verdict};
use suture_event::{
    ActionRequest, Anomaly, AnomalyPhase, Change, Edge, Incident, IncidentStatus, LedgerRecord, Outcome, SeriesKey,
    SignalKind, Timestamp, Watched,
};
use tokio::sync::watch;

use crate::{
    action::{Action, text},
    ledger::{Entry, Ledger},
    series::Histories,
    view::{AnomalyView, Frozen, Note, Setting, Stage},
};

/// How much is kept. What is beyond a bound gives way, oldest first, or is not taken in where that is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Incidents; of those beyond, resolved ones give way first.
    pub incidents: usize,
    /// Actions.
    pub actions: usize,
    /// What executors said about one action.
    pub outcomes: usize,
    /// Ledger records.
    pub records: usize,
    /// Anomalies.
    pub anomalies: usize,
    /// Changes.
    pub changes: usize,
    /// Services of the call graph; more are not taken in.
    pub services: usize,
    /// Calls between services; more are not taken in.
    pub edges: usize,
    /// Scopes; of more, neither chains nor freezes are followed.
    pub scopes: usize,
    /// Series with a history; one that an anomaly is raised on takes the place of one that has none.
    pub series: usize,
    /// Windows of a series, some 28 bytes each.
    pub points: usize,
    /// Groups of anomalies that did not become an incident.
    pub near_misses: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            incidents: 500,
            actions: 2_000,
            outcomes: 20,
            records: 20_000,
            anomalies: 10_000,
            changes: 2_000,
            services: 1_000,
            edges: 10_000,
            scopes: 200,
            series: 2_000,
            points: 1_440,
            near_misses: 500,
        }
    }
}

/// One thing that Suture said.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant)] // one at a time, and taken apart at once
pub enum Said {
    /// Who calls whom.
    Edge(Edge),
    /// A service has telemetry.
    Watched(Watched),
    /// A change.
    Change(Change),
    /// An anomaly, in one of its phases.
    Anomaly(Anomaly),
    /// An incident, in a new state.
    Incident(Incident),
    /// An action that is asked for.
    Request(ActionRequest),
    /// What became of it.
    Outcome(Outcome),
    /// A decision.
    Record(LedgerRecord),
    /// What a series measured in a window.
    Score(ScoreRow),
    /// What was made of a group of anomalies.
    Verdict(Verdict),
    /// Why a series is watched as it is.
    Explained(SeriesKey, String),
}

/// An incident, and what humans said about it.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) incident: Incident,
    pub(crate) acknowledged: Option<Note>,
    pub(crate) label: Option<Note>,
    pub(crate) escalated: Option<Note>,
    touched: u64,
}

/// Everything that is kept.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) setting: Setting,
    pub(crate) stages: Vec<Stage>,
    pub(crate) now: Option<Timestamp>,
    pub(crate) note: Option<String>,
    pub(crate) incidents: BTreeMap<Arc<str>, Case>,
    /// Ids by when they came.
    order: VecDeque<Arc<str>>,
    pub(crate) actions: BTreeMap<Arc<str>, Action>,
    action_order: VecDeque<Arc<str>>,
    pub(crate) ledger: Ledger,
    pub(crate) anomalies: BTreeMap<Arc<str>, AnomalyView>,
    anomaly_order: VecDeque<Arc<str>>,
    pub(crate) changes: VecDeque<Change>,
    pub(crate) services: BTreeMap<Arc<str>, BTreeSet<SignalKind>>,
    pub(crate) edges: BTreeSet<(Arc<str>, Arc<str>)>,
    pub(crate) frozen: BTreeMap<Arc<str>, Frozen>,
    pub(crate) histories: Histories,
    pub(crate) near_misses: VecDeque<Verdict>,
    pub(crate) explained: BTreeMap<SeriesKey, String>,
    pub(crate) version: u64,
}

/// What changed since somebody looked last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct News {
    pub(crate) version: u64,
    pub(crate) now: Option<Timestamp>,
    pub(crate) incidents: Vec<Arc<str>>,
}

/// The picture, shared between those who draw and those who look.
#[derive(Debug)]
pub struct Store {
    limits: Limits,
    state: RwLock<State>,
    version: watch::Sender<u64>,
}

impl Store {
    /// An empty one.
    #[must_use]
    pub fn new(limits: Limits, setting: Setting) -> Self {
        let state = State {
            setting,
            ..State::default()
        };
        Self {
            limits,
            state: RwLock::new(state),
            version: watch::Sender::new(0),
        }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        // each record is taken in whole or not at all
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what was said, in order for each kind.
    pub fn take(&self, said: impl IntoIterator<Item = Said>) {
        let mut state = self.write();
        let before = state.version;
        for said in said {
            state.take(said, &self.limits);
        }
        let version = state.version;
        drop(state);
        if version != before {
            self.version.send_replace(version);
        }
    }

    /// Sets the time by the pipeline's clock.
    pub fn set_now(&self, now: Timestamp) {
        let mut state = self.write();
        if state.now.is_some_and(|known| known >= now) {
            return;
        }
        state.now = Some(now);
        state.version += 1;
        let version = state.version;
        drop(state);
        self.version.send_replace(version);
    }

    /// Sets the time without calling it news: for a clock on the wall, which those who look have too.
    pub fn pass_time(&self, now: Timestamp) {
        let mut state = self.write();
        state.now = state.now.max(Some(now));
    }

    /// Sets what whoever looks is told above everything else.
    pub fn set_note(&self, note: Option<String>) {
        let mut state = self.write();
        if state.note == note {
            return;
        }
        state.note = note;
        state.version += 1;
        let version = state.version;
        drop(state);
        self.version.send_replace(version);
    }

    /// Sets what the pipeline's stages look like.
    pub fn set_stages(&self, stages: Vec<Stage>) {
        self.write().stages = stages;
    }

    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// What is new since a version.
    pub(crate) fn since(&self, version: u64) -> News {
        let state = self.read();
        let touched = state.incidents.values().filter(|case| case.touched > version);
        News {
            version: state.version,
            now: state.now,
            incidents: touched.map(|case| case.incident.id.clone()).collect(),
        }
    }

    /// How much is kept of each kind.
    #[must_use]
    pub fn sizes(&self) -> BTreeMap<&'static str, usize> {
        let state = self.read();
        BTreeMap::from([
            ("incidents", state.incidents.len()),
            ("actions", state.actions.len()),
            ("records", state.ledger.entries.len()),
            ("anomalies", state.anomalies.len()),
            ("changes", state.changes.len()),
            ("services", state.services.len()),
            ("edges", state.edges.len()),
            ("scopes", state.frozen.len()),
            ("series", state.histories.len()),
            ("near_misses", state.near_misses.len()),
        ])
    }
}

impl State {
    /// Every scope that something was said about.
    pub(crate) fn scopes(&self) -> BTreeSet<Arc<str>> {
        let incidents = self.incidents.values().map(|case| case.incident.scope.clone());
        let chains = self.ledger.chains().into_iter().map(|chain| chain.scope);
        incidents.chain(chains).chain(self.setting.scope.clone()).collect()
    }

    fn take(&mut self, said: Said, limits: &Limits) {
        // a window more is no news by itself: the clock brings it
        if !matches!(said, Said::Score(_) | Said::Explained(..)) {
            self.version += 1;
        }
        match said {
            Said::Edge(edge) => self.edge(edge, limits),
            Said::Watched(watched) => {
                if let Some(service) = watched.service
                    && self.service(&service, limits)
                {
                    self.services.entry(service).or_default().insert(watched.kind);
                }
            }
            Said::Change(change) => self.change(change, limits),
            Said::Anomaly(anomaly) => self.anomaly(&anomaly, limits),
            Said::Incident(incident) => self.incident(incident, limits),
            Said::Request(request) => self.request(request, limits),
            Said::Outcome(outcome) => self.outcome(&outcome, limits),
            Said::Record(record) => self.record(record, limits),
            Said::Score(row) => self.histories.take(&row, limits.series, limits.points),
            Said::Verdict(verdict) => {
                push(&mut self.near_misses, verdict, limits.near_misses);
            }
            Said::Explained(key, text) => {
                if self.explained.len() < limits.series || self.explained.contains_key(&key) {
                    self.explained.insert(key, text);
                }
            }
        }
    }

    /// Whether a service has a place.
    fn service(&mut self, service: &Arc<str>, limits: &Limits) -> bool {
        if !self.services.contains_key(service) {
            if self.services.len() >= limits.services {
                return false;
            }
            self.services.insert(service.clone(), BTreeSet::new());
        }
        true
    }

    fn edge(&mut self, edge: Edge, limits: &Limits) {
        let room = self.edges.len() < limits.edges;
        if room && self.service(&edge.from, limits) && self.service(&edge.to, limits) {
            self.edges.insert((edge.from, edge.to));
        }
    }

    fn change(&mut self, change: Change, limits: &Limits) {
        if self.changes.iter().rev().any(|known| known.id == change.id) {
            return;
        }
        push(&mut self.changes, change, limits.changes);
    }

    fn anomaly(&mut self, anomaly: &Anomaly, limits: &Limits) {
        if let Some(known) = self.anomalies.get_mut(&anomaly.id) {
            known.go_on(anomaly);
            return;
        }
        if anomaly.phase == AnomalyPhase::Ended {
            return;
        }
        while self.anomaly_order.len() >= limits.anomalies.max(1) {
            if let Some(oldest) = self.anomaly_order.pop_front() {
                self.anomalies.remove(&oldest);
            }
        }
        let key = SeriesKey {
            metric: anomaly.metric.clone(),
            labels: anomaly.labels.clone(),
        };
        self.histories.mark(&key, limits.series);
        if let Some(service) = &anomaly.service
            && self.service(service, limits)
        {
            self.services.entry(service.clone()).or_default().insert(anomaly.signal);
        }
        self.anomaly_order.push_back(anomaly.id.clone());
        self.anomalies.insert(anomaly.id.clone(), AnomalyView::of(anomaly));
    }

    fn incident(&mut self, incident: Incident, limits: &Limits) {
        let touched = self.version;
        for service in &incident.services {
            self.service(service, limits);
        }
        if let Some(case) = self.incidents.get_mut(&incident.id) {
            if incident.revision >= case.incident.revision {
                case.incident = incident;
                case.touched = touched;
            }
            return;
        }
        while self.order.len() >= limits.incidents.max(1) {
            let is_over = |id: &Arc<str>| {
                let case = self.incidents.get(id);
                case.is_none_or(|case| case.incident.status == IncidentStatus::Resolved)
            };
            let place = self.order.iter().position(is_over).unwrap_or(0);
            if let Some(id) = self.order.remove(place) {
                self.incidents.remove(&id);
            }
        }
        self.order.push_back(incident.id.clone());
        let case = Case {
            incident,
            acknowledged: None,
            label: None,
            escalated: None,
            touched,
        };
        self.incidents.insert(case.incident.id.clone(), case);
    }

    fn touch(&mut self, incident: Option<&Arc<str>>) {
        let version = self.version;
        if let Some(case) = incident.and_then(|id| self.incidents.get_mut(id)) {
            case.touched = version;
        }
    }

    fn request(&mut self, request: ActionRequest, limits: &Limits) {
        self.touch(Some(&request.incident.clone()));
        if let Some(action) = self.actions.get_mut(&request.id) {
            action.again(request);
            return;
        }
        while self.action_order.len() >= limits.actions.max(1) {
            if let Some(oldest) = self.action_order.pop_front() {
                self.actions.remove(&oldest);
            }
        }
        self.action_order.push_back(request.id.clone());
        self.actions.insert(request.id.clone(), Action::new(request));
    }

    fn outcome(&mut self, outcome: &Outcome, limits: &Limits) {
        let Some(action) = self.actions.get_mut(&outcome.action) else {
            return;
        };
        action.outcome(outcome, limits.outcomes);
        let incident = action.request.incident.clone();
        self.touch(Some(&incident));
    }

    fn record(&mut self, record: LedgerRecord, limits: &Limits) {
        let Some(entry) = self.ledger.take(record, limits.records, limits.scopes) else {
            return;
        };
        let Entry {
            record,
            incident,
            action,
        } = entry;
        self.touch(incident.as_ref());
        // the ledger has requests and outcomes in full: where their topics are not read, it is enough
        if let Some(request) = record.body.get("request")
            && let Ok(request) = serde_json::from_value(request.clone())
        {
            self.request(request, limits);
        }
        if let Some(outcome) = record.body.get("outcome")
            && &*record.kind == "outcome"
            && let Ok(outcome) = serde_json::from_value(outcome.clone())
        {
            self.outcome(&outcome, limits);
        }
        if let Some(action) = action.as_ref().and_then(|id| self.actions.get_mut(id)) {
            action.decided(&record);
        }
        if let Some(undone) = text(&record, "/reverses").and_then(|id| self.actions.get_mut(&id)) {
            undone.undone(&record);
        }
        self.humans(&record, incident.as_ref(), limits);
    }

    /// What humans said, and where one is called.
    fn humans(&mut self, record: &LedgerRecord, incident: Option<&Arc<str>>, limits: &Limits) {
        let case = incident.and_then(|id| self.incidents.get_mut(id));
        match record.kind.as_ref() {
            "frozen" if self.frozen.len() < limits.scopes || self.frozen.contains_key(&record.scope) => {
                let frozen = Frozen {
                    scope: record.scope.clone(),
                    by: text(record, "/by").unwrap_or_default(),
                    reason: text(record, "/reason").unwrap_or_default(),
                    at: record.at,
                };
                self.frozen.insert(record.scope.clone(), frozen);
            }
            "thawed" => {
                self.frozen.remove(&record.scope);
            }
            "acknowledged" => {
                if let Some(case) = case {
                    case.acknowledged = Some(Note::of(record, "/reason"));
                }
            }
            "labelled" => {
                if let Some(case) = case {
                    case.label = Some(Note::of(record, "/label"));
                }
            }
            "escalated" => {
                if let Some(case) = case {
                    case.escalated = Some(Note::of(record, "/why"));
                }
            }
            _ => {}
        }
    }
}

fn push<T>(ring: &mut VecDeque<T>, value: T, most: usize) {
    while ring.len() >= most.max(1) {
        ring.pop_front();
    }
    ring.push_back(value);
}
