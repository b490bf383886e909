//! The model: what each sort of fault does to each kind of signal, where it sits and around there.
//!
//! A fault shows as a cell being off: one kind of signal of one service, on one side. For each sort of fault this says how
//! likely that is, by how far the cell's service is from the fault's along the call graph. Slowness and failures travel up,
//! to those who call; work travels down. Nothing here knows a metric's name, a system, or a number of a deviation.

use serde::{Deserialize, Serialize};
use suture_event::SignalKind;

/// On which side of its band a cell is, as far as faults care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Way {
    /// Above, or for a symptom to its bad side: slower, more failures.
    Up,
    /// Below; for a symptom to its good side.
    Down,
    /// Nothing is sent.
    Absent,
}

/// Where a cell's service is, seen from a fault's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Relation {
    /// It is the same service.
    Own,
    /// It calls the faulty service, with so many calls between, from 1.
    Up(u32),
    /// The faulty service calls it.
    Down(u32),
    /// A caller of the faulty service calls it as well.
    Sibling,
    /// Nothing is known of who calls whom.
    Unknown,
    /// The graph shows no way from the one to the other.
    Far,
}

/// A sort of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub(crate) enum Fault {
    /// Work fails.
    Failing,
    /// Work takes long, for no reason that is seen in its own resources.
    Slow,
    /// Processor time.
    Cpu,
    /// Memory.
    Memory,
    /// Disk.
    Disk,
    /// A bounded resource: pools, queues, connections.
    Saturation,
    /// The network of it.
    Network,
    /// The machine below.
    Node,
    /// It does not run, or does nothing.
    Down,
    /// Something else about it is off.
    #[default]
    Odd,
    /// More work comes in at it.
    Surge,
    /// Less work comes in at it.
    Ebb,
}

/// The faults of a service, with how common each is taken to be.
pub(crate) const FAULTS: [(Fault, f64); 10] = [
    (Fault::Failing, 0.2),
    (Fault::Slow, 0.18),
    (Fault::Cpu, 0.12),
    (Fault::Memory, 0.12),
    (Fault::Disk, 0.1),
    (Fault::Saturation, 0.1),
    (Fault::Network, 0.04),
    (Fault::Node, 0.03),
    (Fault::Down, 0.08),
    (Fault::Odd, 0.03),
];

/// With each call between, an effect is this much less likely to be seen.
const FADE: f64 = 0.85;

/// What has no way from the fault to it is off by chance.
const FAR: f64 = 0.0;

/// A symptom: failures and availability are one and the same.
fn is_failure(kind: SignalKind) -> bool {
    matches!(kind, SignalKind::Errors | SignalKind::Availability)
}

impl Fault {
    /// The chance that a cell of this kind, on this side and so related to the fault's service, is off because of it.
    pub(crate) fn effect(self, kind: SignalKind, way: Way, relation: Relation) -> f64 {
        let fade = |hops: u32| FADE.powi(i32::try_from(hops.saturating_sub(1)).unwrap_or(i32::MAX));
        // relief is a by-product of all sorts of things
        if kind.is_symptom() && way == Way::Down {
            return match relation {
                Relation::Far => FAR,
                _ => 0.1,
            };
        }
        match relation {
            Relation::Own => self.own(kind, way),
            Relation::Up(hops) => self.above(kind, way) * fade(hops),
            Relation::Down(hops) => self.below(kind, way) * fade(hops),
            Relation::Sibling => self.beside(kind, way),
            Relation::Unknown => self.anywhere(kind, way),
            // where more work comes in at one entrance it often does at others
            Relation::Far if matches!(self, Self::Surge | Self::Ebb) && kind == SignalKind::Traffic => {
                0.3 * self.below(kind, way)
            }
            Relation::Far => FAR,
        }
    }

    /// The kind of signal that the fault is in itself, where it is in one.
    pub(crate) const fn about(self) -> Option<SignalKind> {
        match self {
            Self::Cpu => Some(SignalKind::Cpu),
            Self::Memory => Some(SignalKind::Memory),
            Self::Disk => Some(SignalKind::Disk),
            Self::Saturation => Some(SignalKind::Saturation),
            Self::Network => Some(SignalKind::Network),
            Self::Node => Some(SignalKind::Node),
            _ => None,
        }
    }

