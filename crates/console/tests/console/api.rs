//! The API as whoever asks it meets it, without a socket.

use crate::common::{Site, TOKENS, ask, folder, json, request, site, with};
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use suture_event::{CommandKind, canonical};

/// Every path and method of the document, with something in place of what stands in braces.
fn operations() -> Vec<(Method, String)> {
    let document = serde_json::to_value(suture_console::document()).unwrap();
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let path = path.replace("{id}", "c0ffee").replace("{scope}", "prod");
            all.push((method.to_uppercase().parse().unwrap(), path));
        }
    }
    all
}

#[tokio::test]
async fn without_a_token_everything_answers_401_but_health_and_the_empty_page() {
    let site = site();
    let all = operations();
    assert!(all.len() > 14, "{all:?}");
    for (method, path) in &all {
        for authorization in [None, Some("Bearer nobody's"), Some("Basic dmlld2Vy")] {
            let mut asked = request(method.clone(), path);
            if let Some(value) = authorization {
                asked = with(asked, "authorization", value);
            }
            let (status, head, body) = ask(&site, asked).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {path}");
            assert_eq!(head["www-authenticate"], "Bearer");
            assert!(body.contains("token"), "{body}");
        }
    }
    let (status, ..) = ask(&site, request(Method::GET, "/api/v1/nothing")).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "nor what is not there");
    for path in ["/healthz", "/", "/app.js", "/vendor/LICENSES.txt"] {
        let (status, head, _) = ask(&site, request(Method::GET, path)).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        let policy = head["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        assert_eq!(head["x-content-type-options"], "nosniff");
    }
}

#[tokio::test]
async fn with_no_tokens_at_all_nobody_gets_in() {
    let site = crate::common::site_with(&[], |_| {});
    let asked = with(request(Method::GET, "/api/v1/overview"), "authorization", "Bearer ");
    assert_eq!(ask(&site, asked).await.0, StatusCode::UNAUTHORIZED);
}

