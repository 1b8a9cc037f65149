//! Rates: `400rps`.

use serde::Serializer;

use super::{decimal, number};

/// What a rate looks like, for messages.
pub(crate) const FORM: &str = "requests per second such as 400rps";

/// Reads requests per second.
pub(crate) fn parse(text: &str) -> Option<f64> {
    let (whole, fraction, rest) = number(text)?;
    if rest != "rps" && rest != "/s" {
        return None;
    }
    format!("{whole}.{fraction}0").parse().ok().filter(|rate: &f64| rate.is_finite())
}

/// Writes a rate so that [`parse`] reads the same one.
pub(crate) fn format(rate: f64) -> String {
    format!("{}rps", decimal(rate, 0))
}

#[expect(clippy::ref_option, reason = "serde passes a reference")]
pub(crate) fn serialize_option<S: Serializer>(
    rate: &Option<f64>,
    out: S,
) -> Result<S::Ok, S::Error> {
    match rate {
        Some(rate) => out.serialize_str(&format(*rate)),
        None => out.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rates_are_read() {
        assert_eq!(parse("400rps"), Some(400.0));
        assert_eq!(parse("0.5/s"), Some(0.5));
        for text in ["", "400", "rps", "400 rps", "-1rps", "1e3rps", "400rpm"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(rate in 0.0..1e12_f64) {
            prop_assert_eq!(parse(&format(rate)), Some(rate));
        }
    }
}
