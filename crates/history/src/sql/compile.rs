//! From text to an expression that DataFusion evaluates.

use std::sync::Arc;

use datafusion::{
    arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit},
    common::{
        DFSchema,
        tree_node::{TreeNode, TreeNodeRecursion},
    },
    logical_expr::{Expr, Volatility, cast, simplify::SimplifyContext},
    optimizer::simplify_expressions::ExprSimplifier,
    prelude::{SessionConfig, SessionContext},
};

use super::{Compiled, SqlError};

/// Longest expression, in bytes.
const MOST_BYTES: usize = 4_096;
/// Room for an expression that nests with every byte, of which only what is used is taken.
const STACK_BYTES: usize = 256 << 20;
/// Most operators, functions, names and literals of one expression.
const MOST_NODES: usize = 512;

pub(super) const UTC: &str = "+00:00";
pub(super) const MAP_ENTRIES: &str = "entries";
pub(super) const MAP_KEY: &str = "keys";
pub(super) const MAP_VALUE: &str = "values";

/// A column of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Metric,
    Labels,
    Value,
    Ts,
}

const COLUMNS: [(&str, Column); 4] = [
    ("metric", Column::Metric),
    ("labels", Column::Labels),
    ("value", Column::Value),
    ("ts", Column::Ts),
];

pub(super) fn context() -> SessionContext {
    let mut config = SessionConfig::new();
    config.options_mut().sql_parser.collect_spans = true;
    SessionContext::new_with_config(config)
}

fn schema() -> Schema {
    let entry = Fields::from(vec![
        Field::new(MAP_KEY, DataType::Utf8, false),
        Field::new(MAP_VALUE, DataType::Utf8, true),
    ]);
    let entries = Arc::new(Field::new(MAP_ENTRIES, DataType::Struct(entry), false));
    Schema::new(vec![
        Field::new("metric", DataType::Utf8, false),
        Field::new("labels", DataType::Map(entries, false), false),
        Field::new("value", DataType::Float64, false),
        Field::new(
            "ts",
            DataType::Timestamp(TimeUnit::Millisecond, Some(UTC.into())),
            false,
        ),
    ])
}

/// What an expression has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Condition,
    Number,
}

/// Compiles an expression of this kind.
///
/// Parser and planner recurse as deep as an expression nests, and not everywhere with a bound of their own: a thread with
/// room for the deepest text that is taken does the work, so that no text overflows the stack.
pub(super) fn compile(context: &SessionContext, text: &str, kind: Kind) -> Result<Compiled, SqlError> {
    if text.trim().is_empty() {
        return Err(SqlError::at(
            text,
            0,
            "it is empty",
            Some("leave the field out to keep every sample as it is"),
        ));
    }
    if text.len() > MOST_BYTES {
        let reason = format!("{} bytes long, at most {MOST_BYTES} are taken", text.len());
        return Err(SqlError::at(
            text,
            0,
            reason,
            Some("match with LIKE or a regular expression instead"),
        ));
    }
    std::thread::scope(|scope| {
        let work = || of_kind(context, text, kind);
        let thread = std::thread::Builder::new()
            .name("sql".into())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, work);
        let done = thread.map_err(|error| SqlError::at(text, 0, format!("no thread to compile it: {error}"), None))?;
        done.join().unwrap_or_else(|_| {
            Err(SqlError::at(
                text,
                0,
                "the SQL engine gave up on it",
                Some("write it otherwise"),
            ))
        })
    })
}

fn of_kind(context: &SessionContext, text: &str, kind: Kind) -> Result<Compiled, SqlError> {
    let parsed = parse(context, text)?;
    let compiled = plan(context, text, parsed.clone())?;
    let found = compiled
        .expression
        .data_type(&compiled.schema)
        .map_err(|error| SqlError::of(text, &error))?;
    match kind {
        Kind::Condition if found == DataType::Boolean => Ok(compiled),
        Kind::Condition => {
            let reason = format!("a condition must be true or false, and this is {}", described(&found));
            Err(SqlError::at(
                text,
                0,
                reason,
                Some("compare it with something, as in value > 0"),
            ))
        }
        Kind::Number if found.is_numeric() => plan(context, text, cast(parsed, DataType::Float64)),
        Kind::Number => {
            let reason = format!("a value must be a number, and this is {}", described(&found));
            let help = match found {
                DataType::Boolean => "write CASE WHEN … THEN 1 ELSE 0 END",
                DataType::Null => "write an expression of value, as in value * 1000",
                _ => "cast it, as in CAST(labels['size'] AS DOUBLE)",
            };
            Err(SqlError::at(text, 0, reason, Some(help)))
        }
    }
}

fn described(kind: &DataType) -> String {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "a text".into(),
        DataType::Boolean => "true or false".into(),
        DataType::Null => "NULL".into(),
        DataType::Map(..) => "a map of labels".into(),
        DataType::Timestamp(..) => "a time".into(),
        kind if kind.is_numeric() => "a number".into(),
        other => other.to_string(),
    }
}

