//! How tables, lists and maps are read, and the macro that declares a table.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::reader::{At, Field, Problem, Reader, describe, quote};
use crate::tree::{Entry, Node, Value};

/// A kind of value that can stand in a configuration.
pub(crate) trait Read: Sized + JsonSchema {
    /// What it looks like, for messages.
    fn form() -> String;

    /// The value, or nothing after its errors were reported.
    fn read(node: &Node, r: &mut Reader<'_>) -> Option<Self>;
}

/// Reads the value of a key.
pub(super) fn field<T: Read>(entry: &Entry, r: &mut Reader<'_>) -> Field<T> {
    r.below(&entry.key, &entry.key_span, |r| {
        let span = match entry.value.value {
            Value::Table(_) | Value::List(_) => &entry.key_span,
            _ => &entry.value.span,
        };
        match T::read(&entry.value, r) {
            Some(value) => Field::Given(At { value, place: r.place(span) }),
            None => Field::Invalid,
        }
    })
}

/// A field's name as a key: a raw identifier is a key that Rust reserves.
pub(super) fn key(field: &'static str) -> &'static str {
    field.strip_prefix("r#").unwrap_or(field)
}

/// Keys that mean something to other versions.
const NOT_YET: [&str; 4] = ["tls", "vm", "coordinator", "affinity"];

/// Keys under which others know what has another name here.
const OTHERWISE: [(&str, &str); 3] = [
    ("uid", "write user, which takes a name or a number"),
    ("gid", "write group, which takes a name or a number"),
    ("memory_limit", "write limits: { memory: 512MiB }"),
];

/// What went wrong with the keys of a table.
#[derive(Debug)]
pub(crate) struct Keys {
    valid: Vec<&'static str>,
    /// The valid keys that unknown ones were most likely meant to be.
    meant: Vec<String>,
    unknown: bool,
}

impl Keys {
    pub(super) fn new(fields: &[&'static str]) -> Self {
        let valid = fields.iter().map(|field| key(field)).collect();
        Self { valid, meant: Vec::new(), unknown: false }
    }

    /// Reports a key that the table does not have.
    pub(super) fn unknown(&mut self, entry: &Entry, r: &mut Reader<'_>) {
        let expected = match self.valid[..] {
            [key] => key.to_owned(),
            _ => format!("one of {}", self.valid.join(", ")),
        };
        let found = format!("unknown key {}", quote(&entry.key));
        let mut problem = Problem::new(found, expected);
        if NOT_YET.contains(&entry.key.as_str()) {
            problem = problem.help(format!("{} is not available in this version", entry.key));
        } else if let Some((_, help)) = OTHERWISE.iter().find(|(key, _)| *key == entry.key) {
            problem = problem.help(*help);
        } else {
            problem = problem.nearest(&entry.key, self.valid.iter().copied());
        }
        self.unknown = true;
        self.meant.extend(problem.nearest.clone());
        r.below(&entry.key, &entry.key_span, |r| r.fault(&entry.key_span, problem));
    }

    /// Whether a key was reported.
    pub(super) fn saw_unknown(&self) -> bool {
        self.unknown
    }

    /// Reports a key that must be there, unless a report about an unknown key says so already.
    pub(super) fn missing(&self, field: &'static str, form: String, r: &mut Reader<'_>) {
        let key = key(field);
        let is_only_key = self.valid.len() == 1;
        if self.unknown && is_only_key || self.meant.iter().any(|meant| meant == key) {
            return;
        }
        let place = r.lead();
        r.report(&place, Problem::new(format!("no {key:?}"), form));
    }

    /// What the table looks like, for messages.
    pub(super) fn form(&self) -> String {
        format!("a table with {}", self.valid.join(", "))
    }
}

/// Declares a table of the schema: each key with its description and kind; `= required` marks
/// keys that must be there.
macro_rules! table {
    (
        $(#[doc = $doc:literal])*
        $table:ident {
            $($(#[doc = $text:literal])* $field:ident: $kind:ty $(= $required:ident)?,)*
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug, Default)]
        pub(crate) struct $table {
            $($(#[doc = $text])* pub(crate) $field: $crate::reader::Field<$kind>,)*
        }

        impl $crate::raw::read::Read for $table {
            fn form() -> String {
                "a table".to_owned()
            }

            fn read(
                node: &$crate::tree::Node,
                r: &mut $crate::reader::Reader<'_>,
            ) -> Option<Self> {
                let mut keys = $crate::raw::read::Keys::new(&[$(stringify!($field)),*]);
                let entries = r.entries(node, &keys.form())?;
                let mut table = Self::default();
                for entry in entries {
                    $(if entry.key == $crate::raw::read::key(stringify!($field)) {
                        table.$field = $crate::raw::read::field(entry, r);
                        continue;
                    })*
                    keys.unknown(entry, r);
                }
                $($(
                    let $required = table.$field.is_absent();
                    if $required {
                        let form = <$kind as $crate::raw::read::Read>::form();
                        keys.missing(stringify!($field), form, r);
                    }
                )?)*
                Some(table)
            }
        }

        impl schemars::JsonSchema for $table {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($table).trim_start_matches("Raw").into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let mut properties = serde_json::Map::new();
                $(
                    let schema = generator.subschema_for::<$kind>();
                    let text: &[&str] = &[$($text),*];
                    $crate::raw::read::property(
                        &mut properties, stringify!($field), schema, text,
                    );
                )*
                let required: &[&str] = &[
                    $($(stringify!($required $field).trim_start_matches("required "),)?)*
                ];
                let text: &[&str] = &[$($doc),*];
                $crate::raw::read::object(properties, required, text)
            }
        }
    };
}
pub(super) use table;

/// Adds the schema of a key with its description.
pub(super) fn property(
    properties: &mut serde_json::Map<String, serde_json::Value>,
    field: &'static str,
    mut schema: Schema,
    text: &[&str],
) {
    schema.insert("description".to_owned(), join(text).into());
    properties.insert(key(field).to_owned(), schema.to_value());
}

/// The schema of a table.
pub(super) fn object(
    properties: serde_json::Map<String, serde_json::Value>,
    required: &[&'static str],
    text: &[&str],
) -> Schema {
    let required: Vec<_> = required.iter().map(|field| key(field)).collect();
    json_schema!({
        "type": "object",
        "description": join(text),
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn join(text: &[&str]) -> String {
    text.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

/// A list; items that are wrong were reported and are left out.
#[derive(Debug)]
pub(crate) struct List<T>(pub(crate) Vec<At<T>>);

impl<T: Read> Read for List<T> {
    fn form() -> String {
        format!("a list, each item {}", T::form())
    }

    fn read(node: &Node, r: &mut Reader<'_>) -> Option<Self> {
        let Value::List(items) = &node.value else {
            r.wrong(node, &Self::form());
            return None;
        };
        let mut list = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            r.below(&format!("[{index}]"), &item.span, |r| {
                if let Some(value) = T::read(item, r) {
                    list.push(At { value, place: r.place(&item.span) });
                }
            });
        }
        // A list that lost all its items must not be taken for an empty one.
        (items.is_empty() || !list.is_empty()).then_some(Self(list))
    }
}

impl<T: JsonSchema> JsonSchema for List<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("ListOf{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "items": generator.subschema_for::<T>() })
    }
}

/// A table whose keys the user chooses; values that are wrong keep their key.
#[derive(Debug)]
pub(crate) struct Map<T>(pub(crate) Vec<(At<String>, Field<T>)>);

impl<T: Read> Read for Map<T> {
    fn form() -> String {
        format!("a table of names, each with {}", T::form())
    }

    fn read(node: &Node, r: &mut Reader<'_>) -> Option<Self> {
        let entries = r.entries(node, &Self::form())?;
        let read = |entry: &Entry| {
            let place = r.below(&entry.key, &entry.key_span, |r| r.place(&entry.key_span));
            (At { value: entry.key.clone(), place }, field(entry, r))
        };
        Some(Self(entries.into_iter().map(read).collect()))
    }
}

impl<T: JsonSchema> JsonSchema for Map<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("MapOf{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let values = generator.subschema_for::<T>();
        json_schema!({ "type": "object", "additionalProperties": values })
    }
}

/// Either a single value or a table, told apart by their form.
#[derive(Debug)]
pub(crate) enum Either<S, T> {
    Short(S),
    Table(Box<T>),
}

impl<S: Read, T: Read> Read for Either<S, T> {
    fn form() -> String {
        format!("{}, or {}", S::form(), T::form())
    }

    fn read(node: &Node, r: &mut Reader<'_>) -> Option<Self> {
        match node.value {
            Value::Table(_) => T::read(node, r).map(|table| Self::Table(Box::new(table))),
            Value::List(_) | Value::Null | Value::Other(_) => {
                r.fault(&node.span, Problem::new(describe(node), Self::form()));
                None
            }
            _ => S::read(node, r).map(Self::Short),
        }
    }
}

impl<S: JsonSchema, T: JsonSchema> JsonSchema for Either<S, T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("{}Or{}", S::schema_name(), T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (short, table) = (generator.subschema_for::<S>(), generator.subschema_for::<T>());
        json_schema!({ "anyOf": [short, table] })
    }
}
