//! Telemetry samples as JSON: one object a record, an array of them, or several joined by line ends.
//!
//! ```json
//! {"ts": 1661140279000, "metric": "CpuUsage(m)", "value": 1.76, "labels": {"service": "adservice"}}
//! ```
//!
//! - `ts`: a number since the epoch (milliseconds, or by its size seconds, micro- or nanoseconds; see
//!   [`Timestamp::from_number`](suture_event::Timestamp::from_number)) or RFC 3339 with an offset.
//! - `metric`: a text that is not empty.
//! - `value`: a finite number. `null`, texts, `NaN` and `Infinity` (which some producers write although JSON has no such
//!   thing) are rejected.
//! - `labels`: optional. Texts are taken as they are; numbers and booleans as they print, since producers differ on
//!   whether `{"shard": 3}` is quoted; `null` as if the label were not there; anything nested is rejected.
//! - Other fields are passed over. Of a field given twice the last counts; a label given twice is rejected.
//!
//! In an array, and among several objects that line ends join, each element stands for itself: a bad one is reported with its index, and the rest is taken, even where the
//! element is no valid JSON, as long as its brackets and quotes match.
//!
//! **Known series.** Of a sample written plainly (only these fields, no escapes in its name, a number for its time or an
//! RFC 3339 text), name and labels are recognised by their bytes and not read again where the sink has met them.
//!
//! **Cost.** Texts are borrowed from the record; the vectors for labels and identity are used again from sample to sample
//! and record to record. In the steady state nothing is allocated for a sample, unless one of its texts has escapes (`\"`,
//! `\u00e9`) or one of its label values is a number: each such text is one allocation. A rejected sample allocates its
//! report.

mod ahead;
mod draft;
pub(crate) mod elements;
mod outline;

use std::str;

use serde::de::DeserializeSeed;

pub use self::ahead::Outlines;
use suture_event::Sample;

use self::{
    draft::{Draft, ElementSeed, Record},
    elements::{Elements, Step, unfinite_literal},
    outline::outline,
};
use super::{
    DecodeError, Decoded, EncodeError, Format, Limits, Rejected, Sink, TelemetryDecoder, raw,
    sample::{Scratch, excerpt},
    tally::Tally,
};

const FORMAT: Format = Format("JSON");

/// Elements of an array whose series are asked for together.
const TOGETHER: usize = 64;

/// Decodes records of samples. Keep one a shard: it holds the memory that is used again.
#[derive(Debug, Default)]
pub struct Decoder {
    limits: Limits,
    scratch: Scratch,
    ahead: Outlines,
}

impl Decoder {
    /// A decoder that holds records to these limits.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            scratch: Scratch::default(),
            ahead: Outlines::default(),
        }
    }
}

impl Decoder {
    /// Reads several samples that line ends join.
    fn joined(&mut self, bytes: &[u8], sink: &mut dyn Sink) -> Decoded {
        let mut draft = Draft::new(self.scratch.lend());
        let mut record = Record {
            limits: &self.limits,
            identity: &mut self.scratch.identity,
            sink,
            tally: Tally::new("samples", &self.limits),
        };
        for range in raw::documents(bytes) {
            if record.tally.is_beyond() {
                break;
            }
            let text = bytes.get(range.clone()).unwrap_or_default();
            let start = range.start + text.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            let text = text.trim_ascii();
            let found = outline(text).filter(|found| is_blank(text, found.end));
            if let Some(found) = &found
                && record.sink.known(found.key, found.ts, found.value)
            {
                record.tally.decoded.accepted += 1;
                record.tally.index += 1;
                continue;
            }
            draft.clear();
            let before = record.tally.decoded.rejected.len();
            match one(text, start, &mut draft, record.limits) {
                Ok(()) => record.take(&mut draft, found.and_then(|found| found.sound_key())),
                Err(error) => record.reject(&draft, error),
            }
            for rejected in record.tally.decoded.rejected.iter_mut().skip(before) {
                rejected.at = Some(start);
            }
        }
        let decoded = record.tally.decoded;
        self.scratch.take_back(draft.into_labels());
        decoded
    }
}

