//! Tables out of NDJSON files.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    sync::Arc,
};

use datafusion::{
    arrow::{
        array::RecordBatch,
        datatypes::{DataType, Field, Fields, Schema, SchemaRef},
        error::ArrowError,
        json::{ReaderBuilder, reader::infer_json_schema_from_iterator},
    },
    datasource::MemTable,
    prelude::{JsonReadOptions, SessionContext},
};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};
use suture_event::canonical;

use super::QueryError;

/// Most bytes of files that have to be held in memory.
const MOST_BYTES: u64 = 256 << 20;

/// Registers the files as one table.
pub(super) async fn register(
    context: &SessionContext,
    name: &str,
    path: &Path,
    files: &[PathBuf],
) -> Result<(), QueryError> {
    let failed = |error: datafusion::common::DataFusionError| QueryError::read(path, error.strip_backtrace());
    let (schema, mixed) = examine(path, files)?;
    let filled: Vec<String> = files
        .iter()
        .filter(|file| fs::metadata(file).is_ok_and(|meta| meta.len() > 0))
        .map(|file| file.to_string_lossy().into_owned())
        .collect();
    if mixed.is_empty() && !filled.is_empty() {
        let options = JsonReadOptions {
            schema: Some(&schema),
            file_extension: "",
            ..JsonReadOptions::default()
        };
        let frame = context.read_json(filled, options).await.map_err(failed)?;
        context.register_table(name, frame.into_view()).map_err(failed)?;
        return Ok(());
    }
    let batches = if mixed.is_empty() {
        Vec::new()
    } else {
        held(path, files, &schema, &mixed)?
    };
    let table = MemTable::try_new(schema, vec![batches]).map_err(failed)?;
    context.register_table(name, Arc::new(table)).map_err(failed)?;
    Ok(())
}

/// The columns of the files, and which of them hold values of several kinds.
fn examine(path: &Path, files: &[PathBuf]) -> Result<(SchemaRef, BTreeSet<String>), QueryError> {
    let arrow = |error: &ArrowError| QueryError::read(path, error);
    let mut order = Keys::default();
    let mut problem = None;
    let rows = rows(files).map(|row| match row {
        Ok((keys, row)) => {
            order.add(keys);
            Ok(Value::Object(row))
        }
        Err(error) => {
            let text = error.to_string();
            problem = Some(error);
            Err(ArrowError::JsonError(text))
        }
    });
    let whole = infer_json_schema_from_iterator(rows);
    if let Some(problem) = problem {
        return Err(problem);
    }
    match whole {
        Ok(found) => Ok((Arc::new(ordered(&found, &order.0)), BTreeSet::new())),
        Err(_) => {
            // one kind for a whole column after the other, since some column has several
            let mut order = Keys::default();
            for row in self::rows(files) {
                order.add(row?.0);
            }
            let (mut fields, mut mixed) = (Vec::new(), BTreeSet::new());
            for key in &order.0 {
                let column = self::rows(files).map(|row| {
                    let (_, mut row) = row.map_err(|error| ArrowError::JsonError(error.to_string()))?;
                    Ok(Value::Object(
                        row.remove(key).map(|value| (key.clone(), value)).into_iter().collect(),
                    ))
                });
                match infer_json_schema_from_iterator(column) {
                    Ok(found) => fields.extend(ordered(&found, std::slice::from_ref(key)).fields().iter().cloned()),
                    Err(ArrowError::JsonError(_)) => {
                        mixed.insert(key.clone());
                        fields.push(Arc::new(Field::new(key, DataType::Utf8, true)));
                    }
                    Err(other) => return Err(arrow(&other)),
                }
            }
            Ok((Arc::new(Schema::new(fields)), mixed))
        }
    }
}

