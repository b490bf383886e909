//! What a value stands for, and what its series measures, in one byte.

use suture_event::{SignalKind, impossible};

use crate::PointKind;

/// The column that holds it. Who does not know it passes it over, as it is of no text.
pub(crate) const COLUMN: &str = "point";

/// A point's kind is in the lower three bits.
const KINDS: [PointKind; 6] = [
    PointKind::Unspecified,
    PointKind::Gauge,
    PointKind::Delta { monotonic: false },
    PointKind::Delta { monotonic: true },
    PointKind::Cumulative { monotonic: false },
    PointKind::Cumulative { monotonic: true },
];
const BITS: u8 = 3;

/// A signal's kind is in the bits above, counted from 1; 0 is none. New ones go to the end: records lie in topics.
const SIGNALS: [SignalKind; 11] = [
    SignalKind::Latency,
    SignalKind::Errors,
    SignalKind::Availability,
    SignalKind::Traffic,
    SignalKind::Cpu,
    SignalKind::Memory,
    SignalKind::Disk,
    SignalKind::Network,
    SignalKind::Saturation,
    SignalKind::Node,
    SignalKind::Other,
];

fn place<T: PartialEq>(all: &[T], one: &T) -> Option<u8> {
    u8::try_from(all.iter().position(|other| other == one)?).ok()
}

pub(crate) fn write(kind: PointKind, signal: Option<SignalKind>) -> u8 {
    let signal = signal
        .and_then(|signal| place(&SIGNALS, &signal))
        .map_or(0, |at| at + 1);
    let kind = place(&KINDS, &kind);
    if kind.is_none() {
        impossible("a kind of point that has no number");
    }
    kind.unwrap_or(0) | signal << BITS
}

/// What cannot be read is not said.
pub(crate) fn read(byte: u8) -> (PointKind, Option<SignalKind>) {
    let kind = KINDS.get(usize::from(byte & ((1 << BITS) - 1))).copied();
    let signal = usize::from(byte >> BITS).checked_sub(1);
    let signal = signal.and_then(|at| SIGNALS.get(at).copied());
    (kind.unwrap_or(PointKind::Unspecified), signal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_holds_every_kind_and_signal() {
        let mut seen = Vec::new();
        for kind in KINDS {
            for signal in SIGNALS.into_iter().map(Some).chain([None]) {
                let byte = write(kind, signal);
                assert_eq!(read(byte), (kind, signal));
                assert!(!seen.contains(&byte), "{byte} stands for two things");
                seen.push(byte);
            }
        }
        assert_eq!(write(PointKind::Unspecified, None), 0);
        assert_eq!(read(0xFF), (PointKind::Unspecified, None));
    }
}
