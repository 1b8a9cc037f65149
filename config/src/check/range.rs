//! Values within bounds, or their defaults.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::raw::{Bytes, Count, Factor, Share, Slew, Time};
use crate::reader::{Field, Problem, Reader};
use crate::units;

pub(super) const SECOND_MS: u64 = 1_000;
pub(super) const MINUTE_MS: u64 = 60 * SECOND_MS;
pub(super) const HOUR_MS: u64 = 60 * MINUTE_MS;
pub(super) const DAY_MS: u64 = 24 * HOUR_MS;

/// The value if it is within `range`; reports it if not.
fn within<T, V: PartialOrd + Copy>(
    field: Field<T>,
    value: impl Fn(&T) -> V,
    range: RangeInclusive<V>,
    format: impl Fn(V) -> String,
    r: &mut Reader<'_>,
) -> Option<V> {
    let at = field.given()?;
    let value = value(&at.value);
    if range.contains(&value) {
        return Some(value);
    }
    let expected = if value < *range.start() {
        format!("at least {}", format(*range.start()))
    } else {
        format!("at most {}", format(*range.end()))
    };
    r.report(&at.place, Problem::new(format(value), expected));
    None
}

pub(super) fn count<N: Copy + Into<u64> + TryFrom<u64>>(
    field: Field<Count>,
    range: RangeInclusive<N>,
    default: N,
    r: &mut Reader<'_>,
) -> N {
    let range = (*range.start()).into()..=(*range.end()).into();
    let value = within(field, |count| count.0, range, |count| count.to_string(), r);
    value.and_then(|count| N::try_from(count).ok()).unwrap_or(default)
}

pub(super) fn size(
    field: Field<Count>,
    range: RangeInclusive<u32>,
    default: usize,
    r: &mut Reader<'_>,
) -> usize {
    if field.is_absent() {
        return default;
    }
    usize::try_from(count(field, range, 1, r)).unwrap_or(default)
}

/// A duration; bounds and default in milliseconds.
pub(super) fn time(
    field: Field<Time>,
    range_ms: RangeInclusive<u64>,
    default_ms: u64,
    r: &mut Reader<'_>,
) -> Duration {
    let range = Duration::from_millis(*range_ms.start())..=Duration::from_millis(*range_ms.end());
    let value = within(field, |time| time.0, range, units::duration::format, r);
    value.unwrap_or(Duration::from_millis(default_ms))
}

/// A duration that others are held to; none where what was given was refused, so that nothing else is
/// refused for the default in its place.
pub(super) fn limiting_time(
    field: Field<Time>,
    range_ms: RangeInclusive<u64>,
    default_ms: u64,
    r: &mut Reader<'_>,
) -> Option<Duration> {
    if field.is_absent() {
        return Some(Duration::from_millis(default_ms));
    }
    let range = Duration::from_millis(*range_ms.start())..=Duration::from_millis(*range_ms.end());
    within(field, |time| time.0, range, units::duration::format, r)
}

pub(super) fn share(
    field: Field<Share>,
    range: RangeInclusive<f64>,
    default: f64,
    r: &mut Reader<'_>,
) -> f64 {
    within(field, |share| share.0, range, units::percent::format, r).unwrap_or(default)
}

pub(super) fn factor(
    field: Field<Factor>,
    range: RangeInclusive<f64>,
    default: f64,
    r: &mut Reader<'_>,
) -> f64 {
    within(field, |factor| factor.0, range, |factor| factor.to_string(), r).unwrap_or(default)
}

pub(super) fn slew(
    field: Field<Slew>,
    range: RangeInclusive<f64>,
    default: f64,
    r: &mut Reader<'_>,
) -> f64 {
    let format = |slew| format!("{}/s", units::percent::format(slew));
    within(field, |slew| slew.0, range, format, r).unwrap_or(default)
}

pub(super) fn bytes(
    field: Field<Bytes>,
    range: RangeInclusive<u64>,
    default: u64,
    r: &mut Reader<'_>,
) -> u64 {
    within(field, |bytes| bytes.0, range, units::size::format, r).unwrap_or(default)
}
