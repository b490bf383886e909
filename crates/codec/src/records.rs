//! Suture's own records: plain JSON, one a record, as [`serde_json`] writes the types of the vocabulary.

use serde::{Serialize, de::DeserializeOwned};
use suture_event::{Command, Fact, FactBody, LedgerRecord, Outcome};

use super::{DecodeError, EncodeError, Format};

pub(crate) const FORMAT: Format = Format("JSON of Suture's own");

/// What can be a record of Suture's own topics.
pub trait Record: Serialize + DeserializeOwned {
    /// What it is called in errors.
    const NAME: &'static str;

    /// The first number that JSON cannot hold, by its field. It would be written as `null`, and whoever reads the record
    /// would have to refuse it.
    fn unfinite(&self) -> Option<(&'static str, f64)> {
        None
    }
}

impl Record for Fact {
    const NAME: &'static str = "fact";

    fn unfinite(&self) -> Option<(&'static str, f64)> {
        let FactBody::Anomaly(anomaly) = &self.body else {
            return None;
        };
        let numbers = [
            ("score", anomaly.score),
            ("deviation", anomaly.deviation),
            ("value", anomaly.value.unwrap_or(0.0)),
            ("expected", anomaly.expected),
            ("lower", anomaly.lower),
            ("upper", anomaly.upper),
        ];
        numbers.into_iter().find(|(_, number)| !number.is_finite())
    }
}

impl Record for Outcome {
    const NAME: &'static str = "outcome";
}

impl Record for Command {
    const NAME: &'static str = "command";
}

impl Record for LedgerRecord {
    const NAME: &'static str = "ledger record";
}

/// Writes a record.
///
/// # Errors
/// Where a number in it is not finite.
pub fn encode<R: Record>(record: &R) -> Result<Vec<u8>, EncodeError> {
    if let Some((field, number)) = record.unfinite() {
        let (what, field) = (R::NAME.to_owned(), field.to_owned());
        return Err(EncodeError::NotFinite {
            what,
            field,
            found: number.to_string(),
        });
    }
    serde_json::to_vec(record).map_err(|error| EncodeError::Json {
        what: R::NAME.into(),
        reason: error.to_string(),
    })
}

/// Reads a record. Fields that are not known are passed over, so that an older reader gets by with a newer writer.
///
/// # Errors
/// Where the bytes are no such record.
pub fn decode<R: Record>(bytes: &[u8]) -> Result<R, DecodeError> {
    if bytes.trim_ascii().is_empty() {
        return Err(DecodeError::Empty(FORMAT));
    }
    serde_json::from_slice(bytes).map_err(|error| match DecodeError::of_json(FORMAT, bytes, &error) {
        DecodeError::Malformed { format, at, reason } => DecodeError::Malformed {
            format,
            at,
            reason: format!("as {} {}: {reason}", article(R::NAME), R::NAME),
        },
        other => other,
    })
}

