//! Topics: what they are like, and how they come to be.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication},
    consumer::Consumer as _,
    error::{KafkaError, RDKafkaErrorCode as Code},
};
use suture_event::Span;
use suture_log::{Cleanup, Created, Error, TopicInfo, TopicSpec};
use tracing::warn;

use crate::{
    ASK, KafkaLog,
    config::{Quiet, Role},
};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for one of the admin client's futures; they are woken by the client's own thread.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        thread::park();
    }
}

impl KafkaLog {
    fn admin(&self) -> Result<&AdminClient<Quiet>, Error> {
        if let Some(admin) = self.admin.get() {
            return Ok(admin);
        }
        let admin = self
            .options
            .admin()
            .create_with_context(Quiet)
            .map_err(|error| self.error("making a client", &error))?;
        // two at once may make one each; the first stays
        Ok(self.admin.get_or_init(|| admin))
    }

    pub(crate) fn describe(&self, name: &str) -> Result<Option<TopicInfo>, Error> {
        let what = format!("describing topic {name}");
        let metadata = self
            .asker(&Role::Asker)?
            .client()
            .fetch_metadata(Some(name), ASK)
            .map_err(|error| self.error(&what, &error))?;
        self.outage.over();
        let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == name) else {
            return Ok(None);
        };
        match topic.error().map(Code::from) {
            None => {}
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => return Ok(None),
            Some(code) => return Err(self.error(&what, &KafkaError::MetadataFetch(code))),
        }
        let partitions = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
        let (cleanup, retention) = self.settings(name);
        Ok(Some(TopicInfo {
            name: name.to_owned(),
            partitions,
            cleanup,
            retention,
        }))
    }

    /// The topics of the cluster that this client may see, each with how many partitions it has, by name.
    ///
    /// # Errors
    /// Where the cluster does not answer.
    pub fn topics(&self) -> Result<Vec<(String, i32)>, Error> {
        let metadata = self
            .asker(&Role::Asker)?
            .client()
            .fetch_metadata(None, ASK)
            .map_err(|error| self.error("listing the topics", &error))?;
        self.outage.over();
        let mut topics: Vec<(String, i32)> = metadata
            .topics()
            .iter()
            .map(|topic| {
                let partitions = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
                (topic.name().to_owned(), partitions)
            })
            .collect();
        topics.sort();
        Ok(topics)
    }

    /// What happens to the topic's old records, where this client may know.
    fn settings(&self, name: &str) -> (Option<Cleanup>, Option<Span>) {
        let options = AdminOptions::new().request_timeout(Some(ASK));
        let resource = ResourceSpecifier::Topic(name);
        let Ok(admin) = self.admin() else { return (None, None) };
        let described = match wait(admin.describe_configs([&resource], &options)).map(|all| all.into_iter().next()) {
            Ok(Some(Ok(described))) => described,
            Ok(Some(Err(error))) => {
                warn!(topic = name, %error, "the topic's settings are not told");
                return (None, None);
            }
            Ok(None) => return (None, None),
            Err(error) => {
                warn!(topic = name, %error, "the topic's settings are not told");
                return (None, None);
            }
        };
        let value = |key| described.get(key).and_then(|entry| entry.value.as_deref());
        let compacts = value("cleanup.policy").map(|policy| policy.split(',').any(|part| part.trim() == "compact"));
        let cleanup = compacts.map(|compacts| if compacts { Cleanup::Compact } else { Cleanup::Delete });
        let millis = value("retention.ms")
            .and_then(|text| text.parse().ok())
            .filter(|millis: &i64| *millis >= 0);
        (cleanup, millis.map(Span::from_millis))
    }

    pub(crate) fn create(&self, topics: &[TopicSpec]) -> Result<Vec<Created>, Error> {
        if topics.is_empty() {
            return Ok(Vec::new());
        }
        let settings: Vec<Vec<(String, String)>> = topics.iter().map(settings_of).collect();
        let new = topics.iter().zip(&settings).map(|(spec, settings)| {
            let replication = TopicReplication::Fixed(spec.replication.unwrap_or(-1));
            let topic = NewTopic::new(&spec.name, spec.partitions, replication);
            settings.iter().fold(topic, |topic, (key, value)| topic.set(key, value))
        });
        let new: Vec<NewTopic<'_>> = new.collect();
        let options = AdminOptions::new()
            .request_timeout(Some(ASK))
            .operation_timeout(Some(ASK));
        let results =
            wait(self.admin()?.create_topics(&new, &options)).map_err(|error| self.error("creating topics", &error))?;
        results
            .into_iter()
            .map(|result| match result {
                Ok(_) => Ok(Created::New),
                Err((_, Code::TopicAlreadyExists)) => Ok(Created::Existed),
                Err((name, code)) => Err(self.error(&format!("creating topic {name}"), &KafkaError::AdminOp(code))),
            })
            .collect()
    }
}

/// The settings that make a topic what its specification says.
fn settings_of(spec: &TopicSpec) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    let mut set = |key: &str, value: String| settings.push((key.to_owned(), value));
    match spec.cleanup {
        Cleanup::Compact => set("cleanup.policy", "compact".to_owned()),
        Cleanup::Delete => {
            set("cleanup.policy", "delete".to_owned());
            set("retention.ms", spec.retention.map_or(-1, Span::as_millis).to_string());
        }
    }
    settings.extend(spec.configs.iter().map(|(key, value)| (key.clone(), value.clone())));
    settings
}
