//! One scope as decide keeps it: what it has heard, how far its time is, and what is said when it passes.

use std::{collections::BTreeSet, sync::Arc};

use suture_config::{Clock, Pipeline};
use suture_diagnose::{Diagnoser, Input as Symptom};
use suture_event::{Cause, Edge, Fact, FactBody, Incident, ShardId, Span, Timestamp};
use suture_remediate::{Input as Finding, PutAway, Remediator};

use super::{BEAT, DecideOut, LEAP, LIVED, SETTLES, ScopeState, TICK, collect, is_telemetry, within};
use crate::{EngineError, reorder::Reorder, stopped::Stopped};

impl ScopeState {
    pub(super) fn new(
        pipeline: &Pipeline,
        scope: &Arc<str>,
        edges: &[Edge],
        away: Option<PutAway>,
    ) -> Result<Self, EngineError> {
        let mut diagnoser = Diagnoser::new(pipeline.diagnose.clone(), scope.clone());
        for edge in edges {
            diagnoser.step(Symptom::Edge(edge));
        }
        let options = pipeline.remediate.clone();
        let remediator = match away {
            Some(away) => Remediator::taken_back(options, scope.clone(), away),
            None => Remediator::new(options, scope.clone()),
        };
        let remediator = remediator.map_err(|e| EngineError::Remediate {
            scope: scope.to_string(),
            reason: e.to_string(),
        })?;
        Ok(Self {
            diagnoser,
            remediator,
            told: Timestamp::MIN,
            first: None,
            heard: None,
            telemetry: false,
            changes: 0,
            reached: None,
            shards: Some(BTreeSet::new()),
            missing: Vec::new(),
            stopped: Stopped::default(),
        })
    }

    /// Notes that a shard has telemetry of the scope, if that is what it reads.
    pub(super) fn belongs(&mut self, shard: &ShardId, reorder: &Reorder) {
        if let Some(shards) = self.shards.as_mut().filter(|shards| !shards.contains(shard))
            && reorder.is_telemetry(shard)
        {
            shards.insert(shard.clone());
        }
    }

    /// Notes that something came of the scope; `now` is as far as time has come.
    pub(super) fn hear(&mut self, fact: &Fact, now: Timestamp) {
        let at = if now == Timestamp::MIN {
            fact.at
        } else {
            fact.at.min(now.plus(TICK))
        };
        self.first = Some(self.first.map_or(at, |first| first.min(at)));
        self.heard = self.heard.max(Some(at));
        self.telemetry |= is_telemetry(fact);
        if self.telemetry {
            self.changes = 0;
        } else if matches!(fact.body, FactBody::Change(_)) {
            self.changes += 1;
        }
    }

    /// Whether it has been silent for longer than another, each by the time that it lived.
    pub(super) fn is_stiller_than(&self, other: &Self, now: Timestamp) -> bool {
        let parts = |state: &Self| {
            let (first, heard) = (state.first.unwrap_or(now), state.heard.unwrap_or(now));
            let silent = now.since(heard).as_millis().max(0);
            let lived = heard.since(first).as_millis().max(0) + LIVED.as_millis();
            (i128::from(silent), i128::from(lived))
        };
        let ((silent, lived), (other_silent, other_lived)) = (parts(self), parts(other));
        silent * other_lived > other_silent * lived
    }

    pub(super) fn apply(&mut self, fact: &Fact, now: Timestamp, clock: Clock, out: &mut DecideOut) {
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
            FactBody::Anomaly(anomaly) if self.stopped.keeps(anomaly) => return,
            FactBody::Anomaly(anomaly) => self.diagnoser.step(Symptom::Anomaly(anomaly)),
            FactBody::Outcome(outcome) => {
                let at = within(outcome.at, now);
                let finding = Finding::Outcome { outcome, at };
                return collect(self.remediator.step(finding, Some(&cause)), out);
            }
            FactBody::Command(command) => {
                let at = within(command.at, now);
                let finding = Finding::Command { command, at };
                return collect(self.remediator.step(finding, Some(&cause)), out);
            }
            FactBody::Progress(_) | FactBody::Epoch(_) => return,
        };
        self.hand_on(incidents, Some(&cause), clock, out);
    }

    /// Opens an incident where all telemetry has stopped, and ends it where some is back. Series that are silent by themselves
    /// are judged a few windows after that.
    pub(super) fn look_for_stop(
        &mut self,
        scope: &Arc<str>,
        silent: Option<Timestamp>,
        (now, window): (Timestamp, Span),
        clock: Clock,
        out: &mut DecideOut,
    ) {
        let settles = Span::from_millis(SETTLES * window.as_millis());
        let shards = self.shards.iter().flatten().cloned();
        let changed = self.stopped.look(scope, silent, shards, (now, settles));
        self.hand_on(changed.into_iter().collect(), None, clock, out);
        for anomaly in self.stopped.left(now) {
            let incidents = self.diagnoser.step(Symptom::Anomaly(&anomaly));
            self.hand_on(incidents, None, clock, out);
        }
    }

    /// Lets event time pass beat by beat, so that the rooms are told of the same times whenever marks happen to come. A mark
    /// brings the beats up to it; a fact, with `whole`, also the very moment before it.
    pub(super) fn pass_to(&mut self, reached: Timestamp, whole: bool, clock: Clock, out: &mut DecideOut) {
        if reached <= self.told {
            return;
        }
        let (beat, until) = (BEAT.as_millis(), reached.as_millis());
        if self.told != Timestamp::MIN {
            let from = self.told.as_millis().max(until.saturating_sub(LEAP.as_millis()));
            let mut next = (from.div_euclid(beat) + 1) * beat;
            while next <= until {
                self.told = Timestamp::from_millis(next);
                self.pass(self.told, clock, out);
                next += beat;
            }
        }
        if whole {
            self.told = reached;
            self.pass(reached, clock, out);
        }
    }

    pub(super) fn pass(&mut self, reached: Timestamp, clock: Clock, out: &mut DecideOut) {
        let incidents = self.diagnoser.step(Symptom::Time(reached));
        self.hand_on(incidents, None, clock, out);
        if clock == Clock::Event {
            collect(self.remediator.step(Finding::Time(reached), None), out);
        }
    }

    /// Incidents go to remediation in order, each after the timers that were due before it.
    pub(super) fn hand_on(
        &mut self,
        incidents: Vec<Incident>,
        cause: Option<&Cause>,
        clock: Clock,
        out: &mut DecideOut,
    ) {
        for mut incident in incidents {
            incident.judged_without.clone_from(&self.missing);
            if clock == Clock::Event {
                let before = Finding::Time(incident.updated_at.minus(TICK));
                collect(self.remediator.step(before, None), out);
            }
            collect(self.remediator.step(Finding::Incident(&incident), cause), out);
            out.incidents.push(incident);
        }
        out.verdicts.append(&mut self.diagnoser.take_verdicts());
    }
}
