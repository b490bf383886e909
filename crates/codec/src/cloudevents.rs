//! The CloudEvents envelope as Kafka carries it: structured where the content type begins with `application/cloudevents`,
//! otherwise binary where there are `ce_` headers, otherwise structured where the value looks like it, since many senders
//! set no headers: a JSON object with `specversion`, `type` and `data` or `data_base64`. Otherwise there is none.
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md>

use std::{borrow::Cow, collections::BTreeMap};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, value::RawValue};
use suture_event::Timestamp;

use super::{DecodeError, EncodeError, Format, Message, sample::excerpt};

const FORMAT: Format = Format("CloudEvents JSON");
const CONTENT_TYPE: &str = "content-type";
const STRUCTURED: &str = "application/cloudevents";
const BATCH: &str = "application/cloudevents-batch";
const PREFIX: &str = "ce_";

/// What the envelope says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    /// Unique within the source.
    pub id: String,
    /// Who sent it: a URI reference.
    pub source: String,
    /// The event's type.
    pub ty: String,
    /// What it is about.
    pub subject: Option<String>,
    /// When it happened.
    pub time: Option<Timestamp>,
    /// Media type of the data.
    pub datacontenttype: Option<String>,
    /// Every other attribute, by name.
    pub extensions: BTreeMap<String, String>,
}

/// A record without its envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The envelope's attributes; none where the record had no envelope.
    pub attributes: Option<Attributes>,
    /// The data: JSON in structured mode, and whatever the value holds otherwise.
    pub data: Cow<'a, [u8]>,
}

/// Takes a record out of its envelope, if it has one.
///
/// # Errors
/// Where the value is empty, the envelope lacks what it must have or is cut short, or a batch was sent, which the Kafka
/// binding does not have.
pub fn read<'a, 'h>(
    headers: impl IntoIterator<Item = (&'h str, &'h [u8])>,
    value: Option<&'a [u8]>,
) -> Result<Envelope<'a>, DecodeError> {
    let mut fields: BTreeMap<String, String> = BTreeMap::new();
    let mut content_type = None;
    for (name, bytes) in headers {
        let lower = name.to_ascii_lowercase();
        let attribute = lower.strip_prefix(PREFIX);
        if lower != CONTENT_TYPE && attribute.is_none() {
            continue;
        }
        let text = std::str::from_utf8(bytes).map_err(|_| {
            DecodeError::unfit(
                format!("header {}", excerpt(name)),
                "not UTF-8",
                "write headers of CloudEvents as UTF-8",
            )
        })?;
        match attribute {
            Some(attribute) => fields.insert(attribute.to_owned(), text.to_owned()),
            None => content_type.replace(text.to_owned()),
        };
    }
    let value = value.filter(|v| !v.is_empty());
    let media = content_type.as_deref().unwrap_or_default().trim().to_ascii_lowercase();
    if media.starts_with(BATCH) {
        let help = "Kafka carries one event a record: send them one by one";
        return Err(DecodeError::unfit("content-type", media, help));
    }
    if media.starts_with(STRUCTURED) {
        return read_structured(value.ok_or(DecodeError::Empty(FORMAT))?);
    }
    let value = value.ok_or(DecodeError::Empty(FORMAT))?;
    let attributes = if fields.is_empty() {
        if looks_structured(value) {
            return read_structured(value);
        }
        None
    } else {
        Some(of_headers(fields, content_type)?)
    };
    Ok(Envelope {
        attributes,
        data: Cow::Borrowed(value),
    })
}

/// Whether a value is an event in structured mode, by what it holds.
#[must_use]
pub fn looks_structured(bytes: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Peek {
        specversion: Option<IgnoredAny>,
        r#type: Option<IgnoredAny>,
        data: Option<IgnoredAny>,
        data_base64: Option<IgnoredAny>,
    }
    bytes.trim_ascii_start().first() == Some(&b'{')
        && serde_json::from_slice::<Peek>(bytes).is_ok_and(|peek| {
            peek.specversion.is_some() && peek.r#type.is_some() && (peek.data.is_some() || peek.data_base64.is_some())
        })
}

