//! A console over a small folder, and ways to ask it.

pub(crate) mod folder;

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode},
    response::Response,
};
use http_body_util::BodyExt;
use serde_json::Value;
use suture_console::{
    Console, Host, HttpLimits, Limits, Refusal, Store, Word,
    access::{Entry, Role, Tokens},
    router,
};
use tower::ServiceExt;

/// One token for each role, called like it.
pub(crate) const TOKENS: [&str; 4] = ["viewer", "operator", "approver", "admin"];

/// A host that remembers what was said.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) said: Mutex<Vec<Word>>,
}

impl Host for Memory {
    fn say(&self, word: &Word) -> Result<Arc<str>, Refusal> {
        let mut said = self.said.lock().unwrap();
        said.push(word.clone());
        Ok("c-1".into())
    }
}

pub(crate) struct Site {
    pub(crate) router: Router,
    pub(crate) store: Arc<Store>,
    pub(crate) host: Arc<Memory>,
}

pub(crate) fn site() -> Site {
    site_with(&TOKENS, |_| {})
}

pub(crate) fn site_with(tokens: &[&str], change: impl FnOnce(&mut Console)) -> Site {
    let roles = [Role::Viewer, Role::Operator, Role::Approver, Role::Admin];
    let role = |token: &str| roles[TOKENS.iter().position(|known| *known == token).unwrap()];
    let entries: Vec<Entry> = tokens
        .iter()
        .map(|token| Entry::of(token, &format!("the {token}"), role(token)))
        .collect();
    let written = folder::written();
    let store = Arc::new(suture_console::folder::read(written.path(), Limits::default()).unwrap());
    let host = Arc::new(Memory::default());
    let mut console = Console {
        store: store.clone(),
        tokens: Tokens::new(&entries, 1_000, 1_000).unwrap(),
        host: Ok(host.clone()),
        limits: HttpLimits {
            names: Some(vec!["localhost".to_owned()]),
            strangers: 1_000,
            ..HttpLimits::default()
        },
    };
    change(&mut console);
    Site {
        router: router(console),
        store,
        host,
    }
}

pub(crate) fn request(method: Method, path: &str) -> Request<Body> {
    let request = Request::builder().method(method).uri(path).header("host", "localhost");
    request.body(Body::empty()).unwrap()
}

pub(crate) fn with(mut request: Request<Body>, name: &str, value: &str) -> Request<Body> {
    let name: HeaderName = name.parse().unwrap();
    request
        .headers_mut()
        .insert(name, HeaderValue::from_str(value).unwrap());
    request
}

pub(crate) fn get(who: &str, path: &str) -> Request<Body> {
    with(request(Method::GET, path), "authorization", &format!("Bearer {who}"))
}

pub(crate) fn json(who: &str, path: &str, body: &Value) -> Request<Body> {
    let mut asked = with(get(who, path), "content-type", "application/json");
    *asked.method_mut() = Method::POST;
    *asked.body_mut() = Body::from(body.to_string());
    asked
}

pub(crate) async fn raw(site: &Site, request: Request<Body>) -> Response {
    site.router.clone().oneshot(request).await.unwrap()
}

pub(crate) async fn ask(site: &Site, request: Request<Body>) -> (StatusCode, HeaderMap, String) {
    let response = raw(site, request).await;
    let (status, headers) = (response.status(), response.headers().clone());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, headers, String::from_utf8_lossy(&body).into_owned())
}
