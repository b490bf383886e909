//! What diagnosis makes of one small story each.

use crate::story::{Story, blamed, minute, name};
use suture_diagnose::{LimitOptions, Options};
use suture_event::{
    ChangeKind, Direction, EndReason, EvidenceKind, HypothesisKind, IncidentStatus, Severity, SignalState, Timestamp,
};

const ALL: &[&str] = &["cpu_usage", "latency_p99", "error_rate", "memory_bytes"];

#[test]
fn one_series_by_itself_is_an_incident_if_it_is_far_off_and_stays_so() {
    let off = |deviation| Story::calm_shop().at(1).off("cart", &["latency_p99"], deviation);
    assert!(off(80.0).at(2).recovers("cart").at(30).incidents().is_empty(), "a blip");
    let incident = off(80.0).at(4).incident();
    assert_eq!(
        (blamed(&incident).as_str(), incident.opened_at),
        ("slow_dependency in cart", minute(2))
    );
}

#[test]
fn several_kinds_of_signal_on_one_service_are_one() {
    let story = Story::calm_shop().at(1).off("cart", ALL, 80.0).at(2);
    let incident = story.incident();
    assert_eq!(incident.opened_at, minute(1));
    assert_eq!((incident.status, incident.revision), (IncidentStatus::Open, 1));
    assert_eq!(incident.services, ["cart".into()]);
    assert!(
        incident
            .signals
            .iter()
            .all(|s| s.opening && s.state == SignalState::Active)
    );
}

#[test]
fn a_deploy_just_before_is_blamed_and_one_elsewhere_is_not() {
    let story = Story::calm_shop()
        .at(1)
        .deploy("cart")
        .deploy("ads")
        .at(4)
        .off("cart", ALL, 80.0)
        .at(5);
    let incident = story.incident();
    let top = &incident.hypotheses[0];
    assert_eq!(blamed(&incident), "deploy-cart-1");
    assert_eq!((top.kind, top.class.as_ref()), (HypothesisKind::Change, "bad_deploy"));
    assert!(top.probability > 0.7, "{}", top.probability);
    assert!(
        top.evidence
            .iter()
            .any(|e| e.kind == EvidenceKind::Timing && e.weight > 0.0 && !e.signals.is_empty())
    );
    assert!(
        incident
            .hypotheses
            .iter()
            .all(|h| name(h) != "deploy-ads-1" || h.probability < 0.05)
    );
}

#[test]
fn of_two_deploys_of_a_service_the_later_is_likelier() {
    let story = Story::calm_shop()
        .at(1)
        .deploy("cart")
        .at(20)
        .deploy("cart")
        .at(23)
        .off("cart", ALL, 80.0)
        .at(24);
    assert_eq!(blamed(&story.incident()), "deploy-cart-20");
}

#[test]
fn a_change_that_is_stamped_when_it_was_done_is_a_suspect_and_what_is_done_about_it_later_is_not() {
    let with = |kind: ChangeKind, at: i64| {
        let story = Story::calm_shop()
            .at(1)
            .off("cart", &ALL[..2], 5_000.0)
            .at(2)
            .off("cart", &ALL[2..], 5_000.0)
            .at(at)
            .change("cart", kind, minute(at))
            .at(at + 1)
            .off("web", &["latency_p99"], 30.0)
            .at(at + 2);
        blamed(&story.incident())
    };
    assert_eq!(with(ChangeKind::Deploy, 4), "deploy-cart-4");
    assert!(!with(ChangeKind::Rollback, 4).starts_with("deploy"));
    assert!(!with(ChangeKind::Deploy, 25).starts_with("deploy"));
}

#[test]
fn a_setting_that_was_changed_is_a_bad_config() {
    let story = Story::calm_shop()
        .at(1)
        .change("db", ChangeKind::Config, minute(1))
        .at(4)
        .off("db", ALL, 80.0)
        .at(5);
    assert_eq!(story.incident().hypotheses[0].class.as_ref(), "bad_config");
}

