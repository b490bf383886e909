//! A sample as its fields come in, in whatever order and of whatever type.

use std::{borrow::Cow, fmt};

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use suture_event::Timestamp;

use super::super::{
    DecodeError, Limits, PointKind, RawKey, SampleRef, Sink,
    sample::{Pairs, excerpt, seal, too_many_labels},
    tally::Tally,
};

/// What has been read of one sample. Reading goes on after something unfit, so that the next element is found.
pub(super) struct Draft<'a> {
    ts: Option<Timestamp>,
    metric: Option<Cow<'a, str>>,
    value: Option<f64>,
    labels: Pairs<'a>,
    /// Labels beyond the limit, which are counted only.
    more_labels: usize,
    problem: Option<DecodeError>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(labels: Pairs<'a>) -> Self {
        Self {
            ts: None,
            metric: None,
            value: None,
            labels,
            more_labels: 0,
            problem: None,
        }
    }

    pub(super) fn clear(&mut self) {
        let mut labels = std::mem::take(&mut self.labels);
        labels.clear();
        *self = Self::new(labels);
    }

    pub(super) fn into_labels(self) -> Pairs<'a> {
        self.labels
    }

    fn note(&mut self, problem: DecodeError) {
        self.problem.get_or_insert(problem);
    }

    fn set_ts(&mut self, loose: Loose<'a>) {
        const HELP: &str = "write milliseconds since the epoch or RFC 3339, such as 2022-08-22T03:54:00Z";
        let ts = match &loose {
            Loose::Int(number) => Timestamp::from_number(*number).ok(),
            Loose::Float(number) => Timestamp::from_fraction(*number).ok(),
            Loose::Text(text) => text.parse().ok(),
            _ => None,
        };
        match ts {
            Some(ts) => self.ts = Some(ts),
            None => self.note(DecodeError::unfit("ts", loose, HELP)),
        }
    }

    fn set_value(&mut self, loose: Loose<'a>) {
        let value = match &loose {
            #[allow(clippy::cast_precision_loss)] // a JSON number is a double
            Loose::Int(whole) => Some(*whole as f64),
            Loose::Float(value) if value.is_finite() => Some(*value),
            _ => None,
        };
        match value {
            Some(value) => self.value = Some(value),
            None => self.note(DecodeError::unfit(
                "value",
                loose,
                "write a finite number, without quotes",
            )),
        }
    }

    fn set_metric(&mut self, loose: Loose<'a>) {
        match loose {
            Loose::Text(text) => self.metric = Some(text),
            other => self.note(DecodeError::unfit("metric", other, "write the metric's name as a text")),
        }
    }

    fn add_label(&mut self, name: Cow<'a, str>, loose: Loose<'a>, limits: &Limits) {
        let value = match loose {
            Loose::Text(text) => text,
            Loose::Int(whole) => Cow::Owned(whole.to_string()),
            Loose::Float(number) => Cow::Owned(number.to_string()),
            Loose::Bool(true) => Cow::Borrowed("true"),
            Loose::Bool(false) => Cow::Borrowed("false"),
            Loose::Null => return,
            Loose::Nested(_) => {
                let field = format!("labels.{}", excerpt(&name));
                return self.note(DecodeError::unfit(field, loose, "write a text"));
            }
        };
        if self.labels.len() < limits.labels {
            self.labels.push((name, value));
        } else {
            self.more_labels += 1;
        }
    }
}

/// A record being decoded.
pub(super) struct Record<'r> {
    pub(super) limits: &'r Limits,
    pub(super) identity: &'r mut Vec<u8>,
    pub(super) sink: &'r mut dyn Sink,
    pub(super) tally: Tally,
}

impl<'r> Record<'r> {
    /// Hands the sample on, or says why not. `key` names its series by the bytes it was read from.
    pub(super) fn finish(&mut self, draft: &mut Draft<'_>, key: Option<RawKey>) -> Result<(), DecodeError> {
        if let Some(problem) = draft.problem.take() {
            return Err(problem);
        }
        if draft.more_labels > 0 {
            return Err(too_many_labels(draft.labels.len() + draft.more_labels, self.limits));
        }
        let Some(metric) = draft.metric.as_deref() else {
            return Err(DecodeError::Missing {
                field: "metric",
                help: "name what is measured",
            });
        };
        let Some(ts) = draft.ts else {
            return Err(DecodeError::Missing {
                field: "ts",
                help: "say when it was measured, in milliseconds since the epoch or as RFC 3339",
            });
        };
        let Some(value) = draft.value else {
            return Err(DecodeError::Missing {
                field: "value",
                help: "write what was measured, a number",
            });
        };
        let hash = seal(metric, &mut draft.labels, self.limits, self.identity)?;
        let sample = SampleRef {
            ts,
            metric,
            value,
            labels: &draft.labels,
            hash,
            identity: self.identity,
            kind: PointKind::Unspecified,
            start: None,
            signal: None,
        };
        self.sink.sample(sample, key);
        self.tally.decoded.accepted += 1;
        Ok(())
    }

