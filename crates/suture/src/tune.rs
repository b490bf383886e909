//! `suture tune`: settings that keep to a budget of false alarms, with what they would have done.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context, bail};
use serde_json::{Value, json};
use suture_config::Pipeline;
use suture_detect::AlarmBudget;
use suture_event::Timestamp;
use suture_service::load::{BadPipeline, examine_bytes};

use crate::backtest::{
    Allowance, Ground, Past, Row,
    judge::{Judgement, Worth, most_within},
    seen::Seen,
    summary, weeks, write_report,
};

/// Proposes settings that keep to a budget of false alarms, over past telemetry, and shows what they would have done.
///
/// With --labels a false alarm is one when nothing is known to have been wrong, and of the settings that keep to the budget those
/// are proposed that find the most; without, every alarm counts as false, and nothing is proposed as long as the pipeline keeps to
/// the budget. Nothing that breaks it in any span of its time is ever proposed. Exit code 1 where nothing keeps to it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  suture tune --pipeline p.yaml --telemetry history.ndjson --labels faults.csv --budget 5/1w --out tuned.html"
)]
pub(crate) struct Args {
    #[command(flatten)]
    past: Past,
    /// False alarms that are bearable, and in how long a time.
    #[arg(long, value_name = "ALARMS/TIME")]
    budget: Allowance,
    /// Runs over the telemetry at most.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u64).range(2..=1_000))]
    runs: u64,
    /// Also write a report of what is proposed, as `suture backtest` does.
    #[arg(long, value_name = "FILE.html")]
    out: Option<PathBuf>,
}

/// Settings to try: keys of the pipeline file, by what they are about. `null` takes a key away.
fn choices(budget: AlarmBudget) -> Vec<(&'static str, Vec<Value>)> {
    let alarms = |share: u32| {
        let at_most = (budget.at_most / share).max(1);
        json!({"alarms": {"at_most": at_most, "per": budget.per}, "detect": {"alarms": null, "discoveries": null}})
    };
    let level = |alarm: f64| {
        let detect = json!({"alarm": alarm, "at_once": alarm / 1_000.0, "alarms": null, "discoveries": null});
        json!({"alarms": null, "detect": detect})
    };
    let effect = |relative: f64| json!({"detect": {"least_effect": {"relative": relative}}});
    let episode = |open: u32, of: u32| json!({"detect": {"episode": {"open": open, "of": of}}});
    vec![
        (
            "how unlikely",
            vec![
                level(3e-3),
                level(1e-3),
                level(3e-4),
                level(1e-4),
                level(3e-5),
                level(1e-5),
                level(1e-6),
                alarms(1),
                alarms(2),
                alarms(4),
            ],
        ),
        (
            "how large",
            vec![effect(0.0), effect(0.05), effect(0.1), effect(0.2), effect(0.5)],
        ),
        (
            "how long",
            vec![
                episode(1, 1),
                episode(2, 3),
                episode(3, 5),
                episode(5, 8),
                episode(8, 12),
            ],
        ),
        ("weeks", vec![json!({"detect": {"season": {"weekly": true}}})]),
    ]
}

/// Settings and what they led to.
#[derive(Debug, Clone)]
struct Tried {
    /// What is written over the file's own keys.
    patch: Value,
    found: usize,
    alarms: u64,
    wrong: u64,
    /// The most false alarms in any span of the budget's time, or as many as would come in one where there is less telemetry.
    worst: f64,
    delay: i64,
    row: Row,
}

impl Tried {
    /// Whether false alarms kept to the budget all the time.
    fn keeps(&self, budget: AlarmBudget) -> bool {
        self.worst <= f64::from(budget.at_most)
    }

    /// The larger the better: what is found, then how few alarms are false, then how soon it is told. Without known faults
    /// that is the most alarms, since those are what can be looked at.
    fn worth(&self, labelled: bool) -> (u64, std::cmp::Reverse<u64>, std::cmp::Reverse<i64>) {
        if labelled {
            (
                self.found as u64,
                std::cmp::Reverse(self.wrong),
                std::cmp::Reverse(self.delay),
            )
        } else {
            (self.alarms, std::cmp::Reverse(0), std::cmp::Reverse(0))
        }
    }
}

