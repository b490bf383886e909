//! What is said of a broker that answers and does not let the client in.

// the helpers of tests: what goes wrong in them is a failed test
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
};

use suture_kafka::{KafkaLog, Options};
use suture_log::{Error, Log as _, Recovery};

/// Numbers of requests, and of errors, in Kafka's protocol.
const API_VERSIONS: i16 = 18;
const SASL_HANDSHAKE: i16 = 17;
const UNSUPPORTED_VERSION: i16 = 35;
const UNSUPPORTED_SASL_MECHANISM: i16 = 33;

fn words(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// Answers as a broker that takes no mechanism but one: the client is told so and sent away.
fn refuse(mut client: TcpStream) -> std::io::Result<()> {
    loop {
        let mut size = [0; 4];
        client.read_exact(&mut size)?;
        let mut request = vec![0; usize::try_from(i32::from_be_bytes(size)).unwrap()];
        client.read_exact(&mut request)?;
        let key = i16::from_be_bytes(request[0..2].try_into().unwrap());
        let oldest = request[2..4] == [0, 0];
        let body = match key {
            API_VERSIONS => words(&[
                // asked in a newer layout than the answer's, it is asked again in that one
                &if oldest { 0 } else { UNSUPPORTED_VERSION }.to_be_bytes(),
                &2_i32.to_be_bytes(),
                &API_VERSIONS.to_be_bytes(),
                &[0, 0, 0, 0],
                &SASL_HANDSHAKE.to_be_bytes(),
                &[0, 0, 0, 1],
            ]),
            SASL_HANDSHAKE => words(&[
                &UNSUPPORTED_SASL_MECHANISM.to_be_bytes(),
                &1_i32.to_be_bytes(),
                &13_i16.to_be_bytes(),
                b"SCRAM-SHA-512",
            ]),
            _ => return Ok(()),
        };
        let answer = words(&[&request[4..8], &body]);
        client.write_all(&i32::try_from(answer.len()).unwrap().to_be_bytes())?;
        client.write_all(&answer)?;
    }
}

#[test]
fn a_broker_that_does_not_let_the_client_in_is_told_from_one_that_does_not_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            std::thread::spawn(move || refuse(client));
        }
    });
    let client = [
        ("bootstrap.servers", address.as_str()),
        ("security.protocol", "sasl_plaintext"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", "suture"),
        ("sasl.password", "hunter2"),
    ];
    let client: BTreeMap<String, String> = client
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let log = KafkaLog::new(Options::new(client)).unwrap();

    let error = log.topic("telemetry").unwrap_err();
    assert!(matches!(error, Error::ShutOut { .. }), "{error:?}");
    // who runs already goes on trying: the broker may only not have heard of the user yet
    assert_eq!(error.recovery(), Recovery::Retry);
    let text = error.to_string();
    assert!(
        text.contains(&address) && text.contains("describing topic telemetry"),
        "{text}"
    );
    assert!(text.contains("SCRAM-SHA-512"), "{text}");
    assert!(
        text.ends_with("check security.protocol, sasl.* and ssl.* among the client settings"),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");

    // one is enough: each further question would be waited for in vain
    let problems = log.check("group", &["telemetry".to_owned(), "changes".to_owned()]);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].starts_with("no broker at "), "{problems:?}");
}
