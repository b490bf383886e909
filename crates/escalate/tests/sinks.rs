//! Every sink against a server in this process that checks what it is sent, and the desk on a log in memory.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests fail by panicking, as tests do

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write as _},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};
use suture_config::{Escalate, Sink, SinkKind, Trigger};
use suture_escalate::{Caller, Desk, Error, Page, PageKind, Pager, Refused, Topics};
use suture_event::{LedgerRecord, Span, Timestamp};
use suture_log::{Isolation, Log, OutRecord, TopicPartition, TopicSpec, memory::MemoryLog};

/// Answers with one status after the other, the last again and again.
#[derive(Clone)]
struct Server {
    url: String,
    answers: Arc<Vec<u16>>,
    calls: Arc<Mutex<Vec<(HeaderMap, Value)>>>,
}

impl Server {
    async fn begin(answers: &[u16]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            url: format!("http://{}/hook", listener.local_addr().unwrap()),
            answers: Arc::new(answers.to_vec()),
            calls: Arc::default(),
        };
        let app = Router::new()
            .route("/hook", post(Self::answer))
            .with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        server
    }

    async fn answer(State(server): State<Self>, headers: HeaderMap, body: String) -> Response {
        let mut calls = server.calls.lock().unwrap();
        calls.push((headers, serde_json::from_str(&body).unwrap()));
        let answer = server.answers.get(calls.len() - 1).or(server.answers.last()).unwrap();
        let status = StatusCode::from_u16(*answer).unwrap();
        if status.is_redirection() {
            return (status, [(header::LOCATION, server.url.clone())]).into_response();
        }
        (status, "said\n").into_response()
    }

    fn bodies(&self) -> Vec<Value> {
        self.calls
            .lock()
            .unwrap()
            .iter()
            .map(|(_, body)| body.clone())
            .collect()
    }
}

fn sink(kind: SinkKind, url: Option<&str>) -> Sink {
    Sink {
        name: "ops".to_owned(),
        kind,
        url: url.map(str::to_owned),
        secret_file: None,
        secret_env: Some("SECRET".to_owned()),
        plain: false,
        from: None,
        to: Vec::new(),
        user: None,
    }
}

fn caller_of(sinks: Vec<Sink>, secret: &str) -> Result<Caller, Error> {
    let options = Escalate {
        sinks,
        retries: 2,
        backoff: Span::from_millis(1),
        longest_backoff: Span::from_millis(2),
        ..Escalate::default()
    };
    Caller::new(&options, Path::new("."), &|name| {
        (name == "SECRET").then(|| secret.to_owned())
    })
}

fn page(kind: PageKind) -> Page {
    Page {
        key: "suture-i1".to_owned(),
        kind,
        trigger: Trigger::NotVerified,
        at: Timestamp::from_millis(60_000),
        opened_at: Timestamp::from_millis(0),
        incident: "i1".into(),
        scope: "prod".into(),
        title: "errors in cart".to_owned(),
        severity: "critical".to_owned(),
        services: vec!["cart".to_owned()],
        why: "an action did not help".to_owned(),
        owner: Some("shop-team".to_owned()),
    }
}

/// What a sink is sent for a page of each kind.
async fn sent(kind: SinkKind) -> (Vec<Value>, Vec<HeaderMap>) {
    let server = Server::begin(&[202]).await;
    let (sink, secret) = match kind {
        SinkKind::Slack => (sink(kind, None), server.url.as_str()),
        _ => (sink(kind, Some(&server.url)), "s3cret"),
    };
    let caller = caller_of(vec![sink], secret).unwrap();
    for kind in [PageKind::Opened, PageKind::Acknowledged, PageKind::Resolved] {
        assert_eq!(caller.say(&page(kind)).await, []);
    }
    let headers = server
        .calls
        .lock()
        .unwrap()
        .iter()
        .map(|(headers, _)| headers.clone())
        .collect();
    (server.bodies(), headers)
}

