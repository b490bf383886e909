//! What `/metrics` serves is what the page on operating says, during a run of both planes over the log in memory.

// the helpers of tests: what goes wrong in them is a failed test
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use suture_config::Pipeline;
use suture_log::{Log, OutRecord, TopicSpec, memory::MemoryLog};
use suture_runtime::{Shutdown, SystemClock};
use suture_service::{
    load::{self, Loaded},
    metrics,
    run::{PlaneChoice, Planes, prepare},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const PIPELINE: &str = "
version: 1
name: shop
telemetry: [{topic: telemetry}]
window: {size: 1m}
kafka: {commit_interval: 5ms, snapshot_interval: 50ms}
";

fn loaded() -> Loaded {
    let checked = Pipeline::check("test", PIPELINE, &|_| None, &suture_config::Unchecked);
    Loaded {
        pipeline: Arc::new(checked.pipeline.expect("a pipeline that can be")),
        edges: Vec::new(),
        model: None,
        key: None,
        expressions: load::expressions(),
    }
}

async fn get(address: std::net::SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer)
}

/// The value of a sample whose line begins so.
fn value(text: &str, start: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(start))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn the_page_lists_every_metric_with_its_type() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operating.md");
    let page = std::fs::read_to_string(path).unwrap();
    let documented: BTreeSet<(String, String)> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `suture_"))
        .map(|row| {
            let (name, rest) = row.split_once("` | ").unwrap();
            (format!("suture_{name}"), rest.split(" | ").next().unwrap().to_owned())
        })
        .collect();
    let known: BTreeSet<String> = metrics::Planes::names().into_iter().collect();
    let names: BTreeSet<String> = documented.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names, known);
    let nothing = metrics::Planes {
        planes: Vec::new(),
        clock: Arc::new(SystemClock::default()),
        board: Arc::default(),
        pipeline: String::new(),
    };
    let typed: BTreeSet<(String, String)> = nothing
        .text()
        .unwrap()
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| line.split_once(' ').map(|(n, t)| (n.to_owned(), t.to_owned())).unwrap())
        .collect();
    assert_eq!(typed, documented);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scrape_during_a_run_shows_what_happens() {
    let loaded = loaded();
    let log = MemoryLog::default();
    log.create_topics(&[TopicSpec::new("telemetry", 1)]).unwrap();
    prepare(&log, &loaded.pipeline, true).unwrap();
    let shutdown = Shutdown::new();
    let planes = Planes {
        log: Arc::new(log.clone()),
        rekey_log: None,
        clock: Arc::new(SystemClock::default()),
        shutdown: shutdown.clone(),
        rekey: Arc::default(),
        observe: Arc::default(),
        decide: Arc::default(),
        assign: Vec::new(),
        onlooker: None,
        board: Arc::default(),
    };
    let seen = planes.seen(&loaded.pipeline, PlaneChoice::Both);
    let address = metrics::serve("127.0.0.1:0".parse().unwrap(), seen).await.unwrap();
    assert_eq!(get(address, "/healthz").await.0, 200);
    let (status, answer) = get(address, "/readyz").await;
    assert!(status == 503 && answer.contains("observe: no shard yet"), "{answer}");

    let running = tokio::spawn(async move { planes.run(&loaded, PlaneChoice::Both).await });
    let mut records: Vec<OutRecord> = (0..120)
        .map(|n| {
            let (minute, service) = (n / 2, n % 2);
            let sample = serde_json::json!({
                "ts": 1_780_000_000_000_i64 + minute * 60_000, "metric": "cpu_ratio", "value": 0.5,
                "labels": {"service": format!("s{service}")},
            });
            OutRecord::new("telemetry", "k", sample.to_string())
        })
        .collect();
    records.push(OutRecord::new("telemetry", "k", "not telemetry"));
    log.appender().unwrap().append(&records).unwrap();

    let shard = r#"{plane="observe",topic="telemetry",partition="0"}"#;
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut asked = tokio::time::interval(Duration::from_millis(20));
    let text = loop {
        let (status, text) = get(address, "/metrics").await;
        assert_eq!(status, 200);
        let whole = value(&text, &format!("suture_samples_total{shard}")) == Some(120.0)
            && value(&text, &format!("suture_snapshot_age_seconds{shard}")).is_some()
            // what is committed is counted a little after what is taken in
            && value(&text, &format!("suture_dead_letters_total{shard}")) == Some(1.0)
            && value(&text, r#"suture_shards{plane="decide"}"#) == Some(6.0)
            && get(address, "/readyz").await.0 == 200;
        if whole {
            break text;
        }
        assert!(Instant::now() < deadline, "{text}");
        asked.tick().await;
    };
    assert!(text.contains("content-type: application/openmetrics-text"), "{text}");
    let of = |name: &str| value(&text, &format!("{name}{shard}"));
    assert_eq!(of("suture_records_total"), Some(121.0));
    assert_eq!(of("suture_series"), Some(2.0));
    assert_eq!(of("suture_shard_phase"), Some(2.0));
    assert_eq!(of("suture_cold_starts_total"), Some(0.0));
    assert!(of("suture_watermark_delay_seconds").is_some_and(|delay| delay > 0.0));
    assert!(of("suture_windows_closed_total").is_some_and(|count| count > 50.0));
    assert!(of("suture_commit_seconds_count").is_some_and(|count| count >= 1.0));
    assert!(
        text.contains(r#"suture_commit_seconds_bucket{le="+Inf",plane="observe""#),
        "{text}"
    );
    assert!(text.trim_end().ends_with("# EOF"), "{text}");

    shutdown.request();
    running.await.unwrap().unwrap();
}
