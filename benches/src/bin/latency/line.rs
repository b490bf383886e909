//! Both planes as the program runs them, and the requests that come of samples.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use rdkafka::{
    ClientConfig, Message as _,
    consumer::BaseConsumer,
    producer::{BaseProducer, BaseRecord},
};
use suture_runtime::{Metrics, Shutdown, SystemClock};
use suture_service::{load, run, run::PlaneChoice, run::Planes};

use crate::{Args, kafka::create_topic, reader};

/// How long anything may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Length of a window in milliseconds.
const WINDOW: i64 = 100;
/// Series that go bad together.
const TOGETHER: usize = 4;
/// Other series.
const OTHERS: usize = 1_000;

fn pipeline(brokers: &str, name: &str, args: &Args) -> String {
    format!(
        r#"version: 1
name: latency
kafka:
  client: {{bootstrap.servers: "{brokers}"}}
  prefix: {name}
  commit_interval: {}ms
  topics: {{partitions: 1, replication: 1}}
telemetry:
  - topic: {name}-telemetry
window: {{size: {WINDOW}ms}}
limits: {{scopes: {scopes}}}
detect:
  detectors: [threshold]
  thresholds: {{upper: 1000}}
  episode: {{open: 1, of: 1}}
diagnose:

  open: {{false_incidents: {{at_most: 1000000, per: 1h}}}}
remediate:
  mode: autonomous
  minimum_probability: 0
  playbooks:
    - name: restart
      owner: the owner
      rung: autonomous
      action: {{action: restart}}
      reversal: {{action: start}}
      safety:
        trigger: far too high
        false_positives: [none known]
        blast_radius: one service restarts
        reversal_time: 1s
        budget: {{actions: 1000, per: 1h}}
        telemetry: [request_latency]
"#,
        args.commit_interval,
        scopes = args.requests + 10,
    )
}

/// Writes samples as a service would: one at a time, each on its way at once.
struct Source {
    producer: BaseProducer,
    topic: String,
    partitions: usize,
}

impl Source {
    fn new(brokers: &str, topic: String, partitions: i32) -> anyhow::Result<Self> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("linger.ms", "0")
            .create()?;
        let partitions = usize::try_from(partitions)?.max(1);
        Ok(Self {
            producer,
            topic,
            partitions,
        })
    }

    fn send(
        &self,
        partition: usize,
        ts: i64,
        metric: &str,
        value: f64,
        scope: &str,
        service: &str,
    ) -> anyhow::Result<()> {
        let text = format!(
            r#"{{"ts":{ts},"metric":"{metric}","value":{value},"labels":{{"environment":"{scope}","service":"{service}"}}}}"#
        );
        let record = BaseRecord::<str, str>::to(&self.topic)
            .partition(i32::try_from(partition)?)
            .payload(&text);
        self.producer.send(record).map_err(|(error, _)| error)?;
        self.producer.poll(Duration::ZERO);
        Ok(())
    }

    /// Sends samples of other series, which never move time on, until that moment.
    fn others(&self, args: &Args, ts: i64, at: &mut usize, until: Instant) -> anyhow::Result<()> {
        let step = Duration::from_millis(2);
        let each = usize::try_from(args.background * 2 / 1_000)?;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            for _ in 0..each {
                let which = *at % OTHERS;
                self.send(
                    which % self.partitions,
                    ts,
                    "queue_length",
                    10.0,
                    "others",
                    &format!("service-{which}"),
                )?;
                *at += 1;
            }
            thread::sleep(step.min(left));
        }
        Ok(())
    }
}

/// What each request took.
#[derive(Debug, Default)]
pub(crate) struct Times {
    /// Until its anomaly was there to be read among the facts: observe's part.
    pub(crate) fact: Vec<Duration>,
    /// Until it was there to be read itself.
    pub(crate) request: Vec<Duration>,
}

