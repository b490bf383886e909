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
            // how many were timed
            let counts = ["_count", ".count"].iter().any(|end| name.ends_with(end));
            if counts { Self::Traffic } else { Self::Latency }
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

    /// The kind of a series with these labels, where it would otherwise be of this one: traffic that a label calls failed
    /// is errors, by the conventions of OpenTelemetry and Prometheus. A status of `5xx` or 500 to 599 is failed (`status`,
    /// `code`, `status_code`, `response_code`, `http.response.status_code` and the like), and so is what has an `error.type`.
    #[must_use]
    pub fn of_labels<'l>(self, labels: impl IntoIterator<Item = (&'l str, &'l str)>) -> Self {
        let failed = |(name, value): (&str, &str)| {
            let name = name.to_ascii_lowercase().replace(['.', '-'], "_");
            match name.as_str() {
                "error_type" => !value.is_empty(),
                "status"
                | "code"
                | "status_code"
                | "response_code"
                | "status_class"
                | "http_status"
                | "http_code"
                | "http_status_code"
                | "http_response_status_code" => is_server_error(value),
                _ => false,
            }
        };
        match self {
            Self::Traffic if labels.into_iter().any(failed) => Self::Errors,
            other => other,
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

/// Whether a status is one of HTTP's by which a server says that it failed, or their class.
fn is_server_error(status: &str) -> bool {
    match status.as_bytes() {
        [b'5', tens, ones] => {
            let class = tens.eq_ignore_ascii_case(&b'x') && ones.eq_ignore_ascii_case(&b'x');
            class || (tens.is_ascii_digit() && ones.is_ascii_digit())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_that_a_label_calls_failed_is_errors() {
        for (name, value, kind) in [
            ("status", "500", SignalKind::Errors),
            ("code", "5xx", SignalKind::Errors),
            ("code", "5XX", SignalKind::Errors),
            ("http.response.status_code", "503", SignalKind::Errors),
            ("http_status_code", "599", SignalKind::Errors),
            ("error.type", "java.net.ConnectException", SignalKind::Errors),
            ("error.type", "", SignalKind::Traffic),
            ("status", "200", SignalKind::Traffic),
            ("status", "404", SignalKind::Traffic),
            ("status", "5000", SignalKind::Traffic),
            ("code", "5x1", SignalKind::Traffic),
            ("host", "500", SignalKind::Traffic),
        ] {
            assert_eq!(
                SignalKind::Traffic.of_labels([("service", "cart"), (name, value)]),
                kind,
                "{name}={value}"
            );
        }
        for kind in SignalKind::ALL.into_iter().filter(|kind| *kind != SignalKind::Traffic) {
            assert_eq!(kind.of_labels([("status", "500")]), kind);
        }
    }

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