/// What can be said about settings.
enum Advice {
    /// Nothing better was found than what the file has.
    Stay,
    /// Write this.
    Change(Box<Tried>),
    /// Nothing that was tried keeps to the budget.
    Nothing,
}

/// Tries, proposes, and writes.
pub(crate) fn tune(args: &Args) -> anyhow::Result<ExitCode> {
    let ground = args.past.open()?;
    let text = std::fs::read(&args.past.pipeline)
        .with_context(|| format!("cannot read the pipeline file {}", args.past.pipeline.display()))?;
    let search = Search {
        ground: &ground,
        file: args.past.pipeline.display().to_string(),
        base: read(&text).with_context(|| args.past.pipeline.display().to_string())?,
        budget: args.budget.0,
        runs: args.runs,
    };
    let (tried, advice) = search.run()?;
    println!("{}", table(&tried, args.budget.0, ground.spans.is_some()));
    let before = &tried[0];
    Ok(match advice {
        Advice::Stay => {
            println!(
                "The settings keep to {} and nothing that was tried is better: leave them.",
                args.budget
            );
            if let Some(out) = &args.out {
                search.report(before, &tried, "as it is", out)?;
            }
            ExitCode::SUCCESS
        }
        Advice::Nothing => {
            println!(
                "Nothing that was tried keeps to {}: look at which series raise the most with `suture backtest`, and give those a rule of \
                 their own.",
                args.budget
            );
            ExitCode::FAILURE
        }
        Advice::Change(best) => {
            println!(
                "Write this into {}:\n\n{}",
                search.file,
                yaml(&best.patch, &search.base)?
            );
            if let Some(out) = &args.out {
                search.report(&best, &tried, "as proposed", out)?;
                println!("{}", out.display());
            }
            ExitCode::SUCCESS
        }
    })
}

struct Search<'a> {
    ground: &'a Ground,
    file: String,
    base: Value,
    budget: AlarmBudget,
    runs: u64,
}

