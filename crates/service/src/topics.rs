//! The topics that a pipeline needs: what they must be like, making them, and saying what is wrong with them.

use std::{
    fmt,
    time::{Duration, Instant},
};

use suture_config::Pipeline;
use suture_event::Span;
use suture_log::{Cleanup, Created, Log, TopicInfo, TopicSpec};

use crate::planes::Topics;

/// Something about a topic that keeps the pipeline from running as it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicProblem {
    /// The topic.
    pub(crate) topic: String,
    /// What is wrong and what to do.
    pub(crate) problem: String,
    /// Whether the pipeline cannot run at all.
    pub(crate) fatal: bool,
}

impl fmt::Display for TopicProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "topic {}: {}", self.topic, self.problem)
    }
}

/// The topics that the program owns, as they must be.
#[must_use]
pub fn owned(pipeline: &Pipeline) -> Vec<TopicSpec> {
    let names = Topics::of(pipeline);
    let settings = &pipeline.kafka.topics;
    let partitions = i32::try_from(settings.partitions).unwrap_or(i32::MAX);
    let replication = (settings.replication > 0).then_some(i32::from(settings.replication));
    let spec = |name: &str| TopicSpec {
        replication,
        ..TopicSpec::new(name, partitions)
    };
    let mut specs = vec![
        spec(&names.facts).retained(settings.facts_retention),
        spec(&names.incidents).compacted(),
        spec(&names.remediations).retained(settings.retention),
        spec(&names.outcomes).retained(settings.retention),
        spec(&names.commands).retained(settings.retention),
        spec(&names.ledger),
        spec(&names.state).compacted(),
        spec(&names.dead_letters).retained(settings.retention),
    ];
    if let (Some(rekey), Some(topic)) = (&pipeline.rekey, &names.rekeyed) {
        let spec = TopicSpec {
            replication,
            ..TopicSpec::new(topic.as_ref(), i32::try_from(rekey.partitions).unwrap_or(i32::MAX))
        };
        specs.push(spec.retained(rekey.retention));
    }
    specs
}

/// The topic in between must have the partitions that the repartition stage counts on, or it would put series elsewhere
/// than before.
fn compare_partitions(pipeline: &Pipeline, spec: &TopicSpec, found: &TopicInfo) -> Option<TopicProblem> {
    let rekeyed = pipeline.rekeyed_topic().is_some_and(|topic| topic == spec.name);
    (rekeyed && spec.partitions != found.partitions).then(|| TopicProblem {
        topic: spec.name.clone(),
        problem: format!(
            "has {} partitions, and `rekey.partitions` is {}: another number moves series. Set it to {}, or let the topic \
             run dry and name another one with `rekey.topic`",
            found.partitions, spec.partitions, found.partitions
        ),
        fatal: true,
    })
}

/// Makes the owned topics that are missing, and gives the names of those that are new.
pub fn create(log: &dyn Log, pipeline: &Pipeline) -> anyhow::Result<Vec<String>> {
    let specs = owned(pipeline);
    let created = log.create_topics(&specs)?;
    let new: Vec<String> = specs
        .into_iter()
        .zip(created)
        .filter(|(_, what)| *what == Created::New)
        .map(|(spec, _)| spec.name)
        .collect();
    // a broker knows of a topic some time after the controller has made it
    let until = Instant::now() + KNOWN_WITHIN;
    for topic in &new {
        while log.topic(topic)?.is_none() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    Ok(new)
}

/// How long a broker is given to know of the topics that were made.
const KNOWN_WITHIN: Duration = Duration::from_secs(15);

/// Says what is wrong with the topics that the pipeline reads and writes.
pub(crate) fn examine(log: &dyn Log, pipeline: &Pipeline) -> anyhow::Result<Vec<TopicProblem>> {
    let mut problems = Vec::new();
    for topic in pipeline.input_topics() {
        if log.topic(topic)?.is_none() {
            let problem =
                "is an input of the pipeline and is not there: create it, or mend its name in the pipeline file";
            problems.push(TopicProblem {
                topic: topic.to_owned(),
                problem: problem.to_owned(),
                fatal: true,
            });
        }
    }
    for spec in owned(pipeline) {
        match log.topic(&spec.name)? {
            None => {
                let problem = "is not there: run with --create-topics, or create it".to_owned();
                problems.push(TopicProblem {
                    topic: spec.name,
                    problem,
                    fatal: true,
                });
            }
            Some(found) => {
                problems.extend(compare(&spec, &found));
                problems.extend(compare_partitions(pipeline, &spec, &found));
            }
        }
    }
    Ok(problems)
}

fn compare(spec: &TopicSpec, found: &TopicInfo) -> Option<TopicProblem> {
    let (problem, fatal) = match (spec.cleanup, found.cleanup) {
        (Cleanup::Compact, Some(Cleanup::Delete)) => (
            "is not compacted, so that what it must keep would go: set cleanup.policy=compact".to_owned(),
            true,
        ),
        (Cleanup::Delete, Some(Cleanup::Compact)) => (
            "is compacted, so that records it must keep would go: set cleanup.policy=delete".to_owned(),
            true,
        ),
        (Cleanup::Delete, Some(Cleanup::Delete)) => {
            let kept = found.retention.unwrap_or(Span::from_millis(i64::MAX));
            let needed = spec.retention.unwrap_or(Span::from_millis(i64::MAX));
            if kept >= needed {
                return None;
            }
            let millis = spec.retention.map_or(-1, Span::as_millis);
            (
                format!("keeps its records for {kept} only: set retention.ms={millis}"),
                false,
            )
        }
        _ => return None,
    };
    Some(TopicProblem {
        topic: spec.name.clone(),
        problem,
        fatal,
    })
}

/// Connects to the pipeline's broker and says what is wrong there: brokers, topics, and rights.
#[cfg(feature = "kafka")]
pub fn connect(pipeline: &Pipeline) -> anyhow::Result<Vec<String>> {
    let log = crate::run::kafka(pipeline)?;
    let mut topics: Vec<String> = pipeline.input_topics().into_iter().map(str::to_owned).collect();
    topics.extend(owned(pipeline).into_iter().map(|spec| spec.name));
    let mut problems = log.check(&pipeline.observe_group(), &topics);
    for spec in owned(pipeline) {
        match log.topic(&spec.name) {
            Ok(Some(found)) => {
                let told = compare(&spec, &found).into_iter();
                let told = told.chain(compare_partitions(pipeline, &spec, &found));
                problems.extend(told.map(|problem| problem.to_string()));
            }
            Ok(None) => {}
            // told above, and each further topic would be waited for in vain
            Err(_) => break,
        }
    }
    Ok(problems)
}