async fn say(site: &Site, who: &str, path: &str, body: Value) -> (StatusCode, Value) {
    let (status, _, text) = ask(site, json(who, path, &body)).await;
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

#[tokio::test]
async fn a_word_needs_its_role_and_goes_out_in_the_name_of_whoever_says_it() {
    let site = site();
    let why = json!({"reason": "the evidence is plain"});
    let needs = [
        ("actions/a-1/approve", "approver"),
        ("actions/a-1/deny", "approver"),
        ("actions/a-1/undo", "approver"),
        ("incidents/3f9c0001/acknowledge", "operator"),
        ("scopes/prod/freeze", "operator"),
        ("scopes/prod/thaw", "approver"),
    ];
    let rank = |role: &str| TOKENS.iter().position(|known| *known == role).unwrap();
    for (path, needed) in needs {
        for who in TOKENS {
            let (status, answer) = say(&site, who, &format!("/api/v1/{path}"), why.clone()).await;
            let expected = if rank(who) >= rank(needed) {
                StatusCode::ACCEPTED
            } else {
                StatusCode::FORBIDDEN
            };
            assert_eq!(status, expected, "{who} {path}: {answer}");
        }
    }
    let label = json!({"label": "false_alarm", "reason": "a drill"});
    let (status, answer) = say(&site, "operator", "/api/v1/incidents/3f9c0001/label", label).await;
    assert_eq!((status, &answer["command"]), (StatusCode::ACCEPTED, &json!("c-1")));
    let said = site.host.said.lock().unwrap();
    let first = &said[0];
    assert_eq!((&*first.by, &*first.scope), ("the approver", "prod"));
    assert_eq!(first.kind, CommandKind::Approve { action: "a-1".into() });
    assert_eq!(first.reason, "the evidence is plain");
    let last = said.last().unwrap();
    let (incident, label) = ("3f9c0001".into(), "false_alarm".into());
    assert_eq!(last.kind, CommandKind::Label { incident, label });
    assert!(said.iter().all(|word| &*word.by != "the viewer"));
}

#[tokio::test]
async fn a_word_says_why_and_is_about_something_that_is_there() {
    let site = site();
    let ask = async |path: &str, body: Value| say(&site, "admin", path, body).await;
    let (status, answer) = ask("/api/v1/actions/a-1/approve", json!({"reason": "  "})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(answer["error"].as_str().unwrap().contains("the ledger asks why"));
    let why = || json!({"reason": "so"});
    assert_eq!(ask("/api/v1/actions/a-2/approve", why()).await.0, StatusCode::NOT_FOUND);
    assert_eq!(ask("/api/v1/scopes/mars/freeze", why()).await.0, StatusCode::NOT_FOUND);
    let odd = json!({"label": "odd", "reason": "so"});
    assert!(ask("/api/v1/incidents/3f9c0001/label", odd).await.0.is_client_error());
    assert_eq!(site.host.said.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn another_origin_can_do_nothing_even_with_a_token() {
    let site = site();
    let body = json!({"reason": "so"});
    let post = || json("admin", "/api/v1/actions/a-1/approve", &body);
    for (name, value) in [
        ("origin", "https://evil.example"),
        ("origin", "http://localhost:81"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("host", "evil.example"),
    ] {
        let (status, ..) = ask(&site, with(post(), name, value)).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{name}: {value}");
    }
    assert_eq!(site.host.said.lock().unwrap().len(), 0);
    let own = with(
        with(post(), "origin", "http://localhost"),
        "sec-fetch-site",
        "same-origin",
    );
    assert_eq!(ask(&site, own).await.0, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn what_only_replays_is_read_only_for_everybody() {
    let site = crate::common::site_with(&TOKENS, |console| console.host = Err("this is a replay".to_owned()));
    let body = json!({"reason": "so"});
    let (status, answer) = say(&site, "admin", "/api/v1/actions/a-1/approve", body).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(answer["error"], "this is a replay");
}

#[tokio::test]
async fn bodies_and_paces_are_bounded() {
    let site = crate::common::site_with(&TOKENS, |console| console.limits.strangers = 2);
    let long = json!({"reason": "x".repeat(64 << 10)});
    let (status, _) = say(&site, "admin", "/api/v1/actions/a-1/approve", long).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let mut last = StatusCode::OK;
    for _ in 0..10 {
        last = ask(&site, request(Method::GET, "/api/v1/me")).await.0;
    }
    assert_eq!(last, StatusCode::TOO_MANY_REQUESTS, "guessing tokens is slow");
    let (status, ..) = ask(&site, crate::common::get("viewer", "/api/v1/me")).await;
    assert_eq!(status, StatusCode::OK, "and hinders nobody else");
}

#[tokio::test]
async fn answers_are_what_the_document_says() {
    let site = site();
    let (_, _, text) = ask(&site, crate::common::get("viewer", "/api/openapi.json")).await;
    let document: Value = serde_json::from_str(&text).unwrap();
    for (path, real) in [
        ("/api/v1/me", "/api/v1/me"),
        ("/api/v1/overview", "/api/v1/overview"),
        ("/api/v1/incidents", "/api/v1/incidents?q=cart&status=open"),
        ("/api/v1/incidents/{id}", "/api/v1/incidents/3f9c0001"),
        ("/api/v1/incidents/{id}/plots", "/api/v1/incidents/3f9c0001/plots"),
        ("/api/v1/ledger", "/api/v1/ledger?q=cart"),
        ("/api/v1/pipeline", "/api/v1/pipeline"),
    ] {
        let (status, _, text) = ask(&site, crate::common::get("viewer", real)).await;
        assert_eq!(status, StatusCode::OK, "{real}: {text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        let said = &document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"];
        // where its schemas stand is beside it
        let mut schema = said.clone();
        schema["components"] = document["components"].clone();
        let checked = jsonschema::validator_for(&schema).unwrap();
        assert!(!checked.is_valid(&json!({})), "{path}: anything goes");
        let flaws: Vec<String> = checked
            .iter_errors(&answer)
            .map(|flaw| format!("{}: {flaw}", flaw.instance_path()))
            .collect();
        assert!(flaws.is_empty(), "{path}: {flaws:?}\n{answer}");
    }
}

#[tokio::test]
async fn lists_are_searched_and_bounded() {
    let site = site();
    let got = async |path: &str| -> Value {
        let (_, _, text) = ask(&site, crate::common::get("viewer", path)).await;
        serde_json::from_str(&text).unwrap()
    };
    assert_eq!(got("/api/v1/incidents?q=CART").await["matching"], 1);
    assert_eq!(got("/api/v1/incidents?status=resolved").await["matching"], 0);
    let ledger = got("/api/v1/ledger?limit=1").await;
    assert_eq!(ledger["records"].as_array().unwrap().len(), 1);
    assert_eq!(ledger["matching"], ledger["kept"]);
    assert_eq!(ledger["chains"][0]["broken"], Value::Null, "{}", ledger["chains"]);
    assert_eq!(got("/api/v1/ledger?kind=action_requested").await["matching"], 1);
    assert_eq!(got("/api/v1/ledger?incident=3f9c0001&q=roll+back").await["matching"], 2);
    let (status, ..) = ask(&site, crate::common::get("viewer", "/api/v1/incidents/none")).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn news_come_as_server_sent_events_and_only_so_many_listen() {
    use http_body_util::BodyExt;
    let site = crate::common::site_with(&TOKENS, |console| {
        console.limits.streams = 1;
        console.limits.news_millis = 1;
    });
    let response = crate::common::raw(&site, crate::common::get("viewer", "/api/v1/events")).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    let mut next = async || {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        String::from_utf8(frame.to_vec()).unwrap()
    };
    assert!(next().await.contains("\"incidents\":[]"));
    let second = crate::common::raw(&site, crate::common::get("viewer", "/api/v1/events")).await;
    assert_eq!(second.status(), StatusCode::SERVICE_UNAVAILABLE);
    let mut incident = folder::incident();
    incident["revision"] = json!(9);
    let incident = serde_json::from_value(incident).unwrap();
    site.store.take([suture_console::Said::Incident(incident)]);
    assert!(next().await.contains("\"incidents\":[\"3f9c0001\"]"));
}

#[tokio::test]
async fn an_incident_is_told_as_it_was_before() {
    let site = site();
    let mut golden = serde_json::Map::new();
    for (name, path) in [("incident", "3f9c0001"), ("plots", "3f9c0001/plots")] {
        let (_, _, text) = ask(
            &site,
            crate::common::get("viewer", &format!("/api/v1/incidents/{path}")),
        )
        .await;
        golden.insert(name.to_owned(), serde_json::from_str(&text).unwrap());
    }
    let text = serde_json::to_string_pretty(&canonical(Value::Object(golden))).unwrap() + "\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/console/golden/incident.json");
    suture_testkit::golden::assert_golden(path, &text);
}

#[tokio::test]
async fn files_are_sent_packed_and_only_once() {
    let site = site();
    let asked = with(request(Method::GET, "/app.js"), "accept-encoding", "gzip, br");
    let (_, head, _) = ask(&site, asked).await;
    assert_eq!(head["content-encoding"], "gzip");
    let tag = head["etag"].to_str().unwrap().to_owned();
    let again = with(request(Method::GET, "/app.js"), "if-none-match", &tag);
    assert_eq!(ask(&site, again).await.0, StatusCode::NOT_MODIFIED);
}