fn article(name: &str) -> &'static str {
    if name.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use suture_event::{
        Anomaly, AnomalyPhase, Change, ChangeKind, CommandKind, Direction, Edge, EdgeSource, EndReason, Labels,
        OutcomeStatus, Progress, SeriesMark, ShardId, SignalKind, Timestamp, Watched,
    };

    fn text() -> impl Strategy<Value = Arc<str>> {
        "\\PC{0,8}".prop_map(Into::into)
    }

    fn time() -> impl Strategy<Value = Timestamp> {
        (-62_135_596_800_000_i64..=253_402_207_200_000).prop_map(Timestamp::from_millis)
    }

    fn finite() -> impl Strategy<Value = f64> {
        any::<f64>().prop_filter("finite", |v| v.is_finite())
    }

    fn shard() -> impl Strategy<Value = ShardId> {
        (text(), any::<i32>()).prop_map(|(topic, partition)| ShardId { topic, partition })
    }

    fn anomaly() -> impl Strategy<Value = Anomaly> {
        let labels = proptest::collection::btree_map("\\PC{1,4}", "\\PC{0,4}", 0..4);
        let numbers = [finite(), finite(), finite(), finite(), finite()];
        (
            text(),
            time(),
            labels,
            numbers,
            proptest::option::of(finite()),
            proptest::option::of(text()),
        )
            .prop_map(
                |(name, at, labels, [score, deviation, expected, lower, upper], value, service)| Anomaly {
                    id: name.clone(),
                    at,
                    onset: at,
                    phase: AnomalyPhase::Ended,
                    end: value.map(|_| EndReason::Recovered),
                    metric: name.clone(),
                    labels: Labels::new(labels).unwrap(),
                    service,
                    signal: SignalKind::Cpu,
                    detector: name.clone(),
                    score,
                    deviation,
                    value,
                    expected,
                    lower,
                    upper,
                    direction: Direction::Down,
                    detail: name.to_string(),
                },
            )
    }

    fn outcome() -> impl Strategy<Value = Outcome> {
        (text(), time(), text()).prop_map(|(one, at, other)| Outcome {
            action: one.clone(),
            at,
            status: OutcomeStatus::DryRun,
            target: other.clone(),
            scope: one,
            executor: other.clone(),
            detail: other.to_string(),
            mode: Default::default(),
            calls: Vec::new(),
            seal: None,
        })
    }

    fn command() -> impl Strategy<Value = Command> {
        let kind = prop_oneof![
            text().prop_map(|action| CommandKind::Approve { action }),
            text().prop_map(|action| CommandKind::Deny { action }),
            Just(CommandKind::Freeze),
            Just(CommandKind::Thaw),
            text().prop_map(|incident| CommandKind::Acknowledge { incident }),
            (text(), text()).prop_map(|(incident, label)| CommandKind::Label { incident, label }),
        ];
        (text(), time(), kind).prop_map(|(name, at, kind)| Command {
            id: name.clone(),
            at,
            by: name.clone(),
            scope: name.clone(),
            kind,
            reason: name.to_string(),
            seal: None,
        })
    }

    fn fact() -> impl Strategy<Value = Fact> {
        let edge = (text(), text()).prop_map(|(from, to)| {
            FactBody::Edge(Edge {
                from,
                to,
                source: EdgeSource::Spans,
            })
        });
        let change = (text(), time(), proptest::option::of(text())).prop_map(|(name, at, environment)| {
            FactBody::Change(Change {
                id: name.clone(),
                at,
                kind: ChangeKind::Flag,
                service: name.clone(),
                environment: environment.clone(),
                artifact: environment,
                source: name.clone(),
                event_type: name,
            })
        });
        let mark = (any::<u64>(), time()).prop_map(|(series, last)| SeriesMark { series, last });
        let series = proptest::option::of(proptest::collection::vec(mark, 0..3));
        let progress = (time(), any::<bool>(), proptest::collection::vec(shard(), 0..3), series).prop_map(
            |(at, idle, roster, series)| {
                FactBody::Progress(Progress {
                    watermark: at,
                    wall: at,
                    idle,
                    silent: None,
                    stopped: false,
                    roster,
                    series,
                })
            },
        );
        let watched = proptest::option::of(text()).prop_map(|service| {
            FactBody::Watched(Watched {
                service,
                kind: SignalKind::Traffic,
            })
        });
        let body = prop_oneof![
            edge,
            watched,
            change,
            progress,
            anomaly().prop_map(FactBody::Anomaly),
            outcome().prop_map(FactBody::Outcome),
            command().prop_map(FactBody::Command),
        ];
        (text(), time(), shard(), any::<u64>(), body).prop_map(|(scope, at, shard, seq, body)| Fact {
            scope,
            at,
            shard,
            seq,
            body,
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(fact in fact(), outcome in outcome(), command in command()) {
            prop_assert_eq!(decode::<Fact>(&encode(&fact).unwrap()).unwrap(), fact);
            prop_assert_eq!(decode::<Outcome>(&encode(&outcome).unwrap()).unwrap(), outcome);
            prop_assert_eq!(decode::<Command>(&encode(&command).unwrap()).unwrap(), command);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode::<Fact>(&bytes);
            let _ = decode::<Command>(&bytes);
        }

        #[test]
        fn an_anomaly_with_a_number_that_json_cannot_hold_is_not_written(anomaly in anomaly(), which in 0..6_usize) {
            let mut anomaly = anomaly;
            let field = ["score", "deviation", "value", "expected", "lower", "upper"][which];
            match which {
                0 => anomaly.score = f64::NAN,
                1 => anomaly.deviation = f64::INFINITY,
                2 => anomaly.value = Some(f64::NEG_INFINITY),
                3 => anomaly.expected = f64::NAN,
                4 => anomaly.lower = f64::NEG_INFINITY,
                _ => anomaly.upper = f64::INFINITY,
            }
            let shard = ShardId { topic: "t".into(), partition: 0 };
            let fact = Fact { scope: "s".into(), at: anomaly.at, shard, seq: 0, body: FactBody::Anomaly(anomaly) };
            let error = encode(&fact).unwrap_err().to_string();
            prop_assert!(error.starts_with(&format!("`{field}` of fact is ")), "{}", error);
        }
    }

    #[test]
    fn what_is_no_record_is_refused_with_what_it_should_be() {
        for (bytes, expected) in [
            ("", "the record is empty, where JSON of Suture's own was expected"),
            (
                r#"{"action": "a1""#,
                "the JSON of Suture's own breaks off after 15 bytes: its producer, or a size limit on the way, cut it short",
            ),
            (
                r#"{"action": "a1", "at": "soon"}"#,
                "no valid JSON of Suture's own at byte 28: as an outcome: \"soon\" is no timestamp: write milliseconds since the epoch or RFC 3339, such as 2022-08-22T03:54:00Z",
            ),
            (
                r#"{"action": "a1"}"#,
                "no valid JSON of Suture's own at byte 15: as an outcome: missing field `at`",
            ),
        ] {
            assert_eq!(decode::<Outcome>(bytes.as_bytes()).unwrap_err().to_string(), expected);
        }
    }
}
