//! The webhook against a web server in this process.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests fail by panicking, as tests do

// the kit's tests use more of it
#[allow(dead_code)]
mod common;

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use common::{AtWork, log, options, request, statuses, wait_for, write};
use suture_event::{ActionRequest, OutcomeStatus, Span};
use suture_executor::{Calls, ExecuteError, Executor, Webhook, WebhookOptions};
use tokio::net::TcpListener;

/// Answers with one status after the other, the last again and again; 0 is no answer at all.
#[derive(Clone)]
struct Server {
    answers: Arc<Vec<u16>>,
    calls: Arc<Mutex<Vec<(HeaderMap, String)>>>,
}

impl Server {
    async fn begin(answers: &[u16]) -> (Self, WebhookOptions) {
        let server = Self {
            answers: Arc::new(answers.to_vec()),
            calls: Arc::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/actions", listener.local_addr().unwrap());
        let app = Router::new()
            .route("/actions", post(Self::answer))
            .with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let options = WebhookOptions {
            url,
            plain_http: false,
            headers: [("Authorization".to_owned(), "Bearer secret".to_owned())].into(),
            timeout: Span::from_millis(300),
            retries: 2,
            backoff: Span::from_millis(1),
            longest_backoff: Span::from_millis(2),
        };
        (server, options)
    }

    async fn answer(State(server): State<Self>, headers: HeaderMap, body: String) -> (StatusCode, &'static str) {
        let answer = {
            let mut calls = server.calls.lock().unwrap();
            calls.push((headers, body));
            *server.answers.get(calls.len() - 1).or(server.answers.last()).unwrap()
        };
        if answer == 0 {
            std::future::pending::<()>().await;
        }
        (StatusCode::from_u16(answer).unwrap(), "run 4711\nqueued")
    }
}

async fn call(answers: &[u16]) -> (Result<String, ExecuteError>, usize) {
    let (server, options) = Server::begin(answers).await;
    let result = Webhook::new(&options)
        .unwrap()
        .execute(&request("a", "cart"), &Calls::unwatched())
        .await;
    let calls = server.calls.lock().unwrap().len();
    (result, calls)
}

#[tokio::test]
async fn the_request_is_posted_as_json_with_its_id_as_idempotency_key() {
    let (server, options) = Server::begin(&[202]).await;
    let asked = request("a", "cart");
    let said = Webhook::new(&options)
        .unwrap()
        .execute(&asked, &Calls::unwatched())
        .await;
    assert_eq!(said, Ok("202 Accepted".to_owned()));
    let calls = server.calls.lock().unwrap();
    let (headers, body) = &calls[0];
    assert_eq!(headers["idempotency-key"], "a");
    assert_eq!(headers["authorization"], "Bearer secret");
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(serde_json::from_str::<ActionRequest>(body).unwrap(), asked);
}

#[tokio::test]
async fn a_server_error_is_tried_again_as_often_as_allowed() {
    assert_eq!(call(&[503, 500, 200]).await, (Ok("200 OK".to_owned()), 3));
    // one that has too much to do, or gave up waiting, has not said no
    assert_eq!(call(&[429, 408, 200]).await, (Ok("200 OK".to_owned()), 3));
    let (result, calls) = call(&[502]).await;
    let failed = ExecuteError::Failed("after 3 calls: 502 Bad Gateway".to_owned());
    assert_eq!((result, calls), (Err(failed), 3));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (result, calls) = call(&[302, 200]).await;
    let why = "302 Found: redirects are not followed, name the address that it leads to";
    assert_eq!((result, calls), (Err(ExecuteError::Failed(why.to_owned())), 1));
}

#[tokio::test]
async fn a_client_error_is_not_tried_again() {
    let (result, calls) = call(&[400, 200]).await;
    assert!(matches!(result, Err(ExecuteError::Failed(_))), "{result:?}");
    assert_eq!(calls, 1);
    let (result, calls) = call(&[404, 200]).await;
    assert!(matches!(result, Err(ExecuteError::Refused(_))), "{result:?}");
    assert_eq!(calls, 1);
}

#[tokio::test]
async fn no_answer_is_tried_again_with_the_same_key() {
    let (server, options) = Server::begin(&[0, 200]).await;
    let said = Webhook::new(&options)
        .unwrap()
        .execute(&request("a", "cart"), &Calls::unwatched())
        .await;
    assert!(said.is_ok(), "{said:?}");
    let calls = server.calls.lock().unwrap();
    let keys: Vec<_> = calls
        .iter()
        .map(|(headers, _)| headers["idempotency-key"].to_str().unwrap())
        .collect();
    assert_eq!(keys, ["a", "a"]);
}

#[tokio::test]
async fn an_address_where_nobody_listens_fails_without_telling_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/?token=secret", listener.local_addr().unwrap());
    drop(listener);
    let options = WebhookOptions {
        url,
        retries: 1,
        backoff: Span::from_millis(1),
        ..WebhookOptions::default()
    };
    let error = Webhook::new(&options)
        .unwrap()
        .execute(&request("a", "cart"), &Calls::unwatched())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("failed: after 2 calls: ") && !error.contains("secret"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_the_log_to_the_server_and_back() {
    let (server, hook) = Server::begin(&[500, 200]).await;
    let log = log(3);
    write(&log, &[request("a", "cart"), request("a", "cart"), request("b", "ads")]);
    let (webhook, watched) = (Webhook::new(&hook).unwrap(), log.clone());
    let found = tokio::task::spawn_blocking(move || {
        let work = AtWork::begin(watched.clone(), webhook, options());
        let found = wait_for(&watched, 3, || false);
        work.end().unwrap();
        found
    });
    let found = found.await.unwrap();
    let started_and_done = [OutcomeStatus::Started, OutcomeStatus::Succeeded];
    assert_eq!(
        statuses(&found, "a"),
        [&started_and_done[..], &[OutcomeStatus::Rejected]].concat()
    );
    assert_eq!(statuses(&found, "b"), started_and_done);
    assert_eq!(
        server.calls.lock().unwrap().len(),
        3,
        "one call failed, and each action was done once"
    );
}