impl TelemetryDecoder for Decoder {
    /// A record holds nothing that can be used where it is empty, neither object nor array, or its only sample is bad. Bad
    /// elements of an array are in [`Decoded::rejected`] instead.
    fn decode(&mut self, bytes: &[u8], sink: &mut dyn Sink) -> Result<Decoded, DecodeError> {
        let Some(start) = bytes.iter().position(|b| !b.is_ascii_whitespace()) else {
            return Err(DecodeError::Empty(FORMAT));
        };
        let outline = bytes.get(start..).and_then(outline);
        if let Some(outline) = &outline
            && is_blank(bytes, start + outline.end)
            && sink.known(outline.key, outline.ts, outline.value)
        {
            return Ok(Decoded {
                accepted: 1,
                ..Decoded::default()
            });
        }
        // not before, as a record of one known sample is read no further
        if memchr::memchr(b'\n', bytes).is_some() && raw::documents(bytes).nth(1).is_some() {
            return Ok(self.joined(bytes, sink));
        }
        let mut draft = Draft::new(self.scratch.lend());
        let mut record = Record {
            limits: &self.limits,
            identity: &mut self.scratch.identity,
            sink,
            tally: Tally::new("samples", &self.limits),
        };
        let result = match bytes[start] {
            b'{' => one(bytes, 0, &mut draft, record.limits)
                .and_then(|()| record.finish(&mut draft, outline.and_then(|o| o.sound_key()))),
            b'[' => {
                array(bytes, start, &mut draft, &mut record, &mut self.ahead);
                Ok(())
            }
            _ => Err(malformed(
                bytes,
                start,
                "neither an object nor an array: write one sample or an array of samples",
            )),
        };
        let decoded = record.tally.decoded;
        self.scratch.take_back(draft.into_labels());
        result.map(|()| decoded)
    }

    #[inline]
    fn outline(&self, bytes: &[u8], outlines: &mut Outlines) -> bool {
        outlines.push(bytes)
    }
}

/// Reads one object that starts `base` bytes into the record.
fn one<'a>(bytes: &'a [u8], base: usize, draft: &mut Draft<'a>, limits: &Limits) -> Result<(), DecodeError> {
    if bytes.is_empty() {
        return Err(malformed(
            bytes,
            base,
            "nothing between two commas: write a sample or drop the comma",
        ));
    }
    let text = str::from_utf8(bytes)
        .map_err(|error| malformed(bytes, base + error.valid_up_to(), "not UTF-8: write JSON as UTF-8"))?;
    let mut reader = sonic_rs::Deserializer::from_str(text);
    let parsed = ElementSeed { draft, limits }
        .deserialize(&mut reader)
        .and_then(|()| reader.end());
    parsed.map_err(|error| syntax_error(bytes, base, &error))
}

/// Whether only white space follows.
fn is_blank(bytes: &[u8], from: usize) -> bool {
    bytes
        .get(from..)
        .is_some_and(|rest| rest.iter().all(u8::is_ascii_whitespace))
}

/// Reads an array: by outlines as far as they go, then quickly where it is valid JSON throughout, and element by element
/// from where it is not.
fn array<'a>(bytes: &'a [u8], start: usize, draft: &mut Draft<'a>, record: &mut Record<'_>, ahead: &mut Outlines) {
    if outlined(bytes, start, draft, record, ahead) {
        return locate(bytes, start, &mut record.tally.decoded.rejected);
    }
    if record.tally.index == 0
        && let Ok(text) = str::from_utf8(bytes)
    {
        let mut reader = sonic_rs::Deserializer::from_str(text);
        let read = record.elements(draft).deserialize(&mut reader);
        if record.tally.is_full() || read.and_then(|()| reader.end()).is_ok() {
            return locate(bytes, start, &mut record.tally.decoded.rejected);
        }
    }
    piecemeal(bytes, start, draft, record);
    locate(bytes, start, &mut record.tally.decoded.rejected);
}

