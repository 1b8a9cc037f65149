//! Elementary functions from basic arithmetic only.
//!
//! The system's `exp` and `pow` differ in the last bit between machines; a replay must not.

/// Factors of Horner's scheme for the series of `exp(-x)`: -1/9, -1/8, ..., -1.
const EXP_FACTORS: [f64; 9] = [
    -1.0 / 9.0,
    -1.0 / 8.0,
    -1.0 / 7.0,
    -1.0 / 6.0,
    -1.0 / 5.0,
    -1.0 / 4.0,
    -1.0 / 3.0,
    -1.0 / 2.0,
    -1.0,
];

/// `exp(-x)` for `x` in [0, 700]; clamped outside. Relative error below 1e-12.
pub(crate) fn exp_neg(x: f64) -> f64 {
    let mut reduced = x.clamp(0.0, 700.0);
    let mut halvings = 0;
    while reduced > 0.125 {
        reduced *= 0.5;
        halvings += 1;
    }
    let mut result = EXP_FACTORS.iter().fold(1.0, |sum, factor| 1.0 + sum * reduced * factor);
    for _ in 0..halvings {
        result *= result;
    }
    result
}

/// `base` to the power of `exponent`, by squaring.
pub(crate) fn powi(mut base: f64, mut exponent: u64) -> f64 {
    let mut result = 1.0;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result *= base;
        }
        base *= base;
        exponent >>= 1;
    }
    result
}

/// Upper half of the standard normal quantile function, sampled; the lower half mirrors it.
const NORMAL: [(f64, f64); 12] = [
    (0.5, 0.0),
    (0.6, 0.2533),
    (0.7, 0.5244),
    (0.8, 0.8416),
    (0.85, 1.0364),
    (0.9, 1.2816),
    (0.95, 1.6449),
    (0.975, 1.96),
    (0.99, 2.3263),
    (0.995, 2.5758),
    (0.998, 2.8782),
    (0.999, 3.0902),
];

/// Standard normal quantile, linear between tabulated points; levels beyond 0.001..0.999 clamp.
pub(crate) fn normal_quantile(level: f64) -> f64 {
    if level < 0.5 {
        return -normal_quantile(1.0 - level.max(0.001));
    }
    let next = NORMAL.partition_point(|(known, _)| *known < level).clamp(1, NORMAL.len() - 1);
    let ((x0, y0), (x1, y1)) = (NORMAL[next - 1], NORMAL[next]);
    y0 + (y1 - y0) * ((level - x0) / (x1 - x0)).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_and_power_agree_with_the_system() {
        for tenth in 0..300 {
            let x = f64::from(tenth) / 10.0;
            assert!((exp_neg(x) / (-x).exp() - 1.0).abs() < 1e-12, "exp(-{x})");
        }
        assert_eq!(exp_neg(-5.0), 1.0);
        assert!(exp_neg(f64::INFINITY) > 0.0);
        assert!((powi(0.999, 6_000) / 0.999_f64.powi(6_000) - 1.0).abs() < 1e-9);
        assert_eq!(powi(3.0, 0), 1.0);
    }

    #[test]
    fn normal_quantiles_are_odd_and_increasing() {
        assert_eq!(normal_quantile(0.5), 0.0);
        assert_eq!(normal_quantile(0.9), 1.2816);
        assert_eq!(normal_quantile(0.1), -1.2816);
        let mut last = f64::NEG_INFINITY;
        for thousandth in 1..1000 {
            let quantile = normal_quantile(f64::from(thousandth) / 1000.0);
            assert!(quantile >= last);
            last = quantile;
        }
    }
}
