//! Expressions as users write them, and what they see when they get them wrong.

use proptest::prelude::*;
use suture_event::Timestamp;

use super::*;

struct Samples {
    metric: Vec<&'static str>,
    labels: Vec<Labels>,
    value: Vec<f64>,
    ts: Vec<Timestamp>,
}

/// Four samples; the last has no labels.
fn samples() -> Samples {
    let labels = |pairs: &[(&'static str, &'static str)]| Labels::new(pairs.iter().copied()).unwrap();
    Samples {
        metric: vec!["node_cpu_seconds", "debug.heap", "node_cpu_seconds", "heap_used"],
        labels: vec![
            labels(&[("env", "prod"), ("service", "cart"), ("k8s.pod.name", "cart-1")]),
            labels(&[("env", "prod")]),
            labels(&[("env", "test"), ("service", "cart")]),
            labels(&[]),
        ],
        value: vec![1.5, -2.0, 0.0, 1e300],
        ts: [0, 1_661_140_440_000, 1_661_140_440_500, 1_700_000_000_000]
            .map(Timestamp::from_millis)
            .to_vec(),
    }
}

impl Samples {
    fn with<T>(&self, range: std::ops::Range<usize>, run: impl FnOnce(Rows<'_>) -> T) -> T {
        let labels: Vec<&Labels> = self.labels.iter().collect();
        run(Rows {
            metric: &self.metric[range.clone()],
            labels: &labels[range.clone()],
            value: &self.value[range.clone()],
            ts: &self.ts[range],
        })
    }
}

fn keep(text: &str) -> Result<Vec<bool>, String> {
    let filter = SqlExpressions::new()
        .compile_filter(text)
        .map_err(|error| error.to_string())?;
    samples().with(0..4, |rows| filter.keep(rows))
}

fn values(text: &str) -> Result<Vec<Option<f64>>, String> {
    let value = SqlExpressions::new()
        .compile_value(text)
        .map_err(|error| error.to_string())?;
    samples().with(0..4, |rows| ValueOf::value(&value, rows))
}

#[test]
fn conditions_keep_the_samples_they_are_true_of() {
    let (yes, no) = (true, false);
    for (text, expected) in [
        ("metric LIKE '%cpu%' AND labels['env'] = 'prod'", [yes, no, no, no]),
        ("metric NOT LIKE 'debug.%'", [yes, no, yes, yes]),
        ("METRIC = 'heap_used'", [no, no, no, yes]),
        ("labels['k8s.pod.name'] IS NOT NULL", [yes, no, no, no]),
        ("labels['service'] <> 'pay'", [yes, no, yes, no]),
        ("labels.env = 'prod'", [yes, yes, no, no]),
        ("labels['env'] IN ('prod', 'stage')", [yes, yes, no, no]),
        ("metric ~ '^node_.*_seconds$'", [yes, no, yes, no]),
        ("starts_with(metric, 'debug')", [no, yes, no, no]),
        ("value > 0 OR labels['env'] = 'test'", [yes, no, yes, yes]),
        ("value BETWEEN -2 AND 1", [no, yes, yes, no]),
        ("ts >= '2022-08-22T03:54:00.250Z'", [no, no, yes, yes]),
        ("date_part('hour', ts) = 3", [no, yes, yes, no]),
        (
            "date_part('hour', ts AT TIME ZONE 'Europe/Berlin') = 5",
            [no, yes, yes, no],
        ),
        ("coalesce(labels['service'], 'none') = 'none'", [no, yes, no, yes]),
        ("true", [yes; 4]),
        ("NULL = 1", [no; 4]),
    ] {
        assert_eq!(keep(text), Ok(expected.to_vec()), "{text}");
    }
}

#[test]
fn values_are_numbers_and_what_is_none_drops_the_sample() {
    for (text, expected) in [
        ("value * 1000", [Some(1_500.0), Some(-2_000.0), Some(0.0), Some(1e303)]),
        (
            "CASE WHEN value < 0 THEN NULL ELSE value END",
            [Some(1.5), None, Some(0.0), Some(1e300)],
        ),
        (
            "CASE WHEN labels['env'] = 'prod' THEN 1 ELSE 0 END",
            [Some(1.0), Some(1.0), Some(0.0), Some(0.0)],
        ),
        ("value / 0", [None; 4]),
        ("1 / value", [Some(1.0 / 1.5), Some(-0.5), None, Some(1.0 / 1e300)]),
        ("value * 1e300", [Some(1.5e300), Some(-2e300), Some(0.0), None]),
        ("nullif(value, 0)", [Some(1.5), Some(-2.0), None, Some(1e300)]),
        ("length(metric)", [Some(16.0), Some(10.0), Some(16.0), Some(9.0)]),
        ("7", [Some(7.0); 4]),
    ] {
        assert_eq!(values(text), Ok(expected.to_vec()), "{text}");
    }
}

#[test]
fn whether_a_condition_reads_the_sample_is_known() {
    let depends = |text| SqlExpressions::new().compile_filter(text).unwrap().depends_on_sample();
    assert!(!depends("metric = 'a' AND labels['env'] = 'prod'"));
    assert!(!depends("true"));
    assert!(depends("metric = 'a' AND value > 1"));
    assert!(depends("ts > '2022-01-01T00:00:00Z'"));
}

#[test]
fn mistakes_are_shown_with_their_place_and_what_to_write() {
    let seen = |text: &&'static str| (*text, keep(text).map_or_else(|e| e, |kept| format!("{kept:?}")));
    let expected: Vec<_> = MISTAKES_IN_CONDITIONS
        .iter()
        .map(|(text, error)| (*text, (*error).to_owned()))
        .collect();
    assert_eq!(
        MISTAKES_IN_CONDITIONS
            .iter()
            .map(|(text, _)| seen(text))
            .collect::<Vec<_>>(),
        expected
    );
    let seen = |text: &&'static str| (*text, values(text).map_or_else(|e| e, |found| format!("{found:?}")));
    let expected: Vec<_> = MISTAKES_IN_VALUES
        .iter()
        .map(|(text, error)| (*text, (*error).to_owned()))
        .collect();
    assert_eq!(
        MISTAKES_IN_VALUES
            .iter()
            .map(|(text, _)| seen(text))
            .collect::<Vec<_>>(),
        expected
    );
}

const MISTAKES_IN_CONDITIONS: &[(&str, &str)] = &[
    (
        "",
        "line 1, column 1: it is empty; leave the field out to keep every sample as it is",
    ),
    ("metric LIKE", "line 1, column 12: expected: an expression, found: EOF"),
    (
        "metric = 'a' AND\n  AND value > 1",
        "line 2, column 7: expected: end of expression, found: value",
    ),
    ("metric = 'a", "line 1, column 10: unterminated string literal"),
    (
        "metric = 'a' extra words",
        "line 1, column 14: expected: end of expression, found: extra",
    ),
    (
        "value > 1 AND service = 'cart'",
        "line 1, column 15: there is no column \"service\"; there are metric, labels, value and ts; a label is written labels['service']",
    ),
    (
        "labels[\"env\"] = 'prod'",
        "line 1, column 8: there is no column \"env\"; texts are written in single quotes, as in labels['env']",
    ),
    (
        "metric",
        "line 1, column 1: a condition must be true or false, and this is a text; compare it with something, as in value > 0",
    ),
    (
        "value + 1",
        "line 1, column 1: a condition must be true or false, and this is a number; compare it with something, as in value > 0",
    ),
    (
        "labels['env']",
        "line 1, column 1: a condition must be true or false, and this is a text; compare it with something, as in value > 0",
    ),
    (
        "metric > 5 AND lenght(metric) = 2",
        "line 1, column 16: invalid function 'lenght'. Did you mean 'length'?",
    ),
    (
        "labels = 'prod'",
        "line 1, column 1: labels is a map, and is used here as if it were one value; take one label, as in labels['service']",
    ),
    (
        "value > 'high'",
        "line 1, column 10: cast error: Cannot cast string 'high' to value of Float64 type",
    ),
    (
        "random() < 0.1",
        "line 1, column 1: random() differs from call to call; a replay must find the same",
    ),
    (
        "ts > now()",
        "line 1, column 6: now() reads the clock; use ts, the time of the sample",
    ),
    (
        "current_date() > ts",
        "line 1, column 1: current_date() reads the clock; use ts, the time of the sample",
    ),
    (
        "sum(value) > 1",
        "line 1, column 1: sum() is over many samples; set `aggregate` of a signal instead",
    ),
    (
        "row_number() OVER () > 1",
        "line 1, column 1: row_number() is over many samples; an expression sees one sample at a time",
    ),
    (
        "value > (SELECT 1)",
        "line 1, column 10: there is nothing to select from; an expression sees one sample at a time",
    ),
    (
        "value > $1",
        "line 1, column 9: $1 stands for nothing; write the value itself",
    ),
    (
        "length(metric, 2) = 1",
        "line 1, column 1: function 'character_length' expects 1 arguments but received 2",
    ),
    (
        "value > 1; DROP TABLE x",
        "line 1, column 10: expected: end of expression, found: ;",
    ),
];

const MISTAKES_IN_VALUES: &[(&str, &str)] = &[
    (
        "metric",
        "line 1, column 1: a value must be a number, and this is a text; cast it, as in CAST(labels['size'] AS DOUBLE)",
    ),
    (
        "value > 1",
        "line 1, column 1: a value must be a number, and this is true or false; write CASE WHEN … THEN 1 ELSE 0 END",
    ),
    (
        "NULL",
        "line 1, column 1: a value must be a number, and this is NULL; write an expression of value, as in value * 1000",
    ),
    ("value *", "line 1, column 8: expected: an expression, found: EOF"),
    (
        "labels['size'] || 'x'",
        "line 1, column 1: a value must be a number, and this is a text; cast it, as in CAST(labels['size'] AS DOUBLE)",
    ),
];

#[test]
fn what_fails_on_some_rows_says_so() {
    let expected = "\"CAST(metric AS DOUBLE) > 1\" cannot be evaluated: cast error: Cannot cast string 'node_cpu_seconds' to value of Float64 type";
    assert_eq!(keep("CAST(metric AS DOUBLE) > 1").unwrap_err(), expected);
}

#[test]
fn deep_and_long_expressions_are_refused_and_do_not_overflow_the_stack() {
    for text in [
        "(".repeat(2_000) + "value" + &")".repeat(2_000),
        "NOT ".repeat(1_000) + "true",
        vec!["value"; 680].join(" + ") + " > 1",
        vec!["true"; 400].join(" AND "),
        vec!["metric = 'a'"; 250].join(" OR "),
        "- ".repeat(2_000) + "value > 1",
        "~".repeat(4_000) + "1 > 1",
        "CASE ".repeat(800),
        "x".repeat(5_000),
        "x".repeat(4_000),
    ] {
        let error = keep(&text).unwrap_err();
        assert!(error.starts_with("line 1, column "), "{error}");
    }
    assert_eq!(keep(&vec!["metric <> 'a'"; 120].join(" AND ")), Ok(vec![true; 4]));
}

#[test]
fn the_engine_is_told_the_text_and_the_place() {
    let Err(error) = Expressions::filter(&SqlExpressions::new(), "metrics = 'a'") else {
        panic!("compiled")
    };
    assert_eq!(
        error.to_string(),
        "expression \"metrics = 'a'\": line 1, column 1: there is no column \"metrics\"; there are metric, labels, value and ts; a label is written labels['metrics']"
    );
}

proptest! {
    #[test]
    fn no_split_into_batches_changes_an_answer(cut in 0..=4_usize) {
        let expressions = SqlExpressions::new();
        let filter = expressions.compile_filter("labels['env'] = 'prod' OR value > 0 AND ts > '2022-01-01T00:00:00Z'").unwrap();
        let samples = samples();
        let whole = samples.with(0..4, |rows| filter.evaluate(rows)).unwrap();
        let mut parts = samples.with(0..cut, |rows| filter.evaluate(rows)).unwrap();
        parts.extend(samples.with(cut..4, |rows| filter.evaluate(rows)).unwrap());
        prop_assert_eq!(whole, parts);
    }

    #[test]
    fn no_text_makes_it_panic(text in "[a-z'\"()<>=*+,\\[\\] 0-9.;$-]{0,40}", words in proptest::collection::vec("metric|labels|value|ts|'a'|AND|NOT|\\(|\\)|=|CASE|WHEN|LIKE|\\[|\\]|1|NULL", 0..12)) {
        let expressions = SqlExpressions::new();
        for text in [text, words.join(" ")] {
            let _ = expressions.compile_filter(&text);
            let _ = expressions.compile_value(&text);
        }
    }
}
