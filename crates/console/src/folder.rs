//! The folder of a replay, into a store.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, ErrorKind},
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::DeserializeOwned};
use suture_engine::ScoreRow;
use suture_event::{
    ActionRequest, Anomaly, AnomalyPhase, Change, EndReason, FactBody, Incident, LedgerRecord, SeriesKey, Timestamp,
};

use crate::{
    Mode, Setting,
    plot::axis,
    store::{Limits, Said, Store},
};

/// Why a folder could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file that every replay writes is not there.
    #[error("cannot read {path}: {error}: --from takes the folder that `suture replay --out` wrote")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A line of a file is not what a replay writes there.
    #[error("{path}, line {line}: {error}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        error: String,
    },
}

#[derive(Deserialize)]
struct AnomalyLine {
    #[serde(flatten)]
    raised: Anomaly,
    #[serde(default)]
    worst: f64,
    #[serde(default)]
    ended_at: Option<Timestamp>,
    #[serde(default)]
    ended: Option<EndReason>,
}

#[derive(Deserialize)]
struct SeriesLine {
    #[serde(flatten)]
    key: SeriesKey,
    explained: String,
}

/// Reads what `suture replay` wrote. Incidents, anomalies and the ledger must be there; what a replay writes only when told to
/// (scores, what each series looks like) or writes since a later version (changes, the call graph) may be missing: there are
/// then no plots, no call graph, and so on.
///
/// Of the scores only those are kept that an incident's plots show.
///
/// # Errors
/// Where a file is missing that must be there, or a line is not what a replay writes.
pub fn read(folder: &Path, limits: Limits) -> Result<Store, FolderError> {
    let name = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let name = name
        .file_name()
        .map_or_else(|| "replay".to_owned(), |name| name.to_string_lossy().into_owned());
    let setting = Setting {
        name,
        mode: Mode::Replay,
        scope: None,
    };
    let store = Store::new(limits, setting);
    let mut now = Timestamp::MIN;

    for_each(folder, "graph.ndjson", false, |fact: FactBody| match fact {
        FactBody::Edge(edge) => store.take([Said::Edge(edge)]),
        FactBody::Watched(watched) => store.take([Said::Watched(watched)]),
        _ => {}
    })?;
    for_each(folder, "changes.ndjson", false, |change: Change| {
        now = now.max(change.at);
        store.take([Said::Change(change)]);
    })?;
    let mut series_of = BTreeMap::new();
    for_each(folder, "anomalies.ndjson", true, |line: AnomalyLine| {
        now = now.max(line.raised.at).max(line.ended_at.unwrap_or(Timestamp::MIN));
        let key = SeriesKey {
            metric: line.raised.metric.clone(),
            labels: line.raised.labels.clone(),
        };
        series_of.insert(line.raised.id.clone(), key);
        let ended = line.ended_at.map(|at| Anomaly {
            at,
            phase: AnomalyPhase::Ended,
            end: line.ended,
            deviation: line.worst,
            ..line.raised.clone()
        });
        let opened = Anomaly {
            phase: AnomalyPhase::Opened,
            ..line.raised
        };
        store.take([Some(opened), ended].into_iter().flatten().map(Said::Anomaly));
    })?;
    let mut wanted: BTreeMap<SeriesKey, Vec<(Timestamp, Timestamp)>> = BTreeMap::new();
    for_each(folder, "incidents.ndjson", true, |incident: Incident| {
        now = now.max(incident.updated_at);
        let span = axis(&incident, None);
        for id in &incident.anomalies {
            if let Some(key) = series_of.get(id) {
                wanted.entry(key.clone()).or_default().push(span);
            }
        }
        store.take([Said::Incident(incident)]);
    })?;
    for_each(folder, "ledger.ndjson", true, |record: LedgerRecord| {
        now = now.max(record.at);
        store.take([Said::Record(record)]);
    })?;
    for_each(folder, "remediations.ndjson", false, |request: ActionRequest| {
        now = now.max(request.at);
        store.take([Said::Request(request)]);
    })?;
    for_each(folder, "verdicts.ndjson", false, |verdict| {
        store.take([Said::Verdict(verdict)])
    })?;
    for_each(folder, "series.ndjson", false, |line: SeriesLine| {
        store.take([Said::Explained(line.key, line.explained)]);
    })?;
    for_each(folder, "scores.ndjson", false, |row: ScoreRow| {
        now = now.max(row.ts);
        let key = SeriesKey {
            metric: row.metric.clone(),
            labels: row.labels.clone(),
        };
        let spans = wanted.get(&key);
        if spans.is_some_and(|spans| spans.iter().any(|(from, to)| row.ts >= *from && row.ts <= *to)) {
            store.take([Said::Score(row)]);
        }
    })?;
    if now > Timestamp::MIN {
        store.set_now(now);
    }
    Ok(store)
}

fn for_each<T: DeserializeOwned>(
    folder: &Path,
    name: &str,
    required: bool,
    mut each: impl FnMut(T),
) -> Result<(), FolderError> {
    let path = folder.join(name);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound && !required => return Ok(()),
        Err(error) => return Err(FolderError::Open { path, error }),
    };
    let bad = |line: usize, error: String| FolderError::Line {
        path: path.clone(),
        line,
        error,
    };
    for (line, text) in (1..).zip(BufReader::with_capacity(1 << 20, file).lines()) {
        let text = text.map_err(|error| bad(line, error.to_string()))?;
        each(serde_json::from_str(&text).map_err(|error| bad(line, error.to_string()))?);
    }
    Ok(())
}
