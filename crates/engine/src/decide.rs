//! The second fold: from facts to incidents, action requests and the ledger.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use suture_config::{Clock, Pipeline};
use suture_diagnose::{Diagnoser, Input as Symptom};
use suture_event::{
    ActionRequest, Cause, Command, Edge, EpochNote, Fact, FactBody, Incident, LedgerRecord, Outcome, Span, Timestamp,
    stable_hash,
};
use suture_remediate::{Input as Finding, Output, Remediator};

use crate::{
    ENGINE_VERSION, EngineError, misfit,
    reorder::{Release, Reorder},
    twice::{SeenTwice, Twice},
};

/// One millisecond: the step between "before a fact of this time" and the fact.
const TICK: Span = Span::from_millis(1);

/// How far executors' and humans' clocks may be ahead.
const SKEW: Span = Span::from_secs(10);

/// How often event time is told to the rooms.
const BEAT: Span = Span::from_secs(10);

/// Where time leaps by more than this, as from a sender whose clock stands at 1970, it is told beat by beat only for so long
/// before its end: timers act as of when they were due all the same, and half a century has 178 million beats.
const LEAP: Span = Span::from_hours(30 * 24);

/// What decide said, in order.
#[derive(Debug, Default)]
pub struct DecideOut {
    /// Every published state of every incident that changed.
    pub incidents: Vec<Incident>,
    /// Action requests.
    pub remediations: Vec<ActionRequest>,
    /// Ledger records.
    pub ledger: Vec<LedgerRecord>,
}

/// Counts since the start of the process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DecideCounters {
    /// Facts taken in, without progress marks.
    pub facts: u64,
    /// Facts that wait for slower shards.
    pub held: u64,
    /// Facts that came after their time had passed.
    pub late: u64,
    /// Facts handed on before their time because the bound on held facts was reached.
    pub forced: u64,
    /// Facts refused because the bound on scopes was reached.
    pub scopes_refused: u64,
    /// Series that two partitions of one topic have, of those that marks name; absent where no mark names any.
    pub series_twice: Option<u64>,
}

/// The rooms of one scope.
#[derive(Serialize, Deserialize)]
struct ScopeState {
    diagnoser: Diagnoser,
    remediator: Remediator,
    /// The last time that the rooms were told of.
    told: Timestamp,
}

/// What was said to each topic: kept apart, since how they interleave depends on how often time is told.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Digests {
    incidents: u64,
    remediations: u64,
    ledger: u64,
}

/// The fold over one facts partition. Every scope in it has its own diagnosis, playbooks and ledger chain.
pub struct Decide {
    pipeline: Arc<Pipeline>,
    edges: Vec<Edge>,
    reorder: Reorder,
    now: Timestamp,
    scopes: BTreeMap<Arc<str>, ScopeState>,
    facts: u64,
    scopes_refused: u64,
    /// This shard's state was once lost: the first thing that the ledger of a scope that is met from then on must say.
    lost: Option<EpochNote>,
    twice: Twice,
    digests: Digests,
    released: Vec<Release>,
}

#[derive(Serialize, Deserialize)]
struct Snapshot {
    engine: u32,
    reorder: Reorder,
    now: Timestamp,
    scopes: Vec<(Arc<str>, ScopeState)>,
    #[serde(default)]
    lost: Option<EpochNote>,
    #[serde(default)]
    twice: Twice,
    digests: Digests,
}

impl Decide {
    /// A fold with nothing in it. `edges` is the call graph known beforehand, such as from the pipeline's topology file;
    /// every scope starts with it.
    #[must_use]
    pub fn new(pipeline: Arc<Pipeline>, edges: Vec<Edge>) -> Self {
        let telemetry = match pipeline.rekeyed_topic() {
            Some(topic) => vec![topic],
            None => pipeline.telemetry.iter().map(|source| source.topic.clone()).collect(),
        };
        let changes = pipeline.changes.iter().map(|source| source.topic.clone()).collect();
        let reorder = Reorder::new(telemetry, changes, pipeline.limits.pending_facts);
        Self {
            pipeline,
            edges,
            reorder,
            now: Timestamp::MIN,
            scopes: BTreeMap::new(),
            facts: 0,
            scopes_refused: 0,
            lost: None,
            twice: Twice::default(),
            digests: Digests::default(),
            released: Vec::new(),
        }
    }

