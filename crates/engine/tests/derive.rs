//! What is made of several series together: found as anomalies in the facts, whatever the batches, the order in which series
//! came, and where the fold was broken off.

// helpers outside of test functions stop at what cannot be, like the tests themselves
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_wrap)]

use std::sync::Arc;

use suture_config::Pipeline;
use suture_engine::{Headers, NoExpressions, Observe, ObserveOut, RecordRef, Source};
use suture_event::{Anomaly, AnomalyPhase, EndReason, FactBody, ShardId};
use suture_testkit::noise::Noise;

const START: i64 = 1_780_272_000_000;
const MINUTE: i64 = 60_000;

fn pipeline(derive: &str) -> Arc<Pipeline> {
    let text = format!(
        "name: test\nclock: event\nscope: {{label: environment, default: prod}}\ntelemetry: [{{topic: telemetry}}]\n\
         window: {{size: 1m}}\nderive:\n{derive}"
    );
    Arc::new(Pipeline::parse("test.yaml", &text, &|_| None).unwrap_or_else(|problems| panic!("{problems}")))
}

fn observe(pipeline: &Arc<Pipeline>) -> Observe {
    let source = Source::all(pipeline, &NoExpressions).unwrap().remove(0);
    let shard = ShardId {
        topic: "telemetry".into(),
        partition: 0,
    };
    Observe::new(pipeline.clone(), shard, source).unwrap()
}

/// A sample: metric, labels as JSON, value.
type One = (String, String, f64);

