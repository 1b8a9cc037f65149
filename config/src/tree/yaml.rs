//! YAML to a tree: events of the parser, folded with bounds on depth and size.

use std::collections::HashMap;

use granit_parser::{Event, Options, Parser, ScalarStyle, Span as YamlSpan, Tag};

use super::{Entry, Fault, MAX_DEPTH, MAX_NODES, Node, Span, Value, integer};

/// A list or table that is still open.
struct Open {
    node: Node,
    anchor: usize,
    key: Option<(String, Span)>,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    /// Finished nodes with an anchor, and how many values each holds.
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    root: Option<Node>,
}

pub(super) fn read(text: &str) -> Result<Node, Fault> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    options.flow_nesting_limit = 2 * MAX_DEPTH;
    options.block_nesting_limit = 2 * MAX_DEPTH;
    let mut builder = Builder::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| {
            let at = error.marker().byte_offset().unwrap_or(0).min(text.len());
            syntax(at..at, &error.info())
        })?;
        builder.take(event, bytes(&span, text))?;
    }
    Ok(builder.root.unwrap_or(Node { span: 0..0, value: Value::Null }))
}

fn syntax(span: Span, message: &str) -> Fault {
    let mut fault = Fault::syntax(span, "YAML", message);
    if message.contains("unknown anchor") {
        fault.help = Some("a value that begins with * needs quotes, as in \"*:8080\"".to_owned());
    } else if message.contains("flow") {
        fault.help = Some("inside {} or [], a value with ${...} or {port} needs quotes".to_owned());
    }
    fault
}

fn bytes(span: &YamlSpan, text: &str) -> Span {
    let range = span.byte_range().unwrap_or(0..0);
    let end = range.end.min(text.len());
    range.start.min(end)..end
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Fault> {
        match event {
            Event::DocumentStart(..) if self.root.is_some() => {
                Err(Fault::new(span, "a second document", "one document"))
            }
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar(&text, style, tag.as_deref(), &span)?;
                self.count(1, &span)?;
                self.finish(Node { span, value }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                refuse(tag.as_deref(), &span)?;
                self.begin(Value::List(Vec::new()), anchor, span)
            }
            Event::MappingStart(_, anchor, tag) => {
                refuse(tag.as_deref(), &span)?;
                self.begin(Value::Table(Vec::new()), anchor, span)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open { mut node, anchor, .. }) => {
                    node.span.end = span.end.max(node.span.start);
                    self.finish(node, anchor)
                }
                None => Ok(()),
            },
            Event::Alias(anchor) => self.alias(anchor, span),
            _ => Ok(()),
        }
    }

    fn begin(&mut self, value: Value, anchor: usize, span: Span) -> Result<(), Fault> {
        self.count(1, &span)?;
        if self.open.len() >= MAX_DEPTH {
            return Err(Fault::too_deep(span));
        }
        if let Some(open) = self.open.last()
            && matches!(open.node.value, Value::Table(_))
            && open.key.is_none()
        {
            return Err(Fault::new(span, "a list or table as a key", "a name"));
        }
        self.open.push(Open { node: Node { span, value }, anchor, key: None });
        Ok(())
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), Fault> {
        let Some((node, nodes)) = self.anchors.get(&anchor) else {
            return Err(Fault::new(span, "an alias of a value it is part of", "no cycle"));
        };
        let nodes = *nodes;
        if self.nodes + nodes > MAX_NODES {
            return Err(Fault::too_many(span));
        }
        let node = node.clone();
        if self.open.len() + depth(&node) > MAX_DEPTH {
            return Err(Fault::too_deep(span));
        }
        self.nodes += nodes;
        self.finish(node, 0)
    }

    fn count(&mut self, nodes: usize, span: &Span) -> Result<(), Fault> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES { Err(Fault::too_many(span.clone())) } else { Ok(()) }
    }

    /// Puts a finished node where it belongs: a list, a table's key or value, or the root.
    fn finish(&mut self, node: Node, anchor: usize) -> Result<(), Fault> {
        if anchor != 0 {
            let nodes = size(&node);
            // The copy kept for aliases counts too, so that nested anchors stay bounded.
            self.count(nodes, &node.span)?;
            self.anchors.insert(anchor, (node.clone(), nodes));
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open { node: Node { value: Value::List(items), .. }, .. }) => items.push(node),
            Some(Open { node: Node { value: Value::Table(entries), .. }, key, .. }) => {
                match key.take() {
                    None => *key = Some((key_text(&node)?, node.span)),
                    Some((key, key_span)) => entries.push(Entry { key, key_span, value: node }),
                }
            }
            Some(_) => {}
        }
        Ok(())
    }
}

fn key_text(node: &Node) -> Result<String, Fault> {
    match &node.value {
        Value::Text(text) => Ok(text.clone()),
        Value::Integer(integer) => Ok(integer.to_string()),
        Value::Bool(bool) => Ok(bool.to_string()),
        Value::Float(float) => Ok(float.to_string()),
        _ => Err(Fault::new(node.span.clone(), "a key that is no text", "a name")),
    }
}

fn size(node: &Node) -> usize {
    1 + match &node.value {
        Value::List(items) => items.iter().map(size).sum(),
        Value::Table(entries) => entries.iter().map(|entry| size(&entry.value)).sum(),
        _ => 0,
    }
}

fn depth(node: &Node) -> usize {
    match &node.value {
        Value::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Table(entries) => 1 + entries.iter().map(|e| depth(&e.value)).max().unwrap_or(0),
        _ => 0,
    }
}

fn refuse(tag: Option<&Tag>, span: &Span) -> Result<(), Fault> {
    match tag {
        Some(tag) => Err(Fault::new(span.clone(), format!("the tag {}", tag.original()), "no tag")),
        None => Ok(()),
    }
}

/// A scalar by the core schema of YAML 1.2: `yes` and `on` are texts.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>, span: &Span) -> Result<Value, Fault> {
    if tag.is_some_and(|tag| tag.core_suffix() == Some("str")) || style != ScalarStyle::Plain {
        return Ok(Value::Text(text.to_owned()));
    }
    refuse(tag, span)?;
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => integer(text),
        _ if is_float(digits) => text.parse().map_or(Value::Text(text.to_owned()), Value::Float),
        _ => Value::Text(text.to_owned()),
    })
}

/// Whether a text without sign looks like `1.5`, `.5` or `1e3`; not `inf`, which Rust would read.
fn is_float(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && text.bytes().any(|b| b.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b))
}
