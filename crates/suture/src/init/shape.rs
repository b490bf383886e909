//! Where in JSON of no known tool a sample's parts are, by what they are called and what they look like.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use suture_codec::{
    Fields,
    fields::{MOST_PATHS, Path, Paths},
};
use suture_event::Timestamp;

/// What fields are usually called, the likeliest first.
const TIMES: [&str; 14] = [
    "ts",
    "time",
    "timestamp",
    "@timestamp",
    "at",
    "date",
    "datetime",
    "event_time",
    "eventTime",
    "created_at",
    "createdAt",
    "time_ms",
    "epoch",
    "t",
];
const METRICS: [&str; 8] = [
    "metric",
    "metric_name",
    "metricName",
    "name",
    "measurement",
    "series",
    "key",
    "signal",
];
const VALUES: [&str; 8] = [
    "value",
    "val",
    "v",
    "measure",
    "reading",
    "values",
    "fields",
    "measurements",
];
const LABELS: [&str; 7] = [
    "labels",
    "tags",
    "dimensions",
    "attributes",
    "resource",
    "meta",
    "metadata",
];

/// Times from 2000 to 2100 are likely.
const LIKELY: std::ops::Range<i64> = 946_684_800_000..4_102_444_800_000;
/// A field counts where so many of ten records have it.
const MOST: usize = 8;

/// What one field of the records is like.
#[derive(Default)]
struct Field {
    records: usize,
    numbers: usize,
    /// Numbers that are no texts.
    figures: usize,
    texts: usize,
    times: usize,
    /// Objects whose values are texts, and objects with numbers.
    of_texts: usize,
    of_numbers: usize,
}

fn is_time(value: &Value) -> bool {
    let at = match value {
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Timestamp::from_number(whole).ok(),
            None => number.as_f64().and_then(|number| Timestamp::from_fraction(number).ok()),
        },
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    // numbers of this century's first weeks since 1970 are no times, whatever their unit
    let large = value.as_f64().is_none_or(|number| number.abs() >= 9e8);
    large && at.is_some_and(|at: Timestamp| LIKELY.contains(&at.as_millis()))
}

fn is_number(value: &Value) -> bool {
    match value {
        Value::Number(_) => true,
        Value::String(text) => text.parse::<f64>().is_ok_and(f64::is_finite),
        _ => false,
    }
}

/// A path to a field at the top.
fn path(name: &str) -> Path {
    if name.contains(['.', '/', '~']) {
        return Path::new(format!("/{}", name.replace('~', "~0").replace('/', "~1")));
    }
    Path::new(name)
}

fn paths(names: &[String]) -> Paths {
    match names {
        [one] => Paths::One(path(one)),
        names => Paths::Several(names.iter().take(MOST_PATHS).map(|name| path(name)).collect()),
    }
}

