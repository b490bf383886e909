//! Numbers as people read them.

/// Four significant digits, without a tail of zeros; powers of ten where plain digits would be long.
#[must_use]
pub fn number(value: f64) -> String {
    if !value.is_finite() || value == 0.0 {
        return format!("{value}");
    }
    let size = value.abs();
    if !(1e-4..1e7).contains(&size) {
        return format!("{value:.2e}");
    }
    let places: usize = match size {
        s if s >= 1_000.0 => 0,
        s if s >= 100.0 => 1,
        s if s >= 10.0 => 2,
        s if s >= 1.0 => 3,
        s if s >= 0.1 => 4,
        s if s >= 0.01 => 5,
        _ => 7,
    };
    let text = format!("{value:.places$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (88.1, "88.1"),
            (0.0, "0"),
            (12_345.678, "12346"),
            (0.012_345_6, "0.01235"),
            (1e300, "1.00e300"),
            (-2.0, "-2"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(super::number(value), text);
        }
    }
}
