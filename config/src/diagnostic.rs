//! What is wrong with a configuration, and where.

use std::fmt;

use serde::Serialize;

/// One thing wrong with a configuration.
///
/// `Display` prints it like a compiler does: place, path, what was found and expected, then the
/// source line with a mark below.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The file's name as it was given.
    pub file: String,
    /// Line, from 1; 0 when the error is not in one place.
    pub line: usize,
    /// Column in characters, from 1; 0 when `line` is.
    pub column: usize,
    /// Where in the configuration, such as `services.shop.pool.max`; empty for the whole file.
    pub path: String,
    /// What was read.
    pub found: String,
    /// What should stand there.
    pub expected: String,
    /// The valid name that is nearest to the one that was read.
    pub nearest: Option<String>,
    /// What to do, where that is not plain.
    pub help: Option<String>,
    /// The source line; absent where it might show a secret.
    pub excerpt: Option<String>,
    /// How many characters of the line are meant, at least 1.
    pub width: usize,
    /// How many errors like it follow that are not listed.
    pub more: usize,
    /// Whether what was read came out of a variable.
    #[serde(skip)]
    pub(crate) filled: bool,
}

impl Diagnostic {
    /// The message without place and source line.
    #[must_use]
    pub fn message(&self) -> String {
        let mut text = String::new();
        if !self.path.is_empty() {
            text.push_str(&self.path);
            text.push_str(": ");
        }
        text.push_str(&format!("found {}, expected {}", self.found, self.expected));
        if let Some(nearest) = &self.nearest {
            text.push_str(&format!("; did you mean {nearest:?}?"));
        }
        text
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", self.message())?;
        if let Some(excerpt) = &self.excerpt {
            let number = self.line.to_string();
            // A tab stays a tab in the line of the mark, so that the mark stands where it should.
            let before = excerpt.chars().take(self.column.saturating_sub(1));
            let pad: String = before.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            write!(f, "\n{number:>5} | {excerpt}\n      | {pad}{}", "^".repeat(self.width.max(1)))?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n      = help: {help}")?;
        }
        if self.more > 0 {
            write!(f, "\n      = and {} more like this", self.more)?;
        }
        Ok(())
    }
}

/// Everything wrong with a configuration, in the order of the file; never empty. Of many errors of
/// one kind the first are listed, and of many kinds the first; the others are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors {
    diagnostics: Vec<Diagnostic>,
    omitted: usize,
}

impl Errors {
    /// `diagnostics`, in the order of the file and not empty, and how many of other kinds are not
    /// among them.
    pub(crate) fn new(diagnostics: Vec<Diagnostic>, omitted: usize) -> Self {
        Self { diagnostics, omitted }
    }

    /// The errors for those who may not know what stands in the environment: of values that came
    /// out of `${VAR}` it is left out what was read.
    #[must_use]
    pub fn masked(mut self) -> Self {
        for diagnostic in self.diagnostics.iter_mut().filter(|diagnostic| diagnostic.filled) {
            diagnostic.found = "another value (with ${...} filled in)".to_owned();
            diagnostic.nearest = None;
        }
        self
    }

    /// The errors that are listed, in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.diagnostics.iter()
    }

    /// How many are listed.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.diagnostics.len()
    }
}

impl<'a> IntoIterator for &'a Errors {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.diagnostics.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            diagnostic.fmt(f)?;
        }
        match self.omitted {
            0 => Ok(()),
            1 => f.write_str("\nand 1 more error of another kind"),
            omitted => write!(f, "\nand {omitted} more errors of other kinds"),
        }
    }
}

impl std::error::Error for Errors {}
