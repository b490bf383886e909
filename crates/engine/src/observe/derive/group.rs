//! One group: its members in the order of their hashes, and what is measured of them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use suture_config::{DeriveRule, ShareOf, SloRule};
use suture_detect::{
    mix::{Mix, Novelty},
    several::{Components, Covariance, Measured, Moment, Peers, Reading, Together},
    slo::Slo,
};
use suture_event::Timestamp;

use super::{
    NOBODY,
    made::{self, Last},
};
use crate::series::Series;

/// A series in a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Member {
    /// Its row in the windows.
    pub(super) row: u32,
    pub(super) hash: u64,
    /// End of the window it sent in last.
    pub(super) last: i64,
    /// Whether it counts bad events, or good ones, and whether it counts all.
    pub(super) told: bool,
    pub(super) total: bool,
    /// Events that a value of 1 in a window stands for.
    pub(super) weight: f64,
    /// Its own row in the judge, where members are judged.
    pub(super) judged: u32,
    /// What it is called within the group: a category, a value, or what tells it from the others.
    pub(super) named: Arc<str>,
}

/// What is known of a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum State {
    Peers(Peers),
    Together(Together),
    Covariance(Covariance),
    Components(Components),
    Mix(Mix),
    New(Novelty),
    Slo(Slo),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Group {
    /// The series that is made.
    pub(super) series: Series,
    /// Its row in the judge, unless members are judged.
    pub(super) judged: u32,
    pub(super) members: Vec<Member>,
    pub(super) state: State,
    /// Time of the newest sample.
    pub(super) newest: Timestamp,
    /// The window at hand: values, and who sent.
    #[serde(skip)]
    values: Vec<f64>,
    #[serde(skip)]
    sent: Vec<bool>,
    /// What the last window said, for words.
    #[serde(skip)]
    last: Last,
    #[serde(skip)]
    seen: Vec<u64>,
}

impl Group {
    pub(super) fn new(spec: &DeriveRule, series: Series, judged: u32) -> Self {
        let state = if spec.peers.is_some() {
            State::Peers(Peers::default())
        } else if spec.together.is_some() {
            State::Together(Together::default())
        } else if spec.covariance.is_some() {
            State::Covariance(Covariance::default())
        } else if spec.mix.is_some() {
            State::Mix(Mix::default())
        } else if spec.new_values.is_some() {
            State::New(Novelty::default())
        } else if let Some(slo) = &spec.slo {
            State::Slo(Slo::new(&slo.options()))
        } else {
            State::Components(Components::default())
        };
        Self {
            series,
            judged,
            members: Vec::new(),
            state,
            newest: Timestamp::MIN,
            values: Vec::new(),
            sent: Vec::new(),
            last: Last::default(),
            seen: Vec::new(),
        }
    }

    /// Room for the window at hand, after a restore.
    pub(super) fn ready(&mut self) {
        self.values.resize(self.members.len(), f64::NAN);
        self.sent.resize(self.members.len(), false);
    }

    /// Puts a member where its hash belongs.
    pub(super) fn insert(&mut self, member: Member) {
        let at = self.members.partition_point(|other| other.hash < member.hash);
        self.members.insert(at, member);
        self.values.insert(at.min(self.values.len()), f64::NAN);
        self.sent.insert(at.min(self.sent.len()), false);
        match &mut self.state {
            State::Peers(peers) => peers.add(at),
            State::Together(together) => together.add(at),
            State::Covariance(covariance) => covariance.add(at),
            State::Components(components) => components.add(at),
            State::Mix(_) | State::New(_) | State::Slo(_) => {}
        }
    }

    pub(super) fn remove(&mut self, member: u32) -> Option<Member> {
        let at = member as usize;
        if at >= self.members.len() {
            return None;
        }
        self.values.remove(at);
        self.sent.remove(at);
        match &mut self.state {
            State::Peers(peers) => peers.remove(at),
            State::Together(together) => together.remove(at),
            State::Covariance(covariance) => covariance.remove(at),
            State::Components(components) => components.remove(at),
            State::Mix(_) | State::New(_) | State::Slo(_) => {}
        }
        Some(self.members.remove(at))
    }

    /// Takes in a member's value of the window at hand.
    pub(super) fn take(&mut self, member: u32, value: f64, sent: bool, end: i64, at: Timestamp) {
        let place = member as usize;
        if let (Some(slot), Some(flag), Some(member)) = (
            self.values.get_mut(place),
            self.sent.get_mut(place),
            self.members.get_mut(place),
        ) {
            (*slot, *flag) = (value, sent);
            if sent {
                member.last = end;
                self.newest = self.newest.max(at);
            }
        }
    }