    /// Deals with an element of an array.
    pub(super) fn take(&mut self, draft: &mut Draft<'_>, key: Option<RawKey>) {
        match self.finish(draft, key) {
            Ok(()) => self.tally.index += 1,
            Err(error) => self.reject(draft, error),
        }
    }

    pub(super) fn reject(&mut self, draft: &Draft<'_>, error: DecodeError) {
        self.tally.reject(draft.metric.as_deref().map(excerpt), error);
    }

    /// Reads the elements of an array one after the other.
    pub(super) fn elements<'s, 'a>(&'s mut self, draft: &'s mut Draft<'a>) -> ArraySeed<'s, 'r, 'a> {
        ArraySeed { record: self, draft }
    }
}

pub(super) struct ArraySeed<'s, 'r, 'a> {
    record: &'s mut Record<'r>,
    draft: &'s mut Draft<'a>,
}

impl<'de> DeserializeSeed<'de> for ArraySeed<'_, '_, 'de> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ArraySeed<'_, '_, 'de> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of samples")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self { record, draft } = self;
        loop {
            draft.clear();
            let limits = record.limits;
            if seq.next_element_seed(ElementSeed { draft, limits })?.is_none() {
                return Ok(());
            }
            if record.tally.is_beyond() {
                return Err(de::Error::custom("too many samples"));
            }
            record.take(draft, None);
        }
    }
}

/// Reads one element into a draft. Fails only where the text is no JSON.
pub(super) struct ElementSeed<'s, 'a> {
    pub(super) draft: &'s mut Draft<'a>,
    pub(super) limits: &'s Limits,
}

const NO_OBJECT: &str = "write an object with ts, metric, value and labels";

impl<'de> DeserializeSeed<'de> for ElementSeed<'_, 'de> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ElementSeed<'_, 'de> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sample")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { draft, limits } = self;
        while let Some(field) = map.next_key::<Field>()? {
            match field {
                Field::Ts => draft.set_ts(map.next_value()?),
                Field::Metric => draft.set_metric(map.next_value()?),
                Field::Value => draft.set_value(map.next_value()?),
                Field::Labels => map.next_value_seed(LabelsSeed { draft, limits })?,
                Field::ResourceMetrics => {
                    map.next_value_seed(Skip(0))?;
                    let help = "set `format: otlp_json` for this topic";
                    draft.note(DecodeError::unfit("resourceMetrics", "a field of OTLP/JSON", help));
                }
                Field::Other => {
                    map.next_value_seed(Skip(0))?;
                }
            }
        }
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<(), A::Error> {
        Skip(0).seq(seq)?;
        self.draft.note(DecodeError::unfit("sample", "an array", NO_OBJECT));
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        self.draft.note(DecodeError::unfit("sample", "a text", NO_OBJECT));
        Ok(())
    }
    fn visit_u64<E>(self, v: u64) -> Result<(), E> {
        self.draft
            .note(DecodeError::unfit("sample", format_args!("the number {v}"), NO_OBJECT));
        Ok(())
    }
    fn visit_i64<E>(self, v: i64) -> Result<(), E> {
        self.draft
            .note(DecodeError::unfit("sample", format_args!("the number {v}"), NO_OBJECT));
        Ok(())
    }
    fn visit_f64<E>(self, v: f64) -> Result<(), E> {
        self.draft
            .note(DecodeError::unfit("sample", format_args!("the number {v}"), NO_OBJECT));
        Ok(())
    }
    fn visit_bool<E>(self, v: bool) -> Result<(), E> {
        self.draft.note(DecodeError::unfit("sample", v, NO_OBJECT));
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        self.draft.note(DecodeError::unfit("sample", "null", NO_OBJECT));
        Ok(())
    }
}

enum Field {
    Ts,
    Metric,
    Value,
    Labels,
    ResourceMetrics,
    Other,
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldVisitor;
        impl Visitor<'_> for FieldVisitor {
            type Value = Field;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field's name")
            }
            fn visit_str<E>(self, name: &str) -> Result<Field, E> {
                Ok(match name {
                    "ts" => Field::Ts,
                    "metric" => Field::Metric,
                    "value" => Field::Value,
                    "labels" => Field::Labels,
                    "resourceMetrics" => Field::ResourceMetrics,
                    _ => Field::Other,
                })
            }
        }
        deserializer.deserialize_identifier(FieldVisitor)
    }
}

struct LabelsSeed<'s, 'a> {
    draft: &'s mut Draft<'a>,
    limits: &'s Limits,
}