#[test]
fn slowness_all_along_the_call_path_points_to_its_lower_end() {
    let story = Story::calm_shop()
        .at(1)
        .off("web", &["latency_p99"], 40.0)
        .off("cart", &["latency_p99"], 40.0)
        .off("db", &["latency_p99", "cpu_usage"], 40.0)
        .at(2);
    let incident = story.incident();
    assert_eq!(blamed(&incident), "cpu_saturation in db");
    assert_eq!(incident.severity, Severity::Critical, "users feel it where work enters");
}

#[test]
fn a_callee_that_adds_little_delay_is_not_blamed_for_a_long_wait() {
    let with_db = |added: f64| {
        let story = Story::calm_shop()
            .at(1)
            .off("web", &["latency_p99", "error_ratio"], 9000.0)
            .off("cart", &["latency_p99", "error_ratio"], 9000.0)
            .off("db", &["latency_p99"], added)
            .at(2);
        let incident = story.incident();
        incident.hypotheses[0].service.as_deref().map(str::to_owned)
    };
    assert_eq!(with_db(9000.0).as_deref(), Some("db"));
    assert_eq!(with_db(60.0).as_deref(), Some("cart"));
}

#[test]
fn slow_calls_point_to_the_one_that_is_called() {
    let story = Story::calm_shop()
        .at(1)
        .slow_calls("pay", "bank", 300.0)
        .off("pay", &["latency_p99"], 60.0)
        .off("cart", &["latency_p99"], 60.0)
        .at(2);
    let incident = story.incident();
    let top = &incident.hypotheses[0];
    assert_eq!(top.service.as_deref(), Some("bank"));
    assert_eq!(
        (top.kind, top.class.as_ref()),
        (HypothesisKind::Dependency, "slow_dependency"),
        "nobody watches bank"
    );
}

#[test]
fn a_storm_is_one_incident() {
    let mut story = Story::calm_shop().at(1).off("db", ALL, 80.0);
    for (at, service) in [(2, "cart"), (3, "web")] {
        story = story.at(at).off(service, &["latency_p99", "error_rate"], 50.0);
    }
    story = story.at(6).leave("pay", &["requests"], 50.0, Direction::Down);
    let incident = story.at(10).incident();
    assert_eq!(incident.hypotheses[0].service.as_deref(), Some("db"));
    assert!(incident.signals.len() == 9, "{}", incident.signals.len());
    assert!(incident.signals.iter().any(|signal| !signal.opening));
}

#[test]
fn what_comes_of_a_fault_later_and_louder_joins_its_incident() {
    let story = Story::calm_shop()
        .at(1)
        .off("db", &["latency_p99", "error_rate", "cpu_usage"], 30.0)
        .at(2)
        .off(
            "db",
            &["memory_bytes", "disk_io", "request_rate", "queue_depth"],
            2_000.0,
        )
        .at(3);
    let incident = story.incident();
    assert_eq!(incident.services, ["db".into()]);
    assert_eq!((incident.signals.len(), incident.opened_at), (7, minute(1)));
}

#[test]
fn more_work_coming_in_is_a_surge() {
    let mut story = Story::calm_shop().at(1);
    for service in ["web", "cart", "search", "ads", "db"] {
        story = story.off(service, &["requests", "network_bytes"], 30.0);
    }
    let incident = story.off("web", &["cpu_usage"], 12.0).at(2).incident();
    assert_eq!(blamed(&incident), "traffic_surge in web");
}

#[test]
fn the_resource_that_runs_out_names_the_class() {
    for (metric, class) in [
        ("memory_bytes", "memory_leak in search"),
        ("disk_used_bytes", "disk_full in search"),
        ("db_pool_in_use", "saturation in search"),
        ("cpu_usage", "cpu_saturation in search"),
    ] {
        let story = Story::calm_shop()
            .at(1)
            .off("search", &[metric, "latency_p99", "error_rate"], 90.0)
            .at(2);
        assert_eq!(blamed(&story.incident()), class);
    }
}

#[test]
fn a_service_that_falls_silent_crashed() {
    let story = Story::calm_shop()
        .at(1)
        .leave(
            "search",
            &["requests", "cpu_usage", "memory_bytes"],
            50.0,
            Direction::Absent,
        )
        .off("web", &["error_rate"], 60.0)
        .at(2);
    assert_eq!(blamed(&story.incident()), "crash in search");
}

