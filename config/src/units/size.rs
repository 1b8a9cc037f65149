//! Sizes: `64KiB`, `1MB`.

use serde::Serializer;

use super::{number, scale};

/// What a size looks like, for messages.
pub(crate) const FORM: &str = "a size with its unit, such as 64KiB, 1MB or 512B";

const UNITS: [(&str, u128); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// Reads a size as bytes. `kB` is `KB`, 1000 bytes; `KiB` is 1024.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let (whole, fraction, unit) = number(text)?;
    let unit = if unit == "kB" { "KB" } else { unit };
    let (_, bytes) = UNITS.iter().find(|(name, _)| *name == unit)?;
    u64::try_from(scale(whole, fraction, *bytes)?).ok()
}

/// Writes a size so that [`parse`] reads the same one.
pub(crate) fn format(bytes: u64) -> String {
    let bytes = u128::from(bytes);
    let fits = |unit: &&(&str, u128)| bytes >= unit.1 && bytes.is_multiple_of(unit.1);
    match UNITS.iter().find(fits) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub(crate) fn serialize<S: Serializer>(bytes: &u64, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(&format(*bytes))
}

#[expect(clippy::ref_option, reason = "serde passes a reference")]
pub(crate) fn optional<S: Serializer>(bytes: &Option<u64>, out: S) -> Result<S::Ok, S::Error> {
    serialize(&bytes.unwrap_or(0), out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("64KiB", 65_536),
            ("1MB", 1_000_000),
            ("0B", 0),
            ("1.5GiB", 1_610_612_736),
            ("4kB", 4_000),
        ] {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
        for text in ["", "64", "KiB", "1 MB", "-1B", "1mb", "1Gi", "99999999TiB"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(bytes in any::<u64>(), shift in 0..50_u32) {
            let bytes = bytes >> shift << shift.min(20);
            prop_assert_eq!(parse(&format(bytes)), Some(bytes));
        }
    }
}
