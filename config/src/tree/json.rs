//! JSON to a tree.
//!
//! The syntax is checked by `serde_json`, which also bounds the nesting; what follows only finds
//! the places of values in a text that is known to be sound.

use serde::de::IgnoredAny;

use super::{Entry, Fault, MAX_DEPTH, MAX_NODES, Node, Span, Value, integer};

pub(super) fn read(text: &str) -> Result<Node, Fault> {
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        let at = offset(text, error.line(), error.column());
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or(&message);
        return Err(Fault::syntax(at..at, "JSON", message));
    }
    Walker { text, at: 0, nodes: 0 }.node(1)
}

/// Byte offset of a line and column, both from 1, of which the column counts bytes.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let lines = text.split_inclusive('\n');
    let before: usize = lines.take(line.saturating_sub(1)).map(str::len).sum();
    text.floor_char_boundary((before + column.saturating_sub(1)).min(text.len()))
}

struct Walker<'a> {
    text: &'a str,
    at: usize,
    nodes: usize,
}

impl Walker<'_> {
    /// The next byte that is no white space; 0 at the end.
    fn peek(&mut self) -> u8 {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        bytes.get(self.at).copied().unwrap_or(0)
    }

    /// Steps over `byte` if it comes next.
    fn skip(&mut self, byte: u8) -> bool {
        let found = self.peek() == byte;
        self.at += usize::from(found);
        found
    }

    fn node(&mut self, depth: usize) -> Result<Node, Fault> {
        let first = self.peek();
        let start = self.at;
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(Fault::too_many(start..start));
        }
        if depth > MAX_DEPTH {
            return Err(Fault::too_deep(start..start));
        }
        let value = match first {
            b'{' => self.table(depth)?,
            b'[' => self.list(depth)?,
            b'"' => Value::Text(self.string()?.0),
            _ => self.word(),
        };
        Ok(Node { span: start..self.at, value })
    }

    fn table(&mut self, depth: usize) -> Result<Value, Fault> {
        let mut entries = Vec::new();
        self.at += 1;
        while self.peek() == b'"' {
            let (key, key_span) = self.string()?;
            self.skip(b':');
            let value = self.node(depth + 1)?;
            entries.push(Entry { key, key_span, value });
            self.skip(b',');
        }
        self.skip(b'}');
        Ok(Value::Table(entries))
    }

    fn list(&mut self, depth: usize) -> Result<Value, Fault> {
        let mut items = Vec::new();
        self.at += 1;
        while !matches!(self.peek(), b']' | 0) {
            items.push(self.node(depth + 1)?);
            self.skip(b',');
        }
        self.skip(b']');
        Ok(Value::List(items))
    }

    fn string(&mut self) -> Result<(String, Span), Fault> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        self.at += 1;
        while let Some(byte) = bytes.get(self.at) {
            match byte {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at = (self.at + 1).min(self.text.len());
        let span = start..self.at;
        let text = self.text.get(span.clone()).unwrap_or_default();
        match serde_json::from_str(text) {
            Ok(text) => Ok((text, span)),
            Err(error) => Err(Fault::syntax(span, "JSON", &error.to_string())),
        }
    }

    fn word(&mut self) -> Value {
        let start = self.at;
        let rest = self.text.get(start..).unwrap_or_default();
        let length = rest.find(|c: char| c.is_whitespace() || ",]}".contains(c));
        self.at += length.unwrap_or(rest.len()).max(1);
        match self.text.get(start..self.at).unwrap_or_default() {
            "null" => Value::Null,
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            word if word.contains(['.', 'e', 'E']) => {
                Value::Float(word.parse().unwrap_or(f64::NAN))
            }
            word => integer(word),
        }
    }
}