#[test]
fn a_spike_that_passes_within_the_grace_period_opens_nothing() {
    let mut options = Options::default();
    options.changes.grace = "5m".parse().unwrap();
    let story = Story::new(options)
        .at(1)
        .deploy("cart")
        .at(2)
        .off("cart", ALL, 80.0)
        .at(4)
        .recovers("cart")
        .at(60);
    assert!(story.incidents().is_empty());
}

#[test]
fn a_spike_that_outlasts_it_opens_with_the_change_in_first_place() {
    let mut options = Options::default();
    options.changes.grace = "5m".parse().unwrap();
    let story = Story::new(options)
        .at(1)
        .deploy("cart")
        .at(2)
        .off("cart", ALL, 80.0)
        .at(10);
    let incident = story.incident();
    assert_eq!(
        incident.opened_at,
        minute(8),
        "two windows after the grace period, when it is known whether it stays"
    );
    assert_eq!(blamed(&incident), "deploy-cart-1");
}

#[test]
fn a_change_that_is_told_late_ranks_the_open_incident_again() {
    let story = Story::calm_shop().at(5).off("cart", ALL, 80.0).at(6);
    assert_ne!(story.incident().hypotheses[0].kind, HypothesisKind::Change);
    let story = story.change("cart", ChangeKind::Deploy, minute(3)).at(7);
    let incident = story.incident();
    assert_eq!((blamed(&incident).as_str(), incident.revision), ("deploy-cart-3", 2));
}

#[test]
fn an_incident_is_over_once_its_opening_signals_are_back() {
    let story = Story::calm_shop()
        .at(1)
        .off("cart", ALL, 80.0)
        .at(6)
        .recovers("cart")
        .at(7);
    let incident = story.incident();
    assert_eq!(
        (incident.status, incident.resolved_at),
        (IncidentStatus::Resolved, Some(minute(6)))
    );
    assert!(
        incident
            .signals
            .iter()
            .all(|signal| signal.state == SignalState::Recovered)
    );
}

#[test]
fn silence_is_not_recovery() {
    let silent = || {
        Story::calm_shop()
            .at(1)
            .off("cart", ALL, 80.0)
            .at(6)
            .ends("cart", EndReason::Silent)
    };
    assert_eq!(silent().at(100).incident().status, IncidentStatus::Open);
    let closed = silent().at(300).incident();
    assert_eq!(
        closed.status,
        IncidentStatus::Resolved,
        "with nothing new for so long it is closed"
    );
    assert!(
        closed.signals.iter().all(|signal| signal.state == SignalState::Silent),
        "but not recovered"
    );
}

#[test]
fn a_relapse_keeps_it_open() {
    let mut options = Options::default();
    options.resolve.calm = "5m".parse().unwrap();
    let story = Story::new(options)
        .at(1)
        .off("cart", ALL, 80.0)
        .at(6)
        .recovers("cart")
        .at(8)
        .off("cart", ALL, 80.0)
        .at(14);
    let incident = story.incident();
    assert_eq!(incident.status, IncidentStatus::Open);
    assert_eq!(incident.signals.len(), 8, "the relapse belongs to it");
}

#[test]
fn a_second_fault_after_its_own_deploy_is_a_second_incident() {
    let story = Story::calm_shop()
        .at(1)
        .deploy("cart")
        .at(4)
        .off("cart", ALL, 80.0)
        .at(8)
        .deploy("search")
        .at(11)
        .off("search", ALL, 80.0)
        .at(12);
    let blame: Vec<String> = story.incidents().iter().map(blamed).collect();
    assert_eq!(blame, ["deploy-cart-1", "deploy-search-8"]);
}

