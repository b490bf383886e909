//! `suture status`: how a run, or a replay, stands.

use std::{fmt::Write as _, fs, path::Path, time::Duration};

use anyhow::{Context, bail};
use suture_service::{
    status::{ShardStatus, Status},
    story::{many, of_verdict, time},
};

/// A status of more bytes is none of ours.
const MOST: usize = 64 << 20;
const WAIT: Duration = Duration::from_secs(10);

/// Says how a run, or a replay, stands: what is warm, what is held back and why, which incidents are open, what is done about
/// them, what is frozen, how far it is behind, and what went to the dead letters.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  suture status 127.0.0.1:9464\n  suture status found    # the folder of a replay")]
pub(crate) struct Args {
    /// The address that `suture run --metrics` serves, such as `127.0.0.1:9464`, or the folder that a replay wrote.
    #[arg(value_name = "ADDRESS|DIR", env = "SUTURE_METRICS")]
    of: String,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Asks, and prints the answer.
pub(crate) fn status(args: &Args) -> anyhow::Result<()> {
    let path = Path::new(&args.of);
    let text = if path.is_dir() {
        let file = path.join("status.json");
        fs::read_to_string(&file).with_context(|| {
            format!(
                "cannot read {}: is it a folder that `suture replay` wrote?",
                file.display()
            )
        })?
    } else {
        asked(&args.of)?
    };
    let status: Status = serde_json::from_str(&text).with_context(|| {
        format!(
            "{} does not answer as Suture does: is it another program's, or of another version?",
            args.of
        )
    })?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        print!("{}", words(&status));
    }
    Ok(())
}

fn asked(address: &str) -> anyhow::Result<String> {
    let url = match address.contains("://") {
        true => format!("{}/status", address.trim_end_matches('/')),
        false => format!("http://{address}/status"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = reqwest::Client::builder().timeout(WAIT).build()?;
        let mut answer = client.get(&url).send().await.with_context(|| {
            format!(
                "{url} does not answer: is that what `suture run --metrics` was given? (or name the folder of a replay)"
            )
        })?;
        if !answer.status().is_success() {
            bail!(
                "{url} answers {}: is that what `suture run --metrics` was given?",
                answer.status()
            );
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MOST {
                bail!("{url} answers with more than {MOST} bytes");
            }
        }
        String::from_utf8(bytes).with_context(|| format!("{url} does not answer with text"))
    })
}

fn place(shard: &ShardStatus) -> String {
    format!("{}/{}", shard.topic, shard.partition)
}