    /// Takes one fact and appends what follows from it.
    ///
    /// # Errors
    /// Where a scope's rooms can't be made from the pipeline's options.
    pub fn fact(&mut self, fact: Fact, out: &mut DecideOut) -> Result<(), EngineError> {
        let before = (out.incidents.len(), out.remediations.len(), out.ledger.len());
        match &fact.body {
            FactBody::Progress(progress) => self.twice.note(&fact.shard, progress),
            _ => self.facts += 1,
        }
        match self.pipeline.clock {
            Clock::Event => {
                let mut released = std::mem::take(&mut self.released);
                self.reorder.push(fact, &mut released);
                for release in released.drain(..) {
                    match release {
                        Release::Fact(fact) => self.take(&fact, out)?,
                        Release::Time(reached) => self.pass(reached, out),
                    }
                }
                self.released = released;
            }
            Clock::Wall => match &fact.body {
                FactBody::Progress(progress) => self.pass(progress.wall, out),
                _ => self.take(&fact, out)?,
            },
        }
        self.note(before, out);
        Ok(())
    }

    /// Records in every scope's ledger that a shard began anew: one of observe's, as a fact says, or this one.
    ///
    /// # Errors
    /// Where the default scope's rooms, which keep the record where there is no scope yet, can't be made.
    pub fn epoch(&mut self, note: &EpochNote, cause: Option<&Cause>, out: &mut DecideOut) -> Result<(), EngineError> {
        if note.number == 0 && !note.cold {
            return Ok(());
        }
        if cause.is_none() && note.cold {
            self.lost = Some(note.clone());
        }
        if self.scopes.is_empty() {
            let scope: Arc<str> = self.pipeline.scope.default.as_str().into();
            let state = ScopeState::new(&self.pipeline, &scope, &self.edges)?;
            self.scopes.insert(scope, state);
        }
        let body = serde_json::to_value(note).unwrap_or_default();
        let before = (out.incidents.len(), out.remediations.len(), out.ledger.len());
        for state in self.scopes.values_mut() {
            let note = Finding::Note {
                at: self.now,
                kind: "epoch",
                body: &body,
            };
            collect(state.remediator.step(note, cause), out);
        }
        self.note(before, out);
        Ok(())
    }

    /// Lets time pass for every scope.
    fn pass(&mut self, reached: Timestamp, out: &mut DecideOut) {
        if reached <= self.now {
            return;
        }
        self.now = reached;
        for state in self.scopes.values_mut() {
            match self.pipeline.clock {
                Clock::Event => state.pass_to(reached, false, out),
                Clock::Wall => state.pass(reached, out),
            }
        }
    }

    fn take(&mut self, fact: &Fact, out: &mut DecideOut) -> Result<(), EngineError> {
        if let FactBody::Epoch(note) = &fact.body {
            let cause = Cause {
                shard: fact.shard.clone(),
                seq: fact.seq,
            };
            return self.epoch(note, Some(&cause), out);
        }
        if !self.scopes.contains_key(&fact.scope) {
            if self.scopes.len() >= self.pipeline.limits.scopes {
                self.scopes_refused += 1;
                return Ok(());
            }
            let mut state = ScopeState::new(&self.pipeline, &fact.scope, &self.edges)?;
            if let Some(lost) = &self.lost {
                let body = serde_json::to_value(lost).unwrap_or_default();
                let note = Finding::Note {
                    at: self.now,
                    kind: "epoch",
                    body: &body,
                };
                collect(state.remediator.step(note, None), out);
            }
            self.scopes.insert(fact.scope.clone(), state);
        }
        // timers that were due before this fact act before it, whether or not a progress mark told of them in between
        let due = match (self.pipeline.clock, &fact.body) {
            // executors and humans have clocks of their own, which must not move event time
            (Clock::Wall, _) | (_, FactBody::Outcome(_) | FactBody::Command(_)) => Timestamp::MIN,
            (Clock::Event, _) => fact.at.minus(TICK),
        };
        let Some(state) = self.scopes.get_mut(&fact.scope) else {
            return Ok(());
        };
        let now = self.now.max(due);
        state.pass_to(due, true, out);
        state.apply(fact, now, out);
        Ok(())
    }

