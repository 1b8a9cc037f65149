//! A rule as a value; printing it gives a text that reads as the same rule.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::metric::{Metric, Unit};
use crate::ServiceName;

/// A predictive rule: when its condition holds it asks for capacity, or tells someone.
///
/// Made by parsing its text, so it is always one that can be printed and read again. It is kept,
/// sent and recorded as that text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rule {
    /// What must hold.
    pub condition: Condition,
    /// How long it must hold before the rule fires; at once when absent.
    pub lasting: Option<Lasting>,
    /// What ends it, where that is not simply that the condition fails.
    pub until: Option<Until>,
    /// How long the end must last before the rule lets go.
    pub clear_after_ms: u64,
    /// What it asks for, at least one.
    pub actions: Vec<RuleAction>,
    /// Its say among firing rules of the same priority, 1 to 1000.
    pub weight: u32,
    /// Of firing rules only those of the highest priority decide, 0 to 1000.
    pub priority: u32,
}

/// Comparisons and how they are joined; `And` and `Or` hold two or more, none of their own kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// At least one holds.
    Or(Vec<Condition>),
    /// All hold.
    And(Vec<Condition>),
    /// One comparison.
    Is(Comparison),
}

/// A metric against a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Which quantile of what is predicted, in per cent; the median when absent.
    pub quantile: Option<u8>,
    /// Of what.
    pub scope: Scope,
    /// What is compared.
    pub metric: Metric,
    /// How.
    pub comparator: Comparator,
    /// With what.
    pub value: Value,
    /// At which time.
    pub when: When,
}

/// What a metric is taken of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The service as a whole.
    Service,
    /// At least one of the instances that take requests.
    Any,
    /// Every instance that takes requests.
    All,
}

/// How a metric is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparator {
    /// `>`
    Above,
    /// `>=`
    AtLeast,
    /// `<`
    Below,
    /// `<=`
    AtMost,
}

/// A number with its unit, as written.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Value {
    /// Not negative, at most 1e15.
    pub number: f64,
    /// Its unit.
    pub unit: Unit,
}

/// The time a comparison is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// What is measured.
    Now,
    /// What is predicted for this many milliseconds from now.
    At(u64),
    /// What is measured, or predicted for any time up to then.
    Within(u64),
}

/// How long a condition must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lasting {
    /// In so many ticks in a row.
    Ticks(u32),
    /// For so many milliseconds.
    Time(u64),
}

/// What ends a firing rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// The metric of the rule's only comparison against another value.
    Value(Comparator, Value),
    /// A condition of its own.
    Condition(Condition),
}

/// What a rule asks for while it fires. Counts are levels, not steps: asking again adds nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleAction {
    /// At least so many shadows serve, of another service where one is named.
    Activate(u32, Option<ServiceName>),
    /// At least so many shadows run, warm or further.
    Warm(u32, Option<ServiceName>),
    /// At least so many shadows exist.
    Prepare(u32, Option<ServiceName>),
    /// No shadow is taken back.
    Hold(Option<ServiceName>),
    /// This is told.
    Alert(String),
}

impl Value {
    /// The value as figures are kept: shares as fractions, times in milliseconds, sizes in bytes.
    #[must_use]
    pub fn base(&self) -> f64 {
        self.number * self.unit.factor()
    }
}

impl Comparator {
    /// Whether it asks for much rather than little.
    pub(super) fn wants_more(self) -> bool {
        matches!(self, Self::Above | Self::AtLeast)
    }

    pub(super) fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Above => left > right,
            Self::AtLeast => left >= right,
            Self::Below => left < right,
            Self::AtMost => left <= right,
        }
    }

    pub(super) fn symbol(self) -> &'static str {
        match self {
            Self::Above => ">",
            Self::AtLeast => ">=",
            Self::Below => "<",
            Self::AtMost => "<=",
        }
    }
}

impl RuleAction {
    /// The other service it is about, if one is named.
    #[must_use]
    pub fn service(&self) -> Option<&ServiceName> {
        match self {
            Self::Activate(_, of) | Self::Warm(_, of) | Self::Prepare(_, of) | Self::Hold(of) => {
                of.as_ref()
            }
            Self::Alert(_) => None,
        }
    }