/// Reads files into memory, with values of the mixed columns as JSON text.
fn held(
    path: &Path,
    files: &[PathBuf],
    schema: &SchemaRef,
    mixed: &BTreeSet<String>,
) -> Result<Vec<RecordBatch>, QueryError> {
    const ROWS: usize = 8_192;
    let bytes = files
        .iter()
        .filter_map(|file| fs::metadata(file).ok())
        .map(|meta| meta.len())
        .sum();
    if bytes > MOST_BYTES {
        return Err(QueryError::TooLarge {
            path: path.to_owned(),
            bytes,
            limit: MOST_BYTES,
        });
    }
    let failed = |error: ArrowError| QueryError::read(path, error);
    let mut decoder = ReaderBuilder::new(Arc::clone(schema))
        .with_batch_size(ROWS)
        .build_decoder()
        .map_err(failed)?;
    let (mut batches, mut waiting) = (Vec::new(), Vec::with_capacity(ROWS));
    let mut flush = |waiting: &mut Vec<Value>| -> Result<(), QueryError> {
        decoder.serialize(waiting).map_err(failed)?;
        batches.extend(decoder.flush().map_err(failed)?);
        waiting.clear();
        Ok(())
    };
    for row in rows(files) {
        let (_, mut row) = row?;
        for (key, value) in &mut row {
            if mixed.contains(key) && !value.is_null() {
                *value = Value::String(canonical(value.take()).to_string());
            }
        }
        waiting.push(Value::Object(row));
        if waiting.len() == ROWS {
            flush(&mut waiting)?;
        }
    }
    flush(&mut waiting)?;
    Ok(batches)
}

/// Every row of the files, with its keys in the order they are written in.
fn rows(files: &[PathBuf]) -> impl Iterator<Item = Result<(Keys, Map<String, Value>), QueryError>> {
    files.iter().flat_map(|path| {
        let lines: Box<dyn Iterator<Item = _>> = match File::open(path) {
            Ok(file) => Box::new(BufReader::new(file).lines().enumerate()),
            Err(error) => Box::new(std::iter::once((0, Err(error)))),
        };
        lines.filter_map(move |(index, line)| {
            let bad = |reason: String| QueryError::Line {
                path: path.clone(),
                line: index + 1,
                reason,
            };
            match line {
                Ok(line) if line.trim().is_empty() => None,
                Ok(line) => Some(parse(&line).map_err(|error| bad(format!("no JSON object: {error}")))),
                Err(error) => Some(Err(bad(error.to_string()))),
            }
        })
    })
}

fn parse(line: &str) -> Result<(Keys, Map<String, Value>), serde_json::Error> {
    Ok((serde_json::from_str(line)?, serde_json::from_str(line)?))
}

/// The keys of an object, in the order they are written in.
#[derive(Default)]
struct Keys(Vec<String>);

impl Keys {
    fn add(&mut self, more: Self) {
        for key in more.0 {
            if !self.0.contains(&key) {
                self.0.push(key);
            }
        }
    }
}

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeysVisitor;
        impl<'de> Visitor<'de> for KeysVisitor {
            type Value = Keys;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys = Keys::default();
                while let Some((key, IgnoredAny)) = map.next_entry()? {
                    keys.0.push(key);
                }
                Ok(keys)
            }
        }
        deserializer.deserialize_map(KeysVisitor)
    }
}

/// The schema with its columns in this order, and the fields within them by name: inference leaves the order to chance.
fn ordered(schema: &Schema, order: &[String]) -> Schema {
    let place: BTreeMap<&str, usize> = order
        .iter()
        .enumerate()
        .map(|(place, key)| (key.as_str(), place))
        .collect();
    let mut fields: Vec<Field> = schema.fields().iter().map(|field| sorted_within(field)).collect();
    fields.sort_by_key(|field| place.get(field.name().as_str()).copied());
    Schema::new(fields)
}

fn sorted_within(field: &Field) -> Field {
    let kind = match field.data_type() {
        DataType::Struct(fields) => {
            let mut fields: Vec<Field> = fields.iter().map(|field| sorted_within(field)).collect();
            fields.sort_by(|a, b| a.name().cmp(b.name()));
            DataType::Struct(Fields::from(fields))
        }
        DataType::List(item) => DataType::List(Arc::new(sorted_within(item))),
        other => other.clone(),
    };
    field.clone().with_data_type(kind)
}
