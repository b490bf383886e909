//! What breaks, and what mends it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use suture_event::Timestamp;

/// The kinds of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// A deploy brings failures, processor use or slowness, within a minute or so of it.
    BadDeploy,
    /// Memory grows until instances are killed and start again; begun by a deploy, or by itself.
    MemoryLeak,
    /// Connections are taken and not given back until the pool has none left.
    SaturatedPool,
    /// What the service waits for became slow: its processor is idle meanwhile.
    SlowDependency,
    /// A disk fills until writes fail.
    FullDisk,
}

impl FaultKind {
    /// All kinds.
    pub const ALL: [Self; 5] = [
        Self::BadDeploy,
        Self::MemoryLeak,
        Self::SaturatedPool,
        Self::SlowDependency,
        Self::FullDisk,
    ];

    /// The name used in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadDeploy => "bad_deploy",
            Self::MemoryLeak => "memory_leak",
            Self::SaturatedPool => "saturated_pool",
            Self::SlowDependency => "slow_dependency",
            Self::FullDisk => "full_disk",
        }
    }
}

/// Who mended a fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Healer {
    /// An action, by its id.
    Action(Arc<str>),
    /// Somebody on call, after [`crate::Options::fault_lasts`].
    OnCall,
}

/// One injected fault: the ground truth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// Its place in [`crate::Shop::truth`], which is by time.
    pub id: usize,
    /// What breaks.
    pub kind: FaultKind,
    /// Where.
    pub service: Arc<str>,
    /// From when it has an effect.
    pub start: Timestamp,
    /// The deploy that brought it, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Arc<str>>,
    /// When the cause was removed; signals follow within a minute or two.
    pub healed_at: Option<Timestamp>,
    /// Who removed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healed_by: Option<Healer>,
}

impl Fault {
    /// The actions that remove this fault's cause; every other action leaves it.
    #[must_use]
    pub const fn remedies(&self) -> &'static [ActionKind] {
        match self.kind {
            FaultKind::BadDeploy => &[ActionKind::Rollback],
            FaultKind::MemoryLeak if self.change.is_some() => &[ActionKind::Rollback],
            FaultKind::MemoryLeak => &[ActionKind::Restart],
            FaultKind::SaturatedPool => &[ActionKind::RaisePool, ActionKind::ScaleOut],
            FaultKind::SlowDependency => &[ActionKind::Failover],
            FaultKind::FullDisk => &[ActionKind::CleanDisk],
        }
    }

    /// Whether it has begun by then and is not healed by then.
    #[must_use]
    pub fn is_active(&self, at: Timestamp) -> bool {
        self.start <= at && self.healed_at.is_none_or(|healed| at < healed)
    }
}

/// What the shop's operators can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionKind {
    /// Take a deploy back: the one in parameter `change`, in the request's `change`, or else the service's latest.
    Rollback,
    /// Put a deploy that was taken back in place again.
    Redeploy,
    /// Start all instances anew, one after the other.
    Restart,
    /// More connections.
    RaisePool,
    /// As many connections as before.
    LowerPool,
    /// One instance more.
    ScaleOut,
    /// One instance less, never below what the shop began with.
    ScaleIn,
    /// Remove what fills the disk, or enlarge it.
    CleanDisk,
    /// Use the other provider or replica.
    Failover,
    /// Use the first provider or replica again.
    Failback,
}

impl ActionKind {
    /// Reads an action's name as playbooks write it, with the names that people also use.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "rollback" | "roll_back" | "revert" => Self::Rollback,
            "redeploy" | "roll_forward" | "deploy" => Self::Redeploy,
            "restart" | "restart_pods" | "rolling_restart" => Self::Restart,
            "raise_pool" | "raise_limit" | "scale_pool" => Self::RaisePool,
            "lower_pool" | "lower_limit" => Self::LowerPool,
            "scale_out" | "scale_up" | "scale" => Self::ScaleOut,
            "scale_in" | "scale_down" => Self::ScaleIn,
            "clean_disk" | "free_disk" | "expand_disk" | "clean_up" => Self::CleanDisk,
            "failover" | "fail_over" | "switch_dependency" | "isolate" | "circuit_break" => Self::Failover,
            "failback" | "fail_back" | "restore_dependency" => Self::Failback,
            _ => return None,
        })
    }

    /// The name it is known by first.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rollback => "rollback",
            Self::Redeploy => "redeploy",
            Self::Restart => "restart",
            Self::RaisePool => "raise_pool",
            Self::LowerPool => "lower_pool",
            Self::ScaleOut => "scale_out",
            Self::ScaleIn => "scale_in",
            Self::CleanDisk => "clean_disk",
            Self::Failover => "failover",
            Self::Failback => "failback",
        }
    }

    /// Seconds it takes, at least and at most.
    pub(crate) const fn seconds(self) -> (i64, i64) {
        match self {
            Self::Rollback | Self::Redeploy => (45, 90),
            Self::Restart | Self::ScaleOut | Self::ScaleIn => (40, 70),
            Self::CleanDisk => (30, 60),
            Self::RaisePool | Self::LowerPool | Self::Failover | Self::Failback => (30, 45),
        }
    }

    /// Whether instances start anew, one after the other, while it is under way.
    pub(crate) const fn restarts(self) -> bool {
        matches!(self, Self::Rollback | Self::Redeploy | Self::Restart)
    }

    /// The action that a reversal of this kind undoes.
    pub(crate) const fn undoes(self) -> Option<Self> {
        match self {
            Self::Redeploy => Some(Self::Rollback),
            Self::LowerPool => Some(Self::RaisePool),
            Self::ScaleIn => Some(Self::ScaleOut),
            Self::Failback => Some(Self::Failover),
            _ => None,
        }
    }
}
