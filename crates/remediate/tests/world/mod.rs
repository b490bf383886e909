//! A small language for scenarios, so that each can be read, and replayed in many ways.
//!
//! A scenario is the options in YAML, a line `---`, and steps: a time since the start, a verb and its words. Lines that
//! start with `>` are what came out of the step above; `#` starts a comment.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::Value;
use suture_event::{
    Change, ChangeKind, Command, CommandKind, Direction, Evidence, EvidenceKind, Hypothesis, HypothesisKind, Incident,
    IncidentSignal, IncidentStatus, LedgerRecord, Outcome, OutcomeStatus, Severity, SignalKind, SignalState, Span,
    Timestamp,
};
use suture_remediate::{Input, Options, Output, Remediator};

/// When every scenario starts.
pub(crate) const START: Timestamp = Timestamp::from_millis(1_661_140_440_000);

/// An input that owns what it holds.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Change(Change),
    Incident(Box<Incident>),
    Outcome(Outcome),
    Command(Command),
    Time(Timestamp),
}

impl Step {
    pub(crate) fn input(&self) -> Input<'_> {
        match self {
            Self::Change(change) => Input::Change(change),
            Self::Incident(incident) => Input::Incident(incident),
            Self::Outcome(outcome) => Input::Outcome {
                outcome,
                at: outcome.at,
            },
            Self::Command(command) => Input::Command {
                command,
                at: command.at,
            },
            Self::Time(at) => Input::Time(*at),
        }
    }

    pub(crate) fn at(&self) -> Timestamp {
        match self {
            Self::Change(change) => change.at,
            Self::Incident(incident) => incident.updated_at,
            Self::Outcome(outcome) => outcome.at,
            Self::Command(command) => command.at,
            Self::Time(at) => *at,
        }
    }
}

/// A remediator, short names for the actions it asked for, and everything that went in and came out.
pub(crate) struct World {
    pub(crate) remediator: Remediator,
    aliases: Vec<String>,
    opened: BTreeMap<String, Timestamp>,
    pub(crate) steps: Vec<Step>,
    pub(crate) outputs: Vec<Output>,
}

