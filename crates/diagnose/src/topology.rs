//! Who calls whom, within bounds.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use suture_event::SignalKind;

use crate::background::Watched;

/// A service's number, in order of first mention.
pub(crate) type ServiceId = u32;

/// The call graph of one scope. Services beyond the bound have no number and no place in it; edges beyond theirs are
/// counted and ignored.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Topology {
    names: Vec<Arc<str>>,
    ids: BTreeMap<Arc<str>, ServiceId>,
    callees: Vec<BTreeSet<ServiceId>>,
    callers: Vec<BTreeSet<ServiceId>>,
    /// The kinds of signal that the service has telemetry of, a bit each.
    watched: Vec<u16>,
    edges: usize,
    /// Services and edges that found no room.
    pub(crate) left_out: u64,
}

/// How many services are watched in each kind of signal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Census {
    by_kind: [f64; u16::BITS as usize],
}

impl Census {
    /// How much is watched, in all and of one kind.
    pub(crate) fn about(&self, kind: SignalKind) -> Watched {
        Watched {
            all: self.by_kind.iter().sum(),
            of_kind: self.by_kind.get(kind as usize).copied().unwrap_or(0.0),
        }
    }
}

/// Services visited by one walk; a wider neighbourhood is cut in order of distance, then of number.
const WALK: usize = 512;

impl Topology {
    /// The number of a service, given now if there is room.
    pub(crate) fn service(&mut self, name: &Arc<str>, limit: usize) -> Option<ServiceId> {
        if let Some(id) = self.ids.get(name) {
            return Some(*id);
        }
        let id = ServiceId::try_from(self.names.len())
            .ok()
            .filter(|_| self.names.len() < limit);
        let Some(id) = id else {
            self.left_out += 1;
            return None;
        };
        self.names.push(Arc::clone(name));
        self.ids.insert(Arc::clone(name), id);
        self.callees.push(BTreeSet::new());
        self.callers.push(BTreeSet::new());
        self.watched.push(0);
        Some(id)
    }

    /// The number of a service already known.
    pub(crate) fn find(&self, name: &str) -> Option<ServiceId> {
        self.ids.get(name).copied()
    }

    /// The name behind a number.
    pub(crate) fn name(&self, id: ServiceId) -> Option<&Arc<str>> {
        self.names.get(id as usize)
    }

    /// Notes that a service has telemetry of its own, of this kind.
    pub(crate) fn watch(&mut self, id: ServiceId, kind: SignalKind) {
        if let Some(watched) = self.watched.get_mut(id as usize) {
            *watched |= 1 << kind as u16;
        }
    }

    /// Whether a service has telemetry of this kind.
    pub(crate) fn watches(&self, id: ServiceId, kind: SignalKind) -> bool {
        self.watched
            .get(id as usize)
            .is_some_and(|kinds| kinds & (1 << kind as u16) != 0)
    }

    /// Whether it has.
    pub(crate) fn is_watched(&self, id: ServiceId) -> bool {
        self.watched.get(id as usize).is_some_and(|kinds| *kinds != 0)
    }

    /// How many services have.
    pub(crate) fn count_watched(&self) -> usize {
        self.watched.iter().filter(|watched| **watched != 0).count()
    }

    /// How many kinds of signal of how many services are watched, all told.
    pub(crate) fn count_cells(&self) -> u32 {
        self.watched.iter().map(|kinds| kinds.count_ones()).sum()
    }

    /// The same by kind. Takes a look at every service, so it is asked for once for many signals.
    pub(crate) fn census(&self) -> Census {
        let mut by_kind = [0.0; u16::BITS as usize];
        for kinds in &self.watched {
            for (bit, count) in by_kind.iter_mut().enumerate() {
                *count += f64::from((kinds >> bit) & 1);
            }
        }
        Census { by_kind }
    }

    /// Adds `from` calls `to`, if both services and the edge find room.
    pub(crate) fn connect(&mut self, from: &Arc<str>, to: &Arc<str>, services: usize, edges: usize) {
        if from == to {
            return;
        }
        let (Some(a), Some(b)) = (self.service(from, services), self.service(to, services)) else {
            return;
        };
        if self.calls(a, b) {
            return;
        }
        if self.edges >= edges {
            self.left_out += 1;
            return;
        }
        self.edges += 1;
        if let Some(set) = self.callees.get_mut(a as usize) {
            set.insert(b);
        }
        if let Some(set) = self.callers.get_mut(b as usize) {
            set.insert(a);
        }
    }

