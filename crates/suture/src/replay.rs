//! `suture replay`: files in, files out, through the same folds as `suture run`, with time taken from the data.

mod aside;
pub(crate) mod lines;
pub(crate) mod refold;
mod report;

use std::path::{Path, PathBuf};

use anyhow::bail;
use indicatif::{ProgressBar, ProgressStyle};
use suture_codec::TelemetryFormat;
use suture_engine::{Decide, DecideOut, Headers, Observe, ObserveOut, RecordRef, SourceKind};
use suture_event::{Fact, FactBody, ShardId, Span, Timestamp};

use self::{
    aside::Aside,
    lines::{Line, Lines},
    refold::Refold,
    report::Report,
};
use crate::pass::{inputs, shard_of};
use suture_service::{
    load::{self, Loaded},
    status::{ShardStatus, Warm},
};

/// Feeds files through a pipeline and writes what it finds.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The pipeline file.
    #[arg(long, value_name = "FILE.yaml")]
    pipeline: PathBuf,
    /// Samples, one record a line: JSON of Suture's own, or of the pipeline's `fields`, or any format of text that is known by
    /// what is in it.
    #[arg(long, value_name = "FILE.ndjson")]
    telemetry: Option<PathBuf>,
    /// CDEvents, one a line.
    #[arg(long, value_name = "FILE.ndjson")]
    changes: Option<PathBuf>,
    /// What executors said, one outcome a line, as in the outcomes topic: taken when the telemetry has come to each one's time.
    #[arg(long, value_name = "FILE.ndjson")]
    outcomes: Option<PathBuf>,
    /// What people said, one command a line, as in the commands topic; taken likewise.
    #[arg(long, value_name = "FILE.ndjson")]
    commands: Option<PathBuf>,
    /// The call graph, in place of the one that the pipeline names.
    #[arg(long, value_name = "FILE.json")]
    topology: Option<PathBuf>,
    /// What series begin with, as `suture train` wrote it, in place of the model that the pipeline names.
    #[arg(long, value_name = "FILE.model")]
    model: Option<PathBuf>,
    /// Folder for what is found; made where it is missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Also write the score of every window of every series.
    #[arg(long)]
    scores: bool,
    /// Also write the facts: everything that the decisions rest on, in order, outcomes and commands among them. With a file: decide
    /// from those facts, in place of telemetry and all else.
    #[arg(long, value_name = "FILE.ndjson", num_args = 0..=1)]
    facts: Option<Option<PathBuf>>,
    /// Also write what each series looks like and which detectors watch it.
    #[arg(long)]
    explain: bool,
    /// Lines fed at a time. The results do not depend on it.
    #[arg(long, value_name = "N", default_value_t = 4_096, value_parser = clap::value_parser!(u64).range(1..))]
    batch: u64,
}

/// Runs the replay and prints what it found.
pub(crate) fn replay(args: &Args) -> anyhow::Result<()> {
    let loaded = load::load(&args.pipeline, args.topology.as_deref())?.with_model(args.model.as_deref())?;
    if let Some(facts) = args.facts.as_ref().and_then(Option::as_ref) {
        let others = [&args.telemetry, &args.changes, &args.outcomes, &args.commands];
        if others.iter().any(|file| file.is_some()) {
            bail!(
                "facts from a file hold all that was decided from: leave --telemetry, --changes, --outcomes and --commands out"
            );
        }
        return from_facts(args, &loaded, facts);
    }
    let Some(telemetry) = &args.telemetry else {
        bail!("nothing to replay: give --telemetry FILE.ndjson, or --facts FILE.ndjson");
    };
    let mut replay = Replay::new(args, &loaded)?;
    if let Some(changes) = &args.changes {
        replay.changes(Lines::open(changes)?)?;
    }
    replay.telemetry(Lines::open(telemetry)?)?;
    replay.finish()
}

/// Decides anew from facts.
fn from_facts(args: &Args, loaded: &Loaded, facts: &Path) -> anyhow::Result<()> {
    let mut report = Report::create(&args.out, args.scores, false)?;
    for edge in &loaded.edges {
        report.graph(&FactBody::Edge(edge.clone()))?;
    }
    let mut refold = Refold::of_file(loaded, facts)?;
    refold.explain();
    let mut count = 0_u64;
    refold.file(facts, &mut |fact, decided| {
        if let Some(fact) = fact {
            count += 1;
            report.fact(fact)?;
        }
        report.decided(decided)
    })?;
    let summary = report.finish()?;
    println!(
        "{count} facts: {} anomalies, {} incidents, {} action requests",
        summary.anomalies, summary.incidents, summary.remediations
    );
    Ok(())
}