#[tokio::test]
async fn pagerduty_is_sent_events_of_version_2() {
    let (bodies, headers) = sent(SinkKind::Pagerduty).await;
    let expected = json!({
        "routing_key": "s3cret",
        "event_action": "trigger",
        "dedup_key": "suture-i1",
        "client": "Suture",
        "payload": {
            "summary": "[critical] errors in cart (prod)",
            "source": "prod",
            "severity": "critical",
            "timestamp": "1970-01-01T00:01:00Z",
            "component": "cart",
            "group": "prod",
            "class": "not_verified",
            "custom_details": {
                "why": "an action did not help", "incident": "i1", "owner": "shop-team",
                "opened_at": "1970-01-01T00:00:00Z",
            },
        },
    });
    assert_eq!(bodies[0], expected);
    let next = |action: &str| json!({"routing_key": "s3cret", "event_action": action, "dedup_key": "suture-i1"});
    assert_eq!(bodies[1..], [next("acknowledge"), next("resolve")]);
    assert!(
        headers
            .iter()
            .all(|headers| headers[header::CONTENT_TYPE] == "application/json")
    );
    assert!(
        headers
            .iter()
            .all(|headers| !headers.contains_key(header::AUTHORIZATION))
    );
}

#[tokio::test]
async fn slack_is_sent_a_text() {
    let (bodies, _) = sent(SinkKind::Slack).await;
    let text = "*needs a human*: [critical] errors in cart (prod)\nan action did not help\nServices: cart\nIncident: `i1`\nOwner: \
                shop-team";
    assert_eq!(bodies[0], json!({"text": text}));
    assert!(bodies[2]["text"].as_str().unwrap().starts_with("*resolved*"));
}

#[tokio::test]
async fn receivers_of_alertmanager_are_sent_version_4() {
    let (bodies, headers) = sent(SinkKind::Alertmanager).await;
    assert_eq!(bodies.len(), 2, "it knows no acknowledgement");
    let labels = json!({
        "alertname": "SutureIncident", "incident": "i1", "scope": "prod", "severity": "critical", "service": "cart",
    });
    let annotations =
        json!({"summary": "errors in cart", "description": "an action did not help", "owner": "shop-team"});
    let body = |status: &str, ends_at: &str| {
        json!({
            "version": "4", "groupKey": "{}:{incident=\"i1\"}", "truncatedAlerts": 0, "status": status, "receiver": "ops",
            "groupLabels": {"incident": "i1"}, "commonLabels": labels, "commonAnnotations": annotations, "externalURL": "",
            "alerts": [{
                "status": status, "labels": labels, "annotations": annotations, "startsAt": "1970-01-01T00:00:00Z",
                "endsAt": ends_at, "generatorURL": "", "fingerprint": bodies[0]["alerts"][0]["fingerprint"],
            }],
        })
    };
    assert_eq!(bodies[0], body("firing", "0001-01-01T00:00:00Z"));
    assert_eq!(bodies[1], body("resolved", "1970-01-01T00:01:00Z"));
    assert_eq!(bodies[0]["alerts"][0]["fingerprint"].as_str().unwrap().len(), 16);
    assert_eq!(headers[0][header::AUTHORIZATION], "Bearer s3cret");
}