impl<'de> DeserializeSeed<'de> for LabelsSeed<'_, 'de> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

const NO_LABELS: &str = "write an object of label names and texts";

impl<'de> Visitor<'de> for LabelsSeed<'_, 'de> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of labels")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = map.next_key()? {
            let value = map.next_value()?;
            self.draft.add_label(name, value, self.limits);
        }
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<(), A::Error> {
        Skip(0).seq(seq)?;
        self.draft.note(DecodeError::unfit("labels", "an array", NO_LABELS));
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        self.draft.note(DecodeError::unfit("labels", "a text", NO_LABELS));
        Ok(())
    }
    fn visit_u64<E>(self, v: u64) -> Result<(), E> {
        self.draft
            .note(DecodeError::unfit("labels", format_args!("the number {v}"), NO_LABELS));
        Ok(())
    }
    fn visit_i64<E>(self, v: i64) -> Result<(), E> {
        self.draft
            .note(DecodeError::unfit("labels", format_args!("the number {v}"), NO_LABELS));
        Ok(())
    }
    fn visit_f64<E>(self, v: f64) -> Result<(), E> {
        self.draft
            .note(DecodeError::unfit("labels", format_args!("the number {v}"), NO_LABELS));
        Ok(())
    }
    fn visit_bool<E>(self, v: bool) -> Result<(), E> {
        self.draft.note(DecodeError::unfit("labels", v, NO_LABELS));
        Ok(())
    }
    /// No labels at all is no mistake.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// A label's name, borrowed where it has no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a label's name")
            }
            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(name)))
            }
            fn visit_str<E>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}

/// Any JSON value that nobody asked for, this far below one that somebody did. Not `IgnoredAny`: sonic-rs skips that
/// without a bound on depth, and a record of 100,000 brackets would overflow the stack and end the process.
#[derive(Clone, Copy)]
struct Skip(u8);

/// How deep a value may be nested: a sample's own fields need 2 levels.
const MOST_LEVELS: u8 = 32;

impl Skip {
    fn below<E: de::Error>(self) -> Result<Self, E> {
        if self.0 < MOST_LEVELS {
            Ok(Self(self.0 + 1))
        } else {
            Err(E::custom("nested more than 32 levels deep"))
        }
    }

    fn seq<'de, A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let below = self.below()?;
        while seq.next_element_seed(below)?.is_some() {}
        Ok(())
    }

    fn map<'de, A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let below = self.below()?;
        while map.next_key::<Name<'_>>()?.is_some() {
            map.next_value_seed(below)?;
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Skip {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(LooseVisitor(self)).map(|_| ())
    }
}

/// Any JSON value, as far as a field can use it.
enum Loose<'a> {
    Text(Cow<'a, str>),
    Int(i64),
    Float(f64),
    Bool(bool),
    Null,
    Nested(&'static str),
}

impl fmt::Display for Loose<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "the text {:?}", excerpt(text)),
            Self::Int(whole) => write!(f, "the number {whole}"),
            Self::Float(number) => write!(f, "the number {number:?}"),
            Self::Bool(truth) => write!(f, "{truth}"),
            Self::Null => f.write_str("null"),
            Self::Nested(what) => f.write_str(what),
        }
    }
}

impl<'de> Deserialize<'de> for Loose<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LooseVisitor(Skip(0)))
    }
}

struct LooseVisitor(Skip);

impl<'de> Visitor<'de> for LooseVisitor {
    type Value = Loose<'de>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_borrowed_str<E>(self, v: &'de str) -> Result<Loose<'de>, E> {
        Ok(Loose::Text(Cow::Borrowed(v)))
    }
    fn visit_str<E>(self, v: &str) -> Result<Loose<'de>, E> {
        Ok(Loose::Text(Cow::Owned(v.to_owned())))
    }
    fn visit_i64<E>(self, v: i64) -> Result<Loose<'de>, E> {
        Ok(Loose::Int(v))
    }
    #[allow(clippy::cast_precision_loss)] // beyond i64 a JSON number is a double
    fn visit_u64<E>(self, v: u64) -> Result<Loose<'de>, E> {
        Ok(i64::try_from(v).map_or(Loose::Float(v as f64), Loose::Int))
    }
    fn visit_f64<E>(self, v: f64) -> Result<Loose<'de>, E> {
        Ok(Loose::Float(v))
    }
    fn visit_bool<E>(self, v: bool) -> Result<Loose<'de>, E> {
        Ok(Loose::Bool(v))
    }
    fn visit_unit<E>(self) -> Result<Loose<'de>, E> {
        Ok(Loose::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Loose<'de>, A::Error> {
        self.0.seq(seq)?;
        Ok(Loose::Nested("an array"))
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Loose<'de>, A::Error> {
        self.0.map(map)?;
        Ok(Loose::Nested("an object"))
    }
}
