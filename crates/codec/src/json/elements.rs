//! Finds the elements of an array by brackets and quotes alone, where some of them are no valid JSON.

use std::ops::Range;

pub(crate) struct Elements<'a> {
    bytes: &'a [u8],
    at: usize,
    first: bool,
}

pub(crate) enum Step {
    /// An element, without the space around it.
    Element(Range<usize>),
    /// The array ended just before this byte.
    End(usize),
    /// The record ends inside this element.
    Cut(Range<usize>),
}

impl<'a> Elements<'a> {
    /// Over the array whose `[` is at `start`.
    pub(crate) fn new(bytes: &'a [u8], start: usize) -> Self {
        Self {
            bytes,
            at: start + 1,
            first: true,
        }
    }

    pub(crate) fn step(&mut self) -> Step {
        let (start, mut depth, mut at) = (self.at, 0_usize, self.at);
        while let Some(byte) = self.bytes.get(at) {
            match byte {
                b'"' => at = skip_string(self.bytes, at),
                b'[' | b'{' => depth += 1,
                b',' if depth == 0 => {
                    self.at = at + 1;
                    self.first = false;
                    return Step::Element(self.trim(start..at));
                }
                b']' if depth == 0 => {
                    let range = self.trim(start..at);
                    // "[]" has no element, and a comma before the end is followed by none that could be named
                    if range.is_empty() && (self.first || at == start) {
                        return Step::End(at + 1);
                    }
                    // come back here, with nothing left but the end
                    self.at = at;
                    self.first = true;
                    return Step::Element(range);
                }
                b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            at += 1;
        }
        self.at = self.bytes.len();
        Step::Cut(self.trim(start.min(self.bytes.len())..self.bytes.len()))
    }

    fn trim(&self, range: Range<usize>) -> Range<usize> {
        let text = &self.bytes[range.clone()];
        let before = text.iter().take_while(|b| b.is_ascii_whitespace()).count();
        let after = text[before..]
            .iter()
            .rev()
            .take_while(|b| b.is_ascii_whitespace())
            .count();
        range.start + before..range.end - after
    }
}

/// Where the string that starts at `at` has its closing quote, or the last byte there is.
fn skip_string(bytes: &[u8], at: usize) -> usize {
    let mut next = at + 1;
    while let Some(byte) = bytes.get(next) {
        match byte {
            b'\\' => next += 2,
            b'"' => return next,
            _ => next += 1,
        }
    }
    bytes.len()
}

/// The first `NaN` or `Infinity` that stands where a number should, and the field before it: not JSON, yet written by
/// many a producer.
pub(super) fn unfinite_literal(bytes: &[u8]) -> Option<(String, &'static str)> {
    const LITERALS: [&str; 6] = ["NaN", "nan", "Infinity", "-Infinity", "inf", "-inf"];
    let (mut at, mut field) = (0, 0..0);
    while let Some(byte) = bytes.get(at) {
        if *byte == b'"' {
            let end = skip_string(bytes, at);
            field = at + 1..end;
            at = end;
        } else if (at == 0 || !bytes[at - 1].is_ascii_alphanumeric())
            && let Some(literal) = LITERALS.iter().find(|l| bytes[at..].starts_with(l.as_bytes()))
            && !bytes.get(at + literal.len()).is_some_and(u8::is_ascii_alphanumeric)
        {
            return Some((String::from_utf8_lossy(&bytes[field]).into_owned(), literal));
        }
        at += 1;
    }
    None
}
