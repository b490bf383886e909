//! From librdkafka's errors to what can be done about them.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::error::{KafkaError, RDKafkaError, RDKafkaErrorCode as Code};
use suture_log::{Error, Listed};
use tracing::warn;

/// Since when no broker answers.
#[derive(Debug, Default)]
pub(crate) struct Outage(Mutex<Option<State>>);

#[derive(Debug)]
struct State {
    since: Instant,
    noted: Option<Instant>,
}

impl State {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            noted: None,
        }
    }
}

/// How often an outage is told of.
const AGAIN: Duration = Duration::from_secs(10);

impl Outage {
    pub(crate) fn over(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn since(&self) -> Instant {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert_with(State::new)
            .since
    }

    /// Says so in the log, but not more often than every [`AGAIN`].
    pub(crate) fn note(&self, bootstrap: &str) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let state = state.get_or_insert_with(State::new);
        if state.noted.is_none_or(|noted| noted.elapsed() > AGAIN) {
            state.noted = Some(Instant::now());
            warn!(
                bootstrap,
                seconds = state.since.elapsed().as_secs(),
                "no broker answers; trying again"
            );
        }
    }
}

/// An error of anything but a transaction.
pub(crate) fn translate(what: &str, error: &KafkaError, bootstrap: &str, outage: &Outage) -> Error {
    if let KafkaError::ClientConfig(_, detail, key, value) = error {
        return Error::Setting {
            key: key.clone(),
            detail: format!("{detail} (it is {value:?})"),
        };
    }
    let detail = error.to_string();
    let what = what.to_owned();
    let Some(code) = error.rdkafka_error_code() else {
        return Error::Indefinite { what, detail };
    };
    match code {
        Code::BrokerTransportFailure
        | Code::AllBrokersDown
        | Code::Resolve
        | Code::OperationTimedOut
        | Code::MessageTimedOut
        | Code::NetworkException => {
            let seconds = outage.since().elapsed().as_secs();
            let detail = if seconds == 0 {
                format!("{what}: {detail}")
            } else {
                format!("{what}: {detail}, for {seconds} s")
            };
            Error::Unreachable {
                at: bootstrap.to_owned(),
                detail,
            }
        }
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::SaslAuthenticationFailed
        | Code::Authentication => Error::Denied { what, detail },
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
            Error::UnknownTopic { topic: what }
        }
        Code::OffsetOutOfRange | Code::AutoOffsetReset => Error::OutOfRange {
            partition: Listed(None),
        },
        Code::UnstableOffsetCommit
        | Code::CoordinatorLoadInProgress
        | Code::CoordinatorNotAvailable
        | Code::NotCoordinator
        | Code::NotLeaderForPartition
        | Code::LeaderNotAvailable
        | Code::ReplicaNotAvailable
        | Code::WaitingForCoordinator
        | Code::ConcurrentTransactions
        | Code::RequestTimedOut => Error::Busy { what, detail },
        Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::InvalidRecord | Code::InvalidMessage => {
            Error::Rejected { topic: what, detail }
        }
        _ => Error::Indefinite { what, detail },
    }
}

/// An error of a transaction of that id.
pub(crate) fn translate_transaction(
    id: &str,
    what: &str,
    error: &KafkaError,
    bootstrap: &str,
    outage: &Outage,
) -> Error {
    let KafkaError::Transaction(inner) = error else {
        return translate(what, error, bootstrap, outage);
    };
    if is_fenced(inner) {
        return Error::Fenced { id: id.to_owned() };
    }
    let detail = format!("{what}: {}", inner.string());
    match inner.code() {
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::ClusterAuthorizationFailed => Error::Denied {
            what: format!("{what} as {id}"),
            detail,
        },
        _ if inner.is_fatal() => Error::Indefinite {
            what: format!("{what} as {id}"),
            detail,
        },
        _ if inner.txn_requires_abort() => Error::Aborted {
            id: id.to_owned(),
            detail,
        },
        Code::OperationTimedOut | Code::BrokerTransportFailure | Code::AllBrokersDown if what == "fencing" => {
            let seconds = outage.since().elapsed().as_secs();
            Error::Unreachable {
                at: bootstrap.to_owned(),
                detail: format!("{detail}, for {seconds} s"),
            }
        }
        _ => Error::Indefinite {
            what: format!("{what} as {id}"),
            detail,
        },
    }
}

fn is_fenced(error: &RDKafkaError) -> bool {
    matches!(
        error.code(),
        Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch
    )
}
