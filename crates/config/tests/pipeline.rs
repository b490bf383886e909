//! What a file that is right means.

// helpers outside of test functions stop at what cannot be, like the tests themselves
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use suture_codec::TelemetryFormat;
use suture_config::{Bytes, Clock, Pipeline, SignalMatcher};
use suture_detect::Side;
use suture_event::{SignalKind, Span};
use suture_window::Aggregate;

fn parsed(text: &str) -> Pipeline {
    Pipeline::parse("test.yaml", text, &|_| None).unwrap_or_else(|problems| panic!("{problems:?}"))
}

const LEAST: &str = "name: shop\ntelemetry: [{topic: telemetry}]\n";

#[test]
fn the_least_file_takes_every_default() {
    let pipeline = parsed(LEAST);
    assert_eq!(pipeline.version, 1);
    assert_eq!(pipeline.entity, "service");
    assert_eq!(pipeline.clock, Clock::Wall);
    assert_eq!(
        (pipeline.scope.label.as_str(), pipeline.scope.default.as_str()),
        ("", "default")
    );
    assert!(pipeline.scope.is_one());
    assert_eq!(pipeline.telemetry[0].format, TelemetryFormat::Json);
    assert_eq!(pipeline.kafka.commit_interval, Span::from_millis(100));
    assert_eq!(pipeline.window, suture_window::Options::default());
    assert_eq!(pipeline.detect, suture_detect::Options::default());
    assert_eq!(pipeline.diagnose, suture_diagnose::Options::default());
    assert_eq!(pipeline.remediate, suture_remediate::Options::default());
    assert_eq!(pipeline.observe_group(), "suture-shop-observe");
    assert_eq!(pipeline.decide_group(), "suture-shop-decide");
}

#[test]
fn a_file_without_a_scope_has_one_and_one_that_names_it_has_a_label() {
    let explained = parsed(LEAST).explain();
    assert_eq!(parsed(&explained), parsed(LEAST), "{explained}");
    for (scope, label, default) in [
        ("scope: {}", "environment", "default"),
        ("scope: {default: prod}", "environment", "prod"),
        ("scope: {label: cluster}", "cluster", "default"),
    ] {
        let pipeline = parsed(&format!("{LEAST}{scope}\n"));
        assert_eq!(
            (pipeline.scope.label.as_str(), pipeline.scope.default.as_str()),
            (label, default)
        );
        assert!(!pipeline.scope.is_one());
        assert_eq!(parsed(&pipeline.explain()), pipeline);
    }
    let empty = Pipeline::parse("test.yaml", &format!("{LEAST}scope: {{label: ''}}\n"), &|_| None);
    assert!(empty.is_err());
}

#[test]
fn what_jaas_holds_is_not_shown() {
    let text = format!("{LEAST}kafka: {{client: {{sasl.jaas.config: 'Module required password=\"hunter2\";'}}}}\n");
    let explained = parsed(&text).explain();
    assert!(
        explained.contains("sasl.jaas.config") && !explained.contains("hunter2"),
        "{explained}"
    );
}

#[test]
fn a_scope_read_off_a_label_that_otlp_does_not_have_is_told() {
    for (scope, told) in [
        ("scope: {default: prod}", true),
        ("scope: {label: deployment.environment}", true),
        ("scope: {label: environment}", false),
        ("scope: {label: deployment.environment.name}", false),
        ("", false),
    ] {
        let text = format!("name: shop\ntelemetry: [{{topic: telemetry, format: otlp_json}}]\n{scope}\n");
        let checked = Pipeline::check("test.yaml", &text, &|_| None, &suture_config::Unchecked);
        let said = checked
            .problems
            .iter()
            .any(|p| p.message.contains("which OTLP telemetry does not have"));
        assert_eq!((said, checked.problems.has_errors()), (told, false), "{scope}");
    }
}

#[test]
fn settings_of_the_client_stay_as_they_are_written() {
    let env = |name: &str| (name == "PASSWORD").then(|| "007: #1".to_owned());
    let text = "
name: shop
telemetry: [{topic: telemetry}]
kafka:
  client:
    bootstrap.servers: ${BROKERS:-a:9092,b:9092}
    sasl.password: ${PASSWORD}
    sasl.username: 007
    linger.ms: 1.50
    socket.keepalive.enable: true
";
    let pipeline = Pipeline::parse("test.yaml", text, &env).unwrap();
    let expected = BTreeMap::from(
        [
            ("bootstrap.servers", "a:9092,b:9092"),
            ("linger.ms", "1.50"),
            ("sasl.password", "007: #1"),
            ("sasl.username", "007"),
            ("socket.keepalive.enable", "true"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned())),
    );
    assert_eq!(pipeline.kafka.client, expected);
}

