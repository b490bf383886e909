//! Whom to call when a human must take over.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use suture_event::{Problem, Span};

use crate::Pipeline;

/// Who is called, and for what, by `suture escalate`. Decides nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Escalate {
    /// What somebody is called for: the first of these in an incident calls, and the rest until it is resolved do not call again.
    pub on: BTreeSet<Trigger>,
    /// Who is called, all at once.
    pub sinks: Vec<Sink>,
    /// How long one call may take.
    pub timeout: Span,
    /// How often a call is repeated that ended in no answer, 429 or a 5xx status. After that it goes to the dead letters.
    #[schemars(range(min = 0, max = 20))]
    pub retries: u32,
    /// The wait before the first repetition, which is twice as long before each further one; from half of it on, by chance.
    pub backoff: Span,
    /// The longest wait between two calls.
    pub longest_backoff: Span,
}

/// What a human is called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// The program handed the incident over, for whatever reason.
    HandedOver,
    /// The hypothesis is not probable enough for more than advice.
    LowConfidence,
    /// No playbook answers the diagnosis.
    Unprecedented,
    /// A budget is spent.
    Budget,
    /// The signals did not come back after an action.
    NotVerified,
    /// An action was undone, or could not be.
    Reversed,
    /// Nobody approved in time.
    Unanswered,
}

impl Trigger {
    /// All of them, which is what calls by default.
    pub const ALL: [Self; 7] = [
        Self::HandedOver,
        Self::LowConfidence,
        Self::Unprecedented,
        Self::Budget,
        Self::NotVerified,
        Self::Reversed,
        Self::Unanswered,
    ];
}

/// One way to call somebody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sink {
    /// Its name, for logs and dead letters.
    #[schemars(length(min = 1))]
    pub name: String,
    /// What is spoken to.
    pub kind: SinkKind,
    /// Where: https, or smtp (STARTTLS) and smtps for e-mail. PagerDuty's own where it is left out; not for Slack, whose address is
    /// the secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// A file with the secret alone: PagerDuty's routing key, the address of Slack's incoming webhook, the bearer token of Alertmanager's
    /// receiver or a webhook, the password for e-mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<String>,
    /// The variable of the environment that holds it, in place of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_env: Option<String>,
    /// Call another machine without TLS all the same: whoever is on the way then reads and changes what is said.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plain: bool,
    /// For e-mail: who it is from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// For e-mail: who gets it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<String>,
    /// For e-mail: the user whose password the secret is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// What a sink speaks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SinkKind {
    /// PagerDuty's Events API, version 2.
    Pagerduty,
    /// An incoming webhook of Slack, or of what takes the same.
    Slack,
    /// What takes Alertmanager's webhooks, in version 4.
    Alertmanager,
    /// Anything that takes JSON.
    Webhook,
    /// An SMTP relay.
    Email,
}

impl Default for Escalate {
    fn default() -> Self {
        Self {
            on: Trigger::ALL.into(),
            sinks: Vec::new(),
            timeout: Span::from_secs(10),
            retries: 5,
            backoff: Span::from_secs(1),
            longest_backoff: Span::from_secs(30),
        }
    }
}

