//! Numbers and units: the kinds of single values.

use std::time::Duration;

use foreshadow_control::{Capacity, Kept};

use crate::reader::Scalar;
use crate::units;
use crate::{PortRange, StatusRange};

/// Declares a kind of single value: what it looks like, its JSON Schema, and how it is read.
macro_rules! leaf {
    (
        $(#[doc = $doc:literal])*
        $name:ident($kind:ty), $form:expr, $schema:tt,
        |$scalar:ident| $parse:expr, |$wrong:ident| $help:expr
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug)]
        pub(crate) struct $name(pub(crate) $kind);

        impl $crate::raw::Read for $name {
            fn form() -> String {
                $form.to_owned()
            }

            fn read(
                node: &$crate::tree::Node,
                r: &mut $crate::reader::Reader<'_>,
            ) -> Option<Self> {
                let $scalar = &r.scalar(node, &Self::form())?;
                let value: Option<$kind> = $parse;
                if value.is_none() {
                    let $wrong = $scalar;
                    let help: Option<&str> = $help;
                    let mut problem = $crate::reader::Problem::new($wrong.describe(), $form);
                    problem.help = help.map(str::to_owned);
                    r.fault(&node.span, problem);
                }
                value.map(Self)
            }
        }

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
    ($(#[doc = $doc:literal])* $name:ident($kind:ty), $form:expr, $schema:tt,
        |$scalar:ident| $parse:expr) => {
        $crate::raw::leaf::leaf! {
            $(#[doc = $doc])*
            $name($kind), $form, $schema, |$scalar| $parse, |_wrong| None
        }
    };
}
pub(super) use leaf;

impl Scalar<'_> {
    /// The text, if it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text, _) => Some(text),
            _ => None,
        }
    }

    /// The integer; a text counts when a variable was filled in.
    pub(crate) fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(integer) => Some(*integer),
            Self::Text(text, true) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// The finite number; a text counts when a variable was filled in.
    pub(crate) fn number(&self) -> Option<f64> {
        let number = match self {
            #[expect(clippy::cast_precision_loss, reason = "no figure here needs 53 bits")]
            Self::Integer(integer) => Some(*integer as f64),
            Self::Float(float) => Some(*float),
            Self::Text(text, true) => text.trim().parse().ok(),
            _ => None,
        };
        number.filter(|number| number.is_finite())
    }

    /// The truth value; a text counts when a variable was filled in.
    pub(crate) fn bool(&self) -> Option<bool> {
        match self {
            Self::Bool(bool) => Some(*bool),
            Self::Text(text, true) => text.trim().parse().ok(),
            _ => None,
        }
    }

    fn is_number_in_quotes(&self) -> bool {
        matches!(self, Self::Text(text, false) if text.parse::<f64>().is_ok())
    }
}

const QUOTES: &str = "remove the quotes";

leaf! {
    /// A count.
    Count(u64), "a whole number",
    { "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string", "pattern": "\\$\\{" }] },
    |scalar| scalar.integer().and_then(|n| u64::try_from(n).ok()),
    |wrong| wrong.is_number_in_quotes().then_some(QUOTES)
}

leaf! {
    /// A switch.
    Flag(bool), "true or false",
    { "anyOf": [{ "type": "boolean" }, { "type": "string", "pattern": "\\$\\{" }] },
    |scalar| scalar.bool()
}

leaf! {
    /// A duration.
    Time(Duration), units::duration::FORM,
    { "type": "string", "pattern": "^([0-9.]+(ns|us|ms|s|m|h|d))+$|\\$\\{" },
    |scalar| scalar.text().and_then(units::duration::parse)
}

leaf! {
    /// A share as a fraction: a percentage, 0, or a number with a point up to 1.0.
    Share(f64), units::percent::FORM,
    { "anyOf": [
        { "type": "string", "pattern": "^[0-9.]+%$|\\$\\{" },
        { "type": "number", "minimum": 0, "maximum": 1 },
    ] },
    |scalar| match scalar {
        Scalar::Integer(0) => Some(0.0),
        Scalar::Float(share) => Some(*share).filter(|share| (0.0..=1.0).contains(share)),
        other => other.text().and_then(units::percent::parse),
    },
    |wrong| matches!(wrong, Scalar::Integer(_) | Scalar::Float(_)).then_some("add the % sign")
}

leaf! {
    /// How many are kept: a number, or a share of the primaries.
    KeptCount(Kept), "a whole number, or a share of the primaries such as 50%",
    { "anyOf": [
        { "type": "integer", "minimum": 0 },
        { "type": "string", "pattern": "^[0-9.]+%$|\\$\\{" },
    ] },
    |scalar| match scalar.integer() {
        Some(count) => u32::try_from(count).ok().map(Kept::Count),
        None => scalar.text().and_then(units::percent::parse).map(Kept::Share),
    },
    |wrong| wrong.is_number_in_quotes().then_some(QUOTES)
}

