//! CSV as samples: a column of times, and either a column `value`, with `metric` and labels beside it, or a metric a column.
//!
//! The `csv` crate, of the author of ripgrep, reads it: quoting and line ends are its matter.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use suture_event::Timestamp;

use super::{Piece, files};

/// Columns that hold the time, by their names in lower case.
const TIMES: [&str; 5] = ["ts", "timestamp", "time", "datetime", "date"];
/// Rows that are taken in at most, over all files: they are sorted in memory, at 24 bytes each.
const MOST_ROWS: usize = 50_000_000;

#[derive(Debug, Clone, Copy)]
struct Row {
    at: i64,
    series: u32,
    line: u32,
    value: f64,
}

/// The rows of CSV files in the order of time.
#[derive(Debug)]
pub(crate) struct Table {
    paths: Vec<PathBuf>,
    rows: Vec<Row>,
    /// The file of each series, and all of its JSON but time and value.
    series: Vec<(usize, String)>,
}

/// What each column is.
enum Shape {
    /// Where the value and the metric are, and labels by name.
    Long {
        value: usize,
        metric: Option<usize>,
        labels: Vec<(usize, String)>,
    },
    /// Metrics by name.
    Wide(Vec<(usize, String)>),
}

impl Table {
    /// Reads files, and all `*.csv` below folders. Samples of a file without a column `metric` have its name, or its path
    /// below the folder, as the label `file`.
    ///
    /// # Errors
    /// Where a file cannot be read, or a row has no time.
    pub(crate) fn read(paths: &[PathBuf]) -> anyhow::Result<Self> {
        let mut table = Self {
            paths: Vec::new(),
            rows: Vec::new(),
            series: Vec::new(),
        };
        for path in paths {
            if path.is_dir() {
                for file in files(path, "csv")? {
                    let name = file.strip_prefix(path).unwrap_or(&file).to_string_lossy().into_owned();
                    table.file(&file, &name)?;
                }
            } else {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                table.file(path, &name)?;
            }
        }
        ensure!(!table.rows.is_empty(), "{}: there are no rows", paths[0].display());
        // stable: rows of one time stay as the files have them
        table.rows.sort_by_key(|row| row.at);
        Ok(table)
    }

    pub(crate) fn len(&self) -> u64 {
        self.rows.len() as u64
    }

