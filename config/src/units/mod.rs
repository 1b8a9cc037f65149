//! Values with units: how they are read and how they are written.
//!
//! Whatever is written is read back as the same value.

pub(crate) mod control;
pub(crate) mod duration;
pub(crate) mod percent;
pub(crate) mod rate;
pub(crate) mod size;

/// `text` as a decimal number without sign and exponent, and what follows it.
///
/// The number is its digits before and after the point, so that no precision is lost.
fn number(text: &str) -> Option<(&str, &str, &str)> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = text.split_at(digits(text));
    if whole.is_empty() {
        return None;
    }
    match rest.strip_prefix('.') {
        Some(rest) => {
            let (fraction, rest) = rest.split_at(digits(rest));
            (!fraction.is_empty()).then_some((whole, fraction, rest))
        }
        None => Some((whole, "", rest)),
    }
}

/// The exact product of a decimal number and a unit, rounded down to a whole.
fn scale(whole: &str, fraction: &str, unit: u128) -> Option<u128> {
    let whole = whole.parse::<u128>().ok()?.checked_mul(unit)?;
    if fraction.is_empty() {
        return Some(whole);
    }
    if fraction.len() > 18 {
        return None;
    }
    let denominator = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let part = fraction.parse::<u128>().ok()?.checked_mul(unit)? / denominator;
    whole.checked_add(part)
}

/// A finite number as plain decimal text, its point moved right by `shift` digits.
fn decimal(value: f64, shift: i32) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent = exponent.parse::<i32>().unwrap_or(0) + shift;
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(mantissa) => ("-", mantissa),
        None => ("", mantissa),
    };
    let digits = mantissa.replace('.', "");
    let point = usize::try_from(exponent + 1).unwrap_or(0);
    if exponent < 0 {
        let zeros = usize::try_from(-exponent - 1).unwrap_or(0);
        format!("{sign}0.{}{digits}", "0".repeat(zeros))
    } else if digits.len() > point {
        format!("{sign}{}.{}", &digits[..point], &digits[point..])
    } else {
        format!("{sign}{digits}{}", "0".repeat(point - digits.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn the_point_moves_without_loss() {
        assert_eq!(decimal(0.75, 2), "75");
        assert_eq!(decimal(0.001, 2), "0.1");
        assert_eq!(decimal(1.0, 2), "100");
        assert_eq!(decimal(0.0, 2), "0");
        assert_eq!(decimal(0.123_456, 2), "12.3456");
        assert_eq!(decimal(400.0, 0), "400");
        assert_eq!(decimal(-1.5, 0), "-1.5");
        assert_eq!(decimal(0.000_012, 2), "0.0012");
    }
}
