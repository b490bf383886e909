//! Taking a shard over: fence whoever had it, then learn where to go on.

use suture_log::{Isolation, Log, Offset, Producer, Range, TopicPartition};
use tracing::warn;

use crate::{
    Error, OnRepartition, Start,
    clock::duration,
    error::Failure,
    mark::{Mark, record_hash},
    shard::Env,
};

/// A shard taken over: no other process can commit for it any more.
pub(crate) struct Lease {
    pub(crate) producer: Box<dyn Producer>,
    /// The next record to be read.
    pub(crate) start: Offset,
    pub(crate) range: Range,
    /// Partitions of the input topic.
    pub(crate) partitions: i32,
    pub(crate) origin: Origin,
}

/// On what ground a shard goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nobody has ever run it.
    New,
    /// At what was committed.
    Resumed(Mark),
    /// The same, and the topic's number of partitions has changed since, which the operator accepts.
    Repartitioned(Mark),
    /// What was committed is of no use.
    Cold { epoch: Option<u32>, reason: String },
}

/// Fences, then reads what was committed: in this order, so that nothing can be committed in between.
pub(crate) fn lease(env: &Env, at: &TopicPartition) -> Result<Lease, Failure> {
    let log = env.log.as_ref();
    let options = &env.options;
    let id = options.transactional_id(at);
    let deadline = env.clock.now() + duration(options.open_within);
    let patient = |what: &str, error: &suture_log::Error| {
        let retry = error.recovery() == suture_log::Recovery::Retry && env.clock.now() < deadline;
        if retry {
            warn!(shard = %at, %error, "{what}: trying again");
            env.clock.pause(duration(options.backoff));
        }
        retry
    };
    let mut producer = loop {
        match log.producer(&id) {
            Ok(producer) => break producer,
            Err(error) if patient("fencing", &error) => {}
            Err(error) => return Err(error.into()),
        }
    };
    // partition 0 tells a partition that was added later from one that was always there
    let zero = TopicPartition::new(at.topic.clone(), 0);
    let asked = if *at == zero {
        vec![zero]
    } else {
        vec![at.clone(), zero]
    };
    let committed = loop {
        match log.committed(&options.group, &asked) {
            Ok(committed) => break committed,
            Err(error @ suture_log::Error::Unstable { .. }) if env.clock.now() < deadline => {
                // Fencing is over, so the broker holds that no transaction of this id is left; yet one still holds the
                // offset back. It has lost what ends it, and nobody will write that any more unless this producer does.
                warn!(shard = %at, %error, "the broker has lost the end of a transaction: ending it as aborted");
                producer.end_hanging(&options.group, std::slice::from_ref(at), &outputs(env)?)?;
                env.clock.pause(duration(options.backoff));
            }
            Err(error) if patient("reading the committed offset", &error) => {}
            Err(error) => return Err(error.into()),
        }
    };
    let range = log.range(at)?;
    let info = log.topic(&at.topic)?.ok_or_else(|| {
        Failure::Stop(Error::NoTopic {
            topic: at.topic.to_string(),
        })
    })?;
    let partitions = info.partitions;
    let mut committed = committed.into_iter();
    let (own, first) = (committed.next().flatten(), committed.next().flatten());

    let found = |start, origin| Lease {
        producer,
        start,
        range,
        partitions,
        origin,
    };
    let refused = |was| {
        let topic = at.topic.to_string();
        Failure::Stop(Error::Repartitioned {
            topic,
            was,
            now: partitions,
        })
    };
    let Some(own) = own else {
        let was = first
            .and_then(|first| Mark::decode(&first.metadata))
            .map(|mark| mark.partitions);
        match was {
            Some(was) if was != partitions && options.on_repartition == OnRepartition::Refuse => {
                return Err(refused(was));
            }
            _ => {}
        }
        let start = match options.start {
            // where records were moved here from another partition, none of them may be passed over
            _ if was.is_some() => range.start,
            Start::Earliest => range.start,
            Start::Latest => range.end,
        };
        return Ok(found(start, Origin::New));
    };
    let Some(mark) = Mark::decode(&own.metadata) else {
        let reason = format!("offset {} was committed by something else than suture", own.offset);
        let start = own.offset.clamp(range.start, range.end);
        return Ok(found(start, Origin::Cold { epoch: None, reason }));
    };
    let epoch = Some(mark.epoch);
    if own.offset > range.end {
        let reason = format!(
            "offset {} was committed and the partition ends at {}: the topic was created anew or cut short",
            own.offset, range.end
        );
        return Ok(found(range.start, Origin::Cold { epoch, reason }));
    }
    if own.offset < range.start {
        let reason = format!(
            "records {} to {} were deleted before they were read: the topic's retention is too short",
            own.offset,
            range.start - 1
        );
        return Ok(found(range.start, Origin::Cold { epoch, reason }));
    }
    if !same_topic(log, at, &mark, range)? {
        let reason = "the record before the committed offset is another one: the topic was created anew".to_owned();
        return Ok(found(range.start, Origin::Cold { epoch, reason }));
    }
    if mark.partitions != partitions {
        if options.on_repartition == OnRepartition::Refuse {
            return Err(refused(mark.partitions));
        }
        return Ok(found(own.offset, Origin::Repartitioned(mark)));
    }
    Ok(found(own.offset, Origin::Resumed(mark)))
}

/// All partitions that a shard may have written to.
fn outputs(env: &Env) -> Result<Vec<TopicPartition>, suture_log::Error> {
    let mut all = Vec::new();
    for name in env.options.output_topics.iter().chain([&env.options.state_topic]) {
        let partitions = env.log.topic(name)?.map_or(0, |topic| topic.partitions);
        all.extend((0..partitions).map(|partition| TopicPartition::new(name.as_str(), partition)));
    }
    Ok(all)
}

/// Whether the last record that was taken in is still the one at its offset.
fn same_topic(log: &dyn Log, at: &TopicPartition, mark: &Mark, range: Range) -> Result<bool, Failure> {
    let Some((offset, hash)) = mark.last.filter(|(offset, _)| *offset >= range.start) else {
        return Ok(true);
    };
    let mut reader = log.reader(at, offset, Isolation::ReadCommitted)?;
    let mut seen = None;
    while seen.is_none() {
        let end = reader.read(std::time::Duration::from_secs(10), 1, &mut |record| {
            seen.get_or_insert((record.offset, record_hash(&record)));
        })?;
        if end {
            break;
        }
        if seen.is_none() {
            return Err(Failure::Restart(Error::Log(suture_log::Error::Indefinite {
                what: format!("reading {at} at {offset}"),
                detail: "nothing came for 10 s".to_owned(),
            })));
        }
    }
    // where the record itself has been compacted away, nothing speaks against it
    Ok(seen.is_none_or(|(at, now)| at != offset || now == hash))
}
