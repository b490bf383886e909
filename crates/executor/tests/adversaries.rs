//! Liars, forgers, crossed orders and clocks that jump, under seeds: remediation decides, an executor acts by the kit's rules, and
//! everything that either of them reads may have been delayed, repeated, altered or made up. Whatever happens, no action is
//! ever done
//!
//! - that remediation did not ask for exactly so, with a permit for this executor,
//! - twice,
//! - beyond a budget of the executor's, nor are more asked for than remediation's own budgets leave,
//! - irreversibly, without a person who really said so,
//! - by a call after a freeze has reached the executor;
//!
//! every action that did not help is handed to a human, and the ledger's chain is whole.
//!
//! `SUTURE_SEEDS=1000000` runs so many seeds, and `SUTURE_SEED=7` that one alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests fail by panicking, as tests do

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use suture_event::{
    ActionRequest, Approval, Command, CommandKind, Direction, Freezes, Hypothesis, HypothesisKind, Incident,
    IncidentSignal, IncidentStatus, LedgerRecord, Outcome, OutcomeStatus, Reversibility, Rung, Severity, SignalKind,
    SignalState, Span, Timestamp, Verb, verify_chain,
};
use suture_executor::{Allowed, Budget, Done, Options, Verdict, decide};
use suture_permit::{KeyEntry, Keyring, Role, SecretKey};
use suture_remediate::{Input, Output, Remediator, kind};

const START: Timestamp = Timestamp::from_millis(1_661_140_440_000);
const STEPS: usize = 90;
const SERVICES: [&str; 3] = ["cart", "ads", "bank"];
const SERVICE_BUDGET: u32 = 2;
const PIPELINE_BUDGET: u32 = 4;
/// What remediation may send in an hour.
const SCOPE_BUDGET: usize = 5;

const REMEDIATE: &str = r#"
mode: autonomous
executor: robot
concurrent: 3
approval_within: 5m
budget: {service: {actions: 4, per: 1h}, scope: {actions: 5, per: 1h}}
playbooks:
- name: rollback
  owner: shop
  match: {class: [bad_deploy]}
  rung: autonomous
  action: {action: rollback}
  reversal: {action: redeploy}
  safety: &safe
    trigger: a deploy blamed for errors
    false_positives: [none known]
    blast_radius: one service runs its version of before
    reversal_time: 1m
    budget: {actions: 20, per: 1h}
    telemetry: [errors]
  limits: {attempts: 2, cooldown: 30s, verify_within: 3m, expires_after: 1m, on_failure: reverse}
- name: clean
  owner: shop
  match: {class: [disk_full]}
  rung: supervised
  action: {action: clean_disk}
  safety: *safe
  limits: {cooldown: 30s, verify_within: 3m, expires_after: 1m}
- name: scale in
  owner: shop
  match: {class: [idle]}
  rung: autonomous
  action: {action: scale_in}
  reversal: {action: scale_out}
  safety: *safe
  limits: {cooldown: 30s, verify_within: 3m, expires_after: 1m}
"#;

struct Keys {
    decide: SecretKey,
    robot: SecretKey,
    rogue: SecretKey,
    ann: SecretKey,
    bob: SecretKey,
    /// In nobody's ring.
    stranger: SecretKey,
    ring: Keyring,
}

impl Keys {
    fn new() -> Self {
        let key = |n, who: &str, role| SecretKey::from_seed(&[n; 32], who, role);
        let (decide, robot) = (key(1, "decide", Role::Decide), key(2, "robot", Role::Executor));
        let (ann, bob) = (key(3, "ann", Role::Person), key(4, "bob", Role::Person));
        let rogue = key(5, "rogue", Role::Executor);
        let entry = |key: &SecretKey| KeyEntry {
            who: Arc::clone(&key.who),
            role: key.role,
            public: key.public(),
            until: None,
        };
        let ring = Keyring::new([&decide, &robot, &ann, &bob, &rogue].map(entry).to_vec());
        let stranger = key(9, "ann", Role::Person);
        Self {
            decide,
            robot,
            rogue,
            ann,
            bob,
            stranger,
            ring,
        }
    }
}

