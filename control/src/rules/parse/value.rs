//! Comparators, values and times.

use std::ops::RangeInclusive;

use winnow::Parser;
use winnow::combinator::opt;

use super::text_at;
use crate::rules::ast::{Comparator, Value, When};
use crate::rules::error::Fault;
use crate::rules::lex::{
    Input, Parsed, blank, cut, expected, next, number, takes, takes_sign, unit_text,
};
use crate::rules::metric::{Kind, Metric, Unit};

pub(super) const DAY_MS: u64 = 86_400_000;
/// Farthest a rule looks ahead.
const MAX_AHEAD_MS: u64 = 7 * DAY_MS;
/// Nearest; what is nearer is now.
const MIN_AHEAD_MS: u64 = 100;
/// No figure is larger.
const MAX_NUMBER: f64 = 1e15;
const COMPARATORS: [(&str, Comparator); 4] = [
    (">=", Comparator::AtLeast),
    ("<=", Comparator::AtMost),
    (">", Comparator::Above),
    ("<", Comparator::Below),
];

pub(super) fn comparator(input: &mut Input<'_>) -> Parsed<Comparator> {
    let at = next(input);
    for (sign, comparator) in COMPARATORS {
        if takes_sign(input, sign)? {
            return Ok(comparator);
        }
    }
    let fault = Fault::new(at.clone(), "one of >, >=, <, <=");
    Err(cut(match text_at(input, &at).unwrap_or_default() {
        "=" | "==" | "!=" => fault.help("measured figures are hardly ever equal"),
        "=>" => fault.help("write >="),
        _ => fault,
    }))
}

pub(super) fn value(input: &mut Input<'_>, metric: &Metric) -> Parsed<Value> {
    let kinds = metric.kinds();
    let wanted = match kinds {
        [] => "a number, with or without a unit".to_owned(),
        kinds => kinds.iter().map(|kind| kind.example()).collect::<Vec<_>>().join(" or "),
    };
    let Some((number, at)) = opt(number).parse_next(input)? else {
        return Err(expected(input, wanted));
    };
    if number > MAX_NUMBER {
        return Err(cut(Fault::new(at, "at most 1e15")));
    }
    let (unit, unit_at) = match opt(unit_text).parse_next(input)? {
        Some((text, at)) => match Unit::parse(text) {
            Some(unit) => (unit, at),
            None => {
                let fault = Fault::new(at, "a unit").nearest(text, &Unit::names());
                return Err(cut(fault.help(format!("{metric} takes {wanted}"))));
            }
        },
        None => (spaced_unit(input)?.unwrap_or(Unit::One), at),
    };
    if kinds.is_empty() || kinds.contains(&unit.kind()) {
        return Ok(Value { number, unit });
    }
    let fault = Fault::new(unit_at, wanted);
    Err(cut(match (unit.kind(), metric) {
        (Kind::Share, Metric::Demand | Metric::Rps) => fault.help("utilisation is a share"),
        _ => fault,
    }))
}

/// A unit that stands apart from its number; any other word belongs to what follows.
fn spaced_unit(input: &mut Input<'_>) -> Parsed<Option<Unit>> {
    let apart = (blank, unit_text).map(|((), (text, _))| Unit::parse(text));
    opt(apart.verify(Option::is_some)).map(Option::flatten).parse_next(input)
}

pub(super) fn when(input: &mut Input<'_>) -> Parsed<When> {
    let ahead = MIN_AHEAD_MS..=MAX_AHEAD_MS;
    let what = "a duration from 100ms to 7d, such as 30m";
    if takes(input, &["within"])? {
        Ok(When::Within(duration(input, ahead, what)?))
    } else if takes(input, &["at"])? {
        Ok(When::At(duration(input, ahead, what)?))
    } else {
        takes(input, &["now"])?;
        Ok(When::Now)
    }
}

/// A duration such as `1h30m` within `range`, or a fault that says `what` was expected.
pub(super) fn duration(
    input: &mut Input<'_>,
    range: RangeInclusive<u64>,
    what: &str,
) -> Parsed<u64> {
    blank(input)?;
    let at = next(input);
    let text = opt(unit_text).parse_next(input)?;
    let end = text.as_ref().map_or(at.end, |(_, read)| read.end.max(at.end));
    let ms = text.and_then(|(text, _)| milliseconds(text));
    ms.filter(|ms| range.contains(ms)).ok_or_else(|| cut(Fault::new(at.start..end, what)))
}

fn milliseconds(text: &str) -> Option<u64> {
    let mut total_ms = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, after) = tail.split_at(end);
        let length_ms = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => DAY_MS,
            _ => return None,
        };
        total_ms = total_ms.checked_add(number.parse::<u64>().ok()?.checked_mul(length_ms)?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(total_ms)
}