#[tokio::test]
async fn a_webhook_is_sent_the_page_with_a_key_for_each_thing_that_is_said() {
    let (bodies, headers) = sent(SinkKind::Webhook).await;
    assert_eq!(bodies[0], serde_json::to_value(page(PageKind::Opened)).unwrap());
    let keys: Vec<_> = headers
        .iter()
        .map(|headers| headers["idempotency-key"].to_str().unwrap())
        .collect();
    assert_eq!(
        keys,
        ["suture-i1-opened", "suture-i1-acknowledged", "suture-i1-resolved"]
    );
    assert_eq!(headers[0][header::AUTHORIZATION], "Bearer s3cret");
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_what_will_not_is_not() {
    let tried = async |answers: &[u16]| {
        let server = Server::begin(answers).await;
        let caller = caller_of(vec![sink(SinkKind::Webhook, Some(&server.url))], "s").unwrap();
        let refused: Vec<Refused> = caller.say(&page(PageKind::Opened)).await;
        (
            server.bodies().len(),
            refused.first().map(|refused| refused.why.clone()),
        )
    };
    assert_eq!(tried(&[503, 429, 200]).await, (3, None));
    let (calls, why) = tried(&[500]).await;
    assert_eq!(
        (calls, why.unwrap().as_str()),
        (3, "after 3 calls: 500 Internal Server Error")
    );
    assert_eq!(tried(&[400]).await, (1, Some("400 Bad Request".to_owned())));
    let (calls, why) = tried(&[307]).await;
    assert_eq!(calls, 1, "a redirect is not followed");
    assert!(why.unwrap().contains("redirects are not followed"));
}

#[tokio::test]
async fn secrets_are_never_in_what_is_told() {
    // nobody listens there: the port was given back
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let caller = caller_of(vec![sink(SinkKind::Slack, None)], &format!("http://{free}/T0/s3cret")).unwrap();
    let refused = caller.say(&page(PageKind::Opened)).await;
    assert!(
        !refused[0].why.contains("s3cret") && refused[0].why.starts_with("after 3 calls"),
        "{refused:?}"
    );
    let bad = |secret: &str| {
        caller_of(vec![sink(SinkKind::Slack, None)], secret)
            .err()
            .unwrap()
            .to_string()
    };
    let plain = bad("http://hooks.example/T0/s3cret");
    assert!(plain.contains("plain HTTP") && !plain.contains("s3cret"), "{plain}");
    assert!(!bad("s3cret").contains("s3cret"));
    assert!(bad(" ").contains("empty"));
    let unset = Sink {
        secret_env: Some("UNSET".to_owned()),
        ..sink(SinkKind::Pagerduty, None)
    };
    assert!(caller_of(vec![unset], "s").err().unwrap().to_string().contains("UNSET"));
}

/// A relay for one message, which it gives back: the envelope's lines, and the message.
fn relay() -> (String, JoinHandle<(Vec<String>, String)>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("smtp://{}", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let mut next = move || lines.next().unwrap().unwrap();
        let (mut envelope, mut message) = (Vec::new(), String::new());
        stream.write_all(b"220 relay\r\n").unwrap();
        loop {
            let line = next();
            let answer = match line.split([' ', ':']).next().unwrap() {
                "EHLO" => "250 relay\r\n",
                "DATA" => {
                    stream.write_all(b"354 go on\r\n").unwrap();
                    loop {
                        let line = next();
                        if line == "." {
                            break;
                        }
                        message.push_str(&line);
                        message.push('\n');
                    }
                    stream.write_all(b"250 taken\r\n").unwrap();
                    return (envelope, message);
                }
                _ => {
                    envelope.push(line);
                    "250 ok\r\n"
                }
            };
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    (url, thread)
}

#[tokio::test]
async fn an_email_says_it_in_one_thread() {
    let tried = async |kind: PageKind| {
        let (url, thread) = relay();
        let sink = Sink {
            plain: true,
            secret_env: None,
            from: Some("Suture <suture@example.com>".to_owned()),
            to: vec!["ops@example.com".to_owned(), "ann@example.com".to_owned()],
            ..sink(SinkKind::Email, Some(&url))
        };
        let caller = caller_of(vec![sink], "").unwrap();
        assert_eq!(caller.say(&page(kind)).await, []);
        thread.join().unwrap()
    };
    let (envelope, message) = tried(PageKind::Opened).await;
    assert!(
        envelope[0].starts_with("MAIL FROM:<suture@example.com>"),
        "{envelope:?}"
    );
    assert_eq!(
        envelope[1..3],
        ["RCPT TO:<ops@example.com>", "RCPT TO:<ann@example.com>"]
    );
    assert!(
        message.contains("Subject: [critical] errors in cart (prod)\n"),
        "{message}"
    );
    assert!(message.contains("Message-ID: <suture-i1@example.com>\n"), "{message}");
    assert!(
        message.contains("an action did not help") && message.contains("Owner: shop-team"),
        "{message}"
    );
    let (_, message) = tried(PageKind::Resolved).await;
    assert!(
        message.contains("Subject: resolved: [critical] errors in cart (prod)\n"),
        "{message}"
    );
    assert!(message.contains("In-Reply-To: <suture-i1@example.com>\n"), "{message}");
}

fn record(seq: u64, kind: &str, incident: &str) -> OutRecord {
    let body = json!({"incident": incident, "title": "t", "severity": "warning", "services": ["cart"], "why": "w"});
    let at = Timestamp::from_millis(1_000);
    let record = LedgerRecord::sealed(seq, at, "prod".into(), kind, None, body, LedgerRecord::GENESIS);
    OutRecord::new("suture.ledger", "prod", serde_json::to_vec(&record).unwrap())
}

fn topics() -> Topics {
    Topics {
        ledger: "suture.ledger".into(),
        dead_letters: "suture.dead-letters".into(),
    }
}

/// Runs a desk until so much of the ledger is done with.
fn work(log: &MemoryLog, server: &Server, runtime: &tokio::runtime::Runtime, until: i64) {
    let caller = caller_of(vec![sink(SinkKind::Webhook, Some(&server.url))], "s").unwrap();
    let pager = Pager::new(&Trigger::ALL.into());
    let desk = Desk::new(
        Arc::new(log.clone()),
        caller,
        pager,
        topics(),
        "desk".to_owned(),
        runtime.handle().clone(),
    );
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let thread = std::thread::spawn(move || desk.run(&stopped));
    let at = TopicPartition::new("suture.ledger", 0);
    let patience = Instant::now() + Duration::from_secs(60);
    loop {
        let committed = log.committed("desk", std::slice::from_ref(&at)).unwrap();
        if committed[0].as_ref().is_some_and(|committed| committed.offset >= until) {
            break;
        }
        assert!(
            Instant::now() < patience && !thread.is_finished(),
            "the desk does not get on"
        );
        std::thread::yield_now();
    }
    stop.store(true, Ordering::Relaxed);
    thread.join().unwrap().unwrap();
}

#[test]
fn the_desk_calls_once_across_restarts_and_writes_dead_letters_for_what_nobody_takes() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let log = MemoryLog::default();
    let specs = ["suture.ledger", "suture.dead-letters"].map(|name| TopicSpec::new(name, 1));
    log.create_topics(&specs).unwrap();
    let write = |records: &[OutRecord]| log.appender().unwrap().append(records).unwrap();
    // a place to begin, as a group that has read nothing calls for nothing that is there already
    let server = runtime.block_on(Server::begin(&[200, 200, 400]));
    let at = TopicPartition::new("suture.ledger", 0);
    begin_at_start(&log, &at);
    write(&[record(0, "incident_opened", "i1"), record(1, "escalated", "i1")]);
    work(&log, &server, &runtime, 2);
    assert_eq!(server.bodies().len(), 1);
    // another process: what was said is known, and not said again
    write(&[record(2, "not_verified", "i1"), record(3, "incident_resolved", "i1")]);
    work(&log, &server, &runtime, 4);
    let kinds: Vec<_> = server
        .bodies()
        .iter()
        .map(|body| body["kind"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(kinds, ["opened", "resolved"]);
    // refused for good
    write(&[record(4, "escalated", "i2")]);
    work(&log, &server, &runtime, 5);
    let letters = TopicPartition::new("suture.dead-letters", 0);
    let mut found: Vec<(Value, BTreeMap<String, String>)> = Vec::new();
    let mut reader = log.reader(&letters, 0, Isolation::ReadCommitted).unwrap();
    let ended = reader.read(Duration::from_secs(1), 10, &mut |record| {
        let text = |value: Option<&[u8]>| String::from_utf8(value.unwrap_or_default().to_vec()).unwrap();
        let headers = record
            .headers
            .iter()
            .map(|(name, value)| (name.to_owned(), text(value)))
            .collect();
        found.push((serde_json::from_slice(record.value.unwrap()).unwrap(), headers));
    });
    assert!(ended.unwrap());
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].0["incident"].as_str(), found[0].1["suture_sink"].as_str()),
        (Some("i2"), "ops")
    );
    assert_eq!(found[0].1["suture_reason"], "400 Bad Request");
}

/// Commits that nothing was read yet.
fn begin_at_start(log: &MemoryLog, at: &TopicPartition) {
    use suture_log::{Assignment, Committed, GroupOptions, Offset, Rebalance};
    struct All;
    impl Rebalance for All {
        fn assigned(&mut self, partitions: &[TopicPartition]) -> Vec<(TopicPartition, Option<Offset>)> {
            partitions.iter().map(|at| (at.clone(), Some(0))).collect()
        }
        fn revoked(&mut self, _: &[TopicPartition], _: bool) {}
    }
    let options = GroupOptions {
        group: "desk".to_owned(),
        assignment: Assignment::Static {
            partitions: vec![at.clone()],
        },
        isolation: Isolation::ReadCommitted,
    };
    let consumer = log.consumer(&options, Box::new(All)).unwrap();
    let committed = Committed {
        offset: 0,
        metadata: String::new(),
    };
    consumer.poll(Duration::from_millis(1), 1, &mut |_, _, _| ()).unwrap();
    consumer.commit(&[(at.clone(), committed)]).unwrap();
    consumer.close();
}