/// What the executor is in the middle of.
struct Working {
    request: ActionRequest,
    calls_left: u32,
}

struct World<'k> {
    keys: &'k Keys,
    rng: ChaCha8Rng,
    now: Timestamp,
    /// How far the executor's clock is off.
    skew: i64,
    remediator: Remediator,
    ledger: Vec<LedgerRecord>,
    /// On its way to remediation.
    to_decide: VecDeque<Said>,
    /// What stands in the topic of requests: read in any order, and again.
    requests: Vec<ActionRequest>,
    /// Everything that was ever said by people, genuine or not.
    commands: Vec<Command>,
    outcomes: Vec<Outcome>,
    allowed: Allowed,
    done: Done,
    freezes: Freezes,
    working: Vec<Working>,
    incidents: BTreeMap<usize, Incident>,
    truth: Truth,
}

enum Said {
    Command(Command),
    Outcome(Outcome),
}

/// What really happened, kept apart from what anybody says.
#[derive(Default)]
struct Truth {
    /// Requests as remediation said them, without seals, and how many freezes it had heard of.
    asked: Vec<(ActionRequest, usize)>,
    heard_freezes: usize,
    freezes: usize,
    frozen: bool,
    /// Who really approved which action or asked for its undoing.
    approved: BTreeSet<(String, String)>,
    started: BTreeSet<String>,
    starts: Vec<(Timestamp, String)>,
    sent: Vec<Timestamp>,
}

impl<'k> World<'k> {
    fn new(keys: &'k Keys, seed: u64) -> Self {
        let mut options: suture_remediate::Options = serde_saphyr::from_str(REMEDIATE).unwrap();
        options.keys = keys.ring.clone();
        let executor = Options {
            name: "robot".to_owned(),
            actions: vec!["*".to_owned()],
            keys: keys.ring.clone(),
            service_budget: Budget {
                actions: SERVICE_BUDGET,
                per: Span::from_hours(1),
            },
            pipeline_budget: Budget {
                actions: PIPELINE_BUDGET,
                per: Span::from_hours(1),
            },
            ..Options::default()
        };
        Self {
            keys,
            rng: ChaCha8Rng::seed_from_u64(seed),
            now: START,
            skew: 0,
            remediator: Remediator::new(options, "prod".into()).unwrap(),
            ledger: Vec::new(),
            to_decide: VecDeque::new(),
            requests: Vec::new(),
            commands: Vec::new(),
            outcomes: Vec::new(),
            allowed: Allowed::new(&executor).unwrap(),
            done: Done::new(1_000),
            freezes: Freezes::default(),
            working: Vec::new(),
            incidents: BTreeMap::new(),
            truth: Truth::default(),
        }
    }

    fn one_of<T: Clone>(&mut self, all: &[T]) -> Option<T> {
        (!all.is_empty()).then(|| all[self.rng.random_range(0..all.len())].clone())
    }

    fn run(&mut self) {
        for _ in 0..STEPS {
            let pause = if self.rng.random_bool(0.1) { 90_000 } else { 8_000 };
            self.now = self.now.plus(Span::from_millis(self.rng.random_range(1..pause)));
            match self.rng.random_range(0..100) {
                0..25 => self.incident(),
                25..37 => self.genuine_command(),
                37..44 => self.forged_command(),
                44..52 => self.forged_outcome(),
                52..62 => self.forged_request(),
                62..80 => self.take_up(),
                80..97 => self.call(),
                _ => self.skew = self.rng.random_range(-7_200_000..7_200_000),
            }
            if self.rng.random_bool(0.7) {
                self.deliver();
            }
        }
        while !self.to_decide.is_empty() {
            self.deliver();
        }
        // everything runs out
        self.now = self.now.plus(Span::from_hours(24));
        let outputs = self.remediator.step(Input::Time(self.now), None);
        self.said(outputs);
        self.check_ledger();
    }

