//! A few words to tell what happened to a small shop, minute by minute, and to read what diagnosis made of it.

use std::{collections::BTreeMap, sync::Arc};

use suture_diagnose::{Diagnoser, Input, Options};
use suture_event::{
    Anomaly, AnomalyPhase, Change, ChangeKind, Direction, Edge, EdgeSource, EndReason, Hypothesis, Incident, Labels,
    SignalKind, Timestamp, Watched,
};

/// What happens, as inputs of the fold in order of time.
#[derive(Debug, Clone)]
pub(crate) enum Fact {
    Edge(Edge),
    Watched(Watched),
    Change(Change),
    Anomaly(Box<Anomaly>),
    Time(Timestamp),
}

impl Fact {
    pub(crate) fn input(&self) -> Input<'_> {
        match self {
            Self::Edge(edge) => Input::Edge(edge),
            Self::Watched(watched) => Input::Watched(watched),
            Self::Change(change) => Input::Change(change),
            Self::Anomaly(anomaly) => Input::Anomaly(anomaly),
            Self::Time(at) => Input::Time(*at),
        }
    }
}

/// A shop under watch.
pub(crate) struct Story {
    pub(crate) diagnoser: Diagnoser,
    now: Timestamp,
    open: BTreeMap<(String, String), Anomaly>,
    states: Vec<Incident>,
    pub(crate) told: Vec<Fact>,
    /// Who tells of anomalies.
    detector: &'static str,
}

pub(crate) fn minute(minute: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_040_000 + minute * 60_000)
}

impl Story {
    /// The shop, watched in five kinds of signal but for the bank, which nobody watches: `web` calls `cart`, `search` and `ads`; `cart` calls `db` and `pay`; `pay` calls `bank`. It has been
    /// watched for two calm days when the story begins, at minute 0.
    pub(crate) fn new(options: Options) -> Self {
        let mut story = Self {
            diagnoser: Diagnoser::new(options, "prod".into()),
            now: minute(-2 * 24 * 60),
            open: BTreeMap::new(),
            states: Vec::new(),
            told: Vec::new(),
            detector: "seasonal",
        };
        for (from, to) in [
            ("web", "cart"),
            ("web", "search"),
            ("web", "ads"),
            ("cart", "db"),
            ("cart", "pay"),
            ("pay", "bank"),
        ] {
            story.tell(Fact::Edge(Edge {
                from: from.into(),
                to: to.into(),
                source: EdgeSource::File,
            }));
        }
        for service in ["web", "cart", "search", "ads", "db", "pay"] {
            for kind in [
                SignalKind::Cpu,
                SignalKind::Latency,
                SignalKind::Errors,
                SignalKind::Memory,
                SignalKind::Traffic,
            ] {
                story.tell(Fact::Watched(Watched {
                    service: Some(service.into()),
                    kind,
                }));
            }
        }
        story.tell(Fact::Time(minute(-2 * 24 * 60)));
        story.at(0)
    }

    pub(crate) fn calm_shop() -> Self {
        Self::new(Options::default())
    }

    pub(crate) fn tell(&mut self, fact: Fact) {
        self.states.extend(self.diagnoser.step(fact.input()));
        self.told.push(fact);
    }

    /// Goes to a minute.
    pub(crate) fn at(mut self, at: i64) -> Self {
        self.now = minute(at);
        let now = self.now;
        self.tell(Fact::Time(now));
        self
    }

    /// Somebody deploys a service; the change is called `deploy-SERVICE-MINUTE`.
    pub(crate) fn deploy(self, service: &str) -> Self {
        let now = self.now;
        self.change(service, ChangeKind::Deploy, now)
    }

    /// A change that is told now and happened then.
    pub(crate) fn change(mut self, service: &str, kind: ChangeKind, at: Timestamp) -> Self {
        let minutes = (at.as_millis() - minute(0).as_millis()) / 60_000;
        self.tell(Fact::Change(Change {
            id: format!("deploy-{service}-{minutes}").into(),
            at,
            kind,
            service: service.into(),
            environment: None,
            artifact: None,
            source: "/ci".into(),
            event_type: "dev.cdevents.service.deployed.0.3.0".into(),
        }));
        self
    }

    /// Metrics of a service leave their bands upwards, all in the window that closes now.
    pub(crate) fn off(self, service: &str, metrics: &[&str], deviation: f64) -> Self {
        self.leave(service, metrics, deviation, Direction::Up)
    }

    /// Metrics of a service that are outside their bands go a step further.
    pub(crate) fn step_on(mut self, service: &str, metrics: &[&str], deviation: f64) -> Self {
        self.detector = "step";
        let mut further = self.leave(service, metrics, deviation, Direction::Up);
        further.detector = "seasonal";
        further
    }

