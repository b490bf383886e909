//! An executor that calls a URL.

use std::{collections::BTreeMap, time::Duration};

use reqwest::{
    StatusCode, Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use suture_event::{ActionRequest, Checker, Problem, Span};

use crate::{Calls, Error, ExecuteError, Executor};

/// Whom to call, and how patiently.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookOptions {
    /// The address that requests are posted to, as JSON.
    pub url: String,
    /// Whether the address may be one of plain HTTP on another machine: whoever is on the way then reads and changes what is
    /// asked.
    pub plain_http: bool,
    /// Headers to send along, such as `Authorization`.
    pub headers: BTreeMap<String, String>,
    /// How long one call may take.
    pub timeout: Span,
    /// How often a call is repeated that ended in a 5xx status, a timeout or no connection.
    pub retries: u32,
    /// The wait before the first repetition; each further one is twice as long.
    pub backoff: Span,
    /// The longest wait between two calls.
    pub longest_backoff: Span,
}

impl Default for WebhookOptions {
    fn default() -> Self {
        Self {
            url: String::new(),
            plain_http: false,
            headers: BTreeMap::new(),
            timeout: Span::from_secs(10),
            retries: 4,
            backoff: Span::from_millis(500),
            longest_backoff: Span::from_secs(10),
        }
    }
}

impl WebhookOptions {
    /// Every problem, in the order of the fields.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        let mut check = Checker::default();
        match Url::parse(&self.url) {
            Ok(url) if url.scheme() == "http" && !self.plain_http && !is_here(&url) => {
                let message = "is plain HTTP to another machine, where anybody on the way can read and change it";
                check.wrong(
                    "url",
                    message,
                    "write https://, or say that plain HTTP is meant (`plain_http`, --plain-http)",
                );
            }
            Ok(url) if ["http", "https"].contains(&url.scheme()) => {}
            Ok(url) => {
                let message = format!("{:?} cannot be posted to", url.scheme());
                check.wrong("url", message, "write an address that starts with http:// or https://");
            }
            Err(error) => {
                let message = format!("{:?} is no address: {error}", self.url);
                check.wrong("url", message, "write one such as https://runner.example/actions");
            }
        }
        for (name, value) in &self.headers {
            if HeaderName::try_from(name).is_err() || HeaderValue::try_from(value).is_err() {
                let help = "use letters, digits and - in the name, and no line breaks in the value";
                check.wrong(format!("headers.{name}"), "is no HTTP header", help);
            }
        }
        if self.timeout.as_millis() <= 0 {
            check.wrong("timeout", "is no time at all", "write a span such as 10s");
        }
        check.found()
    }

    /// The wait before each repetition, in order. No jitter: a schedule can be told in advance, and requests are few.
    pub fn schedule(&self) -> impl Iterator<Item = Span> + use<> {
        let longest = self.longest_backoff;
        let mut next = self.backoff;
        (0..self.retries).map(move |_| {
            let wait = next.min(longest);
            next = Span::from_millis(next.as_millis().saturating_mul(2));
            wait
        })
    }
}

/// Posts a request as JSON, with its id in the header `Idempotency-Key`. Any 2xx status is success.
///
/// A request is posted at least once: again after an answer that may pass, and again by whoever takes over from a process that
/// died before it wrote down the answer. The receiver must do nothing for a key that it has seen. Redirects are not followed: the
/// headers and the request would go to an address that nobody named. What the receiver says goes to the log, at most 500 bytes of
/// it, and not into topics, which others read.
#[derive(Debug, Clone)]
pub struct Webhook {
    client: reqwest::Client,
    url: Url,
    schedule: Vec<Duration>,
}

enum Failure {
    /// Calling again will not help.
    Final(ExecuteError),
    /// It may.
    Passing(String),
}

impl Webhook {
    /// An executor that calls the URL of the options.
    ///
    /// # Errors
    /// [`Error::Options`] with every problem; [`Error::Client`] where this machine has no usable TLS set-up.
    pub fn new(options: &WebhookOptions) -> Result<Self, Error> {
        let problems = options.validate();
        let url = match Url::parse(&options.url) {
            Ok(url) if problems.is_empty() => url,
            _ => return Err(Error::Options(problems)),
        };
        let headers: HeaderMap = options
            .headers
            .iter()
            .filter_map(|(name, value)| {
                let mut value = HeaderValue::try_from(value).ok()?;
                // kept out of debug output: most often a token
                value.set_sensitive(true);
                Some((HeaderName::try_from(name).ok()?, value))
            })
            .collect();
        let client = reqwest::Client::builder()
            .timeout(millis(options.timeout))
            .redirect(reqwest::redirect::Policy::none())
            .default_headers(headers)
            .build()
            .map_err(|error| Error::Client(error.to_string()))?;
        Ok(Self {
            client,
            url,
            schedule: options.schedule().map(millis).collect(),
        })
    }

