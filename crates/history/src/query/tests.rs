//! Folders as a replay leaves them, and what is asked of them.

use std::{fs, sync::Arc};

use datafusion::{
    arrow::{
        array::{ArrayRef, Float64Array, RecordBatch, StringArray},
        datatypes::{DataType, Field, Schema},
    },
    parquet::arrow::ArrowWriter,
};
use tempfile::TempDir;

use super::*;

const ANOMALIES: &str = r#"{"id":"a1","at":"2022-08-22T03:54:00Z","metric":"cpu","labels":{"service":"cart","pod":"cart-1"},"score":0.997,"end":null}
{"id":"a2","at":"2022-08-22T03:55:00Z","metric":"latency","labels":{"service":"front"},"score":0.9,"value":3}
{"id":"a3","at":"2022-08-22T03:56:00Z","metric":"latency","labels":{"service":"front"},"score":0.8,"value":3.5}
"#;
const INCIDENTS: &str = r#"{"id":"i1","services":["cart"],"anomalies":["a1","a2"],"hypotheses":[{"rank":1,"class":"bad_deploy","probability":0.83}]}
"#;
const LEDGER: &str = r#"{"seq":0,"kind":"opened","body":{"n":1}}
{"seq":1,"kind":"freeze","body":"all"}
{"seq":2,"kind":"thaw","body":null}
"#;

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn replayed() -> TempDir {
    folder(&[
        ("anomalies.ndjson", ANOMALIES),
        ("incidents.ndjson", INCIDENTS),
        ("ledger.ndjson", LEDGER),
        ("remediations.ndjson", ""),
        ("topology.json", "{}"),
    ])
}

fn within<T>(run: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(run)
}

fn ask(folder: &TempDir, sql: &str, format: Format) -> Result<(usize, String), String> {
    within(async {
        let query = Query::open(folder.path()).await.map_err(|error| error.to_string())?;
        let mut out = Vec::new();
        let rows = query
            .run(sql, format, &mut out)
            .await
            .map_err(|error| error.to_string())?;
        Ok((rows, String::from_utf8(out).unwrap()))
    })
}

fn lines(folder: &TempDir, sql: &str) -> String {
    ask(folder, sql, Format::Ndjson).unwrap().1
}

#[test]
fn what_a_replay_wrote_is_there_to_be_asked() {
    let folder = replayed();
    assert_eq!(
        lines(
            &folder,
            "SELECT labels['service'] AS service, count(*) AS n FROM anomalies GROUP BY 1 ORDER BY 1"
        ),
        "{\"service\":\"cart\",\"n\":1}\n{\"service\":\"front\",\"n\":2}\n"
    );
    assert_eq!(
        lines(
            &folder,
            "SELECT i.id, h['class'] AS class, h['probability'] AS p FROM (SELECT id, unnest(hypotheses) AS h FROM incidents) i"
        ),
        "{\"id\":\"i1\",\"class\":\"bad_deploy\",\"p\":0.83}\n"
    );
    assert_eq!(
        lines(
            &folder,
            "SELECT id FROM anomalies WHERE CAST(at AS TIMESTAMP) > '2022-08-22T03:54:30Z' AND value < 3.2"
        ),
        "{\"id\":\"a2\"}\n"
    );
}

#[test]
fn columns_come_in_the_order_of_the_file() {
    let folder = replayed();
    let query = within(Query::open(folder.path())).unwrap();
    let names: Vec<&str> = query.tables().iter().map(|table| table.name.as_str()).collect();
    assert_eq!(names, ["anomalies", "incidents", "ledger", "remediations"]);
    let columns: Vec<&str> = query.tables()[0]
        .columns
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(columns, ["id", "at", "metric", "labels", "score", "end", "value"]);
    assert_eq!(
        lines(&folder, "SELECT * FROM anomalies LIMIT 1"),
        "{\"id\":\"a1\",\"at\":\"2022-08-22T03:54:00Z\",\"metric\":\"cpu\",\"labels\":{\"pod\":\"cart-1\",\"service\":\"cart\"},\"score\":0.997,\"end\":null,\"value\":null}\n"
    );
}

#[test]
fn a_column_of_several_kinds_is_json_text() {
    assert_eq!(
        lines(&replayed(), "SELECT seq, body FROM ledger ORDER BY seq"),
        "{\"seq\":0,\"body\":\"{\\\"n\\\":1}\"}\n{\"seq\":1,\"body\":\"\\\"all\\\"\"}\n{\"seq\":2,\"body\":null}\n"
    );
}

#[test]
fn an_empty_file_is_an_empty_table() {
    assert_eq!(
        lines(&replayed(), "SELECT count(*) AS n FROM remediations"),
        "{\"n\":0}\n"
    );
}

#[test]
fn what_is_asked_of_an_empty_file_is_nothing_and_no_error() {
    for sql in [
        "SELECT action, target FROM remediations ORDER BY at",
        "SELECT r.action, count(*) FROM remediations AS r WHERE r.rung = 'autonomous' GROUP BY r.action",
    ] {
        assert_eq!(lines(&replayed(), sql), "");
        let (rows, text) = ask(&replayed(), sql, Format::Table { rows: 2 }).unwrap();
        assert_eq!((rows, text.as_str()), (0, ""));
    }
    for (sql, told) in [
        ("SELECT no_such_column FROM anomalies", "no_such_column"),
        ("SELECT action FROM remediations JOIN anomalies ON true", "action"),
        ("SELECT action FROM remediations WHERE", "an expression"),
        ("SELECT action FROM no_such_table", "no_such_table"),
    ] {
        let error = ask(&replayed(), sql, Format::Ndjson).unwrap_err().to_string();
        assert!(error.contains(told), "{sql}: {error}");
    }
}

