//! The parts of a JSON text as they are written, found by brackets and quotation marks alone.
//!
//! This checks no more than is needed to tell where a part ends, and it does not recurse, so that no depth of brackets can
//! exhaust the stack. What is taken out of a part is read by [`number`], [`text`] and [`labels`], which are strict. Equal
//! parts read alike: that is what a series is known by.

use std::borrow::Cow;

use memchr::memchr2;
use suture_event::Timestamp;

use crate::{
    DecodeError, Limits,
    sample::{Pairs, excerpt},
};

/// Where a text cannot be gone through any further, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) at: usize,
    pub(crate) reason: &'static str,
}

/// The end of the text was reached inside of a part.
pub(crate) const CUT: &str = "the text ends too early";

/// The names and values of an object, in their order, as they are written; a name is without its quotation marks.
pub(crate) struct Entries<'a> {
    text: &'a str,
    at: usize,
    first: bool,
    done: bool,
}

impl<'a> Entries<'a> {
    /// Over a text that is one object and nothing else but white space.
    pub(crate) fn of(text: &'a str) -> Result<Self, Broken> {
        let at = skip_space(text.as_bytes(), 0);
        match text.as_bytes().get(at) {
            Some(b'{') => Ok(Self {
                text,
                at: at + 1,
                first: true,
                done: false,
            }),
            Some(_) => Err(Broken {
                at,
                reason: "no object where one was expected",
            }),
            None => Err(Broken { at, reason: CUT }),
        }
    }

    fn step(&mut self) -> Result<Option<(&'a str, &'a str)>, Broken> {
        let bytes = self.text.as_bytes();
        let mut at = skip_space(bytes, self.at);
        match bytes.get(at) {
            Some(b'}') => {
                let rest = skip_space(bytes, at + 1);
                if rest < bytes.len() {
                    let reason = "more follows after the object";
                    return Err(Broken { at: rest, reason });
                }
                return Ok(None);
            }
            Some(b',') if !self.first => at = skip_space(bytes, at + 1),
            Some(_) if self.first => {}
            Some(_) => {
                let reason = "neither a comma nor the end of the object";
                return Err(Broken { at, reason });
            }
            None => return Err(Broken { at, reason: CUT }),
        }
        self.first = false;
        let name_end = match bytes.get(at) {
            Some(b'"') => string_end(bytes, at)?,
            Some(_) => {
                let reason = "no name in quotation marks";
                return Err(Broken { at, reason });
            }
            None => return Err(Broken { at, reason: CUT }),
        };
        let name = part(self.text, at + 1, name_end - 1)?;
        let colon = skip_space(bytes, name_end);
        match bytes.get(colon) {
            Some(b':') => {}
            Some(_) => {
                let reason = "no colon after a name";
                return Err(Broken { at: colon, reason });
            }
            None => return Err(Broken { at: colon, reason: CUT }),
        }
        let start = skip_space(bytes, colon + 1);
        let end = value_end(bytes, start)?;
        self.at = end;
        Ok(Some((name, part(self.text, start, end)?)))
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<(&'a str, &'a str), Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let step = self.step().transpose();
        self.done = !matches!(step, Some(Ok(_)));
        step
    }
}

/// Whether a name as it is written means this one.
pub(crate) fn is_named(raw: &str, name: &str) -> bool {
    raw == name || (raw.contains('\\') && unescaped(raw).is_some_and(|read| read == name))
}

/// A name without its escapes.
pub(crate) fn text_of(name: &str) -> Option<Cow<'_, str>> {
    match name.contains('\\') {
        true => unescaped(name).map(Cow::Owned),
        false => Some(Cow::Borrowed(name)),
    }
}

fn unescaped(inner: &str) -> Option<String> {
    serde_json::from_str(&format!("\"{inner}\"")).ok()
}

/// The value of an object's field, as it is written; of a field given twice, the last.
pub(crate) fn field<'a>(object: &'a str, name: &str) -> Result<Option<&'a str>, Broken> {
    let mut found = None;
    for entry in Entries::of(object)? {
        let (raw, value) = entry?;
        if is_named(raw, name) {
            found = Some(value);
        }
    }
    Ok(found)
}

