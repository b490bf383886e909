//! Logarithm and exponential in single precision as plain arithmetic: loops over them become vector instructions, and the
//! answers are the same on every machine, which those of a system's library are not.

/// Natural logarithm of a positive normal number: within 2e-7 of the result, or of 1 where that is less.
///
/// The number is split into a power of two and a rest within a factor of the root of two of 1, whose logarithm is the
/// series of the inverse hyperbolic tangent.
#[inline(always)]
pub(crate) fn ln(x: f32) -> f32 {
    const ROOT_HALF: u32 = 0x3f35_04f3;
    #[allow(clippy::cast_possible_wrap)] // the bits of a positive number, so that the shift keeps the sign
    let power = (x.to_bits().wrapping_sub(ROOT_HALF) as i32) >> 23;
    #[allow(clippy::cast_sign_loss)] // bits again
    let rest = f32::from_bits(x.to_bits().wrapping_sub((power << 23) as u32));
    let t = (rest - 1.0) / (rest + 1.0);
    let s = t * t;
    let series = 2.0 * t * (1.0 + s * (1.0 / 3.0 + s * (0.2 + s * (1.0 / 7.0))));
    #[allow(clippy::cast_precision_loss)] // within 128
    let power = power as f32;
    power * std::f32::consts::LN_2 + series
}

/// Exponential, within 3e-7 of the result; numbers beyond -80 and 80 count as these.
///
/// The number is split into a multiple of the logarithm of two and a rest within half of it, for which Taylor's series
/// does.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    /// Adding and taking it away rounds to the nearest whole number; what was added last are then its lowest bits.
    const ROUND: f32 = 12_582_912.0;
    // the logarithm of two in two parts, the first with few bits, so that its multiples are exact
    const HIGH: f32 = 0.693_359_4;
    const LOW: f32 = -2.121_944_4e-4;
    let x = if x > 80.0 { 80.0 } else { x };
    let x = if x < -80.0 { -80.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    let r = x - whole * HIGH - whole * LOW;
    let series =
        1.0 + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r * (1.0 / 720.0))))));
    let power = shifted
        .to_bits()
        .wrapping_sub(ROUND.to_bits())
        .wrapping_add(127)
        .wrapping_shl(23);
    series * f32::from_bits(power)
}

/// The smaller of two numbers that are not NaN, in one instruction.
#[inline(always)]
pub(crate) fn least(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// The greater of two numbers that are not NaN, in one instruction.
#[inline(always)]
pub(crate) fn most(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// A number held within `-by..=by`.
#[inline(always)]
pub(crate) fn within(x: f32, by: f32) -> f32 {
    most(least(x, by), -by)
}

/// The first number where `which` is above 0, else the second. Both are worked out before: a loop with a branch, or with
/// a place that is written only at times, becomes no vector instructions.
#[inline(always)]
pub(crate) fn pick(which: f32, a: f32, b: f32) -> f32 {
    if which > 0.0 { a } else { b }
}

/// Numbers nearer to 0 than this count as 0: sums that fade away would otherwise end among the numbers on which
/// processors are slow.
pub(crate) const TINY: f32 = 1e-30;

/// 0 in place of what is nearer to it than [`TINY`].
#[inline(always)]
pub(crate) fn flush(x: f32) -> f32 {
    if x.abs() < TINY { 0.0 } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithm_and_exponential_keep_their_word() {
        let mut x = 1.2e-38_f32;
        while x < 3e38 {
            let exact = f64::from(x).ln();
            assert!((f64::from(ln(x)) - exact).abs() <= 2e-7 * exact.abs().max(1.0), "{x}");
            x *= 1.000_37;
        }
        for i in -800_000..=800_000 {
            let x = i as f32 * 1e-4;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) / exact - 1.0).abs() <= 3e-7, "{x} {}", exp(x));
        }
        assert_eq!((exp(-1e30), ln(1.0)), (exp(-80.0), 0.0));
        assert_eq!((flush(1e-31), flush(-1e-29)), (0.0, -1e-29));
    }
}