impl Search<'_> {
    /// Tries one thing after the other, keeping what is better.
    fn run(&self) -> anyhow::Result<(Vec<Tried>, Advice)> {
        let labelled = self.ground.spans.is_some();
        let now = self.attempt(&json!({}), "as the file has it", true)?;
        let mut tried = vec![now.clone()];
        if !labelled && now.keeps(self.budget) {
            return Ok((tried, Advice::Stay));
        }
        let weeks = weeks(&self.seen(&json!({}))?.covered());
        let mut best = now.keeps(self.budget).then_some(now);
        'all: for (about, patches) in choices(self.budget) {
            if about == "weeks" && weeks < 3.0 {
                continue;
            }
            let from = best.as_ref().map_or(json!({}), |best| best.patch.clone());
            for patch in patches {
                if tried.len() as u64 >= self.runs {
                    break 'all;
                }
                let patch = merged(&from, &patch);
                if tried.iter().any(|tried| tried.patch == patch) {
                    continue;
                }
                let one = self.attempt(&patch, &words(&patch), false)?;
                tried.push(one.clone());
                let better = best
                    .as_ref()
                    .is_none_or(|best| one.worth(labelled) > best.worth(labelled));
                if one.keeps(self.budget) && better {
                    best = Some(one);
                }
            }
        }
        let advice = match best {
            None => Advice::Nothing,
            Some(best) if best.row.current => Advice::Stay,
            Some(best) => Advice::Change(Box::new(best)),
        };
        Ok((tried, advice))
    }

    /// The file with a patch, as it would be read with it written in.
    fn pipeline(&self, patch: &Value) -> anyhow::Result<Arc<Pipeline>> {
        // JSON is YAML
        let text = overridden(&self.base, patch).to_string();
        let (pipeline, problems) = examine_bytes(&self.file, text.as_bytes());
        match pipeline {
            Some(pipeline) => Ok(Arc::new(pipeline)),
            None => Err(BadPipeline(problems).into()),
        }
    }

    fn seen(&self, patch: &Value) -> anyhow::Result<Seen> {
        self.ground.run(&self.pipeline(patch)?)
    }

    fn attempt(&self, patch: &Value, name: &str, current: bool) -> anyhow::Result<Tried> {
        let seen = self.seen(patch)?;
        let judged = self.ground.judge(&seen);
        let wrong = false_alarms(&seen, &judged);
        let per = self.budget.per.as_millis();
        let most = most_within(&wrong, per) as f64;
        // of less telemetry than the budget's time nothing larger can be seen, so it is taken to go on as it did
        let covered: i64 = seen
            .covered()
            .iter()
            .map(|(from, to)| to.since(*from).as_millis())
            .sum();
        let short = if covered < per {
            per as f64 / covered.max(1) as f64
        } else {
            1.0
        };
        Ok(Tried {
            patch: patch.clone(),
            found: judged.hits(),
            alarms: judged.all.alarms,
            wrong: wrong.len() as u64,
            worst: most * short,
            delay: judged.all.delay.unwrap_or(i64::MAX),
            row: Row::of(name.to_owned(), current, &seen, judged),
        })
    }

    fn report(&self, best: &Tried, tried: &[Tried], what: &str, out: &std::path::Path) -> anyhow::Result<()> {
        let seen = self.seen(&best.patch)?;
        let mut rows = vec![Row::of(what.to_owned(), true, &seen, self.ground.judge(&seen))];
        rows.extend(tried.iter().map(|tried| Row {
            current: false,
            ..tried.row.clone()
        }));
        let title = format!("What {} would have said {what}", self.ground.loaded.pipeline.name);
        let judged = self.ground.judge(&seen);
        println!("{}", summary(self.ground, &seen, &judged));
        let before = if best.patch == json!({}) {
            String::new()
        } else {
            let text = yaml(&best.patch, &self.base)?
                .replace('&', "&amp;")
                .replace('<', "&lt;");
            format!(
                "<section><h2>Proposed</h2>\n<p>To be written into the pipeline file:</p>\n<pre>{text}</pre></section>\n"
            )
        };
        write_report(self.ground, &seen, &rows, &title, &before, 40, out)
    }
}

/// Times of the alarms that count as false: of all, where nothing is known.
fn false_alarms(seen: &Seen, judged: &Judgement) -> Vec<Timestamp> {
    let wrong = |at: usize| judged.worths.get(at).is_none_or(|worth| *worth == Worth::False);
    let alarms = seen.alarms.iter().enumerate();
    alarms
        .filter(|(at, _)| wrong(*at))
        .map(|(_, alarm)| alarm.raised.at)
        .collect()
}

fn read(text: &[u8]) -> anyhow::Result<Value> {
    let text = std::str::from_utf8(text).context("it is not UTF-8")?;
    let strict = serde_saphyr::options! { strict_booleans: true };
    let base: Value = serde_saphyr::from_str_with_options(text.trim_start_matches('\u{feff}'), strict)?;
    if !base.is_object() {
        bail!("it is no mapping");
    }
    Ok(base)
}

/// One patch after the other: the later counts, and what it takes away stays on record.
fn merged(first: &Value, then: &Value) -> Value {
    let (Value::Object(first), Value::Object(then)) = (first, then) else {
        return then.clone();
    };
    let mut out = first.clone();
    for (key, value) in then {
        let new = out.get(key).map_or_else(|| value.clone(), |old| merged(old, value));
        out.insert(key.clone(), new);
    }
    Value::Object(out)
}

/// A document with a patch written in, as RFC 7396 has it.
fn overridden(base: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else {
        return patch.clone();
    };
    let mut out = base.as_object().cloned().unwrap_or_default();
    for (key, value) in patch {
        if value.is_null() {
            out.remove(key);
        } else {
            let new = overridden(out.get(key).unwrap_or(&Value::Null), value);
            out.insert(key.clone(), new);
        }
    }
    Value::Object(out)
}

