//! Which tables a folder has.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use datafusion::prelude::{ParquetReadOptions, SessionContext};

use super::{QueryError, ndjson};

/// A table and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name in queries.
    pub name: String,
    /// The file or folder.
    pub path: PathBuf,
    /// Its columns and their types, in order.
    pub columns: Vec<(String, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ndjson,
    Parquet,
}

/// Registers every table of a folder, by name.
pub(super) async fn register(context: &SessionContext, folder: &Path) -> Result<Vec<Table>, QueryError> {
    let mut found: BTreeMap<String, (PathBuf, Kind, Vec<PathBuf>)> = BTreeMap::new();
    for entry in entries(folder)? {
        let (stem, files) = if entry.is_dir() {
            (entry.file_name(), files_below(&entry)?)
        } else {
            (entry.file_stem(), vec![entry.clone()])
        };
        let kinds: Vec<Kind> = files.iter().filter_map(|file| kind_of(file)).collect();
        let Some(kind) = kinds.first().copied() else { continue };
        if kinds.iter().any(|other| *other != kind) {
            return Err(QueryError::Mixed { path: entry });
        }
        let name = name_of(&stem.unwrap_or_default().to_string_lossy());
        let files = files.into_iter().filter(|file| kind_of(file).is_some()).collect();
        if let Some((first, ..)) = found.get(&name) {
            return Err(QueryError::SameName {
                name,
                first: first.clone(),
                second: entry,
            });
        }
        found.insert(name, (entry, kind, files));
    }
    if found.is_empty() {
        return Err(QueryError::Nothing {
            path: folder.to_owned(),
        });
    }
    let mut tables = Vec::with_capacity(found.len());
    for (name, (path, kind, files)) in found {
        match kind {
            Kind::Ndjson => ndjson::register(context, &name, &path, &files).await?,
            Kind::Parquet => register_parquet(context, &name, &path, &files).await?,
        }
        let table = context
            .table(name.as_str())
            .await
            .map_err(|error| QueryError::read(&path, error.strip_backtrace()))?;
        let fields = table.schema().fields().iter();
        let columns = fields
            .map(|field| (field.name().clone(), field.data_type().to_string()))
            .collect();
        tables.push(Table { name, path, columns });
    }
    Ok(tables)
}

async fn register_parquet(
    context: &SessionContext,
    name: &str,
    path: &Path,
    files: &[PathBuf],
) -> Result<(), QueryError> {
    let urls: Vec<String> = files.iter().map(|file| file.to_string_lossy().into_owned()).collect();
    let failed = |error: datafusion::common::DataFusionError| QueryError::read(path, error.strip_backtrace());
    let frame = context
        .read_parquet(urls, ParquetReadOptions::default())
        .await
        .map_err(failed)?;
    context.register_table(name, frame.into_view()).map_err(failed)?;
    Ok(())
}

fn kind_of(file: &Path) -> Option<Kind> {
    match file.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "ndjson" | "jsonl" => Some(Kind::Ndjson),
        "parquet" => Some(Kind::Parquet),
        _ => None,
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, QueryError> {
    let failed = |error| QueryError::read(folder, error);
    let listed = fs::read_dir(folder).map_err(failed)?;
    let mut paths = listed
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    paths.retain(|path| {
        !path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
    });
    paths.sort();
    Ok(paths)
}

/// Links to folders are not followed, so that none leads back.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>, QueryError> {
    let mut files = Vec::new();
    for path in entries(folder)? {
        if path.is_dir() {
            if !path.is_symlink() {
                files.extend(files_below(&path)?);
            }
        } else {
            files.push(path);
        }
    }
    Ok(files)
}

fn name_of(stem: &str) -> String {
    let lower = stem.to_lowercase();
    let name: String = lower
        .chars()
        .map(|c| if c.is_alphanumeric() { c } else { '_' })
        .collect();
    if name.starts_with(|c: char| c.is_numeric()) {
        format!("_{name}")
    } else {
        name
    }
}
