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
        Ok(())
    }
}

/// Everything wrong with a configuration, in the order of the file; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors {
    diagnostics: Vec<Diagnostic>,
}

impl Errors {
    /// Sorts by place. `diagnostics` is not empty.
    pub(crate) fn new(mut diagnostics: Vec<Diagnostic>) -> Self {
        diagnostics.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
        Self { diagnostics }
    }

    /// The errors in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.diagnostics.iter()
    }

    /// How many there are.
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
        Ok(())
    }
}

impl std::error::Error for Errors {}