fn of_headers(mut fields: BTreeMap<String, String>, content_type: Option<String>) -> Result<Attributes, DecodeError> {
    check_version(fields.remove("specversion"), "ce_specversion")?;
    let mut take = |name: &str| fields.remove(name).filter(|text| !text.is_empty());
    let missing = |field| DecodeError::Missing {
        field,
        help: "set every required attribute of CloudEvents 1.0",
    };
    let mut attributes = Attributes {
        id: take("id").ok_or_else(|| missing("ce_id"))?,
        source: take("source").ok_or_else(|| missing("ce_source"))?,
        ty: take("type").ok_or_else(|| missing("ce_type"))?,
        subject: take("subject"),
        time: take("time").map(|text| time_of(&text, "ce_time")).transpose()?,
        datacontenttype: content_type,
        extensions: BTreeMap::new(),
    };
    attributes.extensions = fields;
    Ok(attributes)
}

#[derive(Deserialize)]
struct Structured<'a> {
    specversion: Option<String>,
    id: Option<String>,
    source: Option<String>,
    #[serde(rename = "type")]
    ty: Option<String>,
    subject: Option<String>,
    time: Option<String>,
    datacontenttype: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    data_base64: Option<String>,
    #[serde(flatten)]
    extensions: BTreeMap<String, Value>,
}

/// Reads an event in structured mode, as JSON.
///
/// # Errors
/// As [`read`].
pub fn read_structured(bytes: &[u8]) -> Result<Envelope<'_>, DecodeError> {
    let event: Structured<'_> =
        serde_json::from_slice(bytes).map_err(|error| DecodeError::of_json(FORMAT, bytes, &error))?;
    check_version(event.specversion, "specversion")?;
    let missing = |field, help| DecodeError::Missing { field, help };
    let required = "set every required attribute of CloudEvents 1.0";
    let data = match (event.data, event.data_base64) {
        (Some(raw), _) => unquoted(raw.get()),
        (None, Some(text)) => Cow::Owned(STANDARD.decode(text.trim()).map_err(|error| {
            DecodeError::unfit(
                "data_base64",
                format!("no base64 ({error})"),
                "encode with the standard alphabet",
            )
        })?),
        (None, None) => return Err(missing("data", "put the event into data or data_base64")),
    };
    let text = |value: Option<String>, field| value.filter(|v| !v.is_empty()).ok_or_else(|| missing(field, required));
    let attributes = Attributes {
        id: text(event.id, "id")?,
        source: text(event.source, "source")?,
        ty: text(event.ty, "type")?,
        subject: event.subject,
        time: event.time.map(|text: String| time_of(&text, "time")).transpose()?,
        datacontenttype: event.datacontenttype,
        extensions: event
            .extensions
            .into_iter()
            .map(|(name, value)| (name, printed(value)))
            .collect(),
    };
    Ok(Envelope {
        attributes: Some(attributes),
        data,
    })
}

/// The data's bytes. Some senders write an object as a text that holds its JSON; it is taken out of that.
fn unquoted(raw: &str) -> Cow<'_, [u8]> {
    let text = raw.starts_with('"').then(|| serde_json::from_str::<String>(raw));
    match text {
        Some(Ok(text)) if text.trim_start().starts_with('{') => Cow::Owned(text.into_bytes()),
        _ => Cow::Borrowed(raw.as_bytes()),
    }
}

