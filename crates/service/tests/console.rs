//! The console beside a run, on a log in memory: it shows what the topics hold, and what people say comes to the commands topic.

// what goes wrong here is a failed test
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use suture_codec::records;
use suture_console::{Door, Host, HttpLimits, Limits, Refusal, Store, Word, access::Role};
use suture_event::{Command, CommandKind, LedgerRecord, Timestamp};
use suture_log::{Isolation, Log, OutRecord, TopicPartition, TopicSpec, memory::MemoryLog};
use suture_permit::{KeyEntry, Keyring, SecretKey};
use suture_runtime::SystemClock;
use suture_service::{
    beside::{Desk, Follower, setting},
    keys,
    planes::Topics,
    run::prepare,
};

const PIPELINE: &str = include_str!("../../../pipelines/demo.yaml");

fn opened(tokens: &Path) -> Door {
    let listen = "127.0.0.1:0".parse().unwrap();
    Door::new(listen, Some(tokens), HttpLimits::default(), "", Role::Viewer).unwrap()
}

#[test]
fn it_shows_what_the_topics_hold_and_passes_signed_words_on() {
    let folder = tempfile::tempdir().unwrap();
    let key = SecretKey::from_seed(&[7; 32], "mina", suture_permit::Role::Person);
    std::fs::write(folder.path().join("mina.key"), key.to_file()).unwrap();
    let tokens = folder.path().join("tokens.yaml");
    let digest = "ab".repeat(32);
    let text = format!(
        "- {{who: mina, role: approver, sha256: {digest}, key: mina.key}}\n- {{who: ann, role: approver, sha256: {}}}\n",
        digest.replace('a', "c")
    );
    std::fs::write(&tokens, text).unwrap();

    let mut pipeline = suture_service::load::examine_bytes("the demo's", PIPELINE.as_bytes())
        .0
        .unwrap();
    pipeline.remediate.keys = Keyring::new(vec![KeyEntry {
        who: "mina".into(),
        role: suture_permit::Role::Person,
        public: key.public(),
        until: None,
    }]);
    let log = MemoryLog::default();
    log.create_topics(&[TopicSpec::new("telemetry", 1), TopicSpec::new("changes", 1)])
        .unwrap();
    prepare(&log, &pipeline, true).unwrap();
    let topics = Topics::of(&pipeline);

    let store = Arc::new(Store::new(Limits::default(), setting(&pipeline)));
    let body = serde_json::json!({"by": "ann", "reason": "a drill"});
    let at = Timestamp::from_millis(0);
    let record = LedgerRecord::sealed(0, at, "prod".into(), "frozen", None, body, LedgerRecord::GENESIS);
    let mut appender = log.appender().unwrap();
    appender
        .append(&[
            OutRecord::new(topics.ledger.clone(), "prod", records::encode(&record).unwrap()),
            OutRecord::new(topics.ledger.clone(), "prod", "no record"),
        ])
        .unwrap();
    let mut follower = Follower::open(&log, &pipeline, &[], store.clone(), &BTreeMap::new()).unwrap();
    let mut came = 0;
    while came < 2 {
        came += follower.step(Duration::from_secs(5)).unwrap();
    }
    let sizes = store.sizes();
    assert_eq!((sizes["records"], sizes["scopes"]), (1, 1), "{sizes:?}");

    let door = opened(&tokens);
    let clock = Arc::new(SystemClock::default());
    let desk = Desk::open(&log, &pipeline, &door, Some(&tokens), clock).unwrap();
    let word = |by: &str| Word {
        by: by.into(),
        scope: "prod".into(),
        kind: CommandKind::Thaw,
        reason: "the drill is over".to_owned(),
    };
    assert!(matches!(desk.say(&word("ann")), Err(Refusal::NoKey(_))));
    let id = desk.say(&word("mina")).unwrap();
    let mut said = Vec::new();
    let commands = TopicPartition::new(topics.commands.to_string(), 0);
    let mut reader = log.reader(&commands, 0, Isolation::ReadCommitted).unwrap();
    while !reader
        .read(Duration::ZERO, 100, &mut |record| {
            said.push(records::decode::<Command>(record.value.unwrap()).unwrap());
        })
        .unwrap()
    {}
    assert_eq!(said.len(), 1);
    assert_eq!((&said[0].id, &*said[0].by), (&id, "mina"));
    pipeline.remediate.keys.check_command(&said[0]).unwrap();

    // a key that is another's than the token
    let text = std::fs::read_to_string(&tokens)
        .unwrap()
        .replace("who: ann", "who: ann, key: mina.key");
    std::fs::write(&tokens, text).unwrap();
    let door = opened(&tokens);
    let told = Desk::open(&log, &pipeline, &door, Some(&tokens), Arc::new(SystemClock::default())).err();
    let told = told.unwrap().to_string();
    assert!(told.contains("the key is mina's"), "{told}");
    assert!(keys::read(&folder.path().join("mina.key"), suture_permit::Role::Person).is_ok());
}
