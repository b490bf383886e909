//! Thresholds by simulation.

/// Natural logarithms: of the threshold of [`super::MixtureCusum`], of the run length looking at one side, and at both.
/// From `cargo run --release -p suture-benches --bin drift -- --calibrate`, 20,000 runs up to e^9, 2,000 above.
const MIXTURE: &[[f64; 3]] = &[[5.054, 6.908, 6.215], [7.32, 9.210, 8.517]];

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
