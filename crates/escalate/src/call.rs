//! Saying a page to every sink.

use std::{path::Path, time::Duration};

use reqwest::{StatusCode, Url, header::RETRY_AFTER};
use serde_json::{Value, json};
use suture_config::{Escalate, Sink, SinkKind};
use suture_event::{Span, hex16, stable_hash};

use crate::{Error, Page, PageKind, mail::Mail};

/// Where PagerDuty takes events.
const PAGERDUTY: &str = "https://events.pagerduty.com/v2/enqueue";

/// The longest summary that PagerDuty takes, in characters.
const SUMMARY: usize = 1_024;

/// The sinks of a pipeline file with their secrets, ready to be called.
///
/// A page is said at least once: again after an answer that may pass, and again by whoever takes over from a process that died. Its
/// key is the same each time. Redirects are not followed: the secret and the page would go to an address that nobody named.
pub struct Caller {
    sinks: Vec<Ready>,
    client: reqwest::Client,
    schedule: Vec<Span>,
    longest: Span,
}

/// A sink that did not take a page, in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The sink's name.
    pub sink: String,
    /// What it or the line said last, without addresses and secrets.
    pub why: String,
}

struct Ready {
    name: String,
    how: How,
}

enum How {
    Post {
        kind: SinkKind,
        url: Url,
        secret: Option<String>,
    },
    Mail(Mail),
}

/// Why one call failed.
pub(crate) enum Failure {
    /// Calling again will not help.
    Final(String),
    /// It may, no sooner than that where somebody said so.
    Passing(String, Option<Duration>),
}

impl Caller {
    /// Reads the secrets. Relative paths of files are from `folder`, that of the pipeline file; `env` reads a variable of the
    /// environment.
    ///
    /// # Errors
    /// Where a secret is not there, an address can't be used, or this machine has no usable TLS set-up.
    pub fn new(options: &Escalate, folder: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let timeout = millis(options.timeout);
        let client = reqwest::Client::builder()
            .timeout(timeout)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| Error::Client(error.to_string()))?;
        let ready = |sink: &Sink| {
            let secret = secret(sink, folder, env)?;
            let how = if sink.kind == SinkKind::Email {
                How::Mail(Mail::new(sink, secret, timeout)?)
            } else {
                post(sink, secret)?
            };
            Ok(Ready {
                name: sink.name.clone(),
                how,
            })
        };
        Ok(Self {
            sinks: options.sinks.iter().map(ready).collect::<Result<_, Error>>()?,
            client,
            schedule: schedule(options).collect(),
            longest: options.longest_backoff,
        })
    }

    /// Says a page to every sink at once; those that did not take it.
    pub async fn say(&self, page: &Page) -> Vec<Refused> {
        let all = self.sinks.iter().map(|sink| self.say_to(sink, page));
        futures::future::join_all(all).await.into_iter().flatten().collect()
    }

    async fn say_to(&self, sink: &Ready, page: &Page) -> Option<Refused> {
        let mut made = 0;
        loop {
            let said = match &sink.how {
                How::Post { kind, url, secret } => self.post(&sink.name, *kind, url, secret.as_deref(), page).await,
                How::Mail(mail) => mail.send(page).await,
            };
            let refused = |why: String| {
                Some(Refused {
                    sink: sink.name.clone(),
                    why,
                })
            };
            match said {
                Ok(()) => return None,
                Err(Failure::Final(why)) => return refused(why),
                Err(Failure::Passing(why, asked)) => {
                    let Some(wait) = self.schedule.get(made) else {
                        return refused(format!("after {} calls: {why}", made + 1));
                    };
                    let wait = jittered(*wait, page, &sink.name, made);
                    let wait = asked.map_or(wait, |asked| wait.max(asked.min(millis(self.longest))));
                    tracing::warn!(
                        sink = sink.name,
                        key = page.key,
                        why,
                        wait_ms = wait.as_millis(),
                        "calling again"
                    );
                    tokio::time::sleep(wait).await;
                    made += 1;
                }
            }
        }
    }

    async fn post(
        &self,
        name: &str,
        kind: SinkKind,
        url: &Url,
        secret: Option<&str>,
        page: &Page,
    ) -> Result<(), Failure> {
        let Some(body) = body(name, kind, secret, page) else {
            return Ok(());
        };
        let mut request = self.client.post(url.clone()).json(&body);
        if let (SinkKind::Alertmanager | SinkKind::Webhook, Some(token)) = (kind, secret) {
            request = request.bearer_auth(token);
        }
        if kind == SinkKind::Webhook {
            request = request.header("Idempotency-Key", format!("{}-{}", page.key, word(page.kind)));
        }
        // without the address, which may be the secret
        let response = request
            .send()
            .await
            .map_err(|error| Failure::Passing(error.without_url().to_string(), None))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        if status.is_redirection() {
            let why = format!("{status}: redirects are not followed, name the address that it leads to");
            return Err(Failure::Final(why));
        }
        if status.is_server_error() || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status) {
            let asked = response
                .headers()
                .get(RETRY_AFTER)
                .and_then(|value| value.to_str().ok()?.parse().ok());
            return Err(Failure::Passing(status.to_string(), asked.map(Duration::from_secs)));
        }
        Err(Failure::Final(status.to_string()))
    }
}

