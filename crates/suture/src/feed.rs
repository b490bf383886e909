//! Telemetry that lies in files, as the records that a topic would have held: NDJSON, CSV and Parquet.

mod table;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use suture_codec::TelemetryFormat;

pub(crate) use self::table::{Table, when};
use crate::replay::lines::Lines;

/// A folder is looked into so deep.
const DEPTH: usize = 8;

/// One record, and where it stands.
pub(crate) struct Piece<'a> {
    /// The file.
    pub(crate) path: &'a Path,
    /// Its line, row or batch there, from 1.
    pub(crate) number: i64,
    /// As a topic would hold it.
    pub(crate) bytes: &'a [u8],
    /// How far this is, of [`Feed::size`].
    pub(crate) done: u64,
}

/// Files of one kind, in the order of time. It can be read as often as it takes.
pub(crate) enum Feed {
    /// One JSON object a line.
    Lines(Vec<PathBuf>),
    /// Columns `ts`, `metric`, `value` and labels.
    Parquet(Vec<PathBuf>),
    /// Rows of one or more CSV files.
    Csv(Table),
}

/// What a path is by its name; of a folder, by what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Lines,
    Parquet,
    Csv,
}

impl Feed {
    /// Looks at what the paths are. CSV is read here, for it has to be brought into the order of time.
    ///
    /// # Errors
    /// Where paths are of several kinds, or CSV cannot be read.
    pub(crate) fn open(paths: &[PathBuf]) -> anyhow::Result<Self> {
        let kinds: Vec<Kind> = paths.iter().map(|path| kind(path)).collect::<anyhow::Result<_>>()?;
        let first = kinds.first().copied().unwrap_or(Kind::Lines);
        if let Some(other) = kinds.iter().position(|kind| *kind != first) {
            let (a, b) = (&paths[0], &paths[other]);
            bail!(
                "{} and {} are of different kinds: give files of one kind at a time",
                a.display(),
                b.display()
            );
        }
        Ok(match first {
            Kind::Lines => Self::Lines(paths.to_vec()),
            Kind::Parquet => Self::Parquet(paths.to_vec()),
            Kind::Csv => Self::Csv(Table::read(paths)?),
        })
    }

    /// How records of it are to be decoded; nothing where lines are of none of the formats that are known. The pipeline's own
    /// format is no guide: records of a topic may be binary, and those of a file are lines.
    ///
    /// # Errors
    /// Where a file cannot be read.
    pub(crate) fn format(&self) -> anyhow::Result<Option<TelemetryFormat>> {
        Ok(match self {
            Self::Lines(paths) => paths.first().map(|path| format_of(path)).transpose()?.flatten(),
            Self::Csv(_) => Some(TelemetryFormat::Json),
            Self::Parquet(_) => Some(TelemetryFormat::ArrowIpc),
        })
    }

    /// The sum of all [`Piece::done`], in units of its own; 0 where it is not known.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Lines(paths) => paths
                .iter()
                .filter_map(|path| path.metadata().ok())
                .map(|meta| meta.len())
                .sum(),
            Self::Csv(table) => table.len(),
            Self::Parquet(_) => 0,
        }
    }

    /// The files.
    pub(crate) fn paths(&self) -> &[PathBuf] {
        match self {
            Self::Lines(paths) | Self::Parquet(paths) => paths,
            Self::Csv(table) => table.paths(),
        }
    }

    /// Hands every record on.
    ///
    /// # Errors
    /// Where a file cannot be read, and whatever `each` fails with.
    pub(crate) fn each(&self, mut each: impl FnMut(Piece<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
        match self {
            Self::Lines(paths) => {
                let mut before = 0;
                for path in paths {
                    let mut lines = Lines::open(path)?;
                    let mut done = before;
                    while let Some(line) = lines.next_line()? {
                        each(Piece {
                            path,
                            number: line.number,
                            bytes: line.text,
                            done,
                        })?;
                        done += line.text.len() as u64 + 1;
                    }
                    before += lines.bytes();
                }
                Ok(())
            }
            Self::Csv(table) => table.each(each),
            Self::Parquet(paths) => paths.iter().try_for_each(|path| parquet(path, &mut each)),
        }
    }
}

#[cfg(feature = "history")]
fn parquet(path: &Path, each: &mut impl FnMut(Piece<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut number = 0;
    runtime.block_on(suture_history::telemetry::<anyhow::Error>(path, |bytes| {
        number += 1;
        each(Piece {
            path,
            number,
            bytes,
            done: 0,
        })
    }))?;
    Ok(())
}

#[cfg(not(feature = "history"))]
fn parquet(path: &Path, _: &mut impl FnMut(Piece<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
    bail!(
        "{}: this build has no `history` feature, which reads Parquet: use NDJSON or CSV",
        path.display()
    )
}

/// What the first line of a file with something in it is taken for.
fn format_of(path: &Path) -> anyhow::Result<Option<TelemetryFormat>> {
    let mut lines = Lines::open(path)?;
    while let Some(line) = lines.next_line()? {
        // comments of line protocol
        if !line.text.starts_with(b"#") {
            return Ok(suture_codec::sniff(line.text).ok().map(|sniffed| sniffed.format));
        }
    }
    Ok(None)
}

fn kind(path: &Path) -> anyhow::Result<Kind> {
    if path.is_dir() {
        let csv = !files(path, "csv")?.is_empty();
        return Ok(if csv { Kind::Csv } else { Kind::Parquet });
    }
    Ok(match path.extension().and_then(|end| end.to_str()) {
        Some("parquet") => Kind::Parquet,
        Some("csv") => Kind::Csv,
        _ => Kind::Lines,
    })
}

/// Files below a folder whose names end so, in the order of their names.
///
/// # Errors
/// Where a folder cannot be read.
pub(crate) fn files(folder: &Path, end: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = open.pop() {
        let entries =
            std::fs::read_dir(&folder).with_context(|| format!("cannot read the folder {}", folder.display()))?;
        for entry in entries {
            let path = entry
                .with_context(|| format!("cannot read the folder {}", folder.display()))?
                .path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() {
                if depth < DEPTH && !name.starts_with('.') {
                    open.push((path, depth + 1));
                }
            } else if name.strip_suffix(end).is_some_and(|rest| rest.ends_with('.')) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_path_is_follows_from_its_name_and_kinds_are_not_mixed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("a.ndjson"), "{\"ts\": 1}\n\n{\"ts\": 2}\n").unwrap();
        std::fs::write(path("b.csv"), "timestamp,value\n2026-01-01 00:00:00,1\n").unwrap();
        assert_eq!(kind(&path("a.ndjson")).unwrap(), Kind::Lines);
        assert_eq!(kind(&path("b.csv")).unwrap(), Kind::Csv);
        assert_eq!(kind(&path("c.parquet")).unwrap(), Kind::Parquet);
        assert_eq!(kind(folder.path()).unwrap(), Kind::Csv);
        let mixed = Feed::open(&[path("a.ndjson"), path("b.csv")]).err().unwrap();
        assert!(mixed.to_string().contains("one kind at a time"), "{mixed}");
        let lines = Feed::open(&[path("a.ndjson")]).unwrap();
        let mut seen = Vec::new();
        for _ in 0..2 {
            lines
                .each(|piece| {
                    seen.push(piece.number);
                    Ok(())
                })
                .unwrap();
        }
        assert_eq!(seen, [1, 3, 1, 3]);
    }
}