/// Where the documents of a record begin and end: one, or several that are joined by line ends, each an object. No object
/// has a line end between a closing brace and an opening one but within an array, where a comma stands beside it.
pub(crate) fn documents(bytes: &[u8]) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
    let mut from = 0;
    let mut over = false;
    let mut breaks = memchr::memchr_iter(b'\n', bytes).filter(move |at| {
        let before = bytes.get(..*at).and_then(|text| text.trim_ascii_end().last());
        let after = bytes.get(at + 1..).unwrap_or_default();
        let blank = after
            .iter()
            .take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
            .count();
        before == Some(&b'}') && after.get(blank) == Some(&b'{')
    });
    std::iter::from_fn(move || {
        if over {
            return None;
        }
        let to = breaks.next().unwrap_or_else(|| {
            over = true;
            bytes.len()
        });
        let range = from..to;
        from = to;
        Some(range)
    })
}

/// A number as JSON writes it; none where the text is something else, or larger than a double can be.
pub(crate) fn number(raw: &str) -> Option<f64> {
    let first = raw.as_bytes().first()?;
    if !(first.is_ascii_digit() || *first == b'-') {
        return None;
    }
    // all that Rust reads beyond JSON's numbers has letters, or no digit beside the point
    let plain = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E');
    if !raw.as_bytes().iter().all(plain) || raw.ends_with('.') || raw.starts_with("-.") {
        return None;
    }
    raw.parse().ok().filter(|value: &f64| value.is_finite())
}

/// A text without its quotation marks and escapes; none where the part is none.
pub(crate) fn text(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() && !inner.bytes().any(|byte| byte < 0x20) {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str(raw).ok().map(Cow::Owned)
}

/// A point in time: a number or a text of one, whose unit its size tells, or RFC 3339.
pub(crate) fn time(raw: &str) -> Option<Timestamp> {
    let quoted = text(raw);
    // RFC 3339, by the dash after the year
    if let Some(text) = quoted.as_deref().filter(|text| text.as_bytes().get(4) == Some(&b'-')) {
        return text.parse().ok();
    }
    let written = quoted.as_deref().unwrap_or(raw).trim();
    if let Ok(whole) = written.parse::<i64>() {
        return Timestamp::from_number(whole).ok();
    }
    if let Some(value) = number(written) {
        return Timestamp::from_fraction(value).ok();
    }
    quoted.as_deref()?.parse().ok()
}

/// Takes in the fields of an object as labels, as samples in JSON have them: texts as they are, numbers and booleans as
/// they print, `null` as if it were not there.
pub(crate) fn labels<'a>(raw: &'a str, field: &str, pairs: &mut Pairs<'a>, limits: &Limits) -> Result<(), DecodeError> {
    if raw == "null" {
        return Ok(());
    }
    let entries = Entries::of(raw).map_err(|_| DecodeError::unfit(field, shown(raw), "write an object of texts"))?;
    for entry in entries {
        let (name, value) =
            entry.map_err(|broken| DecodeError::unfit(field, broken.reason, "write an object of texts"))?;
        let help = "write names as JSON does";
        let name = text_of(name).ok_or_else(|| DecodeError::unfit(field, "given a name that is no text", help))?;
        label(name, value, field, pairs, limits)?;
    }
    Ok(())
}

/// Takes in one label.
pub(crate) fn label<'a>(
    name: Cow<'a, str>,
    raw: &'a str,
    field: &str,
    pairs: &mut Pairs<'a>,
    limits: &Limits,
) -> Result<(), DecodeError> {
    if raw == "null" {
        return Ok(());
    }
    let value = match text(raw) {
        Some(text) => text,
        None if raw == "true" || raw == "false" || number(raw).is_some() => Cow::Borrowed(raw),
        None => {
            let path = format!("{field}.{}", excerpt(&name));
            return Err(DecodeError::unfit(path, shown(raw), "write a text"));
        }
    };
    if pairs.len() >= limits.labels {
        return Err(crate::sample::too_many_labels(pairs.len() + 1, limits));
    }
    pairs.push((name, value));
    Ok(())
}