    /// Folds what was just said into the digest.
    fn note(&mut self, before: (usize, usize, usize), out: &DecideOut) {
        let (incidents, remediations, ledger) = before;
        for incident in out.incidents.iter().skip(incidents) {
            self.digests.incidents = chain(
                self.digests.incidents,
                incident.id.as_bytes(),
                u64::from(incident.revision),
            );
        }
        for request in out.remediations.iter().skip(remediations) {
            self.digests.remediations = chain(
                self.digests.remediations,
                request.id.as_bytes(),
                u64::from(request.attempt),
            );
        }
        for record in out.ledger.iter().skip(ledger) {
            self.digests.ledger = chain(self.digests.ledger, record.hash.as_bytes(), record.seq);
        }
    }

    /// A number that differs, but for chance, where two runs have said different things.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let Digests {
            incidents,
            remediations,
            ledger,
        } = self.digests;
        stable_hash([
            incidents.to_le_bytes().as_slice(),
            &remediations.to_le_bytes(),
            &ledger.to_le_bytes(),
        ])
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> DecideCounters {
        DecideCounters {
            facts: self.facts,
            held: self.reorder.held() as u64,
            late: self.reorder.late,
            forced: self.reorder.forced,
            scopes_refused: self.scopes_refused,
            series_twice: self.twice.found().map(|found| found.series),
        }
    }

    /// Where series are seen in two partitions of one topic; `None` where no mark names any.
    #[must_use]
    pub const fn seen_twice(&self) -> Option<&SeenTwice> {
        self.twice.found()
    }

    /// Event time up to which everything was decided, or the wall time by the pipeline's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match self.pipeline.clock {
            Clock::Event => self.reorder.frontier(),
            Clock::Wall => self.now,
        }
    }

    /// The whole state, to continue from elsewhere.
    ///
    /// # Errors
    /// [`EngineError::Snapshot`] where the state can't be written.
    pub fn snapshot(&self) -> Result<Vec<u8>, EngineError> {
        let scopes: Vec<(&Arc<str>, &ScopeState)> = self.scopes.iter().collect();
        let view = SnapshotView {
            engine: ENGINE_VERSION,
            reorder: &self.reorder,
            now: self.now,
            scopes,
            lost: &self.lost,
            twice: &self.twice,
            digests: self.digests,
        };
        rmp_serde::to_vec_named(&view).map_err(|e| snapshot_error(&e))
    }

    /// Continues from a snapshot, under this fold's pipeline, whichever the snapshot was made under.
    ///
    /// # Errors
    /// [`EngineError::Snapshot`] where the bytes are no snapshot of this fold; the state is then as it was.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        let snapshot: Snapshot = rmp_serde::from_slice(bytes).map_err(|e| snapshot_error(&e))?;
        if let Some(reason) = misfit(snapshot.engine) {
            return Err(EngineError::Snapshot {
                shard: "decide".to_owned(),
                reason,
            });
        }
        let mut scopes = BTreeMap::new();
        for (scope, state) in snapshot.scopes {
            // another pipeline judges what comes; what is open stays
            let remediator = state
                .remediator
                .with_options(self.pipeline.remediate.clone())
                .map_err(|e| EngineError::Remediate {
                    scope: scope.to_string(),
                    reason: e.to_string(),
                })?;
            let diagnoser = state.diagnoser.with_options(self.pipeline.diagnose.clone());
            scopes.insert(
                scope,
                ScopeState {
                    diagnoser,
                    remediator,
                    told: state.told,
                },
            );
        }
        self.reorder.adopt(snapshot.reorder);
        self.now = snapshot.now;
        self.scopes = scopes;
        self.lost = snapshot.lost;
        self.twice = snapshot.twice;
        self.digests = snapshot.digests;
        Ok(())
    }
}

/// [`Snapshot`], borrowed.
#[derive(Serialize)]
struct SnapshotView<'a> {
    engine: u32,
    reorder: &'a Reorder,
    now: Timestamp,
    scopes: Vec<(&'a Arc<str>, &'a ScopeState)>,
    lost: &'a Option<EpochNote>,
    twice: &'a Twice,
    digests: Digests,
}

fn snapshot_error(reason: &dyn std::fmt::Display) -> EngineError {
    EngineError::Snapshot {
        shard: "decide".to_owned(),
        reason: reason.to_string(),
    }
}