    fn said(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Ledger(record) => self.ledger.push(record),
                Output::Request(mut request) => {
                    self.truth.asked.push((request.clone(), self.truth.heard_freezes));
                    if request.rung == Rung::Autonomous && request.reverses.is_none() {
                        self.truth.sent.push(request.at);
                        let hour = request.at.minus(Span::from_hours(1));
                        let sent = self.truth.sent.iter().filter(|at| **at > hour).count();
                        assert!(sent <= SCOPE_BUDGET, "{sent} actions were asked for within an hour");
                    }
                    let seal = self.keys.decide.sign(&request);
                    if let Some(permit) = &mut request.permit {
                        permit.seal = Some(seal);
                    }
                    self.requests.push(request);
                }
            }
        }
    }

    fn step(&mut self, input: Input<'_>) {
        let outputs = self.remediator.step(input, None);
        self.said(outputs);
    }

    /// The next word reaches remediation.
    fn deliver(&mut self) {
        match self.to_decide.pop_front() {
            Some(Said::Command(command)) => {
                let genuine = self.keys.ring.check_command(&command).is_ok();
                let before = self.ledger.len();
                self.step(Input::Command {
                    command: &command,
                    at: self.now,
                });
                let frozen = self.ledger[before..].iter().any(|record| *record.kind == *kind::FROZEN);
                assert!(genuine || !frozen, "a forged freeze was followed");
                if frozen {
                    self.truth.heard_freezes += 1;
                }
            }
            Some(Said::Outcome(outcome)) => self.step(Input::Outcome {
                outcome: &outcome,
                at: self.now,
            }),
            None => self.step(Input::Time(self.now)),
        }
    }

    fn incident(&mut self) {
        let n = self.rng.random_range(0..6_usize);
        let (now, rng) = (self.now, &mut self.rng);
        let class = ["bad_deploy", "bad_deploy", "disk_full", "idle"][n % 4];
        let service = SERVICES[n % 3];
        let back = rng.random_bool(0.3);
        let resolved = back && rng.random_bool(0.5);
        let opened = self.incidents.get(&n).map_or(now, |incident| incident.opened_at);
        let hypothesis = Hypothesis {
            rank: 1,
            kind: HypothesisKind::Fault,
            service: Some(service.into()),
            change: None,
            class: class.into(),
            probability: 0.9,
            evidence: Vec::new(),
        };
        let signal = IncidentSignal {
            anomaly: "a".into(),
            metric: "errors".into(),
            service: Some(service.into()),
            kind: SignalKind::Errors,
            direction: Direction::Up,
            onset: opened,
            opening: true,
            state: if back {
                SignalState::Recovered
            } else {
                SignalState::Active
            },
            since: now,
        };
        let incident = Incident {
            id: format!("i{n}").into(),
            opened_at: opened,
            resolved_at: resolved.then_some(now),
            resolution: None,
            severity: Severity::Critical,
            services: vec![service.into()],
            anomalies: Vec::new(),
            hypotheses: vec![hypothesis],
            none_of_these: 0.1,
            scope: "prod".into(),
            status: if resolved {
                IncidentStatus::Resolved
            } else {
                IncidentStatus::Open
            },
            title: String::new(),
            updated_at: now,
            revision: 1,
            signals: vec![signal],
            signals_left_out: 0,
            judged_without: Vec::new(),
        };
        self.incidents.insert(n, incident.clone());
        self.step(Input::Incident(&incident));
    }

    fn kind(&mut self) -> CommandKind {
        let asked: Vec<Arc<str>> = self
            .truth
            .asked
            .iter()
            .map(|(request, _)| Arc::clone(&request.id))
            .collect();
        let recent = &asked[asked.len().saturating_sub(6)..];
        let action = self.one_of(recent).unwrap_or_else(|| "none".into());
        match self.rng.random_range(0..12) {
            0..6 => CommandKind::Approve { action },
            6 => CommandKind::Deny { action },
            7 => CommandKind::Undo { action },
            8 | 9 => CommandKind::Freeze,
            _ => CommandKind::Thaw,
        }
    }

    fn command(&mut self, by: &str) -> Command {
        Command {
            id: format!("c{}", self.commands.len()).into(),
            at: self.now,
            by: by.into(),
            scope: "prod".into(),
            kind: self.kind(),
            reason: "because".to_owned(),
            seal: None,
        }
    }

    /// A person says something: it reaches the executor at once, and remediation some time.
    fn genuine_command(&mut self) {
        let ann = self.rng.random_bool(0.5);
        let mut command = self.command(if ann { "ann" } else { "bob" });
        let key = if ann { &self.keys.ann } else { &self.keys.bob };
        command.seal = Some(key.sign(&command));
        match &command.kind {
            CommandKind::Freeze => {
                self.truth.freezes += 1;
                self.truth.frozen = true;
            }
            CommandKind::Thaw => self.truth.frozen = false,
            CommandKind::Approve { action } | CommandKind::Undo { action } => {
                self.truth.approved.insert((command.by.to_string(), action.to_string()));
            }
            _ => {}
        }
        self.utter(command);
    }

    fn forged_command(&mut self) {
        let mut command = self.command("ann");
        match self.rng.random_range(0..5) {
            0 => {}
            1 => command.seal = Some(self.keys.stranger.sign(&command)),
            // an executor in a person's name
            2 => command.seal = Some(self.keys.robot.sign(&command)),
            // signed, and then made to say something else
            3 => {
                command.seal = Some(self.keys.ann.sign(&command));
                command.kind = self.kind();
                command.at = self.now.plus(Span::from_millis(1));
            }
            // said again: an old thaw must not lift a freeze that came after it
            _ => {
                let before = self.commands.clone();
                command = self.one_of(&before).unwrap_or(command);
            }
        }
        self.utter(command);
    }

    fn utter(&mut self, command: Command) {
        // as the kit's watch reads the commands topic
        if self.keys.ring.check_command(&command).is_ok() {
            let _ = self.freezes.follow(&command);
        }
        self.commands.push(command.clone());
        self.to_decide.push_back(Said::Command(command));
    }

    fn outcome(&self, request: &ActionRequest, status: OutcomeStatus, by: &SecretKey) -> Outcome {
        let mut outcome = Outcome {
            action: Arc::clone(&request.id),
            at: self.now.plus(Span::from_millis(self.skew)),
            status,
            target: Arc::clone(&request.target),
            scope: Arc::clone(&request.scope),
            executor: Arc::clone(&by.who),
            detail: String::new(),
            mode: Default::default(),
            calls: Vec::new(),
            seal: None,
        };
        outcome.seal = Some(by.sign(&outcome));
        outcome
    }

    /// A lie: of the executor itself, of another, of nobody, or an old word again.
    fn forged_outcome(&mut self) {
        let requests = self.requests.clone();
        let Some(request) = self.one_of(&requests) else { return };
        let status = [
            OutcomeStatus::Started,
            OutcomeStatus::Succeeded,
            OutcomeStatus::Failed,
            OutcomeStatus::Refused,
            OutcomeStatus::DryRun,
        ][self.rng.random_range(0..5_usize)];
        let outcome = match self.rng.random_range(0..5) {
            0 | 1 => self.outcome(&request, status, &self.keys.robot),
            2 => self.outcome(&request, status, &self.keys.rogue),
            3 => Outcome {
                seal: None,
                ..self.outcome(&request, status, &self.keys.robot)
            },
            _ => {
                let before = self.outcomes.clone();
                let Some(outcome) = self.one_of(&before) else { return };
                outcome
            }
        };
        self.to_decide.push_back(Said::Outcome(outcome));
    }

    fn forged_request(&mut self) {
        let requests = self.requests.clone();
        let Some(mut request) = self.one_of(&requests) else {
            return;
        };
        match self.rng.random_range(0..9) {
            0 => request.target = "bank".into(),
            1 => request.step.action = "drop_database".into(),
            2 => request.rung = Rung::Autonomous,
            3 => request.expires_at = request.expires_at.plus(Span::from_hours(9)),
            4 => request.id = format!("{}x", request.id).into(),
            5 => request.approvals.push(Approval {
                by: "ann".into(),
                key: Some(Arc::clone(self.keys.ann.id())),
                at: self.now,
                command: "c".into(),
            }),
            6 => request.reverses = Some("a".into()),
            // the very same again
            7 => {}
            _ => request.permit = None,
        }
        let altered = !requests.contains(&request);
        if altered && self.rng.random_bool(0.5) {
            let by = [&self.keys.robot, &self.keys.ann, &self.keys.stranger][self.rng.random_range(0..3_usize)];
            let seal = by.sign(&request);
            if let Some(permit) = &mut request.permit {
                permit.seal = Some(seal);
            }
        }
        self.requests.push(request);
    }

    /// The executor reads a record of the topic: any of them, in any order, by its own clock.
    fn take_up(&mut self) {
        let recent = self.requests[self.requests.len().saturating_sub(5)..].to_vec();
        let Some(request) = self.one_of(&recent) else { return };
        let clock = self.now.plus(Span::from_millis(self.skew));
        let verdict = decide(&request, clock, &self.allowed, &self.done, false);
        let status = match verdict {
            Verdict::Act => {
                let epoch = &request.permit.as_ref().unwrap().epoch;
                if self.freezes.allows(epoch).is_ok() {
                    OutcomeStatus::Started
                } else {
                    OutcomeStatus::Refused
                }
            }
            Verdict::Reject(_) => OutcomeStatus::Rejected,
            Verdict::Refuse(_) => OutcomeStatus::Refused,
            // it is at work on it, or nobody waits
            Verdict::Resume | Verdict::Leave(_) => return,
        };
        if status == OutcomeStatus::Started {
            self.check_start(&request, clock);
        }
        let outcome = self.outcome(&request, status, &self.keys.robot);
        self.done.remember(&outcome);
        self.outcomes.push(outcome.clone());
        self.to_decide.push_back(Said::Outcome(outcome));
        if status == OutcomeStatus::Started {
            let calls_left = self.rng.random_range(1..4);
            self.working.push(Working { request, calls_left });
        }
    }

    /// The executor makes a call of something it is at work on, if it still may, and at last says how that ended; or never.
    fn call(&mut self) {
        if self.working.is_empty() {
            return;
        }
        let at = self.rng.random_range(0..self.working.len());
        let request = self.working[at].request.clone();
        let epoch = &request.permit.as_ref().unwrap().epoch;
        let ended = if self.freezes.allows(epoch).is_err() {
            Some(OutcomeStatus::Failed)
        } else {
            self.check_call(&request);
            self.working[at].calls_left -= 1;
            (self.working[at].calls_left == 0).then_some(OutcomeStatus::Succeeded)
        };
        let Some(status) = ended else { return };
        self.working.remove(at);
        if self.rng.random_bool(0.1) {
            return;
        }
        let outcome = self.outcome(&request, status, &self.keys.robot);
        self.done.remember(&outcome);
        self.outcomes.push(outcome.clone());
        self.to_decide.push_back(Said::Outcome(outcome));
    }

    fn check_start(&mut self, request: &ActionRequest, clock: Timestamp) {
        let id = request.id.to_string();
        let truth = &mut self.truth;
        assert!(truth.started.insert(id.clone()), "{id} was done twice");
        let mut unsealed = request.clone();
        unsealed.permit.as_mut().unwrap().seal = None;
        assert!(
            truth
                .asked
                .iter()
                .any(|(asked, _)| *asked == unsealed && asked.rung == Rung::Autonomous),
            "nobody asked for {unsealed:?}"
        );
        let verb = Verb::of(&request.step.action).expect("no verb");
        let persons = request.approvals.iter().filter(|approval| {
            let about = [Some(&request.id), request.reverses.as_ref()];
            let said = |action: &Arc<str>| truth.approved.contains(&(approval.by.to_string(), action.to_string()));
            about.into_iter().flatten().any(said)
        });
        if verb.class == Reversibility::Irreversible {
            assert!(persons.count() > 0, "{} was done with nobody's word", verb.name);
        }
        if request.reverses.is_none() {
            let hour = clock.minus(Span::from_hours(1));
            truth.starts.push((clock, request.target.to_string()));
            let within = |target: Option<&str>| {
                let counts = |(at, on): &&(Timestamp, String)| *at > hour && target.is_none_or(|target| target == on);
                truth.starts.iter().filter(counts).count()
            };
            assert!(
                within(Some(&request.target)) <= SERVICE_BUDGET as usize,
                "beyond the budget of a service"
            );
            assert!(
                within(None) <= PIPELINE_BUDGET as usize,
                "beyond the budget of the executor"
            );
        }
    }

    fn check_call(&self, request: &ActionRequest) {
        let truth = &self.truth;
        assert!(!truth.frozen, "a call after a freeze");
        let asked = truth
            .asked
            .iter()
            .rev()
            .find(|(asked, _)| asked.id == request.id && asked.permit.is_some());
        let (_, heard) = asked.expect("nobody asked for it");
        assert_eq!(*heard, truth.freezes, "a call by a permit of before a freeze");
    }

    fn check_ledger(&self) {
        assert_eq!(verify_chain(&self.ledger), Ok(()));
        for (at, record) in self.ledger.iter().enumerate() {
            if *record.kind == *kind::NOT_VERIFIED {
                let handed_over = self.ledger[at..]
                    .iter()
                    .any(|later| *later.kind == *kind::ESCALATED && later.body["incident"] == record.body["incident"]);
                assert!(handed_over, "nobody was called: {record:?}");
            }
        }
        assert_eq!(
            self.remediator.open_actions().count(),
            0,
            "something is under way for good"
        );
    }
}

