//! `suture backtest`: what a pipeline would have said of the past, as a page that anybody can read.

pub(crate) mod judge;
pub(crate) mod labels;
mod page;
pub(crate) mod seen;

use std::{
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use anyhow::{Context, ensure};
use suture_config::Pipeline;
use suture_detect::AlarmBudget;
use suture_event::{Span as Time, Timestamp};
use suture_service::load::{self, Loaded};

use self::{
    judge::{Judgement, most_within},
    labels::Span,
    seen::Seen,
};
use crate::{feed::Feed, pass::Pass};

/// Runs a pipeline over past telemetry and writes what it would have said, as one HTML file.
///
/// The file has plots with the expected band and alarms, alarms a week by detector, and what other budgets of alarms would have
/// given; with --labels also delay, precision and recall. It loads nothing from anywhere.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  suture backtest --pipeline p.yaml --telemetry history.ndjson --changes deploys.ndjson --out report.html\n  suture backtest --pipeline p.yaml --telemetry folder-of-csv --labels windows.json --budget 2/1w --out report.html"
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) past: Past,
    /// Also try this budget of alarms, for all series together, such as 5/1w; as often as you like. Absent: 1, 2, 5, 10 and 20 a
    /// week. Each is a run over the telemetry of its own.
    #[arg(long = "budget", value_name = "ALARMS/TIME")]
    budgets: Vec<Allowance>,
    /// Try no other budget.
    #[arg(long, conflicts_with = "budgets")]
    no_budgets: bool,
    /// Series to draw at most: first those with known spans or alarms.
    #[arg(long, value_name = "N", default_value_t = 40)]
    plots: usize,
    /// The report to write.
    #[arg(long, value_name = "FILE.html")]
    out: PathBuf,
}

/// What lies in the past: the same for `suture backtest` and `suture tune`.
#[derive(Debug, clap::Args)]
pub(crate) struct Past {
    /// The pipeline file.
    #[arg(long, value_name = "FILE.yaml")]
    pub(crate) pipeline: PathBuf,
    /// Samples: NDJSON, one JSON object a line in the order of time; CSV with a line of names, or a folder of it; or Parquet with
    /// the columns of `format: arrow_ipc`.
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    pub(crate) telemetry: Vec<PathBuf>,
    /// Changes, one a line, in the format that the pipeline names.
    #[arg(long, value_name = "FILE.ndjson")]
    pub(crate) changes: Option<PathBuf>,
    /// The call graph, in place of the one that the pipeline names.
    #[arg(long, value_name = "FILE.json")]
    pub(crate) topology: Option<PathBuf>,
    /// When something is known to have been wrong, as JSON or CSV: `{SERIES: [[FROM, TO], …]}`, where SERIES is a metric or a
    /// label's value; or a list, or rows, with `from`, `to`, and `service`, other labels, `metric` and `what` as far as they are
    /// known.
    #[arg(long, value_name = "FILE")]
    pub(crate) labels: Option<PathBuf>,
}

/// So many alarms in so long a time, as `5/1w`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Allowance(pub(crate) AlarmBudget);

impl FromStr for Allowance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || format!("{text:?} is no budget: write alarms and a time, such as 5/1w");
        let (alarms, time) = text.split_once('/').ok_or_else(bad)?;
        let budget = AlarmBudget {
            at_most: alarms.trim().parse().map_err(|_| bad())?,
            per: time.parse().map_err(|error| format!("{error}"))?,
        };
        match budget.validate().first() {
            Some(problem) => Err(format!("{}: {}", problem.message, problem.help)),
            None => Ok(Self(budget)),
        }
    }
}

impl std::fmt::Display for Allowance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.0.at_most, self.0.per)
    }
}

/// Everything that is run over again and again.
pub(crate) struct Ground {
    pub(crate) loaded: Loaded,
    pub(crate) feed: Feed,
    pub(crate) changes: Option<PathBuf>,
    pub(crate) spans: Option<Vec<Span>>,
}

impl Past {
    /// Reads what has to be read once.
    ///
    /// # Errors
    /// Where a file cannot be read or used.
    pub(crate) fn open(&self) -> anyhow::Result<Ground> {
        Ok(Ground {
            loaded: load::load(&self.pipeline, self.topology.as_deref())?,
            feed: Feed::open(&self.telemetry)?,
            changes: self.changes.clone(),
            spans: self.labels.as_deref().map(labels::read).transpose()?,
        })
    }
}