    /// Metrics of a service leave their bands.
    pub(crate) fn leave(self, service: &str, metrics: &[&str], deviation: f64, direction: Direction) -> Self {
        let onset = Timestamp::from_millis(self.now.as_millis() - 60_000);
        self.leave_since(onset, service, metrics, deviation, direction)
    }

    /// As [`Self::leave`], where it is known only now that it began then.
    pub(crate) fn leave_since(
        mut self,
        onset: Timestamp,
        service: &str,
        metrics: &[&str],
        deviation: f64,
        direction: Direction,
    ) -> Self {
        for metric in metrics {
            let key = (service.to_owned(), format!("{metric} {}", self.detector));
            let anomaly = Anomaly {
                id: format!(
                    "{service}/{metric}/{}@{}",
                    self.detector,
                    (onset.as_millis() - minute(0).as_millis()) / 60_000
                )
                .into(),
                at: self.now,
                onset,
                phase: AnomalyPhase::Opened,
                end: None,
                metric: (*metric).into(),
                labels: Labels::new([("service", service)]).unwrap(),
                service: Some(service.into()),
                signal: SignalKind::of_metric(metric),
                detector: self.detector.into(),
                score: 0.9999,
                deviation,
                value: Some(10.0 + deviation),
                expected: 10.0,
                lower: 8.0,
                upper: 12.0,
                direction,
                detail: String::new(),
            };
            self.open.insert(key, anomaly.clone());
            self.tell(Fact::Anomaly(Box::new(anomaly)));
        }
        self
    }

    /// Calls from one service to another take long, as the caller sees it.
    pub(crate) fn slow_calls(mut self, from: &str, to: &str, deviation: f64) -> Self {
        let onset = Timestamp::from_millis(self.now.as_millis() - 60_000);
        let key = (from.to_owned(), format!("to {to}"));
        let anomaly = Anomaly {
            id: format!("{from}>{to}@{onset}").into(),
            at: self.now,
            onset,
            phase: AnomalyPhase::Opened,
            end: None,
            metric: "call_latency".into(),
            labels: Labels::new([("service", from), ("peer", to)]).unwrap(),
            service: Some(from.into()),
            signal: SignalKind::Latency,
            detector: "seasonal".into(),
            score: 0.9999,
            deviation,
            value: Some(3.0),
            expected: 0.1,
            lower: 0.0,
            upper: 0.3,
            direction: Direction::Up,
            detail: String::new(),
        };
        self.open.insert(key, anomaly.clone());
        self.tell(Fact::Anomaly(Box::new(anomaly)));
        self
    }

    /// What is off in a service comes to its end.
    pub(crate) fn ends(self, service: &str, reason: EndReason) -> Self {
        self.ends_of(service, "", reason)
    }

    /// As [`Self::ends`], of one metric alone.
    pub(crate) fn ends_of(mut self, service: &str, metric: &str, reason: EndReason) -> Self {
        let of = |key: &&(String, String)| key.0 == service && key.1.starts_with(metric);
        let keys: Vec<_> = self.open.keys().filter(of).cloned().collect();
        for key in keys {
            let Some(mut anomaly) = self.open.remove(&key) else {
                continue;
            };
            anomaly.phase = AnomalyPhase::Ended;
            anomaly.at = self.now;
            anomaly.end = Some(reason);
            self.tell(Fact::Anomaly(Box::new(anomaly)));
        }
        self
    }

    pub(crate) fn recovers(self, service: &str) -> Self {
        self.ends(service, EndReason::Recovered)
    }

    /// Every incident so far in its last state, in order of opening.
    pub(crate) fn incidents(&self) -> Vec<Incident> {
        let mut order: Vec<Arc<str>> = Vec::new();
        let mut last: BTreeMap<Arc<str>, Incident> = BTreeMap::new();
        for state in &self.states {
            if last.insert(Arc::clone(&state.id), state.clone()).is_none() {
                order.push(Arc::clone(&state.id));
            }
        }
        order.iter().map(|id| last[id].clone()).collect()
    }

    /// The one incident there is.
    pub(crate) fn incident(&self) -> Incident {
        let all = self.incidents();
        assert_eq!(all.len(), 1, "{:?}", all.iter().map(|i| &i.title).collect::<Vec<_>>());
        all.into_iter().next().unwrap()
    }
}

/// The likeliest cause, in short: what changed, or else the class and the place.
pub(crate) fn blamed(incident: &Incident) -> String {
    name(incident.hypotheses.first().expect("no hypothesis"))
}

pub(crate) fn name(hypothesis: &Hypothesis) -> String {
    match &hypothesis.change {
        Some(change) => change.to_string(),
        None => format!(
            "{} in {}",
            hypothesis.class,
            hypothesis.service.as_deref().unwrap_or("-")
        ),
    }
}
