//! Logarithm and exponential from basic arithmetic only.
//!
//! The system's own differ in the last bit between machines; a replay must not.

use std::f64::consts::{LN_2, SQRT_2};

/// Factors of Horner's scheme for artanh(s) / s in the square of s: 1/21, 1/19, ..., 1.
const ARTANH: [f64; 11] = [
    1.0 / 21.0,
    1.0 / 19.0,
    1.0 / 17.0,
    1.0 / 15.0,
    1.0 / 13.0,
    1.0 / 11.0,
    1.0 / 9.0,
    1.0 / 7.0,
    1.0 / 5.0,
    1.0 / 3.0,
    1.0,
];
/// Factors for the series of the exponential function: 1/12, 1/11, ..., 1.
const EXP: [f64; 12] = [
    1.0 / 12.0,
    1.0 / 11.0,
    1.0 / 10.0,
    1.0 / 9.0,
    1.0 / 8.0,
    1.0 / 7.0,
    1.0 / 6.0,
    1.0 / 5.0,
    1.0 / 4.0,
    1.0 / 3.0,
    1.0 / 2.0,
    1.0,
];
const MANTISSA: u64 = (1 << 52) - 1;
const EXPONENT_OF_ONE: u64 = 1023;

/// The natural logarithm of a positive number, within 1e-14 of itself or of 1; of what is not
/// positive, subnormal or no number, that of the smallest normal number; of infinity, that of the
/// largest.
pub(crate) fn ln(x: f64) -> f64 {
    let x = if x >= f64::MIN_POSITIVE { x.min(f64::MAX) } else { f64::MIN_POSITIVE };
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i64 - EXPONENT_OF_ONE as i64;
    let mut mantissa = f64::from_bits(bits & MANTISSA | EXPONENT_OF_ONE << 52);
    if mantissa > SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    // ln m = 2 artanh((m - 1) / (m + 1)), whose argument is below 0.172.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let series = ARTANH.iter().fold(0.0, |sum, factor| sum * square + factor);
    2.0 * s * series + exponent as f64 * LN_2
}

/// `e` to the power of `x`, within 1e-13 of itself; clamped to -700..700, 1 for what is no number.
pub(crate) fn exp(x: f64) -> f64 {
    let x = if x.is_nan() { 0.0 } else { x.clamp(-700.0, 700.0) };
    let doublings = (x / LN_2).round();
    let rest = x - doublings * LN_2;
    let series = EXP.iter().fold(1.0, |sum, factor| 1.0 + sum * rest * factor);
    let exponent = (EXPONENT_OF_ONE as i64 + doublings as i64) as u64;
    series * f64::from_bits(exponent << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_agree_with_the_system() {
        for nth in -700..=700 {
            let x = f64::from(nth) * 0.9973;
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-12, "exp({x})");
            let y = x.exp();
            assert!((ln(y) - y.ln()).abs() <= 1e-14 * x.abs().max(1.0), "ln({y})");
        }
        for y in [1.0, 1.0 + 1e-9, 0.999, SQRT_2, 2.0, 3e-308, f64::MAX] {
            assert!((ln(y) - y.ln()).abs() <= 1e-14 * y.ln().abs().max(1.0), "ln({y})");
        }
    }

    #[test]
    fn nonsense_stays_finite() {
        for x in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0, -0.0, 5e-324] {
            assert!(ln(x).is_finite() && exp(x).is_finite(), "{x}");
        }
    }
}
