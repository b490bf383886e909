//! Samples of many records outlined together, before any of them is looked up.

use suture_event::Timestamp;

use super::{
    is_blank,
    outline::{Outline, outline},
};

use crate::RawKey;

/// The samples of records that hold one each, written plainly: keys, times and values, a column each. Who has many keys at
/// once can look them up together, so that one need not wait for another's memory.
#[derive(Debug, Default)]
pub struct Outlines {
    keys: Vec<RawKey>,
    ts: Vec<Timestamp>,
    values: Vec<f64>,
}

impl Outlines {
    /// Takes all out. Memory is kept.
    pub fn clear(&mut self) {
        self.keys.clear();
        self.ts.clear();
        self.values.clear();
    }

    /// Appends the sample of a record; `false`, and nothing appended, where it is not a single one written plainly. Whether
    /// name and labels are as they should be is not looked at: only a sample whose key is known needs no decoding.
    #[inline]
    pub fn push(&mut self, record: &[u8]) -> bool {
        let start = record.iter().position(|byte| !byte.is_ascii_whitespace());
        let Some(found) = start.and_then(|start| outline(record.get(start..)?)) else {
            return false;
        };
        let whole = is_blank(record, start.unwrap_or_default() + found.end);
        if whole {
            self.put(&found);
        }
        whole
    }

    #[inline]
    pub(super) fn put(&mut self, found: &Outline<'_>) {
        self.keys.push(found.key);
        self.ts.push(found.ts);
        self.values.push(found.value);
    }

    /// How many samples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// What their series are known by.
    #[must_use]
    pub fn keys(&self) -> &[RawKey] {
        &self.keys
    }

    /// When they were measured.
    #[must_use]
    pub fn ts(&self) -> &[Timestamp] {
        &self.ts
    }

    /// What was measured.
    #[must_use]
    pub fn values(&self) -> &[f64] {
        &self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, SampleRef, Sink, TelemetryDecoder as _, json::Decoder};

    /// Knows every key, and keeps what came with it.
    #[derive(Default)]
    struct Known(Vec<(RawKey, Timestamp, f64)>);

    impl Sink for Known {
        fn known(&mut self, key: RawKey, ts: Timestamp, value: f64) -> bool {
            self.0.push((key, ts, value));
            true
        }
        fn sample(&mut self, _: SampleRef<'_>, _: Option<RawKey>) {}
    }

    #[test]
    fn samples_are_those_that_the_decoder_asks_for_and_others_are_left_to_it() {
        let (mut outlines, mut known) = (Outlines::default(), Known::default());
        let mut decoder = Decoder::new(Limits::default());
        for (record, plain) in [
            (r#"{"ts":1,"metric":"a","value":1.5,"labels":{"b":"c"}}"#, true),
            (" {\"metric\":\"a\",\"ts\":2,\"value\":-3}\n", true),
            (r#"{"ts":1,"metric":"a","value":1} {}"#, false),
            (r#"[{"ts":1,"metric":"a","value":1}]"#, false),
            (r#"{"ts":1,"metric":"a","value":1,"unit":"s"}"#, false),
            ("", false),
            ("  ", false),
        ] {
            known.0.clear();
            outlines.clear();
            assert_eq!(outlines.push(record.as_bytes()), plain, "{record}");
            // what is refused is refused by both
            let _ = decoder.decode(record.as_bytes(), &mut known);
            let columns = outlines.keys().iter().zip(outlines.ts()).zip(outlines.values());
            let found: Vec<_> = columns.map(|((key, ts), value)| (*key, *ts, *value)).collect();
            assert_eq!((found.len(), outlines.len()), (usize::from(plain), usize::from(plain)));
            assert!(!plain || found == known.0, "{record}");
        }
    }
}
