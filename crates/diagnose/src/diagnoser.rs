//! The fold: what comes in, what is due when, and what goes out.

use std::{collections::VecDeque, sync::Arc};

use serde::{Deserialize, Serialize};
use suture_event::{Anomaly, AnomalyPhase, Change, Edge, EndReason, Incident, SignalState, Span, Timestamp, Watched};

use crate::{
    Options,
    background::Background,
    case::Case,
    effects::Fault,
    signal::{NOWHERE, Signal, series_of},
    topology::{ServiceId, Topology},
    verdict::Verdict,
};

/// One input of the fold.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// An edge of the call graph.
    Edge(&'a Edge),
    /// A service is watched in a kind of signal.
    Watched(&'a Watched),
    /// A change.
    Change(&'a Change),
    /// An anomaly in one of its phases.
    Anomaly(&'a Anomaly),
    /// Time has come to here.
    Time(Timestamp),
}

/// An incident that is over, as far as later ones care.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Past {
    pub(crate) centre: ServiceId,
    pub(crate) opened_at: Timestamp,
    pub(crate) resolved_at: Timestamp,
    pub(crate) height: f64,
    pub(crate) blamed: Option<Arc<str>>,
    /// What was at fault, and since when; unknown of those that an earlier program resolved.
    #[serde(default)]
    pub(crate) cause: Option<(Fault, Timestamp)>,
}

/// The state of diagnosis in one scope.
///
/// What has one time is judged together, once time has passed it; so the order of facts with one time does not decide
/// what opens. Cost of a judgement: the anomalies under way times the services within a few calls of each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Diagnoser {
    pub(crate) options: Options,
    pub(crate) scope: Arc<str>,
    pub(crate) now: Timestamp,
    pub(crate) topology: Topology,
    pub(crate) background: Background,
    /// In order of time, then of arrival.
    pub(crate) changes: VecDeque<(ServiceId, Change)>,
    /// Anomalies of no incident, in order of arrival.
    pub(crate) loose: VecDeque<Signal>,
    /// In order of opening.
    pub(crate) cases: Vec<Case>,
    pub(crate) past: VecDeque<Past>,
    /// The width of a window, as far as signals told.
    #[serde(default)]
    pub(crate) window: Option<Span>,
    /// When what came in last is to be judged.
    pub(crate) judge_at: Option<Timestamp>,
    /// When a grace period ends that holds something back.
    pub(crate) held_until: Option<Timestamp>,
    /// Anomalies that found no room.
    pub(crate) left_out: u64,
    /// What was made of groups, where somebody asks; no part of the state.
    #[serde(skip)]
    pub(crate) verdicts: Option<Vec<Verdict>>,
}

impl Diagnoser {
    /// Diagnosis of one scope, knowing nothing yet.
    #[must_use]
    pub fn new(options: Options, scope: Arc<str>) -> Self {
        Self {
            background: Background::new(options.background.clone()),
            options,
            scope,
            now: Timestamp::MIN,
            topology: Topology::default(),
            changes: VecDeque::new(),
            loose: VecDeque::new(),
            cases: Vec::new(),
            past: VecDeque::new(),
            window: None,
            judge_at: None,
            held_until: None,
            left_out: 0,
            verdicts: None,
        }
    }

    /// Takes one input and gives the incidents that changed by it, each in full, in order: opened, grown, re-ranked or
    /// resolved.
    ///
    /// What came in at a time is judged when time moves past it, by whatever input; so after the last anomaly one more
    /// input with a later time brings the last incidents out.
    pub fn step(&mut self, input: Input<'_>) -> Vec<Incident> {
        let mut out = Vec::new();
        let at = match input {
            Input::Time(at) => at,
            Input::Anomaly(anomaly) => anomaly.at,
            Input::Change(change) => change.at,
            Input::Edge(_) | Input::Watched(_) => self.now,
        };
        self.advance(at, &mut out);
        match input {
            Input::Time(_) => {}
            Input::Edge(edge) => {
                let limits = &self.options.limits;
                self.topology
                    .connect(&edge.from, &edge.to, limits.services, limits.edges);
            }
            Input::Watched(watched) => self.on_watched(watched),
            Input::Change(change) => self.on_change(change),
            Input::Anomaly(anomaly) => self.on_anomaly(anomaly),
        }
        out
    }

    /// The same state under other options: what was learned and is open stays, what comes is judged by the new ones.
    #[must_use]
    pub fn with_options(self, options: Options) -> Self {
        Self { options, ..self }
    }

    /// Goes on under other options with everything that was learned. Bounds that shrank take hold as things come in.
    pub fn reconfigure(&mut self, options: Options) {
        self.background.reconfigure(options.background.clone());
        self.options = options;
    }

    /// From here on it keeps what it makes of groups of anomalies, for [`Self::take_verdicts`]. Costs the words.
    pub fn explain(&mut self) {
        self.verdicts.get_or_insert_default();
    }

    /// What was made of groups since the last call, where that is kept: of those that became no incident the one that stood
    /// out most at a time, where that is another than before or something else came of it.
    pub fn take_verdicts(&mut self) -> Vec<Verdict> {
        self.verdicts.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The scope it is for.
    #[must_use]
    pub fn scope(&self) -> &Arc<str> {
        &self.scope
    }

    /// Incidents that are open.
    #[must_use]
    pub fn open_incidents(&self) -> usize {
        self.cases.len()
    }

    /// The incidents that are open, oldest first, as they stand.
    #[must_use]
    pub fn standing(&self) -> Vec<Incident> {
        let cases = self.cases.iter().map(|case| {
            let mut case = case.clone();
            // it is looked at, and not published
            case.revision = case.revision.saturating_sub(1);
            case.render(&self.scope, &self.topology, self.now)
        });
        cases.collect()
    }

    /// Does everything that is due before `to`, each as of its time.
    fn advance(&mut self, to: Timestamp, out: &mut Vec<Incident>) {
        if to <= self.now {
            return;
        }
        self.background.start(to);
        while let Some(due) = self.next_due().filter(|due| *due < to) {
            self.now = self.now.max(due);
            self.judge_at = self.judge_at.filter(|at| *at > due);
            self.held_until = self.held_until.filter(|at| *at > due);
            self.judge(out);
        }
        self.now = to;
    }

    fn next_due(&self) -> Option<Timestamp> {
        let resolve = &self.options.resolve;
        let of_case = |case: &Case| {
            let calm = case.calm_since.map(|since| since.plus(resolve.calm));
            let quiet = (!case.is_active()).then(|| case.news.plus(resolve.quiet));
            [calm, quiet, case.look_again, Some(case.news.plus(resolve.abandon))]
                .into_iter()
                .flatten()
                .min()
        };
        self.cases
            .iter()
            .filter_map(of_case)
            .chain(self.judge_at)
            .chain(self.held_until)
            .min()
    }

    fn on_watched(&mut self, watched: &Watched) {
        let limit = self.options.limits.services;
        let service = watched.service.as_ref().map(|name| self.topology.service(name, limit));
        if let Some(Some(service)) = service {
            self.topology.watch(service, watched.kind);
        }
    }

    fn on_change(&mut self, change: &Change) {
        let limits = &self.options.limits;
        let Some(service) = self.topology.service(&change.service, limits.services) else {
            return;
        };
        if self
            .changes
            .iter()
            .any(|(_, known)| known.id == change.id && known.service == change.service)
        {
            return;
        }
        let place = self.changes.partition_point(|(_, known)| known.at <= change.at);
        self.changes.insert(place, (service, change.clone()));
        while self.changes.len() > limits.changes {
            self.changes.pop_front();
        }
        let look_back = self.options.changes.look_back;
        let late = self.late();
        let latest_of = |case: &Case| case.opened_at.plus(late);
        for case in &mut self.cases {
            // it came late: an incident that it may have caused is ranked again
            if change.at <= latest_of(case) && change.at >= case.opened_at.minus(look_back) {
                case.dirty = true;
                self.judge_at.get_or_insert(self.now);
            }
        }
    }

    fn on_anomaly(&mut self, anomaly: &Anomaly) {
        self.judge_at.get_or_insert(self.now);
        let now = self.now;
        let mut is_known = false;
        let all = self.loose.iter_mut();
        for signal in all.chain(self.cases.iter_mut().flat_map(|case| case.signals.iter_mut())) {
            if signal.id != anomaly.id {
                continue;
            }
            is_known = true;
            signal.tell(anomaly);
        }
        self.revive(anomaly);
        match anomaly.phase {
            AnomalyPhase::Opened | AnomalyPhase::Grown if !is_known => self.on_new(anomaly),
            AnomalyPhase::Ended | AnomalyPhase::Eased if !is_known => return,
            _ => {}
        }
        for case in &mut self.cases {
            if case.signals.iter().any(|signal| signal.id == anomaly.id) {
                case.dirty = true;
                case.news = now;
            }
        }
    }

    /// A series that was silent has values again: whatever its signals were before, they are so no longer.
    fn revive(&mut self, anomaly: &Anomaly) {
        if anomaly.value.is_none() || anomaly.end == Some(EndReason::Silent) {
            return;
        }
        let mut series = None;
        for case in &mut self.cases {
            for signal in &mut case.signals {
                if signal.state == SignalState::Silent
                    && signal.series == *series.get_or_insert_with(|| series_of(anomaly))
                {
                    (signal.state, signal.since) = (SignalState::Recovered, anomaly.at);
                    case.dirty = true;
                }
            }
        }
    }

    fn on_new(&mut self, anomaly: &Anomaly) {
        let limits = &self.options.limits;
        let service = match &anomaly.service {
            Some(name) => self.topology.service(name, limits.services).unwrap_or(NOWHERE),
            None => NOWHERE,
        };
        self.topology.watch(service, anomaly.signal);
        let width = anomaly.at.since(anomaly.onset);
        if width > Span::ZERO && self.window.is_none_or(|known| width < known) {
            self.window = Some(width);
        }
        self.loose.push_back(Signal::new(anomaly, service, &self.topology));
        while self.loose.len() > limits.anomalies {
            self.loose.pop_front();
            self.left_out += 1;
        }
    }
}