fn line(minute: usize, (metric, labels, value): &One) -> String {
    let ts = START + minute as i64 * MINUTE + 1_000;
    format!(r#"{{"ts": {ts}, "metric": "{metric}", "value": {value}, "labels": {{{labels}}}}}"#)
}

/// How a stream is run.
#[derive(Clone, Copy, Default)]
struct How {
    /// Records between two flushes, where not one.
    batch: usize,
    /// Whether the fold goes through a snapshot every so many minutes.
    restart: usize,
    /// Whether each minute's samples come in the opposite order.
    reversed: bool,
}

fn run(pipeline: &Arc<Pipeline>, minutes: &[Vec<One>], how: How) -> (Vec<Anomaly>, Observe) {
    let (mut fold, mut out) = (observe(pipeline), ObserveOut::default());
    let mut offset = 0;
    for (minute, samples) in minutes.iter().enumerate() {
        let mut samples: Vec<&One> = samples.iter().collect();
        if how.reversed {
            samples.reverse();
        }
        for sample in samples {
            let text = line(minute, sample);
            let record = RecordRef {
                offset,
                timestamp: None,
                key: None,
                headers: Headers::default(),
                value: Some(text.as_bytes()),
            };
            fold.record(record, &mut out);
            offset += 1;
            if how.batch == 0 || (offset as usize).is_multiple_of(how.batch) {
                fold.flush(&mut out);
            }
        }
        if how.restart > 0 && minute.is_multiple_of(how.restart) {
            fold.flush(&mut out);
            let bytes = fold.snapshot().unwrap();
            fold = observe(pipeline);
            fold.restore(&bytes).unwrap();
        }
    }
    fold.flush(&mut out);
    assert!(out.dead_letters.is_empty(), "{:?}", out.dead_letters.first());
    let anomalies = out.facts.into_iter().filter_map(|fact| match fact.body {
        FactBody::Anomaly(anomaly) => Some(anomaly),
        _ => None,
    });
    (anomalies.collect(), fold)
}

fn by(anomalies: &[Anomaly], detector: &str) -> Vec<Anomaly> {
    anomalies
        .iter()
        .filter(|anomaly| &*anomaly.detector == detector)
        .cloned()
        .collect()
}

fn minute_of(anomaly: &Anomaly) -> i64 {
    (anomaly.onset.as_millis() - START) / MINUTE
}

/// Eight instances of a service with a shared load, the sixth slow from `slow` on for half an hour.
fn instances(minutes: usize, slow: usize) -> Vec<Vec<One>> {
    let (mut noise, mut load) = (Noise(11), 0.0);
    let each = (0..minutes).map(|minute| {
        load = 0.95 * load + 0.3 * noise.normal();
        let one = |at: usize| {
            let own = if at == 2 { 40.0 } else { 0.0 };
            let extra = if at == 5 && (slow..slow + 30).contains(&minute) {
                60.0
            } else {
                0.0
            };
            let value = 100.0 + 8.0 * load + own + extra + 4.0 * noise.normal();
            (
                "request_duration".to_owned(),
                format!(r#""service": "cart", "instance": "cart-{at}""#),
                value,
            )
        };
        (0..8).map(one).collect()
    });
    each.collect()
}

#[test]
fn an_instance_away_from_its_siblings_is_an_anomaly_of_its_own_series() {
    let pipeline = pipeline("  - {name: pods, match: {metric: '*duration'}, peers: {}}\n");
    let (anomalies, fold) = run(&pipeline, &instances(900, 800), How::default());
    let found = by(&anomalies, "peers");
    let phases: Vec<_> = found.iter().map(|a| (a.phase, a.end)).collect();
    assert_eq!(
        (phases[0], phases[phases.len() - 1]),
        (
            (AnomalyPhase::Opened, None),
            (AnomalyPhase::Ended, Some(EndReason::Recovered))
        ),
        "{found:#?}"
    );
    for anomaly in &found {
        assert_eq!(anomaly.labels.get("instance"), Some("cart-5"));
        assert_eq!(anomaly.service.as_deref(), Some("cart"));
        assert!(anomaly.signal.is_symptom() && (790..810).contains(&minute_of(anomaly)));
    }
    assert!(
        found[0].detail.contains("away from its 7 siblings")
            && found[0].detail.starts_with("instance=\"cart-5\" is at 1"),
        "{}",
        found[0].detail
    );
    assert!(found[0].value.unwrap() > found[0].upper && found[0].expected < 130.0);
    assert_eq!(fold.counters().left_out_of_groups, 0);
}

const ALL: &str = "
  - {name: pods, match: {metric: '*duration'}, peers: {}}
  - {name: bonds, match: {metric: '*duration'}, together: {least: 0.4, learn: 100}}
  - {name: cloud, match: {metric: '*duration'}, covariance: {learn: 100}, detect: {alarm: 0.001, at_once: 0.0001}}
  - {name: rest, match: {metric: '*duration'}, components: {components: 1, learn: 100}, alarms: {at_most: 3, per: 1h}}
  - {name: kinds, match: {metric: calls}, mix: {label: client, measure: entropy}}
  - {name: distance, match: {metric: calls}, mix: {label: client, measure: psi}}
  - {name: clients, match: {metric: calls}, new_values: {labels: [client], learn: 2h, alarm: 0.01}}
  - {name: promise, match: {metric: calls}, slo: {objective: 0.99, bad: {labels: {code: '5*'}}}}
";

/// What has every kind of fault in it, one after the other, with series that come late and stay away.
fn everything(minutes: usize) -> Vec<Vec<One>> {
    let (mut noise, mut load) = (Noise(5), 0.0);
    let each = (0..minutes).map(|minute| {
        load = 0.9 * load + noise.normal();
        let mut samples: Vec<One> = Vec::new();
        for at in 0..7_usize {
            if at == 6 && minute < 20 || at == 3 && (420..440).contains(&minute) {
                continue;
            }
            let away = at == 1 && (300..330).contains(&minute);
            let value = 100.0 + 10.0 * load + if away { 90.0 } else { 0.0 } + 4.0 * noise.normal();
            samples.push((
                "duration".into(),
                format!(r#""service": "cart", "instance": "{at}""#),
                value,
            ));
        }
        for client in ["web", "app", "batch", "intruder"] {
            for code in ["200", "503"] {
                let usual = match client {
                    "web" => 600.0,
                    "app" => 300.0,
                    "batch" if (350..390).contains(&minute) => 2_000.0,
                    "batch" => 50.0,
                    _ if (460..470).contains(&minute) => 5.0,
                    _ => continue,
                };
                let share = match (code, (380..420).contains(&minute)) {
                    ("200", _) => 1.0,
                    (_, true) => 1.0,
                    (_, false) => 0.002,
                };
                let value = (usual * share * (1.0 + 0.05 * noise.normal())).max(0.0);
                let labels = format!(r#""service": "api", "client": "{client}", "code": "{code}""#);
                samples.push(("calls".into(), labels, value.round()));
            }
        }
        samples
    });
    each.collect()
}

/// What is found in the stream with every kind of fault, for readers: `UPDATE_EXPECT=1 cargo test` writes it anew.
#[test]
fn what_is_found_is_told_as_the_golden_text_has_it() {
    let (anomalies, _) = run(&pipeline(ALL), &everything(500), How::default());
    let mut told = String::new();
    for a in &anomalies {
        let (phase, end) = (
            format!("{:?}", a.phase),
            a.end.map_or_else(String::new, |end| format!(" {end:?}")),
        );
        let at = (a.at.as_millis() - START) / MINUTE;
        told += &format!(
            "minute {at}: {} of {}{}: {}{end}\n    {}\n",
            a.detector,
            a.metric,
            a.labels,
            phase.to_lowercase(),
            a.detail
        );
    }
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/derive.txt");
    suture_testkit::golden::assert_golden(golden, &told);
}

#[test]
fn batches_and_restarts_do_not_show() {
    let (pipeline, minutes) = (pipeline(ALL), everything(500));
    let (straight, fold) = run(&pipeline, &minutes, How::default());
    for detector in ["peers", "covariance", "components", "new_value", "burn"] {
        assert!(!by(&straight, detector).is_empty(), "nothing by {detector}");
    }
    for metric in ["kinds", "distance"] {
        assert!(straight.iter().any(|a| &*a.metric == metric), "nothing of {metric}");
    }
    for how in [
        How {
            batch: 7,
            ..How::default()
        },
        How {
            batch: 5_000,
            ..How::default()
        },
        How {
            batch: 13,
            restart: 3,
            ..How::default()
        },
        How {
            restart: 37,
            ..How::default()
        },
    ] {
        let (again, other) = run(&pipeline, &minutes, how);
        assert_eq!(straight, again);
        assert_eq!(fold.digest(), other.digest());
    }
}

#[test]
fn the_order_in_which_series_came_does_not_show_in_what_is_made_of_them() {
    let (pipeline, minutes) = (pipeline(ALL), everything(500));
    let made = |how| {
        let (anomalies, _) = run(&pipeline, &minutes, how);
        let mut made: Vec<Anomaly> = anomalies
            .into_iter()
            .filter(|a| {
                !["seasonal", "shift", "silence", "residual"].contains(&&*a.detector) || &*a.metric != "duration"
            })
            .filter(|a| &*a.metric != "calls")
            .collect();
        made.sort_by(|a, b| (a.at, &a.metric, &a.labels, &a.detector).cmp(&(b.at, &b.metric, &b.labels, &b.detector)));
        made
    };
    let (straight, reversed) = (
        made(How::default()),
        made(How {
            reversed: true,
            ..How::default()
        }),
    );
    assert!(straight.len() > 10);
    assert_eq!(straight, reversed);
}

#[test]
fn a_new_client_is_told_once_with_its_name_and_a_burning_budget_with_what_is_left() {
    let (anomalies, _) = run(&pipeline(ALL), &everything(500), How::default());
    let new = by(&anomalies, "new_value");
    let phases: Vec<_> = new.iter().map(|a| (a.phase, a.end)).collect();
    assert_eq!(
        phases,
        [
            (AnomalyPhase::Opened, None),
            (AnomalyPhase::Eased, None),
            (AnomalyPhase::Ended, Some(EndReason::Recovered))
        ],
        "{new:#?}"
    );
    assert_eq!(
        (&*new[0].metric, new[0].labels.to_string()),
        ("clients", r#"{service="api"}"#.to_owned())
    );
    assert!(
        new[0].detail.contains("new value of client: intruder"),
        "{}",
        new[0].detail
    );
    assert_eq!(minute_of(&new[0]), 460);
    let burn = by(&anomalies, "burn");
    assert_eq!(burn[0].service.as_deref(), Some("api"));
    assert!((384..402).contains(&minute_of(&burn[0])), "{:?}", burn[0]);
    for part in ["the error budget burns", "over 1h", "14.4", "of the budget is left"] {
        assert!(burn[0].detail.contains(part), "{} lacks {part}", burn[0].detail);
    }
    let mix = anomalies.iter().find(|a| &*a.metric == "distance").unwrap();
    assert!(
        mix.detail.contains("stability index of the mix of client") && mix.detail.contains("batch"),
        "{}",
        mix.detail
    );
    assert!((350..360).contains(&minute_of(mix)), "{mix:?}");
}

#[test]
fn groups_and_members_are_bounded_and_what_is_left_out_is_counted() {
    let derive = "
  - {name: few, match: {metric: '*duration'}, groups: 2, peers: {members: 6, least: 3, among: [instance]}}
  - {name: sums, match: {metric: '*duration'}, groups: 1, covariance: {members: 4}}
";
    let minutes: Vec<Vec<One>> = (0..30)
        .map(|minute| {
            let series = (0..3).flat_map(|service| (0..8).map(move |at| (service, at)));
            let one = |(service, at): (usize, usize)| {
                let labels = format!(r#""service": "s{service}", "instance": "{at}""#);
                ("duration".to_owned(), labels, (minute * at % 7) as f64)
            };
            series.map(one).collect()
        })
        .collect();
    let (_, fold) = run(&pipeline(derive), &minutes, How::default());
    // of three services' eight instances each, two times six and one time four found a place
    assert_eq!(fold.counters().left_out_of_groups, 24 - 12 + 24 - 4);
}

#[test]
fn a_member_that_was_silent_for_long_gives_way_to_a_new_one() {
    let derive = "  - {name: pods, match: {metric: duration}, peers: {members: 6, least: 5}}\n";
    // every four days other pods, as after a deploy
    let minutes: Vec<Vec<One>> = (0..400)
        .map(|minute| {
            let one = |at: usize| {
                let labels = format!(r#""service": "s", "instance": "{}-{at}""#, minute / 200);
                ("duration".to_owned(), labels, 50.0 + (minute * 7 + at * 3) as f64 % 5.0)
            };
            (0..6).map(one).collect()
        })
        .collect();
    let text = "name: t\ntelemetry: [{topic: telemetry}]\nwindow: {size: 1m, forget_after: 30m}\nderive:\n".to_owned()
        + derive;
    let pipeline = Arc::new(Pipeline::parse("test.yaml", &text, &|_| None).unwrap_or_else(|p| panic!("{p}")));
    let mut gap = minutes.clone();
    // an hour of one pod alone in between
    for samples in &mut gap[200..260] {
        samples.truncate(1);
    }
    let (_, fold) = run(
        &pipeline,
        &gap,
        How {
            restart: 50,
            ..How::default()
        },
    );
    // the first of the new ones came before any place was free
    assert_eq!(fold.counters().left_out_of_groups, 1);
    let (_, fold) = run(&pipeline, &minutes, How::default());
    assert_eq!(fold.counters().left_out_of_groups, 6);
}

#[test]
fn strange_numbers_gaps_and_constants_raise_nothing_odd() {
    let minutes: Vec<Vec<One>> = (0..300)
        .map(|minute| {
            let one = |at: usize| {
                let value = match (minute * 5 + at) % 97 {
                    3 => 1e300,
                    4 => -1e300,
                    5 => 1e-300,
                    _ => 7.0,
                };
                (
                    "duration".to_owned(),
                    format!(r#""service": "s", "instance": "{at}""#),
                    value,
                )
            };
            (0..6).map(one).collect()
        })
        .collect();
    let (anomalies, _) = run(
        &pipeline(ALL),
        &minutes,
        How {
            restart: 100,
            ..How::default()
        },
    );
    for anomaly in anomalies {
        assert!(
            [
                anomaly.score,
                anomaly.expected,
                anomaly.lower,
                anomaly.upper,
                anomaly.deviation
            ]
            .iter()
            .all(|n| n.is_finite())
        );
    }
}

#[test]
fn a_snapshot_from_before_there_were_rules_starts_the_groups_anew() {
    let plain = pipeline("  []\n");
    let minutes = instances(60, 1_000);
    let (_, fold) = run(&plain, &minutes, How::default());
    let bytes = fold.snapshot().unwrap();
    let mut with = observe(&pipeline(ALL));
    with.restore(&bytes).unwrap();
    // the eight instances', and the one that they are rolled up into
    assert_eq!(with.counters().series, 9);
    let bytes = with.snapshot().unwrap();
    observe(&pipeline(ALL)).restore(&bytes).unwrap();
    // and other rules drop what was made under these
    observe(&pipeline("  - {name: pods, peers: {least: 7}}\n"))
        .restore(&bytes)
        .unwrap();
}

#[test]
fn what_is_open_on_a_member_that_is_given_up_ends() {
    let text = "name: test\nclock: event\nscope: {label: environment, default: prod}\ntelemetry: [{topic: telemetry}]\n\
                window: {size: 1m}\nlimits: {series: 9, at_series: evict}\n\
                derive:\n  - {name: peers, match: {metric: 'request_*'}, peers: {among: [instance]}}\n";
    let pipeline =
        Arc::new(Pipeline::parse("test.yaml", text, &|_| None).unwrap_or_else(|problems| panic!("{problems}")));
    let mut minutes = instances(620, 600);
    // the slow one sends nothing more while its anomaly is open, and a new one takes its place
    for (minute, samples) in minutes.iter_mut().enumerate().skip(606) {
        samples.remove(5);
        if minute > 607 {
            let mut other = samples[0].clone();
            other.1 = other.1.replace("cart-0", "cart-9");
            samples.push(other);
        }
    }
    for restart in [0, 1] {
        let how = How {
            restart,
            ..How::default()
        };
        let (anomalies, fold) = run(&pipeline, &minutes, how);
        let told: Vec<_> = by(&anomalies, "peers")
            .iter()
            .filter(|anomaly| anomaly.labels.get("instance") == Some("cart-5"))
            .map(|anomaly| (anomaly.phase, anomaly.end))
            .collect();
        assert_eq!(
            told,
            [
                (AnomalyPhase::Opened, None),
                (AnomalyPhase::Ended, Some(EndReason::Silent))
            ]
        );
        assert_eq!(fold.counters().series, 9);
    }
}