impl Escalate {
    /// Everything that cannot be.
    pub(crate) fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut tell = |path: String, message: &str, help: &str| {
            problems.push(Problem::new(path, message, help));
        };
        if self.sinks.is_empty() {
            tell("sinks".to_owned(), "names nobody to call", "list at least one sink");
        }
        if self.timeout <= Span::ZERO || self.timeout > Span::from_mins(1) {
            tell(
                "timeout".to_owned(),
                "is no time that a call can take",
                "write 1s to 1m, such as 10s",
            );
        }
        if self.backoff < Span::ZERO || self.longest_backoff > Span::from_mins(1) {
            let help = "write waits of 0s to 1m: nobody else is called meanwhile";
            tell("backoff".to_owned(), "is no wait that can be kept", help);
        }
        let mut names = BTreeSet::new();
        for (index, sink) in self.sinks.iter().enumerate() {
            let at = |field: &str| format!("sinks[{index}].{field}");
            if !names.insert(&sink.name) {
                tell(at("name"), "another sink has this name", "give each its own");
            }
            let secrets = usize::from(sink.secret_file.is_some()) + usize::from(sink.secret_env.is_some());
            let needs = matches!(sink.kind, SinkKind::Pagerduty | SinkKind::Slack) || sink.user.is_some();
            if secrets > 1 {
                tell(
                    at("secret_env"),
                    "the secret is in two places",
                    "keep `secret_file` or `secret_env`",
                );
            } else if needs && secrets == 0 {
                tell(
                    at("secret_file"),
                    "the secret is missing",
                    "write `secret_file: PATH` or `secret_env: VARIABLE`",
                );
            }
            let schemes: &[&str] = match sink.kind {
                SinkKind::Email => &["smtps://", "smtp://"],
                _ => &["https://", "http://"],
            };
            match (&sink.url, sink.kind) {
                (Some(_), SinkKind::Slack) => {
                    tell(
                        at("url"),
                        "the address of a webhook of Slack is a secret",
                        "put it into `secret_file`",
                    );
                }
                (Some(url), _) if !schemes.iter().any(|scheme| url.starts_with(scheme)) => {
                    let help = format!("write an address that begins with {}", schemes.join(" or "));
                    tell(at("url"), "is no address that can be called", &help);
                }
                (Some(url), _) if url.contains('@') => {
                    tell(
                        at("url"),
                        "has a secret or a user in it",
                        "put the secret into `secret_file`, the user into `user`",
                    );
                }
                (Some(url), _) if url.starts_with("http://") && !sink.plain && !is_here(url) => {
                    let help = "write https://, or `plain: true` where that is meant";
                    tell(
                        at("url"),
                        "is plain HTTP to another machine, where anybody on the way can read and change it",
                        help,
                    );
                }
                (None, SinkKind::Alertmanager | SinkKind::Webhook | SinkKind::Email) => {
                    tell(at("url"), "is missing", "write where to call");
                }
                _ => {}
            }
            if sink.kind == SinkKind::Email && (sink.from.is_none() || sink.to.is_empty()) {
                tell(
                    at("to"),
                    "an e-mail needs `from` and `to`",
                    "write `from: suture@example.com` and `to: [ops@example.com]`",
                );
            }
        }
        problems
    }
}

impl Pipeline {
    /// The consumer group of `suture escalate`: as that of observe, with `-escalate`.
    #[must_use]
    pub fn escalate_group(&self) -> String {
        format!("{}-escalate", self.group())
    }
}

/// Whether an address of plain HTTP is on this machine.
fn is_here(url: &str) -> bool {
    let rest = url.trim_start_matches("http://");
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    // a name and a password come before the host
    let authority = authority.rsplit('@').next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost"
        || host
            .parse::<core::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(sink: &str) -> Vec<String> {
        let text = format!("sinks: [{sink}]");
        let escalate: Escalate = serde_saphyr::from_str(&text).unwrap();
        escalate
            .validate()
            .into_iter()
            .map(|problem| format!("{} {}", problem.path, problem.message))
            .collect()
    }

    #[test]
    fn sinks_that_can_call_are_taken() {
        for sink in [
            "{name: a, kind: pagerduty, secret_env: PD}",
            "{name: a, kind: slack, secret_file: slack.url}",
            "{name: a, kind: alertmanager, url: 'http://127.0.0.1:9/x'}",
            "{name: a, kind: alertmanager, url: 'http://[::1]:9/x'}",
            "{name: a, kind: webhook, url: 'http://far.example/x', plain: true}",
            "{name: a, kind: email, url: 'smtps://relay.example', from: s@example.com, to: [o@example.com]}",
        ] {
            assert_eq!(wrong(sink), Vec::<String>::new(), "{sink}");
        }
    }

    #[test]
    fn what_cannot_call_or_would_tell_secrets_is_refused() {
        for (sink, says) in [
            ("{name: a, kind: pagerduty}", "secret_file the secret is missing"),
            (
                "{name: a, kind: slack, secret_env: S, url: 'https://hooks.example'}",
                "url the address of a webhook",
            ),
            (
                "{name: a, kind: webhook, url: 'http://far.example/x'}",
                "url is plain HTTP",
            ),
            (
                "{name: a, kind: webhook, url: 'http://localhost.far.example/x'}",
                "url is plain HTTP",
            ),
            (
                "{name: a, kind: webhook, url: 'https://u:p@far.example'}",
                "url has a secret",
            ),
            (
                "{name: a, kind: webhook, url: 'ftp://far.example'}",
                "url is no address",
            ),
            ("{name: a, kind: webhook}", "url is missing"),
            (
                "{name: a, kind: webhook, url: 'https://x', secret_env: A, secret_file: b}",
                "secret_env the secret is in two",
            ),
            ("{name: a, kind: email, url: 'smtps://relay'}", "to an e-mail needs"),
        ] {
            let told = wrong(sink);
            assert!(told.iter().any(|line| line.contains(says)), "{sink}: {told:?}");
        }
        assert_eq!(wrong(""), ["sinks names nobody to call"]);
    }
}
