//! Walks the tree and collects everything that is wrong with it.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::rc::Rc;

use crate::checked::{Origins, may_hold_secret};
use crate::expand::{Expanded, expand};
use crate::faults::Faults;
use crate::tree::{Entry, Fault, Node, Span, Value};
use crate::{Diagnostic, Env, Errors};

/// Longest source line that is shown, in characters.
const MAX_EXCERPT: usize = 160;
/// Longest value that is repeated in a message, in characters.
const MAX_FOUND: usize = 60;

/// Where something stands: in the text and in the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) span: Span,
    pub(crate) path: Rc<str>,
}

/// A value that was read, and where.
#[derive(Clone, Debug)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) place: Place,
}

/// What became of a key of a table.
#[derive(Clone, Debug, Default)]
pub(crate) enum Field<T> {
    /// The table does not have it.
    #[default]
    Absent,
    /// It was wrong, and that was reported.
    Invalid,
    /// It was read.
    Given(At<T>),
}

impl<T> Field<T> {
    pub(crate) fn given(self) -> Option<At<T>> {
        match self {
            Self::Given(at) => Some(at),
            Self::Absent | Self::Invalid => None,
        }
    }

    pub(crate) fn value(self) -> Option<T> {
        self.given().map(|at| at.value)
    }

    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

/// What was found and what was expected instead.
#[derive(Debug, Default)]
pub(crate) struct Problem {
    pub(crate) found: String,
    pub(crate) expected: String,
    pub(crate) nearest: Option<String>,
    pub(crate) help: Option<String>,
}

impl Problem {
    pub(crate) fn new(found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { found: found.into(), expected: expected.into(), nearest: None, help: None }
    }

