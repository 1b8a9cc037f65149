//! `foreshadow schema`: the configuration's schema, for editors as JSON Schema, for people as text.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use serde_json::{Map, Value};

/// Arguments of `foreshadow schema`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print a reference of all settings in Markdown in place of the JSON Schema.
    #[arg(long)]
    markdown: bool,
}

/// Prints the schema.
///
/// # Errors
/// When standard output cannot be written.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let schema = foreshadow_config::json_schema();
    let text =
        if args.markdown { markdown(&schema) } else { serde_json::to_string_pretty(&schema)? };
    writeln!(crate::out::stdout(), "{}", text.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

/// Every table of the schema in the order in which a reader meets it, from the root down.
fn markdown(schema: &Value) -> String {
    let empty = Map::new();
    let tables = schema["$defs"].as_object().unwrap_or(&empty);
    let mut text = String::from(PREAMBLE);
    table(&mut text, "The file", schema);
    let mut done: Vec<&str> = Vec::new();
    let mut queue = references(schema);
    while !queue.is_empty() {
        let name = queue.remove(0);
        if done.contains(&name) {
            continue;
        }
        done.push(name);
        if let Some(definition) = tables.get(name) {
            table(&mut text, name, definition);
            queue.splice(0..0, references(definition));
        }
    }
    text
}

const PREAMBLE: &str = "\
# Configuration

One file in YAML, TOML or JSON, by its extension; the schema is the same. This page is what
`foreshadow schema --markdown` prints. `foreshadow check --print FILE` shows a file with all defaults
filled in. The directory `config/examples` has files to begin with.

- Durations have a unit: `50ms`, `1.5s`, `2m`, `1h30m`, `7d`.
- Shares are percentages, `75%`, or fractions, `0.75`.
- Sizes have a unit: `64KiB`, `10MB`. Rates are per second: `400rps`.
- `${NAME}` takes a value from the environment, `${NAME:-default}` with a default, and `$$` is a
  dollar sign. Inside `{}` and `[]` of YAML such a value needs quotes.
";

fn table(text: &mut String, name: &str, definition: &Value) {
    let required: Vec<&str> =
        definition["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let about = definition["description"].as_str().unwrap_or_default();
    // Writing to a string cannot fail.
    write!(text, "\n## {name}\n\n{about}\n\n| setting | what |\n| --- | --- |\n").ok();
    for (setting, value) in definition["properties"].as_object().into_iter().flatten() {
        let mut what = value["description"].as_str().unwrap_or_default().replace('|', "\\|");
        if required.contains(&setting.as_str()) {
            what.push_str(" **Required.**");
        }
        let see: Vec<String> = references(value)
            .into_iter()
            .map(|name| format!("[{name}](#{})", name.to_lowercase()))
            .collect();
        if !see.is_empty() {
            write!(what, " See {}.", see.join(", ")).ok();
        }
        writeln!(text, "| `{setting}` | {what} |").ok();
    }
}

/// Names of the tables a part of the schema refers to, in order, each once.
fn references(part: &Value) -> Vec<&str> {
    let mut found = Vec::new();
    collect(part, &mut found);
    found
}

fn collect<'a>(part: &'a Value, found: &mut Vec<&'a str>) {
    match part {
        Value::Object(fields) => {
            let own = fields.get("$ref").and_then(Value::as_str);
            let name = own.and_then(|r| r.strip_prefix("#/$defs/"));
            // A value of any form is no table with settings.
            if let Some(name) = name.filter(|n| *n != "AnyValue" && !found.contains(n)) {
                found.push(name);
            }
            fields.iter().filter(|(key, _)| *key != "$defs").for_each(|(_, v)| collect(v, found));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        _ => {}
    }
}
