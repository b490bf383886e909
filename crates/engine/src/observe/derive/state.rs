//! Seats of series in groups, and the snapshot of all.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use suture_config::DeriveRule;
use suture_event::stable_hash;

use super::{By, Derive, group::Group};

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
    rules: Vec<SavedRule>,
    seats: Vec<Seat>,
    left_out: u64,
}

#[derive(Serialize, Deserialize)]
struct SavedRule {
    groups: Vec<Group>,
    owners: Vec<(u32, u32)>,
    free: Vec<u32>,
    #[serde(with = "super::super::state::blob")]
    judge: Vec<u8>,
}

impl Derive {
    /// The whole state; nothing where there is no rule.
    pub(in super::super) fn snapshot(&self) -> Result<Option<Vec<u8>>, String> {
        if self.rules.is_empty() {
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
        let saved = Saved {
            shape: self.shape(),
            rules,
            seats: self.seats.clone(),
            left_out: self.left_out,
        };
        rmp_serde::to_vec_named(&saved).map(Some).map_err(|e| e.to_string())
    }

    /// Goes on from a snapshot. One that was made with other rules, or before there were any, starts every group anew.
    pub(in super::super) fn restore(&mut self, bytes: &[u8]) -> Result<(), String> {
        let saved: Saved = rmp_serde::from_slice(bytes).map_err(|e| e.to_string())?;
        if saved.shape != self.shape() {
            return Ok(());
        }
        for (rule, mut saved) in self.rules.iter_mut().zip(saved.rules) {
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
        }
        self.seats = saved.seats;
        self.left_out = saved.left_out;
        Ok(())
    }

    fn shape(&self) -> Vec<u64> {
        let hash = |spec: &DeriveRule| stable_hash([serde_json::to_vec(spec).unwrap_or_default().as_slice()]);
        self.rules.iter().map(|rule| hash(&rule.spec)).collect()
    }
}
