//! Predictive rules of operators: their language, their evaluation, and what they ask for.
//!
//! A rule looks at metrics, measured or predicted, and while its condition holds it asks for
//! capacity or holds what is there ([`Claims`]); it never takes any away, and the pool's `max`
//! bounds it like every law. Nothing here knows a clock; a tick of it is a function of what was
//! seen and of what it remembers.
//!
//! `text -> parse -> ast -> check` (comparisons that know their series) `-> board`, which in every
//! tick feeds the series (`sample`, `track`), evaluates, steps the hysteresis and adds up claims.

mod ast;
mod board;
mod check;
mod claims;
mod dry_run;
mod error;
mod hysteresis;
mod lex;
mod metric;
mod parse;
mod sample;
mod sight;
mod track;
pub(crate) mod used;
mod view;

pub use ast::{
    Comparator, Comparison, Condition, Lasting, Rule, RuleAction, Scope, Until, Value, When,
};
pub(crate) use board::Board;
pub(crate) use claims::Claims;
pub use dry_run::{DryRule, DryRun, Firing, dry_run};
pub use error::RuleError;
pub use metric::{Metric, Prefix, Unit};
pub use parse::MAX_RULE_BYTES;
pub use sight::{MAX_SIGHTS, Sight, sights};
pub use view::{RuleReading, RuleState, RuleView};

use serde::{Deserialize, Serialize};

/// Most rules of one service: every one of them is evaluated in every tick.
pub const MAX_RULES: usize = 64;

/// A rule of a service and its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleSpec {
    /// Unique among the rules of the service; see [`is_rule_name`].
    pub name: String,
    /// The rule.
    pub rule: Rule,
}

/// Whether `name` can be the name of a rule: 1 to 63 letters, digits, `-`, `_` or `.`, beginning
/// with a letter or digit.
#[must_use]
pub fn is_rule_name(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}
