//! The files that a replay writes.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use serde::Serialize;
use suture_engine::{DecideOut, ScoreRow, SuppressedAlarm};
use suture_event::{Anomaly, AnomalyPhase, EndReason, Fact, FactBody, Incident, SeriesKey, Timestamp, canonical};
use suture_service::status::{Letters, ShardStatus, Status};

use super::lines::Lines;

/// An anomaly as it was raised, and how it went on.
#[derive(Serialize)]
struct AnomalyLine {
    #[serde(flatten)]
    raised: Anomaly,
    /// The largest deviation while it lasted.
    worst: f64,
    ended_at: Option<Timestamp>,
    ended: Option<EndReason>,
}

/// How many of each were written.
pub(crate) struct Summary {
    pub(crate) anomalies: usize,
    pub(crate) incidents: usize,
    pub(crate) remediations: u64,
    pub(crate) rejected: u64,
    pub(crate) suppressed: u64,
}

/// What is written as it comes, and what only at the end, in its last state.
pub(crate) struct Report {
    folder: PathBuf,
    anomalies: Vec<AnomalyLine>,
    by_id: BTreeMap<Arc<str>, usize>,
    incidents: BTreeMap<(Timestamp, Arc<str>), Incident>,
    scores: Option<Out>,
    remediations: Out,
    ledger: Out,
    verdicts: Out,
    rejected: Out,
    suppressed: Out,
    facts: Option<Out>,
    changes: Out,
    graph: Out,
    refused: BTreeMap<PathBuf, u64>,
    letters: BTreeMap<PathBuf, Letters>,
    held: ShardStatus,
}

struct Out {
    path: PathBuf,
    file: BufWriter<File>,
    lines: u64,
}

impl Out {
    fn create(folder: &Path, name: &str) -> anyhow::Result<Self> {
        let path = folder.join(name);
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self {
            path,
            file: BufWriter::with_capacity(1 << 18, file),
            lines: 0,
        })
    }

    fn write(&mut self, line: &impl Serialize) -> anyhow::Result<()> {
        serde_json::to_writer(&mut self.file, line)
            .map_err(std::io::Error::from)
            .and_then(|()| self.file.write_all(b"\n"))
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        self.lines += 1;
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<u64> {
        self.file
            .flush()
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        Ok(self.lines)
    }
}

