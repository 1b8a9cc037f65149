//! Whether a state that was read back is one that can be calculated with.
//!
//! Every part has a `check` of its own beside its fields; these are the words they are said in. A
//! check names the field, so that whoever edited or cut the text finds the place.

use std::fmt::{Debug, Display};

/// `Err` names the field, what it holds and what it may hold.
pub(crate) type Checked = Result<(), String>;

/// No rate, error or sum of a sound state is larger; squares and products of such are finite.
pub(crate) const MOST: f64 = 1e15;
/// No count of steps is larger: at ten steps a millisecond that is 28,000 years.
pub(crate) const MOST_STEPS: u64 = 1 << 53;

pub(crate) fn within(name: impl Display, value: f64, least: f64, most: f64) -> Checked {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(format!("{name} is {value:e}, outside {least:e}..={most:e}"))
}

pub(crate) fn all_within<'a>(
    name: &str,
    values: impl IntoIterator<Item = &'a f64>,
    least: f64,
    most: f64,
) -> Checked {
    let mut values = values.into_iter().enumerate();
    values.try_for_each(|(at, value)| within(format_args!("{name}[{at}]"), *value, least, most))
}

pub(crate) fn count(name: &str, value: u64, least: u64, most: u64) -> Checked {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(format!("{name} is {value}, outside {least}..={most}"))
}

pub(crate) fn same<T: PartialEq + Debug>(name: &str, value: &T, expected: &T) -> Checked {
    if value == expected {
        return Ok(());
    }
    Err(format!("{name} is {value:?} where {expected:?} belongs"))
}

/// What a part found, with the way to it.
pub(crate) fn part(name: impl Display, found: Checked) -> Checked {
    found.map_err(|fault| format!("{name}.{fault}"))
}
