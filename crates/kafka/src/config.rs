//! Settings: the user's, and those that exactly once rests on.

use std::collections::BTreeMap;

use rdkafka::{ClientConfig, ClientContext, config::RDKafkaLogLevel, consumer::ConsumerContext, error::KafkaError};
use tracing::{debug, error, info, warn};

/// Which protocol a group is run by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// The classic one, with cooperative-sticky assignment.
    #[default]
    Cooperative,
    /// The one of KIP-848, in which the broker assigns; needs Kafka 4.
    Consumer,
}

/// How a cluster is reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// Any of librdkafka's settings, passed on as they are; `bootstrap.servers` is `localhost:9092` where it is missing.
    pub client: BTreeMap<String, String>,
    /// Which protocol groups are run by.
    pub protocol: Protocol,
}

/// What a consumer is for.
pub(crate) enum Role<'a> {
    /// Questions about topics.
    Asker,
    /// Questions about a group's offsets.
    Offsets(&'a str),
    /// The same, whatever transactions are about to change.
    LastOffsets(&'a str),
    /// A member of a group.
    Member(&'a str, suture_log::Isolation),
    /// Reading a partition outside of any group.
    Reader(suture_log::Isolation),
}

/// Of a user's settings, the ones that would take away what the program promises. They are set by the program itself.
const OWN: [&str; 9] = [
    "enable.auto.commit",
    "enable.auto.offset.store",
    "auto.offset.reset",
    "enable.partition.eof",
    "isolation.level",
    "transactional.id",
    "enable.idempotence",
    "group.id",
    "statistics.interval.ms",
];

const PRODUCER_DEFAULTS: [(&str, &str); 4] = [
    // a batch is sent when it is there: a transaction waits for the last of its records
    ("linger.ms", "0"),
    // a hung transaction must not hold up readers for the default minute
    ("transaction.timeout.ms", "10000"),
    // keys go where Kafka's own clients put them
    ("partitioner", "murmur2_random"),
    // what is put out is little, and not every client that is to read it can take it apart
    ("compression.type", "none"),
];

const CONSUMER_DEFAULTS: [(&str, &str); 3] = [
    // the default holds back 64 MiB a partition and looks again only after a second
    ("queued.max.messages.kbytes", "16384"),
    ("fetch.queue.backoff.ms", "10"),
    ("session.timeout.ms", "10000"),
];

impl Options {
    /// These settings of librdkafka, and the default protocol.
    #[must_use]
    pub fn new(client: BTreeMap<String, String>) -> Self {
        Self {
            client,
            protocol: Protocol::default(),
        }
    }

    pub(crate) fn bootstrap(&self) -> &str {
        self.client
            .get("bootstrap.servers")
            .map_or("localhost:9092", String::as_str)
    }

    fn base(&self, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.bootstrap())
            .set("client.id", "suture")
            .set("socket.nagle.disable", "true");
        // after an outage, be back within a second
        config.set("reconnect.backoff.max.ms", "1000");
        for (key, value) in defaults {
            config.set(*key, *value);
        }
        for (key, value) in self.client.iter().filter(|(key, _)| !OWN.contains(&key.as_str())) {
            config.set(key, value);
        }
        config.set_log_level(RDKafkaLogLevel::Info);
        config
    }

    pub(crate) fn consumer(&self, role: &Role<'_>) -> ClientConfig {
        let newer = self.protocol == Protocol::Consumer && matches!(role, Role::Member(..));
        // under the newer protocol the broker sets what members had to agree on
        let agreed = [
            "session.timeout.ms",
            "heartbeat.interval.ms",
            "partition.assignment.strategy",
        ];
        let mut config = self.base(&CONSUMER_DEFAULTS);
        if newer {
            agreed.iter().for_each(|key| {
                config.remove(key);
            });
            config.set("group.protocol", "consumer");
        } else if !self.client.contains_key("partition.assignment.strategy") {
            config.set("partition.assignment.strategy", "cooperative-sticky");
        }
        config
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false");
        config
            .set("auto.offset.reset", "error")
            .set("statistics.interval.ms", "0");
        let isolation = |isolation: &suture_log::Isolation| match isolation {
            suture_log::Isolation::ReadCommitted => "read_committed",
            suture_log::Isolation::ReadUncommitted => "read_uncommitted",
        };
        match role {
            Role::Asker => {
                // the end of a partition is where its last record is, also if that belongs to an open transaction
                config.set("isolation.level", "read_uncommitted");
            }
            Role::Offsets(group) => {
                // in read_committed the coordinator waits for transactions that are about to change the offset
                config.set("group.id", *group).set("isolation.level", "read_committed");
            }
            Role::LastOffsets(group) => {
                config
                    .set("group.id", *group)
                    .set("isolation.level", "read_uncommitted");
            }
            Role::Member(group, level) => {
                config.set("group.id", *group).set("isolation.level", isolation(level));
            }
            Role::Reader(level) => {
                // librdkafka assigns partitions only where there is a group id; nothing is ever committed under it
                config
                    .set("group.id", "suture-reader")
                    .set("isolation.level", isolation(level));
                config.set("enable.partition.eof", "true");
                // the end is told once a fetch comes back empty: not only after the default half second
                config.set("fetch.wait.max.ms", "20");
            }
        }
        config
    }

    /// A producer with that transactional id.
    pub(crate) fn producer(&self, transactional_id: &str) -> ClientConfig {
        let mut config = self.base(&PRODUCER_DEFAULTS);
        config.set("transactional.id", transactional_id);
        config
    }

    /// A producer without transactions.
    pub(crate) fn appender(&self) -> ClientConfig {
        let mut config = self.base(&PRODUCER_DEFAULTS);
        config.remove("transaction.timeout.ms");
        config.set("enable.idempotence", "true");
        config
    }

    pub(crate) fn admin(&self) -> ClientConfig {
        self.base(&[])
    }
}

/// Writes librdkafka's own lines to the log.
pub(crate) fn log_line(level: RDKafkaLogLevel, facility: &str, line: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
            error!(target: "librdkafka", facility, "{line}");
        }
        // a setting of producers that a consumer was given is no cause for worry: both get what the user wrote
        _ if facility == "CONFWARN" => debug!(target: "librdkafka", facility, "{line}"),
        RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => warn!(target: "librdkafka", facility, "{line}"),
        RDKafkaLogLevel::Info => info!(target: "librdkafka", facility, "{line}"),
        RDKafkaLogLevel::Debug => debug!(target: "librdkafka", facility, "{line}"),
    }
}