struct Replay {
    telemetry: Observe,
    changes: Observe,
    roster: [ShardId; 2],
    /// Outcomes and commands that wait for their time.
    aside: Aside,
    decide: Decide,
    observed: ObserveOut,
    decided: DecideOut,
    report: Report,
    batch: u64,
    explain: bool,
    /// The pipeline's name and the size of its windows, and the files of telemetry and changes.
    name: String,
    window: Option<Span>,
    files: [Option<PathBuf>; 2],
}

impl Replay {
    fn new(args: &Args, loaded: &Loaded) -> anyhow::Result<Self> {
        let format = args.telemetry.as_deref().map(format_of).transpose()?.flatten();
        // the shards are named as they would be in a run, so that facts are the same in both
        let (sources, [samples, deploys]) = inputs(loaded, format)?;
        let roster = [shard_of(&samples), shard_of(&deploys)];
        // event time, whatever the pipeline says: a replay has no other
        let pipeline = refold::by_event_time(&loaded.pipeline);
        let mut telemetry = Observe::new(pipeline.clone(), roster[0].clone(), samples)?;
        if let Some(model) = &loaded.model {
            telemetry = telemetry.with_model(model.clone())?;
        }
        if args.scores {
            telemetry = telemetry.with_scores();
        }
        let mut decide = Decide::new(pipeline.clone(), loaded.edges.clone());
        decide.explain();
        let mut report = Report::create(&args.out, args.scores, args.facts.is_some())?;
        for edge in &loaded.edges {
            report.graph(&FactBody::Edge(edge.clone()))?;
        }
        let mut aside = Aside::default();
        let files = [
            (&args.outcomes, SourceKind::Outcomes),
            (&args.commands, SourceKind::Commands),
        ];
        for (file, kind) in files {
            let source = sources.iter().find(|source| source.kind == kind);
            if let (Some(file), Some(source)) = (file, source) {
                aside.read(
                    Lines::open(file)?,
                    Observe::new(pipeline.clone(), shard_of(source), source.clone())?,
                    &mut report,
                )?;
            }
        }
        aside.sort();
        Ok(Self {
            aside,
            telemetry,
            changes: Observe::new(pipeline, roster[1].clone(), deploys)?,
            roster,
            decide,
            observed: ObserveOut::default(),
            decided: DecideOut::default(),
            report,
            batch: args.batch,
            explain: args.explain,
            name: loaded.pipeline.name.clone(),
            window: loaded.pipeline.window.size,
            files: [args.telemetry.clone(), args.changes.clone()],
        })
    }

    /// Changes go first, all of them: facts wait for their time.
    fn changes(&mut self, mut lines: Lines) -> anyhow::Result<()> {
        while let Some(line) = lines.next_line()? {
            self.changes.record(record(&line), &mut self.observed);
            self.hand_on(&lines)?;
        }
        // an hour without a change is one, and its file is empty
        match lines.lines_read() {
            0 => Ok(()),
            _ => lines.require_some_good(self.report.refused_in(&lines)),
        }
    }

    fn telemetry(&mut self, mut lines: Lines) -> anyhow::Result<()> {
        self.changes
            .tick(Timestamp::MIN, true, &self.roster, &mut self.observed);
        let progress = bar(&lines);
        let mut fed = 0;
        while let Some(line) = lines.next_line()? {
            self.telemetry.record(record(&line), &mut self.observed);
            fed += 1;
            if fed % self.batch == 0 {
                progress.set_position(lines.bytes_read());
                self.telemetry
                    .tick(Timestamp::MIN, false, &self.roster, &mut self.observed);
                self.hand_on(&lines)?;
            }
        }
        self.telemetry
            .tick(Timestamp::MIN, true, &self.roster, &mut self.observed);
        self.telemetry.end(&mut self.observed);
        self.hand_on(&lines)?;
        // those that are later than all telemetry
        for fact in self.aside.rest() {
            self.take(fact)?;
        }
        self.decide.end(&mut self.decided);
        self.report.decided(&mut self.decided)?;
        progress.finish_and_clear();
        lines.require_some_good(self.report.refused_in(&lines))
    }

