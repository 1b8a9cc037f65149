//! What is wrong with the text of a rule, and where.

use std::fmt;
use std::ops::Range;

use serde::Serialize;

/// Longest part of a rule that is repeated in a message, in characters.
const MAX_FOUND: usize = 40;

/// The first thing wrong with the text of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleError {
    /// The text.
    pub text: String,
    /// The bytes of it that are meant; empty at its end.
    pub at: Range<usize>,
    /// Where that begins, in characters from 1.
    pub column: usize,
    /// What was read.
    pub found: String,
    /// What should stand there.
    pub expected: String,
    /// The valid name that is nearest to the one that was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<String>,
    /// What to do, where that is not plain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl std::error::Error for RuleError {}

/// One line that says everything; [`RuleError::excerpt`] shows the place.
impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { column, found, expected, .. } = self;
        write!(f, "column {column}: found {found}, expected {expected}")?;
        if let Some(nearest) = &self.nearest {
            write!(f, "; did you mean {nearest:?}?")?;
        }
        self.help.as_ref().map_or(Ok(()), |help| write!(f, " ({help})"))
    }
}

impl RuleError {
    /// The text with a mark below what is meant, on two lines.
    #[must_use]
    pub fn excerpt(&self) -> String {
        let line = self.text.replace(char::is_control, " ");
        let width = self.text.get(self.at.clone()).map_or(1, |part| part.chars().count().max(1));
        format!("{line}\n{}{}", " ".repeat(self.column - 1), "^".repeat(width))
    }
}

/// A fault on its way out of the parser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) at: Range<usize>,
    /// What was read, where that is not the text at the place.
    pub(super) found: Option<String>,
    pub(super) expected: String,
    pub(super) nearest: Option<String>,
    pub(super) help: Option<String>,
}

impl Fault {
    pub(super) fn new(at: Range<usize>, expected: impl Into<String>) -> Self {
        Self { at, found: None, expected: expected.into(), nearest: None, help: None }
    }

    pub(super) fn found(mut self, found: impl Into<String>) -> Self {
        self.found = Some(found.into());
        self
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds the name among `names` that `found` was most likely meant to be.
    pub(super) fn nearest(mut self, found: &str, names: &[impl AsRef<str>]) -> Self {
        self.nearest = nearest(found, names);
        self
    }

    pub(super) fn in_text(self, text: &str) -> RuleError {
        let start = self.at.start.min(text.len());
        let before = text.get(..start).unwrap_or(text);
        let read = text.get(self.at.clone()).unwrap_or_default();
        let found = self.found.unwrap_or_else(|| match read {
            "" => "the end".to_owned(),
            read => quote(read),
        });
        RuleError {
            column: before.chars().count() + 1,
            text: text.to_owned(),
            at: self.at,
            found,
            expected: self.expected,
            nearest: self.nearest,
            help: self.help,
        }
    }
}

/// The name among `names` that is few slips away from `found`, if one is.
pub(super) fn nearest(found: &str, names: &[impl AsRef<str>]) -> Option<String> {
    let lower = found.to_lowercase();
    let limit = (lower.chars().count() / 3).clamp(1, 2);
    names
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&lower, &name.as_ref().to_lowercase()), name))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name.as_ref().to_owned())
}

fn quote(text: &str) -> String {
    let shown: String = text.chars().take(MAX_FOUND).collect();
    let dots = if shown.len() < text.len() { "..." } else { "" };
    format!("{:?}", shown + dots)
}
