//! A configuration text as a tree that knows where each part stands, whatever its format.

mod json;
mod toml;
mod yaml;

use std::ops::Range;

use crate::Format;

/// Longest text that is read, in bytes.
const MAX_TEXT_BYTES: usize = 1 << 20;
/// Deepest nesting; the schema needs 8.
const MAX_DEPTH: usize = 32;
/// Most values, counted after aliases are filled in.
const MAX_NODES: usize = 50_000;

/// Bytes of the text.
pub(crate) type Span = Range<usize>;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) value: Value,
}

/// What the three formats have in common.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    /// A value of a kind that the schema has no use for, with its name.
    Other(&'static str),
    List(Vec<Node>),
    /// In the order of the text; keys may repeat.
    Table(Vec<Entry>),
}

/// A key of a table and its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Span,
    pub(crate) value: Node,
}

/// Something that keeps a text from becoming a tree.
#[derive(Debug)]
pub(crate) struct Fault {
    /// Absent when the whole text is meant.
    pub(crate) span: Option<Span>,
    pub(crate) found: String,
    pub(crate) expected: String,
    pub(crate) help: Option<String>,
}

impl Fault {
    fn new(span: Span, found: impl Into<String>, expected: impl Into<String>) -> Self {
        let (found, expected) = (found.into(), expected.into());
        Self { span: Some(span), found, expected, help: None }
    }

    fn syntax(span: Span, format: &str, message: &str) -> Self {
        Self::new(span, format!("a syntax error ({message})"), format!("valid {format}"))
    }

    fn too_deep(span: Span) -> Self {
        Self::new(span, "a value nested too deeply", format!("at most {MAX_DEPTH} levels"))
    }

    fn too_many(span: Span) -> Self {
        Self::new(span, "too many values", format!("at most {MAX_NODES}, with aliases filled in"))
    }
}

/// Reads `text` as a tree, or says why it is none.
pub(crate) fn read(text: &str, format: Format) -> Result<Node, Vec<Fault>> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(vec![Fault {
            span: None,
            found: format!("a text of {} bytes", text.len()),
            expected: format!("at most {}", crate::units::size::format(MAX_TEXT_BYTES as u64)),
            help: None,
        }]);
    }
    match format {
        Format::Yaml => yaml::read(text).map_err(|fault| vec![fault]),
        Format::Toml => toml::read(text),
        Format::Json => json::read(text).map_err(|fault| vec![fault]),
    }
}

/// The size limit, for readers that want to stop before they hold the whole text.
pub(crate) fn max_text_bytes() -> u64 {
    MAX_TEXT_BYTES as u64
}

/// An integer where it fits, else the nearest float.
fn integer(text: &str) -> Value {
    match text.parse::<i64>() {
        Ok(integer) => Value::Integer(integer),
        Err(_) => Value::Float(text.parse().unwrap_or(f64::NAN)),
    }
}
