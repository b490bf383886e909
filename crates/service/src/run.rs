//! The planes of one process against a log.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail};
use suture_config::{Clock as Time, Pipeline};
use suture_engine::Source;
use suture_event::Span;
use suture_log::Log;
use suture_runtime::{Clock, Metrics, Objects, OnLostOffsets, Options, Plane, Shutdown};

use crate::{
    assign::{self, Assign},
    load::Loaded,
    metrics,
    planes::{DecideFolds, ObserveFolds, RekeyFolds, Topics},
    topics,
};

/// Which planes a process runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PlaneChoice {
    /// From telemetry to the partitions that its series belong in, and no further: more hands for a pipeline with `rekey`.
    Rekey,
    /// From telemetry to facts, by way of the partitions that its series belong in where the pipeline has `rekey`.
    Observe,
    /// From facts to incidents and action requests.
    Decide,
    /// Everything.
    #[default]
    Both,
}

impl PlaneChoice {
    /// Whether the stage that puts telemetry into partitions anew is among them, which not every pipeline has.
    #[must_use]
    fn rekeys(self, pipeline: &Pipeline) -> bool {
        pipeline.rekey.is_some() && self != Self::Decide
    }

    /// Whether observe is among them.
    #[must_use]
    const fn observes(self) -> bool {
        matches!(self, Self::Observe | Self::Both)
    }

    /// Whether decide is among them.
    #[must_use]
    const fn decides(self) -> bool {
        matches!(self, Self::Decide | Self::Both)
    }
}

/// How long a shutdown may take before the process ends all the same.
const DRAIN: Duration = Duration::from_secs(9);

/// The log of a pipeline's broker.
#[cfg(feature = "kafka")]
pub fn connect(pipeline: &Pipeline) -> anyhow::Result<Arc<dyn Log>> {
    crate::keys::refuse_embedded(&pipeline.remediate.keys)?;
    Ok(Arc::new(kafka(pipeline)?))
}

/// The same for the repartition stage, whose output is all of the telemetry, and is read by this program alone.
#[cfg(feature = "kafka")]
pub fn connect_rekey(pipeline: &Pipeline) -> anyhow::Result<Option<Arc<dyn Log>>> {
    let set = |key: &str| pipeline.kafka.client.contains_key(key);
    if pipeline.rekey.is_none() || set("compression.type") || set("compression.codec") {
        return Ok(None);
    }
    let mut client = pipeline.kafka.client.clone();
    client.insert("compression.type".to_owned(), "lz4".to_owned());
    Ok(Some(Arc::new(kafka_with(pipeline, client)?)))
}

/// The Kafka cluster of a pipeline.
#[cfg(feature = "kafka")]
pub(crate) fn kafka(pipeline: &Pipeline) -> anyhow::Result<suture_kafka::KafkaLog> {
    kafka_with(pipeline, pipeline.kafka.client.clone())
}

#[cfg(feature = "kafka")]
fn kafka_with(
    pipeline: &Pipeline,
    client: std::collections::BTreeMap<String, String>,
) -> anyhow::Result<suture_kafka::KafkaLog> {
    Ok(suture_kafka::KafkaLog::new(suture_kafka::Options {
        client,
        protocol: match pipeline.kafka.protocol {
            suture_config::Protocol::Classic => suture_kafka::Protocol::Cooperative,
            suture_config::Protocol::Consumer => suture_kafka::Protocol::Consumer,
        },
    })?)
}

/// A Kafka cluster by the client's settings alone, for whoever looks at it before there is a pipeline.
///
/// # Errors
/// Where the settings are not those of a client.
#[cfg(feature = "kafka")]
pub fn cluster(client: std::collections::BTreeMap<String, String>) -> anyhow::Result<suture_kafka::KafkaLog> {
    Ok(suture_kafka::KafkaLog::new(suture_kafka::Options {
        client,
        protocol: suture_kafka::Protocol::Cooperative,
    })?)
}

/// Makes the topics if told to, and refuses to start on ones that can't be right.
pub fn prepare(log: &dyn Log, pipeline: &Pipeline, create: bool) -> anyhow::Result<()> {
    if create {
        for topic in topics::create(log, pipeline)? {
            tracing::info!(topic, "created");
        }
    }
    let problems = topics::examine(log, pipeline)?;
    for problem in problems.iter().filter(|problem| !problem.fatal) {
        tracing::warn!("{problem}");
    }
    let fatal: Vec<String> = problems
        .iter()
        .filter(|problem| problem.fatal)
        .map(ToString::to_string)
        .collect();
    if !fatal.is_empty() {
        bail!("cannot start:\n  {}", fatal.join("\n  "));
    }
    Ok(())
}