leaf! {
    /// An amount of money, in any unit.
    Amount(f64), "a number, such as 0.25",
    { "anyOf": [{ "type": "number", "minimum": 0 }, { "type": "string", "pattern": "\\$\\{" }] },
    |scalar| scalar.number().filter(|amount| *amount >= 0.0),
    |wrong| wrong.is_number_in_quotes().then_some(QUOTES)
}

leaf! {
    /// A factor on demand.
    Factor(f64), "a number, such as 2.5",
    { "anyOf": [{ "type": "number", "exclusiveMinimum": 0 }, { "type": "string", "pattern": "\\$\\{" }] },
    |scalar| match scalar {
        Scalar::Integer(whole) => u32::try_from(*whole).ok().map(f64::from),
        Scalar::Float(number) => Some(*number),
        other => other.text().and_then(|text| text.parse().ok()),
    }
}

leaf! {
    /// A size in bytes.
    Bytes(u64), units::size::FORM,
    { "type": "string", "pattern": "^[0-9.]+([KMGTk]?i?B)$|\\$\\{" },
    |scalar| scalar.text().and_then(units::size::parse)
}

leaf! {
    /// Requests per second.
    Rate(f64), units::rate::FORM,
    { "anyOf": [
        { "type": "string", "pattern": "^[0-9.]+(rps|/s)$|\\$\\{" },
        { "type": "number", "exclusiveMinimum": 0 },
    ] },
    |scalar| scalar.number().or_else(|| units::rate::parse(scalar.text()?)).filter(|r| *r > 0.0)
}

leaf! {
    /// How capacity is known.
    CapacityChoice(Capacity), "auto, or requests per second such as 400rps",
    { "anyOf": [
        { "type": "string", "pattern": "^(auto|[0-9.]+(rps|/s))$|\\$\\{" },
        { "type": "number", "exclusiveMinimum": 0 },
    ] },
    |scalar| match scalar.text() {
        Some("auto") => Some(Capacity::Learned),
        text => scalar
            .number()
            .or_else(|| units::rate::parse(text?))
            .filter(|rate| *rate > 0.0)
            .map(Capacity::Pinned),
    }
}

leaf! {
    /// A share per second.
    Slew(f64), "a share per second such as 50%/s",
    { "type": "string", "pattern": "^[0-9.]+%/s$|\\$\\{" },
    |scalar| scalar.text().and_then(|text| units::percent::parse(text.strip_suffix("/s")?))
}

leaf! {
    /// A switch that may be written in words: on and off are texts in YAML 1.2.
    Switch(bool), "on or off",
    { "anyOf": [
        { "type": "string", "pattern": "^(off|on)$|\\$\\{" },
        { "type": "boolean" },
    ] },
    |scalar| match scalar.text() {
        Some("on") => Some(true),
        Some("off") => Some(false),
        _ => scalar.bool(),
    }
}

leaf! {
    /// A status or a range of them.
    Status(StatusRange), "a status or a range of them, such as 200 or 200-399",
    { "anyOf": [
        { "type": "integer", "minimum": 100, "maximum": 599 },
        { "type": "string", "pattern": "^[1-5][0-9][0-9](-[1-5][0-9][0-9])?$|\\$\\{" },
    ] },
    |scalar| {
        let status = |text: &str| text.parse().ok().filter(|s| (100..=599_u16).contains(s));
        match (scalar.integer(), scalar.text()) {
            (Some(one), _) => status(&one.to_string()).map(|s| StatusRange { first: s, last: s }),
            (None, text) => text.and_then(|text| {
                let (first, last) = text.split_once('-').unwrap_or((text, text));
                let range = StatusRange { first: status(first)?, last: status(last)? };
                (range.first <= range.last).then_some(range)
            }),
        }
    }
}

leaf! {
    /// A file mode creation mask. As a number it would be read in tens by some and in eights by
    /// others.
    Mask(u32), "an octal mask in quotes, such as '027'",
    { "type": "string", "pattern": "^[0-7]{1,4}$|\\$\\{" },
    |scalar| scalar
        .text()
        .filter(|text| (1..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|text| u32::from_str_radix(text, 8).ok())
        .filter(|mask| *mask <= 0o777),
    |wrong| (wrong.text().is_none()).then_some("put it in quotes")
}

leaf! {
    /// A range of ports.
    Ports(PortRange), "auto, or a range of ports such as 20000-29999",
    { "type": "string", "pattern": "^(auto|[0-9]+-[0-9]+)$|\\$\\{" },
    |scalar| match scalar.text() {
        Some("auto") => Some(DEFAULT_PORTS),
        text => text.and_then(|text| {
            let (first, last) = text.split_once('-')?;
            let range = PortRange { first: first.parse().ok()?, last: last.parse().ok()? };
            (range.first > 0 && range.first <= range.last).then_some(range)
        }),
    }
}

/// Ports given to instances where the file names none.
pub(crate) const DEFAULT_PORTS: PortRange = PortRange { first: 20_000, last: 29_999 };
