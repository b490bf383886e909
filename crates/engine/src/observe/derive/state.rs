//! Seats of series in groups, and the snapshot of all.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use suture_config::DeriveRule;
use suture_event::{Anomaly, Timestamp};

use super::{super::terms::bare, By, Derive, NOBODY, Rule, group::Group};
use crate::{blob::Blob, series::SeriesTable, written::fingerprint_of};

/// Where a series is a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) rule: u32,
    pub(super) group: u32,
    pub(super) member: u32,
}

/// The seats of one row of the windows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Seat {
    /// The series that they are given to, once they are.
    pub(super) taken: bool,
    pub(super) hash: u64,
    pub(super) weight: f64,
    pub(super) places: Vec<Place>,
    /// Whether there are rules that are newer than these places.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) due: bool,
}

impl Seat {
    pub(super) fn sits(&mut self, rule: u32, group: u32, member: u32) {
        let known = self
            .places
            .iter_mut()
            .find(|place| (place.rule, place.group) == (rule, group));
        match known {
            Some(place) => place.member = member,
            None => self.places.push(Place { rule, group, member }),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Saved {
    /// What each rule depends on.
    shape: Vec<u64>,
    /// The rules in full. Absent in snapshots of earlier programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    specs: Option<Blob>,
    rules: Vec<SavedRule>,
    seats: Vec<Seat>,
    left_out: u64,
    /// Rules that are newer than some seats.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    newer: Vec<u32>,
}

#[derive(Serialize, Deserialize)]
struct SavedRule {
    groups: Vec<Group>,
    owners: Vec<(u32, u32)>,
    free: Vec<u32>,
    #[serde(with = "crate::blob")]
    judge: Vec<u8>,
}

impl Derive {
    /// The whole state; nothing where there is no rule.
    pub(in super::super) fn snapshot(&self) -> Result<Option<Vec<u8>>, String> {
        if self.written == 0 && self.seats.is_empty() {
            return Ok(None);
        }
        let mut rules = Vec::with_capacity(self.rules.len());
        for rule in &self.rules {
            let judge = match &rule.judge {
                By::Distances(distances) => distances.snapshot(),
                By::Bank(bank) => bank.snapshot(),
            };
            rules.push(SavedRule {
                groups: rule.groups.clone(),
                owners: rule.owners.clone(),
                free: rule.free.clone(),
                judge: judge.map_err(|e| e.to_string())?,
            });
        }
        let specs: Vec<&DeriveRule> = self.rules.iter().map(|rule| rule.spec.as_ref()).collect();
        let saved = Saved {
            shape: self.shape(),
            specs: rmp_serde::to_vec_named(&specs).ok().map(Blob),
            rules,
            seats: self.seats.clone(),
            left_out: self.left_out,
            newer: self.newer.clone(),
        };
        rmp_serde::to_vec_named(&saved).map(Some).map_err(|e| e.to_string())
    }

    /// Goes on from a snapshot with what fits, and says what ended with the rest: rules that are as they were keep their
    /// groups, less the members whose series do not go on. `places` gives the new row of each row of the snapshot,
    /// [`NOBODY`] where its series does not go on, and `table` knows them by their former rows. Where not even the context
    /// `fits`, or where a program wrote it that kept no more of other rules than their hashes, every group starts anew.
    pub(in super::super) fn restore(
        &mut self,
        bytes: &[u8],
        fits: bool,
        places: &[u32],
        table: &SeriesTable,
        at: Timestamp,
    ) -> Result<Vec<(Anomaly, Arc<str>)>, String> {
        let saved: Saved = rmp_serde::from_slice(bytes).map_err(|e| e.to_string())?;
        let Some(specs) = self.former(&saved) else {
            return Ok(Vec::new());
        };
        let mut former = self.loaded(&specs, saved)?;
        if fits && self.same(&specs) && (0..).zip(places).all(|(row, place)| row == *place) {
            (self.rules, self.seats) = (former.rules, former.seats);
            (self.left_out, self.newer) = (former.left_out, former.newer);
            return Ok(Vec::new());
        }
        let mut ended = Vec::new();
        let gone = (0..).zip(places).filter(|(_, place)| **place == NOBODY);
        for (row, _) in gone {
            ended.append(&mut former.forget(row, table, at));
        }
        let mut rules: Vec<Option<Rule>> = std::mem::take(&mut former.rules).into_iter().map(Some).collect();
        let mut renamed = vec![None; rules.len()];
        self.newer.clear();
        for (number, mine) in (0..).zip(&mut self.rules) {
            let same = |rule: &Option<Rule>| {
                rule.as_ref()
                    .is_some_and(|rule| fits && bare(&rule.spec) == bare(&mine.spec))
            };
            let Some(from) = rules.iter().position(same) else {
                self.newer.push(number);
                continue;
            };
            renamed[from] = Some(number);
            if let Some(rule) = rules[from].take() {
                *mine = rule.moved(number, places);
            }
        }
        for mut rule in rules.into_iter().flatten() {
            for judged in (0..).take(rule.owners.len()) {
                ended.extend(rule.end(judged, table, at));
            }
        }
        self.seats = former.seats_moved(places, &renamed, !self.newer.is_empty());
        self.left_out = former.left_out;
        // who was due for a rule that was newer then still is
        let still = former.newer.iter().filter_map(|rule| *renamed.get(*rule as usize)?);
        self.newer.extend(still);
        Ok(ended)
    }

    /// The rules that a snapshot was made with, where they can be told.
    fn former(&self, saved: &Saved) -> Option<Vec<DeriveRule>> {
        if let Some(Blob(bytes)) = &saved.specs
            && let Ok(specs) = rmp_serde::from_slice::<Vec<DeriveRule>>(bytes)
            && specs.len() == saved.rules.len()
        {
            return Some(specs);
        }
        let of = |hash: &u64| {
            self.rules
                .iter()
                .find(|rule| fingerprint_of(rule.spec.as_ref()) == *hash)
        };
        saved
            .shape
            .iter()
            .map(|hash| Some(of(hash)?.spec.as_ref().clone()))
            .collect()
    }

    fn same(&self, specs: &[DeriveRule]) -> bool {
        let mine = self.rules.iter().map(|rule| bare(&rule.spec));
        mine.eq(specs.iter().map(bare))
    }

    /// A fold with those rules, in the state that was saved.
    fn loaded(&self, specs: &[DeriveRule], saved: Saved) -> Result<Self, String> {
        let mut rules = Vec::with_capacity(specs.len());
        for (spec, mut saved) in specs.iter().zip(saved.rules) {
            let mut rule = Rule::new(spec, self.shared)?;
            match &mut rule.judge {
                By::Distances(distances) => distances.restore(&saved.judge),
                By::Bank(bank) => bank.restore(&saved.judge),
            }
            .map_err(|e| e.to_string())?;
            saved.groups.iter_mut().for_each(Group::ready);
            // those that gave way to another are not among them
            rule.found = (0..)
                .zip(&saved.groups)
                .map(|(at, group)| (group.series.hash, at))
                .collect::<BTreeMap<_, u32>>();
            (rule.groups, rule.owners, rule.free) = (saved.groups, saved.owners, saved.free);
            rules.push(rule);
        }
        Ok(Self {
            rules,
            seats: saved.seats,
            written: self.written,
            left_out: saved.left_out,
            newer: saved.newer,
            context: self.context.clone(),
            shared: self.shared,
            ..Self::default()
        })
    }

    /// The seats by new rows, of the rules that go on under their new numbers.
    fn seats_moved(&self, places: &[u32], renamed: &[Option<u32>], due: bool) -> Vec<Seat> {
        let stay = places.iter().filter(|place| **place != NOBODY).count();
        let mut seats = Vec::new();
        seats.resize_with(stay, Seat::default);
        for (seat, place) in self.seats.iter().zip(places) {
            let Some(slot) = seats.get_mut(*place as usize) else {
                continue;
            };
            let kept = seat.places.iter().filter_map(|place| {
                let rule = renamed.get(place.rule as usize).copied().flatten()?;
                Some(Place { rule, ..*place })
            });
            *slot = Seat {
                places: kept.collect(),
                due: seat.due || due && seat.taken,
                ..seat.clone()
            };
        }
        seats
    }

    fn shape(&self) -> Vec<u64> {
        self.rules
            .iter()
            .map(|rule| fingerprint_of(rule.spec.as_ref()))
            .collect()
    }
}

impl Rule {
    /// The same rule under another number, with its members' rows as they are now. Those who have none must be gone.
    fn moved(mut self, number: u32, places: &[u32]) -> Self {
        let now = |row: u32| places.get(row as usize).copied().unwrap_or(NOBODY);
        for group in &mut self.groups {
            group.series.rule = number;
            for member in &mut group.members {
                member.row = now(member.row);
            }
        }
        for (_, row) in &mut self.owners {
            *row = now(*row);
        }
        self
    }
}