/// The planes of one process.
pub struct Planes {
    /// What they read from and write to.
    pub log: Arc<dyn Log>,
    /// The same for the repartition stage, where it has a way of its own.
    pub rekey_log: Option<Arc<dyn Log>>,
    /// Their time.
    pub clock: Arc<dyn Clock>,
    /// What ends them.
    pub shutdown: Shutdown,
    /// What can be seen of the repartition stage.
    pub rekey: Arc<Metrics>,
    /// What can be seen of observe.
    pub observe: Arc<Metrics>,
    /// What can be seen of decide.
    pub decide: Arc<Metrics>,
    /// Partitions to take without a group; empty to join it.
    pub assign: Vec<Assign>,
    /// Who looks on at what series measure.
    pub onlooker: Option<crate::planes::Onlooker>,
    /// Where shards write how they stand.
    pub board: Arc<crate::status::Board>,
}

impl Planes {
    /// What can be seen of the planes of a pipeline that are to run.
    #[must_use]
    pub fn seen(&self, pipeline: &Pipeline, which: PlaneChoice) -> metrics::Planes {
        let all = [
            (which.rekeys(pipeline), "rekey", &self.rekey),
            (which.observes(), "observe", &self.observe),
            (which.decides(), "decide", &self.decide),
        ];
        let planes = all.into_iter().filter(|(runs, ..)| *runs);
        metrics::Planes {
            planes: planes.map(|(_, name, metrics)| (name, metrics.clone())).collect(),
            clock: self.clock.clone(),
            board: self.board.clone(),
            pipeline: pipeline.name.to_string(),
        }
    }