fn parse(context: &SessionContext, text: &str) -> Result<Expr, SqlError> {
    let all = DFSchema::try_from(schema()).map_err(|error| SqlError::of(text, &error))?;
    let parsed = context
        .parse_sql_expr(text, &all)
        .map_err(|error| hinted(text, SqlError::of(text, &error)))?;
    check(text, &parsed)?;
    Ok(parsed.unalias_nested().data)
}

/// Says in the words of a pipeline file what most often goes wrong.
fn hinted(text: &str, error: SqlError) -> SqlError {
    match error {
        SqlError::Compile {
            text: _,
            line,
            column,
            reason,
            help: _,
        } if reason.contains("no field named") => {
            let name = reason.split("no field named ").nth(1).unwrap_or_default();
            let name = name
                .split(". ")
                .next()
                .unwrap_or(name)
                .trim_end_matches('.')
                .replace('"', "");
            let label = name.strip_prefix("labels.").unwrap_or(&name);
            let help = if text.contains(&format!("\"{label}\"")) {
                format!("texts are written in single quotes, as in labels['{label}']")
            } else {
                format!("there are metric, labels, value and ts; a label is written labels['{label}']")
            };
            let reason = format!("there is no column {name:?}");
            SqlError::Compile {
                text: text.to_owned(),
                line,
                column,
                reason,
                help: Some(help),
            }
        }
        SqlError::Compile {
            line, column, reason, ..
        } if reason.contains("Map(\"entries\"") => {
            let reason = "labels is a map, and is used here as if it were one value".to_owned();
            let help = Some("take one label, as in labels['service']".to_owned());
            SqlError::Compile {
                text: text.to_owned(),
                line,
                column,
                reason,
                help,
            }
        }
        other => other,
    }
}

/// Refuses what is not one row's business, and what would come out otherwise in a replay.
fn check(text: &str, expression: &Expr) -> Result<(), SqlError> {
    let (mut nodes, mut problem) = (0_usize, None);
    let refuse = |name: &str, reason: String, help: &str| Some(SqlError::at_name(text, name, reason, Some(help)));
    let walked = expression.apply(|node| {
        nodes += 1;
        problem = match node {
            Expr::ScalarFunction(call) if call.func.signature().volatility == Volatility::Volatile => refuse(
                call.name(),
                format!("{}() differs from call to call", call.name()),
                "a replay must find the same",
            ),
            Expr::ScalarFunction(call) if READS_CLOCK.contains(&call.name()) => refuse(
                call.name(),
                format!("{}() reads the clock", call.name()),
                "use ts, the time of the sample",
            ),
            Expr::AggregateFunction(call) => {
                let reason = format!("{}() is over many samples", call.func.name());
                refuse(call.func.name(), reason, "set `aggregate` of a signal instead")
            }
            Expr::WindowFunction(call) => {
                let name = call.fun.name().to_owned();
                refuse(
                    &name,
                    format!("{name}() is over many samples"),
                    "an expression sees one sample at a time",
                )
            }
            Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_) => refuse(
                "select",
                "there is nothing to select from".into(),
                "an expression sees one sample at a time",
            ),
            Expr::Placeholder(placeholder) => {
                let name = placeholder.id.clone();
                refuse(&name, format!("{name} stands for nothing"), "write the value itself")
            }
            _ if nodes > MOST_NODES => {
                let reason = format!("more than {MOST_NODES} operators, names and literals");
                Some(SqlError::at(
                    text,
                    0,
                    reason,
                    Some("match with LIKE or a regular expression instead"),
                ))
            }
            _ => None,
        };
        Ok(if problem.is_some() {
            TreeNodeRecursion::Stop
        } else {
            TreeNodeRecursion::Continue
        })
    });
    walked.map_err(|error| SqlError::of(text, &error))?;
    problem.map_or(Ok(()), Err)
}

/// Functions whose answer is the same within a query only.
const READS_CLOCK: [&str; 5] = ["now", "current_timestamp", "current_date", "current_time", "today"];

fn plan(context: &SessionContext, text: &str, parsed: Expr) -> Result<Compiled, SqlError> {
    let failed = |error| hinted(text, SqlError::of(text, &error));
    let all = Arc::new(DFSchema::try_from(schema()).map_err(failed)?);
    // some functions exist only as what simplification makes of them
    let state = context.state();
    let simple = SimplifyContext::builder()
        .with_schema(Arc::clone(&all))
        .with_config_options(Arc::clone(state.config_options()))
        .build();
    let simplifier = ExprSimplifier::new(simple);
    let parsed = simplifier
        .coerce(parsed, &all)
        .and_then(|coerced| simplifier.simplify(coerced))
        .map_err(failed)?;

    let read = parsed.column_refs();
    let (mut columns, mut fields) = (Vec::new(), Vec::new());
    for (field, (name, column)) in all.fields().iter().zip(COLUMNS) {
        if read.iter().any(|one| one.name == name) {
            columns.push(column);
            fields.push(Arc::clone(field));
        }
    }
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    let narrow = DFSchema::try_from(Arc::clone(&schema)).map_err(failed)?;
    let expression = context.create_physical_expr(parsed, &narrow).map_err(failed)?;
    Ok(Compiled {
        text: text.to_owned(),
        schema,
        columns,
        expression,
    })
}