#[test]
fn a_series_that_is_outside_and_goes_a_step_further_is_another_fault() {
    let surge = Story::calm_shop()
        .at(1)
        .off("web", &["requests", "cpu_usage"], 40.0)
        .off("cart", &["requests", "cpu_usage", "latency_p99"], 40.0)
        .at(60);
    let step = surge
        .deploy("cart")
        .at(64)
        .step_on("cart", &["latency_p99"], 60.0)
        .at(68);
    let told = step.incidents();
    assert_eq!(told.len(), 2, "{told:#?}");
    assert_eq!(blamed(&told[1]), "deploy-cart-60");
    // the level it had before comes back: that is the end of the second alone
    let over = step.recovers("db").at(70).incidents();
    assert_eq!(over[0].status, IncidentStatus::Open);
}

#[test]
fn what_passed_and_comes_again_right_after_a_change_is_that_changes_though_the_incident_is_open() {
    let open = Story::calm_shop()
        .at(1)
        .off("db", &["disk_used", "latency_p99"], 80.0)
        .at(10)
        .ends_of("db", "latency_p99", EndReason::Recovered)
        .at(30);
    assert_eq!(
        open.incidents()[0].status,
        IncidentStatus::Open,
        "the disk is still full"
    );
    let told = open
        .deploy("db")
        .at(34)
        .off("db", &["latency_p99"], 80.0)
        .at(38)
        .incidents();
    assert_eq!(told.len(), 2, "{told:#?}");
    assert_eq!(blamed(&told[1]), "deploy-db-30");
}

#[test]
fn what_began_in_an_incident_that_is_over_and_is_told_only_now_opens_no_other() {
    let over = Story::calm_shop()
        .at(1)
        .off("db", ALL, 80.0)
        .at(30)
        .recovers("db")
        .at(60);
    assert_eq!(over.incidents().len(), 1);
    let late = over
        .leave_since(minute(1), "cart", &["latency_p99"], 80.0, Direction::Up)
        .at(70);
    assert_eq!(late.incidents().len(), 1, "it began when the database was slow");
    let now = late
        .leave_since(minute(70), "search", &["latency_p99"], 80.0, Direction::Up)
        .at(75);
    assert_eq!(now.incidents().len(), 2, "that has nothing to do with it");
}

#[test]
fn what_costs_more_in_many_services_at_once_is_more_work_even_before_that_is_told() {
    let story = Story::calm_shop()
        .at(1)
        .off("cart", &["cpu_usage"], 20.0)
        .off("db", &["cpu_usage"], 20.0)
        .off("search", &["cpu_usage"], 20.0)
        .off("pay", &["cpu_usage"], 20.0)
        .off("ads", &["cpu_usage"], 20.0)
        .at(3);
    let told = story.incidents();
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!(&*told[0].hypotheses[0].class, "traffic_surge");
}

#[test]
fn the_same_service_failing_again_later_is_a_second_incident() {
    let story = Story::calm_shop()
        .at(1)
        .off("cart", ALL, 80.0)
        .at(6)
        .recovers("cart")
        .at(40)
        .off("cart", ALL, 900.0)
        .at(41);
    let incidents = story.incidents();
    assert_eq!(incidents.len(), 2);
    assert_ne!(incidents[0].id, incidents[1].id);
}

#[test]
fn what_is_off_every_few_minutes_is_soon_worth_nothing() {
    let mut story = Story::calm_shop();
    for round in 0..60 {
        story = story
            .at(10 * round)
            .off("ads", ALL, 6.0)
            .at(10 * round + 3)
            .recovers("ads");
    }
    let opened: Vec<Timestamp> = story
        .at(700)
        .incidents()
        .iter()
        .map(|incident| incident.opened_at)
        .collect();
    assert!(opened.len() <= 10, "{opened:?}");
    assert!(opened.iter().all(|at| *at < minute(300)), "it learns: {opened:?}");
}

#[test]
fn without_services_the_scope_is_one_place() {
    let mut story = Story::calm_shop().at(1).off("cart", ALL, 80.0);
    for fact in &mut story.told {
        if let crate::story::Fact::Anomaly(anomaly) = fact {
            anomaly.service = None;
        }
    }
    let mut diagnoser = suture_diagnose::Diagnoser::new(Options::default(), "prod".into());
    let mut out = Vec::new();
    for fact in &story.told {
        out.extend(diagnoser.step(fact.input()));
    }
    out.extend(diagnoser.step(suture_diagnose::Input::Time(minute(2))));
    assert_eq!(out.len(), 1);
    assert!(out[0].services.is_empty());
    assert!(out[0].hypotheses.iter().all(|h| h.service.is_none()));
}