    /// Runs the planes until they are asked to end, or one of them fails, which ends the others too.
    pub async fn run(self, loaded: &Loaded, which: PlaneChoice) -> anyhow::Result<()> {
        crate::story::of_start(&loaded.pipeline).log();
        let mut planes: Vec<(&'static str, Plane)> = Vec::new();
        if which.rekeys(&loaded.pipeline) {
            planes.push(("rekey", self.rekey_plane(loaded)?));
        } else if which == PlaneChoice::Rekey {
            bail!("--plane rekey: the pipeline has no `rekey`, so there is nothing to do");
        }
        if which.observes() {
            planes.push(("observe", self.observe_plane(loaded)?));
        }
        if which.decides() {
            planes.push(("decide", self.decide_plane(loaded)));
        }
        let objects = {
            let pipeline = loaded.pipeline.clone();
            let opened = tokio::task::spawn_blocking(move || objects(&pipeline)).await;
            opened.context("opening the object store")??
        };
        if !self.assign.is_empty() {
            let topics: Vec<(&str, &[String])> = planes
                .iter()
                .map(|(name, plane)| (*name, plane.options.topics.as_slice()))
                .collect();
            assign::examine(self.log.as_ref(), &self.assign, &topics)?;
        }
        let mut running = tokio::task::JoinSet::new();
        for (name, plane) in planes {
            let plane = Plane {
                objects: objects.clone(),
                ..plane
            };
            running.spawn(async move { plane.run_async().await.context(name) });
        }
        let mut result = Ok(());
        while let Some(ended) = running.join_next().await {
            self.shutdown.request();
            let ended = ended.context("a plane's thread").and_then(|ended| ended);
            if result.is_ok() {
                result = ended;
            }
        }
        result
    }

    fn fact_partitions(&self, names: &Topics) -> anyhow::Result<i32> {
        let facts = self.log.topic(&names.facts)?;
        let facts = facts.with_context(|| format!("topic {} is not there", names.facts))?;
        Ok(facts.partitions)
    }

    fn rekey_plane(&self, loaded: &Loaded) -> anyhow::Result<Plane> {
        let pipeline = &loaded.pipeline;
        let names = Topics::of(pipeline);
        let sources = Source::of_rekey(pipeline, loaded.expressions.as_ref())?;
        let outputs = [Some(&names.facts), Some(&names.dead_letters), names.rekeyed.as_ref()];
        let usual = options(pipeline, &names);
        let options = Options {
            group: pipeline.rekey_group(),
            topics: sources.iter().map(|source| source.topic.clone()).collect(),
            output_topics: outputs.into_iter().flatten().map(ToString::to_string).collect(),
            in_step: pipeline.rekey_in_step(),
            in_step_patience: pipeline
                .rekey
                .as_ref()
                .map_or(usual.in_step_patience, |rekey| rekey.patience),
            ..usual
        };
        let folds = RekeyFolds {
            pipeline: pipeline.clone(),
            sources,
            fact_partitions: self.fact_partitions(&names)?,
            topics: names,
            board: self.board.clone(),
        };
        let plane = self.plane(Arc::new(folds), options, &self.rekey);
        let log = self.rekey_log.clone().unwrap_or_else(|| self.log.clone());
        Ok(Plane { log, ..plane })
    }

    fn observe_plane(&self, loaded: &Loaded) -> anyhow::Result<Plane> {
        let pipeline = &loaded.pipeline;
        let names = Topics::of(pipeline);
        let fact_partitions = self.fact_partitions(&names)?;
        let sources = Source::of_observe(pipeline, loaded.expressions.as_ref())?;
        let options = Options {
            group: pipeline.observe_group(),
            topics: sources.iter().map(|source| source.topic.clone()).collect(),
            output_topics: vec![names.facts.to_string(), names.dead_letters.to_string()],
            ticks: true,
            ..options(pipeline, &names)
        };
        let folds = ObserveFolds {
            pipeline: pipeline.clone(),
            sources,
            topics: names,
            model: loaded.model.clone(),
            fact_partitions,
            onlooker: self.onlooker.clone(),
            board: self.board.clone(),
        };
        Ok(self.plane(Arc::new(folds), options, &self.observe))
    }

    fn decide_plane(&self, loaded: &Loaded) -> Plane {
        let pipeline = &loaded.pipeline;
        let names = Topics::of(pipeline);
        let options = Options {
            group: pipeline.decide_group(),
            topics: vec![names.facts.to_string()],
            output_topics: [
                &names.incidents,
                &names.remediations,
                &names.ledger,
                &names.dead_letters,
            ]
            .map(ToString::to_string)
            .to_vec(),
            // kept for good, and written to by nobody else
            witness_topic: Some(names.ledger.to_string()),
            ..options(pipeline, &names)
        };
        let folds = DecideFolds {
            pipeline: pipeline.clone(),
            edges: loaded.edges.clone(),
            topics: names,
            key: loaded.key.clone(),
            board: self.board.clone(),
        };
        self.plane(Arc::new(folds), options, &self.decide)
    }

    fn plane(&self, folds: Arc<dyn suture_runtime::Folds>, mut options: Options, metrics: &Arc<Metrics>) -> Plane {
        options.assign = assign::of_plane(&self.assign, &options.topics);
        Plane {
            log: self.log.clone(),
            folds,
            objects: None,
            options,
            clock: self.clock.clone(),
            metrics: metrics.clone(),
            shutdown: self.shutdown.clone(),
        }
    }
}

/// Whether this build has a client for the store that the pipeline names; asks nobody.
#[cfg(feature = "store")]
pub fn can_store(pipeline: &Pipeline) -> anyhow::Result<()> {
    match &pipeline.kafka.state.store {
        Some(address) => suture_store::check(address).context("kafka.state.store"),
        None => Ok(()),
    }
}

/// Whether this build has a client for the store that the pipeline names: it has none.
#[cfg(not(feature = "store"))]
pub fn can_store(pipeline: &Pipeline) -> anyhow::Result<()> {
    match pipeline.kafka.state.store {
        Some(_) => bail!("kafka.state.store: this build has no object stores: build it with `--features store`"),
        None => Ok(()),
    }
}

/// Where snapshots go instead of the state topic, if the pipeline says so.
#[cfg(feature = "store")]
fn objects(pipeline: &Pipeline) -> anyhow::Result<Option<Arc<dyn Objects>>> {
    let Some(address) = &pipeline.kafka.state.store else {
        return Ok(None);
    };
    let store = suture_store::Store::open(address, std::env::vars()).context("kafka.state.store")?;
    match store.probe() {
        Ok(()) => tracing::info!(?store, "snapshots go to an object store"),
        // what it has is enough to start from; what it does not take is counted
        Err(error) => tracing::warn!(?store, %error, "the object store takes no snapshots at present"),
    }
    Ok(Some(Arc::new(store)))
}

#[cfg(not(feature = "store"))]
fn objects(pipeline: &Pipeline) -> anyhow::Result<Option<Arc<dyn Objects>>> {
    can_store(pipeline).map(|()| None)
}

fn options(pipeline: &Pipeline, names: &Topics) -> Options {
    let kafka = &pipeline.kafka;
    Options {
        state_topic: names.state.to_string(),
        on_lost_offsets: OnLostOffsets::Refuse,
        commit_interval: kafka.commit_interval,
        // by the wall clock a shard that is idle says itself up to when it is complete; by the event clock nobody could
        idle_after: match pipeline.clock {
            Time::Wall => kafka.idle_after,
            Time::Event => kafka.patience,
        },
        snapshot_interval: kafka.snapshot_interval,
        tick_interval: Span::from_secs(1).min(kafka.idle_after),
        ..Options::default()
    }
}

/// SIGTERM and Ctrl-C ask for a shutdown; a second one, or a shutdown that takes too long, ends the process at once.
pub fn listen_for_signals(shutdown: Shutdown) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        tracing::info!("ending: finishing the batch, committing, leaving the group");
        shutdown.request();
        tokio::select! {
            _ = terminate.recv() => {},
            _ = interrupt.recv() => {},
            () = tokio::time::sleep(DRAIN) => tracing::error!("the shutdown takes too long; what was not committed is done again"),
        }
        std::process::exit(1);
    });
    Ok(())
}