    /// Facts to decide, and what both planes said to the files.
    fn hand_on(&mut self, lines: &Lines) -> anyhow::Result<()> {
        for letter in self.observed.dead_letters.drain(..) {
            self.report.rejected(lines, letter.offset, &letter.reason)?;
        }
        for score in self.observed.scores.drain(..) {
            self.report.score(&score)?;
        }
        for alarm in self.observed.suppressed.drain(..) {
            self.report.suppressed(&alarm)?;
        }
        for fact in std::mem::take(&mut self.observed.facts) {
            if fact.shard == self.roster[0] {
                for earlier in self.aside.before(&fact) {
                    self.take(earlier)?;
                }
            }
            self.take(fact)?;
        }
        self.report.decided(&mut self.decided)
    }

    /// How it stands at the end.
    fn status(&self) -> anyhow::Result<()> {
        let shard = |plane: &str, id: &ShardId| ShardStatus {
            plane: plane.to_owned(),
            topic: id.topic.to_string(),
            partition: id.partition,
            ..ShardStatus::default()
        };
        let known = |at: Timestamp| Some(at).filter(|at| *at != Timestamp::MIN);
        let [telemetry, changes] = &self.roster;
        let reached = known(self.telemetry.watermark());
        let telemetry = ShardStatus {
            watermark: reached,
            warm: Some(Warm::of(self.telemetry.warmth(), reached, self.window)),
            ..shard("observe", telemetry)
        };
        let changes = ShardStatus {
            watermark: known(self.changes.watermark()),
            ..shard("observe", changes)
        };
        let facts = ShardId {
            topic: "facts".into(),
            partition: 0,
        };
        let mut decide = ShardStatus {
            watermark: known(self.decide.now()),
            ..shard("decide", &facts)
        };
        decide.stand(&self.decide);
        let [read, changed] = &self.files;
        let observe = vec![(telemetry, read.as_deref()), (changes, changed.as_deref())];
        self.report.status(&self.name, observe, decide)
    }

    fn take(&mut self, fact: Fact) -> anyhow::Result<()> {
        self.report.fact(&fact)?;
        Ok(self.decide.fact(fact, &mut self.decided)?)
    }

    fn finish(self) -> anyhow::Result<()> {
        let counters = self.telemetry.counters();
        if self.explain {
            self.report.series(self.telemetry.explain_all())?;
        }
        self.status()?;
        let summary = self.report.finish()?;
        println!(
            "{} samples of {} series: {} anomalies, {} incidents, {} action requests",
            counters.samples, counters.series, summary.anomalies, summary.incidents, summary.remediations
        );
        let late = counters.windows.late_dropped + counters.windows.repeated;
        if late > 0 {
            println!("{late} samples came too late for their windows and were dropped: see window.lateness");
        }
        if summary.suppressed > 0 {
            println!(
                "{} alarms were suppressed by the budget: see suppressed.ndjson",
                summary.suppressed
            );
        }
        if summary.rejected > 0 {
            println!("{} lines were refused: see rejected.ndjson", summary.rejected);
        }
        Ok(())
    }
}

/// What the first line of a file with something in it is taken for; nothing where that is none of the formats that are known.
/// The pipeline's own format is no guide: records of a topic may be binary, and those of a file are lines.
fn format_of(path: &std::path::Path) -> anyhow::Result<Option<TelemetryFormat>> {
    let mut lines = Lines::open(path)?;
    while let Some(line) = lines.next_line()? {
        // comments of line protocol
        if !line.text.starts_with(b"#") {
            return Ok(suture_codec::sniff(line.text).ok().map(|sniffed| sniffed.format));
        }
    }
    Ok(None)
}

fn record<'a>(line: &Line<'a>) -> RecordRef<'a> {
    RecordRef {
        offset: line.number,
        timestamp: None,
        key: None,
        headers: Headers::default(),
        value: Some(line.text),
    }
}

fn bar(lines: &Lines) -> ProgressBar {
    let bar = ProgressBar::new(lines.bytes());
    let template = "{bar:40} {percent:>3}% {bytes}/{total_bytes} {eta}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

impl Lines {
    /// A file of which nothing could be used is an error of the call, not of some lines.
    fn require_some_good(&self, refused: u64) -> anyhow::Result<()> {
        let read = self.lines_read();
        if read == 0 {
            bail!(
                "{} has no lines: one JSON object a line was expected",
                self.path().display()
            );
        }
        if refused >= read {
            bail!(
                "all {read} lines of {} were refused: see rejected.ndjson for the reasons",
                self.path().display()
            );
        }
        Ok(())
    }
}
