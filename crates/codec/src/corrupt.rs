//! For tests: records as they are after something went wrong with them.

use crate::{DecodeError, Decoded, Limits, SampleRef, TelemetryDecoder, TelemetryFormat};

/// How many mutations are made of each record.
const MUTATIONS: u64 = 10_000;

/// A small generator of numbers that look random (Steele and others, SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    #[allow(clippy::cast_possible_truncation)] // below what it is taken of
    fn below(&mut self, most: usize) -> usize {
        (self.next() % most.max(1) as u64) as usize
    }
}

/// Hands each mutation of a record on, and whether it is of one byte alone.
pub(crate) fn each(record: &[u8], mut take: impl FnMut(&[u8], bool)) {
    let mut numbers = Numbers(record.len() as u64);
    for _ in 0..MUTATIONS {
        let mut bytes = record.to_vec();
        let at = numbers.below(bytes.len());
        let one = numbers.below(2) == 0;
        match numbers.below(if one { 2 } else { 5 }) {
            0 => bytes[at] ^= 1 << numbers.below(8),
            1 => bytes[at] = u8::try_from(numbers.below(256)).unwrap(),
            2 => bytes.truncate(at),
            3 => {
                let to = (at + numbers.below(20)).min(bytes.len());
                bytes.drain(at..to);
            }
            _ => {
                let to = (at + numbers.below(20)).min(bytes.len());
                let again = bytes[at..to].to_vec();
                bytes.splice(at..at, again);
            }
        }
        take(&bytes, one);
    }
}

fn decode(decoder: &mut dyn TelemetryDecoder, bytes: &[u8]) -> (Result<Decoded, DecodeError>, usize) {
    let mut handed = 0;
    let result = decoder.decode(bytes, &mut |sample: SampleRef<'_>| {
        assert!(sample.value.is_finite() && !sample.metric.is_empty());
        handed += 1;
    });
    (result, handed)
}

/// Whatever is done to a record, it is decoded or refused with a reason: what is not taken is accounted for. In a text, one
/// byte that is another loses no sample without a word.
pub(crate) fn nothing_is_lost_silently<D: TelemetryDecoder>(fresh: impl Fn() -> D, record: &[u8], text: bool) {
    let (whole, handed) = decode(&mut fresh(), record);
    let whole = whole.unwrap();
    assert_eq!((whole.accepted, whole.rejected.len()), (handed, 0));
    each(record, |bytes, one| {
        let shown = String::from_utf8_lossy(bytes).into_owned();
        let (result, handed) = decode(&mut fresh(), bytes);
        match result {
            Ok(decoded) => {
                assert_eq!(decoded.accepted, handed, "{shown}");
                let told = decoded.rejected.len() + decoded.without_value;
                assert!(decoded.accepted + told > 0, "nothing came of {shown}");
                assert!(
                    !(one && text) || decoded.accepted >= whole.accepted || told > 0,
                    "lost without a word: {shown}"
                );
                assert!(
                    decoded
                        .rejected
                        .iter()
                        .all(|rejected| !rejected.error.to_string().is_empty())
                );
            }
            Err(error) => assert!(handed == 0 && !error.to_string().is_empty(), "{shown}"),
        }
        // and told apart by its own content, it is the same or refused
        let _ = decode(TelemetryFormat::Auto.decoder(Limits::default()).as_mut(), bytes);
    });
}