/// A client that only asks.
pub(crate) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_line(level, facility, line);
    }
    fn error(&self, error: KafkaError, reason: &str) {
        debug!(target: "librdkafka", %error, "{reason}");
    }
}

impl ConsumerContext for Quiet {}

#[cfg(test)]
mod tests {
    use suture_log::Isolation;

    use super::*;

    fn options(protocol: Protocol, client: &[(&str, &str)]) -> Options {
        let client = client
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        Options { client, protocol }
    }

    #[test]
    fn settings_pass_through_except_those_that_exactly_once_rests_on() {
        let given = [
            ("enable.auto.commit", "true"),
            ("isolation.level", "read_uncommitted"),
            ("linger.ms", "7"),
            ("ssl.ca.location", "/ca"),
        ];
        let options = options(Protocol::Cooperative, &given);
        let member = options.consumer(&Role::Member("g", Isolation::ReadCommitted));
        assert_eq!(member.get("enable.auto.commit"), Some("false"));
        assert_eq!(member.get("isolation.level"), Some("read_committed"));
        assert_eq!(member.get("partition.assignment.strategy"), Some("cooperative-sticky"));
        assert_eq!(member.get("ssl.ca.location"), Some("/ca"));
        let producer = options.producer("id");
        assert_eq!(producer.get("linger.ms"), Some("7"));
        assert_eq!(producer.get("transaction.timeout.ms"), Some("10000"));
    }

    #[test]
    fn the_newer_protocol_leaves_to_the_broker_what_it_decides() {
        let options = options(Protocol::Consumer, &[("session.timeout.ms", "6000")]);
        let member = options.consumer(&Role::Member("g", Isolation::ReadCommitted));
        assert_eq!(member.get("group.protocol"), Some("consumer"));
        assert_eq!(
            (
                member.get("session.timeout.ms"),
                member.get("partition.assignment.strategy")
            ),
            (None, None)
        );
    }
}