fn secret(sink: &Sink, folder: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Option<String>, Error> {
    let missing = |why: String| Error::Secret {
        sink: sink.name.clone(),
        why,
    };
    let text = if let Some(file) = &sink.secret_file {
        let path = folder.join(file);
        std::fs::read_to_string(&path).map_err(|error| missing(format!("cannot read {}: {error}", path.display())))?
    } else if let Some(variable) = &sink.secret_env {
        env(variable).ok_or_else(|| missing(format!("the variable {variable} is not set")))?
    } else {
        return Ok(None);
    };
    let text = text.trim().to_owned();
    if text.is_empty() {
        return Err(missing(
            "the secret is empty: put it alone into the file or the variable".to_owned(),
        ));
    }
    Ok(Some(text))
}

fn post(sink: &Sink, secret: Option<String>) -> Result<How, Error> {
    let bad = |why: &str| Error::Sink {
        sink: sink.name.clone(),
        why: why.to_owned(),
    };
    let (url, secret) = match (sink.kind, &sink.url) {
        (SinkKind::Slack, _) => (
            secret.ok_or_else(|| bad("the address of Slack's webhook is missing"))?,
            None,
        ),
        (SinkKind::Pagerduty, None) => (PAGERDUTY.to_owned(), secret),
        (_, Some(url)) => (url.clone(), secret),
        (_, None) => return Err(bad("the address is missing")),
    };
    let url = Url::parse(&url).map_err(|error| bad(&format!("the address is none: {error}")))?;
    match url.scheme() {
        "https" => {}
        // an address that was read from a file is looked at here first
        "http" if sink.plain || is_here(&url) => {}
        "http" => {
            return Err(bad(
                "plain HTTP to another machine: write https://, or `plain: true` where that is meant",
            ));
        }
        _ => return Err(bad("the address must begin with https://")),
    }
    Ok(How::Post {
        kind: sink.kind,
        url,
        secret,
    })
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

/// What is posted; nothing where the receiver knows no such thing.
fn body(name: &str, kind: SinkKind, secret: Option<&str>, page: &Page) -> Option<Value> {
    Some(match kind {
        SinkKind::Pagerduty => pagerduty(secret.unwrap_or_default(), page),
        SinkKind::Slack => json!({"text": slack(page)}),
        SinkKind::Alertmanager if page.kind == PageKind::Acknowledged => return None,
        SinkKind::Alertmanager => alertmanager(name, page),
        SinkKind::Webhook | SinkKind::Email => serde_json::to_value(page).ok()?,
    })
}

/// <https://developer.pagerduty.com/docs/send-alert-event>
fn pagerduty(routing_key: &str, page: &Page) -> Value {
    let action = match page.kind {
        PageKind::Opened => "trigger",
        PageKind::Acknowledged => "acknowledge",
        PageKind::Resolved => "resolve",
    };
    let mut event = json!({"routing_key": routing_key, "event_action": action, "dedup_key": page.key});
    if let (PageKind::Opened, Some(event)) = (page.kind, event.as_object_mut()) {
        let payload = json!({
            "summary": subject(page).chars().take(SUMMARY).collect::<String>(),
            "source": page.scope,
            "severity": page.severity,
            "timestamp": page.at,
            "component": page.services.join(", "),
            "group": page.scope,
            "class": page.trigger,
            "custom_details": {
                "why": page.why, "incident": page.incident, "owner": page.owner, "opened_at": page.opened_at,
            },
        });
        event.insert("client".to_owned(), "Suture".into());
        event.insert("payload".to_owned(), payload);
    }
    event
}

/// <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>
fn slack(page: &Page) -> String {
    let escaped = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let what = match page.kind {
        PageKind::Opened => "needs a human",
        PageKind::Acknowledged => "acknowledged",
        PageKind::Resolved => "resolved",
    };
    let owner = page
        .owner
        .as_deref()
        .map_or_else(String::new, |owner| format!("\nOwner: {}", escaped(owner)));
    format!(
        "*{}*: {}\n{}\nServices: {}\nIncident: `{}`{owner}",
        what,
        escaped(&subject(page)),
        escaped(&page.why),
        escaped(&page.services.join(", ")),
        escaped(&page.incident),
    )
}

/// <https://prometheus.io/docs/alerting/latest/configuration/#webhook_config>, version 4.
fn alertmanager(receiver: &str, page: &Page) -> Value {
    let status = if page.kind == PageKind::Resolved {
        "resolved"
    } else {
        "firing"
    };
    let labels = json!({
        "alertname": "SutureIncident", "incident": page.incident, "scope": page.scope, "severity": page.severity,
        "service": page.services.join(","),
    });
    let annotations = json!({
        "summary": page.title, "description": page.why, "owner": page.owner.as_deref().unwrap_or_default(),
    });
    let ends_at = if page.kind == PageKind::Resolved {
        json!(page.at)
    } else {
        json!("0001-01-01T00:00:00Z")
    };
    json!({
        "version": "4",
        "groupKey": format!("{{}}:{{incident=\"{}\"}}", page.incident),
        "truncatedAlerts": 0,
        "status": status,
        "receiver": receiver,
        "groupLabels": {"incident": page.incident},
        "commonLabels": labels,
        "commonAnnotations": annotations,
        "externalURL": "",
        "alerts": [{
            "status": status,
            "labels": labels,
            "annotations": annotations,
            "startsAt": page.opened_at,
            "endsAt": ends_at,
            "generatorURL": "",
            "fingerprint": hex16(stable_hash([page.key.as_bytes()])),
        }],
    })
}

/// A page in one line.
pub(crate) fn subject(page: &Page) -> String {
    let title: String = page
        .title
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    format!("[{}] {title} ({})", page.severity, page.scope)
}

pub(crate) const fn word(kind: PageKind) -> &'static str {
    match kind {
        PageKind::Opened => "opened",
        PageKind::Acknowledged => "acknowledged",
        PageKind::Resolved => "resolved",
    }
}

/// The wait before each repetition, in order.
fn schedule(options: &Escalate) -> impl Iterator<Item = Span> + use<> {
    let (longest, mut next) = (options.longest_backoff, options.backoff);
    (0..options.retries).map(move |_| {
        let wait = next.min(longest);
        next = Span::from_millis(next.as_millis().saturating_mul(2));
        wait
    })
}

/// Between half of a wait and all of it. By chance among pages and sinks, so that those who failed together do not come back
/// together; the same for one call, which needs no entropy.
fn jittered(wait: Span, page: &Page, sink: &str, made: usize) -> Duration {
    let whole = u64::try_from(wait.as_millis()).unwrap_or(0);
    let chance = stable_hash([page.key.as_bytes(), sink.as_bytes(), &made.to_le_bytes()]);
    Duration::from_millis(whole - chance % (whole / 2 + 1))
}

fn millis(span: Span) -> Duration {
    Duration::from_millis(u64::try_from(span.as_millis()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use suture_config::Trigger;
    use suture_event::Timestamp;

    use super::*;

    fn page() -> Page {
        Page {
            key: "suture-i".to_owned(),
            kind: PageKind::Opened,
            trigger: Trigger::Budget,
            at: Timestamp::from_millis(2_000),
            opened_at: Timestamp::from_millis(1_000),
            incident: "i".into(),
            scope: "prod".into(),
            title: "errors <in>\ncart".to_owned(),
            severity: "critical".to_owned(),
            services: vec!["cart".to_owned()],
            why: "a & b".to_owned(),
            owner: None,
        }
    }

    #[test]
    fn waits_double_up_to_the_longest_and_jitter_takes_at_most_half() {
        let options = Escalate {
            retries: 4,
            backoff: Span::from_secs(1),
            longest_backoff: Span::from_secs(3),
            ..Escalate::default()
        };
        let waits: Vec<_> = schedule(&options).collect();
        assert_eq!(waits, [1, 2, 3, 3].map(Span::from_secs));
        let jittered: Vec<_> = (0..100)
            .map(|made| jittered(waits[1], &page(), "s", made).as_millis())
            .collect();
        assert!(jittered.iter().all(|ms| (1_000..=2_000).contains(ms)));
        assert!(jittered.iter().any(|ms| *ms < 1_300) && jittered.iter().any(|ms| *ms > 1_700));
    }

    #[test]
    fn what_is_shown_to_people_is_one_line_and_no_markup_of_others() {
        assert_eq!(subject(&page()), "[critical] errors <in> cart (prod)");
        let text = slack(&page());
        assert!(
            text.contains("errors &lt;in&gt; cart") && text.contains("a &amp; b"),
            "{text}"
        );
    }
}