/// A status in words. Control characters, which names from outside may have, are left out.
fn words(status: &Status) -> String {
    let mut text = format!("pipeline {}", status.pipeline);
    match status.at {
        Some(at) => {
            let _ = writeln!(text, " at {}", time(at));
        }
        None => text.push_str(", replayed\n"),
    }
    if let Some(why) = &status.not_ready {
        let _ = writeln!(text, "not ready: {}", why.lines().collect::<Vec<_>>().join("; "));
    }
    let mut section = |title: &str, lines: Vec<String>, nothing: &str| {
        if lines.is_empty() {
            if !nothing.is_empty() {
                let _ = writeln!(text, "\n{title}: {nothing}");
            }
            return;
        }
        let _ = writeln!(text, "\n{title}");
        for line in lines {
            let _ = writeln!(text, "  {}", line.replace(|c: char| c.is_control(), " "));
        }
    };
    let shards = || status.shards.iter();

    let warm = shards().filter_map(|shard| {
        let warm = shard.warm?;
        let known = warm.series.saturating_sub(warm.warming);
        let until = match (warm.warming, warm.until) {
            (0, _) => String::new(),
            (warming, Some(at)) => format!("; {warming} are being learned, until about {}", time(at)),
            (warming, None) => format!("; {warming} are being learned"),
        };
        let series = many(warm.series, "series", "series");
        Some(format!(
            "{}: what is usual is known of {known} of {series}{until}",
            place(shard)
        ))
    });
    section("warm", warm.collect(), "no shard has brought telemetry");

    let progress = shards()
        .filter(|shard| !shard.phase.is_empty() || shard.watermark.is_some())
        .map(|shard| {
            let mut line = format!("{} {}", shard.plane, place(shard));
            if !shard.phase.is_empty() {
                let _ = write!(line, ": {}", shard.phase);
            }
            if let Some(lag) = shard.lag {
                let _ = write!(line, ", {} behind", many(lag.unsigned_abs(), "record", "records"));
            }
            if let Some(at) = shard.watermark {
                let _ = write!(line, ", complete up to {}", time(at));
            }
            line
        });
    section("progress", progress.collect(), "");

    let open = shards().flat_map(|shard| &shard.incidents);
    let open = open.map(|open| {
        format!(
            "{} in {} since {}: {}",
            open.id,
            open.scope,
            time(open.opened_at),
            open.title
        )
    });
    section("incidents", open.collect(), "none is open");

    let held = shards().flat_map(|shard| &shard.held).filter_map(|verdict| {
        let line = of_verdict(verdict)?;
        Some(format!("{} {}", time(verdict.at), line.text))
    });
    section("held back", held.collect(), "nothing");

    let actions = shards().flat_map(|shard| &shard.actions).map(|action| {
        format!(
            "{} on {} for incident {} {}: {}",
            action.action, action.target, action.incident, action.id, action.stage
        )
    });
    section("actions", actions.collect(), "none is under way");

    let frozen = shards().flat_map(|shard| &shard.frozen);
    let frozen = frozen.map(|frozen| format!("{} by {}: suture thaw lets actions go on", frozen.scope, frozen.by));
    section("frozen", frozen.collect(), "nothing");

    let missing = shards().flat_map(|shard| &shard.missing);
    section("judged without", missing.map(ToString::to_string).collect(), "");

    let letters = shards().flat_map(|shard| {
        let letters = shard.dead_letters.iter();
        letters.map(|letter| {
            let records = many(letter.records, "record", "records");
            format!(
                "{}: {records}, the last at {}: {}",
                place(shard),
                letter.offset,
                letter.reason
            )
        })
    });
    section("dead letters", letters.collect(), "none");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_told_in_words_whatever_is_known() {
        let status: Status = serde_json::from_value(serde_json::json!({
            "pipeline": "shop", "at": 1_780_272_000_000_i64, "not_ready": "observe: no shard yet\ndecide: no shard yet",
            "shards": [
                {"plane": "observe", "topic": "telemetry", "partition": 0, "phase": "live", "lag": 12,
                 "watermark": 1_780_271_940_000_i64,
                 "warm": {"series": 42, "warming": 2, "until": 1_780_275_600_000_i64},
                 "dead_letters": [{"reason": "the record\u{1b} is empty", "records": 3, "offset": 17}]},
                {"plane": "decide", "topic": "suture.facts", "partition": 0, "phase": "live",
                 "incidents": [{"id": "i-1", "scope": "prod", "opened_at": 1_780_271_000_000_i64, "title": "errors on cart"}],
                 "held": [{"at": 1_780_271_000_000_i64, "scope": "prod", "service": "web", "class": "traffic_surge",
                           "height": 6.04, "bar": 9.5, "outcome": "below_bar", "signals": ["requests of web"]}],
                 "actions": [{"id": "a-1", "action": "rollback", "target": "cart", "incident": "i-1", "stage": "being done"}],
                 "frozen": [{"scope": "prod", "by": "ann"}],
                 "missing": [{"topic": "telemetry", "partition": 1}]},
            ],
        }))
        .unwrap_or_default();
        assert_eq!(
            words(&status),
            "pipeline shop at 2026-06-01T00:00:00Z
not ready: observe: no shard yet; decide: no shard yet

warm
  telemetry/0: what is usual is known of 40 of 42 series; 2 are being learned, until about 2026-06-01T01:00:00Z

progress
  observe telemetry/0: live, 12 records behind, complete up to 2026-05-31T23:59:00Z
  decide suture.facts/0: live

incidents
  i-1 in prod since 2026-05-31T23:43:20Z: errors on cart

held back
  2026-05-31T23:43:20Z no incident yet: web, perhaps traffic surge: requests of web reach 6 of the 9.5 it takes; 3.5 are lacking

actions
  rollback on cart for incident i-1 a-1: being done

frozen
  prod by ann: suture thaw lets actions go on

judged without
  telemetry/1

dead letters
  telemetry/0: 3 records, the last at 17: the record  is empty
"
        );
        let nothing = words(&Status {
            pipeline: "shop".to_owned(),
            ..Status::default()
        });
        assert_eq!(
            nothing,
            "pipeline shop, replayed

warm: no shard has brought telemetry

incidents: none is open

held back: nothing

actions: none is under way

frozen: nothing

dead letters: none
"
        );
    }
}