/// A patch in a line.
fn words(patch: &Value) -> String {
    let mut parts = Vec::new();
    leaves("", patch, &mut parts);
    parts.join(", ")
}

fn leaves(path: &str, value: &Value, parts: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                leaves(&path, value, parts);
            }
        }
        // what follows from the others
        Value::Null => {}
        _ if path == "detect.at_once" => {}
        Value::String(text) => parts.push(format!("{path} {text}")),
        other => parts.push(format!("{path} {other}")),
    }
}

/// What to write into a pipeline file, and what to take out of it that it has.
fn yaml(patch: &Value, base: &Value) -> anyhow::Result<String> {
    let mut gone = String::new();
    let written = pruned(patch, base, "", &mut gone);
    Ok(format!("{gone}{}", serde_saphyr::to_string(&written)?))
}

fn pruned(patch: &Value, base: &Value, path: &str, gone: &mut String) -> Value {
    let Value::Object(fields) = patch else {
        return patch.clone();
    };
    let mut out = serde_json::Map::new();
    for (key, value) in fields {
        let path = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        let old = base.get(key).unwrap_or(&Value::Null);
        match value {
            Value::Null if old.is_null() => {}
            Value::Null => gone.push_str(&format!("# take away: {path}\n")),
            _ => {
                out.insert(key.clone(), pruned(value, old, &path, gone));
            }
        }
    }
    Value::Object(out)
}

