//! Configuration text to checked values, with errors that point into the file.
//!
//! [`load`] reads a YAML, TOML or JSON file, all of one schema, and gives a [`Config`] that holds
//! no nonsense, or [`Errors`] that name everything wrong with the file at once.

mod check;
mod checked;
mod diagnostic;
mod expand;
mod faults;
pub mod file;
mod raw;
mod reader;
mod tree;
mod units;

use std::io::ErrorKind;
use std::path::Path;

use raw::{RawConfig, Read as _};
use reader::{Problem, Reader};

use checked::Events;
pub use checked::*;
pub use diagnostic::{Diagnostic, Errors};

/// What a configuration is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `.yaml` and `.yml`.
    Yaml,
    /// `.toml`.
    Toml,
    /// `.json`.
    Json,
}

impl Format {
    /// The format that a file's extension stands for.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "yaml" | "yml" => Some(Self::Yaml),
            "toml" => Some(Self::Toml),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// Looks up an environment variable.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The text of a configuration file, as it was read once.
#[derive(Clone, Debug)]
pub struct Source {
    name: String,
    format: Format,
    text: String,
}

impl Source {
    /// Reads the regular file at `path`, of which no more than may be parsed comes into memory; its
    /// extension says its format. Blocks for as long as the file system does, but on no pipe.
    ///
    /// # Errors
    ///
    /// That it cannot be read.
    pub fn read(path: &Path) -> Result<Self, Errors> {
        let name = path.display().to_string();
        let whole = |problem: Problem| Errors::new(vec![problem.about(&name)], 0);
        let format = Format::of(path).ok_or_else(|| {
            whole(Problem::new("another extension", ".yaml, .yml, .toml or .json"))
        })?;
        let text = read_text(path).map_err(|error| {
            let found = match error.kind() {
                ErrorKind::NotFound => "no file at this path".to_owned(),
                _ => format!("a file that cannot be read ({error})"),
            };
            whole(Problem::new(found, "a configuration in UTF-8"))
        })?;
        Ok(Self { name, format, text })
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Checks the text. `${VAR}` in its values is taken from the environment of the process; the
    /// token file and calendars that it names are read.
    ///
    /// # Errors
    ///
    /// Everything wrong with it.
    pub fn parse(&self) -> Result<Config, Errors> {
        parse(&self.text, self.format, &self.name, &|name| std::env::var(name).ok())
    }
}

/// Reads and checks the file at `path`: [`Source::read`], then [`Source::parse`].
///
/// # Errors
///
/// Everything wrong with the file, or that it cannot be read.
pub fn load(path: &Path) -> Result<Config, Errors> {
    Source::read(path)?.parse()
}

/// At most one byte more than may be read, so that a huge file costs no memory.
fn read_text(path: &Path) -> std::io::Result<String> {
    let limit = tree::max_text_bytes() + 1;
    let bytes = file::read(path, limit)?;
    if bytes.len() as u64 == limit {
        // Too long to be read anyway; the cut may have hit the middle of a character.
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    String::from_utf8(bytes).map_err(|error| std::io::Error::other(error.utf8_error()))
}

/// Reads and checks `text`; `name` stands for the file in errors, and `env` answers `${VAR}`.
///
/// # Errors
///
/// Everything wrong with the text.
pub fn parse(text: &str, format: Format, name: &str, env: Env) -> Result<Config, Errors> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader::new(text, name, env);
    let config = match tree::read(text, format) {
        Ok(root) => {
            RawConfig::read(&root, &mut reader).and_then(|raw| check::config(raw, &mut reader))
        }
        Err(faults) => {
            for fault in faults {
                reader.fault_of_text(fault);
            }
            None
        }
    };
    reader.finish(config)
}

/// The events of a text of calendars (RFC 5545), those without a lift of their own with `lift`, and
/// those that cannot be followed.
///
/// # Errors
/// That the text has not the form of a calendar, with the line.
pub fn calendar(text: &str, lift: f64) -> Result<(Vec<RecurringEvent>, Vec<LeftOut>), String> {
    checked::of_calendar(text, lift).map(|Events { events, left_out }| (events, left_out))
}

/// The JSON Schema of the configuration, the same for all formats.
#[must_use]
pub fn json_schema() -> serde_json::Value {
    schemars::SchemaGenerator::default().into_root_schema_for::<RawConfig>().to_value()
}

impl Config {
    /// The configuration with every default, as YAML that [`parse`] reads as an equal value.
    ///
    /// A token that was written in the file is shown as `***`, which [`parse`] refuses, so that a
    /// printed configuration never runs with a token that others know.
    ///
    /// # Errors
    ///
    /// When a value has no form in YAML.
    pub fn to_yaml(&self) -> Result<String, PrintError> {
        yaml(self)
    }
}

/// Why a configuration cannot be printed.
#[derive(Debug, thiserror::Error)]
#[error("the configuration cannot be written as YAML ({reason}); please report this")]
pub struct PrintError {
    reason: String,
}

fn yaml(value: &impl serde::Serialize) -> Result<String, PrintError> {
    let yaml =
        serde_saphyr::to_string(value).map_err(|error| PrintError { reason: error.to_string() })?;
    // A dollar sign can only stand in texts, and means the same in all ways to quote one.
    Ok(expand::escape(&yaml))
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_has_no_form_in_yaml_is_an_error() {
        struct Formless;
        impl serde::Serialize for Formless {
            fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(serde::ser::Error::custom("no form"))
            }
        }
        assert_eq!(super::yaml(&["a$b"]).unwrap(), "- a$$b\n");
        let error = super::yaml(&Formless).unwrap_err().to_string();
        assert!(error.contains("no form") && error.contains("report"), "{error}");
    }
}
