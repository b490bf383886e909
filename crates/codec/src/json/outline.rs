//! A sample's outline: where its labels lie, and what its time and value are, without reading the labels.
//!
//! This is no JSON parser. It knows one way to write a sample, which is how nearly all producers write it, and finds in it
//! what is new; whatever is written otherwise has no outline and is parsed. Nothing is taken on its word: an outline's key
//! counts only once a sample with the same bytes was parsed and found good, and a sample without a known key is parsed.
//!
//! Why that is right: the key is of the bytes of the metric's name and of the labels. Equal bytes were once parsed as a
//! whole, so they are valid, and since an object's text is never the start of another's, they end where the labels end.

use memchr::memchr;
use suture_event::Timestamp;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

use super::super::RawKey;

/// What was found of one sample.
pub(super) struct Outline<'a> {
    pub(super) ts: Timestamp,
    pub(super) value: f64,
    pub(super) key: RawKey,
    /// Length of the object.
    pub(super) end: usize,
    labels: &'a [u8],
}

impl Outline<'_> {
    /// The key, where the labels end where they seem to: only then may a series be remembered under it. No quotation mark
    /// is escaped and each has its other, so the brace at the end stands outside of texts.
    pub(super) fn sound_key(&self) -> Option<RawKey> {
        let even = memchr::memchr_iter(b'"', self.labels).count().is_multiple_of(2);
        (even && memchr(b'\\', self.labels).is_none()).then_some(self.key)
    }
}

/// The outline of the object that the bytes start with.
pub(super) fn outline(bytes: &[u8]) -> Option<Outline<'_>> {
    let mut cursor = Cursor { bytes, at: 0 };
    cursor.expect(b'{')?;
    let (mut ts, mut metric, mut value, mut labels) = (None, None, None, None);
    loop {
        cursor.skip_space();
        match cursor.field()? {
            Field::Ts if ts.is_none() => ts = Some(cursor.timestamp()?),
            Field::Metric if metric.is_none() => metric = Some(cursor.text()?),
            Field::Value if value.is_none() => value = Some(cursor.number()?),
            Field::Labels if labels.is_none() => labels = Some(cursor.object()?),
            _ => return None,
        }
        cursor.skip_space();
        match cursor.next()? {
            b',' => {}
            b'}' => break,
            _ => return None,
        }
    }
    let (metric, labels) = (metric?, labels.unwrap_or_default());
    Some(Outline {
        ts: ts?,
        value: value?,
        key: RawKey(xxh3_128_with_seed(labels, xxh3_64(metric))),
        end: cursor.at,
        labels,
    })
}

enum Field {
    Ts,
    Metric,
    Value,
    Labels,
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn next(&mut self) -> Option<u8> {
        let next = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(next)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    /// A field's name, its colon, and the space after it.
    fn field(&mut self) -> Option<Field> {
        let (field, length) = match self.rest() {
            [b'"', b't', b's', b'"', ..] => (Field::Ts, 4),
            [b'"', b'm', b'e', b't', b'r', b'i', b'c', b'"', ..] => (Field::Metric, 8),
            [b'"', b'v', b'a', b'l', b'u', b'e', b'"', ..] => (Field::Value, 7),
            [b'"', b'l', b'a', b'b', b'e', b'l', b's', b'"', ..] => (Field::Labels, 8),
            _ => return None,
        };
        self.at += length;
        self.skip_space();
        self.expect(b':')?;
        self.skip_space();
        Some(field)
    }

    /// What stands between the quotation marks of a text without escapes.
    fn text(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let rest = self.rest();
        let length = memchr(b'"', rest)?;
        let text = rest.get(..length)?;
        if memchr(b'\\', text).is_some() {
            return None;
        }
        self.at += length + 1;
        Some(text)
    }

    /// Everything up to the first closing brace.
    fn object(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest();
        if rest.first() != Some(&b'{') {
            return None;
        }
        let length = memchr(b'}', rest)? + 1;
        self.at += length;
        rest.get(..length)
    }

    fn timestamp(&mut self) -> Option<Timestamp> {
        if self.bytes.get(self.at) == Some(&b'"') {
            return std::str::from_utf8(self.text()?).ok()?.parse().ok();
        }
        let negative = self.minus();
        // a fraction or an exponent ends the outline at the next step
        let (digits, _) = self.digits()?;
        let number = i64::try_from(digits).ok()?;
        Timestamp::from_number(if negative { -number } else { number }).ok()
    }

    fn minus(&mut self) -> bool {
        let minus = self.bytes.get(self.at) == Some(&b'-');
        self.at += usize::from(minus);
        minus
    }

    /// A whole number as JSON writes it, and how many digits it has: of more than 19, no number.
    fn digits(&mut self) -> Option<(u64, usize)> {
        let start = self.at;
        let mut number = 0_u64;
        while let Some(digit @ b'0'..=b'9') = self.bytes.get(self.at) {
            number = number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            self.at += 1;
        }
        let count = self.at - start;
        let leading_zero = count > 1 && self.bytes.get(start) == Some(&b'0');
        (1..=19).contains(&count).then_some(())?;
        (!leading_zero).then_some((number, count))
    }

    /// A number without an exponent whose digits fit a double; the rest is left to the parser.
    fn number(&mut self) -> Option<f64> {
        // 10^k for k up to 22 are exact, and so is the quotient's rounding (Clinger, PLDI 1990)
        const POWERS: [f64; 19] = [
            1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
        ];
        const EXACT: u64 = 1 << 53;
        let start = self.at;
        let negative = self.minus();
        let (whole, count) = self.digits()?;
        let (mut number, mut places) = (whole, 0);
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            let from = self.at;
            while let Some(digit @ b'0'..=b'9') = self.bytes.get(self.at) {
                number = number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
                self.at += 1;
            }
            places = self.at - from;
            if places == 0 {
                return None;
            }
        } else if negative && whole == 0 {
            // the parser decides what a negative zero is
            return None;
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            return None;
        }
        if count + places > 19 || number > EXACT {
            // correctly rounded, as the parser does
            let text = std::str::from_utf8(self.bytes.get(start..self.at)?).ok()?;
            return text.parse().ok().filter(|value: &f64| places > 0 && value.is_finite());
        }
        #[allow(clippy::cast_precision_loss)] // up to 2^53
        let value = number as f64 / POWERS.get(places)?;
        Some(if negative { -value } else { value })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Option<Outline<'_>> {
        outline(text.as_bytes())
    }