fn table(tried: &[Tried], budget: AlarmBudget, labelled: bool) -> String {
    let mut text = format!(
        "{:>7} {:>7} {:>16}  {}settings\n",
        "alarms",
        "false",
        format!("worst {}", budget.per),
        if labelled { "found  " } else { "" }
    );
    for one in tried {
        let found = if labelled {
            format!("{:>5}  ", one.found)
        } else {
            String::new()
        };
        let mark = if one.keeps(budget) { ' ' } else { '!' };
        text.push_str(&format!(
            "{:>7} {:>7} {:>15.1}{mark}  {found}{}\n",
            one.alarms, one.wrong, one.worst, one.row.name
        ));
    }
    text.push_str("(! breaks the budget)");
    text
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// Three days of noise with spikes in it every other hour, which is what somebody is annoyed by, and one long fault.
    fn ground(folder: &std::path::Path, labelled: bool) -> Past {
        let mut telemetry = String::new();
        for minute in 0..4_320_i64 {
            let noise = f64::from(u32::try_from((minute * 7_919) % 101).unwrap()) / 50.0;
            let spike = if minute % 120 < 2 && minute > 300 { 6.0 } else { 0.0 };
            let fault = if (4_000..4_060).contains(&minute) { 80.0 } else { 0.0 };
            let ts = 1_772_323_200_000 + minute * 60_000;
            writeln!(
                telemetry,
                r#"{{"ts": {ts}, "metric": "cpu", "value": {:.2}, "labels": {{"service": "cart"}}}}"#,
                20.0 + noise + spike + fault
            )
            .unwrap();
        }
        std::fs::write(folder.join("t.ndjson"), telemetry).unwrap();
        let pipeline = "version: 1\nname: shop\nclock: event\ntelemetry: [{topic: t}]\nwindow: {size: 1m}\ndetect: {alarm: 0.001, episode: {open: 1, of: 1}}\n";
        std::fs::write(folder.join("p.yaml"), pipeline).unwrap();
        std::fs::write(
            folder.join("faults.csv"),
            "from,to,service\n2026-03-03T18:40:00Z,2026-03-03T19:40:00Z,cart\n",
        )
        .unwrap();
        Past {
            pipeline: folder.join("p.yaml"),
            telemetry: vec![folder.join("t.ndjson")],
            changes: None,
            topology: None,
            labels: labelled.then(|| folder.join("faults.csv")),
        }
    }

    fn search(ground: &Ground, at_most: u32, per: &str) -> (Vec<Tried>, Advice) {
        let file = "p.yaml".to_owned();
        let base = json!({"version": 1, "name": "shop", "clock": "event", "telemetry": [{"topic": "t"}], "window": {"size": "1m"},
            "detect": {"alarm": 0.001, "episode": {"open": 1, "of": 1}}});
        Search {
            ground,
            file,
            base,
            budget: AlarmBudget {
                at_most,
                per: per.parse().unwrap(),
            },
            runs: 24,
        }
        .run()
        .unwrap()
    }

    #[test]
    fn what_is_proposed_keeps_to_the_budget_when_it_is_run_again_and_finds_no_less() {
        let folder = tempfile::tempdir().unwrap();
        for labelled in [true, false] {
            let ground = ground(folder.path(), labelled).open().unwrap();
            for (at_most, per) in [(1, "1d"), (3, "1d"), (2, "1w")] {
                let (tried, advice) = search(&ground, at_most, per);
                let budget: Allowance = format!("{at_most}/{per}").parse().unwrap();
                assert!(tried.len() <= 24);
                match advice {
                    Advice::Change(best) => {
                        assert!(!tried[0].keeps(budget.0) || best.found >= tried[0].found);
                        // by the file itself, with what was proposed written in
                        let text = format!(
                            "version: 1\nname: shop\nclock: event\ntelemetry: [{{topic: t}}]\nwindow: {{size: 1m}}\n{}",
                            serde_saphyr::to_string(&overridden(
                                &json!({"detect": {"alarm": 0.001, "episode": {"open": 1, "of": 1}}}),
                                &best.patch
                            ))
                            .unwrap()
                        );
                        let (pipeline, problems) = examine_bytes("p", text.as_bytes());
                        assert!(!problems.has_errors(), "{text}");
                        let seen = ground.run(&Arc::new(pipeline.unwrap())).unwrap();
                        let wrong = false_alarms(&seen, &ground.judge(&seen));
                        let most = most_within(&wrong, budget.0.per.as_millis());
                        assert!(
                            most <= u64::from(at_most),
                            "{most} false alarms in {per}: {}",
                            best.row.name
                        );
                        // not better by breaking it than any that keeps it
                        for one in tried.iter().filter(|one| one.keeps(budget.0)) {
                            assert!(best.worth(labelled) >= one.worth(labelled));
                        }
                    }
                    Advice::Stay => assert!(tried[0].keeps(budget.0)),
                    Advice::Nothing => assert!(tried.iter().all(|one| !one.keeps(budget.0))),
                }
            }
        }
    }

    #[test]
    fn the_file_as_it_is_breaks_the_budget_here_and_something_better_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let ground = ground(folder.path(), true).open().unwrap();
        let (tried, advice) = search(&ground, 1, "1d");
        let budget: Allowance = "1/1d".parse().unwrap();
        assert!(!tried[0].keeps(budget.0), "the file's own: {}", tried[0].worst);
        let Advice::Change(best) = advice else {
            panic!("nothing was proposed");
        };
        assert_eq!(best.found, 1);
        assert!(table(&tried, budget.0, true).contains('!'));
    }

    #[test]
    fn patches_are_put_on_one_another_and_into_a_file() {
        let first = json!({"alarms": {"at_most": 2}, "detect": {"alarm": 0.1}});
        let then = json!({"alarms": null, "detect": {"episode": {"open": 1}}});
        let both = merged(&first, &then);
        assert_eq!(
            both,
            json!({"alarms": null, "detect": {"alarm": 0.1, "episode": {"open": 1}}})
        );
        assert_eq!(words(&both), "detect.alarm 0.1, detect.episode.open 1");
        let file = overridden(&json!({"name": "x", "alarms": {"at_most": 9}}), &both);
        assert_eq!(
            file,
            json!({"name": "x", "detect": {"alarm": 0.1, "episode": {"open": 1}}})
        );
        let told = yaml(&both, &json!({"alarms": {"at_most": 9}})).unwrap();
        assert!(
            told.starts_with("# take away: alarms\n") && told.contains("alarm: 0.1"),
            "{told}"
        );
        assert!(!yaml(&both, &json!({})).unwrap().contains("take away"));
        assert_eq!(read(b"a: 1").unwrap(), json!({"a": 1}));
        assert!(read(b"- 1").is_err());
    }
}