fn bounded(limits: LimitOptions) -> Story {
    Story::new(Options {
        limits,
        ..Options::default()
    })
}

#[test]
fn at_the_bound_on_its_size_an_incident_counts_further_signals() {
    let limits = LimitOptions {
        signals: 5,
        ..LimitOptions::default()
    };
    let story = bounded(limits)
        .at(1)
        .off("cart", ALL, 80.0)
        .at(2)
        .off("web", &ALL[..3], 80.0)
        .at(3);
    let incident = story.incident();
    assert_eq!(
        (
            incident.signals.len(),
            incident.anomalies.len(),
            incident.signals_left_out
        ),
        (5, 5, 2)
    );
}

#[test]
fn at_the_bound_on_open_incidents_the_next_waits_for_a_place() {
    let limits = LimitOptions {
        incidents: 1,
        ..LimitOptions::default()
    };
    let story = bounded(limits)
        .at(1)
        .deploy("cart")
        .at(4)
        .off("cart", ALL, 80.0)
        .at(8)
        .deploy("search")
        .at(11)
        .off("search", ALL, 80.0)
        .at(12);
    assert_eq!(story.incidents().len(), 1);
    assert_eq!(story.diagnoser.open_incidents(), 1);
}

#[test]
fn at_the_bound_on_changes_the_oldest_is_forgotten() {
    let limits = LimitOptions {
        changes: 2,
        ..LimitOptions::default()
    };
    let story = bounded(limits)
        .at(1)
        .deploy("cart")
        .deploy("web")
        .deploy("ads")
        .at(4)
        .off("cart", ALL, 80.0)
        .at(5);
    assert_ne!(story.incident().hypotheses[0].kind, HypothesisKind::Change);
}

#[test]
fn at_the_bound_on_anomalies_the_oldest_loose_one_goes() {
    let limits = LimitOptions {
        anomalies: 1,
        ..LimitOptions::default()
    };
    let story = bounded(limits).at(1).off("cart", ALL, 80.0).at(2);
    assert!(
        story.incidents().is_empty(),
        "one of four is not enough: {:?}",
        story.incidents()
    );
}

#[test]
fn services_beyond_the_bound_are_of_no_place() {
    let limits = LimitOptions {
        services: 7,
        ..LimitOptions::default()
    };
    let story = bounded(limits).at(1).off("newcomer", ALL, 80.0).at(2);
    let incident = story.incident();
    assert!(incident.hypotheses.iter().all(|h| h.service.is_none()));
    assert_eq!(
        incident.services,
        ["newcomer".into()],
        "it is still named where it shows"
    );
}

#[test]
fn under_other_options_what_was_learned_stays() {
    let mut story = Story::calm_shop().at(1).off("cart", ALL, 80.0).at(2);
    let mut options = Options::default();
    options.background.block = "20m".parse().unwrap();
    options.resolve.calm = "5m".parse().unwrap();
    story.diagnoser.reconfigure(options);
    let story = story.at(6).recovers("cart").at(20);
    assert_eq!(story.incident().resolved_at, Some(minute(11)));
}

#[test]
fn faults_that_were_explained_do_not_make_the_next_one_look_like_chance() {
    let mut story = Story::calm_shop();
    let services = ["cart", "search", "ads", "db", "bank"];
    for (hour, service) in (0..).zip(services.iter().cycle().take(20)) {
        story = story
            .at(hour * 60 + 1)
            .off(service, ALL, 80.0)
            .at(hour * 60 + 25)
            .recovers(service)
            .at(hour * 60 + 59);
    }
    let incidents = story.incidents();
    let found: Vec<_> = incidents.iter().map(|incident| incident.services[0].as_ref()).collect();
    assert_eq!(found, services.repeat(4), "each was as plain as the first");
    assert!(
        incidents
            .iter()
            .all(|incident| incident.status == IncidentStatus::Resolved)
    );
}
