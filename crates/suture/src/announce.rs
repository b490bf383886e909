//! Where announcements of changes go: to a topic of changes, or to a file.

use std::{
    fs::File,
    io::Write as _,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, bail};
use suture_codec::{ChangeFormat, cdevents};
use suture_config::Pipeline;
use suture_event::{Change, HeadersBuf};
use suture_log::{Appender, OutRecord};

/// Where to.
#[derive(Debug, clap::Args)]
pub(crate) struct Where {
    /// The pipeline file, for the broker and the topic of changes.
    #[arg(long, value_name = "PIPELINE.yaml", env = "SUTURE_PIPELINE")]
    pub(crate) pipeline: Option<PathBuf>,
    /// The topic, where the pipeline reads changes from several; the first of its `changes` where it is left out.
    #[arg(long, value_name = "TOPIC", requires = "pipeline")]
    pub(crate) topic: Option<String>,
    /// Append to this file, one record a line, in place of the topic: `suture replay --changes` reads it.
    #[arg(long, value_name = "FILE.ndjson", required_unless_present = "pipeline")]
    pub(crate) to: Option<PathBuf>,
}

/// Takes changes, as CDEvents.
pub(crate) enum Sink {
    /// A file, one event a line.
    File(PathBuf, Mutex<File>),
    /// A topic.
    Topic(Arc<str>, Mutex<Box<dyn Appender>>),
}

impl Sink {
    /// Opens what the arguments name.
    ///
    /// # Errors
    /// Where the file cannot be opened, or the pipeline reads no such topic or not as CDEvents.
    pub(crate) fn open(to: &Where) -> anyhow::Result<Self> {
        if let Some(path) = &to.to {
            let file = File::options().create(true).append(true).open(path);
            let file = file.with_context(|| format!("cannot open {}", path.display()))?;
            return Ok(Self::File(path.clone(), Mutex::new(file)));
        }
        let path = to
            .pipeline
            .as_deref()
            .context("name a pipeline file, or a file with --to")?;
        let pipeline = suture_service::load::parse(path)?;
        let topic = topic_of(&pipeline, to.topic.as_deref())?;
        Ok(Self::Topic(topic.into(), Mutex::new(appender(&pipeline)?)))
    }

    /// Writes a change and waits until it is there.
    ///
    /// # Errors
    /// Where it cannot be written; it may be there all the same.
    pub(crate) fn put(&self, change: &Change) -> anyhow::Result<()> {
        // as what it is for Suture: the type of another tool's event would not be read back
        let change = Change {
            event_type: cdevents::type_of(change.kind).into(),
            ..change.clone()
        };
        let message = cdevents::write_change(&change)?;
        match self {
            Self::File(path, file) => {
                let line = [message.value.as_slice(), b"\n"].concat();
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                let done = file.write_all(&line).and_then(|()| file.sync_data());
                done.with_context(|| format!("cannot write {}", path.display()))
            }
            Self::Topic(topic, appender) => {
                let mut headers = HeadersBuf::default();
                for (name, value) in message.header_bytes() {
                    headers.push(name, Some(value));
                }
                let record = OutRecord {
                    headers,
                    ..OutRecord::new(topic.clone(), message.key.as_bytes(), message.value)
                };
                let mut appender = appender.lock().unwrap_or_else(PoisonError::into_inner);
                appender
                    .append(&[record])
                    .with_context(|| format!("cannot write to topic {topic}"))
            }
        }
    }
}

/// The topic to write to: one that is read as what is written.
fn topic_of<'p>(pipeline: &'p Pipeline, named: Option<&str>) -> anyhow::Result<&'p str> {
    let mut sources = pipeline.changes.iter();
    let source = match named {
        Some(topic) => sources.find(|source| source.topic == topic),
        None => sources.next(),
    };
    let Some(source) = source else {
        match named {
            Some(topic) => bail!("the pipeline reads no changes from a topic {topic}: see its `changes`"),
            None => bail!("the pipeline reads no changes: add `changes: [{{topic: changes}}]` to it"),
        }
    };
    if !matches!(source.format, ChangeFormat::Cdevents | ChangeFormat::Auto) {
        bail!(
            "topic {} is not read as CDEvents, which is what is written: name one with `format: cdevents` or `auto` by --topic",
            source.topic
        );
    }
    Ok(&source.topic)
}

#[cfg(feature = "kafka")]
fn appender(pipeline: &Pipeline) -> anyhow::Result<Box<dyn Appender>> {
    Ok(suture_service::run::connect(pipeline)?.appender()?)
}

#[cfg(not(feature = "kafka"))]
fn appender(_: &Pipeline) -> anyhow::Result<Box<dyn Appender>> {
    bail!("this build knows no broker: write to a file with --to")
}

#[cfg(test)]
mod tests {
    use suture_codec::ChangeEvent;
    use suture_event::{ChangeKind, Timestamp};

    use super::*;

    #[test]
    fn every_kind_of_change_is_read_back_from_a_file_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("changes.ndjson");
        let to = Where {
            pipeline: None,
            topic: None,
            to: Some(path.clone()),
        };
        let kinds = [
            ChangeKind::Deploy,
            ChangeKind::Rollback,
            ChangeKind::Removal,
            ChangeKind::Config,
            ChangeKind::Flag,
            ChangeKind::Other,
        ];
        let of = |kind, id: usize| Change {
            id: id.to_string().into(),
            at: Timestamp::from_millis(1_661_140_279_000),
            kind,
            service: "checkout".into(),
            environment: Some("prod".into()),
            artifact: Some("1.2".into()).filter(|_| kind != ChangeKind::Removal),
            source: "github".into(),
            event_type: "github.deployment".into(),
        };
        for (id, kind) in kinds.into_iter().enumerate() {
            Sink::open(&to).unwrap().put(&of(kind, id)).unwrap();
        }
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text.lines().count(), kinds.len());
        for (id, line) in text.lines().enumerate() {
            let expected = Change {
                event_type: cdevents::type_of(kinds[id]).into(),
                ..of(kinds[id], id)
            };
            assert_eq!(
                cdevents::decode(line.as_bytes()).unwrap(),
                ChangeEvent::Change(expected)
            );
        }
    }

    #[test]
    fn a_topic_is_written_to_that_is_read_as_cdevents() {
        let pipeline = |changes: &str| {
            let text = format!("name: shop\ntelemetry: [{{topic: telemetry}}]\n{changes}");
            Pipeline::parse("test.yaml", &text, &|_| None).unwrap()
        };
        let two = pipeline("changes: [{topic: deploys}, {topic: any, format: auto}, {topic: hooks, format: github}]\n");
        assert_eq!(topic_of(&two, None).unwrap(), "deploys");
        assert_eq!(topic_of(&two, Some("any")).unwrap(), "any");
        for (named, expected) in [
            ("hooks", "is not read as CDEvents"),
            ("other", "no changes from a topic other"),
        ] {
            let error = topic_of(&two, Some(named)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(
            topic_of(&pipeline(""), None)
                .unwrap_err()
                .to_string()
                .contains("reads no changes")
        );
    }
}
