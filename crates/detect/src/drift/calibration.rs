//! Thresholds by simulation.

/// Natural logarithms: of the threshold of [`super::MixtureCusum`], of the run length looking at one side, and at both.
/// From `cargo run --release -p suture-benches --bin drift -- --calibrate`: 20,000 runs up to e^9, 4,000 above.
const MIXTURE: &[[f64; 3]] = &[
    [1.0, 2.6670, 1.9683],
    [2.0, 3.7373, 3.0525],
    [3.0, 4.7953, 4.1036],
    [4.0, 5.8340, 5.1323],
    [5.0, 6.8578, 6.1454],
    [6.0, 7.8596, 7.1617],
    [7.0, 8.8557, 8.1750],
    [8.0, 9.8585, 9.1645],
    [9.0, 10.8610, 10.1658],
    [10.0, 11.8687, 11.1663],
    [11.0, 12.8826, 12.1816],
];

/// The threshold for a run length, by interpolation between logarithms. Beyond the table the run length grows in
/// proportion to the threshold, as it does in the limit.
pub(super) fn mixture_threshold(arl: f64, one_side: bool) -> f64 {
    let column = if one_side { 1 } else { 2 };
    let wanted = arl.ln();
    let above = MIXTURE.partition_point(|row| row[column] < wanted);
    if above == MIXTURE.len() {
        let last = MIXTURE[MIXTURE.len() - 1];
        return (last[0] + wanted - last[column]).exp();
    }
    let (low, high) = (MIXTURE[above.max(1) - 1], MIXTURE[above.max(1)]);
    let share = (wanted - low[column]) / (high[column] - low[column]);
    (low[0] + share * (high[0] - low[0])).exp()
}
