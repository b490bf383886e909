//! What the encoder writes is what the decoder reads, and no larger than it says.

// what goes wrong here is a failed test
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;
use suture_codec::{
    Limits, PointKind, SampleRef, TelemetryDecoder as _,
    arrow::{Decoder, Encoder, Samples},
};
use suture_event::{Labels, Sample, SeriesKey, SignalKind, Timestamp};

type Read = (Sample, PointKind, Option<SignalKind>);

fn read(decoder: &mut Decoder, bytes: &[u8]) -> Vec<Read> {
    let mut read = Vec::new();
    let decoded = decoder
        .decode(bytes, &mut |sample: SampleRef<'_>| {
            read.push((sample.to_sample().unwrap(), sample.kind, sample.signal));
        })
        .unwrap();
    assert_eq!((decoded.accepted, decoded.rejected), (read.len(), Vec::new()));
    read
}

fn key(metric: &str, labels: &[(&str, &str)]) -> SeriesKey {
    SeriesKey {
        metric: metric.into(),
        labels: Labels::new(labels.iter().copied()).unwrap(),
    }
}

const KINDS: [PointKind; 3] = [
    PointKind::Unspecified,
    PointKind::Delta { monotonic: true },
    PointKind::Cumulative { monotonic: true },
];

fn series() -> impl Strategy<Value = (SeriesKey, PointKind)> {
    // names that the columns have too, and no label at all
    let name = prop::sample::select(vec!["ts", "value", "metric", "labels.a", "point", "pod", "é"]);
    let labels = prop::collection::btree_map(name, "[a-z]{0,12}", 0..5);
    ("[a-c]{1,3}", labels, 0..KINDS.len()).prop_map(|(metric, labels, kind)| {
        let labels: Vec<(&str, &str)> = labels.iter().map(|(n, v)| (*n, v.as_str())).collect();
        (key(&metric, &labels), KINDS[kind])
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_and_fits(
        series in prop::collection::vec(series(), 1..12),
        picks in prop::collection::vec((0_usize..12, 0_i64..4_000_000_000_000, -1e9..1e9), 0..80),
        split in 0_usize..80,
    ) {
        let mut encoder = Encoder::default();
        let numbers: Vec<u32> = series.iter().map(|(key, kind)| encoder.add(key, *kind, None)).collect();
        let picks: Vec<(usize, i64, f64)> = picks.into_iter().map(|(at, ts, v)| (at % series.len(), ts, v)).collect();
        // two records of one encoder: what the first one used must not show in the second
        for part in [&picks[..split.min(picks.len())], &picks[split.min(picks.len())..]] {
            let rows: Vec<u32> = part.iter().map(|(at, ..)| numbers[*at]).collect();
            let ts: Vec<Timestamp> = part.iter().map(|(_, ts, _)| Timestamp::from_millis(*ts)).collect();
            let values: Vec<f64> = part.iter().map(|(.., value)| *value).collect();
            let bytes = encoder.encode(Samples { series: &rows, ts: &ts, values: &values }).unwrap();
            let mut told: Vec<u32> = rows.clone();
            told.sort_unstable();
            told.dedup();
            let bytes_of = |number: &u32| Encoder::bytes_of(&series[*number as usize].0);
            let most = Encoder::RECORD
                + told.iter().map(|number| bytes_of(number).0).sum::<usize>()
                + rows.iter().map(|number| bytes_of(number).1).sum::<usize>();
            prop_assert!(bytes.len() <= most, "{} bytes, and at most {most} were told", bytes.len());
            let wanted: Vec<Read> = part.iter().map(|(at, ts, value)| {
                let (key, kind) = &series[*at];
                let sample = Sample {
                    ts: Timestamp::from_millis(*ts),
                    metric: key.metric.clone(),
                    value: *value,
                    labels: key.labels.clone(),
                };
                (sample, *kind, None)
            }).collect();
            prop_assert_eq!(read(&mut Decoder::of_own(Limits::default()), &bytes), wanted);
        }
    }
}

#[test]
fn what_values_stand_for_is_read_of_own_records_alone() {
    let mut encoder = Encoder::default();
    let number = encoder.add(&key("requests", &[("pod", "a")]), PointKind::Gauge, None);
    encoder.set_point(number, PointKind::Delta { monotonic: false }, Some(SignalKind::Traffic));
    let samples = Samples {
        series: &[number],
        ts: &[Timestamp::from_millis(1_000)],
        values: &[1.0],
    };
    let bytes = encoder.encode(samples).unwrap();
    let own = read(&mut Decoder::of_own(Limits::default()), &bytes);
    assert_eq!(
        (own[0].1, own[0].2),
        (PointKind::Delta { monotonic: false }, Some(SignalKind::Traffic))
    );
    let foreign = read(&mut Decoder::new(Limits::default()), &bytes);
    assert_eq!((foreign[0].1, foreign[0].2), (PointKind::Unspecified, None));
    assert_eq!(foreign[0].0, own[0].0);
}

#[test]
fn a_record_may_have_no_sample_and_series_may_be_forgotten() {
    let mut encoder = Encoder::default();
    let nothing = Samples {
        series: &[],
        ts: &[],
        values: &[],
    };
    let bytes = encoder.encode(nothing).unwrap();
    assert_eq!(read(&mut Decoder::of_own(Limits::default()), &bytes), []);
    let number = encoder.add(&key("a", &[]), PointKind::Gauge, None);
    encoder.clear();
    assert_eq!(encoder.series(), 0);
    let unknown = Samples {
        series: &[number],
        ts: &[Timestamp::from_millis(1)],
        values: &[1.0],
    };
    let bytes = encoder.encode(unknown).unwrap();
    assert_eq!(read(&mut Decoder::of_own(Limits::default()), &bytes), []);
}