/// A part in words, for an error's text.
pub(crate) fn shown(raw: &str) -> String {
    match raw.as_bytes().first() {
        Some(b'"') => format!("the text {}", excerpt(raw)),
        Some(b'{') => "an object".to_owned(),
        Some(b'[') => "an array".to_owned(),
        Some(_) if number(raw).is_some() => format!("the number {raw}"),
        Some(_) => excerpt(raw),
        None => "nothing".to_owned(),
    }
}

/// The first element of an array, as it is written; nothing where there is none.
pub(crate) fn first_element(array: &str) -> Result<Option<&str>, Broken> {
    let bytes = array.as_bytes();
    let start = skip_space(bytes, 1 + skip_space(bytes, 0));
    if bytes.get(start) == Some(&b']') {
        return Ok(None);
    }
    let end = value_end(bytes, start)?;
    part(array, start, end).map(Some)
}

/// The elements of an array, as they are written.
pub(crate) fn elements(array: &str) -> Result<Vec<&str>, Broken> {
    let bytes = array.as_bytes();
    let mut at = skip_space(bytes, 0);
    let mut found = Vec::new();
    if bytes.get(at) != Some(&b'[') {
        let reason = "no array where one was expected";
        return Err(Broken { at, reason });
    }
    at = skip_space(bytes, at + 1);
    if bytes.get(at) == Some(&b']') {
        return Ok(found);
    }
    loop {
        let end = value_end(bytes, at)?;
        found.push(part(array, at, end)?);
        at = skip_space(bytes, end);
        match bytes.get(at) {
            Some(b',') => at = skip_space(bytes, at + 1),
            Some(b']') => return Ok(found),
            Some(_) => {
                let reason = "neither a comma nor the end of the array";
                return Err(Broken { at, reason });
            }
            None => return Err(Broken { at, reason: CUT }),
        }
    }
}

fn part(text: &str, from: usize, to: usize) -> Result<&str, Broken> {
    // ends are at ASCII, so that this is never cut within a letter
    text.get(from..to).ok_or(Broken { at: from, reason: CUT })
}

fn skip_space(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(b' ' | b'\n' | b'\t' | b'\r') = bytes.get(at) {
        at += 1;
    }
    at
}

/// Where the value that begins here ends.
fn value_end(bytes: &[u8], at: usize) -> Result<usize, Broken> {
    match bytes.get(at) {
        Some(b'"') => string_end(bytes, at),
        Some(b'{' | b'[') => container_end(bytes, at),
        _ => {
            let ends = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b':' | b' ' | b'\n' | b'\t' | b'\r' | b'"');
            let rest = bytes.get(at..).unwrap_or_default();
            match rest.iter().position(ends) {
                Some(0) => Err(Broken {
                    at,
                    reason: "no value where one was expected",
                }),
                Some(length) => Ok(at + length),
                None => Err(Broken {
                    at: bytes.len(),
                    reason: CUT,
                }),
            }
        }
    }
}

