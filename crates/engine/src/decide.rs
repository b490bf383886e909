//! The second fold: from facts to incidents, action requests and the ledger.

mod scope;
mod state;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use suture_config::{Clock, Pipeline};
use suture_diagnose::{Diagnoser, Verdict};
use suture_event::{
    ActionRequest, Cause, Edge, EdgeSource, EpochNote, Fact, FactBody, Incident, LedgerRecord, Progress, ShardId, Span,
    Timestamp, stable_hash,
};
use suture_remediate::{Input as Finding, Output, PutAway, Remediator, kind};

use crate::{
    EngineError,
    ahead::Ahead,
    reorder::{ByWall, Pushed, Reorder},
    seal::{Seal, Seals},
    stopped::Stopped,
    twice::{SeenTwice, Twice},
    written::body_of,
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

/// The type of a change that telemetry gave away.
const VERSION_SEEN: &str = "service.version";

/// Windows after telemetry is back until a series that is silent still is so by itself.
const SETTLES: i64 = 3;

/// Who freezes a scope of which the state was lost, and for how long after the loss a scope that is met is taken for one that was
/// known before.
const GUARD: &str = "suture";
const WARY: Span = Span::from_hours(24);

/// Notes on shards that began anew which are kept for the first scope that comes; of each shard the last.
const UNSAID: usize = 64;

/// Scopes that are put away and must not be forgotten, for each that may have state.
const AWAY: usize = 100;

/// The least time a scope counts as having lived, against which its silence is measured.
const LIVED: Span = Span::from_hours(1);

/// Changes without any telemetry, and the time since the first of them, from which on a scope counts as one that telemetry
/// does not reach.
const APART: (u64, Span) = (3, Span::from_mins(10));

/// What decide said, in order.
#[derive(Debug, Default)]
pub struct DecideOut {
    /// Every published state of every incident that changed.
    pub incidents: Vec<Incident>,
    /// Action requests.
    pub remediations: Vec<ActionRequest>,
    /// Ledger records.
    pub ledger: Vec<LedgerRecord>,
    /// What was made of groups of anomalies, where [`Decide::explain`] was asked for; goes to no topic.
    pub verdicts: Vec<Verdict>,
}

/// How things stand in one scope.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// The scope.
    pub scope: Arc<str>,
    /// The incidents that are open, oldest first.
    pub incidents: Vec<Incident>,
    /// Who froze it, while it is frozen.
    pub frozen_by: Option<Arc<str>>,
    /// Actions that wait for approval, are under way or are being watched, with a word for which of these.
    pub actions: Vec<(ActionRequest, &'static str)>,
}

/// Counts since the start of the process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DecideCounters {
    /// Facts taken in, without progress marks.
    pub facts: u64,
    /// Facts that wait for slower shards, or for time to come as far as they are.
    pub held: u64,
    /// Facts that came after their time had passed.
    pub late: u64,
    /// Facts handed on before their time because the bound on held facts was reached.
    pub forced: u64,
    /// Facts refused because the bound on scopes was reached and no scope could make room.
    pub scopes_refused: u64,
    /// Scopes without telemetry and with nothing open that made room for others, and come back with their next fact.
    pub scopes_put_away: u64,
    /// Scopes with telemetry, and nothing open, that made room for others: what was known of their calm times is lost.
    pub scopes_displaced: u64,
    /// Scopes that have changes and no telemetry.
    pub scopes_without_telemetry: u64,
    /// Facts and marks refused since they speak of a time far ahead of all others'.
    pub ahead: u64,
    /// Partitions with telemetry of a scope that are silent, over all scopes.
    pub shards_missing: u64,
    /// States of incidents that were told while telemetry of their scope was missing.
    pub judged_without: u64,
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
    /// When something first came of it, and last; absent where an earlier program wrote the state.
    #[serde(default)]
    first: Option<Timestamp>,
    #[serde(default)]
    heard: Option<Timestamp>,
    /// Whether any of it was telemetry. That of an earlier program's state may have been.
    #[serde(default = "supposed")]
    telemetry: bool,
    /// Changes that came before any telemetry.
    #[serde(default)]
    changes: u64,
    /// Event time up to which every fact of it was taken; absent where an earlier program wrote the state.
    #[serde(default)]
    reached: Option<Timestamp>,
    /// The shards that spoke of it as having its telemetry; absent where an earlier program wrote the state: any may.
    #[serde(default)]
    shards: Option<BTreeSet<ShardId>>,
    /// Those of them whose telemetry is missing.
    #[serde(default)]
    missing: Vec<ShardId>,
    #[serde(default)]
    stopped: Stopped,
}

