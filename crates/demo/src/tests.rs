//! One bad deploy told from end to end, and what the reader sees of it. `UPDATE_EXPECT=1` rewrites the golden files.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use ratatui::{Terminal, backend::TestBackend};
use suture_event::{
    ActionRequest, ActionStep, Anomaly, AnomalyPhase, Change, ChangeKind, Direction, Evidence, EvidenceKind,
    Hypothesis, HypothesisKind, Incident, IncidentSignal, IncidentStatus, Rung, Severity, SignalKind, SignalState,
    Span, Timestamp,
};
use suture_simulate::{Fault, FaultKind, Options, Shop};

use super::*;

fn golden(name: &str, seen: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/golden");
    suture_testkit::golden::assert_golden(folder.join(name), seen);
}

fn shop() -> Shop {
    Shop::new(Options {
        seed: 11,
        warmup: Span::from_hours(12),
        faults: 1,
        kinds: vec![FaultKind::BadDeploy],
        ..Options::default()
    })
    .unwrap()
}

fn incident(fault: &Fault, at: Timestamp, status: IncidentStatus) -> Incident {
    let signal = |anomaly: &str, metric: &str, kind| IncidentSignal {
        anomaly: anomaly.into(),
        metric: metric.into(),
        service: Some(fault.service.clone()),
        kind,
        direction: Direction::Up,
        onset: fault.start,
        opening: true,
        state: if status == IncidentStatus::Open {
            SignalState::Active
        } else {
            SignalState::Recovered
        },
        since: at,
    };
    let evidence = |kind, detail: &str, weight| Evidence {
        kind,
        detail: detail.into(),
        weight,
        signals: vec![],
    };
    Incident {
        id: "incident-1".into(),
        opened_at: fault.start.plus(Span::from_secs(80)),
        resolved_at: (status == IncidentStatus::Resolved).then_some(at),
        resolution: None,
        severity: Severity::Critical,
        services: vec![fault.service.clone()],
        anomalies: vec!["a1".into(), "a2".into()],
        hypotheses: vec![
            Hypothesis {
                rank: 1,
                kind: HypothesisKind::Change,
                service: Some(fault.service.clone()),
                change: fault.change.clone(),
                class: "bad_deploy".into(),
                probability: 0.91,
                evidence: vec![
                    evidence(EvidenceKind::Timing, "deployed 45 s before the first signal", 2.3),
                    evidence(EvidenceKind::Coverage, "explains 2 of 2 signals", 1.1),
                    evidence(EvidenceKind::Alternative, "another deploy within ten minutes", -0.4),
                ],
            },
            Hypothesis {
                rank: 2,
                kind: HypothesisKind::Fault,
                service: Some(fault.service.clone()),
                change: None,
                class: "saturation".into(),
                probability: 0.06,
                evidence: vec![evidence(EvidenceKind::Signal, "no resource is near its limit", -1.2)],
            },
        ],
        none_of_these: 0.03,
        scope: "prod".into(),
        status,
        title: format!("latency, errors on {0}: bad_deploy of {0} (91%)", fault.service),
        updated_at: at,
        revision: 1,
        signals: vec![
            signal("a1", "latency_p50_seconds", SignalKind::Latency),
            signal("a2", "error_ratio", SignalKind::Errors),
        ],
        signals_left_out: 0,
        judged_without: Vec::new(),
    }
}

fn anomaly(id: &str, metric: &str, fault: &Fault, shop_tick: &suture_simulate::Tick, band: (f64, f64)) -> Anomaly {
    let of = |s: &&suture_event::Sample| s.metric.as_ref() == metric && s.labels.get("service") == Some(&fault.service);
    let sample = shop_tick.samples.iter().find(of).unwrap();
    Anomaly {
        id: id.into(),
        at: shop_tick.at,
        onset: fault.start,
        phase: AnomalyPhase::Opened,
        end: None,
        metric: sample.metric.clone(),
        labels: sample.labels.clone(),
        service: Some(fault.service.clone()),
        signal: SignalKind::of_metric(metric),
        detector: "seasonal".into(),
        score: 0.999,
        deviation: 12.0,
        value: Some(sample.value),
        expected: f64::midpoint(band.0, band.1),
        lower: band.0,
        upper: band.1,
        direction: Direction::Up,
        detail: "far above".into(),
    }
}

