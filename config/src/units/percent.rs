//! Shares: `75%`, or a fraction such as `0.75`.

use serde::Serializer;

use super::{decimal, number};

/// What a share looks like, for messages.
pub(crate) const FORM: &str = "a share such as 75% or 0.75";

/// Reads a percentage as a fraction: `0.1%` is 0.001.
pub(crate) fn parse(text: &str) -> Option<f64> {
    let (whole, fraction, rest) = number(text)?;
    if rest != "%" {
        return None;
    }
    // Moving the point as text gives the number nearest to the decimal that was meant.
    format!("{whole}.{fraction}0e-2").parse().ok().filter(|share: &f64| share.is_finite())
}

/// Writes a share so that [`parse`] reads the same one.
pub(crate) fn format(share: f64) -> String {
    format!("{}%", decimal(share, 2))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub(crate) fn serialize<S: Serializer>(share: &f64, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(&format(*share))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn percentages_are_exact() {
        for (text, share) in
            [("75%", 0.75), ("0.1%", 0.001), ("100%", 1.0), ("0%", 0.0), ("99.9%", 0.999)]
        {
            assert_eq!(parse(text), Some(share), "{text}");
        }
        for text in ["", "%", "75", "75 %", "-1%", "1e2%", "NaN%", "75%%", "7,5%"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(share in 0.0..=1000.0_f64) {
            prop_assert_eq!(parse(&format(share)), Some(share));
        }
    }
}