impl World {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            remediator: Remediator::new(options, "prod".into()).unwrap(),
            aliases: Vec::new(),
            opened: BTreeMap::new(),
            steps: Vec::new(),
            outputs: Vec::new(),
        }
    }

    pub(crate) fn ledger(&self) -> Vec<&LedgerRecord> {
        let ledger = |output| match output {
            &Output::Request(_) => None,
            Output::Ledger(record) => Some(record),
        };
        self.outputs.iter().filter_map(ledger).collect()
    }

    /// Reads one step and takes it; gives what came out, a line each.
    pub(crate) fn take(&mut self, line: &str) -> Vec<String> {
        let step = self.read(line);
        let outputs = self.remediator.step(step.input(), None);
        self.steps.push(step);
        let lines = outputs.iter().map(|output| self.show(output)).collect();
        self.outputs.extend(outputs);
        lines
    }

    fn read(&mut self, line: &str) -> Step {
        let mut words = line.split_whitespace();
        let mut next = || words.next().unwrap_or_else(|| panic!("{line}: a word is missing"));
        let at = START.plus(next().parse::<Span>().unwrap());
        let verb = next();
        let command = |by: &str, kind| {
            Step::Command(Command {
                id: line.into(),
                at,
                by: by.replace("nobody", "").into(),
                scope: "prod".into(),
                kind,
                reason: String::new(),
                seal: None,
            })
        };
        match verb {
            "time" => Step::Time(at),
            "change" => Step::Change(Change {
                id: next().into(),
                at,
                kind: ChangeKind::Deploy,
                service: next().into(),
                environment: None,
                artifact: Some(next().into()),
                source: "ci".into(),
                event_type: "dev.cdevents.service.deployed.0.1.1".into(),
            }),
            "open" | "resolve" => {
                let id = next();
                let rest: Vec<&str> = words.collect();
                Step::Incident(Box::new(self.incident(at, verb == "resolve", id, &rest)))
            }
            "approve" => {
                let kind = CommandKind::Approve {
                    action: self.id(next()),
                };
                command(next(), kind)
            }
            "deny" => {
                let kind = CommandKind::Deny {
                    action: self.id(next()),
                };
                command(next(), kind)
            }
            "undo" => {
                let kind = CommandKind::Undo {
                    action: self.id(next()),
                };
                command(next(), kind)
            }
            "freeze" => command(next(), CommandKind::Freeze),
            "thaw" => command(next(), CommandKind::Thaw),
            "acknowledge" => {
                let kind = CommandKind::Acknowledge {
                    incident: next().into(),
                };
                command(next(), kind)
            }
            "label" => {
                let kind = CommandKind::Label {
                    incident: next().into(),
                    label: next().into(),
                };
                command(next(), kind)
            }
            status => Step::Outcome(Outcome {
                status: serde_json::from_value::<OutcomeStatus>(status.into()).unwrap_or_else(|_| panic!("{line}")),
                action: self.id(next()),
                at,
                target: "frontend".into(),
                scope: "prod".into(),
                executor: "robot".into(),
                detail: words.collect::<Vec<_>>().join(" "),
                mode: Default::default(),
                calls: Vec::new(),
                seal: None,
            }),
        }
    }

    /// `PROBABILITY CLASS [SERVICE [CHANGE]]`, then signals as `metric=state`; metrics in capitals joined later.
    fn incident(&mut self, at: Timestamp, resolved: bool, id: &str, words: &[&str]) -> Incident {
        let opened_at = *self.opened.entry(id.to_owned()).or_insert(at);
        let (signals, cause): (Vec<&str>, Vec<&str>) = words.iter().partition(|word| word.contains('='));
        let service = cause.get(2).copied().filter(|service| *service != "-");
        let change = cause.get(3).copied();
        let probability: f64 = cause.first().map_or(0.0, |p| p.parse().unwrap());
        let hypothesis = cause.get(1).map(|class| Hypothesis {
            rank: 1,
            kind: if change.is_some() {
                HypothesisKind::Change
            } else {
                HypothesisKind::Fault
            },
            service: service.map(Into::into),
            change: change.map(Into::into),
            class: (*class).into(),
            probability,
            evidence: vec![Evidence {
                kind: EvidenceKind::Timing,
                detail: "began 40s before".to_owned(),
                weight: 1.7,
                signals: Vec::new(),
            }],
        });
        let signal = |word: &&str| {
            let (metric, state) = word.split_once('=').unwrap();
            IncidentSignal {
                anomaly: metric.into(),
                metric: metric.to_lowercase().into(),
                service: service.map(Into::into),
                kind: SignalKind::of_metric(metric),
                direction: Direction::Up,
                onset: opened_at,
                opening: !metric.starts_with(char::is_uppercase),
                state: serde_json::from_value::<SignalState>(state.into()).unwrap(),
                since: at,
            }
        };
        Incident {
            id: id.into(),
            opened_at,
            resolved_at: resolved.then_some(at),
            resolution: None,
            severity: Severity::Critical,
            services: service.map(Into::into).into_iter().collect(),
            anomalies: Vec::new(),
            hypotheses: hypothesis.into_iter().collect(),
            none_of_these: 1.0 - probability,
            scope: "prod".into(),
            status: if resolved {
                IncidentStatus::Resolved
            } else {
                IncidentStatus::Open
            },
            title: format!("{id} is open"),
            updated_at: at,
            revision: 1,
            signals: signals.iter().map(signal).collect(),
            signals_left_out: 0,
            judged_without: Vec::new(),
        }
    }

    fn id(&self, alias: &str) -> std::sync::Arc<str> {
        let index: Option<usize> = alias.strip_prefix('a').and_then(|n| n.parse().ok());
        index
            .and_then(|n| self.aliases.get(n - 1))
            .map_or(alias, String::as_str)
            .into()
    }

    fn alias(&mut self, id: &str) -> String {
        let index = self.aliases.iter().position(|known| known == id).unwrap_or_else(|| {
            self.aliases.push(id.to_owned());
            self.aliases.len() - 1
        });
        format!("a{}", index + 1)
    }

    fn show(&mut self, output: &Output) -> String {
        match output {
            Output::Request(request) => {
                let rung = serde_json::to_value(request.rung).unwrap();
                let mut line = format!(
                    "request {} {} {} {} expires {} verify {}",
                    self.alias(&request.id),
                    rung.as_str().unwrap(),
                    request.step.action,
                    request.target,
                    request.expires_at.since(START),
                    request.verify_by.since(START),
                );
                for (name, value) in &request.step.parameters {
                    write!(line, " {name}={value}").unwrap();
                }
                if let Some(reverses) = &request.reverses {
                    write!(line, " reverses {}", self.alias(reverses)).unwrap();
                }
                if let Some(by) = &request.approved_by {
                    write!(line, " approved by {by}").unwrap();
                }
                line
            }
            Output::Ledger(record) => {
                let mut line = format!("{} {}", record.at.since(START), record.kind);
                for (name, value) in record.body.as_object().unwrap() {
                    if let Some(text) = self.show_value(name, value) {
                        write!(line, " {name}={text}").unwrap();
                    }
                }
                line
            }
        }
    }

    fn show_value(&mut self, name: &str, value: &Value) -> Option<String> {
        match (name, value) {
            ("action" | "reverses", Value::String(id)) => Some(self.alias(id)),
            ("severity" | "services" | "title" | "owner", _) | (_, Value::Null) => None,
            ("request", request) => Some(self.alias(request["id"].as_str()?)),
            ("command", command) => Some(command["command"].as_str()?.to_owned()),
            ("reason", Value::String(reason)) if reason.is_empty() => None,
            ("outcome", outcome) => Some(outcome["status"].as_str()?.to_owned()),
            ("limited_by", Value::Array(limits)) => {
                let names: Vec<_> = limits.iter().filter_map(|limit| limit["limit"].as_str()).collect();
                (!names.is_empty()).then(|| names.join("+"))
            }
            ("candidates", Value::Array(all)) => {
                let reasons: Vec<String> = all
                    .iter()
                    .map(|c| format!("{}: {}", c["playbook"].as_str().unwrap(), c["reason"]))
                    .collect();
                Some(format!("[{}]", reasons.join(", ")))
            }
            ("first" | "hypothesis" | "from" | "to", Value::Object(first)) => Some(
                [&first["class"], &first["service"]]
                    .map(|v| v.as_str().unwrap_or("-"))
                    .join("@"),
            ),
            ("until", Value::String(at)) => Some(at.parse::<Timestamp>().unwrap().since(START).to_string()),
            (_, Value::String(text)) => {
                let mut text = text.clone();
                for (index, id) in self.aliases.iter().enumerate() {
                    text = text.replace(id, &format!("a{}", index + 1));
                }
                Some(if text.contains(' ') { format!("{text:?}") } else { text })
            }
            (_, Value::Number(number)) => Some(number.to_string()),
            (_, Value::Array(items)) if items.is_empty() => None,
            (_, other) => Some(other.to_string()),
        }
    }
}

/// The options and the steps of a scenario, without what came out.
pub(crate) fn parse(text: &str) -> (Options, Vec<String>) {
    let (options, steps) = text.split_once("\n---\n").expect("a line --- after the options");
    let options = serde_saphyr::from_str(options).unwrap_or_else(|error| panic!("{error}"));
    let steps = steps
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with(['>', '#']));
    (options, steps.map(str::to_owned).collect())
}

/// Every scenario of the folder, by name.
pub(crate) fn scenarios() -> Vec<(String, std::path::PathBuf)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), path))
        .collect();
    found.sort();
    found
}
