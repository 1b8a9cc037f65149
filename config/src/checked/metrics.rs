//! Where metrics of instances come from.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};
use thiserror::Error;

use crate::units;

/// What instances say of themselves.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Metrics {
    /// What was not renewed for this long is known no more.
    #[serde(serialize_with = "units::duration::serialize")]
    pub max_age: Duration,
    /// What becomes of load reports in answers.
    pub load_reports: LoadReports,
    /// How instances are asked for their metrics; absent: they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scrape: Option<Scrape>,
}

/// What becomes of load reports in answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LoadReports {
    /// They are read, and no client sees them.
    Take,
    /// They are read and passed on.
    Forward,
    /// They are passed on unread.
    Ignore,
}

/// How instances are asked for their metrics.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scrape {
    /// Path and query, with its leading slash.
    pub path: String,
    /// Port that metrics are served on; absent: the instance's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// From one time to the next.
    #[serde(serialize_with = "units::duration::serialize")]
    pub interval: Duration,
    /// Longest wait for the whole answer; at most the interval.
    #[serde(serialize_with = "units::duration::serialize")]
    pub timeout: Duration,
    /// Which series is which metric, by the metric's name; 1 to 32, each a name of a metric.
    pub series: BTreeMap<String, ScrapedSeries>,
}

/// What a metric is made of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScrapedSeries {
    /// The series that are summed.
    pub series: SeriesSelector,
    /// Whether the metric is by how much their sum grows per second.
    pub rate: bool,
    /// What it is multiplied by, above 0.
    pub scale: f64,
}

/// Which series of a Prometheus endpoint are meant: by name, and by labels that they must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesSelector {
    /// Name of the series.
    pub name: String,
    /// Labels and their values.
    pub labels: Vec<(String, String)>,
}

/// A text that names no series.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "not the name of a series; write one such as queue_length or queue_length{{queue=\"mail\"}}"
)]
pub struct SelectorError;

impl SeriesSelector {
    /// Whether series `name` with `labels` is meant.
    #[must_use]
    pub fn selects(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.name == name
            && self.labels.iter().all(|(label, value)| {
                // Prometheus takes a label that is not there for an empty one.
                let own = labels.iter().find(|(own, _)| own == label).map_or("", |(_, own)| own);
                own == value
            })
    }
}

impl FromStr for SeriesSelector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let (name, mut rest) = match text.split_once('{') {
            Some((name, rest)) => (name, rest.strip_suffix('}').ok_or(SelectorError)?),
            None => (text, ""),
        };
        if !is_series_name(name, true) {
            return Err(SelectorError);
        }
        let mut labels = Vec::new();
        while !rest.trim().is_empty() {
            let (label, after) = rest.split_once('=').ok_or(SelectorError)?;
            let label = label.trim();
            let (value, after) = quoted(after.trim_start()).ok_or(SelectorError)?;
            if !is_series_name(label, false) {
                return Err(SelectorError);
            }
            labels.push((label.to_owned(), value));
            rest = after.trim_start();
            if !rest.is_empty() {
                rest = rest.strip_prefix(',').ok_or(SelectorError)?;
            }
        }
        Ok(Self { name: name.to_owned(), labels })
    }
}

/// Letters, digits and `_`, not beginning with a digit; of series also `:`.
fn is_series_name(name: &str, colon: bool) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || colon && c == ':')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || colon && b == b':')
}

/// The text in quotes that `text` begins with, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let inner = text.strip_prefix('"')?;
    let mut value = String::new();
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &inner[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                escaped @ ('"' | '\\') => escaped,
                _ => return None,
            }),
            c => value.push(c),
        }
    }
    None
}

impl fmt::Display for SeriesSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for (nth, (label, value)) in self.labels.iter().enumerate() {
            let sign = if nth == 0 { '{' } else { ',' };
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            write!(f, "{sign}{label}=\"{value}\"")?;
        }
        if self.labels.is_empty() { Ok(()) } else { f.write_str("}") }
    }
}

impl Serialize for SeriesSelector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_read_and_written_alike() {
        for text in [
            "queue_length",
            "node:load:mean",
            "a{b=\"c\"}",
            "a{b=\"c\",d=\"with \\\"quotes\\\", a comma, } and \\\\\"}",
        ] {
            let selector: SeriesSelector = text.parse().unwrap();
            assert_eq!(selector.to_string(), text);
        }
        let spaced: SeriesSelector = "a{ b = \"c\" , d=\"e\", }".parse().unwrap();
        assert_eq!(spaced.to_string(), "a{b=\"c\",d=\"e\"}");
    }

    #[test]
    fn what_names_no_series_is_refused() {
        for text in [
            "",
            "1a",
            "a b",
            "a{",
            "a}",
            "a{b}",
            "a{b=c}",
            "a{b=\"c}",
            "a{b=~\"c\"}",
            "sum(a)",
            "a{b=\"\\x\"}",
        ] {
            assert_eq!(text.parse::<SeriesSelector>(), Err(SelectorError), "{text}");
        }
    }

    #[test]
    fn labels_that_are_not_named_may_be_anything() {
        let selector: SeriesSelector = "a{b=\"c\",d=\"\"}".parse().unwrap();
        assert!(selector.selects("a", &[("x", "y"), ("b", "c")]));
        assert!(!selector.selects("a", &[("b", "c"), ("d", "e")]));
        assert!(!selector.selects("a", &[]));
        assert!(!selector.selects("b", &[("b", "c")]));
    }
}