/// Extension attributes are texts, numbers or booleans.
fn printed(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn check_version(version: Option<String>, field: &'static str) -> Result<(), DecodeError> {
    match version {
        Some(version) if version.trim() == "1" || version.trim().starts_with("1.") => Ok(()),
        Some(version) => Err(DecodeError::unfit(
            field,
            format!("{:?}", excerpt(&version)),
            "send CloudEvents 1.0",
        )),
        None => Err(DecodeError::Missing {
            field,
            help: "say \"1.0\"; is this a CloudEvent?",
        }),
    }
}

fn time_of(text: &str, field: &str) -> Result<Timestamp, DecodeError> {
    let help = "write RFC 3339, such as 2022-08-22T03:54:00Z";
    text.parse()
        .map_err(|_| DecodeError::unfit(field, format!("{:?}", excerpt(text)), help))
}

/// Writes an event in binary mode: attributes as headers, the data as the value.
///
/// # Errors
/// Where id, source or type is empty.
pub fn write_binary(attributes: &Attributes, key: &str, data: Vec<u8>) -> Result<Message, EncodeError> {
    let empty = |field| EncodeError::Empty {
        what: format!("CloudEvent {:?}", attributes.id),
        field,
    };
    for (text, field) in [
        (&attributes.id, "id"),
        (&attributes.source, "source"),
        (&attributes.ty, "type"),
    ] {
        if text.is_empty() {
            return Err(empty(field));
        }
    }
    let ce = |name: &str, text: &str| (format!("{PREFIX}{name}"), text.to_owned());
    let mut headers = vec![
        ce("specversion", "1.0"),
        ce("id", &attributes.id),
        ce("source", &attributes.source),
        ce("type", &attributes.ty),
    ];
    headers.extend(attributes.subject.as_deref().map(|subject| ce("subject", subject)));
    headers.extend(attributes.time.map(|time| ce("time", &time.to_string())));
    headers.extend(
        attributes
            .datacontenttype
            .clone()
            .map(|text| (CONTENT_TYPE.to_owned(), text)),
    );
    headers.extend(attributes.extensions.iter().map(|(name, text)| ce(name, text)));
    Ok(Message {
        key: key.to_owned(),
        headers,
        value: data,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn binary(headers: &[(&str, &str)], value: &str) -> Result<Envelope<'static>, String> {
        let headers = headers.iter().map(|(n, v)| (*n, v.as_bytes()));
        match read(headers, Some(value.as_bytes())) {
            Ok(envelope) => Ok(Envelope {
                attributes: envelope.attributes,
                data: Cow::Owned(envelope.data.into_owned()),
            }),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_record_without_an_envelope_is_its_own_data() {
        let envelope = binary(&[("trace", "x"), ("content-type", "application/json")], "{}").unwrap();
        assert_eq!((envelope.attributes, &envelope.data[..]), (None, &b"{}"[..]));
    }

    #[test]
    fn binary_mode() {
        let headers = [
            ("ce_specversion", "1.0"),
            ("ce_id", "1"),
            ("ce_source", "/ci"),
            ("ce_type", "t"),
            ("ce_time", "2022-08-22T05:54:00+02:00"),
            ("ce_traceparent", "00-ab"),
            ("Content-Type", "application/json"),
            ("other", "x"),
        ];
        let attributes = binary(&headers, "{}").unwrap().attributes.unwrap();
        assert_eq!(
            (&*attributes.id, &*attributes.source, &*attributes.ty),
            ("1", "/ci", "t")
        );
        assert_eq!(attributes.time.unwrap().to_string(), "2022-08-22T03:54:00Z");
        assert_eq!(attributes.datacontenttype.as_deref(), Some("application/json"));
        assert_eq!(
            attributes.extensions,
            BTreeMap::from([("traceparent".to_owned(), "00-ab".to_owned())])
        );
    }

    const STRUCTURED_TYPE: (&str, &str) = ("content-type", "application/cloudevents+json; charset=utf-8");

    #[test]
    fn structured_mode() {
        let text = r#"{"specversion":"1.0","id":"1","source":"/ci","type":"t","n":7,"data":{"a": [1, 2]}}"#;
        let envelope = binary(&[STRUCTURED_TYPE], text).unwrap();
        assert_eq!(&envelope.data[..], br#"{"a": [1, 2]}"#, "the data's own bytes");
        assert_eq!(envelope.attributes.unwrap().extensions["n"], "7");
        let text = r#"{"specversion":"1.0","id":"1","source":"/ci","type":"t","data_base64":"eyJhIjoxfQ=="}"#;
        assert_eq!(&binary(&[STRUCTURED_TYPE], text).unwrap().data[..], br#"{"a":1}"#);
    }

    #[test]
    fn structured_mode_without_headers_is_told_by_what_the_value_holds() {
        let head = r#"{"specversion":"1.0","id":"1","source":"/ci","type":"t""#;
        for (rest, data) in [
            (r#","data":{"a":1}}"#, r#"{"a":1}"#),
            (r#","data_base64":"eyJhIjoxfQ=="}"#, r#"{"a":1}"#),
            (
                r#","datacontenttype":"application/json","data":"{\"a\":1}"}"#,
                r#"{"a":1}"#,
            ),
            // a text that is one
            (r#","data":"plain"}"#, r#""plain""#),
        ] {
            for headers in [&[][..], &[("content-type", "application/json")][..]] {
                let envelope = binary(headers, &format!("{head}{rest}")).unwrap();
                assert_eq!(&envelope.data[..], data.as_bytes(), "{rest}");
                assert_eq!(envelope.attributes.unwrap().ty, "t");
            }
        }
        // what only resembles one is its own data
        for plain in [
            r#"{"specversion":"1.0","type":"t"}"#,
            r#"{"type":"t","data":1}"#,
            r#"[{"specversion":"1.0","type":"t","data":1}]"#,
        ] {
            let envelope = binary(&[], plain).unwrap();
            assert_eq!((envelope.attributes, &envelope.data[..]), (None, plain.as_bytes()));
        }
    }

    #[test]
    fn envelopes_that_lack_something_are_refused_with_what_to_do() {
        let required = "set every required attribute of CloudEvents 1.0";
        let ok = [
            ("ce_specversion", "1.0"),
            ("ce_id", "1"),
            ("ce_source", "/ci"),
            ("ce_type", "t"),
        ];
        for (headers, value, expected) in [
            (&ok[..3], "{}", format!("`ce_type` is missing: {required}")),
            (&ok[1..], "{}", "`ce_specversion` is missing: say \"1.0\"; is this a CloudEvent?".into()),
            (&ok[..], "", "the record is empty, where CloudEvents JSON was expected".into()),
            (&[("ce_specversion", "0.3")][..], "{}", "`ce_specversion` is \"0.3\": send CloudEvents 1.0".into()),
            (
                &[("content-type", "application/cloudevents-batch+json")][..],
                "[]",
                "`content-type` is application/cloudevents-batch+json: Kafka carries one event a record: send them one by one"
                    .into(),
            ),
            (
                &[STRUCTURED_TYPE][..],
                r#"{"specversion":"1.0","id":"1","data":{"con"#,
                "the CloudEvents JSON breaks off after 42 bytes: its producer, or a size limit on the way, cut it short".into(),
            ),
            (&[STRUCTURED_TYPE][..], r#"{"specversion":"1.0","id":"1","source":"/","type":"t"}"#, "`data` is missing: put the event into data or data_base64".into()),
            (&[STRUCTURED_TYPE][..], r#"{"specversion":"1.0","id":"1","type":"t","data":1}"#, format!("`source` is missing: {required}")),
            (&[STRUCTURED_TYPE][..], "<xml/>", "no valid CloudEvents JSON at byte 0: expected value".into()),
        ] {
            assert_eq!(binary(headers, value).unwrap_err(), expected, "{headers:?} {value}");
        }
        let broken = read([("ce_id", &b"\xff"[..])], Some(b"{}")).unwrap_err().to_string();
        assert_eq!(
            broken,
            "`header ce_id` is not UTF-8: write headers of CloudEvents as UTF-8"
        );
        assert_eq!(read([], None).unwrap_err(), DecodeError::Empty(FORMAT));
    }

    #[test]
    fn an_event_without_an_id_is_not_written() {
        let error = write_binary(&Attributes::default(), "k", vec![])
            .unwrap_err()
            .to_string();
        assert_eq!(error, "`id` of CloudEvent \"\" is empty: it must be set");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            texts in proptest::collection::vec("\\PC{1,8}", 3), subject in proptest::option::of("\\PC{1,8}"),
            millis in proptest::option::of(0_i64..253_402_207_200_000), extensions in proptest::collection::btree_map("[a-z0-9]{9,12}", "\\PC{0,8}", 0..3),
            datacontenttype in proptest::option::of("application/json|text/plain"), data in proptest::collection::vec(any::<u8>(), 1..20),
        ) {
            let time = millis.map(Timestamp::from_millis);
            let (id, source, ty) = (texts[0].clone(), texts[1].clone(), texts[2].clone());
            let attributes = Attributes { id, source, ty, subject, time, datacontenttype, extensions };
            let message = write_binary(&attributes, "key", data.clone()).unwrap();
            let envelope = read(message.header_bytes(), Some(&message.value)).unwrap();
            prop_assert_eq!(envelope.attributes, Some(attributes));
            prop_assert_eq!(&envelope.data[..], &data[..]);
        }

        #[test]
        fn no_bytes_make_it_panic(name in "(ce_)?[a-z-]{0,12}", header in proptest::collection::vec(any::<u8>(), 0..20), value in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = read([(name.as_str(), &header[..])], Some(&value));
            let _ = read([("content-type", &b"application/cloudevents+json"[..])], Some(&value));
        }
    }
}