    /// The error of a file as a whole.
    pub(crate) fn about(self, file: &str) -> Diagnostic {
        Diagnostic {
            file: file.to_owned(),
            line: 0,
            column: 0,
            path: String::new(),
            found: self.found,
            expected: self.expected,
            nearest: self.nearest,
            help: self.help,
            excerpt: None,
            width: 1,
            more: 0,
            filled: false,
        }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds the name among `names` that `found` was most likely meant to be.
    pub(crate) fn nearest<'a>(
        mut self,
        found: &str,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let found = found.to_lowercase();
        let limit = (found.chars().count() / 3).max(1);
        self.nearest = names
            .into_iter()
            .map(|name| (strsim::damerau_levenshtein(&found, &name.to_lowercase()), name))
            .filter(|(distance, _)| *distance <= limit)
            .min_by_key(|(distance, _)| *distance)
            .map(|(_, name)| name.to_owned());
        self
    }
}

/// A single value after `${VAR}` was filled in.
#[derive(Debug)]
pub(crate) enum Scalar<'a> {
    Bool(bool),
    Integer(i64),
    Float(f64),
    /// The flag says whether a variable was filled in: such a text may stand for a number.
    Text(Cow<'a, str>, bool),
}

/// Reads one text and keeps what is wrong with it.
pub(crate) struct Reader<'a> {
    text: &'a str,
    file: &'a str,
    env: Env<'a>,
    /// The path of what is being read, and what stands for it in the text: its key, or itself.
    path: String,
    lead: Span,
    faults: Faults,
    origins: Origins,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a str, file: &'a str, env: Env<'a>) -> Self {
        let (faults, origins) = (Faults::default(), Origins::default());
        Self { text, file, env, path: String::new(), lead: 0..0, faults, origins }
    }

    /// The value if nothing was wrong.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, Errors> {
        match value {
            Some(value) if self.faults.is_empty() => Ok(value),
            _ => Err(self.faults.into_errors()),
        }
    }

    /// Which values came out of variables.
    pub(crate) fn take_origins(&mut self) -> Origins {
        std::mem::take(&mut self.origins)
    }

    pub(crate) fn env(&self, name: &str) -> Option<String> {
        (self.env)(name)
    }

    /// The place of the value being read, at `span`.
    pub(crate) fn place(&self, span: &Span) -> Place {
        Place { span: span.clone(), path: Rc::from(self.path.as_str()) }
    }

    /// What stands for the table being read, for what is missing in it.
    pub(crate) fn lead(&self) -> Place {
        self.place(&self.lead)
    }

    /// Runs `read` one key or list item (`[0]`) deeper; `lead` stands for it in the text.
    pub(crate) fn below<T>(
        &mut self,
        key: &str,
        lead: &Span,
        read: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let length = self.path.len();
        let outer = std::mem::replace(&mut self.lead, lead.clone());
        if length > 0 && !key.starts_with('[') {
            self.path.push('.');
        }
        self.path.push_str(key);
        let value = read(self);
        self.path.truncate(length);
        self.lead = outer;
        value
    }

    /// Reports what is wrong at `span` of the value being read.
    pub(crate) fn fault(&mut self, span: &Span, problem: Problem) {
        let place = self.place(span);
        self.report(&place, problem);
    }

    /// Reports what is wrong with a value that was read before.
    pub(crate) fn report(&mut self, place: &Place, problem: Problem) {
        let (text, file) = (self.text, self.file);
        let filled = self.origins.has(&place.path);
        self.faults.add(place, problem, |problem| {
            let (line, column, excerpt, width) = locate(text, &place.span);
            Diagnostic {
                path: place.path.to_string(),
                line,
                column,
                excerpt,
                width,
                filled,
                ..problem.about(file)
            }
        });
    }

    /// Reports what keeps the text from being read.
    pub(crate) fn fault_of_text(&mut self, fault: Fault) {
        let mut problem = Problem::new(fault.found, fault.expected);
        problem.help = fault.help;
        match fault.span {
            Some(span) => self.fault(&span, problem),
            None => self.faults.add_whole(problem.about(self.file)),
        }
    }

    /// Where a part of the text that stands at `span` is written. Quotes, line breaks and the blanks
    /// that YAML folds are passed over; nothing when the text is written with escapes.
    pub(crate) fn span_within(&self, span: &Span, text: &str, part: &Span) -> Option<Span> {
        let solid = |(_, c): &(usize, char)| !c.is_whitespace();
        let read: Vec<(usize, char)> = text.char_indices().filter(solid).collect();
        let first = read.first()?.1;
        let source = self.text.get(span.clone())?;
        let written = source.char_indices().filter(solid).skip_while(|(_, c)| *c != first);
        let both: Vec<_> = read.into_iter().zip(written).collect();
        if both.iter().any(|((_, read), (_, written))| read != written) {
            return None;
        }
        let end_of = |(_, (at, c)): &((usize, char), (usize, char))| at + c.len_utf8();
        let last = both.last().map(end_of)?;
        let start = both.iter().find(|((at, _), _)| *at >= part.start);
        let start = start.map_or(last, |(_, (at, _))| *at);
        let end = both.iter().rev().find(|((at, _), _)| *at < part.end).map_or(start, end_of);
        Some(span.start + start..span.start + end.max(start))
    }

    /// The line of a place, for messages about another place.
    pub(crate) fn line(&self, place: &Place) -> usize {
        locate(self.text, &place.span).0
    }

    /// The node as a single value, or nothing after a report.
    pub(crate) fn scalar<'n>(&mut self, node: &'n Node, form: &str) -> Option<Scalar<'n>> {
        match &node.value {
            Value::Bool(bool) => Some(Scalar::Bool(*bool)),
            Value::Integer(integer) => Some(Scalar::Integer(*integer)),
            Value::Float(float) => Some(Scalar::Float(*float)),
            Value::Text(text) => match expand(text, self.env) {
                Expanded::Unchanged => Some(Scalar::Text(Cow::Borrowed(text), false)),
                Expanded::Text { text, written } => {
                    let filled = written.is_some();
                    if let Some(written) = written {
                        self.origins.note(&self.path, written, &text);
                    }
                    Some(Scalar::Text(Cow::Owned(text), filled))
                }
                Expanded::Unset(name) => {
                    let problem = Problem::new(
                        format!("${{{name}}}, which is not set"),
                        "a variable of the environment",
                    );
                    let help = format!("set {name}, or give a default: ${{{name}:-...}}");
                    self.fault(&node.span, problem.help(help));
                    None
                }
                Expanded::Malformed(part) => {
                    let problem = Problem::new(format!("{part:?}"), "${NAME} or ${NAME:-default}");
                    self.fault(&node.span, problem.help("write $$ for a dollar sign"));
                    None
                }
            },
            Value::Null | Value::Other(_) | Value::List(_) | Value::Table(_) => {
                self.wrong(node, form);
                None
            }
        }
    }

    /// Reports that `node` is not what was expected.
    pub(crate) fn wrong(&mut self, node: &Node, form: &str) {
        self.fault(&node.span, Problem::new(describe(node), form));
    }

    /// The entries of a table, each key once, or nothing after a report.
    pub(crate) fn entries<'n>(&mut self, node: &'n Node, form: &str) -> Option<Vec<&'n Entry>> {
        let Value::Table(entries) = &node.value else {
            self.wrong(node, form);
            return None;
        };
        let mut first: std::collections::HashMap<&str, &Entry> = std::collections::HashMap::new();
        let mut kept = Vec::with_capacity(entries.len());
        for entry in entries {
            match first.get(entry.key.as_str()) {
                None => {
                    first.insert(&entry.key, entry);
                    kept.push(entry);
                }
                Some(earlier) => {
                    let line = locate(self.text, &earlier.key_span).0;
                    let found = format!("the key {} again", quote(&entry.key));
                    let expected = format!("each key once; it is also on line {line}");
                    self.below(&entry.key, &entry.key_span, |r| {
                        r.fault(&entry.key_span, Problem::new(found, expected));
                    });
                }
            }
        }
        Some(kept)
    }
}