    /// On the service itself.
    fn own(self, kind: SignalKind, way: Way) -> f64 {
        use SignalKind as K;
        if way == Way::Absent {
            return match self {
                Self::Down => 0.9,
                Self::Memory | Self::Node => 0.2,
                Self::Ebb if kind.is_symptom() => 0.5,
                _ => 0.05,
            };
        }
        let up = way == Way::Up;
        match self {
            Self::Failing => match kind {
                _ if is_failure(kind) => 0.97,
                K::Latency => 0.35,
                K::Saturation => 0.25,
                K::Cpu | K::Network | K::Other => 0.2,
                K::Traffic => 0.15,
                _ => 0.08,
            },
            Self::Slow => match kind {
                K::Latency => 0.97,
                _ if is_failure(kind) => 0.4,
                K::Saturation if up => 0.4,
                K::Cpu | K::Network | K::Other => 0.2,
                K::Traffic => 0.2,
                _ => 0.1,
            },
            Self::Cpu => match kind {
                K::Cpu if up => 0.97,
                K::Latency => 0.7,
                _ if is_failure(kind) => 0.25,
                K::Saturation | K::Other | K::Node => 0.3,
                K::Traffic | K::Network | K::Memory => 0.15,
                _ => 0.05,
            },
            Self::Memory => match kind {
                K::Memory if up => 0.97,
                K::Latency | K::Cpu => 0.3,
                _ if is_failure(kind) => 0.25,
                K::Saturation | K::Other => 0.2,
                _ => 0.08,
            },
            Self::Disk => match kind {
                K::Disk if up => 0.97,
                K::Disk => 0.4,
                K::Latency => 0.5,
                _ if is_failure(kind) => 0.35,
                K::Cpu | K::Saturation | K::Other => 0.2,
                _ => 0.08,
            },
            Self::Saturation => match kind {
                K::Saturation if up => 0.97,
                K::Latency => 0.7,
                _ if is_failure(kind) => 0.55,
                K::Cpu | K::Traffic | K::Other | K::Network => 0.2,
                _ => 0.08,
            },
            Self::Network => match kind {
                K::Network => 0.95,
                K::Latency => 0.7,
                _ if is_failure(kind) => 0.4,
                K::Traffic | K::Cpu | K::Saturation => 0.25,
                _ => 0.08,
            },
            Self::Node => match kind {
                K::Node => 0.95,
                K::Latency | K::Cpu => 0.5,
                _ => 0.25,
            },
            Self::Down => match kind {
                K::Traffic if !up => 0.85,
                K::Cpu | K::Network if !up => 0.75,
                K::Other => 0.5,
                K::Saturation | K::Memory if !up => 0.4,
                _ if is_failure(kind) => 0.3,
                K::Latency | K::Memory => 0.15,
                _ => 0.03,
            },
            Self::Odd => match kind {
                K::Other => 0.9,
                _ => 0.4,
            },
            Self::Surge => match kind {
                K::Traffic if up => 0.98,
                K::Cpu | K::Network if up => 0.7,
                K::Latency => 0.5,
                K::Saturation | K::Other if up => 0.45,
                // where failures are counted, more work is more of them
                _ if is_failure(kind) => 0.35,
                K::Memory | K::Disk if up => 0.2,
                _ => 0.03,
            },
            Self::Ebb => match kind {
                K::Traffic if !up => 0.98,
                K::Cpu | K::Network if !up => 0.7,
                K::Saturation | K::Other if !up => 0.45,
                K::Memory | K::Disk if !up => 0.2,
                _ => 0.03,
            },
        }
    }