#[test]
fn a_table_is_cut_with_a_note_of_how_much_there_is() {
    let (rows, text) = ask(
        &replayed(),
        "SELECT id FROM anomalies ORDER BY id",
        Format::Table { rows: 2 },
    )
    .unwrap();
    assert_eq!(rows, 3);
    assert_eq!(text, "+----+\n| id |\n+----+\n| a1 |\n| a2 |\n+----+\n2 of 3 rows\n");
    let (_, text) = ask(
        &replayed(),
        "SELECT id FROM anomalies WHERE false",
        Format::Table { rows: 2 },
    )
    .unwrap();
    assert_eq!(text, "+----+\n| id |\n+----+\n+----+\n");
}

#[test]
fn archives_of_parquet_and_ndjson_are_tables_by_their_folder() {
    let folder = folder(&[
        ("old/2022/a.ndjson", "{\"n\":1}\n"),
        ("old/2023/b.ndjson", "{\"n\":2}\n\n{\"n\":3}\n"),
    ]);
    let schema = Schema::new(vec![
        Field::new("metric", DataType::Utf8, false),
        Field::new("value", DataType::Float64, false),
    ]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["cpu", "cpu"])),
        Arc::new(Float64Array::from(vec![1.0, 3.0])),
    ];
    let batch = RecordBatch::try_new(Arc::new(schema), columns).unwrap();
    fs::create_dir_all(folder.path().join("2022-08-22")).unwrap();
    let file = fs::File::create(folder.path().join("2022-08-22/part-0.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    assert_eq!(lines(&folder, "SELECT sum(n) AS n FROM old"), "{\"n\":6}\n");
    assert_eq!(
        lines(&folder, "SELECT metric, avg(value) AS mean FROM _2022_08_22 GROUP BY 1"),
        "{\"metric\":\"cpu\",\"mean\":2.0}\n"
    );
}

#[test]
fn what_cannot_be_asked_is_refused_with_the_place_and_the_tables() {
    let folder = replayed();
    let refused = |sql| ask(&folder, sql, Format::Ndjson).unwrap_err();
    let expected: Vec<_> = REFUSED.iter().map(|(sql, error)| (*sql, (*error).to_owned())).collect();
    assert_eq!(
        REFUSED.iter().map(|(sql, _)| (*sql, refused(sql))).collect::<Vec<_>>(),
        expected
    );
}

const REFUSED: &[(&str, &str)] = &[
    (
        "SELECT id FROM anomaly",
        "line 1, column 16: table 'datafusion.public.anomaly' not found; there are the tables anomalies, incidents, ledger, remediations",
    ),
    (
        "SELECT service\nFROM anomalies",
        "line 1, column 8: no field named service. Valid fields are anomalies.id, anomalies.at, anomalies.metric, anomalies.labels, anomalies.score, anomalies.end, anomalies.value; there are the tables anomalies, incidents, ledger, remediations",
    ),
    (
        "SELEC 1",
        "line 1, column 1: expected: an SQL statement, found: SELEC; there are the tables anomalies, incidents, ledger, remediations",
    ),
    (
        "SELECT CAST(id AS INT) FROM anomalies",
        "the query failed: cast error: Cannot cast string 'a1' to value of Int32 type",
    ),
    (
        "CREATE TABLE x AS SELECT 1",
        "line 1, column 1: DDL not supported: CreateMemoryTable; there are the tables anomalies, incidents, ledger, remediations",
    ),
    (
        "COPY anomalies TO '/tmp/x.csv'",
        "line 1, column 1: DML not supported: COPY; there are the tables anomalies, incidents, ledger, remediations",
    ),
    (
        "INSERT INTO anomalies SELECT * FROM anomalies",
        "line 1, column 1: DML not supported: Insert Into; there are the tables anomalies, incidents, ledger, remediations",
    ),
    (
        "SET a.b = 1",
        "line 1, column 1: statement not supported: SetVariable; there are the tables anomalies, incidents, ledger, remediations",
    ),
];

#[test]
fn folders_that_cannot_be_used_say_why() {
    let refused = |folder: &TempDir| {
        ask(folder, "SELECT 1", Format::Ndjson)
            .unwrap_err()
            .replace(&folder.path().display().to_string(), "DIR")
    };
    assert_eq!(
        refused(&folder(&[("x.json", "{}")])),
        "DIR: no .ndjson, .jsonl or .parquet file in it; is it a folder that a replay wrote?"
    );
    assert_eq!(
        refused(&folder(&[("a.ndjson", "{}"), ("A.jsonl", "{}")])),
        "DIR/A.jsonl and DIR/a.ndjson would both be table a: rename or move one"
    );
    assert_eq!(
        refused(&folder(&[("a/x.ndjson", "{}"), ("a/y.parquet", "")])),
        "DIR/a: both NDJSON and Parquet in it; keep one kind in a folder"
    );
    assert_eq!(
        refused(&folder(&[("a.ndjson", "{\"n\":1}\n{\"n\":")])),
        "DIR/a.ndjson, line 2: no JSON object: EOF while parsing a value at line 1 column 5"
    );
    assert!(refused(&folder(&[("a.parquet", "nonsense")])).starts_with("DIR/a.parquet: "));
    let gone = within(Query::open(Path::new("/nowhere/at/all")))
        .unwrap_err()
        .to_string();
    assert_eq!(gone, "/nowhere/at/all: No such file or directory (os error 2)");
}