#[test]
fn a_rule_overrides_the_detectors_of_the_top_key_by_key() {
    let pipeline = parsed(
        "
name: shop
telemetry: [{topic: telemetry}]
detect:
  alarm: 1e-3
  warm_up: 30
  episode: {open: 3, of: 5}
  detectors: [seasonal, shift]
signals:
  - name: errors
    match: {metric: errors}
    direction: up
    least_effect: {absolute: 0.01}
    detect:
      warm_up: 20
      episode: {of: 4}
      detectors: [silence]
  - name: plain
",
    );
    let top = &pipeline.detect;
    let errors = &pipeline.signals[0].detect;
    assert_eq!((errors.alarm, errors.warm_up), (1e-3, 20));
    assert_eq!((errors.episode.open, errors.episode.of), (3, 4));
    assert!(
        !errors.wants(suture_detect::DetectorName::Seasonal),
        "lists are replaced as a whole"
    );
    assert_eq!(errors.direction, Side::Up);
    assert_eq!(errors.least_effect.absolute, 0.01);
    assert_eq!(errors.least_effect.relative, top.least_effect.relative);
    assert_eq!(
        &pipeline.signals[1].detect, top,
        "a rule that says nothing is watched as the top says"
    );
}

#[test]
fn a_budget_of_alarms_is_the_pipelines_or_a_rules() {
    let text = "
name: shop
telemetry: [{topic: telemetry}]
alarms: {at_most: 5, per: 1w}
signals:
  - name: checkout
    alarms: {at_most: 1, per: 2d}
  - name: plain
";
    let pipeline = parsed(text);
    assert_eq!(
        pipeline.alarms.map(|a| (a.at_most, a.per)),
        Some((5, Span::from_hours(168)))
    );
    let own = pipeline.signals[0].detect.alarms;
    assert_eq!(own.map(|a| (a.at_most, a.per)), Some((1, Span::from_hours(48))));
    assert_eq!(pipeline.signals[1].detect.alarms, None, "it draws on the pipeline's");
    for (good, bad, path) in [
        ("at_most: 5", "at_most: 0", "alarms.at_most"),
        ("per: 2d", "per: 0d", "signals[0].alarms.per"),
    ] {
        let problems = Pipeline::parse("p.yaml", &text.replace(good, bad), &|_| None);
        let problems = format!("{:?}", problems.unwrap_err());
        assert!(problems.contains(path), "{problems}");
    }
}