fn request(fault: &Fault, at: Timestamp) -> ActionRequest {
    ActionRequest {
        id: "action-1".into(),
        at,
        expires_at: at.plus(Span::from_mins(5)),
        incident: "incident-1".into(),
        scope: "prod".into(),
        target: fault.service.clone(),
        step: ActionStep {
            action: "rollback".into(),
            parameters: BTreeMap::new(),
        },
        reversal: None,
        reverses: None,
        rung: Rung::Autonomous,
        approved_by: None,
        approvals: Vec::new(),
        outside: Default::default(),
        weighed: None,
        permit: None,
        playbook: "roll back a bad deploy".into(),
        owner: "shop team".into(),
        class: "bad_deploy".into(),
        change: fault.change.clone(),
        probability: 0.91,
        attempt: 1,
        verify_by: at.plus(Span::from_mins(10)),
        reason: "91% sure that the deploy did it".into(),
    }
}

/// The story up to the middle, with the incident open, and to its end.
fn tell(to_the_end: bool, mut show: impl FnMut(&DemoEvent)) -> Shop {
    let mut shop = shop();
    let fault = shop.truth()[0].clone();
    let clock = |at, learning| DemoEvent::Clock {
        at,
        speed: 1_250.0,
        learning,
    };
    while shop.now() < fault.start.minus(Span::from_mins(30)) {
        shop.advance();
    }
    show(&clock(shop.now(), Some(0.5)));
    show(&clock(shop.now(), None));
    let opens = fault.start.plus(Span::from_secs(80));
    let asks = fault.start.plus(Span::from_secs(90));
    let ends = if to_the_end {
        fault.start.plus(Span::from_mins(8))
    } else {
        fault.start.plus(Span::from_mins(2))
    };
    let mut told = 0;
    while shop.now() < ends {
        let tick = shop.advance();
        show(&clock(tick.at, None));
        show(&DemoEvent::Samples(tick.samples.clone()));
        for event in &tick.changes {
            let kind = if event["context"]["type"].as_str().unwrap().contains("rolledback") {
                ChangeKind::Rollback
            } else {
                ChangeKind::Deploy
            };
            show(&DemoEvent::Change(Change {
                id: event["context"]["id"].as_str().unwrap().into(),
                at: event["context"]["timestamp"].as_str().unwrap().parse().unwrap(),
                kind,
                service: event["subject"]["id"].as_str().unwrap().into(),
                environment: Some("prod".into()),
                artifact: None,
                source: "/ci/release".into(),
                event_type: event["context"]["type"].as_str().unwrap().into(),
            }));
        }
        for id in &tick.started {
            show(&DemoEvent::FaultInjected(shop.truth()[*id].clone()));
        }
        for outcome in &tick.outcomes {
            show(&DemoEvent::Outcome(outcome.clone()));
        }
        for id in &tick.healed {
            show(&DemoEvent::FaultHealed(shop.truth()[*id].clone()));
        }
        if told == 0 && tick.at >= opens {
            told = 1;
            show(&DemoEvent::Anomaly(anomaly(
                "a1",
                "latency_p50_seconds",
                &fault,
                &tick,
                (0.004, 0.012),
            )));
            show(&DemoEvent::Anomaly(anomaly(
                "a2",
                "error_ratio",
                &fault,
                &tick,
                (0.0, 0.01),
            )));
            show(&DemoEvent::Incident(incident(&fault, tick.at, IncidentStatus::Open)));
        }
        if told == 1 && tick.at >= asks {
            told = 2;
            let request = request(&fault, tick.at);
            show(&DemoEvent::Remediation(request.clone()));
            show(&DemoEvent::Outcome(shop.act(&request).outcome));
        }
        if told == 2 && tick.at >= fault.start.plus(Span::from_mins(6)) {
            told = 3;
            show(&DemoEvent::Incident(incident(
                &fault,
                tick.at,
                IncidentStatus::Resolved,
            )));
        }
    }
    shop
}

fn screen(to_the_end: bool) -> Screen {
    let mut screen = Screen::new(Story::new(&shop().topology()));
    tell(to_the_end, |event| {
        screen.take(event);
    });
    screen
}

#[test]
fn the_screen_shows_series_incident_and_story_at_either_size() {
    let screen = screen(false);
    for (width, height) in [(100, 30), (80, 24)] {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal
            .draw(|frame| frame.render_widget(&screen, frame.area()))
            .unwrap();
        golden(&format!("screen-{width}x{height}.txt"), &terminal.backend().to_string());
    }
}

