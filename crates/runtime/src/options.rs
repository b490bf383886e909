//! How a plane is run.

use suture_event::Span;
use suture_log::TopicPartition;

/// Where a shard begins that nobody has ever run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// At the oldest record retained.
    #[default]
    Earliest,
    /// After the newest record.
    Latest,
}

/// What to do when an input topic has another number of partitions than at the last commit: keyed series have moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnRepartition {
    /// Stop the shard and say so.
    #[default]
    Refuse,
    /// Go on with the state there is, as a new epoch.
    Accept,
}

/// What to do where the group has no offset of a partition, and there are traces of a shard that has worked on it: the
/// broker forgets the offsets of a group that was away for its `offsets.retention.minutes`, a week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnLostOffsets {
    /// Stop the shard with an error that says how to go on: all that it said once would be said again.
    Refuse,
    /// Begin anew where a shard begins that nobody has ever run.
    #[default]
    Accept,
}

/// How a plane is run. Every bound is here.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The group whose offsets are committed; also the start of every transactional id: `GROUP.TOPIC.PARTITION`.
    pub group: String,
    /// The topics whose partitions are the shards.
    pub topics: Vec<String>,
    /// The partitions to take without a group, each leased by its transactional id; `None` joins the group.
    pub assign: Option<Vec<TopicPartition>>,
    /// The compacted topic for snapshots.
    pub state_topic: String,
    /// The topics that the folds write to: where a transaction is looked for that the broker has lost the end of.
    pub output_topics: Vec<String>,
    /// Whether folds get ticks.
    pub ticks: bool,
    /// Where a shard begins that nobody has ever run.
    pub start: Start,
    /// What to do when the number of partitions changed.
    pub on_repartition: OnRepartition,
    /// What to do when the group's offsets are gone. Default: begin anew.
    pub on_lost_offsets: OnLostOffsets,
    /// A topic that only this plane writes to, kept for good: where it holds records and the group has no offset at all, the
    /// offsets are lost.
    pub witness_topic: Option<String>,
    /// Outputs are committed at most this often, and then at once. Default 100 ms.
    pub commit_interval: Span,
    /// Positions without any output are committed this often. Default 1 s.
    pub position_interval: Span,
    /// Outputs waiting to be committed that force a commit. Default 10,000 records.
    pub max_outputs: usize,
    /// Bytes of outputs waiting to be committed that force a commit. Default 8 MiB.
    pub max_output_bytes: usize,
    /// How often a live shard ticks, beside a tick with each commit that has outputs of records. Default 1 s.
    pub tick_interval: Span,
    /// A partition read to its end without a new record for this long is idle. Default 5 s.
    pub idle_after: Span,
    /// How often a snapshot is taken, where there is anything new. Default 1 min.
    pub snapshot_interval: Span,
    /// Size of a snapshot's pieces, below the broker's limit on a message. Default 512 KiB.
    pub snapshot_piece: usize,
    /// Size of a snapshot's objects in an object store. Default 16 MiB.
    pub object_piece: usize,
    /// Bytes of snapshot pieces that ride along with one commit. Default 4 MiB.
    pub snapshot_stride: usize,
    /// Records in a batch at most; it also ends at [`suture_log::POLL_BYTES`]. Default 8,192.
    pub batch_records: usize,
    /// Batches waiting for a shard at most; then its partition is paused until half are done. Default 8.
    pub queue: usize,
    /// How long a shard may take to commit when its partition is revoked or the program ends. Default 5 s.
    pub release_within: Span,
    /// How long a shard may take to fence its predecessor and find its position. Default 60 s.
    pub open_within: Span,
    /// The first wait before a failed shard is started anew; doubles up to `backoff_max`. Default 100 ms.
    pub backoff: Span,
    /// The longest such wait. Default 10 s.
    pub backoff_max: Span,
    /// How long a shard that was fenced waits before it concludes that it still is the owner: longer than its consumer
    /// takes to hear of a rebalance. Without the wait, a zombie would fence its successor in turn. Default 5 s.
    pub fenced_wait: Span,
    /// Definite failures of one commit that are answered by sending it again before the shard is started anew. Default 3.
    pub commit_tries: u32,
    /// Keeps the shards in step by the log's times of their records: none takes in a record that is further ahead than this
    /// of what the slowest of them has committed. For shards whose outputs meet in one partition, where the order in which
    /// they come counts. `None`, as well as nothing or less, lets each go as fast as it can, which is the default.
    pub in_step: Option<Span>,
    /// For how long the others wait for a shard that makes no progress, before they go on without it. Default 30 s.
    pub in_step_patience: Span,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            group: "suture".to_owned(),
            topics: Vec::new(),
            assign: None,
            state_topic: "suture.state".to_owned(),
            output_topics: Vec::new(),
            ticks: false,
            start: Start::Earliest,
            on_repartition: OnRepartition::Refuse,
            on_lost_offsets: OnLostOffsets::default(),
            witness_topic: None,
            commit_interval: Span::from_millis(100),
            position_interval: Span::from_secs(1),
            max_outputs: 10_000,
            max_output_bytes: 8 << 20,
            tick_interval: Span::from_secs(1),
            idle_after: Span::from_secs(5),
            snapshot_interval: Span::from_mins(1),
            snapshot_piece: 512 << 10,
            object_piece: 16 << 20,
            snapshot_stride: 4 << 20,
            batch_records: 8_192,
            queue: 8,
            release_within: Span::from_secs(5),
            open_within: Span::from_secs(60),
            backoff: Span::from_millis(100),
            backoff_max: Span::from_secs(10),
            fenced_wait: Span::from_secs(5),
            commit_tries: 3,
            in_step: None,
            in_step_patience: Span::from_secs(30),
        }
    }
}

impl Options {
    /// The transactional id of a shard: one, fixed, whoever runs it.
    #[must_use]
    pub fn transactional_id(&self, shard: &TopicPartition) -> String {
        format!("{}.{}.{}", self.group, shard.topic, shard.partition)
    }
}