    /// Measures the window at hand, which is then over. `held` is whether something is open on a row of the judge; `sink`
    /// is called with each reading and the member it is about.
    pub(super) fn measure(
        &mut self,
        spec: &DeriveRule,
        moment: Moment,
        held: &dyn Fn(u32) -> bool,
        sink: &mut dyn FnMut(u32, Reading),
    ) {
        let holds = held(self.judged);
        let whole = match &mut self.state {
            State::Peers(peers) => {
                if let Some(options) = &spec.peers {
                    let members = &self.members;
                    let row = |at: usize| members.get(at).map_or(NOBODY, |member| member.judged);
                    peers.judge(options, &self.values, &|at| held(row(at)), &mut |at, measured| {
                        #[allow(clippy::cast_possible_truncation)] // bounded by the rule's option
                        sink(at as u32, reading(row(at), measured));
                    });
                }
                None
            }
            State::Together(together) => spec
                .together
                .as_ref()
                .and_then(|o| together.judge(o, &self.values, holds)),
            State::Covariance(cloud) => spec
                .covariance
                .as_ref()
                .and_then(|o| cloud.judge(o, &self.values, holds)),
            State::Components(parts) => spec
                .components
                .as_ref()
                .and_then(|o| parts.judge(o, &self.values, holds)),
            State::Mix(mix) => {
                if let Some(options) = &spec.mix {
                    for (member, value) in self.members.iter().zip(&self.values) {
                        mix.add(options, &member.named, value * member.weight);
                    }
                    let value = mix.close(options, moment.end.as_millis()).unwrap_or(f64::NAN);
                    sink(0, of_value(self.judged, value));
                }
                None
            }
            State::New(novelty) => {
                if let Some(options) = &spec.new_values {
                    self.seen.clear();
                    let there = self.members.iter().zip(&self.values).zip(&self.sent);
                    // a counter's first sample has no increase yet, and is there all the same
                    let there = there.filter(|((_, value), sent)| **sent && **value != 0.0);
                    self.seen
                        .extend(there.map(|((member, _), _)| made::mark(&member.named)));
                    self.seen.sort_unstable();
                    self.seen.dedup();
                    if let Some(novel) = novelty.update(options, moment.end.as_millis(), &self.seen, holds) {
                        self.last.novel = Some(novel);
                        sink(0, made::of_novel(self.judged, novel));
                    }
                }
                None
            }
            State::Slo(slo) => {
                if let Some(rule) = &spec.slo {
                    let (bad, all, any) = events(rule, &self.members, &self.values);
                    let span = (moment.start.as_millis(), moment.end.as_millis());
                    let counted = rule.share.is_none();
                    let burn = slo.update(&rule.options(), span, (bad, all), counted).filter(|_| any);
                    if let Some(burn) = burn {
                        self.last.burn = Some(burn);
                        sink(0, made::of_burn(self.judged, burn));
                    }
                }
                None
            }
        };
        if let Some(measured) = whole {
            self.last.measured = Some(measured);
            sink(0, reading(self.judged, measured));
        }
        // words are asked for after all groups were measured, of what the state keeps of its last window
        self.values.fill(f64::NAN);
        self.sent.fill(false);
    }

    /// What a reading means.
    pub(super) fn words(&self, spec: &DeriveRule, member: u32, value: f64) -> String {
        made::words(self, spec, member, value, &self.last)
    }

    /// What a member, or the group, does now is what it should do from now on. `row` is the member's in the windows.
    pub(super) fn accept(&mut self, row: u32) {
        let member = self.members.iter().position(|member| member.row == row);
        match &mut self.state {
            State::Peers(peers) => {
                if let Some(at) = member {
                    peers.accept(at);
                }
            }
            State::Together(together) => together.accept(),
            State::Covariance(covariance) => covariance.accept(),
            State::Components(components) => components.accept(),
            State::Mix(_) | State::New(_) | State::Slo(_) => {}
        }
    }
}

fn reading(row: u32, measured: Measured) -> Reading {
    Reading {
        row,
        value: measured.value,
        expected: measured.expected,
        scale: measured.scale,
        distance: measured.distance,
        probability: 1.0,
    }
}

/// A reading of which a bank makes out by itself how far it is.
const fn of_value(row: u32, value: f64) -> Reading {
    Reading {
        row,
        value,
        expected: 0.0,
        scale: 1.0,
        distance: 0.0,
        probability: 1.0,
    }
}

/// Bad events and all events of a window, and whether any member has a value.
fn events(rule: &SloRule, members: &[Member], values: &[f64]) -> (f64, f64, bool) {
    let (mut told, mut all, mut bad, mut any) = (0.0, 0.0, 0.0, false);
    for (member, value) in members.iter().zip(values).filter(|(_, value)| value.is_finite()) {
        any = true;
        if rule.bad.is_some() || rule.good.is_some() {
            let events = (value * member.weight).max(0.0);
            told += if member.told { events } else { 0.0 };
            all += if member.total { events } else { 0.0 };
            continue;
        }
        all += 1.0;
        bad += match (rule.share, rule.above, rule.below) {
            (Some(ShareOf::Bad), ..) => value.clamp(0.0, 1.0),
            (Some(ShareOf::Good), ..) => 1.0 - value.clamp(0.0, 1.0),
            (_, Some(above), _) => f64::from(u8::from(*value > above)),
            (.., Some(below)) => f64::from(u8::from(*value < below)),
            _ => 0.0,
        };
    }
    if rule.bad.is_some() {
        bad = told.min(all);
    } else if rule.good.is_some() {
        bad = (all - told).max(0.0);
    }
    (bad, all, any)
}
