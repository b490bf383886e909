//! A shop whose checkout fails after a deploy, as Telegraf and GitHub tell of it; and the program, run as a user does.

// each test file uses its part, and what goes wrong here is a failed test
#![allow(dead_code, clippy::unwrap_used, clippy::cast_possible_wrap)]

use std::{
    fmt::Write as _,
    path::Path,
    process::{Command, Output},
};

/// 2026-06-01, in seconds.
pub(crate) const START: i64 = 1_780_272_000;
/// The fault begins with this minute.
pub(crate) const BROKEN: i64 = 240;

/// Runs the program as a user does.
pub(crate) fn program(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_suture"))
        .args(args)
        .current_dir(folder)
        .env_remove("RUST_LOG")
        .output()
        .unwrap()
}

pub(crate) fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// What a service does in a minute: requests so far, the share that fails, seconds a request takes, and how much of the
/// processor is used.
pub(crate) fn load(service: usize, minute: i64, ill: bool) -> [f64; 4] {
    // what looks like noise and is the same in every run
    let noise = |seed: i64| {
        let mixed = (minute * 7_919 + seed * 104_729 + service as i64 * 1_299_709) % 1_009;
        (mixed as f64 / 1_009.0) - 0.5
    };
    let requests = 600.0 * minute as f64 + 40.0 * noise(1);
    let errors = if ill {
        0.3 + 0.05 * noise(2)
    } else {
        0.004 + 0.002 * noise(2)
    };
    let latency = if ill {
        0.9 + 0.1 * noise(3)
    } else {
        0.1 + 0.01 * noise(3)
    };
    let cpu = if ill {
        0.9 + 0.02 * noise(4)
    } else {
        0.4 + 0.04 * noise(4)
    };
    [requests, errors, latency, cpu]
}

pub(crate) const SERVICES: [&str; 5] = ["web", "cart", "checkout", "payment", "stock"];

pub(crate) fn deploy(service: &str, minute: i64) -> String {
    let time = START + minute * 60;
    let state = serde_json::json!({
        "action": "created",
        "deployment_status": {"state": "success", "environment": "prod", "id": 7, "created_at": at(time), "updated_at": at(time)},
        "deployment": {
            "id": 42, "sha": "a1b2c3d4", "ref": "v2", "task": "deploy", "environment": "prod",
            "payload": {"service": service}, "created_at": at(time),
        },
        "repository": {"name": service, "full_name": format!("shop/{service}")},
    });
    format!("{state}\n")
}

pub(crate) fn at(seconds: i64) -> String {
    suture_event::Timestamp::from_millis(seconds * 1_000).to_string()
}

/// Influx line protocol as Telegraf writes it, with a label for the caller.
pub(crate) fn influx() -> String {
    let mut lines = String::new();
    for minute in 0..BROKEN + 30 {
        for (service, name) in SERVICES.iter().enumerate() {
            let [requests, errors, latency, cpu] = load(service, minute, service == 2 && minute >= BROKEN);
            let time = START + minute * 60;
            writeln!(
                lines,
                "http,app={name},host=h{service} requests_total={requests},error_ratio={errors},latency_seconds={latency} {time}000000000"
            )
            .unwrap();
            writeln!(lines, "cpu,app={name},host=h{service} usage={cpu} {time}000000000").unwrap();
        }
    }
    lines
}