const fn supposed() -> bool {
    true
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
    /// Scopes that made room for others, and of which something must not be forgotten.
    away: BTreeMap<Arc<str>, PutAway>,
    /// The one scope, where the pipeline names none.
    one: Option<Arc<str>>,
    counters: DecideCounters,
    /// This shard's state was once lost: the first thing that the ledger of a scope that is met from then on must say.
    lost: Option<EpochNote>,
    /// Shards that began anew while there was no scope to say so: for the ledger of the first that comes.
    unsaid: Vec<(EpochNote, Option<Cause>)>,
    ahead: Ahead,
    /// Facts from further ahead than clocks may be, by the clock on the wall, and when they came: taken once it is as far.
    early: VecDeque<(Timestamp, Fact)>,
    twice: Twice,
    seals: Seals,
    digests: Digests,
    /// Whether it says what it makes of groups of anomalies.
    explains: bool,
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
        let by_wall = (pipeline.clock == Clock::Wall).then_some(ByWall {
            idle_after: pipeline.kafka.idle_after,
            patience: pipeline.kafka.patience,
        });
        let reorder = Reorder::new(
            telemetry,
            changes,
            pipeline.limits.pending_facts,
            by_wall,
            pipeline.window.forget_after,
        );
        let one = pipeline.scope.is_one().then(|| pipeline.scope.default.as_str().into());
        Self {
            pipeline,
            edges,
            reorder,
            now: Timestamp::MIN,
            scopes: BTreeMap::new(),
            away: BTreeMap::new(),
            one,
            counters: DecideCounters::default(),
            lost: None,
            unsaid: Vec::new(),
            ahead: Ahead::default(),
            early: VecDeque::new(),
            twice: Twice::default(),
            seals: Seals::default(),
            digests: Digests::default(),
            explains: false,
        }
    }

    /// From here on it also says what it makes of groups of anomalies, those that become no incident among them.
    pub fn explain(&mut self) {
        self.explains = true;
        for state in self.scopes.values_mut() {
            state.diagnoser.explain();
        }
    }

    /// Whether a fact is its shard's, by what its record carries beside it; to be asked once, before it is taken. An error says
    /// why it is not.
    ///
    /// # Errors
    /// Where it must not be taken.
    pub fn admit(&mut self, fact: &Fact, seal: Option<Seal>) -> Result<(), String> {
        self.seals.admit(fact, seal)
    }

    /// Takes one fact and appends what follows from it.
    ///
    /// # Errors
    /// Where a scope's rooms can't be made from the pipeline's options.
    pub fn fact(&mut self, mut fact: Fact, out: &mut DecideOut) -> Result<(), EngineError> {
        let before = (out.incidents.len(), out.remediations.len(), out.ledger.len());
        if let FactBody::Progress(progress) = fact.body {
            let bound = self.pipeline.limits.future;
            for (shard, progress) in self.ahead.pass(&fact.shard, progress, bound) {
                self.mark(&shard, progress, out)?;
            }
        } else {
            self.counters.facts += 1;
            if let Some(one) = self.one.as_ref().filter(|_| !matches!(fact.body, FactBody::Epoch(_))) {
                fact.scope = one.clone();
            }
            if self.pipeline.clock == Clock::Wall && self.is_ahead(&fact, self.now) {
                self.early.push_back((self.now, fact));
                if self.early.len() > self.pipeline.limits.pending_facts {
                    self.early.pop_front();
                    self.counters.ahead += 1;
                }
            } else {
                self.order(fact, out)?;
            }
        }
        self.note(before, out);
        Ok(())
    }

    /// Takes a mark that is believed.
    fn mark(&mut self, shard: &ShardId, progress: Progress, out: &mut DecideOut) -> Result<(), EngineError> {
        self.twice.note(shard, &progress);
        if self.pipeline.clock == Clock::Wall {
            self.catch_up(progress.wall, out)?;
        }
        self.reorder.note(shard, &progress);
        self.release(out)?;
        let (clock, frontier) = (self.pipeline.clock, self.reorder.frontier());
        let window = self.pipeline.window.size.unwrap_or(BEAT);
        for (scope, state) in &mut self.scopes {
            let reached = state.reached.unwrap_or(frontier);
            state.pass_to(reached, false, clock, out);
            let silent = state.shards.as_ref();
            let silent = silent.and_then(|shards| self.reorder.silent_since(shards));
            state.look_for_stop(scope, silent, (reached, window), clock, out);
        }
        match clock {
            Clock::Event => self.now = self.now.max(frontier),
            Clock::Wall => self.pass(progress.wall, out),
        }
        Ok(())
    }

    /// Judges what came in last as of when it came, where nothing more comes: time otherwise passes in beats.
    pub fn end(&mut self, out: &mut DecideOut) {
        let (clock, frontier) = (self.pipeline.clock, self.reorder.frontier());
        for state in self.scopes.values_mut() {
            state.pass_to(state.reached.unwrap_or(frontier), true, clock, out);
        }
    }

    /// Takes the facts that waited for time to come as far as it does now, as after a long stop, and gives those up that it has
    /// gone on without.
    fn catch_up(&mut self, reached: Timestamp, out: &mut DecideOut) -> Result<(), EngineError> {
        let patience = self.pipeline.limits.future;
        for (since, fact) in std::mem::take(&mut self.early) {
            if !self.is_ahead(&fact, reached) {
                self.order(fact, out)?;
            } else if reached > since.plus(patience) {
                self.counters.ahead += 1;
            } else {
                self.early.push_back((since, fact));
            }
        }
        Ok(())
    }

    /// Has a fact wait for its turn, unless it has none. One that comes after its time is not lost: a change is ranked where
    /// it belongs, and an anomaly counts as told now.
    fn order(&mut self, mut fact: Fact, out: &mut DecideOut) -> Result<(), EngineError> {
        if matches!(
            fact.body,
            FactBody::Outcome(_) | FactBody::Command(_) | FactBody::Epoch(_)
        ) {
            return self.take(&fact, out);
        }
        let reached = self.reached(&fact.scope);
        if let Some(state) = self.scopes.get_mut(&fact.scope) {
            state.belongs(&fact.shard, &self.reorder);
        }
        fact.at = fact.at.max(Timestamp::MIN.plus(TICK));
        match self.reorder.push(fact, reached) {
            Pushed::Held => Ok(()),
            Pushed::Late(mut fact) => {
                if let FactBody::Anomaly(anomaly) = &mut fact.body {
                    anomaly.at = anomaly.at.max(reached);
                }
                self.take(&fact, out)
            }
            Pushed::Forced(fact) => {
                self.take(&fact, out)?;
                if let Some(state) = self.scopes.get_mut(&fact.scope) {
                    state.reached = Some(state.reached.unwrap_or(fact.at).max(fact.at));
                }
                Ok(())
            }
        }
    }

    /// Event time up to which every fact of a scope was taken.
    fn reached(&self, scope: &str) -> Timestamp {
        let state = self.scopes.get(scope);
        let reached = state.and_then(|state| state.reached);
        reached.unwrap_or_else(|| self.reorder.frontier())
    }

    /// Takes the facts whose time has come, scope by scope.
    fn release(&mut self, out: &mut DecideOut) -> Result<(), EngineError> {
        let mut furthest = self.reorder.frontier();
        for state in self.scopes.values_mut() {
            let before = state.reached.unwrap_or(Timestamp::MIN);
            if let Some(shards) = &mut state.shards {
                shards.retain(|shard| self.reorder.knows(shard));
            }
            let reached = self.reorder.reach(state.shards.as_ref()).unwrap_or(before);
            state.reached = Some(reached.max(before));
            state.missing = self.reorder.missing(state.shards.as_ref());
            furthest = furthest.max(reached.max(before));
        }
        let (scopes, frontier) = (&self.scopes, self.reorder.frontier());
        let reached = |scope: &str| {
            let state = scopes.get(scope).and_then(|state| state.reached);
            state.unwrap_or(frontier)
        };
        let due = self.reorder.release(reached, furthest);
        for fact in due {
            self.take(&fact, out)?;
        }
        Ok(())
    }

    /// Whether a fact lies so far ahead of the clock on the wall that it would carry the rooms' time away with it: its own
    /// window's end and what clocks may differ by are allowed. Executors' and humans' times are held to the present anyhow.
    fn is_ahead(&self, fact: &Fact, now: Timestamp) -> bool {
        let window = self.pipeline.window.size.unwrap_or(Span::ZERO);
        let latest = now.plus(self.pipeline.limits.future).plus(window);
        let own = matches!(
            fact.body,
            FactBody::Outcome(_) | FactBody::Command(_) | FactBody::Epoch(_)
        );
        now != Timestamp::MIN && !own && fact.at > latest
    }

    /// Records in every scope's ledger that a shard began anew: one of observe's, as a fact says, or this one. Where there is no
    /// scope yet, the first that comes says so: which of the facts partitions it will live in is not known, and it must have one
    /// chain.
    ///
    /// # Errors
    /// None that are known.
    pub fn epoch(&mut self, note: &EpochNote, cause: Option<&Cause>, out: &mut DecideOut) -> Result<(), EngineError> {
        if note.number == 0 && !note.cold {
            return Ok(());
        }
        if cause.is_none() && note.cold {
            self.lost = Some(note.clone());
        }
        if self.scopes.is_empty() {
            if cause.is_some() || !note.cold {
                self.unsaid.retain(|(known, _)| known.shard != note.shard);
                self.unsaid.push((note.clone(), cause.cloned()));
                let most = self.unsaid.len().saturating_sub(UNSAID);
                self.unsaid.drain(..most);
            }
            return Ok(());
        }
        let body = body_of(note);
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

    /// Lets the time on the wall pass for what is under way in every scope.
    fn pass(&mut self, reached: Timestamp, out: &mut DecideOut) {
        if reached <= self.now {
            return;
        }
        self.now = reached;
        for state in self.scopes.values_mut() {
            collect(state.remediator.step(Finding::Time(reached), None), out);
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
        if !self.scopes.contains_key(&fact.scope) && !self.begin(fact, out)? {
            self.counters.scopes_refused += 1;
            return Ok(());
        }
        // timers that were due before this fact act before it, whether or not a progress mark told of them in between
        let due = match &fact.body {
            // executors and humans have clocks of their own, which must not move event time
            FactBody::Outcome(_) | FactBody::Command(_) => Timestamp::MIN,
            _ => fact.at.minus(TICK),
        };
        let clock = self.pipeline.clock;
        let Some(state) = self.scopes.get_mut(&fact.scope) else {
            return Ok(());
        };
        let now = match clock {
            Clock::Event => self.now.max(due),
            Clock::Wall => self.now,
        };
        state.hear(fact, now);
        state.belongs(&fact.shard, &self.reorder);
        state.pass_to(due, true, clock, out);
        state.apply(fact, now, clock, out);
        Ok(())
    }

    /// Makes the rooms of a scope of which a fact has come; `false` where there is no room for it.
    fn begin(&mut self, fact: &Fact, out: &mut DecideOut) -> Result<bool, EngineError> {
        if self.scopes.len() >= self.pipeline.limits.scopes && !self.make_room(fact, out) {
            return Ok(false);
        }
        let away = self.away.remove(&fact.scope);
        let mut state = ScopeState::new(&self.pipeline, &fact.scope, &self.edges, away)?;
        state.reached = Some(self.reorder.frontier());
        if self.explains {
            state.diagnoser.explain();
        }
        let lost = self.lost.iter().map(|note| (note.clone(), None));
        for (note, cause) in lost.chain(std::mem::take(&mut self.unsaid)) {
            let body = body_of(&note);
            let note = Finding::Note {
                at: self.now,
                kind: "epoch",
                body: &body,
            };
            collect(state.remediator.step(note, cause.as_ref()), out);
        }
        if let Some(lost) = self
            .lost
            .as_ref()
            .filter(|lost| self.now.max(lost.wall) <= lost.wall.plus(WARY))
        {
            // what was frozen, spent and under way is not known any more
            let reason = format!(
                "the state of decide was lost ({}): freezes, budgets and actions under way are not known. Look at the ledger; \
                 then freeze the scope, which ends all permits given before, and thaw it",
                lost.cause
            );
            let hold = Finding::Hold {
                at: self.now,
                by: &GUARD.into(),
                reason: &reason,
            };
            collect(state.remediator.step(hold, None), out);
        }
        self.scopes.insert(fact.scope.clone(), state);
        Ok(true)
    }

    /// Puts a scope away for a new one: one that nothing is open in, and no telemetry has come of; or, for telemetry, the one
    /// that has been silent for longest by the time it lived. So an environment that lives for a day makes room long before
    /// one that has been there for months and is calm.
    fn make_room(&mut self, fact: &Fact, out: &mut DecideOut) -> bool {
        let full = self.away.len() >= self.pipeline.limits.scopes.saturating_mul(AWAY);
        let now = self.now.max(fact.at);
        let idle = |state: &ScopeState| {
            state.diagnoser.open_incidents() == 0
                && !state.stopped.is_open()
                && state.remediator.is_at_rest()
                && !(full && state.remediator.clone().put_away().is_some())
        };
        let bare = self.scopes.iter().filter(|(_, state)| !state.telemetry && idle(state));
        let bare = bare
            .min_by_key(|(_, state)| state.heard)
            .map(|(scope, _)| scope.clone());
        let displaced = || {
            let mut longest: Option<(&Arc<str>, &ScopeState)> = None;
            for (scope, state) in self.scopes.iter().filter(|(_, state)| idle(state)) {
                if longest.is_none_or(|(_, longest)| state.is_stiller_than(longest, now)) {
                    longest = Some((scope, state));
                }
            }
            longest.map(|(scope, _)| scope.clone())
        };
        let (chosen, count) = match bare {
            Some(bare) => (Some(bare), &mut self.counters.scopes_put_away),
            None if is_telemetry(fact) => (displaced(), &mut self.counters.scopes_displaced),
            None => return false,
        };
        let Some(scope) = chosen else { return false };
        *count += 1;
        let Some(mut state) = self.scopes.remove(&scope) else {
            return false;
        };
        if state.remediator.clone().put_away().is_some() {
            let body = serde_json::json!({"for": fact.scope, "heard": state.heard});
            let note = Finding::Note {
                at: self.now,
                kind: kind::PUT_AWAY,
                body: &body,
            };
            collect(state.remediator.step(note, None), out);
            if let Some(away) = state.remediator.put_away() {
                self.away.insert(scope, away);
            }
        }
        true
    }

    /// Folds what was just said into the digest.
    fn note(&mut self, before: (usize, usize, usize), out: &DecideOut) {
        let (incidents, remediations, ledger) = before;
        for incident in out.incidents.iter().skip(incidents) {
            self.counters.judged_without += u64::from(!incident.judged_without.is_empty());
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
            held: (self.reorder.held() + self.early.len()) as u64,
            late: self.reorder.late,
            forced: self.reorder.forced,
            shards_missing: self.scopes.values().map(|state| state.missing.len() as u64).sum(),
            scopes_without_telemetry: self.scopes.values().filter(|state| state.changes > 0).count() as u64,
            ahead: self.counters.ahead + self.ahead.refused,
            series_twice: self.twice.found().map(|found| found.series),
            ..self.counters
        }
    }

    /// A scope whose changes meet no telemetry, with how many there were: more than a few, over more than a few minutes.
    #[must_use]
    pub fn apart(&self) -> Option<(&Arc<str>, u64)> {
        let (least, after) = APART;
        let long = |state: &ScopeState| {
            let since = state.first.filter(|first| *first != Timestamp::MIN);
            since.is_some_and(|first| self.now > first.plus(after))
        };
        let mut apart = self
            .scopes
            .iter()
            .filter(|(_, state)| state.changes >= least && long(state));
        apart.next().map(|(scope, state)| (scope, state.changes))
    }

    /// What is open and under way in each scope, for whoever asks. Costs the words of the incidents that are open.
    pub fn standing(&self) -> impl Iterator<Item = Standing> {
        self.scopes.iter().map(|(scope, state)| Standing {
            scope: scope.clone(),
            incidents: state.diagnoser.standing(),
            frozen_by: state.remediator.frozen_by().cloned(),
            actions: state
                .remediator
                .actions()
                .map(|(request, stage)| (request.clone(), stage))
                .collect(),
        })
    }

    /// The scopes of which telemetry is missing, with the partitions that are silent.
    pub fn missing(&self) -> impl Iterator<Item = (&Arc<str>, &[ShardId])> {
        let all = self
            .scopes
            .iter()
            .map(|(scope, state)| (scope, state.missing.as_slice()));
        all.filter(|(_, missing)| !missing.is_empty())
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
}

fn chain(digest: u64, what: &[u8], number: u64) -> u64 {
    stable_hash([digest.to_le_bytes().as_slice(), what, &number.to_le_bytes()])
}

/// Whether a fact shows that there is telemetry of its scope.
fn is_telemetry(fact: &Fact) -> bool {
    match &fact.body {
        // a deploy that telemetry gave away
        FactBody::Change(change) => &*change.event_type == VERSION_SEEN,
        FactBody::Outcome(_) | FactBody::Command(_) | FactBody::Progress(_) | FactBody::Epoch(_) => false,
        FactBody::Edge(edge) => edge.source != EdgeSource::File,
        _ => true,
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