#[test]
fn nothing_is_done_that_may_not_be() {
    let keys = Keys::new();
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("SUTURE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SUTURE_SEEDS").unwrap_or(DEFAULT_SEEDS),
    };
    let alone = seeds.clone().count() == 1;
    let mut all = BTreeMap::<&str, usize>::new();
    for seed in seeds {
        let mut world = World::new(&keys, seed);
        let run = std::panic::AssertUnwindSafe(|| world.run());
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("seed {seed}: SUTURE_SEED={seed} runs it alone");
            std::panic::resume_unwind(panic);
        }
        let counted = |what: &str| world.ledger.iter().filter(|record| *record.kind == *what).count();
        *all.entry("done").or_default() += world.truth.started.len();
        *all.entry("rejected").or_default() += counted(kind::REQUEST_REJECTED);
        *all.entry("approved").or_default() += counted(kind::APPROVED);
        *all.entry("reversed").or_default() += counted(kind::REVERSED);
        *all.entry("verified").or_default() += counted(kind::VERIFIED);
        *all.entry("not verified").or_default() += counted(kind::NOT_VERIFIED);
        *all.entry("frozen").or_default() += counted(kind::FROZEN);
        let irreversible = world.outcomes.iter().filter(|outcome| {
            let of = |(request, _): &&(ActionRequest, usize)| request.id == outcome.action;
            let asked = world.truth.asked.iter().find(of);
            outcome.status == OutcomeStatus::Started && asked.is_some_and(|(r, _)| *r.step.action == *"clean_disk")
        });
        *all.entry("irreversible").or_default() += irreversible.count();
    }
    println!("{all:?}");
    // the adversaries must leave enough of the good for this to say anything
    assert!(alone || all.values().all(|times| *times > 0), "{all:?}");
}

/// Some seconds' worth without optimisation.
const DEFAULT_SEEDS: u64 = 300;