    #[test]
    fn plainly_written_samples_have_an_outline() {
        let plain = of(r#"{"ts":1661140279000,"metric":"cpu","value":1.76,"labels":{"a":"b"}}, more"#).unwrap();
        let (ts, value, end) = (plain.ts.as_millis(), plain.value, plain.end);
        assert_eq!(
            (ts, value, end, plain.sound_key().is_some()),
            (1_661_140_279_000, 1.76, 67, true)
        );
        let spaced = of(r#"{ "labels" : {"a":"b"} , "value" : -2 , "metric":"cpu", "ts": "2022-08-22T03:51:19Z" }"#);
        let spaced = spaced.unwrap();
        assert_eq!((spaced.key, spaced.ts, spaced.value), (plain.key, plain.ts, -2.0));
        assert_ne!(
            of(r#"{"ts":1,"metric":"cpu","value":1,"labels":{"a":"c"}}"#)
                .unwrap()
                .key,
            plain.key
        );
        assert_ne!(
            of(r#"{"ts":1,"metric":"cpv","value":1,"labels":{"a":"b"}}"#)
                .unwrap()
                .key,
            plain.key
        );
    }

    #[test]
    fn what_is_written_otherwise_has_none() {
        for text in [
            r#"{"ts":1,"metric":"a","value":1,"unit":"ms"}"#,
            r#"{"ts":1,"ts":2,"metric":"a","value":1}"#,
            r#"{"ts":01,"metric":"a","value":1}"#,
            r#"{"ts":1.5,"metric":"a","value":1}"#,
            r#"{"ts":1,"metric":"a\"b","value":1}"#,
            r#"{"ts":1,"metric":"a","value":"1"}"#,
            r#"{"ts":1,"metric":"a","value":1.}"#,
            r#"{"ts":1,"metric":"a","value":.5}"#,
            r#"{"ts":1,"metric":"a","value":-}"#,
            r#"{"ts":1,"metric":"a","value":-0}"#,
            r#"{"ts":1,"metric":"a","value":1e400}"#,
            r#"{"ts":1,"metric":"a","value":NaN}"#,
            r#"{"ts":1,"metric":"a","value":12345678901234567890123}"#,
            r#"{"ts":1,"metric":"a","value":1,"labels":null}"#,
            r#"{"ts":1,"metric":"a","value":1,"labels":{"a":"}"}}"#,
            r#"{"ts":1,"metric":"a","value":1"#,
            r#"{"metric":"a","value":1}"#,
            "",
            "{",
        ] {
            assert!(of(text).is_none(), "{text}");
        }
    }

    #[test]
    fn labels_that_end_inside_a_text_are_not_sound() {
        let cut = of(r#"{"ts":1,"metric":"a","value":1,"labels":{"a":"x}}"#).unwrap();
        assert!(cut.sound_key().is_none());
        let escaped = of(r#"{"ts":1,"metric":"a","value":1,"labels":{"a":"\"\""}}"#).unwrap();
        assert!(escaped.sound_key().is_none());
    }

    proptest! {
        #[test]
        fn numbers_are_those_of_the_parser(mantissa in any::<i64>(), places in 0_usize..20, short in any::<i32>()) {
            for number in [mantissa, i64::from(short)] {
                let digits = number.unsigned_abs().to_string();
                let cut = digits.len().saturating_sub(places).max(1);
                let (whole, fraction) = digits.split_at(cut);
                let sign = if number < 0 { "-" } else { "" };
                let dot = if fraction.is_empty() { "" } else { "." };
                let text = format!("{sign}{whole}{dot}{fraction}");
                let found = Cursor { bytes: text.as_bytes(), at: 0 }.number();
                let parsed: f64 = sonic_rs::from_str(&text).unwrap();
                if let Some(found) = found {
                    prop_assert_eq!(found.to_bits(), parsed.to_bits(), "{}", text);
                }
            }
        }

        #[test]
        fn no_bytes_make_it_panic(text in "[\\{\\}\"a-z:,0-9.\\-\\\\ ]{0,60}") {
            of(&text);
        }
    }
}