#[test]
fn merge_keys_and_aliases_repeat_what_stands_above() {
    let pipeline = parsed(
        "
name: shop
telemetry:
  - &otlp {topic: otlp_metrics, format: otlp_proto, where: 'value > 0'}
  - {<<: *otlp, topic: otlp_more}
",
    );
    let [first, second] = pipeline.telemetry.as_slice() else {
        panic!("{:?}", pipeline.telemetry)
    };
    assert_eq!(
        (first.topic.as_str(), second.topic.as_str()),
        ("otlp_metrics", "otlp_more")
    );
    assert_eq!((first.format, &first.r#where), (second.format, &second.r#where));
}

#[test]
fn the_first_rule_that_matches_counts() {
    let pipeline = parsed(
        r#"
name: shop
telemetry: [{topic: telemetry}]
signals:
  - name: p99
    match: {metric: "*Latency*", labels: {stat: "p9*"}}
    kind: latency
  - name: cpu
    match: {metric: "CpuUsage(m)"}
    aggregate: p99.9
  - name: totals
    match: {metric: "{requests,errors}_total", labels: {service: "*"}}
    counter: true
"#,
    );
    let matcher = SignalMatcher::new(&pipeline).unwrap();
    let name = |metric: &str, labels: &[(&str, &'static str)]| {
        let label = |wanted: &str| labels.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
        matcher.rules()[matcher.index(metric, label)].name.clone()
    };
    assert_eq!(name("PodLatency", &[("stat", "p95")]), "p99");
    assert_eq!(name("PodLatency", &[("stat", "Average")]), "(none)");
    assert_eq!(
        name("PodLatency", &[]),
        "(none)",
        "a label that is not there does not match"
    );
    assert_eq!(name("CpuUsage(m)", &[]), "cpu");
    assert_eq!(
        name("errors_total", &[("service", "a/b")]),
        "totals",
        "a slash is a character like any other"
    );
    assert_eq!(name("Errors_total", &[("service", "a")]), "(none)", "case counts");

    let [p99, cpu, totals, rest] = matcher.rules() else {
        panic!("{:?}", matcher.rules().len())
    };
    assert_eq!(p99.kind_of("x"), SignalKind::Latency);
    assert_eq!(rest.kind_of("CpuUsage(m)"), SignalKind::Cpu);
    assert_eq!(cpu.aggregate_of(false).to_string(), "p99.9");
    assert_eq!(
        (totals.aggregate_of(false), rest.aggregate_of(true)),
        (Aggregate::Rate, Aggregate::Rate)
    );
    assert_eq!(rest.aggregate_of(false), Aggregate::Mean);
}

#[test]
fn what_is_explained_reads_back_the_same_but_for_secrets() {
    let text = r#"
name: shop
kafka:
  client: {bootstrap.servers: "a:9092", sasl.password: hunter2, ssl.key.pem: "hunter3"}
telemetry: [{topic: telemetry, where: "metric <> 'a: #b'"}]
window: {size: 1m, lateness: 10s}
limits: {memory: 4GiB}
signals:
  - {name: cpu, match: {metric: "cpu*"}, aggregate: p95, direction: up}
remediate:
  playbooks:
    - name: hook
      action: {action: call, parameters: {url: "https://me:hunter4@hooks.example/x?y=1", api_token: hunter5}}
"#;
    let pipeline = parsed(text);
    let explained = pipeline.explain();
    assert!(!explained.contains("hunter"), "{explained}");
    assert!(explained.contains("https://***@hooks.example/x?y=1"), "{explained}");

    let again = Pipeline::parse("again.yaml", &without_short_forms(&explained), &|_| None);
    let again = again.unwrap_or_else(|problems| panic!("{}\n{explained}", problems.render(suture_config::Look::Plain)));
    let mut masked = pipeline;
    for secret in ["sasl.password", "ssl.key.pem"] {
        masked.kafka.client.insert(secret.to_owned(), "***".to_owned());
    }
    let parameters = &mut masked.remediate.playbooks[0].action.parameters;
    parameters.insert("url".to_owned(), "https://***@hooks.example/x?y=1".to_owned());
    parameters.insert("api_token".to_owned(), "***".to_owned());
    let mut again = again;
    again.signals[0].direction = masked.signals[0].direction;
    assert_eq!(again, masked);
}

/// The short `direction` of the rule stands in its `detect` too by then.
fn without_short_forms(explained: &str) -> String {
    let mut seen = false;
    let short = |line: &&str| {
        let is_short = !seen && line.trim() == "direction: up";
        seen |= is_short;
        !is_short
    };
    explained.lines().filter(short).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_fingerprint_changes_with_what_decides_and_with_nothing_else() {
    let base = parsed(LEAST).fingerprint();
    assert_eq!(
        base,
        parsed("telemetry: [{format: json, topic: telemetry}]\nname: shop\nclock: wall\n").fingerprint()
    );
    for same in [
        "name: other\ntelemetry: [{topic: telemetry}]\n".to_owned(),
        format!("{LEAST}kafka: {{client: {{bootstrap.servers: x}}, commit_interval: 1s, group: g}}\n"),
        format!("{LEAST}limits: {{shards: 9, memory: 1TiB}}\n"),
    ] {
        assert_eq!(base, parsed(&same).fingerprint(), "{same}");
    }
    let mut prints = vec![base];
    for different in [
        "clock: event",
        "kafka: {idle_after: 6s}",
        "kafka: {patience: 3m}",
        "entity: pod",
        "window: {size: 1m}",
        "limits: {series: 5}",
        "detect: {warm_up: 61}",
        "signals: [{name: a, match: {metric: a}}]",
        "signals: [{name: a, match: {metric: a}, direction: up}]",
        "changes: [{topic: changes}]",
        "remediate: {mode: supervised}",
    ] {
        prints.push(parsed(&format!("{LEAST}{different}\n")).fingerprint());
    }
    prints.sort_unstable();
    prints.dedup();
    assert_eq!(prints.len(), 12);
}

#[test]
fn the_estimate_grows_with_series_shards_and_sketches() {
    let estimate = |more: &str| parsed(&format!("{LEAST}{more}\n")).estimate();
    let base = estimate("window: {size: 1m}");
    assert_eq!(base.series, 100_000);
    assert!((500..10_000).contains(&base.bytes_per_series), "{base:?}");
    assert!(base.total > Bytes(base.bytes_per_series as u64 * 100_000));
    assert!(estimate("window: {size: 1m}\nlimits: {series: 200000}").total > base.total);
    assert!(estimate("window: {size: 1m}\nlimits: {shards: 4}").total > base.total);
    let dearest = estimate("window: {size: 1m, slide: 10s}\nsignals: [{name: tail, aggregate: p99}]");
    assert_eq!(dearest.dearest_rule, "tail");
    assert!(dearest.window_bytes > base.window_bytes, "{dearest:?}");
    assert_eq!(base.sequence_bytes, 0);
    let alone = estimate("");
    assert!(
        alone.sequence_bytes > 100_000,
        "each sample by itself is watched for its shape: {alone:?}"
    );
    assert!(
        alone.bytes_per_series > 3 * alone.sequence_bytes,
        "and written to a snapshot: {alone:?}"
    );
    let off = estimate("detect: {sequence: off}");
    assert_eq!(off.sequence_bytes, 0);
}

#[test]
fn problems_are_told_to_machines_too() {
    let problems = Pipeline::parse("test.yaml", "name: shop\ntelemetry:\n  - format: jsn\n", &|_| None).unwrap_err();
    let json = serde_json::to_value(&problems).unwrap();
    assert_eq!(
        json[0],
        serde_json::json!({
            "level": "error", "code": "missing_key", "file": "test.yaml", "line": 3, "column": 5, "path": "telemetry[0]",
            "message": "`telemetry[0]` has no `topic`", "help": "Name of the topic: letters, digits, `.`, `_` and `-`."
        })
    );
    assert_eq!((&json[1]["code"], &json[1]["column"]), (&"value".into(), &13.into()));
    assert_eq!(problems.to_string(), "2 errors in test.yaml");
}

#[test]
fn a_byte_order_mark_is_no_problem() {
    let text = suture_config::decode(
        "test.yaml",
        b"\xef\xbb\xbfname: shop\r\ntelemetry: [{topic: telemetry}]\r\n",
    )
    .unwrap();
    assert_eq!(parsed(text).name, "shop");
}

#[test]
fn columns_count_characters_where_letters_have_several_bytes() {
    let problems = Pipeline::parse(
        "test.yaml",
        "name: shop # größer\nöl: 1\ntelemetry: [{topic: ü}]\n",
        &|_| None,
    );
    let places: Vec<_> = problems
        .unwrap_err()
        .iter()
        .map(|problem| (problem.line, problem.column))
        .collect();
    assert_eq!(places, [(2, 1), (3, 21)]);
}

#[test]
fn a_repartition_stage_owns_a_topic_and_decides_by_where_series_go_alone() {
    let least = parsed(LEAST);
    assert_eq!((least.rekeyed_topic(), least.owned_topics().len()), (None, 8));
    let usual = parsed(&format!("{LEAST}rekey: {{}}\n"));
    assert_eq!(usual.rekeyed_topic().as_deref(), Some("suture.rekeyed"));
    assert_eq!(usual.rekey_group(), "suture-shop-rekey");
    assert!(usual.owned_topics().contains(&"suture.rekeyed".to_owned()));
    assert!(usual.explain().contains("batch_samples: 8192"));
    let with = |keys: &str| parsed(&format!("{LEAST}rekey: {{{keys}}}\n"));
    assert_eq!(with("topic: spread").rekeyed_topic().as_deref(), Some("spread"));
    assert_ne!(usual.fingerprint(), least.fingerprint());
    for same in [
        "topic: spread",
        "retention: 2d",
        "patience: 5m",
        "batch_samples: 10, batch_bytes: 20000",
    ] {
        assert_eq!(with(same).fingerprint(), usual.fingerprint(), "{same}");
    }
    for other in ["partitions: 7", "by: [service]"] {
        assert_ne!(with(other).fingerprint(), usual.fingerprint(), "{other}");
    }
    let compared = parsed(&format!("{LEAST}limits: {{compared_series: 5}}\n"));
    assert_eq!(compared.fingerprint(), least.fingerprint());
    let window = |lateness: &str| format!("window: {{size: 1m, lateness: {lateness}}}\n");
    for (keys, span) in [
        ("rekey: {}\n".to_owned(), None),
        (window("30s"), None),
        (window("0s") + "rekey: {}\n", None),
        (window("30s") + "rekey: {}\n", Some(Span::from_secs(15))),
    ] {
        assert_eq!(parsed(&format!("{LEAST}{keys}")).rekey_in_step(), span, "{keys}");
    }
    let (estimate, without) = (usual.estimate(), least.estimate());
    assert_eq!(without.rekey, None);
    assert_eq!(estimate.total.0 - without.total.0, estimate.rekey.unwrap().0);
}