fn container_end(bytes: &[u8], start: usize) -> Result<usize, Broken> {
    // one that holds no other, and no text with a closing brace in it: as labels nearly always are
    if bytes.get(start) == Some(&b'{')
        && let Some(length) = memchr::memchr(b'}', bytes.get(start..).unwrap_or_default())
        && let Some(inner) = bytes.get(start + 1..start + length)
        && memchr::memchr3(b'{', b'[', b'\\', inner).is_none()
        && memchr::memchr_iter(b'"', inner).count().is_multiple_of(2)
    {
        return Ok(start + length + 1);
    }
    let (mut at, mut depth) = (start, 0_usize);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = string_end(bytes, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Ok(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
    Err(Broken { at, reason: CUT })
}

/// Behind the closing quotation mark of the text that begins here.
fn string_end(bytes: &[u8], start: usize) -> Result<usize, Broken> {
    let mut at = start + 1;
    while let Some(rest) = bytes.get(at..)
        && let Some(next) = memchr2(b'"', b'\\', rest)
    {
        if rest.get(next) == Some(&b'"') {
            return Ok(at + next + 1);
        }
        at += next + 2;
    }
    Err(Broken {
        at: bytes.len(),
        reason: CUT,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries(text: &str) -> Result<Vec<(&str, &str)>, Broken> {
        Entries::of(text)?.collect()
    }

    #[test]
    fn fields_are_found_as_they_are_written() {
        let text = r#" {"a" : 1.5e3 ,"b\"":"x\\\"}", "c":{"d":["]",{}]},"e":[],"f":null } "#;
        assert_eq!(
            entries(text).unwrap(),
            [
                ("a", "1.5e3"),
                ("b\\\"", r#""x\\\"}""#),
                ("c", r#"{"d":["]",{}]}"#),
                ("e", "[]"),
                ("f", "null")
            ]
        );
        assert_eq!(entries("{}").unwrap(), []);
        assert_eq!(field(text, "b\"").unwrap(), Some(r#""x\\\"}""#));
        assert_eq!(elements(r#" [1, "a,]", [2] ] "#).unwrap(), ["1", r#""a,]""#, "[2]"]);
        assert_eq!(elements("[]").unwrap(), Vec::<&str>::new());
    }

    #[test]
    fn a_text_that_is_none_says_where_and_why() {
        for (text, at, reason) in [
            ("", 0, CUT),
            ("[1]", 0, "no object where one was expected"),
            (r#"{"a":1"#, 6, CUT),
            (r#"{"a":1 "b":2}"#, 7, "neither a comma nor the end of the object"),
            (r#"{"a" 1}"#, 5, "no colon after a name"),
            (r#"{a:1}"#, 1, "no name in quotation marks"),
            (r#"{"a":}"#, 5, "no value where one was expected"),
            (r#"{"a":1} x"#, 8, "more follows after the object"),
        ] {
            assert_eq!(entries(text).unwrap_err(), Broken { at, reason }, "{text}");
        }
        assert!(entries(&format!(r#"{{"a":{}"#, "[".repeat(1_000_000))).is_err());
    }

    #[test]
    fn several_documents_are_told_from_one_that_has_line_ends() {
        let of = |text: &str| -> Vec<String> {
            documents(text.as_bytes())
                .map(|range| text[range].trim().to_owned())
                .collect()
        };
        assert_eq!(
            of("{\"a\":1}\n{\"b\":2}\r\n\r\n{\"c\":3}\n"),
            ["{\"a\":1}", "{\"b\":2}", "{\"c\":3}"]
        );
        assert_eq!(of("{\n\"a\":\n{\n}\n}"), ["{\n\"a\":\n{\n}\n}"]);
        assert_eq!(of("[{}\n,\n{}]"), ["[{}\n,\n{}]"]);
    }

    #[test]
    fn numbers_are_those_of_json_and_times_are_told_by_their_size() {
        for (raw, value) in [
            ("1", Some(1.0)),
            ("-0.5e2", Some(-50.0)),
            ("1e999", None),
            ("inf", None),
            ("-.5", None),
            ("1.", None),
            ("-", None),
            ("+1", None),
            ("1_0", None),
        ] {
            assert_eq!(number(raw), value, "{raw}");
        }
        let at = Timestamp::from_millis(1_661_140_279_000);
        for raw in [
            "1661140279",
            "1661140279000",
            "1661140279000000",
            "1661140279000000000",
            "\"1661140279\"",
            "1661140279.0",
            "\"2022-08-22T03:51:19Z\"",
            "\"2022-08-22T05:51:19+02:00\"",
        ] {
            assert_eq!(time(raw), Some(at), "{raw}");
        }
        assert_eq!(
            (time("\"soon\""), time("null"), time("2022-08-22T03:51:19Z")),
            (None, None, None)
        );
    }

    proptest! {
        #[test]
        fn what_is_json_is_gone_through_and_nothing_makes_it_panic(text in "[a-c\\{\\}\\[\\]\":,\\\\ 0-9.\n]{0,40}") {
            let found = entries(&text);
            let _ = (number(&text), super::text(&text), time(&text), elements(&text), first_element(&text));
            if let Ok(object) = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text) {
                let found = found.unwrap();
                for (name, value) in found {
                    let key = unescaped(name).unwrap();
                    let read: serde_json::Value = serde_json::from_str(value).unwrap();
                    prop_assert!(object.contains_key(&key));
                    let _ = read;
                }
            }
        }
    }
}
