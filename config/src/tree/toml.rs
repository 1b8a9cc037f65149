//! TOML to a tree.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Entry, Fault, MAX_DEPTH, MAX_NODES, Node, Span, Value};

pub(super) fn read(text: &str) -> Result<Node, Vec<Fault>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let fault = |error: &toml::de::Error| {
            let span = error.span().unwrap_or(0..0);
            Fault::syntax(clip(span, text), "TOML", error.message().trim())
        };
        return Err(errors.iter().map(fault).collect());
    }
    let mut reader = Reader { text, nodes: 0 };
    let span = table.span();
    let value = reader.table(table.into_inner(), 1).map_err(|fault| vec![fault])?;
    Ok(Node { span: clip(span, text), value })
}

/// The span within the text and on character borders.
fn clip(span: Span, text: &str) -> Span {
    let end = text.floor_char_boundary(span.end);
    text.floor_char_boundary(span.start.min(end))..end
}

struct Reader<'a> {
    text: &'a str,
    nodes: usize,
}

impl Reader<'_> {
    fn table(&mut self, table: DeTable<'_>, depth: usize) -> Result<Value, Fault> {
        let mut entries = Vec::with_capacity(table.len());
        for (key, value) in table {
            let key_span = clip(key.span(), self.text);
            let value = self.node(value, depth)?;
            entries.push(Entry { key: key.into_inner().into_owned(), key_span, value });
        }
        // The parser sorts by key; errors and lists of names should follow the file.
        entries.sort_by_key(|entry| entry.key_span.start);
        Ok(Value::Table(entries))
    }

    fn node(&mut self, value: Spanned<DeValue<'_>>, depth: usize) -> Result<Node, Fault> {
        let span = clip(value.span(), self.text);
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(Fault::too_many(span));
        }
        if depth > MAX_DEPTH {
            return Err(Fault::too_deep(span));
        }
        let value = match value.into_inner() {
            DeValue::String(text) => Value::Text(text.into_owned()),
            DeValue::Integer(number) => {
                match i64::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => Value::Integer(number),
                    Err(_) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
                }
            }
            DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(bool) => Value::Bool(bool),
            DeValue::Datetime(_) => Value::Other("a date"),
            DeValue::Array(items) => {
                let items: Result<_, _> =
                    items.into_iter().map(|item| self.node(item, depth + 1)).collect();
                Value::List(items?)
            }
            DeValue::Table(table) => self.table(table, depth + 1)?,
        };
        Ok(Node { span, value })
    }
}
