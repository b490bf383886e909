//! Partitions that a process takes without a group.

use std::str::FromStr;

use anyhow::bail;
use suture_log::{Log, TopicPartition};

/// Partitions of one topic, as they are written on the command line: `TOPIC:0,1,2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assign {
    topic: String,
    partitions: Vec<i32>,
}

impl FromStr for Assign {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let usual = "write TOPIC:PARTITION,PARTITION,… such as telemetry:0,1";
        // names of topics hold no colon
        let Some((topic, list)) = text.split_once(':') else {
            return Err(format!("no partitions: {usual}"));
        };
        if topic.is_empty() {
            return Err(format!("no topic: {usual}"));
        }
        let mut partitions = Vec::new();
        for word in list.split(',') {
            match word.trim().parse::<i32>() {
                Ok(partition) if partition >= 0 && !partitions.contains(&partition) => partitions.push(partition),
                Ok(partition) if partition >= 0 => return Err(format!("partition {partition} is there twice")),
                _ => return Err(format!("{word:?} is no partition: {usual}")),
            }
        }
        Ok(Self {
            topic: topic.to_owned(),
            partitions,
        })
    }
}

/// What of `assigned` belongs to a plane that reads these topics; `None` where nothing was assigned at all, so that the
/// plane joins its group.
pub(crate) fn of_plane(assigned: &[Assign], topics: &[String]) -> Option<Vec<TopicPartition>> {
    if assigned.is_empty() {
        return None;
    }
    let own = assigned.iter().filter(|assign| topics.contains(&assign.topic));
    let partitions = own.flat_map(|assign| {
        let topic = assign.topic.as_str();
        assign.partitions.iter().map(move |p| TopicPartition::new(topic, *p))
    });
    Some(partitions.collect())
}

/// Refuses what cannot be meant: a topic that no plane of this process reads, a partition that is not there, one named
/// twice, a plane with nothing to do.
pub(crate) fn examine(log: &dyn Log, assigned: &[Assign], planes: &[(&str, &[String])]) -> anyhow::Result<()> {
    for (at, assign) in assigned.iter().enumerate() {
        let topic = &assign.topic;
        if !planes.iter().any(|(_, topics)| topics.contains(topic)) {
            let known: Vec<&str> = planes.iter().flat_map(|(_, t)| t.iter()).map(String::as_str).collect();
            bail!(
                "--assign {topic}: no plane of this process reads it; they read {}",
                known.join(", ")
            );
        }
        if assigned.iter().skip(at + 1).any(|other| other.topic == *topic) {
            bail!("--assign {topic}: name it once, with all of its partitions");
        }
        let there = log.topic(topic)?.map_or(0, |info| info.partitions);
        if let Some(beyond) = assign.partitions.iter().find(|partition| **partition >= there) {
            bail!("--assign {topic}:{beyond}: the topic has {there} partitions, counted from 0");
        }
    }
    if assigned.is_empty() {
        return Ok(());
    }
    for (plane, topics) in planes {
        if !assigned.iter().any(|assign| topics.contains(&assign.topic)) {
            bail!(
                "nothing is assigned to {plane}, which reads {}: assign it partitions too, or leave it out with --plane",
                topics.join(", ")
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use suture_log::{TopicSpec, memory::MemoryLog};

    use super::*;

    fn parse(text: &str) -> Result<Assign, String> {
        text.parse()
    }

    #[test]
    fn partitions_are_read_and_anything_else_is_told() {
        let assign = parse("shop.telemetry:0, 2").unwrap();
        assert_eq!(
            (assign.topic.as_str(), assign.partitions),
            ("shop.telemetry", vec![0, 2])
        );
        for (text, word) in [
            ("telemetry", "no partitions"),
            (":0", "no topic"),
            ("telemetry:", "no partition"),
            ("telemetry:0,-1", "no partition"),
            ("telemetry:0,one", "no partition"),
            ("telemetry:1,1", "twice"),
        ] {
            let told = parse(text).unwrap_err();
            assert!(told.contains(word), "{text}: {told}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_before_anything_starts() {
        let log = MemoryLog::default();
        log.create_topics(&[TopicSpec::new("in", 2), TopicSpec::new("facts", 1)])
            .unwrap();
        let (observe, decide) = (["in".to_owned()], ["facts".to_owned()]);
        let both: [(&str, &[String]); 2] = [("observe", &observe), ("decide", &decide)];
        let told = |texts: &[&str], planes: &[(&str, &[String])]| {
            let assigned: Vec<Assign> = texts.iter().map(|text| parse(text).unwrap()).collect();
            examine(&log, &assigned, planes).map_err(|error| error.to_string())
        };
        assert_eq!(told(&[], &both), Ok(()));
        assert_eq!(told(&["in:0,1", "facts:0"], &both), Ok(()));
        assert_eq!(told(&["in:1"], &both[..1]), Ok(()));
        for (texts, planes, word) in [
            (&["other:0"][..], &both[..], "they read in, facts"),
            (&["facts:0"], &both[..1], "they read in"),
            (&["in:2"], &both[..1], "has 2 partitions"),
            (&["in:0", "in:1"], &both[..1], "name it once"),
            (&["in:0"], &both[..], "nothing is assigned to decide"),
        ] {
            let told = told(texts, planes).unwrap_err();
            assert!(told.contains(word), "{texts:?}: {told}");
        }
        let assigned = [parse("in:1").unwrap()];
        assert_eq!(of_plane(&assigned, &observe), Some(vec![TopicPartition::new("in", 1)]));
        assert_eq!(of_plane(&assigned, &decide), Some(Vec::new()));
        assert_eq!(of_plane(&[], &observe), None);
    }
}