fn chain(digest: u64, what: &[u8], number: u64) -> u64 {
    stable_hash([digest.to_le_bytes().as_slice(), what, &number.to_le_bytes()])
}

impl ScopeState {
    fn new(pipeline: &Pipeline, scope: &Arc<str>, edges: &[Edge]) -> Result<Self, EngineError> {
        let mut diagnoser = Diagnoser::new(pipeline.diagnose.clone(), scope.clone());
        for edge in edges {
            diagnoser.step(Symptom::Edge(edge));
        }
        let remediator =
            Remediator::new(pipeline.remediate.clone(), scope.clone()).map_err(|e| EngineError::Remediate {
                scope: scope.to_string(),
                reason: e.to_string(),
            })?;
        Ok(Self {
            diagnoser,
            remediator,
            told: Timestamp::MIN,
        })
    }

    fn apply(&mut self, fact: &Fact, now: Timestamp, out: &mut DecideOut) {
        let cause = Cause {
            shard: fact.shard.clone(),
            seq: fact.seq,
        };
        let incidents = match &fact.body {
            FactBody::Edge(edge) => self.diagnoser.step(Symptom::Edge(edge)),
            FactBody::Watched(watched) => self.diagnoser.step(Symptom::Watched(watched)),
            FactBody::Change(change) => {
                collect(self.remediator.step(Finding::Change(change), Some(&cause)), out);
                self.diagnoser.step(Symptom::Change(change))
            }
            FactBody::Anomaly(anomaly) => self.diagnoser.step(Symptom::Anomaly(anomaly)),
            FactBody::Outcome(outcome) => {
                let outcome = Outcome {
                    at: within(outcome.at, now),
                    ..outcome.clone()
                };
                return collect(self.remediator.step(Finding::Outcome(&outcome), Some(&cause)), out);
            }
            FactBody::Command(command) => {
                let command = Command {
                    at: within(command.at, now),
                    ..command.clone()
                };
                return collect(self.remediator.step(Finding::Command(&command), Some(&cause)), out);
            }
            FactBody::Progress(_) | FactBody::Epoch(_) => return,
        };
        self.hand_on(incidents, Some(&cause), out);
    }

    /// Lets event time pass beat by beat, so that the rooms are told of the same times whenever marks happen to come. A mark
    /// brings the beats up to it; a fact, with `whole`, also the very moment before it.
    fn pass_to(&mut self, reached: Timestamp, whole: bool, out: &mut DecideOut) {
        if reached <= self.told {
            return;
        }
        let (beat, until) = (BEAT.as_millis(), reached.as_millis());
        if self.told != Timestamp::MIN {
            let from = self.told.as_millis().max(until.saturating_sub(LEAP.as_millis()));
            let mut next = (from.div_euclid(beat) + 1) * beat;
            while next <= until {
                self.told = Timestamp::from_millis(next);
                self.pass(self.told, out);
                next += beat;
            }
        }
        if whole {
            self.told = reached;
            self.pass(reached, out);
        }
    }

    fn pass(&mut self, reached: Timestamp, out: &mut DecideOut) {
        let incidents = self.diagnoser.step(Symptom::Time(reached));
        self.hand_on(incidents, None, out);
        collect(self.remediator.step(Finding::Time(reached), None), out);
    }

    /// Incidents go to remediation in order, each after the timers that were due before it.
    fn hand_on(&mut self, incidents: Vec<Incident>, cause: Option<&Cause>, out: &mut DecideOut) {
        for incident in incidents {
            collect(
                self.remediator
                    .step(Finding::Time(incident.updated_at.minus(TICK)), None),
                out,
            );
            collect(self.remediator.step(Finding::Incident(&incident), cause), out);
            out.incidents.push(incident);
        }
    }
}

/// A time that somebody else's clock says, held to a little after this fold's: one far ahead would fire every timer up to it.
fn within(at: Timestamp, now: Timestamp) -> Timestamp {
    if now == Timestamp::MIN {
        at
    } else {
        at.min(now.plus(SKEW))
    }
}

fn collect(outputs: Vec<Output>, out: &mut DecideOut) {
    for output in outputs {
        match output {
            Output::Request(request) => out.remediations.push(request),
            Output::Ledger(record) => out.ledger.push(record),
        }
    }
}