    async fn call(&self, request: &ActionRequest, calls: &Calls) -> Result<String, Failure> {
        calls.may().await.map_err(Failure::Final)?;
        let what = format!("POST {}", self.url.host_str().unwrap_or_default());
        let sent = self
            .client
            .post(self.url.clone())
            .header("Idempotency-Key", request.id.as_ref())
            .json(request);
        // without the address, which may hold a secret
        let response = match sent.send().await {
            Ok(response) => response,
            Err(error) => {
                let said = error.without_url().to_string();
                calls.made(what, said.as_str());
                return Err(Failure::Passing(said));
            }
        };
        let status = response.status();
        calls.made(what, status.to_string());
        let body = beginning(response).await;
        if !body.is_empty() {
            tracing::info!(action = %request.id, %status, body, "the receiver's answer");
        }
        let said = status.to_string();
        if status.is_redirection() {
            let said = format!("{said}: redirects are not followed, name the address that it leads to");
            return Err(Failure::Final(ExecuteError::Failed(said)));
        }
        if status.is_success() {
            Ok(said)
        } else if status.is_server_error()
            || [
                StatusCode::REQUEST_TIMEOUT,
                StatusCode::TOO_EARLY,
                StatusCode::TOO_MANY_REQUESTS,
            ]
            .contains(&status)
        {
            Err(Failure::Passing(said))
        } else if [
            StatusCode::FORBIDDEN,
            StatusCode::NOT_FOUND,
            StatusCode::UNPROCESSABLE_ENTITY,
        ]
        .contains(&status)
        {
            Err(Failure::Final(ExecuteError::Refused(said)))
        } else {
            Err(Failure::Final(ExecuteError::Failed(said)))
        }
    }
}

impl Executor for Webhook {
    async fn execute(&self, request: &ActionRequest, calls: &Calls) -> Result<String, ExecuteError> {
        let mut waits = self.schedule.iter();
        loop {
            let said = match self.call(request, calls).await {
                Ok(said) => return Ok(said),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(said)) => said,
            };
            let Some(wait) = waits.next() else {
                let made = self.schedule.len() + 1;
                return Err(ExecuteError::Failed(format!("after {made} calls: {said}")));
            };
            tracing::warn!(action = %request.id, %said, wait_ms = wait.as_millis(), "calling again");
            tokio::time::sleep(*wait).await;
        }
    }

    /// The receiver has the id as its idempotency key.
    fn repeatable(&self) -> bool {
        true
    }
}

/// Whether an address is on this machine.
fn is_here(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// At most the first 500 bytes of an answer, in one line.
async fn beginning(mut response: reqwest::Response) -> String {
    const MOST: usize = 500;
    let mut bytes = Vec::new();
    while bytes.len() < MOST {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) | Err(_) => break,
        }
    }
    bytes.truncate(MOST);
    String::from_utf8_lossy(&bytes)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

fn millis(span: Span) -> Duration {
    Duration::from_millis(u64::try_from(span.as_millis()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_doubles_up_to_its_bound() {
        let options = WebhookOptions {
            retries: 5,
            backoff: Span::from_millis(500),
            longest_backoff: Span::from_secs(3),
            ..WebhookOptions::default()
        };
        let waits: Vec<i64> = options.schedule().map(Span::as_millis).collect();
        assert_eq!(waits, [500, 1_000, 2_000, 3_000, 3_000]);
    }

    #[test]
    fn an_address_that_cannot_be_posted_to_is_a_problem() {
        for url in ["", "runner", "file:///etc/passwd", "http://runner.example/actions"] {
            let options = WebhookOptions {
                url: url.to_owned(),
                ..WebhookOptions::default()
            };
            assert_eq!(options.validate()[0].path, "url", "{url}");
            assert!(matches!(Webhook::new(&options), Err(Error::Options(_))));
        }
    }
}