impl Ground {
    /// One run over it all with a pipeline.
    ///
    /// # Errors
    /// Where the pipeline cannot be, or nothing of a file could be used.
    pub(crate) fn run(&self, pipeline: &Arc<Pipeline>) -> anyhow::Result<Seen> {
        let loaded = Loaded {
            pipeline: pipeline.clone(),
            edges: self.loaded.edges.clone(),
            model: self.loaded.model.clone(),
            key: None,
            expressions: self.loaded.expressions.clone(),
        };
        let mut seen = Seen::default();
        let mut pass = Pass::new(&loaded, self.feed.format()?)?.with_scores();
        if let Some(changes) = &self.changes {
            pass.changes(changes, &mut seen)?;
        }
        pass.telemetry(&self.feed, &mut seen)?;
        Ok(seen)
    }

    /// What alarms of a run were.
    pub(crate) fn judge(&self, seen: &Seen) -> Judgement {
        Judgement::of(&seen.alarms, self.spans.as_deref(), &self.loaded.pipeline.entity)
    }
}

/// A pipeline with one budget for all series together in place of its own.
fn under(pipeline: &Pipeline, budget: AlarmBudget) -> Arc<Pipeline> {
    let mut other = pipeline.clone();
    other.alarms = Some(budget);
    let rules = other.signals.iter_mut().map(|rule| &mut rule.detect);
    let made = other.derive.iter_mut().map(|rule| &mut rule.detect);
    for detect in rules.chain(made).chain(std::iter::once(&mut other.detect)) {
        (detect.alarms, detect.discoveries) = (None, None);
    }
    Arc::new(other)
}

/// A run with another budget, in figures.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) current: bool,
    pub(crate) judged: Judgement,
    pub(crate) suppressed: usize,
    /// The most alarms in any week.
    pub(crate) worst: u64,
}

/// A week in milliseconds.
pub(crate) const WEEK: i64 = 604_800_000;

impl Row {
    /// The figures of a run.
    pub(crate) fn of(name: String, current: bool, seen: &Seen, judged: Judgement) -> Self {
        let times: Vec<Timestamp> = seen.alarms.iter().map(|alarm| alarm.raised.at).collect();
        Self {
            name,
            current,
            judged,
            suppressed: seen.suppressed.len(),
            worst: most_within(&times, WEEK),
        }
    }
}

/// Weeks that are covered, gaps left out; at least a window's worth, so that it can be divided by.
pub(crate) fn weeks(covered: &[(Timestamp, Timestamp)]) -> f64 {
    let millis: i64 = covered.iter().map(|(from, to)| to.since(*from).as_millis()).sum();
    millis.max(1) as f64 / WEEK as f64
}

/// Runs the backtest, writes its report, and says the most important on standard output.
pub(crate) fn backtest(args: &Args) -> anyhow::Result<()> {
    let ground = args.past.open()?;
    let seen = ground.run(&ground.loaded.pipeline)?;
    let mut budgets: Vec<Allowance> = args.budgets.clone();
    if budgets.is_empty() && !args.no_budgets {
        let week = Time::from_millis(WEEK);
        budgets.extend([1, 2, 5, 10, 20].map(|at_most| Allowance(AlarmBudget { at_most, per: week })));
    }
    let mut rows = Vec::new();
    for budget in &budgets {
        let other = ground.run(&under(&ground.loaded.pipeline, budget.0))?;
        let judged = ground.judge(&other);
        rows.push(Row::of(format!("{budget}"), false, &other, judged));
    }
    let judged = ground.judge(&seen);
    rows.insert(0, Row::of("as the file has it".to_owned(), true, &seen, judged));
    let title = format!("What {} would have said", ground.loaded.pipeline.name);
    write_report(&ground, &seen, &rows, &title, "", args.plots, &args.out)?;
    println!(
        "{}\n{}",
        page::summary(&ground, &seen, &rows[0].judged),
        args.out.display()
    );
    Ok(())
}

/// Writes a report of a run and of those it is compared with, the first of which is the run itself.
///
/// # Errors
/// Where there were no windows, or the file cannot be written.
pub(crate) fn write_report(
    ground: &Ground,
    seen: &Seen,
    rows: &[Row],
    title: &str,
    before: &str,
    plots: usize,
    out: &Path,
) -> anyhow::Result<()> {
    ensure!(
        !seen.courses.is_empty(),
        "no window was closed: is the telemetry longer than a window?"
    );
    let text = page::page(ground, seen, rows, title, before, plots);
    if let Some(folder) = out.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    std::fs::write(out, text).with_context(|| format!("cannot write {}", out.display()))
}