    /// Whether `a` calls `b` directly.
    pub(crate) fn calls(&self, a: ServiceId, b: ServiceId) -> bool {
        self.callees.get(a as usize).is_some_and(|set| set.contains(&b))
    }

    /// Whether anything at all is known of who calls whom.
    pub(crate) fn has_edges(&self) -> bool {
        self.edges > 0
    }

    /// Whether nobody is known to call it: where work enters.
    pub(crate) fn is_entry(&self, id: ServiceId) -> bool {
        self.callers.get(id as usize).is_none_or(BTreeSet::is_empty)
    }

    /// Services on whom `from` depends, with the calls in between: 1 for those it calls itself.
    pub(crate) fn below(&self, from: ServiceId, hops: u32) -> Vec<(ServiceId, u32)> {
        walk(from, hops, |id| self.callees.get(id as usize).into_iter().flatten())
    }

    /// Services that depend on `from`, with the calls in between.
    pub(crate) fn above(&self, from: ServiceId, hops: u32) -> Vec<(ServiceId, u32)> {
        walk(from, hops, |id| self.callers.get(id as usize).into_iter().flatten())
    }

    /// Services that a caller of `of` calls too, each with distance 1.
    pub(crate) fn siblings(&self, of: ServiceId) -> Vec<(ServiceId, u32)> {
        let callers = self.callers.get(of as usize).into_iter().flatten();
        let shared = callers.flat_map(|caller| self.callees.get(*caller as usize).into_iter().flatten());
        shared
            .copied()
            .filter(|id| *id != of)
            .take(WALK)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .map(|id| (id, 1))
            .collect()
    }

    /// Services within so many calls, either way at each, itself included: those that share a caller are two apart.
    pub(crate) fn around(&self, from: ServiceId, hops: u32) -> BTreeSet<ServiceId> {
        let either = |id: ServiceId| {
            let down = self.callees.get(id as usize).into_iter().flatten();
            down.chain(self.callers.get(id as usize).into_iter().flatten())
        };
        walk(from, hops, either)
            .into_iter()
            .map(|(service, _)| service)
            .chain([from])
            .collect()
    }
}

/// Breadth first, so that each service comes with its least distance.
fn walk<'a, I>(from: ServiceId, hops: u32, next_to: impl Fn(ServiceId) -> I) -> Vec<(ServiceId, u32)>
where
    I: Iterator<Item = &'a ServiceId>,
{
    let mut seen = BTreeSet::from([from]);
    let mut found = Vec::new();
    let mut edge = vec![from];
    for hop in 1..=hops {
        let mut next = Vec::new();
        for id in edge {
            for &to in next_to(id) {
                if found.len() < WALK && seen.insert(to) {
                    found.push((to, hop));
                    next.push(to);
                }
            }
        }
        edge = next;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> Topology {
        let mut topology = Topology::default();
        for (a, b) in [("web", "cart"), ("cart", "db"), ("web", "ads")] {
            topology.connect(&a.into(), &b.into(), 10, 10);
        }
        topology
    }

    #[test]
    fn walks_give_each_service_its_least_distance() {
        let topology = chain();
        let web = topology.find("web").unwrap();
        let named: Vec<_> = topology
            .below(web, 3)
            .iter()
            .map(|(id, hop)| (topology.name(*id).unwrap().to_string(), *hop))
            .collect();
        assert_eq!(
            named,
            [("cart".to_owned(), 1), ("ads".to_owned(), 1), ("db".to_owned(), 2)]
        );
        assert!(topology.is_entry(web));
        assert!(!topology.is_entry(topology.find("db").unwrap()));
    }

    #[test]
    fn what_finds_no_room_is_counted_and_left_out() {
        let mut topology = chain();
        topology.connect(&"web".into(), &"new".into(), 4, 10);
        assert_eq!((topology.find("new"), topology.left_out), (None, 1));
        topology.connect(&"ads".into(), &"db".into(), 4, 3);
        assert_eq!(topology.left_out, 2);
        topology.connect(&"web".into(), &"cart".into(), 4, 3);
        assert_eq!(topology.left_out, 2, "an edge that is known takes no room");
    }
}