/// Reads elements as long as each has an outline; `true` where that was the whole array. Outlines are made of several
/// elements before their series are asked for, so that these can be looked up together.
fn outlined<'a>(
    bytes: &'a [u8],
    start: usize,
    draft: &mut Draft<'a>,
    record: &mut Record<'_>,
    ahead: &mut Outlines,
) -> bool {
    let (mut at, mut spans) = (start + 1, [(0, 0); TOGETHER]);
    loop {
        ahead.clear();
        let mut next = Next::Element;
        while next == Next::Element && ahead.len() < TOGETHER {
            at += bytes[at..].iter().take_while(|b| b.is_ascii_whitespace()).count();
            let Some(found) = outline(&bytes[at..]) else {
                next = Next::Otherwise;
                break;
            };
            let end = at + found.end;
            spans[ahead.len()] = (at, end);
            ahead.put(&found);
            at = end + bytes[end..].iter().take_while(|b| b.is_ascii_whitespace()).count();
            next = match bytes.get(at) {
                Some(b',') => Next::Element,
                Some(b']') if is_blank(bytes, at + 1) => Next::End,
                _ => Next::Otherwise,
            };
            at += 1;
        }
        let room = record.tally.room();
        let (mut done, fit) = (0, ahead.len().min(room));
        while done < fit {
            let known = record.sink.known_run(
                &ahead.keys()[done..fit],
                &ahead.ts()[done..fit],
                &ahead.values()[done..fit],
            );
            record.tally.decoded.accepted += known;
            record.tally.index += known;
            done += known;
            if done < fit {
                let (from, to) = spans[done];
                draft.clear();
                if one(&bytes[from..to], from, draft, record.limits).is_err() {
                    return false;
                }
                let key = outline(&bytes[from..to]).and_then(|found| found.sound_key());
                record.take(draft, key);
                done += 1;
            }
        }
        if fit < ahead.len() {
            return record.tally.is_beyond();
        }
        match next {
            Next::Element => {}
            Next::End => return true,
            Next::Otherwise => return false,
        }
    }
}

/// What comes after an element of an array: another, nothing, or what has no outline.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Element,
    End,
    Otherwise,
}

/// Reads what is left of an array from element `record.tally.index` on.
fn piecemeal<'a>(bytes: &'a [u8], start: usize, draft: &mut Draft<'a>, record: &mut Record<'_>) {
    let mut elements = Elements::new(bytes, start);
    let mut index = 0;
    loop {
        match elements.step() {
            Step::Element(range) => {
                if index >= record.tally.index {
                    if record.tally.is_beyond() {
                        return;
                    }
                    draft.clear();
                    match one(&bytes[range.clone()], range.start, draft, record.limits) {
                        Ok(()) => record.take(draft, None),
                        Err(error) => record.reject(draft, error),
                    }
                }
                index += 1;
            }
            Step::Cut(range) => {
                draft.clear();
                return record.reject(
                    draft,
                    DecodeError::Truncated {
                        format: FORMAT,
                        at: range.end,
                    },
                );
            }
            Step::End(end) => {
                if let Some(more) = bytes[end..].iter().position(|b| !b.is_ascii_whitespace()) {
                    draft.clear();
                    let reason = "more follows after the array: write one array a record";
                    record.reject(draft, malformed(bytes, end + more, reason));
                }
                return;
            }
        }
    }
}

/// Fills in where the rejected elements start.
fn locate(bytes: &[u8], start: usize, rejected: &mut [Rejected]) {
    if rejected.is_empty() {
        return;
    }
    let (mut elements, mut index) = (Elements::new(bytes, start), 0);
    for one in rejected {
        loop {
            let (Step::Element(range) | Step::Cut(range)) = elements.step() else {
                return;
            };
            index += 1;
            if index > one.index {
                one.at = Some(range.start);
                break;
            }
        }
    }
}

fn malformed(bytes: &[u8], at: usize, reason: &str) -> DecodeError {
    let hint = if bytes.contains(&0) {
        " (this looks like a binary format: check `format` of the topic)"
    } else {
        ""
    };
    DecodeError::Malformed {
        format: FORMAT,
        at: Some(at),
        reason: format!("{reason}{hint}"),
    }
}

fn syntax_error(bytes: &[u8], base: usize, error: &sonic_rs::Error) -> DecodeError {
    if let Some((field, literal)) = unfinite_literal(bytes) {
        return DecodeError::unfit(
            excerpt(&field),
            literal,
            "write a finite number, or leave the sample out",
        );
    }
    if error.is_eof() {
        return DecodeError::Truncated {
            format: FORMAT,
            at: base + bytes.len(),
        };
    }
    let text = error.to_string();
    let reason = text.split(" at line ").next().unwrap_or(&text);
    let mut reason = reason.trim().to_owned();
    if let Some(first) = reason.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    malformed(bytes, base + error.offset(), &reason)
}

/// Writes a sample as a record.
///
/// # Errors
/// Where its value is not finite.
pub fn encode(sample: &Sample) -> Result<Vec<u8>, EncodeError> {
    let what = || format!("sample of {:?}", excerpt(&sample.metric));
    if !sample.value.is_finite() {
        let found = sample.value.to_string();
        return Err(EncodeError::NotFinite {
            what: what(),
            field: "value".into(),
            found,
        });
    }
    serde_json::to_vec(sample).map_err(|error| EncodeError::Json {
        what: what(),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests;