/// A text in quotes, cut where it is long.
pub(crate) fn quote(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_FOUND).collect();
    if shown.len() < text.len() {
        shown.push_str("...");
    }
    format!("{shown:?}")
}

/// A value as it is named in messages.
pub(crate) fn describe(node: &Node) -> String {
    match &node.value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(bool) => bool.to_string(),
        Value::Integer(integer) => integer.to_string(),
        Value::Float(float) => float.to_string(),
        Value::Text(text) => quote(text),
        Value::Other(name) => (*name).to_owned(),
        Value::List(_) => "a list".to_owned(),
        Value::Table(_) => "a table".to_owned(),
    }
}

impl Scalar<'_> {
    /// The value as it is named in messages.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Bool(bool) => bool.to_string(),
            Self::Integer(integer) => integer.to_string(),
            Self::Float(float) => float.to_string(),
            Self::Text(text, filled) => {
                let mut shown = quote(text);
                if *filled {
                    // Writing to a string cannot fail.
                    shown.write_str(" (with ${...} filled in)").unwrap_or_default();
                }
                shown
            }
        }
    }
}

/// Line and column from 1, the line to show, and the width of the mark below it.
fn locate(text: &str, span: &Span) -> (usize, usize, Option<String>, usize) {
    let before = text.get(..span.start).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = text.get(line_start..span.start).unwrap_or_default().chars().count() + 1;
    let rest = text.get(line_start..).unwrap_or_default();
    let shown = rest.lines().next().unwrap_or_default();
    let line_end = line_start + shown.len();
    let marked = text.get(span.start..span.end.min(line_end)).unwrap_or_default().trim_end();
    let width = marked.chars().count().max(1);
    let secret = may_hold_secret(shown);
    let excerpt = (!secret && shown.chars().count() <= MAX_EXCERPT).then(|| shown.to_owned());
    (line, column, excerpt, width)
}