impl Report {
    pub(crate) fn create(folder: &Path, scores: bool, facts: bool) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        Ok(Self {
            folder: folder.to_owned(),
            anomalies: Vec::new(),
            by_id: BTreeMap::new(),
            incidents: BTreeMap::new(),
            scores: scores.then(|| Out::create(folder, "scores.ndjson")).transpose()?,
            remediations: Out::create(folder, "remediations.ndjson")?,
            ledger: Out::create(folder, "ledger.ndjson")?,
            verdicts: Out::create(folder, "verdicts.ndjson")?,
            rejected: Out::create(folder, "rejected.ndjson")?,
            suppressed: Out::create(folder, "suppressed.ndjson")?,
            facts: facts.then(|| Out::create(folder, "facts.ndjson")).transpose()?,
            changes: Out::create(folder, "changes.ndjson")?,
            graph: Out::create(folder, "graph.ndjson")?,
            refused: BTreeMap::new(),
            letters: BTreeMap::new(),
            held: ShardStatus::default(),
        })
    }

    pub(crate) fn rejected(&mut self, lines: &Lines, line: i64, reason: &str) -> anyhow::Result<()> {
        *self.refused.entry(lines.path().to_owned()).or_default() += 1;
        self.letters
            .entry(lines.path().to_owned())
            .or_default()
            .add(line, reason);
        let file = lines.path().display().to_string();
        self.rejected.write(&canonical(
            serde_json::json!({"file": file, "line": line, "reason": reason}),
        ))
    }

    pub(crate) fn refused_in(&self, lines: &Lines) -> u64 {
        self.refused.get(lines.path()).copied().unwrap_or(0)
    }

    pub(crate) fn score(&mut self, score: &ScoreRow) -> anyhow::Result<()> {
        self.scores.as_mut().map_or(Ok(()), |out| out.write(score))
    }

    /// What is known of every series, and which detectors watch it.
    pub(crate) fn series<'a>(&self, series: impl Iterator<Item = (&'a SeriesKey, String)>) -> anyhow::Result<()> {
        let mut out = Out::create(&self.folder, "series.ndjson")?;
        for (key, explained) in series {
            let line = serde_json::json!({"metric": key.metric, "labels": key.labels, "explained": explained});
            out.write(&canonical(line))?;
        }
        out.finish().map(|_| ())
    }

    pub(crate) fn suppressed(&mut self, alarm: &SuppressedAlarm) -> anyhow::Result<()> {
        self.suppressed.write(alarm)
    }

    pub(crate) fn fact(&mut self, fact: &Fact) -> anyhow::Result<()> {
        if let Some(facts) = &mut self.facts {
            facts.write(fact)?;
        }
        let anomaly = match &fact.body {
            FactBody::Anomaly(anomaly) => anomaly,
            FactBody::Change(change) => return self.changes.write(change),
            FactBody::Edge(_) | FactBody::Watched(_) => return self.graph(&fact.body),
            _ => return Ok(()),
        };
        if anomaly.phase == AnomalyPhase::Opened {
            self.by_id.insert(anomaly.id.clone(), self.anomalies.len());
            let raised = anomaly.clone();
            self.anomalies.push(AnomalyLine {
                worst: raised.deviation,
                raised,
                ended_at: None,
                ended: None,
            });
            return Ok(());
        }
        let Some(line) = self.by_id.get(&anomaly.id).and_then(|at| self.anomalies.get_mut(*at)) else {
            return Ok(());
        };
        line.worst = line.worst.max(anomaly.deviation);
        if anomaly.phase == AnomalyPhase::Ended {
            line.ended_at = Some(anomaly.at);
            line.ended = anomaly.end;
        }
        Ok(())
    }

    /// A service that is watched, or who calls whom.
    pub(crate) fn graph(&mut self, body: &FactBody) -> anyhow::Result<()> {
        self.graph.write(body)
    }

    pub(crate) fn decided(&mut self, decided: &mut DecideOut) -> anyhow::Result<()> {
        for incident in decided.incidents.drain(..) {
            self.incidents
                .insert((incident.opened_at, incident.id.clone()), incident);
        }
        for request in decided.remediations.drain(..) {
            self.remediations.write(&request)?;
        }
        for record in decided.ledger.drain(..) {
            self.ledger.write(&record)?;
        }
        for verdict in decided.verdicts.drain(..) {
            self.held.hold(&verdict);
            self.verdicts.write(&verdict)?;
        }
        Ok(())
    }

    /// How it stands at the end, as `suture status` shows it. `decide` is what that plane knows but for what was held back;
    /// each shard of observe comes with the file that it read, if it read one.
    pub(crate) fn status(
        &self,
        pipeline: &str,
        observe: Vec<(ShardStatus, Option<&Path>)>,
        decide: ShardStatus,
    ) -> anyhow::Result<()> {
        let mut shards: Vec<ShardStatus> = observe
            .into_iter()
            .map(|(shard, file)| ShardStatus {
                dead_letters: file
                    .and_then(|file| self.letters.get(file))
                    .map(Letters::all)
                    .unwrap_or_default(),
                ..shard
            })
            .collect();
        shards.push(ShardStatus {
            held: self.held.held.clone(),
            ..decide
        });
        let status = Status {
            pipeline: pipeline.to_owned(),
            at: None,
            not_ready: None,
            shards,
        };
        let path = self.folder.join("status.json");
        let text = serde_json::to_string_pretty(&status)?;
        std::fs::write(&path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
    }

    pub(crate) fn finish(self) -> anyhow::Result<Summary> {
        let mut anomalies = Out::create(&self.folder, "anomalies.ndjson")?;
        for anomaly in &self.anomalies {
            anomalies.write(anomaly)?;
        }
        anomalies.finish()?;
        let mut incidents = Out::create(&self.folder, "incidents.ndjson")?;
        for incident in self.incidents.values() {
            incidents.write(incident)?;
        }
        incidents.finish()?;
        if let Some(scores) = self.scores {
            scores.finish()?;
        }
        if let Some(facts) = self.facts {
            facts.finish()?;
        }
        self.changes.finish()?;
        self.graph.finish()?;
        self.ledger.finish()?;
        self.verdicts.finish()?;
        Ok(Summary {
            suppressed: self.suppressed.finish()?,
            anomalies: self.anomalies.len(),
            incidents: self.incidents.len(),
            remediations: self.remediations.finish()?,
            rejected: self.rejected.finish()?,
        })
    }
}