    pub(crate) fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    fn file(&mut self, path: &Path, name: &str) -> anyhow::Result<()> {
        let place = self.paths.len();
        self.paths.push(path.to_owned());
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .from_path(path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        let heads: Vec<String> = reader
            .headers()
            .with_context(|| format!("cannot read {}", path.display()))?
            .iter()
            .map(str::to_owned)
            .collect();
        let (time, shape) = shape(path, &heads)?;
        let mut known: BTreeMap<(String, Vec<String>), u32> = BTreeMap::new();
        let mut record = csv::StringRecord::new();
        let (mut last, mut texts) = (BTreeMap::<u32, i64>::new(), 0_u64);
        while reader
            .read_record(&mut record)
            .with_context(|| format!("cannot read {}", path.display()))?
        {
            let line = record.position().map_or(0, csv::Position::line);
            let at = when(record.get(time).unwrap_or_default())
                .with_context(|| format!("{}, line {line}", path.display()))?
                .as_millis();
            let mut cells: Vec<(String, Vec<String>, f64)> = Vec::new();
            match &shape {
                Shape::Long { value, metric, labels } => {
                    let text = record.get(*value).unwrap_or_default();
                    let Ok(value) = text.parse() else {
                        texts += 1;
                        continue;
                    };
                    let metric = metric.and_then(|at| record.get(at)).unwrap_or("value");
                    let labels = labels
                        .iter()
                        .map(|(at, _)| record.get(*at).unwrap_or_default().to_owned());
                    cells.push((metric.to_owned(), labels.collect(), value));
                }
                Shape::Wide(metrics) => {
                    for (at, metric) in metrics {
                        match record.get(*at).unwrap_or_default().parse() {
                            Ok(value) => cells.push((metric.clone(), Vec::new(), value)),
                            Err(_) => texts += 1,
                        }
                    }
                }
            }
            for (metric, labels, value) in cells {
                ensure!(
                    self.rows.len() < MOST_ROWS,
                    "{}: more than {MOST_ROWS} rows: make it NDJSON or Parquet, which are not held in memory",
                    path.display()
                );
                let series = *known.entry((metric, labels)).or_insert_with_key(|(metric, labels)| {
                    let index = u32::try_from(self.series.len()).unwrap_or(u32::MAX);
                    self.series.push((place, rest(name, &shape, metric, labels)));
                    index
                });
                // an hour that comes twice, as in autumn, keeps its rows: each a millisecond after the one before
                let at = match last.get(&series) {
                    Some(last) if at <= *last && *last - at < 4_000_000 => last + 1,
                    _ => at,
                };
                last.insert(series, at);
                let line = u32::try_from(line).unwrap_or(u32::MAX);
                self.rows.push(Row {
                    at,
                    series,
                    line,
                    value,
                });
            }
        }
        if texts > 0 {
            tracing::warn!(file = %path.display(), "{texts} cells hold no number and were left out");
        }
        Ok(())
    }

    pub(super) fn each(&self, mut each: impl FnMut(Piece<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
        use std::io::Write as _;
        let mut text = Vec::new();
        for (done, row) in self.rows.iter().enumerate() {
            let Some((place, rest)) = self.series.get(row.series as usize) else {
                continue;
            };
            text.clear();
            write!(text, "{{\"ts\": {}, \"value\": {}, {rest}", row.at, row.value)?;
            each(Piece {
                path: &self.paths[*place],
                number: row.line.into(),
                bytes: &text,
                done: done as u64,
            })?;
        }
        Ok(())
    }
}

/// What is the same in all samples of a series, as the end of a JSON object.
fn rest(file: &str, shape: &Shape, metric: &str, values: &[String]) -> String {
    let mut labels = serde_json::Map::new();
    let mut put = |name: &str, value: &str| {
        if !value.is_empty() {
            labels.insert(name.to_owned(), value.into());
        }
    };
    match shape {
        Shape::Long {
            labels: names, metric, ..
        } => {
            if metric.is_none() {
                put("file", file);
            }
            for ((_, name), value) in names.iter().zip(values) {
                put(name, value);
            }
        }
        Shape::Wide(_) => put("file", file),
    }
    format!(
        "\"metric\": {}, \"labels\": {}}}",
        serde_json::Value::from(metric),
        serde_json::Value::from(labels)
    )
}

fn shape(path: &Path, heads: &[String]) -> anyhow::Result<(usize, Shape)> {
    let place = |name: &str| heads.iter().position(|head| head.eq_ignore_ascii_case(name));
    let Some(time) = TIMES.iter().find_map(|name| place(name)) else {
        bail!(
            "{}: no column is a time: its first line must name the columns, one of them {}",
            path.display(),
            TIMES.join(", ")
        );
    };
    let others = |except: &[usize]| -> Vec<(usize, String)> {
        let heads = heads.iter().enumerate();
        heads
            .filter(|(at, head)| !except.contains(at) && !head.is_empty())
            .map(|(at, head)| (at, head.clone()))
            .collect()
    };
    let shape = match place("value") {
        Some(value) => {
            let metric = place("metric");
            let mut taken = vec![time, value];
            taken.extend(metric);
            Shape::Long {
                value,
                metric,
                labels: others(&taken),
            }
        }
        None => Shape::Wide(others(&[time])),
    };
    if matches!(&shape, Shape::Wide(metrics) if metrics.is_empty()) {
        bail!("{}: there is a time and nothing else", path.display());
    }
    Ok((time, shape))
}

/// A time as RFC 3339, a number since the epoch, or a date and a time of day without a zone, which is taken for UTC.
pub(crate) fn when(text: &str) -> anyhow::Result<Timestamp> {
    let text = text.trim();
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    if let Ok(number) = text.parse::<i64>() {
        return Ok(Timestamp::from_number(number)?);
    }
    if let Ok(number) = text.parse::<f64>() {
        return Ok(Timestamp::from_fraction(number)?);
    }
    let zoned = format!("{}Z", text.replacen(' ', "T", 1));
    zoned
        .parse()
        .or_else(|_| format!("{text}T00:00:00Z").parse())
        .with_context(|| format!("{text:?} is no time: write 2026-03-01T10:00:00Z, or milliseconds since the epoch"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &str)]) -> anyhow::Result<Vec<String>> {
        let folder = tempfile::tempdir()?;
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap())?;
            std::fs::write(path, text)?;
        }
        let table = Table::read(&[folder.path().to_owned()])?;
        let mut lines = Vec::new();
        table.each(|piece| {
            lines.push(String::from_utf8(piece.bytes.to_vec())?);
            Ok(())
        })?;
        Ok(lines)
    }

    #[test]
    fn a_folder_of_times_and_values_is_a_series_a_file_in_the_order_of_time() {
        let lines = read(&[
            (
                "b/x.csv",
                "timestamp,value\n2026-01-01 00:00:00,1.5\n2026-01-01 00:10:00,2\n",
            ),
            ("a.csv", "timestamp,value\n2026-01-01 00:05:00,3\n"),
        ])
        .unwrap();
        assert_eq!(
            lines,
            [
                r#"{"ts": 1767225600000, "value": 1.5, "metric": "value", "labels": {"file":"b/x.csv"}}"#,
                r#"{"ts": 1767225900000, "value": 3, "metric": "value", "labels": {"file":"a.csv"}}"#,
                r#"{"ts": 1767226200000, "value": 2, "metric": "value", "labels": {"file":"b/x.csv"}}"#,
            ]
        );
    }

    #[test]
    fn columns_beside_a_value_are_labels_and_without_one_metrics() {
        let long = read(&[(
            "a.csv",
            "ts,metric,value,service\n1767225600000,cpu,1,cart\n1767225600000,cpu,oops,pay\n",
        )]);
        assert_eq!(
            long.unwrap(),
            [r#"{"ts": 1767225600000, "value": 1, "metric": "cpu", "labels": {"service":"cart"}}"#]
        );
        let wide = read(&[(
            "a.csv",
            "time,cpu,memory\n2026-01-01T00:00:00Z,1,\n2026-01-01T00:01:00Z,2,0.5\n",
        )])
        .unwrap();
        assert_eq!(wide.len(), 3);
        assert!(wide[2].contains(r#""metric": "memory""#), "{}", wide[2]);
    }

    #[test]
    fn an_hour_that_comes_twice_keeps_its_rows() {
        let text = "timestamp,value\n2026-10-25 02:30:00,1\n2026-10-25 02:45:00,2\n2026-10-25 02:30:00,3\n";
        let lines = read(&[("a.csv", text)]).unwrap();
        let values: Vec<&str> = lines
            .iter()
            .map(|line| line.split("value\": ").nth(1).unwrap())
            .collect();
        assert!(
            values[2].starts_with('3') && lines[2].contains("1792896300001"),
            "{lines:?}"
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let told = |text: &str| format!("{:#}", read(&[("a.csv", text)]).unwrap_err());
        assert!(told("a,b\n1,2\n").contains("no column is a time"));
        assert!(told("ts,value\nyesterday,2\n").contains("a.csv, line 2: \"yesterday\" is no time"));
        assert!(told("ts,value\n").contains("there are no rows"));
    }
}