/// Starts both planes, provokes the requests, and gives how long each took.
pub(crate) fn measure(brokers: &str, args: &Args) -> anyhow::Result<Times> {
    let name = format!("latency-{}", std::process::id());
    let telemetry = format!("{name}-telemetry");
    create_topic(brokers, &telemetry, args.partitions);
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("pipeline.yaml");
    fs::write(&file, pipeline(brokers, &name, args))?;
    let loaded = load::load(&file, None)?;
    let log = run::connect(&loaded.pipeline)?;
    run::prepare(log.as_ref(), &loaded.pipeline, true)?;
    let (observe, decide, shutdown) = (
        Arc::new(Metrics::default()),
        Arc::new(Metrics::default()),
        Shutdown::new(),
    );
    let planes = Planes {
        log,
        rekey_log: None,
        clock: Arc::new(SystemClock::default()),
        shutdown: shutdown.clone(),
        rekey: Arc::default(),
        observe: Arc::clone(&observe),
        decide: Arc::clone(&decide),
        assign: Vec::new(),
        onlooker: None,
        board: Arc::default(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let running = runtime.spawn(async move { planes.run(&loaded, PlaneChoice::Both).await });
    let began = Instant::now();
    while !observe.ready() || !decide.ready() {
        anyhow::ensure!(began.elapsed() < PATIENCE, "the planes do not start");
        thread::sleep(Duration::from_millis(20));
    }
    let source = Source::new(brokers, telemetry, args.partitions)?;
    let requests = reader(brokers, &format!("{name}.remediations"))?;
    let facts = reader(brokers, &format!("{name}.facts"))?;
    let over = AtomicBool::new(false);
    let times = thread::scope(|threads| {
        let seen = threads.spawn(|| watch(&facts, &over));
        let sent = provoke(&source, &requests, args);
        over.store(true, Ordering::SeqCst);
        let seen = seen
            .join()
            .map_err(|_| anyhow::anyhow!("the reader of facts panicked"))?;
        let mut times = Times::default();
        for (at, began, came) in sent? {
            times.request.push(came);
            let fact = seen.iter().find(|(scope, _)| *scope == at);
            times
                .fact
                .extend(fact.map(|(_, when)| when.saturating_duration_since(began)));
        }
        anyhow::Ok(times)
    })?;
    let commits = |metrics: &Metrics| -> String {
        let shards = metrics.shards();
        let all: Vec<String> = shards
            .iter()
            .filter(|(_, shard)| shard.commit_micros.count() > 0)
            .map(|(at, shard)| {
                let commits = &shard.commit_micros;
                #[allow(clippy::cast_precision_loss)] // for display
                let mean = commits.sum() as f64 / commits.count() as f64 / 1e3;
                format!("{at} {} of {mean:.1} ms", commits.count())
            })
            .collect();
        all.join(", ")
    };
    println!("commits of observe: {}", commits(&observe));
    println!("commits of decide: {}", commits(&decide));
    shutdown.request();
    runtime.block_on(running).context("the planes")??;
    Ok(times)
}

/// When the first fact of each scope came.
fn watch(facts: &BaseConsumer, over: &AtomicBool) -> Vec<(usize, Instant)> {
    let mut seen: Vec<(usize, Instant)> = Vec::new();
    while !over.load(Ordering::SeqCst) {
        let Some(Ok(message)) = facts.poll(Duration::from_millis(50)) else {
            continue;
        };
        let came = Instant::now();
        let text = String::from_utf8_lossy(message.payload().unwrap_or_default());
        let number = text.split("\"scope-").nth(1).and_then(|rest| rest.split('"').next());
        if let Some(at) = number.and_then(|number| number.parse().ok())
            && seen.last().is_none_or(|(last, _)| *last != at)
        {
            seen.push((at, came));
        }
    }
    seen
}

/// Number, beginning and duration of each.
fn provoke(source: &Source, requests: &BaseConsumer, args: &Args) -> anyhow::Result<Vec<(usize, Instant, Duration)>> {
    let mut times = Vec::with_capacity(args.requests);
    let mut sent = 0;
    // the first ones find connections, positions and memory, and are not counted
    for at in 0..args.requests + 5 {
        let partition = at % source.partitions;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        let ts = i64::try_from(now)? / WINDOW * WINDOW - WINDOW;
        let scope = format!("scope-{at}");
        for which in 0..TOGETHER {
            source.send(
                partition,
                ts,
                &format!("request_latency_{which}"),
                5_000.0,
                &scope,
                "shop",
            )?;
        }
        // any moment of a commit interval and of a tick is as likely, and the window before is over
        let pause = Duration::from_micros(100_000 + bits(args.seed, at) % 400_000);
        source.others(args, ts, &mut sent, Instant::now() + pause)?;
        let began = Instant::now();
        for partition in 0..source.partitions {
            source.send(partition, ts + WINDOW, "closing_time", 1.0, "others", "clock")?;
        }
        let came = wait_for(requests, source, scope.as_bytes(), began)?;
        if at >= 5 {
            times.push((at, began, came));
        }
    }
    Ok(times)
}

fn wait_for(requests: &BaseConsumer, source: &Source, scope: &[u8], began: Instant) -> anyhow::Result<Duration> {
    while began.elapsed() < PATIENCE {
        source.producer.poll(Duration::ZERO);
        let Some(message) = requests.poll(Duration::from_millis(5)) else {
            continue;
        };
        let message = message?;
        let came = began.elapsed();
        let value = message.payload().unwrap_or_default();
        let quoted = [b"\"", scope, b"\""].concat();
        if value.windows(quoted.len()).any(|part| part == quoted) {
            return Ok(came);
        }
    }
    anyhow::bail!("no request came of {}", String::from_utf8_lossy(scope))
}

/// Any number of reproducible bits: SplitMix64's finaliser over a count.
fn bits(seed: u64, at: usize) -> u64 {
    let mut z = seed.wrapping_add(at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