#[test]
fn every_size_of_terminal_is_drawn() {
    let screen = screen(false);
    for (width, height) in (1..60_u16)
        .step_by(7)
        .flat_map(|h| (1..160_u16).step_by(13).map(move |w| (w, h)))
    {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal
            .draw(|frame| frame.render_widget(&screen, frame.area()))
            .unwrap();
    }
}

#[test]
fn the_story_is_told_in_lines() {
    let mut narrator = Narrator::default();
    let mut lines = String::new();
    tell(true, |event| {
        for told in narrator.tell(event) {
            lines.push_str(&format!(
                "{} {:9} {}\n",
                super::story::clock(told.at),
                told.tag,
                told.text
            ));
        }
    });
    golden("story.txt", &lines);
}

#[test]
fn the_accounts_end_with_a_table() {
    let table = screen(true).story().table();
    golden("table.txt", &table.text());
    let json = table.json();
    assert_eq!(
        (
            json["found"].clone(),
            json["blamed_right"].clone(),
            json["healed"].clone()
        ),
        (1.into(), 1.into(), 1.into())
    );
    assert_eq!(json["false_incidents"], 0);
    assert_eq!(json["needless_actions"], 0);
    let minutes = json["faults"][0]["minutes"]["healed"].as_f64().unwrap();
    assert!((2.0..5.0).contains(&minutes), "{minutes}");
}

#[test]
fn an_incident_about_nothing_is_false_and_a_second_one_is_a_repetition() {
    let mut story = Story::new(&shop().topology());
    let fault = shop().truth()[0].clone();
    let early = fault.start.minus(Span::from_mins(30));
    let calm = Fault {
        start: early,
        ..fault.clone()
    };
    let named = |id: &str, incident: Incident| Incident {
        id: id.into(),
        ..incident
    };
    story.take(&DemoEvent::Incident(named(
        "false",
        incident(&calm, early, IncidentStatus::Resolved),
    )));
    assert_eq!((story.table().incidents, story.table().false_incidents), (1, 1));
    story.take(&DemoEvent::FaultInjected(fault.clone()));
    let at = fault.start.plus(Span::from_mins(2));
    story.take(&DemoEvent::Incident(named(
        "first",
        incident(&fault, at, IncidentStatus::Open),
    )));
    story.take(&DemoEvent::Incident(named(
        "second",
        incident(&fault, at, IncidentStatus::Open),
    )));
    let table = story.table();
    assert_eq!(
        (table.found(), table.incidents, table.false_incidents, table.repeated),
        (1, 3, 1, 1)
    );
}

#[test]
fn blame_counts_only_for_the_change_that_did_it() {
    let mut story = Story::new(&shop().topology());
    let fault = shop().truth()[0].clone();
    story.take(&DemoEvent::FaultInjected(fault.clone()));
    let at = fault.start.plus(Span::from_mins(2));
    let mut wrong = incident(&fault, at, IncidentStatus::Open);
    wrong.hypotheses[0].change = Some(Arc::from("another"));
    story.take(&DemoEvent::Incident(wrong.clone()));
    assert_eq!((story.table().found(), story.table().blamed_right()), (1, 0));
    assert!(story.table().text().contains("no: bad_deploy"));
    wrong.hypotheses[0].change = fault.change.clone();
    story.take(&DemoEvent::Incident(wrong));
    assert_eq!(story.table().blamed_right(), 1);
    assert_eq!(story.table().rows[0].minutes_to_blame(), Some(2.0));
}

#[test]
fn the_picture_is_well_formed_and_holds_the_screen() {
    let picture = picture(&screen(false), 100, 30);
    assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
    assert_eq!(picture.matches("<text ").count(), picture.matches("</text>").count());
    assert!(picture.contains("bad deploy of"));
    // the curves are drawn, not written in a font's dots
    assert!(picture.contains("stroke-linecap=\"round\"") && !picture.contains('\u{28ff}'));
    let loose = picture
        .split('&')
        .skip(1)
        .filter(|rest| !rest.starts_with("amp;") && !rest.starts_with("lt;") && !rest.starts_with("gt;"));
    assert_eq!(loose.count(), 0);
}