    /// On those who call it.
    fn above(self, kind: SignalKind, way: Way) -> f64 {
        use SignalKind as K;
        if way == Way::Absent {
            return 0.03;
        }
        let (failure, latency, saturation) = match self {
            Self::Failing => (0.8, 0.2, 0.1),
            Self::Slow => (0.4, 0.75, 0.3),
            Self::Cpu => (0.15, 0.55, 0.2),
            Self::Memory => (0.15, 0.2, 0.1),
            Self::Disk | Self::Saturation | Self::Network | Self::Node => (0.5, 0.6, 0.3),
            Self::Down => (0.85, 0.6, 0.3),
            Self::Odd => (0.2, 0.2, 0.1),
            Self::Surge | Self::Ebb => (0.05, 0.05, 0.05),
        };
        match kind {
            _ if is_failure(kind) => failure,
            K::Latency => latency,
            K::Saturation => saturation,
            K::Traffic if way == Way::Down => 0.15,
            K::Cpu | K::Network | K::Traffic | K::Other => 0.06,
            _ => 0.02,
        }
    }

    /// On those it calls.
    fn below(self, kind: SignalKind, way: Way) -> f64 {
        use SignalKind as K;
        match self {
            Self::Surge => match (kind, way) {
                (K::Traffic, Way::Up) => 0.85,
                (K::Cpu | K::Network, Way::Up) => 0.65,
                (K::Latency, Way::Up) => 0.5,
                (K::Saturation | K::Other, Way::Up) => 0.35,
                (K::Memory | K::Disk, Way::Up) => 0.1,
                (K::Errors | K::Availability, Way::Up) => 0.35,
                _ => 0.02,
            },
            Self::Down | Self::Ebb => match (kind, way) {
                (K::Traffic, Way::Down) => 0.7,
                (K::Cpu | K::Network, Way::Down) => 0.5,
                // no work, no latency
                (K::Latency | K::Errors | K::Availability, Way::Absent) => 0.4,
                (K::Saturation | K::Other, Way::Down) => 0.2,
                _ => 0.02,
            },
            _ => match (kind, way) {
                (K::Traffic, Way::Down) => 0.2,
                (K::Traffic, Way::Up) => 0.25,
                (K::Cpu | K::Network, _) => 0.06,
                (K::Latency | K::Errors | K::Availability, Way::Absent) => 0.1,
                _ => 0.015,
            },
        }
    }

    /// On those that its callers call as well.
    fn beside(self, kind: SignalKind, way: Way) -> f64 {
        match (self, kind, way) {
            (Self::Node, SignalKind::Node | SignalKind::Cpu | SignalKind::Latency, _) => 0.3,
            (Self::Surge | Self::Ebb, _, _) => 0.8 * self.below(kind, way),
            // a caller that is held up by one service sends less to the others
            (_, SignalKind::Traffic | SignalKind::Network, Way::Down) => 0.6,
            (_, SignalKind::Cpu, Way::Down) => 0.1,
            _ => 0.01,
        }
    }

    /// On any other service, where nobody knows who calls whom.
    fn anywhere(self, kind: SignalKind, way: Way) -> f64 {
        let above = 0.4 * self.above(kind, way);
        let below = match self {
            Self::Surge | Self::Ebb => 0.9 * self.below(kind, way),
            _ => 0.3 * self.below(kind, way),
        };
        above.max(below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_are_chances_and_fade_with_distance() {
        let all = FAULTS.iter().map(|(fault, _)| *fault).chain([Fault::Surge, Fault::Ebb]);
        for fault in all {
            for kind in SignalKind::ALL {
                for way in [Way::Up, Way::Down, Way::Absent] {
                    let of = |relation| fault.effect(kind, way, relation);
                    for relation in [
                        Relation::Own,
                        Relation::Up(1),
                        Relation::Down(1),
                        Relation::Sibling,
                        Relation::Unknown,
                    ] {
                        assert!(
                            of(relation) > 0.0 && of(relation) < 1.0,
                            "{fault:?} {kind:?} {way:?} {relation:?}"
                        );
                    }
                    assert!(of(Relation::Up(1)) >= of(Relation::Up(3)));
                    assert!(of(Relation::Down(1)) >= of(Relation::Down(3)));
                }
            }
        }
        let shares: f64 = FAULTS.iter().map(|(_, share)| share).sum();
        assert!((shares - 1.0).abs() < 1e-9);
    }
}