/// A mapping by which most of the records can be read, where there is one.
pub(super) fn guess(records: &[Vec<u8>]) -> Option<Fields> {
    let mut fields: BTreeMap<String, Field> = BTreeMap::new();
    let mut objects = 0;
    for record in records {
        let text = std::str::from_utf8(record).ok()?;
        let first = serde_json::Deserializer::from_str(text)
            .into_iter::<Value>()
            .next()?
            .ok()?;
        let object = match first {
            Value::Object(object) => object,
            Value::Array(list) => match list.into_iter().next()? {
                Value::Object(object) => object,
                _ => return None,
            },
            _ => return None,
        };
        objects += 1;
        note(&mut fields, &object);
    }
    let often = |field: &Field| field.records * 10 >= objects * MOST;
    fields.retain(|_, field| often(field));
    let whole = |count: usize, field: &Field| count * 10 >= field.records * MOST;
    let first_of = |names: &[&str], fits: &dyn Fn(&Field) -> bool| -> Option<String> {
        let found = names.iter().find(|name| fields.get(**name).is_some_and(fits));
        found.map(|name| (*name).to_owned())
    };

    let time_like = |field: &Field| whole(field.times, field);
    let time = first_of(&TIMES, &time_like).or_else(|| {
        let mut any = fields.iter().filter(|(_, field)| time_like(field));
        any.next().map(|(name, _)| name.clone())
    })?;
    let text_like = |field: &Field| whole(field.texts, field);
    let metric = first_of(&METRICS, &text_like).filter(|name| *name != time);
    let value = first_of(&VALUES, &|field| {
        whole(field.numbers, field) || whole(field.of_numbers, field)
    });
    let values = match value {
        Some(one) => vec![one],
        None => {
            // a text that could be a number, as a status is, is a label where there are numbers that are none
            let of = |fits: &dyn Fn(&Field) -> bool| -> Vec<String> {
                let fit = fields
                    .iter()
                    .filter(|(name, field)| **name != time && fits(field) && !whole(field.times, field));
                fit.map(|(name, _)| name.clone()).collect()
            };
            match of(&|field| whole(field.figures, field)) {
                none if none.is_empty() => of(&|field| whole(field.numbers, field)),
                figures => figures,
            }
        }
    };
    if values.is_empty() {
        return None;
    }
    let mut labels: Vec<String> = Vec::new();
    for (name, field) in &fields {
        let taken = *name == time || Some(name) == metric.as_ref() || values.contains(name);
        let named = LABELS.contains(&name.as_str()) && field.of_texts + field.of_numbers > 0;
        if !taken && (named || whole(field.of_texts, field) || (text_like(field) && !time_like(field))) {
            labels.push(name.clone());
        }
    }
    Some(Fields {
        each: None,
        metric: metric.as_deref().map(path),
        value: paths(&values),
        time: path(&time),
        labels: paths(&labels),
    })
}

fn note(fields: &mut BTreeMap<String, Field>, object: &Map<String, Value>) {
    for (name, value) in object {
        if fields.len() >= 64 && !fields.contains_key(name) {
            continue;
        }
        let field = fields.entry(name.clone()).or_default();
        field.records += 1;
        field.numbers += usize::from(is_number(value));
        field.figures += usize::from(value.is_number());
        field.texts += usize::from(value.is_string());
        field.times += usize::from(is_time(value));
        if let Some(inner) = value.as_object() {
            field.of_texts += usize::from(!inner.is_empty() && inner.values().all(Value::is_string));
            field.of_numbers += usize::from(inner.values().any(Value::is_number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guessed(records: &[&str]) -> Option<Value> {
        let records: Vec<Vec<u8>> = records.iter().map(|record| record.as_bytes().to_vec()).collect();
        guess(&records).map(|fields| serde_json::to_value(fields).unwrap_or_default())
    }

    #[test]
    fn parts_are_told_by_what_they_are_called_and_what_they_look_like() {
        for (record, mapping) in [
            (
                r#"{"at":1780272000,"sensor":"s1","service":"cart","temperature":21.5,"load":0.3}"#,
                serde_json::json!({"value":["load","temperature"],"time":"at","labels":["sensor","service"]}),
            ),
            (
                r#"{"@timestamp":"2026-06-01T00:00:00Z","name":"cpu","v":"0.5","tags":{"app":"cart"}}"#,
                serde_json::json!({"metric":"name","value":"v","time":"@timestamp","labels":"tags"}),
            ),
            (
                r#"{"when":1780272000000,"http.status":"200","count":7}"#,
                serde_json::json!({"value":"count","time":"when","labels":"/http.status"}),
            ),
            (
                r#"[{"time":1780272000,"fields":{"a":1,"b":2},"labels":{"host":"h1"}}]"#,
                serde_json::json!({"value":"fields","time":"time","labels":"labels"}),
            ),
        ] {
            assert_eq!(guessed(&[record]), Some(mapping), "{record}");
        }
        for record in [
            r#"{"service":"cart","load":0.3}"#,
            r#"{"at":1780272000,"service":"cart"}"#,
            r#"{"at":12,"load":1}"#,
            "no json",
            "[]",
        ] {
            assert_eq!(guessed(&[record]), None, "{record}");
        }
    }
}