    /// Whether it asks for what `other` asks for already, be it another number of it.
    pub(super) fn repeats(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Alert(text), Self::Alert(other)) => text == other,
            _ => {
                std::mem::discriminant(self) == std::mem::discriminant(other)
                    && self.service() == other.service()
            }
        }
    }

    /// The shadows it asks for; none when it asks for something else.
    #[must_use]
    pub fn count(&self) -> Option<u32> {
        match self {
            Self::Activate(count, _) | Self::Warm(count, _) | Self::Prepare(count, _) => {
                Some(*count)
            }
            Self::Hold(_) | Self::Alert(_) => None,
        }
    }
}

impl Rule {
    /// All comparisons, in the order written.
    pub(super) fn comparisons(&self) -> Vec<&Comparison> {
        let mut found = Vec::new();
        self.condition.collect(&mut found);
        if let Some(Until::Condition(condition)) = &self.until {
            condition.collect(&mut found);
        }
        found
    }
}

impl Condition {
    fn collect<'a>(&'a self, found: &mut Vec<&'a Comparison>) {
        match self {
            Self::Or(parts) | Self::And(parts) => parts.iter().for_each(|p| p.collect(found)),
            Self::Is(comparison) => found.push(comparison),
        }
    }
}

impl From<Rule> for String {
    fn from(rule: Rule) -> Self {
        rule.to_string()
    }
}

/// Milliseconds as a duration that reads back as the same.
pub(super) fn duration(ms: u64) -> String {
    const UNITS: [(&str, u64); 5] =
        [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    let mut text = String::new();
    let mut left_ms = ms;
    for (name, length_ms) in UNITS {
        if left_ms >= length_ms {
            text.push_str(&format!("{}{name}", left_ms / length_ms));
            left_ms %= length_ms;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.condition)?;
        match self.lasting {
            Some(Lasting::Ticks(1)) => f.write_str(" for 1 tick")?,
            Some(Lasting::Ticks(ticks)) => write!(f, " for {ticks} ticks")?,
            Some(Lasting::Time(ms)) => write!(f, " for {}", duration(ms))?,
            None => {}
        }
        match &self.until {
            Some(Until::Value(comparator, value)) => {
                write!(f, " until {} {value}", comparator.symbol())?;
            }
            Some(Until::Condition(condition)) => write!(f, " until {condition}")?,
            None => {}
        }
        if self.clear_after_ms > 0 {
            write!(f, " clear after {}", duration(self.clear_after_ms))?;
        }
        for (index, action) in self.actions.iter().enumerate() {
            write!(f, "{}{action}", if index == 0 { " -> " } else { ", " })?;
        }
        if self.weight != 1 {
            write!(f, " weight {}", self.weight)?;
        }
        if self.priority != 0 {
            write!(f, " priority {}", self.priority)?;
        }
        Ok(())
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (parts, word) = match self {
            Self::Is(comparison) => return comparison.fmt(f),
            Self::Or(parts) => (parts, " or "),
            Self::And(parts) => (parts, " and "),
        };
        for (index, part) in parts.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { word })?;
            match (self, part) {
                (Self::And(_), Self::Or(_)) => write!(f, "({part})")?,
                _ => part.fmt(f)?,
            }
        }
        Ok(())
    }
}

impl Comparison {
    /// What is compared, without the value.
    pub(super) fn subject(&self) -> String {
        let quantile = self.quantile.map_or_else(String::new, |p| format!("p{p} of "));
        let scope = match self.scope {
            Scope::Service => "",
            Scope::Any => "any instance ",
            Scope::All => "all instances ",
        };
        format!("{quantile}{scope}{}", self.metric)
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}{}", self.subject(), self.comparator.symbol(), self.value, self.when)
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now => Ok(()),
            Self::At(ms) => write!(f, " at {}", duration(*ms)),
            Self::Within(ms) => write!(f, " within {}", duration(*ms)),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.number, self.unit)
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) if !super::parse::is_plain_metric(name) => {
                write!(f, "metric({})", quoted(name))
            }
            metric => f.write_str(metric.name()),
        }
    }
}

impl fmt::Display for RuleAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Activate(count, _) => write!(f, "activate {count}")?,
            Self::Warm(count, _) => write!(f, "warm {count}")?,
            Self::Prepare(count, _) => write!(f, "prepare {count}")?,
            Self::Hold(_) => f.write_str("hold")?,
            Self::Alert(text) => write!(f, "alert {}", quoted(text))?,
        }
        self.service().map_or(Ok(()), |of| write!(f, " of {of}"))
    }
}

/// A text in quotes, as the grammar reads it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
