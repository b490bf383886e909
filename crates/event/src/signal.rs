//! What kind of thing a series measures, as far as diagnosis cares.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The kinds of signal that diagnosis tells apart. Latency, errors and availability are symptoms and never a cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SignalKind {
    /// How long work takes.
    Latency,
    /// Work that failed, as a count or a share.
    Errors,
    /// Work that succeeded, as a share: falls when errors rise.
    Availability,
    /// How much work arrives.
    Traffic,
    /// Processor time used.
    Cpu,
    /// Memory used.
    Memory,
    /// Disk space or disk operations.
    Disk,
    /// Bytes or packets on the network.
    Network,
    /// A bounded resource's use: pools, queues, threads, connections.
    Saturation,
    /// A property of the machine below, which several services share.
    Node,
    /// Anything else.
    #[default]
    Other,
}

impl SignalKind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::Latency,
        Self::Errors,
        Self::Availability,
        Self::Traffic,
        Self::Cpu,
        Self::Memory,
        Self::Disk,
        Self::Network,
        Self::Saturation,
        Self::Node,
        Self::Other,
    ];

    /// Reads the kind off a metric's name by the words in it, whatever the case and separators.
    #[must_use]
    pub fn of_metric(metric: &str) -> Self {
        let name = metric.to_ascii_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
        if has(&["success", "availab"]) {
            Self::Availability
        } else if has(&["error", "fail", "5xx", "exception", "reject", "timeout"]) {
            Self::Errors
        } else if has(&["latency", "duration", "response_time", "responsetime", "elapsed", "_rt"]) {
            Self::Latency
        } else if name.starts_with("node") || has(&["host_", "node_"]) {
            Self::Node
        } else if has(&[
            "pool",
            "queue",
            "saturat",
            "backlog",
            "lag",
            "threads",
            "connections",
            "in_use",
            "inflight",
        ]) {
            Self::Saturation
        } else if has(&["disk", "filesystem", "fs_", "volume", "iops"]) {
            Self::Disk
        } else if has(&["cpu", "processor", "load1", "throttl"]) {
            Self::Cpu
        } else if has(&["mem", "heap", "rss", "gc_"]) {
            Self::Memory
        } else if has(&[
            "workload",
            "requests",
            "ops",
            "qps",
            "rps",
            "throughput",
            "traffic",
            "calls",
            "hits",
        ]) {
            Self::Traffic
        } else if has(&["network", "net_", "bytes", "packets", "syscall", "tcp"]) {
            Self::Network
        } else {
            Self::Other
        }
    }

    /// Whether signals of this kind only ever show an effect.
    #[must_use]
    pub const fn is_symptom(self) -> bool {
        matches!(self, Self::Latency | Self::Errors | Self::Availability)
    }

    /// The name used in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Latency => "latency",
            Self::Errors => "errors",
            Self::Availability => "availability",
            Self::Traffic => "traffic",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Network => "network",
            Self::Saturation => "saturation",
            Self::Node => "node",
            Self::Other => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read_off_the_names_people_give() {
        for (metric, kind) in [
            ("http.server.request.duration", SignalKind::Latency),
            ("PodServerLatencyP99(s)", SignalKind::Latency),
            ("PodSuccessRate(%)", SignalKind::Availability),
            ("CpuUsage(m)", SignalKind::Cpu),
            ("NodeCpuUsageRate(%)", SignalKind::Node),
            ("MemoryUsage(Mi)", SignalKind::Memory),
            ("PodWorkload(Ops)", SignalKind::Traffic),
            ("requests", SignalKind::Traffic),
            ("http_requests_5xx_total", SignalKind::Errors),
            ("db_pool_in_use", SignalKind::Saturation),
            ("disk_used_bytes", SignalKind::Disk),
            ("NetworkReceiveBytes", SignalKind::Network),
            ("speed", SignalKind::Other),
        ] {
            assert_eq!(SignalKind::of_metric(metric), kind, "{metric}");
        }
    }
}