/// One paragraph on what a run found.
pub(crate) fn summary(ground: &Ground, seen: &Seen, judged: &Judgement) -> String {
    page::summary(ground, seen, judged)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// A folder with a day and a half of two services, of which `cart` has a fault in the last hours.
    pub(crate) fn past() -> (tempfile::TempDir, Past) {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let pipeline = "version: 1\nname: shop\nclock: event\ntelemetry: [{topic: t}]\nwindow: {size: 1m}\n";
        std::fs::write(path("shop.yaml"), pipeline).unwrap();
        let mut telemetry = "timestamp,service,metric,value\n".to_owned();
        for minute in 0..2_000_i64 {
            for service in ["cart", "pay"] {
                let noise =
                    f64::from(u32::try_from((minute * 7_919 + i64::from(service == "cart") * 31) % 101).unwrap())
                        / 50.0;
                let level = if service == "cart" && (1_800..1_830).contains(&minute) {
                    90.0
                } else {
                    20.0
                };
                let ts = 1_772_323_200_000 + minute * 60_000;
                writeln!(telemetry, "{ts},{service},cpu,{:.2}", level + noise).unwrap();
            }
        }
        std::fs::write(path("history.csv"), telemetry).unwrap();
        std::fs::write(
            path("faults.csv"),
            "from,to,service,what\n2026-03-02T05:58:00Z,2026-03-02T06:40:00Z,cart,<pool> full\n2026-03-01T20:00:00Z,2026-03-01T21:00:00Z,pay,unseen\n",
        )
        .unwrap();
        let past = Past {
            pipeline: path("shop.yaml"),
            telemetry: vec![path("history.csv")],
            changes: None,
            topology: None,
            labels: Some(path("faults.csv")),
        };
        (folder, past)
    }

    #[test]
    fn a_report_says_what_was_found_missed_and_raised_and_holds_no_address() {
        let (folder, past) = past();
        let out = folder.path().join("deep/report.html");
        backtest(&Args {
            past,
            budgets: vec!["3/1w".parse().unwrap()],
            no_budgets: false,
            plots: 1,
            out: out.clone(),
        })
        .unwrap();
        let text = std::fs::read_to_string(out).unwrap();
        for part in [
            "1 of 2 known faults was found",
            "as the file has it",
            "3/1w",
            "&lt;pool&gt; full",
            "missed",
            "cpu {service=cart}",
            "id=\"data\"",
            "and 1 series more",
        ] {
            assert!(text.contains(part), "{part:?} is not in the report");
        }
        // one series is drawn, with its spans and alarms
        let (_, data) = text.split_once("id=\"data\">").unwrap();
        let (data, _) = data.split_once("</script>").unwrap();
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!(data.as_array().unwrap().len(), 1);
        assert_eq!(data[0]["alarms"][0]["worth"], "right");
        assert_eq!(
            data[0]["at"].as_array().unwrap().len(),
            data[0]["upper"].as_array().unwrap().len()
        );
        // nothing is loaded from anywhere
        for bad in ["src=\"", "@import", "<link", "url("] {
            assert!(!text.contains(bad), "{bad:?} is in the report");
        }
        assert!(!text.contains("<pool>"), "what was read is not escaped");
    }

    #[test]
    fn another_budget_is_for_all_series_together() {
        let (folder, past) = past();
        let text = "version: 1\nname: shop\ntelemetry: [{topic: t}]\nwindow: {size: 1m}\nsignals: [{name: a, match: {metric: x}, alarms: {at_most: 9, per: 1d}}]\n";
        std::fs::write(folder.path().join("shop.yaml"), text).unwrap();
        let ground = past.open().unwrap();
        let budget: Allowance = "3/1w".parse().unwrap();
        let other = under(&ground.loaded.pipeline, budget.0);
        assert_eq!(other.alarms, Some(budget.0));
        assert!(other.signals[0].detect.alarms.is_none());
        assert_eq!(budget.to_string(), "3/1w");
    }

    #[test]
    fn budgets_are_alarms_and_a_time() {
        for bad in ["5", "five/1w", "5/week", "0/1w", "5/0s"] {
            assert!(bad.parse::<Allowance>().is_err(), "{bad}");
        }
    }
}
