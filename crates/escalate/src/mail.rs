//! Pages by e-mail.

use std::time::Duration;

use lettre::{
    Message, SmtpTransport, Transport,
    message::{Mailbox, header::ContentType},
    transport::smtp::authentication::Credentials,
};
use reqwest::Url;
use suture_config::Sink;

use crate::{
    Error, Page, PageKind,
    call::{Failure, subject, word},
};

/// A relay, and who writes to whom.
pub(crate) struct Mail {
    transport: SmtpTransport,
    from: Mailbox,
    to: Vec<Mailbox>,
}

impl Mail {
    /// `smtps://` speaks TLS from the first byte; `smtp://` goes over to it by STARTTLS and never speaks without, unless the sink
    /// is `plain`.
    pub(crate) fn new(sink: &Sink, secret: Option<String>, timeout: Duration) -> Result<Self, Error> {
        let bad = |why: String| Error::Sink {
            sink: sink.name.clone(),
            why,
        };
        let url = sink.url.as_deref().unwrap_or_default();
        let url = Url::parse(url).map_err(|error| bad(format!("the address is none: {error}")))?;
        let host = url
            .host_str()
            .ok_or_else(|| bad("the address names no relay".to_owned()))?;
        let builder = match (url.scheme(), sink.plain) {
            ("smtp", true) => SmtpTransport::builder_dangerous(host),
            ("smtp", false) => SmtpTransport::starttls_relay(host).map_err(|error| bad(error.to_string()))?,
            _ => SmtpTransport::relay(host).map_err(|error| bad(error.to_string()))?,
        };
        let builder = match url.port() {
            Some(port) => builder.port(port),
            None => builder,
        };
        let builder = match (&sink.user, secret) {
            (Some(user), Some(password)) => builder.credentials(Credentials::new(user.clone(), password)),
            _ => builder,
        };
        let mailbox = |text: &String| {
            text.parse::<Mailbox>()
                .map_err(|error| bad(format!("{text:?}: {error}")))
        };
        Ok(Self {
            transport: builder.timeout(Some(timeout)).build(),
            from: mailbox(&sink.from.clone().unwrap_or_default())?,
            to: sink.to.iter().map(mailbox).collect::<Result<_, Error>>()?,
        })
    }

    pub(crate) async fn send(&self, page: &Page) -> Result<(), Failure> {
        let message = self.message(page).map_err(|error| Failure::Final(error.to_string()))?;
        let transport = self.transport.clone();
        // the client of SMTP blocks
        let sent = tokio::task::spawn_blocking(move || transport.send(&message)).await;
        match sent {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if error.is_permanent() => Err(Failure::Final(error.to_string())),
            Ok(Err(error)) => Err(Failure::Passing(error.to_string(), None)),
            Err(error) => Err(Failure::Passing(error.to_string(), None)),
        }
    }

    /// All messages of an incident are one thread: the first has the key as its id, and the others answer it.
    fn message(&self, page: &Page) -> Result<Message, lettre::error::Error> {
        let domain = self.from.email.domain();
        let first = format!("<{}@{domain}>", page.key);
        let (prefix, id) = match page.kind {
            PageKind::Opened => (String::new(), first.clone()),
            kind => (
                format!("{}: ", word(kind)),
                format!("<{}-{}@{domain}>", page.key, word(kind)),
            ),
        };
        let mut message = Message::builder()
            .from(self.from.clone())
            .subject(format!("{prefix}{}", subject(page)))
            .message_id(Some(id))
            .header(ContentType::TEXT_PLAIN);
        if page.kind != PageKind::Opened {
            message = message.in_reply_to(first.clone()).references(first);
        }
        for to in &self.to {
            message = message.to(to.clone());
        }
        let owner = page
            .owner
            .as_deref()
            .map_or_else(String::new, |owner| format!("Owner: {owner}\n"));
        message.body(format!(
            "{}\n\nServices: {}\nIncident: {}\nOpened: {}\n{owner}",
            page.why,
            page.services.join(", "),
            page.incident,
            page.opened_at
        ))
    }
}
